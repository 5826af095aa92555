//! The base model: found, fetched, opened, with the renderer for its chat template.

use std::path::{Path, PathBuf};

use temper_model::{Checkpoint, ResolvedBase, default_cache_dir, resolve_base};
use temper_text::{Renderer, Tokenizer};

use crate::PipelineError;
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
    let cache = default_cache_dir().unwrap_or_else(|| PathBuf::from(".temper-cache"));
    let resolved = resolve_base(spec, sha256, &cache, offline, &mut |piece| {
        on_event(&Event::Download { what: piece.what.to_owned(), done: piece.done, total: piece.total });
    })?;
    let checkpoint = Checkpoint::open(&resolved.path)?;
    checkpoint.verify()?;
    let tokenizer = match checkpoint.gguf_vocab()? {
        Some(vocab) => Tokenizer::from_gguf(&vocab)?,
        None => Tokenizer::from_file(tokenizer_file(&resolved.path))?,
    };
    let renderer = Renderer::new(tokenizer, None)?;
    Ok(Base { resolved, checkpoint, renderer })
}

fn tokenizer_file(base: &Path) -> PathBuf {
    let folder = if base.is_dir() { base } else { base.parent().unwrap_or(base) };
    folder.join("tokenizer.json")
}
