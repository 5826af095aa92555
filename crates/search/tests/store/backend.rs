//! An empty database for each test: a file of SQLite, a schema of a PostgreSQL server.
//!
//! The server is the one of `TEMPER_TEST_POSTGRES` (a URL whose user may make schemas), else one of this process's own, made by the
//! `initdb` of this machine. Without either, tests fail: only `TEMPER_TEST_POSTGRES=none` leaves PostgreSQL out.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Runs a test with the address of an empty database of each kind, and a folder of its own.
pub fn each(test: impl Fn(&str, &Path)) {
    let folder = tempfile::tempdir().unwrap();
    println!("on SQLite");
    test(&sqlite(folder.path()), folder.path());
    if let Some(address) = postgres() {
        println!("on PostgreSQL");
        let folder = tempfile::tempdir().unwrap();
        test(&address, folder.path());
    }
}

/// The address of a file in `folder`.
pub fn sqlite(folder: &Path) -> String {
    folder.join("study.db").display().to_string()
}

/// The address of an empty schema; none where `TEMPER_TEST_POSTGRES` is `none`.
pub fn postgres() -> Option<String> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let server = server()?;
    let schema = format!("t{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let mut client = postgres::Client::connect(server, postgres::NoTls).unwrap();
    client.batch_execute(&format!("DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}")).unwrap();
    let separator = if server.contains('?') { '&' } else { '?' };
    Some(format!("{server}{separator}options=-csearch_path%3D{schema}"))
}

fn server() -> Option<&'static str> {
    static SERVER: OnceLock<Option<(String, Option<Child>)>> = OnceLock::new();
    let found = SERVER.get_or_init(|| match std::env::var("TEMPER_TEST_POSTGRES") {
        Ok(url) if url == "none" => None,
        Ok(url) => Some((url, None)),
        Err(_) => {
            let (url, child) = start();
            Some((url, Some(child)))
        }
    });
    found.as_ref().map(|(url, _)| url.as_str())
}

/// Where `initdb` and `postgres` lie: Debian does not put them on the path.
fn programs() -> Option<PathBuf> {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = debian.map(|version| version.path().join("bin")).collect();
    folders.sort();
    folders.extend(std::env::split_paths(&path));
    folders.into_iter().rev().find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
}

/// Starts a server that ends, and leaves nothing, when this process ends, however that does.
fn start() -> (String, Child) {
    let programs = programs().expect(
        "no PostgreSQL on this machine; hint: install it (Debian: apt-get install postgresql), or set TEMPER_TEST_POSTGRES to a \
         server's URL, or to `none` to leave these tests out",
    );
    let folder = tempfile::tempdir().unwrap().keep();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    // The server refuses to run as root. Its shell waits for the end of our pipe, which the system closes with us.
    let script = r#"set -e
"$1/initdb" --pgdata="$2/data" --username=temper --auth=trust --encoding=UTF8 --no-sync >"$2/log" 2>&1
"$1/postgres" -D "$2/data" -p "$3" -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=200 \
  -c fsync=off >>"$2/log" 2>&1 &
server=$!
cat >/dev/null
kill -INT $server
wait $server || true
rm -r "$2/data""#;
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|said| said.stdout == b"0\n");
    let mut command = if is_root {
        let done = Command::new("chown").args(["postgres"]).arg(&folder).status().unwrap();
        assert!(done.success(), "root cannot run PostgreSQL, and there is no user `postgres`");
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--", "sh"]);
        command
    } else {
        Command::new("sh")
    };
    command.args(["-c", script, "sh"]).arg(programs).arg(&folder).arg(port.to_string());
    let child = command.current_dir("/").stdin(Stdio::piped()).spawn().unwrap();
    let url = format!("postgres://temper@127.0.0.1:{port}/postgres");
    let begun = Instant::now();
    while let Err(error) = postgres::Client::connect(&url, postgres::NoTls) {
        let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
        assert!(begun.elapsed() < Duration::from_secs(180), "PostgreSQL does not start: {error}\n{log}");
        std::thread::sleep(Duration::from_millis(100));
    }
    (url, child)
}
