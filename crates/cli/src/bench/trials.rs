//! LoRA trials over one base: side by side in lanes, against one after the other on all threads.

use std::time::Instant;

use temper_kernels::PackedWeights;
use temper_model::{LINEAR_MODULES, LlamaConfig, LoraSettings};
use temper_train::{FitSettings, Lanes, LearningRate, OptimizerSettings, StopSettings, Trial, TrialBase};

use super::{Shape, random_batches, random_weights};
use crate::command::{DONE, Failure, Outcome, print};

/// Trials of the same length, each with adapters of its own.
#[derive(clap::Args)]
pub(super) struct TrialsArgs {
    /// Trials.
    #[arg(long, default_value_t = 2)]
    trials: usize,
    /// Steps of each.
    #[arg(long, default_value_t = 3)]
    steps: usize,
    /// How often both ways are measured, in turn.
    #[arg(long, default_value_t = 3)]
    repeats: usize,
    #[command(flatten)]
    pub shape: Shape,
}

pub(super) fn run(args: &TrialsArgs) -> Outcome {
    let (device, config) = (args.shape.device(), LlamaConfig::smollm2_135m());
    let values = |index| config.frozen_values(index, random_weights);
    let packed = PackedWeights::pack(&device, &config.frozen_weights(), values).map_err(Failure::run)?;
    let base = TrialBase { device, config: &config, packed: &packed, tensor: &random_weights };
    let of_step = random_batches(&config, &args.shape);
    let batches = |_: usize| of_step.clone();
    let targets = LINEAR_MODULES.map(str::to_owned).to_vec();
    let lora = LoraSettings::new(args.shape.rank, args.shape.alpha, targets);
    let settings = FitSettings {
        learning_rate: LearningRate {
            peak: 1e-4,
            min_lr: 0.0,
            warmup_steps: 0,
            steps: args.steps,
            shape: temper_train::Shape::Constant,
        },
        optimizer: OptimizerSettings::default(),
        eval_steps: usize::MAX,
        eval_at: Vec::new(),
        stops: StopSettings { early_stopping_patience: 0, early_stopping_threshold: 0.0, flat_gain: 0.0 },
        preference: None,
        policy: None,
    };
    let trial = |seed: usize| Trial {
        lora: &lora,
        seed: seed as u64,
        settings: settings.clone(),
        batches: &batches,
        validation: &[],
        tokens: of_step[0].ids.len(),
    };
    let tokens = args.trials * args.steps * args.shape.batch * args.shape.length;
    let threads = device.threads();
    let lanes = Lanes::fit(args.trials, threads, usize::MAX, 0);
    let one_by_one = Lanes { count: 1, threads };
    let mebibytes = base.bytes(&trial(0)) >> 20;
    print(format_args!(
        "{}, {} trials of {} steps of {} x {} tokens; {mebibytes} MiB a trial beside {} MiB of the base\n",
        temper_kernels::Device::describe(&device),
        args.trials,
        args.steps,
        args.shape.batch,
        args.shape.length,
        packed.bytes() >> 20
    ))?;
    for lanes in std::iter::repeat_n([lanes, one_by_one], args.repeats.max(1)).flatten() {
        let begun = Instant::now();
        let done = lanes.run((0..args.trials).collect(), |seed| base.train(&trial(seed), &mut |_| {}));
        done.into_iter().collect::<Result<Vec<_>, _>>().map_err(Failure::run)?;
        let seconds = begun.elapsed().as_secs_f64();
        let Lanes { count, threads } = lanes;
        print(format_args!(
            "{count} at once, {threads} threads each: {seconds:.2} s, {:.0} tokens/s\n",
            tokens as f64 / seconds
        ))?;
    }
    Ok(DONE)
}
