//! Signature Version 4: docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html.

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;
use temper_run::sha256_bytes;

use crate::credentials::Credentials;
use crate::request::{Request, Service, canonical_query, encoded};

/// The headers that sign `request` for `host`: `x-amz-date`, `authorization` and, where they are due, the session's token and the
/// hash of the body. `service` is the name in the scope.
pub(crate) fn signed(
    request: &Request,
    host: &str,
    credentials: &Credentials,
    region: &str,
    service: &str,
    moment: Timestamp,
) -> Vec<(String, String)> {
    let time = moment.strftime("%Y%m%dT%H%M%SZ").to_string();
    let day = &time[..8];
    let hash = sha256_bytes(&request.body);
    let mut added = vec![("x-amz-date".to_owned(), time.clone())];
    if let Some(token) = &credentials.token {
        added.push(("x-amz-security-token".to_owned(), token.clone()));
    }
    if request.service == Service::S3 {
        added.push(("x-amz-content-sha256".to_owned(), hash.clone()));
    }
    let mut headers: Vec<(String, String)> = request.headers.iter().chain(&added).cloned().collect();
    headers.push(("host".to_owned(), host.to_owned()));
    headers.sort();
    let names = headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(";");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{}\n", folded(value))).collect();
    // All services but S3 encode the path of the wire once more.
    let path = if request.service == Service::S3 { request.path.clone() } else { encoded(&request.path, true) };
    let canonical =
        format!("{}\n{path}\n{}\n{lines}\n{names}\n{hash}", request.method, canonical_query(&request.query));
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", sha256_bytes(canonical.as_bytes()));
    let key = [region, service, "aws4_request"]
        .iter()
        .fold(mac(format!("AWS4{}", credentials.secret).as_bytes(), day), |key, part| mac(&key, part));
    let signature: String = mac(&key, &to_sign).iter().map(|byte| format!("{byte:02x}")).collect();
    added.push((
        "authorization".to_owned(),
        format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
            credentials.key
        ),
    ));
    added
}

/// A header's value with runs of spaces as one.
fn folded(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[allow(clippy::expect_used, reason = "HMAC takes keys of every length")]
fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// AWS's own test suite (`aws-sig-v4-test-suite`: 20150830T123600Z, us-east-1, `service`), and the example of AWS's page on
    /// signing (`iam`).
    #[test]
    fn published_vectors() {
        let credentials = Credentials {
            key: "AKIDEXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
            token: None,
            source: String::new(),
        };
        let moment: Timestamp = "2015-08-30T12:36:00Z".parse().unwrap();
        let form = "application/x-www-form-urlencoded";
        let list = "application/x-www-form-urlencoded; charset=utf-8";
        let suite = "example.amazonaws.com";
        type Pairs<'a> = &'a [(&'a str, &'a str)];
        type Word = &'static str;
        /// Method, host, path, query, headers, body, service, signature.
        type Case<'a> = (Word, Word, Word, Pairs<'a>, Pairs<'a>, Word, Word, Word);
        let cases: [Case<'_>; 8] = [
            (
                "GET",
                suite,
                "/",
                &[],
                &[],
                "",
                "service",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "POST",
                suite,
                "/",
                &[],
                &[],
                "",
                "service",
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                "GET",
                suite,
                "/",
                &[("Param2", "value2"), ("Param1", "value1")],
                &[],
                "",
                "service",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                "GET",
                suite,
                "/",
                &[("\u{1234}", "bar")],
                &[],
                "",
                "service",
                "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
            ),
            (
                "GET",
                suite,
                "/\u{1234}",
                &[],
                &[],
                "",
                "service",
                "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
            ),
            (
                "POST",
                suite,
                "/",
                &[],
                &[("my-header1", "value1")],
                "",
                "service",
                "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
            ),
            (
                "POST",
                suite,
                "/",
                &[],
                &[("content-type", form)],
                "Param1=value1",
                "service",
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
            (
                "GET",
                "iam.amazonaws.com",
                "/",
                &[("Action", "ListUsers"), ("Version", "2010-05-08")],
                &[("content-type", list)],
                "",
                "iam",
                "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
            ),
        ];
        for (method, host, path, query, headers, body, service, signature) in cases {
            let owned = |pairs: Pairs<'_>| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
            let request = Request {
                service: Service::Bedrock,
                action: "test",
                method,
                path: path.to_owned(),
                query: owned(query),
                headers: owned(headers),
                body: body.as_bytes().to_vec(),
            };
            let added = signed(&request, host, &credentials, "us-east-1", service, moment);
            let authorization = &added.iter().find(|(name, _)| name == "authorization").unwrap().1;
            assert!(authorization.ends_with(&format!("Signature={signature}")), "{method} {path}: {authorization}");
        }
    }

    /// The example of the S3 API Reference, "Signature Calculations for the Authorization Header: Transferring Payload in a Single
    /// Chunk", GET Object.
    #[test]
    fn published_vector_of_s3() {
        let credentials = Credentials {
            key: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
            token: None,
            source: String::new(),
        };
        let request = Request {
            service: Service::S3,
            action: "GetObject",
            method: "GET",
            path: "/test.txt".to_owned(),
            query: Vec::new(),
            headers: vec![("range".to_owned(), "bytes=0-9".to_owned())],
            body: Vec::new(),
        };
        let moment = "2013-05-24T00:00:00Z".parse().unwrap();
        let added = signed(&request, "examplebucket.s3.amazonaws.com", &credentials, "us-east-1", "s3", moment);
        let authorization = &added.iter().find(|(name, _)| name == "authorization").unwrap().1;
        assert_eq!(
            authorization,
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, \
             SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, \
             Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
    }
}
