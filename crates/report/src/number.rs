//! Numbers as people read them: the only place where the report makes text of one, and the command line of metrics,
//! counts, sizes and times.

use temper_eval::compare::Metric;
use temper_eval::stats::Interval;

/// The sign of negative numbers in running text.
const MINUS: &str = "\u{2212}";

fn minus(text: String) -> String {
    text.replace('-', MINUS)
}

/// The same text for a terminal.
pub(crate) fn ascii(text: &str) -> String {
    text.replace(MINUS, "-")
}

/// A sentence with a typographic minus before each number that has a hyphen for one.
pub fn typeset(sentence: &str) -> String {
    let mut words = Vec::new();
    for word in sentence.split(' ') {
        let bare = word.trim_start_matches('(');
        let negative = bare.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        words.push(if negative { word.replacen('-', MINUS, 1) } else { word.to_owned() });
    }
    words.join(" ")
}

/// A whole number, 1234567 as "1,234,567".
pub fn count(n: impl std::fmt::Display) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A share as "64.3 %".
pub fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// A change as "+2.6 %".
pub fn signed_percent(share: f64) -> String {
    minus(format!("{:+.1} %", 100.0 * share))
}

/// A loss in nats, "1.379"; NaN and infinities by name.
pub fn loss(nats: f64) -> String {
    minus(format!("{nats:.3}"))
}

/// A change of a loss, with its sign.
pub fn signed_loss(nats: f64) -> String {
    minus(format!("{nats:+.3}"))
}

/// 0.00125 as "1.25e-3", at most three digits: learning rates.
pub fn scientific(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    let text = format!("{value:.2e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let mantissa = mantissa.trim_end_matches('0').trim_end_matches('.');
    minus(format!("{mantissa}e{exponent}"))
}

/// Any measurement or setting in about four digits: "0.8123", "1,024", "3e−4", "∞".
pub fn short(value: f64) -> String {
    let size = value.abs();
    if value.is_infinite() {
        return if value > 0.0 { "∞".to_owned() } else { format!("{MINUS}∞") };
    }
    if value != 0.0 && (!(1e-3..1e6).contains(&size) || value.is_nan()) {
        return scientific(value);
    }
    let decimals = if size > 0.0 { (3.0 - size.log10().floor()).clamp(0.0, 6.0) as usize } else { 0 };
    let text = fixed(value, decimals);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A measurement with as many decimals as its neighbours in a column; what is too large or not finite as [`short`].
pub fn fixed(value: f64, decimals: usize) -> String {
    if !value.is_finite() || value.abs() >= 1e6 {
        return short(value);
    }
    let text = format!("{:.decimals$}", value.abs());
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let sign = if value < 0.0 && text.contains(|digit| ('1'..='9').contains(&digit)) { MINUS } else { "" };
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{}{point}{fraction}", count(whole))
}

/// The decimals that give the middle one of `values` four digits.
pub fn decimals(values: &[f64]) -> usize {
    let mut sizes: Vec<f64> = values.iter().map(|v| v.abs()).filter(|size| size.is_finite() && *size > 0.0).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.get(sizes.len() / 2).map_or(0, |middle| (3.0 - middle.log10().floor()).clamp(0.0, 6.0) as usize)
}

/// Passes over a file: "0.30".
pub fn epochs(epochs: f64) -> String {
    format!("{epochs:.2}")
}

/// Seconds as "2 min 05 s".
pub fn duration(seconds: f64) -> String {
    let s = seconds.round() as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {:02} s", s / 60, s % 60),
        _ => format!("{} h {:02} min", s / 3600, s / 60 % 60),
    }
}

/// Bytes in binary units.
pub fn bytes(n: u64) -> String {
    let mib = n as f64 / (1 << 20) as f64;
    if mib < 1024.0 { format!("{mib:.0} MiB") } else { format!("{:.2} GiB", mib / 1024.0) }
}

/// A position or length in percent of a plot's side.
pub fn place(percent: f64) -> String {
    format!("{:.2}", percent.clamp(-100.0, 200.0))
}

/// How a metric is written.
pub struct Style {
    /// Its name.
    pub name: &'static str,
    /// Its name where there is little room.
    pub short: &'static str,
    /// After a value.
    pub value_unit: &'static str,
    /// After a difference, in words.
    pub unit: &'static str,
    scale: f64,
    digits: usize,
}

impl Style {
    /// The style of `metric`.
    pub fn of(metric: Metric) -> Self {
        let share = |name, short| Self { name, short, value_unit: " %", unit: "points", scale: 100.0, digits: 1 };
        let plain = |name, short, unit| Self { name, short, value_unit: "", unit, scale: 1.0, digits: 4 };
        match metric {
            Metric::Accuracy => share("accuracy", "accuracy"),
            Metric::Reward => plain("mean reward of the likeliest answers", "reward", "reward"),
            Metric::MacroF1 => share("macro F1", "macro F1"),
            Metric::ExactMatch => share("exact match, freely written", "exact match"),
            Metric::AccuracyPerByte => share("accuracy per byte", "accuracy per byte"),
            Metric::ChecksHeld => share("checks held", "checks held"),
            Metric::RelativeLoss => Self { unit: "%", digits: 2, ..share("loss, relative", "relative loss") },
            Metric::NatsPerToken => plain("loss, nats per token", "nats per token", "nats"),
            Metric::BitsPerByte => plain("loss, bits per byte", "bits per byte", "bits"),
            Metric::Kl => plain("KL(base || tuned), nats per token", "KL", "nats"),
        }
    }

    /// A value with its unit.
    pub fn value(&self, value: f64) -> String {
        minus(self.plain_value(value))
    }

    /// A difference without its unit.
    pub fn signed(&self, value: f64) -> String {
        minus(self.plain_signed(value))
    }

    /// A difference with its interval, without its unit: "+57.9 [+52.0, +63.8]".
    pub fn interval(&self, difference: &Interval) -> String {
        minus(self.plain_interval(difference))
    }

    /// A difference with its interval, in ASCII.
    pub fn plain_interval(&self, difference: &Interval) -> String {
        let [estimate, low, high] =
            [difference.estimate, difference.low, difference.high].map(|value| self.plain_signed(value));
        format!("{estimate} [{low}, {high}]")
    }

    /// A value with its unit, in ASCII, as a terminal and what reads it expect.
    pub fn plain_value(&self, value: f64) -> String {
        format!("{:.*}{}", self.digits, value * self.scale, self.value_unit)
    }

    /// A difference without its unit, in ASCII.
    pub fn plain_signed(&self, value: f64) -> String {
        format!("{:+.*}", self.digits, value * self.scale)
    }

    /// The value as it is drawn: in the unit of the difference.
    pub fn scaled(&self, value: f64) -> f64 {
        value * self.scale
    }
}

/// A round step that divides `low..high` into about `wanted` parts, and the multiples of it in between.
pub fn ticks(low: f64, high: f64, wanted: usize) -> Vec<f64> {
    let rough = (high - low) / wanted.max(1) as f64;
    if !(rough > 0.0 && rough.is_finite()) {
        return vec![low];
    }
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|&s| s >= rough * 0.75).unwrap_or(power);
    let (first, last) = ((low / step - 1e-9).ceil() as i64, (high / step + 1e-9).floor() as i64);
    (first..=last).map(|i| i as f64 * step).collect()
}

/// The labels of ticks: as many decimals as their step needs, very small ones as [`scientific`].
pub fn tick_labels(ticks: &[f64]) -> Vec<String> {
    let largest = ticks.iter().fold(0.0f64, |m, t| m.max(t.abs()));
    if largest > 0.0 && largest < 0.01 {
        return ticks.iter().map(|&t| scientific(t)).collect();
    }
    let step = ticks.windows(2).map(|pair| pair[1] - pair[0]).next().unwrap_or(1.0);
    // Differences of ticks are off by rounding; 0.01 must not ask for three decimals.
    let decimals = (-step.abs().log10() - 1e-9).ceil().clamp(0.0, 6.0) as usize;
    ticks
        .iter()
        .map(|&t| if largest >= 10_000.0 { count(t.max(0.0) as u64) } else { minus(format!("{t:.decimals$}")) })
        .map(
            |label| {
                if label.trim_start_matches(MINUS).chars().all(|c| c == '0' || c == '.') {
                    "0".to_owned()
                } else {
                    label
                }
            },
        )
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([count(7), count(1234), count(1_234_567)], ["7", "1,234", "1,234,567"]);
        assert_eq!([scientific(0.00125), scientific(2e-4), scientific(0.0)], ["1.25e−3", "2e−4", "0"]);
        assert_eq!([loss(1.23456), loss(f64::NAN), signed_loss(-0.5)], ["1.235", "NaN", "−0.500"]);
        assert_eq!([bytes(3 << 20), bytes(3 << 30)], ["3 MiB", "3.00 GiB"]);
        assert_eq!([duration(59.4), duration(125.0), duration(3720.0)], ["59 s", "2 min 05 s", "1 h 02 min"]);
        let shorts = [0.0, 0.81234, 12.346, 1024.0, -0.0123456, 3e-4, 123_456.7, 2.5e9, 0.5, -3.0].map(short);
        let expected = ["0", "0.8123", "12.35", "1,024", "−0.01235", "3e−4", "123,457", "2.5e9", "0.5", "−3"];
        assert_eq!(shorts, expected);
        assert_eq!([fixed(2.67, 3), fixed(-0.0001, 2), fixed(1234.5, 1)], ["2.670", "0.00", "1,234.5"]);
        assert_eq!((decimals(&[2.6, 2.7, 4e7]), decimals(&[43.0, f64::NAN]), decimals(&[])), (3, 2, 0));
        assert_eq!([short(f64::NAN), short(f64::NEG_INFINITY)], ["NaN", "−∞"]);
        assert_eq!(typeset("loss -4.0 % (-5 to -3), pre-2"), "loss −4.0 % (−5 to −3), pre-2");
        let accuracy = Style::of(Metric::Accuracy);
        assert_eq!((accuracy.value(0.6428), accuracy.signed(-0.0262)), ("64.3 %".to_owned(), "−2.6".to_owned()));
    }

    #[test]
    fn ticks_are_round_and_their_labels_no_longer_than_needed() {
        assert_eq!(tick_labels(&ticks(0.0, 60.0, 6)), ["0", "10", "20", "30", "40", "50", "60"]);
        assert_eq!(tick_labels(&ticks(-0.3, 0.52, 4)), ["−0.2", "0", "0.2", "0.4"]);
        assert_eq!(tick_labels(&ticks(0.0, 1e-3, 4)), ["0", "2e−4", "4e−4", "6e−4", "8e−4", "1e−3"]);
        assert_eq!(ticks(2.0, 2.0, 4), [2.0]);
        assert_eq!(tick_labels(&ticks(4.445, 4.493, 5)), ["4.45", "4.46", "4.47", "4.48", "4.49"]);
        assert_eq!(tick_labels(&ticks(0.0, 40_000.0, 4)), ["0", "10,000", "20,000", "30,000", "40,000"]);
    }
}
