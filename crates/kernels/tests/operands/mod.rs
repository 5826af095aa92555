//! Operands that both test files share: seeded numbers, shapes, segments.
#![allow(dead_code)]

use temper_kernels::{Heads, Segment};

/// Numbers in [-1, 1) from a counter (SplitMix64).
pub fn numbers(seed: u64, count: usize) -> Vec<f32> {
    (0..count as u64)
        .map(|i| {
            let mut z = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(i.wrapping_mul(0xD1B5_4A32_D192_ED03));
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

/// Grouped heads: four queries over two key-value heads.
pub const HEADS: Heads = Heads { query: 4, kv: 2, dim: 8 };

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
