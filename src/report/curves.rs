//! Precision, recall and their like at every threshold, from the probabilities of one class.

/// The predictions at a threshold, counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ThresholdCounts {
    /// Rows are predicted to be of the class from this probability on.
    pub threshold: f64,
    /// Rows of the class that are predicted to be.
    pub true_positives: u64,
    /// Rows of other classes that are predicted to be of it.
    pub false_positives: u64,
}

/// All thresholds that make a difference, from "no row" to "every row".
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// The steps, thresholds falling; the first one predicts no row.
    pub steps: Vec<ThresholdCounts>,
    /// Rows of the class.
    pub positives: u64,
    /// Rows of the others.
    pub negatives: u64,
}

impl Curve {
    /// From each row's probability of the class, and whether it is of it. `None` where one of the two kinds is missing: then
    /// there is nothing to tell apart. Rows whose probability is not a number count as those of the least.
    pub fn new(rows: impl IntoIterator<Item = (f32, bool)>) -> Option<Curve> {
        let number = |p: f32| if p.is_nan() { f32::NEG_INFINITY } else { p };
        let mut rows: Vec<(f32, bool)> = rows.into_iter().map(|(p, is)| (number(p), is)).collect();
        let positives = rows.iter().filter(|(_, is)| *is).count() as u64;
        let negatives = rows.len() as u64 - positives;
        if positives == 0 || negatives == 0 {
            return None;
        }
        rows.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut now = ThresholdCounts { threshold: f64::INFINITY, true_positives: 0, false_positives: 0 };
        let mut steps = vec![now];
        // Rows of one probability cannot be parted.
        for equal in rows.chunk_by(|a, b| a.0 == b.0) {
            let positives = equal.iter().filter(|(_, is)| *is).count() as u64;
            now.threshold = f64::from(equal[0].0);
            now.true_positives += positives;
            now.false_positives += equal.len() as u64 - positives;
            steps.push(now);
        }
        Some(Curve { steps, positives, negatives })
    }

    /// Recall, the true positive rate: of the rows of the class, the share that is predicted to be.
    pub fn recall(&self, step: &ThresholdCounts) -> f64 {
        step.true_positives as f64 / self.positives as f64
    }

    /// False positive rate: of the rows of other classes, the share that is predicted to be of it.
    pub fn false_positive_rate(&self, step: &ThresholdCounts) -> f64 {
        step.false_positives as f64 / self.negatives as f64
    }

    /// Area under recall over false positive rate: the probability that a row of the class has a larger probability than one of the
    /// others, ties counted half.
    pub fn roc_area(&self) -> f64 {
        let trapezoid = |two: &[ThresholdCounts]| {
            (self.false_positive_rate(&two[1]) - self.false_positive_rate(&two[0]))
                * (self.recall(&two[0]) + self.recall(&two[1]))
                / 2.0
        };
        self.steps.windows(2).map(trapezoid).sum()
    }

    /// Area under precision over recall, as a sum of steps (average precision): lines between the points would flatter.
    pub fn precision_area(&self) -> f64 {
        let step =
            |two: &[ThresholdCounts]| (self.recall(&two[1]) - self.recall(&two[0])) * precision(&two[1]).unwrap_or(0.0);
        self.steps.windows(2).map(step).sum()
    }

    /// The counts at a threshold.
    pub fn at(&self, threshold: f64) -> ThresholdCounts {
        // A probability of 0.9 is that number's nearest f32, which is a little less.
        let least = f64::from(threshold as f32);
        let count = self.steps.partition_point(|step| step.threshold >= least);
        ThresholdCounts { threshold, ..self.steps[count.max(1) - 1] }
    }

    /// False positive rate and recall, for a plot.
    pub fn roc(&self) -> Vec<(f64, f64)> {
        self.thin().map(|step| (self.false_positive_rate(step), self.recall(step))).collect()
    }

    /// Recall and precision, for a plot.
    pub fn precision_recall(&self) -> Vec<(f64, f64)> {
        self.thin().filter_map(|step| Some((self.recall(step), precision(step)?))).collect()
    }

    /// As many steps as an eye can tell apart, the ends among them.
    fn thin(&self) -> impl Iterator<Item = &ThresholdCounts> {
        const MOST: usize = 400;
        let (count, every) = (self.steps.len(), self.steps.len().div_ceil(MOST));
        self.steps
            .iter()
            .enumerate()
            .filter(move |(i, _)| i.is_multiple_of(every) || i + 1 == count)
            .map(|(_, step)| step)
    }
}

/// Of the rows that are predicted to be of the class, the share that are; nothing where none is.
pub fn precision(step: &ThresholdCounts) -> Option<f64> {
    let predicted = step.true_positives + step.false_positives;
    (predicted > 0).then(|| step.true_positives as f64 / predicted as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_those_of_scikit_learn() {
        // roc_auc_score 0.75 and average_precision_score 0.8333… in its own documentation.
        let curve = Curve::new([(0.1, false), (0.4, false), (0.35, true), (0.8, true)]).unwrap();
        assert!((curve.roc_area() - 0.75).abs() <= 1e-12, "{curve:?}");
        assert!((curve.precision_area() - 5.0 / 6.0).abs() <= 1e-12, "{curve:?}");
    }

    #[test]
    fn ties_count_half_and_order_does_not_matter() {
        let rows = [(0.5, true), (0.5, false), (0.5, true), (0.5, false), (0.5, false)];
        let curve = Curve::new(rows).unwrap();
        assert_eq!(curve.steps.len(), 2);
        assert!((curve.roc_area() - 0.5).abs() <= 1e-12);
        assert!((curve.precision_area() - 0.4).abs() <= 1e-12);
        let mut turned = rows;
        turned.reverse();
        assert_eq!(Curve::new(turned).unwrap(), curve);
    }

    #[test]
    fn the_area_is_the_share_of_pairs_in_order() {
        let rows: Vec<(f32, bool)> =
            (0..60u32).map(|i| ((i * 37 % 61 / 4) as f32 / 16.0, (i * i + i / 3) % 5 < 2)).collect();
        let (mut pairs, mut won) = (0.0, 0.0);
        for (p, _) in rows.iter().filter(|(_, is)| *is) {
            for (q, _) in rows.iter().filter(|(_, is)| !*is) {
                pairs += 1.0;
                won += if p > q {
                    1.0
                } else if p == q {
                    0.5
                } else {
                    0.0
                };
            }
        }
        let area = Curve::new(rows.iter().copied()).unwrap().roc_area();
        assert!((area - won / pairs).abs() <= 1e-12, "{area} {won} {pairs}");
    }

    #[test]
    fn a_threshold_counts_the_rows_from_it_on() {
        let curve = Curve::new([(0.9, true), (0.7, false), (0.5, true), (0.1, false)]).unwrap();
        let counts = |t: f64| (curve.at(t).true_positives, curve.at(t).false_positives);
        assert_eq!(
            [counts(0.95), counts(0.9), counts(0.6), counts(0.5), counts(0.0)],
            [(0, 0), (1, 0), (1, 1), (2, 1), (2, 2)]
        );
        assert_eq!(precision(&curve.at(0.99)), None);
    }

    #[test]
    fn one_kind_of_rows_alone_has_no_curve_and_no_number_is_the_least() {
        assert_eq!(Curve::new([(0.3, true), (0.2, true)]), None);
        assert_eq!(Curve::new([]), None);
        let curve = Curve::new([(f32::NAN, true), (0.0, false)]).unwrap();
        assert!(curve.roc_area().abs() <= 1e-12);
    }
}
