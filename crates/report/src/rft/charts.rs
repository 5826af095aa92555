//! The curves of a stage that reinforces, over its own steps.

use super::record::{Means, Reinforced, Round, Validation};
use super::words::{Parts, ends};
use crate::chart::{Chart, Frame, Series};
use crate::curves::gradient_norm;
use crate::metrics::{Policy, Step};
use crate::number::{count, loss, percent, short, signed_loss};

/// Everything that the curves of a stage are drawn of.
pub(crate) struct Drawn<'a> {
    pub stage: &'a Reinforced,
    pub frame: Frame,
    /// Its steps, and how many are before it in the run.
    pub steps: Vec<&'a Step>,
    pub before: usize,
    pub parts: Parts,
    /// The longest completion; none where the plan does not say.
    pub limit: Option<u64>,
}

impl Drawn<'_> {
    /// Every figure for which there are values.
    pub fn charts(&self) -> Vec<Chart> {
        let charts = [
            self.reward(),
            self.by_name(),
            self.validation(),
            self.pass_at(),
            self.entropy(),
            self.ceiling(),
            self.divergence(),
            self.clipped(),
            gradient_norm(&self.frame, self.of_steps(|step| step.gradient_norm)),
            self.lengths(),
            self.lost(),
            self.errors(),
        ];
        charts.into_iter().flatten().collect()
    }

    fn of_steps(&self, value: impl Fn(&Step) -> f64) -> Vec<(usize, f64)> {
        self.steps.iter().map(|step| (step.at - self.before, value(step))).collect()
    }

    fn of_policy(&self, value: fn(&Policy) -> f64) -> Vec<(usize, f64)> {
        self.of_steps(|step| value(&step.policy)).into_iter().filter(|(_, value)| !value.is_nan()).collect()
    }

    fn of_rounds(&self, value: impl Fn(&Round) -> Option<f64>) -> Vec<(usize, f64)> {
        self.stage.rounds.iter().filter_map(|round| Some((round.step, value(round)?))).collect()
    }

    fn of_validations(&self, value: impl Fn(&Validation) -> Option<f64>) -> Vec<(usize, f64)> {
        self.stage.validations.iter().filter_map(|v| Some((v.step, value(v)?))).collect()
    }

    fn reward(&self) -> Option<Chart> {
        let values = self.of_rounds(|round| round.means.reward);
        let band = self.stage.rounds.iter().filter_map(|round| {
            let (mean, spread) = (round.means.reward?, round.means.reward_std?);
            Some((round.step, mean - spread, mean + spread))
        });
        let highest = values.iter().max_by(|a, b| a.1.total_cmp(&b.1))?;
        let highest = format!("the highest was {} at step {}", loss(highest.1), count(highest.0 as u64));
        let description = format!("{}; {highest}.", ends(&values, "round", loss)?);
        let series = [Series { band: band.collect(), ..Series::line("reward", 0, values) }];
        let unit = "mean of a round; shaded: one standard deviation of its completions";
        self.frame.chart("Reward", unit, description, &series, false)
    }

    /// What each reward says, where that is more than the reward itself.
    fn by_name(&self) -> Option<Chart> {
        let Parts { names, held_out } = &self.parts;
        if names.len() < 2 {
            return None;
        }
        let line = |(i, name): (usize, &String)| {
            let values = self.of_rounds(|round| round.means.rewards.get(name)?.mean);
            let line = Series::line(name, i, values);
            match held_out.contains(name) {
                true => Series { name: format!("{name} (held out)"), class: line.class + " dashed", ..line },
                false => line,
            }
        };
        let series: Vec<Series> = names.iter().enumerate().map(line).filter(|one| !one.values.is_empty()).collect();
        let description = match held_out.is_empty() {
            true => "What each reward says, before its weight.",
            false => "What each reward says, before its weight. Dashed: held out, which nothing is trained on.",
        };
        self.frame.chart("Rewards by name", "mean score of a round", description.to_owned(), &series, false)
    }

    fn validation(&self) -> Option<Chart> {
        let (first, last) = (self.stage.validations.first()?, self.stage.validations.last()?);
        let sampled = last.sampled();
        let values = self.of_validations(|v| v.means.reward);
        let best = self.stage.best_validation();
        let at = values.iter().position(|(step, _)| best.is_some_and(|best| best.step == *step));
        let name = if sampled { "sampled" } else { "likeliest" };
        let mut series = vec![Series { dotted: true, best: at, ..Series::line(name, 0, values) }];
        if sampled {
            let likeliest = self.of_validations(|v| v.greedy_reward);
            series.push(Series { dotted: true, ..Series::line("likeliest", 1, likeliest) });
        }
        let description = match (best.and_then(|best| Some((best, best.means.reward?))), first.means.reward) {
            (Some((best, reward)), Some(start)) if first.step == 0 => {
                let change = signed_loss(reward - start);
                let at = count(best.step as u64);
                format!("{} before training; the highest was {} at step {at} ({change}).", loss(start), loss(reward))
            }
            (Some((best, reward)), _) => format!("The highest was {} at step {}.", loss(reward), best.step),
            _ => "Nothing could be scored.".to_owned(),
        };
        let unit = format!("mean over {} prompts", count(last.prompts));
        self.frame.chart("Validation reward", unit, description, &series, false)
    }

    fn pass_at(&self) -> Option<Chart> {
        let last = self.stage.validations.last()?;
        let line = |(i, (k, _)): (usize, (u64, f64))| {
            let chance = |v: &Validation| v.pass_at().into_iter().find(|(of, _)| *of == k).map(|(_, chance)| chance);
            Series { dotted: true, ..Series::line(&format!("pass@{k}"), i, self.of_validations(chance)) }
        };
        let series: Vec<Series> = last.pass_at().into_iter().enumerate().map(line).collect();
        let shares: Vec<String> =
            last.pass_at().iter().map(|(k, chance)| format!("pass@{k} {}", percent(*chance))).collect();
        let description = format!("At step {}: {}.", count(last.step as u64), shares.join(", "));
        let unit = "chance that at least one of k sampled completions is solved";
        self.frame.chart("pass@k on validation prompts", unit, description, &series, true)
    }

    fn entropy(&self) -> Option<Chart> {
        let values = self.of_policy(|policy| policy.entropy);
        let description = ends(&values, "step", loss)? + ".";
        self.frame.chart("Entropy", "nats per token", description, &[Series::line("entropy", 0, values)], true)
    }

    fn ceiling(&self) -> Option<Chart> {
        let ceiling = self.of_rounds(|round| round.reward_ceiling);
        let last = ceiling.last()?.1;
        let dashed = Series::line("ceiling", 1, ceiling);
        let series = [
            Series::line("reward", 0, self.of_rounds(|round| round.means.reward)),
            Series { class: dashed.class + " dashed", ..dashed },
        ];
        let description = format!(
            "Where reward is bought with entropy, R = b \u{2212} a exp(H) fitted to all rounds: {} is left when the entropy is gone.",
            loss(last)
        );
        self.frame.chart("Reward and its ceiling", "by the entropy that is left", description, &series, false)
    }

    fn divergence(&self) -> Option<Chart> {
        let values = self.of_policy(|policy| policy.kl);
        let description = ends(&values, "step", loss)? + ".";
        let series = [Series::line("divergence", 0, values)];
        self.frame.chart("Divergence from the reference", "KL, nats per token", description, &series, true)
    }

    /// Nothing where nothing was clipped: that is said in words.
    fn clipped(&self) -> Option<Chart> {
        let (low, high) = (self.of_policy(|policy| policy.clipped[0]), self.of_policy(|policy| policy.clipped[1]));
        let largest = low.iter().chain(&high).map(|(_, share)| *share).fold(0.0, f64::max);
        if largest <= 0.0 {
            return None;
        }
        let description = format!("At most {} of a step's tokens on one side.", percent(largest));
        let series = [Series::line("from below", 0, low), Series::line("from above", 1, high)];
        self.frame.chart("Clipped importance ratios", "share of the tokens", description, &series, true)
    }

    fn lengths(&self) -> Option<Chart> {
        let of = |value: fn(&Means) -> f64| self.of_rounds(|round| Some(value(&round.means)));
        let values = of(|means| means.completion_length);
        let edges = of(|means| means.shortest).into_iter().zip(of(|means| means.longest));
        let band = edges.map(|((step, shortest), (_, longest))| (step, shortest, longest)).collect();
        let limit = self.limit.map(|limit| format!("; cut at {}", count(limit))).unwrap_or_default();
        let description = format!("{}{limit}.", ends(&values, "round", short)?);
        let series = [Series { band, ..Series::line("tokens", 0, values) }];
        let unit = "tokens, mean of a round; shaded: shortest to longest";
        self.frame.chart("Completion length", unit, description, &series, true)
    }

    /// What of a round teaches nothing, or less than it might.
    fn lost(&self) -> Option<Chart> {
        let cut = self.of_rounds(|round| Some(round.means.cut));
        let stuck = self.of_rounds(|round| Some(round.zero_variance));
        let description =
            format!("In the last round {} and {}.", percent(stuck.last()?.1), percent(cut.last().map_or(0.0, |c| c.1)));
        let series =
            [Series::line("groups of one reward throughout", 0, stuck), Series::line("completions cut", 1, cut)];
        self.frame.chart("Zero-variance groups and cut completions", "share of a round", description, &series, true)
    }

    /// Nothing where there was none: that is said in words.
    fn errors(&self) -> Option<Chart> {
        let line = |(i, name): (usize, &String)| {
            let failed = |round: &Round| Some(round.means.rewards.get(name)?.failed as f64);
            Series::line(name, i, self.of_rounds(failed))
        };
        let failed = |one: &Series| one.values.iter().any(|(_, count)| *count > 0.0);
        let series: Vec<Series> = self.parts.names.iter().enumerate().map(line).filter(failed).collect();
        let total = |one: &Series| one.values.iter().map(|(_, count)| count).sum::<f64>() as u64;
        let totals: Vec<String> = series.iter().map(|one| format!("{} {}", one.name, count(total(one)))).collect();
        let description = format!("In all rounds: {}.", totals.join(", "));
        self.frame.chart("Reward errors", "completions of a round", description, &series, true)
    }
}
