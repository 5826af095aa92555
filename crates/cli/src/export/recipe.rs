//! `temper export RECIPE --to TOOL`: a recipe as another tool's.

use std::path::Path;

use anyhow::anyhow;
use temper_data::{DataError, ReadOptions, Row, read_rows};
use temper_pipeline::find_rows;
use temper_recipe::foreign::{Hypothesis, Tool, export, search};
use temper_recipe::{Recipe, is_remote};

use super::Args;
use crate::command::{DONE, Failure, Outcome, tell};
use crate::import::{listed, write};

/// Where the order of a search stands in its folder.
const README: &str = "README.md";

pub fn run(args: &Args, tool: Tool) -> Outcome {
    if args.kind.is_some() || args.adapter.is_some() || args.any_base {
        let problem = "--type, --adapter and --any-base belong to a model, and a recipe is written";
        return Err(Failure::input(anyhow!("{problem}\nhint: leave them out")));
    }
    if args.as_hypothesis.is_some() && tool != Tool::Nova {
        let problem =
            "--as-hypothesis carries values to Nova, whose model cannot be had: other tools train the same model";
        return Err(Failure::input(anyhow!("{problem}\nhint: --to nova")));
    }
    if let Some(folder) = args.search.as_deref().filter(|folder| folder.join(README).exists()) {
        let problem = format!("--search {}: there is a README.md already", folder.display());
        return Err(Failure::input(anyhow!("{problem}\nhint: name another folder")));
    }
    let file = Path::new(&args.source);
    let (recipe, notes) = Recipe::load(file, &args.sets)?;
    for note in &notes {
        tell(format_args!("note: {}: {}", note.place.of(file), note.message));
    }
    let hypothesis = args.as_hypothesis.as_deref().map(|from| hypothesis(file, from)).transpose()?;
    let rows = if tool == Tool::Nova { rows(&recipe)? } else { None };
    let carried = export(&recipe, file, tool, rows, hypothesis.as_ref())?;
    listed(&carried, file);
    write(&carried.text, args.output.as_deref())?;
    if let (Some(folder), Some(hypothesis)) = (&args.search, &hypothesis) {
        confirming(&recipe, file, rows, hypothesis, folder)?;
    }
    Ok(DONE)
}

/// Writes the short search around a hypothesis.
fn confirming(
    recipe: &Recipe,
    file: &Path,
    rows: Option<u64>,
    hypothesis: &Hypothesis,
    folder: &Path,
) -> Result<(), Failure> {
    let search = search(recipe, file, rows, hypothesis)?;
    std::fs::create_dir_all(folder)
        .map_err(|error| Failure::run(anyhow!("{}: cannot create: {error}", folder.display())))?;
    for one in &search.recipes {
        let path = folder.join(format!("{}.yaml", one.name));
        write(&one.text, Some(&path))?;
        tell(format_args!("{}: {}", path.display(), one.why));
    }
    let readme = folder.join(README);
    write(&search.order, Some(&readme))?;
    tell(format_args!("{}: in which order to try them, and when to stop", readme.display()));
    Ok(())
}

/// The tuned values: of a recipe, or of a study's recommended trial over the recipe.
fn hypothesis(file: &Path, from: &Path) -> Result<Hypothesis, Failure> {
    let named = from.display().to_string();
    let bad = |what: &str, hint: &str| Failure::input(anyhow!("--as-hypothesis {named}: {what}\nhint: {hint}"));
    let answer = from.join("tune.json");
    let (recipe, from) = if answer.is_file() {
        let text = std::fs::read(&answer)
            .map_err(|error| bad(&format!("cannot read tune.json: {error}"), "check its permissions"))?;
        let answer: serde_json::Value =
            serde_json::from_slice(&text).map_err(|error| bad(&format!("tune.json: {error}"), "finish the study"))?;
        let values = answer.get("values").and_then(serde_json::Value::as_object).filter(|values| !values.is_empty());
        let values = values.ok_or_else(|| bad("its study recommends nothing yet", "let a trial come to its end"))?;
        let sets: Vec<String> = values.iter().map(|(path, value)| format!("{path}={value}")).collect();
        let trials = answer.get("trials").and_then(serde_json::Value::as_u64).unwrap_or(0);
        (Recipe::load(file, &sets)?.0, format!("the study {named} of {trials} trials"))
    } else if from.is_file() {
        (Recipe::load(from, &[])?.0, format!("the recipe {named}"))
    } else {
        return Err(bad(
            "there is no such recipe, and no study with a tune.json",
            "name the folder of a study or a recipe",
        ));
    };
    Hypothesis::of(&recipe, &from).ok_or_else(|| bad("the recipe has no stage", "name another"))
}

/// Rows of the first stage's domain; none where they lie on the hub.
fn rows(recipe: &Recipe) -> Result<Option<u64>, Failure> {
    let Some(stage) = recipe.stages.first() else { return Ok(None) };
    let mut rows = 0;
    for source in &stage.train.value {
        if is_remote(&source.path) {
            return Ok(None);
        }
        let options = ReadOptions {
            format: source.format.and_then(|format| temper_data::Format::named(&format.to_string())),
            columns: source.columns.clone(),
            ending: None,
        };
        for file in find_rows(&source.path, true, &mut |_| ())? {
            let read = read_rows(&file, &options, &mut |_: Vec<Row>| Ok::<_, DataError>(()));
            rows += read.map_err(temper_pipeline::PipelineError::from)?.rows as u64;
        }
    }
    Ok(Some(rows))
}
