//! Checks and filters of a recipe's rows: what a plan tells, what a run refuses, what is kept.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tiny;

use serde_json::Value;
use tiny::{Folder, ends, finished, json, root, stderr, stdout};

/// A recipe whose training rows hold all rows of the test.
fn leaking() -> Folder {
    let folder = Folder::new();
    let tiny = root().join("data/tests");
    let rows = |name: &str| std::fs::read_to_string(tiny.join(name)).unwrap();
    std::fs::write(folder.path("train.jsonl"), rows("tiny_train.jsonl") + &rows("tiny_test.jsonl")).unwrap();
    let tiny = tiny.display();
    let train = folder.path("train.jsonl").display().to_string();
    let domain = format!(
        "evaluation:\n  domain:\n    task: classification\n    validation: {tiny}/tiny_validation.jsonl\n    \
         test: {tiny}/tiny_test.jsonl\n    labels: [Neoplasm, Eye, Respiratory, Pregnancy]\n"
    );
    folder.keep_first_stage();
    let text = std::fs::read_to_string(folder.path("recipe.yaml")).unwrap();
    let text = text.replace(&format!("{tiny}/tiny_train.jsonl"), &train).replace("evaluation:\n", &domain);
    folder.write_recipe(&text.replace("max_steps: 12", "max_steps: 2"));
    folder
}

#[test]
fn a_run_refuses_held_out_rows_unless_they_are_filtered_or_allowed() {
    let folder = leaking();
    let recipe = folder.recipe();
    let plan = folder.temper(&["plan", &recipe]);
    ends(&plan, 0, &[]);
    for piece in ["held_out_row", "train.jsonl:17 (as test:1)", "refused"] {
        assert!(stdout(&plan).contains(piece), "`{piece}` is not in:\n{}", stdout(&plan));
    }
    let run = folder.temper(&["run", &recipe]);
    ends(
        &run,
        4,
        &["8 are rows of a held-out file", "hint: `filters: {overlap: drop}`", "stages.0.data_errors: allow"],
    );
    assert!(!folder.path("run").exists(), "nothing is written");
    for (set, action) in [("stages.0.data_errors=allow", "nothing"), ("stages.0.filters.overlap=drop", "dropped")] {
        let run = folder.temper(&["run", &recipe, "--overwrite", "--set", set]);
        finished(&run);
        assert!(stderr(&run).contains(&format!("done: {action}")), "{}", stderr(&run));
        // What was found is recorded with the run.
        let plan = json(&folder.path("run/plan.json"));
        let stage = &plan["stages"][0];
        assert_eq!(stage["checks"]["findings"][0]["check"], "held_out_row");
        assert_eq!(stage["checks"]["findings"][0]["action"], action);
        let train = &stage["files"][0][1];
        let dropped = train["dropped"]["evaluated"]["count"].as_u64().unwrap_or(0);
        assert_eq!((&train["rows"], dropped >= 8), (&24.into(), action == "dropped"), "{train}");
        assert_eq!(train["kept"].as_u64().unwrap() + dropped, 24);
    }
}

#[test]
fn filters_that_differ_give_other_rows_from_the_same_cache() {
    let folder = leaking();
    let recipe = folder.recipe();
    let kept = |filters: &str| {
        let set = format!("stages.0.filters={filters}");
        let plan = folder.temper(&["plan", &recipe, "--json", "--set", &set]);
        ends(&plan, 0, &[]);
        let plan: Value = serde_json::from_slice(&plan.stdout).unwrap();
        plan["stages"][0]["files"]
            .as_array()
            .unwrap()
            .iter()
            .map(|file| file[1]["kept"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    let all = kept("{}");
    let few = kept("{min_chars: 60}");
    assert!(few[0] < all[0], "{few:?} {all:?}");
    assert_eq!(few.last(), all.last(), "validation is never filtered");
    assert_eq!(kept("{min_chars: 60}"), few);
    assert_eq!(kept("{}"), all);
}

/// Duplicates were looked for within each file, since each file is kept as tokens by itself.
#[test]
fn duplicates_are_filtered_across_files_and_counted_where_they_are() {
    let folder = Folder::new();
    folder.keep_first_stage();
    let tiny = root().join("data/tests");
    let rows = std::fs::read_to_string(tiny.join("tiny_train.jsonl")).unwrap();
    let lines: Vec<&str> = rows.lines().collect();
    let write = |name: &str, rows: &[&str]| {
        std::fs::write(folder.path(name), rows.join("\n") + "\n").unwrap();
        folder.path(name).display().to_string()
    };
    // The second file repeats three rows of the first, the third one of the second.
    let (first, second) =
        (write("first.jsonl", &lines[..8]), write("second.jsonl", &[&lines[5..8], &lines[8..12]].concat()));
    let third = write("third.jsonl", &[&lines[11..12], &lines[12..16]].concat());
    let text = std::fs::read_to_string(folder.path("recipe.yaml")).unwrap();
    let one = format!("train: {}/tiny_train.jsonl", tiny.display());
    let filters = "\n    filters: {exact_duplicates: drop}";
    folder.write_recipe(&text.replace(&one, &format!("train: [{first}, {second}, {third}]{filters}")));
    let recipe = folder.recipe();
    let dropped = |more: &[&str]| -> Vec<(u64, u64, Value)> {
        let plan = folder.temper(&[&["plan", &recipe, "--json"], more].concat());
        ends(&plan, 0, &[]);
        let plan: Value = serde_json::from_str(&stdout(&plan)).unwrap();
        let files = plan["stages"][0]["files"].as_array().unwrap().iter().take(3);
        let of = |file: &Value| {
            let duplicate = &file[1]["dropped"]["duplicate"];
            (
                file[1]["rows"].as_u64().unwrap(),
                duplicate["count"].as_u64().unwrap_or(0),
                duplicate["first_lines"].clone(),
            )
        };
        files.map(of).collect()
    };
    let expected = vec![(8, 0, Value::Null), (7, 3, serde_json::json!([1, 2, 3])), (5, 1, serde_json::json!([1]))];
    assert_eq!(dropped(&[]), expected);
    // The same from the cache, and where only the last file is not in it.
    assert_eq!(dropped(&[]), expected);
    let other = write("third.jsonl", &[&lines[12..16], &lines[11..12], &lines[0..1]].concat());
    assert_eq!(other, third);
    let last = (6, 2, serde_json::json!([5, 6]));
    assert_eq!(dropped(&[]), [&expected[..2], std::slice::from_ref(&last)].concat());
    // Another first file: what is left of the others depends on it, and is not taken from the cache.
    write("first.jsonl", &lines[..7]);
    let all = dropped(&[]);
    assert_eq!((&all[1], &all[2]), (&(7, 2, serde_json::json!([1, 2])), &last));
}
