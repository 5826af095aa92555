//! A stage with its rows read, its steps drawn and its settings in the words of the trainer.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use temper_data::{
    DataError, Extent, MixUnit, RowKind, RowOrder, Schedule, Source, SourceReport, micro_batches, pair_batches,
    schedule,
};
use temper_model::{LlamaConfig, Purpose, Tuning};
use temper_recipe::{Duration, FullStart, LrScheduler, Mode, ReferenceModel, RowFiles, Stage, StageKind};
use temper_train::{
    Batches, FitSettings, LearningRate, OptimizerSettings, PairLoss, PreferenceSettings, Shape, StopSettings,
};

use super::adapter::{StartAdapter, lora_settings, start_adapter};
use super::optimizer::optimizer_settings;
use super::reading::{answer_rules, read_options, row_rules};
use crate::checks::StageFilters;
use crate::reference::References;
use crate::rft::{Prompt, Rft, policy_settings, prompts};
use crate::rows::{Asked, Tokens};
use crate::self_data::{OwnRows, Writer};
use crate::{Base, PipelineError};

/// A training with its rows: a stage of the recipe, or a part of one.
#[derive(Clone)]
pub(crate) struct PreparedStage {
    /// Which stage of the recipe, from 0.
    pub of: usize,
    pub sources: Vec<Source>,
    /// A report per file: domain files first.
    pub reports: Vec<(String, SourceReport)>,
    pub schedule: Schedule,
    pub validation: Option<Source>,
    pub settings: FitSettings,
    pub tuning: Tuning,
    pub micro_batch_tokens: usize,
    pub weight_average: f64,
    /// Of a preference stage: the model against which preferences are measured.
    pub reference: Option<ReferenceModel>,
    pub adapter: Option<StartAdapter>,
    /// Of a stage that reinforces: what it samples, and what scores it.
    pub rft: Option<Arc<Rft>>,
    /// Of the workspace: whether activations are computed again.
    pub purpose: Purpose,
    /// Of the full-rank part after LoRA: where it begins. Its result is taken only if it is better than LoRA's.
    pub after_lora: Option<FullStart>,
}

impl PreparedStage {
    /// The same rows in the same order for a later part of the stage.
    pub fn part(&self, stage: &Stage, base: &Base, seed: u64) -> Result<Self, PipelineError> {
        let config = base.checkpoint.config();
        let tuning = tuning(stage, config, seed)?;
        let steps = self.settings.learning_rate.steps;
        let settings = fit_settings(stage, optimizer_settings(stage, &tuning, config)?, steps);
        Ok(Self { settings, tuning, adapter: None, after_lora: after_lora(stage), ..self.clone() })
    }

    /// Micro-batches of a step, from 1. `references` are those of a preference stage; others need none.
    pub fn batches(&self, step: usize, references: &References) -> Result<Batches, DataError> {
        if self.reference.is_some() {
            let pairs = self.schedule.pairs(step - 1, &self.sources)?;
            let pairs: Vec<_> = pairs.iter().map(|(at, pair)| (at.source, pair, references.of(at))).collect();
            return Ok(Batches::Pairs(pair_batches(&pairs, self.micro_batch_tokens)));
        }
        let rows = self.schedule.rows(step - 1, &self.sources)?;
        let rows: Vec<_> = rows.iter().map(|(source, row)| (*source, row)).collect();
        Ok(Batches::Tokens(micro_batches(&rows, self.micro_batch_tokens)))
    }

    /// Micro-batches of the validation rows; none where there are no rows.
    pub fn validation_batches(&self, references: &References) -> Result<Batches, DataError> {
        let Some(source) = &self.validation else { return Ok(Batches::Tokens(Vec::new())) };
        if self.rft.is_some() {
            return Ok(Batches::Told);
        }
        let rows = 0..source.examples.len();
        if self.reference.is_some() {
            let pairs: Vec<_> = rows.map(|index| source.pair(index)).collect::<Result<_, _>>()?;
            let pairs: Vec<_> =
                pairs.iter().enumerate().map(|(index, pair)| (0, pair, references.of_validation(index))).collect();
            return Ok(Batches::Pairs(pair_batches(&pairs, self.micro_batch_tokens)));
        }
        let rows: Vec<_> = rows.map(|index| source.example(index)).collect::<Result<_, _>>()?;
        let rows: Vec<_> = rows.iter().map(|row| (0, row)).collect();
        Ok(Batches::Tokens(micro_batches(&rows, self.micro_batch_tokens)))
    }

    /// Whether it trains adapters over the base itself.
    pub fn trains_over_base(&self) -> bool {
        let merged = self.adapter.as_ref().is_some_and(|adapter| adapter.merge);
        self.of == 0 && self.after_lora.is_none() && matches!(self.tuning, Tuning::Lora(_)) && !merged
    }

    /// Tokens of the largest micro-batch: a row longer than `micro_batch_tokens` stands alone.
    pub fn workspace_tokens(&self) -> usize {
        let longest = |source: &Source| source.examples.longest();
        let sources = self.sources.iter().chain(&self.validation).map(longest).max().unwrap_or(0);
        (sources + self.rft.as_ref().map_or(0, |rft| rft.longest)).max(self.micro_batch_tokens)
    }
}

/// For what rows are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Domain,
    General,
    /// What judges, which is never filtered.
    Validation,
}

/// Reads the rows of a stage, draws its steps, and holds it against the base; of a stage of several parts, the first.
pub(super) fn prepare_stage(
    stage: &Stage,
    index: usize,
    writer: &mut Writer<'_>,
    own_rows: &mut Vec<OwnRows>,
    tokens: Tokens<'_>,
) -> Result<PreparedStage, PipelineError> {
    let seed = writer.recipe.seed.value;
    let rules = row_rules(stage);
    let found = writer.files;
    let (mut reports, mut own_reports) = (Vec::new(), Vec::new());
    let (filters, mut number) = (StageFilters::of(writer.recipe, stage, found), 0);
    let reinforces = stage.kind.value == StageKind::Rft;
    // As rewards read them, source by source.
    let asked = RefCell::new(Vec::new());
    let part = Cell::new(Part::Domain);
    let mut read = |files: &RowFiles, name: &str, weight: f64| -> Result<Source, PipelineError> {
        let (options, mut whole) = (read_options(files), None::<Source>);
        let mut own = Vec::new();
        for path in found.of(&files.path) {
            let filters = filters.as_ref().filter(|_| part.get() != Part::Validation).map(|filters| (filters, number));
            number += 1;
            let loss_weight = weight as f32;
            let prompted = reinforces && part.get() != Part::General;
            // General rows have their answers, which are trained as in `sft`.
            let rules = if reinforces && !prompted { answer_rules(stage) } else { rules };
            let source = tokens.source(&Asked { path, options: &options, rules, name, loss_weight, filters })?;
            let kind = source.report.kind;
            // General conversations keep what a model knows of talking: of them the answers are trained, as in `sft`.
            if stage.kind.value == StageKind::Cpt && kind != RowKind::Text && part.get() != Part::General {
                return Err(PipelineError::Unfit {
                    path: format!("stages.{index}"),
                    problem: format!("cpt trains on rows with `text`, but {} holds {kind} rows", path.display()),
                    hint: "use `kind: sft` for conversations and completions".to_owned(),
                });
            }
            if prompted {
                own.extend(prompts(path, &options, &source.examples)?);
            }
            reports.push((path.display().to_string(), source.report.clone()));
            match &mut whole {
                Some(whole) => whole.examples.append(source.examples),
                None => whole = Some(source),
            }
        }
        asked.borrow_mut().push(own);
        // A path that stands for no file was refused.
        whole.ok_or_else(|| PipelineError::from(DataError::Empty { path: files.path.clone() }))
    };
    let (mut sources, mut shares) = domain_sources(stage, &mut read)?;
    let mut unit = if reinforces { MixUnit::Samples } else { MixUnit::TrainedTokens };
    if let Some(mix) = &stage.mix {
        unit = match mix.unit.value {
            temper_recipe::MixUnit::ProcessedTokens => MixUnit::ProcessedTokens,
            temper_recipe::MixUnit::TrainedTokens => MixUnit::TrainedTokens,
            temper_recipe::MixUnit::Samples => MixUnit::Samples,
        };
        let domain = mix.domain.value / 100.0;
        shares.iter_mut().for_each(|share| *share *= domain);
        part.set(Part::General);
        for general in &mix.general {
            let mut source = match (general.path.files(), &general.self_data) {
                (Some(files), _) => read(files, &general.name.value, general.loss_weight.value)?,
                (None, Some(settings)) if stage.kind.value != StageKind::Dpo => {
                    let own = writer.rows(general, settings, rules.max_length)?;
                    own_reports.push((own.report.path.display().to_string(), own.source.report.clone()));
                    let source = own.source.clone();
                    own_rows.push(own);
                    source
                }
                (None, _) => {
                    return Err(PipelineError::Unfit {
                        path: general.path.path.clone(),
                        problem: format!("{} cannot train on the conversations that `self` writes", stage.kind.value),
                        hint: "use a file of preference pairs".to_owned(),
                    });
                }
            };
            source.general = true;
            sources.push(source);
            shares.push((1.0 - domain) * general.percent() / 100.0);
        }
        // A mix of domain alone may name no general source; rounding of percents is taken up.
        let total: f64 = shares.iter().sum();
        shares.iter_mut().for_each(|share| *share /= total);
    }
    part.set(Part::Validation);
    let validation = stage.validation.as_ref().map(|files| read(&files.value, "validation", 1.0)).transpose()?;
    reports.extend(own_reports);
    let mut asked = asked.into_inner();
    let of_validation = validation.as_ref().filter(|_| reinforces).and_then(|_| asked.pop()).unwrap_or_default();
    let rft = Rft::of(stage, join_as(&sources, asked), of_validation).map(Arc::new);
    // Of a stage that reinforces, what is drawn are rounds.
    let per_round = rft.as_ref().map_or(1, |rft| rft.steps_of_round());
    let extent = match stage.duration.value {
        Duration::Steps(steps) => Extent::Steps((steps as usize).div_ceil(per_round)),
        Duration::Epochs(epochs) => Extent::Epochs(epochs),
    };
    let batch = stage.global_batch_size.value as usize;
    let schedule = schedule(&sources, &shares, unit, batch, extent, seed)
        .map_err(|error| PipelineError::Mix { path: format!("stages.{index}.mix"), error })?;
    once(stage, &sources, &schedule)?;
    let config = writer.base.checkpoint.config();
    let tuning = tuning(stage, config, seed)?;
    let steps = match stage.duration.value {
        Duration::Steps(steps) => steps as usize,
        Duration::Epochs(_) => schedule.steps().len() * per_round,
    };
    let settings = fit_settings(stage, optimizer_settings(stage, &tuning, config)?, steps);
    let adapter = start_adapter(stage, index, &tuning, writer.base)?;
    Ok(PreparedStage {
        of: index,
        sources,
        reports,
        schedule,
        validation,
        settings,
        tuning,
        micro_batch_tokens: stage.micro_batch_tokens.value as usize,
        weight_average: stage.weight_average.value,
        reference: stage.preference.as_ref().map(|preference| preference.reference.value),
        adapter,
        rft,
        purpose: if stage.activation_checkpointing.value { Purpose::TrainRecomputing } else { Purpose::Train },
        after_lora: after_lora(stage),
    })
}

/// Prompts file by file, as the sources hold them: of sources that are one, theirs are one too.
fn join_as(sources: &[Source], files: Vec<Vec<Prompt>>) -> Vec<Vec<Prompt>> {
    let mut files = files.into_iter().flatten();
    sources.iter().map(|source| files.by_ref().take(source.examples.len()).collect()).collect()
}

/// What is trained.
fn tuning(stage: &Stage, config: &LlamaConfig, seed: u64) -> Result<Tuning, PipelineError> {
    Ok(match (&stage.mode.value, &stage.lora) {
        (Mode::Lora, Some(lora)) => Tuning::Lora(lora_settings(lora, seed, config)?),
        _ => Tuning::Full,
    })
}

fn after_lora(stage: &Stage) -> Option<FullStart> {
    stage.full_start.as_ref().map(|start| start.value)
}

type ReadSource<'a> = &'a mut dyn FnMut(&RowFiles, &str, f64) -> Result<Source, PipelineError>;

/// The sources of the domain with their shares of it: one that holds all files, or, where weights are given, one for each entry.
fn domain_sources(stage: &Stage, read: ReadSource<'_>) -> Result<(Vec<Source>, Vec<f64>), PipelineError> {
    let train = &stage.train.value;
    let weighted = train.iter().any(|files| files.weight.is_some());
    let mut sources: Vec<Source> = Vec::new();
    for files in train {
        let stem = files.path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let name = match (&files.name, train.len()) {
            (Some(name), _) => name.clone(),
            (None, 1) => "domain".to_owned(),
            (None, _) if !weighted => "domain".to_owned(),
            (None, _) => stem.unwrap_or_else(|| "domain".to_owned()),
        };
        let mut more = read(files, &name, stage.domain_loss_weight.value)?;
        more.order = match stage.row_order.value {
            temper_recipe::RowOrder::Shuffled => RowOrder::Shuffled,
            temper_recipe::RowOrder::BestLast => RowOrder::BestLast,
        };
        let without = (0..more.examples.len()).filter(|&index| more.examples.quality(index).is_none()).count();
        if more.order == RowOrder::BestLast && without > 0 {
            return Err(PipelineError::Unfit {
                path: stage.row_order.path.clone(),
                problem: format!("{without} rows of {} have no number as `quality`", files.path.display()),
                hint: "give every row one, or say row_order: shuffled".to_owned(),
            });
        }
        match sources.first_mut().filter(|_| !weighted) {
            Some(first) => first.examples.append(more.examples),
            None => sources.push(more),
        }
    }
    let weights: Vec<f64> = match weighted {
        true => train.iter().map(|files| files.weight.map_or(1.0, |weight| weight.0)).collect(),
        false => vec![1.0],
    };
    let total: f64 = weights.iter().sum();
    Ok((sources, weights.into_iter().map(|weight| weight / total).collect()))
}

/// Continued pretraining reads its text once, unless the recipe counts in epochs, and so says how often.
fn once(stage: &Stage, sources: &[Source], schedule: &Schedule) -> Result<(), PipelineError> {
    let Duration::Steps(steps) = stage.duration.value else { return Ok(()) };
    let shares = &schedule.shares().sources;
    let again = sources.iter().zip(shares).find(|(source, share)| !source.general && share.repeated > 0);
    let (StageKind::Cpt, Some((_, share))) = (stage.kind.value, again) else { return Ok(()) };
    let mut seen = std::collections::HashSet::new();
    let mut new = |step: &&Vec<temper_data::ExampleRef>| {
        let mut domain = step.iter().filter(|row| !sources[usize::from(row.source)].general);
        domain.all(|row| seen.insert(*row))
    };
    let enough = schedule.steps().iter().take_while(|step| new(step)).count();
    let epochs = (share.epochs * 100.0).ceil() / 100.0;
    Err(PipelineError::Unfit {
        path: stage.duration.path.clone(),
        problem: format!(
            "{steps} steps read {} {:.2} times over, but text is read once in continued pretraining (Amazon Nova Forge: at \
             most one epoch)",
            share.name, share.epochs
        ),
        hint: format!(
            "at most {enough} steps read nothing twice; `num_train_epochs: {epochs}` in place of `max_steps` says that \
             reading again is wanted"
        ),
    })
}

/// The loss of pairs in the words of the trainer.
fn preference_settings(preference: &temper_recipe::Preference) -> PreferenceSettings {
    PreferenceSettings {
        loss_type: match preference.loss_type.value {
            temper_recipe::PairLoss::Sigmoid => PairLoss::Sigmoid,
            temper_recipe::PairLoss::Ipo => PairLoss::Ipo,
            temper_recipe::PairLoss::Hinge => PairLoss::Hinge,
            temper_recipe::PairLoss::Robust => PairLoss::Robust,
        },
        beta: preference.beta.value,
        label_smoothing: preference.label_smoothing.as_ref().map_or(0.0, |share| share.value),
        rpo_alpha: preference.rpo_alpha.value,
    }
}

/// Rates, optimiser and stops of a stage of so many steps.
fn fit_settings(stage: &Stage, optimizer: OptimizerSettings, steps: usize) -> FitSettings {
    let span = |span: &temper_recipe::Span| span.steps(steps as u64) as usize;
    let shape = match stage.lr_scheduler_type.value {
        LrScheduler::Constant => Shape::Constant,
        LrScheduler::Linear => Shape::Linear,
        LrScheduler::Cosine => Shape::Cosine,
        LrScheduler::Wsd => Shape::Wsd { decay_steps: stage.decay.as_ref().map_or(0, |d| span(&d.value)) },
    };
    FitSettings {
        learning_rate: LearningRate {
            peak: stage.learning_rate.value,
            min_lr: stage.min_lr.as_ref().map_or(0.0, |m| m.value),
            warmup_steps: span(&stage.warmup.value),
            steps,
            shape,
        },
        optimizer,
        eval_steps: stage.eval_steps.as_ref().map_or(usize::MAX, |e| e.value as usize),
        eval_at: Vec::new(),
        stops: StopSettings {
            early_stopping_patience: stage.early_stopping_patience.as_ref().map_or(0, |p| p.value as usize),
            early_stopping_threshold: stage.early_stopping_threshold.as_ref().map_or(0.0, |t| t.value),
            flat_gain: stage.flat_gain.as_ref().map_or(0.0, |share| share.value),
        },
        preference: stage.preference.as_ref().map(preference_settings),
        policy: policy_settings(stage),
    }
}
