//! Sends requests, again where that helps, and says what the answers mean that are no success.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use ureq::{Agent, Body, BodyReader};

use crate::credentials::{Credentials, Surroundings};
use crate::error::Error;
use crate::request::{Request, Service};
use crate::sign::signed;

/// How often a request is sent at most, where the service is busy or the network fails; 5, as in the legacy mode of AWS's SDKs.
const TRIES: u32 = 5;
/// The pause before the first repeat; each further one is twice as long.
const PAUSE: Duration = Duration::from_secs(1);
/// Until an answer begins.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Until it is whole: an archive of logs may be large.
const BODY_TIMEOUT: Duration = Duration::from_secs(60 * 60);
/// Replies are descriptions of jobs and lists of 1000 names at most.
const MAX_REPLY: u64 = 16 << 20;

/// Sends requests to AWS's services of one region.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
    credentials: Credentials,
    /// The region.
    pub region: String,
    sagemaker: String,
    bedrock: String,
    s3: String,
    pause: Duration,
}

impl Client {
    /// A client of a region. Services lie where AWS's tables say, or where `AWS_ENDPOINT_URL` and `AWS_ENDPOINT_URL_SAGEMAKER`,
    /// `_BEDROCK` and `_S3` lead, as AWS's own tools take them.
    pub fn new(surroundings: &Surroundings<'_>, credentials: Credentials, region: &str) -> Self {
        let url = |service| endpoint(surroundings, service, region);
        Self {
            agent: Agent::config_builder()
                .http_status_as_error(false)
                .timeout_connect(Some(TIMEOUT))
                .timeout_recv_response(Some(TIMEOUT))
                .timeout_recv_body(Some(BODY_TIMEOUT))
                .build()
                .into(),
            credentials,
            region: region.to_owned(),
            sagemaker: url(Service::SageMaker),
            bedrock: url(Service::Bedrock),
            s3: url(Service::S3),
            pause: PAUSE,
        }
    }

    /// The same with another pause before the first repeat.
    #[must_use]
    pub fn pausing(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// Sends a request and reads the JSON that comes back; null where nothing does.
    pub(crate) fn json(&self, request: &Request) -> Result<Value, Error> {
        let bytes = self.bytes(request)?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).map_err(|error| Error::Reply {
            action: request.action.to_owned(),
            problem: format!("the answer is not JSON: {error}"),
        })
    }

    /// Sends a request and reads the bytes that come back.
    pub(crate) fn bytes(&self, request: &Request) -> Result<Vec<u8>, Error> {
        let mut body = self.send(request)?;
        body.with_config().limit(MAX_REPLY).read_to_vec().map_err(|error| self.unreachable(request, &error))
    }

    /// Sends a request; what comes back is read as it arrives.
    pub(crate) fn stream(&self, request: &Request) -> Result<BodyReader<'static>, Error> {
        Ok(self.send(request)?.into_with_config().limit(u64::MAX).reader())
    }

    fn base(&self, service: Service) -> &str {
        match service {
            Service::SageMaker => &self.sagemaker,
            Service::Bedrock => &self.bedrock,
            Service::S3 => &self.s3,
        }
    }

    fn unreachable(&self, request: &Request, error: &ureq::Error) -> Error {
        Error::Unreachable {
            action: request.action.to_owned(),
            url: self.base(request.service).to_owned(),
            message: error.to_string(),
        }
    }

    /// The body of a success. A busy service and a failing network are asked again, after a pause; every request of this crate may
    /// come twice: jobs are named by their content.
    fn send(&self, request: &Request) -> Result<Body, Error> {
        let mut tries = 0;
        loop {
            tries += 1;
            let outcome = self.send_once(request, tries);
            let again = match &outcome {
                Err(Error::Throttled { .. } | Error::Unreachable { .. }) => true,
                Err(Error::Service { status, .. }) => *status >= 500,
                _ => false,
            };
            if !again || tries == TRIES {
                return outcome;
            }
            std::thread::sleep(self.pause * 2u32.pow(tries - 1));
        }
    }

    fn send_once(&self, request: &Request, tries: u32) -> Result<Body, Error> {
        let base = self.base(request.service);
        let host = base.split_once("://").map_or(base, |(_, host)| host);
        let mut build =
            ureq::http::Request::builder().method(request.method).uri(format!("{base}{}", request.target()));
        let (region, service) = (&self.region, request.service.name());
        let added = signed(request, host, &self.credentials, region, service, Timestamp::now());
        for (name, value) in request.headers.iter().chain(&added) {
            build = build.header(name, value);
        }
        let unsent = |error: ureq::http::Error| Error::Unfit {
            problem: format!("{}: no request can be made: {error}", request.action),
            hint: "check the names in it".to_owned(),
        };
        // A body of nothing would be announced as such, which services that answer to GET do not expect.
        let sent = if request.body.is_empty() && request.method == "GET" {
            self.agent.run(build.body(()).map_err(unsent)?)
        } else {
            self.agent.run(build.body(request.body.as_slice()).map_err(unsent)?)
        };
        let mut response = sent.map_err(|error| self.unreachable(request, &error))?;
        let status = response.status().as_u16();
        if (200..300).contains(&status) {
            return Ok(response.into_body());
        }
        let header =
            response.headers().get("x-amzn-errortype").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let text = response.body_mut().with_config().limit(MAX_REPLY).read_to_string().unwrap_or_default();
        Err(meaning(request.action, status, header.as_deref(), &text, tries))
    }
}

/// Where a service answers.
pub(crate) fn endpoint(surroundings: &Surroundings<'_>, service: Service, region: &str) -> String {
    let own = format!("AWS_ENDPOINT_URL_{}", service.name().to_uppercase());
    let given = surroundings.get(&own).or_else(|| surroundings.get("AWS_ENDPOINT_URL"));
    given.unwrap_or_else(|| service.endpoint(region)).trim_end_matches('/').to_owned()
}

/// What an answer means that is no success. The code is in a header (Bedrock), in `__type` (SageMaker), or in XML (S3).
fn meaning(action: &str, status: u16, header: Option<&str>, body: &str, tries: u32) -> Error {
    let value: Value = serde_json::from_str(body).unwrap_or_default();
    let of_json = |names: &[&str]| names.iter().find_map(|name| value[*name].as_str().map(str::to_owned));
    let code = header.map(str::to_owned).or_else(|| of_json(&["__type", "code"])).or_else(|| tag(body, "Code"));
    let code = code.unwrap_or_default();
    // `com.amazonaws.sagemaker#ValidationException:http://...`
    let code = code.rsplit('#').next().and_then(|code| code.split(':').next()).unwrap_or_default().to_owned();
    let message = of_json(&["message", "Message"]).or_else(|| tag(body, "Message"));
    let message = message.unwrap_or_else(|| body.chars().take(200).collect());
    let action = action.to_owned();
    match (code.as_str(), status) {
        (
            "ExpiredToken"
            | "ExpiredTokenException"
            | "InvalidClientTokenId"
            | "UnrecognizedClientException"
            | "InvalidSignatureException"
            | "SignatureDoesNotMatch"
            | "IncompleteSignature"
            | "InvalidAccessKeyId"
            | "MissingAuthenticationToken"
            | "MissingAuthenticationTokenException"
            | "RequestExpired",
            _,
        ) => Error::Credentials {
            problem: format!("{action}: the credentials are not accepted ({code}): {message}"),
            hint: "get new ones (`aws sts get-caller-identity` says whether they are good), and check the clock"
                .to_owned(),
        },
        (
            "ResourceLimitExceeded"
            | "ServiceQuotaExceededException"
            | "LimitExceededException"
            | "TooManyTagsException",
            _,
        ) => Error::Quota { action, message },
        (
            "ThrottlingException" | "Throttling" | "TooManyRequestsException" | "RequestLimitExceeded" | "SlowDown",
            _,
        )
        | (_, 429) => Error::Throttled { action, tries, message },
        ("ResourceInUse" | "ResourceInUseException" | "ConflictException", _) | (_, 409) => {
            Error::Conflict { action, message }
        }
        ("ResourceNotFound" | "ResourceNotFoundException" | "NoSuchKey" | "NoSuchBucket", _) | (_, 404) => {
            Error::NotFound { action, message }
        }
        // SageMaker says of a job that is not there that the request is not valid.
        ("ValidationException", _) if message.contains("not found") || message.contains("Could not find") => {
            Error::NotFound { action, message }
        }
        ("AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation", _) | (_, 401 | 403) => {
            Error::Denied { action, message }
        }
        ("PermanentRedirect" | "AuthorizationHeaderMalformed", _) | (_, 301 | 307) => {
            Error::Invalid { action, message: format!("the bucket lies in another region: {message}") }
        }
        (_, 400..=499) => {
            let said = if code.is_empty() { message } else { format!("{message} ({code})") };
            Error::Invalid { action, message: said }
        }
        _ => Error::Service { action, status, code, message },
    }
}

/// The text of the first element of this name.
pub(crate) fn tag(xml: &str, name: &str) -> Option<String> {
    tags(xml, name).into_iter().next()
}

/// The texts of all elements of this name, which S3 never nests.
pub(crate) fn tags(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let inner =
        xml.split(open.as_str()).skip(1).filter_map(|rest| rest.split_once(close.as_str()).map(|(text, _)| text));
    let plain = |text: &str| {
        let named = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&#39;", "'"), ("&amp;", "&")];
        named.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
    };
    inner.map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_has_its_meaning() {
        let json = |code: &str, message: &str| {
            format!(r#"{{"__type":"com.amazonaws.sagemaker#{code}","message":"{message}"}}"#)
        };
        let xml = "<Error><Code>NoSuchKey</Code><Message>The &lt;key&gt; is not there</Message></Error>";
        for (status, header, body, expected) in [
            (400, None, json("ThrottlingException", "Rate exceeded"), "X: throttled 3 times: Rate exceeded"),
            (400, None, json("ResourceLimitExceeded", "ml.p5"), "X: a quota is used up: ml.p5"),
            (400, None, json("ValidationException", "1 error"), "X: not accepted: 1 error (ValidationException)"),
            (400, None, json("ValidationException", "Requested resource not found."), "X: not found: "),
            (400, None, json("ResourceInUse", "taken"), "X: in conflict: taken"),
            (403, Some("AccessDeniedException:http://x"), r#"{"message":"no"}"#.to_owned(), "X: access denied: no"),
            (
                403,
                Some("ExpiredTokenException"),
                r#"{"message":"old"}"#.to_owned(),
                "X: the credentials are not accepted",
            ),
            (429, Some("ThrottlingException"), "{}".to_owned(), "X: throttled 3 times"),
            (404, None, xml.to_owned(), "X: not found: The <key> is not there"),
            (500, None, "<html>".to_owned(), "X: status 500 (): <html>"),
        ] {
            let said = meaning("X", status, header, &body, 3).to_string();
            assert!(said.starts_with(expected), "{status} {body}: {said}");
        }
    }
}
