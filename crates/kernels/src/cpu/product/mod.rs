//! Matrix products: packed panels, tiles in registers, f32 sums, operands in f32 or rounded to bf16.
//!
//! `to = from + scale * left right`. Each element of the result is a sum of chains of fused additions, one chain for each
//! [`CHAIN_UNITS`](tile::CHAIN_UNITS) units of k, in order. It does not depend on the number of threads, on how rows and
//! columns are dealt to them, on blocks, nor on how many rows there are beside it; so neither do results, bit for bit.
//!
//! Outwards from the innermost loop: `isa.rs` names the instructions, `tile.rs` is the loop, `pack.rs` brings operands
//! into its order, `panels.rs` says where they lie, `block.rs` is one task, this file deals tasks to threads.
//! `frozen.rs` keeps weights packed, `stored.rs` holds their words. Why it is so: docs/decisions/0008-products.md.

#[cfg(target_arch = "x86_64")]
mod amx;
#[macro_use]
mod dispatch;
mod block;
mod frozen;
mod isa;
mod pack;
mod panels;
mod peak;
mod quantised;
mod stored;
#[cfg(test)]
mod tests;
mod tile;

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use self::block::{Job, Lanes, ReadyInner, ReadyPiece, block, pack_left};
pub(super) use self::frozen::Frozen;
pub(super) use self::isa::Instructions;
#[cfg(target_arch = "x86_64")]
use self::isa::{Amx, Avx2, Avx512};
use self::isa::{Isa, PANEL, Portable};
use self::pack::{Lot, Pack};
pub(super) use self::pack::{View, round_bf16};
use self::panels::{Layout, Panel};
pub(super) use self::panels::{Words, with_scratch};
pub(super) use self::peak::peak;
pub(super) use self::stored::Mapped;
pub(super) use self::tile::Place;

/// How right operands lie in panels, for what keeps them longer than a process.
pub(super) const LAYOUT: &str = if cfg!(target_endian = "little") {
    "panels of 48 in groups of 16, version 1"
} else {
    "panels of 48 in groups of 16, version 1, big-endian"
};
const _: () = assert!(PANEL == 48 && isa::GROUP == 16, "the layout's name says its sizes");

/// Units of k in one block: the left block of 128 rows and this many units stays in the second-level cache.
const BLOCK_UNITS: usize = 1536;
const _: () = assert!(BLOCK_UNITS.is_multiple_of(tile::CHAIN_UNITS), "a chain ends with its block");
/// Rows of one task at most.
const BLOCK_ROWS: usize = 128;
/// Up to this many rows columns are dealt, which packs these rows in every task; above, rows are.
const FEW_ROWS: usize = 64;
/// Columns are dealt, too, where there are so many times more of them than rows.
const WIDE: usize = 16;
/// Tasks for each thread.
const TASKS: usize = 4;
/// A right operand of more words than these is read from memory rather than from a cache.
const SHARED_WORDS: usize = 4 << 20;
/// Words of a right operand that are packed at a time where no cache holds all: the last-level cache does.
const STEP_WORDS: usize = 1 << 20;
/// In f32 a left operand is read as it is where at most so many lanes use it.
const FEW_LANES: usize = 64;
/// Products of fewer multiplications run on the calling thread: waking another costs more.
const SMALL: usize = 1 << 17;

/// Which kernels to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kernels {
    pub instructions: Instructions,
    pub bf16: bool,
}

thread_local! {
    /// Left rows of the calling thread's product, packed for all tasks.
    static LEFT: RefCell<Words> = RefCell::default();
    /// What the worker's block packs.
    static TASK: RefCell<Words> = RefCell::default();
    /// Packed right operands of the calling thread's product.
    static RIGHT: RefCell<Words> = RefCell::default();
}

/// A pointer that workers share; each writes its own part.
#[derive(Clone, Copy)]
struct Shared<T>(T);
// SAFETY: the workers of one product read shared operands and write disjoint parts of its result.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T: Copy> Shared<T> {
    fn get(&self) -> T {
        self.0
    }
}

/// Something added after the product, on one part of the lanes: `left right` of few k, an adapter.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    /// The part of the right operand's lanes.
    pub part: usize,
    pub left: View,
    pub k: usize,
    pub scale: f32,
    pub right: View,
}

/// Rows of few lanes that are made of the product's left rows, for pieces to read: `to = left[.., of] (scale * right)`. What an
/// adapter adds to a product begins with the same rows, so they are read once.
pub(super) struct Inner {
    /// The k of the product that it spans.
    pub of: Range<usize>,
    pub lanes: usize,
    pub right: View,
    pub scale: f32,
    pub to: Place,
}

/// A right operand as the caller has it.
#[derive(Clone, Copy)]
pub(super) enum Operand<'a> {
    /// To be packed for this product; with its lanes.
    Plain(View, usize),
    /// Packed by the caller, [`Kernels::pack`].
    Ready(Ready),
    /// A frozen weight's lanes are its rows: `x W^T`.
    Forward(&'a Frozen),
    /// A frozen weight's lanes are its columns: `dy W`.
    Backward(&'a Frozen),
}

/// A right operand of `lanes` lanes and `k`, packed; its lanes are one part. A product may use fewer: whole panels up to
/// the one that holds lane `used - 1`, and a smaller k.
#[derive(Clone, Copy)]
pub(super) struct Ready {
    pub words: *const u32,
    pub lanes: usize,
    pub k: usize,
    pub used: usize,
}

/// `to = from + scale * left right`, plus the pieces. left: [m, k]; right: k by lanes.
#[derive(Clone, Copy)]
pub(super) struct Product<'a> {
    pub m: usize,
    pub k: usize,
    pub left: View,
    pub scale: f32,
    pub right: Operand<'a>,
    pub pieces: &'a [Piece],
    pub inners: &'a [Inner],
    /// None: from zero.
    pub from: Option<Place>,
    pub to: Place,
}

/// Whether columns are dealt rather than rows: each task then has panels of its own, and packs them where need be.
fn by_columns(m: usize, panels: usize) -> bool {
    m <= FEW_ROWS || panels * PANEL >= WIDE * m
}

/// Whether a plain right operand of a size that no cache holds is better packed by each task, part by part, of which there are
/// as many as threads, than once as a whole.
pub(super) fn packs_by_parts(words: usize, m: usize) -> bool {
    words > SHARED_WORDS && m <= BLOCK_ROWS * rayon::current_num_threads()
}

/// Whether a quantised weight is small enough to be decoded once for many tasks: a cache holds it.
pub(super) fn decodes_at_once(words: usize) -> bool {
    words <= SHARED_WORDS
}

impl Kernels {
    /// Rows of a left panel, and of how many units it has whole multiples.
    fn left_panel(self) -> (usize, usize) {
        match self.instructions {
            #[cfg(target_arch = "x86_64")]
            Instructions::Amx if self.bf16 => (Amx::ROWS, Amx::LEFT_UNITS),
            #[cfg(target_arch = "x86_64")]
            Instructions::Amx | Instructions::Avx512Bf16 | Instructions::Avx512 => (Avx512::ROWS, 1),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => (Avx2::ROWS, 1),
            _ => (Portable::ROWS, 1),
        }
    }

    fn units(self, k: usize) -> usize {
        pack::units(self.bf16, k)
    }
}

impl Kernels {
    /// Runs a product on all threads.
    ///
    /// # Safety
    /// The operands lie within live buffers; nothing else touches `to` meanwhile or writes the others; `to` overlaps
    /// none of them but `from`, which is it or apart from it.
    pub unsafe fn run(self, product: &Product<'_>) {
        // SAFETY: the caller's promise.
        unsafe { self.run_on(product, true) }
    }

    /// Runs a product on the calling thread.
    ///
    /// # Safety
    /// As for [`Kernels::run`].
    pub unsafe fn run_here(self, product: &Product<'_>) {
        // SAFETY: the caller's promise.
        unsafe { self.run_on(product, false) }
    }

    unsafe fn run_on(self, p: &Product<'_>, parallel: bool) {
        let lanes = match &p.right {
            Operand::Plain(_, lanes) => *lanes,
            Operand::Ready(ready) => ready.used,
            Operand::Forward(frozen) => frozen.shape().0,
            Operand::Backward(frozen) => frozen.shape().1,
        };
        if p.m == 0 || lanes == 0 {
            return;
        }
        let parallel = parallel && p.m * lanes * p.k >= SMALL;
        if let Operand::Plain(view, lanes) = p.right
            && let Some(step) = self.step_of_k(p, lanes, parallel)
        {
            // SAFETY: the caller's promise.
            return unsafe { self.run_by_steps(p, view, lanes, step) };
        }
        let (packed, layout, panels) = self.right_of(p, parallel);
        // The lanes of a piece are one part.
        let lanes: Vec<usize> = p.pieces.iter().map(|piece| layout.part(piece.part).len()).collect();
        let of_piece = |(piece, lanes): (&Piece, &'_ usize)| self.packed_words(*lanes, piece.k);
        let own = if packed.is_some() { 0 } else { layout.words() };
        let of_inner = |inner: &Inner| self.packed_words(inner.lanes, inner.of.len());
        let scratch = own
            + p.pieces.iter().zip(&lanes).map(of_piece).sum::<usize>()
            + p.inners.iter().map(of_inner).sum::<usize>();
        with_scratch(&RIGHT, scratch, |right| {
            // SAFETY: the scratch reaches all words; the caller's promise for the operands.
            unsafe {
                match p.right {
                    _ if packed.is_some() => {}
                    Operand::Plain(view, _) => self.pack_right(view, layout, p.k, 1.0, right, parallel),
                    Operand::Forward(frozen) => self.decode_right(frozen.forward(), p.k, right),
                    Operand::Backward(frozen) => self.decode_right(frozen.backward(), p.k, right),
                    Operand::Ready(_) => unreachable!("packed by the caller"),
                }
                let mut at = right.add(own);
                let mut pieces = Vec::with_capacity(p.pieces.len());
                for (piece, lanes) in p.pieces.iter().zip(&lanes) {
                    let layout = Layout { ends: std::slice::from_ref(lanes), units: self.whole_units(piece.k) };
                    self.pack_right(piece.right, layout, piece.k, 1.0, at, parallel);
                    pieces.push(ReadyPiece { piece, units: layout.units, right: at });
                    at = at.add(layout.words());
                }
                let mut inners = Vec::with_capacity(p.inners.len());
                for inner in p.inners {
                    let (layout, k) =
                        (Layout { ends: &[inner.lanes], units: self.whole_units(inner.of.len()) }, inner.of.len());
                    self.pack_right(inner.right, layout, k, inner.scale, at, parallel);
                    let first = self.units(inner.of.start);
                    inners.push(ReadyInner { inner, units: first..first + layout.units, right: at });
                    at = at.add(layout.words());
                }
                let right = packed.unwrap_or(Lanes::Packed(right));
                let few = match right {
                    Lanes::Quantised(_) => p.m <= quantised::FEW && p.left.runs_of_k(),
                    Lanes::QuantisedColumns(..) => false,
                    _ => layout.lanes() <= FEW_LANES,
                };
                let left_as_it_is = !self.bf16 && p.scale == 1.0 && few;
                // What is ready has zeros to the end of its last left units, and so have the left rows.
                let ready = matches!(p.right, Operand::Ready(_));
                let units = if ready { self.whole_units(p.k) } else { self.units(p.k) };
                // Tasks that have all columns of their rows make these beside them; else they are products of their own.
                let by_tasks = parallel && !by_columns(p.m, panels) && !left_as_it_is && p.scale == 1.0;
                if !(by_tasks && inners.iter().all(|inner| self.keeps_chains(inner, units))) {
                    inners.drain(..).for_each(|inner| self.run_inner(p, &inner, parallel));
                }
                let (_, left_units) = self.left_panel();
                let job =
                    Job { product: p, units, right, layout, pieces, inners, left_units, left_as_it_is, left: None };
                self.deal(job, panels, parallel);
            }
        });
    }

    /// How many k of a plain right operand that no cache holds are packed at a time, by all threads for all; none where tasks pack
    /// what they read, or all is packed at once.
    fn step_of_k(self, p: &Product<'_>, lanes: usize, parallel: bool) -> Option<usize> {
        let layout = Layout { ends: &[lanes], units: self.units(p.k) };
        let alone = p.pieces.is_empty() && p.inners.is_empty();
        let stepped = parallel && alone && !by_columns(p.m, layout.count()) && packs_by_parts(layout.words(), p.m);
        // Of whole blocks, so that chains are those of the product in one go.
        let blocks = (STEP_WORDS / lanes / BLOCK_UNITS).max(1);
        let step = blocks * BLOCK_UNITS * if self.bf16 { 2 } else { 1 };
        (stepped && step < p.k).then_some(step)
    }

    /// Runs a product with a plain right operand so many k at a time.
    ///
    /// # Safety
    /// As for [`Kernels::run`].
    unsafe fn run_by_steps(self, p: &Product<'_>, view: View, lanes: usize, step: usize) {
        for start in (0..p.k).step_by(step) {
            let (k, right) = (step.min(p.k - start), Operand::Plain(view.after(start), lanes));
            let from = if start == 0 { p.from } else { Some(p.to) };
            // SAFETY: the caller's promise.
            unsafe { self.run_on(&Product { k, left: p.left.after(start), right, from, ..*p }, true) };
        }
    }

    /// The right operand where it needs no packing of all of it, how its lanes lie, and panels that are used.
    fn right_of<'a>(self, p: &'a Product<'_>, parallel: bool) -> (Option<Lanes<'a>>, Layout<'a>, usize) {
        match &p.right {
            Operand::Plain(view, lanes) => {
                let layout = Layout { ends: std::slice::from_ref(lanes), units: self.units(p.k) };
                // One copy for all tasks, unless few of them would read it, and from memory.
                let own = !parallel || by_columns(p.m, layout.count()) || packs_by_parts(layout.words(), p.m);
                (own.then_some(Lanes::Plain(*view)), layout, layout.count())
            }
            Operand::Ready(ready) => {
                let layout = Layout { ends: std::slice::from_ref(&ready.lanes), units: self.whole_units(ready.k) };
                (Some(Lanes::Packed(ready.words)), layout, ready.used.div_ceil(PANEL))
            }
            Operand::Forward(frozen) | Operand::Backward(frozen) => {
                frozen.check(self);
                let forward = matches!(p.right, Operand::Forward(_));
                let (right, layout) = if forward { frozen.forward() } else { frozen.backward() };
                // Decoded once for all tasks where there are many.
                let words = Layout { units: self.units(p.k), ..layout };
                let many = parallel && p.m > BLOCK_ROWS * rayon::current_num_threads();
                let once = many && !by_columns(p.m, layout.count()) && decodes_at_once(words.words());
                if right.are_quantised() && once {
                    return (None, words, words.count());
                }
                (Some(right), layout, layout.count())
            }
        }
    }

    /// Makes the rows of an inner product by a product of its own.
    ///
    /// # Safety
    /// As for [`Kernels::run`].
    unsafe fn run_inner(self, p: &Product<'_>, ReadyInner { inner, right, .. }: &ReadyInner<'_>, parallel: bool) {
        let (lanes, k) = (inner.lanes, inner.of.len());
        let right = Operand::Ready(Ready { words: *right, lanes, k, used: lanes });
        let (left, pieces, inners) = (p.left.after(inner.of.start), &[][..], &[][..]);
        let own = Product { k, left, scale: 1.0, right, pieces, inners, from: None, to: inner.to, ..*p };
        // SAFETY: the caller's promise.
        unsafe { self.run_on(&own, parallel) };
    }

    /// Whether a block's steps through k leave the chains of an inner product whole, and its pairs.
    fn keeps_chains(self, inner: &ReadyInner<'_>, units: usize) -> bool {
        let (_, left_units) = self.left_panel();
        let begins = if self.bf16 { 2 * left_units } else { left_units };
        let whole = inner.inner.of.start.is_multiple_of(begins);
        whole && (units <= BLOCK_UNITS || inner.units.start.is_multiple_of(tile::CHAIN_UNITS))
    }

    /// Units of what is packed for a product or a few: as many as left panels have, the last of zeros.
    fn whole_units(self, k: usize) -> usize {
        self.units(k).next_multiple_of(self.left_panel().1)
    }

    /// Words that [`Kernels::pack`] writes.
    pub fn packed_words(self, lanes: usize, k: usize) -> usize {
        Layout { ends: &[lanes], units: self.whole_units(k) }.words()
    }

    /// Packs a right operand of `lanes` lanes and `k` on the calling thread, for [`Operand::Ready`].
    ///
    /// # Safety
    /// The view reaches lanes and k, `to` reaches [`Kernels::packed_words`], and nothing else touches it.
    pub unsafe fn pack(self, view: View, lanes: usize, k: usize, to: *mut u32) {
        let layout = Layout { ends: &[lanes], units: self.whole_units(k) };
        // SAFETY: the caller's promise.
        unsafe { self.pack_right(view, layout, k, 1.0, to, false) };
    }

    /// Packs a right operand, scaled.
    unsafe fn pack_right(self, view: View, layout: Layout<'_>, k: usize, scale: f32, to: *mut u32, parallel: bool) {
        let shared = Shared((view, to));
        let pack = |index: usize| {
            let (view, to) = shared.get();
            // SAFETY: each panel has one writer; the caller's promise for the rest.
            unsafe {
                let panel = layout.panel(index);
                self.pack_panel(view, panel, k, scale, to);
                let (packed, all) = (self.units(k) * panel.width, layout.units * panel.width);
                to.add(panel.offset + packed).write_bytes(0, all - packed);
            }
        };
        let count = layout.count();
        if parallel && count > 1 {
            (0..count).into_par_iter().for_each(pack);
        } else {
            (0..count).for_each(pack);
        }
    }

    /// Decodes all of a quantised right operand, to the words that [`Kernels::pack_right`] would make of its values.
    unsafe fn decode_right(self, (right, layout): (Lanes<'_>, Layout<'_>), k: usize, to: *mut u32) {
        let shared = Shared((right, to));
        (0..layout.count()).into_par_iter().for_each(|index| {
            let ((right, to), panel) = (shared.get(), layout.panel(index));
            // Of a layout of one unit, as that of quantised rows is, the offset counts lanes.
            let to = to.wrapping_add(panel.offset / layout.units * k);
            // SAFETY: each panel has one writer; the caller's promise for the rest.
            unsafe { dispatch!(self, decoded(right: Lanes<'_>, panel: Panel, k: usize, to: *mut u32)) };
        });

        #[inline(always)]
        unsafe fn decoded<I: Pack, const BF16: bool>(right: Lanes<'_>, panel: Panel, k: usize, to: *mut u32) {
            // SAFETY: the caller's promise.
            unsafe {
                match right {
                    Lanes::Quantised(quantised) => quantised.decode::<I>(panel, 0..k, to),
                    Lanes::QuantisedColumns(quantised, rows) => quantised.decode_columns::<I>(rows, panel, 0..k, to),
                    Lanes::Packed(_) | Lanes::Plain(_) => unreachable!("not quantised"),
                }
            }
        }
    }

    /// Packs one panel of a right operand whose words begin at `to`.
    unsafe fn pack_panel(self, view: View, panel: Panel, k: usize, scale: f32, to: *mut u32) {
        // SAFETY: the caller's promise.
        unsafe { dispatch!(self, right_panel(view: View, panel: Panel, k: usize, scale: f32, to: *mut u32)) };

        #[inline(always)]
        unsafe fn right_panel<I: Pack, const BF16: bool>(view: View, panel: Panel, k: usize, scale: f32, to: *mut u32) {
            // SAFETY: the caller's promise.
            unsafe {
                let lanes = Lot { view, first: panel.lane, lanes: panel.lanes, k, scale };
                I::right::<BF16>(lanes, to.add(panel.offset), panel.width);
            }
        }
    }

    /// Deals blocks of rows, or of columns where there are few rows.
    unsafe fn deal(self, mut job: Job<'_>, panels: usize, parallel: bool) {
        let (m, (tile_rows, left_units)) = (job.product.m, self.left_panel());
        if parallel && by_columns(m, panels) && job.shares_left() && job.left.is_none() {
            return with_scratch(&LEFT, m.next_multiple_of(tile_rows) * job.units.next_multiple_of(left_units), |to| {
                // SAFETY: the scratch reaches all rows and units; the caller's promise for the rest.
                unsafe {
                    let product = job.product;
                    dispatch!(self, pack_left(product: &Product<'_>, to: *mut u32));
                    job.left = Some(to.cast_const());
                    self.deal(job, panels, parallel);
                }
            });
        }
        let shared = Shared(&job);
        let block = |rows: Range<usize>, panels: Range<usize>| {
            let job = shared.get();
            with_scratch(&TASK, job.scratch(rows.len().next_multiple_of(tile_rows)), |scratch| {
                // SAFETY: the block's rows and columns have one writer; the caller's promise for the rest.
                unsafe {
                    dispatch!(self, block(job: &Job<'_>, rows: Range<usize>, panels: Range<usize>, scratch: *mut u32));
                }
            });
        };
        let of = |i: usize, each: usize, count: usize| i * each..((i + 1) * each).min(count);
        if !parallel {
            (0..m.div_ceil(BLOCK_ROWS)).for_each(|i| block(of(i, BLOCK_ROWS, m), 0..panels));
            return;
        }
        let threads = rayon::current_num_threads();
        if by_columns(m, panels) {
            let tasks = if job.together() > 1 { threads } else { TASKS * threads };
            let each = panels.div_ceil(tasks);
            let tasks = (0..panels.div_ceil(each)).into_par_iter().with_max_len(1);
            tasks.for_each(|i| block(0..m, of(i, each, panels)));
            return;
        }
        // As many tasks for each thread, where the rows allow it. Each task reads all of the right operand: where that
        // comes from memory or must be decoded, fewer tasks share it.
        let costly = job.right.are_quantised() || job.layout.words() > SHARED_WORDS;
        let wanted = if costly { threads } else { TASKS * threads };
        let each = m.div_ceil(m.div_ceil(BLOCK_ROWS).next_multiple_of(wanted)).next_multiple_of(tile_rows);
        let tasks = (0..m.div_ceil(each)).into_par_iter().with_max_len(1);
        tasks.for_each(|i| block(of(i, each, m), 0..panels));
    }
}
