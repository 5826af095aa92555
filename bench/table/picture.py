"""The picture of `bench/table`: how much of the regret is closed over the tokens spent, median and quartiles, as SVG for light and dark pages."""

WIDTH, HEIGHT = 760, 440
LEFT, RIGHT, TOP, BOTTOM = 66, 24, 96, 58
SHOWN = {
    "temper tune": "ours",
    "optuna tpe, full runs": "full",
    "optuna tpe + successive halving": "halving",
}

STYLE = """
  svg { --ground: #ffffff; --ink: #1f2328; --soft: #59636e; --rule: #d8dee4; --ours: #0a5fc2; --full: #b3500a; --halving: #1a7f37; }
  @media (prefers-color-scheme: dark) {
    svg { --ground: #14181d; --ink: #e6edf3; --soft: #9aa5b1; --rule: #333b44; --ours: #6cb2ff; --full: #f2a154; --halving: #5fd07a; }
  }
  text { font: 13px system-ui, sans-serif; fill: var(--ink); }
  .soft { fill: var(--soft); } .title { font-size: 15px; font-weight: 600; }
  .rule { stroke: var(--rule); } .goal { stroke: var(--soft); stroke-dasharray: 5 4; }
  .ours { --c: var(--ours); } .full { --c: var(--full); } .halving { --c: var(--halving); }
  .line { fill: none; stroke: var(--c); stroke-width: 2; } .band { fill: var(--c); opacity: 0.16; }
  .full.line { stroke-dasharray: 7 4; } .halving.line { stroke-dasharray: 2 3; }
"""


def at(steps, tokens):
    """The share that is closed after so many tokens."""
    return max((share for spent, share in steps if spent <= tokens), default=0.0)


def bands(curves, places):
    """Quartiles over the seeds at each place."""
    found = []
    for place in places:
        shares = sorted(at(steps, place) for steps in curves)
        found.append([shares[round(share * (len(shares) - 1))] for share in (0.25, 0.5, 0.75)])
    return found


def picture(curves, whole, goal):
    """SVG of `{method: [[(tokens, share closed), ..] of each seed]}`; `whole`: tokens at the right end."""
    x = lambda tokens: LEFT + (WIDTH - LEFT - RIGHT) * tokens / whole  # noqa: E731
    y = lambda share: TOP + (HEIGHT - TOP - BOTTOM) * (1 - share)  # noqa: E731
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="t">',
        '<title id="t">Share of the regret that is closed over the tokens trained on</title>', f"<style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="var(--ground)"/>',
        f'<text class="title" x="{LEFT}" y="30">From the default to the best that keeps the floor: share closed</text>',
    ]  # fmt: skip
    for share in (0, 0.25, 0.5, 0.75, 1):
        out.append(f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(share):.1f}" y2="{y(share):.1f}"/>')
        out.append(f'<text class="soft" x="{LEFT - 8}" y="{y(share) + 4:.1f}" text-anchor="end">{100 * share:.0f} %</text>')
    out.append(f'<line class="goal" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(goal):.1f}" y2="{y(goal):.1f}"/>')
    for part in range(5):
        tokens = whole * part / 4
        out.append(f'<text class="soft" x="{x(tokens):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{tokens / 1000:,.0f}k</text>')
    out.append(f'<text class="soft" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 14}" text-anchor="middle">tokens trained on</text>')
    places = [whole * step / 240 for step in range(241)]
    for number, (method, seeds) in enumerate(curves.items()):
        kind, found = SHOWN[method], bands(seeds, places)
        low = [f"{x(place):.1f},{y(band[0]):.1f}" for place, band in zip(places, found)]
        high = [f"{x(place):.1f},{y(band[2]):.1f}" for place, band in zip(places, found)]
        out.append(f'<polygon class="{kind} band" points="{" ".join(low + high[::-1])}"/>')
        line = " ".join(f"{x(place):.1f},{y(band[1]):.1f}" for place, band in zip(places, found))
        out.append(f'<polyline class="{kind} line" points="{line}"/>')
        left = LEFT + (WIDTH - LEFT - RIGHT) / len(curves) * number
        out.append(f'<line class="{kind} line" x1="{left:.0f}" x2="{left + 26:.0f}" y1="54" y2="54"/>')
        out.append(f'<text x="{left + 32:.0f}" y="58">{method}</text>')
    out.append(f'<text class="soft" x="{LEFT}" y="80">lines are medians over seeds, bands the quartiles; dashed: what is to be closed</text>')
    out.append("</svg>")
    return "\n".join(out) + "\n"
