"""Temper's samplers beside Optuna's on problems with known answers.

`cargo xtask bench search SUITE` builds the `ask_tell` example of temper-search, makes the peer's environment and calls this.
Both sides see the same problems, as many trials, one after the other, and as many seeds; both keep their studies in memory.
Suites: bbob, mixint, constrained, zdt (quality), speed (seconds an ask and tell, one study alone).

Samplers were developed on other instances of these problems than those reported (`--instances`): see docs/decisions/0024-samplers.md.
"""

import argparse
import concurrent.futures
import datetime
import json
import math
import os
import pathlib
import platform
import statistics
import sys
import threading

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent))
from driver import free_path, heading  # noqa: E402
from machine import about_machine, busy_seconds, first_line_of  # noqa: E402

import problems  # noqa: E402
import sides  # noqa: E402

# By suite: problems as (maker, arguments before the instance), instances reported, methods, and what a score is.
BBOB = [("bbob", (function, 5)) for function in range(1, 25)]
MIXINT = [("coco", ("bbob-mixint", function, 5)) for function in range(1, 25)]
CONSTRAINED = [("coco", ("bbob-constrained", function, 5)) for function in range(1, 55)]
ZDT = [("zdt", (number, 5)) for number in (1, 2, 3)]
METHODS = ["temper auto", "temper tpe", "optuna tpe"]


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
            "score": problem.score(told), "seconds": sum(seconds)}  # fmt: skip


def quality(options, cases, methods):
    """All studies of a suite, as many at once as there are processes. With `--keep DIR` every finished study is written there,
    and those of the peer that are there already are not made again."""
    path = options.keep and pathlib.Path(options.keep) / f"{options.suite}-{options.trials}.jsonl"
    kept = {}
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
