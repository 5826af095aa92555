//! What programs tell of their trials: lines of JSON on standard output or in a file, and TensorBoard's event files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use temper_run::ScalarFiles;

/// What a program told in one record.
#[derive(Debug, Default, PartialEq)]
pub struct Record {
    /// Where it was measured.
    pub step: Option<f64>,
    /// By name.
    pub metrics: BTreeMap<String, f64>,
    /// What was measured of single items, by metric.
    pub items: BTreeMap<String, Vec<f64>>,
    /// A checkpoint to go on from, relative to the trial's folder.
    pub checkpoint: Option<String>,
}

impl Record {
    /// A line that is a JSON object; other lines are a program's own business. NaN and the infinities are read as Python writes
    /// them, bare or as texts.
    fn of_line(line: &str) -> Option<Self> {
        let line = line.trim();
        if !line.starts_with('{') {
            return None;
        }
        let value: serde_json::Value = temper_run::from_python_json(line)?;
        let mut record = Self::default();
        for (name, value) in value.as_object()? {
            match (name.as_str(), number(value)) {
                ("items", _) => {
                    for (metric, items) in value.as_object().into_iter().flatten() {
                        // A list in which something is no number is not one of scores.
                        let items = items.as_array().and_then(|items| items.iter().map(number).collect());
                        record.items.extend(items.map(|items| (metric.clone(), items)));
                    }
                }
                ("step" | "global_step", Some(step)) => record.step = Some(step),
                ("checkpoint", _) => record.checkpoint = value.as_str().map(str::to_owned),
                (_, Some(number)) => drop(record.metrics.insert(name.clone(), number)),
                _ => {}
            }
        }
        Some(record)
    }
}

/// A number; NaN and the infinities also as texts.
fn number(value: &serde_json::Value) -> Option<f64> {
    value.as_f64().or_else(|| match value.as_str()? {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    })
}

/// Where records come from.
pub trait Source {
    /// What has come since the last look, waiting for it at most so long. `last`: the program has ended.
    fn look(&mut self, wait: Duration, last: bool) -> Vec<Record>;
}

/// Lines of standard output, each also kept in a log.
pub struct Lines {
    lines: Receiver<String>,
}

impl Lines {
    pub fn of(output: Option<impl Read + Send + 'static>, mut log: File) -> Self {
        let (send, lines) = channel();
        if let Some(output) = output {
            std::thread::spawn(move || {
                let mut reader = BufReader::new(output);
                let mut bytes = Vec::new();
                while reader.read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
                    let line = String::from_utf8_lossy(&bytes).into_owned();
                    // A log that cannot be written costs no trial.
                    let _ = std::io::Write::write_all(&mut log, &bytes);
                    bytes.clear();
                    if send.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        Self { lines }
    }
}

impl Source for Lines {
    fn look(&mut self, wait: Duration, last: bool) -> Vec<Record> {
        let mut records = Vec::new();
        // After its end the pipe is closed by whoever held it last; a grandchild that goes on is not waited for.
        let mut wait = if last { Duration::from_secs(1) } else { wait };
        loop {
            match self.lines.recv_timeout(wait) {
                Ok(line) => records.extend(Record::of_line(&line)),
                Err(RecvTimeoutError::Disconnected) if !last => {
                    std::thread::sleep(wait);
                    return records;
                }
                Err(_) => return records,
            }
            if !last {
                wait = Duration::ZERO;
            }
        }
    }
}

/// Lines of a file that grows.
pub struct Tail {
    path: PathBuf,
    at: u64,
    rest: Vec<u8>,
}

impl Tail {
    /// From its beginning; where a trial is gone on with, from what is there.
    pub fn new(path: PathBuf, resume: bool) -> Self {
        let at = if resume { fs::metadata(&path).map_or(0, |meta| meta.len()) } else { 0 };
        Self { path, at, rest: Vec::new() }
    }
}

impl Source for Tail {
    fn look(&mut self, wait: Duration, last: bool) -> Vec<Record> {
        std::thread::sleep(wait);
        let mut read = || -> std::io::Result<()> {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(self.at))?;
            self.at += file.read_to_end(&mut self.rest)? as u64;
            Ok(())
        };
        // Not there yet, or not to be read now: the next look tells.
        let _ = read();
        let whole =
            if last { self.rest.len() } else { self.rest.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1) };
        let lines: Vec<u8> = self.rest.drain(..whole).collect();
        String::from_utf8_lossy(&lines).lines().filter_map(Record::of_line).collect()
    }
}

/// TensorBoard's event files.
pub struct Events(ScalarFiles);

impl Events {
    /// Those in `folder`; where a trial is gone on with, what comes from now on.
    pub fn new(folder: &Path, resume: bool) -> Self {
        Self(ScalarFiles::new(folder, resume))
    }
}

impl Source for Events {
    fn look(&mut self, wait: Duration, _: bool) -> Vec<Record> {
        std::thread::sleep(wait);
        let mut by_step: BTreeMap<u64, BTreeMap<String, f64>> = BTreeMap::new();
        for scalar in self.0.read() {
            by_step.entry(scalar.step).or_default().insert(scalar.tag, scalar.value);
        }
        let record = |(step, metrics)| Record { step: Some(step as f64), metrics, ..Record::default() };
        by_step.into_iter().map(record).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail")]

    use super::*;

    #[test]
    fn a_line_that_is_no_object_is_no_record() {
        assert_eq!(Record::of_line("loss 3"), None);
        assert_eq!(Record::of_line("{'loss': 3}"), None);
        let record =
            Record::of_line(r#"{"step": 3, "loss": NaN, "f1": 0.5, "checkpoint": "c/3", "name": "x"}"#).unwrap();
        assert_eq!((record.step, record.checkpoint.as_deref()), (Some(3.0), Some("c/3")));
        assert!(record.metrics["loss"].is_nan() && record.metrics["f1"] == 0.5 && record.metrics.len() == 2);
        let record = Record::of_line(r#"{"step": 3, "loss": 2, "items": {"loss": [1, 3.0], "f1": ["x"]}}"#).unwrap();
        assert_eq!(record.items, BTreeMap::from([("loss".to_owned(), vec![1.0, 3.0])]));
    }
}
