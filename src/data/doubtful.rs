//! Names of classes that may not mean what they say: one name written differently, names that hide something, words for "none".

use std::collections::BTreeMap;

use unicode_normalization::UnicodeNormalization;

/// So many are named; of the others it is said how many there are.
const NAMED: usize = 10;

/// Words for "no value" that pandas knows, beside those that are taken for it.
const MISSING: [&str; 9] = ["na", "n/a", "null", "none", "<na>", "#n/a", "#na", "-nan", "?"];

/// A number, where the text is one.
pub fn number(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|value| value.is_finite())
}

/// What is to be said of the names of classes, whatever they were read from.
pub fn notes(names: &[String]) -> Vec<String> {
    let mut notes = Vec::new();
    let same = groups(names, |name| Some(name.to_owned()), |_, _| true);
    if !same.is_empty() {
        let said = |group: &Vec<usize>| {
            let all = if group.len() == 2 { "both" } else { "all" };
            let numbers = joined(group.iter().map(ToString::to_string), ", ", " and ");
            format!("classes {numbers} are {all} called '{}'", names[group[0]].escape_debug())
        };
        notes.push(joined(same.iter().map(said), "; ", "; "));
    }
    // As text, so that 7 and 7.0 are one, and so are 0 and -0.
    let numeric = groups(names, |name| Some((number(name)? + 0.0).to_string()), |a, b| a != b);
    if !numeric.is_empty() {
        let said = |group: &Vec<usize>| joined(group.iter().map(|&class| names[class].clone()), ", ", ", ");
        let list = joined(numeric.iter().map(said), "; ", "; ");
        notes.push(format!("one number, written differently, makes classes of its own: {list}"));
    }
    let alike = groups(names, |name| Some(seen(name)), |a, b| a != b);
    notes.extend(twins(
        &alike,
        "look alike (blanks, characters that do not show, or the writing of accents differ)",
        |class| names[class].escape_default().to_string(),
    ));
    let case = groups(names, |name| Some(seen(name).to_lowercase()), |a, b| seen(a) != seen(b) && number(a).is_none());
    notes.extend(twins(&case, "differ by their case alone", |class| names[class].clone()));
    let missing = names.iter().filter(|name| MISSING.contains(&&name.to_lowercase()[..])).cloned();
    if let list @ [_, ..] = &missing.collect::<Vec<_>>()[..] {
        let list = joined(list.iter().cloned(), ", ", ", ");
        let fix = "leave these cells empty if they mean that there is no label";
        notes.push(format!("taken for names of classes: {list}; {fix}"));
    }
    let hiding = names.iter().enumerate().filter(|(_, name)| hides(name));
    let hiding: Vec<String> = hiding.map(|(class, name)| format!("'{}' ({class})", name.escape_debug())).collect();
    if !hiding.is_empty() {
        notes.push(format!(
            "names of classes that are empty, begin or end with a blank, or hold characters that do not show: {}",
            joined(hiding.into_iter(), ", ", ", ")
        ));
    }
    notes
}

/// Classes that have a key in common, in the order of their keys: only groups of several, in which some two are `twins`.
fn groups(
    names: &[String],
    key: impl Fn(&str) -> Option<String>,
    twins: impl Fn(&str, &str) -> bool,
) -> Vec<Vec<usize>> {
    let mut by_key: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (class, name) in names.iter().enumerate() {
        if let Some(key) = key(name) {
            by_key.entry(key).or_default().push(class);
        }
    }
    let is_one = |group: &Vec<usize>| group[1..].iter().any(|&class| twins(&names[group[0]], &names[class]));
    by_key.into_values().filter(is_one).collect()
}

/// What is said of such groups.
fn twins(groups: &[Vec<usize>], how: &str, name: impl Fn(usize) -> String) -> Option<String> {
    let said = |group: &Vec<usize>| joined(group.iter().map(|&class| format!("'{}'", name(class))), ", ", " and ");
    let count = match groups {
        [] => return None,
        [group] if group.len() == 2 => "two classes",
        _ => "classes",
    };
    Some(format!("{count} {how}: {}", joined(groups.iter().map(said), "; ", "; ")))
}

/// The first [`NAMED`] items, the last of them behind `last`, and how many more there are.
fn joined(items: impl ExactSizeIterator<Item = String>, between: &str, last: &str) -> String {
    let more = items.len().saturating_sub(NAMED);
    let mut items: Vec<String> = items.take(NAMED).collect();
    let end = if more > 0 { Some(format!("… and {more} more")) } else { None };
    let end = match end {
        Some(end) => format!("{between}{end}"),
        None if items.len() > 1 => items.pop().map_or(String::new(), |item| format!("{last}{item}")),
        None => String::new(),
    };
    items.join(between) + &end
}

/// What a person sees of a name: accents in one writing, nothing that does not show, blanks as one.
fn seen(name: &str) -> String {
    let shown =
        name.nfkc().map(|c| if c.is_whitespace() { ' ' } else { c }).filter(|&c| !(c.is_control() || is_hidden(c)));
    let shown: String = shown.collect();
    shown.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether there is something about a name that cannot be seen. Joiners and variants of characters belong to scripts and pictures.
fn hides(name: &str) -> bool {
    let hidden =
        |c: char| c.is_control() || is_hidden(c) && !matches!(c, '\u{200c}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}');
    name.trim() != name || name.is_empty() || name.contains(hidden)
}

/// Characters without a width or a glyph: joiners, marks of direction, fillers, variants, tags.
fn is_hidden(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180b}'..='\u{180e}' | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}' | '\u{2028}' | '\u{2029}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{ffa0}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(names: &[&str]) -> String {
        notes(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).join("\n")
    }

    #[test]
    fn plain_names_are_not_remarked_on() {
        assert_eq!(said(&["0", "1", "10", "-1"]), "");
        assert_eq!(said(&["cat", "dog", "nan", "no glasses", "café", "\u{2764}\u{fe0f}", "a b"]), "");
    }

    #[test]
    fn two_spellings_of_a_number_are_noted() {
        assert!(said(&["007", "7", "8"]).ends_with("of its own: 007, 7"));
        assert!(said(&["100", "1e2", "cat", "0", "-0"]).ends_with("of its own: 0, -0; 100, 1e2"));
    }

    #[test]
    fn all_names_that_look_alike_are_noted() {
        assert_eq!(said(&["a", "b", "a"]), "classes 0 and 2 are both called 'a'");
        assert_eq!(
            said(&["a", "b", "a", "b", "b"]),
            "classes 0 and 2 are both called 'a'; classes 1, 3 and 4 are all called 'b'"
        );
        assert!(said(&["Cat", "cat", "dog"]).ends_with("two classes differ by their case alone: 'Cat' and 'cat'"));
        assert!(said(&["Cat", "cat", "dog", "DOG", "Dog"]).ends_with("'Cat' and 'cat'; 'dog', 'DOG' and 'Dog'"));
        let twins = said(&["caf\u{e9}", "cafe\u{301}", "Cafe\u{301}"]);
        let [alike, case] = twins.lines().collect::<Vec<_>>()[..] else { panic!("{twins}") };
        assert!(alike.starts_with("two classes look alike") && alike.ends_with(r"'caf\u{e9}' and 'cafe\u{301}'"));
        assert!(case.starts_with("classes differ by their case alone: "), "{case}");
        for twin in ["cat ", " cat", "c\u{200b}at", "cat\n", "\u{feff}cat", "cat\u{2060}"] {
            let said = said(&["cat", twin]);
            assert!(said.contains("two classes look alike") && said.contains("do not show: '"), "{twin:?}: {said}");
            assert!(said.ends_with("(1)"), "{said}");
        }
        assert!(said(&["a\u{a0}b", "a b"]).contains("look alike"));
    }

    #[test]
    fn ten_are_named_and_the_others_counted() {
        let names: Vec<String> = (0..13).flat_map(|i| [format!("c{i}"), format!("C{i}")]).collect();
        let [note] = &notes(&names)[..] else { panic!("one note") };
        assert_eq!(note.matches(" and ").count(), 11);
        assert!(note.ends_with("; … and 3 more"), "{note}");
        assert!(
            notes(&vec![String::new(); 12])[0]
                .starts_with("classes 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, … and 2 more are all called ''")
        );
    }

    #[test]
    fn words_for_no_label_and_names_that_hide_something_are_noted() {
        assert!(said(&["NA", "a", "none"]).contains("taken for names of classes: NA, none; "));
        assert!(said(&["", "a"]).ends_with("characters that do not show: '' (0)"));
        assert!(said(&["a\tb", "c\r\n"]).ends_with(r"'a\tb' (0), 'c\r\n' (1)"));
    }
}
