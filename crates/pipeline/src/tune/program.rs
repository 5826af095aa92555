//! Trials by a program: values go in as arguments, environment or a file, metrics come back as JSON lines or event files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use temper_recipe::{MetricSource, Trainer as Asked, ValuesAs};
use temper_run::ScalarFiles;
use temper_search::{Point, Space};

use super::trainer::{Assignment, Ended, Heard, Signal, Trainer};
use crate::PipelineError;
use crate::checkpoints::io;
use crate::run::Interrupt;

/// How often files are looked at, and the clock.
const LOOK: Duration = Duration::from_millis(100);
/// What of a program's last output is told when it fails.
const LAST_LINES: usize = 5;

/// A program that carries trials out.
pub struct Program<'a> {
    /// What the recipe says of it.
    pub asked: &'a Asked,
    /// What is searched.
    pub space: &'a Space,
    /// The user's own interrupt: what runs is asked to pause.
    pub interrupt: Option<Interrupt>,
    /// The folder that it is started in.
    pub folder: PathBuf,
}

impl Trainer for Program<'_> {
    fn name(&self) -> String {
        self.asked.command.value.join(" ")
    }

    fn carry_out(
        &self,
        assignment: &Assignment<'_>,
        hear: &mut dyn FnMut(Heard) -> Signal,
    ) -> Result<Ended, PipelineError> {
        let folder = std::path::absolute(assignment.folder.join(format!("seed-{}", assignment.seed)))
            .map_err(io("find", assignment.folder))?;
        fs::create_dir_all(&folder).map_err(io("create", &folder))?;
        let fields = match self.space.fields(assignment.point) {
            Ok(fields) => fields,
            Err(error) => return Ok(Ended::Failed(error.to_string())),
        };
        let mut command = match self.command(assignment, &folder, &fields)? {
            Ok(command) => command,
            Err(reason) => return Ok(Ended::Failed(reason)),
        };
        let log = |name: &str| {
            let path = folder.join(name);
            File::options().create(true).append(true).open(&path).map_err(io("open", &path))
        };
        let stdout = self.asked.metrics.value == MetricSource::Stdout;
        command.stdin(Stdio::null()).stderr(log("stderr.log")?);
        command.stdout(if stdout { Stdio::piped() } else { log("stdout.log")?.into() });
        let mut running = match Running::start(&mut command) {
            Ok(running) => running,
            Err(error) => {
                let program = &self.asked.command.value[0];
                return Err(PipelineError::Unfit {
                    path: self.asked.command.path.clone(),
                    problem: format!("cannot start {program}: {error}"),
                    hint: "check the spelling; a relative path starts at the folder of the recipe".to_owned(),
                });
            }
        };
        let source: Box<dyn Source> = match self.asked.metrics.value {
            MetricSource::Stdout => Box::new(Lines::of(running.child.stdout.take(), log("stdout.log")?)),
            MetricSource::File => Box::new(Tail::new(folder.join("metrics.jsonl"), assignment.resume.is_some())),
            MetricSource::Tensorboard => Box::new(Events(ScalarFiles::new(&folder, assignment.resume.is_some()))),
        };
        self.follow(running, source, &folder, hear)
    }

    fn tidy(&self, _: &Path, _: bool) -> Result<(), PipelineError> {
        // What a program writes is the program's.
        Ok(())
    }
}

impl Program<'_> {
    /// The command of a trial; or why it cannot be made of these values.
    fn command(
        &self,
        assignment: &Assignment<'_>,
        folder: &Path,
        fields: &Point,
    ) -> Result<Result<Command, String>, PipelineError> {
        let resume = assignment.resume.unwrap_or_default();
        let mut known: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in fields {
            known.insert(name.clone(), value.to_string());
        }
        let file = folder
            .join("values")
            .with_extension(self.asked.template.as_ref().and_then(|file| file.value.extension()).unwrap_or_default());
        let (number, seed) = (assignment.number.to_string(), assignment.seed.to_string());
        for (name, value) in [
            ("file", file.display().to_string()),
            ("dir", folder.display().to_string()),
            ("seed", seed.clone()),
            ("trial", number.clone()),
            ("resume", resume.to_owned()),
        ] {
            known.entry(name.to_owned()).or_insert(value);
        }
        let mut taken = Vec::new();
        let filled: Vec<String> =
            self.asked.command.value.iter().map(|argument| fill(argument, &known, &mut taken)).collect();
        let mut command = Command::new(&filled[0]);
        command.args(&filled[1..]).current_dir(&self.folder);
        let left = fields.iter().filter(|(name, _)| !taken.contains(name));
        match self.asked.values.value {
            ValuesAs::Arguments => {
                for (name, value) in left {
                    command.arg(format!("--{name}")).arg(value.to_string());
                }
            }
            ValuesAs::Environment => {
                for (name, value) in left {
                    let word = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
                    command
                        .env(format!("TEMPER_VALUE_{}", name.chars().map(word).collect::<String>()), value.to_string());
                }
            }
            ValuesAs::File => {
                let Some(template) = &self.asked.template else { return Ok(Err("no `template`".to_owned())) };
                let text = fs::read_to_string(&template.value).map_err(io("read", &template.value))?;
                let mut all: BTreeMap<&str, serde_json::Value> = BTreeMap::new();
                for name in ["dir", "seed", "trial", "resume"] {
                    all.insert(name, known[name].clone().into());
                }
                for (name, value) in fields {
                    all.insert(name, serde_json::to_value(value).unwrap_or_default());
                }
                match filled_in(&text, &all) {
                    Ok(text) => fs::write(&file, text).map_err(io("write", &file))?,
                    Err(error) => return Ok(Err(format!("{}: {error}", template.value.display()))),
                }
            }
        }
        command.env("TEMPER_TRIAL", number).env("TEMPER_TRIAL_DIR", folder).env("TEMPER_SEED", seed);
        command.env("TEMPER_RESUME", resume);
        Ok(Ok(command))
    }

    /// Follows a program until it has ended.
    fn follow(
        &self,
        mut running: Running,
        mut source: Box<dyn Source>,
        folder: &Path,
        hear: &mut dyn FnMut(Heard) -> Signal,
    ) -> Result<Ended, PipelineError> {
        let begun = Instant::now();
        let timeout = self.asked.timeout_minutes.as_ref().map(|minutes| Duration::from_secs_f64(60.0 * minutes.value));
        let grace = Duration::from_secs_f64(self.asked.grace_seconds.value);
        let steps = self.asked.steps.value as f64;
        let (mut asked, mut late, mut furthest) = (None::<Instant>, false, 0.0f64);
        loop {
            let ended = running.child.try_wait().map_err(io("wait for", Path::new(&self.asked.command.value[0])))?;
            // What it wrote before it ended is still to be read.
            for record in source.look(if ended.is_some() { Duration::ZERO } else { LOOK }, ended.is_some()) {
                let mut signal = Signal::GoOn;
                if let Some(path) = record.checkpoint {
                    let path = folder.join(path).display().to_string();
                    signal = hear(Heard::Checkpoint(path));
                }
                if let Some(step) = record.step.filter(|_| !record.metrics.is_empty()) {
                    let share = (step / steps).clamp(0.0, 1.0);
                    furthest = furthest.max(share);
                    if signal == Signal::GoOn {
                        signal = hear(Heard::Measured { share, metrics: record.metrics });
                    }
                }
                if signal != Signal::GoOn && asked.is_none() {
                    running.terminate();
                    asked = Some(Instant::now());
                }
            }
            if let Some(status) = ended {
                return Ok(self.ended(status, asked.is_some(), late, furthest, folder));
            }
            if asked.is_none() && timeout.is_some_and(|most| begun.elapsed() > most) {
                late = true;
                running.terminate();
                asked = Some(Instant::now());
            }
            if asked.is_none() && self.interrupt.as_ref().is_some_and(Interrupt::asked) {
                running.terminate();
                asked = Some(Instant::now());
            }
            if asked.is_some_and(|since| since.elapsed() > grace) {
                running.kill();
            }
        }
    }

    /// What an exit status means.
    fn ended(&self, status: ExitStatus, asked: bool, late: bool, furthest: f64, folder: &Path) -> Ended {
        if late {
            let minutes = self.asked.timeout_minutes.as_ref().map_or(0.0, |minutes| minutes.value);
            return Ended::Failed(format!("it had not ended after {minutes} minutes"));
        }
        if asked {
            return Ended::Asked;
        }
        if status.success() {
            return match furthest {
                1.0 => Ended::Complete,
                0.0 => Ended::Failed("it ended without a metric: a line needs `step` and a number".to_owned()),
                share => Ended::Failed(format!("it ended at {:.1} % of `steps`", 100.0 * share)),
            };
        }
        let code = status.code().and_then(|code| u64::try_from(code).ok());
        let how = match code {
            Some(code) if self.asked.fail_codes.value.contains(&code) => {
                return Ended::Failed(format!("exit code {code}, named in `fail_codes`"));
            }
            _ => status.to_string(),
        };
        Ended::Failed(format!("{how}; its last lines:\n{}", last_lines(&folder.join("stderr.log"))))
    }
}

/// `{NAME}` replaced by its value; other braces stay. The names that were found are added to `taken`.
fn fill(argument: &str, known: &BTreeMap<String, String>, taken: &mut Vec<String>) -> String {
    let mut filled = String::new();
    let mut rest = argument;
    while let Some(open) = rest.find('{') {
        let (before, from) = rest.split_at(open);
        filled.push_str(before);
        match from[1..].split_once('}').and_then(|(name, after)| Some((name, known.get(name)?, after))) {
            Some((name, value, after)) => {
                filled.push_str(value);
                taken.push(name.to_owned());
                rest = after;
            }
            None => {
                filled.push('{');
                rest = &from[1..];
            }
        }
    }
    filled + rest
}

/// A template with the values in their places; a name that is not known is an error.
fn filled_in(text: &str, values: &BTreeMap<&str, serde_json::Value>) -> Result<String, minijinja::Error> {
    let mut jinja = minijinja::Environment::new();
    jinja.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
    jinja.render_str(text, minijinja::value::Serde(values))
}

fn last_lines(path: &Path) -> String {
    let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

/// A program under way, with what it starts itself; killed when this is dropped.
struct Running {
    child: Child,
}

impl Running {
    fn start(command: &mut Command) -> std::io::Result<Self> {
        #[cfg(unix)]
        {
            use std::os::unix::process::CommandExt;
            // A group of its own: Ctrl-C in the terminal is not for it, and a signal reaches all that it starts.
            command.process_group(0);
        }
        Ok(Self { child: command.spawn()? })
    }

    /// Asks it to end.
    fn terminate(&mut self) {
        #[cfg(unix)]
        self.signal(rustix::process::Signal::TERM);
        #[cfg(not(unix))]
        self.kill();
    }

    /// Ends it.
    fn kill(&mut self) {
        #[cfg(unix)]
        self.signal(rustix::process::Signal::KILL);
        // Where it has ended already there is nothing to kill.
        let _ = self.child.kill();
    }

    #[cfg(unix)]
    fn signal(&self, signal: rustix::process::Signal) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            // Where all of it has ended already there is nothing to tell.
            let _ = rustix::process::kill_process_group(group, signal);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
            let _ = self.child.wait();
        }
    }
}

/// What a program told in one record.
#[derive(Debug, Default, PartialEq)]
struct Record {
    step: Option<f64>,
    metrics: BTreeMap<String, f64>,
    checkpoint: Option<String>,
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
            let number = value.as_f64().or_else(|| match value.as_str()? {
                "NaN" => Some(f64::NAN),
                "Infinity" => Some(f64::INFINITY),
                "-Infinity" => Some(f64::NEG_INFINITY),
                _ => None,
            });
            match (name.as_str(), number) {
                ("step" | "global_step", Some(step)) => record.step = Some(step),
                ("checkpoint", _) => record.checkpoint = value.as_str().map(str::to_owned),
                (_, Some(number)) => drop(record.metrics.insert(name.clone(), number)),
                _ => {}
            }
        }
        Some(record)
    }
}

/// Where records come from.
trait Source {
    /// What has come since the last look, waiting for it at most so long. `last`: the program has ended.
    fn look(&mut self, wait: Duration, last: bool) -> Vec<Record>;
}

/// Lines of standard output, each also kept in a log.
struct Lines {
    lines: Receiver<String>,
}

impl Lines {
    fn of(output: Option<impl Read + Send + 'static>, mut log: File) -> Self {
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
struct Tail {
    path: PathBuf,
    at: u64,
    rest: Vec<u8>,
}

impl Tail {
    /// From its beginning; where a trial is gone on with, from what is there.
    fn new(path: PathBuf, resume: bool) -> Self {
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
struct Events(ScalarFiles);

impl Source for Events {
    fn look(&mut self, wait: Duration, _: bool) -> Vec<Record> {
        std::thread::sleep(wait);
        let mut by_step: BTreeMap<u64, BTreeMap<String, f64>> = BTreeMap::new();
        for scalar in self.0.read() {
            by_step.entry(scalar.step).or_default().insert(scalar.tag, scalar.value);
        }
        let record = |(step, metrics)| Record { step: Some(step as f64), metrics, checkpoint: None };
        by_step.into_iter().map(record).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_take_the_place_of_their_names_and_other_braces_stay() {
        let known = BTreeMap::from([("lr".to_owned(), "0.001".to_owned())]);
        let mut taken = Vec::new();
        assert_eq!(fill("--lr={lr} {other} {{lr}} {", &known, &mut taken), "--lr=0.001 {other} {0.001} {");
        assert_eq!(taken, ["lr", "lr"]);
    }

    #[test]
    fn a_line_that_is_no_object_is_no_record() {
        assert_eq!(Record::of_line("loss 3"), None);
        assert_eq!(Record::of_line("{'loss': 3}"), None);
        let record =
            Record::of_line(r#"{"step": 3, "loss": NaN, "f1": 0.5, "checkpoint": "c/3", "name": "x"}"#).unwrap();
        assert_eq!((record.step, record.checkpoint.as_deref()), (Some(3.0), Some("c/3")));
        assert!(record.metrics["loss"].is_nan() && record.metrics["f1"] == 0.5 && record.metrics.len() == 2);
    }
}
