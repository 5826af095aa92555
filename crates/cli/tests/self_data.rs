//! General data that the base writes itself, through the binary.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tiny;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use temper_model::{Checkpoint, Dtype, write_model};
use tiny::{Folder, ends, finished, json, lines, root, stdout};

/// The tiny model, made to end its turns: the token that ends them is far longer than all others, so that some states
/// point to it. A few stages of one kind are enough here.
fn folder(own: &str) -> Folder {
    let folder = Folder::new();
    let base = Checkpoint::open(&folder.path("base")).unwrap();
    let config = base.config();
    let stop = 2;
    let tensors = config.tensor_shapes().into_iter().map(|(name, shape)| {
        let mut values = base.tensor(&name, &shape).unwrap();
        if name == "model.embed_tokens.weight" {
            values[stop * shape[1]..(stop + 1) * shape[1]].iter_mut().for_each(|value| *value *= 60.0);
        }
        (name, shape, values)
    });
    let ending = folder.path("ending");
    write_model(&ending, config, tensors, Dtype::F32, &[]).unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(folder.path("base").join(file), ending.join(file)).unwrap();
    }
    let tiny = root().join("data/tests").display().to_string();
    let stage = format!(
        "  - kind: sft
    train: {tiny}/tiny_train.jsonl
    validation: {tiny}/tiny_validation.jsonl
    mix: {{unit: samples, domain: 50, general: [{{name: self, path: self, {own}, share: 100}}]}}
    max_length: 256
    global_batch_size: 4
    max_steps: 3
    learning_rate: 1e-3
    lora_rank: 4
    eval_steps: 3
"
    );
    folder.write_recipe(&folder.around("ending", &stage));
    folder
}

fn plan(folder: &Folder, more: &[&str]) -> Value {
    let recipe = folder.recipe();
    let output = folder.temper(&[&["plan", &recipe, "--json"], more].concat());
    ends(&output, 0, &[]);
    serde_json::from_str(&stdout(&output)).unwrap()
}

#[test]
fn the_base_writes_rows_once_and_every_row_is_counted() {
    let folder = folder("rows: 60, max_new_tokens: 24, temperature: 1");
    // A plan writes nothing and says so.
    let before = plan(&folder, &[]);
    let own = &before["self_data"][0];
    assert_eq!((&own["written"], &own["rows"], &own["kept"]), (&false.into(), &60.into(), &60.into()));
    assert_eq!(own["answer_tokens"], 60 * 15);
    assert!(own["seconds"].as_f64().unwrap() > 0.0);
    assert!(before["warnings"].to_string().contains("has not written its 60 rows yet"), "{}", before["warnings"]);
    assert!(!folder.path("cache/self").exists());

    let recipe = folder.recipe();
    let first = folder.temper(&["run", &recipe]);
    finished(&first);
    assert!(tiny::stderr(&first).contains("rows written by the base 60/60"), "{}", tiny::stderr(&first));
    let run = folder.path("run");
    let plan = json(&run.join("plan.json"));
    let own = &plan["self_data"][0];
    let (rows, kept) = (own["rows"].as_u64().unwrap(), own["kept"].as_u64().unwrap());
    let dropped: u64 = own["dropped"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    assert!(rows == 60 && kept > 0 && dropped > 0 && rows == kept + dropped, "{own}");
    let categories = own["categories"].as_object().unwrap();
    assert_eq!(categories.len(), 5);
    assert!(categories.values().all(|counts| counts[0] == 12), "{own}");
    assert_eq!(categories.values().map(|counts| counts[1].as_u64().unwrap()).sum::<u64>(), kept);
    // As any other file: rows, kept rows, and lines of the file that was written.
    let (path, report) = (&plan["stages"][0]["files"][2][0], &plan["stages"][0]["files"][2][1]);
    let written = lines(std::path::Path::new(path.as_str().unwrap()));
    assert_eq!((report["rows"].as_u64(), written.len()), (Some(60), 60));
    let left_out = report["dropped"].as_object().unwrap();
    let all: u64 = left_out.values().map(|d| d["count"].as_u64().unwrap()).sum();
    assert_eq!(report["kept"].as_u64().unwrap() + all, 60);
    if let Some(cut) = left_out.get("cut_off") {
        let line = cut["first_lines"][0].as_u64().unwrap() as usize;
        assert_eq!(written[line - 1]["finish"], "length");
    }
    // The run folder holds what was trained on and what was not; the input's hash is that of the file.
    let (kept_rows, dropped_rows) = (lines(&run.join("self.jsonl")), lines(&run.join("self.dropped.jsonl")));
    assert_eq!((kept_rows.len() as u64, dropped_rows.len() as u64), (kept, dropped));
    assert!(kept_rows.iter().all(|row| row["finish"] == "stop" && row["messages"].as_array().unwrap().len() == 2));
    let input =
        plan["inputs"].as_array().unwrap().iter().find(|i| i["setting"] == "stages.0.mix.general.0.path").unwrap();
    assert_eq!(input["sha256"], temper_run::sha256_file(&run.join("self.jsonl")).unwrap());
    let base = folder.path("ending").display().to_string();
    let shown = folder.temper(&["data", "show", &run.join("self.jsonl").display().to_string(), "--base", &base]);
    ends(&shown, 0, &[]);
    assert!(stdout(&shown).contains(&format!("{kept} rows of the format messages, {kept} kept")), "{}", stdout(&shown));

    // The second run reuses rows and stage; other settings do not.
    let second = folder.temper(&["run", &recipe, "--overwrite"]);
    assert!(!tiny::stderr(&second).contains("rows written by the base 60/60"), "{}", tiny::stderr(&second));
    assert!(tiny::stderr(&second).contains("is finished already"), "{}", tiny::stderr(&second));
    assert_eq!(lines(&run.join("self.jsonl")), kept_rows);
    let cooler = folder.temper(&["run", &recipe, "--overwrite", "--set", "stages.0.mix.general.0.temperature=0.9"]);
    assert!(tiny::stderr(&cooler).contains("rows written by the base 60/60"), "{}", tiny::stderr(&cooler));
    assert_ne!(lines(&run.join("self.jsonl")), kept_rows);
    assert_eq!(std::fs::read_dir(folder.path("cache/self")).unwrap().count(), 2);
    // Written again they are the same bytes.
    std::fs::remove_dir_all(folder.path("cache/self")).unwrap();
    let again = folder.temper(&["plan", &recipe, "--generate"]);
    ends(&again, 0, &["rows written by the base 60/60"]);
    assert!(stdout(&again).contains("60 rows written by the base"), "{}", stdout(&again));
    assert_eq!(lines(std::path::Path::new(path.as_str().unwrap())), written);
}

#[test]
fn own_prompts_are_answered_and_faults_are_refused() {
    let folder = folder("rows: 12, max_new_tokens: 24, temperature: 1, prompts: mine.jsonl");
    let recipe = folder.recipe();
    std::fs::write(folder.path("mine.jsonl"), "{\"prompt\": \"Is it late?\"}\n{\"prompt\": \"Is it early?\"}\n")
        .unwrap();
    let own = &plan(&folder, &["--generate"])["self_data"][0];
    assert_eq!(own["categories"]["own"][0], 2);
    std::fs::write(folder.path("mine.jsonl"), "{\"prompt\": \"\"}\n").unwrap();
    ends(&folder.temper(&["plan", &recipe]), 2, &["mine.jsonl", "line 1: expected a user turn last that is not empty"]);
    std::fs::write(folder.path("mine.jsonl"), "{\"prompt\": \"Is it late?\"}\n").unwrap();
    let set = |value: &str| folder.temper(&["plan", &recipe, "--set", value]);
    ends(&set("stages.0.mix.general.0.rows=0"), 2, &["expected a whole number from 1 to 100000, got `0`"]);
    ends(
        &set("stages.0.mix.general.0.max_new_tokens=500"),
        2,
        &["exceed the base's 512 positions", "lower max_new_tokens"],
    );
    ends(&set("stages.0.kind=cpt"), 2, &["hint: "]);
}

/// The one file of written rows in the cache.
fn rows_file(folder: &Folder, unfinished: bool) -> Option<PathBuf> {
    let files = std::fs::read_dir(folder.path("cache/self")).ok()?.map(|entry| entry.unwrap().path());
    let mut of_kind = files.filter(|path| path.display().to_string().ends_with(".part.jsonl") == unfinished);
    of_kind.find(|path| !path.file_name().unwrap().to_string_lossy().starts_with('.'))
}

#[cfg(unix)]
#[test]
fn rows_that_were_written_before_the_process_ended_are_not_written_again() {
    let folder = folder("rows: 600, max_new_tokens: 12, temperature: 1");
    let recipe = folder.recipe();
    let mut child =
        folder.command(&["plan", &recipe, "--generate"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // A part of 128 is kept, and hundreds of rows are still to be written.
    let kept = |path: PathBuf| std::fs::read_to_string(path).unwrap().lines().count();
    while rows_file(&folder, true).map_or(0, kept) < 128 {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be stopped");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let said: String = BufReader::new(child.stderr.take().unwrap()).lines().map(|line| line.unwrap() + "\n").collect();
    assert_eq!(child.wait().unwrap().code(), Some(3), "{said}");
    assert!(said.contains("the same command goes on after the rows that are kept"), "{said}");

    ends(&folder.temper(&["plan", &recipe, "--generate"]), 0, &["going on after", "rows that the base wrote before"]);
    assert_eq!(rows_file(&folder, true), None);
    let path = rows_file(&folder, false).unwrap();
    let resumed = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let alone = folder.temper(&["plan", &recipe, "--generate"]);
    ends(&alone, 0, &[]);
    assert!(!tiny::stderr(&alone).contains("going on after"), "{}", tiny::stderr(&alone));
    assert!(std::fs::read_to_string(&path).unwrap() == resumed, "other rows than without the stop");

    // What is left of a kill in the middle of a line, or of another file, is not taken for rows.
    let unfinished = PathBuf::from(path.display().to_string().replace(".jsonl", ".part.jsonl"));
    let start: String = resumed.split_inclusive('\n').take(256 + 7).collect();
    let from = |left: &str, said: &str| {
        std::fs::write(&unfinished, left).unwrap();
        std::fs::remove_file(&path).unwrap();
        let output = folder.temper(&["plan", &recipe, "--generate"]);
        ends(&output, 0, &[said]);
        assert!(std::fs::read_to_string(&path).unwrap() == resumed, "other rows than without the stop");
        tiny::stderr(&output)
    };
    from(&start[..start.len() - 9], "going on after 256 rows");
    assert!(!from(&start[9..], "rows written by the base").contains("going on after"));
}

#[cfg(unix)]
#[test]
fn a_run_over_its_own_rows_resumes_to_the_same_bytes_even_without_its_cache() {
    let folder = folder("rows: 60, max_new_tokens: 24, temperature: 1");
    let recipe = folder.recipe();
    let longer = ["--no-cache", "--set", "stages.0.max_steps=12", "--set", "stages.0.save_steps=1"];
    let alone = folder.path("alone").display().to_string();
    let run = folder.path("run").display().to_string();
    let output = folder.temper(&[&["run", &recipe, "--output", &alone][..], &longer].concat());
    finished(&output);
    let mut child = folder.command(&[&["run", &recipe][..], &longer].concat()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    lines.find(|line| line.as_ref().unwrap().starts_with("step 3 of 12")).unwrap().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    std::fs::remove_dir_all(folder.path("cache/self")).unwrap();
    let resumed = folder.temper(&["resume", &run, "--no-cache"]);
    finished(&resumed);
    for piece in ["rows written by the base 60/60", "going on after step"] {
        assert!(tiny::stderr(&resumed).contains(piece), "{}", tiny::stderr(&resumed));
    }
    assert!(!tiny::stderr(&resumed).contains("changed"), "{}", tiny::stderr(&resumed));
    let result = "checkpoints/stage-1/result/weights/adapter_model.safetensors";
    for file in ["self.jsonl", "self.dropped.jsonl", result, "merged/model.safetensors", "judgement.json"] {
        let read = |run: &str| std::fs::read(folder.path(run).join(file)).unwrap();
        assert!(read("alone") == read("run"), "{file} differs");
    }
}

#[test]
fn the_word_self_alone_is_all_general_data() {
    let folder = folder("");
    let text = std::fs::read_to_string(folder.recipe()).unwrap();
    let (before, rest) = text.split_once("general: [").unwrap();
    let (_, after) = rest.split_once(']').unwrap();
    folder.write_recipe(&format!("{before}general: self{after}"));
    let plan = plan(&folder, &[]);
    let own = &plan["self_data"][0];
    assert_eq!((&own["setting"], &own["rows"]), (&"stages.0.mix.general.0.path".into(), &512.into()));
    let shares = plan["stages"][0]["shares"]["sources"].as_array().unwrap();
    assert_eq!((shares[1]["name"].as_str(), shares[1]["planned"]["samples"].as_f64()), (Some("self"), Some(0.5)));
}
