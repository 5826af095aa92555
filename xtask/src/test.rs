//! `cargo xtask test`: sets up and passes everything. This is what CI runs.
//!
//! Cheap steps come first, so that a misplaced comma fails in seconds. Everything that compiles uses the release
//! profile: the tests run a real model, they run the code that ships, and `cargo run --release` finds it built. It is also
//! the cheaper one: compiling all tests from nothing took 244 s of CPU, against 417 s in the dev profile, whose settings
//! for dependencies optimise the procedural macros as well (November 2026, 168 crates, AMD EPYC).

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::cache::{test_database, test_model, test_tokenizers};
use crate::command::{cargo, check, program};
use crate::hygiene;

/// How much of the list to run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// What CI runs.
    Everything,
    /// All but the documentation.
    WithoutDocs,
}

/// Runs the steps in order and stops at the first that fails; the error names it.
pub fn run(extent: Extent) -> Result<()> {
    let mut steps = Steps::default();
    steps.run("committed text", hygiene::check_text)?;
    steps.run("dependencies", hygiene::check_dependencies)?;
    steps.run("format", || check(cargo()?.args(["fmt", "--all", "--check"])))?;
    steps.run("committed data", || {
        let scripts = ["data/make.py", "data/make_clock.py", "data/make_trace.py"];
        scripts.iter().try_for_each(|script| check(program("python3")?.args([script, "check"])))
    })?;
    let model = steps.run("test model", test_model)?;
    let tokenizers = steps.run("test tokenizers", test_tokenizers)?.unwrap_or_else(|| "none".into());
    steps.run("test database", test_database)?;
    steps.run("lints", || {
        check(cargo()?.args(["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
        // What is off by default is no less looked at.
        let features = ["--package", "temper-llm", "--features", "aws"];
        check(cargo()?.args(["clippy", "--release"]).args(features).args(["--", "-D", "warnings"]))
    })?;
    if extent == Extent::Everything {
        steps.run("docs", || {
            let mut doc = cargo()?;
            check(doc.args(["doc", "--release", "--no-deps", "--workspace"]).env("RUSTDOCFLAGS", "-D warnings"))
        })?;
    }
    // As the README has it, but for training.
    steps.run("first command", || check(cargo()?.args(["run", "--release", "--", "plan", "recipes/icd10.yaml"])))?;
    steps.run("tests", || {
        let mut tests = cargo()?;
        tests.args(["test", "--release", "--workspace"]);
        check(tests.env("TEMPER_TEST_GGUF", &model).env("TEMPER_TEST_TOKENIZERS", &tokenizers))
    })?;
    steps.print();
    Ok(())
}

/// The steps run so far and the time each took.
#[derive(Default)]
struct Steps {
    done: Vec<(&'static str, Duration)>,
}

impl Steps {
    fn run<T>(&mut self, name: &'static str, step: impl FnOnce() -> Result<T>) -> Result<T> {
        println!("\n== {name}");
        let start = Instant::now();
        let value = step().with_context(|| format!("step `{name}` of `cargo xtask test`"))?;
        let took = start.elapsed();
        println!("== {name}: passed in {:.1} s", took.as_secs_f64());
        self.done.push((name, took));
        Ok(value)
    }

    fn print(&self) {
        println!("\nall steps passed:");
        for (name, took) in &self.done {
            println!("{:>8.1} s  {name}", took.as_secs_f64());
        }
        let total: Duration = self.done.iter().map(|(_, took)| *took).sum();
        println!("{:>8.1} s  in all", total.as_secs_f64());
    }
}
