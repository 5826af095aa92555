//! Every point of a grid.

use super::{Ask, Sampler};
use crate::space::{Domain, Point, Space};

/// Every combination of values, each once: all values of a parameter that has no more than `levels`, as many as that,
/// evenly laid on its scale, of one that has more. The order is spread over the grid, so that a study which is cut short has
/// seen something of everywhere. Trials that others have at points of the grid are not made again; what is not on it, such as
/// the user's own first trial, is passed over.
#[derive(Clone, Copy, Debug)]
pub struct GridSampler {
    /// The most values of a number; choices are always all taken.
    pub levels: u64,
}

/// A grid of more points than this is not gone through: no study has as many trials.
const MOST: u64 = 1 << 40;

impl Default for GridSampler {
    fn default() -> Self {
        Self { levels: 5 }
    }
}

impl Sampler for GridSampler {
    fn name(&self) -> &'static str {
        "grid"
    }

    fn reason(&self, ask: &Ask<'_>) -> String {
        format!("grid: {} combinations, each once", self.combinations(ask.history.space()))
    }

    fn suggest(&self, ask: &Ask<'_>) -> Option<Point> {
        let space = ask.history.space();
        let count = self.combinations(space).min(MOST);
        // Steps of about the golden section, without a common divisor, visit every combination once.
        let mut stride = ((count as f64 * 0.618_033_988_749_895) as u64).max(1);
        while divisor(stride, count) != 1 {
            stride += 1;
        }
        (0..count).find_map(|offset| {
            let place = (u128::from(ask.number) + u128::from(offset)) * u128::from(stride) % u128::from(count);
            let point = space.point(&self.coordinates(space, place as u64));
            (!ask.is_tried(&point)).then_some(point)
        })
    }
}

impl GridSampler {
    /// How many values of each parameter there are together. Where a parameter is only there under a condition, points that
    /// differ in it alone are one.
    fn combinations(&self, space: &Space) -> u64 {
        space
            .parameters()
            .iter()
            .fold(1u64, |product, parameter| product.saturating_mul(self.values(&parameter.domain)))
    }

    fn values(&self, domain: &Domain) -> u64 {
        match domain.cells() {
            Some(cells) if domain.choices().is_some() || cells <= self.levels => cells,
            _ => self.levels.max(1),
        }
    }

    /// The coordinates of one combination: the last parameter changes fastest.
    fn coordinates(&self, space: &Space, mut place: u64) -> Vec<f64> {
        let mut coordinates: Vec<f64> = space
            .parameters()
            .iter()
            .rev()
            .map(|parameter| {
                let values = self.values(&parameter.domain);
                let value = (place % values) as f64;
                place /= values;
                match &parameter.domain {
                    Domain::Choice { .. } => value,
                    // All values: by the middles of their cells. Some: from end to end.
                    domain if domain.cells().is_some_and(|cells| cells == values) => domain.nth(value as u64),
                    _ if values == 1 => 0.5,
                    _ => value / (values - 1) as f64,
                }
            })
            .collect();
        coordinates.reverse();
        coordinates
    }
}

fn divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { divisor(b, a % b) }
}
