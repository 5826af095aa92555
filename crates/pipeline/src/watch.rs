//! The general floors while training goes: a part of the held-out text, scored at every validation.

use serde::{Deserialize, Serialize};
use temper_eval::items::{self, TextItem};
use temper_eval::stats::{Bootstrap, DocumentLoss};
use temper_eval::suite::{Bench, Side};
use temper_kernels::Cpu;
use temper_model::{Llama, Workspace};
use temper_recipe::{Bound, Evaluation, Recipe, Suite, SuiteKind};
use temper_text::Renderer;
use temper_train::Stop;

use crate::PipelineError;
use crate::cache::{Kept, Kind};
use crate::identity::{base_ingredients, hashes_of};
use crate::prepare::Prepared;

/// Floors that the better end of the interval must exceed, so many times over, for the floor to be beyond recovery. A
/// decision: the decay of the learning rate brings back part of a rise, not four fifths of it.
const BEYOND: f64 = 5.0;
/// Validations in a row at which that must hold.
const IN_A_ROW: usize = 2;

/// What the watch remembers between validations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct WatchState {
    /// Each suite's losses before the first stage; empty until they were measured.
    base: Vec<Vec<DocumentLoss>>,
    /// Validations in a row at which the suite was beyond recovery.
    beyond: Vec<usize>,
}

/// One suite at one validation: a line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct General {
    /// Steps done.
    pub step: usize,
    /// The suite.
    pub suite: String,
    /// Items scored.
    pub items: usize,
    /// Nats per token.
    pub loss: f64,
    /// Rise of the loss since before training, as a share, with its 95 % interval.
    pub relative: f64,
    /// Lower bound.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
    /// What each item adds to `relative`, times their number: it is their mean. Items of one source, which rise and fall together,
    /// are one. Not written to the log.
    #[serde(skip)]
    pub by_item: Vec<f64>,
}

struct Watched {
    name: String,
    /// Where the recipe names its file.
    setting: String,
    items: Vec<TextItem>,
    clusters: Option<Vec<u32>>,
    /// The floor, as a share.
    floor: f64,
}

/// The suites that are watched, each by its first items.
pub(crate) struct Watch {
    suites: Vec<Watched>,
    bootstrap: Bootstrap,
}

/// Of how many items of a suite one is watched, spread over the file, since neighbours often share a source; none where the suite is
/// not watched.
pub(crate) fn watched_every(evaluation: &Evaluation, suite: &Suite, items: usize) -> Option<usize> {
    let most = evaluation.watch_items.value as usize;
    let floor = evaluation.floors.iter().find(|floor| floor.suite == suite.name.value)?;
    let watched = suite.kind.value == SuiteKind::TextLoss && matches!(floor.bound.value, Bound::MaxIncreasePercent(_));
    (watched && most > 0).then(|| items.div_ceil(most).max(1))
}

impl Watch {
    /// The `text_loss` suites of a recipe that have a floor.
    pub fn of(recipe: &Recipe) -> Result<Self, PipelineError> {
        let mut watch = Self { suites: Vec::new(), bootstrap: Bootstrap { resamples: 1000, seed: recipe.seed.value } };
        let Some(evaluation) = &recipe.evaluation else { return Ok(watch) };
        let most = evaluation.watch_items.value as usize;
        for suite in evaluation.general.iter().filter(|s| s.kind.value == SuiteKind::TextLoss && most > 0) {
            let floor = evaluation.floors.iter().find(|floor| floor.suite == suite.name.value);
            let Some(Bound::MaxIncreasePercent(percent)) = floor.map(|floor| floor.bound.value) else { continue };
            let all = items::read_text(&suite.path.value)?;
            let every = watched_every(evaluation, suite, all.len()).unwrap_or(1);
            let items: Vec<TextItem> = all.into_iter().step_by(every).collect();
            let clusters = items::clusters(items.iter().map(|item| item.source.as_deref()));
            let units = clusters.as_ref().map_or(items.len(), |c| c.iter().max().map_or(0, |&last| last as usize + 1));
            if units < 2 {
                // No interval can be made of one unit, so nothing could be decided.
                continue;
            }
            watch.suites.push(Watched {
                name: suite.name.value.clone(),
                setting: suite.path.path.clone(),
                items,
                clusters,
                floor: percent / 100.0,
            });
        }
        Ok(watch)
    }

    /// Tokens of all watched texts.
    pub fn tokens(&self, renderer: &Renderer) -> Result<usize, PipelineError> {
        let mut tokens = 0;
        for item in self.suites.iter().flat_map(|suite| &suite.items) {
            tokens += renderer.text(&item.text)?.ids.len();
        }
        Ok(tokens)
    }

    /// Tokens of the longest watched text.
    pub fn longest(&self, renderer: &Renderer) -> Result<usize, PipelineError> {
        let mut longest = 0;
        for item in self.suites.iter().flat_map(|suite| &suite.items) {
            longest = longest.max(renderer.text(&item.text)?.ids.len());
        }
        Ok(longest)
    }

    /// What the base's scores depend on besides the base, in batches of so many tokens.
    pub fn ingredients(&self, prepared: &Prepared, tokens: usize) -> serde_json::Value {
        let suites: Vec<_> =
            self.suites.iter().map(|suite| (hashes_of(prepared, &suite.setting), suite.items.len())).collect();
        base_ingredients(prepared, "held-out losses of the base, before training", serde_json::json!([suites, tokens]))
    }

    /// Scores every suite. The first time, before any training, it is the base that is scored, unless its losses are known.
    pub fn look(
        &self,
        state: &mut WatchState,
        model: &Llama<Cpu>,
        workspace: &Workspace<<Cpu as temper_kernels::Device>::Buffer>,
        renderer: &Renderer,
        step: usize,
        kept: Kept<'_>,
        ingredients: &serde_json::Value,
    ) -> Result<(Vec<General>, Option<Stop>), PipelineError> {
        let bench = Bench { side: Side { model, adapter: true }, renderer, workspace };
        let first = state.base.is_empty();
        let known: Option<Vec<Vec<DocumentLoss>>> =
            if first && step == 0 { kept.get(Kind::Scores, ingredients) } else { None };
        let known = known.filter(|known| known.iter().map(Vec::len).eq(self.suites.iter().map(|s| s.items.len())));
        let (mut lines, mut stop) = (Vec::new(), None);
        state.beyond.resize(self.suites.len(), 0);
        for (i, suite) in self.suites.iter().enumerate() {
            let now = match &known {
                Some(known) => known[i].clone(),
                None => bench.text_loss(&suite.items, &mut |_, _| {})?,
            };
            if first {
                state.base.push(now.clone());
            }
            if let Some(loss) = now.iter().map(|d| d.nats).find(|nats| !nats.is_finite()) {
                stop = Some(Stop::NotFinite { what: format!("the loss of {} became {loss}", suite.name) });
                continue;
            }
            let clusters = suite.clusters.as_deref();
            let compared = self.bootstrap.loss_difference(&state.base[i], &now, clusters);
            let change = compared
                .map_err(|error| temper_eval::compare::CompareError::Stats { suite: suite.name.clone(), error })?;
            let sum = |part: fn(&DocumentLoss) -> f64| now.iter().map(part).sum::<f64>();
            let (relative, low, high) = (change.relative.estimate, change.relative.low, change.relative.high);
            let loss = sum(|d| d.nats) / sum(|d| d.tokens as f64);
            let by_item = by_item(&state.base[i], &now, clusters);
            let name = suite.name.clone();
            lines.push(General { step, suite: name, items: now.len(), loss, relative, low, high, by_item });
            state.beyond[i] = if low > BEYOND * suite.floor { state.beyond[i] + 1 } else { 0 };
            if state.beyond[i] >= IN_A_ROW && stop.is_none() {
                stop = Some(Stop::FloorBroken { suite: suite.name.clone(), at_best: low, floor: suite.floor });
            }
        }
        if first && step == 0 && known.is_none() && stop.is_none() {
            kept.put(Kind::Scores, ingredients, &state.base);
        }
        Ok((lines, stop))
    }
}

/// The part of each item, or of all items of a source, in the relative rise of the loss, times the number of parts.
fn by_item(base: &[DocumentLoss], now: &[DocumentLoss], clusters: Option<&[u32]>) -> Vec<f64> {
    let rises = base.iter().zip(now).map(|(base, now)| now.nats - base.nats);
    let mut parts: Vec<f64> = Vec::new();
    for (item, rise) in rises.enumerate() {
        let part = clusters.map_or(item, |clusters| clusters[item] as usize);
        parts.resize(parts.len().max(part + 1), 0.0);
        parts[part] += rise;
    }
    let unit = base.iter().map(|base| base.nats).sum::<f64>() / parts.len() as f64;
    parts.into_iter().map(|part| part / unit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rise_is_the_mean_of_its_parts_and_a_source_is_one() {
        let losses = |nats: [f64; 4]| nats.map(|nats| DocumentLoss { nats, tokens: 7, bytes: 30 });
        // In all 8 nats become 8.5.
        let (base, now) = (losses([1.0, 2.0, 1.0, 4.0]), losses([2.0, 2.0, 0.5, 4.0]));
        assert_eq!(by_item(&base, &now, None), [0.5, 0.0, -0.25, 0.0]);
        assert_eq!(by_item(&base, &now, Some(&[0, 1, 0, 1])), [0.125, 0.0]);
    }
}
