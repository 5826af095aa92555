//! Runs a model over the items: one function a kind of suite, many items a forward pass.
//!
//! Nothing is padded and nothing is computed twice: the choices of a question share the rows of its prompt, the labels
//! of a classification the rows of their common beginnings ([`crate::trie`]), and only the rows at which something is
//! asked go through the head.

use std::fmt;
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use temper_kernels::{Device, Pick};
use temper_model::{GenerateError, Llama, Sampling, Workspace, generate};
use temper_text::{Message, RenderError, Renderer};

use crate::classify::Outcome;
use crate::instructions;
use crate::items::{ChatPrompt, ClassificationItem, InstructionItem, MultipleChoiceItem, SHOWN, TextItem};
use crate::stats::DocumentLoss;
use crate::trie::{Choice, TrieError};

mod encoder;
mod packing;

pub use encoder::Encoder;
use encoder::{Labelled, turns};
use packing::Sequence;

/// One of the two models that are compared.
pub struct Side<'m, D: Device> {
    /// The weights.
    pub model: &'m Llama<D>,
    /// Whether LoRA adapters are on; off gives the base of the same weights.
    pub adapter: bool,
}

impl<D: Device> Clone for Side<'_, D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<D: Device> Copy for Side<'_, D> {}

/// What a suite runs with.
pub struct Bench<'a, D: Device> {
    /// The model.
    pub side: Side<'a, D>,
    /// From items to tokens.
    pub renderer: &'a Renderer,
    /// Memory of a forward, for `Purpose::Infer`. Its tokens are the budget of a packed batch, and the longest item.
    pub workspace: &'a Workspace<D::Buffer>,
}

/// How one question was answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChoiceScore {
    /// Whether the right choice has the highest log-likelihood (of equals the first counts).
    pub correct: bool,
    /// Whether it has the highest log-likelihood per UTF-8 byte, which favours long choices less harshly.
    pub correct_per_byte: bool,
    /// Log-likelihood of each choice after the prompt, in nats.
    pub logprobs: Vec<f64>,
}

/// How one row was classified.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Classified {
    /// Truth and prediction.
    pub outcome: Outcome,
    /// Log-probability of each label with its end of turn, in nats.
    pub logprobs: Vec<f64>,
    /// Probability of each label given that the answer is one of them.
    pub posterior: Vec<f64>,
}

/// What the model wrote where a label was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Whether the answer, trimmed, is the label.
    pub exact: bool,
    /// The answer, trimmed.
    pub answer: String,
}

/// How far the tuned model is from the base along one answer of the base.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct KlScore {
    /// KL(base || tuned) in nats, summed over the answer's tokens.
    pub kl_sum: f64,
    /// Tokens of the answer, the one that ended it among them.
    pub tokens: usize,
}

/// How one instruction was followed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstructionScore {
    /// Whether every check holds.
    pub passed: bool,
    /// Share of the checks that hold.
    pub share: f64,
    /// The answer.
    pub answer: String,
}

/// An item that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// Line of its file.
    pub line: usize,
    /// What it takes.
    pub tokens: usize,
    /// What there is.
    pub limit: usize,
}

/// Why a suite was not run. Lines are those of the suite's file.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// Items longer than a batch or than the model's context.
    #[error("{}hint: shorten these rows, or split them; answers count at their longest", Longs(.0))]
    TooLong(Vec<TooLong>),
    /// An item that cannot be turned into tokens.
    #[error("line {line}: {error}")]
    Render {
        /// Line of the item.
        line: usize,
        /// Why.
        error: RenderError,
    },
    /// Labels that cannot be told apart.
    #[error(transparent)]
    Labels(#[from] TrieError),
    /// A chat template that writes an answer differently from row to row.
    #[error(
        "line {line}: the chat template writes label {label:?} as other tokens than in line {first}\nhint: labels are scored \
         as the same tokens in every row; use a template whose answer does not depend on the question"
    )]
    LabelChanges {
        /// Line of the item.
        line: usize,
        /// Line whose prompt the labels were taken from.
        first: usize,
        /// The label.
        label: String,
    },
    /// A label index outside the labels.
    #[error("line {line}: label {label} of {labels} labels\nhint: read the items with the labels they are scored with")]
    NoSuchLabel {
        /// Line of the item.
        line: usize,
        /// Its index.
        label: u32,
        /// How many labels there are.
        labels: usize,
    },
    /// A model that diverged.
    #[error("line {line}: the model gives NaN or an infinity\nhint: a model that diverged in training gives NaN")]
    NotFinite {
        /// Line of the item.
        line: usize,
    },
    /// Answers of another file.
    #[error(
        "{got} answers of the base for {expected} prompts\nhint: answers belong to the prompts they were made from"
    )]
    Answers {
        /// Prompts.
        expected: usize,
        /// Answers.
        got: usize,
    },
    /// Two models of different shapes.
    #[error("base and tuned model are of different shape, so one workspace and one vocabulary do not fit both")]
    OtherShape,
    /// Generation.
    #[error(transparent)]
    Generate(#[from] GenerateError),
}

struct Longs<'a>(&'a [TooLong]);

impl fmt::Display for Longs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} items are too long", self.0.len())?;
        for TooLong { line, tokens, limit } in self.0.iter().take(SHOWN) {
            writeln!(f, "  line {line}: {tokens} tokens, at most {limit}")?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => writeln!(f, "  and {more} more"),
        }
    }
}

/// Hears of the items done, and of how many there are.
pub type Progress<'p> = &'p mut dyn FnMut(usize, usize);

impl<D: Device> Bench<'_, D> {
    /// Loss of each text as a document of pretraining: every token of it and the boundary after it, given the boundary
    /// before it. `bytes` are the text's.
    ///
    /// # Errors
    /// [`EvalError`].
    pub fn text_loss(&self, items: &[TextItem], progress: Progress<'_>) -> Result<Vec<DocumentLoss>, EvalError> {
        let sequences = self.encoder().texts(items)?;
        let found = packing::logprobs(self.side, self.workspace, &sequences, progress)?;
        let loss = |(item, logprobs): (&TextItem, &Vec<f32>)| DocumentLoss {
            nats: -sum(logprobs),
            tokens: logprobs.len() as u64,
            bytes: item.text.len() as u64,
        };
        Ok(items.iter().zip(&found).map(loss).collect())
    }

    /// Scores every choice as the continuation of the prompt as plain text, parted from it by a space. The prompt's
    /// rows are computed once for all choices.
    ///
    /// # Errors
    /// [`EvalError`].
    pub fn multiple_choice(
        &self,
        items: &[MultipleChoiceItem],
        progress: Progress<'_>,
    ) -> Result<Vec<ChoiceScore>, EvalError> {
        let (sequences, owners) = self.encoder().choices(items)?;
        let found = packing::logprobs(self.side, self.workspace, &sequences, progress)?;
        let score = |((item, owner), found): ((&MultipleChoiceItem, &Vec<usize>), &Vec<f32>)| {
            let mut logprobs = vec![0.0; item.choices.len()];
            owner.iter().zip(found).for_each(|(&choice, &logprob)| logprobs[choice] += f64::from(logprob));
            let per_byte: Vec<f64> =
                logprobs.iter().zip(&item.choices).map(|(sum, choice)| sum / choice.len() as f64).collect();
            let (correct, correct_per_byte) = (first_best(&logprobs), first_best(&per_byte));
            ChoiceScore { correct: correct == item.answer, correct_per_byte: correct_per_byte == item.answer, logprobs }
        };
        Ok(items.iter().zip(&owners).zip(&found).map(score).collect())
    }

    /// Scores every label as the whole answer to the conversation, end of turn included: the tokens that the model was
    /// trained to write.
    ///
    /// # Errors
    /// [`EvalError`].
    pub fn classify(
        &self,
        items: &[ClassificationItem],
        labels: &[String],
        progress: Progress<'_>,
    ) -> Result<Vec<Classified>, EvalError> {
        let Labelled { trie, order, sequences } = self.encoder().labelled(items, labels)?;
        let found = packing::logprobs(self.side, self.workspace, &sequences, progress)?;
        let mut scores = Vec::with_capacity(items.len());
        for (item, found) in items.iter().zip(&found) {
            let mut edges = vec![0.0; trie.edges.len()];
            order.iter().zip(found).for_each(|(&edge, &logprob)| edges[edge] = logprob);
            let logprobs = trie.label_logprobs(&edges)?;
            let Choice { best, posterior } = trie.choose(&logprobs)?;
            scores.push(Classified {
                outcome: Outcome { truth: item.label, predicted: Some(best) },
                logprobs,
                posterior,
            });
        }
        Ok(scores)
    }

    /// What the model writes by itself (greedily) where a label is asked for, and whether it is the label. It may write
    /// two tokens more than the longest label has.
    ///
    /// # Errors
    /// [`EvalError`].
    pub fn exact_match(
        &self,
        items: &[ClassificationItem],
        labels: &[String],
        progress: Progress<'_>,
    ) -> Result<Vec<Written>, EvalError> {
        let encoder = self.encoder();
        let conversations = items.iter().map(|item| (item.line, item.prompt.as_slice()));
        let answers = self.answers(conversations, encoder.longest_answer(items, labels)?, progress)?;
        let written = |(item, ids): (&ClassificationItem, &Vec<u32>)| {
            let answer = self.renderer.tokenizer().decode(ids, true).trim().to_owned();
            Written { exact: answer == labels[item.label as usize].trim(), answer }
        };
        Ok(items.iter().zip(&answers).map(written).collect())
    }

    /// Greedy answers to chat prompts, at most `max_new_tokens` each: token ids, the one that ended the answer among
    /// them. The base's are what [`chat_kl`] compares along; they are worth keeping.
    ///
    /// # Errors
    /// [`EvalError`].
    pub fn chat_answers(
        &self,
        items: &[ChatPrompt],
        max_new_tokens: usize,
        progress: Progress<'_>,
    ) -> Result<Vec<Vec<u32>>, EvalError> {
        self.answers(items.iter().map(|item| (item.line, item.messages.as_slice())), max_new_tokens, progress)
    }

    /// Greedy answers to instructions, and how many of their checks hold.
    ///
    /// # Errors
    /// [`EvalError`].
    pub fn instruction_following(
        &self,
        items: &[InstructionItem],
        max_new_tokens: usize,
        progress: Progress<'_>,
    ) -> Result<Vec<InstructionScore>, EvalError> {
        let turns = turns(items);
        let conversations = items.iter().zip(&turns).map(|(item, turn)| (item.line, turn.as_slice()));
        let answers = self.answers(conversations, max_new_tokens, progress)?;
        let score = |(item, ids): (&InstructionItem, &Vec<u32>)| {
            let answer = self.renderer.tokenizer().decode(ids, true);
            let instructions::Score { all, share } = instructions::score(&answer, &item.checks);
            InstructionScore { passed: all, share, answer }
        };
        Ok(items.iter().zip(&answers).map(score).collect())
    }

    /// Greedy answers to conversations given with their lines.
    fn answers<'i>(
        &self,
        conversations: impl Iterator<Item = (usize, &'i [Message])>,
        max_new_tokens: usize,
        progress: Progress<'_>,
    ) -> Result<Vec<Vec<u32>>, EvalError> {
        let encoder = self.encoder();
        let prompts = encoder.prompts(conversations, max_new_tokens, encoder.context)?;
        let stops = self.renderer.stop_ids();
        let (mut done, total) = (0, prompts.len());
        let Side { model, adapter } = self.side;
        let greedy = &Sampling::GREEDY;
        let generated = generate(model, adapter, &prompts, max_new_tokens, &stops, greedy, &mut |_, _, finish| {
            if finish.is_some() {
                done += 1;
                progress(done, total);
            }
            ControlFlow::Continue(())
        })?;
        Ok(generated.into_iter().map(|answer| answer.ids).collect())
    }

    fn encoder(&self) -> Encoder<'_> {
        let context = self.side.model.config().max_position_embeddings;
        Encoder { renderer: self.renderer, batch_tokens: self.workspace.tokens(), context }
    }
}

/// KL(base || tuned) along the base's own greedy answers (see [`Bench::chat_answers`]), one score a prompt. The base's
/// model may be the tuned one with its adapter off.
///
/// # Errors
/// [`EvalError`].
pub fn chat_kl<D: Device>(
    base: &Bench<'_, D>,
    tuned: Side<'_, D>,
    items: &[ChatPrompt],
    answers: &[Vec<u32>],
    progress: Progress<'_>,
) -> Result<Vec<KlScore>, EvalError> {
    if items.len() != answers.len() {
        return Err(EvalError::Answers { expected: items.len(), got: answers.len() });
    }
    if base.side.model.config() != tuned.model.config() {
        return Err(EvalError::OtherShape);
    }
    let mut sequences = Vec::with_capacity(items.len());
    for (item, answer) in items.iter().zip(answers) {
        let mut ids = base.encoder().prompt(item.line, &item.messages)?;
        let asks = (ids.len() as u32 - 1..).zip(answer).map(|(row, &token)| Pick { row, token }).collect();
        ids.extend(&answer[..answer.len().saturating_sub(1)]);
        sequences.push(Sequence::plain(item.line, ids, asks));
    }
    let sums = packing::divergences(base.side, tuned, base.workspace, &sequences, progress)?;
    Ok(sums.into_iter().zip(answers).map(|(kl_sum, answer)| KlScore { kl_sum, tokens: answer.len() }).collect())
}

fn sum(logprobs: &[f32]) -> f64 {
    logprobs.iter().map(|&logprob| f64::from(logprob)).sum()
}

/// Index of the highest value, of equals the first.
fn first_best(values: &[f64]) -> usize {
    values.iter().enumerate().fold(0, |best, (index, &value)| if value > values[best] { index } else { best })
}
