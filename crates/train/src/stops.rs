//! When a run is not worth going on with: rules over what training and validation have shown.
//!
//! Every rule is a decision of ours, stated with its constant; none looks at the test set.

use serde::{Deserialize, Serialize};

use crate::fit::Best;

/// Steps over which training losses are averaged: batches differ, so one step's loss says little.
const WINDOW: usize = 10;

/// The rules' settings; see the recipe's fields of the same names.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StopSettings {
    /// Validations in a row without a new lowest loss after which training ends; 0 never ends it.
    pub early_stopping_patience: usize,
    /// How far below the lowest loss a validation must be to count, in nats.
    pub early_stopping_threshold: f64,
    /// Share of the whole fall of the validation loss that the last `early_stopping_patience` validations must have brought;
    /// 0 asks for nothing.
    pub flat_gain: f64,
}

/// Why training ended before its last step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "snake_case")]
pub enum Stop {
    /// The validation loss stopped falling while the training loss went on falling.
    Overfit {
        /// The lowest validation.
        best: Best,
        /// Validations since then.
        validations: usize,
        /// Mean training loss when the lowest validation came, nats.
        training_then: f64,
        /// Mean training loss at the end, nats.
        training_now: f64,
    },
    /// The validation loss stopped falling, and so did the training loss.
    NoImprovement {
        /// The lowest validation.
        best: Best,
        /// Validations since then.
        validations: usize,
    },
    /// The validation loss falls still, but hardly.
    Flat {
        /// The lowest validation loss.
        lowest: f64,
        /// Over so many validations.
        validations: usize,
        /// Fall of the lowest validation loss over these, nats.
        recent: f64,
        /// Fall of it since before the first step, nats.
        whole: f64,
    },
    /// The training loss ran away.
    Diverged {
        /// Mean training loss of the last steps, nats.
        loss: f64,
        /// The lowest such mean, nats.
        lowest: f64,
    },
    /// A loss or a gradient was NaN or infinite.
    NotFinite {
        /// What it was.
        what: String,
    },
    /// A general floor was broken beyond what the rest of the schedule brings back.
    FloorBroken {
        /// The suite.
        suite: String,
        /// The better end of the 95 % interval of its relative rise, as a share.
        at_best: f64,
        /// The floor, as a share.
        floor: f64,
    },
}

impl Stop {
    /// What was seen, in one line.
    pub fn reason(&self) -> String {
        match self {
            Self::Overfit { best, validations, training_then, training_now } => format!(
                "overfitting: no validation loss below {:.4} (step {}) in {validations} validations, while the training \
                 loss fell from {training_then:.4} to {training_now:.4}",
                best.loss, best.step
            ),
            Self::NoImprovement { best, validations } => format!(
                "no improvement: no validation loss below {:.4} (step {}) in {validations} validations",
                best.loss, best.step
            ),
            Self::Flat { lowest, validations, recent, whole } => format!(
                "flat: of the {whole:.4} nats by which the validation loss has fallen, to {lowest:.4}, the last \
                 {validations} validations brought {recent:.4}"
            ),
            Self::Diverged { loss, lowest } => format!(
                "diverged: the mean training loss of {WINDOW} steps is {loss:.4}, more than twice the lowest, {lowest:.4}, \
                 and a nat"
            ),
            Self::NotFinite { what } => format!("diverged: {what}"),
            Self::FloorBroken { suite, at_best, floor } => format!(
                "forgot: the loss of {suite} is up by at least {:.1} % (95 % interval), far beyond its floor of {:.1} %",
                at_best * 100.0,
                floor * 100.0
            ),
        }
    }

    /// The same of a stage whose validations are minus a mean reward. What its training loss does says nothing.
    pub fn reason_by_reward(&self) -> String {
        match self {
            Self::Overfit { best, validations, .. } | Self::NoImprovement { best, validations } => format!(
                "no improvement: no validation reward above {:.4} (step {}) in {validations} validations",
                -best.loss, best.step
            ),
            other => other.reason(),
        }
    }

    /// What to change.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Overfit { .. } => {
                "train less (max_steps, num_train_epochs), on more rows, or lower learning_rate or lora_rank"
            }
            Self::NoImprovement { .. } => {
                "the rate may have been too high or the data exhausted: lower learning_rate, or stop earlier; \
                 early_stopping_patience: 0 never stops"
            }
            Self::Flat { .. } => "what is left is full rank's; a smaller flat_gain goes on longer",
            Self::Diverged { .. } | Self::NotFinite { .. } => {
                "lower learning_rate (try a third), or raise warmup_steps; look at the rows of the last steps"
            }
            Self::FloorBroken { .. } => {
                "mix in more general data (mix), lower learning_rate, or average with the start (weight_average)"
            }
        }
    }

    /// Whether the weights of the last step are worth nothing.
    pub fn weights_are_lost(&self) -> bool {
        matches!(self, Self::Diverged { .. } | Self::NotFinite { .. })
    }
}

/// What the rules remember.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// Training losses of the last [`WINDOW`] steps, oldest first.
    recent: Vec<f64>,
    /// The lowest mean of a whole window.
    lowest: Option<f64>,
    /// The mean of the window when the lowest validation came.
    at_best: Option<f64>,
    /// Validations since the last that counted as lower.
    unimproved: usize,
    /// The lowest validation loss after each validation, the first of all and then the last `early_stopping_patience` + 1 of
    /// them; only where `flat_gain` asks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    lows: Vec<f64>,
}

impl Watch {
    fn mean(&self) -> Option<f64> {
        (self.recent.len() == WINDOW).then(|| self.recent.iter().sum::<f64>() / WINDOW as f64)
    }

    /// Hears the loss of a step. Divergence: the mean of the last ten steps exceeds twice the lowest such mean and a nat.
    pub fn hear_step(&mut self, loss: f64) -> Option<Stop> {
        if self.recent.len() == WINDOW {
            self.recent.remove(0);
        }
        self.recent.push(loss);
        let mean = self.mean()?;
        let lowest = self.lowest.map_or(mean, |lowest| lowest.min(mean));
        self.lowest = Some(lowest);
        (mean > 2.0 * lowest + 1.0).then_some(Stop::Diverged { loss: mean, lowest })
    }

    /// Hears a validation, `before` being the lowest until then. A loss that is NaN counts as no improvement.
    pub fn hear_validation(&mut self, loss: f64, before: Option<Best>, settings: &StopSettings) -> Option<Stop> {
        let flat = self.hear_low(loss, before, settings);
        let counts = loss.is_finite() && before.is_none_or(|best| loss < best.loss - settings.early_stopping_threshold);
        if counts {
            self.unimproved = 0;
            self.at_best = self.mean();
            return flat;
        }
        self.unimproved += 1;
        let best = before?;
        if settings.early_stopping_patience == 0 || self.unimproved < settings.early_stopping_patience {
            return flat;
        }
        let validations = self.unimproved;
        Some(match (self.at_best, self.mean()) {
            (Some(training_then), Some(training_now)) if training_now < training_then => {
                Stop::Overfit { best, validations, training_then, training_now }
            }
            _ => Stop::NoImprovement { best, validations },
        })
    }
}

impl Watch {
    /// Flatness: over the last `early_stopping_patience` validations the lowest loss fell by less than `flat_gain` of all that it
    /// has fallen by since the first validation. A loss that never fell is not flat: that is for the patience to end.
    fn hear_low(&mut self, loss: f64, before: Option<Best>, settings: &StopSettings) -> Option<Stop> {
        let validations = settings.early_stopping_patience;
        if settings.flat_gain <= 0.0 || validations == 0 {
            return None;
        }
        let low = before.map_or(loss, |best| best.loss.min(loss));
        self.lows.push(low);
        if self.lows.len() > validations + 2 {
            self.lows.remove(1);
        }
        let [first, .., lowest] = self.lows[..] else { return None };
        let then = self.lows.len().checked_sub(validations + 1)?;
        let (recent, whole) = (self.lows[then] - lowest, first - lowest);
        (whole > 0.0 && recent < settings.flat_gain * whole).then_some(Stop::Flat {
            lowest,
            validations,
            recent,
            whole,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: StopSettings =
        StopSettings { early_stopping_patience: 3, early_stopping_threshold: 0.0, flat_gain: 0.0 };

    #[test]
    fn a_fall_that_hardly_goes_on_is_flat() {
        let settings = StopSettings { flat_gain: 0.1, ..THREE };
        // After the sixth validation: 0.09 in three of them, of 1.02 in all.
        let (at, stop) = play(&[1.0; 8], &[3.0, 2.5, 2.07, 2.04, 2.0, 1.98, 1.9, 1.8], &settings);
        let Some(Stop::Flat { lowest, validations, recent, whole }) = stop else { panic!("{stop:?}") };
        assert_eq!((at, lowest, validations), (5, 1.98, 3));
        assert!((recent - 0.09).abs() < 1e-12 && (whole - 1.02).abs() < 1e-12, "{recent} {whole}");
        // Steady falls are not flat, nor is a loss that never fell: that one ends by the patience.
        assert_eq!(play(&[1.0; 5], &[3.0, 2.8, 2.6, 2.4, 2.2], &settings), (5, None));
        assert!(matches!(play(&[1.0; 6], &[3.0; 6], &settings), (3, Some(Stop::NoImprovement { .. }))));
        assert_eq!(play(&[1.0; 3], &[3.0, 2.0, 1.99], &settings), (3, None), "three validations must have come since");
    }

    /// Validation every ten steps; training losses are the same within each ten.
    fn play(training: &[f64], validation: &[f64], settings: &StopSettings) -> (usize, Option<Stop>) {
        let (mut watch, mut best): (Watch, Option<Best>) = Default::default();
        for (i, (&train, &loss)) in training.iter().zip(validation).enumerate() {
            for _ in 0..WINDOW {
                if let Some(stop) = watch.hear_step(train) {
                    return (i, Some(stop));
                }
            }
            if let Some(stop) = watch.hear_validation(loss, best, settings) {
                return (i, Some(stop));
            }
            if loss.is_finite() && best.is_none_or(|b| loss < b.loss) {
                best = Some(Best { step: i, loss });
            }
        }
        (training.len(), None)
    }

    #[test]
    fn validation_that_rises_while_training_falls_is_overfitting() {
        let (at, stop) = play(&[3.0, 2.0, 1.5, 1.0, 0.5], &[3.0, 2.5, 2.6, 2.7, 2.8], &THREE);
        assert_eq!(at, 4);
        let best = Best { step: 1, loss: 2.5 };
        assert_eq!(stop, Some(Stop::Overfit { best, validations: 3, training_then: 2.0, training_now: 0.5 }));
    }

    #[test]
    fn a_plateau_of_both_is_no_improvement() {
        let (at, stop) = play(&[2.0; 6], &[2.5; 6], &THREE);
        assert_eq!((at, stop), (3, Some(Stop::NoImprovement { best: Best { step: 0, loss: 2.5 }, validations: 3 })));
    }

    #[test]
    fn of_a_reward_the_reason_is_the_reward() {
        let (_, stop) = play(&[0.3, 0.2, 0.1, 0.0, 0.0], &[-0.25, -0.5, -0.4, -0.4, -0.3], &THREE);
        let expected = "no improvement: no validation reward above 0.5000 (step 1) in 3 validations";
        assert_eq!(stop.unwrap().reason_by_reward(), expected);
    }

    #[test]
    fn a_new_lowest_validation_begins_the_count_again() {
        let (at, stop) = play(&[3.0; 7], &[3.0, 3.1, 3.1, 2.9, 3.0, 3.0, 2.8], &THREE);
        assert_eq!((at, stop), (7, None));
    }

    #[test]
    fn patience_0_never_stops() {
        let settings = StopSettings { early_stopping_patience: 0, ..THREE };
        assert_eq!(play(&[1.0; 9], &[1.0; 9], &settings), (9, None));
    }

    #[test]
    fn a_fall_within_the_threshold_is_no_improvement() {
        let settings = StopSettings { early_stopping_threshold: 0.1, ..THREE };
        let (at, stop) = play(&[1.0; 6], &[1.0, 0.98, 0.96, 0.94, 0.92, 0.91], &settings);
        assert!(matches!(stop, Some(Stop::NoImprovement { validations: 3, .. })), "{stop:?}");
        // 0.98 became the best, so 0.96 must lie 0.1 below it, and so on.
        assert_eq!(at, 3);
    }

    #[test]
    fn a_nan_validation_never_wins_and_counts_against_the_patience() {
        let (at, stop) = play(&[1.0; 6], &[1.0, f64::NAN, f64::NAN, f64::NAN, 0.5, 0.4], &THREE);
        assert_eq!((at, stop), (3, Some(Stop::NoImprovement { best: Best { step: 0, loss: 1.0 }, validations: 3 })));
    }

    #[test]
    fn a_loss_that_runs_away_is_divergence_and_a_high_start_is_not() {
        assert_eq!(play(&[9.0, 3.0, 1.0, 2.5], &[1.0, 0.9, 0.8, 0.7], &THREE), (4, None));
        let (at, stop) = play(&[9.0, 1.0, 8.0], &[1.0, 0.9, 0.8], &THREE);
        assert_eq!(at, 2);
        // The third loss of 8 brings the mean of ten to 3.1, above 2 * 1 + 1.
        let Some(Stop::Diverged { loss, lowest }) = stop else { panic!("{stop:?}") };
        assert!((loss - 3.1).abs() < 1e-12 && (lowest - 1.0).abs() < 1e-12, "{loss} {lowest}");
    }
}
