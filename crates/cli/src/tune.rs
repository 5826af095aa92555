//! `temper tune`: many versions of a recipe, chosen by search, judged on two axes; and one recommendation.

mod answer;
mod board;
#[cfg_attr(feature = "aws", path = "tune/jobs.rs")]
#[cfg_attr(not(feature = "aws"), path = "tune/no_jobs.rs")]
mod jobs;
mod plan;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use temper_pipeline::tune::{Budget, Clock, Ears, Finish, Over, Study, StudyPlan, edits};
use temper_pipeline::{Options, PipelineError};

use temper_search::store::{Opening, Store};

use self::board::Board;
use crate::base::MachineArgs;
use crate::command::{DONE, Failure, INTERRUPTED, Outcome, conclude, json, tell};
use crate::interrupt;
use crate::run::cache;

/// Search for the values that work: many versions of a recipe, on two axes, the doomed stopped early.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    study: StudyArgs,
    /// Ends after so many trials have begun.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    trials: Option<u64>,
    /// Ends after so many minutes, finalists and test with them, and all earlier commands that worked on the study.
    #[arg(long, value_parser = parse_minutes)]
    minutes: Option<f64>,
    /// Ends after training on so many tokens.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    tokens: Option<u64>,
    /// Workers on this machine, which share its threads; each carries out one trial at a time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=256))]
    workers: u64,
    /// Shows what the search will take, and does nothing.
    #[arg(long)]
    plan: bool,
    /// Writes the recipe with the recommended values to this file; nothing where no trial kept every constraint.
    #[arg(long, value_name = "FILE")]
    apply: Option<PathBuf>,
    /// Moves an older study of that folder aside (to NAME.1) instead of going on with it.
    #[arg(long)]
    overwrite: bool,
    /// The answer as JSON on standard output.
    #[arg(long)]
    json: bool,
}

/// Work on a study that `temper tune` began, here or on another machine that sees its files.
#[derive(clap::Args)]
pub struct WorkerArgs {
    /// The recipe, or the file of a study whose trials a program carries out. Left out: what the study at `--study` was begun with.
    recipe: Option<PathBuf>,
    /// Overrides a value, as `temper tune` was told to.
    #[arg(long = "set", value_name = "PATH=VALUE", requires = "recipe")]
    sets: Vec<String>,
    /// Which study, where there are several at `--study`.
    #[arg(long, requires = "study")]
    name: Option<String>,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Which study.
#[derive(Clone, clap::Args)]
struct StudyArgs {
    /// The recipe, or the file of a study whose trials a program carries out.
    recipe: PathBuf,
    /// Overrides a value: `stages.0.max_steps=60`.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    sets: Vec<String>,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Where it is, and this worker's part in it.
#[derive(Clone, clap::Args)]
struct PlaceArgs {
    /// Where trials are kept: a file of SQLite, or `postgres://USER:PASSWORD@HOST/DATABASE`. Left out: study.sqlite in the study's
    /// folder.
    #[arg(long, value_name = "URL")]
    study: Option<String>,
    /// Goes on with a study whose space was another. What it holds of the older trials is learnt from, by name.
    #[arg(long)]
    change_space: bool,
    /// Seconds without a sign of life after which a worker is taken for lost, and its trial taken over.
    #[arg(long, default_value_t = 60.0, value_name = "SECONDS", value_parser = parse_lease)]
    lease: f64,
    #[command(flatten)]
    machine: MachineArgs,
}

fn parse_lease(text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.5..=86_400.0).contains(seconds));
    seconds.ok_or_else(|| "expected 0.5 to 86400 seconds".to_owned())
}

fn parse_minutes(text: &str) -> Result<f64, String> {
    let minutes = text.parse::<f64>().ok().filter(|minutes| minutes.is_finite() && *minutes > 0.0);
    minutes.ok_or_else(|| "expected a number above 0".to_owned())
}

/// What this machine is called in the store.
fn worker_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "worker".to_owned(), |name| name.trim().to_owned())
}

impl PlaceArgs {
    fn options(&self) -> Options {
        Options {
            write_self: true,
            cache: cache(false),
            interrupt: Some((&interrupt::STOP).into()),
            ..self.machine.options()
        }
    }

    /// Opens the study's store.
    fn open(&self, study: &Study) -> Result<Store, PipelineError> {
        let address = self.study.clone().unwrap_or_else(|| study.address());
        let lease = Duration::from_secs_f64(self.lease);
        let opening = Opening { worker: worker_name(), lease, change_space: self.change_space };
        study.open(&address, &opening)
    }
}

pub fn run(args: &Args) -> Outcome {
    let begun = Instant::now();
    let study = jobs::with(Study::load(&args.study.recipe, &args.study.sets)?);
    let given =
        Budget { trials: args.trials, seconds: args.minutes.map(|minutes| 60.0 * minutes), tokens: args.tokens };
    let budget = Budget::of(&study.tune, given);
    if args.overwrite && !args.plan {
        temper_run::move_aside(&study.folder).map_err(Failure::run)?;
    }
    let mut options = args.study.place.options();
    options.threads = (options.threads / args.workers as usize).max(1);
    let board = Board::new(&study);
    let ears = Ears { tell: &|told, store| board.tell(told, store), hear: &|event| board.hear(event) };
    // The speed of this hour decides how many trials there is time for.
    let own = study.prepare_own(&Options { measure: true, ..options.clone() }, &ears)?;
    let plan = own.as_ref().map(|own| study.plan(own, budget, &options, &ears)).transpose()?;
    drop(own);
    board.quiet();
    if let Some(plan) = &plan {
        let text = plan::text(plan, &study.searchable.notes);
        if args.plan {
            return conclude(if args.json { json(plan)? } else { text }, DONE);
        }
        tell(text.trim_end());
    } else {
        study.searchable.notes.iter().for_each(|note| tell(format_args!("note: {note}")));
        if args.plan && study.tune.trainer.as_ref().is_some_and(|trainer| trainer.jobs().is_some()) {
            return jobs::plan(&study, budget, args.json);
        }
        if args.plan {
            return conclude("what a program takes is not known before its first trial\n", DONE);
        }
    }
    jobs::ready(&study)?;
    let mut store = args.study.place.open(&study)?;
    study.keep_budget(&mut store, budget, plan.as_ref())?;
    let clock = Clock::read(&mut store, begun).map_err(PipelineError::from)?;
    board.begin(budget, plan.as_ref(), clock);
    let helpers = Helpers::start(args, &study.folder, &options)?;
    let mut store = Some(store);
    let over = study.work(&mut store, (budget, plan.as_ref()), clock, &options, &ears);
    board.quiet();
    if matches!(over, Ok(Over::Interrupted) | Err(_)) {
        helpers.stop();
    } else {
        helpers.wait()?;
    }
    let over = over?;
    let mut store = store.ok_or_else(|| Failure::run(anyhow!("the store was lost")))?;
    if over == Over::Interrupted {
        study.write_page(&mut store, None)?;
        return paused(args);
    }
    let finish = study.finish(&mut store, (budget, clock), &options, &ears);
    board.quiet();
    let Some(finish) = finish? else { return paused(args) };
    let applied = args.apply.as_deref().map(|file| apply(&study, &finish, file)).transpose()?;
    let page = study.write_page(&mut store, Some(&finish))?;
    let text = if args.json {
        json(&finish)?
    } else {
        let mut text = answer::text(&study, &finish, &mut store)?;
        text.push_str(&format!("\nreport {}\nstudy {}\n", page.display(), finish.store));
        text.push_str(&applied.map_or(String::new(), |file| format!("recipe {}\n", file.display())));
        text
    };
    conclude(text, answer::exit_code(&finish))
}

/// What Ctrl-C leaves.
fn paused(args: &Args) -> Outcome {
    let recipe = args.study.recipe.display();
    let error = anyhow!("paused; trials keep their checkpoints\nhint: `temper tune {recipe}` goes on from there");
    Err(Failure { code: INTERRUPTED, error: Some(error) })
}

/// `temper worker`: as many trials as there are to be done.
pub fn work(args: &WorkerArgs) -> Outcome {
    let study = match (&args.recipe, &args.place.study) {
        (Some(recipe), _) => jobs::with(Study::load(recipe, &args.sets)?),
        (None, Some(address)) => jobs::with(Study::at(address, args.name.as_deref())?),
        (None, None) => {
            let hint = "temper worker RECIPE, or temper worker --study URL";
            return Err(Failure::input(anyhow!("which study? expected a recipe or --study\nhint: {hint}")));
        }
    };
    let options = args.place.options();
    let board = Board::new(&study);
    let ears = Ears { tell: &|told, store| board.tell(told, store), hear: &|event| board.hear(event) };
    let mut store = args.place.open(&study)?;
    let (budget, plan): (Budget, Option<StudyPlan>) = study.kept_budget(&mut store)?;
    let clock = Clock::read(&mut store, Instant::now()).map_err(PipelineError::from)?;
    board.begin(budget, plan.as_ref(), clock);
    let mut store = Some(store);
    let over = study.work(&mut store, (budget, plan.as_ref()), clock, &options, &ears);
    board.quiet();
    match over? {
        Over::Done => Ok(DONE),
        Over::Interrupted => Err(Failure { code: INTERRUPTED, error: Some(anyhow!("paused")) }),
    }
}

/// Other workers on this machine, as processes of their own.
struct Helpers(Vec<Child>);

impl Helpers {
    fn start(args: &Args, folder: &Path, options: &Options) -> Result<Self, Failure> {
        let program = std::env::current_exe().context("cannot find this program").map_err(Failure::run)?;
        let start = |number: u64| {
            let mut command = Command::new(&program);
            command.arg("worker").arg(&args.study.recipe).arg("--threads").arg(options.threads.to_string());
            command.args(args.study.sets.iter().flat_map(|set| ["--set", set]));
            command.args(args.study.place.study.iter().flat_map(|url| ["--study", url]));
            command.arg("--lease").arg(args.study.place.lease.to_string());
            command.args(options.offline.then_some("--offline"));
            let log = folder.join(format!("worker-{number}.log"));
            let log = std::fs::File::create(&log).with_context(|| format!("cannot create {}", log.display()));
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.map_err(Failure::run)?);
            in_own_group(&mut command);
            command.spawn().context("cannot start a worker").map_err(Failure::run)
        };
        (1..args.workers).map(start).collect::<Result<_, _>>().map(Self)
    }

    /// They end by themselves: nothing is left for them either.
    fn wait(mut self) -> Result<(), Failure> {
        for child in &mut self.0 {
            child.wait().context("cannot wait for a worker").map_err(Failure::run)?;
        }
        self.0.clear();
        Ok(())
    }

    /// They pause their trials.
    fn stop(mut self) {
        for child in &mut self.0 {
            interrupt_process(child);
        }
        for child in &mut self.0 {
            // One that cannot be waited for has ended.
            let _ = child.wait();
        }
        self.0.clear();
    }
}

/// Ctrl-C in the terminal is for this process alone, which passes it on once: twice would end a worker at once.
fn in_own_group(command: &mut Command) {
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    #[cfg(not(unix))]
    let _ = command;
}

/// As Ctrl-C does; where there are no signals the process is ended, and its trial taken over by the next worker that comes.
fn interrupt_process(child: &mut Child) {
    #[cfg(unix)]
    if let Some(process) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        // One that has ended already need not be told.
        let _ = rustix::process::kill_process(process, rustix::process::Signal::INT);
    }
    #[cfg(not(unix))]
    let _ = child.kill();
}

/// Writes the recipe with the recommended values.
fn apply(study: &Study, finish: &Finish, file: &Path) -> Result<PathBuf, Failure> {
    let refuse = |what: &str| Failure::input(anyhow!("--apply {}: {what}", file.display()));
    let jobs = study.tune.trainer.as_ref().and_then(|trainer| trainer.jobs());
    if study.recipe.is_none() && jobs.is_none() {
        return Err(refuse("a program's values are in tune.json of the study"));
    }
    if finish.answer.recommended.is_none() || !finish.answer.feasible {
        return Err(refuse("no trial kept every constraint, so that nothing is written"));
    }
    let folder = |file: &Path| std::path::absolute(file).ok().and_then(|file| file.parent().map(Path::to_owned));
    if jobs.is_none() && folder(file) != folder(&study.file) {
        return Err(refuse("paths in a recipe start at its folder: write it beside the one that was searched"));
    }
    // Of jobs it is Nova's own recipe.
    let from = jobs.map_or(&study.file, |jobs| &jobs.recipe.value);
    let text = std::fs::read_to_string(from)
        .with_context(|| format!("cannot read {}", from.display()))
        .map_err(Failure::run)?;
    let changes = edits(&study.searchable.space, &finish.values);
    let edited = temper_recipe::edit(&text, &changes).map_err(Failure::input)?;
    temper_run::write_atomic(file, edited.as_bytes()).map_err(|error| Failure::from(PipelineError::Run(error)))?;
    Ok(file.to_owned())
}
