//! A server of this machine that says what it was told to, one answer a request, and keeps what it was asked.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

/// An answer.
pub struct Said {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Said {
    pub fn json(status: u16, body: Value) -> Self {
        Self { status, body: body.to_string().into_bytes() }
    }

    pub fn empty(status: u16) -> Self {
        Self { status, body: Vec::new() }
    }
}

/// A request that came.
#[derive(Clone)]
pub struct Asked {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Asked {
    /// A header; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

/// The server. It ends after its last answer; whoever asks more finds nobody.
pub struct Fake {
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    pub fn start(answers: Vec<Said>) -> Self {
        let mut answers = answers.into_iter();
        Self::answering(move |_| answers.next())
    }

    /// A server that answers what `answer` says, until it has nothing to say. What it is asked meanwhile waits.
    pub fn answering(mut answer: impl FnMut(&Asked) -> Option<Said> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&asked);
        std::thread::spawn(move || {
            loop {
                let (mut stream, _) = listener.accept().unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap());
                let mut line = || {
                    let mut text = String::new();
                    lines.read_line(&mut text).unwrap();
                    text.trim_end().to_owned()
                };
                let first = line();
                let mut words = first.split(' ').map(str::to_owned);
                let (method, target) = (words.next().unwrap(), words.next().unwrap());
                let mut headers = Vec::new();
                loop {
                    let text = line();
                    let Some((name, value)) = text.split_once(':') else { break };
                    headers.push((name.to_lowercase(), value.trim().to_owned()));
                }
                let mut asked = Asked { method, target, headers, body: Vec::new() };
                asked.body = vec![0; asked.header("content-length").parse().unwrap_or(0)];
                lines.read_exact(&mut asked.body).unwrap();
                kept.lock().unwrap().push(asked.clone());
                let Some(said) = answer(&asked) else { return };
                let head = format!(
                    "HTTP/1.1 {} said\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    said.status,
                    said.body.len()
                );
                // Whoever asked may have been killed meanwhile.
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&said.body));
            }
        });
        Self { url, asked }
    }

    /// What was asked, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

/// A list of keys as S3 gives it.
pub fn of_s3(keys: &[&str], next: Option<&str>) -> Said {
    let plain = |text: &str| text.replace('&', "&amp;");
    let keys: String =
        keys.iter().map(|key| format!("<Contents><Key>{}</Key><Size>1</Size></Contents>", plain(key))).collect();
    let next =
        next.map_or(String::new(), |next| format!("<NextContinuationToken>{}</NextContinuationToken>", plain(next)));
    Said {
        status: 200,
        body: format!("<?xml version=\"1.0\"?><ListBucketResult>{next}{keys}</ListBucketResult>").into_bytes(),
    }
}

/// A `.tar.gz` of these files.
pub fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        // As an attacker would write it: the crate's own way refuses `..`.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append(&header, *bytes).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}
