//! Rows to look at: the most confidently misclassified ones, correct ones, and what the network looked at.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::RgbImage;
use maud::{Markup, html};

use crate::model::Method;
use crate::report::percent;
use crate::report::pictures::{explained, picture, png};
use crate::report::subject::{Example, Judged, Subject};

/// Classes whose probability stands under a picture.
const MOST_LISTED: usize = 3;

/// The rows of a run; empty where there are none.
pub fn section(run: &Subject, named: bool) -> Markup {
    let Some(judged) = run.judged.as_ref().filter(|_| !run.examples.is_empty()) else {
        return html! {};
    };
    let of = if named { format!(", {}", run.files.name()) } else { String::new() };
    let (correct, wrong): (Vec<&Example>, Vec<&Example>) = run.examples.iter().partition(|e| e.label == e.predicted);
    let all_wrong =
        judged.labels.iter().enumerate().filter(|(row, label)| judged.predicted(*row) != Some(**label as usize));
    html! {
        section {
            h2 { "Most confidently misclassified" (of) }
            @if wrong.is_empty() { p { "No row of " (judged.split) " is misclassified." } }
            @else {
                p {
                    (wrong.len()) " of the " (all_wrong.count()) " misclassified rows of " (judged.split) ", those with the largest probability of the predicted class first. "
                    (how_to_read(&wrong))
                }
                div.cards { @for example in wrong { (card(judged, example)) } }
            }
        }
        @if !correct.is_empty() {
            section {
                h2 { "Correct" (of) }
                p { "Of each class from the surest to the least sure. " (how_to_read(&correct)) }
                div.cards { @for example in correct { (card(judged, example)) } }
            }
        }
    }
}

/// What the maps show, and what they do not.
fn how_to_read(examples: &[&Example]) -> &'static str {
    match examples.iter().find_map(|example| example.evidence.as_ref()).map(|evidence| evidence.method) {
        Some(Method::Gradient | Method::AveragedGradient) => {
            "Beside each picture: where the evidence for the predicted class comes from, brighter for more (activation times gradient \
             of the last layer of pictures). Each map has a scale of its own, and what speaks against the class is left out."
        }
        Some(Method::Occlusion) => {
            "Beside each picture: how far the evidence for the predicted class falls when a patch there is painted over, brighter for \
             more. Each map has a scale of its own."
        }
        None => "",
    }
}

fn card(judged: &Judged, example: &Example) -> Markup {
    let name = |class: usize| judged.classes[class].as_str();
    let mut classes: Vec<usize> = (0..judged.classes.len()).collect();
    classes.sort_by(|&a, &b| example.probabilities[b].total_cmp(&example.probabilities[a]));
    // The true class is always there.
    let listed = classes.iter().enumerate().filter(|(place, class)| *place < MOST_LISTED || **class == example.label);
    let verdict = if example.label == example.predicted { "right" } else { "wrong" };
    html! {
        div.card {
            @if let Some((shape, pixels)) = &example.picture {
                div.looks {
                    (image(&picture(shape.hwc(), pixels), &format!("row {}, a picture of '{}'", example.row, name(example.label))))
                    @if let Some(evidence) = &example.evidence {
                        (image(&explained(shape.hwc(), pixels, evidence), &format!("what speaks for '{}'", name(example.predicted))))
                    }
                }
            }
            p {
                span class=(verdict) { "predicted " (name(example.predicted)) } @if verdict == "wrong" { ", is " (name(example.label)) }
                " (row " (example.row) ")"
            }
            ul { @for (_, &class) in listed { li { span { (name(class)) } span { (percent(f64::from(example.probabilities[class]))) } } } }
        }
    }
}

fn image(picture: &RgbImage, alt: &str) -> Markup {
    let bytes = png(picture).unwrap_or_default();
    html! {
        img src=(format!("data:image/png;base64,{}", STANDARD.encode(bytes))) alt=(alt)
            width=(picture.width()) height=(picture.height());
    }
}
