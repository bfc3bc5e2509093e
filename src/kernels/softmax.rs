//! Softmax and cross-entropy, fused and stable: f64 inside, so that logits of any size give finite losses.

/// What the loss says about some rows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// `Σ −ln p(label)` over the rows.
    pub loss_sum: f64,
    /// Rows whose largest logit is the label's.
    pub correct: u64,
}

impl std::ops::Add for Score {
    type Output = Score;
    fn add(self, other: Score) -> Score {
        Score { loss_sum: self.loss_sum + other.loss_sum, correct: self.correct + other.correct }
    }
}

/// The index of the largest value (the first of equals); `None` when one is NaN.
pub fn argmax(values: &[f32]) -> Option<usize> {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if value.is_nan() {
            return None;
        }
        if *value > values[best] {
            best = index;
        }
    }
    Some(best)
}

/// Turns each row of `logits [batch, classes]` into probabilities.
pub fn softmax(classes: usize, logits: &mut [f32]) {
    for row in logits.chunks_exact_mut(classes) {
        let log_sum = log_sum_exp(row);
        for value in row {
            *value = libm::exp(f64::from(*value) - log_sum) as f32;
        }
    }
}

/// Cross-entropy of `logits [batch, classes]` against `labels [batch]`, added row by row to what `score` holds. Where
/// `d_logits [batch, classes]` is given, it is overwritten with the gradient of the SUM of the losses:
/// `softmax(logits) − onehot(label)`.
///
/// # Panics
/// When a label is not below `classes`.
pub fn softmax_cross_entropy(
    classes: usize,
    logits: &[f32],
    labels: &[u32],
    mut d_logits: Option<&mut [f32]>,
    mut score: Score,
) -> Score {
    assert_eq!(logits.len(), labels.len() * classes);
    for (n, (row, &label)) in logits.chunks_exact(classes).zip(labels).enumerate() {
        let label = label as usize;
        let log_sum = log_sum_exp(row);
        score.loss_sum += log_sum - f64::from(row[label]);
        score.correct += u64::from(argmax(row) == Some(label));
        if let Some(d_logits) = &mut d_logits {
            let d_row = &mut d_logits[n * classes..(n + 1) * classes];
            for (class, (d, &logit)) in d_row.iter_mut().zip(row).enumerate() {
                let probability = libm::exp(f64::from(logit) - log_sum);
                *d = (probability - f64::from(u8::from(class == label))) as f32;
            }
        }
    }
    score
}

/// `ln Σ exp(v)`, without overflow; NaN when a value is NaN.
fn log_sum_exp(row: &[f32]) -> f64 {
    let largest = row.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a || b.is_nan() { b } else { a });
    let largest = f64::from(largest);
    let sum: f64 = row.iter().map(|&v| libm::exp(f64::from(v) - largest)).sum();
    largest + libm::log(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_logits_give_finite_losses_and_nan_shows() {
        let score = softmax_cross_entropy(2, &[500.0, -500.0, 500.0, -500.0], &[0, 1], None, Score::default());
        assert_eq!(score, Score { loss_sum: 1000.0, correct: 1 });
        let score = softmax_cross_entropy(2, &[f32::NAN, 0.0], &[0], None, Score::default());
        assert!(score.loss_sum.is_nan() && score.correct == 0);
    }

    #[test]
    fn probabilities_of_a_row_sum_to_one() {
        let mut rows = [1.0, 2.0, 3.0, 1000.0, 0.0, -1000.0];
        softmax(3, &mut rows);
        for row in rows.chunks(3) {
            assert!((row.iter().sum::<f32>() - 1.0).abs() <= 1e-6);
        }
    }
}
