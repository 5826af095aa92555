"""The TensorBoard events of a run, read back by TensorBoard itself and compared with metrics.jsonl.

usage: check.py --run RUN --resumed FOLDER
`cargo xtask e2e tensorboard` makes both: RUN is the folder of a small run, FOLDER holds event files as a run leaves them
that was stopped after step 5 and went on after step 2 with other values (`train/loss` 10 * step before, 20 * step after).
"""

import argparse
import json
import math
import pathlib
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from checks import conclude, report  # noqa: E402


def scalars(folder):
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def check_run(run):
    plan = json.loads((run / "plan.json").read_text())
    names = [source["name"] for source in plan["stages"][0]["shares"]["sources"]]
    expected = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        line = json.loads(line)
        add = lambda tag, value: expected.setdefault(tag, []).append((line["step"], float(value)))
        if line["event"] == "validation":
            add("validation/loss", line["loss"])
            continue
        if line["event"] == "general":
            add(f"general/loss/{line['suite']}", line["loss"])
            add(f"general/relative_change/{line['suite']}", line["relative"])
            continue
        for key in ("loss", "learning_rate", "gradient_norm"):
            add(f"train/{key}", line[key])
        add("train/tokens_per_second", line["processed_tokens"] / line["seconds"])
        for name, loss in zip(names, line["loss_by_source"]):
            if not math.isnan(float(loss)):
                add(f"train/loss/{name}", loss)
    found = scalars(run / "tensorboard")
    report("tags", sorted(found) == sorted(expected), ", ".join(sorted(found)))
    for tag, values in sorted(expected.items()):
        got = found.get(tag, [])
        # Values are stored in 32 bits: 2^-24 of rounding.
        close = [s == t and math.isclose(a, b, rel_tol=1e-7) for (s, a), (t, b) in zip(got, values)]
        report(tag, len(got) == len(values) and all(close), f"{len(got)} values of {len(values)} in metrics.jsonl")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=pathlib.Path, required=True)
    parser.add_argument("--resumed", type=pathlib.Path, required=True)
    args = parser.parse_args()
    check_run(args.run)
    values = scalars(args.resumed).get("train/loss")
    report("a resumed run", values == [(1, 10), (2, 20), (3, 60), (4, 80), (5, 100), (6, 120)], str(values))
    conclude()


main()
