"""Multi-fidelity Hartmann functions at equal cost, beside Optuna 5.

mf-prior-bench's MFHartmann: 3 and 6 dimensions, fidelities 1 to 100, of which lower ones are biased and noisy by four degrees
("good" to "terrible" correlation with the last). A run to fidelity z costs 0.05 + 0.95 (z / 100)^2 full runs; what goes on from a
lower fidelity pays the difference, on both sides.
"""

import concurrent.futures
import math
import statistics
import warnings

from stopping_replay import Replay

TITLE = "MFHartmann at equal cost"
PACKAGES = ("mf-prior-bench",)
OPTIMA = {3: -3.86278, 6: -3.32237}
FULL = 100
METHODS = {
    "optuna tpe": ("none", [100]),
    # Its defaults: a first rung of a hundredth, a reduction of 4.
    "optuna tpe + successive halving": ("halving", [1, 4, 16, 64, 100]),
    "optuna tpe + successive halving from 4 by 3": ("halving from 4 by 3", [4, 12, 36, 100]),
    "optuna tpe + hyperband from 4 by 3": ("hyperband from 4 by 3", [4, 12, 36, 100]),
    "temper tpe + asha": ([{"rule": "asha", "reduction": 3, "mode": "pause"}], [4, 11, 33, 100]),
    "temper tpe + hyperband": ([{"rule": "hyperband", "reduction": 3, "brackets": 4, "mode": "pause"}], [4, 11, 33, 100]),
}
PEER = "optuna tpe + successive halving"


def arguments(parser):
    parser.add_argument("--seeds", type=int, nargs=2, default=[0, 20], help="from, and up to but without")
    parser.add_argument("--budgets", type=float, nargs="+", default=[5, 10, 20], help="costs in full runs")
    parser.add_argument("--cases", nargs="+", default=[f"mfh{d}_{c}" for d in (3, 6) for c in ("good", "moderate", "bad", "terrible")])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))


class Problem:
    """One function, what was spent on it, and the best full run at each moment."""

    def __init__(self, case):
        import mfpbench

        self.benchmark = mfpbench.get(case)
        self.names = list(self.benchmark.space)
        self.optimum = OPTIMA[len(self.names)]
        self.cost, self.trace = 0.0, []

    def query(self, point, fidelity, begun):
        """The value at a fidelity, of what has already been paid for up to `begun`."""
        price = lambda z: 0.05 + 0.95 * (z / FULL) ** 2 if z else 0.0  # noqa: E731
        value = float(self.benchmark.query({name: point[name] for name in self.names}, at=fidelity).value.value)
        self.cost += price(fidelity) - price(begun)
        if fidelity == FULL:
            best = min(value - self.optimum, self.trace[-1][1] if self.trace else math.inf)
            self.trace.append((self.cost, best))
        return value

    def regret(self, budget):
        """Of the best full run within a budget: those of both sides are exact. None before the first."""
        within = [regret for cost, regret in self.trace if cost <= budget + 1e-9]
        return max(within[-1], 1e-9) if within else None


def temper(problem, rules, rungs, budget, seed, program):
    with Replay(program) as replay:
        parameters = [{"name": name, "domain": {"type": "float", "low": 0.0, "high": 1.0, "log": False, "step": None}}
                      for name in problem.names]  # fmt: skip
        replay.ask(study={"sampler": "tpe", "seed": seed, "objectives": ["minimize"], "constraints": [],
                          "parameters": parameters, "rungs": rungs, "rules": rules})  # fmt: skip
        trials = 0
        while problem.cost < budget:
            work = replay.ask(next={"closing": False})
            trials = max(trials, work["number"] + 1)
            begun, until = work["from"], work["until"]
            while until and problem.cost < budget:
                value = problem.query(work["point"], until, begun)
                answer = replay.ask(report={"number": work["number"], "step": until, "values": [value], "constraints": [],
                                            "items": []})  # fmt: skip
                begun, until = until, answer.get("until")
        return trials


def optuna(problem, pruner, rungs, budget, seed):
    import optuna as peer

    warnings.simplefilter("ignore")
    peer.logging.set_verbosity(peer.logging.ERROR)
    pruners = {
        "none": peer.pruners.NopPruner,
        "halving": peer.pruners.SuccessiveHalvingPruner,
        "halving from 4 by 3": lambda: peer.pruners.SuccessiveHalvingPruner(min_resource=4, reduction_factor=3),
        "hyperband from 4 by 3": lambda: peer.pruners.HyperbandPruner(min_resource=4, max_resource=FULL, reduction_factor=3),
    }
    study = peer.create_study(sampler=peer.samplers.TPESampler(seed=seed), pruner=pruners[pruner]())
    while problem.cost < budget:
        trial = study.ask({name: peer.distributions.FloatDistribution(0.0, 1.0) for name in problem.names})
        begun, value = 0, math.nan
        for fidelity in rungs:
            value = problem.query(trial.params, fidelity, begun)
            begun = fidelity
            trial.report(value, fidelity)
            if problem.cost >= budget or fidelity < FULL and trial.should_prune():
                break
        if begun == FULL:
            study.tell(trial, value)
        else:
            study.tell(trial, state=peer.trial.TrialState.PRUNED)
    return len(study.trials)


def study(case, method, seed, budgets, program):
    problem = Problem(case)
    if method.startswith("optuna"):
        trials = optuna(problem, *METHODS[method], max(budgets), seed)
    else:
        trials = temper(problem, *METHODS[method], max(budgets), seed, program)
    return {"case": case, "method": method, "seed": seed, "trials": trials, "full": len(problem.trace),
            "regrets": [problem.regret(budget) for budget in budgets]}  # fmt: skip


def report(options):
    wanted = [(case, method, seed, options.budgets, options.ask_tell)
              for seed in range(*options.seeds) for case in options.cases for method in options.methods]  # fmt: skip
    with concurrent.futures.ProcessPoolExecutor(options.processes) as pool:
        records = list(pool.map(study, *zip(*wanted)))
    lines = [f"{options.seeds[1] - options.seeds[0]} seeds from {options.seeds[0]}; regret of the best full run (lower is better): "
              "median (quartiles) over seeds.",
              "Wins: of all seeds and cases, those with a lower regret than Optuna's TPE + successive halving at the same seed; equal ones as half.", ""]
    for place, budget in enumerate(options.budgets):
        def of(case, method):
            return [math.inf if r["regrets"][place] is None else r["regrets"][place]
                    for r in records if r["case"] == case and r["method"] == method]
        lines += [f"## Cost of {budget:g} full runs", "", "| case | " + " | ".join(options.methods) + " |",
                  "|---" * (1 + len(options.methods)) + "|"]
        for case in options.cases:
            cells = []
            for method in options.methods:
                low, middle, high = statistics.quantiles(of(case, method), n=4, method="inclusive")
                cells.append(f"{middle:.3f} ({low:.3f}, {high:.3f})")
            lines.append(f"| {case} | " + " | ".join(cells) + " |")
        means, wins, ahead = [], [], []
        for method in options.methods:
            medians = [statistics.median(of(case, method)) for case in options.cases]
            means.append(f"{statistics.fmean(math.log10(m) for m in medians):.3f}")
            pairs = [(a, b) for case in options.cases for a, b in zip(of(case, method), of(case, PEER))]
            wins.append(f"{100 * statistics.fmean(1.0 if a < b else 0.5 if a == b else 0.0 for a, b in pairs):.0f} %" if pairs else "-")
            theirs = [statistics.median(of(case, PEER)) if of(case, PEER) else math.nan for case in options.cases]
            ahead.append(f"{sum(a < b for a, b in zip(medians, theirs))} of {len(medians)}")
        lines += ["| mean log10 of the median | " + " | ".join(means) + " |", "| wins | " + " | ".join(wins) + " |",
                  "| cases ahead by the median | " + " | ".join(ahead) + " |", ""]
    counts = [f"{method}: {statistics.fmean(r['trials'] for r in records if r['method'] == method):.0f} begun, "
              f"{statistics.fmean(r['full'] for r in records if r['method'] == method):.1f} carried through" for method in options.methods]
    return lines + ["Trials a study, in the mean: " + "; ".join(counts) + "."]
