//! Files to rows to packed batches; the mix.
//!
//! ```text
//! file -- read_rows --> rows -- Preparing --> Source (tokens on disk) --+
//!                                                                       +-- schedule --> Schedule -- micro_batches --> MicroBatch
//! file -- read_rows --> rows -- Preparing --> Source (tokens on disk) --+
//! ```
//! - [`read_rows`], [`load_rows`]: strict reading of every [`Format`] from every kind of file; every bad row is reported with
//!   its line.
//! - [`prepare_file`]: rows to token ids and loss weights; every row that is left out has a reason and is counted.
//! - [`schedule`]: which row is seen at which step, a pure function of sources, shares and seed.
//! - [`keeps`]: whether rows keep what Amazon Nova asks of them.
//! - [`convert`]: rows of one format as rows of another, with what is lost.
//! - [`together`] and [`hold_out`]: which rows must stay together, and which are held out.
//! - [`micro_batches`], [`pair_batches`]: whole rows, or pairs of answers, packed without padding, which do not see each other.
//! - [`check_files`], [`Checker`]: what is wrong with rows, beside each other and beside what is held out; [`Filters`]: which
//!   rows are left out for it, where the user asks for that.
//!
//! Loss weights are carried, never divided: the loss of a step is `sum(weight * nll) / sum(weight)` over its whole global
//! batch, and the one division is made where that is computed.

mod check;
mod contract;
mod convert;
mod error;
mod examples;
mod filter;
mod format;
mod mix;
mod near;
mod overlap;
mod pack;
mod prepare;
mod private;
mod read;
mod report;
mod row;
mod split;
mod view;
mod words;
mod write;

pub use check::{
    Action, Check, CheckOptions, CheckReport, Checker, Finding, LengthUnit, Lengths, Place, Severity, check_files,
};
pub use contract::{Breach, Contract, ContractReport, Purpose, keeps};
pub use convert::{Conversion, Nova, Writing, convert};
pub use error::{DataError, RowProblem};
pub use examples::{Example, Examples, ExamplesWriter, Pair};
pub use filter::{Filtered, Filtering, Filters, Treatment};
pub use format::Format;
pub use mix::{ExampleRef, Extent, MixError, MixUnit, Schedule, ShareReport, SourceShare, Units, schedule};
pub use near::{NearIndex, Prepared, shingles};
pub use overlap::{HeldOut, HeldOutKind, RunIndex, SHARED_RUN, each_item};
pub use pack::{MicroBatch, PackedPair, PairBatch, Target, micro_batches, pair_batches};
pub use prepare::{Preparing, RowOrder, RowRules, Source, Tell, Wanted, prepare, prepare_file, prepare_filtered};
pub use private::{Private, masked, private};
pub use read::{
    Expanded, FileRows, ReadOptions, expand, is_known_ending, known_endings, load_rows, parse_rows, read_rows,
};
pub use report::{DropReason, Dropped, LengthReport, SourceReport, Split, TurnsApart};
pub use row::{LoadedRows, Passage, Preference, Row, RowContent, RowKind, Task};
pub use split::{HoldOut, Side, Together, hold_out, together};
pub use words::{repetition, script, word_hashes};
pub use write::{RowsWriter, Shape};
