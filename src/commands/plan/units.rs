//! What is typed with a unit.

/// Numbers of ranks.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranks(pub Vec<usize>);

/// A number and what follows it.
fn split(text: &str) -> Option<(f64, String)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number = text[..end].parse().ok().filter(|number: &f64| *number > 0.0 && number.is_finite())?;
    Some((number, text[end..].trim().to_lowercase()))
}

/// Bytes a second: `100Gbit`, `1gbit/s`, `12GB`.
pub fn bandwidth(text: &str) -> Result<f64, String> {
    let scale = |unit: &str| {
        let unit = unit.trim_end_matches("/s");
        let (prefix, base) = match unit.strip_suffix("bit") {
            Some(prefix) => (prefix, 0.125),
            None => (unit.strip_suffix('b')?, 1.0),
        };
        let factor = match prefix {
            "" => 1.0,
            "k" => 1e3,
            "m" => 1e6,
            "g" => 1e9,
            "t" => 1e12,
            _ => return None,
        };
        Some(base * factor)
    };
    let found = split(text).and_then(|(number, unit)| Some(number * scale(&unit)?));
    found.ok_or_else(|| "expected a number with kbit, Mbit, Gbit, MB or GB, as in 100Gbit".to_owned())
}

/// Seconds: `2us`, `0.1ms`.
pub fn latency(text: &str) -> Result<f64, String> {
    let scale = |unit: &str| match unit {
        "ns" => Some(1e-9),
        "us" | "µs" => Some(1e-6),
        "ms" => Some(1e-3),
        "s" => Some(1.0),
        _ => None,
    };
    let found = split(text).and_then(|(number, unit)| Some(number * scale(&unit)?));
    found.ok_or_else(|| "expected a number with ns, us, ms or s, as in 2us".to_owned())
}

/// More than none, and maybe a part of one.
pub fn cores(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| *number > 0.0 && *number <= 65536.0);
    number.ok_or_else(|| "expected a number above 0 (0.5: two ranks share a core)".to_owned())
}

/// `1,2,8`, or `1..64` for 1, 2, 4, … 64.
pub fn ranks(text: &str) -> Result<Ranks, String> {
    let one = |text: &str| text.trim().parse().ok().filter(|ranks| (1..=1 << 16).contains(ranks));
    let found = match text.split_once("..") {
        Some((first, last)) => one(first).zip(one(last)).filter(|(first, last)| first <= last).map(|(first, last)| {
            let doubled = std::iter::successors(Some(first), |ranks: &usize| Some(2 * ranks));
            doubled.take_while(|&ranks| ranks < last).chain([last]).collect()
        }),
        None => text.split(',').map(one).collect(),
    };
    found.map(Ranks).ok_or_else(|| "expected ranks from 1 to 65536: a list (1,2,8), or 1..64 (doubling)".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_understood_and_nonsense_is_not() {
        assert_eq!(bandwidth("100Gbit"), Ok(12.5e9));
        assert_eq!(bandwidth("1gbit/s"), Ok(1.25e8));
        assert_eq!(bandwidth("12GB"), Ok(12e9));
        assert_eq!(latency("2us"), Ok(2e-6));
        assert_eq!(latency("0.5ms"), Ok(5e-4));
        for bad in ["", "Gbit", "5", "5 parsecs", "-1Gbit"] {
            assert!(bandwidth(bad).is_err() && latency(bad).is_err(), "{bad}");
        }
        assert_eq!(ranks("1..8"), Ok(Ranks(vec![1, 2, 4, 8])));
        assert_eq!(ranks("3..10"), Ok(Ranks(vec![3, 6, 10])));
        assert_eq!(ranks("1,5"), Ok(Ranks(vec![1, 5])));
        assert!(ranks("8..1").is_err() && ranks("0").is_err() && ranks("x").is_err());
    }
}
