//! The end of a study: finalists under other seeds, the answer, and rows that nothing has seen.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use temper_report::study::StudyPage;
use temper_run::{to_json_pretty, utc_now, write_atomic};
use temper_search::importance::{Importance, importance};
use temper_search::store::Store;
use temper_search::{History, Measured, Point, Space, State};

use super::answer::{Answer, Lead, Repeated, leads};
use super::clock::Clock;
use super::plan::Budget;
use super::sealed::Sealed;
use super::search::{Pace, Told, trial_folder};
use super::study::{Ears, Study};
use super::trainer::{Assignment, Ended, Heard, Signal};
use crate::PipelineError;
use crate::advise::on_study;
use crate::run::{Interrupt, Options};

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
    /// The trials of the front, the best by the first objective first.
    pub front: Vec<Member>,
    /// What each objective depends on.
    pub importance: Vec<Depends>,
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

/// A trial of the front.
#[derive(Clone, Debug, Serialize)]
pub struct Member {
    /// Its number.
    pub number: u64,
    /// Its fields.
    pub values: Point,
    /// What was measured at its end, under the seed of the search, by objective.
    pub objectives: BTreeMap<String, f64>,
    /// By constraint, how far it is beyond its bound: at most 0 where it is kept.
    pub constraints: BTreeMap<String, f64>,
}

/// What an objective depends on, or why that cannot be told.
#[derive(Clone, Debug, Serialize)]
pub struct Depends {
    /// The objective.
    pub objective: String,
    /// The shares of the parameters.
    #[serde(flatten)]
    pub importance: Option<Importance>,
    /// Why there is none.
    pub untold: Option<String>,
}

/// Repeats under other seeds that were left out.
#[derive(Default)]
struct LeftOut {
    /// So many, since the time was up.
    late: usize,
    /// So many, since there was no money for them; and why.
    unaffordable: Option<(usize, String)>,
}

fn depends(history: &History) -> Vec<Depends> {
    let objectives = history.goals().objectives.iter().enumerate();
    let told = |(index, objective): (usize, &temper_search::Objective)| {
        let (importance, untold) = match importance(history, index) {
            Ok(importance) => (Some(importance), None),
            Err(untold) => (None, Some(untold.to_string())),
        };
        Depends { objective: objective.name.clone(), importance, untold }
    };
    objectives.map(told).collect()
}

impl Study {
    fn member(&self, history: &History, number: u64) -> Option<Member> {
        let trial = history.trial(number)?;
        let (goals, result) = (history.goals(), trial.result.as_ref()?);
        let names = goals.objectives.iter().map(|objective| objective.name.clone());
        Some(Member {
            number,
            values: self.searchable.space.fields(&trial.point).unwrap_or_default(),
            objectives: names.zip(result.values.iter().copied()).collect(),
            constraints: goals.constraints.iter().cloned().zip(result.constraints.iter().copied()).collect(),
        })
    }

    /// Under which name the store keeps the recommended trial on rows that the search has not seen.
    pub(crate) const SEALED: &'static str = "sealed";
    /// Under which name it keeps finalists under other seeds, as `NUMBER/SEED`.
    const REPEATED: &'static str = "repeated";

    /// What was measured of finalists under other seeds; none of a run that failed.
    fn known_repeats(store: &mut Store) -> Result<BTreeMap<String, Option<Measured>>, PipelineError> {
        Ok(store.state(Self::REPEATED)?.and_then(|json| serde_json::from_value(json).ok()).unwrap_or_default())
    }

    /// The trials that were trained again under other seeds, so far.
    pub(crate) fn repeats(&self, store: &mut Store, history: &History) -> Result<Vec<Repeated>, PipelineError> {
        let mut repeated: Vec<Repeated> = Vec::new();
        for (key, measured) in Self::known_repeats(store)? {
            let Some((number, seed)) = key.split_once('/') else { continue };
            let (Ok(number), Ok(seed)) = (number.parse(), seed.parse()) else { continue };
            let Some(trial) = history.trial(number) else { continue };
            match repeated.iter_mut().find(|one| one.number == number) {
                Some(one) => one.runs.push((seed, measured)),
                None => {
                    repeated.push(Repeated { number, runs: vec![(self.seed, trial.result.clone()), (seed, measured)] })
                }
            }
        }
        Ok(repeated)
    }

    /// The end of the search: finalists under other seeds, the recommendation, and the rows that nothing has seen. None where the
    /// user stopped it: the same command goes on.
    ///
    /// # Errors
    /// What concerns the machine or the store.
    pub fn finish(
        &self,
        store: &mut Store,
        (budget, mut clock): (Budget, Clock),
        options: &Options,
        ears: &Ears<'_>,
    ) -> Result<Option<Finish>, PipelineError> {
        store.refresh()?;
        let history = store.history().clone();
        let mut notes = Vec::new();
        let pace = Pace::default().seen(store)?;
        clock.keep(store)?;
        let late = |clock: &Clock| budget.seconds.is_some_and(|most| clock.seconds() + pace.seconds > most);
        let repeated = self.repeat(store, &history, (&mut clock, &late), options, ears)?;
        let Some((repeated, left_out)) = repeated else { return Ok(None) };
        if left_out.late > 0 {
            notes.push(format!("{} repeats under other seeds were left out: the time was up", left_out.late));
        }
        if let Some((count, reason)) = &left_out.unaffordable {
            notes.push(format!("{count} repeats under other seeds were left out: {reason}"));
        }
        let answer = Answer::of(&history, &repeated);
        let sealed = match (answer.recommended, &self.recipe) {
            (Some(number), Some(_)) => self.seal(store, &history, number, options, ears)?,
            _ => None,
        };
        clock.keep(store)?;
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
            complete: history.trials().iter().filter(|trial| trial.state == State::Complete).count(),
            tokens: spent.iter().map(|(_, spent)| spent.tokens).sum(),
            seconds: spent.iter().map(|(_, spent)| spent.seconds).sum(),
            front: answer.front.iter().filter_map(|number| self.member(&history, *number)).collect(),
            importance: depends(&history),
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

    /// Writes `report.html` into its folder: the trials so far, the answer where there is one, and what to do next.
    ///
    /// # Errors
    /// When the store cannot be read, or it cannot be written.
    pub fn write_page(&self, store: &mut Store, finish: Option<&Finish>) -> Result<PathBuf, PipelineError> {
        let spent = store.spent()?;
        let advice = Some(on_study(self, store)?);
        let page = StudyPage { advice, ..self.page(store.history(), &spent, finish) }.render()?;
        let path = self.folder.join("report.html");
        write_atomic(&path, page.as_bytes())?;
        Ok(path)
    }

    /// Trains the finalists under other seeds, as far as that has not been done, it is not too late and there is money for it;
    /// which runs were left out.
    fn repeat(
        &self,
        store: &mut Store,
        history: &History,
        (clock, late): (&mut Clock, &dyn Fn(&Clock) -> bool),
        options: &Options,
        ears: &Ears<'_>,
    ) -> Result<Option<(Vec<Repeated>, LeftOut)>, PipelineError> {
        let seeds: Vec<u64> = (1..=self.tune.finalist_seeds.value).map(|more| self.seed + more).collect();
        let finalists = match self.tune.finalists.value {
            0 => Vec::new(),
            count => Answer::finalists(history, count as usize),
        };
        let (mut known, trainer) = (Self::known_repeats(store)?, self.trainer(options, ears)?);
        let (mut repeated, mut left_out) = (Vec::new(), LeftOut::default());
        for number in finalists {
            let Some(trial) = history.trial(number) else { continue };
            let mut runs = vec![(self.seed, trial.result.clone())];
            for &seed in &seeds {
                let key = format!("{number}/{seed}");
                if !known.contains_key(&key) && late(clock) {
                    left_out.late += 1;
                    continue;
                }
                if let (false, Some((count, _))) = (known.contains_key(&key), &mut left_out.unaffordable) {
                    *count += 1;
                    continue;
                }
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
                            Heard::Measured { share, metrics, .. } if share >= 1.0 => {
                                last = Some(self.measures.measured(&metrics));
                            }
                            Heard::Measured { .. } | Heard::Checkpoint(_) => {}
                        }
                        Signal::GoOn
                    })?;
                    if ended == Ended::Asked || options.interrupt.as_ref().is_some_and(Interrupt::asked) {
                        return Ok(None);
                    }
                    if let Ended::Unaffordable(reason) = ended {
                        left_out.unaffordable = Some((1, reason));
                        continue;
                    }
                    trainer.tidy(&folder, true)?;
                    let finite = |measured: &Measured| {
                        measured.values.iter().chain(&measured.constraints).all(|value| value.is_finite())
                    };
                    known.insert(key.clone(), last.filter(|last| ended == Ended::Complete && finite(last)));
                    store.set_state(Self::REPEATED, &serde_json::to_value(&known).unwrap_or_default())?;
                    clock.keep(store)?;
                }
                runs.push((seed, known.get(&key).cloned().flatten()));
            }
            repeated.push(Repeated { number, runs });
        }
        Ok(Some((repeated, left_out)))
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
        let known: Option<Sealed> = store.state(Self::SEALED)?.and_then(|json| serde_json::from_value(json).ok());
        if let Some(known) = known.filter(|known| known.recommended == number) {
            return Ok(Some(known));
        }
        let (Some(trial), own) = (history.trial(number), history.trial(0)) else { return Ok(None) };
        let own = own.filter(|own| own.state == State::Complete);
        let (folder, own_folder) = (trial_folder(&self.folder, number), trial_folder(&self.folder, 0));
        let own = own.map(|own| (&own.point, own_folder.as_path()));
        let builtin = self.builtin(options, &Ears { tell: ears.tell, hear: ears.hear });
        let sealed = builtin.seal((number, &trial.point, &folder), own, self.seed)?;
        if let Some(sealed) = &sealed {
            store.set_state(Self::SEALED, &serde_json::to_value(sealed).unwrap_or_default())?;
        }
        Ok(sealed)
    }
}

/// The changes that make a recipe that of a trial with these fields: paths and values as `--set` takes them, none to take a key away.
pub fn edits(space: &Space, fields: &Point) -> Vec<(String, Option<String>)> {
    let parameters = space.parameters().iter().map(|parameter| parameter.name.as_str());
    let parameters = parameters.filter(|name| !space.simplexes().iter().any(|simplex| simplex.is_part(name)));
    let names = parameters.chain(space.ties().iter().map(|tie| tie.name.as_str()));
    let absent = names.filter(|name| !fields.contains_key(*name)).map(|name| (name.to_owned(), None));
    let given = fields.iter().map(|(name, value)| {
        let json = serde_json::to_string(value).unwrap_or_else(|_| value.to_string());
        (name.clone(), Some(json))
    });
    absent.chain(given).collect()
}
