"""A pull request as a value, its mark, and its texts for people: title, body, and the comment with its states. Pure.

External text is neutralised first: nothing in it mentions a person, closes an issue or stops a workflow.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.git.trailers import inert, one_line
from executor.model.hints import counted
from executor.model.milestone import commit_token, described, header, titled
from executor.state.events import AttemptFailed, Landed, PullChanged, Retried, Stopped

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from executor.git.diff import Change
    from executor.model.milestone import Issue
    from executor.model.outward_rules import Forge
    from executor.state.marks import Approval
    from executor.state.model import Finding, Review
    from executor.state.record import Record

__all__ = [
    "END",
    "NOT_PROVED",
    "STATE",
    "Box",
    "PullRequest",
    "PullText",
    "StopShown",
    "body_of",
    "bounded",
    "code",
    "harmless",
    "history_of",
    "mark",
    "merged_body",
    "read_mark",
    "state_comment",
    "title_digest",
    "title_of",
]


_BEGIN = "<!-- milestone-executor"
END = "<!-- /milestone-executor -->"
"""The line after our part of a body."""
STATE = "<!-- milestone-executor state -->"
"""The first line of our comment on a pull request; only a comment that starts with it is edited."""
_MARK = re.compile(r"<!-- milestone-executor((?: [a-z_]+=[^\s<>]*)*) -->")
_BREAK = "\u200b"
_FILES, _BOXES, _CHECKS, _LINES, _FINDINGS, _NOTES, _STATES = 50, 100, 50, 10, 50, 10, 40
_WIDTH = 500  # characters of others' text in one line
_APPROVALS = 20  # rows; the last decisions are enough in a pull request
NOT_PROVED = "not proved"
"""The text beside an open box."""


@dataclass(frozen=True, slots=True)
class PullRequest:
    """A pull request on the forge.

    Attributes:
        number: its number on the forge.
        state: ``open``, ``closed`` (unmerged) or ``merged``.
        draft: it must not be merged yet.
        head: short name of its branch.
        sha: commit of that branch; empty if the forge does not report it.
        base: short name of the branch to merge into.
        title: its title.
        body: its text.
        url: its address for people; empty for a local one.
        merge_commit: the resulting commit; empty before the merge.
        author: account that opened it.
        waiting: the forge merges it as soon as its checks are green.
        labels: names of its labels.
        node: the forge's internal id for it.
    """

    number: int
    state: str
    draft: bool
    head: str
    sha: str
    base: str
    title: str = ""
    body: str = ""
    url: str = ""
    merge_commit: str = ""
    author: str = ""
    waiting: bool = False
    labels: tuple[str, ...] = ()
    node: str = ""

    def going_to(self, base: str) -> PullRequest | None:
        """Return it if it goes to that branch, else None."""
        return self if self.base == base else None


MOST = 60_000
"""Maximum length of a body in characters; GitHub refuses more than 65,536."""
_SHORTENED = "(shortened: the text exceeds the limit of the forge; `doit log` has the rest)"


def bounded(text: str, most: int = MOST) -> str:
    """Shorten our text at the end of a line to the limit of forges; its last mark stays."""
    if len(text) <= most:
        return text
    end = f"\n\n{END}\n" if text.rstrip().endswith(END) else "\n"
    kept = text[: max(most - len(_SHORTENED) - len(end) - len("\n\n</details>\n\n"), 0)].rpartition("\n")[0]
    folded = "\n\n</details>" if kept.count("<details>") > kept.count("</details>") else ""
    return f"{kept}{folded}\n\n{_SHORTENED}{end}"


def merged_body(ours: str, present: str) -> str:
    """Replace our part of a body; text that people wrote around it stays, and ours is cut if both are too long."""
    start = present.find(_BEGIN)
    end = present.find(END, start)
    if start < 0:
        before, after = "", f"\n\n{present}".rstrip() + "\n" if present.strip() else "\n"
    else:
        rest = present[end + len(END) :] if end >= 0 else ""
        before, after = present[:start], rest if rest.strip() else "\n"
    return before + bounded(ours, max(MOST - len(before) - len(after), 0)).rstrip("\n") + after


def mark(values: Mapping[str, str]) -> str:
    """Return the line that marks a pull request as ours and holds its subject."""
    return _BEGIN + "".join(f" {key}={value}" for key, value in values.items()) + " -->"


def read_mark(body: str) -> dict[str, str]:
    """Return the values of the first mark in a body; empty without a mark."""
    found = _MARK.search(body)
    return dict(pair.split("=", 1) for pair in found[1].split()) if found else {}


def title_digest(title: str) -> str:
    """Return a digest that later shows whether a person has changed the title."""
    return hashlib.sha256(title.encode("utf-8", "replace")).hexdigest()[:12]


def harmless(text: str) -> str:
    """Neutralise one line of others' text for a pull request: inert, refers to no issue and hides nothing."""
    line = inert(text).replace("<!--", "< !--").replace("-->", "-- >")
    return re.sub(r"([@#])(?=\w)", rf"\1{_BREAK}", re.sub(r"\bGH-(?=\d)", f"GH{_BREAK}-", line, flags=re.IGNORECASE))


@dataclass(frozen=True, slots=True)
class Box:
    """An acceptance criterion.

    Attributes:
        text: the criterion, ready for display.
        done: evidence for it exists.
        evidence: the evidence, or why it is not proved.
    """

    text: str
    done: bool
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class StopShown:
    """Why a pull request waits for a person.

    Attributes:
        rule: ids of the rules.
        reason: one sentence.
        needs: the required action.
        lines: places and lines that triggered it, or the lines of a question.
        clears: commands that end the wait, each with its purpose.
    """

    rule: str
    reason: str
    needs: str = ""
    lines: tuple[str, ...] = ()
    clears: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class PullText:
    """The parts of an issue's pull request text.

    Attributes:
        ref: qualified id of the issue.
        revision: the revision that it would land as.
        attempt: number of the attempt that it shows.
        spec_key: key of the implemented spec.
        change: the change.
        title: title of the issue.
        notes: the agent's description of the change, one sentence each.
        boxes: acceptance criteria.
        checks: names of the checks that passed on exactly this tree.
        stop: why it waits for a person; None if it does not.
        review: findings of the reviewer; None without a review.
        threshold: score from which a finding stops the issue, 0 to 100.
        approvals: everything that a person approved for the issue, oldest first.
        deviations: deviations from the plan: those that the agent reports, and undeclared files.
        number: number of the issue on the forge.
        assisted: agent and model; empty for none.
        below: number of the pull request that it is stacked on; 0 if it goes to the milestone branch.
    """

    ref: str
    revision: int
    attempt: int
    spec_key: str
    change: Change
    title: str = ""
    notes: tuple[str, ...] = ()
    boxes: tuple[Box, ...] = ()
    checks: tuple[str, ...] = ()
    stop: StopShown | None = None
    review: Review | None = None
    threshold: int = 0
    approvals: tuple[Approval, ...] = ()
    deviations: tuple[str, ...] = ()
    number: int | None = None
    assisted: str = ""
    below: int = 0


def title_of(issue: Issue, milestone: str, rules: Forge, revision: int) -> str:
    """Return the title of an issue's pull request: ``feat(m4): title (#11)``, or as its `pull_title` says."""
    token = commit_token(issue, milestone, rules.commit_types)
    title = harmless(described(issue.title, lower=rules.lower_case))
    if issue.pull_title is None:
        return header(token, title, number=issue.number, revision=revision)
    number = f"#{issue.number}" if issue.number is not None else ""
    values = {"token": token, "title": title, "number": number, "milestone": milestone, "issue": issue.id}
    return titled(inert(issue.pull_title), values) + (f" (revision {revision})" if revision > 1 else "")


def body_of(text: PullText, title: str) -> str:
    """Return the executor's part of a pull request's body.

    Args:
        text: its parts.
        title: the title of the pull request; a digest of it later shows whether a person has changed it.
    """
    values = {
        "key": text.ref,
        "revision": str(text.revision),
        "attempt": str(text.attempt),
        "spec": text.spec_key,
        "title": title_digest(title),
    }
    number = f"issue #{text.number}" if text.number is not None else text.ref
    later = f" (revision {text.revision})" if text.revision > 1 else ""
    parts = [
        mark(values),
        _stop(text),
        f"Implements {number}: {_words(text.title) or text.ref}{later}",
        f"Stacked on #{text.below}. Merge that one first." if text.below else "",
        f"## Changes\n{_changes(text)}",
        _section("## Acceptance criteria", (_box(box) for box in text.boxes[:_BOXES])),
        _section("## Checks on exactly this tree", (f"- {code(name)} passed" for name in text.checks[:_CHECKS])),
        _review(text.review, text.threshold),
        _section("## Approvals", (_approval(item) for item in text.approvals[-_APPROVALS:])),
        _section(
            "## Deviations from the plan",
            (f"- {_words(line)}" for line in text.deviations[:20]),
        ),
        f"Closes #{text.number}" if text.number is not None else "",
        f"Assisted-by: {_words(text.assisted)}" if text.assisted else "",
    ]
    return bounded("\n\n".join(part for part in [*parts, END] if part) + "\n")


def code(text: str) -> str:
    """Format text as code, which forges do not interpret."""
    flat = one_line(text)[:300]
    fence = "`" * (max((len(run) for run in re.findall("`+", flat)), default=0) + 1)
    space = " " if flat.startswith("`") or flat.endswith("`") else ""
    return f"{fence}{space}{flat}{space}{fence}"


def _words(text: str) -> str:
    """Format others' text as one line of Markdown: neutralised, without effective tags or images."""
    return harmless(text).replace("<", "&lt;").replace("![", "! [")[:_WIDTH]


def _stop(text: PullText) -> str:
    """Format the block at the top of a draft: the reason for the wait, its place, and the command that clears it."""
    stop = text.stop
    if stop is None:
        return ""
    lines = [f"**Waits for a person:** {_words(f'{stop.rule}: {stop.reason}')}", ""]
    lines += [f"- {code(line)}" for line in stop.lines[:_LINES]]
    more = len(stop.lines) - _LINES
    lines += [f"- and {more} more"] if more > 0 else []
    lines += [f"- needed: {_words(stop.needs)}"] if stop.needs else []
    lines += (
        ["- " + "; ".join(f"{purpose}: {code(command)}" for purpose, command in stop.clears)] if stop.clears else []
    )
    return "\n".join(f"> {line}".rstrip() for line in lines)


def _changes(text: PullText) -> str:
    texts = [f"- {_words(line)}" for line in text.notes[:_NOTES]]
    change = text.change
    if not change.files:
        return "\n".join([*texts, *([""] if texts else []), "No file had to change."])
    lines = [*texts, *([""] if texts else []), f"{change.summary()}:", ""]
    lines += (f"- {file.kind} {code(file.path)}" for file in change.files[:_FILES])
    more = len(change.files) - _FILES
    return "\n".join([*lines, *([f"- and {more} more"] if more > 0 else [])])


def _box(box: Box) -> str:
    tick = "x" if box.done else " "
    why = box.evidence or ("" if box.done else NOT_PROVED)
    return f"- [{tick}] {box.text}" + (f" ({_words(why)})" if why else "")


def _review(review: Review | None, threshold: int) -> str:
    """Format the findings of a reviewer: grave ones first, those below the threshold folded."""
    if review is None:
        return ""
    name = _words(review.reviewer)
    if not review.findings:
        return f"## Review\n{name} reported no findings."
    found = sorted(review.findings, key=lambda item: -item.score)[:_FINDINGS]
    grave = [_finding(item) for item in found if item.score >= threshold]
    minor = [_finding(item) for item in found if item.score < threshold]
    lines = ["## Review", f"{name} reported {_findings(len(review.findings))}.", *([""] if grave else []), *grave]
    if minor:
        summary = f"{_findings(len(minor))} below score {threshold}"
        lines += ["", f"<details><summary>{summary}</summary>", "", *minor, "", "</details>"]
    return "\n".join(lines)


def _findings(count: int) -> str:
    return counted(count, "finding")


def _finding(item: Finding) -> str:
    place = f"{code(f'{item.file}:{item.line}' if item.line else item.file)}: " if item.file else ""
    return f"- {place}{_words(item.description)} (score {item.score})"


def _approval(item: Approval) -> str:
    """Return an approval as a line; the person without the mail address."""
    when = f" on {_words(item.when)}" if item.when else ""
    return f"- {code(', '.join(item.rules))} by {_words(item.who.partition(' <')[0])}{when}: {_words(item.why)}"


def _section(heading: str, lines: Iterable[str]) -> str:
    found = list(lines)
    return "\n".join([heading, *found]) if found else ""


def state_comment(history: Sequence[tuple[str, str]]) -> str:
    """Return our comment on a pull request: its current state and its history.

    Args:
        history: day and time, and a sentence, of each state; oldest first, the last one is the present one.
    """
    lines = [f"- {when}: {_words(found)}" for when, found in history]
    left_out = len(lines) - _STATES
    if left_out > 0:
        lines = [lines[0], f"- {left_out} states between", *lines[left_out + 1 :]]
    now = _words(history[-1][1])
    return "\n".join([STATE, f"**State:** {now}", "", *lines]) + "\n"


def history_of(records: Iterable[Record], issue: str, approvals: Iterable[Approval] = ()) -> list[tuple[str, str]]:
    """Return the states of an issue's pull request, oldest first: day and time, and a sentence. Pure.

    Empty unless something has stopped, failed or waited for a person and changed since: until then, the pull request
    itself says everything. An approval, which has only a minute, follows the stop that it clears.
    """
    found: list[tuple[str, str]] = []
    clears: dict[int, frozenset[str]] = {}
    opened = answer = False
    for record in records:
        if record.key != issue or _is_superseded(record.event):
            continue
        event, text = record.event, _state(record.event)
        if isinstance(event, PullChanged):
            opened = opened or event.number > 0
            answer = answer or event.waits == "review"
            again = not event.waits and (event.state == "draft" or text in {known for _, known in found})
            text = "" if found and again else text
        answer = answer or isinstance(event, AttemptFailed | Stopped)
        if text and (not found or found[-1][1] != text):
            found.append((_minute(record.at), text))
            if isinstance(event, Stopped):
                clears[len(found)] = frozenset(event.rule.split(", "))
    for approval in reversed(tuple(approvals)):
        when = _minute(approval.when)
        places = [
            place for place, rules in clears.items() if rules & set(approval.rules) and found[place - 1][0] <= when
        ]
        place = max(places, default=sum(at <= when for at, _ in found))
        who = approval.who.partition(" <")[0]
        found.insert(place, (when, f"{who} approved {', '.join(approval.rules)}: {approval.why}"))
    return found if opened and answer and len(found) > 1 else []


def _is_superseded(event: object) -> bool:
    """Return whether an event ends an older result because another one has landed; the landing says it already."""
    return isinstance(event, AttemptFailed) and event.failure == "superseded"


def _minute(at: str) -> str:
    return at[:16].replace("T", " ")


def _state(event: object) -> str:
    """Return what an event says about a pull request; empty if it says nothing."""
    text = ""
    match event:
        case PullChanged() if event.waits:
            text = re.sub(r"^pull request #\d+:? ", "", event.reason)
        case PullChanged(state="draft" | "open"):
            number = f"attempt {event.attempt}" if event.attempt else "a result"
            text = f"{number} is shown" + (" as a draft" if event.state == "draft" else "")
        case Stopped():
            text = f"waits for a person: {event.rule}: {event.reason}"
        case AttemptFailed():
            text = f"attempt {event.attempt} failed: {one_line(event.reason)}"
        case Retried():
            text = "another attempt is requested"
        case Landed():
            text = f"landed as {event.commit[:10]}"
    return text
