//! What a search shows while it goes: a line of progress for the trial at hand, and a line for each thing that is decided.

use std::io::IsTerminal;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use temper_pipeline::Event;
use temper_pipeline::tune::{Answer, Budget, Clock, Study, StudyPlan, Told};
use temper_report::duration;
use temper_search::store::Store;
use temper_search::{Decision, Goals, Measured, State};

use crate::command::tell;
use crate::interrupt;

/// Characters of a line of the table, and its lines.
const WIDTH: usize = 100;
const ROWS: usize = 10;

/// The board. Trials of other workers are seen when this one looks at the store.
pub struct Board<'a> {
    study: &'a Study,
    inner: Mutex<Inner>,
}

struct Inner {
    bar: ProgressBar,
    live: bool,
    /// The study's time; none before the search begins.
    clock: Option<Clock>,
    /// What the search may take, or else, by the plan, will.
    seconds: Option<f64>,
    bounded: bool,
    trials: Option<u64>,
    objectives: Vec<String>,
    /// Of the trial at hand: number, and when it began.
    trial: Option<(u64, Instant)>,
    /// The trials so far.
    table: String,
}

impl<'a> Board<'a> {
    pub fn new(study: &'a Study) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        let objectives = study.measures.goals().objectives.iter().map(|objective| objective.name.clone()).collect();
        let live = std::io::stderr().is_terminal();
        let inner = Inner {
            bar,
            live,
            clock: None,
            seconds: None,
            bounded: false,
            trials: None,
            objectives,
            trial: None,
            table: String::new(),
        };
        Self { study, inner: Mutex::new(inner) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The search begins.
    pub fn begin(&self, budget: Budget, plan: Option<&StudyPlan>, clock: Clock) {
        let mut inner = self.inner();
        inner.bar.reset();
        inner.clock = Some(clock);
        inner.seconds = budget.seconds.or(plan.map(|plan| plan.seconds));
        inner.bounded = budget.seconds.is_some();
        inner.trials = budget.trials.or(plan.map(|plan| plan.trials));
    }

    /// Takes the line of progress away.
    pub fn quiet(&self) {
        self.inner().bar.finish_and_clear();
    }

    /// What happens within a trial that matters here.
    pub fn hear(&self, event: &Event) {
        interrupt::hear(event);
        let inner = self.inner();
        match event {
            Event::Warning { message } => inner.say(&format!("warning: {message}")),
            Event::Evaluating { suite, side, done, total } => {
                inner.show(&format!("{suite} ({side})"), *done as f64 / (*total).max(1) as f64, "");
            }
            Event::Download { what, done, total } => {
                inner.show(&format!("fetching {what}"), *done as f64 / total.unwrap_or(*done).max(1) as f64, "");
            }
            _ => {}
        }
    }

    /// What the search tells.
    pub fn tell(&self, told: &Told, store: &Store) {
        let mut inner = self.inner();
        match told {
            Told::Began { number, again, reason } => {
                inner.trial = Some((*number, Instant::now()));
                let trial = store.history().trial(*number);
                let values = trial.map_or(String::new(), |trial| {
                    let values = trial.point.iter().map(|(name, value)| format!("{} {value}", short(name)));
                    values.collect::<Vec<_>>().join(", ")
                });
                let by = match (again, reason) {
                    (true, _) => " goes on".to_owned(),
                    (false, Some(reason)) => format!(" ({reason})"),
                    (false, None) => String::new(),
                };
                inner.say(&format!("trial {number}{by}: {values}"));
            }
            Told::Progress { number, share } => {
                let open = |state: State| matches!(state, State::Running | State::Stale);
                let trials = store.history().trials();
                let others = trials.iter().filter(|trial| open(trial.state) && trial.number != *number).count();
                let mut message = format!("{:3.0} %", 100.0 * share);
                if let Some(left) = inner.left() {
                    message.push_str(&format!("  {left}"));
                }
                if others > 0 {
                    message.push_str(&format!("  {others} by other workers"));
                }
                inner.show(&format!("trial {number}"), *share, &message);
            }
            Told::Reported { number, report, decision } => {
                let values = inner.values(store.history().goals(), &report.measured);
                let what = match decision {
                    Decision::Continue => String::new(),
                    Decision::Pause { reason } => format!("; paused: {reason}"),
                    Decision::Stop { reason } => format!("; ended: {reason}"),
                };
                inner.say(&format!("trial {number} at {:.1} %: {values}{what}", report.step as f64 / 10.0));
            }
            Told::Ended { number, state, reason } => {
                if let (State::Failed, Some(reason)) = (state, reason) {
                    inner.say(&format!("trial {number} failed: {reason}"));
                }
                if *state == State::Complete {
                    let answer = Answer::of(store.history(), &[]);
                    inner.say(&format!("best so far: {}", answer.reason));
                }
            }
            Told::Repeats { number, seed } => {
                inner.trial = Some((*number, Instant::now()));
                inner.say(&format!("trial {number} once more, under seed {seed}"));
            }
            Told::Closing { reason } => inner.say(&format!("no new trials: {reason}")),
        }
        if inner.live && !matches!(told, Told::Progress { .. }) {
            let page = self.study.page(store.history(), &[], None);
            inner.table = temper_report::study::text::trials(&page, WIDTH, ROWS);
            inner.draw("");
        }
    }
}

impl Inner {
    fn say(&self, message: &str) {
        if self.live { self.bar.println(message) } else { tell(message) }
    }

    /// Progress of what is at hand.
    fn show(&self, what: &str, share: f64, message: &str) {
        const CELLS: usize = 24;
        let full = ((share * CELLS as f64) as usize).min(CELLS);
        self.draw(&format!("{what} [{}{}] {message}", "#".repeat(full), ".".repeat(CELLS - full)));
    }

    /// The table with a line below it.
    fn draw(&self, line: &str) {
        if self.live {
            self.bar.set_message(format!("\n{}\n{line}", self.table.trim_end()));
            self.bar.tick();
        }
    }

    /// What is left of the time.
    fn left(&self) -> Option<String> {
        let seconds = self.seconds? - self.clock?.seconds();
        let left = duration(seconds.max(0.0));
        Some(if self.bounded { format!("{left} left") } else { format!("ETA about {left}") })
    }

    fn values(&self, goals: &Goals, measured: &Measured) -> String {
        let mut said: Vec<String> =
            self.objectives.iter().zip(&measured.values).map(|(name, value)| format!("{name} {value:.4}")).collect();
        let broken = goals.constraints.iter().zip(&measured.constraints);
        said.extend(
            broken.filter(|(_, by)| by.is_nan() || **by > 0.0).map(|(name, by)| format!("{name} broken by {by:.2}")),
        );
        said.join(", ")
    }
}

/// The last part of a field's path, which is what differs.
fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}
