//! `temper reward`: rewards put to the test before a model is trained on them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::{Args, Subcommand};
use serde::Serialize;
use temper_pipeline::{Options, RewardTrial, TrialModel};
use temper_recipe::{Reward, RewardFile};
use temper_reward::sandbox::{Confinement, enter};
use temper_reward::trial::{Line, Trial, TrialRow, TrialSettings, Verdict, try_rewards};
use temper_reward::{Error, Rewards};

use crate::base::{check_adapter, prepare};
use crate::command::{DONE, Failure, Outcome, REFUSED, conclude, json, print, tell};
use crate::run::Reporter;
use crate::table::table;

/// Test rewards: `temper reward test`.
#[derive(Subcommand)]
pub enum Command {
    Test(TestArgs),
    #[command(hide = true)]
    Sandboxed(SandboxedArgs),
}

/// Put rewards to the test: failures, determinism, agreement with the reference, discrimination, spread, biases, speed.
///
/// Each row is scored with its completions and with probes made of it: its reference, another row's, rubbish, nothing. All of it
/// twice, the second time in another order and in other batches. Ends with 4 where a check finds an error.
#[derive(Args)]
pub struct TestArgs {
    /// A recipe with a stage of `kind: rft`, a YAML file with `rewards:`, a Python file with a function, or an executable that speaks
    /// JSON lines.
    file: PathBuf,
    /// Rows to score, one JSON object a line: `messages` or `prompt`, `reference_answer`, and whatever the rewards read. Of a recipe,
    /// its training prompts where left out.
    #[arg(long)]
    rows: Option<PathBuf>,
    /// Of a recipe: for so many prompts the model that the stage starts from writes completions, as many and as the stage samples
    /// them. After other stages that is what these left in the recipe's run or in the cache; where they left nothing, the base.
    #[arg(long, default_value_t = 20, value_name = "PROMPTS")]
    sample: usize,
    /// Of a recipe: a run of it, in which the model is found that the stage starts from.
    #[arg(long, conflicts_with_all = ["rows", "completions"])]
    run: Option<PathBuf>,
    /// Of a recipe: an adapter folder over its base, which writes the completions.
    #[arg(long, conflicts_with_all = ["rows", "completions", "run"])]
    adapter: Option<PathBuf>,
    /// Takes an adapter that was trained over other weights.
    #[arg(long, requires = "adapter")]
    any_base: bool,
    /// What a model wrote: lines with the `id` of a row, and `completion` or `completions`. Without `--rows` the lines are rows
    /// themselves.
    #[arg(long)]
    completions: Option<PathBuf>,
    /// What a right completion looks like, with fields of the row in braces: `<answer>{reference_answer}</answer>`.
    #[arg(long, value_name = "TEXT")]
    reference_as: Option<String>,
    /// Lay a value over the file: `--set rewards.0.sandbox=required`.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    sets: Vec<String>,
    /// Samples in a batch.
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Seed of the second order, and of the rewards' own chance.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Folder for the programs' logs; left out, they are shown where something failed, and go away.
    #[arg(long)]
    logs: Option<PathBuf>,
    /// What was found as JSON.
    #[arg(long)]
    json: bool,
}

/// Confine this process, and become a command; without one, say which parts of the sandbox there are.
#[derive(Args)]
pub struct SandboxedArgs {
    #[arg(long)]
    folder: PathBuf,
    #[arg(long)]
    memory: Option<u64>,
    #[arg(long)]
    cpu_seconds: Option<u64>,
    #[arg(long)]
    best_effort: bool,
    #[arg(last = true)]
    command: Vec<OsString>,
}

pub fn run(command: &Command) -> Outcome {
    match command {
        Command::Test(args) => test(args),
        Command::Sandboxed(args) => sandboxed(args),
    }
}

fn sandboxed(args: &SandboxedArgs) -> Outcome {
    let SandboxedArgs { folder, memory, cpu_seconds, best_effort, command } = args;
    let confinement =
        Confinement { folder: folder.clone(), memory: *memory, cpu_seconds: *cpu_seconds, best_effort: *best_effort };
    let parts = enter(&confinement, command).map_err(|problem| Failure::run(anyhow!("{problem}")))?;
    conclude(json(&parts)?, DONE)
}

/// What was found, and who wrote the completions.
#[derive(Serialize)]
struct Found<'t> {
    #[serde(flatten)]
    trial: &'t Trial,
    completions_by: Option<String>,
    warning: Option<String>,
}

fn test(args: &TestArgs) -> Outcome {
    let RewardTrial { rewards, rows: own_rows, completions_by, warning } = rewards_of(args)?;
    if let Some(warning) = &warning {
        tell(format_args!("warning: {warning}"));
    }
    let rows = match (&args.rows, &args.completions) {
        (None, None) if !own_rows.is_empty() => own_rows,
        (Some(rows), completions) => {
            let mut rows = TrialRow::read(rows).map_err(failure)?;
            if let Some(file) = completions {
                TrialRow::add_completions(&mut rows, file).map_err(failure)?;
            }
            rows
        }
        (None, Some(completions)) => TrialRow::read(completions).map_err(failure)?,
        (None, None) => {
            return Err(Failure::input(anyhow!(
                "nothing to score\nhint: give --rows, --completions or both, or a recipe"
            )));
        }
    };
    let passing = tempfile::tempdir().map_err(|error| Failure::run(anyhow!("cannot make a folder: {error}")))?;
    let folder = args.logs.as_deref().unwrap_or(passing.path());
    let settings = TrialSettings { seed: args.seed, reference_as: args.reference_as.clone(), batch: args.batch };
    let tried = Rewards::open(&rewards, args.seed, folder)
        .map(Rewards::tolerant)
        .and_then(|opened| try_rewards(&opened, &rows, &settings));
    let trial = match tried {
        Ok(trial) => trial,
        Err(error) => {
            tell_logs(&rewards, folder);
            return Err(failure(error));
        }
    };
    if trial.table.iter().any(|line| line.counts.failures() > 0) {
        tell_logs(&rewards, folder);
    }
    let worst = trial.findings.iter().map(|finding| finding.verdict).max();
    let code = if worst == Some(Verdict::Error) { REFUSED } else { DONE };
    for note in Rewards::notes(&rewards) {
        tell(format_args!("note: {note}"));
    }
    match args.json {
        true => conclude(json(&Found { trial: &trial, completions_by, warning })?, code),
        false => {
            print(shown(&trial, completions_by.as_deref()))?;
            Ok(code)
        }
    }
}

/// Rows of a recipe that its rewards are tried on.
const ROWS: usize = 100;

/// The rewards; of a recipe with its prompts, some of them answered.
fn rewards_of(args: &TestArgs) -> Result<RewardTrial, Failure> {
    let (file, sets) = (&args.file, &args.sets);
    let yaml = file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
    let is_recipe = yaml
        && std::fs::read_to_string(file)
            .is_ok_and(|text| text.lines().any(|line| line.split(':').next() == Some("stages")));
    if !is_recipe {
        if let Some(flag) = args.run.as_ref().map(|_| "--run").or(args.adapter.as_ref().map(|_| "--adapter")) {
            return Err(Failure::input(anyhow!(
                "{flag}: {} names no base that could write completions\nhint: give a recipe, or --completions",
                file.display()
            )));
        }
        let rewards =
            if yaml { RewardFile::load(file, sets)?.0.rewards } else { RewardFile::of_program(file, sets)?.rewards };
        return Ok(RewardTrial { rewards, rows: Vec::new(), completions_by: None, warning: None });
    }
    args.adapter.as_deref().map_or(Ok(()), check_adapter)?;
    let options = Options { cache: crate::run::cache(false), ..Options::default() };
    let prepared = prepare(file, sets, &options)?;
    let mut reporter = Reporter::new();
    let given = args.rows.is_some() || args.completions.is_some();
    let answered = if given { 0 } else { args.sample };
    let model = match (&args.run, &args.adapter) {
        (Some(run), _) => TrialModel::Run(run.clone()),
        (None, Some(folder)) => TrialModel::Adapter { folder: folder.clone(), any_base: args.any_base },
        (None, None) => TrialModel::Start,
    };
    let trial = prepared.reward_trial((ROWS, answered), &model, &options, &mut |event| reporter.hear(event));
    reporter.finish();
    match trial? {
        Some(trial) => Ok(RewardTrial { rows: if given { Vec::new() } else { trial.rows }, ..trial }),
        None => Err(Failure::input(anyhow!(
            "{}: no stage of this recipe has rewards\nhint: a stage of `kind: rft` has",
            file.display()
        ))),
    }
}

/// Bad input but where a reward broke its contract in running.
fn failure(error: Error) -> Failure {
    match error {
        Error::Unfit { .. } | Error::Io { .. } => Failure::input(error),
        _ => Failure::run(error),
    }
}

/// The last lines of what programs printed.
fn tell_logs(rewards: &[Reward], folder: &Path) {
    const LINES: usize = 12;
    for reward in rewards {
        let log = std::fs::read(folder.join(format!("{}.log", reward.name.value))).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        if !lines.is_empty() {
            tell(format_args!("last lines of reward `{}`:", reward.name.value));
            lines[lines.len().saturating_sub(LINES)..].iter().for_each(|line| tell(format_args!("  {line}")));
        }
    }
}

/// The trial as people read it.
fn shown(trial: &Trial, completions_by: Option<&str>) -> String {
    let score = |score: Option<f64>| score.map_or("-".to_owned(), |score| format!("{score:.3}"));
    let millis = |seconds: Option<f64>| seconds.map_or("-".to_owned(), |seconds| format!("{:.1}", 1e3 * seconds));
    let cells = |line: &Line| {
        let Line { name, held_out, completions, reference, other, rubbish, empty, counts, .. } = line;
        let total = name == "total";
        let count = |count: usize| if total { String::new() } else { count.to_string() };
        vec![
            if *held_out { format!("{name} (held out)") } else { name.clone() },
            score(*completions),
            score(*reference),
            score(*other),
            score(*rubbish),
            score(*empty),
            count(counts.failures()),
            count(counts.abstained),
            if total { String::new() } else { millis(line.median_seconds) },
            if total { String::new() } else { millis(line.p95_seconds) },
        ]
    };
    let heads = [
        "reward",
        "completions",
        "reference",
        "other's",
        "rubbish",
        "empty",
        "failed",
        "abstained",
        "ms median",
        "ms 95 %",
    ];
    let means = table(&heads, trial.table.iter().map(cells).collect(), &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
    let by = completions_by.map_or(String::new(), |by| format!(" by {by}"));
    let mut text = format!("{} rows, {} completions{by}; mean scores:\n{means}\n\n", trial.rows, trial.completions);
    for finding in &trial.findings {
        let word = match finding.verdict {
            Verdict::Ok => "ok",
            Verdict::Unknown => "-",
            Verdict::Warning => "warn",
            Verdict::Error => "error",
        };
        text.push_str(&format!("{word:5}  {:18}  {}\n", finding.check, finding.found));
        if let Some(hint) = finding.hint.filter(|hint| !hint.is_empty()) {
            text.push_str(&format!("{:27}hint: {hint}\n", ""));
        }
    }
    text
}
