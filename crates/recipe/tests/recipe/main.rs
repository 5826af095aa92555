//! The recipe as its users meet it: files in, values or problems out.

#![allow(clippy::unwrap_used, reason = "the helpers of a test may fail it")]

mod folder;
mod refusals;
mod rewards;
mod schema;
mod values;
