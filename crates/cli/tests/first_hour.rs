//! The first hour of a newcomer: a recipe from data alone, a look at the machine, help for editors and shells, and a plan
//! whose counts are what then happens.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tiny;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tiny::{ends, gguf, lines, root};

fn data(name: &str) -> PathBuf {
    root().join("data").join(name)
}

fn temper(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_temper")).args(arguments).env("NO_COLOR", "1").output().unwrap()
}

fn json(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn refused(output: &Output, pieces: &[&str]) {
    ends(output, 2, pieces);
}

/// `temper init` over the test model; the recipe goes to `recipe.yaml` in `folder`.
fn init(folder: &Path, files: &[&Path], more: &[&str]) -> Output {
    let (base, output) = (gguf(), folder.join("recipe.yaml").display().to_string());
    let mut arguments = vec!["init", "--base", &base, "--output", &output, "--offline", "--data"];
    let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    arguments.extend(files.iter().map(String::as_str));
    arguments.extend(more);
    temper(&arguments)
}

fn read(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap()
}

fn rows(folder: &Path, name: &str) -> Vec<Value> {
    lines(&folder.join(name))
}

fn plan(folder: &Path) -> Value {
    json(&temper(&["plan", &folder.join("recipe.yaml").display().to_string(), "--json", "--offline"]))
}

const SPLITS: [&str; 3] = ["split/train.jsonl", "split/validation.jsonl", "split/test.jsonl"];

#[test]
fn labelled_rows_become_a_recipe_that_plans_with_a_split_that_leaks_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let train = data("icd10/train.jsonl");
    let found = json(&init(folder.path(), &[&train], &["--json"]));
    assert_eq!((&found["task"], found["labels"].as_array().unwrap().len()), (&"classification".into(), 21));

    // Every row is on one side, as it stood in the file; no group and no text is on two.
    let original = std::fs::read_to_string(&train).unwrap();
    let mut lines: Vec<String> = Vec::new();
    let mut side_of: HashMap<String, &str> = HashMap::new();
    for split in SPLITS {
        lines.extend(read(folder.path(), split).lines().map(str::to_owned));
        for row in rows(folder.path(), split) {
            let text = row["messages"][1]["content"].as_str().unwrap().to_lowercase();
            for key in [format!("group {}", row["group"]), format!("text {text}")] {
                assert_eq!(*side_of.entry(key.clone()).or_insert(split), split, "{key} is on two sides");
            }
        }
    }
    let mut expected: Vec<&str> = original.lines().collect();
    expected.sort_unstable();
    lines.sort_unstable();
    assert_eq!(lines, expected);
    // Every label is in every split, and so many rows are held out as the recipe says.
    for split in SPLITS {
        let mut labels: Vec<String> = rows(folder.path(), split).iter().map(|row| row["label"].to_string()).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), 21, "{split}");
    }
    let held = found["rows"]["test"].as_u64().unwrap();
    assert!((450..=520).contains(&held), "{held}");

    let recipe = read(folder.path(), "recipe.yaml");
    for piece in ["kind: sft", "task: classification", "group", "learning_rate: 1.3e-3", "max_length: 192", "licence"] {
        assert!(recipe.contains(piece), "`{piece}` is not in:\n{recipe}");
    }
    assert!(read(folder.path(), "general/README.md").contains("WordNet"));
    let planned = plan(folder.path());
    assert_eq!(planned["stages"][0]["kind"], "sft");
    assert!(planned["stages"][0]["files"].as_array().unwrap().iter().all(|file| file[1]["rows"] == file[1]["kept"]));

    // The same rows are split the same way; nothing is overwritten unasked.
    let again = tempfile::tempdir().unwrap();
    json(&init(again.path(), &[&train], &["--json"]));
    for split in SPLITS {
        assert_eq!(read(again.path(), split), read(folder.path(), split));
    }
    std::fs::write(folder.path().join("split/test.jsonl"), "mine\n").unwrap();
    refused(&init(folder.path(), &[&train], &[]), &["already there", "test.jsonl", "--overwrite"]);
    assert_eq!(read(folder.path(), "split/test.jsonl"), "mine\n");
    json(&init(folder.path(), &[&train], &["--json", "--overwrite"]));
    assert_eq!(read(again.path(), SPLITS[2]), read(folder.path(), SPLITS[2]));
    // A file that is read is never one that is written.
    let own = folder.path().join(SPLITS[0]);
    refused(&init(folder.path(), &[&own], &["--overwrite"]), &["is one of the files of --data"]);
}

#[test]
fn documents_become_continued_pretraining_judged_by_their_own_loss() {
    let folder = tempfile::tempdir().unwrap();
    let found = json(&init(folder.path(), &[&data("general/prose.jsonl")], &["--json"]));
    assert_eq!(found["task"], "text");
    let recipe = read(folder.path(), "recipe.yaml");
    for piece in ["kind: cpt", "own-text", "unit: trained_tokens", "chat habits"] {
        assert!(recipe.contains(piece), "`{piece}` is not in:\n{recipe}");
    }
    assert!(!recipe.contains("domain:\n") && !recipe.contains("general/chat.jsonl"), "{recipe}");
    assert_eq!(plan(folder.path())["stages"][0]["kind"], "cpt");
}

#[test]
fn free_answers_become_a_chat_recipe_without_a_domain() {
    let folder = tempfile::tempdir().unwrap();
    let found = json(&init(folder.path(), &[&data("general/chat.jsonl")], &["--json"]));
    assert_eq!(found["task"], "chat");
    let recipe = read(folder.path(), "recipe.yaml");
    for piece in ["kind: sft", "`domain` is left out", "general/chat.jsonl", "unit: trained_tokens"] {
        assert!(recipe.contains(piece), "`{piece}` is not in:\n{recipe}");
    }
    assert!(!recipe.contains("task: classification"), "{recipe}");
    assert_eq!(plan(folder.path())["stages"][0]["kind"], "sft");
    let wanted = init(folder.path(), &[&data("general/chat.jsonl")], &["--task", "classification"]);
    refused(&wanted, &["--task classification", "hint:"]);
}

#[test]
fn pairs_become_a_preference_recipe_without_general_data_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let words = ["red", "blue", "green", "tall", "short", "loud", "calm"];
    let row = |i: usize| {
        let (a, b, c) = (words[i % 7], words[i / 7 % 7], words[i / 49 % 7]);
        let prompt = [serde_json::json!({"role": "user", "content": format!("Say {a}, {b} and {c} for {i}")})];
        let answer = |text: String| [serde_json::json!({"role": "assistant", "content": text})];
        let (chosen, rejected) = (answer(format!("{a}, {b}, {c}")), answer(format!("no {i}")));
        serde_json::json!({"prompt": prompt, "chosen": chosen, "rejected": rejected}).to_string()
    };
    let file = folder.path().join("pairs.jsonl");
    std::fs::write(&file, (0..120).map(row).collect::<Vec<_>>().join("\n")).unwrap();
    assert_eq!(json(&init(folder.path(), &[&file], &["--json"]))["task"], "preference");
    let recipe = read(folder.path(), "recipe.yaml");
    for piece in ["kind: dpo", "beta: 0.1", "learning_rate: 1e-5", "num_train_epochs: 2", "`domain` is left out"] {
        assert!(recipe.contains(piece), "`{piece}` is not in:\n{recipe}");
    }
    assert!(!recipe.contains("mix:") && !folder.path().join("general/prose.jsonl").exists(), "{recipe}");
    let planned = plan(folder.path());
    assert_eq!(planned["stages"][0]["kind"], "dpo");
    assert_eq!(planned["stages"][0]["fit"]["preference"]["beta"], 0.1);
    let wanted = init(folder.path(), &[&file], &["--task", "chat", "--overwrite"]);
    refused(&wanted, &["--task chat", "two answers", "hint:"]);
}

#[test]
fn completions_with_few_short_answers_become_conversations_with_labels() {
    let folder = tempfile::tempdir().unwrap();
    let words = ["red", "blue", "green", "tall", "short", "loud", "calm"];
    let row = |i: usize| {
        let (a, b, c) = (words[i % 7], words[i / 7 % 7], words[i / 49 % 7]);
        let label = if i.is_multiple_of(2) { " even" } else { " odd" };
        serde_json::json!({"prompt": format!("Item {a} {b} {c} number {i}"), "completion": label}).to_string()
    };
    let file = folder.path().join("mine.jsonl");
    std::fs::write(&file, (0..200).map(row).collect::<Vec<_>>().join("\n")).unwrap();
    let found = json(&init(folder.path(), &[&file], &["--json"]));
    assert_eq!((&found["task"], &found["labels"]), (&"classification".into(), &serde_json::json!(["even", "odd"])));
    let first = &rows(folder.path(), "split/train.jsonl")[0];
    assert_eq!(first["messages"][1]["content"], first["label"]);
    assert!(read(folder.path(), "recipe.yaml").contains("name: mine\n"));
    plan(folder.path());
}

#[test]
fn data_that_cannot_be_read_is_refused_with_its_line_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let text = |n: usize| (0..n).map(|i| format!("{{\"text\": \"document {i}\"}}\n")).collect::<String>();
    let csv = write("rows.csv", "question,answer\na\n");
    refused(&init(folder.path(), &[&csv], &[]), &["rows.csv:2: 1 cells, expected 2", "hint: `temper data check FILE`"]);
    let tasks = write(
        "tasks.jsonl",
        "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}], \"reference_answer\": \"b\"}\n",
    );
    refused(&init(folder.path(), &[&tasks], &[]), &["tasks.jsonl: rows of prompts with reference answers", "hint:"]);
    let broken = write("broken.jsonl", &format!("{}{{\"text\": \n", text(2)));
    refused(&init(folder.path(), &[&broken], &[]), &["broken.jsonl:3"]);
    let few = write("few.jsonl", &text(5));
    refused(&init(folder.path(), &[&few], &[]), &["5 rows", "hint:"]);
    let many = write("many.jsonl", &text(40));
    refused(&init(folder.path(), &[&many, &data("general/chat.jsonl")], &[]), &["chat.jsonl:1", "rows of messages"]);
    refused(&init(folder.path(), &[&folder.path().join("none.jsonl")], &[]), &["none.jsonl", "hint:"]);
    let alike = write("alike.jsonl", &"{\"text\": \"one and the same document\"}\n".repeat(40));
    refused(&init(folder.path(), &[&alike], &[]), &["no rows can be held out", "1 units", "hint:"]);
    assert!(!folder.path().join("recipe.yaml").exists() && !folder.path().join("split").exists());
}

#[test]
fn doctor_found_neither_avx2_nor_avx512_where_there_was_the_bf16_dot_product() {
    let doctor = |instructions: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_temper"));
        let report = command.args(["doctor", "--json", "--offline"]).env("TEMPER_INSTRUCTIONS", instructions).output();
        json(&report.unwrap())["findings"][0].clone()
    };
    let (best, least) = (doctor(""), doctor(std::env::consts::ARCH));
    assert_eq!(least["numbers"]["instructions"], std::env::consts::ARCH);
    let narrow = best["numbers"]["instructions"] == std::env::consts::ARCH;
    assert_eq!(best["ok"], !narrow, "{best}");
    assert_eq!(least["ok"], !cfg!(target_arch = "x86_64"), "{least}");
}

#[test]
fn instructions_that_a_processor_does_not_have_are_refused_with_those_it_has() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_temper"));
    let refused = command.args(["doctor", "--offline"]).env("TEMPER_INSTRUCTIONS", "sse9").output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    let all = ["TEMPER_INSTRUCTIONS=sse9", std::env::consts::ARCH, "hint: leave it out"];
    assert!(all.iter().all(|part| said.contains(part)), "{said}");
}

#[test]
fn doctor_says_of_everything_whether_it_is_well() {
    let doctor = Command::new(env!("CARGO_BIN_EXE_temper"))
        .args(["doctor", "--json"])
        // A port that nobody listens on.
        .env("HF_ENDPOINT", "http://127.0.0.1:9")
        .env_remove("HF_HUB_OFFLINE")
        .output()
        .unwrap();
    let report = json(&doctor);
    let finding = |what: &str| {
        let all = report["findings"].as_array().unwrap();
        all.iter().find(|finding| finding["what"] == what).unwrap_or_else(|| panic!("{what} is not in {report}"))
    };
    assert!(finding("processor")["numbers"]["threads"].as_u64().unwrap() > 0);
    assert!(finding("memory")["numbers"]["available_bytes"].as_u64().unwrap() > 0);
    assert!(finding("disk here")["numbers"]["free_bytes"].as_u64().unwrap() > 0);
    assert!(finding("products")["numbers"]["gflops"].as_f64().unwrap() > 0.0);
    assert!(finding("training")["numbers"]["tokens_per_second"].as_f64().unwrap() > 0.0);
    assert!(finding("cache of temper")["numbers"]["path"].is_string());
    assert!(finding("fits with LoRA")["numbers"]["parameters"].as_u64().unwrap() >= 134_515_008);
    let hub = finding("hub");
    assert!(hub["ok"] == false && hub["hint"].as_str().unwrap().contains("HF_ENDPOINT"), "{hub}");
    finding("python3 and pip");
    assert!(finding("sandbox for code")["numbers"]["writes"].is_boolean());
    let offline = json(&temper(&["doctor", "--json", "--offline"]));
    assert!(
        offline["findings"].as_array().unwrap().iter().any(|f| f["what"] == "hub" && f["numbers"]["asked"] == false)
    );
}

#[test]
fn schema_and_completions_are_printed() {
    let schema = json(&temper(&["schema"]));
    assert_eq!(schema["properties"]["stages"]["items"]["properties"]["learning_rate"]["maximum"], 1.0);
    for (shell, piece) in [
        ("bash", "complete"),
        ("zsh", "#compdef temper"),
        ("fish", "complete -c temper"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let output = temper(&["completions", shell]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains(piece) && text.contains("doctor"), "{shell}");
    }
}

/// What the plan counts is what happens: steps, rows, tokens, and the bytes that are left on the disk.
#[test]
fn a_run_has_the_steps_tokens_and_bytes_of_its_plan() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = |name: &str| data("tests").join(name).display().to_string();
    let recipe = folder.path().join("recipe.yaml");
    let text = format!(
        "name: counts\nbase: {}\noutput: {}\nstages:\n  - kind: sft\n    train: {}\n    validation: {}\n    mix: {{unit: \
         samples, domain: 75, general: [{{name: prose, path: {}, share: 100}}]}}\n    max_length: 256\n    \
         global_batch_size: 4\n    max_steps: 3\n    lora_rank: 4\n    eval_steps: 2\n",
        gguf(),
        folder.path().join("run").display(),
        tiny("tiny_train.jsonl"),
        tiny("tiny_validation.jsonl"),
        tiny("tiny_prose.jsonl"),
    );
    std::fs::write(&recipe, text).unwrap();
    let recipe = recipe.display().to_string();
    let planned = json(&temper(&["plan", &recipe, "--json", "--rate", "3.5"]));
    let estimate = &planned["estimate"];
    let cost = estimate["seconds"].as_f64().unwrap() / 3600.0 * 3.5;
    assert!((estimate["cost"]["cost"].as_f64().unwrap() - cost).abs() < 1e-9);
    refused(&temper(&["plan", &recipe, "--rate=-1"]), &["at least 0"]);

    json(&temper(&["run", &recipe, "--json", "--no-cache"]));
    let mut steps = rows(folder.path(), "run/metrics.jsonl");
    steps.retain(|line| line["event"] == "step");
    let sum = |field: &str| steps.iter().map(|step| step[field].as_u64().unwrap()).sum::<u64>();
    assert_eq!(Value::from(steps.len()), planned["stages"][0]["steps"]);
    assert_eq!(Value::from(sum("processed_tokens")), estimate["processed_tokens"]);
    assert_eq!(Value::from(sum("trained_tokens")), estimate["trained_tokens"]);
    let rows: u64 = planned["stages"][0]["shares"]["sources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|source| source["drawn"]["samples"].as_u64().unwrap())
        .sum();
    assert_eq!(rows, 12);
    let (bytes, expected) = (size(&folder.path().join("run")) as f64, estimate["disk_bytes"].as_f64().unwrap());
    assert!((bytes / expected - 1.0).abs() < 0.05, "{bytes} bytes on the disk, planned {expected}");
}

fn size(path: &Path) -> u64 {
    if path.is_file() {
        return path.metadata().unwrap().len();
    }
    std::fs::read_dir(path).unwrap().map(|entry| size(&entry.unwrap().path())).sum()
}

/// The same rows as JSONL, CSV and Parquet make the same split and the same plan.
#[test]
fn init_takes_tables_as_it_takes_lines() {
    let folder = tempfile::tempdir().unwrap();
    let lines = std::fs::read_to_string(data("icd10/train.jsonl")).unwrap();
    let some: Vec<&str> = lines.lines().step_by(8).collect();
    let rows = folder.path().join("rows.jsonl");
    std::fs::write(&rows, some.join("\n") + "\n").unwrap();
    let mut plans = Vec::new();
    for kind in ["jsonl", "csv", "parquet"] {
        let own = folder.path().join(kind);
        std::fs::create_dir(&own).unwrap();
        let file = own.join(format!("rows.{kind}"));
        let (from, to) = (rows.display().to_string(), file.display().to_string());
        let converted = temper(&["data", "convert", &from, "--to", "messages", "-o", &to]);
        assert_eq!(converted.status.code(), Some(0), "{}", String::from_utf8_lossy(&converted.stderr));
        let found = json(&init(&own, &[&file], &["--json"]));
        assert_eq!(
            (&found["task"], found["labels"].as_array().unwrap().len()),
            (&"classification".into(), 21),
            "{kind}"
        );
        let counts = SPLITS.map(|split| read(&own, split).lines().count());
        assert_eq!(counts.iter().sum::<usize>(), some.len(), "{kind}");
        let planned = plan(&own);
        let file = &planned["stages"][0]["files"][0][1];
        plans.push((counts, file["rows"].clone(), file["kept"].clone(), file["trained_tokens"].clone()));
    }
    assert_eq!(plans[0], plans[1]);
    assert_eq!(plans[0], plans[2]);
}
