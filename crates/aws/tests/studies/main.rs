//! Searches whose trials are jobs, against a small platform of our own: nothing here leaves this machine.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

#[path = "../fake/mod.rs"]
mod fake;
mod platform;
mod searched;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Instant;

use fake::{Asked, Fake, Said};
use platform::{Aws, all_complete, nothing};
use searched::{Searched, make, on_sagemaker, opening, search, trainer};
use serde_json::{Value, json};
use temper_pipeline::tune::{Budget, Clock, Ears, Over, Study, Told};
use temper_pipeline::{Interrupt, Options};
use temper_search::State;

const RECIPE: &str = include_str!("../../../recipe/tests/foreign/good/nova2_sft_lora.yaml");
const BEDROCK: &str = include_str!("../../../recipe/tests/foreign/good/bedrock_sft.json");
const ROLE: &str = "arn:aws:iam::123456789012:role/tuning";

/// A study of one trial.
const ONE: [&str; 1] = ["tune.trials=1"];

#[test]
fn each_trial_is_a_job_with_its_values_and_its_own_metrics() {
    let searched = on_sagemaker("      max_cost: 1000", "  finalists: 1");
    let aws = Aws::default();
    let fake = aws.serve(Box::new(all_complete), Box::new(nothing));
    let mut done = searched.search(&fake.url, &[]).unwrap();
    assert_eq!(done.over, Over::Done);
    let (jobs, trials) = (aws.jobs(), searched.trials());
    assert_eq!((jobs.len(), trials.len()), (3, 3));
    for (trial, (name, made)) in trials.iter().zip(&jobs) {
        assert_eq!(trial.state, State::Complete, "{:?}", trial.reason);
        assert_eq!(trial.point["training_config.optim_config.lr"].number().unwrap(), made.number(" lr"));
        assert_eq!(trial.result.as_ref().unwrap().values, [made.loss()]);
        assert!(name.starts_with("nova-"), "{name}");
        let folder = searched.folder.path().join(format!("study/trials/{:04}/seed-42", trial.number));
        assert_eq!(std::fs::read_to_string(folder.join("recipe.yaml")).unwrap(), made.recipe);
        assert!(folder.join(name).join("output/metrics.csv").is_file());
    }
    let own = RECIPE.replace(" lr: 1e-5", " lr: 0.00001");
    assert_eq!(jobs[0].1.recipe, own, "trial 0 has the recipe's own values");
    let ledger: Value =
        serde_json::from_slice(&std::fs::read(searched.folder.path().join("study/jobs.json")).unwrap()).unwrap();
    assert_eq!(ledger[&jobs[0].0], json!({"usd": 20.0, "billed": true}), "half an hour of one machine");

    // The finalists are jobs of their own, under another number of the same request.
    let study = Study { jobs: Some(make), ..searched.load(&[]).unwrap() };
    let ears = Ears { tell: &|_, _| {}, hear: &|_| {} };
    let budget = Budget::of(&study.tune, Budget::default());
    let finish = study.finish(&mut done.store, (budget, done.clock), &Options::default(), &ears).unwrap().unwrap();
    let repeated: usize = finish.repeated.iter().map(|one| one.runs.len() - 1).sum();
    assert!(repeated >= 1 && finish.repeated.iter().all(|one| one.runs.iter().all(|(_, measured)| measured.is_some())));
    assert_eq!(aws.jobs().len(), 3 + repeated);
}

#[test]
fn a_job_that_fails_fails_its_trial_with_awss_reason_and_the_search_goes_on() {
    let searched = on_sagemaker("      max_cost: 1000", "  finalists: 0");
    let aws = Aws::default();
    let fate = |number: usize| if number == 1 { vec!["Training", "Failed"] } else { all_complete(number) };
    let fake = aws.serve(Box::new(fate), Box::new(nothing));
    searched.search(&fake.url, &[]).unwrap();
    let trials = searched.trials();
    assert_eq!(searched.states(), [State::Complete, State::Failed, State::Complete]);
    let reason = trials[1].reason.clone().unwrap();
    assert_eq!(reason, format!("{} failed: AlgorithmError: out of memory", aws.jobs()[1].0));

    // Stopped by hand, and by its limit.
    let searched = on_sagemaker("      max_cost: 1000", "  finalists: 0");
    let aws = Aws::default();
    let fate = |number: usize| if number == 1 { vec!["Training", "Stopped"] } else { all_complete(number) };
    let fake = aws.serve(Box::new(fate), Box::new(nothing));
    searched.search(&fake.url, &[]).unwrap();
    assert!(searched.trials()[1].reason.as_ref().unwrap().ends_with("was stopped by hand"));

    // What a job did not measure is no number that is guessed.
    let searched = on_sagemaker("      max_cost: 1000", "  finalists: 0");
    let fake = Aws::default().serve(Box::new(all_complete), Box::new(nothing));
    let error = searched.search(&fake.url, &["tune.objectives={accuracy: maximize}"]).err().unwrap().to_string();
    assert!(
        error.contains("the last 3 trials failed") && error.contains("it left no `accuracy`; it left step, "),
        "{error}"
    );
}

#[test]
fn a_trial_that_might_pass_the_limit_is_not_started_and_the_study_says_so() {
    // One job may cost 40 and is billed 20.
    let searched = on_sagemaker("      max_cost: 70", "  finalists: 0");
    let aws = Aws::default();
    let fake = aws.serve(Box::new(all_complete), Box::new(nothing));
    let done = searched.search(&fake.url, &[]).unwrap();
    assert_eq!((done.over, aws.jobs().len()), (Over::Done, 2));
    let said = "the next job may cost $40.00; the jobs before come to $40.00, `max_cost` is $70.00";
    assert_eq!(done.closing, [said]);
    assert_eq!(searched.states(), [State::Complete, State::Complete, State::Paused]);
    // With a higher limit the same study goes on with the trial that waits.
    let done = searched.search(&fake.url, &["tune.trainer.sagemaker.max_cost=80"]).unwrap();
    assert_eq!((done.over, aws.jobs().len()), (Over::Done, 3));
    assert_eq!(searched.states(), [State::Complete; 3]);

    // What the finalists may cost is kept back: of 150 their three jobs take 120.
    let searched = on_sagemaker("      max_cost: 150", "  finalists: 2");
    let aws = Aws::default();
    let fake = aws.serve(Box::new(all_complete), Box::new(nothing));
    let done = searched.search(&fake.url, &[]).unwrap();
    assert!(
        aws.jobs().is_empty() && done.closing[0].contains("$120.00 are kept back for finalists"),
        "{:?}",
        done.closing
    );
}

#[test]
fn nothing_is_sent_without_a_limit_and_a_price() {
    let searched = on_sagemaker("", "  finalists: 0");
    let fake = Fake::start(Vec::new());
    let error = searched.search(&fake.url, &[]).err().unwrap().to_string();
    assert!(error.contains("what the study may cost is not known") && error.contains("`max_cost`"), "{error}");
    let unpriced = ["tune.trainer.sagemaker.max_cost=100", "tune.trainer.sagemaker.price_per_hour="];
    let error = searched.search(&fake.url, &unpriced).err().unwrap().to_string();
    assert!(error.contains("`price_per_hour` USD of one machine"), "{error}");
    let roleless = on_sagemaker("      max_cost: 100", "");
    let error = roleless.search(&fake.url, &["tune.trainer.sagemaker.role="]).err().unwrap().to_string();
    assert!(error.contains("say also `role` ARN, which the job runs as"), "{error}");
    assert!(fake.asked().is_empty());
}

/// The worker that the test below kills: this very test, in a process of its own.
#[test]
fn child() {
    let Some(file) = std::env::var_os("TEMPER_TEST_STUDY") else { return };
    let study = Study::load(Path::new(&file), &[]).unwrap();
    search(&study, &Options::default(), &|_| {}).unwrap();
}

#[test]
fn a_search_that_was_killed_between_start_and_record_finds_its_job() {
    let searched = on_sagemaker("      max_cost: 1000", "  finalists: 0");
    let (begun, is_begun) = channel();
    let (go_on, may_go_on) = channel::<()>();
    // The first job is started, and its answer comes when nobody waits for it any more.
    let fate = move |number: usize| {
        if number == 0 {
            begun.send(()).unwrap();
            may_go_on.recv().unwrap();
        }
        all_complete(number)
    };
    let aws = Aws::default();
    let fake = aws.serve(Box::new(fate), Box::new(nothing));
    std::fs::write(searched.folder.path().join("endpoint"), &fake.url).unwrap();
    let mut worker = Command::new(std::env::current_exe().unwrap());
    let mut worker = worker.args(["--exact", "child"]).env("TEMPER_TEST_STUDY", &searched.file).spawn().unwrap();
    is_begun.recv().unwrap();
    worker.kill().unwrap();
    worker.wait().unwrap();
    go_on.send(()).unwrap();
    let done = searched.search(&fake.url, &[]).unwrap();
    assert_eq!((done.over, searched.states()), (Over::Done, vec![State::Complete; 3]));
    let creates = |asked: &&Asked| asked.header("x-amz-target") == "SageMaker.CreateTrainingJob";
    assert_eq!((fake.asked().iter().filter(creates).count(), aws.jobs().len()), (3, 3), "no job was asked for twice");
}

#[test]
fn an_interrupt_stops_the_job_and_the_same_command_starts_it_anew() {
    let searched = on_sagemaker("      max_cost: 1000", "  finalists: 0");
    let aws = Aws::default();
    let fate = |number: usize| if number == 0 { vec!["Training"] } else { all_complete(number) };
    let fake = aws.serve(Box::new(fate), Box::new(nothing));
    let asked = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&asked);
    let interrupt = Interrupt::when(move || seen.load(Ordering::Relaxed));
    let options = Options { interrupt: Some(interrupt), ..Options::default() };
    let hear = |told: &Told| {
        if matches!(told, Told::Progress { .. }) {
            asked.store(true, Ordering::Relaxed);
        }
    };
    let done = searched.search_with(&fake.url, &ONE, &options, &hear).unwrap();
    assert_eq!((done.over, searched.states()), (Over::Interrupted, vec![State::Paused]));
    assert!(aws.jobs()[0].1.stopped, "the job was asked to stop");
    let done = searched.search(&fake.url, &ONE).unwrap();
    let jobs = aws.jobs();
    assert_eq!((done.over, searched.states(), jobs.len()), (Over::Done, vec![State::Complete], 2));
    assert_eq!(jobs[0].1.recipe, jobs[1].1.recipe, "the same once more, under another name");
}

#[test]
fn quotas_throttling_and_credentials_end_the_search_and_lose_no_trial() {
    for (code, said) in [
        ("ResourceLimitExceeded", "a quota is used up"),
        ("ThrottlingException", "throttled 5 times"),
        ("ExpiredTokenException", "the credentials are not accepted"),
    ] {
        let searched = on_sagemaker("      max_cost: 1000", "  finalists: 0");
        let aws = Aws::default();
        let refused = Arc::new(AtomicBool::new(true));
        let refuses = Arc::clone(&refused);
        let instead = move |action: &str| {
            let refused = action == "CreateTrainingJob" && refuses.load(Ordering::Relaxed);
            refused.then(|| Said::json(400, json!({"__type": code, "message": "no"})))
        };
        let fake = aws.serve(Box::new(all_complete), Box::new(instead));
        let error = searched.search(&fake.url, &ONE).err().unwrap().to_string();
        assert!(error.contains(said), "{error}");
        refused.store(false, Ordering::Relaxed);
        let done = searched.search(&fake.url, &ONE).unwrap();
        assert_eq!((done.over, searched.states(), aws.jobs().len()), (Over::Done, vec![State::Complete], 1), "{code}");
    }
}

#[test]
fn credentials_that_grow_old_while_a_job_runs_are_looked_for_again() {
    let searched = on_sagemaker("      max_cost: 1000", "  finalists: 0");
    let aws = Aws::default();
    let mut questions = 0;
    let instead = move |action: &str| {
        questions += usize::from(action == "DescribeTrainingJob");
        let old = json!({"__type": "ExpiredTokenException", "message": "old"});
        (action == "DescribeTrainingJob" && questions == 3).then(|| Said::json(400, old))
    };
    let fake = aws.serve(Box::new(all_complete), Box::new(instead));
    searched.search(&fake.url, &ONE).unwrap();
    assert_eq!((searched.states(), aws.jobs().len()), (vec![State::Complete], 1));
}

#[test]
fn with_steps_a_job_that_is_behind_is_stopped_for_good() {
    let steps = "      max_cost: 1000\n      steps: 100\n      metrics: {step: 'global_step=([0-9]+)', validation_loss: 'val_loss=(.*)'}";
    let searched = on_sagemaker(steps, "  finalists: 0\n  early_stopping: asha\n  rungs: 2");
    let aws = Aws::default();
    let fate = |_: usize| vec!["Training", "Training 50", "Training 60", "Completed"];
    let fake = aws.serve(Box::new(fate), Box::new(nothing));
    let study = searched.load(&[]).unwrap();
    let note = "a job cannot be paused: what `tune.early_stopping: asha` would pause is stopped for good";
    assert!(study.searchable.notes.iter().any(|told| told == note), "{:?}", study.searchable.notes);
    searched.search(&fake.url, &["tune.trials=6"]).unwrap();
    let stopped: Vec<bool> = aws.jobs().iter().map(|(_, made)| made.stopped).collect();
    let pruned: Vec<bool> = searched.states().iter().map(|state| *state == State::Pruned).collect();
    assert_eq!(stopped, pruned);
    assert!(!pruned[0] && pruned.contains(&true), "{pruned:?}");
    let defined = &aws.jobs()[0].1.body["AlgorithmSpecification"]["MetricDefinitions"];
    assert_eq!(defined[0], json!({"Name": "step", "Regex": "global_step=([0-9]+)"}));
}

#[test]
fn what_early_stopping_cannot_go_by_is_refused() {
    let refused = |tune: &str| on_sagemaker("      max_cost: 1", tune).load(&[]).err().map(|error| error.to_string());
    let said = refused("  early_stopping: asha").unwrap();
    assert!(
        said.contains("`tune.early_stopping: asha` has nothing to go by: jobs are measured at their end"),
        "{said}"
    );
    assert!(refused("  early_stopping: paired").unwrap().contains("a job tells no scores of single items"));
    assert_eq!(
        (refused("  early_stopping: off"), refused("  early_stopping: hopeless"), refused("")),
        (None, None, None)
    );
    let unheard = on_sagemaker("      steps: 10", "").load(&[]).err().unwrap().to_string();
    assert!(unheard.contains("has no effect without a metric `step`"), "{unheard}");
    let both = on_sagemaker("    bedrock: {recipe: nova.yaml}", "").load(&[]).err().unwrap().to_string();
    assert!(both.contains("`tune.trainer.bedrock` and `sagemaker` exclude each other"), "{both}");
    let program = on_sagemaker("    command: [train]", "").load(&[]).err().unwrap().to_string();
    assert!(program.contains("`tune.trainer.command` has no effect with sagemaker"), "{program}");
}

#[test]
fn a_build_without_jobs_says_how_to_get_them() {
    let searched = on_sagemaker("      max_cost: 1000", "");
    let study = searched.load(&[]).unwrap();
    let mut store = study.open(&study.address(), &opening()).unwrap();
    let clock = Clock::read(&mut store, Instant::now()).unwrap();
    let ears = Ears { tell: &|_, _| {}, hear: &|_| {} };
    let budget = (Budget::of(&study.tune, Budget::default()), None);
    let error = study.work(&mut Some(store), budget, clock, &Options::default(), &ears).err().unwrap().to_string();
    assert!(error.contains("this build of temper has no jobs on AWS") && error.contains("--features aws"), "{error}");
}

#[test]
fn the_plan_shows_the_request_of_trial_0_and_what_all_may_cost() {
    let searched = on_sagemaker("", "  finalists: 1");
    let study = searched.load(&["tune.trainer.sagemaker.max_cost=210"]).unwrap();
    let plan = trainer(&study, None).unwrap().plan(Some(3)).unwrap();
    assert_eq!((plan.usd, plan.repeats, plan.paid), (Some(40.0), 2, Some(3)));
    assert!(plan.missing.is_empty() && plan.requests.contains("\"MaxRuntimeInSeconds\": 3600"), "{}", plan.requests);
    assert!(plan.requests.contains("lr: 0.00001") && !plan.requests.contains("authorization"), "{}", plan.requests);
    let study = searched.load(&[]).unwrap();
    let plan = trainer(&study, None).unwrap().plan(Some(3)).unwrap();
    assert_eq!(plan.missing, ["`max_cost`: USD that all jobs of the study may cost together"]);
}

#[test]
fn jobs_of_bedrocks_cost_what_their_values_make_of_the_tokens() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("job.json"), BEDROCK).unwrap();
    let text = format!(
        "name: nova
output: {}
tune:
  trainer:
    bedrock:
      recipe: job.json
      region: us-east-1
      million_tokens: 2 * hyperParameters.epochCount
      price_per_million: 10
      max_cost: 100
      poll_seconds: 0.01
  space: {{hyperParameters.epochCount: {{low: 1, high: 3}}}}
  objectives: {{validationLoss: minimize}}
  sampler: grid
  finalists: 0
",
        folder.path().join("study").display()
    );
    let searched = Searched::of(folder, &text);
    let aws = Aws::default();
    let fate = |_: usize| vec!["InProgress", "Completed"];
    let fake = aws.serve(Box::new(fate), Box::new(nothing));
    let done = searched.search(&fake.url, &[]).unwrap();
    let trials = searched.trials();
    // Of 2, 3 and 1 epochs at 20 each, the last would come to 120.
    assert_eq!(aws.jobs().len(), 2, "{:?}", done.closing);
    assert!(
        done.closing[0].starts_with("the next job may cost $20.00; the jobs before come to $100.00"),
        "{:?}",
        done.closing
    );
    assert_eq!(trials[0].point["hyperParameters.epochCount"].number(), Some(2.0), "its own value, a text there");
    assert_eq!(trials[0].result.as_ref().unwrap().values, [0.0]);
    let names: Vec<Value> = aws.jobs().iter().map(|(_, made)| made.body["customModelName"].clone()).collect();
    assert_eq!(names, aws.jobs().iter().map(|(name, _)| json!(name)).collect::<Vec<_>>(), "a model for each");
}
