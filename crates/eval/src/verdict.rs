//! Two axes, one verdict: what was gained on the domain, what was kept of the rest.
//!
//! Each floor is a test of *non-inferiority* on the 95 % interval of tuned minus base, which is a one-sided test at
//! 2.5 % (ICH E9, section 3.3.2): a model kept an ability if even the bad end of the interval lies within the margin,
//! and forgot it if even the good end lies beyond. Between the two nothing was shown, and the honest answer is
//! how many items would show it. "Kept" asks for every floor to be kept, which needs no correction for testing several
//! floors (intersection-union test, Berger 1982); "forgot" is said for a single floor, so with many floors it is the
//! readier of the two.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::stats::{Interval, Z_975};

/// 80 % quantile of the standard normal distribution: the power that [`FloorDecision::CannotTell`] plans for.
const Z_POWER_80: f64 = 0.841_621_233_572_914_2;

/// Numbers of items at or above this one are reported as this one: nobody will collect them.
pub const MOST_ITEMS: u64 = 1_000_000;

/// Which direction is an improvement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// Accuracy, F1.
    Higher,
    /// Loss, KL divergence.
    Lower,
}

/// How a difference is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A share of the base's value: 0.02 is `+2.0 %`.
    Percent,
    /// A difference of two shares: 0.02 is `+2.0 points`.
    Points,
    /// An absolute loss or divergence: 0.02 is `+0.020 nats`.
    Nats,
}

/// How one metric moved from base to tuned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The metric's name as people read it, such as `held-out loss`.
    pub name: String,
    /// Which direction is an improvement.
    pub better: Better,
    /// How the difference is written.
    pub unit: Unit,
    /// Tuned minus base. For KL(base || tuned), which the base has none of, the divergence itself.
    pub difference: Interval,
}

/// A metric that must not get worse by more than `margin`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Floor {
    /// The metric and how it moved.
    pub change: Change,
    /// How much worse it may get; zero or more, in the unit of `change.difference`.
    pub margin: f64,
}

/// What the items say about one floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum FloorDecision {
    /// The bad end of the interval lies within the margin.
    Kept,
    /// The good end of the interval lies beyond the margin.
    Forgot,
    /// The margin lies inside the interval.
    CannotTell {
        /// Items with which the interval would leave the margin on the side where the estimate lies, with a
        /// probability of 80 %, if the estimate is the truth: `n * ((z975 + z80) * SE / distance)^2`, where `SE` is the
        /// distance from the estimate to the end of the interval on the margin's side divided by `z975`, `distance`
        /// that from the estimate to the margin, and `SE` falls with the square root of `n`. Where items share
        /// sources, the number of sources must grow in step. Rounded up to two digits, at most [`MOST_ITEMS`].
        about_n: u64,
    },
}

/// What the items say about the domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Gain {
    /// The whole interval lies on the better side of zero.
    Gained,
    /// The whole interval lies on the worse side of zero.
    Lost,
    /// Zero lies inside the interval.
    NotShown {
        /// Items that would show it, as in [`FloorDecision::CannotTell`] with zero as the margin.
        about_n: u64,
    },
}

/// The verdict on a run. Where several hold, the first of `Forgot`, `Lost`, `CannotTell`, `KeptWithoutGain` is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Verdict {
    /// The domain improved and every floor was kept.
    GainedAndKept,
    /// Every floor was kept, and the domain shows no improvement.
    KeptWithoutGain {
        /// Domain items that would show the direction.
        about_n: u64,
    },
    /// No floor was broken so far as can be told, and the domain got worse.
    Lost,
    /// At least one floor was broken.
    Forgot,
    /// No floor was broken for certain, and at least one cannot be decided.
    CannotTell {
        /// Items that the floor furthest from a decision needs.
        about_n: u64,
    },
}

/// The verdict with what led to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// One sentence with the numbers that decided.
    pub reason: String,
    /// The domain.
    pub gain: Gain,
    /// Every floor in the order given.
    pub floors: Vec<FloorDecision>,
}

/// Why nothing was judged.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum VerdictError {
    /// Nothing was promised.
    #[error("no floors, so nothing can be said to have been kept\nhint: give the recipe at least one floor")]
    NoFloors,
    /// A margin that allows nothing or everything.
    #[error("the margin of the floor on {name} is {margin}: expected a number of zero or more")]
    Margin {
        /// The floor's metric.
        name: String,
        /// As given.
        margin: f64,
    },
    /// An interval with NaN or in the wrong order.
    #[error("the interval of {name} is {low} to {high} around {estimate}: not an interval")]
    NotAnInterval {
        /// The metric.
        name: String,
        /// Its lower end.
        low: f64,
        /// Its upper end.
        high: f64,
        /// Its estimate.
        estimate: f64,
    },
}

/// Judges the change on the domain and the floors on the rest.
pub fn judge(domain: &Change, floors: &[Floor]) -> Result<Judgement, VerdictError> {
    if floors.is_empty() {
        return Err(VerdictError::NoFloors);
    }
    let gain = match decide(domain, 0.0)? {
        // Against a margin of zero "beyond" means worse than the base, and "kept" may still mean unchanged.
        FloorDecision::Forgot => Gain::Lost,
        FloorDecision::Kept if harm(domain).worst < 0.0 => Gain::Gained,
        FloorDecision::Kept => Gain::NotShown { about_n: about_n(domain, 0.0) },
        FloorDecision::CannotTell { about_n } => Gain::NotShown { about_n },
    };
    let decisions = floors.iter().map(Floor::decide).collect::<Result<Vec<_>, _>>()?;

    // The floor to name: of the broken ones the furthest beyond its margin, else of the undecided ones the one that
    // needs most items, else the one kept most narrowly.
    let rank = |index: usize| -> (u8, f64) {
        let (floor, harm) = (&floors[index], harm(&floors[index].change));
        let excess = |harm: f64| (harm - floor.margin) / floor.margin.max(f64::MIN_POSITIVE);
        match decisions[index] {
            FloorDecision::Forgot => (2, excess(harm.estimate)),
            FloorDecision::CannotTell { about_n } => (1, about_n as f64),
            FloorDecision::Kept => (0, excess(harm.worst)),
        }
    };
    let mut deciding = 0;
    for index in 1..floors.len() {
        let (new, old) = (rank(index), rank(deciding));
        if new.0 > old.0 || (new.0 == old.0 && new.1 > old.1) {
            deciding = index;
        }
    }
    let floor = &floors[deciding];

    let (verdict, reason) = match (decisions[deciding], gain) {
        (FloorDecision::Forgot, _) => {
            (Verdict::Forgot, format!("{floor}: beyond the floor even at the better end of the 95 % interval."))
        }
        (_, Gain::Lost) => (Verdict::Lost, format!("{domain}: worse than the base on what it was trained for.")),
        (FloorDecision::CannotTell { about_n }, _) => (
            Verdict::CannotTell { about_n },
            format!("{floor}: the floor lies inside the 95 % interval; {} would decide.", items(about_n)),
        ),
        (FloorDecision::Kept, Gain::NotShown { about_n }) => (
            Verdict::KeptWithoutGain { about_n },
            format!("{domain}: no gain shown; every floor was kept, the closest by {floor}."),
        ),
        (FloorDecision::Kept, Gain::Gained) => {
            (Verdict::GainedAndKept, format!("{domain}; every floor was kept, the closest by {floor}."))
        }
    };
    Ok(Judgement { verdict, reason, gain, floors: decisions })
}

impl Floor {
    /// The non-inferiority decision of this floor alone.
    pub fn decide(&self) -> Result<FloorDecision, VerdictError> {
        if !(self.margin >= 0.0 && self.margin.is_finite()) {
            return Err(VerdictError::Margin { name: self.change.name.clone(), margin: self.margin });
        }
        decide(&self.change, self.margin)
    }
}

/// A change seen as harm: positive is worse, whichever direction is better.
struct Harm {
    best: f64,
    estimate: f64,
    worst: f64,
}

fn harm(change: &Change) -> Harm {
    let Interval { estimate, low, high, .. } = change.difference;
    match change.better {
        Better::Lower => Harm { best: low, estimate, worst: high },
        Better::Higher => Harm { best: -high, estimate: -estimate, worst: -low },
    }
}

fn decide(change: &Change, margin: f64) -> Result<FloorDecision, VerdictError> {
    let Interval { estimate, low, high, .. } = change.difference;
    if !(low <= high && low.is_finite() && high.is_finite() && estimate.is_finite()) {
        return Err(VerdictError::NotAnInterval { name: change.name.clone(), low, high, estimate });
    }
    let harm = harm(change);
    Ok(if harm.worst <= margin {
        FloorDecision::Kept
    } else if harm.best > margin {
        FloorDecision::Forgot
    } else {
        FloorDecision::CannotTell { about_n: about_n(change, margin) }
    })
}

/// The formula of [`FloorDecision::CannotTell`].
fn about_n(change: &Change, margin: f64) -> u64 {
    let harm = harm(change);
    let reach = if harm.estimate <= margin { harm.worst - harm.estimate } else { harm.estimate - harm.best };
    let standard_error = reach / Z_975;
    let distance = (harm.estimate - margin).abs();
    let needed = change.difference.n as f64 * ((Z_975 + Z_POWER_80) * standard_error / distance).powi(2);
    // NaN (an interval of no width on the margin itself) and infinity both mean that no number will do.
    if needed.is_nan() || needed >= MOST_ITEMS as f64 {
        return MOST_ITEMS;
    }
    let needed = needed.ceil() as u64;
    let step = 10_u64.pow(needed.max(1).ilog10().saturating_sub(1));
    needed.div_ceil(step) * step
}

fn items(about_n: u64) -> String {
    if about_n >= MOST_ITEMS { "over a million items".to_owned() } else { format!("about {about_n} items") }
}

impl Unit {
    /// A signed difference without its unit.
    fn number(self, value: f64) -> String {
        match self {
            Unit::Percent | Unit::Points => format!("{:+.1}", 100.0 * value),
            Unit::Nats => format!("{value:+.3}"),
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unit::Percent => "%",
            Unit::Points => "points",
            Unit::Nats => "nats",
        })
    }
}

/// `held-out loss +0.4 % (95 % interval +0.1 to +0.8 %, 120 items of 40 sources)`.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Interval { estimate, low, high, n, clusters } = self.difference;
        let [estimate, low, high] = [estimate, low, high].map(|value| self.unit.number(value));
        write!(
            f,
            "{} {estimate} {unit} (95 % interval {low} to {high} {unit}, {n} items",
            self.name,
            unit = self.unit
        )?;
        if clusters < n { write!(f, " of {clusters} sources)") } else { write!(f, ")") }
    }
}

/// The change and `against a floor of +2.0 %`.
impl fmt::Display for Floor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = match self.change.better {
            Better::Lower => self.margin,
            Better::Higher => -self.margin,
        };
        let unit = self.change.unit;
        write!(f, "{} against a floor of {} {unit}", self.change, unit.number(limit))
    }
}

impl fmt::Display for FloorDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FloorDecision::Kept => write!(f, "kept"),
            FloorDecision::Forgot => write!(f, "forgot"),
            FloorDecision::CannotTell { about_n } => write!(f, "cannot tell (needs {})", items(*about_n)),
        }
    }
}

impl fmt::Display for Gain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Gain::Gained => write!(f, "gained"),
            Gain::Lost => write!(f, "lost"),
            Gain::NotShown { about_n } => write!(f, "no gain shown (needs {})", items(*about_n)),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::GainedAndKept => write!(f, "gained and kept"),
            Verdict::KeptWithoutGain { about_n } => write!(f, "kept, no gain shown (needs {})", items(*about_n)),
            Verdict::Lost => write!(f, "lost on the domain"),
            Verdict::Forgot => write!(f, "forgot"),
            Verdict::CannotTell { about_n } => write!(f, "cannot tell (needs {})", items(*about_n)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(name: &str, better: Better, unit: Unit, [low, estimate, high]: [f64; 3]) -> Change {
        let difference = Interval { estimate, low, high, n: 400, clusters: 400 };
        Change { name: name.to_owned(), better, unit, difference }
    }

    fn accuracy(interval: [f64; 3]) -> Change {
        change("accuracy", Better::Higher, Unit::Points, interval)
    }

    fn loss(interval: [f64; 3]) -> Floor {
        Floor { change: change("held-out loss", Better::Lower, Unit::Percent, interval), margin: 0.02 }
    }

    fn choice(interval: [f64; 3]) -> Floor {
        Floor { change: change("multiple choice", Better::Higher, Unit::Points, interval), margin: 0.06 }
    }

    const GAINED: [f64; 3] = [0.43, 0.48, 0.53];

    #[test]
    fn a_floor_is_kept_by_its_bad_end_and_broken_by_its_good_end() {
        assert_eq!(loss([-0.01, 0.0, 0.02]).decide(), Ok(FloorDecision::Kept));
        assert_eq!(loss([0.021, 0.03, 0.04]).decide(), Ok(FloorDecision::Forgot));
        assert!(matches!(loss([0.02, 0.03, 0.04]).decide(), Ok(FloorDecision::CannotTell { .. })));
        assert_eq!(choice([-0.06, -0.03, 0.0]).decide(), Ok(FloorDecision::Kept));
        assert_eq!(choice([-0.09, -0.08, -0.061]).decide(), Ok(FloorDecision::Forgot));
        assert!(matches!(choice([-0.061, -0.03, 0.0]).decide(), Ok(FloorDecision::CannotTell { .. })));
    }

    /// Estimate -2 points, half-width 5 points, margin 6: SE = 5 / 1.960 = 2.551, distance 4,
    /// n = 400 * (2.8016 * 2.551 / 4)^2 = 1276.9, up to two digits.
    #[test]
    fn about_n_by_hand() {
        assert_eq!(choice([-0.07, -0.02, 0.03]).decide(), Ok(FloorDecision::CannotTell { about_n: 1300 }));
        // Beyond the margin at -8 with the same half-width the distance is 2: four times as many, 5107.6.
        assert_eq!(choice([-0.13, -0.08, -0.03]).decide(), Ok(FloorDecision::CannotTell { about_n: 5200 }));
    }

    /// The promise of `about_n`: with that many items and the same spread, a half-width 1.43 times smaller than the
    /// distance, which four of five samples then fall within.
    #[test]
    fn about_n_items_give_four_in_five() {
        let undecided = choice([-0.07, -0.02, 0.03]);
        let half_width = 0.05 * (400.0 / 1276.9_f64).sqrt();
        let power_z = (0.06 - 0.02 - half_width) / (half_width / Z_975);
        assert!((power_z - Z_POWER_80).abs() < 1e-3, "{power_z}");
        assert!(matches!(undecided.decide(), Ok(FloorDecision::CannotTell { .. })));
    }

    #[test]
    fn an_estimate_on_the_margin_needs_more_items_than_anyone_has() {
        let decision = loss([0.01, 0.02, 0.03]).decide().unwrap();
        assert_eq!(decision, FloorDecision::CannotTell { about_n: MOST_ITEMS });
        assert_eq!(decision.to_string(), "cannot tell (needs over a million items)");
    }

    #[test]
    fn gained_and_kept_names_the_closest_floor() {
        let floors = [loss([-0.001, 0.004, 0.009]), choice([-0.055, -0.02, 0.01])];
        let judgement = judge(&accuracy(GAINED), &floors).unwrap();
        assert_eq!(judgement.verdict, Verdict::GainedAndKept);
        assert_eq!(judgement.verdict.to_string(), "gained and kept");
        assert_eq!(
            judgement.reason,
            "accuracy +48.0 points (95 % interval +43.0 to +53.0 points, 400 items); every floor was kept, the \
             closest by multiple choice -2.0 points (95 % interval -5.5 to +1.0 points, 400 items) against a \
             floor of -6.0 points."
        );
    }

    #[test]
    fn one_broken_floor_outweighs_any_gain_and_the_furthest_is_named() {
        let floors = [choice([-0.12, -0.10, -0.07]), loss([0.08, 0.11, 0.13]), loss([-0.01, 0.0, 0.01])];
        let judgement = judge(&accuracy(GAINED), &floors).unwrap();
        assert_eq!((judgement.verdict, judgement.gain), (Verdict::Forgot, Gain::Gained));
        assert_eq!(judgement.floors, [FloorDecision::Forgot, FloorDecision::Forgot, FloorDecision::Kept]);
        assert_eq!(
            judgement.reason,
            "held-out loss +11.0 % (95 % interval +8.0 to +13.0 %, 400 items) against a floor of +2.0 %: beyond the \
             floor even at the better end of the 95 % interval."
        );
    }

    #[test]
    fn an_undecided_floor_gives_the_number_of_items() {
        let floors = [loss([-0.01, 0.0, 0.01]), choice([-0.07, -0.02, 0.03])];
        let judgement = judge(&accuracy(GAINED), &floors).unwrap();
        assert_eq!(judgement.verdict.to_string(), "cannot tell (needs about 1300 items)");
        assert!(judgement.reason.ends_with("the floor lies inside the 95 % interval; about 1300 items would decide."));
    }

    #[test]
    fn kept_without_gain_and_lost() {
        let kept = [loss([-0.01, 0.0, 0.01])];
        // Estimate +1 point, half-width 2: n = 400 * (2.8016 * 2 / 1.95996)^2 = 3269.
        let judgement = judge(&accuracy([-0.01, 0.01, 0.03]), &kept).unwrap();
        assert_eq!(judgement.verdict, Verdict::KeptWithoutGain { about_n: 3300 });
        let unchanged = judge(&accuracy([0.0, 0.0, 0.0]), &kept).unwrap();
        assert_eq!(unchanged.verdict, Verdict::KeptWithoutGain { about_n: MOST_ITEMS });
        let lost = judge(&accuracy([-0.05, -0.03, -0.01]), &kept).unwrap();
        assert_eq!((lost.verdict, lost.gain), (Verdict::Lost, Gain::Lost));
        let undecided = [choice([-0.07, -0.02, 0.03])];
        assert_eq!(judge(&accuracy([-0.05, -0.03, -0.01]), &undecided).unwrap().verdict, Verdict::Lost);
    }

    #[test]
    fn a_domain_measured_by_loss_gains_downwards() {
        let domain = change("domain loss", Better::Lower, Unit::Nats, [-0.5, -0.4, -0.3]);
        let judgement = judge(&domain, &[loss([-0.01, 0.0, 0.01])]).unwrap();
        assert_eq!(judgement.gain, Gain::Gained);
        assert!(judgement.reason.starts_with("domain loss -0.400 nats (95 % interval -0.500 to -0.300 nats"));
    }

    #[test]
    fn a_margin_of_zero_is_kept_by_what_did_not_move() {
        let mut floor = loss([0.0, 0.0, 0.0]);
        floor.margin = 0.0;
        assert_eq!(floor.decide(), Ok(FloorDecision::Kept));
        assert_eq!(judge(&accuracy(GAINED), &[floor]).unwrap().verdict, Verdict::GainedAndKept);
    }

    #[test]
    fn what_cannot_be_judged_is_refused() {
        assert_eq!(judge(&accuracy(GAINED), &[]), Err(VerdictError::NoFloors));
        let mut floor = loss([0.0, 0.0, 0.0]);
        floor.margin = -0.02;
        assert_eq!(floor.decide(), Err(VerdictError::Margin { name: "held-out loss".to_owned(), margin: -0.02 }));
        floor.margin = f64::NAN;
        assert!(matches!(floor.decide(), Err(VerdictError::Margin { .. })));
        assert!(matches!(loss([0.0, f64::NAN, 0.1]).decide(), Err(VerdictError::NotAnInterval { .. })));
        assert!(matches!(loss([0.2, 0.1, 0.0]).decide(), Err(VerdictError::NotAnInterval { .. })));
    }

    #[test]
    fn sources_are_named_where_items_share_them() {
        let mut change = accuracy(GAINED);
        change.difference.clusters = 61;
        assert!(change.to_string().ends_with("400 items of 61 sources)"));
    }

    #[test]
    fn a_judgement_survives_json() {
        let judgement = judge(&accuracy(GAINED), &[choice([-0.07, -0.02, 0.03])]).unwrap();
        let text = serde_json::to_string(&judgement).unwrap();
        assert!(text.contains(r#""verdict":{"is":"cannot_tell","about_n":1300}"#), "{text}");
        assert_eq!(serde_json::from_str::<Judgement>(&text).unwrap(), judgement);
    }
}
