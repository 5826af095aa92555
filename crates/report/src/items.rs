//! Items lost and won, and answers side by side. Lists are bounded, and say what was left out.

use serde::Serialize;
use temper_eval::record::{ItemOutcome, ItemRecord};

use crate::number::{count, loss, percent, signed_loss};

/// Rows of a list of examples.
const EXAMPLES: usize = 12;
/// Rows of a suite's samples.
const SAMPLES: usize = 6;
/// Line numbers, where texts are left out.
const LINES: usize = 60;
/// Characters of one text on the page.
const CHARACTERS: usize = 500;

/// The section on items.
#[derive(Default, Serialize)]
pub(crate) struct Items {
    /// Why there is nothing; empty otherwise.
    absent: String,
    no_texts: bool,
    choices: Vec<Choices>,
    losses: Vec<Losses>,
}

/// A suite whose items are right or wrong.
#[derive(Serialize)]
struct Choices {
    name: String,
    total: String,
    lost: String,
    won: String,
    still_right: String,
    still_wrong: String,
    lost_items: Examples,
    won_items: Examples,
}

/// A suite of losses.
#[derive(Serialize)]
struct Losses {
    name: String,
    summary: String,
    heading: &'static str,
    largest: Examples,
}

/// Some of the items.
#[derive(Default, Serialize)]
struct Examples {
    /// "12 of 43 shown".
    shown: String,
    /// Without texts: the lines alone.
    lines: String,
    has_expected: bool,
    rows: Vec<Example>,
}

#[derive(Serialize)]
struct Example {
    line: String,
    prompt: String,
    expected: String,
    base: Cell,
    tuned: Cell,
}

/// One model's answer.
#[derive(Serialize)]
struct Cell {
    right: Option<bool>,
    text: Option<String>,
    score: Option<String>,
}

/// The section on samples.
#[derive(Default, Serialize)]
pub(crate) struct Samples {
    absent: String,
    suites: Vec<Suite>,
}

#[derive(Serialize)]
struct Suite {
    name: String,
    shown: String,
    rows: Vec<Example>,
}

/// Suites in the order of the file.
fn by_suite(records: &[ItemRecord]) -> Vec<(&str, Vec<&ItemRecord>)> {
    let mut suites: Vec<(&str, Vec<&ItemRecord>)> = Vec::new();
    for record in records {
        match suites.iter_mut().find(|(name, _)| *name == record.suite) {
            Some((_, items)) => items.push(record),
            None => suites.push((&record.suite, vec![record])),
        }
    }
    suites
}

/// Whether any record holds a text.
fn have_texts(records: &[ItemRecord]) -> bool {
    records.iter().any(|record| record.prompt.is_some())
}

/// Counts and examples of what changed.
pub(crate) fn items(records: Option<&[ItemRecord]>, judged: bool, texts: bool) -> Items {
    let Some(records) = records else {
        let why = if judged { "The run folder has no judgement_items.jsonl." } else { "Nothing was judged." };
        return Items { absent: why.to_owned(), ..Items::default() };
    };
    let texts = texts && have_texts(records);
    let mut section = Items { no_texts: !texts, ..Items::default() };
    for (name, items) in by_suite(records) {
        let both = |record: &ItemRecord| Some((record.base.as_ref()?.right?, record.tuned.right?));
        let of = |before: bool, now: bool| -> Vec<&ItemRecord> {
            items.iter().filter(|record| both(record) == Some((before, now))).copied().collect()
        };
        if items.iter().any(|record| both(record).is_some()) {
            let (lost, won) = (of(true, false), of(false, true));
            let number = |items: &[&ItemRecord]| count(items.len() as u64);
            section.choices.push(Choices {
                name: name.to_owned(),
                total: count(items.len() as u64),
                lost: number(&lost),
                won: number(&won),
                still_right: number(&of(true, true)),
                still_wrong: number(&of(false, false)),
                lost_items: examples(&lost, texts, EXAMPLES),
                won_items: examples(&won, texts, EXAMPLES),
            });
        } else if let Some(losses) = losses(name, &items, texts) {
            section.losses.push(losses);
        }
    }
    section
}

/// A suite of losses or divergences: how many rose, and those that rose most.
fn losses(name: &str, items: &[&ItemRecord], texts: bool) -> Option<Losses> {
    let change =
        |record: &ItemRecord| Some(record.tuned.nats? - record.base.as_ref().and_then(|b| b.nats).unwrap_or(0.0));
    let mut ranked: Vec<(f64, &ItemRecord)> = items.iter().filter_map(|r| Some((change(r)?, *r))).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    let divergence = items.iter().all(|record| record.base.as_ref().is_none_or(|base| base.nats.is_none()));
    let (first, last) = (ranked.first()?, ranked.last()?);
    let (summary, heading) = if divergence {
        (
            format!(
                "KL(base || tuned) along the base's answers to {} prompts, from {} to {} nats per token.",
                count(ranked.len() as u64),
                loss(last.0),
                loss(first.0)
            ),
            "Furthest from the base",
        )
    } else {
        let rose = ranked.iter().filter(|(change, _)| *change > 0.0).count();
        (
            format!(
                "The loss rose on {} of {} texts; the changes go from {} to {} nats per token.",
                count(rose as u64),
                count(ranked.len() as u64),
                signed_loss(last.0),
                signed_loss(first.0)
            ),
            "Largest changes for the worse",
        )
    };
    let records: Vec<&ItemRecord> = ranked.iter().filter(|(change, _)| *change > 0.0).map(|(_, r)| *r).collect();
    Some(Losses { name: name.to_owned(), summary, heading, largest: examples(&records, texts, SAMPLES) })
}

fn examples(items: &[&ItemRecord], texts: bool, most: usize) -> Examples {
    let most = if texts { most } else { LINES };
    let shown = shown(items.len().min(most), items.len());
    let some = &items[..items.len().min(most)];
    if !texts {
        let lines: Vec<String> = some.iter().map(|record| count(record.line as u64)).collect();
        return Examples { shown, lines: lines.join(", "), ..Examples::default() };
    }
    let has_expected = some.iter().any(|record| record.expected.is_some());
    Examples { shown, lines: String::new(), has_expected, rows: some.iter().map(|record| example(record)).collect() }
}

pub(crate) fn shown(some: usize, all: usize) -> String {
    match (some, all) {
        (_, 0) => "none".to_owned(),
        (some, all) if some == all => count(all as u64),
        (some, all) => format!("{} of {} shown", count(some as u64), count(all as u64)),
    }
}

fn example(record: &ItemRecord) -> Example {
    let cell = |outcome: Option<&ItemOutcome>| {
        let Some(outcome) = outcome else { return Cell { right: None, text: None, score: None } };
        let score = match (outcome.checks_held, outcome.nats) {
            (Some(share), _) => Some(format!("{} of the checks", percent(share))),
            (None, Some(nats)) => Some(format!("{} nats", loss(nats))),
            (None, None) => None,
        };
        let text = outcome.answer.as_ref().or(outcome.written.as_ref());
        Cell { right: outcome.right, text: text.map(|text| answer(text)), score }
    };
    Example {
        line: count(record.line as u64),
        prompt: bounded(record.prompt.as_deref().unwrap_or("")),
        expected: bounded(record.expected.as_deref().unwrap_or("")),
        base: cell(record.base.as_ref()),
        tuned: cell(Some(&record.tuned)),
    }
}

/// What the models wrote by themselves, side by side.
pub(crate) fn samples(records: Option<&[ItemRecord]>, texts: bool) -> Samples {
    let absent = |why: &str| Samples { absent: why.to_owned(), ..Samples::default() };
    let Some(records) = records else { return absent("There are no answers in this run folder.") };
    if !texts || !have_texts(records) {
        return absent("Texts are left out of this report.");
    }
    let written = |record: &&ItemRecord| {
        record.tuned.written.is_some() && record.base.as_ref().is_some_and(|base| base.written.is_some())
    };
    let cell = |outcome: &ItemOutcome| Cell {
        right: outcome.exact.or(outcome.right),
        text: outcome.written.as_ref().map(|text| answer(text)),
        score: None,
    };
    let mut suites = Vec::new();
    for (name, items) in by_suite(records) {
        let items: Vec<&ItemRecord> = items.into_iter().filter(written).collect();
        if items.is_empty() {
            continue;
        }
        let rows = items.iter().take(SAMPLES).filter_map(|record| {
            let base = cell(record.base.as_ref()?);
            Some(Example { base, tuned: cell(&record.tuned), ..example(record) })
        });
        let shown = shown(items.len().min(SAMPLES), items.len());
        suites.push(Suite { name: name.to_owned(), shown, rows: rows.collect() });
    }
    if suites.is_empty() {
        absent("No suite of this recipe lets the models write.")
    } else {
        Samples { suites, ..Samples::default() }
    }
}

/// An answer; an empty one is said.
pub(crate) fn answer(text: &str) -> String {
    if text.trim().is_empty() { "(empty)".to_owned() } else { bounded(text) }
}

pub(crate) fn bounded(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(CHARACTERS) {
        None => text.to_owned(),
        Some((end, _)) => {
            format!("{}\u{2026} [+ {} characters]", &text[..end], count(text[end..].chars().count() as u64))
        }
    }
}
