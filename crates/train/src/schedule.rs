//! The learning rate: a pure function of the step.

use serde::Serialize;

/// The shape after warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// The peak throughout.
    Constant,
    /// A straight line to `min_lr`.
    Linear,
    /// Half a cosine to `min_lr` (Loshchilov and Hutter, 2017).
    Cosine,
    /// The peak, then over the last `decay_steps` down to `min_lr` by `1 - sqrt` (Hägele et al., 2024).
    Wsd {
        /// Steps of the decay.
        decay_steps: usize,
    },
}

/// Linear warm-up over `warmup_steps`, then `shape` until `steps`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LearningRate {
    /// The highest rate.
    pub peak: f64,
    /// Where decays end.
    pub min_lr: f64,
    /// Steps of warm-up; step s of them has `peak * s / warmup_steps`, so that no step has rate 0.
    pub warmup_steps: usize,
    /// Steps in all.
    pub steps: usize,
    /// After warm-up.
    pub shape: Shape,
}

impl LearningRate {
    /// Of [`Shape::Wsd`] the last step before the decay, whose weights and moments depend on nothing after it; none of other
    /// shapes, and where there is no such step.
    pub fn stable_end(&self) -> Option<usize> {
        let Shape::Wsd { decay_steps } = self.shape else { return None };
        Some(self.steps.saturating_sub(decay_steps)).filter(|&end| end > self.warmup_steps)
    }

    /// The rate of a step, counted from 1. Beyond warm-up it is that of Hugging Face's schedulers, with `min_lr` for
    /// their 0: step s has progress `(s - 1 - warmup) / (steps - warmup)`, so the first step after warm-up has the peak.
    pub fn at(&self, step: usize) -> f64 {
        if step <= self.warmup_steps {
            return self.peak * step as f64 / self.warmup_steps as f64;
        }
        let passed = (step - 1 - self.warmup_steps) as f64;
        let progress = (passed / self.steps.saturating_sub(self.warmup_steps).max(1) as f64).min(1.0);
        let share = match self.shape {
            Shape::Constant => return self.peak,
            Shape::Linear => 1.0 - progress,
            Shape::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
            Shape::Wsd { decay_steps } => {
                let stable = self.steps.saturating_sub(decay_steps);
                if step <= stable {
                    return self.peak;
                }
                1.0 - ((step - 1 - stable) as f64 / decay_steps.max(1) as f64).min(1.0).sqrt()
            }
        };
        self.min_lr + (self.peak - self.min_lr) * share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(shape: Shape) -> Vec<f64> {
        let lr = LearningRate { peak: 1.0, min_lr: 0.1, warmup_steps: 2, steps: 10, shape };
        (1..=10).map(|s| (lr.at(s) * 1e4).round() / 1e4).collect()
    }

    #[test]
    fn each_shape_by_hand() {
        assert_eq!(rates(Shape::Constant), [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
        assert_eq!(rates(Shape::Linear), [0.5, 1.0, 1.0, 0.8875, 0.775, 0.6625, 0.55, 0.4375, 0.325, 0.2125]);
        // 0.1 + 0.45 * (1 + cos(pi k / 8))
        assert_eq!(rates(Shape::Cosine), [0.5, 1.0, 1.0, 0.9657, 0.8682, 0.7222, 0.55, 0.3778, 0.2318, 0.1343]);
        // 1 - sqrt(k / 4) over the last four
        let wsd = rates(Shape::Wsd { decay_steps: 4 });
        assert_eq!(wsd, [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.55, 0.3636, 0.2206]);
        // Six steps of it are those of any longer run.
        let of = |steps, decay_steps| LearningRate {
            peak: 1.0,
            min_lr: 0.1,
            warmup_steps: 2,
            steps,
            shape: Shape::Wsd { decay_steps },
        };
        assert_eq!((of(10, 4).stable_end(), of(10, 8).stable_end(), of(10, 10).stable_end()), (Some(6), None, None));
        assert!((1..=6).all(|step| of(10, 4).at(step) == of(100, 20).at(step)));
    }

    #[test]
    fn no_warm_up_begins_at_the_peak() {
        let lr = LearningRate { peak: 2.0, min_lr: 0.0, warmup_steps: 0, steps: 4, shape: Shape::Linear };
        assert_eq!((1..=4).map(|s| lr.at(s)).collect::<Vec<_>>(), [2.0, 1.5, 1.0, 0.5]);
    }
}
