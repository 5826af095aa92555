//! The tuned model in the forms that other programs load.

use std::path::{Path, PathBuf};

use temper_kernels::Cpu;
use temper_model::{Dtype, Encoding, GgufAbout, GgufVocab, write_gguf, write_model};
use temper_recipe::{Export, Valued};

use crate::estimate::parameters;
use crate::prepare::Prepared;
use crate::start::{Merged, Start};
use crate::{Base, PipelineError};

/// A form of a whole model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A folder of safetensors with tokenizer, chat template and generation settings, for transformers.
    Folder(Dtype),
    /// A GGUF file in a folder of its own, for llama.cpp.
    Gguf(Encoding),
}

impl Form {
    /// The folder's name in a run.
    fn folder(self) -> String {
        match self {
            Self::Folder(Dtype::F32) => "merged".to_owned(),
            Self::Folder(dtype) => format!("merged-{}", format!("{dtype:?}").to_lowercase()),
            Self::Gguf(encoding) => format!("gguf-{}", encoding.to_string().to_lowercase()),
        }
    }

    /// Bytes of so many numbers; of a GGUF as if its few norms, too, were in its encoding.
    fn bytes(self, numbers: usize) -> usize {
        match self {
            Self::Folder(Dtype::F32) => 4 * numbers,
            Self::Folder(Dtype::F16 | Dtype::BF16) => 2 * numbers,
            Self::Gguf(encoding) => encoding.row_bytes(numbers),
        }
    }
}

/// What an entry of a recipe's `export` is, in words and as a form; none for the adapter.
pub(crate) fn form(export: Export) -> Option<(&'static str, Form)> {
    Some(match export {
        Export::Adapter => return None,
        Export::Merged => ("merged model", Form::Folder(Dtype::F32)),
        Export::GgufF32 => ("GGUF", Form::Gguf(Encoding::F32)),
        Export::GgufF16 => ("GGUF", Form::Gguf(Encoding::F16)),
        Export::GgufBf16 => ("GGUF", Form::Gguf(Encoding::BF16)),
        Export::GgufQ8 => ("GGUF", Form::Gguf(Encoding::Q8_0)),
        Export::GgufQ4 => ("GGUF", Form::Gguf(Encoding::Q4_0)),
    })
}

/// Whether the run saves an adapter: it is asked for, and there is one.
pub(crate) fn saves_adapter(prepared: &Prepared) -> bool {
    prepared.leaves_adapter() && prepared.recipe.export.contains(&Export::Adapter)
}

/// Bytes of each whole model that the run saves.
pub(crate) fn model_bytes(prepared: &Prepared) -> Vec<usize> {
    let numbers = parameters(prepared.base.checkpoint.config());
    prepared.recipe.export.iter().filter_map(|export| form(*export)).map(|(_, form)| form.bytes(numbers)).collect()
}

/// Refuses before training what could not be exported after it: a GGUF of a model that none can hold, or with a tokenizer for
/// which there is no vocabulary.
///
/// # Errors
/// [`PipelineError::Unfit`], or that of the tokenizer.
pub(crate) fn check(exports: &Valued<Vec<Export>>, base: &Base) -> Result<(), PipelineError> {
    if !exports.iter().filter_map(|export| form(*export)).any(|(_, form)| matches!(form, Form::Gguf(_))) {
        return Ok(());
    }
    if let Some(what) = base.checkpoint.config().not_in_gguf() {
        return Err(PipelineError::Unfit {
            path: exports.path.clone(),
            problem: format!("the base is {what}, which is not written as GGUF in this version"),
            hint: "leave gguf out: llama.cpp's convert_hf_to_gguf.py makes it of `merged`".to_owned(),
        });
    }
    vocabulary(base).map(|_| ())
}

/// Writes a base, with an adapter merged into it where one is given, into `into`, in a folder that is named by the form;
/// gives its path. The second of `adapter` takes one over other weights; what is to be known of it comes back as a warning.
///
/// # Errors
/// When the adapter does not fit, a number does not fit the form, no GGUF vocabulary gives the tokenizer's ids, or the
/// folder cannot be written.
pub fn export_model(
    base: &Base,
    device: Cpu,
    adapter: Option<(&Path, bool)>,
    form: Form,
    name: &str,
    into: &Path,
) -> Result<(PathBuf, Option<String>), PipelineError> {
    let (mut start, mut warning) = (Start::Base(&base.checkpoint), None);
    if let Some((path, any_base)) = adapter {
        warning = base.suits(&temper_model::read_adapter(path)?.config, path, any_base)?;
        start = Start::Merged(Box::new(Merged::new(base.checkpoint.config(), device, 1.0, start, path)?));
    }
    Ok((write(base, &start, form, name, into)?, warning))
}

/// Writes weights over `base` in one form.
pub(crate) fn write(
    base: &Base,
    weights: &Start<'_>,
    form: Form,
    name: &str,
    into: &Path,
) -> Result<PathBuf, PipelineError> {
    let (config, path) = (base.checkpoint.config(), into.join(form.folder()));
    let mut failed = None;
    let tensors = config.tensor_shapes().into_iter().map_while(|(name, shape)| match weights.read(&name, &shape) {
        Ok(values) => Some((name, shape, values)),
        Err(error) => {
            failed = Some(error);
            None
        }
    });
    let written = match form {
        Form::Folder(dtype) => {
            let mut files = base.renderer.tokenizer().files().to_vec();
            files.push(("generation_config.json", generation_config(base)));
            let files: Vec<(&str, &[u8])> = files.iter().map(|(name, text)| (*name, text.as_bytes())).collect();
            write_model(&path, config, tensors, dtype, &files)
        }
        Form::Gguf(encoding) => {
            let about = GgufAbout {
                name: name.to_owned(),
                licence: base.resolved.licence.clone().or(base.checkpoint.licence()),
                description: Some(format!("fine-tuned from {}", base.resolved.description)),
            };
            let file = format!("{name}-{encoding}.gguf");
            write_gguf(&path, &file, config, tensors, encoding, &vocabulary(base)?, &about)
        }
    };
    failed.map_or(written, Err).map_err(PipelineError::Save)?;
    Ok(path)
}

/// The base's own GGUF vocabulary, or that of its tokenizer.
fn vocabulary(base: &Base) -> Result<GgufVocab, PipelineError> {
    match base.checkpoint.gguf_vocab()? {
        Some(vocab) => Ok(vocab),
        None => Ok(base.renderer.tokenizer().to_gguf()?),
    }
}

/// `generation_config.json`: the base's own, or the tokens that begin, end and fill.
fn generation_config(base: &Base) -> String {
    let own = base.checkpoint.folder().map(|folder| folder.join("generation_config.json"));
    if let Some(text) = own.and_then(|path| std::fs::read_to_string(path).ok()) {
        return text;
    }
    let config = base.checkpoint.config();
    let end = match &config.eos_token_ids[..] {
        [] => serde_json::json!(base.renderer.tokenizer().eos()),
        [one] => serde_json::json!(one),
        several => serde_json::json!(several),
    };
    let content = serde_json::json!({
        "bos_token_id": config.bos_token_id, "eos_token_id": end, "pad_token_id": config.pad_token_id,
    });
    format!("{content:#}\n")
}
