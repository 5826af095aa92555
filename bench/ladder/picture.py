"""The picture of `bench/ladder`: what each rate learnt and what it forgot, LoRA and full rank, as SVG for light and dark pages."""

import math

WIDTH, HEIGHT = 760, 520
LEFT, RIGHT = 82, 24
# Top and height of what was learnt, and of what was forgotten.
LEARNT, FORGOT = (60, 180), (318, 130)

STYLE = """
  svg { --ground: #ffffff; --ink: #1f2328; --soft: #59636e; --rule: #d8dee4; --lora: #0a5fc2; --full: #b3500a; }
  @media (prefers-color-scheme: dark) {
    svg { --ground: #14181d; --ink: #e6edf3; --soft: #9aa5b1; --rule: #333b44; --lora: #6cb2ff; --full: #f2a154; }
  }
  text { font: 13px system-ui, sans-serif; fill: var(--ink); }
  .soft { fill: var(--soft); } .title { font-size: 15px; font-weight: 600; }
  .rule { stroke: var(--rule); } .base { stroke: var(--soft); stroke-dasharray: 5 4; }
  .lora { --c: var(--lora); } .full { --c: var(--full); }
  .line { fill: none; stroke: var(--c); stroke-width: 2; } .full.line { stroke-dasharray: 7 4; }
  .dot { fill: var(--c); } .bar { stroke: var(--c); stroke-width: 1.4; } .away { fill: var(--c); font-weight: 700; }
"""
NAMES = {"lora": "LoRA, rank 16", "full": "full rank"}


def scale(value, low, high, place):
    top, height = place
    return top + height * (high - value) / (high - low)


def forgot_height(value):
    """Relative loss in percent, the small and the large ones readable: linear near zero, logarithmic beyond 5 %."""
    return math.asinh(value / 5)


def picture(points):
    """SVG of `{mode: [(rate, (task, heldout) or none where the loss ran away)]}`; both are rows of a judgement."""
    rates = sorted({rate for of in points.values() for rate, _ in of})
    first, last = math.log10(min(rates)) - 0.15, math.log10(max(rates)) + 0.15
    x = lambda rate: LEFT + (WIDTH - LEFT - RIGHT) * (math.log10(rate) - first) / (last - first)  # noqa: E731
    judged = [row for of in points.values() for _, row in of if row]
    base = judged[0][0]["base"] if judged else 0.0
    changes = [100 * heldout["difference"][key] for _, heldout in judged for key in ("low", "high")]
    low, high = forgot_height(min([-5, *changes])), forgot_height(max([5, *changes]))
    learnt = lambda value: scale(value, 0, 1, LEARNT)  # noqa: E731
    forgot = lambda value: scale(forgot_height(value), low, high, FORGOT)  # noqa: E731
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="t">',
        '<title id="t">Accuracy and forgetting over the learning rate, LoRA and full rank</title>', f"<style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="var(--ground)"/>',
        f'<text class="title" x="{LEFT}" y="{LEARNT[0] - 32}">Learnt: accuracy on the task</text>',
        f'<text class="title" x="{LEFT}" y="{FORGOT[0] - 18}">Forgot: loss on other text, change to the base</text>',
    ]  # fmt: skip

    def rule(y, label):
        out.append(f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        out.append(f'<text class="soft" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')

    for value in (0, 0.25, 0.5, 0.75, 1):
        rule(learnt(value), f"{100 * value:.0f} %")
    for value in (-50, -20, -5, 0, 5, 20, 50, 100, 200, 500, 1000, 2000):
        if low - 1e-9 <= forgot_height(value) <= high + 1e-9:
            rule(forgot(value), f"{value:+d} %" if value else "0 %")
    out.append(f'<line class="base" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{learnt(base):.1f}" y2="{learnt(base):.1f}"/>')
    out.append(f'<text class="soft" x="{WIDTH - RIGHT}" y="{learnt(base) - 5:.1f}" text-anchor="end">the base</text>')
    for power in range(math.ceil(first), math.floor(last) + 1):
        place = x(10.0**power)
        for top, height in (LEARNT, FORGOT):
            out.append(f'<text class="soft" x="{place:.1f}" y="{top + height + 20}" text-anchor="middle">{10.0**power:g}</text>')
    out.append(f'<text class="soft" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 12}" text-anchor="middle">learning rate</text>')
    for number, (mode, of) in enumerate(points.items()):
        at = WIDTH - RIGHT - 270 + 150 * number
        out.append(f'<line class="{mode} line" x1="{at}" x2="{at + 30}" y1="{LEARNT[0] - 36}" y2="{LEARNT[0] - 36}"/>')
        out.append(f'<text x="{at + 38}" y="{LEARNT[0] - 32}">{NAMES[mode]}</text>')
        for kind, height in ((0, learnt), (1, lambda value: forgot(100 * value))):
            shown = [(rate, row[kind]) for rate, row in of if row]
            value = lambda row: row["tuned"] if kind == 0 else row["difference"]["estimate"]  # noqa: E731
            path = " ".join(f"{x(rate):.1f},{height(value(row)):.1f}" for rate, row in shown)
            out.append(f'<polyline class="{mode} line" points="{path}"/>')
            for rate, row in shown:
                shift = row["base"] if kind == 0 else 0.0
                ends = [height(shift + row["difference"][key]) for key in ("low", "high")]
                out.append(f'<line class="{mode} bar" x1="{x(rate):.1f}" x2="{x(rate):.1f}" y1="{ends[0]:.1f}" y2="{ends[1]:.1f}"/>')
                out.append(f'<circle class="{mode} dot" cx="{x(rate):.1f}" cy="{height(value(row)):.1f}" r="4"/>')
        for rate, row in of:
            if row is None:
                out.append(f'<text class="{mode} away" x="{x(rate):.1f}" y="{LEARNT[0] + 10}" text-anchor="middle">ran away</text>')
    out.append("</svg>")
    return "\n".join(out) + "\n"
