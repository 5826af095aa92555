//! Checks of a text by itself.

use crate::view::{Turn, View};
use crate::words::repetition;

/// The length of the runs by which a text is judged repetitive, in words and in characters, and the share of them that may have
/// come before; runs and share as in the Nova Forge SDK's filters, which count by a slightly stricter rule.
const REPEATED_RUN: usize = 10;
/// See [`REPEATED_RUN`].
pub(crate) const MAX_REPETITION: f64 = 0.5;
/// Characters of a text that are looked at: in a long one every run of ten comes again.
const LOOKED_AT: usize = 4000;

/// The most repetitive of a row's texts, 0 to 1: the share of its runs of words or characters that came before.
pub(crate) fn repetition_of(view: &View<'_>) -> f64 {
    let of = |turn: &Turn<'_>| {
        let characters: Vec<u64> = turn.text.chars().take(LOOKED_AT).map(u64::from).collect();
        repetition(turn.words(), REPEATED_RUN).max(repetition(&characters, REPEATED_RUN))
    };
    view.turns.iter().map(of).fold(0.0, f64::max)
}

/// Whether a text was decoded wrongly somewhere: it holds the replacement character, control characters of C1, or characters
/// that are those of Windows-1252 or Latin-1 for the bytes of UTF-8, as ftfy has it (Speer 2019).
pub(crate) fn is_mojibake(text: &str) -> bool {
    if text.is_ascii() {
        return false;
    }
    if text.chars().any(|c| matches!(c, '\u{FFFD}' | '\u{80}'..='\u{84}' | '\u{86}'..='\u{9F}')) {
        return true;
    }
    text.split(|c: char| c.is_ascii()).filter(|run| run.chars().nth(1).is_some()).any(|run| {
        let bytes: Option<Vec<u8>> = run.chars().map(windows_1252).collect();
        bytes.is_some_and(|bytes| std::str::from_utf8(&bytes).is_ok())
    })
}

/// The byte of a character in Windows-1252.
fn windows_1252(c: char) -> Option<u8> {
    const HIGH: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8D}', 'Ž', '\u{8F}', '\u{90}', '‘',
        '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9D}', 'ž', 'Ÿ',
    ];
    match c as u32 {
        code @ (0..=0x7F | 0xA0..=0xFF) => Some(code as u8),
        _ => HIGH.iter().position(|&high| high == c).map(|at| 0x80 + at as u8),
    }
}

/// Answers that stand for one that was not given, as spreadsheets and programs write them.
const PLACEHOLDERS: [&str; 22] = [
    "n/a",
    "#n/a",
    "na",
    "nan",
    "none",
    "null",
    "nil",
    "undefined",
    "todo",
    "tbd",
    "tba",
    "fixme",
    "xxx",
    "-",
    "--",
    "?",
    "??",
    "...",
    "…",
    "#value!",
    "#ref!",
    "placeholder",
];

/// Whether an answer is a placeholder.
pub(super) fn is_placeholder(answer: &str) -> bool {
    let answer = answer.trim().trim_matches(|c| "[]<>(){}\"'`".contains(c)).to_lowercase();
    let answer = answer.strip_suffix('.').filter(|rest| rest.ends_with(char::is_alphabetic)).unwrap_or(&answer);
    PLACEHOLDERS.contains(&answer) || answer.starts_with("lorem ipsum")
}

/// What Nova Forge reserves (its SDK's validation of supervised rows), each also in capitals.
const RESERVED: [&str; 9] =
    ["System:", "User:", "Bot:", "Assistant:", "Thought:", "[EOS]", "<image>", "<video>", "<unk>"];

/// Which of the reserved strings a text holds.
pub(super) fn reserved(text: &str) -> impl Iterator<Item = &'static str> + '_ {
    let (bytes, mut found) = (text.as_bytes(), [false; RESERVED.len()]);
    // Each has one of these characters, so that most of a text is passed over.
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| matches!(byte, b':' | b'[' | b'<')) {
        for (word, found) in RESERVED.iter().zip(&mut found) {
            let role = word.ends_with(':');
            let start = if role { (at + 1).checked_sub(word.len()) } else { Some(at) };
            let Some(start) = start else { continue };
            let Some(there) = bytes.get(start..start + word.len()) else { continue };
            // `user:` in the middle of a sentence is no role.
            let upper = there.iter().all(|byte| !byte.is_ascii_lowercase());
            let lower = !role && there.iter().all(|byte| !byte.is_ascii_uppercase());
            let cased = there == word.as_bytes() || (upper || lower) && there.eq_ignore_ascii_case(word.as_bytes());
            *found |= cased && !text[..start].ends_with(char::is_alphanumeric);
        }
    }
    RESERVED.into_iter().zip(found).filter(|(_, found)| *found).map(|(word, _)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mojibake_is_told_from_foreign_text() {
        for text in ["cafÃ©", "itâ€™s", "MÃ¼ller und SÃ¶hne", "Â© 2020", "half a \u{FFFD}", "ÐŸÑ€Ð¸Ð²ÐµÑ‚"]
        {
            assert!(is_mojibake(text), "{text}");
        }
        for text in [
            "café",
            "it’s",
            "Müller und Söhne",
            "© 2020",
            "Привет",
            "São Paulo",
            "海は青い",
            "naïve “quotes” – fine",
            "ÉCOLE ÂGÉE",
            "«Ça»",
        ] {
            assert!(!is_mojibake(text), "{text}");
        }
    }

    #[test]
    fn placeholders_are_whole_answers() {
        for text in ["N/A", " todo ", "[TBD]", "...", "<placeholder>", "None.", "nan", "Lorem ipsum dolor sit amet"] {
            assert!(is_placeholder(text), "{text}");
        }
        for text in ["None of these", "Nantes", "Nobody.", "A to-do list", "", "x"] {
            assert!(!is_placeholder(text), "{text}");
        }
    }

    #[test]
    fn reserved_strings_are_words() {
        assert_eq!(reserved("User: hello <image>").collect::<Vec<_>>(), ["User:", "<image>"]);
        assert_eq!(reserved("ASSISTANT: [EOS]").collect::<Vec<_>>(), ["Assistant:", "[EOS]"]);
        assert_eq!(reserved("the user: a SuperUser: and images").count(), 0);
    }
}
