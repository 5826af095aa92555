//! Where a learning curve is going, and how sure that is.

use std::f64::consts::TAU;

use temper_run::Random;

use super::above;

/// A shape that curves have: how much of the change is still to come at a share `x` of the budget.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    /// `x^-power`: a power law, with whatever offset.
    Power(f64),
    /// `exp(-x / scale)`.
    Exponential(f64),
    /// `1 / (1 + (x / middle)^power)`: slow, fast, and slow again over the logarithm of the budget.
    LogPower { middle: f64, power: f64 },
}

/// The families of Domhan et al. (IJCAI 2015, table 1) that differ most, each by a few shapes.
const SHAPES: [Shape; 25] = [
    Shape::Power(0.1),
    Shape::Power(0.25),
    Shape::Power(0.5),
    Shape::Power(0.75),
    Shape::Power(1.0),
    Shape::Power(1.5),
    Shape::Power(2.0),
    Shape::Exponential(0.02),
    Shape::Exponential(0.05),
    Shape::Exponential(0.1),
    Shape::Exponential(0.2),
    Shape::Exponential(0.4),
    Shape::Exponential(1.0),
    Shape::LogPower { middle: 0.01, power: 1.0 },
    Shape::LogPower { middle: 0.03, power: 1.0 },
    Shape::LogPower { middle: 0.1, power: 1.0 },
    Shape::LogPower { middle: 0.3, power: 1.0 },
    Shape::LogPower { middle: 0.01, power: 2.0 },
    Shape::LogPower { middle: 0.03, power: 2.0 },
    Shape::LogPower { middle: 0.1, power: 2.0 },
    Shape::LogPower { middle: 0.3, power: 2.0 },
    Shape::LogPower { middle: 0.01, power: 4.0 },
    Shape::LogPower { middle: 0.03, power: 4.0 },
    Shape::LogPower { middle: 0.1, power: 4.0 },
    Shape::LogPower { middle: 0.3, power: 4.0 },
];
/// Noise of a single value, as shares of the range of the values seen.
const NOISES: [f64; 6] = [0.003, 0.01, 0.03, 0.1, 0.3, 1.0];
/// How far level and change may be off what was seen, as a share of that range: hardly a bound.
const LOOSE: f64 = 3.0;
/// How much is still to come, as a share of what was seen, where as much is ahead as is behind on the logarithm of the budget: one
/// standard deviation. It keeps a shape that has hardly begun to bend from promising anything.
const FUTURE: f64 = 1.0;
/// As how many curves of the study the default counts.
const DEFAULT: f64 = 3.0;
/// What no shape holds, as a share of the range seen: a standard deviation for each factor of e between a point and the last one
/// seen. Earlier points weigh less by it, and a forecast is wider. By calibration on LCDB (`docs/decisions/0025-early-stopping.md`).
const DRIFT: f64 = 0.1;
/// Real curves are mostly closer to a forecast than normal noise would have it, and now and then much further off: this share of them by
/// a deviation that is wider by the one factor, the others by the other. By calibration on LCDB, too.
const OUTLIERS: f64 = 0.1;
const WIDE: f64 = 3.0;
const CORE: f64 = 0.8;

impl Shape {
    fn at(self, x: f64) -> f64 {
        match self {
            Self::Power(power) => x.powf(-power),
            Self::Exponential(scale) => (-x / scale).exp(),
            Self::LogPower { middle, power } => 1.0 / (1.0 + (x / middle).powf(power)),
        }
    }

    /// How many shapes there are of its family: families weigh alike, whatever their number of shapes.
    fn siblings(self) -> f64 {
        let same = |other: &&Shape| std::mem::discriminant(*other) == std::mem::discriminant(&self);
        SHAPES.iter().filter(same).count() as f64
    }
}

/// What is known of the shape of curves before one is seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    weights: Vec<f64>,
}

/// What the value at a later point is believed to be: a mixture of normal distributions.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    // Weight, mean, standard deviation; the weights add to 1.
    parts: Vec<(f64, f64, f64)>,
}

impl Default for Curve {
    /// Each family alike, and each shape of a family.
    fn default() -> Self {
        let weights: Vec<f64> = SHAPES.iter().map(|shape| 1.0 / shape.siblings()).collect();
        let all: f64 = weights.iter().sum();
        Self { weights: weights.into_iter().map(|weight| weight / all).collect() }
    }
}

impl Curve {
    /// What `curves` of the same study teach: the mean over them, and over the default, of what each shape is worth. Each is a list of (share of
    /// the budget, value), as in [`Self::forecast`].
    pub fn learned<'a>(curves: impl IntoIterator<Item = &'a [(f64, f64)]>) -> Self {
        let default = Self::default();
        let mut weights: Vec<f64> = default.weights.iter().map(|weight| DEFAULT * weight).collect();
        let mut count = DEFAULT;
        for points in curves {
            let Some(cells) = default.cells(points, 1.0) else { continue };
            for cell in cells {
                weights[cell.shape] += cell.weight;
            }
            count += 1.0;
        }
        weights.iter_mut().for_each(|weight| *weight /= count);
        Self { weights }
    }

    /// The value at `x`, from `points`: (share of the full budget, value), the share above 0 and rising. None with fewer than three of them,
    /// or where one is not finite.
    ///
    /// Each shape, stretched by a change and moved by a level, is a linear model with normal noise, which is integrated exactly; shapes and noises are
    /// weighed by how well each explains the points (Bayes). Beside what these know, a forecast drifts with the logarithm of the budget.
    pub fn forecast(&self, points: &[(f64, f64)], x: f64) -> Option<Forecast> {
        let cells = self.cells(points, x)?;
        let part = |cell: &Cell| {
            let wide = (OUTLIERS * cell.weight, cell.mean, WIDE * cell.deviation);
            [((1.0 - OUTLIERS) * cell.weight, cell.mean, CORE * cell.deviation), wide]
        };
        Some(Forecast { parts: cells.iter().flat_map(part).collect() })
    }

    fn cells(&self, points: &[(f64, f64)], x: f64) -> Option<Vec<Cell>> {
        let finite = points.iter().all(|(x, y)| x.is_finite() && *x > 0.0 && y.is_finite());
        let (&(first, _), &(last, level)) = (points.first()?, points.last()?);
        if points.len() < 3 || !finite {
            return None;
        }
        let low = points.iter().map(|point| point.1).fold(f64::INFINITY, f64::min);
        let high = points.iter().map(|point| point.1).fold(f64::NEG_INFINITY, f64::max);
        // Values that are all the same would leave no doubt at all: a thousandth of them is some.
        let range = (high - low).max(1e-3 * level.abs()).max(f64::MIN_POSITIVE.sqrt());
        let (seen, ahead) = ((last / first).ln(), (x / last).max(1.0).ln());
        let to_come = FUTURE * (ahead / seen).max(1e-6);
        let mut cells = Vec::with_capacity(SHAPES.len() * NOISES.len());
        for (shape, form) in SHAPES.iter().enumerate() {
            // 1 at the first point and 0 at the last: the change is what was seen between them, and the level that of the last.
            let (start, end) = (form.at(first), form.at(last));
            let basis = |x: f64| (form.at(x) - end) / (start - end);
            if !basis(x).is_finite() {
                continue;
            }
            let b = basis(x);
            // Prior precisions: of the level, and of the change so that what is still to come is bounded as well.
            let ridge = 1.0 / (LOOSE * LOOSE);
            let ridges = [ridge, ridge + (b / to_come).powi(2)];
            for noise in NOISES {
                let spread = |x: f64| noise * noise + (DRIFT * (last / x).ln()).powi(2);
                let seen = points.iter().map(|&(x, y)| (basis(x), (y - level) / range, spread(x)));
                let (mean, variance, evidence) = line(seen, ridges, b);
                cells.push(Cell {
                    shape,
                    weight: self.weights[shape].ln() + evidence,
                    mean: level + range * mean,
                    deviation: range * (variance + spread(x)).sqrt(),
                });
            }
        }
        let most = cells.iter().map(|cell| cell.weight).fold(f64::NEG_INFINITY, f64::max);
        cells.iter_mut().for_each(|cell| cell.weight = (cell.weight - most).exp());
        let all: f64 = cells.iter().map(|cell| cell.weight).sum();
        cells.iter_mut().for_each(|cell| cell.weight /= all);
        all.is_finite().then_some(cells)
    }
}

/// Bayes for `level + change * basis`, both normal about 0 with these precisions: mean and variance of it where the basis is `at`, and
/// the logarithm of the evidence but for a constant. Points are (basis, value, variance).
fn line(points: impl Iterator<Item = (f64, f64, f64)>, ridges: [f64; 2], at: f64) -> (f64, f64, f64) {
    // Posterior precisions p, q, r of the two unknowns, and the right side u, v of their normal equations.
    let [mut p, mut q, mut r] = [ridges[0], 0.0, ridges[1]];
    let [mut u, mut v, mut evidence] = [0.0; 3];
    for (basis, value, variance) in points {
        let weight = 1.0 / variance;
        (p, q, r) = (p + weight, q + weight * basis, r + weight * basis * basis);
        (u, v) = (u + weight * value, v + weight * basis * value);
        evidence -= 0.5 * (variance.ln() + weight * value * value);
    }
    let determinant = p * r - q * q;
    let (level, change) = ((r * u - q * v) / determinant, (p * v - q * u) / determinant);
    evidence += 0.5 * (u * level + v * change + (ridges[0] * ridges[1] / determinant).ln());
    (level + change * at, (r - 2.0 * q * at + p * at * at) / determinant, evidence)
}

struct Cell {
    shape: usize,
    // At first the logarithm.
    weight: f64,
    mean: f64,
    deviation: f64,
}

impl Forecast {
    /// The expected value.
    pub fn mean(&self) -> f64 {
        self.parts.iter().map(|(weight, mean, _)| weight * mean).sum()
    }

    /// The standard deviation.
    pub fn deviation(&self) -> f64 {
        let centre = self.mean();
        let square =
            |(weight, mean, deviation): &(f64, f64, f64)| weight * (deviation.powi(2) + (mean - centre).powi(2));
        self.parts.iter().map(square).sum::<f64>().sqrt()
    }

    /// The probability of a value below `bound`.
    pub fn below(&self, bound: f64) -> f64 {
        self.parts.iter().map(|(weight, mean, deviation)| weight * above((mean - bound) / deviation)).sum()
    }

    /// The value below which `share` of the probability lies.
    pub fn quantile(&self, share: f64) -> f64 {
        let reach = |sign: f64| self.parts.iter().map(move |(_, mean, deviation)| mean + sign * 10.0 * deviation);
        let (mut low, mut high) =
            (reach(-1.0).fold(f64::INFINITY, f64::min), reach(1.0).fold(f64::NEG_INFINITY, f64::max));
        for _ in 0..60 {
            let middle = 0.5 * (low + high);
            if self.below(middle) < share {
                low = middle;
            } else {
                high = middle;
            }
        }
        0.5 * (low + high)
    }

    /// A value drawn from it, by the first numbers of `random`.
    pub fn draw(&self, random: Random) -> f64 {
        let mut left = random.unit(0);
        let part = self.parts.iter().find(|(weight, _, _)| {
            left -= weight;
            left < 0.0
        });
        // The weights add to 1 but for rounding.
        let Some((_, mean, deviation)) = part.or(self.parts.last()) else { return f64::NAN };
        // Box and Muller (1958).
        let normal = (-2.0 * (1.0 - random.unit(1)).ln()).sqrt() * (TAU * random.unit(2)).cos();
        mean + deviation * normal
    }

    /// Moved by `shift`, and wider by `factor` about its mean.
    pub fn adjusted(&self, shift: f64, factor: f64) -> Self {
        let centre = self.mean();
        let adjust = |(weight, mean, deviation): &(f64, f64, f64)| {
            (*weight, centre + shift + factor * (mean - centre), factor * deviation)
        };
        Self { parts: self.parts.iter().map(adjust).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: [f64; 5] = [0.02, 0.04, 0.08, 0.16, 0.32];

    fn along(curve: impl Fn(f64) -> f64) -> Vec<(f64, f64)> {
        STEPS.iter().map(|&x| (x, curve(x))).collect()
    }

    #[test]
    fn curves_of_each_family_are_forecast_within_their_intervals() {
        let curves: [fn(f64) -> f64; 5] = [
            |x| 1.5 + 0.2 * x.powf(-0.4),
            |x| 2.0 + 3.0 * (-x / 0.15).exp(),
            |x| 0.3 + 1.0 / (1.0 + (x / 0.05).powf(1.5)),
            |x| -0.8 + 0.1 * x.powf(-0.4),      // an accuracy, as a loss
            |x| 0.05 - 0.04 * (-x / 0.3).exp(), // what rises, such as a divergence from the base
        ];
        for curve in curves {
            let points = along(curve);
            let forecast = Curve::default().forecast(&points, 1.0).unwrap();
            let (low, high) = (forecast.quantile(0.05), forecast.quantile(0.95));
            assert!((low..high).contains(&curve(1.0)), "{low} {} {high}", curve(1.0));
            // The interval is of use: narrower than what was seen to change.
            assert!(high - low < (points[0].1 - points[4].1).abs(), "{low} {high} {points:?}");
        }
    }

    #[test]
    fn noise_widens_the_interval_and_other_curves_narrow_it() {
        let random = Random::new(5, "test");
        let curve = |x: f64| 1.0 + 0.3 * x.powf(-0.5);
        let width = |forecast: Forecast| forecast.quantile(0.95) - forecast.quantile(0.05);
        let smooth = Curve::default().forecast(&along(curve), 1.0).unwrap();
        let rough: Vec<(f64, f64)> =
            (0..5).map(|i| (STEPS[i], curve(STEPS[i]) + 1.5 * random.unit(i as u64))).collect();
        assert!(width(Curve::default().forecast(&rough, 1.0).unwrap()) > 1.5 * width(smooth.clone()));

        let whole = |scale: f64| -> Vec<(f64, f64)> {
            [0.02, 0.04, 0.08, 1.0].iter().map(|&x| (x, scale * curve(x))).collect()
        };
        let curves = [whole(0.5), whole(1.0), whole(2.0)];
        let learned = Curve::learned(curves.iter().map(Vec::as_slice)).forecast(&along(curve)[..3], 1.0).unwrap();
        let alone = Curve::default().forecast(&along(curve)[..3], 1.0).unwrap();
        assert!((learned.mean() - curve(1.0)).abs() < (alone.mean() - curve(1.0)).abs());
        assert!(learned.deviation() < alone.deviation());
    }

    #[test]
    fn what_cannot_be_forecast_is_not() {
        let curve = Curve::default();
        assert_eq!(curve.forecast(&[], 1.0), None);
        assert_eq!(curve.forecast(&[(0.1, 1.0), (0.2, 0.5)], 1.0), None);
        assert_eq!(curve.forecast(&[(0.1, 1.0), (0.2, f64::NAN), (0.3, 0.5)], 1.0), None);
        // Values that stand still stay where they are, within some doubt.
        let still = curve.forecast(&[(0.1, 0.5), (0.2, 0.5), (0.4, 0.5)], 1.0).unwrap();
        assert!((still.mean() - 0.5).abs() < 1e-3 && still.deviation() > 0.0 && still.deviation() < 0.01);
        assert!(still.quantile(0.5).is_finite());
    }
}
