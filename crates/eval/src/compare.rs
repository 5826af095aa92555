//! Base against tuned: every suite's metrics side by side, with intervals of the difference, and the verdict.

use serde::{Deserialize, Serialize};

use crate::classify::{Outcome, Tally};
use crate::stats::{Bootstrap, DocumentLoss, Interval, StatsError};
use crate::suite::{ChoiceScore, Classified, InstructionScore, KlScore, Written};
use crate::verdict::{self, Better, Change, FloorDecision, Judgement, Unit, VerdictError};

/// What one model scored on one suite, item by item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Scores {
    /// The user's task.
    Classification {
        /// How many labels there are.
        labels: usize,
        /// By label scoring.
        items: Vec<Classified>,
        /// By free writing, where that was asked for.
        written: Option<Vec<Written>>,
    },
    /// The user's task, by answers that rewards score.
    Rewarded {
        /// One a prompt.
        items: Vec<Rewarded>,
    },
    /// Held-out text.
    TextLoss {
        /// One a document.
        items: Vec<DocumentLoss>,
    },
    /// Questions with choices.
    MultipleChoice {
        /// One a question.
        items: Vec<ChoiceScore>,
        /// Kind of each question, for rows of their own.
        kinds: Vec<Option<String>>,
    },
    /// Divergence along the base's answers: a score of the tuned model alone.
    ChatKl {
        /// One a prompt.
        items: Vec<KlScore>,
    },
    /// Instructions that can be checked.
    InstructionFollowing {
        /// One an instruction.
        items: Vec<InstructionScore>,
    },
}

/// An answer and what it earned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rewarded {
    /// What the model wrote.
    pub answer: String,
    /// What it earned; an answer of which nothing could be said counts as 0.
    pub reward: Option<f64>,
    /// Whether that is as much as is asked for.
    pub right: bool,
}

/// One suite, scored by both sides.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair<'a> {
    /// Its name.
    pub name: &'a str,
    /// What items share, as [`crate::items::clusters`] numbers it.
    pub clusters: Option<Vec<u32>>,
    /// The base's scores; `None` for [`Scores::ChatKl`], which has none.
    pub base: Option<&'a Scores>,
    /// The tuned model's scores.
    pub tuned: &'a Scores,
    /// How much may be lost, as a recipe says it: percent of the base's loss for text, percentage points for
    /// accuracies, nats per token for KL. `None`: shown and not judged.
    pub floor: Option<f64>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Share of items that are right; of instructions, with every check held.
    Accuracy,
    /// Mean of what answers earned.
    Reward,
    /// Mean F1 over labels.
    MacroF1,
    /// Share of freely written answers that are the label.
    ExactMatch,
    /// Accuracy when choices are compared per byte.
    AccuracyPerByte,
    /// Mean share of an instruction's checks that hold.
    ChecksHeld,
    /// Loss per token.
    NatsPerToken,
    /// Loss per byte of text, in bits.
    BitsPerByte,
    /// Rise of the loss as a share of the base's.
    RelativeLoss,
    /// KL(base || tuned) per token, in nats.
    Kl,
}

/// One line of the comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Name of the suite.
    pub suite: String,
    /// Kind of the items, where the row is about one kind of a suite's.
    pub kind: Option<String>,
    /// What is measured.
    pub metric: Metric,
    /// The base's value; `None` for a metric that compares by itself.
    pub base: Option<f64>,
    /// The tuned model's value.
    pub tuned: f64,
    /// Tuned minus base; of a metric that compares by itself, its own interval.
    pub difference: Interval,
    /// Whether more is better.
    pub higher_is_better: bool,
    /// The floor that this row is judged by.
    pub floor: Option<RowFloor>,
}

/// A floor and what the items say about it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RowFloor {
    /// How much worse it may get, in the unit of the row's difference (a share, where the recipe says percent or points).
    pub margin: f64,
    /// Whether it was kept.
    pub decision: FloorDecision,
}

/// Base against tuned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The domain's rows first, then each suite's in order.
    pub rows: Vec<Row>,
    /// Gain and floors weighed; `None` without a domain or without floors.
    pub judgement: Option<Judgement>,
}

/// Why nothing was compared.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CompareError {
    /// An interval that cannot be computed.
    #[error("suite {suite}: {error}")]
    Stats {
        /// The suite.
        suite: String,
        /// Why.
        error: StatsError,
    },
    /// Scores of different kinds.
    #[error(
        "suite {suite}: base and tuned model have scores of different kinds\nhint: score both with the same suite; \
         chat_kl has no scores of the base"
    )]
    DifferentKinds {
        /// The suite.
        suite: String,
    },
    /// The verdict.
    #[error(transparent)]
    Verdict(#[from] VerdictError),
}

/// Compares the user's task (first, if there is one) and the general suites. The domain's gain is decided on accuracy.
/// A kind of question gets rows of its own where it has at least two units to resample; they are shown, not judged.
///
/// # Errors
/// [`CompareError`].
pub fn compare(
    domain: Option<&Pair<'_>>,
    general: &[Pair<'_>],
    bootstrap: Bootstrap,
) -> Result<Comparison, CompareError> {
    let (mut rows, mut changes, mut floors) = (Vec::new(), Vec::new(), Vec::new());
    for pair in domain.into_iter().chain(general) {
        let start = rows.len();
        rows.extend(compare_suite(pair, bootstrap)?);
        // A suite is judged by its first row.
        let row: &mut Row = &mut rows[start];
        let (what, unit) = match row.metric {
            Metric::RelativeLoss => ("loss", Unit::Percent),
            Metric::Kl => ("KL per token", Unit::Nats),
            _ => ("accuracy", Unit::Points),
        };
        let change = Change {
            name: format!("{} {what}", pair.name),
            better: if row.higher_is_better { Better::Higher } else { Better::Lower },
            unit,
            difference: row.difference,
        };
        if let Some(bound) = pair.floor {
            let margin = if unit == Unit::Nats { bound } else { bound / 100.0 };
            let floor = verdict::Floor { change: change.clone(), margin };
            row.floor = Some(RowFloor { margin, decision: floor.decide()? });
            floors.push(floor);
        }
        changes.push(change);
    }
    let judgement = match (domain, floors.as_slice()) {
        (None, _) | (_, []) => None,
        (Some(_), floors) => Some(verdict::judge(&changes[0], floors)?),
    };
    Ok(Comparison { rows, judgement })
}

/// The rows of one suite, first the one by which it is judged.
fn compare_suite(pair: &Pair<'_>, bootstrap: Bootstrap) -> Result<Vec<Row>, CompareError> {
    let stats = |error| CompareError::Stats { suite: pair.name.to_owned(), error };
    let clusters = pair.clusters.as_deref();
    let row = |metric, base, tuned, difference, higher_is_better| Row {
        suite: pair.name.to_owned(),
        kind: None,
        metric,
        base,
        tuned,
        difference,
        higher_is_better,
        floor: None,
    };
    // A metric that is a mean over items.
    let means = |metric, base: &[f64], tuned: &[f64], clusters: Option<&[u32]>| {
        let difference = bootstrap.paired_difference(base, tuned, clusters)?;
        Ok(row(metric, Some(mean(base)), mean(tuned), difference, true))
    };
    match (pair.base, pair.tuned) {
        (
            Some(Scores::Classification { labels, items: base, written: base_written }),
            Scores::Classification { items: tuned, written: tuned_written, .. },
        ) => {
            let outcomes = |items: &[Classified]| items.iter().map(|item| item.outcome).collect::<Vec<Outcome>>();
            let (base, tuned) = (outcomes(base), outcomes(tuned));
            let right = |items: &[Outcome]| items.iter().map(Outcome::accuracy).collect::<Vec<f64>>();
            let mut rows = vec![means(Metric::Accuracy, &right(&base), &right(&tuned), clusters).map_err(stats)?];
            let difference = bootstrap.macro_f1_difference(&base, &tuned, *labels, clusters).map_err(stats)?;
            let f1 = |outcomes: &[Outcome]| {
                let mut tally = Tally::new(*labels);
                outcomes.iter().for_each(|outcome| tally.add(outcome));
                tally.macro_f1()
            };
            rows.push(row(Metric::MacroF1, Some(f1(&base)), f1(&tuned), difference, true));
            if let Some((base, tuned)) = base_written.as_ref().zip(tuned_written.as_ref()) {
                let exact = |items: &[Written]| items.iter().map(|item| share(item.exact)).collect::<Vec<f64>>();
                rows.push(means(Metric::ExactMatch, &exact(base), &exact(tuned), clusters).map_err(stats)?);
            }
            Ok(rows)
        }
        (Some(Scores::Rewarded { items: base }), Scores::Rewarded { items: tuned }) => {
            let right = |items: &[Rewarded]| items.iter().map(|item| share(item.right)).collect::<Vec<f64>>();
            let earned = |items: &[Rewarded]| items.iter().map(|item| item.reward.unwrap_or(0.0)).collect::<Vec<f64>>();
            let rows = vec![
                means(Metric::Accuracy, &right(base), &right(tuned), clusters).map_err(stats)?,
                means(Metric::Reward, &earned(base), &earned(tuned), clusters).map_err(stats)?,
            ];
            Ok(rows)
        }
        (Some(Scores::TextLoss { items: base }), Scores::TextLoss { items: tuned }) => {
            let change = bootstrap.loss_difference(base, tuned, clusters).map_err(stats)?;
            let total = |items: &[DocumentLoss], part: fn(&DocumentLoss) -> f64| items.iter().map(part).sum::<f64>();
            let per_token =
                |items: &[DocumentLoss]| total(items, |item| item.nats) / total(items, |item| item.tokens as f64);
            let per_byte = |items: &[DocumentLoss]| {
                total(items, |item| item.nats) / std::f64::consts::LN_2 / total(items, |item| item.bytes as f64)
            };
            let rows = vec![
                row(Metric::RelativeLoss, None, change.relative.estimate, change.relative, false),
                row(Metric::NatsPerToken, Some(per_token(base)), per_token(tuned), change.nats_per_token, false),
                row(Metric::BitsPerByte, Some(per_byte(base)), per_byte(tuned), change.bits_per_byte, false),
            ];
            Ok(rows)
        }
        (
            Some(Scores::MultipleChoice { items: base, kinds }),
            Scores::MultipleChoice { items: tuned, kinds: tuned_kinds },
        ) => {
            if kinds != tuned_kinds {
                return Err(CompareError::DifferentKinds { suite: pair.name.to_owned() });
            }
            let of = |items: &[ChoiceScore], part: fn(&ChoiceScore) -> bool| {
                items.iter().map(|item| share(part(item))).collect::<Vec<f64>>()
            };
            let (right, right_tuned) = (of(base, |item| item.correct), of(tuned, |item| item.correct));
            let per_byte = (of(base, |item| item.correct_per_byte), of(tuned, |item| item.correct_per_byte));
            let mut rows = vec![
                means(Metric::Accuracy, &right, &right_tuned, clusters).map_err(stats)?,
                means(Metric::AccuracyPerByte, &per_byte.0, &per_byte.1, clusters).map_err(stats)?,
            ];
            let mut names: Vec<&String> = kinds.iter().flatten().collect();
            names.sort_unstable();
            names.dedup();
            for name in names {
                let own: Vec<usize> = (0..kinds.len()).filter(|&item| kinds[item].as_ref() == Some(name)).collect();
                let some = |values: &[f64]| own.iter().map(|&item| values[item]).collect::<Vec<f64>>();
                let own_clusters: Option<Vec<u32>> =
                    clusters.map(|clusters| own.iter().map(|&item| clusters[item]).collect());
                match means(Metric::Accuracy, &some(&right), &some(&right_tuned), own_clusters.as_deref()) {
                    Ok(found) => rows.push(Row { kind: Some(name.clone()), ..found }),
                    Err(StatsError::OneUnit { .. }) => {}
                    Err(error) => return Err(stats(error)),
                }
            }
            Ok(rows)
        }
        (None, Scores::ChatKl { items }) => {
            // A mean over tokens, so a ratio of sums, as a loss is; the bytes are not looked at.
            let documents: Vec<DocumentLoss> = items
                .iter()
                .map(|item| DocumentLoss { nats: item.kl_sum, tokens: item.tokens as u64, bytes: item.tokens as u64 })
                .collect();
            let kl = bootstrap.nats_per_token(&documents, clusters).map_err(stats)?;
            Ok(vec![row(Metric::Kl, None, kl.estimate, kl, false)])
        }
        (Some(Scores::InstructionFollowing { items: base }), Scores::InstructionFollowing { items: tuned }) => {
            let passed = |items: &[InstructionScore]| items.iter().map(|item| share(item.passed)).collect::<Vec<f64>>();
            let held = |items: &[InstructionScore]| items.iter().map(|item| item.share).collect::<Vec<f64>>();
            let rows = vec![
                means(Metric::Accuracy, &passed(base), &passed(tuned), clusters).map_err(stats)?,
                means(Metric::ChecksHeld, &held(base), &held(tuned), clusters).map_err(stats)?,
            ];
            Ok(rows)
        }
        _ => Err(CompareError::DifferentKinds { suite: pair.name.to_owned() }),
    }
}

fn share(holds: bool) -> f64 {
    if holds { 1.0 } else { 0.0 }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::{Gain, Verdict};

    const BOOTSTRAP: Bootstrap = Bootstrap { resamples: 2000, seed: 7 };

    /// 200 rows of two labels, of which the first `right` are classified rightly.
    fn classified(right: usize) -> Scores {
        let item = |index: usize| {
            let truth = (index % 2) as u32;
            let predicted = if index < right { truth } else { 1 - truth };
            let outcome = Outcome { truth, predicted: Some(predicted) };
            Classified { outcome, logprobs: vec![-1.0, -2.0], posterior: vec![0.5, 0.5] }
        };
        Scores::Classification { labels: 2, items: (0..200).map(item).collect(), written: None }
    }

    /// 100 documents of 10 tokens and 40 bytes, whose loss is `factor` times the base's.
    fn texts(factor: f64) -> Scores {
        let item = |index: usize| DocumentLoss { nats: factor * (30.0 + (index % 9) as f64), tokens: 10, bytes: 40 };
        Scores::TextLoss { items: (0..100).map(item).collect() }
    }

    /// 400 questions of two kinds, all answered rightly but every `wrong`-th.
    fn questions(wrong: usize) -> Scores {
        let kind = |index| Some(if index < 300 { "hypernym" } else { "definition" }.to_owned());
        let item = |index: usize| {
            let correct = !index.is_multiple_of(wrong);
            ChoiceScore { correct, correct_per_byte: correct, logprobs: vec![-1.0, -2.0] }
        };
        Scores::MultipleChoice { items: (0..400).map(item).collect(), kinds: (0..400).map(kind).collect() }
    }

    fn pair<'a>(name: &'a str, base: &'a Scores, tuned: &'a Scores, floor: Option<f64>) -> Pair<'a> {
        Pair { name, clusters: None, base: Some(base), tuned, floor }
    }

    #[test]
    fn a_gain_with_every_floor_kept() {
        let (before, after) = (classified(100), classified(180));
        let (text, better_text) = (texts(1.0), texts(1.01));
        let choice = questions(4);
        let kl =
            Scores::ChatKl { items: (0..50).map(|i| KlScore { kl_sum: 0.1 * f64::from(i % 3), tokens: 10 }).collect() };
        let domain = pair("icd10", &before, &after, None);
        let general = [
            pair("prose", &text, &better_text, Some(2.0)),
            pair("wordnet", &choice, &choice, Some(2.0)),
            Pair { name: "chat", clusters: None, base: None, tuned: &kl, floor: Some(0.05) },
        ];
        let comparison = compare(Some(&domain), &general, BOOTSTRAP).unwrap();
        let judgement = comparison.judgement.unwrap();
        assert_eq!(judgement.verdict, Verdict::GainedAndKept, "{}", judgement.reason);

        let row = |suite: &str, metric, kind: Option<&str>| {
            let mut rows = comparison.rows.iter();
            rows.find(|row| row.suite == suite && row.metric == metric && row.kind.as_deref() == kind).unwrap()
        };
        let accuracy = row("icd10", Metric::Accuracy, None);
        assert_eq!((accuracy.base, accuracy.tuned, accuracy.difference.estimate), (Some(0.5), 0.9, 0.4));
        assert!((row("icd10", Metric::MacroF1, None).tuned - 0.9).abs() < 1e-9);
        let loss = row("prose", Metric::RelativeLoss, None);
        assert!((loss.tuned - 0.01).abs() < 1e-9 && !loss.higher_is_better && loss.base.is_none());
        assert_eq!(loss.floor.unwrap().margin, 0.02);
        let (nats, bits) = (row("prose", Metric::NatsPerToken, None), row("prose", Metric::BitsPerByte, None));
        assert!((nats.base.unwrap() / 4.0 / std::f64::consts::LN_2 - bits.base.unwrap()).abs() < 1e-9);
        let hypernyms = row("wordnet", Metric::Accuracy, Some("hypernym"));
        assert_eq!((hypernyms.base, hypernyms.difference.n, hypernyms.floor), (Some(0.75), 300, None));
        let kl = row("chat", Metric::Kl, None);
        assert!((kl.tuned - 4.9 / 500.0).abs() < 1e-9, "{}", kl.tuned);
        assert_eq!(kl.floor.unwrap().decision, FloorDecision::Kept);
    }

    #[test]
    fn a_floor_broken_outweighs_the_gain() {
        let (before, after) = (classified(100), classified(180));
        let (choice, fewer) = (questions(4), questions(2));
        let domain = pair("icd10", &before, &after, None);
        let comparison = compare(Some(&domain), &[pair("wordnet", &choice, &fewer, Some(5.0))], BOOTSTRAP).unwrap();
        let judgement = comparison.judgement.unwrap();
        assert_eq!((judgement.verdict, judgement.gain), (Verdict::Forgot, Gain::Gained));
        let broken: Vec<_> = comparison.rows.iter().filter_map(|row| row.floor).collect();
        assert_eq!(broken, [RowFloor { margin: 0.05, decision: FloorDecision::Forgot }]);
    }

    #[test]
    fn without_floors_nothing_is_judged() {
        let (before, after) = (classified(100), classified(180));
        let domain = pair("icd10", &before, &after, None);
        assert_eq!(compare(Some(&domain), &[], BOOTSTRAP).unwrap().judgement, None);
    }

    #[test]
    fn scores_of_different_kinds_are_refused_by_the_name_of_the_suite() {
        let (text, choice) = (texts(1.0), questions(4));
        let error = compare(None, &[pair("prose", &text, &choice, None)], BOOTSTRAP).unwrap_err();
        assert_eq!(error, CompareError::DifferentKinds { suite: "prose".to_owned() });
        let shorter = Scores::TextLoss { items: vec![DocumentLoss { nats: 1.0, tokens: 1, bytes: 1 }] };
        let error = compare(None, &[pair("prose", &text, &shorter, None)], BOOTSTRAP).unwrap_err();
        assert!(
            error.to_string().starts_with("suite prose: the tuned model's column has 1 entries for 100"),
            "{error}"
        );
    }
}
