//! `cargo xtask fuzz`: our own readers, fed what no writer writes.

use anyhow::{Context, Result, bail};

use crate::cache::folder;
use crate::command::{check, program, root};

const TARGETS: [&str; 6] = ["rows", "tables", "recipe", "foreign", "gguf", "events"];

/// Runs every target, or the one that is named, for so many seconds.
pub fn run(args: &[&str]) -> Result<()> {
    let mut seconds = 600_u32;
    let mut targets = TARGETS.to_vec();
    for arg in args {
        match (TARGETS.iter().find(|target| *target == arg), arg.parse()) {
            (Some(target), _) => targets = vec![target],
            (None, Ok(given)) => seconds = given,
            (None, Err(_)) => bail!("`{arg}`: expected seconds, or one of {}", TARGETS.join(", ")),
        }
    }
    let tools = folder()?.join("tools");
    let binary = tools.join("bin/cargo-fuzz");
    if !binary.is_file() {
        check(program("cargo")?.args(["install", "cargo-fuzz", "--locked", "--root"]).arg(&tools))?;
    }
    let nightly =
        program("cargo")?.args(["+nightly", "--version"]).output().is_ok_and(|output| output.status.success());
    if !nightly {
        println!("no nightly compiler: the stable one is told to take the options of a nightly (RUSTC_BOOTSTRAP=1)");
    }
    for target in targets {
        let corpus = folder()?.join("fuzz").join(target);
        std::fs::create_dir_all(&corpus).with_context(|| format!("cannot create {}", corpus.display()))?;
        println!("== {target}, {seconds} s");
        let mut fuzz = program("cargo")?;
        if nightly {
            fuzz.arg("+nightly");
        } else {
            fuzz.env("RUSTC_BOOTSTRAP", "1");
        }
        fuzz.args(["fuzz", "run", target]).arg(&corpus).arg(root()?.join("fuzz/seeds").join(target));
        fuzz.arg("--").arg(format!("-max_total_time={seconds}"));
        fuzz.args(["-rss_limit_mb=2048", "-timeout=20", "-max_len=65536", "-print_final_stats=1"]);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut paths = vec![tools.join("bin")];
        paths.extend(std::env::split_paths(&path));
        fuzz.env("PATH", std::env::join_paths(paths)?);
        check(&mut fuzz)?;
    }
    Ok(())
}
