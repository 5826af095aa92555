//! Reading everything that a recipe names, before anything is trained.

use std::cell::Cell;
use std::path::PathBuf;

use temper_data::{
    CheckReport, DataError, Extent, Format, MixUnit, ReadOptions, RowOrder, RowRules, Schedule, Source, SourceReport,
    micro_batches, pair_batches, schedule,
};
use temper_kernels::{Cpu, Precision};
use temper_model::{
    AdapterInit, Dropout, Llama, LlamaConfig, LoraSettings, Purpose, TABLES, Tuning, WeightsError, read_adapter,
};
use temper_recipe::{
    AdapterUse, Duration, InitLora, Lora, LrScheduler, Mode, Note, Recipe, ReferenceModel, RowFiles, RowFormat, Stage,
    StageKind, Valued,
};
use temper_text::{Boundary, ChatRules, Turns};
use temper_train::{
    AdamWSettings, Batches, FitSettings, LearningRate, PairLoss, PreferenceSettings, Shape, StopSettings,
};

use crate::base::open_base_by;
use crate::cache::{Cache, Kept};
use crate::checks::{self, StageFilters};
use crate::estimate::training_memory;
use crate::files::Files;
use crate::identity::{Input, inputs, tokenizer_sha256};
use crate::packed::Packed;
use crate::phases::Phases;
use crate::plan::Plan;
use crate::provenance::Provenance;
use crate::reference::References;
use crate::rows::{Asked, Tokens};
use crate::run::{Event, Options};
use crate::self_data::{OwnRows, Writer};
use crate::{Base, PipelineError};

/// A stage with its rows.
#[derive(Clone)]
pub(crate) struct PreparedStage {
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
    /// Of the workspace: whether activations are computed again.
    pub purpose: Purpose,
}

/// An adapter that a stage begins with.
#[derive(Clone)]
pub(crate) struct StartAdapter {
    pub path: PathBuf,
    /// Merged into the base, or trained on.
    pub merge: bool,
    /// What is to be known of how it fits the base.
    pub warning: Option<String>,
}

impl PreparedStage {
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

    pub fn validation_batches(&self, references: &References) -> Result<Batches, DataError> {
        let Some(source) = &self.validation else { return Ok(Batches::Tokens(Vec::new())) };
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

    /// The stage with a result that lies at `weight` between its start and what it gives.
    pub fn averaged(&self, weight: f64) -> Self {
        Self { weight_average: self.weight_average * weight, ..self.clone() }
    }

    /// Tokens of the largest micro-batch: a row longer than `micro_batch_tokens` stands alone.
    pub fn workspace_tokens(&self) -> usize {
        let longest = |source: &Source| source.examples.longest();
        let sources = self.sources.iter().chain(&self.validation).map(longest).max().unwrap_or(0);
        sources.max(self.micro_batch_tokens)
    }
}

/// A recipe with its base opened and its rows read.
pub struct Prepared {
    /// The recipe.
    pub recipe: Recipe,
    /// What the user is told of how it was read.
    pub notes: Vec<Note>,
    /// The base.
    pub base: Base,
    /// The device.
    pub device: Cpu,
    /// Program, machine and command: for the caller to fill in, who knows the command.
    pub provenance: Provenance,
    /// What may be reused and added to.
    pub(crate) cache: Option<Cache>,
    /// Whether speeds are measured anew.
    pub(crate) measure: bool,
    /// The clock from the command to the first step.
    pub phases: Phases,
    pub(crate) stages: Vec<PreparedStage>,
    /// What the base writes itself, a part for each such source.
    pub(crate) own_rows: Vec<OwnRows>,
    /// Every data file with its hash.
    pub(crate) inputs: Vec<Input>,
    /// What the checks found in the rows of each stage.
    pub(crate) checks: Vec<CheckReport>,
    /// The hash of tokenizer and chat template.
    pub(crate) tokenizer_sha256: String,
    /// Tokens of the longest text that is scored while training.
    pub(crate) watch_tokens: usize,
    /// The base's packed weights, opened when they are first needed.
    packed: std::cell::OnceCell<Packed>,
    /// Measured once: the plan that is shown is the plan that is stored.
    pub(crate) measured: std::cell::OnceCell<crate::estimate::Measured>,
}

impl Prepared {
    /// What the run will do.
    pub fn plan(&self) -> Plan {
        Plan::of(self)
    }

    /// The base's packed weights, from the cache or for it; nothing where the cache is switched off.
    pub(crate) fn packed(&self) -> &Packed {
        let of = |cache| Packed::of(cache, &self.base, &self.device);
        self.packed.get_or_init(|| self.cache.as_ref().map_or_else(Packed::default, of))
    }

    /// What is to be said of the packed weights, where they were needed.
    pub(crate) fn packed_problem(&self) -> Option<String> {
        self.packed.get()?.problem.clone()
    }

    /// A model over the base.
    pub(crate) fn load_base(&self, tuning: &Tuning) -> Result<Llama<Cpu>, WeightsError> {
        // What is trained is not packed.
        let none = Packed::default();
        let packed = if matches!(tuning, Tuning::Full) { &none } else { self.packed() };
        packed.load(&self.base, self.device, tuning)
    }

    /// Whether the tuned model, its adapters off, is the base: after one LoRA stage that trained nothing else.
    pub(crate) fn tuned_holds_base(&self) -> bool {
        self.leaves_adapter() && matches!(&self.stages[0].tuning, Tuning::Lora(lora) if lora.keeps_base())
    }

    /// Whether what is tuned is the base with one adapter: one LoRA stage, over the base itself.
    pub(crate) fn leaves_adapter(&self) -> bool {
        let over_base = |stage: &PreparedStage| !stage.adapter.as_ref().is_some_and(|adapter| adapter.merge);
        matches!(&self.stages[..], [stage] if matches!(stage.tuning, Tuning::Lora(_)) && over_base(stage))
    }

    pub(crate) fn kept(&self) -> Kept<'_> {
        Kept(self.cache.as_ref())
    }
}

/// Opens the base and reads every row.
///
/// # Errors
/// [`PipelineError`], before anything is written.
pub fn prepare(
    mut recipe: Recipe,
    notes: Vec<Note>,
    options: &Options,
    on_event: &mut dyn FnMut(&Event),
) -> Result<Prepared, PipelineError> {
    let phases = options.begun.map_or_else(Phases::default, Phases::since);
    phases.lap("recipe");
    let threads = match options.threads {
        0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
        n => n,
    };
    let device = Cpu::new(threads).with_precision(match recipe.precision.value {
        temper_recipe::Precision::F32 => Precision::F32,
        temper_recipe::Precision::Bf16 => Precision::Bf16,
    });
    let sha256 = recipe.base.sha256.as_ref().map(|s| s.value.as_str());
    let began = options.began.clone().unwrap_or_else(temper_run::utc_now);
    let base = open_base_by(&phases, &recipe.base.source.value.to_string(), sha256, options.offline, &began, on_event)?;
    let context = base.checkpoint.config().max_position_embeddings;
    let (mut stages, mut own_rows) = (Vec::new(), Vec::new());
    // Evaluation files are read now, so that a fault in them costs no training.
    let tokenizer_sha256 = tokenizer_sha256(&base);
    let kept = Kept(options.cache.as_ref());
    let tokens = Tokens { renderer: &base.renderer, tokenizer_sha256: &tokenizer_sha256, kept };
    crate::judge::check_items(&recipe, context, tokens)?;
    phases.lap("evaluation items");
    crate::export::check(&recipe.export, &base)?;
    let files = Files::find(&recipe, options.offline, on_event)?;
    phases.lap("files of rows");
    let mut writer =
        Writer { recipe: &recipe, base: &base, device, write: options.write_self, files: &files, on_event };
    for (index, stage) in recipe.stages.iter().enumerate() {
        if stage.max_length.value as usize > context {
            return Err(PipelineError::Unfit {
                path: stage.max_length.path.clone(),
                problem: format!("{} tokens, but the base has {context} positions", stage.max_length.value),
                hint: format!("at most {context}"),
            });
        }
        stages.push(prepare_stage(stage, index, &mut writer, &mut own_rows, tokens)?);
    }
    phases.lap("rows");
    let watch_tokens = crate::watch::Watch::of(&recipe)?.longest(&base.renderer)?;
    phases.lap("watched text");
    if let Some(limit) = recipe.memory_limit.clone() {
        for (stage, own) in stages.iter_mut().zip(&mut recipe.stages) {
            fit_memory(&device, base.checkpoint.config(), stage, own, watch_tokens, &limit)?;
        }
    }
    let mut inputs = inputs(&recipe, &files)?;
    let written = own_rows.iter().enumerate().filter(|(_, own)| own.report.written);
    inputs.extend(written.map(|(index, own)| own.input(recipe.output.value.join(OwnRows::file_name(index)), &base)));
    phases.lap("hash inputs");
    let checks = (0..recipe.stages.len()).map(|index| checks::check(&recipe, index, (&files, &inputs), kept));
    let checks = checks.collect::<Result<_, _>>()?;
    phases.lap("checks of the rows");
    let provenance = Provenance { began: Some(began), ..Provenance::default() };
    Ok(Prepared {
        recipe,
        notes,
        base,
        device,
        provenance,
        cache: options.cache.clone(),
        measure: options.measure,
        phases,
        stages,
        own_rows,
        inputs,
        checks,
        tokenizer_sha256,
        watch_tokens,
        packed: std::cell::OnceCell::new(),
        measured: std::cell::OnceCell::new(),
    })
}

/// Holds a stage against `memory_limit`, and gives it the most tokens a micro-batch that fit where the recipe gives none.
fn fit_memory(
    device: &Cpu,
    config: &LlamaConfig,
    stage: &mut PreparedStage,
    own: &mut Stage,
    watch_tokens: usize,
    limit: &Valued<u64>,
) -> Result<(), PipelineError> {
    let takes = |tokens: usize| {
        let tokens = tokens.max(watch_tokens);
        training_memory(device, config, &stage.tuning, stage.purpose, tokens) as u64
    };
    let least = stage.workspace_tokens();
    if takes(least) > limit.value {
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        let recomputes = stage.purpose == Purpose::TrainRecomputing;
        return Err(PipelineError::Unfit {
            path: limit.path.clone(),
            problem: format!(
                "training at {least} tokens a micro-batch takes {:.2} GiB, more than {:.2} GiB",
                gib(takes(least)),
                gib(limit.value)
            ),
            hint: format!(
                "lower max_length or micro_batch_tokens{}{}",
                if recomputes { "" } else { ", or set activation_checkpointing: true" },
                if stage.tuning == Tuning::Full { ", or mode: lora" } else { "" }
            ),
        });
    }
    if matches!(own.micro_batch_tokens.source, temper_recipe::Source::Default { .. }) {
        // More than all rows of a step at their longest is never filled. In runs of 64 tokens.
        let most =
            (own.global_batch_size.value.saturating_mul(own.max_length.value) as usize / 64).max(least.div_ceil(64));
        let (mut fits, mut over) = (least.div_ceil(64), most + 1);
        while fits + 1 < over {
            let middle = fits.midpoint(over);
            *(if takes(64 * middle) <= limit.value { &mut fits } else { &mut over }) = middle;
        }
        let tokens = (64 * fits).max(least);
        if takes(tokens) <= limit.value {
            stage.micro_batch_tokens = tokens;
            own.micro_batch_tokens.value = tokens as u64;
            own.micro_batch_tokens.source =
                temper_recipe::Source::Default { why: "the most that fit into memory_limit" };
        }
    }
    Ok(())
}

/// How the files of a source are read.
pub(crate) fn read_options(files: &RowFiles) -> ReadOptions {
    let format = files.format.map(|format| match format {
        RowFormat::Messages => Format::Messages,
        RowFormat::Converse => Format::Converse,
        RowFormat::Sharegpt => Format::Sharegpt,
        RowFormat::Alpaca => Format::Alpaca,
        RowFormat::PromptCompletion => Format::PromptCompletion,
        RowFormat::QuestionAnswer => Format::QuestionAnswer,
        RowFormat::Preference => Format::Preference,
        RowFormat::Rft => Format::Rft,
        RowFormat::Text => Format::Text,
    });
    ReadOptions { format, columns: files.columns.clone() }
}

/// How the conversations of a stage are rendered.
pub(crate) fn chat_rules(stage: &Stage) -> ChatRules {
    ChatRules {
        allow_control_tokens: stage.allow_control_tokens.value,
        last_turn_only: stage.mask_history.value,
        turns: match stage.turns.value {
            temper_recipe::Turns::Together => Turns::Together,
            temper_recipe::Turns::Apart => Turns::Apart,
        },
        boundary: match stage.boundary.value {
            temper_recipe::Boundary::Apart => Boundary::Apart,
            temper_recipe::Boundary::Refuse => Boundary::Refuse,
        },
    }
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

/// The adapter that a stage begins with, held against the base and, where it is trained on, against the recipe.
fn start_adapter(
    stage: &Stage,
    index: usize,
    tuning: &Tuning,
    base: &Base,
) -> Result<Option<StartAdapter>, PipelineError> {
    let (Some(folder), Some(adapter_use)) = (&stage.adapter, &stage.adapter_use) else { return Ok(None) };
    let unfit = |problem: String, hint: String| PipelineError::Unfit { path: folder.path.clone(), problem, hint };
    if index > 0 {
        return Err(unfit(
            "only the first stage begins with an adapter: each later one begins where the one before ended".to_owned(),
            "move it to the first stage".to_owned(),
        ));
    }
    let (path, config) = (folder.value.clone(), base.checkpoint.config());
    let mut adapter = read_adapter(&path)?;
    adapter.fit(config, &path)?;
    let warning = base.suits(&adapter.config, &path, false)?;
    let merge = adapter_use.value == AdapterUse::Merge;
    if let (false, Tuning::Lora(own)) = (merge, tuning) {
        let given = &adapter.config.lora;
        let tables = |lora: &LoraSettings| TABLES.map(|table| lora.trains_table(config, table));
        let mut different = Vec::new();
        let mut differs = |differs: bool, field: String| different.extend(differs.then_some(field));
        differs(own.rank != given.rank, format!("lora_rank: {}", given.rank));
        differs(own.alpha != given.alpha, format!("lora_alpha: {}", given.alpha));
        let targets = format!("target_modules: [{}]", given.targets.join(", "));
        differs(own.modules(config) != given.modules(config), targets);
        differs(own.rank_stabilised != given.rank_stabilised, format!("use_rslora: {}", given.rank_stabilised));
        differs(own.dora != given.dora, format!("use_dora: {}", given.dora));
        let saved = format!("modules_to_save: [{}]", given.modules_to_save.join(", "));
        differs(tables(own) != tables(given), saved);
        if !different.is_empty() {
            return Err(unfit(
                format!("{} is trained on as it is, but the recipe asks for another", path.display()),
                format!("write {}; or adapter_use: merge", different.join(", ")),
            ));
        }
    }
    Ok(Some(StartAdapter { path, merge, warning }))
}

/// The adapters of a stage; every entry of `target_modules` must name a linear that there is.
fn lora_settings(lora: &Lora, seed: u64, config: &LlamaConfig) -> Result<LoraSettings, PipelineError> {
    let rate = lora.lora_dropout.value as f32;
    let settings = LoraSettings {
        rank_stabilised: lora.use_rslora.value,
        dora: lora.use_dora.value,
        dropout: (rate > 0.0).then_some(Dropout { rate, seed }),
        modules_to_save: lora.modules_to_save.value.iter().map(ToString::to_string).collect(),
        init: match lora.init_lora_weights.value {
            InitLora::Kaiming => AdapterInit::Kaiming,
            InitLora::Gaussian => AdapterInit::Gaussian,
        },
        b_rate: lora.loraplus_lr_ratio.value as f32,
        ..LoraSettings::new(
            lora.lora_rank.value as usize,
            lora.lora_alpha.value as f32,
            lora.target_modules.value.clone(),
        )
    };
    let alone = |target: &&String| LoraSettings::new(1, 1.0, vec![(*target).clone()]).sizes(config).1 == 0;
    if let Some(target) = settings.targets.iter().find(alone) {
        return Err(PipelineError::Unfit {
            path: lora.target_modules.path.clone(),
            problem: format!("`{target}` names no linear of the base, which has {} layers", config.num_hidden_layers),
            hint: "a path ends as in `layers.0.self_attn.q_proj` or `layers.0.mlp.down_proj`".to_owned(),
        });
    }
    Ok(settings)
}

fn prepare_stage(
    stage: &Stage,
    index: usize,
    writer: &mut Writer<'_>,
    own_rows: &mut Vec<OwnRows>,
    tokens: Tokens<'_>,
) -> Result<PreparedStage, PipelineError> {
    let seed = writer.recipe.seed.value;
    let max_length = stage.max_length.value as usize;
    let rules = RowRules { max_length, chat: chat_rules(stage), pairs: stage.kind.value == StageKind::Dpo };
    let found = writer.files;
    let (mut reports, mut own_reports) = (Vec::new(), Vec::new());
    // What judges is never filtered.
    let (filters, trained, mut number) = (StageFilters::of(writer.recipe, stage, found), Cell::new(true), 0);
    let mut read = |files: &RowFiles, name: &str, weight: f64| -> Result<Source, PipelineError> {
        let (options, mut whole) = (read_options(files), None::<Source>);
        for path in found.of(&files.path) {
            let filters = filters.as_ref().filter(|_| trained.get()).map(|filters| (filters, number));
            number += 1;
            let loss_weight = weight as f32;
            let source = tokens.source(&Asked { path, options: &options, rules, name, loss_weight, filters })?;
            let kind = source.report.kind;
            if stage.kind.value == StageKind::Cpt && kind != temper_data::RowKind::Text {
                return Err(PipelineError::Unfit {
                    path: format!("stages.{index}"),
                    problem: format!("cpt trains on rows with `text`, but {} holds {kind:?} rows", path.display()),
                    hint: "use `kind: sft` for conversations and completions".to_owned(),
                });
            }
            reports.push((path.display().to_string(), source.report.clone()));
            match &mut whole {
                Some(whole) => whole.examples.append(source.examples),
                None => whole = Some(source),
            }
        }
        // A path that stands for no file was refused.
        whole.ok_or_else(|| PipelineError::from(DataError::Empty { path: files.path.clone() }))
    };
    let (mut sources, mut shares) = domain_sources(stage, &mut read)?;
    let mut unit = MixUnit::TrainedTokens;
    if let Some(mix) = &stage.mix {
        unit = match mix.unit.value {
            temper_recipe::MixUnit::ProcessedTokens => MixUnit::ProcessedTokens,
            temper_recipe::MixUnit::TrainedTokens => MixUnit::TrainedTokens,
            temper_recipe::MixUnit::Samples => MixUnit::Samples,
        };
        let domain = mix.domain.value / 100.0;
        shares.iter_mut().for_each(|share| *share *= domain);
        for general in &mix.general {
            let mut source = match (general.path.files(), &general.self_data) {
                (Some(files), _) => read(files, &general.name.value, general.loss_weight.value)?,
                (None, Some(settings)) if stage.kind.value == StageKind::Sft => {
                    let own = writer.rows(general, settings, max_length)?;
                    own_reports.push((own.report.path.display().to_string(), own.source.report.clone()));
                    let source = own.source.clone();
                    own_rows.push(own);
                    source
                }
                (None, _) => {
                    return Err(PipelineError::Unfit {
                        path: general.path.path.clone(),
                        problem: format!("{} cannot train on the conversations that `self` writes", stage.kind.value),
                        hint: "use `kind: sft`, or a file of rows of this kind".to_owned(),
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
    trained.set(false);
    let validation = stage.validation.as_ref().map(|files| read(&files.value, "validation", 1.0)).transpose()?;
    reports.extend(own_reports);
    let extent = match stage.duration.value {
        Duration::Steps(steps) => Extent::Steps(steps as usize),
        Duration::Epochs(epochs) => Extent::Epochs(epochs),
    };
    let batch = stage.global_batch_size.value as usize;
    let schedule = schedule(&sources, &shares, unit, batch, extent, seed)
        .map_err(|error| PipelineError::Mix { path: format!("stages.{index}.mix"), error })?;
    once(stage, &sources, &schedule)?;
    let steps = schedule.steps().len();
    let span = |span: &temper_recipe::Span| span.steps(steps as u64) as usize;
    let shape = match stage.lr_scheduler_type.value {
        LrScheduler::Constant => Shape::Constant,
        LrScheduler::Linear => Shape::Linear,
        LrScheduler::Cosine => Shape::Cosine,
        LrScheduler::Wsd => Shape::Wsd { decay_steps: stage.decay.as_ref().map_or(0, |d| span(&d.value)) },
    };
    let settings = FitSettings {
        learning_rate: LearningRate {
            peak: stage.learning_rate.value,
            min_lr: stage.min_lr.as_ref().map_or(0.0, |m| m.value),
            warmup_steps: span(&stage.warmup.value),
            steps,
            shape,
        },
        adamw: AdamWSettings {
            beta1: stage.adam_beta1.value,
            beta2: stage.adam_beta2.value,
            epsilon: stage.adam_epsilon.value,
            weight_decay: stage.weight_decay.value,
            max_grad_norm: stage.max_grad_norm.value,
        },
        eval_steps: stage.eval_steps.as_ref().map_or(usize::MAX, |e| e.value as usize),
        stops: StopSettings {
            early_stopping_patience: stage.early_stopping_patience.as_ref().map_or(0, |p| p.value as usize),
            early_stopping_threshold: stage.early_stopping_threshold.as_ref().map_or(0.0, |t| t.value),
        },
        preference: stage.preference.as_ref().map(preference_settings),
    };
    let tuning = match (&stage.mode.value, &stage.lora) {
        (Mode::Lora, Some(lora)) => Tuning::Lora(lora_settings(lora, seed, writer.base.checkpoint.config())?),
        _ => Tuning::Full,
    };
    let adapter = start_adapter(stage, index, &tuning, writer.base)?;
    Ok(PreparedStage {
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
        purpose: if stage.activation_checkpointing.value { Purpose::TrainRecomputing } else { Purpose::Train },
    })
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
