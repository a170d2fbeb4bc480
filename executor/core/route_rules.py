"""The rules on routes: `[route.TYPE]` of `rules/routes.toml`."""

from typing import Annotated

from pydantic import Field, StrictInt

from executor.core.declaration import Line, Names
from executor.core.profile import Rule

__all__ = ["Route"]


class Route(Rule):
    """What an issue of a type gets when it does not say so itself.

    Attributes:
        agent: a profile, or an ordered list of them: the next one works where one is at its limit or refuses.
        workflow: how it is worked on.
        checks: names of checks, tried in this order.
        reviewer: profile of who reads the change before it lands.
        threshold: score from which a reviewer's finding stops the issue.
        examine_tests: whether new tests are read for what makes them worthless.
        focus: what an agent in this role looks to; stands in its brief.
        tools: tools that it may use, as its command line names them; for agents whose profile has a flag for them.
    """

    agent: Names = ()
    workflow: str = "direct"
    checks: tuple[str, ...] = ()
    reviewer: str | None = None
    threshold: Annotated[StrictInt, Field(ge=0, le=100)] = 80
    examine_tests: bool = False
    focus: str = ""
    tools: tuple[Line, ...] = ()
