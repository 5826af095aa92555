//! The plan: the recipe resolved, every value with its source, what will be seen, what it will take.

mod warning;

use serde::Serialize;
use temper_data::{CheckReport, ExampleRef, ShareReport, SourceReport};
use temper_kernels::{Device, Precision};
use temper_model::{KeptAsStored, LlamaConfig, Tuning};
use temper_recipe::{Export, FullStart, Note, Setting, Source, Stage};
use temper_train::FitSettings;

pub use self::warning::Warning;
use crate::advise::{Finding, KindAdvice, kind_advice};
use crate::estimate::{self, Measured, RunEstimate, StageSeconds, parameters};
use crate::frozen;
use crate::identity::{Input, NUMERICS};
use crate::prepare::{Prepared, PreparedStage};
use crate::provenance::Provenance;
use crate::reference::Pairs;
use crate::rft::{Baseline, BaselineVerdict};
use crate::saving::validations;
use crate::self_data::{KEPT_LENGTH, SelfReport};

/// What a run will do.
#[derive(Debug, Serialize)]
pub struct Plan {
    /// The run's name.
    pub name: String,
    /// Every resolved value with its source.
    pub settings: Vec<Setting>,
    /// How the recipe was read.
    pub notes: Vec<Note>,
    /// The base.
    pub base: BasePlan,
    /// The hash of tokenizer and chat template.
    pub tokenizer_sha256: String,
    /// Every data file with its hash.
    pub inputs: Vec<Input>,
    /// The device.
    pub device: String,
    /// Version of the engine's numerics: raised whenever results change in any bit.
    pub numerics: u32,
    /// Program, machine and command.
    pub provenance: Provenance,
    /// Each stage.
    pub stages: Vec<StagePlan>,
    /// What the whole run takes.
    pub estimate: RunEstimate,
    /// What the base writes itself.
    pub self_data: Vec<SelfPlan>,
    /// From which kind of checkpoint to start; empty where the recipe says of none what kind it is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub advice: Vec<KindAdvice>,
    /// What may surprise.
    pub warnings: Vec<Warning>,
}

/// Rows of `path: self`.
#[derive(Debug, Serialize)]
pub struct SelfPlan {
    /// What was written, or will be.
    #[serde(flatten)]
    pub report: SelfReport,
    /// Seconds that the base will write; none where the rows are there.
    pub seconds: Option<f64>,
}

/// The base of a plan.
#[derive(Debug, Serialize)]
pub struct BasePlan {
    /// As resolved.
    pub description: String,
    /// (file, hash).
    pub sha256s: Vec<(String, String)>,
    /// As declared; none is unknown.
    pub licence: Option<String>,
    /// How the weights are stored.
    pub precision: String,
    /// Weights.
    pub parameters: usize,
    /// Where frozen weights stay as they are stored: how many do, and what they take.
    pub as_stored: Option<AsStored>,
}

/// What stays of a base as it is stored.
#[derive(Debug, Serialize)]
pub struct AsStored {
    /// Weights that stay; projections that are read together are one.
    pub weights: usize,
    /// What they take.
    pub bytes: usize,
    /// Names of the others, which are decoded.
    pub decoded: Vec<String>,
}

/// One stage of a plan.
#[derive(Debug, Serialize)]
pub struct StagePlan {
    /// Which stage of the recipe, from 0: `lora_then_full` is two here.
    pub of: usize,
    /// `sft`, `cpt`, `dpo` or `rft`.
    pub kind: String,
    /// `lora` or `full`.
    pub mode: String,
    /// What ends it early, or decides about it, beside the usual rules; none of a stage that is one training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Optimiser steps.
    pub steps: usize,
    /// Numbers that are trained.
    pub trained_parameters: usize,
    /// Rows and tokens of each file.
    pub files: Vec<(String, SourceReport)>,
    /// What the checks found in them.
    pub checks: CheckReport,
    /// The mix, planned and as drawn, in all three units.
    pub shares: ShareReport,
    /// Rates and optimiser.
    pub fit: FitSettings,
    /// Of a preference stage: what is scored before training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<ReferencePlan>,
    /// Of a stage that reinforces: what is sampled, and what its start earns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rounds: Option<RoundsPlan>,
    /// Parts that have rates of their own, in the order of the recipe, and the rest; none where all have the stage's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rates: Vec<RatePlan>,
    /// The rate of every step.
    pub learning_rates: Vec<f64>,
    /// What it takes.
    pub estimate: Estimate,
}

/// A part of what a stage trains, and its rate.
#[derive(Debug, Serialize)]
pub struct RatePlan {
    /// As the recipe names it; empty for what is in no group.
    pub modules: Vec<String>,
    /// The highest.
    pub learning_rate: f64,
    /// Numbers that are trained at it.
    pub parameters: usize,
}

/// What the reference of a preference stage scores before training.
#[derive(Debug, Serialize)]
pub struct ReferencePlan {
    /// `start` or `base`.
    pub model: String,
    /// Different pairs, of training and validation.
    pub pairs: usize,
    /// Their tokens.
    pub tokens: usize,
}

/// What a stage that reinforces samples.
#[derive(Debug, Serialize)]
pub struct RoundsPlan {
    /// Rounds.
    pub rounds: usize,
    /// Completions of a round.
    pub completions: usize,
    /// Optimiser steps of a round.
    pub steps: usize,
    /// The longest completion, tokens.
    pub longest: usize,
    /// Tokens that all rounds sample at most; what replaces groups that teach nothing comes on top.
    pub sampled_tokens: usize,
    /// How often validation prompts are answered.
    pub validations: usize,
    /// Completions of one validation.
    pub validation_completions: usize,
    /// Names of the rewards, those that are held out in brackets.
    pub rewards: Vec<String>,
    /// What the start earns; none before a stage that starts from what is trained first.
    pub baseline: Option<Baseline>,
}

impl RoundsPlan {
    fn warning(&self, stage: usize) -> Option<Warning> {
        let baseline = self.baseline.as_ref()?;
        let worth = baseline.verdict == BaselineVerdict::Worthwhile;
        let message = || format!("stages.{stage}: {}; see its `baseline`", baseline.reason());
        (!worth).then(|| Warning::of(stage, &["baseline-too-low", "baseline-too-high"], message()))
    }

    fn of(stage: &PreparedStage, baseline: Option<Baseline>) -> Option<Self> {
        let rft = stage.rft.as_ref()?;
        let rounds = stage.schedule.steps();
        let asked = |round: &Vec<ExampleRef>| {
            round.iter().filter(|at| !stage.sources[usize::from(at.source)].general).count() * rft.generations
        };
        let name = |reward: &temper_recipe::Reward| match reward.held_out.value {
            true => format!("({})", reward.name.value),
            false => reward.name.value.clone(),
        };
        let looked_at = rft.validation.len().min(rft.validation_prompts);
        Some(Self {
            rounds: rounds.len(),
            completions: rounds.first().map_or(0, asked),
            sampled_tokens: rounds.iter().map(asked).sum::<usize>() * rft.longest,
            validations: validations(stage),
            validation_completions: looked_at * (1 + rft.validation_generations),
            steps: rft.steps_of_round(),
            longest: rft.longest,
            rewards: rft.rewards.iter().map(name).collect(),
            baseline,
        })
    }
}

/// What a stage takes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Estimate {
    /// Bytes of weights, gradients, moments and activations.
    pub memory_bytes: usize,
    /// Seconds of training steps, and of what is scored before them, measured for this plan on pieces of this shape (see
    /// [`crate::RunEstimate`]).
    pub seconds: f64,
    /// Seconds of validation losses between them.
    pub validation_seconds: f64,
    /// The measured rate of matrix products, in 10^9 operations per second.
    pub gflops: f64,
}

impl Plan {
    pub(crate) fn of(prepared: &Prepared) -> Self {
        let base = &prepared.base;
        let config = base.checkpoint.config();
        let measured = prepared.measured.get_or_init(|| Measured::of(prepared));
        let mut warnings: Vec<Warning> = Vec::new();
        let stages = prepared
            .parts
            .iter()
            .zip(&prepared.stages)
            .enumerate()
            .map(|(i, (recipe, stage))| {
                // The second part of a stage has the rows of the first.
                if stage.after_lora.is_none() {
                    warn(stage.of, stage, &mut warnings);
                }
                let seconds = measured.stages.get(i).copied().unwrap_or_default();
                let StageSeconds { training, validation } = seconds;
                let estimate = Estimate {
                    memory_bytes: estimate::stage_memory(prepared, stage),
                    seconds: training,
                    validation_seconds: validation,
                    gflops: measured.gflops,
                };
                let baseline = if i == 0 { prepared.baseline() } else { None };
                let texts = !prepared.provenance.no_samples;
                let baseline = baseline.map(|known| if texts { known } else { known.without_texts() });
                let rounds = RoundsPlan::of(stage, baseline);
                warnings.extend(rounds.iter().filter_map(|rounds| rounds.warning(i)));
                StagePlan { rounds, ..stage_plan(recipe, stage, &prepared.checks[i], config, estimate) }
            })
            .collect();
        let self_data: Vec<SelfPlan> =
            prepared.own_rows.iter().zip(&measured.writing).map(|(own, s)| self_plan(&own.report, *s)).collect();
        for own in self_data.iter().filter(|own| !own.report.written) {
            warnings.push(Warning::from(format!(
                "{}: the base has not written its {} rows yet: `temper run` writes and filters them first; what is said of \
                 them here assumes that all are kept, at {:.0} % of the longest length",
                own.report.setting,
                own.report.rows,
                100.0 * KEPT_LENGTH
            )));
        }
        prepared.phases.lap("plan: measured");
        if let Some(f32) = measured.gflops_in_f32 {
            warnings.push(Warning::from(format!(
                "{}: this processor ({}) multiplies bf16 no faster than f32: {:.0} GFLOP/s in products, in f32 {f32:.0}. Here \
                 bf16 saves memory, not time",
                prepared.recipe.precision.path,
                prepared.device.instructions(),
                measured.gflops
            )));
        }
        if prepared.device.leaves_matrix_units_idle() {
            warnings.push(Warning::from(format!(
                "{}: f32 leaves this processor's matrix units ({}) idle: they multiply bf16 many times as fast as the rest of \
                 it multiplies f32. `bf16` saves time here, and memory",
                prepared.recipe.precision.path,
                prepared.device.with_precision(Precision::Bf16).instructions(),
            )));
        }
        let licence = base_licence(base.resolved.licence.as_deref(), base.checkpoint.licence().as_deref());
        if licence.is_none() {
            warnings.push("the base declares no licence".to_owned().into());
        }
        let export = &prepared.recipe.export;
        let asked = !matches!(export.source, Source::Default { .. }) && export.contains(&Export::Adapter);
        if asked && !prepared.leaves_adapter() {
            warnings.push(Warning::from(format!(
                "{}: no `adapter` will be saved: only a recipe of one LoRA stage, no adapter merged before it, leaves one",
                export.path
            )));
        }
        let as_stored = prepared.keeps_as_stored().then(|| {
            let KeptAsStored { stay, decoded, bytes, .. } = frozen::kept(&base.checkpoint, &Tuning::Frozen);
            AsStored { weights: stay.len(), bytes, decoded }
        });
        let over_merged = |stage: &&PreparedStage| matches!(stage.tuning, Tuning::Lora(_)) && !stage.trains_over_base();
        if let (Some(_), Some(stage)) = (&as_stored, prepared.stages.iter().find(over_merged)) {
            warnings.push(Warning::from(format!(
                "{}: stage {} starts from weights with an adapter merged in, which are f32: its frozen weights are decoded",
                prepared.recipe.frozen_weights.path,
                stage.of + 1
            )));
        }
        let estimate = estimate::of_run(prepared, measured);
        prepared.phases.lap("plan: counted");
        Self {
            name: prepared.recipe.name.value.clone(),
            settings: prepared.recipe.settings(),
            notes: prepared.notes.clone(),
            base: BasePlan {
                description: base.resolved.description.clone(),
                sha256s: base.resolved.sha256s.clone(),
                licence,
                precision: base.checkpoint.precision(),
                parameters: parameters(config),
                as_stored,
            },
            tokenizer_sha256: prepared.tokenizer_sha256.clone(),
            inputs: prepared.inputs.clone(),
            device: prepared.device.describe(),
            numerics: NUMERICS,
            provenance: prepared.provenance.clone(),
            stages,
            estimate,
            self_data,
            advice: of_domain(prepared),
            warnings,
        }
    }

    /// Whether the plan says already what a finding of [`advise::of_plan`](crate::advise::of_plan) says.
    pub fn says(&self, finding: &Finding) -> bool {
        let kind = finding.rule == "checkpoint-kind" && !self.advice.is_empty();
        kind || self.warnings.iter().any(|warning| warning.says(finding))
    }
}

/// Advice by the rows of the first stage's domain.
fn of_domain(prepared: &Prepared) -> Vec<KindAdvice> {
    let sources =
        prepared.stages.iter().take(1).flat_map(|stage| stage.sources.iter().filter(|source| !source.general));
    let (tokens, rows) = sources
        .fold((0, 0), |(tokens, rows), source| (tokens + source.report.processed_tokens, rows + source.examples.len()));
    kind_advice(&prepared.recipe, tokens, rows)
}

/// The licence that the source (hub, package) declares, or the weights themselves; both where they say different things.
pub(crate) fn base_licence(source: Option<&str>, weights: Option<&str>) -> Option<String> {
    match (source, weights) {
        (Some(source), Some(weights)) if !source.eq_ignore_ascii_case(weights) => {
            Some(format!("{source} (says its source), {weights} (say the weights)"))
        }
        (source, weights) => source.or(weights).map(str::to_owned),
    }
}

fn stage_plan(
    recipe: &Stage,
    stage: &PreparedStage,
    checks: &CheckReport,
    config: &LlamaConfig,
    estimate: Estimate,
) -> StagePlan {
    let rate = &stage.settings.learning_rate;
    StagePlan {
        of: stage.of,
        kind: recipe.kind.value.to_string(),
        mode: recipe.mode.value.to_string(),
        rule: rule(stage),
        steps: rate.steps,
        trained_parameters: stage.tuning.numbers(config),
        rounds: None,
        rates: rates(stage, config),
        files: stage.reports.clone(),
        checks: checks.clone(),
        shares: stage.schedule.shares().clone(),
        fit: stage.settings.clone(),
        reference: stage.reference.zip(Pairs::of(stage)).map(|(model, pairs)| ReferencePlan {
            model: model.to_string(),
            pairs: pairs.len(),
            tokens: pairs.tokens().0,
        }),
        learning_rates: (1..=rate.steps).map(|s| rate.at(s)).collect(),
        estimate,
    }
}

/// Of the parts of `mode: lora_then_full`, what makes the one follow the other.
fn rule(stage: &PreparedStage) -> Option<String> {
    let stops = &stage.settings.stops;
    match stage.after_lora {
        Some(start) => {
            let from = match start {
                FullStart::Merged => "what LoRA made, merged",
                FullStart::Start => "where LoRA began",
            };
            Some(format!(
                "from {from}; kept only where its validation loss is below LoRA's on the same rows, by the whole of a paired \
                 95 % interval"
            ))
        }
        None if stops.flat_gain > 0.0 => Some(format!(
            "until the last {} validations bring less than {} of the whole fall of the validation loss",
            stops.early_stopping_patience, stops.flat_gain
        )),
        None => None,
    }
}

/// What each group of rates holds, and what is left.
fn rates(stage: &PreparedStage, config: &LlamaConfig) -> Vec<RatePlan> {
    let FitSettings { learning_rate, optimizer, .. } = &stage.settings;
    if optimizer.rates.is_empty() {
        return Vec::new();
    }
    let part = |modules: &[String], factor: f64| RatePlan {
        modules: modules.to_vec(),
        learning_rate: learning_rate.peak * factor,
        parameters: 0,
    };
    let mut parts: Vec<RatePlan> = optimizer.rates.iter().map(|group| part(&group.modules, group.factor)).collect();
    parts.push(part(&[], 1.0));
    for (name, [rows, cols]) in stage.tuning.trained(config) {
        let group = optimizer.rates.iter().position(|group| group.holds(&name, config.tie_word_embeddings));
        parts[group.unwrap_or(optimizer.rates.len())].parameters += rows * cols;
    }
    parts
}

fn self_plan(report: &SelfReport, seconds: f64) -> SelfPlan {
    SelfPlan { report: report.clone(), seconds: (!report.written).then_some(seconds) }
}

/// Pairs that Amazon's guide to DPO of Nova advises at least.
const ADVISED_PAIRS: usize = 1000;

fn warn(index: usize, stage: &PreparedStage, warnings: &mut Vec<Warning>) {
    let of = |rules, message: String| Warning::of(index, rules, message);
    for (file, report) in &stage.reports {
        let dropped = report.rows - report.kept;
        if dropped * 20 > report.rows {
            let message = format!("{file}: {dropped} of {} rows are dropped, more than 5 %", report.rows);
            warnings.push(of(&["rows-dropped-as-too-long"], message));
        }
    }
    warnings.extend(stage.adapter.iter().filter_map(|adapter| Some(adapter.warning.clone()?.into())));
    if stage.validation.is_none() {
        let message = format!("stages.{index} has no validation rows: the last weights are taken, not the best");
        warnings.push(of(&["no-validation"], message));
    }
    let pairs: usize = stage.sources.iter().map(|source| source.examples.len()).sum();
    if stage.reference.is_some() && pairs < ADVISED_PAIRS {
        let message =
            format!("stages.{index} has {pairs} preference pairs; Amazon Nova's guide advises {ADVISED_PAIRS} or more");
        warnings.push(of(&["few-pairs"], message));
    }
    for source in &stage.schedule.shares().sources {
        if source.epochs > 4.0 {
            let message = format!("stages.{index}: {} is seen {:.1} times over", source.name, source.epochs);
            let general = stage.sources.iter().any(|own| own.general && own.name == source.name);
            let rules: &[&str] = if general { &[] } else { &["many-epochs", "more-than-one-epoch-of-cpt"] };
            warnings.push(of(rules, message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_licence_of_a_base_is_what_it_declares_or_unknown() {
        assert_eq!(base_licence(None, None), None);
        assert_eq!(base_licence(None, Some("apache-2.0")).as_deref(), Some("apache-2.0"));
        assert_eq!(base_licence(Some("Apache-2.0"), Some("apache-2.0")).as_deref(), Some("Apache-2.0"));
        assert_eq!(
            base_licence(Some("MIT"), Some("llama3.2")).as_deref(),
            Some("MIT (says its source), llama3.2 (say the weights)")
        );
    }
}
