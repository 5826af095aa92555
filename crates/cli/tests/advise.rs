//! `temper advise` through the binary: a recipe, a run and a study; that nothing starts unasked, and what starts when asked.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tiny;

use serde_json::Value;
use tiny::{Folder, answers, ends, finished, json, lines, stdout};

/// Eight steps on the domain alone, validated at their end only.
fn folder(more: &str) -> Folder {
    let folder = Folder::new();
    let stage = answers("mode: lora\nmax_steps: 8  # short\nlearning_rate: 1e-3\nlora_rank: 4\neval_steps: 50");
    folder.write_recipe(&(folder.around("base", &stage) + more));
    folder
}

fn rules(advised: &Value) -> Vec<String> {
    let all = advised["findings"].as_array().unwrap().iter();
    all.map(|finding| finding["rule"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_recipe_is_advised_and_nothing_starts_unasked() {
    let folder = folder("");
    let recipe = folder.recipe();
    let output = folder.temper(&["advise", &recipe]);
    ends(&output, 0, &[]);
    let text = stdout(&output);
    for piece in [
        "advice on recipe tiny",
        "warning no-general-data (stages.0.mix)",
        "AWS blog on data mixing, voice-of-customer task, March 2026",
        "warning validation-never-fires (stages.0.eval_steps)",
        "found   eval_steps is 50, and the stage has 8 steps",
        "next, by no-general-data:\n   stages.0.mix.domain: 50\n",
        "--start` does so",
    ] {
        assert!(text.contains(piece), "`{piece}` is not in:\n{text}");
    }
    assert!(!text.contains("likeliest cause"), "nothing was seen yet");
    assert!(!folder.path("run").exists() && !folder.path("recipe-2.yaml").exists(), "nothing was written");
    let advised: Value = serde_json::from_str(&stdout(&folder.temper(&["advise", &recipe, "--json"]))).unwrap();
    assert_eq!(advised["what"], "recipe");
    // What is mended is not found any more.
    let mended = folder.temper(&["advise", &recipe, "--json", "--set", "stages.0.eval_steps=2"]);
    let mended = rules(&serde_json::from_str(&stdout(&mended)).unwrap());
    let before = rules(&advised);
    let without: Vec<&String> = before.iter().filter(|rule| *rule != "validation-never-fires").collect();
    assert_eq!(mended.iter().collect::<Vec<_>>(), without);

    ends(&folder.temper(&["advise", &recipe, "--rule", "all-good"]), 2, &["it was not found here", "no-general-data"]);
    ends(
        &folder.temper(&["advise", &recipe, "--rule", "few-demonstrations"]),
        2,
        &["no change that a machine can make"],
    );
    ends(&folder.temper(&["advise", &folder.path("cache").display().to_string()]), 2, &["plan.json"]);
    ends(&folder.temper(&["advise", &folder.path("no.yaml").display().to_string()]), 2, &["no.yaml"]);
}

#[test]
fn a_plan_has_the_advice_that_its_warnings_do_not_give() {
    let folder = Folder::new();
    let stage = answers("mode: lora\nmax_steps: 8\nlora_rank: 4");
    let stage: String = stage.split_inclusive('\n').filter(|line| !line.contains("validation:")).collect();
    folder.write_recipe(&folder.around("base", &stage));
    let recipe = folder.recipe();
    let plan = stdout(&folder.temper(&["plan", &recipe]));
    let (before, advice) = plan.split_once("advice, by rank\n").unwrap();
    let line = "  warning no-general-data (stages.0.mix): stage 1 is sft on domain data alone\n    do: add a mix; ";
    assert!(advice.starts_with(line), "{plan}");
    assert!(!advice.contains("MMLU fell"), "the reasons stand in `temper advise`: {advice}");
    assert!(advice.ends_with(&format!("reasons and sources: temper advise {recipe}\n")), "{advice}");
    assert!(before.contains("warning: stages.0 has no validation rows"), "{before}");
    let advised: Value = serde_json::from_str(&stdout(&folder.temper(&["advise", &recipe, "--json"]))).unwrap();
    let all = rules(&advised);
    assert!(all.len() > 2 && all.contains(&"no-validation".to_owned()), "{all:?}");
    for rule in all {
        assert_eq!(advice.contains(&rule), rule != "no-validation", "{rule}: {plan}");
    }
    // In JSON a warning is the text that it was.
    let plan: Value = serde_json::from_str(&stdout(&folder.temper(&["plan", &recipe, "--json"]))).unwrap();
    let warnings = plan["warnings"].as_array().unwrap();
    assert!(warnings.iter().any(|one| one.as_str().unwrap().starts_with("stages.0 has no validation")), "{warnings:?}");
}

#[test]
fn an_experiment_is_a_recipe_of_its_own_and_a_run_of_it() {
    let folder = folder("");
    let recipe = folder.recipe();
    let before = std::fs::read_to_string(&recipe).unwrap();
    let started = folder.temper(&["advise", &recipe, "--rule", "validation-never-fires", "--start"]);
    assert!(matches!(started.status.code(), Some(0 | 4)), "{started:?}");
    assert_eq!(std::fs::read_to_string(&recipe).unwrap(), before, "the first recipe stays");
    let run = folder.path("run").display().to_string();
    let written = std::fs::read_to_string(folder.path("recipe-2.yaml")).unwrap();
    let expected = before.replace("eval_steps: 50", "eval_steps: 2").replace("name: tiny", "name: tiny-2");
    assert_eq!(written, expected.replace(&format!("output: {run}"), &format!("output: \"{run}-2\"")));
    let validated = lines(&folder.path("run-2/metrics.jsonl"));
    let steps: Vec<u64> = validated
        .iter()
        .filter(|line| line["event"] == "validation")
        .map(|line| line["step"].as_u64().unwrap())
        .collect();
    assert_eq!(steps, [0, 2, 4, 6, 8]);
    assert!(!folder.path("run").exists(), "only the experiment was run");

    // Of the run, what was mended is found no more; the next experiment counts on.
    let second = folder.path("run-2").display().to_string();
    let output = folder.temper(&["advise", &second, "--json"]);
    ends(&output, 0, &[]);
    let advised: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((advised["what"].as_str(), advised["name"].as_str()), (Some("run"), Some("tiny-2")));
    assert!(rules(&advised).contains(&"no-general-data".to_owned()), "{advised}");
    assert!(!rules(&advised).contains(&"validation-never-fires".to_owned()), "{advised}");
    // Its page shows what is advised, finished as it is, and so does one that is made again.
    let page = || std::fs::read_to_string(folder.path("run-2/report.html")).unwrap().replace("&#x2f;", "/");
    let first = page();
    for piece in [
        "What to do next",
        "stage 1 is sft on domain data alone",
        "AWS blog on data mixing, voice-of-customer task, March 2026. Rule <code>no-general-data</code>",
        "<strong>Do:</strong> add a mix",
    ] {
        assert!(first.contains(piece), "`{piece}` is not in:\n{first}");
    }
    assert!(!first.contains("<code>unfinished</code>"));
    let advice =
        |page: &str| page.split_once("id=\"advice\"").unwrap().1.split_once("</section>").unwrap().0.to_owned();
    finished(&folder.temper(&["report", &second]));
    assert_eq!(advice(&page()), advice(&first));
    // A recipe that was changed since is not taken for the run's.
    let changed = format!("{written}\n# more\n");
    std::fs::write(folder.path("recipe-2.yaml"), changed).unwrap();
    let refused = folder.temper(&["advise", &second, "--rule", "no-general-data", "--start"]);
    ends(&refused, 2, &["is not as it was when the run began", "--recipe"]);
    assert!(!folder.path("recipe-3.yaml").exists());
}

#[test]
fn a_run_that_was_stopped_is_gone_on_with() {
    let folder = Folder::new();
    folder.kill_after(1, 2, &[]);
    let run = folder.path("run").display().to_string();
    let output = folder.temper(&["advise", &run]);
    ends(&output, 0, &[]);
    let text = stdout(&output);
    assert!(text.contains("warning unfinished") && text.contains("of 18 steps are made"), "{text}");
    let started = folder.temper(&["advise", &run, "--rule", "unfinished", "--start"]);
    finished(&started);
    assert!(folder.path("run/summary.json").is_file());
    let advised: Value = serde_json::from_str(&stdout(&folder.temper(&["advise", &run, "--json"]))).unwrap();
    assert!(!rules(&advised).contains(&"unfinished".to_owned()));
}

#[test]
fn a_study_is_advised_by_its_trials() {
    let folder = folder(
        "tune:\n  space:\n    stages.0.learning_rate: {low: 1e-4, high: 1e-2, log: true}\n  sampler: random\n  trials: 3\n  rungs: 1\n  finalists: 0\n",
    );
    finished(&folder.temper(&["tune", &folder.recipe()]));
    let study = folder.path("run-study").display().to_string();
    let output = folder.temper(&["advise", &study]);
    ends(&output, 0, &[]);
    let text = stdout(&output);
    for piece in ["advice on study tiny", "warning few-trials", "found   3 trials were measured, 10 would do"] {
        assert!(text.contains(piece), "`{piece}` is not in:\n{text}");
    }
    assert!(text.contains(&format!("temper tune {} --trials 10", folder.recipe())), "{text}");
    assert_eq!(json(&folder.path("run-study/tune.json"))["trials"], 3, "nothing was begun");
    let page = std::fs::read_to_string(folder.path("run-study/report.html")).unwrap().replace("&#x2f;", "/");
    for piece in
        ["3 trials were measured, 10 would do", "<strong>Do:</strong> go on with the study", "--trials 10\n</pre>"]
    {
        assert!(page.contains(piece), "`{piece}` is not in:\n{page}");
    }
}
