"""What the drivers that run two sides share: a watched process of JSON lines, and what a report says of the machine."""

import json
import os
import pathlib
import platform
import subprocess
import sys
import threading
import time

from machine import anonymous_bytes, busy_seconds

SAMPLE_SECONDS = 0.020
# Above this many cores taken by other work during a process, its times are not a measurement of the two sides.
BUSY_CORES = 0.10


def watched(command, threads):
    """Runs a process to its end: the records that it wrote, its highest RssAnon in bytes, cores that other work took."""
    limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")}
    own_start, busy_start, start = time.process_time(), busy_seconds(), time.monotonic()
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=os.environ | limits
    )
    peak, ended = 0, threading.Event()

    def sample():
        nonlocal peak
        while not ended.wait(SAMPLE_SECONDS):
            peak = max(peak, anonymous_bytes(child.pid))

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        records = [json.loads(line) for line in child.stdout]
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    finally:
        if child.returncode is None:
            child.kill()
        ended.set()
        sampler.join()
    elapsed, busy = time.monotonic() - start, busy_seconds() - busy_start
    ours = usage.ru_utime + usage.ru_stime + time.process_time() - own_start
    if child.returncode != 0:
        sys.exit(f"exit status {child.returncode}: {' '.join(map(str, command))}")
    return records, peak, max(0.0, (busy - ours) / elapsed)


def first_line_of(command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=pathlib.Path(__file__).parent).stdout.split("\n")[0]
    except (OSError, subprocess.CalledProcessError) as error:
        return f"unknown ({error})"


def machine():
    fields = {"model name": "unknown", "flags": ""}
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in fields:
            fields[name.strip()] = value.strip()
    wide = [flag for flag in fields["flags"].split() if flag in ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16")]
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cpus = len(os.sched_getaffinity(0))
    return f"{fields['model name']}, {cpus} logical CPUs ({' '.join(wide)}), {gib:.0f} GiB, {platform.release()}"


def free_path(folder, name, started):
    """`NAME-DATE.md`, or `NAME-DATE-2.md` and so on: a result is never overwritten."""
    folder.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        path = folder / f"{name}-{started:%Y-%m-%d}{'' if number == 1 else f'-{number}'}.md"
        if not path.exists():
            return path
        number += 1
