//! How long the texts of a page are that says it by differences: the encodings `DELTA_LENGTH_BYTE_ARRAY` and `DELTA_BYTE_ARRAY`, which
//! leaves out what a text has in common with the one before, so that few bytes can stand for long texts.
//!
//! Source: the format's `Encodings.md`, "Delta Encoding".

use crate::read::thrift::Compact;

/// Values of a page in these encodings: the reader takes all their lengths into memory.
const MOST: u64 = 16 << 20;

/// Bytes of the texts of a page, given what follows its levels and how many values it says to have; `shared` where texts leave out
/// what they share.
///
/// # Errors
/// Where the lengths are more than the values, negative, or cut off.
pub(super) fn bytes(page: &[u8], values: u64, shared: bool) -> Result<u64, String> {
    if values > MOST {
        return Err(format!("a page of {values} texts, at most {MOST} are read"));
    }
    let (mut at, mut total) = (0, 0);
    // Of what is shared, then of what is left.
    for _ in 0..1 + usize::from(shared) {
        let lengths = page.get(at..).and_then(Lengths::read).ok_or("the lengths of a page's texts cannot be read")?;
        if lengths.count > values {
            return Err("a page has more lengths than values".to_owned());
        }
        let (sum, taken) = lengths.sum().ok_or("the lengths of a page's texts cannot be read")?;
        total += sum;
        at += taken;
    }
    Ok(total)
}

/// Numbers of 32 bits by their differences: the encoding `DELTA_BINARY_PACKED`.
struct Lengths<'p> {
    bytes: &'p [u8],
    /// Where the blocks begin, the groups of a block, and the numbers of a group.
    at: usize,
    groups: usize,
    size: usize,
    count: u64,
    first: i32,
}

impl<'p> Lengths<'p> {
    fn read(bytes: &'p [u8]) -> Option<Self> {
        let mut head = Compact::new(bytes);
        let (block, groups) = (usize::try_from(head.varint()?).ok()?, usize::try_from(head.varint()?).ok()?);
        let (count, first) = (head.varint()?, i32::try_from(head.number()?).ok()?);
        let size = block.checked_div(groups).filter(|size| *size > 0 && size % 32 == 0)?;
        Some(Self { bytes, at: head.at(), groups, size, count, first })
    }

    /// Their sum, and the bytes that they take; nothing where one is negative.
    fn sum(self) -> Option<(u64, usize)> {
        let Self { bytes, mut at, groups, size, count, first } = self;
        let (mut value, mut total, mut left) = (first, 0, count);
        if count > 0 {
            total = u64::try_from(first).ok()?;
            left -= 1;
        }
        while left > 0 {
            let mut head = Compact::new(bytes.get(at..)?);
            let least = i32::try_from(head.number()?).ok()?;
            let widths = at + head.at();
            head.pass(groups)?;
            at += head.at();
            for &width in &bytes[widths..at] {
                // The widths of groups that are not there say nothing.
                if left == 0 {
                    break;
                }
                let end = at.checked_add(usize::from(width).checked_mul(size / 8)?)?;
                let packed = bytes.get(at..end)?;
                at = end;
                let there = left.min(size as u64);
                for index in 0..there as usize {
                    value = value.wrapping_add(least).wrapping_add(number(packed, index, width)?);
                    total += u64::try_from(value).ok()?;
                }
                left -= there;
            }
        }
        Some((total, at))
    }
}

/// A number among others of so many bits each, the lowest first.
fn number(packed: &[u8], index: usize, width: u8) -> Option<i32> {
    if width > 32 {
        return None;
    }
    let from = index * usize::from(width);
    let eight: [u8; 8] = std::array::from_fn(|at| packed.get(from / 8 + at).copied().unwrap_or(0));
    let bits = u64::from_le_bytes(eight) >> (from % 8) & ((1 << width) - 1);
    Some(bits as u32 as i32)
}
