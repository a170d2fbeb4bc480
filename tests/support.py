"""Real repositories and the real command line, for the tests of features."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import pytest
from hypothesis import strategies as st

from executor.commands import COMMANDS
from executor.sandbox.bubblewrap import sandbox_problem
from tests.zygote import Forked, zygote_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DODO = "from executor.tasks import DOIT_CONFIG, task_milestones  # noqa: F401\n"
CONFIG = "[tool.doit.plugins.command]\n" + "".join(f'{name} = "{place}"\n' for name, place in COMMANDS.items())
T = TypeVar("T")
CHECKOUT = Path(__file__).resolve().parents[1]
Process: TypeAlias = "Forked | subprocess.Popen[str]"
"""A command line that runs on."""


@dataclass(frozen=True)
class Result:
    """What a command said."""

    code: int
    out: str
    err: str

    def check(self, code: int = 0) -> Result:
        """The same, after making sure of the exit code."""
        assert self.code == code, f"exit {self.code}, expected {code}\n{self.out}\n{self.err}"
        return self

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def usual_environment() -> dict[str, str]:
    """The environment of a command line, unless a test has another."""
    return {**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"}


class Repo:
    """A git repository with milestones in a temporary folder."""

    def __init__(self, path: Path, *, branch: str = "main", commit: bool = True) -> None:
        self.path = path
        shutil.copytree(_started(branch, commit=commit), path, symlinks=True, dirs_exist_ok=True)

    def _start(self, branch: str, *, commit: bool) -> None:
        self.git("init", "-q", "-b", branch)
        for sample in (self.path / ".git/hooks").glob("*.sample"):
            sample.unlink()  # each test would copy them
        self.git("config", "user.name", "Tester")
        self.git("config", "user.email", "tester@example.org")
        self.write("dodo.py", DODO)
        self.write("pyproject.toml", CONFIG)
        self.write(".gitignore", ".cache/\n__pycache__/\n")
        self.write("rules/limits.toml", "backoff_s = 0.0\n")
        if commit:
            self.commit("start")

    def write(self, name: str, text: str) -> Path:
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        return target

    def git(self, *arguments: str, check: bool = True) -> str:
        done = subprocess.run(["git", *arguments], cwd=self.path, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, f"git {arguments}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def commit(self, message: str) -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def milestone(self, name: str, body: str) -> Path:
        """Write milestones/<name>.toml; `body` follows a [milestone] table with id and title."""
        return self.write(f"milestones/{name}.toml", f'[milestone]\nid = "{name}"\ntitle = "Test {name}"\n{body}')

    def environment(self) -> dict[str, str]:
        return usual_environment()

    def doit(self, *arguments: str, timeout: float = 120) -> Result:
        environment = self.environment()
        forked = zygote_for(usual_environment()).run(self.path, arguments, environment, timeout)
        if forked is not None:
            return Result(*forked)
        done = subprocess.run(
            [sys.executable, "-m", "doit", *arguments],
            cwd=self.path,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str, fork: bool = True) -> Process:
        """The command line, which runs on; output and errors are in one pipe.

        Args:
            arguments: its words.
            fork: whether it may be a fork that has loaded everything (see `zygote.py`), for a tenth of the time.
        """
        forked = zygote_for(usual_environment()).start(self.path, arguments, self.environment()) if fork else None
        if forked is not None:
            return forked
        return subprocess.Popen(
            [sys.executable, "-m", "doit", *arguments],
            cwd=self.path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
        )

    def statuses(self, milestone: str | None = None) -> dict[str, str]:
        found = self.doit("status", "--json").check().json["milestones"]
        return {
            f"{item['id']}/{issue['id']}": issue["status"]
            for item in found
            for issue in item["issues"]
            if milestone in {None, item["id"]}
        }

    def landed(self, branch: str) -> list[str]:
        """Issues landed on a branch, oldest first, with their revision: `a@1`."""
        form = "%(trailers:key=Issue,valueonly,separator=)@%(trailers:key=Revision,valueonly,separator=)"
        lines = self.git("log", "--first-parent", "--reverse", f"--format={form}", branch).splitlines()
        return [line for line in lines if line != "@"]

    def attempts(self) -> list[str]:
        return self.git("for-each-ref", "--format=%(refname)", "refs/attempts/").splitlines()

    def snapshot(self) -> dict[str, Any]:
        """Everything of the user's that a run must leave alone."""
        return {
            "head": self.git("symbolic-ref", "-q", "HEAD", check=False)
            or self.git("rev-parse", "-q", "HEAD", check=False),
            "status": self.git("status", "--porcelain", "--untracked-files=all"),
            "index": self.git("ls-files", "-s"),
            "config": (self.path / ".git" / "config").read_text() if (self.path / ".git").is_dir() else "",
            "stash": self.git("stash", "list"),
        }


PARSED = 20_000
"""Examples that every parser is given in the campaign."""


def examples(usual: int) -> int:
    """How many examples a test of a parser takes: so many in the suite, many more in the campaign."""
    return PARSED if os.environ.get("EXECUTOR_CAMPAIGN") else usual


def several(items: Sequence[T], max_size: int | None = None) -> st.SearchStrategy[list[T]]:
    """Lists of these items, as `st.lists(st.sampled_from(items))` gives them, but drawn as one text: far faster.

    Of more than 256 the first 256 come most often.
    """
    place = {chr(0x4E00 + number): item for number, item in enumerate(items)}
    return st.text("".join(place), max_size=max_size).map(lambda text: [place[letter] for letter in text])


@cache
def _started(branch: str, *, commit: bool) -> Path:
    """A repository as every test begins with, made once a process: a copy takes a fifth of the time."""
    folder = Path(tempfile.mkdtemp(prefix="started"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    repo = Repo.__new__(Repo)
    repo.path = folder
    repo._start(branch, commit=commit)
    return folder


def issue(name: str, run: str = "", /, **extra: Any) -> str:
    """TOML of one issue done by the script agent."""
    fields: dict[str, Any] = {"id": name, "title": f"Issue {name}", "body": f"Do {name}.", **extra}
    lines = ["", "[[issue]]", *(f"{key} = {_toml(value)}" for key, value in fields.items())]
    if run:
        lines += ['agent = "script"', f"with = {{ run = {json.dumps(run)} }}"]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(value)


def kept(config: pytest.Config, name: str) -> Path:
    """A folder that later runs find again: in pytest's cache, or in its usual place with ``-p no:cacheprovider``."""
    folder = CHECKOUT / ".pytest_cache" / "d" / name
    if getattr(config, "cache", None) is not None:
        return Path(config.cache.mkdir(name))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def require_sandbox() -> None:
    """Skip the test where bubblewrap is not installed or does not start."""
    problem = sandbox_problem()
    if problem:
        pytest.skip(problem)


def doit_after(mounts: str, repo: Repo, *arguments: str) -> Result:
    """The command line where other things are mounted: what these shell commands did is seen by it alone.

    They see it as process `$$`. Skips the test where nothing can be mounted.
    """
    own = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    if shutil.which("unshare") is None or subprocess.run([*own, "true"], check=False).returncode != 0:
        pytest.skip("nothing can be mounted here")
    done = subprocess.run(
        [*own, "sh", "-c", f'set -e\n{mounts}\nexec "$@"', "sh", sys.executable, "-m", "doit", *arguments],
        cwd=repo.path,
        capture_output=True,
        text=True,
        check=False,
        env=repo.environment(),
        stdin=subprocess.DEVNULL,
        timeout=120,
    )
    return Result(done.returncode, done.stdout, done.stderr)


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of its own for the length of the block; skips the test where none can be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("file systems cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def pytest_command() -> str:
    """The usual call of pytest as a check, by an interpreter that starts it fast."""
    return f"{python_with_pytest()} -m pytest -q -p no:cacheprovider"


@cache
def python_with_pytest(*plugins: str) -> Path:
    """An interpreter with pytest and nothing else, made once a process: it starts pytest in a third of the time.

    Args:
        plugins: other packages that it has, as they are named in `site-packages`.
    """
    folder = Path(tempfile.mkdtemp(prefix="python"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return small_venv(folder / "venv", *plugins) / "bin" / "python"


def small_venv(venv: Path, *plugins: str) -> Path:
    """Make a virtual environment with pytest, these packages and nothing else; it does not need a package index."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = venv / "lib" / version / "site-packages"
    site.mkdir(parents=True)
    (venv / "bin").mkdir()
    base = Path(os.path.realpath(sys.executable))
    (venv / "pyvenv.cfg").write_text(f"home = {base.parent}\ninclude-system-site-packages = false\n")
    for name in ("python", "python3"):
        (venv / "bin" / name).symlink_to(base)
    (venv / "bin" / "pytest").write_text(
        f"#!{venv}/bin/python\nimport sys\nfrom pytest import console_main\nsys.exit(console_main())\n"
    )
    (venv / "bin" / "pytest").chmod(0o755)
    names = {"pytest", "_pytest", "iniconfig", "packaging", "pluggy", "pygments", "py.py", *plugins}
    for entry in Path(pytest.__file__).parents[1].iterdir():
        if entry.name.split("-")[0] in names:
            copy = shutil.copytree if entry.is_dir() else shutil.copy2
            copy(entry, site / entry.name)
    return venv


def unpack(archive: tarfile.TarFile, folder: Path) -> None:
    """Extract an archive that the tests trust; Python before 3.11.4 has no filters."""
    more: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    archive.extractall(folder, **more)  # noqa: S202
