//! The rewards of a recipe: opened once, asked batch by batch.

use std::path::Path;

use temper_recipe::Reward;

use crate::error::Error;
use crate::sample::Sample;
use crate::scored::Scored;

/// The rewards of a stage, ready to score. Processes that it started end with it.
#[derive(Debug)]
pub struct Rewards {}

impl Rewards {
    /// Makes the rewards of a recipe ready: reads patterns, schemas and prompts, starts programs. Programs start in `folder`,
    /// which is where what they write lies.
    ///
    /// # Errors
    /// What is wrong with the first reward that cannot be opened.
    pub fn open(_rewards: &[Reward], _seed: u64, _folder: &Path) -> Result<Self, Error> {
        Ok(Self {})
    }

    /// Scores a batch; the order is kept. What fails on a sample is told in its parts.
    ///
    /// # Errors
    /// When a reward breaks its contract, when it fails on more samples than the recipe allows, or on one that it must not
    /// fail on.
    pub fn score(&self, _samples: &[Sample<'_>]) -> Result<Scored, Error> {
        Ok(Scored { samples: Vec::new(), rewards: Vec::new() })
    }

    /// The names of the rewards, in the order of the parts of a score.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::empty()
    }
}
