//! Completions to read: some prompts of the first round and of the last one, with all that was made of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::ReportError;
use crate::items::{answer, bounded, shown};
use crate::number::{count, short, signed_loss};

/// Prompts of a round on the page.
const PROMPTS: usize = 3;
/// Different completions of a prompt on the page, half of them the best and half the worst.
const COMPLETIONS: usize = 8;

/// A line of `rollouts-N.jsonl`.
#[derive(Clone, Deserialize)]
pub(crate) struct Rollout {
    round: usize,
    step: usize,
    prompt_id: String,
    sample: usize,
    /// Where texts were left out, neither.
    #[serde(default)]
    prompt: Option<String>,
    #[serde(default)]
    completion: Option<String>,
    tokens: u64,
    cut: bool,
    reward: Option<f64>,
    /// By the name of the reward.
    rewards: BTreeMap<String, Value>,
    advantage: Option<f64>,
}

/// The first round of a stage and its last one.
#[derive(Default)]
pub(crate) struct Ends {
    first: Vec<Rollout>,
    /// Empty where there was one round only.
    last: Vec<Rollout>,
}

/// The ends of a file of completions, which may be large; none where there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<Ends>, ReportError> {
    let unreadable = |error| ReportError::Read { path: path.to_owned(), error };
    let mut file = match File::open(path) {
        Ok(file) => BufReader::new(file),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let (mut ends, mut line, mut number) = (Ends::default(), Vec::new(), 0);
    loop {
        line.clear();
        if file.read_until(b'\n', &mut line).map_err(unreadable)? == 0 {
            break;
        }
        number += 1;
        let rollout: Rollout = match serde_json::from_slice(&line) {
            Ok(rollout) => rollout,
            // Each line is written in one go with its break: this one was cut off by a crash.
            Err(_) if line.last() != Some(&b'\n') => break,
            Err(error) => return Err(ReportError::Content { path: path.to_owned(), line: Some(number), error }),
        };
        match (ends.first.first(), ends.last.first()) {
            (Some(first), _) if rollout.round == first.round => ends.first.push(rollout),
            (None, _) => ends.first.push(rollout),
            (_, Some(last)) if rollout.round == last.round => ends.last.push(rollout),
            _ => ends.last = vec![rollout],
        }
    }
    Ok((!ends.first.is_empty()).then_some(ends))
}

/// What the page shows of them.
#[derive(Default, Serialize)]
pub(crate) struct Section {
    /// Why there is nothing; empty otherwise.
    absent: String,
    texts: bool,
    rounds: Vec<ShownRound>,
}

#[derive(Serialize)]
struct ShownRound {
    title: String,
    shown: String,
    prompts: Vec<ShownPrompt>,
}

#[derive(Serialize)]
struct ShownPrompt {
    id: String,
    text: String,
    /// How many completions there were, and of how many kinds.
    made: String,
    rows: Vec<Row>,
}

/// Completions of a prompt that are the same.
#[derive(Serialize)]
struct Row {
    /// `best`, `worst` or nothing.
    tag: &'static str,
    class: &'static str,
    text: String,
    times: String,
    reward: String,
    parts: String,
    advantage: String,
    tokens: String,
}

/// Those of a stage. `names`: its rewards, in the order of the recipe.
pub(crate) fn section(ends: Option<&Ends>, names: &[String], texts: bool, reused: bool) -> Section {
    let Some(ends) = ends else {
        let why = match reused {
            true => "This stage was taken from the cache; its completions lie with the run that made it.",
            false => "The run folder has no completions of this stage.",
        };
        return Section { absent: why.to_owned(), ..Section::default() };
    };
    let texts = texts && ends.first.iter().any(|rollout| rollout.completion.is_some());
    let rounds = [&ends.first, &ends.last].into_iter().filter_map(|round| shown_round(round, names, texts));
    Section { absent: String::new(), texts, rounds: rounds.collect() }
}

fn shown_round(round: &[Rollout], names: &[String], texts: bool) -> Option<ShownRound> {
    let first = round.first()?;
    // A prompt may stand in a round twice; its completions are numbered from 0 each time.
    let groups: Vec<&[Rollout]> =
        round.chunk_by(|one, next| one.prompt_id == next.prompt_id && one.sample < next.sample).collect();
    Some(ShownRound {
        title: format!("Round {}, step {}", count(first.round as u64), count(first.step as u64)),
        shown: format!("prompts: {}", shown(groups.len().min(PROMPTS), groups.len())),
        prompts: groups.iter().take(PROMPTS).filter_map(|group| shown_prompt(group, names, texts)).collect(),
    })
}

fn shown_prompt(group: &[Rollout], names: &[String], texts: bool) -> Option<ShownPrompt> {
    let mut ranked: Vec<&Rollout> = group.iter().collect();
    let worth = |rollout: &Rollout| rollout.reward.unwrap_or(f64::NEG_INFINITY);
    ranked.sort_by(|a, b| worth(b).total_cmp(&worth(a)));
    let mut kinds: Vec<(Row, usize)> = Vec::new();
    let scored = || ranked.iter().filter_map(|rollout| rollout.reward);
    let (best, worst) = (scored().next(), scored().next_back());
    for rollout in &ranked {
        let row = row(rollout, names, texts, (best, worst));
        let same = |old: &Row| {
            (&old.text, &old.reward, &old.parts, &old.tokens) == (&row.text, &row.reward, &row.parts, &row.tokens)
        };
        match kinds.iter_mut().find(|(old, _)| same(old)) {
            Some((_, times)) => *times += 1,
            None => kinds.push((row, 1)),
        }
    }
    let all = kinds.len();
    if all > COMPLETIONS {
        kinds.drain(COMPLETIONS / 2..all - COMPLETIONS / 2);
    }
    let of = count(group.len() as u64);
    let made = match all {
        1 if texts => format!("{of} completions, all the same"),
        _ if kinds.len() == all => format!("{of} completions"),
        _ => format!("{of} completions; of {all} different ones the {} best and worst", kinds.len()),
    };
    let first = group.first()?;
    Some(ShownPrompt {
        id: first.prompt_id.clone(),
        text: if texts { first.prompt.as_deref().map(bounded).unwrap_or_default() } else { String::new() },
        made,
        rows: kinds.into_iter().map(|(row, times)| Row { times: format!("{times} \u{d7}"), ..row }).collect(),
    })
}

fn row(rollout: &Rollout, names: &[String], texts: bool, (best, worst): (Option<f64>, Option<f64>)) -> Row {
    let part = |name: &String| {
        let said = rollout.rewards.get(name)?;
        let failure = || said["failed"]["kind"].as_str().map(|kind| format!("failed ({})", kind.replace('_', " ")));
        let said = said["score"].as_f64().map(short).or_else(failure).unwrap_or_else(|| "abstained".to_owned());
        Some(format!("{name} {said}"))
    };
    let (tag, class) = match rollout.reward {
        Some(_) if best == worst => ("", ""),
        reward if reward == best => ("best", "good"),
        reward if reward == worst => ("worst", "bad"),
        _ => ("", ""),
    };
    let text = rollout.completion.as_deref().filter(|_| texts).map(answer).unwrap_or_default();
    Row {
        tag,
        class,
        text,
        times: String::new(),
        reward: rollout.reward.map_or("none".to_owned(), short),
        parts: names.iter().filter_map(part).collect::<Vec<_>>().join(", "),
        advantage: match rollout.advantage {
            None => "left out".to_owned(),
            Some(0.0) => "0".to_owned(),
            Some(advantage) => signed_loss(advantage),
        },
        tokens: count(rollout.tokens) + if rollout.cut { ", cut" } else { "" },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollout(sample: usize, completion: &str, reward: Option<f64>) -> Rollout {
        let line = serde_json::json!({"round": 1, "step": 1, "prompt_id": "p", "sample": sample, "completion": completion,
            "prompt": "q", "tokens": 3, "cut": false, "reward": reward, "rewards": {"right": {"score": reward}},
            "advantage": reward});
        serde_json::from_value(line).unwrap()
    }

    #[test]
    fn the_same_completion_is_one_row_and_of_many_the_ends_are_kept() {
        let names = ["right".to_owned()];
        let group: Vec<Rollout> = [("b", Some(0.0)), ("a", Some(1.0)), ("b", Some(0.0)), ("c", None)]
            .into_iter()
            .enumerate()
            .map(|(i, (text, reward))| rollout(i, text, reward))
            .collect();
        let found = shown_prompt(&group, &names, true).unwrap();
        let rows: Vec<_> = found.rows.iter().map(|r| (&*r.text, &*r.times, r.tag, &*r.parts)).collect();
        let expected =
            [("a", "1 ×", "best", "right 1"), ("b", "2 ×", "worst", "right 0"), ("c", "1 ×", "", "right abstained")];
        assert_eq!((rows.as_slice(), &*found.made), (&expected[..], "4 completions"));
        let many: Vec<Rollout> = (0..12).map(|i| rollout(i, &i.to_string(), Some(i as f64))).collect();
        let found = shown_prompt(&many, &names, true).unwrap();
        let texts: Vec<&str> = found.rows.iter().map(|row| &*row.text).collect();
        assert_eq!(texts, ["11", "10", "9", "8", "3", "2", "1", "0"]);
        assert_eq!(found.made, "12 completions; of 12 different ones the 8 best and worst");
        // Where all earn the same none is best.
        let found = shown_prompt(&[rollout(0, "a", Some(1.0)), rollout(1, "a", Some(1.0))], &names, true).unwrap();
        assert_eq!((found.rows.len(), found.rows[0].tag, &*found.made), (1, "", "2 completions, all the same"));
    }

    #[test]
    fn groups_of_one_prompt_are_told_apart_and_a_line_that_was_cut_off_is_not_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rollouts-1.jsonl");
        assert!(read(&path).unwrap().is_none());
        let line = |round: usize, sample: usize| {
            format!(
                "{{\"round\":{round},\"step\":{round},\"prompt_id\":\"p\",\"sample\":{sample},\"tokens\":1,\"cut\":false,\"reward\":1,\
                 \"rewards\":{{}},\"advantage\":0}}\n"
            )
        };
        let lines = [line(1, 0), line(1, 1), line(1, 0), line(1, 1), line(2, 0), line(3, 0), line(3, 1)].concat();
        std::fs::write(&path, format!("{lines}{{\"round\":3")).unwrap();
        let ends = read(&path).unwrap().unwrap();
        assert_eq!((ends.first.len(), ends.last.len(), ends.last[0].round), (4, 2, 3));
        assert_eq!(shown_round(&ends.first, &[], true).unwrap().shown, "prompts: 2");
        std::fs::write(&path, lines.replacen("\"tokens\":1", "\"tokens\":-1", 1)).unwrap();
        assert!(matches!(read(&path), Err(ReportError::Content { line: Some(1), .. })));
    }
}
