//! `temper advise`: what a recipe, a run or a study shows, why, and what to do next.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, anyhow};
use temper_pipeline::advise::{Advised, Experiment, Finding, of_plan, of_run, of_study};
use temper_pipeline::tune::Study;
use temper_pipeline::{Options, PipelineError, Provenance};
use temper_search::store::Opening;

use crate::base::{MachineArgs, RecipeArgs};
use crate::command::{DONE, Failure, Outcome, conclude, json, tell};
use crate::run::cache;

/// Say what a recipe, a run or a study shows, why that matters, who says so, and what to do next.
#[derive(clap::Args)]
pub struct Args {
    /// A recipe, the folder of a run (runs/NAME) or of a study (runs/NAME-study).
    what: PathBuf,
    /// Overrides a value of the recipe: `stages.0.max_steps=60`.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    sets: Vec<String>,
    /// Writes the changed recipe beside the first one, under a new name, and runs it; of a study, goes on with it. Nothing
    /// starts
    /// without.
    #[arg(long)]
    start: bool,
    /// Takes the change of this rule's finding, in place of the proposed one.
    #[arg(long, value_name = "RULE")]
    rule: Option<String>,
    /// The recipe of the run, where it does not lie where it was or was changed since.
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// All as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

/// Where the recipe is that was looked at.
struct Recipe {
    file: PathBuf,
    sets: Vec<String>,
    /// Why nothing can be made of it.
    missing: Option<String>,
}

pub fn run(args: &Args) -> Outcome {
    let (advised, recipe) = look(args)?;
    let next = chosen(args, &advised)?;
    if args.start {
        let Some(next) = next else {
            return Err(Failure::input(anyhow!(
                "{}: no finding has a change that a machine can make\nhint: without --start the findings say what to do",
                args.what.display()
            )));
        };
        return start(args, &advised, next, &recipe);
    }
    let shown = if args.json { json(&advised)? } else { text(args, &advised, next, &recipe) };
    conclude(shown, DONE)
}

/// The findings, and the recipe that they are about.
fn look(args: &Args) -> Result<(Advised, Recipe), Failure> {
    let what = &args.what;
    let store = what.join("study.sqlite");
    if store.is_file() {
        let address = store.display().to_string();
        // It lies where it is, wherever its recipe's paths would put it from here.
        let study = Study { folder: what.clone(), ..Study::at(&address, None)? };
        let mut store = study.open(&address, &Opening::default())?;
        let recipe = Recipe { file: study.file.clone(), sets: study.sets.clone(), missing: None };
        return Ok((of_study(&study, &mut store)?, recipe));
    }
    if what.is_dir() {
        return Ok((of_run(what)?, recipe_of_run(args)?));
    }
    let asked = RecipeArgs { recipe: what.clone(), sets: args.sets.clone(), machine: args.machine.clone() };
    let prepared = asked.prepare(&Options { cache: cache(false), ..args.machine.options() })?;
    Ok((of_plan(&prepared.plan())?, Recipe { file: what.clone(), sets: args.sets.clone(), missing: None }))
}

/// The recipe that a run was begun with, if it is still that one.
fn recipe_of_run(args: &Args) -> Result<Recipe, Failure> {
    let begun = Provenance::recorded(&args.what).and_then(|provenance| provenance.invocation);
    let sets = begun.as_ref().map_or_else(Vec::new, |begun| begun.sets.clone());
    if let Some(file) = &args.recipe {
        return Ok(Recipe { file: file.clone(), sets, missing: None });
    }
    let Some(begun) = begun else {
        let missing = Some("the run was begun without a recipe's file".to_owned());
        return Ok(Recipe { file: PathBuf::new(), sets, missing });
    };
    let now = begun.recipe.is_file().then(|| temper_run::sha256_file(&begun.recipe)).transpose();
    let missing = match now.map_err(|error| Failure::from(PipelineError::Run(error)))? {
        None => Some(format!("{} is not there", begun.recipe.display())),
        Some(hash) if hash != begun.recipe_sha256 => {
            Some(format!("{} is not as it was when the run began", begun.recipe.display()))
        }
        Some(_) => None,
    };
    Ok(Recipe { file: begun.recipe, sets, missing })
}

/// The finding whose experiment is to be made.
fn chosen<'a>(args: &Args, advised: &'a Advised) -> Result<Option<&'a Finding>, Failure> {
    let Some(rule) = &args.rule else { return Ok(advised.next.and_then(|index| advised.findings.get(index))) };
    let of_rule: Vec<&Finding> = advised.findings.iter().filter(|finding| finding.rule == rule).collect();
    let able = of_rule.iter().copied().find(|finding| finding.experiment.is_some());
    match (able, of_rule.is_empty()) {
        (Some(finding), _) => Ok(Some(finding)),
        (None, false) => Err(Failure::input(anyhow!(
            "--rule {rule}: it was found, and has no change that a machine can make\nhint: its line `do` says what to do"
        ))),
        (None, true) => {
            let found: Vec<&str> = advised.findings.iter().map(|finding| finding.rule).collect();
            let found = if found.is_empty() { "nothing was found".to_owned() } else { found.join(", ") };
            Err(Failure::input(anyhow!("--rule {rule}: it was not found here\nhint: found: {found}")))
        }
    }
}

/// The findings for people.
fn text(args: &Args, advised: &Advised, next: Option<&Finding>, recipe: &Recipe) -> String {
    let mut out = format!("advice on {} {}\n", advised.what, advised.name);
    if advised.findings.is_empty() {
        out.push_str("nothing was found: no rule of docs/advice.md fits\n");
    }
    for (index, finding) in advised.findings.iter().enumerate() {
        let place = if finding.place.is_empty() { String::new() } else { format!(" ({})", finding.place) };
        let _ = writeln!(out, "\n{}. {} {}{place}", index + 1, finding.severity, finding.rule);
        let causes: Vec<String> = finding.causes.iter().map(ToString::to_string).collect();
        let _ = writeln!(out, "   found   {}", finding.found);
        let _ = writeln!(out, "   because {}", finding.reason);
        let _ = writeln!(out, "   says    {}", finding.source);
        let _ = writeln!(out, "   do      {}", finding.action);
        if finding.shows.is_none() && !causes.is_empty() {
            let _ = writeln!(out, "   causes  perhaps the {} that was seen", causes.join(" and the "));
        }
    }
    if let Some(cause) = advised.cause.and_then(|index| advised.findings.get(index)) {
        let _ = writeln!(out, "\nlikeliest cause: {}: {}", cause.rule, cause.found);
    }
    if let Some((finding, experiment)) = next.and_then(|finding| Some((finding, finding.experiment.as_ref()?))) {
        let _ = writeln!(out, "\nnext, by {}:", finding.rule);
        for line in experiment.lines(&recipe.file.display().to_string(), &args.what.display().to_string()) {
            let _ = writeln!(out, "   {line}");
        }
        match &recipe.missing {
            Some(missing) if experiment.command.is_empty() => {
                let _ = writeln!(out, "{missing}: name the recipe by --recipe to start it");
            }
            _ => {
                let rule = args.rule.as_ref().map_or_else(String::new, |rule| format!(" --rule {rule}"));
                let _ = writeln!(out, "`temper advise {}{rule} --start` does so", args.what.display());
            }
        }
    }
    out
}

/// Writes the changed recipe and runs it, or carries the command out, as a process of its own whose exit code is this one's.
fn start(args: &Args, advised: &Advised, finding: &Finding, recipe: &Recipe) -> Outcome {
    let Some(experiment) = &finding.experiment else { return Ok(DONE) };
    let words = if experiment.command.is_empty() {
        if let Some(missing) = &recipe.missing {
            return Err(Failure::input(anyhow!("{missing}\nhint: name the recipe of the run by --recipe")));
        }
        let (file, changes) = changed(advised, experiment, recipe)?;
        for (path, value) in &changes {
            tell(format_args!("{path}: {}", value.as_deref().unwrap_or("taken away")));
        }
        tell(format_args!("recipe {}", file.display()));
        let mut words = vec!["run".to_owned(), file.display().to_string()];
        // What the command line gave stays given, unless it is what changes.
        let is_changed =
            |set: &&String| changes.iter().any(|(path, _)| set.split_once('=').is_some_and(|s| s.0 == path));
        words.extend(
            recipe.sets.iter().filter(|set| !is_changed(set)).flat_map(|set| ["--set".to_owned(), set.clone()]),
        );
        words
    } else {
        let mut words = experiment.words(&recipe.file.display().to_string(), &args.what.display().to_string());
        if words.first().is_some_and(|word| word == "tune") {
            words.extend(recipe.sets.iter().flat_map(|set| ["--set".to_owned(), set.clone()]));
        }
        words
    };
    tell(format_args!("temper {}", words.join(" ")));
    let program = std::env::current_exe().context("cannot find this program").map_err(Failure::run)?;
    let mut command = Command::new(program);
    command.args(&words).arg("--threads").arg(args.machine.threads().to_string());
    command.args(args.machine.offline.then_some("--offline"));
    let status = command.status().context("cannot start it").map_err(Failure::run)?;
    match status.code().and_then(|code| u8::try_from(code).ok()) {
        Some(code) => Ok(code),
        None => Err(Failure::run(anyhow!("it was ended by a signal"))),
    }
}

type Changes = Vec<(String, Option<String>)>;

/// Writes the changed recipe beside the first one, under the next free name, with a name and an output of its own.
fn changed(advised: &Advised, experiment: &Experiment, recipe: &Recipe) -> Result<(PathBuf, Changes), Failure> {
    let text = std::fs::read_to_string(&recipe.file)
        .with_context(|| format!("cannot read {}", recipe.file.display()))
        .map_err(Failure::input)?;
    let stem = recipe.file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let extension = recipe.file.extension().map_or_else(String::new, |end| format!(".{}", end.to_string_lossy()));
    let Some(identity) = &advised.identity else { return Err(Failure::input(anyhow!("a study has no one recipe"))) };
    for number in 2u32.. {
        let numbered = |name: &str| format!("{}-{number}", unnumbered(name));
        let file = recipe.file.with_file_name(numbered(&stem) + &extension);
        let folder = numbered(&identity.output);
        if file.exists() || Path::new(&folder).exists() {
            continue;
        }
        let mut changes = experiment.changes.clone();
        changes.push(("name".to_owned(), Some(numbered(&identity.name))));
        if identity.output_is_given {
            changes.push((identity.output_key.clone(), Some(serde_json::Value::String(folder).to_string())));
        }
        let edited = temper_recipe::edit(&text, &changes).map_err(Failure::input)?;
        temper_run::write_atomic(&file, edited.as_bytes()).map_err(|error| Failure::from(PipelineError::Run(error)))?;
        return Ok((file, changes));
    }
    Err(Failure::run(anyhow!("{}: no name is free", recipe.file.display())))
}

/// A name without the number that an experiment before gave it.
fn unnumbered(name: &str) -> &str {
    match name.rsplit_once('-') {
        Some((name, number))
            if !name.is_empty() && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) =>
        {
            name
        }
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_counted_on() {
        assert_eq!(
            ["tiny", "tiny-2", "runs/a-12", "-2", "qwen-b"].map(unnumbered),
            ["tiny", "tiny", "runs/a", "-2", "qwen-b"]
        );
    }
}
