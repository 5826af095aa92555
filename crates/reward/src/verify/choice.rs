//! One option of several: which letter, or which option's text, an answer names.

use super::words::normalised;

/// What an answer names: the place of an option, from 0. None where it names none, or several.
///
/// In this order: the whole answer is an option's text; it is one letter; a letter follows the last "answer"; it begins
/// with a letter that is marked as one, such as `(B)` or `B.`; one letter only is marked so; one option's text only
/// occurs.
pub(crate) fn named(answer: &str, options: &[String]) -> Option<usize> {
    let count = if options.is_empty() { 26 } else { options.len().min(26) };
    let bare = normalised(answer);
    if let Some(place) = options.iter().position(|option| normalised(option) == bare) {
        return Some(place);
    }
    if let Some(place) = alone(&bare, count) {
        return Some(place);
    }
    let letters = letters(answer, count);
    if let Some(after) = after_cue(answer) {
        let mut behind = letters.iter().filter(|letter| letter.at >= after);
        if let Some(first) = behind.next()
            && near(&answer[after..first.at])
        {
            return (!hedged(&answer[first.at + 1..], count)).then_some(first.place);
        }
    }
    let mut marked = letters.iter().filter(|letter| letter.marked);
    if let Some(first) = marked.next() {
        let begins = answer[..first.at].chars().all(|c| !c.is_alphanumeric());
        let sole = marked.all(|letter| letter.place == first.place);
        return ((begins || sole) && !hedged(&answer[first.at + 1..], count)).then_some(first.place);
    }
    only_text(&bare, options)
}

struct Letter {
    /// The byte at which it stands.
    at: usize,
    place: usize,
    /// Whether something beside it says that it names an option: brackets, a colon, a full stop, stars.
    marked: bool,
}

fn place(letter: char, count: usize) -> Option<usize> {
    let upper = letter.to_ascii_uppercase();
    upper.is_ascii_uppercase().then(|| usize::from(upper as u8 - b'A')).filter(|place| *place < count)
}

/// One letter and nothing else.
fn alone(text: &str, count: usize) -> Option<usize> {
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(letter), None) => place(letter, count),
        _ => None,
    }
}

/// All capital letters that stand by themselves.
fn letters(text: &str, count: usize) -> Vec<Letter> {
    let chars: Vec<(usize, char)> = text.char_indices().collect();
    let part =
        |c: Option<&(usize, char)>| c.is_some_and(|(_, c)| c.is_alphanumeric() || matches!(c, '_' | '\'' | '’' | '-'));
    let mut found = Vec::new();
    for (index, &(at, letter)) in chars.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|index| chars.get(index));
        let after = chars.get(index + 1);
        if !letter.is_ascii_uppercase() || part(before) || part(after) {
            continue;
        }
        if let Some(place) = place(letter, count) {
            let opened = matches!(before, Some((_, '(' | '[' | '{' | '*')));
            let closed = matches!(after, Some((_, ')' | ']' | '}' | '*' | '.' | ':'))) || (opened && after.is_none());
            found.push(Letter { at, place, marked: closed });
        }
    }
    found
}

/// Where the last "answer" ends.
fn after_cue(text: &str) -> Option<usize> {
    // ASCII lower case keeps the places of bytes.
    let lower = text.to_ascii_lowercase();
    lower.rfind("answer").map(|at| at + "answer".len())
}

/// Whether what stands between "answer" and a letter leads to it: few and small words.
fn near(between: &str) -> bool {
    let small =
        ["is", "the", "option", "choice", "correct", "be", "would", "should", "must", "letter", "text", "boxed", "s"];
    let words: Vec<String> = between
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    !between.contains('\n') && words.iter().all(|word| small.contains(&word.as_str()))
}

/// Whether another letter is named in the same breath, as in "A or B", "A, B" and "A/B".
fn hedged(after: &str, count: usize) -> bool {
    let rest = after.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, ')' | ']' | '}' | '*' | '.'));
    let rest = ["or ", "and ", "/", ",", "&"].iter().find_map(|word| rest.strip_prefix(word));
    rest.is_some_and(|rest| {
        let rest = rest.trim_start_matches(|c: char| !c.is_alphanumeric());
        letters(rest, count).first().is_some_and(|letter| letter.at == 0)
    })
}

/// The option whose text occurs as whole words, where it is the only one that is not part of another's.
fn only_text(answer: &str, options: &[String]) -> Option<usize> {
    let occurs = |text: &str| {
        !text.is_empty()
            && answer.match_indices(text).any(|(at, _)| {
                let word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
                !word(answer[..at].chars().next_back()) && !word(answer[at + text.len()..].chars().next())
            })
    };
    let texts: Vec<String> = options.iter().map(|option| normalised(option)).collect();
    let found: Vec<usize> = (0..texts.len()).filter(|&place| occurs(&texts[place])).collect();
    let within = |inner: usize| found.iter().any(|&outer| outer != inner && texts[outer].contains(&texts[inner]));
    let mut outer = found.iter().copied().filter(|&place| !within(place));
    match (outer.next(), outer.next()) {
        (Some(place), None) => Some(place),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(answer: &str) -> Option<char> {
        named(answer, &[]).and_then(|place| char::from_u32('A' as u32 + u32::try_from(place).unwrap()))
    }

    #[test]
    fn letters_as_models_write_them() {
        for answer in [
            "B",
            "b",
            " b. ",
            "(B)",
            "B.",
            "B)",
            "[B]",
            "**B**",
            "B: because of this",
            "(B) the heart, since A is wrong",
            "The answer is B",
            "The correct answer is (B).",
            "Answer: B",
            "answer: **B**",
            "Final answer: \\boxed{B}",
            "A is tempting. But the answer is B.",
            "I think it is (B).",
            "Option A fails. Answer: B, as said.",
            "The answer is A. No, wait: the answer is B.",
            "It must be B).",
        ] {
            assert_eq!(letter(answer), Some('B'), "{answer}");
        }
    }

    #[test]
    fn naming_several_or_none_is_no_answer() {
        for answer in [
            "",
            "A or B",
            "The answer is A or B",
            "Answer: A, B",
            "(A) and (B)",
            "I do not know",
            "Is it (A)? Or (B)?",
            "BB",
            "I'm not sure",
            "The answer is unclear, see B-12",
            "Answer: A/B",
        ] {
            assert_eq!(letter(answer), None, "{answer}");
        }
    }

    #[test]
    fn options_bound_the_letters_and_their_texts_count() {
        let options: Vec<String> = ["heart", "heart attack", "liver"].iter().map(|text| (*text).to_owned()).collect();
        let of = |answer: &str| named(answer, &options);
        assert_eq!(of("Heart attack."), Some(1));
        assert_eq!(of("It is the heart"), Some(0));
        assert_eq!(of("It is a heart attack, surely"), Some(1));
        assert_eq!(of("heart or liver"), None);
        assert_eq!(of("delivery"), None);
        assert_eq!(of("C"), Some(2));
        assert_eq!(of("D"), None);
    }
}
