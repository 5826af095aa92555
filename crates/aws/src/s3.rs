//! Files in S3: put, get, list.

use ureq::BodyReader;

use crate::client::{Client, tag, tags};
use crate::error::{Error, unfit};
use crate::request::{Request, Service, encoded};

/// A place in S3.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Place {
    pub bucket: String,
    pub key: String,
}

impl Place {
    /// Reads `s3://BUCKET/KEY`; the key may be empty.
    pub fn read(uri: &str) -> Result<Self, Error> {
        let (bucket, key) = uri
            .strip_prefix("s3://")
            .map(|rest| rest.split_once('/').unwrap_or((rest, "")))
            .filter(|(bucket, _)| !bucket.is_empty())
            .ok_or_else(|| unfit(format!("`{uri}` is no place in S3"), "s3://bucket/key"))?;
        Ok(Self { bucket: bucket.to_owned(), key: key.to_owned() })
    }

    fn request(&self, action: &'static str, method: &'static str) -> Request {
        Request {
            service: Service::S3,
            action,
            method,
            path: format!("/{}/{}", encoded(&self.bucket, false), encoded(&self.key, true)),
            query: Vec::new(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// The request that writes it.
    pub fn put(&self, body: &[u8]) -> Request {
        Request { body: body.to_vec(), ..self.request("PutObject", "PUT") }
    }

    /// Reads it as it arrives.
    pub fn get(&self, client: &Client) -> Result<BodyReader<'static>, Error> {
        client.stream(&self.request("GetObject", "GET"))
    }

    /// The keys that begin with this one's, all of them, in order.
    pub fn list(&self, client: &Client) -> Result<Vec<String>, Error> {
        let mut keys = Vec::new();
        let mut next = None;
        loop {
            let mut request = Self { bucket: self.bucket.clone(), key: String::new() }.request("ListObjectsV2", "GET");
            request.path = format!("/{}", encoded(&self.bucket, false));
            request.query = vec![("list-type".to_owned(), "2".to_owned()), ("prefix".to_owned(), self.key.clone())];
            request.query.extend(next.take().map(|token| ("continuation-token".to_owned(), token)));
            let xml = String::from_utf8_lossy(&client.bytes(&request)?).into_owned();
            keys.extend(tags(&xml, "Key"));
            next = tag(&xml, "NextContinuationToken");
            if next.is_none() {
                return Ok(keys);
            }
        }
    }

    /// The place of another key of the bucket.
    pub fn beside(&self, key: &str) -> Self {
        Self { bucket: self.bucket.clone(), key: key.to_owned() }
    }
}
