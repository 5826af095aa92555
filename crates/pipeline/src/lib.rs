//! From recipe to plan to run: bases, stages in order, verdict.
