//! Products of bf16 by AMX: tiles of 16 rows by 16 lanes in registers of their own, which the processor multiplies 32 k at a time.
//!
//! Stable Rust has no names for these instructions, so they are written as assembly. A thread sets the shape of its tile registers
//! before a task and gives them up after it; what lies in them in between is of no concern to the compiler, which never uses them.

mod pack;

use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use super::block::copy_lanes;
use super::isa::{Avx512Bf16, Isa, PANEL};
use super::tile::{Ahead, Place, Then, Tile};

/// Rows of a tile register, and words in each of its rows.
pub(super) const SIDE: usize = 16;
/// Rows of a tile: two registers.
pub(super) const ROWS: usize = 2 * SIDE;

/// Of so few groups the result is not asked for ahead.
const FEW_GROUPS: usize = 8;

/// Whether the processor has it and the system lets this process use it. Linux asks to be asked, once for all threads.
pub(super) fn available() -> bool {
    static ALLOWED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *ALLOWED.get_or_init(|| {
        let highest = __cpuid(0).eax;
        let features = if highest >= 7 { __cpuid_count(7, 0).edx } else { 0 };
        let (bf16, tiles) = (features >> 22 & 1 == 1, features >> 24 & 1 == 1);
        bf16 && tiles && may_use_tiles()
    })
}

/// `arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)`: since Linux 5.16.
#[cfg(target_os = "linux")]
fn may_use_tiles() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const XFEATURE_XTILEDATA: i64 = 18;
    let result: i64;
    // SAFETY: the call changes nothing but what the process may do; an older kernel answers with an error.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack)
        );
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn may_use_tiles() -> bool {
    false
}

/// What `ldtilecfg` reads: palette 1, eight registers of 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_of_a_row: [u16; 16],
    rows: [u8; 16],
}

static SHAPES: Shapes = {
    let (mut bytes_of_a_row, mut rows) = ([0; 16], [0; 16]);
    let mut register = 0;
    while register < 8 {
        bytes_of_a_row[register] = 4 * SIDE as u16;
        rows[register] = SIDE as u8;
        register += 1;
    }
    Shapes { palette: 1, start_row: 0, reserved: [0; 14], bytes_of_a_row, rows }
};

macro_rules! load {
    ($register:literal, $at:expr, $stride:expr) => {
        asm!(concat!("tileloadd ", $register, ", [{at} + {stride}]"), at = in(reg) $at, stride = in(reg) $stride,
            options(nostack, preserves_flags))
    };
}

macro_rules! store {
    ($register:literal, $at:expr, $stride:expr) => {
        asm!(concat!("tilestored [{at} + {stride}], ", $register), at = in(reg) $at, stride = in(reg) $stride,
            options(nostack, preserves_flags))
    };
}

macro_rules! zero {
    ($register:literal) => {
        asm!(concat!("tilezero ", $register), options(nostack, preserves_flags))
    };
}

/// Adds the product of `tmm6` and `tmm7`.
macro_rules! multiply_add {
    ($register:literal) => {
        asm!(concat!("tdpbf16ps ", $register, ", tmm6, tmm7"), options(nostack, preserves_flags))
    };
}

/// Does something with each of the `R` by `N` registers of sums, that of row i and lane j being `3 i + j`: `$do!(register, i, j)`.
macro_rules! each_sum {
    ($do:ident, $rows:ident, $lanes:ident) => {
        $do!("tmm0", 0, 0);
        if $lanes > 1 {
            $do!("tmm1", 0, 1);
        }
        if $lanes > 2 {
            $do!("tmm2", 0, 2);
        }
        if $rows > 1 {
            $do!("tmm3", 1, 0);
            if $lanes > 1 {
                $do!("tmm4", 1, 1);
            }
            if $lanes > 2 {
                $do!("tmm5", 1, 2);
            }
        }
    };
}

/// Left rows and right lanes of so many groups of 16 units, and what is asked for ahead.
#[derive(Clone, Copy)]
struct Groups {
    left: *const u32,
    right: *const u32,
    /// Words from one unit of the right operand to the next.
    unit: usize,
    count: usize,
    ahead: Ahead,
}

impl Groups {
    /// Adds their product to the sums of 16 R rows by 16 N lanes.
    #[inline(always)]
    unsafe fn add<const R: usize, const N: usize>(self, next: Place) {
        let (mut a, mut b, mut ahead) = (self.left, self.right, self.ahead.at);
        // The lines of the next tile's results are asked for, too: a store waits for its line, and what comes after it waits for the
        // store. Not where there is little time to: such results are small, and near.
        let lines = if self.count < FEW_GROUPS { 0 } else { SIDE * R * N };
        let each = SIDE * R * N / self.count.max(1) + 1;
        // SAFETY: the caller's promise; asking ahead reads nothing.
        unsafe {
            for group in 0..self.count {
                for line in group * each..lines.min((group + 1) * each) {
                    _mm_prefetch::<_MM_HINT_ET0>(next.after(line / N, line % N * SIDE).at.cast());
                }
                for line in 0..self.ahead.unit {
                    Avx512Bf16::prefetch(ahead.wrapping_add(line * SIDE));
                }
                ahead = ahead.wrapping_add(SIDE * self.ahead.unit);
                // Lanes there, and back: those of the last are still there for the second rows.
                load!("tmm6", a, 4 * SIDE);
                load!("tmm7", b, 4 * self.unit);
                multiply_add!("tmm0");
                if N > 1 {
                    load!("tmm7", b.wrapping_add(SIDE), 4 * self.unit);
                    multiply_add!("tmm1");
                }
                if N > 2 {
                    load!("tmm7", b.wrapping_add(2 * SIDE), 4 * self.unit);
                    multiply_add!("tmm2");
                }
                if R > 1 {
                    load!("tmm6", a.wrapping_add(SIDE * SIDE), 4 * SIDE);
                    if N > 2 {
                        multiply_add!("tmm5");
                        load!("tmm7", b.wrapping_add(SIDE), 4 * self.unit);
                    }
                    if N > 1 {
                        multiply_add!("tmm4");
                        load!("tmm7", b, 4 * self.unit);
                    }
                    multiply_add!("tmm3");
                }
                a = a.wrapping_add(SIDE * ROWS);
                b = b.wrapping_add(SIDE * self.unit);
            }
        }
    }
}

/// `to = from + ` the products, in 16 R rows by 16 N lanes.
#[inline(always)]
unsafe fn sum<const R: usize, const N: usize>(from: Option<Place>, products: &[Groups], to: Place, next: Place) {
    // SAFETY: the caller's promise; the thread has set the shapes of its tile registers.
    unsafe {
        if let Some(from) = from {
            macro_rules! begin {
                ($register:literal, $i:expr, $j:expr) => {
                    load!($register, from.after(SIDE * $i, SIDE * $j).at, 4 * from.stride)
                };
            }
            each_sum!(begin, R, N);
        } else {
            macro_rules! begin {
                ($register:literal, $i:expr, $j:expr) => {
                    zero!($register)
                };
            }
            each_sum!(begin, R, N);
        }
        for groups in products {
            groups.add::<R, N>(next);
        }
        macro_rules! end {
            ($register:literal, $i:expr, $j:expr) => {
                store!($register, to.after(SIDE * $i, SIDE * $j).at, 4 * to.stride)
            };
        }
        each_sum!(end, R, N);
    }
}

/// Room for one of something, in whole lines.
#[repr(C, align(64))]
struct Lines<T>(T);

/// Sets the shapes of the thread's tile registers.
///
/// # Safety
/// [`available`].
#[inline(always)]
pub(super) unsafe fn begin() {
    // SAFETY: the caller's promise that the processor has them.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const SHAPES, options(nostack, preserves_flags, readonly)) };
}

/// Gives them up.
///
/// # Safety
/// As for [`begin`].
#[inline(always)]
pub(super) unsafe fn end() {
    // SAFETY: as above.
    unsafe { asm!("tilerelease", options(nostack, preserves_flags, nomem)) };
}

/// Registers have 16 rows and take 16 units: rows past the last are computed aside, and what lies past the last unit is zero
/// (in the left rows, too).
///
/// # Safety
/// As for [`Tile::compute`], its left rows packed; [`begin`] was called.
#[inline(always)]
pub(super) unsafe fn tile(tile: Tile) {
    let Tile { units, left, right, ahead, rows, width, from, to, then, next } = tile;
    let mut aside = MaybeUninit::<Lines<[f32; ROWS * PANEL]>>::uninit();
    let mut last = MaybeUninit::<Lines<[u32; SIDE * PANEL]>>::uninit();
    let aside = Place { at: aside.as_mut_ptr().cast(), stride: PANEL };
    let whole = rows.is_multiple_of(SIDE);
    let groups = Groups { left: left.at, right: right.at, unit: right.unit, count: units / SIDE, ahead };
    let nothing = Groups { count: 0, ..groups };
    let mut products = [groups, nothing, nothing];
    // SAFETY: the caller's promise; where rows are not whole the registers read and write what lies aside.
    unsafe {
        let rest = units % SIDE;
        if rest > 0 {
            let passed = units / SIDE * SIDE;
            let (lanes, last) = (right.at.wrapping_add(passed * right.unit), last.as_mut_ptr().cast::<u32>());
            for unit in 0..SIDE {
                let to = last.wrapping_add(unit * width);
                if unit < rest {
                    std::ptr::copy_nonoverlapping(lanes.wrapping_add(unit * right.unit), to, width);
                } else {
                    to.write_bytes(0, width);
                }
            }
            let left = left.at.wrapping_add(passed * ROWS);
            products[1] = Groups { left, right: last, unit: width, count: 1, ahead: Ahead { unit: 0, ..ahead } };
        }
        if let Some(Then { units, left, right }) = then {
            debug_assert!(units.is_multiple_of(SIDE), "{units} units of a piece");
            let ahead = Ahead { unit: 0, ..ahead };
            let count = units / SIDE;
            products[2] = Groups { left: left.at, right: right.at, unit: right.unit, count, ahead };
        }
        let (from, sums) = if whole { (from, to) } else { (from.map(|_| aside), aside) };
        if let (Some(place), false) = (tile.from, whole) {
            copy_lanes(place, aside, rows, width);
        }
        match (rows.div_ceil(SIDE), width / SIDE) {
            (1, 1) => sum::<1, 1>(from, &products, sums, next),
            (1, 2) => sum::<1, 2>(from, &products, sums, next),
            (1, 3) => sum::<1, 3>(from, &products, sums, next),
            (2, 1) => sum::<2, 1>(from, &products, sums, next),
            (2, 2) => sum::<2, 2>(from, &products, sums, next),
            (2, 3) => sum::<2, 3>(from, &products, sums, next),
            _ => unreachable!("a tile of at most {} rows and {PANEL} lanes", ROWS),
        }
        if !whole {
            copy_lanes(aside, to, rows, width);
        }
    }
}
