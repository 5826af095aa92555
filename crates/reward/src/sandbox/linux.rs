//! The parts of the sandbox on Linux. Each holds from here on for this process and all that it becomes or starts.

use std::collections::BTreeMap;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, RestrictionStatus, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};

use super::{Confinement, FILE_BYTES, Parts};

/// The newest interface of Landlock that is used; older kernels hold what they know of it.
const NEWEST: ABI = ABI::V6;
/// Numbers of the x32 interface, which some kernels of x86-64 have beside their own.
const X32: i64 = 0x4000_0000;

/// Confines this process as far as the system can.
pub fn confine(confinement: &Confinement) -> Parts {
    let mut parts = Parts::default();
    let mut keep = |done: Result<(), String>| match done {
        Ok(()) => true,
        Err(problem) => {
            parts.problems.push(problem);
            false
        }
    };
    let writes = keep(writes(&confinement.folder));
    let limits = keep(limits(confinement));
    // Last, since it denies what the others need.
    let calls = keep(capabilities().and_then(|()| calls()));
    Parts { writes, calls, limits, ..parts }
}

fn limits(confinement: &Confinement) -> Result<(), String> {
    let all = [
        (Resource::As, confinement.memory),
        (Resource::Cpu, confinement.cpu_seconds),
        (Resource::Fsize, Some(FILE_BYTES)),
        (Resource::Nofile, Some(256)),
        (Resource::Core, Some(0)),
    ];
    for (resource, limit) in all {
        if let Some(limit) = limit {
            setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })
                .map_err(|error| format!("setrlimit: {error}"))?;
        }
    }
    Ok(())
}

/// Landlock: everything may be read and run, and written in the folder only.
fn writes(folder: &Path) -> Result<(), String> {
    let status = restrict(folder).map_err(|error| format!("Landlock: {error}"))?;
    match status.ruleset {
        RulesetStatus::NotEnforced => Err("Landlock: the kernel has none, or it is switched off".to_owned()),
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
    }
}

fn restrict(folder: &Path) -> Result<RestrictionStatus, Box<dyn std::error::Error>> {
    // No devices, pipes or sockets may be made, not in the folder either.
    let own = AccessFs::from_all(NEWEST)
        & !(AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::MakeFifo | AccessFs::MakeSock | AccessFs::IoctlDev);
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .add_rule(PathBeneath::new(PathFd::new("/")?, AccessFs::from_read(NEWEST)))?
        .add_rule(PathBeneath::new(PathFd::new(folder)?, own))?
        .add_rule(PathBeneath::new(PathFd::new("/dev/null")?, AccessFs::WriteFile | AccessFs::ReadFile))?
        .restrict_self()?;
    Ok(status)
}

/// No power over the system, also where it is the administrator who trains.
fn capabilities() -> Result<(), String> {
    let none = rustix::thread::CapabilitySet::empty();
    let none = rustix::thread::CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_no_new_privs(true).map_err(|error| format!("no_new_privs: {error}"))?;
    rustix::thread::set_capabilities(None, none).map_err(|error| format!("capset: {error}"))
}

/// seccomp: the calls below fail with "operation not permitted".
fn calls() -> Result<(), String> {
    let filter = |rules: BTreeMap<i64, Vec<SeccompRule>>, errno: i32| -> Result<(), String> {
        let arch = std::env::consts::ARCH.try_into().map_err(|error| format!("seccomp: {error}"))?;
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno as u32), arch)
            .map_err(|error| format!("seccomp: {error}"))?;
        let program: BpfProgram = filter.try_into().map_err(|error| format!("seccomp: {error}"))?;
        apply_filter(&program).map_err(|error| format!("seccomp: {error}"))
    };
    // What `clone3` is asked cannot be looked into; where it is missing, libraries use `clone`, whose flags can.
    let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    filter(clone3, libc::ENOSYS)?;
    filter(rules().map_err(|error| format!("seccomp: {error}"))?, libc::EPERM)
}

fn rules() -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = DENIED.iter().map(|call| (*call, Vec::new())).collect();
    #[cfg(target_arch = "x86_64")]
    rules.extend(DENIED_X86.iter().map(|call| (*call, Vec::new())));
    let rule = |argument, operation, value| {
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operation, value)?;
        SeccompRule::new(vec![condition])
    };
    let own = u64::from(std::process::id());
    // Threads are clones that share the process.
    let thread = libc::CLONE_THREAD as u64;
    rules.insert(libc::SYS_clone, vec![rule(0, SeccompCmpOp::MaskedEq(thread), 0)?]);
    for call in [libc::SYS_kill, libc::SYS_tgkill, libc::SYS_rt_sigqueueinfo, libc::SYS_rt_tgsigqueueinfo] {
        rules.insert(call, vec![rule(0, SeccompCmpOp::Ne, own)?]);
    }
    // Limits may be asked for, not set: the pointer to a new one is null. Its halves are looked at one by one.
    let set = |argument| SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0);
    rules.insert(libc::SYS_prlimit64, vec![SeccompRule::new(vec![set(2)?])?]);
    // Typing into the terminal of the user.
    rules.insert(libc::SYS_ioctl, vec![rule(1, SeccompCmpOp::Eq, libc::TIOCSTI)?]);
    if cfg!(target_arch = "x86_64") {
        let x32: Vec<_> = rules.iter().map(|(call, rules)| (call | X32, rules.clone())).collect();
        rules.extend(x32);
    }
    Ok(rules)
}

/// Calls that are denied whatever they are asked.
const DENIED: &[i64] = &[
    // The network, and rings, which could reach it unseen. `socketpair` stays: it reaches nobody outside.
    libc::SYS_socket,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // Other processes.
    libc::SYS_tkill,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_setpriority,
    libc::SYS_ioprio_set,
    libc::SYS_setrlimit,
    // What Landlock leaves: modes, owners, attributes, times, lengths by path, nodes.
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    libc::SYS_utimensat,
    libc::SYS_truncate,
    libc::SYS_mknodat,
    libc::SYS_open_by_handle_at,
    // What outlives the process.
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_msgget,
    libc::SYS_msgctl,
    libc::SYS_msgsnd,
    libc::SYS_semget,
    libc::SYS_semctl,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Namespaces and mounts.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    // The kernel and the machine.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_syslog,
    libc::SYS_personality,
    libc::SYS_fanotify_init,
    // Added since, by their numbers, which are the same on all machines.
    FCHMODAT2,
    SETXATTRAT,
    REMOVEXATTRAT,
];

const FCHMODAT2: i64 = 452;
const SETXATTRAT: i64 = 463;
const REMOVEXATTRAT: i64 = 466;

/// Calls that newer machines have under other names only.
#[cfg(target_arch = "x86_64")]
const DENIED_X86: &[i64] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_mknod,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
];
