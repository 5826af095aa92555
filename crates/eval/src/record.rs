//! What became of every item: a line of `judgement_items.jsonl`, by which a report shows what was lost and what was won.

use serde::{Deserialize, Serialize};
use temper_text::Message;

use crate::classify::Outcome;
use crate::compare::Rewarded;
use crate::items::{ChatPrompt, ClassificationItem, InstructionItem, MultipleChoiceItem, TextItem};
use crate::stats::DocumentLoss;
use crate::suite::{ChoiceScore, Classified, InstructionScore, KlScore, Written};

/// Characters of a text that a record keeps; what was left off is counted in its place.
pub const MOST_CHARACTERS: usize = 2000;

/// One item of one suite, answered by base and tuned model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ItemRecord {
    /// Name of the suite.
    pub suite: String,
    /// Line of the suite's file, from 1.
    pub line: usize,
    /// Kind of question, where the suite has kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// What the model was shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The right answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// How the base did; none where the base is what is compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<ItemOutcome>,
    /// How the tuned model did.
    pub tuned: ItemOutcome,
}

/// How one model did on one item.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ItemOutcome {
    /// Whether the answer is right; of an instruction, whether every check holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub right: Option<bool>,
    /// Negative log-likelihood in nats: of the right label or choice, of a text per token. Of `chat_kl`, the divergence
    /// per token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nats: Option<f64>,
    /// What the answer earned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward: Option<f64>,
    /// Share of an instruction's checks that hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checks_held: Option<f64>,
    /// Whether the freely written answer is the label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact: Option<bool>,
    /// The label or choice that got the highest likelihood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// What the model wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<String>,
}

impl ItemRecord {
    /// The same without any text of the data or of a model: suite, line, kind and scores.
    pub fn without_texts(self) -> Self {
        let bare = |outcome: ItemOutcome| ItemOutcome { answer: None, written: None, ..outcome };
        Self { prompt: None, expected: None, base: self.base.map(bare), tuned: bare(self.tuned), ..self }
    }
}

/// A text of at most [`MOST_CHARACTERS`], with the number of characters that were left off.
fn bounded(text: &str) -> String {
    match text.char_indices().nth(MOST_CHARACTERS) {
        None => text.to_owned(),
        Some((end, _)) => format!("{} [+ {} characters]", &text[..end], text[end..].chars().count()),
    }
}

/// A conversation as people read it: a single turn as it is, several with their roles.
fn conversation(messages: &[Message]) -> String {
    match messages {
        [only] => bounded(&only.content),
        several => {
            let turns: Vec<String> = several.iter().map(|m| format!("{}: {}", m.role, m.content)).collect();
            bounded(&turns.join("\n"))
        }
    }
}

/// Records of a classification. All lists are parallel.
pub fn classification(
    suite: &str,
    items: &[ClassificationItem],
    labels: &[String],
    [base, tuned]: [(&[Classified], &[Written]); 2],
) -> Vec<ItemRecord> {
    let outcome = |scored: &Classified, written: &Written| {
        let Outcome { truth, predicted } = scored.outcome;
        ItemOutcome {
            right: Some(predicted == Some(truth)),
            nats: scored.logprobs.get(truth as usize).map(|logprob| -logprob),
            exact: Some(written.exact),
            answer: predicted.and_then(|label| labels.get(label as usize)).cloned(),
            written: Some(bounded(&written.answer)),
            checks_held: None,
            reward: None,
        }
    };
    let base = base.0.iter().zip(base.1).map(|(s, w)| outcome(s, w));
    let tuned = tuned.0.iter().zip(tuned.1).map(|(s, w)| outcome(s, w));
    let record = |(item, (base, tuned)): (&ClassificationItem, (ItemOutcome, ItemOutcome))| ItemRecord {
        suite: suite.to_owned(),
        line: item.line,
        kind: None,
        prompt: Some(conversation(&item.prompt)),
        expected: labels.get(item.label as usize).cloned(),
        base: Some(base),
        tuned,
    };
    items.iter().zip(base.zip(tuned)).map(record).collect()
}

/// Records of answers that rewards scored: of each prompt its line, text and reference answer. All lists are parallel.
pub fn rewarded(
    suite: &str,
    prompts: &[(usize, String, Option<String>)],
    base: &[Rewarded],
    tuned: &[Rewarded],
) -> Vec<ItemRecord> {
    let outcome = |scored: &Rewarded| ItemOutcome {
        right: Some(scored.right),
        reward: scored.reward,
        written: Some(bounded(&scored.answer)),
        ..ItemOutcome::default()
    };
    let record =
        |((line, prompt, expected), (base, tuned)): (&(usize, String, Option<String>), (&Rewarded, &Rewarded))| {
            ItemRecord {
                suite: suite.to_owned(),
                line: *line,
                kind: None,
                prompt: Some(bounded(prompt)),
                expected: expected.as_deref().map(bounded),
                base: Some(outcome(base)),
                tuned: outcome(tuned),
            }
        };
    prompts.iter().zip(base.iter().zip(tuned)).map(record).collect()
}

/// Records of held-out text. All lists are parallel.
pub fn text_loss(suite: &str, items: &[TextItem], base: &[DocumentLoss], tuned: &[DocumentLoss]) -> Vec<ItemRecord> {
    let outcome =
        |loss: &DocumentLoss| ItemOutcome { nats: Some(loss.nats / loss.tokens as f64), ..ItemOutcome::default() };
    let record = |(item, (base, tuned)): (&TextItem, (&DocumentLoss, &DocumentLoss))| ItemRecord {
        suite: suite.to_owned(),
        line: item.line,
        kind: None,
        prompt: Some(bounded(&item.text)),
        expected: None,
        base: Some(outcome(base)),
        tuned: outcome(tuned),
    };
    items.iter().zip(base.iter().zip(tuned)).map(record).collect()
}

/// Records of multiple choice. All lists are parallel.
pub fn multiple_choice(
    suite: &str,
    items: &[MultipleChoiceItem],
    base: &[ChoiceScore],
    tuned: &[ChoiceScore],
) -> Vec<ItemRecord> {
    let outcome = |item: &MultipleChoiceItem, score: &ChoiceScore| {
        // Of equals the first, as the suite scores.
        let best = score.logprobs.iter().enumerate().rev().max_by(|a, b| a.1.total_cmp(b.1)).map(|(index, _)| index);
        ItemOutcome {
            right: Some(score.correct),
            nats: score.logprobs.get(item.answer).map(|logprob| -logprob),
            answer: best.and_then(|index| item.choices.get(index)).map(|choice| bounded(choice)),
            ..ItemOutcome::default()
        }
    };
    let record = |(item, (base, tuned)): (&MultipleChoiceItem, (&ChoiceScore, &ChoiceScore))| ItemRecord {
        suite: suite.to_owned(),
        line: item.line,
        kind: item.kind.clone(),
        prompt: Some(bounded(&item.prompt)),
        expected: item.choices.get(item.answer).map(|choice| bounded(choice)),
        base: Some(outcome(item, base)),
        tuned: outcome(item, tuned),
    };
    items.iter().zip(base.iter().zip(tuned)).map(record).collect()
}

/// Records of instructions. All lists are parallel.
pub fn instructions(
    suite: &str,
    items: &[InstructionItem],
    base: &[InstructionScore],
    tuned: &[InstructionScore],
) -> Vec<ItemRecord> {
    let outcome = |score: &InstructionScore| ItemOutcome {
        right: Some(score.passed),
        checks_held: Some(score.share),
        written: Some(bounded(&score.answer)),
        ..ItemOutcome::default()
    };
    let record = |(item, (base, tuned)): (&InstructionItem, (&InstructionScore, &InstructionScore))| ItemRecord {
        suite: suite.to_owned(),
        line: item.line,
        kind: None,
        prompt: Some(bounded(&item.prompt)),
        expected: None,
        base: Some(outcome(base)),
        tuned: outcome(tuned),
    };
    items.iter().zip(base.iter().zip(tuned)).map(record).collect()
}

/// Records of a divergence. `written` holds the answers of base and tuned model to the first prompts, as many as there are.
pub fn chat_kl(suite: &str, items: &[ChatPrompt], scores: &[KlScore], written: &[[String; 2]]) -> Vec<ItemRecord> {
    let record = |(index, (item, score)): (usize, (&ChatPrompt, &KlScore))| {
        let [base, tuned] =
            written.get(index).map_or([None, None], |both| both.each_ref().map(|text| Some(bounded(text))));
        ItemRecord {
            suite: suite.to_owned(),
            line: item.line,
            kind: None,
            prompt: Some(conversation(&item.messages)),
            expected: None,
            base: base.map(|text| ItemOutcome { written: Some(text), ..ItemOutcome::default() }),
            tuned: ItemOutcome {
                nats: Some(score.kl_sum / score.tokens as f64),
                written: tuned,
                ..ItemOutcome::default()
            },
        }
    };
    items.iter().zip(scores).enumerate().map(record).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_named_right_or_wrong_with_its_text_and_loss() {
        let item = MultipleChoiceItem {
            line: 3,
            prompt: "A heron is a kind of".to_owned(),
            choices: vec!["fish".to_owned(), "bird".to_owned(), "tree".to_owned()],
            answer: 1,
            kind: Some("hypernym".to_owned()),
            source: None,
        };
        let score = |correct, logprobs: [f64; 3]| ChoiceScore {
            correct,
            correct_per_byte: correct,
            logprobs: logprobs.to_vec(),
        };
        // Equal likelihoods count as the first, which is wrong here.
        let records = multiple_choice(
            "wordnet",
            &[item],
            &[score(true, [-3.0, -1.0, -2.0])],
            &[score(false, [-1.5, -1.5, -2.0])],
        );
        let [record] = &records[..] else { panic!("one item, one record") };
        let base = record.base.as_ref().unwrap();
        assert_eq!((base.right, base.nats, base.answer.as_deref()), (Some(true), Some(1.0), Some("bird")));
        assert_eq!((record.tuned.right, record.tuned.answer.as_deref()), (Some(false), Some("fish")));
        let line = serde_json::to_string(&record.clone().without_texts()).unwrap();
        assert_eq!(
            line,
            r#"{"suite":"wordnet","line":3,"kind":"hypernym","base":{"right":true,"nats":1.0},"tuned":{"right":false,"nats":1.5}}"#
        );
        assert_eq!(serde_json::from_str::<ItemRecord>(&line).unwrap(), record.clone().without_texts());
    }

    #[test]
    fn a_long_text_is_bounded_and_says_by_how_much() {
        let text = "é".repeat(MOST_CHARACTERS + 7);
        let kept = bounded(&text);
        assert!(kept.ends_with("é [+ 7 characters]"), "{}", &kept[kept.len() - 30..]);
        assert_eq!(bounded("short"), "short");
    }

    #[test]
    fn several_turns_are_shown_with_their_roles() {
        let turns = [Message::new("system", "Be brief."), Message::new("user", "Hello")];
        assert_eq!(conversation(&turns), "system: Be brief.\nuser: Hello");
        assert_eq!(conversation(&turns[1..]), "Hello");
    }
}
