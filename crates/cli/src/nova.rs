//! `temper nova`: jobs of Nova Forge on SageMaker and Bedrock. Behind the feature `aws`: docs/nova.md.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use clap::Subcommand;
use temper_aws::{Client, Error, Handle, Job, Phase, Platform, Settings, Submission, Surroundings, fetch, find, stop};
use temper_recipe::foreign::{Document, Known, Severity, Tool, check};

use crate::command::{DONE, FAILED, Failure, Outcome, REFUSED, conclude, json, tell};

/// Jobs of Nova Forge on SageMaker and Bedrock: submit, follow, stop, fetch.
#[derive(Subcommand)]
pub enum Command {
    Submit(Box<SubmitArgs>),
    Status(StatusArgs),
    Stop(StopArgs),
    Fetch(FetchArgs),
}

/// Start the job of a recipe of Nova's, once.
///
/// The same recipe with the same settings is the same job: submitted again, it is found, not started twice. Nothing is sent where
/// `temper check` finds an error, and nothing before --max-cost says what it may cost.
#[derive(clap::Args)]
pub struct SubmitArgs {
    /// HyperPod's YAML (machines of your choice), SageMaker's hyperparameters (serverless), or a job of Bedrock's.
    recipe: PathBuf,
    /// What carries it out: sagemaker or bedrock.
    #[arg(long, value_parser = platform)]
    on: Platform,
    /// Print the requests, without signature, and send nothing. Needs no credentials.
    #[arg(long)]
    dry_run: bool,
    /// USD that the job may cost at most; refused where the estimate is higher.
    #[arg(long, value_name = "USD")]
    max_cost: Option<f64>,
    /// The job's name; the recipe's or its file's where left out. A hash of the request is put behind it.
    #[arg(long)]
    name: Option<String>,
    /// Another number starts the same job once more.
    #[arg(long, default_value_t = 0)]
    attempt: u64,
    /// ARN of the role that the job runs as.
    #[arg(long)]
    role: Option<String>,
    /// Training rows, in place of the recipe's.
    #[arg(long, value_name = "S3")]
    train: Option<String>,
    /// Validation rows, in place of the recipe's.
    #[arg(long, value_name = "S3")]
    validation: Option<String>,
    /// Where the job writes, in place of the recipe's.
    #[arg(long, value_name = "S3")]
    output: Option<String>,
    /// Machines of your choice: AWS's image for the technique.
    #[arg(long, value_name = "URI")]
    image: Option<String>,
    /// Machines of your choice: their kind, such as ml.p5.48xlarge. Their number is the recipe's `run.replicas`.
    #[arg(long)]
    instance_type: Option<String>,
    /// Machines of your choice: USD of one in an hour.
    #[arg(long, value_name = "USD")]
    price_per_hour: Option<f64>,
    /// Hours after which SageMaker ends the job.
    #[arg(long, value_name = "HOURS")]
    max_hours: Option<f64>,
    /// Machines of your choice: a metric that SageMaker reads out of the log by a regular expression with one group:
    /// train_loss='reduced_train_loss=([0-9.e+-]+)'. May be given again.
    #[arg(long = "metric", value_name = "NAME=REGEX", value_parser = metric)]
    metrics: Vec<(String, String)>,
    /// Serverless and Bedrock: the model to start from.
    #[arg(long, value_name = "ARN")]
    base_model: Option<String>,
    /// Serverless: the group that the model is registered in.
    #[arg(long, value_name = "ARN")]
    model_group: Option<String>,
    /// Serverless RFT: what scores.
    #[arg(long, value_name = "ARN")]
    evaluator: Option<String>,
    /// Serverless: train all weights, not LoRA.
    #[arg(long)]
    full_rank: bool,
    /// Serverless: you accept the licence of the model.
    #[arg(long)]
    accept_eula: bool,
    /// Serverless and Bedrock: millions of tokens that are trained on, all epochs together.
    #[arg(long, value_name = "MILLIONS")]
    million_tokens: Option<f64>,
    /// Serverless and Bedrock: USD of a million tokens.
    #[arg(long, value_name = "USD")]
    price_per_million: Option<f64>,
    #[command(flatten)]
    aws: AwsArgs,
}

/// Say how a job stands.
#[derive(clap::Args)]
pub struct StatusArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Ask again until the job has ended. Ends with 1 where it failed or was stopped. Ctrl-C ends the asking, not the job.
    #[arg(long)]
    follow: bool,
    /// Seconds between two questions.
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
}

/// Ask for the end of a job.
#[derive(clap::Args)]
pub struct StopArgs {
    #[command(flatten)]
    job: JobArgs,
}

/// Fetch what an ended job leaves: manifest, metrics, logs; not weights, which stay with AWS.
#[derive(clap::Args)]
pub struct FetchArgs {
    #[command(flatten)]
    job: JobArgs,
    /// A new folder for it.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

#[derive(clap::Args)]
struct JobArgs {
    /// The job's ARN, or its name together with --on.
    job: String,
    /// What carries it out: sagemaker or bedrock.
    #[arg(long, value_parser = platform)]
    on: Option<Platform>,
    #[command(flatten)]
    aws: AwsArgs,
}

#[derive(clap::Args)]
struct AwsArgs {
    /// The region; that of the environment or the profile where left out.
    #[arg(long)]
    region: Option<String>,
    /// The profile of AWS's files whose credentials are taken, in place of the chain's first.
    #[arg(long)]
    profile: Option<String>,
    /// The answer as JSON.
    #[arg(long)]
    json: bool,
}

fn platform(name: &str) -> Result<Platform, String> {
    Platform::named(name).ok_or_else(|| format!("`{name}` carries out no jobs; sagemaker or bedrock"))
}

fn metric(text: &str) -> Result<(String, String), String> {
    let (name, pattern) = text.split_once('=').ok_or("expected NAME=REGEX")?;
    Ok((name.to_owned(), pattern.to_owned()))
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Cost { .. } => Self { code: REFUSED, error: Some(error.into()) },
            error if error.is_bad_input() => Self::input(error),
            error => Self::run(error),
        }
    }
}

pub fn run(command: &Command) -> Outcome {
    match command {
        Command::Submit(args) => submit(args),
        Command::Status(args) => status(args),
        Command::Stop(args) => {
            let (client, handle) = args.job.open()?;
            show(&stop(&client, &handle)?, args.job.aws.json)
        }
        Command::Fetch(args) => {
            let (client, handle) = args.job.open()?;
            let job = find(&client, &handle)?;
            let fetched = fetch(&client, &job, &args.to)?;
            if args.job.aws.json {
                return conclude(json(&fetched)?, DONE);
            }
            let mut text = format!("{} files in {}\n", fetched.files.len(), args.to.display());
            match &fetched.checkpoint {
                Some(checkpoint) => {
                    let _ = writeln!(text, "checkpoint {checkpoint}, the next job's model_name_or_path");
                }
                None => text += "no manifest.json with a checkpoint\n",
            }
            if !fetched.left.is_empty() {
                let _ = writeln!(text, "{} left where they are: {}", fetched.left.len(), fetched.left.join(", "));
            }
            conclude(text, DONE)
        }
    }
}

impl AwsArgs {
    /// What is done with AWS's chain, which looks at the environment and the user's folder.
    fn with<T>(&self, what: impl FnOnce(&Surroundings<'_>) -> T) -> T {
        let home = std::env::home_dir();
        let variable = |name: &str| std::env::var(name).ok();
        what(&Surroundings { variable: &variable, home: home.as_deref(), profile: self.profile.as_deref() })
    }

    fn client(&self, region: Option<&str>) -> Result<Client, Failure> {
        self.with(|surroundings| {
            let region = surroundings.region(self.region.as_deref().or(region))?;
            Ok(Client::new(surroundings, surroundings.credentials()?, &region))
        })
    }
}

impl JobArgs {
    fn open(&self) -> Result<(Client, Handle), Failure> {
        let handle = Handle::read(&self.job, self.on)?;
        Ok((self.aws.client(handle.region.as_deref())?, handle))
    }
}

fn submit(args: &SubmitArgs) -> Outcome {
    let document = Document::read(&args.recipe, Some(Tool::Nova))?;
    let text = std::fs::read(&args.recipe)
        .map_err(|error| Failure::input(anyhow!("cannot read {}: {error}", args.recipe.display())))?;
    let settings = Settings {
        name: args.name.clone(),
        attempt: args.attempt,
        role: args.role.clone(),
        train: args.train.clone(),
        validation: args.validation.clone(),
        output: args.output.clone(),
        image: args.image.clone(),
        instance_type: args.instance_type.clone(),
        price_per_hour: args.price_per_hour,
        max_hours: args.max_hours,
        metrics: args.metrics.clone(),
        base_model: args.base_model.clone(),
        model_group: args.model_group.clone(),
        evaluator: args.evaluator.clone(),
        full_rank: args.full_rank,
        accept_eula: args.accept_eula,
        million_tokens: args.million_tokens,
        price_per_million: args.price_per_million,
    };
    let submission = Submission::of(&document, &text, args.on, &settings)?;
    let findings = check(&document, &Known::default());
    let errors: Vec<String> = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .map(|finding| finding.found.clone())
        .collect();
    for error in &errors {
        tell(format_args!("{}: {error}", args.recipe.display()));
    }
    match &submission.cost {
        Some(cost) => tell(format_args!("may cost {cost}")),
        None => tell(format_args!("what it may cost is not known: {}", submission.cost_hint)),
    }
    if args.dry_run {
        let shown = args.aws.with(|surroundings| {
            let region = surroundings.region(args.aws.region.as_deref())?;
            Ok::<_, Failure>(submission.shown(surroundings, &region))
        })?;
        return conclude(shown, DONE);
    }
    if !errors.is_empty() {
        let error =
            anyhow!("nothing was sent: the recipe has {} errors\nhint: `temper check` explains each", errors.len());
        return Err(Failure { code: REFUSED, error: Some(error) });
    }
    submission.allow(args.max_cost)?;
    let client = args.aws.client(None)?;
    let (job, was_there) = submission.send(&client)?;
    if was_there {
        tell("this job was submitted before, and is not started again; --attempt 1 starts another");
    }
    show(&job, args.aws.json)
}

fn status(args: &StatusArgs) -> Outcome {
    let (client, handle) = args.job.open()?;
    let mut job = find(&client, &handle)?;
    let mut said = String::new();
    while args.follow && !job.phase.is_end() {
        if job.said != said {
            tell(format_args!("{} {} ({})", temper_run::utc_now(), job.phase, job.said));
            said.clone_from(&job.said);
        }
        std::thread::sleep(Duration::from_secs(args.every));
        job = find(&client, &handle)?;
    }
    let code = if args.follow && job.phase != Phase::Done { FAILED } else { DONE };
    show(&job, args.job.aws.json).map(|_| code)
}

fn show(job: &Job, as_json: bool) -> Outcome {
    if as_json {
        return conclude(json(job)?, DONE);
    }
    let mut text = format!("{}: {} ({})\n{}\n", job.name, job.phase, job.said, job.arn);
    if let Some(reason) = &job.reason {
        let _ = writeln!(text, "reason: {reason}");
    }
    conclude(text, DONE)
}
