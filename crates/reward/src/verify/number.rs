//! Numbers in text: which are there, and whether two are the same.
//!
//! A number is digits with at most one decimal point; commas may group its thousands, whole ones may be divided (`3/4`,
//! `\frac{3}{4}`), and an exponent may follow (`1e-3`). What looks like a number and is none (`1.2.3`, `1,5`, `1/2/3`)
//! is not read in part. Units and signs of currency are left aside: `50%` is 50, `$3` is 3.

/// A number as it stands in a text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Number {
    pub value: f64,
    /// Of a whole number its digits with the sign, since a float has fifteen of them only.
    digits: Option<String>,
}

impl Number {
    /// Whether it is `reference` within a tolerance, or a share of the reference.
    pub fn is(&self, reference: &Self, tolerance: f64, relative: f64) -> bool {
        let room = tolerance.max(relative * reference.value.abs());
        if let (Some(ours), Some(theirs)) = (&self.digits, &reference.digits)
            && room < 1.0
        {
            return ours == theirs;
        }
        (self.value - reference.value).abs() <= room
    }
}

/// What looks like a number: its place, and the number if it is one.
struct Found {
    begin: usize,
    end: usize,
    number: Option<Number>,
}

/// The last number of a text as it is written; none where what comes last only looks like one.
pub(crate) fn last(text: &str) -> Option<&str> {
    let found = find(text).into_iter().last()?;
    found.number.and_then(|_| text.get(found.begin..found.end))
}

/// The number of a text that holds one and no other, nor anything that looks like one.
pub(crate) fn only(text: &str) -> Option<Number> {
    let mut found = find(text).into_iter();
    match (found.next(), found.next()) {
        (Some(one), None) => one.number,
        _ => None,
    }
}

fn find(text: &str) -> Vec<Found> {
    let mut all = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let before = text[..at].chars().next_back();
        match fraction(rest).or_else(|| plain(rest, before)) {
            Some((length, number)) => {
                all.push(Found { begin: at, end: at + length, number });
                at += length;
            }
            None => at += skip(rest, before),
        }
    }
    all
}

/// How far to go on where no number begins: over a whole word where one begins, since its digits are part of its name.
fn skip(rest: &str, before: Option<char>) -> usize {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let first = rest.chars().next().map_or(1, char::len_utf8);
    if rest.starts_with(|c: char| c.is_alphabetic() || c == '_') || before.is_some_and(word) {
        rest.find(|c: char| !word(c)).unwrap_or(rest.len()).max(first)
    } else {
        first
    }
}

/// `\frac{3}{4}`, also `\dfrac` and `\tfrac`, at the beginning of a text; its length and value.
fn fraction(rest: &str) -> Option<(usize, Option<Number>)> {
    let (negative, body) = match rest.strip_prefix(['-', '−']) {
        Some(body) => (true, body),
        None => (false, rest),
    };
    let body = ["\\frac", "\\dfrac", "\\tfrac"].iter().find_map(|name| body.strip_prefix(name))?;
    let (above, body) = body.strip_prefix('{')?.split_once('}')?;
    let (below, body) = body.strip_prefix('{')?.split_once('}')?;
    let number = match (whole(above.trim()), whole(below.trim())) {
        (Some(above), Some(below)) if below != 0.0 => Some(if negative { -above / below } else { above / below }),
        _ => None,
    };
    Some((rest.len() - body.len(), number.map(|value| Number { value, digits: None })))
}

fn whole(text: &str) -> Option<f64> {
    let digits = text.strip_prefix(['-', '−']);
    let value: f64 =
        digits.unwrap_or(text).bytes().all(|b| b.is_ascii_digit()).then(|| digits.unwrap_or(text).parse().ok())??;
    Some(if digits.is_some() { -value } else { value })
}

/// A number in plain writing at the beginning of a text; its length, and its value unless it only looks like one.
fn plain(rest: &str, before: Option<char>) -> Option<(usize, Option<Number>)> {
    let joined = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let signed = rest.strip_prefix(['-', '−', '+']);
    // In `3-4` and `x-1` the dash is no sign; then the number begins after it.
    if joined || (signed.is_some() && before.is_some_and(|c| matches!(c, ')' | ']' | '}'))) {
        return None;
    }
    let unsigned = signed.unwrap_or(rest);
    let starts = unsigned.starts_with(|c: char| c.is_ascii_digit())
        || unsigned.strip_prefix('.').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    if !starts {
        return None;
    }
    let run =
        unsigned.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | ',' | '/' | '_')).unwrap_or(unsigned.len());
    let run = unsigned[..run].trim_end_matches(['.', ',', '/', '_']);
    let exponent = exponent(&unsigned[run.len()..]);
    let length = rest.len() - unsigned.len() + run.len() + exponent.len();
    let negative = rest.starts_with(['-', '−']);
    Some((length, value(run, exponent, negative)))
}

/// `e-3` at the beginning of a text, where digits and no letter follow; empty where there is none.
fn exponent(rest: &str) -> &str {
    let Some(after) = rest.strip_prefix(['e', 'E']) else { return "" };
    let digits = after.strip_prefix(['+', '-']).unwrap_or(after);
    let length = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let ends = !digits[length..].starts_with(|c: char| c.is_alphanumeric() || c == '_');
    if length > 0 && ends { &rest[..rest.len() - digits.len() + length] } else { "" }
}

fn value(run: &str, exponent: &str, negative: bool) -> Option<Number> {
    let sign = if negative { -1.0 } else { 1.0 };
    if let Some((above, below)) = run.split_once('/') {
        let (above, below) = (whole(above)?, whole(below)?);
        let divided = exponent.is_empty() && below != 0.0;
        return divided.then(|| Number { value: sign * above / below, digits: None });
    }
    let (head, decimals) = run.split_once('.').map_or((run, None), |(head, decimals)| (head, Some(decimals)));
    let head = ungrouped(head)?;
    if decimals.is_some_and(|decimals| !decimals.bytes().all(|b| b.is_ascii_digit())) {
        return None;
    }
    let value: f64 = format!("{head}.{}{exponent}", decimals.unwrap_or_default()).parse().ok()?;
    let is_whole = exponent.is_empty() && decimals.is_none_or(|decimals| decimals.bytes().all(|b| b == b'0'));
    let digits = is_whole.then(|| {
        let digits = head.trim_start_matches('0');
        format!("{}{digits}", if negative && !digits.is_empty() { "-" } else { "" })
    });
    value.is_finite().then_some(Number { value: sign * value, digits })
}

/// The digits before the decimal point, without the commas that group them by three.
fn ungrouped(head: &str) -> Option<String> {
    let mut groups = head.split(',');
    let first = groups.next()?;
    let grouped = head.contains(',');
    let fits = !grouped || ((1..=3).contains(&first.len()) && groups.all(|group| group.len() == 3));
    let digits: String = head.chars().filter(|&c| c != ',').collect();
    (fits && digits.bytes().all(|b| b.is_ascii_digit())).then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value_of(text: &str) -> Option<f64> {
        only(text).map(|number| number.value)
    }

    #[test]
    fn numbers_as_people_write_them() {
        for (text, value) in [
            ("1,234", 1234.0),
            ("1,234,567.50", 1_234_567.5),
            ("-0", 0.0),
            ("+5", 5.0),
            ("\u{2212}7", -7.0),
            ("3/4", 0.75),
            ("-3/4", -0.75),
            (r"\frac{3}{4}", 0.75),
            (r"-\dfrac{1}{2}", -0.5),
            ("12.", 12.0),
            ("12.,", 12.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e-3", 0.001),
            ("2.5E+2", 250.0),
            ("$1,200.00", 1200.0),
            ("50%", 50.0),
            ("12 km", 12.0),
            ("12km", 12.0),
            ("3rd", 3.0),
            ("x = -5.", -5.0),
            ("(-5)", -5.0),
            ("about 007", 7.0),
            ("H2O has 3 atoms", 3.0),
            ("the x2 is 4", 4.0),
        ] {
            assert_eq!(value_of(text), Some(value), "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_a_number_is_not_read_in_part() {
        for text in
            ["1.2.3", "1,5", "1,23", "1234,567", "1/2/3", "3/0", "1_000", "1,2,3", "", "x", r"\frac{1}{0}", "1e999"]
        {
            assert_eq!(value_of(text), None, "{text}");
            assert_eq!(last(text), None, "{text}");
        }
    }

    #[test]
    fn two_numbers_are_no_answer_and_the_last_is_found() {
        for (text, last_one) in [
            ("5 or 6", "6"),
            ("3-4", "4"),
            ("12:30", "30"),
            ("3 1/2", "1/2"),
            ("The total is 1,234.50 dollars.", "1,234.50"),
            ("x=3, y=-4.", "-4"),
            ("3 - 4", "4"),
            ("2e5x and 1", "1"),
        ] {
            assert_eq!(last(text), Some(last_one), "{text}");
        }
        assert_eq!(value_of("5 or 6"), None);
        // What comes last is no number: not the one before it either.
        assert_eq!(last("3 of version 1.2.3"), None);
    }

    #[test]
    fn large_whole_numbers_are_compared_by_their_digits() {
        let number = |text: &str| only(text).unwrap();
        assert!(!number("9007199254740993").is(&number("9007199254740992"), 1e-6, 0.0));
        assert!(number("9,007,199,254,740,993.0").is(&number("9007199254740993"), 1e-6, 0.0));
        assert!(number("-0").is(&number("0"), 0.0, 0.0));
        assert!(number("0.3333333").is(&number("1/3"), 1e-6, 0.0));
        assert!(!number("0.333").is(&number("1/3"), 1e-6, 0.0));
        assert!(number("101").is(&number("100"), 0.0, 0.011));
        assert!(!number("102").is(&number("100"), 0.0, 0.011));
        assert!(number("10").is(&number("1e1"), 0.0, 0.0));
    }
}
