//! `metrics.jsonl`: steps and validations, each with the step of the whole run.

use serde::{Deserialize, Deserializer};

/// A line of the file. Fields that a kind of line does not have are NaN.
#[derive(Deserialize)]
pub(crate) struct Line {
    event: String,
    /// From 1; older versions wrote none.
    #[serde(default)]
    stage: Option<usize>,
    step: usize,
    #[serde(default = "nan", deserialize_with = "number")]
    loss: f64,
    #[serde(default, deserialize_with = "numbers")]
    loss_by_source: Vec<f64>,
    #[serde(default = "nan", deserialize_with = "number")]
    learning_rate: f64,
    #[serde(default = "nan", deserialize_with = "number")]
    gradient_norm: f64,
    #[serde(default)]
    processed_tokens: u64,
    #[serde(default = "nan", deserialize_with = "number")]
    seconds: f64,
    #[serde(default)]
    best: bool,
    #[serde(default)]
    suite: String,
    #[serde(default = "nan", deserialize_with = "number")]
    relative: f64,
    #[serde(default = "nan", deserialize_with = "number")]
    low: f64,
    #[serde(default = "nan", deserialize_with = "number")]
    high: f64,
    /// Preference pairs; none in other lines.
    #[serde(default)]
    pairs: usize,
    #[serde(default = "nan", rename = "rewards/chosen", deserialize_with = "number")]
    rewards_chosen: f64,
    #[serde(default = "nan", rename = "rewards/rejected", deserialize_with = "number")]
    rewards_rejected: f64,
    #[serde(default = "nan", rename = "rewards/margins", deserialize_with = "number")]
    margins: f64,
    #[serde(default = "nan", rename = "rewards/accuracies", deserialize_with = "number")]
    accuracies: f64,
    #[serde(default = "nan", rename = "logps/chosen", deserialize_with = "number")]
    logps_chosen: f64,
    #[serde(default = "nan", rename = "logps/rejected", deserialize_with = "number")]
    logps_rejected: f64,
    /// What a step over rollouts saw; NaN in other lines.
    #[serde(default = "nan", deserialize_with = "number")]
    kl: f64,
    #[serde(default = "nan", deserialize_with = "number")]
    entropy: f64,
    #[serde(default = "nan", deserialize_with = "number")]
    clip_low: f64,
    #[serde(default = "nan", deserialize_with = "number")]
    clip_high: f64,
}

/// What a model makes of preference pairs, of a step or a validation.
#[derive(Clone, Copy)]
pub(crate) struct Preference {
    pub rewards: [f64; 2],
    pub margin: f64,
    /// Share of the pairs whose better answer has the higher reward.
    pub accuracy: f64,
    /// Of the better and the worse answers, nats.
    pub logps: [f64; 2],
}

/// What a step over rollouts saw; NaN where it saw nothing of it, all of it in steps of other stages.
#[derive(Clone, Copy)]
pub(crate) struct Policy {
    /// Divergence from the reference, nats per token.
    pub kl: f64,
    /// Nats per token.
    pub entropy: f64,
    /// Share of the tokens whose ratio was held from below, and from above.
    pub clipped: [f64; 2],
}

impl Line {
    fn preference(&self) -> Option<Preference> {
        (self.pairs > 0).then_some(Preference {
            rewards: [self.rewards_chosen, self.rewards_rejected],
            margin: self.margins,
            accuracy: self.accuracies,
            logps: [self.logps_chosen, self.logps_rejected],
        })
    }
}

fn nan() -> f64 {
    f64::NAN
}

/// A number, or the name of one that is not finite.
pub(crate) fn number<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Number::deserialize(from).map(|number| number.0)
}

fn numbers<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
    Ok(Vec::<Number>::deserialize(from)?.into_iter().map(|number| number.0).collect())
}

struct Number(f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(f64),
            Name(String),
        }
        match Written::deserialize(from)? {
            Written::Number(number) => Ok(Self(number)),
            Written::Name(name) => name.parse().map(Self).map_err(serde::de::Error::custom),
        }
    }
}

/// One optimiser step.
pub(crate) struct Step {
    pub stage: usize,
    /// Steps of the run so far, over all stages.
    pub at: usize,
    pub loss: f64,
    pub by_source: Vec<f64>,
    pub learning_rate: f64,
    pub gradient_norm: f64,
    pub processed_tokens: u64,
    pub seconds: f64,
    pub preference: Option<Preference>,
    pub policy: Policy,
}

/// One validation.
pub(crate) struct Validation {
    pub stage: usize,
    pub at: usize,
    pub loss: f64,
    pub best: bool,
    pub preference: Option<Preference>,
}

/// Held-out text of a general suite, scored in passing.
pub(crate) struct General {
    pub at: usize,
    pub suite: String,
    /// Nats per token.
    pub loss: f64,
    /// Change since before training, as a share, with its interval.
    pub relative: [f64; 3],
}

/// All of a run's numbers, in order.
#[derive(Default)]
pub(crate) struct Metrics {
    pub steps: Vec<Step>,
    pub validations: Vec<Validation>,
    pub general: Vec<General>,
}

/// Puts the lines in order. `stage_steps` are the steps of each stage by the plan.
///
/// Steps of a stage count from 1. Where lines name no stage, one that goes back to the start after the last step of a stage
/// begins the next. A line that goes back otherwise comes from a run that was resumed, and what was written from that
/// step on is forgotten.
pub(crate) fn read(lines: Vec<Line>, stage_steps: &[usize]) -> Metrics {
    let mut metrics = Metrics::default();
    let (mut stage, mut last) = (0, 0);
    for line in lines {
        if !matches!(line.event.as_str(), "step" | "validation" | "general") {
            continue;
        }
        let steps = stage_steps.get(stage).copied().unwrap_or(usize::MAX);
        let next = line.step <= 1 && last == steps && stage + 1 < stage_steps.len();
        stage = line.stage.map_or(stage + usize::from(next), |number| number.saturating_sub(1));
        last = line.step;
        let at = stage_steps.iter().take(stage).sum::<usize>() + line.step;
        if line.event == "general" {
            metrics.general.retain(|old| old.suite != line.suite || old.at < at);
            let Line { suite, loss, relative, low, high, .. } = line;
            metrics.general.push(General { at, suite, loss, relative: [low, relative, high] });
            continue;
        }
        while metrics.validations.last().is_some_and(|old| old.stage == stage && old.at >= at) {
            metrics.validations.pop();
        }
        let preference = line.preference();
        if line.event == "validation" {
            metrics.validations.push(Validation { stage, at, loss: line.loss, best: line.best, preference });
            continue;
        }
        while metrics.steps.last().is_some_and(|old| old.at >= at) {
            metrics.steps.pop();
        }
        metrics.steps.push(Step {
            stage,
            at,
            loss: line.loss,
            by_source: line.loss_by_source,
            learning_rate: line.learning_rate,
            gradient_norm: line.gradient_norm,
            processed_tokens: line.processed_tokens,
            seconds: line.seconds,
            preference,
            policy: Policy { kl: line.kl, entropy: line.entropy, clipped: [line.clip_low, line.clip_high] },
        });
    }
    metrics
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, stage_steps: &[usize]) -> Metrics {
        read(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), stage_steps)
    }

    #[test]
    fn steps_count_on_over_stages_and_nan_is_read_back() {
        let text = r#"{"event":"validation","step":0,"loss":3.0,"best":true}
{"event":"step","step":1,"loss":2.5,"loss_by_source":[2.0,"NaN"],"learning_rate":1e-3,"gradient_norm":"Infinity","processed_tokens":10,"trained_tokens":4,"seconds":0.5}
{"event":"step","step":2,"loss":2.0,"loss_by_source":[1.0,3.0]}
{"event":"validation","step":2,"loss":"NaN","best":false}
{"event":"something_new","step":1}
{"event":"validation","step":0,"loss":2.0,"best":true}
{"event":"step","step":1,"loss":1.5}"#;
        let metrics = parse(text, &[2, 3]);
        let steps: Vec<_> = metrics.steps.iter().map(|s| (s.stage, s.at, s.loss)).collect();
        assert_eq!(steps, [(0, 1, 2.5), (0, 2, 2.0), (1, 3, 1.5)]);
        assert!(metrics.steps[0].by_source[1].is_nan() && metrics.steps[0].gradient_norm.is_infinite());
        let validations: Vec<_> = metrics.validations.iter().map(|v| (v.stage, v.at)).collect();
        assert_eq!(validations, [(0, 0), (0, 2), (1, 2)]);
        assert!(metrics.validations[1].loss.is_nan());
    }

    #[test]
    fn lines_that_name_their_stage_are_put_there_and_general_text_is_kept_by_suite() {
        let general = |stage: usize, step: usize, loss: f64| {
            format!(
                "{{\"stage\":{stage},\"event\":\"general\",\"step\":{step},\"suite\":\"heldout\",\"items\":3,\"loss\":{loss},\"relative\":0.1,\"low\":0.05,\"high\":0.2}}\n"
            )
        };
        let step = "{\"stage\":2,\"event\":\"step\",\"step\":1,\"loss\":1.5}\n";
        // The first stage ended early, after 3 of 5 steps; the second looked twice, since it was resumed.
        let text = [general(1, 0, 3.0), general(1, 3, 3.5), step.to_owned(), general(2, 1, 4.0), general(2, 1, 4.5)];
        let metrics = parse(&text.concat(), &[5, 5]);
        assert_eq!(metrics.steps.iter().map(|s| (s.stage, s.at)).collect::<Vec<_>>(), [(1, 6)]);
        let general: Vec<_> = metrics.general.iter().map(|g| (g.at, g.loss, g.relative)).collect();
        let relative = [0.05, 0.1, 0.2];
        assert_eq!(general, [(0, 3.0, relative), (3, 3.5, relative), (6, 4.5, relative)]);
    }

    #[test]
    fn what_pairs_say_is_read_and_other_lines_say_none() {
        let text = r#"{"event":"step","step":1,"loss":0.69,"pairs":4,"rewards/chosen":0.1,"rewards/rejected":-0.2,"rewards/margins":0.3,"rewards/accuracies":0.75,"logps/chosen":-9.0,"logps/rejected":-12.0}
{"event":"step","step":2,"loss":2.0}"#;
        let metrics = parse(text, &[2]);
        let pairs = metrics.steps[0].preference.unwrap();
        assert_eq!((pairs.rewards, pairs.margin, pairs.accuracy), ([0.1, -0.2], 0.3, 0.75));
        assert_eq!(pairs.logps, [-9.0, -12.0]);
        assert!(metrics.steps[1].preference.is_none());
    }

    #[test]
    fn what_a_resumed_run_wrote_again_counts_once() {
        let step = |step: usize, loss: f64| format!("{{\"event\":\"step\",\"step\":{step},\"loss\":{loss}}}\n");
        let text = [step(1, 3.0), step(2, 2.0), step(3, 1.0), step(2, 2.5), step(3, 1.5)].concat();
        let metrics = parse(&text, &[5]);
        assert_eq!(metrics.steps.iter().map(|s| s.loss).collect::<Vec<_>>(), [3.0, 2.5, 1.5]);
    }
}
