"""The picture of `bench precision`: the validation losses of both precisions, and how far they are apart."""

import math

WIDTH, HEIGHT = 720, 480
LEFT, RIGHT = 74, 30
# Top and height of the curves, and of the differences below them.
CURVES, DIFFERENCES = (52, 220), (338, 88)

STYLE = """
  svg { --ground: #ffffff; --ink: #1f2328; --soft: #59636e; --rule: #d8dee4; --f32: #0a5fc2; --bf16: #b3500a; }
  @media (prefers-color-scheme: dark) {
    svg { --ground: #14181d; --ink: #e6edf3; --soft: #9aa5b1; --rule: #333b44; --f32: #6cb2ff; --bf16: #f2a154; }
  }
  text { font: 13px system-ui, sans-serif; fill: var(--ink); }
  .soft { fill: var(--soft); } .title { font-size: 15px; font-weight: 600; }
  .rule { stroke: var(--rule); stroke-width: 1; } .zero { stroke: var(--soft); stroke-width: 1; }
  .line { fill: none; stroke-width: 2; } .f32.line { stroke: var(--f32); }
  .bf16.line { stroke: var(--bf16); stroke-dasharray: 7 4; }
  .seed { fill: none; stroke: var(--ink); stroke-width: 1.3; opacity: 0.75; } .band { stroke: none; opacity: 0.2; }
  .f32.band { fill: var(--f32); } .bf16.band { fill: var(--bf16); }
"""


def ticks(low, high, wanted=4):
    """Round numbers from low to high, about so many."""
    raw = (high - low) / wanted
    unit = 10 ** math.floor(math.log10(raw))
    step = next(factor * unit for factor in (1, 2, 5, 10) if factor * unit >= raw)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)], max(0, -math.floor(math.log10(step) + 1e-9))


class Panel:
    """A frame with its axes: steps to the right, a quantity upwards."""

    def __init__(self, place, steps, low, high):
        self.top, self.height = place
        self.steps, self.low, self.high = steps, low, high

    def x(self, step):
        first, last = self.steps[0], self.steps[-1]
        return LEFT + (WIDTH - LEFT - RIGHT) * (step - first) / max(1, last - first)

    def y(self, value):
        return self.top + self.height * (self.high - value) / (self.high - self.low)

    def points(self, values):
        return " ".join(f"{self.x(step):.1f},{self.y(value):.1f}" for step, value in zip(self.steps, values))

    def axes(self, wanted, sign=""):
        values, digits = ticks(self.low, self.high, wanted)
        out = []
        for value in values:
            y, shown = self.y(value), f"{value:{sign if value else ''}.{digits}f}"
            out.append(f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            out.append(f'<text class="soft" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{shown}</text>')
        bottom = self.top + self.height + 20
        out += [f'<text class="soft" x="{self.x(step):.1f}" y="{bottom}" text-anchor="middle">{step}</text>' for step in self.steps]
        return out


def picture(curves):
    """SVG of `{precision: {seed: {step: loss}}}`; every run has the same steps, and every seed both precisions."""
    seeds = sorted(curves["f32"])
    # The loss of the untrained model lies far above all others; the table has it.
    steps = sorted(curves["f32"][seeds[0]])[1:]
    losses = {p: [[run[seed][step] for step in steps] for seed in seeds] for p, run in curves.items()}
    every = [value for runs in losses.values() for run in runs for value in run]
    room = 0.06 * (max(every) - min(every))
    upper = Panel(CURVES, steps, min(every) - room, max(every) + room)
    differences = [[b - a for a, b in zip(*pair)] for pair in zip(losses["f32"], losses["bf16"])]
    # On the scale of what the seed does to f32, so that the eye compares like with like.
    spread = max(max(column) - min(column) for column in zip(*losses["f32"]))
    reach = 1.15 * max([spread / 2, *(abs(value) for run in differences for value in run)])
    lower = Panel(DIFFERENCES, steps, -reach, reach)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="t">',
        f"<title id=\"t\">Validation loss of f32 and bf16 over {steps[-1]} steps, {len(seeds)} seeds</title>",
        f"<style>{STYLE}</style>", f'<rect width="{WIDTH}" height="{HEIGHT}" fill="var(--ground)"/>',
        f'<text class="title" x="{LEFT}" y="24">Validation loss, nats per token: mean and range of {len(seeds)} seeds</text>',
        *upper.axes(4),
    ]
    for precision, runs in losses.items():
        columns = list(zip(*runs))
        high = upper.points([max(column) for column in columns])
        low = " ".join(reversed(upper.points([min(column) for column in columns]).split()))
        out.append(f'<polygon class="band {precision}" points="{high} {low}"/>')
    for row, (precision, runs) in enumerate(losses.items()):
        mean = [sum(column) / len(column) for column in zip(*runs)]
        y = CURVES[0] + 18 + 20 * row
        out.append(f'<polyline class="line {precision}" points="{upper.points(mean)}"/>')
        out.append(f'<line class="line {precision}" x1="{WIDTH - 130}" x2="{WIDTH - 90}" y1="{y - 4}" y2="{y - 4}"/>')
        out.append(f'<text x="{WIDTH - 82}" y="{y}">{precision}</text>')
    out += [
        f'<text class="title" x="{LEFT}" y="{DIFFERENCES[0] - 12}">bf16 - f32 of the same seed</text>', 
        f'<text class="soft" x="{WIDTH - RIGHT}" y="{DIFFERENCES[0] - 12}" text-anchor="end">frame: at least the range of f32</text>',
        *lower.axes(4, "+"),
        f'<line class="zero" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{lower.y(0):.1f}" y2="{lower.y(0):.1f}"/>',
        *(f'<polyline class="seed" points="{lower.points(run)}"/>' for run in differences),
        f'<text class="soft" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">step</text>', "</svg>",
    ]
    return "\n".join(out) + "\n"
