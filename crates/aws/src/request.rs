//! A request to a service of AWS, whole but for its signature.

use std::fmt::{self, Write as _};

use serde_json::Value;

/// What carries a job out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    /// Training jobs of SageMaker.
    SageMaker,
    /// Customization jobs of Bedrock.
    Bedrock,
}

impl Platform {
    /// The platform of this name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "sagemaker" => Some(Self::SageMaker),
            "bedrock" => Some(Self::Bedrock),
            _ => None,
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::SageMaker => "SageMaker",
            Self::Bedrock => "Bedrock",
        })
    }
}

/// A service that is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Training jobs.
    SageMaker,
    /// Customization jobs.
    Bedrock,
    /// Files.
    S3,
}

impl Service {
    /// Its name in a signature.
    pub fn name(self) -> &'static str {
        match self {
            Self::SageMaker => "sagemaker",
            Self::Bedrock => "bedrock",
            Self::S3 => "s3",
        }
    }

    /// Where it answers in a region, as AWS's endpoint tables have it.
    pub(crate) fn endpoint(self, region: &str) -> String {
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let host = match self {
            Self::SageMaker => "api.sagemaker",
            Self::Bedrock => "bedrock",
            Self::S3 => "s3",
        };
        format!("https://{host}.{region}.{domain}")
    }
}

/// A request, whole but for its signature and where it goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Whom it asks.
    pub service: Service,
    /// The name of the call, for messages.
    pub action: &'static str,
    /// The method of HTTP.
    pub method: &'static str,
    /// The path, encoded as it is sent.
    pub path: String,
    /// The query, names and values not encoded.
    pub query: Vec<(String, String)>,
    /// Headers, names in lower case, without those that signing adds.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// A call of SageMaker: JSON 1.1, the operation in a header.
    pub(crate) fn sagemaker(action: &'static str, body: &Value) -> Self {
        Self {
            service: Service::SageMaker,
            action,
            method: "POST",
            path: "/".to_owned(),
            query: Vec::new(),
            headers: vec![
                ("content-type".to_owned(), "application/x-amz-json-1.1".to_owned()),
                ("x-amz-target".to_owned(), format!("SageMaker.{action}")),
            ],
            body: body.to_string().into_bytes(),
        }
    }

    /// A call of Bedrock: JSON over REST. `path` is encoded.
    pub(crate) fn bedrock(action: &'static str, method: &'static str, path: String, body: Option<&Value>) -> Self {
        let json = ("content-type".to_owned(), "application/json".to_owned());
        Self {
            service: Service::Bedrock,
            action,
            method,
            path,
            query: Vec::new(),
            headers: body.map(|_| json).into_iter().collect(),
            body: body.map(|body| body.to_string().into_bytes()).unwrap_or_default(),
        }
    }

    /// Path and query as they are sent.
    pub(crate) fn target(&self) -> String {
        let query = canonical_query(&self.query);
        if query.is_empty() { self.path.clone() } else { format!("{}?{query}", self.path) }
    }

    /// The request for people, as it would go to `endpoint`: all of it but the signature and what the clock says. A body of JSON is
    /// indented, which its bytes are not.
    pub fn shown(&self, endpoint: &str) -> String {
        let mut text = format!("{} {endpoint}{}\n", self.method, self.target());
        for (name, value) in &self.headers {
            let _ = writeln!(text, "{name}: {value}");
        }
        let body = String::from_utf8_lossy(&self.body);
        match serde_json::from_slice::<Value>(&self.body) {
            Ok(value) => {
                let _ = writeln!(text, "\n{value:#}");
            }
            Err(_) if !body.is_empty() => {
                let _ = writeln!(text, "\n{}", body.trim_end());
            }
            Err(_) => (),
        }
        text
    }
}

/// Names and values encoded, in the order that Signature Version 4 wants, which is sent too.
pub(crate) fn canonical_query(query: &[(String, String)]) -> String {
    let mut pairs: Vec<(String, String)> =
        query.iter().map(|(name, value)| (encoded(name, false), encoded(value, false))).collect();
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// Percent-encoded as Signature Version 4 wants it: all but RFC 3986's unreserved characters; slashes too, unless they are kept.
pub(crate) fn encoded(text: &str, keep_slashes: bool) -> String {
    let mut into = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => into.push(byte.into()),
            b'/' if keep_slashes => into.push('/'),
            _ => {
                let _ = write!(into, "%{byte:02X}");
            }
        }
    }
    into
}
