"""Importers are entry points: one of another package is found, and is held to the same promises as ours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from executor.importers.importer import GROUP, Guide, check_importer, guide_text, installed
from executor.importers.source import Source

if TYPE_CHECKING:
    from executor.importers.draft import Draft
    from tests.support import Repo

PLUGIN = """
from executor.importers.draft import Draft, DraftIssue
from executor.importers.importer import Guide


class Lines:
    name = "acme-lines"
    guide = Guide("one task a line", "! Write it\\\\n", {"a line": "an issue"}, "nothing")

    def recognises(self, source):
        return 99 if source.text.startswith("!") else 0

    def read(self, source):
        lines = [(n, line[1:].strip()) for n, line in enumerate(source.text.split("\\\\n"), 1) if line.startswith("!")]
        issues = tuple(DraftIssue(str(n), line or "?", f"# {line}", n) for n, line in lines)
        return Draft("acme", "Acme", issues=issues, overview=source.text)
"""


def test_an_importer_of_another_package_is_used_like_ours(repo: Repo) -> None:
    repo.write("acme_lines.py", PLUGIN.replace("\\\\n", "\\n"))
    repo.write("acme_lines-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: acme-lines\nVersion: 1\n")
    repo.write("acme_lines-1.dist-info/entry_points.txt", f"[{GROUP}]\nacme-lines = acme_lines:Lines\n")
    repo.write("plan.acme", "! Write it\n! Read it\n")
    found = repo.doit("import", "plan.acme", "--agent", "claude", "--json").check().json["milestones"][0]
    assert (found["format"], found["issues"]) == ("acme-lines", ["1", "2"])
    assert "### `acme-lines`" in repo.doit("import", "--formats").check().out
    repo.write("acme_lines.py", "import nothing_of_that_name\n")
    assert 'the importer "acme-lines" of acme-lines cannot be loaded' in repo.doit("import", "plan.acme").check(3).err


class Forgetful:
    """An importer that keeps nothing but the first line, and stumbles over an empty text."""

    name = "Forgetful"
    guide = Guide("s", "e", {}, "n")

    def recognises(self, _source: Source) -> int:
        return 100

    def read(self, source: Source) -> Draft:
        from executor.importers.draft import Draft, DraftIssue

        first = source.text.split("\n")[0]
        return Draft("x", "X", issues=(DraftIssue("1", first, first[0], 1),))


def test_an_importer_that_breaks_its_word_is_found_out() -> None:
    found = check_importer(Forgetful(), [Source("plan.x", "Title of it\nsecond line\n")])
    assert found[0] == "its name 'Forgetful' is not a word of lowercase letters, digits and dashes"
    assert any("raises IndexError" in line for line in found)
    assert any("line 2: a word is neither in the draft nor reported" in line for line in found)
    nothing: Any = object()
    assert check_importer(nothing, []) == ["it lacks name, guide, recognises or read"]


def test_the_page_of_the_documentation_has_every_guide() -> None:
    page = (Path(__file__).parents[2] / "docs" / "import.md").read_text(encoding="utf-8")
    missing = [name for name, importer in installed().items() if guide_text(importer) not in page]
    assert missing == []
