"""The picture of `bench/cost`: seconds over arithmetic, and the rate over tokens a step, as SVG for light and dark pages."""

import math

WIDTH, HEIGHT = 860, 400
# Left edge, right edge, upper edge, lower edge of each panel.
LEFT, RIGHT = (70, 410, 60, 330), (500, 840, 60, 330)

STYLE = """\
<style>
  text { font: 12px system-ui, sans-serif; fill: #222; }
  .title { font-weight: 600; font-size: 13px; }
  .axis { stroke: #555; fill: none; }
  .grid { stroke: #ddd; }
  .rule { stroke: #888; stroke-dasharray: 4 4; }
  .s0 { --c: #0b62a4; } .s1 { --c: #b4530a; } .s2 { --c: #4a7d2c; } .s3 { --c: #8a3fa0; } .s4 { --c: #7a6a00; } .s5 { --c: #a3263f; }
  .line { stroke: var(--c); fill: none; stroke-width: 1.5; } .dot { fill: var(--c); stroke: var(--c); stroke-width: 1.5; }
  .full .dot { fill: #fff; } .full .line { stroke-dasharray: 6 3; }
  .page { fill: #fff; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6e6e6; } .axis { stroke: #aaa; } .grid { stroke: #3a3a3a; } .rule { stroke: #999; } .page { fill: #161616; }
    .s0 { --c: #6db3f2; } .s1 { --c: #f0a35e; } .s2 { --c: #98cf74; } .s3 { --c: #d79be8; } .s4 { --c: #d8c54a; } .s5 { --c: #f28a9c; }
    .full .dot { fill: #161616; }
  }
</style>"""


class Panel:
    """A plot over two axes, each logarithmic or from zero."""

    def __init__(self, box, title, x, y):
        self.left, self.right, self.top, self.bottom = box
        (self.x_name, self.x_ticks), (self.y_name, self.y_ticks, self.y_log) = x, y
        self.title, self.body = title, []

    def x(self, value):
        low, high = math.log(self.x_ticks[0]), math.log(self.x_ticks[-1])
        return self.left + (math.log(value) - low) / (high - low) * (self.right - self.left)

    def y(self, value):
        scale = math.log if self.y_log else float
        low, high = scale(self.y_ticks[0]), scale(self.y_ticks[-1])
        return self.bottom - (scale(value) - low) / (high - low) * (self.bottom - self.top)

    def text(self, x, y, text, anchor="middle", extra=""):
        self.body.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {extra}>{text}</text>')

    def line(self, points, kind):
        path = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
        self.body.append(f'<polyline class="{kind}" points="{path}"/>')

    def dot(self, x, y, label):
        self.body.append(f'<circle class="dot" cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="3.5"><title>{label}</title></circle>')

    def frame(self):
        for tick in self.x_ticks:
            x = self.x(tick)
            self.body.append(f'<line class="grid" x1="{x:.1f}" y1="{self.top}" x2="{x:.1f}" y2="{self.bottom}"/>')
            self.text(x, self.bottom + 18, f"{tick:g}")
        for tick in self.y_ticks:
            y = self.y(tick)
            self.body.append(f'<line class="grid" x1="{self.left}" y1="{y:.1f}" x2="{self.right}" y2="{y:.1f}"/>')
            self.text(self.left - 8, y + 4, f"{tick:g}", "end")
        self.body.append(f'<path class="axis" d="M{self.left} {self.top}V{self.bottom}H{self.right}"/>')
        self.text((self.left + self.right) / 2, self.bottom + 38, self.x_name)
        self.text(self.left - 44, self.top - 12, self.y_name, "start")
        self.text((self.left + self.right) / 2, self.top - 34, self.title, extra='class="title"')


def decades(values, base):
    """Powers of the base around all values."""
    first = math.floor(math.log(min(values), base) + 1e-9)
    last = math.ceil(math.log(max(values), base) - 1e-9)
    return [base**power for power in range(first, max(last, first + 1) + 1)]


def picture(cells, modes):
    """`cells`: mode, length, tokens, gflop, seconds, rate. Lines join the cells of a length; full rank is drawn hollow."""
    lengths = sorted({cell.length for cell in cells})
    top = max(cell.rate for cell in cells)
    unit = 10 ** math.floor(math.log10(top))
    step = next(unit * part for part in (0.2, 0.5, 1, 2) if top / (unit * part) <= 6)
    rates = [step * k for k in range(math.ceil(top / step) + 1)]
    work, seconds = decades([cell.gflop for cell in cells], 10), decades([cell.seconds for cell in cells], 10)
    cost = Panel(LEFT, "Time grows as the arithmetic does", ("GFLOP of a step", work), ("s/step", seconds, True))
    tokens = ("tokens of a step", decades([cell.tokens for cell in cells], 2))
    rate = Panel(RIGHT, "GFLOP/s by tokens of a step", tokens, ("GFLOP/s", rates, False))
    for panel in (cost, rate):
        panel.frame()
    # One constant rate, the median of all cells, across the picture.
    middle = sorted(cell.rate for cell in cells)[len(cells) // 2]
    inside = (max(work[0], seconds[0] * middle), min(work[-1], seconds[-1] * middle))
    cost.line([(w, w / middle) for w in inside], "rule")
    for mode in modes:
        for number, length in enumerate(lengths):
            here = sorted((c for c in cells if c.mode == mode and c.length == length), key=lambda c: c.tokens)
            for panel, at in ((cost, lambda c: (c.gflop, c.seconds)), (rate, lambda c: (c.tokens, c.rate))):
                panel.body.append(f'<g class="s{number % 6} {mode}">')
                if len(here) > 1 and panel is rate:
                    panel.line([at(cell) for cell in here], "line")
                for cell in here:
                    panel.dot(*at(cell), f"{modes[mode]}, {cell.batch} x {cell.length}: {cell.seconds:.3f} s, {cell.rate:.1f} GFLOP/s")
                panel.body.append("</g>")
    legend, x = [], LEFT[0]
    for number, length in enumerate(lengths):
        legend.append(f'<g class="s{number % 6}"><circle class="dot" cx="{x}" cy="{HEIGHT - 14}" r="3.5"/></g>'
                      f'<text x="{x + 8}" y="{HEIGHT - 10}">length {length}</text>')
        x += 100
    used = [mode for mode in modes if any(cell.mode == mode for cell in cells)]
    note = "dashed: the median rate of all cells" + ("; hollow: full rank" if "full" in used else "")
    legend.append(f'<text x="{RIGHT[1]}" y="{HEIGHT - 10}" text-anchor="end">{note}</text>')
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'aria-label="Seconds a step over its arithmetic, and GFLOP/s over tokens a step">',
        STYLE, f'<rect class="page" width="{WIDTH}" height="{HEIGHT}"/>', *cost.body, *rate.body, *legend, "</svg>",
    ]) + "\n"
