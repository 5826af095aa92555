//! Data sets of the Hugging Face hub: `datasets/OWNER/NAME[@REVISION][#PATTERN]`, in the cache that its own tools use.

use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use temper_run::to_json_pretty;

use super::hub::{Kind, Repository, agent, is_hex, plain, put};
use super::{Download, SourceError, Sources};

/// Endings of files that hold rows.
const ROWS: [&str; 12] = [
    ".jsonl",
    ".json",
    ".csv",
    ".tsv",
    ".parquet",
    ".arrow",
    ".txt",
    ".md",
    ".jsonl.gz",
    ".json.gz",
    ".csv.gz",
    ".jsonl.zst",
];
/// Of a data set's own description, not of its rows.
const NOT_ROWS: [&str; 4] = ["README.md", "dataset_infos.json", "dataset_info.json", "state.json"];

/// Written when all files have come: with it a pinned data set needs no network.
#[derive(Serialize, Deserialize)]
struct Complete {
    /// Name and size.
    files: Vec<(String, u64)>,
}

impl Sources {
    /// The files of a data set that hold rows: those that fit the pattern, else those named after the training split, else all.
    pub(super) fn rows(&self, spec: &str, progress: &mut dyn FnMut(Download<'_>)) -> Result<Vec<PathBuf>, SourceError> {
        let problem = |problem: String| SourceError::Spec { spec: spec.to_owned(), problem };
        let form = || problem("expected hf:datasets/OWNER/NAME[@REVISION][#PATTERN]".to_owned());
        let rest = spec.strip_prefix("hf:datasets/").ok_or_else(form)?;
        let (rest, pattern) = rest.split_once('#').map_or((rest, None), |(rest, pattern)| (rest, Some(pattern)));
        let (id, revision) = rest.split_once('@').unwrap_or((rest, "main"));
        let id_is_plain = id.split_once('/').is_some_and(|(owner, name)| plain(owner) && plain(name));
        if !id_is_plain || !revision.split('/').all(plain) {
            return Err(form());
        }
        let repository = Repository { kind: Kind::Dataset, id, revision, file: None };
        let folder = repository.folder(&self.hub);
        let reference = folder.join("refs").join(revision);
        let pinned = is_hex(revision, 40);
        let known = || fs::read_to_string(&reference).ok().map(|c| c.trim().to_owned()).filter(|c| is_hex(c, 40));
        let commit = if pinned { Some(revision.to_owned()) } else { known() };
        let marker = |commit: &str| {
            let what = temper_run::sha256_bytes(pattern.unwrap_or_default().as_bytes());
            self.cache
                .join("hf")
                .join(format!("datasets--{}", id.replace('/', "--")))
                .join(format!("{commit}-{}.json", &what[..12]))
        };
        let from_cache = |commit: &str| {
            let complete: Complete = serde_json::from_str(&fs::read_to_string(marker(commit)).ok()?).ok()?;
            let snapshot = folder.join("snapshots").join(commit);
            let file = |(name, size): &(String, u64)| {
                let path = snapshot.join(name);
                fs::metadata(&path).is_ok_and(|m| m.len() == *size).then_some(path)
            };
            complete.files.iter().map(file).collect::<Option<Vec<_>>>()
        };
        let offline = self.offline || self.hub.offline;
        if let Some(files) = commit.as_deref().filter(|_| pinned || offline).and_then(from_cache) {
            return Ok(files);
        }
        if offline {
            return Err(SourceError::Offline { what: format!("hf:datasets/{id}"), cache: folder });
        }
        let agent = agent();
        let info = match self.hub.info(&agent, &repository) {
            Err(error @ SourceError::Unreachable { .. }) => return commit.as_deref().and_then(from_cache).ok_or(error),
            other => other?,
        };
        let names: Vec<&str> = info.siblings.iter().map(|file| file.rfilename.as_str()).collect();
        let wanted = wanted(&names, pattern);
        if wanted.is_empty() {
            let found = if names.is_empty() { "no files".to_owned() } else { names[..names.len().min(20)].join(", ") };
            let hint = "name some after #, as in #data/train-*.parquet; a data set that is a program cannot be read";
            return Err(self.hub.refused(&repository, format!("no file of rows fits; found {found}"), hint));
        }
        let snapshot = folder.join("snapshots").join(&info.sha);
        let mut files = Vec::new();
        for file in info.siblings.iter().filter(|file| wanted.contains(&file.rfilename.as_str())) {
            self.hub.download(&agent, &repository, file, &info.sha, &folder, progress)?;
            let path = snapshot.join(&file.rfilename);
            let size = fs::metadata(&path).map_err(SourceError::io(&path, "open"))?.len();
            files.push((file.rfilename.clone(), size));
        }
        files.sort();
        put(&marker(&info.sha), to_json_pretty(&Complete { files: files.clone() })?.as_bytes())?;
        if !pinned {
            put(&reference, info.sha.as_bytes())?;
        }
        Ok(files.into_iter().map(|(name, _)| snapshot.join(name)).collect())
    }
}

/// The files that are meant.
fn wanted<'a>(names: &[&'a str], pattern: Option<&str>) -> Vec<&'a str> {
    if let Some(pattern) = pattern {
        return names.iter().copied().filter(|name| fits(name, pattern)).collect();
    }
    let holds_rows = |name: &&&str| {
        let file = name.rsplit('/').next().unwrap_or(name);
        ROWS.iter().any(|ending| name.ends_with(ending)) && !NOT_ROWS.contains(&file) && !file.starts_with('.')
    };
    let rows: Vec<&str> = names.iter().filter(holds_rows).copied().collect();
    let words = |name: &str| name.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == "train");
    let train: Vec<&str> = rows.iter().copied().filter(|name| words(name)).collect();
    if train.is_empty() { rows } else { train }
}

/// Whether a name fits a pattern in which `*` stands for anything.
fn fits(name: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => name == pattern,
        Some((before, after)) => name
            .strip_prefix(before)
            .is_some_and(|rest| (0..=rest.len()).any(|at| rest.is_char_boundary(at) && fits(&rest[at..], after))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_training_split_is_meant_unless_a_pattern_says_otherwise() {
        let names = [
            "README.md",
            "data/train-00000-of-2.parquet",
            "data/train-00001-of-2.parquet",
            "data/test.parquet",
            "trainer.json",
        ];
        assert_eq!(wanted(&names, None), names[1..3]);
        assert_eq!(wanted(&names, Some("data/*.parquet")), names[1..4]);
        assert_eq!(wanted(&names, Some("data/test.parquet")), names[3..4]);
        assert_eq!(wanted(&["a.jsonl", "b.csv", "dataset_infos.json"], None), ["a.jsonl", "b.csv"]);
        assert!(wanted(&names, Some("nothing*")).is_empty());
    }
}
