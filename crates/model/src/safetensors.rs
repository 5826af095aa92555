//! Hugging Face folders: `config.json` and weights in `.safetensors` files, one or several.
//!
//! Format: the README of the `safetensors` project. A file is the header's length (u64), the header (JSON: name ->
//! dtype, shape, `data_offsets` into what follows), then the data, without holes. Headers are checked against the file's
//! length before anything of that size is allocated; data is read tensor by tensor.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::Encoding;
use crate::checkpoint::{WeightsError, refuse_non_finite};
use crate::config::LlamaConfig;
use crate::weight_file::WeightFile;

/// Longest header, the limit of the reference implementation.
const MAX_HEADER: u64 = 100_000_000;
/// Longest side file (`config.json`, index) that is read: the largest indexes in use have some megabytes.
const MAX_JSON: u64 = 64 << 20;

/// Where one tensor lies.
#[derive(Debug, Clone)]
pub(crate) struct TensorInfo {
    /// Row-major.
    pub(crate) shape: Vec<usize>,
    pub(crate) encoding: Encoding,
    /// From the start of the file.
    offset: u64,
    size: usize,
}

/// One open `.safetensors` file whose header has been checked.
#[derive(Debug)]
pub(crate) struct SafetensorsFile {
    file: WeightFile,
    pub(crate) tensors: BTreeMap<String, TensorInfo>,
}

impl SafetensorsFile {
    pub(crate) fn open(path: &Path) -> Result<Self, WeightsError> {
        let file = WeightFile::open(path)?;
        if file.len < 8 {
            return Err(WeightsError::corrupt(
                path,
                "header",
                "8 bytes with its length",
                format!("{} bytes", file.len),
            ));
        }
        let word = file.read(0, 8)?.try_into().unwrap_or_default();
        let header_len = u64::from_le_bytes(word);
        let most = MAX_HEADER.min(file.len - 8);
        if header_len > most {
            let expected = format!("at most {most} bytes (the file has {}, the format allows {MAX_HEADER})", file.len);
            return Err(WeightsError::corrupt(path, "header length", expected, header_len.to_string()));
        }
        let header = file.read(8, header_len as usize)?;
        let header: Header = serde_json::from_slice(&header).map_err(|e| {
            WeightsError::corrupt(path, "header", "JSON of names, types, shapes and offsets", e.to_string())
        })?;

        let data_len = file.len - 8 - header_len;
        let mut tensors = BTreeMap::new();
        let mut spans = Vec::new();
        for (name, entry) in header.tensors {
            let place = format!("tensor `{name}`");
            let encoding = match entry.dtype.as_str() {
                "F32" => Encoding::F32,
                "F16" => Encoding::F16,
                "BF16" => Encoding::BF16,
                _ => {
                    let what = format!("{place}: the type");
                    return Err(WeightsError::unsupported(path, what, entry.dtype, "F32, F16 and BF16"));
                }
            };
            let [begin, end] = entry.data_offsets;
            if begin > end || end > data_len {
                let expected = format!("data inside the {data_len} bytes after the header");
                return Err(WeightsError::corrupt(path, place, expected, format!("offsets {begin} to {end}")));
            }
            let width = encoding.block().1 as u64;
            let size = entry.shape.iter().try_fold(width, |n, &d| n.checked_mul(d)).filter(|&n| n > 0);
            if size != Some(end - begin) {
                let expected = format!("as many bytes as shape {:?} of {encoding} takes", entry.shape);
                return Err(WeightsError::corrupt(path, place, expected, format!("{} bytes", end - begin)));
            }
            spans.push((begin, end, name.clone()));
            let shape = entry.shape.iter().map(|&d| d as usize).collect();
            let info = TensorInfo { shape, encoding, offset: 8 + header_len + begin, size: (end - begin) as usize };
            if tensors.insert(name, info).is_some() {
                return Err(WeightsError::corrupt(path, place, "one entry", "a second one"));
            }
        }
        spans.sort_unstable();
        let mut at = 0;
        for (begin, end, name) in spans {
            if begin != at {
                let expected = format!("data from byte {at} on, where the tensor before it ends");
                return Err(WeightsError::corrupt(path, format!("tensor `{name}`"), expected, format!("byte {begin}")));
            }
            at = end;
        }
        if at != data_len {
            let expected = format!("{at} bytes, the sum of its tensors");
            return Err(WeightsError::corrupt(path, "data", expected, format!("{data_len} bytes")));
        }
        Ok(Self { file, tensors })
    }

    /// The tensor as `f32`; `None` where there is no such tensor.
    pub(crate) fn tensor(&self, name: &str) -> Result<Option<Vec<f32>>, WeightsError> {
        let Some(info) = self.tensors.get(name) else { return Ok(None) };
        let bytes = self.file.read(info.offset, info.size)?;
        Ok(Some(info.encoding.decode(&bytes, info.shape.last().copied().unwrap_or(1))))
    }

    /// A tensor that the caller knows to be there.
    pub(crate) fn finite_tensor(&self, name: &str) -> Result<Vec<f32>, WeightsError> {
        let (file, tensor) = (self.file.path.clone(), name.to_owned());
        match self.tensor(name)? {
            Some(values) => refuse_non_finite(&file, name, values),
            None => Err(WeightsError::MissingTensor { file, tensor, expected: Vec::new() }),
        }
    }
}

/// One open `.safetensors` file by itself: what [`write_tensors`](crate::write_tensors) wrote.
#[derive(Debug)]
pub struct TensorFile(SafetensorsFile);

impl TensorFile {
    /// Opens the file and checks its header.
    ///
    /// # Errors
    /// When it cannot be read, or its header is wrong.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        SafetensorsFile::open(path).map(Self)
    }

    /// A tensor of this shape, as f32.
    ///
    /// # Errors
    /// When it is missing, of another shape, or not finite.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, WeightsError> {
        let (file, tensor) = (self.0.file.path.clone(), name.to_owned());
        let expected = shape.to_owned();
        match self.0.tensors.get(name) {
            None => Err(WeightsError::MissingTensor { file, tensor, expected }),
            Some(info) if info.shape != shape => {
                Err(WeightsError::WrongShape { file, tensor, expected, got: info.shape.clone() })
            }
            Some(_) => self.0.finite_tensor(name),
        }
    }
}

/// An open folder: configuration read, headers of all weight files checked.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    pub(crate) config: LlamaConfig,
    files: Vec<SafetensorsFile>,
    /// Tensor name to its file.
    owner: BTreeMap<String, usize>,
}

impl Folder {
    /// Opens `model.safetensors`, or the files that `model.safetensors.index.json` names, or the folder's only
    /// `.safetensors` file: in this order, as transformers does.
    pub(crate) fn open(path: &Path) -> Result<Self, WeightsError> {
        let config_path = path.join("config.json");
        let config_text = read_text(&config_path)?;
        let index_path = path.join("model.safetensors.index.json");
        let single = path.join("model.safetensors");

        let index = if single.is_file() || !index_path.is_file() { None } else { Some(read_index(&index_path)?) };
        let paths: Vec<PathBuf> = match &index {
            Some(index) => index.values().collect::<BTreeSet<_>>().into_iter().map(|name| path.join(name)).collect(),
            None if single.is_file() => vec![single],
            None => match files_with_extension(path, "safetensors")?.as_slice() {
                [only] => vec![only.clone()],
                found => {
                    let problem =
                        format!("expected model.safetensors or its index, got {} .safetensors files", found.len());
                    return Err(WeightsError::NotAModel { path: path.to_owned(), problem });
                }
            },
        };

        let (files, mut problems) = split(paths.iter().map(|path| SafetensorsFile::open(path)));
        if !problems.is_empty() {
            return Err(if problems.len() == 1 { problems.remove(0) } else { WeightsError::Several(problems) });
        }
        let mut owner = BTreeMap::new();
        for (i, file) in files.iter().enumerate() {
            for name in file.tensors.keys() {
                if let Some(first) = owner.insert(name.clone(), i) {
                    let got = format!("it is also in {}", paths[first].display());
                    problems.push(WeightsError::corrupt(&paths[i], format!("tensor `{name}`"), "one file for it", got));
                }
            }
        }
        for (name, file) in index.iter().flatten() {
            if owner.get(name).is_none_or(|&i| paths[i] != path.join(file)) {
                problems.push(WeightsError::corrupt(
                    &index_path,
                    format!("tensor `{name}`"),
                    format!("it in {file}"),
                    "nothing there",
                ));
            }
        }
        if !problems.is_empty() {
            return Err(WeightsError::Several(problems));
        }
        let config = LlamaConfig::from_hf(&config_path, &config_text, owner.contains_key("lm_head.weight"))?;
        Ok(Self { path: path.to_owned(), config, files, owner })
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.owner.keys().map(String::as_str)
    }

    /// Shape, row-major, and storage of a tensor.
    pub(crate) fn info(&self, name: &str) -> Option<(&[usize], Encoding)> {
        let info = self.files[*self.owner.get(name)?].tensors.get(name)?;
        Some((&info.shape, info.encoding))
    }

    /// The tensor as `f32`; `None` where there is no such tensor.
    pub(crate) fn tensor(&self, name: &str) -> Result<Option<Vec<f32>>, WeightsError> {
        self.owner.get(name).map_or(Ok(None), |&i| self.files[i].tensor(name))
    }

    /// The `license` line of the model card's front matter (`README.md`).
    pub(crate) fn licence(&self) -> Option<String> {
        let card = read_text(&self.path.join("README.md")).ok()?;
        let front = card.strip_prefix("---")?.split("\n---").next()?;
        let value = front.lines().find_map(|line| line.strip_prefix("license:"))?;
        Some(value.trim().trim_matches(['"', '\'']).to_owned()).filter(|v| !v.is_empty())
    }
}

/// Parts successes from failures, so that all failures can be told at once.
fn split<T, E>(results: impl Iterator<Item = Result<T, E>>) -> (Vec<T>, Vec<E>) {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(value) => good.push(value),
            Err(error) => bad.push(error),
        }
    }
    (good, bad)
}

/// Files of a folder with this extension, sorted.
pub(crate) fn files_with_extension(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, WeightsError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| WeightsError::io(folder, "list", e))? {
        let path = entry.map_err(|e| WeightsError::io(folder, "list", e))?.path();
        if path.extension().is_some_and(|e| e.eq_ignore_ascii_case(extension)) && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Reads a side file, refusing one that is too long to be what its name says.
pub(crate) fn read_text(path: &Path) -> Result<String, WeightsError> {
    let len = fs::metadata(path).map_err(|e| WeightsError::io(path, "open", e))?.len();
    if len > MAX_JSON {
        return Err(WeightsError::corrupt(path, "file", format!("at most {MAX_JSON} bytes"), format!("{len} bytes")));
    }
    fs::read_to_string(path).map_err(|e| WeightsError::io(path, "read", e))
}

/// `weight_map` of `model.safetensors.index.json`: tensor name to file name.
pub(crate) fn read_index(path: &Path) -> Result<BTreeMap<String, String>, WeightsError> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let index: Index = serde_json::from_str(&read_text(path)?)
        .map_err(|e| WeightsError::corrupt(path, "index", "JSON with a `weight_map`", e.to_string()))?;
    for file in index.weight_map.values() {
        if Path::new(file).file_name().is_none_or(|name| name != file.as_str()) {
            return Err(WeightsError::corrupt(path, "weight_map", "plain file names", format!("`{file}`")));
        }
    }
    Ok(index.weight_map)
}

/// The header's entries in file order; a name given twice is kept twice, for the check.
struct Header {
    tensors: Vec<(String, Entry)>,
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut tensors = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        tensors.push((name, map.next_value()?));
                    }
                }
                Ok(Header { tensors })
            }
        }
        deserializer.deserialize_map(Entries)
    }
}
