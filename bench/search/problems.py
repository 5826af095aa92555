"""Problems with known answers, each as parameters, directions and a function of the values.

BBOB comes from `ioh`, bbob-mixint and bbob-constrained from `coco-experiment`, ZDT1 to 3 are written out here (Zitzler, Deb and
Thiele, 2000). None of them needs the network.
"""

import math

import numpy


class Problem:
    """`evaluate(point)` gives (objective values, constraint values); all objectives are minimised, constraints hold at 0 or less.
    `score(told)` makes one number of all that was told, lower is better."""

    def __init__(self, name, parameters, objectives, constraints, evaluate, score):
        self.name, self.parameters = name, parameters
        self.objectives, self.constraints = objectives, constraints
        self.evaluate, self.score = evaluate, score


def floats(names, low, high):
    return [
        {"name": name, "domain": {"type": "float", "low": float(a), "high": float(b), "log": False, "step": None}}
        for name, a, b in zip(names, low, high)
    ]


def names(count):
    return [f"x{index}" for index in range(count)]


def best_feasible(told):
    """The lowest value of those that hold all constraints."""
    return min((v[0] for v, c in told if all(x <= 0 for x in c)), default=math.inf)


# Gaps below this are nothing.
FLOOR = 1e-8


def bbob(function, dimension, instance):
    import ioh

    problem = ioh.get_problem(function, instance, dimension, ioh.ProblemClass.BBOB)
    keys = names(dimension)
    optimum = problem.optimum.y

    def evaluate(point):
        return [float(problem([point[key] for key in keys]))], []

    def score(told):
        return max(best_feasible(told) - optimum, FLOOR)

    parameters = floats(keys, problem.bounds.lb, problem.bounds.ub)
    return Problem(f"f{function}", parameters, 1, 0, evaluate, score)


def coco(suite, function, dimension, instance):
    """Of bbob-mixint or bbob-constrained. What is lowest is not told there: the score is the value itself."""
    import cocoex

    options = f"dimensions:{dimension} function_indices:{function} instance_indices:{instance}"
    observed = cocoex.Suite(suite, "", options)
    problem = observed.get_problem(0)
    keys = names(dimension)
    whole = problem.number_of_integer_variables
    parameters = [
        {"name": key, "domain": {"type": "int", "low": int(a), "high": int(b), "log": False, "step": 1}}
        for key, a, b in zip(keys[:whole], problem.lower_bounds, problem.upper_bounds)
    ] + floats(keys[whole:], problem.lower_bounds[whole:], problem.upper_bounds[whole:])
    constraints = problem.number_of_constraints

    def evaluate(point):
        x = numpy.array([point[key] for key in keys], dtype=float)
        value = float(problem(x))
        return [value], [float(c) for c in problem.constraint(x)] if constraints else []

    made = Problem(f"f{function}", parameters, 1, constraints, evaluate, best_feasible)
    made.keeps = observed  # A suite that is collected takes its problems with it.
    return made


REFERENCE = (1.1, 6.0)


def hypervolume(told):
    """The area between the points and `REFERENCE`."""
    area, edge = 0.0, REFERENCE[1]
    for a, b in sorted(tuple(values) for values, _ in told):
        if a < REFERENCE[0] and b < edge:
            area += (REFERENCE[0] - a) * (edge - b)
            edge = b
    return area


def zdt(number, dimension):
    keys = names(dimension)

    def evaluate(point):
        x = [point[key] for key in keys]
        g = 1 + 9 * sum(x[1:]) / (dimension - 1)
        share = x[0] / g
        h = {1: 1 - math.sqrt(share), 2: 1 - share**2}.get(
            number, 1 - math.sqrt(share) - share * math.sin(10 * math.pi * x[0])
        )
        return [x[0], g * h], []

    parameters = floats(keys, [0.0] * dimension, [1.0] * dimension)
    return Problem(f"ZDT{number}", parameters, 2, 0, evaluate, lambda told: -hypervolume(told))


def valley(dimension):
    """For timing: a curved valley with a slope, over linear and logarithmic scales."""
    keys = names(dimension)

    def evaluate(point):
        x = [point[key] for key in keys]
        return [sum((a - 0.3) ** 2 for a in x) + sum((b - a * a) ** 2 for a, b in zip(x, x[1:]))], []

    return Problem("valley", floats(keys, [-1.0] * dimension, [1.0] * dimension), 1, 0, evaluate, best_feasible)
