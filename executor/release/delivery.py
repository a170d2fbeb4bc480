"""Delivery of a release: the base on the remote, the forge's final pull request, the tag, the forge's milestone.

The remote's branch moves first and is authoritative; if a run dies in between, the next one finds its push there.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from executor.errors import ForgeRefusedError
from executor.forge.base import NewPull
from executor.forge.connect import forge_of
from executor.forge.pull_request import bounded
from executor.git.refs import Move
from executor.release.criteria import Criterion, Met, with_ticks
from executor.state.events import ReleasePull

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from executor.engine.milestone_run import MilestoneRun

__all__ = ["Delivery"]

_POLLS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0)


class Delivery:
    """Delivers the release of one milestone to remote and forge."""

    def __init__(self, run: MilestoneRun) -> None:
        self._run = run

    def base_brought_up(self) -> str:
        """Take over the remote's base; returns the remote's commit, empty without a remote or a branch there.

        Raises:
            ForgeRefusedError: the local and the remote branch have diverged.
        """
        remote, view, refs = self._run.session.remote, self._run.view, self._run.session.refs
        if remote is None:
            return ""
        there, here = remote.tips(view.base).get(view.base), refs.tip(view.base)
        if there is None or here is None or there == here:
            return there or ""
        remote.fetch(view.base)
        if refs.contains(here, there):
            checkouts = self._run.session.checkouts.of(view.base)
            if refs.move([Move(view.base, here, there)], "catch up with the remote"):
                for checkout in checkouts:
                    found = self._run.session.checkouts.follow(checkout, here, there)
                    if found:
                        self._run.warn(found)
        elif not refs.contains(there, here):
            base = view.base.removeprefix("refs/heads/")
            raise ForgeRefusedError(
                f"{base} differs here ({here[:10]}) and on {remote.name} ({there[:10]}); bring them "
                f"together, then release {self._run.name} again"
            )
        return there

    def push_base(self, there: str, commit: str) -> bool:
        """Push a release as the remote's base; False if that has moved meanwhile.

        Raises:
            ForgeRefusedError: the remote refuses the push.
        """
        remote = self._run.session.remote
        if remote is None:
            return True
        done = remote.push([Move(self._run.view.base, there or None, commit)])
        if not done.ok and not done.moved:
            raise ForgeRefusedError(f"{remote.name} does not take {self._run.name} into {self._base()}: {done.reason}")
        return done.ok

    def merge_by_forge(self, tip: str, message: str) -> Criterion | None:
        """Have the forge merge the final pull request; None once it is merged, otherwise why it waits."""
        forge, rules = forge_of(self._run.session), self._run.session.policy.forge
        title, _, body = message.partition("\n\n")
        text = bounded(body.rpartition("\n\nMilestone-Released: ")[0] + "\n")
        pull = forge.open(NewPull(self._run.milestone.branch, self._base(), title, text))
        pull = forge.update(pull, title=title, body=text, labels=rules.labels)
        until = time.monotonic() + rules.wait
        self._run.record(ReleasePull(pull=pull.number, url=pull.url))
        for poll in range(1_000_000):
            answer = forge.request_merge(pull, tip, title, body, "merge")
            if answer.state == "merged":
                return None
            name = f"pull request #{pull.number}"
            if answer.state in {"refused", "moved"}:
                return Criterion("merge", name, Met.LACKING, f"{answer.reason}; {pull.url}".rstrip("; "))
            left = until - time.monotonic()
            if left <= 0 or self._run.session.stopping.wait(min(left, _POLLS[min(poll, len(_POLLS) - 1)])):
                return Criterion("merge", name, Met.WAITS, f"{answer.reason}; release again when it is merged")
        return None

    def push_tag(self, name: str, made: str) -> str:
        """Push the tag to the remote; returns a different existing commit or tag of that name, empty if it is ours.

        Raises:
            ForgeRefusedError: the remote refuses the push.
        """
        remote = self._run.session.remote
        if remote is None:
            return ""
        there = remote.tips(name).get(name)
        if there is None:
            done = remote.push([Move(name, None, made)])
            if not done.ok and not done.moved:
                raise ForgeRefusedError(f"{remote.name} does not take the tag {name}: {done.reason}")
            there = remote.tips(name).get(name) if done.moved else made
        return "" if there == made else there or ""

    def close_milestone(self) -> bool:
        """Close the forge's milestone; returns whether it was open."""
        title = self._run.milestone.forge_milestone
        if title is None or self._run.session.policy.forge.kind == "local":
            return False
        try:
            return forge_of(self._run.session).close_milestone(title)
        except ForgeRefusedError as error:
            self._run.warn(f"{self._run.name}: {error}")
            return False

    def close_epic(self, met: Callable[[bool], Sequence[str]]) -> bool:
        """Tick the boxes of met criteria in the epic's issue and close it; returns whether it was open.

        `met` names them; it is given whether the issue is open.
        """
        number = self._run.milestone.epic_number
        if number is None or self._run.session.policy.forge.kind == "local":
            return False
        forge = forge_of(self._run.session)
        try:
            found = forge.issue(number)
            if found is None:
                self._run.warn(f"{self._run.name}: epic_number: the forge has no issue #{number}")
                return False
            ticked = with_ticks(found.body, met(found.state == "open"))
            if ticked != found.body:
                forge.edit_issue(number, ticked)
            return forge.close_issue(number)
        except ForgeRefusedError as error:
            self._run.warn(f"{self._run.name}: {error}")
            return False

    def _base(self) -> str:
        return self._run.view.base.removeprefix("refs/heads/")
