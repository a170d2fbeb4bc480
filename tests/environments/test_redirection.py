"""Text that names the checkout is rewritten so that it names the tree, and nothing else is."""

from __future__ import annotations

import pytest

from executor.environments.interpreters import Redirection, is_pointer_file

MOVE = Redirection(("/home/me/app", "/srv/app"), "/t", ("/home/me/app/.venv",))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("/home/me/app/src\n", "/t/src\n"),
        ("/home/me/app", "/t"),
        ("MAPPING = {'app': '/home/me/app/app'}", "MAPPING = {'app': '/t/app'}"),
        ('{"url": "file:///home/me/app", "dir_info": {"editable": true}}', None),
        ("/srv/app/lib", "/t/lib"),
        ("/home/me/app-data/x", "/home/me/app-data/x"),
        ("/mnt/home/me/app/x", "/mnt/home/me/app/x"),
        ("/home/me/app/.venv/lib/python3.11", "/home/me/app/.venv/lib/python3.11"),
        ("/home/me/app/.venv2/lib", "/t/.venv2/lib"),
        ("/home/me/application", "/home/me/application"),
        ("no path here", "no path here"),
    ],
)
def test_rewriting(before: str, after: str | None) -> None:
    wanted = before.replace("/home/me/app", "/t") if after is None else after
    assert MOVE.rewritten(before.encode()) == wanted.encode()
    assert MOVE.names_a_root(before.encode()) == (wanted != before)


def test_a_path_with_a_blank_is_found_in_a_url_too() -> None:
    move = Redirection(("/home/my app",), "/t")
    assert move.rewritten(b'"file:///home/my%20app/x" "/home/my app/y"') == b'"file:///t/x" "/t/y"'


@pytest.mark.parametrize(
    ("path", "moved"),
    [
        ("/home/me/app/src", "/t/src"),
        ("/home/me/app", "/t"),
        ("/home/me/app/.venv/bin", None),
        ("/home/me/apple", None),
        ("/usr/lib", None),
    ],
)
def test_where_a_path_of_the_checkout_is_in_the_tree(path: str, moved: str | None) -> None:
    assert MOVE.moved(path) == moved


def test_the_paths_that_a_finder_names_are_relative_to_the_checkout() -> None:
    text = b"MAPPING = {'a': '/home/me/app/src/a', 'b': '/home/me/app/b.py'}; X = '/srv/app'; Y = '/usr/lib'"
    assert MOVE.paths_in(text) == ["src/a", "b.py", ""]


@pytest.mark.parametrize(
    ("name", "pointer"),
    [
        ("__editable__.app-1.0.pth", True),
        ("__editable___app_1_0_finder.py", True),
        ("_editable_impl_app.py", True),
        ("_app_editable.py", True),
        ("_app_editable_loader.py", True),
        ("app.pth", True),
        ("app.egg-link", True),
        ("easy-install.pth", True),
        ("six.py", False),
        ("requests", False),
    ],
)
def test_which_files_may_lead_imports_elsewhere(name: str, pointer: bool) -> None:
    assert is_pointer_file(name) is pointer
