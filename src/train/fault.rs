//! Faults for tests: `GLASSES_FAULT="flip rank=1 step=7 param=conv0.weight"` flips one bit in one rank's memory, right after
//! the update of that step. For nothing else: it is how a test shows that a machine which computes wrong is found.

use crate::error::{Error, Result};
use crate::model::Params;

const VARIABLE: &str = "GLASSES_FAULT";

/// What is to go wrong.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fault {
    rank: usize,
    step: usize,
    param: String,
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
                "'flip rank=R step=N param=NAME'",
                "unset it: it is for tests",
            )
        })
    }

    /// Whether there is such a rank and such a parameter.
    ///
    /// # Errors
    /// When there is not.
    pub fn check(&self, ranks: usize, params: &Params) -> Result<()> {
        if self.rank < ranks && params.table.iter().any(|param| param.name == self.param) {
            return Ok(());
        }
        let names: Vec<&str> = params.table.iter().map(|param| param.name.as_str()).collect();
        let found = format!("rank {} and parameter '{}'", self.rank, self.param);
        let expected = format!("a rank below {ranks} and one of {}", names.join(", "));
        Err(Error::invalid(VARIABLE, found, expected, "unset it: it is for tests"))
    }

    /// Does it, where and when it is due.
    pub fn strike(&self, rank: usize, step: usize, params: &mut Params) {
        let param = params.table.iter().find(|param| param.name == self.param);
        if let Some(start) = param.map(|param| param.range.start).filter(|_| (rank, step) == (self.rank, self.step)) {
            let value = &mut params.values[start];
            *value = f32::from_bits(value.to_bits() ^ 1);
        }
    }
}

fn parse(text: &str) -> Option<Fault> {
    let mut fault = Fault::default();
    let mut words = text.split_whitespace();
    if words.next()? != "flip" {
        return None;
    }
    for word in words {
        match word.split_once('=')? {
            ("rank", rank) => fault.rank = rank.parse().ok()?,
            ("step", step) => fault.step = step.parse().ok()?,
            ("param", name) => fault.param = name.to_owned(),
            _ => return None,
        }
    }
    (fault.step > 0 && !fault.param.is_empty()).then_some(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_read_and_nonsense_is_not() {
        let fault = parse("flip rank=1 step=7 param=conv0.weight").unwrap();
        assert_eq!(fault, Fault { rank: 1, step: 7, param: "conv0.weight".to_owned() });
        for bad in ["", "flip", "flip rank=1", "burn rank=1 step=1 param=a", "flip rank=x step=1 param=a"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
