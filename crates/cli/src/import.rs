//! `temper import`: a recipe of another tool as one of Temper's.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use temper_recipe::foreign::{Carried, Document, Given, Tool, import};
use temper_recipe::{Place, Recipe};

use crate::command::{DONE, Failure, Outcome, print, tell};

/// Write a recipe of another tool as a recipe of Temper, and list what has no counterpart.
///
/// Nova Forge's model and rows are AWS's: --base and --data name what is trained here in their place.
#[derive(clap::Args)]
pub struct Args {
    /// The recipe: of Nova Forge, Axolotl, LLaMA-Factory, TRL, Unsloth or mlx-lm.
    file: PathBuf,
    /// Whose recipe it is, where its keys do not tell: nova, axolotl, llamafactory, trl, unsloth or mlx-lm.
    #[arg(long, value_name = "TOOL", value_parser = tool)]
    from: Option<Tool>,
    /// The base, in place of the one that it names.
    #[arg(long)]
    base: Option<String>,
    /// Files of rows, in place of those that it names.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    data: Vec<PathBuf>,
    /// A file of rows for the validation loss.
    #[arg(long, value_name = "FILE")]
    validation: Option<PathBuf>,
    /// A program that scores answers, in place of a reward that is not at hand.
    #[arg(long, value_name = "FILE")]
    reward: Option<PathBuf>,
    /// The recipe to write; the standard output where left out.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// The tool of a name.
pub fn tool(name: &str) -> Result<Tool, String> {
    Tool::named(name)
        .ok_or_else(|| "expected one of nova, axolotl, llamafactory, trl, unsloth, mlx-lm and temper".to_owned())
}

pub fn run(args: &Args) -> Outcome {
    let document = Document::read(&args.file, args.from)?;
    let folder = match &args.output {
        Some(output) => output
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .map_or(PathBuf::from("."), Path::to_path_buf),
        None => PathBuf::from("."),
    };
    let given = Given {
        base: args.base.clone(),
        train: args.data.clone(),
        validation: args.validation.clone(),
        reward: args.reward.clone(),
        folder: Some(folder),
    };
    let carried = import(&document, &given)?;
    listed(&carried, &args.file);
    write(&carried.text, args.output.as_deref())?;
    // What was written is read as any recipe is: what it lacks is said now, not when it is run.
    if let Some(output) = &args.output
        && let Err(errors) = Recipe::load(output, &[])
    {
        tell(format_args!("warning: the recipe needs a hand before it runs:\n{errors}"));
    }
    Ok(DONE)
}

/// Tells what was not carried as it was.
pub fn listed(carried: &Carried, file: &Path) {
    for one in &carried.listed {
        let place = match &one.place {
            Place::Whole => String::new(),
            place => format!("{}: ", place.of(file)),
        };
        tell(format_args!("not carried: {place}{}: {}: {}", one.key, one.value, one.why));
    }
}

/// Writes a text whole, or prints it.
pub fn write(text: &str, output: Option<&Path>) -> Result<(), Failure> {
    match output {
        None => print(text),
        Some(output) => temper_run::write_atomic(output, text.as_bytes())
            .map_err(|error| Failure::run(anyhow!("{}: cannot write: {error}", output.display()))),
    }
}
