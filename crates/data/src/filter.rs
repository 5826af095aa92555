//! Filters that a recipe asks for: rows left out or masked before they are trained on, each counted with its reason. None is on by
//! itself. They find what the checks of the same names find.

use std::collections::HashSet;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use temper_text::Message;

use crate::check::text::{is_mojibake, repetition_of};
use crate::near::{Frame, NearIndex, Prepared};
use crate::overlap::{HeldOut, compared_runs};
use crate::private::{Private, masked, private};
use crate::report::DropReason;
use crate::row::{Passage, Row, RowContent};
use crate::view::View;

/// What becomes of a row that holds something private.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Treatment {
    /// It is trained on as it is.
    #[default]
    Keep,
    /// It is left out.
    Drop,
    /// What is private is replaced by its kind in brackets.
    Mask,
}

/// What is left out or masked.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Filters {
    /// Rows that say what an earlier row says, of the file or of one before it.
    pub exact_duplicates: bool,
    /// Rows that are nearly the same as an earlier one, of the file or of one before it.
    pub near_duplicates: bool,
    /// Rows that share words with held-out files.
    pub overlap: bool,
    /// Rows with text that was decoded wrongly.
    pub mojibake: bool,
    /// Rows with secrets.
    pub secrets: Treatment,
    /// Rows with personal data.
    pub personal_data: Treatment,
    /// Rows of fewer characters, system turns not counted.
    pub min_chars: Option<usize>,
    /// Rows with a text of which a larger share of runs repeats an earlier one.
    pub max_repetition: Option<f64>,
}

impl Filters {
    /// Whether any is on.
    pub fn any(&self) -> bool {
        *self != Filters::default()
    }

    /// Whether what is left of a file depends on the files before it.
    pub fn look_back(&self) -> bool {
        self.exact_duplicates || self.near_duplicates
    }
}

/// Filters at work on files, one after the other: duplicates are looked for across all of them.
pub struct Filtering {
    filters: Filters,
    held_out: Vec<HeldOut>,
    verbatim: HashSet<u64>,
    folded: HashSet<u64>,
    near: NearIndex,
    frame: Option<Frame>,
}

/// What can be said of a row alone.
struct Judged {
    row: Row,
    masked: bool,
    reason: Option<DropReason>,
    verbatim: u64,
    folded: Option<u64>,
    shingles: Vec<u32>,
}

/// What is left of some rows.
pub struct Filtered {
    /// Rows to be trained on.
    pub kept: Vec<Row>,
    /// Lines of the others.
    pub dropped: Vec<(usize, DropReason)>,
    /// How many of those kept have something masked.
    pub masked: usize,
}

impl Filtering {
    /// Begins; `held_out` is what rows must not share words with.
    pub fn new(filters: Filters, held_out: Vec<HeldOut>) -> Self {
        Self {
            filters,
            held_out,
            verbatim: HashSet::new(),
            folded: HashSet::new(),
            near: NearIndex::default(),
            frame: None,
        }
    }

    /// The rows that come from here on are of another file, which has a frame of its own.
    pub fn next_file(&mut self) {
        self.frame = None;
    }

    /// The next rows of the file.
    pub fn apply(&mut self, rows: Vec<Row>) -> Filtered {
        let this = &*self;
        let judged: Vec<Judged> = rows.into_par_iter().map(|row| this.judge(row)).collect();
        let mut filtered = Filtered { kept: Vec::with_capacity(judged.len()), dropped: Vec::new(), masked: 0 };
        let frame = self.frame.get_or_insert_with(|| Frame::of(judged.iter().map(|judged| &judged.shingles)));
        let judged: Vec<(Judged, Option<Prepared>)> = judged
            .into_par_iter()
            .map(|mut judged| {
                let near = Prepared::of(&frame.without(std::mem::take(&mut judged.shingles)));
                (judged, near)
            })
            .collect();
        for (judged, near) in judged {
            match judged.reason.or_else(|| self.repeats(judged.verbatim, judged.folded, near)) {
                Some(reason) => filtered.dropped.push((judged.row.line, reason)),
                None => {
                    filtered.masked += usize::from(judged.masked);
                    filtered.kept.push(judged.row);
                }
            }
        }
        filtered
    }

    fn judge(&self, row: Row) -> Judged {
        let filters = &self.filters;
        let treatment = |what: Private| if what.is_secret() { filters.secrets } else { filters.personal_data };
        let view = View::of(&row);
        let held = |wanted: Treatment| {
            let wanted_at_all = filters.secrets == wanted || filters.personal_data == wanted;
            let mut all = view.turns.iter().filter(|_| wanted_at_all).flat_map(|turn| private(&turn.text));
            all.find(|(_, what)| treatment(*what) == wanted).map(|(_, what)| what)
        };
        let chars = || view.said().map(|turn| turn.text.chars().count()).sum::<usize>();
        let (verbatim, folded) = (view.verbatim(), view.folded());
        let met = || {
            let runs = compared_runs(&view);
            self.held_out.iter().any(|held_out| held_out.meets(&runs, folded).is_some())
        };
        let reason = if let Some(what) = held(Treatment::Drop) {
            Some(if what.is_secret() { DropReason::Secret } else { DropReason::PersonalData })
        } else if filters.mojibake && view.turns.iter().any(|turn| is_mojibake(&turn.text)) {
            Some(DropReason::Mojibake)
        } else if filters.min_chars.is_some_and(|least| chars() < least) {
            Some(DropReason::TooShort)
        } else if filters.max_repetition.is_some_and(|most| repetition_of(&view) > most) {
            Some(DropReason::Repetitive)
        } else if filters.overlap && met() {
            Some(DropReason::Evaluated)
        } else {
            None
        };
        let masks = reason.is_none() && held(Treatment::Mask).is_some();
        let shingles = if filters.near_duplicates && reason.is_none() { view.shingles() } else { Vec::new() };
        drop(view);
        let mut row = row;
        if masks {
            each_text_mut(&mut row, &mut |text| {
                if let Some(hidden) = masked(text, |what| treatment(what) == Treatment::Mask) {
                    *text = hidden;
                }
            });
        }
        Judged { row, masked: masks, reason, verbatim, folded, shingles }
    }

    fn repeats(&mut self, verbatim: u64, folded: Option<u64>, near: Option<Prepared>) -> Option<DropReason> {
        if self.filters.exact_duplicates {
            let (verbatim, folded) =
                (self.verbatim.insert(verbatim), folded.is_none_or(|folded| self.folded.insert(folded)));
            if !verbatim || !folded {
                return Some(DropReason::Duplicate);
            }
        }
        near.and_then(|near| self.near.add(near)).map(|_| DropReason::NearDuplicate)
    }
}

/// Every text of a row that is rendered.
fn each_text_mut(row: &mut Row, change: &mut impl FnMut(&mut String)) {
    match &mut row.content {
        RowContent::Messages(conversation) => {
            conversation.messages.iter_mut().for_each(|message| message_mut(message, change))
        }
        RowContent::Completion { prompt, completion } => [prompt, completion].into_iter().for_each(change),
        RowContent::Text(text) => change(text),
        RowContent::Preference(pair) => {
            for passage in [&mut pair.prompt, &mut pair.chosen, &mut pair.rejected] {
                match passage {
                    Passage::Text(text) => change(text),
                    Passage::Messages(messages) => messages.iter_mut().for_each(|message| message_mut(message, change)),
                }
            }
        }
        RowContent::Task(task) => {
            task.prompt.messages.iter_mut().for_each(|message| message_mut(message, change));
            value_mut(&mut task.reference_answer, change);
        }
    }
}

fn message_mut(message: &mut Message, change: &mut impl FnMut(&mut String)) {
    change(&mut message.content);
    message.reasoning.iter_mut().for_each(&mut *change);
    for call in &mut message.tool_calls {
        call.arguments.iter_mut().for_each(|(_, value)| value_mut(value, change));
    }
}

fn value_mut(value: &mut Value, change: &mut impl FnMut(&mut String)) {
    match value {
        Value::String(text) => change(text),
        Value::Array(items) => items.iter_mut().for_each(|item| value_mut(item, change)),
        Value::Object(fields) => fields.iter_mut().for_each(|(_, value)| value_mut(value, change)),
        _ => {}
    }
}
