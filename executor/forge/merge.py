"""Merge through a forge: a proved candidate becomes a commit of the milestone branch through its pull request.

The forge merges only if head and branch are still at the commits of the proof; a landing counts once its commit is
reachable from the remote's branch.

A failed check of the forge as a reason and as input for the next attempt. Pure.
"""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from executor.checks.spec import CommandProof
from executor.engine.agent_work import Failure
from executor.engine.attempt import Attempts
from executor.engine.landing.milestone_branch import RemoteBranch
from executor.errors import ForgeRefusedError, ForgeUnavailableError
from executor.forge.base import Layer, MergeAnswer, MovesPulls, below
from executor.forge.connect import Connection, forge_of
from executor.forge.publish import Publication
from executor.forge.pull_request import read_mark
from executor.git.refs import MERGED, Move
from executor.git.trailers import UNPROVED, Landing, Trailers, encode, one_line, parse_trailers
from executor.model.milestone import branch_of
from executor.state.model import AttemptState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from executor.engine.issue import IssueRun
    from executor.forge.base import CheckReport, CheckState
    from executor.forge.pull_request import PullRequest
    from executor.git.diff import Change
    from executor.state.model import Attempt

__all__ = ["Merging", "failure_detail", "failure_reason", "log_tail"]


_LINES = 60  # lines of a log in a brief; a choice
_WIDTH = 400  # characters of such a line
_ANNOTATIONS = 20  # annotations in a brief; a choice
_STAMP = re.compile(r"^\ufeff?\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z ?")
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07")
_SECTION = re.compile(r"^section_(?:start|end):\d+:\S*\r?")
_NOISE = re.compile(r"^(?:##\[(?:group|endgroup|debug|command)\]|Post job cleanup|Cleaning up orphan processes)")


def failure_reason(failed: Iterable[CheckState]) -> str:
    """Return one sentence with the name and conclusion of each failed check.

    It contains no address, so the same failure in two attempts has the same text and is recognised.
    """
    names = [
        f'"{one_line(item.name)}"' + (f" ({item.conclusion})" if item.conclusion not in {"", "failure"} else "")
        for item in failed
    ]
    kind = "check" if len(names) == 1 else "checks"
    return f"the forge's {kind} {', '.join(names)} failed"


def failure_detail(failed: Sequence[tuple[CheckState, CheckReport]]) -> str:
    """Describe each failed check for the next attempt: name, conclusion, address, annotations and end of the log."""
    return "\n\n".join(_one(check, report) for check, report in failed)


def log_tail(log: str, lines: int = _LINES) -> str:
    """Return the last relevant lines of a log, without time stamps, colours, folds and clean-up."""
    kept = []
    for raw in log.splitlines():
        line = _STAMP.sub("", _SECTION.sub("", _ANSI.sub("", raw.rsplit("\r", 1)[-1]))).rstrip()
        if line and not _NOISE.match(line):
            kept.append(line.removeprefix("##[error]")[:_WIDTH])
    return "\n".join(kept[-lines:])


def _one(check: CheckState, report: CheckReport) -> str:
    parts = [f"check: {one_line(check.name)}", f"conclusion: {check.conclusion or check.state}"]
    if check.detail and check.detail != check.conclusion:
        parts.append(f"said: {one_line(check.detail)[:_WIDTH]}")
    if check.url:
        parts.append(f"address: {one_line(check.url)}")
    if report.annotations:
        parts.append("annotations:")
        parts += [f"  {one_line(line)[:_WIDTH]}" for line in report.annotations[:_ANNOTATIONS]]
        more = len(report.annotations) - _ANNOTATIONS
        parts += [f"  and {more} more"] if more > 0 else []
    tail = log_tail(report.log)
    if tail:
        parts.append(f"the end of its log:\n{tail}")
    return "\n".join(parts)


_POLLS = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
_STATUSES = 20  # statuses for one commit; a choice, each is one request
_LOOKS = 5  # looks at a forge that has not seen a push yet; a choice
_PULL_LINE = r"(?m)^Pull-Request: .*$"


class Merging:
    """Lands the results of one issue through the forge."""

    def __init__(self, issue: IssueRun) -> None:
        self._issue = issue
        self._run = issue.run
        self._session = issue.session

    def merge(self, attempt: Attempt, tip: str, landing: Landing, change: Change) -> bool:
        """Merge a proved candidate; False if branch or pull request moved and the proof must be repeated."""
        if self._stacks():
            with self._run.landing_lock:  # one stack: no other pull request is opened on the same layer
                now, layer = RemoteBranch(self._run).catch_up(), self.layer_below()
                if tip != (now if layer is None else layer.commit):
                    return self._has_landed(attempt)
                pull = Publication(self._issue).publish(attempt, landing.commit, change, onto=layer)
        else:
            layer = None
            pull = Publication(self._issue).publish(attempt, landing.commit, change)
        if pull is None:
            return True
        self._post_statuses(landing.commit)
        if layer is None:
            return self._merge_when_green(attempt, pull, landing.commit, tip)
        # Nobody asks for its merge: the forge would merge it into the branch below.
        why = f"pull request #{pull.number} is stacked on #{layer.number}, which is not merged yet"
        Publication(self._issue).record_pull(pull, landing.commit, waits="open", why=why)
        return True

    def layer_below(self) -> Layer | None:
        """Return the layer that the issue's pull request is stacked on; None for the milestone branch."""
        publisher = self._session.plugins.publisher
        if not self._stacks() or (isinstance(publisher, Connection) and self._issue.ref in publisher.unstacked):
            return None
        others = [issue for issue in list(self._run.view.states) if issue != self._issue.id]
        seen = self._run.view.states[self._issue.id].pull if self._issue.id in self._run.view.states else None
        is_open = seen is not None and seen.state in {"open", "draft"}
        own = Layer(seen.number if is_open else 0, seen.head, seen.commit, seen.base) if seen is not None else None
        return below(own, [layer for issue in others if (layer := self._layer(issue)) is not None])

    def _stacks(self) -> bool:
        return self._session.policy.forge.stack and isinstance(forge_of(self._session), MovesPulls)

    def _layer(self, issue: str) -> Layer | None:
        """Return the open pull request of an issue with a proved result that has not landed; None without one."""
        state, landing = self._run.view.states[issue], self._run.view.landings.get(issue)
        pull = state.pull
        if pull is None or pull.state != "open" or not pull.number or pull.waits == "review":
            return None
        attempt = state.attempts.get(pull.attempt)
        if attempt is None or attempt.state is not AttemptState.BUILT:
            return None
        landed = landing is not None and landing.trailers.revision >= attempt.revision
        return None if landed else Layer(pull.number, pull.head, pull.commit, pull.base)

    def resume(self, attempt: Attempt) -> bool:
        """Wait for a scheduled merge of this attempt's pull request; False without one."""
        seen = self._issue.state.pull
        if seen is None or not seen.number or not self.shows(seen.commit, attempt):
            return False
        pulls = forge_of(self._session).find(Publication(self._issue).head_of(attempt))
        pull = next((item for item in pulls if item.number == seen.number), None)
        if pull is None or pull.state != "open" or not pull.waiting or pull.sha != seen.commit:
            return False
        return self._merge_when_green(attempt, pull, pull.sha, "")

    def shows(self, commit: str, attempt: Attempt) -> bool:
        """Return whether a pushed commit is that attempt's result: its own commit, or its change on another tip."""
        refs = self._session.refs
        if not commit or commit == attempt.commit:
            return bool(commit)
        trailers = parse_trailers(refs.trailers(commit)) if refs.has(commit) else None
        return trailers is not None and (trailers.revision, trailers.result_key) == (
            attempt.revision,
            attempt.result_key,
        )

    def recognise(self, pull: PullRequest, spec_key: str, revision: int) -> bool:
        """Recognise a merge without the executor's trailers; the record is a ref, so it outlives `.cache/`.

        Its checks run on the current tip before any other issue depends on it.
        """
        view, refs, store = self._run.view, self._session.refs, self._session.store
        issue = self._issue.id
        commit = pull.merge_commit
        if not commit or not refs.on_first_parents(commit, view.tip):
            return False
        from executor.git.diff import parse_diff

        key = parse_diff(store.diff(f"{commit}^", commit)).key
        trailers = Trailers(self._run.name, issue, revision, spec_key, key, UNPROVED, pull=pull.number)
        landing = Landing(commit, store.tree_of(commit), view.count, refs.time_of(commit), trailers)
        name = f"{MERGED}/{self._run.name}/{issue}/{revision}"
        title = f"pull request {pull.number} of {self._issue.ref} was merged by hand"
        text = f"{title}\n\n{encode(replace(trailers, landing=commit))}\n"
        record = store.commit(landing.tree, [commit], text, self._session.identity, landing.time)
        before = refs.tip(name)
        if before != record:
            refs.move([Move(name, before, record)], f"pull request {pull.number} was merged")
        self._run.take(landing)
        self._run.record_landed(landing, self._attempt_of(issue, revision), proved=False)
        self._run.warn(f"{self._issue.ref}: pull request #{pull.number} was merged by hand as {commit[:10]}")
        return True

    def tidy(self, pull: PullRequest | None, revision: int) -> None:
        """After a landing, close the issue on the forge and delete the branch if it has no commit by others."""
        issue = self._issue.declared
        remote = self._session.remote
        if issue.number is not None:
            try:
                forge_of(self._session).close_issue(issue.number)
            except ForgeRefusedError as error:
                self._run.warn(f"{self._issue.ref}: {error}")
        head = branch_of(issue, self._run.name, revision)
        name = f"refs/heads/{head}"
        there = remote.tips(name).get(name) if remote is not None else None
        if remote is not None and there is not None and self._is_spent(there) and self._frees(head):
            done = remote.push([Move(name, there, None)])
            if not done.ok:
                self._run.warn(
                    f"{self._issue.ref}: the branch {head} has landed and could not be deleted: {done.reason}"
                )
        seen = self._issue.state.pull if issue.id in self._run.view.states else None
        if pull is not None or seen is not None:
            landed = replace(pull, state="merged", draft=False) if pull is not None else None
            Publication(self._issue).record_pull(landed, seen.commit if seen else "", head=head, state="merged")

    def _frees(self, head: str) -> bool:
        """Move the pull requests of the stack that go to a landed branch; returns whether none is left there.

        A forge closes a pull request when its base is deleted, and a closed one cannot be moved any more.
        """
        forge = forge_of(self._session)
        if forge.kind == "local":
            return True
        resting = [pull for pull in forge.pulls(head) if pull.state == "open"]
        ours = [pull for pull in resting if read_mark(pull.body).get("key", "").startswith(f"{self._run.name}/")]
        if isinstance(forge, MovesPulls):
            for pull in ours:
                forge.retarget(pull, self._run.milestone.branch)
            resting = [pull for pull in resting if pull not in ours]
        if resting:
            names = ", ".join(f"#{pull.number}" for pull in resting)
            self._run.warn(f"{self._issue.ref}: the branch {head} has landed and is kept, because {names} targets it")
        return not resting

    def _merge_when_green(self, attempt: Attempt, pull: PullRequest, commit: str, tip: str) -> bool:
        """Request the merge until it is done, or this run stops waiting. Without a tip, the forge merges."""
        rules = self._session.policy.forge
        until = time.monotonic() + rules.wait
        subject, message = self._message(commit, pull)
        for poll in range(1_000_000):
            with self._run.landing_lock:
                if RemoteBranch(self._run).catch_up() != tip and tip:
                    return self._has_landed(attempt)
                answer = forge_of(self._session).request_merge(pull, commit, subject, message, rules.merge)
                if answer.state == "merged":
                    self._confirm(attempt, pull, answer)
                    return True
            if answer.state == "moved" and self._lags(attempt, commit, tip):
                answer = MergeAnswer("pending", "still shows an older commit on the forge")
            if answer.state in {"moved", "red", "refused"}:
                return self._turned_down(attempt, pull, answer)
            Publication(self._issue).record_pull(
                pull, commit, waits="open", why=f"pull request #{pull.number} {answer.reason}"
            )
            if answer.state == "scheduled":
                return True
            left = until - time.monotonic()
            if left <= 0 or self._session.stopping.wait(min(left, _POLLS[min(poll, len(_POLLS) - 1)])):
                return True
        return True

    def _lags(self, attempt: Attempt, commit: str, tip: str) -> bool:
        """Return whether nothing has moved on the remote: then the forge has not noticed the last push yet."""
        remote, branch = self._session.remote, self._run.view.branch
        head = f"refs/heads/{Publication(self._issue).head_of(attempt)}"
        there = remote.tips(head, branch) if remote is not None else {}
        return there.get(head) == commit and tip in {"", there.get(branch)}

    def _turned_down(self, attempt: Attempt, pull: PullRequest, answer: MergeAnswer) -> bool:
        """Handle a refused merge; False if the candidate must be proved again, else the issue continues another way."""
        if answer.state == "moved":
            return False
        if answer.state == "red":
            self._send_back(attempt, pull, answer)
        else:
            Publication(self._issue).wait_for_person(pull, answer.reason)
        return True

    def _send_back(self, attempt: Attempt, pull: PullRequest, answer: MergeAnswer) -> None:
        """Turn a failed check of the forge into work: the next attempt receives it, and the old head is never merged.

        Auto-merge is cancelled before the failure is recorded: if the run dies in between, the next one repeats it, and
        a check that turns green meanwhile merges nothing that is not on record. A check that was cancelled, or never
        started, has no bearing on the change: a person is asked to start it again.
        """
        forge = forge_of(self._session)
        now = forge.withdraw(pull)
        if now.state == "merged":
            with self._run.landing_lock:
                self._confirm(attempt, pull, replace(answer, state="merged", commit=now.merge_commit))
            return
        blamed = [item for item in answer.failed if item.judges_the_change]
        if not blamed:
            names = ", ".join(f'"{item.name}" ({item.conclusion})' for item in answer.failed)
            url = next((f": {item.url}" for item in answer.failed if item.url), "")
            why = f"the forge's check {names} gave no verdict; restart it there{url}, then run again"
            Publication(self._issue).wait_for_person(now, why)
            return
        lines = [(item, forge.report(item)) for item in blamed]
        tree = self._session.store.tree_of(attempt.commit)
        Publication(self._issue).record_pull(now, pull.sha or attempt.commit)
        Attempts(self._issue).fail(
            attempt.number, Failure("forge-checks", failure_reason(blamed), failure_detail(lines), tree)
        )

    def _confirm(self, attempt: Attempt, pull: PullRequest, answer: MergeAnswer) -> None:
        """Verify that a merge reported by the forge is on the remote's branch, and take it over."""
        for look in range(_LOOKS):
            tip = RemoteBranch(self._run).catch_up()
            if self._has_landed(attempt):
                break
            merged = replace(pull, state="merged", merge_commit=answer.commit)
            if self._session.refs.has(answer.commit) and self._session.refs.contains(answer.commit, tip):
                self.recognise(merged, attempt.spec_key, attempt.revision)
                break
            time.sleep(_POLLS[look] / 4)
        else:
            raise ForgeUnavailableError(
                f"{self._issue.ref}: the forge reports pull request #{pull.number} as merged, but "
                f"{self._run.milestone.branch} does not "
                "have it yet; run again later"
            )
        RemoteBranch(self._run).settle_landed()
        landing = self._run.view.landings[self._issue.id]
        self._run.write_receipt(landing)
        RemoteBranch(self._run).seen_on_remote()
        self.tidy(replace(pull, state="merged", merge_commit=landing.commit), attempt.revision)

    def _has_landed(self, attempt: Attempt) -> bool:
        landing = self._run.view.landings.get(self._issue.id)
        return landing is not None and landing.trailers.revision >= attempt.revision

    def _is_spent(self, commit: str) -> bool:
        """Return whether everything on a branch has landed or was made by the executor."""
        remote = self._session.remote
        if remote is None:
            return False
        if not self._session.refs.has(commit):
            return False
        return self._session.refs.contains(commit, self._run.view.tip) or Publication(self._issue).is_ours(commit)

    def _attempt_of(self, issue: str, revision: int) -> int:
        """Return the number of the attempt whose result waited to land as this revision; 0 without one."""
        state = self._run.view.states.get(issue)
        made = [
            number
            for number, attempt in (state.attempts.items() if state else ())
            if attempt.revision == revision and attempt.state is AttemptState.BUILT
        ]
        return max(made, default=0)

    def _message(self, commit: str, pull: PullRequest) -> tuple[str, str]:
        """Return first line and rest of a pull request's merge message: those of the commit that it shows."""
        text = self._session.refs.message(commit).strip()
        line = f"Pull-Request: {pull.number}"
        if re.search(_PULL_LINE, text) is not None:
            text = re.sub(_PULL_LINE, line, text)
        else:
            text = re.sub(r"(?m)^(Result-Key: .*)$", rf"\1\n{line}", text)
        subject, _, rest = text.partition("\n\n")
        return subject, f"{rest}\n"

    def _post_statuses(self, commit: str) -> None:
        """Post the passed checks to the forge, if it accepts statuses."""
        if not self._session.policy.forge.statuses:
            return
        items = [item for item in self._issue.proofs.items if isinstance(item, CommandProof)]
        for item in items[:_STATUSES]:
            if not forge_of(self._session).post_status(commit, item.name, "success", "passed on exactly this tree"):
                self._run.warn(
                    "the forge accepts no statuses from this token; the checks are listed in the pull requests"
                )
                return
