//! What is said of a stage that reinforces, on the page, in a model card and on a terminal.

use super::record::{Baseline, Reinforced, Validation};
use crate::folder::RunFolder;
use crate::number::{count, duration, fixed, loss, percent, signed_loss};

/// Rounds or steps at either end of a curve that are averaged for words.
const WINDOW: usize = 10;

/// Names of the rewards of a stage.
#[derive(Default)]
pub(crate) struct Parts {
    /// In the order of the recipe.
    pub names: Vec<String>,
    /// Those that nothing is trained on.
    pub held_out: Vec<String>,
}

impl Parts {
    /// Those of stage `index` of the plan, by its settings.
    pub fn of(run: &RunFolder, index: usize) -> Self {
        let mut parts = Self::default();
        for i in 0.. {
            let of = |field: &str| run.plan.setting(index, &format!("rewards.{i}.{field}"));
            let Some(name) = of("name").and_then(|name| name.as_str()) else { break };
            if of("held_out").is_some_and(|held_out| *held_out == true) {
                parts.held_out.push(name.to_owned());
            }
            parts.names.push(name.to_owned());
        }
        parts
    }

    /// Their names, those that are held out in brackets.
    pub fn said(&self) -> String {
        let said = |name: &String| if self.held_out.contains(name) { format!("({name})") } else { name.clone() };
        self.names.iter().map(said).collect::<Vec<_>>().join(", ")
    }
}

/// Where a curve begins and ends: "mean over the first 10 rounds 0.4, over the last 10 0.7".
pub(crate) fn ends(values: &[(usize, f64)], what: &str, said: fn(f64) -> String) -> Option<String> {
    let (first, last) = (values.first()?, values.last()?);
    let n = (values.len() / 2).min(WINDOW);
    let mean = |part: &[(usize, f64)]| part.iter().map(|(_, value)| value).sum::<f64>() / part.len() as f64;
    Some(match n {
        0 => format!("{} in the only {what}", said(first.1)),
        1 => format!("{} in the first {what}, {} in the last", said(first.1), said(last.1)),
        _ => format!(
            "Mean over the first {n} {what}s {}, over the last {n} {}",
            said(mean(&values[..n])),
            said(mean(&values[values.len() - n..]))
        ),
    })
}

/// What the start earned: colour, verdict, and the numbers.
pub(crate) fn baseline(baseline: &Baseline) -> (&'static str, &'static str, String) {
    let (class, verdict, advice) = match baseline.verdict.as_str() {
        "worthwhile" => ("good", "worthwhile", ""),
        "sft_first" => (
            "bad",
            "supervised training first",
            " Too few completions earn something to learn from: train with demonstrations first (a stage `kind: sft` before \
             this one), or make the reward kinder.",
        ),
        _ => ("unsure", "not needed", " Little is left to gain: take harder prompts, or leave the stage out."),
    };
    let reward = baseline.reward.map_or("nothing could be scored".to_owned(), |r| format!("mean reward {}", loss(r)));
    let pass: Vec<String> =
        baseline.pass_at().iter().map(|(k, chance)| format!("pass@{k} {}", percent(*chance))).collect();
    let majority = baseline.majority.as_ref().map_or(String::new(), |(_, reward)| {
        format!(" The commonest reference answer, given to every prompt, would earn {}.", loss(*reward))
    });
    let text = format!(
        "Before training, over {} prompts with {} completions each: {reward}; {} of the completions earn something and {} are \
         solved ({}); {} of the groups are mixed, which is what can be learnt from; a completion has {} tokens on average, and \
         {} are cut.{majority}{advice}",
        count(baseline.prompts),
        count(baseline.generations),
        percent(baseline.positive),
        percent(baseline.solved),
        pass.join(", "),
        percent(baseline.mixed),
        fixed(baseline.completion_length, 1),
        percent(baseline.cut),
    );
    (class, verdict, text)
}

/// The reward of rounds, first and last.
pub(crate) fn rounds(stage: &Reinforced) -> Option<String> {
    let rewards: Vec<(usize, f64)> = stage.rounds.iter().filter_map(|r| Some((r.step, r.means.reward?))).collect();
    let rounds = match stage.rounds.len() {
        1 => "1 round".to_owned(),
        many => format!("{} rounds", count(many as u64)),
    };
    Some(format!("Training reward, {rounds}: {}.", lower(&ends(&rewards, "round", loss)?)))
}

/// The reward on validation prompts: before, and of the weights that are taken.
pub(crate) fn validation(stage: &Reinforced) -> Option<String> {
    let (first, best) = (stage.validations.first()?, stage.best_validation()?);
    let prompts = format!("Validation reward over {} prompts", count(best.prompts));
    let reward = best.means.reward?;
    let Some(start) = first.means.reward.filter(|_| first.step == 0) else {
        return Some(format!("{prompts}: {} at step {}, the highest.", loss(reward), count(best.step as u64)));
    };
    if stage.validations.len() == 1 {
        return Some(format!("{prompts}: {} before training.", loss(start)));
    }
    if best.step == 0 {
        return Some(format!("{prompts}: {} before training, and never above that.", loss(start)));
    }
    let two = |of: &dyn Fn(&Validation) -> Option<f64>, said: &dyn Fn(f64) -> String| {
        Some(format!("{} to {}", said(of(first)?), said(of(best)?)))
    };
    let mut more = Vec::new();
    if best.sampled() {
        more.extend(two(&|v| v.greedy_reward, &loss).map(|text| format!("likeliest completions {text}")));
        for (k, _) in best.pass_at() {
            let chance = |v: &Validation| v.pass_at().into_iter().find(|(of, _)| *of == k).map(|(_, chance)| chance);
            more.extend(two(&chance, &percent).map(|text| format!("pass@{k} {text}")));
        }
    }
    let more = if more.is_empty() { String::new() } else { format!(" In the same validations: {}.", more.join(", ")) };
    Some(format!(
        "{prompts}: {} before training, {} at step {} ({}), the highest.{more}",
        loss(start),
        loss(reward),
        count(best.step as u64),
        signed_loss(reward - start)
    ))
}

/// What needs no figure.
pub(crate) fn notes(stage: &Reinforced, clipped: bool) -> Vec<String> {
    let sum = |of: &dyn Fn(&super::record::Round) -> f64| stage.rounds.iter().map(of).sum::<f64>();
    let parts = |of: &dyn Fn(&super::record::Part) -> u64| {
        stage.rounds.iter().flat_map(|round| round.means.rewards.values()).map(of).sum::<u64>()
    };
    let completions = count(sum(&|round| round.means.completions as f64) as u64);
    let mut notes = Vec::new();
    notes.push(match (parts(&|part| part.failed), parts(&|part| part.abstained)) {
        (0, 0) => format!("No reward failed on any of the {completions} completions, and none abstained."),
        (failed, abstained) => {
            let unscored = sum(&|round| round.means.unscored as f64) as u64;
            format!(
                "Over {completions} completions rewards failed {} times and abstained {} times; {} completions were left \
                 without a reward, and out of their groups.",
                count(failed),
                count(abstained),
                count(unscored)
            )
        }
    });
    if !clipped {
        notes.push("No importance ratio was clipped.".to_owned());
    }
    let resampled = stage.rounds.iter().map(|round| round.resampled).sum::<u64>();
    if resampled > 0 {
        let text = "groups were sampled to replace some whose rewards were all the same";
        notes.push(format!("{} {text}.", count(resampled)));
    }
    let (sampling, scoring) = (sum(&|round| round.generation_seconds), sum(&|round| round.reward_seconds));
    notes.push(format!("Sampling took {}, the rewards {}.", duration(sampling), duration(scoring)));
    notes
}

/// A sentence within another.
fn lower(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or(String::new(), |first| first.to_lowercase().chain(characters).collect())
}
