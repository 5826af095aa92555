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
