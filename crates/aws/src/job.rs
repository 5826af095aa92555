//! A job: how it stands, and how it is stopped.

use std::fmt;

use serde_json::{Value, json};

use crate::client::Client;
use crate::cost::Basis;
use crate::error::{Error, unfit};
use crate::request::{Platform, Request, encoded};

/// How a job stands, on both platforms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It waits for machines.
    Queued,
    /// It trains, or what it trains on and makes is moved.
    Running,
    /// It came to its end.
    Done,
    /// It failed.
    Failed,
    /// It was stopped, by the user or by its limit of hours.
    Stopped,
}

impl Phase {
    /// Whether nothing more will happen.
    pub fn is_end(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Stopped)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        })
    }
}

/// What a user calls a job by.
#[derive(Debug, Clone, PartialEq)]
pub struct Handle {
    /// What carries it out.
    pub platform: Platform,
    /// Its name, or for Bedrock its ARN.
    pub job: String,
    /// The region that the ARN tells.
    pub region: Option<String>,
}

impl Handle {
    /// Reads an ARN, which tells platform and region, or a name, for which `platform` must be said.
    ///
    /// # Errors
    /// [`Error::Unfit`] for an ARN of something else, and for a name without a platform.
    pub fn read(text: &str, platform: Option<Platform>) -> Result<Self, Error> {
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let ["arn", _, service, region, _, resource] = parts[..] else {
            let hint = "--on sagemaker or --on bedrock, or the job's ARN";
            let platform =
                platform.ok_or_else(|| unfit(format!("`{text}`: a name does not tell the platform"), hint))?;
            return Ok(Self { platform, job: text.to_owned(), region: None });
        };
        let region = Some(region.to_owned());
        match (service, resource.split_once('/')) {
            ("sagemaker", Some(("training-job", name))) => {
                Ok(Self { platform: Platform::SageMaker, job: name.to_owned(), region })
            }
            ("bedrock", Some(("model-customization-job", _))) => {
                Ok(Self { platform: Platform::Bedrock, job: text.to_owned(), region })
            }
            _ => Err(unfit(format!("`{text}` is no job"), "the ARN of a training-job or a model-customization-job")),
        }
    }

    fn bedrock(&self, action: &'static str, method: &'static str, end: &str) -> Request {
        Request::bedrock(action, method, format!("/model-customization-jobs/{}{end}", encoded(&self.job, false)), None)
    }
}

/// A job as its platform describes it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Job {
    /// What carries it out.
    pub platform: Platform,
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// How it stands.
    pub phase: Phase,
    /// The platform's own words for that.
    pub said: String,
    /// Why it failed, or why it stopped where that was not the user's doing.
    pub reason: Option<String>,
    /// Where in S3 it writes: all of its objects begin so.
    pub output: Option<String>,
    /// Metrics that the platform keeps.
    pub metrics: Value,
    /// The whole description.
    #[serde(skip)]
    pub reply: Value,
}

impl Job {
    /// Whether it was asked to stop, and has not ended yet.
    pub fn is_stopping(&self) -> bool {
        !self.phase.is_end() && self.said.starts_with("Stopping")
    }

    /// USD that it was billed, where its platform tells for how long: SageMaker does for machines of one's own choice.
    pub fn billed(&self, cost: &Basis) -> Option<f64> {
        match *cost {
            Basis::Hours { instances, price_per_hour, .. } => {
                let seconds = self.metrics["billable_seconds"].as_f64().filter(|_| self.phase.is_end())?;
                Some(instances as f64 * price_per_hour * seconds / 3600.0)
            }
            Basis::Tokens { .. } => None,
        }
    }
}

/// A job as it stands now.
///
/// # Errors
/// What the service answers; [`Error::Reply`] for a status that is not known.
pub fn find(client: &Client, handle: &Handle) -> Result<Job, Error> {
    match handle.platform {
        Platform::SageMaker => {
            let request = Request::sagemaker("DescribeTrainingJob", &json!({ "TrainingJobName": handle.job }));
            of_sagemaker(client.json(&request)?)
        }
        Platform::Bedrock => of_bedrock(client.json(&handle.bedrock("GetModelCustomizationJob", "GET", ""))?),
    }
}

/// Asks for the end of a job, which comes some minutes later. A job that has ended already is left as it is.
///
/// # Errors
/// What the service answers.
pub fn stop(client: &Client, handle: &Handle) -> Result<Job, Error> {
    let job = find(client, handle)?;
    if job.phase.is_end() {
        return Ok(job);
    }
    let request = match handle.platform {
        Platform::SageMaker => Request::sagemaker("StopTrainingJob", &json!({ "TrainingJobName": job.name })),
        Platform::Bedrock => handle.bedrock("StopModelCustomizationJob", "POST", "/stop"),
    };
    client.bytes(&request)?;
    find(client, handle)
}

fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn needed(action: &str, reply: &Value, key: &str) -> Result<String, Error> {
    text(&reply[key])
        .ok_or_else(|| Error::Reply { action: action.to_owned(), problem: format!("the answer has no `{key}`") })
}

fn of_sagemaker(reply: Value) -> Result<Job, Error> {
    let action = "DescribeTrainingJob";
    let name = needed(action, &reply, "TrainingJobName")?;
    let status = needed(action, &reply, "TrainingJobStatus")?;
    let detail = text(&reply["SecondaryStatus"]).filter(|detail| *detail != status);
    let waits = ["Pending", "Starting", "LaunchingMLInstances", "PreparingTrainingStack"];
    let phase = match (status.as_str(), detail.as_deref()) {
        ("InProgress", Some(detail)) if waits.contains(&detail) => Phase::Queued,
        ("InProgress" | "Stopping", _) => Phase::Running,
        ("Completed", _) => Phase::Done,
        ("Failed", _) => Phase::Failed,
        ("Stopped" | "Deleting", _) => Phase::Stopped,
        (other, _) => return Err(unknown(action, other)),
    };
    let reason = match (phase, detail.as_deref()) {
        (Phase::Failed, _) => text(&reply["FailureReason"]),
        (Phase::Stopped, Some("MaxRuntimeExceeded")) => Some("its limit of hours was reached".to_owned()),
        (Phase::Stopped, Some("MaxWaitTimeExceeded")) => Some("its limit of waiting was reached".to_owned()),
        _ => None,
    };
    let output = text(&reply["OutputDataConfig"]["S3OutputPath"]);
    Ok(Job {
        platform: Platform::SageMaker,
        arn: needed(action, &reply, "TrainingJobArn")?,
        phase,
        said: detail.map_or(status.clone(), |detail| format!("{status}, {detail}")),
        reason,
        output: output.map(|output| format!("{}/{name}/", output.trim_end_matches('/'))),
        metrics: json!({
            "final": reply["FinalMetricDataList"],
            "billable_seconds": reply["BillableTimeInSeconds"],
            "training_seconds": reply["TrainingTimeInSeconds"],
            "model_package": reply["OutputModelPackageArn"],
        }),
        name,
        reply,
    })
}

fn of_bedrock(reply: Value) -> Result<Job, Error> {
    let action = "GetModelCustomizationJob";
    let (name, arn) = (needed(action, &reply, "jobName")?, needed(action, &reply, "jobArn")?);
    let status = needed(action, &reply, "status")?;
    let trains = text(&reply["statusDetails"]["trainingDetails"]["status"]);
    let phase = match (status.as_str(), trains.as_deref()) {
        ("InProgress", Some("NotStarted")) => Phase::Queued,
        ("InProgress" | "Stopping", _) => Phase::Running,
        ("Completed", _) => Phase::Done,
        ("Failed", _) => Phase::Failed,
        ("Stopped", _) => Phase::Stopped,
        (other, _) => return Err(unknown(action, other)),
    };
    let id = arn.rsplit('/').next().unwrap_or(&arn).to_owned();
    let output = text(&reply["outputDataConfig"]["s3Uri"]);
    Ok(Job {
        platform: Platform::Bedrock,
        phase,
        said: trains
            .filter(|_| status == "InProgress")
            .map_or(status.clone(), |trains| format!("{status}, training {trains}")),
        reason: text(&reply["failureMessage"]).filter(|_| phase == Phase::Failed),
        output: output.map(|output| format!("{}/model-customization-job-{id}/", output.trim_end_matches('/'))),
        metrics: json!({
            "training": reply["trainingMetrics"],
            "validation": reply["validationMetrics"],
            "model": reply["outputModelArn"],
        }),
        name,
        arn,
        reply,
    })
}

fn unknown(action: &str, status: &str) -> Error {
    Error::Reply { action: action.to_owned(), problem: format!("the status `{status}` is not known") }
}
