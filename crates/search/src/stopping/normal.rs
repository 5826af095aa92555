//! The normal distribution's tail.

use std::f64::consts::PI;

/// The probability that a standard normal number is above `z`; correct to ten digits, in the far tail too.
pub(super) fn above(z: f64) -> f64 {
    if z.is_nan() {
        return f64::NAN;
    }
    if z < 0.0 {
        return 1.0 - above(-z);
    }
    let density = (-0.5 * z * z).exp() / (2.0 * PI).sqrt();
    if z < 3.0 {
        // The series z + z^3/3 + z^5/15 + .. of the area from 0 to z (Abramowitz and Stegun, 26.2.11).
        let (mut term, mut sum, mut odd) = (z, z, 1.0);
        while term > sum * 1e-17 {
            odd += 2.0;
            term *= z * z / odd;
            sum += term;
        }
        return 0.5 - density * sum;
    }
    // The continued fraction 1/(z + 1/(z + 2/(z + ..))) of the tail (26.2.14), from its far end.
    let fraction = (1..=80).rev().fold(z, |below, index| z + f64::from(index) / below);
    density / fraction
}

#[cfg(test)]
mod tests {
    use super::above;

    #[test]
    fn tails_are_those_of_the_tables() {
        // By `math.erfc` of Python 3.12.
        let table = [
            (0.0, 0.5),
            (0.5, 0.308_537_538_725_986_9),
            (1.644_853_626_951_472_6, 0.05),
            (2.999, 0.001_354_336_533_727_107),
            (3.001, 0.001_345_472_825_084_97),
            (6.0, 9.865_876_450_376_946e-10),
            (20.0, 2.753_624_118_606_234e-89),
        ];
        for (z, expected) in table {
            assert!((above(z) / expected - 1.0).abs() < 1e-9, "{z}: {} {expected}", above(z));
            assert!((above(-z) - (1.0 - expected)).abs() < 1e-12);
        }
        assert_eq!([above(f64::INFINITY), above(f64::NEG_INFINITY)], [0.0, 1.0]);
        assert!(above(f64::NAN).is_nan());
    }
}
