//! Points before there is anything to learn from.

use temper_run::Random;

use super::{Ask, normal, sobol};
use crate::space::{Domain, Parameter, Prior};

/// Coordinates of a first trial: Sobol's sequence by the trial's number. Where parameters have priors, every second trial takes
/// those from their priors, the others from the whole space.
pub(super) fn start(ask: &Ask<'_>) -> Vec<f64> {
    let space = ask.history.space();
    let random = Random::new(ask.seed, "search.start");
    let mut coordinates = sobol::spread(space, ask.number, random);
    if ask.number % 2 == 1 {
        return coordinates;
    }
    for (index, parameter) in space.parameters().iter().enumerate() {
        if let Some(prior) = &parameter.prior {
            coordinates[index] = from_prior(parameter, prior, sobol::unit(index, ask.number, random));
        }
    }
    coordinates
}

/// Share of draws of a choice that are its prior's; the others are any.
pub(super) const TRUST: f64 = 0.5;

/// The coordinate that a share of `unit` of a prior lies below.
pub(super) fn from_prior(parameter: &Parameter, prior: &Prior, unit: f64) -> f64 {
    let Some(around) = parameter.domain.coordinate(&prior.around) else { return unit };
    match &parameter.domain {
        Domain::Choice { .. } if unit < TRUST => around,
        Domain::Choice { values } => ((unit - TRUST) / (1.0 - TRUST) * values.len() as f64).floor(),
        _ => {
            let place = |z: f64| normal::below((z - around) / prior.spread);
            let (from, to) = (place(0.0), place(1.0));
            (around + prior.spread * normal::quantile(from + unit * (to - from))).clamp(0.0, 1.0)
        }
    }
}
