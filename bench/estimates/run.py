"""What `temper plan` says beforehand, beside what the run then took: time, memory, disk, tokens.

`cargo xtask bench estimates` builds the binary and calls this with its path. Standard library only. For each case the plan
is asked for, the recipe is run in a folder of its own, and the plan is asked for once more, so that a machine whose speed
changed meanwhile is seen. Memory is the highest RssAnon, sampled every 20 ms. The CPU time that other work took is
measured; times on a busy machine are those of that machine.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import kinds  # noqa: E402
from driver import free_path, measured  # noqa: E402
from machine import BUSY_CORES, processor  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
# Planned / happened within this is what we promise; of memory, within the second.
PROMISE, MEMORY_PROMISE = 0.25, 0.10

SHORT = ["stages.0.max_steps=6", "stages.0.warmup_steps=2", "stages.0.eval_steps=3", "evaluation=null"]
FULL = [
    *SHORT, "stages.0.mode=full", "stages.0.lora_rank=null", "stages.0.lora_alpha=null", "stages.0.target_modules=null",
    "stages.0.learning_rate=1e-4", "stages.0.min_lr=0",
]
# Changes of the recipe; a case of another recipe names it first.
CASES = {
    "icd10, 10 steps": ["stages.0.max_steps=10", "stages.0.warmup_steps=2", "stages.0.eval_steps=5"],
    "icd10, 10 steps, no judgement": [
        "stages.0.max_steps=10", "stages.0.warmup_steps=2", "stages.0.eval_steps=5", "evaluation=null",
    ],
    "icd10, full rank, 6 steps, no judgement": FULL,
    "full rank, recomputed": [*FULL, "stages.0.activation_checkpointing=true"],
    "Muon": [*FULL, "stages.0.optimizer=muon"],
    "LoRA, then full rank": [
        *SHORT, "stages.0.mode=lora_then_full", "stages.0.min_lr=0",
    ],
    "DoRA": [*SHORT, "stages.0.use_dora=true"],
    "a table trained": [*SHORT, "stages.0.modules_to_save=[embed_tokens]"],
    "frozen weights as stored": [*SHORT, "frozen_weights=as_stored"],
    "frozen weights as stored, judged": ["stages.0.max_steps=2", "stages.0.warmup_steps=1", "frozen_weights=as_stored"],
    "continued pre-training": ["cpt"],
    "preferences": ["dpo"],
}


def checked(command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=ROOT)
    if done.returncode not in (0, 4):
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    return done.stdout


def recipe_of(args, case, aside):
    """The recipe of a case, and the options that change it."""
    changes = CASES[case]
    if changes[0] in ("cpt", "dpo"):
        return kinds.recipe(changes[0], aside), []
    return args.recipe, [word for value in changes for word in ("--set", value)]


def plan(args, recipe, sets):
    start = time.monotonic()
    plan = json.loads(checked([args.temper, "plan", str(recipe), "--json", *sets]))
    return plan, time.monotonic() - start


def measured_run(args, recipe, sets, folder):
    command = [args.temper, "run", str(recipe), "--json", "--no-cache", "--output", str(folder), *sets]
    return measured(command, cwd=ROOT, allowed=(0, 4))


def happened(folder, peak):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["event"] == "step"]
    summary = json.loads((folder / "summary.json").read_text())
    judgement = folder / "judgement.json"
    # The merged weights are written just before the judgement begins.
    merged = folder / "merged/model.safetensors"
    judged = judgement.stat().st_mtime - merged.stat().st_mtime if judgement.exists() else 0.0
    return {
        "time in all, s": summary["seconds"],
        "training steps, s": sum(step["seconds"] for step in steps),
        "judgement, s": judged,
        "memory, MiB": peak / 2**20,
        "disk, MiB": sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 2**20,
        "steps": len(steps),
        "tokens": sum(step["processed_tokens"] for step in steps),
        "trained tokens": sum(step["trained_tokens"] for step in steps),
    }


def training_seconds(whole):
    return whole["seconds"] - sum(whole[f"{part}_seconds"] for part in ("validation", "judgement", "saving"))


def planned(plan):
    whole = plan["estimate"]
    return {
        "time in all, s": whole["seconds"],
        "training steps, s": training_seconds(whole),
        "judgement, s": whole["judgement_seconds"],
        "memory, MiB": whole["memory_bytes"] / 2**20,
        "disk, MiB": whole["disk_bytes"] / 2**20,
        "steps": sum(stage["steps"] for stage in plan["stages"]),
        "tokens": whole["processed_tokens"],
        "trained tokens": whole["trained_tokens"],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--temper", required=True)
    parser.add_argument("--recipe", default="recipes/icd10.yaml")
    parser.add_argument("--case", action="append", choices=list(CASES), help="only these; all when left out")
    parser.add_argument("--results", default=str(ROOT / "bench/results"))
    args = parser.parse_args()

    out, worst, worst_memory = [], 0.0, 0.0
    for case in args.case or list(CASES):
        with tempfile.TemporaryDirectory() as aside:
            recipe, sets = recipe_of(args, case, aside)
            before, took = plan(args, recipe, sets)
            folder = pathlib.Path(aside) / "run"
            taken = measured_run(args, recipe, sets, folder)
            real = happened(folder, taken.peak_anon_bytes)
            after, _ = plan(args, recipe, sets)
        first, second = planned(before), planned(after)
        busy = ""
        if taken.others_cores > BUSY_CORES:
            busy = f"; BUSY: other work took {taken.others_cores:.1f} cores, load {taken.load_before:.1f} before"
        out += [f"## {case}", "", f"Plan in {took:.1f} s{busy}.", ""]
        out += ["| | planned before | planned after | happened | planned before / happened |", "|---|---|---|---|---|"]
        for what, value in real.items():
            if not value:
                continue
            ratio = first[what] / value
            if what == "memory, MiB":
                worst_memory = max(worst_memory, abs(ratio - 1))
            elif what in ("time in all, s", "disk, MiB"):
                worst = max(worst, abs(ratio - 1))
            elif what in ("steps", "tokens", "trained tokens") and first[what] != value:
                sys.exit(f"{case}: {what}: planned {first[what]}, happened {value}")
            out.append(f"| {what} | {first[what]:,.0f} | {second[what]:,.0f} | {value:,.0f} | {ratio:.2f} |")
        out.append("")
        print("\n".join(out[-(len(real) + 7):]), flush=True)
    said = lambda kept: "kept" if kept else "NOT kept"  # noqa: E731
    kept, of_memory = said(worst <= PROMISE), said(worst_memory <= MEMORY_PROMISE)
    head = [
        f"# Estimates against what happened, {datetime.date.today()}", "",
        f"{processor()[0]}, {os.cpu_count()} cores, {platform.system()} {platform.release()}; "
        f"{checked([args.temper, '--version']).strip()}; {args.recipe}.",
        f"Furthest off in time in all or disk: {100 * worst:.0f} %; the promise of {100 * PROMISE:.0f} % was {kept}. In "
        f"memory: {100 * worst_memory:.0f} %; the promise of {100 * MEMORY_PROMISE:.0f} % was {of_memory}.", "",
    ]
    path = free_path(pathlib.Path(args.results), "estimates", datetime.date.today())
    path.write_text("\n".join(head + out))
    print(f"wrote {path}; the promise was {kept}, of memory {of_memory}")


if __name__ == "__main__":
    main()
