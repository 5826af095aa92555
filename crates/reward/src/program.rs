//! A user's own reward as a process: a Python file with a function, or an executable that speaks JSON lines.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use temper_recipe::{Reward, SandboxMode};

use crate::error::Error;
use crate::lambda;
use crate::parallel;
use crate::process::{Launch, Lost, Process};
use crate::reply::{by_id, by_place, failed};
use crate::sample::Sample;
use crate::sandbox::{self, Confinement};
use crate::scored::{Failure, FailureKind, Part};

/// Runs Python files; see the file itself.
const DRIVER: &str = include_str!("driver.py");
/// How long a program may take to be ready: time enough to import a large library from a cold disk.
const START: Duration = Duration::from_secs(300);

/// A program and its processes.
#[derive(Debug)]
pub(crate) struct Program {
    reward: String,
    launch: Launch,
    form: Form,
    batch: usize,
    at_once: usize,
    timeout: Duration,
    /// Bytes of a reply per sample.
    limit: u64,
    /// Processes that wait for a request.
    idle: Mutex<Vec<Process>>,
}

/// How a program takes samples.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Form {
    /// One in a line, one score in a line: an executable.
    Lines,
    /// A Python function of one completion.
    One,
    /// A Python function of lists.
    List,
    /// A Lambda handler in Python.
    Lambda,
}

/// The parts of a batch, with the seconds of each request that it took.
pub(crate) type Answered = (Vec<Part>, Vec<f64>);

impl Program {
    /// Makes a program ready: its first process is started, and has said how it takes samples.
    pub fn open(reward: &Reward, file: &Path, seed: u64, folder: &Path) -> Result<Self, Error> {
        let number = |field: &Option<temper_recipe::Valued<u64>>, or| field.as_ref().map_or(or, |field| field.value);
        let timeout = Duration::from_secs_f64(reward.timeout_seconds.as_ref().map_or(60.0, |field| field.value));
        let file =
            std::path::absolute(file).map_err(|source| Error::Io { action: "find", path: file.to_owned(), source })?;
        let python = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("py"));
        let launch = launch(reward, &file, python, (seed, timeout), folder)?;
        let batch = if python { number(&reward.batch_size, 1) as usize } else { 1 };
        let limit = number(&reward.max_output_bytes, 1 << 20);
        let mut program = Self {
            reward: reward.name.value.clone(),
            launch,
            form: Form::Lines,
            batch,
            at_once: number(&reward.concurrency, 1) as usize,
            timeout,
            limit,
            idle: Mutex::default(),
        };
        let unfit = |problem: String| Error::Unfit {
            path: reward.by.path.clone(),
            problem,
            hint: match program.launch.log.as_ref().filter(|log| log.exists()) {
                Some(log) => format!("what it printed is in {}", log.display()),
                None => "check that it can be run".to_owned(),
            },
        };
        let start = if python { program.start_python() } else { program.start().map(|process| (process, Form::Lines)) };
        let (process, form) = start.map_err(unfit)?;
        program.form = form;
        if form == Form::One {
            program.batch = 1;
        }
        program.idle.lock().unwrap_or_else(PoisonError::into_inner).push(process);
        Ok(program)
    }

    /// Scores samples, the order kept.
    pub fn score(&self, samples: &[Sample<'_>]) -> Result<Answered, Error> {
        let batches: Vec<&[Sample<'_>]> = samples.chunks(self.batch).collect();
        let (mut parts, mut seconds) = (Vec::new(), Vec::new());
        for answered in parallel::each(&batches, self.at_once, |batch| self.batch(batch)) {
            let (some, took) = answered?;
            parts.extend(some);
            seconds.extend(took);
        }
        Ok((parts, seconds))
    }

    /// One batch; where it fails as a whole each of its samples is asked for alone, so that one that cannot be scored
    /// costs no other its score.
    fn batch(&self, batch: &[Sample<'_>]) -> Result<Answered, Error> {
        let begun = Instant::now();
        let answered = self.request(batch)?;
        let mut seconds = vec![begun.elapsed().as_secs_f64()];
        let failure = match answered {
            Ok(parts) => return Ok((parts, seconds)),
            Err(failure) => failure,
        };
        if let [_] = batch {
            return Ok((vec![failed(failure.kind, failure.message)], seconds));
        }
        let mut parts = Vec::new();
        for sample in batch {
            let (one, took) = self.batch(std::slice::from_ref(sample))?;
            parts.extend(one);
            seconds.extend(took);
        }
        Ok((parts, seconds))
    }

    /// One request; a failure holds for all of its samples.
    fn request(&self, batch: &[Sample<'_>]) -> Result<Result<Vec<Part>, Failure>, Error> {
        let waiting = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut process = match waiting.map_or_else(|| self.start_again(), Ok) {
            Ok(process) => process,
            Err(problem) => return Ok(Err(Failure { kind: FailureKind::Crash, message: problem })),
        };
        process.send(self.encode(batch));
        let line = match process.receive(self.timeout) {
            // A process is started for the longest batch; this one may be shorter.
            Ok(line) if line.len() as u64 > self.limit * batch.len() as u64 => {
                return Ok(Err(self.lost(Lost::TooLarge)));
            }
            Ok(line) => line,
            Err(lost) => return Ok(Err(self.lost(lost))),
        };
        let answer = String::from_utf8_lossy(&line);
        let bad = |message: String| Ok(Err(Failure { kind: FailureKind::BadReply, message }));
        let Some(reply) = temper_run::from_python_json(&answer) else {
            // It may be out of step: it is not asked again.
            let shown: String = answer.chars().take(200).collect();
            return bad(format!("the reply is not JSON: `{shown}`"));
        };
        let contract = |problem: String| Error::Contract { reward: self.reward.clone(), problem };
        let ids: Vec<&str> = batch.iter().map(|sample| sample.id).collect();
        let parts = match self.form {
            Form::Lines => by_id(std::slice::from_ref(&reply), &ids).map_err(contract)?,
            _ => {
                if let Some(error) = reply["error"].as_str() {
                    self.rests(process);
                    return Ok(Err(Failure { kind: FailureKind::Error, message: error.to_owned() }));
                }
                if let Some(shape) = reply["wrong_shape"].as_str() {
                    return Err(contract(format!("expected a list of {} scores, got {shape}", batch.len())));
                }
                let returned = &reply["returned"];
                match (self.form, returned.as_array()) {
                    (Form::Lambda, _) => lambda::scores(returned, batch).map_err(contract)?,
                    (_, Some(values)) => by_place(values, batch.len()).map_err(contract)?,
                    (_, None) => return bad("the driver's reply has no scores".to_owned()),
                }
            }
        };
        self.rests(process);
        Ok(Ok(parts))
    }

    fn rests(&self, process: Process) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(process);
    }

    fn encode(&self, batch: &[Sample<'_>]) -> Vec<u8> {
        let ids: Vec<&str> = batch.iter().map(|sample| sample.id).collect();
        let request = match self.form {
            Form::Lines => batch.first().map_or(Value::Null, |sample| as_json(sample, true)),
            Form::One | Form::List => {
                json!({"ids": ids, "samples": batch.iter().map(|sample| as_json(sample, false)).collect::<Vec<_>>()})
            }
            Form::Lambda => json!({"ids": ids, "event": lambda::event(batch)}),
        };
        request.to_string().into_bytes()
    }

    fn start(&self) -> Result<Process, String> {
        Process::start(&self.launch, self.limit * self.batch as u64)
            .map_err(|error| format!("cannot start {}: {error}", self.launch.program.to_string_lossy()))
    }

    /// A process in place of one that is gone.
    fn start_again(&self) -> Result<Process, String> {
        match self.form {
            Form::Lines => self.start(),
            _ => self.start_python().map(|(process, _)| process),
        }
    }

    /// Starts a Python file, and hears how its function takes samples.
    fn start_python(&self) -> Result<(Process, Form), String> {
        let mut process = self.start()?;
        let line = process.receive(START).map_err(|lost| match lost {
            Lost::Timeout => format!("it did not get ready in {} s", START.as_secs()),
            lost => format!("it did not get ready: {}", self.lost(lost).message),
        })?;
        let hello: Value = serde_json::from_slice(&line)
            .map_err(|_| format!("it did not get ready: it said `{}`", String::from_utf8_lossy(&line)))?;
        if let Some(problem) = hello["failed"].as_str() {
            return Err(problem.to_owned());
        }
        let form = match hello["form"].as_str() {
            Some("one") => Form::One,
            Some("list") => Form::List,
            Some("lambda") => Form::Lambda,
            _ => return Err(format!("it did not get ready: it said {hello}")),
        };
        Ok((process, form))
    }

    fn lost(&self, lost: Lost) -> Failure {
        let (kind, message) = match lost {
            Lost::Timeout => {
                (FailureKind::Timeout, format!("no answer in {} s; it was killed", self.timeout.as_secs_f64()))
            }
            Lost::Ended(status) => (FailureKind::Crash, format!("it ended: {status}")),
            Lost::TooLarge => (
                FailureKind::TooLarge,
                format!("its reply is longer than {} bytes a sample; it was killed", self.limit),
            ),
        };
        Failure { kind, message }
    }
}

/// A sample as programs and services get it.
pub(crate) fn as_json(sample: &Sample<'_>, with_reference: bool) -> Value {
    let mut value = json!({
        "id": sample.id,
        "prompt": sample.prompt,
        "completion": sample.completion,
        "row": sample.row,
        "tokens": sample.tokens,
        "cut": sample.cut,
    });
    if with_reference {
        value["reference_answer"] = sample.row.get("reference_answer").cloned().unwrap_or_default();
    }
    value
}

fn launch(
    reward: &Reward,
    file: &Path,
    python: bool,
    (seed, timeout): (u64, Duration),
    folder: &Path,
) -> Result<Launch, Error> {
    let interpreter = reward.python.as_ref().map_or("python3", |field| field.value.as_str());
    let function = reward.function.as_ref().map_or("", |function| function.value.as_str());
    let mut command: Vec<OsString> = match python {
        true => {
            let of_driver = [function.to_owned(), seed.to_string(), timeout.as_secs_f64().to_string()];
            let mut command = vec![interpreter.into(), "-c".into(), DRIVER.into(), file.as_os_str().to_owned()];
            command.extend(of_driver.map(OsString::from));
            command
        }
        false => vec![file.as_os_str().to_owned()],
    };
    let log = Some(folder.join(format!("{}.log", reward.name.value)));
    // Hashes of texts, and so the order of sets, are the same in each process.
    let hash_seed = (seed % (1 << 32)).to_string();
    let mut environment: Vec<(OsString, OsString)> = vec![
        ("PYTHONHASHSEED".into(), hash_seed.into()),
        ("PYTHONUNBUFFERED".into(), "1".into()),
        ("TEMPER_SEED".into(), seed.to_string().into()),
    ];
    let memory = reward.memory.as_ref().map(|memory| memory.value);
    let mode = reward.sandbox.as_ref().map_or(SandboxMode::Off, |mode| mode.value);
    if mode == SandboxMode::Off {
        let at = file.parent().map_or_else(|| PathBuf::from("."), Path::to_owned);
        let program = command.remove(0);
        return Ok(Launch { program, arguments: command, folder: at, environment, inherit: true, log, memory });
    }
    let own = folder.join(&reward.name.value);
    std::fs::create_dir_all(&own).map_err(|source| Error::Io { action: "create", path: own.clone(), source })?;
    if python {
        command[0] = sandbox::interpreter(interpreter).map_err(|problem| sandbox::unfit(reward, problem))?;
    }
    let confinement =
        Confinement { folder: own, memory, cpu_seconds: None, best_effort: mode == SandboxMode::BestEffort };
    environment.extend(sandbox::environment(&confinement.folder));
    sandbox::launch(&confinement, &command, environment, log).map_err(|problem| sandbox::unfit(reward, problem))
}
