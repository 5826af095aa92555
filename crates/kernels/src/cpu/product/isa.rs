//! The instructions that products are built of: one trait, a unit type for each instruction set.
//!
//! A vector register holds `WIDTH` words of 32 bits: f32 values, or pairs of bf16 values (even k in the low half).
//! Every instruction set gives the same sums bit for bit, subnormal numbers aside: the bf16 dot product adds the odd
//! product first and then the even one, each in one rounding, which is what `vdpbf16ps` does; that instruction alone
//! takes subnormal numbers for zero.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

#[cfg(target_arch = "x86_64")]
use super::amx;
use super::tile::{CHAIN_UNITS, Tile};

/// The highest tile of any instruction set.
pub(super) const MOST_ROWS: usize = 32;
/// The lanes of a full panel: three AVX-512 registers, six of AVX2.
pub(super) const PANEL: usize = 48;
/// Lanes of the narrowest panel; panels are whole multiples of it.
pub(super) const GROUP: usize = 16;

/// Loads, stores and fused multiply-adds of one instruction set.
///
/// # Safety of all methods
/// The processor has the instructions, and pointers reach `WIDTH` numbers.
pub(super) trait Isa {
    /// A register.
    type Vector: Copy;
    /// Words in a register; divides [`GROUP`].
    const WIDTH: usize;
    /// Rows of a tile and of a left panel: with `VECTORS` registers of lanes they fit the registers.
    const ROWS: usize;
    /// Registers of lanes computed at once.
    const VECTORS: usize;
    /// Rows of a tile of one register of lanes: eight sums in flight would not hide how long an addition takes.
    const TALL: usize = Self::ROWS;
    /// Units of a left panel are whole multiples of these; what lies past the last is zero.
    const LEFT_UNITS: usize = 1;
    /// Units of k that the tiles of a panel take before the next tile does.
    const PASS_UNITS: usize = CHAIN_UNITS;
    /// Whether a tile adds a piece itself, before its sums are stored.
    const ADDS_PIECES: bool = false;

    /// Before and after a thread's tiles.
    #[inline(always)]
    unsafe fn begin() {}
    #[inline(always)]
    unsafe fn end() {}
    /// Computes a tile. `PACKED`: its left rows lie in panels of `ROWS`.
    #[inline(always)]
    unsafe fn tile<const BF16: bool, const PACKED: bool>(tile: Tile)
    where
        Self: Sized,
    {
        // SAFETY: the caller's promise.
        unsafe { tile.in_registers::<Self, BF16, PACKED>() }
    }
    /// Asks the second-level cache for the line of an address, which may be any.
    #[inline(always)]
    fn prefetch(at: *const u32) {
        let _ = at;
    }
    unsafe fn zero() -> Self::Vector;
    unsafe fn load(from: *const f32) -> Self::Vector;
    unsafe fn store(to: *mut f32, value: Self::Vector);
    unsafe fn splat(word: u32) -> Self::Vector;
    unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    unsafe fn multiply(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a * b + sum` in one rounding.
    unsafe fn multiply_add(a: Self::Vector, b: Self::Vector, sum: Self::Vector) -> Self::Vector;
    /// `WIDTH` f16 as f32.
    unsafe fn halves(from: *const u16) -> Self::Vector;
    /// `WIDTH` signed bytes as f32.
    unsafe fn bytes(from: *const i8) -> Self::Vector;
    /// The low and the high nibbles of `WIDTH` bytes as f32.
    unsafe fn nibbles(from: *const u8) -> [Self::Vector; 2];
    /// Each pair's bf16 of odd k, as f32.
    unsafe fn odd(pairs: Self::Vector) -> Self::Vector;
    /// Each pair's bf16 of even k, as f32.
    unsafe fn even(pairs: Self::Vector) -> Self::Vector;
    /// `sum + a.odd * b.odd`, then `+ a.even * b.even`.
    #[inline(always)]
    unsafe fn dot_pairs(a: Self::Vector, b: Self::Vector, sum: Self::Vector) -> Self::Vector {
        // SAFETY: the caller's promise.
        unsafe {
            let sum = Self::multiply_add(Self::odd(a), Self::odd(b), sum);
            Self::multiply_add(Self::even(a), Self::even(b), sum)
        }
    }
}

/// AMX with bf16 products; what is not a product is done by AVX-512 with the bf16 dot product, which all processors with it have.
#[cfg(target_arch = "x86_64")]
pub(super) struct Amx;
/// AVX-512 with the bf16 dot product.
#[cfg(target_arch = "x86_64")]
pub(super) struct Avx512Bf16;
/// AVX-512 without it.
#[cfg(target_arch = "x86_64")]
pub(super) struct Avx512;
/// AVX2, FMA and F16C, which every processor with AVX2 has.
#[cfg(target_arch = "x86_64")]
pub(super) struct Avx2;
/// What the compiler makes of plain loops: NEON on AArch64.
pub(super) struct Portable;

/// An instruction set of AVX-512: its rows of a tile, those of a tile of one register of lanes, and what else it has or
/// does otherwise.
#[cfg(target_arch = "x86_64")]
macro_rules! avx512 {
    ($name:ident, $rows:expr, $tall:expr, $($more:tt)*) => {
        impl Isa for $name {
            type Vector = __m512;
            const WIDTH: usize = 16;
            const ROWS: usize = $rows;
            const VECTORS: usize = 3;
            const TALL: usize = $tall;

            #[inline(always)]
            fn prefetch(at: *const u32) {
                // SAFETY: a prefetch reads nothing.
                unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
            }
            #[inline(always)]
            unsafe fn zero() -> __m512 {
                // SAFETY: the caller's promise.
                unsafe { _mm512_setzero_ps() }
            }
            #[inline(always)]
            unsafe fn load(from: *const f32) -> __m512 {
                // SAFETY: the caller's promise.
                unsafe { _mm512_loadu_ps(from) }
            }
            #[inline(always)]
            unsafe fn store(to: *mut f32, value: __m512) {
                // SAFETY: the caller's promise.
                unsafe { _mm512_storeu_ps(to, value) }
            }
            #[inline(always)]
            unsafe fn splat(word: u32) -> __m512 {
                // SAFETY: the caller's promise.
                unsafe { _mm512_castsi512_ps(_mm512_set1_epi32(word as i32)) }
            }
            #[inline(always)]
            unsafe fn add(a: __m512, b: __m512) -> __m512 {
                // SAFETY: the caller's promise.
                unsafe { _mm512_add_ps(a, b) }
            }
            #[inline(always)]
            unsafe fn multiply(a: __m512, b: __m512) -> __m512 {
                // SAFETY: the caller's promise.
                unsafe { _mm512_mul_ps(a, b) }
            }
            #[inline(always)]
            unsafe fn multiply_add(a: __m512, b: __m512, sum: __m512) -> __m512 {
                // SAFETY: the caller's promise.
                unsafe { _mm512_fmadd_ps(a, b, sum) }
            }
            #[inline(always)]
            unsafe fn halves(from: *const u16) -> __m512 {
                // SAFETY: the caller's promise.
                unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
            }
            #[inline(always)]
            unsafe fn bytes(from: *const i8) -> __m512 {
                // SAFETY: the caller's promise.
                unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()))) }
            }
            #[inline(always)]
            unsafe fn nibbles(from: *const u8) -> [__m512; 2] {
                // SAFETY: the caller's promise.
                unsafe {
                    let bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast()));
                    let low = _mm512_and_si512(bytes, _mm512_set1_epi32(15));
                    [_mm512_cvtepi32_ps(low), _mm512_cvtepi32_ps(_mm512_srli_epi32::<4>(bytes))]
                }
            }
            #[inline(always)]
            unsafe fn odd(pairs: __m512) -> __m512 {
                // SAFETY: the caller's promise.
                unsafe {
                    let high = _mm512_set1_epi32(0xffff_0000u32 as i32);
                    _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(pairs), high))
                }
            }
            #[inline(always)]
            unsafe fn even(pairs: __m512) -> __m512 {
                // SAFETY: the caller's promise.
                unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_castps_si512(pairs))) }
            }
            $($more)*
        }
    };
}

#[cfg(target_arch = "x86_64")]
avx512!(Avx512, 8, 16,);
#[cfg(target_arch = "x86_64")]
avx512!(
    Avx512Bf16,
    8,
    16,
    #[inline(always)]
    unsafe fn dot_pairs(a: __m512, b: __m512, sum: __m512) -> __m512 {
        // SAFETY: the caller's promise; the three types are the same 64 bytes.
        unsafe {
            let [a, b] = [a, b].map(|pairs| std::mem::transmute::<__m512, __m512bh>(pairs));
            _mm512_dpbf16_ps(sum, a, b)
        }
    }
);

#[cfg(target_arch = "x86_64")]
avx512! {
    Amx,
    amx::ROWS,
    amx::ROWS,
    const LEFT_UNITS: usize = amx::SIDE;
    const PASS_UNITS: usize = 768;
    const ADDS_PIECES: bool = true;

    #[inline(always)]
    unsafe fn begin() {
        // SAFETY: the caller's promise.
        unsafe { amx::begin() }
    }
    #[inline(always)]
    unsafe fn end() {
        // SAFETY: the caller's promise.
        unsafe { amx::end() }
    }
    #[inline(always)]
    unsafe fn tile<const BF16: bool, const PACKED: bool>(tile: Tile) {
        debug_assert!(BF16 && PACKED, "rows of f32, or not packed");
        // SAFETY: the caller's promise.
        unsafe { amx::tile(tile) }
    }
}

#[cfg(target_arch = "x86_64")]
impl Isa for Avx2 {
    type Vector = __m256;
    const WIDTH: usize = 8;
    const ROWS: usize = 6;
    const VECTORS: usize = 2;

    #[inline(always)]
    unsafe fn zero() -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, value: __m256) {
        // SAFETY: the caller's promise.
        unsafe { _mm256_storeu_ps(to, value) }
    }
    #[inline(always)]
    unsafe fn splat(word: u32) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_castsi256_ps(_mm256_set1_epi32(word as i32)) }
    }
    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn multiply(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn multiply_add(a: __m256, b: __m256, sum: __m256) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_fmadd_ps(a, b, sum) }
    }
    #[inline(always)]
    unsafe fn halves(from: *const u16) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
    }
    #[inline(always)]
    unsafe fn bytes(from: *const i8) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()))) }
    }
    #[inline(always)]
    unsafe fn nibbles(from: *const u8) -> [__m256; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            let bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast()));
            let low = _mm256_and_si256(bytes, _mm256_set1_epi32(15));
            [_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(_mm256_srli_epi32::<4>(bytes))]
        }
    }
    #[inline(always)]
    unsafe fn odd(pairs: __m256) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe {
            let high = _mm256_set1_epi32(0xffff_0000u32 as i32);
            _mm256_castsi256_ps(_mm256_and_si256(_mm256_castps_si256(pairs), high))
        }
    }
    #[inline(always)]
    unsafe fn even(pairs: __m256) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_castps_si256(pairs))) }
    }
}

impl Isa for Portable {
    type Vector = [f32; 4];
    const WIDTH: usize = 4;
    const ROWS: usize = 4;
    const VECTORS: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> [f32; 4] {
        [0.0; 4]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> [f32; 4] {
        // SAFETY: the caller's promise.
        unsafe { from.cast::<[f32; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, value: [f32; 4]) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(value) }
    }
    #[inline(always)]
    unsafe fn splat(word: u32) -> [f32; 4] {
        [f32::from_bits(word); 4]
    }
    #[inline(always)]
    unsafe fn add(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn multiply(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn multiply_add(a: [f32; 4], b: [f32; 4], sum: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| a[i].mul_add(b[i], sum[i]))
    }
    #[inline(always)]
    unsafe fn halves(from: *const u16) -> [f32; 4] {
        // SAFETY: the caller's promise.
        unsafe { from.cast::<[u16; 4]>().read_unaligned() }.map(|bits| half::f16::from_bits(bits).to_f32_const())
    }
    #[inline(always)]
    unsafe fn bytes(from: *const i8) -> [f32; 4] {
        // SAFETY: the caller's promise.
        unsafe { from.cast::<[i8; 4]>().read_unaligned() }.map(f32::from)
    }
    #[inline(always)]
    unsafe fn nibbles(from: *const u8) -> [[f32; 4]; 2] {
        // SAFETY: the caller's promise.
        let bytes = unsafe { from.cast::<[u8; 4]>().read_unaligned() };
        [bytes.map(|byte| f32::from(byte & 15)), bytes.map(|byte| f32::from(byte >> 4))]
    }
    #[inline(always)]
    unsafe fn odd(pairs: [f32; 4]) -> [f32; 4] {
        pairs.map(|p| f32::from_bits(p.to_bits() & 0xffff_0000))
    }
    #[inline(always)]
    unsafe fn even(pairs: [f32; 4]) -> [f32; 4] {
        pairs.map(|p| f32::from_bits(p.to_bits() << 16))
    }
}

/// An instruction set that this processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instructions {
    /// AMX with bf16 products, beside what follows.
    Amx,
    /// AVX-512 with the bf16 dot product.
    Avx512Bf16,
    /// AVX-512 (F, BW, DQ, VL).
    Avx512,
    /// AVX2, FMA and F16C.
    Avx2,
    /// What every processor of the target has.
    Baseline,
}

impl Instructions {
    /// All, the best first.
    pub const ALL: [Self; 5] = [Self::Amx, Self::Avx512Bf16, Self::Avx512, Self::Avx2, Self::Baseline];

    /// Whether this processor has them.
    pub fn available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            let avx2 =
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
            match self {
                Self::Amx => Self::Avx512Bf16.available() && amx::available(),
                Self::Avx512Bf16 => avx512 && avx2 && is_x86_feature_detected!("avx512bf16"),
                Self::Avx512 => avx512 && avx2,
                Self::Avx2 => avx2,
                Self::Baseline => true,
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Self::Baseline
        }
    }

    /// The best that this processor has, or what was chosen before this was first asked; found out once.
    pub fn best() -> Self {
        *CHOSEN.get_or_init(|| Self::ALL.into_iter().find(|i| i.available()).unwrap_or(Self::Baseline))
    }

    /// Sets what [`Instructions::best`] says. False where the processor does not have them, or others are in use already.
    pub fn choose(self) -> bool {
        self.available() && *CHOSEN.get_or_init(|| self) == self
    }

    /// Whether products of bf16 are faster than those of f32. AMD's Zen 4 begins a dot product of bf16 pairs as often as a
    /// multiply-add of f32: twice the rate. Intel's cores begin one every other cycle and two multiply-adds in each: half
    /// the rate, measured on an Emerald Rapids. What they have for bf16 is AMX, more than ten times the rate of f32.
    pub fn gains_by_bf16(self) -> bool {
        self == Self::Amx || self == Self::Avx512Bf16 && !made_by_intel()
    }

    /// "amx_bf16", "avx512_bf16", "avx512", "avx2", or the architecture's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amx => "amx_bf16",
            Self::Avx512Bf16 => "avx512_bf16",
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Baseline => std::env::consts::ARCH,
        }
    }
}

/// What the process uses.
static CHOSEN: std::sync::OnceLock<Instructions> = std::sync::OnceLock::new();

#[cfg(target_arch = "x86_64")]
fn made_by_intel() -> bool {
    let vendor = __cpuid(0);
    [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).concat() == b"GenuineIntel"
}

#[cfg(not(target_arch = "x86_64"))]
fn made_by_intel() -> bool {
    false
}
