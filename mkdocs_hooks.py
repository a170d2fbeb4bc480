"""Pages of the site that are made: reference/ from the code, project/ from the files in the top folder.

Links that lead out of docs/ on a server for repositories lead to these pages, or become plain text.
"""

from __future__ import annotations

import os
import posixpath
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # mkdocs starts elsewhere

import executor.commands as command_table  # noqa: E402
from executor import errors  # noqa: E402
from executor.config.schema import schemas  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["made_pages", "on_files", "on_page_markdown", "relinked"]

TOP = {path.name: f"project/{path.stem.lower()}.md" for path in sorted(ROOT.glob("*.md"))}
"""A file of the top folder -> its page."""
_LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<target>[^)#\s]*)(?P<anchor>#[^)]*)?\)")
_CODES = {
    0: "everything that was asked for has landed",
    1: "something failed or was skipped",
    130: "interrupted by SIGINT; 143 by SIGTERM, 129 by SIGHUP",
}


def on_files(files: Any, config: Any) -> Any:
    """Add the made pages; called by mkdocs."""
    from mkdocs.structure.files import File

    for name, text in made_pages().items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_more: Any) -> str:
    """Lead links to pages of the site; called by mkdocs."""
    return relinked(markdown, page.file.src_uri)


def made_pages() -> dict[str, str]:
    """Every page that is made: its place in docs/ -> Markdown."""
    top = {page: (ROOT / name).read_text(encoding="utf-8") for name, page in TOP.items()}
    return {
        **top,
        "reference/commands.md": "\n".join(_commands()) + "\n",
        "reference/rules.md": "\n".join(_rules()) + "\n",
        "reference/exit-codes.md": "\n".join(_codes()) + "\n",
    }


def relinked(text: str, page: str) -> str:
    """A page with links that lead to pages of the site.

    Args:
        text: Markdown.
        page: its place in docs/.
    """
    made = {name: source for source, name in TOP.items()}
    here = (ROOT / made[page]) if page in made else ROOT / "docs" / page

    def lead(found: re.Match[str]) -> str:
        target = found["target"]
        if not target or "://" in target or target.startswith("mailto:"):
            return found[0]
        path = Path(os.path.normpath(here.parent / target))
        place = _place(path)
        if not place:
            return found["text"]
        return f"[{found['text']}]({posixpath.relpath(place, posixpath.dirname(page) or '.')}{found['anchor'] or ''})"

    return "".join(part if code else _LINK.sub(lead, part) for code, part in _parts(text))


def _parts(text: str) -> Iterator[tuple[bool, str]]:
    """A text cut at its blocks of code."""
    for number, part in enumerate(re.split(r"(^```.*?^```[^\n]*\n?)", text, flags=re.MULTILINE | re.DOTALL)):
        yield number % 2 == 1, part


def _place(path: Path) -> str:
    """The page about a file of the repository; empty if there is none."""
    if path.parent == ROOT and path.name in TOP:
        return TOP[path.name]
    if path.is_relative_to(ROOT / "rules"):
        return "reference/rules.md"
    docs = ROOT / "docs"
    if path == docs:
        return "README.md"
    return path.relative_to(docs).as_posix() if path.is_relative_to(docs) and path.is_file() else ""


def _commands() -> Iterator[str]:
    yield "# Commands"
    yield "\n`doit COMMAND` at the top of the repository, `make-for-milestones COMMAND` in every folder of it."
    for title, names in command_table.GROUPS.items():
        yield f"\n## {title}"
        for name in names:
            command = getattr(command_table, command_table.COMMANDS[name].partition(":")[2])
            yield f"\n### doit {name}\n\n{command.doc_purpose[0].upper()}{command.doc_purpose[1:]}.\n"
            yield f"```text\ndoit {name} {command.doc_usage or ''}".rstrip() + "\n```\n"
            options = [option for option in command.cmd_options if option.get("long")]
            if options:
                yield "| option | meaning |\n|---|---|"
            for option in options:
                short = f"`-{option['short']}`, " if option.get("short") else ""
                yield f"| {short}`--{option['long']}` | {_cell(option.get('help', ''))} |"


def _rules() -> Iterator[str]:
    yield "# Rules and milestones"
    yield "\nEvery key of `rules/*.toml` and `milestones/*.toml`, from the schemas that `doit schema` writes."
    yield "The files show the defaults; a `rules/` of your own overrides them key by key."
    for kind, schema in schemas().items():
        yield f"\n## {kind}\n\n{schema.get('description', '').partition(chr(10) * 2)[0]}\n"
        yield "| key | value | meaning |\n|---|---|---|"
        for name, value, meaning in _keys(schema):
            yield f"| `{name}` | {_cell(value)} | {_cell(meaning)} |"
        path = ROOT / "rules" / f"{kind}.toml"
        if path.is_file():
            yield f'\n```toml title="rules/{kind}.toml"\n{path.read_text(encoding="utf-8").rstrip()}\n```'


def _keys(schema: dict[str, Any], before: str = "", depth: int = 0) -> Iterator[tuple[str, str, str]]:
    for name, value in schema.get("properties", {}).items():
        yield f"{before}{name}", _kind(value), value.get("description", "").partition("\n\n")[0]
        for inner in (value, value.get("items", {}), value.get("additionalProperties", {})):
            if isinstance(inner, dict) and depth < 3:  # noqa: PLR2004  (deeper is a table in a table in a list)
                mark = "[]." if inner is value.get("items") else ".NAME." if inner is not value else "."
                yield from _keys(inner, f"{before}{name}{mark}", depth + 1)


def _kind(value: dict[str, Any]) -> str:
    if "enum" in value:
        return ", ".join(f"`{item}`" for item in value["enum"])
    kinds = [value, *value.get("anyOf", []), *value.get("oneOf", [])]
    named = dict.fromkeys(str(kind["type"]) for kind in kinds if "type" in kind)
    return " or ".join(named) or ("a constant" if "const" in value else "any")


def _codes() -> Iterator[str]:
    yield "# Exit codes\n\n| code | meaning |\n|---|---|"
    found: dict[int, list[str]] = {code: [text] for code, text in _CODES.items()}
    for name in errors.__all__:
        kind = getattr(errors, name)
        if kind is not errors.InterruptedRunError and isinstance(getattr(kind, "exit_code", None), int):
            found.setdefault(kind.exit_code, []).append((kind.__doc__ or "").partition("\n")[0].rstrip("."))
    for code in sorted(found):
        yield f"| {code} | {_cell('; '.join(dict.fromkeys(found[code])))} |"


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")
