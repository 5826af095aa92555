//! Which elements dropout keeps: a pure function of a row's key and the column, so that neither packing nor threads nor the
//! device change it.

/// lowbias32 (Wellons, 2018, found by his search over integer hashes): a bijection of 32 bits.
#[inline(always)]
fn spread(mut x: u32) -> u32 {
    x = (x ^ (x >> 16)).wrapping_mul(0x7FEB_352D);
    x = (x ^ (x >> 15)).wrapping_mul(0x846C_A68B);
    x ^ (x >> 16)
}

/// Dropout of a rate: which elements are kept, and by what they are multiplied.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Dropout {
    /// Of 2^24 values, those below it are dropped.
    threshold: u32,
    /// `1 / (1 - rate)`, by which the mean stays what it was.
    pub scale: f32,
}

impl Dropout {
    /// # Panics
    /// When the rate is not from 0 to below 1.
    pub fn new(rate: f32) -> Self {
        assert!((0.0..1.0).contains(&rate), "a dropout rate of {rate}");
        Self { threshold: (f64::from(rate) * f64::from(1 << 24)).round() as u32, scale: 1.0 / (1.0 - rate) }
    }

    /// By what the element of this column is multiplied, in the row of this key: [`Dropout::scale`], or 0. Keys are drawn: the
    /// low words of two rows that are less than a row's width apart would shift the one row's elements to the other's.
    #[inline(always)]
    pub fn factor(self, key: u64, column: u32) -> f32 {
        let (low, high) = (key as u32, (key >> 32) as u32);
        let bits = spread(spread(column.wrapping_add(low)) ^ high);
        if bits >> 8 >= self.threshold { self.scale } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A share of kept elements within five standard deviations, over all and for neighbours in both directions.
    #[test]
    fn elements_are_dropped_at_their_rate_and_apart_from_each_other() {
        let (rate, rows, cols) = (0.3f64, 2000u64, 500u32);
        let dropout = Dropout::new(rate as f32);
        // Weyl's sequence stands for drawn keys.
        let kept = |row: u64, column: u32| dropout.factor(row.wrapping_mul(0x9E37_79B9_7F4A_7C15), column) > 0.0;
        let share = |pair: &dyn Fn(u64, u32) -> bool| {
            let count = (0..rows - 1).map(|i| (0..cols - 1).filter(|&j| pair(i, j)).count()).sum::<usize>();
            count as f64 / ((rows - 1) * u64::from(cols - 1)) as f64
        };
        let near = |got: f64, expected: f64| {
            let deviation = (expected * (1.0 - expected) / (rows as f64 * f64::from(cols))).sqrt();
            assert!((got - expected).abs() < 5.0 * deviation, "{got}, expected {expected} +- {deviation}");
        };
        near(share(&|i, j| kept(i, j)), 0.7);
        near(share(&|i, j| kept(i, j) && kept(i + 1, j)), 0.49);
        near(share(&|i, j| kept(i, j) && kept(i, j + 1)), 0.49);
        assert_eq!(Dropout::new(0.0).factor(1, 2), 1.0);
        assert_eq!(dropout.scale, 1.0 / 0.7);
    }
}
