"""`doit doctor`: check machine, configuration and state, and say what to do about what is found. Spends nothing."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from executor.adapters import segments
from executor.adapters.agent_probe import probe_agent
from executor.adapters.git import OLDEST, git_version
from executor.adapters.refs import Refs
from executor.adapters.tools import ABSENT, ToolVersions
from executor.board import is_held
from executor.commands.base import JSON_OPTION, Command, print_json, table
from executor.core.state import AttemptState
from executor.errors import DeclarationError, ExecutorError, StateBrokenError
from executor.observe import ATTEMPTS, observe
from executor.project import Compiled, Project, compile_project, open_project, prepare_cache

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Doctor"]


@dataclass(frozen=True, slots=True)
class _Finding:
    """One thing looked at: `level` is ok, note or problem."""

    level: str
    subject: str
    text: str


class Doctor(Command):
    """Looks at everything a run rests on."""

    name = "doctor"
    doc_purpose = "check machine, configuration and state, and say what to do"
    doc_usage = ""
    cmd_options = (JSON_OPTION,)

    def run(self, options: dict[str, Any], _arguments: list[str]) -> int:
        """Print the findings; exit code 0 when there is no problem, else 1."""
        findings = list(_look())
        if options["json"]:
            print_json([{"level": item.level, "subject": item.subject, "text": item.text} for item in findings])
        else:
            sys.stdout.write(table([[item.level, item.subject, item.text] for item in findings]) + "\n")
        return 1 if any(item.level == "problem" for item in findings) else 0


def _look() -> Iterator[_Finding]:
    yield from _git()
    try:
        project = open_project()
    except ExecutorError as error:
        yield _Finding("problem", "repository", str(error))
        return
    yield _Finding("ok", "repository", str(project.repository.top))
    yield from _disk(project)
    try:
        compiled = compile_project(project)
    except DeclarationError as error:
        yield from (_Finding("problem", "declaration", str(fault)) for fault in error.faults)
        return
    yield _Finding(
        "ok", "declaration", f"{len(compiled.loaded.milestones)} milestones, {len(compiled.plan.nodes)} issues"
    )
    yield from _agents(compiled)
    yield from _sandbox(compiled)
    yield from _tools(compiled)
    for name in compiled.loaded.milestones:
        yield from _journal(project, name)
    try:
        yield from _state(compiled)
    except ExecutorError as error:
        yield _Finding("problem", "state", str(error))


def _git() -> Iterator[_Finding]:
    try:
        version = git_version()
    except ExecutorError as error:
        yield _Finding("problem", "git", str(error))
        return
    told = ".".join(map(str, version))
    if version[:2] < OLDEST:
        yield _Finding("problem", "git", f"version {told} is too old, expected 2.38 or newer (merge-tree --write-tree)")
    else:
        yield _Finding("ok", "git", told)


def _disk(project: Project) -> Iterator[_Finding]:
    try:
        prepare_cache(project)
    except StateBrokenError as error:
        yield _Finding("problem", ".cache", str(error))
        return
    free = shutil.disk_usage(project.cache).free
    text = f"{free // 2**20} MiB free"
    yield _Finding(
        "ok" if free >= 2**30 else "problem", "disk", text if free >= 2**30 else f"{text}, expected at least 1024"
    )


def _agents(compiled: Compiled) -> Iterator[_Finding]:
    used: dict[str, str] = {}
    for ref, node in compiled.plan.nodes.items():
        for agent in compiled.policy.agents_for(node.issue):
            used.setdefault(agent.name, ref)
    for name, ref in sorted(used.items()):
        agent = compiled.policy.agents[name]
        if agent.login or agent.version:
            yield from (
                _Finding(level, f"agent {name}", f"{text}{'' if level == 'ok' else f', needed by {ref}'}")
                for level, text in probe_agent(agent)
            )
        elif agent.builtin:
            yield _Finding("ok", f"agent {name}", "built in")
        elif (program := shutil.which(agent.command[0])) is None:
            yield _Finding("problem", f"agent {name}", f"{agent.command[0]} is not on PATH, needed by {ref}")
        else:
            yield _Finding("ok", f"agent {name}", program)


def _sandbox(compiled: Compiled) -> Iterator[_Finding]:
    wanting = sorted(agent.name for agent in compiled.policy.agents.values() if agent.isolation != "none")
    if not wanting:
        return
    from executor.adapters.sandbox import find_sandbox, probe, sandbox_problem

    sandbox = find_sandbox()
    if sandbox is None:
        yield _Finding("problem", "sandbox", f"{sandbox_problem()}, needed by agent {', '.join(wanting)}")
        return
    broken = probe(sandbox, compiled.project.cache, compiled.project.repository.git_dir)
    yield from (_Finding("problem", "sandbox", sentence) for sentence in broken)
    if not broken:
        yield _Finding("ok", "sandbox", f"{sandbox.program}, nothing gets out of it")


def _tools(compiled: Compiled) -> Iterator[_Finding]:
    versions = ToolVersions(compiled.project.cache)
    used: dict[str, str] = {}
    for ref, node in compiled.plan.nodes.items():
        for check in compiled.policy.checks_for(node.issue):
            used.setdefault(check.name, ref)
    for name, ref in sorted(used.items()):
        version = versions.version(compiled.policy.checks[name])
        if version == ABSENT:
            yield _Finding("problem", f"check {name}", f"its tool is not on PATH, needed by {ref}; it cannot pass")
        else:
            yield _Finding("ok", f"check {name}", version.splitlines()[0] if version else "no version asked")


def _journal(project: Project, name: str) -> Iterator[_Finding]:
    if is_held(project, name):
        yield _Finding("note", f"milestone {name}", "is being run now")
    try:
        events = segments.read(project.state(name))
    except StateBrokenError as error:
        yield _Finding("problem", f"journal of {name}", str(error))
        return
    yield _Finding("ok", f"journal of {name}", f"{len(events)} records")


def _state(compiled: Compiled) -> Iterator[_Finding]:
    project = compiled.project
    refs = Refs(project.repository)
    observer = observe(compiled, refs)
    for name, view in observer.views.items():
        landed = {landing.commit for landing in view.landings.values()}
        for issue, state in view.states.items():
            for attempt in state.attempts.values():
                if attempt.state is AttemptState.STARTED and not is_held(project, name):
                    text = f"attempt {attempt.number} was cut off; the next run starts a new one"
                    yield _Finding("note", f"{name}/{issue}", text)
                if (
                    attempt.state is AttemptState.LANDED
                    and attempt.revision == _revision(view, issue)
                    and attempt.commit not in landed
                ):
                    text = (
                        f"the journal says it landed as {attempt.commit[:10]}, which is not on "
                        f"{view.milestone.branch}: the branch was moved by hand; git decides, so the issue will be "
                        "done again unless you restore it"
                    )
                    yield _Finding("problem", f"{name}/{issue}", text)
        declared = {issue.id for issue in view.milestone.issues}
        for issue in sorted(set(view.landings) - declared):
            yield _Finding(
                "note", f"{name}/{issue}", "has landed but is no longer declared; its work stays on the branch"
            )
    stray = [kept.ref for kept in refs.kept(ATTEMPTS) if kept.ref.split("/")[2] not in observer.views]
    if stray:
        yield _Finding(
            "note", "attempts", f"{len(stray)} refs of milestones that are not declared, for example {stray[0]}"
        )


def _revision(view: Any, issue: str) -> int:
    """The revision that the journal's latest landing had; an older one need not be a tip's."""
    state = view.states[issue]
    return max((item.revision for item in state.attempts.values() if item.state is AttemptState.LANDED), default=0)
