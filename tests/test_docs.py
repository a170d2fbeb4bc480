"""Every link in the documentation leads somewhere, and every page is in the index."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from executor.commands import COMMANDS
from tests.support import CHECKOUT

if TYPE_CHECKING:
    from pathlib import Path

PAGES = [*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/*.md"), CHECKOUT / "tests" / "README.md"]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_every_link_leads_to_a_file(page: Path) -> None:

    links = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_page_is_in_the_index() -> None:
    index = (CHECKOUT / "docs" / "README.md").read_text(encoding="utf-8")
    names = {path.name for path in CHECKOUT.glob("docs/*.*")} - {"README.md"}
    assert sorted(name for name in names if f"({name})" not in index) == []


def test_the_readme_names_every_command() -> None:
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    assert [name for name in COMMANDS if f"doit {name}" not in readme and name != "run"] == []
