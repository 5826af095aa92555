//! Causal attention over packed segments, in blocks of query rows; no score matrix of a whole sequence is kept.
//!
//! A worker takes one (segment, key-value head) and gathers that head's keys and values, the context's first, into
//! its own scratch; so context rows may lie anywhere. In the backward a worker takes one (group, key-value head),
//! where a group holds the segments that share context rows: each row's gradient has one writer.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::lanes;
use super::product::{Kernels, Operand, Place, Product, View};
use super::rows::Rows;
use crate::device::{Cached, Heads, Segment};

/// Query rows of one block.
const BLOCK: usize = 64;

thread_local! {
    /// A worker's scratch; grows to the largest segment seen and is then reused.
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

/// The rows that the segment's last row sees: context, then its own.
fn seen(segment: &Segment) -> impl Iterator<Item = usize> + '_ {
    segment.context.iter().cloned().flatten().chain(segment.rows.clone())
}

fn context_len(segment: &Segment) -> usize {
    segment.context.iter().map(Range::len).sum()
}

/// Copies a column range of the rows a segment sees into consecutive rows of scratch.
fn gather(source: Rows, segment: &Segment, column: usize, width: usize, into: &mut [f32]) {
    for (row, into) in seen(segment).zip(into.chunks_exact_mut(width)) {
        // SAFETY: the operation only reads the source.
        into.copy_from_slice(unsafe { &source.row(row)[column..column + width] });
    }
}

/// A small product on the calling worker: `to (+)= scale * left right`, m rows, n lanes, k summed.
///
/// # Safety
/// As for [`Kernels::run_here`].
unsafe fn product(
    kernels: Kernels,
    (m, n, k): (usize, usize, usize),
    to: Place,
    left: View,
    right: View,
    scale: f32,
    add: bool,
) {
    let from = add.then_some(to);
    let product = Product { m, k, left, scale, right: Operand::Plain(right, n), pieces: &[], from, to };
    // SAFETY: the caller's promise.
    unsafe { kernels.run_here(&product) };
}

pub(super) fn forward(kernels: Kernels, qkv: Rows, segments: &[Segment], heads: Heads, out: Rows, log_sum: Rows) {
    let (dim, scale) = (heads.dim, 1.0 / (heads.dim as f32).sqrt());
    let tasks = segments.len() * heads.kv;
    (0..tasks).into_par_iter().with_max_len(1).for_each(|task| {
        let (segment, kv) = (&segments[task / heads.kv], task % heads.kv);
        let context = context_len(segment);
        let keys = context + segment.rows.len();
        with_scratch(keys * (2 * dim + BLOCK), |scratch| {
            let (k, rest) = scratch.split_at_mut(keys * dim);
            let (v, scores) = rest.split_at_mut(keys * dim);
            gather(qkv, segment, heads.query_width() + kv * dim, dim, k);
            gather(qkv, segment, heads.query_width() + heads.kv_width() + kv * dim, dim, v);
            let group = heads.query / heads.kv;
            for head in kv * group..(kv + 1) * group {
                for first in segment.rows.clone().step_by(BLOCK) {
                    let block = BLOCK.min(segment.rows.end - first);
                    let visible = context + first - segment.rows.start + block;
                    let scores = &mut scores[..block * visible];
                    let q = View::lanes_by_k(qkv.at(first, head * dim), qkv.stride);
                    let keys = View::lanes_by_k(k.as_ptr(), dim);
                    // SAFETY: k, v and scores are this worker's; qkv is only read; the block's columns of `out` and
                    // `log_sum` belong to this task alone.
                    unsafe {
                        let s = scores.as_mut_ptr();
                        product(
                            kernels,
                            (block, visible, dim),
                            Place { at: s, stride: visible },
                            q,
                            keys,
                            scale,
                            false,
                        );
                        for (r, row) in scores.chunks_exact_mut(visible).enumerate() {
                            let (live, later) = row.split_at_mut(visible - block + r + 1);
                            *log_sum.at(first + r, head) = lanes::softmax(live);
                            later.fill(0.0);
                        }
                        let (o, p) = (out.at(first, head * dim), View::lanes_by_k(s, visible));
                        let values = View::k_by_lanes(v.as_ptr(), dim);
                        product(
                            kernels,
                            (block, dim, visible),
                            Place { at: o, stride: out.stride },
                            p,
                            values,
                            1.0,
                            false,
                        );
                    }
                }
            }
        });
    });
}

pub(super) fn backward(
    kernels: Kernels,
    qkv: Rows,
    out: Rows,
    log_sum: Rows,
    dout: Rows,
    segments: &[Segment],
    heads: Heads,
    dqkv: Rows,
) {
    // Without contexts every segment is a group of its own, and there is nothing to work out.
    if segments.iter().all(|s| s.context.is_empty()) {
        (0..segments.len() * heads.kv).into_par_iter().with_max_len(1).for_each(|task| {
            let (segment, kv) = (&segments[task / heads.kv], task % heads.kv);
            segment_backward(kernels, qkv, out, log_sum, dout, segment, heads, kv, dqkv);
        });
        return;
    }
    let groups = groups(segments, qkv.rows);
    let tasks = groups.len() * heads.kv;
    (0..tasks).into_par_iter().with_max_len(1).for_each(|task| {
        let kv = task % heads.kv;
        for &segment in &groups[task / heads.kv] {
            segment_backward(kernels, qkv, out, log_sum, dout, &segments[segment], heads, kv, dqkv);
        }
    });
}

fn segment_backward(
    kernels: Kernels,
    qkv: Rows,
    out: Rows,
    log_sum: Rows,
    dout: Rows,
    segment: &Segment,
    heads: Heads,
    kv: usize,
    dqkv: Rows,
) {
    let (dim, scale) = (heads.dim, 1.0 / (heads.dim as f32).sqrt());
    let context = context_len(segment);
    let keys = context + segment.rows.len();
    let (k_column, v_column) = (heads.query_width() + kv * dim, heads.query_width() + heads.kv_width() + kv * dim);
    with_scratch(keys * (4 * dim + 2 * BLOCK), |scratch| {
        let (k, rest) = scratch.split_at_mut(keys * dim);
        let (v, rest) = rest.split_at_mut(keys * dim);
        let (dk, rest) = rest.split_at_mut(keys * dim);
        let (dv, rest) = rest.split_at_mut(keys * dim);
        let (scores, dscores) = rest.split_at_mut(keys * BLOCK);
        gather(qkv, segment, k_column, dim, k);
        gather(qkv, segment, v_column, dim, v);
        dk.fill(0.0);
        dv.fill(0.0);
        let [dk_to, dv_to] = [dk.as_mut_ptr(), dv.as_mut_ptr()].map(|at| Place { at, stride: dim });
        let group = heads.query / heads.kv;
        for head in kv * group..(kv + 1) * group {
            for first in segment.rows.clone().step_by(BLOCK) {
                let block = BLOCK.min(segment.rows.end - first);
                let visible = context + first - segment.rows.start + block;
                let (scores, dscores) = (&mut scores[..block * visible], &mut dscores[..block * visible]);
                let (p, ds) = (scores.as_mut_ptr(), dscores.as_mut_ptr());
                let (q, d_o) = (qkv.at(first, head * dim), dout.at(first, head * dim));
                // SAFETY: scratch is this worker's; qkv, out, dout and log_sum are only read; the q columns of this
                // head's rows in `dqkv` belong to this task alone.
                unsafe {
                    let (by_row, rows_by) = (View::lanes_by_k, View::k_by_lanes);
                    let (q_rows, d_o_rows) = (by_row(q, qkv.stride), by_row(d_o, dout.stride));
                    product(
                        kernels,
                        (block, visible, dim),
                        Place { at: p, stride: visible },
                        q_rows,
                        by_row(k.as_ptr(), dim),
                        scale,
                        false,
                    );
                    product(
                        kernels,
                        (block, visible, dim),
                        Place { at: ds, stride: visible },
                        d_o_rows,
                        by_row(v.as_ptr(), dim),
                        1.0,
                        false,
                    );
                    for r in 0..block {
                        let live = visible - block + r + 1;
                        let at = head * dim..(head + 1) * dim;
                        let inner = lanes::dot(&out.row(first + r)[at.clone()], &dout.row(first + r)[at]);
                        let (p_row, d_row) =
                            (&mut scores[r * visible..][..visible], &mut dscores[r * visible..][..visible]);
                        let log_sum = *log_sum.at(first + r, head);
                        lanes::attention_gradient(&mut p_row[..live], &mut d_row[..live], log_sum, inner, scale);
                        p_row[live..].fill(0.0);
                        d_row[live..].fill(0.0);
                    }
                    let dq = Place { at: dqkv.at(first, head * dim), stride: dqkv.stride };
                    let keys = rows_by(k.as_ptr(), dim);
                    product(kernels, (block, dim, visible), dq, by_row(ds, visible), keys, 1.0, false);
                    let (q_cols, d_o_cols) = (rows_by(q, qkv.stride), rows_by(d_o, dout.stride));
                    product(kernels, (visible, dim, block), dk_to, rows_by(ds, visible), q_cols, 1.0, true);
                    product(kernels, (visible, dim, block), dv_to, rows_by(p, visible), d_o_cols, 1.0, true);
                }
            }
        }
        for (i, row) in seen(segment).enumerate() {
            // SAFETY: the key and value columns of this head in the group's rows belong to this task alone.
            unsafe {
                let target = dqkv.row_mut(row);
                lanes::add(&dk[i * dim..][..dim], &mut target[k_column..k_column + dim]);
                lanes::add(&dv[i * dim..][..dim], &mut target[v_column..v_column + dim]);
            }
        }
    });
}

/// Segments that share rows through their contexts, by index, in order.
fn groups(segments: &[Segment], rows: usize) -> Vec<Vec<usize>> {
    let mut owner = vec![usize::MAX; rows];
    for (i, segment) in segments.iter().enumerate() {
        owner[segment.rows.clone()].fill(i);
    }
    let mut leader: Vec<usize> = (0..segments.len()).collect();
    fn find(leader: &mut [usize], mut i: usize) -> usize {
        while leader[i] != i {
            leader[i] = leader[leader[i]];
            i = leader[i];
        }
        i
    }
    for (i, segment) in segments.iter().enumerate() {
        for row in segment.context.iter().cloned().flatten() {
            // A context row that no segment owns has no other writer but those that see it: the first claims it.
            if owner[row] == usize::MAX {
                owner[row] = i;
            }
            let (a, b) = (find(&mut leader, i), find(&mut leader, owner[row]));
            leader[a.max(b)] = a.min(b);
        }
    }
    let mut groups = vec![Vec::new(); segments.len()];
    for i in 0..segments.len() {
        groups[find(&mut leader, i)].push(i);
    }
    groups.retain(|group| !group.is_empty());
    groups
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
