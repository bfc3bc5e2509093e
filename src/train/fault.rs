//! Faults for tests, for nothing else; right after the update of a step, on one rank, as `GLASSES_FAULT` says:
//!
//! - `flip rank=1 step=7 param=conv0.weight`: one bit of its weights is another, as on a machine that computes wrong;
//! - `panic rank=1 step=7`: the program finds a bug in itself;
//! - `exit rank=1 step=7`: the process ends as if all were well.

use crate::error::{Error, Result};
use crate::model::Params;

const VARIABLE: &str = "GLASSES_FAULT";

/// What is to go wrong, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    kind: Kind,
    rank: usize,
    step: usize,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    /// In the parameter of this name.
    Flip(String),
    Panic,
    Exit,
}

impl Fault {
    /// What the environment asks for.
    ///
    /// # Errors
    /// When it cannot be understood.
    pub fn from_environment() -> Result<Option<Fault>> {
        let Ok(text) = std::env::var(VARIABLE) else {
            return Ok(None);
        };
        let parsed = parse(&text);
        parsed.map(Some).ok_or_else(|| {
            Error::invalid(
                VARIABLE,
                format!("'{text}'"),
                "'flip rank=R step=N param=NAME', 'panic rank=R step=N' or 'exit rank=R step=N'",
                "unset it: it is for tests",
            )
        })
    }

    /// Whether there is such a rank and such a parameter.
    ///
    /// # Errors
    /// When there is not.
    pub fn check(&self, ranks: usize, params: &Params) -> Result<()> {
        let known = |name: &String| params.table.iter().any(|param| param.name == *name);
        let missing = match &self.kind {
            Kind::Flip(name) if !known(name) => Some(name),
            _ => None,
        };
        if self.rank < ranks && missing.is_none() {
            return Ok(());
        }
        let names: Vec<&str> = params.table.iter().map(|param| param.name.as_str()).collect();
        let found =
            format!("rank {}{}", self.rank, missing.map_or(String::new(), |name| format!(" and parameter '{name}'")));
        let expected = format!("a rank below {ranks}, a parameter of {}", names.join(", "));
        Err(Error::invalid(VARIABLE, found, expected, "unset it: it is for tests"))
    }

    /// Does it, where and when it is due.
    pub fn strike(&self, rank: usize, step: usize, params: &mut Params) {
        if (rank, step) != (self.rank, self.step) {
            return;
        }
        match &self.kind {
            Kind::Flip(name) => {
                if let Some(param) = params.table.iter().find(|param| param.name == *name) {
                    let value = &mut params.values[param.range.start];
                    *value = f32::from_bits(value.to_bits() ^ 1);
                }
            }
            Kind::Panic => panic!("{VARIABLE} asked for it"),
            Kind::Exit => signal_hook::low_level::exit(0),
        }
    }
}

fn parse(text: &str) -> Option<Fault> {
    let (mut rank, mut step, mut param) = (0, 0, None);
    let mut words = text.split_whitespace();
    let kind = words.next()?;
    for word in words {
        match word.split_once('=')? {
            ("rank", number) => rank = number.parse().ok()?,
            ("step", number) => step = number.parse().ok()?,
            ("param", name) => param = Some(name.to_owned()),
            _ => return None,
        }
    }
    let kind = match (kind, param) {
        ("flip", Some(name)) => Kind::Flip(name),
        ("panic", None) => Kind::Panic,
        ("exit", None) => Kind::Exit,
        _ => return None,
    };
    (step > 0).then_some(Fault { kind, rank, step })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_read_and_nonsense_is_not() {
        let fault = parse("flip rank=1 step=7 param=conv0.weight").unwrap();
        assert_eq!(fault, Fault { kind: Kind::Flip("conv0.weight".to_owned()), rank: 1, step: 7 });
        assert_eq!(parse("exit step=2").unwrap(), Fault { kind: Kind::Exit, rank: 0, step: 2 });
        for bad in [
            "",
            "flip",
            "panic",
            "flip rank=1",
            "exit step=1 param=a",
            "burn rank=1 step=1 param=a",
            "flip rank=x step=1 param=a",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
