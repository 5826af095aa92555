//! `temper completions`: scripts that complete commands and options in a shell.

use clap_complete::{Shell, generate};

use crate::command::{DONE, Failure, Outcome, conclude};

/// Print completions for a shell, as in `temper completions bash > ~/.local/share/bash-completion/completions/temper`.
#[derive(clap::Args)]
pub struct Args {
    /// The shell.
    shell: Shell,
}

pub fn run(args: &Args, mut command: clap::Command) -> Outcome {
    let mut script = Vec::new();
    generate(args.shell, &mut command, "temper", &mut script);
    conclude(String::from_utf8(script).map_err(Failure::run)?, DONE)
}
