//! What a run came to, for people: one self-contained page, and a model card beside each model that it left.
//!
//! [`RunFolder::read`] takes the files of a run as they lie on the disk, finished or not; nothing here knows of models.
//! [`RunFolder::write_report`] makes `report.html`: no scripts, no network, no fonts of its own, light and dark, printable.
//! [`RunFolder::write_cards`] makes the `README.md` of `adapter/` and `merged/`.
//!
//! [`rows_page`] shows rows of data token by token; [`study`] is what a search came to, as a page and as text; [`arms`] what each
//! stage of a recipe brings.
//!
//! The way: `folder` reads; `answer`, `advice`, `intervals`, `averages`, `rft`, `curves`, `items`, `findings` and `provenance` each make one part of
//! the page; `page` puts them into `template/report.html`, which escapes every text, as every page; `axis` and `plot` draw for the
//! pages of studies and of arms; `card` fills `template/card.md`. Numbers become text in `number` only.

mod advice;
mod answer;
pub mod arms;
mod averages;
mod axis;
mod card;
mod chart;
mod curves;
mod error;
mod findings;
mod folder;
mod intervals;
mod items;
mod metrics;
mod number;
mod page;
mod plot;
mod provenance;
mod rft;
mod rows;
pub mod study;

pub use advice::{Advice, Advised, NextStep};
pub use averages::point_rows;
pub use error::ReportError;
pub use folder::RunFolder;
pub use number::{Style, bytes, count, duration, percent};
pub use rows::{ShownRow, ShownToken, rows_page};
