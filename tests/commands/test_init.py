"""Setting a repository up: the commands are in its own configuration and nowhere else."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import distribution, entry_points
from typing import TYPE_CHECKING

import pytest

import executor.commands
from executor.__main__ import main, root_of
from executor.commands import COMMANDS
from executor.commands.admin.scaffold import _test_command
from executor.config.plugins import packages_in_the_way
from tests.support import CHECKOUT, Repo

if TYPE_CHECKING:
    from pathlib import Path

USERS_FILES = [
    "",
    "# mine\n[project]\nname = 'x'   # keep\n",
    "[tool.doit]\nverbosity = 2\n\n[tool.doit.plugins.command]\nlist = 'my:List'\n\n[tool.other]\na = 1\n",
    "[tool]\ndoit = { plugins = { command = { report = 'my:Report' } } }\n",
    "tool.doit.plugins.command.report = 'my:Report'\n",
    "[tool.doit.plugins.command]\nlist = 'my:List'\n[tool.doit.plugins]\nbackend = {}\n",
    "[project]\r\nname = 'x'\r\n",
]


def started(path: Path) -> Repo:
    repo = Repo.__new__(Repo)
    repo.path = path
    path.mkdir(exist_ok=True)
    repo.git("init", "-q", "-b", "main")
    repo.git("config", "user.name", "Tester")
    repo.git("config", "user.email", "tester@example.org")
    return repo


def ours(repo: Repo, *words: str, folder: str = ".", code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "executor", *words],
        cwd=repo.path / folder,
        env=repo.environment() | {"COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_no_entry_point_is_registered_for_doit_projects() -> None:
    ours = [point.name for point in distribution("make-for-milestones").entry_points if point.group.startswith("doit")]
    assert ours == []
    assert not [point for point in entry_points(group="doit.COMMAND") if point.value.startswith("executor.")]


def test_every_command_of_the_table_is_found_and_has_its_name() -> None:
    for name, place in COMMANDS.items():
        module, _, attribute = place.partition(":")
        assert module == "executor.commands"
        assert getattr(executor.commands, attribute).name == name


def test_this_repository_and_the_tests_have_the_commands_that_init_writes() -> None:
    text = (CHECKOUT / "pyproject.toml").read_text(encoding="utf-8")
    assert tomllib.loads(text)["tool"]["doit"]["plugins"]["command"] == COMMANDS


@pytest.mark.parametrize("text", USERS_FILES)
def test_init_keeps_what_is_the_users_and_adds_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    repo = started(tmp_path / "repo")
    path = repo.path / "pyproject.toml"
    path.write_bytes(text.encode())
    path.chmod(0o640)
    monkeypatch.chdir(repo.path)
    before = tomllib.loads(text).get("tool", {}).get("doit", {}).get("plugins", {}).get("command", {})
    assert main(["init"]) == 0
    written = path.read_bytes()
    assert tomllib.loads(written.decode())["tool"]["doit"]["plugins"]["command"] == COMMANDS | before
    assert "\r" not in text or written.count(b"\r\n") == written.count(b"\n")
    assert path.stat().st_mode & 0o777 == 0o640
    for line in text.splitlines():
        assert not line.startswith(("#", "name", "verbosity")) or line.encode() in written
    assert (repo.path / ".gitignore").read_text() == ".cache/\n"
    assert main(["init"]) == 0
    assert path.read_bytes() == written


@pytest.mark.parametrize(
    "text", [None, "[GLOBAL]\nverbosity = 2\n", "[COMMAND]\nlist = my:List\n\n[GLOBAL]\nverbosity = 2\n", "[COMMAND]"]
)
def test_init_writes_to_doit_cfg_where_there_is_no_pyproject(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    from doit.doit_cmd import DoitConfig

    repo = started(tmp_path / "repo")
    path = repo.path / "doit.cfg"
    if text is not None:
        path.write_text(text)
    monkeypatch.chdir(repo.path)
    assert main(["init"]) == 0
    assert not (repo.path / "pyproject.toml").exists()
    found = dict(DoitConfig.load_config_ini("doit.cfg")["COMMAND"])
    assert found == COMMANDS | ({"list": "my:List"} if text and "my:List" in text else {})
    assert set((text or "").splitlines()) <= set(path.read_text().splitlines())
    written = path.read_bytes()
    assert main(["init"]) == 0
    assert path.read_bytes() == written


def test_a_file_that_is_not_toml_is_named_and_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    repo = started(tmp_path / "repo")
    repo.write("pyproject.toml", "[tool\n")
    monkeypatch.chdir(repo.path)
    assert main(["init"]) == 3
    assert capsys.readouterr().err.startswith("pyproject.toml: not valid TOML")
    assert sorted(path.name for path in repo.path.iterdir()) == [".git", "pyproject.toml"]


def test_the_console_script_works_from_a_folder_below_and_says_what_to_do_before_init(tmp_path: Path) -> None:
    repo = started(tmp_path / "repo")
    (repo.path / "src" / "deep").mkdir(parents=True)
    said = ours(repo, "list", folder="src/deep", code=3)
    assert "has no milestones" in said
    assert "`make-for-milestones init` sets it up" in said
    ours(repo, "init")
    repo.commit("init")
    assert "first/1" in ours(repo, "list", folder="src/deep")
    assert ours(repo, folder="src") == ours(repo, "list")
    assert "1 landed" in ours(repo, "milestone:first", folder="src")
    ours(repo, "report", "first", "--format", "md", "--output", "report.md", folder="src/deep")
    assert (repo.path / "src/deep/report.md").exists()
    repo.write("src/plan.md", "# M2 - Two\n\n- [ ] Write it\n")
    ours(repo, "import", "plan.md", "--id", "m2", "--agent", "claude", folder="src")
    assert (repo.path / "milestones/m2.toml").exists()
    assert "already set up" in repo.doit("init").check().out


def test_the_folder_that_is_set_up_is_looked_for_no_further_than_the_top_of_the_repository(tmp_path: Path) -> None:
    (tmp_path / "dodo.py").touch()
    repo = started(tmp_path / "repo")
    inner = repo.path / "a" / "b"
    inner.mkdir(parents=True)
    assert root_of(inner) is None
    repo.milestone("m1", "")
    assert root_of(inner) == repo.path
    (repo.path / "a" / "dodo.py").touch()
    assert root_of(inner) == repo.path / "a"


def test_a_plain_doit_project_beside_ours_works_as_without_us(tmp_path: Path) -> None:
    word_of_python = {"import"}
    of_doit = {"run", "list", "help", "info", "clean", "forget", "ignore", "reset-dep", "strace", "dumpdb"}
    names = sorted(set(COMMANDS) - of_doit - word_of_python)
    tasks = "".join(
        f"def task_{name}():\n    return {{'actions': ['echo ran {name}'], 'verbosity': 2}}\n" for name in names
    )
    (tmp_path / "dodo.py").write_text(tasks, encoding="utf-8")

    repo = Repo.__new__(Repo)
    repo.path = tmp_path

    def doit(*words: str) -> str:
        return repo.doit(*words).check().out

    assert doit("list").split() == names
    assert "".join(doit(name) for name in names) == "".join(f".  {name}\nran {name}\n" for name in names)
    assert doit("help").startswith("doit -- automation tool")


def test_packages_and_modules_of_the_same_name_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(packages_in_the_way(tmp_path)) == []
    site = tmp_path / "site"
    for folder, name in (("executor-23.2.dist-info", "executor"), ("other-1.dist-info", "other")):
        (site / folder).mkdir(parents=True)
        (site / folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (site / "executor-23.2.dist-info" / "RECORD").write_text("executor/__init__.py,sha256=x,1\n")
    monkeypatch.syspath_prepend(site)
    assert list(packages_in_the_way(tmp_path)) == ["the package executor 1.0, whose files have the same names"]
    own = tmp_path / "executor.py"
    own.write_text("")
    assert str(own) in list(packages_in_the_way(tmp_path))


def test_a_package_that_was_installed_over_ours_is_named(tmp_path: Path) -> None:
    package = tmp_path / "executor"
    package.mkdir()
    (package / "__init__.py").write_text("from executor.process import ControllableProcess\n")
    (package / "process").symlink_to(CHECKOUT / "executor" / "process")
    done = subprocess.run(
        [sys.executable, "-c", "import executor"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert f"{package / '__init__.py'} belongs to another package called executor" in done.stderr


@pytest.mark.parametrize(
    ("files", "command"),
    [
        (["package.json"], "npm test"),
        (["package.json", "pnpm-lock.yaml"], "pnpm test"),
        (["package.json", "bun.lock", "Makefile"], "bun run test"),
        (["setup.py", "test.py"], "pytest -q test.py"),
        (["setup.py", "test.py", "test_a.py"], "pytest -q"),
        (["pyproject.toml", "test.py", "tests/a.py"], "pytest -q"),
        (["pyproject.toml", "manage.py"], "python manage.py test"),
        (["pom.xml"], "mvn -q test"),
        (["pom.xml", "mvnw"], "./mvnw -q test"),
        (["build.gradle.kts", "gradlew"], "./gradlew test"),
        ([], "make test"),
    ],
)
def test_the_command_of_the_tests_is_guessed_from_the_files(tmp_path: Path, files: list[str], command: str) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert _test_command(tmp_path) == command


@pytest.mark.parametrize(
    ("branch", "file", "base", "command"),
    [
        ("main", "pyproject.toml", None, "pytest -q"),
        ("trunk", "Cargo.toml", "trunk", "cargo test"),
        ("master", "x", None, "make test"),
    ],
)
def test_init_looks_at_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, branch: str, file: str, base: str | None, command: str
) -> None:
    repo = started(tmp_path / "repo")
    repo.git("checkout", "-q", "-b", branch)
    repo.write(file, "")
    repo.commit("start")
    monkeypatch.chdir(repo.path)
    assert main(["init"]) == 0
    text = (repo.path / "milestones/first.toml").read_text(encoding="utf-8")
    assert tomllib.loads(text)["milestone"].get("base") == base
    uncommented = "".join(
        line.removeprefix("# ") for line in text.partition("# [[issue]]")[2].splitlines(keepends=True)
    )
    assert tomllib.loads(uncommented)["accept"] == [{"run": command}]
    assert repo.statuses() == {"first/1": "pending"}
