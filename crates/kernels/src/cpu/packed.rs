//! Frozen weights that are packed once for all models of a process, or once for all processes, in a file that is mapped.
//!
//! The file, numbers little-endian: [`MAGIC`], the file's length (u64), the key's length (u32) and the key, the number of
//! weights (u32); of each its name's length (u32) and name, rows and columns (u64), the number of its parts (u32) and one
//! past the last row of each (u64), and for each of the two orders the first byte (u64) and the CRC-32 of its words; then
//! the CRC-32 of all this. The words follow, each order on a page of its own, as they lie in memory.
//!
//! A file appears whole under its name or not at all ([`PackedWeights::write`] is given a path that nobody reads yet), and is
//! never written again; removing it does no harm to those who have it mapped.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use memmap2::Mmap;
use rayon::prelude::*;

use super::Cpu;
use super::product::{Frozen, LAYOUT, Mapped};
use super::rows::CpuBuffer;

const MAGIC: &[u8; 8] = b"tmprpk01";
/// Words begin at multiples of this: a page, so that one order is read without the other.
const PAGE: usize = 4096;

/// A weight to be frozen: what [`crate::Device::freeze`] is told of it, and a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrozenWeight {
    /// Its name, one of its kind.
    pub name: String,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// Runs of rows that adapters name; none for one part.
    pub parts: Vec<Range<usize>>,
}

impl FrozenWeight {
    fn ends(&self) -> Vec<usize> {
        if self.parts.is_empty() { vec![self.rows] } else { self.parts.iter().map(|part| part.end).collect() }
    }
}

/// Why a file of packed weights was not used.
#[derive(Debug, thiserror::Error)]
pub enum PackedError {
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's own words.
        source: io::Error,
    },
    /// The file is not what was written.
    #[error("{}: {what}: expected {expected}, got {got}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        what: String,
        /// As it was written.
        expected: String,
        /// As it is.
        got: String,
    },
}

/// Packed weights by name. Every model that is loaded over them, on whatever thread, reads the same memory.
pub struct PackedWeights {
    weights: HashMap<String, Arc<Frozen>>,
    bytes: usize,
}

impl PackedWeights {
    /// Packs weights in memory. `values` gives each, row-major, by its index.
    ///
    /// # Errors
    /// Those of `values`.
    pub fn pack<E>(
        device: &Cpu,
        weights: &[FrozenWeight],
        mut values: impl FnMut(usize) -> Result<Vec<f32>, E>,
    ) -> Result<Self, E> {
        let mut packed = HashMap::new();
        for (index, weight) in weights.iter().enumerate() {
            let frozen = Frozen::pack(device.kernels, &values(index)?, weight.rows, weight.cols, weight.ends());
            packed.insert(weight.name.clone(), Arc::new(frozen));
        }
        let bytes = weights.iter().map(|weight| device.packed_bytes(weight)).sum();
        Ok(Self { weights: packed, bytes })
    }

    /// Packs weights into a new file, both orders, holding one weight at a time.
    ///
    /// # Errors
    /// Those of `values`; [`PackedError::Io`] where the file is there already or cannot be written.
    pub fn write<E: From<PackedError>>(
        path: &Path,
        device: &Cpu,
        key: &str,
        weights: &[FrozenWeight],
        mut values: impl FnMut(usize) -> Result<Vec<f32>, E>,
    ) -> Result<(), E> {
        let io = |source| PackedError::Io { path: path.to_owned(), source };
        let (mut at, mut entries) = (Header::length(key, weights).next_multiple_of(PAGE), Vec::new());
        let mut file = File::create_new(path).map_err(io)?;
        for (index, weight) in weights.iter().enumerate() {
            let frozen = Frozen::pack(device.kernels, &values(index)?, weight.rows, weight.cols, weight.ends());
            let orders = frozen.bytes().map(|bytes| {
                let start = at as u64;
                at = (at + bytes.len()).next_multiple_of(PAGE);
                file.seek(SeekFrom::Start(start))?;
                file.write_all(bytes)?;
                Ok(Order { start, crc: crc32fast::hash(bytes) })
            });
            let [forward, backward] = orders;
            entries.push(Entry { weight: weight.clone(), orders: [forward.map_err(io)?, backward.map_err(io)?] });
        }
        let header = Header { length: at as u64, key: key.to_owned(), entries };
        let finish = |file: &mut File| {
            file.set_len(at as u64)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&header.bytes())
        };
        finish(&mut file).map_err(io)?;
        Ok(())
    }

    /// Maps a file that [`PackedWeights::write`] wrote for this device and key, and holds every word against its checksum.
    ///
    /// # Errors
    /// [`PackedError`] where it cannot be read, or is damaged, or holds something else.
    pub fn open(path: &Path, device: &Cpu, key: &str) -> Result<Self, PackedError> {
        let io = |source| PackedError::Io { path: path.to_owned(), source };
        let damaged = |what: String, expected: String, got: String| PackedError::Damaged {
            path: path.to_owned(),
            what,
            expected,
            got,
        };
        let file = File::open(path).map_err(io)?;
        // SAFETY: such a file is never written or cut again once it has its name (see the module's head).
        let map = Arc::new(unsafe { Mmap::map(&file) }.map_err(io)?);
        let header = Header::read(&map).ok_or_else(|| {
            damaged("header".to_owned(), "one that fits its checksum".to_owned(), "another".to_owned())
        })?;
        if header.length != map.len() as u64 {
            return Err(damaged("length".to_owned(), header.length.to_string(), map.len().to_string()));
        }
        if header.key != key {
            return Err(damaged("key".to_owned(), key.to_owned(), header.key));
        }
        let load = |entry: &Entry| {
            let Entry { weight, orders } = entry;
            let ends = weight.ends();
            let words = Frozen::words(device.kernels, (weight.rows, weight.cols), &ends);
            let place = |order: usize| Mapped::new(&map, orders[order].start as usize, words[order]);
            let outside =
                || damaged(weight.name.clone(), "words within the file".to_owned(), "a place outside".to_owned());
            let mapped = [place(0).ok_or_else(outside)?, place(1).ok_or_else(outside)?];
            for (mapped, order) in mapped.iter().zip(orders) {
                let crc = crc32fast::hash(mapped.bytes());
                if crc != order.crc {
                    let hex = |crc: u32| format!("CRC-32 {crc:08x}");
                    return Err(damaged(weight.name.clone(), hex(order.crc), hex(crc)));
                }
            }
            let frozen = Frozen::mapped(device.kernels, (weight.rows, weight.cols), ends, mapped);
            let frozen = frozen.ok_or_else(outside)?;
            Ok((weight.name.clone(), Arc::new(frozen)))
        };
        let weights = header.entries.par_iter().with_max_len(1).map(load).collect::<Result<_, _>>()?;
        Ok(Self { weights, bytes: map.len() })
    }

    /// The weight, for a model of this thread; none where there is none of this name, shape and parts.
    pub fn find(&self, weight: &FrozenWeight) -> Option<Rc<CpuBuffer>> {
        let frozen = self.weights.get(&weight.name)?;
        let same = frozen.shape() == (weight.rows, weight.cols) && frozen.has_ends(&weight.ends());
        same.then(|| Rc::new(CpuBuffer::of_frozen(Arc::clone(frozen))))
    }

    /// Bytes of both orders of all weights; of a mapped file, the file's.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Cpu {
    /// How weights are packed: a part of every key of a file of packed weights.
    pub fn packing(&self) -> String {
        let words = if self.kernels.bf16 { "pairs of bf16" } else { "f32" };
        format!("{words}, {LAYOUT}")
    }

    /// Bytes of a frozen weight, both orders.
    pub fn packed_bytes(&self, weight: &FrozenWeight) -> usize {
        4 * Frozen::words(self.kernels, (weight.rows, weight.cols), &weight.ends()).iter().sum::<usize>()
    }
}

/// Where an order's words begin, and their checksum.
#[derive(Clone, Copy)]
struct Order {
    start: u64,
    crc: u32,
}

struct Entry {
    weight: FrozenWeight,
    orders: [Order; 2],
}

struct Header {
    length: u64,
    key: String,
    entries: Vec<Entry>,
}

impl Header {
    /// Bytes of the header of these weights.
    fn length(key: &str, weights: &[FrozenWeight]) -> usize {
        let of_weight = |w: &FrozenWeight| 4 + w.name.len() + 8 + 8 + 4 + 8 * w.ends().len() + 2 * (8 + 4);
        MAGIC.len() + 8 + 4 + key.len() + 4 + weights.iter().map(of_weight).sum::<usize>() + 4
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let short = |bytes: &mut Vec<u8>, number: usize| bytes.extend((number as u32).to_le_bytes());
        let text = |bytes: &mut Vec<u8>, text: &str| {
            short(bytes, text.len());
            bytes.extend(text.as_bytes());
        };
        bytes.extend(self.length.to_le_bytes());
        text(&mut bytes, &self.key);
        short(&mut bytes, self.entries.len());
        for Entry { weight, orders } in &self.entries {
            text(&mut bytes, &weight.name);
            bytes.extend((weight.rows as u64).to_le_bytes());
            bytes.extend((weight.cols as u64).to_le_bytes());
            short(&mut bytes, weight.ends().len());
            weight.ends().iter().for_each(|&end| bytes.extend((end as u64).to_le_bytes()));
            for order in orders {
                bytes.extend(order.start.to_le_bytes());
                bytes.extend(order.crc.to_le_bytes());
            }
        }
        let crc = crc32fast::hash(&bytes);
        bytes.extend(crc.to_le_bytes());
        bytes
    }

    /// None where it is cut off or does not fit its checksum.
    fn read(file: &[u8]) -> Option<Self> {
        let mut rest = file.strip_prefix(MAGIC)?;
        let from = &mut rest;
        let length = long(from)?;
        let key = text(from)?;
        let mut entries = Vec::new();
        for _ in 0..short(from)? {
            let name = text(from)?;
            let (rows, cols) = (long(from)? as usize, long(from)? as usize);
            let (mut parts, mut start) = (Vec::new(), 0);
            for _ in 0..short(from)? {
                let end = long(from)? as usize;
                parts.push(start..end);
                start = end;
            }
            let mut order = || Some(Order { start: long(from)?, crc: short(from)? });
            let orders = [order()?, order()?];
            entries.push(Entry { weight: FrozenWeight { name, rows, cols, parts }, orders });
        }
        let bytes = &file[..file.len() - rest.len()];
        (short(&mut rest)? == crc32fast::hash(bytes)).then_some(Self { length, key, entries })
    }
}

fn take<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = from.split_first_chunk::<N>()?;
    *from = rest;
    Some(*first)
}

fn short(from: &mut &[u8]) -> Option<u32> {
    take(from).map(u32::from_le_bytes)
}

fn long(from: &mut &[u8]) -> Option<u64> {
    take(from).map(u64::from_le_bytes)
}

fn text(from: &mut &[u8]) -> Option<String> {
    let length = short(from)? as usize;
    let (bytes, rest) = from.split_at_checked(length)?;
    *from = rest;
    String::from_utf8(bytes.to_vec()).ok()
}
