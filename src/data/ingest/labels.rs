//! From label values as written to class numbers. A label is its text: `007` and `7` are two classes.

use std::collections::HashMap;

use super::brief;

/// A label value that means: none given. `nan` is what pandas writes.
pub fn is_missing(value: &str) -> bool {
    value.is_empty() || value.eq_ignore_ascii_case("nan")
}

/// A number, where the text is one.
pub fn number(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|value| value.is_finite())
}

/// Class numbers and class names, in the order of [`in_order`].
pub fn classes_of<'a>(values: impl Iterator<Item = &'a str> + Clone) -> (Vec<usize>, Vec<String>) {
    let names = in_order(values.clone().map(str::to_owned).collect());
    let numbers: HashMap<&str, usize> = names.iter().enumerate().map(|(i, name)| (name.as_str(), i)).collect();
    let labels = values.map(|value| numbers[value]).collect();
    (labels, names)
}

/// Each name once: in numerical order where all are integers, else in that of their characters.
pub fn in_order(mut names: Vec<String>) -> Vec<String> {
    names.sort_unstable();
    names.dedup();
    let numbers: Option<Vec<i128>> = names.iter().map(|name| name.parse().ok()).collect();
    if numbers.is_some() {
        // Stable: two spellings of a number stay in the order of their characters.
        names.sort_by_cached_key(|name| name.parse::<i128>().unwrap_or_default());
    }
    names
}

/// What is said where several classes are one number: `7` and `007`.
pub fn spellings(names: &[String]) -> Option<String> {
    let mut numbers: Vec<(f64, &String)> = names.iter().filter_map(|name| Some((number(name)? + 0.0, name))).collect();
    numbers.sort_by(|a, b| a.0.total_cmp(&b.0));
    let same: Vec<String> = numbers
        .chunk_by(|a, b| a.0 == b.0)
        .find(|same| same.len() > 1)?
        .iter()
        .map(|(_, name)| (*name).clone())
        .collect();
    Some(format!("one number, written differently, makes classes of its own: {}", brief(&same)))
}

/// Words for "no value" that pandas knows, beside those of [`is_missing`].
const MISSING: [&str; 9] = ["na", "n/a", "null", "none", "<na>", "#n/a", "#na", "-nan", "?"];

/// What is said where a class has a name that may mean: no label; or where two differ by their case alone.
pub fn doubtful(names: &[String]) -> Option<String> {
    let missing: Vec<String> =
        names.iter().filter(|name| MISSING.contains(&&name.to_lowercase()[..])).cloned().collect();
    if !missing.is_empty() {
        let fix = "leave these cells empty if they mean that there is no label";
        return Some(format!("taken for names of classes: {}; {fix}", brief(&missing)));
    }
    let mut lower: Vec<(String, &String)> = names.iter().map(|name| (name.to_lowercase(), name)).collect();
    lower.sort();
    let twins = lower.windows(2).find(|pair| pair[0].0 == pair[1].0)?;
    Some(format!("two classes differ by their case alone: '{}' and '{}'", twins[0].1, twins[1].1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(values: &[&str]) -> (Vec<usize>, String) {
        let (labels, names) = classes_of(values.iter().copied());
        (labels, names.join(" "))
    }

    #[test]
    fn a_label_is_its_text_and_integers_are_in_numerical_order() {
        assert_eq!(classes(&["10", "9", "-1", "9"]), (vec![2, 1, 0, 1], "-1 9 10".to_owned()));
        assert_eq!(classes(&["7", "007", "10", "07"]), (vec![2, 0, 3, 1], "007 07 7 10".to_owned()));
        assert_eq!(classes(&["1e2", "100"]), (vec![1, 0], "100 1e2".to_owned()));
        assert_eq!(classes(&["01234", "1233"]), (vec![1, 0], "1233 01234".to_owned()));
        assert_eq!(classes(&["10", "9", "cat"]), (vec![0, 1, 2], "10 9 cat".to_owned()));
    }

    #[test]
    fn two_spellings_of_a_number_are_said() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert!(spellings(&names(&["007", "7", "8"])).unwrap().ends_with("007, 7"));
        assert!(spellings(&names(&["100", "1e2", "cat"])).unwrap().ends_with("100, 1e2"));
        assert_eq!(spellings(&names(&["0", "1", "cat", "nine"])), None);
        assert!(doubtful(&names(&["NA", "a", "none"])).unwrap().contains("NA, none;"));
        assert!(doubtful(&names(&["Cat", "cat", "dog"])).unwrap().ends_with("'Cat' and 'cat'"));
        assert_eq!(doubtful(&names(&["cat", "dog", "nan"])), None);
    }
}
