//! One task of a product: some rows of the result in some of its panels.

use std::ops::Range;

use super::isa::{GROUP, Isa, PANEL};
use super::pack::{Lot, Pack, TOGETHER, View, units};
use super::panels::{Layout, Panel};
use super::quantised::Quantised;
use super::tile::{Ahead, CHAIN_UNITS, Left, Place, Right, Then, Tile};
use super::{BLOCK_UNITS, FEW_ROWS, Inner, Piece, Product};

/// With so many tiles a chain's reads are worth asking for ahead.
const TILES_THAT_ASK: usize = 4;
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
    /// Left panels have whole multiples of so many units.
    pub left_units: usize,
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
    /// The columns of a quantised weight whose rows lie in such panels: decoded a chain at a time.
    QuantisedColumns(&'a Quantised, Layout<'a>),
}

impl Lanes<'_> {
    /// Whether they are to be decoded.
    pub fn are_quantised(self) -> bool {
        matches!(self, Self::Quantised(_) | Self::QuantisedColumns(..))
    }
}

/// A piece with its right operand packed, of whole left units.
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
    /// Adds up what the step's units give, from its packed left rows.
    ///
    /// # Safety
    /// As for [`block`].
    #[inline(always)]
    unsafe fn add<I: Pack, const BF16: bool>(&self, step: &Step<'_>) {
        let (rows, now, sums) = (&step.rows, &step.now, step.scratch.sums);
        let span = now.start.max(self.units.start)..now.end.min(self.units.end);
        if span.is_empty() {
            return;
        }
        let layout = Layout { ends: std::slice::from_ref(&self.inner.lanes), units: self.units.len() };
        let left = left_of::<I>(step.scratch.left, now.len()).panel_of(0, span.start - now.start);
        for panel in (0..layout.count()).map(|index| layout.panel(index)) {
            let words = panel.offset + (span.start - self.units.start) * panel.width;
            let right = Right { at: self.right.wrapping_add(words), unit: panel.width };
            let (place, goes_on) = (self.inner.to.after(rows.start, panel.lane), span.start > self.units.start);
            let padded = panel.lanes < panel.width;
            let to = if padded { sums } else { place };
            // SAFETY: the caller's promise; where a panel is padded its sums lie in the scratch.
            unsafe {
                if padded && goes_on {
                    copy_lanes(place, sums, rows.len(), panel.lanes);
                }
                let (width, from) = (panel.width, goes_on.then_some(to));
                let pass = Pass { units: span.len(), left, right, width, from, to, then: None };
                pass.run::<I, BF16>(rows.len(), &Next::nothing(right));
                if padded {
                    copy_lanes(sums, place, rows.len(), panel.lanes);
                }
            }
        }
    }
}

/// Some units of k that are added to a panel: a chain of the product's, a piece, an inner product.
#[derive(Clone, Copy)]
struct Pass {
    units: usize,
    /// Packed.
    left: Left,
    right: Right,
    width: usize,
    from: Option<Place>,
    to: Place,
    then: Option<Then>,
}

impl Pass {
    /// The tile that begins at this row of so many.
    #[inline(always)]
    fn tile<I: Isa>(&self, rows: usize, row: usize, ahead: Ahead) -> Tile {
        let Self { units, left, right, width, from, to, then } = *self;
        let left_over = rows - row;
        let rows = left_over.min(Tile::most_rows::<I>(width));
        let (from, to) = (from.map(|from| from.after(row, 0)), to.after(row, 0));
        let then = then.map(|then| Then { left: then.left.panel_of(row, 0), ..then });
        let next = if rows < left_over { to.after(rows, 0) } else { self.to.after(0, width) };
        Tile { units, left: left.panel_of(row, 0), right, ahead, rows, width, from, to, then, next }
    }

    /// Computes the tiles of so many rows.
    ///
    /// # Safety
    /// As for [`Tile::compute`].
    #[inline(always)]
    unsafe fn run<I: Isa, const BF16: bool>(&self, rows: usize, next: &Next) {
        for (index, row) in (0..rows).step_by(Tile::most_rows::<I>(self.width)).enumerate() {
            // SAFETY: the caller's promise.
            unsafe { self.tile::<I>(rows, row, next.of(index)).compute::<I, BF16, true>() };
        }
    }
}

/// What a task reads of the right operand after a chain; the chain's tiles ask for it while they compute, each for a part.
struct Next {
    at: *const u32,
    unit: usize,
    /// Words from the part of one tile to that of the next.
    part: usize,
}

impl Next {
    /// Asks for what is there already.
    fn nothing(right: Right) -> Self {
        Self { at: right.at, unit: 0, part: 0 }
    }

    /// After a chain comes the panel's next one, and after its last the next panel.
    fn after(step: &Step<'_>, panel: Panel, chain: &Range<usize>, right: Right, tiles: usize) -> Self {
        let (job, now) = (step.job, &step.now);
        if !matches!(job.right, Lanes::Packed(_)) || tiles < TILES_THAT_ASK {
            return Self::nothing(right);
        }
        let skipped = if chain.end == now.end { (job.layout.units - now.len()) * PANEL } else { 0 };
        let unit = panel.width.div_ceil(tiles);
        Self { at: right.at.wrapping_add(chain.len() * right.unit + skipped), unit, part: unit * chain.len() }
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
    fn units_of_pass<I: Isa>(&self, panel: Panel) -> usize {
        let rows_first = self.left_as_it_is && self.layout.lanes() <= GROUP && panel.lanes == panel.width;
        if rows_first && !self.right.are_quantised() { self.step() } else { I::PASS_UNITS }
    }

    /// Words of left rows that the task packs, for each row.
    fn left_words(&self) -> usize {
        let own = !self.left_as_it_is && self.left.is_none();
        if own { self.units.min(self.step()).next_multiple_of(self.left_units) } else { 0 }
    }

    /// Words of a panel that the task packs or decodes itself.
    fn right_words(&self) -> usize {
        match self.right {
            Lanes::Packed(_) => 0,
            Lanes::Quantised(_) if self.left_as_it_is => 0,
            Lanes::Quantised(_) | Lanes::QuantisedColumns(..) => PANEL * CHAIN_UNITS,
            Lanes::Plain(_) => self.together() * apart(self.units.min(self.step())),
        }
    }

    /// The piece of the panel's part: its packed rows, of which those of all pieces lie one after the other in `left`, `height`
    /// words for each unit, and its right operand.
    fn piece_of<I: Isa>(&self, panel: Panel, mut left: *const u32, height: usize) -> Option<Then> {
        for ReadyPiece { piece, units, right } in &self.pieces {
            if piece.part == panel.part {
                // All panels before one are whole.
                let right = Right { at: right.wrapping_add(panel.within * PANEL * units), unit: panel.width };
                return Some(Then { units: *units, left: left_of::<I>(left, *units), right });
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
    unsafe { pack_rows::<I, BF16>(rows_of(product, 0..product.m, 0..product.k), to) };
}

/// Some rows and k of the left operand.
fn rows_of(product: &Product<'_>, rows: Range<usize>, k: Range<usize>) -> Lot {
    let Product { left: view, scale, .. } = *product;
    Lot { view, first: rows.start, lanes: rows.len(), k: product.k, scale }.of_k(k)
}

/// Left rows that were packed, of so many units.
#[inline(always)]
fn left_of<I: Isa>(at: *const u32, units: usize) -> Left {
    Left::packed(at, I::ROWS, units.next_multiple_of(I::LEFT_UNITS))
}

/// Packs rows of a left operand. Where they lie side by side in the matrix, units are taken some at a time, for all rows, so that
/// it is read in long runs.
#[inline(always)]
unsafe fn pack_rows<I: Pack, const BF16: bool>(rows: Lot, to: *mut u32) {
    let all = units(BF16, rows.k);
    let apart = all.next_multiple_of(I::LEFT_UNITS) * I::ROWS;
    let step = if rows.view.runs_of_k() { all.max(1) } else { TOGETHER };
    for first in (0..all).step_by(step) {
        // SAFETY: the caller's promise.
        unsafe { I::left::<BF16>(rows.of_units::<BF16>(first, step), to.add(first * I::ROWS), apart) };
    }
}

/// Words from one panel of so many units that a task packs to the next: a unit more than it has, so that the panels' words of one
/// unit do not push each other out of the first-level cache.
fn apart(units: usize) -> usize {
    PANEL * (units + 1)
}

/// Packs some panels of a plain right operand, [`apart`].
#[inline(always)]
unsafe fn pack_panels<I: Pack, const BF16: bool>(
    view: View,
    layout: Layout<'_>,
    panels: Range<usize>,
    k: usize,
    to: *mut u32,
) {
    let (first, last) = (layout.panel(panels.start), layout.panel(panels.end - 1));
    let lanes = Lot { view, first: first.lane, lanes: last.lane + last.lanes - first.lane, k, scale: 1.0 };
    // SAFETY: the caller's promise; all panels before the last are whole.
    unsafe { I::panels::<BF16>(lanes, to, apart(units(BF16, k))) };
}

/// A task's scratch.
#[derive(Clone, Copy)]
struct Scratch {
    /// A panel of sums of all rows.
    sums: Place,
    /// Panels that the task packs or decodes, left rows, and those of the pieces.
    right: *mut u32,
    left: *mut u32,
    pieces: *mut u32,
}

impl Scratch {
    /// For so many rows, a multiple of the tile's, in what reaches [`Job::scratch`].
    fn of(job: &Job<'_>, height: usize, start: *mut u32) -> Self {
        let right = start.wrapping_add(height * PANEL);
        let left = right.wrapping_add(job.right_words());
        let pieces = left.wrapping_add(height * job.left_words());
        Self { sums: Place { at: start.cast(), stride: PANEL }, right, left, pieces }
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
    let height = rows.len().next_multiple_of(I::ROWS);
    let scratch = Scratch::of(job, height, scratch);
    // SAFETY: the caller's promise.
    unsafe { I::begin() };
    for now in steps(0..job.units, job.step()) {
        let step = Step { job, rows: rows.clone(), panels: panels.clone(), height, now, scratch };
        // SAFETY: the caller's promise.
        unsafe {
            step.pack::<I, BF16>();
            for index in panels.clone() {
                step.panel::<I, BF16>(index);
            }
        }
    }
    // SAFETY: as above.
    unsafe { I::end() };
}

/// A block's step through k: the units `now`.
struct Step<'j> {
    job: &'j Job<'j>,
    rows: Range<usize>,
    panels: Range<usize>,
    /// The rows, rounded up to whole tiles.
    height: usize,
    now: Range<usize>,
    scratch: Scratch,
}

/// # Safety of all methods
/// As for [`block`].
impl Step<'_> {
    fn is_last(&self) -> bool {
        self.now.end == self.job.units
    }

    /// The k of its units.
    fn k<const BF16: bool>(&self) -> Range<usize> {
        let each = if BF16 { 2 } else { 1 };
        self.now.start * each..self.job.product.k.min(self.now.end * each)
    }

    /// Packs left rows, makes the inner rows of them, and in the end those of the pieces.
    #[inline(always)]
    unsafe fn pack<I: Pack, const BF16: bool>(&self) {
        let (job, rows) = (self.job, &self.rows);
        // SAFETY: the caller's promise.
        unsafe {
            if !job.left_as_it_is && job.left.is_none() {
                pack_rows::<I, BF16>(rows_of(job.product, rows.clone(), self.k::<BF16>()), self.scratch.left);
            }
            for inner in &job.inners {
                inner.add::<I, BF16>(self);
            }
            if self.is_last() {
                let mut to = self.scratch.pieces;
                for ReadyPiece { piece: Piece { left: view, k, scale, .. }, units, .. } in &job.pieces {
                    let lot = Lot { view: *view, first: rows.start, lanes: rows.len(), k: *k, scale: *scale };
                    pack_rows::<I, BF16>(lot, to);
                    to = to.add(self.height * units);
                }
            }
        }
    }

    /// Where the tiles of a panel read the right operand; packs it where need be.
    #[inline(always)]
    unsafe fn right<I: Pack, const BF16: bool>(&self, index: usize, panel: Panel) -> Right {
        let (job, scratch) = (self.job, self.scratch.right);
        let at = match job.right {
            Lanes::Packed(words) => words.wrapping_add(panel.offset + self.now.start * panel.width),
            Lanes::Plain(view) => {
                let (k, place) = (self.k::<BF16>(), (index - self.panels.start) % job.together());
                if place == 0 {
                    let panels = index..self.panels.end.min(index + job.together());
                    // SAFETY: the caller's promise.
                    unsafe { pack_panels::<I, BF16>(view.after(k.start), job.layout, panels, k.len(), scratch) };
                }
                scratch.wrapping_add(place * apart(self.now.len()))
            }
            Lanes::Quantised(_) | Lanes::QuantisedColumns(..) => scratch,
        };
        Right { at, unit: panel.width }
    }

    /// Chain after chain, then the piece.
    #[inline(always)]
    unsafe fn panel<I: Pack, const BF16: bool>(&self, index: usize) {
        let (job, rows, sums) = (self.job, &self.rows, self.scratch.sums);
        let panel = job.layout.panel(index);
        let to = job.product.to.after(rows.start, panel.lane);
        let begin = match self.now.start {
            0 => job.product.from.map(|from| from.after(rows.start, panel.lane)),
            _ => Some(to),
        };
        let piece = if self.is_last() { job.piece_of::<I>(panel, self.scratch.pieces, self.height) } else { None };
        // Where a panel is padded, tiles cannot read or write the matrices themselves.
        let padded = panel.lanes < panel.width;
        let end = if padded { sums } else { to };
        let mut from = if padded { begin.map(|_| sums) } else { begin };
        // SAFETY: the caller's promise.
        unsafe {
            let right = self.right::<I, BF16>(index, panel);
            if let (Some(begin), true) = (begin, padded) {
                copy_lanes(begin, sums, rows.len(), panel.lanes);
            }
            for chain in steps(self.now.clone(), job.units_of_pass::<I>(panel)) {
                let last = chain.end == self.now.end;
                let then = if last && I::ADDS_PIECES { piece } else { None };
                let to = if last && (piece.is_none() || I::ADDS_PIECES) { end } else { sums };
                self.chain::<I, BF16>(panel, chain, right, from, to, then);
                from = Some(sums);
            }
            if let (Some(Then { units, left, right }), false) = (piece, I::ADDS_PIECES) {
                let pass = Pass { units, left, right, width: panel.width, from, to: end, then: None };
                pass.run::<I, BF16>(rows.len(), &Next::nothing(right));
            }
            if padded {
                copy_lanes(sums, to, rows.len(), panel.lanes);
            }
        }
    }

    /// Adds a chain. `right`: where the step's begins.
    #[inline(always)]
    unsafe fn chain<I: Pack, const BF16: bool>(
        &self,
        panel: Panel,
        chain: Range<usize>,
        right: Right,
        from: Option<Place>,
        to: Place,
        then: Option<Then>,
    ) {
        let (job, rows, width) = (self.job, &self.rows, panel.width);
        let passed = chain.start - self.now.start;
        let left = left_of::<I>(job.left.unwrap_or(self.scratch.left), self.now.len()).panel_of(0, passed);
        // Words of bf16 are made by packing, so rows as they are, are f32.
        let as_it_is = !BF16 && job.left_as_it_is;
        let right = match job.right {
            Lanes::Quantised(quantised) => {
                if !BF16 && !as_it_is {
                    // SAFETY: the caller's promise.
                    unsafe { quantised.decode::<I>(panel, chain.clone(), self.scratch.right) };
                }
                right
            }
            Lanes::QuantisedColumns(quantised, rows) => {
                if !BF16 {
                    // SAFETY: the caller's promise.
                    unsafe { quantised.decode_columns::<I>(rows, panel, chain.clone(), self.scratch.right) };
                }
                right
            }
            _ => Right { at: right.at.wrapping_add(passed * right.unit), ..right },
        };
        let pass = Pass { units: chain.len(), left, right, width, from, to, then };
        let height = Tile::most_rows::<I>(width);
        let next = Next::after(self, panel, &chain, right, rows.len().div_ceil(height));
        // SAFETY: the caller's promise.
        unsafe {
            if !as_it_is {
                return pass.run::<I, BF16>(rows.len(), &next);
            }
            for (index, row) in (0..rows.len()).step_by(height).enumerate() {
                let left = job.product.left.rows_from(rows.start + row, chain.start);
                let tile = Tile { left, ..pass.tile::<I>(rows.len(), row, next.of(index)) };
                match job.right {
                    Lanes::Quantised(quantised) => {
                        quantised.few::<I>(left, tile.rows, panel, chain.clone(), tile.from, tile.to);
                    }
                    _ => tile.compute::<I, BF16, false>(),
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

/// Copies so many rows and lanes.
///
/// # Safety
/// Both places reach them, apart from each other.
#[inline(always)]
pub(super) unsafe fn copy_lanes(from: Place, to: Place, rows: usize, lanes: usize) {
    for row in 0..rows {
        // SAFETY: the caller's promise that both places reach rows x lanes, apart from each other.
        unsafe { std::ptr::copy_nonoverlapping(from.after(row, 0).at, to.after(row, 0).at, lanes) };
    }
}
