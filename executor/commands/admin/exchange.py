"""Milestones in the formats of other tools.

`doit import PLAN.md`: convert other plan formats to declarations; a repeated import takes over only changes.

`doit export m4 --format markdown`: a milestone for other people and tools; never the source of truth.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from executor.commands.base import JSON_OPTION, Command, Options, Output, meant_milestone, option, print_json, safe
from executor.config.load_milestones import load
from executor.config.load_rules import load_policy
from executor.config.project import Project, compile_project, open_project, prepare_cache
from executor.errors import DeclarationError, UsageError
from executor.git.command import find_repository
from executor.git.refs import Refs
from executor.importers.draft import grouped
from executor.importers.importer import chosen, guide_text, installed
from executor.importers.merge import Tree, resolve_commit, settle, take_as_landed, tests_among
from executor.importers.plan_files import Options as Wanted
from executor.importers.plan_files import Planned
from executor.importers.source import Disk, Source
from executor.model.fingerprint import IssueRef
from executor.model.hints import Known, counted, quoted
from executor.model.milestone import PLAIN_ID
from executor.process.files import write_over
from executor.report.tracking import FORMATS, exported, keep_section
from executor.status.reader import observe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from executor.forge.base import Forge
    from executor.model.policy import Policy

__all__ = ["Export", "Import"]


class Import(Command):
    """Writes milestones/<id>.toml and a spec for each issue."""

    name = "import"
    has_files = True
    doc_purpose = "write milestones from plans in other formats; a second import takes over only changes"
    doc_usage = "FILE|FOLDER ... | --milestone TITLE | --formats"
    cmd_options = (
        option("format", "format of the files (default: detected; --formats lists them)"),
        option("formats", "show each format: an example, how its parts are imported, what is left out", bool),
        option("id", "id of the milestone (default: from the plan)"),
        option("agent", "agent of its issues, or several separated by commas, written to [defaults]"),
        option("milestone", "read the issues of this milestone from the forge instead of files"),
        option("tag", "import only the plan with this tag or milestone from a file with several"),
        option("split", "create an issue for each smallest task if the format groups tasks", bool),
        option("encoding", "encoding of the files (default: detected, or else UTF-8)"),
        option("dry_run", "show what would change and write nothing", bool),
        option("overwrite", "where you and the plan changed the same value, use the plan's", bool),
        option("moved", "the plan is the same as before, in a new place", bool),
        option(
            "trust", "also import values that weaken the judge: types, files over tests, allow, checks, commands", bool
        ),
        option("skip_unknown_needs", "leave out needs for unknown issues", bool),
        option("done_as_landed", "count issues that the plan calls done as landed with this commit"),
        JSON_OPTION,
    )

    def run(self, options: Options, arguments: list[str]) -> int:
        """Read everything first; write only without faults."""
        if options["formats"]:
            return _formats(options["format"] or (arguments[0] if arguments else ""))
        _usage(options, arguments)
        project = _project()
        plans, policy = _plans(project, options, arguments)
        if faults := settle(project, plans, policy):
            raise DeclarationError(faults)
        dry = options["dry_run"]
        commit = resolve_commit(project, options["done_as_landed"]) if options["done_as_landed"] else ""
        for plan in plans if commit else ():
            if plan.draft_faults and plan.done():
                raise UsageError(f"--done-as-landed: {plan.id} would be a draft: {plan.draft_faults[0]}")
        results = []
        for plan in plans:
            changed = plan.changed()
            lines = plan.difference() if dry else []
            if not dry:
                plan.write()
            landed = (
                [] if dry or not (commit and plan.done()) else take_as_landed(project, plan.id, plan.done(), commit)
            )
            results.append({"landed": landed, **_report_data(plan, changed, dry=dry)})
            lines += _report_lines(plan, changed, dry=dry)
            lines += [f"counted as landed with {commit[:10]}: {', '.join(landed)}"] if landed else []
            if not options["json"]:
                sys.stdout.write("".join(f"{safe(line)}\n" for line in lines))
        if options["json"]:
            print_json({"milestones": results})
        return 0


def _usage(options: Options, arguments: list[str]) -> None:
    title = str(options["milestone"])
    if title and (arguments or options["format"] not in {"", "github"}):
        raise UsageError("--milestone reads from the forge; omit files and --format")
    if options["id"] and not PLAIN_ID.fullmatch(options["id"]):
        raise UsageError(f'--id: expected letters, digits, dots, dashes and underscores, found "{options["id"]}"')
    if not title and not arguments:
        raise UsageError("name at least one file, for example `doit import docs/M4_workers.md`")


def _project() -> Project:
    """Find the project of the working directory: the nearest parent folder with milestones/, rules/ or dodo.py."""
    here = Path.cwd().resolve()
    repository = find_repository(here)
    for folder in (here, *here.parents):
        if any((folder / name).exists() for name in ("milestones", "dodo.py")) or (folder / "rules").is_dir():
            return Project(folder, repository)
        if folder == repository.top:
            break
    return Project(repository.top, repository)


def _formats(name: str) -> int:
    shown = [chosen(Source(name, ""), name)] if name else list(installed().values())
    sys.stdout.write("\n".join(guide_text(importer) for importer in shown))
    return 0


def _plans(project: Project, options: Options, arguments: list[str]) -> tuple[list[Planned], Policy | None]:
    """Return the requested plans, resolved against each other and the declarations."""
    if project.milestones.exists() and not project.milestones.is_dir():
        raise UsageError(
            f"{project.milestones.name} is a file; remove it: milestones are declared in a folder of that name"
        )
    disk = Disk(project, encoding=options["encoding"], part=options["tag"], split=options["split"])
    title = str(options["milestone"])
    sources = [_from_forge(project, title)] if title else disk.sources(arguments, options["format"])
    if options["id"] and len(sources) > 1:
        raise UsageError("--id names one milestone; import one plan at a time")
    policy = _policy(project)
    wanted = _options(options, policy, form="github" if title else options["format"])
    tree = Tree(tests_among(disk.tracked()), disk.ignored)
    plans = [Planned(project, source, wanted, policy=policy, tree=tree) for source in sources]
    ids = [plan.id for plan in plans if plan.id]
    if len(set(ids)) < len(ids):
        raise UsageError(f"several of these files are milestone {max(ids, key=ids.count)}; import them with --id")
    _resolve(project, plans)
    return plans, policy


def _options(options: Options, policy: Policy | None, form: str) -> Wanted:
    agents = tuple(name.strip() for name in options["agent"].split(",") if name.strip())
    for name in agents:
        if policy is not None and name not in policy.agents:
            raise UsageError(f"unknown agent {quoted(name)}{Known(policy.agents).advice(name, 'agents')}")
    return Wanted(
        form=form,
        wanted=options["id"],
        agents=agents,
        overwrite=options["overwrite"],
        trusted=options["trust"],
        skip_unknown=options["skip_unknown_needs"],
        moved=options["moved"],
    )


def _policy(project: Project) -> Policy | None:
    """Return the rules; None if they are faulty, which other commands report."""
    try:
        return load_policy(project.rules)
    except DeclarationError:
        return None


def _resolve(project: Project, plans: list[Planned]) -> None:
    """Resolve each plan against the others.

    Raises:
        DeclarationError: with the reasons why they cannot be imported.
    """
    declared = load(project.milestones)
    issues: dict[str, dict[str, str]] = {
        name: {issue.id: str(IssueRef(name, issue.id)) for issue in milestone.issues}
        for name, milestone in declared.milestones.items()
    }
    issues |= {plan.id: {issue.id: f"{plan.id}/{issue.id}" for issue in plan.draft.issues} for plan in plans}
    elsewhere = {plan.id: _elsewhere(issues, plan.id) for plan in plans}
    faults = [fault for plan in plans for fault in plan.own_faults(elsewhere[plan.id])]
    if faults:
        raise DeclarationError(faults)
    branches = set(Refs(project.repository).branches())
    for plan in plans:
        plan.plan(elsewhere[plan.id], {*issues}, branches)


def _elsewhere(issues: dict[str, dict[str, str]], own: str) -> dict[str, str]:
    """Return issues of other milestones by their bare id, if that id is unique."""
    found: dict[str, list[str]] = {}
    for name, refs in issues.items():
        for issue, ref in refs.items() if name != own else ():
            found.setdefault(issue, []).append(ref)
    return {issue: refs[0] for issue, refs in found.items() if len(refs) == 1} | {
        ref: ref for refs in found.values() for ref in refs
    }


def _from_forge(project: Project, title: str) -> Source:
    """Return the issues of a forge milestone, in the forge's list format.

    Raises:
        UsageError: no forge with issues is declared, or the milestone has none.
        ForgeRefusedError: the forge has no such milestone.
    """
    found = [
        {
            "number": item.number,
            "title": item.title,
            "body": item.body,
            "state": item.state,
            "labels": item.labels,
            "blocked_by": item.needs,
            "milestone": {"title": title},
        }
        for item in _forge(project).issues(title)
    ]
    if not found:
        raise UsageError(f'milestone "{title}" of the forge has no issues')
    return Source(f"forge milestone {title}", json.dumps(found))


def _forge(project: Project) -> Forge:
    """Connect to the declared forge without reading milestones/, which may need repair."""
    from executor.forge.connect import Target, connected
    from executor.forge.hosts.credentials import find_token
    from executor.git.remote import Remote

    rules = load_policy(project.rules).forge
    if rules.kind == "local":
        raise UsageError("--milestone reads from a forge; declare its kind in rules/forge.toml")
    prepare_cache(project)
    token = find_token(rules)
    address = Remote(project.repository, rules.pushes_to, token).url if rules.pushes_to is not None else ""
    return connected(Target(rules, address, token, project.cache / "_forge"))


_SHOWN_ISSUES = 4  # names in a sentence


def _report_lines(plan: Planned, changed: Sequence[str], *, dry: bool) -> list[str]:
    """Report the actual or possible import, line by line."""
    shown = ", ".join(changed[:_SHOWN_ISSUES]) + (
        f" and {len(changed) - _SHOWN_ISSUES} more" if len(changed) > _SHOWN_ISSUES else ""
    )
    what = f"{'would write' if dry else 'wrote'} {shown}" if changed else "nothing changed"
    lines = [f"{plan.id}: {counted(len(plan.draft.issues), 'issue')} in {plan.name} ({plan.format}); {what}"]
    lines += (
        f"kept your value: {key} was changed here and in {plan.name}; --overwrite uses the plan's"
        for key in plan.found.kept
    )
    lines += (f"left alone: {name} is no longer in {plan.name}" for name in plan.found.gone)
    lines += (f"note: {line}" for line in grouped(plan.notes, plan.name))
    if plan.draft_faults:
        first = str(plan.draft_faults[0])
        more = f" (and {len(plan.draft_faults) - 1} more)" if len(plan.draft_faults) > 1 else ""
        agent = ", or import it with --agent NAME" if "no agent" in first else ""
        then = f"until then {plan.id} is a draft and does not affect other milestones"
        lines.append(f"before it can run: {first}{more}{agent}; {then}")
    else:
        lines.append(f"next: doit plan {plan.id}")
    return lines


def _report_data(plan: Planned, changed: Sequence[str], *, dry: bool) -> dict[str, object]:
    """Return the report as data."""
    account = Counter[str]()
    for own in plan.draft.accounts:
        account.update(own.counts())
    return {
        "id": plan.id,
        "source": plan.name,
        "format": plan.format,
        "issues": [issue.id for issue in plan.draft.issues],
        "done": plan.done(),
        "wrote": [] if dry else list(changed),
        "would_write": list(changed) if dry else [],
        "kept": plan.found.kept,
        "gone": plan.found.gone,
        "draft": [str(fault) for fault in plan.draft_faults],
        "notes": [
            {"line": note.line, "kind": note.kind or note.text, "text": note.text, "file": note.file}
            for note in plan.notes
        ],
        "account": dict(account),
    }


class Export(Command):
    """Prints or writes a milestone in another format."""

    name = "export"
    has_files = True
    output = Output.VIEW
    doc_purpose = "export a milestone and its status (markdown between marks in a file, json, github, csv)"
    doc_usage = "MILESTONE"
    cmd_options = (
        option("format", f"{', '.join(FORMATS)} (default: markdown)", default="markdown"),
        option("output", "file to write; in a Markdown file, only the section between the milestone's marks"),
    )

    def run(self, options: Options, arguments: list[str]) -> int:
        """Print the export, or write it to a file."""
        form = options["format"]
        if form not in FORMATS:
            raise UsageError(f'unknown format "{form}"{Known(FORMATS).advice(form, "formats")}')
        output = Path(options["output"]) if options["output"] else None
        if output is not None and (output.is_dir() or not output.resolve().parent.is_dir()):
            what = "is a folder" if output.is_dir() else "is in a folder that does not exist"
            raise UsageError(f"--output {options['output']} {what}; name a file")
        project = open_project()
        compiled = compile_project(project)
        name = meant_milestone(compiled, arguments, "export")
        observer = observe(compiled, Refs(project.repository))
        if not options["output"]:
            sys.stdout.write(exported(observer, name, form))
        elif form == "markdown":
            changed = keep_section(Path(options["output"]), observer, name)
            sys.stdout.write(
                f"{options['output']}: {'wrote' if changed else 'nothing changed in'} the section of {name}\n"
            )
        else:
            write_over(Path(options["output"]), exported(observer, name, form).encode())
            sys.stdout.write(f"wrote {options['output']}\n")
        return 0
