//! Repositories of the Hugging Face hub, in the cache layout that its own tools use: `blobs/HASH`, `refs/REVISION`,
//! `snapshots/COMMIT/FILE` (a link into `blobs`).
//!
//! A client of two routes over `ureq`, for the reasons in `docs/decisions/dependencies.md`:
//! `GET /api/models/OWNER/NAME/revision/REVISION?blobs=true` (commit, files, sizes, hashes) and
//! `GET /OWNER/NAME/resolve/COMMIT/FILE`.

use std::env;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use temper_run::{sha256_bytes, to_json_pretty, write_atomic};
use ureq::config::RedirectAuthHeaders;
use ureq::http::Response;
use ureq::{Agent, Body};

use super::{Download, Found, SourceError, Sources, list};
use crate::safetensors::read_index;

/// Files other than weights that a model may need.
const SIDE_FILES: [&str; 8] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "README.md",
    "LICENSE",
];
const INDEX: &str = "model.safetensors.index.json";

/// The hub's settings, from its own environment variables.
pub(super) struct Hub {
    pub(super) endpoint: String,
    pub(super) token: Option<String>,
    /// Holds one folder per repository.
    pub(super) cache: PathBuf,
    pub(super) offline: bool,
}

/// `OWNER/NAME[@REVISION][#FILE]`.
pub(super) struct Repository<'a> {
    pub(super) kind: Kind,
    pub(super) id: &'a str,
    pub(super) revision: &'a str,
    pub(super) file: Option<&'a str>,
}

/// What a repository holds; the hub keeps the two apart.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Model,
    Dataset,
}

impl Kind {
    /// In the API, and in the cache's names of folders.
    fn name(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
        }
    }
}

/// The answer of the API, as far as it is used.
#[derive(Deserialize)]
pub(super) struct Info {
    pub(super) sha: String,
    pub(super) siblings: Vec<Sibling>,
    #[serde(rename = "cardData")]
    card: Option<Card>,
}

#[derive(Deserialize)]
struct Card {
    license: Option<serde_json::Value>,
}

#[derive(Deserialize, Clone)]
pub(super) struct Sibling {
    pub(super) rfilename: String,
    pub(super) size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize, Clone)]
struct Lfs {
    sha256: String,
}

/// Written when all files of a snapshot have come: with it a pinned base needs no network.
#[derive(Serialize, Deserialize)]
struct Complete {
    /// Name and size.
    files: Vec<(String, u64)>,
    /// The weight file, where the model is a single GGUF file.
    gguf: Option<String>,
    licence: Option<String>,
}

/// A part of a path that stays where it is put.
pub(super) fn plain(part: &str) -> bool {
    !matches!(part, "" | "." | "..") && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

impl<'a> Repository<'a> {
    /// Its folder in the hub's cache.
    pub(super) fn folder(&self, hub: &Hub) -> PathBuf {
        hub.cache.join(format!("{}--{}", self.kind.name(), self.id.replace('/', "--")))
    }

    pub(super) fn parse(text: &'a str) -> Result<Self, String> {
        let (rest, file) = text.split_once('#').map_or((text, None), |(r, f)| (r, Some(f)));
        let (id, revision) = rest.split_once('@').unwrap_or((rest, "main"));
        let id_is_plain = id.split_once('/').is_some_and(|(owner, name)| plain(owner) && plain(name));
        if !id_is_plain || !revision.split('/').all(plain) || !file.is_none_or(|f| plain(f) && f.ends_with(".gguf")) {
            return Err(format!("expected OWNER/NAME[@REVISION][#FILE.gguf], got `{text}`"));
        }
        Ok(Self { kind: Kind::Model, id, revision, file })
    }
}

pub(super) fn agent() -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .redirect_auth_headers(RedirectAuthHeaders::SameHost)
        .user_agent(concat!("temper/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(Duration::from_secs(20)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        .build()
        .into()
}

impl Hub {
    /// `HF_ENDPOINT`, `HF_TOKEN` (else the token file), `HF_HUB_CACHE` (else `hub` in `HF_HOME`, else in `huggingface` of the
    /// user's cache), `HF_HUB_OFFLINE`.
    pub(super) fn from_env() -> Self {
        let text = |name| env::var(name).ok().map(|v: String| v.trim().to_owned()).filter(|v| !v.is_empty());
        let home = text("HF_HOME").map(PathBuf::from).unwrap_or_else(|| {
            let cache = text("XDG_CACHE_HOME").map(PathBuf::from);
            cache.unwrap_or_else(|| env::home_dir().unwrap_or_default().join(".cache")).join("huggingface")
        });
        let token_file = text("HF_TOKEN_PATH").map_or_else(|| home.join("token"), PathBuf::from);
        let stored = || Some(fs::read_to_string(token_file).ok()?.trim().to_owned()).filter(|t| !t.is_empty());
        Self {
            endpoint: text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned()),
            token: text("HF_TOKEN").or_else(stored),
            cache: text("HF_HUB_CACHE").map_or_else(|| home.join("hub"), PathBuf::from),
            offline: text("HF_HUB_OFFLINE").is_some_and(|v| matches!(&*v.to_lowercase(), "1" | "true" | "yes" | "on")),
        }
    }

    pub(super) fn fetch(
        &self,
        repository: &Repository<'_>,
        sources: &Sources,
        progress: &mut dyn FnMut(Download<'_>),
    ) -> Result<Found, SourceError> {
        let folder = repository.folder(self);
        let reference = folder.join("refs").join(repository.revision);
        let pinned = is_hex(repository.revision, 40);
        let known_commit = if pinned {
            Some(repository.revision.to_owned())
        } else {
            fs::read_to_string(&reference).ok().map(|c| c.trim().to_owned()).filter(|c| is_hex(c, 40))
        };
        let marker = |commit: &str| {
            let file = repository.file.map(|f| format!("-{}", &sha256_bytes(f.as_bytes())[..12])).unwrap_or_default();
            let name = repository.id.replace('/', "--");
            sources.cache.join("hf").join(name).join(format!("{commit}{file}.json"))
        };
        let from_cache = |commit: &str, remark: &str| {
            let text = fs::read_to_string(marker(commit)).ok()?;
            let complete: Complete = serde_json::from_str(&text).ok()?;
            let snapshot = folder.join("snapshots").join(commit);
            let whole =
                |(name, size): &(String, u64)| fs::metadata(snapshot.join(name)).is_ok_and(|m| m.len() == *size);
            complete.files.iter().all(whole).then(|| Found {
                path: complete.gguf.map_or(snapshot.clone(), |file| snapshot.join(file)),
                sha256s: None,
                description: format!("hf:{}@{commit}{remark}", repository.id),
                licence: complete.licence,
            })
        };

        if let Some(commit) = known_commit.as_deref().filter(|_| pinned)
            && let Some(found) = from_cache(commit, "")
        {
            return Ok(found);
        }
        if sources.offline || self.offline {
            let Some(commit) = known_commit else {
                return Err(SourceError::Offline { what: format!("hf:{}", repository.id), cache: folder });
            };
            if let Some(found) = from_cache(&commit, "") {
                return Ok(found);
            }
            // Filled by another tool: what is there must do; opening the checkpoint tells what it lacks.
            let snapshot = folder.join("snapshots").join(&commit);
            let path = repository.file.map_or(snapshot.clone(), |file| snapshot.join(file));
            if !path.exists() {
                return Err(SourceError::Offline { what: format!("hf:{}@{commit}", repository.id), cache: folder });
            }
            return Ok(Found {
                path,
                sha256s: None,
                description: format!("hf:{}@{commit}", repository.id),
                licence: None,
            });
        }

        let agent = agent();
        let info = match self.info(&agent, repository) {
            Err(error @ SourceError::Unreachable { .. }) => {
                let remark = " (hub not reachable: the copy of the last time)";
                return known_commit.and_then(|commit| from_cache(&commit, remark)).ok_or(error);
            }
            other => other?,
        };

        let snapshot = folder.join("snapshots").join(&info.sha);
        let mut files: Vec<Sibling> =
            info.siblings.iter().filter(|s| SIDE_FILES.contains(&s.rfilename.as_str())).cloned().collect();
        let weights = wanted_weights(repository, &info)?;
        let gguf = weights.iter().find(|name| name.ends_with(".gguf")).cloned();
        let sibling = |name: &str| info.siblings.iter().find(|s| s.rfilename == name);
        for name in &weights {
            files.extend(sibling(name).cloned());
        }
        // An index names the weight files, so it comes before them.
        for file in &files {
            self.download(&agent, repository, file, &info.sha, &folder, progress)?;
        }
        if weights == [INDEX] {
            let shards: std::collections::BTreeSet<String> = read_index(&snapshot.join(INDEX))?.into_values().collect();
            for shard in shards {
                let Some(file) = sibling(&shard) else {
                    let problem = format!("its index names {shard}, which is not in the repository");
                    return Err(self.refused(repository, problem, "the repository is incomplete; tell its owner"));
                };
                self.download(&agent, repository, file, &info.sha, &folder, progress)?;
                files.push(file.clone());
            }
        }

        let licence = info.card.and_then(|card| card.license).map(|l| l.as_str().map_or(l.to_string(), str::to_owned));
        let sizes = files.iter().map(|file| {
            let path = snapshot.join(&file.rfilename);
            let size = fs::metadata(&path).map_err(SourceError::io(&path, "open"))?.len();
            Ok((file.rfilename.clone(), size))
        });
        let files = sizes.collect::<Result<_, SourceError>>()?;
        let complete = Complete { files, gguf, licence };
        put(&marker(&info.sha), to_json_pretty(&complete)?.as_bytes())?;
        if !pinned {
            put(&reference, info.sha.as_bytes())?;
        }
        Ok(Found {
            path: complete.gguf.map_or(snapshot.clone(), |file| snapshot.join(file)),
            sha256s: None,
            description: format!("hf:{}@{}", repository.id, info.sha),
            licence: complete.licence,
        })
    }

    pub(super) fn refused(&self, repository: &Repository<'_>, problem: String, hint: &'static str) -> SourceError {
        SourceError::Hub { url: format!("{}/{}", self.endpoint.trim_end_matches('/'), repository.id), problem, hint }
    }

    pub(super) fn info(&self, agent: &Agent, repository: &Repository<'_>) -> Result<Info, SourceError> {
        let (id, revision) = (repository.id, repository.revision.replace('/', "%2F"));
        let (endpoint, kind) = (self.endpoint.trim_end_matches('/'), repository.kind.name());
        let url = format!("{endpoint}/api/{kind}/{id}/revision/{revision}?blobs=true");
        let mut response = self.get(agent, &url)?;
        let text = response.body_mut().with_config().limit(64 << 20).read_to_string();
        let text = text.map_err(|e| SourceError::Unreachable { url: url.clone(), problem: e.to_string() })?;
        let info: Result<Info, _> = serde_json::from_str(&text);
        match info {
            Ok(info) if is_hex(&info.sha, 40) => Ok(info),
            Ok(info) => Err(self.refused(repository, format!("strange commit `{}`", info.sha), "check HF_ENDPOINT")),
            Err(e) => Err(self.refused(repository, format!("strange answer: {e}"), "check HF_ENDPOINT")),
        }
    }

    fn get(&self, agent: &Agent, url: &str) -> Result<Response<Body>, SourceError> {
        let mut request = agent.get(url);
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let response =
            request.call().map_err(|e| SourceError::Unreachable { url: url.to_owned(), problem: e.to_string() })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let code = response.headers().get("x-error-code").and_then(|v| v.to_str().ok()).unwrap_or_default();
        let (problem, hint) = match (status.as_u16(), code, &self.token) {
            (401 | 403, "GatedRepo", None) => (
                "the repository is gated and no token was given".to_owned(),
                "accept its terms on its page, then set HF_TOKEN to a token of yours",
            ),
            (401 | 403, "GatedRepo", Some(_)) | (403, _, Some(_)) => (
                format!("the token given has no access (status {status})"),
                "accept the repository's terms on its page with the account of that token",
            ),
            (401, _, None) => (
                "no such repository, or it is private (status 401)".to_owned(),
                "check the spelling; for a private repository set HF_TOKEN",
            ),
            (401, ..) => ("the token was not accepted (status 401)".to_owned(), "check HF_TOKEN; it may have expired"),
            (404, "RevisionNotFound", _) => ("no such revision".to_owned(), "check what follows the @"),
            (404, "EntryNotFound", _) => ("no such file".to_owned(), "check the spelling"),
            (404, ..) => ("not found (status 404)".to_owned(), "check the spelling of OWNER/NAME and of the revision"),
            (429, ..) => ("too many requests (status 429)".to_owned(), "wait a little; a token raises the limit"),
            _ => (format!("status {status}"), "try again later"),
        };
        Err(SourceError::Hub { url: url.to_owned(), problem, hint })
    }

    /// Brings one file into the cache, unless it is there. It gets its name when its size and, for large files, its sha256
    /// have been checked.
    pub(super) fn download(
        &self,
        agent: &Agent,
        repository: &Repository<'_>,
        file: &Sibling,
        commit: &str,
        folder: &Path,
        progress: &mut dyn FnMut(Download<'_>),
    ) -> Result<(), SourceError> {
        let name = &file.rfilename;
        let link = folder.join("snapshots").join(commit).join(name);
        if fs::metadata(&link).is_ok_and(|m| file.size.is_none_or(|size| m.len() == size)) {
            return Ok(());
        }
        let announced = file.lfs.as_ref().map(|l| l.sha256.to_lowercase()).filter(|h| is_hex(h, 64));
        let blob_name = announced.clone().or_else(|| file.blob_id.clone().filter(|id| is_hex(id, 40)));
        let Some(blob_name) = blob_name else {
            return Err(self.refused(repository, format!("{name} comes without a hash"), "check HF_ENDPOINT"));
        };
        if !name.split('/').all(plain) {
            let hint = "a file of this name is not taken; tell the repository's owner";
            return Err(self.refused(repository, format!("strange file name `{name}`"), hint));
        }
        let blobs = folder.join("blobs");
        let blob = blobs.join(&blob_name);
        for dir in [blobs.as_path(), link.parent().unwrap_or(folder)] {
            fs::create_dir_all(dir).map_err(SourceError::io(dir, "create"))?;
        }
        if !fs::metadata(&blob).is_ok_and(|m| file.size.is_none_or(|size| m.len() == size)) {
            let of = if repository.kind == Kind::Dataset { "datasets/" } else { "" };
            let url = format!("{}/{of}{}/resolve/{commit}/{name}", self.endpoint.trim_end_matches('/'), repository.id);
            let mut body = self.get(agent, &url)?.into_body().into_reader();
            let mut out = tempfile::Builder::new()
                .suffix(".incomplete")
                .tempfile_in(&blobs)
                .map_err(SourceError::io(&blobs, "create a file in"))?;
            let mut hash = Sha256::new();
            let mut buffer = vec![0; 1 << 20];
            let mut done = 0;
            loop {
                let n = body.read(&mut buffer).map_err(|e| match e.kind() {
                    io::ErrorKind::UnexpectedEof => damaged(&url, file.size, done),
                    _ => SourceError::Unreachable { url: url.clone(), problem: e.to_string() },
                })?;
                if n == 0 {
                    break;
                }
                hash.update(&buffer[..n]);
                out.write_all(&buffer[..n]).map_err(SourceError::io(out.path(), "write"))?;
                done += n as u64;
                progress(Download { what: name, done, total: file.size });
            }
            if file.size.is_some_and(|size| size != done) {
                return Err(damaged(&url, file.size, done));
            }
            let got: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
            if let Some(expected) = announced.filter(|expected| *expected != got) {
                let (expected, got) = (format!("sha256 {expected}"), format!("sha256 {got}"));
                return Err(SourceError::Damaged { url, expected, got });
            }
            out.as_file().sync_all().map_err(SourceError::io(out.path(), "sync"))?;
            out.persist(&blob).map_err(|e| SourceError::io(&blob, "rename into place")(e.error))?;
        }
        if fs::symlink_metadata(&link).is_ok() {
            fs::remove_file(&link).map_err(SourceError::io(&link, "replace"))?;
        }
        #[cfg(unix)]
        let placed = {
            let up = "../".repeat(2 + name.matches('/').count());
            std::os::unix::fs::symlink(Path::new(&up).join("blobs").join(&blob_name), &link)
        };
        #[cfg(not(unix))]
        let placed = fs::rename(&blob, &link);
        placed.map_err(SourceError::io(&link, "create"))
    }
}

/// The weight files of a repository, or its index, which names them.
fn wanted_weights(repository: &Repository<'_>, info: &Info) -> Result<Vec<String>, SourceError> {
    let at_root = info.siblings.iter().map(|s| s.rfilename.clone()).filter(|name| !name.contains('/'));
    let (safetensors, rest): (Vec<_>, Vec<_>) = at_root.partition(|name| name.ends_with(".safetensors"));
    let has_index = rest.iter().any(|name| name == INDEX);
    let ggufs: Vec<_> = rest.into_iter().filter(|name| name.ends_with(".gguf")).collect();
    if let Some(file) = repository.file {
        if ggufs.iter().any(|name| name == file) {
            return Ok(vec![file.to_owned()]);
        }
    } else if ggufs.is_empty() {
        if safetensors.iter().any(|name| name == "model.safetensors") {
            return Ok(vec!["model.safetensors".to_owned()]);
        }
        if has_index {
            return Ok(vec![INDEX.to_owned()]);
        }
        if safetensors.len() == 1 {
            return Ok(safetensors);
        }
    } else if ggufs.len() == 1 && safetensors.is_empty() {
        return Ok(ggufs);
    }
    Err(SourceError::NotOneModel {
        place: format!("hf:{}@{}", repository.id, repository.revision),
        found: list(&[ggufs, safetensors].concat()),
        hint: format!("name one of its .gguf files: hf:{}@{}#FILE", repository.id, repository.revision),
    })
}

fn damaged(url: &str, expected: Option<u64>, got: u64) -> SourceError {
    let expected = expected.map_or("a whole file".to_owned(), |n| format!("{n} bytes"));
    SourceError::Damaged { url: url.to_owned(), expected, got: format!("{got} bytes") }
}

pub(super) fn put(path: &Path, bytes: &[u8]) -> Result<(), SourceError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(SourceError::io(parent, "create"))?;
    }
    Ok(write_atomic(path, bytes)?)
}

pub(super) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit())
}
