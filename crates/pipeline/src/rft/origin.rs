//! The model that writes the completions of a trial: the one that the stage starts from, where that is at hand.

use std::path::{Path, PathBuf};

use temper_kernels::Cpu;
use temper_model::{Llama, Tuning};

use crate::PipelineError;
use crate::cache::Cache;
use crate::checkpoints::{Checkpoints, Finished};
use crate::identity::stage_keys;
use crate::prepare::Prepared;
use crate::resume::recorded_recipe;
use crate::start::{load, start_of};

/// Which model writes the completions of a trial of rewards.
#[derive(Clone, Debug)]
pub enum TrialModel {
    /// The one that the stage starts from: the base, or what the stages before it left in the recipe's own run or in the cache. Where
    /// they left nothing, the base, and that is said.
    Start,
    /// The one that the stage starts from in the run of this folder.
    Run(PathBuf),
    /// The base with an adapter.
    Adapter {
        /// Its folder.
        folder: PathBuf,
        /// Whatever it was trained over.
        any_base: bool,
    },
}

/// A model, and what is to be said of it.
pub(super) struct Origin {
    pub model: Llama<Cpu>,
    /// What it is: "the base".
    pub what: String,
    /// Why it is not the one that was to be asked, or what does not suit it.
    pub warning: Option<String>,
}

/// The model that is asked for stage `index`, loaded.
pub(super) fn origin(
    prepared: &Prepared,
    index: usize,
    asked: &TrialModel,
    cache: Option<&Cache>,
) -> Result<Origin, PipelineError> {
    let stage = prepared.stages[index].of + 1;
    match asked {
        TrialModel::Adapter { folder, any_base } => {
            let (model, warning) = prepared.base.with_adapter(prepared.device, folder, *any_base)?;
            Ok(Origin { model, what: format!("the base with the adapter {}", folder.display()), warning })
        }
        TrialModel::Run(run) => {
            refuse_other_run(prepared, run, index)?;
            started(prepared, run, index, format!("the start of stage {stage} in {}", run.display()))
        }
        TrialModel::Start if index == 0 => started(prepared, Path::new(""), 0, "the base".to_owned()),
        TrialModel::Start => {
            let own = &prepared.recipe.output.value;
            let keys = &stage_keys(prepared)[..index];
            let finished = |(at, key): (usize, &String)| Finished::read(&Checkpoints::result_in(own, at), Some(key));
            if keys.iter().enumerate().all(|one| finished(one).is_some()) {
                return started(prepared, own, index, format!("the start of stage {stage} in {}", own.display()));
            }
            let passing =
                tempfile::tempdir().map_err(crate::checkpoints::io("create a folder in", &std::env::temp_dir()))?;
            let mut missing = None;
            for (at, key) in keys.iter().enumerate() {
                let result = Checkpoints::open(passing.path(), at)?.result();
                if !cache.map_or(Ok(false), |cache| cache.fetch_stage(key, &result))? {
                    missing = Some(prepared.stages[at].of + 1);
                    break;
                }
            }
            match missing {
                None => started(prepared, passing.path(), index, format!("the start of stage {stage}, from the cache")),
                Some(missing) => Ok(Origin {
                    model: prepared.load_base(&Tuning::Frozen)?,
                    what: "the base".to_owned(),
                    warning: Some(format!(
                        "the completions are the base's, though stage {stage} starts where the stage before it ends: stage {missing} \
                         of this recipe is finished neither in {} nor in the cache\nhint: run the recipe first, or name a run of it \
                         (--run) or an adapter (--adapter)",
                        own.display()
                    )),
                }),
            }
        }
    }
}

/// The model that stage `index` starts from in the run of this folder, whose stages before it are finished.
fn started(prepared: &Prepared, run: &Path, index: usize, what: String) -> Result<Origin, PipelineError> {
    let model = load(prepared, &start_of(prepared, run, index)?, &Tuning::Frozen)?;
    Ok(Origin { model, what, warning: None })
}

/// Refuses a run in which the stages before stage `index` are not those of the recipe, finished.
fn refuse_other_run(prepared: &Prepared, run: &Path, index: usize) -> Result<(), PipelineError> {
    let unfit = |problem: String, hint: &str| {
        Err(PipelineError::Unfit { path: run.display().to_string(), problem, hint: hint.to_owned() })
    };
    if !recorded_recipe(run).is_file() {
        return unfit("it holds no run: there is no recipe.json".to_owned(), "name the folder that `temper run` wrote");
    }
    if index == 0 {
        return unfit(
            "the first stage that reinforces is the first of the recipe, and starts from the base in every run"
                .to_owned(),
            "leave --run out",
        );
    }
    for (at, key) in stage_keys(prepared)[..index].iter().enumerate() {
        let (result, stage) = (Checkpoints::result_in(run, at), prepared.stages[at].of + 1);
        if Finished::read(&result, Some(key)).is_some() {
            continue;
        }
        return match Finished::read(&result, None) {
            None => unfit(format!("its stage {stage} is not finished"), "`temper resume` goes on with it"),
            Some(_) => unfit(
                format!("its stage {stage} is not this recipe's: base, data, settings or version are others"),
                "name a run of this recipe; --adapter takes any adapter over its base",
            ),
        };
    }
    Ok(())
}
