//! Models written as Hugging Face folders that transformers loads.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use serde_json::{Map, Value, json};
use temper_run::write_dir_atomic;

use crate::checkpoint::WeightsError;
use crate::config::LlamaConfig;

/// How numbers are stored. Narrowing rounds to nearest, ties to even.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// IEEE single precision: every bit is kept.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an IEEE single.
    BF16,
}

impl Dtype {
    const fn width(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }

    const fn safetensors_name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
        }
    }

    const fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::BF16 => "bfloat16",
        }
    }
}

/// Bytes of weights above which a model is written in several files: the limit of transformers' `save_pretrained` (4.x).
const SHARD_BYTES: u64 = 5_000_000_000;

/// Writes a folder with `config.json`, the weights and the `side_files` (name, content: tokenizer, model card). The
/// folder appears whole or not at all; an older one of that name is replaced. Its parent must exist. The weights are
/// `model.safetensors`, or, above 5 GB, files of at most so many bytes with an index, as transformers names them.
///
/// `tensors` gives (Hugging Face name, row-major shape, values) in any order, each weight of
/// [`LlamaConfig::tensor_shapes`] once. They are written as they come: one is held at a time.
///
/// # Errors
/// When a tensor is missing, of another shape, not of this architecture, not finite, or out of the range of `dtype`; when
/// the folder cannot be written.
pub fn write_model(
    dir: &Path,
    config: &LlamaConfig,
    tensors: impl IntoIterator<Item = (String, Vec<usize>, Vec<f32>)>,
    dtype: Dtype,
    side_files: &[(&str, &[u8])],
) -> Result<(), WeightsError> {
    write_model_in_shards(dir, config, tensors, dtype, side_files, SHARD_BYTES)
}

/// [`write_model`] in files of at most `most` bytes of weights, a larger weight alone in one.
///
/// # Errors
/// As for [`write_model`].
pub fn write_model_in_shards(
    dir: &Path,
    config: &LlamaConfig,
    tensors: impl IntoIterator<Item = (String, Vec<usize>, Vec<f32>)>,
    dtype: Dtype,
    side_files: &[(&str, &[u8])],
    most: u64,
) -> Result<(), WeightsError> {
    write_dir_atomic(dir, |aside| {
        for (name, content) in side_files {
            let path = aside.join(name);
            fs::write(&path, content).map_err(|e| WeightsError::io(&path, "write", e))?;
        }
        let path = aside.join("config.json");
        let content = format!("{:#}\n", config.to_hf(dtype.torch_name()));
        fs::write(&path, content).map_err(|e| WeightsError::io(&path, "write", e))?;

        let shards = shards(config.tensor_shapes(), dtype, most);
        let name = |shard: usize| match shards.len() {
            1 => "model.safetensors".to_owned(),
            count => format!("model-{:05}-of-{count:05}.safetensors", shard + 1),
        };
        let (mut files, mut place) = (Vec::new(), BTreeMap::new());
        for (shard, shapes) in shards.iter().enumerate() {
            place.extend(shapes.iter().map(|(tensor, _)| (tensor.clone(), shard)));
            files.push(SafetensorsWriter::create(&aside.join(name(shard)), shapes.clone(), dtype)?);
        }
        for (tensor, shape, values) in tensors {
            // One that has no place is refused by the first file.
            let shard = place.get(&tensor).copied().unwrap_or(0);
            files[shard].write(&tensor, &shape, &values)?;
        }
        files.into_iter().try_for_each(SafetensorsWriter::finish)?;
        if shards.len() > 1 {
            let total: u64 = shards.iter().flatten().map(|(_, shape)| bytes_of(shape, dtype)).sum();
            let map: Map<String, Value> =
                place.into_iter().map(|(tensor, shard)| (tensor, json!(name(shard)))).collect();
            let path = aside.join("model.safetensors.index.json");
            let content = format!("{:#}\n", json!({"metadata": {"total_size": total}, "weight_map": map}));
            fs::write(&path, content).map_err(|e| WeightsError::io(&path, "write", e))?;
        }
        Ok(())
    })
}

fn bytes_of(shape: &[usize], dtype: Dtype) -> u64 {
    shape.iter().product::<usize>() as u64 * dtype.width()
}

/// Weights in order, in runs of at most `most` bytes.
fn shards(shapes: Vec<(String, Vec<usize>)>, dtype: Dtype, most: u64) -> Vec<Vec<(String, Vec<usize>)>> {
    let (mut shards, mut filled) = (vec![Vec::new()], 0);
    for (name, shape) in shapes {
        let bytes = bytes_of(&shape, dtype);
        if filled > 0 && filled + bytes > most {
            shards.push(Vec::new());
            filled = 0;
        }
        filled += bytes;
        if let Some(shard) = shards.last_mut() {
            shard.push((name, shape));
        }
    }
    shards
}

/// Writes one `.safetensors` file of f32 tensors, in place: for a file within a folder that appears as a whole. `tensors`
/// gives (name, values) in any order, each of `shapes` once; one is held at a time.
///
/// # Errors
/// When a tensor is missing, unexpected, of another size or not finite; when the file cannot be written.
pub fn write_tensors(
    path: &Path,
    shapes: Vec<(String, Vec<usize>)>,
    tensors: impl IntoIterator<Item = (String, Vec<f32>)>,
) -> Result<(), WeightsError> {
    let by_name: BTreeMap<String, Vec<usize>> = shapes.iter().cloned().collect();
    let mut file = SafetensorsWriter::create(path, shapes, Dtype::F32)?;
    for (name, values) in tensors {
        file.write(&name, by_name.get(&name).map_or(&[][..], |shape| shape), &values)?;
    }
    file.finish()
}

/// A `.safetensors` file whose header is written first, from the shapes, and whose tensors come in any order.
pub(crate) struct SafetensorsWriter {
    path: PathBuf,
    out: BufWriter<File>,
    dtype: Dtype,
    /// Tensors that have not come yet: shape, and place in the file.
    pending: BTreeMap<String, (Vec<usize>, u64)>,
}

impl SafetensorsWriter {
    /// The metadata `format: pt` is what transformers asks for.
    pub(crate) fn create(path: &Path, shapes: Vec<(String, Vec<usize>)>, dtype: Dtype) -> Result<Self, WeightsError> {
        let mut header = Map::new();
        header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
        let mut pending = BTreeMap::new();
        let mut at = 0;
        for (name, shape) in shapes {
            let end = at + shape.iter().product::<usize>() as u64 * dtype.width();
            let entry = json!({"dtype": dtype.safetensors_name(), "shape": shape, "data_offsets": [at, end]});
            header.insert(name.clone(), entry);
            pending.insert(name, (shape, at));
            at = end;
        }
        // Spaces fill the header up, so that the data begins at a multiple of eight.
        let mut header = Value::Object(header).to_string();
        header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
        let data_start = 8 + header.len() as u64;
        pending.values_mut().for_each(|(_, offset)| *offset += data_start);

        let out = File::create(path).map_err(|e| WeightsError::io(path, "create", e))?;
        let mut writer = Self { path: path.to_owned(), out: BufWriter::with_capacity(1 << 20, out), dtype, pending };
        let length = (header.len() as u64).to_le_bytes();
        let written = writer.out.write_all(&length).and_then(|()| writer.out.write_all(header.as_bytes()));
        written.map_err(|e| WeightsError::io(path, "write", e))?;
        Ok(writer)
    }

    pub(crate) fn write(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Result<(), WeightsError> {
        let (file, tensor) = (self.path.clone(), name.to_owned());
        let Some((expected, offset)) = self.pending.remove(name) else {
            return Err(WeightsError::UnexpectedTensor { file, tensor });
        };
        if expected != shape || values.len() != shape.iter().product::<usize>() {
            let got = if expected == shape { vec![values.len()] } else { shape.to_owned() };
            return Err(WeightsError::WrongShape { file, tensor, expected, got });
        }
        let dtype = self.dtype;
        let fits = |x: f32| match dtype {
            Dtype::F32 => x.is_finite(),
            Dtype::F16 => f16::from_f32(x).is_finite(),
            Dtype::BF16 => bf16::from_f32(x).is_finite(),
        };
        if let Some(&value) = values.iter().find(|&&x| !fits(x)) {
            return Err(WeightsError::OutOfRange { file, tensor, dtype, value });
        }
        let out = &mut self.out;
        let written = out.seek(SeekFrom::Start(offset)).and_then(|_| {
            values.iter().try_for_each(|&x| match dtype {
                Dtype::F32 => out.write_all(&x.to_le_bytes()),
                Dtype::F16 => out.write_all(&f16::from_f32(x).to_le_bytes()),
                Dtype::BF16 => out.write_all(&bf16::from_f32(x).to_le_bytes()),
            })
        });
        written.map_err(|e| WeightsError::io(&self.path, "write", e))
    }

    /// Ends the file; all tensors must have come.
    pub(crate) fn finish(mut self) -> Result<(), WeightsError> {
        let missing =
            |(tensor, (expected, _))| WeightsError::MissingTensor { file: self.path.clone(), tensor, expected };
        let missing: Vec<_> = std::mem::take(&mut self.pending).into_iter().map(missing).collect();
        if !missing.is_empty() {
            return Err(WeightsError::Several(missing));
        }
        self.out.flush().map_err(|e| WeightsError::io(&self.path, "write", e))
    }
}
