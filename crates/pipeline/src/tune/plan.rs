//! What a search will take, before it begins.

use serde::{Deserialize, Serialize};
use temper_recipe::{EarlyStopping, Tune};
use temper_search::Space;

use super::space::described;
use crate::Prepared;

/// When a search ends: whatever comes first. Without any, after 30 trials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// Trials begun; 30 where nothing bounds the search.
    pub trials: Option<u64>,
    /// Seconds, the finalists with them.
    pub seconds: Option<f64>,
    /// Tokens trained on.
    pub tokens: Option<u64>,
}

/// Trials where nothing else bounds a search. A decision: enough for a Gaussian process to leave its random start behind.
pub const TRIALS: u64 = 30;

impl Budget {
    /// The recipe's, with what the command line says in its place.
    pub fn of(tune: &Tune, given: Self) -> Self {
        let of = |valued: &Option<temper_recipe::Valued<u64>>| valued.as_ref().map(|valued| valued.value);
        let minutes = tune.minutes.as_ref().map(|minutes| 60.0 * minutes.value);
        let budget = Self {
            trials: given.trials.or(of(&tune.trials)),
            seconds: given.seconds.or(minutes),
            tokens: given.tokens.or(of(&tune.tokens)),
        };
        match budget {
            Self { trials: None, seconds: None, tokens: None } => Self { trials: Some(TRIALS), ..budget },
            budget => budget,
        }
    }
}

/// Lengths at which trials are compared, in thousandths of the full one.
pub fn rungs(tune: &Tune) -> Vec<u64> {
    let reduction = tune.reduction_factor.value as f64;
    let at = |below: u64| ((1000.0 / reduction.powi(below as i32)).round() as u64).max(1);
    let mut rungs: Vec<u64> = (0..tune.rungs.value).rev().map(at).collect();
    rungs.dedup();
    rungs
}

/// The share of a full training that a trial takes on average. With successive halving one of `reduction_factor` trials goes on
/// beyond each rung; other rules are not foretold.
pub fn expected_share(tune: &Tune) -> f64 {
    if !matches!(tune.early_stopping.value, EarlyStopping::Asha | EarlyStopping::Hyperband) {
        return 1.0;
    }
    let (mut share, mut before, mut left) = (0.0, 0, 1.0);
    for rung in rungs(tune) {
        share += left * (rung - before) as f64 / 1000.0;
        (before, left) = (rung, left / tune.reduction_factor.value as f64);
    }
    share
}

/// What a search will do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StudyPlan {
    /// What is searched, one line each.
    pub space: Vec<String>,
    /// Points of it; none where they cannot be counted.
    pub points: Option<u64>,
    /// The objectives, each with its direction.
    pub objectives: Vec<String>,
    /// The constraints.
    pub constraints: Vec<String>,
    /// When it ends.
    pub budget: Budget,
    /// Lengths at which trials are compared, in thousandths of the full one.
    pub rungs: Vec<u64>,
    /// Trials that are expected within the budget, by the recipe's own values.
    pub trials: u64,
    /// Share of a full training that a trial takes on average.
    pub share: f64,
    /// Of one trial at its full length.
    pub trial: TrialPlan,
    /// What the trials have in common is trained once: the first stages, which nothing that is searched changes.
    pub shared: Shared,
    /// Seconds of the whole search, the finalists and the test with it.
    pub seconds: f64,
    /// Seconds of it that are kept back for finalists and test.
    pub kept_back: f64,
    /// Tokens that go through the model in training.
    pub tokens: u64,
    /// Bytes on disk, at most.
    pub disk_bytes: u64,
}

/// One trial at its full length.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct TrialPlan {
    /// Seconds.
    pub seconds: f64,
    /// Tokens that go through the model.
    pub tokens: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes of its folder.
    pub disk_bytes: u64,
}

/// What the largest trial needs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Room {
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes of its folder.
    pub disk_bytes: u64,
}

impl Room {
    /// What a trial needs, where that is more.
    #[must_use]
    pub fn or(self, trial: &Prepared) -> Self {
        let estimate = &trial.plan().estimate;
        Self {
            memory_bytes: self.memory_bytes.max(estimate.memory_bytes as u64),
            disk_bytes: self.disk_bytes.max(estimate.disk_bytes as u64),
        }
    }
}

/// What is trained once for all trials.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Shared {
    /// Stages.
    pub stages: usize,
    /// Seconds that this saves over the whole search.
    pub seconds: f64,
    /// Tokens that it saves.
    pub tokens: u64,
}

/// Trials at the end: the finalists and the recipe's own values, under further seeds.
pub fn repeats(tune: &Tune) -> u64 {
    if tune.finalists.value == 0 { 0 } else { (tune.finalists.value + 1) * tune.finalist_seeds.value }
}

/// Stages at the beginning that no parameter of the space reaches.
pub fn shared_stages(space: &Space, stages: usize) -> usize {
    let names = space.parameters().iter().map(|parameter| parameter.name.as_str());
    let names = names.chain(space.ties().iter().map(|tie| tie.name.as_str()));
    let names = names.chain(space.simplexes().iter().flat_map(|simplex| simplex.shares()));
    let first = names.map(|name| {
        let rest = name.strip_prefix("stages.").and_then(|rest| rest.split('.').next()?.parse().ok());
        rest.unwrap_or(0)
    });
    first.min().unwrap_or(0).min(stages.saturating_sub(1))
}

impl StudyPlan {
    /// Of the recipe's own values, prepared as a trial, with room for what others need.
    pub(super) fn of(
        prepared: &Prepared,
        room: Room,
        space: &Space,
        tune: &Tune,
        goals: &temper_search::Goals,
        budget: Budget,
    ) -> Self {
        let plan = prepared.plan();
        let seconds_of = |stage: &crate::StagePlan| stage.estimate.seconds + stage.estimate.validation_seconds;
        let tokens_of = |stage: &crate::StagePlan| -> u64 {
            stage.shares.sources.iter().map(|source| source.drawn.processed_tokens as u64).sum()
        };
        let shared = shared_stages(space, prepared.recipe.stages.len());
        let own = plan.stages.iter().filter(|stage| stage.of >= shared);
        let before = plan.stages.iter().filter(|stage| stage.of < shared);
        let judged = plan.estimate.judgement_seconds;
        let trial = TrialPlan {
            seconds: own.clone().map(seconds_of).sum::<f64>() + plan.estimate.saving_seconds,
            tokens: own.map(tokens_of).sum(),
            memory_bytes: room.memory_bytes,
            disk_bytes: room.disk_bytes,
        };
        let (prefix_seconds, prefix_tokens): (f64, u64) =
            before.fold((0.0, 0), |(seconds, tokens), stage| (seconds + seconds_of(stage), tokens + tokens_of(stage)));
        let share = expected_share(tune);
        // The finalists and the recipe's own values, each under further seeds.
        let repeats = repeats(tune);
        // Two trials are judged on the test rows, each beside the base.
        let kept_back = repeats as f64 * trial.seconds + 2.0 * judged;
        // The recipe's own values go their full length.
        let by_time = budget.seconds.map(|seconds| {
            let left = seconds - kept_back - prefix_seconds - trial.seconds;
            1 + (left / (share * trial.seconds).max(1e-9)).max(0.0) as u64
        });
        let by_tokens = budget.tokens.map(|tokens| {
            let left = tokens.saturating_sub(trial.tokens * (repeats + 1) + prefix_tokens);
            1 + (left as f64 / (share * trial.tokens as f64).max(1.0)) as u64
        });
        let points = space.size();
        let trials = [budget.trials, by_time, by_tokens, points].into_iter().flatten().min().unwrap_or(TRIALS);
        let trained = 1.0 + share * trials.saturating_sub(1) as f64;
        let spared = trials.saturating_sub(1) + repeats;
        Self {
            space: space.parameters().iter().map(described).collect(),
            points,
            objectives: goals.objectives.iter().map(ToString::to_string).collect(),
            constraints: goals.constraints.clone(),
            budget,
            rungs: rungs(tune),
            trials,
            share,
            shared: Shared { stages: shared, seconds: spared as f64 * prefix_seconds, tokens: spared * prefix_tokens },
            seconds: prefix_seconds + trained * trial.seconds + kept_back,
            kept_back,
            tokens: prefix_tokens + ((trained + repeats as f64) * trial.tokens as f64) as u64,
            disk_bytes: (trials + repeats) * trial.disk_bytes,
            trial,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail")]

    use temper_search::{Domain, Parameter};

    use super::*;

    #[test]
    fn stages_that_nothing_searched_reaches_are_shared() {
        let space =
            |name: &str| Space::new(vec![Parameter::new(name, Domain::float(0.0, 1.0))], vec![], vec![]).unwrap();
        assert_eq!(shared_stages(&space("stages.2.learning_rate"), 3), 2);
        assert_eq!(shared_stages(&space("stages.0.learning_rate"), 3), 0);
        assert_eq!(shared_stages(&space("base.source"), 3), 0);
    }
}
