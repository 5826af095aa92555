//! `temper probe`: which checkpoint to start from, measured: the same short training from each, and both axes of all.
//!
//! Each checkpoint's run is a run like any other, in a folder of its own, but for its judgement: the rows that steer are
//! scored, the test rows are not read. All see the same rows in the same order and so, of one family, the same tokens.
//! Differences between checkpoints are paired, item by item.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use temper_eval::compare::{Comparison, Metric, Pair, Row, Scores, compare};
use temper_eval::stats::{Bootstrap, DocumentLoss, Interval};
use temper_eval::verdict::FloorDecision;
use temper_model::{Purpose, Tuning, Workspace};
use temper_recipe::CheckpointKind;
use temper_run::{to_json_pretty, write_atomic};
use temper_train::Batches;

use crate::PipelineError;
use crate::choice::{row_losses, validation_difference};
use crate::judge::{Judged, Models, Scored, Split, bootstrap, judge};
use crate::prepare::Prepared;
use crate::reference::References;
use crate::run::{Event, Options, run};
use crate::start::{load, result_of};

/// A checkpoint to be tried, its recipe prepared.
pub struct Candidate {
    /// Its name in the recipe.
    pub name: String,
    /// How far it has been trained.
    pub kind: CheckpointKind,
    /// The recipe with it as its base.
    pub prepared: Prepared,
}

/// What became of one checkpoint.
#[derive(Debug, Serialize)]
pub struct Probed {
    /// Its name in the recipe.
    pub name: String,
    /// How far it had been trained.
    pub kind: CheckpointKind,
    /// Where it came from.
    pub source: String,
    /// Its run.
    pub folder: PathBuf,
    /// Loss on the last stage's validation rows after training, nats per token; none where it has none.
    pub validation: Option<f64>,
    /// It after training against itself before, the domain on its validation rows; none without an `evaluation`.
    pub comparison: Option<Comparison>,
    /// Whether every floor was kept; none without floors.
    pub kept: Option<bool>,
    /// Its validation loss minus that of the first in rank; none of the first, or without rows.
    pub validation_to_first: Option<Interval>,
    /// Of each suite, it against the first in rank, after training; none of the first.
    pub to_first: Vec<Row>,
}

/// All of them, the best first.
#[derive(Debug, Serialize)]
pub struct Probe {
    /// Optimiser steps of each stage.
    pub steps: Vec<usize>,
    /// Tokens that each was trained on, in all stages.
    pub processed_tokens: usize,
    /// Of these, tokens that carried loss.
    pub trained_tokens: usize,
    /// In order of rank.
    pub ranked: Vec<Probed>,
    /// Why the first is first.
    pub reason: String,
}

/// `probe.json`, as far as a run that takes the winner reads it.
#[derive(Deserialize)]
struct Recorded {
    ranked: Vec<Name>,
}

#[derive(Deserialize)]
struct Name {
    name: String,
}

/// The file that [`probe`] writes.
const FILE: &str = "probe.json";

/// The folder of the probe of a run whose folder is `output`.
pub fn probe_folder(output: &Path) -> PathBuf {
    let mut name = output.file_name().unwrap_or_default().to_owned();
    name.push("-probe");
    output.with_file_name(name)
}

/// The name of the checkpoint that was first in the probe in this folder.
///
/// # Errors
/// When there is none, or it cannot be read.
pub fn probed_winner(folder: &Path) -> Result<String, PipelineError> {
    let file = folder.join(FILE);
    let unfit = |problem: String| PipelineError::Unfit {
        path: file.display().to_string(),
        problem,
        hint: "`temper probe RECIPE` writes it".to_owned(),
    };
    let bytes = std::fs::read(&file).map_err(|error| unfit(format!("cannot be read: {error}")))?;
    let recorded: Recorded = serde_json::from_slice(&bytes).map_err(|error| unfit(format!("is damaged: {error}")))?;
    recorded.ranked.into_iter().next().map(|first| first.name).ok_or_else(|| unfit("names no checkpoint".to_owned()))
}

/// What is known of a checkpoint after its run.
struct Tried {
    probed: Probed,
    scores: Vec<Scored>,
    rows: Vec<DocumentLoss>,
}

/// Trains each candidate as its recipe says, scores all, ranks them, and writes `probe.json` into `folder`.
///
/// # Errors
/// When there are fewer than two, they would not be trained on the same tokens, or nothing can be scored; and as [`run`].
pub fn probe(
    candidates: Vec<Candidate>,
    folder: &Path,
    options: &Options,
    on_event: &mut dyn FnMut(&Event),
) -> Result<Probe, PipelineError> {
    let drawn = same_tokens(&candidates)?;
    if !candidates.iter().all(|candidate| is_told(&candidate.prepared)) {
        return Err(PipelineError::Unfit {
            path: "evaluation".to_owned(),
            problem:
                "neither a `domain` nor validation rows of the last stage: nothing tells one checkpoint from another"
                    .to_owned(),
            hint: "give the last stage `validation`, or the evaluation a `domain`".to_owned(),
        });
    }
    let steps = candidates[0].prepared.stages.iter().map(|stage| stage.settings.learning_rate.steps).collect();
    let bootstrap = bootstrap(&candidates[0].prepared.recipe);
    let mut tried = Vec::new();
    for candidate in candidates {
        on_event(&Event::Probing { name: candidate.name.clone(), kind: candidate.kind.to_string() });
        tried.push(try_one(candidate, options, on_event)?);
    }
    // Those that broke a floor come last; of the others the best of the domain first.
    tried.sort_by(|a, b| {
        let broke = |one: &Tried| one.probed.kept == Some(false);
        broke(a)
            .cmp(&broke(b))
            .then(score(&b.probed).unwrap_or(f64::NAN).total_cmp(&score(&a.probed).unwrap_or(f64::NAN)))
    });
    let (first, others) = tried.split_at_mut(1);
    for other in others {
        against(&first[0], other, bootstrap)?;
    }
    let ranked: Vec<Probed> = tried.into_iter().map(|one| one.probed).collect();
    let reason = reason(&ranked);
    let probe = Probe { steps, processed_tokens: drawn.0, trained_tokens: drawn.1, ranked, reason };
    write_atomic(&folder.join(FILE), to_json_pretty(&probe)?.as_bytes())?;
    Ok(probe)
}

/// Processed and trained tokens of a candidate's whole training, which must be those of all.
fn same_tokens(candidates: &[Candidate]) -> Result<(usize, usize), PipelineError> {
    let unfit = |problem: String, hint: &str| {
        Err(PipelineError::Unfit { path: "checkpoints".to_owned(), problem, hint: hint.to_owned() })
    };
    if candidates.len() < 2 {
        return unfit(format!("{} to compare", candidates.len()), "list two or more, each with its `kind`");
    }
    let drawn = |candidate: &Candidate| {
        let sources = candidate.prepared.stages.iter().flat_map(|stage| &stage.schedule.shares().sources);
        sources.fold((0, 0), |(all, own), s| (all + s.drawn.processed_tokens, own + s.drawn.trained_tokens))
    };
    let (first, tokens) = (&candidates[0], drawn(&candidates[0]));
    match candidates.iter().find(|candidate| drawn(candidate) != tokens) {
        None => Ok(tokens),
        Some(other) => unfit(
            format!(
                "`{}` would be trained on {} tokens, {} of them with loss, `{}` on {} and {}",
                first.name,
                tokens.0,
                tokens.1,
                other.name,
                drawn(other).0,
                drawn(other).1
            ),
            "compare checkpoints of one family, whose tokenizer and chat template are the same",
        ),
    }
}

/// Whether there will be something to rank by: the domain, or a validation loss, which pairs have none of without a reference.
fn is_told(prepared: &Prepared) -> bool {
    let domain = prepared.recipe.evaluation.as_ref().is_some_and(|evaluation| evaluation.domain.is_some());
    let last = prepared.stages.last();
    domain || last.is_some_and(|stage| stage.validation.is_some() && stage.reference.is_none())
}

/// Trains one, and scores it before and after.
fn try_one(candidate: Candidate, options: &Options, on_event: &mut dyn FnMut(&Event)) -> Result<Tried, PipelineError> {
    let Candidate { name, kind, mut prepared } = candidate;
    // The run would judge by the test rows, and write models that nobody asked for.
    let evaluation = prepared.recipe.evaluation.take();
    prepared.recipe.export.value.clear();
    let summary = run(&prepared, options, on_event)?;
    prepared.recipe.evaluation = evaluation;
    let last = prepared.stages.len() - 1;
    let model = load(&prepared, &result_of(&prepared, &summary.folder, last)?, &Tuning::Frozen)?;
    let stage = &prepared.stages[last];
    let rows = match stage.validation_batches(&References::default())? {
        Batches::Tokens(batches) if !batches.is_empty() => {
            let (device, tokens) = (model.device(), stage.workspace_tokens());
            let workspace = Workspace::allocate(device, model.config(), model.adapter_space(), Purpose::Infer, tokens);
            row_losses(&model, &workspace, &batches)
        }
        _ => Vec::new(),
    };
    let (comparison, scores) = match prepared.recipe.evaluation {
        None => (None, Vec::new()),
        Some(_) => {
            let base = prepared.load_base(&Tuning::Frozen)?;
            let Judged { comparison, scores, .. } =
                judge(&prepared, Models { base: &base, tuned: &model }, Split::Validation, false, on_event)?;
            (Some(comparison), scores)
        }
    };
    let sum = |of: fn(&DocumentLoss) -> f64| rows.iter().map(of).sum::<f64>();
    let floors = comparison.iter().flat_map(|c| &c.rows).filter_map(|row| row.floor).collect::<Vec<_>>();
    let probed = Probed {
        name,
        kind,
        source: prepared.recipe.base.source.value.to_string(),
        folder: summary.folder,
        validation: (!rows.is_empty()).then(|| sum(|row| row.nats) / sum(|row| row.tokens as f64)),
        kept: (!floors.is_empty()).then(|| floors.iter().all(|floor| floor.decision != FloorDecision::Forgot)),
        comparison,
        validation_to_first: None,
        to_first: Vec::new(),
    };
    Ok(Tried { probed, scores, rows })
}

/// By what they are ranked, more is better: accuracy of the domain, or else the validation loss, turned.
fn score(probed: &Probed) -> Option<f64> {
    domain(probed).map(|row| row.tuned).or(probed.validation.map(|loss| -loss))
}

/// The row on which the domain is decided.
fn domain(probed: &Probed) -> Option<&Row> {
    let mut rows = probed.comparison.iter().flat_map(|comparison| &comparison.rows);
    rows.find(|row| row.suite == "domain" && row.metric == Metric::Accuracy)
}

/// Pairs `other` with `first`, item by item.
fn against(first: &Tried, other: &mut Tried, bootstrap: Bootstrap) -> Result<(), PipelineError> {
    if !first.rows.is_empty() {
        other.probed.validation_to_first = Some(validation_difference(bootstrap, &first.rows, &other.rows)?);
    }
    other.probed.to_first = paired(&first.scores, &other.scores, bootstrap)?;
    Ok(())
}

/// The models of two runs against each other, item by item, on every suite.
pub(crate) fn paired(before: &[Scored], after: &[Scored], bootstrap: Bootstrap) -> Result<Vec<Row>, PipelineError> {
    // A divergence is from each one's own start, and compares nothing between them.
    let pairs = before.iter().zip(after).filter(|(a, _)| !matches!(a.tuned, Scores::ChatKl { .. }));
    let pairs: Vec<Pair<'_>> = pairs
        .map(|(a, b)| Pair {
            name: &a.name,
            clusters: a.clusters.clone(),
            base: Some(&a.tuned),
            tuned: &b.tuned,
            floor: None,
        })
        .collect();
    Ok(compare(None, &pairs, bootstrap)?.rows)
}

/// Why the first is first, and which are as good as it by what was measured.
fn reason(ranked: &[Probed]) -> String {
    let Some((first, others)) = ranked.split_first() else { return String::new() };
    let by = match (domain(first), first.validation) {
        (Some(row), _) => format!("domain accuracy {:.1} %", 100.0 * row.tuned),
        (None, Some(loss)) => format!("validation loss {loss:.4}"),
        (None, None) => String::new(),
    };
    let floors = match first.kept {
        Some(true) => " of those that broke no floor",
        Some(false) => ", though each broke a floor",
        None => "",
    };
    let near = others.iter().filter(|other| difference(other).is_some_and(|d| d.low <= 0.0 && d.high >= 0.0));
    let near: Vec<&str> = near.map(|other| other.name.as_str()).collect();
    let near = match near.len() {
        0 => "every other lies behind it by more than its 95 % interval".to_owned(),
        _ => format!("within noise of it: {}", near.join(", ")),
    };
    format!("{}: {by}, the best{floors}; {near}", first.name)
}

/// By how much it differs from the first in what they are ranked by.
fn difference(probed: &Probed) -> Option<Interval> {
    let mut rows = probed.to_first.iter();
    let row = rows.find(|row| row.suite == "domain" && row.metric == Metric::Accuracy);
    row.map(|row| row.difference).or(probed.validation_to_first)
}
