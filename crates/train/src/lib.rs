//! Objectives, optimiser, schedule, the loop, checkpoints.
