//! Bayesian optimisation with Gaussian processes.

mod acquisition;
mod kernel;
mod matrix;
mod model;
mod outputs;
mod search;

use acquisition::{Acquisition, Gain, Steps};
use model::Model;
use temper_run::Random;

use super::fresh::untried_near;
use super::seen::{Seen, Standing, best, fronts, reference, seen};
use super::start::start;
use super::{Ask, Sampler};
use crate::space::Point;

/// Fits smooth functions to what was seen, says of every point how good it may be, and takes the most hopeful.
///
/// - One objective: the expected improvement over the best there is by the model, in logarithms (Ament et al., 2023). Two: the
///   expected growth of the dominated volume, exact. More: one weighting of them for each trial (ParEGO).
/// - Constraints have models of their own; what is hoped for is multiplied by the probability that all hold, and while no trial
///   holds them, that probability is all that is sought.
/// - A pruned trial, or a paused or running one that has reported, is as good as is expected of it at its end by how others went on
///   from its step; where none did, as its last report or the middle of the complete ones, whichever is worse; a failed one is as
///   bad as the worst and breaks every constraint; one under way of which nothing is known is believed to be what the model
///   expects.
/// - Choices are alike or not; whole numbers and steps are modelled at their values, and left from value to value; a parameter
///   that is not active is a place of its own beside its values.
/// - Priors count as an expectation that fades with the number of trials.
#[derive(Clone, Copy, Debug, Default)]
pub struct GpSampler {
    /// Trials with a result before it begins; until then points fill the space evenly. None: one more than
    /// parameters, at least 8.
    pub startup: Option<usize>,
}

/// The least of them: fewer say nothing of a function's shape.
const LEAST: usize = 8;
/// Trials that a model is made of at the most: the time for one grows with the cube.
const MOST: usize = 300;

impl Sampler for GpSampler {
    fn name(&self) -> &'static str {
        "gp"
    }

    fn reason(&self, ask: &Ask<'_>) -> String {
        match (measured(&seen(ask.history)), self.startup(ask)) {
            (count, startup) if count < startup => {
                format!("gp: fills the space first, {count} of {startup} trials told")
            }
            (count, _) => format!("gp: the most hopeful point by a model of {} trials", count.min(MOST)),
        }
    }

    fn suggest(&self, ask: &Ask<'_>) -> Option<Point> {
        let space = ask.history.space();
        let random = Random::new(ask.seed, "search.gp").within(ask.number);
        let all = seen(ask.history);
        let hopeful = if measured(&all) < self.startup(ask) { None } else { hopeful(ask, &all, random) };
        let Some(hopeful) = hopeful else { return untried_near(ask, &start(ask), random) };
        let free = hopeful.iter().find(|at| !ask.is_tried(&space.point(at))).unwrap_or(&hopeful[0]);
        untried_near(ask, free, random.within(u64::MAX))
    }
}

impl GpSampler {
    /// Trials with a result before the first model.
    pub(super) fn startup(&self, ask: &Ask<'_>) -> usize {
        self.startup.unwrap_or((ask.history.space().parameters().len() + 1).max(LEAST))
    }
}

/// How many trials have told something.
pub(super) fn measured(all: &[Seen<'_>]) -> usize {
    all.iter().filter(|seen| seen.measured.is_some()).count()
}

/// Points, the most hopeful first; none where no model can be made.
fn hopeful(ask: &Ask<'_>, all: &[Seen<'_>], random: Random) -> Option<Vec<Vec<f64>>> {
    let space = ask.history.space();
    let (order, data) = data(all);
    let rows: Vec<Vec<f64>> = data.iter().map(|seen| seen.at.to_vec()).collect();
    let kinds = kernel::kinds(space);
    let pending: Vec<Vec<f64>> =
        all.iter().filter(|seen| seen.standing == Standing::Pending).map(|seen| seen.at.to_vec()).collect();
    let believing = |model: Model| if pending.is_empty() { Some(model) } else { model.believing(&pending) };
    let fit = |values: &[f64]| believing(Model::fit(&kinds, &rows, values)?);

    let is_feasible: Vec<bool> = data.iter().map(|seen| seen.violation == 0.0 && seen.measured.is_some()).collect();
    let mut constraints = Vec::new();
    for index in 0..ask.history.goals().constraints.len() {
        let values: Vec<f64> = data
            .iter()
            .map(|seen| {
                seen.measured.as_ref().and_then(|measured| measured.constraints.get(index).copied()).unwrap_or(f64::NAN)
            })
            .collect();
        let (values, zero) = outputs::constraint(&values);
        constraints.push((fit(&values)?, zero));
    }
    let gain = if is_feasible.contains(&true) {
        gain(ask, &data, &is_feasible, &fit, random)?
    } else if constraints.is_empty() {
        return None;
    } else {
        Gain::Feasible
    };
    let has_prior = space.parameters().iter().any(|parameter| parameter.prior.is_some());
    // The weight of priors falls with what was seen (Hvarfner et al., piBO, 2022).
    let priors = has_prior.then(|| (space.parameters(), 10.0 / rows.len() as f64));
    let leaders: Vec<Vec<f64>> = order.iter().take(5).map(|&index| all[index].at.to_vec()).collect();
    let acquisition = Acquisition { gain, constraints, priors };
    Some(search::highest(space, &acquisition, &leaders, random))
}

/// The trials that a model is made of, and the order of all that were measured, the best first.
fn data<'s, 'a>(all: &'s [Seen<'a>]) -> (Vec<usize>, Vec<&'s Seen<'a>>) {
    let order = best(all, all.len());
    let mut taken: Vec<usize> = (0..all.len()).filter(|&index| all[index].standing != Standing::Pending).collect();
    if taken.len() > MOST {
        let newest: Vec<usize> = taken.split_off(taken.len() - MOST / 2);
        taken = order.iter().copied().filter(|index| !newest.contains(index)).take(MOST / 2).collect();
        taken.extend(&newest);
        taken.sort_unstable();
    }
    (order, taken.into_iter().map(|index| &all[index]).collect())
}

/// The losses of one objective as they are modelled: a trial of which the end is not known is at best as good as the middle of
/// those that came to theirs, one that failed as bad as the worst.
fn column(data: &[&Seen<'_>], objective: usize) -> Vec<f64> {
    let mut whole: Vec<f64> =
        data.iter().filter(|seen| seen.standing == Standing::Whole).map(|seen| seen.losses[objective]).collect();
    whole.sort_by(f64::total_cmp);
    let middle = whole.get(whole.len() / 2).copied().unwrap_or(f64::NEG_INFINITY);
    let value = |seen: &&Seen<'_>| match seen.standing {
        Standing::Whole | Standing::Expected => seen.losses[objective],
        Standing::Part { .. } => seen.losses[objective].max(middle),
        Standing::Failed | Standing::Pending => f64::INFINITY,
    };
    data.iter().map(value).collect()
}

fn gain(
    ask: &Ask<'_>,
    data: &[&Seen<'_>],
    is_feasible: &[bool],
    fit: &dyn Fn(&[f64]) -> Option<Model>,
    random: Random,
) -> Option<Gain> {
    let objectives = ask.history.goals().objectives.len();
    let columns: Vec<Vec<f64>> =
        (0..objectives).map(|objective| outputs::losses(&column(data, objective))).collect::<Option<_>>()?;
    let improvement = |values: &[f64]| {
        let model = fit(values)?;
        let held = |(_, feasible): &(&Vec<f64>, &bool)| **feasible;
        let known = model.rows().iter().zip(is_feasible).filter(held).map(|(row, _)| model.at(row).mean);
        Some(Gain::Improvement { best: known.fold(f64::INFINITY, f64::min), model })
    };
    match &columns[..] {
        [only] => improvement(only),
        [first, second] => {
            let points: Vec<[f64; 2]> = (0..data.len())
                .filter(|&index| is_feasible[index])
                .map(|index| [first[index], second[index]])
                .collect();
            let front = {
                let slices: Vec<&[f64]> = points.iter().map(|p| &p[..]).collect();
                let fronts = fronts(&slices);
                fronts[0].iter().map(|&i| points[i]).collect::<Vec<_>>()
            };
            let corner = reference(&points.iter().map(|point| point.to_vec()).collect::<Vec<_>>());
            let steps = Steps::new(&front, [corner[0], corner[1]]);
            Some(Gain::Volume { models: Box::new([fit(first)?, fit(second)?]), steps })
        }
        many => {
            // ParEGO (Knowles, 2006): the worst of the weighted losses and a little of all, with other weights at each ask.
            let draws: Vec<f64> = (0..many.len()).map(|index| -(1.0 - random.unit(index as u64)).ln()).collect();
            let sum: f64 = draws.iter().sum();
            let scalar = |row: usize| {
                let weighted = || many.iter().zip(&draws).map(|(column, draw)| draw / sum * column[row]);
                weighted().fold(f64::NEG_INFINITY, f64::max) + 0.05 * weighted().sum::<f64>()
            };
            improvement(&(0..data.len()).map(scalar).collect::<Vec<_>>())
        }
    }
}
