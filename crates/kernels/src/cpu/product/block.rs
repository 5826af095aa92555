//! One task of a product: some rows of the result in some of its panels.

use std::ops::Range;

use super::isa::{Isa, PANEL};
use super::pack::{Pack, View};
use super::panels::{Layout, Panel};
use super::quantised::Quantised;
use super::tile::{CHAIN_UNITS, Left, Place, Right, tile};
use super::{BLOCK_UNITS, FEW_ROWS, Piece, Product};

/// Words of a cache line.
const LINE: usize = 16;
/// With so many tiles a chain's reads are worth asking for ahead.
const TILES_THAT_ASK: usize = 4;

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

/// Some units of k that are added to the tiles of a panel: a chain of the product's, or a piece.
#[derive(Clone, Copy)]
struct Pass {
    units: usize,
    /// Packed rows, `left_units` words of each one after the other.
    left: *const u32,
    left_units: usize,
    right: Right,
}

/// What is read of a packed right operand after a chain, asked for a part with each of the chain's tiles.
struct Ahead {
    next: *const u32,
    lines: usize,
}

impl Ahead {
    /// After a chain comes the panel's next one, and after its last the next panel; nothing is asked for where few tiles
    /// would have to ask for all of it.
    fn of(
        job: &Job<'_>,
        panel: Panel,
        now: &Range<usize>,
        chain: Option<&Range<usize>>,
        right: *const u32,
        tiles: usize,
    ) -> Self {
        let (Some(chain), Lanes::Packed(_), true) = (chain, job.right, tiles >= TILES_THAT_ASK) else {
            return Self { next: right, lines: 0 };
        };
        let skipped = if chain.end == now.end { (job.layout.units - now.len()) * PANEL } else { 0 };
        let words = chain.len() * panel.width;
        Self { next: right.wrapping_add(words + skipped), lines: words.div_ceil(LINE * tiles) }
    }

    #[inline(always)]
    fn ask<I: Isa>(&self, tile: usize) {
        for line in tile * self.lines..(tile + 1) * self.lines {
            I::prefetch(self.next.wrapping_add(line * LINE));
        }
    }
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
    fn added(&self, panel: Panel, mut left: *const u32, height: usize) -> Option<Pass> {
        for ReadyPiece { piece, units, right } in &self.pieces {
            if piece.part == panel.part {
                // All panels before one are whole.
                let right = Right { at: right.wrapping_add(panel.within * PANEL * units), unit: panel.width };
                return Some(Pass { units: *units, left, left_units: *units, right });
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

/// Computes the rows `rows` of the result in the panels `panels`, a panel chain by chain: what the tiles of a chain read
/// of the right operand stays in the first-level cache. Sums lie beside the result until the last chain writes it.
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
                let added = job.added(panel, pieces_scratch, height).filter(|_| now.end == job.units);
                // Where a panel is padded, tiles cannot read or write the matrices themselves.
                let padded = panel.lanes < panel.width;
                if let (Some(begin), true) = (begin, padded) {
                    copy_lanes(begin, sums, rows.len(), panel.lanes);
                }
                let end = if padded { sums } else { to };
                let mut from = if padded { begin.map(|_| sums) } else { begin };
                let left = job.left.unwrap_or(left_scratch.cast_const());
                // Chain after chain, then the piece.
                for chain in steps(now.clone(), CHAIN_UNITS).map(Some).chain(added.map(|_| None)) {
                    let pass = match (&chain, added) {
                        (Some(chain), _) => {
                            let right = match job.right {
                                Lanes::Quantised(quantised) => {
                                    if !BF16 && !job.left_as_it_is {
                                        quantised.decode::<I>(panel, chain.clone(), right_scratch);
                                    }
                                    right_scratch
                                }
                                _ => right.add((chain.start - now.start) * panel.width),
                            };
                            let left = left.wrapping_add((chain.start - now.start) * I::ROWS);
                            let right = Right { at: right, unit: panel.width };
                            Pass { units: chain.len(), left, left_units: now.len(), right }
                        }
                        (None, Some(added)) => added,
                        (None, None) => break,
                    };
                    let ends = chain.as_ref().is_none_or(|chain| chain.end == now.end && added.is_none());
                    let to = if ends { end } else { sums };
                    let ahead =
                        Ahead::of(job, panel, &now, chain.as_ref(), pass.right.at, rows.len().div_ceil(I::ROWS));
                    for (index, row) in (0..rows.len()).step_by(I::ROWS).enumerate() {
                        ahead.ask::<I>(index);
                        let count = (rows.len() - row).min(I::ROWS);
                        let (from, to) = (from.map(|from| from.after(row, 0)), to.after(row, 0));
                        match (&chain, job.right) {
                            // In f32 alone: words of bf16 are made by packing.
                            (Some(chain), right) if !BF16 && job.left_as_it_is => {
                                let left = p.left.rows_from(rows.start + row, chain.start * of_k);
                                if let Lanes::Quantised(quantised) = right {
                                    quantised.few::<I>(left, count, panel, chain.clone(), from, to);
                                } else {
                                    tile::<I, BF16, false>(pass.units, left, pass.right, count, panel.width, from, to);
                                }
                            }
                            _ => {
                                let left = Left::packed(pass.left.wrapping_add(row * pass.left_units), I::ROWS);
                                tile::<I, BF16, true>(pass.units, left, pass.right, count, panel.width, from, to);
                            }
                        }
                    }
                    from = Some(sums);
                }
                if padded {
                    copy_lanes(sums, to, rows.len(), panel.lanes);
                }
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
