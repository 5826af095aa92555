//! The GGUF container, versions 2 and 3, little-endian (layout: `docs/gguf.md` of ggml).
//!
//! Nothing is allocated on the word of the file: every count and length is held against the bytes that are left first.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use crate::Encoding;
use crate::checkpoint::WeightsError;
use crate::weight_file::WeightFile;

/// Longest key of a metadata entry (the format's own limit).
const MAX_KEY: u64 = 65_535;
/// Longest tensor name; ggml itself stores 64 bytes.
const MAX_NAME: u64 = 256;
/// Longest metadata string; the longest in use, chat templates, are some ten kilobytes.
const MAX_STRING: u64 = 16 << 20;
/// Longest metadata array; the largest vocabularies in use have 262 thousand entries.
const MAX_ARRAY: u64 = 16 << 20;
/// ggml's `GGML_MAX_DIMS`.
const MAX_DIMS: u32 = 4;

/// One metadata value. Integers of all widths are kept as `i128`, so that no cast can lose a value. A single-precision
/// number is kept as the shortest decimal that names it: `1e-5`, not `9.99999975e-6`.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Int(i128),
    Float(f64),
    Bool(bool),
    Text(String),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Texts(Vec<String>),
}

impl Value {
    /// Kind and, for scalars, value: what a message can show.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Int(n) => n.to_string(),
            Self::Float(x) => format!("{x:?}"),
            Self::Bool(b) => b.to_string(),
            Self::Text(text) => format!("string {:?}", text.chars().take(40).collect::<String>()),
            Self::Ints(v) => format!("an array of {} integers", v.len()),
            Self::Floats(v) => format!("an array of {} floats", v.len()),
            Self::Texts(v) => format!("an array of {} strings", v.len()),
        }
    }
}

/// Where one tensor lies.
#[derive(Debug, Clone)]
pub(super) struct TensorInfo {
    /// Row-major, slowest first (the file lists them fastest first).
    pub(super) shape: Vec<usize>,
    pub(super) encoding: Encoding,
    /// From the start of the file.
    offset: u64,
    size: usize,
}

/// An open GGUF file whose header has been read and checked.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) file: WeightFile,
    pub(super) metadata: BTreeMap<String, Value>,
    pub(super) tensors: BTreeMap<String, TensorInfo>,
}

impl Container {
    /// Reads and checks the whole header; no tensor data is touched.
    pub(super) fn open(path: &Path) -> Result<Self, WeightsError> {
        let file = WeightFile::open(path)?;
        let len = file.len;
        let mut r = Reader::new(&file, path)?;
        let (tensor_count, metadata) = r.start()?;

        let alignment = match metadata.get("general.alignment") {
            None => 32,
            Some(Value::Int(a)) if (1..=1 << 20).contains(a) && (*a as u64).is_power_of_two() => *a as u64,
            Some(other) => {
                let expected = "a power of two up to 1048576";
                return Err(WeightsError::corrupt(path, "metadata `general.alignment`", expected, other.describe()));
            }
        };

        let mut tensors = BTreeMap::new();
        for i in 0..tensor_count {
            let name = r.string(&format!("name of tensor {i}"), MAX_NAME)?;
            let info = r.tensor_info(&name, alignment)?;
            if tensors.insert(name.clone(), info).is_some() {
                return Err(WeightsError::corrupt(path, format!("tensor `{name}`"), "one entry", "a second one"));
            }
        }

        // Offsets in the header count from the first aligned byte after it.
        let data_start = r.at.next_multiple_of(alignment);
        let mut spans = Vec::with_capacity(tensors.len());
        for (name, info) in &mut tensors {
            let end = data_start.checked_add(info.offset).and_then(|o| o.checked_add(info.size as u64));
            let end = end.filter(|&end| end <= len).ok_or_else(|| {
                let got =
                    format!("{} bytes at offset {} of the data, which starts at {data_start}", info.size, info.offset);
                WeightsError::corrupt(
                    path,
                    format!("tensor `{name}`"),
                    format!("data inside the {len} bytes of the file"),
                    got,
                )
            })?;
            info.offset += data_start;
            spans.push((info.offset, end, name.as_str()));
        }
        spans.sort_unstable();
        for pair in spans.windows(2) {
            if pair[1].0 < pair[0].1 {
                let got = format!("it begins at byte {}, before `{}` ends at {}", pair[1].0, pair[0].2, pair[0].1);
                return Err(WeightsError::corrupt(path, format!("tensor `{}`", pair[1].2), "data of its own", got));
            }
        }
        Ok(Self { file, metadata, tensors })
    }

    /// The tensor's bytes as they lie in the file.
    pub(super) fn read(&self, info: &TensorInfo) -> Result<Vec<u8>, WeightsError> {
        self.file.read(info.offset, info.size)
    }
}

/// The metadata of a file, whatever its tensors are.
pub(super) fn metadata(path: &Path) -> Result<BTreeMap<String, Value>, WeightsError> {
    Ok(Reader::new(&WeightFile::open(path)?, path)?.start()?.1)
}

/// Reads the header and knows how much of the file is left.
struct Reader<'a> {
    path: &'a Path,
    input: BufReader<File>,
    at: u64,
    len: u64,
}

impl<'a> Reader<'a> {
    fn new(file: &WeightFile, path: &'a Path) -> Result<Self, WeightsError> {
        Ok(Reader { path, input: BufReader::with_capacity(1 << 16, file.handle()?), at: 0, len: file.len })
    }

    /// The start of the file: how many tensors it says it has, and the metadata.
    fn start(&mut self) -> Result<(u64, BTreeMap<String, Value>), WeightsError> {
        let path = self.path;
        let magic = self.bytes::<4>("magic")?;
        if &magic != b"GGUF" {
            return Err(WeightsError::corrupt(path, "first four bytes", "`GGUF`", format!("{magic:?}")));
        }
        let version = self.u32("version")?;
        if !(2..=3).contains(&version) {
            let big_endian = (2..=3).contains(&version.swap_bytes());
            let got = if big_endian { "a big-endian file".into() } else { version.to_string() };
            return Err(WeightsError::unsupported(path, "GGUF version", got, "2 and 3, little-endian"));
        }
        let tensor_count = self.u64("tensor count")?;
        let kv_count = self.u64("metadata count")?;
        // Smallest entries: a tensor is name length, dimension count, one dimension, type, offset; a value is a byte.
        self.fits("tensor count", tensor_count, 8 + 4 + 8 + 4 + 8)?;
        self.fits("metadata count", kv_count, 8 + 4 + 1)?;

        let mut metadata = BTreeMap::new();
        for i in 0..kv_count {
            let key = self.string(&format!("key of metadata entry {i}"), MAX_KEY)?;
            let value = self.value(&key)?;
            if metadata.insert(key.clone(), value).is_some() {
                return Err(WeightsError::corrupt(path, format!("metadata `{key}`"), "one entry", "a second one"));
            }
        }
        Ok((tensor_count, metadata))
    }

    fn left(&self) -> u64 {
        self.len.saturating_sub(self.at)
    }

    fn corrupt(&self, place: impl Into<String>, expected: impl Into<String>, got: impl Into<String>) -> WeightsError {
        WeightsError::corrupt(self.path, format!("{} (byte {})", place.into(), self.at), expected, got)
    }

    /// Refuses `count` entries of at least `least` bytes each when the rest of the file cannot hold them.
    fn fits(&self, place: &str, count: u64, least: u64) -> Result<(), WeightsError> {
        if count.checked_mul(least).is_some_and(|need| need <= self.left()) {
            return Ok(());
        }
        let expected = format!("at most {}, as {} bytes of the file are left", self.left() / least, self.left());
        Err(self.corrupt(place, expected, count.to_string()))
    }

    fn bytes<const N: usize>(&mut self, place: &str) -> Result<[u8; N], WeightsError> {
        if self.left() < N as u64 {
            return Err(self.corrupt(
                place,
                format!("{N} bytes"),
                format!("the end of the file after {}", self.left()),
            ));
        }
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(|e| WeightsError::io(self.path, "read", e))?;
        self.at += N as u64;
        Ok(bytes)
    }

    fn u32(&mut self, place: &str) -> Result<u32, WeightsError> {
        self.bytes(place).map(u32::from_le_bytes)
    }

    fn u64(&mut self, place: &str) -> Result<u64, WeightsError> {
        self.bytes(place).map(u64::from_le_bytes)
    }

    fn string(&mut self, place: &str, most: u64) -> Result<String, WeightsError> {
        let len = self.u64(place)?;
        if len > most {
            return Err(self.corrupt(place, format!("at most {most} bytes"), len.to_string()));
        }
        self.fits(place, len, 1)?;
        let mut bytes = vec![0; len as usize];
        self.input.read_exact(&mut bytes).map_err(|e| WeightsError::io(self.path, "read", e))?;
        self.at += len;
        String::from_utf8(bytes).map_err(|e| self.corrupt(place, "UTF-8", format!("{:?}", e.as_bytes().get(..32))))
    }

    /// A type code and its value. `key` serves the messages.
    fn value(&mut self, key: &str) -> Result<Value, WeightsError> {
        let place = format!("metadata `{key}`");
        let code = self.u32(&place)?;
        if code != 9 {
            return self.scalar(code, &place);
        }
        let code = self.u32(&place)?;
        let count = self.u64(&place)?;
        let least = match code {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            _ => return Err(self.corrupt(place, "an array of scalars or strings", format!("element type {code}"))),
        };
        self.fits(&place, count, least)?;
        if count > MAX_ARRAY {
            return Err(self.corrupt(place, format!("at most {MAX_ARRAY} elements"), count.to_string()));
        }
        match code {
            8 => (0..count).map(|_| self.string(&place, MAX_STRING)).collect::<Result<_, _>>().map(Value::Texts),
            6 => (0..count)
                .map(|_| self.bytes(&place).map(f32::from_le_bytes))
                .collect::<Result<_, _>>()
                .map(Value::Floats),
            12 => Err(self.corrupt(place, "no array of float64", format!("{count} elements"))),
            _ => {
                let mut ints = Vec::with_capacity(count as usize);
                for _ in 0..count {
                    ints.push(match self.scalar(code, &place)? {
                        Value::Bool(b) => i64::from(b),
                        Value::Int(i) => {
                            i64::try_from(i).map_err(|_| self.corrupt(&place, "integers below 2^63", i.to_string()))?
                        }
                        other => return Err(self.corrupt(place, "integers", other.describe())),
                    });
                }
                Ok(Value::Ints(ints))
            }
        }
    }

    fn scalar(&mut self, code: u32, place: &str) -> Result<Value, WeightsError> {
        Ok(match code {
            0 => Value::Int(u8::from_le_bytes(self.bytes(place)?).into()),
            1 => Value::Int(i8::from_le_bytes(self.bytes(place)?).into()),
            2 => Value::Int(u16::from_le_bytes(self.bytes(place)?).into()),
            3 => Value::Int(i16::from_le_bytes(self.bytes(place)?).into()),
            4 => Value::Int(self.u32(place)?.into()),
            5 => Value::Int(i32::from_le_bytes(self.bytes(place)?).into()),
            6 => {
                let single = f32::from_le_bytes(self.bytes(place)?);
                Value::Float(single.to_string().parse().unwrap_or(single.into()))
            }
            7 => match self.bytes::<1>(place)?[0] {
                b @ 0..=1 => Value::Bool(b == 1),
                b => return Err(self.corrupt(place, "a boolean, 0 or 1", b.to_string())),
            },
            8 => Value::Text(self.string(place, MAX_STRING)?),
            10 => Value::Int(self.u64(place)?.into()),
            11 => Value::Int(i64::from_le_bytes(self.bytes(place)?).into()),
            12 => Value::Float(f64::from_le_bytes(self.bytes(place)?)),
            _ => return Err(self.corrupt(place, "a value type, 0 to 12", code.to_string())),
        })
    }

    /// Dimensions, type and offset (still relative to the data section) of one tensor.
    fn tensor_info(&mut self, name: &str, alignment: u64) -> Result<TensorInfo, WeightsError> {
        let place = format!("tensor `{name}`");
        let n_dims = self.u32(&place)?;
        if !(1..=MAX_DIMS).contains(&n_dims) {
            return Err(self.corrupt(place, format!("1 to {MAX_DIMS} dimensions"), n_dims.to_string()));
        }
        let mut dims = Vec::with_capacity(n_dims as usize);
        for _ in 0..n_dims {
            dims.push(self.u64(&place)?);
        }
        let code = self.u32(&place)?;
        let encoding = match code {
            0 => Encoding::F32,
            1 => Encoding::F16,
            2 => Encoding::Q4_0,
            3 => Encoding::Q4_1,
            6 => Encoding::Q5_0,
            8 => Encoding::Q8_0,
            12 => Encoding::Q4_K,
            14 => Encoding::Q6_K,
            30 => Encoding::BF16,
            _ => {
                let what = format!("{place}: the type");
                return Err(WeightsError::unsupported(self.path, what, type_name(code), SUPPORTED));
            }
        };
        let offset = self.u64(&place)?;
        if !offset.is_multiple_of(alignment) {
            return Err(self.corrupt(place, format!("an offset divisible by {alignment}"), offset.to_string()));
        }
        let (values, bytes) = encoding.block();
        if !dims[0].is_multiple_of(values as u64) {
            return Err(self.corrupt(
                place,
                format!("rows of whole blocks of {values} for {encoding}"),
                dims[0].to_string(),
            ));
        }
        let numel = dims.iter().try_fold(1u64, |n, &d| n.checked_mul(d)).filter(|&n| n > 0);
        let size = numel.and_then(|n| (n / values as u64).checked_mul(bytes as u64)).filter(|&size| size <= self.len);
        let Some(size) = size else {
            let expected = format!("dimensions above 0 whose data fits the {} bytes of the file", self.len);
            return Err(self.corrupt(place, expected, format!("{dims:?} of {encoding}")));
        };
        let shape = dims.iter().rev().map(|&d| d as usize).collect();
        Ok(TensorInfo { shape, encoding, offset, size: size as usize })
    }
}

const SUPPORTED: &str = "F32, F16, BF16, Q8_0, Q6_K, Q5_0, Q4_K, Q4_0 and Q4_1";

/// `ggml_type` by name, for the refusal.
fn type_name(code: u32) -> String {
    let name = match code {
        7 => "Q5_1",
        9 => "Q8_1",
        10 => "Q2_K",
        11 => "Q3_K",
        13 => "Q5_K",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        _ => return format!("number {code}"),
    };
    name.to_owned()
}
