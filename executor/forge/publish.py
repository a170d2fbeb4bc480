"""Publish: a result as a branch on the remote and, on a forge, as a pull request. Created or adopted, never duplicated.

The branch moves only from its expected commit, and only while it has no commit by others.

The local and the remote milestone branch: the remote's is authoritative, the local one follows it.

Commits on the remote's branch are taken over by fast-forward; a branch that exists only locally is pushed; if both
have their own commits, a person decides.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from executor.engine.landing.milestone_branch import Branch
from executor.errors import ForgeRefusedError, ForgeUnavailableError, GitError
from executor.forge.base import MovesPulls, NewPull
from executor.forge.connect import forge_of
from executor.forge.pull_request import STATE, PullRequest, body_of, merged_body, read_mark, title_digest, title_of
from executor.forge.pull_text import pull_text, states_text
from executor.git.diff import Change, parse_diff
from executor.git.refs import REMOTE, Move, attempt_ref
from executor.git.trailers import UNPROVED, AttemptTrailers, decode, parse_trailers
from executor.model.fingerprint import IssueRef
from executor.model.milestone import branch_of, branch_prefixes
from executor.state.events import AttemptFailed, PullChanged
from executor.state.model import QUESTION, AttemptState, Pull

if TYPE_CHECKING:
    from collections.abc import Sequence

    from executor.engine.issue import IssueRun
    from executor.engine.milestone_run import MilestoneRun
    from executor.forge.base import Layer
    from executor.git.remote import Remote
    from executor.git.trailers import Landing
    from executor.state.model import Attempt, Stop

__all__ = ["Publication", "RemoteBranch", "landed_attempt"]


_TRIES = 3  # tries; somebody else may move the branch in between
_UNSHOWN = frozenset({"secrets"})
"""Rules whose findings must not leave this machine."""


class Publication:
    """Shows the results of one issue on the remote and its forge."""

    def __init__(self, issue: IssueRun) -> None:
        self._issue = issue
        self._run = issue.run
        self._session = issue.session

    def show_stopped(self, attempt: Attempt, change: Change) -> None:
        """Show a result that waits for a person as a draft, unless the reason requires it to stay local."""
        stop = self._issue.state.stop
        if self._session.remote is None or stop is None or stop.attempt != attempt.number or stop.level != "hard":
            return
        if stop.rules & _UNSHOWN:
            self._run.warn(f"{self._issue.ref}: its result was not pushed, because {stop.rule} stopped it")
            return
        self.publish(attempt, attempt.commit, change, stop=stop)

    def show_waiting(self) -> None:
        """Show what waits for a person, a stopped result or the work so far of a question, if it is not shown yet."""
        state = self._run.view.states.get(self._issue.id)
        stop = state.stop if state is not None else None
        if self._session.remote is None or state is None or stop is None or stop.attempt not in state.attempts:
            return
        attempt, seen = state.attempts[stop.attempt], state.pull
        if not attempt.commit or (attempt.state is not AttemptState.BUILT and stop.rule != QUESTION):
            return
        if seen is not None and (seen.waits or self._is_shown(seen, attempt)):
            return
        change = parse_diff(self._session.store.diff(f"{attempt.commit}^", attempt.commit))
        self.show_stopped(attempt, change)

    def _is_shown(self, pull: Pull, attempt: Attempt) -> bool:
        return pull.commit == attempt.commit and (pull.number > 0 or forge_of(self._session).kind == "local")

    def publish(
        self, attempt: Attempt, commit: str, change: Change, *, stop: Stop | None = None, onto: Layer | None = None
    ) -> PullRequest | None:
        """Push a result and open or update its pull request; None if there is none, or others use the branch.

        Args:
            attempt: the attempt with the result.
            commit: the commit to push.
            change: the change of the commit.
            stop: why it waits for a person; then it is a draft. Without, every check has passed on its tree.
            onto: the layer of the stack that it goes on; None for the milestone branch.
        """
        if self._session.remote is None:
            return None
        self._withdraw_older(attempt, commit)
        if not self._push(attempt, commit):
            return None
        if forge_of(self._session).kind == "local":
            return None
        text = pull_text(self._issue, attempt, commit, change, stop=stop, onto=onto)
        rules = self._session.policy.forge
        base = self._run.milestone.branch if onto is None else onto.head
        title = title_of(self._issue.declared, self._run.name, rules, attempt.revision)
        body = body_of(text, title)
        pull = self._open_pull(attempt)
        if pull is None:
            new = NewPull(self.head_of(attempt), base, title, body, draft=stop is not None)
            pull = forge_of(self._session).open(new)
        if pull.base != base:
            forge = forge_of(self._session)
            if not isinstance(forge, MovesPulls) or not self.may_go_to(pull.base):
                self.wait_for_person(pull, f"it targets {pull.base}, expected {base}; restore its base")
                return None
            pull = forge.retarget(forge.withdraw(pull) if onto is not None else pull, base)
        known = read_mark(pull.body).get("title")
        pull = forge_of(self._session).update(
            pull,
            title=title if known is None or known == title_digest(pull.title) else None,
            body=merged_body(body, pull.body),
            draft=stop is not None,
            labels=rules.labels,
        )
        self.record_pull(pull, commit, attempt=attempt.number)
        return pull

    def may_go_to(self, base: str) -> bool:
        """Return whether a pull request goes to a branch because it is in a stack, not because a person changed it."""
        seen, run = self._issue.state.pull, self._run
        stacked = run.policy.forge.stack and base.startswith(branch_prefixes(run.milestone.issues, run.name))
        return stacked or base == run.milestone.branch or (seen is not None and base == seen.base)

    def head_of(self, attempt: Attempt) -> str:
        """Return the short name of the branch of a result."""
        return branch_of(self._issue.declared, self._run.name, attempt.revision)

    def record_pull(
        self,
        pull: PullRequest | None,
        commit: str,
        *,
        head: str = "",
        state: str = "",
        waits: str = "",
        why: str = "",
        attempt: int = 0,
    ) -> None:
        """Journal the state of an issue's pull request if it has changed; omitted values stay unchanged."""
        issue = self._issue.id
        folded = self._run.view.states.get(issue)
        before = folded.pull if folded else None
        if before is not None and head and before.head != head:
            before = None
        old = before or Pull(0, "", "", head, "")
        word = ("draft" if pull.draft and pull.state == "open" else pull.state) if pull else ""
        new = replace(
            old,
            number=pull.number if pull else old.number,
            state=state or word or old.state,
            url=pull.url if pull else old.url,
            head=pull.head if pull else (head or old.head),
            commit=commit,
            waits=waits,
            reason=why,
            attempt=attempt or old.attempt,
            base=("" if pull.base == self._run.milestone.branch else pull.base) if pull else old.base,
        )
        if new != old or waits:
            merged = new.state == "merged"
            if merged:
                self.tell_states()  # nothing looks at it again once this is on record
            self._run.record(_event_of(new), issue)
            if not merged:
                self.tell_states()

    def tell_states(self) -> None:
        """Update the single comment that lists the states of the pull request; none until a stop, failure or wait."""
        state = self._run.view.states.get(self._issue.id)
        pull = state.pull if state is not None else None
        forge = forge_of(self._session)
        if pull is None or not pull.number or forge.kind == "local":
            return
        text = states_text(self._issue)
        if not text:
            return
        try:
            forge.comment(
                PullRequest(pull.number, pull.state, draft=False, head=pull.head, sha="", base=""), STATE, text
            )
        except ForgeRefusedError as error:
            self._run.warn(f"{self._issue.ref}: pull request #{pull.number} has no comment about its state: {error}")

    def wait_for_person(self, pull: PullRequest | None, why: str, *, head: str = "") -> None:
        """Hold the issue until a person has changed its pull request or branch."""
        state = self._issue.state
        text = f"pull request #{pull.number}: {why}" if pull else why
        commit = state.pull.commit if state.pull else ""
        self.record_pull(pull, commit, head=head, waits="review", why=text)

    def is_free(self) -> bool:
        """Return whether its branch and pull request permit the issue to continue."""
        state = self._run.view.states.get(self._issue.id)
        return state is None or state.pull is None or not state.pull.waits or state.pull.run != self._session.run_id

    def is_ours(self, commit: str) -> bool:
        """Return whether a remote commit is an unmodified commit of the executor.

        Its message then has the result key of its own change, which only the executor computes.
        """
        state = self._run.view.states.get(self._issue.id)
        if state is not None:
            known = {attempt.commit for attempt in state.attempts.values()}
            if commit in known or (state.pull is not None and commit == state.pull.commit):
                return True
        store, refs = self._session.store, self._session.refs
        try:
            found = refs.trailers(commit)
            trailers, asked = parse_trailers(found), decode(AttemptTrailers, found)
            answer = trailers or asked
            if answer is None or (answer.milestone, answer.issue) != (self._run.name, self._issue.id):
                return False
            text = store.diff(f"{commit}^", commit)
            if trailers is None:
                return asked is not None and asked.outcome == QUESTION and parse_diff(text).key == asked.change_key
            return not text or parse_diff(text).key == trailers.result_key
        except GitError:
            return False

    def _push(self, attempt: Attempt, commit: str) -> bool:
        """Push the branch; returns whether the remote's is at that commit."""
        remote = self._session.remote
        head = self.head_of(attempt)
        name = f"refs/heads/{head}"
        for _ in range(_TRIES):
            if remote is None:
                return False
            there = remote.tips(name).get(name)
            if there == commit:
                return True
            if there is not None:
                remote.fetch(name)
                if not self.is_ours(there):
                    who = self._session.refs.author_of(there)
                    why = (
                        f"the branch {head} has a commit of {who} ({there[:10]}) and is not changed; merge it, or "
                        "delete it"
                    )
                    self.wait_for_person(None, why, head=head)
                    return False
            self.record_pull(None, commit, head=head, attempt=attempt.number)
            done = remote.push([Move(name, there, commit)])
            if done.ok:
                return True
            if not done.moved:
                self.wait_for_person(None, f"the branch {head} cannot be pushed: {done.reason}", head=head)
                return False
        raise ForgeRefusedError(f"{self._issue.ref}: the branch {head} is being moved on the remote by another process")

    def _withdraw_older(self, attempt: Attempt, commit: str) -> None:
        """Before another commit is pushed, keep the forge from merging the one that the pull request still shows."""
        seen = self._issue.state.pull
        if forge_of(self._session).kind == "local" or seen is None or not seen.number or seen.commit == commit:
            return
        for pull in forge_of(self._session).find(self.head_of(attempt)):
            if pull.state == "open" and pull.sha != commit:
                forge_of(self._session).withdraw(pull)

    def _open_pull(self, attempt: Attempt) -> PullRequest | None:
        """Return the open pull request of the branch; the oldest if there are several."""
        found = [pull for pull in forge_of(self._session).find(self.head_of(attempt)) if pull.state == "open"]
        if len(found) > 1:
            others = ", ".join(f"#{pull.number}" for pull in found[1:])
            self._run.warn(
                f"{self._issue.ref}: pull request #{found[0].number} is used; {others} of the same branch should be "
                "closed"
            )
        return found[0] if found else None


class RemoteBranch:
    """Keeps the local and the remote milestone branch in sync."""

    def __init__(self, run: MilestoneRun) -> None:
        self._run = run

    def tip_to_build_on(self) -> str:
        """Return the current tip of the milestone branch, of the remote's if there is a remote."""
        if self._run.session.remote is None:
            return self._run.ensure_branch()
        with self._run.landing_lock:
            return self.catch_up()

    def catch_up(self) -> str:
        """Synchronise branch and remote and return the tip; the caller holds the landing lock.

        Raises:
            ForgeUnavailableError: the remote is unreachable.
            ForgeRefusedError: the remote refuses, or both have their own commits.
        """
        remote = self._run.session.remote
        if remote is None:
            return self._run.ensure_branch()
        view, refs = self._run.view, self._run.session.refs
        there = remote.tips(view.branch, view.base)
        theirs = there.get(view.branch)
        ours = self._run.refresh_tip() if view.exists else refs.tip(view.branch)
        if theirs is None and ours is None:
            self._start_from(remote, there.get(view.base))
        if theirs is None:
            self.push_branch(remote, None, self._run.ensure_branch())
        elif theirs != ours:
            remote.fetch(view.branch)
            if ours is None or refs.contains(ours, theirs):
                self._follow(theirs)
            elif refs.contains(theirs, ours):
                self.push_branch(remote, theirs, ours)
            else:
                raise ForgeRefusedError(
                    f"{self._run.milestone.branch} differs here ({ours[:10]}) and on {remote.name} "
                    f"({theirs[:10]}); merge them, for example `git rebase {theirs[:10]} "
                    f"{self._run.milestone.branch}`, then run again"
                )
        self.seen_on_remote()
        self.settle_landed()
        return self._run.view.tip

    def push_branch(self, remote: Remote, old: str | None, new: str) -> None:
        """Push the milestone branch itself, where no landing has pushed it."""
        done = remote.push([Move(self._run.view.branch, old, new)])
        if done.moved:
            raise ForgeUnavailableError(
                f"{self._run.milestone.branch} was moved on {remote.name} at the same time; run again"
            )
        if not done.ok:
            raise ForgeRefusedError(f"{self._run.milestone.branch} cannot be pushed to {remote.name}: {done.reason}")

    def seen_on_remote(self) -> None:
        """Record the remote branch's commit, so that it is known without a request."""
        name, refs = str(IssueRef(REMOTE, self._run.name)), self._run.session.refs
        before = refs.tip(name)
        if before != self._run.view.tip:
            refs.move([Move(name, before, self._run.view.tip)], "seen on the remote")

    def settle_landed(self) -> None:
        """End the attempts whose result has landed elsewhere, and delete their refs if these hold nothing else."""
        for issue, state in list(self._run.view.states.items()):
            landing = self._run.view.landings.get(issue)
            if landing is None or str(IssueRef(self._run.name, issue)) not in self._run.session.compiled.plan.nodes:
                continue
            built = [
                item
                for item in state.attempts.values()
                if item.state is AttemptState.BUILT and item.revision == landing.trailers.revision
            ]
            if not built:
                continue
            landed = landed_attempt(built, landing.trailers.result_key, state.pull.attempt if state.pull else 0)
            self._run.record_landed(landing, landed.number, proved=self._landed_as_proved(issue, landing))
            if landed.result_key == landing.trailers.result_key:
                self._forget(issue, landed)
            for other in built:
                if other is not landed:
                    reason = f"attempt {landed.number} landed instead"
                    event = AttemptFailed(
                        attempt=other.number,
                        failure="superseded",
                        reason=reason,
                        detail="",
                        fingerprint="",
                        seconds=0.0,
                        commit=other.commit,
                    )
                    self._run.record(event, issue)

    def _landed_as_proved(self, issue: str, landing: Landing) -> bool:
        """Return whether the landed tree is the pushed one, on which the checks passed."""
        pull = self._run.view.states[issue].pull
        if landing.trailers.check_key == UNPROVED:
            return False
        if pull is None or not pull.commit or pull.commit == landing.commit:
            return True
        try:
            return self._run.session.store.tree_of(pull.commit) == landing.tree
        except GitError:
            return False

    def _forget(self, issue: str, attempt: Attempt) -> None:
        name = attempt_ref(self._run.name, issue, attempt.number)
        self._run.session.refs.move([Move(name, attempt.commit, None)], f"landed {self._run.name}/{issue}")

    def _start_from(self, remote: Remote, base: str | None) -> None:
        """Start a new branch from the remote's base if it is only ahead of the local one."""
        view, refs = self._run.view, self._run.session.refs
        if base is None or base == view.tip:
            return
        remote.fetch(view.base)
        if refs.contains(view.tip, base):
            view.tip = base
        elif not refs.contains(base, view.tip):
            self._run.warn(
                f"{view.base.removeprefix('refs/heads/')} differs here and on {remote.name}; "
                f"{self._run.milestone.branch} starts from the one here"
            )

    def _follow(self, theirs: str) -> None:
        """Fast-forward our branch to the remote's, with the checkouts of it."""
        view = self._run.view
        before = view.tip
        if not Branch(self._run).advance(theirs, f"milestone {self._run.name}: follow the remote"):
            raise ForgeUnavailableError(f"{self._run.milestone.branch} was moved here at the same time; run again")
        view.tip = before
        self._run.took_over(theirs)


def _event_of(pull: Pull) -> PullChanged:
    return PullChanged(
        number=pull.number,
        state=pull.state,
        url=pull.url,
        head=pull.head,
        commit=pull.commit,
        waits=pull.waits,
        reason=pull.reason,
        attempt=pull.attempt,
        base=pull.base,
    )


def landed_attempt(built: Sequence[Attempt], result_key: str, shown: int) -> Attempt:
    """Return the result that a landing belongs to: the one with its change, else the one shown, else the latest."""
    same = [item for item in built if item.result_key == result_key]
    seen = [item for item in built if item.number == shown]
    return (same or seen or list(built))[-1]
