//! A model on disk, whatever its format: its shape, and its tensors as `f32` under their Hugging Face names.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use temper_text::GgufVocab;

use crate::Encoding;
use crate::config::LlamaConfig;
use crate::export::Dtype;
use crate::gguf::Gguf;
use crate::safetensors::{Folder, files_with_extension};
use crate::stored::Stored;

/// Why weights could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// A file contradicts itself or its own length.
    #[error(
        "{}: {place}: expected {expected}, got {got}\nhint: the file is damaged or incomplete; fetch it again and compare its sha256",
        file.display()
    )]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// Entry, and byte where known.
        place: String,
        /// What a sound file has there.
        expected: String,
        /// What this file has.
        got: String,
    },
    /// A sound file of a kind that is not built.
    #[error("{}: {what}: `{got}` is not supported\nhint: supported: {supported}", file.display())]
    Unsupported {
        /// The file.
        file: PathBuf,
        /// The entry.
        what: String,
        /// Its value.
        got: String,
        /// The values that are supported.
        supported: &'static str,
    },
    /// The model's shape is incomplete, contradictory or not supported: all problems of the file.
    #[error("{}: not a model that can be used here:\n  {}", file.display(), problems.join("\n  "))]
    Config {
        /// The file.
        file: PathBuf,
        /// One line each.
        problems: Vec<String>,
    },
    /// A tensor that is not in the file.
    #[error("{}: tensor `{tensor}`: expected shape {expected:?}, got nothing of that name", file.display())]
    MissingTensor {
        /// The file or folder.
        file: PathBuf,
        /// Hugging Face name.
        tensor: String,
        /// Its shape by the configuration, row-major.
        expected: Vec<usize>,
    },
    /// A tensor whose shape is not the configuration's.
    #[error("{}: tensor `{tensor}`: expected shape {expected:?}, got {got:?}", file.display())]
    WrongShape {
        /// The file or folder.
        file: PathBuf,
        /// Hugging Face name.
        tensor: String,
        /// Its shape by the configuration, row-major.
        expected: Vec<usize>,
        /// Its shape in the file.
        got: Vec<usize>,
    },
    /// A tensor with infinities or NaN: it comes from a run that diverged, or from a damaged file.
    #[error("{}: tensor `{tensor}`: {count} of its numbers are not finite", file.display())]
    NotFinite {
        /// The file or folder.
        file: PathBuf,
        /// Hugging Face name.
        tensor: String,
        /// How many are not.
        count: usize,
    },
    /// A tensor that has no place in the model (or comes a second time) and would change its result.
    #[error("{}: tensor `{tensor}`: expected no (further) tensor of this name in a model of this kind", file.display())]
    UnexpectedTensor {
        /// The file or folder.
        file: PathBuf,
        /// Hugging Face name.
        tensor: String,
    },
    /// A number that the stored type cannot hold.
    #[error("{}: tensor `{tensor}`: {value} cannot be stored as {dtype:?}\nhint: a finite value is needed; f32 has the widest range", file.display())]
    OutOfRange {
        /// The file that was being written.
        file: PathBuf,
        /// Its name there.
        tensor: String,
        /// The stored type.
        dtype: Dtype,
        /// The first such number.
        value: f32,
    },
    /// A number that the encoding of a GGUF tensor cannot hold.
    #[error("{}: tensor `{tensor}`: {value} cannot be stored as {encoding}\nhint: a finite value is needed; F32 has the widest range", file.display())]
    Unstorable {
        /// The file that was being written.
        file: PathBuf,
        /// Hugging Face name.
        tensor: String,
        /// The stored type.
        encoding: Encoding,
        /// The first such number.
        value: f32,
    },
    /// A path that is no model.
    #[error("{}: {problem}\nhint: a model is a .gguf file, or a folder with config.json and .safetensors files", path.display())]
    NotAModel {
        /// The path as given.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A folder could not be put in its place.
    #[error(transparent)]
    Run(#[from] temper_run::RunError),
    /// Several problems found in one pass.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Several(Vec<WeightsError>),
}

impl WeightsError {
    pub(crate) fn io(path: &Path, action: &'static str, source: io::Error) -> Self {
        Self::Run(temper_run::RunError::Io { action, path: path.to_owned(), source })
    }

    pub(crate) fn corrupt(
        file: &Path,
        place: impl Into<String>,
        expected: impl Into<String>,
        got: impl Into<String>,
    ) -> Self {
        Self::Corrupt { file: file.to_owned(), place: place.into(), expected: expected.into(), got: got.into() }
    }

    pub(crate) fn unsupported(
        file: &Path,
        what: impl Into<String>,
        got: impl Into<String>,
        supported: &'static str,
    ) -> Self {
        Self::Unsupported { file: file.to_owned(), what: what.into(), got: got.into(), supported }
    }
}

/// An open model: header read and checked, tensors read when asked for.
#[derive(Debug)]
pub struct Checkpoint {
    format: Format,
}

#[derive(Debug)]
enum Format {
    Gguf(Gguf),
    Folder(Folder),
}

impl Checkpoint {
    /// Opens a `.gguf` file, or a folder with `config.json` and `.safetensors` files, or a folder with one `.gguf` file. Reads
    /// headers only.
    ///
    /// # Errors
    /// When the path is no model or more than one, a header is damaged, or the architecture is not supported.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let not_a_model = |problem| WeightsError::NotAModel { path: path.to_owned(), problem };
        if !path.exists() {
            return Err(not_a_model("no such file or folder".to_owned()));
        }
        if path.is_file() {
            if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("safetensors")) {
                return Err(not_a_model("expected the folder that holds this file and its config.json".to_owned()));
            }
            return Ok(Self { format: Format::Gguf(Gguf::open(path)?) });
        }
        let ggufs = files_with_extension(path, "gguf")?;
        let safetensors = files_with_extension(path, "safetensors")?;
        match (ggufs.as_slice(), safetensors.is_empty()) {
            ([], true) => {
                Err(not_a_model("expected weights, got a folder without .safetensors or .gguf files".to_owned()))
            }
            ([], false) => Ok(Self { format: Format::Folder(Folder::open(path)?) }),
            ([only], true) => Ok(Self { format: Format::Gguf(Gguf::open(only)?) }),
            _ => {
                let names = ggufs.iter().chain(&safetensors).filter_map(|p| p.file_name()).map(|n| n.to_string_lossy());
                let names = names.collect::<Vec<_>>().join(", ");
                Err(not_a_model(format!("expected one model, got several: {names}; name one file")))
            }
        }
    }

    /// The model's shape.
    pub fn config(&self) -> &LlamaConfig {
        match &self.format {
            Format::Gguf(gguf) => gguf.config(),
            Format::Folder(folder) => &folder.config,
        }
    }

    /// Hugging Face names of all tensors, sorted.
    pub fn names(&self) -> Vec<&str> {
        match &self.format {
            Format::Gguf(gguf) => gguf.names().collect(),
            Format::Folder(folder) => folder.names().collect(),
        }
    }

    /// Whether a tensor of this Hugging Face name is there.
    pub fn has(&self, name: &str) -> bool {
        self.info(name).is_some()
    }

    /// How the numbers of the tensor of this Hugging Face name are stored.
    pub fn encoding(&self, name: &str) -> Option<Encoding> {
        self.info(name).map(|(_, encoding)| encoding)
    }

    /// The tensor of this Hugging Face name as `f32`, row-major (`[out, in]` for a projection). May be called from several
    /// threads; decoding uses rayon's pool.
    ///
    /// # Errors
    /// When it is missing, has another shape than `shape`, cannot be read, or holds numbers that are not finite.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, WeightsError> {
        self.stored(name, shape).map(|stored| stored.into_values(row_len(shape)))
    }

    /// The tensor as [`Checkpoint::tensor`] has it, but as its file has it where it is quantised.
    ///
    /// # Errors
    /// As for [`Checkpoint::tensor`].
    pub fn stored(&self, name: &str, shape: &[usize]) -> Result<Stored, WeightsError> {
        let encoding = self.check_shape(name, shape)?;
        let missing = || WeightsError::MissingTensor {
            file: self.path().to_owned(),
            tensor: name.to_owned(),
            expected: shape.to_owned(),
        };
        match &self.format {
            Format::Gguf(gguf) => {
                let bytes = gguf.tensor(name)?.ok_or_else(missing)?;
                // A value is finite where its scale and minimum are.
                let halves = encoding.halves();
                if halves == 0 {
                    return Ok(Stored::Values(refuse_non_finite(
                        self.path(),
                        name,
                        encoding.decode(&bytes, row_len(shape)),
                    )?));
                }
                let wrong = |block: &[u8]| !block[..2 * halves].chunks_exact(2).all(finite_half);
                match bytes.par_chunks_exact(encoding.block().1).with_min_len(1 << 12).filter(|b| wrong(b)).count() {
                    0 => Ok(Stored::Encoded { encoding, bytes }),
                    _ => refuse_non_finite(self.path(), name, encoding.decode(&bytes, row_len(shape)))
                        .map(Stored::Values),
                }
            }
            Format::Folder(folder) => {
                let values = folder.tensor(name)?.ok_or_else(missing)?;
                refuse_non_finite(self.path(), name, values).map(Stored::Values)
            }
        }
    }

    /// Holds the headers against the configuration: every weight it calls for must be there with the right shape, and no
    /// weight that would change the result may be left over. Returns the names of tensors that are not used and do no harm
    /// (an output head beside tied embeddings, foreign names); rotary tables, which are computed anew, are not listed.
    ///
    /// # Errors
    /// All problems at once, as [`WeightsError::Several`].
    pub fn verify(&self) -> Result<Vec<String>, WeightsError> {
        let expected: BTreeMap<_, _> = self.config().tensor_shapes().into_iter().collect();
        let mut problems: Vec<_> =
            expected.iter().filter_map(|(name, shape)| self.check_shape(name, shape).err()).collect();
        let mut unused = Vec::new();
        for name in self.names() {
            if expected.contains_key(name) || name.ends_with("rotary_emb.inv_freq") || name == "rope_freqs.weight" {
                continue;
            }
            if name.starts_with("model.") || name.starts_with("blk.") || name == "lm_head.bias" {
                problems.push(WeightsError::UnexpectedTensor { file: self.path().to_owned(), tensor: name.to_owned() });
            } else {
                unused.push(name.to_owned());
            }
        }
        if problems.is_empty() { Ok(unused) } else { Err(WeightsError::Several(problems)) }
    }

    /// Bytes of all tensors as they are stored.
    pub fn stored_bytes(&self) -> usize {
        let tensors = self.names().into_iter().filter_map(|name| self.info(name));
        tensors.map(|(shape, encoding)| encoding.row_bytes(shape.iter().product())).sum()
    }

    /// How the bulk of the weights is stored, such as `Q4_1 dequantised to f32` or `bf16`.
    pub fn precision(&self) -> String {
        let mut values = BTreeMap::new();
        for (shape, encoding) in self.names().into_iter().filter_map(|name| self.info(name)) {
            *values.entry(encoding).or_insert(0) += shape.iter().product::<usize>();
        }
        match values.into_iter().max_by_key(|&(_, n)| n) {
            None => "no tensors".to_owned(),
            Some((encoding @ (Encoding::F32 | Encoding::F16 | Encoding::BF16), _)) => {
                encoding.to_string().to_lowercase()
            }
            Some((encoding, _)) => format!("{encoding} dequantised to f32"),
        }
    }

    /// The tokenizer's metadata, for GGUF files only.
    ///
    /// # Errors
    /// When its entries are missing or of the wrong type.
    pub fn gguf_vocab(&self) -> Result<Option<GgufVocab>, WeightsError> {
        match &self.format {
            Format::Gguf(gguf) => gguf.vocab().map(Some),
            Format::Folder(_) => Ok(None),
        }
    }

    /// The file or folder.
    pub fn path(&self) -> &Path {
        match &self.format {
            Format::Gguf(gguf) => gguf.path(),
            Format::Folder(folder) => &folder.path,
        }
    }

    /// The folder of a Hugging Face model (tokenizer and chat template lie there); `None` for a GGUF file.
    pub fn folder(&self) -> Option<&Path> {
        match &self.format {
            Format::Gguf(_) => None,
            Format::Folder(folder) => Some(&folder.path),
        }
    }

    /// The licence as the file or model card declares it.
    pub fn licence(&self) -> Option<String> {
        match &self.format {
            Format::Gguf(gguf) => gguf.licence(),
            Format::Folder(folder) => folder.licence(),
        }
    }

    fn info(&self, name: &str) -> Option<(&[usize], Encoding)> {
        match &self.format {
            Format::Gguf(gguf) => gguf.info(name),
            Format::Folder(folder) => folder.info(name),
        }
    }

    fn check_shape(&self, name: &str, shape: &[usize]) -> Result<Encoding, WeightsError> {
        let (file, tensor, expected) = (self.path().to_owned(), name.to_owned(), shape.to_owned());
        match self.info(name) {
            None => Err(WeightsError::MissingTensor { file, tensor, expected }),
            Some((got, _)) if got != shape => {
                Err(WeightsError::WrongShape { file, tensor, expected, got: got.to_owned() })
            }
            Some((_, encoding)) => Ok(encoding),
        }
    }
}

fn row_len(shape: &[usize]) -> usize {
    shape.last().copied().unwrap_or(1)
}

/// Whether the little-endian f16 is neither infinite nor NaN.
fn finite_half(bytes: &[u8]) -> bool {
    bytes[1] & 0x7c != 0x7c
}

/// Hands the values on if all are finite.
pub(crate) fn refuse_non_finite(file: &Path, tensor: &str, values: Vec<f32>) -> Result<Vec<f32>, WeightsError> {
    match values.par_iter().with_min_len(1 << 16).filter(|x| !x.is_finite()).count() {
        0 => Ok(values),
        count => Err(WeightsError::NotFinite { file: file.to_owned(), tensor: tensor.to_owned(), count }),
    }
}
