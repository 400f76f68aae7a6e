"""The picture for the README: CPU time per message, a bar for each server.

SPDX-License-Identifier: GPL-3.0-or-later
"""
from xml.sax.saxutils import escape

WIDTH, ROW, LEFT, RIGHT = 640, 26, 130, 80
SERIES = [("plain", "#2563a8", "plain"), ("tls", "#e0803c", "new TLS session each")]


def bars(summary, path):
    """Writes the SVG. Bars are on a square-root scale, so that small ones can be told apart."""
    rows = [(name, [of.get(job, {}).get("cpu_ms") for job, _, _ in SERIES])
            for name, of in summary.items()]
    rows.sort(key=lambda row: row[1][0] or 0)
    largest = max(value for _, values in rows for value in values if value)
    height = 60 + len(rows) * (ROW * 2 - 8)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
           'font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
           '<text x="10" y="20" font-size="14">CPU milliseconds per message (less is better)</text>']
    for i, (_, colour, title) in enumerate(SERIES):
        out.append(f'<rect x="{LEFT + i * 120}" y="30" width="10" height="10" fill="{colour}"/>'
                   f'<text x="{LEFT + 15 + i * 120}" y="39">{title}</text>')
    for number, (name, values) in enumerate(rows):
        top = 52 + number * (ROW * 2 - 8)
        out.append(f'<text x="{LEFT - 8}" y="{top + 20}" text-anchor="end">{escape(name)}</text>')
        for i, value in enumerate(values):
            if value is None:
                continue
            length = (value / largest) ** 0.5 * (WIDTH - LEFT - RIGHT)
            y = top + i * 18
            out.append(f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="15" '
                       f'fill="{SERIES[i][1]}"/>'
                       f'<text x="{LEFT + length + 5:.1f}" y="{y + 12}">{value:.3f}</text>')
    out.append("</svg>\n")
    with open(path, "w") as file:
        file.write("\n".join(out))
