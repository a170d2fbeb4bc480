"""Bring reverted work back: the same change becomes a new attempt, so that no agent is paid for it a second time.

Where the change does not apply any more, the mark alone is kept, and the next run has the issue implemented.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from executor.errors import ExecutorError
from executor.git.diff import parse_diff
from executor.git.refs import REVIVED, Move, attempt_ref
from executor.git.trailers import landing_message
from executor.model.titles import commit_token, described, header
from executor.state.model import AttemptState

if TYPE_CHECKING:
    from executor.git.command import Identity
    from executor.git.objects import Store
    from executor.git.refs import Refs
    from executor.git.trailers import Landing
    from executor.status.load import MilestoneView
    from executor.status.reader import Observer

__all__ = ["revive"]


def revive(observer: Observer, refs: Refs, store: Store, who: Identity, ref: str) -> bool:
    """Record that a person wants reverted work again; whether its change waits as an attempt now.

    Args:
        observer: that saw the revert.
        refs: of the repository.
        store: of the repository.
        who: the person.
        ref: qualified id of an issue whose landing was reverted.

    Raises:
        ExecutorError: somebody else moved one of the refs at the same moment.
    """
    node = observer.compiled.plan.nodes[ref]
    view, issue = observer.views[node.milestone], node.issue
    landing, revert = view.landings[issue.id], view.reverted[issue.id]
    known = " ".join(sorted({*view.revived.get(issue.id, ()), revert.commit}))
    text = f"{ref} is wanted again\n\nIssue-Ref: {ref}\nRevert: {known}\n"
    mark = f"{REVIVED}/{ref}"
    moves = [Move(mark, refs.tip(mark), store.commit(store.files_tree({}), [], text, who, int(time.time())))]
    start = view.base_tip if view.merged else view.tip
    tree = _again(store, who, _landed_as(view, landing, refs), start, refs.time_of(start))
    if tree and tree != store.tree_of(start):
        change = parse_diff(store.diff(start, tree))
        revision = landing.trailers.revision + 1
        trailers = replace(landing.trailers, revision=revision, result_key=change.key, check_key="", pull=0)
        note = f"The change that {revert.commit[:10]} had reverted."
        rules = observer.compiled.policy.forge
        token = commit_token(issue, node.milestone, rules.commit_types)
        first = header(token, described(issue.title, lower=rules.lower_case))
        message = landing_message(first, change, trailers, title=issue.title, number=issue.number, note=note)
        number = view.states[issue.id].last() + 1 if issue.id in view.states else 1
        made = store.commit(tree, [start], message, who, refs.time_of(start))
        moves.append(Move(attempt_ref(node.milestone, issue.id, number), None, made))
    if not refs.move(moves, f"{ref} is wanted again"):
        raise ExecutorError(f"{mark} was changed by somebody else at the same moment; try again")
    return len(moves) > 1


def _landed_as(view: MilestoneView, landing: Landing, refs: Refs) -> str:
    """The commit with the change of this issue alone: a squashed one holds those of others, too."""
    state = view.states.get(landing.trailers.issue)
    landed = [item for item in state.attempts.values() if item.state is AttemptState.LANDED] if state else []
    own = [item.commit for item in landed if item.revision == landing.trailers.revision and refs.has(item.commit)]
    return own[-1] if own else landing.commit


def _again(store: Store, who: Identity, commit: str, start: str, when: int) -> str:
    """Tree of `start` with the change of a commit once more; empty where that conflicts."""
    parent = store.parent_of(commit)
    ours = store.commit(store.tree_of(start), [parent], "start\n", who, when)
    merged = store.merge(ours, commit)
    return "" if merged.conflicts else merged.tree
