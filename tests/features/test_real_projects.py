"""Real packages of others, as their users install them and without configuration: the candidate is what is judged.

EXECUTOR_CAMPAIGN=1 python -m pytest -m campaign tests/features/test_real_projects.py fetches them by name, with the
ordinary clients and their settings, into pytest's cache folder. Whatever is missing here skips by name.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from executor.sandbox.bubblewrap import find_sandbox, sandbox_problem
from tests.support import CHECKOUT, Repo, issue, kept, unpack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.campaign
BOX = find_sandbox()
AGENTS = [
    "script",
    pytest.param("boxed", marks=pytest.mark.skipif(BOX is None, reason=sandbox_problem() or "-")),
]


@dataclass(frozen=True)
class Package:
    """A source distribution, a change that breaks it, and a right one with its test.

    Attributes:
        name: as the index knows it, with its version.
        layout: what it stands for.
        breaks: shell command that makes its tests fail.
        improves: shell command that adds something, and a test that fails without it.
        needs: what its tests need besides pytest.
    """

    name: str
    layout: str
    breaks: str
    improves: str
    needs: tuple[str, ...] = ()


def adds(module: str, name: str, test: str) -> str:
    """A function is added to a module, with a test in a new file."""
    code = f"printf '\\n\\ndef executor_answer():\\n    return 42\\n' >> {module}"
    check = f"printf 'import {name} as m\\n\\n\\ndef test_answer():\\n    assert m.executor_answer() == 42\\n' > {test}"
    return f"{code}; {check}"


C_CHANGE = """python3 - <<'EOF'
import re
p = "src/markupsafe/_speedups.c"
s = open(p).read()
s = s.replace("static PyMethodDef module_methods[] = {", '''static PyObject*
answer(PyObject *self, PyObject *noargs)
{
    return PyLong_FromLong(42);
}

static PyMethodDef module_methods[] = {
    {"answer", answer, METH_NOARGS, NULL},''')
assert "METH_NOARGS, NULL}" in s
open(p, "w").write(s)
open("tests/test_answer.py", "w").write(
    "from markupsafe import _speedups\\n\\n\\ndef test_answer():\\n    assert _speedups.answer() == 42\\n"
)
EOF"""
PACKAGES = [
    Package(
        "pluggy==1.5.0",
        "setuptools, src",
        "sed -i 's/^class HookCaller:/class Broken:/' src/pluggy/_hooks.py",
        adds("src/pluggy/_result.py", "pluggy._result", "testing/test_answer.py"),
    ),
    Package(
        "toolz==0.12.1",
        "setuptools, flat",
        "sed -i 's/return first(seq)/return last(seq)/; s/^def identity(x):/def identity(x, y):/' toolz/functoolz.py",
        adds("toolz/functoolz.py", "toolz.functoolz", "toolz/tests/test_answer.py"),
    ),
    Package(
        "humanize==4.9.0",
        "hatch, generated version",
        "sed -i 's/^def ordinal(/def ordinals(/' src/humanize/number.py",
        adds("src/humanize/lists.py", "humanize.lists", "tests/test_answer.py"),
        ("freezegun",),
    ),
    Package(
        "itsdangerous==2.2.0",
        "flit, src",
        "sed -i 's/^def base64_encode/def base64_code/' src/itsdangerous/encoding.py",
        adds("src/itsdangerous/encoding.py", "itsdangerous.encoding", "tests/test_itsdangerous/test_answer.py"),
        ("freezegun",),
    ),
    Package(
        "MarkupSafe==2.1.5",
        "a C extension whose C is changed",
        """sed -i "s/outp++ = 'a'/outp++ = 'b'/" src/markupsafe/_speedups.c""",
        C_CHANGE,
    ),
]


def run(*argv: str, cwd: Path, **env: str) -> str:
    done = subprocess.run(
        argv, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, check=False, timeout=600
    )
    if done.returncode:
        raise AssertionError(f"{argv}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


@pytest.fixture(scope="session")
def fetched(pytestconfig: pytest.Config) -> Path:
    return kept(pytestconfig, "real-projects")


def once(fetch: Callable[[str, Path], Path]) -> Callable[[str, Path], Path]:
    """Of the processes that run these tests side by side, one fetches a project and the others wait."""

    @wraps(fetch)
    def fetched_once(name: str, folder: Path) -> Path:
        with FileLock(folder / f"{name.replace('/', '+')}.lock"):
            return fetch(name, folder)

    return fetched_once


@once
def sdist(name: str, folder: Path) -> Path:
    """The unpacked source distribution, downloaded once; skips where the index cannot be reached."""
    place = folder / name
    if not place.is_dir():
        down = folder / f"{name}.down"
        words = ("pip", "download", "-q", "--no-deps", "--no-binary", ":all:", "-d", str(down), name)
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
        if done.returncode:
            pytest.skip(f"{name} cannot be fetched: {done.stderr.strip().splitlines()[-1:]}")
        with tarfile.open(next(down.glob("*.tar.gz"))) as archive:
            unpack(archive, folder / f"{name}.tree")
        next((folder / f"{name}.tree").iterdir()).rename(place)
    return place


def project_of(tree: Path, path: Path) -> Repo:
    """A repository with these files, set up as README says."""
    shutil.copytree(tree, path, symlinks=True)
    repo = Repo.__new__(Repo)
    repo.path = path
    repo.git("init", "-q", "-b", "main")
    repo.git("config", "user.name", "Tester")
    repo.git("config", "user.email", "tester@example.org")
    repo.git("add", "-A")
    repo.git("commit", "-q", "-m", "upstream")
    run(sys.executable, "-m", "executor", "init", cwd=path, PYTHONPATH=str(CHECKOUT))
    repo.commit("init")
    return repo


def judged(repo: Repo, breaks: str, improves: str, agent: str, **extra: object) -> dict[str, str]:
    """The fates of a change that breaks the project and of one that is right."""
    repo.write("rules/agents.toml", '[agent.boxed]\ncommand = ["sh", "-c", "{run}"]\n')
    repo.write("rules/limits.toml", "backoff_s = 0.0\nattempts = 1\n")
    body = issue("breaks", breaks, **extra) + issue("improves", improves, **extra)
    repo.milestone("m1", body.replace('"script"', f'"{agent}"'))
    said = repo.doit("milestone:m1", timeout=600)
    assert said.code == 1, f"{said.out}\n{said.err}"
    return repo.statuses("m1")


WANTED = {"m1/breaks": "failed", "m1/improves": "landed"}


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.layout.replace(", ", "-").replace(" ", "-"))
def test_a_package_installed_editable(
    tmp_path: Path, fetched: Path, monkeypatch: pytest.MonkeyPatch, package: Package, agent: str
) -> None:
    if shutil.which("uv") is None:
        pytest.skip("uv is not installed")
    tree = sdist(package.name, fetched)
    repo = project_of(tree, tmp_path / "project")
    venv = tmp_path / "venv"
    run("uv", "venv", "-q", "--seed", str(venv), cwd=tmp_path)
    python = str(venv / "bin" / "python")
    pretend = {"SETUPTOOLS_SCM_PRETEND_VERSION": package.name.partition("==")[2]}
    run("uv", "pip", "install", "-q", "-p", python, "-e", ".", "pytest", *package.needs, cwd=repo.path, **pretend)
    repo.commit("installed")
    monkeypatch.setenv("PATH", f"{venv}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("VIRTUAL_ENV", str(venv))
    before = repo.git("status", "--porcelain", "--untracked-files=all")
    statuses = judged(repo, package.breaks, package.improves, agent, checks=["tests"])
    assert statuses == WANTED
    assert repo.git("status", "--porcelain", "--untracked-files=all").replace("?? milestones/m1.toml", "") or not before


@once
def packed(name: str, folder: Path) -> Path:
    """The unpacked package of the npm registry, fetched once; skips where it cannot be reached."""
    place = folder / name
    if not place.is_dir():
        if shutil.which("npm") is None:
            pytest.skip("npm is not installed")
        down = folder / f"{name}.down"
        down.mkdir(exist_ok=True)
        words = ("npm", "pack", "--silent", "--pack-destination", str(down), name)
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300, cwd=folder)
        if done.returncode:
            pytest.skip(f"{name} cannot be fetched: {done.stderr.strip().splitlines()[-1:]}")
        with tarfile.open(next(down.glob("*.tgz"))) as archive:
            unpack(archive, folder / f"{name}.tree")
        (folder / f"{name}.tree" / "package").rename(place)
    return place


def debian(name: str, inside: str, folder: Path) -> Path:
    """A folder of a Debian package, fetched once and not installed; skips where it cannot be."""
    place = folder / f"{name}.deb.tree"
    if not place.is_dir():
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
            pytest.skip("apt-get is not installed")
        done = subprocess.run(
            ("apt-get", "download", "-q", name), capture_output=True, text=True, check=False, timeout=300, cwd=folder
        )
        if done.returncode:
            pytest.skip(f"{name} cannot be fetched: {done.stderr.strip().splitlines()[-1:]}")
        run("dpkg-deb", "-x", str(next(folder.glob(f"{name}_*.deb"))), str(place), cwd=folder)
    return next(place.glob(inside))


def manifest(path: Path, **changed: object) -> None:
    """Change keys of a package.json, and remove what only the maintainers' own tests need."""
    told = {**json.loads(path.read_text()), "devDependencies": {}, "scripts": {}, **changed}
    path.write_text(json.dumps(told, indent=2) + "\n")


def of_node(tree: Path, path: Path, ignored: str = "node_modules/\n.cache/\n") -> Repo:
    repo = project_of(tree, path)
    repo.write(".gitignore", ignored)
    repo.commit("ignore")
    return repo


@pytest.mark.parametrize("agent", AGENTS)
def test_a_package_of_npm_with_tests_of_node(tmp_path: Path, fetched: Path, agent: str) -> None:
    tree = shutil.copytree(packed("ms@2.1.3", fetched), tmp_path / "tree")
    manifest(tree / "package.json", scripts={"test": "node --test"})
    head = "const t = require('node:test'), a = require('node:assert');\n"
    (tree / "ms.test.js").write_text(head + "t('minutes', () => a.equal(require('.')('2m'), 120000));\n")
    repo = of_node(tree, tmp_path / "project")
    breaks = "sed -i 's/var m = s [*] 60/var m = s * 61/' index.js"
    test = head + "t('answer', () => a.equal(require('.').answer(), 42));"
    improves = f"echo 'module.exports.answer = () => 42;' >> index.js; cat > answer.test.js <<'E'\n{test}\nE"
    assert judged(repo, breaks, improves, agent, accept=[{"run": "npm test"}]) == WANTED


@pytest.mark.parametrize("agent", AGENTS)
def test_a_package_of_npm_with_tests_of_vitest(tmp_path: Path, fetched: Path, agent: str) -> None:
    tree = shutil.copytree(packed("camelcase@8.0.0", fetched), tmp_path / "tree")
    manifest(tree / "package.json", scripts={"test": "vitest run"}, devDependencies={"vitest": "^2"})
    head = "import {test, expect} from 'vitest';\nimport camelCase, * as all from './index.js';\n"
    (tree / "camel.test.js").write_text(head + "test('dash', () => expect(camelCase('foo-bar')).toBe('fooBar'));\n")
    repo = of_node(tree, tmp_path / "project")
    run("npm", "install", "--no-audit", "--no-fund", "--silent", cwd=repo.path)
    repo.commit("lock")
    breaks = "sed -i 's/toLocaleUpperCase/toLocaleLowerCase/g; s/toUpperCase/toLowerCase/g' index.js"
    test = head + "test('answer', () => expect(all.answer()).toBe(42));"
    improves = f"echo 'export const answer = () => 42;' >> index.js; cat > answer.test.js <<'E'\n{test}\nE"
    assert judged(repo, breaks, improves, agent, accept=[{"run": "npm test"}]) == WANTED


@pytest.mark.parametrize("agent", AGENTS)
def test_a_workspace_of_two_packages_of_npm(tmp_path: Path, fetched: Path, agent: str) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(packed("ms@2.1.3", fetched), tree / "packages" / "ms")
    shutil.copytree(packed("debug@4.4.0", fetched), tree / "packages" / "debug")
    manifest(tree / "packages" / "ms" / "package.json")
    head = "const t = require('node:test'), a = require('node:assert');\n"
    (tree / "packages" / "debug" / "ms.test.js").write_text(
        head + "t('ms of the workspace', () => a.equal(require('./src').humanize(120000), '2m'));\n"
    )
    manifest(tree / "packages" / "debug" / "package.json", scripts={"test": "node --test"})
    (tree / "package.json").write_text('{"name": "w", "private": true, "workspaces": ["packages/*"]}\n')
    repo = of_node(tree, tmp_path / "project")
    run("npm", "install", "--no-audit", "--no-fund", "--silent", cwd=repo.path)
    repo.commit("lock")
    assert (repo.path / "node_modules" / "ms").is_symlink()
    breaks = """sed -i "s/ + 'm'/ + 'x'/" packages/ms/index.js"""
    test = head + "t('answer', () => a.equal(require('ms').answer(), 42));"
    place = "packages/debug/answer.test.js"
    improves = f"echo 'module.exports.answer = () => 42;' >> packages/ms/index.js; cat > {place} <<'E'\n{test}\nE"
    accept = [{"run": "npm test --workspaces --if-present"}]
    assert judged(repo, breaks, improves, agent, accept=accept) == WANTED


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.skipif(shutil.which("go") is None, reason="go is not installed")
def test_a_module_of_go(tmp_path: Path, fetched: Path, agent: str) -> None:
    source = debian("golang-github-google-uuid-dev", "usr/share/gocode/src/github.com/google/uuid", fetched)
    repo = project_of(source, tmp_path / "project")
    breaks = "sed -i 's/uuid\\[6\\] & 0x0f/uuid[6] \\& 0x1f/; s/^func Must(/func Must2(/' *.go"
    test = 'package uuid\n\nimport "testing"\n\nfunc TestAnswer(t *testing.T) { if Answer() != 42 { t.Fatal() } }'
    code = "func Answer() int { return 42 }"
    improves = f"printf '\\n{code}\\n' >> uuid.go; cat > answer_test.go <<'E'\n{test}\nE"
    assert judged(repo, breaks, improves, agent, accept=[{"run": "go test ./..."}]) == WANTED


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.skipif(shutil.which("cargo") is None, reason="cargo is not installed")
def test_a_crate_of_cargo(tmp_path: Path, fetched: Path, agent: str) -> None:
    source = debian("librust-fnv-dev", "usr/share/cargo/registry/fnv-*", fetched)
    repo = project_of(source, tmp_path / "project")
    repo.write(".gitignore", ".cache/\ntarget/\nCargo.lock\n")
    repo.commit("ignore")
    breaks = "sed -i 's/0x100000001b3/0x100000001b5/' lib.rs"
    code = "/// An answer.\npub fn answer() -> u64 { 42 }\n\n#[test]\nfn answers() { assert_eq!(answer(), 42); }"
    improves = f"cat >> lib.rs <<'E'\n\n{code}\nE"
    assert judged(repo, breaks, improves, agent, accept=[{"run": "cargo test --offline"}]) == WANTED


PODMAN = ("--rm", "--network=none", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024")


def image(folder: Path) -> list[str]:
    """The words that run a command in a container of a small image of this machine's busybox; skips where none runs."""
    if shutil.which("podman") is None or shutil.which("busybox") is None:
        pytest.skip("podman or busybox is not installed")
    root = folder / "image" / "bin"
    if not root.is_dir():
        root.mkdir(parents=True)
        shutil.copy2(shutil.which("busybox") or "", root / "busybox")
        for name in ("sh", "grep", "cat", "test"):
            (root / name).symlink_to("busybox")
    for runtime in ([], ["--runtime=runc"]):
        words = ["podman", "run", *runtime, *PODMAN]
        text = (
            f"tar -C {folder}/image -c . | podman import - executor-test && {' '.join(words)} executor-test sh -c true"
        )
        if subprocess.run(["sh", "-c", text], capture_output=True, check=False, timeout=120).returncode == 0:
            return words
    pytest.skip("podman cannot run a container here")


def test_one_prefix_of_podman_judges_the_candidate(tmp_path: Path) -> None:
    words = [*image(tmp_path), "-v", "{tree}:{tree}", "-w", "{tree}", "executor-test"]
    repo = Repo(tmp_path / "project")
    repo.write("rules/environments.toml", f"prefix = {json.dumps(words)}\n")
    repo.write("rules/checks.toml", '[check.own]\nrun = "sh test.sh"\n')
    repo.write("tool.sh", "echo one\n")
    repo.write("test.sh", '[ "$(sh tool.sh)" = one ] && [ ! -e /usr/bin/git ]\n')
    repo.commit("tool")
    improves = "echo 'echo one' > tool.sh; echo new > new"
    accept = [{"run": "grep -q . tool.sh"}]
    assert judged(repo, "echo 'echo two' > tool.sh", improves, "script", checks=["own"], accept=accept) == WANTED


MAKEFILE = """CFLAGS = -O1 -Ideps/xxhash
test: build/test_xxhash
\tbuild/test_xxhash
build/test_xxhash: deps/xxhash/xxhash.c deps/xxhash/xxhash.h tests/test_xxhash.c
\tmkdir -p build
\t$(CC) $(CFLAGS) -o $@ deps/xxhash/xxhash.c tests/test_xxhash.c
.PHONY: test
"""
C_TEST = """#include "xxhash.h"
#include <stdio.h>
int main(void) {
    unsigned got = XXH32("abc", 3, 0);
    printf("%08x\\n", got);
    return got != 0x32d153ff;
}
"""


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.skipif(shutil.which("cc") is None or shutil.which("make") is None, reason="make or cc is not installed")
def test_a_library_in_c_with_make(tmp_path: Path, fetched: Path, agent: str) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(sdist("xxhash==3.5.0", fetched) / "deps", tree / "deps")
    (tree / "tests").mkdir()
    (tree / "Makefile").write_text(MAKEFILE)
    (tree / "tests" / "test_xxhash.c").write_text(C_TEST)
    (tree / ".gitignore").write_text("build/\n.cache/\n")
    repo = project_of(tree, tmp_path / "project")
    run("make", "-s", "test", cwd=repo.path)
    breaks = "sed -i 's/0x9E3779B1U/0x9E3779B3U/' deps/xxhash/xxhash.h"
    improves = "sed -i 's/return got/return XXH32(\"abc\", 3, 1) == got || got/' tests/test_xxhash.c"
    assert judged(repo, breaks, improves, agent, accept=[{"run": "make test"}]) == WANTED
