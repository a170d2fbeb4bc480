"""Forges as plug-ins: each kind is an entry point of the group `FORGES` that returns a `Forge` for the rules.

A third-party package adds a kind with this declaration in its pyproject.toml::

    [project.entry-points."make_for_milestones.forges"]
    bitbucket = "my_package.bitbucket:connect"

`connect` takes a `Target`. The token of a kind is read from ``<KIND>_TOKEN``; no child process ever gets it.

The forge of a session: the token is read before any redaction; the connection is opened on first use. `ForgePublisher`
is the engine's port to it: results become branches on a remote and, on a forge, pull requests that it merges.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from executor.errors import UsageError
from executor.forge.hosts.credentials import Budget, repository_of
from executor.git.refs import Move
from executor.model.outward_rules import FORGES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from executor.config.project import Compiled
    from executor.engine.candidate import Candidate
    from executor.engine.issue import IssueRun
    from executor.engine.milestone_run import MilestoneRun
    from executor.engine.session import Session
    from executor.forge.base import Forge
    from executor.git.trailers import Landing
    from executor.model.outward_rules import Forge as ForgeRules

__all__ = ["Connection", "ForgePublisher", "Target", "connected", "forge_of", "kinds"]


@dataclass(frozen=True, slots=True)
class Target:
    """The input of a plug-in.

    Attributes:
        rules: `rules/forge.toml`.
        address: address of the remote that branches are pushed to.
        token: token of the user.
        cache: folder for cached answers; None for no cache.
    """

    rules: ForgeRules
    address: str
    token: str
    cache: Path | None = None

    def repository(self, *, nested: bool = False) -> str:
        """Return the declared repository, or the one in the remote's address.

        Raises:
            UsageError: neither has one.
        """
        found = self.rules.repository or repository_of(self.address, nested=nested)
        if not found:
            raise UsageError(
                f'rules/forge.toml: repository: is missing, and the address of the remote "{self.rules.pushes_to}" '
                'does not contain it; write repository = "owner/name"'
            )
        return found

    def budget(self, base_url: str) -> Budget:
        """Return the request budget of the token at that address; shared by all runs on this machine."""
        return Budget.of(base_url, self.token, writes_per_minute=self.rules.writes_per_minute)


def kinds() -> list[str]:
    """Return every installed kind of forge, besides the local one."""
    return sorted(entry.name for entry in entry_points(group=FORGES))


def connected(wanted: Target) -> Forge:
    """Return the forge of the declared kind.

    Raises:
        UsageError: the kind, or a library that it needs, is not installed.
        ForgeRefusedError: it has no token.
    """
    found = next(iter(entry_points(group=FORGES, name=wanted.rules.kind)), None)
    if found is None:
        raise UsageError(
            f'rules/forge.toml: kind: expected one of {", ".join(["local", *kinds()])}, found "{wanted.rules.kind}"; '
            "other kinds are packages that declare an entry point of the group " + FORGES
        )
    connect: Callable[[Target], Forge] = found.load()
    return connect(wanted)


class Connection:
    """The forge that the rules declare.

    Attributes:
        token: credential for forge and remote; empty if unused.
        unstacked: issues whose result was refused on another layer of the stack, and is judged on the tip.

    Raises:
        ForgeRefusedError: the forge needs a token and none is set.
    """

    def __init__(self, compiled: Compiled) -> None:
        self._rules = compiled.policy.forge
        self._forge: Forge | None = None
        self._lock = threading.Lock()
        self.token = ""
        self.unstacked: set[str] = set()
        if self._rules.kind != "local":
            from executor.forge.hosts.credentials import find_token

            self.token = find_token(self._rules)

    def forge(self, session: Session) -> Forge:
        """Return the forge; connects on first use.

        Raises:
            UsageError: a library that the forge needs is not installed, or the repository is unknown.
        """
        remote = session.remote
        with self._lock:
            if self._forge is None:
                if self._rules.kind != "local":
                    address = remote.url if remote is not None else ""
                    self._forge = connected(Target(self._rules, address, self.token, session.project.cache / "_forge"))
                else:
                    from executor.forge.local import LocalForge

                    self._forge = LocalForge(session.refs, session.store, session.identity, remote)
            return self._forge


def forge_of(session: Session) -> Forge:
    """Return the forge with the pull requests of a session.

    Raises:
        UsageError: as in `Connection.forge`.
    """
    publisher = session.plugins.publisher
    return (publisher if isinstance(publisher, Connection) else Connection(session.compiled)).forge(session)


class ForgePublisher(Connection):
    """A remote, and the declared forge."""

    @property
    def merges(self) -> bool:
        """Return whether the forge merges pull requests; the local one has none for issues."""
        return self._rules.kind != "local"

    def tip(self, run: MilestoneRun) -> str:
        """Synchronise the milestone branch with the remote's and return the tip."""
        from executor.forge.publish import RemoteBranch

        return RemoteBranch(run).tip_to_build_on()

    def beneath(self, issue: IssueRun) -> str:
        """Synchronise, and return the commit to prove a result of the issue on: the tip, or the layer below it."""
        from executor.forge.merge import Merging

        tip = self.tip(issue.run)
        layer = Merging(issue).layer_below()
        return tip if layer is None else layer.commit

    def unstack(self, issue: IssueRun) -> bool:
        """Judge a refused result on the tip, since the layer below may be the cause; False if it was judged there."""
        if not self._rules.stack or not self.merges:
            return False
        self.unstacked ^= {issue.ref}
        return issue.ref in self.unstacked

    def show_stopped(self, candidate: Candidate) -> None:
        """Show a result that waits for a person as a draft."""
        from executor.forge.publish import Publication

        Publication(candidate.issue).show_stopped(candidate.attempt, candidate.change)

    def show_question(self, issue: IssueRun) -> None:
        """Show the work so far of an issue that asks a question as a draft."""
        from executor.forge.publish import Publication

        Publication(issue).show_waiting()

    def publish(self, candidate: Candidate, commit: str) -> None:
        """Push a proved candidate's branch."""
        from executor.forge.publish import Publication

        Publication(candidate.issue).publish(candidate.attempt, commit, candidate.change)

    def may_land(self, issue: IssueRun) -> bool:
        """Return whether the branch and pull request of the issue allow it to land."""
        from executor.forge.publish import Publication

        return Publication(issue).is_free()

    def push(self, landings: Sequence[tuple[Candidate, str]], tip: str) -> bool:
        """Move the remote's milestone branch over commits, in order, and delete the candidates' own branches."""
        from executor.forge.publish import Publication

        run = landings[0][0].issue.run
        remote = run.session.remote
        if remote is None:
            return True
        moves = [Move(run.view.branch, tip, landings[-1][1])]
        for candidate, commit in landings:
            head = Publication(candidate.issue).head_of(candidate.attempt)
            moves.append(Move(f"refs/heads/{head}", commit, None))
        done = remote.push(moves)
        if not done.ok and done.moved:
            # A candidate's own branch may have been deleted by others; only the milestone branch counts.
            done = remote.push(moves[:1])
        if done.ok or done.moved:
            return done.ok
        reason = f"{run.milestone.branch} cannot be pushed to {remote.name}: {done.reason}"
        for candidate, _ in landings:
            Publication(candidate.issue).wait_for_person(None, reason)
        return False

    def record_push(self, run: MilestoneRun) -> None:
        """Record the position of the remote's milestone branch after a push."""
        from executor.forge.publish import RemoteBranch

        if run.session.remote is not None:
            RemoteBranch(run).seen_on_remote()

    def resume(self, candidate: Candidate) -> bool:
        """Wait for a merge that an earlier run requested; False without one."""
        from executor.forge.merge import Merging

        return Merging(candidate.issue).resume(candidate.attempt)

    def merge(self, candidate: Candidate, landing: Landing) -> bool:
        """Have the forge merge a proved candidate; False if branch or pull request moved meanwhile."""
        from executor.forge.merge import Merging

        issue = candidate.issue
        tip = issue.session.store.parent_of(landing.commit)
        return Merging(issue).merge(candidate.attempt, tip, landing, candidate.change)
