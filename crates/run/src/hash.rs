//! SHA-256 of contents, in lower-case hex.

use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{RunError, io_error};

/// The SHA-256 of `bytes`, 64 lower-case hex digits (FIPS 180-4).
pub fn sha256_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The SHA-256 of a file's content, 64 lower-case hex digits, read in pieces of 1 MiB.
///
/// # Errors
/// [`RunError::Io`] if the file cannot be opened or read.
pub fn sha256_file(path: &Path) -> Result<String, RunError> {
    let mut file = File::open(path).map_err(io_error("open", path))?;
    let mut hasher = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut piece).map_err(io_error("read", path))?;
        if read == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(&piece[..read]);
    }
}

fn hex(digest: &[u8]) -> String {
    digest.iter().fold(String::with_capacity(2 * digest.len()), |mut text, byte| {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The three test vectors of FIPS 180-4's examples: "", "abc", and a million times "a".
    #[test]
    fn published_vectors() {
        assert_eq!(sha256_bytes(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(sha256_bytes(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("million");
        std::fs::write(&path, vec![b'a'; 1_000_000]).unwrap();
        assert_eq!(sha256_file(&path).unwrap(), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    }

    #[test]
    fn a_file_longer_than_one_piece() {
        let bytes: Vec<u8> = (0..(1 << 20) + 12_345).map(|i| (i % 251) as u8).collect();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("long");
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(sha256_file(&path).unwrap(), sha256_bytes(&bytes));
    }

    #[test]
    fn a_missing_file_is_named() {
        let text = sha256_file(Path::new("no/such.gguf")).unwrap_err().to_string();
        assert!(text.starts_with("cannot open no/such.gguf: "), "{text}");
    }
}
