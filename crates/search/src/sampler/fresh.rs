//! Never the same point twice.

use temper_run::Random;

use super::{Ask, random};
use crate::space::{Domain, Point, Space};

/// Neighbours that are looked at before any untried point is taken.
const NEIGHBOURS: u64 = 64;

/// The point at `coordinates`, or, where a trial has that one already, one near it that no trial has: one parameter after the
/// other is moved by a value, or, of a float, by some hundredths of its scale; then two at once and further away, then anything.
/// None when every point of a finite space was tried.
pub(super) fn untried_near(ask: &Ask<'_>, coordinates: &[f64], random: Random) -> Option<Point> {
    let space = ask.history.space();
    let itself = space.point(coordinates);
    if !ask.is_tried(&itself) {
        return Some(itself);
    }
    let near = |draw: u64| space.point(&moved(space, coordinates, 1 + draw / 16, random.within(draw)));
    (0..NEIGHBOURS)
        .map(near)
        .find(|point| !ask.is_tried(point))
        .or_else(|| random::untried(ask, |draw| random::even(space, random.within(NEIGHBOURS + draw))))
}

/// The coordinates with `count` parameters moved.
fn moved(space: &Space, coordinates: &[f64], count: u64, random: Random) -> Vec<f64> {
    let mut to = coordinates.to_vec();
    if to.is_empty() {
        return to;
    }
    for step in 0..count {
        let random = random.within(step);
        let index = random.below(0, to.len() as u64) as usize;
        let at = if to[index].is_nan() { 0.0 } else { to[index] };
        to[index] = match &space.parameters()[index].domain {
            Domain::Choice { values } => random.below(1, values.len() as u64) as f64,
            domain => {
                let (from, end) = domain.cell_of(at);
                let width = (end - from).max(0.02) * count as f64;
                let step = if random.bits(1) & 1 == 0 { width } else { -width };
                // From an end of the scale there is one way only.
                let step = if (0.0..=1.0).contains(&(at + step)) { step } else { -step };
                (at + step * (0.5 + random.unit(2))).clamp(0.0, 1.0)
            }
        };
    }
    to
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goals::Goals;
    use crate::history::History;
    use crate::space::Parameter;
    use crate::trial::Trial;

    #[test]
    fn a_taken_point_gives_way_to_one_beside_it() {
        let parameters = vec![
            Parameter::new("a", Domain::int(0, 9)),
            Parameter::new("b", Domain::int(0, 9)),
            Parameter::new("c", Domain::choice(["x", "y"])),
        ];
        let space = Space::new(parameters, vec![], vec![]).unwrap();
        let mut history = History::new(space.clone(), Goals::minimize("loss"));
        let taken = [0.05, 0.55, 1.0];
        history.put(Trial::new(0, space.point(&taken)));
        let ask = Ask { history: &history, number: 1, seed: 1, budget: None };
        for draw in 0..20 {
            let random = Random::new(draw, "test");
            let at = space.coordinates(&untried_near(&ask, &taken, random).unwrap());
            let steps = ((at[0] - taken[0]).abs() + (at[1] - taken[1]).abs()) * 10.0;
            let moved = steps + f64::from(at[2] != taken[2]);
            assert!(0.5 < moved && moved < 2.5, "{at:?}");
        }
        let free = space.point(&[0.95, 0.05, 0.0]);
        assert_eq!(untried_near(&ask, &[0.95, 0.05, 0.0], Random::new(1, "test")), Some(free));
    }
}
