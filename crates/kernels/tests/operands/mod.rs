//! Operands that both test files share: seeded numbers, shapes, segments.
#![allow(dead_code)]

use temper_kernels::{Heads, Segment};
use temper_run::Random;

/// Numbers in [-1, 1), a function of the seed; multiples of 2^-23, so that sums of a few of them are exact in f32.
pub fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let stream = Random::new(seed, "operands");
    (0..count as u64).map(|i| (stream.bits(i) >> 40) as f32 / (1u64 << 23) as f32 - 1.0).collect()
}

/// Grouped heads: four queries over two key-value heads.
pub const HEADS: Heads = Heads { query: 4, kv: 2, dim: 8, scale: 0.353_553_4, window: None };

/// The same with a sliding window and a scale of their own.
pub fn sliding(window: usize) -> Heads {
    Heads { scale: 0.21, window: Some(window), ..HEADS }
}

/// A lone sequence, a prompt with two choices behind it, a tree node that sees the prompt and one choice; and a
/// sequence longer than one block of query rows.
pub fn segments(long: usize) -> Vec<Segment> {
    vec![
        Segment::alone(0..5),
        Segment::alone(5..9),
        Segment { rows: 9..11, context: vec![5..9] },
        Segment { rows: 11..14, context: vec![5..9] },
        Segment { rows: 14..15, context: vec![5..9, 9..11] },
        Segment::alone(15..15 + long),
    ]
}
