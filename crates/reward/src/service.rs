//! Rewards over HTTP: a service that scores samples, and a model that judges them.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use temper_recipe::{Contract, Reward};
use ureq::Agent;

use crate::error::Error;
use crate::lambda;
use crate::parallel;
use crate::program::{Answered, as_json};
use crate::reply::{by_id, by_place, failed};
use crate::sample::Sample;
use crate::scored::{Failure, FailureKind, Part};

/// The pause before the first repeat; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(500);

/// A client with the limits of a reward.
#[derive(Debug)]
pub(crate) struct Client {
    agent: Agent,
    url: String,
    key: Option<String>,
    retries: u64,
    timeout: Duration,
    /// Bytes of a reply per sample.
    limit: u64,
    pub at_once: usize,
    /// Seconds of each request.
    pub seconds: Mutex<Vec<f64>>,
}

impl Client {
    /// A client that asks `url`.
    pub fn open(reward: &Reward, url: String) -> Result<Self, Error> {
        let key = reward.api_key_env.as_ref().map(|name| {
            std::env::var(&name.value).map_err(|_| Error::Unfit {
                path: name.path.clone(),
                problem: format!("there is no environment variable {}", name.value),
                hint: "set it to the key before the run".to_owned(),
            })
        });
        let timeout = Duration::from_secs_f64(reward.timeout_seconds.as_ref().map_or(60.0, |field| field.value));
        let agent = Agent::config_builder().http_status_as_error(false).timeout_global(Some(timeout)).build().into();
        Ok(Self {
            agent,
            url,
            key: key.transpose()?,
            retries: reward.retries.as_ref().map_or(0, |retries| retries.value),
            timeout,
            limit: reward.max_output_bytes.as_ref().map_or(1 << 20, |field| field.value),
            at_once: reward.concurrency.as_ref().map_or(1, |field| field.value) as usize,
            seconds: Mutex::default(),
        })
    }

    /// The JSON that comes back for `body`, which holds so many samples. Asked again, after a pause, where the network
    /// failed or the service was busy; what it says of the request itself (4xx) stands.
    pub fn ask(&self, body: &Value, samples: usize) -> Result<Value, Failure> {
        let bytes = body.to_string().into_bytes();
        let mut tries = 0;
        loop {
            let begun = Instant::now();
            let outcome = self.try_once(&bytes, samples as u64 * self.limit);
            if let Ok(mut seconds) = self.seconds.lock() {
                seconds.push(begun.elapsed().as_secs_f64());
            }
            match outcome {
                Err((failure, true)) if tries < self.retries => {
                    std::thread::sleep(PAUSE * 2u32.saturating_pow(u32::try_from(tries).unwrap_or(u32::MAX)));
                    drop(failure);
                    tries += 1;
                }
                outcome => return outcome.map_err(|(failure, _)| failure),
            }
        }
    }

    /// One request; with a failure, whether another may do better.
    fn try_once(&self, bytes: &[u8], limit: u64) -> Result<Value, (Failure, bool)> {
        let fail = |kind, message: String, again| Err((Failure { kind, message }, again));
        let mut request = self.agent.post(&self.url).header("content-type", "application/json");
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let told = |error: ureq::Error| match error {
            ureq::Error::Timeout(_) => {
                (FailureKind::Timeout, format!("{}: no answer in {} s", self.url, self.timeout.as_secs_f64()))
            }
            ureq::Error::BodyExceedsLimit(_) => {
                (FailureKind::TooLarge, format!("{}: more than {limit} bytes", self.url))
            }
            error => (FailureKind::Unreachable, format!("{}: {error}", self.url)),
        };
        let mut response = match request.send(bytes) {
            Ok(response) => response,
            Err(error) => {
                let (kind, message) = told(error);
                return fail(kind, message, true);
            }
        };
        let status = response.status();
        let body = match response.body_mut().with_config().limit(limit).read_to_vec() {
            Ok(body) => String::from_utf8_lossy(&body).into_owned(),
            Err(error) => {
                let (kind, message) = told(error);
                return fail(kind, message, kind != FailureKind::TooLarge);
            }
        };
        let shown: String = body.chars().take(200).collect();
        if !status.is_success() {
            let busy = status.as_u16() == 429 || status.is_server_error();
            return fail(FailureKind::Unreachable, format!("{}: status {status}: {shown}", self.url), busy);
        }
        match temper_run::from_python_json(&body) {
            Some(value) => Ok(value),
            None => fail(FailureKind::BadReply, format!("{}: the reply is not JSON: `{shown}`", self.url), false),
        }
    }

    /// The seconds of the requests since this was last called.
    pub fn took(&self) -> Vec<f64> {
        self.seconds.lock().map(|mut seconds| std::mem::take(&mut *seconds)).unwrap_or_default()
    }
}

/// A service that scores samples.
#[derive(Debug)]
pub(crate) struct Service {
    reward: String,
    client: Client,
    contract: Contract,
    batch: usize,
}

impl Service {
    /// A service at `url`. Nothing is asked of it yet.
    pub fn open(reward: &Reward, url: &str) -> Result<Self, Error> {
        Ok(Self {
            reward: reward.name.value.clone(),
            client: Client::open(reward, url.to_owned())?,
            contract: reward.contract.as_ref().map_or(Contract::Samples, |contract| contract.value),
            batch: reward.batch_size.as_ref().map_or(1, |field| field.value) as usize,
        })
    }

    /// Scores samples, the order kept.
    pub fn score(&self, samples: &[Sample<'_>]) -> Result<Answered, Error> {
        let batches: Vec<&[Sample<'_>]> = samples.chunks(self.batch).collect();
        let mut parts = Vec::new();
        for answered in parallel::each(&batches, self.client.at_once, |batch| self.batch(batch)) {
            parts.extend(answered?);
        }
        Ok((parts, self.client.took()))
    }

    fn batch(&self, batch: &[Sample<'_>]) -> Result<Vec<Part>, Error> {
        let body = match self.contract {
            Contract::Samples => {
                json!({"samples": batch.iter().map(|sample| as_json(sample, true)).collect::<Vec<_>>()})
            }
            Contract::Lambda => lambda::event(batch),
        };
        let reply = match self.client.ask(&body, batch.len()) {
            Ok(reply) => reply,
            Err(failure) => {
                return Ok(batch.iter().map(|_| failed(failure.kind, failure.message.clone())).collect());
            }
        };
        let parts = match self.contract {
            Contract::Lambda => lambda::scores(&reply, batch),
            Contract::Samples => scores(&reply, batch),
        };
        parts.map_err(|problem| Error::Contract { reward: self.reward.clone(), problem })
    }
}

/// The scores of a service: `{"scores": [..]}` or the list alone; maps with `id`, or values in the order of the
/// samples.
fn scores(reply: &Value, batch: &[Sample<'_>]) -> Result<Vec<Part>, String> {
    let list = if reply.is_array() { reply } else { &reply["scores"] };
    match list.as_array() {
        Some(values) if values.iter().any(|value| !value["id"].is_null()) => {
            by_id(values, &batch.iter().map(|sample| sample.id).collect::<Vec<_>>())
        }
        Some(values) => by_place(values, batch.len()),
        None => {
            let shown: String = reply.to_string().chars().take(200).collect();
            Err(format!("expected {{\"scores\": [..]}} with {} scores, got {shown}", batch.len()))
        }
    }
}
