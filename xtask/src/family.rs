//! `cargo xtask family`: a tiny family of checkpoints as published ones are made, for `temper probe`: random weights, a
//! pre-training's stable end, the same with its decay, and that tuned to answer.

use anyhow::{Context, Result, bail};

use crate::bench::shipped_binary;
use crate::cache::test_model;
use crate::command::{cargo, check, program, root};

/// Each run: its folder, its recipe and what is changed of it.
const RUNS: [(&str, &str, &[&str]); 3] = [
    ("stable", "pretraining", &[]),
    // A fifth of its steps is the decay, which begins after the 128 steps of the stable end.
    (
        "decayed",
        "pretraining",
        &["stages.0.lr_scheduler_type=wsd", "stages.0.decay_steps=32", "stages.0.max_steps=160"],
    ),
    ("tuned", "instructions", &[]),
];
/// Exit code of temper where the verdict refuses: nothing to a model that begins with random weights.
const REFUSED: i32 = 4;

/// Makes what is not there yet of `runs/family`.
pub fn make() -> Result<()> {
    let (folder, binary) = (root()?.join("runs/family"), shipped_binary()?);
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    if !folder.join("random/model.safetensors").is_file() {
        let mut example = cargo()?;
        example.args(["run", "--release", "--package", "temper-model", "--example", "random_model", "--"]);
        check(example.arg(test_model()?).arg(folder.join("random")))?;
    }
    for (name, recipe, changes) in RUNS {
        let output = folder.join(name);
        if output.join("summary.json").is_file() {
            println!("xtask: {name} is there");
            continue;
        }
        let mut run = program(&binary)?;
        run.args(["run", "--overwrite"]).arg(root()?.join(format!("bench/family/{recipe}.yaml"))).arg("--output");
        run.arg(&output);
        for change in changes {
            run.args(["--set", change]);
        }
        let status = run.status().context("cannot start temper")?;
        if !matches!(status.code(), Some(0 | REFUSED)) {
            bail!("{name}: {status}");
        }
    }
    println!("xtask: the family lies in {}; `temper probe bench/family/probe.yaml` compares it", folder.display());
    Ok(())
}
