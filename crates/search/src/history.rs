//! All trials of a study, with their coordinates at hand.

use crate::goals::Goals;
use crate::space::Space;
use crate::trial::Trial;

/// The trials of one study, by number, and each one's coordinates in the study's space ([`Space::coordinates`]).
#[derive(Clone, Debug)]
pub struct History {
    space: Space,
    goals: Goals,
    trials: Vec<Trial>,
    coordinates: Vec<Vec<f64>>,
}

impl History {
    /// An empty one.
    pub fn new(space: Space, goals: Goals) -> Self {
        Self { space, goals, trials: Vec::new(), coordinates: Vec::new() }
    }

    /// The space.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// What is sought.
    pub fn goals(&self) -> &Goals {
        &self.goals
    }

    /// The trials, in the order of their numbers.
    pub fn trials(&self) -> &[Trial] {
        &self.trials
    }

    /// The coordinates of each trial, in the same order.
    pub fn coordinates(&self) -> &[Vec<f64>] {
        &self.coordinates
    }

    /// The trial of that number.
    pub fn trial(&self, number: u64) -> Option<&Trial> {
        self.index(number).ok().map(|index| &self.trials[index])
    }

    /// Puts a trial in, in the place of the one with its number if there is one.
    pub fn put(&mut self, trial: Trial) {
        let coordinates = || self.space.coordinates(&trial.point);
        match self.index(trial.number) {
            Ok(index) => {
                if self.trials[index].point != trial.point {
                    self.coordinates[index] = coordinates();
                }
                self.trials[index] = trial;
            }
            Err(index) => {
                self.coordinates.insert(index, coordinates());
                self.trials.insert(index, trial);
            }
        }
    }

    fn index(&self, number: u64) -> Result<usize, usize> {
        self.trials.binary_search_by_key(&number, |trial| trial.number)
    }
}
