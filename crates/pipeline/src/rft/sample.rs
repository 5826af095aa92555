//! Completions of prompts, sampled and scored.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Instant;

use serde::Serialize;
use temper_kernels::Cpu;
use temper_model::{Finish, Llama, Sampling, generate_keyed};
use temper_reward::{Outcome, Rewards, Sample, SampleScore};
use temper_text::Renderer;

use super::prompts::Prompt;
use crate::PipelineError;

/// A prompt that is to be answered: its tokens, and its row.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub ids: &'a [u32],
    pub prompt: &'a Prompt,
}

/// How completions are made.
pub(crate) struct Sampler<'a> {
    pub model: &'a Llama<Cpu>,
    /// Whether its adapters are on.
    pub adapter: bool,
    pub renderer: &'a Renderer,
    pub rewards: &'a Rewards,
    /// Longest completion in tokens.
    pub longest: usize,
    /// Tokens before it in which a reward falls by up to `penalty`.
    pub buffer: usize,
    pub penalty: f64,
}

/// A completion.
#[derive(Clone, Debug)]
pub(crate) struct Completion {
    /// Its tokens, the stop token among them.
    pub ids: Vec<u32>,
    pub text: String,
    /// Whether the limit cut it.
    pub cut: bool,
    /// What each reward said.
    pub score: SampleScore,
    /// What it earned: its total, less what its length costs; none where nothing can be said.
    pub reward: Option<f64>,
}

/// Completions of prompts, a group each.
#[derive(Clone, Debug)]
pub(crate) struct Sampled {
    pub groups: Vec<Vec<Completion>>,
    /// Names of the rewards, in their order.
    pub names: Vec<String>,
    pub generation_seconds: f64,
    pub reward_seconds: f64,
}

/// What a reward said of all completions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct PartMean {
    /// The mean of its scores; none without any.
    pub mean: Option<f64>,
    /// How often it abstained.
    pub abstained: usize,
    /// How often it failed.
    pub failed: usize,
}

impl Sampler<'_> {
    /// `count` completions of each prompt; `key` tells what the draws of a prompt's completion are a function of. `tell` hears
    /// how many completions are done.
    pub fn sample(
        &self,
        asked: &[Asked<'_>],
        count: usize,
        sampling: &Sampling,
        key: impl Fn(usize, usize) -> u64,
        tell: &mut dyn FnMut(usize, usize),
    ) -> Result<Sampled, PipelineError> {
        let begun = Instant::now();
        let places = || (0..asked.len()).flat_map(|at| (0..count).map(move |sample| (at, sample)));
        let prompts: Vec<Vec<u32>> = places().map(|(at, _)| asked[at].ids.to_vec()).collect();
        let keys: Vec<u64> = places().map(|(at, sample)| key(at, sample)).collect();
        let stops = self.renderer.stop_ids();
        let mut done = 0;
        let mut on_token = |_: usize, _: u32, end: Option<Finish>| {
            if end.is_some() {
                done += 1;
                tell(done, keys.len());
            }
            ControlFlow::Continue(())
        };
        let made =
            generate_keyed(self.model, self.adapter, (&prompts, &keys), self.longest, &stops, sampling, &mut on_token)?;
        let generation_seconds = begun.elapsed().as_secs_f64();

        let begun = Instant::now();
        let tokenizer = self.renderer.tokenizer();
        let texts: Vec<String> = made.iter().map(|made| tokenizer.decode(&made.ids, true)).collect();
        // A prompt may stand in a round twice, so its place is part of the name.
        let ids: Vec<String> = places().map(|(at, sample)| format!("{}#{at}.{sample}", asked[at].prompt.id)).collect();
        let samples: Vec<Sample<'_>> = places()
            .enumerate()
            .map(|(i, (at, _))| Sample {
                id: &ids[i],
                prompt: asked[at].prompt.messages(),
                completion: &texts[i],
                row: &asked[at].prompt.row,
                tokens: made[i].ids.len(),
                cut: made[i].finish == Finish::Length,
            })
            .collect();
        let scored = self.rewards.score(&samples)?;
        let names = self.rewards.names().map(str::to_owned).collect();
        let mut completions = made.into_iter().zip(texts).zip(scored.samples).map(|((made, text), score)| {
            let reward = score.total.map(|total| total - self.too_long(made.ids.len()));
            Completion { cut: made.finish == Finish::Length, ids: made.ids, text, score, reward }
        });
        let groups = asked.iter().map(|_| completions.by_ref().take(count).collect()).collect();
        Ok(Sampled { groups, names, generation_seconds, reward_seconds: begun.elapsed().as_secs_f64() })
    }

    /// What a completion of so many tokens loses: soft overlong punishment (DAPO, Yu et al. 2025), a straight line over the
    /// buffer before the limit.
    fn too_long(&self, tokens: usize) -> f64 {
        let over = (tokens + self.buffer).saturating_sub(self.longest);
        if self.buffer == 0 { 0.0 } else { self.penalty * over as f64 / self.buffer as f64 }
    }
}

/// Means over completions.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CompletionMeans {
    /// Completions.
    pub completions: usize,
    /// Mean reward of those that have one; none where none has.
    pub reward: Option<f64>,
    /// Standard deviation of the rewards, of a sample.
    pub reward_std: Option<f64>,
    /// Completions without a reward: all abstained, or one failed.
    pub unscored: usize,
    /// Tokens of a completion, mean, fewest, most.
    pub completion_length: f64,
    /// Fewest.
    pub shortest: usize,
    /// Most.
    pub longest: usize,
    /// Share that the limit cut.
    pub cut: f64,
    /// What each reward said.
    pub rewards: BTreeMap<String, PartMean>,
}

impl Sampled {
    pub fn means(&self) -> CompletionMeans {
        let all = || self.groups.iter().flatten();
        let count = all().count();
        let rewards: Vec<f64> = all().filter_map(|completion| completion.reward).collect();
        let n = rewards.len() as f64;
        let mean = rewards.iter().sum::<f64>() / n;
        let lengths = || all().map(|completion| completion.ids.len());
        let share = |of: usize| of as f64 / count.max(1) as f64;
        CompletionMeans {
            completions: count,
            reward: (!rewards.is_empty()).then_some(mean),
            reward_std: (rewards.len() > 1)
                .then(|| (rewards.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt()),
            unscored: count - rewards.len(),
            completion_length: share(lengths().sum()),
            shortest: lengths().min().unwrap_or(0),
            longest: lengths().max().unwrap_or(0),
            cut: share(all().filter(|completion| completion.cut).count()),
            rewards: self.names.iter().enumerate().map(|(at, name)| (name.clone(), self.part(at))).collect(),
        }
    }

    /// What a reward said of the completions that are here, those in place of others among them.
    fn part(&self, at: usize) -> PartMean {
        let said = || self.groups.iter().flatten().filter_map(|completion| completion.score.parts.get(at));
        let scores: Vec<f64> = said().filter_map(|part| part.outcome.score()).collect();
        let count = |is: fn(&Outcome) -> bool| said().filter(|part| is(&part.outcome)).count();
        PartMean {
            mean: (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64),
            abstained: count(|outcome| matches!(outcome, Outcome::Abstained)),
            failed: count(|outcome| matches!(outcome, Outcome::Failed(_))),
        }
    }

    /// The rewards of each group.
    pub fn rewards(&self) -> Vec<Vec<Option<f64>>> {
        self.groups.iter().map(|group| group.iter().map(|completion| completion.reward).collect()).collect()
    }
}

/// The chance that of `k` completions drawn without replacement at least one is solved, over prompts: `1 - C(n - c, k) / C(n, k)`
/// (Chen et al. 2021). Keys are 1, 2, 4, .. up to the size of a group.
pub(crate) fn pass_at(groups: &[Vec<Option<f64>>], threshold: f64) -> BTreeMap<usize, f64> {
    let n = groups.iter().map(Vec::len).min().unwrap_or(0);
    let of = |k: usize| {
        let chance = |group: &Vec<Option<f64>>| {
            let solved = group.iter().flatten().filter(|&&reward| reward >= threshold).count();
            let missed = (0..k).map(|i| (group.len() - solved).saturating_sub(i) as f64 / (group.len() - i) as f64);
            1.0 - missed.product::<f64>()
        };
        groups.iter().map(chance).sum::<f64>() / groups.len().max(1) as f64
    };
    std::iter::successors(Some(1), |k| Some(2 * k)).take_while(|&k| k <= n).map(|k| (k, of(k))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pass_at_k_by_hand() {
        // One of four solved, and none of four.
        let groups = [[1.0, 0.0, 0.0, 0.0].map(Some).to_vec(), vec![Some(0.5); 4]];
        let found = pass_at(&groups, 1.0);
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), [1, 2, 4]);
        assert!(
            (found[&1] - 0.125).abs() < 1e-12 && (found[&2] - 0.25).abs() < 1e-12 && (found[&4] - 0.5).abs() < 1e-12
        );
        // A failed reward is not solved.
        assert_eq!(pass_at(&[vec![None, Some(1.0)]], 1.0)[&1], 0.5);
        assert_eq!(pass_at(&[], 1.0), BTreeMap::new());
    }
}
