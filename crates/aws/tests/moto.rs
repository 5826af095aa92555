//! Jobs against moto, which others wrote to stand in for AWS: `cargo xtask e2e moto` starts one and says where it is.
//!
//! Of what moto 5.2.5 does not do faithfully, the tests of `jobs.rs` are: serverless jobs and `StopTrainingJob` (status 500), a
//! training job on its way (it is `Completed` at once), a name that is taken, a customization job by its ARN or one that ends by
//! itself, failures. What came of it: `bench/results/moto-*.md`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may fail, and says what it saw")]

use std::io::Read;
use std::path::Path;

use serde_json::Value;
use temper_aws::{Client, Error, Handle, Job, Phase, Platform, Settings, Submission, Surroundings, fetch, find, stop};
use temper_recipe::foreign::{Document, Tool};

const ROLE: &str = "arn:aws:iam::123456789012:role/tuning";
const BUCKET: &str = "temper-moto";

/// Where moto is, where one was started for this.
fn moto() -> Option<String> {
    let url = std::env::var("TEMPER_TEST_MOTO").ok();
    if url.is_none() {
        println!("skipped: TEMPER_TEST_MOTO is not set; `cargo xtask e2e moto` sets it");
    }
    url
}

fn client(url: &str) -> Client {
    let variable = |name: &str| match name {
        "AWS_ENDPOINT_URL" => Some(url.to_owned()),
        "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some("testing".to_owned()),
        _ => None,
    };
    let surroundings = Surroundings { variable: &variable, home: None, profile: None };
    Client::new(&surroundings, surroundings.credentials().unwrap(), "us-east-1")
}

/// Puts an object into moto's S3 by a plain request: to write, moto asks for no signature.
fn put(url: &str, path: &str, body: &[u8]) {
    ureq::put(format!("{url}/{path}")).send(body).unwrap();
}

/// Reads an object of moto's S3, which gives nothing to a request without a signature, and takes any.
fn get(url: &str, path: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let signed = ureq::get(format!("{url}/{path}")).header(
        "authorization",
        "AWS4-HMAC-SHA256 Credential=testing/20261127/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0",
    );
    signed.call().unwrap().into_body().into_reader().read_to_end(&mut bytes).unwrap();
    bytes
}

fn submission(name: &str, text: &str, on: Platform, settings: &Settings) -> Submission {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(name);
    std::fs::write(&file, text).unwrap();
    Submission::of(&Document::read(&file, Some(Tool::Nova)).unwrap(), text.as_bytes(), on, settings).unwrap()
}

/// A recipe whose rows and results lie in a bucket, and what a job of it on machines of one's own choice needs.
fn on_machines(bucket: &str) -> (String, Settings) {
    let recipe = format!(
        "run:\n  name: support\n  model_type: amazon.nova-2-lite-v1:0:256k\n  model_name_or_path: nova-lite-2/prod\n  replicas: 4\n  \
         data_s3_path: s3://{bucket}/train.jsonl\n  output_s3_path: s3://{bucket}/out/\ntraining_config:\n  max_steps: 100\n"
    );
    let settings = Settings {
        role: Some(ROLE.to_owned()),
        image: Some("123456789012.dkr.ecr.us-east-1.amazonaws.com/nova:1".to_owned()),
        instance_type: Some("ml.p5.48xlarge".to_owned()),
        max_hours: Some(1.0),
        ..Settings::default()
    };
    (recipe, settings)
}

fn seen(what: &str, job: &Job) {
    println!("moto: {what}: {} is {} ({})", job.name, job.phase, job.said);
}

#[test]
fn a_training_job_is_started_found_and_fetched() {
    let Some(url) = moto() else { return };
    put(&url, BUCKET, b"");
    let (recipe, settings) = on_machines(BUCKET);
    let settings = Settings { price_per_hour: Some(98.0), ..settings };
    let made = submission("recipe.yaml", &recipe, Platform::SageMaker, &settings);
    let client = client(&url);
    let (job, was_there) = made.send(&client).unwrap();
    seen("submitted", &job);
    assert_eq!((job.phase, was_there), (Phase::Done, false));
    let recipe_there = get(&url, &format!("{BUCKET}/out/{}/recipe/recipe.yaml", made.name));
    assert_eq!(recipe_there, recipe.as_bytes(), "the recipe lies in S3");
    let sent: Value = serde_json::from_slice(&made.requests[1].body).unwrap();
    for key in [
        "HyperParameters",
        "AlgorithmSpecification",
        "RoleArn",
        "InputDataConfig",
        "OutputDataConfig",
        "ResourceConfig",
        "StoppingCondition",
    ] {
        // moto adds to some of them; nothing that was sent may be lost.
        let (sent, kept) = (&sent[key], &job.reply[key]);
        match sent.as_object() {
            Some(map) => map.iter().for_each(|(name, value)| assert_eq!(&kept[name], value, "{key}.{name}")),
            None => assert_eq!(kept, sent, "{key}"),
        }
    }
    let (again, was_there) = made.send(&client).unwrap();
    assert_eq!((&again.arn, was_there), (&job.arn, false), "moto takes a name twice, which SageMaker does not");
    assert!(job.metrics["final"][0]["Value"].is_number(), "{}", job.metrics);
    let handle = Handle::read(&job.arn, None).unwrap();
    assert_eq!(stop(&client, &handle).unwrap().phase, Phase::Done, "what has ended is left as it is");
    put(
        &url,
        &format!("{BUCKET}/out/{}/output/manifest.json", made.name),
        br#"{"checkpoint_s3_bucket": "s3://escrow/x"}"#,
    );
    let folder = tempfile::tempdir().unwrap();
    let fetched = fetch(&client, &job, &folder.path().join("got")).unwrap();
    assert_eq!(fetched.checkpoint.as_deref(), Some("s3://escrow/x"));
    assert!(fetched.files.iter().any(|file| file == Path::new("recipe/recipe.yaml")), "{fetched:?}");
    let unknown = Handle::read("never-was", Some(Platform::SageMaker)).unwrap();
    assert!(matches!(find(&client, &unknown).unwrap_err(), Error::NotFound { .. }));
}

#[test]
fn more_names_than_a_page_holds_and_odd_ones_are_listed_and_read() {
    let Some(url) = moto() else { return };
    let bucket = "temper-moto-names";
    put(&url, bucket, b"");
    let (recipe, settings) = on_machines(bucket);
    let made = submission("recipe.yaml", &recipe, Platform::SageMaker, &settings);
    let client = client(&url);
    let (job, _) = made.send(&client).unwrap();
    let below = format!("{bucket}/out/{}", made.name);
    for number in 0..1001 {
        put(&url, &format!("{below}/weights/{number}.bin"), b"");
    }
    // As they are encoded on their way: `a b+c&d ü.json`.
    put(&url, &format!("{below}/a%20b%2Bc%26d%20%C3%BC.json"), b"{}");
    let folder = tempfile::tempdir().unwrap();
    let fetched = fetch(&client, &job, &folder.path().join("got")).unwrap();
    assert!(fetched.files.iter().any(|file| file == Path::new("a b+c&d ü.json")), "{fetched:?}");
    assert_eq!(fetched.left.len(), 1001, "{:?}", fetched.left.last());
}

#[test]
fn a_customization_job_is_started_once_found_and_stopped() {
    let Some(url) = moto() else { return };
    let bucket = "temper-moto-bedrock";
    put(&url, bucket, b"");
    put(&url, &format!("{bucket}/train.jsonl"), b"{}\n");
    let job = format!(
        r#"{{"jobName": "support", "roleArn": "{ROLE}", "customizationType": "FINE_TUNING",
        "baseModelIdentifier": "amazon.nova-2-lite-v1:0:256k", "trainingDataConfig": {{"s3Uri": "s3://{bucket}/train.jsonl"}},
        "outputDataConfig": {{"s3Uri": "s3://{bucket}/out/"}}, "hyperParameters": {{"epochCount": 2}}}}"#
    );
    let made = submission("job.json", &job, Platform::Bedrock, &Settings::default());
    let client = client(&url);
    let (job, was_there) = made.send(&client).unwrap();
    seen("submitted", &job);
    assert_eq!((job.phase, was_there, &job.name), (Phase::Running, false, &made.name));
    assert_eq!(job.reply["hyperParameters"]["epochCount"], "2");
    let (again, was_there) = made.send(&client).unwrap();
    assert_eq!((&again.arn, was_there), (&job.arn, true), "the same job is not started twice");
    let by_arn = find(&client, &Handle::read(&job.arn, None).unwrap()).unwrap_err();
    assert!(
        matches!(by_arn, Error::NotFound { .. }),
        "moto knows jobs by their names only, which AWS does not: {by_arn}"
    );
    let handle = Handle::read(&job.name, Some(Platform::Bedrock)).unwrap();
    let stopped = stop(&client, &handle).unwrap();
    seen("stopped", &stopped);
    assert_eq!((stopped.phase, stopped.reason.as_deref()), (Phase::Stopped, None));
    let unknown = Handle::read("never-was", Some(Platform::Bedrock)).unwrap();
    assert!(matches!(find(&client, &unknown).unwrap_err(), Error::NotFound { .. }));
}
