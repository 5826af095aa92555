//! Reading everything that a recipe names, before anything is trained.

mod adapter;
mod memory;
mod optimizer;
mod reading;
mod stage;

use std::cell::OnceCell;
use std::path::Path;

use temper_data::CheckReport;
use temper_kernels::{Cpu, Precision};
use temper_model::{Llama, Tuning, WeightsError};
use temper_recipe::{FrozenWeights, Note, Recipe, Stage};

use self::memory::Fit;
pub(crate) use self::reading::{read_options, row_rules};
pub(crate) use self::stage::PreparedStage;
use self::stage::prepare_stage;
use crate::base::open_base_by;
use crate::cache::{Cache, Kept};
use crate::checks;
use crate::estimate::Measured;
use crate::files::Files;
use crate::identity::{Input, inputs, tokenizer_sha256};
use crate::packed::Packed;
use crate::phases::Phases;
use crate::plan::Plan;
use crate::provenance::Provenance;
use crate::rft::{Baseline, known_baseline, of_first_stage};
use crate::rows::Tokens;
use crate::run::{Event, Options};
use crate::self_data::{OwnRows, Writer};
use crate::watch::Watch;
use crate::{Base, PipelineError, snapshot};

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
    /// The trainings that its stages are, in order.
    pub(crate) parts: Vec<Stage>,
    /// The same, with their rows.
    pub(crate) stages: Vec<PreparedStage>,
    /// What the base writes itself, a part for each such source.
    pub(crate) own_rows: Vec<OwnRows>,
    /// Every data file with its hash.
    pub(crate) inputs: Vec<Input>,
    /// What the checks found in the rows of each stage.
    pub(crate) checks: Vec<CheckReport>,
    /// The hash of tokenizer and chat template.
    pub(crate) tokenizer_sha256: String,
    /// The text that is scored while training.
    pub(crate) watch: Watch,
    /// Tokens of the longest such text.
    pub(crate) watch_tokens: usize,
    /// The base's packed weights, opened when they are first needed.
    packed: OnceCell<Packed>,
    /// What the base earns, where the first stage reinforces it, once that was measured.
    baseline: OnceCell<Baseline>,
    /// Measured once: the plan that is shown is the plan that is stored.
    pub(crate) measured: OnceCell<Measured>,
}

impl Prepared {
    /// What the run will do.
    pub fn plan(&self) -> Plan {
        Plan::of(self)
    }

    /// Samples and scores what the base answers to prompts of the first stage, where that reinforces it; kept for the plan and the run.
    ///
    /// # Errors
    /// When rewards cannot be opened or trusted, or the base cannot be loaded.
    pub fn measure_baseline(&self, on_event: &mut dyn FnMut(&Event)) -> Result<Option<&Baseline>, PipelineError> {
        if self.baseline.get().is_none() {
            let mut tell = |done, total| {
                on_event(&Event::Evaluating { suite: "baseline".to_owned(), side: "base", done, total });
            };
            if let Some(baseline) = of_first_stage(self, &mut tell)? {
                let _ = self.baseline.set(baseline);
            }
        }
        Ok(self.baseline.get())
    }

    /// What [`Prepared::measure_baseline`] found, or an earlier run.
    pub(crate) fn baseline(&self) -> Option<Baseline> {
        self.baseline.get().cloned().or_else(|| known_baseline(self, 0))
    }

    /// The base's packed weights, from the cache or for it; nothing where the cache is switched off or the weights stay as they
    /// are stored.
    pub(crate) fn packed(&self) -> &Packed {
        self.packed.get_or_init(|| match &self.cache {
            _ if self.keeps_as_stored() => Packed::as_stored(),
            Some(cache) => Packed::of(cache, &self.base, &self.device),
            None => Packed::default(),
        })
    }

    /// Whether the base's weights stay as they are stored where they are not trained.
    pub(crate) fn keeps_as_stored(&self) -> bool {
        self.recipe.frozen_weights.value == FrozenWeights::AsStored
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

    /// Saves what `model` trained: an adapter that records the base, its alpha times `scale`, or a whole model.
    pub(crate) fn save(
        &self,
        model: &Llama<Cpu>,
        tuning: &Tuning,
        scale: f64,
        dir: &Path,
    ) -> Result<(), PipelineError> {
        let name = self.recipe.base.source.value.to_string();
        snapshot::save(model, tuning, scale, (&name, &self.base.record()), dir).map_err(PipelineError::Save)
    }

    /// Tokens of the largest pass while a stage trains: a micro-batch, or a watched text.
    pub(crate) fn tokens_together(&self, stage: &PreparedStage) -> usize {
        stage.workspace_tokens().max(self.watch_tokens)
    }

    /// Whether the tuned model, its adapters off, is the base: after one LoRA stage that trained nothing else.
    pub(crate) fn tuned_holds_base(&self) -> bool {
        self.leaves_adapter() && matches!(&self.stages[0].tuning, Tuning::Lora(lora) if lora.keeps_base())
    }

    /// Whether what is tuned is the base with one adapter: one LoRA stage, over the base itself.
    pub(crate) fn leaves_adapter(&self) -> bool {
        self.stages.len() == 1 && self.trains_over_base(0)
    }

    /// Whether stage `index` trains adapters over the base itself.
    pub(crate) fn trains_over_base(&self, index: usize) -> bool {
        self.stages[index].trains_over_base()
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
    let (mut parts, mut stages, mut own_rows) = (Vec::new(), Vec::new(), Vec::new());
    // Evaluation files are read now, so that a fault in them costs no training.
    let tokenizer_sha256 = tokenizer_sha256(&base);
    let kept = Kept(options.cache.as_ref());
    let tokens = Tokens { renderer: &base.renderer, tokenizer_sha256: &tokenizer_sha256, kept };
    crate::judge::check_items(&recipe, context, tokens)?;
    phases.lap("evaluation items");
    crate::export::check(&recipe.export, &base)?;
    crate::frozen::check(&recipe, &base.checkpoint)?;
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
        let own = stage.parts();
        let first = prepare_stage(&own[0], index, &mut writer, &mut own_rows, tokens)?;
        let later = own[1..].iter().map(|part| first.part(part, &base, recipe.seed.value));
        let later = later.collect::<Result<Vec<_>, _>>()?;
        stages.push(first);
        stages.extend(later);
        parts.extend(own);
    }
    phases.lap("rows");
    let watch = Watch::of(&recipe)?;
    let watch_tokens = watch.longest(&base.renderer)?;
    phases.lap("watched text");
    if let Some(limit) = recipe.memory_limit.clone() {
        for (index, own) in recipe.stages.iter_mut().enumerate() {
            let mine = stages.iter_mut().filter(|stage| stage.of == index);
            let as_stored = recipe.frozen_weights.value == FrozenWeights::AsStored;
            let fit = Fit { device: &device, checkpoint: &base.checkpoint, as_stored, watch_tokens, limit: &limit };
            fit.choose(&mut mine.collect::<Vec<_>>(), own)?;
        }
        parts = recipe.stages.iter().flat_map(Stage::parts).collect();
    }
    let mut inputs = inputs(&recipe, &files)?;
    let written = own_rows.iter().enumerate().filter(|(_, own)| own.report.written);
    inputs.extend(written.map(|(index, own)| own.input(recipe.output.value.join(OwnRows::file_name(index)), &base)));
    phases.lap("hash inputs");
    let checks = (0..recipe.stages.len()).map(|index| checks::check(&recipe, index, (&files, &inputs), kept));
    let checks = checks.collect::<Result<Vec<_>, _>>()?;
    let checks = stages.iter().map(|stage| checks[stage.of].clone()).collect();
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
        parts,
        stages,
        own_rows,
        inputs,
        checks,
        tokenizer_sha256,
        watch,
        watch_tokens,
        packed: OnceCell::new(),
        baseline: OnceCell::new(),
        measured: OnceCell::new(),
    })
}
