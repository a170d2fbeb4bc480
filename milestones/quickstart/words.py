"""List every module of executor/ with the first sentence of its docstring."""

import ast
import sys
from pathlib import Path


def main() -> None:
    """Write the list to the file named on the command line."""
    target = Path(sys.argv[1])
    lines = ["# What every module is for", ""]
    for path in sorted(Path("executor").rglob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        sentence = " ".join(text.split("\n\n")[0].split())
        lines.append(f"- `{path.as_posix()}`: {sentence}")
    target.parent.mkdir(exist_ok=True)
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")


main()
