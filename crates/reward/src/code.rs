//! Unit tests: the code of a completion and the row's tests, run by Python in the sandbox.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use temper_recipe::{Reward, SandboxMode};
use temper_run::Random;

use crate::answer::{Finder, field};
use crate::error::Error;
use crate::parallel;
use crate::process::{Lost, Process};
use crate::program::Answered;
use crate::reply::{failed, scored};
use crate::sample::Sample;
use crate::sandbox::{self, CODE_MEMORY, Confinement};
use crate::scored::{FailureKind, Part};

/// Runs the tests; see the file itself.
const RUNNER: &str = include_str!("unit_tests.py");
/// How long the interpreter may take to start, on a machine that trains beside it.
const START: Duration = Duration::from_secs(60);

/// Tests of code.
#[derive(Debug)]
pub(crate) struct UnitTests {
    finder: Finder,
    field: String,
    partial: bool,
    python: OsString,
    confinement: Confinement,
    timeout: Duration,
    limit: u64,
    at_once: usize,
    /// Of the words that mark our own replies.
    words: Random,
    /// Where each sample gets a folder of its own.
    folder: PathBuf,
}

impl UnitTests {
    /// Makes them ready: the interpreter and the sandbox are there.
    pub fn open(reward: &Reward, seed: u64, folder: &Path) -> Result<Self, Error> {
        let seconds = reward.timeout_seconds.as_ref().map_or(10.0, |field| field.value);
        let python = reward.python.as_ref().map_or("python3", |field| field.value.as_str());
        let confinement = Confinement {
            folder: PathBuf::new(),
            memory: Some(reward.memory.as_ref().map_or(CODE_MEMORY, |memory| memory.value)),
            // Threads may use several processors; a process that is not ended by the clock is by this.
            cpu_seconds: Some((2.0 * seconds).ceil() as u64 + 2),
            best_effort: reward.sandbox.as_ref().is_some_and(|mode| mode.value == SandboxMode::BestEffort),
        };
        let unit = Self {
            finder: Finder::open(reward)?,
            field: reward.field.as_ref().map(|field| field.value.clone()).unwrap_or_default(),
            partial: reward.partial.as_ref().is_some_and(|partial| partial.value),
            python: sandbox::interpreter(python).map_err(|problem| sandbox::unfit(reward, problem))?,
            confinement,
            timeout: Duration::from_secs_f64(seconds),
            limit: reward.max_output_bytes.as_ref().map_or(1 << 20, |field| field.value),
            at_once: reward.concurrency.as_ref().map_or(1, |field| field.value) as usize,
            words: Random::new(seed, &format!("unit tests of {}", reward.name.value)),
            folder: folder.to_owned(),
        };
        // That it starts at all is not for the first sample to find out.
        unit.start(&unit.folder).map_err(|problem| sandbox::unfit(reward, problem))?;
        Ok(unit)
    }

    /// Scores samples, the order kept.
    pub fn score(&self, samples: &[Sample<'_>]) -> Answered {
        let indices: Vec<usize> = (0..samples.len()).collect();
        let answered = parallel::each(&indices, self.at_once, |&index| {
            let begun = Instant::now();
            (self.one(&samples[index], index), begun.elapsed().as_secs_f64())
        });
        answered.into_iter().unzip()
    }

    fn one(&self, sample: &Sample<'_>, index: usize) -> Part {
        let tests = match tests(field(sample.row, &self.field)) {
            Ok(tests) => tests,
            Err(problem) => return failed(FailureKind::Error, format!("`{}`: {problem}", self.field)),
        };
        let Some(code) = self.finder.find(sample.completion) else { return nothing(tests.len()) };
        let own = match tempfile::tempdir_in(&self.folder) {
            Ok(own) => own,
            Err(error) => return failed(FailureKind::Error, format!("cannot make a folder for the code: {error}")),
        };
        let mut process = match self.start(own.path()) {
            Ok(process) => process,
            Err(problem) => return failed(FailureKind::Crash, problem),
        };
        let word = format!("{:016x}", self.words.bits(index as u64) ^ u64::from(std::process::id()));
        let count = tests.len();
        process.send(json!({"code": code, "tests": tests, "word": word}).to_string().into_bytes());
        if let Err(lost) = process.receive(START) {
            return failed(FailureKind::Crash, format!("the interpreter did not start: {lost:?}"));
        }
        let mut part = match process.receive(self.timeout) {
            Ok(line) => self.verdict(&line, &word, count),
            // What the code does to its own process is the code's fault: it is wrong, and nothing has failed.
            Err(Lost::Timeout) => with(nothing(count), "timed_out", 1),
            Err(Lost::Ended(_)) => with(nothing(count), "crashed", 1),
            Err(Lost::TooLarge) => with(nothing(count), "too_large", 1),
        };
        part.details.insert("tests".to_owned(), count.into());
        part
    }

    fn verdict(&self, line: &[u8], word: &str, count: usize) -> Part {
        let reply: Value = serde_json::from_slice(line).unwrap_or_default();
        // Code that writes a reply of its own does not know the word.
        let passed = match (&reply["word"], reply["passed"].as_array()) {
            (Value::String(said), Some(passed)) if said == word && passed.len() == count => passed,
            _ => return with(nothing(count), "crashed", 1),
        };
        let passed = passed.iter().filter(|passed| **passed == Value::Bool(true)).count();
        let score = match self.partial {
            true => passed as f64 / count as f64,
            false => f64::from(u8::from(passed == count)),
        };
        with(scored(score), "passed", passed)
    }

    fn start(&self, own: &Path) -> Result<Process, String> {
        let confinement = Confinement { folder: own.to_owned(), ..self.confinement.clone() };
        // -I: nothing of the user's is imported, nor anything that lies in the folder.
        let command = [self.python.clone(), "-I".into(), "-c".into(), RUNNER.into()];
        let mut environment = sandbox::environment(own);
        environment.push(("PYTHONHASHSEED".into(), "0".into()));
        let launch = sandbox::launch(&confinement, &command, environment, None)?;
        Process::start(&launch, self.limit).map_err(|error| format!("cannot start the sandbox: {error}"))
    }
}

fn nothing(tests: usize) -> Part {
    with(with(scored(0.0), "passed", 0), "tests", tests)
}

fn with(mut part: Part, name: &str, value: usize) -> Part {
    part.details.insert(name.to_owned(), value.into());
    part
}

/// The tests of a row: one text, a list of texts, or a list of `{input, output}`.
fn tests(value: Option<&Value>) -> Result<Vec<Value>, &'static str> {
    let tests = match value {
        None => return Err("the row has none"),
        Some(Value::String(text)) => vec![Value::from(text.as_str())],
        Some(Value::Array(tests)) => tests.clone(),
        Some(test @ Value::Object(_)) => vec![test.clone()],
        Some(_) => return Err("neither a text nor a list"),
    };
    let program = |test: &Value| test["input"].is_string() && test["output"].is_string();
    match tests.is_empty() {
        true => Err("an empty list"),
        false if tests.iter().all(Value::is_string) || tests.iter().all(program) => Ok(tests),
        false => Err("tests are all texts of Python, or all maps with `input` and `output` as texts"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_texts_or_inputs_with_outputs() {
        let count = |value: Value| tests(Some(&value)).map(|tests| tests.len());
        assert_eq!(count(json!("assert f(1) == 1")), Ok(1));
        assert_eq!(count(json!(["assert f(1) == 1", "assert f(2) == 2"])), Ok(2));
        assert_eq!(count(json!([{"input": "1\n", "output": "2\n"}])), Ok(1));
        for wrong in [json!([]), json!(3), json!([1]), json!(["a", {"input": "", "output": ""}]), json!({"input": "1"})]
        {
            assert!(count(wrong.clone()).is_err(), "{wrong}");
        }
        assert!(tests(None).is_err());
    }
}
