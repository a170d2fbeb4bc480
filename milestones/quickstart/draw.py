"""Draw figures as SVG: `draw.py sizes|map FIGURES TARGET`."""

import json
import sys
from html import escape
from pathlib import Path

LAYERS = ["commands", "(executor)", "importers", "adapters", "core"]
WORDS = {
    "commands": "commands: what a user types",
    "(executor)": "executor: observe, decide, act, record",
    "importers": "importers: plans of other tools",
    "adapters": "adapters: git, files, processes",
    "core": "core: pure values and functions",
}


def sizes(figures: dict) -> str:
    """A bar for every folder, longest first."""
    rows = sorted(figures["lines"].items(), key=lambda item: (-item[1], item[0]))
    longest = max(count for _, count in rows)
    parts = []
    for place, (name, count) in enumerate(rows):
        top = 20 + 30 * place
        parts.append(f'<text x="110" y="{top + 15}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<rect x="120" y="{top}" width="{380 * count // longest}" height="20" rx="3" fill="#3b6ea5"/>')
        parts.append(f'<text x="{128 + 380 * count // longest}" y="{top + 15}" class="n">{count}</text>')
    return svg(620, 40 + 30 * len(rows), parts)


def layers(figures: dict) -> str:
    """The layers of the package, widest where there are most lines."""
    lines = dict.fromkeys(LAYERS, 0)
    for path, count in figures["modules"].items():
        parts = path.split("/")
        folder = parts[1] if len(parts) > 2 else "(executor)"  # noqa: PLR2004
        lines[folder if folder in lines else "(executor)"] += count
    most = max(lines.values())
    drawn = []
    for place, name in enumerate(LAYERS):
        width = 260 + 320 * lines[name] // most
        left, top = (640 - width) // 2, 20 + 70 * place
        drawn.append(f'<rect x="{left}" y="{top}" width="{width}" height="52" rx="8" fill="#e8eef5" stroke="#3b6ea5"/>')
        drawn.append(f'<text x="320" y="{top + 23}" text-anchor="middle">{escape(WORDS[name])}</text>')
        drawn.append(f'<text x="320" y="{top + 42}" text-anchor="middle" class="n">{lines[name]} lines</text>')
    return svg(640, 40 + 70 * len(LAYERS), drawn)


def svg(width: int, height: int, parts: list[str]) -> str:
    """A whole SVG file."""
    style = "<style>text{font:14px sans-serif;fill:#1c2733}.n{font-size:12px;fill:#5a6b7b}</style>"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">\n{style}\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def main() -> None:
    """Draw what the command line asks for."""
    what, source, target = sys.argv[1:]
    figures = json.loads(Path(source).read_text(encoding="utf-8"))
    Path(target).write_text({"sizes": sizes, "map": layers}[what](figures), encoding="utf-8")


main()
