//! The innermost loop: a tile of the result in registers, chains of additions over blocks of k for each element.

use super::isa::Isa;

/// Units of k in one chain. Each chain begins at zero, and its sum is added to those before it: rounding grows with the
/// length of a chain and the number of chains, not with all of k. Boundaries lie at multiples of this, whatever else.
pub(super) const CHAIN_UNITS: usize = 128;

/// Where a matrix of results begins, and how far its rows are apart.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct Place {
    pub at: *mut f32,
    pub stride: usize,
}

impl Place {
    /// The same matrix from this row and column on.
    #[inline(always)]
    pub(super) fn after(self, row: usize, col: usize) -> Self {
        Self { at: self.at.wrapping_add(row * self.stride + col), ..self }
    }
}

/// `to = from + A B` over `units` words of k. `a`: [unit][I::ROWS] words, `b`: [unit][width] words.
/// Without `from`: from zero. `rows` <= I::ROWS; `width` a multiple of GROUP, at most PANEL.
///
/// # Safety
/// The processor has `I`; `a` and `b` reach `units` units; `from` and `to` reach `rows` x `width`, and nothing else
/// touches `to`.
#[inline(always)]
pub(super) unsafe fn tile<I: Isa, const BF16: bool>(
    units: usize,
    a: *const u32,
    b: *const u32,
    rows: usize,
    width: usize,
    from: Option<Place>,
    to: Place,
) {
    let mut lane = 0;
    while lane < width {
        let vectors = ((width - lane) / I::WIDTH).min(I::VECTORS);
        // SAFETY: the caller's promise; the lanes lie within the tile.
        unsafe {
            let b = b.add(lane);
            let (from, to) = (from.map(|from| from.after(0, lane)), to.after(0, lane));
            match vectors {
                1 => rows_of::<I, BF16, 1>(units, a, b, rows, width, from, to),
                2 => rows_of::<I, BF16, 2>(units, a, b, rows, width, from, to),
                3 => rows_of::<I, BF16, 3>(units, a, b, rows, width, from, to),
                _ => rows_of::<I, BF16, 4>(units, a, b, rows, width, from, to),
            }
        }
        lane += vectors * I::WIDTH;
    }
}

#[inline(always)]
unsafe fn rows_of<I: Isa, const BF16: bool, const N: usize>(
    units: usize,
    a: *const u32,
    b: *const u32,
    rows: usize,
    width: usize,
    from: Option<Place>,
    to: Place,
) {
    if N > I::VECTORS {
        return;
    }
    // SAFETY: the caller's promise.
    unsafe {
        match rows {
            1 => chains::<I, BF16, 1, N>(units, a, b, width, from, to),
            2 => chains::<I, BF16, 2, N>(units, a, b, width, from, to),
            3 => chains::<I, BF16, 3, N>(units, a, b, width, from, to),
            4 => chains::<I, BF16, 4, N>(units, a, b, width, from, to),
            5 if I::ROWS >= 6 => chains::<I, BF16, 5, N>(units, a, b, width, from, to),
            6 if I::ROWS >= 6 => chains::<I, BF16, 6, N>(units, a, b, width, from, to),
            7 if I::ROWS >= 8 => chains::<I, BF16, 7, N>(units, a, b, width, from, to),
            8 if I::ROWS >= 8 => chains::<I, BF16, 8, N>(units, a, b, width, from, to),
            _ => unreachable!("a tile of at most {} rows", I::ROWS),
        }
    }
}

#[inline(always)]
unsafe fn chains<I: Isa, const BF16: bool, const R: usize, const N: usize>(
    units: usize,
    mut a: *const u32,
    mut b: *const u32,
    width: usize,
    from: Option<Place>,
    to: Place,
) {
    let (mut from, mut left) = (from, units);
    loop {
        let now = left.min(CHAIN_UNITS);
        left -= now;
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[I::zero(); N]; R];
            for _ in 0..now {
                let mut lanes = [I::zero(); N];
                for (j, lanes) in lanes.iter_mut().enumerate() {
                    *lanes = I::load(b.add(j * I::WIDTH).cast());
                }
                for (i, sums) in sums.iter_mut().enumerate() {
                    let own = I::splat(*a.add(i));
                    for (sum, lanes) in sums.iter_mut().zip(lanes) {
                        *sum = if BF16 { I::dot_pairs(own, lanes, *sum) } else { I::multiply_add(own, lanes, *sum) };
                    }
                }
                a = a.add(I::ROWS);
                b = b.add(width);
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
        if left == 0 {
            return;
        }
        from = Some(to);
    }
}
