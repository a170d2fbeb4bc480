"""The rules on checks: `[check.NAME]` of `rules/checks.toml`."""

from typing import Annotated, Literal

from pydantic import Field, StrictBool, StrictInt

from executor.core.declaration import Seconds
from executor.core.profile import Rule

__all__ = ["Check"]


class Check(Rule):
    """A named check.

    Attributes:
        name: what routes and issues call it.
        run: argument list, or a shell command; ``{report}`` is the file that it writes its JUnit report to.
        fix: argument list, or a shell command, that repairs what the check finds; its result is part of the candidate.
        when: globs; it applies only when a changed file matches one of them.
        changed_only: it is given the changed files that match `when`, after its own arguments or for ``{files}``.
        before, after: shell commands around it, for a service that it needs; `after` is always run.
        only_new_failures: failures that the base has too do not count; needs ``{report}``.
        retries: how often it is tried again when it fails; a check that then passes is marked flaky.
        timeout: seconds until it is ended and has failed.
        env: environment variables that it is given.
        prefix: words put before an argument list, for example to run it inside a container.
        version: argument list that prints the version of its tool; part of its fingerprint.
        flaky: its verdicts are never used again.
        network: whether it has a network where it runs in a sandbox.
        readable: further paths that it may read there, for example a toolchain in ``~``.
        isolation: ``auto`` runs it in a sandbox wherever an agent of the milestone wants one; ``none`` never does.
    """

    name: str
    run: str | tuple[str, ...]
    fix: str | tuple[str, ...] | None = None
    when: tuple[str, ...] = ()
    changed_only: bool = False
    before: str | None = None
    after: str | None = None
    only_new_failures: bool = False
    retries: Annotated[StrictInt, Field(ge=0, le=10)] = 0
    timeout: Seconds | None = None
    env: dict[str, str] = Field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    version: tuple[str, ...] = ()
    flaky: bool = False
    network: StrictBool = False
    readable: tuple[str, ...] = ()
    isolation: Literal["none", "auto"] = "auto"
