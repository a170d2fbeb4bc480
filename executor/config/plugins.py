"""Plug-ins of other packages, found by their entry points, and packages that would shadow this one.

A package offers a plug-in in its own pyproject.toml:

    [project.entry-points."make_for_milestones.importers"]
    example = "example_package:ExampleImporter"

Nothing is imported before `load`. Our names take precedence: a plug-in never replaces a part of the product.

Profiles of agents and checks from other packages: `plugin = "NAME"` in `[agent.X]` or `[check.X]`.

The user's table overrides the keys of a plug-in one by one. An installed package has no effect unless a rule names it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import executor
from executor.errors import Fault, UsageError
from executor.model.agent_profile import Agent
from executor.model.hints import did_you_mean, found
from executor.model.policy import named
from executor.model.rules import Check

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "GROUPS",
    "KEY",
    "RENAME",
    "WORDS",
    "AgentPlugin",
    "CheckPlugin",
    "Plugin",
    "PluginError",
    "check_agent",
    "check_check",
    "entry_points",
    "filled",
    "load",
    "packages_in_the_way",
    "plugins",
]


_PREFIX = "make_for_milestones."
GROUPS = ("agents", "checks", "forges", "importers", "notifications", "stop_rules")
"""Kinds of plug-ins; the group of entry points is `make_for_milestones.` plus this."""
RENAME = "rename it, or use an environment without it"
"""The next step for a conflicting package."""


class PluginError(UsageError):
    """A plug-in is unusable: its import fails, or it does not match the protocol of its group."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """An entry point of another package, not yet imported.

    Attributes:
        group: one of `GROUPS`.
        name: the name that the user writes.
        location: `module:attribute`.
        package: name and version of its distribution, for example ``example 1.2``.
    """

    group: str
    name: str
    location: str
    package: str

    def __str__(self) -> str:
        return f'plug-in "{self.name}" ({_PREFIX}{self.group}, {self.location}, from {self.package})'


@cache
def entry_points(group: str) -> metadata.EntryPoints:
    """The entry points of a group. The metadata of all installed packages is read once."""
    return metadata.entry_points(group=group)


@cache
def plugins(group: str) -> dict[str, Plugin]:
    """Return the plug-ins of a group, by name. Reads the metadata of installed packages once, imports nothing.

    Raises:
        PluginError: two packages offer the same name.
    """
    found: dict[str, Plugin] = {}
    for entry in metadata.entry_points(group=_PREFIX + group):
        package = f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "an unknown package"
        plugin = Plugin(group, entry.name, entry.value, package)
        other = found.setdefault(entry.name, plugin)
        if other.location != plugin.location:
            raise PluginError(f"{plugin} has the same name as {other}; uninstall one of the two packages")
    return found


def load(group: str, name: str, protocol: type) -> Any:
    """Import a plug-in, instantiate it if it is a class, and validate it against the protocol of its group.

    Args:
        group: one of `GROUPS`.
        name: the name of the entry point.
        protocol: a protocol marked with `typing.runtime_checkable`.

    Raises:
        PluginError: the plug-in does not exist or is unusable.
    """
    known = plugins(group)
    if name not in known:
        offered = ", ".join(sorted(known)) or "none is installed"
        raise PluginError(f'no plug-in "{name}" in {_PREFIX}{group}: {offered}')
    plugin = known[name]
    try:
        value = metadata.EntryPoint(name, plugin.location, _PREFIX + group).load()
        made = value() if isinstance(value, type) else value
    except Exception as error:
        raise PluginError(f"{plugin} cannot be loaded: {type(error).__name__}: {error}") from error
    if not isinstance(made, protocol):
        missing = [item for item in _members(protocol) if not hasattr(made, item)]
        raise PluginError(f"{plugin} does not implement {protocol.__name__}: it has no {', '.join(missing)}")
    return made


def _members(protocol: type) -> list[str]:
    return sorted(getattr(protocol, "__protocol_attrs__", ()) or [name for name in vars(protocol) if name[0] != "_"])


def packages_in_the_way(folder: Path) -> Iterator[str]:
    """Yield other packages and modules named `executor` that would be imported in place of this one.

    Args:
        folder: a folder that Python may search first, as `python -m doit` does with the current one.
    """
    for distribution in metadata.distributions():
        if distribution.name.lower().replace("_", "-") == executor.DISTRIBUTION:
            continue
        top = (distribution.read_text("top_level.txt") or "").split()
        if "executor" in top or "\nexecutor/__init__.py," in f"\n{distribution.read_text('RECORD') or ''}":
            yield f"the package {distribution.name} {distribution.version}, whose files have the same names"
    own = Path(executor.__file__).resolve()
    for place in dict.fromkeys([str(folder), *sys.path]):
        for other in (Path(place) / "executor.py", Path(place) / "executor" / "__init__.py"):
            if place and other.is_file() and other.resolve() != own:
                yield str(other)


KEY = "plugin"
"""Key of a table that names a plug-in."""
WORDS = {"agents": "agent", "checks": "check"}
"""Files of the rules with such tables, and the word before the name of each table."""
_STAND_INS: dict[str, dict[str, object]] = {"agents": {"command": ["true"]}, "checks": {"run": "true"}}
"""Replacement keys for a table with an unusable plug-in, so that no second fault is reported for it."""


@runtime_checkable
class AgentPlugin(Protocol):
    """Offers the profile of an agent; entry point group `make_for_milestones.agents`."""

    def profile(self) -> Mapping[str, Any]:
        """Return keys as in `[agent.NAME]` of rules/agents.toml. Every call returns the same keys."""
        ...


@runtime_checkable
class CheckPlugin(Protocol):
    """Offers a check; entry point group `make_for_milestones.checks`."""

    def check(self) -> Mapping[str, Any]:
        """Return keys as in `[check.NAME]` of rules/checks.toml. Every call returns the same keys."""
        ...


_OFFERS = {"agents": (AgentPlugin, "profile"), "checks": (CheckPlugin, "check")}


def filled(stem: str, name: str, table: Any, place: str, faults: list[Fault]) -> Any:
    """Return the table of an agent or a check with the keys of the plug-in that it names.

    Args:
        stem: the file of the rules: ``agents`` or ``checks``.
        name: the name of the agent or check.
        table: its table; returned as it is if it names no plug-in.
        place: the folder of the user's rules, for messages.
        faults: receives the unusable plug-in.
    """
    if not isinstance(table, dict) or KEY not in table:
        return table
    own = {key: value for key, value in table.items() if key != KEY}
    key = f"{WORDS[stem]}.{name}.{KEY}"
    try:
        return {**_offered(stem, table[KEY]), **own}
    except PluginError as error:
        faults.append(Fault(f"{place}/{stem}.toml", key, str(error)))
        return {**_STAND_INS[stem], **own}


def _offered(stem: str, name: object) -> dict[str, object]:
    """Return the keys of a plug-in.

    Raises:
        PluginError: the plug-in does not exist or is unusable.
    """
    if not isinstance(name, str):
        raise PluginError(f"expected the name of a plug-in, found {found(name)}")
    known = plugins(stem)
    if name not in known:
        raise PluginError(
            f'no installed package offers "{name}" in make_for_milestones.{stem}{did_you_mean(name, known)}'
            f" (offered: {', '.join(sorted(known)) or 'none'})"
        )
    try:
        keys: Any = (
            load(stem, name, AgentPlugin).profile() if stem == "agents" else load(stem, name, CheckPlugin).check()
        )
    except PluginError:
        raise
    except Exception as error:
        raise PluginError(f"{known[name]} fails: {type(error).__name__}: {error}") from error
    if not isinstance(keys, Mapping):
        raise PluginError(f"{known[name]} returns {type(keys).__name__}, expected the keys of a table")
    return dict(keys)


def check_agent(plugin: Any) -> list[str]:
    """Return the promises of `AgentPlugin` that a plug-in of the group `agents` breaks; empty if it keeps all.

    A package with such a plug-in runs this in its tests.
    """
    return list(_problems(plugin, AgentPlugin, "agents"))


def check_check(plugin: Any) -> list[str]:
    """Do the same for a plug-in of the group `checks` and `CheckPlugin`."""
    return list(_problems(plugin, CheckPlugin, "checks"))


def _problems(plugin: Any, protocol: Any, stem: str) -> Iterator[str]:
    if not isinstance(plugin, protocol):
        yield f"it does not implement {protocol.__name__}"
        return
    keys = [getattr(plugin, _OFFERS[stem][1])() for _ in range(2)]
    if not all(isinstance(item, Mapping) for item in keys):
        yield f"it returns {type(keys[0]).__name__}, expected the keys of a table"
        return
    if keys[0] != keys[1]:
        yield "it returns other keys at the second call, so its fingerprint would change every time"
    if KEY in keys[0]:
        yield "its keys name a plug-in"
        return
    word, faults, model = WORDS[stem], list[Fault](), Agent if stem == "agents" else Check
    named({stem: {word: {"offered": dict(keys[0])}}}, stem, word, model, "rules", faults)
    yield from map(str, faults)
