//! Points that fill the space evenly, by their number alone.

use temper_run::Random;

use super::directions::DIRECTIONS;
use super::random::untried;
use super::{Ask, Sampler};
use crate::space::{Domain, Point, Space};

/// Sobol's sequence, scrambled by the seed: the point of trial `n` is the `n`-th of the sequence, so that any worker draws it
/// alike. Parameters beyond the 64th are drawn at random.
#[derive(Clone, Copy, Debug, Default)]
pub struct SobolSampler;

impl Sampler for SobolSampler {
    fn name(&self) -> &'static str {
        "sobol"
    }

    fn suggest(&self, ask: &Ask<'_>) -> Option<Point> {
        let space = ask.history.space();
        let random = Random::new(ask.seed, "search.sobol");
        let other = random.within(ask.number);
        untried(ask, |draw| match draw {
            0 => spread(space, ask.number, random),
            _ => super::random::even(space, other.within(draw)),
        })
    }
}

/// Coordinates of the `number`-th point, scrambled by `random`.
pub(super) fn spread(space: &Space, number: u64, random: Random) -> Vec<f64> {
    let coordinate = |(index, parameter): (usize, &crate::space::Parameter)| {
        let unit = unit(index, number, random);
        match &parameter.domain {
            Domain::Choice { values } => (unit * values.len() as f64).floor(),
            _ => unit,
        }
    };
    space.parameters().iter().enumerate().map(coordinate).collect()
}

/// One coordinate of a point, in [0, 1).
pub(super) fn unit(coordinate: usize, number: u64, random: Random) -> f64 {
    if coordinate > DIRECTIONS.len() || number > u64::from(u32::MAX) {
        return random.within(number).unit(coordinate as u64);
    }
    let stream = random.within(coordinate as u64);
    let bits = scrambled(plain(coordinate, number as u32), stream.bits(0) as u32);
    // What 32 bits leave open is drawn, so that coarse bits are not all that there is.
    (f64::from(bits) + stream.within(number).unit(1)) / 4_294_967_296.0
}

/// Sobol's sequence itself, in 32 bits (Bratley and Fox, Algorithm 659, 1988, without the Gray code).
fn plain(coordinate: usize, number: u32) -> u32 {
    let Some((polynomial, first)) = coordinate.checked_sub(1).map(|index| DIRECTIONS[index]) else {
        return number.reverse_bits();
    };
    let degree = first.len();
    let mut directions = [0u32; 32];
    for bit in 0..32 {
        directions[bit] = if bit < degree {
            first[bit] << (31 - bit)
        } else {
            let before = directions[bit - degree];
            (1..degree).fold(before ^ (before >> degree), |sum, term| {
                let taken = (polynomial >> (degree - term)) & 1;
                sum ^ (taken * directions[bit - term])
            })
        };
    }
    (0..32).filter(|bit| (number >> bit) & 1 == 1).fold(0, |sum, bit| sum ^ directions[bit])
}

/// Owen's nested scrambling by a hash: each bit is turned or not by what is above it (Laine and Karras, Stratified sampling for
/// stochastic transparency, 2011, with the constants of Burley, Practical hash-based Owen scrambling, 2020).
fn scrambled(bits: u32, seed: u32) -> u32 {
    let mut x = bits.reverse_bits();
    x = x.wrapping_add(seed);
    for factor in [0x6c50_b47c, 0xb82f_1e52, 0xc7af_e638, 0x8d22_f6e6u32] {
        x ^= x.wrapping_mul(factor);
    }
    x.reverse_bits()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goals::Goals;
    use crate::history::History;
    use crate::space::Parameter;
    use crate::trial::Trial;

    /// Against SciPy 1.17, `scipy.stats.qmc.Sobol(64, scramble=False)`, which counts by the Gray code: its point `i` is ours of
    /// number `i ^ (i >> 1)`.
    #[test]
    fn the_sequence_is_that_of_joe_and_kuo() {
        let ours = |coordinate: usize, i: u32| f64::from(plain(coordinate, i ^ (i >> 1))) / 4_294_967_296.0;
        let first: Vec<f64> = (0..6).map(|coordinate| ours(coordinate, 7)).collect();
        assert_eq!(first, [0.125, 0.625, 0.375, 0.125, 0.125, 0.375]);
        let last: Vec<f64> = (60..64).map(|coordinate| ours(coordinate, 1023)).collect();
        assert_eq!(last, [0.1025390625, 0.1962890625, 0.7900390625, 0.0400390625]);
    }

    #[test]
    fn scrambled_points_still_fill_every_cell_once_and_seeds_differ() {
        for (coordinate, seed) in [(0, 1), (1, 2), (17, 3), (63, 4)] {
            let random = Random::new(seed, "test");
            let mut cells = [0; 64];
            (0..64).for_each(|number| cells[(unit(coordinate, number, random) * 64.0) as usize] += 1);
            assert_eq!(cells, [1; 64], "coordinate {coordinate}");
        }
        // Of two coordinates together: of 64 points one in each of 8 x 8 squares, for the first two coordinates.
        let random = Random::new(9, "test");
        let mut squares = [0; 64];
        for number in 0..64 {
            let place = |coordinate| (unit(coordinate, number, random) * 8.0) as usize;
            squares[place(0) * 8 + place(1)] += 1;
        }
        assert_eq!(squares, [1; 64]);
        assert_ne!(unit(0, 0, Random::new(1, "test")), unit(0, 0, Random::new(2, "test")));
    }

    /// optuna#4714: workers that share a seed draw the same first trials. Here a point is a function of seed and number.
    #[test]
    fn optuna_4714_equal_seeds_on_parallel_workers_give_different_points() {
        let parameters =
            vec![Parameter::new("x", Domain::float(0.0, 1.0)), Parameter::new("y", Domain::float(0.0, 1.0))];
        let space = Space::new(parameters, vec![], vec![]).unwrap();
        let mut history = History::new(space, Goals::minimize("loss"));
        for number in 0..16 {
            let ask = Ask { history: &history, number, seed: 7, budget: None };
            let point = SobolSampler.suggest(&ask).unwrap();
            assert!(history.trials().iter().all(|trial| trial.point != point));
            history.put(Trial::new(number, point));
        }
    }
}
