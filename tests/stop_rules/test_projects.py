"""Files of a change, by the projects of the repository that they belong to."""

from __future__ import annotations

import pytest

from executor.git.diff import Change, FileChange
from executor.stop_rules.view import parts_of_change, projects_in

PATHS = frozenset(
    [
        "README.md",
        "apps/api/dodo.py",
        "apps/api/milestones/a.toml",
        "apps/web/dodo.py",
        "apps/web/milestones/w.toml",
        "tests/data/milestones/x.toml",
    ]
)


def change(*paths: str) -> Change:
    return Change(tuple(FileChange(path, "modified", 1, 0, False) for path in paths), "key")


def test_projects_have_milestones_and_a_dodo_file() -> None:
    assert projects_in(PATHS) == ["apps/api/", "apps/web/"]
    assert projects_in({"dodo.py", "milestones/a.toml"}) == [""]


@pytest.mark.parametrize(
    ("own", "path", "prefix", "seen"),
    [
        ("apps/web/", "apps/web/rules/limits.toml", "apps/web/", "rules/limits.toml"),
        ("apps/web/", "apps/api/rules/limits.toml", "apps/api/", "rules/limits.toml"),
        ("apps/web/", ".github/workflows/ci.yml", "", ".github/workflows/ci.yml"),
        ("apps/web/", "apps/website/a", "", "apps/website/a"),
        ("", "src/a", "", "src/a"),
        ("", "apps/web/dodo.py", "apps/web/", "dodo.py"),
    ],
)
def test_a_file_is_seen_by_the_project_that_it_belongs_to(own: str, path: str, prefix: str, seen: str) -> None:
    parts = {part.prefix: part for part in parts_of_change(change(path), own, PATHS, ())}
    assert [file.path for file in parts[prefix].change.files] == [seen]
    assert parts[prefix].inside(seen) == path


@pytest.mark.parametrize(
    ("own", "prefix", "declared", "expected"),
    [
        ("apps/web/", "apps/web/", ("src/*",), ("src/*",)),
        ("", "apps/web/", ("apps/web/src/*", "docs/*"), ("src/*",)),
        ("", "apps/web/", (), ()),
    ],
)
def test_declared_files_are_those_of_the_project(
    own: str, prefix: str, declared: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    parts = {part.prefix: part for part in parts_of_change(change("apps/web/x"), own, PATHS, declared)}
    assert parts[prefix].declared == expected


def test_what_is_declared_elsewhere_does_not_open_another_project() -> None:
    parts = {part.prefix: part for part in parts_of_change(change("apps/api/x"), "apps/web/", PATHS, ("src/*",))}
    assert parts["apps/api/"].declared
    assert parts["apps/api/"].base(PATHS) == {"dodo.py", "milestones/a.toml"}
