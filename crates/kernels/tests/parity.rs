//! Each operation of the CPU device against the reference device in f64.

mod operands;

use operands::{HEADS, numbers, segments};
use temper_kernels::{
    AdamW, Arena, Cached, Cpu, Device, LogProbGrad, LogProbs, Pick, Precision, Reference, Segment, Tensor, Write,
};

fn cpu() -> Cpu {
    Cpu::new(2)
}

/// What one run of operations on some device reads back.
type Outputs = Vec<Vec<f32>>;

fn compare(what: &str, tolerance: f32, fast: Outputs, slow: Outputs) {
    assert_eq!(fast.len(), slow.len());
    for (o, (fast, slow)) in fast.iter().zip(&slow).enumerate() {
        assert_eq!(fast.len(), slow.len(), "{what}: length of output {o}");
        let scale = slow.iter().fold(1e-3f32, |a, b| a.max(b.abs()));
        for (k, (a, b)) in fast.iter().zip(slow).enumerate() {
            assert!((a - b).abs() <= tolerance * scale, "{what}: output {o}[{k}]: cpu {a}, reference {b}");
        }
    }
}

/// Runs one generic function on both devices and compares what it returns.
macro_rules! parity {
    ($name:ident, $tolerance:expr, $run:ident) => {
        #[test]
        fn $name() {
            compare(stringify!($name), $tolerance, $run(&cpu()), $run(&Reference::<f64>::new()));
        }
    };
}

fn tensor<D: Device>(d: &D, seed: u64, rows: usize, cols: usize) -> Tensor<D::Buffer> {
    d.upload(rows, cols, &numbers(seed, rows * cols))
}

parity!(rows_move, 0.0, run_rows);
fn run_rows<D: Device>(d: &D) -> Outputs {
    let (source, target) = (tensor(d, 1, 9, 20), tensor(d, 2, 9, 20));
    d.gather_rows(&source, &[8, 0, 0], &target.row_range(1..4));
    d.scatter_rows(&source.first_rows(2), &[7, 5], &target);
    d.scatter_add_rows(&source.first_rows(3), &[6, 6, 8], &target);
    let part = target.col_range(3..7);
    d.fill(&part.row_range(0..2), 2.5);
    d.copy(&source.col_range(0..4), &part);
    vec![d.read(&target), d.read(&part), vec![d.sum_squares(&source) as f32]]
}

parity!(rms_norm_both_ways, 2e-6, run_rms_norm);
fn run_rms_norm<D: Device>(d: &D) -> Outputs {
    let (x, w, dy, dx, dw) =
        (tensor(d, 1, 130, 70), tensor(d, 2, 1, 70), tensor(d, 3, 130, 70), tensor(d, 4, 130, 70), tensor(d, 5, 1, 70));
    let (y, inv, again) = (tensor(d, 6, 130, 70), tensor(d, 7, 130, 1), tensor(d, 8, 130, 70));
    d.rms_norm(&x, &w, 1e-5, &y, &inv);
    d.rms_norm_again(&x, &w, &inv, &again);
    d.rms_norm_backward(&x, &w, &inv, &dy, &dx, Some(&dw));
    let trained = d.read(&dx);
    d.rms_norm_backward(&x, &w, &inv, &dy, &dx, None);
    vec![d.read(&y), d.read(&inv), d.read(&again), trained, d.read(&dx), d.read(&dw)]
}

parity!(linear_both_ways_on_parts, 2e-6, run_linear);
fn run_linear<D: Device>(d: &D) -> Outputs {
    let (x, w, y) = (tensor(d, 1, 37, 50), tensor(d, 2, 30, 50), tensor(d, 3, 37, 90));
    let part = y.col_range(40..70);
    d.linear(&x, &w, 1.0, Write::Set, &part);
    d.linear(&x, &w, 0.5, Write::Add, &part);
    let (dx, dw) = (tensor(d, 4, 37, 50), tensor(d, 5, 30, 50));
    d.linear_backward_input(&part, &w, 0.3, Write::Add, &dx);
    d.linear_backward_weight(&part, &x, 0.3, &dw);
    vec![d.read(&y), d.read(&dx), d.read(&dw)]
}

parity!(rope_there_and_back, 2e-6, run_rope);
fn run_rope<D: Device>(d: &D) -> Outputs {
    let x = tensor(d, 1, 40, 100);
    let angles = numbers(2, 64 * 8);
    let cos = d.upload(64, 8, &angles.iter().map(|a| a.cos()).collect::<Vec<_>>());
    let sin = d.upload(64, 8, &angles.iter().map(|a| a.sin()).collect::<Vec<_>>());
    let positions: Vec<u32> = (0..40).map(|i| (i * 7) % 64).collect();
    d.rope(&x.col_range(0..96), 16, &positions, &cos, &sin, false);
    let turned = d.read(&x);
    d.rope(&x.col_range(0..96), 16, &positions, &cos, &sin, true);
    vec![turned, d.read(&x), numbers(1, 4000)]
}

parity!(attention_both_ways, 5e-6, run_attention);
fn run_attention<D: Device>(d: &D) -> Outputs {
    let segments = segments(150);
    let n = 15 + 150;
    let (qkv, dout) = (tensor(d, 1, n, HEADS.row_width()), tensor(d, 2, n, HEADS.query_width()));
    let (out, sums, dqkv) =
        (tensor(d, 3, n, HEADS.query_width()), tensor(d, 4, n, HEADS.query), tensor(d, 5, n, HEADS.row_width()));
    d.attention(&qkv, &segments, HEADS, &out, &sums);
    d.attention_backward(&qkv, &out, &sums, &dout, &segments, HEADS, &dqkv);
    vec![d.read(&out), d.read(&sums), d.read(&dqkv)]
}

/// Decoding, a prompt's second chunk, and two sequences behind one prefix.
fn cached_runs() -> Vec<Cached> {
    vec![
        Cached { rows: 0..1, seen: vec![0..1] },
        Cached { rows: 1..2, seen: vec![20..53] },
        Cached { rows: 3..8, seen: vec![0..5, 40..60] },
        Cached { rows: 8..9, seen: vec![0..5, 20..23, 30..31] },
    ]
}

parity!(attention_over_a_cache, 5e-6, run_cached);
fn run_cached<D: Device>(d: &D) -> Outputs {
    let (q, cache, out) = (
        tensor(d, 1, 9, HEADS.query_width()),
        tensor(d, 2, 60, 2 * HEADS.kv_width()),
        tensor(d, 3, 9, HEADS.query_width()),
    );
    d.attention_cached(&q, &cache, &cached_runs(), HEADS, &out);
    vec![d.read(&out)]
}

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

/// A query sees the same rows in the same order, however they lie and whoever is beside it: the same bits.
#[test]
fn attention_over_a_cache_does_not_depend_on_runs() {
    for precision in [Precision::F32, Precision::Bf16] {
        let d = cpu().with_cache(precision);
        let width = 2 * HEADS.kv_width();
        let source = tensor(&d, 2, 40, width);
        let run = |rows: &[u32], runs: &[Cached]| {
            let cache = Tensor::new(d.cache(90 * width), 0, 90, width);
            d.scatter_rows(&source, rows, &cache);
            let (q, out) = (tensor(&d, 1, 9, HEADS.query_width()), tensor(&d, 3, 9, HEADS.query_width()));
            d.attention_cached(&q, &cache, runs, HEADS, &out);
            d.read(&out)
        };
        let plain: Vec<u32> = (0..40).collect();
        let whole = run(&plain, &[Cached { rows: 0..9, seen: vec![0..40] }]);
        let apart: Vec<u32> = (0..40)
            .map(|i| {
                if i < 7 {
                    70 + i
                } else if i < 23 {
                    40 + i - 7
                } else {
                    i - 23
                }
            })
            .collect();
        let one = |i: usize| Cached { rows: i..i + 1, seen: vec![70..77, 40..56, 0..9 + i] };
        let parted = run(&apart, &(0..9).map(one).collect::<Vec<_>>());
        assert_eq!(whole, parted, "{precision:?}");
    }
}

parity!(swiglu_both_ways, 2e-6, run_swiglu);
fn run_swiglu<D: Device>(d: &D) -> Outputs {
    let (x, dout, out, dx) = (tensor(d, 1, 33, 76), tensor(d, 2, 33, 38), tensor(d, 3, 33, 38), tensor(d, 4, 33, 76));
    d.swiglu(&x, &out);
    d.swiglu_backward(&x, &dout, &dx);
    vec![d.read(&out), d.read(&dx)]
}

fn outputs(found: LogProbs) -> Outputs {
    vec![found.logprob, found.entropy, found.argmax.iter().map(|&t| t as f32).collect()]
}

parity!(linear_logprob_in_chunks, 2e-5, run_linear_logprob);
fn run_linear_logprob<D: Device>(d: &D) -> Outputs {
    let (hidden, head, logits) = (tensor(d, 1, 11, 24), tensor(d, 2, 5000, 24), tensor(d, 3, 4, 5000));
    let best = d.linear_argmax(&hidden, &head, &logits).into_iter().map(|token| token as f32).collect();
    let picks = [(0, 3), (0, 4999), (2, 1), (7, 1), (10, 77)].map(|(row, token)| Pick { row, token });
    let (g, e) = (numbers(4, picks.len()), numbers(5, 11));
    let (dhidden, dhead) = (tensor(d, 6, 11, 24), tensor(d, 7, 5000, 24));
    let mut all = outputs(d.linear_logprob(&hidden, &head, &picks, &logits, None));
    all.push(best);
    for entropy in [&[][..], &e[..]] {
        let grad = LogProbGrad { logprob: &g, entropy, hidden: &dhidden, head: Some(&dhead) };
        all.extend(outputs(d.linear_logprob(&hidden, &head, &picks, &logits, Some(grad))));
        all.extend([d.read(&dhidden), d.read(&dhead)]);
    }
    all
}

parity!(kl_of_two_heads, 2e-5, run_kl);
fn run_kl<D: Device>(d: &D) -> Outputs {
    let (p, q, head_p, head_q) =
        (tensor(d, 1, 7, 24), tensor(d, 2, 7, 24), tensor(d, 3, 5000, 24), tensor(d, 4, 5000, 24));
    let (zp, zq) = (tensor(d, 5, 3, 5000), tensor(d, 6, 3, 5000));
    let same = d.linear_kl((&p, &head_p), (&p, &head_p), (&zp, &zq));
    vec![d.linear_kl((&p, &head_p), (&q, &head_q), (&zp, &zq)), same]
}

parity!(adamw_ten_steps, 2e-6, run_adamw);
fn run_adamw<D: Device>(d: &D) -> Outputs {
    let (w, m, v) = (tensor(d, 1, 130, 300), d.upload(130, 300, &[0.0; 39_000]), d.upload(130, 300, &[0.0; 39_000]));
    for step in 1..=10 {
        let g = tensor(d, 10 + u64::from(step), 130, 300);
        let settings = AdamW {
            learning_rate: 1e-2,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.1,
            step,
            gradient_scale: 0.5,
        };
        d.adamw(&settings, &w, &g, &m, &v);
    }
    vec![d.read(&w), d.read(&m), d.read(&v)]
}

/// trl#3067: rows packed together must not see each other, to the bit.
#[test]
fn packed_rows_do_not_leak_trl_3067() {
    let d = cpu();
    let run = |change: f32| {
        let mut values = numbers(1, 12 * HEADS.row_width());
        values[..5 * HEADS.row_width()].iter_mut().for_each(|v| *v += change);
        let qkv = d.upload(12, HEADS.row_width(), &values);
        let (out, sums) = (tensor(&d, 2, 12, HEADS.query_width()), tensor(&d, 3, 12, HEADS.query));
        d.attention(&qkv, &[Segment::alone(0..5), Segment::alone(5..12)], HEADS, &out, &sums);
        d.read(&out.row_range(5..12))
    };
    assert_eq!(run(0.0), run(1.0));
}

/// A choice behind a shared prompt gives what prompt and choice give in one run.
#[test]
fn a_shared_prompt_equals_the_prompt_repeated() {
    let d = cpu();
    let qkv = tensor(&d, 1, 12, HEADS.row_width());
    let run = |segments: &[Segment]| {
        let (out, sums) = (tensor(&d, 2, 12, HEADS.query_width()), tensor(&d, 3, 12, HEADS.query));
        d.attention(&qkv, segments, HEADS, &out, &sums);
        d.read(&out)
    };
    let whole = run(&[Segment::alone(0..12)]);
    let parted = run(&[Segment::alone(0..7), Segment { rows: 7..12, context: vec![0..7] }]);
    compare("shared prompt", 2e-6, vec![parted], vec![whole]);
}

#[test]
#[should_panic(expected = "overlaps")]
fn an_output_over_its_input_is_refused() {
    let d = cpu();
    let x = tensor(&d, 1, 4, 8);
    d.swiglu(&x, &x.col_range(0..4));
}

#[test]
fn an_arena_is_measured_before_it_is_allocated() {
    let d = cpu();
    let layout = |arena: &mut Arena<_>| (arena.take(3, 5), arena.take(2, 16));
    assert_eq!(Arena::measure(&d, layout), 16 + 32);
    let (a, b) = Arena::allocate(&d, layout);
    d.fill(&a, 1.0);
    d.fill(&b, 2.0);
    assert_eq!(d.read(&a), vec![1.0; 15]);
    assert_eq!(d.read(&b), vec![2.0; 32]);
}
