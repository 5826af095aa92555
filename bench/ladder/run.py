"""Five rates with LoRA and with full rank, and one task by three arms: what each learnt, and what it forgot.

`cargo xtask bench ladder` builds the binary and calls this with its path. Standard library only. The ladder runs
`task.yaml` once for each rate and mode; the arms are the task alone, text before it, and the task alone with as many
processed tokens as both (`text-task.yaml`). Results go to `bench/results/ladder-DATE.md` and `docs/pictures/ladder.svg`.

Each run has a folder of its own under `--work`, named after all that it depends on: a finished one is not repeated, one
that was cut off goes on where it was, and one whose loss ran away is known as such. `--report` trains nothing and writes
of what is finished.
"""

import argparse
import datetime
import hashlib
import json
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from driver import free_path  # noqa: E402
from machine import about_machine, about_temper  # noqa: E402
from picture import picture  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# By factors of five: LoRA wants about ten times the rate of full rank.
RATES = {"lora": (4e-4, 2e-3, 1e-2, 5e-2, 2.5e-1), "full": (8e-6, 4e-5, 2e-4, 1e-3, 5e-3)}
# Exit codes of temper: a verdict that refuses is a result, too.
DONE = (0, 4)


class Run:
    """One run: a recipe with some values changed, in a folder named after both."""

    def __init__(self, args, name, recipe, sets):
        self.args, self.name, self.recipe, self.sets = args, name, HERE / recipe, sets
        depends = json.dumps([hashlib.sha256(self.recipe.read_bytes()).hexdigest(), sets])
        self.folder = pathlib.Path(args.work) / f"{name}-{hashlib.sha256(depends.encode()).hexdigest()[:8]}"
        self.failure = self.folder.with_name(f"{self.folder.name}.failed.txt")

    def words(self):
        return [word for value in self.sets for word in ("--set", value)]

    def is_finished(self):
        return (self.folder / "summary.json").is_file() or self.failure.is_file()

    def finish(self):
        """Runs it, goes on with it, or leaves it as it is."""
        if self.is_finished():
            print(f"{self.folder.name}: finished before", flush=True)
            return
        if (self.folder / "recipe.json").is_file():
            command = [self.args.temper, "resume", str(self.folder)]
        else:
            command = [self.args.temper, "run", str(self.recipe), "--output", str(self.folder), *self.words()]
        print(f"{self.folder.name}: {command[1]}", flush=True)
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=ROOT)
        if done.returncode in DONE:
            return
        if done.returncode == 1 and "diverged: " in done.stderr:
            self.failure.write_text(done.stderr)
            return
        sys.exit(f"exit status {done.returncode}: {' '.join(command)}\n{done.stderr}")

    def plan(self):
        command = [self.args.temper, "plan", str(self.recipe), "--json", *self.words()]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=ROOT)
        if done.returncode != 0:
            sys.exit(f"exit status {done.returncode}: {' '.join(command)}\n{done.stderr}")
        return json.loads(done.stdout)

    def suites(self):
        """What the judgement says of each suite by its first metric; none where the loss ran away."""
        path = self.folder / "judgement.json"
        if not path.is_file():
            return None
        suites = {}
        for row in json.loads(path.read_text())["rows"]:
            suites.setdefault(row["suite"], row)
        return suites

    def steps(self):
        """Its steps as they were logged; one that was resumed logs a step once."""
        path = self.folder / "metrics.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
        return [line for line in lines if line["event"] == "step"]


def ladder(args):
    """`{mode: {rate: Run}}`."""
    full = ["stages.0.mode=full"]
    return {
        mode: {
            rate: Run(args, f"{mode}-{rate:g}", "task.yaml", [f"stages.0.learning_rate={rate:g}", *(full if mode == "full" else [])])
            for rate in RATES[mode]
        }
        for mode in args.modes
    }


def single(recipe):
    """The second stage of the recipe as a recipe of its own, beside it: stages cannot be taken away by a setting."""
    text = (HERE / recipe).read_text()
    head, stages = text.split("stages:\n", 1)
    first, second = stages.split("\n\n  - kind: sft\n", 1)
    assert first.startswith("  - kind: cpt\n"), "the first stage reads text"
    return head + "stages:\n  - kind: sft\n" + second


def arms(args):
    """The arms by name, in order; the last has as many processed tokens as the one before it."""
    alone = HERE / "task-alone.yaml.tmp"
    alone.write_text(single("text-task.yaml").replace("name: text-task", "name: task-alone"))
    both = Run(args, "text-then-task", "text-task.yaml", [])
    task = Run(args, "task", alone.name, [])
    of_both, of_task = (run.plan() for run in (both, task))
    tokens, each = of_both["estimate"]["processed_tokens"], of_task["estimate"]["processed_tokens"]
    steps = round(tokens * of_task["stages"][0]["steps"] / each)
    longer = Run(args, "task-longer", alone.name, [f"stages.0.max_steps={steps}"])
    return {"task": task, "text, then task": both, "task, as many tokens as both": longer}


def percent(interval, digits=1):
    return "{:+.{d}f} ({:+.{d}f}, {:+.{d}f})".format(*(100 * interval[key] for key in ("estimate", "low", "high")), d=digits)


def domain_of(suites):
    """The suite of the task: the one that is measured by accuracy."""
    return next(row for row in suites.values() if row["metric"] == "accuracy")


def ladder_table(rungs):
    rows = ["| mode | rate | loss, last 5 steps | accuracy, base -> tuned | difference, points | held-out text, relative loss, % |",
            "|---|---:|---:|---:|---:|---:|"]  # fmt: skip
    for mode, runs in rungs.items():
        for rate, run in runs.items():
            steps, suites = run.steps(), run.suites()
            last = [step["loss"] for step in steps[-5:]]
            shown = f"{sum(last) / len(last):.3f}" if last else "-"
            if suites is None:
                rows.append(f"| {mode} | {rate:g} | ran away after step {steps[-1]['step'] if steps else 0} | - | - | - |")
                continue
            task, heldout = domain_of(suites), suites["heldout"]
            rows.append(f"| {mode} | {rate:g} | {shown} | {100 * task['base']:.1f} -> {100 * task['tuned']:.1f} "
                        f"| {percent(task['difference'])} | {percent(heldout['difference'])} |")  # fmt: skip
    return rows


def arms_table(runs):
    rows = ["| arm | steps | processed tokens | trained tokens | accuracy, % | difference to the base, points | text of the domain, relative loss, % | held-out text, relative loss, % |",
            "|---|---:|---:|---:|---:|---:|---:|---:|"]  # fmt: skip
    for index, (name, run) in enumerate(runs.items()):
        suites, steps = run.suites(), run.steps()
        task = domain_of(suites)
        if index == 0:
            rows.append(f"| base | 0 | 0 | 0 | {100 * task['base']:.1f} | | | |")
        total = lambda key: sum(step[key] for step in steps)  # noqa: E731
        rows.append(f"| {name} | {len(steps)} | {total('processed_tokens'):,} | {total('trained_tokens'):,} | {100 * task['tuned']:.1f} "
                    f"| {percent(task['difference'])} | {percent(suites['icd10_text']['difference'])} "
                    f"| {percent(suites['heldout']['difference'])} |")  # fmt: skip
    return rows


def write(args, rungs, runs):
    """The result file and the picture, of what is finished."""
    finished = {mode: {rate: run for rate, run in of.items() if run.is_finished()} for mode, of in rungs.items()}
    missing = [run.name for of in rungs.values() for run in of.values() if not run.is_finished()]
    missing += [run.name for run in runs.values() if not run.is_finished()]
    head = [
        f"# Rates and arms, {datetime.date.today()}", "", f"{about_machine()}.", f"{about_temper(args.temper)}.",
        "One seed. Intervals are 95 %, paired by item, of tuned - base; they do not hold what another seed would change.", "",
    ]
    if missing:
        head += [f"Not finished, and left out: {', '.join(missing)}.", ""]
    body = []
    if any(finished.values()):
        body += ["## The ladder", "", "`bench/ladder/task.yaml`: 60 steps of 16 diagnoses, no general data; the weights of the last step.", ""]
        body += [*ladder_table(finished), ""]
        picture_path = pathlib.Path(args.pictures) / "ladder.svg"
        picture_path.parent.mkdir(parents=True, exist_ok=True)
        points = {
            mode: [(rate, None if (s := run.suites()) is None else (domain_of(s), s["heldout"])) for rate, run in of.items()]
            for mode, of in finished.items()
        }
        picture_path.write_text(picture(points))
        print(f"wrote {picture_path}")
    if runs and all(run.is_finished() for run in runs.values()):
        body += ["## The arms", "", "`bench/ladder/text-task.yaml`. Trained tokens are those that carry loss: all of a text, three of a diagnosis.", ""]
        body += [*arms_table(runs), ""]
    if not body:
        sys.exit("nothing is finished")
    path = free_path(pathlib.Path(args.results), "ladder", datetime.date.today())
    path.write_text("\n".join(head + body))
    print(f"wrote {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--temper", required=True)
    parser.add_argument("--work", default=str(ROOT / "runs/ladder"), help="where the runs lie")
    parser.add_argument("--modes", nargs="*", choices=list(RATES), default=list(RATES))
    parser.add_argument("--no-arms", action="store_true", help="the ladder alone")
    parser.add_argument("--report", action="store_true", help="train nothing, write of what is finished")
    parser.add_argument("--results", default=str(ROOT / "bench/results"))
    parser.add_argument("--pictures", default=str(ROOT / "docs/pictures"))
    args = parser.parse_args()
    os.makedirs(args.work, exist_ok=True)
    rungs, runs = ladder(args), {} if args.no_arms else arms(args)
    if not args.report:
        for run in [*(run for of in rungs.values() for run in of.values()), *runs.values()]:
            run.finish()
    write(args, rungs, runs)


if __name__ == "__main__":
    main()
