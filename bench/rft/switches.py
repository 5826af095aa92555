"""Every switch of the policy's objective on a real model: the same demonstrations, the same rounds, another objective.

`cargo xtask bench switches` builds the binary and calls this with its path. It runs `recipes/clock.yaml` with its reinforcement cut to
`--rounds` rounds, once for each row of SWITCHES, and writes `bench/results/rft-switches-DATE.md`. The demonstrations are trained once: later runs find the stage
in the cache. A run that is finished is not repeated. Standard library only.
"""

import argparse
import datetime
import json
import math
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent))
from driver import free_path  # noqa: E402
from machine import about_machine, about_temper  # noqa: E402

# What the recipe says of the objective is taken away first: each row stands beside the defaults.
DEFAULTS = "policy={}"
# Name, settings of the second stage, optimiser steps of a round.
SWITCHES = [
    ("defaults (DAPO's loss)", [], 1),
    ("GRPO", ["policy={loss_type: grpo, beta: 0.04, kl_gradient: plain}"], 1),
    ("DAPO: clip higher, no KL, dynamic sampling, overlong", ["policy={epsilon_high: 0.28, beta: 0}", "rollouts.resample_rounds=3", "rollouts.overlong_buffer=2"], 1),
    ("Dr. GRPO", ["policy={loss_type: dr_grpo, scale_rewards: none, beta: 0}"], 1),
    ("RLOO", ["policy={advantage_baseline: leave_one_out, scale_rewards: none}"], 1),
    ("advantages by the round's deviation", ["policy={scale_rewards: batch}"], 1),
    ("KL by k1", ["policy={kl_estimator: k1, beta: 0.04}"], 1),
    ("KL by k2", ["policy={kl_estimator: k2, beta: 0.04}"], 1),
    ("KL by k3", ["policy={kl_estimator: k3, beta: 0.04}"], 1),
    ("KL to the base", ["policy={beta: 0.04, reference: base}"], 1),
    ("entropy bonus", ["policy={entropy_coefficient: 0.01}"], 1),
    ("cut completions left out", ["rollouts.mask_truncated_completions=true"], 1),
    ("four steps a round, clipped", ["rollouts.steps_per_pass=4"], 4),
    ("two passes over a round", ["rollouts.num_iterations=2"], 2),
    ("GSPO, four steps", ["policy={importance_sampling_level: sequence, epsilon: 3e-4, epsilon_high: 4e-4}", "rollouts.steps_per_pass=4"], 4),
    ("CISPO, four steps", ["policy={surrogate: cispo}", "rollouts.steps_per_pass=4"], 4),
    ("importance sampling alone, four steps", ["policy={surrogate: none}", "rollouts.steps_per_pass=4"], 4),
    ("full rank", ["mode=full", "lora_rank=null", "lora_alpha=null", "learning_rate=3e-5"], 1),
]  # fmt: skip


def run(args, index, settings, steps_a_round):
    """The metrics of a run, made where it is not there yet."""
    steps = args.rounds * steps_a_round
    policy = [] if any(value.startswith("policy=") for value in settings) else [DEFAULTS]
    settings = [*policy, "warmup_steps=1", f"max_steps={steps}", f"eval_steps={steps}", *settings]
    folder = pathlib.Path(args.work) / f"{index:02}"
    if not (folder / "summary.json").is_file():
        words = [word for value in settings for word in ("--set", f"stages.1.{value}")]
        command = [args.temper, "run", str(ROOT / "recipes/clock.yaml"), "--output", str(folder), "--overwrite", *words]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=ROOT)
        # 4: a verdict that refuses; it is a result, too.
        if done.returncode not in (0, 4):
            sys.exit(f"exit status {done.returncode}: {' '.join(command)}\n{done.stderr}")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line.get("stage") == 2]


def row(name, metrics, steps_a_round):
    of = lambda event: [line for line in metrics if line["event"] == event]  # noqa: E731
    steps, rewards = of("step"), of("reward")
    last = steps[-5 * steps_a_round :]
    # Without a divergence in the loss none is measured.
    mean = lambda key: sum(step.get(key, math.nan) for step in last) / len(last)  # noqa: E731
    clipped = 100 * (mean("clip_low") + mean("clip_high"))
    seconds = sum(step["seconds"] for step in steps) * steps_a_round / len(steps)
    first, end = (100 * reward["reward"] for reward in (rewards[0], rewards[-1]))
    line = (f"| {name} | {first:.1f} | {end:.1f} | {mean('kl'):.3f} | {mean('entropy'):.3f} | {clipped:.1f} "
            f"| {mean('gradient_norm'):.2f} | {seconds:.1f} |")  # fmt: skip
    return line.replace(" nan ", " ")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--temper", required=True)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--work", default=str(ROOT / "runs/rft-switches"), help="where the runs lie")
    args = parser.parse_args()
    rows = []
    for index, (name, settings, steps_a_round) in enumerate(SWITCHES):
        rows.append(row(name, run(args, index, settings, steps_a_round), steps_a_round))
        print(rows[-1], flush=True)
    head = [
        f"# Switches of the policy's objective, {datetime.date.today()}", "", f"{about_machine()}.", f"{about_temper(args.temper)}.",
        f"`recipes/clock.yaml`, {args.rounds} rounds of 32 prompts x 8 after its demonstrations, one seed. Reward: the share of right answers"
        " among sampled completions of 100 validation prompts, in percent, before the first round and after the last. KL, entropy (nats a"
        " token), share of clipped tokens (percent) and gradient norm: means of the last five rounds. It shows that every switch trains, and"
        " what it does to the signals; not which is best, for which one seed and so few rounds are too little.", "",
        "| objective | reward before | after | KL | entropy | clipped, % | gradient norm | s a round |", "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    path = free_path(ROOT / "bench/results", "rft-switches", datetime.date.today())
    path.write_text("\n".join([*head, *rows, ""]))
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
