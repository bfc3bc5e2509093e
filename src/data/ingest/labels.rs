//! From label values as written to class numbers. A label is its text: `007` and `7` are two classes.

use std::collections::HashMap;

/// A label value that means: none given. `nan` is what pandas writes.
pub fn is_missing(value: &str) -> bool {
    value.is_empty() || value.eq_ignore_ascii_case("nan")
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
}
