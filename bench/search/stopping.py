"""Early stopping beside Optuna's, and forecasts of real learning curves beside what came.

`cargo xtask bench search mfhartmann` (or `lcdb`) builds the `replay` example of temper-search, makes the environment of
`bench/search/mfpbench-requirements.txt` and calls this, which writes `bench/results/stopping-SUITE-DATE.md`, or where `--out` says.
"""

import argparse
import datetime
import importlib.metadata
import os
import pathlib
import platform
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE))
from driver import free_path, heading  # noqa: E402
from machine import about_machine, first_line_of  # noqa: E402

import stopping_curves  # noqa: E402
import stopping_hartmann  # noqa: E402

SUITES = {"mfhartmann": stopping_hartmann, "lcdb": stopping_curves}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    suites = parser.add_subparsers(dest="suite", required=True)
    for name, suite in SUITES.items():
        options = suites.add_parser(name, help=suite.__doc__.splitlines()[0])
        options.add_argument("--ask-tell", required=True, help="the `replay` example of temper-search")
        options.add_argument("--out", type=pathlib.Path, help="where the report goes")
        options.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
        suite.arguments(options)
    options = parser.parse_args()
    options.ask_tell = str(pathlib.Path(options.ask_tell).resolve())
    suite, started = SUITES[options.suite], datetime.datetime.now()
    packages = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("optuna", *suite.PACKAGES))
    about = [
        f"- {about_machine()}",
        f"- Temper: commit {first_line_of(['git', 'describe', '--always', '--dirty', '--abbrev=12'])}, {first_line_of(['rustc', '--version'])}",
        f"- Peer and problems: {packages}, Python {platform.python_version()}",
    ]
    text = [*heading(suite.TITLE, started, 0), *about, "", *suite.report(options)]
    path = options.out or free_path(HERE.parent / "results", f"stopping-{options.suite}", started)
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
    print("\n".join(text), f"\n-> {path}")


if __name__ == "__main__":
    main()
