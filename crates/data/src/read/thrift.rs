//! As much of Thrift's compact protocol as it takes to look at what Parquet's own reader is about to believe.
//!
//! Source: the protocol's specification, `thrift-compact-protocol.md`.

/// How deep structs may lie in each other where they are skipped; Parquet's reader has the same bound.
const SKIPPED_DEPTH: usize = 64;

/// The type of a field or of the items of a list.
pub(super) mod kind {
    pub const TRUE: u8 = 1;
    pub const FALSE: u8 = 2;
    pub const I32: u8 = 5;
    pub const LIST: u8 = 9;
    pub const STRUCT: u8 = 12;
}

/// Bytes of the compact protocol. What ends too early, or is none, gives `None`.
pub(super) struct Compact<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Compact<'b> {
    pub fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes were read.
    pub fn at(&self) -> usize {
        self.at
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    /// Goes on by so many bytes.
    pub fn pass(&mut self, count: usize) -> Option<()> {
        self.at = self.at.checked_add(count).filter(|&at| at <= self.bytes.len())?;
        Some(())
    }

    /// Seven bits a byte, the lowest first.
    pub fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A whole number with a sign.
    pub fn number(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// The next field of a struct: its type and its number, given that of the one before; or that the struct ends.
    fn field(&mut self, before: i64) -> Option<Option<(u8, i64)>> {
        let head = self.byte()?;
        if head == 0 {
            return Some(None);
        }
        let id = if head >> 4 == 0 { self.number()? } else { before.checked_add(i64::from(head >> 4))? };
        Some(Some((head & 0x0F, id)))
    }

    /// Reads a struct: `each` is told the type and the number of every field and reads it, or says that it is to be skipped.
    pub fn structure(&mut self, each: &mut dyn FnMut(&mut Self, u8, i64) -> Option<bool>) -> Option<()> {
        let mut before = 0;
        while let Some((kind, id)) = self.field(before)? {
            before = id;
            if !each(self, kind, id)? {
                self.skip(kind, SKIPPED_DEPTH)?;
            }
        }
        Some(())
    }

    /// The start of a list: the type of its items and how many there are.
    pub fn list(&mut self) -> Option<(u8, u64)> {
        let head = self.byte()?;
        let count = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
        Some((head & 0x0F, count))
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match kind {
            // True and false are said by the type.
            kind::TRUE | kind::FALSE => Some(()),
            3 => self.pass(1),
            4..=6 => self.varint().map(|_| ()),
            7 => self.pass(8),
            8 => {
                let length = self.varint()?;
                self.pass(usize::try_from(length).ok()?)
            }
            kind::LIST | 10 => {
                let (item, count) = self.list()?;
                (0..count).try_for_each(|_| self.item(item, depth))
            }
            11 => {
                let count = self.varint()?;
                if count == 0 {
                    return Some(());
                }
                let kinds = self.byte()?;
                (0..count).try_for_each(|_| {
                    self.item(kinds >> 4, depth)?;
                    self.item(kinds & 0x0F, depth)
                })
            }
            kind::STRUCT => {
                let mut before = 0;
                while let Some((kind, id)) = self.field(before)? {
                    before = id;
                    self.skip(kind, depth)?;
                }
                Some(())
            }
            13 => self.pass(16),
            _ => None,
        }
    }

    /// An item of a list takes at least a byte, so that a count cannot keep the reader busy for nothing.
    fn item(&mut self, kind: u8, depth: usize) -> Option<()> {
        if matches!(kind, kind::TRUE | kind::FALSE) { self.pass(1) } else { self.skip(kind, depth) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fields_and_what_is_skipped() {
        // Field 1: 150; field 2: a list of 3 structs {1: true}; field 20: "ab"; end.
        let bytes = [0x15, 0xAC, 0x02, 0x19, 0x3C, 0x11, 0, 0x11, 0, 0x11, 0, 0x08, 40, 2, b'a', b'b', 0];
        let mut seen = Vec::new();
        let mut compact = Compact::new(&bytes);
        let read = compact.structure(&mut |compact, kind, id| {
            seen.push((kind, id));
            if id == 1 {
                assert_eq!(compact.number()?, 150);
            }
            Some(id == 1)
        });
        assert_eq!((read, compact.at()), (Some(()), bytes.len()));
        assert_eq!(seen, [(kind::I32, 1), (kind::LIST, 2), (8, 20)]);
        // Cut anywhere, it is none.
        for cut in 0..bytes.len() {
            assert_eq!(Compact::new(&bytes[..cut]).structure(&mut |_, _, _| Some(false)), None, "{cut}");
        }
    }

    #[test]
    fn depth_and_counts_are_bounded() {
        let deep = vec![0x1C; 10_000];
        assert_eq!(Compact::new(&deep).structure(&mut |_, _, _| Some(false)), None);
        // A list of 2^62 booleans of which there are none.
        let long = [0x19, 0xF1, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x3F];
        assert_eq!(Compact::new(&long).structure(&mut |_, _, _| Some(false)), None);
    }
}
