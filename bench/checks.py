"""The lines that the checks print, and what they end with."""

import sys

_failures = 0


def report(name, passed, what):
    """Prints one line, and counts it where it failed."""
    global _failures
    _failures += not passed
    print(f"{'pass' if passed else 'FAIL'}  {name:<28} {what}", flush=True)


def conclude(about=""):
    """Ends the process: with 1 where something failed."""
    print(f"{_failures} failed{'; ' if about else ''}{about}")
    sys.exit(_failures > 0)
