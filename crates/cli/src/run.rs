//! `temper run`: the whole recipe, with progress, and both axes at the end.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use temper_pipeline::{Cache, CompletionMeans, Event, Options, PipelineError, Prepared, Skipped};
use temper_report::{bytes, count, duration};
use temper_train::{PreferenceMetrics, Progress};

use crate::base::RecipeArgs;
use crate::command::{DONE, Failure, INTERRUPTED, Outcome, conclude, json, tell};
use crate::{interrupt, plan, probe, verdict};

/// Train as the recipe says, judge on both axes, write the run folder.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// The run folder, in place of the recipe's `output`.
    #[arg(long)]
    output: Option<PathBuf>,
    /// Starts from the checkpoint that `temper probe` found best, in place of the recipe's `base`.
    #[arg(long)]
    probed: bool,
    /// Moves an older run of that folder aside (to NAME.1) instead of refusing.
    #[arg(long)]
    overwrite: bool,
    /// The summary as JSON on standard output.
    #[arg(long)]
    json: bool,
    /// Keeps texts of rows and answers out of the run folder and the report: ids and scores only.
    #[arg(long)]
    no_samples: bool,
    /// Neither reuse what earlier runs computed (stages, packed weights, tokens, scores of the base, speeds) nor keep that of
    /// this one.
    #[arg(long)]
    no_cache: bool,
}

/// The cache, unless it is not wanted.
pub fn cache(no_cache: bool) -> Option<Cache> {
    (!no_cache).then(Cache::of_user)
}

pub fn run(mut args: Args) -> Outcome {
    if args.probed {
        let base = probe::winner(&args.recipe.recipe, &args.recipe.sets)?;
        args.recipe.sets.push(base);
    }
    args.recipe.sets.extend(args.output.iter().map(|path| format!("output={}", path.display())));
    let options = Options {
        write_self: true,
        overwrite: args.overwrite,
        cache: cache(args.no_cache),
        interrupt: Some((&interrupt::STOP).into()),
        ..args.recipe.machine.options()
    };
    let mut prepared = args.recipe.prepare(&options)?;
    prepared.provenance.no_samples = args.no_samples;
    args.recipe.tell_notes(&prepared);
    plan::measure_baseline(&prepared)?;
    carry_out(&prepared, &options, args.json)
}

/// Runs what was prepared, with progress, and prints both axes.
pub fn carry_out(prepared: &Prepared, options: &Options, as_json: bool) -> Outcome {
    let plan = prepared.plan();
    tell(format_args!("{} on {}; {}", plan.name, plan.base.description, plan.device));
    for (i, stage) in plan.stages.iter().enumerate() {
        tell(format_args!(
            "stage {}: {} ({}), {} steps, {} trained parameters, about {} of memory and {}",
            i + 1,
            stage.kind,
            stage.mode,
            stage.steps,
            count(stage.trained_parameters),
            bytes(stage.estimate.memory_bytes as u64),
            duration(stage.estimate.seconds),
        ));
    }
    let grave = |finding: &&temper_data::Finding| finding.severity != temper_data::Severity::Note;
    for finding in plan.stages.iter().flat_map(|stage| &stage.checks.findings).filter(grave) {
        tell(format_args!("{}: {finding}; done: {}", finding.severity, finding.action));
    }
    for warning in &plan.warnings {
        tell(format_args!("warning: {warning}"));
    }
    let mut reporter = Reporter::new();
    let summary = temper_pipeline::run(prepared, options, &mut |event| reporter.hear(event));
    reporter.finish();
    let summary = summary.map_err(|error| match error {
        PipelineError::Interrupted { .. } => {
            let folder = prepared.recipe.output.value.display();
            let error = anyhow!("{error}\nhint: `temper resume {folder}` goes on from there");
            Failure { code: INTERRUPTED, error: Some(error) }
        }
        other => Failure::from(other),
    })?;
    let text = if as_json {
        json(&summary)?
    } else {
        let verdict = summary.comparison.as_ref().map_or(String::new(), |comparison| verdict::text(comparison) + "\n");
        let report = summary.folder.join("report.html");
        let (folder, seconds) = (summary.folder.display(), duration(summary.seconds));
        format!("{verdict}report {}\nrun folder {folder}, {seconds} in all\n", report.display())
    };
    conclude(text, summary.comparison.as_ref().map_or(DONE, verdict::exit_code))
}

/// What preference pairs show beside their loss.
fn margin(m: &PreferenceMetrics) -> String {
    format!("accuracy {:.0} % margin {:+.3}", m.accuracies * 100.0, m.margins)
}

/// What completions earned.
fn rewards(means: &CompletionMeans) -> String {
    let reward = means.reward.map_or("no reward".to_owned(), |reward| format!("reward {reward:.3}"));
    let cut = if means.cut > 0.0 { format!(", {:.0} % cut", 100.0 * means.cut) } else { String::new() };
    let unscored = if means.unscored > 0 { format!(", {} unscored", means.unscored) } else { String::new() };
    format!("{reward}, {:.0} tokens{cut}{unscored}", means.completion_length)
}

/// Shows events: a bar where standard error is a terminal, else a line every few seconds.
pub struct Reporter {
    bar: ProgressBar,
    what: String,
    live: bool,
    last_line: Instant,
    validation: String,
    /// What the last round of a stage that reinforces earned; none of another stage.
    round: Option<String>,
    started: Instant,
    seen: f64,
    /// Steps that a resumed run need not make again.
    first_step: usize,
    /// Rows that the base had written before.
    first_row: usize,
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
            round: None,
            started: now,
            seen: 0.0,
            first_step: 0,
            first_row: 0,
        }
    }

    /// Ends the bar, so that what is printed next stands on a line of its own.
    pub fn finish(&mut self) {
        self.bar.finish_and_clear();
        self.what.clear();
    }

    /// A line of its own, above the bar.
    fn say(&self, message: &str) {
        if self.live { self.bar.println(message) } else { tell(message) }
    }

    /// Does something that prints, with the bar out of the way.
    pub fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    /// Shows that `done` of `total` is reached.
    pub fn show(&mut self, what: &str, done: u64, total: u64, message: String) {
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
            tell(format_args!("{what} {done}/{total} {message}"));
        }
    }

    /// Shows one event.
    pub fn hear(&mut self, event: &Event) {
        interrupt::hear(event);
        match event {
            Event::Download { what, done, total } => {
                self.show(&format!("fetching {what}"), *done, total.unwrap_or(*done), String::new());
            }
            Event::Writing { done, of } => {
                const WHAT: &str = "rows written by the base";
                if self.what != WHAT {
                    (self.started, self.first_row) = (Instant::now(), *done);
                    if *done > 0 {
                        self.say(&format!("going on after {done} rows that the base wrote before"));
                    }
                }
                let new = done - self.first_row;
                let left = self.started.elapsed().as_secs_f64() / new.max(1) as f64 * (of - done) as f64;
                let eta = if new > 0 && done < of { format!("{} left", duration(left)) } else { String::new() };
                self.show(WHAT, *done as u64, *of as u64, eta);
            }
            Event::Written { report } => {
                let dropped: Vec<String> = report.dropped.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
                let dropped = if dropped.is_empty() { "none".to_owned() } else { dropped.join(", ") };
                self.say(&format!(
                    "{}: {} rows written by the base, {} kept; dropped: {dropped}",
                    report.setting, report.rows, report.kept
                ));
            }
            Event::Stage { kind, .. } => {
                self.round = (kind == "rft").then(String::new);
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
            Event::Branched { step, from, .. } => {
                self.say(&format!(
                    "the first {step} steps are those of an earlier run of another length (from {from})"
                ));
            }
            Event::General { general: g, .. } => {
                let (change, low, high) = (g.relative * 100.0, g.low * 100.0, g.high * 100.0);
                let so_far = format!("{change:+.1} % [{low:+.1}, {high:+.1}] since the base");
                self.say(&format!("step {}: {} {:.4} nats per token, {so_far}", g.step, g.suite, g.loss));
            }
            Event::Baseline { baseline, .. } => self.say(plan::baseline_text(baseline).trim_end()),
            Event::Round { report, .. } => self.round = Some(rewards(&report.means)),
            Event::Reward { validation: v, .. } => {
                let pass: Vec<String> =
                    v.pass_at.iter().map(|(k, chance)| format!("pass@{k} {:.1} %", 100.0 * chance)).collect();
                let greedy = v.greedy_reward.map_or(String::new(), |reward| format!(", likeliest {reward:.3}"));
                self.say(&format!(
                    "step {}: {} over {} prompts{greedy}; {}",
                    v.step,
                    rewards(&v.means),
                    v.prompts,
                    pass.join(" ")
                ));
            }
            Event::Alarm { step, seen, advice, .. } => {
                self.say(&format!("alarm after step {step}: {seen}\nhint: {advice}"));
            }
            Event::Stopped { step, reason, advice, .. } => {
                self.say(&format!("ended early after step {step}: {reason}\nhint: {advice}"));
            }
            Event::Probing { name, kind } => self.say(&format!("checkpoint {name} ({kind})")),
            Event::Chosen { stage, reason, .. } => self.say(&format!("stage {}: {reason}", stage + 1)),
            Event::FirstStep { begun, done, phases } => {
                let mut parts: Vec<String> = Vec::new();
                for phase in phases.iter().filter(|phase| phase.seconds >= 0.05) {
                    parts.push(format!("{} {:.2}", phase.name, phase.seconds));
                }
                let parts = parts.join(", ");
                self.say(&format!("the first step began after {begun:.2} s and ended after {done:.2} s ({parts})"));
            }
            Event::Train { of, progress: Progress::Validation { step, loss, best, preference, .. }, .. } => {
                let pairs = preference.map_or(String::new(), |m| format!(", {}", margin(&m)));
                let shown = if self.round.is_some() { format!("reward {:.4}", -loss) } else { format!("{loss:.4}") };
                self.validation = format!("validation {shown}{}{pairs}", if *best { " (best)" } else { "" });
                self.say(&format!("step {step} of {of}: {}", self.validation));
            }
            Event::Train { of, progress: Progress::Step(r), .. } => {
                self.seen += r.processed_tokens as f64;
                let elapsed = self.started.elapsed().as_secs_f64();
                let eta = elapsed / (r.step - self.first_step).max(1) as f64 * (of - r.step) as f64;
                let pairs = match (&r.preference, &r.policy) {
                    (Some(m), _) => format!("{} ", margin(m)),
                    (_, Some(p)) => {
                        let round = self.round.as_deref().unwrap_or_default();
                        format!("{round} entropy {:.2} kl {:.4} ", p.entropy, p.kl.unwrap_or(0.0))
                    }
                    _ => String::new(),
                };
                let message = format!(
                    "loss {:.4} {pairs}lr {:.2e} norm {:.2} {:.0} tok/s ETA {} {}",
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
