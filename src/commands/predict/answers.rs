//! What `glasses predict` says of a picture, and how it is printed.

use std::io::{IsTerminal, Write};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, nearest, printable, printable_name};
use crate::report;
use crate::say;

/// The prediction for one picture.
#[derive(Debug, Serialize, Deserialize)]
pub struct Prediction {
    pub file: String,
    /// `None` where no class reaches the threshold.
    pub class: Option<String>,
    pub probability: f32,
    /// Of all classes, where they are printed: they may be many.
    pub probabilities: Vec<f32>,
    /// The most probable classes, where they were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top: Vec<Share>,
}

/// A class and its probability.
#[derive(Debug, Serialize, Deserialize)]
pub struct Share {
    pub class: String,
    pub probability: f32,
}

/// A picture's prediction, or why there is none.
pub type Outcome = std::result::Result<Prediction, String>;

/// What stands for the class where none is probable enough.
const UNSURE: &str = "?";

/// How probable a class has to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Threshold {
    /// Whichever is the most probable, by itself.
    Any(f32),
    /// This class: it is predicted from this probability on, whatever the others have; else the best of the others.
    Of(String, f32),
}

impl FromStr for Threshold {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (class, number) = text.rsplit_once('=').map_or((None, text), |(class, number)| (Some(class), number));
        let number: Option<f32> = number.parse().ok().filter(|p| (0.0..=1.0).contains(p));
        let number = number.ok_or("expected a probability from 0 to 1, as in 0.9, or one of a class: glasses=0.3")?;
        Ok(class.map_or(Threshold::Any(number), |class| Threshold::Of(class.to_owned(), number)))
    }
}

/// What is said of each picture, and how it is printed.
#[derive(Clone, Debug, clap::Args)]
pub struct AnswerOptions {
    /// Also list the K most probable classes of each picture
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u16).range(1..))]
    pub top: Option<u16>,
    /// Predict a class only from this probability on, else '?'; or, for one class: predict it from there on, else another
    #[arg(long, value_name = "P|CLASS=P")]
    pub threshold: Option<Threshold>,
    /// A JSON array of {file, class, probability, probabilities, and with --top: top}
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// CSV: file, class, probability, one column a class, and with --top two more a rank
    #[arg(long)]
    pub csv: bool,
}

/// How classes are chosen and listed.
#[derive(Debug)]
pub struct Choice {
    top: usize,
    threshold: Option<Threshold>,
    classes: Vec<String>,
    /// Whether all probabilities are kept.
    keeps: bool,
}

impl Choice {
    /// As the options say, for a model of these classes.
    ///
    /// # Errors
    /// When `--threshold` names another class.
    pub fn new(options: &AnswerOptions, classes: &[String]) -> Result<Choice> {
        if let Some(Threshold::Of(class, _)) = &options.threshold
            && !classes.contains(class)
        {
            let near = nearest(class, classes.iter().map(String::as_str));
            return Err(Error::invalid(
                "--threshold",
                format!("class '{class}'"),
                format!("one of the model's: {}", classes.join(", ")),
                near.map_or("name one of them".to_owned(), |near| format!("did you mean '{near}'?")),
            ));
        }
        Ok(Choice {
            top: usize::from(options.top.unwrap_or(0)).min(classes.len()),
            threshold: options.threshold.clone(),
            classes: classes.to_vec(),
            keeps: options.json || options.csv,
        })
    }

    /// The predicted class of a picture with these probabilities, `best` being the largest.
    pub fn prediction(&self, file: String, probabilities: &[f32], best: usize) -> Prediction {
        let mut order: Vec<usize> = (0..probabilities.len()).collect();
        // Stable: of equals the first class wins, as it does for `best`.
        order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
        let class = match &self.threshold {
            None => Some(best),
            Some(Threshold::Any(least)) => Some(best).filter(|&best| probabilities[best] >= *least),
            Some(Threshold::Of(class, least)) => {
                let named = self.classes.iter().position(|known| known == class);
                named
                    .filter(|&named| probabilities[named] >= *least)
                    .or(order.iter().copied().find(|&c| Some(c) != named))
            }
        };
        let share = |&class: &usize| Share { class: self.classes[class].clone(), probability: probabilities[class] };
        Prediction {
            file,
            class: class.map(|class| self.classes[class].clone()),
            probability: probabilities[class.unwrap_or(best)],
            probabilities: if self.keeps { probabilities.to_vec() } else { Vec::new() },
            top: order[..self.top].iter().map(share).collect(),
        }
    }
}

/// On the root: in the form that was asked for.
///
/// # Errors
/// Never in practice: what cannot be printed is said at the end.
pub fn print(options: &AnswerOptions, classes: &[String], outcomes: &[Outcome]) -> Result<()> {
    let good: Vec<&Prediction> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).collect();
    if options.json {
        say!("{}", serde_json::to_string_pretty(&good).map_err(|e| Error::io("write", "stdout")(e.into()))?);
    } else if options.csv {
        report::keep(write_csv(classes, options.top.unwrap_or(0).into(), &good).map_err(std::io::Error::from));
    } else {
        print_lines(classes, &good);
    }
    Ok(())
}

fn write_csv(classes: &[String], top: usize, good: &[&Prediction]) -> csv::Result<()> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let ranks = (1..=top.min(classes.len())).flat_map(|rank| [format!("class {rank}"), format!("probability {rank}")]);
    let head = ["file", "class", "probability"].map(str::to_owned).into_iter();
    writer.write_record(head.chain(classes.iter().cloned()).chain(ranks))?;
    for prediction in good {
        let class = prediction.class.clone().unwrap_or_default();
        let numbers = std::iter::once(&prediction.probability).chain(&prediction.probabilities);
        let numbers = numbers.map(ToString::to_string);
        let ranks = prediction.top.iter().flat_map(|share| [share.class.clone(), share.probability.to_string()]);
        writer.write_record([prediction.file.clone(), class].into_iter().chain(numbers).chain(ranks))?;
    }
    let bytes = writer.into_inner().map_err(|e| e.into_error())?;
    let mut stdout = std::io::stdout().lock();
    // Programs get names as they are, a terminal does not.
    let written = match std::str::from_utf8(&bytes) {
        Ok(text) if stdout.is_terminal() => stdout.write_all(printable(text).as_bytes()),
        _ => stdout.write_all(&bytes),
    };
    Ok(written.and_then(|()| stdout.flush())?)
}

fn print_lines(classes: &[String], good: &[&Prediction]) {
    let files: Vec<_> = good.iter().map(|prediction| printable_name(&prediction.file)).collect();
    let width = files.iter().map(|file| file.chars().count()).max().unwrap_or(0);
    let class_width = classes.iter().map(|class| printable_name(class).chars().count()).max().unwrap_or(0);
    let percent = |probability: f32| report::percent(f64::from(probability));
    for (prediction, file) in good.iter().zip(&files) {
        let class = printable_name(prediction.class.as_deref().unwrap_or(UNSURE));
        let share = percent(prediction.probability);
        let top = prediction.top.iter();
        let top = top.map(|s| format!("   {:<class_width$}  {:>8}", printable_name(&s.class), percent(s.probability)));
        say!("{file:<width$}  {class:<class_width$}  {share:>8}{}", top.collect::<String>());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn predicted(threshold: &str, probabilities: &[f32]) -> Option<String> {
        let classes = ["none", "one", "two"].map(str::to_owned).to_vec();
        let choice = Choice { top: 2, threshold: threshold.parse().ok(), classes, keeps: false };
        let best = crate::kernels::argmax(probabilities).unwrap();
        choice.prediction("f".to_owned(), probabilities, best).class
    }

    #[test]
    fn a_class_is_predicted_only_where_it_is_probable_enough() {
        let some = |name: &str| Some(name.to_owned());
        assert_eq!(predicted("", &[0.4, 0.3, 0.3]), some("none"));
        assert_eq!(predicted("0.4", &[0.4, 0.3, 0.3]), some("none"));
        assert_eq!(predicted("0.41", &[0.4, 0.3, 0.3]), None);
        assert_eq!(predicted("two=0.3", &[0.4, 0.3, 0.3]), some("two"), "whatever the others have");
        assert_eq!(predicted("none=0.5", &[0.4, 0.2, 0.4]), some("two"), "the best of the others");
        assert_eq!(predicted("none=0.5", &[0.5, 0.3, 0.2]), some("none"));
        for bad in ["2", "-0.1", "nan", "x", "one=", "one=7"] {
            assert!(bad.parse::<Threshold>().is_err(), "{bad}");
        }
        assert_eq!("a=b=0.5".parse(), Ok(Threshold::Of("a=b".to_owned(), 0.5)));
    }

    #[test]
    fn of_equal_classes_the_first_is_listed_first() {
        let classes = ["a", "b", "c"].map(str::to_owned).to_vec();
        let choice = Choice { top: 3, threshold: None, classes, keeps: true };
        let top = choice.prediction("f".to_owned(), &[0.25, 0.5, 0.25], 1).top;
        assert_eq!(top.iter().map(|share| share.class.as_str()).collect::<Vec<_>>(), ["b", "a", "c"]);
    }
}
