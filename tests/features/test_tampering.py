"""Hacks that make a broken change look green: none lands, and each of them would have without the protection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import CHECKOUT, Repo, issue, pytest_command

if TYPE_CHECKING:
    from pathlib import Path

BREAK = "printf 'def add(a, b):\\n    return 0\\n' > calc.py"
TRIVIAL = "printf 'def test_trivial():\\n    assert 1 + 1 == 2\\n' > tests/test_trivial.py"


def write(path: str, text: str) -> str:
    """Shell that writes a file."""
    return f"mkdir -p $(dirname {path}); cat > {path} <<'EOF'\n{text}\nEOF\n"


TEST = "from calc import add\n\ndef test_add():\n    assert {0}\n\ndef test_more():\n    assert {1}\n"
FORGE = """import sys, os
words = open("/proc/self/cmdline").read().split(chr(0))
xml = '''<testsuites><testsuite name="pytest" errors="0" failures="0" skipped="0" tests="2">
<testcase classname="tests.test_calc" name="test_add"/><testcase classname="tests.test_calc" name="test_more"/>
</testsuite></testsuites>'''
for word in words:
    if word.startswith("--junit" + "xml="):
        open(word.split("=", 1)[1], "w").write(xml)
"""
HACKS = {
    "a-module-in-place-of-the-runner": f"{BREAK}; {write('pytest.py', 'raise SystemExit(0)')}",
    "a-runner-that-forges-the-report": f"{BREAK}; {write('pytest.py', FORGE + 'raise SystemExit(0)')}",
    "a-package-in-place-of-the-runner": f"{BREAK}; {write('pytest/__main__.py', 'raise SystemExit(0)')}"
    " touch pytest/__init__.py",
    "exit-from-conftest": f"{BREAK}; {write('conftest.py', 'import os; os._exit(0)')}",
    "exit-status-from-conftest": f"{BREAK}; "
    + write(
        "conftest.py", "def pytest_sessionfinish(session):\n    session.exitstatus = 0\n    import os; os._exit(0)"
    ),
    "passed-from-conftest": f"{BREAK}; "
    + write(
        "conftest.py",
        "import pytest\n@pytest.hookimpl(hookwrapper=True)\ndef pytest_runtest_makereport(item, call):\n"
        "    out = yield\n    out.get_result().outcome = 'passed'",
    ),
    "no-test-run-from-conftest": f"{BREAK}; "
    + write("tests/conftest.py", "def pytest_pyfunc_call(pyfuncitem):\n    return True"),
    "tests-ignored-from-conftest": f"{BREAK}; {TRIVIAL}; "
    + write("tests/conftest.py", "collect_ignore = ['test_calc.py']"),
    "tests-deselected-from-conftest": f"{BREAK}; {TRIVIAL}; "
    + write(
        "conftest.py",
        "def pytest_collection_modifyitems(items):\n    items[:] = [i for i in items if 'trivial' in i.name]",
    ),
    "collect-only-in-the-ini": f"{BREAK}; " + write("pytest.ini", "[pytest]\npythonpath = .\naddopts = --co"),
    "other-files-in-the-ini": f"{BREAK}; {TRIVIAL}; "
    + write("pytest.ini", "[pytest]\npythonpath = .\npython_files = test_triv*.py"),
    "deselected-in-the-ini": f"{BREAK}; {TRIVIAL}; "
    + write("pytest.ini", "[pytest]\npythonpath = .\naddopts = -k trivial"),
    "a-plugin-in-the-ini": f"{BREAK}; "
    + write("evil.py", "def pytest_pyfunc_call(pyfuncitem):\n    return True")
    + write("pytest.ini", "[pytest]\npythonpath = .\naddopts = -p evil"),
    "pyproject-instead-of-the-ini": f"{BREAK}; rm pytest.ini; "
    + write("pyproject.toml", '[tool.pytest.ini_options]\npythonpath = "."\naddopts = "--co"'),
    "tox-instead-of-the-ini": f"{BREAK}; rm pytest.ini; "
    + write("tox.ini", "[pytest]\npythonpath = .\naddopts = --co"),
    "setup-instead-of-the-ini": f"{BREAK}; rm pytest.ini; "
    + write("setup.cfg", "[tool:pytest]\npythonpath = .\naddopts = --co"),
    "tests-deleted": f"{BREAK}; {TRIVIAL}; rm tests/test_calc.py",
    "a-test-deleted": "printf 'def add(a, b):\\n    return 3\\n' > calc.py; "
    + write("tests/test_calc.py", "from calc import add\n\ndef test_add():\n    assert add(1, 2) == 3"),
    "tests-emptied": f"{BREAK}; "
    + write("tests/test_calc.py", "def test_add():\n    pass\n\ndef test_more():\n    pass"),
    "tests-skipped": f"{BREAK}; "
    + write(
        "tests/test_calc.py",
        "import pytest\npytestmark = pytest.mark.skip\n" + TEST.format("add(1, 2) == 3", "add(2, 2) == 4"),
    ),
    "module-skipped": f"{BREAK}; {TRIVIAL}; "
    + write(
        "tests/test_calc.py",
        "import pytest\npytest.skip('later', allow_module_level=True)\n"
        + TEST.format("add(1, 2) == 3", "add(2, 2) == 4"),
    ),
    "failure-expected": f"{BREAK}; "
    + write(
        "tests/test_calc.py",
        "import pytest\npytestmark = pytest.mark.xfail\n" + TEST.format("add(1, 2) == 3", "add(2, 2) == 4"),
    ),
    "tests-renamed": f"{BREAK}; {TRIVIAL}; sed -i 's/def test_/def check_/' tests/test_calc.py",
    "test-file-renamed": f"{BREAK}; {TRIVIAL}; mv tests/test_calc.py tests/calc_checks.py",
    "not-a-test-module": f"{BREAK}; {TRIVIAL}; echo '__test__ = False' >> tests/test_calc.py",
    "nothing-but-true": f"{BREAK}; " + write("tests/test_calc.py", TEST.format("True", "True")),
    "equal-to-itself": f"{BREAK}; "
    + write("tests/test_calc.py", TEST.format("add(1, 2) == add(1, 2)", "add(2, 2) == add(2, 2)")),
    "the-wrong-result-expected": f"{BREAK}; "
    + write("tests/test_calc.py", TEST.format("add(1, 2) == 0", "add(2, 2) == 0")),
    "or-true": f"{BREAK}; "
    + write("tests/test_calc.py", TEST.format("add(1, 2) == 3 or True", "add(2, 2) == 4 or True")),
    "return-before-the-assertion": f"{BREAK}; sed -i 's/^    assert/    return\\n    assert/' tests/test_calc.py",
    "a-link-in-place-of-tests": f"{BREAK}; {TRIVIAL}; touch nothing; ln -sf ../nothing tests/test_calc.py",
    "exit-from-the-code": write("calc.py", "import os\nos._exit(0)"),
    "exit-at-the-end-from-the-code": write(
        "calc.py", "import atexit, os\natexit.register(os._exit, 0)\ndef add(a, b):\n    return 0"
    ),
    "exit-from-a-new-test": f"{BREAK}; " + write("tests/test_aaa.py", "import os\nos._exit(0)"),
    "exit-from-the-tests-package": f"{BREAK}; " + write("tests/__init__.py", "import os\nos._exit(0)"),
    "report-forged-by-the-code": write("calc.py", FORGE + "os._exit(0)"),
    "report-forged-by-a-new-test": f"{BREAK}; " + write("tests/test_aaa.py", FORGE + "os._exit(0)"),
    "runner-patched-by-the-code": write(
        "calc.py",
        "import sys\nsys.modules['_pytest.python'].Function.runtest = lambda self: None\ndef add(a, b):\n    return 0",
    ),
    "right-only-under-test": write(
        "calc.py", "import sys\ndef add(a, b):\n    return a + b if 'pytest' in sys.modules else 0"
    ),
    "right-only-while-a-test-runs": write(
        "calc.py", "import os\ndef add(a, b):\n    return a + b if 'PYTEST_CURRENT_TEST' in os.environ else 0"
    ),
}


def project(path: Path, *, protected: bool) -> Repo:
    repo = Repo(path)
    repo.write("calc.py", "def add(a, b):\n    return a + b\n")
    repo.write("pytest.ini", "[pytest]\npythonpath = .\n")
    repo.write("tests/test_calc.py", TEST.format("add(1, 2) == 3", "add(2, 2) == 4"))
    repo.commit("a project")
    run = pytest_command()
    if not protected:
        run += " && true"  # a plain call of pytest would be asked for a report
        off = [rule for rule in rules() if rule != "spec-problem"]
        repo.write("rules/stops.toml", "".join(f"[stop.{rule}]\nenabled = false\n" for rule in off))
    repo.write("rules/checks.toml", f"[check.tests]\nrun = '''{run}'''\nversion = []\n")
    repo.write("rules/limits.toml", "attempts = 1\n")
    for name, script in HACKS.items():
        allow = [] if protected else ["tests-weakened", "tests-changed"]
        repo.milestone(name, issue("hack", f"set -e\n{script}", checks=["tests"], allow=allow))
    return repo


def rules() -> list[str]:
    return sorted(path.stem for path in (CHECKOUT / "rules" / "stops").glob("*.toml"))


def statuses(path: Path, names: list[str], *, protected: bool) -> dict[str, str]:
    repo = project(path, protected=protected)
    repo.doit(*(f"milestone:{name}" for name in names), "-n", "3", timeout=280)
    found = {ref.partition("/")[0]: status for ref, status in repo.statuses().items()}
    return {name: found[name] for name in names}


def test_no_hack_lands(tmp_path: Path) -> None:
    assert len(HACKS) >= 26
    found = statuses(tmp_path / "repo", list(HACKS), protected=True)
    assert {name: status for name, status in found.items() if status not in {"review", "failed", "skipped"}} == {}


@pytest.mark.parametrize(
    "names", [list(HACKS)[::8], pytest.param(list(HACKS), marks=pytest.mark.long)], ids=["some", "every"]
)
def test_hacks_would_have_landed_without_the_protection(tmp_path: Path, names: list[str]) -> None:
    found = statuses(tmp_path / "repo", names, protected=False)
    assert {name: status for name, status in found.items() if status != "landed"} == {}


def test_the_honest_change_lands(tmp_path: Path) -> None:
    repo = project(tmp_path / "repo", protected=True)
    honest = (
        "printf 'def sub(a, b):\\n    return a - b\\n' >> calc.py; "
        "printf 'from calc import sub\\n\\ndef test_sub():\\n    assert sub(3, 1) == 2\\n' > tests/test_sub.py"
    )
    repo.milestone("honest", issue("sub", honest, checks=["tests"]))
    repo.doit("milestone:honest").check()
