//! `batch_norm`

use std::fmt;

use super::normalize::Normalize;
use super::operation::{Operation, Parameter, Site};
use super::words::Words;
use super::work::Work;
use crate::model::params::Initial;
use crate::model::shape::Shape;
use crate::row_count::RowCount;

/// What is added to a variance unless something else is written.
const EPS: f64 = 1e-5;

/// The share of a step in the running statistics unless another one is written.
const MOMENTUM: f64 = 0.1;

/// Each channel less its mean over the rows of a norm group, over the square root of its variance there, times a weight, plus a bias.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchNorm {
    /// The rows of its groups; nothing where the run decides.
    pub rows: Option<RowCount>,
    /// What is added to a variance.
    pub eps: f64,
    /// The share of a step in the running statistics.
    pub momentum: f64,
    /// Whether there is a weight a channel.
    pub scale: bool,
}

impl fmt::Display for BatchNorm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("batch_norm")?;
        if let Some(rows) = self.rows {
            write!(f, " rows {rows}")?;
        }
        if self.eps != EPS {
            write!(f, " eps {:?}", self.eps)?;
        }
        if self.momentum != MOMENTUM {
            write!(f, " momentum {:?}", self.momentum)?;
        }
        if self.scale { Ok(()) } else { f.write_str(" scale no") }
    }
}

impl Operation for BatchNorm {
    fn parse(words: &Words<'_>) -> Result<BatchNorm, String> {
        let mut norm = BatchNorm { rows: None, eps: EPS, momentum: MOMENTUM, scale: true };
        let number = |text: &str, most: f64| text.parse().ok().filter(|&v: &f64| v > 0.0 && v <= most);
        for option in words.rest.chunks(2) {
            match option {
                ["rows", rows] => {
                    let rows: Result<RowCount, String> = rows.parse();
                    norm.rows = Some(rows.map_err(|_| words.refuse("'rows all' or 'rows 32', a number of rows"))?);
                }
                ["eps", eps] => {
                    norm.eps = number(eps, 1.0).ok_or_else(|| words.refuse("'eps 1e-5', above 0 and at most 1"))?;
                }
                ["momentum", momentum] => {
                    let expected =
                        "'momentum 0.1', the share of a step in the running statistics, above 0 and at most 1";
                    norm.momentum = number(momentum, 1.0).ok_or_else(|| words.refuse(expected))?;
                }
                ["scale", "no"] => norm.scale = false,
                ["scale", "yes"] => norm.scale = true,
                other => {
                    let found = other.join(" ");
                    let expected = format!("'rows N', 'eps E', 'momentum M' or 'scale no', found '{found}'");
                    return Err(words.refuse(&expected));
                }
            }
        }
        Ok(norm)
    }

    fn parameters(&self, input: &Shape, _output: &Shape) -> Vec<Parameter> {
        let channels = input.sizes().last().copied().unwrap_or(0);
        let of = |name, initial, is_statistic| Parameter { name, shape: vec![channels], initial, is_statistic };
        let weight = self.scale.then(|| of("weight", Initial::Ones, false));
        let others = [
            of("bias", Initial::Zeros, false),
            of("running_mean", Initial::Zeros, true),
            of("running_var", Initial::Ones, true),
        ];
        weight.into_iter().chain(others).collect()
    }

    fn flops(&self, input: &Shape, _output: &Shape) -> u64 {
        // The difference from the mean, its square, and a multiply-add.
        6 * input.len() as u64
    }

    fn work(&self, site: &Site<'_>) -> Result<Work, String> {
        let channels = site.output.sizes().last().copied().unwrap_or(0);
        let mut ranges = site.parameters.iter().cloned();
        let weight = if self.scale { ranges.next() } else { None };
        let mut next = || ranges.next().unwrap_or(0..0);
        Ok(Work::Normalize(Normalize {
            channels,
            pixels: site.output.len() / channels,
            weight,
            bias: next(),
            mean: next(),
            variance: next(),
            eps: self.eps,
            momentum: self.momentum,
            rows: self.rows,
            rectifier: site.fused.rectifier,
            norm: 0,
        }))
    }

    fn is_norm(&self) -> bool {
        true
    }
}
