//! Run folders: atomic writes, the metric log, content hashes.
