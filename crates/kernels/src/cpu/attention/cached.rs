//! Attention over a key-value cache, in f32 or in bf16.
//!
//! A worker takes a query with the heads that share keys and values, and reads those once for all of them. A query's sums
//! run over what it sees, in order, whatever the runs in which that lies: so neither a shared prefix nor the queries beside
//! it change its bits.

use rayon::prelude::*;

use super::with_scratch;
use crate::cpu::lanes;
use crate::cpu::rows::{CacheRows, Rows};
use crate::device::{Cached, Heads};

/// Products of a query and a key, summed over the heads, below which one thread does all: waking another costs more.
const SMALL: usize = 1 << 16;

pub(in crate::cpu) fn cached(q: Rows, cache: CacheRows, runs: &[Cached], heads: Heads, out: Rows) {
    let group = heads.query / heads.kv;
    assert!(heads.dim <= lanes::WIDEST_HEAD, "heads of {}, at most {}", heads.dim, lanes::WIDEST_HEAD);
    // A task for each query and key-value head: its run, and its number there.
    let queries: Vec<(usize, usize)> =
        runs.iter().enumerate().flat_map(|(r, run)| (0..run.rows.len()).map(move |i| (r, i))).collect();
    let work: usize = queries.iter().map(|&(r, i)| runs[r].visible(i)).sum::<usize>() * heads.query_width();
    let task = |task: usize| {
        let ((run, i), kv) = (queries[task / heads.kv], task % heads.kv);
        let (run, row) = (&runs[run], runs[run].rows.start + i);
        let columns = kv * group * heads.dim..(kv + 1) * group * heads.dim;
        // SAFETY: q and the cache are only read; these columns of the output row belong to this task alone.
        let (queries, out) = unsafe { (&q.row(row)[columns.clone()], &mut out.row_mut(row)[columns]) };
        one(queries, cache, run, run.visible(i), kv, heads, out);
    };
    let tasks = queries.len() * heads.kv;
    if work < SMALL {
        (0..tasks).for_each(task);
    } else {
        (0..tasks).into_par_iter().for_each(task);
    }
}

/// One query's heads over one key-value head.
fn one(queries: &[f32], cache: CacheRows, run: &Cached, visible: usize, kv: usize, heads: Heads, out: &mut [f32]) {
    let (dim, scale) = (heads.dim, 1.0 / (heads.dim as f32).sqrt());
    let (key, value) = (kv * dim, heads.kv_width() + kv * dim);
    with_scratch(queries.len() / dim * visible, |weights| {
        let runs = || {
            let mut at = 0;
            run.seen.iter().filter_map(move |seen| {
                let (start, rows) = (at, seen.len().min(visible - at));
                at += rows;
                (rows > 0).then(|| (start, seen.start..seen.start + rows))
            })
        };
        for (at, rows) in runs() {
            let to = &mut weights[at..];
            match cache {
                CacheRows::F32(cells) => {
                    lanes::scores_f32(queries, dim, cells.part(rows, key, dim), cells.stride, scale, to, visible);
                }
                CacheRows::Bf16(cells) => {
                    lanes::scores_bf16(queries, dim, cells.part(rows, key, dim), cells.stride, scale, to, visible);
                }
            }
        }
        for weights in weights.chunks_exact_mut(visible) {
            lanes::softmax(weights);
        }
        out.fill(0.0);
        for (at, rows) in runs() {
            let weights = &weights[at..];
            match cache {
                CacheRows::F32(cells) => {
                    lanes::weigh_f32(weights, visible, cells.part(rows, value, dim), cells.stride, dim, out);
                }
                CacheRows::Bf16(cells) => {
                    lanes::weigh_bf16(weights, visible, cells.part(rows, value, dim), cells.stride, dim, out);
                }
            }
        }
    });
}
