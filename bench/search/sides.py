"""Both sides: a study of one problem by one method, trial after trial.

Each gives what was told, and of each trial the seconds of its ask and tell, on the clock and on the processor: the latter do not
count what other work on the machine takes away.
"""

import json
import subprocess
import time


def temper(program, sampler, problem, trials, seed):
    """Asks the `ask_tell` example of temper-search."""
    child = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def request(**what):
        child.stdin.write(json.dumps(what) + "\n")
        child.stdin.flush()
        return json.loads(child.stdout.readline())

    request(study={
        "sampler": sampler, "seed": seed, "budget": trials, "parameters": problem.parameters,
        "objectives": ["minimize"] * problem.objectives,
        "constraints": [f"c{index}" for index in range(problem.constraints)],
    })  # fmt: skip
    def processor():
        with open(f"/proc/{child.pid}/schedstat", encoding="ascii") as file:
            return int(file.read().split()[0]) / 1e9

    told, seconds = [], []
    try:
        for _ in range(trials):
            used, asked = processor(), time.perf_counter()
            answer = request(ask={})
            asked = time.perf_counter() - asked
            if "exhausted" in answer:
                break
            values, constraints = problem.evaluate(answer["point"])
            begun = time.perf_counter()
            request(tell={"number": answer["number"], "values": values, "constraints": constraints})
            seconds.append((asked + time.perf_counter() - begun, processor() - used))
            told.append((values, constraints))
    finally:
        child.stdin.close()
        child.wait()
    return told, seconds


def optuna_sampler(name, seed, constraints):
    import optuna

    kept = {"constraints_func": lambda trial: trial.user_attrs["constraints"]} if constraints else {}
    makers = {
        "random": lambda: optuna.samplers.RandomSampler(seed=seed),
        "tpe": lambda: optuna.samplers.TPESampler(seed=seed, **kept),
        "multivariate": lambda: optuna.samplers.TPESampler(seed=seed, multivariate=True, **kept),
        "gp": lambda: optuna.samplers.GPSampler(seed=seed, **kept),
    }
    return makers[name]()


def optuna(sampler, problem, trials, seed):
    """Asks Optuna, in memory."""
    import warnings

    import optuna as peer

    warnings.simplefilter("ignore")
    peer.logging.set_verbosity(peer.logging.ERROR)
    study = peer.create_study(
        directions=["minimize"] * problem.objectives, sampler=optuna_sampler(sampler, seed, problem.constraints)
    )
    distributions = {}
    for parameter in problem.parameters:
        domain = parameter["domain"]
        kind = peer.distributions.IntDistribution if domain["type"] == "int" else peer.distributions.FloatDistribution
        distributions[parameter["name"]] = kind(domain["low"], domain["high"], log=domain["log"])
    told, seconds = [], []
    for _ in range(trials):
        used, begun = time.process_time(), time.perf_counter()
        trial = study.ask(distributions)
        used, asked = time.process_time() - used, time.perf_counter() - begun
        values, constraints = problem.evaluate(trial.params)
        again, begun = time.process_time(), time.perf_counter()
        if problem.constraints:
            trial.set_user_attr("constraints", constraints)
        study.tell(trial, values)
        seconds.append((asked + time.perf_counter() - begun, used + time.process_time() - again))
        told.append((values, constraints))
    return told, seconds
