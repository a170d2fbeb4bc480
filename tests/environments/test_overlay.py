"""Environments of links: what an editable install leads to is the tree, and the user's environment stays as it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from executor.environments.environment import TreeEnvironment
from executor.environments.generated import bring_generated, is_generated
from executor.environments.interpreters import leading_into
from executor.environments.python import python_conditions, python_environment

EDITABLE = {
    "pth": {"__editable__.app-1.0.pth": "{root}/src\n"},
    "relative pth": {"app.pth": "../../../../checkout/src\n"},
    "finder": {
        "__editable__.app-1.0.pth": "import __editable___app_finder; __editable___app_finder.install()\n",
        "__editable___app_finder.py": (
            "import sys\nfrom importlib.util import spec_from_file_location\n"
            "MAPPING = {{'app': '{root}/src/app'}}\n"
            "class Finder:\n    @classmethod\n    def find_spec(cls, name, path=None, target=None):\n"
            "        if name in MAPPING:\n"
            "            place = MAPPING[name]\n"
            "            init = place + '/__init__.py'\n"
            "            return spec_from_file_location(name, init, submodule_search_locations=[place])\n"
            "def install():\n    sys.meta_path.insert(0, Finder)\n"
        ),
    },
    "link": {"app": "-> {root}/src/app"},
}


@pytest.fixture
def world(tmp_path: Path) -> dict[str, Path]:
    """A checkout whose `app` says where it is, a tree of it that says something else, and a virtual environment."""
    places = {name: tmp_path / name for name in ("checkout", "tree", "venv", "made")}
    for name in ("checkout", "tree"):
        package = places[name] / "src" / "app"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(f"WHERE = {name!r}\n")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (places["venv"] / "lib" / version / "site-packages").mkdir(parents=True)
    (places["venv"] / "bin").mkdir()
    base = Path(os.path.realpath(sys.executable))
    (places["venv"] / "pyvenv.cfg").write_text(f"home = {base.parent}\ninclude-system-site-packages = false\n")
    for name in ("python", "python3"):
        (places["venv"] / "bin" / name).symlink_to(base)
    return places


def site_of(venv: Path) -> Path:
    return next(venv.glob("lib/python3*/site-packages"))


def path_of(world: dict[str, Path]) -> dict[str, str]:
    return {"PATH": f"{world['venv']}/bin:/usr/bin:/bin", "HOME": str(world["made"])}


def install(world: dict[str, Path], files: dict[str, str]) -> None:
    for name, template in files.items():
        text = template.format(root=world["checkout"])
        place = site_of(world["venv"]) / name
        if text.startswith("-> "):
            place.symlink_to(text[3:])
        else:
            place.write_text(text)
    (site_of(world["venv"]) / "other.py").write_text("X = 1\n")
    command = world["venv"] / "bin" / "where"
    command.write_text(f"#!{world['venv']}/bin/python\nimport app, other\nprint(app.WHERE)\n")
    command.chmod(0o755)


def said(environment: TreeEnvironment, world: dict[str, Path], *argv: str) -> str:
    env = environment.environment(path_of(world))
    done = subprocess.run(environment.command(argv), env=env, cwd="/", capture_output=True, text=True, check=False)
    return done.stdout.strip() or done.stderr


@pytest.mark.parametrize("kind", list(EDITABLE))
def test_each_kind_of_editable_install_leads_into_the_tree(world: dict[str, Path], kind: str) -> None:
    install(world, EDITABLE[kind])
    before = {path: path.read_bytes() for path in site_of(world["venv"]).iterdir() if path.is_file()}
    assert said(TreeEnvironment(), world, "where") == "checkout"
    made = python_environment([world["checkout"]], world["tree"], world["made"], path_of(world))
    for argv in (["where"], ["python", "-c", "import app; print(app.WHERE)"], [f"{world['venv']}/bin/where"]):
        assert said(made.environment, world, *argv) == "tree"
    assert made.lost == ()
    assert {path: path.read_bytes() for path in site_of(world["venv"]).iterdir() if path.is_file()} == before


def test_metadata_and_other_packages_stay_usable(world: dict[str, Path]) -> None:
    install(world, EDITABLE["pth"])
    info = site_of(world["venv"]) / "app-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: app\nVersion: 1.0\n")
    (info / "direct_url.json").write_text(f'{{"url": "file://{world["checkout"]}", "dir_info": {{"editable": true}}}}')
    made = python_environment([world["checkout"]], world["tree"], world["made"], path_of(world))
    code = "import importlib.metadata as m; d = m.distribution('app'); print(d.version, d.read_text('direct_url.json'))"
    assert said(made.environment, world, "python", "-c", code).startswith(f'1.0 {{"url": "file://{world["tree"]}"')


def test_an_environment_that_does_not_lead_into_the_checkout_is_left_alone(world: dict[str, Path]) -> None:
    (site_of(world["venv"]) / "elsewhere.pth").write_text("/usr/share\n")
    assert list(leading_into([world["checkout"]], path_of(world))) == []
    made = python_environment([world["checkout"]], world["tree"], world["made"], path_of(world))
    assert made.environment.environment(path_of(world)) == path_of(world)


def test_other_packages_are_other_conditions(world: dict[str, Path]) -> None:
    install(world, EDITABLE["pth"])

    def conditions() -> dict[str, str]:
        return python_conditions([world["checkout"]], path_of(world))[0]

    before = conditions()
    assert list(before) == [f"python {world['venv']}"]
    assert conditions() == before
    (site_of(world["venv"]) / "more-2.0.dist-info").mkdir()
    assert conditions() != before


def test_a_path_that_the_tree_lacks_is_named(world: dict[str, Path]) -> None:
    install(world, {"app.pth": "{root}/build/links\n"})
    made = python_environment([world["checkout"]], world["tree"], world["made"], path_of(world))
    assert made.lost == ("build/links",)


@pytest.mark.parametrize(
    ("name", "head", "wanted"),
    [
        ("src/app/_version.py", b"", True),
        ("src/app/about.py", b"# file generated by setuptools-scm\n", True),
        ("src/app/x_pb2.py", b"", True),
        ("src/app/_fast.cpython-311-x86_64-linux-gnu.so", b"", True),
        ("src/app.egg-info/PKG-INFO", b"", True),
        ("src/app/local_settings.py", b"SECRET = 1\n", False),
        ("src/app/.env", b"# generated\n", False),
        ("src/app/__pycache__/x.so", b"", False),
        (".venv/lib/x.so", b"", False),
        ("build/lib/app/_version.py", b"", False),
    ],
)
def test_which_ignored_files_are_made_by_a_build(name: str, head: bytes, wanted: bool) -> None:
    assert is_generated(name, head) is wanted


def test_generated_files_are_copied_and_never_out_of_the_tree(tmp_path: Path) -> None:
    root, tree, outside = (tmp_path / name for name in ("root", "tree", "outside"))
    for folder in (root / "a", root / "b", tree / "a", outside):
        folder.mkdir(parents=True)
    for name in ("a/_version.py", "b/_version.py"):
        (root / name).write_text("v = 1\n")
    (tree / "b").symlink_to(outside)
    brought = bring_generated(root, tree, ["a", "b"], lambda _: ["a/_version.py", "b/_version.py"])
    assert brought == ("a/_version.py",)
    assert list(outside.iterdir()) == []


def test_tree_and_slot_are_filled_in_and_said() -> None:
    place = TreeEnvironment(tree="/t", slot=3)
    assert place.command(["docker", "-v", "{tree}:{tree}", "p{slot}"]) == ("docker", "-v", "/t:/t", "p3")
    env = place.environment({"PATH": "/bin", "DATA": "{tree}/data"})
    assert (env["EXECUTOR_TREE"], env["DATA"]) == ("/t", "/t/data")
