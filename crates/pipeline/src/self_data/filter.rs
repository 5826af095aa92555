//! Which of the base's answers are kept. Each row that is not has one reason, the first that holds in the order of
//! [`Filter::reason`].

use std::collections::{HashMap, HashSet};
use std::path::Path;

use temper_data::DropReason;
use temper_text::{Message, Specials, Tokenizer};

use super::Written;
use crate::PipelineError;

/// Words of a run that no row may share with an evaluation file. GPT-3 used 13 (Brown et al., 2020, appendix C); eight is
/// what keeps this project's own held-out text and replay apart.
const SHARED_RUN: usize = 8;
/// A text of evaluation shorter than a run counts as a whole, from so many words on: fewer are labels.
const LEAST_WHOLE: usize = 3;
/// Words of the runs by which an answer is judged repetitive, and the least share of them that must be distinct.
const LOOP_RUN: usize = 4;
/// See [`LOOP_RUN`]; the rule by which the example's `chat.jsonl` was made.
const LEAST_DISTINCT: f64 = 0.85;
/// Words of the shingles by which answers are compared, and the Jaccard index from which two count as one (both as in Lee
/// et al., 2022, "Deduplicating Training Data Makes Language Models Better", section 4.2).
const SHINGLE: usize = 5;
/// See [`SHINGLE`].
const NEAR: f64 = 0.8;
/// Share of an answer's letters that may be of scripts in which nothing was asked: a letter of Greek in a formula.
const OTHER_SCRIPTS: f64 = 0.05;

/// Reads rows in order; remembers those it kept.
pub(super) struct Filter<'t> {
    tokenizer: &'t Tokenizer,
    scripts: HashSet<u32>,
    /// Runs of words of the evaluation files, and their short texts as wholes.
    evaluated: HashSet<Vec<String>>,
    answers: HashSet<(String, String)>,
    /// Kept answers by their shingles, and how many shingles each has.
    shingles: HashMap<Vec<String>, Vec<usize>>,
    sizes: Vec<usize>,
}

impl<'t> Filter<'t> {
    /// A filter for answers to prompts in these scripts, that keeps away from every text of the evaluation files.
    pub fn new(tokenizer: &'t Tokenizer, rows: &[Written], evaluation: &[&Path]) -> Result<Self, PipelineError> {
        let asked = |row: &Written| row.asked().flat_map(|m| m.content.chars().collect::<Vec<_>>()).collect::<Vec<_>>();
        let scripts = rows.iter().flat_map(asked).filter(|c| c.is_alphabetic()).map(script).collect();
        let mut evaluated = HashSet::new();
        for path in evaluation {
            let text = std::fs::read_to_string(path).map_err(crate::checkpoints::io("read", path))?;
            // Every text of a row counts, whatever its field: prompts, choices, turns, documents. A line that is no JSON
            // is refused by the reader of its suite.
            for row in text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()) {
                each_text(&row, &mut |text| evaluated.extend(runs(&words(text))));
            }
        }
        let (answers, shingles) = (HashSet::new(), HashMap::new());
        Ok(Self { tokenizer, scripts, evaluated, answers, shingles, sizes: Vec::new() })
    }

    /// Why the row is dropped; none if it is kept.
    pub fn reason(&mut self, row: &Written) -> Option<DropReason> {
        let answer = row.answer();
        let spoken = words(answer);
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
        let fours: Vec<&[String]> = spoken.windows(LOOP_RUN).collect();
        if (fours.iter().collect::<HashSet<_>>().len() as f64) < LEAST_DISTINCT * fours.len() as f64 {
            return Some(DropReason::Repetitive);
        }
        let letters: Vec<char> = answer.chars().filter(|c| c.is_alphabetic()).collect();
        let other = letters.iter().filter(|&&c| !self.scripts.contains(&script(c))).count();
        if other as f64 > OTHER_SCRIPTS * letters.len() as f64 {
            return Some(DropReason::OtherScript);
        }
        let evaluated = |m: &Message| runs(&words(&m.content)).iter().any(|run| self.evaluated.contains(run));
        // A system turn is not what is asked: it may well be the same everywhere.
        if row.messages.iter().filter(|m| m.role != "system").any(evaluated) {
            return Some(DropReason::Evaluated);
        }
        let question = row.asked().last().map_or(String::new(), |m| words(&m.content).join(" "));
        if !self.answers.insert((question, spoken.join(" "))) {
            return Some(DropReason::Duplicate);
        }
        let own: HashSet<Vec<String>> = spoken.windows(SHINGLE).map(<[String]>::to_vec).collect();
        let mut shared: HashMap<usize, usize> = HashMap::new();
        for index in own.iter().filter_map(|shingle| self.shingles.get(shingle)).flatten() {
            *shared.entry(*index).or_default() += 1;
        }
        let near =
            |(&index, &both): (&usize, &usize)| both as f64 >= NEAR * (own.len() + self.sizes[index] - both) as f64;
        if shared.iter().any(near) {
            return Some(DropReason::NearDuplicate);
        }
        let index = self.sizes.len();
        self.sizes.push(own.len());
        own.into_iter().for_each(|shingle| self.shingles.entry(shingle).or_default().push(index));
        None
    }
}

/// Every text in a value, but not its keys.
fn each_text(value: &serde_json::Value, tell: &mut impl FnMut(&str)) {
    match value {
        serde_json::Value::String(text) => tell(text),
        serde_json::Value::Array(items) => items.iter().for_each(|item| each_text(item, tell)),
        serde_json::Value::Object(fields) => fields.values().for_each(|value| each_text(value, tell)),
        _ => {}
    }
}

/// The runs of [`SHARED_RUN`] words; a shorter text is one run, unless it is a label.
fn runs(words: &[String]) -> Vec<Vec<String>> {
    match words.len() {
        0..LEAST_WHOLE => Vec::new(),
        LEAST_WHOLE..SHARED_RUN => vec![words.to_vec()],
        _ => words.windows(SHARED_RUN).map(<[String]>::to_vec).collect(),
    }
}

/// Lower-case runs of letters and digits; a character of a script without spaces is a word of its own.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), String::new());
    for c in text.chars() {
        let alone = matches!(c as u32, 0x0E00..=0x0EFF | 0x1780..=0x17FF | 0x3040..=0x30FF | 0x3400..=0x9FFF | 0x20000..=0x3FFFF);
        if c.is_alphanumeric() && !alone {
            word.extend(c.to_lowercase());
            continue;
        }
        if !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if alone {
            words.push(c.to_string());
        }
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}

/// The script of a letter, roughly: the first code point of its range in Unicode's order of blocks.
fn script(letter: char) -> u32 {
    match letter as u32 {
        // Latin with its extensions, phonetic letters and full-width forms.
        0..=0x2FF
        | 0x1D00..=0x1DBF
        | 0x1E00..=0x1EFF
        | 0x2100..=0x218F
        | 0x2C60..=0x2C7F
        | 0xA720..=0xA7FF
        | 0xFB00..=0xFB06
        | 0xFF00..=0xFF5F => 0,
        0x370..=0x3FF | 0x1F00..=0x1FFF => 0x370,
        0x400..=0x52F | 0x1C80..=0x1C8F | 0x2DE0..=0x2DFF | 0xA640..=0xA69F => 0x400,
        0x590..=0x5FF | 0xFB1D..=0xFB4F => 0x590,
        0x600..=0x6FF | 0x750..=0x77F | 0x8A0..=0x8FF | 0xFB50..=0xFDFF | 0xFE70..=0xFEFE => 0x600,
        // Japanese is written in kana and Chinese characters.
        0x3040..=0x30FF | 0x31F0..=0x31FF | 0xFF66..=0xFF9F => 0x3040,
        0x2E80..=0x2FDF | 0x3005..=0x3007 | 0x3400..=0x9FFF | 0xF900..=0xFAFF | 0x20000..=0x3FFFF => 0x4E00,
        0x1100..=0x11FF | 0x3130..=0x318F | 0xA960..=0xA97F | 0xAC00..=0xD7FF => 0x1100,
        // Most other scripts fill one or two blocks of 128.
        code => code & !0x7F,
    }
}

#[cfg(test)]
mod tests {
    use temper_model::Checkpoint;

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

    #[test]
    fn words_of_scripts_without_spaces_are_characters() {
        assert_eq!(words("Don't stop at 3.5!"), ["don", "t", "stop", "at", "3", "5"]);
        assert_eq!(words("海は青い"), ["海", "は", "青", "い"]);
        assert_eq!(script('é'), script('a'));
        assert_eq!((script('海') == script('は'), script('я') == script('я')), (false, true));
        assert_ne!(script('я'), script('a'));
    }
}
