//! Packing: f32 matrices into panels of words in the order in which a tile reads them.
//!
//! A panel holds up to `stride` lanes (rows or columns of a matrix) as [unit][stride] words. A unit is one f32, or a
//! pair of bf16 of two consecutive k; what lies past the matrix is zero. Rounding to bf16 is to nearest, ties to even.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;
use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use super::isa::{Avx2, Avx512, Avx512Bf16};
use super::isa::{GROUP, Isa, PANEL, Portable};
use super::tile::Left;

/// A matrix to read, as lanes by k.
#[derive(Clone, Copy)]
pub(crate) struct View {
    start: *const f32,
    stride: usize,
    lanes_outside: bool,
}

impl View {
    /// Row i of the matrix is lane i: k runs along a row.
    pub const fn lanes_by_k(start: *const f32, stride: usize) -> Self {
        Self { start, stride, lanes_outside: true }
    }

    /// Row i of the matrix is k = i: lanes run along a row.
    pub const fn k_by_lanes(start: *const f32, stride: usize) -> Self {
        Self { start, stride, lanes_outside: false }
    }

    /// The same matrix without the k before this one.
    pub fn after(self, k: usize) -> Self {
        let offset = if self.lanes_outside { k } else { k * self.stride };
        Self { start: self.start.wrapping_add(offset), ..self }
    }

    /// The lanes from this one and the k from this one on, as a left operand of f32 that tiles read as it is.
    pub(super) fn rows_from(self, lane: usize, k: usize) -> Left {
        let (row, unit) = if self.lanes_outside { (self.stride, 1) } else { (1, self.stride) };
        Left { at: self.at(lane, k).cast(), row, unit }
    }

    /// Whether the k of a lane lie one after the other.
    pub(super) fn runs_of_k(self) -> bool {
        self.lanes_outside
    }

    fn at(self, lane: usize, k: usize) -> *const f32 {
        let offset = if self.lanes_outside { lane * self.stride + k } else { k * self.stride + lane };
        self.start.wrapping_add(offset)
    }
}

/// Units of k: pairs of bf16, or single f32.
pub(super) const fn units(bf16: bool, k: usize) -> usize {
    if bf16 { k.div_ceil(2) } else { k }
}

/// An f32 as bf16: to nearest, ties to even, as `vcvtneps2bf16` does it (subnormal numbers become zero).
#[inline(always)]
pub(in crate::cpu) fn round_bf16(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    let special =
        if bits & 0x007f_ffff != 0 && bits & 0x7f80_0000 == 0x7f80_0000 { (bits >> 16) | 0x40 } else { rounded };
    if bits & 0x7f80_0000 == 0 { (bits >> 16) & 0x8000 } else { special }
}

/// What is packed of a matrix: `lanes` of its lanes from `first` on, so many k of each, scaled.
#[derive(Clone, Copy)]
pub(super) struct Lot {
    pub view: View,
    pub first: usize,
    pub lanes: usize,
    pub k: usize,
    pub scale: f32,
}

impl Lot {
    /// At most `count` of its lanes, without those `before`.
    pub fn part(self, before: usize, count: usize) -> Self {
        Self { first: self.first + before, lanes: self.lanes.saturating_sub(before).min(count), ..self }
    }

    /// These k of it.
    pub fn of_k(self, k: Range<usize>) -> Self {
        Self { view: self.view.after(k.start), k: k.len(), ..self }
    }

    /// At most `most` units of it, from this one on.
    pub fn of_units<const BF16: bool>(self, first: usize, most: usize) -> Self {
        let each = if BF16 { 2 } else { 1 };
        self.of_k(first * each..self.k.min((first + most) * each))
    }

    /// Where a lane of it has this k.
    #[cfg(target_arch = "x86_64")]
    pub fn at(self, lane: usize, k: usize) -> *const f32 {
        self.view.at(self.first + lane, k)
    }

    /// The word of a lane at a unit of k.
    ///
    /// # Safety
    /// The view reaches the lane and, where they are below `k`, the unit's k.
    #[inline(always)]
    unsafe fn word<const BF16: bool>(self, lane: usize, unit: usize) -> u32 {
        let Self { view, first, k, scale, .. } = self;
        let at = |k| view.at(first + lane, k);
        // SAFETY: the caller's promise.
        unsafe {
            if !BF16 {
                return (*at(unit) * scale).to_bits();
            }
            let even = round_bf16(*at(2 * unit) * scale);
            let odd = if 2 * unit + 1 < k { round_bf16(*at(2 * unit + 1) * scale) } else { 0 };
            even | odd << 16
        }
    }
}

/// Packs panels with one instruction set.
///
/// # Safety of all methods
/// The processor has the instructions; the view reaches the lanes and k asked for; the target what is written.
pub(super) trait Pack: Isa + Sized {
    /// Rows of a left operand as panels of `ROWS`, `apart` words from one to the next; [`Isa::LEFT_UNITS`] at a time.
    #[inline(always)]
    unsafe fn left<const BF16: bool>(rows: Lot, to: *mut u32, apart: usize) {
        for (panel, row) in (0..rows.lanes).step_by(Self::ROWS).enumerate() {
            let (part, all) = (rows.part(row, Self::ROWS), 0..units(BF16, rows.k));
            // SAFETY: the caller's promise.
            unsafe { panel_by_words::<BF16>(part, all, to.add(panel * apart), Self::ROWS, Self::ROWS) };
        }
    }

    /// Lanes of a right operand as one panel of `width` lanes.
    #[inline(always)]
    unsafe fn right<const BF16: bool>(lanes: Lot, to: *mut u32, width: usize) {
        // SAFETY: the caller's promise.
        unsafe { panel_by_words::<BF16>(lanes, 0..units(BF16, lanes.k), to, width, width) };
    }

    /// Lanes of a right operand as panels of `PANEL` lanes, the last narrower, `apart` words from one to the next.
    #[inline(always)]
    unsafe fn panels<const BF16: bool>(lanes: Lot, to: *mut u32, apart: usize) {
        // SAFETY: the caller's promise.
        unsafe { panels_by_units::<Self, BF16>(lanes, to, apart) };
    }
}

/// Units that are packed together where rows or lanes lie side by side in the matrix.
pub(super) const TOGETHER: usize = 16;

/// Some units of all panels, then the next: where the matrix's rows are k, they are read in long runs.
#[inline(always)]
pub(super) unsafe fn panels_by_units<P: Pack, const BF16: bool>(lanes: Lot, to: *mut u32, apart: usize) {
    let all = units(BF16, lanes.k);
    let step = if lanes.lanes > PANEL { TOGETHER } else { all.max(1) };
    for first in (0..all).step_by(step) {
        for (panel, lane) in (0..lanes.lanes).step_by(PANEL).enumerate() {
            let part = lanes.part(lane, PANEL).of_units::<BF16>(first, step);
            let width = part.lanes.next_multiple_of(GROUP);
            // SAFETY: the caller's promise.
            unsafe { P::right::<BF16>(part, to.add(panel * apart + first * width), width) };
        }
    }
}

/// Words of `count` lanes, of which the lot's exist, at the units `of`: to `to[unit * stride + 0..count]`.
#[inline(always)]
unsafe fn panel_by_words<const BF16: bool>(lot: Lot, of: Range<usize>, to: *mut u32, count: usize, stride: usize) {
    for unit in of {
        for i in 0..count {
            // SAFETY: the caller's promise.
            unsafe { *to.add(unit * stride + i) = if i < lot.lanes { lot.word::<BF16>(i, unit) } else { 0 } };
        }
    }
}

impl Pack for Portable {}

/// Transposes eight rows of eight words.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn transpose(rows: [__m256i; 8]) -> [__m256i; 8] {
    // SAFETY: the caller has AVX2.
    unsafe {
        let mut pairs = rows;
        for i in 0..4 {
            pairs[2 * i] = _mm256_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
            pairs[2 * i + 1] = _mm256_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
        }
        let mut fours = pairs;
        for o in [0, 4] {
            fours[o] = _mm256_unpacklo_epi64(pairs[o], pairs[o + 2]);
            fours[o + 1] = _mm256_unpackhi_epi64(pairs[o], pairs[o + 2]);
            fours[o + 2] = _mm256_unpacklo_epi64(pairs[o + 1], pairs[o + 3]);
            fours[o + 3] = _mm256_unpackhi_epi64(pairs[o + 1], pairs[o + 3]);
        }
        let mut eights = fours;
        for i in 0..4 {
            eights[i] = _mm256_permute2x128_si256::<0x20>(fours[i], fours[i + 4]);
            eights[i + 4] = _mm256_permute2x128_si256::<0x31>(fours[i], fours[i + 4]);
        }
        eights
    }
}

#[cfg(target_arch = "x86_64")]
impl Avx2 {
    /// Eight f32 as bf16 in the low halves of words, by the rules of [`round_bf16`].
    #[inline(always)]
    unsafe fn round(values: __m256) -> __m256i {
        // SAFETY: the caller has AVX2.
        unsafe {
            let bits = _mm256_castps_si256(values);
            let exponent = _mm256_set1_epi32(0x7f80_0000);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
            let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x40_0000));
            let of_exponent = _mm256_and_si256(bits, exponent);
            let tiny = _mm256_cmpeq_epi32(of_exponent, _mm256_setzero_si256());
            let unordered = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(values, values));
            let kept = _mm256_blendv_epi8(rounded, quiet, unordered);
            let sign = _mm256_and_si256(bits, _mm256_set1_epi32(i32::MIN));
            _mm256_srli_epi32::<16>(_mm256_blendv_epi8(kept, sign, tiny))
        }
    }

    /// Eight words of one lane, of units that follow each other: 8 f32, or 16 as pairs.
    #[inline(always)]
    unsafe fn along<const BF16: bool>(from: *const f32, factor: __m256) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe {
            let low = _mm256_mul_ps(_mm256_loadu_ps(from), factor);
            if !BF16 {
                return _mm256_castps_si256(low);
            }
            let high = _mm256_mul_ps(_mm256_loadu_ps(from.add(8)), factor);
            // Pairs as words in the even places; then the even places side by side.
            let [low, high] = [low, high].map(|values| {
                let rounded = Self::round(values);
                _mm256_castsi256_ps(_mm256_or_si256(rounded, _mm256_srli_epi64::<16>(rounded)))
            });
            let words = _mm256_castps_si256(_mm256_shuffle_ps::<0b10_00_10_00>(low, high));
            _mm256_permute4x64_epi64::<0b11_01_10_00>(words)
        }
    }

    /// Words of eight lanes at one unit: `odd` is where its second k begins, none past the end.
    #[inline(always)]
    unsafe fn across<const BF16: bool>(even: *const f32, odd: Option<*const f32>, factor: __m256) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe {
            let even = _mm256_mul_ps(_mm256_loadu_ps(even), factor);
            if !BF16 {
                return _mm256_castps_si256(even);
            }
            let odd = odd.map_or(_mm256_setzero_ps(), |odd| _mm256_mul_ps(_mm256_loadu_ps(odd), factor));
            _mm256_or_si256(Self::round(even), _mm256_slli_epi32::<16>(Self::round(odd)))
        }
    }

    /// Stores the first `count` words, 6 or 8.
    #[inline(always)]
    unsafe fn store_words(to: *mut u32, words: __m256i, count: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            if count == 8 {
                _mm256_storeu_si256(to.cast(), words);
            } else {
                _mm_storeu_si128(to.cast(), _mm256_castsi256_si128(words));
                _mm_storel_epi64(to.add(4).cast(), _mm256_extracti128_si256::<1>(words));
            }
        }
    }

    /// `count` lanes, 6 or 8, of which the lot's exist: to `to[unit * stride + 0..count]`.
    #[inline(always)]
    unsafe fn lanes<const BF16: bool>(lot: Lot, to: *mut u32, count: usize, stride: usize) {
        let Lot { view, first, lanes, k, scale } = lot;
        let of_k = if BF16 { 2 } else { 1 };
        // SAFETY: the caller's promise; vectors are read where all their elements exist.
        unsafe {
            let factor = _mm256_set1_ps(scale);
            let mut done = 0;
            if view.lanes_outside {
                while (done + 8) * of_k <= k {
                    let mut rows = [_mm256_setzero_si256(); 8];
                    for (i, row) in rows.iter_mut().enumerate().take(lanes.min(count)) {
                        *row = Self::along::<BF16>(view.at(first + i, done * of_k), factor);
                    }
                    for (i, words) in transpose(rows).into_iter().enumerate() {
                        Self::store_words(to.add((done + i) * stride), words, count);
                    }
                    done += 8;
                }
            } else if lanes >= 8 {
                while done < units(BF16, k) {
                    let odd = (BF16 && done * of_k + 1 < k).then(|| view.at(first, done * of_k + 1));
                    let words = Self::across::<BF16>(view.at(first, done * of_k), odd, factor);
                    Self::store_words(to.add(done * stride), words, count);
                    done += 1;
                }
            }
            panel_by_words::<BF16>(lot, done..units(BF16, k), to, count, stride);
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl Pack for Avx2 {
    #[inline(always)]
    unsafe fn left<const BF16: bool>(rows: Lot, to: *mut u32, apart: usize) {
        for (panel, row) in (0..rows.lanes).step_by(Self::ROWS).enumerate() {
            // Lanes past the sixth are read where they exist, and not stored.
            let part = rows.part(row, usize::MAX);
            // SAFETY: the caller's promise.
            unsafe { Self::lanes::<BF16>(part, to.add(panel * apart), Self::ROWS, Self::ROWS) };
        }
    }

    #[inline(always)]
    unsafe fn right<const BF16: bool>(lanes: Lot, to: *mut u32, width: usize) {
        for group in (0..width).step_by(8) {
            // SAFETY: the caller's promise.
            unsafe { Self::lanes::<BF16>(lanes.part(group, usize::MAX), to.add(group), 8, width) };
        }
    }
}

/// Where rows of a matrix are k, units whose lines are asked for before they are read: a step from row to row is longer than what
/// processors foresee. The first where whole rows are read, the other where a line or some of each are.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 2;
#[cfg(target_arch = "x86_64")]
const FAR: usize = 8;

/// The low `count` bits.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn mask(count: usize) -> u16 {
    if count >= 16 { 0xffff } else { (1 << count) - 1 }
}

/// The AVX-512 packers, with `$round` and `$round_two` for rounding.
#[cfg(target_arch = "x86_64")]
macro_rules! avx512 {
    ($name:ident, $round:path, $round_two:path) => {
        impl $name {
            /// Up to 8 lanes from a matrix whose rows are lanes: words to `to[unit * stride + 0..8]`.
            #[inline(always)]
            unsafe fn eight_lanes<const BF16: bool>(lot: Lot, mut to: *mut u32, stride: usize) {
                let Lot { view, first, lanes, k, scale } = lot;
                // SAFETY: the caller's promise; masks keep loads within k.
                unsafe {
                    let step = if BF16 { 16 } else { 8 };
                    let factor = _mm512_set1_ps(scale);
                    for start in (0..k).step_by(step) {
                        let left = (k - start).min(step);
                        let mut rows = [_mm256_setzero_si256(); 8];
                        for (i, row) in rows.iter_mut().enumerate().take(lanes) {
                            let values = _mm512_maskz_loadu_ps(mask(left), view.at(first + i, start));
                            let values = _mm512_mul_ps(values, factor);
                            *row =
                                if BF16 { $round(values) } else { _mm512_castsi512_si256(_mm512_castps_si512(values)) };
                        }
                        let units = if BF16 { left.div_ceil(2) } else { left };
                        for (i, words) in transpose(rows).iter().enumerate().take(units) {
                            _mm256_storeu_si256(to.add(i * stride).cast(), *words);
                        }
                        to = to.add(units * stride);
                    }
                }
            }

            /// Words of the `present` ones of sixteen lanes at one unit: `odd` is where its second k begins, none past the end.
            #[inline(always)]
            unsafe fn across<const BF16: bool>(
                even: *const f32,
                odd: Option<*const f32>,
                present: u16,
                factor: __m512,
            ) -> __m512i {
                // SAFETY: the caller's promise; masks keep loads within the lanes.
                unsafe {
                    let at = |row| _mm512_mul_ps(_mm512_maskz_loadu_ps(present, row), factor);
                    if !BF16 {
                        return _mm512_castps_si512(at(even));
                    }
                    $round_two(odd.map_or(_mm512_setzero_ps(), at), at(even))
                }
            }

            /// Up to 16 lanes from a matrix whose rows are k: the first eight to `low[unit * stride + 0..8]`, the
            /// others to `high` alike, which is null where there are at most eight.
            #[inline(always)]
            unsafe fn sixteen_lanes<const BF16: bool>(lot: Lot, low: *mut u32, high: *mut u32, stride: usize) {
                let Lot { view, first, lanes, k, scale } = lot;
                // SAFETY: the caller's promise; masks keep loads within the lanes.
                unsafe {
                    let (step, present, factor) = (if BF16 { 2 } else { 1 }, mask(lanes), _mm512_set1_ps(scale));
                    for unit in 0..units(BF16, k) {
                        for k in 0..step {
                            _mm_prefetch::<_MM_HINT_T0>(view.at(first, (unit + FAR) * step + k).cast());
                        }
                        let odd = (BF16 && unit * step + 1 < k).then(|| view.at(first, unit * step + 1));
                        let words = Self::across::<BF16>(view.at(first, unit * step), odd, present, factor);
                        _mm256_storeu_si256(low.add(unit * stride).cast(), _mm512_castsi512_si256(words));
                        if !high.is_null() {
                            let words = _mm512_extracti64x4_epi64::<1>(words);
                            _mm256_storeu_si256(high.add(unit * stride).cast(), words);
                        }
                    }
                }
            }
        }

        impl Pack for $name {
            #[inline(always)]
            unsafe fn right<const BF16: bool>(lanes: Lot, to: *mut u32, width: usize) {
                // SAFETY: the caller's promise.
                unsafe {
                    if lanes.view.lanes_outside {
                        for group in (0..width).step_by(8) {
                            Self::eight_lanes::<BF16>(lanes.part(group, 8), to.add(group), width);
                        }
                    } else {
                        for group in (0..width).step_by(16) {
                            let low = to.add(group);
                            Self::sixteen_lanes::<BF16>(lanes.part(group, 16), low, low.add(8), width);
                        }
                    }
                }
            }

            /// Where the matrix's rows are k, they are read from one end to the other, two by two: in the order in which they lie.
            #[inline(always)]
            unsafe fn panels<const BF16: bool>(lanes: Lot, to: *mut u32, apart: usize) {
                let Lot { view, first, lanes: count, k, scale } = lanes;
                // SAFETY: the caller's promise; masks keep loads within the lanes.
                unsafe {
                    if view.lanes_outside {
                        return panels_by_units::<Self, BF16>(lanes, to, apart);
                    }
                    let (step, factor, stride) = (if BF16 { 2 } else { 1 }, _mm512_set1_ps(scale), view.stride);
                    for unit in 0..units(BF16, k) {
                        let (even, odd) = (view.at(first, unit * step), view.at(first, unit * step + 1));
                        let paired = BF16 && unit * step + 1 < k;
                        for (panel, lane) in (0..count).step_by(PANEL).enumerate() {
                            let wide = (count - lane).min(PANEL);
                            let width = wide.next_multiple_of(GROUP);
                            let to = to.add(panel * apart + unit * width);
                            for group in (0..width).step_by(16) {
                                let place = |row: *const f32| row.wrapping_add(lane + group);
                                for row in &[even, odd][..step] {
                                    _mm_prefetch::<_MM_HINT_T0>(place(row.wrapping_add(AHEAD * step * stride)).cast());
                                }
                                let words = Self::across::<BF16>(
                                    place(even),
                                    paired.then(|| place(odd)),
                                    mask(wide - group),
                                    factor,
                                );
                                _mm512_storeu_si512(to.add(group).cast(), words);
                            }
                        }
                    }
                }
            }

            #[inline(always)]
            unsafe fn left<const BF16: bool>(rows: Lot, mut to: *mut u32, apart: usize) {
                let mut row = 0;
                while row < rows.lanes {
                    // SAFETY: the caller's promise.
                    unsafe {
                        if rows.view.lanes_outside {
                            Self::eight_lanes::<BF16>(rows.part(row, 8), to, 8);
                            row += 8;
                            to = to.add(apart);
                        } else {
                            let high = if rows.lanes - row > 8 { to.add(apart) } else { std::ptr::null_mut() };
                            Self::sixteen_lanes::<BF16>(rows.part(row, 16), to, high, 8);
                            row += 16;
                            to = to.wrapping_add(2 * apart);
                        }
                    }
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
avx512!(Avx512Bf16, hardware::round, hardware::round_two);
#[cfg(target_arch = "x86_64")]
avx512!(Avx512, software::round, software::round_two);

/// Rounding by AVX-512 BF16.
#[cfg(target_arch = "x86_64")]
pub(super) mod hardware {
    use super::*;

    /// Sixteen f32 as sixteen bf16.
    #[inline(always)]
    pub unsafe fn round(values: __m512) -> __m256i {
        // SAFETY: the caller has AVX-512 BF16; both types are the same 32 bytes.
        unsafe { std::mem::transmute(_mm512_cvtneps_pbh(values)) }
    }

    /// Two times sixteen f32 as sixteen pairs of bf16, `odd` in the high halves.
    #[inline(always)]
    pub unsafe fn round_two(odd: __m512, even: __m512) -> __m512i {
        // SAFETY: as above; index 2i takes the even value, 2i + 1 the odd one.
        unsafe {
            let mut order = [0u16; 32];
            for i in 0..16 {
                order[2 * i] = i as u16;
                order[2 * i + 1] = 16 + i as u16;
            }
            let halves: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(odd, even));
            _mm512_permutexvar_epi16(std::mem::transmute::<[u16; 32], __m512i>(order), halves)
        }
    }
}

/// The same rounding by AVX-512 F.
#[cfg(target_arch = "x86_64")]
mod software {
    use super::*;

    #[inline(always)]
    unsafe fn words(values: __m512) -> __m512i {
        // SAFETY: the caller has AVX-512 F; the array and the register are the same 64 bytes.
        unsafe {
            let values: [f32; 16] = std::mem::transmute(values);
            std::mem::transmute(values.map(round_bf16))
        }
    }

    #[inline(always)]
    pub unsafe fn round(values: __m512) -> __m256i {
        // SAFETY: the caller has AVX-512 F.
        unsafe { _mm512_cvtepi32_epi16(words(values)) }
    }

    #[inline(always)]
    pub unsafe fn round_two(odd: __m512, even: __m512) -> __m512i {
        // SAFETY: the caller has AVX-512 F.
        unsafe { _mm512_or_si512(_mm512_slli_epi32::<16>(words(odd)), words(even)) }
    }
}

/// The f32 that a packed word holds at k (or at k of its pair).
pub(super) fn unpack(bf16: bool, word: u32, k: usize) -> f32 {
    match (bf16, k % 2) {
        (false, _) => f32::from_bits(word),
        (true, 0) => f32::from_bits(word << 16),
        (true, _) => f32::from_bits(word & 0xffff_0000),
    }
}
