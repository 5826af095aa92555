//! What `metrics.jsonl` says of stages that reinforce: rounds, validations by reward, and what the start earned.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::rollouts::Ends;
use crate::metrics::number;

/// A line of the file, of what is read here.
#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Line {
    Round(InStage<Round>),
    Reward(InStage<Validation>),
    Baseline(InStage<Baseline>),
    #[serde(other)]
    Other,
}

/// A record and its stage, from 1.
#[derive(Deserialize)]
pub(crate) struct InStage<T> {
    stage: usize,
    #[serde(flatten)]
    record: T,
}

/// What completions earned.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Means {
    pub completions: u64,
    /// None where nothing could be scored.
    pub reward: Option<f64>,
    pub reward_std: Option<f64>,
    pub unscored: u64,
    pub completion_length: f64,
    pub shortest: f64,
    pub longest: f64,
    /// Share that the limit cut.
    pub cut: f64,
    /// By the name of the reward.
    pub rewards: BTreeMap<String, Part>,
}

/// What one reward said.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Part {
    pub mean: Option<f64>,
    pub abstained: u64,
    pub failed: u64,
}

/// A round.
#[derive(Clone, Deserialize)]
pub(crate) struct Round {
    /// The step that was made with it first, in its stage.
    pub step: usize,
    #[serde(flatten)]
    pub means: Means,
    /// Share of the groups whose rewards are all the same.
    #[serde(default, deserialize_with = "number")]
    pub zero_variance: f64,
    #[serde(default)]
    pub resampled: u64,
    #[serde(default, deserialize_with = "number")]
    pub generation_seconds: f64,
    #[serde(default, deserialize_with = "number")]
    pub reward_seconds: f64,
    #[serde(default)]
    pub reward_ceiling: Option<f64>,
}

/// A validation by reward.
#[derive(Clone, Deserialize)]
pub(crate) struct Validation {
    /// Steps of its stage before it.
    pub step: usize,
    #[serde(default)]
    pub prompts: u64,
    #[serde(default)]
    pub greedy_reward: Option<f64>,
    /// Of the sampled completions; of the likeliest ones where none are sampled.
    #[serde(flatten)]
    pub means: Means,
    /// By k, as text; empty where none are sampled.
    #[serde(default)]
    pub pass_at: BTreeMap<String, f64>,
}

impl Validation {
    /// Whether completions were sampled beside the likeliest.
    pub fn sampled(&self) -> bool {
        !self.pass_at.is_empty()
    }

    /// Chance that at least one of k is solved, by k.
    pub fn pass_at(&self) -> Vec<(u64, f64)> {
        by_count(&self.pass_at)
    }
}

/// What the start earned.
#[derive(Clone, Deserialize)]
pub(crate) struct Baseline {
    pub prompts: u64,
    pub generations: u64,
    pub reward: Option<f64>,
    /// Share that earned something.
    pub positive: f64,
    pub solved: f64,
    #[serde(default)]
    pass_at: BTreeMap<String, f64>,
    /// Share of the groups with more than one reward.
    pub mixed: f64,
    pub cut: f64,
    pub completion_length: f64,
    /// The commonest reference answer, which may be left out, and what it would earn everywhere.
    #[serde(default)]
    pub majority: Option<(Option<String>, f64)>,
    /// `sft_first`, `worthwhile` or `not_needed`.
    pub verdict: String,
}

impl Baseline {
    /// Chance that at least one of k is solved, by k.
    pub fn pass_at(&self) -> Vec<(u64, f64)> {
        by_count(&self.pass_at)
    }
}

/// Keys of JSON are texts, in whose order 16 comes before 2.
fn by_count(chances: &BTreeMap<String, f64>) -> Vec<(u64, f64)> {
    let mut found: Vec<(u64, f64)> =
        chances.iter().filter_map(|(k, chance)| Some((k.parse().ok()?, *chance))).collect();
    found.sort_by_key(|&(k, _)| k);
    found
}

/// Something that was given as an alarm.
#[derive(Clone)]
pub(crate) struct Alarm {
    /// From 0.
    pub stage: usize,
    /// In its stage.
    pub step: usize,
    pub seen: String,
    pub advice: String,
}

/// A stage that reinforces.
#[derive(Default)]
pub(crate) struct Reinforced {
    /// Its place in the plan, from 0.
    pub stage: usize,
    pub rounds: Vec<Round>,
    pub validations: Vec<Validation>,
    pub baseline: Option<Baseline>,
    /// Completions of its first and its last round; none where it left no file of them.
    pub rollouts: Option<Ends>,
    /// Whether it was taken from the cache; its alarms and rollouts stayed with the run that made it.
    pub reused: bool,
}

impl Reinforced {
    /// The validation whose weights are taken: the first of the highest; none where nothing could be scored.
    pub fn best_validation(&self) -> Option<&Validation> {
        let reward = |v: &&Validation| v.means.reward.unwrap_or(f64::NEG_INFINITY);
        let scored = self.validations.iter().filter(|v| v.means.reward.is_some());
        scored.rev().max_by(|a, b| reward(a).total_cmp(&reward(b)))
    }
}

/// The stages of these places, each with its lines. What a resumed run wrote again counts once.
pub(crate) fn read(lines: Vec<Line>, stages: &[usize]) -> Vec<Reinforced> {
    let mut found: Vec<Reinforced> =
        stages.iter().map(|&stage| Reinforced { stage, ..Reinforced::default() }).collect();
    for line in lines {
        let stage = match &line {
            Line::Round(InStage { stage, .. }) => stage,
            Line::Reward(InStage { stage, .. }) => stage,
            Line::Baseline(InStage { stage, .. }) => stage,
            Line::Other => continue,
        };
        let Some(one) = found.iter_mut().find(|one| one.stage + 1 == *stage) else { continue };
        match line {
            Line::Round(InStage { record, .. }) => {
                one.rounds.retain(|old| old.step < record.step);
                one.rounds.push(record);
            }
            Line::Reward(InStage { record, .. }) => {
                one.validations.retain(|old| old.step < record.step);
                one.validations.push(record);
            }
            Line::Baseline(InStage { record, .. }) => one.baseline = Some(record),
            Line::Other => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_put_to_their_stage_and_what_was_written_again_counts_once() {
        let text = r#"{"stage":1,"event":"step","step":1,"loss":2.0}
{"stage":2,"event":"baseline","step":0,"prompts":7,"generations":2,"reward":null,"positive":0.5,"solved":0.25,"pass_at":{"1":0.25,"16":1.0,"2":0.5},"mixed":0.5,"cut":0.0,"completion_length":3.0,"majority":[null,0.2],"verdict":"worthwhile"}
{"stage":2,"event":"reward","step":0,"prompts":3,"reward":0.25,"pass_at":{"1":0.25}}
{"stage":2,"event":"round","step":1,"round":1,"reward":0.5,"zero_variance":0.25,"rewards":{"right":{"mean":null,"abstained":1,"failed":2}}}
{"stage":2,"event":"round","step":2,"round":2,"reward":0.6}
{"stage":2,"event":"round","step":2,"round":2,"reward":0.75}
{"stage":3,"event":"reward","step":0,"prompts":3,"greedy_reward":0.5,"reward":0.5}"#;
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [second, third] = &read(lines, &[1, 2])[..] else { panic!("two stages") };
        assert_eq!(second.rounds.iter().map(|r| r.means.reward).collect::<Vec<_>>(), [Some(0.5), Some(0.75)]);
        let right = &second.rounds[0].means.rewards["right"];
        assert_eq!((right.mean, right.abstained, right.failed), (None, 1, 2));
        let baseline = second.baseline.as_ref().unwrap();
        assert_eq!((baseline.pass_at(), baseline.reward), (vec![(1, 0.25), (2, 0.5), (16, 1.0)], None));
        assert!(second.validations[0].sampled() && !third.validations[0].sampled());
        assert_eq!(second.best_validation().map(|v| v.step), Some(0));
        assert!(third.rounds.is_empty() && third.baseline.is_none());
    }
}
