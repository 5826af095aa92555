"""What the drivers share: one process of one side with what it took of the machine, and the file of a result."""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from machine import BUSY_CORES, anonymous_bytes, busy_seconds

SAMPLE_SECONDS = 0.020


class Taken:
    """What a finished process took of the machine."""

    def __init__(self, status, peak_anon_bytes, others_cores, load_before):
        self.status = status
        # Highest RssAnon from start to end: pages of mapped files, which the kernel may drop, do not count.
        self.peak_anon_bytes = peak_anon_bytes
        # CPU time of everything else meanwhile, in cores.
        self.others_cores = others_cores
        self.load_before = load_before


def measured(command, on_line=lambda line: None, environment=None, cwd=None, allowed=(0,)):
    """Runs a command to its end, hands over its standard output line by line. Its standard error is shown, and we end, where
    its exit status is not an allowed one."""
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        own_start, busy_start, start = time.process_time(), busy_seconds(), time.monotonic()
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=cwd,
            env=os.environ | (environment or {}),
        )
        peak, ended = 0, threading.Event()

        def sample():
            nonlocal peak
            while not ended.wait(SAMPLE_SECONDS):
                peak = max(peak, anonymous_bytes(child.pid))

        sampler = threading.Thread(target=sample)
        sampler.start()
        try:
            for line in child.stdout:
                on_line(line)
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        finally:
            if child.returncode is None:
                child.kill()
            ended.set()
            sampler.join()
        elapsed, busy = time.monotonic() - start, busy_seconds() - busy_start
        ours = usage.ru_utime + usage.ru_stime + time.process_time() - own_start
        if child.returncode not in allowed:
            errors.seek(0)
            sys.exit(f"exit status {child.returncode}: {' '.join(map(str, command))}\n{errors.read()}")
    return Taken(child.returncode, peak, max(0.0, (busy - ours) / elapsed), load_before)


def threads_environment(threads):
    """How many threads either side may use, whatever it asks for them."""
    return {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")}


class Process:
    """One finished process of a side: its steps after warm-up and what it took of the machine."""

    def __init__(self, about, steps, warmup, taken):
        self.about = about
        self.steps = steps[warmup:]
        self.seconds = [step["seconds"] for step in self.steps]
        self.first_loss, self.last_loss = steps[0]["loss"], steps[-1]["loss"]
        self.median = statistics.median(self.seconds)
        self.peak_anon_bytes = taken.peak_anon_bytes
        self.others_cores = taken.others_cores
        self.load_before = taken.load_before


def run_side(command, threads):
    """Runs one side, which prints JSON lines: its records in order, and what it took of the machine."""
    records = []
    taken = measured(command, lambda line: records.append(json.loads(line)), threads_environment(threads))
    return records, taken


def run_process(command, threads, steps, warmup):
    """Runs a side that prints `{"about": ...}` first, then `{"step": ..., "seconds": ..., "loss": ...}` each."""
    records, taken = run_side(command, threads)
    about, done = {}, [record for record in records if "step" in record]
    for record in records:
        about |= record.get("about", {})
    if len(done) != warmup + steps:
        sys.exit(f"expected {warmup + steps} steps, got {len(done)}: {' '.join(command)}")
    return Process(about, done, warmup, taken)


def heading(title, started, busiest):
    """First lines of a report: what it is of, and whether the machine was too busy for it to be a measurement."""
    lines = [f"# {title}, {started:%Y-%m-%d %H:%M}", ""]
    if busiest > BUSY_CORES:
        lines += [f"**BUSY MACHINE: other work took up to {busiest:.2f} cores. Not a measurement; run it again.**", ""]
    return lines


def peer_versions(processes):
    """Packages of the peers as their processes told them, and the Python of the drivers."""
    versions = {}
    for process in processes:
        versions |= process.about.get("versions", {})
    packages = ", ".join(f"{name} {version}" for name, version in versions.items()) or "not run"
    return f"{packages}, Python {platform.python_version()}"


def free_path(folder, name, started, suffix=".md"):
    """`NAME-DATE.md`, or `NAME-DATE-2.md` and so on: a result is never overwritten."""
    folder.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        path = folder / f"{name}-{started:%Y-%m-%d}{'' if number == 1 else f'-{number}'}{suffix}"
        if not path.exists():
            return path
        number += 1
