//! `temper cache`: what later runs reuse.

use std::time::Duration;

use temper_pipeline::{Cache, Kind};
use temper_report::bytes;

use crate::command::{DONE, Failure, Outcome, json, print};
use crate::table::table;

/// What later runs reuse: finished stages, packed weights, tokens, scores of the base, speeds.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Each entry: what it is, its size, when it was last used.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Removes entries, the least recently used first, and what killed writes left an hour ago or earlier.
    Prune {
        /// Those not used for so many days.
        #[arg(long, value_name = "DAYS")]
        older_than: Option<f64>,
        /// Until at most so much remains: `500MiB`, `10GiB`; 0 removes all.
        #[arg(long, value_name = "SIZE", value_parser = size)]
        keep: Option<u64>,
    },
}

fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: f64 = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kib" | "k" => 1024.0,
        "mib" | "m" => 1024.0 * 1024.0,
        "gib" | "g" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err("write it like 500MiB or 10GiB".to_owned()),
    };
    match digits.parse::<f64>() {
        Ok(number) if number >= 0.0 && number.is_finite() => Ok((number * factor) as u64),
        _ => Err("write it like 500MiB or 10GiB".to_owned()),
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Stages => "stage",
        Kind::Trunks => "trunk",
        Kind::Packed => "weights",
        Kind::Rows => "rows",
        Kind::Scores => "scores",
        Kind::Speed => "speed",
    }
}

pub fn run(command: &Command) -> Outcome {
    let cache = Cache::of_user();
    match command {
        Command::List { json: true } => print(json(&cache.list()?)?)?,
        Command::List { json: false } => {
            let entries = cache.list()?;
            let rows = entries
                .iter()
                .map(|e| {
                    let used = format!("{:.1} days ago", e.days);
                    vec![
                        e.key[..12.min(e.key.len())].to_owned(),
                        kind(e.kind).to_owned(),
                        e.what.clone(),
                        bytes(e.bytes),
                        used,
                        e.stopped.clone().unwrap_or_default(),
                    ]
                })
                .collect();
            let table = table(&["key", "kind", "what", "size", "last used", "ended early"], rows, &[3, 4]);
            let total: u64 = entries.iter().map(|e| e.bytes).sum();
            print(format_args!("{table}\n{} in {}\n", bytes(total), cache.path().display()))?;
        }
        Command::Prune { older_than: None, keep: None } => {
            return Err(Failure::input(anyhow::anyhow!(
                "nothing says what to remove\nhint: --older-than DAYS, --keep SIZE, or both; --keep 0 removes all"
            )));
        }
        Command::Prune { older_than, keep } => {
            let age = match older_than {
                Some(days) => match Duration::try_from_secs_f64(days * 86_400.0) {
                    Ok(age) => Some(age),
                    Err(_) => {
                        return Err(Failure::input(anyhow::anyhow!(
                            "--older-than: expected days, at least 0, got {days}\nhint: as in --older-than 30"
                        )));
                    }
                },
                None => None,
            };
            let (removed, leftovers) = cache.prune(age, *keep)?;
            let total: u64 = removed.iter().map(|e| e.bytes).sum();
            print(format_args!("{} entries removed, {} freed\n", removed.len(), bytes(total)))?;
            if leftovers > 0 {
                print(format_args!("{leftovers} leftovers of writes that were killed removed\n"))?;
            }
        }
    }
    Ok(DONE)
}
