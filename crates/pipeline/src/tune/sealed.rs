//! The end of a search: the recommended trial and the recipe's own meet the test rows, once.

use std::path::Path;

use serde::{Deserialize, Serialize};
use temper_eval::compare::{Comparison, Metric, Pair, Row, Scores, compare};
use temper_model::Tuning;

use super::builtin::Builtin;
use crate::judge::{Judged, Models, Split, bootstrap, judge};
use crate::start::{load, result_of};
use crate::{Event, PipelineError};
use temper_search::Point;

/// Both trials on rows that the search has not seen.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sealed {
    /// The recommended trial's number.
    pub recommended: u64,
    /// It against the base.
    pub comparison: Comparison,
    /// The recipe's own values against the base; none where they are what is recommended, or came to no end.
    pub own: Option<Comparison>,
    /// The recommended trial minus the recipe's own, item by item.
    pub lead: Vec<Row>,
}

impl Sealed {
    /// The row that decides whether the recommended one is better in the domain.
    pub fn domain_lead(&self) -> Option<&Row> {
        self.lead.iter().find(|row| row.suite == "domain" && row.metric == Metric::Accuracy)
    }
}

impl Builtin<'_> {
    /// The result of a finished trial, judged against the base.
    fn judged(&self, (point, seed): (&Point, u64), folder: &Path) -> Result<Judged, PipelineError> {
        let folder = folder.join(format!("seed-{seed}"));
        let prepared = self.prepare(point, seed, &folder)?.map_err(|problem| PipelineError::Unfit {
            path: folder.display().to_string(),
            problem,
            hint: "the recipe or its data changed since the trial was trained".to_owned(),
        })?;
        let last = prepared.stages.len() - 1;
        let tuned = load(&prepared, &result_of(&prepared, &folder, last)?, &Tuning::Frozen)?;
        let base = prepared.load_base(&Tuning::Frozen)?;
        let models = Models { base: &base, tuned: &tuned };
        judge(&prepared, models, Split::Unseen, false, &mut |event: &Event| (self.hear)(event))
    }

    /// Judges the recommended trial and, unless it is the same, trial 0; each with its number, values and folder. Both were trained
    /// under `seed`.
    ///
    /// # Errors
    /// When a result is not there any more, or an item cannot be scored.
    pub fn seal(
        &self,
        (number, point, folder): (u64, &Point, &Path),
        own: Option<(&Point, &Path)>,
        seed: u64,
    ) -> Result<Option<Sealed>, PipelineError> {
        let (recipe, _) =
            temper_recipe::Recipe::load(&self.recipe, &self.sets).map_err(|errors| PipelineError::Unfit {
                path: self.recipe.display().to_string(),
                problem: errors.to_string(),
                hint: String::new(),
            })?;
        if recipe.evaluation.is_none() {
            return Ok(None);
        }
        let chosen = self.judged((point, seed), folder)?;
        let own = own.filter(|_| number != 0).map(|(point, folder)| self.judged((point, seed), folder)).transpose()?;
        let lead = match &own {
            None => Vec::new(),
            Some(own) => {
                // A divergence is from each one's own start, and compares nothing between them.
                let pairs = own.scores.iter().zip(&chosen.scores);
                let pairs = pairs.filter(|(a, _)| !matches!(a.tuned, Scores::ChatKl { .. }));
                let pairs: Vec<Pair<'_>> = pairs
                    .map(|(own, chosen)| Pair {
                        name: &own.name,
                        clusters: own.clusters.clone(),
                        base: Some(&own.tuned),
                        tuned: &chosen.tuned,
                        floor: None,
                    })
                    .collect();
                compare(None, &pairs, bootstrap(&recipe))?.rows
            }
        };
        Ok(Some(Sealed {
            recommended: number,
            comparison: chosen.comparison,
            own: own.map(|own| own.comparison),
            lead,
        }))
    }
}
