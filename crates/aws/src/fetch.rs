//! What a job leaves: its manifest, which says where the checkpoint lies, and its metrics. Weights stay in AWS's own bucket.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use flate2::read::GzDecoder;
use serde_json::Value;
use temper_run::{to_json_pretty, write_dir_atomic};

use crate::client::Client;
use crate::error::{Error, unfit};
use crate::job::Job;
use crate::s3::Place;

/// Files larger than this are no manifest and no metrics.
const MAX_FILE: u64 = 1 << 30;
/// What is fetched, by the end of its name.
const ENDINGS: [&str; 5] = [".json", ".jsonl", ".csv", ".yaml", ".txt"];

/// What was fetched.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Fetched {
    /// Files in the folder, in order.
    pub files: Vec<PathBuf>,
    /// `checkpoint_s3_bucket` of the manifest: the next job's `model_name_or_path`.
    pub checkpoint: Option<String>,
    /// What lies there and was not fetched, such as weights.
    pub left: Vec<String>,
}

/// Fetches what an ended job leaves into `folder`, which appears whole or not at all: `job.json` (the platform's description),
/// `metrics.json` (the metrics in it), and of the job's objects in S3, and of its `output.tar.gz`, the manifest, the metrics and the
/// logs, under their own paths.
///
/// # Errors
/// [`Error::Unfit`] for a job that has not ended and for a folder that holds something; what S3 answers; what cannot be written.
pub fn fetch(client: &Client, job: &Job, folder: &Path) -> Result<Fetched, Error> {
    if !job.phase.is_end() {
        return Err(unfit(
            format!("{} has not ended: it is {}", job.name, job.phase),
            "`temper nova status JOB --follow` waits for it",
        ));
    }
    if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(unfit(format!("{} holds something already", folder.display()), "name a new folder"));
    }
    let mut fetched = Fetched::default();
    write_dir_atomic::<Error>(folder, |into| {
        write(&into.join("job.json"), to_json_pretty(&job.reply)?.as_bytes())?;
        write(&into.join("metrics.json"), to_json_pretty(&job.metrics)?.as_bytes())?;
        fetched.files = vec!["job.json".into(), "metrics.json".into()];
        let Some(output) = &job.output else { return Ok(()) };
        let place = Place::read(output)?;
        let mut archives = Vec::new();
        for key in place.list(client)? {
            let name = key.strip_prefix(&place.key).unwrap_or(&key).to_owned();
            if name.ends_with("output.tar.gz") || name.ends_with("model.tar.gz") {
                archives.push((name, key));
            } else if ENDINGS.iter().any(|ending| name.ends_with(ending)) {
                let mut body = place.beside(&key).get(client)?;
                keep(&name, &mut body, into, &mut fetched)?;
            } else if !key.ends_with('/') {
                fetched.left.push(key);
            }
        }
        // A model's archive is looked into only where the manifest lies nowhere else: it may be large.
        archives.sort_by_key(|(name, _)| name.ends_with("model.tar.gz"));
        for (name, key) in archives {
            if name.ends_with("model.tar.gz") && fetched.checkpoint.is_some() {
                fetched.left.push(key);
                continue;
            }
            let body = place.beside(&key).get(client)?;
            unpack(&name, body, into, &mut fetched)?;
        }
        Ok(())
    })?;
    fetched.files.sort();
    Ok(fetched)
}

/// Keeps the files of an archive that are no weights.
fn unpack(name: &str, body: impl Read, into: &Path, fetched: &mut Fetched) -> Result<(), Error> {
    let bad = |source: io::Error| Error::Io { action: "unpack", path: PathBuf::from(name), source };
    let mut archive = tar::Archive::new(GzDecoder::new(body));
    for entry in archive.entries().map_err(bad)? {
        let mut entry = entry.map_err(bad)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = entry.path().map_err(bad)?.to_string_lossy().into_owned();
        if ENDINGS.iter().any(|ending| path.ends_with(ending)) {
            keep(&path, &mut entry, into, fetched)?;
        } else {
            fetched.left.push(format!("{name}: {path}"));
        }
    }
    Ok(())
}

/// Writes a file under its own path, and the manifest at the top as well.
fn keep(name: &str, body: &mut impl Read, into: &Path, fetched: &mut Fetched) -> Result<(), Error> {
    let path: PathBuf = Path::new(name).components().filter(|part| *part != Component::CurDir).collect();
    let safe = path.components().all(|part| matches!(part, Component::Normal(_)));
    if !safe || fetched.files.contains(&path) {
        fetched.left.push(name.to_owned());
        return Ok(());
    }
    let target = into.join(&path);
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).map_err(|source| Error::Io {
            action: "make",
            path: parent.to_path_buf(),
            source,
        })?;
    }
    let failed = |source| Error::Io { action: "write", path: target.clone(), source };
    let mut file = File::create(&target).map_err(failed)?;
    let written = io::copy(&mut body.take(MAX_FILE + 1), &mut file).map_err(failed)?;
    if written > MAX_FILE {
        return Err(unfit(format!("{name} is larger than {MAX_FILE} bytes"), "fetch it by `aws s3 cp`"));
    }
    if path.file_name().is_some_and(|name| name == "manifest.json") {
        let text = fs::read(&target).map_err(failed)?;
        let manifest: Value = serde_json::from_slice(&text).unwrap_or_default();
        if let Some(checkpoint) = manifest["checkpoint_s3_bucket"].as_str() {
            fetched.checkpoint = Some(checkpoint.to_owned());
            if path.components().count() > 1 && !fetched.files.contains(&PathBuf::from("manifest.json")) {
                write(&into.join("manifest.json"), &text)?;
                fetched.files.push("manifest.json".into());
            }
        }
    }
    fetched.files.push(path);
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    fs::write(path, bytes).map_err(|source| Error::Io { action: "write", path: path.to_path_buf(), source })
}
