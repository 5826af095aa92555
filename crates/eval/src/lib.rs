//! Tasks, scorers, intervals, base against tuned, what was forgotten.
//!
//! Every item is scored by the base and by the tuned model. [`items`] reads the items, [`trie`] lays the labels of a
//! classification out for scoring, [`classify`] and [`instructions`] turn answers into scores, [`stats`] turns scores
//! into 95 % intervals (paired, and clustered where items share a source), and [`verdict`] weighs what was gained
//! against what was kept.

pub mod classify;
pub mod instructions;
pub mod items;
pub mod stats;
pub mod trie;
pub mod verdict;
