//! Where the time of a training step goes.

use std::time::Instant;

use temper_kernels::{Cpu, Device, Measured, Operation, Precision, Profiled, Tensor};

use super::{ProfileArgs, Shape, Subject};
use crate::command::{DONE, Failure, Outcome, print};
use crate::table::table;

/// An operation below this share of the peak is named, where it takes more than a twentieth of the step.
const FAIR_SHARE: f64 = 0.8;

pub(super) fn run(args: &ProfileArgs) -> Outcome {
    let device = args.shape.device();
    let peak = device.measure_peak();
    let bandwidth = measure_bandwidth(&device);
    let mut subject = Subject::new(Profiled::new(device), args.mode, &args.shape).map_err(Failure::run)?;
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
    for line in advice(&operations, steps, whole * steps, peak, &args.shape, device) {
        print(format_args!("{line}\n"))?;
    }
    Ok(DONE)
}

/// What to change, from what was measured.
fn advice(
    operations: &[(&Operation, &Measured)],
    steps: f64,
    whole: f64,
    peak: f64,
    shape: &Shape,
    device: Cpu,
) -> Vec<String> {
    let mut lines = Vec::new();
    for ((name, weight), m) in operations {
        let share = m.flops / m.seconds / 1e9 / peak;
        if m.flops > 0.0 && share < FAIR_SHARE && m.seconds > 0.05 * whole {
            let could = m.seconds * (1.0 - share / FAIR_SHARE) / steps;
            lines.push(format!(
                "{name} {weight}: {:.0} % of the peak; at {:.0} % a step would take {could:.3} s less",
                100.0 * share,
                100.0 * FAIR_SHARE
            ));
        }
    }
    if shape.batch * shape.length < 512 {
        lines.push("few tokens a step: packing weights and starting threads weigh; raise the batch".to_owned());
    }
    if device.precision() == Precision::F32 && device.gains_by_bf16() {
        lines.push("this processor multiplies bf16 twice as fast: try --precision bf16".to_owned());
    }
    if device.precision() == Precision::Bf16 && !device.gains_by_bf16() {
        lines.push(
            "this processor multiplies bf16 no faster than f32: use --precision f32, where memory allows".to_owned(),
        );
    }
    lines
}

/// GB/s of reading and writing more than the caches hold, on all threads; the best of five.
fn measure_bandwidth(device: &Cpu) -> f64 {
    const FLOATS: usize = 1 << 25;
    let [from, to] = [0, 1].map(|_| Tensor::new(device.zeros(FLOATS), 0, FLOATS / 4096, 4096));
    device.fill(&from, 1.0);
    let read = |_| {
        let start = Instant::now();
        device.copy(&from, &to);
        8.0 * FLOATS as f64 / start.elapsed().as_secs_f64() / 1e9
    };
    (0..5).map(read).fold(0.0, f64::max)
}
