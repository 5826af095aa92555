//! `cargo xtask bench NAME`: Temper beside its peers, in one run on one machine.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::cache::{peers_python, python, test_model};
use crate::command::{cargo, check, program, root};

/// Builds the shipped binary and returns its path.
pub fn shipped_binary() -> Result<PathBuf> {
    check(cargo()?.args(["build", "--release", "--package", "temper-llm"]))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let binary = root()?.join(target).join("release/temper");
    if !binary.is_file() {
        bail!("the build left no {}", binary.display());
    }
    Ok(binary)
}

/// Training speed and memory: `bench/train/run.py` drives both sides and writes `bench/results/train-DATE.md`.
pub fn train(args: &[&str]) -> Result<()> {
    let mut driver = program("python3")?;
    driver.arg("bench/train/run.py");
    if !args.contains(&"--help") {
        driver.arg("--temper").arg(shipped_binary()?);
        driver.arg("--peer-python").arg(peers_python()?);
    }
    check(driver.args(args))
}

/// What the plan says beside what the run then took: `bench/estimates/run.py` writes `bench/results/estimates-DATE.md`.
pub fn estimates(args: &[&str]) -> Result<()> {
    without_peer("bench/estimates/run.py", args)
}

/// bf16 against f32 under several seeds: `bench/precision/run.py` writes `bench/results/precision-DATE.md` and a picture.
pub fn precision(args: &[&str]) -> Result<()> {
    without_peer("bench/precision/run.py", args)
}

/// A driver that needs Temper and Python's standard library alone.
fn without_peer(script: &str, args: &[&str]) -> Result<()> {
    let mut driver = program("python3")?;
    driver.arg(script);
    if !args.contains(&"--help") {
        driver.arg("--temper").arg(shipped_binary()?);
    }
    check(driver.args(args))
}

/// Generation beside llama.cpp: `bench/generate/run.py` drives both sides and writes `bench/results/generate-DATE.md`.
pub fn generate(args: &[&str]) -> Result<()> {
    let mut driver = program("python3")?;
    driver.arg("bench/generate/run.py");
    if !args.contains(&"--help") {
        driver.arg("--temper").arg(shipped_binary()?);
        driver.arg("--peer-python").arg(python("generate", "bench/generate/requirements.txt")?);
        driver.arg("--model").arg(test_model()?);
    }
    check(driver.args(args))
}
