//! What a check can find, and what a finding says.

use std::fmt;

use serde::{Deserialize, Serialize};
use temper_run::Severity;

/// What is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The rows are trained on as they are.
    Nothing,
    /// The rows are left out, and counted.
    Dropped,
    /// What was found is masked in the rows, and they are counted.
    Masked,
    /// Nothing is trained.
    Refused,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Action::Nothing => "nothing",
            Action::Dropped => "dropped",
            Action::Masked => "masked",
            Action::Refused => "refused",
        })
    }
}

/// Declares the checks, each with its severity, what it says of the rows, and what may be done.
macro_rules! checks {
    ($( $(#[doc = $doc:literal])* $Name:ident = $name:literal, $severity:ident, $text:literal, $hint:literal; )*) => {
        /// A check. Rules, thresholds and their sources: `docs/data-checks.md`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Check { $( $(#[doc = $doc])* $Name, )* }

        impl Check {
            /// All of them, the gravest first.
            pub const ALL: &[Check] = &[ $( Check::$Name, )* ];

            /// Its name in JSON and in the documentation.
            pub fn name(self) -> &'static str {
                match self { $( Check::$Name => $name, )* }
            }

            /// How much it matters.
            pub fn severity(self) -> Severity {
                match self { $( Check::$Name => Severity::$severity, )* }
            }

            /// What it says of rows.
            pub fn text(self) -> &'static str {
                match self { $( Check::$Name => $text, )* }
            }

            /// What may be done.
            pub fn hint(self) -> &'static str {
                match self { $( Check::$Name => $hint, )* }
            }
        }
    };
}

checks! {
    /// A row of the validation or test file is trained on.
    HeldOutRow = "held_out_row", Error, "are rows of a held-out file", "`filters: {overlap: drop}` leaves them out";
    /// The base's template cannot print a row.
    NotRendered = "not_rendered", Error, "cannot be rendered for this base", "`temper data show` tells why, row by row";
    /// A run of words is shared with a held-out file.
    SharedWords = "shared_words", Warning, "share a run of words with a held-out file", "`filters: {overlap: drop}` leaves them out";
    /// An earlier row, to the character.
    ExactDuplicate = "exact_duplicate", Warning, "are the same as an earlier row", "`filters: {exact_duplicates: drop}` keeps the first of each";
    /// An earlier row's question and answer, in the same words.
    SameWords = "same_words", Warning, "ask and answer in the words of an earlier row", "`filters: {exact_duplicates: drop}` keeps the first of each";
    /// Almost an earlier row.
    NearDuplicate = "near_duplicate", Warning, "are nearly the same as an earlier row", "`filters: {near_duplicates: drop}` keeps the first of each";
    /// The same question with another label.
    ConflictingLabels = "conflicting_labels", Warning, "give an earlier row's question another label", "decide which is right: a model can learn only one";
    /// Rare labels.
    LabelImbalance = "label_imbalance", Warning, "have a label with under a tenth of its even share", "add rows of it, or judge it by its own accuracy";
    /// Labels that only the held-out rows have.
    UnseenLabel = "unseen_label", Warning, "of the held-out labels are in no row", "a model does not answer what it never saw";
    /// An empty turn.
    EmptyTurn = "empty_turn", Warning, "have an empty turn", "an empty answer trains the model to say nothing";
    /// A turn that is there twice.
    RepeatedTurn = "repeated_turn", Warning, "repeat a turn", "look whether the export doubled turns";
    /// Turns out of order.
    RoleOrder = "role_order", Warning, "have turns out of order", "expected: system first if at all, then user and assistant in turn, the assistant last";
    /// Tool calls and results that do not fit each other.
    ToolOrder = "tool_order", Warning, "have tool results without their call, or a call twice", "each result follows its call and names it; ids are used once";
    /// Two answers in the same words.
    SameAnswers = "same_answers", Warning, "have a better answer in the words of the worse", "nothing can be learnt of such a pair";
    /// A task without a reference.
    NoReference = "no_reference", Warning, "have no reference answer", "a reward that compares with it cannot judge them";
    /// No token carries loss.
    NoTarget = "no_target", Warning, "train no token", "look at `train` flags and empty answers";
    /// A character that the vocabulary cannot spell.
    Unencodable = "unencodable", Warning, "have a character without a token", "normalise the text, or choose another base";
    /// More tokens than fit.
    TooLong = "too_long", Warning, "are longer than the maximum length", "raise `max_length`, or split them";
    /// An answer that is none.
    Placeholder = "placeholder", Warning, "answer with a placeholder", "fill them in, or remove them";
    /// Broken text encoding.
    Mojibake = "mojibake", Warning, "have text that was decoded wrongly", "read the source as UTF-8 again; `filters: {mojibake: drop}` leaves them out";
    /// A text that says the same again and again.
    Repetition = "repetition", Warning, "say the same again and again", "`filters: {max_repetition: 0.5}` leaves them out";
    /// A secret.
    Secret = "secret", Warning, "hold secrets", "revoke them; `filters: {secrets: mask}` or `drop` keeps them from the model";
    /// Personal data.
    PersonalData = "personal_data", Warning, "hold personal data", "`filters: {personal_data: mask}` or `drop` keeps them from the model";
    /// Another answer to the same question.
    OtherAnswer = "other_answer", Note, "give an earlier row's question another answer", "fine where answers may differ";
    /// Strings that Nova Forge refuses.
    Reserved = "reserved", Note, "hold strings that Amazon Nova Forge reserves", "it refuses them in supervised rows; here they are text";
    /// Rows in another language than most.
    OtherLanguage = "other_language", Note, "are in another language than most", "fine where it is meant; after the first 1,000 rows of a file, one in ten is asked";
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where something was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The file.
    pub file: String,
    /// Its line, from 1.
    pub line: usize,
    /// The row that it is like, where there is one: `train.jsonl:3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub like: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)?;
        let Some(like) = &self.like else { return Ok(()) };
        match like.strip_prefix(&format!("{}:", self.file)) {
            Some(line) => write!(f, " (as {line})"),
            None => write!(f, " (as {like})"),
        }
    }
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The check.
    pub check: Check,
    /// How much it matters.
    pub severity: Severity,
    /// Rows; of `unseen_label` labels.
    pub count: usize,
    /// Of how many: all rows; of `other_language` those whose language was asked; of `unseen_label` the labels held out.
    pub of: usize,
    /// Where the first of them are, at most five.
    pub first: Vec<Place>,
    /// What was found, by kind, with how often: never a secret itself.
    pub kinds: Vec<(String, usize)>,
    /// What is done about it.
    pub action: Action,
    /// What may be done.
    pub hint: String,
}

impl fmt::Display for Finding {
    /// One line, without the hint.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.count, self.check.text())?;
        if !self.kinds.is_empty() {
            let kinds: Vec<String> = self.kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
            write!(f, " ({})", kinds.join(", "))?;
        }
        if !self.first.is_empty() {
            let first: Vec<String> = self.first.iter().map(Place::to_string).collect();
            write!(f, ": {}{}", first.join(", "), if self.count > first.len() { ", ..." } else { "" })?;
        }
        Ok(())
    }
}
