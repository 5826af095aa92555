//! Items as tokens.

use temper_kernels::{Pick, Segment};
use temper_text::{ChatRules, Message, RenderError, Renderer};

use super::packing::{self, Sequence};
use super::{EvalError, TooLong};
use crate::items::{ChatPrompt, ClassificationItem, InstructionItem, MultipleChoiceItem, TextItem};
use crate::trie::Trie;

/// Items as tokens, and whether they fit: all that can be said of a suite before a model runs.
pub struct Encoder<'a> {
    /// From items to tokens.
    pub renderer: &'a Renderer,
    /// Tokens of a packed batch, and so of the longest item that is scored in one forward.
    pub batch_tokens: usize,
    /// The model's positions.
    pub context: usize,
}

/// Sequences over the trie of the labels.
pub(super) struct Labelled {
    pub trie: Trie,
    /// The trie's edge of each ask; the same for every item.
    pub order: Vec<usize>,
    pub sequences: Vec<Sequence>,
}

impl Encoder<'_> {
    /// Whether [`super::Bench::text_loss`] can score all of these.
    ///
    /// # Errors
    /// [`EvalError`], as those of the functions below, with every item that is too long.
    pub fn check_texts(&self, items: &[TextItem]) -> Result<(), EvalError> {
        self.check(&self.texts(items)?)
    }

    /// The same of [`super::Bench::multiple_choice`].
    ///
    /// # Errors
    /// [`EvalError`].
    pub fn check_choices(&self, items: &[MultipleChoiceItem]) -> Result<(), EvalError> {
        self.check(&self.choices(items)?.0)
    }

    /// The same of [`super::Bench::classify`] and [`super::Bench::exact_match`].
    ///
    /// # Errors
    /// [`EvalError`].
    pub fn check_classification(&self, items: &[ClassificationItem], labels: &[String]) -> Result<(), EvalError> {
        self.check(&self.labelled(items, labels)?.sequences)?;
        let conversations = items.iter().map(|item| (item.line, item.prompt.as_slice()));
        self.prompts(conversations, self.longest_answer(items, labels)?, self.context).map(|_| ())
    }

    /// The same of [`super::Bench::chat_answers`] and [`super::chat_kl`], for answers of the greatest length.
    ///
    /// # Errors
    /// [`EvalError`].
    pub fn check_chat(&self, items: &[ChatPrompt], max_new_tokens: usize) -> Result<(), EvalError> {
        let conversations = items.iter().map(|item| (item.line, item.messages.as_slice()));
        // The last token of an answer is not read.
        let limit = self.context.min(self.batch_tokens + 1);
        self.prompts(conversations, max_new_tokens, limit).map(|_| ())
    }

    /// The same of [`super::Bench::instruction_following`].
    ///
    /// # Errors
    /// [`EvalError`].
    pub fn check_instructions(&self, items: &[InstructionItem], max_new_tokens: usize) -> Result<(), EvalError> {
        let turns = turns(items);
        let conversations = items.iter().zip(&turns).map(|(item, turn)| (item.line, turn.as_slice()));
        self.prompts(conversations, max_new_tokens, self.context).map(|_| ())
    }

    fn check(&self, sequences: &[Sequence]) -> Result<(), EvalError> {
        packing::pack(self.batch_tokens, self.context, sequences).map(|_| ())
    }

    pub(super) fn texts(&self, items: &[TextItem]) -> Result<Vec<Sequence>, EvalError> {
        let mut sequences = Vec::with_capacity(items.len());
        for item in items {
            let rendered =
                self.renderer.text(&item.text).map_err(|error| EvalError::Render { line: item.line, error })?;
            let targets = (1..rendered.ids.len()).filter(|&at| rendered.trained[at]);
            let asks = targets.map(|at| Pick { row: at as u32 - 1, token: rendered.ids[at] }).collect();
            sequences.push(Sequence::plain(item.line, rendered.ids, asks));
        }
        Ok(sequences)
    }

    /// Sequences, and for each item the choice of each ask.
    pub(super) fn choices(&self, items: &[MultipleChoiceItem]) -> Result<(Vec<Sequence>, Vec<Vec<usize>>), EvalError> {
        let tokenizer = self.renderer.tokenizer();
        let mut sequences = Vec::with_capacity(items.len());
        // For each item the asks of each choice, in the order in which the sequence asks.
        let mut owners: Vec<Vec<usize>> = Vec::with_capacity(items.len());
        for item in items {
            let line = item.line;
            let render = |error| EvalError::Render { line, error };
            let prompt = self.renderer.completion_prompt(&item.prompt).map_err(render)?;
            let mut choices = Vec::with_capacity(item.choices.len());
            for (index, choice) in item.choices.iter().enumerate() {
                if let Some((at, character)) = tokenizer.unencodable(choice) {
                    return Err(render(RenderError::Unencodable { place: format!("choices[{index}]"), at, character }));
                }
                choices.push(tokenizer.encode_continuation(&format!(" {choice}")));
            }
            let mut sequence = Sequence::plain(line, prompt, Vec::new());
            let (length, last) = (sequence.ids.len(), sequence.ids.len() as u32 - 1);
            let prompt_rows = 0..length;
            let mut owner: Vec<usize> = (0..choices.len()).collect();
            sequence.asks.extend(choices.iter().map(|choice| Pick { row: last, token: choice[0] }));
            for (index, choice) in choices.iter().enumerate() {
                // The last token predicts nothing that is asked, so it has no row.
                let fed = &choice[..choice.len() - 1];
                let start = sequence.ids.len();
                if fed.is_empty() {
                    continue;
                }
                sequence.ids.extend_from_slice(fed);
                sequence.positions.extend((length as u32..).take(fed.len()));
                sequence.segments.push(Segment { rows: start..sequence.ids.len(), context: vec![prompt_rows.clone()] });
                sequence.asks.extend((start as u32..).zip(&choice[1..]).map(|(row, &token)| Pick { row, token }));
                owner.extend(std::iter::repeat_n(index, fed.len()));
            }
            sequences.push(sequence);
            owners.push(owner);
        }
        Ok((sequences, owners))
    }

    pub(super) fn labelled(&self, items: &[ClassificationItem], labels: &[String]) -> Result<Labelled, EvalError> {
        let trie = Trie::new(&self.label_tokens(items, labels)?)?;
        let mut order: Vec<usize> = (0..trie.edges.len()).collect();
        order.sort_by_key(|&edge| trie.edges[edge].from.map_or(0, |node| node + 1));
        let mut sequences = Vec::with_capacity(items.len());
        for item in items {
            let ids = self.prompt(item.line, &item.prompt)?;
            sequences.push(over_trie(item.line, ids, &trie, &order));
        }
        Ok(Labelled { trie, order, sequences })
    }

    /// Tokens that a freely written label may take: two more than the longest has.
    pub(super) fn longest_answer(&self, items: &[ClassificationItem], labels: &[String]) -> Result<usize, EvalError> {
        Ok(self.label_tokens(items, labels)?.iter().map(Vec::len).max().unwrap_or(0) + 2)
    }

    pub(super) fn prompt(&self, line: usize, messages: &[Message]) -> Result<Vec<u32>, EvalError> {
        self.renderer.prompt(messages).map_err(|error| EvalError::Render { line, error })
    }

    /// Prompts of conversations given with their lines, each with so many new tokens within `limit`.
    pub(super) fn prompts<'i>(
        &self,
        conversations: impl Iterator<Item = (usize, &'i [Message])>,
        max_new_tokens: usize,
        limit: usize,
    ) -> Result<Vec<Vec<u32>>, EvalError> {
        let (mut prompts, mut too_long) = (Vec::new(), Vec::new());
        for (line, messages) in conversations {
            let prompt = self.prompt(line, messages)?;
            let tokens = prompt.len() + max_new_tokens;
            if tokens > limit {
                too_long.push(TooLong { line, tokens, limit });
            }
            prompts.push(prompt);
        }
        if too_long.is_empty() { Ok(prompts) } else { Err(EvalError::TooLong(too_long)) }
    }

    /// Each label as the tokens of an assistant's whole turn, taken from the rendered conversation; that every item's
    /// conversation writes its own label with the same tokens is checked.
    fn label_tokens(&self, items: &[ClassificationItem], labels: &[String]) -> Result<Vec<Vec<u32>>, EvalError> {
        let answer = |item: &ClassificationItem, label: &str| {
            let line = item.line;
            let mut messages = item.prompt.clone();
            messages.push(Message::new("assistant", label));
            let mut rows = (self.renderer.chat(&messages, &ChatRules::default()))
                .map_err(|error| EvalError::Render { line, error })?;
            let whole = rows.swap_remove(0);
            let start = self.prompt(line, &item.prompt)?.len();
            let turn = whole.ids[start..].iter().zip(&whole.trained[start..]);
            Ok::<_, EvalError>(turn.take_while(|(_, trained)| **trained).map(|(&id, _)| id).collect::<Vec<u32>>())
        };
        let Some(first) = items.first() else { return Ok(Vec::new()) };
        let tokens = labels.iter().map(|label| answer(first, label)).collect::<Result<Vec<_>, _>>()?;
        for item in items {
            let Some((label, expected)) = labels.get(item.label as usize).zip(tokens.get(item.label as usize)) else {
                return Err(EvalError::NoSuchLabel { line: item.line, label: item.label, labels: labels.len() });
            };
            if &answer(item, label)? != expected {
                return Err(EvalError::LabelChanges { line: item.line, first: first.line, label: label.clone() });
            }
        }
        Ok(tokens)
    }
}

/// Each instruction as the one turn of a conversation.
pub(super) fn turns(items: &[InstructionItem]) -> Vec<[Message; 1]> {
    items.iter().map(|item| [Message::new("user", item.prompt.as_str())]).collect()
}

/// A prompt and the nodes of a trie after it. Nodes that follow one another are one causal segment, so a label that
/// shares nothing is one segment; what each segment sees besides is the prompt and the ancestors of its first node.
fn over_trie(line: usize, prompt: Vec<u32>, trie: &Trie, order: &[usize]) -> Sequence {
    let length = prompt.len();
    let prompt_rows = 0..length;
    let mut sequence = Sequence::plain(line, prompt, Vec::new());
    for (index, node) in trie.nodes.iter().enumerate() {
        let row = length + index;
        sequence.ids.push(node.token);
        sequence.positions.push(length as u32 + node.depth);
        match sequence.segments.last_mut() {
            Some(segment) if index > 0 && node.parent == Some(index as u32 - 1) => segment.rows.end = row + 1,
            _ => {
                let mut context = vec![prompt_rows.clone()];
                let mut ancestors = Vec::new();
                let mut above = node.parent;
                while let Some(ancestor) = above {
                    ancestors.push(length + ancestor as usize);
                    above = trie.nodes[ancestor as usize].parent;
                }
                for &row in ancestors.iter().rev() {
                    match context.last_mut() {
                        Some(range) if range.end == row => range.end += 1,
                        _ => context.push(row..row + 1),
                    }
                }
                sequence.segments.push(Segment { rows: row..row + 1, context });
            }
        }
    }
    sequence.asks.extend(order.iter().map(|&edge| {
        let edge = trie.edges[edge];
        Pick { row: edge.from.map_or(length as u32 - 1, |node| length as u32 + node), token: edge.token }
    }));
    sequence
}
