//! What is measured of a study: all that a rule may look at.

use temper_search::{Domain, History, Measured, Point, State, Value};

use crate::tune::{Answer, Lead, Repeated, leads};

/// Trials of a study for each field that is searched, below which its answer is luck.
const TRIALS_A_FIELD: usize = 5;
/// Trials of a study below which its answer is luck, however few fields are searched.
const TRIALS: usize = 10;

/// A study so far.
#[derive(Debug, Default)]
pub(super) struct Searched {
    /// Trials that were measured at some length.
    pub measured: usize,
    /// Trials that failed.
    pub failed: usize,
    /// Why the last one did.
    pub failure: Option<String>,
    /// Trials in all.
    pub trials: usize,
    /// How many trials would do.
    pub wanted: usize,
    pub recommended: Option<u64>,
    pub feasible: bool,
    /// Where the recommended trial lies at an end of what was searched.
    pub edges: Vec<Edge>,
    /// Of the recommended trial over the recipe's own, by objective.
    pub leads: Vec<Lead>,
    /// Further seeds of each finalist.
    pub seeds: u64,
    /// Whether the recommended trial is better than the recipe's own on rows that the search has not seen, by more than noise;
    /// none
    /// where that was not measured.
    pub sealed: Option<bool>,
}

/// A field whose recommended value lies at an end of its range.
#[derive(Debug, PartialEq)]
pub(super) struct Edge {
    pub field: String,
    pub value: String,
    /// `low` or `high`.
    pub end: &'static str,
    pub range: String,
}

impl Searched {
    /// Of the trials so far, those that were repeated under other seeds, and the rows that the search has not seen.
    pub fn of(history: &History, repeated: &[Repeated], seeds: u64, sealed: Option<bool>) -> Self {
        let answer = Answer::of(history, repeated);
        let trials = history.trials();
        let has = |measured: &Option<Measured>| measured.is_some();
        let failed = || trials.iter().filter(|trial| trial.state == State::Failed);
        let fields = history.space().parameters().len();
        let winner = answer.recommended.and_then(|number| history.trial(number));
        Self {
            measured: trials.iter().filter(|trial| has(&trial.result) || !trial.reports.is_empty()).count(),
            failed: failed().count(),
            failure: failed().next_back().and_then(|trial| trial.reason.clone()),
            trials: trials.len(),
            wanted: TRIALS.max(TRIALS_A_FIELD * fields),
            recommended: answer.recommended,
            feasible: answer.feasible,
            edges: winner.map_or_else(Vec::new, |trial| edges(history, &trial.point)),
            leads: answer.recommended.map_or_else(Vec::new, |number| leads(history, repeated, number)),
            seeds,
            sealed,
        }
    }
}

/// The fields of a point that lie in the last twentieth of their range, or have the first or last of its whole numbers or
/// steps.
fn edges(history: &History, point: &Point) -> Vec<Edge> {
    const END: f64 = 0.05;
    let edge = |parameter: &temper_search::Parameter| {
        let value = point.get(&parameter.name)?;
        let place = parameter.domain.coordinate(value)?;
        let (low, high, discrete) = match &parameter.domain {
            Domain::Float { low, high, step, .. } => (*low, *high, step.is_some()),
            Domain::Int { low, high, .. } => (*low as f64, *high as f64, true),
            Domain::Choice { values } => {
                let numbers: Option<Vec<f64>> = values.iter().map(number).collect();
                let numbers = numbers.filter(|numbers| numbers.len() > 2)?;
                let low = numbers.iter().copied().fold(f64::INFINITY, f64::min);
                (low, numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max), true)
            }
        };
        let number = number(value)?;
        let (at_low, at_high) =
            if discrete { (number <= low, number >= high) } else { (place <= END, place >= 1.0 - END) };
        // Below nothing there is nothing, and shares end at a hundred.
        let whole = parameter.name.ends_with(".domain") || parameter.name.ends_with(".share");
        let end = match (at_low && low > 0.0, at_high && !(whole && high >= 100.0)) {
            _ if low >= high => return None,
            (true, _) => "low",
            (_, true) => "high",
            _ => return None,
        };
        let range = format!("{low} to {high}");
        Some(Edge { field: parameter.name.clone(), value: number.to_string(), end, range })
    };
    history.space().parameters().iter().filter_map(edge).collect()
}

fn number(value: &Value) -> Option<f64> {
    value.number()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail")]

    use temper_search::{Goals, Parameter, Space, Trial};

    use super::*;

    #[test]
    fn the_ends_of_a_range_are_found_where_it_could_go_on() {
        let parameters = vec![
            Parameter::new("stages.0.learning_rate", Domain::log_float(1e-5, 1e-3)),
            Parameter::new("stages.0.lora_rank", Domain::choice([4i64, 8, 16])),
            Parameter::new("stages.0.warmup_steps", Domain::int(0, 10)),
            Parameter::new("stages.0.mix.domain", Domain::float(50.0, 100.0)),
            Parameter::new("stages.0.mode", Domain::choice(["full", "lora"])),
        ];
        let history = History::new(Space::new(parameters, vec![], vec![]).unwrap(), Goals::minimize("loss"));
        let point = |rate: f64, rank: i64, warmup: i64, domain: f64| {
            Point::from([
                ("stages.0.learning_rate".into(), rate.into()),
                ("stages.0.lora_rank".into(), rank.into()),
                ("stages.0.warmup_steps".into(), warmup.into()),
                ("stages.0.mix.domain".into(), domain.into()),
                ("stages.0.mode".into(), "lora".into()),
            ])
        };
        let found =
            |point: &Point| edges(&history, point).into_iter().map(|edge| (edge.field, edge.end)).collect::<Vec<_>>();
        assert_eq!(found(&point(1e-4, 8, 5, 70.0)), []);
        assert_eq!(found(&point(1e-4, 8, 0, 100.0)), [], "nothing lies beyond 0 and 100");
        let high = found(&point(9.9e-4, 16, 10, 50.0));
        let names: Vec<_> = high.iter().map(|(field, end)| (field.as_str(), *end)).collect();
        assert_eq!(
            names,
            [
                ("stages.0.learning_rate", "high"),
                ("stages.0.lora_rank", "high"),
                ("stages.0.warmup_steps", "high"),
                ("stages.0.mix.domain", "low")
            ]
        );
    }

    #[test]
    fn trials_are_counted_as_they_ended() {
        let space = Space::new(vec![Parameter::new("x", Domain::float(1.0, 2.0))], vec![], vec![]).unwrap();
        let mut history = History::new(space, Goals::minimize("loss"));
        for number in 0..4 {
            let trial = Trial::new(number, Point::from([("x".into(), 1.5.into())]));
            let result = (number < 3).then(|| Measured { values: vec![number as f64], constraints: vec![] });
            let state = if number < 3 { State::Complete } else { State::Failed };
            history.put(Trial { state, result, reason: (number == 3).then(|| "out of memory".into()), ..trial });
        }
        let searched = Searched::of(&history, &[], 1, None);
        assert_eq!((searched.measured, searched.failed, searched.trials, searched.wanted), (3, 1, 4, 10));
        assert_eq!((searched.recommended, searched.feasible), (Some(0), true));
        assert_eq!(searched.failure.as_deref(), Some("out of memory"));
    }
}
