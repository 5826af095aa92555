//! One task of a product: some rows of the result in some of its panels.

use std::ops::Range;

use super::isa::{GROUP, PANEL};
use super::pack::{Pack, View};
use super::panels::{Layout, Panel};
use super::quantised::Quantised;
use super::tile::{Ahead, CHAIN_UNITS, Left, Place, Right, Tile};
use super::{BLOCK_UNITS, FEW_ROWS, Inner, Piece, Product};

/// With so many tiles a chain's reads are worth asking for ahead.
const TILES_THAT_ASK: usize = 4;
/// Units of k that are packed together where rows or lanes lie side by side in the matrix.
const TOGETHER: usize = 16;
/// Panels that are packed together for few rows: 3 KiB of a row of the matrix, and a chain of them in the second-level cache.
const SWEEP: usize = 16;

/// A product, and where its operands are read.
pub(super) struct Job<'a> {
    pub product: &'a Product<'a>,
    /// Units of the product's k; at most those of the layout.
    pub units: usize,
    pub right: Lanes<'a>,
    pub layout: Layout<'a>,
    pub pieces: Vec<ReadyPiece<'a>>,
    pub inners: Vec<ReadyInner<'a>>,
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

/// Rows that each task makes of its left rows before pieces read them, the right operand packed.
pub(super) struct ReadyInner<'a> {
    pub inner: &'a Inner,
    /// Units of the product's k that it spans.
    pub units: Range<usize>,
    pub right: *const u32,
}

impl ReadyInner<'_> {
    /// Adds up what units `now` of the packed left rows give.
    ///
    /// # Safety
    /// As for [`block`]; `left` holds these units of the rows; the scratch reaches a panel of them.
    #[inline(always)]
    unsafe fn rows<I: Pack, const BF16: bool>(
        &self,
        rows: Range<usize>,
        now: &Range<usize>,
        left: *const u32,
        scratch: Place,
    ) {
        let span = now.start.max(self.units.start)..now.end.min(self.units.end);
        if span.is_empty() {
            return;
        }
        let layout = Layout { ends: std::slice::from_ref(&self.inner.lanes), units: self.units.len() };
        for panel in (0..layout.count()).map(|index| layout.panel(index)) {
            let words = panel.offset + (span.start - self.units.start) * panel.width;
            let right = Right { at: self.right.wrapping_add(words), unit: panel.width };
            let (place, goes_on) = (self.inner.to.after(rows.start, panel.lane), span.start > self.units.start);
            let padded = panel.lanes < panel.width;
            // SAFETY: the caller's promise; where a panel is padded its sums lie in the scratch.
            unsafe {
                if padded && goes_on {
                    copy_lanes(place, scratch, rows.len(), panel.lanes);
                }
                let to = if padded { scratch } else { place };
                let (ahead, width) = (Ahead { at: right.at, unit: 0 }, panel.width);
                let height = Tile::most_rows::<I>(width);
                for row in (0..rows.len()).step_by(height) {
                    let left = Left::packed(left, I::ROWS, now.len()).panel_of(row, span.start - now.start);
                    let (units, rows, to) = (span.len(), (rows.len() - row).min(height), to.after(row, 0));
                    let from = goes_on.then_some(to);
                    Tile { units, left, right, ahead, rows, width, from, to }.compute::<I, BF16, true>();
                }
                if padded {
                    copy_lanes(scratch, place, rows.len(), panel.lanes);
                }
            }
        }
    }
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

/// What a task reads of the right operand after a chain; the chain's tiles ask for it while they compute, each for a part.
struct Next {
    at: *const u32,
    unit: usize,
    /// Words from the part of one tile to that of the next.
    part: usize,
}

impl Next {
    /// After a chain comes the panel's next one, and after its last the next panel.
    fn after(
        job: &Job<'_>,
        panel: Panel,
        now: &Range<usize>,
        chain: &Range<usize>,
        right: Right,
        tiles: usize,
    ) -> Self {
        let own = right.at.wrapping_add(chain.len() * right.unit);
        if !matches!(job.right, Lanes::Packed(_)) || tiles < TILES_THAT_ASK {
            return Self { at: right.at, unit: 0, part: 0 };
        }
        let skipped = if chain.end == now.end { (job.layout.units - now.len()) * PANEL } else { 0 };
        let unit = panel.width.div_ceil(tiles);
        Self { at: own.wrapping_add(skipped), unit, part: unit * chain.len() }
    }

    fn of(&self, tile: usize) -> Ahead {
        Ahead { at: self.at.wrapping_add(tile * self.part), unit: self.unit }
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
        if self.packs_for_few() { CHAIN_UNITS } else { BLOCK_UNITS }
    }

    fn packs_for_few(&self) -> bool {
        matches!(self.right, Lanes::Plain(_)) && self.product.m <= FEW_ROWS
    }

    /// Panels that the task packs together: where few rows use them, and their lanes lie side by side in the matrix, so many that
    /// rows of it are read in long runs.
    pub fn together(&self) -> usize {
        match self.right {
            Lanes::Plain(view) if self.packs_for_few() && !view.runs_of_k() => SWEEP,
            _ => 1,
        }
    }

    /// Whether tasks that have all rows can share those packed once: all k in one step.
    pub fn shares_left(&self) -> bool {
        !self.left_as_it_is && self.units <= self.step()
    }

    /// Units of k that the tiles of a panel take before the next tile: a chain's, so that what all read of the right operand stays
    /// in the first-level cache; all where few lanes leave the left rows to be the most that is read, each then in one go.
    fn units_of_pass(&self, panel: Panel) -> usize {
        let rows_first = self.left_as_it_is && self.layout.lanes() <= GROUP && panel.lanes == panel.width;
        if rows_first && !matches!(self.right, Lanes::Quantised(_)) { self.step() } else { CHAIN_UNITS }
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
            Lanes::Plain(_) => self.together() * PANEL * self.units.min(self.step()),
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
    unsafe { pack_rows::<I, BF16>(product.left, 0..product.m, product.k, product.scale, to) };
}

/// Packs rows of a left operand. Where they lie side by side in the matrix, units are taken some at a time, for all rows, so that
/// it is read in long runs.
#[inline(always)]
unsafe fn pack_rows<I: Pack, const BF16: bool>(view: View, rows: Range<usize>, k: usize, scale: f32, to: *mut u32) {
    let of_k = if BF16 { 2 } else { 1 };
    let apart = k.div_ceil(of_k) * I::ROWS;
    let step = if view.runs_of_k() { k.max(1) } else { TOGETHER * of_k };
    for first in (0..k).step_by(step) {
        // SAFETY: the caller's promise.
        unsafe {
            let to = to.add(first / of_k * I::ROWS);
            I::left::<BF16>(view.after(first), rows.start, rows.end, step.min(k - first), scale, to, apart);
        }
    }
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
        for now in steps(0..job.units, job.step()) {
            let (first_k, k) = (now.start * of_k, (now.len() * of_k).min(p.k - now.start * of_k));
            if !job.left_as_it_is && job.left.is_none() {
                pack_rows::<I, BF16>(p.left.after(first_k), rows.clone(), k, p.scale, left_scratch);
            }
            for inner in &job.inners {
                inner.rows::<I, BF16>(rows.clone(), &now, left_scratch, sums);
            }
            if now.end == job.units {
                let mut to = pieces_scratch;
                for ReadyPiece { piece, units, .. } in &job.pieces {
                    pack_rows::<I, BF16>(piece.left, rows.clone(), piece.k, piece.scale, to);
                    to = to.add(height * units);
                }
            }
            for index in panels.clone() {
                let panel = job.layout.panel(index);
                let right = match job.right {
                    Lanes::Packed(words) => {
                        Right { at: words.add(panel.offset + now.start * panel.width), unit: panel.width }
                    }
                    Lanes::Plain(view) => {
                        let place = (index - panels.start) % job.together();
                        if place == 0 {
                            let end = panels.end.min(index + job.together());
                            pack_panels::<I, BF16>(view.after(first_k), job.layout, index..end, k, right_scratch);
                        }
                        Right { at: right_scratch.add(place * PANEL * now.len()), unit: panel.width }
                    }
                    Lanes::Quantised(_) => Right { at: right_scratch, unit: panel.width },
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
                let chains = steps(now.clone(), job.units_of_pass(panel));
                for chain in chains.map(Some).chain(added.map(|_| None)) {
                    let pass = match (&chain, added) {
                        (Some(chain), _) => {
                            let right = match job.right {
                                Lanes::Quantised(quantised) => {
                                    if !BF16 && !job.left_as_it_is {
                                        quantised.decode::<I>(panel, chain.clone(), right_scratch);
                                    }
                                    right
                                }
                                _ => Right { at: right.at.add((chain.start - now.start) * right.unit), ..right },
                            };
                            let left = left.wrapping_add((chain.start - now.start) * I::ROWS);
                            Pass { units: chain.len(), left, left_units: now.len(), right }
                        }
                        (None, Some(added)) => added,
                        (None, None) => break,
                    };
                    let ends = chain.as_ref().is_none_or(|chain| chain.end == now.end && added.is_none());
                    let to = if ends { end } else { sums };
                    let height = Tile::most_rows::<I>(panel.width);
                    let tiles = rows.len().div_ceil(height);
                    let next = match &chain {
                        Some(chain) => Next::after(job, panel, &now, chain, pass.right, tiles),
                        None => Next { at: pass.right.at, unit: 0, part: 0 },
                    };
                    for (index, row) in (0..rows.len()).step_by(height).enumerate() {
                        let left = Left::packed(pass.left, I::ROWS, pass.left_units).panel_of(row, 0);
                        let tile = Tile {
                            units: pass.units,
                            left,
                            right: pass.right,
                            ahead: next.of(index),
                            rows: (rows.len() - row).min(height),
                            width: panel.width,
                            from: from.map(|from| from.after(row, 0)),
                            to: to.after(row, 0),
                        };
                        match &chain {
                            // In f32 alone: words of bf16 are made by packing.
                            Some(chain) if !BF16 && job.left_as_it_is => {
                                let left = p.left.rows_from(rows.start + row, chain.start * of_k);
                                if let Lanes::Quantised(quantised) = job.right {
                                    quantised.few::<I>(left, tile.rows, panel, chain.clone(), tile.from, tile.to);
                                } else {
                                    Tile { left, ..tile }.compute::<I, BF16, false>();
                                }
                            }
                            _ => tile.compute::<I, BF16, true>(),
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

/// Packs some panels of a plain right operand, one after the other. Units are taken some at a time, for all panels, so that rows of
/// a matrix whose lanes lie side by side are read in order.
#[inline(always)]
unsafe fn pack_panels<I: Pack, const BF16: bool>(
    view: View,
    layout: Layout<'_>,
    panels: Range<usize>,
    k: usize,
    to: *mut u32,
) {
    let of_k = if BF16 { 2 } else { 1 };
    let units = k.div_ceil(of_k);
    let step = if panels.len() > 1 { TOGETHER } else { units.max(1) };
    for first in (0..units).step_by(step) {
        let (first_k, end_k) = (first * of_k, k.min((first + step) * of_k));
        for (place, panel) in panels.clone().map(|index| layout.panel(index)).enumerate() {
            // SAFETY: the caller's promise; all panels before the last are whole.
            unsafe {
                let to = to.add(place * PANEL * units + first * panel.width);
                I::right::<BF16>(view.after(first_k), panel.lane, panel.lanes, end_k - first_k, 1.0, to, panel.width);
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
