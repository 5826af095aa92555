//! How numbers lie in a weight file, and their way to `f32`.
//!
//! Block layouts: `ggml-common.h` and `ggml-quants.c` of llama.cpp (`block_q4_0` and so on). The products
//! and sums are done in `f32` in the same order, so the result equals the reference implementation bit for bit.

use std::fmt;

use half::{bf16, f16};
use rayon::prelude::*;

/// Storage of one tensor's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(non_camel_case_types, reason = "ggml's names")]
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
    /// Blocks of 32: an f16 scale `d`, the 32 fifth bits, 32 nibbles; value `(q - 16) d`.
    Q5_0,
    /// Blocks of 256: f16 scales `d` and `m`; for each 32 values six bits `s` and six bits `t`; 256 nibbles `q`; value
    /// `q (d s) - m t`.
    Q4_K,
    /// Blocks of 256: 256 nibbles and 256 pairs of upper bits; for each 16 values a signed byte `s`; an f16 scale `d`; value
    /// `(d s) (q - 32)`.
    Q6_K,
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
            Self::Q5_0 => (32, 2 + 4 + 16),
            Self::Q4_K => (256, 2 + 2 + 12 + 128),
            Self::Q6_K => (256, 128 + 64 + 16 + 2),
        }
    }

    /// Of an encoding that products read as it is: the numbers in f16 with which a block begins and by which its values are
    /// scaled and shifted. 0 for the others, which are decoded when they are loaded.
    pub const fn halves(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 | Self::Q5_0 | Self::Q4_K | Self::Q6_K => 0,
            Self::Q8_0 | Self::Q4_0 => 1,
            Self::Q4_1 => 2,
        }
    }

    /// Whether products read it as it is, values that share a scale.
    pub const fn is_multiplied(self) -> bool {
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
            Self::Q5_0 => blocks.for_each(|(b, y)| {
                let (d, fifth) = (half_at(b, 0), u32::from_le_bytes([b[2], b[3], b[4], b[5]]));
                let (low, high) = y.split_at_mut(16);
                for (j, ((l, h), &q)) in low.iter_mut().zip(high).zip(&b[6..]).enumerate() {
                    let bit = |k: usize| ((fifth >> k) as u8 & 1) << 4;
                    *l = (f32::from(q & 15 | bit(j)) - 16.0) * d;
                    *h = (f32::from(q >> 4 | bit(j + 16)) - 16.0) * d;
                }
            }),
            Self::Q4_K => blocks.for_each(|(b, y)| {
                let (d, m, scales) = (half_at(b, 0), half_at(b, 2), &b[4..16]);
                // Of each 64 values the first 32 are the low nibbles of 32 bytes.
                for (j, (y, q)) in y.chunks_exact_mut(64).zip(b[16..].chunks_exact(32)).enumerate() {
                    let (low, high) = y.split_at_mut(32);
                    let [(s, t), (s_high, t_high)] = [six_bits(scales, 2 * j), six_bits(scales, 2 * j + 1)];
                    for ((l, h), &q) in low.iter_mut().zip(high).zip(q) {
                        *l = d * s * f32::from(q & 15) - m * t;
                        *h = d * s_high * f32::from(q >> 4) - m * t_high;
                    }
                }
            }),
            Self::Q6_K => blocks.for_each(|(b, y)| {
                let d = half_at(b, 208);
                for (half, y) in y.chunks_exact_mut(128).enumerate() {
                    let (low, high, scales) = (&b[64 * half..], &b[128 + 32 * half..], &b[192 + 8 * half..]);
                    for (k, y) in y.iter_mut().enumerate() {
                        // Four runs of 32: two of low nibbles, two of high ones, and two upper bits of each.
                        let (run, l) = (k / 32, k % 32);
                        let nibble = low[l + 32 * (run % 2)] >> (4 * (run / 2)) & 15;
                        let q = nibble | (high[l] >> (2 * run) & 3) << 4;
                        *y = d * f32::from(scales[k / 16] as i8) * (f32::from(q) - 32.0);
                    }
                }
            }),
        }
    }
}

/// Scale and minimum number `j` of the eight of a Q4_K block, six bits each in twelve bytes (`get_scale_min_k4`).
fn six_bits(packed: &[u8], j: usize) -> (f32, f32) {
    let (scale, minimum) = if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        (packed[j + 4] & 15 | packed[j - 4] >> 6 << 4, packed[j + 4] >> 4 | packed[j] >> 6 << 4)
    };
    (f32::from(scale), f32::from(minimum))
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
