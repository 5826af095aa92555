//! `temper tune`: many versions of a recipe, chosen by search, judged on two axes; and one recommendation.

mod answer;
mod board;
mod plan;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, anyhow};
use temper_pipeline::tune::{Budget, Ears, Finish, Over, Study, StudyPlan, edits};
use temper_pipeline::{Options, PipelineError};

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
    /// Ends after so many minutes, finalists and test with them.
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
    #[command(flatten)]
    study: StudyArgs,
}

/// Which study.
#[derive(Clone, clap::Args)]
struct StudyArgs {
    /// The recipe, or the file of a study whose trials a program carries out.
    recipe: PathBuf,
    /// Overrides a value: `stages.0.max_steps=60`.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    sets: Vec<String>,
    /// Where trials are kept: a file of SQLite, or `postgres://USER:PASSWORD@HOST/DATABASE`. Left out: study.sqlite in the study's
    /// folder.
    #[arg(long, value_name = "URL")]
    study: Option<String>,
    #[command(flatten)]
    machine: MachineArgs,
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

impl StudyArgs {
    fn options(&self) -> Options {
        Options {
            write_self: true,
            cache: cache(false),
            interrupt: Some((&interrupt::STOP).into()),
            ..self.machine.options()
        }
    }

    fn address(&self, study: &Study) -> String {
        self.study.clone().unwrap_or_else(|| study.address())
    }
}

pub fn run(args: &Args) -> Outcome {
    let begun = Instant::now();
    let study = Study::load(&args.study.recipe, &args.study.sets)?;
    let given =
        Budget { trials: args.trials, seconds: args.minutes.map(|minutes| 60.0 * minutes), tokens: args.tokens };
    let budget = Budget::of(&study.tune, given);
    if args.overwrite && !args.plan {
        temper_run::move_aside(&study.folder).map_err(Failure::run)?;
    }
    let mut options = args.study.options();
    options.threads = (options.threads / args.workers as usize).max(1);
    let board = Board::new(&study);
    let ears = Ears { tell: &|told, store| board.tell(told, store), hear: &|event| board.hear(event) };
    let own = study.prepare_own(&Options { measure: false, ..options.clone() }, &ears)?;
    let plan = own.as_ref().map(|own| study.plan(own, budget));
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
        if args.plan {
            return conclude("what a program takes is not known before its first trial\n", DONE);
        }
    }
    let address = args.study.address(&study);
    let mut store = study.open(&address, &worker_name())?;
    study.keep_budget(&mut store, budget, plan.as_ref())?;
    board.begin(budget, plan.as_ref(), begun);
    let helpers = Helpers::start(args, &options)?;
    let mut store = Some(store);
    let over = study.work(&mut store, (budget, plan.as_ref()), begun, &options, &ears);
    board.quiet();
    if matches!(over, Ok(Over::Interrupted) | Err(_)) {
        helpers.stop();
    } else {
        helpers.wait()?;
    }
    let over = over?;
    let mut store = store.ok_or_else(|| Failure::run(anyhow!("the store was lost")))?;
    if over == Over::Interrupted {
        return paused(args);
    }
    let finish = study.finish(&mut store, &options, &ears);
    board.quiet();
    let Some(finish) = finish? else { return paused(args) };
    let applied = args.apply.as_deref().map(|file| apply(&study, &finish, file)).transpose()?;
    let page = finish.folder.join("tune.json");
    let text = if args.json {
        json(&finish)?
    } else {
        let mut text = answer::text(&finish, store.history());
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
    let study = Study::load(&args.study.recipe, &args.study.sets)?;
    let options = args.study.options();
    let board = Board::new(&study);
    let ears = Ears { tell: &|told, store| board.tell(told, store), hear: &|event| board.hear(event) };
    let address = args.study.address(&study);
    let mut store = study.open(&address, &worker_name())?;
    let (budget, plan): (Budget, Option<StudyPlan>) = study.kept_budget(&mut store)?;
    board.begin(budget, plan.as_ref(), Instant::now());
    let mut store = Some(store);
    let over = study.work(&mut store, (budget, plan.as_ref()), Instant::now(), &options, &ears);
    board.quiet();
    match over? {
        Over::Done => Ok(DONE),
        Over::Interrupted => Err(Failure { code: INTERRUPTED, error: Some(anyhow!("paused")) }),
    }
}

/// Other workers on this machine, as processes of their own.
struct Helpers(Vec<Child>);

impl Helpers {
    fn start(args: &Args, options: &Options) -> Result<Self, Failure> {
        let program = std::env::current_exe().context("cannot find this program").map_err(Failure::run)?;
        let start = |_| {
            let mut command = Command::new(&program);
            command.arg("worker").arg(&args.study.recipe).arg("--threads").arg(options.threads.to_string());
            command.args(args.study.sets.iter().flat_map(|set| ["--set", set]));
            command.args(args.study.study.iter().flat_map(|url| ["--study", url]));
            command.args(options.offline.then_some("--offline"));
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
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

    /// Ctrl-C in a terminal has reached them too; what ends otherwise ends them.
    fn stop(mut self) {
        for child in &mut self.0 {
            // One that has ended already cannot be stopped, and need not. Its trial is taken over by the next that comes.
            let _ = child.kill();
            let _ = child.wait();
        }
        self.0.clear();
    }
}

/// Writes the recipe with the recommended values.
fn apply(study: &Study, finish: &Finish, file: &Path) -> Result<PathBuf, Failure> {
    let refuse = |what: &str| Failure::input(anyhow!("--apply {}: {what}", file.display()));
    if study.recipe.is_none() {
        return Err(refuse("a program's values are in tune.json of the study"));
    }
    if finish.answer.recommended.is_none() || !finish.answer.feasible {
        return Err(refuse("no trial kept every constraint, so that nothing is written"));
    }
    let folder = |file: &Path| std::path::absolute(file).ok().and_then(|file| file.parent().map(Path::to_owned));
    if folder(file) != folder(&study.file) {
        return Err(refuse("paths in a recipe start at its folder: write it beside the one that was searched"));
    }
    let text = std::fs::read_to_string(&study.file)
        .with_context(|| format!("cannot read {}", study.file.display()))
        .map_err(Failure::run)?;
    let edited = temper_recipe::edit(&text, &edits(study, finish)).map_err(Failure::input)?;
    temper_run::write_atomic(file, edited.as_bytes()).map_err(|error| Failure::from(PipelineError::Run(error)))?;
    Ok(file.to_owned())
}
