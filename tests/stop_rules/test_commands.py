"""Files that commands reach, over small trees."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.stop_rules.commands import Reached, reached

TREE = {
    "check.sh": "#!/bin/sh\npython3 scripts/smoke.py\n",
    "scripts/smoke.py": "from helpers import x\nimport calc\n",
    "scripts/helpers.py": "",
    "scripts/run.sh": "",
    "scripts/deep.py": "from judges.exact import same\nfrom .near import x\n",
    "scripts/judges/exact.py": "",
    "scripts/near.py": "",
    "calc.py": "",
    "package.json": '{"scripts": {"unit": "node tests/run.js && npm run deep",'
    ' "deep": "sh ci/x.sh", "preunit": "sh ci/pre.sh"}}',
    "tests/run.js": 'require("./lib")',
    "tests/lib.js": "",
    "ci/x.sh": "",
    "ci/pre.sh": "",
    "Makefile": "include mk/*.mk\ntest: build\n\t@sh scripts/run.sh\nrun:\n\tpython app.py\nbuild:\n\tpython gen.py\n",
    "mk/rules.mk": "",
    "app.py": "",
    "gen.py": "",
    "tox.ini": "[testenv]\ncommands =\n  sh scripts/run.sh\n",
    "noxfile.py": 'def t(session):\n    session.run("sh", "ci/x.sh")\n',
    "justfile": "test:\n    sh ci/x.sh\n",
    "expected.txt": "",
    "checks/a.mjs": "",
    "proofs/main.go": "",
}
SCRIPTS = {
    "sh check.sh": {"check.sh", "scripts/smoke.py", "scripts/helpers.py"},
    "./check.sh": {"check.sh", "scripts/smoke.py", "scripts/helpers.py"},
    "set -e; for i in 1 2; do bash -x check.sh; done": {"check.sh", "scripts/smoke.py", "scripts/helpers.py"},
    "python scripts/deep.py": {"scripts/deep.py", "scripts/judges/exact.py", "scripts/near.py"},
    "cd scripts && python3 smoke.py": {"scripts/smoke.py", "scripts/helpers.py"},
    "docker exec -w /x backend sh scripts/run.sh": {"scripts/run.sh"},
    "bash -ec './scripts/run.sh'": {"scripts/run.sh"},
    "python -m scripts.smoke": {"scripts/smoke.py", "scripts/helpers.py"},
    "make test": {"Makefile", "mk/rules.mk", "scripts/run.sh", "gen.py"},
    "make -j2 run": {"Makefile", "mk/rules.mk", "app.py"},
    "npm run unit": {"tests/run.js", "tests/lib.js", "ci/x.sh", "ci/pre.sh"},
    "yarn deep": {"ci/x.sh"},
    "tox -q": {"tox.ini", "scripts/run.sh"},
    "nox": {"noxfile.py", "ci/x.sh"},
    "just test": {"justfile", "ci/x.sh"},
    "timeout 5 env A=1 sh ci/x.sh": {"ci/x.sh"},
    "uv run sh ci/x.sh": {"ci/x.sh"},
    "go run ./proofs": {"proofs/main.go"},
    "go run proofs/main.go": {"proofs/main.go"},
    "pytest -q": set(),
    "python -c 'import calc'": set(),
}

TEXTS = st.sampled_from(
    [*TREE.values(), "import a\nfrom './src/a.py'", 'extends = "./a"', "pytest_plugins = ['src.a']"]
)


@pytest.mark.parametrize("command", SCRIPTS)
def test_scripts(command: str) -> None:
    found = reached([("sh", "-c", command)], TREE, lambda path: TREE[path].encode() if path in TREE else None)
    assert set(found.scripts) == SCRIPTS[command]


@pytest.mark.parametrize(
    ("command", "operands", "tested"),
    [
        ("python app.py | diff - expected.txt", {"expected.txt"}, set()),
        ("pytest -q tests/run.js::x", set(), {"tests/run.js"}),
        ("node --test 'checks/*.mjs'", set(), {"checks/*.mjs"}),
        ("python -m doctest calc.py", set(), {"calc.py"}),
        ("python -m unittest discover -s scripts", set(), {"scripts"}),
    ],
)
def test_operands(command: str, operands: set[str], tested: set[str]) -> None:
    found = reached([("sh", "-c", command)], TREE, lambda path: TREE[path].encode() if path in TREE else None)
    assert (set(found.operands), set(found.tested)) == (operands, tested)


def test_names_of_package_scripts() -> None:
    found = reached([("sh", "-c", "npm run -s unit")], TREE, lambda path: TREE[path].encode() if path in TREE else None)
    assert found.package_scripts == {"unit", "preunit", "deep"}


def test_what_cannot_be_parsed_does_no_harm() -> None:
    for text in ("'", '"$(', "`", "\\", "a <<EOF\n'\nEOF", "{ ( ) }", ""):
        assert reached([("sh", "-c", text)], TREE, lambda _: None).package_scripts == frozenset()


@given(st.dictionaries(st.sampled_from([*TREE, "pyproject.toml", "jest.config.js", "src/a.py", "a"]), TEXTS))
def test_without_commands_only_files_of_the_tree_are_reached(tree: dict[str, str]) -> None:
    """The rule about protected files rests on it for a change that only adds files."""
    found = reached((), tree, lambda path: tree[path].encode() if path in tree else None)
    assert set(found.settings) <= set(tree)
    assert replace(found, settings={}) == Reached()
