//! `temper bench`: where a training step's time goes, and steps for `bench/train`, on random weights.

use std::time::Instant;

use temper_data::{MicroBatch, Target};
use temper_kernels::{Cpu, Device, Measured, Operation, Precision, Profiled, Tensor};
use temper_model::{LINEAR_MODULES, Llama, LlamaConfig, LoraSettings, Purpose, Tuning, Workspace};
use temper_run::Random;
use temper_train::{AdamWSettings, Optimizer, step};

use crate::base::MachineArgs;
use crate::command::{DONE, Failure, Outcome, print};
use crate::table::table;

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
    #[command(flatten)]
    shape: Shape,
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
    /// How products round their operands.
    #[arg(long, value_enum, default_value_t = PrecisionArg::F32)]
    precision: PrecisionArg,
    #[command(flatten)]
    machine: MachineArgs,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum PrecisionArg {
    F32,
    Bf16,
}

impl Shape {
    fn device(&self) -> Cpu {
        Cpu::new(self.machine.threads()).with_precision(self.precision.into())
    }
}

impl From<PrecisionArg> for Precision {
    fn from(precision: PrecisionArg) -> Self {
        match precision {
            PrecisionArg::F32 => Self::F32,
            PrecisionArg::Bf16 => Self::Bf16,
        }
    }
}

/// A model on random weights, and a batch of random tokens for it.
struct Subject<D: Device> {
    model: Llama<D>,
    workspace: Workspace<D::Buffer>,
    optimizer: Optimizer<D::Buffer>,
    batch: MicroBatch,
}

impl<D: Device> Subject<D> {
    fn new(device: D, mode: Mode, shape: &Shape) -> Result<Self, Failure> {
        let targets = LINEAR_MODULES.map(str::to_owned).to_vec();
        let tuning = match mode {
            Mode::Lora => Tuning::Lora(LoraSettings { rank: shape.rank, alpha: shape.alpha, targets }),
            Mode::Full => Tuning::Full,
        };
        // Norms at one, matrices uniform with the deviation 0.02 that Llama's initialisation has.
        let weights = |name: &str, shape: &[usize]| -> Result<Vec<f32>, std::convert::Infallible> {
            let (stream, bound) = (Random::new(0, name), 0.02 * 3f64.sqrt());
            let value = |i: u64| if shape.len() == 1 { 1.0 } else { ((2.0 * stream.unit(i) - 1.0) * bound) as f32 };
            Ok((0..shape.iter().product::<usize>() as u64).map(value).collect())
        };
        let config = LlamaConfig::smollm2_135m();
        let model = Llama::load(device, &config, &tuning, weights).map_err(Failure::run)?;
        model.init_adapters(0);
        let tokens = shape.batch * shape.length;
        let widths = model.adapter_widths();
        let workspace = Workspace::allocate(model.device(), &config, widths, Purpose::Train, tokens);
        let settings =
            AdamWSettings { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01, max_grad_norm: 0.0 };
        let optimizer = Optimizer::new(&model, settings);

        let ids = Random::new(0, "ids");
        let ids: Vec<u32> = (0..tokens as u64).map(|i| ids.below(i, config.vocab_size as u64) as u32).collect();
        let rows = |r: usize| r * shape.length..(r + 1) * shape.length;
        let target = |i: usize| Target { row: i as u32 - 1, token: ids[i], weight: 1.0, source: 0 };
        let batch = MicroBatch {
            positions: (0..tokens).map(|i| (i % shape.length) as u32).collect(),
            segments: (0..shape.batch).map(rows).collect(),
            targets: (0..tokens).filter(|i| i % shape.length > 0).map(target).collect(),
            ids,
        };
        Ok(Self { model, workspace, optimizer, batch })
    }

    /// One step; its seconds and its loss.
    fn step(&mut self) -> Result<(f64, f64), Failure> {
        let start = Instant::now();
        let batches = std::slice::from_ref(&self.batch);
        let outcome = step(&self.model, &self.workspace, &mut self.optimizer, batches, 1e-4).map_err(Failure::run)?;
        Ok((start.elapsed().as_secs_f64(), outcome.loss()))
    }
}

pub fn run(args: &Args) -> Outcome {
    match &args.command {
        Some(Command::Step(args)) => steps(args),
        None => profile(&args.profile),
    }
}

fn steps(args: &StepArgs) -> Outcome {
    let mut subject = Subject::new(args.shape.device(), args.mode, &args.shape)?;
    let (trainable, device) = (subject.optimizer.trained_parameters(), subject.model.device().describe());
    print(format_args!("{}\n", serde_json::json!({"about": {"trainable": trainable, "device": device}})))?;
    for number in 1..=args.steps {
        let (seconds, loss) = subject.step()?;
        print(format_args!("{}\n", serde_json::json!({"step": number, "seconds": seconds, "loss": loss})))?;
    }
    Ok(DONE)
}

/// An operation below this share of the peak is named, where it takes more than a twentieth of the step.
const FAIR_SHARE: f64 = 0.8;

fn profile(args: &ProfileArgs) -> Outcome {
    let device = args.shape.device();
    let peak = device.measure_peak();
    let bandwidth = measure_bandwidth();
    let mut subject = Subject::new(Profiled::new(device), args.mode, &args.shape)?;
    subject.step()?;
    subject.model.device().take();
    let mut seconds: Vec<f64> = Vec::new();
    for _ in 0..args.steps.max(1) {
        seconds.push(subject.step()?.0);
    }
    let steps = seconds.len() as f64;
    let whole = seconds.iter().sum::<f64>() / steps;
    let measured = subject.model.device().take();
    let tokens = args.shape.batch * args.shape.length;
    print(format_args!(
        "{}: {peak:.0} GFLOP/s measured peak of products, {bandwidth:.1} GB/s of memory\n\
         SmolLM2-135M's shape, {:?}, {} x {} tokens: {whole:.3} s a step, {:.0} tokens/s\n\n",
        device.describe(),
        args.mode,
        args.shape.batch,
        args.shape.length,
        tokens as f64 / whole
    ))?;

    let mut operations: Vec<(&Operation, &Measured)> = measured.iter().collect();
    operations.sort_by(|a, b| b.1.seconds.total_cmp(&a.1.seconds));
    let row = |name: &str, shape: &str, m: &Measured| {
        let seconds = m.seconds / steps;
        let rate = m.flops / m.seconds / 1e9;
        let least = (m.flops / peak).max(m.bytes / bandwidth) / 1e9 / steps;
        vec![
            name.to_owned(),
            shape.to_owned(),
            format!("{:.0}", m.calls as f64 / steps),
            format!("{seconds:.4}"),
            format!("{:.1}", 100.0 * seconds / whole),
            if m.flops > 0.0 { format!("{:.1}", m.flops / 1e9 / steps) } else { String::new() },
            if m.flops > 0.0 { format!("{rate:.0}") } else { String::new() },
            if m.flops > 0.0 { format!("{:.0}", 100.0 * rate / peak) } else { String::new() },
            format!("{:.1}", m.bytes / m.seconds / 1e9),
            format!("{least:.4}"),
        ]
    };
    let mut rows: Vec<Vec<String>> = operations.iter().map(|((name, shape), m)| row(name, shape, m)).collect();
    let sum = |of: &dyn Fn(&Measured) -> bool| {
        operations.iter().filter(|(_, m)| of(m)).fold(Measured::default(), |sum, (_, m)| Measured {
            calls: sum.calls + m.calls,
            seconds: sum.seconds + m.seconds,
            flops: sum.flops + m.flops,
            bytes: sum.bytes + m.bytes,
        })
    };
    let (products, rest) = (sum(&|m| m.flops > 0.0), sum(&|m| m.flops == 0.0));
    rows.push(row("all with products", "", &products));
    rows.push(row("all others", "", &rest));
    let heads = ["operation", "weight", "calls", "s", "%", "GFLOP", "GFLOP/s", "% of peak", "GB/s", "could be s"];
    print(format_args!("{}\n\n", table(&heads, rows, &[2, 3, 4, 5, 6, 7, 8, 9])))?;
    let between = whole - (products.seconds + rest.seconds) / steps;
    print(format_args!("between operations: {between:.4} s\n"))?;
    for line in advice(&operations, whole * steps, peak, &args.shape, device) {
        print(format_args!("{line}\n"))?;
    }
    Ok(DONE)
}

/// What to change, from what was measured.
fn advice(operations: &[(&Operation, &Measured)], whole: f64, peak: f64, shape: &Shape, device: Cpu) -> Vec<String> {
    let mut lines = Vec::new();
    for ((name, weight), m) in operations {
        let share = m.flops / m.seconds / 1e9 / peak;
        if m.flops > 0.0 && share < FAIR_SHARE && m.seconds > 0.05 * whole {
            lines.push(format!("{name} {weight}: {:.0} % of the peak", 100.0 * share));
        }
    }
    if shape.batch * shape.length < 512 {
        lines.push("few tokens a step: packing weights and starting threads weigh; raise the batch".to_owned());
    }
    if device.precision() == Precision::F32 && device.instructions() == "avx512_bf16" {
        lines.push("this processor multiplies bf16 twice as fast: try --precision bf16".to_owned());
    }
    if device.precision() == Precision::Bf16 && device.instructions() != "avx512_bf16" {
        lines.push("this processor has no bf16 products: f32 is as fast and exact".to_owned());
    }
    lines
}

/// GB/s of reading and writing more than the caches hold, on all threads; the best of five.
fn measure_bandwidth() -> f64 {
    const FLOATS: usize = 1 << 25;
    let device = Cpu::new(0);
    let [from, to] = [0, 1].map(|_| Tensor::new(device.zeros(FLOATS), 0, FLOATS / 4096, 4096));
    device.fill(&from, 1.0);
    let read = |_| {
        let start = Instant::now();
        device.copy(&from, &to);
        8.0 * FLOATS as f64 / start.elapsed().as_secs_f64() / 1e9
    };
    (0..5).map(read).fold(0.0, f64::max)
}
