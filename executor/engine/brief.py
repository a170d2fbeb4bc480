"""The facts that the brief of an attempt is made of: declaration, landings, handoffs, answers, failures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.agents.brief import BriefFacts, Handoff, chosen, distances, kept_spec
from executor.state.model import UNSPENT, AttemptState

if TYPE_CHECKING:
    from executor.engine.issue import IssueRun

__all__ = ["brief_facts"]


def brief_facts(issue: IssueRun, attempt: int, revision: int) -> BriefFacts:
    """Everything that the brief of an attempt, or of one of its steps, is made of."""
    run, facts = issue.run, issue.facts
    tried = facts.state.counted(facts.spec_key)
    failed = [item for item in tried if item.state is AttemptState.FAILED and item.kind not in UNSPENT]
    old = None
    if facts.landing is not None:
        archived = kept_spec(run.folder, facts.landing.trailers.spec_key)
        old = archived["text"] if archived is not None else None
    refusal = facts.state.refusal
    return BriefFacts(
        milestone=run.milestone,
        issue=issue.declared,
        text=issue.spec["text"],
        attempt=attempt,
        revision=revision,
        landed=tuple(run.view.landings),
        previous=failed[-1] if failed else None,
        old_text=old,
        refusal=f"{refusal.reason}\n{refusal.detail}" if refusal is not None and revision > 1 else "",
        focus=run.policy.route_of(issue.declared).focus,
        handoffs=_handoffs(issue),
        conventions=run.policy.prompt_for(issue.declared),
        folder=run.project.prefix,
        answers=tuple((item.question, item.answer) for item in run.view.answers.get(issue.id, ())),
    )


def _handoffs(issue: IssueRun) -> tuple[Handoff, ...]:
    """Handoffs of what has landed, nearest needs first, then the newest, as many as the budget holds."""
    run, view, own = issue.run, issue.run.view, issue.id
    landed = {name: view.landings[name].position for name in view.handoffs if name in view.landings and name != own}
    near = distances(issue.ref, {name: node.needs for name, node in run.session.compiled.plan.nodes.items()})
    order = sorted(landed, key=lambda name: (near.get(f"{run.name}/{name}", len(near) + 1), -landed[name]))
    texts = []
    for name in order:
        data = run.store.blob(view.handoffs[name], "handoff.md") or b""
        texts.append(Handoff(name, data.decode("utf-8", "replace").strip(), view.handoffs[name]))
    return chosen(texts, run.policy.limits.handoff_tokens)
