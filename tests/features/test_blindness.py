"""Blind checks are found and honest ones are believed, whatever language and tool they use."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.features.test_environments import installed
from tests.support import issue

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support import Repo

BLIND = {
    "true": "true",
    "swallowed": "pytest -q || true",
    "a pipe": "pytest -q | tail -1",
    "a second command": "pytest -q; echo done",
    "another folder": "cd {root} && pytest -q",
    "another folder's tests": "python3 -m unittest discover -s /usr/share/nothing-here || exit 0",
    "make with another shell": "make -s test SHELL=/bin/true",
    "make that ignores errors": "make -s -i test",
    "a recipe that ignores errors": "make -s lenient",
    "a target that is a file": "make -s built",
    "a listing": "ls",
    "a version": "python3 --version",
    "a stale report": "cp {root}/old-report.xml '{{report}}'",
    "no test is collected": "pytest -q -k nothing_at_all || [ $? -eq 5 ]",
    "in the background": "(pytest -q &) ; sleep 0",
    "a script that ends well": "sh check.sh",
    "files by git, of which there are none": "git ls-files '*.py' 2>/dev/null | xargs -r python3 -m py_compile",
    "files of the checkout": "python3 -m py_compile {root}/src/app/__init__.py",
    "a subprocess": "python3 -c \"import subprocess; subprocess.run(['pytest', '-q'])\"",
    "a folder without files": "python3 -m compileall -q build || true",
    "errexit off": "set +e; pytest -q; exit 0",
    "into a file": "pytest -q > log; cat log",
    "PYTHONPATH to the checkout": "PYTHONPATH={root}/src pytest -q",
    "an installed copy": "PYTHONPATH={copy} pytest -q",
}
SLICE = [
    "true",
    "a pipe",
    "make with another shell",
    "a target that is a file",
    "a stale report",
    "no test is collected",
]
"""The kinds that cost the suite least; the campaign has all."""
NODE = {
    "script-shell": "npm test --script-shell=/bin/true",
    "a script that does nothing": "npm run -s nothing",
    "if present": "npm run -s --if-present tests",
    "a test of nothing": "node --test --test-name-pattern=nothing-at-all",
}


def found(repo: Repo, checks: dict[str, str]) -> dict[str, tuple[str, str]]:
    """The word that each check gets on the base, with the reason."""
    rules = [f"[check.c{number}]\nrun = {json.dumps(run)}\n" for number, run in enumerate(checks.values())]
    repo.write("rules/checks.toml", "\n".join(rules))
    repo.commit("rules")
    repo.milestone("m1", issue("a", "true", checks=[f"c{number}" for number in range(len(checks))]))
    said = repo.doit("verify", "m1", "--base", "--json", timeout=900)
    assert said.out, said.err
    rows = said.json
    told = {row["check"]: (row["status"], f"{row['reason']} {row['detail']}") for row in rows}
    return {name: told[f"c{number}"] for number, name in enumerate(checks)}


@pytest.mark.parametrize("names", [SLICE, pytest.param(list(BLIND), marks=pytest.mark.campaign)], ids=["slice", "all"])
def test_every_blind_check_is_found(repo: Repo, monkeypatch: pytest.MonkeyPatch, names: list[str]) -> None:
    if shutil.which("make") is None:
        names = [name for name in names if not BLIND[name].startswith("make ")]
    installed(repo, monkeypatch)
    copy = repo.path.parent / "copy"
    shutil.copytree(repo.path / "src", copy)
    repo.write("Makefile", "test:\n\tpytest -q\nlenient:\n\t-pytest -q\nbuilt:\n\tpytest -q\n")
    repo.write("built", "")
    repo.write("check.sh", "pytest -q\nexit 0\n")
    case = '<testcase classname="tests.test_f" name="test_f"/>'
    repo.write("old-report.xml", f'<testsuite name="pytest" tests="1" failures="0" errors="0">{case}</testsuite>')
    checks = {name: BLIND[name].format(root=repo.path, copy=copy) for name in names}
    words = found(repo, checks)
    assert {name: word for name, (word, _) in words.items() if word != "blind"} == {}
    assert repo.attempts() == []


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_every_blind_check_of_node_is_found(repo: Repo) -> None:
    repo.write("package.json", '{"name": "w", "scripts": {"test": "node --test", "nothing": "echo no tests"}}')
    repo.write("index.js", "exports.f = () => 1;\n")
    repo.write("index.test.js", "require('node:test')('f', () => require('./index.js').f());\n")
    assert {name: told for name, told in found(repo, NODE).items() if told[0] not in {"blind", "red"}} == {}


@dataclass(frozen=True)
class Honest:
    """A check that looks at the tree, with the files that it is about and the programs that it needs."""

    run: str
    programs: tuple[str, ...]
    files: dict[str, str] = field(default_factory=dict)
    slow: bool = False


PYTHON = {"src/app/__init__.py": "def f() -> int:\n    return 1\n"}
UNITTEST = {
    **PYTHON,
    "tests/test_u.py": (
        "import unittest\n\nfrom app import f\n\n\nclass T(unittest.TestCase):\n"
        "    def test_f(self):\n        self.assertEqual(f(), 1)\n"
    ),
}
JS = {
    "lib/index.js": "exports.f = () => 1;\n",
    "test/f.test.js": "require('node:test')('f', () => require('assert').equal(require('../lib/index.js').f(), 1));\n",
    "package.json": '{"name": "w", "scripts": {"test": "node --test test/", "check": "node --check lib/index.js"}}\n',
}
GO = {
    "go.mod": "module example.org/m\n\ngo 1.19\n",
    "m.go": "package m\n\nfunc F() int { return 1 }\n",
    "m_test.go": (
        'package m\n\nimport "testing"\n\nfunc TestF(t *testing.T) {\n\tif F() != 1 {\n\t\tt.Fatal(F())\n\t}\n}\n'
    ),
}
RUST = {
    "Cargo.toml": '[package]\nname = "m"\nversion = "0.1.0"\nedition = "2021"\n\n[lib]\npath = "rust/lib.rs"\n',
    "rust/lib.rs": "pub fn f() -> i32 {\n    1\n}\n\n#[test]\nfn t() {\n    assert_eq!(f(), 1);\n}\n",
}
C = {
    "c/f.c": "int f(void) { return 1; }\n",
    "c/f.h": "int f(void);\n",
    "c/test_f.c": '#include "f.h"\nint main(void) { return f() == 1 ? 0 : 1; }\n',
    "Makefile": ".PHONY: test\ntest: ; $(CC) -o c/t c/f.c c/test_f.c && c/t\n",
    "CMakeLists.txt": (
        "cmake_minimum_required(VERSION 3.5)\nproject(m C)\nenable_testing()\n"
        "add_executable(t c/f.c c/test_f.c)\nadd_test(NAME t COMMAND t)\n"
    ),
}
PERL = {
    "lib/M.pm": "package M;\nuse strict;\nsub f { return 1 }\n1;\n",
    "t/f.t": "use strict; use Test::More tests => 1; use lib 'lib'; use M; is(M::f(), 1);\n",
}
SHELL = {
    "bin/greet.sh": "#!/bin/sh\nset -eu\nprintf 'hello %s\\n' \"${1:-you}\"\n",
    "tests/greet.bats": '@test "greets" { run sh bin/greet.sh me; [ "$output" = "hello me" ]; }\n',
}
JAVA = {
    "java/M.java": (
        "class M {\n  static int f() { return 1; }\n"
        "  public static void main(String[] a) { if (f() != 1) System.exit(1); }\n}\n"
    )
}
RUBY = {
    "lib/m.rb": "module M\n  def self.f = 1\nend\n",
    "test/m_test.rb": (
        'require "minitest/autorun"\nrequire_relative "../lib/m"\n'
        "class T < Minitest::Test\n  def test_f = assert_equal(1, M.f)\nend\n"
    ),
}
PHP = {
    "src/m.php": "<?php\nfunction f() { return 1; }\n",
    "tests/m_test.php": "<?php\nrequire __DIR__ . '/../src/m.php';\nexit(f() === 1 ? 0 : 1);\n",
}
LUA = {
    "lua/m.lua": "return { f = function() return 1 end }\n",
    "spec/m_spec.lua": 'package.path = "lua/?.lua"\nassert(require("m").f() == 1)\n',
}

THIRTY = 30

HONEST = {
    "pytest": Honest("pytest -q", (), UNITTEST),
    "python -m pytest with PYTHONPATH": Honest("PYTHONPATH=src python3 -m pytest -q tests", (), UNITTEST),
    "unittest": Honest("PYTHONPATH=src python3 -m unittest discover -s tests", (), UNITTEST),
    "compileall": Honest("python3 -m compileall -q src", (), PYTHON),
    "py_compile of all": Honest("find src -name '*.py' -exec python3 -m py_compile {} +", (), PYTHON),
    "ruff check": Honest("ruff check --no-cache src", ("ruff",), PYTHON),
    "ruff format": Honest("ruff format --no-cache --check src", ("ruff",), PYTHON, slow=True),
    "mypy": Honest("mypy --cache-dir=/dev/null src", ("mypy",), PYTHON, slow=True),
    "doctest": Honest("python3 -m doctest src/app/__init__.py", (), PYTHON, slow=True),
    "no words that must not be there": Honest("! grep -rn FIXME src", (), PYTHON),
    "node --test": Honest("node --test test/", ("node",), JS),
    "npm test": Honest("npm test", ("npm",), JS, slow=True),
    "npm run check": Honest("npm run -s check", ("npm",), JS, slow=True),
    "node with assert": Honest("node -e \"require('assert').equal(require('./lib/index.js').f(), 1)\"", ("node",), JS),
    "JSON": Honest("python3 -m json.tool package.json > /dev/null", (), JS),
    "go test": Honest("go test ./...", ("go",), GO, slow=True),
    "go vet": Honest("go vet ./...", ("go",), GO, slow=True),
    "gofmt": Honest('test -z "$(gofmt -l .)"', ("gofmt",), GO),
    "go build": Honest("go build ./...", ("go",), GO, slow=True),
    "cargo test": Honest("cargo test --offline -q", ("cargo",), RUST, slow=True),
    "cargo check": Honest("cargo check --offline -q", ("cargo",), RUST, slow=True),
    "make test": Honest("make -s test", ("make", "cc"), C),
    "a compiler": Honest("cc -fsyntax-only c/f.c", ("cc",), C),
    "ctest": Honest(
        "cmake -S . -B b >/dev/null && cmake --build b && ctest --test-dir b", ("cmake", "cc"), C, slow=True
    ),
    "perl -c": Honest("perl -Ilib -c lib/M.pm", ("perl",), PERL),
    "prove": Honest("prove -l t", ("prove",), PERL, slow=True),
    "sh -n": Honest("sh -n bin/greet.sh", (), SHELL),
    "bats": Honest("bats tests/greet.bats", ("bats",), SHELL),
    "shellcheck": Honest("shellcheck bin/greet.sh", ("shellcheck",), SHELL),
    "java": Honest("javac -d out java/M.java && java -cp out M", ("javac",), JAVA, slow=True),
    "ruby -c": Honest("ruby -c lib/m.rb", ("ruby",), RUBY),
    "minitest": Honest("ruby test/m_test.rb", ("ruby",), RUBY, slow=True),
    "php -l": Honest("php -l src/m.php", ("php",), PHP),
    "php": Honest("php tests/m_test.php", ("php",), PHP),
    "luac": Honest("luac -p lua/m.lua", ("luac",), LUA),
    "lua": Honest("lua spec/m_spec.lua", ("lua",), LUA),
    "the README is not empty": Honest("test -s README.md", (), {"README.md": "# M\n"}),
}


def honest(repo: Repo, monkeypatch: pytest.MonkeyPatch, *, slow: bool) -> tuple[int, dict[str, tuple[str, str]]]:
    """How many checks were asked, and those that were not believed."""
    installed(repo, monkeypatch)
    checks = {
        name: check for name, check in HONEST.items() if all(map(shutil.which, check.programs)) and check.slow <= slow
    }
    for check in checks.values():
        for path, text in check.files.items():
            repo.write(path, text)
    ignored: Path = repo.path / ".gitignore"
    ignored.write_text(ignored.read_text() + "target/\nout/\nb/\nc/t\n")
    repo.commit("honest")
    words = found(repo, {name: check.run for name, check in checks.items()})
    return len(checks), {name: word for name, word in words.items() if word[0] != "green"}


def test_no_honest_check_is_called_blind(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, wrong = honest(repo, monkeypatch, slow=False)
    assert wrong == {}, "\n".join(f"{name}: {why}" for name, why in wrong.items())
    assert asked >= 8


@pytest.mark.campaign
def test_no_honest_check_of_any_language_is_called_blind(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, wrong = honest(repo, monkeypatch, slow=True)
    assert wrong == {}, "\n".join(f"{name}: {why}" for name, why in wrong.items())
    if asked < THIRTY:
        pytest.skip(f"{asked} of {len(HONEST)} checks were asked; the others' tools are missing")
