"""The forge of a session: its connection, the engine's port to it, and the local forge.

Each other kind is an entry point of the group `FORGES`: a function that takes a `Target` and returns a `Forge`
(docs/forge.md). The token of a kind is read before any redaction; no child process ever gets it.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from executor.engine.landing.milestone_branch import RemoteBranch
from executor.errors import ForgeRefusedError, GitError, UsageError
from executor.forge.base import CheckReport, Checks, ForgeIssue, MergeAnswer, NewPull
from executor.forge.hosts.credentials import Budget, find_token, repository_of
from executor.forge.pull_request import PullRequest
from executor.git.refs import Move, Refs
from executor.git.trailers import decode, encode, one_line
from executor.model.outward_rules import FORGES
from executor.state.marks import PullTrailers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from executor.config.project import Compiled
    from executor.engine.candidate import Candidate
    from executor.engine.issue import IssueRun
    from executor.engine.milestone_run import MilestoneRun
    from executor.engine.session import Session
    from executor.forge.base import CheckState, Forge
    from executor.forge.merge import Merging
    from executor.forge.publish import Publication
    from executor.git.command import Identity
    from executor.git.objects import Store
    from executor.git.refs import Kept
    from executor.git.remote import Remote
    from executor.git.trailers import Landing
    from executor.model.outward_rules import Forge as ForgeRules

__all__ = ["PULLS", "Connection", "ForgePublisher", "LocalForge", "Target", "connected", "forge_of"]


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


def connected(wanted: Target) -> Forge:
    """Return the forge of the declared kind.

    Raises:
        UsageError: the kind, or a library that it needs, is not installed.
        ForgeRefusedError: it has no token.
    """
    installed = entry_points(group=FORGES)
    found = next(iter(installed.select(name=wanted.rules.kind)), None)
    if found is None:
        kinds = ", ".join(["local", *sorted(installed.names)])
        raise UsageError(
            f'rules/forge.toml: kind: expected one of {kinds}, found "{wanted.rules.kind}"; '
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
                    self._forge = LocalForge(session.refs, session.store, session.identity, remote)
            return self._forge


def forge_of(session: Session) -> Forge:
    """Return the forge with the pull requests of a session.

    Raises:
        UsageError: as in `Connection.forge`.
    """
    publisher = session.plugins.publisher
    return (publisher if isinstance(publisher, Connection) else Connection(session.compiled)).forge(session)


def _publication(issue: IssueRun) -> Publication:
    from executor.forge.publish import Publication  # that module imports this one

    return Publication(issue)


def _merging(issue: IssueRun) -> Merging:
    from executor.forge.merge import Merging  # that module imports this one

    return Merging(issue)


class ForgePublisher(Connection):
    """A remote, and the declared forge."""

    @property
    def merges(self) -> bool:
        """Return whether the forge merges pull requests; the local one has none for issues."""
        return self._rules.kind != "local"

    def tip(self, run: MilestoneRun) -> str:
        """Synchronise the milestone branch with the remote's and return the tip."""
        return RemoteBranch(run).tip_to_build_on()

    def beneath(self, issue: IssueRun) -> str:
        """Synchronise, and return the commit to prove a result of the issue on: the tip, or the layer below it."""
        tip = self.tip(issue.run)
        layer = _merging(issue).layer_below()
        return tip if layer is None else layer.commit

    def unstack(self, issue: IssueRun) -> bool:
        """Judge a refused result on the tip, since the layer below may be the cause; False if it was judged there."""
        if not self._rules.stack or not self.merges:
            return False
        self.unstacked ^= {issue.ref}
        return issue.ref in self.unstacked

    def show_stopped(self, candidate: Candidate) -> None:
        """Show a result that waits for a person as a draft."""
        _publication(candidate.issue).show_stopped(candidate.attempt, candidate.change)

    def show_question(self, issue: IssueRun) -> None:
        """Show the work so far of an issue that asks a question as a draft."""
        _publication(issue).show_waiting()

    def publish(self, candidate: Candidate, commit: str) -> None:
        """Push a proved candidate's branch."""
        _publication(candidate.issue).publish(candidate.attempt, commit, candidate.change)

    def may_land(self, issue: IssueRun) -> bool:
        """Return whether the branch and pull request of the issue allow it to land."""
        return _publication(issue).is_free()

    def push(self, landings: Sequence[tuple[Candidate, str]], tip: str) -> bool:
        """Move the remote's milestone branch over commits, in order, and delete the candidates' own branches."""
        run = landings[0][0].issue.run
        remote = run.session.remote
        if remote is None:
            return True
        moves = [Move(run.view.branch, tip, landings[-1][1])]
        for candidate, commit in landings:
            head = _publication(candidate.issue).head_of(candidate.attempt)
            moves.append(Move(f"refs/heads/{head}", commit, None))
        done = remote.push(moves)
        if not done.ok and done.moved:
            # A candidate's own branch may have been deleted by others; only the milestone branch counts.
            done = remote.push(moves[:1])
        if done.ok or done.moved:
            return done.ok
        reason = f"{run.milestone.branch} cannot be pushed to {remote.name}: {done.reason}"
        for candidate, _ in landings:
            _publication(candidate.issue).wait_for_person(None, reason)
        return False

    def record_push(self, run: MilestoneRun) -> None:
        """Record the position of the remote's milestone branch after a push."""
        if run.session.remote is not None:
            RemoteBranch(run).seen_on_remote()

    def resume(self, candidate: Candidate) -> bool:
        """Wait for a merge that an earlier run requested; False without one."""
        return _merging(candidate.issue).resume(candidate.attempt)

    def merge(self, candidate: Candidate, landing: Landing) -> bool:
        """Have the forge merge a proved candidate; False if branch or pull request moved meanwhile."""
        issue = candidate.issue
        tip = issue.session.store.parent_of(landing.commit)
        return _merging(issue).merge(candidate.attempt, tip, landing, candidate.change)


PULLS = "refs/executor/pulls"
"""Records of pull requests: `<number>` below this."""
_HEADS = "refs/heads/"
_TRIES = 5  # tries; another process may move the branch in between


class LocalForge:
    """Pull requests between branches of this repository; no account, no network without a remote.

    A pull request is a commit below `PULLS`: its message has title, body and further fields as trailers; its parent is
    the head, so none of its commits can be lost. Pull requests of issues need no record: their ref is that of the
    attempt, and the candidate's message is their record.

    Args:
        refs: the repository's refs.
        store: its objects.
        identity: author of records and merges.
        remote: the remote to push to; None without one.
    """

    kind = "local"

    def __init__(self, refs: Refs, store: Store, identity: Identity, remote: Remote | None = None) -> None:
        self._refs = refs
        self._store = store
        self._identity = identity
        self._remote = remote

    def find(self, head: str) -> list[PullRequest]:
        """Return every pull request of a branch."""
        return [pull for pull in self._all() if pull.head == head]

    def pulls(self, base: str) -> list[PullRequest]:
        """Return every pull request into a branch."""
        return [pull for pull in self._all() if pull.base == base]

    def open(self, new: NewPull) -> PullRequest:
        """Open the pull request of that branch into that base, or return the open one."""
        for _ in range(_TRIES):
            known = self._all()
            for pull in known:
                if (pull.head, pull.base, pull.state) == (new.head, new.base, "open"):
                    return pull
            sha = self._tip(new.head)
            number = max((pull.number for pull in known), default=0) + 1
            made = PullRequest(number, "open", new.draft, new.head, sha, new.base, new.title, new.body)
            if self._keep(made, None):
                return made
        raise GitError(f"no number below {PULLS} was free for {new.head}; try again")

    def update(
        self,
        pull: PullRequest,
        *,
        title: str | None = None,
        body: str | None = None,
        draft: bool | None = None,
        labels: Sequence[str] = (),
    ) -> PullRequest:
        """Set these values; returns the pull request."""
        changed = replace(
            pull,
            title=pull.title if title is None else title,
            body=pull.body if body is None else body,
            draft=pull.draft if draft is None else draft,
            labels=tuple(dict.fromkeys([*pull.labels, *labels])),
            sha=self._tip(pull.head) if pull.state == "open" else pull.sha,
        )
        return self._kept(changed, pull)

    def checks(self, sha: str) -> Checks:
        """Return no checks: the executor's are the only ones."""
        _ = sha
        return Checks()

    def request_merge(self, pull: PullRequest, sha: str, title: str, message: str, method: str) -> MergeAnswer:
        """Merge it now: in memory, then by compare-and-swap, on the remote first if there is one."""
        if pull.state == "merged":
            return MergeAnswer("merged", commit=pull.merge_commit)
        if pull.state == "closed" or pull.draft:
            return MergeAnswer("refused", f"pull request {pull.number} is {'closed' if not pull.draft else 'a draft'}")
        if self._tip(pull.head) != sha:
            return MergeAnswer("moved", f"{pull.head} is no longer at {sha[:10]}")
        return self._merge(pull, sha, f"{title}\n\n{message}", method)

    def withdraw(self, pull: PullRequest) -> PullRequest:
        """Return the pull request: no merge is ever scheduled."""
        return pull

    def report(self, check: CheckState) -> CheckReport:
        """Return an empty report: the executor's checks are the only ones."""
        _ = check
        return CheckReport()

    def comment(self, pull: PullRequest, mark: str, text: str) -> None:
        """Do nothing: comments have no reader here."""
        _ = pull, mark, text

    def close(self, pull: PullRequest) -> None:
        """Close it without merging."""
        if pull.state == "open":
            self._kept(replace(pull, state="closed"), pull)

    def issues(self, milestone: str) -> list[ForgeIssue]:
        """Return no issues."""
        raise UsageError(f'the local forge has no issues to read "{milestone}" from; declare kind = "github"')

    def issue(self, number: int) -> ForgeIssue | None:
        """Return None: there are no issues."""
        _ = number
        return None

    def edit_issue(self, number: int, body: str) -> None:
        """Do nothing: there are no issues."""
        _ = number, body

    def close_issue(self, number: int) -> bool:
        """Do nothing: there are no issues."""
        _ = number
        return False

    def close_milestone(self, title: str) -> bool:
        """Do nothing: there are no milestones."""
        _ = title
        return False

    def post_status(self, sha: str, name: str, state: str, description: str) -> bool:
        """Do nothing: statuses have no reader here."""
        _ = sha, name, state, description
        return False

    def _merge(self, pull: PullRequest, sha: str, message: str, method: str) -> MergeAnswer:
        base = _HEADS + pull.base
        there, tip = self._caught_up(base), self._tip(pull.base)
        merged = self._store.merge(tip, sha)
        problem = f"conflict in {', '.join(merged.conflicts[:5])}" if merged.conflicts else ""
        if there is not None and there != tip:
            problem = f"{pull.base} has commits here that the remote lacks, and the reverse"
        if problem:
            return MergeAnswer("refused", problem)
        commit = tip
        if merged.tree != self._store.tree_of(tip):
            parents = [tip, sha] if method == "merge" else [tip]
            made = self._store.commit(merged.tree, parents, message, self._identity, int(time.time()))
            commit = self._store.signed(made)
            if self._remote is not None:
                pushed = self._remote.push([Move(base, there, commit)])
                if not pushed.ok:
                    return MergeAnswer("moved" if pushed.moved else "refused", pushed.reason)
            if not self._refs.move([Move(base, tip, commit)], f"merge pull request {pull.number}"):
                return MergeAnswer("moved", f"{pull.base} is no longer at {tip[:10]}")
        self._kept(replace(pull, state="merged", merge_commit=commit), pull)
        return MergeAnswer("merged", commit=commit)

    def _caught_up(self, base: str) -> str | None:
        """Fast-forward our branch to the remote's if it is only behind; returns the remote's tip, None without one."""
        if self._remote is None:
            return None
        there, here = self._remote.tips(base).get(base), self._refs.tip(base)
        if there is not None and here is not None and there != here:
            self._remote.fetch(base)
            if self._refs.contains(here, there):
                self._refs.move([Move(base, here, there)], "catch up with the remote")
        return there

    def _tip(self, branch: str) -> str:
        tip = self._refs.tip(_HEADS + branch)
        if tip is None:
            raise ForgeRefusedError(f"the branch {branch} does not exist")
        return tip

    def _all(self) -> list[PullRequest]:
        found = [self._read(kept) for kept in self._refs.kept(f"{PULLS}/")]
        return sorted(found, key=lambda pull: pull.number)

    def _read(self, kept: Kept) -> PullRequest:
        found = decode(PullTrailers, kept.trailers) or PullTrailers(0, "open", False, "", "", "")  # noqa: FBT003
        title, _, rest = self._refs.message(kept.commit).partition("\n\n")
        body = rest.rpartition("\n\nPull-Request: ")[0]
        return PullRequest(
            number=int(kept.ref.rsplit("/", 1)[1]),
            state=found.state,
            draft=found.draft,
            head=found.head,
            sha=found.commit,
            base=found.base,
            title=title,
            body=body + "\n" if body else "",
            merge_commit=found.merge,
            labels=found.labels,
            node=kept.commit,
        )

    def _kept(self, pull: PullRequest, before: PullRequest) -> PullRequest:
        """Return the current record.

        Raises:
            GitError: another process has changed it meanwhile.
        """
        if replace(pull, node="") == replace(before, node=""):
            return before
        old = self._refs.tip(f"{PULLS}/{pull.number}")
        if not self._keep(pull, old):
            raise GitError(f"{PULLS}/{pull.number} was changed by another process at the same time; try again")
        return pull

    def _keep(self, pull: PullRequest, old: str | None) -> bool:
        trailers = PullTrailers(
            pull.number, pull.state, pull.draft, pull.head, pull.base, pull.sha, pull.merge_commit, tuple(pull.labels)
        )
        text = f"{one_line(pull.title)}\n\n{pull.body.strip()}\n\n{encode(trailers)}\n"
        commit = self._store.commit(self._store.tree_of(pull.sha), [pull.sha], text, self._identity, int(time.time()))
        return self._refs.move([Move(f"{PULLS}/{pull.number}", old, commit)], f"pull request {pull.number}")
