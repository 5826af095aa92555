//! `temper generate`: answers to one prompt or to a file of them.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use anyhow::anyhow;
use serde_json::{Map, Value, json};
use temper_model::generate;
use temper_text::{Message, Specials};

use crate::base::{BaseArgs, SamplingArgs};
use crate::command::{DONE, Failure, Outcome};

/// Answer a prompt, or every row of a file.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    base: BaseArgs,
    /// The user's message (with --raw: text to go on from).
    #[arg(long, conflicts_with = "file", required_unless_present = "file")]
    prompt: Option<String>,
    /// JSONL of {"messages": [...]} ending in a user turn, or {"prompt": ...}; rows come back with the answer.
    #[arg(long)]
    file: Option<PathBuf>,
    /// Goes on from plain text instead of answering a chat message.
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// One JSON object a row, also for --prompt.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Outcome {
    let sampling = args.sampling.sampling()?;
    let rows = match (&args.prompt, &args.file) {
        (Some(prompt), _) => vec![Map::from_iter([("prompt".to_owned(), json!(prompt))])],
        (None, Some(file)) => read_rows(file)?,
        (None, None) => Vec::new(),
    };
    let base = args.base.open()?;
    let mut prompts = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        let place = |e: &dyn std::fmt::Display| {
            let hint = "hint: a row is {\"messages\": [...]} ending in a user turn, or {\"prompt\": \"...\"}";
            Failure::input(anyhow!("row {}: {e}\n{hint}", i + 1))
        };
        let text = row.get("prompt").and_then(Value::as_str);
        let ids = match (text, args.raw) {
            (Some(text), true) => base.renderer.tokenizer().encode(text, Specials::AsText),
            (Some(text), false) => base.renderer.prompt(&[Message::new("user", text)]).map_err(|e| place(&e))?,
            (None, true) => return Err(place(&"--raw goes on from `prompt`; this row has none")),
            (None, false) => {
                let messages = row.get("messages").cloned().unwrap_or(Value::Null);
                let messages: Vec<Message> = serde_json::from_value(messages)
                    .map_err(|e| place(&format!("expected `messages` or `prompt`: {e}")))?;
                base.renderer.prompt(&messages).map_err(|e| place(&e))?
            }
        };
        prompts.push(ids);
    }
    let model = args.base.load(&base)?;
    let stops = base.renderer.stop_ids();
    let answers = generate(&model, true, &prompts, args.sampling.max_new_tokens, &stops, &sampling, &mut |_, _| {})
        .map_err(Failure::input)?;
    for (mut row, answer) in rows.into_iter().zip(answers) {
        let text = base.renderer.tokenizer().decode(&answer.ids, true);
        if args.prompt.is_some() && !args.json {
            anstream::println!("{text}");
            continue;
        }
        let turn = json!({"role": "assistant", "content": text});
        match row.get_mut("messages").and_then(Value::as_array_mut) {
            Some(messages) => messages.push(turn),
            None => {
                row.insert("completion".to_owned(), json!(text));
            }
        }
        row.insert("finish".to_owned(), json!(answer.finish));
        anstream::println!("{}", Value::Object(row));
    }
    Ok(DONE)
}

fn read_rows(file: &PathBuf) -> Result<Vec<Map<String, Value>>, Failure> {
    let fault = |line: usize, e: &dyn std::fmt::Display| {
        Failure::input(anyhow!("{}:{line}: {e}\nhint: one JSON object a line", file.display()))
    };
    let open = std::fs::File::open(file).map_err(|e| Failure::input(anyhow!("{}: {e}", file.display())))?;
    let mut rows = Vec::new();
    for (i, line) in BufReader::new(open).lines().enumerate() {
        let line = line.map_err(|e| fault(i + 1, &e))?;
        if !line.trim().is_empty() {
            rows.push(serde_json::from_str(&line).map_err(|e| fault(i + 1, &e))?);
        }
    }
    if rows.is_empty() {
        return Err(Failure::input(anyhow!("{} has no rows", file.display())));
    }
    Ok(rows)
}
