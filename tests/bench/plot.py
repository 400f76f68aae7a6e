"""The picture for the README: CPU time and memory of relay-in and relay-out beside their peers.

The axes are logarithmic, because the values span three orders of magnitude. Readers with a dark screen get dark colours.

usage: python3 tests/bench/plot.py peers.json relay-out.json FILE.svg
SPDX-License-Identifier: GPL-3.0-or-later
"""
import json
import math
import sys
from xml.sax.saxutils import escape

WIDTH, PANEL, GAP = 890, 415, 30
NAMES, ROW, HEAD, AXIS = 112, 30, 58, 30  # of a panel: room for names, a row's height, above the first, below the last
STYLE = """
  svg { --ground: #ffffff; --text: #1f2328; --faint: #59636e; --line: #d1d9e0; --first: #0b62c4; --second: #b35900; }
  @media (prefers-color-scheme: dark) {
    svg { --ground: #0d1117; --text: #e6edf3; --faint: #9198a1; --line: #30363d; --first: #58a6ff; --second: #f0a04b; }
  }
  .ground { fill: var(--ground); } text { fill: var(--text); font: 12px sans-serif; } .faint { fill: var(--faint); }
  .title { font-size: 14px; font-weight: bold; } .ours { font-weight: bold; } .line { stroke: var(--line); }
  .first { fill: var(--first); } .second { fill: var(--second); } .end { text-anchor: end; }
  .middle { text-anchor: middle; } .value { font-size: 11px; }
"""


def text(x, y, content, *classes):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{" ".join(classes)}">{escape(content)}</text>'


def short(value):
    """At most three significant digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


class Panel:
    """Two values for each of some servers, on one axis."""

    def __init__(self, title, unit, series, rows):
        self.title, self.unit, self.series = title, unit, series
        self.rows = sorted(rows, key=lambda row: row[1][0])
        values = [value for _, pair in rows for value in pair if isinstance(value, (int, float))]
        self.low = math.floor(math.log10(min(values)) * 3) / 3
        self.high = math.ceil(math.log10(max(values)) * 3 + 0.6) / 3

    def height(self):
        return HEAD + len(self.rows) * ROW + AXIS

    def at(self, value):
        return NAMES + (math.log10(value) - self.low) / (self.high - self.low) * (PANEL - NAMES)

    def axis(self):
        bottom = HEAD + len(self.rows) * ROW
        digits = (1, 2, 5) if self.high - self.low < 2.5 else (1, 3)
        for tick in (digit * 10 ** power for power in range(-3, 6) for digit in digits):
            if self.low - 1e-9 <= math.log10(tick) <= self.high + 1e-9:
                x = self.at(tick)
                yield f'<path d="M{x:.1f} {HEAD - 6}V{bottom}" class="line"/>'
                yield text(x, bottom + 14, f"{tick:,g}", "faint", "middle", "value")
        yield text(PANEL, bottom + 28, f"{self.unit} (less is better; the axis is logarithmic)", "faint", "end", "value")

    def legend(self):
        x = NAMES
        for name, kind in zip(self.series, ("first", "second")):
            yield f'<circle cx="{x + 5}" cy="34" r="5" class="{kind}"/>' + text(x + 15, 38, name)
            x += 35 + 6.5 * len(name)

    def points(self, top, pair):
        """The values of a row, each at its own height; a text instead of a value marks a gap."""
        for value, kind, y in zip(pair, ("first", "second"), (top + 8, top + 21)):
            if isinstance(value, str):
                yield text(NAMES + 6, y + 4, value, "faint", "value")
            else:
                x = self.at(value)
                yield f'<circle cx="{x:.1f}" cy="{y}" r="4.5" class="{kind}"/>'
                yield text(x + 8, y + 4, short(value), "value")

    def draw(self):
        yield text(0, 14, self.title, "title")
        yield from self.legend()
        yield from self.axis()
        for number, (name, pair) in enumerate(self.rows):
            top = HEAD + number * ROW
            if number > 0:
                yield f'<path d="M{NAMES} {top}H{PANEL}" class="line" stroke-dasharray="1 3"/>'
            yield text(NAMES - 10, top + 19, name, "end", *(["ours"] if name.startswith("relay-") else []))
            yield from self.points(top, pair)


def inbound(servers):
    cpu, memory = [], []
    for name, of in servers.items():
        rows, held = of["rows"], of["memory"]
        cpu.append((name, (rows["twenty"]["cpu_ms"], rows["tls"]["cpu_ms"] if "tls" in rows else "no TLS")))
        memory.append((name, (held["idle"], held["idle"] + max(held["each"], 0) * 1000 / 1024)))
    return [Panel("relay-in: CPU for a message", "milliseconds", ("plain", "a new TLS session"), cpu),
            Panel("relay-in: memory", "MiB", ("idle", "with 1,000 idle clients"), memory)]


def outbound(servers):
    titles = {"relay-out": "relay-out, live", "relay-out-spool": "relay-out, spool",
              "postfix-relayhost": "Postfix", "haraka-outbound": "Haraka"}
    cpu, memory = [], []
    for name, of in servers.items():
        rows, held = of["rows"], of["memory"]
        cpu.append((titles[name], (rows["twenty"]["cpu_ms"], rows["kept"]["cpu_ms"])))
        memory.append((titles[name], (held["idle"], held.get("queued", "queues nothing"))))
    return [Panel("relay-out: CPU for a message", "milliseconds", ("plain", "connections kept"), cpu),
            Panel("relay-out: memory", "MiB", ("idle", "10,000 messages queued"), memory)]


def picture(rows_of_panels):
    out, y = [], 20
    for panels in rows_of_panels:
        for column, panel in enumerate(panels):
            out.append(f'<g transform="translate({10 + column * (PANEL + GAP)} {y})">')
            out.extend(panel.draw())
            out.append("</g>")
        y += max(panel.height() for panel in panels) + 24
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}">',
        f"<style>{STYLE}</style>", f'<rect width="{WIDTH}" height="{y}" class="ground"/>', *out, "</svg>", ""])


def main():
    inbound_of, outbound_of = (json.load(open(path))["servers"] for path in sys.argv[1:3])
    with open(sys.argv[3], "w") as file:
        file.write(picture([inbound(inbound_of), outbound(outbound_of)]))


if __name__ == "__main__":
    main()
