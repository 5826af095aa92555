//! Which of the base's answers are kept. Each row that is not has one reason, the first that holds in the order of
//! [`Filter::reason`].

use std::collections::HashSet;
use std::path::Path;

use temper_data::{DropReason, NearIndex, Prepared, RunIndex, each_item, repetition, script, shingles, word_hashes};
use temper_text::{Specials, Tokenizer};

use super::Written;
use crate::PipelineError;

/// Words of a run that no row may share with an evaluation file. GPT-3 used 13 (Brown et al., 2020, appendix C); eight is
/// what keeps this project's own held-out text and replay apart.
const SHARED_RUN: usize = 8;
/// Words of the runs by which an answer is judged repetitive, and the share of them that may have come before.
const LOOP_RUN: usize = 4;
/// See [`LOOP_RUN`]; the rule by which the example's `chat.jsonl` was made.
const MAX_REPETITION: f64 = 0.15;
/// Share of an answer's letters that may be of scripts in which nothing was asked: a letter of Greek in a formula.
const OTHER_SCRIPTS: f64 = 0.05;

/// Reads rows in order; remembers those it kept.
pub(super) struct Filter<'t> {
    tokenizer: &'t Tokenizer,
    scripts: HashSet<u32>,
    /// Runs of words of the evaluation files, and their short texts as wholes.
    evaluated: RunIndex,
    answers: HashSet<(Vec<u64>, Vec<u64>)>,
    /// Kept answers.
    near: NearIndex,
}

impl<'t> Filter<'t> {
    /// A filter for answers to prompts in these scripts, that keeps away from every text of the evaluation files.
    pub fn new(tokenizer: &'t Tokenizer, rows: &[Written], evaluation: &[&Path]) -> Result<Self, PipelineError> {
        let asked = |row: &Written| row.asked().flat_map(|m| m.content.chars().collect::<Vec<_>>()).collect::<Vec<_>>();
        let scripts = rows.iter().flat_map(asked).filter(|c| c.is_alphabetic()).map(script).collect();
        let mut evaluated = RunIndex::new(SHARED_RUN);
        for path in evaluation {
            // Every text of a row counts, whatever its field: prompts, choices, turns, documents.
            each_item(path, &mut |_, texts| texts.iter().for_each(|text| evaluated.add(text)))?;
        }
        Ok(Self { tokenizer, scripts, evaluated, answers: HashSet::new(), near: NearIndex::default() })
    }

    /// Why the row is dropped; none if it is kept.
    pub fn reason(&mut self, row: &Written) -> Option<DropReason> {
        let answer = row.answer();
        let spoken = word_hashes(answer);
        let specials = self.tokenizer.encode(answer, Specials::Parse);
        if !row.finished {
            return Some(DropReason::CutOff);
        }
        if spoken.is_empty() {
            return Some(DropReason::Wordless);
        }
        if answer.contains('\u{FFFD}') || specials.iter().any(|&id| self.tokenizer.is_special(id)) {
            return Some(DropReason::NotText);
        }
        if repetition(&spoken, LOOP_RUN) > MAX_REPETITION {
            return Some(DropReason::Repetitive);
        }
        let letters: Vec<char> = answer.chars().filter(|c| c.is_alphabetic()).collect();
        let other = letters.iter().filter(|&&c| !self.scripts.contains(&script(c))).count();
        if other as f64 > OTHER_SCRIPTS * letters.len() as f64 {
            return Some(DropReason::OtherScript);
        }
        // A system turn is not what is asked: it may well be the same everywhere.
        let mut asked = row.messages.iter().filter(|m| m.role != "system");
        if asked.any(|m| self.evaluated.shares(&m.content)) {
            return Some(DropReason::Evaluated);
        }
        let question = row.asked().last().map_or(Vec::new(), |m| word_hashes(&m.content));
        let near = Prepared::of(&shingles(&spoken));
        if !self.answers.insert((question, spoken)) {
            return Some(DropReason::Duplicate);
        }
        near.and_then(|answer| self.near.add(answer)).map(|_| DropReason::NearDuplicate)
    }
}

#[cfg(test)]
mod tests {
    use temper_model::Checkpoint;
    use temper_text::Message;

    use super::*;

    fn tokenizer() -> Tokenizer {
        let gguf = std::env::var("TEMPER_TEST_GGUF")
            .expect("TEMPER_TEST_GGUF names the test model: run `cargo xtask test`, which fetches it");
        Tokenizer::from_gguf(&Checkpoint::open(Path::new(&gguf)).unwrap().gguf_vocab().unwrap().unwrap()).unwrap()
    }

    fn row(prompt: &str, answer: &str) -> Written {
        let messages = vec![Message::new("user", prompt), Message::new("assistant", answer)];
        Written { line: 1, messages, category: "reasoning".to_owned(), finished: true }
    }

    /// The reasons of rows that are read in order, with prompts in Latin letters and one evaluation file.
    fn reasons(rows: &[Written]) -> Vec<Option<DropReason>> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("items.jsonl");
        let items = "{\"prompt\": \"Who wrote the play Romeo and Juliet?\", \"choices\": [\"Shakespeare\", \"Goethe\"], \"answer\": 0}
{\"messages\": [{\"role\": \"user\", \"content\": \"A poem on whales\"}, {\"role\": \"assistant\", \"content\": \"Deep below the waves of blue, great and gentle whales swim through.\"}]}
";
        std::fs::write(&file, items).unwrap();
        let tokenizer = tokenizer();
        let mut filter = Filter::new(&tokenizer, &[row("What is the time?", "")], &[&file]).unwrap();
        rows.iter().map(|row| filter.reason(row)).collect()
    }

    #[test]
    fn each_fault_has_its_reason() {
        use DropReason::*;
        let loops = "It is a nice day. It is a nice day. It is a nice day. It is a nice day.";
        let cases = [
            ("A sum?", "2 + 2 = 4", None),
            ("One word?", "Paris", None),
            ("Nothing?", "...", Some(Wordless)),
            ("Nothing?", "", Some(Wordless)),
            ("Control?", "Well<|im_start|>user", Some(NotText)),
            ("Bytes?", "Half a \u{FFFD} character", Some(NotText)),
            ("A loop?", loops, Some(Repetitive)),
            ("A short loop?", "no no no no no no", Some(Repetitive)),
            // 13 letters of 17 are Cyrillic.
            ("Russian?", "Yes: это по-русски", Some(OtherScript)),
            // One letter of 21 is Greek, which is 4.8 %.
            ("A formula?", "The area of it is π times rr", None),
            // All seven words of an evaluation prompt, and eight in a row of an evaluation answer.
            ("who wrote the play romeo and juliet", "It was Shakespeare.", Some(Evaluated)),
            ("Sing!", "He said: below the waves of blue great and gentle, yes.", Some(Evaluated)),
            // Seven in a row.
            ("Sing!", "He said: below the waves of blue great and so on.", None),
            // A label is no text that could leak.
            ("A name?", "Goethe", None),
        ];
        let rows: Vec<Written> = cases.iter().map(|(prompt, answer, _)| row(prompt, answer)).collect();
        let expected: Vec<_> = cases.iter().map(|case| case.2).collect();
        assert_eq!(reasons(&rows), expected);
        let cut = Written { finished: false, ..row("Long?", "It goes on") };
        assert_eq!(reasons(&[cut]), [Some(CutOff)]);
        // A system turn is not compared.
        let mut system = row("Hello?", "Good day.");
        system.messages.insert(0, Message::new("system", "Who wrote the play Romeo and Juliet?"));
        assert_eq!(reasons(&[system]), [None]);
    }

    #[test]
    fn duplicates_exact_and_near() {
        use DropReason::*;
        let long = "The sea is salty because rivers carry salt from the rocks into it, and only water leaves it again";
        let rows = [
            row("Why?", "Because."),
            row("why", "because"),
            row("Why not?", "Because."),
            row("Why is the sea salty?", long),
            // 18 of 19 words: 13 of its 14 shingles are among the 15 of the first, 13 / 16 = 0.81.
            row("Tell me of the sea", long.strip_suffix(" again").unwrap()),
            // Cut in half it shares 5 of 15.
            row("And of salt", long.split(" into").next().unwrap()),
        ];
        assert_eq!(reasons(&rows), [None, Some(Duplicate), None, None, Some(NearDuplicate), None]);
    }
}
