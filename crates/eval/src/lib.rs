//! Tasks, scorers, intervals, base against tuned, what was forgotten.
//!
//! Every item is scored by the base and by the tuned model. [`items`] reads the items, [`trie`] lays the labels of a
//! classification out for scoring, [`suite`] runs a model over the items, [`classify`] and [`instructions`] turn
//! answers into scores, [`stats`] turns scores into 95 % intervals (paired, and clustered where items share a source),
//! [`compare`] sets base against tuned, [`verdict`] weighs what was gained against what was kept, and [`record`] keeps
//! what became of each item.

pub mod classify;
pub mod compare;
pub mod instructions;
pub mod items;
pub mod record;
pub mod stats;
pub mod suite;
pub mod trie;
pub mod verdict;
