//! The weights that are read as a whole: which projections lie one under the other, and what each is called.

use std::collections::BTreeMap;
use std::ops::Range;

use temper_kernels::{Encoding, FrozenWeight};

use crate::LlamaConfig;
use crate::checkpoint::Checkpoint;
use crate::linear::Part;
use crate::stored::Stored;

/// One weight of the model, and the projections that it holds.
pub(crate) struct Fused {
    /// Its name is that of its first projection's folder and of all projections: `model.layers.0.mlp.gate_proj+up_proj`.
    pub weight: FrozenWeight,
    /// HF module paths of the projections, in the order of their rows.
    paths: Vec<String>,
    /// Whether each projection has a bias, which is a tensor of its own.
    has_bias: bool,
}

impl Fused {
    fn new(folder: &str, cols: usize, projections: &[(&str, usize)], has_bias: bool) -> Self {
        let (mut parts, mut rows) = (Vec::new(), 0);
        for (_, more) in projections {
            parts.push(rows..rows + more);
            rows += more;
        }
        let names: Vec<&str> = projections.iter().map(|(name, _)| *name).collect();
        let name = format!("{folder}.{}", names.join("+"));
        let paths = names.iter().map(|name| format!("{folder}.{name}")).collect();
        Self { weight: FrozenWeight { name, rows, cols, parts }, paths, has_bias }
    }

    /// The four linears of layer `i`: q, k and v; o; gate and up; down.
    pub fn of_layer(c: &LlamaConfig, i: usize) -> [Self; 4] {
        let (d, f, heads) = (c.hidden_size, c.intermediate_size, c.heads());
        let (q, kv, design) = (heads.query_width(), heads.kv_width(), &c.design);
        let [attention, mlp] = ["self_attn", "mlp"].map(|block| format!("model.layers.{i}.{block}"));
        [
            Self::new(&attention, d, &[("q_proj", q), ("k_proj", kv), ("v_proj", kv)], design.qkv_bias),
            Self::new(&attention, q, &[("o_proj", d)], design.o_bias),
            Self::new(&mlp, d, &[("gate_proj", f), ("up_proj", f)], design.mlp_bias),
            Self::new(&mlp, f, &[("down_proj", d)], design.mlp_bias),
        ]
    }

    /// The embedding.
    pub fn embedding(c: &LlamaConfig) -> Self {
        Self::table(c, "model.embed_tokens")
    }

    /// The head, where it is not the embedding.
    pub fn head(c: &LlamaConfig) -> Option<Self> {
        (!c.tie_word_embeddings).then(|| Self::table(c, "lm_head"))
    }

    fn table(c: &LlamaConfig, path: &str) -> Self {
        let weight = FrozenWeight { name: path.to_owned(), rows: c.vocab_size, cols: c.hidden_size, parts: Vec::new() };
        Self { weight, paths: vec![path.to_owned()], has_bias: false }
    }

    /// Both tables, then the linears of each layer: the order in which a forward reads them.
    fn all(c: &LlamaConfig) -> impl Iterator<Item = Self> {
        let layers = (0..c.num_hidden_layers).flat_map(|i| Self::of_layer(c, i));
        [Self::embedding(c)].into_iter().chain(Self::head(c)).chain(layers)
    }

    /// The projections with their rows.
    pub fn parts(&self) -> Vec<Part> {
        let parts = self.paths.iter().zip(&self.weight.parts);
        parts.map(|(path, rows)| Part { path: path.clone(), rows: rows.clone() }).collect()
    }

    /// The projections' tensors, which lie one under the other.
    pub fn stored<E, T: Into<Stored>>(
        &self,
        tensor: &mut impl FnMut(&str, &[usize]) -> Result<T, E>,
    ) -> Result<Vec<Stored>, E> {
        let whole = [0..self.weight.rows];
        let parts = if self.weight.parts.is_empty() { &whole[..] } else { &self.weight.parts };
        let read = |(path, rows): (&String, &Range<usize>)| {
            tensor(&format!("{path}.weight"), &[rows.len(), self.weight.cols]).map(Into::into)
        };
        self.paths.iter().zip(parts).map(read).collect()
    }

    /// The projections' biases one after the other; none where they have none.
    pub fn bias<E, T: Into<Stored>>(
        &self,
        tensor: &mut impl FnMut(&str, &[usize]) -> Result<T, E>,
    ) -> Result<Option<Vec<f32>>, E> {
        if !self.has_bias {
            return Ok(None);
        }
        let mut bias = Vec::with_capacity(self.weight.rows);
        for (path, rows) in self.paths.iter().zip(&self.weight.parts) {
            let own: Stored = tensor(&format!("{path}.bias"), &[rows.len()])?.into();
            bias.extend(own.into_values(rows.len()));
        }
        Ok(Some(bias))
    }

    /// Their values, row-major.
    fn values<E, T: Into<Stored>>(
        &self,
        tensor: &mut impl FnMut(&str, &[usize]) -> Result<T, E>,
    ) -> Result<Vec<f32>, E> {
        let stored = self.stored(tensor)?;
        Ok(stored.into_iter().flat_map(|stored| stored.into_values(self.weight.cols)).collect())
    }
}

/// What products read of a checkpoint's frozen weights where those stay as they are stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptAsStored {
    /// Names of the weights that stay, and of those that must be decoded: not quantised in blocks with a scale, or of projections
    /// that differ in it.
    pub stay: Vec<String>,
    /// See `stay`.
    pub decoded: Vec<String>,
    /// Bytes of those that stay.
    pub bytes: usize,
    /// Numbers of those that are decoded.
    pub numbers: usize,
    /// How most of those that stay are stored.
    pub encoding: Option<Encoding>,
}

impl KeptAsStored {
    /// Of the frozen weights that `is_frozen` says are frozen.
    pub fn of(checkpoint: &Checkpoint, is_frozen: impl Fn(&FrozenWeight) -> bool) -> Self {
        let (mut found, mut by_encoding) = (Self::default(), BTreeMap::new());
        for Fused { weight, paths, .. } in Fused::all(checkpoint.config()).filter(|fused| is_frozen(&fused.weight)) {
            let encodings = paths.iter().map(|path| checkpoint.encoding(&format!("{path}.weight")));
            let mut encodings = encodings.collect::<Vec<_>>();
            encodings.dedup();
            match encodings[..] {
                [Some(encoding)] if encoding.is_multiplied() => {
                    found.bytes += encoding.row_bytes(weight.cols) * weight.rows;
                    *by_encoding.entry(encoding).or_insert(0) += weight.rows * weight.cols;
                    found.stay.push(weight.name);
                }
                _ => {
                    found.numbers += weight.rows * weight.cols;
                    found.decoded.push(weight.name);
                }
            }
        }
        found.encoding = by_encoding.into_iter().max_by_key(|&(_, numbers)| numbers).map(|(encoding, _)| encoding);
        found
    }
}

impl LlamaConfig {
    /// Every weight that a model of this shape freezes where it is not trained, in the order in which a forward reads them.
    pub fn frozen_weights(&self) -> Vec<FrozenWeight> {
        Fused::all(self).map(|fused| fused.weight).collect()
    }

    /// The values of `frozen_weights()[index]`, row-major, from tensors by HF name and shape.
    ///
    /// # Errors
    /// Whatever `tensor` fails with.
    ///
    /// # Panics
    /// When there is no such weight.
    pub fn frozen_values<E>(
        &self,
        index: usize,
        mut tensor: impl FnMut(&str, &[usize]) -> Result<Vec<f32>, E>,
    ) -> Result<Vec<f32>, E> {
        match Fused::all(self).nth(index) {
            Some(fused) => fused.values(&mut tensor),
            None => panic!("weight {index} of {}", Fused::all(self).count()),
        }
    }
}
