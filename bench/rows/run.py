"""Trained tokens a second on real rows of uneven length: `temper run` and TRL's SFTTrainer, alternating, in one run.

`cargo xtask bench rows` builds the binary, makes the peers' environment and calls this with their paths. Standard library
only. Both sides take the same files: rows of the ICD-10 example in the proportions of its recipe (of ten, eight diagnoses,
one piece of prose, one chat), the same base, LoRA of the same rank on the same modules, two passes in steps of as many rows,
loss on the same tokens: what an assistant says and the end of its turn, all of a text. Each side orders and batches the rows
as it does by itself. The first pass is warm-up, the second is measured whole: so both sides are measured on the same rows, and
must train the same number of tokens, or there is no report.

The number of a process is the trained tokens of the second pass over the seconds of its steps. TRL is run in several modes
(see `trl_side.py`), and the ratio is to the fastest of them. bf16 is left out where the processor has no instructions for it.
"""

import argparse
import datetime
import json
import pathlib
import random
import statistics
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent))
from driver import Process, free_path, heading, measured, peer_versions  # noqa: E402
from driver import run_process, threads_environment  # noqa: E402
from machine import about_machine, about_temper, has_bf16_products  # noqa: E402

# Of ten rows, as recipes/icd10.yaml mixes them.
SOURCES = [("data/icd10/train.jsonl", 8), ("data/general/prose.jsonl", 1), ("data/general/chat.jsonl", 1)]
FIELDS = ("messages", "text")
MODES = ["padded", "grouped", "padding-free", "packed"]

RECIPE = """\
name: rows
base: {base}
seed: 42
precision: {precision}
stages:
  - kind: sft
    mode: lora
    lora_rank: 16
    lora_alpha: 32
    target_modules: all-linear
    train: [{files}]
    max_length: 256
    global_batch_size: {batch}
    micro_batch_tokens: 1024
    {length}
    learning_rate: 2e-4
    lr_scheduler_type: constant
    warmup_steps: 0
    save_steps: 1000
"""


def write_rows(folder, count):
    """Draws rows of each source by a fixed seed, none twice, into a file each; returns the files."""
    files = []
    for name, part in SOURCES:
        lines = [json.loads(line) for line in (ROOT / name).read_text(encoding="utf-8").splitlines()]
        rows = [{field: line[field] for field in FIELDS if field in line} for line in lines]
        files.append(folder / pathlib.Path(name).with_stem(f"{len(files)}-{pathlib.Path(name).stem}").name)
        drawn = random.Random(name).sample(rows, count * part // 10)
        files[-1].write_text("".join(json.dumps(row) + "\n" for row in drawn), encoding="utf-8")
    return [str(file) for file in files]


def temper_run(recipe, output, args):
    command = [args.temper, "run", str(recipe), "--json", "--no-cache", "--output", str(output)]
    return measured(command, environment=threads_environment(args.threads), cwd=ROOT)


def temper_process(recipe, args):
    """One run without validation and judgement; the steps are those of its metrics."""
    with tempfile.TemporaryDirectory() as aside:
        output = pathlib.Path(aside) / "run"
        taken = temper_run(recipe, output, args)
        lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["event"] == "step"]
    if len(steps) != 2 * args.steps:
        sys.exit(f"expected {2 * args.steps} steps of temper run, got {len(steps)}")
    return Process({}, steps, args.steps, taken)


def sides(files, recipe, base, args):
    """Name of each side and what runs a process of it, in the order they alternate."""
    for precision in args.precisions:
        yield f"Temper {precision}", lambda precision=precision: temper_process(recipe(precision), args)
    for mode in args.modes if args.peer_python else []:
        for dtype in args.peer_dtypes:
            command = [args.peer_python, str(HERE / "trl_side.py"), "--base", str(base), "--rows", *files,
                       "--mode", mode, "--dtype", dtype, "--batch", str(args.batch), "--threads", str(args.threads)]
            yield f"TRL {mode} {dtype}", lambda command=command: run_process(
                command, args.threads, args.steps, args.steps)


def rate(process, what="trained_tokens"):
    return sum(step[what] for step in process.steps) / sum(process.seconds)


def middle(processes, what="trained_tokens"):
    return statistics.median(rate(process, what) for process in processes)


def report(results, args, started):
    everything = [process for processes in results.values() for process in processes]
    busiest = max(process.others_cores for process in everything)
    out = heading("Rows of uneven length", started, busiest)
    out += [
        f"- Machine: {about_machine()}; other work took at most {busiest:.2f} cores during any process.",
        f"- Temper: {about_temper(args.temper)}.",
        f"- Peer: {peer_versions(everything)}.",
        f"- {args.batch * args.steps} rows in {args.steps} steps of {args.batch}, twice, {args.threads} threads; "
        "SmolLM2-135M-Instruct, LoRA r 16, alpha 32 on all linears, AdamW, at most 256 tokens a row.",
        f"- {args.rounds} processes a side, alternating. Trained tokens of the second pass over the seconds of its steps; the "
        "median of the processes, in brackets the lowest and the highest.",
        "- Computed tokens are those of the rows as they went through the model, padding included.", "",
        "| side | trained tokens/s | computed tokens/s | computed / trained | peak anonymous MiB | loss first -> last |",
        "|---|---|---|---|---|---|",
    ]
    for side, processes in results.items():
        rates = [rate(process) for process in processes]
        computed = middle(processes, "processed_tokens")
        mib = statistics.median(process.peak_anon_bytes for process in processes) / 2**20
        out.append(f"| {side} | {middle(processes):.1f} ({min(rates):.1f}-{max(rates):.1f}) | {computed:.0f} "
                   f"| {computed / middle(processes):.2f} | {mib:.0f} "
                   f"| {processes[0].first_loss:.3f} -> {processes[0].last_loss:.3f} |")
    peers = [side for side in results if side.startswith("TRL")]
    if peers:
        fastest = max(peers, key=lambda side: middle(results[side]))
        for side in (side for side in results if side not in peers):
            ratios = [rate(a) / rate(b) for a, b in zip(results[side], results[fastest])]
            out += ["", f"{side} / {fastest}, the fastest of TRL's modes: **{middle(results[side]) / middle(results[fastest]):.2f}** "
                    f"({min(ratios):.2f}-{max(ratios):.2f} over the rounds)."]
    out += ["", "## Every process, in the order it ran", "",
            "| side | s of each step of the second pass | trained tokens/s | load before | cores taken by others |",
            "|---|---|---|---|---|"]
    for in_round in zip(*results.values()):
        for side, process in zip(results, in_round):
            steps = " ".join(f"{seconds:.2f}" for seconds in process.seconds)
            out.append(f"| {side} | {steps} | {rate(process):.1f} | {process.load_before:.2f} | {process.others_cores:.2f} |")
    return "\n".join(out) + "\n"


def check_totals(results):
    """Both sides train the same tokens, or their rates say nothing."""
    def trained(process):
        return sum(step["trained_tokens"] for step in process.steps)

    totals = {side: {trained(process) for process in processes} for side, processes in results.items()}
    if len(set().union(*totals.values())) != 1:
        sys.exit(f"the sides train different numbers of tokens: {totals}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--temper", required=True, help="the shipped binary")
    parser.add_argument("--peer-python", help="Python with PyTorch, transformers, PEFT and TRL; left out: Temper alone")
    parser.add_argument("--base", required=True, help="SmolLM2-135M-Instruct as GGUF")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--precisions", nargs="+", choices=["f32", "bf16"], help="Temper's",
                        default=["f32", "bf16"] if has_bf16_products() else ["f32"])
    parser.add_argument("--peer-dtypes", nargs="+", choices=["f32", "bf16"],
                        default=["f32", "bf16"] if has_bf16_products() else ["f32"])
    parser.add_argument("--rounds", type=int, default=5, help="processes a side (default 5)")
    parser.add_argument("--steps", type=int, default=4, help="steps of a pass (default 4)")
    parser.add_argument("--batch", type=int, default=20, help="rows of a step (default 20, the recipe's)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--results", type=pathlib.Path, default=HERE.parent / "results", help="folder of the report")
    args = parser.parse_args()

    started = datetime.datetime.now()
    with tempfile.TemporaryDirectory() as aside:
        aside = pathlib.Path(aside)
        files = write_rows(aside, args.batch * args.steps)

        def write_recipe(base, length, precision="f32"):
            recipe = aside / f"recipe-{precision}.yaml"
            said = {"base": base, "files": ", ".join(files), "batch": args.batch, "length": length, "precision": precision}
            recipe.write_text(RECIPE.format(**said))
            return recipe

        # transformers' reading of a GGUF's tokenizer does not part digits; what Temper exports does. So both sides
        # start from the folder that a step of Temper leaves.
        temper_run(write_recipe(pathlib.Path(args.base).resolve(), "max_steps: 1"), aside / "first", args)
        base = aside / "first/merged"
        runs = dict(sides(files, lambda precision: write_recipe(base, "num_train_epochs: 2", precision), base, args))
        results = {side: [] for side in runs}
        for number in range(1, args.rounds + 1):
            for side, run in runs.items():
                process = run()
                results[side].append(process)
                print(f"round {number}/{args.rounds}: {side:<22} {rate(process):7.1f} trained tokens/s, "
                      f"others {process.others_cores:.2f} cores", flush=True)
    check_totals(results)
    text = report(results, args, started)
    path = free_path(args.results, "rows", started)
    path.write_text(text, encoding="utf-8")
    print(f"\n{text}\nwritten to {path}")


if __name__ == "__main__":
    main()
