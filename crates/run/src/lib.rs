//! Run folders: atomic writes, the metric log, content hashes; and the random numbers of a run.
//!
//! A run is a folder that people and tools can read. This crate is the only one that writes under a final name, and it
//! keeps one promise: **nothing under a final name is ever half-written**. It knows nothing of models.
//!
//! - [`write_atomic`] and [`write_dir_atomic`]: built aside, synced to the disk, renamed into place.
//! - [`RunDir`]: the folder of one run; an older run of the same name is refused or moved aside, never deleted.
//! - [`JsonLog`]: `metrics.jsonl`, `events.jsonl`; one flushed line a record.
//! - [`ScalarLog`], [`ScalarFiles`]: TensorBoard event files, written and read.
//! - [`to_json`]: JSON in which NaN and the infinities are the strings `"NaN"`, `"Infinity"`, `"-Infinity"`.
//! - [`sha256_file`], [`sha256_bytes`]: content hashes in lower-case hex.
//! - [`Severity`]: how much a finding matters, as every file that holds findings has it.
//! - [`Random`]: every random number of a run, a pure function of seed, purpose and index.

mod atomic;
mod date;
mod error;
mod hash;
mod json;
mod log;
mod nonfinite;
mod random;
mod run_dir;
mod scalars;
mod severity;
mod tensorboard;

pub use atomic::{sweep, write_atomic, write_dir_atomic};
pub use date::{day, utc_now};
pub use error::RunError;
pub use hash::{sha256_bytes, sha256_file};
pub use json::{from_python_json, to_json, to_json_pretty};
pub use log::JsonLog;
pub use random::{Random, mix};
pub use run_dir::{Existing, RunDir, move_aside};
pub use scalars::{Scalar, ScalarFiles};
pub use severity::Severity;
pub use tensorboard::ScalarLog;
