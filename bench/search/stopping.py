"""Early stopping beside Optuna's, and forecasts of real learning curves beside what came.

`python bench/search/stopping.py mfhartmann --ask-tell REPLAY --out FILE` (and `lcdb`), where REPLAY is the example of
temper-search (`cargo build --release -p temper-search --examples` leaves it as `target/release/examples/replay`) and Python that of
an environment with `bench/search/mfpbench-requirements.txt`.
"""

import argparse
import datetime
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE))
from machine import about_machine  # noqa: E402

import stopping_curves  # noqa: E402
import stopping_hartmann  # noqa: E402

SUITES = {"mfhartmann": stopping_hartmann, "lcdb": stopping_curves}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    suites = parser.add_subparsers(dest="suite", required=True)
    for name, suite in SUITES.items():
        options = suites.add_parser(name, help=suite.__doc__.splitlines()[0])
        options.add_argument("--ask-tell", required=True, help="the `replay` example of temper-search")
        options.add_argument("--out", help="where the report goes; standard output where not given")
        options.add_argument("--processes", type=int, default=2)
        suite.arguments(options)
    options = parser.parse_args()
    options.ask_tell = str(pathlib.Path(options.ask_tell).resolve())
    lines = [f"# {SUITES[options.suite].TITLE}, {datetime.date.today()}", "", about_machine() + ".", ""]
    text = "\n".join(lines + SUITES[options.suite].report(options)) + "\n"
    if options.out:
        pathlib.Path(options.out).write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
