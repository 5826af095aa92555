"""Forecasts and early stopping on LCDB's real learning curves.

LCDB 0.1.0: validation errors of 20 classifiers by the size of the training set (16, 23, 32, .., each of a single seed: noisy as real
runs are). A data set is a study, its classifiers are the trials, in an order that the seed draws; a trial goes from size to size and
pays for the largest that it came to. Data sets of an even number served for development; those of an odd one are reported.
"""

import concurrent.futures
import importlib.util
import pathlib
import statistics
import warnings

from stopping_replay import Replay

TITLE = "Real learning curves (LCDB)"
PACKAGES = ("lcdb",)
SHARES = [0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.01]
# Where forecasts are made: at the last size up to this share of the full one.
PLACES = [0.03125, 0.0625, 0.125, 0.25, 0.5]
METHODS = {
    "all to the end": [{"rule": "hopeless", "threshold": 0.01}],
    "extrapolation, 0.01": [{"rule": "extrapolation", "threshold": 0.01}],
    "extrapolation, 0.05": [{"rule": "extrapolation", "threshold": 0.05}],
    "extrapolation, 0.10": [{"rule": "extrapolation", "threshold": 0.1}],
    "extrapolation, 0.20": [{"rule": "extrapolation", "threshold": 0.2}],
    "median, 5 others": [{"rule": "median", "others": 5}],
    "asha, stopping": [{"rule": "asha", "reduction": 2, "mode": "stop"}],
    "asha, pausing": [{"rule": "asha", "reduction": 2, "mode": "pause"}],
    "asha, pausing + extrapolation, 0.05": [{"rule": "extrapolation", "threshold": 0.05}, {"rule": "asha", "reduction": 2, "mode": "pause"}],
    "optuna median, 5 others": "median",
    "optuna successive halving": "halving",
}


def arguments(parser):
    parser.add_argument("--seeds", type=int, nargs=2, default=[0, 3], help="from, and up to but without")
    parser.add_argument("--sets", choices=["development", "reported"], default="reported")
    parser.add_argument("--metric", choices=["accuracy", "logloss"], default="accuracy")
    parser.add_argument("--most", type=int, default=60, help="data sets at most")


def curves(metric):
    """For each data set, for each classifier with every size: its losses by size; the first outer and inner seed alone."""
    import pandas

    folder = pathlib.Path(importlib.util.find_spec("lcdb").origin).parent
    table = pandas.read_csv(folder / f"database-{metric}.csv")
    table = table[(table.outer_seed == 0) & (table.inner_seed == 0)]
    table["loss"] = 1.0 - table.score_valid if metric == "accuracy" else table.score_valid
    found = {}
    for number, one in table.groupby("openmlid"):
        by_learner = {learner: dict(zip(rows.size_train, rows.loss)) for learner, rows in one.groupby("learner")}
        most = max(len(losses) for losses in by_learner.values())
        sizes = max((tuple(losses) for losses in by_learner.values() if len(losses) == most), key=lambda sizes: sizes[-1])
        whole = {learner: losses for learner, losses in by_learner.items() if set(sizes) <= set(losses)}
        if most >= 10 and len(whole) >= 12:
            found[int(number)] = {learner: {size: float(losses[size]) for size in sizes} for learner, losses in whole.items()}
    return found


def rungs(sizes):
    """The full size, and the last size up to a half of the rung above it, down to a 64th."""
    steps = [max(sizes)]
    while True:
        below = [size for size in sizes if 2 * size <= steps[0] and 80 * size >= max(sizes)]
        if not below:
            return [int(step) for step in steps]
        steps.insert(0, max(below))


def begin(replay, study, rules, seed):
    learners = sorted(study)
    replay.ask(study={"sampler": "random", "seed": seed, "objectives": ["minimize"], "constraints": [],
                      "parameters": [{"name": "learner", "domain": {"type": "choice", "values": learners}}],
                      "rungs": rungs(study[learners[0]]), "rules": rules})  # fmt: skip


def carry_out(replay, study, forecasts=None):
    """Carries a study through; gives the sizes that each trial came to, in the order in which they began."""
    reached, order, closing = {}, [], False
    while True:
        work = replay.ask(next={"closing": closing})
        if "done" in work:
            if closing:
                return [reached[learner] for learner in order], order
            closing = True
            continue
        losses = study[work["point"]["learner"]]
        if work["from"] == 0:
            order.append(work["point"]["learner"])
        begun, until, answer = work["from"], work["until"], None
        sizes = sorted(losses)
        while until:
            for size in (size for size in sizes if begun < size <= until):
                answer = replay.ask(report={"number": work["number"], "step": size, "values": [losses[size]], "constraints": [], "items": []})
                reached[work["point"]["learner"]] = size
                if forecasts is not None:
                    forecasts(replay, work["number"], size, sizes, losses)
                if answer["decision"] in ("pause", "stop"):
                    break
            begun, until = until, answer.get("until")


def simulated(study, rules, seed, program):
    with Replay(program) as replay:
        begin(replay, study, rules, seed)
        return carry_out(replay, study)


def peer(study, pruner, order):
    import optuna

    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    steps = rungs(study[order[0]])
    pruner = {"median": optuna.pruners.MedianPruner(n_startup_trials=5),
              "halving": optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)}[pruner]  # fmt: skip
    made = optuna.create_study(pruner=pruner, sampler=optuna.samplers.RandomSampler(seed=0))
    reached = []
    for learner in order:
        trial = made.ask()
        for place, size in enumerate(steps):
            # Its rungs are powers of the reduction: sizes are given by their place.
            trial.report(study[learner][size], 2**place)
            if size < steps[-1] and trial.should_prune():
                made.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            made.tell(trial, study[learner][size])
        reached.append(size)
    return reached


def outcome(study, reached, order):
    """The share of the full cost, and by how much the best one that was carried through is behind the best of all, as a share of the spread of all."""
    full = max(study[order[0]])
    ends = [study[learner][full] for learner in order]
    done = [end for end, size in zip(ends, reached) if size == full]
    spread = statistics.median(ends) - min(ends)
    regret = (min(done) - min(ends)) / spread if done and spread > 0 else 0.0 if done else 1.0
    return sum(reached) / (full * len(order)), regret


def run(number, study, seed, program):
    """One data set under one seed: outcomes by method, and forecasts: (place, how many were done, in a study, share below each quantile, ..)."""
    outcomes, seen = {}, []

    def forecasts(replay, trial, size, sizes, losses):
        full = sizes[-1]
        for place in PLACES:
            if size != max([one for one in sizes if one <= place * full], default=0):
                continue
            points = [[one / full, losses[one]] for one in sizes if one <= size]
            alone = replay.ask(curve={"points": points, "others": [], "quantiles": SHARES, "below": 0.0})
            informed = replay.ask(forecast={"number": trial, "quantiles": SHARES})
            if alone["mean"] is None:
                continue
            for kind, quantiles in (("alone", alone["quantiles"]), ("in its study", informed["quantiles"][0])):
                seen.append((kind, place, trial, quantiles, losses[full], losses[size], [losses[one] for one in sizes if one <= size]))

    with Replay(program) as replay:
        begin(replay, study, METHODS["all to the end"], seed)
        _, order = carry_out(replay, study, forecasts)
    for method, rules in METHODS.items():
        if isinstance(rules, str):
            reached = peer(study, rules, order)
        else:
            reached, mine = simulated(study, rules, seed, program)
            assert mine == order
        outcomes[method] = outcome(study, reached, order)
    return number, outcomes, seen


def report(options):
    found = curves(options.metric)
    parity = 0 if options.sets == "development" else 1
    chosen = [number for number in sorted(found) if number % 2 == parity]
    chosen = chosen[:: max(1, -(-len(chosen) // options.most))]
    wanted = [(number, found[number], seed, options.ask_tell) for seed in range(*options.seeds) for number in chosen]
    with concurrent.futures.ProcessPoolExecutor(options.processes) as pool:
        results = list(pool.map(run, *zip(*wanted)))
    seen = [one for _, _, all_seen in results for one in all_seen]
    lines = [f"{options.metric}, {len(chosen)} data sets ({options.sets}), {options.seeds[1] - options.seeds[0]} orders of their classifiers each.", "",
             "## Forecasts of the value at the full size", "",
             "Coverage: the share of curves whose last value lies within the interval. Error and width (of the 90 % interval) are medians, as shares of the range "
             "of the values seen by then; the error of taking the last value seen for the end stands beside it. *Alone*: from the curve itself. *In its study*: with at least five trials done, "
             "as the rule makes it.", "",
             "| | from | forecasts | in 50 % | in 80 % | in 90 % | below the median | below 5 % | below 1 % | error | error of the last value | width |",
             "|---|---|---|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for kind in ("alone", "in its study"):
        for place in PLACES:
            these = [one for one in seen if one[0] == kind and one[1] == place and (kind == "alone" or one[2] >= 5)]
            inside = lambda low, high: 100 * statistics.fmean(q[low] <= end <= q[high] for *_, q, end, _, _ in these)  # noqa: E731, B023
            span = lambda values: max(max(values) - min(values), 1e-3)  # noqa: E731
            errors = statistics.median(abs(q[3] - end) / span(values) for *_, q, end, _, values in these)
            naive = statistics.median(abs(last - end) / span(values) for *_, q, end, last, values in these)
            width = statistics.median((q[6] - q[0]) / span(values) for *_, q, end, _, values in these)
            below = 100 * statistics.fmean(end < q[3] for *_, q, end, _, _ in these)
            under = lambda at: 100 * statistics.fmean(end < q[at] for *_, q, end, _, _ in these)  # noqa: E731, B023
            lines.append(f"| {kind} | {place:g} | {len(these)} | {inside(2, 4):.0f} % | {inside(1, 5):.0f} % | {inside(0, 6):.0f} % | {below:.0f} % | {under(0):.1f} % | {under(7):.1f} % | "
                         f"{errors:.3f} | {naive:.3f} | {width:.2f} |")  # fmt: skip
    lines += ["", "## What stopping saves, and costs", "",
              "Cost: sizes that trials came to, as a share of all to the end. Regret: how far the best trial that was carried through is behind the best of "
              "all, as a share of the distance from the best to the median; means over studies, and in how many studies the best was found.", "",
              "| rule | cost | regret | best found |", "|---|---|---|---|"]  # fmt: skip
    for method in METHODS:
        costs, regrets = zip(*(outcomes[method] for _, outcomes, _ in results))
        lines.append(f"| {method} | {100 * statistics.fmean(costs):.0f} % | {statistics.fmean(regrets):.3f} | {100 * statistics.fmean(r == 0 for r in regrets):.0f} % |")
    return lines
