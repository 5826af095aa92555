//! Rewards as their users meet them: `temper reward test` over programs that work, fail, hang, cheat and break out.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::thread;

use serde_json::{Value, json};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// One row with these completions.
    fn rows(&self, completions: &[&str]) -> String {
        let row = json!({"id": "r", "prompt": "1 + 1?", "reference_answer": "2", "completions": completions});
        self.write("rows.jsonl", &format!("{row}\n"))
    }

    fn test(&self, file: &str, rows: &str, more: &[&str]) -> Output {
        temper(&[&["reward", "test", file, "--rows", rows, "--json"], more].concat())
    }

    /// A Python file as the reward of one row.
    fn python(&self, text: &str, completions: &[&str], more: &[&str]) -> Output {
        let file = self.write("mine.py", text);
        self.test(&file, &self.rows(completions), more)
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn temper(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_temper"));
    command.args(arguments).env("NO_COLOR", "1").env("SECRET_OF_THE_USER", "s3cret");
    command.output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn found(output: &Output) -> Value {
    assert!(matches!(output.status.code(), Some(0 | 4)), "{:?}: {}", output.status, stderr(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn fails(output: &Output, code: i32, piece: &str) {
    assert_eq!(output.status.code(), Some(code), "{}", stderr(output));
    assert!(stderr(output).contains(piece), "`{piece}` is not in:\n{}", stderr(output));
}

/// The mean over the completions of the one reward.
fn mean(found: &Value) -> Option<f64> {
    found["table"][0]["completions"].as_f64()
}

fn verdict<'v>(found: &'v Value, check: &str) -> &'v str {
    let of_check = |finding: &&Value| finding["check"] == check;
    let finding = found["findings"].as_array().unwrap().iter().find(of_check);
    finding.unwrap_or_else(|| panic!("no `{check}` in {found}"))["verdict"].as_str().unwrap()
}

/// How often the reward failed in this way, over both scorings.
fn failures(found: &Value, kind: &str) -> u64 {
    found["table"][0]["counts"]["failed"][kind].as_u64().unwrap_or(0)
}

#[test]
fn the_shipped_examples_hold_the_checks() {
    let at = |name: &str| root().join("recipes/rewards").join(name).display().to_string();
    for (file, rows, reference_as) in [
        ("equation.py", "equations.jsonl", None),
        ("nova_lambda.py", "codes.jsonl", Some("{reference_answer.code}")),
        // The form that its answers need is told by the rewards themselves.
        ("rewards.yaml", "sums.jsonl", None),
    ] {
        let (file, rows) = (at(file), at(rows));
        let mut arguments = vec!["reward", "test", &file, "--rows", &rows, "--json"];
        arguments.extend(reference_as.into_iter().flat_map(|form| ["--reference-as", form]));
        let output = temper(&arguments);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{file}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            stderr(&output)
        );
        let found = found(&output);
        let total = found["table"].as_array().unwrap().last().unwrap();
        assert!(total["reference"].as_f64().unwrap() >= 1.0, "{total}");
        for check in ["failures", "determinism", "agreement", "discrimination", "spread", "groups"] {
            assert_eq!(verdict(&found, check), "ok", "{file}: {check}: {found}");
        }
    }
    // As people read it.
    let output = temper(&["reward", "test", &at("equation.py"), "--rows", &at("equations.jsonl")]);
    let text = String::from_utf8(output.stdout).unwrap();
    for piece in ["4 rows, 16 completions", "ok     determinism", "hint: mark some completions"] {
        assert!(text.contains(piece), "`{piece}` is not in:\n{text}");
    }
}

#[test]
fn functions_of_every_form_need_no_glue() {
    let folder = Folder::new();
    let one = "def reward(completion, reference_answer):\n    return float(completion == reference_answer)\n";
    let with_all = "def reward(prompt, completion, id, tokens, cut, **row):\n    \
                    assert prompt[0]['role'] == 'user' and row['reference_answer'] == '2' and tokens >= 0 and cut is False\n    \
                    return completion == '2'\n";
    let list = "def rewards(completions, reference_answer):\n    \
                return [float(c == r) for c, r in zip(completions, reference_answer)]\n";
    let waiting = "import asyncio\nasync def reward(completion):\n    await asyncio.sleep(0)\n    return {'score': int(completion == '2'), 'extra': 3}\n";
    let named = "def helper():\n    pass\ndef mine(completions, **_):\n    return [c == '2' for c in completions]\n";
    let number = "from decimal import Decimal\ndef reward(completion):\n    return Decimal(int(completion == '2'))\n";
    for (text, more) in [
        (one, &[][..]),
        (with_all, &[]),
        (list, &[]),
        (waiting, &[]),
        (named, &["--set", "rewards.0.function=mine"]),
        (number, &[]),
    ] {
        let found = found(&folder.python(text, &["2", "3", "2", "4"], more));
        assert_eq!(
            (mean(&found), found["table"][0]["counts"]["scored"].as_u64()),
            (Some(0.5), Some(16)),
            "{text}\n{found}"
        );
    }
}

#[test]
fn an_executable_speaks_json_lines() {
    let folder = Folder::new();
    let script = "#!/usr/bin/env python3\nimport json, sys\nfor line in sys.stdin:\n    sample = json.loads(line)\n    \
                  right = sample['completion'] == sample['reference_answer'] == sample['row']['reference_answer']\n    \
                  print(json.dumps({'id': sample['id'], 'score': float(right), 'parts': {'length': sample['tokens']}}), flush=True)\n";
    let file = folder.write("mine.exe", script);
    Command::new("chmod").args(["+x", &file]).status().unwrap();
    let found = found(&folder.test(&file, &folder.rows(&["2", "3"]), &[]));
    assert_eq!(mean(&found), Some(0.5), "{found}");
}

/// huggingface/trl#6533: one value for n completions was given to all of them.
#[test]
fn trl_6533_one_value_for_n_completions_is_an_error() {
    let folder = Folder::new();
    let returns =
        |value: &str| folder.python(&format!("def rewards(completions):\n    return {value}\n"), &["1", "2", "3"], &[]);
    fails(&returns("[1.0]"), 1, "reward `reward`: expected 7 scores for 7 completions, got 1");
    fails(&returns("1.0"), 1, "expected a list of 7 scores, got float 1.0");
    fails(&returns("[1.0] * 8"), 1, "expected 7 scores for 7 completions, got 8");
}

#[test]
fn what_is_no_finite_number_is_a_failure_of_its_kind_and_none_an_abstention() {
    let folder = Folder::new();
    for (value, kind) in [
        ("float('nan')", "not_finite"),
        ("float('-inf')", "not_finite"),
        ("'0.5'", "not_a_number"),
        ("[0.5]", "not_a_number"),
        ("{'value': 1}", "bad_reply"),
        ("1 / 0", "error"),
    ] {
        let text = format!("def reward(completion):\n    return {value} if completion == 'x' else 0.5\n");
        let output = folder.python(&text, &["x", "y"], &[]);
        assert_eq!(output.status.code(), Some(4), "one of eight failed: {}", stderr(&output));
        let found = found(&output);
        assert_eq!((failures(&found, kind), mean(&found)), (2, Some(0.5)), "{value}: {found}");
        assert_eq!(verdict(&found, "failures"), "error");
    }
    let found = found(&folder.python(
        "def reward(completion):\n    return None if completion == 'x' else 0.5\n",
        &["x", "y"],
        &[],
    ));
    assert_eq!((&found["table"][0]["counts"]["abstained"], verdict(&found, "failures")), (&json!(2), "ok"));
}

#[test]
fn a_crash_and_a_hang_cost_their_sample_and_no_other() {
    let folder = Folder::new();
    for (act, kind) in
        [("os._exit(3)", "crash"), ("sys.exit(3)", "crash"), ("time.sleep(60)", "timeout"), ("os.kill(0, 9)", "crash")]
    {
        for form in [
            "def reward(completion):\n    return one(completion)\n",
            "def rewards(completions):\n    return [one(c) for c in completions]\n",
        ] {
            let text = format!(
                "import os, sys, time\ndef one(completion):\n    if completion == 'x':\n        {act}\n    return 0.5\n{form}"
            );
            let found = found(&folder.python(&text, &["y", "x", "z"], &["--set", "rewards.0.timeout_seconds=1.5"]));
            assert_eq!((failures(&found, kind), mean(&found)), (2, Some(0.5)), "{act}: {found}");
            assert_eq!(found["table"][0]["counts"]["scored"], 12, "{act}: {found}");
        }
    }
}

#[test]
fn prints_do_not_reach_the_protocol_and_are_shown_where_something_failed() {
    let folder = Folder::new();
    let text = "import os, subprocess\nprint('loading')\ndef reward(completion):\n    print('{\"returned\": [9]}')\n    \
                os.write(1, b'raw\\n')\n    subprocess.run(['echo', 'from a child'])\n    \
                return 1 / 0 if completion == 'x' else 0.5\n";
    let output = folder.python(text, &["x", "y"], &[]);
    assert_eq!(mean(&found(&output)), Some(0.5));
    assert!(stderr(&output).contains("ZeroDivisionError"), "{}", stderr(&output));
}

#[test]
fn a_reply_over_its_limit_is_not_read() {
    let folder = Folder::new();
    let text = "def reward(completion):\n    return {'score': 0.5, 'n' * (5000 if completion == 'x' else 1): 1}\n";
    let found = found(&folder.python(text, &["x", "y"], &["--set", "rewards.0.max_output_bytes=1000"]));
    assert_eq!((failures(&found, "too_large"), mean(&found)), (2, Some(0.5)), "{found}");
}

#[test]
fn chance_clocks_and_places_are_found_and_seeded_chance_is_none() {
    let folder = Folder::new();
    let place = "def rewards(completions):\n    return [i / 10 for i in range(len(completions))]\n";
    let memory = "seen = 0\ndef reward(completion):\n    global seen\n    seen += 1\n    return seen / 100\n";
    for text in [place, memory, "import os\ndef reward(completion):\n    return os.urandom(1)[0] / 255\n"] {
        let output = folder.python(text, &["1", "2", "3", "4"], &[]);
        assert_eq!(output.status.code(), Some(4));
        assert_eq!(verdict(&found(&output), "determinism"), "error", "{text}");
    }
    // `random` is seeded by the sample; the order of a set of texts by the seed.
    let seeded = "import random\ndef reward(completion):\n    return random.random() + len(list({'a', 'b', 'c'})[0])\n";
    assert_eq!(verdict(&found(&folder.python(seeded, &["1", "2", "3"], &[])), "determinism"), "ok");
}

#[test]
fn rewards_that_can_be_gamed_are_found() {
    let folder = Folder::new();
    for (text, check) in [
        ("def reward(completion):\n    return min(1.0, len(completion) / 1000)\n", "length"),
        ("def reward(completion):\n    return 0.5\n", "spread"),
        ("def reward(completion):\n    return 1.0 if completion == '' else 0.0\n", "agreement"),
        ("def reward(completion):\n    return float('lorem' in completion.lower())\n", "discrimination"),
    ] {
        let output = folder.python(text, &["1", "22", "333", "4444"], &[]);
        assert_eq!(output.status.code(), Some(4), "{text}");
        let found = found(&output);
        let errors = found["findings"].as_array().unwrap().iter().filter(|finding| finding["verdict"] == "error");
        let checks: Vec<&str> = errors.map(|finding| finding["check"].as_str().unwrap()).collect();
        assert!(checks.contains(&check), "{text}: {checks:?}");
    }
}

#[test]
fn a_file_that_is_no_reward_is_refused_with_what_it_lacks() {
    let folder = Folder::new();
    for (text, piece) in [
        ("x = 1\n", "there is no function `reward` or `rewards` or `lambda_handler`"),
        ("def reward():\n  return 1\ndef rewards(): return []\n", "say which: `function: NAME`"),
        ("def reward(:\n", "SyntaxError"),
        ("import nowhere_to_be_found\n", "ModuleNotFoundError"),
        ("raise SystemExit(3)\n", "it did not get ready: it ended: exit status: 3"),
    ] {
        fails(&folder.python(text, &["1"], &[]), 2, piece);
    }
    let missing = folder.python("def reward(completion, colour):\n    return 1\n", &["1"], &[]);
    assert!(stderr(&missing).contains("asks for `colour`, which the row has not"), "{}", stderr(&missing));
    fails(&temper(&["reward", "test", "nowhere.py", "--rows", &folder.rows(&["1"])]), 2, "there is no file nowhere.py");
}

/// Answers POSTs with what `answer` makes of their bodies, by the number of the request: a status and a body.
fn server(answer: impl Fn(usize, Value) -> (u16, String) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
            let body = loop {
                let count = stream.read(&mut buffer).unwrap();
                bytes.extend(&buffer[..count]);
                let text = String::from_utf8_lossy(&bytes).into_owned();
                if let Some((head, body)) = text.split_once("\r\n\r\n") {
                    let length = head
                        .to_lowercase()
                        .split("content-length: ")
                        .nth(1)
                        .unwrap()
                        .lines()
                        .next()
                        .unwrap()
                        .trim()
                        .parse::<usize>()
                        .unwrap();
                    if body.len() >= length {
                        break body.to_owned();
                    }
                }
                assert!(count > 0, "the request ended early: {text}");
            };
            let (status, text) = answer(number, serde_json::from_str(&body).unwrap());
            let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", text.len());
            stream.write_all((head + &text).as_bytes()).unwrap();
        }
    });
    url
}

fn yaml(folder: &Folder, entry: &str) -> String {
    folder.write("rewards.yaml", &format!("rewards:\n  - {{name: it, {entry}}}\n"))
}

#[test]
fn a_service_scores_and_is_asked_again_when_it_is_busy() {
    let folder = Folder::new();
    let score = |body: &Value| -> Value {
        let right = |sample: &Value| json!({"id": sample["id"], "score": u8::from(sample["completion"] == "2")});
        body["samples"].as_array().unwrap().iter().map(right).collect()
    };
    let url = server(move |number, body| match number {
        0 => (503, "busy".to_owned()),
        _ => (200, json!({"scores": score(&body)}).to_string()),
    });
    let file = yaml(&folder, &format!("url: \"{url}/score\", batch_size: 3, concurrency: 2"));
    let scored = found(&folder.test(&file, &folder.rows(&["2", "3"]), &[]));
    assert_eq!((mean(&scored), failures(&scored, "unreachable")), (Some(0.5), 0), "{scored}");

    let url = server(|_, _| (400, "no such thing".to_owned()));
    let file = yaml(&folder, &format!("url: \"{url}\""));
    let refused = folder.test(&file, &folder.rows(&["2", "3"]), &[]);
    assert_eq!(failures(&found(&refused), "unreachable"), 12);

    let url = server(|_, _| (200, "[1.0]".to_owned()));
    let file = yaml(&folder, &format!("url: \"{url}\""));
    fails(
        &folder.test(&file, &folder.rows(&["2", "3"]), &[]),
        1,
        "reward `it`: expected 6 scores for 6 completions, got 1",
    );

    let url = server(|_, body| {
        let score = |sample: &Value| {
            let reply = &sample["messages"].as_array().unwrap().last().unwrap()["content"];
            json!({"id": sample["id"], "aggregate_reward_score": f64::from(u8::from(*reply == sample["metadata"]["reference_answer"]))})
        };
        (200, Value::from_iter(body.as_array().unwrap().iter().map(score)).to_string())
    });
    let file = yaml(&folder, &format!("url: \"{url}\", contract: lambda"));
    assert_eq!(mean(&found(&folder.test(&file, &folder.rows(&["2", "3"]), &[]))), Some(0.5));
}

#[test]
fn a_judge_is_asked_at_temperature_0_and_its_last_score_counts() {
    let folder = Folder::new();
    let url = server(|_, body| {
        assert_eq!((&body["temperature"], &body["model"]), (&json!(0), &json!("m")));
        let asked = body["messages"][0]["content"].as_str().unwrap();
        let (_, answer) = asked.split_once("<<<ANSWER\n").unwrap();
        assert!(asked.contains("1 + 1?"), "{asked}");
        let said = match answer.lines().next().unwrap() {
            "2" => "Score: 3? No.\n**Score:** 10",
            "3" => "score: 0",
            "4" => "I like it",
            "5" => "Score: 11",
            _ => "Score: 0",
        };
        (200, json!({"choices": [{"message": {"content": said}}]}).to_string())
    });
    let file = yaml(&folder, &format!("judge: \"{url}/v1\", model: m"));
    let found = found(&folder.test(&file, &folder.rows(&["2", "3", "4", "5"]), &[]));
    assert_eq!((mean(&found), failures(&found, "bad_reply")), (Some(0.5), 4), "{found}");
}

#[test]
fn a_key_goes_with_the_request_and_a_missing_one_is_refused() {
    let folder = Folder::new();
    let file = yaml(&folder, "url: \"http://127.0.0.1:9\", api_key_env: NO_SUCH_VARIABLE");
    fails(&folder.test(&file, &folder.rows(&["1"]), &[]), 2, "there is no environment variable NO_SUCH_VARIABLE");
}

#[cfg(target_os = "linux")]
mod sandbox {
    use super::*;

    /// Each of these must fail within the sandbox; the function scores 1 where it does.
    #[test]
    fn network_writes_outside_processes_and_signals_are_denied() {
        let folder = Folder::new();
        let outside = folder.0.path().join("outside.txt");
        std::fs::write(&outside, "as it was").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let text = format!(
            r#"
import ctypes, os, shutil, signal, socket, subprocess, threading

OUTSIDE = {outside:?}
ONLY = []

def tries():
    yield "connect", lambda: socket.create_connection(("127.0.0.1", {port}), 5)
    yield "udp", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", {port}))
    yield "unix", lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    yield "netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
    yield "write", lambda: open(OUTSIDE, "a")
    yield "truncate", lambda: os.truncate(OUTSIDE, 0)
    yield "create", lambda: open(os.path.dirname(OUTSIDE) + "/new.txt", "w")
    yield "tmp", lambda: open("/tmp/temper-sandbox-escape", "w")
    yield "shm", lambda: open("/dev/shm/temper-sandbox-escape", "w")
    yield "remove", lambda: os.remove(OUTSIDE)
    yield "rename", lambda: os.rename(OUTSIDE, "inside.txt")
    yield "link", lambda: os.link(OUTSIDE, "linked.txt")
    yield "link out", lambda: (open("own.txt", "w").close(), os.rename("own.txt", OUTSIDE + ".moved"))
    yield "mkdir", lambda: os.mkdir(OUTSIDE + ".d")
    yield "chmod", lambda: os.chmod(OUTSIDE, 0o777)
    yield "chown", lambda: os.chown(OUTSIDE, os.getuid(), os.getgid())
    yield "utime", lambda: os.utime(OUTSIDE)
    yield "xattr", lambda: os.setxattr(OUTSIDE, "user.x", b"1")
    yield "symlink", lambda: (os.symlink(OUTSIDE, "soft.txt"), open("soft.txt", "a"))
    yield "mknod", lambda: os.mknod("device", 0o600 | 0o060000, os.makedev(8, 0))
    yield "fork", os.fork
    yield "spawn", lambda: subprocess.run(["true"], check=True)
    yield "kill the parent", lambda: os.kill(os.getppid(), signal.SIGTERM)
    yield "kill all", lambda: os.kill(-1, signal.SIGTERM)
    yield "environment of the parent", lambda: open(f"/proc/{{os.getppid()}}/environ").read()
    yield "memory of the parent", lambda: open(f"/proc/{{os.getppid()}}/mem", "rb")
    yield "more files", lambda: __import__("resource").setrlimit(7, (1000, 1000))
    yield "device", lambda: open("/dev/vda", "rb+") if os.path.exists("/dev/vda") else open("/dev/kmsg", "w")

def reward(completion):
    escaped = []
    for name, attempt in tries():
        if ONLY and name not in ONLY:
            continue
        try:
            attempt()
            escaped.append(name)
        except OSError:
            pass
        except ValueError:
            pass
    libc = ctypes.CDLL(None, use_errno=True)
    # By their numbers: 1 is "not permitted", 38 "not implemented".
    for name, call, error in (("io_uring", 425, 1), ("setns", 308, 1), ("bpf", 321, 1), ("ptrace", 101, 1), ("clone3", 435, 38)):
        if not ONLY and os.uname().machine == "x86_64" and (libc.syscall(call, 0, 0, 0, 0, 0) >= 0 or ctypes.get_errno() != error):
            escaped.append(name)
    if "SECRET_OF_THE_USER" in os.environ:
        escaped.append("environment")
    if escaped:
        raise RuntimeError("escaped: " + ", ".join(escaped))
    # What it may do.
    with open("mine.txt", "w") as file:
        file.write("x")
    os.makedirs("a/b", exist_ok=True)
    shutil.rmtree("a")
    done = []
    thread = threading.Thread(target=lambda: done.append(1))
    thread.start()
    thread.join()
    left, right = socket.socketpair()
    open("/dev/null", "w").write("x")
    os.kill(os.getpid(), 0)
    return 1.0 if done and os.path.exists("mine.txt") else 0.0
"#
        );
        let output = folder.python(&text, &["1"], &["--set", "rewards.0.sandbox=required"]);
        assert_eq!(mean(&found(&output)), Some(1.0), "{}", stderr(&output));
        assert_eq!(std::fs::read_to_string(&outside).unwrap(), "as it was");
        assert!(!std::path::Path::new("/tmp/temper-sandbox-escape").exists());
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "somebody connected");

        // Some of them again without the sandbox: the tries are real.
        let free = text.replace("ONLY = []", "ONLY = ['connect', 'udp', 'unix', 'write', 'chmod', 'spawn']");
        let output = folder.python(&free, &["1"], &[]);
        let escaped = "escaped: connect, udp, unix, write, chmod, spawn";
        assert!(stderr(&output).contains(escaped), "{}", stderr(&output));
    }

    fn code_rows(folder: &Folder, tests: Value, completions: &[&str]) -> String {
        let row = json!({"id": "r", "prompt": "f", "tests": tests, "reference_answer": "def f(x): return x + 1", "completions": completions});
        folder.write("code.jsonl", &format!("{row}\n"))
    }

    /// The score of one completion, and what was told of it.
    fn score(folder: &Folder, tests: Value, completion: &str, more: &str) -> f64 {
        let file = yaml(folder, &format!("verifier: unit_tests, timeout_seconds: 3{more}"));
        let output = folder.test(&file, &code_rows(folder, tests, &[completion]), &[]);
        let found = found(&output);
        assert_eq!(found["table"][0]["counts"]["failed"], json!({}), "{completion}: {found}");
        mean(&found).unwrap()
    }

    #[test]
    fn code_is_scored_by_its_tests() {
        let folder = Folder::new();
        let asserts = json!(["assert f(1) == 2", "assert f(-1) == 0"]);
        assert_eq!(
            score(&folder, asserts.clone(), "Sure:\n```python\ndef f(x):\n    return x + 1\n```\nDone.", ""),
            1.0
        );
        assert_eq!(score(&folder, asserts.clone(), "def f(x): return 2 * x", ""), 0.0);
        assert_eq!(score(&folder, asserts.clone(), "def f(x): return 2 * x", ", partial: true"), 0.5);
        assert_eq!(score(&folder, asserts, "def f(x) return", ", partial: true"), 0.0);
        let check = json!("def check(f):\n    assert f(1) == 2\ncheck(f)");
        assert_eq!(score(&folder, check, "def f(x): return x + 1", ""), 1.0);
        let programs = json!([{"input": "1\n", "output": "2\n"}, {"input": "5\n", "output": "6"}]);
        assert_eq!(score(&folder, programs.clone(), "print(int(input()) + 1)", ""), 1.0);
        assert_eq!(score(&folder, programs, "print(2)", ", partial: true"), 0.5);
    }

    #[test]
    fn code_that_leaves_hangs_eats_memory_or_fakes_its_verdict_scores_0_and_is_no_failure() {
        let folder = Folder::new();
        let tests = json!(["assert f(1) == 2"]);
        for code in [
            "import os\nos._exit(0)",
            "import sys\nsys.exit(0)",
            "raise SystemExit(0)",
            "while True: pass",
            "import time\ntime.sleep(60)",
            "x = 'x' * (1 << 30)",
            "def f(x): return f(x)",
            "import os\nos.write(3, b'{\"word\": \"\", \"passed\": [true]}\\n')\nos._exit(0)",
            "import os\nfor i in range(10):\n    try: os.write(i, b'{\"passed\": [true]}\\n' * 3)\n    except OSError: pass\nos._exit(0)",
            "import os\nwhile True:\n    for i in range(3, 10):\n        try: os.write(i, b'x' * 100000)\n        except OSError: pass",
            "class A:\n    def __eq__(self, other): raise KeyboardInterrupt\ndef f(x): return A()",
            "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
        ] {
            assert_eq!(score(&folder, tests.clone(), code, ""), 0.0, "{code}");
        }
    }

    #[test]
    fn code_writes_in_its_own_folder_only_and_nothing_of_it_stays() {
        let folder = Folder::new();
        let mark = folder.0.path().join("mark");
        let code = format!(
            "open('own', 'w').write('x')\ndef f(x):\n    try:\n        open({mark:?}, 'w')\n    except OSError:\n        return 2\n"
        );
        let logs = folder.0.path().join("logs");
        let file = yaml(&folder, "verifier: unit_tests, concurrency: 2");
        let rows = code_rows(&folder, json!("assert f(1) == 2"), &[&code]);
        let output = folder.test(&file, &rows, &["--logs", &logs.display().to_string()]);
        assert_eq!(mean(&found(&output)), Some(1.0), "{}", stderr(&output));
        assert!(!mark.exists());
        assert_eq!(std::fs::read_dir(&logs).unwrap().count(), 0, "folders of code are left behind");
    }

    #[test]
    fn rows_without_tests_are_failures() {
        let folder = Folder::new();
        let file = yaml(&folder, "verifier: unit_tests");
        let found = found(&folder.test(&file, &folder.rows(&["def f(): pass"]), &[]));
        assert_eq!(failures(&found, "error"), 10, "{found}");
    }
}
