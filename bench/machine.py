"""What the drivers ask of the machine: what it is, and what happens on it while a process runs."""

import os
import pathlib
import platform
import subprocess

# Above this many cores taken by other work during a process, its times are not a measurement.
BUSY_CORES = 0.10


def anonymous_bytes(pid):
    """RssAnon of a running process; 0 when it is gone or has no memory any more."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("RssAnon:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def busy_seconds():
    """CPU time the whole machine has spent on anything but idling, over all cores, since it started."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def first_line_of(command):
    """What a command prints first, or that it cannot be known."""
    here = pathlib.Path(__file__).resolve().parent
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=here).stdout.split("\n")[0]
    except (OSError, subprocess.CalledProcessError) as error:
        return f"unknown ({error})"


def processor():
    """Name and flags of the processor."""
    fields = {"model name": platform.processor() or "unknown", "flags": ""}
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in fields:
            fields[name.strip()] = value.strip()
    return fields["model name"], fields["flags"].split()


def has_bf16_products():
    """Whether the processor multiplies bf16 by instructions of its own."""
    return bool({"avx512_bf16", "amx_bf16"} & set(processor()[1]))


def about_machine():
    """Processor, cores, the instructions that matter here, memory and kernel, in a line."""
    name, flags = processor()
    wide = [flag for flag in flags if flag in ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16")]
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cpus = len(os.sched_getaffinity(0))
    return f"{name}, {cpus} logical CPUs ({' '.join(wide)}), {gib:.0f} GiB, {platform.release()}"


def about_temper(binary):
    """The version, commit and compiler of a binary, in a line."""
    return (
        f"{first_line_of([binary, '--version']) if binary else 'not run'}, "
        f"commit {first_line_of(['git', 'describe', '--always', '--dirty', '--abbrev=12'])}, "
        f"{first_line_of(['rustc', '--version'])}, release profile"
    )
