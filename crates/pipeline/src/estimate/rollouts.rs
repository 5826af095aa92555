//! What a stage that reinforces takes: rounds of decoding beside the steps.
//!
//! How long completions become nobody knows before; where the start's baseline was measured its mean length is taken, else the
//! longest that is allowed.

use temper_data::{Example, MicroBatch, micro_batches};

use super::PLACES;
use crate::prepare::{Prepared, PreparedStage};
use crate::rft::{Baseline, Rft};

/// Tokens of a stage's rounds, by what they cost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rounds {
    /// Tokens of prompts that are read for sampling, each prompt once.
    pub prompts: f64,
    /// Steps of decoding [`PLACES`] sequences.
    pub decode_steps: f64,
    /// Tokens that go through the model for log-probabilities that are known before a step: of the reference, of the weights that
    /// sampled.
    pub scored: f64,
    /// Completions' tokens of them.
    pub asked: f64,
    /// Tokens of completions that are trained, over all passes: the head is gone through once more for each.
    pub trained: f64,
    /// Tokens of the rows of one pass over one round, prompts once.
    pub of_round: f64,
    /// Passes over rounds.
    pub passes: f64,
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
    let stage = &prepared.stages[index];
    let rft = stage.rft.as_ref()?;
    let length = length(prepared, index, rft);
    let (rounds, group) = (stage.schedule.steps().len() as f64, rft.generations as f64);
    let drawn = stage.schedule.shares().sources.iter().map(|source| source.drawn);
    let (prompts, tokens) = drawn.fold((0.0, 0.0), |(n, t), u| (n + u.samples as f64, t + u.processed_tokens as f64));
    let completions = prompts * group * length;
    let once = tokens + completions;
    let others = f64::from(u8::from(rft.reference.is_some())) + f64::from(u8::from(rft.steps_of_round() > 1));
    let mut all = Rounds {
        prompts: tokens,
        decode_steps: rounds * (prompts / rounds.max(1.0) * group / PLACES as f64).ceil() * length,
        scored: others * once,
        asked: others * completions,
        trained: rft.passes as f64 * completions,
        of_round: once / rounds.max(1.0),
        passes: rounds * rft.passes as f64,
    };
    let mut sampled = |prompts: f64, tokens: f64, completions: f64, times: f64| {
        all.prompts += times * tokens;
        all.decode_steps += times * (prompts * completions / PLACES as f64).ceil() * length;
    };
    let mean = tokens / prompts.max(1.0);
    let looked_at = (rft.gate.prompts as f64).min(prompts);
    if measured(prepared, index).is_none() {
        sampled(looked_at, looked_at * mean, group, 1.0);
    }
    if let Some(source) = &stage.validation {
        let looked_at = source.examples.len().min(rft.validation_prompts) as f64;
        sampled(looked_at, looked_at * mean, 1.0 + rft.validation_generations as f64, validations as f64);
    }
    Some(all)
}

/// Rows as long as those of the middle round, for a step to be timed.
pub(super) fn stand_ins(prepared: &Prepared, index: usize) -> Vec<MicroBatch> {
    let stage: &PreparedStage = &prepared.stages[index];
    let (Some(rft), Some(round)) = (&stage.rft, stage.schedule.steps().get(stage.schedule.steps().len() / 2)) else {
        return Vec::new();
    };
    let length = length(prepared, index, rft).ceil() as usize;
    let mut rows = Vec::new();
    for at in round {
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
