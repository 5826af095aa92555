//! Attention over a key-value cache, in f32 or in bf16.
//!
//! A worker takes a query with the heads that share keys and values, and reads those once for all of them. A query's sums
//! run over what it sees, in order, whatever the runs in which that lies: so neither a shared prefix nor the queries beside
//! it change its bits.

use rayon::prelude::*;

use super::with_scratch;
use crate::cpu::lanes;
use crate::cpu::rows::{CacheRows, Rows};
use crate::operands::{Cached, Heads};

/// Products of a query and a key, summed over the heads, below which one thread does all: waking another costs more.
const SMALL: usize = 1 << 16;

pub(in crate::cpu) fn cached(q: Rows, cache: CacheRows, runs: &[Cached], heads: Heads, out: Rows) {
    let group = heads.query / heads.kv;
    assert!(heads.dim <= lanes::WIDEST_HEAD, "heads of {}, at most {}", heads.dim, lanes::WIDEST_HEAD);
    // A task for each query and key-value head: its run, and its number there.
    let queries: Vec<(usize, usize)> =
        runs.iter().enumerate().flat_map(|(r, run)| (0..run.rows.len()).map(move |i| (r, i))).collect();
    let seen = |&(r, i): &(usize, usize)| runs[r].visible(i) - heads.beyond_window(runs[r].visible(i));
    let work: usize = queries.iter().map(seen).sum::<usize>() * heads.query_width();
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

/// One query's heads over one key-value head: the last of the `visible` rows that its window leaves.
fn one(queries: &[f32], cache: CacheRows, run: &Cached, visible: usize, kv: usize, heads: Heads, out: &mut [f32]) {
    let (dim, scale, beyond) = (heads.dim, heads.scale, heads.beyond_window(visible));
    let (key, value) = (kv * dim, heads.kv_width() + kv * dim);
    let within = visible - beyond;
    with_scratch(queries.len() / dim * within, |weights| {
        // What is seen of each run, and its place among the weights.
        let runs = || {
            let mut passed = 0;
            run.seen.iter().filter_map(move |seen| {
                let (first, end) = (beyond.saturating_sub(passed).min(seen.len()), seen.len().min(visible - passed));
                let at = (passed + first).saturating_sub(beyond);
                passed += end;
                (first < end).then(|| (at, seen.start + first..seen.start + end))
            })
        };
        for (at, rows) in runs() {
            let to = &mut weights[at..];
            match cache {
                CacheRows::F32(cells) => {
                    lanes::scores_f32(queries, dim, cells.part(rows, key, dim), cells.stride, scale, to, within);
                }
                CacheRows::Bf16(cells) => {
                    lanes::scores_bf16(queries, dim, cells.part(rows, key, dim), cells.stride, scale, to, within);
                }
            }
        }
        for weights in weights.chunks_exact_mut(within) {
            lanes::softmax(weights);
        }
        out.fill(0.0);
        for (at, rows) in runs() {
            let weights = &weights[at..];
            match cache {
                CacheRows::F32(cells) => {
                    lanes::weigh_f32(weights, within, cells.part(rows, value, dim), cells.stride, dim, out);
                }
                CacheRows::Bf16(cells) => {
                    lanes::weigh_bf16(weights, within, cells.part(rows, value, dim), cells.stride, dim, out);
                }
            }
        }
    });
}
