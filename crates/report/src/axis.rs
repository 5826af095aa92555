//! Axes: where a value stands, round marks, and what is beyond.

use temper_search::{Domain, Value};

use crate::intervals::Tick;
use crate::number::{place, scientific, short, tick_labels, ticks};

/// Values that an axis is fitted to before any is taken for an outlier.
const FENCED_FROM: usize = 5;
/// An axis reaches this many times the middle half's width beyond it, and no further: to where values are worse (Tukey's fence),
/// and to where they are better, which is what a search is for.
const WORSE: f64 = 1.5;
const BETTER: f64 = 20.0;
/// Of fewer values than this the middle half tells little: they reach further.
const MANY: usize = 20;
const WORSE_OF_FEW: f64 = 5.0;
/// Room at both ends, as a share of what is shown.
const ROOM: f64 = 0.05;

/// A scale from 0 to 1, from left to right.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    kind: Kind,
    /// As the user reads them; their place is in percent from the left.
    marks: Vec<(f64, String)>,
}

#[derive(Clone, Debug)]
enum Kind {
    Linear { low: f64, high: f64 },
    Log { low: f64, high: f64 },
    Choices(Vec<Value>),
}

/// Where a value stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct At {
    /// 0 to 1.
    pub share: f64,
    /// It is further out than the axis reaches.
    pub beyond: bool,
}

impl Axis {
    /// An axis over measured values: all of them, but for those that would squeeze the others into a corner. `keep` is on
    /// it unless it is far out as well. None where no value is finite.
    pub fn over(values: &[f64], keep: &[f64], higher_is_better: bool, marks: usize) -> Option<Self> {
        let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (&first, &last) = (sorted.first()?, sorted.last()?);
        let (mut low, mut high) = (first, last);
        if sorted.len() >= FENCED_FROM {
            let quarter = |share: f64| sorted[((sorted.len() - 1) as f64 * share).round() as usize];
            let (from, to) = (quarter(0.25), quarter(0.75));
            let width = to - from;
            if width > 0.0 && width.is_finite() {
                let worse = if sorted.len() < MANY { WORSE_OF_FEW } else { WORSE };
                let (down, up) = if higher_is_better { (worse, BETTER) } else { (BETTER, worse) };
                let inside = |times: f64| (from - times * down * width, to + times * up * width);
                let ((floor, ceiling), (least, most)) = (inside(1.0), inside(2.0));
                let kept = |value: &&f64| (least..=most).contains(*value);
                let shown =
                    sorted.iter().filter(|value| (floor..=ceiling).contains(*value)).chain(keep.iter().filter(kept));
                (low, high) = shown.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
            }
        }
        Some(Self::around(low, high, marks))
    }

    /// From `low` to `high` with room at both ends.
    pub fn around(low: f64, high: f64, marks: usize) -> Self {
        // Halves, since the width of two huge numbers of both signs is infinite.
        let room = match high / 2.0 - low / 2.0 {
            half if half > 0.0 => 2.0 * ROOM * half,
            _ => 0.1 * high.abs().max(1e-9),
        };
        Self::linear((low - room).max(f64::MIN / 4.0), (high + room).min(f64::MAX / 4.0), marks)
    }

    /// From `low` to `high`.
    pub fn linear(low: f64, high: f64, marks: usize) -> Self {
        let at = ticks(low, high, marks);
        let labels = if at.iter().any(|mark| mark.abs() >= 1e6) {
            at.iter().map(|mark| short(*mark)).collect()
        } else {
            tick_labels(&at)
        };
        let mut axis = Self { kind: Kind::Linear { low, high }, marks: Vec::new() };
        axis.marks = at.into_iter().zip(labels).map(|(mark, label)| (axis.at(mark).share, label)).collect();
        axis
    }

    /// From `low` to `high`, both above 0, by their logarithms.
    pub fn log(low: f64, high: f64, marks: usize) -> Self {
        let mut axis = Self { kind: Kind::Log { low, high }, marks: Vec::new() };
        let at = log_marks(low, high, marks);
        // One way of writing on one axis.
        let label = if at.iter().any(|mark| !(1e-3..1e6).contains(mark)) { scientific } else { short };
        axis.marks = at.into_iter().map(|mark| (axis.at(mark).share, label(mark))).collect();
        axis
    }

    /// The whole domain of a parameter; choices as positions.
    pub fn domain(domain: &Domain, marks: usize) -> Self {
        match domain {
            Domain::Float { low, high, log: true, .. } if low < high => Self::log(*low, *high, marks),
            Domain::Float { low, high, .. } => Self::bounds(*low, *high, marks),
            Domain::Int { low, high, log: true, .. } if low < high => {
                let mut axis = Self::log(*low as f64, *high as f64, marks);
                let two = |number: i64| number.count_ones() == 1;
                if two(*low) && two(*high) {
                    let powers: Vec<u32> = (low.trailing_zeros()..=high.trailing_zeros()).collect();
                    let every = powers.len().div_ceil(marks.max(2));
                    let kept = powers.iter().step_by(every).map(|power| (1u64 << power) as f64);
                    axis.marks = kept.map(|mark| (axis.at(mark).share, short(mark))).collect();
                }
                axis
            }
            Domain::Int { low, high, .. } => {
                let mut axis = Self::bounds(*low as f64, *high as f64, marks);
                let whole = ticks(*low as f64, *high as f64, marks).into_iter().filter(|mark| mark.fract() == 0.0);
                axis.marks = whole.map(|mark| (axis.at(mark).share, short(mark))).collect();
                axis
            }
            Domain::Choice { values } => {
                let count = values.len() as f64;
                let mark = |(index, value): (usize, &Value)| ((index as f64 + 0.5) / count, text(value));
                Self { marks: values.iter().enumerate().map(mark).collect(), kind: Kind::Choices(values.clone()) }
            }
        }
    }

    /// Rungs, or steps from 0: by logarithm where the first is far below the last.
    pub fn budget(rungs: &[u64], first: u64, last: u64, marks: usize) -> Self {
        let wide = first > 0 && last >= 8 * first;
        let (low, high) = (first as f64, last.max(1) as f64);
        let mut axis = if wide { Self::log(low, high, marks) } else { Self::linear(0.0, high, marks) };
        if (2..=marks.max(8)).contains(&rungs.len()) {
            axis.marks = rungs.iter().map(|rung| (axis.at(*rung as f64).share, short(*rung as f64))).collect();
        } else {
            axis.marks.retain(|(at, _)| (0.0..=1.0).contains(at));
        }
        axis
    }

    fn bounds(low: f64, high: f64, marks: usize) -> Self {
        if low < high { Self::linear(low, high, marks) } else { Self::linear(low - 0.5, high + 0.5, 1) }
    }

    /// Where `value` stands; at an end where it is beyond that. A number that is none stands nowhere: ask before.
    pub fn at(&self, value: f64) -> At {
        let share = match self.kind {
            // Halves, as above.
            Kind::Linear { low, high } => (value / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0),
            Kind::Log { low, .. } if value <= 0.0 => return At { share: 0.0, beyond: low > 0.0 },
            Kind::Log { low, high } => (value.ln() - low.ln()) / (high.ln() - low.ln()),
            Kind::Choices(_) => 0.5,
        };
        let slack = 1e-9;
        At { share: share.clamp(0.0, 1.0), beyond: !(-slack..=1.0 + slack).contains(&share) }
    }

    /// Where a parameter's value stands; none where it has no place here.
    pub fn of(&self, value: &Value) -> Option<At> {
        match &self.kind {
            Kind::Choices(values) => {
                let index = values.iter().position(|choice| choice.same(value))?;
                Some(At { share: (index as f64 + 0.5) / values.len() as f64, beyond: false })
            }
            _ => value.number().filter(|number| number.is_finite()).map(|number| self.at(number)),
        }
    }

    /// Its marks: places from 0 to 1 and labels.
    pub fn marks(&self) -> &[(f64, String)] {
        &self.marks
    }

    /// The marks from left to right. Labels of choices are cut so that all together have `characters`.
    pub fn across(&self, characters: usize) -> Vec<Tick> {
        self.each(characters, |share| share)
    }

    /// Whether its values are choices.
    pub fn has_choices(&self) -> bool {
        matches!(self.kind, Kind::Choices(_))
    }

    /// The marks from bottom to top.
    pub fn upwards(&self) -> Vec<Tick> {
        self.each(usize::MAX, |share| 1.0 - share)
    }

    fn each(&self, characters: usize, at: impl Fn(f64) -> f64) -> Vec<Tick> {
        let room = match self.kind {
            Kind::Choices(_) => (characters / self.marks.len().max(1)).max(2),
            _ => usize::MAX,
        };
        let tick = |(share, label): &(f64, String)| Tick { at: place(100.0 * at(*share)), label: cut(label, room) };
        self.marks.iter().map(tick).collect()
    }
}

/// About `wanted` round numbers: powers of ten, with 2 and 5 in between where there is room.
fn log_marks(low: f64, high: f64, wanted: usize) -> Vec<f64> {
    let decades = (high / low).log10();
    let (from, to) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let inside = |mark: &f64| (low * (1.0 - 1e-9)..=high * (1.0 + 1e-9)).contains(mark);
    let of = |digits: &[f64], every: usize| -> Vec<f64> {
        let powers = (from..=to).step_by(every);
        // Through text, so that 1e-3 is the number that is written so.
        let mark = |power: i32, digit: f64| format!("{digit}e{power}").parse().unwrap_or(0.0);
        powers.flat_map(|power| digits.iter().map(move |digit| mark(power, *digit))).filter(inside).collect()
    };
    let wanted = wanted.max(2);
    let choices = [of(&[1.0, 2.0, 5.0], 1), of(&[1.0, 3.0], 1), of(&[1.0], 1)];
    if let Some(marks) = choices.into_iter().find(|marks| (2..=wanted + 1).contains(&marks.len())) {
        return marks;
    }
    if decades < 1.0 {
        return ticks(low, high, wanted);
    }
    of(&[1.0], (decades / wanted as f64).ceil().max(1.0) as usize)
}

/// A value of a field as people read it.
pub(crate) fn text(value: &Value) -> String {
    value.number().map_or_else(|| value.to_string(), short)
}

/// The first characters of a text, with a mark where some are left out.
pub(crate) fn cut(text: &str, characters: usize) -> String {
    if text.chars().count() <= characters {
        return text.to_owned();
    }
    text.chars().take(characters.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<String> {
        axis.across(100).into_iter().map(|tick| tick.label).collect()
    }

    #[test]
    fn marks_are_round_on_every_kind_of_axis() {
        assert_eq!(labels(&Axis::log(1e-5, 1e-2, 4)), ["1e−5", "1e−4", "1e−3", "1e−2"]);
        assert_eq!(labels(&Axis::log(1e-5, 3e-4, 6)), ["1e−5", "2e−5", "5e−5", "1e−4", "2e−4"]);
        assert_eq!(labels(&Axis::log(3.0, 7.0, 4)), ["3", "4", "5", "6", "7"]);
        let rank = Domain::Int { low: 2, high: 64, log: true, step: 1 };
        assert_eq!(labels(&Axis::domain(&rank, 6)), ["2", "4", "8", "16", "32", "64"]);
        assert_eq!(labels(&Axis::domain(&rank, 3)), ["2", "8", "32"]);
        assert_eq!(labels(&Axis::domain(&Domain::int(1, 3), 6)), ["1", "2", "3"]);
        assert_eq!(labels(&Axis::domain(&Domain::choice(["lora", "full"]), 6)), ["lora", "full"]);
        assert_eq!(Axis::domain(&Domain::choice(["lora", "fully"]), 6).across(8)[1].label, "ful…");
        assert_eq!(labels(&Axis::budget(&[16, 64, 256], 16, 256, 6)), ["16", "64", "256"]);
        assert_eq!(labels(&Axis::budget(&[], 10, 40, 4)), ["0", "10", "20", "30", "40"]);
    }

    #[test]
    fn what_is_far_out_does_not_squeeze_the_rest() {
        let mut values: Vec<f64> = (0..20).map(f64::from).collect();
        values.extend([1e300, f64::INFINITY, f64::NEG_INFINITY, f64::NAN]);
        let axis = Axis::over(&values, &[30.0], false, 5).unwrap();
        assert_eq!(labels(&axis), ["0", "5", "10", "15", "20", "25", "30"]);
        assert!(!axis.at(30.0).beyond && axis.at(0.0).share > 0.0);
        assert_eq!(axis.at(1e300), At { share: 1.0, beyond: true });
        assert_eq!(axis.at(f64::NEG_INFINITY), At { share: 0.0, beyond: true });
        assert!(Axis::over(&[f64::NAN], &[], true, 5).is_none());
    }

    #[test]
    fn one_value_and_the_largest_numbers_have_an_axis() {
        for values in [vec![0.0], vec![3.0; 9], vec![f64::MAX, f64::MIN], vec![f64::MAX; 6]] {
            let axis = Axis::over(&values, &[], true, 4).unwrap();
            let at = axis.at(values[0]);
            assert!((0.0..=1.0).contains(&at.share), "{values:?}: {at:?}");
            assert!(axis.across(100).len() < 20, "{values:?}");
        }
        let point = Axis::domain(&Domain::float(2.0, 2.0), 4);
        assert_eq!(point.of(&2.0.into()), Some(At { share: 0.5, beyond: false }));
        assert_eq!(Axis::domain(&Domain::choice(["a"]), 4).of(&"b".into()), None);
        assert_eq!(Axis::log(1.0, 10.0, 4).at(0.0), At { share: 0.0, beyond: true });
    }
}
