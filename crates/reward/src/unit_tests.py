"""Runs code that a model wrote against tests, in a process of its own. The first line of its input is the work.

{"code": .., "tests": [..], "word": ..}: a test is a text of Python, run after the code in the same names, or {"input": .., "output":
..}: then the code runs as a program for each. The last line of the output is {"word": .., "passed": [..], "told": [..]}; the word, which the
code is not told, marks it as ours.
"""

import io
import json
import os
import sys


def main():
    work = json.loads(os.fdopen(os.dup(0), "rb").readline())
    word, answer = work.pop("word"), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    # Ready: what goes wrong from here on is the code's fault.
    os.write(answer, b'{"ready": true}\n')
    passed, told = check(**work)
    line = json.dumps({"word": word, "passed": passed, "told": told}) + "\n"
    os.write(answer, line.encode())
    os._exit(0)


def check(code, tests):
    programs = [test for test in tests if isinstance(test, dict)]
    if programs:
        outcomes = [as_program(code, test) for test in programs]
    else:
        names = {"__name__": "solution"}
        problem = attempt(lambda: exec(compile(code, "solution.py", "exec"), names))
        outcomes = [problem or attempt(lambda: exec(compile(test, "test.py", "exec"), names)) for test in tests]
    return [problem is None for problem in outcomes], [problem for problem in outcomes if problem][:3]


def attempt(run):
    """None, or what went wrong in a line."""
    try:
        run()
    except BaseException as error:
        return f"{type(error).__name__}: {error}"[:200]
    return None


def as_program(code, test):
    """Runs the code with an input and compares what it prints, line by line, blanks at their ends aside."""
    stdin, stdout = sys.stdin, sys.stdout
    sys.stdin, sys.stdout = io.StringIO(test["input"]), io.StringIO()
    try:
        exec(compile(code, "solution.py", "exec"), {"__name__": "__main__"})
        problem = None
    except SystemExit as ended:
        problem = None if ended.code in (None, 0) else f"exit code {ended.code}"
    except BaseException as error:
        problem = f"{type(error).__name__}: {error}"[:200]
    finally:
        printed = sys.stdout.getvalue() if isinstance(sys.stdout, io.StringIO) else ""
        sys.stdin, sys.stdout = stdin, stdout
    if problem is None and lines(printed) != lines(test["output"]):
        problem = f"printed {printed[:80]!r}, expected {test['output'][:80]!r}"
    return problem


def lines(text):
    return [line.rstrip() for line in text.rstrip().splitlines()]


main()
