//! What the rest of the crate says to people at a command line, said to those who wrote a study.

/// A text that names flags of `temper nova submit`, with the keys of a study in their place: `--max-hours` is `max_hours` here.
pub(super) fn as_keys(text: &str) -> String {
    let mut pieces = text.split("--");
    let mut said = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let end = piece.find(|c: char| !c.is_ascii_lowercase() && c != '-').unwrap_or(piece.len());
        let (flag, rest) = piece.split_at(end);
        match flag {
            // What shows a study's requests is `temper tune --plan`.
            "dry-run" => said += &format!("--plan{rest}"),
            "metric" => said += &format!("`metrics`{rest}"),
            _ => said += &format!("`{}`{rest}", flag.replace('-', "_")),
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_told_as_keys() {
        assert_eq!(as_keys("say also --role ARN, x; --max-hours, y"), "say also `role` ARN, x; `max_hours`, y");
        assert_eq!(as_keys("--metric has no place"), "`metrics` has no place");
        assert_eq!(as_keys("nothing - here; `--dry-run` shows"), "nothing - here; `--plan` shows");
    }
}
