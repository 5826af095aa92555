//! The normal distribution and expected improvement, also far out in their tails.

use std::f64::consts::{FRAC_1_SQRT_2, SQRT_2};

/// ln sqrt(2 pi).
pub(super) const LN_SQRT_2PI: f64 = 0.918_938_533_204_672_8;

/// Below this the functions here are taken from their series in 1/z^2, of which four terms give nine digits.
const FAR: f64 = -25.0;

/// The density at `z`.
pub(super) fn density(z: f64) -> f64 {
    (-0.5 * z * z - LN_SQRT_2PI).exp()
}

/// The probability of being below `z`.
pub(super) fn below(z: f64) -> f64 {
    0.5 * libm::erfc(-z * FRAC_1_SQRT_2)
}

/// The probability of lying from `from` to `to`; from the side on which both differ most from one.
pub(super) fn between(from: f64, to: f64) -> f64 {
    if from > 0.0 { below(-from) - below(-to) } else { below(to) - below(from) }
}

/// The logarithm of [`below`], without underflow.
pub(super) fn ln_below(z: f64) -> f64 {
    if z > FAR {
        return below(z).ln();
    }
    let inverse = 1.0 / (z * z);
    -0.5 * z * z - LN_SQRT_2PI - (-z).ln() + (-inverse * (1.0 - inverse * (3.0 - 15.0 * inverse))).ln_1p()
}

/// The `z` that a share of `probability` lies below: Acklam's rational approximation, then one step of Halley's method, which
/// makes its nine digits fifteen.
pub(super) fn quantile(probability: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969_683_028_665_376e1,
        2.209_460_984_245_205e2,
        -2.759_285_104_469_687e2,
        1.383_577_518_672_69e2,
        -3.066_479_806_614_716e1,
        2.506_628_277_459_239,
    ];
    const B: [f64; 6] = [
        -5.447_609_879_822_406e1,
        1.615_858_368_580_409e2,
        -1.556_989_798_598_866e2,
        6.680_131_188_771_972e1,
        -1.328_068_155_288_572e1,
        1.0,
    ];
    const C: [f64; 6] = [
        -7.784_894_002_430_293e-3,
        -3.223_964_580_411_365e-1,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 5] =
        [7.784_695_709_041_462e-3, 3.224_671_290_700_398e-1, 2.445_134_137_142_996, 3.754_408_661_907_416, 1.0];
    let polynomial = |factors: &[f64], x: f64| factors.iter().fold(0.0, |sum, factor| sum * x + factor);
    let p = probability.clamp(1e-300, 1.0 - f64::EPSILON / 2.0);
    // The upper half is the lower one mirrored, where no digit of a small probability is lost.
    if p > 0.5 {
        return -quantile(1.0 - p);
    }
    let z = if p < 0.02425 {
        let q = (-2.0 * p.ln()).sqrt();
        polynomial(&C, q) / polynomial(&D, q)
    } else {
        let (q, r) = (p - 0.5, (p - 0.5) * (p - 0.5));
        polynomial(&A, r) * q / polynomial(&B, r)
    };
    let error = (below(z) - p) / density(z);
    z - error / (1.0 + 0.5 * z * error)
}

/// The logarithm of the expected improvement of a standard normal below `z`, `ln(density(z) + z * below(z))`, without underflow
/// or cancellation (Ament et al., Unexpected Improvements to Expected Improvement, 2023, section 4.1).
pub(super) fn ln_improvement(z: f64) -> f64 {
    if z > -1.0 {
        return (density(z) + z * below(z)).ln();
    }
    let from_density = if z > FAR {
        let x = -z * FRAC_1_SQRT_2;
        // erfcx(x) * |z| * sqrt(pi / 2) is 1 - 1/z^2 and so on: what is left of 1 is the improvement over the density.
        let scaled = (x * x).exp() * libm::erfc(x) * x * SQRT_2 * (std::f64::consts::PI / 2.0).sqrt();
        (-scaled).ln_1p()
    } else {
        let inverse = 1.0 / (z * z);
        inverse.ln() + (-inverse * (3.0 - inverse * (15.0 - 105.0 * inverse))).ln_1p()
    };
    -0.5 * z * z - LN_SQRT_2PI + from_density
}

/// The derivative of [`ln_improvement`].
pub(super) fn ln_improvement_slope(z: f64) -> f64 {
    (ln_below(z) - ln_improvement(z)).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_those_of_tables_and_quantiles_their_inverse() {
        for (z, expected) in [(0.0, 0.5), (1.0, 0.841_344_746_068_542_9), (-3.0, 1.349_898_031_630_094_6e-3)] {
            assert!((below(z) - expected).abs() < 1e-15, "{z}");
        }
        for z in [-30.0, -8.0, -2.5, -1.0, -0.1, 0.0, 0.3, 1.7, 4.0] {
            assert!((quantile(below(z)) - z).abs() < 1e-9 * (1.0 + z.abs()), "{z}: {}", quantile(below(z)));
        }
        assert!((between(8.0, 9.0) / 6.219_831e-16 - 1.0).abs() < 1e-4);
    }

    #[test]
    fn logarithms_go_on_where_the_numbers_themselves_end() {
        // Both sides of the seam at -25 agree, and so do the slopes with differences.
        for at in [FAR, -1.0] {
            let (left, right) = (at - 1e-9, at + 1e-9);
            assert!((ln_below(left) - ln_below(right)).abs() < 1e-6);
            assert!((ln_improvement(left) - ln_improvement(right)).abs() < 1e-6);
        }
        for z in [-60.0, -26.0, -10.0, -1.5, -0.5, 2.0, 30.0] {
            let difference = (ln_improvement(z + 1e-5) - ln_improvement(z - 1e-5)) / 2e-5;
            assert!((ln_improvement_slope(z) / difference - 1.0).abs() < 1e-4, "{z}");
        }
        // -z^2 / 2 - ln sqrt(2 pi) - 2 ln |z| but for 3 / z^2.
        assert!((ln_improvement(-1e3) + 5e5 + LN_SQRT_2PI + 2.0 * 1e3f64.ln()).abs() < 1e-5);
        assert!(ln_below(-1e10).is_finite() && ln_improvement(-1e10).is_finite());
    }
}
