//! Checks of rows before they are trained on.
//!
//! ```text
//! rows -- Features::of, in parallel: what can be said of a row alone --> one pass in order: what a row is beside those before it --> CheckReport
//! ```
//! One pass; what is kept of a row is its hashes, at most 2 KB. The same rows in the same order give the same report, whatever the
//! number of threads. Rules, thresholds and their sources: `docs/data-checks.md`.

mod finding;
mod labels;
mod lengths;
pub(crate) mod text;
mod turns;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use temper_text::{ChatRules, RenderError, Renderer};

use crate::error::DataError;
use crate::filter::{Filters, Treatment};
use crate::near::{Frame, NearIndex, Prepared};
use crate::overlap::{HeldOut, HeldOutKind, Met, compared_runs};
use crate::prepare::render;
use crate::private::private;
use crate::read::{ReadOptions, read_rows};
use crate::row::{Row, RowContent};
use crate::view::{View, words_of};
use crate::words::hash_of;

pub use finding::{Action, Check, Finding, Place};
pub use lengths::{LengthUnit, Lengths};
pub use temper_run::Severity;

use labels::{LABEL_WORDS, Labels};

/// How many places a finding shows; it counts all.
const SHOWN: usize = 5;
/// Letters from which on a guess of the language is made at all.
const LANGUAGE_LETTERS: usize = 40;
/// The language is guessed of the first rows of a file, and of one in so many after them: a guess takes as long as all other checks
/// of a row together.
const LANGUAGE_FIRST: usize = 1000;
const LANGUAGE_EVERY: usize = 10;

/// What rows are checked against.
#[derive(Default)]
pub struct CheckOptions<'a> {
    /// What training must not see.
    pub held_out: Vec<HeldOut>,
    /// The base, for lengths in tokens and what is trained.
    pub renderer: Option<&'a Renderer>,
    /// How conversations are rendered.
    pub chat: ChatRules,
    /// The longest row in tokens; needs a renderer.
    pub max_length: Option<usize>,
    /// What will be left out or masked.
    pub filters: Filters,
    /// Whether errors refuse.
    pub errors_stand: bool,
}

/// What the checks found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CheckReport {
    /// Each file with its rows.
    pub files: Vec<(String, usize)>,
    /// All rows.
    pub rows: usize,
    /// Fields that are not read, each with the number of rows that have it.
    pub ignored_fields: BTreeMap<String, usize>,
    /// What was found, the gravest first.
    pub findings: Vec<Finding>,
    /// How often each label comes.
    pub labels: BTreeMap<String, usize>,
    /// In which language rows are, where that can be told: ISO 639-3 and how many.
    pub languages: BTreeMap<String, usize>,
    /// Of how many rows it was asked: the first 1,000 of a file, and one in ten after them.
    pub language_asked: usize,
    /// How long rows are.
    pub lengths: Lengths,
    /// Tokens that are trained, and all of them; with a base.
    pub trained_tokens: Option<(usize, usize)>,
}

impl CheckReport {
    /// Whether anything found refuses the data.
    pub fn refuses(&self) -> bool {
        self.findings.iter().any(|finding| finding.action == Action::Refused)
    }

    /// The findings of this severity.
    pub fn of(&self, severity: Severity) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |finding| finding.severity == severity)
    }
}

/// Reads files and checks their rows, all as one set.
///
/// # Errors
/// As [`read_rows`].
pub fn check_files<'f>(
    files: impl IntoIterator<Item = (&'f Path, &'f ReadOptions)>,
    options: CheckOptions<'_>,
) -> Result<CheckReport, DataError> {
    let mut checker = Checker::new(options);
    for (path, options) in files {
        checker.file(path);
        let file = read_rows(path, options, &mut |rows| {
            checker.add(&rows);
            Ok::<_, DataError>(())
        })?;
        for (field, rows) in file.ignored_fields {
            *checker.ignored_fields.entry(field).or_insert(0) += rows;
        }
    }
    Ok(checker.finish())
}

/// Checks rows as they come.
pub struct Checker<'a> {
    options: CheckOptions<'a>,
    files: Vec<(String, usize)>,
    rows: usize,
    ignored_fields: BTreeMap<String, usize>,
    /// File and line of each row that others may be like.
    places: Vec<(u32, u32)>,
    tallies: BTreeMap<Check, Tally>,
    exact: HashMap<u64, usize>,
    folded: HashMap<u64, usize>,
    near: Near,
    labels: Labels,
    languages: BTreeMap<String, usize>,
    language_asked: usize,
    /// By language, for those that are few: where they are.
    language_places: BTreeMap<String, Vec<usize>>,
    lengths: BTreeMap<usize, usize>,
    tokens: (usize, usize),
}

/// What was found by one check.
#[derive(Default)]
struct Tally {
    count: usize,
    first: Vec<(usize, Option<String>)>,
    kinds: BTreeMap<String, usize>,
}

/// What can be said of a row alone.
struct Features {
    verbatim: u64,
    folded: Option<u64>,
    asked: Option<(u64, u64)>,
    /// Whether the answer is a label.
    labelled: bool,
    label: Option<String>,
    shingles: Vec<u32>,
    met: Vec<(usize, Met)>,
    length: usize,
    trained: usize,
    /// What was guessed, where it was asked.
    language: Option<Option<&'static str>>,
    found: Vec<Check>,
    /// Found, with what.
    kinds: Vec<(Check, &'static str)>,
}

impl Features {
    /// Of the row of this number, from 0, in its file.
    fn of(row: &Row, number: usize, options: &CheckOptions<'_>) -> Features {
        let view = View::of(row);
        let (mut found, mut kinds) = (Vec::new(), Vec::new());
        turns::turns(row, &view, &mut found);
        let folded = view.folded();
        let (asked, answer) = (words_of(view.asked()), words_of(view.answer()));
        let answered = view.answer.is_some() && !asked.is_empty() && !answer.is_empty();
        let label = row.label.clone().or_else(|| {
            let text = || view.answer().iter().map(|turn| turn.text.trim()).collect::<Vec<_>>().join(" ");
            (answered && answer.len() <= LABEL_WORDS).then(text)
        });
        if view.answer().last().is_some_and(|turn| text::is_placeholder(&turn.text)) {
            found.push(Check::Placeholder);
        }
        if view.turns.iter().any(|turn| text::is_mojibake(&turn.text)) {
            found.push(Check::Mojibake);
        }
        if text::repetition_of(&view) > text::MAX_REPETITION {
            found.push(Check::Repetition);
        }
        let mut seen = HashSet::new();
        for (_, what) in view.turns.iter().flat_map(|turn| private(&turn.text)) {
            if seen.insert(what) {
                kinds.push((if what.is_secret() { Check::Secret } else { Check::PersonalData }, what.name()));
            }
        }
        // Documents are not supervised rows.
        if view.answer.is_some() {
            let words: HashSet<&str> = view.turns.iter().flat_map(|turn| text::reserved(&turn.text)).collect();
            kinds.extend(words.into_iter().map(|word| (Check::Reserved, word)));
        }
        let runs = if options.held_out.is_empty() { Vec::new() } else { compared_runs(&view) };
        let met = options.held_out.iter().enumerate();
        let met = met.filter_map(|(at, held_out)| Some((at, held_out.meets(&runs, folded)?))).collect();
        let (mut length, mut trained) = (view.turns.iter().map(|turn| turn.text.chars().count()).sum(), 0);
        if let Some(renderer) = options.renderer {
            length = 0;
            match render(renderer, row, &options.chat) {
                Ok(rendered) => {
                    // Of a pair the longer answer.
                    length = rendered.iter().map(|rendered| rendered.ids.len()).max().unwrap_or(0);
                    trained =
                        rendered.iter().flat_map(|rendered| &rendered.trained).filter(|trained| **trained).count();
                    // A long document is trained in parts.
                    let whole = !matches!(row.content, RowContent::Text(_));
                    if whole && options.max_length.is_some_and(|most| length > most) {
                        found.push(Check::TooLong);
                    }
                    if trained == 0 {
                        found.push(Check::NoTarget);
                    }
                }
                Err(RenderError::Unencodable { .. }) => found.push(Check::Unencodable),
                Err(_) => found.push(Check::NotRendered),
            }
        }
        Features {
            verbatim: view.verbatim(),
            folded,
            asked: answered.then(|| (hash_of(asked), hash_of(answer))),
            labelled: label.is_some(),
            label: label.filter(|_| row.label.is_some()),
            shingles: view.shingles(),
            met,
            length,
            trained,
            language: (number < LANGUAGE_FIRST || number.is_multiple_of(LANGUAGE_EVERY)).then(|| language(&view)),
            found,
            kinds,
        }
    }
}

/// The language of a row, where its script tells or its trigrams do reliably.
fn language(view: &View<'_>) -> Option<&'static str> {
    let text: Vec<&str> = view.said().map(|turn| turn.text.as_ref()).collect();
    let text: String = text.join("\n").chars().take(2000).collect();
    if text.chars().filter(|c| c.is_alphabetic()).count() < LANGUAGE_LETTERS {
        return None;
    }
    whatlang::detect(&text).filter(whatlang::Info::is_reliable).map(|info| info.lang().code())
}

/// Rows that are nearly the same.
#[derive(Default)]
struct Near {
    index: NearIndex,
    /// The row of each text of the index.
    rows: Vec<usize>,
    /// That of the file that is being read, by its first rows.
    frame: Option<Frame>,
}

impl Near {
    /// Takes the next rows; gives those that are near an earlier one, with that.
    fn add(&mut self, sets: Vec<(usize, Vec<u32>)>) -> Vec<(usize, usize)> {
        let frame = self.frame.get_or_insert_with(|| Frame::of(sets.iter().map(|(_, set)| set)));
        let texts: Vec<_> = sets.into_par_iter().map(|(row, set)| (row, Prepared::of(&frame.without(set)))).collect();
        let mut near = Vec::new();
        for (row, text) in texts.into_iter().filter_map(|(row, text)| Some((row, text?))) {
            match self.index.add(text) {
                Some(earlier) => near.push((row, self.rows[earlier])),
                None => self.rows.push(row),
            }
        }
        near
    }
}

impl<'a> Checker<'a> {
    /// Begins.
    pub fn new(options: CheckOptions<'a>) -> Self {
        Self {
            options,
            files: Vec::new(),
            rows: 0,
            ignored_fields: BTreeMap::new(),
            places: Vec::new(),
            tallies: BTreeMap::new(),
            exact: HashMap::new(),
            folded: HashMap::new(),
            near: Near::default(),
            labels: Labels::default(),
            languages: BTreeMap::new(),
            language_asked: 0,
            language_places: BTreeMap::new(),
            lengths: BTreeMap::new(),
            tokens: (0, 0),
        }
    }

    /// The rows that are added from here on are of this file.
    pub fn file(&mut self, path: &Path) {
        self.files.push((path.display().to_string(), 0));
        self.near.frame = None;
    }

    /// The next rows.
    pub fn add(&mut self, rows: &[Row]) {
        if self.files.is_empty() {
            self.files.push(("rows".to_owned(), 0));
        }
        let file = self.files.len() - 1;
        let (options, before) = (&self.options, self.files[file].1);
        let of = |(at, row): (usize, &Row)| Features::of(row, before + at, options);
        let features: Vec<Features> = rows.par_iter().enumerate().map(of).collect();
        self.files[file].1 += rows.len();
        let mut sets = Vec::with_capacity(rows.len());
        for (row, features) in rows.iter().zip(features) {
            let number = self.rows;
            self.rows += 1;
            self.places.push((file as u32, row.line as u32));
            if let Some(set) = self.take(number, features) {
                sets.push((number, set));
            }
        }
        for (row, earlier) in self.near.add(sets) {
            self.found(Check::NearDuplicate, row, Some(self.place(earlier)));
        }
    }

    /// Counts what a row holds; gives its shingles where it is no duplicate.
    fn take(&mut self, number: usize, features: Features) -> Option<Vec<u32>> {
        for check in &features.found {
            self.found(*check, number, None);
        }
        let mut counted = HashSet::new();
        for (check, kind) in features.kinds {
            if counted.insert(check) {
                self.found(check, number, None);
            }
            *self.tallies.entry(check).or_default().kinds.entry(kind.to_owned()).or_insert(0) += 1;
        }
        for (check, whole) in [(Check::HeldOutRow, true), (Check::SharedWords, false)] {
            // A suite's items are no rows: its texts may only be shared.
            let met: Vec<(usize, usize)> = features
                .met
                .iter()
                .filter_map(|&(at, met)| match met {
                    Met::Whole(line) => whole.then_some((at, line)),
                    Met::Run(line) => (!whole).then_some((at, line)),
                })
                .collect();
            if let Some(&(at, line)) = met.first() {
                let like = format!("{}:{line}", self.options.held_out[at].name);
                self.found(check, number, Some(like));
            }
            for (at, _) in met {
                let name = self.options.held_out[at].name.clone();
                *self.tallies.entry(check).or_default().kinds.entry(name).or_insert(0) += 1;
            }
        }
        if let Some((asked, answer)) = features.asked
            && let Some(earlier) = self.labels.conflict(asked, answer, number)
        {
            let check = if features.labelled { Check::ConflictingLabels } else { Check::OtherAnswer };
            self.found(check, number, Some(self.place(earlier)));
        }
        self.labels.count(features.label);
        self.language_asked += usize::from(features.language.is_some());
        if let Some(language) = features.language.flatten() {
            *self.languages.entry(language.to_owned()).or_insert(0) += 1;
            let places = self.language_places.entry(language.to_owned()).or_default();
            if places.len() < SHOWN {
                places.push(number);
            }
        }
        *self.lengths.entry(features.length).or_insert(0) += 1;
        self.tokens = (self.tokens.0 + features.trained, self.tokens.1 + features.length);
        let earlier = *self.exact.entry(features.verbatim).or_insert(number);
        if earlier < number {
            self.found(Check::ExactDuplicate, number, Some(self.place(earlier)));
            return None;
        }
        let earlier = features.folded.map(|folded| *self.folded.entry(folded).or_insert(number));
        if let Some(earlier) = earlier.filter(|&earlier| earlier < number) {
            self.found(Check::SameWords, number, Some(self.place(earlier)));
            return None;
        }
        Some(features.shingles)
    }

    fn found(&mut self, check: Check, row: usize, like: Option<String>) {
        let tally = self.tallies.entry(check).or_default();
        tally.count += 1;
        if tally.first.len() < SHOWN {
            tally.first.push((row, like));
        }
    }

    fn place(&self, row: usize) -> String {
        let (file, line) = self.places[row];
        format!("{}:{line}", self.files[file as usize].0)
    }

    /// The report on all rows.
    pub fn finish(mut self) -> CheckReport {
        let rare = self.labels.rare();
        if !rare.is_empty() {
            let count = rare.iter().map(|(_, count)| count).sum();
            self.tallies
                .insert(Check::LabelImbalance, Tally { count, kinds: rare.into_iter().collect(), ..Tally::default() });
        }
        let held_out = self.options.held_out.iter().flat_map(|held_out| &held_out.labels);
        let unseen: BTreeMap<String, usize> =
            self.labels.unseen(held_out).iter().map(|label| ((*label).to_owned(), 0)).collect();
        if !unseen.is_empty() {
            self.tallies.insert(Check::UnseenLabel, Tally { count: unseen.len(), kinds: unseen, ..Tally::default() });
        }
        self.other_languages();
        let unit = if self.options.renderer.is_some() { LengthUnit::Tokens } else { LengthUnit::Characters };
        let findings = self.tallies.iter().map(|(check, tally)| self.finding(*check, tally)).collect();
        CheckReport {
            rows: self.rows,
            ignored_fields: self.ignored_fields,
            findings,
            labels: self.labels.counts().clone(),
            languages: self.languages,
            language_asked: self.language_asked,
            lengths: Lengths::of(unit, &self.lengths),
            trained_tokens: self.options.renderer.map(|_| self.tokens),
            files: self.files,
        }
    }

    /// Rows of other languages than the one that most are in.
    fn other_languages(&mut self) {
        let Some(most) = self.languages.iter().max_by_key(|(_, count)| **count).map(|(language, _)| language.clone())
        else {
            return;
        };
        let others: BTreeMap<String, usize> =
            self.languages.iter().filter(|(language, _)| **language != most).map(|(l, n)| (l.clone(), *n)).collect();
        let mut first: Vec<usize> =
            others.keys().flat_map(|language| &self.language_places[language]).copied().collect();
        first.sort_unstable();
        first.truncate(SHOWN);
        let count = others.values().sum();
        if count > 0 {
            let first = first.into_iter().map(|row| (row, None)).collect();
            self.tallies.insert(Check::OtherLanguage, Tally { count, first, kinds: others });
        }
    }

    fn finding(&self, check: Check, tally: &Tally) -> Finding {
        let place = |(row, like): &(usize, Option<String>)| {
            let (file, line) = self.places[*row];
            Place { file: self.files[file as usize].0.clone(), line: line as usize, like: like.clone() }
        };
        let mut kinds: Vec<(String, usize)> = tally.kinds.iter().map(|(kind, count)| (kind.clone(), *count)).collect();
        kinds.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        // Suites are not rows that judge the domain: what they share is a warning. The same held for `--against`.
        let only_suites = check == Check::HeldOutRow
            && self
                .options
                .held_out
                .iter()
                .filter(|h| tally.kinds.contains_key(&h.name))
                .all(|h| h.kind == HeldOutKind::Suite);
        let severity = if only_suites { Severity::Warning } else { check.severity() };
        let action = self.action(check, severity);
        let of = match check {
            Check::OtherLanguage => self.language_asked,
            Check::UnseenLabel => {
                self.options.held_out.iter().flat_map(|held_out| &held_out.labels).collect::<HashSet<_>>().len()
            }
            _ => self.rows,
        };
        Finding {
            check,
            severity,
            count: tally.count,
            of,
            first: tally.first.iter().map(place).collect(),
            kinds,
            action,
            hint: check.hint().to_owned(),
        }
    }

    /// What becomes of the rows.
    fn action(&self, check: Check, severity: Severity) -> Action {
        let filters = &self.options.filters;
        let treated = |treatment| match treatment {
            Treatment::Keep => Action::Nothing,
            Treatment::Drop => Action::Dropped,
            Treatment::Mask => Action::Masked,
        };
        let dropped = |drop| if drop { Action::Dropped } else { Action::Nothing };
        let action = match check {
            Check::HeldOutRow | Check::SharedWords => dropped(filters.overlap),
            Check::ExactDuplicate | Check::SameWords => dropped(filters.exact_duplicates),
            Check::NearDuplicate => dropped(filters.near_duplicates),
            Check::Mojibake => dropped(filters.mojibake),
            Check::Repetition => dropped(filters.max_repetition.is_some_and(|most| most <= text::MAX_REPETITION)),
            Check::Secret => treated(filters.secrets),
            Check::PersonalData => treated(filters.personal_data),
            Check::TooLong | Check::NoTarget | Check::Unencodable => Action::Dropped,
            _ => Action::Nothing,
        };
        let refused = severity == Severity::Error && action == Action::Nothing && !self.options.errors_stand;
        if refused { Action::Refused } else { action }
    }
}
