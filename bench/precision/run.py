"""bf16 against f32: validation losses of the same recipe under several seeds.

`cargo xtask bench precision` builds the binary and calls this with its path. Standard library only. Every seed is run
in both precisions; what they reach is written to `bench/results/precision-DATE.md`, the curves to
`docs/pictures/precision.svg`.

The runs are long. Each has a folder of its own under `--work`, named after all that it depends on: a finished one is
not repeated, one that was cut off goes on where it was. `--report` trains nothing and writes of the seeds that are
finished in both precisions.
"""

import argparse
import datetime
import hashlib
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from machine import processor  # noqa: E402
from picture import picture  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PRECISIONS = ("f32", "bf16")


def settings(args):
    """What the recipe is changed to, in both precisions: so many steps, few rows each, no judgement, no early end."""
    stage = {
        "max_steps": args.steps, "global_batch_size": args.batch, "learning_rate": args.learning_rate, "min_lr": 0,
        "eval_steps": args.eval_steps, "early_stopping_patience": 0, "keep_checkpoints": 1,
    }
    return [f"stages.0.{name}={value}" for name, value in stage.items()] + ["evaluation=null"]


def folder_of(args, precision, seed):
    """Recipe and settings name the folder."""
    recipe = (ROOT / args.recipe).read_bytes()
    depends = json.dumps([hashlib.sha256(recipe).hexdigest(), settings(args)])
    name = f"{precision}-seed{seed}-{hashlib.sha256(depends.encode()).hexdigest()[:8]}"
    return pathlib.Path(args.work) / name


def finish(args, precision, seed):
    """Runs it, goes on with it, or leaves it as it is."""
    folder = folder_of(args, precision, seed)
    if (folder / "summary.json").is_file():
        print(f"{folder.name}: finished before", flush=True)
        return
    if (folder / "recipe.json").is_file():
        command = [args.temper, "resume", str(folder)]
    else:
        sets = [*settings(args), f"seed={seed}", f"precision={precision}"]
        words = [word for value in sets for word in ("--set", value)]
        command = [args.temper, "run", args.recipe, "--no-cache", "--overwrite", "--output", str(folder), *words]
    print(f"{folder.name}: {command[1]}", flush=True)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=ROOT)
    if done.returncode != 0:
        sys.exit(f"exit status {done.returncode}: {' '.join(command)}\n{done.stderr}")


def validations(folder):
    """Loss by step."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if line["event"] == "validation"}


def engines(folders):
    """What computed: the devices, one for each precision, and the versions of the numerics and of Temper; one for all runs."""
    plans = [json.loads((folder / "plan.json").read_text()) for folder in folders]
    devices = {plan["device"] for plan in plans}
    found = {(plan["numerics"], plan["provenance"]["temper"]) for plan in plans}
    if len(found) != 1 or len(devices) != len(PRECISIONS):
        sys.exit(f"the runs were computed by different engines: {sorted(found)}, {sorted(devices)}; remove the older ones")
    return " and ".join(sorted(devices)), *found.pop()


def table(args, curves):
    """First, best and last loss of every run, and what the precision and what the seed change."""
    rows = ["| precision | seed | untrained | best | at step | after the last step |", "|---|---:|---:|---:|---:|---:|"]
    last = {precision: [] for precision in PRECISIONS}
    best = {precision: [] for precision in PRECISIONS}
    for precision in PRECISIONS:
        for seed, run in curves[precision].items():
            at = min(run, key=run.get)
            best[precision].append(run[at])
            last[precision].append(run[args.steps])
            rows.append(f"| {precision} | {seed} | {run[0]:.4f} | {run[at]:.4f} | {at} | {run[args.steps]:.4f} |")
    rows += ["", "| | best: mean [lowest, highest] | after the last step: mean [lowest, highest] |", "|---|---|---|"]
    shown = lambda values: f"{statistics.mean(values):.4f} [{min(values):.4f}, {max(values):.4f}]"  # noqa: E731
    rows += [f"| {precision} | {shown(best[precision])} | {shown(last[precision])} |" for precision in PRECISIONS]
    rows.append("| bf16 - f32, same seed | " + " | ".join(
        f"{statistics.mean(d):+.4f} [{min(d):+.4f}, {max(d):+.4f}]"
        for d in ([b - a for a, b in zip(of["f32"], of["bf16"])] for of in (best, last))
    ) + " |")
    apart = abs(statistics.mean(last["bf16"]) - statistics.mean(last["f32"]))
    spread = max(last["f32"]) - min(last["f32"])
    within = "within" if apart <= spread else "NOT within"
    verdict = (
        f"After {args.steps} steps the means of the two precisions are {apart:.4f} nats apart, {within} the spread of the f32 "
        f"runs, which is {spread:.4f} (highest - lowest of {len(last['f32'])} seeds)."
    )
    return verdict, rows


def write(args):
    """The result file and the picture."""
    done = [seed for seed in args.seeds if all((folder_of(args, p, seed) / "summary.json").is_file() for p in PRECISIONS)]
    if not done:
        sys.exit("no seed is finished in both precisions")
    left_out = f" Seeds not finished, and left out: {sorted(set(args.seeds) - set(done))}." if len(done) < len(args.seeds) else ""
    folders = {p: {seed: folder_of(args, p, seed) for seed in done} for p in PRECISIONS}
    device, numerics, version = engines([folder for of in folders.values() for folder in of.values()])
    curves = {p: {seed: validations(folder) for seed, folder in of.items()} for p, of in folders.items()}
    verdict, rows = table(args, curves)
    head = [
        f"# bf16 against f32, {datetime.date.today()}", "",
        f"{processor()[0]}, {os.cpu_count()} cores, {platform.system()} {platform.release()}; temper {version}, numerics {numerics}; "
        f"{device}; {args.recipe} with", "",
        "".join(f"    {value}\n" for value in settings(args)),
        f"{verdict}{left_out} Validation losses are nats per trained token, over all validation rows.", "",
    ]
    path = pathlib.Path(args.results) / f"precision-{datetime.date.today()}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(head + rows) + "\n")
    pathlib.Path(args.picture).parent.mkdir(parents=True, exist_ok=True)
    pathlib.Path(args.picture).write_text(picture(curves))
    print(f"wrote {path} and {args.picture}\n{verdict}{left_out}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--temper", required=True)
    parser.add_argument("--recipe", default="recipes/icd10.yaml")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=2, help="rows of a step")
    parser.add_argument("--learning-rate", type=float, default=7.5e-4)
    parser.add_argument("--eval-steps", type=int, default=50)
    parser.add_argument("--work", default=str(ROOT / "runs/precision"), help="where the runs are kept")
    parser.add_argument("--report", action="store_true", help="train nothing, write of what is finished")
    parser.add_argument("--results", default=str(ROOT / "bench/results"))
    parser.add_argument("--picture", default=str(ROOT / "docs/pictures/precision.svg"))
    args = parser.parse_args()
    pathlib.Path(args.work).mkdir(parents=True, exist_ok=True)
    for seed in [] if args.report else args.seeds:
        for precision in PRECISIONS:
            finish(args, precision, seed)
    write(args)


if __name__ == "__main__":
    main()
