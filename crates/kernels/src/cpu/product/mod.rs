//! Matrix products: packed panels, tiles in registers, f32 sums, operands in f32 or rounded to bf16.
//!
//! `to = from + scale * left right`. Each element of the result is one chain of fused additions over k, in order. The
//! chain does not depend on the number of threads, on how rows and columns are dealt to them, on blocks, nor on how
//! many rows there are beside it; so neither do results, bit for bit.
//!
//! `isa.rs` names the instructions, `tile.rs` is the innermost loop, `pack.rs` brings operands into its order, this
//! file deals the work. The shape of the design and its rates: docs/decisions/0008-products.md.

mod isa;
mod pack;
mod tile;

use std::cell::RefCell;

use rayon::prelude::*;

#[cfg(test)]
mod tests;

pub(super) use self::isa::Instructions;
use self::isa::Portable;
#[cfg(target_arch = "x86_64")]
use self::isa::{Avx2, Avx512, Avx512Bf16};
use self::isa::{GROUP, Isa, MOST_ROWS, PANEL};
pub(super) use self::pack::View;
use self::pack::{Pack, unpack};
use self::tile::{Place, tile};

/// Units of k in one block: the left block of 128 rows and this many units stays in the second-level cache.
const BLOCK_UNITS: usize = 1536;
/// Rows of one task at most.
const BLOCK_ROWS: usize = 128;
/// Up to this many rows the left operand is packed once and columns are dealt; above, rows are.
const FEW_ROWS: usize = 64;
/// Columns are dealt, too, where there are so many times more of them than rows.
const WIDE: usize = 16;
/// Tasks for each thread.
const TASKS: usize = 4;
/// A right operand of more words than these is read from memory rather than from a cache.
const SHARED_WORDS: usize = 4 << 20;
/// Products of fewer multiplications run on the calling thread: waking another costs more.
const SMALL: usize = 1 << 17;

/// How operands are rounded before they are multiplied; sums are f32 in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    /// As they are.
    F32,
    /// To bf16, as PyTorch's autocast does for linear layers.
    Bf16,
}

/// Which kernels to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kernels {
    pub instructions: Instructions,
    pub bf16: bool,
}

/// Calls `$body` with `$isa` the instruction set and `$bf16` a constant, compiled for that instruction set.
macro_rules! dispatch {
    ($kernels:expr, $name:ident ( $($argument:ident : $type:ty),* $(,)? )) => {{
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
        unsafe fn avx512_bf16<const BF16: bool>($($argument: $type),*) {
            // SAFETY: the caller's promise.
            unsafe { $name::<Avx512Bf16, BF16>($($argument),*) }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        unsafe fn avx512<const BF16: bool>($($argument: $type),*) {
            // SAFETY: the caller's promise.
            unsafe { $name::<Avx512, BF16>($($argument),*) }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2<const BF16: bool>($($argument: $type),*) {
            // SAFETY: the caller's promise.
            unsafe { $name::<Avx2, BF16>($($argument),*) }
        }
        {
            match ($kernels.instructions, $kernels.bf16) {
                #[cfg(target_arch = "x86_64")]
                // In f32 the two AVX-512 sets are the same instructions.
                (Instructions::Avx512Bf16, true) => avx512_bf16::<true>($($argument),*),
                #[cfg(target_arch = "x86_64")]
                (Instructions::Avx512Bf16 | Instructions::Avx512, false) => avx512::<false>($($argument),*),
                #[cfg(target_arch = "x86_64")]
                (Instructions::Avx512, true) => avx512::<true>($($argument),*),
                #[cfg(target_arch = "x86_64")]
                (Instructions::Avx2, true) => avx2::<true>($($argument),*),
                #[cfg(target_arch = "x86_64")]
                (Instructions::Avx2, false) => avx2::<false>($($argument),*),
                (_, true) => $name::<Portable, true>($($argument),*),
                (_, false) => $name::<Portable, false>($($argument),*),
            }
        }
    }};
}

impl Kernels {
    fn rows_of_tile(self) -> usize {
        match self.instructions {
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512Bf16 | Instructions::Avx512 => Avx512::ROWS,
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => Avx2::ROWS,
            _ => Portable::ROWS,
        }
    }

    fn units(self, k: usize) -> usize {
        pack::units(self.bf16, k)
    }
}

/// Words in whole cache lines.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u32; 16]);

/// Storage for packed words; grows, and is then reused.
#[derive(Default)]
pub(super) struct Words(Vec<Line>);

impl Words {
    fn zeros(words: usize) -> Self {
        Self(vec![Line([0; 16]); words.div_ceil(16)])
    }

    fn reach(&mut self, words: usize) -> *mut u32 {
        if self.0.len() * 16 < words {
            self.0.resize(words.div_ceil(16), Line([0; 16]));
        }
        self.0.as_mut_ptr().cast()
    }
}

thread_local! {
    /// Packed left rows of the worker's block.
    static LEFT: RefCell<Words> = const { RefCell::new(Words(Vec::new())) };
    /// Packed right operands of the calling thread's product.
    static RIGHT: RefCell<Words> = const { RefCell::new(Words(Vec::new())) };
}

/// Lends a thread's scratch. It is taken out meanwhile, so that a product within a product finds an empty one.
fn with_scratch<R>(
    of: &'static std::thread::LocalKey<RefCell<Words>>,
    words: usize,
    work: impl FnOnce(*mut u32) -> R,
) -> R {
    let mut scratch = of.take();
    let result = work(scratch.reach(words));
    of.set(scratch);
    result
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

/// One panel of a right operand.
#[derive(Clone, Copy)]
struct Panel {
    /// The part that it belongs to, and its number within it.
    part: usize,
    within: usize,
    lane: usize,
    lanes: usize,
    width: usize,
    /// Words before it.
    offset: usize,
}

/// How the lanes of a right operand lie in panels: each part begins a panel of its own.
#[derive(Clone, Copy)]
struct Layout<'a> {
    /// One past the last lane of each part.
    ends: &'a [usize],
    units: usize,
}

impl Layout<'_> {
    fn count(self) -> usize {
        self.parts().map(|(first, end)| (end - first).div_ceil(PANEL)).sum()
    }

    fn words(self) -> usize {
        self.units * self.parts().map(|(first, end)| (end - first).next_multiple_of(GROUP)).sum::<usize>()
    }

    fn parts(self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.ends.len()).map(move |part| (if part == 0 { 0 } else { self.ends[part - 1] }, self.ends[part]))
    }

    fn panel(self, mut index: usize) -> Panel {
        let mut offset = 0;
        for (part, (first, end)) in self.parts().enumerate() {
            let panels = (end - first).div_ceil(PANEL);
            if index < panels {
                let lane = first + index * PANEL;
                let lanes = (end - lane).min(PANEL);
                let width = lanes.next_multiple_of(GROUP);
                return Panel { part, within: index, lane, lanes, width, offset: offset + index * PANEL * self.units };
            }
            index -= panels;
            offset += (end - first).next_multiple_of(GROUP) * self.units;
        }
        unreachable!("a panel beyond the last")
    }
}

/// A right operand in panels.
#[derive(Clone, Copy)]
struct Right<'a> {
    words: *const u32,
    layout: Layout<'a>,
    k: usize,
}

/// Something added along the same chain, on one part of the lanes: `left right` of few k, an adapter.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    /// The part of the right operand's lanes.
    pub part: usize,
    pub left: View,
    pub k: usize,
    pub scale: f32,
    pub right: View,
}

impl Piece {
    /// Nothing: fills a list.
    pub const NONE: Self = {
        let nothing = View::lanes_by_k(std::ptr::null(), 0);
        Self { part: 0, left: nothing, k: 0, scale: 0.0, right: nothing }
    };
}

/// A right operand as the caller has it.
#[derive(Clone, Copy)]
pub(super) enum Operand<'a> {
    /// To be packed for this product.
    Plain(View, usize),
    /// A frozen weight's lanes are its rows: `x W^T`.
    Forward(&'a Frozen),
    /// A frozen weight's lanes are its columns: `dy W`.
    Backward(&'a Frozen),
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
    /// Null: from zero.
    pub from: (*const f32, usize),
    pub to: (*mut f32, usize),
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
        let whole;
        let (ready, ends, view) = match p.right {
            Operand::Plain(view, lanes) => {
                whole = [lanes];
                (None, &whole[..], Some(view))
            }
            Operand::Forward(frozen) => (Some(frozen.forward.0.as_ptr().cast::<u32>()), &frozen.ends[..], None),
            Operand::Backward(frozen) => {
                whole = [frozen.cols];
                (Some(frozen.backward(self)), &whole[..], None)
            }
        };
        let layout = Layout { ends, units: self.units(p.k) };
        let lanes = ends.last().copied().unwrap_or(0);
        if p.m == 0 || lanes == 0 {
            return;
        }
        let parallel = parallel && p.m * lanes * p.k >= SMALL;
        // Pieces have one part each: the lanes of theirs.
        let part_lanes = |part: usize| [ends[part] - if part == 0 { 0 } else { ends[part - 1] }];
        let piece_words = |piece: &Piece| Layout { ends: &part_lanes(piece.part), units: self.units(piece.k) }.words();
        let own_words = if view.is_some() { layout.words() } else { 0 };
        let scratch = own_words + p.pieces.iter().map(piece_words).sum::<usize>();
        with_scratch(&RIGHT, scratch, |right| {
            // SAFETY: the scratch reaches all words; the caller's promise for the operands.
            unsafe {
                let words = match (ready, view) {
                    (Some(words), _) => words,
                    (None, Some(view)) => {
                        self.pack_right(view, layout, p.k, 1.0, right, parallel);
                        right.cast_const()
                    }
                    (None, None) => unreachable!("an operand is packed or to be packed"),
                };
                let mut at = right.add(own_words);
                for piece in p.pieces {
                    let ends = part_lanes(piece.part);
                    let layout = Layout { ends: &ends, units: self.units(piece.k) };
                    self.pack_right(piece.right, layout, piece.k, 1.0, at, parallel);
                    at = at.add(layout.words());
                }
                let pieces = right.add(own_words).cast_const();
                self.deal(p, Right { words, layout, k: p.k }, pieces, parallel);
            }
        });
    }

    /// Packs a right operand.
    unsafe fn pack_right(self, view: View, layout: Layout<'_>, k: usize, scale: f32, to: *mut u32, parallel: bool) {
        let shared = Shared((view, to));
        let pack = |index: usize| {
            let (view, to) = shared.get();
            let panel = layout.panel(index);
            // SAFETY: each panel has one writer; the caller's promise for the rest.
            unsafe {
                let to = to.add(panel.offset);
                let (lane, lanes, width) = (panel.lane, panel.lanes, panel.width);
                dispatch!(self, right_panel(view: View, lane: usize, lanes: usize, k: usize, scale: f32, to: *mut u32, width: usize));
            }
        };
        let count = layout.count();
        if parallel && count > 1 {
            (0..count).into_par_iter().for_each(pack);
        } else {
            (0..count).for_each(pack);
        }
    }

    /// Deals blocks of rows, or of columns where there are few rows.
    unsafe fn deal(self, p: &Product<'_>, right: Right<'_>, pieces: *const u32, parallel: bool) {
        let panels = right.layout.count();
        let job = Job { product: p, right, pieces };
        let piece_units: usize = p.pieces.iter().map(|piece| self.units(piece.k)).sum();
        let units = right.layout.units.min(BLOCK_UNITS) + piece_units;
        let rows_of_tile = self.rows_of_tile();
        let left_words = |rows: usize| rows.next_multiple_of(rows_of_tile) * units;
        let shared = Shared(&job);
        let block = |rows: std::ops::Range<usize>, panels: std::ops::Range<usize>| {
            let job = shared.get();
            with_scratch(&LEFT, left_words(rows.len()), |scratch| {
                let (first, end, from_panel, to_panel) = (rows.start, rows.end, panels.start, panels.end);
                // SAFETY: the block's rows and columns have one writer; the caller's promise for the rest.
                unsafe {
                    dispatch!(self, block(job: &Job<'_>, first: usize, end: usize, from_panel: usize, to_panel: usize, scratch: *mut u32));
                }
            });
        };
        if !parallel {
            for first in (0..p.m).step_by(BLOCK_ROWS) {
                block(first..(first + BLOCK_ROWS).min(p.m), 0..panels);
            }
            return;
        }
        let (rows_in_all, threads) = (p.m, rayon::current_num_threads());
        if p.m <= FEW_ROWS || panels * PANEL >= WIDE * p.m {
            let each = panels.div_ceil(TASKS * threads).max(1);
            (0..panels.div_ceil(each))
                .into_par_iter()
                .with_max_len(1)
                .for_each(|i| block(0..rows_in_all, i * each..((i + 1) * each).min(panels)));
            return;
        }
        // As many tasks for each thread, where the rows allow it. Each task reads all of the right operand: where that
        // comes from memory, fewer tasks share it.
        let wanted = if right.layout.words() > SHARED_WORDS { threads } else { TASKS * threads };
        let tasks = p.m.div_ceil(BLOCK_ROWS).next_multiple_of(wanted);
        let rows = p.m.div_ceil(tasks).next_multiple_of(rows_of_tile);
        (0..p.m.div_ceil(rows))
            .into_par_iter()
            .with_max_len(1)
            .for_each(|i| block(i * rows..((i + 1) * rows).min(rows_in_all), 0..panels));
    }
}

/// A product with its right operands packed.
struct Job<'a> {
    product: &'a Product<'a>,
    right: Right<'a>,
    /// The pieces' right operands, one after the other.
    pieces: *const u32,
}

#[inline(always)]
unsafe fn right_panel<I: Pack, const BF16: bool>(
    view: View,
    lane: usize,
    lanes: usize,
    k: usize,
    scale: f32,
    to: *mut u32,
    width: usize,
) {
    // SAFETY: the caller's promise.
    unsafe { I::right::<BF16>(view, lane, lanes, k, scale, to, width) }
}

/// Rows `first..end` of the result, in the panels `from_panel..to_panel`.
#[inline(always)]
unsafe fn block<I: Pack, const BF16: bool>(
    job: &Job<'_>,
    first: usize,
    end: usize,
    from_panel: usize,
    to_panel: usize,
    scratch: *mut u32,
) {
    let (p, right) = (job.product, job.right);
    let step = if BF16 { 2 } else { 1 };
    let row_panels = (end - first).div_ceil(I::ROWS);
    let total = right.layout.units;
    // SAFETY: the scratch reaches the block's rows; the caller's promise for the rest.
    unsafe {
        let mut pieces_left = scratch.add(row_panels * I::ROWS * total.min(BLOCK_UNITS));
        let pieces_start = pieces_left.cast_const();
        for piece in p.pieces {
            I::left::<BF16>(piece.left, first, end, piece.k, piece.scale, pieces_left);
            pieces_left = pieces_left.add(row_panels * I::ROWS * pack::units(BF16, piece.k));
        }
        let mut done = 0;
        while done < total || total == 0 {
            let now = (total - done).min(BLOCK_UNITS);
            let k = (now * step).min(right.k - done * step);
            I::left::<BF16>(p.left.after(done * step), first, end, k, p.scale, scratch);
            let last = done + now == total;
            for index in from_panel..to_panel {
                let panel = right.layout.panel(index);
                let words = right.words.add(panel.offset + done * panel.width);
                // The piece of this part, if any: its packed rows and its panel.
                let mut piece_at = None;
                if last {
                    let (mut lefts, mut rights) = (pieces_start, job.pieces);
                    for piece in p.pieces {
                        let units = pack::units(BF16, piece.k);
                        if piece.part == panel.part {
                            piece_at = Some((units, lefts, rights.add(panel.within * PANEL * units)));
                        }
                        let ends = right.layout.ends;
                        let lanes = ends[piece.part] - if piece.part == 0 { 0 } else { ends[piece.part - 1] };
                        lefts = lefts.add(row_panels * I::ROWS * units);
                        rights = rights.add(units * lanes.next_multiple_of(GROUP));
                    }
                }
                for row_panel in 0..row_panels {
                    let row = first + row_panel * I::ROWS;
                    let rows = (end - row).min(I::ROWS);
                    let to = Place { at: p.to.0.add(row * p.to.1 + panel.lane), stride: p.to.1 };
                    let from = if done > 0 {
                        to
                    } else if p.from.0.is_null() {
                        Place { at: std::ptr::null_mut(), stride: 0 }
                    } else {
                        Place { at: p.from.0.cast_mut().add(row * p.from.1 + panel.lane), stride: p.from.1 }
                    };
                    let left = scratch.cast_const().add(row_panel * I::ROWS * now);
                    let mut edge = [0.0f32; MOST_ROWS * PANEL];
                    let whole = panel.lanes == panel.width;
                    let (from, target) = if whole {
                        (from, to)
                    } else {
                        let target = Place { at: edge.as_mut_ptr(), stride: PANEL };
                        if !from.at.is_null() {
                            copy_lanes(from, target, rows, panel.lanes);
                        }
                        (if from.at.is_null() { from } else { target }, target)
                    };
                    tile::<I, BF16>(now, left, words, rows, panel.width, from, target);
                    if let Some((units, lefts, rights)) = piece_at {
                        let left = lefts.add(row_panel * I::ROWS * units);
                        tile::<I, BF16>(units, left, rights, rows, panel.width, target, target);
                    }
                    if !whole {
                        copy_lanes(target, to, rows, panel.lanes);
                    }
                }
            }
            done += now;
            if total == 0 {
                break;
            }
        }
    }
}

#[inline(always)]
unsafe fn copy_lanes(from: Place, to: Place, rows: usize, lanes: usize) {
    for row in 0..rows {
        // SAFETY: the caller's promise that both places reach rows x lanes, apart from each other.
        unsafe { std::ptr::copy_nonoverlapping(from.at.add(row * from.stride), to.at.add(row * to.stride), lanes) };
    }
}

/// A weight that will not change: packed once for `x W^T`, and for `dy W` when that is first asked for. The rows as
/// they were are not kept; they come back rounded to the precision.
pub(super) struct Frozen {
    rows: usize,
    cols: usize,
    kernels: Kernels,
    /// One past the last row of each part; adapters are added part by part.
    ends: Vec<usize>,
    forward: Words,
    backward: std::sync::OnceLock<Words>,
}

impl Frozen {
    /// Packs a row-major weight [rows, cols] whose parts end at `ends`.
    pub fn pack(kernels: Kernels, values: &[f32], rows: usize, cols: usize, ends: Vec<usize>) -> Self {
        assert_eq!(values.len(), rows * cols, "a weight's values");
        assert!(ends.is_sorted() && ends.last() == Some(&rows), "the parts of {rows} rows end at {ends:?}");
        let layout = Layout { ends: &ends, units: kernels.units(cols) };
        let mut forward = Words::zeros(layout.words());
        let to = forward.reach(layout.words());
        // SAFETY: the values reach rows x cols and the words the whole layout.
        unsafe { kernels.pack_right(View::lanes_by_k(values.as_ptr(), cols), layout, cols, 1.0, to, true) };
        Self { rows, cols, kernels, ends, forward, backward: std::sync::OnceLock::new() }
    }

    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    /// The number of the part that holds just these rows.
    pub fn part(&self, rows: &std::ops::Range<usize>) -> usize {
        let part = self.ends.iter().position(|&end| end == rows.end);
        let begins = |part: usize| if part == 0 { 0 } else { self.ends[part - 1] };
        match part {
            Some(part) if begins(part) == rows.start => part,
            _ => panic!("rows {rows:?} are no part of a weight frozen with parts that end at {:?}", self.ends),
        }
    }

    /// Writes a row into `to`.
    pub fn read_row(&self, row: usize, to: &mut [f32]) {
        self.read(row, 0, to);
    }

    fn read(&self, row: usize, first: usize, to: &mut [f32]) {
        let layout = Layout { ends: &self.ends, units: self.kernels.units(self.cols) };
        let part = self.ends.partition_point(|&end| end <= row);
        let begin = if part == 0 { 0 } else { self.ends[part - 1] };
        let before: usize = layout.parts().take(part).map(|(first, end)| (end - first).div_ceil(PANEL)).sum();
        let panel = layout.panel(before + (row - begin) / PANEL);
        let step = if self.kernels.bf16 { 2 } else { 1 };
        for (k, to) in (first..).zip(to) {
            let word = panel.offset + k / step * panel.width + (row - panel.lane);
            *to = unpack(self.kernels.bf16, self.forward.0[word / 16].0[word % 16], k);
        }
    }

    fn backward(&self, kernels: Kernels) -> *const u32 {
        assert_eq!(self.kernels.bf16, kernels.bf16, "a weight is used in the precision that it was frozen in");
        let words = self.backward.get_or_init(|| {
            let ends = [self.cols];
            let layout = Layout { ends: &ends, units: kernels.units(self.rows) };
            let mut words = Words::zeros(layout.words());
            let to = Shared(words.reach(layout.words()));
            (0..layout.count()).into_par_iter().with_max_len(1).for_each(|index| {
                let panel = layout.panel(index);
                let mut columns = vec![0.0; self.rows * panel.lanes];
                for (row, columns) in columns.chunks_exact_mut(panel.lanes).enumerate() {
                    self.read(row, panel.lane, columns);
                }
                let view = View::k_by_lanes(columns.as_ptr(), panel.lanes);
                // SAFETY: each panel has one writer; the columns reach every row.
                unsafe {
                    let (to, rows, lanes, width) =
                        (to.get().add(panel.offset), self.rows, panel.lanes, panel.width);
                    let (lane, scale) = (0, 1.0);
                    dispatch!(kernels, right_panel(view: View, lane: usize, lanes: usize, rows: usize, scale: f32, to: *mut u32, width: usize));
                }
            });
            words
        });
        words.0.as_ptr().cast()
    }
}

/// GFLOP/s of the tile alone on all threads, its operands in the first-level cache: what products could reach.
pub(super) fn peak(kernels: Kernels) -> f64 {
    const UNITS: usize = 64;
    const TILES: usize = 20_000;
    let begin = std::time::Instant::now();
    let threads = rayon::current_num_threads();
    (0..threads).into_par_iter().with_max_len(1).for_each(|_| {
        let (left, right) = (Words::zeros(UNITS * MOST_ROWS), Words::zeros(UNITS * PANEL));
        let mut to = [0.0f32; MOST_ROWS * PANEL];
        let (left, right, to) = (left.0.as_ptr().cast::<u32>(), right.0.as_ptr().cast::<u32>(), to.as_mut_ptr());
        // SAFETY: the operands reach UNITS units and the target a whole tile.
        unsafe { dispatch!(kernels, tiles(left: *const u32, right: *const u32, to: *mut f32)) };
    });
    let pairs = if kernels.bf16 { 2 } else { 1 };
    let flops = 2.0 * (threads * TILES * UNITS * pairs * kernels.rows_of_tile() * PANEL) as f64;
    return flops / begin.elapsed().as_secs_f64() / 1e9;

    #[inline(always)]
    unsafe fn tiles<I: Pack, const BF16: bool>(left: *const u32, right: *const u32, to: *mut f32) {
        for _ in 0..TILES {
            // Hidden from the optimiser, which would otherwise merge the rounds.
            let (left, right, to, units) = std::hint::black_box((left, right, to, UNITS));
            let to = Place { at: to, stride: PANEL };
            // SAFETY: the caller's promise.
            unsafe { tile::<I, BF16>(units, left, right, I::ROWS, PANEL, to, to) };
        }
    }
}
