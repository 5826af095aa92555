//! Attention over packed segments, causal within a segment, and of new tokens over a cache.
//!
//! Scores exist for one block of query rows and one tile of keys at a time (`tiles.rs`); over the tiles of a row the
//! softmax is put together as they come (Milakov and Gimelshein, 2018; Dao et al., 2022). A worker of the forward takes
//! a block of rows for all query heads of a key-value head; one of the backward takes a group of segments that see
//! rows of each other, so that each row's gradient has one writer.

mod backward;
mod forward;
mod tiles;

use std::cell::RefCell;

use rayon::prelude::*;

pub(super) use self::backward::{Backward, backward};
pub(super) use self::forward::forward;
use super::lanes;
use super::product::{Kernels, Operand, Place, Product, View};
use super::rows::Rows;
use crate::device::{Cached, Heads};

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
    let product = Product { m, k, left, scale, right, pieces: &[], from: add.then_some(to), to };
    // SAFETY: the caller's promise.
    unsafe { kernels.run_here(&product) };
}

pub(super) fn decode(q: Rows, cache: Rows, seen: &[Cached], heads: Heads, out: Rows) {
    let (dim, scale) = (heads.dim, 1.0 / (heads.dim as f32).sqrt());
    let group = heads.query / heads.kv;
    (0..seen.len() * heads.kv).into_par_iter().with_max_len(1).for_each(|task| {
        let (i, kv) = (task / heads.kv, task % heads.kv);
        let rows = seen[i].clone();
        with_scratch(group * rows.len(), |scores| {
            // SAFETY: q and the cache are only read; these columns of the output row belong to this task alone.
            unsafe {
                let queries = &q.row(i)[kv * group * dim..][..group * dim];
                for (j, row) in rows.clone().enumerate() {
                    let key = &cache.row(row)[kv * dim..][..dim];
                    for (h, query) in queries.chunks_exact(dim).enumerate() {
                        scores[h * rows.len() + j] = scale * lanes::dot(query, key);
                    }
                }
                for scores in scores.chunks_exact_mut(rows.len()) {
                    lanes::softmax(scores);
                }
                for h in 0..group {
                    let target = std::slice::from_raw_parts_mut(out.at(i, (kv * group + h) * dim), dim);
                    target.fill(0.0);
                    for (j, row) in rows.clone().enumerate() {
                        let value = &cache.row(row)[heads.kv_width() + kv * dim..][..dim];
                        lanes::add_scaled(scores[h * rows.len() + j], value, target);
                    }
                }
            }
        });
    });
}
