//! One task of a product: some rows of the result in some of its panels.

use std::ops::Range;

use super::isa::PANEL;
use super::pack::{Pack, View};
use super::panels::{Layout, Panel};
use super::quantised::Quantised;
use super::tile::{CHAIN_UNITS, Left, Place, Right, tile};
use super::{BLOCK_UNITS, FEW_ROWS, Piece, Product};

/// A product, and where its operands are read.
pub(super) struct Job<'a> {
    pub product: &'a Product<'a>,
    /// Units of the product's k; at most those of the layout.
    pub units: usize,
    pub right: Lanes<'a>,
    pub layout: Layout<'a>,
    pub pieces: Vec<ReadyPiece<'a>>,
    /// Whether tiles read the left operand as it is rather than packed.
    pub left_as_it_is: bool,
    /// All left rows, packed by [`pack_left`]; where there are none each task packs its own.
    pub left: Option<*const u32>,
}

/// Where the lanes of a right operand lie.
#[derive(Clone, Copy)]
pub(super) enum Lanes<'a> {
    /// In panels.
    Packed(*const u32),
    /// In the matrix: each task packs its panels.
    Plain(View),
    /// In panels, quantised: decoded as they are multiplied, or a chain at a time before.
    Quantised(&'a Quantised),
}

/// A piece with its right operand packed.
pub(super) struct ReadyPiece<'a> {
    pub piece: &'a Piece,
    pub units: usize,
    pub right: *const u32,
}

/// What is added to a tile when the product is whole: some units of a piece.
#[derive(Clone, Copy)]
struct Added {
    units: usize,
    left: *const u32,
    right: Right,
}

impl Job<'_> {
    /// Words of scratch for a block of so many rows, a multiple of the tile's.
    pub fn scratch(&self, height: usize) -> usize {
        let pieces: usize = self.pieces.iter().map(|piece| piece.units).sum();
        height * (PANEL + self.left_words() + pieces) + self.right_words()
    }

    /// Units of one pass over the panels: as many as keep the left block in the second-level cache; a chain's where the
    /// task packs panels for few rows, so that they stay in the first.
    fn step(&self) -> usize {
        let few = matches!(self.right, Lanes::Plain(_)) && self.product.m <= FEW_ROWS;
        if few { CHAIN_UNITS } else { BLOCK_UNITS }
    }

    /// Whether tasks that have all rows can share those packed once: all k in one step.
    pub fn shares_left(&self) -> bool {
        !self.left_as_it_is && self.units <= self.step()
    }

    /// Words of left rows that the task packs, for each row.
    fn left_words(&self) -> usize {
        if self.left_as_it_is || self.left.is_some() { 0 } else { self.units.min(self.step()) }
    }

    /// Words of a panel that the task packs or decodes itself.
    fn right_words(&self) -> usize {
        match self.right {
            Lanes::Packed(_) => 0,
            Lanes::Quantised(_) if self.left_as_it_is => 0,
            Lanes::Quantised(_) => PANEL * CHAIN_UNITS,
            Lanes::Plain(_) => PANEL * self.units.min(self.step()),
        }
    }

    /// The piece of the panel's part. `left`: the packed rows of all pieces, `height` words for each unit.
    fn added(&self, panel: Panel, mut left: *const u32, height: usize) -> Option<Added> {
        for ReadyPiece { piece, units, right } in &self.pieces {
            if piece.part == panel.part {
                // All panels before one are whole.
                let right = Right { at: right.wrapping_add(panel.within * PANEL * units), unit: panel.width };
                return Some(Added { units: *units, left, right });
            }
            left = left.wrapping_add(height * units);
        }
        None
    }
}

/// Packs all left rows and all k of a product.
///
/// # Safety
/// The processor has `I`; the operand lies within a live buffer; `to` reaches the units of all rows, rounded up to whole
/// tiles.
#[inline(always)]
pub(super) unsafe fn pack_left<I: Pack, const BF16: bool>(product: &Product<'_>, to: *mut u32) {
    // SAFETY: the caller's promise.
    unsafe { I::left::<BF16>(product.left, 0, product.m, product.k, product.scale, to) };
}

/// Computes the rows `rows` of the result in the panels `panels`. A panel of the result is made beside it, chain by
/// chain: what the tiles of a chain read of the right operand stays in the first-level cache.
///
/// # Safety
/// The processor has `I`; the job's operands lie within live buffers; the scratch reaches `Job::scratch` for the rows,
/// rounded up to whole tiles; nothing else touches these rows of these panels.
#[inline(always)]
pub(super) unsafe fn block<I: Pack, const BF16: bool>(
    job: &Job<'_>,
    rows: Range<usize>,
    panels: Range<usize>,
    scratch: *mut u32,
) {
    let p = job.product;
    let of_k = if BF16 { 2 } else { 1 };
    let height = rows.len().next_multiple_of(I::ROWS);
    // SAFETY: the caller's promise.
    unsafe {
        let sums = Place { at: scratch.cast(), stride: PANEL };
        let right_scratch = scratch.add(height * PANEL);
        let left_scratch = right_scratch.add(job.right_words());
        let pieces_scratch = left_scratch.add(height * job.left_words());
        let mut to = pieces_scratch;
        for ReadyPiece { piece, units, .. } in &job.pieces {
            I::left::<BF16>(piece.left, rows.start, rows.end, piece.k, piece.scale, to);
            to = to.add(height * units);
        }
        for now in steps(0..job.units, job.step()) {
            let (first_k, k) = (now.start * of_k, (now.len() * of_k).min(p.k - now.start * of_k));
            if !job.left_as_it_is && job.left.is_none() {
                I::left::<BF16>(p.left.after(first_k), rows.start, rows.end, k, p.scale, left_scratch);
            }
            for index in panels.clone() {
                let panel = job.layout.panel(index);
                let right = match job.right {
                    Lanes::Packed(words) => words.add(panel.offset + now.start * panel.width),
                    Lanes::Plain(view) => {
                        let view = view.after(first_k);
                        I::right::<BF16>(view, panel.lane, panel.lanes, k, right_scratch, panel.width);
                        right_scratch
                    }
                    Lanes::Quantised(_) => right_scratch,
                };
                let to = p.to.after(rows.start, panel.lane);
                let begin =
                    if now.start == 0 { p.from.map(|from| from.after(rows.start, panel.lane)) } else { Some(to) };
                if let Some(begin) = begin {
                    copy_lanes(begin, sums, rows.len(), panel.lanes);
                }
                let mut from = begin.map(|_| sums);
                let left = job.left.unwrap_or(left_scratch.cast_const());
                for chain in steps(now.clone(), CHAIN_UNITS) {
                    let right = match job.right {
                        Lanes::Quantised(quantised) => {
                            if !job.left_as_it_is {
                                quantised.decode::<I>(panel, chain.clone(), right_scratch);
                            }
                            right_scratch
                        }
                        _ => right.add((chain.start - now.start) * panel.width),
                    };
                    let right = Right { at: right, unit: panel.width };
                    for row in (0..rows.len()).step_by(I::ROWS) {
                        let (count, units) = ((rows.len() - row).min(I::ROWS), chain.len());
                        let (from, to) = (from.map(|from| from.after(row, 0)), sums.after(row, 0));
                        let as_it_is = p.left.rows_from(rows.start + row, chain.start * of_k);
                        if let (Lanes::Quantised(quantised), true) = (job.right, job.left_as_it_is) {
                            quantised.few::<I>(as_it_is, count, panel, chain.clone(), from, to);
                        } else if job.left_as_it_is {
                            tile::<I, BF16, false>(units, as_it_is, right, count, panel.width, from, to);
                        } else {
                            let packed = left.wrapping_add(row * now.len() + (chain.start - now.start) * I::ROWS);
                            let left = Left::packed(packed, I::ROWS);
                            tile::<I, BF16, true>(units, left, right, count, panel.width, from, to);
                        }
                    }
                    from = Some(sums);
                }
                if let Some(added) = job.added(panel, pieces_scratch, height).filter(|_| now.end == job.units) {
                    for row in (0..rows.len()).step_by(I::ROWS) {
                        let (count, to) = ((rows.len() - row).min(I::ROWS), sums.after(row, 0));
                        let left = Left::packed(added.left.add(row * added.units), I::ROWS);
                        tile::<I, BF16, true>(added.units, left, added.right, count, panel.width, Some(to), to);
                    }
                }
                copy_lanes(sums, to, rows.len(), panel.lanes);
            }
        }
    }
}

/// A range in steps of `most`; one step where it is empty, since a result over no k is written, too.
fn steps(range: Range<usize>, most: usize) -> impl Iterator<Item = Range<usize>> {
    let count = range.len().div_ceil(most).max(1);
    (0..count).map(move |i| range.start + i * most..range.end.min(range.start + (i + 1) * most))
}

#[inline(always)]
unsafe fn copy_lanes(from: Place, to: Place, rows: usize, lanes: usize) {
    for row in 0..rows {
        // SAFETY: the caller's promise that both places reach rows x lanes, apart from each other.
        unsafe { std::ptr::copy_nonoverlapping(from.after(row, 0).at, to.after(row, 0).at, lanes) };
    }
}
