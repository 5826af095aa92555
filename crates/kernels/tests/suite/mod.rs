//! What every device must pass: each operation against the reference device in f64.
//!
//! A device's test file names the suite and hands over its device, as `parity.rs` does:
//! `parity_suite!(Cpu::new(2));`. A device of a crate of its own takes this file by its path.
#![allow(clippy::unwrap_used)]

#[path = "../operands/mod.rs"]
pub mod operands;

use operands::{HEADS, numbers, segments, sliding};
use temper_kernels::{
    AdamW, Arena, Cached, Device, Encoded, Encoding, Heads, LogProbGrad, LogProbs, LowRank, Pick, Reference, Segment,
    Tensor, Write,
};

/// One test a function of this file; the expression makes the device.
macro_rules! parity_suite {
    ($device:expr) => {
        parity_suite! { $device =>
            rows_move
            rows_are_scaled_and_added
            rms_norm_both_ways
            rms_norm_of_heads_both_ways
            linear_both_ways_on_parts
            linear_with_adapters
            linear_of_encoded_weights
            rope_there_and_back
            attention_both_ways
            attention_with_a_window_both_ways
            attention_with_a_window_over_a_cache
            attention_over_a_cache
            attention_over_a_cache_does_not_depend_on_runs
            swiglu_both_ways
            geglu_both_ways
            linear_logprob_in_chunks
            kl_of_two_heads
            dropout_by_keys
            adapted_magnitudes
            adamw_ten_steps
            rows_do_not_depend_on_those_beside_them
            packed_rows_do_not_leak_trl_3067
            a_shared_prompt_equals_the_prompt_repeated
            a_window_over_a_cache_equals_one_over_a_packed_row
            an_arena_is_measured_before_it_is_allocated
        }
        #[test]
        #[should_panic(expected = "overlaps")]
        fn an_output_over_its_input_is_refused() {
            suite::an_output_over_its_input(&$device);
        }
    };
    ($device:expr => $($name:ident)+) => {
        $(#[test]
        fn $name() {
            suite::$name(&$device);
        })+
    };
}
pub(crate) use parity_suite;

/// What one run of operations on some device reads back.
pub type Outputs = Vec<Vec<f32>>;

pub fn compare(what: &str, tolerance: f32, fast: Outputs, slow: Outputs) {
    assert_eq!(fast.len(), slow.len());
    for (o, (fast, slow)) in fast.iter().zip(&slow).enumerate() {
        assert_eq!(fast.len(), slow.len(), "{what}: length of output {o}");
        let scale = slow.iter().fold(1e-3f32, |a, b| a.max(b.abs()));
        for (k, (a, b)) in fast.iter().zip(slow).enumerate() {
            assert!((a - b).abs() <= tolerance * scale, "{what}: output {o}[{k}]: got {a}, reference {b}");
        }
    }
}

/// Runs one generic function on both devices and compares what it returns.
macro_rules! parity {
    ($name:ident, $tolerance:expr, $run:ident) => {
        pub fn $name<D: Device>(d: &D) {
            compare(stringify!($name), $tolerance, $run(d), $run(&Reference::<f64>::new()));
        }
    };
}

pub fn tensor<D: Device>(d: &D, seed: u64, rows: usize, cols: usize) -> Tensor<D::Buffer> {
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

parity!(rows_are_scaled_and_added, 1e-6, run_add);
fn run_add<D: Device>(d: &D) -> Outputs {
    let (x, y, row, sum) = (tensor(d, 1, 37, 150), tensor(d, 2, 37, 150), tensor(d, 3, 1, 70), tensor(d, 4, 1, 70));
    let part = y.col_range(60..130);
    d.add(&x, &y);
    d.add(&row, &part);
    d.scale(0.7, &part);
    d.sum_rows(&part, &sum);
    vec![d.read(&y), d.read(&sum)]
}

parity!(rms_norm_of_heads_both_ways, 2e-6, run_rms_norm_heads);
fn run_rms_norm_heads<D: Device>(d: &D) -> Outputs {
    // Five heads of 24 within wider rows.
    let (x, y, gradient) = (tensor(d, 1, 130, 130), tensor(d, 2, 130, 140), tensor(d, 3, 130, 125));
    let (w, dw, inv) = (tensor(d, 4, 1, 24), tensor(d, 5, 1, 24), tensor(d, 6, 130, 9));
    let (heads, out, gradient) = (x.col_range(10..130), y.col_range(3..123), gradient.col_range(0..120));
    let inverse = inv.col_range(2..7);
    d.rms_norm_heads(&heads, &w, 1e-5, &out, &inverse);
    d.rms_norm_heads_backward(&heads, &w, &inverse, &gradient, Some(&dw));
    let trained = d.read(&gradient);
    d.rms_norm_heads_backward(&heads, &w, &inverse, &gradient, None);
    vec![d.read(&y), d.read(&inv), trained, d.read(&gradient), d.read(&dw)]
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

parity!(linear_with_adapters, 2e-6, run_adapted);
fn run_adapted<D: Device>(d: &D) -> Outputs {
    let (x, w, from, a) = (tensor(d, 1, 19, 50), tensor(d, 2, 30, 50), tensor(d, 3, 19, 30), tensor(d, 4, 12, 50));
    let (b_first, b_last, inner) = (tensor(d, 5, 18, 4), tensor(d, 6, 12, 8), tensor(d, 7, 19, 12));
    let pieces = [
        LowRank { cols: 0..18, inner: 0..4, b: &b_first, scale: 0.5 },
        LowRank { cols: 18..30, inner: 4..12, b: &b_last, scale: 2.0 },
    ];
    let (y, dx) = (tensor(d, 8, 19, 30), tensor(d, 9, 19, 50));
    let mut all = Vec::new();
    for frozen in [false, true] {
        if frozen {
            d.freeze(&w, &[0..18, 18..30]);
        }
        for (from, a) in [(None, None), (Some(&from), None), (Some(&from), Some(&a))] {
            d.linear_adapted(&x, &w, from, a, &inner, &pieces, &y);
            all.extend([d.read(&inner), d.read(&y)]);
        }
        for pieces in [&[], &pieces[..]] {
            d.linear_adapted_backward_input(&y, &w, pieces, &inner, &a, &dx);
            all.extend([d.read(&inner), d.read(&dx)]);
        }
    }
    all
}

parity!(linear_of_encoded_weights, 2e-6, run_encoded);
fn run_encoded<D: Device>(d: &D) -> Outputs {
    let (rows, cols) = ([7, 13], 64);
    let mut all = Vec::new();
    for encoding in [Encoding::F32, Encoding::F16, Encoding::BF16, Encoding::Q8_0, Encoding::Q4_0, Encoding::Q4_1] {
        let (values, size) = encoding.block();
        let bytes = |seed: u64, rows: usize| -> Vec<u8> {
            let blocks = numbers(seed, rows * cols / values * size);
            let block = |(k, x): (usize, &[f32])| match encoding {
                Encoding::F32 => x[0].to_le_bytes().to_vec(),
                Encoding::BF16 => x[0].to_le_bytes()[2..].to_vec(),
                _ => {
                    let mut block: Vec<u8> = x.iter().map(|x| (x * 1e4) as i32 as u8).collect();
                    // The upper byte of a half: positive, up to 0.5.
                    let high = |k: usize| [0x1c, 0x24, 0x2c, 0x34][k % 4];
                    (0..encoding.halves().max(1)).for_each(|half| block[2 * half + 1] = high(k + half));
                    block
                }
            };
            blocks.chunks(size).enumerate().flat_map(block).collect()
        };
        let stored = [bytes(1, rows[0]), bytes(2, rows[1])];
        let weight = d.upload_encoded(cols, &stored.each_ref().map(|bytes| Encoded { encoding, bytes }));
        let (x, y, picked) = (tensor(d, 3, 19, cols), tensor(d, 4, 19, rows[0] + rows[1]), tensor(d, 5, 3, cols));
        d.linear(&x, &weight, 1.0, Write::Set, &y);
        d.gather_rows(&weight, &[19, 0, 7], &picked);
        all.extend([d.read(&y), d.read(&picked)]);
    }
    all
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
    both_ways(d, HEADS, &segments(150), 15 + 150)
}

/// Windows within a block of rows, within a tile of keys, over several tiles, and wider than any row; contexts in many short
/// runs, so that some rows see nothing of a tile of which others do.
pub fn attention_with_a_window_both_ways<D: Device>(d: &D) {
    let mut all = segments(700);
    let n = 15 + 700 + 90;
    let context = (0..11).map(|i| 15 + 60 * i..15 + 60 * i + 7).collect();
    all.push(Segment { rows: 715..n, context });
    for window in [1, 3, 40, 200, 400, 2000] {
        let (fast, slow) =
            (both_ways(d, sliding(window), &all, n), both_ways(&Reference::<f64>::new(), sliding(window), &all, n));
        compare(&format!("a window of {window}"), 5e-6, fast, slow);
    }
}

fn both_ways<D: Device>(d: &D, heads: Heads, segments: &[Segment], n: usize) -> Outputs {
    let (qkv, dout) = (tensor(d, 1, n, heads.row_width()), tensor(d, 2, n, heads.query_width()));
    let (out, sums, dqkv) =
        (tensor(d, 3, n, heads.query_width()), tensor(d, 4, n, heads.query), tensor(d, 5, n, heads.row_width()));
    d.attention(&qkv, segments, heads, &out, &sums);
    d.attention_backward(&qkv, &out, &sums, &dout, segments, heads, &dqkv);
    vec![d.read(&out), d.read(&sums), d.read(&dqkv)]
}

/// Decoding, a prompt's second chunk, and two sequences behind one prefix.
pub fn cached_runs() -> Vec<Cached> {
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

parity!(attention_with_a_window_over_a_cache, 5e-6, run_cached_window);
fn run_cached_window<D: Device>(d: &D) -> Outputs {
    let q = tensor(d, 1, 9, HEADS.query_width());
    let cache = tensor(d, 2, 60, 2 * HEADS.kv_width());
    let attend = |window: usize| {
        let out = tensor(d, 3, 9, HEADS.query_width());
        d.attention_cached(&q, &cache, &cached_runs(), sliding(window), &out);
        d.read(&out)
    };
    [1, 2, 4, 7, 22, 100].map(attend).to_vec()
}

/// Decoding token by token with a window gives what one packed row gives.
pub fn a_window_over_a_cache_equals_one_over_a_packed_row<D: Device>(d: &D) {
    let (n, heads) = (30, sliding(6));
    let qkv = tensor(d, 1, n, heads.row_width());
    let (packed, sums) = (tensor(d, 2, n, heads.query_width()), tensor(d, 3, n, heads.query));
    d.attention(&qkv, &[Segment::alone(0..n)], heads, &packed, &sums);
    let out = tensor(d, 2, n, heads.query_width());
    let (q, cache) = (qkv.col_range(0..heads.query_width()), qkv.col_range(heads.query_width()..heads.row_width()));
    let runs: Vec<Cached> = (0..n).map(|i| Cached { rows: i..i + 1, seen: vec![0..i + 1] }).collect();
    d.attention_cached(&q, &cache, &runs, heads, &out);
    compare("a window over a cache", 2e-6, vec![d.read(&out)], vec![d.read(&packed)]);
}

/// A query sees the same rows in the same order, however they lie and whoever is beside it: the same bits.
pub fn attention_over_a_cache_does_not_depend_on_runs<D: Device>(d: &D) {
    let width = 2 * HEADS.kv_width();
    let source = tensor(d, 2, 40, width);
    let run = |rows: &[u32], runs: &[Cached]| {
        let cache = Tensor::new(d.cache(90 * width), 0, 90, width);
        d.scatter_rows(&source, rows, &cache);
        let (q, out) = (tensor(d, 1, 9, HEADS.query_width()), tensor(d, 3, 9, HEADS.query_width()));
        d.attention_cached(&q, &cache, runs, HEADS, &out);
        d.read(&out)
    };
    let plain: Vec<u32> = (0..40).collect();
    let whole = run(&plain, &[Cached { rows: 0..9, seen: vec![0..40] }]);
    let apart: Vec<u32> = (70..77).chain(40..56).chain(0..17).collect();
    let one = |i: usize| Cached { rows: i..i + 1, seen: vec![70..77, 40..56, 0..9 + i] };
    let parted = run(&apart, &(0..9).map(one).collect::<Vec<_>>());
    assert_eq!(whole, parted);
}

parity!(swiglu_both_ways, 2e-6, run_swiglu);
fn run_swiglu<D: Device>(d: &D) -> Outputs {
    let (x, dout, out, dx) = (tensor(d, 1, 33, 76), tensor(d, 2, 33, 38), tensor(d, 3, 33, 38), tensor(d, 4, 33, 76));
    d.swiglu(&x, &out);
    d.swiglu_backward(&x, &dout, &dx);
    vec![d.read(&out), d.read(&dx)]
}

parity!(geglu_both_ways, 2e-6, run_geglu);
fn run_geglu<D: Device>(d: &D) -> Outputs {
    // Far gates too: beyond 6 the gate is open or shut to the last bit.
    let far: Vec<f32> = numbers(1, 33 * 76).iter().map(|x| x * x * x * 30.0).collect();
    let (x, dout) = (d.upload(33, 76, &far), tensor(d, 2, 33, 38));
    let (out, dx) = (tensor(d, 3, 33, 38), tensor(d, 4, 33, 76));
    d.geglu(&x, &out);
    d.geglu_backward(&x, &dout, &dx);
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

parity!(dropout_by_keys, 0.0, run_dropout);
fn run_dropout<D: Device>(d: &D) -> Outputs {
    let (x, y) = (tensor(d, 1, 20, 37), tensor(d, 2, 20, 37));
    let keys: Vec<u64> = (0..20).map(|i| i * 0x1234_5678_9abc).collect();
    d.dropout(&x, &keys, 0.25, Write::Set, &y);
    let set = d.read(&y);
    let sum = tensor(d, 3, 20, 37);
    d.fill(&sum, 0.0);
    d.dropout(&x, &keys, 0.25, Write::Add, &sum);
    vec![set, d.read(&sum)]
}

// A sum of 300 rows: runs of them are added in another order.
parity!(adapted_magnitudes, 2e-6, run_magnitudes);
fn run_magnitudes<D: Device>(d: &D) -> Outputs {
    let (w, a, b) = (tensor(d, 1, 90, 33), tensor(d, 2, 4, 33), tensor(d, 3, 40, 4));
    d.freeze(&w, &[0..40, 40..90]);
    let (norms, m) = (tensor(d, 4, 40, 1), tensor(d, 5, 40, 1));
    d.adapted_row_norms(&w.row_range(0..40), &a, &b, 0.5, &norms);
    let (x, dy, from, y) = (tensor(d, 6, 300, 40), tensor(d, 7, 300, 40), tensor(d, 8, 300, 40), tensor(d, 9, 300, 40));
    d.scale_columns(&x, &m, &norms, Some(&from), &y);
    let dots = tensor(d, 10, 40, 1);
    d.column_dots(&x, &dy, &norms, &dots);
    let added = d.read(&y);
    d.scale_columns(&x, &m, &norms, None, &y);
    vec![d.read(&norms), added, d.read(&y), d.read(&dots)]
}

/// The same bits for a row alone, and when the same work is done again.
pub fn rows_do_not_depend_on_those_beside_them<D: Device>(d: &D) {
    let (x, w, norm) = (tensor(d, 1, 37, 50), tensor(d, 2, 30, 50), tensor(d, 3, 1, 50));
    let run = |rows: std::ops::Range<usize>| {
        let (x, n) = (x.row_range(rows.clone()), rows.len());
        let (y, dx, normed, inv) = (tensor(d, 4, n, 30), tensor(d, 5, n, 50), tensor(d, 6, n, 50), tensor(d, 7, n, 1));
        d.linear(&x, &w, 1.0, Write::Set, &y);
        d.linear_backward_input(&y, &w, 1.0, Write::Set, &dx);
        d.rms_norm(&x, &norm, 1e-5, &normed, &inv);
        [y, dx, normed].map(|t| d.read(&t))
    };
    let whole = run(0..37);
    assert_eq!(run(0..37), whole, "the same work again");
    for (alone, all) in run(20..21).iter().zip(&whole) {
        assert_eq!(alone[..], all[20 * alone.len()..][..alone.len()], "row 20 alone");
    }
}

/// trl#3067: rows packed together must not see each other, to the bit.
pub fn packed_rows_do_not_leak_trl_3067<D: Device>(d: &D) {
    let run = |change: f32| {
        let mut values = numbers(1, 12 * HEADS.row_width());
        values[..5 * HEADS.row_width()].iter_mut().for_each(|v| *v += change);
        let qkv = d.upload(12, HEADS.row_width(), &values);
        let (out, sums) = (tensor(d, 2, 12, HEADS.query_width()), tensor(d, 3, 12, HEADS.query));
        d.attention(&qkv, &[Segment::alone(0..5), Segment::alone(5..12)], HEADS, &out, &sums);
        d.read(&out.row_range(5..12))
    };
    assert_eq!(run(0.0), run(1.0));
}

/// A choice behind a shared prompt gives what prompt and choice give in one run.
pub fn a_shared_prompt_equals_the_prompt_repeated<D: Device>(d: &D) {
    let qkv = tensor(d, 1, 12, HEADS.row_width());
    let run = |segments: &[Segment]| {
        let (out, sums) = (tensor(d, 2, 12, HEADS.query_width()), tensor(d, 3, 12, HEADS.query));
        d.attention(&qkv, segments, HEADS, &out, &sums);
        d.read(&out)
    };
    let whole = run(&[Segment::alone(0..12)]);
    let parted = run(&[Segment::alone(0..7), Segment { rows: 7..12, context: vec![0..7] }]);
    compare("shared prompt", 2e-6, vec![parted], vec![whole]);
}

/// Panics, as it should.
pub fn an_output_over_its_input<D: Device>(d: &D) {
    let x = tensor(d, 1, 4, 8);
    d.swiglu(&x, &x.col_range(0..4));
}

pub fn an_arena_is_measured_before_it_is_allocated<D: Device>(d: &D) {
    let layout = |arena: &mut Arena<_>| (arena.take(3, 5), arena.take(2, 16));
    assert_eq!(Arena::measure(d, layout), 16 + 32);
    let (a, b) = Arena::allocate(d, layout);
    d.fill(&a, 1.0);
    d.fill(&b, 2.0);
    assert_eq!(d.read(&a), vec![1.0; 15]);
    assert_eq!(d.read(&b), vec![2.0; 32]);
}
