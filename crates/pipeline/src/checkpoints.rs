//! The checkpoints of one stage, on disk: from which training goes on exactly, whatever stopped it.
//!
//! `checkpoints/stage-1/` holds `step-000040/` (`trainer.safetensors`: weights and moments in f32; `state.json`: where the
//! loop stood), `best-000040/` (the weights of the lowest validation), of a preference stage `reference.json`, and, when the
//! stage is done, `result/`. Each folder has a name of its own and appears whole or not at all, so none is ever replaced:
//! whatever a crash leaves, the folders that were there are still there.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use temper_kernels::Device;
use temper_run::{RunError, sha256_file, to_json_pretty, write_dir_atomic};
use temper_train::{Fit, FitOutcome, FitState};

use crate::PipelineError;
use crate::choice::Choice;
use crate::rft::RoundsState;
use crate::watch::WatchState;

const TRAINER: &str = "trainer.safetensors";
const STATE: &str = "state.json";
const RESULT: &str = "result";
const OUTCOME: &str = "outcome.json";
/// What a reader of this version understands.
const FORMAT: u32 = 1;
/// The key of a stage that was resumed with other settings than it began with: no run from scratch gives its result.
pub(crate) const MIXED: &str = "mixed";

/// `state.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct State {
    format: u32,
    /// The stage's key, its inputs and settings; [`MIXED`] where they changed on the way.
    pub key: String,
    /// Where the loop stood.
    pub fit: FitState,
    /// What the watch over general text remembers.
    pub watch: WatchState,
    /// Length of `metrics.jsonl` then.
    pub metrics_bytes: u64,
    /// Of a stage that reinforces: where its rounds stand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rounds: Option<RoundsState>,
    /// Hash of `trainer.safetensors`.
    trainer_sha256: String,
}

/// `outcome.json` of a finished stage.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Finished {
    format: u32,
    /// As in [`State`].
    pub key: String,
    /// How training ended.
    pub outcome: FitOutcome,
    /// What the watch over general text remembers, for the stages after.
    pub watch: WatchState,
    /// The stage's lines of `metrics.jsonl`.
    pub metrics: Vec<serde_json::Value>,
    /// Of a part that was to better the one before: whether it did. Where not, there are no weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choice: Option<Choice>,
}

/// A checkpoint that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// The folder.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// What [`Checkpoints::restore`] found.
pub(crate) struct Restored {
    /// The checkpoint that was taken and its state; none where training begins at the start.
    pub from: Option<(PathBuf, State)>,
    /// Newer ones that could not be used.
    pub skipped: Vec<Skipped>,
}

/// The folder `checkpoints/stage-N`.
pub(crate) struct Checkpoints {
    dir: PathBuf,
}

impl Checkpoints {
    /// Makes the folder where it is not there.
    pub fn open(run: &Path, stage: usize) -> Result<Self, PipelineError> {
        let dir = dir_in(run, stage);
        fs::create_dir_all(&dir).map_err(io("create", &dir))?;
        Ok(Self { dir })
    }

    /// The folder of the finished stage of a run, which need not be there.
    pub fn result_in(run: &Path, stage: usize) -> PathBuf {
        dir_in(run, stage).join(RESULT)
    }

    /// The checkpoint of this step.
    pub fn at(&self, step: usize) -> PathBuf {
        self.dir.join(format!("step-{step:06}"))
    }

    /// The best weights that the checkpoint of this step refers to; none where it refers to none but the start.
    pub fn best_of(&self, step: usize) -> Option<PathBuf> {
        let best = read_state(&self.at(step)).ok()?.fit.best.filter(|best| best.step > 0)?;
        Some(self.best(best.step))
    }

    /// Whether there is any checkpoint.
    pub fn is_begun(&self) -> Result<bool, PipelineError> {
        Ok(!self.numbered("step-")?.is_empty())
    }

    /// Whether the folder of a checkpoint is whole, with its best weights beside it where it refers to some.
    pub fn is_whole(&self, checkpoint: &Path, best: bool) -> bool {
        read_state(checkpoint).is_ok_and(|state| {
            let hash = sha256_file(&checkpoint.join(TRAINER));
            hash.is_ok_and(|hash| hash == state.trainer_sha256) && (best || state.fit.best.is_none_or(|b| b.step == 0))
        })
    }

    /// Takes over a checkpoint of another run as one of this stage, whose key is `key`; `metrics.jsonl` has so many bytes.
    pub fn adopt(&self, from: &Path, best: Option<&Path>, key: &str, metrics_bytes: u64) -> Result<(), PipelineError> {
        let unread = |problem| PipelineError::Unfit {
            path: from.display().to_string(),
            problem,
            hint: "remove it, or run with --no-cache".to_owned(),
        };
        let state = State { key: key.to_owned(), metrics_bytes, ..read_state(from).map_err(unread)? };
        if let (Some(from), Some(best)) = (best, state.fit.best) {
            write_dir_atomic(&self.best(best.step), |aside| copy_tree(from, aside))?;
        }
        write_dir_atomic(&self.at(state.fit.step), |aside| -> Result<(), PipelineError> {
            let trainer = from.join(TRAINER);
            fs::copy(&trainer, aside.join(TRAINER)).map_err(io("copy", &trainer))?;
            write(&aside.join(STATE), &to_json_pretty(&state)?)
        })
    }

    /// The weights of the lowest validation, at this step.
    pub fn best(&self, step: usize) -> PathBuf {
        self.dir.join(format!("best-{step:06}"))
    }

    /// Saves where the loop stands, then drops checkpoints beyond the newest `keep`, and best weights that neither the
    /// loop nor a kept checkpoint refers to.
    pub fn save<D: Device>(
        &self,
        fit: &Fit<'_, D>,
        key: &str,
        (watch, rounds): (&WatchState, Option<RoundsState>),
        metrics_bytes: u64,
        keep: usize,
    ) -> Result<(), PipelineError> {
        let path = self.at(fit.state().step);
        write_dir_atomic(&path, |aside| -> Result<(), PipelineError> {
            let trainer = aside.join(TRAINER);
            fit.save(&trainer).map_err(PipelineError::Save)?;
            let state = State {
                format: FORMAT,
                key: key.to_owned(),
                fit: fit.state().clone(),
                watch: watch.clone(),
                rounds,
                metrics_bytes,
                trainer_sha256: sha256_file(&trainer)?,
            };
            write(&aside.join(STATE), &to_json_pretty(&state)?)
        })?;
        self.prune(fit.state(), keep)
    }

    fn prune(&self, now: &FitState, keep: usize) -> Result<(), PipelineError> {
        let steps = self.numbered("step-")?;
        let (old, kept) = steps.split_at(steps.len().saturating_sub(keep.max(1)));
        let mut wanted: Vec<usize> = now.best.iter().map(|best| best.step).collect();
        for (_, path) in kept {
            wanted.extend(read_state(path).ok().and_then(|state| state.fit.best).map(|best| best.step));
        }
        let best = self.numbered("best-")?;
        let unwanted = best.iter().filter(|(step, _)| !wanted.contains(step) && *step <= now.step);
        for (_, path) in old.iter().chain(unwanted) {
            fs::remove_dir_all(path).map_err(io("remove", path))?;
        }
        Ok(())
    }

    /// Folders `PREFIXnnnnnn`, in order of their number.
    fn numbered(&self, prefix: &str) -> Result<Vec<(usize, PathBuf)>, PipelineError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(io("list", &self.dir))? {
            let path = entry.map_err(io("list", &self.dir))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if let Some(number) = name.strip_prefix(prefix).and_then(|number| number.parse().ok()) {
                found.push((number, path));
            }
        }
        found.sort();
        Ok(found)
    }

    /// Brings `fit` to the newest checkpoint that is whole.
    pub fn restore<D: Device>(&self, fit: &mut Fit<'_, D>) -> Result<Restored, PipelineError> {
        let mut restored = Restored { from: None, skipped: Vec::new() };
        for (_, path) in self.numbered("step-")?.into_iter().rev() {
            match self.try_restore(fit, &path) {
                Ok(state) => {
                    restored.from = Some((path, state));
                    break;
                }
                Err(reason) => restored.skipped.push(Skipped { path, reason }),
            }
        }
        Ok(restored)
    }

    fn try_restore<D: Device>(&self, fit: &mut Fit<'_, D>, path: &Path) -> Result<State, String> {
        let state = read_state(path)?;
        if let Some(best) = state.fit.best
            && best.step > 0
            && !self.best(best.step).is_dir()
        {
            return Err(format!("the best weights it refers to, of step {}, are missing", best.step));
        }
        let trainer = path.join(TRAINER);
        let first_line = |error: String| error.lines().next().unwrap_or_default().to_owned();
        let hash = sha256_file(&trainer).map_err(|error| first_line(error.to_string()))?;
        if hash != state.trainer_sha256 {
            return Err(format!("{TRAINER} is damaged: sha256 {hash}, expected {}", state.trainer_sha256));
        }
        fit.restore(&trainer, state.fit.clone()).map_err(|error| first_line(error.to_string()))?;
        Ok(state)
    }

    /// Writes the stage's result: the weights (an adapter, or the whole model), which `save` puts into a folder, unless they are
    /// not taken, and how it ended. With this folder the stage is done.
    pub fn finish(
        &self,
        finished: &Finished,
        save: impl FnOnce(&Path) -> Result<(), PipelineError>,
    ) -> Result<(), PipelineError> {
        write_dir_atomic(&self.dir.join(RESULT), |aside| {
            if finished.is_taken() {
                save(&weights(aside))?;
            }
            write(&aside.join(OUTCOME), &to_json_pretty(finished)?)
        })
    }

    /// The folder of all of these.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The folder of the finished stage.
    pub fn result(&self) -> PathBuf {
        self.dir.join(RESULT)
    }
}

impl Finished {
    pub fn new(
        key: &str,
        outcome: FitOutcome,
        watch: WatchState,
        metrics: Vec<serde_json::Value>,
        choice: Option<Choice>,
    ) -> Self {
        Self { format: FORMAT, key: key.to_owned(), outcome, watch, metrics, choice }
    }

    /// Whether the run goes on from the stage's weights.
    pub fn is_taken(&self) -> bool {
        self.choice.as_ref().is_none_or(|choice| choice.taken)
    }

    /// Reads `outcome.json` of a result folder; none where it is not there, or not of this key.
    pub fn read(result: &Path, key: Option<&str>) -> Option<Self> {
        let finished: Self = serde_json::from_slice(&fs::read(result.join(OUTCOME)).ok()?).ok()?;
        (finished.format == FORMAT && key.is_none_or(|key| key == finished.key)).then_some(finished)
    }
}

fn dir_in(run: &Path, stage: usize) -> PathBuf {
    run.join("checkpoints").join(format!("stage-{}", stage + 1))
}

/// The weights of a result folder: an adapter folder or a model folder.
pub(crate) fn weights(result: &Path) -> PathBuf {
    result.join("weights")
}

fn read_state(path: &Path) -> Result<State, String> {
    let file = path.join(STATE);
    let bytes = fs::read(&file).map_err(|error| format!("{STATE}: {error}"))?;
    let state: State = serde_json::from_slice(&bytes).map_err(|error| format!("{STATE}: {error}"))?;
    if state.format != FORMAT {
        return Err(format!("{STATE}: format {}, this version reads {FORMAT}", state.format));
    }
    Ok(state)
}

fn write(path: &Path, text: &str) -> Result<(), PipelineError> {
    Ok(fs::write(path, text).map_err(io("write", path))?)
}

pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> RunError {
    let path = path.to_owned();
    move |source| RunError::Io { action, path, source }
}

/// Copies all that is in the folder `from` into the folder `to`.
pub(crate) fn copy_tree(from: &Path, to: &Path) -> Result<(), PipelineError> {
    for entry in fs::read_dir(from).map_err(io("list", from))? {
        let source = entry.map_err(io("list", from))?.path();
        let target = to.join(source.file_name().unwrap_or_default());
        if source.is_dir() {
            fs::create_dir(&target).map_err(io("create", &target))?;
            copy_tree(&source, &target)?;
        } else {
            fs::copy(&source, &target).map_err(io("copy", &source))?;
        }
    }
    Ok(())
}
