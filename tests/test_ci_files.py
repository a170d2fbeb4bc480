"""Files for CI servers, containers and contributors: they can be read, and the names in them exist."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from executor.commands import COMMANDS
from executor.commands.inspect.report import _MAKERS
from tests.support import CHECKOUT, Repo, issue

if TYPE_CHECKING:
    from pathlib import Path

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = set(PROJECT["optional-dependencies"])
WORKFLOWS = sorted((CHECKOUT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((CHECKOUT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
SCRIPT = CHECKOUT / "ci" / "run_milestones.sh"


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def sessions() -> set[str]:
    """What `nox -l` lists, without nox."""
    tree = ast.parse((CHECKOUT / "noxfile.py").read_text(encoding="utf-8"))
    versions = next(
        ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign) and _name(node) == "VERSIONS"
    )
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    return {f"tests-{version}" for version in versions} | (functions - {"tests"})


def _name(node: ast.Assign) -> str:
    [target] = node.targets
    return target.id if isinstance(target, ast.Name) else ""


def runs(steps: list[Any]) -> list[str]:
    return [step["run"] for step in steps if "run" in step]


def readable(script: str) -> None:
    filled = re.sub(r"\$\{\{.*?\}\}", "value", script)
    done = subprocess.run(["bash", "-n"], input=filled, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_action_uses_inputs_that_it_has_and_puts_none_into_a_script() -> None:
    action = load(CHECKOUT / "action.yml")
    text = json.dumps(action)
    steps = action["runs"]["steps"]
    assert set(re.findall(r"inputs\.([\w-]+)", text)) == set(action["inputs"])
    ids = {step["id"] for step in steps if "id" in step}
    assert set(re.findall(r"steps\.(\w+)\.outputs", text)) <= ids
    outputs = re.findall(r"steps\.run\.outputs\.([\w-]+)", text)
    assert all(f"{name}=" in SCRIPT.read_text(encoding="utf-8") for name in outputs)
    assert set(action["inputs"]["extras"]["default"].split(",")) <= EXTRAS
    assert all(step["shell"] == "bash" for step in steps)
    for script in runs(steps):
        assert "${{" not in script, "an input in a script is code"
        readable(script)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_have_least_rights_limits_and_sessions_that_exist(path: Path) -> None:
    workflow = load(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert True in workflow  # YAML 1.1 reads the key `on` as true
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"]
        assert set(job.get("strategy", {}).get("matrix", {}).get("session", [])) <= sessions()
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            if step.get("uses", "").startswith("actions/checkout"):
                assert step["with"]["persist-credentials"] is False
        for script in runs(job["steps"]):
            readable(script)


def test_ci_has_every_version_that_is_supported() -> None:
    matrix = load(CHECKOUT / ".github/workflows/ci.yml")["jobs"]["tests"]["strategy"]["matrix"]["session"]
    assert set(matrix) == sessions()
    assert PROJECT["requires-python"] == ">=3.11"
    assert "tests-3.11" in matrix


def test_fragments_of_the_changelog_have_a_kind_and_a_text() -> None:
    settings = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["towncrier"]
    assert settings["start_string"] in (CHECKOUT / settings["filename"]).read_text(encoding="utf-8")
    assert (CHECKOUT / settings["template"]).is_file()
    kinds = {kind["directory"]: kind["showcontent"] for kind in settings["type"]}
    wrong = []
    for path in (CHECKOUT / settings["directory"]).iterdir():
        name = re.fullmatch(r"(?:\d+|\+[a-z0-9-]+)\.([a-z]+)\.md", path.name)
        if path.name not in settings["ignore"] and (
            name is None or kinds.get(name[1]) != bool(path.read_text().strip())
        ):
            wrong.append(path.name)
    assert wrong == []


def test_a_release_has_a_provenance() -> None:
    jobs = load(CHECKOUT / ".github/workflows/release.yml")["jobs"]
    used = [step.get("uses", "").partition("@")[0] for step in jobs["build"]["steps"]]
    assert "actions/attest-build-provenance" in used
    assert jobs["build"]["permissions"]["attestations"] == jobs["build"]["permissions"]["id-token"] == "write"
    assert set(jobs["publish"]["permissions"]) == {"id-token"}


def test_the_gitlab_job_names_commands_formats_and_codes_that_exist() -> None:
    job = load(CHECKOUT / "ci" / "gitlab.yml")[".milestones"]
    lines = [*job["script"], *job["after_script"]]
    named = {name for line in lines for name in re.findall(r"^make-for-milestones (\w+)(?!\w*:)", line)}
    assert named <= set(COMMANDS)
    assert set(re.findall(r"--format (\w+)", "\n".join(lines))) <= set(_MAKERS)
    assert job["allow_failure"] == {"exit_codes": [4, 75]}
    for line in lines:
        readable(line)


def test_the_image_installs_extras_and_copies_files_that_exist() -> None:
    text = (CHECKOUT / "Dockerfile").read_text(encoding="utf-8")
    copied = [line.split()[1:-1] for line in text.splitlines() if line.startswith("COPY ") and "--from" not in line]
    names = {name for names in copied for name in names}
    assert [name for name in names if not (CHECKOUT / name).exists()] == []
    kept = {
        line[1:] for line in (CHECKOUT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[0] == "!"
    }
    assert names == kept
    assert set(re.findall(r"\$wheel\[([\w,]+)\]", text)[0].split(",")) <= EXTRAS
    assert f'ENTRYPOINT ["{next(iter(PROJECT["scripts"]))}"]' in text


def test_the_devcontainer_installs_the_tests() -> None:
    value = json.loads((CHECKOUT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    assert "'.[test]'" in value["postCreateCommand"]
    readable(value["postCreateCommand"])
    readable(value["onCreateCommand"])


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_issue_forms_have_fields_with_labels(path: Path) -> None:
    form = load(path)
    if path.name != "config.yml":
        assert {"name", "description", "body"} <= set(form)
        assert all(field["attributes"]["label"] for field in form["body"])
        assert len({field["id"] for field in form["body"]}) == len(form["body"])


def test_the_script_of_the_action_runs_milestones_and_writes_their_reports(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "repo")
    repo.milestone("asks", issue("a", "echo 'Which zone?' > $EXECUTOR_OUT/question.md"))
    repo.commit("plan")
    programs = tmp_path / "bin"
    programs.mkdir()
    program = programs / "make-for-milestones"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m executor "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    outputs, summary, reports = (tmp_path / name for name in ("outputs", "summary", "reports"))
    variables = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "MILESTONES": "asks",
        "REPORTS": str(reports),
        "GITHUB_OUTPUT": str(outputs),
        "GITHUB_STEP_SUMMARY": str(summary),
        "BUDGET": "1",
    }
    done = subprocess.run(
        ["bash", str(SCRIPT)],
        cwd=repo.path,
        env={**repo.environment(), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert outputs.read_text(encoding="utf-8") == f"exit-code=4\nreports={reports}\n"
    assert "::warning::a person is needed" in done.stdout
    assert {path.name for path in reports.iterdir()} == {f"asks.{form}" for form in ("md", "html", "xml", "sarif")}
    [run] = json.loads((reports / "asks.sarif").read_text(encoding="utf-8"))["runs"]
    assert [item["ruleId"] for item in run["results"]] == ["question"]
    assert summary.read_text(encoding="utf-8") == (reports / "asks.md").read_text(encoding="utf-8")
