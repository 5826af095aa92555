//! The base's frozen weights, packed once and mapped from the cache: `packed/KEY/` holds the file and `key.json`.
//!
//! Loading them costs page faults; runs that go on at the same time share one copy in memory, which is the system's and not
//! the process's own. A file is held against its checksums whenever it is opened; one that is damaged is written anew.

use std::fs;
use std::path::Path;

use serde_json::json;
use temper_kernels::{Cpu, FrozenWeight, PackedError, PackedWeights};
use temper_model::{Llama, LlamaConfig, Tuning, WeightsError};
use temper_run::{RunError, to_json_pretty, write_dir_atomic};

use crate::Base;
use crate::cache::{Cache, KEY, Kind, key_of, touch};
use crate::checkpoints::io;
use crate::identity::NUMERICS;

const FILE: &str = "weights";

/// What became of the packed weights of a base.
#[derive(Default)]
pub(crate) struct Packed {
    weights: Option<PackedWeights>,
    /// Whether weights that are not packed stay as they are stored where they can, each model with its own.
    as_stored: bool,
    /// Why they are not used, or had to be written anew: for a warning.
    pub problem: Option<String>,
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error(transparent)]
    Packed(#[from] PackedError),
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error(transparent)]
    Run(#[from] RunError),
}

impl Packed {
    /// None: what products can read as it is stored stays so.
    pub fn as_stored() -> Self {
        Self { as_stored: true, ..Self::default() }
    }

    /// Those of the cache, written first where they are not there.
    pub fn of(cache: &Cache, base: &Base, device: &Cpu) -> Self {
        let ingredients = json!({
            "what": format!("{}, {}", base.resolved.description, device.packing()),
            "numerics": NUMERICS,
            "packing": device.packing(),
            "base": base.resolved.sha256s.iter().map(|(_, hash)| hash).collect::<Vec<_>>(),
        });
        let key = key_of(&ingredients);
        let entry = cache.folder(Kind::Packed).join(&key);
        let mut problem = None;
        if entry.is_dir() {
            match PackedWeights::open(&entry.join(FILE), device, &key) {
                Ok(weights) => {
                    touch(&entry.join(KEY));
                    return Self { weights: Some(weights), problem, ..Self::default() };
                }
                Err(error) => problem = Some(format!("packed weights are written anew: {error}")),
            }
        }
        let written = to_json_pretty(&ingredients).map_err(Problem::from).and_then(|text| {
            write(&entry, base, device, &key, &text)?;
            Ok(PackedWeights::open(&entry.join(FILE), device, &key)?)
        });
        match written {
            Ok(weights) => Self { weights: Some(weights), problem, ..Self::default() },
            Err(error) => Self { problem: Some(format!("packed weights are not kept: {error}")), ..Self::default() },
        }
    }

    /// A model over the base: frozen weights from here, where they are, and the rest from its files.
    pub fn load(&self, base: &Base, device: Cpu, tuning: &Tuning) -> Result<Llama<Cpu>, WeightsError> {
        if self.as_stored {
            let read = |name: &str, shape: &[usize]| base.checkpoint.stored(name, shape);
            return Llama::load(device, base.checkpoint.config(), tuning, read);
        }
        let find = |weight: &FrozenWeight| self.weights.as_ref()?.find(weight);
        let read = |name: &str, shape: &[usize]| base.checkpoint.tensor(name, shape);
        Llama::load_over(device, base.checkpoint.config(), tuning, find, read)
    }
}

fn write(entry: &Path, base: &Base, device: &Cpu, key: &str, ingredients: &str) -> Result<(), Problem> {
    let config = base.checkpoint.config();
    let folder = entry.parent().unwrap_or(entry);
    fs::create_dir_all(folder).map_err(io("create", folder))?;
    write_dir_atomic(entry, |aside| {
        let values = |index| {
            let values = config.frozen_values(index, |name, shape| base.checkpoint.tensor(name, shape))?;
            Ok::<_, Problem>(values)
        };
        PackedWeights::write(&aside.join(FILE), device, key, &config.frozen_weights(), values)?;
        let mark = aside.join(KEY);
        Ok(fs::write(&mark, ingredients).map_err(io("write", &mark))?)
    })
}

/// Bytes of the packed weights of a base of this shape.
pub(crate) fn packed_bytes(device: &Cpu, config: &LlamaConfig) -> usize {
    config.frozen_weights().iter().map(|weight| device.packed_bytes(weight)).sum()
}
