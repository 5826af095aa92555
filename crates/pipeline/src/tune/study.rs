//! A study: what a file says of it, its store, its rules, and its end.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use temper_recipe::{EarlyStopping, Recipe, StudyFile, Tune, is_study};
use temper_run::{sha256_bytes, to_json_pretty, utc_now, write_atomic};
use temper_search::sampler::{Sampler, named};
use temper_search::stopping::{
    Asha, Divergence, Extrapolation, Hopeless, Hyperband, Median, Mode, Rungs, Stopping, Together,
};
use temper_search::store::{Opening, Setup, Store};
use temper_search::{History, Measured, Point};

use super::answer::{Answer, Lead, Repeated, leads};
use super::builtin::{Builtin, VALIDATION_LOSS};
use super::measure::Measures;
use super::plan::{self, Budget, StudyPlan};
use super::program::Program;
use super::sealed::Sealed;
use super::search::{Over, Search, Told, trial_folder};
use super::space::{self, Searchable};
use super::trainer::{Assignment, Ended, Heard, Signal, Trainer};
use crate::checkpoints::io;
use crate::run::{Event, Interrupt, Options};
use crate::{PipelineError, Prepared};

/// Chance to reach the front below which a trial ends by its curve.
const CURVE: f64 = 0.05;
/// Chance that a broken constraint still holds at the end below which a trial is hopeless.
const HOPELESS: f64 = 0.01;
/// Other trials that a median is made of, at least.
const MEDIAN: usize = 4;

/// A study as its file says it.
pub struct Study {
    /// Its name.
    pub name: String,
    /// Of what is drawn, and of the trials.
    pub seed: u64,
    /// Its folder.
    pub folder: PathBuf,
    /// What is searched and how.
    pub tune: Tune,
    /// The space, and the recipe's own values in it.
    pub searchable: Searchable,
    /// The goals.
    pub measures: Measures,
    /// The file.
    pub file: PathBuf,
    /// What was laid over it.
    pub sets: Vec<String>,
    /// The recipe; none where a program carries trials out.
    pub recipe: Option<Recipe>,
}

/// What is told while a study goes on.
pub struct Ears<'a> {
    /// Of the search.
    pub tell: &'a (dyn Fn(&Told, &Store) + Sync),
    /// Of what happens within a trial that Temper trains.
    pub hear: &'a (dyn Fn(&Event) + Sync),
}

/// How a study ended.
#[derive(Clone, Debug, Serialize)]
pub struct Finish {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Where its trials are kept.
    pub store: String,
    /// Trials in all.
    pub trials: usize,
    /// Of these, such as came to their full length.
    pub complete: usize,
    /// Tokens trained on.
    pub tokens: u64,
    /// Seconds of training, over all workers.
    pub seconds: f64,
    /// Front and recommendation.
    pub answer: Answer,
    /// Fields of the recommended trial.
    pub values: Point,
    /// What was measured of the finalists under other seeds.
    pub repeated: Vec<Repeated>,
    /// The recommended trial's lead over the recipe's own on validation: biased, since it was chosen there.
    pub validation: Vec<Lead>,
    /// Both on rows that the search has not seen; none of a program, or without an `evaluation`.
    pub sealed: Option<Sealed>,
    /// What remains to be said.
    pub notes: Vec<String>,
    /// When it was written.
    pub ended: String,
}

/// Under which name the store keeps what the search may take.
const BUDGET: &str = "budget";

/// What makes two starts of a study the same study.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Identity {
    file: PathBuf,
    sets: Vec<String>,
    /// Hash of all that decides what a trial is, but for the space and the budget.
    settings: String,
}

impl Study {
    /// Reads a recipe with `tune`, a recipe without (its space is made from its stages), or the file of a program's study.
    ///
    /// # Errors
    /// The file's problems, all at once; then what is wrong with the space and the goals.
    pub fn load(file: &Path, sets: &[String]) -> Result<Self, PipelineError> {
        let sets = sets.to_vec();
        if is_study(file) {
            let (study, notes) = StudyFile::load(file, &sets)?;
            let mut searchable = space::of_program(&study.tune)?;
            searchable.notes.extend(notes.iter().map(|note| note.message.clone()));
            return Ok(Self {
                name: study.name.value,
                seed: study.seed.value,
                folder: study.output.value,
                measures: Measures::of(&study.tune),
                searchable,
                tune: study.tune,
                file: file.to_owned(),
                sets,
                recipe: None,
            });
        }
        let (mut recipe, mut notes) = Recipe::load(file, &sets)?;
        if recipe.tune.is_none() {
            // With all of its defaults.
            (recipe, notes) = Recipe::load(file, &[sets.as_slice(), &["tune={}".to_owned()]].concat())?;
        }
        let tune = recipe.tune.clone().ok_or_else(|| unfit("tune", "is missing".to_owned(), "add `tune: {}`"))?;
        let mut searchable = space::of_recipe(&recipe, &tune)?;
        searchable.notes.extend(notes.iter().map(|note| note.message.clone()));
        let measures = Measures::of_recipe(&recipe, &tune)?;
        let mut name = recipe.output.value.file_name().unwrap_or_default().to_owned();
        name.push("-study");
        Ok(Self {
            name: recipe.name.value.clone(),
            seed: recipe.seed.value,
            folder: recipe.output.value.with_file_name(name),
            tune,
            searchable,
            measures,
            file: file.to_owned(),
            sets,
            recipe: Some(recipe),
        })
    }

    /// Where its trials are kept, unless the user says otherwise: a file in its folder.
    pub fn address(&self) -> String {
        self.folder.join("study.sqlite").display().to_string()
    }

    /// Lengths at which trials are compared.
    fn rungs(&self) -> Vec<u64> {
        if self.tune.early_stopping.value == EarlyStopping::Off { vec![1000] } else { plan::rungs(&self.tune) }
    }

    /// Temper's own training of its trials.
    fn builtin<'a>(&'a self, options: &Options, ears: &Ears<'a>) -> Builtin<'a> {
        Builtin {
            recipe: self.file.clone(),
            sets: self.sets.clone(),
            space: &self.searchable.space,
            rungs: self.rungs(),
            options: options.clone(),
            hear: ears.hear,
        }
    }

    /// What carries its trials out.
    fn trainer<'a>(&'a self, options: &Options, ears: &Ears<'a>) -> Box<dyn Trainer + 'a> {
        match &self.tune.trainer {
            Some(asked) => Box::new(Program {
                asked,
                space: &self.searchable.space,
                interrupt: options.interrupt.clone(),
                folder: self.file.parent().map_or_else(PathBuf::new, Path::to_owned),
            }),
            None => Box::new(self.builtin(options, ears)),
        }
    }

    /// Its rules of early stopping.
    fn stopping(&self) -> Result<Box<dyn Stopping>, PipelineError> {
        let rungs = Rungs::at(self.rungs())?;
        let pauses = self.tune.trainer.as_ref().is_none_or(|trainer| trainer.resumes.value);
        let mode = if pauses { Mode::Pause } else { Mode::Stop };
        let reduction = self.tune.reduction_factor.value;
        // A loss that doubles has left the ground; of another objective nobody knows.
        let loss = |index: usize| self.measures.goals().objectives[index].name == VALIDATION_LOSS;
        let losses = (0..self.measures.goals().objectives.len()).filter(|&index| loss(index));
        let divergences = losses.map(|objective| Divergence { objective, start: None, factor: 1.0 }).collect();
        let mut rules: Vec<Box<dyn Stopping>> = vec![Box::new(Hopeless::new(rungs.clone(), divergences, HOPELESS)?)];
        match self.tune.early_stopping.value {
            EarlyStopping::Asha => rules.push(Box::new(Asha::new(rungs, reduction, mode)?)),
            EarlyStopping::Hyperband => {
                let brackets = rungs.steps().len().min(3);
                rules.push(Box::new(Hyperband::new(rungs, reduction, brackets, mode)?));
            }
            EarlyStopping::Median => rules.push(Box::new(Median::new(rungs, MEDIAN))),
            EarlyStopping::Curve => rules.push(Box::new(Extrapolation::new(rungs, CURVE)?)),
            EarlyStopping::Hopeless | EarlyStopping::Off => {}
        }
        Ok(Box::new(Together::new(rules)?))
    }

    fn sampler(&self) -> Result<Box<dyn Sampler>, PipelineError> {
        let name = self.tune.sampler.value.to_string();
        named(&name)
            .ok_or_else(|| unfit("tune.sampler", format!("there is no sampler `{name}`"), "docs/tune.md lists them"))
    }

    /// The recipe's own values, prepared as a trial; none of a program.
    ///
    /// # Errors
    /// What is wrong with them: bad rows, an item that is too long, errors in the data.
    pub fn prepare_own(&self, options: &Options, ears: &Ears<'_>) -> Result<Option<Prepared>, PipelineError> {
        let Some(own) = self.searchable.own.as_ref().filter(|_| self.recipe.is_some()) else { return Ok(None) };
        let builtin = Builtin { hear: ears.hear, ..self.builtin(options, &Ears { tell: ears.tell, hear: ears.hear }) };
        let prepared = builtin.prepare(own, self.seed, &self.folder)?;
        let prepared = prepared.map_err(|problem| unfit("tune", problem, "the recipe's own values are trial 0"))?;
        crate::checks::refuse(&prepared.parts, &prepared.checks)?;
        Ok(Some(prepared))
    }

    /// What the search will take.
    pub fn plan(&self, own: &Prepared, budget: Budget) -> StudyPlan {
        StudyPlan::of(own, &self.searchable.space, &self.tune, self.measures.goals(), budget)
    }

    /// Opens its store, and makes it where it is not there.
    ///
    /// # Errors
    /// Where the study there is another one, or the store cannot be opened.
    pub fn open(&self, address: &str, worker: &str) -> Result<Store, PipelineError> {
        fs::create_dir_all(&self.folder).map_err(io("create", &self.folder))?;
        let identity = self.identity()?;
        let setup = Setup {
            name: self.name.clone(),
            space: self.searchable.space.clone(),
            goals: self.measures.goals().clone(),
            settings: serde_json::to_value(&identity).unwrap_or_default(),
            first: self.searchable.own.iter().cloned().collect(),
        };
        let known = Store::studies(address)?.into_iter().find(|known| known.name == self.name);
        let known = known.and_then(|known| serde_json::from_value::<Identity>(known.settings?).ok());
        if known.is_some_and(|known| known.settings != identity.settings) {
            return Err(unfit(
                &self.file.display().to_string(),
                format!("the study `{}` in {} was begun with other settings or data", self.name, self.folder.display()),
                "its trials would not compare with new ones: give the recipe another `name` or `output`, or --overwrite",
            ));
        }
        Ok(Store::open(address, &setup, &Opening { worker: worker.to_owned(), ..Opening::default() })?)
    }

    /// Keeps what the search may take, for workers that come later.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn keep_budget(
        &self,
        store: &mut Store,
        budget: Budget,
        plan: Option<&StudyPlan>,
    ) -> Result<(), PipelineError> {
        let json = serde_json::to_value((budget, plan)).unwrap_or_default();
        Ok(store.set_state(BUDGET, &json)?)
    }

    /// What the search may take, as `temper tune` said it. Its clock is that command's: a worker that comes later does not know it, and
    /// works until nothing is left to be done.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn kept_budget(&self, store: &mut Store) -> Result<(Budget, Option<StudyPlan>), PipelineError> {
        let kept = store.state(BUDGET)?.and_then(|json| serde_json::from_value(json).ok());
        let (budget, plan): (Budget, Option<StudyPlan>) =
            kept.unwrap_or((Budget::of(&self.tune, Budget::default()), None));
        Ok((Budget { seconds: None, ..budget }, plan))
    }

    fn identity(&self) -> Result<Identity, PipelineError> {
        // What is left open and how long is searched may change; what a trial is may not.
        let open = |path: &str| path.starts_with("tune.") || path == "output" || path == "name";
        let mut settings = BTreeMap::new();
        match &self.recipe {
            Some(recipe) => {
                for setting in recipe.settings().into_iter().filter(|setting| !open(&setting.path)) {
                    settings.insert(setting.path, setting.value.to_string());
                }
                settings.insert("rungs".to_owned(), format!("{:?}", self.rungs()));
            }
            None => {
                let trainer = self.tune.trainer.iter().flat_map(|trainer| &trainer.command.value);
                settings.insert("command".to_owned(), trainer.cloned().collect::<Vec<_>>().join("\n"));
            }
        }
        let file = std::path::absolute(&self.file).map_err(io("find", &self.file))?;
        let text = to_json_pretty(&settings)?;
        Ok(Identity { file, sets: self.sets.clone(), settings: sha256_bytes(text.as_bytes()) })
    }

    /// One worker's part in the search.
    ///
    /// # Errors
    /// As [`Search::work`].
    pub fn work(
        &self,
        store: &mut Option<Store>,
        (budget, plan): (Budget, Option<&StudyPlan>),
        begun: Instant,
        options: &Options,
        ears: &Ears<'_>,
    ) -> Result<Over, PipelineError> {
        let Some(own) = store.take() else { return Ok(Over::Done) };
        let ours = Ears { tell: ears.tell, hear: ears.hear };
        let trainer = self.trainer(options, &ours);
        let (sampler, stopping) = (self.sampler()?, self.stopping()?);
        let repeats = self.tune.finalists.value.saturating_add(1) * self.tune.finalist_seeds.value;
        let mut search = Search {
            store: own,
            trainer: trainer.as_ref(),
            sampler: sampler.as_ref(),
            stopping: stopping.as_ref(),
            measures: &self.measures,
            seed: self.seed,
            folder: self.folder.clone(),
            budget,
            begun,
            kept_back: plan.map_or((0.0, 0), |plan| (plan.kept_back, repeats * plan.trial.tokens)),
            trial: plan.map_or((0.0, 0), |plan| (plan.trial.seconds, plan.trial.tokens)),
            patience: self.tune.patience.value,
            interrupt: options.interrupt.clone(),
            tell: ears.tell,
        };
        let over = search.work();
        *store = Some(search.store);
        over
    }

    /// The end of the search: finalists under other seeds, the recommendation, and the rows that nothing has seen. None where the
    /// user stopped it: the same command goes on.
    ///
    /// # Errors
    /// What concerns the machine or the store.
    pub fn finish(
        &self,
        store: &mut Store,
        options: &Options,
        ears: &Ears<'_>,
    ) -> Result<Option<Finish>, PipelineError> {
        store.refresh()?;
        let history = store.history().clone();
        let mut notes = Vec::new();
        let Some(repeated) = self.repeat(store, &history, options, ears)? else { return Ok(None) };
        let answer = Answer::of(&history, &repeated);
        let sealed = match (answer.recommended, &self.recipe) {
            (Some(number), Some(_)) => self.seal(store, &history, number, options, ears)?,
            _ => None,
        };
        let own = history.trial(0).is_some_and(|own| own.result.is_some());
        let validation = answer.recommended.filter(|number| own && *number != 0);
        let validation = validation.map_or_else(Vec::new, |number| leads(&history, &repeated, number));
        if !validation.is_empty() {
            notes.push(format!(
                "the lead on validation is that of the best of {} trials, chosen on the same rows: it is larger than what new rows \
                 will show",
                history.trials().len()
            ));
        }
        let spent = store.spent()?;
        let values = match answer.recommended.and_then(|number| history.trial(number)) {
            Some(trial) => self.searchable.space.fields(&trial.point).unwrap_or_default(),
            None => Point::new(),
        };
        let finish = Finish {
            name: self.name.clone(),
            folder: self.folder.clone(),
            store: store.address().to_owned(),
            trials: history.trials().len(),
            complete: history.trials().iter().filter(|trial| trial.state == temper_search::State::Complete).count(),
            tokens: spent.iter().map(|(_, spent)| spent.tokens).sum(),
            seconds: spent.iter().map(|(_, spent)| spent.seconds).sum(),
            answer,
            values,
            repeated,
            validation,
            sealed,
            notes,
            ended: utc_now(),
        };
        write_atomic(&self.folder.join("tune.json"), to_json_pretty(&finish)?.as_bytes())?;
        Ok(Some(finish))
    }

    /// Trains the finalists under other seeds, as far as that has not been done.
    fn repeat(
        &self,
        store: &mut Store,
        history: &History,
        options: &Options,
        ears: &Ears<'_>,
    ) -> Result<Option<Vec<Repeated>>, PipelineError> {
        const KEY: &str = "repeated";
        let seeds: Vec<u64> = (1..=self.tune.finalist_seeds.value).map(|more| self.seed + more).collect();
        let finalists = match self.tune.finalists.value {
            0 => Vec::new(),
            count => Answer::finalists(history, count as usize),
        };
        let known: BTreeMap<String, Option<Measured>> =
            store.state(KEY)?.and_then(|json| serde_json::from_value(json).ok()).unwrap_or_default();
        let (mut known, trainer) = (known, self.trainer(options, ears));
        let mut repeated = Vec::new();
        for number in finalists {
            let Some(trial) = history.trial(number) else { continue };
            let mut runs = vec![(self.seed, trial.result.clone())];
            for &seed in &seeds {
                let key = format!("{number}/{seed}");
                if !known.contains_key(&key) {
                    (ears.tell)(&Told::Repeats { number, seed }, store);
                    let folder = trial_folder(&self.folder, number);
                    // What was begun before is gone on with, where there is something.
                    let (point, resume) = (&trial.point, Some(""));
                    let assignment = Assignment { number, folder: &folder, point, seed, resume };
                    let mut last = None;
                    let ended = trainer.carry_out(&assignment, &mut |heard| {
                        match heard {
                            Heard::Progress { share, .. } => (ears.tell)(&Told::Progress { number, share }, store),
                            Heard::Measured { share, metrics } if share >= 1.0 => {
                                last = Some(self.measures.measured(&metrics));
                            }
                            Heard::Measured { .. } | Heard::Checkpoint(_) => {}
                        }
                        Signal::GoOn
                    })?;
                    if ended == Ended::Asked || options.interrupt.as_ref().is_some_and(Interrupt::asked) {
                        return Ok(None);
                    }
                    trainer.tidy(&folder, true)?;
                    let finite = |measured: &Measured| {
                        measured.values.iter().chain(&measured.constraints).all(|value| value.is_finite())
                    };
                    known.insert(key.clone(), last.filter(|last| ended == Ended::Complete && finite(last)));
                    store.set_state(KEY, &serde_json::to_value(&known).unwrap_or_default())?;
                }
                runs.push((seed, known.get(&key).cloned().flatten()));
            }
            repeated.push(Repeated { number, runs });
        }
        Ok(Some(repeated))
    }

    /// Judges the recommended trial and the recipe's own on rows that the search has not seen: once for each recommendation.
    fn seal(
        &self,
        store: &mut Store,
        history: &History,
        number: u64,
        options: &Options,
        ears: &Ears<'_>,
    ) -> Result<Option<Sealed>, PipelineError> {
        const KEY: &str = "sealed";
        let known: Option<Sealed> = store.state(KEY)?.and_then(|json| serde_json::from_value(json).ok());
        if let Some(known) = known.filter(|known| known.recommended == number) {
            return Ok(Some(known));
        }
        let (Some(trial), own) = (history.trial(number), history.trial(0)) else { return Ok(None) };
        let own = own.filter(|own| own.state == temper_search::State::Complete);
        let (folder, own_folder) = (trial_folder(&self.folder, number), trial_folder(&self.folder, 0));
        let own = own.map(|own| (&own.point, own_folder.as_path()));
        let builtin = self.builtin(options, &Ears { tell: ears.tell, hear: ears.hear });
        let sealed = builtin.seal((number, &trial.point, &folder), own, self.seed)?;
        if let Some(sealed) = &sealed {
            store.set_state(KEY, &serde_json::to_value(sealed).unwrap_or_default())?;
        }
        Ok(sealed)
    }
}

/// The changes that make the recipe that of the recommended trial: paths and values as `--set` takes them, none to take a key away.
pub fn edits(study: &Study, finish: &Finish) -> Vec<(String, Option<String>)> {
    let space = &study.searchable.space;
    let parameters = space.parameters().iter().map(|parameter| parameter.name.as_str());
    let parameters = parameters.filter(|name| !space.simplexes().iter().any(|simplex| simplex.is_part(name)));
    let names = parameters.chain(space.ties().iter().map(|tie| tie.name.as_str()));
    let absent = names.filter(|name| !finish.values.contains_key(*name)).map(|name| (name.to_owned(), None));
    let given = finish.values.iter().map(|(name, value)| {
        let json = serde_json::to_string(value).unwrap_or_else(|_| value.to_string());
        (name.clone(), Some(json))
    });
    absent.chain(given).collect()
}

fn unfit(path: &str, problem: String, hint: &str) -> PipelineError {
    PipelineError::Unfit { path: path.to_owned(), problem, hint: hint.to_owned() }
}
