//! Rewards: what scores an answer, and what happens where nothing can.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::json;

use crate::kind::{self, Kind, above, choice, data_file, integer, list, memory, name, number, text, truth};
use crate::problem::{Note, RecipeErrors};
use crate::reader::{Alternative, Context, Read, Section, section};
use crate::settings::{Valued, is};
use crate::tree::Node;

crate::kind::words! {
    /// A score that Temper computes itself, from 0 to 1. `docs/rewards.md` defines each.
    pub enum VerifierKind {
        /// 1 where the answer is the reference, character by character, white space at its ends aside.
        Exact = "exact",
        /// 1 where they are the same but for case, white space, full stops and quotes around them, and Unicode's
        /// compatible forms.
        Normalised = "normalised",
        /// 1 where both are one number, within a tolerance.
        Numeric = "numeric",
        /// 1 where the answer names the right letter or option, and one only.
        Choice = "choice",
        /// 1 where a pattern is found.
        Regex = "regex",
        /// 1 where the answer is JSON that fits a schema.
        JsonSchema = "json_schema",
        /// Overlap of words as in SQuAD (Rajpurkar et al. 2016), 0 to 1.
        F1 = "f1",
        /// Longest common subsequence of words, its F measure (Lin 2004), 0 to 1.
        RougeL = "rouge_l",
        /// 1 where the answer is as long as was asked, falling to 0 over `slack`.
        Length = "length",
        /// 1 where the answer is made of these tags, each once and in order.
        Format = "format",
        /// 1 where the code of the answer passes the row's tests, run in the sandbox.
        UnitTests = "unit_tests",
    }
}

crate::kind::words! {
    /// Which part of a completion is the answer.
    pub enum Extract {
        /// All of it.
        Whole = "whole",
        /// Its first line that is not blank.
        FirstLine = "first_line",
        /// Its last line that is not blank.
        LastLine = "last_line",
        /// The last number in it.
        LastNumber = "last_number",
        /// What is in the last `\boxed{..}`.
        Boxed = "boxed",
        /// What follows the last `after` up to the end of its line.
        After = "after",
        /// The last match of `extract_pattern`, its first group where it has one.
        Pattern = "pattern",
        /// The last fenced block of code; where there is none, all of it.
        Code = "code",
    }
}

crate::kind::words! {
    /// What a length is counted in.
    pub enum LengthUnit {
        /// Tokens of the model.
        Tokens = "tokens",
        /// Words between white space.
        Words = "words",
        /// Characters (Unicode scalar values).
        Characters = "characters",
    }
}

crate::kind::words! {
    /// What a reward that failed on a sample (crash, time-out, NaN, ..) does to it.
    pub enum OnFailure {
        /// The sample has no total: it is left out of its group, and counted.
        Exclude = "exclude",
        /// The reward counts as 0.
        Zero = "zero",
        /// The run ends.
        Fail = "fail",
    }
}

crate::kind::words! {
    /// Whether code runs where it can neither reach a network nor write outside its own folder.
    pub enum SandboxMode {
        /// It does, or the run is refused.
        Required = "required",
        /// As far as the system can; what it lacks is told.
        BestEffort = "best_effort",
        /// It runs as you do.
        Off = "off",
    }
}

crate::kind::words! {
    /// How samples are sent to a URL.
    pub enum Contract {
        /// As `docs/rewards.md` says.
        Samples = "samples",
        /// As Amazon Nova Forge sends them to a reward Lambda.
        Lambda = "lambda",
    }
}

/// What gives the score.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ScoredBy {
    /// `verifier`: Temper itself.
    Verifier(VerifierKind),
    /// `program`: a Python file with a function, or an executable that speaks JSON lines.
    Program(PathBuf),
    /// `url`: a service.
    Url(String),
    /// `judge`: a model behind an OpenAI-compatible URL.
    Judge(String),
}

impl ScoredBy {
    /// The verifier, if it is one.
    pub fn verifier(&self) -> Option<VerifierKind> {
        match self {
            Self::Verifier(kind) => Some(*kind),
            _ => None,
        }
    }

    /// `verifier: f1`: why another field has no effect.
    fn said(&self) -> String {
        match self {
            Self::Verifier(kind) => format!("verifier: {kind}"),
            Self::Program(_) => "program".to_owned(),
            Self::Url(_) => "url".to_owned(),
            Self::Judge(_) => "judge".to_owned(),
        }
    }

    fn alternatives() -> Vec<Alternative<Self>> {
        vec![
            Alternative {
                name: "verifier",
                doc: "A score that Temper computes itself.",
                aliases: &[],
                kind: choice().map(Self::Verifier),
            },
            Alternative {
                name: "program",
                doc: "A Python file with a function `reward`, `rewards` or `lambda_handler`, or an executable that speaks JSON lines.",
                aliases: &[],
                kind: data_file().map(Self::Program),
            },
            Alternative {
                name: "url",
                doc: "A service that scores samples sent to it by POST.",
                aliases: &[],
                kind: web_address().map(Self::Url),
            },
            Alternative {
                name: "judge",
                doc: "A model that scores: the base of an OpenAI-compatible URL, up to and with `/v1`.",
                aliases: &[],
                kind: web_address().map(Self::Judge),
            },
        ]
    }
}

const OURS: &str = "decision, docs/decisions/0028-rewards.md";

/// Whether a field of some verifiers is read: they are at least one of `kinds`, or nobody could read what they are.
fn of(by: &Option<Valued<ScoredBy>>, kinds: &[VerifierKind]) -> bool {
    by.as_ref().is_none_or(|by| by.verifier().is_some_and(|kind| kinds.contains(&kind)))
}

/// Whether a field of what runs outside of Temper is read.
fn outside(by: &Option<Valued<ScoredBy>>, fits: impl Fn(&ScoredBy) -> bool) -> bool {
    by.as_ref().is_none_or(|by| fits(&by.value))
}

section! {
    /// One reward. A sample's total is the sum of weight * score over all that are neither `held_out` nor abstained,
    /// unless a gate is closed.
    pub struct Reward |f| {
        /// Its name in metrics and reports.
        name: Valued<String> = f.required(name());
        /// What gives the score.
        by: Valued<ScoredBy> = f.one_of(ScoredBy::alternatives(), None);
        /// Factor on its score in the total; below 0 it is a penalty.
        weight: Valued<f64> = f.default(number(..), 1.0, "decision: rewards count alike");
        /// A score at or below `threshold` makes the total `gate_value`, whatever the other rewards say.
        gate: Valued<bool> = f.default(truth(), false, "decision: said where it is meant");
        /// The highest score that closes the gate.
        threshold: Option<Valued<f64>> =
            f.only_when(is(&gate) != Some(false), "gate: false", |f| f.default(number(..), 0.0, OURS));
        /// The total of a sample whose gate is closed.
        gate_value: Option<Valued<f64>> =
            f.only_when(is(&gate) != Some(false), "gate: false", |f| f.default(number(..), 0.0, OURS));
        /// Scored and shown, never part of the total: where the total rises and this falls, the total is being hacked.
        held_out: Valued<bool> = f.default(truth(), false, "decision: said where it is meant");
        /// Of `json_schema`: a file with the schema; left out, `field` of the row holds it.
        schema: Option<Valued<PathBuf>> =
            f.only_when(of(&by, &[VerifierKind::JsonSchema]), &why_not(&by), |f| f.optional(data_file())).map(Option::flatten);
        /// The row's field with the reference, or with what `json_schema` and `unit_tests` go by; dots lead into maps.
        /// A list holds several that are right.
        field: Option<Valued<String>> = {
            use VerifierKind::*;
            let (field, why) = match by.as_ref().and_then(|by| by.verifier()) {
                Some(JsonSchema) => ("json_schema", OURS),
                Some(UnitTests) => ("tests", OURS),
                _ => ("reference_answer", "Amazon Nova Forge's rows for RFT"),
            };
            let reads = of(&by, &[Exact, Normalised, Numeric, Choice, F1, RougeL, JsonSchema, UnitTests]);
            let (reads, because) = match &schema {
                Some(Some(_)) => (false, "`schema`".to_owned()),
                _ => (reads, why_not(&by)),
            };
            f.only_when(reads, &because, |f| f.default(text(), field.to_owned(), why))
        };
        /// Which part of the completion is the answer.
        extract: Option<Valued<Extract>> = {
            use VerifierKind::*;
            let default = match by.as_ref().and_then(|by| by.verifier()) {
                Some(Numeric) => Extract::LastNumber,
                Some(UnitTests | JsonSchema) => Extract::Code,
                _ => Extract::Whole,
            };
            let reads = of(&by, &[Exact, Normalised, Numeric, Choice, Regex, JsonSchema, F1, RougeL, UnitTests]);
            f.only_when(reads, &why_not(&by), |f| f.default(choice(), default, OURS))
        };
        /// What stands before the answer, such as `####`.
        after: Option<Valued<String>> = f.only_when(
            matches!(extract, None | Some(Some(Valued { value: Extract::After, .. }))),
            "another `extract`",
            |f| f.required(text()),
        );
        /// The pattern of `extract: pattern`, such as `(?s)<answer>(.*?)</answer>`.
        extract_pattern: Option<Valued<String>> = f.only_when(
            matches!(extract, None | Some(Some(Valued { value: Extract::Pattern, .. }))),
            "another `extract`",
            |f| f.required(text()),
        );
        /// Of `numeric`: how far the number may be from the reference.
        tolerance: Option<Valued<f64>> = f.only_when(of(&by, &[VerifierKind::Numeric]), &why_not(&by), |f| {
            f.default(number(0.0..), 1e-6, "decision: what decimal digits lose, and nothing that is meant")
        });
        /// Of `numeric`: how far it may be, as a share of the reference; the wider of the two counts.
        relative_tolerance: Option<Valued<f64>> = f.only_when(of(&by, &[VerifierKind::Numeric]), &why_not(&by), |f| {
            f.default(number(0.0..1.0), 0.0, "decision: of large whole numbers a share would take neighbours for equal")
        });
        /// Of `choice`: the options by their text, first A, then B, ..; left out, those of the row's field `choices`,
        /// or letters.
        choices: Option<Valued<Vec<String>>> =
            f.only_when(of(&by, &[VerifierKind::Choice]), &why_not(&by), |f| f.optional(list(2, text()))).map(Option::flatten);
        /// Of `regex`: the pattern, found anywhere unless `^` and `$` bind it; linear in time, so without look-around.
        pattern: Option<Valued<String>> =
            f.only_when(of(&by, &[VerifierKind::Regex]), &why_not(&by), |f| f.required(text()));
        /// Of `format`: the tags, as in [think, answer].
        tags: Option<Valued<Vec<String>>> =
            f.only_when(of(&by, &[VerifierKind::Format]), &why_not(&by), |f| f.required(list(1, kind::name())));
        /// Of `length`: what is counted.
        unit: Option<Valued<LengthUnit>> = f.only_when(of(&by, &[VerifierKind::Length]), &why_not(&by), |f| {
            f.default(choice(), LengthUnit::Tokens, "decision: what training and generation cost")
        });
        /// Of `length`: fewer score less than 1.
        at_least: Option<Valued<u64>> =
            f.only_when(of(&by, &[VerifierKind::Length]), &why_not(&by), |f| f.default(integer(0..), 0, OURS));
        /// Of `length`: more score less than 1.
        at_most: Option<Valued<u64>> =
            f.only_when(of(&by, &[VerifierKind::Length]), &why_not(&by), |f| f.required(integer(1..)));
        /// Of `length`: so far outside the score is 0, in between a straight line.
        slack: Option<Valued<u64>> =
            f.only_when(of(&by, &[VerifierKind::Length]), &why_not(&by), |f| f.default(integer(0..), 0, OURS));
        /// Of `unit_tests`: the share of the tests that pass, in place of 1 where all do.
        partial: Option<Valued<bool>> = f.only_when(of(&by, &[VerifierKind::UnitTests]), &why_not(&by), |f| {
            f.default(truth(), false, "decision: code that fails a test is wrong")
        });
        /// Of a Python file: the function; left out, the one of `reward`, `rewards` and `lambda_handler` that it has.
        function: Option<Valued<String>> =
            f.only_when(outside(&by, |by| matches!(by, ScoredBy::Program(_))), &why_not(&by), |f| f.optional(kind::name())).map(Option::flatten);
        /// The interpreter of a Python file or of `unit_tests`.
        python: Option<Valued<String>> =
            f.only_when(outside(&by, starts_processes), &why_not(&by), |f| f.default(text(), "python3".to_owned(), OURS));
        /// Whether what runs is kept from the network and from files outside its folder; `unit_tests` never runs
        /// without.
        sandbox: Option<Valued<SandboxMode>> = {
            let (mode, why) = match outside(&by, |by| by.verifier() == Some(VerifierKind::UnitTests)) {
                true => (SandboxMode::Required, "decision: a model wrote what runs"),
                false => (SandboxMode::Off, "decision: a reward is the user's own code"),
            };
            f.only_when(outside(&by, starts_processes), &why_not(&by), |f| f.default(choice(), mode, why))
        };
        /// Of a URL: what is sent and what comes back.
        contract: Option<Valued<Contract>> =
            f.only_when(outside(&by, |by| matches!(by, ScoredBy::Url(_))), &why_not(&by), |f| {
                f.default(choice(), Contract::Samples, OURS)
            });
        /// Of a judge: the model's name there.
        model: Option<Valued<String>> =
            f.only_when(outside(&by, |by| matches!(by, ScoredBy::Judge(_))), &why_not(&by), |f| f.required(text()));
        /// Of a judge: a file with what it is asked; `{prompt}`, `{completion}` and `{FIELD}` of the row are replaced.
        prompt: Option<Valued<PathBuf>> =
            f.only_when(outside(&by, |by| matches!(by, ScoredBy::Judge(_))), &why_not(&by), |f| f.optional(data_file())).map(Option::flatten);
        /// Of a judge: the score that is full marks; its answer's last line is `Score: N`, from 0 to this.
        scale: Option<Valued<f64>> =
            f.only_when(outside(&by, |by| matches!(by, ScoredBy::Judge(_))), &why_not(&by), |f| {
                f.default(number(above(0.0)), 10.0, OURS)
            });
        /// Of a judge: the longest answer in tokens.
        judge_tokens: Option<Valued<u64>> =
            f.only_when(outside(&by, |by| matches!(by, ScoredBy::Judge(_))), &why_not(&by), |f| {
                f.default(integer(1..), 512, OURS)
            });
        /// Of a URL or a judge: the environment variable that holds the key, sent as `Authorization: Bearer KEY`.
        api_key_env: Option<Valued<String>> =
            f.only_when(outside(&by, by_network), &why_not(&by), |f| f.optional(text())).map(Option::flatten);
        /// Of a URL or a judge: how often it is asked again where the network failed, or it was busy (429, 5xx).
        retries: Option<Valued<u64>> =
            f.only_when(outside(&by, by_network), &why_not(&by), |f| {
                f.default(integer(0..=10), 3, "Amazon Nova Forge's multi-turn RFT")
            });
        /// Samples in one request, for a URL and for functions that take lists.
        batch_size: Option<Valued<u64>> = f.aliases(&["lambda_batch_size"]).only_when(
            outside(&by, |by| matches!(by, ScoredBy::Program(_) | ScoredBy::Url(_))),
            &why_not(&by),
            |f| f.default(integer(1..=10_000), 16, OURS),
        );
        /// Processes or requests at a time.
        concurrency: Option<Valued<u64>> = f.aliases(&["lambda_concurrency_limit"]).only_when(
            outside(&by, leaves_temper),
            &why_not(&by),
            |f| match outside(&by, by_network) {
                true => f.default(integer(1..=1000), 12, "Amazon Nova Forge's recipe for RFT on training jobs"),
                false => f.default(integer(1..=1000), 1, "decision: the processor is the training's"),
            },
        );
        /// How long one request may take: one sample, or `batch_size` of them for what takes lists.
        timeout_seconds: Option<Valued<f64>> = f.only_when(outside(&by, leaves_temper), &why_not(&by), |f| {
            let seconds = match by.as_ref().and_then(|by| by.verifier()) { Some(_) => 10.0, None => 60.0 };
            f.default(number(above(0.0)), seconds, OURS)
        });
        /// Address space that each process may have; Linux only. Left out, `unit_tests` have 512 MiB, programs no
        /// limit.
        memory: Option<Valued<u64>> =
            f.only_when(outside(&by, starts_processes), &why_not(&by), |f| f.optional(memory())).map(Option::flatten);
        /// The longest reply that is read, per sample; a longer one is a failure.
        max_output_bytes: Option<Valued<u64>> = f.only_when(outside(&by, leaves_temper), &why_not(&by), |f| {
            f.default(integer(64..), 1 << 20, OURS)
        });
        /// What a failure does to its sample.
        on_failure: Valued<OnFailure> =
            f.default(choice(), OnFailure::Exclude, "decision: a zero that nobody earned teaches something wrong");
        /// The run ends when more than this share of the last 200 samples failed.
        max_error_rate: Valued<f64> = f.default(number(0.0..=1.0), 0.05, OURS);
    }
    check |r| {
        if let (Some(gate), Some(held_out)) = (&gate, &held_out)
            && gate.value
            && held_out.value
        {
            let message = format!("`{}`: a reward that is never part of the total cannot close it", held_out.path);
            r.problem(held_out.place(), message, "write gate: false, or held_out: false");
        }
        if let (Some(Some(least)), Some(Some(most))) = (&at_least, &at_most)
            && least.value > most.value
        {
            let message = format!("`{}` is {}, above `at_most` {}", least.path, least.value, most.value);
            r.problem(least.place().or(most.place()), message, "no length is in between");
        }
        if let (Some(by), Some(Some(sandbox))) = (&by, &sandbox)
            && by.verifier() == Some(VerifierKind::UnitTests)
            && sandbox.value == SandboxMode::Off
        {
            let message = format!("`{}`: code that a model wrote does not run without a sandbox", sandbox.path);
            r.problem(sandbox.place(), message, "write sandbox: best_effort where the system lacks a part of it");
        }
    }
}

/// Why a field has no effect.
fn why_not(by: &Option<Valued<ScoredBy>>) -> String {
    by.as_ref().map_or_else(|| "another kind of reward".to_owned(), |by| by.value.said())
}

fn by_network(by: &ScoredBy) -> bool {
    matches!(by, ScoredBy::Url(_) | ScoredBy::Judge(_))
}

fn starts_processes(by: &ScoredBy) -> bool {
    matches!(by, ScoredBy::Program(_) | ScoredBy::Verifier(VerifierKind::UnitTests))
}

fn leaves_temper(by: &ScoredBy) -> bool {
    by_network(by) || starts_processes(by)
}

impl Reward {
    /// The files that it names, each with where.
    pub fn files(&self) -> impl Iterator<Item = (&str, &Path)> {
        let program = match &self.by.value {
            ScoredBy::Program(path) => Some((self.by.path.as_str(), path.as_path())),
            _ => None,
        };
        let others = [&self.schema, &self.prompt].into_iter().flatten();
        program.into_iter().chain(others.map(|file| (file.path.as_str(), file.value.as_path())))
    }

    /// The files that it names.
    pub fn files_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let program = match &mut self.by.value {
            ScoredBy::Program(path) => Some(path),
            _ => None,
        };
        let others = [&mut self.schema, &mut self.prompt].into_iter().flatten().map(|file| &mut file.value);
        program.into_iter().chain(others)
    }
}

/// An address of the web.
fn web_address() -> Kind<String> {
    let Kind { read, .. } = text();
    let expected = "an address that begins with `http://` or `https://`";
    let read = move |node: &Node, path: &str, cx: &mut Context| {
        let address = read(node, path, cx)?;
        let rest = address.strip_prefix("http://").or_else(|| address.strip_prefix("https://"));
        match rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(char::is_whitespace)) {
            true => Some(address),
            false => cx.expected(node, path, expected, "write it in whole, as in http://localhost:8000/score"),
        }
    };
    Kind {
        text: expected.into(),
        schema: json!({"type": "string", "pattern": "^https?://\\S+$"}),
        read: Box::new(read),
    }
}

section! {
    /// Rewards in a file of their own, for `temper reward test`.
    pub struct RewardFile |f| {
        /// The rewards.
        rewards: Vec<Reward> = f.sections(1);
    }
    check |r| {
        check_names(r, rewards.as_deref().unwrap_or_default());
    }
}

impl RewardFile {
    /// Reads such a file as [`Recipe::load`](crate::Recipe::load) reads a recipe.
    ///
    /// # Errors
    /// All problems at once.
    pub fn load(file: &Path, sets: &[String]) -> Result<(Self, Vec<Note>), RecipeErrors> {
        crate::recipe::load(file, sets, Self::read, Self::DOC)
    }

    /// A file with one reward, a program, and defaults for all else but what `sets` say.
    ///
    /// # Errors
    /// All problems at once: that the file is not there, among others.
    pub fn of_program(program: &Path, sets: &[String]) -> Result<Self, RecipeErrors> {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let text = format!("rewards: [{{name: reward, program: {}}}]", json!(name));
        crate::recipe::load_text(&text, program, sets, Self::read, Self::DOC).map(|(read, _)| read)
    }
}

/// No two rewards of one name, and one at least that counts.
pub(crate) fn check_names(r: &mut Section<'_>, rewards: &[Reward]) {
    for (index, Reward { name, .. }) in rewards.iter().enumerate() {
        if rewards[..index].iter().any(|earlier| earlier.name.value == name.value) {
            let message = format!("`{}`: a second reward named `{}`", name.path, name.value);
            r.problem(name.place(), message, "give each its own name; metrics go by it");
        }
    }
    if let Some(first) = rewards.first()
        && rewards.iter().all(|reward| reward.held_out.value || (reward.weight.value == 0.0 && !reward.gate.value))
    {
        let message = format!("`{}`: no reward counts", first.name.path);
        r.problem(first.name.place(), message, "give one a weight other than 0 that is not `held_out`");
    }
}
