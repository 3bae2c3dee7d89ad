# SPDX-License-Identifier: Apache-2.0
"""Draws one step of a profile's traces as an SVG: a strip a rank, a line a depth (docs/profile.svg). Kernels are left out.

  .venv/bin/python tools/trace_svg.py out/run/profile docs/profile.svg [--step 5]
"""
import argparse
import json
import pathlib
from html import escape

WIDTH, LEFT, ROW, GAP, TOP = 1180, 96, 17, 26, 40
COLORS = {"phase": "#9aa5b1", "unit": "#7fb3d5", "op": "#82c99a", "collective": "#e59a83",
          "wait": "#f0c27b"}
FONT = 'font-family="system-ui, sans-serif"'


def spans_of(path, name):
    """The spans of one step, that of the step first."""
    spans = [event for event in json.loads(path.read_text())["traceEvents"] if event["ph"] == "X"]
    step = next(span for span in spans if span["cat"] == "step" and span["name"] == name)
    end = step["ts"] + step["dur"]
    return step, [span for span in spans if span["cat"] in COLORS and step["ts"] <= span["ts"] < end]


def with_depth(spans):
    """(depth, span) of one thread."""
    around = []
    for span in sorted(spans, key=lambda s: (s["ts"], -s["dur"])):
        while around and around[-1] <= span["ts"] + 1e-6:
            around.pop()
        yield len(around), span
        around.append(span["ts"] + span["dur"])


def box(x, y, width, span):
    label = escape(span["name"])
    text = ""
    if width > 6.2 * len(label) + 4:
        text = f'<text x="{x + 3:.1f}" y="{y + 12}" font-size="10" {FONT}>{label}</text>'
    return (f'<rect x="{x:.2f}" y="{y}" width="{max(width, 0.4):.2f}" height="{ROW - 2}" fill="{COLORS[span["cat"]]}">'
            f'<title>{label}, {span["dur"] / 1000:.3f} ms</title></rect>{text}')


def draw(folder, name):
    ranks = [spans_of(path, name) for path in sorted(folder.glob("rank_*.json"))]
    begin = min(step["ts"] for step, _ in ranks)
    end = max(step["ts"] + step["dur"] for step, _ in ranks)
    scale = (WIDTH - LEFT - 10) / (end - begin)
    body, y = [], TOP
    for rank, (_, spans) in enumerate(ranks):
        for thread in sorted({span["tid"] for span in spans}):
            placed = list(with_depth([span for span in spans if span["tid"] == thread]))
            what = "" if any(span["cat"] == "phase" for _, span in placed) else " comm"
            body.append(f'<text x="8" y="{y + 12}" font-size="12" {FONT}>rank {rank}{what}</text>')
            for depth, span in placed:
                body.append(box(LEFT + (span["ts"] - begin) * scale, y + ROW * depth, span["dur"] * scale, span))
            y += ROW * (1 + max(depth for depth, _ in placed)) + 8
        y += GAP - 8
    legend, x = [], LEFT
    for category, color in COLORS.items():
        legend.append(f'<rect x="{x}" y="12" width="12" height="12" fill="{color}"/>'
                      f'<text x="{x + 17}" y="22" font-size="12" {FONT}>{category}</text>')
        x += 100
    legend.append(f'<text x="{x}" y="22" font-size="12" {FONT}>{name}: {(end - begin) / 1000:.1f} ms</text>')
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}">',
                      f'<rect width="{WIDTH}" height="{y}" fill="#ffffff"/>', *legend, *body, "</svg>", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, help="<output>/profile of a run")
    parser.add_argument("svg", type=pathlib.Path)
    parser.add_argument("--step", type=int, default=5)
    args = parser.parse_args()
    args.svg.write_text(draw(args.folder, f"step {args.step}"))


if __name__ == "__main__":
    main()
