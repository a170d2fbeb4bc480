"""Profiles of agents and checks that other packages offer: `plugin = "NAME"` in `[agent.X]` or `[check.X]`.

The keys of a plug-in stand below those of the user's table, which therefore overrides them one by one. Nothing is taken
from an installed package that no rule names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from executor.config.plugins import PluginError, load, plugins
from executor.errors import Fault
from executor.model.agent_profile import Agent
from executor.model.hints import did_you_mean, found
from executor.model.rules import Check
from executor.model.validation import named

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["AgentPlugin", "CheckPlugin", "check_agent", "check_check", "with_plugins"]

_KEY = "plugin"
_WORDS = {"agents": "agent", "checks": "check"}
_STAND_INS: dict[str, dict[str, object]] = {"agents": {"command": ["true"]}, "checks": {"run": "true"}}
"""What a table gets whose plug-in cannot be used, so that no second fault is reported for it."""


@runtime_checkable
class AgentPlugin(Protocol):
    """Offers the profile of an agent; entry point group `make_for_milestones.agents`."""

    def profile(self) -> Mapping[str, Any]:
        """Keys as in `[agent.NAME]` of rules/agents.toml. The same keys at every call."""
        ...


@runtime_checkable
class CheckPlugin(Protocol):
    """Offers a check; entry point group `make_for_milestones.checks`."""

    def check(self) -> Mapping[str, Any]:
        """Keys as in `[check.NAME]` of rules/checks.toml. The same keys at every call."""
        ...


_OFFERS = {"agents": (AgentPlugin, "profile"), "checks": (CheckPlugin, "check")}


def with_plugins(
    documents: Mapping[str, Mapping[str, Any]], place: str, faults: list[Fault]
) -> Mapping[str, Mapping[str, Any]]:
    """The rules with the keys of the plug-ins that they name.

    Args:
        documents: the documents of all rules by the stems of their files; not modified.
        place: the folder of the user's rules, for messages.
        faults: plug-ins that cannot be used are added.
    """
    merged = dict(documents)
    for stem, word in _WORDS.items():
        tables = merged[stem].get(word)
        if isinstance(tables, dict) and any(isinstance(table, dict) and _KEY in table for table in tables.values()):
            filled = {name: _filled(stem, name, table, place, faults) for name, table in tables.items()}
            merged[stem] = {**merged[stem], word: filled}
    return merged


def _filled(stem: str, name: str, table: Any, place: str, faults: list[Fault]) -> Any:
    if not isinstance(table, dict) or _KEY not in table:
        return table
    own = {key: value for key, value in table.items() if key != _KEY}
    key = f"{_WORDS[stem]}.{name}.{_KEY}"
    try:
        return {**_offered(stem, table[_KEY]), **own}
    except PluginError as error:
        faults.append(Fault(f"{place}/{stem}.toml", key, str(error)))
        return {**_STAND_INS[stem], **own}


def _offered(stem: str, name: object) -> dict[str, object]:
    """The keys of a plug-in.

    Raises:
        PluginError: there is no such plug-in, or it cannot be used.
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
        raise PluginError(f"{known[name]} gives {type(keys).__name__}, expected the keys of a table")
    return dict(keys)


def check_agent(plugin: Any) -> list[str]:
    """What a plug-in of the group `agents` does not keep of what `AgentPlugin` promises; empty if it keeps all.

    A package with such a plug-in runs this in its tests.
    """
    return list(_problems(plugin, AgentPlugin, "agents"))


def check_check(plugin: Any) -> list[str]:
    """The same for a plug-in of the group `checks` and `CheckPlugin`."""
    return list(_problems(plugin, CheckPlugin, "checks"))


def _problems(plugin: Any, protocol: Any, stem: str) -> Iterator[str]:
    if not isinstance(plugin, protocol):
        yield f"it is no {protocol.__name__}"
        return
    keys = [getattr(plugin, _OFFERS[stem][1])() for _ in range(2)]
    if not all(isinstance(item, Mapping) for item in keys):
        yield f"it gives {type(keys[0]).__name__}, expected the keys of a table"
        return
    if keys[0] != keys[1]:
        yield "it gives other keys at the second call; the fingerprint of what it offers would change all the time"
    if _KEY in keys[0]:
        yield "it names a plug-in itself"
        return
    word, faults, model = _WORDS[stem], list[Fault](), Agent if stem == "agents" else Check
    named({stem: {word: {"offered": dict(keys[0])}}}, stem, word, model, "rules", faults)
    yield from map(str, faults)
