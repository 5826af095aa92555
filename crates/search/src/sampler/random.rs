//! Points drawn evenly.

use temper_run::Random;

use super::{Ask, Sampler};
use crate::space::{Domain, Point, Space};

/// Every point alike, by each parameter's scale.
#[derive(Clone, Copy, Debug, Default)]
pub struct RandomSampler;

/// Draws of a point that has not been tried, before the rest of a finite space is counted out.
const DRAWS: u64 = 100;

impl Sampler for RandomSampler {
    fn name(&self) -> &'static str {
        "random"
    }

    fn suggest(&self, ask: &Ask<'_>) -> Option<Point> {
        let random = Random::new(ask.seed, "search.random").within(ask.number);
        let space = ask.history.space();
        untried(ask, |draw| even(space, random.within(draw)))
    }
}

/// Coordinates drawn evenly.
pub(super) fn even(space: &Space, random: Random) -> Vec<f64> {
    let draw = |(index, parameter): (usize, &crate::space::Parameter)| match &parameter.domain {
        Domain::Choice { values } => random.below(index as u64, values.len() as u64) as f64,
        _ => random.unit(index as u64),
    };
    space.parameters().iter().enumerate().map(draw).collect()
}

/// The first point of `draw` that no trial has; where it finds none, the first of a finite space in order; none when all were tried.
/// In a space that is not finite a draw is never repeated but by chance, and is taken as it comes.
pub(super) fn untried(ask: &Ask<'_>, draw: impl Fn(u64) -> Vec<f64>) -> Option<Point> {
    let space = ask.history.space();
    let first = space.point(&draw(0));
    if space.size().is_none() || !ask.is_tried(&first) {
        return Some(first);
    }
    (1..DRAWS)
        .map(|index| space.point(&draw(index)))
        .find(|point| !ask.is_tried(point))
        .or_else(|| space.points().find(|point| !ask.is_tried(point)))
}
