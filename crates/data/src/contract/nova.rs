//! The rules, one row at a time.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::{Contract, Found, Purpose};
use crate::check::Severity;

const SDK: &str = "aws/nova-forge-sdk @ a4d5b3d, 2026-05-14";
const GUIDE: &str = "Amazon Nova user guide, read in November 2026";

/// Words that the service refuses in supervised rows, in their spellings.
const RESERVED: [&str; 12] = [
    "System:",
    "SYSTEM:",
    "User:",
    "USER:",
    "Bot:",
    "BOT:",
    "Assistant:",
    "ASSISTANT:",
    "Thought:",
    "[EOS]",
    "<unk>",
    "THOUGHT:",
];
/// The same, which stand for media.
const RESERVED_MEDIA: [&str; 2] = ["<image>", "<video>"];

/// The most images of a row.
const IMAGES: usize = 10;
/// Bytes of an image that lies in the row, in base64.
const IMAGE_BYTES: usize = 10 << 20;

fn found(rule: &'static str, found: String, reason: &'static str) -> Found {
    Found { rule, severity: Severity::Error, found, reason, source: SDK }
}

pub(super) fn unreadable(problem: String) -> Found {
    found("row-schema", problem, "every line is one JSON object")
}

pub(super) fn twice() -> Found {
    let severity = Severity::Warning;
    Found {
        severity,
        ..found(
            "row-id",
            "an `id` that an earlier row has".to_owned(),
            "a reward answers by id: two rows of one cannot be told apart",
        )
    }
}

/// How many rows the platform takes.
pub(super) fn how_many(rows: usize, contract: &Contract) -> Option<Found> {
    if !contract.bedrock {
        let short = matches!(contract.purpose, Purpose::Rft | Purpose::RftMultiTurn) && rows < 100;
        let few = matches!(contract.purpose, Purpose::Dpo) && rows < 1000;
        return if short {
            let severity = Severity::Warning;
            Some(Found {
                severity,
                source: GUIDE,
                ..found(
                    "rows-of-platform",
                    format!("{rows} rows"),
                    "start with 100 to 200 prompts, at least 100 to train on",
                )
            })
        } else if few {
            let severity = Severity::Note;
            Some(Found {
                severity,
                source: GUIDE,
                ..found("rows-of-platform", format!("{rows} rows"), "1,000 pairs or more are advised")
            })
        } else {
            None
        };
    }
    let least = match (contract.second, contract.purpose) {
        (true, Purpose::Sft) => 200,
        (true, Purpose::Rft) => 100,
        _ => 8,
    };
    let fits = (least..=20_000).contains(&rows);
    (!fits).then(|| {
        found("rows-of-platform", format!("{rows} rows, expected {least} to 20,000"), "Bedrock refuses the job")
    })
}

/// What breaks the contract in a row; and whether the assistant reasons in it.
pub(super) fn row(row: &Map<String, Value>, contract: &Contract) -> (Vec<Found>, bool) {
    let mut all = Vec::new();
    let keys = match contract.purpose {
        Purpose::Cpt => &["text"][..],
        Purpose::Sft | Purpose::Dpo => &["schemaVersion", "system", "messages", "toolConfig"],
        // Every further field of these reaches the reward.
        Purpose::Rft => &[],
        Purpose::RftMultiTurn => &["id", "metadata"],
        Purpose::Questions => &["system", "query", "response", "metadata", "images"],
        Purpose::Judged => &["prompt", "response_A", "response_B"],
    };
    for key in row.keys().filter(|key| !keys.is_empty() && !keys.contains(&key.as_str())) {
        all.push(found(
            "row-schema",
            format!("a field `{key}`"),
            "the schema has no such field: the row is refused, or it is dropped",
        ));
    }
    let text = |key: &str| row.get(key).and_then(Value::as_str);
    let mut reasons = false;
    match contract.purpose {
        Purpose::Cpt => match text("text") {
            None => all.push(found(
                "row-schema",
                "no `text`".to_owned(),
                "a row of continued pretraining is its text and nothing else",
            )),
            Some(text) if text.trim().is_empty() => {
                all.push(found("row-empty", "an empty `text`".to_owned(), "nothing can be learnt of it"))
            }
            Some(_) => {}
        },
        Purpose::Sft | Purpose::Dpo => reasons = conversation(row, contract, &mut all),
        Purpose::Rft => {
            if text("id").is_none() {
                all.push(found("row-schema", "no `id`".to_owned(), "a reward answers by id"));
            }
            let turns = row.get("messages").and_then(Value::as_array);
            match turns {
                None => all.push(found("row-schema", "no `messages`".to_owned(), "the prompt is a list of turns")),
                Some(turns) => {
                    let role = |turn: &Value| turn.get("role").and_then(Value::as_str).unwrap_or("").to_owned();
                    if turns.last().map(role).as_deref() != Some("user") {
                        all.push(found(
                            "turn-order",
                            "the last turn is not the user's".to_owned(),
                            "the model answers: the prompt ends with the user",
                        ));
                    }
                    for turn in turns {
                        if !matches!(role(turn).as_str(), "system" | "user" | "assistant") {
                            all.push(found(
                                "turn-order",
                                format!("a turn of role `{}`", role(turn)),
                                "roles are system, user and assistant",
                            ));
                        }
                        if !turn.get("content").is_some_and(|content| content.is_string() || content.is_array()) {
                            all.push(found(
                                "row-schema",
                                "a turn without `content`".to_owned(),
                                "every turn has text; RFT takes no media",
                            ));
                        }
                    }
                }
            }
            if row.get("reference_answer").is_none_or(Value::is_null) {
                let severity = Severity::Warning;
                all.push(Found {
                    severity,
                    ..found(
                        "row-reference",
                        "no `reference_answer`".to_owned(),
                        "a reward that compares with it cannot judge the row",
                    )
                });
            }
        }
        Purpose::RftMultiTurn => {
            if text("id").is_none() {
                all.push(found("row-schema", "no `id`".to_owned(), "a reward answers by id"));
            }
            let prompt = row.get("metadata").and_then(|metadata| metadata.get("prompt"));
            if !prompt.is_some_and(|prompt| prompt.is_string() || prompt.is_array()) {
                all.push(found(
                    "row-schema",
                    "no `metadata.prompt`".to_owned(),
                    "the environment begins with it: a text or a list of turns",
                ));
            }
        }
        Purpose::Questions => {
            for key in ["query", "response"] {
                if text(key).is_none() {
                    all.push(found(
                        "row-schema",
                        format!("no `{key}`"),
                        "an evaluation compares the model's answer to `query` with `response`",
                    ));
                }
            }
        }
        Purpose::Judged => {
            for key in ["prompt", "response_A", "response_B"] {
                if text(key).is_none() {
                    all.push(found("row-schema", format!("no `{key}`"), "a judge compares two answers to a prompt"));
                }
            }
        }
    }
    (all, reasons)
}

/// A row of SFT or DPO.
fn conversation(row: &Map<String, Value>, contract: &Contract, all: &mut Vec<Found>) -> bool {
    match row.get("schemaVersion").and_then(Value::as_str) {
        Some("bedrock-conversation-2024") => {}
        Some(other) => all.push(found(
            "row-schema",
            format!("schemaVersion `{other}`"),
            "the version is `bedrock-conversation-2024`; some pages misprint it",
        )),
        None => {
            all.push(found("row-schema", "no `schemaVersion`".to_owned(), "the version is `bedrock-conversation-2024`"))
        }
    }
    if let Some(system) = row.get("system") {
        let texts = system
            .as_array()
            .is_some_and(|blocks| blocks.iter().all(|block| block.get("text").is_some_and(Value::is_string)));
        if !texts {
            all.push(found(
                "row-schema",
                "`system` is no list of `{\"text\"}`".to_owned(),
                "as `[{\"text\": \"..\"}]`",
            ));
        }
        reserved_in(system, all);
    }
    let Some(turns) = row.get("messages").and_then(Value::as_array).filter(|turns| !turns.is_empty()) else {
        all.push(found("row-schema", "no `messages`".to_owned(), "a conversation is a list of turns"));
        return false;
    };
    let mut seen = Row::default();
    for (index, turn) in turns.iter().enumerate() {
        let role = turn.get("role").and_then(Value::as_str).unwrap_or("");
        let expected = if index % 2 == 0 { "user" } else { "assistant" };
        if role != expected {
            all.push(found(
                "turn-order",
                format!("a turn of role `{role}` where `{expected}` is expected"),
                "user and assistant speak in turn, the user first; a system prompt stands in `system`",
            ));
        }
        let last = index + 1 == turns.len();
        match turn.get("candidates").and_then(Value::as_array) {
            Some(candidates) if contract.purpose == Purpose::Dpo && last => pair(candidates, all, &mut seen, contract),
            Some(_) => all.push(found(
                "row-schema",
                "`candidates` in the wrong place".to_owned(),
                "only the last turn of a DPO row has candidates",
            )),
            None if contract.purpose == Purpose::Dpo && last => {
                all.push(found(
                    "row-schema",
                    "the last turn has no `candidates`".to_owned(),
                    "a pair is two candidates, one preferred and one not",
                ));
            }
            None => blocks(turn.get("content"), role, contract, all, &mut seen),
        }
    }
    if turns.last().and_then(|turn| turn.get("role")).and_then(Value::as_str) != Some("assistant") {
        all.push(found(
            "turn-order",
            "the last turn is not the assistant's".to_owned(),
            "what is trained is the last answer",
        ));
    }
    for id in &seen.open {
        all.push(found(
            "tool-id",
            format!("a tool's call `{id}` without its result"),
            "each call has its result in the next turn",
        ));
    }
    if seen.images > 0 && seen.videos > 0 {
        all.push(found("row-media", "images and a video".to_owned(), "a row has one kind of media"));
    }
    if seen.images > IMAGES {
        all.push(found("row-media", format!("{} images", seen.images), "at most 10 images a row"));
    }
    if seen.videos > 1 {
        all.push(found("row-media", format!("{} videos", seen.videos), "at most one video a row"));
    }
    if seen.documents > 0 && !contract.second {
        all.push(found("row-media", "a document".to_owned(), "PDF is read by Nova 2 only"));
    }
    seen.reasons
}

/// What was seen of a row.
#[derive(Default)]
struct Row {
    images: usize,
    videos: usize,
    documents: usize,
    reasons: bool,
    /// Every id of a call.
    calls: HashSet<String>,
    /// Those that have no result yet.
    open: Vec<String>,
}

fn pair(candidates: &[Value], all: &mut Vec<Found>, seen: &mut Row, contract: &Contract) {
    let labels: Vec<&str> =
        candidates.iter().filter_map(|one| one.get("preferenceLabel").and_then(Value::as_str)).collect();
    let fits = candidates.len() == 2 && labels.contains(&"preferred") && labels.contains(&"non-preferred");
    if !fits {
        all.push(found(
            "row-schema",
            format!("{} candidates, labelled {labels:?}", candidates.len()),
            "exactly two, one `preferred` and one `non-preferred`",
        ));
    }
    for candidate in candidates {
        blocks(candidate.get("content"), "assistant", contract, all, seen);
    }
    if let [a, b] = candidates
        && a.get("content").is_some()
        && a.get("content") == b.get("content")
    {
        all.push(found("row-pair", "both candidates say the same".to_owned(), "nothing can be learnt of such a pair"));
    }
}

fn blocks(content: Option<&Value>, role: &str, contract: &Contract, all: &mut Vec<Found>, seen: &mut Row) {
    let Some(blocks) = content.and_then(Value::as_array) else {
        all.push(found("row-schema", "`content` is no list of blocks".to_owned(), "as `[{\"text\": \"..\"}]`"));
        return;
    };
    if blocks.is_empty() {
        all.push(found(
            "row-empty",
            format!("a turn of role `{role}` without content"),
            "an empty answer trains the model to say nothing",
        ));
    }
    for block in blocks {
        let Some((kind, value)) = block.as_object().and_then(|block| block.iter().next()) else {
            all.push(found("row-schema", "a block that is no object".to_owned(), "as `{\"text\": \"..\"}`"));
            continue;
        };
        match kind.as_str() {
            "text" => {
                if value.as_str().is_none_or(|text| text.trim().is_empty()) {
                    all.push(found(
                        "row-empty",
                        format!("an empty text of role `{role}`"),
                        "an empty answer trains the model to say nothing",
                    ));
                }
                reserved_in(value, all);
            }
            "reasoningContent" => {
                seen.reasons = true;
                if role != "assistant" {
                    all.push(found(
                        "row-reasoning",
                        format!("reasoning in a turn of role `{role}`"),
                        "only the assistant reasons",
                    ));
                } else if !contract.second {
                    all.push(found("row-reasoning", "reasoning".to_owned(), "only Nova 2 reasons"));
                } else if value
                    .get("reasoningText")
                    .and_then(|text| text.get("text"))
                    .is_none_or(|text| !text.is_string())
                {
                    all.push(found(
                        "row-reasoning",
                        "reasoning that is no text".to_owned(),
                        "as `{\"reasoningText\": {\"text\": \"..\"}}`",
                    ));
                }
            }
            "image" => {
                seen.images += 1;
                media(role, "image", all);
                let bytes = value
                    .get("source")
                    .and_then(|source| source.get("bytes"))
                    .and_then(Value::as_str)
                    .map_or(0, str::len);
                if bytes / 4 * 3 > IMAGE_BYTES {
                    all.push(found(
                        "row-media",
                        "an image of more than 10 MB".to_owned(),
                        "an image has at most 10 MB",
                    ));
                }
            }
            "video" => {
                seen.videos += 1;
                media(role, "video", all);
            }
            "document" => seen.documents += 1,
            "toolUse" => {
                let id = value.get("toolUseId").and_then(Value::as_str).unwrap_or("").to_owned();
                if role != "assistant" {
                    all.push(found(
                        "tool-id",
                        format!("a tool's call in a turn of role `{role}`"),
                        "only the assistant calls tools",
                    ));
                }
                if id.is_empty() {
                    all.push(found("tool-id", "a tool's call without `toolUseId`".to_owned(), "its result names it"));
                } else if !seen.calls.insert(id.clone()) {
                    all.push(found("tool-id", "a tool's id that is used twice".to_owned(), "each id is used once"));
                } else {
                    seen.open.push(id);
                }
            }
            "toolResult" => {
                let id = value.get("toolUseId").and_then(Value::as_str).unwrap_or("");
                match seen.open.iter().position(|open| open == id) {
                    Some(at) => {
                        seen.open.remove(at);
                    }
                    None => all.push(found(
                        "tool-id",
                        "a result without its call before it".to_owned(),
                        "a result follows its call and names it",
                    )),
                }
                if role != "user" {
                    all.push(found(
                        "tool-id",
                        format!("a result in a turn of role `{role}`"),
                        "results are the user's turn",
                    ));
                }
            }
            other => all.push(found(
                "row-schema",
                format!("a block of `{other}`"),
                "blocks are text, reasoningContent, image, video, document, toolUse and toolResult",
            )),
        }
    }
}

fn media(role: &str, what: &str, all: &mut Vec<Found>) {
    if role != "user" {
        all.push(found("row-media", format!("{what} in a turn of role `{role}`"), "media are the user's"));
    }
}

/// Words that the service keeps for itself, anywhere in a value.
fn reserved_in(value: &Value, all: &mut Vec<Found>) {
    match value {
        Value::String(text) => {
            for word in RESERVED.iter().chain(&RESERVED_MEDIA).filter(|word| text.contains(**word)) {
                all.push(found(
                    "row-reserved",
                    format!("the reserved word `{word}`"),
                    "the service refuses rows with it",
                ));
            }
        }
        Value::Array(items) => items.iter().for_each(|item| reserved_in(item, all)),
        Value::Object(map) => map.values().for_each(|value| reserved_in(value, all)),
        _ => {}
    }
}
