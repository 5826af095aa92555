//! The command line of Temper: arguments, progress, tables, exit codes. All printing is here.
//!
//! Exit codes: 0 done, 1 failed, 2 bad input, 3 interrupted, 4 a gate refused.

mod advise;
mod arms;
mod average;
mod base;
mod bench;
mod cache;
mod chat;
mod check;
mod command;
mod completions;
mod data;
mod doctor;
mod eval;
mod export;
mod generate;
mod import;
mod init;
mod interrupt;
mod machine;
#[cfg(feature = "aws")]
mod nova;
mod plan;
mod probe;
mod report;
mod resume;
mod reward;
mod run;
mod schema;
mod stream;
mod table;
mod tune;
mod verdict;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

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
    Init(init::Args),
    Check(check::Args),
    Import(import::Args),
    Plan(plan::Args),
    Probe(probe::Args),
    Arms(arms::Args),
    Run(run::Args),
    Tune(tune::Args),
    Worker(tune::WorkerArgs),
    Resume(resume::Args),
    Advise(advise::Args),
    #[cfg(feature = "aws")]
    #[command(subcommand)]
    Nova(nova::Command),
    Average(average::Args),
    Report(report::Args),
    Eval(eval::Args),
    Export(export::Args),
    #[command(subcommand)]
    Reward(reward::Command),
    Generate(generate::Args),
    Chat(chat::Args),
    #[command(subcommand)]
    Data(data::Command),
    Doctor(doctor::Args),
    Schema(schema::Args),
    Completions(completions::Args),
    #[command(subcommand)]
    Cache(cache::Command),
    Bench(bench::Args),
}

fn main() -> ExitCode {
    command::begun();
    interrupt::listen();
    let command = Cli::parse().command;
    let outcome = machine::choose_instructions().and_then(|()| carry_out(command));
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            if let Some(error) = failure.error {
                command::tell(format_args!("error: {error}"));
            }
            ExitCode::from(failure.code)
        }
    }
}

fn carry_out(command: Command) -> command::Outcome {
    match command {
        Command::Init(args) => init::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Probe(args) => probe::run(&args),
        Command::Arms(args) => arms::run(&args),
        Command::Run(args) => run::run(args),
        Command::Tune(args) => tune::run(&args),
        Command::Worker(args) => tune::work(&args),
        Command::Resume(args) => resume::run(args),
        Command::Advise(args) => advise::run(&args),
        #[cfg(feature = "aws")]
        Command::Nova(command) => nova::run(&command),
        Command::Average(args) => average::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Reward(command) => reward::run(&command),
        Command::Generate(args) => generate::run(&args),
        Command::Chat(args) => chat::run(&args),
        Command::Data(command) => data::run(&command),
        Command::Doctor(args) => doctor::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Completions(args) => completions::run(&args, Cli::command()),
        Command::Cache(command) => cache::run(&command),
        Command::Bench(args) => bench::run(&args),
    }
}
