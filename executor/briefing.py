"""What a brief is made of, gathered for one issue: its declaration, what has landed, handoffs, answers, failures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.core.brief import BriefFacts, Handoff
from executor.core.handoff import chosen, distances
from executor.core.state import UNSPENT, AttemptState
from executor.spec_archive import kept_spec

if TYPE_CHECKING:
    from executor.milestone_run import MilestoneRun

__all__ = ["brief_facts"]


def brief_facts(run: MilestoneRun, ref: str, attempt: int, revision: int) -> BriefFacts:
    """Everything that the brief of an attempt, or of one of its steps, is made of."""
    observer = run.session.observer
    issue = run.issue(ref)
    facts = run.facts(ref)
    tried = facts.state.counted(facts.spec_key)
    failed = [item for item in tried if item.state is AttemptState.FAILED and item.kind not in UNSPENT]
    old = None
    if facts.landing is not None:
        archived = kept_spec(run.folder, facts.landing.trailers.spec_key)
        old = archived["text"] if archived is not None else None
    refusal = facts.state.refusal
    return BriefFacts(
        milestone=run.milestone,
        issue=issue,
        text=observer.spec(ref)["text"],
        attempt=attempt,
        revision=revision,
        landed=tuple(run.view.landings),
        previous=failed[-1] if failed else None,
        old_text=old,
        refusal=f"{refusal.reason}\n{refusal.detail}" if refusal is not None and revision > 1 else "",
        focus=run.session.policy.route_of(issue).focus,
        handoffs=_handoffs(run, ref),
        conventions=run.session.policy.prompt_for(issue),
        answers=tuple((item.question, item.answer) for item in run.view.answers.get(issue.id, ())),
    )


def _handoffs(run: MilestoneRun, ref: str) -> tuple[Handoff, ...]:
    """Handoffs of what has landed, nearest needs first, then the newest, as many as the budget holds."""
    view = run.view
    own = run.issue(ref).id
    landed = {name: view.landings[name].position for name in view.handoffs if name in view.landings and name != own}
    near = distances(ref, {name: node.needs for name, node in run.session.compiled.plan.nodes.items()})
    order = sorted(landed, key=lambda name: (near.get(f"{run.name}/{name}", len(near) + 1), -landed[name]))
    texts = []
    for name in order:
        data = run.session.store.blob(view.handoffs[name], "handoff.md") or b""
        texts.append(Handoff(name, data.decode("utf-8", "replace").strip(), view.handoffs[name]))
    return chosen(texts, run.session.policy.limits.handoff_tokens)
