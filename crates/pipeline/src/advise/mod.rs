//! Advice: what a recipe, a run or a study shows, why that matters, who says so, and what to do next.
//!
//! `signals` and `study` are what is measured; [`rules()`] are conditions over it, as data. [`of_plan`], [`of_run`] and
//! [`of_study`] rank
//! what the rules find, the likeliest cause first, and propose one experiment. Nothing here is measured of Amazon's models or
//! promised
//! for others: a finding says where it comes from.

mod checkpoint;
mod page;
mod reference;
mod rules;
mod signals;
mod study;
#[cfg(test)]
mod tests;

use std::path::Path;

use serde::Serialize;
use temper_run::to_json_pretty;
use temper_search::store::Store;

pub use self::checkpoint::Advice as KindAdvice;
pub(crate) use self::checkpoint::advice as kind_advice;
pub(crate) use self::page::on_study;
pub use self::page::with_advice;
pub use self::reference::reference;
use self::rules::{ALL_GOOD, APPLY, FOLDER, Find, Hit, RECIPE};
pub use self::rules::{Cited, Rule, Severity, Symptom, rules};
use self::signals::{Planned, Ran};
use self::study::Searched;
use crate::PipelineError;
use crate::plan::Plan;
use crate::tune::{Sealed, Study};

/// What a rule found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// The rule's name; `docs/advice.md` lists all.
    pub rule: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// The field or stage that it is about; empty where it is about the whole.
    pub place: String,
    /// What was found.
    pub found: String,
    /// Why it matters.
    pub reason: &'static str,
    /// Who says so.
    pub source: String,
    /// What to do.
    pub action: &'static str,
    /// What it shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shows: Option<Symptom>,
    /// What of that which was seen it may be the cause of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Symptom>,
    /// What of it a machine can do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub experiment: Option<Experiment>,
}

/// A next step that a machine can take: a changed recipe, or a command.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Experiment {
    /// Fields of the recipe as its text names them, and their values; none takes a field away.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<(String, Option<String>)>,
    /// A command of `temper` instead. `RECIPE` and `FOLDER` in it stand for the recipe's file and the folder that was looked
    /// at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
}

impl Experiment {
    /// The command's words, with the recipe's file and the folder where they belong.
    pub fn words(&self, recipe: &str, folder: &str) -> Vec<String> {
        let word = |word: &String| match word.as_str() {
            RECIPE => recipe.to_owned(),
            FOLDER => folder.to_owned(),
            other => other.to_owned(),
        };
        self.command.iter().map(word).collect()
    }

    /// What it does, a line each: what changes of the recipe, or the command.
    pub fn lines(&self, recipe: &str, folder: &str) -> Vec<String> {
        if self.command.is_empty() {
            let change = |(path, value): &(String, Option<String>)| match value {
                Some(value) => format!("{path}: {value}"),
                None => format!("{path} taken away, for its default"),
            };
            return self.changes.iter().map(change).collect();
        }
        vec![format!("temper {}", self.words(recipe, folder).join(" "))]
    }
}

/// The findings of one recipe, run or study.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Advised {
    /// `recipe`, `run` or `study`.
    pub what: &'static str,
    /// Its name.
    pub name: String,
    /// By rank: what is good, what was seen, then its likely causes, then the rest; the graver before the lighter.
    pub findings: Vec<Finding>,
    /// Which finding is the likeliest cause of the first thing that was seen; none where nothing was seen, or nothing explains
    /// it.
    pub cause: Option<usize>,
    /// Which finding has the experiment that is proposed next.
    pub next: Option<usize>,
    /// What a changed recipe must not share with this one; none of a study.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
}

/// The run's name, and where it is written.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Identity {
    /// The field `name`.
    pub name: String,
    /// The field `output`.
    pub output: String,
    /// What the recipe calls it.
    pub output_key: String,
    /// Whether it was given; else it follows from the name.
    pub output_is_given: bool,
}

impl Advised {
    /// The finding of that rule.
    pub fn of_rule(&self, rule: &str) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.rule == rule)
    }

    /// The experiment that is proposed next.
    pub fn experiment(&self) -> Option<&Experiment> {
        self.findings.get(self.next?)?.experiment.as_ref()
    }
}

/// Of a recipe that was prepared.
///
/// # Errors
/// Where a plan cannot be written, which no recipe should cause.
pub fn of_plan(plan: &Plan) -> Result<Advised, PipelineError> {
    let text = to_json_pretty(plan)?;
    let plan = serde_json::from_str(&text).map_err(|error| PipelineError::Unfit {
        path: "plan".to_owned(),
        problem: format!("cannot be read back: {error}"),
        hint: "this is a fault of the program, please report it".to_owned(),
    })?;
    Ok(of_planned(&plan))
}

/// Of the folder of a run, finished or not.
///
/// # Errors
/// [`PipelineError::Unfit`] where it is no folder of a run, or a file in it is damaged.
pub fn of_run(folder: &Path) -> Result<Advised, PipelineError> {
    let (plan, ran) = signals::of_run(folder)?;
    Ok(of_ran(&plan, &ran))
}

/// Of a study so far.
///
/// # Errors
/// Where its store cannot be read.
pub fn of_study(study: &Study, store: &mut Store) -> Result<Advised, PipelineError> {
    store.refresh()?;
    let history = store.history().clone();
    let repeated = study.repeats(store, &history)?;
    let sealed: Option<Sealed> = store.state(Study::SEALED)?.and_then(|json| serde_json::from_value(json).ok());
    let sealed = sealed.as_ref().and_then(Sealed::domain_lead).map(crate::tune::is_gain);
    let searched = Searched::of(&history, &repeated, study.tune.finalist_seeds.value, sealed);
    Ok(of_searched(&study.name, &searched))
}

fn of_planned(plan: &Planned) -> Advised {
    Advised { identity: identity(plan), ..ranked("recipe", &plan.name, of_stages(plan), Some(plan)) }
}

fn of_ran(plan: &Planned, ran: &Ran) -> Advised {
    let mut hits = of_stages(plan);
    for (rank, rule) in rules().enumerate() {
        match rule.find {
            Find::Trained(find) => {
                let stages = 0..plan.stages.len().min(ran.stages.len());
                let found = stages.filter_map(|index| Some((index, find(&plan.view(index), &ran.stages[index])?)));
                hits.extend(found.map(|(index, hit)| Ranked { rank, rule, stage: Some(index), hit }));
            }
            Find::Run(find) => hits.extend(find(plan, ran).map(|hit| Ranked { rank, rule, stage: None, hit })),
            Find::Stage(_) | Find::Study(_) => {}
        }
    }
    Advised { identity: identity(plan), ..ranked("run", &plan.name, hits, Some(plan)) }
}

fn of_searched(name: &str, searched: &Searched) -> Advised {
    let found = rules().enumerate().filter_map(|(rank, rule)| match rule.find {
        Find::Study(find) => find(searched).map(|hit| Ranked { rank, rule, stage: None, hit }),
        _ => None,
    });
    ranked("study", name, found.collect(), None)
}

/// What a rule found.
struct Ranked {
    /// The rule's place among all.
    rank: usize,
    rule: &'static Rule,
    /// Of the plan; none of what is about the whole.
    stage: Option<usize>,
    hit: Hit,
}

impl Ranked {
    /// What of this it may be the cause of: what came before is not.
    fn causes(&self, symptoms: &[(Symptom, Option<usize>)]) -> Vec<Symptom> {
        let later = |seen: &Option<usize>| self.stage.is_none_or(|own| seen.is_none_or(|seen| own <= seen));
        let is_seen = |symptom: &Symptom| symptoms.iter().any(|(seen, stage)| seen == symptom && later(stage));
        self.rule.explains.iter().copied().filter(is_seen).collect()
    }
}

fn of_stages(plan: &Planned) -> Vec<Ranked> {
    let of_rule = |(rank, rule): (usize, &'static Rule)| {
        let Find::Stage(find) = rule.find else { return Vec::new() };
        let found = plan.stages().filter_map(|view| Some((view.index, find(&view)?)));
        found.map(|(index, hit)| Ranked { rank, rule, stage: Some(index), hit }).collect()
    };
    rules().enumerate().flat_map(of_rule).collect()
}

/// What was seen first, then what explains it, then the rest.
fn ranked(what: &'static str, name: &str, mut hits: Vec<Ranked>, plan: Option<&Planned>) -> Advised {
    let is_good = hits.iter().any(|one| one.rule.id == ALL_GOOD);
    let symptoms: Vec<(Symptom, Option<usize>)> =
        hits.iter().filter_map(|one| Some((one.rule.shows?, one.stage))).collect();
    hits.sort_by_key(|one| match one.rule.shows {
        _ if one.rule.id == ALL_GOOD => (0, Severity::Note, one.rank),
        Some(_) => (1, one.rule.severity, one.rank),
        // Of causes the order of the table is the order of likelihood.
        None if !one.causes(&symptoms).is_empty() => (2, Severity::Error, one.rank),
        None => (3, one.rule.severity, one.rank),
    });
    let findings = hits.into_iter().map(|one| {
        let causes = one.causes(&symptoms);
        finding(one.rule, one.hit, causes, plan)
    });
    let findings: Vec<Finding> = findings.collect();
    let first = findings.iter().find_map(|finding| finding.shows);
    let explains =
        |finding: &Finding| finding.shows.is_none() && first.is_some_and(|first| finding.causes.contains(&first));
    let has = |index: &usize| findings[*index].experiment.is_some();
    let (cause, next) = match first {
        // What is good is frozen.
        _ if is_good => (None, None),
        // What explains most likely; without one that a machine can mend, what was seen says itself what to do.
        Some(_) => {
            let of_cause = (0..findings.len()).filter(|&index| explains(&findings[index]));
            let of_symptom = (0..findings.len()).filter(|&index| findings[index].shows.is_some());
            (findings.iter().position(explains), of_cause.chain(of_symptom).find(has))
        }
        // What is only worth knowing is no reason for a run.
        None => (None, (0..findings.len()).find(|index| has(index) && findings[*index].severity < Severity::Note)),
    };
    Advised { what, name: name.to_owned(), findings, cause, next, identity: None }
}

fn finding(rule: &'static Rule, hit: Hit, causes: Vec<Symptom>, plan: Option<&Planned>) -> Finding {
    let written = |path: String| plan.map_or_else(|| path.clone(), |plan| plan.written(&path));
    let changes: Vec<_> = hit.changes.into_iter().map(|(path, value)| (written(path), value)).collect();
    let experiment =
        (!changes.is_empty() || !hit.command.is_empty()).then_some(Experiment { changes, command: hit.command });
    Finding {
        rule: rule.id,
        severity: rule.severity,
        place: hit.place,
        found: hit.found,
        reason: rule.reason,
        source: rule.source.to_string(),
        action: rule.action,
        shows: rule.shows,
        causes,
        experiment,
    }
}

fn identity(plan: &Planned) -> Option<Identity> {
    let output = plan.setting("output")?;
    Some(Identity {
        name: plan.name.clone(),
        output: output.value.as_str()?.to_owned(),
        output_key: plan.written("output"),
        output_is_given: output.source.from != "default",
    })
}
