//! Data files as tokens, kept in the cache: a file is read and tokenised once for each way in which it is asked for. Tokens lie
//! on disk, `rows/KEY/` in the cache, and are read as they are trained.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use temper_data::{
    Examples, ExamplesWriter, Preparing, ReadOptions, RowOrder, RowRules, Source, SourceReport, prepare_filtered,
};
use temper_run::{RunError, sha256_file, to_json, write_dir_atomic};
use temper_text::Renderer;

use crate::PipelineError;
use crate::cache::{Cache, KEY, Kept, Kind, key_of, touch};
use crate::checkpoints::io;
use crate::checks::StageFilters;
use crate::identity::NUMERICS;

const TOKENS: &str = "tokens";
const INDEX: &str = "index";
const REPORT: &str = "report.json";
/// How an index lies on disk: raised whenever that changes.
const LAYOUT: u32 = 2;

/// A renderer, and where what it rendered is kept.
#[derive(Clone, Copy)]
pub(crate) struct Tokens<'a> {
    pub renderer: &'a Renderer,
    /// The hash of tokenizer and chat template.
    pub tokenizer_sha256: &'a str,
    pub kept: Kept<'a>,
}

/// How a file is asked for.
pub(crate) struct Asked<'a> {
    pub path: &'a Path,
    pub options: &'a ReadOptions,
    pub rules: RowRules,
    pub name: &'a str,
    pub loss_weight: f32,
    /// What is left out of it, and its number among the files that are filtered together.
    pub filters: Option<(&'a StageFilters, usize)>,
}

/// What is kept beside the tokens: what was dropped is in the report, so the same reasons are told again.
#[derive(Serialize, Deserialize)]
struct Report {
    report: SourceReport,
    /// Of the tokens and of the index.
    crc32: [u32; 2],
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error(transparent)]
    Data(#[from] temper_data::DataError),
    #[error(transparent)]
    Run(#[from] RunError),
}

impl Tokens<'_> {
    /// What the rendering of a file depends on, and `of` how it is asked for.
    pub fn ingredients(self, what: &str, file: &Path, of: Value) -> Result<Value, PipelineError> {
        Ok(json!({
            "what": format!("{what} {}", file.file_name().unwrap_or_default().to_string_lossy()),
            "temper": [json!(env!("CARGO_PKG_VERSION")), json!(NUMERICS)],
            "file": sha256_file(file)?,
            "tokenizer": self.tokenizer_sha256,
            "of": of,
        }))
    }

    /// [`prepare_filtered`], from the cache where it is there.
    pub fn source(self, asked: &Asked<'_>) -> Result<Source, PipelineError> {
        let Asked { path, options, rules, name, loss_weight, filters } = *asked;
        let prepare = |examples| {
            let preparing = Preparing::new(self.renderer, rules, examples);
            let named = (name, loss_weight);
            match filters {
                Some((filters, number)) => {
                    filters.work(number, |filtering| prepare_filtered(path, options, Some(filtering), preparing, named))
                }
                None => prepare_filtered(path, options, None, preparing, named),
            }
        };
        // What cannot be read is refused by the reader, in its own words.
        let Some(cache) = self.kept.0.filter(|_| path.is_file()) else {
            return Ok(prepare(ExamplesWriter::in_temporary_file()?)?);
        };
        let chat = format!("{:?}", rules.chat);
        let of = json!({
            "layout": LAYOUT,
            "max_length": rules.max_length,
            "chat": chat,
            "wanted": rules.wanted,
            "format": options.format,
            "columns": options.columns,
        });
        let mut ingredients = self.ingredients("tokens of", path, of)?;
        if let Some((filters, number)) = filters {
            ingredients["filters"] = filters.ingredients(number)?;
        }
        let entry = cache.folder(Kind::Rows).join(key_of(&ingredients));
        if let Some((examples, report)) = open(&entry) {
            touch(&entry.join(KEY));
            let (name, order) = (name.to_owned(), RowOrder::Shuffled);
            return Ok(Source { name, examples, loss_weight, order, general: false, report });
        }
        match keep(cache, &entry, &ingredients, prepare) {
            Ok(source) => Ok(source),
            Err(Problem::Data(error)) if !matches!(error, temper_data::DataError::Write { .. }) => Err(error.into()),
            // A cache that cannot be written costs a later run time, not this one its result.
            Err(_) => Ok(prepare(ExamplesWriter::in_temporary_file()?)?),
        }
    }
}

/// What is kept in an entry; nothing where it is not whole.
fn open(entry: &Path) -> Option<(Examples, SourceReport)> {
    let report: Report = serde_json::from_slice(&fs::read(entry.join(REPORT)).ok()?).ok()?;
    let index = fs::read(entry.join(INDEX)).ok()?;
    let tokens = entry.join(TOKENS);
    if report.crc32 != [crc32_of(&tokens).ok()?, crc32fast::hash(&index)] {
        return None;
    }
    Some((Examples::open(&tokens, &index)?, report.report))
}

/// Makes a source whose tokens lie in the cache.
fn keep(
    cache: &Cache,
    entry: &Path,
    ingredients: &Value,
    prepare: impl Fn(ExamplesWriter) -> Result<Source, temper_data::DataError>,
) -> Result<Source, Problem> {
    let folder = cache.folder(Kind::Rows);
    fs::create_dir_all(&folder).map_err(io("create", &folder))?;
    let mut made = None;
    write_dir_atomic(entry, |aside| {
        let tokens = aside.join(TOKENS);
        let source = prepare(ExamplesWriter::in_file(&tokens)?)?;
        let index = source.examples.index();
        let crc32 = [crc32_of(&tokens).map_err(io("read", &tokens))?, crc32fast::hash(&index)];
        let write = |name: &str, bytes: &[u8]| {
            let path = aside.join(name);
            fs::write(&path, bytes).map_err(io("write", &path))
        };
        write(INDEX, &index)?;
        write(REPORT, to_json(&Report { report: source.report.clone(), crc32 })?.as_bytes())?;
        write(KEY, to_json(ingredients)?.as_bytes())?;
        made = Some((source, index));
        Ok::<_, Problem>(())
    })?;
    let (source, index) = made.ok_or(RunError::NoName { path: entry.to_owned() })?;
    // It was written under another name; open files follow it, but a later error is to name the place where it is.
    let examples = Examples::open(&entry.join(TOKENS), &index).unwrap_or(source.examples);
    Ok(Source { examples, ..source })
}

fn crc32_of(path: &Path) -> std::io::Result<u32> {
    let (mut file, mut hasher) = (File::open(path)?, crc32fast::Hasher::new());
    let mut piece = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok(hasher.finalize());
        }
        hasher.update(&piece[..read]);
    }
}
