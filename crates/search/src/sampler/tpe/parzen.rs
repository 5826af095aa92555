//! A density over a space: a kernel around each of some points.

use temper_run::Random;

use crate::sampler::normal;
use crate::sampler::start::TRUST;
use crate::space::{Domain, Parameter};

/// Where cells of a number are wider than this share of the scale, a kernel's mass over the cell is taken; where they are
/// narrower, the density at the middle of a normal that is wider by the cell's own variance, a twelfth of its square.
const COARSE: f64 = 0.02;

/// A mixture of kernels. A kernel is a product over the parameters: of a number, a normal distribution cut off at the ends of the
/// scale; of a choice, most of the weight on its own value. Where a kernel's point has no value, its factor is even.
pub(super) struct Parzen {
    /// Each kernel's logarithm of weight over all normalisers.
    base: Vec<f64>,
    /// The weights, summed up.
    sums: Vec<f64>,
    factors: Vec<Factor>,
}

enum Factor {
    Number(Normals),
    /// Normals over the cells of a domain: the different ones, and which one each kernel has.
    Cells {
        domain: Domain,
        different: Normals,
        which: Vec<usize>,
    },
    Choice {
        count: usize,
        own: Vec<Own>,
    },
}

/// Normal distributions cut off at 0 and 1; one of no inverse width is even.
#[derive(Default)]
struct Normals {
    middle: Vec<f64>,
    inverse: Vec<f64>,
}

/// The kernel of a choice: an index and how much of the weight lies on it beside the even part; all is even without an index.
#[derive(Clone, Copy)]
struct Own {
    index: Option<usize>,
    share: f64,
}

/// What a kernel is put around.
#[derive(Clone, Copy)]
pub(super) enum Center<'a> {
    /// A trial's coordinates.
    Trial(&'a [f64]),
    /// Nothing: it is as wide as the scale.
    Anywhere,
    /// Where priors say; anywhere for parameters without one.
    Prior,
}

impl Parzen {
    /// Kernels of the given weights. How wide a kernel is along a number is how far its further neighbour along it is, at
    /// least 1 / (n + 1) of the scale or a hundredth (Bergstra et al., 2011, as Optuna 5 has it for joint kernels, too).
    pub(super) fn new(parameters: &[Parameter], kernels: &[(Center<'_>, f64)]) -> Self {
        let count = kernels.len() as f64;
        let total: f64 = kernels.iter().map(|(_, weight)| weight).sum();
        let mut base: Vec<f64> = kernels.iter().map(|(_, weight)| (weight / total).ln()).collect();
        let mut sum = 0.0;
        let sums = kernels.iter().map(|(_, weight)| {
            sum += weight / total;
            sum
        });
        let sums = sums.collect();
        let factor = |(index, parameter): (usize, &Parameter)| match &parameter.domain {
            Domain::Choice { values } => {
                let share = 1.0 / (1.0 + values.len() as f64 / count);
                let own = kernels.iter().map(|(center, _)| choice_kernel(parameter, *center, index, share)).collect();
                Factor::Choice { count: values.len(), own }
            }
            domain => {
                let (from, to) = domain.cell_of(0.0);
                let is_coarse = domain.cells().is_some() && to - from > COARSE;
                let blur = if is_coarse { 0.0 } else { (to - from) * (to - from) / 12.0 };
                let mut normals = Normals::default();
                let widths = widths(kernels, index);
                for (kernel, ((center, _), width)) in kernels.iter().zip(widths).enumerate() {
                    let (middle, inverse) = number_kernel(parameter, *center, index, (width * width + blur).sqrt());
                    if inverse > 0.0 {
                        base[kernel] -= mass(middle, inverse, 0.0, 1.0).ln();
                    }
                    normals.push(middle, inverse);
                }
                if is_coarse {
                    let (different, which) = normals.different();
                    Factor::Cells { domain: domain.clone(), different, which }
                } else {
                    // The density's own constant; in the masses of cells there is none.
                    let constant =
                        |inverse: &f64| if *inverse > 0.0 { inverse.ln() - normal::LN_SQRT_2PI } else { 0.0 };
                    base.iter_mut().zip(&normals.inverse).for_each(|(base, inverse)| *base += constant(inverse));
                    Factor::Number(normals)
                }
            }
        };
        let factors = parameters.iter().enumerate().map(factor).collect();
        Self { base, sums, factors }
    }

    /// Coordinates drawn from it, one for each parameter.
    pub(super) fn draw(&self, random: Random) -> Vec<f64> {
        let unit = random.unit(0);
        let kernel = self.sums.partition_point(|sum| *sum <= unit).min(self.sums.len() - 1);
        let coordinate = |(index, factor): (usize, &Factor)| {
            let unit = random.unit(1 + index as u64);
            match factor {
                Factor::Number(normals) => normals.draw(kernel, unit),
                Factor::Cells { different, which, .. } => different.draw(which[kernel], unit),
                Factor::Choice { count, own } => match own[kernel] {
                    Own { index: Some(index), share } if unit < share => index as f64,
                    Own { share, index } => {
                        let rest = if index.is_some() { (unit - share) / (1.0 - share) } else { unit };
                        (rest * *count as f64).floor().min((count - 1) as f64)
                    }
                },
            }
        };
        self.factors.iter().enumerate().map(coordinate).collect()
    }

    /// The logarithm of the density at `at`; parameters that are not active there have no part in it.
    pub(super) fn ln_density(&self, at: &[f64]) -> f64 {
        let mut sums = self.base.clone();
        for (factor, &x) in self.factors.iter().zip(at) {
            match factor {
                _ if x.is_nan() => {}
                Factor::Number(normals) => {
                    for ((sum, middle), inverse) in sums.iter_mut().zip(&normals.middle).zip(&normals.inverse) {
                        let z = (x - middle) * inverse;
                        *sum -= 0.5 * z * z;
                    }
                }
                Factor::Cells { domain, different, which } => {
                    let (from, to) = domain.cell_of(x);
                    let masses: Vec<f64> = different.masses(from, to).map(f64::ln).collect();
                    sums.iter_mut().zip(which).for_each(|(sum, which)| *sum += masses[*which]);
                }
                Factor::Choice { count, own } => {
                    for (sum, own) in sums.iter_mut().zip(own) {
                        let even = 1.0 / *count as f64;
                        *sum += match own.index {
                            Some(index) if index == x as usize => (own.share + (1.0 - own.share) * even).ln(),
                            Some(_) => ((1.0 - own.share) * even).ln(),
                            None => even.ln(),
                        };
                    }
                }
            }
        }
        let highest = sums.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        highest + sums.iter().map(|sum| (sum - highest).exp()).sum::<f64>().ln()
    }
}

impl Normals {
    fn push(&mut self, middle: f64, inverse: f64) {
        self.middle.push(middle);
        self.inverse.push(inverse);
    }

    /// Those that differ, and for each kernel which of them it has.
    fn different(&self) -> (Self, Vec<usize>) {
        let (mut different, mut places) = (Self::default(), std::collections::BTreeMap::new());
        let which = self.middle.iter().zip(&self.inverse).map(|(middle, inverse)| {
            *places.entry((middle.to_bits(), inverse.to_bits())).or_insert_with(|| {
                different.push(*middle, *inverse);
                different.middle.len() - 1
            })
        });
        let which = which.collect();
        (different, which)
    }

    fn draw(&self, index: usize, unit: f64) -> f64 {
        let (middle, inverse) = (self.middle[index], self.inverse[index]);
        if inverse == 0.0 {
            return unit;
        }
        let place = |x: f64| normal::below((x - middle) * inverse);
        let (from, to) = (place(0.0), place(1.0));
        (middle + normal::quantile(from + unit * (to - from)) / inverse).clamp(0.0, 1.0)
    }

    fn masses(&self, from: f64, to: f64) -> impl Iterator<Item = f64> + '_ {
        self.middle.iter().zip(&self.inverse).map(move |(middle, inverse)| {
            let mass = if *inverse == 0.0 { to - from } else { mass(*middle, *inverse, from, to) };
            mass.max(f64::MIN_POSITIVE)
        })
    }
}

fn mass(middle: f64, inverse: f64, from: f64, to: f64) -> f64 {
    normal::between((from - middle) * inverse, (to - middle) * inverse)
}

/// The width of each kernel around a trial along a number: the distance to the further one of its two neighbours; of the first
/// and the last one to the only one. Kernels around anything else have widths of their own.
fn widths(kernels: &[(Center<'_>, f64)], index: usize) -> Vec<f64> {
    let least = 1.0 / (kernels.len() as f64 + 1.0).min(100.0);
    let place = |kernel: usize| match kernels[kernel].0 {
        Center::Trial(at) => at[index],
        Center::Anywhere | Center::Prior => f64::NAN,
    };
    let mut order: Vec<usize> = (0..kernels.len()).filter(|&kernel| !place(kernel).is_nan()).collect();
    order.sort_by(|&a, &b| place(a).total_cmp(&place(b)));
    let mut widths = vec![1.0; kernels.len()];
    for (rank, &kernel) in order.iter().enumerate() {
        let gap = |other: Option<&usize>| other.map(|&other| (place(other) - place(kernel)).abs());
        let (before, after) = (gap(rank.checked_sub(1).and_then(|rank| order.get(rank))), gap(order.get(rank + 1)));
        let width = match (before, after) {
            (None, None) => place(kernel).max(1.0 - place(kernel)),
            _ => before.unwrap_or(0.0).max(after.unwrap_or(0.0)),
        };
        widths[kernel] = width.clamp(least, 1.0);
    }
    widths
}

/// Middle and inverse width.
fn number_kernel(parameter: &Parameter, center: Center<'_>, index: usize, width: f64) -> (f64, f64) {
    match center {
        Center::Trial(at) if !at[index].is_nan() => (at[index], 1.0 / width),
        Center::Trial(_) => (0.5, 0.0),
        Center::Anywhere => (0.5, 1.0),
        Center::Prior => match &parameter.prior {
            Some(prior) => (parameter.domain.coordinate(&prior.around).unwrap_or(0.5), 1.0 / prior.spread),
            None => (0.5, 1.0),
        },
    }
}

fn choice_kernel(parameter: &Parameter, center: Center<'_>, index: usize, share: f64) -> Own {
    let even = Own { index: None, share: 0.0 };
    match center {
        Center::Trial(at) if !at[index].is_nan() => Own { index: Some(at[index] as usize), share },
        Center::Trial(_) | Center::Anywhere => even,
        Center::Prior => {
            let around = parameter.prior.as_ref().and_then(|prior| parameter.domain.coordinate(&prior.around));
            around.map_or(even, |around| Own { index: Some(around as usize), share: TRUST })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::Prior;

    /// Over every point of a discrete space the masses sum to one, whatever the kernels.
    #[test]
    fn masses_of_a_discrete_space_sum_to_one() {
        let prior = Prior { around: 3.into(), spread: 0.1, source: "a test".into() };
        let parameters = [
            Parameter::new("choice", Domain::choice(["a", "b", "c"])),
            Parameter { prior: Some(prior), ..Parameter::new("int", Domain::int(1, 7)) },
            Parameter::new("log", Domain::Int { low: 1, high: 9, log: true, step: 1 }),
        ];
        let trials = [[0.0, 0.5, 0.9], [2.0, f64::NAN, 0.1], [f64::NAN, 0.93, f64::NAN]];
        let mut kernels: Vec<(Center<'_>, f64)> =
            trials.iter().zip([1.0, 0.5, 2.0]).map(|(at, weight)| (Center::Trial(at), weight)).collect();
        kernels.extend([(Center::Anywhere, 1.0), (Center::Prior, 1.0)]);
        let density = Parzen::new(&parameters, &kernels);
        let mut sum = 0.0;
        for choice in 0..3 {
            for int in 0..7 {
                for log in 0..9 {
                    let at = [choice as f64, parameters[1].domain.nth(int), parameters[2].domain.nth(log)];
                    sum += density.ln_density(&at).exp();
                }
            }
        }
        assert!((sum - 1.0).abs() < 1e-9, "{sum}");
    }

    #[test]
    fn draws_have_the_density_that_is_said_of_them() {
        let parameters = [Parameter::new("x", Domain::float(0.0, 1.0)), Parameter::new("c", Domain::choice([1, 2]))];
        let kernels = [(Center::Trial(&[0.1, 1.0][..]), 3.0), (Center::Anywhere, 1.0)];
        let density = Parzen::new(&parameters, &kernels);
        let random = Random::new(3, "test");
        let (cells, count) = (8, 40_000);
        let mut seen = vec![[0usize; 2]; cells];
        for draw in 0..count {
            let at = density.draw(random.within(draw));
            seen[((at[0] * cells as f64) as usize).min(cells - 1)][at[1] as usize] += 1;
        }
        for (cell, seen) in seen.iter().enumerate() {
            for (choice, seen) in seen.iter().enumerate() {
                let mean = (0..100).map(|part| {
                    let x = (cell as f64 + (f64::from(part) + 0.5) / 100.0) / cells as f64;
                    density.ln_density(&[x, choice as f64]).exp()
                });
                let expected = mean.sum::<f64>() / 100.0 / cells as f64 * count as f64;
                let off = (*seen as f64 - expected).abs();
                assert!(off < 5.0 * expected.sqrt() + 1.0, "cell {cell}, choice {choice}: {seen}, expected {expected}");
            }
        }
    }
}
