//! What can go wrong with a store.

/// A store that cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// An address that names no database of ours.
    #[error("{address}: {what}")]
    Address {
        /// As the user wrote it, without its password.
        address: String,
        /// What is wrong, with a hint.
        what: String,
    },
    /// The database said no: it is locked, full, gone, or is not what we take it for.
    #[error("{database}: {what}")]
    Database {
        /// Its path, or its address without the password.
        database: String,
        /// What it said.
        what: String,
        /// Whether the same may work when it is done again.
        transient: bool,
    },
    /// The study in the database is not the one that is opened.
    #[error("study {study}: {what}")]
    Study {
        /// Its name.
        study: String,
        /// What differs, with a hint.
        what: String,
    },
    /// What was to be written is not of the study.
    #[error("trial {number}: {what}")]
    Trial {
        /// Its number.
        number: u64,
        /// What is wrong.
        what: String,
    },
    /// A row that neither we nor Optuna write.
    #[error("study {study}: {what}")]
    Damaged {
        /// Its name.
        study: String,
        /// Table, row, and what is wrong with it.
        what: String,
    },
}

impl StoreError {
    /// Whether the same may work when it is done again.
    pub(super) fn is_transient(&self) -> bool {
        matches!(self, Self::Database { transient: true, .. })
    }
}
