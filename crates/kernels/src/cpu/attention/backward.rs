//! The backward: probabilities again from the forward's log-sums, a block of query rows and a tile of keys at a time.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::tiles::{Pass, TILE, Tiles};
use super::{BLOCK, product, with_scratch};
use crate::cpu::lanes;
use crate::cpu::product::{self, Kernels, Operand, Place, Ready, View, Words};
use crate::cpu::rows::Rows;
use crate::operands::{Heads, Segment};

thread_local! {
    /// A worker's packed rows of q and of dout.
    static BLOCKS: RefCell<Words> = RefCell::default();
}

/// What the backward reads, and `dqkv`, which it adds to.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct Backward {
    pub kernels: Kernels,
    pub heads: Heads,
    pub qkv: Rows,
    pub out: Rows,
    pub log_sum: Rows,
    pub dout: Rows,
    pub dqkv: Rows,
}

pub(in crate::cpu) fn backward(b: Backward, segments: &[Segment]) {
    let kv_heads = b.heads.kv;
    Tiles::pack(b.kernels, b.qkv, segments, b.heads, Pass::Backward, |tiles| {
        // Without contexts every segment is a group of its own, and there is nothing to work out.
        if segments.iter().all(|s| s.context.is_empty()) {
            let tasks = (0..segments.len() * kv_heads).into_par_iter().with_max_len(1);
            tasks.for_each(|task| b.segment(tiles, &segments[task / kv_heads], task % kv_heads));
            return;
        }
        let groups = groups(segments, b.qkv.rows);
        (0..groups.len() * kv_heads).into_par_iter().with_max_len(1).for_each(|task| {
            for &segment in &groups[task / kv_heads] {
                b.segment(tiles, &segments[segment], task % kv_heads);
            }
        });
    });
}

impl Backward {
    fn segment(self, tiles: &Tiles, segment: &Segment, kv: usize) {
        let group = self.heads.query / self.heads.kv;
        for head in kv * group..(kv + 1) * group {
            for first in segment.rows.clone().step_by(BLOCK) {
                let block = first..segment.rows.end.min(first + BLOCK);
                self.head_of_block(tiles, segment, block, (head, kv));
            }
        }
    }

    /// One head of one block: sets the gradient of its queries and adds to those of the keys and values it sees.
    fn head_of_block(self, tiles: &Tiles, segment: &Segment, block: Range<usize>, (head, kv): (usize, usize)) {
        let Self { kernels, heads, qkv, out, log_sum, dout, dqkv } = self;
        let (dim, count, scale) = (heads.dim, block.len(), heads.scale);
        let key_column = heads.query_width() + kv * dim;
        let own = head * dim..(head + 1) * dim;
        let mut inners = [0.0f32; BLOCK];
        for (inner, row) in inners.iter_mut().zip(block.clone()) {
            // SAFETY: both are only read.
            *inner = unsafe { lanes::dot(&out.row(row)[own.clone()], &dout.row(row)[own.clone()]) };
        }
        let (q, d_o) = (qkv.at(block.start, own.start), dout.at(block.start, own.start));
        let packed = kernels.packed_words(dim, count);
        product::with_scratch(&BLOCKS, 2 * packed, |words| {
            let [q_rows, d_o_rows] = [(q, qkv.stride, 0), (d_o, dout.stride, packed)].map(|(from, stride, at)| {
                let words = words.wrapping_add(at);
                // SAFETY: the words are this worker's; what is packed is only read.
                unsafe { kernels.pack(View::k_by_lanes(from, stride), dim, count, words) };
                Operand::Ready(Ready { words, lanes: dim, k: count, used: dim })
            });
            with_scratch(2 * BLOCK * TILE, |scratch| {
                let (scores, dscores) = scratch.split_at_mut(BLOCK * TILE);
                for (index, tile) in tiles.seen(segment, block.clone(), kv).enumerate() {
                    let [s, ds] = [&mut *scores, &mut *dscores].map(|at| Place { at: at.as_mut_ptr(), stride: TILE });
                    let (by_row, shape) = (View::lanes_by_k, (count, dim));
                    // SAFETY: the scratch is this worker's; the rest is only read.
                    unsafe {
                        product(kernels, shape, s, by_row(q, qkv.stride), tile.keys_as_lanes(), scale, false);
                        product(kernels, shape, ds, by_row(d_o, dout.stride), tile.values_as_lanes(), 1.0, false);
                    }
                    let rows = scores.chunks_exact_mut(TILE).zip(dscores.chunks_exact_mut(TILE)).take(count);
                    for (r, (p_row, d_row)) in rows.enumerate() {
                        let live = tile.live(r);
                        for row in [&mut *p_row, &mut *d_row] {
                            row[..live.start].fill(0.0);
                            row[live.end..tile.used].fill(0.0);
                        }
                        // SAFETY: only read.
                        let log_sum = unsafe { *log_sum.at(block.start + r, head) };
                        lanes::attention_gradient(
                            &mut p_row[live.clone()],
                            &mut d_row[live],
                            log_sum,
                            inners[r],
                            scale,
                        );
                    }
                    let (p_cols, ds_cols) = (View::k_by_lanes(s.at, TILE), View::k_by_lanes(ds.at, TILE));
                    let place = |row, column| Place { at: dqkv.at(row, column), stride: dqkv.stride };
                    let (dq, dk) = (place(block.start, own.start), place(tile.rows.start, key_column));
                    let dv = place(tile.rows.start, key_column + heads.kv_width());
                    // SAFETY: the q columns of this head's rows and the key and value columns of the group's rows
                    // belong to this task alone; the rest is this worker's, or only read.
                    unsafe {
                        product(kernels, (count, tile.used), dq, by_row(ds.at, TILE), tile.keys(), 1.0, index > 0);
                        product(kernels, (tile.used, count), dk, ds_cols, q_rows, 1.0, true);
                        product(kernels, (tile.used, count), dv, p_cols, d_o_rows, 1.0, true);
                    }
                }
            });
        });
    }
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
