//! The special tokens of a vocabulary, and where a text spells them.

use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};
use serde_json::Value;

use super::TokenizerError;

/// Finds special tokens as the reference library does: the leftmost first, of several there the longest.
#[derive(Debug, Clone)]
pub(crate) struct SpecialTokens {
    matcher: AhoCorasick,
    tokens: Vec<Special>,
}

#[derive(Debug, Clone)]
struct Special {
    id: u32,
    content: String,
    /// The token takes the white space on its left with it.
    lstrip: bool,
    /// The same on its right.
    rstrip: bool,
}

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Text(Range<usize>),
    Special(Range<usize>, u32),
}

impl SpecialTokens {
    /// Of the `added_tokens` of a `tokenizer.json`.
    pub(super) fn new(added_tokens: &Value) -> Result<SpecialTokens, TokenizerError> {
        let mut tokens = Vec::new();
        for token in added_tokens.as_array().into_iter().flatten().filter(|token| token["special"] == true) {
            let content = token["content"].as_str().unwrap_or_default().to_owned();
            if token["single_word"] == true {
                let what = format!("special token {content:?}: `single_word` is not supported");
                return Err(TokenizerError::Invalid(what));
            }
            let id = token["id"].as_u64().and_then(|id| u32::try_from(id).ok());
            let Some(id) = id.filter(|_| !content.is_empty()) else {
                return Err(TokenizerError::Invalid(format!("special token {content:?} without text or id")));
            };
            tokens.push(Special { id, content, lstrip: token["lstrip"] == true, rstrip: token["rstrip"] == true });
        }
        let matcher = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(tokens.iter().map(|token| &token.content))
            .map_err(|e| TokenizerError::Invalid(format!("special tokens: {e}")))?;
        Ok(SpecialTokens { matcher, tokens })
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = u32> {
        self.tokens.iter().map(|token| token.id)
    }

    /// Whether `text` spells one.
    pub(crate) fn are_in(&self, text: &str) -> bool {
        self.matcher.is_match(text)
    }

    /// Those that `text` spells, in order: byte range and id.
    pub(crate) fn find<'s>(&'s self, text: &'s str) -> impl Iterator<Item = (Range<usize>, u32)> + 's {
        self.matcher.find_iter(text).map(|found| (found.range(), self.tokens[found.pattern().as_usize()].id))
    }

    /// The text from end to end; parts of text are not empty. Special tokens come with the white space that they take.
    pub(crate) fn parts(&self, text: &str) -> Vec<Part> {
        let (mut parts, mut at) = (Vec::new(), 0);
        for found in self.matcher.find_iter(text) {
            let token = &self.tokens[found.pattern().as_usize()];
            let (mut start, mut end) = (found.start(), found.end());
            if token.lstrip {
                start = text[..start].trim_end().len().max(at);
            }
            if token.rstrip {
                end = text.len() - text[end..].trim_start().len();
            }
            if at < start {
                parts.push(Part::Text(at..start));
            }
            parts.push(Part::Special(start..end, token.id));
            at = end;
        }
        if at < text.len() {
            parts.push(Part::Text(at..text.len()));
        }
        parts
    }
}
