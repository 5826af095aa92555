//! Where an acquisition is highest.

use temper_run::Random;

use super::acquisition::Acquisition;
use crate::sampler::descent::descend;
use crate::sampler::normal;
use crate::sampler::random::even;
use crate::space::{Domain, Space};

/// Points drawn anywhere, and around each of the best trials.
const ANYWHERE: u64 = 400;
const AROUND: u64 = 60;
/// Points from which it is gone up.
const CLIMBS: usize = 5;
const STEPS: usize = 30;
/// Numbers of more values than this are gone up along a slope, as if they were floats.
const SMOOTH: u64 = 50;

/// Points of the space, the most hopeful first: the best of many drawn points, and from there up along the slope in the
/// floats and from value to value in everything else. `leaders` are coordinates of the best trials.
pub(super) fn highest(
    space: &Space,
    acquisition: &Acquisition<'_>,
    leaders: &[Vec<f64>],
    random: Random,
) -> Vec<Vec<f64>> {
    // As a trial would have them: whole values, within bounds, without what is not active.
    let project = |x: &[f64]| space.coordinates(&space.point(x));
    let mut drawn: Vec<Vec<f64>> = (0..ANYWHERE).map(|draw| even(space, random.within(draw))).collect();
    for (index, leader) in leaders.iter().enumerate() {
        let random = random.within(ANYWHERE + index as u64);
        drawn.extend((0..AROUND).map(|draw| near(space, leader, random.within(draw))));
    }
    let mut rated: Vec<(f64, Vec<f64>)> = drawn
        .iter()
        .map(|x| {
            let x = project(x);
            (acquisition.at(&x), x)
        })
        .collect();
    rated.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut climbed: Vec<(f64, Vec<f64>)> = Vec::new();
    for (value, x) in &rated {
        if climbed.len() == CLIMBS {
            break;
        }
        let apart = |other: &Vec<f64>| {
            let square = |(a, b): (&f64, &f64)| {
                if a.is_nan() || b.is_nan() { f64::from(a.is_nan() != b.is_nan()) } else { (a - b) * (a - b) }
            };
            other.iter().zip(x).map(square).sum::<f64>() > 1e-4
        };
        if climbed.iter().all(|(_, other)| apart(other)) {
            climbed.push(climb(space, acquisition, *value, x));
        }
    }
    climbed.sort_by(|a, b| b.0.total_cmp(&a.0));
    // Where the best is taken, those drawn come after those climbed to.
    climbed.into_iter().chain(rated).map(|(_, x)| x).collect()
}

/// A leader with some of its parameters moved, near or far.
fn near(space: &Space, leader: &[f64], random: Random) -> Vec<f64> {
    let scale = 10f64.powf(-3.0 * random.unit(0));
    let moved = |(index, parameter): (usize, &crate::space::Parameter)| {
        let random = random.within(1 + index as u64);
        let at = leader[index];
        match &parameter.domain {
            Domain::Choice { values } if at.is_nan() || random.unit(0) < 0.2 => {
                random.below(1, values.len() as u64) as f64
            }
            Domain::Choice { .. } => at,
            _ if at.is_nan() => random.unit(1),
            domain => {
                let (from, to) = domain.cell_of(at);
                let width = (0.5 * scale).max(if to > from { 0.7 * (to - from) } else { 0.0 });
                if random.unit(0) < 0.7 { at + width * normal::quantile(random.unit(1)) } else { at }
            }
        }
    };
    space.parameters().iter().enumerate().map(moved).collect()
}

/// Up along the slope, then from value to value, until neither helps.
fn climb(space: &Space, acquisition: &Acquisition<'_>, value: f64, x: &[f64]) -> (f64, Vec<f64>) {
    let (mut value, mut x) = (value, x.to_vec());
    for _ in 0..3 {
        let (smoother, along) = slide(space, acquisition, value, &x);
        let (best, stepped) = step(space, acquisition, smoother, &along);
        let done = best <= smoother;
        (value, x) = (best, stepped);
        if done {
            break;
        }
    }
    (value, x)
}

fn is_smooth(domain: &Domain) -> bool {
    domain.choices().is_none() && domain.cells().is_none_or(|cells| cells > SMOOTH)
}

fn slide(space: &Space, acquisition: &Acquisition<'_>, value: f64, x: &[f64]) -> (f64, Vec<f64>) {
    let parameters = space.parameters();
    let free: Vec<usize> =
        (0..x.len()).filter(|&index| is_smooth(&parameters[index].domain) && !x[index].is_nan()).collect();
    if free.is_empty() {
        return (value, x.to_vec());
    }
    let mut whole = x.to_vec();
    let mut slopes = vec![0.0; x.len()];
    let mut downhill = |place: &[f64], slope: &mut [f64]| {
        free.iter().zip(place).for_each(|(&index, place)| whole[index] = *place);
        let value = acquisition.with_slope(&whole, &mut slopes);
        free.iter().zip(slope).for_each(|(&index, slope)| *slope = -slopes[index]);
        -value
    };
    let start: Vec<f64> = free.iter().map(|&index| x[index]).collect();
    let (lowest, _) = descend(&mut downhill, &start, &vec![(0.0, 1.0); free.len()], STEPS);
    free.iter().zip(&lowest).for_each(|(&index, place)| whole[index] = *place);
    let there = space.coordinates(&space.point(&whole));
    let reached = acquisition.at(&there);
    if reached > value { (reached, there) } else { (value, x.to_vec()) }
}

/// The best of the points that differ in one value of a parameter that has few.
fn step(space: &Space, acquisition: &Acquisition<'_>, value: f64, x: &[f64]) -> (f64, Vec<f64>) {
    let mut best = (value, x.to_vec());
    for (index, parameter) in space.parameters().iter().enumerate() {
        if is_smooth(&parameter.domain) || x[index].is_nan() {
            continue;
        }
        let cells = parameter.domain.cells().unwrap_or(1);
        for other in (0..cells).map(|cell| parameter.domain.nth(cell)).filter(|other| *other != x[index]) {
            let mut moved = x.to_vec();
            moved[index] = other;
            let moved = space.coordinates(&space.point(&moved));
            let value = acquisition.at(&moved);
            if value > best.0 {
                best = (value, moved);
            }
        }
    }
    best
}
