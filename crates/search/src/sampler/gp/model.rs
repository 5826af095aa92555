//! A Gaussian process over coordinates: what is known of a function from its values at some points.

use super::kernel::{Kind, matern};
use super::matrix::{Square, dot};
use crate::sampler::descent::descend;

/// What the kernel is made of; all are found from the data.
#[derive(Clone, Debug)]
pub(super) struct Hyper {
    /// The logarithm of each parameter's length: how far one goes until the function has forgotten where it was.
    pub ln_lengths: Vec<f64>,
    /// The logarithm of the share of noise in the variance.
    pub ln_noise: f64,
}

/// Lengths and noise as they are expected before any data: middle and standard deviation of their logarithms. Lengths grow with
/// the root of the number of parameters (Hvarfner et al., Vanilla Bayesian optimization performs great in high dimensions,
/// 2024); values are mostly exact, or nearly.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    pub length: (f64, f64),
    pub noise: (f64, f64),
}

impl Expected {
    fn of(parameters: usize) -> Self {
        Self { length: (-0.3 + 0.5 * (parameters as f64).ln(), 1.0), noise: (-10.0, 3.0) }
    }
}

const LENGTHS: (f64, f64) = (-4.0, 6.0);
const NOISES: (f64, f64) = (-18.0, 1.0);
/// The logarithm of a noise that is a fifth of all there is.
const NOISY: f64 = -1.5;
/// Steps down from each start, and from the best of where these lead.
const FIRST_STEPS: usize = 8;
const STEPS: usize = 30;
/// The variance is shrunk a little towards 1, that of standardised values: as if so many values more had been seen.
const VARIANCE_COUNT: f64 = 2.0;

/// A process with its data.
#[derive(Clone, Debug)]
pub(super) struct Model {
    kinds: Vec<Kind>,
    hyper: Hyper,
    inverse_squares: Vec<f64>,
    rows: Vec<Vec<f64>>,
    values: Vec<f64>,
    mean: f64,
    variance: f64,
    /// The inverse of the kernel matrix times what the values differ from the mean.
    weights: Vec<f64>,
    /// [`Square::inverse_transposed`] of the matrix's factor.
    inverse: Square,
}

/// What is known of one point: mean and standard deviation, and their slopes by the coordinates.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub mean: f64,
    pub deviation: f64,
    pub mean_slope: Vec<f64>,
    pub deviation_slope: Vec<f64>,
}

impl Model {
    /// The most likely process for values at rows of coordinates, both its likelihood and what is expected of it counted; none where
    /// no kernel matrix can be factored. Values are standardised.
    pub(super) fn fit(kinds: &[Kind], rows: &[Vec<f64>], values: &[f64]) -> Option<Self> {
        let likelihood = Likelihood::new(kinds, rows, values);
        let expected = likelihood.expected;
        let bounds: Vec<(f64, f64)> = kinds.iter().map(|_| LENGTHS).chain(std::iter::once(NOISES)).collect();
        let (length, noise) = (expected.length.0, expected.noise.0);
        let mut cost = |place: &[f64], slope: &mut [f64]| likelihood.cost(place, slope);
        // As expected; a rougher function; a smooth one under noise. Whichever is most likely after some steps is gone on with.
        let begun = [(length, noise), (length - 1.5, noise), (length, NOISY)].map(|(length, noise)| {
            let start: Vec<f64> = kinds.iter().map(|_| length).chain(std::iter::once(noise)).collect();
            descend(&mut cost, &start, &bounds, FIRST_STEPS)
        });
        let (place, _) = begun.into_iter().min_by(|a, b| a.1.total_cmp(&b.1))?;
        let (place, _) = descend(&mut cost, &place, &bounds, STEPS);
        let (ln_noise, ln_lengths) = place.split_last()?;
        Self::with(
            kinds,
            Hyper { ln_lengths: ln_lengths.to_vec(), ln_noise: *ln_noise },
            rows.to_vec(),
            values.to_vec(),
        )
    }

    /// The process of that kernel with these data. Noise is raised until the matrix can be factored.
    pub(super) fn with(kinds: &[Kind], mut hyper: Hyper, rows: Vec<Vec<f64>>, values: Vec<f64>) -> Option<Self> {
        let inverse_squares: Vec<f64> = hyper.ln_lengths.iter().map(|length| (-2.0 * length).exp()).collect();
        let mut kernel = Square::zeros(rows.len());
        let mut factored = false;
        while !factored && hyper.ln_noise <= NOISES.1 {
            for i in 0..rows.len() {
                for j in 0..i {
                    *kernel.at(i, j) = matern(squared(kinds, &inverse_squares, &rows[i], &rows[j])).0;
                }
                *kernel.at(i, i) = 1.0 + hyper.ln_noise.exp();
            }
            factored = kernel.factor();
            if !factored {
                hyper.ln_noise += 2.0;
            }
        }
        if !factored {
            return None;
        }
        let inverse = kernel.inverse_transposed();
        let (mean, variance, weights) = explained(&inverse, &values);
        Some(Self { kinds: kinds.to_vec(), hyper, inverse_squares, rows, values, mean, variance, weights, inverse })
    }

    /// The same, believing that at `rows` the function is what is expected there (the "kriging believer" of Ginsbourger et al., 2010).
    pub(super) fn believing(&self, rows: &[Vec<f64>]) -> Option<Self> {
        let (mut all, mut values) = (self.rows.clone(), self.values.clone());
        for row in rows {
            values.push(self.at(row).mean);
            all.push(row.clone());
        }
        let believing = Self::with(&self.kinds, self.hyper.clone(), all, values)?;
        Some(Self { variance: self.variance, ..believing })
    }

    /// The rows.
    pub(super) fn rows(&self) -> &[Vec<f64>] {
        &self.rows
    }

    /// What is known at a point, without slopes.
    pub(super) fn at(&self, x: &[f64]) -> Known {
        let near: Vec<f64> =
            self.rows.iter().map(|row| matern(squared(&self.kinds, &self.inverse_squares, x, row)).0).collect();
        let (mean, deviation, _) = self.known(&near);
        Known { mean, deviation, ..Known::default() }
    }

    /// What is known at a point.
    pub(super) fn with_slopes(&self, x: &[f64]) -> Known {
        let (near, falling): (Vec<f64>, Vec<f64>) =
            self.rows.iter().map(|row| matern(squared(&self.kinds, &self.inverse_squares, x, row))).unzip();
        let (mean, deviation, solved) = self.known(&near);
        // The inverse of the whole matrix times `near`.
        let whole: Vec<f64> = (0..near.len()).map(|j| dot(&self.inverse.row(j)[j..], &solved[j..])).collect();
        let (mut mean_slope, mut deviation_slope) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        for (((row, falling), weight), whole) in self.rows.iter().zip(&falling).zip(&self.weights).zip(&whole) {
            for (p, kind) in self.kinds.iter().enumerate() {
                let change = falling * self.inverse_squares[p] * kind.slope(x[p], row[p]);
                mean_slope[p] += weight * change;
                deviation_slope[p] -= whole * change * self.variance / deviation;
            }
        }
        Known { mean, deviation, mean_slope, deviation_slope }
    }

    /// Mean, deviation, and the inverse of the factor times `near`.
    fn known(&self, near: &[f64]) -> (f64, f64, Vec<f64>) {
        let mut solved = vec![0.0; near.len()];
        for (j, near) in near.iter().enumerate() {
            let column = &self.inverse.row(j)[j..];
            solved[j..].iter_mut().zip(column).for_each(|(sum, value)| *sum += near * value);
        }
        let left = (1.0 - dot(&solved, &solved)).max(1e-12);
        (self.mean + dot(near, &self.weights), (self.variance * left).sqrt(), solved)
    }
}

fn squared(kinds: &[Kind], inverse_squares: &[f64], a: &[f64], b: &[f64]) -> f64 {
    kinds
        .iter()
        .zip(inverse_squares)
        .zip(a.iter().zip(b))
        .map(|((kind, scale), (a, b))| scale * kind.squared(*a, *b))
        .sum()
}

/// The mean and variance that make the values most likely (Rasmussen and Williams, 2006, 2.7), and the weights of the rows.
fn explained(inverse: &Square, values: &[f64]) -> (f64, f64, Vec<f64>) {
    let size = values.len();
    let solve = |right: &[f64]| -> Vec<f64> {
        let mut half = vec![0.0; size];
        for (j, right) in right.iter().enumerate() {
            half[j..].iter_mut().zip(&inverse.row(j)[j..]).for_each(|(sum, value)| *sum += right * value);
        }
        (0..size).map(|j| dot(&inverse.row(j)[j..], &half[j..])).collect()
    };
    let (of_values, of_ones) = (solve(values), solve(&vec![1.0; size]));
    let mean = of_values.iter().sum::<f64>() / of_ones.iter().sum::<f64>().max(1e-300);
    let weights: Vec<f64> = of_values.iter().zip(&of_ones).map(|(value, one)| value - mean * one).collect();
    let explained: f64 = weights.iter().zip(values).map(|(weight, value)| weight * (value - mean)).sum();
    ((mean), (explained.max(0.0) + VARIANCE_COUNT) / (size as f64 + VARIANCE_COUNT), weights)
}

/// How unlikely lengths and noise are for some data.
struct Likelihood<'a> {
    values: &'a [f64],
    expected: Expected,
    /// By parameter, squared distances of all pairs of rows (i, j), j < i.
    squares: Vec<Vec<f64>>,
}

impl<'a> Likelihood<'a> {
    fn new(kinds: &[Kind], rows: &[Vec<f64>], values: &'a [f64]) -> Self {
        let squares = |(p, kind): (usize, &Kind)| {
            let pairs = (0..rows.len()).flat_map(|i| (0..i).map(move |j| (i, j)));
            pairs.map(|(i, j)| kind.squared(rows[i][p], rows[j][p])).collect()
        };
        Self { values, expected: Expected::of(kinds.len()), squares: kinds.iter().enumerate().map(squares).collect() }
    }

    /// The negative logarithm of likelihood and expectation, mean and variance being their best, at (lengths.., noise), all
    /// logarithms; and its slope (Rasmussen and Williams, 2006, 5.4.1).
    fn cost(&self, place: &[f64], slope: &mut [f64]) -> f64 {
        let size = self.values.len();
        let parameters = self.squares.len();
        let scales: Vec<f64> = place[..parameters].iter().map(|length| (-2.0 * length).exp()).collect();
        let noise = place[parameters].exp();
        let mut distances = vec![0.0; size * size.saturating_sub(1) / 2];
        for (squares, scale) in self.squares.iter().zip(&scales) {
            distances.iter_mut().zip(squares).for_each(|(sum, square)| *sum += scale * square);
        }
        let (mut kernel, mut falling) = (Square::zeros(size), distances);
        let mut pair = 0;
        for i in 0..size {
            for j in 0..i {
                let (value, derivative) = matern(falling[pair]);
                *kernel.at(i, j) = value;
                falling[pair] = derivative;
                pair += 1;
            }
            *kernel.at(i, i) = 1.0 + noise;
        }
        if !kernel.factor() {
            return f64::NAN;
        }
        let inverse = kernel.inverse_transposed();
        let (_, variance, weights) = explained(&inverse, self.values);
        let mut cost = 0.5 * (size as f64 + VARIANCE_COUNT) * variance.ln() + 0.5 * kernel.ln_determinant();
        slope.fill(0.0);
        // Half of (inverse - weights weights' / variance), against the derivative of the matrix by each parameter.
        let mut pair = 0;
        for i in 0..size {
            let own = &inverse.row(i)[i..];
            for j in 0..i {
                let gap = dot(own, &inverse.row(j)[i..]) - weights[i] * weights[j] / variance;
                falling[pair] *= gap;
                pair += 1;
            }
            let gap = dot(own, own) - weights[i] * weights[i] / variance;
            slope[parameters] += 0.5 * gap * noise;
        }
        for p in 0..parameters {
            slope[p] = -2.0 * scales[p] * dot(&falling, &self.squares[p]);
        }
        let expected = |(index, value): (usize, &f64)| {
            let (middle, deviation) = if index < parameters { self.expected.length } else { self.expected.noise };
            let off = (value - middle) / deviation;
            (0.5 * off * off, off / deviation)
        };
        for (index, value) in place.iter().enumerate() {
            let (more, steeper) = expected((index, value));
            cost += more;
            slope[index] += steeper;
        }
        cost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use temper_run::Random;

    fn data(count: usize) -> (Vec<Kind>, Vec<Vec<f64>>, Vec<f64>) {
        let random = Random::new(3, "test");
        let row = |i: u64| {
            let third = if i.is_multiple_of(3) { f64::NAN } else { random.unit(4 * i + 2) };
            vec![random.unit(4 * i), random.below(4 * i + 1, 3) as f64, third]
        };
        let rows: Vec<Vec<f64>> = (0..count as u64).map(row).collect();
        let value = |row: &Vec<f64>| (5.0 * row[0]).sin() + 0.5 * row[1] + if row[2].is_nan() { 0.3 } else { row[2] };
        let values = rows.iter().map(value).collect();
        (vec![Kind::Number, Kind::Choice, Kind::Number], rows, values)
    }

    #[test]
    fn slopes_of_the_likelihood_are_its_differences() {
        let (kinds, rows, values) = data(17);
        let likelihood = Likelihood::new(&kinds, &rows, &values);
        let place = [-0.5, 0.3, 0.8, -6.0];
        let mut slope = [0.0; 4];
        likelihood.cost(&place, &mut slope);
        for index in 0..4 {
            let cost = |step: f64| {
                let mut place = place;
                place[index] += step;
                likelihood.cost(&place, &mut [0.0; 4])
            };
            let difference = (cost(1e-5) - cost(-1e-5)) / 2e-5;
            assert!(
                (slope[index] - difference).abs() < 1e-5 * (1.0 + difference.abs()),
                "{index}: {slope:?} {difference}"
            );
        }
    }

    #[test]
    fn slopes_of_what_is_known_are_its_differences() {
        let (kinds, rows, values) = data(20);
        let model = Model::fit(&kinds, &rows, &values).unwrap();
        let x = [0.37, 1.0, 0.61];
        let known = model.with_slopes(&x);
        for p in [0, 2] {
            let moved = |step: f64| {
                let mut x = x;
                x[p] += step;
                model.at(&x)
            };
            let (up, down) = (moved(1e-5), moved(-1e-5));
            let mean = (up.mean - down.mean) / 2e-5;
            let deviation = (up.deviation - down.deviation) / 2e-5;
            assert!((known.mean_slope[p] - mean).abs() < 1e-5 * (1.0 + mean.abs()));
            assert!((known.deviation_slope[p] - deviation).abs() < 1e-4 * (1.0 + deviation.abs()));
        }
    }

    #[test]
    fn a_smooth_function_is_learned_and_belief_only_narrows() {
        let (kinds, rows, values) = data(60);
        let model = Model::fit(&kinds, &rows[..50], &values[..50]).unwrap();
        for (row, value) in rows[50..].iter().zip(&values[50..]) {
            let known = model.at(row);
            assert!((known.mean - value).abs() < 0.1 + 3.0 * known.deviation, "{value}: {known:?}");
        }
        let believing = model.believing(&rows[50..]).unwrap();
        for row in &rows[50..] {
            assert!((believing.at(row).mean - model.at(row).mean).abs() < 0.02);
            assert!(believing.at(row).deviation < 0.5 * model.at(row).deviation + 1e-3);
        }
        // The same value everywhere is no reason to fail.
        let flat = Model::fit(&kinds, &rows, &vec![0.0; rows.len()]).unwrap();
        assert!(flat.at(&rows[0]).mean.abs() < 1e-9);
        // One point, and the same point many times.
        assert!(Model::fit(&kinds, &rows[..1], &values[..1]).is_some());
        assert!(Model::fit(&kinds, &vec![rows[0].clone(); 30], &values[..30]).is_some());
    }
}
