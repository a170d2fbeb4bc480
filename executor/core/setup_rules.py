"""What a tree needs before work begins in it: files copied into it and commands run in it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from executor.core.declaration import Inside, Seconds
from executor.core.fingerprint import digest
from executor.core.profile import Rule

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Setup", "SetupRules"]


class Setup(Rule):
    """A command that makes something in a tree.

    Attributes:
        run: argument list, or a shell command.
        inputs: globs of the files that decide what it makes.
        keep: what it makes; stays in the tree as long as the inputs are the same.
        timeout: seconds until it is ended and has failed.
    """

    run: str | tuple[str, ...]
    inputs: tuple[Inside, ...] = ()
    keep: tuple[Inside, ...] = ()
    timeout: Seconds | None = None

    @property
    def argv(self) -> tuple[str, ...]:
        """The argument list."""
        return ("sh", "-c", self.run) if isinstance(self.run, str) else self.run

    def key(self, files: Mapping[str, bytes]) -> str:
        """What it makes is known by this: the command and the contents of its input files, by path."""
        told = repr((self.argv, self.keep, sorted(files.items())))
        return digest(told.encode("utf-8", "surrogateescape"))


class SetupRules(Rule):
    """The file setup.toml: `include` are globs of ignored files to copy, `steps` the commands in their order."""

    include: tuple[Inside, ...] = ()
    steps: Annotated[dict[str, Setup], Field(alias="setup")] = Field(default_factory=dict)

    @property
    def kept(self) -> tuple[str, ...]:
        """Everything that stays in a tree and never lands, in the form of .gitignore."""
        return tuple(f"/{pattern}" for step in self.steps.values() for pattern in step.keep)

    @property
    def key(self) -> str:
        """Part of what proves an issue: trees prepared otherwise may be judged otherwise. Empty without a command."""
        if not self.steps:
            return ""
        return digest(repr([(name, step.argv) for name, step in self.steps.items()]).encode("utf-8", "surrogateescape"))
