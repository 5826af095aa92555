//! Packing for AMX: rows with their k side by side, as tile registers read them.

use std::arch::x86_64::*;

use super::{ROWS, SIDE};
use crate::cpu::product::isa::{Amx, Avx512Bf16};
use crate::cpu::product::pack::{Lot, Pack, hardware, mask, panels_by_units, units};

/// Left rows lie 32 to a panel, 16 units of one after the other: [16 units][row][unit], as a tile register reads them.
impl Pack for Amx {
    #[inline(always)]
    unsafe fn left<const BF16: bool>(rows: Lot, to: *mut u32, apart: usize) {
        let all = units(BF16, rows.k);
        for first in (0..rows.lanes).step_by(SIDE) {
            let some = rows.part(first, SIDE);
            let to = to.wrapping_add(first / ROWS * apart + first % ROWS * SIDE);
            for unit in (0..all).step_by(SIDE) {
                let (lot, to) = (some.of_units::<BF16>(unit, SIDE), to.wrapping_add(unit * ROWS));
                // SAFETY: the caller's promise.
                unsafe {
                    if lot.view.runs_of_k() {
                        words_along(lot, |row, words| _mm512_storeu_si512(to.wrapping_add(row * SIDE).cast(), words));
                    } else {
                        runs_of_lanes(lot, to);
                    }
                }
            }
        }
    }

    /// Lanes whose k lie side by side are turned 16 units of 16 lanes at a time, twice what the others turn.
    #[inline(always)]
    unsafe fn right<const BF16: bool>(lanes: Lot, to: *mut u32, width: usize) {
        if !lanes.view.runs_of_k() {
            // SAFETY: the caller's promise.
            return unsafe { Avx512Bf16::right::<BF16>(lanes, to, width) };
        }
        let all = units(BF16, lanes.k);
        for group in (0..width).step_by(SIDE) {
            let some = lanes.part(group, SIDE);
            for unit in (0..all).step_by(SIDE) {
                let to = to.wrapping_add(unit * width + group);
                // SAFETY: the caller's promise.
                unsafe {
                    let mut rows = [_mm512_setzero_si512(); SIDE];
                    words_along(some.of_units::<BF16>(unit, SIDE), |row, words| rows[row] = words);
                    for (i, words) in transpose(rows).into_iter().enumerate().take(all - unit) {
                        _mm512_storeu_si512(to.wrapping_add(i * width).cast(), words);
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn panels<const BF16: bool>(lanes: Lot, to: *mut u32, apart: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            if lanes.view.runs_of_k() {
                panels_by_units::<Self, BF16>(lanes, to, apart);
            } else {
                Avx512Bf16::panels::<BF16>(lanes, to, apart);
            }
        }
    }
}

/// The words of 16 units of up to 16 rows whose k lie side by side, row by row.
#[inline(always)]
unsafe fn words_along(lot: Lot, mut with: impl FnMut(usize, __m512i)) {
    let halves = [mask(lot.k), mask(lot.k.saturating_sub(SIDE))];
    // SAFETY: the caller's promise; masks keep loads within k.
    unsafe {
        let factor = _mm512_set1_ps(lot.scale);
        for row in 0..lot.lanes {
            let at = lot.at(row, 0);
            let [low, high] = [0, 1].map(|half| {
                let values = _mm512_maskz_loadu_ps(halves[half], at.wrapping_add(half * SIDE));
                _mm512_mul_ps(values, factor)
            });
            with(row, std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)));
        }
    }
}

/// 16 units of up to 16 rows that lie side by side in the matrix.
#[inline(always)]
unsafe fn runs_of_lanes(lot: Lot, to: *mut u32) {
    let present = mask(lot.lanes);
    // SAFETY: the caller's promise; masks keep loads within the lanes.
    unsafe {
        let factor = _mm512_set1_ps(lot.scale);
        let at = |k: usize| _mm512_mul_ps(_mm512_maskz_loadu_ps(present, lot.at(0, k)), factor);
        let mut all = [_mm512_setzero_si512(); SIDE];
        if lot.k == 2 * SIDE {
            for (unit, words) in all.iter_mut().enumerate() {
                *words = hardware::round_two(at(2 * unit + 1), at(2 * unit));
            }
        } else {
            for (unit, words) in all.iter_mut().enumerate().take(lot.k.div_ceil(2)) {
                let odd = if 2 * unit + 1 < lot.k { at(2 * unit + 1) } else { _mm512_setzero_ps() };
                *words = hardware::round_two(odd, at(2 * unit));
            }
        }
        let turned = transpose(all);
        if lot.lanes == SIDE {
            for (row, words) in turned.into_iter().enumerate() {
                _mm512_storeu_si512(to.wrapping_add(row * SIDE).cast(), words);
            }
        } else {
            for (row, words) in turned.into_iter().enumerate().take(lot.lanes) {
                _mm512_storeu_si512(to.wrapping_add(row * SIDE).cast(), words);
            }
        }
    }
}

/// Transposes sixteen rows of sixteen words.
#[inline(always)]
unsafe fn transpose(rows: [__m512i; SIDE]) -> [__m512i; SIDE] {
    // SAFETY: the caller has AVX-512.
    unsafe {
        let mut pairs = rows;
        for i in (0..SIDE).step_by(2) {
            pairs[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
            pairs[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
        }
        // fours[4 i + c]: of rows 4 i to 4 i + 3 the columns c, 4 + c, 8 + c, 12 + c.
        let mut fours = pairs;
        for i in (0..SIDE).step_by(4) {
            for half in 0..2 {
                fours[i + 2 * half] = _mm512_unpacklo_epi64(pairs[i + half], pairs[i + 2 + half]);
                fours[i + 2 * half + 1] = _mm512_unpackhi_epi64(pairs[i + half], pairs[i + 2 + half]);
            }
        }
        let mut turned = fours;
        for c in 0..4 {
            let [a, b, d, e] = [fours[c], fours[4 + c], fours[8 + c], fours[12 + c]];
            let (low, high) = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0x88>(d, e));
            turned[c] = _mm512_shuffle_i32x4::<0x88>(low, high);
            turned[8 + c] = _mm512_shuffle_i32x4::<0xdd>(low, high);
            let (low, high) = (_mm512_shuffle_i32x4::<0xdd>(a, b), _mm512_shuffle_i32x4::<0xdd>(d, e));
            turned[4 + c] = _mm512_shuffle_i32x4::<0x88>(low, high);
            turned[12 + c] = _mm512_shuffle_i32x4::<0xdd>(low, high);
        }
        turned
    }
}
