//! What the base is asked: shipped prompts, shipped templates with their slots filled, and the user's own prompts.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use serde::{Deserialize, Serialize};
use temper_run::Random;
use temper_text::Message;

use crate::PipelineError;

/// Templates and what fills them (`data/self/README.md`).
const SEEDS: &str = include_str!("../../../../data/self/seeds.json");
/// 300 prompts of four categories (`data/general/README.md`).
const WRITTEN: &str = include_str!("../../../../data/general/chat_seeds.jsonl");
/// The category of the user's own prompts.
const OWN: &str = "own";
/// Fillings that are tried for a prompt that was not asked yet.
const TRIES: u64 = 64;

/// One prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Prompt {
    /// A conversation that waits for an answer.
    pub messages: Vec<Message>,
    pub category: String,
}

#[derive(Deserialize)]
struct Seeds {
    templates: BTreeMap<String, Vec<String>>,
    slots: HashMap<String, Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    prompt: Option<String>,
    messages: Option<Vec<Message>>,
    /// Named by files of prompts, not read.
    #[serde(rename = "source")]
    _source: Option<String>,
    category: Option<String>,
}

/// `count` prompts, each category in turn: the user's own in the order of their file, then per category every second
/// one shipped as it is and every second one from a template, until both are used up. A prompt is asked twice only where
/// nothing new can be made.
pub(super) fn prompts(count: usize, own: Option<&Path>, seed: u64) -> Result<Vec<Prompt>, PipelineError> {
    let seeds: Seeds = serde_json::from_str(SEEDS).map_err(|error| damaged("data/self/seeds.json", &error))?;
    let mut written: BTreeMap<&str, Vec<Vec<Message>>> = BTreeMap::new();
    for line in WRITTEN.lines() {
        let row: Row = serde_json::from_str(line).map_err(|error| damaged("data/general/chat_seeds.jsonl", &error))?;
        let category = match row.category.as_deref() {
            Some("reasoning") => "reasoning",
            Some("instruction-following") => "instruction-following",
            Some("knowledge") => "explanation",
            _ => "open-chat",
        };
        written.entry(category).or_default().extend(row.messages);
    }
    let mut queues: Vec<(&str, Vec<Vec<Message>>)> = Vec::new();
    if let Some(path) = own {
        queues.push((OWN, read_own(path)?));
    }
    let random = Random::new(seed, "self prompts");
    for (index, category) in seeds.templates.keys().enumerate() {
        let all = written.remove(category.as_str()).unwrap_or_default();
        let order = random.within(index as u64).permutation(all.len());
        queues.push((category, order.into_iter().map(|i| all[i].clone()).collect()));
    }

    let mut asked = HashSet::new();
    let mut prompts: Vec<Prompt> = Vec::new();
    let mut turn = 0;
    while prompts.len() < count {
        for (category, queue) in &queues {
            if prompts.len() == count {
                break;
            }
            let templates = seeds.templates.get(*category);
            let written = match templates {
                None => queue.get(turn),
                Some(_) if turn % 2 == 0 => queue.get(turn / 2),
                Some(_) => None,
            };
            let messages = match (written, templates) {
                (Some(messages), _) => messages.clone(),
                (None, None) => continue,
                (None, Some(templates)) => {
                    let draw = random.within(1000 + prompts.len() as u64);
                    let new = |tried: u64| fill(templates, &seeds.slots, draw.within(tried));
                    let text = (0..TRIES).map(new).find(|text| !asked.contains(text)).unwrap_or_else(|| new(TRIES));
                    vec![Message::new("user", text)]
                }
            };
            asked.extend(messages.last().map(|message| message.content.clone()));
            prompts.push(Prompt { messages, category: (*category).to_owned() });
        }
        turn += 1;
    }
    Ok(prompts)
}

/// One of the templates with its slots filled: `{name}` by an entry of that list, another one each time, and `{2..9}` by a
/// whole number.
fn fill(templates: &[String], slots: &HashMap<String, Vec<String>>, random: Random) -> String {
    let template = &templates[random.below(0, templates.len() as u64) as usize];
    let (mut text, mut rest, mut index) = (String::new(), template.as_str(), 0);
    let mut used: HashSet<&str> = HashSet::new();
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let (slot, after) = after.split_once('}').unwrap_or((after, ""));
        index += 1;
        let range = slot.split_once("..").and_then(|(low, high)| Some((low.parse().ok()?, high.parse::<u64>().ok()?)));
        match (range, slots.get(slot)) {
            (Some((low, high)), _) => {
                let low: u64 = low;
                text.push_str(&(low + random.below(index, high - low + 1)).to_string());
            }
            (None, Some(entries)) => {
                let first = random.below(index, entries.len() as u64) as usize;
                let turned = (0..entries.len()).map(|i| entries[(first + i) % entries.len()].as_str());
                let entry = turned.into_iter().find(|entry| !used.contains(entry)).unwrap_or_default();
                used.insert(entry);
                // A sentence may begin with a slot.
                match entry.chars().next().filter(|_| text.is_empty()) {
                    Some(first) => {
                        text.extend(first.to_uppercase());
                        text.push_str(&entry[first.len_utf8()..]);
                    }
                    None => text.push_str(entry),
                }
            }
            (None, None) => {}
        }
        rest = after;
    }
    text + rest
}

/// The user's prompts, read whole or refused with every bad line.
fn read_own(path: &Path) -> Result<Vec<Vec<Message>>, PipelineError> {
    let text = std::fs::read_to_string(path).map_err(crate::checkpoints::io("read", path))?;
    let (mut all, mut bad) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let row = serde_json::from_str::<Row>(line).map_err(|error| error.to_string());
        let messages = row.and_then(|row| match (row.prompt, row.messages) {
            (Some(prompt), None) => Ok(vec![Message::new("user", prompt)]),
            (None, Some(messages)) => Ok(messages),
            _ => Err("expected one of `prompt` and `messages`".to_owned()),
        });
        match messages {
            Err(problem) => bad.push(format!("line {}: {problem}", index + 1)),
            Ok(messages) => match messages.last() {
                Some(last) if last.role == "user" && !last.content.trim().is_empty() => all.push(messages),
                _ => bad.push(format!("line {}: expected a user turn last that is not empty", index + 1)),
            },
        }
    }
    if bad.is_empty() && !all.is_empty() {
        return Ok(all);
    }
    let shown = if bad.is_empty() { "no rows".to_owned() } else { bad[..bad.len().min(20)].join("\n  ") };
    Err(PipelineError::Unfit {
        path: path.display().to_string(),
        problem: format!("{} lines cannot be used\n  {shown}", bad.len()),
        hint: "one row a line: {\"prompt\": \"...\"} or {\"messages\": [...]} with a user turn last".to_owned(),
    })
}

fn damaged(file: &str, error: &serde_json::Error) -> PipelineError {
    PipelineError::Unfit {
        path: file.to_owned(),
        problem: format!("compiled in, but cannot be read: {error}"),
        hint: "this build is damaged; a test of it fails".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(prompt: &Prompt) -> &str {
        &prompt.messages.last().unwrap().content
    }

    #[test]
    fn categories_take_turns_and_no_prompt_is_asked_twice() {
        let all = prompts(1000, None, 42).unwrap();
        let mut shares: BTreeMap<&str, usize> = BTreeMap::new();
        all.iter().for_each(|prompt| *shares.entry(&prompt.category).or_default() += 1);
        let equal = ["explanation", "instruction-following", "open-chat", "reasoning", "rewriting"].map(|c| (c, 200));
        assert_eq!(shares.into_iter().collect::<Vec<_>>(), equal);
        assert_eq!(all.iter().map(text).collect::<HashSet<_>>().len(), 1000);
        assert!(all.iter().all(|prompt| !text(prompt).contains(['{', '}'])), "a slot was not filled");
        assert_eq!(prompts(100, None, 42).unwrap(), all[..100]);
        assert_ne!(prompts(100, None, 43).unwrap(), all[..100]);
    }

    #[test]
    fn slots_are_filled_from_their_lists_and_ranges() {
        let templates = vec!["{thing} and {thing} cost {3..4}.".to_owned()];
        let slots = HashMap::from([("thing".to_owned(), vec!["a hat".to_owned(), "a cup".to_owned()])]);
        let texts: HashSet<String> = (0..50).map(|i| fill(&templates, &slots, Random::new(1, "t").within(i))).collect();
        let expected = [
            "A hat and a cup cost 3.",
            "A hat and a cup cost 4.",
            "A cup and a hat cost 3.",
            "A cup and a hat cost 4.",
        ];
        assert_eq!(texts, expected.map(str::to_owned).into());
    }

    #[test]
    fn own_prompts_come_once_each_and_bad_lines_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mine.jsonl");
        std::fs::write(&file, "{\"prompt\": \"A?\"}\n\n{\"messages\": [{\"role\": \"user\", \"content\": \"B?\"}]}\n")
            .unwrap();
        let all = prompts(12, Some(&file), 1).unwrap();
        let own: Vec<&str> = all.iter().filter(|prompt| prompt.category == OWN).map(text).collect();
        assert_eq!((own, all.len()), (vec!["A?", "B?"], 12));
        std::fs::write(&file, "{\"prompt\": \"A?\", \"messages\": []}\n{\"promt\": \"B\"}\n{\"prompt\": \" \"}\n")
            .unwrap();
        let text = prompts(12, Some(&file), 1).unwrap_err().to_string();
        for piece in [
            "3 lines cannot be used",
            "line 1: expected one of",
            "line 2: unknown field `promt`",
            "line 3: expected a user turn",
        ] {
            assert!(text.contains(piece), "{text}");
        }
    }
}
