//! `temper run`: the whole recipe, with progress, and both axes at the end.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use temper_pipeline::{Event, Options, PipelineError, Prepared, Skipped, StageCache};
use temper_train::Progress;

use crate::command::{Failure, Outcome, load_recipe, print_json};
use crate::table::duration;
use crate::{command, verdict};

/// Train as the recipe says, judge on both axes, write the run folder.
#[derive(clap::Args)]
pub struct Args {
    /// The recipe.
    recipe: PathBuf,
    /// Overrides a value: `stages.0.learning_rate=2e-3`.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    sets: Vec<String>,
    /// The run folder, in place of the recipe's `output`.
    #[arg(long)]
    output: Option<PathBuf>,
    /// Moves an older run of that folder aside (to NAME.1) instead of refusing.
    #[arg(long)]
    overwrite: bool,
    /// The summary as JSON on standard output.
    #[arg(long)]
    json: bool,
    /// Never use the network.
    #[arg(long)]
    offline: bool,
    /// Neither reuse finished stages of earlier runs nor keep those of this one.
    #[arg(long)]
    no_cache: bool,
    /// Threads; as many as the machine has when left out.
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

/// Set by Ctrl-C: training is to end after the step at hand.
pub static STOP: AtomicBool = AtomicBool::new(false);
/// Whether training is under way, so that somebody looks at [`STOP`].
static TRAINING: AtomicBool = AtomicBool::new(false);

/// Asks training to end after the step at hand; false where there is none, or it was asked before.
pub fn stop_training() -> bool {
    let first = TRAINING.load(Ordering::Relaxed) && !STOP.swap(true, Ordering::Relaxed);
    if first {
        anstream::eprintln!("\nending after this step, with a checkpoint; Ctrl-C again ends at once");
    }
    first
}

/// The cache of finished stages, unless it is not wanted.
pub fn cache(no_cache: bool) -> Option<StageCache> {
    (!no_cache).then(StageCache::of_user)
}

pub fn run(args: &Args) -> Outcome {
    let mut sets = args.sets.clone();
    sets.extend(args.output.iter().map(|path| format!("output={}", path.display())));
    let (recipe, notes) = load_recipe(&args.recipe, &sets)?;
    for note in &notes {
        anstream::eprintln!("note: {}: {}", note.place.of(&args.recipe), note.message);
    }
    let options = Options {
        threads: args.threads,
        offline: args.offline,
        overwrite: args.overwrite,
        cache: cache(args.no_cache),
        interrupt: Some(&STOP),
        ..Options::default()
    };
    let mut reporter = Reporter::new();
    let prepared = temper_pipeline::prepare(recipe, notes, &options, &mut |event| reporter.hear(event))?;
    carry_out(&prepared, &options, reporter, args.json)
}

/// Runs what was prepared, with progress, and prints both axes.
pub fn carry_out(prepared: &Prepared, options: &Options, mut reporter: Reporter, json: bool) -> Outcome {
    let plan = prepared.plan();
    reporter.finish();
    anstream::eprintln!("{} on {}; {}", plan.name, plan.base.description, plan.device);
    for (i, stage) in plan.stages.iter().enumerate() {
        anstream::eprintln!(
            "stage {}: {}, {} steps, {} trained parameters, about {} of memory and {}",
            i + 1,
            stage.kind,
            stage.steps,
            crate::table::count(stage.trained_parameters),
            crate::table::bytes(stage.estimate.memory_bytes),
            duration(stage.estimate.seconds),
        );
    }
    for warning in &plan.warnings {
        anstream::eprintln!("warning: {warning}");
    }
    let summary = temper_pipeline::run(prepared, options, &mut |event| reporter.hear(event));
    reporter.finish();
    let summary = summary.map_err(|error| {
        let interrupted = matches!(error, PipelineError::Interrupted { .. });
        let mut failure = Failure::from(error);
        if interrupted {
            let folder = prepared.recipe.output.value.display();
            failure = Failure {
                code: command::INTERRUPTED,
                error: anyhow::anyhow!("{}\nhint: `temper resume {folder}` goes on from there", failure.error),
            };
        }
        failure
    })?;
    if json {
        print_json(&summary)?;
    } else {
        if let Some(comparison) = &summary.comparison {
            anstream::println!("{}", verdict::text(comparison));
        }
        anstream::println!("run folder {}, {} in all", summary.folder.display(), duration(summary.seconds));
    }
    Ok(summary.comparison.as_ref().map_or(command::DONE, verdict::exit_code))
}

/// Shows events: a bar where standard error is a terminal, else a line every few seconds.
pub struct Reporter {
    bar: ProgressBar,
    what: String,
    live: bool,
    last_line: Instant,
    validation: String,
    started: Instant,
    seen: f64,
    /// Steps that a resumed run need not make again.
    first_step: usize,
}

impl Reporter {
    pub fn new() -> Self {
        let live = std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} {msg}") {
            bar.set_style(style);
        }
        let now = Instant::now();
        Self {
            bar,
            what: String::new(),
            live,
            last_line: now,
            validation: String::new(),
            started: now,
            seen: 0.0,
            first_step: 0,
        }
    }

    /// Ends the bar, so that what is printed next stands on a line of its own.
    pub fn finish(&mut self) {
        self.bar.finish_and_clear();
        self.what.clear();
    }

    /// A line of its own, above the bar.
    fn say(&self, message: &str) {
        if self.live { self.bar.println(message) } else { anstream::eprintln!("{message}") }
    }

    fn show(&mut self, what: &str, done: u64, total: u64, message: String) {
        let fresh = self.what != what;
        if fresh {
            self.what = what.to_owned();
            self.bar.reset();
            self.bar.set_prefix(what.to_owned());
        }
        if self.live {
            self.bar.set_length(total);
            self.bar.set_position(done);
            self.bar.set_message(message);
        } else if done == total || self.last_line.elapsed() > Duration::from_secs(5) {
            self.last_line = Instant::now();
            anstream::eprintln!("{what} {done}/{total} {message}");
        }
    }

    /// Shows one event.
    pub fn hear(&mut self, event: &Event) {
        TRAINING.store(matches!(event, Event::Train { .. } | Event::General { .. }), Ordering::Relaxed);
        match event {
            Event::Download { what, done, total } => {
                self.show(&format!("fetching {what}"), *done, total.unwrap_or(*done), String::new());
            }
            Event::Stage { .. } => {
                self.started = Instant::now();
                self.seen = 0.0;
                self.first_step = 0;
            }
            Event::Resumed { step, path, skipped, .. } => {
                self.first_step = *step;
                for Skipped { path, reason } in skipped {
                    self.say(&format!("skipped checkpoint {}: {reason}", path.display()));
                }
                match path {
                    Some(path) => self.say(&format!("going on after step {step}, from {}", path.display())),
                    None => self.say("no usable checkpoint: the stage begins anew"),
                }
            }
            Event::Changed { changes } => changes.iter().for_each(|change| self.say(&crate::resume::line(change))),
            Event::Reused { stage, key, from } => {
                self.say(&format!("stage {} is finished already ({}, from {from})", stage + 1, &key[..12]));
            }
            Event::General { general: g, .. } => {
                let (change, low, high) = (g.relative * 100.0, g.low * 100.0, g.high * 100.0);
                let so_far = format!("{change:+.1} % [{low:+.1}, {high:+.1}] since the base");
                self.say(&format!("step {}: {} {:.4} nats per token, {so_far}", g.step, g.suite, g.loss));
            }
            Event::Stopped { step, reason, advice, .. } => {
                self.say(&format!("ended early after step {step}: {reason}\nhint: {advice}"));
            }
            Event::Train { of, progress: Progress::Validation { step, loss, best }, .. } => {
                self.validation = format!("validation {loss:.4}{}", if *best { " (best)" } else { "" });
                self.say(&format!("step {step} of {of}: {}", self.validation));
            }
            Event::Train { of, progress: Progress::Step(r), .. } => {
                self.seen += r.processed_tokens as f64;
                let elapsed = self.started.elapsed().as_secs_f64();
                let eta = elapsed / (r.step - self.first_step).max(1) as f64 * (of - r.step) as f64;
                let message = format!(
                    "loss {:.4} lr {:.2e} norm {:.2} {:.0} tok/s ETA {} {}",
                    r.loss,
                    r.learning_rate,
                    r.gradient_norm,
                    self.seen / elapsed.max(1e-9),
                    duration(eta),
                    self.validation
                );
                self.show("training", r.step as u64, *of as u64, message);
            }
            Event::Evaluating { suite, side, done, total } => {
                self.show(&format!("{suite} ({side})"), *done as u64, *total as u64, String::new());
            }
            Event::Warning { message } => {
                self.say(&format!("warning: {message}"));
            }
            Event::Saved { what, path } => {
                self.say(&format!("{what} in {}", path.display()));
            }
        }
    }
}
