//! What a stage that reinforces takes: rounds of decoding beside the steps.
//!
//! How long completions become nobody knows before; where the start's baseline was measured its mean length is taken, else the
//! longest that is allowed.

use temper_data::{Example, MicroBatch, micro_batches};

use super::PLACES;
use crate::prepare::{Prepared, PreparedStage};
use crate::rft::{Baseline, Rft};

/// What a stage's rounds are counted from.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    /// Optimiser steps, those of a pass over a round, and passes.
    steps: f64,
    parts: f64,
    rounds: f64,
    /// Prompts that rounds draw, and their tokens.
    prompts: f64,
    tokens: f64,
    /// Tokens of the general rows that rounds draw.
    general_tokens: f64,
    /// Completions of a prompt, and tokens of a completion.
    generations: f64,
    length: f64,
    /// Models that score the completions before a step.
    scorers: f64,
    /// Share of the groups that teach nothing, and how often they are replaced.
    stuck: f64,
    resample_rounds: i32,
    /// Prompts of the baseline; 0 where it is known.
    baseline: f64,
    /// How often validation prompts are answered, how many of them, and sampled completions of each beside the likeliest.
    validations: f64,
    validation_prompts: f64,
    validation_generations: f64,
}

/// What is decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Decoding {
    /// Tokens of prompts that are read, each prompt once for all its completions.
    pub prompts: f64,
    /// Steps of decoding [`PLACES`] sequences.
    pub steps: f64,
}

/// Tokens of a stage's rounds, by what they cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rounds {
    /// Before the first round and in all of them.
    pub sampled: Decoding,
    /// Of validations.
    pub validated: Decoding,
    /// Tokens that go through the model for log-probabilities that are known before a step: of the reference, of the weights that
    /// sampled.
    pub scored: f64,
    /// Completions' tokens of them.
    pub asked: f64,
    /// Tokens of completions that are trained, over all passes: the head is gone through once more for each.
    pub trained: f64,
    /// Tokens of the rows of one pass over one round, prompts once; general ones among them.
    pub of_round: f64,
    /// Passes over rounds; the last one may be begun and not ended.
    pub passes: f64,
}

impl Counts {
    /// Of stage `index`, which has so many validations; none of another kind.
    fn of(prepared: &Prepared, index: usize, validations: usize) -> Option<Self> {
        let stage = &prepared.stages[index];
        let rft = stage.rft.as_ref()?;
        let known = measured(prepared, index);
        let drawn = |general: bool| {
            let sources = stage.sources.iter().zip(&stage.schedule.shares().sources);
            let of = sources.filter(move |(source, _)| source.general == general).map(|(_, share)| share.drawn);
            of.fold((0.0, 0.0), |(n, t), u| (n + u.samples as f64, t + u.processed_tokens as f64))
        };
        let ((prompts, tokens), (_, general_tokens)) = (drawn(false), drawn(true));
        let all: usize = rft.prompts.iter().map(Vec::len).sum();
        Some(Self {
            steps: stage.settings.learning_rate.steps as f64,
            parts: rft.parts as f64,
            rounds: stage.schedule.steps().len() as f64,
            prompts,
            tokens,
            general_tokens,
            generations: rft.generations as f64,
            length: length(prepared, index, rft),
            scorers: f64::from(u8::from(rft.reference.is_some())) + f64::from(u8::from(rft.steps_of_round() > 1)),
            stuck: known.as_ref().map_or(0.0, |baseline| 1.0 - baseline.mixed),
            resample_rounds: rft.resample_rounds as i32,
            baseline: if known.is_some() { 0.0 } else { rft.gate.prompts.min(all) as f64 },
            validations: validations as f64,
            validation_prompts: rft.validation.len().min(rft.validation_prompts) as f64,
            validation_generations: rft.validation_generations as f64,
        })
    }

    fn rounds(&self) -> Rounds {
        let mean = self.tokens / self.prompts.max(1.0);
        let decoding = |prompts: f64, completions: f64, times: f64| Decoding {
            prompts: times * prompts * mean,
            steps: times * (prompts * completions / PLACES as f64).ceil() * self.length,
        };
        let of_round = self.prompts / self.rounds.max(1.0);
        let mut sampled = decoding(of_round, self.generations, self.rounds);
        sampled.add(decoding(self.baseline, self.generations, 1.0));
        for attempt in 1..=self.resample_rounds {
            sampled.add(decoding(of_round * self.stuck.powi(attempt), self.generations, self.rounds));
        }
        // The likeliest completion, and then the sampled ones.
        let mut validated = decoding(self.validation_prompts, 1.0, self.validations);
        if self.validation_generations > 0.0 {
            validated.add(decoding(self.validation_prompts, self.validation_generations, self.validations));
        }
        let completions = self.prompts * self.generations * self.length;
        let once = self.tokens + completions;
        let passes = self.steps / self.parts;
        let rounds = self.rounds.max(1.0);
        Rounds {
            sampled,
            validated,
            scored: self.scorers * once,
            asked: self.scorers * completions,
            trained: passes * completions / rounds,
            of_round: (once + self.general_tokens) / rounds,
            passes,
        }
    }
}

impl Decoding {
    fn add(&mut self, other: Self) {
        self.prompts += other.prompts;
        self.steps += other.steps;
    }

    /// Seconds, by those of a token that is read and of a step.
    pub fn seconds(self, token: f64, step: f64) -> f64 {
        self.prompts * token + self.steps * step
    }
}

fn measured(prepared: &Prepared, index: usize) -> Option<Baseline> {
    if index == 0 { prepared.baseline() } else { None }
}

/// Tokens that a completion is taken to have.
fn length(prepared: &Prepared, index: usize, rft: &Rft) -> f64 {
    measured(prepared, index).map_or(rft.longest as f64, |baseline| baseline.completion_length.max(1.0))
}

/// Of stage `index`, which has so many validations; none of another kind.
pub(super) fn rounds(prepared: &Prepared, index: usize, validations: usize) -> Option<Rounds> {
    Counts::of(prepared, index, validations).map(|counts| counts.rounds())
}

/// Rows as long as those of the middle round, for a step to be timed.
pub(super) fn stand_ins(prepared: &Prepared, index: usize) -> Vec<MicroBatch> {
    let stage: &PreparedStage = &prepared.stages[index];
    let (Some(rft), Some(round)) = (&stage.rft, stage.schedule.steps().get(stage.schedule.steps().len() / 2)) else {
        return Vec::new();
    };
    let length = length(prepared, index, rft).ceil() as usize;
    let mut rows = Vec::new();
    for at in round.iter().filter(|at| !stage.sources[usize::from(at.source)].general) {
        // Rows that cannot be read any more are the run's to tell.
        let Ok(prompt) = stage.sources[usize::from(at.source)].example(at.index as usize) else { return Vec::new() };
        for sample in 0..rft.generations {
            let own = (0..length).map(|token| (11 + 7 * sample + 13 * token) as u32);
            let ids: Vec<u32> = prompt.ids.iter().copied().chain(own).collect();
            let weights = (0..ids.len()).map(|token| f32::from(u8::from(token >= prompt.ids.len()))).collect();
            rows.push(Example { ids, weights, row: 0 });
        }
    }
    let rows: Vec<_> = rows.iter().map(|row| (0, row)).collect();
    micro_batches(&rows, stage.micro_batch_tokens.max(stage.workspace_tokens()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten rounds of 16 prompts of 20 tokens, 8 completions of 12 tokens each, a step a round, a reference.
    const PLAIN: Counts = Counts {
        steps: 10.0,
        parts: 1.0,
        rounds: 10.0,
        prompts: 160.0,
        tokens: 3200.0,
        general_tokens: 0.0,
        generations: 8.0,
        length: 12.0,
        scorers: 1.0,
        stuck: 0.0,
        resample_rounds: 0,
        baseline: 0.0,
        validations: 0.0,
        validation_prompts: 0.0,
        validation_generations: 0.0,
    };

    #[test]
    fn what_a_round_takes_is_counted_by_hand() {
        let rounds = PLAIN.rounds();
        let waves = (128.0 / PLACES as f64).ceil();
        assert_eq!(rounds.sampled, Decoding { prompts: 3200.0, steps: 10.0 * waves * 12.0 });
        assert_eq!((rounds.of_round, rounds.passes), (320.0 + 128.0 * 12.0, 10.0));
        assert_eq!((rounds.trained, rounds.scored, rounds.asked), (15_360.0, 18_560.0, 15_360.0));
        assert_eq!(rounds.validated, Decoding::default());
    }

    #[test]
    fn baseline_validations_and_replaced_groups_are_decoded_beside_the_rounds() {
        let before = PLAIN.rounds();
        // The baseline looks at the rows of the file, not at what few rounds draw of it.
        let with = Counts { baseline: 300.0, ..PLAIN }.rounds();
        assert_eq!(with.sampled.prompts - before.sampled.prompts, 6000.0);
        let with = Counts { validations: 3.0, validation_prompts: 50.0, validation_generations: 4.0, ..PLAIN }.rounds();
        assert_eq!((with.sampled, with.trained), (before.sampled, before.trained));
        let waves = |completions: f64| (completions / PLACES as f64).ceil();
        let steps = 3.0 * 12.0 * (waves(50.0) + waves(200.0));
        assert_eq!(with.validated, Decoding { prompts: 2.0 * 3.0 * 1000.0, steps });
        // A quarter of the groups is replaced, and a quarter of these once more.
        let with = Counts { stuck: 0.25, resample_rounds: 2, ..PLAIN }.rounds();
        assert_eq!(with.sampled.prompts - before.sampled.prompts, 3200.0 * (0.25 + 0.0625));
    }

    #[test]
    fn general_rows_are_trained_and_neither_sampled_nor_scored() {
        let (before, with) = (PLAIN.rounds(), Counts { general_tokens: 900.0, ..PLAIN }.rounds());
        assert_eq!(with.of_round - before.of_round, 90.0);
        assert_eq!(with, Rounds { of_round: with.of_round, ..before });
    }

    #[test]
    fn a_round_that_is_begun_and_not_ended_is_trained_in_part() {
        // Four steps a round, of which the last has three.
        let several = Counts { steps: 7.0, parts: 2.0, rounds: 2.0, prompts: 32.0, tokens: 640.0, ..PLAIN };
        let rounds = several.rounds();
        assert_eq!(rounds.passes, 3.5);
        assert_eq!(rounds.trained, 3.5 * 128.0 * 12.0);
    }
}
