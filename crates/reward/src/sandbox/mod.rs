//! Where code of others runs: no network, no writes outside one folder, no further processes, bounded memory and time.
//!
//! A process confines itself and then becomes the program: `temper` starts itself as `temper reward sandboxed --
//! PROGRAM`, which calls [`enter`]. Nothing between `fork` and `exec` has to be written by hand, and so nothing unsafe.
//!
//! Landlock (Linux 5.13) denies writes outside the folder; seccomp denies sockets, new processes, signals and tracing
//! of others, changes of modes and owners, and what administers a system; capabilities are dropped; limits bound the
//! rest. All of it holds for containers too, where namespaces for users are often denied;
//! `docs/decisions/0028-rewards.md` says more.

#[cfg(target_os = "linux")]
mod linux;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use temper_recipe::Reward;

use crate::error::Error;
use crate::process::Launch;

/// The arguments by which `temper` starts itself to enter a sandbox.
const LAUNCHER: [&str; 2] = ["reward", "sandboxed"];
/// Address space of code that a model wrote, where the recipe does not say.
pub(crate) const CODE_MEMORY: u64 = 512 << 20;
/// The largest file that may be written, in bytes.
const FILE_BYTES: u64 = 256 << 20;

/// What a process confines itself to.
#[derive(Debug, Clone, PartialEq)]
pub struct Confinement {
    /// The only folder in which it may write.
    pub folder: PathBuf,
    /// Address space in bytes; none: no limit.
    pub memory: Option<u64>,
    /// Seconds of processor time, of all its threads together; none: no limit.
    pub cpu_seconds: Option<u64>,
    /// Go on where the system lacks a part.
    pub best_effort: bool,
}

/// Which parts of a sandbox this system has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// Writes outside the folder are denied (Landlock).
    pub writes: bool,
    /// Network, processes and what seccomp denies beside them.
    pub calls: bool,
    /// Memory, processor time, size of files.
    pub limits: bool,
    /// Why a part is lacking, as the system said.
    #[serde(default)]
    pub problems: Vec<String>,
}

impl Parts {
    /// Whether all of them are there.
    pub fn whole(&self) -> bool {
        self.writes && self.calls && self.limits
    }

    /// What is lacking, in words; empty where nothing is.
    pub fn lacking(&self) -> Vec<&'static str> {
        let all = [
            (self.writes, "writes outside its folder are not denied (Landlock is missing)"),
            (self.calls, "network and processes are not denied (seccomp is missing)"),
            (self.limits, "memory and processor time are not bounded"),
        ];
        all.into_iter().filter(|(there, _)| !there).map(|(_, what)| what).collect()
    }
}

/// Confines this process and becomes `command`; without one, prints which parts hold, as JSON, and returns. Returns an
/// error when it could not, before anything of the command has run. Of the binary: `temper reward sandboxed`.
///
/// # Errors
/// What the system lacks, or that the command cannot be started.
pub fn enter(confinement: &Confinement, command: &[OsString]) -> Result<Parts, String> {
    #[cfg(target_os = "linux")]
    let parts = linux::confine(confinement);
    #[cfg(not(target_os = "linux"))]
    let parts = Parts { problems: vec!["there is a sandbox on Linux only".to_owned()], ..Parts::default() };
    let Some((program, arguments)) = command.split_first() else { return Ok(parts) };
    if !parts.whole() && !confinement.best_effort {
        return Err(format!("{}: {}", parts.lacking().join("; "), parts.problems.join("; ")));
    }
    let mut command = Command::new(program);
    command.args(arguments).current_dir(&confinement.folder);
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        // It returns only where it failed.
        Err(format!("cannot start {}: {}", program.to_string_lossy(), command.exec()))
    }
    #[cfg(not(unix))]
    match command.status() {
        Ok(status) => std::process::exit(status.code().unwrap_or(1)),
        Err(error) => Err(format!("cannot start {}: {error}", program.to_string_lossy())),
    }
}

/// The parts that this system has, tried once by a process of its own.
pub fn parts() -> &'static Parts {
    static PARTS: OnceLock<Parts> = OnceLock::new();
    PARTS.get_or_init(|| {
        let tried = launcher().and_then(|launcher| {
            let mut command = Command::new(launcher);
            command.args(LAUNCHER).arg("--folder").arg(std::env::temp_dir()).stdin(Stdio::null());
            let output = command.output().map_err(|error| error.to_string())?;
            serde_json::from_slice(&output.stdout)
                .map_err(|_| "this program is not `temper`, and cannot confine another".to_owned())
        });
        tried.unwrap_or_else(|problem| Parts { problems: vec![problem], ..Parts::default() })
    })
}

fn launcher() -> Result<PathBuf, String> {
    std::env::current_exe().map_err(|error| format!("the program's own file is not known: {error}"))
}

/// How a command is started within a sandbox. Its environment is `environment` only.
pub(crate) fn launch(
    confinement: &Confinement,
    command: &[OsString],
    environment: Vec<(OsString, OsString)>,
    log: Option<PathBuf>,
) -> Result<Launch, String> {
    let parts = parts();
    if !parts.whole() && !confinement.best_effort {
        return Err(format!("{} ({})", parts.lacking().join("; "), parts.problems.join("; ")));
    }
    let mut arguments: Vec<OsString> = LAUNCHER.iter().map(OsString::from).collect();
    arguments.extend(["--folder".into(), confinement.folder.clone().into()]);
    for (name, limit) in [("--memory", confinement.memory), ("--cpu-seconds", confinement.cpu_seconds)] {
        if let Some(limit) = limit {
            arguments.extend([name.into(), limit.to_string().into()]);
        }
    }
    if confinement.best_effort {
        arguments.push("--best-effort".into());
    }
    arguments.push("--".into());
    arguments.extend(command.iter().cloned());
    let folder = confinement.folder.clone();
    Ok(Launch { program: launcher()?.into(), arguments, folder, environment, inherit: false, log, memory: None })
}

/// The environment within a sandbox: no secrets of the user's, and all that is written by default goes into the folder.
pub(crate) fn environment(folder: &Path) -> Vec<(OsString, OsString)> {
    let mut environment: Vec<(OsString, OsString)> = ["HOME", "TMPDIR", "TEMP", "TMP"]
        .into_iter()
        .map(|name| (name.into(), folder.into()))
        .chain([("LANG".into(), "C.UTF-8".into()), ("PYTHONDONTWRITEBYTECODE".into(), "1".into())])
        .collect();
    for name in ["PATH", "SystemRoot", "VIRTUAL_ENV"] {
        environment.extend(std::env::var_os(name).map(|value| (name.into(), value)));
    }
    environment
}

/// The interpreter itself: what is on the path may be a script that starts it, and starting is denied within.
pub(crate) fn interpreter(python: &str) -> Result<OsString, String> {
    let output = Command::new(python).args(["-c", "import sys; print(sys.executable)"]).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("cannot start {python}: {error}"))?;
    let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match output.status.success() && !path.is_empty() {
        true => Ok(path.into()),
        false => Err(format!("{python} does not run: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// Why a reward cannot have its sandbox.
pub(crate) fn unfit(reward: &Reward, problem: String) -> Error {
    Error::Unfit {
        path: reward.sandbox.as_ref().map_or_else(|| reward.by.path.clone(), |sandbox| sandbox.path.clone()),
        problem,
        hint: "`sandbox: best_effort` runs with the parts that there are".to_owned(),
    }
}
