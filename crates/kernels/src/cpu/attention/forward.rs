//! The forward: blocks of query rows over tiles of keys.

use std::ops::Range;

use rayon::prelude::*;

use super::tiles::{Pass, TILE, Tiles};
use super::{BLOCK, product, with_scratch};
use crate::cpu::lanes;
use crate::cpu::product::{Kernels, Place, View};
use crate::cpu::rows::Rows;
use crate::operands::{Heads, Segment};

pub(in crate::cpu) fn forward(
    kernels: Kernels,
    qkv: Rows,
    segments: &[Segment],
    heads: Heads,
    out: Rows,
    log_sum: Rows,
) {
    let group = heads.query / heads.kv;
    let blocks: Vec<(&Segment, usize)> =
        segments.iter().flat_map(|s| s.rows.clone().step_by(BLOCK).map(move |first| (s, first))).collect();
    Tiles::pack(kernels, qkv, segments, heads, Pass::Forward, |tiles| {
        (0..blocks.len() * heads.kv).into_par_iter().with_max_len(1).for_each(|task| {
            let ((segment, first), kv) = (blocks[task / heads.kv], task % heads.kv);
            let block = first..segment.rows.end.min(first + BLOCK);
            for head in kv * group..(kv + 1) * group {
                head_of_block(kernels, qkv, tiles, segment, block.clone(), heads, (head, kv), out, log_sum);
            }
        });
    });
}

/// One head of one block.
fn head_of_block(
    kernels: Kernels,
    qkv: Rows,
    tiles: &Tiles,
    segment: &Segment,
    block: Range<usize>,
    heads: Heads,
    (head, kv): (usize, usize),
    out: Rows,
    log_sum: Rows,
) {
    let (dim, count, scale) = (heads.dim, block.len(), heads.scale);
    with_scratch(BLOCK * (TILE + dim), |scratch| {
        let (scores, o) = scratch.split_at_mut(BLOCK * TILE);
        // The largest score of each row so far, and the sum of exponentials under it.
        let (mut tops, mut totals) = ([f32::NEG_INFINITY; BLOCK], [0.0f32; BLOCK]);
        let q = View::lanes_by_k(qkv.at(block.start, head * dim), qkv.stride);
        let o_place = Place { at: o.as_mut_ptr(), stride: dim };
        for (index, tile) in tiles.seen(segment, block.clone(), kv).enumerate() {
            let s = Place { at: scores.as_mut_ptr(), stride: TILE };
            // SAFETY: the scratch is this worker's; qkv is only read.
            unsafe { product(kernels, (count, dim), s, q, tile.keys_as_lanes(), scale, false) };
            for (r, row) in scores.chunks_exact_mut(TILE).take(count).enumerate() {
                let live = tile.live(r);
                row[..live.start].fill(0.0);
                row[live.end..tile.used].fill(0.0);
                if live.is_empty() {
                    continue;
                }
                let (top, total) = lanes::exponentials(&mut row[live], tops[r]);
                if index > 0 {
                    let shrink = (tops[r] - top).exp();
                    totals[r] *= shrink;
                    lanes::scale(shrink, &mut o[r * dim..][..dim]);
                }
                totals[r] += total;
                tops[r] = top;
            }
            let p = View::lanes_by_k(scores.as_ptr(), TILE);
            // SAFETY: as above.
            unsafe { product(kernels, (count, tile.used), o_place, p, tile.values(), 1.0, index > 0) };
        }
        for (r, o) in o.chunks_exact_mut(dim).take(count).enumerate() {
            // SAFETY: this row's columns of this head belong to this task alone.
            unsafe {
                lanes::scaled(1.0 / totals[r], o, &mut out.row_mut(block.start + r)[head * dim..][..dim]);
                *log_sum.at(block.start + r, head) = tops[r] + totals[r].ln();
            }
        }
    });
}
