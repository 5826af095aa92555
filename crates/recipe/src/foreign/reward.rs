//! A static look at a reward file: whether it can be what a service or a trainer calls, without running a line of it.

use crate::problem::Place;

use super::Tool;
use super::finding::{Cited, Finding, Severity};

const SDK: Cited = Cited { what: "aws/nova-forge-sdk @ a4d5b3d, verify_reward_function", when: "2026-05-14" };
const GUIDE: Cited = Cited { what: "Amazon Nova user guide, reward functions", when: "read in November 2026" };
const OURS: Cited = Cited { what: "docs/rewards.md", when: "this version" };
const SILENT: Cited = Cited { what: "awslabs/agent-plugins#144", when: "2026" };
const TRL: Cited = Cited { what: "trl.GRPOTrainer; huggingface/trl#6533 on lists of the wrong length", when: "1.16.0" };

/// Findings of a Python file that Nova (`lambda_handler`) or TRL and Axolotl (a function of completions) would call.
pub fn check_reward(text: &str, tool: Tool) -> Vec<Finding> {
    let lines: Vec<&str> = text.lines().collect();
    let mut findings = Vec::new();
    let mut find =
        |rule, severity, line: Option<usize>, found: String, reason: &str, source: Cited, corrected: Option<&str>| {
            findings.push(Finding {
                rule,
                severity,
                place: line.map_or(Place::Whole, |line| Place::File { line: line + 1, column: 1 }),
                found,
                reason: reason.to_owned(),
                source: source.to_string(),
                corrected: corrected.map(str::to_owned),
            });
        };
    let code = |line: &str| line.split('#').next().unwrap_or("").trim().to_owned();
    let first = |test: &dyn Fn(&str) -> bool| lines.iter().position(|line| test(&code(line)));
    let has = |word: &str| first(&|line| line.contains(word)).is_some();
    let of_lambda = tool == Tool::Nova || tool == Tool::Temper && has("def lambda_handler");
    if tool == Tool::Temper && !of_lambda {
        if !has("def reward(") && !has("def rewards(") {
            find(
                "reward-handler",
                Severity::Error,
                None,
                "there is no function `reward`, `rewards` or `lambda_handler`".into(),
                "one of these is called",
                OURS,
                Some("def reward(prompt, completion, reference_answer, **row):"),
            );
        }
    } else if of_lambda {
        match first(&|line| line.starts_with("def ") && line.contains("lambda_handler")) {
            None => {
                find(
                    "reward-handler",
                    Severity::Error,
                    None,
                    "there is no `lambda_handler`".into(),
                    "the service calls it by this name",
                    SDK,
                    Some("def lambda_handler(event, context):"),
                );
            }
            Some(at) => {
                let inside = code(lines[at]);
                let inside = inside.split_once('(').map_or("", |(_, rest)| rest);
                let arguments =
                    inside.split(')').next().unwrap_or("").split(',').filter(|part| !part.trim().is_empty()).count();
                if arguments < 2 && !inside.contains('*') {
                    find(
                        "reward-handler",
                        Severity::Error,
                        Some(at),
                        format!("`lambda_handler` takes {arguments} arguments"),
                        "Lambda hands it two: the event and the context",
                        SDK,
                        Some("def lambda_handler(event, context):"),
                    );
                }
                let async_at = first(&|line| line.starts_with("async def lambda_handler"));
                if let Some(at) = async_at {
                    find(
                        "reward-handler",
                        Severity::Error,
                        Some(at),
                        "`lambda_handler` is async".into(),
                        "Lambda does not await it: nothing comes back",
                        GUIDE,
                        Some("def lambda_handler(event, context):"),
                    );
                }
                let returns =
                    lines[at..].iter().position(|line| code(line).starts_with("return")).map(|offset| at + offset);
                match returns {
                    None => find(
                        "reward-return",
                        Severity::Error,
                        Some(at),
                        "it returns nothing".into(),
                        "a list with one result for each sample is expected",
                        SDK,
                        Some("return results"),
                    ),
                    Some(line) if code(lines[line]).starts_with("return {") => {
                        find(
                            "reward-return",
                            Severity::Error,
                            Some(line),
                            "it returns a map".into(),
                            "a list with one result for each sample is expected; an HTTP answer with a body is none",
                            SDK,
                            Some("return results"),
                        );
                    }
                    Some(_) => {}
                }
            }
        }
        for key in ["aggregate_reward_score", "id"] {
            if !has(&format!("\"{key}\"")) && !has(&format!("'{key}'")) && !has(&format!("{key}=")) {
                find(
                    "reward-return",
                    Severity::Error,
                    None,
                    format!("`{key}` is nowhere in it"),
                    "each result has `id` and a number `aggregate_reward_score`",
                    SDK,
                    None,
                );
            }
        }
        if !has("reference_answer") {
            find(
                "reward-reference",
                Severity::Note,
                None,
                "`reference_answer` is nowhere in it".into(),
                "it judges without the row's reference",
                SDK,
                None,
            );
        }
    } else {
        let function =
            lines.iter().position(|line| line.trim_start().starts_with("def ") && line.contains("completions"));
        match function {
            None => find(
                "reward-handler",
                Severity::Error,
                None,
                "no function takes `completions`".into(),
                "the trainer hands rewards their samples by name",
                TRL,
                Some("def reward(completions, **kwargs):"),
            ),
            Some(at) => {
                let signature: String = lines[at..]
                    .iter()
                    .take_while(|line| !line.trim_end().ends_with("):"))
                    .chain(&lines[at..])
                    .take(8)
                    .copied()
                    .collect();
                if !signature.contains("**") {
                    find(
                        "reward-handler",
                        Severity::Error,
                        Some(at),
                        "it takes no `**kwargs`".into(),
                        "the trainer hands it every column of the rows and more: what is not taken is an error",
                        TRL,
                        Some("def reward(completions, **kwargs):"),
                    );
                }
                let returns =
                    lines[at..].iter().position(|line| code(line).starts_with("return")).map(|offset| at + offset);
                let single = returns.filter(|line| {
                    let value = code(lines[*line]);
                    let value = value.trim_start_matches("return").trim();
                    value.parse::<f64>().is_ok()
                });
                if let Some(line) = single {
                    find(
                        "reward-return",
                        Severity::Error,
                        Some(line),
                        "it returns one number".into(),
                        "one reward for each completion is expected; a single one has been given to all of them in silence",
                        TRL,
                        Some("return [score(c) for c in completions]"),
                    );
                }
            }
        }
    }
    for (at, line) in lines.iter().enumerate() {
        let bare = code(line);
        let broad = bare == "except:" || bare.starts_with("except Exception");
        let next = lines.get(at + 1).map(|line| code(line)).unwrap_or_default();
        if broad
            && (next == "pass" || next == "continue" || next.starts_with("return 0") || next.starts_with("return []"))
        {
            find(
                "reward-silent",
                Severity::Warning,
                Some(at),
                format!("`{bare}` and then `{next}`"),
                "an error becomes a reward, and nobody hears of it: a broken reward looks like a hard task",
                SILENT,
                Some("except ValueError as error: log it, and let what is not expected fail"),
            );
        }
        if bare.contains("random.") && !bare.starts_with("import") {
            find(
                "reward-random",
                Severity::Warning,
                Some(at),
                format!("`{bare}`"),
                "the same answer must get the same reward, or noise is learnt",
                GUIDE,
                None,
            );
        }
        if bare.contains("time.sleep") {
            find(
                "reward-slow",
                Severity::Warning,
                Some(at),
                format!("`{bare}`"),
                "a reward should answer within seconds; the service gives up after 15 minutes",
                GUIDE,
                None,
            );
        }
    }
    findings
}
