//! Frozen weights that stay quantised, as their file has them: decoded in registers, or a chain at a time into the
//! first-level cache. The values are those that [`Encoding::decode`] gives, and so are the results of products, to the bit:
//! a quantum times its scale is exact in f32 (4 or 8 bits times 11), so a minimum is added in the one rounding that decoding has.
//!
//! A panel holds, for each 32 k, the scales of its lanes (f16), their minima where there are any, and their quanta: k by k,
//! one byte a lane; of 4-bit quanta two k in a byte, the even one in the low nibble. That takes what the file takes.

use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;

use super::Shared;
use super::isa::{GROUP, Isa, PANEL};
use super::pack::{Lot, Pack, View};
use super::panels::{Layout, Panel, Words};
use super::tile::{CHAIN_UNITS, Left, Place};
use crate::encoding::Encoding;
use crate::operands::Encoded;

/// Values that share a scale.
const BLOCK: usize = 32;
/// Columns that are decoded together for `dy W`: panels of columns begin and end with half a block.
const HALF: usize = BLOCK / 2;
/// Rows that are multiplied by a weight as it is decoded; for more it is decoded into a cache first.
pub(super) const FEW: usize = 2;
/// Lanes of a panel that are worked on at once, in registers: as many as leave room for their scales.
const VECTORS: usize = 3;
/// Bytes that memory is asked for ahead of their use.
const AHEAD: usize = 4096;

const _: () = assert!(CHAIN_UNITS.is_multiple_of(BLOCK), "a chain is made of whole blocks");
const _: () = assert!(PANEL.is_multiple_of(HALF) && GROUP == HALF, "panels of columns are made of half blocks");

/// How the quanta of two k are read. (No closures here: they would not be compiled for the instructions.)
trait Form {
    /// Numbers in f16 of a lane's block: its scale, and its minimum.
    const HALVES: usize;
    /// Bytes of two quanta of a lane.
    const PAIR: usize;

    /// What is added to a scaled quantum.
    unsafe fn shift<I: Isa>(scale: I::Vector, minima: *const u16) -> I::Vector;
    /// The values of an even k and of the next.
    unsafe fn values<I: Isa>(quanta: *const u8, stride: usize, scale: I::Vector, shift: I::Vector) -> [I::Vector; 2];
}

struct Q4_0;
struct Q4_1;
struct Q8_0;

impl Form for Q4_0 {
    const HALVES: usize = 1;
    const PAIR: usize = 1;

    #[inline(always)]
    unsafe fn shift<I: Isa>(scale: I::Vector, _: *const u16) -> I::Vector {
        // SAFETY: the caller's promise.
        unsafe { I::multiply(scale, I::splat((-8.0f32).to_bits())) }
    }

    #[inline(always)]
    unsafe fn values<I: Isa>(quanta: *const u8, _: usize, scale: I::Vector, shift: I::Vector) -> [I::Vector; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            let [low, high] = I::nibbles(quanta);
            [I::multiply_add(low, scale, shift), I::multiply_add(high, scale, shift)]
        }
    }
}

impl Form for Q4_1 {
    const HALVES: usize = 2;
    const PAIR: usize = 1;

    #[inline(always)]
    unsafe fn shift<I: Isa>(_: I::Vector, minima: *const u16) -> I::Vector {
        // SAFETY: the caller's promise.
        unsafe { I::halves(minima) }
    }

    #[inline(always)]
    unsafe fn values<I: Isa>(quanta: *const u8, _: usize, scale: I::Vector, shift: I::Vector) -> [I::Vector; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            let [low, high] = I::nibbles(quanta);
            [I::multiply_add(low, scale, shift), I::multiply_add(high, scale, shift)]
        }
    }
}

impl Form for Q8_0 {
    const HALVES: usize = 1;
    const PAIR: usize = 2;

    #[inline(always)]
    unsafe fn shift<I: Isa>(_: I::Vector, _: *const u16) -> I::Vector {
        // SAFETY: the caller's promise.
        unsafe { I::zero() }
    }

    #[inline(always)]
    unsafe fn values<I: Isa>(quanta: *const u8, stride: usize, scale: I::Vector, _: I::Vector) -> [I::Vector; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            let [first, second] = [I::bytes(quanta.cast()), I::bytes(quanta.wrapping_add(stride).cast())];
            [I::multiply(first, scale), I::multiply(second, scale)]
        }
    }
}

/// Calls a function that is generic over instruction set and form with the form that `$encoding` names.
macro_rules! with_form {
    ($encoding:expr, $name:ident::<$isa:ty $(, $more:tt)*>($($argument:expr),* $(,)?)) => {
        match $encoding {
            Encoding::Q4_0 => $name::<$isa, Q4_0 $(, $more)*>($($argument),*),
            Encoding::Q4_1 => $name::<$isa, Q4_1 $(, $more)*>($($argument),*),
            Encoding::Q8_0 => $name::<$isa, Q8_0 $(, $more)*>($($argument),*),
            other => unreachable!("{other} is not quantised"),
        }
    };
}

/// A weight [rows, cols] in panels of rows.
pub(super) struct Quantised {
    encoding: Encoding,
    words: Words,
    /// Blocks of a row.
    blocks: usize,
}

impl Quantised {
    /// Packs the rows of parts that end at `ends`, as their file has them; none where the parts differ in encoding, or it is
    /// not one of blocks with a scale.
    pub fn pack(parts: &[Encoded<'_>], cols: usize, ends: &[usize]) -> Option<Self> {
        let encoding = parts.first()?.encoding;
        if !encoding.is_multiplied() || parts.iter().any(|part| part.encoding != encoding) {
            return None;
        }
        let (row, size) = (encoding.row_bytes(cols), encoding.block().1);
        let layout = Layout { ends, units: 1 };
        let bytes = layout.words() * cols / BLOCK * size;
        let mut words = Words::zeros(bytes.div_ceil(4));
        let to = Shared(words.reach(bytes.div_ceil(4)).cast::<u8>());
        let blocks = cols / BLOCK;
        (0..layout.count()).into_par_iter().for_each(|index| {
            let panel = layout.panel(index);
            let source = &parts[panel.part].bytes[panel.within * PANEL * row..][..panel.lanes * row];
            let panel_bytes = panel.width * blocks * size;
            // SAFETY: each panel has one writer, and the words reach all panels.
            let target = unsafe {
                let to = to.get().add(panel.offset * blocks * size);
                std::slice::from_raw_parts_mut(to, panel_bytes)
            };
            for (lane, row) in source.chunks_exact(row).enumerate() {
                for (block, target) in row.chunks_exact(size).zip(target.chunks_exact_mut(panel.width * size)) {
                    spread(encoding, block, target, panel.width, lane);
                }
            }
        });
        Some(Self { encoding, words, blocks })
    }

    /// Bytes that it takes.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        4 * self.words.len()
    }

    /// Where the block of a panel begins that holds k = 32 `block`.
    fn at(&self, panel: Panel, block: usize) -> *const u8 {
        let size = self.encoding.block().1;
        self.words.as_ptr().cast::<u8>().wrapping_add((panel.offset * self.blocks + block * panel.width) * size)
    }

    /// Writes columns of a row, from `first` on, into `to`. `panel` holds the row as its lane `lane`.
    pub fn read(&self, panel: Panel, lane: usize, first: usize, to: &mut [f32]) {
        let size = self.encoding.block().1;
        let (mut bytes, mut values) = ([0; BLOCK + 4], [0.0; BLOCK]);
        for block in first / BLOCK..(first + to.len()).div_ceil(BLOCK) {
            // SAFETY: a block of the panel, which nobody writes any more.
            let source = unsafe { std::slice::from_raw_parts(self.at(panel, block), panel.width * size) };
            gather(self.encoding, source, &mut bytes[..size], panel.width, lane);
            self.encoding.decode_row(&bytes[..size], &mut values);
            let wanted = first.max(block * BLOCK)..(first + to.len()).min((block + 1) * BLOCK);
            let within = wanted.start - block * BLOCK..wanted.end - block * BLOCK;
            to[wanted.start - first..wanted.end - first].copy_from_slice(&values[within]);
        }
    }

    /// Decodes the k `now` of a panel, whole blocks, to [unit][panel.width] words.
    ///
    /// # Safety
    /// The processor has `I`; the panel has these k; `to` reaches the words.
    #[inline(always)]
    pub unsafe fn decode<I: Isa>(&self, panel: Panel, now: Range<usize>, to: *mut u32) {
        let mut to = to.cast::<f32>();
        for block in now.start / BLOCK..now.end / BLOCK {
            let (from, width) = (self.at(panel, block), panel.width);
            // SAFETY: the caller's promise.
            unsafe { with_form!(self.encoding, decode::<I>(from, width, 0..width, 0..BLOCK, to)) };
            to = to.wrapping_add(BLOCK * width);
        }
    }

    /// Decodes the rows `now` of the columns of a panel, to [row][columns.width] words: what `dy W` reads. `rows`: how the
    /// panels of rows lie. Half blocks are decoded as they lie, column by column, and then transposed.
    ///
    /// # Safety
    /// The processor has `I`; the weight has these rows and columns; `to` reaches the words.
    #[inline(always)]
    pub unsafe fn decode_columns<I: Pack>(&self, rows: Layout<'_>, columns: Panel, now: Range<usize>, to: *mut u32) {
        let mut aside = MaybeUninit::<[f32; PANEL * PANEL]>::uninit();
        let aside = aside.as_mut_ptr().cast::<f32>();
        let mut row = now.start;
        while row < now.end {
            let panel = rows.panel_of(row);
            let (first, end) = (row - panel.lane, now.end.min(panel.lane + panel.lanes) - panel.lane);
            let lanes = first / GROUP * GROUP..end.next_multiple_of(GROUP);
            for column in (0..columns.lanes).step_by(HALF) {
                let k = columns.lane + column;
                let (from, within) = (self.at(panel, k / BLOCK), k % BLOCK..k % BLOCK + HALF);
                let (to, lanes) = (aside.wrapping_add(column * panel.width), lanes.clone());
                // SAFETY: the caller's promise; a panel is no wider than what lies aside.
                unsafe { with_form!(self.encoding, decode::<I>(from, panel.width, lanes, within, to)) };
            }
            let view = View::lanes_by_k(aside.wrapping_add(first), panel.width);
            let lot = Lot { view, first: 0, lanes: columns.lanes, k: end - first, scale: 1.0 };
            let to = to.wrapping_add((row - now.start) * columns.width);
            // SAFETY: the caller's promise; these rows of the columns were decoded above.
            unsafe { I::right::<false>(lot, to, columns.width) };
            row = panel.lane + end;
        }
    }

    /// `to = from + x W^T` over the k `now`, whole chains, on the lanes of a panel, for at most [`FEW`] rows whose k lie one
    /// after the other.
    ///
    /// # Safety
    /// The processor has `I`; `left` reaches these k; `from` and `to` reach `rows` x `panel.width`.
    #[inline(always)]
    pub unsafe fn few<I: Isa>(
        &self,
        left: Left,
        rows: usize,
        panel: Panel,
        now: Range<usize>,
        from: Option<Place>,
        to: Place,
    ) {
        let (at, width, blocks) = (self.at(panel, now.start / BLOCK), panel.width, now.len() / BLOCK);
        let row = |i: usize| left.at.wrapping_add(i * left.row).cast::<f32>();
        // SAFETY: the caller's promise.
        unsafe {
            match rows {
                1 => with_form!(self.encoding, few::<I, 1>([row(0)], at, width, blocks, from, to)),
                2 => with_form!(self.encoding, few::<I, 2>([row(0), row(1)], at, width, blocks, from, to)),
                _ => unreachable!("at most {FEW} rows"),
            }
        }
    }
}

/// Where a lane's numbers lie in the block of a panel: its halves, and a byte of its quanta.
struct Lane {
    width: usize,
    lane: usize,
    halves: usize,
}

impl Lane {
    fn of(encoding: Encoding, width: usize, lane: usize) -> Self {
        Self { width, lane, halves: encoding.halves() }
    }

    /// The first byte of f16 number `i`.
    fn half(&self, i: usize) -> usize {
        2 * (i * self.width + self.lane)
    }

    /// Byte `i` of the quanta.
    fn quanta(&self, i: usize) -> usize {
        (2 * self.halves + i) * self.width + self.lane
    }
}

/// Spreads a block of the file over the block of a panel.
fn spread(encoding: Encoding, block: &[u8], to: &mut [u8], width: usize, lane: usize) {
    let at = Lane::of(encoding, width, lane);
    let (halves, quanta) = block.split_at(2 * at.halves);
    for (i, half) in halves.chunks_exact(2).enumerate() {
        to[at.half(i)..at.half(i) + 2].copy_from_slice(half);
    }
    if encoding == Encoding::Q8_0 {
        quanta.iter().enumerate().for_each(|(k, &quantum)| to[at.quanta(k)] = quantum);
        return;
    }
    // The file has k and k + 16 in one byte.
    let nibble = |k: usize| if k < 16 { quanta[k] & 15 } else { quanta[k - 16] >> 4 };
    (0..16).for_each(|pair| to[at.quanta(pair)] = nibble(2 * pair) | nibble(2 * pair + 1) << 4);
}

/// The block of the file again.
fn gather(encoding: Encoding, from: &[u8], block: &mut [u8], width: usize, lane: usize) {
    let at = Lane::of(encoding, width, lane);
    let (halves, quanta) = block.split_at_mut(2 * at.halves);
    for (i, half) in halves.chunks_exact_mut(2).enumerate() {
        half.copy_from_slice(&from[at.half(i)..at.half(i) + 2]);
    }
    if encoding == Encoding::Q8_0 {
        quanta.iter_mut().enumerate().for_each(|(k, quantum)| *quantum = from[at.quanta(k)]);
        return;
    }
    let nibble = |k: usize| from[at.quanta(k / 2)] >> (4 * (k % 2)) & 15;
    quanta.iter_mut().enumerate().for_each(|(k, byte)| *byte = nibble(k) | nibble(k + 16) << 4);
}

/// Decodes some k of a panel's block, an even first and an even number, on some of its lanes, whole vectors of them: to
/// `to[k][width]`, of which the other lanes stay as they are.
#[inline(always)]
unsafe fn decode<I: Isa, F: Form>(from: *const u8, width: usize, lanes: Range<usize>, k: Range<usize>, to: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe {
        let quanta = from.add((2 * F::HALVES + k.start / 2 * F::PAIR) * width);
        for lane in lanes.step_by(I::WIDTH) {
            let halves = from.cast::<u16>().add(lane);
            let scale = I::halves(halves);
            let shift = F::shift::<I>(scale, halves.wrapping_add(width));
            let (mut quanta, mut to) = (quanta.add(lane), to.add(lane));
            for _ in 0..k.len() / 2 {
                let [even, odd] = F::values::<I>(quanta, width, scale, shift);
                I::store(to, even);
                I::store(to.wrapping_add(width), odd);
                to = to.wrapping_add(2 * width);
                quanta = quanta.wrapping_add(F::PAIR * width);
            }
        }
    }
}

#[inline(always)]
unsafe fn few<I: Isa, F: Form, const R: usize>(
    mut x: [*const f32; R],
    mut at: *const u8,
    width: usize,
    mut blocks: usize,
    mut from: Option<Place>,
    to: Place,
) {
    let size = (2 * F::HALVES + BLOCK / 2 * F::PAIR) * width;
    while blocks > 0 {
        let now = blocks.min(CHAIN_UNITS / BLOCK);
        let mut lane = 0;
        while lane < width {
            let vectors = ((width - lane) / I::WIDTH).min(VECTORS);
            // SAFETY: the caller's promise; the lanes lie within the panel.
            unsafe {
                let at = at.add(lane);
                let (from, to) = (from.map(|from| from.after(0, lane)), to.after(0, lane));
                match vectors {
                    1 => chain::<I, F, R, 1>(x, at, lane, width, now, from, to),
                    2 => chain::<I, F, R, 2>(x, at, lane, width, now, from, to),
                    _ => chain::<I, F, R, 3>(x, at, lane, width, now, from, to),
                }
            }
            lane += vectors * I::WIDTH;
        }
        x = x.map(|x| x.wrapping_add(now * BLOCK));
        at = at.wrapping_add(now * size);
        (blocks, from) = (blocks - now, Some(to));
    }
}

/// One chain: `blocks` blocks from zero, added to `from`. `at`: the first byte of the first block, `lane` bytes further.
#[inline(always)]
unsafe fn chain<I: Isa, F: Form, const R: usize, const N: usize>(
    mut x: [*const f32; R],
    mut at: *const u8,
    lane: usize,
    width: usize,
    blocks: usize,
    from: Option<Place>,
    to: Place,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[I::zero(); N]; R];
        for _ in 0..blocks {
            let halves = at.wrapping_add(lane).cast::<u16>();
            let (mut scales, mut shifts) = ([I::zero(); N], [I::zero(); N]);
            for j in 0..N {
                let halves = halves.wrapping_add(j * I::WIDTH);
                scales[j] = I::halves(halves);
                shifts[j] = F::shift::<I>(scales[j], halves.wrapping_add(width));
            }
            let mut quanta = at.add(2 * F::HALVES * width);
            for pair in 0..BLOCK / 2 {
                prefetch(quanta.wrapping_add(AHEAD));
                let mut own = [[I::zero(); 2]; R];
                for (own, x) in own.iter_mut().zip(x) {
                    let x = x.wrapping_add(2 * pair).cast::<u32>();
                    *own = [I::splat(*x), I::splat(*x.wrapping_add(1))];
                }
                for j in 0..N {
                    let values = F::values::<I>(quanta.wrapping_add(j * I::WIDTH), width, scales[j], shifts[j]);
                    for (sums, own) in sums.iter_mut().zip(own) {
                        sums[j] = I::multiply_add(own[0], values[0], sums[j]);
                        sums[j] = I::multiply_add(own[1], values[1], sums[j]);
                    }
                }
                quanta = quanta.wrapping_add(F::PAIR * width);
            }
            at = quanta;
            x = x.map(|x| x.wrapping_add(BLOCK));
        }
        for (i, sums) in sums.into_iter().enumerate() {
            for (j, mut sum) in sums.into_iter().enumerate() {
                if let Some(from) = from {
                    sum = I::add(I::load(from.after(i, j * I::WIDTH).at), sum);
                }
                I::store(to.after(i, j * I::WIDTH).at, sum);
            }
        }
    }
}

/// Asks memory for a cache line.
#[inline(always)]
fn prefetch(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint that touches nothing, of an instruction that every such processor has.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
