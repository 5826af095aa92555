//! `cargo xtask e2e NAME`: what Temper writes, read by the tools it is written for.

use anyhow::Result;

use crate::bench::shipped_binary;
use crate::cache::{peers_python, test_model};
use crate::command::{check, program};

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
