//! Trials by a program: values go in as arguments, environment or a file, metrics come back as JSON lines or event files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use temper_recipe::{MetricSource, ProgramTrainer as Asked, ValuesAs};
use temper_search::{Point, Space};

use super::records::{Events, Lines, Source, Tail};
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
            MetricSource::Tensorboard => Box::new(Events::new(&folder, assignment.resume.is_some())),
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
                        signal = hear(Heard::Measured { share, metrics: record.metrics, items: record.items });
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
}
