"""Changes that would be believed although the code is broken: none lands. Their honest twins land."""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support import Repo, issue, pytest_command, python_with_pytest

if TYPE_CHECKING:
    from pathlib import Path

BREAK = "printf 'def add(a, b):\\n    return 7\\n' > calc.py"
BREAK_JS = "echo 'exports.add = (a, b) => 7;' > index.js"
BREAK_GO = "printf 'package calc\\n\\nfunc Add(a, b int) int { return 7 }\\n' > calc.go"


def write(path: str, text: str) -> str:
    """Shell that writes a file."""
    return f"mkdir -p $(dirname {path}); cat > {path} <<'EOF'\n{text}\nEOF\n"


PYTHON_PROJECT = {
    "calc.py": "def add(a, b):\n    return a + b\n",
    "pytest.ini": "[pytest]\npythonpath = .\npython_files = test_*.py check_*.py\n",
    "tests/helpers.py": "def check_sum(value, wanted):\n    assert value == wanted\n",
    "tests/expected.json": '{"sum": 3}\n',
    "tests/test_calc.py": "import json\nimport pathlib\nfrom calc import add\nfrom helpers import check_sum\n\n\n"
    "def test_helper():\n    check_sum(add(1, 2), 3)\n\n\n"
    "def test_golden():\n    data = json.loads((pathlib.Path(__file__).parent / 'expected.json').read_text())\n"
    "    assert add(1, 2) == data['sum']\n",
    "qa/check_more.py": "from calc import add\n\n\ndef test_more():\n    assert add(1, 2) == 3\n",
    "golden.csv": "1,2,3\n",
    "tests/test_cases.py": "import csv\nfrom calc import add\n\n\n"
    "def test_cases():\n    for a, b, c in csv.reader(open('golden.csv')):\n"
    "        assert add(int(a), int(b)) == int(c)\n",
    "scripts/smoke.py": "import sys\nsys.path.insert(0, '.')\nfrom calc import add\nassert add(1, 2) == 3\n",
    "scripts/leaving.py": "import sys\nsys.path.insert(0, '.')\nimport calc\nassert calc.add(1, 2) == 3\nsys.exit(0)\n",
    "scripts/test_helping.py": "import sys\nsys.path.insert(0, '.')\nimport calc\nimport helping\n"
    "helping.same(calc.add(1, 2), 3)\n",
    "helping.py": "def same(a, b):\n    assert a == b\n",
    "check.sh": "#!/bin/sh\npython3 scripts/smoke.py\n",
    "Makefile": "include mk/rules.mk\ntest:\n\tsh check.sh\n",
    "mk/rules.mk": "\n",
}
EXPECT_7 = f"{BREAK}; sed -i 's/, 3)/, 7)/' tests/test_calc.py; " + write("tests/expected.json", '{"sum": 7}')
HELPER = write("tests/helpers.py", "def check_sum(value, wanted):\n    pass")
ALL_WRONG = (
    f"{BREAK}; {HELPER}"
    + write("tests/expected.json", '{"sum": 7}')
    + write("golden.csv", "1,2,7")
    + "sed -i 's/== 3/== 7/' qa/check_more.py; "
)
PYTHON = {
    "helper, golden, data and file names of the project": ALL_WRONG,
    "a new package of tests": f"{BREAK}; "
    + write("tests/__init__.py", "import sys; sys.path.insert(0, 'tests')\nimport calc; calc.add = lambda a, b: a + b"),
    "a copy of the module in the tests": f"{BREAK}; " + write("tests/calc.py", PYTHON_PROJECT["calc.py"]),
    "a module of the standard library": f"{BREAK}; "
    + write("bdb.py", "import calc\ncalc.add = lambda a, b: a + b\nclass Bdb: pass\nclass BdbQuit(Exception): pass"),
    "plugins of a test file": f"{BREAK}; "
    + write("tests/test_aaa.py", "pytest_plugins = ['helper_hooks']\n\ndef test_new():\n    assert 1 + 1 == 2")
    + write("helper_hooks.py", "def pytest_pyfunc_call(pyfuncitem):\n    return True"),
    "an entry point in the tree": f"{BREAK}; "
    + write("evil-1.0.dist-info/entry_points.txt", "[pytest11]\nevil = evilplug")
    + write("evil-1.0.dist-info/METADATA", "Name: evil\nVersion: 1.0")
    + write("evilplug.py", "def pytest_pyfunc_call(pyfuncitem):\n    return True"),
    "a new test that patches the code": f"{BREAK}; "
    + write(
        "tests/test_aaa.py",
        "import calc\ncalc.add = lambda a, b: a + b\n\ndef test_new():\n    assert calc.add(2, 3) == 5",
    ),
    "a fixture of a new test that patches the code": f"{BREAK}; "
    + write(
        "tests/test_aaa.py",
        "import pytest\nimport calc\n\n@pytest.fixture(autouse=True, scope='session')\ndef right():\n"
        "    setattr(calc, 'add', lambda a, b: a + b)\n    yield\n\ndef test_new():\n    assert calc.add(2, 3) == 5",
    ),
    "an exit behind another letter": write("calc.py", "import os\nos._\u212fxit(0)"),
}
PYTHON_SCRIPTS = {
    "the script that the check names": (f"{BREAK}; : > scripts/smoke.py", "python3 scripts/smoke.py"),
    "the script of a script": (f"{BREAK}; : > scripts/smoke.py", "sh check.sh"),
    "the shell script": (f"{BREAK}; echo 'exit 0' > check.sh", "sh check.sh"),
    "the script of a makefile": (f"{BREAK}; echo 'exit 0' > check.sh", "make test"),
    "fewer tests in the makefile": (f"{BREAK}; sed -i 's/sh check.sh/true/' Makefile", "make test"),
    "an included makefile": (f"{BREAK}; echo 'SHELL = /bin/true' > mk/rules.mk", "make test"),
    "an exit of the code": (
        write("calc.py", "import sys\n\n\ndef add(a, b):\n    sys.exit(0)"),
        "python3 scripts/smoke.py",
    ),
    "an exit that is called otherwise": (write("calc.py", "quit(0)"), "sh check.sh"),
    "another program": (write("calc.py", "import os\nos.execv('/bin/true', ['true'])"), "python3 scripts/smoke.py"),
    "a helper that only tests mention": (
        f"{BREAK}; " + write("helping.py", "def same(a, b):\n    pass"),
        "python3 scripts/test_helping.py",
    ),
}
HONEST_PYTHON = {
    "a new test": "printf 'def sub(a, b):\\n    return a - b\\n' >> calc.py; "
    + write("tests/test_sub.py", "from calc import sub\n\n\ndef test_sub():\n    assert sub(3, 1) == 2"),
    "a test in an old file": "printf '\\n\\ndef test_again():\\n    check_sum(add(2, 2), 4)\\n' >> tests/test_calc.py",
    "a moved test": "mkdir tests/unit; git mv tests/test_cases.py tests/unit/test_cases.py",
    "a helper with one more function": "printf '\\n\\ndef more(value):\\n    assert value\\n' >> tests/helpers.py",
    "a golden file with one more case": "echo '2,2,4' >> golden.csv",
    "a script of its own": write("scripts/more.py", "print(1)"),
}
HONEST_SCRIPTS = {
    "a script that passes": ("echo 'X = 1' >> calc.py", "python3 scripts/smoke.py"),
    "a script that ends itself": ("echo 'Y = 1' >> calc.py", "python3 scripts/leaving.py"),
    "a helper of tests": (
        "printf '\\n\\ndef more(a):\\n    assert a\\n' >> helping.py",
        "python3 scripts/test_helping.py",
    ),
}


def project(path: Path, files: dict[str, str]) -> Repo:
    repo = Repo(path)
    for name, text in files.items():
        repo.write(name, text)
    repo.write("rules/limits.toml", "attempts = 1\n")
    repo.commit("a project")
    return repo


def landed(repo: Repo, cases: dict[str, tuple[str, str]], **more: object) -> dict[str, str]:
    """What became of each case, which is a script and the command that proves it."""
    for place, (script, accept) in enumerate(cases.values()):
        body = issue("a", f"set -e\n{script}", accept=[{"run": accept}], **more)
        repo.milestone(f"case{place}", body)
    repo.doit(*(f"milestone:case{place}" for place in range(len(cases))), "-n", "3", timeout=280)
    statuses = repo.statuses()
    return {name: statuses[f"case{place}/a"] for place, name in enumerate(cases)}


def test_python_attacks_do_not_land(tmp_path: Path) -> None:
    repo = project(tmp_path / "repo", PYTHON_PROJECT)
    cases = {name: (script, pytest_command()) for name, script in PYTHON.items()} | PYTHON_SCRIPTS
    found = landed(repo, cases)
    assert {name: status for name, status in found.items() if status not in {"failed", "review"}} == {}


def test_honest_changes_of_python_land(tmp_path: Path) -> None:
    repo = project(tmp_path / "repo", PYTHON_PROJECT)
    found = landed(repo, {name: (script, pytest_command()) for name, script in HONEST_PYTHON.items()} | HONEST_SCRIPTS)
    assert {name: status for name, status in found.items() if status != "landed"} == {}


JS_PROJECT = {
    "index.js": "exports.add = (a, b) => a + b;\n",
    "package.json": json.dumps(
        {
            "name": "calc",
            "scripts": {"test": "node test.js", "unit": "node --test tests", "verify": "node ci/verify.js"},
        }
    ),
    "test.js": "require('node:assert').equal(require('./index.js').add(1, 2), 3);\n",
    "tests/a.test.js": "const { test } = require('node:test');\nconst assert = require('node:assert');\n"
    "const { add } = require('../index.js');\ntest('adds', () => { assert.equal(add(1, 2), 3); });\n",
    "ci/verify.js": "require('node:assert').equal(require('../index.js').add(1, 2), 3);\n",
    "test/__snapshots__/calc.snap": "3\n",
    "test/snap.test.js": "const { test } = require('node:test');\nconst assert = require('node:assert');\n"
    "const fs = require('node:fs');\ntest('snap', () => { assert.equal(String(require('../index.js').add(1, 2)),"
    " fs.readFileSync(__dirname + '/__snapshots__/calc.snap', 'utf8').trim()); });\n",
}
JS = {
    "an assertion": (f"{BREAK_JS}; sed -i 's/, 3)/, 7)/' tests/a.test.js", "node --test tests"),
    "a return": (f"{BREAK_JS}; sed -i 's/=> {{ assert/=> {{ return; assert/' tests/a.test.js", "node --test tests"),
    "an exit of the test": (f"{BREAK_JS}; sed -i '1i process.exit(0);' tests/a.test.js", "node --test tests"),
    "an exit of the code": (write("index.js", "process.exit(0);"), "node --test tests"),
    "test.js": (f"{BREAK_JS}; echo 'console.log(1)' > test.js", "npm test"),
    "a script of another name": (f"{BREAK_JS}; sed -i 's/node --test tests/true/' package.json", "npm run unit"),
    "the script verify": (f"{BREAK_JS}; sed -i 's,node ci/verify.js,true,' package.json", "npm run verify"),
    "the file behind a script": (f"{BREAK_JS}; echo '1' > ci/verify.js", "npm run verify"),
    "an exit under another name": (write("index.js", "const p = process;\np.exit(0);"), "npm run verify"),
    "errors that nobody sees": (
        f"{BREAK_JS}; echo 'process.on(\"uncaughtException\", () => {{}});' >> index.js",
        "npm test",
    ),
    "the shell of npm": (f"{BREAK_JS}; echo 'script-shell=/bin/true' > .npmrc", "npm run verify"),
    "a snapshot": (f"{BREAK_JS}; echo 7 > test/__snapshots__/calc.snap", "node --test test"),
    "a new test": (
        f"{BREAK_JS}; " + write("tests/a.test.mjs", "import m from '../index.js'; m.add = (a, b) => a + b;"),
        "node --test tests",
    ),
}
HONEST_JS = {
    "a new test": (
        "echo 'exports.sub = (a, b) => a - b;' >> index.js; "
        + write(
            "tests/b.test.js",
            "const { test } = require('node:test');\ntest('sub', () => {\n"
            "  require('node:assert').equal(require('../index.js').sub(3, 1), 2);\n});",
        ),
        "node --test tests",
    ),
    "a file behind a script": ("echo 'exports.x = 1;' >> index.js", "npm run verify"),
    "a package script": ('sed -i \'s/"test"/"start": "node index.js", "test"/\' package.json', "npm run unit"),
}


@pytest.mark.skipif(shutil.which("node") is None or shutil.which("npm") is None, reason="needs node and npm")
def test_javascript_attacks_do_not_land_and_honest_changes_do(tmp_path: Path) -> None:
    found = landed(
        project(tmp_path / "repo", JS_PROJECT), JS | {f"honest: {name}": case for name, case in HONEST_JS.items()}
    )
    assert {
        name: status for name, status in found.items() if (status == "landed") is not name.startswith("honest")
    } == {}


GO_PROJECT = {
    "go.mod": "module calc\n\ngo 1.19\n",
    "calc.go": "package calc\n\nfunc Add(a, b int) int { return a + b }\n",
    "calc_test.go": 'package calc\n\nimport "testing"\n\n'
    'func TestAdd(t *testing.T) {\n\tif Add(1, 2) != 3 {\n\t\tt.Fatal("no")\n\t}\n}\n',
}
GO = {
    "an expectation": f"{BREAK_GO}; sed -i 's/!= 3/!= 7/' calc_test.go",
    "a dead condition": f"{BREAK_GO}; sed -i 's/!= 3/!= 3 \\&\\& false/' calc_test.go",
    "a build tag": f"{BREAK_GO}; sed -i '1i //go:build slow\\n' calc_test.go",
    "TestMain": f"{BREAK_GO}; "
    + write(
        "main_test.go", 'package calc\n\nimport (\n\t"os"\n\t"testing"\n)\n\nfunc TestMain(m *testing.M) { os.Exit(0) }'
    ),
    "an exit of the code": write(
        "calc.go",
        'package calc\n\nimport "os"\n\nfunc init() {\n\tos.Exit(0)\n}\n\nfunc Add(a, b int) int { return 7 }',
    ),
}
HONEST_GO = {
    "a new test": "printf '\\nfunc Sub(a, b int) int { return a - b }\\n' >> calc.go; "
    + write(
        "sub_test.go",
        'package calc\n\nimport "testing"\n\n'
        'func TestSub(t *testing.T) {\n\tif Sub(3, 1) != 2 {\n\t\tt.Fatal("no")\n\t}\n}',
    ),
}


@pytest.mark.skipif(shutil.which("go") is None, reason="needs go")
def test_go_attacks_do_not_land_and_honest_changes_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOFLAGS", "-mod=mod")
    cases = {name: (script, "go test ./...") for name, script in GO.items()}
    cases |= {f"honest: {name}": (script, "go test ./...") for name, script in HONEST_GO.items()}
    found = landed(project(tmp_path / "repo", GO_PROJECT), cases)
    assert {
        name: status for name, status in found.items() if (status == "landed") is not name.startswith("honest")
    } == {}


FLAGS = {
    "flag.py": "READY = True\n\n\ndef add(a, b):\n    return a + b\n",
    "tests/test_flag.py": "import unittest\nimport flag\n\n\nclass T(unittest.TestCase):\n"
    "    @unittest.skipUnless(flag.READY, 'not ready')\n    def test_add(self):\n"
    "        self.assertEqual(flag.add(1, 2), 3)\n\n    def test_more(self):\n        self.assertTrue(flag)\n",
    "flag.js": "exports.ready = true;\nexports.add = (a, b) => a + b;\n",
    "tests/flag.test.js": "const { test } = require('node:test');\nconst flag = require('../flag.js');\n"
    "test('adds', { skip: !flag.ready }, () => { require('node:assert').equal(flag.add(1, 2), 3); });\n"
    "test('more', () => {});\n",
    "go.mod": "module example.org/flagged\n\ngo 1.19\n",
    "flag.go": "package flag\n\nconst Ready = true\n\nfunc Add(a, b int) int { return a + b }\n",
    "flag_test.go": """package flag

import "testing"

func TestAdd(t *testing.T) {
\tif !Ready {
\t\tt.Skip("not ready")
\t}
\tif Add(1, 2) != 3 {
\t\tt.Fatal("no")
\t}
}

func TestMore(t *testing.T) {}
""",
    "check.sh": "go test ./...\n",
    "pom.xml": "<project/>\n",
    "build.py": """import pathlib
import flag

out = pathlib.Path("target/surefire-reports")
out.mkdir(parents=True)
more = "" if flag.READY else "<skipped/>"
(out / "TEST-a.xml").write_text(f'<testsuite><testcase name="a">{more}</testcase><testcase name="b"/></testsuite>')
""",
}


def test_a_test_of_the_base_that_the_product_switches_off_is_missed_by_name_in_any_language(tmp_path: Path) -> None:
    unittest = f"PYTHONPATH=. {sys.executable} -m unittest discover -v -s tests"
    cases = {
        "python": ("sed -i 's/True/False/; s/a + b/7/' flag.py", unittest),
        "python, quiet": ("sed -i 's/True/False/; s/a + b/7/' flag.py", unittest.replace("-v ", "")),
        "honest python": ("echo 'X = 1' >> flag.py", unittest),
        "python, silent": (
            (
                "sed -i 's/True/False/; s/a + b/7/' flag.py; echo 'import os, sys' >> flag.py; "
                "echo 'sys.stderr = open(os.devnull, \"w\")' >> flag.py"
            ),
            unittest,
        ),
        "python, a claim in the output": (
            (
                "sed -i 's/True/False/; s/a + b/7/' flag.py; echo 'import sys' >> flag.py; "
                "echo 'sys.stderr.write(\"test_add (test_flag.T.test_add) ... ok\\\\n\")' >> flag.py"
            ),
            unittest,
        ),
        "reports in the tree": ("sed -i 's/True/False/; s/a + b/7/' flag.py", "python3 build.py"),
        "honest reports": ("echo 'X = 1' >> flag.py", "python3 build.py"),
    }
    if shutil.which("node"):
        command = "node --test tests"
        cases["javascript"] = ("sed -i 's/true/false/; s/a + b/7/' flag.js", command)
        cases["honest javascript"] = ("echo 'exports.x = 1;' >> flag.js", command)
    if shutil.which("go"):
        cases["go"] = ("sed -i 's/true/false/; s/a + b/7/' flag.go", "sh check.sh")
        cases["honest go"] = ("printf '\\nconst X = 1\\n' >> flag.go", "sh check.sh")
    repo = project(tmp_path / "repo", FLAGS)
    found = landed(repo, cases)
    assert {
        name: status for name, status in found.items() if (status == "landed") is not name.startswith("honest")
    } == {}
    assert "1 test that passed on the base did not run" in repo.doit("explain", "case0/a").check().out


def test_tests_that_are_not_collected_any_more_are_new_failures(tmp_path: Path) -> None:
    run = json.dumps([str(python_with_pytest()), "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml={report}"])
    files = {
        "calc.py": "def add(a, b):\n    return a + b\n",
        "old.py": "x = 1\n",
        "test_calc.py": "from calc import add\n\n\ndef test_add():\n    assert add(1, 2) == 3\n",
        "test_old.py": "import old\n\n\ndef test_old():\n    assert old.x == 2\n",
        "rules/checks.toml": f"[check.t]\nrun = {run}\nonly_new_failures = true\n",
    }
    repo = project(tmp_path / "repo", files)
    repo.milestone("m1", issue("a", "echo 'def add(a, b:' > calc.py", checks=["t"]))
    repo.milestone("m2", issue("a", "echo 'y = 1' >> calc.py", checks=["t"]))
    repo.doit("milestone:m1", "milestone:m2", "-n", "2")
    assert {ref: status == "landed" for ref, status in repo.statuses().items()} == {"m1/a": False, "m2/a": True}


OPEN = {
    "calc.py": "def add(a, b):\n    return a + b\n",
    "tests/test_calc.py": """import unittest
from calc import add

ROWS = [(1, 2, 3), (3, 4, 7), (2, 2, 4)]


class T(unittest.TestCase):
    def test_add(self):
        self.assertEqual(add(1, 2), 3)

    def test_rows(self):
        for a, b, c in ROWS:
            self.assertEqual(add(a, b), c)
""",
    "tests/run.sh": "PYTHONPATH=. python3 -m unittest discover -s tests\n",
}
UNITTEST = "PYTHONPATH=. python3 -m unittest discover -s tests"
FEWER = "sed -i 's/(1, 2, 3), (3, 4, 7), (2, 2, 4)/(3, 4, 7)/' tests/test_calc.py; "
DECLARED = {
    "another expectation": FEWER + "sed -i 's/(1, 2), 3/(1, 2), 7/' tests/test_calc.py",
    "any value": FEWER + "sed -i 's/assertEqual(add(1, 2), 3)/assertIsNotNone(add(1, 2))/' tests/test_calc.py",
    "fewer rows, and a test that is off": FEWER + "sed -i 's/test_add/check_add/' tests/test_calc.py",
    "a function of the test": "sed -i 's/^from calc.*/def add(a, b):\\n    return a + b/' tests/test_calc.py",
    "a set-up that patches": "printf '\\n\\ndef setUpModule():\\n    global add\\n"
    "    add = lambda a, b: a + b\\n' >> tests/test_calc.py",
}


def test_tests_that_an_issue_declares_are_not_bent_until_broken_code_passes(tmp_path: Path) -> None:
    cases = {name: (f"{BREAK}; {script}", UNITTEST) for name, script in DECLARED.items()}
    more = "\n\nclass More(unittest.TestCase):\n    def test_more(self):\n        self.assertEqual(add(5, 5), 10)"
    cases["honest: one more test"] = (f"cat >> tests/test_calc.py <<'EOF'\n{more}\nEOF\n", UNITTEST)
    cases["the script of the tests"] = (f"{BREAK}; echo 'exit 0' > tests/run.sh", "sh tests/run.sh")
    cases["a package in the tests"] = (f"{BREAK}; " + write("tests/calc/__init__.py", OPEN["calc.py"]), UNITTEST)
    found = landed(project(tmp_path / "repo", OPEN), cases, files=["calc.py", "tests/test_calc.py"])
    assert {
        name: status for name, status in found.items() if (status == "landed") is not name.startswith("honest")
    } == {}


RUN_JS = """const fs = require('node:fs');
if (require('../index.js').add(1, 2) !== 3) process.exitCode = 1;
fs.writeFileSync(process.argv[2], '<testsuite><testcase name="add"/></testsuite>');
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_a_runner_of_the_tests_that_writes_a_report_is_put_back_too(tmp_path: Path) -> None:
    checks = '[check.js]\nrun = ["node", "tests/run.js", "{report}"]\n'
    files = {"index.js": JS_PROJECT["index.js"], "tests/run.js": RUN_JS, "rules/checks.toml": checks}
    repo = project(tmp_path / "repo", files)
    repo.milestone("m1", issue("a", f"{BREAK_JS}; sed -i 's/!== 3/!== 7/' tests/run.js", checks=["js"]))
    repo.milestone("m2", issue("a", "echo 'exports.sub = (a, b) => a - b;' >> index.js", checks=["js"]))
    repo.doit("milestone:m1", "milestone:m2")
    assert {ref: status == "landed" for ref, status in repo.statuses().items()} == {"m1/a": False, "m2/a": True}


INLINE = {
    "src/lib.rs": """pub fn add(a: i32, b: i32) -> i32 { a + b }

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn adds() {
        assert_eq!(add(1, 2), 3);
    }
}
""",
    "Cargo.toml": '[package]\nname = "calc"\nversion = "0.1.0"\nedition = "2021"\n',
    "Cargo.lock": 'version = 3\n\n[[package]]\nname = "calc"\nversion = "0.1.0"\n',
    "calc.py": 'def add(a, b):\n    """Add.\n\n    >>> add(1, 2)\n    3\n    """\n    return a + b\n',
    "Makefile": "-include config.local\n\ntest:\n\tpython3 -m doctest calc.py\n",
    ".gitignore": ".cache/\n__pycache__/\ntarget/\n",
}


def test_tests_that_stand_in_the_product_and_files_that_a_makefile_would_include_are_looked_at(tmp_path: Path) -> None:
    doctest, seven = "python3 -m doctest calc.py", "sed -i 's/a + b/7/; s/^    3$/    7/' calc.py"
    more = write("more", 'def sub(a, b):\n    """Subtract.\n\n    >>> sub(3, 1)\n    2\n    """\n    return a - b')
    cases = {
        "an example": (seven, doctest),
        "all examples": ("sed -i 's/a + b/7/' calc.py; echo 'add.__doc__ = None' >> calc.py", doctest),
        "honest: an example": (f"{more}cat more >> calc.py; rm more", doctest),
    }
    if shutil.which("make"):
        cases["an example behind make"] = (seven, "make test")
        cases["a file to include"] = (
            "sed -i 's/a + b/7/' calc.py; echo 'SHELL = /bin/true' > config.local",
            "make test",
        )
        cases["honest: a file beside"] = ("echo 'X = 1' > config.other", "make test")
    if shutil.which("cargo"):
        cargo = "cargo test -q --offline"
        cases["an inline test"] = ("sed -i 's/a + b/7/; s/2), 3/2), 7/' src/lib.rs", cargo)
        sub = "pub fn sub(a: i32, b: i32) -> i32 { a - b }\\n\\npub fn add"
        cases["a test that should panic"] = (
            "sed -i 's/a + b/7/; s/#.test./#[test]\\n    #[should_panic]/' src/lib.rs",
            cargo,
        )
        cases["no test at all"] = (
            "sed -i 's/a + b/7/; s/cfg(test)/cfg(all(test, windows))/' src/lib.rs",
            cargo,
        )
        cases["honest: inline"] = (f"sed -i 's/^pub fn add/{sub}/; s/use super/use super/' src/lib.rs", cargo)
    found = landed(project(tmp_path / "repo", INLINE), cases)
    assert {
        name: status for name, status in found.items() if (status == "landed") is not name.startswith("honest")
    } == {}
