//! `temper average`: the weights between base and result.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tiny;

use serde_json::Value;
use temper_model::Checkpoint;
use tiny::{Folder, ends, json, stdout};

fn average(folder: &Folder, more: &[&str]) -> Value {
    let run = folder.path("run").display().to_string();
    let output = folder.temper(&[&["average", &run, "--json"], more].concat());
    ends(&output, 0, &[]);
    serde_json::from_str(&stdout(&output)).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

/// The largest difference of `averaged/merged` to `base + a * (run - base)`, of all weights.
fn distance(folder: &Folder, a: f32) -> f32 {
    let [base, tuned, averaged] =
        ["base", "run/merged", "run/averaged/merged"].map(|path| Checkpoint::open(&folder.path(path)).unwrap());
    let mut worst = 0.0f32;
    for (name, shape) in base.config().tensor_shapes() {
        let [base, tuned, averaged] = [&base, &tuned, &averaged].map(|model| model.tensor(&name, &shape).unwrap());
        for ((b, t), got) in base.iter().zip(&tuned).zip(&averaged) {
            worst = worst.max((b + a * (t - b) - got).abs());
        }
    }
    worst
}

#[test]
fn an_adapter_is_scaled_between_base_and_result() {
    let folder = Folder::new();
    folder.keep_first_stage();
    ends(&folder.temper(&["run", &folder.recipe()]), 0, &[]);
    let losses = folder.losses("run", "validation");
    let lowest = losses.iter().copied().fold(f64::INFINITY, f64::min);

    let averages = average(&folder, &["--weights", "0,0.5,1"]);
    let points = averages["points"].as_array().unwrap();
    assert_eq!(points.len(), 3);
    let close = |got: &Value, expected: f64| assert!((number(got) - expected).abs() < 1e-6, "{got} {expected}");
    close(&points[0]["validation"], losses[0]);
    close(&points[2]["validation"], lowest);
    assert_eq!(points[0]["comparison"]["rows"][0]["difference"]["estimate"], 0.0, "0 is the base");
    assert_eq!(points[0]["kept"], true);
    // The tiny model only gains by training: the whole of it is proposed.
    assert_eq!((&averages["chosen"], averages["written"].as_array().unwrap().len()), (&1.0.into(), 2));
    assert!(distance(&folder, 1.0) < 1e-6);
    let report = std::fs::read_to_string(folder.path("run/report.html")).unwrap();
    assert!(report.contains("Averaged with the base") && report.contains("heldout by weight"));

    // A weight alone is proposed; its adapter is the run's with another scale.
    let half = average(&folder, &["--weights", "0.5"]);
    assert_eq!(half["points"][0]["validation"], points[1]["validation"]);
    let worst = distance(&folder, 0.5);
    assert!(worst < 1e-6, "{worst}");
    let alpha = |path: &str| number(&json(&folder.path(path).join("adapter_config.json"))["lora_alpha"]);
    assert_eq!(alpha("run/averaged/adapter"), alpha("run/adapter") / 2.0);

    let run = folder.path("run").display().to_string();
    let shown = folder.temper(&["average", &run, "--weights", "0,1", "--no-export"]);
    ends(&shown, 0, &[]);
    for piece in ["validation loss", "heldout relative loss", "<- proposed", "kept"] {
        assert!(stdout(&shown).contains(piece), "`{piece}` is not in:\n{}", stdout(&shown));
    }
    ends(&folder.temper(&["average", &run, "--weights", "1.5"]), 2, &["1.5 lies outside 0 to 1", "hint:"]);
    ends(&folder.temper(&["average", &folder.path("none").display().to_string()]), 2, &["holds no run", "hint:"]);
}

#[test]
fn all_weights_are_mixed_over_all_stages() {
    let folder = Folder::new();
    ends(&folder.temper(&["run", &folder.recipe()]), 0, &[]);
    let averages = average(&folder, &["--weights", "0,0.3"]);
    let points = averages["points"].as_array().unwrap();
    assert_eq!(points[0]["comparison"]["rows"][0]["difference"]["estimate"], 0.0);
    assert!(number(&points[1]["validation"]) < number(&points[0]["validation"]), "{averages}");
    assert_eq!(averages["written"].as_array().unwrap().len(), 1, "a merged model, no adapter");
    assert!(distance(&folder, 0.3) < 1e-6);
    std::fs::remove_dir_all(folder.path("run/checkpoints/stage-2/result")).unwrap();
    let run = folder.path("run").display().to_string();
    ends(&folder.temper(&["average", &run]), 2, &["stage 2 is not finished", "temper resume"]);
}
