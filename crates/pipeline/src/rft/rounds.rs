//! Rounds: prompts, their completions, what these earned, and what the trainer makes of it.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::json;
use temper_data::{ExampleRef, MicroBatch, micro_batches};
use temper_kernels::{Cpu, Device};
use temper_model::{Llama, Purpose, Sampling, Tuning, Workspace};
use temper_recipe::ReferenceModel;
use temper_reward::{Outcome, Part, Rewards};
use temper_run::{JsonLog, Random, RunError};
use temper_train::{Batches, Progress, Rollout, StepReport, advantages, completion_logprobs, is_stuck};

use super::prompts::Prompt;
use super::sample::{Asked, Completion, CompletionMeans, Sampled, Sampler};
use super::signals::{Alarm, Signal, Signals};
use super::validation::{RewardValidation, validate};
use super::{Baseline, Rft, baseline};
use crate::PipelineError;
use crate::prepare::{Prepared, PreparedStage};
use crate::run::Event;
use crate::start::{Start, load};

type Buffer = <Cpu as Device>::Buffer;
type Tell<'t> = &'t mut dyn FnMut(Event) -> Result<(), RunError>;

/// A line of `metrics.jsonl`: what a round sampled and earned, before its first step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RoundReport {
    /// The step that is made with it first.
    pub step: usize,
    /// From 1.
    pub round: usize,
    /// Prompts.
    pub prompts: usize,
    /// Of their completions.
    #[serde(flatten)]
    pub means: CompletionMeans,
    /// Share of the groups whose rewards are all the same, which teach nothing.
    pub zero_variance: f64,
    /// Groups that were sampled to replace such ones.
    pub resampled: usize,
    /// Mean size of the advantages.
    pub advantage: f64,
    /// Seconds of sampling.
    pub generation_seconds: f64,
    /// Seconds of the rewards.
    pub reward_seconds: f64,
    /// The reward that the entropy left would buy (Cui et al. 2025), by the rounds before; none where that says nothing yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reward_ceiling: Option<f64>,
}

/// Where the rounds stand, as a checkpoint keeps it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct RoundsState {
    /// Rounds sampled.
    sampled: usize,
    /// The completions of the last round, a group for each prompt, while steps with them are to come.
    groups: Vec<Vec<Rollout>>,
    /// What the last round showed, until the step after it is made.
    pending: Option<Signal>,
    signals: Signals,
    /// Length of `rollouts.jsonl` then.
    log_bytes: u64,
}

/// Where log-probabilities of the reference come from.
enum Reference {
    /// There is none.
    None,
    /// The model, its adapters off.
    AdapterOff,
    /// Another model.
    Model(Box<(Llama<Cpu>, Workspace<Buffer>)>),
}

/// The rounds of a stage.
pub(crate) struct Rounds<'a> {
    prepared: &'a Prepared,
    index: usize,
    stage: &'a PreparedStage,
    rft: &'a Rft,
    model: &'a Llama<Cpu>,
    workspace: &'a Workspace<Buffer>,
    rewards: Rewards,
    reference: Reference,
    log: JsonLog,
    state: RoundsState,
    reports: Vec<RoundReport>,
}

impl<'a> Rounds<'a> {
    /// Those of stage `index`, whose model stands at `start`; none of another kind of stage. `run` is the run's folder.
    pub fn of(
        prepared: &'a Prepared,
        index: usize,
        (model, workspace): (&'a Llama<Cpu>, &'a Workspace<Buffer>),
        start: &Start<'_>,
        run: &Path,
    ) -> Result<Option<Self>, PipelineError> {
        let stage = &prepared.stages[index];
        let Some(rft) = &stage.rft else { return Ok(None) };
        let from_base = rft.reference == Some(ReferenceModel::Base) && !matches!(start, Start::Base(_));
        let reference = match (rft.reference, &stage.tuning) {
            (None, _) => Reference::None,
            (Some(_), Tuning::Lora(_)) if !from_base => Reference::AdapterOff,
            _ => {
                let frozen = &Tuning::Frozen;
                let model = if from_base { prepared.load_base(frozen)? } else { load(prepared, start, frozen)? };
                let (device, tokens) = (model.device(), workspace.tokens());
                let workspace = Workspace::allocate(device, model.config(), [0; 4], Purpose::Infer, tokens);
                Reference::Model(Box::new((model, workspace)))
            }
        };
        let seed = prepared.recipe.seed.value;
        // What the rewards write lies in the run's folder.
        let folder = run.join("rewards");
        std::fs::create_dir_all(&folder).map_err(crate::checkpoints::io("create", &folder))?;
        let rewards = Rewards::open(&rft.rewards, seed, &folder)?;
        let log = JsonLog::resume(&log_path(run, index), None)?;
        Ok(Some(Self {
            prepared,
            index,
            stage,
            rft,
            model,
            workspace,
            rewards,
            reference,
            log,
            state: RoundsState::default(),
            reports: Vec::new(),
        }))
    }

    /// Goes on from a checkpoint; none begins anew.
    pub fn restore(&mut self, state: Option<RoundsState>, run: &Path) -> Result<(), PipelineError> {
        self.state = state.unwrap_or_default();
        self.log = JsonLog::resume(&log_path(run, self.index), Some(self.state.log_bytes))?;
        Ok(())
    }

    /// What a checkpoint after step `step` is to keep.
    pub fn state(&mut self, step: usize) -> Result<RoundsState, PipelineError> {
        self.state.log_bytes = self.log.sync()?;
        let mut state = self.state.clone();
        if step.is_multiple_of(self.rft.steps_of_round()) {
            state.groups.clear();
        }
        Ok(state)
    }

    /// What rounds have reported since this was asked last.
    pub fn reports(&mut self) -> Vec<RoundReport> {
        std::mem::take(&mut self.reports)
    }

    /// Looks at the start, unless that is known.
    pub fn baseline(&self, tell: Tell<'_>) -> Result<Baseline, PipelineError> {
        let (prepared, index) = (self.prepared, self.index);
        let mut hear = progress("baseline", tell);
        baseline::measure(prepared, index, &self.sampler(), &mut hear)
    }

    /// The reward on the validation prompts.
    pub fn validate(&self, step: usize, tell: Tell<'_>) -> Result<RewardValidation, PipelineError> {
        let Some(source) = &self.stage.validation else {
            return Err(PipelineError::from(temper_data::DataError::Empty { path: "validation".into() }));
        };
        let seed = self.prepared.recipe.seed.value;
        validate(&self.sampler(), self.rft, source, step, seed, &mut progress("validation", tell))
    }

    fn sampler(&self) -> Sampler<'_> {
        let (buffer, penalty) = self.rft.overlong;
        let renderer = &self.prepared.base.renderer;
        let (model, rewards, longest) = (self.model, &self.rewards, self.rft.longest);
        Sampler { model, adapter: true, renderer, rewards, longest, buffer, penalty }
    }

    /// What step `step` is made with, from 1; the first step of a round samples it.
    pub fn batches(&mut self, step: usize, tell: Tell<'_>) -> Result<Batches, PipelineError> {
        let (round, within) = ((step - 1) / self.rft.steps_of_round(), (step - 1) % self.rft.steps_of_round());
        if within == 0 {
            self.sample(round, step, tell)?;
        }
        let (part, parts) = (within % self.rft.parts, self.rft.parts);
        let count = self.state.groups.len();
        let groups = &self.state.groups[part * count / parts..(part + 1) * count / parts];
        Ok(Batches::Rollouts(groups.iter().flatten().cloned().collect(), self.general(round, (part, parts))?))
    }

    /// The general rows of part `part` of so many of a round, which are its own in every pass.
    fn general(&self, round: usize, (part, parts): (usize, usize)) -> Result<Vec<MicroBatch>, PipelineError> {
        let rows = self.drawn(round, true);
        let own = &rows[part * rows.len() / parts..(part + 1) * rows.len() / parts];
        let row = |at: &ExampleRef| {
            let source = &self.stage.sources[usize::from(at.source)];
            source.example(at.index as usize).map(|row| (at.source, row))
        };
        let rows = own.iter().map(row).collect::<Result<Vec<_>, _>>()?;
        let rows: Vec<_> = rows.iter().map(|(source, row)| (*source, row)).collect();
        Ok(micro_batches(&rows, self.stage.micro_batch_tokens))
    }

    /// What a round draws: its prompts, or its general rows.
    fn drawn(&self, round: usize, general: bool) -> Vec<ExampleRef> {
        let of = |at: &&ExampleRef| self.stage.sources[usize::from(at.source)].general == general;
        self.stage.schedule.steps()[round].iter().filter(of).copied().collect()
    }

    /// The prompts at these places of the sources.
    fn prompt(&self, at: ExampleRef) -> Result<(Vec<u32>, &'a Prompt), PipelineError> {
        let (source, index) = (usize::from(at.source), at.index as usize);
        Ok((self.stage.sources[source].example(index)?.ids, &self.rft.prompts[source][index]))
    }

    fn sample(&mut self, round: usize, step: usize, tell: Tell<'_>) -> Result<(), PipelineError> {
        let (rft, seed) = (self.rft, self.prepared.recipe.seed.value);
        let mut prompts = Vec::new();
        for at in self.drawn(round, false) {
            prompts.push(self.prompt(at)?);
        }
        let draws = Random::new(seed, "rollouts").within(round as u64);
        let mut sampled = self.complete(&prompts, draws.within(0), tell)?;
        let others = Random::new(seed, "prompts instead").within(round as u64);
        let all: usize = rft.prompts.iter().map(Vec::len).sum();
        let mut resampled = 0;
        for attempt in 1..=rft.resample_rounds as u64 {
            let rewards = sampled.rewards();
            let stuck: Vec<usize> = (0..prompts.len()).filter(|&at| is_stuck(&known(&rewards[at]))).collect();
            if stuck.is_empty() {
                break;
            }
            let mut instead = Vec::new();
            for &at in &stuck {
                let mut index = others.within(attempt).below(at as u64, all as u64) as usize;
                let mut source = 0;
                while index >= rft.prompts[source].len() {
                    index -= rft.prompts[source].len();
                    source += 1;
                }
                instead.push(self.prompt(ExampleRef { source: source as u16, index: index as u32 })?);
            }
            resampled += instead.len();
            let more = self.complete(&instead, draws.within(attempt), tell)?;
            sampled.generation_seconds += more.generation_seconds;
            sampled.reward_seconds += more.reward_seconds;
            for ((&at, prompt), group) in stuck.iter().zip(instead).zip(more.groups) {
                let rewards: Vec<f64> = group.iter().filter_map(|completion| completion.reward).collect();
                if !is_stuck(&rewards) {
                    prompts[at] = prompt;
                    sampled.groups[at] = group;
                }
            }
        }
        let rewards = sampled.rewards();
        let advantages = advantages(&rewards, rft.compared_with, rft.scale);
        let groups = self.rollouts(&prompts, &sampled, &advantages);
        self.write(round, step, &prompts, &sampled, &advantages)?;

        let stuck = rewards.iter().filter(|group| is_stuck(&known(group))).count() as f64 / rewards.len().max(1) as f64;
        let sizes: Vec<f64> = advantages.iter().flatten().flatten().map(|a| a.abs()).collect();
        let means = sampled.means();
        let held_out = rft.rewards.iter().filter(|reward| reward.held_out.value);
        let held_out: Vec<f64> = held_out.filter_map(|reward| means.rewards.get(&reward.name.value)?.mean).collect();
        self.state.pending = Some(Signal {
            reward: means.reward.unwrap_or(0.0),
            held_out: (!held_out.is_empty()).then(|| held_out.iter().sum::<f64>() / held_out.len() as f64),
            stuck,
            cut: means.cut,
            ..Signal::default()
        });
        let report = RoundReport {
            step,
            round: round + 1,
            prompts: prompts.len(),
            means,
            zero_variance: stuck,
            resampled,
            advantage: sizes.iter().sum::<f64>() / sizes.len().max(1) as f64,
            generation_seconds: sampled.generation_seconds,
            reward_seconds: sampled.reward_seconds,
            reward_ceiling: self.state.signals.ceiling(),
        };
        self.reports.push(report);
        self.state.sampled = round + 1;
        self.state.groups = groups;
        Ok(())
    }

    /// A group of completions for each prompt.
    fn complete(
        &self,
        prompts: &[(Vec<u32>, &Prompt)],
        draws: Random,
        tell: Tell<'_>,
    ) -> Result<Sampled, PipelineError> {
        let asked: Vec<Asked<'_>> = prompts.iter().map(|(ids, prompt)| Asked { ids, prompt }).collect();
        let sampling = sampling(self.rft, self.prepared.recipe.seed.value);
        let key = |at: usize, sample: usize| draws.within(at as u64).bits(sample as u64);
        self.sampler().sample(&asked, self.rft.generations, &sampling, key, &mut progress("rollouts", tell))
    }

    /// The completions as the trainer takes them, with the log-probabilities that it needs.
    fn rollouts(
        &self,
        prompts: &[(Vec<u32>, &Prompt)],
        sampled: &Sampled,
        advantages: &[Vec<Option<f64>>],
    ) -> Vec<Vec<Rollout>> {
        let mut rollouts = Vec::new();
        for ((prompt, group), advantages) in prompts.iter().zip(&sampled.groups).zip(advantages) {
            rollouts.extend(group.iter().zip(advantages).map(|(completion, advantage)| Rollout {
                ids: [&prompt.0[..], &completion.ids].concat(),
                prompt: prompt.0.len(),
                advantage: advantage.filter(|_| !(completion.cut && self.rft.mask_cut)),
                old: Vec::new(),
                reference: Vec::new(),
            }));
        }
        let (model, ws, temperature) = (self.model, self.workspace, self.rft.temperature);
        let reference = match &self.reference {
            Reference::None => None,
            Reference::AdapterOff => Some(completion_logprobs(model, ws, false, temperature, &rollouts)),
            Reference::Model(other) => Some(completion_logprobs(&other.0, &other.1, false, temperature, &rollouts)),
        };
        // The first step of a round is made with the weights that sampled.
        let several = self.rft.steps_of_round() > 1;
        let old = several.then(|| completion_logprobs(model, ws, true, temperature, &rollouts));
        for (rollout, found) in rollouts.iter_mut().zip(reference.into_iter().flatten()) {
            rollout.reference = found;
        }
        for (rollout, found) in rollouts.iter_mut().zip(old.into_iter().flatten()) {
            rollout.old = found;
        }
        let mut rollouts = rollouts.into_iter();
        sampled.groups.iter().map(|group| rollouts.by_ref().take(group.len()).collect()).collect()
    }

    /// `rollouts-N.jsonl`: every completion, for people; where texts are to be left out, its name and numbers alone.
    fn write(
        &mut self,
        round: usize,
        step: usize,
        prompts: &[(Vec<u32>, &Prompt)],
        sampled: &Sampled,
        advantages: &[Vec<Option<f64>>],
    ) -> Result<(), PipelineError> {
        let names: Vec<String> = self.rewards.names().map(str::to_owned).collect();
        let texts = !self.prepared.provenance.no_samples;
        let said = |part: &Part| if texts { json!(part) } else { numbers(part) };
        for ((prompt, group), advantages) in prompts.iter().zip(&sampled.groups).zip(advantages) {
            for (sample, (completion, advantage)) in group.iter().zip(advantages).enumerate() {
                let Completion { text, cut, score, reward, ids } = completion;
                let parts: serde_json::Map<_, _> = names.iter().cloned().zip(score.parts.iter().map(said)).collect();
                let mut line = json!({
                    "stage": self.index + 1,
                    "round": round + 1,
                    "step": step,
                    "prompt_id": prompt.1.id,
                    "sample": sample,
                    "tokens": ids.len(),
                    "cut": cut,
                    "reward": reward,
                    "rewards": parts,
                    "advantage": advantage,
                });
                if texts {
                    line["prompt"] = json!(prompt.1.question());
                    line["completion"] = json!(text);
                }
                self.log.append(&line)?;
            }
        }
        Ok(())
    }

    /// Hears of a step; what is new to be alarmed about comes back.
    pub fn hear(&mut self, progress: &Progress) -> Vec<Alarm> {
        let (Progress::Step(StepReport { policy: Some(policy), gradient_norm, .. }), Some(pending)) =
            (progress, self.state.pending.take())
        else {
            return Vec::new();
        };
        let (entropy, kl, gradient_norm) = (policy.entropy, policy.kl, *gradient_norm);
        self.state.signals.hear(Signal { entropy, kl, gradient_norm, ..pending })
    }
}

/// What a reward said without what may quote a text: messages of failures, and details that are no numbers.
fn numbers(part: &Part) -> serde_json::Value {
    let mut part = part.clone();
    if let Outcome::Failed(failure) = &mut part.outcome {
        failure.message.clear();
    }
    part.details.retain(|_, detail| detail.is_number());
    json!(part)
}

/// The rewards that are known.
fn known(group: &[Option<f64>]) -> Vec<f64> {
    group.iter().flatten().copied().collect()
}

/// How a stage samples.
pub(super) fn sampling(rft: &Rft, seed: u64) -> Sampling {
    Sampling { temperature: rft.temperature as f32, top_k: rft.top_k, top_p: rft.top_p as f32, seed }
}

fn log_path(run: &Path, index: usize) -> std::path::PathBuf {
    run.join(format!("rollouts-{}.jsonl", index + 1))
}

/// Tells how far sampling is.
fn progress<'t>(what: &'static str, tell: Tell<'t>) -> impl FnMut(usize, usize) + 't {
    move |done, total| {
        // What is told here is shown and not stored, so nothing can fail.
        let _ = tell(Event::Evaluating { suite: what.to_owned(), side: "policy", done, total });
    }
}
