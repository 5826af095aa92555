//! Attention over packed segments, causal within a segment, and of new tokens over a cache.
//!
//! Scores exist for one block of query rows and one tile of keys at a time (`tiles.rs`); over the tiles of a row the
//! softmax is put together as they come (Milakov and Gimelshein, 2018; Dao et al., 2022). A worker of the forward takes
//! a block of rows for all query heads of a key-value head; one of the backward takes a group of segments that see
//! rows of each other, so that each row's gradient has one writer.

mod backward;
mod cached;
mod forward;
mod tiles;

use std::cell::RefCell;

pub(super) use self::backward::{Backward, backward};
pub(super) use self::cached::cached;
pub(super) use self::forward::forward;
use super::product::{Kernels, Operand, Place, Product, View};

/// Query rows of one block.
const BLOCK: usize = 48;

thread_local! {
    /// A worker's scratch; grows to the largest that was asked for and is then reused.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

fn with_scratch<R>(elements: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    SCRATCH.with_borrow_mut(|scratch| {
        if scratch.len() < elements {
            scratch.resize(elements, 0.0);
        }
        work(&mut scratch[..elements])
    })
}

/// A small product on the calling worker: `to (+)= scale * left right`, m rows, k summed.
///
/// # Safety
/// As for [`Kernels::run_here`].
unsafe fn product(
    kernels: Kernels,
    (m, k): (usize, usize),
    to: Place,
    left: View,
    right: Operand<'_>,
    scale: f32,
    add: bool,
) {
    let product = Product { m, k, left, scale, right, pieces: &[], inners: &[], from: add.then_some(to), to };
    // SAFETY: the caller's promise.
    unsafe { kernels.run_here(&product) };
}
