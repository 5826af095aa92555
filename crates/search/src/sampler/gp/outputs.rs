//! Values as a Gaussian process can take them.

/// Losses on a scale on which their differences matter alike: the logarithm of how far a loss is above the best, in units of how
/// far the middle one is, so that what is far behind is all one. What is no finite number is as bad as the worst that is; none
/// where nothing is finite.
pub(super) fn losses(values: &[f64]) -> Option<Vec<f64>> {
    let mut finite: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    finite.sort_by(f64::total_cmp);
    let (best, worst) = (*finite.first()?, *finite.last()?);
    let held = values.iter().map(|value| if value.is_nan() { worst } else { value.clamp(best, worst) });
    let unit = quantile(&finite, 0.5) - best;
    if unit > 0.0 && unit.is_finite() {
        return Some(standard(held.map(|value| ((value - best) / unit).ln_1p()).collect()));
    }
    Some(standard(held.collect()))
}

/// A constraint on a scale on which 0 stays 0 and both sides are told apart by their orders (as SCBO does: Eriksson and Poloczek,
/// 2021), and where 0 lies there. What is no number is as broken as anything.
pub(super) fn constraint(values: &[f64]) -> (Vec<f64>, f64) {
    let mut sizes: Vec<f64> = values.iter().map(|value| value.abs()).filter(|size| size.is_finite()).collect();
    sizes.sort_by(f64::total_cmp);
    let scale = if sizes.is_empty() { 1.0 } else { quantile(&sizes, 0.5) };
    let scale = if scale > 0.0 { scale } else { 1.0 };
    let ordered = |value: f64| (value.abs() / scale).ln_1p().copysign(value);
    let highest = values.iter().copied().filter(|value| value.is_finite()).fold(0.0, f64::max);
    let lowest = values.iter().copied().filter(|value| value.is_finite()).fold(0.0, f64::min);
    let held = values.iter().map(|value| match value {
        value if value.is_nan() => highest.max(scale),
        value => value.clamp(lowest, highest.max(scale)),
    });
    let values: Vec<f64> = held.map(ordered).collect();
    let (middle, deviation) = spread(&values);
    (values.iter().map(|value| (value - middle) / deviation).collect(), -middle / deviation)
}

/// Of sorted values.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (low, part) = (place.floor() as usize, place.fract());
    sorted[low] + part * (sorted[(low + 1).min(sorted.len() - 1)] - sorted[low])
}

fn standard(values: Vec<f64>) -> Vec<f64> {
    let (middle, deviation) = spread(&values);
    values.iter().map(|value| (value - middle) / deviation).collect()
}

/// Mean and standard deviation; 1 where all are the same.
fn spread(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let square = values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / count;
    (mean, if square > 1e-24 * (1.0 + mean * mean) { square.sqrt() } else { 1.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_keep_their_order_and_what_is_no_number_is_the_worst() {
        let modelled = losses(&[3.0, f64::NAN, 1.0, f64::INFINITY, 1e6, f64::NEG_INFINITY]).unwrap();
        assert!(modelled.iter().all(|value| value.is_finite()));
        assert!(modelled[2] < modelled[0] && modelled[0] < modelled[4]);
        assert_eq!((modelled[1], modelled[3], modelled[5]), (modelled[4], modelled[4], modelled[2]));
        assert_eq!(losses(&[2.0, 2.0, 2.0]).unwrap(), [0.0; 3]);
        assert_eq!(losses(&[f64::NAN, f64::INFINITY]), None);
    }

    #[test]
    fn a_constraint_holds_on_its_new_scale_where_it_held_before() {
        let values = [-1e6, -0.1, 0.0, 1e-3, 5.0, f64::NAN, f64::NEG_INFINITY, f64::INFINITY];
        let (modelled, zero) = constraint(&values);
        for (value, modelled) in values.iter().zip(&modelled) {
            assert!(modelled.is_finite());
            assert_eq!(*value <= 0.0, *modelled <= zero + 1e-12, "{value}");
        }
        let (modelled, zero) = constraint(&[f64::NAN, f64::NAN]);
        assert!(modelled.iter().all(|value| *value > zero));
    }
}
