//! A study: what a file says of it, its store, its rules.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use temper_recipe::foreign::{Document, Tool};
use temper_recipe::{EarlyStopping, MetricSource, Recipe, Source, StudyFile, Trainer as RecipeTrainer, Tune, is_study};
use temper_run::{sha256_bytes, to_json_pretty};
use temper_search::sampler::{Sampler, named};
use temper_search::stopping::{
    Asha, Decision, Divergence, Extrapolation, Hopeless, Hyperband, Median, Mode, Paired, Rungs, Stopping, Together,
};
use temper_search::store::{Opening, Setup, Store};
use temper_search::{Domain, History, Point, Trial};

use super::builtin::{Builtin, VALIDATION_LOSS};
use super::clock::Clock;
use super::measure::Measures;
use super::plan::{self, Budget, Room, StudyPlan};
use super::program::Program;
use super::search::{Over, Pace, Search, Told};
use super::space::{self, Searchable};
use super::trainer::Trainer;
use crate::checkpoints::io;
use crate::run::{Event, Interrupt, Options};
use crate::{PipelineError, Prepared};

/// Chance to reach the front below which a trial ends by its curve.
const CURVE: f64 = 0.05;
/// Chance that a broken constraint still holds at the end below which a trial is hopeless.
const HOPELESS: f64 = 0.01;
/// The chance to end, at one rung, a trial that is as good as all others.
const PAIRED: f64 = 0.05;
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
    /// The recipe; none where something else carries trials out.
    pub recipe: Option<Recipe>,
    /// Makes the trainer of a study whose trials are jobs of a platform; none in a build without them.
    pub jobs: Option<MakeTrainer>,
}

/// Makes what carries out the trials of a study that are jobs of a platform.
pub type MakeTrainer = for<'a> fn(&'a Study, Option<Interrupt>) -> Result<Box<dyn Trainer + 'a>, PipelineError>;

/// What is told while a study goes on.
pub struct Ears<'a> {
    /// Of the search.
    pub tell: &'a (dyn Fn(&Told, &Store) + Sync),
    /// Of what happens within a trial that Temper trains.
    pub hear: &'a (dyn Fn(&Event) + Sync),
}

/// `early_stopping: off`: trials are measured at the rungs, and go on.
struct Never(Rungs);

impl Stopping for Never {
    fn name(&self) -> &'static str {
        "off"
    }

    fn rungs(&self) -> &Rungs {
        &self.0
    }

    fn decide(&self, _: &History, _: &Trial) -> Decision {
        Decision::Continue
    }
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
    /// Reads a recipe with `tune`, a recipe without (its space is made from its stages), or the file of a study of a program or of jobs.
    ///
    /// # Errors
    /// The file's problems, all at once; then what is wrong with the space and the goals.
    pub fn load(file: &Path, sets: &[String]) -> Result<Self, PipelineError> {
        let sets = sets.to_vec();
        if is_study(file) {
            let (study, notes) = StudyFile::load(file, &sets)?;
            let mut searchable = match study.tune.trainer.as_ref().and_then(RecipeTrainer::jobs) {
                Some(jobs) => {
                    let recipe = Document::read(&jobs.recipe.value, Some(Tool::Nova))?;
                    space::of_jobs(&study.tune, &recipe.to_json())?
                }
                None => space::of_program(&study.tune)?,
            };
            searchable.notes.extend(notes.iter().map(|note| note.message.clone()));
            searchable.notes.extend(unpaired(&study.tune)?);
            searchable.notes.extend(unstopped(&study.tune)?);
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
                jobs: None,
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
            jobs: None,
        })
    }

    /// The study at an address: what it was begun with. Of several, the one of that name.
    ///
    /// # Errors
    /// Where there is none, or more than one and no name; and as [`Self::load`].
    pub fn at(address: &str, name: Option<&str>) -> Result<Self, PipelineError> {
        let known = Store::studies(address)?.into_iter().filter(|known| name.is_none_or(|name| known.name == name));
        let begun =
            known.filter_map(|known| Some((known.name, serde_json::from_value::<Identity>(known.settings?).ok()?)));
        let begun: Vec<(String, Identity)> = begun.collect();
        match &begun[..] {
            [(_, identity)] => Self::load(&identity.file, &identity.sets),
            [] => Err(unfit(
                "--study",
                "there is no study that `temper tune` began".to_owned(),
                "begin it with temper tune RECIPE --study URL",
            )),
            several => {
                let names: Vec<&str> = several.iter().map(|(name, _)| name.as_str()).collect();
                Err(unfit("--study", format!("there are several studies: {}", names.join(", ")), "say which by --name"))
            }
        }
    }

    /// Where its trials are kept, unless the user says otherwise: a file in its folder.
    pub fn address(&self) -> String {
        self.folder.join("study.sqlite").display().to_string()
    }

    /// Lengths at which trials are compared.
    fn rungs(&self) -> Vec<u64> {
        plan::rungs(&self.tune)
    }

    /// Temper's own training of its trials.
    pub(super) fn builtin<'a>(&'a self, options: &Options, ears: &Ears<'a>) -> Builtin<'a> {
        Builtin {
            recipe: self.file.clone(),
            sets: self.sets.clone(),
            space: &self.searchable.space,
            rungs: self.rungs(),
            items: self.tune.early_stopping.value == EarlyStopping::Paired,
            options: options.clone(),
            hear: ears.hear,
        }
    }

    /// What carries its trials out.
    pub(super) fn trainer<'a>(
        &'a self,
        options: &Options,
        ears: &Ears<'a>,
    ) -> Result<Box<dyn Trainer + 'a>, PipelineError> {
        let interrupt = options.interrupt.clone();
        Ok(match &self.tune.trainer {
            Some(RecipeTrainer { program: Some(asked), .. }) => Box::new(Program {
                asked,
                space: &self.searchable.space,
                interrupt,
                folder: self.file.parent().map_or_else(PathBuf::new, Path::to_owned),
            }),
            Some(_) => {
                let make = self.jobs.ok_or_else(PipelineError::without_jobs)?;
                make(self, interrupt)?
            }
            None => Box::new(self.builtin(options, ears)),
        })
    }

    /// Its rules of early stopping.
    fn stopping(&self) -> Result<Box<dyn Stopping>, PipelineError> {
        let rungs = Rungs::at(self.rungs())?;
        if self.tune.early_stopping.value == EarlyStopping::Off {
            return Ok(Box::new(Never(rungs)));
        }
        // A job cannot be paused.
        let resumes = |trainer: &RecipeTrainer| trainer.program.as_ref().is_some_and(|program| program.resumes.value);
        let pauses = self.tune.trainer.as_ref().is_none_or(resumes);
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
            EarlyStopping::Paired => rules.push(Box::new(Paired::new(rungs, PAIRED)?)),
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
        let prepared = self.builtin(options, ears).prepare(own, self.seed, &self.folder)?;
        let prepared = prepared.map_err(|problem| unfit("tune", problem, "the recipe's own values are trial 0"))?;
        crate::checks::refuse(&prepared.parts, &prepared.checks)?;
        crate::rft::refuse_bad_rewards(&prepared)?;
        Ok(Some(prepared))
    }

    /// What the search will take. Where the mode of a stage is searched, a trial may need what the largest of its modes does.
    ///
    /// # Errors
    /// When a trial of another mode cannot be prepared.
    pub fn plan(
        &self,
        own: &Prepared,
        budget: Budget,
        options: &Options,
        ears: &Ears<'_>,
    ) -> Result<StudyPlan, PipelineError> {
        let mut room = Room::default().or(own);
        let builtin = self.builtin(options, ears);
        for other in self.in_other_modes() {
            // What its other values make of it may be refused; such a trial fails and takes nothing.
            if let Ok(other) = builtin.prepare(&other, self.seed, &self.folder)? {
                room = room.or(&other);
            }
        }
        Ok(StudyPlan::of(own, room, &self.searchable.space, &self.tune, self.measures.goals(), budget))
    }

    /// The recipe's own values with every mode of a stage that is searched.
    fn in_other_modes(&self) -> Vec<Point> {
        let (space, Some(own)) = (&self.searchable.space, &self.searchable.own) else { return Vec::new() };
        let mut points = Vec::new();
        for (index, parameter) in space.parameters().iter().enumerate() {
            let Domain::Choice { values: modes } = &parameter.domain else { continue };
            for mode in (0..modes.len()).filter(|_| parameter.name.ends_with(".mode")) {
                let mut at = space.coordinates(own);
                at[index] = mode as f64;
                points.push(space.point(&at));
            }
        }
        points
    }

    /// Opens its store, and makes it where it is not there.
    ///
    /// # Errors
    /// Where the study there is another one, or the store cannot be opened.
    pub fn open(&self, address: &str, opening: &Opening) -> Result<Store, PipelineError> {
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
        Ok(Store::open(address, &setup, opening)?)
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

    /// What the search may take, as `temper tune` said it last.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn kept_budget(&self, store: &mut Store) -> Result<(Budget, Option<StudyPlan>), PipelineError> {
        let kept = store.state(BUDGET)?.and_then(|json| serde_json::from_value(json).ok());
        Ok(kept.unwrap_or((Budget::of(&self.tune, Budget::default()), None)))
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
                let program = self.tune.trainer.iter().filter_map(|trainer| trainer.program.as_ref());
                let command = program.flat_map(|program| &program.command.value);
                settings.insert("command".to_owned(), command.cloned().collect::<Vec<_>>().join("\n"));
                if let Some(jobs) = self.tune.trainer.as_ref().and_then(RecipeTrainer::jobs) {
                    settings.extend(self.tune.trainer.iter().flat_map(of_jobs));
                    let text = fs::read(&jobs.recipe.value).map_err(io("read", &jobs.recipe.value))?;
                    settings.insert("recipe".to_owned(), sha256_bytes(&text));
                }
            }
        }
        let file = std::path::absolute(&self.file).map_err(io("find", &self.file))?;
        let text = to_json_pretty(&settings)?;
        Ok(Identity { file, sets: self.sets.clone(), settings: sha256_bytes(text.as_bytes()) })
    }

    /// One worker's part in the search.
    ///
    /// # Errors
    /// What concerns the machine or the store; the trial at hand can be taken over. And where one trial after the other fails.
    pub fn work(
        &self,
        store: &mut Option<Store>,
        (budget, plan): (Budget, Option<&StudyPlan>),
        clock: Clock,
        options: &Options,
        ears: &Ears<'_>,
    ) -> Result<Over, PipelineError> {
        let Some(own) = store.take() else { return Ok(Over::Done) };
        let ours = Ears { tell: ears.tell, hear: ears.hear };
        let trainer = self.trainer(options, &ours)?;
        let (sampler, stopping) = (self.sampler()?, self.stopping()?);
        let repeats = plan::repeats(&self.tune);
        let planned = plan.map_or(Pace { repeats, ..Pace::default() }, |plan| Pace {
            seconds: plan.trial.seconds,
            tokens: plan.trial.tokens,
            repeats,
            judged: (plan.kept_back - repeats as f64 * plan.trial.seconds).max(0.0),
        });
        let mut search = Search {
            store: own,
            trainer: trainer.as_ref(),
            sampler: sampler.as_ref(),
            stopping: stopping.as_ref(),
            measures: &self.measures,
            seed: self.seed,
            folder: self.folder.clone(),
            budget,
            clock,
            planned,
            pace: planned,
            patience: self.tune.patience.value,
            interrupt: options.interrupt.clone(),
            tell: ears.tell,
        };
        let over = search.work();
        *store = Some(search.store);
        over
    }
}

/// What makes a job what it is: all settings of the trainer but for its recipe's path, and for money and time, which may change.
fn of_jobs(trainer: &RecipeTrainer) -> impl Iterator<Item = (String, String)> + use<> {
    const OPEN: [&str; 7] =
        ["recipe", "max_cost", "price_per_hour", "price_per_million", "million_tokens", "poll_seconds", "profile"];
    let is_open = |path: &str| path.rsplit('.').next().is_some_and(|name| OPEN.contains(&name));
    let settings = trainer.settings().into_iter().filter(move |setting| !is_open(&setting.path));
    settings.map(|setting| (setting.path, setting.value.to_string()))
}

/// What early stopping does with jobs, which cannot be paused.
fn unstopped(tune: &Tune) -> Result<Option<String>, PipelineError> {
    let rule = &tune.early_stopping;
    let Some(trainer) = tune.trainer.as_ref().filter(|trainer| trainer.jobs().is_some()) else { return Ok(None) };
    if matches!(rule.value, EarlyStopping::Off | EarlyStopping::Hopeless) {
        return Ok(None);
    }
    if trainer.sagemaker.as_ref().is_some_and(|sagemaker| sagemaker.steps.is_some()) {
        return Ok(Some(format!(
            "a job cannot be paused: what `{}: {}` would pause is stopped for good",
            rule.path, rule.value
        )));
    }
    if matches!(rule.source, Source::Default { .. }) {
        return Ok(Some("jobs are measured at their end: none is stopped early".to_owned()));
    }
    let problem = format!("`{}: {}` has nothing to go by: jobs are measured at their end", rule.path, rule.value);
    let hint = "early_stopping: off; or, on SageMaker's machines, name `steps` and a metric `step`, by which jobs are stopped, not paused";
    Err(unfit(&rule.path, problem, hint))
}

/// What a program must report for trials to be paired by.
fn unpaired(tune: &Tune) -> Result<Option<String>, PipelineError> {
    let (rule, trainer) = (&tune.early_stopping, &tune.trainer);
    let Some(trainer) = trainer.as_ref().filter(|_| rule.value == EarlyStopping::Paired) else { return Ok(None) };
    let Some(program) = &trainer.program else {
        let problem = "a job tells no scores of single items".to_owned();
        return Err(unfit(&rule.path, problem, "early_stopping: off, or another rule"));
    };
    if program.metrics.value == MetricSource::Tensorboard {
        let problem = "TensorBoard's event files hold no scores of single items".to_owned();
        return Err(unfit(&rule.path, problem, "report metrics as lines of JSON, or name another rule"));
    }
    Ok(Some(format!(
        "`{}: paired` ends nothing but what is hopeless unless lines of the program have `items`",
        rule.path
    )))
}

fn unfit(path: &str, problem: String, hint: &str) -> PipelineError {
    PipelineError::Unfit { path: path.to_owned(), problem, hint: hint.to_owned() }
}
