//! The platform: SageMaker's machines and Bedrock as far as a search asks them, with fates that a test gives.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::fake::{Asked, Fake, Said, of_s3};

/// A job of the platform.
#[derive(Clone, Debug)]
pub struct Made {
    /// What started it.
    pub body: Value,
    /// The recipe that lay in S3.
    pub recipe: String,
    /// Statuses to come, one a question; the last stays.
    pub statuses: Vec<&'static str>,
    /// Whether it was asked to stop.
    pub stopped: bool,
}

impl Made {
    /// The number after `key: ` in its recipe.
    pub fn number(&self, key: &str) -> f64 {
        let at = self.recipe.split(&format!("{key}: ")).nth(1).unwrap();
        at.split(['\n', ',', '}', ' ']).next().unwrap().parse().unwrap()
    }

    /// As a loss that is lowest at a rate of 1e-5.
    pub fn loss(&self) -> f64 {
        (self.number(" lr") / 1e-5).ln().powi(2) + 1.0
    }
}

/// What a job does and says: its statuses, one a question, from its number in the order in which they came.
pub type Fate = Box<dyn Fn(usize) -> Vec<&'static str> + Send>;

/// What a call is answered in place of what the platform would.
pub type Instead = Box<dyn FnMut(&str) -> Option<Said> + Send>;

/// The platform: jobs by name, in the order in which they came.
#[derive(Clone, Default)]
pub struct Aws(Arc<Mutex<Vec<(String, Made)>>>);

impl Aws {
    pub fn jobs(&self) -> Vec<(String, Made)> {
        self.0.lock().unwrap().clone()
    }

    /// Serves the platform.
    pub fn serve(&self, fate: Fate, mut instead: Instead) -> Fake {
        let (jobs, mut puts) = (Arc::clone(&self.0), BTreeMap::<String, String>::new());
        Fake::answering(move |asked| {
            let action = asked.header("x-amz-target").trim_start_matches("SageMaker.").to_owned();
            let action = if action.is_empty() { format!("{} {}", asked.method, asked.target) } else { action };
            if let Some(said) = instead(&action) {
                return Some(said);
            }
            let mut jobs = jobs.lock().unwrap();
            let body: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
            Some(answer(&mut jobs, &mut puts, &fate, (&action, asked, &body)))
        })
    }
}

fn answer(
    jobs: &mut Vec<(String, Made)>,
    puts: &mut BTreeMap<String, String>,
    fate: &Fate,
    (action, asked, body): (&str, &Asked, &Value),
) -> Said {
    let name = body["TrainingJobName"].as_str().or(body["jobName"].as_str()).unwrap_or_default().to_owned();
    let of_path = asked.target.trim_start_matches("/model-customization-jobs/").trim_end_matches("/stop").to_owned();
    let position = |name: &str| jobs.iter().position(|(known, _)| known == name);
    let missing =
        || Said::json(400, json!({"__type": "ValidationException", "message": "Requested resource not found."}));
    match action {
        "CreateTrainingJob" | "POST /model-customization-jobs" => {
            if position(&name).is_some() {
                return Said::json(400, json!({"__type": "ResourceInUse", "message": "must be unique"}));
            }
            let recipe = puts.get(&format!("/bucket/output/{name}/recipe/recipe.yaml")).cloned().unwrap_or_default();
            let made = Made { body: body.clone(), recipe, statuses: fate(jobs.len()), stopped: false };
            jobs.push((name, made));
            Said::json(201, json!({"TrainingJobArn": "x", "jobArn": "x"}))
        }
        "DescribeTrainingJob" => match position(&name) {
            Some(at) => described(&name, &mut jobs[at].1),
            None => missing(),
        },
        "StopTrainingJob" => {
            let at = position(&name).unwrap();
            let made = &mut jobs[at].1;
            (made.stopped, made.statuses) = (true, vec!["Stopping", "Stopping", "Stopped"]);
            Said::empty(200)
        }
        _ if action.starts_with("PUT ") => {
            puts.insert(asked.target.clone(), String::from_utf8(asked.body.clone()).unwrap());
            Said::empty(200)
        }
        _ if asked.target.contains("list-type=2") => {
            let keys: Vec<String> = jobs.iter().map(|(name, _)| format!("output/{name}/output/metrics.csv")).collect();
            let asked_for = |key: &&String| {
                let below = format!("output%2F{}%2F", key.split('/').nth(1).unwrap());
                asked.target.contains(&below)
            };
            of_s3(&keys.iter().filter(asked_for).map(String::as_str).collect::<Vec<_>>(), None)
        }
        _ if asked.target.starts_with("/bucket/output/") => {
            let (_, made) = jobs.iter().find(|(name, _)| asked.target.contains(name.as_str())).unwrap();
            Said { status: 200, body: format!("step,validation_loss\n50,9\n100,{}\n", made.loss()).into_bytes() }
        }
        _ if action.starts_with("GET /model-customization-jobs/") => match position(&of_path) {
            Some(at) => customized(&of_path, &mut jobs[at].1),
            None => Said::json(404, json!({"message": "no such job"})),
        },
        other => panic!("nobody expected {other}"),
    }
}

/// The next status of a job: the last one stays.
fn next(made: &mut Made) -> &'static str {
    if made.statuses.len() > 1 { made.statuses.remove(0) } else { made.statuses[0] }
}

/// A job of SageMaker; a status `Training 50` is one under way that has come so far.
fn described(name: &str, made: &mut Made) -> Said {
    let said = next(made);
    let (status, step) = match said.split_once(' ') {
        Some((_, step)) => ("InProgress", step.parse::<f64>().ok()),
        None if said == "Training" => ("InProgress", None),
        None => (said, None),
    };
    let metric = |name: &str, value: f64| json!({"MetricName": name, "Value": value});
    let metrics = step.map(|step| vec![metric("step", step), metric("validation_loss", made.loss() + 1.0)]);
    let mut reply = json!({
        "TrainingJobName": name,
        "TrainingJobArn": format!("arn:aws:sagemaker:us-east-1:123456789012:training-job/{name}"),
        "TrainingJobStatus": status,
        "SecondaryStatus": if status == "InProgress" { "Training" } else { status },
        "FailureReason": if status == "Failed" { "AlgorithmError: out of memory" } else { "" },
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/output/"},
        "FinalMetricDataList": metrics,
    });
    if status == "Completed" {
        reply["BillableTimeInSeconds"] = json!(1800);
    }
    Said::json(200, reply)
}

fn customized(name: &str, made: &mut Made) -> Said {
    let status = next(made);
    let epochs: f64 = made.body["hyperParameters"]["epochCount"].as_str().unwrap().parse().unwrap();
    Said::json(
        200,
        json!({
            "jobName": name,
            "jobArn": format!("arn:aws:bedrock:us-east-1:123456789012:model-customization-job/{name}"),
            "status": status,
            "outputDataConfig": {"s3Uri": "s3://bucket/output/"},
            "trainingMetrics": {"trainingLoss": 0.1},
            "validationMetrics": [{"validationLoss": (epochs - 2.0).powi(2)}],
        }),
    )
}

pub fn all_complete(_: usize) -> Vec<&'static str> {
    vec!["Training", "Training", "Completed"]
}

pub fn nothing(_: &str) -> Option<Said> {
    None
}
