//! The sum of rewards and its policies: weights, gates, held-out rewards, abstentions, failures and their rate.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::{Value, json};
use temper_recipe::RewardFile;
use temper_reward::{Error, FailureKind, Outcome, Rewards, Sample, SampleScore, Scored};

/// Scores whatever number the completion is: the part of a program without one.
const ECHO: &str = "
def reward(completion):
    if completion == 'none': return None
    if completion == 'fail': raise ValueError('as asked')
    return float(completion.split()[0])
";

struct Opened {
    rewards: Rewards,
    _folder: tempfile::TempDir,
}

fn open(entries: &[&str]) -> Opened {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("echo.py"), ECHO).unwrap();
    let entries: String = entries.iter().map(|entry| format!("  - {{{entry}}}\n")).collect();
    let file = folder.path().join("rewards.yaml");
    std::fs::write(&file, format!("rewards:\n{entries}")).unwrap();
    let (read, _) = RewardFile::load(&file, &[]).unwrap();
    let rewards = Rewards::open(&read.rewards, 1, &folder.path().join("rewards")).unwrap();
    Opened { rewards, _folder: folder }
}

impl Opened {
    fn score_of(&self, completions: &[&str], row: &Value) -> Result<Scored, Error> {
        let prompt = json!([{"role": "user", "content": "?"}]);
        let ids: Vec<String> = (0..completions.len()).map(|index| index.to_string()).collect();
        let samples: Vec<Sample<'_>> = completions
            .iter()
            .zip(&ids)
            .map(|(completion, id)| Sample {
                id,
                prompt: &prompt,
                completion,
                row: row.as_object().unwrap(),
                tokens: completion.len(),
                cut: false,
            })
            .collect();
        self.rewards.score(&samples)
    }

    fn totals(&self, completions: &[&str]) -> Vec<Option<f64>> {
        let scored = self.score_of(completions, &json!({"reference_answer": "1"})).unwrap();
        scored.samples.iter().map(|sample| sample.total).collect()
    }
}

#[test]
fn totals_are_weighted_sums_and_held_out_rewards_are_no_part_of_them() {
    let opened = open(&[
        "name: value, program: echo.py, weight: 2",
        "name: right, verifier: exact, weight: 0.5",
        "name: penalty, verifier: regex, pattern: x, weight: -1",
        "name: aside, verifier: length, at_most: 1, held_out: true",
    ]);
    assert_eq!(opened.totals(&["1", "0.25", "3 x"]), [Some(2.5), Some(0.5), Some(5.0)]);
    let scored = opened.score_of(&["3 x"], &json!({"reference_answer": "1"})).unwrap();
    let scores: Vec<_> = scored.samples[0].parts.iter().map(|part| part.outcome.score().unwrap()).collect();
    assert_eq!(scores, [3.0, 0.0, 1.0, 0.0]);
    assert_eq!(opened.rewards.names().collect::<Vec<_>>(), ["value", "right", "penalty", "aside"]);
    assert_eq!(opened.rewards.held_out().collect::<Vec<_>>(), [false, false, false, true]);
}

#[test]
fn a_closed_gate_decides_and_an_open_one_counts() {
    let opened = open(&[
        "name: value, program: echo.py",
        "name: form, verifier: regex, pattern: ok, gate: true, gate_value: -1, weight: 0.5",
    ]);
    assert_eq!(opened.totals(&["3 ok", "3", "fail", "none"]), [Some(3.5), Some(-1.0), Some(-1.0), Some(-1.0)]);
    let scored = opened.score_of(&["3 ok", "3"], &json!({"reference_answer": "1"})).unwrap();
    assert_eq!(scored.samples.iter().map(|sample| sample.closed).collect::<Vec<_>>(), [None, Some(1)]);
    assert_eq!(scored.rewards[1].counts.closed, 1);
    // The threshold itself closes.
    let opened = open(&[
        "name: value, program: echo.py, gate: true, threshold: 0.5, weight: 0",
        "name: one, verifier: length, at_most: 100",
    ]);
    assert_eq!(opened.totals(&["0.5", "0.6"]), [Some(0.0), Some(1.0)]);
}

#[test]
fn none_abstains_and_leaves_the_others_to_decide() {
    let opened = open(&["name: value, program: echo.py", "name: short, verifier: length, at_most: 3"]);
    let scored = opened.score_of(&["none", "2"], &json!({})).unwrap();
    assert_eq!(scored.samples[0].total, Some(0.0));
    assert_eq!(scored.samples[0].parts[0].outcome, Outcome::Abstained);
    assert_eq!((scored.rewards[0].counts.abstained, scored.rewards[0].counts.failures()), (1, 0));
    // A gate that abstains is open; where all abstain there is no total.
    let alone = open(&["name: value, program: echo.py, gate: true"]);
    assert_eq!(alone.totals(&["none", "1"]), [None, Some(1.0)]);
}

#[test]
fn failures_exclude_count_as_0_or_end_the_run_as_the_recipe_says() {
    let short = "name: short, verifier: length, at_most: 4";
    let excluded = open(&["name: value, program: echo.py", short]);
    assert_eq!(excluded.totals(&["fail", "2"]), [None, Some(3.0)]);
    let scored = excluded.score_of(&["fail"], &json!({})).unwrap();
    let Outcome::Failed(failure) = &scored.samples[0].parts[0].outcome else { panic!("{scored:?}") };
    assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Error, "ValueError: as asked"));

    let zero = open(&["name: value, program: echo.py, on_failure: zero", short]);
    assert_eq!(zero.totals(&["fail", "2"]), [Some(1.0), Some(3.0)]);

    let fails = open(&["name: value, program: echo.py, on_failure: fail", short]);
    let error = fails.score_of(&["2", "fail"], &json!({})).unwrap_err();
    assert_eq!(error.to_string(), "reward `value` failed on sample 1: error: ValueError: as asked");

    // A held-out reward that fails takes nothing from the total.
    let aside = open(&["name: value, program: echo.py, held_out: true", short]);
    assert_eq!(aside.totals(&["fail"]), [Some(1.0)]);
}

#[test]
fn the_run_ends_when_more_than_the_allowed_share_of_the_last_200_failed() {
    let opened = open(&["name: value, program: echo.py, max_error_rate: 0.02"]);
    let score = |completions: &[&str]| opened.score_of(completions, &json!({}));
    assert!(score(&["fail", "1", "fail", "fail", "fail"]).is_ok(), "4 are 2 % of 200");
    let error = score(&["1", "fail", "1"]).unwrap_err();
    assert!(matches!(error, Error::TooManyFailures { failed: 5, of: 7, kind: FailureKind::Error, .. }), "{error}");
    // What is long past is forgotten.
    let opened = open(&["name: value, program: echo.py, max_error_rate: 0.02"]);
    for _ in 0..3 {
        opened.score_of(&["fail"; 4], &json!({})).unwrap();
        opened.score_of(&["1"; 200], &json!({})).unwrap();
    }
    let strict = open(&["name: value, program: echo.py, max_error_rate: 0"]);
    assert!(strict.score_of(&["fail"], &json!({})).is_err());
}

#[test]
fn a_row_without_a_reference_is_a_failure_and_an_empty_answer_is_a_0() {
    let opened = open(&["name: right, verifier: numeric"]);
    let scored = opened.score_of(&["no number", "1"], &json!({"reference_answer": 1})).unwrap();
    assert_eq!(scored.samples[0].total, Some(0.0));
    assert_eq!((scored.rewards[0].counts.unanswered, scored.rewards[0].mean), (1, Some(0.5)));
    let scored = opened.score_of(&["1"], &json!({"answer": 1})).unwrap();
    assert_eq!(scored.samples[0].total, None);
    assert_eq!(scored.rewards[0].counts.failed[&FailureKind::Error], 1);
}

#[test]
fn two_samples_of_one_id_are_refused() {
    let opened = open(&["name: right, verifier: exact"]);
    let (prompt, row) = (json!([]), json!({"reference_answer": "1"}));
    let sample =
        Sample { id: "a", prompt: &prompt, completion: "1", row: row.as_object().unwrap(), tokens: 1, cut: false };
    let error = opened.rewards.score(&[sample, sample]).unwrap_err();
    assert!(error.to_string().contains("two samples have the id `a`"));
}

/// Every built-in verifier: scores of a batch are those of its samples alone, in any order.
#[test]
fn verifiers_are_functions_of_one_sample() {
    let opened = open(&[
        "name: exact, verifier: exact",
        "name: normalised, verifier: normalised",
        "name: numeric, verifier: numeric, max_error_rate: 1",
        "name: choice, verifier: choice, max_error_rate: 1",
        "name: regex, verifier: regex, pattern: \"[0-9]\"",
        "name: schema, verifier: json_schema",
        "name: f1, verifier: f1",
        "name: rouge, verifier: rouge_l",
        "name: length, verifier: length, at_most: 3, slack: 10",
        "name: format, verifier: format, tags: [a]",
    ]);
    let row = json!({"reference_answer": ["12", "B"], "json_schema": {"type": "integer"}});
    let completions = ["12", "(B)", "<a>12</a>", "", "the answer is 12 or so", "```json\n12\n```", "B b B", "ünï 12"];
    let parts = |scored: Scored| scored.samples.into_iter().map(|SampleScore { parts, .. }| parts).collect::<Vec<_>>();
    // `numeric` and `choice` hold rows to references that are numbers and letters: one row for each.
    for reference in ["12", "B"] {
        let mut row = row.clone();
        row["reference_answer"] = reference.into();
        let together = parts(opened.score_of(&completions, &row).unwrap());
        let mut reversed = completions;
        reversed.reverse();
        let mut backwards = parts(opened.score_of(&reversed, &row).unwrap());
        backwards.reverse();
        assert_eq!(together, backwards);
        for (completion, expected) in completions.iter().zip(&together) {
            assert_eq!(&parts(opened.score_of(&[completion], &row).unwrap())[0], expected, "{completion}");
        }
    }
}
