"""Draws the picture in README from a real terminal: `python docs/pictures/record.py`, with tmux installed.

It clones this repository into a temporary folder, runs the demonstration in tmux there, and writes what the terminal
shows at the end as SVG beside this file.
"""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

HERE = Path(__file__).resolve().parent
COLUMNS, LINES = 116, 38
COMMAND = "doit milestone:quickstart -n 2"
# Rich's own format, without the font that it would load from another host.
SVG = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; }}
.{unique_id}-title {{ font-size: 18px; font-family: system-ui, sans-serif; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g></g></svg>
"""


def main() -> None:
    """Record the picture."""
    with tempfile.TemporaryDirectory() as folder:
        clone, socket = Path(folder) / "clone", Path(folder) / "tmux"
        subprocess.run(["git", "clone", "-q", str(HERE.parents[1]), str(clone)], check=True)
        done = Path(folder) / "done"
        program = Path(sys.executable).with_name("doit")
        words = (
            f"printf '$ {COMMAND}\\n'; {shlex.quote(str(program))} {COMMAND.split(' ', 1)[1]}; touch {done}; sleep 600"
        )
        size = ("-x", str(COLUMNS), "-y", str(LINES))
        tmux = ("tmux", "-S", str(socket))
        environment = {**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8"}
        subprocess.run([*tmux, "new-session", "-d", *size, "-c", str(clone), words], check=True, env=environment)
        try:
            while not done.exists():
                time.sleep(0.2)
            time.sleep(0.5)  # the terminal draws
            shown = subprocess.run(
                [*tmux, "capture-pane", "-e", "-p"], check=True, capture_output=True, text=True
            ).stdout
            write("run", shown)
        finally:
            subprocess.run([*tmux, "kill-server"], check=False)


def write(name: str, shown: str) -> None:
    """Write one picture."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.from_ansi(shown.rstrip()))
    text = console.export_svg(title="make for milestones", code_format=SVG, unique_id=name)
    (HERE / f"{name}.svg").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
