"""A reward as a plain function: is the equation in the answer true, and does it use the given numbers, each once?

Rows: {"prompt": "Make 24 of 4, 6, 1: an equation.", "numbers": [4, 6, 1], "target": 24, "reference_answer": "4 * 6 * 1 = 24"}.
Try it: temper reward test recipes/rewards/equation.py --rows recipes/rewards/equations.jsonl
"""

import re


def reward(completion, numbers, target):
    """1 for a right equation, 0.2 for one that uses the numbers and misses the target, else 0."""
    lines = [line.strip() for line in completion.splitlines() if line.strip()]
    left = lines[-1].split("=")[0] if lines else ""
    # Digits, the four operations and brackets: nothing else is evaluated, and powers could take forever.
    if not re.fullmatch(r"[\d\s+\-*/()]+", left) or "**" in left or "//" in left:
        return 0.0
    if sorted(int(number) for number in re.findall(r"\d+", left)) != sorted(numbers):
        return 0.0
    try:
        value = eval(left, {"__builtins__": {}})
    except (SyntaxError, ZeroDivisionError, TypeError):
        return 0.0
    right = abs(value - target) < 1e-9
    # Parts beside the score are shown and never counted.
    return {"score": 1.0 if right else 0.2, "distance": abs(value - target)}
