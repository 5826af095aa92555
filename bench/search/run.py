"""Temper's samplers beside Optuna's on problems with known answers.

`cargo xtask bench search SUITE` builds the `ask_tell` example of temper-search, makes the peer's environment and calls this.
Both sides see the same problems, as many trials, one after the other, and as many seeds; both keep their studies in memory.
Suites: bbob, mixint, constrained, zdt (quality), speed (seconds an ask and tell, one study alone).

The samplers were developed on instances 11 to 13 of these problems (docs/decisions/0024-samplers.md); those reported are
others, unless `--instances` says so. A score is the median over seeds; quartiles of the difference are over problems.
"""

import argparse
import concurrent.futures
import datetime
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import statistics
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent))
from driver import free_path, heading  # noqa: E402
from machine import about_machine, busy_seconds, first_line_of  # noqa: E402

import problems  # noqa: E402
import sides  # noqa: E402

BBOB = [("bbob", (function, 5)) for function in range(1, 25)]
MIXINT = [("coco", ("bbob-mixint", function, 5)) for function in range(1, 25)]
CONSTRAINED = [("coco", ("bbob-constrained", function, 5)) for function in range(1, 55)]
ZDT = [("zdt", (number, 5)) for number in (1, 2, 3)]


def make(maker, arguments, instance):
    if maker == "zdt":
        return problems.zdt(*arguments)
    return getattr(problems, maker)(*arguments, instance)


def study(program, method, maker, arguments, instance, trials, seed):
    """One study: its score, and the seconds of its asks."""
    problem = make(maker, arguments, instance)
    side, sampler = method.split()
    if side == "temper":
        told, seconds = sides.temper(program, sampler, problem, trials, seed)
    else:
        told, seconds = sides.optuna(sampler, problem, trials, seed)
    return {"problem": problem.name, "instance": instance, "method": method, "seed": seed,
            "score": problem.score(told), "seconds": sum(clock for clock, _ in seconds)}  # fmt: skip


def quality(options, cases, methods):
    """All studies of a suite, as many at once as there are processes. With `--keep DIR` every finished study is written there,
    and those of the peer that are there already are not made again."""
    path = options.keep and pathlib.Path(options.keep) / f"{options.suite}-{options.trials}.jsonl"
    kept = {}
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
    if path and path.exists():
        for record in map(json.loads, path.read_text().splitlines()):
            kept[record["problem"], record["instance"], record["method"], record["seed"]] = record
    records, wanted = [], []
    for maker, arguments in cases:
        for instance in options.instances:
            for method in methods:
                for seed in options.seeds:
                    found = kept.get((name_of(maker, arguments), instance, method, seed))
                    if found and method.startswith("optuna"):
                        records.append(found)
                    else:
                        wanted.append((options.ask, method, maker, arguments, instance, options.trials, seed))
    with concurrent.futures.ProcessPoolExecutor(options.processes) as pool:
        for done, future in enumerate(concurrent.futures.as_completed([pool.submit(study, *one) for one in wanted]), 1):
            records.append(future.result())
            if path:
                with path.open("a") as file:
                    file.write(json.dumps(records[-1]) + "\n")
            if done % 100 == 0:
                print(f"{done} of {len(wanted)} studies", file=sys.stderr, flush=True)
    return records


def name_of(maker, arguments):
    return {"zdt": lambda: f"ZDT{arguments[0]}", "bbob": lambda: f"f{arguments[0]}"}.get(maker, lambda: f"f{arguments[1]}")()


def grouped(records):
    """Scores by (problem, instance), then by method."""
    table = {}
    for record in sorted(records, key=lambda record: (int(record["problem"].strip("fZDT")), record["instance"])):
        place = table.setdefault((record["problem"], record["instance"]), {})
        place.setdefault(record["method"], []).append(record["score"])
    return table


def mean_log(table, method, without=()):
    """The mean over problems of log10 of the median over seeds."""
    gaps = [statistics.median(scores[method]) for (name, _), scores in table.items() if name not in without]
    return statistics.fmean(math.log10(gap) for gap in gaps), len(gaps)


def quartiles(values):
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def wins(table, ours, peer):
    """Problems on which the median is lower, and on which it is the same."""
    medians = [(statistics.median(scores[ours]), statistics.median(scores[peer])) for scores in table.values()]
    return sum(a < b for a, b in medians), sum(a == b for a, b in medians), len(medians)


def report_gaps(options, table, methods):
    """BBOB, where what is lowest is known: how far above it the best of a study is."""
    lines = ["| method | mean log10 gap | without f1 and f5 | quartiles of log10 gap | ahead of Optuna's default on |", "|---|---|---|---|---|"]
    for method in methods:
        low, middle, high = quartiles([math.log10(statistics.median(scores[method])) for scores in table.values()])
        ahead, _, count = wins(table, method, "optuna tpe")
        ahead = "" if method == "optuna tpe" else f"{ahead} of {count}"
        means = [mean_log(table, method, without)[0] for without in ((), ("f1", "f5"))]
        lines.append(f"| {method} | {means[0]:.3f} | {means[1]:.3f} | {low:.2f} / {middle:.2f} / {high:.2f} | {ahead} |")
    return lines


def report_wins(options, table, methods):
    """Where what is lowest is not known: on how many problems, and how often a study of ours ends below one of the peer."""
    lines = ["| method | ahead of Optuna's default | level | problems | ends lower (quartiles over problems) |", "|---|---|---|---|---|"]
    for method in methods:
        if method == "optuna tpe":
            continue
        ahead, level, count = wins(table, method, "optuna tpe")
        shares = []
        for scores in table.values():
            pairs = [(a < b) + 0.5 * (a == b) for a in scores[method] for b in scores["optuna tpe"]]
            shares.append(statistics.fmean(pairs))
        low, middle, high = quartiles(shares)
        mean = statistics.fmean(shares)
        lines.append(f"| {method} | {ahead} | {level} | {count} | {mean:.2f} ({low:.2f} / {middle:.2f} / {high:.2f}) |")
    # Of constraints: a study may end without a point that keeps them, and is then behind every one that has some.
    without = {method: sum(math.isinf(score) for scores in table.values() for score in scores[method]) for method in methods}
    if any(without.values()):
        studies = sum(len(scores[methods[0]]) for scores in table.values())
        lines += ["", f"Of {studies} studies each, without a feasible point: " + ", ".join(f"{m} {n}" for m, n in without.items()) + "."]
    return lines


def report_volumes(options, table, methods):
    """ZDT: the area dominated, up to (1.1, 6); higher is better."""
    lines = ["| method | " + " | ".join(name for name, _ in table) + " |", "|---" * (len(table) + 1) + "|"]
    for method in methods:
        cells = ["{1:.3f} ({0:.3f} to {2:.3f})".format(*quartiles([-score for score in scores[method]])) for scores in table.values()]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return lines


def all_medians(table, methods, sign=1):
    lines = ["", "Medians over seeds:", "", "| problem | " + " | ".join(methods) + " |", "|---" * (len(methods) + 1) + "|"]
    for (name, instance), scores in table.items():
        cells = (f"{sign * statistics.median(scores[method]):.4g}" for method in methods)
        lines.append(f"| {name}, instance {instance} | " + " | ".join(cells) + " |")
    return lines


SUITES = {
    "bbob": (BBOB, "24 BBOB functions, 5-D", [1], ["temper auto", "temper tpe", "temper random", "optuna tpe", "optuna random"], report_gaps),
    "mixint": (MIXINT, "bbob-mixint, 24 functions, 5-D, four of the five whole numbers", [1], ["temper auto", "temper tpe", "optuna tpe"], report_wins),
    "constrained": (CONSTRAINED, "bbob-constrained, 54 functions, 5-D", [1], ["temper auto", "temper tpe", "optuna tpe"], report_wins),
    "zdt": (ZDT, "ZDT1 to 3, 5-D, hypervolume", [1], ["temper auto", "temper tpe", "optuna tpe", "optuna multivariate"], report_volumes),
}


def speed(options):
    """Seconds an ask and tell of one study, alone: the median of the last tenth on the clock, and on the processor, which other work
    on the machine disturbs little. The studies of both sides alternate."""
    cases = [("tpe", 1000, 8, "tpe"), ("gp", 100, 8, "gp")]
    lines = ["| sampler | trials | parameters | Temper, ms | of the processor | Optuna, ms | of the processor |", "|---|---|---|---|---|---|---|"]
    busiest = 0.0
    for ours, trials, dimension, peer in cases:
        problem = problems.valley(dimension)
        cells, used = {"temper": [], "optuna": []}, {"temper": [], "optuna": []}
        for seed in options.seeds:
            for side in cells:
                def one():
                    if side == "temper":
                        return sides.temper(options.ask, ours, problem, trials, seed)
                    return sides.optuna(peer, problem, trials, seed)

                try:
                    (_, seconds), others = watched(one)
                except ImportError as error:
                    print(f"left out: Optuna's {peer}: {error}", file=sys.stderr)
                    continue
                busiest = max(busiest, others)
                clock, processor = zip(*seconds[-trials // 10:])
                cells[side].append(1e3 * statistics.median(clock))
                used[side].append(1e3 * statistics.median(processor))
        shown = [
            f"{statistics.median(cell):.2f} | {{1:.2f}} ({{0:.2f}} to {{2:.2f}})".format(*quartiles(used[side])) if cell else "not run | "
            for side, cell in cells.items()
        ]
        lines.append(f"| {ours} | {trials} | {dimension} | " + " | ".join(shown) + " |")
    lines += ["", "Temper's times are from a request on one pipe to its answer on the other, both as JSON; Optuna's are of the calls.",
              "Optuna's GP needs PyTorch and SciPy, which this environment does not have."]
    return lines, busiest


def watched(work):
    """What `work` gives, and how many cores other work took meanwhile."""
    began, busy, own = time.monotonic(), busy_seconds(), sum(os.times()[:4])
    result = work()
    return result, max(0.0, (busy_seconds() - busy - (sum(os.times()[:4]) - own)) / (time.monotonic() - began))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", choices=[*SUITES, "speed"])
    parser.add_argument("--ask", required=True, help="the ask_tell program")
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--instances", type=int, nargs="+")
    parser.add_argument("--methods", nargs="+", help="such as `temper gp`")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--keep", help="a folder for finished studies; the peer's are not made again")
    parser.add_argument("--out", type=pathlib.Path, help="where the report goes; left out: bench/results")
    options = parser.parse_args()
    options.seeds = range(1, options.seeds + 1)
    started = datetime.datetime.now()
    about = [
        f"- {about_machine()}",
        f"- Temper: commit {first_line_of(['git', 'describe', '--always', '--dirty', '--abbrev=12'])}, {first_line_of(['rustc', '--version'])}",
        "- Peer: " + ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("optuna", "ioh", "coco-experiment", "numpy"))
        + f", Python {platform.python_version()}",
    ]  # fmt: skip
    if options.suite == "speed":
        lines, busiest = speed(options)
        text = [*heading("Seconds an ask and tell", started, busiest), *about, f"- {len(options.seeds)} studies each; quartiles over studies", "", *lines]
    else:
        cases, title, instances, methods, report = SUITES[options.suite]
        options.instances = options.instances or instances
        methods = options.methods or methods
        table = grouped(quality(options, cases, methods))
        sign = -1 if options.suite == "zdt" else 1
        shown = f"- {options.trials} trials a study, {len(options.seeds)} seeds, instances {', '.join(map(str, options.instances))}"
        text = [*heading(title, started, 0), *about, shown, "", *report(options, table, methods), *all_medians(table, methods, sign)]
    path = options.out or free_path(ROOT / "bench/results", f"search-{options.suite}", started)
    path.write_text("\n".join(text) + "\n")
    print("\n".join(text), f"\n-> {path}")


if __name__ == "__main__":
    main()
