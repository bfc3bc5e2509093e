//! From label values as written to class numbers.

use std::collections::BTreeMap;

/// A label value that means: none given. `nan` is what pandas writes.
pub fn is_missing(value: &str) -> bool {
    value.is_empty() || value.eq_ignore_ascii_case("nan")
}

/// A number, where the text is one.
pub fn number(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|value| value.is_finite())
}

/// Class numbers and class names. Where all values are numbers, equal numbers are one class (`1.0` is `1`) and the
/// classes are in numerical order; else in alphabetical order.
pub fn classes_of<'a>(values: impl Iterator<Item = &'a str> + Clone) -> (Vec<usize>, Vec<String>) {
    let numbers: Option<Vec<f64>> = values.clone().map(number).collect();
    match numbers {
        Some(numbers) => {
            // Adding zero turns -0 into 0.
            let numbers: Vec<f64> = numbers.into_iter().map(|value| value + 0.0).collect();
            let mut names = numbers.clone();
            names.sort_by(f64::total_cmp);
            names.dedup();
            let labels = numbers.iter().map(|v| names.partition_point(|n| n < v)).collect();
            (labels, names.iter().map(f64::to_string).collect())
        }
        None => {
            let mut names: BTreeMap<&str, usize> = values.clone().map(|value| (value, 0)).collect();
            names.values_mut().enumerate().for_each(|(i, number)| *number = i);
            let labels = values.map(|value| names[value]).collect();
            (labels, names.into_keys().map(str::to_owned).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(values: &[&str]) -> (Vec<usize>, String) {
        let (labels, names) = classes_of(values.iter().copied());
        (labels, names.join(" "))
    }

    #[test]
    fn numbers_are_compared_as_numbers_and_words_as_words() {
        assert_eq!(classes(&["1.0", "0", "1", "0.0", "-0"]), (vec![1, 0, 1, 0, 0], "0 1".to_owned()));
        assert_eq!(classes(&["10", "9", "0.5"]), (vec![2, 1, 0], "0.5 9 10".to_owned()));
        assert_eq!(classes(&["10", "9", "cat"]), (vec![0, 1, 2], "10 9 cat".to_owned()));
    }
}
