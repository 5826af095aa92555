//! What can go wrong with a job, said so that the user can act on it.

use std::path::PathBuf;

/// Why a job cannot be submitted, followed, stopped or fetched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A recipe or a setting of which no request can be made.
    #[error("{problem}\nhint: {hint}")]
    Unfit {
        /// What is wrong.
        problem: String,
        /// What to do.
        hint: String,
    },
    /// The job would cost more than allowed, or nobody has said how much is allowed.
    #[error("{problem}\nhint: {hint}")]
    Cost {
        /// What is wrong.
        problem: String,
        /// What to do.
        hint: String,
    },
    /// No credentials, or credentials that cannot be used.
    #[error("{problem}\nhint: {hint}")]
    Credentials {
        /// What is wrong.
        problem: String,
        /// What to do.
        hint: String,
    },
    /// The credentials are good, and may not do this.
    #[error(
        "{action}: access denied: {message}\nhint: the identity that calls needs the permission which the message names"
    )]
    Denied {
        /// The call.
        action: String,
        /// What the service said.
        message: String,
    },
    /// The service had too much to do, again and again.
    #[error("{action}: throttled {tries} times: {message}\nhint: wait some minutes and call again")]
    Throttled {
        /// The call.
        action: String,
        /// How often it was tried.
        tries: u32,
        /// What the service said.
        message: String,
    },
    /// A quota of the account.
    #[error(
        "{action}: a quota is used up: {message}\nhint: ask for a higher one in AWS's Service Quotas, or wait for other jobs"
    )]
    Quota {
        /// The call.
        action: String,
        /// What the service said.
        message: String,
    },
    /// The service does not take the request.
    #[error("{action}: not accepted: {message}\nhint: `--dry-run` shows the request that was sent")]
    Invalid {
        /// The call.
        action: String,
        /// What the service said.
        message: String,
    },
    /// There is no such job, or no such object.
    #[error("{action}: not found: {message}\nhint: check the name and the region")]
    NotFound {
        /// The call.
        action: String,
        /// What the service said.
        message: String,
    },
    /// Something of this name is there already, or is in the wrong state for the call.
    #[error("{action}: in conflict: {message}\nhint: `temper nova status` says how the job stands")]
    Conflict {
        /// The call.
        action: String,
        /// What the service said.
        message: String,
    },
    /// Any other answer that is no success.
    #[error("{action}: status {status} ({code}): {message}\nhint: where it lasts, AWS's health page says more")]
    Service {
        /// The call.
        action: String,
        /// The status of HTTP.
        status: u16,
        /// The service's own code.
        code: String,
        /// What the service said.
        message: String,
    },
    /// No answer.
    #[error("{action}: no answer from {url}: {message}\nhint: check the network, the region and AWS_ENDPOINT_URL")]
    Unreachable {
        /// The call.
        action: String,
        /// Where to.
        url: String,
        /// What happened.
        message: String,
    },
    /// An answer that is not what the service documents.
    #[error("{action}: {problem}\nhint: the interface may have changed since this version of Temper")]
    Reply {
        /// The call.
        action: String,
        /// What is wrong.
        problem: String,
    },
    /// A file cannot be read or written.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file cannot be written whole.
    #[error(transparent)]
    Run(#[from] temper_run::RunError),
}

impl Error {
    /// Whether what the user gave is at fault, and nothing was sent.
    pub fn is_bad_input(&self) -> bool {
        matches!(self, Self::Unfit { .. } | Self::Credentials { .. })
    }
}

/// A recipe or a setting of which no request can be made.
pub(crate) fn unfit(problem: impl Into<String>, hint: impl Into<String>) -> Error {
    Error::Unfit { problem: problem.into(), hint: hint.into() }
}
