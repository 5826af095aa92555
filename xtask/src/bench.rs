//! `cargo xtask bench NAME`: Temper beside its peers, in one run on one machine.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::cache::{peers_python, test_model};
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
    let mut driver = program("python3")?;
    driver.arg("bench/estimates/run.py");
    if !args.contains(&"--help") {
        driver.arg("--temper").arg(shipped_binary()?);
    }
    check(driver.args(args))
}

/// What a step costs over batch and length: `bench/cost/run.py` writes `bench/results/cost-DATE.md` and its picture.
pub fn cost(args: &[&str]) -> Result<()> {
    let mut driver = program("python3")?;
    driver.arg("bench/cost/run.py");
    if !args.contains(&"--help") {
        driver.arg("--temper").arg(shipped_binary()?);
    }
    check(driver.args(args))
}

/// Real rows of uneven length beside TRL: `bench/rows/run.py` writes `bench/results/rows-DATE.md`.
pub fn rows(args: &[&str]) -> Result<()> {
    let mut driver = program("python3")?;
    driver.arg("bench/rows/run.py");
    if !args.contains(&"--help") {
        driver.arg("--temper").arg(shipped_binary()?);
        driver.arg("--peer-python").arg(peers_python()?);
        driver.arg("--base").arg(test_model()?);
    }
    check(driver.args(args))
}
