//! Where a store lies.

use std::path::{Path, PathBuf};

use super::StoreError;

/// Where a store lies, from what the user wrote: a path, or a URL as SQLAlchemy and libpq have it, so that the same text opens it in
/// Optuna.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// A file of SQLite.
    Sqlite(PathBuf),
    /// `postgres://...`
    Postgres(String),
}

impl Address {
    /// Reads `PATH`, `sqlite:PATH`, `sqlite:///RELATIVE`, `sqlite:////ABSOLUTE`, `postgres://...` and `postgresql://...`, the latter two
    /// with or without the name of a Python driver (`postgresql+psycopg://...`).
    pub fn parse(text: &str) -> Result<Self, StoreError> {
        let wrong = |what: &str| Err(StoreError::Address { address: without_password(text), what: what.to_owned() });
        if let Some((scheme, rest)) = text.split_once("://") {
            let kind = scheme.split_once('+').map_or(scheme, |(kind, _)| kind);
            return match kind {
                "postgres" | "postgresql" => Ok(Self::Postgres(format!("postgresql://{rest}"))),
                "sqlite" => match rest.strip_prefix('/') {
                    None | Some("") => wrong("expected sqlite:///PATH, the third slash before the path"),
                    Some(path) => Self::sqlite(path),
                },
                _ => wrong("expected a path, sqlite:///PATH or postgres://USER@HOST/DATABASE"),
            };
        }
        Self::sqlite(text.strip_prefix("sqlite:").unwrap_or(text))
    }

    fn sqlite(path: &str) -> Result<Self, StoreError> {
        if path.is_empty() || path == ":memory:" {
            let what = "expected the path of a file: a store that is gone with its process keeps nothing".to_owned();
            return Err(StoreError::Address { address: path.to_owned(), what });
        }
        Ok(Self::Sqlite(PathBuf::from(path)))
    }
}

/// The address without what stands between the user's name and the `@`.
pub(super) fn without_password(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((user, host)) => {
            let user = user.split_once(':').map_or(user, |(user, _)| user);
            format!("{scheme}://{user}@{host}{path}")
        }
        None => address.to_owned(),
    }
}

/// File systems of other machines. A database in WAL mode is shared through memory, which they do not share; and their locks are
/// known to let two writers in (<https://sqlite.org/wal.html>, <https://sqlite.org/howtocorrupt.html>, 2.1).
const NETWORK: [&str; 17] = [
    "9p",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "fuse.ceph",
    "fuse.glusterfs",
    "fuse.rclone",
    "fuse.s3fs",
    "fuse.sshfs",
    "gfs2",
    "glusterfs",
    "gpfs",
    "lustre",
    "nfs",
    "nfs4",
    "smb3",
];

/// The kind of file system that `folder` lies on, where that is another machine's. `mounts` is Linux's `/proc/self/mountinfo`; of
/// other systems nothing is known.
pub(super) fn network_file_system(folder: &Path, mounts: &str) -> Option<String> {
    // ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS [TAGS] - TYPE SOURCE OPTIONS (proc_pid_mountinfo(5))
    let mount = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let point = before.split(' ').nth(4)?.replace("\\040", " ");
        Some((PathBuf::from(point), after.split(' ').next()?.to_owned()))
    };
    let over = mounts.lines().filter_map(mount).filter(|(point, _)| folder.starts_with(point));
    // Of two mounts on one point the later one is seen.
    let (_, kind) = over.max_by_key(|(point, _)| point.components().count())?;
    NETWORK.contains(&kind.as_str()).then_some(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_text_opens_it_here_and_in_optuna() {
        let sqlite = |path: &str| Address::Sqlite(PathBuf::from(path));
        for (text, expected) in [
            ("study.db", sqlite("study.db")),
            ("sqlite:study.db", sqlite("study.db")),
            ("sqlite:///study.db", sqlite("study.db")),
            ("sqlite:////data/study.db", sqlite("/data/study.db")),
            ("postgres://a:b@h/d", Address::Postgres("postgresql://a:b@h/d".into())),
            ("postgresql+psycopg://a@h/d?x=y", Address::Postgres("postgresql://a@h/d?x=y".into())),
        ] {
            assert_eq!(Address::parse(text).unwrap(), expected);
        }
        for text in ["mysql://a@h/d", "sqlite://study.db", "", ":memory:"] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn no_message_holds_a_password() {
        let said = Address::parse("mysql://me:sec@ret@host/db").unwrap_err().to_string();
        assert!(said.starts_with("mysql://me@host/db: "), "{said}");
        assert_eq!(without_password("postgres://host/a@b"), "postgres://host/a@b");
    }

    // optuna#815: SQLite over NFS was corrupted in silence.
    #[test]
    fn optuna_815_a_file_on_another_machine_is_known_for_one() {
        let mounts = "22 1 254:0 / / rw - ext4 /dev/a rw\n\
            30 22 0:40 / /home rw shared:1 - nfs4 server:/home rw\n\
            31 30 0:41 / /home/me/my\\040disk rw - xfs /dev/b rw\n";
        assert_eq!(network_file_system(Path::new("/home/me"), mounts).as_deref(), Some("nfs4"));
        assert_eq!(network_file_system(Path::new("/home/me/my disk/x"), mounts), None);
        assert_eq!(network_file_system(Path::new("/homes"), mounts), None);
        assert_eq!(network_file_system(Path::new("/home"), ""), None);
    }
}
