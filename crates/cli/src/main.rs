//! The command line of Temper: arguments, progress, tables, exit codes. All printing is here.
//!
//! Exit codes: 0 done, 1 failed, 2 bad input, 3 interrupted, 4 a gate refused.

mod base;
mod bench;
mod cache;
mod chat;
mod command;
mod data;
mod eval;
mod generate;
mod plan;
mod resume;
mod run;
mod table;
mod verdict;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Customise an open-weight language model on your own data, and prove what it kept.
#[derive(Parser)]
#[command(
    name = "temper",
    version,
    after_help = "Exit codes: 0 done, 1 failed, 2 bad input, 3 interrupted, 4 a gate refused."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Plan(plan::Args),
    Run(run::Args),
    Resume(resume::Args),
    Eval(eval::Args),
    Generate(generate::Args),
    Chat(chat::Args),
    #[command(subcommand)]
    Data(data::Command),
    #[command(subcommand)]
    Cache(cache::Command),
    #[command(subcommand)]
    Bench(bench::Command),
}

fn main() -> ExitCode {
    // Training ends after the step at hand, with a checkpoint; a second Ctrl-C, or one outside of training, ends at once:
    // files and folders appear whole or not at all, so a run may end anywhere. Without a handler the system's own applies.
    let _ = ctrlc::set_handler(|| {
        if !run::stop_training() {
            std::process::exit(i32::from(command::INTERRUPTED));
        }
    });
    let outcome = match Cli::parse().command {
        Command::Plan(args) => plan::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Resume(args) => resume::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Generate(args) => generate::run(&args),
        Command::Chat(args) => chat::run(&args),
        Command::Data(command) => data::run(&command),
        Command::Cache(command) => cache::run(&command),
        Command::Bench(command) => bench::run(&command),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            anstream::eprintln!("error: {}", failure.error);
            ExitCode::from(failure.code)
        }
    }
}
