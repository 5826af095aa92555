//! Where trials are compared.

use super::StoppingError;

/// The steps at which trials report and are compared, by rising step; the last one is the full budget.
///
/// Trials are compared at equal steps only: the learning rate of each is laid for the full budget (or is constant until a
/// last decay), so that what two of them report at one rung was reached by the same share of their schedules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rungs(Vec<u64>);

impl Rungs {
    /// From the full budget downwards, each rung is the one above it over `reduction`, as long as it is at least `minimum`.
    ///
    /// # Errors
    /// [`StoppingError`] when `minimum` is 0 or above `full`, or `reduction` is below 2.
    pub fn geometric(full: u64, reduction: u64, minimum: u64) -> Result<Self, StoppingError> {
        if reduction < 2 {
            return Err(StoppingError::Reduction(reduction));
        }
        if minimum == 0 || minimum > full {
            return Err(StoppingError::Minimum { minimum, full });
        }
        // Rounded from the full budget, not from the rung above, so that errors of rounding do not add up.
        let mut steps = vec![full];
        let mut share = reduction;
        loop {
            let step = (full as f64 / share as f64).round() as u64;
            if step < minimum || steps.last().is_some_and(|above| step >= *above) {
                break;
            }
            steps.push(step);
            share = share.saturating_mul(reduction);
        }
        steps.reverse();
        Self::at(steps)
    }

    /// These steps.
    ///
    /// # Errors
    /// [`StoppingError`] unless there is at least one, all are above 0, and each is above the one before it.
    pub fn at(steps: Vec<u64>) -> Result<Self, StoppingError> {
        let rising = steps.windows(2).all(|pair| pair[0] < pair[1]);
        match steps.first() {
            Some(first) if *first > 0 && rising => Ok(Self(steps)),
            _ => Err(StoppingError::Rungs(steps)),
        }
    }

    /// All of them.
    pub fn steps(&self) -> &[u64] {
        &self.0
    }

    /// The full budget.
    pub fn full(&self) -> u64 {
        self.0[self.0.len() - 1]
    }

    /// Whether `step` is one of them.
    pub fn has(&self, step: u64) -> bool {
        self.0.binary_search(&step).is_ok()
    }

    /// Whether `step` is one of them, below the full budget: where there is something to decide.
    pub fn decides(&self, step: u64) -> bool {
        step < self.full() && self.has(step)
    }

    /// The first rung above `step`; none at or beyond the full budget.
    pub fn after(&self, step: u64) -> Option<u64> {
        self.0.iter().copied().find(|rung| *rung > step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rungs_are_laid_from_the_full_budget_down() {
        let rungs = |full, reduction, minimum| Rungs::geometric(full, reduction, minimum).unwrap().0;
        assert_eq!(rungs(100, 3, 1), [1, 4, 11, 33, 100]);
        assert_eq!(rungs(81, 3, 3), [3, 9, 27, 81]);
        assert_eq!(rungs(15_000, 4, 200), [234, 938, 3750, 15_000]);
        assert_eq!(rungs(10, 3, 10), [10]);
        assert_eq!(rungs(2, 2, 1), [1, 2]);
        assert_eq!(rungs(u64::MAX, 2, u64::MAX / 2).len(), 2);
    }

    #[test]
    fn what_cannot_be_rungs_is_refused() {
        assert_eq!(Rungs::geometric(10, 1, 1), Err(StoppingError::Reduction(1)));
        assert_eq!(Rungs::geometric(10, 3, 0), Err(StoppingError::Minimum { minimum: 0, full: 10 }));
        assert_eq!(Rungs::geometric(10, 3, 11), Err(StoppingError::Minimum { minimum: 11, full: 10 }));
        for steps in [vec![], vec![0, 1], vec![2, 2], vec![3, 2]] {
            assert_eq!(Rungs::at(steps.clone()), Err(StoppingError::Rungs(steps)));
        }
    }

    #[test]
    fn the_last_rung_decides_nothing() {
        let rungs = Rungs::at(vec![2, 4, 8]).unwrap();
        assert_eq!([1, 2, 4, 8, 9].map(|step| rungs.decides(step)), [false, true, true, false, false]);
        assert_eq!([0, 2, 3, 8].map(|step| rungs.after(step)), [Some(2), Some(4), Some(4), None]);
    }
}
