//! What is left out of a stage's rows before they are trained on, where the user asks for it.

use crate::kind::{choice, integer, number};
use crate::reader::section;
use crate::settings::Valued;

crate::kind::words! {
    /// What becomes of rows that a filter finds.
    pub enum Found {
        /// They are trained on.
        Keep = "keep",
        /// They are left out, and counted.
        Drop = "drop",
    }
}

crate::kind::words! {
    /// What becomes of rows that hold something private.
    pub enum Private {
        /// They are trained on as they are.
        Keep = "keep",
        /// They are left out, and counted.
        Drop = "drop",
        /// What is private is replaced by its kind in brackets, and the rows are counted.
        Mask = "mask",
    }
}

crate::kind::words! {
    /// What errors in the data do.
    pub enum DataErrors {
        /// `temper run` refuses.
        Refuse = "refuse",
        /// They are shown, and stand.
        Allow = "allow",
    }
}

const OFF: &str = "decision: nothing is left out unasked; `temper data check` and the plan show what would be";

section! {
    /// Filters for the files that a stage trains on, each by the check of the same name (docs/data-checks.md). Every row that
    /// they leave out is counted with its reason.
    pub struct Filters |f| {
        /// Rows that ask and answer what an earlier row does, of its file or of one before it.
        exact_duplicates: Valued<Found> = f.default(choice(), Found::Keep, OFF);
        /// Rows that are nearly the same as an earlier row, of its file or of one before it.
        near_duplicates: Valued<Found> = f.default(choice(), Found::Keep, OFF);
        /// Rows that share words with validation, test or general suites.
        overlap: Valued<Found> = f.default(choice(), Found::Keep, OFF);
        /// Rows with text that was decoded wrongly.
        mojibake: Valued<Found> = f.default(choice(), Found::Keep, OFF);
        /// Rows with keys, tokens or passwords.
        secrets: Valued<Private> = f.default(choice(), Private::Keep, OFF);
        /// Rows with e-mail addresses, card numbers or bank accounts.
        personal_data: Valued<Private> = f.default(choice(), Private::Keep, OFF);
        /// Rows of fewer characters are left out, system turns not counted.
        min_chars: Option<Valued<u64>> = f.optional(integer(1..));
        /// Rows with a text of which a larger share of runs of ten words or characters came before in it are left out.
        max_repetition: Option<Valued<f64>> = f.optional(number(0.0..=1.0));
    }
}
