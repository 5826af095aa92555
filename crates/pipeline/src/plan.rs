//! The plan: the recipe resolved, every value with its source, what will be seen, what it will take.

use std::time::Instant;

use serde::Serialize;
use temper_data::{ShareReport, SourceReport};
use temper_kernels::{Cpu, Device, Write};
use temper_model::{LINEAR_MODULES, LlamaConfig, Purpose, Tuning, Workspace};
use temper_recipe::{Note, Setting};
use temper_train::FitSettings;

use crate::identity::{Input, NUMERICS};
use crate::prepare::{Prepared, PreparedStage};
use crate::provenance::Provenance;
use crate::self_data::SelfReport;

/// How much slower than large products the base writes: narrow products, attention over the cache, the drawing of tokens.
/// From processor seconds of a part of the example's rows on a loaded machine; an idle one was not timed yet.
const WRITING: f64 = 2.0;

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
    /// What the base writes itself.
    pub self_data: Vec<SelfPlan>,
    /// What may surprise.
    pub warnings: Vec<String>,
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
}

/// One stage of a plan.
#[derive(Debug, Serialize)]
pub struct StagePlan {
    /// `sft` or `cpt`.
    pub kind: String,
    /// Optimiser steps.
    pub steps: usize,
    /// Numbers that are trained.
    pub trained_parameters: usize,
    /// Rows and tokens of each file.
    pub files: Vec<(String, SourceReport)>,
    /// The mix, planned and as drawn, in all three units.
    pub shares: ShareReport,
    /// Rates and optimiser.
    pub fit: FitSettings,
    /// The rate of every step.
    pub learning_rates: Vec<f64>,
    /// What it takes.
    pub estimate: Estimate,
}

/// What a stage takes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Estimate {
    /// Bytes of weights, gradients, moments and activations.
    pub memory_bytes: usize,
    /// Seconds of training, from the products of a step at a rate measured for this plan.
    pub seconds: f64,
    /// The measured rate of matrix products, in 10^9 operations per second.
    pub gflops: f64,
}

impl Plan {
    pub(crate) fn of(prepared: &Prepared) -> Self {
        let base = &prepared.base;
        let config = base.checkpoint.config();
        let gflops = measure_products(&prepared.device);
        let mut warnings = Vec::new();
        let stages = prepared
            .recipe
            .stages
            .iter()
            .zip(&prepared.stages)
            .enumerate()
            .map(|(i, (recipe, stage))| {
                warn(i, stage, &mut warnings);
                stage_plan(&recipe.kind.value.to_string(), stage, config, &prepared.device, gflops)
            })
            .collect();
        let self_data: Vec<SelfPlan> =
            prepared.own_rows.iter().map(|own| self_plan(&own.report, config, gflops)).collect();
        for own in self_data.iter().filter(|own| !own.report.written) {
            warnings.push(format!(
                "{}: the base has not written its {} rows yet: `temper run` writes and filters them first; what is said of \
                 them here assumes that all are kept, at half the longest length",
                own.report.setting, own.report.rows
            ));
        }
        let licence = base_licence(base.resolved.licence.as_deref(), base.checkpoint.licence().as_deref());
        if licence.is_none() {
            warnings.push("the base declares no licence".to_owned());
        }
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
            },
            tokenizer_sha256: prepared.tokenizer_sha256.clone(),
            inputs: prepared.inputs.clone(),
            device: prepared.device.describe(),
            numerics: NUMERICS,
            provenance: prepared.provenance.clone(),
            stages,
            self_data,
            warnings,
        }
    }
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

fn parameters(config: &LlamaConfig) -> usize {
    config.tensor_shapes().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
}

fn stage_plan(kind: &str, stage: &PreparedStage, config: &LlamaConfig, device: &Cpu, gflops: f64) -> StagePlan {
    let (trained_parameters, inner) = match &stage.tuning {
        Tuning::Lora(lora) => {
            let (d, f, heads) = (config.hidden_size, config.intermediate_size, config.heads());
            let (q, kv) = (heads.query_width(), heads.kv_width());
            let shapes = [(d, q), (d, kv), (d, kv), (q, d), (d, f), (d, f), (f, d)];
            let on = |i: usize| lora.targets.iter().any(|t| t == LINEAR_MODULES[i]);
            let per_layer: usize = (0..7).filter(|&i| on(i)).map(|i| lora.rank * (shapes[i].0 + shapes[i].1)).sum();
            let inner = [0..3, 3..4, 4..6, 6..7].map(|range| lora.rank * range.filter(|&i| on(i)).count());
            (config.num_hidden_layers * per_layer, inner)
        }
        Tuning::Full | Tuning::Frozen => (parameters(config), [0; 4]),
    };
    let activations = Workspace::bytes(device, config, inner, Purpose::Train, stage.workspace_tokens());
    // Weights in f32; gradient and two moments for what is trained, and an adapter's own values.
    let own = if matches!(stage.tuning, Tuning::Full) { 3 } else { 4 };
    let memory_bytes = 4 * (parameters(config) + own * trained_parameters) + activations;

    // Products of a step (Kaplan et al., 2020): 2 operations a weight and token forward, 2 for the gradient by the
    // input, 2 more for the gradient by a trained weight; through the head only for trained tokens.
    let head = (config.vocab_size * config.hidden_size) as f64;
    let blocks = (parameters(config) as f64 - head * if config.tie_word_embeddings { 1.0 } else { 2.0 }).max(0.0);
    let per_weight = if matches!(stage.tuning, Tuning::Full) { 6.0 } else { 4.0 };
    let sum = |of: fn(&temper_data::Units<usize>) -> usize| {
        stage.schedule.shares().sources.iter().map(|s| of(&s.drawn)).sum::<usize>() as f64
    };
    let (processed, trained) = (sum(|u| u.processed_tokens), sum(|u| u.trained_tokens));
    let operations = per_weight * (blocks * processed + head * trained) + 6.0 * trained_parameters as f64 * processed;
    // Attention, norms and what surrounds products: the share measured on the recipe of the README.
    let seconds = operations / (gflops * 1e9) * 1.35;
    let rate = &stage.settings.learning_rate;
    StagePlan {
        kind: kind.to_owned(),
        steps: rate.steps,
        trained_parameters,
        files: stage.reports.clone(),
        shares: stage.schedule.shares().clone(),
        fit: stage.settings,
        learning_rates: (1..=rate.steps).map(|s| rate.at(s)).collect(),
        estimate: Estimate { memory_bytes, seconds, gflops },
    }
}

/// Products at 2 operations a weight and token; a token that is written goes through every weight with at most 31 others.
fn self_plan(report: &SelfReport, config: &LlamaConfig, gflops: f64) -> SelfPlan {
    let operations = 2.0 * parameters(config) as f64 * (report.prompt_tokens + report.answer_tokens) as f64;
    let seconds = (!report.written).then_some(operations / (gflops * 1e9) * WRITING);
    SelfPlan { report: report.clone(), seconds }
}

fn warn(index: usize, stage: &PreparedStage, warnings: &mut Vec<String>) {
    for (file, report) in &stage.reports {
        let dropped = report.rows - report.kept;
        if dropped * 20 > report.rows {
            warnings.push(format!("{file}: {dropped} of {} rows are dropped, more than 5 %", report.rows));
        }
    }
    if stage.validation.is_none() {
        warnings.push(format!("stages.{index} has no validation rows: the last weights are taken, not the best"));
    }
    for source in &stage.schedule.shares().sources {
        if source.epochs > 4.0 {
            warnings.push(format!("stages.{index}: {} is seen {:.1} times over", source.name, source.epochs));
        }
    }
}

/// The rate of products of a block's shape, over about 0.2 seconds.
fn measure_products(device: &Cpu) -> f64 {
    let (m, n, k) = (512, 1536, 576);
    let [x, w, y] = [(m, k), (n, k), (m, n)].map(|(r, c)| device.upload(r, c, &vec![0.5; r * c]));
    device.linear(&x, &w, 1.0, Write::Set, &y);
    let start = Instant::now();
    let mut products = 0.0;
    while start.elapsed().as_secs_f64() < 0.2 {
        device.linear(&x, &w, 1.0, Write::Set, &y);
        products += 1.0;
    }
    products * 2.0 * (m * n * k) as f64 / start.elapsed().as_secs_f64() / 1e9
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
