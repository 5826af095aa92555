//! `temper bench step`: training steps on random weights of SmolLM2-135M's shape, for `bench/train`.

use std::time::Instant;

use temper_data::{MicroBatch, Target};
use temper_kernels::{Cpu, Device};
use temper_model::{LINEAR_MODULES, Llama, LlamaConfig, LoraSettings, Purpose, Tuning, Workspace};
use temper_run::Random;
use temper_train::{AdamWSettings, Optimizer, step};

use crate::base::MachineArgs;
use crate::command::{DONE, Failure, Outcome, print};

/// Measure.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Training steps, one JSON line each.
    Step(Args),
}

/// What is trained.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Mode {
    Lora,
    Full,
}

/// The shape of a step.
#[derive(clap::Args)]
pub struct Args {
    #[arg(long, value_enum)]
    mode: Mode,
    #[arg(long)]
    steps: usize,
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
    #[command(flatten)]
    machine: MachineArgs,
}

pub fn run(command: &Command) -> Outcome {
    let Command::Step(args) = command;
    let device = Cpu::new(args.machine.threads());
    let targets = LINEAR_MODULES.map(str::to_owned).to_vec();
    let tuning = match args.mode {
        Mode::Lora => Tuning::Lora(LoraSettings { rank: args.rank, alpha: args.alpha, targets }),
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
    let tokens = args.batch * args.length;
    let ws = Workspace::allocate(&device, &config, model.adapter_widths(), Purpose::Train, tokens);
    let settings = AdamWSettings { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01, max_grad_norm: 0.0 };
    let mut optimizer = Optimizer::new(&model, settings);
    let about =
        serde_json::json!({"about": {"trainable": optimizer.trained_parameters(), "device": device.describe()}});
    print(format_args!("{about}\n"))?;

    let ids = Random::new(0, "ids");
    let ids: Vec<u32> = (0..tokens as u64).map(|i| ids.below(i, config.vocab_size as u64) as u32).collect();
    let rows = |r: usize| r * args.length..(r + 1) * args.length;
    let target = |i: usize| Target { row: i as u32 - 1, token: ids[i], weight: 1.0, source: 0 };
    let batch = MicroBatch {
        positions: (0..tokens).map(|i| (i % args.length) as u32).collect(),
        segments: (0..args.batch).map(rows).collect(),
        targets: (0..tokens).filter(|i| i % args.length > 0).map(target).collect(),
        ids,
    };
    for number in 1..=args.steps {
        let start = Instant::now();
        let outcome = step(&model, &ws, &mut optimizer, std::slice::from_ref(&batch), 1e-4).map_err(Failure::run)?;
        let seconds = start.elapsed().as_secs_f64();
        let line = serde_json::json!({"step": number, "seconds": seconds, "loss": outcome.loss()});
        print(format_args!("{line}\n"))?;
    }
    Ok(DONE)
}
