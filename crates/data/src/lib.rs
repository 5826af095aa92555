//! Files to rows to packed batches; the mix.
//!
//! ```text
//! JSONL file -- load_rows --> LoadedRows -- prepare --> Source --+
//!                                                                +-- schedule --> Schedule -- micro_batches --> MicroBatch
//! JSONL file -- load_rows --> LoadedRows -- prepare --> Source --+
//! ```
//! - [`load_rows`]: strict reading; every bad row is reported with its line.
//! - [`prepare`]: rows to token ids and loss weights; every row that is left out has a reason and is counted.
//! - [`schedule`]: which row is seen at which step, a pure function of sources, shares and seed.
//! - [`together`] and [`hold_out`]: which rows must stay together, and which are held out.
//! - [`micro_batches`]: whole rows packed without padding, which do not see each other.
//!
//! Loss weights are carried, never divided: the loss of a step is `sum(weight * nll) / sum(weight)` over its whole global
//! batch, and the one division is made where that is computed.

mod mix;
mod pack;
mod prepare;
mod rows;
mod split;

pub use mix::{ExampleRef, Extent, MixError, MixUnit, Schedule, ShareReport, SourceShare, Units, schedule};
pub use pack::{MicroBatch, Target, micro_batches};
pub use prepare::{DropReason, Dropped, Example, LengthReport, Source, SourceReport, prepare};
pub use rows::{DataError, LoadedRows, Row, RowContent, RowKind, RowProblem, load_rows, parse_rows};
pub use split::{HoldOut, NEAR, Side, Together, hold_out, together};
