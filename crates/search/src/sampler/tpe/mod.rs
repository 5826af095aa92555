//! The tree-structured Parzen estimator, over all parameters together.

mod parzen;

use parzen::{Center, Parzen};
use temper_run::Random;

use super::fresh::untried_near;
use super::seen::{Seen, Standing, best, seen};
use super::start::start;
use super::{Ask, Sampler};
use crate::space::Point;

/// Draws from where good trials lie and takes what is most likely there and least likely where the others lie (Bergstra et al.,
/// 2011; with joint kernels as BOHB, Falkner et al., 2018; several objectives as MOTPE, Ozaki et al., 2022).
///
/// - The good ones are the first tenth, at most 25, in this order: feasible first, then carried through, then by
///   loss, or by non-dominated fronts and the volume that they cover.
/// - All others are the bad ones; failed trials, and those under way of which nothing is known yet, are always of them: it
///   stays away from what failed and from where others are just looking (the "constant liar").
/// - Priors ([`Prior`](crate::space::Prior)) are a kernel among the good ones, of the weight of one trial.
#[derive(Clone, Copy, Debug)]
pub struct TpeSampler {
    /// Trials with a result before it begins; until then points fill the space evenly.
    pub startup: usize,
    /// Points drawn, of which the best is taken.
    pub candidates: usize,
}

impl Default for TpeSampler {
    fn default() -> Self {
        Self { startup: 10, candidates: 24 }
    }
}

/// Newest trials that all count fully among the bad ones; older ones count the less the older they are.
const FULL: usize = 25;

impl Sampler for TpeSampler {
    fn name(&self) -> &'static str {
        "tpe"
    }

    fn reason(&self, ask: &Ask<'_>) -> String {
        match measured(&seen(ask.history)) {
            count if count < self.startup => {
                format!("tpe: fills the space first, {count} of {} trials told", self.startup)
            }
            count => format!("tpe: draws from where the best of {count} trials lie"),
        }
    }

    fn suggest(&self, ask: &Ask<'_>) -> Option<Point> {
        let space = ask.history.space();
        let random = Random::new(ask.seed, "search.tpe").within(ask.number);
        let all = seen(ask.history);
        if measured(&all) < self.startup {
            return untried_near(ask, &start(ask), random);
        }
        let (good, bad) = self.densities(ask, &all);
        let draw = |candidate: usize| {
            // The candidate as the trial will be: whole values, within bounds, without what is not active.
            let at = space.coordinates(&space.point(&good.draw(random.within(candidate as u64))));
            (good.ln_density(&at) - bad.ln_density(&at), at)
        };
        let mut candidates: Vec<(f64, Vec<f64>)> = (0..self.candidates.max(1)).map(draw).collect();
        candidates.sort_by(|a, b| b.0.total_cmp(&a.0));
        // In a finite space the best candidate may be taken; then the next one is nearer to what was found good than a neighbour.
        let free = candidates.iter().find(|(_, at)| !ask.is_tried(&space.point(at))).unwrap_or(&candidates[0]);
        untried_near(ask, &free.1, random.within(u64::MAX))
    }
}

/// Trials of which something is known.
fn measured(all: &[Seen<'_>]) -> usize {
    all.iter().filter(|seen| seen.standing != Standing::Pending).count()
}

impl TpeSampler {
    fn densities(&self, ask: &Ask<'_>, all: &[Seen<'_>]) -> (Parzen, Parzen) {
        let parameters = ask.history.space().parameters();
        let count = ((measured(all) as f64 * 0.1).ceil() as usize).min(25);
        let mut is_good = vec![false; all.len()];
        best(all, count).into_iter().for_each(|index| is_good[index] = true);
        let mut good: Vec<(Center<'_>, f64)> = vec![(Center::Anywhere, 1.0)];
        if parameters.iter().any(|parameter| parameter.prior.is_some()) {
            good.push((Center::Prior, 1.0));
        }
        let trials = |wanted: bool| all.iter().zip(&is_good).filter(move |(_, good)| **good == wanted);
        good.extend(trials(true).map(|(seen, _)| (Center::Trial(seen.at), 1.0)));
        let others = trials(false).count();
        let weight = |index: usize| match others.saturating_sub(FULL) {
            old if index < old => (1.0 / others as f64).max((index as f64 + 1.0) / old as f64),
            _ => 1.0,
        };
        let bad = std::iter::once((Center::Anywhere, 1.0));
        let bad =
            bad.chain(trials(false).enumerate().map(|(index, (seen, _))| (Center::Trial(seen.at), weight(index))));
        (Parzen::new(parameters, &good), Parzen::new(parameters, &bad.collect::<Vec<_>>()))
    }
}
