//! What a `tokenizer.json` says of itself: its kind, what of it could lose text, and whether it writes a space before text.

use serde_json::Value;

use super::TokenizerError;

/// Whether a vocabulary writes a space before text that starts without one, as SentencePiece does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prefix {
    Never,
    /// Only where the whole text starts.
    First,
    /// After special tokens as well.
    Each,
}

/// Every `type` in a part of a `tokenizer.json`, with the object that has it.
fn parts_of(part: &Value) -> Vec<(&str, &Value)> {
    let mut found = Vec::new();
    match part {
        Value::Object(fields) => {
            found.extend(part["type"].as_str().map(|kind| (kind, part)));
            found.extend(fields.values().flat_map(parts_of));
        }
        Value::Array(items) => found.extend(items.iter().flat_map(parts_of)),
        _ => {}
    }
    found
}

/// Whether the tokenizer is byte-level; the other kind has byte fallback. Refuses by name what could lose text.
pub(super) fn check_kind(json: &Value) -> Result<bool, TokenizerError> {
    let model = &json["model"];
    // Old files leave the type out.
    let kind = model["type"].as_str().or(model["merges"].as_array().map(|_| "BPE")).unwrap_or("unknown");
    let pre_tokenizers = parts_of(&json["pre_tokenizer"]);
    let byte_level = pre_tokenizers.iter().any(|(kind, _)| *kind == "ByteLevel");
    let fallback = model["byte_fallback"] == true;
    let supported = match kind {
        "BPE" => model["dropout"].is_null() && (byte_level || fallback),
        _ => false,
    };
    if !supported {
        return Err(TokenizerError::Invalid(format!(
            "model {kind}{}{} is not supported, expected BPE, byte-level or with byte fallback, without dropout",
            if byte_level || fallback { "" } else { " with neither byte-level pre-tokenizer nor byte fallback" },
            if model["dropout"].is_null() { "" } else { " with dropout" },
        )));
    }
    for (kind, _) in parts_of(&json["normalizer"]) {
        if !matches!(kind, "Sequence" | "NFC" | "Prepend" | "Replace") {
            let what =
                format!("normalizer {kind} is not supported, expected NFC, Prepend or Replace: others change the text");
            return Err(TokenizerError::Invalid(what));
        }
    }
    for (kind, part) in pre_tokenizers {
        let keeps =
            matches!(kind, "Sequence" | "ByteLevel" | "Digits" | "Metaspace" | "Punctuation" | "UnicodeScripts")
                || (kind == "Split" && part["behavior"] != "Removed");
        if !keeps {
            let what = format!("pre-tokenizer {kind} is not supported: it could drop text");
            return Err(TokenizerError::Invalid(what));
        }
    }
    Ok(byte_level)
}

/// Takes out of a `tokenizer.json` what writes a space before text (and what takes it away again in decoding), and says
/// what that was.
pub(super) fn remove_prefix(json: &mut Value) -> Prefix {
    fn walk(part: &mut Value, prefix: &mut Prefix) {
        match part {
            Value::Array(items) => {
                let before = items.len();
                items.retain(|item| item["type"] != "Prepend" && item["type"] != "Strip");
                if items.len() < before {
                    *prefix = Prefix::Each;
                }
                items.iter_mut().for_each(|item| walk(item, prefix));
            }
            Value::Object(_) if part["type"] == "Prepend" => (*part, *prefix) = (Value::Null, Prefix::Each),
            Value::Object(_) if part["type"] == "Metaspace" => {
                let scheme = match part["prepend_scheme"].as_str() {
                    Some("never") => Prefix::Never,
                    _ if part["add_prefix_space"] == false => Prefix::Never,
                    Some("first") => Prefix::First,
                    _ => Prefix::Each,
                };
                if scheme != Prefix::Never && *prefix == Prefix::Never {
                    *prefix = scheme;
                }
                part["prepend_scheme"] = "never".into();
                part["add_prefix_space"] = false.into();
            }
            Value::Object(fields) => {
                if fields.get("type").is_some_and(|kind| kind == "ByteLevel")
                    && fields.insert("add_prefix_space".to_owned(), false.into()) == Some(true.into())
                {
                    *prefix = Prefix::Each;
                }
                fields.values_mut().for_each(|field| walk(field, prefix));
            }
            _ => {}
        }
    }
    let mut prefix = Prefix::Never;
    for part in ["normalizer", "pre_tokenizer"] {
        walk(&mut json[part], &mut prefix);
    }
    if prefix != Prefix::Never {
        walk(&mut json["decoder"], &mut Prefix::Never);
    }
    prefix
}
