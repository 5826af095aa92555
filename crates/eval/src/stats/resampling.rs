//! What every bootstrap interval is made of: units, draws of units, and the quantiles to cut at.

use std::collections::HashMap;

use temper_run::Random;

use super::{StatsError, Z_975, same_length};

/// Units of one resample: as many draws with replacement as there are units.
pub(super) struct Draws {
    stream: Random,
    units: usize,
    drawn: usize,
}

impl Draws {
    pub(super) fn new(seed: u64, resample: u64, units: usize) -> Draws {
        Draws { stream: Random::new(seed, "bootstrap").within(resample), units, drawn: 0 }
    }
}

impl Iterator for Draws {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        let index = self.drawn;
        self.drawn += 1;
        (index < self.units).then(|| self.stream.below(index as u64, self.units as u64) as usize)
    }
}

/// Rows by unit: unit `u` owns `rows[starts[u]..starts[u + 1]]`. Units are numbered by first appearance.
pub(super) struct Units {
    starts: Vec<u32>,
    rows: Vec<u32>,
}

impl Units {
    pub(super) fn new(n: usize, clusters: Option<&[u32]>) -> Result<Units, StatsError> {
        if n == 0 {
            return Err(StatsError::Empty);
        }
        let Some(clusters) = clusters else {
            return Ok(Units { starts: (0..=n as u32).collect(), rows: (0..n as u32).collect() });
        };
        same_length("the cluster column", n, clusters.len())?;
        let mut numbers = HashMap::new();
        let mut unit_of_row = Vec::with_capacity(n);
        let mut sizes: Vec<u32> = Vec::new();
        for cluster in clusters {
            let unit = *numbers.entry(cluster).or_insert(sizes.len());
            if unit == sizes.len() {
                sizes.push(0);
            }
            sizes[unit] += 1;
            unit_of_row.push(unit);
        }
        let mut starts = vec![0];
        for size in &sizes {
            starts.push(starts[starts.len() - 1] + size);
        }
        let mut next = starts.clone();
        let mut rows = vec![0; n];
        for (row, &unit) in unit_of_row.iter().enumerate() {
            rows[next[unit] as usize] = row as u32;
            next[unit] += 1;
        }
        Ok(Units { starts, rows })
    }

    pub(super) fn len(&self) -> usize {
        self.starts.len() - 1
    }

    #[inline]
    pub(super) fn rows(&self, unit: usize) -> &[u32] {
        &self.rows[self.starts[unit] as usize..self.starts[unit + 1] as usize]
    }
}

/// Quantile of sorted values by linear interpolation (Hyndman and Fan 1996, type 7: NumPy's and R's default).
pub(super) fn quantile(sorted: &[f64], probability: f64) -> f64 {
    let position = probability.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let below = sorted[position.floor() as usize];
    let above = sorted[position.ceil() as usize];
    below + (above - below) * position.fract()
}

/// Probability that the expanded percentile interval cuts off on each side: see the module's head.
pub(super) fn expanded_tail(units: usize) -> f64 {
    let units = units as f64;
    normal_upper_tail((units / (units - 1.0)).sqrt() * student_t_975(units - 1.0))
}

/// 97.5 % quantile of Student's t: exact for one and two degrees of freedom, else the expansion in 1/nu of Abramowitz
/// and Stegun 26.7.5 (at worst 0.2 % too small, at three degrees).
fn student_t_975(nu: f64) -> f64 {
    if nu < 1.5 {
        return 12.706_204_736;
    }
    if nu < 2.5 {
        return 4.302_652_730;
    }
    let z = Z_975;
    let square = z * z;
    let g1 = z * (square + 1.0) / 4.0;
    let g2 = z * ((5.0 * square + 16.0) * square + 3.0) / 96.0;
    let g3 = z * (((3.0 * square + 19.0) * square + 17.0) * square - 15.0) / 384.0;
    let g4 = z * ((((79.0 * square + 776.0) * square + 1482.0) * square - 1920.0) * square - 945.0) / 92160.0;
    z + (g1 + (g2 + (g3 + g4 / nu) / nu) / nu) / nu
}

/// `1 - Phi(x)` for `x >= 0` (Abramowitz and Stegun 26.2.17, absolute error below 7.5e-8).
fn normal_upper_tail(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * x);
    let series =
        t * (0.319_381_530 + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() * series
}

/// Upper 97.5 % bound on the frequency of what was not seen once in `units` units.
pub(super) fn never_seen(units: usize) -> f64 {
    1.0 - 0.025_f64.powf(1.0 / units as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_uniform_and_differ_between_resamples() {
        let units = 10;
        let mut seen = [0_u32; 10];
        for resample in 0..10_000 {
            Draws::new(3, resample, units).for_each(|unit| seen[unit] += 1);
        }
        // 100,000 draws, 10,000 expected in each cell with a standard deviation of 95.
        assert!(seen.iter().all(|&count| count.abs_diff(10_000) < 400), "{seen:?}");
        assert_ne!(Draws::new(3, 0, units).collect::<Vec<_>>(), Draws::new(3, 1, units).collect::<Vec<_>>());
    }

    #[test]
    fn quantiles_agree_with_published_values() {
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0], 0.25), 1.75);
        for (nu, expected) in [(1.0, 12.7062), (2.0, 4.3027), (5.0, 2.5706), (11.0, 2.2010), (100.0, 1.9840)] {
            let got = student_t_975(nu);
            assert!((got - expected).abs() < 6e-4, "t(0.975, {nu}) = {got}, tables say {expected}");
        }
        assert!((student_t_975(3.0) / 3.1824 - 1.0).abs() < 2e-3);
        assert!((normal_upper_tail(Z_975) - 0.025).abs() < 1e-7);
        assert!((expanded_tail(100_000) - 0.025).abs() < 1e-5);
    }
}
