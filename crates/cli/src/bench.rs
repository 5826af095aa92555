//! `temper bench`: where a training step's time goes, and steps for `bench/train`, on random weights; generation with
//! real ones.

mod data;
mod generate;
mod profile;
mod trials;

use std::time::Instant;

use temper_data::{MicroBatch, Target};
use temper_kernels::{Cpu, Device, Encoding, FrozenWeight, PackedWeights, Precision};
use temper_model::{
    LINEAR_MODULES, Llama, LlamaConfig, LoraSettings, Purpose, Stored, Tuning, WeightsError, Workspace,
};
use temper_run::Random;
use temper_train::{AdamWSettings, Optimizer, step};

use crate::base::{MachineArgs, PrecisionArgs};
use anyhow::bail;

use crate::command::{DONE, Failure, Outcome, print};

/// What to measure.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    profile: ProfileArgs,
}

/// Without a subcommand: where the time of a training step goes.
#[derive(clap::Subcommand)]
enum Command {
    /// Training steps, one JSON line each, for a driver that compares.
    Step(StepArgs),
    /// LoRA trials over one base: side by side, and one after the other on all threads.
    Trials(trials::TrialsArgs),
    /// Generation with a real model: tokens a second, one stream and many.
    Generate(generate::GenerateArgs),
    /// A file of rows read, rendered, tokenised and packed, with nothing kept from before.
    Data(data::DataArgs),
}

/// A profile of a step.
#[derive(clap::Args)]
struct ProfileArgs {
    #[arg(long, value_enum, default_value_t = Mode::Lora)]
    mode: Mode,
    /// Steps to measure, after one to warm up.
    #[arg(long, default_value_t = 3)]
    steps: usize,
    #[command(flatten)]
    shape: Shape,
}

/// Steps for a driver.
#[derive(clap::Args)]
struct StepArgs {
    #[arg(long, value_enum)]
    mode: Mode,
    #[arg(long)]
    steps: usize,
    /// Keep the frozen weights of LoRA in such blocks, as with `frozen_weights: as_stored`.
    #[arg(long, value_enum)]
    frozen: Option<Blocks>,
    #[command(flatten)]
    shape: Shape,
}

/// Quantised blocks that can be written here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Blocks {
    #[value(name = "q8_0")]
    Q8,
    #[value(name = "q4_0")]
    Q4,
}

/// What is trained.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Mode {
    Lora,
    Full,
}

/// The shape of a step of SmolLM2-135M on random weights.
#[derive(clap::Args)]
struct Shape {
    /// Rows of a step.
    #[arg(long, default_value_t = 4)]
    batch: usize,
    /// Tokens of a row.
    #[arg(long, default_value_t = 256)]
    length: usize,
    #[arg(long, default_value_t = 16)]
    rank: usize,
    #[arg(long, default_value_t = 32.0)]
    alpha: f32,
    /// Micro-batches that the rows of a step are dealt to: less memory for activations, the same step.
    #[arg(long, default_value_t = 1)]
    micro_batches: usize,
    /// Keep of each layer only what goes into it, as with `activation_checkpointing: true`.
    #[arg(long)]
    recompute: bool,
    #[command(flatten)]
    precision: PrecisionArgs,
    #[command(flatten)]
    machine: MachineArgs,
}

impl Shape {
    /// Refuses what no step can be made of.
    fn check(&self) -> anyhow::Result<()> {
        let longest = LlamaConfig::smollm2_135m().max_position_embeddings;
        if self.batch == 0 || self.rank == 0 {
            bail!("--batch {} --rank {}: expected 1 or more of each", self.batch, self.rank);
        }
        if self.micro_batches == 0 || !self.batch.is_multiple_of(self.micro_batches) {
            bail!("--micro-batches {}: expected a divisor of --batch {}", self.micro_batches, self.batch);
        }
        if !(2..=longest).contains(&self.length) {
            bail!(
                "--length {}: expected 2 to {longest}, the model's positions\nhint: the first token of a row is not predicted, so \
                 one alone trains nothing",
                self.length
            );
        }
        Ok(())
    }

    fn device(&self) -> Cpu {
        self.precision.device(&self.machine)
    }
}

/// Norms at one, matrices uniform with the deviation 0.02 that Llama's initialisation has.
fn random_weights(name: &str, shape: &[usize]) -> Result<Vec<f32>, WeightsError> {
    let (stream, bound) = (Random::new(0, name), 0.02 * 3f64.sqrt());
    let value = |i: u64| if shape.len() == 1 { 1.0 } else { ((2.0 * stream.unit(i) - 1.0) * bound) as f32 };
    Ok((0..shape.iter().product::<usize>() as u64).map(value).collect())
}

/// Rows of random tokens, all of them trained.
fn random_batches(config: &LlamaConfig, shape: &Shape) -> Vec<MicroBatch> {
    (0..shape.micro_batches).map(|index| random_batch(config, shape, index)).collect()
}

fn random_batch(config: &LlamaConfig, shape: &Shape, index: usize) -> MicroBatch {
    let (batch, stream) = (shape.batch / shape.micro_batches, Random::new(0, "ids"));
    let (tokens, first) = (batch * shape.length, index * batch * shape.length);
    let id = |i: usize| stream.below((first + i) as u64, config.vocab_size as u64) as u32;
    let ids: Vec<u32> = (0..tokens).map(id).collect();
    let rows = |r: usize| r * shape.length..(r + 1) * shape.length;
    let target = |i: usize| Target { row: i as u32 - 1, token: ids[i], weight: 1.0, source: 0 };
    MicroBatch {
        positions: (0..tokens).map(|i| (i % shape.length) as u32).collect(),
        segments: (0..batch).map(rows).collect(),
        rows: (0..batch as u32).collect(),
        targets: (0..tokens).filter(|i| i % shape.length > 0).map(target).collect(),
        ids,
    }
}

/// A model on random weights, and a batch of random tokens for it.
struct Subject<D: Device> {
    model: Llama<D>,
    workspace: Workspace<D::Buffer>,
    optimizer: Optimizer<D::Buffer>,
    batches: Vec<MicroBatch>,
}

impl Subject<Cpu> {
    /// As a run has it: the frozen weights of LoRA are packed once and mapped from a file, which is gone from its folder at
    /// once. Also the bytes that are mapped.
    fn mapped(device: Cpu, mode: Mode, frozen: Option<Blocks>, shape: &Shape) -> anyhow::Result<(Self, usize)> {
        if let (Mode::Lora, Some(blocks)) = (mode, frozen) {
            return Ok((Self::quantised(device, blocks, shape)?, 0));
        }
        if matches!(mode, Mode::Full) {
            return Ok((Self::new(device, mode, shape)?, 0));
        }
        let config = LlamaConfig::smollm2_135m();
        let folder = tempfile::tempdir()?;
        let (path, key) = (folder.path().join("weights"), "random weights");
        let values = |index| Ok(config.frozen_values(index, random_weights)?);
        PackedWeights::write::<anyhow::Error>(&path, &device, key, &config.frozen_weights(), values)?;
        let packed = PackedWeights::open(&path, &device, key)?;
        let find = |weight: &FrozenWeight| packed.find(weight);
        let model = Llama::load_over(device, &config, &mode.tuning(shape), find, random_weights)?;
        Ok((Self::of(model, shape), packed.bytes()))
    }

    /// LoRA over random weights in blocks; those of norms are numbers.
    fn quantised(device: Cpu, blocks: Blocks, shape: &Shape) -> Result<Self, WeightsError> {
        let encoding = match blocks {
            Blocks::Q8 => Encoding::Q8_0,
            Blocks::Q4 => Encoding::Q4_0,
        };
        let weights = |name: &str, shape: &[usize]| -> Result<Stored, WeightsError> {
            let values = random_weights(name, shape)?;
            let bytes = if shape.len() == 1 { None } else { encoding.encode(&values, shape[1]) };
            Ok(bytes.map_or(Stored::Values(values), |bytes| Stored::Encoded { encoding, bytes }))
        };
        let model = Llama::load(device, &LlamaConfig::smollm2_135m(), &Mode::Lora.tuning(shape), weights)?;
        Ok(Self::of(model, shape))
    }
}

impl Mode {
    fn tuning(self, shape: &Shape) -> Tuning {
        let targets = LINEAR_MODULES.map(str::to_owned).to_vec();
        match self {
            Self::Lora => Tuning::Lora(LoraSettings::new(shape.rank, shape.alpha, targets)),
            Self::Full => Tuning::Full,
        }
    }
}

impl<D: Device> Subject<D> {
    fn new(device: D, mode: Mode, shape: &Shape) -> Result<Self, WeightsError> {
        let model = Llama::load(device, &LlamaConfig::smollm2_135m(), &mode.tuning(shape), random_weights)?;
        Ok(Self::of(model, shape))
    }

    fn of(model: Llama<D>, shape: &Shape) -> Self {
        model.init_adapters(0);
        let (tokens, space) = (shape.batch / shape.micro_batches * shape.length, model.adapter_space());
        let purpose = if shape.recompute { Purpose::TrainRecomputing } else { Purpose::Train };
        let workspace = Workspace::allocate(model.device(), model.config(), space, purpose, tokens);
        let settings =
            AdamWSettings { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01, max_grad_norm: 0.0 };
        let optimizer = Optimizer::new(&model, settings);
        let batches = random_batches(model.config(), shape);
        Self { model, workspace, optimizer, batches }
    }

    /// One step; its seconds and its loss.
    fn step(&mut self) -> Result<(f64, f64), Failure> {
        let start = Instant::now();
        let (model, ws, optimizer) = (&self.model, &self.workspace, &mut self.optimizer);
        let outcome = step(model, ws, optimizer, &self.batches, 1e-4).map_err(Failure::run)?;
        Ok((start.elapsed().as_secs_f64(), outcome.loss()))
    }
}

pub fn run(args: &Args) -> Outcome {
    let shape = match &args.command {
        Some(Command::Step(args)) => Some(&args.shape),
        Some(Command::Trials(args)) => Some(&args.shape),
        Some(Command::Generate(_) | Command::Data(_)) => None,
        None => Some(&args.profile.shape),
    };
    shape.map_or(Ok(()), |shape| shape.check()).map_err(Failure::input)?;
    match &args.command {
        Some(Command::Step(args)) => steps(args),
        Some(Command::Trials(args)) => trials::run(args),
        Some(Command::Generate(args)) => generate::run(args),
        Some(Command::Data(args)) => data::run(args),
        None => profile::run(&args.profile),
    }
}

fn steps(args: &StepArgs) -> Outcome {
    args.shape.check().map_err(Failure::input)?;
    let (device, frozen) = (args.shape.device(), args.frozen);
    if frozen.is_some() && (matches!(args.mode, Mode::Full) || device.precision() != Precision::F32) {
        let refused = "--frozen: blocks are multiplied in f32, and full rank freezes nothing: use --mode lora and f32";
        return Err(Failure::input(anyhow::anyhow!(refused)));
    }
    let (mut subject, mapped) = Subject::mapped(device, args.mode, frozen, &args.shape).map_err(Failure::run)?;
    let (trainable, device) = (subject.optimizer.trained_parameters(), subject.model.device().describe());
    print(format_args!(
        "{}\n",
        serde_json::json!({"about": {"trainable": trainable, "device": device, "mapped_bytes": mapped}})
    ))?;
    for number in 1..=args.steps {
        let (seconds, loss) = subject.step()?;
        print(format_args!("{}\n", serde_json::json!({"step": number, "seconds": seconds, "loss": loss})))?;
    }
    Ok(DONE)
}
