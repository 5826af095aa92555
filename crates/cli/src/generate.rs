//! `temper generate`: answers to one prompt or to a file of them.

use std::fmt::Display;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::anyhow;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use temper_model::{Finish, generate};
use temper_report::duration;
use temper_text::{Message, Renderer};

use crate::base::{BaseArgs, SamplingArgs};
use crate::command::{DONE, Failure, Outcome, print};
use crate::run::Reporter;
use crate::stream::TextStream;

/// How many bad rows an error shows; it counts all.
const SHOWN_PROBLEMS: usize = 20;

/// Answer a prompt, or every row of a file.
///
/// A row of --file is a conversation, {"messages": [...]}, that ends in a user turn, or {"prompt": "..."}, which is one user
/// turn (with --raw: text to go on from). Each comes back, in the order of the file and as soon as it is answered, as the
/// training row that it has become: the answer is the last turn of `messages` (with --raw: `completion` beside `prompt`).
/// `finish` says why it ended, `stop` or `length`. Other fields stay.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    base: BaseArgs,
    /// The user's message (with --raw: text to go on from).
    #[arg(long, conflicts_with = "file", required_unless_present = "file")]
    prompt: Option<String>,
    /// JSONL of `messages` or `prompt`.
    #[arg(long)]
    file: Option<PathBuf>,
    /// Goes on from plain text instead of answering a chat message.
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// A row, as of --file, also for --prompt.
    #[arg(long)]
    json: bool,
}

type Fields = Map<String, Value>;
/// A place, as FILE:LINE, and what stands there or what is wrong with it.
type Line = (String, Result<Fields, String>);

/// What is asked, and the fields that come back with the answer.
struct Row {
    fields: Fields,
    prompt: Vec<u32>,
}

pub fn run(args: &Args) -> Outcome {
    let sampling = args.sampling.sampling()?;
    let lines = match (&args.prompt, &args.file) {
        (Some(prompt), _) => {
            vec![("--prompt".to_owned(), Ok(Fields::from_iter([("prompt".to_owned(), json!(prompt))])))]
        }
        (None, Some(file)) => read_lines(file)?,
        (None, None) => Vec::new(),
    };
    let base = args.base.open()?;
    if !args.raw {
        args.base.check_template(&base)?;
    }
    let most = args.sampling.max_new_tokens;
    let room = base.checkpoint.config().max_position_embeddings.saturating_sub(most);
    let (mut rows, mut problems) = (Vec::new(), Vec::new());
    for (place, line) in lines {
        match line.and_then(|fields| ask(fields, args.raw, &base.renderer, room)) {
            Ok(row) => rows.push(row),
            Err(problem) => problems.push(format!("{place}: {problem}")),
        }
    }
    if !problems.is_empty() {
        let more = problems.len().saturating_sub(SHOWN_PROBLEMS);
        problems.truncate(SHOWN_PROBLEMS);
        if more > 0 {
            problems.push(format!("... and {more} more"));
        }
        if args.file.is_some() {
            problems.push(
                "hint: a row is {\"messages\": [...]} that ends in a user turn, or {\"prompt\": \"...\"}, one a line"
                    .to_owned(),
            );
        }
        return Err(Failure::input(anyhow!(problems.join("\n"))));
    }

    let model = args.base.load(&base)?;
    let (tokenizer, stops) = (base.renderer.tokenizer(), base.renderer.stop_ids());
    let (mut fields, prompts): (Vec<_>, Vec<_>) = rows.into_iter().map(|row| (row.fields, row.prompt)).unzip();
    let flow = |printed: &Result<(), Failure>| match printed {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    };
    let mut printed = Ok(());
    if args.prompt.is_some() && !args.json {
        let mut stream = TextStream::new(tokenizer);
        let mut on_token = |_, token, _| {
            printed = print(stream.push(token));
            flow(&printed)
        };
        generate(&model, true, &prompts, most, &stops, &sampling, &mut on_token).map_err(Failure::input)?;
        printed?;
        print(stream.rest() + "\n")?;
        return Ok(DONE);
    }

    let mut reporter = Reporter::new();
    let start = Instant::now();
    let mut answers: Vec<Vec<u32>> = vec![Vec::new(); prompts.len()];
    // Finished rows wait for those before them in the file.
    let mut waiting: Vec<Option<String>> = vec![None; prompts.len()];
    let (mut next, mut finished, mut tokens, mut tokens_of_finished) = (0, 0, 0, 0);
    let mut on_token = |request: usize, token: u32, finish: Option<Finish>| {
        tokens += 1;
        answers[request].push(token);
        if let Some(finish) = finish {
            let ids = std::mem::take(&mut answers[request]);
            finished += 1;
            tokens_of_finished += ids.len();
            let row = with_answer(std::mem::take(&mut fields[request]), tokenizer.decode(&ids, true), finish);
            waiting[request] = Some(format!("{row}\n"));
            while let (Ok(()), Some(row)) = (&printed, waiting.get_mut(next).and_then(Option::take)) {
                printed = reporter.aside(|| print(row));
                next += 1;
            }
        }
        if args.file.is_some() {
            let seconds = start.elapsed().as_secs_f64();
            // A row at work counts by its tokens against the most it may have, so the time left is at most what is said.
            let share = (finished as f64 + (tokens - tokens_of_finished) as f64 / most as f64) / prompts.len() as f64;
            let (rate, left) = (tokens as f64 / seconds.max(1e-9), seconds * (1.0 - share) / share);
            let message = format!("{rate:.0} tok/s ETA {}", duration(left));
            reporter.show("answering", finished as u64, prompts.len() as u64, message);
        }
        flow(&printed)
    };
    generate(&model, true, &prompts, most, &stops, &sampling, &mut on_token).map_err(Failure::input)?;
    reporter.finish();
    printed?;
    Ok(DONE)
}

/// The row with its answer, as a row that can be trained on.
fn with_answer(mut fields: Fields, answer: String, finish: Finish) -> Value {
    match fields.get_mut("messages").and_then(Value::as_array_mut) {
        Some(messages) => messages.push(json!({"role": "assistant", "content": answer})),
        None => {
            fields.insert("completion".to_owned(), json!(answer));
        }
    }
    fields.insert("finish".to_owned(), json!(finish));
    Value::Object(fields)
}

/// The tokens to go on from, at most `room` of them. A chat prompt becomes a conversation of one message.
fn ask(mut fields: Fields, raw: bool, renderer: &Renderer, room: usize) -> Result<Row, String> {
    for name in ["completion", "finish"] {
        if fields.contains_key(name) {
            return Err(format!("field `{name}` is there already, and the answer would take its place"));
        }
    }
    match (fields.get("prompt"), fields.contains_key("messages"), raw) {
        (Some(_), true, _) => return Err("both `messages` and `prompt`, expected one of them".to_owned()),
        (None, false, _) => return Err("neither `messages` nor `prompt`".to_owned()),
        (None, true, true) => return Err("--raw goes on from `prompt`, and this row is a conversation".to_owned()),
        (Some(prompt), false, _) if !prompt.is_string() => {
            return Err(format!("`prompt`: expected text, got {prompt}"));
        }
        (Some(_), false, false) => {
            let content = fields.remove("prompt").unwrap_or_default();
            fields.insert("messages".to_owned(), json!([{"role": "user", "content": content}]));
        }
        (Some(_), false, true) | (None, true, false) => {}
    }
    let text = |error: &dyn Display| error.to_string();
    let prompt = match fields.get("prompt").and_then(Value::as_str) {
        Some(prompt) => renderer.completion_prompt(prompt).map_err(|e| text(&e))?,
        None => {
            let messages = Vec::<Message>::deserialize(&fields["messages"]).map_err(|e| format!("`messages`: {e}"))?;
            renderer.prompt(&messages).map_err(|e| text(&e))?
        }
    };
    match prompt.len() {
        0 => Err("`prompt` is empty, so there is nothing to go on from".to_owned()),
        length if length > room => Err(format!(
            "a prompt of {length} tokens, but the model's context leaves room for {room} before --max-new-tokens"
        )),
        _ => Ok(Row { fields, prompt }),
    }
}

/// Each line that is not blank, with its place.
fn read_lines(file: &Path) -> Result<Vec<Line>, Failure> {
    let refuse = |problem: String| Failure::input(anyhow!("--file {}: {problem}", file.display()));
    let hint = "hint: expected JSONL, one {\"messages\": [...]} or {\"prompt\": \"...\"} a line";
    let bytes = std::fs::read(file).map_err(|error| refuse(format!("cannot be read: {error}\n{hint}")))?;
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes);
    let mut lines = Vec::new();
    for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let row = serde_json::from_slice(line).map_err(|error| {
            // The parser saw one line, so its own line number would mislead.
            let text = error.to_string();
            let (what, _) = text.split_once(" at line ").unwrap_or((&text, ""));
            format!("column {}: {what}", error.column())
        });
        lines.push((format!("{}:{}", file.display(), index + 1), row));
    }
    if lines.is_empty() { Err(refuse(format!("no rows\n{hint}"))) } else { Ok(lines) }
}
