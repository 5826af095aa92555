//! Validation: what the model earns on prompts that it is not trained on.

use std::collections::BTreeMap;

use serde::Serialize;
use temper_data::Source;
use temper_model::Sampling;
use temper_run::Random;

use super::rounds::sampling;
use super::sample::{Asked, CompletionMeans, Sampler, pass_at};
use super::{Rft, spread};
use crate::PipelineError;

/// A line of `metrics.jsonl`. Draws are the same at every validation, so that two of them differ by the weights alone.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RewardValidation {
    /// Steps done; 0 is the start.
    pub step: usize,
    /// Prompts.
    pub prompts: usize,
    /// Mean reward of the likeliest completion; none where nothing could be scored.
    pub greedy_reward: Option<f64>,
    /// Share of the prompts whose likeliest completion is solved.
    pub greedy_solved: f64,
    /// Of the sampled completions; of the likeliest ones where none are sampled.
    #[serde(flatten)]
    pub means: CompletionMeans,
    /// Chance that at least one of k sampled completions is solved, by k.
    pub pass_at: BTreeMap<usize, f64>,
    /// Of each prompt, minus the mean reward of its completions; 0 where nothing could be scored.
    #[serde(skip)]
    pub items: Vec<f64>,
}

impl RewardValidation {
    /// What the best checkpoint is chosen by, the lower the better: minus the mean reward. NaN where nothing could be scored.
    pub fn loss(&self) -> f64 {
        -self.means.reward.unwrap_or(f64::NAN)
    }
}

pub(super) fn validate(
    sampler: &Sampler<'_>,
    rft: &Rft,
    source: &Source,
    step: usize,
    seed: u64,
    tell: &mut dyn FnMut(usize, usize),
) -> Result<RewardValidation, PipelineError> {
    let (mut ids, mut prompts) = (Vec::new(), Vec::new());
    for at in spread(source.examples.len(), rft.validation_prompts) {
        ids.push(source.example(at)?.ids);
        prompts.push(&rft.validation[at]);
    }
    let asked: Vec<Asked<'_>> = ids.iter().zip(&prompts).map(|(ids, prompt)| Asked { ids, prompt }).collect();
    let greedy = sampler.sample(&asked, 1, &Sampling::GREEDY, |_, _| 0, tell)?;
    let draws = Random::new(seed, "validation completions");
    let key = |at: usize, sample: usize| draws.within(at as u64).bits(sample as u64);
    let sampled = match rft.validation_generations {
        0 => None,
        count => Some(sampler.sample(&asked, count, &sampling(rft, seed), key, tell)?),
    };
    let solved = |reward: Option<f64>| reward.is_some_and(|reward| reward >= rft.success);
    let likeliest = greedy.means();
    let mean = |group: Vec<Option<f64>>| {
        let known: Vec<f64> = group.into_iter().flatten().collect();
        -known.iter().sum::<f64>() / known.len().max(1) as f64
    };
    let items = sampled.as_ref().unwrap_or(&greedy).rewards().into_iter().map(mean).collect();
    Ok(RewardValidation {
        step,
        prompts: asked.len(),
        items,
        greedy_reward: likeliest.reward,
        greedy_solved: greedy.groups.iter().flatten().filter(|completion| solved(completion.reward)).count() as f64
            / asked.len().max(1) as f64,
        pass_at: sampled.as_ref().map(|sampled| pass_at(&sampled.rewards(), rft.success)).unwrap_or_default(),
        means: sampled.map_or(likeliest, |sampled| sampled.means()),
    })
}
