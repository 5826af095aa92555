//! What products could reach.

use rayon::prelude::*;

use super::Kernels;
use super::isa::{Isa, MOST_ROWS, PANEL};
use super::panels::Words;
use super::tile::{Ahead, CHAIN_UNITS, Left, Place, Right, Tile};

/// GFLOP/s of the tile alone on all threads, its operands in the first-level cache: the best of products.
pub(in crate::cpu) fn peak(kernels: Kernels) -> f64 {
    const UNITS: usize = CHAIN_UNITS;
    const TILES: usize = 10_000;
    let begin = std::time::Instant::now();
    let threads = rayon::current_num_threads();
    (0..threads).into_par_iter().with_max_len(1).for_each(|_| {
        let (left, right) = (Words::zeros(UNITS * MOST_ROWS), Words::zeros(UNITS * PANEL));
        let mut to = Words::zeros(MOST_ROWS * PANEL);
        let (left, right, to) = (left.as_ptr(), right.as_ptr(), to.reach(MOST_ROWS * PANEL).cast());
        // SAFETY: the operands reach UNITS units and the target a whole tile.
        unsafe { dispatch!(kernels, tiles(left: *const u32, right: *const u32, to: *mut f32)) };
    });
    let pairs = if kernels.bf16 { 2 } else { 1 };
    let flops = 2.0 * (threads * TILES * UNITS * pairs * kernels.left_panel().0 * PANEL) as f64;
    return flops / begin.elapsed().as_secs_f64() / 1e9;

    #[inline(always)]
    unsafe fn tiles<I: Isa, const BF16: bool>(left: *const u32, right: *const u32, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { I::begin() };
        for _ in 0..TILES {
            // Hidden from the optimiser, which would otherwise merge the rounds.
            let (left, right, to, units) = std::hint::black_box((left, right, to, UNITS));
            let to = Place { at: to, stride: PANEL };
            let (left, right) = (Left::packed(left, I::ROWS, units), Right { at: right, unit: PANEL });
            let ahead = Ahead { at: right.at, unit: 0 };
            let tile =
                Tile { units, left, right, ahead, rows: I::ROWS, width: PANEL, from: None, to, then: None, next: to };
            // SAFETY: the caller's promise.
            unsafe { tile.compute::<I, BF16, true>() };
        }
        // SAFETY: as above.
        unsafe { I::end() };
    }
}
