//! Recipes of other tools, of our own writing: each says in its own comments what is wrong with it, and nothing else may be found.

#![allow(clippy::unwrap_used, reason = "the helpers of a test may fail it")]

mod corpus;
mod journeys;
mod rewards;
