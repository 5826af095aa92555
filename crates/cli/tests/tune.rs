//! `temper tune` on a tiny model: the search, its end, what stops it, and programs as trainers.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tiny;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use temper_pipeline::tune::Study;
use temper_recipe::Recipe;
use temper_run::Random;
use temper_search::store::Opening;
use temper_search::{History, State};
use tiny::{Folder, answers, ends, finished, json, stderr, stdout};

/// One stage of eight steps, and a space of a rate, a rank that follows, and a mode in which there is no rank.
const SPACE: &str = "tune:
  space:
    stages.0.learning_rate: {low: 1e-4, high: 1e-1, log: true}
    stages.0.mode: [lora, full]
    stages.0.lora_rank: {values: [2, 4, 8], when: {stages.0.mode: lora}}
    stages.0.lora_alpha: 2 * stages.0.lora_rank
  sampler: random
  trials: 6
  rungs: 3
  finalists: 1
";

fn folder(tune: &str) -> Folder {
    let folder = Folder::new();
    let stage = answers("mode: lora\nmax_steps: 8\nlearning_rate: 1e-3\nlora_rank: 4\nlora_alpha: 8");
    folder.write_recipe(&(folder.around("base", &stage) + tune));
    folder
}

/// The trials of the study that this file says.
fn history(file: &str) -> History {
    let study = Study::load(Path::new(file), &[]).unwrap();
    let mut store = study.open(&study.address(), &Opening::default()).unwrap();
    store.refresh().unwrap();
    store.history().clone()
}

#[test]
fn a_search_ends_with_a_front_one_recommendation_and_its_recipe() {
    let folder = folder(SPACE);
    let recipe = folder.recipe();
    let applied = folder.path("winner.yaml");
    let output = folder.temper(&["tune", &recipe, "--apply", &applied.display().to_string()]);
    finished(&output);
    let text = stdout(&output);
    for piece in ["front:", "recommended: trial", "rows that the search has not seen", "stages.0.learning_rate"] {
        assert!(text.contains(piece), "`{piece}` is not in:\n{text}");
    }
    let answer = json(&folder.path("run-study/tune.json"));
    assert_eq!(answer["trials"], 6);
    let history = history(&folder.recipe());
    let own = history.trial(0).unwrap();
    assert_eq!(own.state, State::Complete, "the recipe's own values go their full length");
    assert_eq!(own.reports.iter().map(|report| report.step).collect::<Vec<_>>(), [250, 500, 1000]);
    assert!(history.trials().iter().any(|trial| trial.state == State::Paused), "something was paused");
    // What full rank is trained with has no rank.
    for trial in history.trials() {
        let full = trial.point["stages.0.mode"] == "full".into();
        assert_ne!(full, trial.point.contains_key("stages.0.lora_rank"), "{:?}", trial.point);
    }
    // The recipe that was written is the recommended trial's, comments and all else as they were.
    let (written, _) = Recipe::load(&applied, &[]).unwrap();
    let values: BTreeMap<String, Value> =
        written.settings().into_iter().map(|setting| (setting.path, setting.value)).collect();
    for (name, value) in answer["values"].as_object().unwrap() {
        assert_eq!(values[name].as_f64(), value.as_f64(), "{name}");
        assert!(value.is_number() || values[name] == *value, "{name}");
    }
    let before = std::fs::read_to_string(folder.recipe()).unwrap();
    assert!(std::fs::read_to_string(&applied).unwrap().lines().count().abs_diff(before.lines().count()) <= 2);

    // The same command once more has nothing left to do, and says the same.
    let again = folder.temper(&["tune", &recipe, "--json"]);
    finished(&again);
    let again: Value = serde_json::from_str(&stdout(&again)).unwrap();
    assert_eq!(again["answer"], answer["answer"]);
    assert_eq!(again["sealed"], answer["sealed"]);
    // Another training is another study.
    let other = folder.temper(&["tune", &recipe, "--set", "stages.0.max_steps=9"]);
    ends(&other, 2, &["was begun with other settings or data", "--overwrite"]);
}

#[test]
fn a_plan_says_what_is_searched_and_what_it_takes() {
    let folder = folder("");
    let plan = folder.temper(&["tune", &folder.recipe(), "--plan"]);
    ends(&plan, 0, &[]);
    let text = stdout(&plan);
    for piece in [
        "LoRA Without",
        "stages.0.lora_alpha = 2.0 * stages.0.lora_rank",
        "objectives  validation_loss (minimize), forgetting (minimize)",
        "30 trials",
    ] {
        assert!(text.contains(piece), "`{piece}` is not in:\n{text}");
    }
    assert!(!folder.path("run-study").exists(), "a plan leaves nothing");
    let json: Value =
        serde_json::from_str(&stdout(&folder.temper(&["tune", &folder.recipe(), "--plan", "--json", "--trials", "3"])))
            .unwrap();
    assert_eq!(json["trials"], 3);
}

/// 64 trials, half of them at full rank, took 32 GiB where the plan said 2.9: it was of the recipe's own values, a LoRA.
#[test]
fn a_plan_has_room_for_the_largest_of_the_modes_that_are_searched() {
    let disk = |tune: &str| {
        let folder = folder(tune);
        let plan = folder.temper(&["tune", &folder.recipe(), "--plan", "--json", "--trials", "3"]);
        ends(&plan, 0, &[]);
        serde_json::from_str::<Value>(&stdout(&plan)).unwrap()["trial"]["disk_bytes"].as_u64().unwrap()
    };
    let rate = "stages.0.learning_rate: {low: 1e-4, high: 1e-2, log: true}";
    let rank = "stages.0.lora_rank: {values: [4, 8], when: {stages.0.mode: lora}}, stages.0.lora_alpha: 2 * stages.0.lora_rank";
    let [lora, either] = ["lora", "lora, full"]
        .map(|modes| disk(&format!("tune: {{space: {{stages.0.mode: [{modes}], {rate}, {rank}}}}}")));
    assert!(either > 2 * lora, "{either} bytes with full rank, {lora} without");
}

#[test]
fn what_cannot_be_searched_is_refused_before_anything_is_trained() {
    let refused = |tune: &str, pieces: &[&str]| {
        let folder = folder(tune);
        ends(&folder.temper(&["tune", &folder.recipe()]), 2, pieces);
        assert!(!folder.path("run-study/trials").exists());
    };
    refused(
        "tune: {space: {stages.0.learning_rat: {low: 1, high: 2}}}",
        &["there is no field `stages.0.learning_rat`", "did you mean `stages.0.learning_rate`?"],
    );
    refused("tune: {space: {stages.0.lora_rank: {low: 8}}}", &["a range has a `low` and a `high`"]);
    refused("tune: {space: {stages.0.lora_alpha: 2 * (rank}}", &["expected `)`"]);
    refused("tune: {objectives: {accuracy: maximize}}", &["`accuracy` is not measured", "validation_loss, heldout"]);
    refused("tune: {space: {stages.0.weight_decay: {low: 0, high: 1, log: true}}}", &["begins above 0"]);
    refused("tune: {sampler: bayes}", &["`bayes`"]);
}

#[test]
fn ctrl_c_pauses_and_the_same_command_goes_on() {
    let folder = folder(SPACE);
    let recipe = folder.recipe();
    let mut child = folder.command(&["tune", &recipe]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while !folder.path("run-study/trials/0002").exists() {
        assert!(begun.elapsed() < Duration::from_secs(120) && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    ends(&output, 3, &[]);
    finished(&folder.temper(&["tune", &recipe]));
    let history = history(&folder.recipe());
    assert_eq!(history.trials().len(), 6);
    assert!(history.trials().iter().all(|trial| !matches!(trial.state, State::Running | State::Stale)));
}

/// What is worse than the best on the same validation rows ends, in a search that was interrupted as in one that was left alone.
#[test]
fn trials_are_paired_by_the_rows_that_they_are_validated_on() {
    let folder = || {
        let folder = Folder::new();
        let rows = std::fs::read_to_string(tiny::root().join("data/icd10/validation.jsonl")).unwrap();
        let rows: Vec<&str> = rows.lines().take(24).collect();
        std::fs::write(folder.path("validation.jsonl"), rows.join("\n")).unwrap();
        let tiny = tiny::root().join("data/tests/tiny_validation.jsonl").display().to_string();
        let stage = answers("mode: lora\nmax_steps: 8\nlearning_rate: 1e-3\nlora_rank: 4\nlora_alpha: 8");
        let stage = stage.replace(&tiny, &folder.path("validation.jsonl").display().to_string());
        let paired = "  early_stopping: paired\n  objectives: {validation_loss: minimize}\n";
        let tune = SPACE.replace("trials: 6", "trials: 8").replace("finalists: 1", "finalists: 0") + paired;
        folder.write_recipe(&(folder.around("base", &stage) + &tune));
        folder
    };
    let (folder, alone) = (folder(), folder());
    finished(&alone.temper(&["tune", &alone.recipe()]));
    let alone = history(&alone.recipe());
    let worse = |trial: &&temper_search::Trial| {
        let reason = trial.reason.as_deref().unwrap_or_default();
        trial.state == State::Pruned && reason.starts_with("paired: validation_loss is worse than trial ")
    };
    let ended = alone.trials().iter().filter(worse).count();
    assert!((1..8).contains(&ended), "{ended} of 8 trials ended");
    for report in alone.trials().iter().flat_map(|trial| &trial.reports) {
        let [items] = &report.items[..] else { panic!("expected the rows' losses: {report:?}") };
        let mean = items.iter().sum::<f64>() / items.len() as f64;
        assert!(items.len() == 24 && (mean / report.measured.values[0] - 1.0).abs() < 1e-12, "{report:?}");
    }

    let recipe = folder.recipe();
    let mut child = folder.command(&["tune", &recipe]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while !folder.path("run-study/trials/0001").exists() {
        assert!(begun.elapsed() < Duration::from_secs(120) && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    child.wait().unwrap();
    finished(&folder.temper(&["tune", &recipe]));
    let history = history(&recipe);
    for (one, other) in history.trials().iter().zip(alone.trials()) {
        assert_eq!((&one.reports, one.state, &one.reason), (&other.reports, other.state, &other.reason));
    }
}

/// Fifty workers are killed at random moments; every trial comes to an end, once, and what it measured is what a search that was left alone
/// measures of the same values.
#[test]
fn fifty_kills_lose_no_trial_and_train_none_twice() {
    let space = SPACE.replace("trials: 6", "trials: 12").replace("finalists: 1", "finalists: 0");
    let (folder, alone) = (folder(&space), folder(&space));
    let begun = Instant::now();
    finished(&alone.temper(&["tune", &alone.recipe()]));
    let whole = begun.elapsed().as_secs_f64();
    let moments = Random::new(12, "moments of kill -9");
    let (recipe, mut kills) = (folder.recipe(), 0);
    let worker = |kind: &str| {
        let mut command = folder.command(&[kind, &recipe, "--lease", "1"]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    // The first to come makes the study.
    let mut workers = vec![worker("tune")];
    while !folder.path("run-study/study.sqlite").exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    workers.push(worker("worker"));
    let begun = Instant::now();
    while kills < 50 {
        assert!(begun.elapsed() < Duration::from_secs(600), "{kills} kills in ten minutes");
        let pause = 0.4 * whole * moments.unit(kills) / 12.0;
        std::thread::sleep(Duration::from_secs_f64(pause));
        let which = moments.below(1000 + kills, workers.len() as u64) as usize;
        let ended = workers[which].try_wait().unwrap().is_some();
        let _ = workers[which].kill();
        workers[which].wait().unwrap();
        workers[which] = worker(if which == 0 { "tune" } else { "worker" });
        kills += 1;
        if ended && history(&folder.recipe()).trials().len() == 12 {
            // Nothing is left to be killed.
            break;
        }
    }
    for worker in &mut workers {
        let _ = worker.kill();
        worker.wait().unwrap();
    }
    // One that nobody kills brings it to its end.
    let output = folder.temper(&["tune", &recipe, "--lease", "1"]);
    finished(&output);
    let (history, alone) = (history(&folder.recipe()), history(&alone.recipe()));
    assert_eq!(history.trials().len(), 12);
    for trial in history.trials() {
        let settled = matches!(trial.state, State::Complete | State::Paused | State::Pruned | State::Failed);
        assert!(settled, "trial {} is {:?}: {}", trial.number, trial.state, stderr(&output));
        // What was drawn for a number depends on the seed alone, and what is measured of it on nothing else.
        let same = alone.trial(trial.number).unwrap();
        assert_eq!(same.point, trial.point);
        if trial.state == State::Failed {
            assert!(trial.reason.as_deref().unwrap().contains("workers were lost"), "{:?}", trial.reason);
        }
        for report in &trial.reports {
            if let Some(other) = same.at(report.step) {
                assert_eq!(other.measured, report.measured, "trial {}, step {}", trial.number, report.step);
            }
        }
    }
}

/// A program in sh: its loss falls with the step towards how far the rate is from 0.01.
const PROGRAM: &str = r#"
set -e
rate=$1; dir=$2; resume=$3; step=0
if [ -n "$resume" ]; then step=$(cat "$resume"); echo "went on after $step" >> "$dir/log"; fi
trap 'echo $step > "$dir/checkpoint"; echo "{\"checkpoint\": \"checkpoint\"}"; exit 0' TERM
while [ $step -lt 8 ]; do
  step=$((step + 1))
  awk -v r="$rate" -v s="$step" 'BEGIN { d = log(r / 0.01); print "{\"step\": " s ", \"loss\": " d * d + 1 / s "}" }'
  echo "not a record"
  sleep 0.05
done
"#;

fn program(folder: &Folder, script: &str, trainer: &str, more: &str) -> String {
    std::fs::write(folder.path("train.sh"), script).unwrap();
    let file = folder.path("study.yaml");
    let output = folder.path("run-study").display().to_string();
    let text = format!(
        "name: program
output: {output}
tune:
  trainer:
    steps: 8
{trainer}
  space: {{rate: {{low: 1e-4, high: 1, log: true, around: 0.5}}}}
  objectives: {{loss: minimize}}
  sampler: random
  trials: 8
  rungs: 3
  finalists: 0
{more}"
    );
    std::fs::write(&file, text).unwrap();
    file.display().to_string()
}

#[test]
fn a_program_carries_trials_out_and_goes_on_from_its_checkpoint() {
    let folder = Folder::new();
    let trainer =
        "    command: [sh, train.sh, \"{rate}\", \"{dir}\", \"{resume}\"]\n    resumes: true\n    grace_seconds: 5";
    let file = program(&folder, PROGRAM, trainer, "");
    let output = folder.temper(&["tune", &file]);
    ends(&output, 0, &[]);
    let history = history(&file);
    assert_eq!(history.trials().len(), 8);
    let went_on = history
        .trials()
        .iter()
        .filter(|trial| folder.path(&format!("run-study/trials/{:04}/seed-42/log", trial.number)).exists());
    assert!(went_on.count() > 0, "none was paused and gone on with: {}", stderr(&output));
    for trial in history.trials() {
        let rate = trial.point["rate"].number().unwrap();
        for report in &trial.reports {
            let step = (report.step as f64 / 125.0).round();
            let expected = (rate / 0.01).ln().powi(2) + 1.0 / step;
            let got = report.measured.values[0];
            assert!((got - expected).abs() < 1e-3 * expected, "trial {}: {got} for {expected}", trial.number);
        }
    }
    let best = history.trials().iter().filter(|trial| trial.state == State::Complete);
    assert!(best.count() >= 1);
}

#[test]
fn what_a_program_is_given_and_how_it_fails() {
    // As arguments and environment, by name.
    let folder = Folder::new();
    let script = r#"
[ "$TEMPER_TRIAL" = 0 ] && [ "$TEMPER_SEED" = 42 ] && [ -d "$TEMPER_TRIAL_DIR" ] && [ -z "$TEMPER_RESUME" ] || exit 9
echo "{\"step\": 8, \"loss\": ${2:-$TEMPER_VALUE_RATE}}"
"#;
    let one = "  early_stopping: off\n";
    for (values, extra) in [("arguments", ""), ("environment", "")] {
        let trainer = format!("    command: [sh, train.sh]\n    values: {values}{extra}");
        let file = program(&folder, script, &trainer, one);
        let output = folder.temper(&["tune", &file, "--trials", "1", "--overwrite", "--json"]);
        ends(&output, 0, &[]);
        let answer: Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!(answer["values"]["rate"], 0.5, "{values}");
    }
    // In a file.
    std::fs::write(folder.path("values.txt"), "{{ rate }}").unwrap();
    let trainer =
        "    command: [sh, read.sh, \"{file}\"]\n    values: file\n    template: values.txt\n    metrics: file";
    std::fs::write(
        folder.path("read.sh"),
        "echo \"{\\\"step\\\": 8, \\\"loss\\\": $(cat $1)}\" > \"$TEMPER_TRIAL_DIR/metrics.jsonl\"",
    )
    .unwrap();
    let file = program(&folder, script, trainer, one);
    let output = folder.temper(&["tune", &file, "--trials", "1", "--overwrite"]);
    ends(&output, 0, &[]);
    assert!(stdout(&output).contains("loss 0.5000"), "{}", stdout(&output));

    let fails = |script: &str, trainer: &str, code: i32, pieces: &[&str]| {
        let trainer = format!("    command: [sh, train.sh]\n{trainer}");
        let file = program(&folder, script, &trainer, one);
        ends(&folder.temper(&["tune", &file, "--trials", "4", "--overwrite"]), code, pieces);
    };
    fails("echo broken >&2; exit 7", "", 2, &["the last 3 trials failed", "exit status: 7", "broken"]);
    fails("exit 7", "    fail_codes: [7]", 4, &["exit code 7, named in `fail_codes`"]);
    fails("exit 0", "", 2, &["ended without a metric"]);
    fails("echo '{\"step\": 4, \"loss\": 1}'", "", 2, &["ended at 50.0 % of `steps`"]);
    fails("sleep 60", "    timeout_minutes: 0.005\n    grace_seconds: 0.1", 2, &["had not ended after 0.005 minutes"]);
    let paired = |metrics: &str| {
        let trainer = format!("    command: [sh, train.sh]\n    metrics: {metrics}");
        program(&folder, script, &trainer, "  early_stopping: paired\n")
    };
    ends(&folder.temper(&["tune", &paired("tensorboard")]), 2, &["event files hold no scores of single items"]);
    ends(&folder.temper(&["tune", &paired("stdout"), "--plan"]), 0, &["unless lines of the program have `items`"]);
    fails("echo '{\"step\": 8, \"loss\": NaN}'", "", 2, &["the last 3 trials failed"]);
    let file = program(&folder, script, "    command: [no-such-program]", one);
    ends(&folder.temper(&["tune", &file, "--overwrite"]), 2, &["cannot start no-such-program"]);
}

// ray#30584: an experiment that failures ended cannot be restored: all of it counts as over.
#[test]
fn ray_30584_a_search_that_failures_ended_goes_on_once_they_are_mended() {
    let folder = Folder::new();
    let file = program(&folder, "exit 7", "    command: [sh, train.sh]", "");
    ends(
        &folder.temper(&["tune", &file]),
        2,
        &["the last 3 trials failed", "the same command goes on with new trials"],
    );
    std::fs::write(folder.path("train.sh"), "echo \"{\\\"step\\\": 8, \\\"loss\\\": $2}\"").unwrap();
    ends(&folder.temper(&["tune", &file]), 0, &[]);
    let history = history(&file);
    let of = |state: State| history.trials().iter().filter(|trial| trial.state == state).count();
    assert_eq!((history.trials().len(), of(State::Failed)), (8, 3));
}

// wandb#4237: a run that was pre-empted is started again with one argument more than it knows.
#[test]
fn wandb_4237_a_program_that_is_gone_on_with_gets_the_arguments_that_it_began_with() {
    let folder = Folder::new();
    let script = PROGRAM.replace("set -e", "set -e; echo \"$# $1 $2\" >> \"$2/arguments\"");
    let trainer = "    command: [sh, train.sh, \"{rate}\", \"{dir}\", \"{resume}\"]\n    resumes: true";
    let file = program(&folder, &script, trainer, "");
    ends(&folder.temper(&["tune", &file]), 0, &[]);
    let mut again = 0;
    for trial in history(&file).trials() {
        let given = folder.path(&format!("run-study/trials/{:04}/seed-42/arguments", trial.number));
        let given = std::fs::read_to_string(given).unwrap();
        let lines: Vec<&str> = given.lines().collect();
        assert!(lines.iter().all(|line| *line == lines[0] && line.starts_with("3 ")), "{given}");
        again += usize::from(lines.len() > 1);
    }
    assert!(again > 0, "none was paused and gone on with");
}

// katib#2163: an experiment in which no trial succeeds stays as it is, for ever.
#[test]
fn katib_2163_a_search_without_a_successful_trial_ends_and_says_why() {
    let folder = Folder::new();
    let file = program(&folder, "exit 7", "    command: [sh, train.sh]\n    fail_codes: [7]", "");
    let output = folder.temper(&["tune", &file]);
    ends(&output, 4, &[]);
    assert!(stdout(&output).contains("no trial has come to its full length"), "{}", stdout(&output));
    assert_eq!(history(&file).trials().len(), 8);
}

/// Minutes are those of the study, whichever command spends them; and workers know when they are over.
#[test]
fn minutes_are_the_studys_and_not_each_commands() {
    let folder = Folder::new();
    let script = "sleep 0.1; echo \"{\\\"step\\\": 8, \\\"loss\\\": $2}\"";
    let file = program(&folder, script, "    command: [sh, train.sh]", "");
    let text = std::fs::read_to_string(&file).unwrap().replace("  trials: 8\n", "");
    std::fs::write(&file, text).unwrap();
    let tune = |minutes: &str| {
        let output = folder.temper(&["tune", &file, "--minutes", minutes, "--workers", "2", "--json"]);
        ends(&output, 0, &[]);
        let answer: Value = serde_json::from_str(&stdout(&output)).unwrap();
        // The front and what the loss depends on are told whole.
        assert_eq!(answer["front"][0]["number"], answer["answer"]["recommended"]);
        assert_eq!(answer["front"][0]["objectives"]["loss"], answer["front"][0]["values"]["rate"]);
        assert_eq!(answer["importance"][0]["objective"], "loss");
        let told = &answer["importance"][0];
        assert!(told["shares"][0]["name"] == "rate" || told["untold"].is_string(), "{told}");
        answer["trials"].as_u64().unwrap()
    };
    let first = tune("0.05");
    assert!(first > 2, "{first}");
    assert_eq!(tune("0.05"), first, "the time was up");
    assert!(tune("0.1") > first);
}

/// The file that a study keeps its trials in is where it is said to be.
#[test]
fn a_study_may_lie_elsewhere() {
    let folder = folder(&SPACE.replace("finalists: 1", "finalists: 0"));
    let elsewhere = folder.path("elsewhere.sqlite");
    let at = elsewhere.display().to_string();
    finished(&folder.temper(&["tune", &folder.recipe(), "--study", &at, "--trials", "2", "--workers", "2"]));
    // A worker is told no more than where it is, and finds that nothing is left to be done.
    ends(&folder.temper(&["worker", "--study", &at]), 0, &[]);
    ends(&folder.temper(&["worker", "--study", &at, "--name", "other"]), 2, &["no study that `temper tune` began"]);
    assert!(elsewhere.is_file() && !Path::new(&folder.path("run-study/study.sqlite")).exists());
}
