"""What `doit report` says of a milestone, as one frozen value; docs/report.schema.json documents its JSON form."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["AttemptReport", "CheckReport", "FindingReport", "IssueReport", "MilestoneReport", "schema"]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AttemptReport(_Value):
    """One attempt."""

    number: int = Field(description="counts up over the life of the issue, from 1")
    revision: int = Field(description="revision that it would become")
    agent: str = Field(description="profile that worked; empty when it is no longer known")
    state: str = Field(description="started, built, failed, interrupted or landed")
    kind: str = Field(description="class of its failure; empty otherwise")
    reason: str = Field(description="why it failed, one sentence")
    started_at: str = Field(description="ISO-8601 UTC; empty when it is no longer known")
    seconds: float = Field(description="how long the agent worked")
    cost_usd: float = Field(description="money spent, US dollars")


class CheckReport(_Value):
    """What a check said about the tree that landed."""

    name: str
    ok: bool
    seconds: float
    reason: str = Field(description="why it failed; empty when it passed")


class FindingReport(_Value):
    """Something a reviewer found."""

    description: str
    score: int = Field(description="0 to 100")
    file: str
    line: int = Field(description="0 when none was named")


class IssueReport(_Value):
    """One issue."""

    ref: str = Field(description="qualified id, m4/4.1")
    id: str
    title: str
    type: str
    phase: str
    priority: str
    size: str
    status: str = Field(description="one of the status words")
    reason: str
    hint: str = Field(description="command that would move it on; empty when nothing is needed")
    needs: tuple[str, ...] = Field(description="qualified ids")
    critical: bool = Field(description="on the critical path")
    revision: int
    commit: str = Field(description="the landing; empty before there is one")
    landed_at: str = Field(description="ISO-8601 UTC; empty before it has landed")
    seconds: float = Field(description="work of agents, all attempts")
    cost_usd: float
    files: int = Field(description="files changed by the landing")
    added: int = Field(description="lines added by the landing")
    removed: int = Field(description="lines removed by the landing")
    paths: tuple[str, ...] = Field(description="the files, at most 20")
    attempts: tuple[AttemptReport, ...]
    checks: tuple[CheckReport, ...]
    findings: tuple[FindingReport, ...]
    stop: str = Field(description="rules that stopped it; empty when none did")
    stop_lines: tuple[str, ...] = Field(description="what those rules were triggered by")
    log: str = Field(description="end of the last attempt's output, neutralised; empty when it is gone")


class MilestoneReport(_Value):
    """One milestone."""

    format: Literal["make-for-milestones/report"] = "make-for-milestones/report"
    version: Literal[1] = 1
    generated_at: str = Field(description="ISO-8601 UTC")
    id: str
    title: str
    goal: str
    status: str
    percent: int
    branch: str
    base: str
    tip: str = Field(description="commit; empty while there is no branch")
    counts: dict[str, int] = Field(description="issues by status word")
    seconds: float = Field(description="work of agents, all issues")
    cost_usd: float
    began_at: str = Field(description="first attempt, ISO-8601 UTC; empty when it is not known")
    ended_at: str = Field(description="last landing or attempt, ISO-8601 UTC; empty when it is not known")
    critical_path: tuple[str, ...] = Field(description="qualified ids")
    issues: tuple[IssueReport, ...] = Field(description="in the order in which they would run")

    def waiting(self) -> list[IssueReport]:
        """Issues that a person has to do something about."""
        return [issue for issue in self.issues if issue.status in {"review", "failed", "skipped"}]


def schema() -> str:
    """The JSON schema of a report."""
    import json

    return json.dumps(MilestoneReport.model_json_schema(), indent=1, sort_keys=True) + "\n"
