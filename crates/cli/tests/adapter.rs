//! An adapter belongs to the weights it was trained over.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tiny;

use tiny::{Folder, ends, stderr, stdout};

#[test]
fn an_adapter_over_other_weights_is_refused_unless_any_base_will_do() {
    let folder = Folder::new();
    folder.keep_first_stage();
    ends(&folder.temper(&["run", &folder.recipe(), "--no-cache"]), 0, &[]);

    let at = |name: &str| folder.path(name).display().to_string();
    let (base, merged, adapter) = (at("base"), at("run/merged"), at("run/adapter"));
    let over = |base: &str, more: &[&str]| {
        let mut arguments = vec!["generate", "--base", base, "--adapter", &adapter, "--raw", "--prompt", "The lens"];
        arguments.extend(["--max-new-tokens", "4"]);
        arguments.extend(more);
        folder.temper(&arguments)
    };
    let own = over(&base, &[]);
    ends(&own, 0, &[]);
    assert!(!stderr(&own).contains("trained over"), "{}", stderr(&own));

    let other = ["the adapter was trained over", &base, "not over", &merged, "sha256", "hint:", "--any-base"];
    ends(&over(&merged, &[]), 2, &other);
    ends(&over(&merged, &["--any-base"]), 0, &["warning:", "it may add something else than it learnt"]);

    // A judgement says it where its numbers are.
    let recipe = folder.recipe();
    let set = format!("base={merged}");
    let eval = |more: &[&str]| {
        folder.temper(&[&["eval", &recipe, "--set", &set, "--adapter", &adapter, "--any-base"], more].concat())
    };
    ends(&eval(&[]), 0, &[]);
    assert!(stdout(&eval(&[])).starts_with(&format!("warning: {adapter} was trained over")), "{}", stdout(&eval(&[])));
    let judged: serde_json::Value = serde_json::from_slice(&eval(&["--json"]).stdout).unwrap();
    let warning = judged["warnings"][0].as_str().unwrap();
    assert!(warning.contains("it may add something else than it learnt") && judged["rows"].is_array(), "{judged}");

    // An adapter of another tool records nothing: it is loaded, and that is said.
    std::fs::remove_file(folder.path("run/adapter/temper_base.json")).unwrap();
    let unrecorded = over(&base, &[]);
    ends(&unrecorded, 0, &["does not record which weights it was trained over"]);
    assert_eq!(stdout(&unrecorded), stdout(&own));
}
