//! Models written as GGUF files that llama.cpp loads: `docs/gguf.md` of ggml for the container, `convert_hf_to_gguf.py` and
//! `llama-quant.cpp` of llama.cpp for names, metadata and which tensor is stored how.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use temper_run::write_dir_atomic;
use temper_text::GgufVocab;

use crate::Encoding;
use crate::checkpoint::WeightsError;
use crate::config::{Design, LlamaConfig};

/// What a GGUF file says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GgufAbout {
    /// `general.name`.
    pub name: String,
    /// `general.license`, where one is declared.
    pub licence: Option<String>,
    /// `general.description`.
    pub description: Option<String>,
}

/// Tensors begin at multiples of so many bytes.
const ALIGNMENT: u64 = 32;
/// ggml's `GGML_QNT_VERSION`: the layout of quantised blocks.
const QUANTISATION: u32 = 2;

/// Writes `name` into the folder `dir`, which holds nothing else and appears whole or not at all; an older one is replaced.
///
/// `tensors` gives (Hugging Face name, row-major shape, values) in any order, each weight of
/// [`LlamaConfig::tensor_shapes`] once; one is held at a time. Matrices are stored as `encoding`, norms as F32. With Q4_0 the
/// head (the embedding, where they are tied) is Q8_0: llama.cpp too gives it more bits. A matrix whose rows are no whole
/// number of blocks is F16. The vocabulary is filled up to the rows of the embedding with unused tokens.
///
/// # Errors
/// When the model is not computed as Llama is ([`LlamaConfig::not_in_gguf`]), or `encoding` is one that is only read; when a
/// tensor is missing, of another shape, not finite or out of range; when the vocabulary is larger than the embedding; when the folder cannot be written.
pub fn write_gguf(
    dir: &Path,
    name: &str,
    config: &LlamaConfig,
    tensors: impl IntoIterator<Item = (String, Vec<usize>, Vec<f32>)>,
    encoding: Encoding,
    vocab: &GgufVocab,
    about: &GgufAbout,
) -> Result<(), WeightsError> {
    write_dir_atomic(dir, |aside| {
        let path = aside.join(name);
        if let Some(what) = config.not_in_gguf() {
            return Err(WeightsError::unsupported(
                &path,
                "writing GGUF of a model",
                what,
                "models computed as Llama is",
            ));
        }
        let (file_type, _) = codes(encoding).ok_or_else(|| not_written(&path, encoding))?;
        let mut header = Header::default();
        describe(&mut header, config, file_type, about);
        tokenizer(&mut header, &path, config, vocab)?;
        let shapes = config.tensor_shapes();
        let mut file =
            GgufFile::create(&path, header, &shapes, |name, shape| stored_as(config, encoding, name, shape))?;
        for (name, shape, values) in tensors {
            file.write(&name, &shape, values, config.head_dim)?;
        }
        file.finish()
    })
}

impl LlamaConfig {
    /// In what a model differs from what a GGUF file of the kind that is written here can say, in words; none where it does not.
    /// Such a file would be read as another model, in silence.
    pub fn not_in_gguf(&self) -> Option<String> {
        // A name alone changes nothing: Mistral without a window is Llama.
        let plain = Design { family: self.design.family, ..Design::LLAMA };
        if self.design == plain {
            return None;
        }
        let d = &self.design;
        let differs = [
            (d.rope_scaling != plain.rope_scaling, "scaled rotary frequencies"),
            (d.qkv_bias || d.o_bias || d.mlp_bias, "biases"),
            (d.qk_norm || d.branch_norms || d.norm_offset, "other norms"),
            (d.layers.iter().any(|layer| layer.window.is_some()), "sliding windows"),
            (d.layers.iter().any(|layer| !layer.rope), "layers without rotary embedding"),
            (d.activation != plain.activation, "another gate"),
        ];
        let what: Vec<&str> = differs.iter().filter(|(differs, _)| *differs).map(|(_, what)| *what).collect();
        let what = if what.is_empty() { "other scales".to_owned() } else { what.join(", ") };
        Some(format!("{:?} with {what}", d.family))
    }
}

const WRITTEN: &str = "F32, F16, BF16, Q8_0 and Q4_0";

/// llama.cpp's `llama_ftype` of a file, and ggml's `ggml_type` of a tensor; none of an encoding that is only read.
fn codes(encoding: Encoding) -> Option<(u32, u32)> {
    Some(match encoding {
        Encoding::F32 => (0, 0),
        Encoding::F16 => (1, 1),
        Encoding::Q4_0 => (2, 2),
        Encoding::Q8_0 => (7, 8),
        Encoding::BF16 => (32, 30),
        _ => return None,
    })
}

fn not_written(path: &Path, encoding: Encoding) -> WeightsError {
    WeightsError::unsupported(path, "writing the type", encoding.to_string(), WRITTEN)
}

fn stored_as(config: &LlamaConfig, encoding: Encoding, name: &str, shape: &[usize]) -> Encoding {
    let head = if config.tie_word_embeddings { "model.embed_tokens.weight" } else { "lm_head.weight" };
    let encoding = if encoding == Encoding::Q4_0 && name == head { Encoding::Q8_0 } else { encoding };
    match shape {
        [_] => Encoding::F32,
        [.., cols] if !cols.is_multiple_of(encoding.block().0) => Encoding::F16,
        _ => encoding,
    }
}

/// The metadata, as bytes.
#[derive(Default)]
struct Header {
    entries: u64,
    bytes: Vec<u8>,
}

impl Header {
    fn key(&mut self, key: &str, code: u32) {
        self.entries += 1;
        put_text(&mut self.bytes, key);
        self.bytes.extend(code.to_le_bytes());
    }

    fn number(&mut self, key: &str, value: u32) {
        self.key(key, 4);
        self.bytes.extend(value.to_le_bytes());
    }

    fn float(&mut self, key: &str, value: f64) {
        self.key(key, 6);
        self.bytes.extend((value as f32).to_le_bytes());
    }

    fn flag(&mut self, key: &str, value: bool) {
        self.key(key, 7);
        self.bytes.push(u8::from(value));
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key, 8);
        put_text(&mut self.bytes, value);
    }

    fn array<T>(&mut self, key: &str, code: u32, values: &[T], put: impl Fn(&mut Vec<u8>, &T)) {
        self.key(key, 9);
        self.bytes.extend(code.to_le_bytes());
        self.bytes.extend((values.len() as u64).to_le_bytes());
        values.iter().for_each(|value| put(&mut self.bytes, value));
    }

    fn texts(&mut self, key: &str, values: &[String]) {
        self.array(key, 8, values, |bytes, text| put_text(bytes, text));
    }
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

fn describe(header: &mut Header, c: &LlamaConfig, file_type: u32, about: &GgufAbout) {
    header.text("general.architecture", "llama");
    header.text("general.type", "model");
    header.text("general.name", &about.name);
    about.licence.iter().for_each(|licence| header.text("general.license", licence));
    about.description.iter().for_each(|text| header.text("general.description", text));
    header.number("general.file_type", file_type);
    header.number("general.quantization_version", QUANTISATION);
    for (key, size) in [
        ("vocab_size", c.vocab_size),
        ("context_length", c.max_position_embeddings),
        ("embedding_length", c.hidden_size),
        ("block_count", c.num_hidden_layers),
        ("feed_forward_length", c.intermediate_size),
        ("rope.dimension_count", c.head_dim),
        ("attention.head_count", c.num_attention_heads),
        ("attention.head_count_kv", c.num_key_value_heads),
        ("attention.key_length", c.head_dim),
        ("attention.value_length", c.head_dim),
    ] {
        // The configuration's own bounds are far below.
        header.number(&format!("llama.{key}"), size as u32);
    }
    header.float("llama.attention.layer_norm_rms_epsilon", c.rms_norm_eps);
    header.float("llama.rope.freq_base", c.rope_theta);
}

/// GGUF's type of a token that stands for nothing.
const UNUSED: i32 = 5;

fn tokenizer(header: &mut Header, path: &Path, c: &LlamaConfig, vocab: &GgufVocab) -> Result<(), WeightsError> {
    let (mut tokens, mut types) = (vocab.tokens.clone(), vocab.token_types.clone());
    if tokens.len() > c.vocab_size {
        let expected = format!("at most {}, the rows of the embedding", c.vocab_size);
        return Err(WeightsError::corrupt(path, "the tokenizer's vocabulary", expected, tokens.len().to_string()));
    }
    let mut scores = vocab.scores.clone();
    for id in tokens.len()..c.vocab_size {
        tokens.push(format!("[PAD{id}]"));
        types.push(UNUSED);
    }
    if !scores.is_empty() {
        scores.resize(tokens.len(), f32::MIN);
    }
    header.text("tokenizer.ggml.model", &vocab.model);
    header.text("tokenizer.ggml.pre", if vocab.pre.is_empty() { "default" } else { &vocab.pre });
    header.texts("tokenizer.ggml.tokens", &tokens);
    header.array("tokenizer.ggml.token_type", 5, &types, |bytes, kind| bytes.extend(kind.to_le_bytes()));
    // Byte-level vocabularies do not need them; some files have them.
    if !scores.is_empty() {
        header.array("tokenizer.ggml.scores", 6, &scores, |bytes, score| bytes.extend(score.to_le_bytes()));
    }
    header.flag("tokenizer.ggml.add_space_prefix", vocab.add_space_prefix);
    if vocab.model != "llama" {
        header.texts("tokenizer.ggml.merges", &vocab.merges);
    }
    for (key, id) in [
        ("bos", vocab.bos_id),
        ("eos", c.eos_token_ids.first().copied().or(vocab.eos_id)),
        ("unknown", vocab.unk_id),
        ("padding", vocab.pad_id),
    ] {
        id.iter().for_each(|&id| header.number(&format!("tokenizer.ggml.{key}_token_id"), id));
    }
    header.flag("tokenizer.ggml.add_bos_token", vocab.add_bos);
    header.flag("tokenizer.ggml.add_eos_token", false);
    vocab.chat_template.iter().for_each(|template| header.text("tokenizer.chat_template", template));
    Ok(())
}

/// The llama-arch GGUF name of a Hugging Face tensor.
fn gguf_name(name: &str) -> Option<String> {
    match name {
        "model.embed_tokens.weight" => return Some("token_embd.weight".to_owned()),
        "model.norm.weight" => return Some("output_norm.weight".to_owned()),
        "lm_head.weight" => return Some("output.weight".to_owned()),
        _ => {}
    }
    let (layer, part) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let (part, kind) = part.rsplit_once('.')?;
    let part = match part {
        "input_layernorm" => "attn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "post_attention_layernorm" => "ffn_norm",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        _ => return None,
    };
    Some(format!("blk.{layer}.{part}.{kind}"))
}

/// Rows of a query or key projection as llama.cpp's converter orders them: the two rotary halves of each head interleaved.
fn interleave(values: &[f32], rows: usize, head_dim: usize) -> Vec<f32> {
    let (half, cols) = (head_dim / 2, values.len() / rows);
    let original = |row: usize| {
        let (head, within) = (row / head_dim, row % head_dim);
        head * head_dim + (within % 2) * half + within / 2
    };
    (0..rows).flat_map(|row| &values[original(row) * cols..][..cols]).copied().collect()
}

/// A file whose header is written first, and whose tensors come in any order.
struct GgufFile {
    path: std::path::PathBuf,
    out: BufWriter<File>,
    /// Tensors that have not come yet, by HF name: shape, encoding, place in the file.
    pending: BTreeMap<String, (Vec<usize>, Encoding, u64)>,
}

impl GgufFile {
    fn create(
        path: &Path,
        header: Header,
        shapes: &[(String, Vec<usize>)],
        encoding: impl Fn(&str, &[usize]) -> Encoding,
    ) -> Result<Self, WeightsError> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend((shapes.len() as u64).to_le_bytes());
        bytes.extend(header.entries.to_le_bytes());
        bytes.extend(header.bytes);
        let (mut pending, mut at) = (BTreeMap::new(), 0u64);
        for (name, shape) in shapes {
            let Some(own) = gguf_name(name) else {
                let (file, tensor) = (path.to_owned(), name.clone());
                return Err(WeightsError::UnexpectedTensor { file, tensor });
            };
            let encoding = encoding(name, shape);
            put_text(&mut bytes, &own);
            bytes.extend((shape.len() as u32).to_le_bytes());
            shape.iter().rev().for_each(|&size| bytes.extend((size as u64).to_le_bytes()));
            let (_, type_code) = codes(encoding).ok_or_else(|| not_written(path, encoding))?;
            bytes.extend(type_code.to_le_bytes());
            bytes.extend(at.to_le_bytes());
            pending.insert(name.clone(), (shape.clone(), encoding, at));
            let row = shape.last().copied().unwrap_or(0);
            let rows = shape.iter().product::<usize>() / row.max(1);
            at = (at + (rows * encoding.row_bytes(row)) as u64).next_multiple_of(ALIGNMENT);
        }
        let data = (bytes.len() as u64).next_multiple_of(ALIGNMENT);
        bytes.resize(data as usize, 0);
        pending.values_mut().for_each(|(_, _, offset)| *offset += data);
        let file = File::create(path).map_err(|e| WeightsError::io(path, "create", e))?;
        // The last tensor's padding too, which some readers ask for.
        file.set_len(data + at).map_err(|e| WeightsError::io(path, "write", e))?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        out.write_all(&bytes).map_err(|e| WeightsError::io(path, "write", e))?;
        Ok(Self { path: path.to_owned(), out, pending })
    }

    fn write(
        &mut self,
        name: &str,
        shape: &[usize],
        mut values: Vec<f32>,
        head_dim: usize,
    ) -> Result<(), WeightsError> {
        let (file, tensor) = (self.path.clone(), name.to_owned());
        let Some((expected, encoding, offset)) = self.pending.remove(name) else {
            return Err(WeightsError::UnexpectedTensor { file, tensor });
        };
        if expected != shape || values.len() != shape.iter().product::<usize>() {
            let got = if expected == shape { vec![values.len()] } else { shape.to_owned() };
            return Err(WeightsError::WrongShape { file, tensor, expected, got });
        }
        // A block whose largest value is in the range of f16 times its levels has a scale in the range of f16.
        let most = match encoding {
            Encoding::F16 => half::f16::MAX.to_f32(),
            Encoding::Q8_0 => 127.0 * half::f16::MAX.to_f32(),
            Encoding::Q4_0 => 8.0 * half::f16::MAX.to_f32(),
            _ => f32::MAX,
        };
        let fits = |x: &f32| x.abs() <= most && (encoding != Encoding::BF16 || half::bf16::from_f32(*x).is_finite());
        if let Some(&value) = values.iter().find(|x| !fits(x)) {
            return Err(WeightsError::Unstorable { file, tensor, encoding, value });
        }
        if name.ends_with(".self_attn.q_proj.weight") || name.ends_with(".self_attn.k_proj.weight") {
            values = interleave(&values, shape[0], head_dim);
        }
        let row = shape.last().copied().unwrap_or(0);
        let bytes = encoding.encode(&values, row).ok_or_else(|| not_written(&file, encoding))?;
        let written = self.out.seek(SeekFrom::Start(offset)).and_then(|_| self.out.write_all(&bytes));
        written.map_err(|e| WeightsError::io(&self.path, "write", e))
    }

    fn finish(mut self) -> Result<(), WeightsError> {
        let missing = |(tensor, (expected, ..)): (String, (Vec<usize>, Encoding, u64))| WeightsError::MissingTensor {
            file: self.path.clone(),
            tensor,
            expected,
        };
        let missing: Vec<_> = std::mem::take(&mut self.pending).into_iter().map(missing).collect();
        if !missing.is_empty() {
            return Err(WeightsError::Several(missing));
        }
        self.out.flush().map_err(|e| WeightsError::io(&self.path, "write", e))
    }
}
