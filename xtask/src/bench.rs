//! `cargo xtask bench NAME`: Temper beside its peers, in one run on one machine.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::cache::{peers_python, python, test_model};
use crate::command::{cargo, check, program, root};

/// Builds the shipped binary and returns its path.
pub fn shipped_binary() -> Result<PathBuf> {
    check(cargo()?.args(["build", "--release", "--package", "temper-llm"]))?;
    built("temper")
}

/// The path of a program that was built in the release profile.
fn built(name: &str) -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let binary = root()?.join(target).join("release").join(name);
    if !binary.is_file() {
        bail!("the build left no {}", binary.display());
    }
    Ok(binary)
}

/// Training speed and memory: `bench/train/run.py` drives both sides and writes `bench/results/train-DATE.md`.
pub fn train(args: &[&str]) -> Result<()> {
    drive("bench/train/run.py", args, || Ok(vec![("--peer-python", peers_python()?)]))
}

/// Generation beside llama.cpp: `bench/generate/run.py` drives both sides and writes `bench/results/generate-DATE.md`.
pub fn generate(args: &[&str]) -> Result<()> {
    drive("bench/generate/run.py", args, || {
        let peer = python("generate", "bench/generate/requirements.txt")?;
        Ok(vec![("--peer-python", peer), ("--model", test_model()?)])
    })
}

/// What the plan says beside what the run then took: `bench/estimates/run.py` writes `bench/results/estimates-DATE.md`.
pub fn estimates(args: &[&str]) -> Result<()> {
    drive("bench/estimates/run.py", args, alone)
}

/// bf16 against f32 under several seeds: `bench/precision/run.py` writes `bench/results/precision-DATE.md` and a picture.
pub fn precision(args: &[&str]) -> Result<()> {
    drive("bench/precision/run.py", args, alone)
}

/// What a step costs over batch and length: `bench/cost/run.py` writes `bench/results/cost-DATE.md` and its picture.
pub fn cost(args: &[&str]) -> Result<()> {
    drive("bench/cost/run.py", args, alone)
}

/// Real rows of uneven length beside TRL: `bench/rows/run.py` writes `bench/results/rows-DATE.md`.
pub fn rows(args: &[&str]) -> Result<()> {
    drive("bench/rows/run.py", args, || Ok(vec![("--peer-python", peers_python()?), ("--base", test_model()?)]))
}

/// Rates and arms: `bench/ladder/run.py` writes `bench/results/ladder-DATE.md` and a picture.
pub fn ladder(args: &[&str]) -> Result<()> {
    drive("bench/ladder/run.py", args, alone)
}

/// Objectives of reinforcement: `bench/rft/switches.py` writes `bench/results/rft-switches-DATE.md`.
pub fn switches(args: &[&str]) -> Result<()> {
    drive("bench/rft/switches.py", args, alone)
}

/// Rows to packed batches beside `datasets` and `transformers`: `bench/data/run.py` writes `bench/results/data-DATE.md`.
pub fn data(args: &[&str]) -> Result<()> {
    drive("bench/data/run.py", args, || Ok(vec![("--peer-python", peers_python()?)]))
}

/// The samplers beside Optuna on problems with known answers: `bench/search/run.py` writes `bench/results/search-SUITE-DATE.md`.
/// It needs no shipped binary: the library's own example asks and tells. Suites of early stopping have a driver and an environment of their
/// own, `bench/search/stopping.py`.
pub fn search(args: &[&str]) -> Result<()> {
    if let ["mfhartmann" | "lcdb", ..] = args {
        check(cargo()?.args(["build", "--release", "--package", "temper-search", "--example", "replay"]))?;
        let python = python("mfpbench", "bench/search/mfpbench-requirements.txt")?;
        let replay = built("examples/replay")?;
        return check(program(python)?.arg("bench/search/stopping.py").args(args).arg("--ask-tell").arg(replay));
    }
    check(cargo()?.args(["build", "--release", "--package", "temper-search", "--example", "ask_tell"]))?;
    let python = python("search", "bench/search/requirements.txt")?;
    check(program(python)?.arg("bench/search/run.py").args(args).arg("--ask").arg(built("examples/ask_tell")?))
}

/// Searches replayed on a table of real runs, beside Optuna: `bench/table/replay.py` writes `bench/results/table-DATE.md` and a picture.
pub fn table(args: &[&str]) -> Result<()> {
    check(cargo()?.args(["build", "--release", "--package", "temper-search", "--example", "replay"]))?;
    let python = python("search", "bench/search/requirements.txt")?;
    check(program(python)?.arg("bench/table/replay.py").args(args).arg("--replay").arg(built("examples/replay")?))
}

/// Trials in the store beside Optuna's: `bench/search/optuna_speed.py` writes `bench/results/store-DATE.md`.
pub fn store(args: &[&str]) -> Result<()> {
    beside_optuna("optuna_speed.py", args, &[])
}

/// Runs a script of `bench/search` in Optuna's environment, with the store's tool and `more` options.
pub fn beside_optuna(script: &str, args: &[&str], more: &[(&str, PathBuf)]) -> Result<()> {
    let mut driver = program(python("optuna", "bench/search/optuna-requirements.txt")?)?;
    driver.arg(format!("bench/search/{script}"));
    if !args.contains(&"--help") {
        check(cargo()?.args(["build", "--release", "--package", "temper-search", "--example", "store_tool"]))?;
        driver.arg("--store-tool").arg(built("examples/store_tool")?);
        for (option, path) in more {
            driver.arg(option).arg(path);
        }
    }
    check(driver.args(args))
}

/// Options of a driver and the paths that they name.
type Paths = Vec<(&'static str, PathBuf)>;

/// For a driver that needs Temper and Python's standard library alone.
fn alone() -> Result<Paths> {
    Ok(Vec::new())
}

/// Runs a driver with the shipped binary and the other paths that it needs, which are made for it; not for its `--help`.
fn drive(script: &str, args: &[&str], paths: impl FnOnce() -> Result<Paths>) -> Result<()> {
    let mut driver = program("python3")?;
    driver.arg(script);
    if !args.contains(&"--help") {
        driver.arg("--temper").arg(shipped_binary()?);
        for (option, path) in paths()? {
            driver.arg(option).arg(path);
        }
    }
    check(driver.args(args))
}
