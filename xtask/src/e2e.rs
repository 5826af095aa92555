//! `cargo xtask e2e NAME`: what Temper writes, read by the tools it is written for.

use anyhow::{Context, Result, bail};

use crate::bench::shipped_binary;
use crate::cache::{fresh_venv, peers_python, test_model};
use crate::command::{check, output, program, root};

/// The adapter and the merged model of a run, loaded and run by transformers + PEFT: `bench/peft/check.py`.
pub fn peft(args: &[&str]) -> Result<()> {
    let mut peer = program(peers_python()?)?;
    peer.arg("bench/peft/check.py");
    if !args.contains(&"--help") {
        peer.arg("--temper").arg(shipped_binary()?);
        peer.arg("--base").arg(test_model()?);
        peer.args(["--golden", "tests/golden/smollm2/smollm2_ref.json"]);
    }
    check(peer.args(args))
}

/// The wheel, built by a pinned maturin, installed into a fresh environment, and used there as a user would: the version, and
/// the plan of a recipe over the test model.
pub fn wheel() -> Result<()> {
    let maturin = fresh_venv("maturin")?;
    check(program(&maturin)?.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--requirement",
        "bench/wheel-requirements.txt",
    ]))?;
    let dist = root()?.join("target/wheels");
    if dist.exists() {
        std::fs::remove_dir_all(&dist).with_context(|| format!("cannot remove {}", dist.display()))?;
    }
    check(program(&maturin)?.args(["-m", "maturin", "build", "--release", "--locked", "--out"]).arg(&dist))?;
    let wheels: Vec<_> = std::fs::read_dir(&dist)?.collect::<std::io::Result<Vec<_>>>()?;
    let [wheel] = &wheels[..] else { bail!("expected one wheel in {}, found {}", dist.display(), wheels.len()) };
    let size = wheel.metadata()?.len() as f64 / f64::from(1 << 20);
    println!("xtask: {} of {size:.1} MiB", wheel.path().display());

    let python = fresh_venv("wheel")?;
    check(program(&python)?.args(["-m", "pip", "install", "--quiet", "--no-index"]).arg(wheel.path()))?;
    let temper = python.with_file_name("temper");
    let version = output(program(&temper)?.arg("--version"))?;
    let expected = format!("temper {}\n", env!("CARGO_PKG_VERSION"));
    if version != expected {
        bail!("the installed binary says {version:?}, expected {expected:?}");
    }
    let base = format!("base={}", test_model()?.display());
    let plan = output(program(&temper)?.args(["plan", "recipes/icd10.yaml", "--set", &base, "--offline"]))?;
    if !plan.contains("plan of icd10") {
        bail!("the installed binary planned something else:\n{plan}");
    }
    println!("xtask: the wheel installs, says its version and plans recipes/icd10.yaml");
    Ok(())
}
