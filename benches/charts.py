#!/usr/bin/env python3
"""Draws the charts of benches/RESULTS.md from the raw figures in benches/results. Needs nothing but Python 3.

    benches/charts.py
"""

import csv
import math
import statistics
from pathlib import Path
from xml.sax.saxutils import escape

RESULTS = Path(__file__).parent / "results"
COLOURS = {"by hand": "#5b6b7f", "cloakroom": "#2f6f4f", "tower-sessions": "#c77d2e", "axum_session": "#8a8fa3"}
SCENARIOS = {
    "unused": "unused, no cookie",
    "unused-with-cookie": "unused, with cookie",
    "read": "read one key",
    "write": "read and write one key",
    "new": "new session",
}
APPS = {
    "by hand": COLOURS["by hand"],
    "cloakroom": COLOURS["cloakroom"],
    "tower-sessions": COLOURS["tower-sessions"],
    "express-session": "#b0b4bd",
}
# As `is_disturbed` of benches/servers/src/report.rs has it.
DISTURBED = 0.15
FONT = 'font-family="system-ui, sans-serif" font-size="13"'


def main():
    rows = list(csv.DictReader((RESULTS / "peers.csv").open()))
    write("peers.svg", bars(rows))
    rows = list(csv.DictReader((RESULTS / "sizes.csv").open()))
    by_bytes = [row for row in rows if row["keys"] == "10"]
    by_keys = [row for row in rows if int(row["bytes"]) == 20 * int(row["keys"])]
    write("by-bytes.svg", lines(by_bytes, "bytes", "bytes of data, in ten keys"))
    write("by-keys.svg", lines(by_keys, "keys", "keys, of 20 bytes each"))
    rows = list(csv.DictReader((RESULTS / "servers.csv").open()))
    # What uses no session goes to no store.
    rows = [row for row in rows if float(row["others_cores"]) <= DISTURBED and row["scenario"] != "unused"]
    write("servers.svg", rates(rows))


def bars(rows):
    """For each scenario a bar of the median for each library, with the quartiles as a whisker, to a log scale."""
    left, width, step = 170, 560, 17
    scale = log_scale([float(row[name]) for row in rows for name in ("q1_ns", "q3_ns")], width)
    parts, y = [], 34
    for scenario, title in SCENARIOS.items():
        of_scenario = [row for row in rows if row["scenario"] == scenario]
        parts.append(text(left - 8, y + step * len(of_scenario) / 2 + 3, title, "end"))
        for row in of_scenario:
            q1, median, q3 = (scale(float(row[name])) for name in ("q1_ns", "median_ns", "q3_ns"))
            middle = y + step / 2 - 1
            parts.append(rect(left, y, median, step - 3, COLOURS[row["library"]]))
            parts.append(line(left + q1, middle, left + q3, middle, "#222"))
            parts.append(text(left + max(q3, median) + 6, y + step - 5, f"{float(row['median_ns']):,.0f}"))
            y += step
        y += 12
    title = "Nanoseconds a request, over a layer that does nothing (log scale; median, quartiles)"
    return svg(left + width + 70, y + 28, title, parts + legend(left, y + 12))


def rates(rows):
    """For each store and scenario a bar of the median for each app, with the lowest and the highest as a whisker."""
    left, width, step = 200, 520, 15
    groups = {}
    for row in rows:
        of_group = groups.setdefault((row["store"], row["scenario"]), {})
        of_group.setdefault(row["app"], []).append(float(row["requests_per_second"]))
    most = max(figure for of_group in groups.values() for figures in of_group.values() for figure in figures)
    parts, y = [], 34
    for (store, scenario), of_group in groups.items():
        apps = [app for app in APPS if app in of_group]
        parts.append(text(left - 8, y + step * len(apps) / 2 + 3, f"{store}, {scenario}", "end"))
        for app in apps:
            figures = of_group[app]
            lowest, median, highest = (
                figure / most * width for figure in (min(figures), statistics.median(figures), max(figures))
            )
            middle = y + step / 2 - 1
            parts.append(rect(left, y, median, step - 3, APPS[app]))
            parts.append(line(left + lowest, middle, left + highest, middle, "#222"))
            parts.append(text(left + highest + 6, y + step - 4, f"{statistics.median(figures):,.0f}"))
            y += step
        y += 12
    title = "Requests a second, 32 connections (median, lowest and highest of the rounds)"
    return svg(left + width + 70, y + 28, title, parts + legend(left, y + 12, APPS))


def lines(rows, across, label):
    """Reads solid and writes dashed: the median over what is on the x axis, both to a log scale."""
    left, top, width, height = 70, 36, 560, 300
    x_scale = log_scale([float(row[across]) for row in rows], width)
    y_scale = log_scale([float(row["median_ns"]) for row in rows], height)
    parts = [line(left, top + height, left + width, top + height, "#222"), line(left, top, left, top + height, "#222")]
    for value in sorted({float(row[across]) for row in rows}):
        parts.append(text(left + x_scale(value), top + height + 17, f"{value:,.0f}", "middle"))
    for exponent in range(2, 7):
        y = y_scale(10**exponent)
        if 0 <= y <= height:
            parts.append(line(left, top + height - y, left + width, top + height - y, "#ddd"))
            parts.append(text(left - 6, top + height - y + 4, f"{10**exponent:,}", "end"))
    for library, colour in COLOURS.items():
        for scenario, dash in (("read", ""), ("write", ' stroke-dasharray="5 4"')):
            points = " ".join(
                f"{left + x_scale(float(row[across])):.1f},{top + height - y_scale(float(row['median_ns'])):.1f}"
                for row in sorted(rows, key=lambda row: float(row[across]))
                if row["library"] == library and row["scenario"] == scenario
            )
            parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
    parts.append(text(left + width / 2, top + height + 36, f"{label} (reads solid, writes dashed)", "middle"))
    title = "Nanoseconds a request, over a layer that does nothing (medians, log scales)"
    return svg(left + width + 60, top + height + 70, title, parts + legend(left, top + height + 50))


def log_scale(values, length):
    lowest = math.log10(min(values)) - 0.3
    highest = math.log10(max(values))
    return lambda value: (math.log10(max(value, 1)) - lowest) / (highest - lowest) * length


def legend(x, y, colours=COLOURS):
    parts = []
    for library, colour in colours.items():
        parts += [rect(x, y, 11, 11, colour), text(x + 16, y + 10, library)]
        x += 140
    return parts


def rect(x, y, width, height, colour):
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'


def line(x1, y1, x2, y2, colour):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def text(x, y, words, anchor="start"):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {FONT} fill="#222">{escape(words)}</text>'


def svg(width, height, title, parts):
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:.0f}" role="img">'
    ground = f'<title>{escape(title)}</title><rect width="100%" height="100%" fill="#fff"/>'
    return "\n".join([head, ground, text(12, 20, title), *parts, "</svg>\n"])


def write(name, chart):
    (RESULTS / name).write_text(chart)


if __name__ == "__main__":
    main()
