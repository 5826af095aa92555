//! What a start earns before anything is trained, and whether reinforcement can do anything with it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;
use temper_kernels::Cpu;
use temper_model::{Llama, Tuning};
use temper_reward::{Rewards, Sample};
use temper_run::Random;
use temper_train::is_stuck;

use super::prompts::Prompt;
use super::rounds::sampling;
use super::sample::{Asked, Sampler, pass_at};
use super::spread;
use crate::PipelineError;
use crate::cache::Kind;
use crate::identity::{base_ingredients, hashes_of};
use crate::prepare::{Prepared, PreparedStage};

/// What is to be done with a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BaselineVerdict {
    /// Hardly any completion earns something: train with demonstrations first.
    SftFirst,
    /// Some do, some do not.
    Worthwhile,
    /// Nearly all are solved.
    NotNeeded,
}

/// What a start earns on training prompts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// Prompts.
    pub prompts: usize,
    /// Completions of each.
    pub generations: usize,
    /// Mean reward; none where nothing could be scored.
    pub reward: Option<f64>,
    /// Share of the completions that earn more than 0.
    pub positive: f64,
    /// Share of the completions that are solved.
    pub solved: f64,
    /// Chance that at least one of k is solved, by k.
    pub pass_at: BTreeMap<usize, f64>,
    /// Share of the groups with more than one reward, which teach something.
    pub mixed: f64,
    /// Share of the completions that the limit cut.
    pub cut: f64,
    /// Mean tokens of a completion.
    pub completion_length: f64,
    /// The commonest reference answer, unless texts are left out, and the mean reward of who gives it to every prompt; none
    /// without reference answers.
    pub majority: Option<(Option<String>, f64)>,
    /// What to do.
    pub verdict: BaselineVerdict,
}

impl Baseline {
    /// The same without a text of the data.
    pub(crate) fn without_texts(self) -> Self {
        Self { majority: self.majority.map(|(_, reward)| (None, reward)), ..self }
    }

    /// Refuses what is not worth it, where the stage says so.
    pub(crate) fn gate(&self, index: usize, stage: &PreparedStage) -> Result<(), PipelineError> {
        let hint = match self.verdict {
            BaselineVerdict::Worthwhile => return Ok(()),
            BaselineVerdict::SftFirst => {
                "train with demonstrations first (a stage `kind: sft` before it), or make the reward kinder"
            }
            BaselineVerdict::NotNeeded => "take harder prompts, or leave the stage out",
        };
        if !stage.rft.as_ref().is_some_and(|rft| rft.gate.refuses) {
            return Ok(());
        }
        Err(PipelineError::Gate {
            path: format!("stages.{index}"),
            problem: format!("reinforcement is not worth it from here: {}", self.reason()),
            hint: format!("{hint}; `baseline: {{gate: warn}}` goes on all the same"),
        })
    }

    /// What the verdict rests on, in one line.
    pub fn reason(&self) -> String {
        let share = |share: f64| format!("{:.1} %", 100.0 * share);
        match self.verdict {
            BaselineVerdict::SftFirst => {
                format!("{} of the completions earn something: too few to learn from", share(self.positive))
            }
            BaselineVerdict::Worthwhile => format!(
                "{} of the completions are solved, and {} of the groups are mixed",
                share(self.solved),
                share(self.mixed)
            ),
            BaselineVerdict::NotNeeded => {
                format!("{} of the completions are solved already: little is left to gain", share(self.solved))
            }
        }
    }
}

/// What the numbers depend on, where the start is the base.
fn ingredients(prepared: &Prepared, index: usize) -> serde_json::Value {
    let of_stage = |name: &str| format!("stages.{index}.{name}");
    let sections = ["rewards.", "rollouts.", "baseline.", "max_length"].map(of_stage);
    let settings = prepared.parts[index].settings();
    let settings = settings.iter().filter(|setting| sections.iter().any(|section| setting.path.starts_with(section)));
    let settings: Vec<_> =
        settings.map(|setting| json!([setting.path, setting.value, hashes_of(prepared, &setting.path)])).collect();
    let train = hashes_of(prepared, &of_stage("train")).into_iter().map(str::to_owned).collect::<Vec<_>>();
    let of = json!({"settings": settings, "train": train, "seed": prepared.recipe.seed.value});
    base_ingredients(prepared, "baseline of reinforcement", of)
}

/// What was measured of the base before, where stage `index` starts from it.
pub(crate) fn known_baseline(prepared: &Prepared, index: usize) -> Option<Baseline> {
    let reinforced = index == 0 && prepared.stages.first().is_some_and(|stage| stage.rft.is_some());
    if reinforced { prepared.kept().get(Kind::Scores, &ingredients(prepared, index)) } else { None }
}

/// [`measure`], or what was measured of the base before.
pub(crate) fn measured(
    prepared: &Prepared,
    index: usize,
    of_base: bool,
    measure: impl FnOnce() -> Result<Baseline, PipelineError>,
) -> Result<Baseline, PipelineError> {
    if of_base { prepared.kept().or(Kind::Scores, &ingredients(prepared, index), measure) } else { measure() }
}

/// What the base earns, where the first stage reinforces it: for a plan.
pub(crate) fn of_first_stage(
    prepared: &Prepared,
    tell: &mut dyn FnMut(usize, usize),
) -> Result<Option<Baseline>, PipelineError> {
    let Some(rft) = prepared.stages.first().and_then(|stage| stage.rft.as_ref()) else { return Ok(None) };
    let measure = || {
        let folder = std::env::temp_dir();
        let rewards = Rewards::open(&rft.rewards, prepared.recipe.seed.value, &folder)?;
        let model: Llama<Cpu> = prepared.load_base(&Tuning::Frozen)?;
        let (renderer, longest, (buffer, penalty)) = (&prepared.base.renderer, rft.longest, rft.overlong);
        let sampler = Sampler { model: &model, adapter: true, renderer, rewards: &rewards, longest, buffer, penalty };
        measure(prepared, 0, &sampler, tell)
    };
    measured(prepared, 0, true, measure).map(Some)
}

/// Samples, scores and judges.
pub(super) fn measure(
    prepared: &Prepared,
    index: usize,
    sampler: &Sampler<'_>,
    tell: &mut dyn FnMut(usize, usize),
) -> Result<Baseline, PipelineError> {
    let stage = &prepared.stages[index];
    let Some(rft) = &stage.rft else { unreachable!("a baseline of another kind of stage") };
    let seed = prepared.recipe.seed.value;
    let places: Vec<(usize, usize)> =
        (0..rft.prompts.len()).flat_map(|source| (0..rft.prompts[source].len()).map(move |at| (source, at))).collect();
    let (mut ids, mut prompts) = (Vec::new(), Vec::new());
    for at in spread(places.len(), rft.gate.prompts) {
        let (source, at) = places[at];
        ids.push(stage.sources[source].example(at)?.ids);
        prompts.push(&rft.prompts[source][at]);
    }
    let asked: Vec<Asked<'_>> = ids.iter().zip(&prompts).map(|(ids, prompt)| Asked { ids, prompt }).collect();
    let draws = Random::new(seed, "baseline completions");
    let key = |at: usize, sample: usize| draws.within(at as u64).bits(sample as u64);
    let sampled = sampler.sample(&asked, rft.generations, &sampling(rft, seed), key, tell)?;
    let (means, rewards) = (sampled.means(), sampled.rewards());
    let all: Vec<f64> = rewards.iter().flatten().flatten().copied().collect();
    let share = |fits: &dyn Fn(f64) -> bool| {
        all.iter().filter(|&&reward| fits(reward)).count() as f64 / all.len().max(1) as f64
    };
    let (positive, solved) = (share(&|reward| reward > 0.0), share(&|reward| reward >= rft.success));
    let mixed = |group: &&Vec<Option<f64>>| !is_stuck(&group.iter().flatten().copied().collect::<Vec<_>>());
    Ok(Baseline {
        prompts: asked.len(),
        generations: rft.generations,
        reward: means.reward,
        positive,
        solved,
        pass_at: pass_at(&rewards, rft.success),
        mixed: rewards.iter().filter(mixed).count() as f64 / rewards.len().max(1) as f64,
        cut: means.cut,
        completion_length: means.completion_length,
        majority: majority(sampler.rewards, &prompts)?,
        verdict: if positive < rft.gate.low {
            BaselineVerdict::SftFirst
        } else if solved > rft.gate.high {
            BaselineVerdict::NotNeeded
        } else {
            BaselineVerdict::Worthwhile
        },
    })
}

/// The commonest reference answer, and what it earns as the answer to every prompt.
fn majority(rewards: &Rewards, prompts: &[&Prompt]) -> Result<Option<(Option<String>, f64)>, PipelineError> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for answer in prompts.iter().filter_map(|prompt| prompt.answer()) {
        *counts.entry(answer).or_insert(0) += 1;
    }
    let Some((answer, _)) = counts.into_iter().max_by(|a, b| a.1.cmp(&b.1).then(b.0.cmp(&a.0))) else {
        return Ok(None);
    };
    let ids: Vec<String> = (0..prompts.len()).map(|at| format!("majority#{at}")).collect();
    let samples: Vec<Sample<'_>> = ids
        .iter()
        .zip(prompts)
        .map(|(id, prompt)| Sample {
            id,
            prompt: prompt.messages(),
            completion: &answer,
            row: &prompt.row,
            tokens: 1,
            cut: false,
        })
        .collect();
    let scored = rewards.score(&samples)?;
    let totals: Vec<f64> = scored.samples.iter().filter_map(|sample| sample.total).collect();
    Ok((!totals.is_empty()).then(|| (Some(answer), totals.iter().sum::<f64>() / totals.len() as f64)))
}
