//! How numbers lie in a weight file, and their way to `f32`.
//!
//! Block layouts: `ggml-common.h` and `ggml-quants.c` of llama.cpp (`block_q4_0`, `block_q4_1`, `block_q8_0`). The products
//! and sums are done in `f32` in the same order, so the result equals the reference implementation bit for bit.

use std::fmt;

use half::{bf16, f16};
use rayon::prelude::*;

/// Storage of one tensor's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Encoding {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an IEEE single.
    BF16,
    /// Blocks of 32: an f16 scale `d`, 32 signed bytes `q`; value `q d`.
    Q8_0,
    /// Blocks of 32: an f16 scale `d`, 32 nibbles `q`; value `(q - 8) d`.
    Q4_0,
    /// Blocks of 32: f16 scale `d` and minimum `m`, 32 nibbles `q`; value `q d + m`.
    Q4_1,
}

impl Encoding {
    /// Values in one block, and bytes that a block takes in the file.
    pub const fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::BF16 => (1, 2),
            Self::Q8_0 => (32, 2 + 32),
            Self::Q4_0 => (32, 2 + 16),
            Self::Q4_1 => (32, 2 + 2 + 16),
        }
    }

    /// Numbers in f16 with which a block begins and by which its values are scaled and shifted; 0 where each value stands
    /// for itself.
    pub const fn halves(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 0,
            Self::Q8_0 | Self::Q4_0 => 1,
            Self::Q4_1 => 2,
        }
    }

    /// Whether values share a scale.
    pub const fn is_quantised(self) -> bool {
        self.halves() > 0
    }

    /// Bytes of a row of `row_len` values, a whole number of blocks.
    pub const fn row_bytes(self, row_len: usize) -> usize {
        let (values, size) = self.block();
        row_len / values * size
    }

    /// Decodes `bytes`, rows of `row_len` values each, into `f32`: whole rows of whole blocks.
    pub fn decode(self, bytes: &[u8], row_len: usize) -> Vec<f32> {
        let row_bytes = self.row_bytes(row_len);
        let mut out = vec![0f32; bytes.len() / row_bytes * row_len];
        // About 64 Ki values a task: large enough to hide the cost of handing it out.
        let rows = out.par_chunks_mut(row_len).zip(bytes.par_chunks_exact(row_bytes));
        rows.with_min_len((1 << 16) / row_len.min(1 << 16)).for_each(|(row, bytes)| self.decode_row(bytes, row));
        out
    }

    /// Decodes whole blocks.
    pub(crate) fn decode_row(self, bytes: &[u8], row: &mut [f32]) {
        let half_at = |b: &[u8], i: usize| f16::from_le_bytes([b[i], b[i + 1]]).to_f32();
        let (values, size) = self.block();
        let blocks = bytes.chunks_exact(size).zip(row.chunks_exact_mut(values));
        match self {
            Self::F32 => blocks.for_each(|(b, y)| y[0] = f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
            Self::F16 => blocks.for_each(|(b, y)| y[0] = half_at(b, 0)),
            Self::BF16 => blocks.for_each(|(b, y)| y[0] = bf16::from_le_bytes([b[0], b[1]]).to_f32()),
            Self::Q8_0 => blocks.for_each(|(b, y)| {
                let d = half_at(b, 0);
                for (y, &q) in y.iter_mut().zip(&b[2..]) {
                    *y = f32::from(q as i8) * d;
                }
            }),
            Self::Q4_0 => blocks.for_each(|(b, y)| {
                let d = half_at(b, 0);
                let (low, high) = y.split_at_mut(16);
                for ((l, h), &q) in low.iter_mut().zip(high).zip(&b[2..]) {
                    *l = (f32::from(q & 15) - 8.0) * d;
                    *h = (f32::from(q >> 4) - 8.0) * d;
                }
            }),
            Self::Q4_1 => blocks.for_each(|(b, y)| {
                let (d, m) = (half_at(b, 0), half_at(b, 2));
                let (low, high) = y.split_at_mut(16);
                for ((l, h), &q) in low.iter_mut().zip(high).zip(&b[4..]) {
                    *l = f32::from(q & 15) * d + m;
                    *h = f32::from(q >> 4) * d + m;
                }
            }),
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
