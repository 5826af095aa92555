//! Text of an answer while it is written.

use temper_text::Tokenizer;

/// Turns tokens into text one by one. A character may take several tokens: until it is whole, they are held back.
///
/// A token of text that continues is a run of bytes whatever stands before it, so what was handed out never changes and only the
/// tokens held back are decoded.
pub struct TextStream<'t> {
    tokenizer: &'t Tokenizer,
    held: Vec<u32>,
}

impl<'t> TextStream<'t> {
    pub fn new(tokenizer: &'t Tokenizer) -> Self {
        Self { tokenizer, held: Vec::new() }
    }

    /// What can be shown now that `token` has come; special tokens show nothing.
    pub fn push(&mut self, token: u32) -> String {
        self.held.push(token);
        let text = self.tokenizer.decode_continuation(&self.held, true);
        if text.ends_with('\u{FFFD}') {
            return String::new();
        }
        self.held.clear();
        text
    }

    /// What is left when no more tokens come: an incomplete character, as U+FFFD.
    pub fn rest(self) -> String {
        self.tokenizer.decode_continuation(&self.held, true)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use temper_text::Specials;

    #[test]
    fn pieces_are_whole_characters_and_add_up() {
        let base = std::env::var("TEMPER_TEST_GGUF")
            .expect("TEMPER_TEST_GGUF names the test model: run `cargo xtask test`, which fetches it");
        let base = temper_pipeline::open_base(&base, None, true, &mut |_| {}).unwrap();
        let tokenizer = base.renderer.tokenizer();
        let text = "naïve – 日本語 😀👩‍👩‍👧 end";
        let ids = tokenizer.encode(text, Specials::AsText);
        let mut stream = TextStream::new(tokenizer);
        let pieces: Vec<String> = ids.iter().map(|&id| stream.push(id)).collect();
        assert!(pieces.iter().any(String::is_empty), "no character of several tokens: {pieces:?}");
        assert!(!pieces.concat().contains('\u{FFFD}'), "{pieces:?}");
        assert_eq!(pieces.concat(), text);
        assert_eq!(stream.rest(), "");

        // Cut in the middle of a character, and with a special token at the end.
        let emoji = tokenizer.encode("a😀", Specials::AsText);
        let mut stream = TextStream::new(tokenizer);
        let shown: String = emoji[..emoji.len() - 1].iter().map(|&id| stream.push(id)).collect();
        assert_eq!((shown.as_str(), stream.rest().as_str()), ("a", "\u{FFFD}"));
        let mut stream = TextStream::new(tokenizer);
        assert_eq!(stream.push(tokenizer.id("<|im_end|>").unwrap()), "");
    }
}
