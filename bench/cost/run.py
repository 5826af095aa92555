"""What a training step costs over batch and length, beside the arithmetic that it is: a table and a picture.

`cargo xtask bench cost` builds the binary and calls this with its path. Standard library only. Each cell of the grid is one
process of `temper bench step`; cells run in a shuffled order of a fixed seed, so that a slow spell of the machine does not fall on one
row or column. A cell is left out where it has more tokens than `--tokens` allows: its time is predicted from the others
and would be minutes. The claim is that time grows as the arithmetic does: the same GFLOP/s in all cells.

The arithmetic is counted from the shape alone, an addition and a multiplication as two: what the step must do, not what it
did. See `arithmetic` for the formula.
"""

import argparse
import datetime
import pathlib
import random
import statistics
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from driver import free_path, heading, run_process  # noqa: E402
from machine import about_machine, about_temper  # noqa: E402
from picture import picture  # noqa: E402

MODES = {"lora": "LoRA r 16", "full": "full rank"}

# SmolLM2-135M.
LAYERS, HIDDEN, INTERMEDIATE, VOCABULARY = 30, 576, 1536, 49152
QUERY, KEY_VALUE = 576, 192
RANK = 16
# (in, out) of the seven linears of a layer.
LINEARS = [(HIDDEN, QUERY), (HIDDEN, KEY_VALUE), (HIDDEN, KEY_VALUE), (QUERY, HIDDEN),
           (HIDDEN, INTERMEDIATE), (HIDDEN, INTERMEDIATE), (INTERMEDIATE, HIDDEN)]

COUNTED = """\
n = B L tokens, a product of [n, in] and [out, in] is 2 n in out.
- Linear layers: forward and the gradient by the input; at full rank also that by the weight. With adapters these are six more
  products of the rank a layer: x A^T, that times B^T, and the gradients by B, by the inner, by A and by the input. The gradient by the
  input of the first layer's q, k, v is counted only at full rank, where the embedding is trained.
- Head: the same, for the n - B rows that predict a token.
- Attention, quadratic in L: a row sees itself and all before it, B L (L + 1) / 2 pairs; forward q k^T and p v, backward q k^T
  again, dp, dv, dq, dk: 7 products of 2 pairs (query heads x head width).
Everything else (norms, rotary embedding, gates, softmax, AdamW) is not counted; its time is in the time."""


def arithmetic(mode, batch, length):
    """GFLOP of a step: (all but attention, attention)."""
    tokens, predicted = batch * length, batch * (length - 1)
    products = 3 if mode == "full" else 2
    weights = LAYERS * sum(i * o for i, o in LINEARS)
    linear = 2 * tokens * weights * products
    if mode == "lora":
        linear += 2 * tokens * LAYERS * sum(RANK * (3 * i + 3 * o) for i, o in LINEARS)
        # Below the first layer's adapters nothing is trained.
        first = LINEARS[:3]
        linear -= 2 * tokens * sum(i * o + RANK * i for i, o in first)
    head = 2 * predicted * HIDDEN * VOCABULARY * products
    pairs = batch * length * (length + 1) / 2
    return (linear + head) / 1e9, 7 * 2 * pairs * QUERY * LAYERS / 1e9


class Cell:
    """One process, and the arithmetic of its step."""

    def __init__(self, mode, batch, length, process):
        self.mode, self.batch, self.length, self.process = mode, batch, length, process
        self.tokens = batch * length
        self.linear, self.attention = arithmetic(mode, batch, length)
        self.gflop = self.linear + self.attention
        self.seconds = process.median
        self.rate = self.gflop / self.seconds


def steps_of(tokens):
    """Measured steps and steps before them: fewer where a step is long."""
    return (5, 1) if tokens <= 1024 else (2, 1) if tokens <= 2048 else (1, 1)


def measure(mode, batch, length, args):
    steps, warmup = steps_of(batch * length)
    command = [args.temper, "bench", "step", "--mode", mode, "--steps", str(steps + warmup),
               "--batch", str(batch), "--length", str(length), "--precision", args.precision]
    process = run_process(command, args.threads, steps, warmup)
    cell = Cell(mode, batch, length, process)
    print(f"{mode}, {batch} x {length}: {cell.seconds:.3f} s, {cell.rate:.1f} GFLOP/s, "
          f"others {process.others_cores:.2f} cores", flush=True)
    return cell


def spread(cells):
    """The lowest and the highest rate, as a line."""
    slow, fast = min(cells, key=lambda c: c.rate), max(cells, key=lambda c: c.rate)
    middle = statistics.median(c.rate for c in cells)
    return (f"{slow.rate:.1f} ({slow.batch} x {slow.length}) to {fast.rate:.1f} ({fast.batch} x {fast.length}), "
            f"median {middle:.1f} GFLOP/s; furthest from the median {100 * max(fast.rate / middle - 1, 1 - slow.rate / middle):.0f} %")


def report(cells, args, started, picture_name):
    busiest = max(cell.process.others_cores for cell in cells)
    out = heading("Cost over batch and length", started, busiest)
    device = cells[0].process.about.get("device", "unknown")
    out += [
        f"- Machine: {about_machine()}; other work took at most {busiest:.2f} cores during any process.",
        f"- Temper: {about_temper(args.temper)}; {device}.",
        "- SmolLM2-135M's shape, random weights, rows of one length; one process a cell, the median of its steps (5 up to "
        "1024 tokens a step, 2 up to 2048, else 1) after one for warm-up.",
        f"- Cells of more than {args.tokens} tokens a step are not run.", "",
        f"![GFLOP/s over tokens a step, and seconds over GFLOP]({picture_name})", "",
    ]
    for mode in args.modes:
        here = [cell for cell in cells if cell.mode == mode]
        out += [f"## {MODES[mode]}", "", f"All cells: {spread(here)}."]
        large = [cell for cell in here if cell.tokens >= args.settled]
        if len(large) > 1:
            out += [f"Cells of {args.settled} tokens or more: {spread(large)}."]
        out += ["", "| batch | length | tokens | GFLOP, linear | GFLOP, attention | s/step (lowest-highest) | tokens/s | ms/GFLOP "
                "| GFLOP/s | peak anonymous MiB |", "|---|---|---|---|---|---|---|---|---|---|"]
        for cell in sorted(here, key=lambda c: (c.length, c.batch)):
            seconds = cell.process.seconds
            out.append(
                f"| {cell.batch} | {cell.length} | {cell.tokens} | {cell.linear:.1f} | {cell.attention:.1f} "
                f"| {cell.seconds:.3f} ({min(seconds):.3f}-{max(seconds):.3f}) | {cell.tokens / cell.seconds:.0f} "
                f"| {1e3 / cell.rate:.2f} | {cell.rate:.1f} | {cell.process.peak_anon_bytes / 2**20:.0f} |")
        out.append("")
    return "\n".join([*out, "## How the arithmetic is counted", "", COUNTED]) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--temper", required=True, help="the shipped binary")
    parser.add_argument("--modes", nargs="+", choices=list(MODES), default=list(MODES))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--lengths", nargs="+", type=int, default=[128, 512, 2048, 4096])
    parser.add_argument("--tokens", type=int, default=8192, help="most tokens of a step (default 8192)")
    parser.add_argument("--settled", type=int, default=512,
                        help="tokens of a step from which on its fixed costs should not be seen (default 512)")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--results", type=pathlib.Path, default=HERE.parent / "results", help="folder of the report")
    args = parser.parse_args()

    started = datetime.datetime.now()
    grid = [(mode, batch, length) for mode in args.modes for batch in args.batches for length in args.lengths
            if batch * length <= args.tokens]
    if not grid:
        parser.error(f"no cell of the grid has at most {args.tokens} tokens")
    random.Random(0).shuffle(grid)
    cells = [measure(*cell, args) for cell in grid]
    path = free_path(args.results, "cost", started)
    drawing = path.with_suffix(".svg")
    drawing.write_text(picture(cells, MODES), encoding="utf-8")
    text = report(cells, args, started, drawing.name)
    path.write_text(text, encoding="utf-8")
    print(f"\n{text}\nwritten to {path} and {drawing}")


if __name__ == "__main__":
    main()
