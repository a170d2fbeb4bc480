"""The example plug-ins, installed as a package of their own, keep what the protocols promise, and work in a run."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from executor.config import plugins
from executor.config import plugins as plugin_rules
from executor.forge.base import check_forge
from executor.importers.importer import Importer, check_importer
from executor.importers.source import Source
from executor.notify.queue import NOTICES, NotificationPlugin, check_channel
from executor.stop_rules.view import check_stop_rule
from tests.support import Repo, issue

EXAMPLE = Path(__file__).resolve().parents[1] / "example_plugin"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed packages with the example in it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=EXAMPLE, check=True, capture_output=True)
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(site)
    plugins.plugins.cache_clear()
    monkeypatch.setattr(sys, "modules", {k: v for k, v in sys.modules.items() if k != "mfm_example"})


@pytest.mark.usefixtures("installed")
def test_every_plugin_keeps_its_promises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MFM_EXAMPLE_NOTICES", str(tmp_path / "notices"))
    assert plugin_rules.check_agent(plugins.load("agents", "example", plugin_rules.AgentPlugin)) == []
    assert plugin_rules.check_check(plugins.load("checks", "example", plugin_rules.CheckPlugin)) == []
    assert check_channel(plugins.load("notifications", "example", NotificationPlugin)) == []
    importer: Importer = plugins.load("importers", "example", Importer)
    plan = Source("settings.txt", "plan: M4 Settings\nCreate the settings class\nRead the environment\n")
    assert check_importer(importer, [plan]) == []
    [stop] = metadata.entry_points(group="make_for_milestones.stop_rules", name="example")
    assert check_stop_rule(stop.load()) == []
    [forge] = metadata.entry_points(group="make_for_milestones.forges", name="example")
    assert check_forge(forge.load()(None), "feature", "main") == []
    assert len((tmp_path / "notices").read_text(encoding="utf-8").splitlines()) == len(NOTICES)


class Wrong:
    """Breaks every promise that it can."""

    def __init__(self) -> None:
        self.calls = 0

    def profile(self) -> dict[str, Any]:
        self.calls += 1
        return {"command": "not a list", "calls": self.calls}

    def check(self) -> list[str]:
        return ["run"]

    def send(self, notice: object, timeout: float) -> Any:
        raise OSError(f"{notice} {timeout}")


def test_broken_promises_are_named() -> None:
    problems = plugin_rules.check_agent(Wrong())
    assert any("other keys at the second call" in item for item in problems)
    assert any("agent.offered.command" in item for item in problems), problems
    assert any('unknown key "calls"' in item for item in problems), problems
    assert plugin_rules.check_check(Wrong()) == ["it returns list, expected the keys of a table"]
    assert len(check_channel(Wrong())) == len(NOTICES)
    assert len(check_stop_rule(lambda view: [file.path for file in view.files])) == 10
    assert check_stop_rule(lambda _: [("elsewhere", 1, "x")])[0].endswith("which the change does not touch")
    assert "it has no method open" in check_forge(Wrong(), "a", "b")
    assert plugin_rules.check_agent(3) == ["it does not implement AgentPlugin"]
    assert check_channel(3) == ["it has no method send(notice, timeout)"]


@pytest.mark.usefixtures("installed")
def test_what_cannot_be_loaded_is_named_with_its_package() -> None:
    with pytest.raises(plugins.PluginError, match=r"mfm-example 1.0.* cannot be loaded: AttributeError"):
        plugins.load("notifications", "broken", NotificationPlugin)
    with pytest.raises(plugins.PluginError, match="does not implement NotificationPlugin: it has no send"):
        plugins.load("checks", "example", NotificationPlugin)
    with pytest.raises(plugins.PluginError, match='no plug-in "none"'):
        plugins.load("agents", "none", plugin_rules.AgentPlugin)


def test_two_packages_with_the_same_name_are_both_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("one", "two"):
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[make_for_milestones.agents]\nsame = {name}:Agent\n")
    monkeypatch.syspath_prepend(tmp_path)
    plugins.plugins.cache_clear()
    with pytest.raises(plugins.PluginError, match=r"from (one|two) 1.0.* has the same name as .*from (one|two) 1.0"):
        plugins.plugins("agents")
    plugins.plugins.cache_clear()


def test_a_run_uses_the_plugins_that_its_rules_name(site: Path, tmp_path: Path) -> None:
    notices = tmp_path / "notices"

    class Installed(Repo):
        def environment(self) -> dict[str, str]:
            before = super().environment()
            return before | {"PYTHONPATH": f"{before['PYTHONPATH']}:{site}", "MFM_EXAMPLE_NOTICES": str(notices)}

    repo = Installed(tmp_path / "repo")
    repo.write("rules/agents.toml", '[agent.writer]\nplugin = "example"\n')
    repo.write("rules/checks.toml", '[check.brief]\nplugin = "example"\n')
    repo.write("rules/notify.toml", '[notify.file]\nplugin = "example"\n')
    repo.milestone("m1", issue("a", agent="writer", **{"with": {"file": "out.txt"}}, checks=["brief"]))
    repo.doit("milestone:m1").check()
    assert repo.git("show", "milestone/m1-test-m1:out.txt") == "done"
    assert "complete" in notices.read_text(encoding="utf-8")
    repo.write("rules/agents.toml", '[agent.writer]\nplugin = "exmple"\n')
    error = repo.doit("plan", "m1").check(3).err
    assert error.startswith('rules/agents.toml: agent.writer.plugin: no installed package offers "exmple"')
    assert 'did you mean "example"?' in error


def test_this_package_offers_what_it_says() -> None:
    groups = {point.group for point in metadata.distribution("make-for-milestones").entry_points}
    assert {group for group in groups if group.startswith("make_for_milestones.")} <= {
        f"make_for_milestones.{group}" for group in plugins.GROUPS
    }
