//! A study as a page: what the report and the terminal show of it.

use std::collections::BTreeMap;

use temper_eval::compare::Row;
use temper_eval::stats::Interval;
use temper_recipe::{Bound as Floor, StageKind};
use temper_report::Style;
use temper_report::study::{Bound, Finalist, Measure, Recommended, Sealed, Spent, StudyPage};
use temper_search::History;
use temper_search::store::Spent as Cost;

use super::builtin::{FORGETTING, REWARD, SIGNALS, VALIDATION_LOSS};
use super::finish::Finish;
use super::study::Study;

impl Study {
    /// What is known of the study: its trials, and at its end the answer. `spent`: what each trial took, by number.
    pub fn page<'a>(&'a self, history: &'a History, spent: &[(u64, Cost)], finish: Option<&Finish>) -> StudyPage<'a> {
        let objectives = &history.goals().objectives;
        let last = self.recipe.as_ref().and_then(|recipe| recipe.stages.last()).map(|stage| stage.kind.value);
        let measure = |name: &str| {
            let (label, unit) = match name {
                VALIDATION_LOSS if last == Some(StageKind::Dpo) => ("validation loss", "per pair"),
                VALIDATION_LOSS => ("validation loss", "nats per token"),
                FORGETTING => ("forgetting", "% rise of the loss"),
                REWARD if last == Some(StageKind::Rft) => ("validation reward", ""),
                name if last == Some(StageKind::Rft) && SIGNALS.contains(&name) => (name, ""),
                name if last.is_some() => (name, "% rise of the loss"),
                name => (name, ""),
            };
            Measure { label: label.to_owned(), unit: unit.to_owned(), scale: 1.0 }
        };
        let spent = spent.iter().map(|(number, cost)| (*number, Spent { tokens: cost.tokens, seconds: cost.seconds }));
        StudyPage {
            measures: objectives.iter().map(|objective| measure(&objective.name)).collect(),
            bounds: self.floors(history),
            default: self.searchable.own.as_ref().map(|_| 0),
            recommended: finish.and_then(|finish| self.recommended(finish)),
            finalists: finish.map_or_else(Vec::new, finalists),
            sealed: finish.map_or_else(Vec::new, sealed),
            spent: spent.collect::<BTreeMap<_, _>>(),
            budget_unit: "thousandths of the full length",
            rungs: super::plan::rungs(&self.tune),
            notes: finish.map_or_else(Vec::new, |finish| finish.notes.clone()),
            ..StudyPage::new(&self.name, history)
        }
    }

    /// Floors of text suites, where their rise is an axis: that of one suite, or of the only one that is watched.
    fn floors(&self, history: &History) -> Vec<Bound> {
        let Some(evaluation) = self.recipe.as_ref().and_then(|recipe| recipe.evaluation.as_ref()) else {
            return Vec::new();
        };
        let floors = evaluation.floors.iter().filter_map(|floor| match floor.bound.value {
            Floor::MaxIncreasePercent(percent) => Some((floor.suite.as_str(), percent)),
            _ => None,
        });
        let floors: Vec<(&str, f64)> = floors.collect();
        let objectives = history.goals().objectives.iter().enumerate();
        objectives
            .flat_map(|(objective, axis)| {
                let ours = |suite: &str| suite == axis.name || (axis.name == FORGETTING && floors.len() == 1);
                let on_it = floors.iter().filter(move |(suite, _)| ours(suite));
                on_it
                    .map(move |(suite, at)| Bound { objective, at: *at, label: format!("floor of {suite}") })
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    fn recommended(&self, finish: &Finish) -> Option<Recommended> {
        let trial = finish.answer.recommended?;
        let lead = finish.sealed.as_ref().and_then(|sealed| sealed.domain_lead());
        let sure = match lead {
            Some(row) => is_gain(row),
            // Without a domain's test the seeds of the validation are all there is.
            None => finish
                .validation
                .first()
                .is_some_and(|lead| lead.better && lead.interval.is_some_and(|(low, high)| low > 0.0 || high < 0.0)),
        };
        Some(Recommended { trial, reason: finish.answer.reason.clone(), sure })
    }
}

/// Whether the difference is better by more than its 95 % interval.
pub(crate) fn is_gain(row: &Row) -> bool {
    let Interval { low, high, .. } = row.difference;
    if row.higher_is_better { low > 0.0 } else { high < 0.0 }
}

fn finalists(finish: &Finish) -> Vec<Finalist> {
    let seeds = |runs: &[(u64, Option<temper_search::Measured>)]| {
        runs.iter().filter_map(|(seed, measured)| Some((*seed, measured.clone()?))).collect()
    };
    finish.repeated.iter().map(|one| Finalist { trial: one.number, seeds: seeds(&one.runs) }).collect()
}

/// The recommended trial and the recipe's own on rows that the search has not seen; what compares by itself has no value of its own.
fn sealed(finish: &Finish) -> Vec<Sealed> {
    let rows = finish.sealed.iter().flat_map(|sealed| &sealed.lead);
    let line = |row: &Row| {
        let style = Style::of(row.metric);
        let kind = row.kind.as_ref().map_or(String::new(), |kind| format!(" / {kind}"));
        let scaled = |value: f64| style.scaled(value);
        let Interval { estimate, low, high, .. } = row.difference;
        let worse = if row.higher_is_better { high < 0.0 } else { low > 0.0 };
        Some(Sealed {
            what: format!("{}{kind}, {}", row.suite, style.short),
            unit: style.unit.to_owned(),
            default: scaled(row.base?),
            recommended: scaled(row.tuned),
            difference: [scaled(low), scaled(estimate), scaled(high)],
            higher_is_better: row.higher_is_better,
            decision: if is_gain(row) {
                "better"
            } else if worse {
                "worse"
            } else {
                "no more than noise"
            }
            .to_owned(),
            good: if is_gain(row) { Some(true) } else { worse.then_some(false) },
        })
    };
    rows.filter_map(line).collect()
}
