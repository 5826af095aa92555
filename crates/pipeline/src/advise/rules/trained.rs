//! What happened while a stage was trained.

use super::reinforcement::{longer, window};
use super::{ARTICLE, Cited, DECISION, FOLDER, Find, GUIDE, Hit, Rule, Severity, Symptom, hit, percent, short, shown};
use crate::advise::signals::{StageView, Trained};
use crate::rft::{Alarm, BaselineVerdict};

/// Share by which a validation loss must have risen over its lowest.
const RISEN: f64 = 0.01;
/// Share of the whole fall that the last three validations must have brought, for the gain not to be flat: as `flat_gain`.
const FLAT: f64 = 0.05;

const STOPS: Cited =
    Cited { what: "rules of early stopping (docs/decisions/0025-early-stopping.md)", when: "November 2026" };
const SIGNALS: Cited =
    Cited { what: "alarms of a run; no thresholds were published (docs/decisions/0030-rft.md)", when: "November 2026" };

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "diverged",
        severity: Severity::Error,
        when: "a stage ended because its loss or gradient was no number or rose too far, or its training loss ends above where \
               it began",
        reason: "the rate was too high for these rows, or the rows of some steps are broken",
        source: STOPS,
        action: "lower the learning rate to a third, or raise the warm-up; look at the rows of the last steps",
        shows: Some(Symptom::Instability),
        explains: &[Symptom::NoGain, Symptom::Forgetting],
        find: Find::Trained(|view, trained| {
            let told = trained.stopped.as_ref().filter(|(_, reason)| reason.starts_with("diverged"));
            let found = match told {
                Some((_, reason)) => reason.clone(),
                None => {
                    let first = trained.loss_around(trained.losses.get(4)?.0)?;
                    let last = trained.loss_around(trained.losses.last()?.0)?;
                    let risen = last.is_nan() || last > 1.1 * first;
                    let seen = !view.is(&["rft"]) && trained.losses.len() >= 10 && risen;
                    seen.then(|| format!("the training loss goes from {} to {}", shown(first), shown(last)))?
                }
            };
            Some(third_of_the_rate(view, found))
        }),
    },
    Rule {
        id: "overfit",
        severity: Severity::Warning,
        when: "the validation loss ends more than 1 % above its lowest while the training loss falls on; of rft, the \
               validation reward \
               falls while the reward of the rounds rises",
        reason: "validation rises while training falls: the rows are learnt by heart, not the task",
        source: ARTICLE,
        action: "stop where the validation was lowest, add rows, or lower the rank or the rate",
        shows: Some(Symptom::Overfitting),
        explains: &[Symptom::Forgetting, Symptom::NoGain],
        find: Find::Trained(|view, trained| {
            let (best, lowest) = trained.best().filter(|(step, _)| *step > 0)?;
            let (last, loss) = *trained.validations.last()?;
            let risen = loss.is_finite() && last > best && loss - lowest > RISEN * lowest.abs();
            let training = if view.is(&["rft"]) {
                trained.ends(|round| round.reward).is_some_and(|(first, last)| last > first)
            } else {
                trained.loss_around(last)? < trained.loss_around(best)?
            };
            (risen && training).then(|| {
                let found = format!(
                    "validation {} at step {best}, {} at step {last}, while training went on improving",
                    shown(lowest),
                    shown(loss)
                );
                let share = best as f64 / view.stage.steps.max(1) as f64;
                hit(view.path("train"), found).stretched(view, share)
            })
        }),
    },
    Rule {
        id: "start-never-bettered",
        severity: Severity::Warning,
        when: "no validation of a stage is better than the one before its first step",
        reason: "the stage taught nothing that its validation rows show: the rate is too high, or training and validation rows \
                 differ",
        source: STOPS,
        action: "lower the learning rate to a third; compare the rows of both files",
        shows: Some(Symptom::NoGain),
        explains: &[Symptom::NoGain],
        find: Find::Trained(|view, trained| {
            let (best, lowest) = trained.best()?;
            let more = trained.validations.len() > 1 && trained.validations[0].0 == 0;
            (best == 0 && more).then(|| {
                third_of_the_rate(view, format!("the validation of the start, {}, was the best", shown(lowest)))
            })
        }),
    },
    Rule {
        id: "still-falling",
        severity: Severity::Note,
        when: "the last validation is the lowest, and brought more than 5 % of the whole fall",
        reason: "the stage ended while it was still learning: a low domain score wants more steps, or more rows",
        source: GUIDE,
        action: "train twice as long",
        shows: None,
        explains: &[Symptom::NoGain],
        find: Find::Trained(|view, trained| {
            let [(_, first), .., (_, before), (at, last)] = trained.validations[..] else { return None };
            let (best, _) = trained.best()?;
            (best == at && before - last > FLAT * (first - last)).then(|| {
                let found = format!("the last validations are {} and {}", shown(before), shown(last));
                hit(view.path("train"), found).stretched(view, 2.0)
            })
        }),
    },
    Rule {
        id: "lora-is-flat",
        severity: Severity::Note,
        when: "a stage with LoRA fell at first, and its last three validations brought less than 5 % of the whole fall",
        reason: "LoRA's gain has flattened: full rank may go on, at its price",
        source: ARTICLE,
        action: "set mode: lora_then_full, which keeps full rank only where it is better by more than noise",
        shows: None,
        explains: &[Symptom::NoGain],
        find: Find::Trained(|view, trained| {
            let all = &trained.validations;
            let (first, last) = (all.first()?.1, all.last()?.1);
            let lowest = |part: &[(usize, f64)]| part.iter().map(|(_, loss)| *loss).fold(f64::INFINITY, f64::min);
            let three = all.len().checked_sub(3).filter(|early| *early >= 2)?;
            let (fall, recent) = (first - lowest(all), lowest(&all[..three]) - lowest(&all[three..]));
            let flat = fall > 0.0 && recent < FLAT * fall && last - lowest(all) <= RISEN * lowest(all).abs();
            (view.mode() == "lora" && view.is(&["sft", "cpt"]) && flat).then(|| {
                let found = format!(
                    "of a fall of {} the last three validations brought {}",
                    shown(fall),
                    shown(recent.max(0.0))
                );
                hit(view.path("mode"), found).set(view.path("mode"), "lora_then_full")
            })
        }),
    },
    Rule {
        id: "general-text-lost",
        severity: Severity::Error,
        when: "while a stage was trained, the loss of a watched general suite rose past its floor by its whole 95 % interval",
        reason: "the stage forgets: what it overwrites is not its own",
        source: ARTICLE,
        action: "lower the share of domain data, before touching the learning rate or the batch",
        shows: Some(Symptom::Forgetting),
        explains: &[Symptom::Forgetting],
        find: Find::Trained(|view, trained| {
            let past = trained.general.iter().find_map(|(suite, low)| {
                let floor = view.plan.setting(&format!("evaluation.floors.{suite}.max_increase_percent"))?;
                let floor = floor.value.as_f64()?;
                (100.0 * low > floor)
                    .then(|| format!("{suite} is up by {} at least, its floor is {floor} %", percent(*low)))
            })?;
            Some(less_domain(view, past))
        }),
    },
    Rule {
        id: "start-earns-too-little",
        severity: Severity::Error,
        when: "a stage of rft began where fewer completions earn something than baseline.low (5 %)",
        reason: "too few good samples to learn from: reinforcement sharpens ability, it does not close a large gap",
        source: GUIDE,
        action: "train with demonstrations first (sft), or make the reward kinder",
        shows: Some(Symptom::RewardLost),
        explains: &[Symptom::RewardLost, Symptom::NoGain],
        find: Find::Trained(|view, trained| {
            window(view, trained.baseline.as_ref().filter(|_| view.baseline().is_none())?, BaselineVerdict::SftFirst)
        }),
    },
    Rule {
        id: "start-earns-nearly-all",
        severity: Severity::Warning,
        when: "a stage of rft began where more completions are solved than baseline.high (95 %)",
        reason: "little is left to gain, and what changes may do harm",
        source: GUIDE,
        action: "take harder prompts, or leave the stage out",
        shows: None,
        explains: &[Symptom::NoGain],
        find: Find::Trained(|view, trained| {
            window(view, trained.baseline.as_ref().filter(|_| view.baseline().is_none())?, BaselineVerdict::NotNeeded)
        }),
    },
    Rule {
        id: "reward-fails",
        severity: Severity::Error,
        when: "a reward failed on more than 5 % of the completions of all rounds",
        reason: "many errors are a broken reward function, and a weak reward lowers accuracy whatever else is set",
        source: GUIDE,
        action: "run `temper reward test RECIPE`, which names the rows, and mend the reward",
        shows: Some(Symptom::RewardLost),
        explains: &[Symptom::RewardLost, Symptom::NoGain],
        find: Find::Trained(|view, trained| {
            let all: usize = trained.rounds.iter().map(|round| round.completions).sum();
            let mut failed = std::collections::BTreeMap::<&str, usize>::new();
            for (name, part) in trained.rounds.iter().flat_map(|round| &round.rewards) {
                *failed.entry(name).or_default() += part.failed;
            }
            let (name, failed) = failed.into_iter().max_by_key(|(_, failed)| *failed)?;
            (failed * 20 > all).then(|| {
                hit(view.path("rewards"), format!("`{name}` failed on {}", percent(failed as f64 / all as f64)))
            })
        }),
    },
    Rule {
        id: "completions-cut",
        severity: Severity::Warning,
        when: "the alarm of a run that more than half of the completions were cut",
        reason: "a cut answer cannot be right: its reward is lost, and the gradient with it",
        source: Cited { what: "huggingface/trl#5697", when: "2026" },
        action: Alarm::Cut.advice().1,
        shows: None,
        explains: &[Symptom::RewardLost, Symptom::NoGain],
        find: Find::Trained(|view, trained| Some(longer(view, alarm(trained, Alarm::Cut)?))),
    },
    Rule {
        id: "groups-without-a-difference",
        severity: Severity::Warning,
        when: "the alarm of a run that nine groups of ten earned one reward throughout",
        reason: "a group whose rewards are all the same teaches nothing",
        source: SIGNALS,
        action: Alarm::Stuck.advice().1,
        shows: None,
        explains: &[Symptom::RewardLost, Symptom::NoGain],
        find: Find::Trained(|view, trained| {
            let path = view.path("rollouts.resample_rounds");
            Some(hit(path.clone(), alarm(trained, Alarm::Stuck)?).set(path, 2))
        }),
    },
    Rule {
        id: "reward-exploited",
        severity: Severity::Error,
        when: "the alarm of a run that the reward rose while a held-out verifier fell",
        reason: "the model found what earns without being right: reward hacking",
        source: ARTICLE,
        action: Alarm::Hacking.advice().1,
        shows: Some(Symptom::RewardLost),
        explains: &[Symptom::NoGain, Symptom::Forgetting],
        find: Find::Trained(|view, trained| {
            let found = hit(view.path("rewards"), alarm(trained, Alarm::Hacking)?);
            let beta = view.number("policy.beta").filter(|beta| *beta > 0.0).unwrap_or(0.001);
            Some(found.set(view.path("policy.beta"), short(10.0 * beta)))
        }),
    },
    Rule {
        id: "entropy-collapsed",
        severity: Severity::Warning,
        when: "the alarm of a run that the entropy fell below a tenth of what it was",
        reason: "completions are nearly all the same: of the entropy almost all gain is made, and it is spent",
        source: Cited { what: "Cui et al., arXiv 2505.22617; DAPO, arXiv 2503.14476; the bound is ours", when: "2025" },
        action: Alarm::Collapse.advice().1,
        shows: Some(Symptom::RewardLost),
        explains: &[Symptom::RewardLost],
        find: Find::Trained(|view, trained| {
            let path = view.path("policy.epsilon_high");
            Some(hit(path.clone(), alarm(trained, Alarm::Collapse)?).set(path, 0.28))
        }),
    },
    Rule {
        id: "policy-blew-up",
        severity: Severity::Error,
        when: "the alarm of a run that the policy is far from its reference, or its gradient ten times as long as at first",
        reason: "what is forgotten grows with the distance from the reference",
        source: Cited { what: "RL's Razor, arXiv 2509.04259; the bounds are ours", when: "2025" },
        action: Alarm::BlowUp.advice().1,
        shows: Some(Symptom::Instability),
        explains: &[Symptom::Forgetting, Symptom::RewardLost],
        find: Find::Trained(|view, trained| Some(third_of_the_rate(view, alarm(trained, Alarm::BlowUp)?))),
    },
    Rule {
        id: "reward-spread-grows",
        severity: Severity::Warning,
        when: "the standard deviation of the rewards of the last ten rounds is more than twice that of the first ten",
        reason: "a growing variance of the reward is unstable training",
        source: Cited { what: "Amazon Nova user guide; the factor is ours", when: "2026" },
        action: "lower the learning rate to a third, or take more prompts a round",
        shows: Some(Symptom::Instability),
        explains: &[Symptom::RewardLost],
        find: Find::Trained(|view, trained| {
            let (first, last) = trained.ends(|round| round.reward_std)?;
            (first > 0.0 && last > 2.0 * first).then(|| {
                third_of_the_rate(view, format!("the standard deviation goes from {} to {}", shown(first), shown(last)))
            })
        }),
    },
    Rule {
        id: "reward-plateau",
        severity: Severity::Warning,
        when: "the alarm of a run that the mean reward stayed below 0.15",
        reason: "on so low a plateau hardly anything earns: the reward, the data or the start are wrong, not the settings",
        source: GUIDE,
        action: Alarm::LowPlateau.advice().1,
        shows: Some(Symptom::RewardLost),
        explains: &[Symptom::NoGain],
        find: Find::Trained(|view, trained| Some(hit(view.path("rewards"), alarm(trained, Alarm::LowPlateau)?))),
    },
    Rule {
        id: "reward-flat",
        severity: Severity::Warning,
        when: "the mean reward of the last ten rounds is less than 0.01 above that of the first ten, and not below 0.15",
        reason: "a reward that does not rise is a reason to stop, and to change the reward before the settings",
        source: GUIDE,
        action: "change the design of the reward, widen the data, add representative examples",
        shows: Some(Symptom::RewardLost),
        explains: &[Symptom::NoGain],
        find: Find::Trained(|view, trained| {
            let (first, last) = trained.ends(|round| round.reward)?;
            (last - first < 0.01 && last >= 0.15).then(|| {
                hit(view.path("rewards"), format!("the mean reward goes from {} to {}", shown(first), shown(last)))
            })
        }),
    },
    Rule {
        id: "ended-early",
        severity: Severity::Note,
        when: "a rule of early stopping ended a stage for another reason than divergence",
        reason: "the rest of its steps was not worth it; its best weights are taken",
        source: STOPS,
        action: "nothing, or a shorter stage next time",
        shows: None,
        explains: &[],
        find: Find::Trained(|view, trained| {
            let (_, reason) = trained.stopped.as_ref().filter(|(_, reason)| !reason.starts_with("diverged"))?;
            Some(hit(view.path("train"), reason.clone()))
        }),
    },
    Rule {
        id: "unfinished",
        severity: Severity::Warning,
        when: "a run has not come to its end",
        reason: "it was stopped, or goes on still: what is said of it may change",
        source: DECISION,
        action: "go on with it by `temper resume`",
        shows: None,
        explains: &[],
        find: Find::Run(|plan, ran| {
            let done = ran.stages.iter().filter_map(|stage| stage.losses.last()).map(|(step, _)| step).sum::<usize>();
            let of: usize = plan.stages.iter().map(|stage| stage.steps).sum();
            (!ran.finished).then(|| hit("", format!("{done} of {of} steps are made")).run(&["resume", FOLDER]))
        }),
    },
];

/// What an alarm saw, where it was given.
fn alarm(trained: &Trained, alarm: Alarm) -> Option<String> {
    let (_, step) = trained.alarms.iter().find(|(given, _)| *given == alarm)?;
    Some(format!("after step {step}: {}", alarm.advice().0))
}

fn third_of_the_rate(view: &StageView<'_>, found: String) -> Hit {
    let path = view.path("learning_rate");
    let found = hit(path.clone(), found);
    match view.number("learning_rate") {
        Some(rate) => found.set(path, shown(rate / 3.0)),
        None => found,
    }
}

/// Half as much domain data, and where there is no mix half and half: the mix is moved before the rate.
pub(super) fn less_domain(view: &StageView<'_>, found: String) -> Hit {
    let path = view.path("mix.domain");
    let found = hit(path.clone(), found);
    match view.domain_percent() {
        _ if !view.is(&["sft", "cpt"]) => found,
        all if all > 50.0 => found.set(path, 50),
        some => found.set(path, short(some / 2.0)),
    }
}
