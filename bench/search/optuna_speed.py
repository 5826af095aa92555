"""Milliseconds that a store takes for a trial, Temper's beside Optuna's, on SQLite and on PostgreSQL.

usage: optuna_speed.py --store-tool BINARY [--postgres URL] [--sqlite] [--trials 1000] [--each 50] [--rounds 3]
`cargo xtask bench store` builds the tool (crates/search/examples/store_tool.rs) and makes the environment.

A study of 8 floats, one objective and one report a trial. Both sides work on databases that Temper filled up to `--trials`, so that
they are alike. Once they draw at random, so that what is measured is the store; once by their TPE, as it comes, so that it is a whole ask and
tell. Sides alternate, for `--rounds` rounds of `--each` trials. Ask is all up to the trial's values (Optuna: ask and 8 suggests), report is one measurement on the way, tell the end.
"""

import argparse
import contextlib
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

import optuna

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from driver import free_path, heading  # noqa: E402
from machine import about_machine, busy_seconds, first_line_of  # noqa: E402
from optuna_databases import postgres, postgres_server, sqlite  # noqa: E402

RESULTS = pathlib.Path(__file__).resolve().parent.parent / "results"


def temper(tool, place, trials, each, sampler="random"):
    """A round of ours, in a process of its own: what it took to open the study, and the trials."""
    done = subprocess.run([tool, "speed", place.temper, str(trials), str(each), sampler], check=True, capture_output=True, text=True)
    first, *rows = map(json.loads, done.stdout.splitlines())
    return first, rows


def peer(place, each, sampler):
    """A round of Optuna's, with the study opened anew."""
    start = time.perf_counter()
    storage = optuna.storages.RDBStorage(place.sqlalchemy)
    sampler = {"random": optuna.samplers.RandomSampler, "tpe": optuna.samplers.TPESampler}[sampler](seed=1)
    study = optuna.load_study(study_name="speed", storage=storage, sampler=sampler)
    count = len(study.get_trials(deepcopy=False))
    opened = (time.perf_counter() - start) * 1e3
    rows = []
    for _ in range(each):
        times = [time.perf_counter()]
        trial = study.ask()
        values = [trial.suggest_float(f"x{index}", 0.0, 1.0) for index in range(8)]
        times.append(time.perf_counter())
        trial.report(1.0, 1)
        times.append(time.perf_counter())
        study.tell(trial, sum((x - 0.3) ** 2 for x in values))
        times.append(time.perf_counter())
        rows.append(dict(zip(("ask", "report", "tell"), [(b - a) * 1e3 for a, b in zip(times, times[1:])])))
    storage.engine.dispose()
    return {"open": opened, "trials": count}, rows


def quartiles(values):
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store-tool", required=True)
    parser.add_argument("--postgres")
    parser.add_argument("--sqlite", action="store_true", help="SQLite alone, where there is no PostgreSQL")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--each", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    started = datetime.datetime.now()
    commit = first_line_of(["git", "describe", "--always", "--dirty", "--abbrev=12"])
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    table, counts, busiest = [], [], 0.0
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        kinds = [(sqlite, folder)]
        if not args.sqlite:
            kinds.append((postgres, stack.enter_context(postgres_server(args.postgres))))
        for make, where in kinds:
            for sampler in ("random", "tpe"):
                places = [make(where, f"{name}_{sampler}") for name in ("ours", "theirs")]
                for place in places:
                    temper(args.store_tool, place, args.trials, 0)
                sides = {"Temper": ([], []), f"Optuna {optuna.__version__}": ([], [])}
                for _ in range(args.rounds):
                    for (name, (opens, rows)), place in zip(sides.items(), places):
                        busy, own, begun = busy_seconds(), os.times(), time.monotonic()
                        if name == "Temper":
                            first, more = temper(args.store_tool, place, 0, args.each, sampler)
                        else:
                            first, more = peer(place, args.each, sampler)
                        elapsed, used = time.monotonic() - begun, os.times()
                        own_seconds = sum(used[:4]) - sum(own[:4])
                        # Of PostgreSQL the server is a process apart, and counts as other work.
                        if make is sqlite:
                            busiest = max(busiest, (busy_seconds() - busy - own_seconds) / elapsed)
                        opens.append(first["open"])
                        rows += more
                        counts.append(first["trials"])
                for name, (opens, rows) in sides.items():
                    parts = [[row[part] for row in rows] for part in ("ask", "report", "tell")]
                    whole = [row["ask"] + row["tell"] for row in rows]
                    cells = [*map(quartiles, [*parts, whole]), f"{statistics.median(opens):.0f}"]
                    table.append(f"| {places[0].kind} | {sampler} | {name} | {' | '.join(cells)} |")
    lines = heading("A trial in the store", started, busiest)
    lines += [
        f"- Temper: commit {commit}, {first_line_of(['rustc', '--version'])}, release profile",
        f"- Optuna {optuna.__version__}, Python {platform.python_version()}",
        f"- Machine: {about_machine()}",
        f"- Trials in the study: {min(counts)} to {max(counts)}; {args.rounds} rounds of {args.each} trials a side, alternating",
        "", "Milliseconds, median (quartiles):", "",
        "| database | sampler | side | ask | report | tell | ask + tell | open |", "|---|---|---|---|---|---|---|---|", *table,
    ]
    path = free_path(RESULTS, "store", started)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines) + f"\n\n{path}")


main()
