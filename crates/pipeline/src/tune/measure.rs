//! What trials are measured by: the recipe's objectives and constraints as goals, and a trainer's metrics as their values.

use std::collections::BTreeMap;

use temper_recipe::{Bound, Evaluation, Recipe, Sense, StageKind, SuiteKind, Tune};
use temper_search::{Direction, Goals, Measured, Objective};

use super::builtin::{FORGETTING, REWARD, SIGNALS, VALIDATION_LOSS};
use crate::PipelineError;

/// What a trainer knows of a trial besides its own metrics.
pub const SECONDS: &str = "seconds";
/// Tokens trained on by then.
pub const TOKENS: &str = "tokens";
/// Planned memory of training.
pub const MEMORY: &str = "memory_gib";

/// The upper end of the 95 % interval of the rise of a watched suite's loss, in percent.
pub fn high_of(suite: &str) -> String {
    format!("{suite}.high")
}

/// A bound on a metric.
#[derive(Clone, Debug, PartialEq)]
struct Limit {
    metric: String,
    /// At most this; of a lower bound, both turned.
    at_most: f64,
    sign: f64,
}

/// The goals of a study, and how they are made of metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct Measures {
    goals: Goals,
    limits: Vec<Limit>,
}

impl Measures {
    /// Of a recipe that Temper trains.
    ///
    /// # Errors
    /// Where there is nothing to search by, or a metric that it does not measure.
    pub fn of_recipe(recipe: &Recipe, tune: &Tune) -> Result<Self, PipelineError> {
        let watched = watched(recipe.evaluation.as_ref());
        let last = recipe.stages.last();
        let validated = last.is_some_and(|stage| stage.validation.is_some());
        if !validated {
            return Err(unfit(
                "stages",
                "the last stage has no `validation`: nothing tells one trial from another".to_owned(),
                "give it rows that are held out; the search never sees the test rows".to_owned(),
            ));
        }
        let reinforces = last.is_some_and(|stage| stage.kind.value == StageKind::Rft);
        let of_validation: &[&str] = if reinforces { &SIGNALS } else { &[VALIDATION_LOSS] };
        let mut known: Vec<String> = of_validation.iter().map(|&name| name.to_owned()).collect();
        known.extend(watched.iter().map(|(suite, _)| (*suite).to_owned()));
        if !watched.is_empty() {
            known.push(FORGETTING.to_owned());
        }
        let check = |metric: &str, path: &str, more: &[&str]| {
            if known.iter().any(|known| known == metric) || more.contains(&metric) {
                return Ok(());
            }
            let hint = match evaluation_of(recipe, metric) {
                true => format!(
                    "`{metric}` is not scored while training: only text_loss suites with a floor are, see evaluation.watch_items"
                ),
                false => format!("measured here: {}", [known.join(", "), more.join(", ")].join(", ")),
            };
            Err(unfit(path, format!("`{metric}` is not measured"), hint))
        };
        for sought in &tune.objectives {
            check(&sought.metric.value, &sought.metric.path, &[])?;
        }
        let costs = [SECONDS, TOKENS, MEMORY];
        for limit in &tune.constraints {
            check(&limit.metric.value, &limit.metric.path, &costs)?;
        }
        let mut measures = Self::of(tune);
        if tune.objectives.is_empty() {
            let objective = |name: &str, direction| Objective { name: name.to_owned(), direction };
            measures.goals.objectives.push(match reinforces {
                true => objective(REWARD, Direction::Maximize),
                false => objective(VALIDATION_LOSS, Direction::Minimize),
            });
            if !watched.is_empty() {
                measures.goals.objectives.push(objective(FORGETTING, Direction::Minimize));
            }
        }
        // As the judgement at the end decides them: by the worse end of the interval.
        for (suite, floor) in watched {
            let (metric, name) = (high_of(suite), format!("floor of {suite}"));
            measures.limits.push(Limit { metric, at_most: floor, sign: 1.0 });
            measures.goals.constraints.push(name);
        }
        Ok(measures)
    }

    /// Of what a program reports.
    pub fn of(tune: &Tune) -> Self {
        let objectives = tune.objectives.iter().map(|sought| Objective {
            name: sought.metric.value.clone(),
            direction: match sought.direction.value {
                Sense::Minimize => Direction::Minimize,
                Sense::Maximize => Direction::Maximize,
            },
        });
        let mut measures =
            Self { goals: Goals { objectives: objectives.collect(), constraints: Vec::new() }, limits: Vec::new() };
        for limit in &tune.constraints {
            let metric = &limit.metric.value;
            let bounds = [(&limit.at_most, 1.0, "<="), (&limit.at_least, -1.0, ">=")];
            for (bound, sign, word) in bounds {
                let Some(bound) = bound else { continue };
                let at_most = sign * bound.value;
                measures.limits.push(Limit { metric: metric.clone(), at_most, sign });
                measures.goals.constraints.push(format!("{metric} {word} {}", bound.value));
            }
        }
        measures
    }

    /// The goals.
    pub fn goals(&self) -> &Goals {
        &self.goals
    }

    /// The goals' values of these metrics; what is missing is NaN.
    pub fn measured(&self, metrics: &BTreeMap<String, f64>) -> Measured {
        let of = |name: &str| metrics.get(name).copied().unwrap_or(f64::NAN);
        Measured {
            values: self.goals.objectives.iter().map(|objective| of(&objective.name)).collect(),
            constraints: self.limits.iter().map(|limit| limit.sign * of(&limit.metric) - limit.at_most).collect(),
        }
    }

    /// What was measured of single items, of each objective; empty where it was of none.
    pub fn items(&self, items: &BTreeMap<String, Vec<f64>>) -> Vec<Vec<f64>> {
        let of = |objective: &Objective| items.get(&objective.name).cloned().unwrap_or_default();
        let items: Vec<Vec<f64>> = self.goals.objectives.iter().map(of).collect();
        if items.iter().all(Vec::is_empty) { Vec::new() } else { items }
    }
}

/// The suites that are watched while training, with their floors in percent.
fn watched(evaluation: Option<&Evaluation>) -> Vec<(&str, f64)> {
    let Some(evaluation) = evaluation.filter(|evaluation| evaluation.watch_items.value > 0) else { return Vec::new() };
    let text = evaluation.general.iter().filter(|suite| suite.kind.value == SuiteKind::TextLoss);
    text.filter_map(|suite| {
        let floor = evaluation.floors.iter().find(|floor| floor.suite == suite.name.value)?;
        match floor.bound.value {
            Bound::MaxIncreasePercent(percent) => Some((suite.name.value.as_str(), percent)),
            _ => None,
        }
    })
    .collect()
}

/// Whether the recipe has a suite of that name.
fn evaluation_of(recipe: &Recipe, name: &str) -> bool {
    recipe.evaluation.iter().flat_map(|evaluation| &evaluation.general).any(|suite| suite.name.value == name)
}

fn unfit(path: &str, problem: String, hint: String) -> PipelineError {
    PipelineError::Unfit { path: path.to_owned(), problem, hint }
}
