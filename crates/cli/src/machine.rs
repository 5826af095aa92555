//! What this machine has: memory, disk, threads, instructions.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use sysinfo::{Disks, MemoryRefreshKind, RefreshKind, System};
use temper_kernels::Cpu;

use crate::command::Failure;

/// Names the instructions to use rather than the best that the processor has: the same bits on unlike machines.
const INSTRUCTIONS: &str = "TEMPER_INSTRUCTIONS";

/// Takes them from the environment.
pub fn choose_instructions() -> Result<(), Failure> {
    let Some(name) = std::env::var_os(INSTRUCTIONS).filter(|name| !name.is_empty()) else { return Ok(()) };
    Cpu::choose_instructions(&name.to_string_lossy()).map_err(|here| {
        let (name, here) = (name.display(), here.join(", "));
        Failure::input(anyhow!(
            "{INSTRUCTIONS}={name}: this processor has {here}\n  hint: leave it out to use the first"
        ))
    })
}

/// Memory in bytes. Within a control group its limit counts.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Memory {
    /// All there is.
    pub total: u64,
    /// What a new process can have.
    pub available: u64,
}

/// Memory now.
pub fn memory() -> Memory {
    let kind = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(kind);
    let (mut total, mut available) = (system.total_memory(), system.available_memory());
    if let Some(limits) = system.cgroup_limits() {
        total = total.min(limits.total_memory);
        available = available.min(limits.free_memory);
    }
    Memory { total, available }
}

/// Bytes free on the disk that holds `path` (or the nearest folder above it that exists); none where it cannot be told.
pub fn disk_free(path: &Path) -> Option<u64> {
    let path = std::path::absolute(path).ok()?;
    let there: PathBuf = path.ancestors().find_map(|folder| folder.canonicalize().ok())?;
    let disks = Disks::new_with_refreshed_list();
    let holders = disks.list().iter().filter(|disk| there.starts_with(disk.mount_point()));
    holders.max_by_key(|disk| disk.mount_point().as_os_str().len()).map(sysinfo::Disk::available_space)
}
