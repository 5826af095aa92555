//! The sampler that is taken where none is named.

use super::gp::measured;
use super::seen::seen;
use super::{Ask, GpSampler, GridSampler, Sampler, TpeSampler};
use crate::space::Point;

/// Chooses by what the study is: every point where the budget has room for all of them, a Gaussian process while trials are few
/// enough for one, the Parzen estimator after that. Of the former every third trial is the Parzen estimator's, too: it goes where
/// good trials lie also when the function is not smooth, which a process takes for noise. Measured in
/// `docs/decisions/0024-samplers.md`.
#[derive(Clone, Copy, Debug, Default)]
pub struct AutoSampler;

/// Beyond as many trials a Gaussian process takes more than about a second an ask, and does not see all of them.
const TRIALS: usize = 300;
/// Of as many trials one is the Parzen estimator's.
const TURN: u64 = 3;
/// Beyond as many parameters its lengths can hardly be learned from as many trials.
const PARAMETERS: usize = 40;

impl Sampler for AutoSampler {
    fn name(&self) -> &'static str {
        "auto"
    }

    fn suggest(&self, ask: &Ask<'_>) -> Option<Point> {
        choice(ask).0.suggest(ask)
    }

    fn reason(&self, ask: &Ask<'_>) -> String {
        let (sampler, why) = choice(ask);
        format!("{} ({why})", sampler.reason(ask))
    }
}

fn choice(ask: &Ask<'_>) -> (Box<dyn Sampler>, String) {
    let space = ask.history.space();
    let (trials, parameters) = (ask.history.trials().len(), space.parameters().len());
    match (space.size(), ask.budget) {
        (Some(size), Some(budget)) if size <= budget => {
            let all = GridSampler { levels: u64::MAX };
            return (Box::new(all), format!("auto: {budget} trials are enough for all {size} points"));
        }
        _ => {}
    }
    if parameters > PARAMETERS {
        let why = format!("auto: {parameters} parameters are more than the {PARAMETERS} that gp is for");
        return (Box::new(TpeSampler::default()), why);
    }
    if trials >= TRIALS {
        let why = format!("auto: {trials} trials are more than the {TRIALS} that gp is for");
        return (Box::new(TpeSampler::default()), why);
    }
    let gp = GpSampler::default();
    if ask.number % TURN == TURN - 1 && measured(&seen(ask.history)) >= gp.startup(ask) {
        let tpe = TpeSampler { startup: 0, ..TpeSampler::default() };
        return (Box::new(tpe), "auto: every third trial, beside gp, for what is not smooth".to_owned());
    }
    (Box::new(gp), format!("auto: learns most from up to {TRIALS} trials"))
}
