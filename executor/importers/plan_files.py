"""Converts a plan to a declaration: its identity, the resulting files, and the report."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from executor.config.edit_toml import edited_plan
from executor.config.load_milestones import TomlError, read_toml
from executor.errors import DeclarationError, Fault
from executor.importers.draft import (
    Draft,
    DraftIssue,
    Notes,
    draft_faults,
    listed,
    slug,
    unknown_needs,
)
from executor.importers.importer import chosen
from executor.importers.merge import MISSING, OWN_FORMATS, Merged, Side, Tree, merged, remembered_after, reviewed
from executor.importers.source import text_of
from executor.model.fingerprint import digest
from executor.model.milestone import default_branch
from executor.process.files import read_json, write_over

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from executor.config.project import Project
    from executor.importers.source import Source
    from executor.model.policy import Policy

__all__ = ["Options", "Planned", "source_key"]

_VERSION = 2  # of the table that an import leaves; raised whenever it changes
_ORDER = ("title", "type", "priority", "size", "number", "phase", "needs", "spec", "files", "accept")


@dataclass(frozen=True, slots=True)
class Options:
    """The options of an import.

    Attributes:
        form: the name of the format; empty to detect it.
        wanted: the id of the milestone; empty to use the plan's.
        agents: agents for ``[defaults]``.
        overwrite: use the plan's value if both sides changed.
        trusted: accept parts that weaken the checks.
        skip_unknown: omit unknown needs.
        moved: the plan is the earlier imported one, at another place.
    """

    form: str = ""
    wanted: str = ""
    agents: tuple[str, ...] = ()
    overwrite: bool = False
    trusted: bool = False
    skip_unknown: bool = False
    moved: bool = False


@dataclass(slots=True)
class _Known:
    """The existing declaration: the document, the paths of the specs, the values by owner, the import record."""

    document: dict[str, object]
    specs: dict[str, Path | None]
    now: Side
    memory: dict[str, object]

    @property
    def last(self) -> dict[str, dict[str, str]]:
        found = self.memory.get("values", {})
        return found if isinstance(found, dict) else {}


class Planned:
    """A plan during its conversion to a declaration."""

    def __init__(
        self, project: Project, source: Source, options: Options, *, policy: Policy | None, tree: Tree
    ) -> None:
        importer = chosen(source, options.form)
        draft = importer.read(source)
        found = reviewed(
            draft, policy, tree, trusted=options.trusted, own=importer.name in OWN_FORMATS and _exported(source)
        )
        self.format = importer.name
        self.name = source.name
        self.draft: Draft = found.draft
        self.notes = Notes((*draft.notes, *found.notes))
        for account in draft.accounts:
            self.notes += account.notes()
        self.id = options.wanted or draft.id
        self.file = project.milestones / f"{self.id}.toml"
        self.files: dict[Path, str] = {}
        self.draft_faults: list[Fault] = []
        self.found = Merged()
        self._project = project
        self._source = source
        self._options = options
        self._memory_file = project.milestones / self.id / "import.json"

    @property
    def text(self) -> str:
        """The resulting declaration."""
        return self.files[self.file]

    def own_faults(self, elsewhere: Mapping[str, str]) -> Iterator[Fault]:
        """Yield the faults that prevent the import; nothing may be written then."""
        if not self.id and not self.draft.faults:
            text = "expected a milestone id in the title, such as `M4 - Worker settings`; name one with --id"
            yield Fault(self.name, "", text)
        yield from draft_faults(self.draft, self.name, elsewhere, skip_unknown=self._options.skip_unknown)
        if self.id:
            yield from self._clash()

    def _clash(self) -> Iterator[Fault]:
        """Return faults if the milestone of this id comes from another plan."""
        declared = (path.stem for path in self._project.milestones.glob("*.toml"))
        other = next((name for name in declared if name.casefold() == self.id.casefold()), "")
        if other and other != self.id:
            text = f'the id "{self.id}" differs from the milestone "{other}" only in case; give another --id'
            yield Fault(self.name, "", text)
        memory = read_json(self._memory_file)
        before = str(memory.get("source") or "") if isinstance(memory, dict) else ""
        here = source_key(self._source)
        if not before or not self.file.exists() or self._options.moved or before in {here, self.name}:
            return
        if isinstance(memory, dict) and memory.get("content") == _content(self._source):
            self.notes.add(0, f"the plan moved: it was imported from {before} before")
            return
        yield Fault(
            self.name,
            "",
            f"the milestone {self.id} was imported from {before}, which is another plan; "
            "give this one another --id, or --moved if it is the same plan in a new place",
        )

    def plan(self, elsewhere: Mapping[str, str], milestones: set[str], branches: set[str]) -> None:
        """Determine the files of the milestone.

        Args:
            elsewhere: ids of issues of other milestones -> their qualified ids.
            milestones: ids of milestones that are declared, or planned together with this one.
            branches: the branches of the repository.
        """
        text = text_of(self.file) or ""
        known = self._known(text)
        new = self._new(known, elsewhere, milestones)
        self.found = merged(known.last, known.now, new, overwrite=self._options.overwrite)
        self._missing_again(known, new)
        self._keep_branch(known, branches)
        head, issues = self._changes(known)
        if not text:
            head = {"id": self.id, **head}
        phases = self._phases(known)
        agents = list(self._options.agents)
        defaults = {"agent": agents[0] if len(agents) == 1 else agents} if agents else {}
        self.files[self.file] = edited_plan(text, head, defaults, phases, issues, self._arranged(known))
        memory = {
            "version": _VERSION,
            "source": source_key(self._source),
            "content": _content(self._source),
            "order": [issue.id for issue in self.draft.issues],
            "values": remembered_after(known.last, new, self.found),
        }
        self.files[self._memory_file] = json.dumps(memory, indent=1, sort_keys=True) + "\n"
        if done := self.done():
            are = "is" if len(done) == 1 else "are"
            text = f"the plan says that {', '.join(done)} {are} done; what has landed is read from git"
            self.notes.add(0, f"{text}. To count them as landed: --done-as-landed COMMIT")

    def make_draft(self, faults: Sequence[Fault]) -> None:
        """Write the milestone as a draft because of some faults."""
        self.draft_faults = list(faults)
        if not re.search(r"^draft = true$", self.text, re.MULTILINE):
            self.files[self.file] = edited_plan(self.text, {"draft": True}, {}, (), {})

    def write(self) -> None:
        """Write the changed files; the declaration last, so it never names a missing file."""
        for path, text in sorted(self.files.items(), key=lambda item: item[0] == self.file):
            if text_of(path) != text:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_over(path, text.encode())

    def changed(self) -> list[str]:
        """Return the changed files, relative to the project."""
        root = self._project.root
        return [
            str(path.relative_to(root))
            for path, text in self.files.items()
            if text_of(path) != text and path != self._memory_file
        ]

    def difference(self) -> list[str]:
        """Return the changes as a unified diff."""
        lines: list[str] = []
        for name in self.changed():
            path = self._project.root / name
            old, new = (text_of(path) or "").splitlines(), self.files[path].splitlines()
            lines += difflib.unified_diff(old, new, name, name, lineterm="")
        return lines

    def done(self) -> list[str]:
        """Return the issues that the plan marks as done."""
        return [issue.id for issue in self.draft.issues if issue.done]

    def _known(self, text: str) -> _Known:
        """Return the declaration, and the paths of its issues' specs (None: in the declaration)."""
        document = _declared(self.file) if text else {}
        milestones = self._project.milestones
        specs: dict[str, Path | None] = {}
        now: Side = {}
        if document:
            now[""] = dict(_table(document.get("milestone")))
            epic = now[""].get("epic")
            if epic:
                now[""]["epic_text"] = text_of(milestones / str(epic)) or ""
            if self._overview in listed(now[""], "context"):
                now[""]["overview_text"] = text_of(self._project.root / self._overview) or ""
        for table in map(_table, listed(document, "issue")):
            values = {key: value for key, value in table.items() if key not in {"id", "spec", "body"}}
            path = milestones / str(table["spec"]) if "spec" in table else None
            values["spec"] = (text_of(path) or "") if path is not None else str(table.get("body", ""))
            specs[str(table.get("id"))] = path
            now[str(table.get("id"))] = values
        memory = read_json(self._memory_file)
        return _Known(document, specs, now, memory if isinstance(memory, dict) else {})

    @property
    def _overview(self) -> str:
        return f"{self._project.milestones.name}/{self.id}/overview.md"

    def _new(self, known: _Known, elsewhere: Mapping[str, str], milestones: set[str]) -> Side:
        """Return the source in the form of a declaration."""
        draft = self.draft
        title = draft.title or str(known.now.get("", {}).get("title") or self.id)
        head: dict[str, object] = {"title": title, **draft.fields}
        after = [name for name in dict.fromkeys([*draft.after, *listed(draft.fields, "needs")]) if name != self.id]
        head.pop("needs", None)
        there = [name for name in after if name in milestones]
        if there:
            head["needs"] = there
        missing = [name for name in after if name not in milestones]
        if missing:
            text = f"the plan builds on {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not declared here; add the milestones that it waits for to `needs`"
            self.notes.add(0, text)
        if draft.epic:
            head["epic_text"] = draft.epic
        if draft.overview.strip():
            head["overview_text"] = draft.overview
            head["context"] = [*listed(head, "context"), self._overview]
            count = sum(bool(line.strip()) for line in draft.overview.split("\n"))
            said = f"{count} lines of the plan that belong to no issue are kept in {self._overview}, which is read for every issue"
            self.notes.add(0, said)
        own = {issue.id for issue in draft.issues}
        new: Side = {"": head}
        for issue in draft.issues:
            new[issue.id] = self._values(issue, own, elsewhere)
        return new

    def _values(self, issue: DraftIssue, own: set[str], elsewhere: Mapping[str, str]) -> dict[str, object]:
        values: dict[str, object] = {"title": issue.title, **issue.fields, "spec": issue.text}
        unknown = unknown_needs(issue, dict.fromkeys(own, 0), elsewhere)
        needs = [*listed(values, "needs"), *issue.outside]
        values.pop("needs", None)
        if issue.id in needs:
            self.notes.add(
                issue.line, f"{issue.id} depends on itself; this need was left out", "issues that depend on themselves"
            )
        if unknown:
            text = f"{issue.id} needs {', '.join(unknown)}, which are not in this plan; they were left out"
            self.notes.add(issue.line, text, "needs that are not in this plan, left out")
        kept = [
            need if need in own else elsewhere.get(need, need)
            for need in needs
            if need not in unknown and need != issue.id
        ]
        if kept:
            values["needs"] = list(dict.fromkeys(kept))
        return values

    def _missing_again(self, known: _Known, new: Side) -> None:
        """Write missing spec files again."""
        for name, path in known.specs.items():
            if path is not None and name in new and not path.exists():
                self.found.changes.setdefault(name, {})["spec"] = new[name]["spec"]
                shown = path.relative_to(self._project.root)
                text = f"{shown}, the spec of {name}, was missing and is written again"
                self.notes.add(0, text, "missing specs that are written again")

    def _keep_branch(self, known: _Known, branches: set[str]) -> None:
        """Keep the branch: neither a changed title nor a changed branch moves landed work."""
        changes = self.found.changes.get("", {})
        now = known.now.get("", {})
        if not now:
            return
        before = str(now.get("branch") or default_branch(self.id, str(now.get("title", ""))))
        if "branch" in changes and before in branches and changes["branch"] != before:
            wanted = "the default" if changes["branch"] is MISSING else changes["branch"]
            self.notes.add(
                0, f"the plan's branch is {wanted} now; {before} exists and was kept, because it has the work"
            )
            changes["branch"] = before
        elif "title" in changes and "branch" not in now and "branch" not in changes:
            changes["branch"] = before
            self.notes.add(0, f"the title changed; the branch stays {before}")

    def _changes(self, known: _Known) -> tuple[dict[str, object], dict[str, dict[str, object]]]:
        """Return the changed keys of the milestone and of each issue; texts become files."""
        head: dict[str, object] = {}
        issues: dict[str, dict[str, object]] = {}
        for owner, values in self.found.changes.items():
            plain = {key: None if value is MISSING else value for key, value in values.items()}
            if owner:
                if "spec" in plain:
                    title = str(values.get("title") or known.now.get(owner, {}).get("title", ""))
                    self._spec(owner, plain, known.specs, title)
                issues[owner] = {key: plain[key] for key in sorted(plain, key=_place)}
                continue
            epic, overview = plain.pop("epic_text", None), plain.pop("overview_text", None)
            if epic is not None:
                self.files[self._project.milestones / self.id / "epic.md"] = _ended(str(epic))
                plain["epic"] = f"{self.id}/epic.md"
            if overview is not None:
                self.files[self._project.root / self._overview] = _ended(str(overview))
            head = plain
        return head, issues

    def _spec(self, owner: str, values: dict[str, object], specs: Mapping[str, Path | None], title: str) -> None:
        """Store the text of an issue: in its file, its `body`, or a new file."""
        text = _ended(str(values.pop("spec")))
        if owner in specs:
            place = specs[owner]
            if place is None:
                values["body"] = text
                return
        else:
            name = "-".join(part for part in (owner, slug(title)) if part)
            place = self._project.milestones / self.id / f"{name}.md"
            values["spec"] = f"{self.id}/{name}.md"
        self.files[place] = text

    def _phases(self, known: _Known) -> list[dict[str, str]]:
        there = {_table(table).get("name") for table in listed(known.document, "phase")}
        return [
            {"name": name} | ({"goal": goal} if goal else {}) for name, goal in self.draft.phases if name not in there
        ]

    def _arranged(self, known: _Known) -> list[str]:
        """Return the order of the plan, unless a person changed the order of the declaration."""
        before = [name for name in listed(known.memory, "order") if name in known.specs]
        here = [name for name in known.specs if name in before]
        order = [issue.id for issue in self.draft.issues]
        if before and here != before:
            self.notes.add(0, "your order of the issues was kept")
            return []
        return order


def source_key(source: Source) -> str:
    """Return the identity of a source: its path from the project's root, or its address."""
    if source.name.startswith("forge milestone "):
        return source.name
    base = Path(source.name.rstrip("/")).name
    if source.files and not source.name.endswith(base + ".md"):
        return source.place.rstrip("/") or base
    return f"{source.place}{base}"


def _content(source: Source) -> str:
    texts = [source.text] if not source.files else [source.beside(name) or "" for name in source.files]
    return digest("\0".join(texts).encode())[len("sha256:") :][:16]


def _exported(source: Source) -> bool:
    """Return whether a file is an export of the executor."""
    return '"format": "make-for-milestones/' in source.text[:400] or source.text.startswith(
        "id,title,type,priority,size,needs,files,accept,number,phase"
    )


def _table(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _place(key: str) -> int:
    """Return the position of a key in a new table."""
    return _ORDER.index(key) if key in _ORDER else len(_ORDER)


def _declared(path: Path) -> dict[str, object]:
    try:
        return read_toml(path)
    except TomlError as error:
        raise DeclarationError([Fault(f"milestones/{path.name}", "", f"{error}; correct it first")]) from error


def _ended(text: str) -> str:
    return text if text.endswith("\n") else text + "\n"
