"""Every link in the documentation leads somewhere, and every page is in the index and on the site."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import yaml

import mkdocs_hooks
from executor.commands import COMMANDS
from executor.config.schema import schemas
from executor.errors import __all__ as errors
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


def test_every_test_that_a_feature_names_exists() -> None:
    wanted = re.findall(
        r"`((?:[\w/]*test_\w+(?:\.py)?)?(?:::[\w.]+)?)`", (CHECKOUT / "docs" / "features.md").read_text()
    )
    module, missing = "", []
    for name in filter(None, wanted):
        path, _, test = name.partition("::")
        module = path.removesuffix(".py") or module
        found = [CHECKOUT / folder / f"{module}.py" for folder in ("", "tests", "tests/features")]
        text = next((file.read_text(encoding="utf-8") for file in found if file.exists()), "")
        if f"def {test.removesuffix('...')}" not in text:
            missing.append(name)
    assert missing == []


def test_the_readme_names_every_command() -> None:
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    assert [name for name in COMMANDS if f"doit {name}" not in readme and name != "run"] == []


def test_the_site_has_every_page_and_reference() -> None:
    made = mkdocs_hooks.made_pages()
    pages = {path.name for path in CHECKOUT.glob("docs/*.md")} | set(made)
    placed = re.findall(r"[\w/-]+\.md", json.dumps(yaml.safe_load((CHECKOUT / "mkdocs.yml").read_text("utf-8"))["nav"]))
    assert sorted(placed) == sorted(pages)
    commands = made["reference/commands.md"]
    assert [name for name in COMMANDS if f"### doit {name}\n" not in commands] == []
    assert "| `--format` |" in commands
    keys = [key for schema in schemas().values() for key in schema.get("properties", {})]
    assert [key for key in keys if f"| `{key}` |" not in made["reference/rules.md"]] == []
    assert "BusyError" in errors
    assert re.search(r"^\| 75 \| .*another run", made["reference/exit-codes.md"], re.MULTILINE | re.IGNORECASE)


@pytest.mark.parametrize(
    ("page", "before", "after"),
    [
        ("report.md", "[a](../README.md#x)", "[a](project/readme.md#x)"),
        ("project/readme.md", "[a](docs/agents.md) [b](rules/)", "[a](../agents.md) [b](../reference/rules.md)"),
        ("project/readme.md", "[docs/](docs/README.md) [c](SECURITY.md)", "[docs/](../README.md) [c](security.md)"),
        ("ci.md", "[action.yml](../action.yml) [x](https://a.b/c)", "action.yml [x](https://a.b/c)"),
        ("ci.md", "```\n[a](../README.md)\n```\n", "```\n[a](../README.md)\n```\n"),
    ],
)
def test_links_lead_to_pages_of_the_site(page: str, before: str, after: str) -> None:
    assert mkdocs_hooks.relinked(before, page) == after


@pytest.mark.long
def test_the_site_is_built_strictly(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="the extra docs is not installed")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(tmp_path / "site")]
    done = subprocess.run(words, cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "reference" / "commands" / "index.html").is_file()
