//! Secrets and personal data in texts: what they are and where, never what they say. Only what can be told with certainty by its
//! form: secrets as in gitleaks' default rules, card numbers by network, grouping and Luhn's check digit, IBANs by country, length and
//! remainder mod 97 (ISO 13616).

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Private {
    /// Id of an AWS access key.
    AwsKey,
    /// A PEM block of a private key.
    PrivateKey,
    /// A token of GitHub.
    GithubToken,
    /// A token of Slack.
    SlackToken,
    /// A key of OpenAI, Anthropic or another service that writes `sk-`.
    ApiKey,
    /// A key of Google's APIs.
    GoogleKey,
    /// A token of Hugging Face.
    HuggingFaceToken,
    /// A secret key of Stripe.
    StripeKey,
    /// A JSON web token.
    Jwt,
    /// A URL with a password.
    PasswordInUrl,
    /// An e-mail address.
    Email,
    /// The number of a payment card.
    CardNumber,
    /// The number of a bank account.
    Iban,
}

impl Private {
    /// Whether it opens something, rather than belonging to a person.
    pub fn is_secret(self) -> bool {
        !matches!(self, Private::Email | Private::CardNumber | Private::Iban)
    }

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Private::AwsKey => "AWS access key",
            Private::PrivateKey => "private key",
            Private::GithubToken => "GitHub token",
            Private::SlackToken => "Slack token",
            Private::ApiKey => "API key (sk-)",
            Private::GoogleKey => "Google API key",
            Private::HuggingFaceToken => "Hugging Face token",
            Private::StripeKey => "Stripe key",
            Private::Jwt => "JSON web token",
            Private::PasswordInUrl => "password in a URL",
            Private::Email => "e-mail address",
            Private::CardNumber => "card number",
            Private::Iban => "IBAN",
        }
    }

    /// What stands in its place when it is masked.
    pub fn mask(self) -> &'static str {
        match self {
            Private::AwsKey => "[AWS_ACCESS_KEY]",
            Private::PrivateKey => "[PRIVATE_KEY]",
            Private::GithubToken => "[GITHUB_TOKEN]",
            Private::SlackToken => "[SLACK_TOKEN]",
            Private::ApiKey => "[API_KEY]",
            Private::GoogleKey => "[GOOGLE_API_KEY]",
            Private::HuggingFaceToken => "[HUGGING_FACE_TOKEN]",
            Private::StripeKey => "[STRIPE_KEY]",
            Private::Jwt => "[JSON_WEB_TOKEN]",
            Private::PasswordInUrl => "[PASSWORD]",
            Private::Email => "[EMAIL_ADDRESS]",
            Private::CardNumber => "[CARD_NUMBER]",
            Private::Iban => "[IBAN]",
        }
    }
}

/// Keys that begin with a mark: the mark, the least number of characters after it, the most, what they are made of, what it is.
type Marked = (&'static str, usize, usize, fn(u8) -> bool, Private);

const fn word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

const fn dashed(byte: u8) -> bool {
    word(byte) || byte == b'-'
}

const fn upper(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit()
}

const MARKED: [Marked; 18] = [
    ("AKIA", 16, 16, upper, Private::AwsKey),
    ("ASIA", 16, 16, upper, Private::AwsKey),
    ("ghp_", 36, 251, word, Private::GithubToken),
    ("gho_", 36, 251, word, Private::GithubToken),
    ("ghu_", 36, 251, word, Private::GithubToken),
    ("ghs_", 36, 251, word, Private::GithubToken),
    ("ghr_", 36, 251, word, Private::GithubToken),
    ("github_pat_", 22, 251, word, Private::GithubToken),
    ("xoxb-", 20, 251, dashed, Private::SlackToken),
    ("xoxp-", 20, 251, dashed, Private::SlackToken),
    ("xoxa-", 20, 251, dashed, Private::SlackToken),
    ("xoxr-", 20, 251, dashed, Private::SlackToken),
    ("xoxs-", 20, 251, dashed, Private::SlackToken),
    ("sk-", 20, 251, dashed, Private::ApiKey),
    ("AIza", 35, 35, dashed, Private::GoogleKey),
    ("hf_", 34, 40, word, Private::HuggingFaceToken),
    ("sk_live_", 16, 251, word, Private::StripeKey),
    ("rk_live_", 16, 251, word, Private::StripeKey),
];

/// All that was found, in order, without overlaps.
pub fn private(text: &str) -> Vec<(Range<usize>, Private)> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    for (at, &byte) in bytes.iter().enumerate() {
        match byte {
            b'@' => found.extend(email(text, at)),
            b':' => found.extend(password_in_url(text, at)),
            b'-' => found.extend(private_key(text, at)),
            _ => {}
        }
        if at > 0 && word(bytes[at - 1]) {
            continue;
        }
        if byte.is_ascii_alphabetic() {
            found.extend(marked(bytes, at).or_else(|| jwt(bytes, at)).or_else(|| iban(bytes, at)));
        } else if byte.is_ascii_digit() {
            found.extend(card(bytes, at));
        }
    }
    // Where a password is the beginning of what looks like an address, it is a password.
    found.sort_by_key(|(range, what): &(Range<usize>, Private)| {
        (range.start, !what.is_secret(), std::cmp::Reverse(range.end))
    });
    let mut end = 0;
    found.retain(|(range, _)| {
        let apart = range.start >= end;
        end = if apart { range.end } else { end };
        apart
    });
    found
}

/// The text with all that `hide` names masked; nothing where there is none.
pub fn masked(text: &str, hide: impl Fn(Private) -> bool) -> Option<String> {
    let (mut out, mut end) = (String::new(), 0);
    for (range, what) in private(text).into_iter().filter(|(_, what)| hide(*what)) {
        out.push_str(&text[end..range.start]);
        out.push_str(what.mask());
        end = range.end;
    }
    (end > 0).then(|| out + &text[end..])
}

fn count(bytes: &[u8], is: impl Fn(u8) -> bool) -> usize {
    bytes.iter().take_while(|&&byte| is(byte)).count()
}

fn marked(bytes: &[u8], at: usize) -> Option<(Range<usize>, Private)> {
    let rest = &bytes[at..];
    // What most words do not begin with is not looked for.
    match rest {
        [b'A', b'I' | b'K' | b'S', ..] | [b'g', b'h' | b'i', ..] | [b'h', b'f', ..] | [b'r' | b's', b'k', ..] => {}
        [b'x', b'o', b'x', ..] => {}
        _ => return None,
    }
    MARKED.iter().find_map(|&(mark, least, most, is, what)| {
        let secret = rest.strip_prefix(mark.as_bytes())?;
        let length = count(secret, is);
        let secret = &secret[..length];
        // A key is drawn by chance: words in the place of one have no digit; and AWS's own examples say what they are.
        let drawn = secret.iter().any(u8::is_ascii_digit) && secret.iter().any(u8::is_ascii_alphabetic);
        let example = secret.ends_with(b"EXAMPLE");
        let whole = |part: &[u8]| part.len() >= 16;
        let drawn = drawn && (what != Private::ApiKey || secret.split(|&b| b == b'-').any(whole));
        ((least..=most).contains(&length) && drawn && !example).then(|| (at..at + mark.len() + length, what))
    })
}

/// Three parts in base64url, of which the first two are JSON objects: `{"` is `eyJ`.
fn jwt(bytes: &[u8], at: usize) -> Option<(Range<usize>, Private)> {
    if !bytes[at..].starts_with(b"eyJ") {
        return None;
    }
    let mut end = at;
    for part in 0..3 {
        let rest = &bytes[end..];
        let length = count(rest, dashed);
        if length < 10 || part < 2 && !rest.starts_with(b"eyJ") {
            return None;
        }
        end += length;
        if part < 2 {
            if bytes.get(end) != Some(&b'.') {
                return None;
            }
            end += 1;
        }
    }
    Some((at..end, Private::Jwt))
}

/// From `-----BEGIN ... PRIVATE KEY-----` to its end, or to the end of the text.
fn private_key(text: &str, at: usize) -> Option<(Range<usize>, Private)> {
    let rest = text[at..].strip_prefix("-----BEGIN ")?;
    let (kind, body) = rest.split_once("-----")?;
    // A heading alone, in a text about keys, holds nothing: the first line of a key has 64 characters, or 70 after a header.
    let base64 = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
    let held = body.as_bytes().iter().take(400).copied().collect::<Vec<_>>();
    let held = held.split(|&b| !base64(b)).any(|line| line.len() >= 40);
    if !kind.ends_with("PRIVATE KEY") && !kind.ends_with("PRIVATE KEY BLOCK") || kind.len() > 40 || !held {
        return None;
    }
    let close = format!("-----END {kind}-----");
    let end = text[at..].find(&close).map_or(text.len(), |found| at + found + close.len());
    Some((at..end, Private::PrivateKey))
}

/// The password of `scheme://user:password@host`, `at` the colon after the scheme.
fn password_in_url(text: &str, at: usize) -> Option<(Range<usize>, Private)> {
    let rest = text[at..].strip_prefix("://")?;
    let scheme = text[..at].bytes().next_back()?;
    let authority = &rest[..rest.find(|c: char| c.is_whitespace() || "/?#\"'<>`".contains(c)).unwrap_or(rest.len())];
    let (user, host) = authority.rsplit_once('@')?;
    let (name, password) = user.split_once(':')?;
    // `user:password` and `user:$PASSWORD` show where one would stand.
    let shown = password.starts_with(['$', '{', '<', '*', '[', '%']) || ["password", "pass", "pwd"].contains(&password);
    if !scheme.is_ascii_alphanumeric() || host.is_empty() || password.len() < 3 || shown {
        return None;
    }
    let from = at + 3 + name.len() + 1;
    Some((from..from + password.len(), Private::PasswordInUrl))
}

/// Names that stand for no one (RFC 2606).
const RESERVED: [&str; 4] = ["example", "test", "invalid", "localhost"];

fn email(text: &str, at: usize) -> Option<(Range<usize>, Private)> {
    let bytes = text.as_bytes();
    let local = bytes[..at].iter().rev().take_while(|&&b| dashed(b) || b"._%+".contains(&b)).count();
    let mut host = count(&bytes[at + 1..], |b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    while host > 0 && bytes[at + host] == b'.' {
        host -= 1;
    }
    let labels: Vec<&str> = text[at + 1..at + 1 + host].split('.').collect();
    let (top, name) = (*labels.last()?, labels.len().checked_sub(2).map(|at| labels[at])?);
    let start = at - local;
    let named = local > 0 && bytes[start].is_ascii_alphanumeric() && bytes[at - 1] != b'.';
    let placed =
        labels.iter().all(|label| !label.is_empty()) && top.len() >= 2 && top.bytes().all(|b| b.is_ascii_alphabetic());
    let nobody = [top, name].iter().any(|label| RESERVED.contains(&label.to_ascii_lowercase().as_str()));
    // What stands before the host of a URL is no address.
    let before = &text[text[..start].rfind(char::is_whitespace).unwrap_or(0)..start];
    let user = before.rfind("://").is_some_and(|scheme| !before[scheme + 3..].contains('/'));
    (named && placed && !nobody && !user).then(|| (start..at + 1 + host, Private::Email))
}

/// Digits that may be parted by one space or one hyphen each, the same throughout; the digits and the sizes of the groups.
fn groups(bytes: &[u8], at: usize, is: impl Fn(u8) -> bool) -> (Vec<u8>, Vec<usize>, usize) {
    let (mut all, mut sizes, mut end, mut gap) = (Vec::new(), Vec::new(), at, None);
    loop {
        let size = count(&bytes[end..], &is);
        all.extend_from_slice(&bytes[end..end + size]);
        sizes.push(size);
        end += size;
        let Some(&next) = bytes.get(end).filter(|&&b| b == b' ' || b == b'-') else { break };
        if gap.is_some_and(|gap| gap != next) || !bytes.get(end + 1).is_some_and(|&b| is(b)) {
            break;
        }
        gap = Some(next);
        end += 1;
    }
    (all, sizes, end)
}

fn card(bytes: &[u8], at: usize) -> Option<(Range<usize>, Private)> {
    // Nor the end of a number with a point or a hyphen.
    if at > 0 && matches!(bytes[at - 1], b'.' | b'-' | b',' | b'/' | b'#' | b'=') {
        return None;
    }
    let (digits, sizes, end) = groups(bytes, at, |b| b.is_ascii_digit());
    let grouped = matches!(sizes[..], [_] | [4, 4, 4, 4] | [4, 6, 5]);
    let begins = |length: usize| digits[..length].iter().fold(0u32, |n, d| 10 * n + u32::from(d - b'0'));
    if !grouped || !(13..=19).contains(&digits.len()) || bytes.get(end).is_some_and(|&b| word(b)) {
        return None;
    }
    // The networks' numbers: Visa, Mastercard, American Express, Discover.
    let network = match digits.len() {
        16 => {
            digits[0] == b'4'
                || (51..=55).contains(&begins(2))
                || (2221..=2720).contains(&begins(4))
                || begins(4) == 6011
                || begins(2) == 65
        }
        15 => [34, 37].contains(&begins(2)),
        13 | 19 => digits[0] == b'4' && sizes.len() > 1,
        _ => false,
    };
    let luhn = digits.iter().rev().enumerate().map(|(at, d)| {
        let d = u32::from(d - b'0') << (at % 2);
        d / 10 + d % 10
    });
    (network && luhn.sum::<u32>() % 10 == 0).then_some((at..end, Private::CardNumber))
}

/// Countries and the lengths of their IBANs (SWIFT's registry).
const IBANS: [(&str, usize); 36] = [
    ("AT", 20),
    ("BE", 16),
    ("BG", 22),
    ("CH", 21),
    ("CY", 28),
    ("CZ", 24),
    ("DE", 22),
    ("DK", 18),
    ("EE", 20),
    ("ES", 24),
    ("FI", 18),
    ("FR", 27),
    ("GB", 22),
    ("GR", 27),
    ("HR", 21),
    ("HU", 28),
    ("IE", 22),
    ("IL", 23),
    ("IS", 26),
    ("IT", 27),
    ("LI", 21),
    ("LT", 20),
    ("LU", 20),
    ("LV", 21),
    ("MC", 27),
    ("MT", 31),
    ("NL", 18),
    ("NO", 15),
    ("PL", 28),
    ("PT", 25),
    ("RO", 24),
    ("SA", 24),
    ("SE", 24),
    ("SI", 19),
    ("SK", 24),
    ("TR", 26),
];

fn iban(bytes: &[u8], at: usize) -> Option<(Range<usize>, Private)> {
    let country = bytes.get(at..at + 2)?;
    let &(_, length) = IBANS.iter().find(|(name, _)| name.as_bytes() == country)?;
    if !bytes.get(at + 2..at + 4)?.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // Words may follow after a space: the length says where it ends.
    let (mut all, mut end) = (Vec::with_capacity(length), at);
    while all.len() < length {
        match *bytes.get(end)? {
            b if upper(b) => all.push(b),
            b' ' if all.len() % 4 == 0 => {}
            _ => return None,
        }
        end += 1;
    }
    if bytes.get(end).is_some_and(|&b| word(b)) {
        return None;
    }
    let remainder = all[4..].iter().chain(&all[..4]).fold(0u32, |rest, &b| match b {
        b'0'..=b'9' => (10 * rest + u32::from(b - b'0')) % 97,
        _ => (100 * rest + u32::from(b - b'A') + 10) % 97,
    });
    (remainder == 1).then_some((at..end, Private::Iban))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Private> {
        private(text).into_iter().map(|(_, what)| what).collect()
    }

    /// [`marked`] looks at words by their first letter.
    #[test]
    fn every_mark_begins_with_a_letter_that_is_looked_at() {
        for (mark, ..) in MARKED {
            assert!(matches!(mark.as_bytes()[0], b'A' | b'g' | b'x' | b's' | b'h' | b'r'), "{mark}");
        }
    }

    #[test]
    fn each_secret_is_found_and_its_likeness_is_not() {
        use Private::*;
        // Put together here, so that no scanner takes this file for a leak.
        let of = |parts: &[&str]| parts.concat();
        let drawn = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8";
        let cases = [
            (of(&["AK", "IA", "1234567890ABCDEF"]), Some(AwsKey)),
            (of(&["AK", "IA", "IOSFODNN7EXAMPLE"]), None),
            (of(&["AK", "IA", "1234567890ABCDEF0"]), None),
            (of(&["gh", "p_", drawn]), Some(GithubToken)),
            (of(&["gh", "p_", "short1"]), None),
            (of(&["xo", "xb-", "123456789012-abcdefABCDEF"]), Some(SlackToken)),
            (of(&["s", "k-proj-", drawn]), Some(ApiKey)),
            ("the sk-learn-style-estimators-of-the-book are fine".to_owned(), None),
            ("a task-1234567890abcdefghijklmn is no key".to_owned(), None),
            (of(&["AI", "za", &drawn[..35]]), Some(GoogleKey)),
            (of(&["h", "f_", &drawn[..34]]), Some(HuggingFaceToken)),
            (of(&["sk", "_live_", drawn]), Some(StripeKey)),
            (of(&["ey", "JhbGciOiJIUzI1NiJ9.", "ey", "JzdWIiOiIxMjM0In0.", "SflKxwRJSMeKKF2QT4"]), Some(Jwt)),
            ("eyJhbGciOiJIUzI1NiJ9 alone is a header".to_owned(), None),
            (
                of(&["-----BEGIN RSA PRIV", "ATE KEY-----\n", drawn, drawn, "\n-----END RSA PRIV", "ATE KEY-----"]),
                Some(PrivateKey),
            ),
            ("it begins with -----BEGIN RSA PRIVATE KEY-----".to_owned(), None),
            ("-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA\n".to_owned(), None),
            ("postgres://admin:hunter22@db.internal/x".to_owned(), Some(PasswordInUrl)),
            ("postgres://admin:$PASSWORD@db.internal/x".to_owned(), None),
            ("https://host:8080/path?q=a@b".to_owned(), None),
        ];
        for (text, expected) in cases {
            assert_eq!(kinds(&text), expected.into_iter().collect::<Vec<_>>(), "{text}");
            assert_eq!(
                kinds(&format!("so: {text}, and")),
                expected.into_iter().collect::<Vec<_>>(),
                "{text} in a sentence"
            );
        }
    }

    #[test]
    fn personal_data_are_found_where_they_can_be_told() {
        use Private::*;
        for (text, expected) in [
            ("write to jane.doe+x@mail.hospital.org.", Some(Email)),
            ("write to jane@example.com", None),
            ("an @handle, a@b, 3@4.5", None),
            ("4111 1111 1111 1111", Some(CardNumber)),
            ("4111-1111-1111-1111", Some(CardNumber)),
            ("5500005555555559", Some(CardNumber)),
            ("3782 822463 10005", Some(CardNumber)),
            // A wrong check digit, another network, a mixed grouping, a part of a longer number.
            ("4111 1111 1111 1112", None),
            ("9111 1111 1111 1111", None),
            ("41 11 1111 1111 1111", None),
            ("14111111111111111", None),
            ("0.4111111111111111", None),
            ("DE89 3704 0044 0532 0130 00 is", Some(Iban)),
            ("GB82WEST12345698765432", Some(Iban)),
            ("GB83WEST12345698765432", None),
            ("DE89 is a road", None),
        ] {
            assert_eq!(kinds(text), expected.into_iter().collect::<Vec<_>>(), "{text}");
        }
    }

    #[test]
    fn a_mask_leaves_the_rest_as_it_was() {
        let text = "Ask jané@klinik.de or ftp://bob:geheim1@h.de/ü, thanks.";
        let all = masked(text, |_| true).unwrap();
        assert_eq!(all, "Ask jané@klinik.de or ftp://bob:[PASSWORD]@h.de/ü, thanks.");
        assert_eq!(masked("Ask jane@klinik.de", |_| true).as_deref(), Some("Ask [EMAIL_ADDRESS]"));
        assert_eq!(masked("Ask jane@klinik.de", Private::is_secret), None);
        assert_eq!(masked("nothing", |_| true), None);
    }
}
