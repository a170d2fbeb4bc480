"""Plug-ins of other packages, found by their entry points, and packages that are in the way of this one.

A package offers a plug-in in its own pyproject.toml:

    [project.entry-points."make_for_milestones.importers"]
    example = "example_package:ExampleImporter"

Nothing is imported before `load` asks for it. Names of ours win: a plug-in never replaces what the product ships.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import executor
from executor.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["GROUPS", "RENAME", "Plugin", "PluginError", "load", "packages_in_the_way", "plugins"]

_PREFIX = "make_for_milestones."
GROUPS = ("agents", "checks", "forges", "importers", "notifications", "stop_rules")
"""Kinds of plug-ins; the group of entry points is `make_for_milestones.` and this."""
RENAME = "rename it, or use an environment without it"
"""The next step for a conflicting package."""


class PluginError(UsageError):
    """A plug-in cannot be used: it cannot be imported, or it is not what its group is for."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """An entry point of another package, not imported yet.

    Attributes:
        group: one of `GROUPS`.
        name: as the user writes it.
        location: `module:attribute`.
        package: name and version of the distribution that offers it, for example ``example 1.2``.
    """

    group: str
    name: str
    location: str
    package: str

    def __str__(self) -> str:
        return f'plug-in "{self.name}" ({_PREFIX}{self.group}, {self.location}, from {self.package})'


@cache
def plugins(group: str) -> dict[str, Plugin]:
    """What is offered in a group, by name. Reads the metadata of installed packages once, imports nothing.

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
    """Import a plug-in, make it if it is a class, and hold it against the protocol of its group.

    Args:
        group: one of `GROUPS`.
        name: the name of the entry point.
        protocol: a protocol marked with `typing.runtime_checkable`.

    Raises:
        PluginError: there is no such plug-in, or it cannot be used.
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
        raise PluginError(f"{plugin} is not a {protocol.__name__}: it has no {', '.join(missing)}")
    return made


def _members(protocol: type) -> list[str]:
    return sorted(getattr(protocol, "__protocol_attrs__", ()) or [name for name in vars(protocol) if name[0] != "_"])


def packages_in_the_way(folder: Path) -> Iterator[str]:
    """Find packages and modules that are called `executor`, too, and would be imported in place of this one.

    Args:
        folder: where Python may look first, as `python -m doit` does in the current folder.
    """
    for found in metadata.distributions():
        if found.name.lower().replace("_", "-") == executor.DISTRIBUTION:
            continue
        top = (found.read_text("top_level.txt") or "").split()
        if "executor" in top or "\nexecutor/__init__.py," in f"\n{found.read_text('RECORD') or ''}":
            yield f"the package {found.name} {found.version}, whose files have the same names"
    own = Path(executor.__file__).resolve()
    for place in dict.fromkeys([str(folder), *sys.path]):
        for other in (Path(place) / "executor.py", Path(place) / "executor" / "__init__.py"):
            if place and other.is_file() and other.resolve() != own:
                yield str(other)
