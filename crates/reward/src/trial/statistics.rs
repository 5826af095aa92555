//! Ranks and their intervals.

use serde::Serialize;

/// A value with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// The estimate.
    pub value: f64,
    /// Its lower bound.
    pub low: f64,
    /// Its upper bound.
    pub high: f64,
}

/// The 97.5 % point of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// Spearman's rank correlation, ties at their mean rank. The interval is Fisher's with the variance of Bonett and
/// Wright (2000), (1 + r^2 / 2) / (n - 3); it always holds the estimate. None for fewer than four pairs, or where one side is all alike.
pub fn rank_correlation(pairs: &[(f64, f64)]) -> Option<Interval> {
    if pairs.len() < 4 {
        return None;
    }
    let x = ranks(&pairs.iter().map(|pair| pair.0).collect::<Vec<_>>());
    let y = ranks(&pairs.iter().map(|pair| pair.1).collect::<Vec<_>>());
    let n = pairs.len() as f64;
    let mean = (n + 1.0) / 2.0;
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>();
    let (xx, yy) = (product(&x, &x), product(&y, &y));
    if xx == 0.0 || yy == 0.0 {
        return None;
    }
    let value = (product(&x, &y) / (xx * yy).sqrt()).clamp(-1.0, 1.0);
    let error = ((1.0 + value * value / 2.0) / (n - 3.0)).sqrt();
    // The transform has no value at 1: there it is that of two neighbours exchanged, the next that ranks can have.
    let most = 1.0 - 12.0 / (n * (n * n - 1.0));
    let centre = value.clamp(-most, most).atanh();
    let (low, high) = ((centre - Z * error).tanh(), (centre + Z * error).tanh());
    Some(Interval { value, low: low.min(value), high: high.max(value) })
}

/// How often a good one scores above a bad one, ties as half: the area under the ROC curve. The interval is Wilson's
/// (1927) for as many independent pairs as the smaller side has, whose variance that of the area never exceeds
/// (Hoeffding 1948): wide rather than wrong, at 1 as well. None where one side is empty.
pub fn area_under_curve(good: &[f64], bad: &[f64]) -> Option<Interval> {
    if good.is_empty() || bad.is_empty() {
        return None;
    }
    let (n, m) = (good.len() as f64, bad.len() as f64);
    let both = ranks(&[good, bad].concat());
    let value = (both[..good.len()].iter().sum::<f64>() - n * (n + 1.0) / 2.0) / (n * m);
    let pairs = n.min(m);
    let centre = (value + Z * Z / (2.0 * pairs)) / (1.0 + Z * Z / pairs);
    let half = Z / (1.0 + Z * Z / pairs) * (value * (1.0 - value) / pairs + (Z / (2.0 * pairs)).powi(2)).sqrt();
    Some(Interval { value, low: (centre - half).max(0.0), high: (centre + half).min(1.0) })
}

/// The value below which a share of them lies, the nearest one; none of none.
pub fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(place.saturating_sub(1).min(sorted.len().saturating_sub(1))).copied()
}

/// Ranks from 1, ties at their mean.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut begin = 0;
    while begin < order.len() {
        let alike = order[begin..].iter().take_while(|&&at| values[at] == values[order[begin]]).count();
        let rank = begin as f64 + (alike as f64 + 1.0) / 2.0;
        for &at in &order[begin..begin + alike] {
            ranks[at] = rank;
        }
        begin += alike;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    /// See `tests/golden/rewards`.
    #[test]
    fn ranks_are_those_of_scipy_and_scikit_learn() {
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../../../../tests/golden/rewards/words.json")).unwrap();
        for sample in golden["ranks"].as_array().unwrap() {
            let numbers = |name: &str| -> Vec<f64> {
                sample[name].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
            };
            let (x, y) = (numbers("x"), numbers("y"));
            let pairs: Vec<(f64, f64)> = x.iter().copied().zip(y).collect();
            let found = rank_correlation(&pairs).unwrap();
            assert!((found.value - sample["spearman"].as_f64().unwrap()).abs() < 1e-12, "{found:?} {sample}");
            assert!(found.low <= found.value && found.value <= found.high, "{found:?}");
            let label = |good: bool| -> Vec<f64> {
                let labels = sample["label"].as_array().unwrap().iter();
                x.iter().zip(labels).filter(|(_, label)| label.as_bool() == Some(good)).map(|(x, _)| *x).collect()
            };
            let area = area_under_curve(&label(true), &label(false)).unwrap();
            assert!((area.value - sample["auc"].as_f64().unwrap()).abs() < 1e-12, "{area:?}");
        }
        assert_eq!(rank_correlation(&[(1.0, 2.0), (2.0, 1.0), (3.0, 3.0)]), None);
        assert_eq!(rank_correlation(&[(1.0, 2.0); 5]), None);
        let line: Vec<(f64, f64)> = (0..50).map(|i| (f64::from(i), f64::from(-i))).collect();
        assert_eq!(rank_correlation(&line).unwrap().value, -1.0);
    }

    #[test]
    fn area_counts_pairs() {
        let area = |good: &[f64], bad: &[f64]| area_under_curve(good, bad).map(|area| area.value);
        assert_eq!(area(&[1.0, 1.0], &[0.0, 0.0, 0.0]), Some(1.0));
        assert_eq!(area(&[0.5], &[0.5]), Some(0.5));
        assert_eq!(area(&[0.2, 0.8], &[0.5, 0.1]), Some(0.75));
        assert_eq!(area(&[], &[0.5]), None);
        let found = area_under_curve(&[0.2, 0.8, 0.9], &[0.5, 0.1]).unwrap();
        assert!(found.low < found.value && found.high <= 1.0);
        // n / (n + z^2) where all pairs are right.
        let sure = area_under_curve(&[1.0; 4], &[0.0; 9]).unwrap();
        assert!((sure.low - 4.0 / (4.0 + Z * Z)).abs() < 1e-12 && sure.high == 1.0, "{sure:?}");
    }

    #[test]
    fn quantiles_are_values() {
        let values = [3.0, 1.0, 2.0, 4.0];
        assert_eq!(quantile(&values, 0.5), Some(2.0));
        assert_eq!(quantile(&values, 0.95), Some(4.0));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
