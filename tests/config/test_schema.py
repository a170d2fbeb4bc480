"""Editors are given schemas that take what the product takes and mark the usual mistakes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft7Validator

from executor.config.load_rules import _FILES
from executor.config.schema import schema_line, schemas
from tests.support import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCHEMAS = schemas()
SHIPPED = sorted([*CHECKOUT.glob("rules/**/*.toml"), *CHECKOUT.glob("milestones/*.toml")])
FIRST = '[milestone]\nid = "m1"\ntitle = "T"\n'
ISSUE = FIRST + '[[issue]]\nid = "a"\n'
MISTAKES = {
    "milestone": [
        "[milestone]\nid = 3\n",
        '[milestone]\nid = "m1"\ntitel = "x"\n',
        "[milestones]\n",
        FIRST + "needs = 3\n",
        FIRST + "[phase]\n",
        FIRST + '[[phase]]\nnam = "x"\n',
        FIRST + '[[issue]]\ntitle = "no id"\n',
        ISSUE + 'titel = "x"\n',
        ISSUE + 'priority = "P7"\n',
        ISSUE + 'size = "XL"\n',
        ISSUE + 'accept = "pytest"\n',
        ISSUE + "accept = [3]\n",
        ISSUE + 'accept = [{ runs = "x" }]\n',
        ISSUE + "agent = 3\n",
        ISSUE + "number = 0\n",
        ISSUE + 'type = "not a type"\n',
        ISSUE + 'needs = "a"\n',
        FIRST + '[defaults]\nid = "x"\n',
    ],
    "agents": ["[agent.x]\ncommand = 3\n", '[agent.x]\nbrief = "mail"\n', "[agents.x]\n", "[agent.x]\ntimeout = 0\n"],
    "checks": ["[check.x]\nrun = 3\n", "[check.x]\nretries = 11\n", '[check.x]\nisolation = "yes"\n'],
    "routes": ["[route.x]\nthreshold = 101\n", '[route.x]\nchecks = "tests"\n'],
    "limits": ["parallel = 0\n", "attempts = true\n", "unknown = 1\n"],
    "forge": ['merge = "octopus"\n', "wait = -1\n"],
    "notify": ['[notify.x]\nevents = ["birthday"]\n', "[notify.x]\nurl = 3\n"],
    "stops": ['[stop.x]\nlevel = "middle"\n', '[[stop]]\nlevel = "hard"\n'],
}


def kind_of(name: str) -> str:
    folder, _, file = name.rpartition("/")
    return {"rules/workflows": "workflow", "rules/stops": "stop", "milestones": "milestone"}.get(
        folder, file.removesuffix(".toml")
    )


def faults(kind: str, document: dict[str, Any]) -> list[str]:
    return [f"{item.json_path}: {item.message}" for item in Draft7Validator(SCHEMAS[kind]).iter_errors(document)]


def test_there_is_a_schema_for_every_rules_file() -> None:
    assert set(_FILES) | {"milestone", "workflow", "stop"} == set(SCHEMAS)
    for schema in SCHEMAS.values():
        Draft7Validator.check_schema(schema)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_every_file_that_is_shipped_is_valid(path: Any) -> None:
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    assert faults(kind_of(str(path.relative_to(CHECKOUT))), document) == []


def test_every_milestone_in_the_documentation_is_valid() -> None:
    seen = 0
    for page in [CHECKOUT / "README.md", *CHECKOUT.glob("docs/*.md")]:
        for text in re.findall(r"^```toml\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            try:
                document = tomllib.loads(text)
            except tomllib.TOMLDecodeError:
                continue  # a piece of a file with an ellipsis
            if "milestone" in document:
                seen += 1
                assert faults("milestone", document) == [], page
    assert seen


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in MISTAKES.items() for text in texts])
def test_usual_mistakes_are_marked(kind: str, text: str) -> None:
    assert faults(kind, tomllib.loads(text))


def test_what_is_written_in_two_ways_is_valid_in_both() -> None:
    assert faults("milestone", tomllib.loads(ISSUE + 'agent = ["a", "b"]\naccept = ["text", { run = "x" }]\n')) == []
    assert faults("milestone", tomllib.loads(ISSUE + 'agent = "a"\nwith = { run = "x", n = 3 }\n')) == []
    assert faults("stops", tomllib.loads('[[stop]]\nid = "x"\nextend_paths = ["a"]\n')) == []
    assert faults("agents", tomllib.loads('[agent.x]\nplugin = "example"\n')) == []


def test_the_line_that_names_a_schema_is_a_comment() -> None:
    assert tomllib.loads(schema_line("../.schemas", "milestone")) == {}


def examples() -> Iterator[tuple[str, str]]:
    """Kind and text of every whole file in the documentation and of every file that is shipped."""
    words = {"milestone": "milestone", "agent": "agents", "check": "checks", "route": "routes", "notify": "notify"}
    for page in [CHECKOUT / "README.md", *CHECKOUT.glob("docs/*.md"), *CHECKOUT.glob("plugin/**/*.md")]:
        for text in re.findall(r"^```toml\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            try:
                found = [words[key] for key in tomllib.loads(text) if key in words]
            except tomllib.TOMLDecodeError:
                continue  # a piece of a file with an ellipsis
            if found:
                yield found[0], text
    for path in SHIPPED:
        yield kind_of(str(path.relative_to(CHECKOUT))), path.read_text(encoding="utf-8")


@pytest.mark.long
def test_taplo_marks_every_mistake_and_no_example(tmp_path: Path) -> None:
    """The program behind the usual TOML extensions of editors."""
    taplo = shutil.which("taplo")
    if taplo is None:
        if shutil.which("npm") is None:
            pytest.skip("neither taplo nor npm is installed")
        command = ["npm", "install", "--prefix", str(tmp_path / "npm"), "@taplo/cli@0.7.0"]
        if subprocess.run(command, capture_output=True, check=False, timeout=300).returncode:
            pytest.skip("taplo cannot be installed from npm")
        taplo = str(tmp_path / "npm" / "node_modules" / ".bin" / "taplo")
    for kind, schema in SCHEMAS.items():
        (tmp_path / f"{kind}.schema.json").write_text(json.dumps(schema), encoding="utf-8")
    good = list(examples())
    bad = [(kind, text) for kind, texts in MISTAKES.items() for text in texts]
    assert len(good) > 30
    assert len(bad) >= 30
    for name, texts in (("good", good), ("bad", bad)):
        folder = tmp_path / name
        folder.mkdir()
        for number, (kind, text) in enumerate(texts):
            (folder / f"{number}.toml").write_text(f"#:schema ../{kind}.schema.json\n{text}", encoding="utf-8")
    marked = {}
    for name in ("good", "bad"):
        words = [taplo, "check", "--colors", "never", *sorted(map(str, (tmp_path / name).iterdir()))]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300, cwd=tmp_path / name)
        marked[name] = {int(found) for found in re.findall(r"invalid file .*?/(\d+)\.toml", done.stderr)}
    assert marked == {"good": set(), "bad": set(range(len(bad)))}
