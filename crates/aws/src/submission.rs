//! What a recipe of Nova becomes: the requests that start its job.
//!
//! | recipe | job |
//! |---|---|
//! | HyperPod's YAML | a training job of SageMaker on machines of the user's choice: the recipe is put into S3 and given as the channel `recipe`, as AWS's own Python SDK does (`sagemaker/pytorch/estimator.py`, 2.2xx) |
//! | SageMaker's hyperparameters | a serverless training job: `ServerlessJobConfig` of `CreateTrainingJob` |
//! | Bedrock's JSON | `CreateModelCustomizationJob`, whose body it is |

use serde_json::{Map, Value, json};
use temper_recipe::foreign::{Document, Platform as Written, Technique, Tool, row_technique, technique};
use temper_run::sha256_bytes;

use crate::client::{Client, endpoint};
use crate::cost::Basis;
use crate::credentials::Surroundings;
use crate::error::{Error, unfit};
use crate::job::{Handle, Job, find};
use crate::request::{Platform, Request};
use crate::s3::Place;

/// `MaxLength` of a job's name: 63 on both platforms.
const MAX_NAME: usize = 63;
/// Hyperparameters of a training job, `CreateTrainingJob`.
const MAX_HYPERPARAMETERS: usize = 100;

/// What a job needs beside its recipe.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The job's name; the recipe's own where left out. A hash of the request is put behind it.
    pub name: Option<String>,
    /// Counts what is asked for again on purpose: the same request under the same count is the same job.
    pub attempt: u64,
    /// The role that the job runs as.
    pub role: Option<String>,
    /// Training rows in S3; the recipe's own where left out.
    pub train: Option<String>,
    /// Validation rows in S3; the recipe's own where left out.
    pub validation: Option<String>,
    /// Where in S3 the job writes; the recipe's own where left out.
    pub output: Option<String>,
    /// Machines of one's own choice: the image of AWS's that trains.
    pub image: Option<String>,
    /// Their kind.
    pub instance_type: Option<String>,
    /// USD of one of them in an hour.
    pub price_per_hour: Option<f64>,
    /// Hours after which SageMaker ends the job.
    pub max_hours: Option<f64>,
    /// Machines of one's own choice: what SageMaker reads out of the log, by name: a regular expression with one group.
    pub metrics: Vec<(String, String)>,
    /// Serverless and Bedrock: the model to start from.
    pub base_model: Option<String>,
    /// Serverless: the group that the model is registered in.
    pub model_group: Option<String>,
    /// Serverless RFT: what scores.
    pub evaluator: Option<String>,
    /// Serverless: all weights, in place of LoRA.
    pub full_rank: bool,
    /// Serverless: the licence of the model is accepted.
    pub accept_eula: bool,
    /// Serverless and Bedrock: millions of tokens that are trained on, all epochs together.
    pub million_tokens: Option<f64>,
    /// USD of a million tokens.
    pub price_per_million: Option<f64>,
}

/// A job that can be started.
#[derive(Debug, Clone)]
pub struct Submission {
    /// What carries it out.
    pub platform: Platform,
    /// The job's name.
    pub name: String,
    /// The requests that start it, in order.
    pub requests: Vec<Request>,
    /// What it may cost, as far as prices were given.
    pub cost: Option<Basis>,
    /// How to give the prices that are not.
    pub cost_hint: &'static str,
}

impl Submission {
    /// The job of a recipe, whose file holds `text`.
    ///
    /// # Errors
    /// [`Error::Unfit`] with all that is not said, or does not belong to the platform.
    pub fn of(document: &Document, text: &[u8], platform: Platform, settings: &Settings) -> Result<Self, Error> {
        if document.tool != Tool::Nova {
            let hint = "`temper export RECIPE --to nova` writes one of a recipe of Temper's";
            return Err(unfit(format!("{} is no recipe of Nova's", document.file.display()), hint));
        }
        let (_, _, written) = row_technique(document);
        let stem = document.file.file_stem().map_or("nova".into(), |stem| stem.to_string_lossy());
        let recipe = document.to_json();
        let maker = Maker { recipe: &recipe, stem: &stem, settings, technique: technique(document) };
        let submission = match (platform, written) {
            (Platform::SageMaker, Written::HyperPod) => maker.classic(text),
            (Platform::SageMaker, Written::SageMaker) => maker.serverless(),
            (Platform::Bedrock, Written::Bedrock) => maker.bedrock(),
            (Platform::SageMaker, Written::Bedrock) => Err(unfit("this is the job of Bedrock", "--on bedrock")),
            (Platform::Bedrock, _) => Err(unfit(
                "this is a recipe for SageMaker: Bedrock's jobs have other keys",
                "--on sagemaker, or a JSON file with `baseModelIdentifier`, `trainingDataConfig`, `hyperParameters`",
            )),
        }?;
        // What `temper export --to nova` writes where only the user can know.
        let bodies = submission.requests.iter().map(|request| String::from_utf8_lossy(&request.body).into_owned());
        let all = recipe.to_string() + &bodies.collect::<String>();
        for place in ["s3://BUCKET", ":REGION:", ":ACCOUNT:"] {
            if all.contains(place) {
                return Err(unfit(
                    format!("`{place}` was never filled in"),
                    "name your own bucket, region and account in the recipe",
                ));
            }
        }
        Ok(submission)
    }

    /// The requests for people, without their signatures, as they would go out of these surroundings.
    pub fn shown(&self, surroundings: &Surroundings<'_>, region: &str) -> String {
        let shown = |request: &Request| request.shown(&endpoint(surroundings, request.service, region));
        self.requests.iter().map(shown).collect::<Vec<_>>().join("\n")
    }

    /// Refuses a job that may cost more than `most` USD, or of which that is not known.
    ///
    /// # Errors
    /// [`Error::Cost`].
    pub fn allow(&self, most: Option<f64>) -> Result<(), Error> {
        match self.cost {
            Some(cost) => cost.allow(most),
            None => Err(Error::Cost {
                problem: "what the job may cost is not known".to_owned(),
                hint: format!("{}; and --max-cost USD", self.cost_hint),
            }),
        }
    }

    /// Starts the job. The same job again is not started twice: what is there already is said.
    ///
    /// # Errors
    /// What the services answer.
    pub fn send(&self, client: &Client) -> Result<(Job, bool), Error> {
        let handle = Handle { platform: self.platform, job: self.name.clone(), region: None };
        let mut was_there = false;
        for request in &self.requests {
            match client.bytes(request) {
                Ok(_) => (),
                Err(conflict @ Error::Conflict { .. }) => {
                    // The name holds a hash of the request: whatever has it is this very job.
                    let job = find(client, &handle).map_err(|error| match error {
                        Error::NotFound { .. } => conflict,
                        error => error,
                    })?;
                    was_there = true;
                    return Ok((job, was_there));
                }
                Err(error) => return Err(error),
            }
        }
        Ok((find(client, &handle)?, was_there))
    }
}

struct Maker<'a> {
    recipe: &'a Value,
    stem: &'a str,
    settings: &'a Settings,
    technique: Option<Technique>,
}

impl Maker<'_> {
    /// A training job on machines of one's own choice.
    fn classic(&self, text: &[u8]) -> Result<Submission, Error> {
        let settings = self.settings;
        refuse(
            "has no place in a job on machines of one's own choice",
            &[
                ("--base-model", settings.base_model.is_some()),
                ("--model-group", settings.model_group.is_some()),
                ("--evaluator", settings.evaluator.is_some()),
                ("--full-rank", settings.full_rank),
                ("--accept-eula", settings.accept_eula),
                ("--million-tokens", settings.million_tokens.is_some()),
                ("--price-per-million", settings.price_per_million.is_some()),
            ],
        )?;
        let run = &self.recipe["run"];
        let of_run = |key: &str| run[key].as_str().map(str::to_owned);
        let train = settings.train.clone().or_else(|| of_run("data_s3_path"));
        let validation = settings.validation.clone().or_else(|| of_run("validation_data_s3_path"));
        let output = settings.output.clone().or_else(|| of_run("output_s3_path"));
        let (model, instances) = (of_run("model_name_or_path"), run["replicas"].as_u64());
        let evaluates = self.technique == Some(Technique::Evaluation);
        missing(&[
            ("--role ARN, which the job runs as", settings.role.is_some()),
            ("--image URI, from AWS's page on the technique", settings.image.is_some()),
            ("--instance-type, as ml.p5.48xlarge", settings.instance_type.is_some()),
            ("--max-hours, after which SageMaker ends the job", settings.max_hours.is_some_and(|hours| hours > 0.0)),
            ("run.data_s3_path in the recipe, or --train", train.is_some() || evaluates),
            ("run.output_s3_path in the recipe, or --output", output.is_some()),
            ("run.model_name_or_path in the recipe", model.is_some()),
            ("run.replicas in the recipe, a whole number", instances.is_some()),
        ])?;
        let (output, model, instances) =
            (output.unwrap_or_default(), model.unwrap_or_default(), instances.unwrap_or(0));
        let max_hours = settings.max_hours.unwrap_or(0.0);
        let folder = Place::read(&output)?;
        let base = if model.starts_with("s3://") { "base_model_location" } else { "base_model" };
        let body = |name: &str| {
            let recipe = format!("{}/{name}/recipe/", output.trim_end_matches('/'));
            let mut body = json!({
                "TrainingJobName": name,
                "HyperParameters": { base: model, "sagemaker_recipe_local_path": "/opt/ml/input/data/recipe/recipe.yaml" },
                "AlgorithmSpecification": { "TrainingImage": settings.image, "TrainingInputMode": "File" },
                "RoleArn": settings.role,
                "InputDataConfig": self.channels(train.as_deref(), validation.as_deref(), Some(&recipe)),
                "OutputDataConfig": { "S3OutputPath": output },
                "ResourceConfig": {
                    "InstanceType": settings.instance_type, "InstanceCount": instances, "VolumeSizeInGB": 30,
                },
                "StoppingCondition": { "MaxRuntimeInSeconds": (max_hours * 3600.0).round() as u64 },
            });
            if !settings.metrics.is_empty() {
                let metric = |(name, regex): &(String, String)| json!({ "Name": name, "Regex": regex });
                body["AlgorithmSpecification"]["MetricDefinitions"] = settings.metrics.iter().map(metric).collect();
            }
            body
        };
        let own = of_run("name");
        let name = self.name(own.as_deref(), &[body("").to_string().as_bytes(), text].concat());
        let key = format!("{}/{name}/recipe/recipe.yaml", folder.key.trim_end_matches('/'));
        let upload = folder.beside(key.trim_start_matches('/')).put(text);
        for uri in train.iter().chain(&validation) {
            Place::read(uri)?;
        }
        Ok(Submission {
            platform: Platform::SageMaker,
            requests: vec![upload, Request::sagemaker("CreateTrainingJob", &body(&name))],
            name,
            cost: settings.price_per_hour.map(|price_per_hour| Basis::Hours { instances, price_per_hour, max_hours }),
            cost_hint: "--price-per-hour USD of one machine, from AWS's price list of your region",
        })
    }

    /// A serverless training job.
    fn serverless(&self) -> Result<Submission, Error> {
        let settings = self.settings;
        refuse(
            "has no place in a serverless job",
            &[
                ("--image", settings.image.is_some()),
                ("--instance-type", settings.instance_type.is_some()),
                ("--price-per-hour", settings.price_per_hour.is_some()),
                ("--metric", !settings.metrics.is_empty()),
            ],
        )?;
        let technique = match self.technique {
            Some(Technique::Dpo) => "DPO",
            Some(Technique::Rft) => "RLVR",
            Some(Technique::Sft) | None => "SFT",
            Some(Technique::Cpt | Technique::Evaluation) => {
                return Err(unfit(
                    "a serverless job trains by SFT, DPO or RFT",
                    "a HyperPod recipe in YAML, for machines of your choice",
                ));
            }
        };
        missing(&[
            ("--role ARN, which the job runs as", settings.role.is_some()),
            ("--base-model ARN, the model in SageMaker's public hub", settings.base_model.is_some()),
            ("--train s3://.., the rows", settings.train.is_some()),
            ("--output s3://.., where the job writes", settings.output.is_some()),
            ("--model-group ARN, where the model is registered", settings.model_group.is_some()),
            ("--accept-eula, once you have read the model's licence", settings.accept_eula),
            ("--evaluator ARN, what scores", settings.evaluator.is_some() || technique != "RLVR"),
        ])?;
        for uri in settings.train.iter().chain(&settings.validation).chain(&settings.output) {
            Place::read(uri)?;
        }
        let hyperparameters = texts(self.recipe.get("HyperParameters").unwrap_or(self.recipe), "HyperParameters")?;
        if hyperparameters.len() > MAX_HYPERPARAMETERS {
            return Err(unfit(
                format!("{} hyperparameters; SageMaker takes {MAX_HYPERPARAMETERS}", hyperparameters.len()),
                "leave out those that have their default value (aws/sagemaker-python-sdk#6016)",
            ));
        }
        let mut config = json!({
            "BaseModelArn": settings.base_model,
            "AcceptEula": true,
            "JobType": "FineTuning",
            "CustomizationTechnique": technique,
        });
        if !settings.full_rank {
            config["Peft"] = json!("LORA");
        }
        if let Some(evaluator) = &settings.evaluator {
            config["EvaluatorArn"] = json!(evaluator);
        }
        let body = |name: &str| {
            let mut body = json!({
                "TrainingJobName": name,
                "HyperParameters": hyperparameters,
                "RoleArn": settings.role,
                "InputDataConfig": self.channels(settings.train.as_deref(), settings.validation.as_deref(), None),
                "OutputDataConfig": { "S3OutputPath": settings.output },
                "ServerlessJobConfig": config,
                "ModelPackageConfig": { "ModelPackageGroupArn": settings.model_group },
            });
            if let Some(hours) = settings.max_hours {
                body["StoppingCondition"] = json!({ "MaxRuntimeInSeconds": (hours * 3600.0).round() as u64 });
            }
            body
        };
        let name = self.name(None, body("").to_string().as_bytes());
        Ok(Submission {
            platform: Platform::SageMaker,
            requests: vec![Request::sagemaker("CreateTrainingJob", &body(&name))],
            name,
            cost: self.by_tokens(),
            cost_hint: TOKENS_HINT,
        })
    }

    /// A customization job of Bedrock: its recipe is the body.
    fn bedrock(&self) -> Result<Submission, Error> {
        let settings = self.settings;
        refuse(
            "has no place in a job of Bedrock's",
            &[
                ("--image", settings.image.is_some()),
                ("--instance-type", settings.instance_type.is_some()),
                ("--price-per-hour", settings.price_per_hour.is_some()),
                ("--max-hours", settings.max_hours.is_some()),
                ("--metric", !settings.metrics.is_empty()),
                ("--model-group", settings.model_group.is_some()),
                ("--evaluator", settings.evaluator.is_some()),
                ("--full-rank", settings.full_rank),
                ("--accept-eula", settings.accept_eula),
            ],
        )?;
        let mut body = self.recipe.clone();
        let places = [
            ("/roleArn", &settings.role),
            ("/baseModelIdentifier", &settings.base_model),
            ("/trainingDataConfig/s3Uri", &settings.train),
            ("/outputDataConfig/s3Uri", &settings.output),
        ];
        for (path, given) in places {
            if let Some(given) = given {
                put(&mut body, path, given);
            }
        }
        if let Some(validation) = &settings.validation {
            body["validationDataConfig"] = json!({ "validators": [{ "s3Uri": validation }] });
        }
        let said = |path: &str| body.pointer(path).and_then(Value::as_str).is_some();
        missing(&[
            ("`roleArn`, or --role ARN", said("/roleArn")),
            ("`baseModelIdentifier`, or --base-model", said("/baseModelIdentifier")),
            ("`trainingDataConfig.s3Uri`, or --train s3://..", said("/trainingDataConfig/s3Uri")),
            ("`outputDataConfig.s3Uri`, or --output s3://..", said("/outputDataConfig/s3Uri")),
        ])?;
        for path in ["/trainingDataConfig/s3Uri", "/outputDataConfig/s3Uri"] {
            Place::read(body.pointer(path).and_then(Value::as_str).unwrap_or_default())?;
        }
        if let Some(hyperparameters) = body.get("hyperParameters").cloned() {
            body["hyperParameters"] = Value::Object(texts(&hyperparameters, "hyperParameters")?);
        }
        let own = body["jobName"].as_str().map(str::to_owned);
        let name = self.name(own.as_deref(), body.to_string().as_bytes());
        body["jobName"] = json!(name);
        for key in ["customModelName", "clientRequestToken"] {
            if body[key].is_null() {
                body[key] = json!(name);
            }
        }
        Ok(Submission {
            platform: Platform::Bedrock,
            requests: vec![Request::bedrock(
                "CreateModelCustomizationJob",
                "POST",
                "/model-customization-jobs".to_owned(),
                Some(&body),
            )],
            name,
            cost: self.by_tokens(),
            cost_hint: TOKENS_HINT,
        })
    }

    fn by_tokens(&self) -> Option<Basis> {
        let (million_tokens, price_per_million) = (self.settings.million_tokens?, self.settings.price_per_million?);
        Some(Basis::Tokens { million_tokens, price_per_million })
    }

    /// The channels of a training job. Rows of conversations are read as such; prompts of RFT are plain files (AWS's SDKs, 2026).
    fn channels(&self, train: Option<&str>, validation: Option<&str>, recipe: Option<&str>) -> Vec<Value> {
        let plain = matches!(self.technique, Some(Technique::Rft | Technique::Evaluation));
        let rows = if plain { "S3Prefix" } else { "Converse" };
        let each = [("train", train, rows), ("validation", validation, rows), ("recipe", recipe, "S3Prefix")];
        let channel = |(name, uri, kind): (&str, Option<&str>, &str)| {
            let source = json!({ "S3DataType": kind, "S3Uri": uri?, "S3DataDistributionType": "FullyReplicated" });
            Some(json!({ "ChannelName": name, "DataSource": { "S3DataSource": source } }))
        };
        each.into_iter().filter_map(channel).collect()
    }

    /// A name that both platforms take: the given one, the recipe's or its file's, and a hash of the request, so that the same request
    /// is the same job.
    fn name(&self, own: Option<&str>, request: &[u8]) -> String {
        let given = self.settings.name.as_deref().or(own).unwrap_or(self.stem);
        let hash = sha256_bytes(&[request, self.settings.attempt.to_string().as_bytes()].concat());
        let plain: String = given.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let parts: Vec<&str> = plain.split('-').filter(|part| !part.is_empty()).collect();
        let mut name = if parts.is_empty() { "nova".to_owned() } else { parts.join("-") };
        name.truncate(MAX_NAME - 9);
        format!("{}-{}", name.trim_end_matches('-'), &hash[..8])
    }
}

const TOKENS_HINT: &str =
    "--million-tokens (rows, their tokens, epochs) and --price-per-million USD, from AWS's price list";

/// Settings that belong to another kind of job.
fn refuse(why: &str, settings: &[(&str, bool)]) -> Result<(), Error> {
    let given: Vec<&str> = settings.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
    if given.is_empty() { Ok(()) } else { Err(unfit(format!("{} {why}", given.join(", ")), "leave it out")) }
}

/// All that is not said, at once.
fn missing(settings: &[(&str, bool)]) -> Result<(), Error> {
    let missing: Vec<&str> = settings.iter().filter(|(_, there)| !there).map(|(what, _)| *what).collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(unfit("the job is not whole", format!("say also {}", missing.join("; "))))
    }
}

/// Values as texts, as both platforms want hyperparameters.
fn texts(values: &Value, key: &str) -> Result<Map<String, Value>, Error> {
    let Some(map) = values.as_object() else {
        return Err(unfit(format!("`{key}` is no map"), "keys with a value each"));
    };
    let text = |(name, value): (&String, &Value)| {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            _ => {
                return Err(unfit(
                    format!("`{key}.{name}` is no single value"),
                    "a number or a text; leave it out for the default",
                ));
            }
        };
        Ok((name.clone(), Value::String(text)))
    };
    map.iter().map(text).collect()
}

/// Lays a text over the value at a path of one or two keys.
fn put(body: &mut Value, path: &str, text: &str) {
    let mut keys = path.trim_start_matches('/').split('/');
    match (keys.next(), keys.next()) {
        (Some(first), Some(second)) if body[first].is_object() => body[first][second] = json!(text),
        (Some(first), Some(second)) => body[first] = json!({ second: text }),
        (Some(first), None) => body[first] = json!(text),
        (None, _) => (),
    }
}
