//! Tasks, scorers, intervals, base against tuned, what was forgotten.
