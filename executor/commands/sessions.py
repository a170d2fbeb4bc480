"""A session of this program with everything that plugs into the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.engine.ports import LocalPublisher, Plugins
from executor.engine.session import Session

if TYPE_CHECKING:
    from executor.config.project import Compiled

__all__ = ["open_session"]


def open_session(compiled: Compiled) -> Session:
    """A session with workflows and, where the rules declare a remote or a forge, its publisher.

    Raises:
        ForgeRefusedError: the forge needs a token and there is none.
    """
    from executor.workflow.flow import StepWorkflow

    rules = compiled.policy.forge
    if rules.pushes_to is None and rules.kind == "local":
        return Session(compiled, plugins=Plugins(StepWorkflow(), LocalPublisher()))
    from executor.forge.publisher import ForgePublisher

    return Session(compiled, plugins=Plugins(StepWorkflow(), ForgePublisher(compiled)))
