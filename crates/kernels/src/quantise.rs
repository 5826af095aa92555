//! Numbers on their way into a weight file: the quantisers of llama.cpp, bit for bit.
//!
//! Source: `quantize_row_q8_0_ref` and `quantize_row_q4_0_ref` of `ggml-quants.c`. The C code of Q4_0 adds 8.5 in one rounding
//! or two, by the compiler; here it is exact, as in `quants.py` of the package `gguf`, which the goldens are from.

use half::{bf16, f16};
use rayon::prelude::*;

use crate::Encoding;

impl Encoding {
    /// Encodes rows of `row_len` values, a whole number of blocks; none for an encoding that is read only. Rounds to nearest;
    /// values beyond the range of f16 become infinite in F16 and in the scales of Q8_0 and Q4_0.
    ///
    /// # Panics
    /// When a row is no whole number of blocks.
    pub fn encode(self, values: &[f32], row_len: usize) -> Option<Vec<u8>> {
        let (block, size) = self.block();
        assert!(row_len.is_multiple_of(block) && values.len().is_multiple_of(row_len), "rows of whole blocks");
        let write: fn(&[f32], &mut [u8]) = match self {
            Self::F32 => |x, out| out.copy_from_slice(&x[0].to_le_bytes()),
            Self::F16 => |x, out| out.copy_from_slice(&f16::from_f32(x[0]).to_le_bytes()),
            Self::BF16 => |x, out| out.copy_from_slice(&bf16::from_f32(x[0]).to_le_bytes()),
            Self::Q8_0 => q8_0,
            Self::Q4_0 => q4_0,
            _ => return None,
        };
        let mut bytes = vec![0; values.len() / block * size];
        let blocks = values.par_chunks_exact(block).zip(bytes.par_chunks_exact_mut(size));
        blocks.with_min_len(1 << 12).for_each(|(x, out)| write(x, out));
        Some(bytes)
    }
}

fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

fn q8_0(x: &[f32], out: &mut [u8]) {
    let largest = x.iter().fold(0.0f32, |a, x| a.max(x.abs()));
    let scale = largest / 127.0;
    let inverse = inverse(scale);
    out[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
    // `round` goes away from zero at halves, as C's `roundf` does.
    out[2..].iter_mut().zip(x).for_each(|(q, x)| *q = (x * inverse).round() as i8 as u8);
}

fn q4_0(x: &[f32], out: &mut [u8]) {
    // The value of the largest magnitude, the first among equals, becomes -8.
    let largest = x.iter().fold(0.0f32, |a, &x| if x.abs() > a.abs() { x } else { a });
    let scale = largest / -8.0;
    let inverse = inverse(scale);
    out[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
    let level = |x: f32| (f64::from(x) * f64::from(inverse) + 8.5) as u8;
    let (low, high) = x.split_at(16);
    for ((q, &low), &high) in out[2..].iter_mut().zip(low).zip(high) {
        *q = level(low).min(15) | level(high).min(15) << 4;
    }
}
