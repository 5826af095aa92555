//! The innermost loop: a tile of the result in registers, chains of additions over blocks of k for each element.

use super::isa::Isa;

/// Units of k in one chain. Each chain begins at zero, and its sum is added to those before it: rounding grows with the
/// length of a chain and the number of chains, not with all of k. Boundaries lie at multiples of this, whatever else.
pub(super) const CHAIN_UNITS: usize = 128;

/// A left operand as a tile reads it: the word of row i at unit u lies `i * row + u * unit` words after `at`.
#[derive(Clone, Copy)]
pub(super) struct Left {
    pub at: *const u32,
    pub row: usize,
    pub unit: usize,
}

impl Left {
    /// Packed panels of `height` rows and so many units. Here the rows of a panel lie side by side, and `row` is a panel.
    pub fn packed(at: *const u32, height: usize, units: usize) -> Self {
        Self { at, row: height * units, unit: height }
    }

    /// The packed panels from the one that begins with this row on, without the units before this one.
    pub fn panel_of(self, row: usize, unit: usize) -> Self {
        Self { at: self.at.wrapping_add(self.before(true, self.unit, row) + unit * self.unit), ..self }
    }

    /// Words before a row, in panels of `height` rows where they are packed.
    #[inline(always)]
    fn before(self, packed: bool, height: usize, row: usize) -> usize {
        if packed { row / height * self.row + row % height } else { row * self.row }
    }
}

/// A right operand as a tile reads it: the lanes of a unit lie side by side, `unit` words after those of the last.
#[derive(Clone, Copy)]
pub(super) struct Right {
    pub at: *const u32,
    pub unit: usize,
}

/// What a tile asks the second-level cache for while it computes: a word at each unit, `unit` words further each time.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    pub at: *const u32,
    pub unit: usize,
}

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

/// A tile to compute: `to = from + left right` over `units` words of k, in `rows` rows and `width` lanes, a multiple of GROUP and
/// at most PANEL. Without `from`: from zero. `ahead` is only asked for.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub units: usize,
    pub left: Left,
    pub right: Right,
    pub ahead: Ahead,
    pub rows: usize,
    pub width: usize,
    pub from: Option<Place>,
    pub to: Place,
    /// Where [`Isa::ADDS_PIECES`].
    pub then: Option<Then>,
    /// Where the next tile's results lie, as far as can be told; only asked for.
    pub next: Place,
}

/// What a tile adds after its own units.
#[derive(Clone, Copy)]
pub(super) struct Then {
    pub units: usize,
    pub left: Left,
    pub right: Right,
}

impl Tile {
    /// The most rows of a tile of so many lanes.
    #[inline(always)]
    pub fn most_rows<I: Isa>(width: usize) -> usize {
        if width == I::WIDTH { I::TALL } else { I::ROWS }
    }

    /// Computes it. `PACKED`: the left rows lie in panels of I::ROWS.
    ///
    /// # Safety
    /// The processor has `I`; `left` and `right` reach `units` units; `from` and `to` reach `rows` x `width`, and nothing
    /// else touches `to`.
    #[inline(always)]
    pub unsafe fn compute<I: Isa, const BF16: bool, const PACKED: bool>(self) {
        // SAFETY: the caller's promise.
        unsafe { I::tile::<BF16, PACKED>(self) }
    }

    /// Computes it in vector registers.
    ///
    /// # Safety
    /// As for [`Tile::compute`].
    #[inline(always)]
    pub unsafe fn in_registers<I: Isa, const BF16: bool, const PACKED: bool>(self) {
        let most = Self::most_rows::<I>(self.width);
        debug_assert!(self.rows <= most, "a tile of {} rows, at most {most}", self.rows);
        let mut row = 0;
        // Of an edge tile some rows, then the others: every height and width is code of its own, and takes its time to compile.
        while row < self.rows {
            let height = match self.rows - row {
                tall if tall >= I::TALL => I::TALL,
                whole if whole >= I::ROWS => I::ROWS,
                4.. => 4,
                some => some.min(2),
            };
            let mut lane = 0;
            while lane < self.width {
                let vectors = ((self.width - lane) / I::WIDTH).min(I::VECTORS);
                let part = self.part::<I, PACKED>(row, lane);
                // SAFETY: the caller's promise; the rows and lanes lie within the tile.
                unsafe {
                    match vectors {
                        1 => part.high::<I, BF16, PACKED, 1>(height),
                        2 => part.high::<I, BF16, PACKED, 2>(height),
                        3 => part.high::<I, BF16, PACKED, 3>(height),
                        _ => part.high::<I, BF16, PACKED, 4>(height),
                    }
                }
                lane += vectors * I::WIDTH;
            }
            row += height;
        }
    }

    /// The tile from this row and lane on.
    #[inline(always)]
    fn part<I: Isa, const PACKED: bool>(self, row: usize, lane: usize) -> Self {
        let left = Left { at: self.left.at.wrapping_add(self.left.before(PACKED, I::ROWS, row)), ..self.left };
        let right = Right { at: self.right.at.wrapping_add(lane), ..self.right };
        Self { left, right, from: self.from.map(|from| from.after(row, lane)), to: self.to.after(row, lane), ..self }
    }

    /// Its first `height` rows in `N` registers of lanes.
    #[inline(always)]
    unsafe fn high<I: Isa, const BF16: bool, const PACKED: bool, const N: usize>(self, height: usize) {
        if N > I::VECTORS {
            return;
        }
        // SAFETY: the caller's promise.
        unsafe {
            match height {
                1 => self.chains::<I, BF16, PACKED, 1, N>(),
                2 => self.chains::<I, BF16, PACKED, 2, N>(),
                4 => self.chains::<I, BF16, PACKED, 4, N>(),
                6 if I::ROWS == 6 => self.chains::<I, BF16, PACKED, 6, N>(),
                8 if I::ROWS == 8 => self.chains::<I, BF16, PACKED, 8, N>(),
                16 if I::TALL == 16 && N == 1 => self.chains::<I, BF16, PACKED, 16, N>(),
                _ => unreachable!("a tile of at most {} rows", I::TALL),
            }
        }
    }

    #[inline(always)]
    unsafe fn chains<I: Isa, const BF16: bool, const PACKED: bool, const R: usize, const N: usize>(self) {
        let Self { units, left, right, mut ahead, mut from, to, .. } = self;
        let unit = if PACKED { I::ROWS } else { left.unit };
        let (mut a, mut b, mut rest) = (left.at, right.at, units);
        loop {
            let now = rest.min(CHAIN_UNITS);
            rest -= now;
            // SAFETY: the caller's promise.
            unsafe {
                let mut sums = [[I::zero(); N]; R];
                for _ in 0..now {
                    let mut lanes = [I::zero(); N];
                    for (j, lanes) in lanes.iter_mut().enumerate() {
                        *lanes = I::load(b.add(j * I::WIDTH).cast());
                    }
                    for (i, sums) in sums.iter_mut().enumerate() {
                        let own = I::splat(*a.add(left.before(PACKED, I::ROWS, i)));
                        for (sum, lanes) in sums.iter_mut().zip(lanes) {
                            *sum =
                                if BF16 { I::dot_pairs(own, lanes, *sum) } else { I::multiply_add(own, lanes, *sum) };
                        }
                    }
                    I::prefetch(ahead.at);
                    ahead.at = ahead.at.wrapping_add(ahead.unit);
                    a = a.wrapping_add(unit);
                    b = b.wrapping_add(right.unit);
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
            if rest == 0 {
                return;
            }
            from = Some(to);
        }
    }
}
