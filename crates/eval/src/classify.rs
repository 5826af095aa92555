//! Classification scores: accuracy, macro-F1 and the confusion table.

use serde::{Deserialize, Serialize};

/// One classified item: indices into the recipe's labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The right label.
    pub truth: u32,
    /// What the model answered; `None` if that was none of the labels, which counts as wrong.
    pub predicted: Option<u32>,
}

impl Outcome {
    /// 1 for a right answer, 0 for a wrong one: the item's term of the accuracy.
    pub fn accuracy(&self) -> f64 {
        if self.predicted == Some(self.truth) { 1.0 } else { 0.0 }
    }
}

/// Counts per label, enough for F1. Made once and refilled: a resample allocates nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    counts: Vec<Counts>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    truth: u32,
    predicted: u32,
    both: u32,
}

impl Counts {
    /// F1 in counts: `2 * both / (truth + predicted)`. `None` for a label that occurs in neither column.
    fn f1(&self) -> Option<f64> {
        let occurs = self.truth + self.predicted;
        (occurs > 0).then(|| 2.0 * f64::from(self.both) / f64::from(occurs))
    }
}

impl Tally {
    /// An empty tally over `labels` labels.
    pub fn new(labels: usize) -> Tally {
        Tally { counts: vec![Counts::default(); labels] }
    }

    /// Forgets all outcomes.
    pub fn clear(&mut self) {
        self.counts.fill(Counts::default());
    }

    /// Counts one outcome, whose label indices must lie below the number of labels.
    #[inline]
    pub fn add(&mut self, outcome: &Outcome) {
        self.counts[outcome.truth as usize].truth += 1;
        if let Some(predicted) = outcome.predicted {
            self.counts[predicted as usize].predicted += 1;
            self.counts[predicted as usize].both += u32::from(predicted == outcome.truth);
        }
    }

    /// Macro-F1: the plain mean of the labels' F1 over those labels of the recipe that occur in truth or prediction;
    /// 0 without outcomes.
    ///
    /// This is scikit-learn's `f1_score(truth, predicted, average="macro", labels=L)` with `L` those labels. A label
    /// that occurs in the truth and was never right counts as 0; a label that occurs nowhere is left out of the mean
    /// instead of adding a 0 or a 1 that no data speak for. An answer that is no label costs recall and lands on no
    /// label's precision, as scikit-learn does for predictions outside `labels`.
    pub fn macro_f1(&self) -> f64 {
        let (sum, labels) = self.counts.iter().filter_map(Counts::f1).fold((0.0, 0), |(sum, n), f1| (sum + f1, n + 1));
        if labels == 0 { 0.0 } else { sum / f64::from(labels) }
    }
}

/// Who was taken for whom.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Confusion {
    /// The recipe's labels, in its order.
    pub labels: Vec<String>,
    /// `counts[truth][predicted]`; the last column, beyond the labels, counts answers that are no label.
    pub counts: Vec<Vec<u32>>,
}

/// One label's scores. A ratio of which nothing is known (no such prediction, no such row) is `None`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelScore {
    /// The label.
    pub label: String,
    /// Rows with this label.
    pub support: u32,
    /// Rightly predicted / predicted.
    pub precision: Option<f64>,
    /// Rightly predicted / support.
    pub recall: Option<f64>,
    /// Harmonic mean of both, as in [`Tally::macro_f1`].
    pub f1: Option<f64>,
}

impl Confusion {
    /// Counts `outcomes`, whose label indices must lie below the number of labels.
    pub fn new(labels: &[String], outcomes: &[Outcome]) -> Confusion {
        let mut counts = vec![vec![0; labels.len() + 1]; labels.len()];
        for outcome in outcomes {
            let column = outcome.predicted.map_or(labels.len(), |predicted| predicted as usize);
            counts[outcome.truth as usize][column] += 1;
        }
        Confusion { labels: labels.to_vec(), counts }
    }

    /// Scores of every label, in the recipe's order.
    pub fn label_scores(&self) -> Vec<LabelScore> {
        let ratio = |part: u32, whole: u32| (whole > 0).then(|| f64::from(part) / f64::from(whole));
        let score = |label: usize| {
            let both = self.counts[label][label];
            let support = self.counts[label].iter().sum();
            let predicted = self.counts.iter().map(|row| row[label]).sum();
            LabelScore {
                label: self.labels[label].clone(),
                support,
                precision: ratio(both, predicted),
                recall: ratio(both, support),
                f1: Counts { truth: support, predicted, both }.f1(),
            }
        };
        (0..self.labels.len()).map(score).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(pairs: &[(u32, Option<u32>)]) -> Vec<Outcome> {
        pairs.iter().map(|&(truth, predicted)| Outcome { truth, predicted }).collect()
    }

    fn macro_f1(labels: usize, outcomes: &[Outcome]) -> f64 {
        let mut tally = Tally::new(labels);
        outcomes.iter().for_each(|outcome| tally.add(outcome));
        tally.macro_f1()
    }

    /// The example of scikit-learn's own documentation of `f1_score`: macro 0.26666.
    #[test]
    fn scikit_learns_example() {
        let truth = [0, 1, 2, 0, 1, 2];
        let predicted = [0, 2, 1, 0, 0, 1];
        let rows: Vec<_> = truth.into_iter().zip(predicted.map(Some)).collect();
        assert!((macro_f1(3, &outcomes(&rows)) - 0.266_666_67).abs() < 1e-8);
    }

    /// By hand: label 0: TP 1, FP 1, FN 1, F1 1/2; label 1: TP 1, FP 1, FN 0, F1 2/3; label 2: TP 0, FN 1, F1 0.
    #[test]
    fn by_hand_with_a_label_never_right_and_one_that_never_occurs() {
        let rows = outcomes(&[(0, Some(0)), (0, Some(1)), (1, Some(1)), (2, Some(0))]);
        assert!((macro_f1(3, &rows) - (0.5 + 2.0 / 3.0) / 3.0).abs() < 1e-12);
        assert_eq!(macro_f1(3, &rows), macro_f1(4, &rows));
    }

    /// A label that is only predicted occurs, with an F1 of 0. By hand: label 0 has TP 1, FN 1: F1 2/3; label 1: 0.
    #[test]
    fn a_label_that_is_only_predicted_counts() {
        assert!((macro_f1(2, &outcomes(&[(0, Some(0)), (0, Some(1))])) - 1.0 / 3.0).abs() < 1e-12);
    }

    /// By hand: label 0 has TP 1, FN 1: F1 2/3, and no other label occurs.
    #[test]
    fn an_answer_that_is_no_label_is_wrong_and_blames_no_label() {
        let rows = outcomes(&[(0, Some(0)), (0, None)]);
        assert!((macro_f1(2, &rows) - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(rows.iter().map(Outcome::accuracy).sum::<f64>(), 1.0);
    }

    #[test]
    fn a_cleared_tally_is_empty() {
        let mut tally = Tally::new(2);
        tally.add(&Outcome { truth: 0, predicted: Some(1) });
        tally.clear();
        assert_eq!(tally, Tally::new(2));
        assert_eq!(tally.macro_f1(), 0.0);
    }

    #[test]
    fn confusion_counts_and_scores_each_label() {
        let labels = ["a", "b", "c"].map(String::from);
        let rows = outcomes(&[(0, Some(0)), (0, Some(1)), (1, Some(1)), (1, None)]);
        let confusion = Confusion::new(&labels, &rows);
        assert_eq!(confusion.counts, [[1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]]);
        let scores = confusion.label_scores();
        assert_eq!((scores[0].precision, scores[0].recall, scores[0].support), (Some(1.0), Some(0.5), 2));
        assert_eq!((scores[1].precision, scores[1].recall, scores[1].f1), (Some(0.5), Some(0.5), Some(0.5)));
        assert_eq!((scores[2].precision, scores[2].recall, scores[2].f1), (None, None, None));
        let mean = scores.iter().filter_map(|score| score.f1).sum::<f64>() / 2.0;
        assert!((mean - macro_f1(3, &rows)).abs() < 1e-12);
    }
}
