//! Texts as words: what comparisons of texts are made of. A word is held by its hash; two different words of a data set share one
//! with a probability of 2^-64 a pair.

use temper_run::mix;

/// The hashes of a text's words: lower-case runs of letters and digits; a character of a script without spaces is a word of its
/// own.
pub fn word_hashes(text: &str) -> Vec<u64> {
    let mut hashes = Vec::with_capacity(text.len() / 5 + 1);
    let (mut word, mut rest) = (None, text);
    let mut letters = [0; 4];
    while let Some(&byte) = rest.as_bytes().first() {
        if byte.is_ascii() {
            if byte.is_ascii_alphanumeric() {
                word = Some(add(word.unwrap_or(BASIS), byte.to_ascii_lowercase()));
            } else {
                hashes.extend(word.take().map(mix));
            }
            rest = &rest[1..];
            continue;
        }
        let Some(c) = rest.chars().next() else { break };
        if c.is_alphanumeric() && !stands_alone(c) {
            for lower in c.to_lowercase() {
                let bytes = lower.encode_utf8(&mut letters).bytes();
                word = Some(bytes.fold(word.unwrap_or(BASIS), add));
            }
        } else {
            hashes.extend(word.take().map(mix));
            if stands_alone(c) {
                hashes.push(hash(c.encode_utf8(&mut letters).as_bytes()));
            }
        }
        rest = &rest[c.len_utf8()..];
    }
    hashes.extend(word.map(mix));
    hashes
}

/// Whether a character is of a script without spaces, and so a word of its own.
fn stands_alone(c: char) -> bool {
    matches!(c as u32, 0x0E00..=0x0EFF | 0x1780..=0x17FF | 0x3040..=0x30FF | 0x3400..=0x9FFF | 0x20000..=0x3FFFF)
}

/// A hash that is the same on every machine and in every version: FNV-1a, its bits spread.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    mix(bytes.iter().copied().fold(BASIS, add))
}

/// FNV's offset basis, and a step of it.
const BASIS: u64 = 0xCBF2_9CE4_8422_2325;

fn add(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
}

/// One hash of several, in their order.
pub(crate) fn hash_of(hashes: impl IntoIterator<Item = u64>) -> u64 {
    hashes.into_iter().fold(0x9E37_79B9_7F4A_7C15, |all, hash| mix(all.rotate_left(7) ^ hash))
}

/// The hash of each run of `length` words.
pub(crate) fn runs(words: &[u64], length: usize) -> impl Iterator<Item = u64> {
    words.windows(length).map(|run| hash_of(run.iter().copied()))
}

/// The share of runs of `length` items, given by their hashes, that repeat an earlier run: 0 where each comes once, or where there
/// is none.
pub fn repetition(items: &[u64], length: usize) -> f64 {
    // A polynomial over the run, which the next item moves on (Karp and Rabin 1987): two runs of a text share one with a
    // probability of about 2^-64.
    const BASE: u64 = 0x9E37_79B9_7F4A_7C15;
    let length = length.max(1);
    let count = (items.len() + 1).saturating_sub(length);
    if count == 0 {
        return 0.0;
    }
    let leaves = (1..length).fold(1u64, |power, _| power.wrapping_mul(BASE));
    let step = |run: u64, item: u64| run.wrapping_mul(BASE).wrapping_add(item);
    let mut run = items[..length - 1].iter().fold(0, |run, &item| step(run, item));
    // Zero is an empty place.
    let mut seen = vec![0u64; (2 * count).next_power_of_two()];
    let mut distinct = 0;
    for at in 0..count {
        run = step(run, items[at + length - 1]);
        let key = mix(run) | 1;
        run = run.wrapping_sub(items[at].wrapping_mul(leaves));
        let mut place = (key >> 20) as usize & (seen.len() - 1);
        while seen[place] != 0 && seen[place] != key {
            place = (place + 1) & (seen.len() - 1);
        }
        distinct += usize::from(seen[place] == 0);
        seen[place] = key;
    }
    (count - distinct) as f64 / count as f64
}

/// The script of a letter, roughly: the first code point of its range in Unicode's order of blocks.
pub fn script(letter: char) -> u32 {
    match letter as u32 {
        // Latin with its extensions, phonetic letters and full-width forms.
        0..=0x2FF
        | 0x1D00..=0x1DBF
        | 0x1E00..=0x1EFF
        | 0x2100..=0x218F
        | 0x2C60..=0x2C7F
        | 0xA720..=0xA7FF
        | 0xFB00..=0xFB06
        | 0xFF00..=0xFF5F => 0,
        0x370..=0x3FF | 0x1F00..=0x1FFF => 0x370,
        0x400..=0x52F | 0x1C80..=0x1C8F | 0x2DE0..=0x2DFF | 0xA640..=0xA69F => 0x400,
        0x590..=0x5FF | 0xFB1D..=0xFB4F => 0x590,
        0x600..=0x6FF | 0x750..=0x77F | 0x8A0..=0x8FF | 0xFB50..=0xFDFF | 0xFE70..=0xFEFE => 0x600,
        // Japanese is written in kana and Chinese characters.
        0x3040..=0x30FF | 0x31F0..=0x31FF | 0xFF66..=0xFF9F => 0x3040,
        0x2E80..=0x2FDF | 0x3005..=0x3007 | 0x3400..=0x9FFF | 0xF900..=0xFAFF | 0x20000..=0x3FFFF => 0x4E00,
        0x1100..=0x11FF | 0x3130..=0x318F | 0xA960..=0xA97F | 0xAC00..=0xD7FF => 0x1100,
        // Most other scripts fill one or two blocks of 128.
        code => code & !0x7F,
    }
}

/// Every text in a value, but not its keys.
pub(crate) fn each_text(value: &serde_json::Value, tell: &mut impl FnMut(&str)) {
    match value {
        serde_json::Value::String(text) => tell(text),
        serde_json::Value::Array(items) => items.iter().for_each(|item| each_text(item, tell)),
        serde_json::Value::Object(fields) => fields.values().for_each(|value| each_text(value, tell)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words themselves, a character at a time.
    fn words(text: &str) -> Vec<String> {
        let (mut words, mut word) = (Vec::new(), String::new());
        for c in text.chars() {
            if c.is_alphanumeric() && !stands_alone(c) {
                word.extend(c.to_lowercase());
                continue;
            }
            words.push(std::mem::take(&mut word));
            if stands_alone(c) {
                words.push(c.to_string());
            }
        }
        words.push(word);
        words.retain(|word| !word.is_empty());
        words
    }

    #[test]
    fn words_of_scripts_without_spaces_are_characters() {
        assert_eq!(words("Don't stop at 3.5!"), ["don", "t", "stop", "at", "3", "5"]);
        assert_eq!(words("海は青い"), ["海", "は", "青", "い"]);
        assert_eq!(word_hashes("One ONE"), [hash(b"one"); 2]);
        for text in ["", " a", "İstanbul ẞ Ünï-x9_y", "Don't stop at 3.5!", "海は青いand blue ไทย x", "e\u{301}té №7 ½"]
        {
            let each: Vec<u64> = words(text).iter().map(|word| hash(word.as_bytes())).collect();
            assert_eq!(word_hashes(text), each, "{text}");
        }
        assert_eq!(script('é'), script('a'));
        assert_eq!((script('海') == script('は'), script('я') == script('я')), (false, true));
        assert_ne!(script('я'), script('a'));
    }

    #[test]
    fn repetition_is_the_share_of_runs_that_came_before() {
        assert_eq!(repetition(&[1, 2, 3, 4], 2), 0.0);
        // 12 21 12 21 12: three of five came before.
        assert_eq!(repetition(&[1, 2, 1, 2, 1, 2], 2), 0.6);
        assert_eq!(repetition(&[1], 2), 0.0);
        assert_eq!(repetition(&[], 1), 0.0);
        // As a set of the runs themselves says.
        let random = temper_run::Random::new(3, "repetition");
        for kinds in [1, 2, 3, 50] {
            let items: Vec<u64> = (0..400).map(|at| random.bits(at) % kinds).collect();
            for length in [1, 2, 10] {
                let all: std::collections::HashSet<&[u64]> = items.windows(length).collect();
                let count = items.len() + 1 - length;
                assert_eq!(repetition(&items, length), (count - all.len()) as f64 / count as f64, "{kinds} {length}");
            }
        }
    }
}
