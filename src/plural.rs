//! Counted things in words: "1 rank", "2 ranks".

/// A count and what is counted, in the singular.
pub fn plural(count: usize, noun: &str) -> String {
    let ending = match noun {
        _ if count == 1 => "",
        _ if noun.ends_with("epoch") => "s",
        _ if ["s", "x", "ch", "sh"].iter().any(|end| noun.ends_with(end)) => "es",
        _ => "s",
    };
    format!("{count} {noun}{ending}")
}

#[cfg(test)]
mod tests {
    use super::plural;

    #[test]
    fn one_is_singular_and_none_is_not() {
        let said = [0, 1, 2].map(|count| plural(count, "rank"));
        assert_eq!(said, ["0 ranks", "1 rank", "2 ranks"]);
        assert_eq!([plural(1, "class"), plural(3, "class")], ["1 class", "3 classes"]);
        assert_eq!([plural(2, "training row"), plural(2, "epoch")], ["2 training rows", "2 epochs"]);
    }
}
