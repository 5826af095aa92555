//! `frozen_weights: as_stored`: the same run to the bit over a quantised base, whichever way its frozen weights lie in memory.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tiny;

use tiny::{Folder, ends, finished, json, same, stdout};

/// A folder whose recipe starts from a GGUF in Q8_0, in which only the two down projections, of 48 columns, are no whole blocks.
fn over_quantised() -> Folder {
    let folder = Folder::new();
    folder.keep_first_stage();
    let (recipe, made) = (folder.recipe(), base(&folder, "made"));
    let more = ["--no-cache", "--output", &made, "--set", "export=[\"gguf:q8_0\"]"];
    finished(&folder.temper(&[&["run", recipe.as_str()][..], &more].concat()));
    folder.write_recipe(&folder.text());
    folder
}

fn base(folder: &Folder, name: &str) -> String {
    folder.path(name).display().to_string()
}

#[test]
fn a_run_over_stored_weights_is_the_run_over_decoded_ones() {
    let folder = over_quantised();
    let quantised = format!("base={}", base(&folder, "made/gguf-q8_0"));
    let run = |name: &str, more: &[&str]| {
        let (recipe, output) = (folder.recipe(), base(&folder, name));
        let arguments = ["run", &recipe, "--output", &output, "--set", &quantised];
        finished(&folder.temper(&[&arguments[..], more].concat()));
    };
    run("decoded", &["--set", "frozen_weights=decoded"]);
    // Without the cache, in which it would find the other's stages.
    run("stored", &["--no-cache", "--set", "frozen_weights=as_stored"]);
    same(&folder.result("decoded"), &folder.result("stored"));
    let plan = json(&folder.path("stored/plan.json"));
    let stored = &plan["base"]["as_stored"];
    assert_eq!(stored["weights"], 7, "the embedding and three linears of two blocks: {stored}");
    assert_eq!(stored["decoded"].as_array().unwrap().len(), 2, "{stored}");
    assert_eq!(plan["estimate"]["mapped_bytes"], 0);
    assert_eq!(json(&folder.path("decoded/plan.json"))["base"]["as_stored"], serde_json::Value::Null);
    assert!(plan["estimate"]["memory_bytes"].as_u64() > Some(0));
}

#[test]
fn what_cannot_stay_as_it_is_stored_is_refused() {
    let folder = over_quantised();
    let (recipe, quantised) = (folder.recipe(), format!("base={}", base(&folder, "made/gguf-q8_0")));
    let plan = |sets: &[&str]| {
        let mut arguments = vec!["plan", &recipe, "--set", "frozen_weights=as_stored"];
        sets.iter().for_each(|set| arguments.extend(["--set", set]));
        folder.temper(&arguments)
    };
    ends(&plan(&[]), 2, &["frozen_weights: products read blocks of Q8_0, Q4_0 or Q4_1 as they are, the base has f32"]);
    ends(&plan(&[&quantised, "precision=bf16"]), 2, &["`precision` is bf16", "remove one of the two"]);
    let shown = plan(&[&quantised]);
    ends(&shown, 0, &[]);
    let text = stdout(&shown);
    assert!(text.contains("7 frozen weights stay as they are stored") && text.contains("mlp.down_proj"), "{text}");
}
