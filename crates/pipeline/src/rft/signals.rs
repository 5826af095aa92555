//! What a run of reinforcement shows when it goes wrong, and what to do about it.
//!
//! The thresholds are decisions of ours but where a source stands beside them; none was published for these signals.

use serde::{Deserialize, Serialize};

/// Rounds over which signals are averaged.
const WINDOW: usize = 10;
/// Share of its first entropy below which a policy has collapsed: of the entropy almost all gain is made of (Cui et al. 2025).
const COLLAPSED: f64 = 0.1;
/// Nats a token from the reference beyond which a policy is another model. RL's Razor (2025): what is forgotten grows with it.
const FAR: f64 = 1.0;
/// Times its first norm at which a gradient has blown up.
const BLOWN: f64 = 10.0;
/// Share of groups without a difference beyond which a round teaches nothing.
const STUCK: f64 = 0.9;
/// Share of completions that the limit cuts: huggingface/trl#5697.
const CUT: f64 = 0.5;
/// Mean reward on a plateau below which AWS says that the reward is to be designed anew.
const LOW: f64 = 0.15;

/// What one round and its last step showed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Signal {
    pub reward: f64,
    /// The mean of the rewards that are held out, where there are.
    pub held_out: Option<f64>,
    pub entropy: f64,
    pub kl: Option<f64>,
    pub gradient_norm: f64,
    /// Share of groups whose rewards are all the same.
    pub stuck: f64,
    pub cut: f64,
}

/// Something to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Alarm {
    /// The reward rises and a verifier that is not part of it falls.
    Hacking,
    /// The entropy is gone.
    Collapse,
    /// Far from the reference, or the gradient is.
    BlowUp,
    /// Groups without a difference.
    Stuck,
    /// Completions are cut.
    Cut,
    /// The reward stays low.
    LowPlateau,
}

impl Alarm {
    /// What was seen, and what to do.
    pub const fn advice(self) -> (&'static str, &'static str) {
        match self {
            Self::Hacking => (
                "reward rises while a held-out verifier falls: the reward is being exploited",
                "read the rollouts, mend the reward or gate it with the verifier, go back to an earlier checkpoint, raise beta",
            ),
            Self::Collapse => (
                "entropy has fallen below a tenth of what it was: completions are nearly all the same",
                "raise epsilon_high (DAPO: 0.28) or entropy_coefficient, lower learning_rate, or stop: most of the gain is made",
            ),
            Self::BlowUp => (
                "the policy is far from its reference, or its gradient ten times as long as at first",
                "lower learning_rate (try a third), raise beta, take more prompts a round",
            ),
            Self::Stuck => (
                "nine groups of ten earn one reward throughout, so hardly anything is learnt",
                "set resample_rounds, take prompts of middling difficulty, or a reward with more steps than two",
            ),
            Self::Cut => (
                "more than half of the completions are cut at max_completion_length",
                "raise it, or set overlong_buffer; a cut answer cannot be right",
            ),
            Self::LowPlateau => (
                "mean reward stays below 0.15",
                "design the reward anew, widen the data, or train with demonstrations first (AWS's guide to RFT of Nova)",
            ),
        }
    }
}

/// What the signals remember.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Signals {
    /// Of every round, in order.
    history: Vec<Signal>,
    /// Alarms that were given: each is given once.
    given: Vec<Alarm>,
}

impl Signals {
    /// Hears a round; what is new to say comes back.
    pub fn hear(&mut self, signal: Signal) -> Vec<Alarm> {
        self.history.push(signal);
        let found = [
            (Alarm::Hacking, self.hacking()),
            (Alarm::Collapse, self.collapsed()),
            (Alarm::BlowUp, self.blown()),
            (Alarm::Stuck, self.lately(|s| s.stuck).is_some_and(|stuck| stuck > STUCK)),
            (Alarm::Cut, self.lately(|s| s.cut).is_some_and(|cut| cut > CUT)),
            (Alarm::LowPlateau, self.history.len() >= 3 * WINDOW && self.lately(|s| s.reward).is_some_and(|r| r < LOW)),
        ];
        let new: Vec<Alarm> =
            found.into_iter().filter(|(alarm, seen)| *seen && !self.given.contains(alarm)).map(|(a, _)| a).collect();
        self.given.extend(&new);
        new
    }

    /// The mean over the first rounds, and over the last; none before there are enough that they do not overlap.
    fn ends(&self, of: impl Fn(&Signal) -> Option<f64>) -> Option<(f64, f64)> {
        let values: Vec<f64> = self.history.iter().filter_map(of).collect();
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
        (values.len() >= 2 * WINDOW).then(|| (mean(&values[..WINDOW]), mean(&values[values.len() - WINDOW..])))
    }

    fn lately(&self, of: impl Fn(&Signal) -> f64) -> Option<f64> {
        let last = self.history.len().checked_sub(WINDOW)?;
        Some(self.history[last..].iter().map(of).sum::<f64>() / WINDOW as f64)
    }

    /// The reward rose, and the held-out verifier fell, both by more than twice the standard error of a window's mean.
    fn hacking(&self) -> bool {
        let (Some(reward), Some(held_out)) = (self.ends(|s| Some(s.reward)), self.ends(|s| s.held_out)) else {
            return false;
        };
        let noise = |of: &dyn Fn(&Signal) -> Option<f64>| {
            let values: Vec<f64> = self.history.iter().filter_map(of).collect();
            let last = &values[values.len() - WINDOW..];
            let mean = last.iter().sum::<f64>() / WINDOW as f64;
            let variance = last.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (WINDOW - 1) as f64;
            2.0 * (2.0 * variance / WINDOW as f64).sqrt()
        };
        reward.1 - reward.0 > noise(&|s| Some(s.reward)) && held_out.0 - held_out.1 > noise(&|s| s.held_out)
    }

    fn collapsed(&self) -> bool {
        self.ends(|s| Some(s.entropy)).is_some_and(|(first, last)| last < COLLAPSED * first)
    }

    fn blown(&self) -> bool {
        let far = self.history.last().and_then(|s| s.kl).is_some_and(|kl| kl > FAR);
        far || self.ends(|s| Some(s.gradient_norm)).is_some_and(|(first, last)| first > 0.0 && last > BLOWN * first)
    }

    /// The reward that the entropy left would buy: `R = b - a exp(H)`, fitted to all rounds by least squares (Cui et al. 2025),
    /// at `H = 0`. None before there are enough rounds, or where the reward does not rise as entropy falls.
    pub fn ceiling(&self) -> Option<f64> {
        let n = self.history.len() as f64;
        if self.history.len() < 2 * WINDOW {
            return None;
        }
        let points = || self.history.iter().map(|s| (s.entropy.exp(), s.reward));
        let (mx, my) = points().fold((0.0, 0.0), |(x, y), p| (x + p.0 / n, y + p.1 / n));
        let (xx, xy) = points().fold((0.0, 0.0), |(a, b), p| (a + (p.0 - mx).powi(2), b + (p.0 - mx) * (p.1 - my)));
        let slope = xy / xx;
        (slope.is_finite() && slope < 0.0).then_some(my + slope * (1.0 - mx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM: Signal = Signal {
        reward: 0.5,
        held_out: Some(0.5),
        entropy: 1.0,
        kl: Some(0.01),
        gradient_norm: 1.0,
        stuck: 0.2,
        cut: 0.0,
    };

    /// Alarms of thirty rounds, of which the last ten are `late`.
    fn alarms(early: Signal, late: Signal) -> Vec<Alarm> {
        let mut signals = Signals::default();
        (0..30).flat_map(|round| signals.hear(if round < 20 { early } else { late })).collect()
    }

    #[test]
    fn each_alarm_where_it_belongs_and_once() {
        assert_eq!(alarms(CALM, CALM), []);
        assert_eq!(alarms(CALM, Signal { reward: 0.9, ..CALM }), []);
        assert_eq!(alarms(CALM, Signal { reward: 0.9, held_out: Some(0.2), ..CALM }), [Alarm::Hacking]);
        assert_eq!(alarms(CALM, Signal { held_out: Some(0.2), ..CALM }), []);
        assert_eq!(alarms(CALM, Signal { entropy: 0.05, ..CALM }), [Alarm::Collapse]);
        assert_eq!(alarms(CALM, Signal { kl: Some(1.5), ..CALM }), [Alarm::BlowUp]);
        assert_eq!(alarms(CALM, Signal { gradient_norm: 20.0, ..CALM }), [Alarm::BlowUp]);
        assert_eq!(alarms(CALM, Signal { stuck: 1.0, ..CALM }), [Alarm::Stuck]);
        assert_eq!(alarms(CALM, Signal { cut: 0.8, ..CALM }), [Alarm::Cut]);
        assert_eq!(alarms(Signal { reward: 0.1, ..CALM }, Signal { reward: 0.1, ..CALM }), [Alarm::LowPlateau]);
    }

    #[test]
    fn the_ceiling_is_found_where_the_law_holds() {
        let mut signals = Signals::default();
        for round in 0..40 {
            let entropy = 1.0 - 0.02 * f64::from(round);
            signals.hear(Signal { entropy, reward: 0.9 - 0.2 * entropy.exp(), ..CALM });
        }
        assert!((signals.ceiling().unwrap() - 0.7).abs() < 1e-9);
        assert_eq!(Signals::default().ceiling(), None);
    }
}
