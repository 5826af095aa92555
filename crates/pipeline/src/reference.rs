//! What the reference of a preference stage says of its pairs: scored once, before training, and kept.
//!
//! The reference is what the stage starts from (of a LoRA stage the weights without the adapter), or the recipe's base. A run
//! keeps its numbers in `checkpoints/stage-N/reference.json`, so that a resumed run trains against the same ones; the cache
//! has them for runs that differ in rates or losses.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use temper_data::{DataError, ExampleRef, Pair, pair_batches};
use temper_kernels::{Cpu, Device};
use temper_model::{Llama, Purpose, Tuning, Workspace};
use temper_recipe::ReferenceModel;
use temper_run::{sha256_bytes, to_json, write_atomic};
use temper_train::pair_logprobs;

use crate::PipelineError;
use crate::cache::{Kind, key_of};
use crate::identity::base_ingredients;
use crate::prepare::{Prepared, PreparedStage};
use crate::run::Event;
use crate::start::Start;

/// Pairs that are scored between two tellings of how far it is.
const AT_ONCE: usize = 64;
const FILE: &str = "reference.json";

/// Log-probabilities of both answers under the reference, in nats, the better one's first.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct References {
    /// Of the pairs that the stage draws.
    train: HashMap<ExampleRef, [f64; 2]>,
    /// Of the validation pairs, in order.
    validation: Vec<[f64; 2]>,
}

impl References {
    /// Of a pair that the stage draws; of any other, and before anything was scored, nothing is known.
    pub fn of(&self, pair: &ExampleRef) -> [f64; 2] {
        self.train.get(pair).copied().unwrap_or([f64::NAN; 2])
    }

    /// Of a validation pair.
    pub fn of_validation(&self, index: usize) -> [f64; 2] {
        self.validation.get(index).copied().unwrap_or([f64::NAN; 2])
    }
}

/// `reference.json`.
#[derive(Serialize, Deserialize)]
struct Scored {
    /// What the numbers depend on, as a hash.
    key: String,
    /// Training pairs by source and row, then validation pairs.
    logprobs: Vec<[f64; 2]>,
}

/// A stage's pairs, each once: those that it draws, by source and row, and those of its validation.
pub(crate) struct Pairs<'p> {
    stage: &'p PreparedStage,
    drawn: Vec<ExampleRef>,
}

impl<'p> Pairs<'p> {
    /// Of a preference stage; none of another.
    pub fn of(stage: &'p PreparedStage) -> Option<Self> {
        stage.reference?;
        let mut drawn: Vec<ExampleRef> = stage.schedule.steps().iter().flatten().copied().collect();
        drawn.sort_unstable_by_key(|pair| (pair.source, pair.index));
        drawn.dedup();
        Some(Self { stage, drawn })
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.drawn.len() + self.stage.validation.as_ref().map_or(0, |source| source.examples.len())
    }

    /// Their tokens, processed and trained.
    pub fn tokens(&self) -> (usize, usize) {
        let sources = &self.stage.sources;
        let of = |pair: &ExampleRef| {
            let examples = &sources[usize::from(pair.source)].examples;
            (examples.processed_tokens(pair.index as usize), examples.trained_tokens(pair.index as usize))
        };
        let validation = self.stage.validation.iter().map(|v| (v.report.processed_tokens, v.report.trained_tokens));
        self.drawn.iter().map(of).chain(validation).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    }

    fn get(&self, index: usize) -> Result<Pair, DataError> {
        match (self.drawn.get(index), &self.stage.validation) {
            (Some(pair), _) => self.stage.sources[usize::from(pair.source)].pair(pair.index as usize),
            (None, Some(source)) => source.pair(index - self.drawn.len()),
            (None, None) => Err(DataError::Empty { path: "validation".into() }),
        }
    }

    /// What their numbers depend on. `before` is the key of the stage before, where that made the reference.
    fn ingredients(&self, prepared: &Prepared, before: Option<&str>) -> Result<Value, PipelineError> {
        let mut hashes = String::new();
        for index in 0..self.len() {
            let Pair { ids, weights, chosen, common, .. } = self.get(index)?;
            let trained: Vec<bool> = weights.iter().map(|&weight| weight > 0.0).collect();
            hashes += &sha256_bytes(format!("{ids:?} {trained:?} {chosen} {common}").as_bytes());
        }
        let of = json!({"pairs": sha256_bytes(hashes.as_bytes()), "before": before});
        Ok(base_ingredients(prepared, "log-probabilities of preference pairs under the reference", of))
    }

    fn known(&self, logprobs: Vec<[f64; 2]>) -> References {
        let (train, validation) = logprobs.split_at(self.drawn.len());
        let train = self.drawn.iter().copied().zip(train.iter().copied()).collect();
        References { train, validation: validation.to_vec() }
    }
}

/// Scores the pairs of stage `index`, or reads what was scored. `model` is the stage's, before any training; `dir` its
/// checkpoints' folder.
pub(crate) fn references(
    prepared: &Prepared,
    index: usize,
    before: Option<&str>,
    start: &Start<'_>,
    (model, workspace): (&Llama<Cpu>, &Workspace<<Cpu as Device>::Buffer>),
    dir: &Path,
    tell: &mut dyn FnMut(Event) -> Result<(), temper_run::RunError>,
) -> Result<References, PipelineError> {
    let stage = &prepared.stages[index];
    let Some(pairs) = Pairs::of(stage) else { return Ok(References::default()) };
    // Over the base the start is the base.
    let from_base = stage.reference == Some(ReferenceModel::Base) && !matches!(start, Start::Base(_));
    let ingredients = pairs.ingredients(prepared, before.filter(|_| !from_base))?;
    let key = key_of(&ingredients);
    let path = dir.join(FILE);
    let whole = |scored: &Vec<[f64; 2]>| scored.len() == pairs.len();
    let own = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Scored>(&bytes).ok());
    if let Some(scored) = own.filter(|scored| scored.key == key && whole(&scored.logprobs)) {
        return Ok(pairs.known(scored.logprobs));
    }
    let kept: Option<Vec<[f64; 2]>> = prepared.kept().get(Kind::Scores, &ingredients).filter(whole);
    let logprobs = match kept {
        Some(logprobs) => logprobs,
        None => {
            let side = if from_base { "base" } else { "start" };
            let mut score = |model: &Llama<Cpu>, workspace: &Workspace<_>| -> Result<_, PipelineError> {
                let mut all = Vec::with_capacity(pairs.len());
                while all.len() < pairs.len() {
                    let (done, total) = (all.len(), pairs.len());
                    tell(Event::Evaluating { suite: "reference of the pairs".to_owned(), side, done, total })?;
                    let some = (done..total.min(done + AT_ONCE)).map(|index| pairs.get(index));
                    let some: Vec<Pair> = some.collect::<Result<_, _>>()?;
                    let some: Vec<_> = some.iter().map(|pair| (0, pair, [0.0; 2])).collect();
                    all.extend(pair_logprobs(model, workspace, false, &pair_batches(&some, stage.micro_batch_tokens)));
                }
                let total = pairs.len();
                tell(Event::Evaluating { suite: "reference of the pairs".to_owned(), side, done: total, total })?;
                Ok(all)
            };
            let logprobs = if from_base {
                let base = prepared.load_base(&Tuning::Frozen)?;
                let tokens = stage.workspace_tokens();
                score(&base, &Workspace::allocate(base.device(), base.config(), [0; 4], Purpose::Infer, tokens))?
            } else {
                score(model, workspace)?
            };
            if logprobs.iter().flatten().all(|logprob| logprob.is_finite()) {
                prepared.kept().put(Kind::Scores, &ingredients, &logprobs);
            }
            logprobs
        }
    };
    if let Some(at) = logprobs.iter().position(|pair| !pair.iter().all(|logprob| logprob.is_finite())) {
        return Err(PipelineError::Unfit {
            path: format!("stages.{index}.train"),
            problem: format!("the reference gives pair {} the log-probabilities {:?}", at + 1, logprobs[at]),
            hint: "look at its row with `temper data show`, and at the base's weights".to_owned(),
        });
    }
    let scored = Scored { key, logprobs };
    write_atomic(&path, to_json(&scored)?.as_bytes())?;
    Ok(pairs.known(scored.logprobs))
}
