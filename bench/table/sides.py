"""Both sides on a table: a search that may try each configuration once, and pays the tokens of every length that it looks at.

A side proposes any point of the space; what is carried out, and told, is the nearest configuration that was not begun yet. Both begin
with the default. Each gives its trace: tokens spent, and the configuration that was measured at its full length then.
"""

import pathlib
import sys
import warnings

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "search"))
from stopping_replay import Replay  # noqa: E402

# Nats that a constraint counts for, by as much as it is broken, where one number is to be made of it and the loss.
BROKEN = 1.0


class Spent:
    """What is free of a table, what was spent, and the full runs so far."""

    def __init__(self, table):
        self.table, self.free, self.tokens, self.paid, self.trace = table, set(table.rows), 0, {}, []

    def take(self, point):
        number = self.table.nearest(point, self.free)
        self.free.remove(number)
        return number

    def look(self, number, step):
        """The report at a length; what goes on from a shorter one pays the difference."""
        report = self.table.report(number, step)
        self.tokens += report["tokens"] - self.paid.get(number, 0)
        self.paid[number] = report["tokens"]
        if step == self.table.rungs[-1]:
            self.trace.append((self.tokens, number))
        return report


def temper(table, seed, program, sampler="auto", rules=({"rule": "asha", "reduction": 2, "mode": "pause"},), axes=None):
    """As `temper tune` searches: both objectives, or the first `axes`, the constraints, what is hopeless ends."""
    spent, numbers = Spent(table), {}
    with Replay(program) as replay:
        replay.ask(study={
            "sampler": sampler, "seed": seed, "parameters": table.parameters, "rungs": table.rungs,
            "objectives": ["minimize"] * len(table.about["objectives"][:axes]), "constraints": table.about["constraints"],
            "rules": [{"rule": "hopeless", "threshold": 0.01}, *rules], "first": table.rows[table.own]["point"],
        })  # fmt: skip
        while True:
            work = replay.ask(next={"closing": not spent.free})
            if "done" in work:
                return spent.trace
            trial = work["number"]
            if trial not in numbers:
                numbers[trial] = spent.take(work["point"])
                replay.ask(place={"number": trial, "point": table.rows[numbers[trial]]["point"]})
            until = work["until"]
            while until:
                report = spent.look(numbers[trial], until)
                number = lambda value: value if value == value else None  # noqa: E731
                answer = replay.ask(report={"number": trial, "step": until, "values": [*map(number, report["values"][:axes])],
                                            "constraints": [*map(number, report["constraints"])], "items": []})  # fmt: skip
                until = answer.get("until")


def optuna(table, seed, pruner=None, scalarised=False, sampler="tpe"):
    """The loss with the constraints, or one number made of both."""
    import optuna as peer

    warnings.simplefilter("ignore")
    peer.logging.set_verbosity(peer.logging.ERROR)
    kept = {} if scalarised else {"constraints_func": lambda trial: trial.user_attrs["constraints"]}
    samplers = {
        "tpe": lambda: peer.samplers.TPESampler(seed=seed, **kept),
        "random": lambda: peer.samplers.RandomSampler(seed=seed),
    }
    pruners = {
        None: peer.pruners.NopPruner,
        "halving": peer.pruners.SuccessiveHalvingPruner,
        "halving by 2": lambda: peer.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2),
    }
    study, spent = peer.create_study(sampler=samplers[sampler](), pruner=pruners[pruner]()), Spent(table)

    def propose(trial):
        point = {}
        for parameter in table.parameters:
            when = parameter.get("when")
            if when and point.get(when[0]) not in when[1]:
                continue
            name, domain = parameter["name"], parameter["domain"]
            match domain["type"]:
                case "choice":
                    point[name] = trial.suggest_categorical(name, domain["values"])
                case "int":
                    point[name] = trial.suggest_int(name, domain["low"], domain["high"], step=domain.get("step") or 1, log=domain["log"])
                case _:
                    point[name] = trial.suggest_float(name, domain["low"], domain["high"], step=domain.get("step"), log=domain["log"])
        return point

    first = table.rungs[0]
    while spent.free:
        if len(study.trials):
            # What was proposed itself is not carried out: failed trials are nothing to its samplers.
            asked = study.ask()
            number = spent.take(propose(asked))
            study.tell(asked, state=peer.trial.TrialState.FAIL)
        else:
            number = table.own
            spent.free.remove(number)
        study.enqueue_trial(table.rows[number]["point"])
        trial = study.ask()
        propose(trial)
        value, ended = float("nan"), False
        for step in table.rungs:
            report = spent.look(number, step)
            loss, broken = report["values"][0], report["constraints"]
            value = loss + BROKEN * sum(max(0.0, by) for by in broken) if scalarised else loss
            trial.set_user_attr("constraints", broken)
            # In units of the first length: its pruner counts from 1.
            trial.report(value, round(step / first))
            if step < table.rungs[-1] and trial.should_prune():
                ended = True
                break
        if ended:
            study.tell(trial, state=peer.trial.TrialState.PRUNED)
        else:
            study.tell(trial, value if value == value else None, state=None if value == value else peer.trial.TrialState.FAIL)
    return spent.trace


METHODS = {
    "temper tune": ("temper", {}),
    "temper tune, the loss alone": ("temper", {"axes": 1}),
    "temper, tpe + asha": ("temper", {"sampler": "tpe"}),
    "temper, nothing stopped": ("temper", {"rules": ()}),
    "optuna tpe, full runs": ("optuna", {}),
    "optuna tpe + successive halving": ("optuna", {"pruner": "halving", "scalarised": True}),
    "optuna tpe + successive halving by 2": ("optuna", {"pruner": "halving by 2", "scalarised": True}),
    "random, full runs": ("optuna", {"sampler": "random"}),
}


def trace(table, method, seed, program):
    side, more = METHODS[method]
    return temper(table, seed, program, **more) if side == "temper" else optuna(table, seed, **more)
