"""A table of runs: every configuration that was trained, and what was measured of it at every length.

`TABLE.jsonl`: a first line about the whole, then a line a configuration, the recipe's own first:

    {"name": ..., "parameters": [{"name", "domain", "when"}], "objectives": [..], "constraints": [..], "rungs": [..], "made": ..}
    {"number": 0, "point": {..}, "reports": [{"step": 125, "tokens": 1890, "values": [..], "constraints": [..]}, ..]}

`step` counts in thousandths of the full length, `tokens` are those of training up to there. A configuration that did not come to its
end has fewer reports.

usage: table.py export STUDY_FOLDER TABLE   what `temper tune bench/table/icd10-table.yaml` left, as a table
       table.py synthetic TABLE             a made-up one of the same form, for trying the replay out
"""

import json
import math
import pathlib
import random
import sqlite3
import sys


class Table:
    """A table that was read, how far its configurations are apart, and which of them is the default."""

    def __init__(self, path, own=0):
        self.own = own
        about, *rows = (json.loads(line) for line in pathlib.Path(path).read_text().splitlines())
        self.about, self.parameters, self.rungs = about, about["parameters"], about["rungs"]
        self.rows = {row["number"]: row for row in rows}

    def whole(self, number):
        """What was measured at the full length; none of a configuration that did not come to it."""
        last = self.rows[number]["reports"][-1:]
        return last[0] if last and last[0]["step"] == self.rungs[-1] else None

    def report(self, number, step):
        """What was measured at a length; NaN where it broke down before."""
        for report in self.rows[number]["reports"]:
            if report["step"] == step:
                return report
        before = self.rows[number]["reports"]
        tokens = before[-1]["tokens"] if before else 0
        return {"step": step, "tokens": tokens, "values": [math.nan] * len(self.about["objectives"]),
                "constraints": [math.nan] * len(self.about["constraints"])}  # fmt: skip

    def is_feasible(self, number):
        whole = self.whole(number)
        return whole is not None and all(value <= 0 for value in whole["constraints"])

    def nearest(self, point, free):
        """The free configuration that is nearest to a point: by the sum over parameters of how far apart they are on their unit
        scales, 1 where only one of them has the parameter, or where choices that are no numbers differ."""
        return min(sorted(free), key=lambda number: sum(self.apart(p, point, self.rows[number]["point"]) for p in self.parameters))

    @staticmethod
    def apart(parameter, one, other):
        values = one.get(parameter["name"]), other.get(parameter["name"])
        if None in values:
            return float(values != (None, None))
        domain = parameter["domain"]
        if domain["type"] == "choice":
            choices = domain["values"]
            if not all(isinstance(choice, (int, float)) for choice in choices):
                return float(values[0] != values[1])
            # Numbers in a list are as far apart as their places.
            a, b = (sorted(choices).index(value) for value in values)
            return abs(a - b) / max(1, len(choices) - 1)
        scale = math.log if domain.get("log") else float
        low, high = scale(domain["low"]), scale(domain["high"])
        return abs(scale(values[0]) - scale(values[1])) / (high - low)


def write(path, about, rows):
    lines = [about, *sorted(rows, key=lambda row: row["number"])]
    pathlib.Path(path).write_text("".join(json.dumps(line) + "\n" for line in lines))


def export(folder, path):
    """The study in a folder as a table."""
    folder = pathlib.Path(folder)
    database = sqlite3.connect(f"file:{folder / 'study.sqlite'}?mode=ro", uri=True)
    ask = lambda text, *values: database.execute(text, values).fetchall()  # noqa: E731
    (space, goals), = ask("SELECT space_json, goals_json FROM temper_studies")
    space, goals = json.loads(space), json.loads(goals)
    rows, lengths = [], set()
    for trial, number, state in ask("SELECT trial_id, number, state FROM trials ORDER BY number"):
        if state not in ("COMPLETE", "FAIL", "PRUNED"):
            sys.exit(f"trial {number} is {state}: the study is not at its end\nhint: run the same `temper tune` again, it goes on")
        point = {}
        for name, value, distribution in ask("SELECT param_name, param_value, distribution_json FROM trial_params WHERE trial_id = ?", trial):
            kind = json.loads(distribution)
            made = {"CategoricalDistribution": lambda: kind["attributes"]["choices"][int(value)], "IntDistribution": lambda: int(value)}
            point[name] = made.get(kind["name"], lambda: value)()
        processed = tokens(next((folder / "trials" / f"{number:04}").glob("seed-*/metrics.jsonl"), None))
        reports = []
        for step, measured in ask("SELECT step, measured_json FROM temper_reports WHERE trial_id = ? ORDER BY step", trial):
            measured = {key: [math.nan if value is None else float(value) for value in values] for key, values in json.loads(measured).items()}
            reports.append({"step": step, "tokens": processed(step / 1000), **measured})
            lengths.add(step)
        rows.append({"number": number, "point": point, "reports": reports})
    about = {
        "name": folder.name,
        "parameters": parameters(space),
        "objectives": [objective["name"] for objective in goals["objectives"]],
        "constraints": goals["constraints"],
        "rungs": sorted(lengths),
        "made": "real runs",
    }
    write(path, about, rows)
    print(f"{len(rows)} configurations, {sum(len(row['reports']) for row in rows)} reports -> {path}")


def parameters(space):
    """Parameters as the `replay` example takes them, from a space as the store keeps it."""
    found = []
    for name, parameter in space["parameters"].items():
        when = parameter.get("when")
        found.append({"name": name, "domain": parameter["domain"],
                      **({"when": [when["name"], when["values"]]} if when else {})})  # fmt: skip
    return found


def tokens(path):
    """Tokens of training up to a share of a run's steps."""
    steps = {}
    for line in path.read_text().splitlines() if path else ():
        record = json.loads(line)
        if record.get("event") == "step":
            # A step that was made again after a stop is written again.
            steps[record["step"]] = record["processed_tokens"]
    last = max(steps, default=0)
    return lambda share: sum(count for step, count in steps.items() if step <= math.ceil(share * last - 1e-9))


def synthetic(path, count=64, seed=1):
    """Made up: a loss that falls to a valley in the rate and the mode, forgetting that rises with the rate and the share."""
    drawn = random.Random(seed)
    log = lambda low, high: {"type": "float", "low": low, "high": high, "log": True, "step": None}  # noqa: E731
    choice = lambda *values: {"type": "choice", "values": list(values)}  # noqa: E731
    names = [
        {"name": "mode", "domain": choice("lora", "full")},
        {"name": "rate", "domain": log(5e-6, 2e-2)},
        {"name": "rank", "domain": choice(2, 8, 32), "when": ["mode", ["lora"]]},
        {"name": "domain", "domain": {"type": "int", "low": 40, "high": 95, "step": 5, "log": False}},
        {"name": "batch", "domain": choice(8, 16, 32)},
        {"name": "warmup", "domain": choice(0, 0.1, 0.3)},
    ]
    rows = []
    for number in range(count):
        point = {"mode": drawn.choice(["lora", "full"]), "rate": math.exp(drawn.uniform(math.log(5e-6), math.log(2e-2))),
                 "rank": drawn.choice([2, 8, 32]), "domain": 5 * drawn.randint(8, 19), "batch": drawn.choice([8, 16, 32]),
                 "warmup": drawn.choice([0, 0.1, 0.3])}  # fmt: skip
        if number == 0:
            point = {"mode": "lora", "rate": 5e-5, "rank": 8, "domain": 70, "batch": 16, "warmup": 0.1}
        best = 2e-3 if point["mode"] == "lora" else 2e-4
        off = math.log10(point["rate"] / best)
        if point["mode"] == "full":
            del point["rank"]
        end = 0.6 + 1.2 * off**2 + (95 - point["domain"]) / 100 + 0.02 * math.log2(point["batch"] / 8)
        rise = 2.0 * max(0.0, off + 0.4) ** 2 + (point["domain"] - 60) / 20 - 0.5
        reports = []
        for step in (125, 250, 500, 1000):
            share = step / 1000
            loss = end + (7 - min(end, 6.5)) * 0.3 * (share**-0.5 - 1) + drawn.gauss(0, 0.03)
            forgot = rise * share**0.5 + drawn.gauss(0, 0.05)
            reports.append({"step": step, "tokens": int(15000 * share), "values": [loss, forgot], "constraints": [forgot + 0.2 - 2]})
        rows.append({"number": number, "point": point, "reports": reports})
    about = {"name": "synthetic", "parameters": names, "objectives": ["validation_loss", "forgetting"],
             "constraints": ["floor of heldout"], "rungs": [125, 250, 500, 1000], "made": "made up, no run"}  # fmt: skip
    write(path, about, rows)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["export", study, table]:
            export(study, table)
        case ["synthetic", table]:
            synthetic(table)
        case _:
            sys.exit(__doc__)
