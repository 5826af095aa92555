//! A model that judges: asked over an OpenAI-compatible URL, one completion a request, at temperature 0.

use regex_automata::meta::Regex;
use serde_json::{Value, json};
use temper_recipe::Reward;

use crate::answer::field;
use crate::error::Error;
use crate::parallel;
use crate::program::Answered;
use crate::reply::{failed, scored};
use crate::sample::Sample;
use crate::scored::{FailureKind, Part};
use crate::service::Client;
use crate::template::{fill, plain};

/// What a judge is asked where the recipe gives no prompt of its own.
const PROMPT: &str = include_str!("judge.txt");
/// The last line of a judgement.
const SCORE: &str = r"(?i)score\W{0,5}(-?\d+(?:\.\d+)?)";

/// A judge.
#[derive(Debug)]
pub(crate) struct Judge {
    client: Client,
    model: String,
    prompt: String,
    scale: f64,
    tokens: u64,
    seed: u64,
    score: Regex,
}

impl Judge {
    /// A judge at `base`, such as `http://localhost:8000/v1`. Nothing is asked of it yet.
    pub fn open(reward: &Reward, base: &str, seed: u64) -> Result<Self, Error> {
        let url = format!("{}/chat/completions", base.trim_end_matches('/').trim_end_matches("/chat/completions"));
        let prompt = match &reward.prompt {
            None => PROMPT.to_owned(),
            Some(file) => std::fs::read_to_string(&file.value).map_err(|source| Error::Io {
                action: "read",
                path: file.value.clone(),
                source,
            })?,
        };
        if !prompt.contains("{completion}") {
            return Err(Error::Unfit {
                path: reward.prompt.as_ref().map_or_else(|| reward.by.path.clone(), |prompt| prompt.path.clone()),
                problem: "the prompt does not show the answer".to_owned(),
                hint: "write {completion} where it belongs; {prompt}, {reference_answer} and {scale} where they help"
                    .to_owned(),
            });
        }
        let scale = reward.scale.as_ref().map_or(10.0, |scale| scale.value);
        let score = Regex::new(SCORE).map_err(|error| Error::Unfit {
            path: reward.by.path.clone(),
            problem: error.to_string(),
            hint: "this is a fault of temper".to_owned(),
        })?;
        Ok(Self {
            client: Client::open(reward, url)?,
            model: reward.model.as_ref().map(|model| model.value.clone()).unwrap_or_default(),
            prompt: prompt.replace("{scale}", &scale.to_string()),
            scale,
            tokens: reward.judge_tokens.as_ref().map_or(512, |tokens| tokens.value),
            seed,
            score,
        })
    }

    /// Scores samples, the order kept.
    pub fn score(&self, samples: &[Sample<'_>]) -> Answered {
        let parts = parallel::each(samples, self.client.at_once, |sample| self.one(sample));
        (parts, self.client.took())
    }

    fn one(&self, sample: &Sample<'_>) -> Part {
        let content = match filled(&self.prompt, sample) {
            Ok(content) => content,
            Err(problem) => return failed(FailureKind::Error, problem),
        };
        let body = json!({
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "temperature": 0,
            "max_tokens": self.tokens,
            "seed": self.seed % (1 << 31),
        });
        let reply = match self.client.ask(&body, 1) {
            Ok(reply) => reply,
            Err(failure) => return failed(failure.kind, failure.message),
        };
        match reply["choices"][0]["message"]["content"].as_str() {
            Some(text) => self.read(text),
            None => failed(FailureKind::BadReply, "no text in `choices[0].message.content`"),
        }
    }

    /// The score of a judgement: the number after the last "score", from 0 to the scale, as a share of it.
    fn read(&self, text: &str) -> Part {
        let bad = |message: String| failed(FailureKind::BadReply, message);
        let last: String = text.trim().lines().next_back().unwrap_or_default().chars().take(200).collect();
        let found = self.score.captures_iter(text).last();
        let number = found.and_then(|found| text.get(found.get_group(1)?.range())?.parse::<f64>().ok());
        match number {
            None => bad(format!("the judgement has no `Score: N`; it ends: `{last}`")),
            Some(number) if (0.0..=self.scale).contains(&number) => scored(number / self.scale),
            Some(number) => bad(format!("the score {number} is not from 0 to {}", self.scale)),
        }
    }
}

/// The prompt with its names replaced.
fn filled(prompt: &str, sample: &Sample<'_>) -> Result<String, String> {
    let value = |name: &str| match name {
        "completion" => Some(sample.completion.to_owned()),
        "prompt" => Some(conversation(sample.prompt)),
        name => field(sample.row, name).map(plain),
    };
    fill(prompt, value).map_err(|name| format!("the prompt asks for `{name}`, which the row has not"))
}

/// A prompt as people read it.
fn conversation(prompt: &Value) -> String {
    let turn =
        |message: &Value| format!("{}: {}", message["role"].as_str().unwrap_or("user"), plain(&message["content"]));
    match prompt {
        Value::Array(messages) => messages.iter().map(turn).collect::<Vec<_>>().join("\n"),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completion_that_names_fields_is_not_filled_in() {
        let row = json!({"reference_answer": {"x": 4}, "hint": "{completion}"});
        let prompt = json!([{"role": "user", "content": "2x = 8"}]);
        let row = row.as_object().unwrap();
        let sample = Sample { id: "a", prompt: &prompt, completion: "{hint}", row, tokens: 1, cut: false };
        let text = filled("{prompt}|{completion}|{reference_answer.x}|{hint}", &sample).unwrap();
        assert_eq!(text, "user: 2x = 8|{hint}|4|{completion}");
        assert_eq!(filled("{other}", &sample).unwrap_err(), "the prompt asks for `other`, which the row has not");
    }
}
