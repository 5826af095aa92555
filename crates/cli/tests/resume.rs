//! A run that was stopped, however it was stopped, ends with the bytes of one that was left alone.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tiny;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use temper_run::Random;
use tiny::{Folder, ends, json, lines, root, same, stderr};

/// The run left alone, in `alone`.
fn alone(folder: &Folder) -> Vec<(String, Vec<u8>)> {
    let path = folder.path("alone").display().to_string();
    ends(&folder.temper(&["run", &folder.recipe(), "--output", &path, "--no-cache"]), 0, &[]);
    folder.result("alone")
}

#[test]
fn fifty_kills_at_random_moments_change_no_byte() {
    let folder = Folder::new();
    let start = std::time::Instant::now();
    let expected = alone(&folder);
    let whole = start.elapsed().as_secs_f64();
    let run = folder.path("run").display().to_string();
    let moments = Random::new(50, "moments of kill -9");
    let (mut kills, mut finished, mut attempts) = (0, 0, 0);
    while kills < 50 || finished == 0 {
        // Without recipe.json the run never began.
        let begun = folder.path("run/recipe.json").is_file();
        if !begun {
            let _ = std::fs::remove_dir_all(&run);
        }
        let recipe = folder.recipe();
        let arguments: Vec<&str> = if begun { vec!["resume", &run] } else { vec!["run", &recipe] };
        let mut child =
            folder.command(&arguments).arg("--no-cache").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        // A run that will not be killed any more is waited for; else it dies somewhere in the time that a whole one takes. The
        // moment is another at every attempt: one that comes too late for this run would come too late for ever.
        let seconds = if kills < 50 { whole * moments.unit(attempts) } else { 600.0 };
        attempts += 1;
        let start = std::time::Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if start.elapsed() > Duration::from_secs_f64(seconds) {
                break None;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        match status {
            None => {
                child.kill().unwrap();
                child.wait().unwrap();
                kills += 1;
            }
            Some(status) => {
                let mut said = String::new();
                std::io::Read::read_to_string(child.stderr.as_mut().unwrap(), &mut said).unwrap();
                assert!(status.success(), "{said}");
                same(&expected, &folder.result("run"));
                finished += 1;
                std::fs::remove_dir_all(&run).unwrap();
            }
        }
    }
}

#[test]
fn ctrl_c_ends_after_the_step_with_a_checkpoint_and_3() {
    let folder = Folder::new();
    let expected = alone(&folder);
    let run = folder.path("run").display().to_string();
    let mut child = folder
        .command(&["run", &folder.recipe(), "--no-cache", "--set", "stages.0.save_steps=1000"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    lines.find(|line| line.as_ref().unwrap().starts_with("step 4 of 12")).unwrap().unwrap();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let rest: String = lines.map(|line| line.unwrap() + "\n").collect();
    assert_eq!(child.wait().unwrap().code(), Some(3), "{rest}");
    assert!(rest.contains("a checkpoint was written") && rest.contains("temper resume"), "{rest}");
    let resumed = folder.temper(&["resume", &run, "--no-cache"]);
    ends(&resumed, 0, &["going on after step", "step-0000"]);
    same(&expected, &folder.result("run"));
    ends(&folder.temper(&["resume", &run]), 0, &["is finished"]);
}

#[test]
fn a_damaged_checkpoint_is_skipped_and_said() {
    let folder = Folder::new();
    let expected = alone(&folder);
    let run = folder.path("run").display().to_string();
    folder.kill_after(1, 6, &[]);
    let stage = folder.path("run/checkpoints/stage-1");
    let mut steps: Vec<_> = std::fs::read_dir(&stage)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("step-"))
        .collect();
    steps.sort();
    // keep_checkpoints is 2; the kill may come between the third's writing and the first's removal.
    assert!(matches!(steps.len(), 2 | 3), "{steps:?}");
    let newest = steps.pop().unwrap();
    let file = newest.join("trainer.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 7]).unwrap();
    let resumed = folder.temper(&["resume", &run, "--no-cache"]);
    let older = steps.pop().unwrap();
    ends(
        &resumed,
        0,
        &[
            &format!("skipped checkpoint {}: trainer.safetensors is damaged", newest.display()),
            &format!("from {}", older.display()),
        ],
    );
    same(&expected, &folder.result("run"));
}

#[test]
fn a_disk_that_takes_no_more_is_an_error_and_loses_nothing() {
    let folder = Folder::new();
    let expected = alone(&folder);
    let run = folder.path("run").display().to_string();
    // Files may grow to 4 MiB: an adapter's checkpoint fits, the second stage's (20 MB) does not. Ignoring the signal that
    // the system would send leaves the error of the write, as on a full disk.
    let command = format!(
        "trap '' XFSZ; ulimit -f 8192; exec {} run {} --no-cache",
        env!("CARGO_BIN_EXE_temper"),
        folder.recipe()
    );
    let output = Command::new("bash").args(["-c", &command]).output().unwrap();
    ends(&output, 1, &["checkpoints/stage-2", "hint:"]);
    let resumed = folder.temper(&["resume", &run, "--no-cache"]);
    ends(&resumed, 0, &["stage 1 is finished already"]);
    same(&expected, &folder.result("run"));
}

#[test]
fn a_folder_that_cannot_be_written_is_an_error_before_any_training() {
    let folder = Folder::new();
    let output = folder.temper(&["run", &folder.recipe(), "--output", "/proc/temper"]);
    ends(&output, 1, &["/proc/temper", "hint:"]);
    assert!(!stderr(&output).contains("validation"), "{}", stderr(&output));
}

#[test]
fn two_processes_do_not_write_one_run() {
    let folder = Folder::new();
    let mut child = folder.command(&["run", &folder.recipe(), "--no-cache"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    lines.find(|line| line.as_ref().unwrap().starts_with("step 2 of 12")).unwrap().unwrap();
    let run = folder.path("run").display().to_string();
    // The first is stopped, so that it cannot end while the second looks.
    let signal = |name: &str| Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(signal("-STOP").success());
    let second = folder.temper(&["resume", &run]);
    assert!(signal("-KILL").success());
    ends(&second, 1, &["is being written by another process", "hint:"]);
    child.wait().unwrap();
}

#[test]
fn a_changed_recipe_is_listed_and_only_harmless_changes_go_on() {
    let folder = Folder::new();
    let run = folder.path("run").display().to_string();
    folder.kill_after(1, 4, &[]);
    let unsafe_change = ["resume", &run, "--set", "seed=43", "--set", "stages.0.save_steps=3"];
    let output = folder.temper(&unsafe_change);
    ends(&output, 2, &["changed (needs --accept): seed: 42 -> 43", "changed: stages.0.save_steps: 1 -> 3", "--accept"]);

    let output = folder.temper(&["resume", &run, "--set", "precision=bf16"]);
    ends(&output, 2, &["changed (needs --accept): precision: f32 -> bf16 (it changes what is trained)", "--accept"]);
    assert!(!stderr(&output).contains("changed: device"), "{}", stderr(&output));

    // Other rows under the same name.
    let text = folder.text();
    let rows = std::fs::read_to_string(root().join("data/tests/tiny_train.jsonl")).unwrap();
    let fewer: String = rows.lines().take(15).map(|line| format!("{line}\n")).collect();
    std::fs::write(folder.path("fewer.jsonl"), fewer).unwrap();
    let other = root().join("data/tests/tiny_train.jsonl").display().to_string();
    folder.write_recipe(&text.replacen(&other, &folder.path("fewer.jsonl").display().to_string(), 1));
    let recipe = folder.recipe();
    let output = folder.temper(&["resume", &run, "--recipe", &recipe]);
    ends(&output, 2, &["changed (needs --accept): content of stages.0.train"]);

    let accepted = folder.temper(&["resume", &run, "--recipe", &recipe, "--accept", "--no-cache"]);
    ends(&accepted, 0, &["content of stages.0.train", "going on after step"]);
    let events = std::fs::read_to_string(folder.path("run/events.jsonl")).unwrap();
    assert!(events.contains("\"event\":\"changed\""), "{events}");
}

#[test]
fn a_harmless_change_gives_the_same_bytes() {
    let folder = Folder::new();
    let expected = alone(&folder);
    let run = folder.path("run").display().to_string();
    folder.kill_after(1, 4, &[]);
    let resumed = folder.temper(&["resume", &run, "--no-cache", "--set", "stages.0.save_steps=5"]);
    ends(&resumed, 0, &["changed: stages.0.save_steps: 1 -> 5"]);
    same(&expected, &folder.result("run"));
}

#[test]
fn another_micro_batch_sees_the_same_rows_in_the_same_steps() {
    let folder = Folder::new();
    alone(&folder);
    let path = folder.path("run").display().to_string();
    let other = ["run", &folder.recipe(), "--output", &path, "--no-cache", "--set", "stages.0.micro_batch_tokens=512"];
    ends(&folder.temper(&other), 0, &[]);
    same_steps(&folder);
}

#[test]
fn another_micro_batch_from_the_middle_on_sees_the_same_rows_in_the_same_steps() {
    let folder = Folder::new();
    alone(&folder);
    let run = folder.path("run").display().to_string();
    folder.kill_after(1, 6, &[]);
    let resumed = folder.temper(&["resume", &run, "--no-cache", "--set", "stages.0.micro_batch_tokens=512"]);
    let note =
        "changed: stages.0.micro_batch_tokens: 256 -> 512 (same rows in the same steps; sums differ in the last bits)";
    ends(&resumed, 0, &[note, "going on after step"]);
    same_steps(&folder);
}

/// The first stage of `run` makes the steps of `alone`, and their losses agree.
fn same_steps(folder: &Folder) {
    let steps = |run: &str| -> Vec<serde_json::Value> {
        let lines = lines(&folder.path(run).join("metrics.jsonl")).into_iter();
        lines.filter(|line| line["event"] == "step" && line["stage"] == 1).collect()
    };
    let (a, b) = (steps("alone"), steps("run"));
    assert_eq!((a.len(), b.len()), (12, 12));
    for (a, b) in a.iter().zip(&b) {
        for same in ["step", "learning_rate", "processed_tokens", "trained_tokens"] {
            assert_eq!(a[same], b[same], "{same}");
        }
        let (x, y) = (a["loss"].as_f64().unwrap(), b["loss"].as_f64().unwrap());
        // Sums over rows in another order, f32: 1e-6 a step, carried on by AdamW.
        assert!((x / y - 1.0).abs() < 1e-4, "step {}: {x} against {y}", a["step"]);
    }
}

#[test]
fn a_finished_stage_is_reused_by_a_later_run_and_the_cache_can_be_pruned() {
    let folder = Folder::new();
    ends(&folder.temper(&["run", &folder.recipe()]), 0, &[]);
    let expected = folder.result("run");
    let second = folder.path("second").display().to_string();
    let again = folder.temper(&["run", &folder.recipe(), "--output", &second]);
    ends(&again, 0, &["stage 1 is finished already", "stage 2 is finished already"]);
    assert!(!stderr(&again).contains("training"), "{}", stderr(&again));
    same(&expected, &folder.result("second"));

    // Another second stage keeps the first.
    let third = folder.path("third").display().to_string();
    let other = folder.temper(&["run", &folder.recipe(), "--output", &third, "--set", "stages.1.learning_rate=2e-3"]);
    ends(&other, 0, &["stage 1 is finished already"]);
    assert!(!stderr(&other).contains("stage 2 is finished"), "{}", stderr(&other));

    let list = folder.temper(&["cache", "list", "--json"]);
    let list: serde_json::Value = serde_json::from_slice(&list.stdout).unwrap();
    let what: Vec<&str> = list.as_array().unwrap().iter().map(|entry| entry["what"].as_str().unwrap()).collect();
    assert_eq!(what.iter().filter(|w| **w == "sft, full, 6 steps").count(), 2, "{what:?}");
    assert_eq!(what.iter().filter(|w| **w == "sft, lora, 12 steps").count(), 1, "{what:?}");
    ends(&folder.temper(&["cache", "prune"]), 2, &["--older-than", "--keep"]);
    // What a store left that was killed hours ago goes, what may be a store under way stays.
    let left = |pid: u32, hours: u64| {
        let path = folder.path(&format!("cache/stages/.{}.tmp-{pid}-0", "ab".repeat(32)));
        std::fs::create_dir_all(path.join("result")).unwrap();
        let then = std::time::SystemTime::now() - Duration::from_secs(hours * 3600);
        std::fs::File::open(&path).unwrap().set_modified(then).unwrap();
        path
    };
    let (old, new) = (left(1, 5), left(2, 0));
    let pruned = folder.temper(&["cache", "prune", "--keep", "0"]);
    ends(&pruned, 0, &[]);
    assert!(tiny::stdout(&pruned).contains("1 leftovers of writes that were killed removed"), "{pruned:?}");
    assert!(!old.exists() && new.exists());
    let list = folder.temper(&["cache", "list", "--json"]);
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&list.stdout).unwrap(), serde_json::json!([]));
}

/// A template that prints the date would make other tokens of the same rows on another day: a run that goes on prints the day on
/// which it began.
#[test]
fn a_run_that_goes_on_another_day_prints_the_day_on_which_it_began() {
    let folder = Folder::new();
    folder.keep_first_stage();
    let dated = concat!(
        "{{ strftime_now('%Y-%m-%d') }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n",
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    );
    std::fs::write(folder.path("base/chat_template.jinja"), dated).unwrap();
    let run = folder.path("run").display().to_string();
    ends(&folder.temper(&["run", &folder.recipe()]), 0, &[]);
    let plan = |began: &str| {
        let mut plan = json(&folder.path("run/plan.json"));
        let before = plan["provenance"]["began"].as_str().unwrap().to_owned();
        plan["provenance"]["began"] = began.into();
        std::fs::write(folder.path("run/plan.json"), plan.to_string()).unwrap();
        before
    };
    std::fs::remove_file(folder.path("run/summary.json")).unwrap();
    // As if it had begun on another day: then the rows of today are not those that it was planned with.
    let today = plan("2001-02-03T04:05:06Z");
    ends(
        &folder.temper(&["resume", &run]),
        2,
        &["changed (needs --accept): tokenizer", "the same text is other tokens"],
    );
    // On the day on which it began it goes on, at whatever time.
    plan(&format!("{}T00:00:01Z", &today[..10]));
    ends(&folder.temper(&["resume", &run]), 0, &[]);
}
