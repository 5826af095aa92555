//! What the jobs of a study cost together, in a file that all its workers share: a job is entered before it is started, at the most
//! that it may cost, and once it has ended at what it was billed, where that is known.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use temper_run::{to_json_pretty, write_atomic};

use crate::error::{Error, unfit};

/// A job's place in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Entry {
    /// USD.
    usd: f64,
    /// Whether that is what it was billed, not the most that it may cost.
    billed: bool,
}

/// The ledger of a study.
#[derive(Debug)]
pub(crate) struct Ledger {
    file: PathBuf,
}

impl Ledger {
    /// That of the study in `folder`: `jobs.json`.
    pub fn of(folder: &Path) -> Self {
        Self { file: folder.join("jobs.json") }
    }

    /// Enters a job at `usd`, the most that it may cost, unless all jobs together might then cost more than `most - kept`. None: it is
    /// entered, now or before; else USD of the others. Workers that ask at one time are answered one after the other.
    pub fn reserve(&self, job: &str, usd: f64, kept: f64, most: f64) -> Result<Option<f64>, Error> {
        self.change(|entries| {
            let others: f64 = entries.values().map(|entry| entry.usd).sum();
            // What is no number is no permission.
            let within = others + usd + kept <= most;
            if !within && !entries.contains_key(job) {
                return Some(others);
            }
            entries.entry(job.to_owned()).or_insert(Entry { usd, billed: false });
            None
        })
    }

    /// Writes what a job was billed; nothing where it is none of the study's.
    pub fn settle(&self, job: &str, usd: f64) -> Result<(), Error> {
        self.change(|entries| {
            if let Some(entry) = entries.get_mut(job) {
                *entry = Entry { usd, billed: true };
            }
        })
    }

    /// Takes out a job that was refused, so that it was never started.
    pub fn release(&self, job: &str) -> Result<(), Error> {
        self.change(|entries| {
            entries.remove(job);
        })
    }

    /// Whether the study has started this job, or was about to.
    pub fn knows(&self, job: &str) -> Result<bool, Error> {
        self.change(|entries| entries.contains_key(job))
    }

    fn change<T>(&self, change: impl FnOnce(&mut BTreeMap<String, Entry>) -> T) -> Result<T, Error> {
        let failed = |action, path: &Path| {
            let path = path.to_path_buf();
            move |source| Error::Io { action, path, source }
        };
        let lock = self.file.with_extension("lock");
        let held = File::options().create(true).append(true).open(&lock).map_err(failed("open", &lock))?;
        // Held until it is closed, by whatever end of this process.
        held.lock().map_err(failed("lock", &lock))?;
        let mut entries = match fs::read(&self.file) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| {
                let problem = format!("{} is damaged: {error}", self.file.display());
                unfit(problem, "without it nobody knows what the study has spent: mend it by hand")
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(failed("read", &self.file)(error)),
        };
        let before = entries.clone();
        let answer = change(&mut entries);
        if entries != before {
            write_atomic(&self.file, to_json_pretty(&entries)?.as_bytes())?;
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_jobs_of_a_study_stay_within_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::of(folder.path());
        assert_eq!(ledger.reserve("a", 40.0, 0.0, 100.0).unwrap(), None);
        assert_eq!(ledger.reserve("a", 40.0, 0.0, 100.0).unwrap(), None, "the same job is not counted twice");
        assert_eq!(ledger.reserve("b", 40.0, 30.0, 100.0).unwrap(), Some(40.0), "30 are kept back");
        assert_eq!(ledger.reserve("b", 40.0, 0.0, 100.0).unwrap(), None);
        assert_eq!(ledger.reserve("c", 40.0, 0.0, 100.0).unwrap(), Some(80.0));
        ledger.settle("a", 10.0).unwrap();
        assert_eq!(Ledger::of(folder.path()).reserve("c", 40.0, 0.0, 100.0).unwrap(), None, "another worker sees it");
        ledger.release("c").unwrap();
        assert!(!ledger.knows("c").unwrap() && ledger.knows("b").unwrap());
        assert!(ledger.reserve("d", f64::NAN, 0.0, 100.0).unwrap().is_some(), "what is no number is no permission");
        fs::write(folder.path().join("jobs.json"), "{").unwrap();
        assert!(ledger.reserve("e", 1.0, 0.0, 100.0).unwrap_err().to_string().contains("is damaged"));
    }
}
