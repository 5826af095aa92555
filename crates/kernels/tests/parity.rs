//! Each operation of the CPU device against the reference device in f64.

mod suite;

use suite::operands::{HEADS, numbers};
use suite::{Outputs, cached_runs, compare, parity_suite, tensor};
use temper_kernels::{Cpu, Device, Precision, Reference, Tensor};

fn cpu() -> Cpu {
    Cpu::new(2)
}

parity_suite!(cpu());

/// A cache in bf16 is one of rounded keys and values.
#[test]
fn a_cache_in_bf16_rounds_what_it_holds() {
    let rounded = |x: &f32| {
        let bits = x.to_bits();
        f32::from_bits((bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff_0000)
    };
    let (rows, width) = (60, 2 * HEADS.kv_width());
    let values = numbers(2, rows * width);
    fn run<D: Device>(d: &D, values: &[f32]) -> Outputs {
        let (rows, width) = (60, 2 * HEADS.kv_width());
        let cache = Tensor::new(d.cache(rows * width), 0, rows, width);
        d.scatter_rows(&d.upload(rows, width, values), &(0..rows as u32).collect::<Vec<_>>(), &cache);
        let (q, out) = (tensor(d, 1, 9, HEADS.query_width()), tensor(d, 3, 9, HEADS.query_width()));
        d.attention_cached(&q, &cache, &cached_runs(), HEADS, &out);
        vec![d.read(&out)]
    }
    let slow = run(&Reference::<f64>::new(), &values.iter().map(rounded).collect::<Vec<_>>());
    compare("a cache in bf16", 5e-6, run(&cpu().with_cache(Precision::Bf16), &values), slow);
    compare(
        "a cache in f32",
        5e-6,
        run(&cpu().with_cache(Precision::F32), &values),
        run(&Reference::<f64>::new(), &values),
    );
}

/// The suite has seen the cache that the device takes by itself; here is either precision.
#[test]
fn attention_over_a_cache_of_either_precision_does_not_depend_on_runs() {
    for precision in [Precision::F32, Precision::Bf16] {
        suite::attention_over_a_cache_does_not_depend_on_runs(&cpu().with_cache(precision));
    }
}
