"""A plan of another format on its way into a declaration: what its files become, told, shown and written."""

from __future__ import annotations

import difflib
import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from executor.config.edit_toml import edited_plan
from executor.config.load_milestones import MOST_BYTES, TomlError, load, read_toml
from executor.config.load_rules import load_policy, policy_faults
from executor.config.milestone_file import read_milestone
from executor.errors import DeclarationError, Fault, UsageError
from executor.importers.draft import Source, draft_faults, slug
from executor.importers.formats import read
from executor.importers.merge import MISSING, Merged, Side, merged, remembered_after
from executor.process.files import read_json, write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from executor.config.project import Project

__all__ = ["Planned", "source_of"]

_VERSION = 1
_ORDER = ("title", "type", "priority", "size", "number", "phase", "needs", "spec", "files", "accept")


class Planned:
    """One plan on its way into one declaration."""

    def __init__(
        self,
        project: Project,
        source: Source,
        *,
        form: str = "",
        wanted: str = "",
        agent: str = "",
        overwrite: bool = False,
    ) -> None:
        self._project = project
        self._name = source.name
        self._agent = agent
        self._draft = read(source, form)
        self.id = wanted or self._draft.id
        self._file = project.milestones / f"{self.id}.toml"
        self._elsewhere = _elsewhere(project, self.id)
        self._memory = project.milestones / self.id / "import.json"
        if self.id and not list(self._own_faults()):
            self._plan(overwrite=overwrite)

    def faults(self) -> list[Fault]:
        """Everything wrong with it; nothing may be written then."""
        found = list(self._own_faults())
        if found:
            return found
        text = self._files[self._file]
        read_back = read_milestone(tomllib.loads(text), f"milestones/{self._file.name}", self.id)
        return read_back.faults

    def write(self) -> list[str]:
        """Write what changed and say what that was."""
        told = self.told(diff=False)
        for path, text in self._files.items():
            if _text_of(path) != text:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(path, text.encode(), durable=False, mode=0o644)
        return told

    def told(self, *, diff: bool = True) -> list[str]:
        """What is, or would be, changed, line by line."""
        root = self._project.root
        changed = [path for path, text in self._files.items() if _text_of(path) != text and path != self._memory]
        lines: list[str] = []
        if diff:
            for path in changed:
                name = str(path.relative_to(root))
                old, new = (_text_of(path) or "").splitlines(), self._files[path].splitlines()
                lines += difflib.unified_diff(old, new, name, name, lineterm="")
        count = len(self._draft.issues)
        shown = ", ".join(str(path.relative_to(root)) for path in changed[:4])
        more = f" and {len(changed) - 4} more" if len(changed) > 4 else ""  # noqa: PLR2004
        what = f"{'would write' if diff else 'wrote'} {shown}{more}" if changed else "nothing changed"
        lines.append(f"{self.id}: {count} issues in {self._name}; {what}")
        lines += (
            f"kept yours: {key} was changed here and in {self._name}; --overwrite takes the plan's word"
            for key in self._found.kept
        )
        lines += (f"left as it is: {name} is no longer in {self._name}" for name in self._found.gone)
        for note in self._draft.notes:
            place = f":{note.line}" if note.line else ""
            lines.append(f"note: {self._name}{place}: {note.text}")
        return lines + self._next()

    def _next(self) -> list[str]:
        """What the rules miss in the new declaration."""
        document = tomllib.loads(self._files[self._file])
        file = f"milestones/{self._file.name}"
        milestone = read_milestone(document, file, self.id).milestone
        if milestone is None:
            return []
        try:
            missing = policy_faults({self.id: milestone}, {self.id: file}, load_policy(self._project.rules))
        except DeclarationError:
            return []
        if not missing:
            return [f"next: doit plan {self.id}"]
        first = str(missing[0])
        agent = ", or import it with --agent NAME" if "no agent" in first else ""
        return [f"before it can run: {first}{agent}"]

    def _own_faults(self) -> Iterator[Fault]:
        if not self.id:
            yield Fault(
                self._name, "", "says no milestone id (a title such as `M4 - Worker settings`); give one with --id"
            )
        yield from draft_faults(self._draft, self._name, self._elsewhere)

    def _plan(self, *, overwrite: bool) -> None:
        """What the files of this milestone become."""
        text = _text_of(self._file) or ""
        declared = _declared(self._file) if text else {}
        specs, now = self._now(declared)
        new = self._new(now)
        remembered = read_json(self._memory)
        last = remembered.get("values", {}) if isinstance(remembered, dict) else {}
        self._found: Merged = merged(last, now, new, overwrite=overwrite)
        self._files: dict[Path, str] = {}
        issues: dict[str, dict[str, Any]] = {}
        head: dict[str, Any] = {}
        for owner, values in self._found.changes.items():
            plain = {key: None if value is MISSING else value for key, value in values.items()}
            if not owner:
                epic = plain.pop("epic_text", None)
                if epic is not None:
                    self._files[self._project.milestones / self.id / "epic.md"] = _ended(str(epic))
                    plain["epic"] = f"{self.id}/epic.md"
                head = plain
                continue
            if "spec" in plain:
                self._spec(owner, plain, specs, str(values.get("title", "")))
            issues[owner] = {key: plain[key] for key in sorted(plain, key=_place)}
        if not text:
            head = {"id": self.id, **head}
        known = {table.get("name") for table in declared.get("phase", ())}
        phases = [
            {"name": name} | ({"goal": goal} if goal else {}) for name, goal in self._draft.phases if name not in known
        ]
        defaults = {"agent": self._agent} if self._agent else {}
        self._files[self._file] = edited_plan(text, head, defaults, phases, issues)
        memory = {"version": _VERSION, "source": self._name, "values": remembered_after(last, new, self._found)}
        self._files[self._memory] = json.dumps(memory, indent=1, sort_keys=True) + "\n"

    def _now(self, declared: Mapping[str, Any]) -> tuple[dict[str, Path | None], Side]:
        """What is declared, and where the specs of its issues are (None: in the declaration)."""
        specs: dict[str, Path | None] = {}
        now: Side = {}
        if declared:
            now[""] = dict(declared.get("milestone", {}))
            epic = now[""].get("epic")
            if epic:
                now[""]["epic_text"] = _text_of(self._project.milestones / str(epic)) or ""
        for table in declared.get("issue", ()):
            values = {key: value for key, value in table.items() if key not in {"id", "spec", "body"}}
            path = self._project.milestones / str(table["spec"]) if "spec" in table else None
            values["spec"] = (_text_of(path) or "") if path is not None else str(table.get("body", ""))
            specs[str(table.get("id"))] = path
            now[str(table.get("id"))] = values
        return specs, now

    def _new(self, now: Side) -> Side:
        """What the source says, in the terms of a declaration."""
        draft = self._draft
        title = draft.title or str(now.get("", {}).get("title") or self.id)
        head: dict[str, Any] = {"title": title, **draft.fields}
        if draft.epic:
            head["epic_text"] = draft.epic
        own = {issue.id for issue in draft.issues}
        new: Side = {"": head}
        for issue in draft.issues:
            values: dict[str, Any] = {"title": issue.title, **issue.fields, "spec": issue.text}
            if "needs" in values:
                values["needs"] = [need if need in own else self._elsewhere.get(need, need) for need in values["needs"]]
            new[issue.id] = values
        return new

    def _spec(self, owner: str, values: dict[str, Any], specs: dict[str, Path | None], title: str) -> None:
        """Put the text of an issue where it belongs: its file, its `body`, or a new file."""
        text = _ended(str(values.pop("spec")))
        place = specs.get(owner, MISSING)
        if place is None:
            values["body"] = text
            return
        if place is MISSING:
            name = "-".join(part for part in (owner, slug(title)) if part)
            place = self._project.milestones / self.id / f"{name}.md"
            values["spec"] = f"{self.id}/{name}.md"
        assert isinstance(place, Path)  # noqa: S101  (for the type checker)
        self._files[place] = text


def _place(key: str) -> int:
    """Where a key stands in a new table."""
    return _ORDER.index(key) if key in _ORDER else len(_ORDER)


def source_of(project: Project, name: str) -> Source:
    """A file as something to import.

    Raises:
        UsageError: it cannot be read.
    """
    path = Path(name)
    text = _text_of(path)
    if text is None:
        why = f"is no file of at most {MOST_BYTES // 2**20} MiB that can be read" if path.exists() else "does not exist"
        raise UsageError(f"{name} {why}; name a plan")
    return Source(name, text, _reader(project.root), _reader(path.parent))


def _reader(folder: Path) -> Callable[[str], str | None]:
    def inside(name: str) -> str | None:
        if name.startswith("/") or ".." in name.split("/"):
            return None
        return _text_of(folder / name)

    return inside


def _text_of(path: Path) -> str | None:
    """Content of a file; None when there is none, or when it is larger than any plan."""
    try:
        if not path.is_file() or path.stat().st_size > MOST_BYTES:
            return None
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _declared(path: Path) -> dict[str, Any]:
    try:
        return read_toml(path)
    except TomlError as error:
        raise DeclarationError([Fault(f"milestones/{path.name}", "", f"{error}; correct it first")]) from error


def _elsewhere(project: Project, own: str) -> dict[str, str]:
    """Issues of other milestones by their bare id, where that is the id of one issue only."""
    found: dict[str, list[str]] = {}
    for name, milestone in load(project.milestones).milestones.items():
        if name != own:
            for issue in milestone.issues:
                found.setdefault(issue.id, []).append(f"{name}/{issue.id}")
    return {issue: refs[0] for issue, refs in found.items() if len(refs) == 1}


def _ended(text: str) -> str:
    return text if text.endswith("\n") else text + "\n"
