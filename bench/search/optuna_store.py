"""What Temper's store writes, opened and gone on with by Optuna and shown by its dashboard; and back.

usage: optuna_store.py --store-tool BINARY --out FOLDER [--postgres URL] [--browser PATH]
`cargo xtask e2e optuna` builds the tool (crates/search/examples/store_tool.rs) and makes the environment. On SQLite and on
PostgreSQL, a server of our own if none is given. Pictures of the dashboard go to FOLDER, to be looked at.
"""

import argparse
import json
import math
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import warnings

import optuna
import sqlalchemy
from optuna.trial import TrialState
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from checks import conclude, report  # noqa: E402
from optuna_databases import postgres, postgres_server, sqlite  # noqa: E402

# How Optuna calls what Temper calls so: it knows neither pauses nor leases.
STATES = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL", "running": "RUNNING", "paused": "RUNNING", "stale": "RUNNING"}


def schema_of(url):
    """All that SQLAlchemy can say of the tables that are not ours."""
    engine = sqlalchemy.create_engine(url)
    look = sqlalchemy.inspect(engine)
    tables = {}
    for table in look.get_table_names():
        if table.startswith("temper_"):
            continue
        columns = [(c["name"], str(c["type"]), c["nullable"], str(c["default"]), getattr(c["type"], "enums", None)) for c in look.get_columns(table)]
        keys = [(tuple(k["constrained_columns"]), k["referred_table"], tuple(k["referred_columns"])) for k in look.get_foreign_keys(table)]
        tables[table] = {
            "columns": columns,
            "primary key": look.get_pk_constraint(table)["constrained_columns"],
            "foreign keys": sorted(keys),
            "unique": sorted(tuple(u["column_names"]) for u in look.get_unique_constraints(table)),
            "indexes": sorted((i["name"], tuple(i["column_names"]), bool(i["unique"])) for i in look.get_indexes(table)),
            "checks": len(look.get_check_constraints(table)),
        }
        # A default names the schema that its sequence is in.
        tables[table]["columns"] = [tuple(str(part).split(".")[-1] if "nextval" in str(part) else part for part in c) for c in columns]
    engine.dispose()
    return tables


def same(a, b):
    return a == b or (isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b))


def compare(name, study, lines):
    """Every trial of a study beside the lines that Temper printed of it."""
    trials = {trial.number: trial for trial in study.get_trials(deepcopy=False)}
    wrong = []
    for line in lines:
        trial = trials[line["number"]]
        if trial.state.name != STATES[line["state"]]:
            wrong.append(f"{trial.number}: {trial.state} is {line['state']}")
        if trial.params != line["point"]:
            wrong.append(f"{trial.number}: {trial.params} is {line['point']}")
        if trial.state == TrialState.COMPLETE:
            if not all(map(same, trial.values, map(float, line["values"]))):
                wrong.append(f"{trial.number}: {trial.values} is {line['values']}")
            # What is NaN or missing to one is broken without bound to both.
            ours = {"floor": float(line["constraints"][0])}
            theirs = {"floor": float("nan")} | trial.constraints
            if not all(same(ours[key], theirs[key]) for key in ours):
                wrong.append(f"{trial.number}: {trial.constraints} is {line['constraints']}")
    waiting = sum(trial.state == TrialState.WAITING for trial in trials.values())
    report(name, not wrong and len(trials) == len(lines) + waiting, f"{len(lines)} trials, {waiting} waiting; {wrong[:3]}")


def objective(trial):
    """The space of the tool, as a user of Optuna writes it."""
    rate = trial.suggest_float("rate", 1e-6, 1e-2, log=True)
    if trial.suggest_categorical("mode", ["lora", "full"]) == "lora":
        trial.suggest_int("rank", 2, 64, log=True)
    trial.suggest_float("dropout", 0.0, 0.3, step=0.1)
    trial.suggest_int("batch", 8, 32, step=8)
    trial.suggest_categorical("mixed", [None, True, 1, 2.5, "x"])
    trial.set_constraint("floor", -0.5)
    trial.set_user_attr("by", "optuna")
    loss = abs(math.log10(rate) + 4)
    if len(trial.study.directions) > 1:
        return loss, 0.5
    for step in range(1, 4):
        trial.report(loss + 1 / step, step)
        if trial.should_prune():
            raise optuna.TrialPruned
    return loss


def check(tool, place, other, args):
    """All but the picture, on one database."""
    kind = place.kind

    def run(*words):
        done = subprocess.run([tool, *words], check=True, capture_output=True, text=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    optuna.create_study(storage=other.sqlalchemy, study_name="x")
    run("write", place.temper)
    ours, theirs = schema_of(place.sqlalchemy), schema_of(other.sqlalchemy)
    differ = [name for name in theirs if ours.get(name) != theirs[name]]
    report(f"{kind}: tables", not differ and set(ours) == set(theirs), f"{len(theirs)} of Optuna's, other: {differ}")
    for name in differ:
        print(f"  ours   {ours.get(name)}\n  theirs {theirs[name]}")
    # With heartbeats: Optuna fails what is stale to it before each trial.
    storage = optuna.storages.RDBStorage(place.sqlalchemy, heartbeat_interval=1, grace_period=2)
    for name in ("single", "multi"):
        study = optuna.load_study(study_name=name, storage=storage)
        lines = run("read", place.temper, name)
        compare(f"{kind}: {name} as written", study, lines)
        names = ["loss"] if name == "single" else ["loss", "kept"]
        report(f"{kind}: {name} metric names", study.metric_names == names, str(study.metric_names))
        first = study.trials[0]
        kept = first.user_attrs.get("folder") == "runs/0" and first.user_attrs.get("alpha") == (2 * first.params["rank"] if "rank" in first.params else None)
        report(f"{kind}: {name} attributes", kept, str(first.user_attrs))
        best = [trial.number for trial in study.best_trials]
        report(f"{kind}: {name} best", bool(best) and all(study.trials[n].constraints["floor"] <= 0 for n in best), str(best))
        if name == "single":
            steps = first.intermediate_values
            report(f"{kind}: intermediate values", steps == {s: 1 / s for s in (1, 2, 3)}, str(steps))
        before = len(study.trials)
        time.sleep(3)  # longer than the grace period
        study.sampler = optuna.samplers.TPESampler(seed=1)
        study.optimize(objective, n_trials=15)
        added = study.trials[before - 1:]
        done = sum(trial.state.is_finished() for trial in added)
        report(f"{kind}: {name} goes on", done == 15 and added[0].params["rate"] == 0.00025, f"{done} trials, the waiting one first: {added[0].params}")
        left = [trial.number for trial in study.trials if trial.state == TrialState.RUNNING]
        report(f"{kind}: {name} leaves ours", left == [17, 18], f"running: {left}")
        compare(f"{kind}: {name} read back", study, run("read", place.temper, name))
        study.enqueue_trial({"rate": 1e-5, "mode": "full"})
        numbers = run("continue", place.temper, name, "3")
        compare(f"{kind}: {name} continued by us", study, run("read", place.temper, name))
        report(f"{kind}: {name} numbers", numbers == [35, 36, 37], str(numbers))
        fixed = study.trials[35].params
        report(f"{kind}: {name} enqueued by Optuna", (fixed["rate"], fixed["mode"]) == (1e-5, "full"), str(fixed))
    pictures(place, args)
    optuna.delete_study(study_name="multi", storage=storage)
    with storage.engine.connect() as connection:
        count = lambda table: connection.execute(sqlalchemy.text(f"SELECT COUNT(*) FROM {table}")).scalar()  # noqa: E731
        left = {table: count(table) for table in ("temper_trials", "temper_reports", "temper_studies")}
    report(f"{kind}: deleted by Optuna", (left["temper_studies"], left["temper_trials"]) == (1, 23), str(left))
    storage.engine.dispose()


def pictures(place, args):
    """The dashboard in a browser."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = pathlib.Path(sys.executable).with_name("optuna-dashboard")
    server = subprocess.Popen([program, place.sqlalchemy, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    home = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{home}/api/studies").close()
                break
            except OSError:
                time.sleep(0.2)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=args.browser, args=["--no-sandbox"])
            for study, name in ((1, "single"), (2, "multi")):
                page = browser.new_page(viewport={"width": 1400, "height": 1000})
                failed = []
                page.on("pageerror", lambda error: failed.append(str(error)))
                page.on("response", lambda answer: failed.append(f"{answer.status} {answer.url}") if answer.status >= 500 else None)
                page.goto(f"{home}/dashboard/studies/{study}", wait_until="networkidle", timeout=180_000)
                page.wait_for_selector(".scatterlayer .trace .point", state="attached", timeout=180_000)
                page.screenshot(path=args.out / f"{place.kind.lower()}-{name}.png")
                page.goto(f"{home}/dashboard/studies/{study}/trials", wait_until="networkidle", timeout=180_000)
                page.wait_for_selector("text=Trial 0", timeout=180_000)
                page.screenshot(path=args.out / f"{place.kind.lower()}-{name}-trials.png")
                report(f"{place.kind}: {name} in a browser", not failed, f"errors: {failed[:3]}")
                page.close()
            browser.close()
    finally:
        server.terminate()
        server.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store-tool", required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--postgres")
    parser.add_argument("--browser", default=shutil.which("chromium") or shutil.which("google-chrome"))
    args = parser.parse_args()
    if not args.browser:
        sys.exit("no chromium or google-chrome on the PATH; install one or name it with --browser")
    args.out.mkdir(parents=True, exist_ok=True)
    # Not what is looked at here: experimental heartbeats, and a choice of mixed types.
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as folder, postgres_server(args.postgres) as server:
        check(args.store_tool, sqlite(folder, "ours"), sqlite(folder, "theirs"), args)
        check(args.store_tool, postgres(server, "ours"), postgres(server, "theirs"), args)
    conclude(f"pictures in {args.out}")


main()
