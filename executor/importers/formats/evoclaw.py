"""Stories of BMAD, work packages of spec-kitty, and the folder of a repository of the EvoClaw benchmark. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from executor.errors import Fault
from executor.importers.draft import Draft, DraftIssue, listed, slug
from executor.importers.importer import guide_of
from executor.importers.reading.fields import fields_of
from executor.importers.reading.markdown import document, flat, plain
from executor.importers.reading.places import PlaceError, table_rows
from executor.importers.reading.records import Reading, draft_of, needs_of
from executor.importers.reading.words import status_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from executor.importers.source import Source


from executor.importers.formats.folders import ASIDE, TaskFile, files_of, finish, read_files

__all__ = ["EvoClaw", "SpecKitty", "Stories"]

_EDGE = frozenset({"source_id", "target_id", "source_title", "target_title"})
_STATUS_AFTER = re.compile(r"^Status:\s*(.+)$", re.MULTILINE)


class Stories:
    """A story of BMAD, or a folder of them: an issue for each ``# Story 1.2: Title``."""

    name = "story"
    guide = guide_of("story")

    def recognises(self, source: Source) -> int:
        """Return the confidence that a source has this format, 0 to 100."""
        texts = (
            [source.beside(path) or "" for path in list(files_of(source, r"^\d+[-.]\d+.*\.md$"))[:2]]
            if source.files
            else [source.text]
        )
        return 78 if any(re.search(r"^# Story \d+\.\d+", text, re.MULTILINE) for text in texts) else 0

    def read(self, source: Source) -> Draft:
        """The milestone of the stories."""
        reading = Reading(source)
        accounts = []
        named = (
            [(path, source.beside(path) or "") for path in files_of(source, r"\.md$")]
            if source.files
            else [("", source.text)]
        )
        for path, text in named:
            doc = document(text, file=path)
            match = next(
                (
                    hit
                    for part in doc.sections
                    if (hit := re.match(r"^Story\s+(\d+)\.(\d+[a-z]?)\s*[:–—-]*\s*(.*)$", plain(part.title)))
                ),
                None,
            )
            if match is None:
                reading.notes.add(0, f"{path or source.name} is not a story and was not read")
                continue
            status = _STATUS_AFTER.search(text)
            name = f"{match[1]}-{match[2]}"
            state = status_of(status[1]) if status else ""
            own = fields_of(doc.sections, name)
            doc.account.take(range(1, len(doc.account.lines) + 1))
            accounts.append(doc.account)
            fields = {"accept": own.values["accept"]} if own.values.get("accept") else {}
            reading.issues.append(
                DraftIssue(name, match[3] or f"Story {name}", text.strip("\n"), 1, fields, state == "done", "")
            )
        from dataclasses import replace

        return replace(
            draft_of(reading, slug(source.folder) or "stories", "", {}, whole=False), accounts=tuple(accounts)
        )


class EvoClaw:
    """A workspace of the EvoClaw benchmark: ``milestones.csv``, ``dependencies.csv``, ``srs/ID/SRS.md``."""

    name = "evoclaw"
    guide = guide_of("evoclaw")

    def recognises(self, source: Source) -> int:
        """Return the confidence that a source has this format, 0 to 100."""
        return 95 if {"milestones.csv", "dependencies.csv"} <= set(source.files) else 0

    def read(self, source: Source) -> Draft:
        """Return the milestone of a workspace, whose milestones become issues."""
        reading = Reading(source)
        rows = _table(source, "milestones.csv", reading)
        chosen = _ids(source, "selected_milestone_ids.txt")
        ungraded = _ids(source, "non-graded_milestone_ids.txt")
        needs = _edges(source, reading, {row.get("id", "").strip() for _, row in rows})
        if ungraded:
            reading.notes.add(
                0, f"milestones that are not graded are imported like the others: {', '.join(sorted(ungraded))}"
            )
        for line, row in rows:
            name = row.get("id", "").strip()
            if chosen and name not in chosen:
                reading.gone[name] = "not selected"
                reading.notes.add(
                    line,
                    f"{name} is not in selected_milestone_ids.txt and was left out",
                    "unselected milestones, left out",
                    "milestones.csv",
                )
                continue
            _work(name, row, line, [need for need in needs.get(name, ()) if need], source, reading)
        return draft_of(reading, slug(source.folder, 60), "", {})


def _ids(source: Source, name: str) -> set[str]:
    return {line.strip() for line in (source.beside(name) or "").split("\n") if line.strip()}


def _edges(source: Source, reading: Reading, known: set[str]) -> dict[str, list[str]]:
    """Return the needs of each milestone; keys that mean nothing here and unknown milestones are noted."""
    weak = 0
    needs: dict[str, list[str]] = {}
    for name in ("dependencies.csv", "additional_dependencies.csv"):
        for _, row in _table(source, name, reading) if name in source.files else ():
            weak += "weak" in " ".join(row.values()).casefold()
            more = {key: value for key, value in row.items() if key not in _EDGE and value.strip()}
            if more:
                said = ", ".join(f"{key}: {value}" for key, value in more.items())
                reading.notes.add(0, f"not imported: {said}", f"not imported: {', '.join(more)}", name)
            needs.setdefault(row.get("target_id", ""), []).append(row.get("source_id", ""))
    if weak:
        reading.notes.add(0, f"{weak} weak dependencies were imported like strong ones", file="dependencies.csv")
    strange = sorted({name for target, sources in needs.items() for name in (target, *sources) if name not in known})
    if strange:
        text = f"dependencies of milestones that are not in milestones.csv were left out: {', '.join(strange)}"
        reading.notes.add(0, text, file="dependencies.csv")
    return {target: [name for name in sources if name in known] for target, sources in needs.items()}


def _table(source: Source, name: str, reading: Reading) -> list[tuple[int, dict[str, str]]]:
    try:
        header, rows, _ = table_rows(source.beside(name) or "")
    except PlaceError as error:
        reading.faults.append(Fault(f"{source.name}/{name}", f"line {error.line}", str(error)))
        return []
    return [(line, dict(zip([column.casefold() for column in header], row, strict=False))) for line, row in rows]


def _work(name: str, row: Mapping[str, str], line: int, needs: list[str], source: Source, reading: Reading) -> None:
    text = source.beside(f"srs/{name}/SRS.md")
    title = flat(row.get("title") or row.get("name") or "")
    if text is None:
        reading.notes.add(
            line, f"{name}: srs/{name}/SRS.md was not found; write its spec", "specs that were not found; write them"
        )
        text = "\n".join(f"- {key}: {value}" for key, value in row.items() if value.strip())
    title = title or document(text).title() or name.replace("_", " ")
    fields: dict[str, object] = {"needs": needs} if needs else {}
    more = {key: value for key, value in row.items() if key not in {"id", "title", "name"} and value.strip()}
    if more:
        said = ", ".join(f"{key}: {value}" for key, value in more.items())
        reading.notes.add(line, f"not imported: {said}", f"not imported: {', '.join(more)}", "milestones.csv")
    tests = [path for path in source.files if path.startswith(f"test_results/{name}/")]
    if tests:
        reading.notes.add(
            line,
            f"{name}: its lists of tests ({', '.join(tests)}) were not imported; declare the command that runs them as acceptance",
            "lists of tests that were not imported",
            "milestones.csv",
        )
    reading.issues.append(DraftIssue(name, title, text.strip("\n"), line, fields))


class SpecKitty:
    """``kitty-specs/NAME/tasks/WP01-*.md``: one issue per work package."""

    name = "speckitty"
    guide = guide_of("speckitty")

    def recognises(self, source: Source) -> int:
        """Return the confidence that a source has this format, 0 to 100."""
        return 84 if any(re.search(r"(?:^|/)WP\d+[^/]*\.md$", path) for path in source.files) else 0

    def read(self, source: Source) -> Draft:
        """The milestone of a mission."""
        reading = Reading(source)
        folder = read_files(
            source, reading, r"(?:^|/)WP\d+[^/]*\.md$", needs=("work_package_id", "title", "lane", "subtasks")
        )
        for file in folder.files:
            _package(file, reading)
        parts = [part for part in source.name.rstrip("/").split("/") if part not in {"tasks", "", "."}]
        wanted = slug(parts[-1] if parts else "", 60)
        return finish(folder, "work packages", wanted, (parts[-1] if parts else "").replace("-", " "), {}, whole=False)


def _package(file: TaskFile, reading: Reading) -> None:
    front = file.front
    named = re.search(r"WP\d+", file.path)
    said = front.text("work_package_id")
    # Later versions keep a unique id there; the others still need the package by the number in its file's name.
    name = said if re.fullmatch(r"WP\d+", said) or not named else named[0]
    title = flat(front.text("title")) or re.sub(r"^.*?WP\d+\s*[:–—-]\s*", "", file.doc.title()) or name
    status = front.text("lane") or front.text("status")
    word = status.replace("for_review", "in review").replace("doing", "in progress").replace("planned", "")
    standing = reading.standing(name, word, 0, file.path)
    if standing is None:
        front.plain()
        return
    front.pass_over(
        *ASIDE, "work_package_id", "id", "wp_code", "mission_id", "feature", "agent", "requirement_refs", "priority"
    )
    own = fields_of(file.doc.sections, name)
    checks = [
        flat(item.text)
        for part in file.doc.sections
        if re.search(r"definition of done", part.title, re.IGNORECASE)
        for item in part.every_item()
    ]
    fields: dict[str, object] = {
        "needs": needs_of(front.words("dependencies", "depends_on")),
        "files": front.words("owned_files"),
    }
    fields["accept"] = list(dict.fromkeys([*listed(own.values, "accept"), *checks]))
    fields["phase"] = front.text("phase")
    text = file.body or f"# {title}"
    reading.add(name, title, text, 0, fields, standing)
