//! Studies whose trials are jobs on AWS: what carries them out, and their plan for people.

use std::fmt::Write as _;

use temper_aws::{JobTrainer, JobsPlan, job_trainer};
use temper_pipeline::tune::{Budget, Study, described};

use crate::command::{DONE, Failure, Outcome, conclude, json};

/// The study with what carries its jobs out.
pub fn with(study: Study) -> Study {
    Study { jobs: Some(job_trainer), ..study }
}

/// Refuses a study of jobs that could not start one, before anything is made.
pub fn ready(study: &Study) -> Result<(), Failure> {
    if study.tune.trainer.as_ref().is_some_and(|trainer| trainer.jobs().is_some()) {
        JobTrainer::of_process(study, None)?.ready()?;
    }
    Ok(())
}

/// What the study will start and may spend, and the exact requests of trial 0. Sends nothing, and needs no credentials.
pub fn plan(study: &Study, budget: Budget, as_json: bool) -> Outcome {
    let points = study.searchable.space.size();
    let trials = [budget.trials, points].into_iter().flatten().min();
    let plan = JobTrainer::of_process(study, None)?.plan(trials)?;
    conclude(if as_json { json(&plan)? } else { text(study, budget, &plan) }, DONE)
}

fn text(study: &Study, budget: Budget, plan: &JobsPlan) -> String {
    let mut out = String::from("space\n");
    let mut line = |text: String| {
        let _ = writeln!(out, "{text}");
    };
    for parameter in study.searchable.space.parameters() {
        line(format!("  {}", described(parameter)));
    }
    let objectives: Vec<String> = study.measures.goals().objectives.iter().map(ToString::to_string).collect();
    line(format!("objectives  {}", objectives.join(", ")));
    match plan.cost {
        Some(cost) => line(format!("one job     on {} may cost {cost}", plan.platform)),
        None => line(format!("one job     on {}; what it may cost is not known", plan.platform)),
    }
    let jobs = plan.trials.map(|trials| trials + plan.repeats);
    let count = match plan.trials {
        Some(trials) => format!("{trials} trials and {} repeats of finalists", plan.repeats),
        None => format!("trials until the time is up, and {} repeats of finalists", plan.repeats),
    };
    let most = jobs
        .zip(plan.usd)
        .map_or(String::new(), |(jobs, usd)| format!(", ${:.2} if none ends early", jobs as f64 * usd));
    line(format!("in all      {count}{most}"));
    if let Some(limit) = plan.max_cost {
        let paid =
            plan.paid.map_or(String::new(), |paid| format!(": pays for {paid} trials like trial 0 beside the repeats"));
        line(format!("max_cost    ${limit:.2}{paid}"));
    }
    for missing in &plan.missing {
        line(format!("missing     {missing}; nothing is sent without it"));
    }
    if let Some(seconds) = budget.seconds {
        line(format!("ends after  {}, which stops the jobs under way", temper_report::duration(seconds)));
    }
    line(format!("\nthe requests of trial 0, but for the signature\n\n{}", plan.requests.trim_end()));
    out
}
