//! Verifiers: scores that are a function of one sample, computed here.

mod choice;
mod form;
pub(crate) mod number;
mod words;

use regex_automata::meta::Regex;
use serde_json::Value;
use temper_recipe::{LengthUnit, Reward, VerifierKind};

use crate::answer::{Finder, field, references, regex};
use crate::error::Error;
use crate::sample::Sample;
use crate::scored::{Failure, FailureKind};

/// A verifier, its patterns and schemas read.
#[derive(Debug)]
pub(crate) struct Verifier {
    finder: Finder,
    field: String,
    how: How,
}

#[derive(Debug)]
enum How {
    Exact,
    Normalised,
    Numeric {
        tolerance: f64,
        relative: f64,
    },
    Choice {
        options: Option<Vec<String>>,
    },
    Regex(Regex),
    /// None: the row holds the schema.
    Schema(Option<Box<jsonschema::Validator>>),
    F1,
    RougeL,
    Length {
        unit: LengthUnit,
        at_least: u64,
        at_most: u64,
        slack: u64,
    },
    Format(Vec<String>),
}

/// What a verifier says: a score, or that there was no answer in the completion, which scores 0.
pub(crate) type Verdict = Option<f64>;

fn yes(holds: bool) -> f64 {
    if holds { 1.0 } else { 0.0 }
}

fn error(message: String) -> Failure {
    Failure { kind: FailureKind::Error, message }
}

impl Verifier {
    /// The verifier of a reward; none for `unit_tests`, which runs code.
    pub fn open(kind: VerifierKind, reward: &Reward) -> Result<Option<Self>, Error> {
        let number = |field: &Option<temper_recipe::Valued<f64>>| field.as_ref().map_or(0.0, |field| field.value);
        let count = |field: &Option<temper_recipe::Valued<u64>>| field.as_ref().map_or(0, |field| field.value);
        let how = match kind {
            VerifierKind::Exact => How::Exact,
            VerifierKind::Normalised => How::Normalised,
            VerifierKind::Numeric => {
                How::Numeric { tolerance: number(&reward.tolerance), relative: number(&reward.relative_tolerance) }
            }
            VerifierKind::Choice => {
                How::Choice { options: reward.choices.as_ref().map(|options| options.value.clone()) }
            }
            VerifierKind::Regex => How::Regex(regex(reward.pattern.as_ref())?),
            VerifierKind::JsonSchema => How::Schema(match &reward.schema {
                None => None,
                Some(file) => Some(Box::new(read_schema(&file.path, &file.value)?)),
            }),
            VerifierKind::F1 => How::F1,
            VerifierKind::RougeL => How::RougeL,
            VerifierKind::Length => How::Length {
                unit: reward.unit.as_ref().map_or(LengthUnit::Tokens, |unit| unit.value),
                at_least: count(&reward.at_least),
                at_most: count(&reward.at_most),
                slack: count(&reward.slack),
            },
            VerifierKind::Format => {
                How::Format(reward.tags.as_ref().map(|tags| tags.value.clone()).unwrap_or_default())
            }
            VerifierKind::UnitTests => return Ok(None),
        };
        let field = reward.field.as_ref().map(|field| field.value.clone()).unwrap_or_default();
        Ok(Some(Self { finder: Finder::open(reward)?, field, how }))
    }

    /// Scores a sample; fails where the row does not hold what it is scored by.
    pub fn score(&self, sample: &Sample<'_>) -> Result<Verdict, Failure> {
        // Of the row first: a row without a reference fails whatever the completion is.
        match &self.how {
            How::Length { unit, at_least, at_most, slack } => {
                let count = match unit {
                    LengthUnit::Tokens => sample.tokens,
                    LengthUnit::Words => sample.completion.split_whitespace().count(),
                    LengthUnit::Characters => sample.completion.chars().count(),
                };
                Ok(Some(form::length(count as u64, *at_least, *at_most, *slack)))
            }
            How::Format(tags) => Ok(Some(yes(form::tagged(sample.completion, tags)))),
            How::Regex(pattern) => Ok(self.finder.find(sample.completion).map(|answer| yes(pattern.is_match(answer)))),
            How::Schema(Some(schema)) => Ok(self.fits(sample, schema)),
            How::Schema(None) => {
                let schema =
                    field(sample.row, &self.field).ok_or_else(|| error(format!("the row has no `{}`", self.field)))?;
                let schema = form::schema(schema).map_err(|problem| error(format!("`{}`: {problem}", self.field)))?;
                Ok(self.fits(sample, &schema))
            }
            How::Choice { options } => self.choice(sample, options.as_deref()),
            _ => self.against_references(sample),
        }
    }

    fn fits(&self, sample: &Sample<'_>, schema: &jsonschema::Validator) -> Verdict {
        let answer = self.finder.find(sample.completion)?;
        Some(yes(serde_json::from_str::<Value>(answer).is_ok_and(|value| schema.is_valid(&value))))
    }

    fn choice(&self, sample: &Sample<'_>, options: Option<&[String]>) -> Result<Verdict, Failure> {
        let own: Vec<String>;
        let options = match (options, field(sample.row, "choices")) {
            (Some(options), _) => options,
            (None, None) => &[],
            (None, Some(Value::Array(items))) if items.iter().all(Value::is_string) => {
                own = items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect();
                &own
            }
            (None, Some(_)) => return Err(error("`choices` of the row is no list of texts".to_owned())),
        };
        let reference = references(sample.row, &self.field)?;
        let right = reference.iter().map(|reference| {
            choice::named(reference, options).ok_or_else(|| {
                error(format!("`{}`: `{reference}` is neither a letter nor one of the options", self.field))
            })
        });
        let right = right.collect::<Result<Vec<_>, _>>()?;
        let named = self.finder.find(sample.completion).and_then(|answer| choice::named(answer, options));
        Ok(named.map(|named| yes(right.contains(&named))))
    }

    /// The best score over all that are right.
    fn against_references(&self, sample: &Sample<'_>) -> Result<Verdict, Failure> {
        let all = references(sample.row, &self.field)?;
        let all = all.iter().map(|reference| self.finder.in_reference(reference));
        if let How::Numeric { tolerance, relative } = self.how {
            let numbers = all.map(|reference| {
                number::only(reference)
                    .ok_or_else(|| error(format!("`{}`: there is not one number in `{reference}`", self.field)))
            });
            let numbers = numbers.collect::<Result<Vec<_>, _>>()?;
            let ours = self.finder.find(sample.completion).and_then(number::only);
            return Ok(ours.map(|ours| yes(numbers.iter().any(|number| ours.is(number, tolerance, relative)))));
        }
        let Some(answer) = self.finder.find(sample.completion) else { return Ok(None) };
        let score = |reference: &str| match self.how {
            How::Exact => yes(answer == reference),
            How::Normalised => {
                let reference = words::normalised(reference);
                yes(!reference.is_empty() && words::normalised(answer) == reference)
            }
            How::F1 => words::f1(answer, reference),
            _ => words::rouge_l(answer, reference),
        };
        Ok(Some(all.map(score).fold(0.0, f64::max)))
    }
}

fn read_schema(path: &str, file: &std::path::Path) -> Result<jsonschema::Validator, Error> {
    let unfit = |problem: String| Error::Unfit {
        path: path.to_owned(),
        problem: format!("{}: {problem}", file.display()),
        hint: "name a file with a JSON Schema that refers to no other document".to_owned(),
    };
    let bytes = std::fs::read(file).map_err(|source| Error::Io { action: "read", path: file.to_owned(), source })?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| unfit(error.to_string()))?;
    form::schema(&value).map_err(unfit)
}
