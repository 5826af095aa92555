//! Which files the paths of rows stand for: of this machine, or of a data set of the hub, which is fetched.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use temper_data::{DataError, Expanded, expand};
use temper_model::{default_cache_dir, resolve_rows};
use temper_recipe::{Recipe, is_remote};

use crate::PipelineError;
use crate::run::Event;

/// The files that `path` stands for, sorted: itself, those of a folder, those that fit a pattern, or those of
/// `hf:datasets/OWNER/NAME[@REVISION][#PATTERN]`.
///
/// # Errors
/// [`PipelineError::Data`] where there is none, [`PipelineError::Source`] where a data set cannot be had.
pub fn find_rows(path: &Path, offline: bool, on_event: &mut dyn FnMut(&Event)) -> Result<Vec<PathBuf>, PipelineError> {
    if !is_remote(path) {
        let Expanded { files, passed } = expand(path)?;
        if !passed.is_empty() {
            on_event(&Event::Warning { message: passed_over(path, &passed) });
        }
        return Ok(files);
    }
    let cache = default_cache_dir().unwrap_or_else(|| PathBuf::from(".temper-cache"));
    Ok(resolve_rows(&path.to_string_lossy(), &cache, offline, &mut |piece| {
        on_event(&Event::Download { what: piece.what.to_owned(), done: piece.done, total: piece.total });
    })?)
}

/// Says which files of a folder hold no rows.
fn passed_over(folder: &Path, passed: &[PathBuf]) -> String {
    const SHOWN: usize = 5;
    let names: Vec<String> =
        passed.iter().take(SHOWN).map(|file| file.strip_prefix(folder).unwrap_or(file).display().to_string()).collect();
    let more = if passed.len() > SHOWN { format!(" and {} more", passed.len() - SHOWN) } else { String::new() };
    format!("{}: passed over, as no rows by their names: {}{more}", folder.display(), names.join(", "))
}

/// Refuses a named pipe: a recipe's rows are hashed, checked and read, and a pipe gives them once.
fn lasting(path: &Path) -> Result<(), DataError> {
    // What is not there is refused by the reader, in its own words.
    if path.is_file() || !path.exists() {
        return Ok(());
    }
    let problem = "it is no regular file, and the rows of a recipe are read more than once".to_owned();
    let hint = "write what it gives to a file, and name that".to_owned();
    Err(DataError::Unreadable { path: path.to_owned(), problem, hint })
}

/// The files of every path of rows in a recipe, found once.
#[derive(Default)]
pub(crate) struct Files {
    of: HashMap<PathBuf, Vec<PathBuf>>,
}

impl Files {
    pub fn find(recipe: &Recipe, offline: bool, on_event: &mut dyn FnMut(&Event)) -> Result<Self, PipelineError> {
        let mut files = Self::default();
        for stage in &recipe.stages {
            let validation = stage.validation.iter().map(|files| &files.value.path);
            let general = stage.mix.iter().flat_map(|mix| &mix.general).filter_map(|source| source.path.files());
            let train = stage.train.value.iter().chain(general).map(|files| &files.path);
            for path in train.chain(validation) {
                if !files.of.contains_key(path) {
                    let found = find_rows(path, offline, on_event)?;
                    found.iter().try_for_each(|file| lasting(file))?;
                    files.of.insert(path.clone(), found);
                }
            }
        }
        Ok(files)
    }

    /// The files of a path of the recipe.
    pub fn of(&self, path: &Path) -> &[PathBuf] {
        self.of.get(path).map_or(&[], Vec::as_slice)
    }
}
