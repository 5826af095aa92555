//! `temper completions`: scripts that complete commands and options in a shell.

use clap_complete::{Shell, generate};

use crate::command::{DONE, Failure, Outcome};

/// Print completions for a shell, as in `temper completions bash > ~/.local/share/bash-completion/completions/temper`.
#[derive(clap::Args)]
pub struct Args {
    /// The shell.
    shell: Shell,
}

pub fn run(args: &Args, mut command: clap::Command) -> Outcome {
    let mut script = Vec::new();
    generate(args.shell, &mut command, "temper", &mut script);
    std::io::Write::write_all(&mut std::io::stdout(), &script).map_err(Failure::run)?;
    Ok(DONE)
}
