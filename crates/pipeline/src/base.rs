//! The base model: found, fetched, opened, with the renderer for its chat template.

use std::path::{Path, PathBuf};

use temper_kernels::Cpu;
use temper_model::{
    AdapterConfig, BaseRecord, Checkpoint, Llama, ResolvedBase, Tuning, default_cache_dir, read_adapter, resolve_base,
};
use temper_run::{day, utc_now};
use temper_text::{Renderer, Tokenizer};

use crate::PipelineError;
use crate::packed::Packed;
use crate::phases::Phases;
use crate::run::Event;

/// An opened base.
pub struct Base {
    /// Where it came from, and its hashes.
    pub resolved: ResolvedBase,
    /// Its weights.
    pub checkpoint: Checkpoint,
    /// Its tokenizer and template.
    pub renderer: Renderer,
}

/// Finds `spec` (fetching it into the cache if need be), checks every header, and builds the renderer.
///
/// # Errors
/// Those of the source, the weights, the tokenizer or the template.
pub fn open_base(
    spec: &str,
    sha256: Option<&str>,
    offline: bool,
    on_event: &mut dyn FnMut(&Event),
) -> Result<Base, PipelineError> {
    open_base_by(&Phases::default(), spec, sha256, offline, &utc_now(), on_event)
}

/// [`open_base`] with a clock, for a run that began at `began`: a template that prints the date prints that day's, whenever the
/// run goes on.
pub(crate) fn open_base_by(
    phases: &Phases,
    spec: &str,
    sha256: Option<&str>,
    offline: bool,
    began: &str,
    on_event: &mut dyn FnMut(&Event),
) -> Result<Base, PipelineError> {
    let cache = default_cache_dir().unwrap_or_else(|| PathBuf::from(".temper-cache"));
    let resolved = resolve_base(spec, sha256, &cache, offline, &mut |piece| {
        on_event(&Event::Download { what: piece.what.to_owned(), done: piece.done, total: piece.total });
    })?;
    phases.lap("base: find, hash");
    let checkpoint = Checkpoint::open(&resolved.path)?;
    checkpoint.verify()?;
    phases.lap("base: headers");
    let tokenizer = match checkpoint.gguf_vocab()? {
        Some(vocab) => Tokenizer::from_gguf(&vocab)?,
        None => Tokenizer::from_file(tokenizer_file(&resolved.path))?,
    };
    let renderer = match day(began) {
        Some(day) => Renderer::new_at(tokenizer, None, day)?,
        None => Renderer::new(tokenizer, None)?,
    };
    phases.lap("tokenizer");
    Ok(Base { resolved, checkpoint, renderer })
}

impl Base {
    /// What an adapter over it records.
    pub fn record(&self) -> BaseRecord {
        BaseRecord {
            source: self.resolved.description.clone(),
            sha256s: self.resolved.sha256s.clone(),
            precision: self.checkpoint.precision(),
            licence: self.resolved.licence.clone(),
        }
    }

    /// The base with an adapter on. An adapter that recorded other weights is refused, unless `any_base`; what is to be
    /// known of the match comes back as a warning.
    ///
    /// # Errors
    /// When the folder cannot be read, belongs to other weights, or does not fit this model.
    pub fn with_adapter(
        &self,
        device: Cpu,
        adapter: &Path,
        any_base: bool,
    ) -> Result<(Llama<Cpu>, Option<String>), PipelineError> {
        self.with_adapter_over(&Packed::as_stored(), device, adapter, any_base)
    }

    /// [`Base::with_adapter`] over packed weights.
    pub(crate) fn with_adapter_over(
        &self,
        packed: &Packed,
        device: Cpu,
        adapter: &Path,
        any_base: bool,
    ) -> Result<(Llama<Cpu>, Option<String>), PipelineError> {
        let mut read = read_adapter(adapter)?;
        read.fit(self.checkpoint.config(), adapter)?;
        let warning = self.suits(&read.config, adapter, any_base)?;
        let model = packed.load(self, device, &Tuning::Lora(read.config.lora))?;
        model.load_adapter(adapter)?;
        Ok((model, warning))
    }

    /// Whether an adapter was trained over these very weights: what is to be known of it as a warning.
    ///
    /// # Errors
    /// When it recorded other weights, unless `any_base`.
    pub(crate) fn suits(
        &self,
        config: &AdapterConfig,
        adapter: &Path,
        any_base: bool,
    ) -> Result<Option<String>, PipelineError> {
        let own = self.record();
        Ok(match &config.base {
            Some(base) if base.same_weights(&own) => None,
            Some(base) if any_base => Some(format!(
                "{} was trained over {base}, not over {own}: it may add something else than it learnt",
                adapter.display()
            )),
            Some(base) => {
                return Err(PipelineError::Unfit {
                    path: adapter.display().to_string(),
                    problem: format!("the adapter was trained over {base}, not over {own}"),
                    hint:
                        "use the base it was trained over; --any-base loads it all the same, and `temper eval` shows \
                           what that costs"
                            .to_owned(),
                });
            }
            None => Some(format!(
                "{} does not record which weights it was trained over{}",
                adapter.display(),
                if config.base_name.is_empty() { String::new() } else { format!(" (it names {})", config.base_name) }
            )),
        })
    }
}

fn tokenizer_file(base: &Path) -> PathBuf {
    let folder = if base.is_dir() { base } else { base.parent().unwrap_or(base) };
    folder.join("tokenizer.json")
}
