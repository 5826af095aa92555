"""Searches replayed on a table of real runs, beside Optuna: how many tokens it takes to close most of what lies between the recipe's own
values and the best that keeps its floor.

`cargo xtask bench table` builds the `replay` example of temper-search, makes the environment of `bench/search/requirements.txt` and
calls this, which writes `bench/results/table-DATE.md` and a picture beside it.
"""

import argparse
import concurrent.futures
import datetime
import importlib.metadata
import math
import os
import pathlib
import platform
import statistics
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE))
from driver import free_path, heading  # noqa: E402
from machine import about_machine, first_line_of  # noqa: E402

import picture  # noqa: E402
import sides  # noqa: E402
from table import Table  # noqa: E402

# Of the regret, this much is to be closed.
CLOSED = 0.9
OURS, PEERS = ["temper tune", "temper tune, the loss alone"], ["optuna tpe, full runs", "optuna tpe + successive halving", "optuna tpe + successive halving by 2"]


def closed(table, trace, best, own):
    """Tokens, and the share of the regret that is closed from then on: by the best full run that keeps every constraint."""
    found, steps = own, []
    for tokens, number in trace:
        if table.is_feasible(number):
            found = min(found, table.whole(number)["values"][0])
        steps.append((tokens, (own - found) / (own - best)))
    return steps


def needed(steps):
    """Tokens until enough is closed; without bound where it never is."""
    return next((tokens for tokens, share in steps if share >= CLOSED), math.inf)


def one(path, own, method, seed, program):
    table = Table(path, own)
    feasible = [table.whole(number)["values"][0] for number in table.rows if table.is_feasible(number)]
    return method, seed, closed(table, sides.trace(table, method, seed, program), min(feasible), table.whole(own)["values"][0])


def quartiles(values):
    """None is finite where it cannot be said: an infinity stands among the values in its place."""
    ordered = sorted(values)
    return [ordered[round(share * (len(ordered) - 1))] for share in (0.25, 0.5, 0.75)]


def written(tokens):
    return "never" if math.isinf(tokens) else f"{tokens:,.0f}"


def report_of(options, own, pool):
    """The lines of one default, and what the picture shows: every curve by method."""
    table = Table(options.table, own)
    feasible = [number for number in table.rows if table.is_feasible(number)]
    loss, best = table.whole(own)["values"][0], min((table.whole(number)["values"][0], number) for number in feasible)
    if best[1] == own:
        sys.exit(f"number {own}, the default, is the best of the table: there is no regret to be closed")
    enough = [n for n in feasible if loss - table.whole(n)["values"][0] >= CLOSED * (loss - best[0])]
    program = str(pathlib.Path(options.replay).resolve())
    wanted = [(options.table, own, method, seed, program) for seed in range(1, options.seeds + 1) for method in options.methods]
    steps = {method: [] for method in options.methods}
    for method, _, curve in pool.map(one, *zip(*wanted)):
        steps[method].append(curve)
    tokens = {method: [needed(curve) for curve in curves] for method, curves in steps.items()}
    whole = sum(table.report(number, table.rungs[-1])["tokens"] for number in table.rows)
    point = ", ".join(f"{name.split('.')[-1]} {value}" for name, value in table.rows[own]["point"].items())
    lines = [
        f"## Default: number {own}", "", f"{point}.", "",
        f"{table.about['objectives'][0]}: {loss:.4f} of the default, {best[0]:.4f} the best that keeps the floor (number {best[1]}); "
        f"{len(enough)} configurations close {100 * CLOSED:.0f} % of what lies between. To train the default and one of these to the end, and nothing "
        f"else, takes {sum(table.report(n, table.rungs[-1])['tokens'] for n in (own, best[1])):,} tokens.", "",
        "| method | tokens | never | share of full training of all | ours / this | the loss alone / this |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    middle = {method: quartiles(values)[1] for method, values in tokens.items()}
    ratio = lambda ours, peer: f"{middle[ours] / middle[peer]:.2f}" if ours in middle and not math.isinf(middle[ours]) else ""  # noqa: E731
    for method, values in tokens.items():
        low, median, high = quartiles(values)
        ratios = [ratio(ours, method) if method in PEERS else "" for ours in OURS]
        share = "" if math.isinf(median) else f"{100 * median / whole:.0f} %"
        never = sum(map(math.isinf, values))
        lines.append(f"| {method} | {written(median)} ({written(low)} to {written(high)}) | {never} of {len(values)} | {share} | {' | '.join(ratios)} |")
    return [*lines, ""], steps, whole


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replay", required=True, help="the `replay` example of temper-search")
    parser.add_argument("--table", type=pathlib.Path, default=HERE / "icd10.jsonl")
    parser.add_argument("--own", type=int, nargs="+", default=[0], help="configurations of the table, each in turn the default and every search's first")
    parser.add_argument("--seeds", type=int, default=50, help="how many")
    parser.add_argument("--methods", nargs="+", default=list(sides.METHODS), choices=list(sides.METHODS))
    parser.add_argument("--out", type=pathlib.Path, help="where the report goes; its picture, of the first default, lies beside it")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    if not options.table.exists():
        sys.exit(f"{options.table} is not there\nhint: temper tune bench/table/icd10-table.yaml, then bench/table/table.py export")
    started, table = datetime.datetime.now(), Table(options.table)
    with concurrent.futures.ProcessPoolExecutor(options.processes) as pool:
        reports = [report_of(options, own, pool) for own in options.own]
    _, steps, whole = reports[0]
    feasible = sum(table.is_feasible(number) for number in table.rows)
    lines = [
        *heading("Searches replayed on a table of runs", started, 0),
        f"- {about_machine()}",
        f"- Temper: commit {first_line_of(['git', 'describe', '--always', '--dirty', '--abbrev=12'])}",
        f"- Peer: optuna {importlib.metadata.version('optuna')}, Python {platform.python_version()}",
        f"- Table: {table.about['name']} ({table.about['made']}), {len(table.rows)} configurations, {feasible} of them finished and within every "
        f"floor; {whole:,} tokens to train all of them to the end",
        f"- {options.seeds} seeds; tokens until {100 * CLOSED:.0f} % of the regret are closed by a finished run that keeps the floor: median (quartiles) over seeds",
        "", *(line for lines, _, _ in reports for line in lines),
        f"Each side proposes points, and is told of the nearest configuration of the table that it has not begun. `temper tune` seeks both axes; with "
        f"the loss alone it seeks what Optuna does, the floor a constraint. Optuna's halving sees the loss and {sides.BROKEN:g} for each unit by "
        "which the floor is broken; its full runs see the floor as a constraint.", "",
    ]  # fmt: skip
    report = options.out or free_path(HERE.parent / "results", "table", started)
    drawn = report.with_suffix(".svg")
    shown = {method: curves for method, curves in steps.items() if method in picture.SHOWN}
    # As far as most seeds need: behind that the lines lie on each other.
    far = [quartiles([needed(curve) for curve in curves])[2] for curves in shown.values()]
    drawn.write_text(picture.picture(shown, min(whole, 1.3 * max(far)), CLOSED))
    lines += [f"![share of the regret closed, over tokens, number {options.own[0]} the default]({drawn.name})"]
    report.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines), f"\n-> {report}")


if __name__ == "__main__":
    main()
