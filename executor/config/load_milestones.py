"""Reads `milestones/`: bounded, robust against hostile TOML, with all faults of all files in one pass."""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from executor.config.milestone_file import read_milestone
from executor.config.texts import EncodingError, decoded, files_in
from executor.errors import ExecutorError, Fault

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from executor.model.milestone import Issue, Milestone

__all__ = ["MOST_BYTES", "Loaded", "TomlError", "load", "read_toml", "spec_encoding", "spec_text"]

MOST_BYTES = 16 * 1024 * 1024
"""Maximum size of a TOML file: 10,000 issues with a page of text each fit."""
_MOST_SPEC_BYTES = 1024 * 1024
_MOST_DOTS = 32
_TEXT_OR_COMMENT = re.compile(
    rb'"""(?:[^"\\]|\\.|"(?!""))*+(?:"""|\Z)?'
    rb"|'''(?:[^']|'(?!''))*+(?:'''|\Z)?"
    rb'|"(?:[^"\\\n]|\\.)*+"?'
    rb"|'[^'\n]*+'?"
    rb"|#[^\n]*+",
    re.DOTALL,
)
_BETWEEN_KEYS = re.compile(rb"[\n=,{}\[\]]+")


class TomlError(ValueError):
    """The file is not TOML, or is too large."""


@dataclass(slots=True)
class Loaded:
    """The declarations.

    Attributes:
        folder: `milestones/`.
        milestones: id -> milestone, in the natural order of their ids; without faulty ones.
        files: id -> path for messages.
        partial: id of a milestone -> its faulty issues without their faulty keys, with their positions.
        faulty: milestones and issue refs that exist but could not be read.
        faults: all faults.
        watched: further files that a status depends on, relative to the folder's parent.
        drafts: incomplete drafts -> their faults; they are not among the milestones.
    """

    folder: Path
    milestones: dict[str, Milestone] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    partial: dict[str, list[tuple[int, Issue]]] = field(default_factory=dict)
    faulty: set[str] = field(default_factory=set)
    faults: list[Fault] = field(default_factory=list)
    watched: list[str] = field(default_factory=list)
    drafts: dict[str, list[Fault]] = field(default_factory=dict)

    def set_aside(self, names: Collection[str], faults: Sequence[Fault]) -> None:
        """Move drafts out of the milestones, with their faults."""
        for name in names:
            file = self.files.pop(name)
            del self.milestones[name]
            self.partial.pop(name, None)
            self.drafts[name] = [fault for fault in faults if fault.file == file] or list(faults)
            self.faults = [fault for fault in self.faults if fault.file != file]
            self.faulty = {ref for ref in self.faulty if ref != name and not ref.startswith(f"{name}/")}


def load(folder: Path) -> Loaded:
    """Read every declaration in a folder; faults are part of the result."""
    loaded = Loaded(folder)
    for path in sorted(files_in(folder, ".toml"), key=lambda path: natural(path.stem)):
        file = f"{folder.name}/{path.name}"
        try:
            document = read_toml(path)
        except TomlError as error:
            loaded.faults.append(Fault(file, "", str(error)))
            loaded.faulty.add(path.stem)
            continue
        read = read_milestone(document, file, path.stem)
        loaded.faults += read.faults
        loaded.faulty |= {f"{path.stem}/{issue}" for issue in read.known}
        if read.milestone is None:
            loaded.faulty.add(path.stem)
            continue
        loaded.milestones[path.stem] = read.milestone
        loaded.files[path.stem] = file
        if read.partial:
            loaded.partial[path.stem] = read.partial
        loaded.faults += _missing_files(loaded, read.milestone, file)
    return loaded


def natural(name: str) -> list[tuple[int, str]]:
    """Return a sort key that puts m2 before m10."""
    return [(int(part) if part.isdecimal() else -1, part) for part in re.split(r"(\d+)", name)]


def read_toml(path: Path) -> dict[str, object]:
    """Parse a TOML file with the standard library, after a check for input that would crash it.

    The parser's time grows with the square of the number of parts of a key (cpython gh-149231), so a file of 200 kB
    could take all memory; files larger than `MOST_BYTES` are not read at all.

    Raises:
        TomlError: the file is invalid; the message is one line.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise TomlError(f"cannot be read: {error.strerror}") from error
    if len(data) > MOST_BYTES:
        raise TomlError(f"is larger than {MOST_BYTES // 2**20} MiB; split it into several milestones")
    try:
        text = decoded(data)
        _refuse_bombs(text.encode())
        return tomllib.loads(text)
    except EncodingError as error:
        raise TomlError(str(error)) from error
    except TomlError:
        raise
    except RecursionError as error:
        raise TomlError("is nested too deeply") from error
    except tomllib.TOMLDecodeError as error:
        raise TomlError(f"is not TOML: {error}") from error
    except ValueError as error:
        raise TomlError(f"has a value that cannot be read: {error}") from error


def spec_text(loaded: Loaded, milestone: str, issue: Issue) -> str:
    """Return the text of an issue's spec; in another encoding only its readable part (see `spec_encoding`).

    Raises:
        ExecutorError: its file vanished or became unreadable since the load.
    """
    if issue.body is not None:
        return issue.body
    data = _spec_bytes(loaded, milestone, issue)
    try:
        return decoded(data)
    except EncodingError:
        return data.decode("utf-8", "replace")


def spec_encoding(loaded: Loaded, milestone: str, issue: Issue) -> str:
    """Return why an issue's spec cannot be decoded; empty if it can.

    Raises:
        ExecutorError: its file vanished or became unreadable since the load.
    """
    if issue.body is not None:
        return ""
    try:
        decoded(_spec_bytes(loaded, milestone, issue))
    except EncodingError as error:
        return f"{loaded.folder.name}/{issue.spec} {error}"
    return ""


def _spec_bytes(loaded: Loaded, milestone: str, issue: Issue) -> bytes:
    path = loaded.folder / str(issue.spec)
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_SPEC_BYTES + 1)
    except OSError as error:
        raise ExecutorError(
            f"{loaded.folder.name}/{issue.spec}, the spec of {milestone}/{issue.id}, cannot be read: {error.strerror}"
        ) from error
    if len(data) > _MOST_SPEC_BYTES:
        raise ExecutorError(
            f"{loaded.folder.name}/{issue.spec}, the spec of {milestone}/{issue.id}, is larger than 1 MiB; shorten it"
        )
    return data


def _refuse_bombs(data: bytes) -> None:
    if all(line.count(b".") <= _MOST_DOTS for line in data.splitlines()):
        return
    bare = _TEXT_OR_COMMENT.sub(b'""', data)
    if any(part.count(b".") > _MOST_DOTS for part in _BETWEEN_KEYS.split(bare)):
        raise TomlError(f"has a key of more than {_MOST_DOTS} dotted parts")


def _missing_files(loaded: Loaded, milestone: Milestone, file: str) -> Iterator[Fault]:
    """Faults for named files that do not exist; existing ones are watched from now on."""
    root = loaded.folder.parent
    here = loaded.folder.name
    named = [
        (f"{here}/{issue.spec}", f"issue[{place}].spec", issue.id)
        for place, issue in (*milestone.placed(), *loaded.partial.get(milestone.id, ()))
        if issue.spec
    ]
    named += [(path, "milestone.context", milestone.id) for path in milestone.context]
    if milestone.epic:
        named.append((f"{here}/{milestone.epic}", "milestone.epic", milestone.id))
    base = str(root)
    for path, key, by in named:
        if not os.path.isfile(f"{base}/{path}"):  # noqa: PTH113  (ten thousand calls)
            yield Fault(file, key, f'{path} does not exist, needed by "{by}"; write it, or correct the path')
        loaded.watched.append(path)
