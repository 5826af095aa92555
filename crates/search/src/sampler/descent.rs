//! A smooth function of few variables within bounds, gone down.

use std::collections::VecDeque;

/// Pairs of steps and changes of the slope from which the curvature is guessed.
const MEMORY: usize = 8;
/// Halvings of a step before it is given up.
const HALVINGS: usize = 20;

/// Goes down from `start` by the L-BFGS method (Nocedal, 1980), at most `steps` steps, each held within the bounds: variables that
/// press against a bound rest for the step. `function` gives the value and writes the slope. A value that is no number counts as
/// worse than any. Returns the lowest point and its value.
pub(super) fn descend(
    function: &mut dyn FnMut(&[f64], &mut [f64]) -> f64,
    start: &[f64],
    bounds: &[(f64, f64)],
    steps: usize,
) -> (Vec<f64>, f64) {
    let held = |x: &[f64]| -> Vec<f64> { x.iter().zip(bounds).map(|(x, (low, high))| x.clamp(*low, *high)).collect() };
    let mut x = held(start);
    let mut slope = vec![0.0; x.len()];
    let mut value = function(&x, &mut slope);
    let mut pairs: VecDeque<(Vec<f64>, Vec<f64>, f64)> = VecDeque::new();
    for _ in 0..steps {
        let rests: Vec<bool> = (0..x.len())
            .map(|i| (x[i] <= bounds[i].0 && slope[i] > 0.0) || (x[i] >= bounds[i].1 && slope[i] < 0.0))
            .collect();
        let free = |vector: &[f64]| -> Vec<f64> {
            vector.iter().zip(&rests).map(|(value, rests)| if *rests { 0.0 } else { *value }).collect()
        };
        let downhill = free(&slope);
        if !value.is_finite() || downhill.iter().all(|slope| slope.abs() < 1e-10) {
            break;
        }
        let mut direction = free(&curved(&downhill, &pairs));
        if dot(&direction, &downhill) >= 0.0 {
            pairs.clear();
            direction = downhill.iter().map(|slope| -slope).collect();
        }
        // Without a guess of the curvature the first step is short against the bounds.
        let longest = direction.iter().fold(0.0f64, |longest, step| longest.max(step.abs()));
        let mut length = if pairs.is_empty() { (0.1 / longest).min(1.0) } else { 1.0 };
        let mut next = None;
        for _ in 0..HALVINGS {
            let to = held(&x.iter().zip(&direction).map(|(x, step)| x + length * step).collect::<Vec<_>>());
            let moved: f64 = to.iter().zip(&x).zip(&downhill).map(|((to, x), slope)| (to - x) * slope).sum();
            let mut slope_there = vec![0.0; x.len()];
            let value_there = function(&to, &mut slope_there);
            if value_there <= value + 1e-4 * moved && slope_there.iter().all(|slope| slope.is_finite()) {
                next = Some((to, value_there, slope_there));
                break;
            }
            length *= 0.5;
        }
        let Some((to, value_there, slope_there)) = next else { break };
        let step: Vec<f64> = to.iter().zip(&x).map(|(to, x)| to - x).collect();
        let change: Vec<f64> = slope_there.iter().zip(&slope).map(|(there, here)| there - here).collect();
        let curvature = dot(&step, &change);
        if curvature > 1e-12 * dot(&change, &change) {
            pairs.push_back((step, change, curvature));
            if pairs.len() > MEMORY {
                pairs.pop_front();
            }
        }
        let gained = value - value_there;
        (x, value, slope) = (to, value_there, slope_there);
        if gained <= 1e-9 * (1.0 + value.abs()) {
            break;
        }
    }
    (x, value)
}

/// Minus the slope, stretched by the curvature that the pairs tell of (the two loops of Nocedal).
fn curved(slope: &[f64], pairs: &VecDeque<(Vec<f64>, Vec<f64>, f64)>) -> Vec<f64> {
    let mut direction: Vec<f64> = slope.iter().map(|slope| -slope).collect();
    let mut shares = Vec::with_capacity(pairs.len());
    for (step, change, curvature) in pairs.iter().rev() {
        let share = dot(step, &direction) / curvature;
        direction.iter_mut().zip(change).for_each(|(to, change)| *to -= share * change);
        shares.push(share);
    }
    if let Some((_, change, curvature)) = pairs.back() {
        let scale = curvature / dot(change, change);
        direction.iter_mut().for_each(|to| *to *= scale);
    }
    for ((step, change, curvature), share) in pairs.iter().zip(shares.iter().rev()) {
        let back = share - dot(change, &direction) / curvature;
        direction.iter_mut().zip(step).for_each(|(to, step)| *to += back * step);
    }
    direction
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The valley of Rosenbrock, lowest at (1, 1).
    fn valley(x: &[f64], slope: &mut [f64]) -> f64 {
        let bent = x[1] - x[0] * x[0];
        slope[0] = -400.0 * x[0] * bent - 2.0 * (1.0 - x[0]);
        slope[1] = 200.0 * bent;
        100.0 * bent * bent + (1.0 - x[0]).powi(2)
    }

    #[test]
    fn a_bent_valley_is_followed_to_its_end_and_to_the_bound_before_it() {
        let (lowest, value) = descend(&mut valley, &[-1.2, 1.0], &[(-5.0, 5.0); 2], 200);
        assert!(value < 1e-8 && (lowest[0] - 1.0).abs() < 1e-3, "{lowest:?} {value}");
        // With x at most 0.5, the lowest is at (0.5, 0.25).
        let (lowest, value) = descend(&mut valley, &[-1.2, 1.0], &[(-5.0, 0.5), (-5.0, 5.0)], 200);
        assert!((value - 0.25).abs() < 1e-5 && (lowest[1] - 0.25).abs() < 1e-3, "{lowest:?} {value}");
    }

    #[test]
    fn what_is_no_number_is_not_gone_to() {
        let mut root = |x: &[f64], slope: &mut [f64]| {
            slope[0] = 0.5 / x[0].sqrt();
            x[0].sqrt()
        };
        let (lowest, value) = descend(&mut root, &[2.0], &[(-1.0, 3.0)], 50);
        assert!(lowest[0] >= 0.0 && value < 2f64.sqrt(), "{lowest:?} {value}");
        let (same, _) = descend(&mut |_, _| f64::NAN, &[2.0], &[(-1.0, 3.0)], 50);
        assert_eq!(same, [2.0]);
    }
}
