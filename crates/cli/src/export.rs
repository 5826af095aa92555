//! `temper export`: a run's model, or any base, in a form that other programs load; or a recipe as another tool's.

mod recipe;

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use temper_model::{Dtype, Encoding};
use temper_pipeline::{Form, export_model};
use temper_recipe::foreign::Tool;

use crate::base::{MachineArgs, check_adapter, open};
use crate::command::{DONE, Failure, Outcome, print, tell};

/// Write a model for transformers or for llama.cpp, or a recipe for another tool.
///
/// `--to merged` and `--to gguf` write a model: SOURCE is the folder of a run, of which `merged/` is taken, or a base as everywhere else. The new folder is named by its
/// form (`merged`, `merged-TYPE` for other than f32, or `gguf-TYPE`) and lies in the run's folder or where --output says; an
/// older one of that name is replaced.
///
/// `--to nova`, `axolotl`, `llamafactory` and `trl` write a recipe: SOURCE is a recipe file, whose first stage is written to the standard
/// output or to the file that --output says. What has no counterpart there is listed in it.
#[derive(clap::Args)]
pub struct Args {
    /// The folder of a run, or a model folder, a GGUF file, `hf:OWNER/NAME[@REVISION]`, `pypi:PACKAGE==VERSION[#FILE]`; or a recipe.
    source: String,
    /// What to write.
    #[arg(long, value_enum)]
    to: To,
    /// How a model's numbers are stored: f32, f16 (where left out), bf16; q8_0, q4_0 in GGUF only.
    #[arg(long = "type", value_enum)]
    kind: Option<Type>,
    /// A PEFT adapter folder that is merged into the source first.
    #[arg(long)]
    adapter: Option<PathBuf>,
    /// Takes an adapter that was trained over other weights.
    #[arg(long, requires = "adapter")]
    any_base: bool,
    /// Of a model, the folder in which the new folder is made: the run's, or the working directory. Of a recipe, the file.
    #[arg(long, short)]
    output: Option<PathBuf>,
    /// Of a recipe for Nova: its values were tuned on a small model. Carries them by published rules, marked as a hypothesis; names the
    /// study or the recipe that they come from.
    #[arg(long, value_name = "STUDY|RECIPE")]
    as_hypothesis: Option<PathBuf>,
    /// Writes the short search that confirms the hypothesis into this folder, which must not hold one: three to five recipes around it, and in
    /// README.md the order to try them in and when to stop.
    #[arg(long, value_name = "FOLDER", requires = "as_hypothesis")]
    search: Option<PathBuf>,
    /// Overrides a value of a recipe: `stages.0.learning_rate=2e-3`.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    sets: Vec<String>,
    #[command(flatten)]
    machine: MachineArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum To {
    /// A folder of safetensors with its tokenizer, for transformers.
    Merged,
    /// A file for llama.cpp.
    Gguf,
    /// A recipe of Nova Forge.
    Nova,
    /// A recipe of Axolotl.
    Axolotl,
    /// A recipe of LLaMA-Factory.
    Llamafactory,
    /// A recipe of TRL.
    Trl,
}

impl To {
    /// The tool, where it is a recipe that is written.
    fn tool(self) -> Option<Tool> {
        match self {
            To::Merged | To::Gguf => None,
            To::Nova => Some(Tool::Nova),
            To::Axolotl => Some(Tool::Axolotl),
            To::Llamafactory => Some(Tool::LlamaFactory),
            To::Trl => Some(Tool::Trl),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Type {
    F32,
    F16,
    Bf16,
    #[value(name = "q8_0")]
    Q8,
    #[value(name = "q4_0")]
    Q4,
}

impl Args {
    fn form(&self) -> Result<Form, Failure> {
        Ok(match (self.to, self.kind.unwrap_or(Type::F16)) {
            (To::Merged, Type::F32) => Form::Folder(Dtype::F32),
            (To::Merged, Type::F16) => Form::Folder(Dtype::F16),
            (To::Merged, Type::Bf16) => Form::Folder(Dtype::BF16),
            (To::Merged, Type::Q8 | Type::Q4) => {
                let problem = "--type: safetensors hold f32, f16 or bf16, not blocks of bits";
                return Err(Failure::input(anyhow!("{problem}\nhint: --to gguf")));
            }
            (_, Type::F32) => Form::Gguf(Encoding::F32),
            (_, Type::F16) => Form::Gguf(Encoding::F16),
            (_, Type::Bf16) => Form::Gguf(Encoding::BF16),
            (_, Type::Q8) => Form::Gguf(Encoding::Q8_0),
            (_, Type::Q4) => Form::Gguf(Encoding::Q4_0),
        })
    }
}

pub fn run(args: &Args) -> Outcome {
    match args.to.tool() {
        Some(tool) => recipe::run(args, tool),
        None => model(args),
    }
}

fn model(args: &Args) -> Outcome {
    if args.as_hypothesis.is_some() || !args.sets.is_empty() {
        let problem = "--as-hypothesis and --set belong to a recipe, and --to merged and gguf write a model";
        return Err(Failure::input(anyhow!("{problem}\nhint: --to nova, axolotl, llamafactory or trl")));
    }
    let form = args.form()?;
    args.adapter.as_deref().map_or(Ok(()), check_adapter)?;
    let folder = Path::new(&args.source);
    let is_run = folder.join("plan.json").is_file();
    let merged = folder.join("merged");
    if is_run && !merged.join("config.json").is_file() {
        let hint = "give the run's base with --adapter, or run again with `merged` in the recipe's `export`";
        return Err(Failure::input(anyhow!("{}: the run has no merged/\nhint: {hint}", args.source)));
    }
    let source = if is_run { merged.display().to_string() } else { args.source.clone() };
    let output = match &args.output {
        Some(output) => output.clone(),
        None if is_run => folder.to_owned(),
        None => PathBuf::from("."),
    };
    let base = open(&source, args.machine.offline)?;
    let name = folder.file_stem().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned());
    std::fs::create_dir_all(&output).map_err(|e| Failure::run(anyhow!("{}: cannot create: {e}", output.display())))?;
    let device = temper_kernels::Cpu::new(args.machine.threads());
    let adapter = args.adapter.as_deref().map(|adapter| (adapter, args.any_base));
    let (path, warning) = export_model(&base, device, adapter, form, &name, &output)?;
    warning.iter().for_each(|warning| tell(format_args!("warning: {warning}")));
    if path == output.join("merged") && is_run {
        let by = if adapter.is_some() { "a model with the adapter merged in" } else { "the same weights" };
        tell(format_args!("note: the run's own merged/ was replaced by {by}"));
    }
    print(format_args!("{}\n", path.display()))?;
    Ok(DONE)
}
