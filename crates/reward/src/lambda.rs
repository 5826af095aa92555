//! The contract of Amazon Nova Forge's reward Lambdas: a list of samples in, a list of scores by id out.
//!
//! A sample is the row's messages with the model's reply as the last of them, and the row's other fields. Two forms are
//! documented for these: beside `messages` (SageMaker, Nova Forge) and in `metadata` (Bedrock). Both are sent.

use serde_json::{Map, Value, json};

use crate::reply::by_id;
use crate::sample::Sample;
use crate::scored::Part;

/// The event for these samples.
pub(crate) fn event(samples: &[Sample<'_>]) -> Value {
    samples.iter().map(sample).collect()
}

fn sample(sample: &Sample<'_>) -> Value {
    let mut messages = match sample.prompt {
        Value::Array(messages) => messages.clone(),
        other => vec![json!({"role": "user", "content": other})],
    };
    messages.push(json!({"role": "assistant", "content": sample.completion}));
    let mut event: Map<String, Value> = sample.row.clone();
    if !event.contains_key("metadata") {
        let mut metadata = sample.row.clone();
        metadata.retain(|key, _| key != "messages");
        event.insert("metadata".to_owned(), metadata.into());
    }
    event.insert("id".to_owned(), sample.id.into());
    event.insert("messages".to_owned(), messages.into());
    event.into()
}

/// The scores that a handler returned: a list, or an answer of API Gateway's with one in its `body`.
pub(crate) fn scores(returned: &Value, samples: &[Sample<'_>]) -> Result<Vec<Part>, String> {
    let body = match &returned["body"] {
        Value::String(body) => Some(temper_run::from_python_json(body).ok_or_else(|| "`body` is not JSON".to_owned())?),
        Value::Null => None,
        body => Some(body.clone()),
    };
    match body.as_ref().unwrap_or(returned) {
        Value::Array(values) => by_id(values, &samples.iter().map(|sample| sample.id).collect::<Vec<_>>()),
        other => {
            let shown: String = other.to_string().chars().take(200).collect();
            Err(format!("expected a list of {} scores, got {shown}", samples.len()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_holds_the_reply_and_the_row_in_both_documented_places() {
        let row = json!({"id": "row", "messages": [], "reference_answer": {"x": 4}, "my_key": 1});
        let prompt = json!([{"role": "user", "content": "2x = 8"}]);
        let row = row.as_object().unwrap();
        let sample = Sample { id: "s1", prompt: &prompt, completion: "4", row, tokens: 1, cut: false };
        let sent = event(&[sample]);
        assert_eq!(
            sent,
            json!([{
                "id": "s1",
                "messages": [{"role": "user", "content": "2x = 8"}, {"role": "assistant", "content": "4"}],
                "reference_answer": {"x": 4},
                "my_key": 1,
                "metadata": {"id": "row", "reference_answer": {"x": 4}, "my_key": 1},
            }])
        );
        let score = json!([{"id": "s1", "aggregate_reward_score": 0.5}]);
        for returned in [score.clone(), json!({"statusCode": 200, "body": score.to_string()})] {
            assert_eq!(scores(&returned, &[sample]).unwrap()[0].outcome.score(), Some(0.5));
        }
        assert!(scores(&json!({"aggregate_reward_score": 1}), &[sample]).unwrap_err().contains("a list of 1 scores"));
    }
}
