//! Text held against text: the same but for writing, overlap of words, longest common subsequence.

use unicode_normalization::UnicodeNormalization;

/// What surrounds an answer without being part of it.
const AROUND: [char; 24] = [
    '.', ',', ';', ':', '!', '?', '"', '\'', '`', '*', '(', ')', '[', ']', '{', '}', '“', '”', '‘', '’', '«', '»',
    '。', '、',
];

/// The text in compatible form (NFKC), lower case, white space as single blanks, without marks around it. What stands
/// within stays, so that `-5` is not `5` and `C++` is not `C`.
pub(crate) fn normalised(text: &str) -> String {
    let folded: String = text.nfkc().flat_map(char::to_lowercase).collect();
    let joined = folded.split_whitespace().collect::<Vec<_>>().join(" ");
    joined.trim_matches(|c: char| AROUND.contains(&c) || c.is_whitespace()).to_owned()
}

/// Words as SQuAD's script of version 1.1 makes them: lower case, ASCII punctuation removed, then articles, then split
/// at white space.
fn squad_words(text: &str) -> Vec<String> {
    let bare: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    // An article stands between boundaries of words as regular expressions know them.
    let mut kept = String::with_capacity(bare.len());
    let mut word = String::new();
    for c in bare.chars().chain([' ']) {
        if c.is_alphanumeric() || c == '_' {
            word.push(c);
        } else {
            kept.push_str(if matches!(word.as_str(), "a" | "an" | "the") { " " } else { &word });
            word.clear();
            kept.push(c);
        }
    }
    kept.split_whitespace().map(str::to_owned).collect()
}

/// F1 over the words that two texts share, each as often as both have it (Rajpurkar et al. 2016). Where one has no
/// words, 1 if neither has, else 0, as SQuAD 2.0 does it.
pub(crate) fn f1(answer: &str, reference: &str) -> f64 {
    let (ours, theirs) = (squad_words(answer), squad_words(reference));
    let mut left = std::collections::HashMap::<&str, usize>::new();
    for word in &theirs {
        *left.entry(word).or_default() += 1;
    }
    let shared = ours.iter().filter(|word| match left.get_mut(word.as_str()) {
        Some(count) if *count > 0 => {
            *count -= 1;
            true
        }
        _ => false,
    });
    measure(shared.count(), ours.len(), theirs.len())
}

/// ROUGE-L's F measure (Lin 2004) as the package `rouge_score` computes it without a stemmer: the longest common
/// subsequence of words over the words of each side. Words are runs of letters and digits in lower case, of any script,
/// where the package knows ASCII only; of scripts that are written without blanks, each character is one.
pub(crate) fn rouge_l(answer: &str, reference: &str) -> f64 {
    let (ours, theirs) = (rouge_words(answer), rouge_words(reference));
    let shared = common_subsequence(&ours, &theirs);
    if ours.is_empty() && theirs.is_empty() { 0.0 } else { measure(shared, ours.len(), theirs.len()) }
}

fn rouge_words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    for c in text.to_lowercase().chars().chain([' ']) {
        let alone = matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}');
        if c.is_alphanumeric() && !alone {
            word.push(c);
            continue;
        }
        if !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if alone && c.is_alphanumeric() {
            words.push(c.to_string());
        }
    }
    words
}

/// The harmonic mean of shared / ours and shared / theirs.
fn measure(shared: usize, ours: usize, theirs: usize) -> f64 {
    if ours == 0 || theirs == 0 {
        return if ours == theirs { 1.0 } else { 0.0 };
    }
    // 2pr / (p + r) with p = shared / ours and r = shared / theirs, in whole numbers up to the one division.
    (2 * shared) as f64 / (ours + theirs) as f64
}

/// Length of the longest common subsequence, in the memory of one row.
fn common_subsequence(a: &[String], b: &[String]) -> usize {
    let mut row = vec![0; b.len() + 1];
    for x in a {
        let mut diagonal = 0;
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = if x == y { diagonal + 1 } else { above.max(row[j]) };
            diagonal = above;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalising_leaves_what_is_meant() {
        for (text, same) in [
            (" The  Answer. ", "the answer"),
            ("**Paris**", "paris"),
            ("“Paris”", "paris"),
            ("Ｐａｒｉｓ", "paris"),
            ("ﬁve", "five"),
            ("(a)", "a"),
            ("-5", "-5"),
            ("C++", "c++"),
            ("3.14", "3.14"),
            ("E11.9", "e11.9"),
            ("...", ""),
            ("ÄRZTE", "ärzte"),
        ] {
            assert_eq!(normalised(text), same, "{text}");
        }
    }

    #[test]
    fn f1_by_squads_definition() {
        for (answer, reference, score) in [
            ("the cat", "cat", 1.0),
            ("The Cat!", "a cat", 1.0),
            ("cat sat", "cat", 2.0 / 3.0),
            ("cat cat", "cat", 2.0 / 3.0),
            ("dog", "cat", 0.0),
            ("the", "a", 1.0),
            ("", "cat", 0.0),
            ("well-known", "well known", 0.0),
            ("a_b", "a b", 0.0),
        ] {
            assert_eq!(f1(answer, reference), score, "{answer} / {reference}");
        }
    }

    #[test]
    fn rouge_l_counts_order_and_other_scripts() {
        assert_eq!(rouge_l("the cat sat on the mat", "the cat on the mat"), 10.0 / 11.0);
        assert_eq!(rouge_l("b a", "a b"), 0.5);
        assert_eq!(rouge_l("", "a"), 0.0);
        assert_eq!(rouge_l("", ""), 0.0);
        assert_eq!(rouge_l("straße", "Straße"), 1.0);
        assert_eq!(rouge_l("東京 です", "東京"), 4.0 / 6.0);
    }

    /// See `tests/golden/rewards`.
    #[test]
    fn f1_and_rouge_l_are_those_of_the_reference_implementations() {
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../../../../tests/golden/rewards/words.json")).unwrap();
        let pairs = golden["pairs"].as_array().unwrap();
        assert_eq!(pairs.len(), 200);
        for pair in pairs {
            let (answer, reference) = (pair["answer"].as_str().unwrap(), pair["reference"].as_str().unwrap());
            for (name, ours) in [("f1", f1(answer, reference)), ("rouge_l", rouge_l(answer, reference))] {
                let theirs = pair[name].as_f64().unwrap();
                assert!((ours - theirs).abs() < 1e-12, "{name}: {ours} {theirs} of `{answer}` / `{reference}`");
            }
        }
    }
}
