//! Packed words that are not written any more: in memory of their own, or in a file that is mapped.

use std::sync::Arc;

use memmap2::Mmap;

use super::panels::Words;

/// Packed words to read.
pub(super) enum Stored {
    Own(Words),
    Mapped(Mapped),
}

/// A run of words of a mapped file.
pub(in crate::cpu) struct Mapped {
    file: Arc<Mmap>,
    start: usize,
    words: usize,
}

impl Mapped {
    /// `words` words from byte `start` on; none where they do not lie in the file, on a whole cache line.
    pub fn new(file: &Arc<Mmap>, start: usize, words: usize) -> Option<Self> {
        let end = words.checked_mul(4).and_then(|bytes| start.checked_add(bytes))?;
        (end <= file.len() && start.is_multiple_of(64)).then(|| Self { file: Arc::clone(file), start, words })
    }

    /// The bytes of the words.
    pub fn bytes(&self) -> &[u8] {
        &self.file[self.start..self.start + 4 * self.words]
    }
}

impl Stored {
    pub fn as_ptr(&self) -> *const u32 {
        match self {
            Self::Own(words) => words.as_ptr(),
            Self::Mapped(mapped) => mapped.bytes().as_ptr().cast(),
        }
    }

    pub fn at(&self, word: usize) -> u32 {
        match self {
            Self::Own(words) => words.at(word),
            Self::Mapped(mapped) => {
                let bytes = &mapped.bytes()[4 * word..][..4];
                u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
            }
        }
    }

    /// The first `words` words as bytes.
    pub fn bytes(&self, words: usize) -> &[u8] {
        match self {
            Self::Own(own) => own.bytes(words),
            Self::Mapped(mapped) => &mapped.bytes()[..4 * words],
        }
    }
}
