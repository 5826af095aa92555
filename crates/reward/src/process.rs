//! A child process that answers lines with lines, within limits. It ends with its owner, and all that it started in its
//! group with it.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

/// Replies that wait unread; a process that talks unasked is held up by its full pipe, not by our memory.
const WAITING: usize = 4;

/// How a process is started.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub program: OsString,
    pub arguments: Vec<OsString>,
    /// Where it starts.
    pub folder: PathBuf,
    /// None: the environment of this process and these; else these only.
    pub environment: Vec<(OsString, OsString)>,
    pub inherit: bool,
    /// Where its standard error goes; none: nowhere.
    pub log: Option<PathBuf>,
    /// Address space it may have, in bytes. In a sandbox the launcher sets it instead.
    pub memory: Option<u64>,
}

/// Why a request has no answer. The process is gone in each case.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Lost {
    /// It did not answer in time, and was killed.
    Timeout,
    /// It ended: its status.
    Ended(String),
    /// Its reply was longer than the limit, and it was killed.
    TooLarge,
}

enum Reply {
    Line(Vec<u8>),
    TooLarge,
}

/// A process under way.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    requests: Sender<Vec<u8>>,
    replies: Receiver<Reply>,
}

impl Process {
    /// Starts it; a reply may have so many bytes.
    pub fn start(launch: &Launch, limit: u64) -> std::io::Result<Self> {
        let mut command = Command::new(&launch.program);
        command.args(&launch.arguments).current_dir(&launch.folder);
        if !launch.inherit {
            command.env_clear();
        }
        command.envs(launch.environment.iter().map(|(key, value)| (key, value)));
        let log = match &launch.log {
            Some(path) => std::fs::File::options().create(true).append(true).open(path)?.into(),
            None => Stdio::null(),
        };
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        #[cfg(unix)]
        {
            use std::os::unix::process::CommandExt;
            // A group of its own: Ctrl-C in the terminal is not for it, and a signal reaches all that it starts.
            command.process_group(0);
        }
        let mut child = command.spawn()?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(std::io::Error::other("the pipes of a process that was started are missing"));
        };
        let (requests, to_write) = channel();
        let (to_read, replies) = sync_channel(WAITING);
        // Two threads, so that a process that does not read, or does not write, holds nobody up past its time.
        thread::spawn(move || write(stdin, &to_write));
        thread::spawn(move || read(stdout, limit, &to_read));
        let process = Self { child, requests, replies };
        if let Some(bytes) = launch.memory {
            process.limit_memory(bytes)?;
        }
        Ok(process)
    }

    /// Sends a line; its line break is added.
    pub fn send(&self, mut line: Vec<u8>) {
        line.push(b'\n');
        // Where the writer has gone the process has ended, which `receive` tells.
        let _ = self.requests.send(line);
    }

    /// The next line, waited for so long. Without one the process is killed.
    pub fn receive(&mut self, within: Duration) -> Result<Vec<u8>, Lost> {
        match self.replies.recv_timeout(within) {
            Ok(Reply::Line(line)) => Ok(line),
            Ok(Reply::TooLarge) => {
                self.kill();
                Err(Lost::TooLarge)
            }
            Err(RecvTimeoutError::Timeout) => {
                self.kill();
                Err(Lost::Timeout)
            }
            // It closed its output: it has ended, or is about to.
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.wait_a_little();
                self.kill();
                Err(Lost::Ended(status))
            }
        }
    }

    /// The status of a process whose output is closed, in words; on a busy machine it takes a while to end.
    fn wait_a_little(&mut self) -> String {
        for _ in 0..500 {
            match self.child.try_wait() {
                Ok(Some(status)) => return status.to_string(),
                Ok(None) => thread::sleep(Duration::from_millis(10)),
                Err(error) => return error.to_string(),
            }
        }
        "it closed its output".to_owned()
    }

    fn kill(&mut self) {
        #[cfg(unix)]
        if let Some(group) = self.pid() {
            // Where all of it has ended already there is nothing to kill.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    #[cfg(unix)]
    fn pid(&self) -> Option<rustix::process::Pid> {
        i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw)
    }

    #[cfg(target_os = "linux")]
    fn limit_memory(&self, bytes: u64) -> std::io::Result<()> {
        use rustix::process::{Resource, Rlimit, prlimit};
        prlimit(self.pid(), Resource::As, Rlimit { current: Some(bytes), maximum: Some(bytes) })?;
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    fn limit_memory(&self, _: u64) -> std::io::Result<()> {
        Err(std::io::Error::other("`memory` is a limit of Linux only"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn write(mut stdin: ChildStdin, lines: &Receiver<Vec<u8>>) {
    for line in lines {
        if stdin.write_all(&line).and_then(|()| stdin.flush()).is_err() {
            return;
        }
    }
}

fn read(stdout: ChildStdout, limit: u64, to: &SyncSender<Reply>) {
    let mut reader = BufReader::new(stdout);
    loop {
        let mut line = Vec::new();
        // One byte for the line break, one to see that the limit is passed.
        match reader.by_ref().take(limit + 2).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let ended = line.last() == Some(&b'\n');
        if ended {
            line.pop();
        }
        if line.len() as u64 > limit {
            let _ = to.send(Reply::TooLarge);
            return;
        }
        if to.send(Reply::Line(line)).is_err() || !ended {
            return;
        }
    }
}

#[cfg(all(test, unix))]
#[allow(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;
    use std::time::Instant;

    fn shell(script: &str) -> Process {
        let launch = Launch {
            program: "sh".into(),
            arguments: vec!["-c".into(), script.into()],
            folder: std::env::temp_dir(),
            environment: Vec::new(),
            inherit: true,
            log: None,
            memory: None,
        };
        Process::start(&launch, 100).unwrap()
    }

    fn ask(process: &mut Process, line: &str) -> Result<String, Lost> {
        process.send(line.as_bytes().to_vec());
        process.receive(Duration::from_secs(20)).map(|line| String::from_utf8(line).unwrap())
    }

    #[test]
    fn lines_go_there_and_back() {
        let mut process = shell("cat");
        assert_eq!(ask(&mut process, "a").unwrap(), "a");
        assert_eq!(ask(&mut process, &"b".repeat(100)).unwrap(), "b".repeat(100));
    }

    #[test]
    fn a_reply_over_the_limit_a_crash_and_silence_are_told_apart() {
        assert_eq!(ask(&mut shell("cat"), &"b".repeat(101)), Err(Lost::TooLarge));
        assert_eq!(ask(&mut shell("yes | tr -d '\\n'"), "a"), Err(Lost::TooLarge));
        assert_eq!(ask(&mut shell("exit 3"), "a"), Err(Lost::Ended("exit status: 3".into())));
        let begun = Instant::now();
        let mut process = shell("sleep 60");
        assert_eq!(process.receive(Duration::from_millis(50)), Err(Lost::Timeout));
        assert!(begun.elapsed() < Duration::from_secs(30));
    }

    /// A request larger than a pipe holds must not hang on a process that reads nothing.
    #[test]
    fn a_process_that_does_not_read_is_timed_out() {
        let mut process = shell("sleep 60");
        process.send(vec![b'x'; 1 << 20]);
        assert_eq!(process.receive(Duration::from_millis(50)), Err(Lost::Timeout));
    }

    #[test]
    fn what_it_started_ends_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("alive");
        let mut process =
            shell(&format!("(while :; do date > {}; sleep 0.05; done) & echo started; wait", mark.display()));
        process.receive(Duration::from_secs(20)).unwrap();
        while !mark.exists() {
            thread::sleep(Duration::from_millis(10));
        }
        drop(process);
        std::fs::remove_file(&mark).unwrap();
        thread::sleep(Duration::from_millis(300));
        assert!(!mark.exists(), "a grandchild went on");
    }
}
