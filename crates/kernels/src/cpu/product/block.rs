//! One task of a product: some rows of the result in some of its panels.

use std::ops::Range;

use super::isa::{MOST_ROWS, PANEL};
use super::pack::Pack;
use super::panels::{Layout, Panel};
use super::tile::{Place, tile};
use super::{BLOCK_UNITS, Piece, Product};

/// A product with its right operands packed.
pub(super) struct Job<'a> {
    pub product: &'a Product<'a>,
    pub right: *const u32,
    pub layout: Layout<'a>,
    pub pieces: Vec<ReadyPiece<'a>>,
}

/// A piece with its right operand packed.
pub(super) struct ReadyPiece<'a> {
    pub piece: &'a Piece,
    pub units: usize,
    pub right: *const u32,
}

impl ReadyPiece<'_> {
    /// Its words of the panel `panel` of its part: all panels before one are whole.
    fn panel(&self, panel: Panel) -> *const u32 {
        self.right.wrapping_add(panel.within * PANEL * self.units)
    }
}

impl Job<'_> {
    /// Words of packed left rows, for each row of a block.
    pub fn left_units(&self) -> usize {
        self.layout.units.min(BLOCK_UNITS) + self.pieces.iter().map(|piece| piece.units).sum::<usize>()
    }
}

/// Computes the rows `rows` of the result in the panels `panels`.
///
/// # Safety
/// The processor has `I`; the job's operands lie within live buffers; the scratch reaches `left_units` words for each
/// row, rounded up to whole tiles; nothing else touches these rows of these panels.
#[inline(always)]
pub(super) unsafe fn block<I: Pack, const BF16: bool>(
    job: &Job<'_>,
    rows: Range<usize>,
    panels: Range<usize>,
    scratch: *mut u32,
) {
    let (p, total) = (job.product, job.layout.units);
    let step = if BF16 { 2 } else { 1 };
    let height = rows.len().next_multiple_of(I::ROWS);
    // SAFETY: the caller's promise.
    unsafe {
        let pieces_left = scratch.add(height * total.min(BLOCK_UNITS));
        let mut left = pieces_left;
        for ReadyPiece { piece, units, .. } in &job.pieces {
            I::left::<BF16>(piece.left, rows.start, rows.end, piece.k, piece.scale, left);
            left = left.add(height * units);
        }
        let mut done = 0;
        loop {
            let now = (total - done).min(BLOCK_UNITS);
            let k = (now * step).min(p.k - done * step);
            I::left::<BF16>(p.left.after(done * step), rows.start, rows.end, k, p.scale, scratch);
            let last = done + now == total;
            for index in panels.clone() {
                let panel = job.layout.panel(index);
                let right = job.right.add(panel.offset + done * panel.width);
                // What is added to the tile: the piece of this part, its packed rows and its panel.
                let mut added = None;
                let mut left = pieces_left.cast_const();
                for ready in job.pieces.iter().filter(|_| last) {
                    if ready.piece.part == panel.part {
                        added = Some((ready.units, left, ready.panel(panel)));
                    }
                    left = left.add(height * ready.units);
                }
                for row in rows.clone().step_by(I::ROWS) {
                    let tile_rows = (rows.end - row).min(I::ROWS);
                    let within = row - rows.start;
                    let to = p.to.after(row, panel.lane);
                    let from = if done > 0 { Some(to) } else { p.from.map(|from| from.after(row, panel.lane)) };
                    let mut edge = [0.0f32; MOST_ROWS * PANEL];
                    let whole = panel.lanes == panel.width;
                    let target = if whole { to } else { Place { at: edge.as_mut_ptr(), stride: PANEL } };
                    let begin = match from {
                        Some(from) if !whole => {
                            copy_lanes(from, target, tile_rows, panel.lanes);
                            Some(target)
                        }
                        from => from,
                    };
                    let left = scratch.cast_const().add(within * now);
                    tile::<I, BF16>(now, left, right, tile_rows, panel.width, begin, target);
                    if let Some((units, left, right)) = added {
                        let left = left.add(within * units);
                        tile::<I, BF16>(units, left, right, tile_rows, panel.width, Some(target), target);
                    }
                    if !whole {
                        copy_lanes(target, to, tile_rows, panel.lanes);
                    }
                }
            }
            done += now;
            if last {
                break;
            }
        }
    }
}

#[inline(always)]
unsafe fn copy_lanes(from: Place, to: Place, rows: usize, lanes: usize) {
    for row in 0..rows {
        // SAFETY: the caller's promise that both places reach rows x lanes, apart from each other.
        unsafe { std::ptr::copy_nonoverlapping(from.after(row, 0).at, to.after(row, 0).at, lanes) };
    }
}
