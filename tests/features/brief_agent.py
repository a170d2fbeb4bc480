"""An agent that knows nothing but its brief: it leaves exactly the files that the brief asks for, and hopes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

BRIEF = Path(os.environ["EXECUTOR_BRIEF"]).read_text(encoding="utf-8")
OUT = Path(os.environ["EXECUTOR_OUT"])
ISSUE = os.environ["EXECUTOR_ISSUE"].replace(".", "_")


def main() -> int:
    step = BRIEF.partition("## Your step: ")[2].partition("\n## ")[0]
    for line in step.splitlines():
        if found := re.match(r"- required output: `(?:\$EXECUTOR_OUT/)?([^`]*)`(?: with the heading `(.*)`)?", line):
            place = OUT if "$EXECUTOR_OUT" in line else Path()
            (place / found[1]).write_text(f"{found[2] or '# Notes'}\n\nsome text\n", encoding="utf-8")
    holds = BRIEF.partition("## Requirements for your output files\n")[2].partition("\nRun `sh")[0]
    for block in re.split(r"\n(?=`\$EXECUTOR_OUT/)", holds):
        if name := re.match(r"\s*`\$EXECUTOR_OUT/([^`]+)`", block):
            (OUT / name[1]).write_text(content(name[1], block), encoding="utf-8")
    if "at least one has to fail" in step:
        Path(f"test_{ISSUE}.py").write_text(
            f"import code_{ISSUE}\n\n\ndef test_it():\n    assert code_{ISSUE}.f()\n\n\ntest_it()\n"
        )
    elif "not kept" not in step:
        Path(f"code_{ISSUE}.py").write_text("def f():\n    return True\n")
    return subprocess.run(["sh", os.environ["EXECUTOR_CHECK"]], check=False).returncode


def content(name: str, block: str) -> str:
    keys = re.findall(r"^- the key `([^`]+)`", block, re.MULTILINE)
    headings = re.findall(r"^- the heading `([^`]+)`", block, re.MULTILINE)
    words = re.findall(r"^  - (.*)$", block, re.MULTILINE)
    if not name.endswith(".json"):
        return "\n\n".join([*(f"{heading}\n\ntext" for heading in headings), *words, "text"])
    schema = re.search(r"```json\n(.*?)```", block, re.DOTALL)
    value = example(json.loads(schema[1])) if schema else {}
    for key in keys:
        nested(value, key.split("."))
    return json.dumps({**value, "words": words} if words else value)


def nested(value: dict[str, object], path: list[str]) -> None:
    if len(path) == 1:
        value.setdefault(path[0], [])
    else:
        child = value.setdefault(path[0], {})
        assert isinstance(child, dict)
        nested(child, path[1:])


def example(schema: dict[str, object]) -> dict[str, object]:
    """Something that matches a JSON Schema of objects, lists and texts."""
    made = _example(schema)
    assert isinstance(made, dict)
    return made


def _example(schema: dict) -> object:  # type: ignore[type-arg]
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {key: _example(schema["properties"][key]) for key in schema.get("required", ())}
        case "array":
            return [_example(schema["items"])] * schema.get("minItems", 1)
        case "number" | "integer":
            return schema.get("minimum", 1)
        case _:
            return "1"


if __name__ == "__main__":
    sys.exit(main())
