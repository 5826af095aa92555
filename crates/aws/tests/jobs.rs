//! Jobs from their recipe to what they leave, against a small endpoint of our own: nothing here leaves this machine.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod fake;

use std::path::Path;
use std::time::Duration;

use fake::{Fake, Said, of_s3};
use serde_json::{Value, json};
use temper_aws::{
    Client, Error, Handle, Phase, Platform, Request, Settings, Submission, Surroundings, fetch, find, stop,
};
use temper_recipe::foreign::{Document, Tool};

const RECIPE: &str = "\
run:
  name: support tickets
  model_type: amazon.nova-2-lite-v1:0:256k
  model_name_or_path: nova-lite-2/prod
  replicas: 4
  data_s3_path: s3://mine/train.jsonl
  output_s3_path: s3://mine/out/
training_config:
  max_steps: 100
  optim_config: {lr: 1e-5}
";
const BEDROCK: &str = r#"{
  "jobName": "support",
  "roleArn": "arn:aws:iam::123456789012:role/tuning",
  "baseModelIdentifier": "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-2-lite-v1:0:256k",
  "customizationType": "FINE_TUNING",
  "trainingDataConfig": {"s3Uri": "s3://mine/train.jsonl"},
  "outputDataConfig": {"s3Uri": "s3://mine/out/"},
  "hyperParameters": {"epochCount": 2, "learningRate": "0.00001"}
}"#;
const SERVERLESS: &str = r#"{"HyperParameters": {"max_steps": 100, "lr": "1e-5", "reasoning_enabled": false}}"#;
const ROLE: &str = "arn:aws:iam::123456789012:role/tuning";
const TRAINING_JOB: &str = "arn:aws:sagemaker:us-east-1:123456789012:training-job/";
const CUSTOMIZATION_JOB: &str =
    "arn:aws:bedrock:us-east-1:123456789012:model-customization-job/amazon.nova-2-lite-v1:0:256k/abcdefghijkl";

fn classic() -> Settings {
    Settings {
        role: Some(ROLE.to_owned()),
        image: Some("image".to_owned()),
        instance_type: Some("ml.p5.48xlarge".to_owned()),
        price_per_hour: Some(98.0),
        max_hours: Some(2.5),
        ..Settings::default()
    }
}

fn serverless() -> Settings {
    Settings {
        role: Some(ROLE.to_owned()),
        base_model: Some("arn:aws:sagemaker:us-east-1:aws:hub-content/SageMakerPublicHub/Model/nova".to_owned()),
        model_group: Some("arn:aws:sagemaker:us-east-1:123456789012:model-package-group/mine".to_owned()),
        train: Some("s3://mine/train.jsonl".to_owned()),
        output: Some("s3://mine/out".to_owned()),
        accept_eula: true,
        ..Settings::default()
    }
}

fn submission(text: &str, on: Platform, settings: &Settings) -> Result<Submission, Error> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("recipe.yaml");
    std::fs::write(&file, text).unwrap();
    let document = Document::read(&file, Some(Tool::Nova)).unwrap();
    Submission::of(&document, text.as_bytes(), on, settings)
}

fn body(request: &Request) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

fn client(fake: &Fake) -> Client {
    let url = fake.url.clone();
    let variable = |name: &str| match name {
        "AWS_ENDPOINT_URL" => Some(url.clone()),
        "AWS_ACCESS_KEY_ID" => Some("AKIDEXAMPLE".to_owned()),
        "AWS_SECRET_ACCESS_KEY" => Some("secret".to_owned()),
        "AWS_SESSION_TOKEN" => Some("token".to_owned()),
        _ => None,
    };
    let surroundings = Surroundings { variable: &variable, home: None, profile: None };
    let credentials = surroundings.credentials().unwrap();
    Client::new(&surroundings, credentials, "us-east-1").pausing(Duration::from_millis(1))
}

fn described(name: &str, status: &str, detail: &str) -> Said {
    Said::json(
        200,
        json!({
            "TrainingJobName": name,
            "TrainingJobArn": format!("{TRAINING_JOB}{name}"),
            "TrainingJobStatus": status,
            "SecondaryStatus": detail,
            "FailureReason": if status == "Failed" { "AlgorithmError: the rows are no conversations" } else { "" },
            "OutputDataConfig": {"S3OutputPath": "s3://mine/out/"},
            "FinalMetricDataList": [{"MetricName": "loss", "Value": 0.5}],
        }),
    )
}

fn customized(status: &str, trains: &str) -> Said {
    Said::json(
        200,
        json!({
            "jobName": "support",
            "jobArn": CUSTOMIZATION_JOB,
            "status": status,
            "statusDetails": {"trainingDetails": {"status": trains}},
            // Present at all times, as some servers have it.
            "failureMessage": "the rows are too long",
            "outputDataConfig": {"s3Uri": "s3://mine/out/"},
            "trainingMetrics": {"trainingLoss": 0.25},
        }),
    )
}

#[test]
fn a_recipe_becomes_a_job_on_machines_of_ones_choice() {
    let made = submission(RECIPE, Platform::SageMaker, &classic()).unwrap();
    let [upload, create] = &made.requests[..] else { panic!("{:?}", made.requests) };
    let name = &made.name;
    assert!(name.starts_with("support-tickets-") && name.len() == 24, "{name}");
    assert_eq!((upload.method, upload.path.clone()), ("PUT", format!("/mine/out/{name}/recipe/recipe.yaml")));
    assert_eq!(upload.body, RECIPE.as_bytes());
    let source = |kind: &str, uri: &str| json!({"S3DataSource": {"S3DataType": kind, "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}});
    assert_eq!(
        body(create),
        json!({
            "TrainingJobName": name,
            "HyperParameters": {
                "base_model": "nova-lite-2/prod",
                "sagemaker_recipe_local_path": "/opt/ml/input/data/recipe/recipe.yaml",
            },
            "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "File"},
            "RoleArn": ROLE,
            "InputDataConfig": [
                {"ChannelName": "train", "DataSource": source("Converse", "s3://mine/train.jsonl")},
                {"ChannelName": "recipe", "DataSource": source("S3Prefix", &format!("s3://mine/out/{name}/recipe/"))},
            ],
            "OutputDataConfig": {"S3OutputPath": "s3://mine/out/"},
            "ResourceConfig": {"InstanceType": "ml.p5.48xlarge", "InstanceCount": 4, "VolumeSizeInGB": 30},
            "StoppingCondition": {"MaxRuntimeInSeconds": 9000},
        })
    );
    assert_eq!(made.cost.unwrap().usd(), 980.0);
    assert!(made.allow(None).unwrap_err().to_string().contains("--max-cost"));
    assert!(made.allow(Some(979.0)).is_err() && made.allow(Some(980.0)).is_ok());
    let shown = made.shown(&Surroundings { variable: &|_| None, home: None, profile: None }, "us-east-1");
    assert!(shown.starts_with("PUT https://s3.us-east-1.amazonaws.com/mine/out/"), "{shown}");
    assert!(
        shown.contains(
            "POST https://api.sagemaker.us-east-1.amazonaws.com/\ncontent-type: application/x-amz-json-1.1\n"
        ),
        "{shown}"
    );
    assert!(!shown.contains("authorization"), "{shown}");
}

#[test]
fn the_same_request_has_the_same_name() {
    let name = |text: &str, settings: &Settings| submission(text, Platform::SageMaker, settings).unwrap().name;
    let first = name(RECIPE, &classic());
    assert_eq!(first, name(RECIPE, &classic()));
    assert_ne!(first, name(RECIPE, &Settings { attempt: 1, ..classic() }));
    assert_ne!(first, name(RECIPE, &Settings { max_hours: Some(3.0), ..classic() }));
    assert_ne!(first, name(&RECIPE.replace("1e-5", "2e-5"), &classic()), "the recipe counts, not only the request");
    let long = Settings { name: Some("x".repeat(80)), ..classic() };
    assert_eq!(name(RECIPE, &long).len(), 63);
}

#[test]
fn hyperparameters_become_a_serverless_job() {
    let made = submission(SERVERLESS, Platform::SageMaker, &serverless()).unwrap();
    let [create] = &made.requests[..] else { panic!("{:?}", made.requests) };
    let sent = body(create);
    assert_eq!(sent["HyperParameters"], json!({"max_steps": "100", "lr": "1e-5", "reasoning_enabled": "false"}));
    assert_eq!(
        sent["ServerlessJobConfig"],
        json!({
            "BaseModelArn": serverless().base_model,
            "AcceptEula": true,
            "JobType": "FineTuning",
            "CustomizationTechnique": "SFT",
            "Peft": "LORA",
        })
    );
    assert_eq!(sent["ModelPackageConfig"]["ModelPackageGroupArn"], json!(serverless().model_group));
    assert!(sent.get("AlgorithmSpecification").is_none() && sent.get("ResourceConfig").is_none());
    assert!(made.cost.is_none());
    assert!(made.allow(Some(1e9)).unwrap_err().to_string().contains("--million-tokens"), "no price, no job");
    let priced = Settings { million_tokens: Some(10.0), price_per_million: Some(8.0), ..serverless() };
    let made = submission(SERVERLESS, Platform::SageMaker, &priced).unwrap();
    assert!(made.allow(Some(80.0)).is_ok() && made.allow(Some(79.0)).is_err());
    let many: String = (0..101).map(|key| format!("\"k{key}\": \"1\",")).collect();
    let many = format!("{{\"HyperParameters\": {{{}}}}}", many.trim_end_matches(','));
    let said = submission(&many, Platform::SageMaker, &serverless()).unwrap_err().to_string();
    assert!(said.starts_with("101 hyperparameters"), "{said}");
}

#[test]
fn a_job_of_bedrocks_is_its_own_body() {
    let made = submission(BEDROCK, Platform::Bedrock, &Settings::default()).unwrap();
    let [create] = &made.requests[..] else { panic!("{:?}", made.requests) };
    assert_eq!((create.method, create.path.as_str()), ("POST", "/model-customization-jobs"));
    let sent = body(create);
    assert_eq!(sent["hyperParameters"], json!({"epochCount": "2", "learningRate": "0.00001"}));
    for key in ["jobName", "customModelName", "clientRequestToken"] {
        assert_eq!(sent[key], json!(made.name), "{key}");
    }
    let given = Settings { output: Some("s3://other/".to_owned()), ..Settings::default() };
    let made = submission(BEDROCK, Platform::Bedrock, &given).unwrap();
    assert_eq!(body(&made.requests[0])["outputDataConfig"]["s3Uri"], "s3://other/");
}

#[test]
fn what_is_missing_or_out_of_place_is_said_at_once() {
    let said = |text: &str, on, settings: &Settings| submission(text, on, settings).unwrap_err().to_string();
    let all = said(RECIPE, Platform::SageMaker, &Settings::default());
    assert!(["--role", "--image", "--instance-type", "--max-hours"].iter().all(|flag| all.contains(flag)), "{all}");
    let out = said(RECIPE, Platform::SageMaker, &Settings { accept_eula: true, ..classic() });
    assert!(out.starts_with("--accept-eula has no place"), "{out}");
    assert!(said(RECIPE, Platform::Bedrock, &classic()).contains("--on sagemaker"));
    assert!(said(BEDROCK, Platform::SageMaker, &classic()).contains("--on bedrock"));
    assert!(
        said(&RECIPE.replace("s3://mine/out/", "s3://BUCKET/output/"), Platform::SageMaker, &classic())
            .contains("never filled in")
    );
    assert!(
        said(&RECIPE.replace("s3://mine/out/", "/local"), Platform::SageMaker, &classic()).contains("no place in S3")
    );
    let unread = Settings { accept_eula: false, ..serverless() };
    assert!(said(SERVERLESS, Platform::SageMaker, &unread).contains("--accept-eula"));
}

#[test]
fn a_training_job_from_the_queue_to_its_end() {
    let made = submission(RECIPE, Platform::SageMaker, &classic()).unwrap();
    let name = made.name.clone();
    let fake = Fake::start(vec![
        Said::empty(200),
        Said::json(200, json!({"TrainingJobArn": format!("{TRAINING_JOB}{name}")})),
        described(&name, "InProgress", "Pending"),
        described(&name, "InProgress", "Training"),
        described(&name, "InProgress", "Training"),
        Said::empty(200),
        described(&name, "Stopping", "Stopping"),
        described(&name, "Completed", "Completed"),
    ]);
    let client = client(&fake);
    let (job, was_there) = made.send(&client).unwrap();
    assert_eq!((job.phase, was_there), (Phase::Queued, false));
    let handle = Handle::read(&job.arn, None).unwrap();
    assert_eq!((handle.region.as_deref(), handle.job.as_str()), (Some("us-east-1"), name.as_str()));
    let job = find(&client, &handle).unwrap();
    assert_eq!((job.phase, job.said.as_str()), (Phase::Running, "InProgress, Training"));
    assert_eq!(stop(&client, &handle).unwrap().phase, Phase::Running, "it takes some minutes to stop");
    let job = find(&client, &handle).unwrap();
    assert_eq!((job.phase, job.reason), (Phase::Done, None));
    assert_eq!(job.output.unwrap(), format!("s3://mine/out/{name}/"));
    assert_eq!(job.metrics["final"][0]["Value"], 0.5);
    let asked = fake.asked();
    let targets: Vec<&str> = asked.iter().map(|asked| asked.header("x-amz-target")).collect();
    let describe = "SageMaker.DescribeTrainingJob";
    assert_eq!(
        targets,
        [
            "",
            "SageMaker.CreateTrainingJob",
            describe,
            describe,
            describe,
            "SageMaker.StopTrainingJob",
            describe,
            describe
        ]
    );
    assert_eq!(asked[1].body, made.requests[1].body, "what is shown is what is sent");
    assert_eq!(asked[1].header("x-amz-security-token"), "token");
    assert!(
        asked.iter().all(|asked| fake.url.ends_with(asked.header("host"))),
        "the host that is signed is the one that is sent"
    );
    let signed = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/";
    assert!(asked.iter().all(|asked| asked.header("authorization").starts_with(signed)));
}

#[test]
fn the_same_job_is_not_started_twice() {
    let made = submission(RECIPE, Platform::SageMaker, &classic()).unwrap();
    let taken = json!({"__type": "ResourceInUse", "message": "Training job names must be unique"});
    let fake =
        Fake::start(vec![Said::empty(200), Said::json(400, taken), described(&made.name, "InProgress", "Training")]);
    let (job, was_there) = made.send(&client(&fake)).unwrap();
    assert_eq!((job.phase, was_there), (Phase::Running, true));
}

#[test]
fn failures_say_why() {
    for (status, detail, phase, reason) in [
        ("Failed", "Failed", Phase::Failed, Some("AlgorithmError: the rows are no conversations")),
        ("Stopped", "MaxRuntimeExceeded", Phase::Stopped, Some("its limit of hours was reached")),
        ("Stopped", "Stopped", Phase::Stopped, None),
    ] {
        let fake = Fake::start(vec![described("x", status, detail)]);
        let job = find(&client(&fake), &Handle::read("x", Some(Platform::SageMaker)).unwrap()).unwrap();
        assert_eq!((job.phase, job.reason.as_deref()), (phase, reason), "{status}");
    }
    let fake = Fake::start(vec![described("x", "Dreaming", "Dreaming")]);
    let said = find(&client(&fake), &Handle::read("x", Some(Platform::SageMaker)).unwrap()).unwrap_err();
    assert!(said.to_string().contains("`Dreaming` is not known"), "{said}");
    assert!(Handle::read("x", None).is_err() && Handle::read("arn:aws:s3:us-east-1:1:bucket/x", None).is_err());
}

#[test]
fn a_busy_service_is_asked_again_and_then_given_up() {
    let busy = || Said::json(400, json!({"__type": "ThrottlingException", "message": "Rate exceeded"}));
    let handle = Handle::read("x", Some(Platform::SageMaker)).unwrap();
    let fake = Fake::start(vec![busy(), Said::empty(503), busy(), described("x", "Completed", "Completed")]);
    assert_eq!(find(&client(&fake), &handle).unwrap().phase, Phase::Done);
    assert_eq!(fake.asked().len(), 4);
    let fake = Fake::start((0..5).map(|_| busy()).collect());
    let said = find(&client(&fake), &handle).unwrap_err().to_string();
    assert!(said.starts_with("DescribeTrainingJob: throttled 5 times: Rate exceeded"), "{said}");
    // What is said of the request itself stands.
    let fake = Fake::start(vec![Said::json(400, json!({"__type": "AccessDeniedException", "Message": "not you"}))]);
    let said = find(&client(&fake), &handle).unwrap_err().to_string();
    assert!(said.starts_with("DescribeTrainingJob: access denied: not you"), "{said}");
    assert_eq!(fake.asked().len(), 1);
}

#[test]
fn a_customization_job_from_the_queue_to_its_end() {
    let made = submission(BEDROCK, Platform::Bedrock, &Settings::default()).unwrap();
    let fake = Fake::start(vec![
        Said::json(201, json!({"jobArn": CUSTOMIZATION_JOB})),
        customized("InProgress", "NotStarted"),
        customized("InProgress", "InProgress"),
        customized("InProgress", "InProgress"),
        Said::empty(200),
        customized("Stopping", "Stopping"),
        customized("Failed", "Failed"),
    ]);
    let client = client(&fake);
    assert_eq!(made.send(&client).unwrap().0.phase, Phase::Queued);
    let handle = Handle::read(CUSTOMIZATION_JOB, None).unwrap();
    let job = find(&client, &handle).unwrap();
    assert_eq!((job.phase, job.reason.as_deref()), (Phase::Running, None));
    assert_eq!(stop(&client, &handle).unwrap().phase, Phase::Running);
    let job = find(&client, &handle).unwrap();
    assert_eq!((job.phase, job.reason.as_deref()), (Phase::Failed, Some("the rows are too long")));
    assert_eq!(job.output.as_deref(), Some("s3://mine/out/model-customization-job-abcdefghijkl/"));
    let asked = fake.asked();
    let encoded = CUSTOMIZATION_JOB.replace(':', "%3A").replace('/', "%2F");
    assert_eq!(asked[1].target, format!("/model-customization-jobs/{}", made.name));
    assert_eq!(asked[2].target, format!("/model-customization-jobs/{encoded}"));
    assert_eq!(asked[4].target, format!("/model-customization-jobs/{encoded}/stop"));
}

#[test]
fn what_a_job_leaves_is_fetched_whole_or_not_at_all() {
    let manifest = br#"{"checkpoint_s3_bucket": "s3://escrow/step-100"}"#;
    let keys = ["out/x/", "out/x/recipe/recipe.yaml", "out/x/output/output.tar.gz", "out/x/weights & more.bin"];
    let archive =
        fake::archive(&[("run/manifest.json", manifest), ("run/metrics.csv", b"step,loss\n"), ("run/w.bin", b"0")]);
    let fake = Fake::start(vec![
        described("x", "Completed", "Completed"),
        of_s3(&keys[..2], Some("more&more")),
        of_s3(&keys[2..], None),
        Said { status: 200, body: b"run: 1\n".to_vec() },
        Said { status: 200, body: archive },
    ]);
    let client = client(&fake);
    let job = find(&client, &Handle::read("x", Some(Platform::SageMaker)).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("got");
    let fetched = fetch(&client, &job, &to).unwrap();
    assert_eq!(fetched.checkpoint.as_deref(), Some("s3://escrow/step-100"));
    let files: Vec<&Path> = fetched.files.iter().map(|file| file.as_path()).collect();
    let expected =
        ["job.json", "manifest.json", "metrics.json", "recipe/recipe.yaml", "run/manifest.json", "run/metrics.csv"];
    assert_eq!(files, expected.map(Path::new));
    assert!(expected.iter().all(|file| to.join(file).is_file()));
    assert_eq!(fetched.left, ["out/x/weights & more.bin", "output/output.tar.gz: run/w.bin"]);
    let asked = fake.asked();
    assert_eq!(asked[1].target, "/mine?list-type=2&prefix=out%2Fx%2F");
    assert_eq!(asked[2].target, "/mine?continuation-token=more%26more&list-type=2&prefix=out%2Fx%2F");
    assert!(fetch(&client, &job, &to).unwrap_err().to_string().contains("holds something already"));

    let fake = Fake::start(vec![described("x", "InProgress", "Training")]);
    let client = self::client(&fake);
    let job = find(&client, &Handle::read("x", Some(Platform::SageMaker)).unwrap()).unwrap();
    assert!(fetch(&client, &job, &folder.path().join("new")).unwrap_err().to_string().contains("has not ended"));
    assert!(!folder.path().join("new").exists());
}

#[test]
fn an_archive_writes_nowhere_else() {
    let archive = fake::archive(&[("../escape.json", b"{}"), ("in.json", b"{}")]);
    let fake = Fake::start(vec![
        described("x", "Completed", "Completed"),
        of_s3(&["out/x/output/output.tar.gz"], None),
        Said { status: 200, body: archive },
    ]);
    let client = client(&fake);
    let job = find(&client, &Handle::read("x", Some(Platform::SageMaker)).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let fetched = fetch(&client, &job, &folder.path().join("got")).unwrap();
    assert_eq!(fetched.left, ["../escape.json"]);
    assert!(folder.path().join("got/in.json").is_file());
    assert!(!folder.path().join("escape.json").exists());
}

#[test]
fn credentials_come_from_a_container_and_from_a_machine() {
    let reply = json!({"AccessKeyId": "A", "SecretAccessKey": "B", "Token": "C"});
    let fake = Fake::start(vec![Said::json(200, reply.clone())]);
    let url = format!("{}/v2", fake.url);
    let variable = |name: &str| match name {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI" => Some(url.clone()),
        "AWS_CONTAINER_AUTHORIZATION_TOKEN" => Some("mine".to_owned()),
        _ => None,
    };
    let found = Surroundings { variable: &variable, home: None, profile: None }.credentials().unwrap();
    assert_eq!(found.source, "the container");
    assert_eq!(fake.asked()[0].header("authorization"), "mine");

    let text = |text: &str| Said { status: 200, body: text.as_bytes().to_vec() };
    let fake = Fake::start(vec![text("session"), text("role\n"), Said::json(200, reply)]);
    let url = fake.url.clone();
    let variable = |name: &str| (name == "AWS_EC2_METADATA_SERVICE_ENDPOINT").then(|| url.clone());
    let found = Surroundings { variable: &variable, home: None, profile: None }.credentials().unwrap();
    assert_eq!(found.source, "the machine's role `role`");
    let asked = fake.asked();
    assert_eq!((asked[0].method.as_str(), asked[0].target.as_str()), ("PUT", "/latest/api/token"));
    assert_eq!(asked[2].header("x-aws-ec2-metadata-token"), "session");
    assert_eq!(asked[2].target, "/latest/meta-data/iam/security-credentials/role");
}
