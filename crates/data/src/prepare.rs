//! Rows become token ids and loss weights. Nothing is truncated: a row is kept whole or left out, counted; only documents,
//! which have no turns to tear apart, are trained in parts where they are too long.

use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;
use temper_text::{ChatRules, Conversation, Message, RenderError, Rendered, Renderer, Turns};

use crate::error::{DataError, RowProblem};
use crate::examples::{Example, Examples, ExamplesWriter, Pair};
use crate::filter::{Filtered, Filtering};
use crate::read::{FileRows, ReadOptions, read_rows};
use crate::report::{DropReason, Dropped, LengthReport, SourceReport, Split, TurnsApart};
use crate::row::{LoadedRows, Passage, Preference, Row, RowContent};

/// How rows become tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowRules {
    /// Tokens of the longest row.
    pub max_length: usize,
    /// How conversations are rendered.
    pub chat: ChatRules,
    /// What the rows are to be.
    pub wanted: Wanted,
}

/// What rows are to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// Whatever can be trained on.
    Any,
    /// Texts, or prompts with an answer.
    Answers,
    /// Preference pairs.
    Pairs,
    /// Prompts, which a model is to answer: nothing of them is trained.
    Prompts,
}

impl From<usize> for RowRules {
    fn from(max_length: usize) -> Self {
        Self { max_length, chat: ChatRules::default(), wanted: Wanted::Answers }
    }
}

/// In which order the rows of a source are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RowOrder {
    /// At random, another order in each epoch.
    #[default]
    Shuffled,
    /// In each epoch by quality, the best last; rows of equal quality, and before all those that say none, at random.
    BestLast,
}

/// A file ready for training.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its name in the recipe.
    pub name: String,
    /// Its rows, in order of the file.
    pub examples: Examples,
    /// The weight of each of its targets.
    pub loss_weight: f32,
    /// In which order its rows are seen.
    pub order: RowOrder,
    /// Whether it is general data: the length of a run in epochs is that of the other sources.
    pub general: bool,
    /// What was kept and what was not.
    pub report: SourceReport,
}

impl Source {
    /// A row with the weights of this source.
    ///
    /// # Errors
    /// As [`Examples::get`].
    pub fn example(&self, index: usize) -> Result<Example, DataError> {
        self.examples.get(index, self.loss_weight)
    }

    /// A preference pair with the weights of this source.
    ///
    /// # Errors
    /// As [`Examples::get`].
    ///
    /// # Panics
    /// When the row is no pair.
    pub fn pair(&self, index: usize) -> Result<Pair, DataError> {
        self.examples.pair(index, self.loss_weight)
    }
}

/// A row as token ids, and which of them are trained: one row of tokens, one for each turn of a conversation, or the two of
/// a pair, the better one first.
pub(crate) fn render(renderer: &Renderer, row: &Row, chat: &ChatRules) -> Result<Vec<Rendered>, RenderError> {
    match &row.content {
        RowContent::Messages(conversation) => renderer.chat(conversation, chat),
        RowContent::Completion { prompt, completion } => renderer.completion(prompt, completion).map(|row| vec![row]),
        RowContent::Text(text) => renderer.text(text).map(|row| vec![row]),
        RowContent::Preference(pair) => render_pair(renderer, pair, chat),
        RowContent::Task(task) => {
            let ids = renderer.prompt_by(&task.prompt, chat)?;
            Ok(vec![Rendered { trained: vec![false; ids.len()], ids, ..Rendered::default() }])
        }
    }
}

/// Both answers of a pair, each after the prompt. Of turns, those of the answer are trained that are the assistant's.
fn render_pair(renderer: &Renderer, pair: &Preference, chat: &ChatRules) -> Result<Vec<Rendered>, RenderError> {
    let chat = ChatRules { turns: Turns::Together, ..*chat };
    let answer = |answer: &Passage| match (&pair.prompt, answer) {
        (Passage::Text(prompt), Passage::Text(answer)) => renderer.completion(prompt, answer),
        (Passage::Messages(prompt), Passage::Messages(answer)) => {
            let context = prompt.iter().map(|message| match message.role.as_str() {
                "assistant" => Message { train: Some(false), ..message.clone() },
                _ => message.clone(),
            });
            let messages = context.chain(answer.iter().cloned()).collect();
            let rows = renderer.chat(&Conversation { messages, tools: pair.tools.clone() }, &chat)?;
            rows.into_iter().next().ok_or(RenderError::NoMessages)
        }
        // The reader refuses pairs of two forms.
        _ => Err(RenderError::NoMessages),
    };
    Ok(vec![answer(&pair.chosen)?, answer(&pair.rejected)?])
}

/// Told of each row that is left out: its line, why, and its tokens where these are known.
pub type Tell<'r> = &'r mut dyn FnMut(usize, DropReason, usize);

/// Renders rows as they come.
///
/// Left out and counted are rows of more than `max_length` tokens, rows without a trained token, and rows with a
/// character that the vocabulary cannot spell. Documents that are too long are trained in parts. A row that breaks a rule (a
/// role that is not supported, no assistant turn, ...) is the file's fault and refuses the file.
pub struct Preparing<'r> {
    renderer: &'r Renderer,
    rules: RowRules,
    examples: ExamplesWriter,
    tell: Option<Tell<'r>>,
    rows: usize,
    kept: usize,
    masked: usize,
    split: Split,
    turns_apart: TurnsApart,
    reasoning_dropped: usize,
    dropped: BTreeMap<DropReason, Dropped>,
    problems: Vec<RowProblem>,
    /// How often each length occurs.
    lengths: BTreeMap<usize, usize>,
}

impl<'r> Preparing<'r> {
    /// Begins; the tokens go to `examples`.
    pub fn new(renderer: &'r Renderer, rules: RowRules, examples: ExamplesWriter) -> Self {
        Self {
            renderer,
            rules,
            examples,
            tell: None,
            rows: 0,
            kept: 0,
            masked: 0,
            split: Split::default(),
            turns_apart: TurnsApart::default(),
            reasoning_dropped: 0,
            dropped: BTreeMap::new(),
            problems: Vec::new(),
            lengths: BTreeMap::new(),
        }
    }

    /// Tells each row that is left out.
    #[must_use]
    pub fn telling(self, tell: Tell<'r>) -> Self {
        Self { tell: Some(tell), ..self }
    }

    /// A row of so many tokens is left out.
    fn leave_out(&mut self, line: usize, reason: DropReason, tokens: usize) {
        self.dropped.entry(reason).or_default().add(line, tokens);
        if let Some(tell) = &mut self.tell {
            tell(line, reason, tokens);
        }
    }

    /// The next rows of the file.
    ///
    /// # Errors
    /// [`DataError::Write`]. Rows that break a rule are told by [`finish`](Self::finish).
    pub fn add(&mut self, rows: &[Row]) -> Result<(), DataError> {
        let (renderer, chat) = (self.renderer, self.rules.chat);
        let rendered: Vec<Result<Vec<Rendered>, RenderError>> =
            rows.par_iter().map(|row| render(renderer, row, &chat)).collect();
        for (row, rendered) in rows.iter().zip(rendered) {
            self.rows += 1;
            match rendered {
                Err(RenderError::Unencodable { .. }) => self.leave_out(row.line, DropReason::Unencodable, 0),
                Err(error) => self.problems.push(RowProblem { line: row.line, message: error.to_string() }),
                Ok(rendered) => self.take(row, &rendered)?,
            }
        }
        Ok(())
    }

    /// The next rows of the file, filtered.
    fn add_filtered(&mut self, filtered: &Filtered) -> Result<(), DataError> {
        self.rows += filtered.dropped.len();
        self.masked += filtered.masked;
        for &(line, reason) in &filtered.dropped {
            self.leave_out(line, reason, 0);
        }
        self.add(&filtered.kept)
    }

    /// What a row gave: one row of tokens, or one for each of its turns, of which it may keep some.
    fn take(&mut self, row: &Row, rendered: &[Rendered]) -> Result<(), DataError> {
        if let (RowContent::Preference(_), [chosen, rejected]) = (&row.content, rendered) {
            return self.take_pair(row, chosen, rejected);
        }
        let (mut kept, mut reason, mut tokens) = (0, DropReason::NoTarget, 0);
        for rendered in rendered {
            *self.lengths.entry(rendered.ids.len()).or_insert(0) += 1;
            self.reasoning_dropped += rendered.reasoning_dropped;
            match self.keep(row, rendered)? {
                None => kept += 1,
                Some(why) => {
                    reason = why;
                    tokens += rendered.ids.len();
                }
            }
        }
        if kept == 0 {
            self.leave_out(row.line, reason, tokens);
            return Ok(());
        }
        self.kept += 1;
        if self.rules.chat.turns == Turns::Apart && matches!(row.content, RowContent::Messages(_)) {
            self.turns_apart.conversations += 1;
            self.turns_apart.turns += rendered.len();
            self.turns_apart.too_long += rendered.len() - kept;
        }
        Ok(())
    }

    /// A pair is kept whole: where one answer cannot be, neither is.
    fn take_pair(&mut self, row: &Row, chosen: &Rendered, rejected: &Rendered) -> Result<(), DataError> {
        let both = [chosen, rejected];
        for answer in both {
            *self.lengths.entry(answer.ids.len()).or_insert(0) += 1;
            self.reasoning_dropped += answer.reasoning_dropped;
        }
        let reason = if both.iter().any(|answer| !answer.trained.contains(&true)) {
            Some(DropReason::NoTarget)
        } else if chosen.ids == rejected.ids {
            Some(DropReason::SameAnswers)
        } else if both.iter().any(|answer| answer.ids.len() > self.rules.max_length) {
            Some(DropReason::TooLong)
        } else {
            None
        };
        if let Some(reason) = reason {
            let tokens = both.iter().map(|answer| answer.ids.len()).sum();
            self.leave_out(row.line, reason, tokens);
            return Ok(());
        }
        if chosen.ids.first() != rejected.ids.first() || chosen.trained[0] || rejected.trained[0] {
            let message =
                "the two answers share no first token, expected a prompt before both: nothing predicts their first words"
                    .to_owned();
            self.problems.push(RowProblem { line: row.line, message });
            return Ok(());
        }
        self.kept += 1;
        let (chosen, rejected) = ((&chosen.ids[..], &chosen.trained[..]), (&rejected.ids[..], &rejected.trained[..]));
        self.examples.add_pair(chosen, rejected, row.line, row.quality)
    }

    /// Keeps a row of tokens, or says why not.
    fn keep(&mut self, row: &Row, Rendered { ids, trained, .. }: &Rendered) -> Result<Option<DropReason>, DataError> {
        let max_length = self.rules.max_length;
        if !trained.contains(&true) && self.rules.wanted != Wanted::Prompts {
            return Ok(Some(DropReason::NoTarget));
        }
        if ids.len() <= max_length {
            self.examples.add(ids, trained, row.line, row.quality)?;
        } else if matches!(row.content, RowContent::Text(_)) && max_length > 1 {
            self.split.documents += 1;
            for start in (0..ids.len() - 1).step_by(max_length - 1) {
                let part = start..ids.len().min(start + max_length);
                let mut trained = trained[part.clone()].to_vec();
                trained[0] = false;
                self.split.parts += 1;
                self.examples.add(&ids[part], &trained, row.line, row.quality)?;
            }
        } else {
            return Ok(Some(DropReason::TooLong));
        }
        Ok(None)
    }

    /// The source that the rows of `file` make; each trained token has the weight `loss_weight`.
    ///
    /// # Errors
    /// [`DataError::BadRows`] with all rows that break a rule, [`DataError::LossWeight`], and [`DataError::NothingLeft`] where
    /// every row would be left out.
    pub fn finish(self, path: &Path, file: FileRows, name: &str, loss_weight: f32) -> Result<Source, DataError> {
        check_loss_weight(name, loss_weight)?;
        if !self.problems.is_empty() {
            return Err(DataError::bad_rows(path, self.problems));
        }
        let (max_length, dropped) = (self.rules.max_length, self.dropped);
        let examples = self.examples.finish()?;
        let lengths = LengthReport::of(&self.lengths);
        if examples.is_empty() {
            let reasons: Vec<String> =
                dropped.iter().map(|(reason, dropped)| format!("{} {reason} ({max_length})", dropped.count)).collect();
            let reasons = reasons.join(", ");
            let hint = if dropped.contains_key(&DropReason::TooLong) {
                format!("raise the maximum length from {max_length}, or split the rows")
            } else {
                "look at the first rows of the file".to_owned()
            };
            return Err(DataError::NothingLeft { path: path.to_owned(), rows: self.rows, reasons, lengths, hint });
        }
        let sum = |of: fn(&Examples, usize) -> usize| (0..examples.len()).map(|index| of(&examples, index)).sum();
        let report = SourceReport {
            kind: file.kind,
            format: file.format,
            rows: self.rows,
            kept: self.kept,
            dropped,
            masked: self.masked,
            split: self.split,
            turns_apart: self.turns_apart,
            reasoning_dropped: self.reasoning_dropped,
            processed_tokens: sum(Examples::processed_tokens),
            trained_tokens: sum(Examples::trained_tokens),
            lengths,
            ignored_fields: file.ignored_fields,
        };
        Ok(Source { name: name.to_owned(), examples, loss_weight, order: RowOrder::Shuffled, general: false, report })
    }
}

fn check_loss_weight(name: &str, weight: f32) -> Result<(), DataError> {
    if weight.is_finite() && weight > 0.0 {
        return Ok(());
    }
    Err(DataError::LossWeight { name: name.to_owned(), weight })
}

/// Whether rows of this kind can be trained by these rules, and rendered for this model.
fn check_kind(path: &Path, row: &RowContent, renderer: &Renderer, rules: &RowRules) -> Result<(), DataError> {
    let unfit = |what: &str, hint: &str| {
        let (path, problem) = (path.to_owned(), format!("it holds {}, {what}", row.kind()));
        Err(DataError::Unreadable { path, problem, hint: hint.to_owned() })
    };
    let turns = match row {
        RowContent::Preference(_) if rules.wanted == Wanted::Answers => {
            return unfit(
                "which are not for supervised training",
                "`kind: dpo` trains on them; `temper data convert` makes conversations of the better answers",
            );
        }
        RowContent::Task(_) if rules.wanted == Wanted::Prompts => true,
        _ if rules.wanted == Wanted::Prompts => {
            return unfit(
                "not prompts",
                "each row needs `messages` that end in a user turn, and `reference_answer` or `id`",
            );
        }
        RowContent::Task(_) => {
            return unfit(
                "which are not for supervised training",
                "`kind: rft` trains on them; `temper data convert` makes conversations of rows that hold an answer",
            );
        }
        RowContent::Messages(_) | RowContent::Completion { .. } | RowContent::Text(_)
            if rules.wanted == Wanted::Pairs =>
        {
            return unfit("not two answers to choose from", "each row needs `prompt`, `chosen` and `rejected`");
        }
        RowContent::Preference(pair) => matches!(pair.prompt, Passage::Messages(_)),
        RowContent::Messages(_) => true,
        RowContent::Completion { .. } | RowContent::Text(_) => false,
    };
    if turns {
        renderer.check_trainable().map_err(|source| DataError::Template { path: path.to_owned(), source })?;
    }
    Ok(())
}

/// Reads and renders a file, a piece at a time; the tokens go to `examples`.
///
/// # Errors
/// As [`read_rows`](crate::read_rows) and [`Preparing`].
pub fn prepare_file(
    path: &Path,
    options: &ReadOptions,
    renderer: &Renderer,
    rules: RowRules,
    named: (&str, f32),
    examples: ExamplesWriter,
) -> Result<Source, DataError> {
    prepare_filtered(path, options, None, Preparing::new(renderer, rules, examples), named)
}

/// As [`prepare_file`], without the rows that filters leave out.
///
/// # Errors
/// As [`prepare_file`].
pub fn prepare_filtered(
    path: &Path,
    options: &ReadOptions,
    mut filtering: Option<&mut Filtering>,
    mut preparing: Preparing<'_>,
    (name, loss_weight): (&str, f32),
) -> Result<Source, DataError> {
    check_loss_weight(name, loss_weight)?;
    if let Some(filtering) = &mut filtering {
        filtering.next_file();
    }
    let mut first = true;
    let file = read_rows(path, options, &mut |rows| {
        if let Some(row) = rows.first().filter(|_| first) {
            check_kind(path, &row.content, preparing.renderer, &preparing.rules)?;
            first = false;
        }
        match &mut filtering {
            Some(filtering) => preparing.add_filtered(&filtering.apply(rows)),
            None => preparing.add(&rows),
        }
    })?;
    preparing.finish(path, file, name, loss_weight)
}

/// Renders rows that are in memory; as [`prepare_file`].
///
/// # Errors
/// As [`Preparing`].
pub fn prepare(
    loaded: &LoadedRows,
    renderer: &Renderer,
    rules: impl Into<RowRules>,
    name: &str,
    loss_weight: f32,
) -> Result<Source, DataError> {
    check_loss_weight(name, loss_weight)?;
    let rules = rules.into();
    if let Some(row) = loaded.rows.first() {
        check_kind(&loaded.path, &row.content, renderer, &rules)?;
    }
    let mut preparing = Preparing::new(renderer, rules, ExamplesWriter::in_memory());
    preparing.add(&loaded.rows)?;
    let LoadedRows { path, format, kind, rows, ignored_fields } = loaded;
    let file = FileRows { format: *format, kind: *kind, rows: rows.len(), ignored_fields: ignored_fields.clone() };
    preparing.finish(path, file, name, loss_weight)
}
