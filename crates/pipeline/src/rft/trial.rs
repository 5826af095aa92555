//! The rewards of a recipe, put to the test on its own prompts, with what the model answers that they are to train.

use temper_recipe::Reward;
use temper_reward::Rewards;
use temper_reward::trial::{Completion, TrialRow, TrialSettings, Verdict, try_rewards};
use temper_run::Random;

use super::origin::{Origin, TrialModel, origin};
use super::rounds::sampling;
use super::sample::{Asked, Sampler};
use super::{Rft, spread};
use crate::PipelineError;
use crate::prepare::{Prepared, PreparedStage};
use crate::run::{Event, Options};

/// Rows on which a search tries the rewards before it begins.
const BEFORE_A_SEARCH: usize = 50;

/// Rewards, and the rows that they are tried on.
pub struct RewardTrial {
    /// The rewards of the stage.
    pub rewards: Vec<Reward>,
    /// Its prompts, some of them answered.
    pub rows: Vec<TrialRow>,
    /// Who wrote the completions: "the base", "the start of stage 2, from the cache"; none where nothing was sampled.
    pub completions_by: Option<String>,
    /// What is to be known of that.
    pub warning: Option<String>,
}

impl Prepared {
    /// The rewards of the first stage that reinforces, the last training prompts evenly spread, at most `rows`, and for the first
    /// `answered` of them completions sampled from `model`, as many as the stage samples. None where no stage reinforces.
    ///
    /// # Errors
    /// When the rows cannot be read, or the model is not there, cannot be loaded or cannot answer.
    pub fn reward_trial(
        &self,
        (rows, answered): (usize, usize),
        model: &TrialModel,
        options: &Options,
        on_event: &mut dyn FnMut(&Event),
    ) -> Result<Option<RewardTrial>, PipelineError> {
        let Some((index, rft)) = reinforcing(self) else { return Ok(None) };
        let (ids, mut trial) = trial_rows(&self.stages[index], rft, rows)?;
        let (mut completions_by, mut warning) = (None, None);
        if answered > 0 {
            let answered = answered.min(trial.len());
            let prompts = rft.prompts.iter().flatten().collect::<Vec<_>>();
            let places: Vec<usize> = spread(prompts.len(), rows).take(answered).collect();
            let asked: Vec<Asked<'_>> =
                places.iter().zip(&ids).map(|(&at, ids)| Asked { ids, prompt: prompts[at] }).collect();
            let Origin { model, what, warning: said } = origin(self, index, model, options.cache.as_ref())?;
            (completions_by, warning) = (Some(what), said);
            let (renderer, longest, (buffer, penalty)) = (&self.base.renderer, rft.longest, rft.overlong);
            // What the rewards say of these is the trial's to ask.
            let nothing = Rewards::open(&[], self.recipe.seed.value, &std::env::temp_dir())?;
            let sampler =
                Sampler { model: &model, adapter: true, renderer, rewards: &nothing, longest, buffer, penalty };
            let seed = self.recipe.seed.value;
            let draws = Random::new(seed, "completions for a trial of rewards");
            let key = |at: usize, sample: usize| draws.within(at as u64).bits(sample as u64);
            let mut tell = |done, total| {
                on_event(&Event::Evaluating { suite: "completions".to_owned(), side: "policy", done, total });
            };
            let sampled = sampler.sample(&asked, rft.generations, &sampling(rft, seed), key, &mut tell)?;
            for (row, group) in trial.iter_mut().zip(sampled.groups) {
                row.completions = group
                    .into_iter()
                    .map(|made| Completion { tokens: Some(made.ids.len()), text: made.text, cut: made.cut, good: None })
                    .collect();
            }
        }
        Ok(Some(RewardTrial { rewards: rft.rewards.clone(), rows: trial, completions_by, warning }))
    }
}

/// The first stage that reinforces, and its place.
fn reinforcing(prepared: &Prepared) -> Option<(usize, &Rft)> {
    prepared.stages.iter().enumerate().find_map(|(index, stage)| Some((index, stage.rft.as_deref()?)))
}

/// Training prompts as rewards see them, and their tokens.
fn trial_rows(stage: &PreparedStage, rft: &Rft, most: usize) -> Result<(Vec<Vec<u32>>, Vec<TrialRow>), PipelineError> {
    let places: Vec<(usize, usize)> =
        (0..rft.prompts.len()).flat_map(|s| (0..rft.prompts[s].len()).map(move |at| (s, at))).collect();
    let (mut ids, mut rows) = (Vec::new(), Vec::new());
    for place in spread(places.len(), most) {
        let (source, at) = places[place];
        let prompt = &rft.prompts[source][at];
        ids.push(stage.sources[source].example(at)?.ids);
        rows.push(TrialRow {
            id: prompt.id.clone(),
            prompt: prompt.messages().clone(),
            row: prompt.row.clone(),
            completions: Vec::new(),
        });
    }
    Ok((ids, rows))
}

/// Refuses rewards in which a trial finds errors: a search would go where they are wrong.
pub(crate) fn refuse_bad_rewards(prepared: &Prepared) -> Result<(), PipelineError> {
    let Some((index, rft)) = reinforcing(prepared) else { return Ok(()) };
    let stage = &prepared.stages[index];
    let (_, rows) = trial_rows(stage, rft, BEFORE_A_SEARCH)?;
    let seed = prepared.recipe.seed.value;
    let folder = tempfile::tempdir().map_err(crate::checkpoints::io("create a folder in", &std::env::temp_dir()))?;
    let rewards = Rewards::open(&rft.rewards, seed, folder.path())?.tolerant();
    let settings = TrialSettings { seed, reference_as: None, batch: 64 };
    let trial = try_rewards(&rewards, &rows, &settings)?;
    let errors = trial.findings.iter().filter(|finding| finding.verdict == Verdict::Error);
    let errors: Vec<String> = errors.map(|finding| format!("{}: {}", finding.check, finding.found)).collect();
    if errors.is_empty() {
        return Ok(());
    }
    Err(PipelineError::Unfit {
        path: format!("stages.{}.rewards", stage.of),
        problem: format!("the test of the rewards finds errors: {}", errors.join("; ")),
        hint: "`temper reward test` with the recipe shows them".to_owned(),
    })
}
