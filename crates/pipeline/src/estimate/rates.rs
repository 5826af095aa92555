//! Speeds of this machine, kept from run to run.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use temper_kernels::{Cpu, Device};

use crate::cache::{Kept, Kind};
use crate::identity::NUMERICS;
use crate::prepare::Prepared;

/// Speeds of this machine, each measured once and kept, unless they are to be measured anew.
pub(crate) struct Rates<'p> {
    kept: Kept<'p>,
    anew: bool,
    pub device: Cpu,
    machine: Value,
}

impl<'p> Rates<'p> {
    pub fn of(prepared: &'p Prepared) -> Self {
        let device = prepared.device;
        // Of one processor, where the system names it; a cache folder may be shared by machines.
        let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor =
            cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
        let machine = json!([env!("CARGO_PKG_VERSION"), NUMERICS, device.describe(), processor]);
        Self { kept: prepared.kept(), anew: prepared.measure, device, machine }
    }

    /// A speed that depends on `of`.
    pub fn get<T: Serialize + DeserializeOwned>(&self, what: &str, of: Value, measure: impl FnOnce() -> T) -> T {
        let key = json!({"what": what, "machine": self.machine, "of": of});
        if let Some(known) = self.kept.get(Kind::Speed, &key).filter(|_| !self.anew) {
            return known;
        }
        let new = measure();
        self.kept.put(Kind::Speed, &key, &new);
        new
    }
}
