"""Runs a function that scores completions: requests come in as lines of JSON, replies go out as lines of JSON.

Started as `python3 -c THIS FILE FUNCTION SEED SECONDS`; FUNCTION may be empty. What the function prints goes to the log.
"""

import asyncio
import importlib.util
import inspect
import json
import os
import random
import sys
import time
import traceback
import zlib


class Context:
    """What AWS Lambda hands to a handler beside the event, as far as it means something here."""

    memory_limit_in_mb = "0"
    invoked_function_arn = ""

    def __init__(self, name, request, seconds):
        self.function_name = name
        self.function_version = "$LATEST"
        self.aws_request_id = request
        self._until = time.monotonic() + seconds

    def get_remaining_time_in_millis(self):
        return max(0, int(1000 * (self._until - time.monotonic())))


def load(path):
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    name = os.path.splitext(os.path.basename(path))[0]
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    # Where data classes and pickles look for their module.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def choose(module, name):
    """The function, and how it takes samples: "one", "list" or "lambda"."""
    names = [name] if name else ["reward", "rewards", "lambda_handler"]
    found = [name for name in names if callable(getattr(module, name, None))]
    if not found:
        raise LookupError("there is no function " + " or ".join(f"`{name}`" for name in names))
    if len(found) > 1:
        raise LookupError("there are " + " and ".join(f"`{name}`" for name in found) + "; say which: `function: NAME`")
    function = getattr(module, found[0])
    takes = list(inspect.signature(function).parameters)
    if found[0] == "lambda_handler" or takes[:2] == ["event", "context"]:
        return function, found[0], "lambda"
    if "completions" in takes or found[0] == "rewards":
        return function, found[0], "list"
    if "completion" in takes or found[0] == "reward":
        return function, found[0], "one"
    raise LookupError(f"`{found[0]}` takes neither `completion` nor `completions`")


def arguments(function, known):
    """Of what is known, what the function asks for; all of it if it takes `**`."""
    chosen = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            return known
        if parameter.kind is parameter.VAR_POSITIONAL:
            continue
        if name in known:
            chosen[name] = known[name]
        elif parameter.default is parameter.empty:
            raise LookupError(f"the function asks for `{name}`, which the row has not")
    return chosen


def call_one(function, samples):
    [sample] = samples
    known = {**sample["row"], **{key: sample[key] for key in ("id", "prompt", "completion", "tokens", "cut")}}
    return [settled(function(**arguments(function, known)))]


def call_list(function, samples):
    fields = {field for sample in samples for field in sample["row"]}
    known = {field: [sample["row"].get(field) for sample in samples] for field in fields}
    for key, name in (("id", "ids"), ("prompt", "prompts"), ("completion", "completions"), ("tokens", "tokens"), ("cut", "cut")):
        known[name] = [sample[key] for sample in samples]
    scores = settled(function(**arguments(function, known)))
    if isinstance(scores, (str, bytes, dict)) or not hasattr(scores, "__iter__"):
        raise WrongShape(f"{type(scores).__name__} {scores!r}"[:200])
    return list(scores)


class WrongShape(Exception):
    """Not a list of scores."""


def settled(value):
    return asyncio.run(wait(value)) if inspect.isawaitable(value) else value


async def wait(value):
    return await value


def plain(value):
    """A score as JSON. What is no number is told as text, and refused on the other side."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)) and all(isinstance(item, dict) for item in value):
        return [plain(item) for item in value]
    if isinstance(value, str):
        return value[:1000]
    try:
        return float(value)
    except Exception:
        return f"{type(value).__name__} {value!r}"[:200]


def seed_with(text):
    """Chance is a function of the seed and the samples, whatever was asked before."""
    random.seed(text)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(zlib.crc32(text.encode()))


def main():
    path, name, seed, seconds = sys.argv[1:5]
    requests = os.fdopen(os.dup(0), "r", encoding="utf-8", newline="\n")
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    # What is printed must not be taken for a reply, nor a request be read by `input()`.
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

    def reply(value):
        replies.write(json.dumps(value) + "\n")
        replies.flush()

    try:
        function, name, form = choose(load(path), name)
    except Exception as error:
        traceback.print_exc()
        reply({"failed": f"{type(error).__name__}: {error}"})
        return
    reply({"ready": name, "form": form})
    for number, line in enumerate(requests):
        request = json.loads(line)
        try:
            seed_with("/".join([seed, *request["ids"]]))
            if form == "lambda":
                context = Context(name, str(number), float(seconds))
                returned = settled(function(request["event"], context))
                if not isinstance(returned, (list, tuple, dict)):
                    raise WrongShape(f"{type(returned).__name__} {returned!r}"[:200])
                reply({"returned": plain(returned) if isinstance(returned, dict) else [plain(item) for item in returned]})
            else:
                call = call_one if form == "one" else call_list
                reply({"returned": [plain(score) for score in call(function, request["samples"])]})
        except WrongShape as shape:
            reply({"wrong_shape": str(shape)})
        except Exception as error:
            traceback.print_exc()
            reply({"error": f"{type(error).__name__}: {error}"[:1000]})


main()
