//! Where to look next.

mod auto;
mod descent;
mod directions;
mod forecast;
mod fresh;
mod gp;
mod grid;
mod normal;
mod random;
mod seen;
mod sobol;
mod start;
mod tpe;

pub use auto::AutoSampler;
pub use gp::GpSampler;
pub use grid::GridSampler;
pub use random::RandomSampler;
pub use sobol::SobolSampler;
pub use tpe::TpeSampler;

use crate::history::History;
use crate::space::Point;

/// What a sampler is asked: the next point, knowing what was seen.
///
/// The number is new in the study, whoever asks: workers that share a seed never draw the same numbers, and an ask that is made
/// again with the same history gives the same point. Every random number of a sampler is a function of seed and number alone.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// All trials so far, the running ones too.
    pub history: &'a History,
    /// The number of the trial to come.
    pub number: u64,
    /// The study's seed.
    pub seed: u64,
    /// Trials that the study is to have in all; none where that is not known.
    pub budget: Option<u64>,
}

impl Ask<'_> {
    /// Whether a trial has that point.
    pub(crate) fn is_tried(&self, point: &Point) -> bool {
        self.history.trials().iter().any(|trial| trial.point == *point)
    }
}

/// Chooses points.
pub trait Sampler: Send + Sync {
    /// What the user calls it.
    fn name(&self) -> &'static str;

    /// The next point; none when every point of a finite space has been tried or is being tried.
    fn suggest(&self, ask: &Ask<'_>) -> Option<Point>;

    /// What makes the next choice and why, in a line for the user.
    fn reason(&self, ask: &Ask<'_>) -> String {
        let _ = ask;
        self.name().to_owned()
    }
}

/// The sampler of that name with its defaults; none where there is no such sampler.
pub fn named(name: &str) -> Option<Box<dyn Sampler>> {
    Some(match name {
        "auto" => Box::new(AutoSampler),
        "random" => Box::new(RandomSampler),
        "grid" => Box::new(GridSampler::default()),
        "sobol" => Box::new(SobolSampler),
        "gp" => Box::new(GpSampler::default()),
        "tpe" => Box::new(TpeSampler::default()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
