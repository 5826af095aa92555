//! Several halvings side by side, against a first rung that tells too little.

use super::{Asha, Decision, Mode, Rungs, Stopping, StoppingError};
use crate::history::History;
use crate::trial::Trial;

/// Hyperband (Li et al., 2018), asynchronous: trials are dealt out to brackets, and each bracket is an [`Asha`] of its own, whose
/// first rung is the bracket's. The bracket that starts at the lowest rung stops most; the last one stops nothing.
///
/// A trial's bracket is a function of its number alone. Bracket `s` of `n` (the first is 0) gets the share of trials that Hyperband gives it,
/// in proportion to `reduction^(n - 1 - s) / (n - s)`, which lets each bracket spend about as much.
#[derive(Clone, Debug)]
pub struct Hyperband {
    asha: Asha,
    // For each bracket, the share of trials in it and in those that stop later than it.
    upto: Vec<f64>,
}

impl Hyperband {
    /// With `brackets` of them, at most one for each rung.
    ///
    /// # Errors
    /// [`StoppingError`] when `reduction` is below 2, or there are not as many rungs as brackets.
    pub fn new(rungs: Rungs, reduction: u64, brackets: usize, mode: Mode) -> Result<Self, StoppingError> {
        let count = rungs.steps().len();
        if brackets == 0 || brackets > count {
            return Err(StoppingError::Rules(format!(
                "expected 1 to {count} brackets, one a rung at most, got {brackets}"
            )));
        }
        let weight = |bracket: usize| (reduction as f64).powi((count - 1 - bracket) as i32) / (count - bracket) as f64;
        let all: f64 = (0..brackets).map(weight).sum();
        let upto = (0..brackets).map(|bracket| (bracket..brackets).map(weight).sum::<f64>() / all).collect();
        Ok(Self { asha: Asha::new(rungs, reduction, mode)?, upto })
    }

    /// The bracket of the trial of that number; its first rung is the one of this index.
    ///
    /// Numbers are spread over the shares by the golden ratio, which deals any run of successive numbers out evenly. Trial 0, a
    /// study's first point, is in the bracket that stops least.
    pub fn bracket(&self, number: u64) -> usize {
        // The fraction of number * (golden ratio - 1), in 64 bits.
        let place = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) as f64 / 2f64.powi(64);
        self.upto.iter().rposition(|upto| place < *upto).unwrap_or(0)
    }

    /// How many brackets there are.
    pub fn brackets(&self) -> usize {
        self.upto.len()
    }
}

impl Stopping for Hyperband {
    fn name(&self) -> &'static str {
        "hyperband"
    }

    fn rungs(&self) -> &Rungs {
        self.asha.rungs()
    }

    fn decide(&self, history: &History, trial: &Trial) -> Decision {
        let bracket = self.bracket(trial.number);
        let lowest = self.rungs().steps()[bracket];
        self.asha.decide_among(history, trial, lowest, |other| self.bracket(other.number) == bracket)
    }

    fn pauses(&self) -> bool {
        self.asha.pauses()
    }

    fn resume(&self, history: &History, closing: bool) -> Option<u64> {
        // The bracket that stops least first: its trials have come furthest.
        let brackets = (0..self.brackets()).rev();
        let mut resumed = brackets.filter_map(|bracket| {
            self.asha.resume_among(history, closing, |trial| self.bracket(trial.number) == bracket)
        });
        resumed.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_get_their_shares_in_any_run_of_numbers() {
        let rungs = Rungs::geometric(27, 3, 1).unwrap();
        let hyperband = Hyperband::new(rungs, 3, 4, Mode::Pause).unwrap();
        // Weights 27/4, 9/3, 3/2, 1/1.
        let weights = [6.75, 3.0, 1.5, 1.0];
        for from in [0, 7, 1000, u64::MAX - 500] {
            let mut counts = [0.0; 4];
            for number in from..from + 100 {
                counts[hyperband.bracket(number)] += 1.0;
            }
            for (count, weight) in counts.iter().zip(weights) {
                assert!((count - 100.0 * weight / 12.25f64).abs() < 3.0, "{from}: {counts:?}");
            }
        }
        assert_eq!(hyperband.bracket(0), 3);
    }

    #[test]
    fn no_more_brackets_than_rungs() {
        let rungs = Rungs::at(vec![1, 3]).unwrap();
        assert!(Hyperband::new(rungs.clone(), 3, 3, Mode::Pause).is_err());
        assert!(Hyperband::new(rungs.clone(), 3, 0, Mode::Pause).is_err());
        assert_eq!(Hyperband::new(rungs, 3, 1, Mode::Pause).unwrap().bracket(5), 0);
    }
}
