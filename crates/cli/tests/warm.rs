//! What is kept from run to run changes nothing but the time: runs with a cold cache, a warm one, a damaged one and none.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tiny;

use std::path::PathBuf;

use serde_json::Value;
use tiny::{Folder, ends, lines, same, stderr};

/// Runs into a folder of this name, with stages that are not reused: each has a learning rate that the first run did not have.
fn run(folder: &Folder, name: &str, rate: &str, more: &[&str]) -> std::process::Output {
    let path = folder.path(name).display().to_string();
    let recipe = folder.recipe();
    let rate = format!("stages.0.learning_rate={rate}");
    let output = folder.temper(&[&["run", &recipe, "--output", &path, "--set", &rate], more].concat());
    ends(&output, 0, &[]);
    output
}

/// The entries of a kind.
fn kept(folder: &Folder, kind: &str) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder.path("cache").join(kind))
        .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default();
    paths.sort();
    paths
}

/// Seconds of each phase before the first step.
fn phases(folder: &Folder, name: &str) -> Vec<String> {
    let mut events = lines(&folder.path(name).join("events.jsonl")).into_iter();
    let first = events.find(|event| event["event"] == "first_step").expect("the first step is told");
    assert!(first["done"].as_f64().unwrap() > first["begun"].as_f64().unwrap(), "{first}");
    first["phases"].as_array().unwrap().iter().map(|phase| phase["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_warm_cache_gives_the_bytes_of_none() {
    let folder = Folder::new();
    run(&folder, "none", "5e-3", &["--no-cache"]);
    assert_eq!(kept(&folder, "packed").len(), 0);
    run(&folder, "cold", "1e-2", &[]);
    let kinds = ["packed", "rows", "scores"];
    let after_one: Vec<_> = kinds.iter().flat_map(|kind| kept(&folder, kind)).collect();
    assert_eq!(kept(&folder, "packed").len(), 1);
    // Three files of rows and whether the held-out text fits and its tokens; the losses of validation, of the watched text
    // and of the judged.
    assert!(kept(&folder, "rows").len() >= 4 && kept(&folder, "scores").len() == 3, "{after_one:?}");

    run(&folder, "warm", "5e-3", &[]);
    same(&folder.result("none"), &folder.result("warm"));
    let after_two: Vec<_> = kinds.iter().flat_map(|kind| kept(&folder, kind)).collect();
    assert_eq!(after_one, after_two, "the second run adds nothing but its stages");
    assert_eq!(phases(&folder, "none"), phases(&folder, "warm"));
    assert!(phases(&folder, "warm").iter().any(|name| name == "first step"));
}

#[test]
fn damaged_entries_are_written_anew() {
    let folder = Folder::new();
    run(&folder, "cold", "1e-2", &[]);
    let weights = kept(&folder, "packed")[0].join("weights");
    let whole = std::fs::read(&weights).unwrap();
    let mut bytes = whole.clone();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 64].iter_mut().for_each(|byte| *byte ^= 0x55);
    std::fs::write(&weights, &bytes).unwrap();
    let (tokens, values): (Vec<_>, Vec<_>) =
        kept(&folder, "rows").into_iter().chain(kept(&folder, "scores")).partition(|path| path.is_dir());
    assert!(!tokens.is_empty() && !values.is_empty());
    for (index, path) in tokens.into_iter().enumerate() {
        // A bit of the tokens, of their index, or of the report.
        let file = path.join(["tokens", "index", "report.json"][index % 3]);
        let mut bytes = std::fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        std::fs::write(&file, bytes).unwrap();
    }
    for path in values {
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.trim_end_matches([']', '}', '0']).replace("nats\":", "nats\":1")).unwrap();
    }
    let warm = run(&folder, "warm", "5e-3", &[]);
    let said = stderr(&warm);
    assert!(said.contains("packed weights are written anew") && said.contains("expected CRC-32"), "{said}");
    assert!(std::fs::read(&weights).unwrap() == whole, "the file is whole again");
    run(&folder, "none", "5e-3", &["--no-cache"]);
    same(&folder.result("none"), &folder.result("warm"));

    // A file that was cut off is as little trusted.
    std::fs::write(&weights, &whole[..whole.len() / 2]).unwrap();
    let again = run(&folder, "again", "6e-3", &[]);
    assert!(stderr(&again).contains("packed weights are written anew"), "{}", stderr(&again));
}

#[test]
fn the_cache_shows_all_that_it_keeps_and_gives_it_up() {
    let folder = Folder::new();
    run(&folder, "run", "1e-2", &[]);
    let list = || -> Vec<Value> {
        let list = folder.temper(&["cache", "list", "--json"]);
        serde_json::from_slice::<Value>(&list.stdout).unwrap().as_array().unwrap().clone()
    };
    let entries = list();
    let kinds = |kind: &str| entries.iter().filter(|entry| entry["kind"] == kind).count();
    assert_eq!((kinds("stages"), kinds("packed"), kinds("scores")), (2, 1, 3), "{entries:?}");
    assert!(kinds("rows") >= 4);
    for entry in &entries {
        assert!(entry["bytes"].as_u64().unwrap() > 0 && entry["what"] != "?", "{entry}");
    }
    ends(&folder.temper(&["cache", "prune", "--keep", "0"]), 0, &[]);
    assert_eq!(list(), Vec::<Value>::new());
    run(&folder, "again", "1e-2", &[]);
    same(&folder.result("run"), &folder.result("again"));
}
