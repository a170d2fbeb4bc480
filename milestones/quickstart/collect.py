"""Collect figures of the repository in the current folder: files and lines by folder, lines by module."""

import json
import sys
from collections import Counter
from pathlib import Path

SUFFIXES = {".py", ".toml", ".md"}
LEFT_OUT = {".git", ".cache", ".venv", "tour", "build", "dist"}


def main() -> None:
    """Write the figures to the file named on the command line."""
    target = Path(sys.argv[1])
    files: Counter[str] = Counter()
    lines: Counter[str] = Counter()
    modules: dict[str, int] = {}
    for path in sorted(Path().rglob("*")):
        if path.suffix in SUFFIXES and path.is_file() and not LEFT_OUT & set(path.parts):
            count = len(path.read_text(encoding="utf-8", errors="replace").splitlines())
            folder = path.parts[0] if len(path.parts) > 1 else "(top)"
            files[folder] += 1
            lines[folder] += count
            if folder == "executor" and path.suffix == ".py":
                modules[path.as_posix()] = count
    target.parent.mkdir(exist_ok=True)
    figures = {"files": dict(files), "lines": dict(lines), "modules": modules}
    target.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n", encoding="utf-8")


main()
