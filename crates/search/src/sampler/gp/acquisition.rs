//! How much is to be hoped for at a point.

use super::model::{Known, Model};
use crate::sampler::normal::{self, ln_below, ln_improvement, ln_improvement_slope};
use crate::space::Parameter;

/// The logarithm of what is to be hoped for: of an improvement, times the probability that each constraint holds, times what
/// priors say.
pub(super) struct Acquisition<'a> {
    pub gain: Gain,
    /// Models of constraints, and what each must not be above.
    pub constraints: Vec<(Model, f64)>,
    /// The parameters, and the power of their priors; none: none has one.
    pub priors: Option<(&'a [Parameter], f64)>,
}

/// What is gained.
pub(super) enum Gain {
    /// Nothing yet: a point that holds the constraints is looked for.
    Feasible,
    /// By how much a loss is below the best one so far.
    Improvement { model: Model, best: f64 },
    /// By how much the volume that two losses dominate grows.
    Volume { models: Box<[Model; 2]>, steps: Steps },
}

/// The edge of what two losses dominate: strips along the first loss, each with the second loss above which all is dominated.
pub(super) struct Steps {
    /// Where strips begin and end, rising; the first strip comes from below without bound.
    edges: Vec<f64>,
    /// By strip.
    heights: Vec<f64>,
}

impl Steps {
    /// Of points that do not dominate each other, up to `reference`.
    pub(super) fn new(points: &[[f64; 2]], reference: [f64; 2]) -> Self {
        let mut inside: Vec<[f64; 2]> =
            points.iter().copied().filter(|point| point[0] < reference[0] && point[1] < reference[1]).collect();
        inside.sort_by(|a, b| a[0].total_cmp(&b[0]).then(a[1].total_cmp(&b[1])));
        let (mut edges, mut heights) = (Vec::new(), vec![reference[1]]);
        for point in inside {
            if heights.last().is_some_and(|height| point[1] < *height) {
                edges.push(point[0]);
                heights.push(point[1]);
            }
        }
        edges.push(reference[0]);
        Self { edges, heights }
    }
}

impl Acquisition<'_> {
    /// At a point, without the slope.
    pub(super) fn at(&self, x: &[f64]) -> f64 {
        let gain = match &self.gain {
            Gain::Feasible => 0.0,
            Gain::Improvement { model, best } => improvement(&model.at(x), *best).0,
            Gain::Volume { models, steps } => volume(&[models[0].at(x), models[1].at(x)], steps).0,
        };
        let holds = |(model, bound): &(Model, f64)| holding(&model.at(x), *bound).0;
        gain + self.constraints.iter().map(holds).sum::<f64>() + self.hinted(x, &mut [])
    }

    /// At a point; writes the slope.
    pub(super) fn with_slope(&self, x: &[f64], slope: &mut [f64]) -> f64 {
        slope.fill(0.0);
        let add = |known: &Known, by: [f64; 2], slope: &mut [f64]| {
            for (slope, (mean, deviation)) in slope.iter_mut().zip(known.mean_slope.iter().zip(&known.deviation_slope))
            {
                *slope += by[0] * mean + by[1] * deviation;
            }
        };
        let mut sum = match &self.gain {
            Gain::Feasible => 0.0,
            Gain::Improvement { model, best } => {
                let known = model.with_slopes(x);
                let (value, by) = improvement(&known, *best);
                add(&known, by, slope);
                value
            }
            Gain::Volume { models, steps } => {
                let known = [models[0].with_slopes(x), models[1].with_slopes(x)];
                let (value, by) = volume(&known, steps);
                known.iter().zip(by).for_each(|(known, by)| add(known, by, slope));
                value
            }
        };
        for (model, bound) in &self.constraints {
            let known = model.with_slopes(x);
            let (value, by) = holding(&known, *bound);
            add(&known, by, slope);
            sum += value;
        }
        sum + self.hinted(x, slope)
    }

    /// The logarithm of the priors' density to their power; adds its slope.
    fn hinted(&self, x: &[f64], slope: &mut [f64]) -> f64 {
        let Some((parameters, power)) = self.priors else { return 0.0 };
        let mut sum = 0.0;
        for (index, (parameter, x)) in parameters.iter().zip(x).enumerate() {
            let Some(prior) = parameter.prior.as_ref().filter(|_| !x.is_nan()) else { continue };
            let Some(around) = parameter.domain.coordinate(&prior.around) else { continue };
            if parameter.domain.choices().is_some() {
                sum += if *x == around { 0.0 } else { -1.0 };
            } else {
                // Far from where it is expected a prior says no more than that it is far: a hint is no bound.
                let z = (x - around) / prior.spread;
                sum -= (1.0 + 0.5 * z * z).ln();
                if let Some(slope) = slope.get_mut(index) {
                    *slope -= power * z / prior.spread / (1.0 + 0.5 * z * z);
                }
            }
        }
        power * sum
    }
}

/// The logarithm of the expected improvement, and its derivatives by mean and deviation.
fn improvement(known: &Known, best: f64) -> (f64, [f64; 2]) {
    let z = (best - known.mean) / known.deviation;
    let ratio = ln_improvement_slope(z);
    (known.deviation.ln() + ln_improvement(z), [-ratio / known.deviation, (1.0 - ratio * z) / known.deviation])
}

/// The logarithm of the probability of being at most `bound`, and its derivatives.
fn holding(known: &Known, bound: f64) -> (f64, [f64; 2]) {
    let z = (bound - known.mean) / known.deviation;
    let value = ln_below(z);
    let ratio = (-0.5 * z * z - normal::LN_SQRT_2PI - value).exp();
    (value, [-ratio / known.deviation, -ratio * z / known.deviation])
}

/// The logarithm of the expected growth of the volume, and its derivatives by each loss's mean and deviation. Exact: a strip
/// grows by its width left of the first loss times what the second loss is below its height, and the losses are independent
/// (Emmerich et al., 2011; in logarithms as Ament et al., 2023).
fn volume(known: &[Known; 2], steps: &Steps) -> (f64, [[f64; 2]; 2]) {
    let [first, second] = known;
    // Each term as a logarithm, and its derivatives.
    let (mut before, mut before_by) = (f64::NEG_INFINITY, [0.0; 2]);
    let terms: Vec<(f64, [[f64; 2]; 2])> = steps
        .edges
        .iter()
        .zip(&steps.heights)
        .map(|(edge, height)| {
            let (width, width_by) = improvement(first, *edge);
            // Widths to this edge less those to the edge before; the shares weigh their derivatives.
            let less = (before - width).exp().min(1.0 - 1e-12);
            let kept = 1.0 / (1.0 - less);
            let by = [0, 1].map(|i| kept * (width_by[i] - less * before_by[i]));
            (before, before_by) = (width, width_by);
            let (depth, depth_by) = improvement(second, *height);
            (width + (-less).ln_1p() + depth, [by, depth_by])
        })
        .collect();
    let highest = terms.iter().map(|(term, _)| *term).fold(f64::NEG_INFINITY, f64::max);
    let (mut sum, mut slopes) = (0.0, [[0.0; 2]; 2]);
    for (term, by) in &terms {
        let share = (term - highest).exp();
        sum += share;
        for loss in 0..2 {
            (0..2).for_each(|i| slopes[loss][i] += share * by[loss][i]);
        }
    }
    (highest + sum.ln(), slopes.map(|by| by.map(|slope| slope / sum)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use temper_run::Random;

    fn known(mean: f64, deviation: f64) -> Known {
        Known { mean, deviation, ..Known::default() }
    }

    #[test]
    fn growth_of_the_volume_is_what_draws_give_and_its_slopes_are_differences() {
        let points = [[0.2, 0.8], [0.5, 0.4], [0.9, 0.1]];
        let reference = [1.0, 1.2];
        let steps = Steps::new(&points, reference);
        let at = [known(0.45, 0.2), known(0.5, 0.3)];
        let (value, slopes) = volume(&at, &steps);
        let random = Random::new(1, "test");
        let covered = |more: Option<[f64; 2]>| {
            let all: Vec<Vec<f64>> = points.iter().copied().chain(more).map(|point| point.to_vec()).collect();
            crate::goals::hypervolume(&all, &reference)
        };
        let draws = 200_000;
        let mean = (0..draws)
            .map(|draw| {
                let normal = |i: u64| normal::quantile(random.unit(2 * draw + i));
                covered(Some([0.45 + 0.2 * normal(0), 0.5 + 0.3 * normal(1)])) - covered(None)
            })
            .sum::<f64>()
            / draws as f64;
        assert!((value.exp() / mean - 1.0).abs() < 0.02, "{} {mean}", value.exp());
        for loss in 0..2 {
            for (i, slope) in slopes[loss].iter().enumerate() {
                let moved = |step: f64| {
                    let mut at = at.clone();
                    if i == 0 {
                        at[loss].mean += step
                    } else {
                        at[loss].deviation += step
                    }
                    volume(&at, &steps).0
                };
                let difference = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                assert!((slope - difference).abs() < 1e-5 * (1.0 + difference.abs()), "{loss} {i}");
            }
        }
        // Far behind the front it is small, but a number, and better is still better.
        let far = |mean| volume(&[known(50.0, 0.1), known(mean, 0.1)], &steps).0;
        assert!(far(40.0).is_finite() && far(39.0) > far(40.0));
    }
}
