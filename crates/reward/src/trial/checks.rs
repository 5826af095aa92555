//! The checks of a trial, each a verdict with its number.

use std::collections::BTreeSet;

use super::statistics::{area_under_curve, rank_correlation};
use super::{Finding, Kind, Line, Scores, TrialRow, Tried, Verdict};
use crate::rewards::Rewards;
use crate::scored::SampleScore;

/// Failures above this share of the samples are an error: the default of `max_error_rate`.
const FAILURES: f64 = 0.05;
/// Amazon Nova Forge: where fewer than one in twenty is positive, reinforcement has little to go by.
const FEW: f64 = 0.05;
/// Amazon Nova Forge: above it there is nothing left to gain.
const MOST: f64 = 0.95;
/// A correlation below this is no bias that matters, however sure it is.
const SMALL: f64 = 0.2;
/// Judgements of a model may differ so much from one time to the next, on average.
const NOISE: f64 = 0.05;
/// Seconds a sample may take before training waits for it: a batch of 64 in about a minute.
const SLOW: f64 = 1.0;

/// All checks, in the order in which they are read.
pub(super) fn all(
    rewards: &Rewards,
    rows: &[TrialRow],
    tried: &[Tried<'_>],
    scores: &Scores,
    table: &[Line],
) -> Vec<Finding> {
    let mut findings = vec![references(rows, tried), failures(table)];
    findings.extend(determinism(rewards, tried, scores));
    findings.push(place(scores));
    findings.push(agreement(tried, &scores.first));
    findings.extend(discrimination(tried, &scores.first));
    findings.extend(spread(rows, tried, &scores.first));
    findings.extend(length(tried, &scores.first, table));
    findings.extend(held_out(rewards, tried, &scores.first));
    findings.push(speed(table));
    findings
}

fn finding(check: &'static str, verdict: Verdict, found: String, hint: &'static str) -> Finding {
    let hint = (verdict != Verdict::Ok).then_some(hint);
    Finding { check, verdict, found, hint, interval: None }
}

/// The worse of two verdicts by a share of faults.
fn by_share(faults: usize, of: usize, error_above: f64) -> Verdict {
    match faults {
        0 => Verdict::Ok,
        _ if faults as f64 > error_above * of as f64 => Verdict::Error,
        _ => Verdict::Warning,
    }
}

fn of_kind<'s>(
    tried: &'s [Tried<'s>],
    scores: &'s [SampleScore],
    fits: impl Fn(Kind) -> bool + 's,
) -> impl Iterator<Item = (&'s Tried<'s>, f64)> {
    let pairs = tried.iter().zip(scores).filter(move |(tried, _)| fits(tried.kind));
    pairs.filter_map(|(tried, score)| Some((tried, score.total?)))
}

/// Rows that say what a right answer is.
fn references(rows: &[TrialRow], tried: &[Tried<'_>]) -> Finding {
    let with = tried.iter().filter(|tried| tried.kind == Kind::Reference).count();
    let verdict = if with == 0 { Verdict::Unknown } else { by_share(rows.len() - with, rows.len(), 1.0) };
    let found = format!("{with} of {} rows say what a right answer is", rows.len());
    finding("rows", verdict, found, "add `reference_answer`, or say by `--reference-as` how it is written")
}

/// Samples on which rewards failed, over both scorings.
fn failures(table: &[Line]) -> Finding {
    let mut told = Vec::new();
    let mut verdict = Verdict::Ok;
    for line in table {
        let failed = line.counts.failures();
        let all = failed + line.counts.scored + line.counts.abstained;
        if failed > 0 {
            let kinds = line.counts.failed.iter().map(|(kind, count)| format!("{count} {kind}"));
            told.push(format!("{} on {failed} of {all} ({})", line.name, kinds.collect::<Vec<_>>().join(", ")));
            verdict = verdict.max(by_share(failed, all, FAILURES));
        }
    }
    let found = if told.is_empty() { "none".to_owned() } else { told.join("; ") };
    finding("failures", verdict, found, "a reward returns a finite number for every completion, or `None` to abstain")
}

/// Whether each reward is a function of the sample: twice the same, whatever stood beside it.
fn determinism(rewards: &Rewards, tried: &[Tried<'_>], scores: &Scores) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (place, (name, judged)) in rewards.names().zip(rewards.judged()).enumerate() {
        let pairs = scores
            .first
            .iter()
            .zip(&scores.second)
            .zip(tried)
            .map(|((first, second), tried)| (&first.parts[place].outcome, &second.parts[place].outcome, tried));
        let (mut differ, mut gap, mut both, mut example) = (0, 0.0, 0, None);
        for (first, second, tried) in pairs {
            let (Some(first), Some(second)) = (first.score(), second.score()) else { continue };
            both += 1;
            gap += (first - second).abs();
            if first != second {
                differ += 1;
                example.get_or_insert_with(|| format!("; of `{}` {first} and {second}", tried.id));
            }
        }
        if differ > 0 {
            let mean = gap / both as f64;
            let found = format!(
                "{name} gave {differ} of {both} samples another score the second time, by {mean:.3} on average{}",
                example.unwrap_or_default()
            );
            let verdict = if judged && mean <= NOISE { Verdict::Warning } else { Verdict::Error };
            let hint = "a score is a function of its sample: no chance, no clock, no memory of other samples";
            findings.push(finding("determinism", verdict, found, hint));
        }
    }
    if findings.is_empty() {
        let found = "each score is the same a second time, in another order and other batches".to_owned();
        findings.push(finding("determinism", Verdict::Ok, found, ""));
    }
    findings
}

/// Whether the place in a batch changes the score: the second order is random, so that nothing else goes with the
/// place.
fn place(scores: &Scores) -> Finding {
    let changes = scores.first.iter().zip(&scores.second).zip(&scores.places);
    let pairs: Vec<(f64, f64)> = changes
        .filter_map(|((first, second), place)| {
            Some(((place % super::SECOND_BATCH) as f64, second.total? - first.total?))
        })
        .collect();
    if pairs.iter().all(|pair| pair.1 == 0.0) {
        return finding("place in the batch", Verdict::Ok, "the same score at every place".to_owned(), "");
    }
    let correlation = rank_correlation(&pairs);
    let biased = correlation.is_some_and(|found| found.low > 0.0 || found.high < 0.0);
    let found = match correlation {
        Some(found) => format!("the place in the batch goes with the change of score: {:.2}", found.value),
        None => "too few samples to tell".to_owned(),
    };
    let verdict = if biased { Verdict::Error } else { Verdict::Warning };
    let hint = "a score is a function of its sample, not of its place";
    Finding { interval: correlation, ..finding("place in the batch", verdict, found, hint) }
}

/// Whether a row's own reference scores above another row's, rubbish and nothing.
fn agreement(tried: &[Tried<'_>], scores: &[SampleScore]) -> Finding {
    let (mut rows, mut beaten, mut example) = (0, 0, None);
    for (reference, own) in of_kind(tried, scores, |kind| kind == Kind::Reference) {
        let same_row = |tried: &Tried<'_>| tried.row == reference.row;
        let rivals = of_kind(tried, scores, |kind| !matches!(kind, Kind::Given | Kind::Reference));
        let best = rivals.filter(|(tried, _)| same_row(tried)).max_by(|a, b| a.1.total_cmp(&b.1));
        rows += 1;
        if let Some((rival, score)) = best.filter(|(_, score)| *score >= own) {
            beaten += 1;
            example.get_or_insert_with(|| format!("; `{}` scores {score}, the reference {own}", rival.id));
        }
    }
    let verdict = if rows == 0 { Verdict::Unknown } else { by_share(beaten, rows, FAILURES) };
    let found = match rows {
        0 => "no reference was scored".to_owned(),
        _ => format!(
            "the reference scores above another row's, rubbish and nothing in {} of {rows} rows{}",
            rows - beaten,
            example.unwrap_or_default()
        ),
    };
    let hint = "if answers have a form, such as tags, say it: `--reference-as '<answer>{reference_answer}</answer>'`";
    finding("agreement", verdict, found, hint)
}

/// How often a good completion scores above a bad one.
fn discrimination(tried: &[Tried<'_>], scores: &[SampleScore]) -> Vec<Finding> {
    let totals = |fits: &dyn Fn(&Tried<'_>) -> bool| -> Vec<f64> {
        let pairs = tried.iter().zip(scores).filter(|(tried, _)| fits(tried));
        pairs.filter_map(|(_, score)| score.total).collect()
    };
    let probes = area_under_curve(
        &totals(&|tried| tried.kind == Kind::Reference),
        &totals(&|tried| !matches!(tried.kind, Kind::Given | Kind::Reference)),
    );
    let labelled =
        area_under_curve(&totals(&|tried| tried.good == Some(true)), &totals(&|tried| tried.good == Some(false)));
    let mut findings = Vec::new();
    for (what, area) in [("references above probes", probes), ("completions marked good above bad ones", labelled)] {
        let Some(area) = area else { continue };
        let verdict = match area {
            area if area.value <= 0.5 => Verdict::Error,
            area if area.low <= 0.5 || area.value < 0.8 => Verdict::Warning,
            _ => Verdict::Ok,
        };
        let found = format!(
            "{what} in {:.1} % of pairs ({:.1} to {:.1})",
            100.0 * area.value,
            100.0 * area.low,
            100.0 * area.high
        );
        let hint = "a reward that cannot tell good from bad teaches nothing: 50 % is a coin; more rows tell more";
        findings.push(Finding { interval: Some(area), ..finding("discrimination", verdict, found, hint) });
    }
    if labelled.is_none() {
        let found = "over the model's real range: no completion is marked `good`".to_owned();
        let hint = "mark some completions, `good: true` or `false`, by hand: a judge above all is to be judged itself";
        findings.push(finding("discrimination", Verdict::Unknown, found, hint));
    }
    findings
}

/// What training would have to go by: how the scores of the given completions are spread, and within groups.
fn spread(rows: &[TrialRow], tried: &[Tried<'_>], scores: &[SampleScore]) -> Vec<Finding> {
    let given: Vec<(&Tried<'_>, f64)> = of_kind(tried, scores, |kind| kind == Kind::Given).collect();
    if given.is_empty() {
        let found = "no completions were given".to_owned();
        let hint = "give what the model writes: `--completions FILE`";
        return vec![finding("spread", Verdict::Unknown, found, hint)];
    }
    let totals: Vec<f64> = given.iter().map(|(_, total)| *total).collect();
    let count = totals.len() as f64;
    // The best that anything here scores is what an answer can get.
    let top = scores.iter().filter_map(|score| score.total).fold(f64::NEG_INFINITY, f64::max);
    let positive = totals.iter().filter(|total| **total > 0.0).count() as f64 / count;
    let full = totals.iter().filter(|total| **total >= top).count() as f64 / count;
    let distinct: BTreeSet<u64> = totals.iter().map(|total| total.to_bits()).collect();
    let (verdict, hint) = match () {
        () if distinct.len() == 1 => (Verdict::Error, "all score alike: there is nothing to learn from"),
        () if positive < FEW => (Verdict::Warning, "fewer than 5 % score above 0: fine-tune on examples first (sft)"),
        () if full > MOST => (Verdict::Warning, "more than 95 % have the best score: there is nothing left to gain"),
        () => (Verdict::Ok, ""),
    };
    let mean = totals.iter().sum::<f64>() / count;
    let found = format!(
        "mean {mean:.3}, {:.0} % above 0, {:.0} % at the best score {top}, {} different scores of {} completions",
        100.0 * positive,
        100.0 * full,
        distinct.len(),
        totals.len()
    );
    let mut findings = vec![finding("spread", verdict, found, hint)];
    let group = |row: usize| given.iter().filter(move |(tried, _)| tried.row == row).map(|(_, total)| *total);
    let groups: Vec<Vec<f64>> =
        (0..rows.len()).map(|row| group(row).collect()).filter(|group: &Vec<f64>| group.len() > 1).collect();
    if !groups.is_empty() {
        let mixed = groups.iter().filter(|group| group.iter().any(|total| *total != group[0])).count();
        let verdict = if mixed == 0 { Verdict::Error } else { by_share(groups.len() - mixed, groups.len(), 1.0 - FEW) };
        // That some groups are alike is how it is; that nearly all are is a fault.
        let verdict = if verdict == Verdict::Warning { Verdict::Ok } else { verdict };
        let found = format!("{mixed} of {} groups have completions with different scores", groups.len());
        let hint = "a group that scores alike has no advantage, and teaches nothing: other prompts, or a finer reward";
        findings.push(finding("groups", verdict, found, hint));
    }
    findings
}

/// Whether length pays: among the given completions, and as rubbish made longer.
fn length(tried: &[Tried<'_>], scores: &[SampleScore], table: &[Line]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let pairs: Vec<(f64, f64)> = of_kind(tried, scores, |kind| kind == Kind::Given)
        .map(|(tried, total)| (tried.text.chars().count() as f64, total))
        .collect();
    if let Some(found) = rank_correlation(&pairs) {
        let sure = found.low > 0.0 || found.high < 0.0;
        let verdict = if sure && found.value.abs() >= SMALL { Verdict::Warning } else { Verdict::Ok };
        let text = format!(
            "rank correlation of length and score {:.2} ({:.2} to {:.2}) over {} completions",
            found.value,
            found.low,
            found.high,
            pairs.len()
        );
        let hint = match found.value > 0.0 {
            true => "longer answers score higher: watch the length in training, or hold out a `length` verifier",
            false => "shorter answers score higher: watch that answers do not shrink to nothing",
        };
        findings.push(Finding { interval: Some(found), ..finding("length", verdict, text, hint) });
    }
    if let Some(Line { rubbish: Some(short), long_rubbish: Some(long), .. }) = table.last() {
        let verdict = if long > short { Verdict::Error } else { Verdict::Ok };
        let found = format!("rubbish scores {short:.3}, twenty times as much of it {long:.3}");
        findings.push(finding("length", verdict, found, "length alone is paid for: a model will find that out"));
    }
    findings
}

/// Whether the total and what is held out of it agree on the given completions.
fn held_out(rewards: &Rewards, tried: &[Tried<'_>], scores: &[SampleScore]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (place, (name, held_out)) in rewards.names().zip(rewards.held_out()).enumerate() {
        if !held_out {
            continue;
        }
        let given = tried.iter().zip(scores).filter(|(tried, _)| tried.kind == Kind::Given);
        let pairs: Vec<(f64, f64)> =
            given.filter_map(|(_, score)| Some((score.total?, score.parts[place].outcome.score()?))).collect();
        let Some(found) = rank_correlation(&pairs) else { continue };
        let verdict = if found.low > 0.0 { Verdict::Ok } else { Verdict::Warning };
        let text =
            format!("the total and {name} agree by rank: {:.2} ({:.2} to {:.2})", found.value, found.low, found.high);
        let hint = "the two do not go together: one of them does not measure what is wanted";
        findings.push(Finding { interval: Some(found), ..finding("held out", verdict, text, hint) });
    }
    findings
}

fn speed(table: &[Line]) -> Finding {
    let slowest = table
        .iter()
        .filter_map(|line| Some((line.name.as_str(), line.median_seconds?, line.p95_seconds?)))
        .max_by(|a, b| a.2.total_cmp(&b.2));
    let Some((name, median, p95)) = slowest else {
        return finding("speed", Verdict::Unknown, "nothing was timed".to_owned(), "");
    };
    let verdict = if p95 > SLOW { Verdict::Warning } else { Verdict::Ok };
    let found = format!("the slowest is {name}: {:.1} ms a request, 95 % below {:.1} ms", 1e3 * median, 1e3 * p95);
    finding("speed", verdict, found, "training waits for its rewards: raise `concurrency`, or make it faster")
}
