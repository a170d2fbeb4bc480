"""Plans on disk as sources: their text, the files next to them, and the project files that they may refer to.

A plan may come from others. The files that it names are read only if they are regular files that git would commit: no
link is followed, and no ignored file is read, since the text goes into specs and to agents.

The bytes of a plan as text. No encoding is guessed.
"""

from __future__ import annotations

import codecs
import os
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from executor.config.load_milestones import MOST_BYTES, natural
from executor.errors import ExecutorError, UsageError
from executor.git.command import Git
from executor.importers.importer import installed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from executor.config.project import Project

__all__ = ["Disk", "EncodingError", "Source", "decoded", "text_of"]


_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    # The mark of UTF-32 starts with that of UTF-16, so it is checked first.
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# The declarations that editors (PEP 263), XML and HTML use; searched in the first two lines.
_DECLARED = re.compile(rb"(?:coding[:=]|encoding=[\"']|charset=[\"']?)\s*([-\w.]+)", re.IGNORECASE)


class EncodingError(ValueError):
    """Bytes that are invalid in their declared or default encoding."""


def _nothing(_path: str) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Source:
    """A plan to import.

    Attributes:
        name: its path or address, for messages.
        text: its content; empty if it is a folder.
        read: returns the text of a file by its path in the project; None if git tracks no such file.
        beside: the same by path from the folder of the plan (for a folder: from that folder).
        files: paths of the files of a folder, relative to it, in natural order; empty for a file.
        known: ids of the declared milestones.
        siblings: paths of the files beside it, relative to its folder: those in the folder and one folder below.
        place: the path of its folder from the project's root, with a slash at the end; empty if it is the root or
            outside.
        part: the requested part of a source with several plans: a tag of task-master.
        split: make an issue of each smallest task, if the format groups them.
    """

    name: str
    text: str
    read: Callable[[str], str | None] = _nothing
    beside: Callable[[str], str | None] = _nothing
    files: tuple[str, ...] = ()
    known: frozenset[str] = frozenset()
    siblings: tuple[str, ...] = ()
    place: str = ""
    part: str = ""
    split: bool = False

    @property
    def stem(self) -> str:
        """Return the last part of the name, in lower case."""
        return self.name.rstrip("/").rpartition("/")[2].casefold()

    @property
    def folder(self) -> str:
        """Return the name of the plan's folder, or of the folder that it is."""
        parts = [part for part in self.name.rstrip("/").split("/") if part not in {"", ".", ".."}]
        if self.files:
            return parts[-1] if parts else ""
        return parts[-2] if len(parts) > 1 else ""


def decoded(data: bytes, encoding: str = "") -> str:
    """Decode bytes by a byte order mark, by `encoding`, by a declaration in the first two lines, else as UTF-8.

    Raises:
        EncodingError: the bytes are invalid in that encoding; the message has the line of the first invalid byte.
    """
    for mark, name in _BOMS:
        if data.startswith(mark):
            return _strict(data[len(mark) :], name)
    found = _DECLARED.search(b"\n".join(data.split(b"\n", 2)[:2]))
    name = encoding or (found[1].decode("ascii") if found else "utf-8")
    text = _strict(data, name)
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise EncodingError(
            f"line {line} has a NUL character; if the file is UTF-16, save it as UTF-8 or give --encoding utf-16-le"
        )
    return text


def _strict(data: bytes, name: str) -> str:
    try:
        codec = codecs.lookup(name)
    except LookupError:
        raise EncodingError(f'unknown encoding "{name}"; save the file as UTF-8 or give --encoding NAME') from None
    try:
        text, _ = codec.decode(data, "strict")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise EncodingError(
            f"line {line} is not {codec.name}: byte 0x{data[error.start]:02x} at offset {error.start}; "
            "save the file as UTF-8 or give --encoding NAME (for example latin-1)"
        ) from error
    except (AssertionError, ValueError) as error:
        raise EncodingError(f"is not {codec.name}: {error}") from error
    if not isinstance(text, str):
        raise EncodingError(f'"{name}" is not a text encoding; give --encoding NAME')
    return text


_MOST_FILES = 5000  # files of a folder; a plan has some hundred, a home folder more
_SKIPPED = frozenset({".git", ".cache", "node_modules", ".venv"})


class Disk:
    """The files of a project that plans may refer to."""

    def __init__(self, project: Project, *, encoding: str = "", part: str = "", split: bool = False) -> None:
        self._root = project.root
        self._project = project
        self._encoding = encoding
        self._part = part
        self._split = split

    def tracked(self) -> list[str]:
        """Return the files that git tracks, or would with `git add`, from the top of the checkout."""
        return sorted(self._committable)

    def ignored(self, paths: Collection[str]) -> frozenset[str]:
        """Return those of some paths below the top of the checkout that git ignores; they need not exist."""
        repository = self._project.repository
        extra = {
            "GIT_WORK_TREE": str(repository.top),
            "GIT_LITERAL_PATHSPECS": "0",
        }  # check-ignore refuses literal ones
        inside = [os.fsencode(path) for path in paths if not path.startswith(("/", "../"))]
        _, out, _ = Git(repository.git_dir, repository.top).call(
            "check-ignore", "-z", "--no-index", "--stdin", given=b"\0".join(inside), extra=extra
        )
        return frozenset(name for name in os.fsdecode(out).split("\0") if name)

    def sources(self, names: Sequence[str], form: str = "") -> list[Source]:
        """Return the sources of some paths; files of one folder that form one plan become one source.

        Raises:
            UsageError: a path is unreadable.
        """
        found: list[Source] = []
        together: dict[Path, list[Path]] = {}
        for name in names:
            path = Path(name)
            if path.is_file() and len(names) > 1 and self._is_part(path, form):
                together.setdefault(path.parent, []).append(path)
            else:
                found.append(self._source(name))
        found += [self._folder(str(folder), [path.name for path in paths]) for folder, paths in together.items()]
        return [self._widened(source, form) for source in found]

    def _source(self, name: str) -> Source:
        path = Path(name)
        if path.is_dir():
            return self._folder(name, None)
        if not path.exists():
            raise UsageError(f"{name} does not exist; name an existing plan")
        data = bytes_of(path)
        if data is None:
            raise UsageError(f"{name} is not a readable file of at most {MOST_BYTES // 2**20} MiB; name a plan")
        try:
            text = decoded(data, self._encoding)
        except EncodingError as error:
            raise UsageError(f"{name}: {error}") from error
        folder = path.parent
        return Source(
            name,
            text,
            self._reader(self._root),
            self._reader(folder),
            siblings=tuple(self._beside(folder)),
            place=self._place(folder),
            part=self._part,
            split=self._split,
        )

    def _folder(self, name: str, only: Sequence[str] | None) -> Source:
        folder = Path(name)
        files = tuple(only) if only is not None else tuple(self._below(folder, 3))
        if not files:
            raise UsageError(f"{name} is a folder without files that git would commit; name a plan")
        return Source(
            name,
            "",
            self._reader(self._root),
            self._reader(folder),
            files=files,
            siblings=tuple(self._below(folder, 1)) if only is not None else files,
            place=self._place(folder),
            part=self._part,
            split=self._split,
        )

    def _widened(self, source: Source, form: str) -> Source:
        """Treat a file of a multi-file format as a folder of one file; a folder with one plan as that file."""
        if source.files:
            known = installed()
            plans = [
                name
                for name in source.files
                if name.rpartition("/")[2].casefold() in {"tasks.md", "implementation_plan.md", "sprint-status.yaml"}
            ]
            if form and form in known:
                return source
            if not any(importer.recognises(source) for importer in known.values()) and len(plans) == 1:
                return self._source(f"{source.name.rstrip('/')}/{plans[0]}")
            return source
        return self._widened_file(source, form)

    def _widened_file(self, source: Source, form: str) -> Source:
        path = Path(source.name)
        if path.name.casefold() == "epic.md" and any(re.fullmatch(r"\d+\.md", name) for name in source.siblings):
            # The text of an epic alone is no plan: its tasks are in the files beside it.
            return self._whole(path)
        packages = any(re.match(r"tasks/WP\d+", name) for name in source.siblings)
        if path.name == "tasks.md" and packages and not installed()["speckit"].recognises(source):
            return self._whole(path)
        if self._is_part(path, form) and not any(importer.recognises(source) > 50 for importer in installed().values()):  # noqa: PLR2004
            return replace(self._folder(str(path.parent), [path.name]), name=source.name)
        return source

    def _whole(self, path: Path) -> Source:
        """Return the folder of a file as the source."""
        return replace(self._folder(str(path.parent), None), name=str(path.parent))

    def _is_part(self, path: Path, form: str) -> bool:
        """Return whether a file belongs to a multi-file format."""
        data = bytes_of(path)
        if data is None or path.suffix.casefold() != ".md" or not data.startswith(b"---"):
            return False
        source = Source(
            str(path.parent),
            "",
            self._reader(self._root),
            self._reader(path.parent),
            files=(path.name,),
            place=self._place(path.parent),
        )
        known = installed()
        if form:
            return form in known and known[form].recognises(source) > 0
        return any(importer.recognises(source) > 0 for importer in known.values())

    def _place(self, folder: Path) -> str:
        try:
            inside = folder.resolve().relative_to(self._root.resolve())
        except ValueError:
            return ""
        return "" if str(inside) == "." else f"{inside.as_posix()}/"

    def _beside(self, folder: Path) -> Iterator[str]:
        return self._below(folder, 2)

    def _below(self, folder: Path, depth: int) -> Iterator[str]:
        """Yield the files that plans may refer to, in a folder and some levels below, in natural order."""
        found: list[str] = []
        for here, folders, files in os.walk(folder):
            level = len(Path(here).relative_to(folder).parts)
            folders[:] = [] if level >= depth else sorted(name for name in folders if name not in _SKIPPED)
            found += ((Path(here) / name).relative_to(folder).as_posix() for name in files)
            if len(found) > _MOST_FILES:
                break
        allowed = [name for name in found if self._allowed(folder / name)]
        return iter(sorted(allowed, key=natural))

    def _reader(self, folder: Path) -> Callable[[str], str | None]:
        def inside(name: str) -> str | None:
            if not name or name.startswith("/") or ".." in name.split("/") or not self._allowed(folder / name):
                return None
            return text_of(folder / name, self._encoding)

        return inside

    def _allowed(self, path: Path) -> bool:
        """Return whether a plan may refer to a file."""
        absolute = Path(os.path.abspath(path))  # noqa: PTH100
        if any(
            part.is_symlink()
            for part in (absolute, *absolute.parents)
            if part.is_relative_to(self._top) and part != self._top
        ):
            return False
        try:
            inside = absolute.relative_to(self._top)
        except ValueError:
            return not absolute.is_symlink()
        return inside.as_posix() in self._committable

    @cached_property
    def _top(self) -> Path:
        return Path(os.path.abspath(self._project.repository.top))  # noqa: PTH100

    @cached_property
    def _committable(self) -> frozenset[str]:
        """Return the files of the project that git tracks, or would with `git add`."""
        repository = self._project.repository
        try:
            # Run at the top of the checkout: with GIT_DIR set, git uses the working directory as the work tree.
            out = Git(repository.git_dir, repository.top).run(
                "ls-files", "-z", "--cached", "--others", "--exclude-standard"
            )
        except ExecutorError:
            return frozenset()
        return frozenset(name for name in os.fsdecode(out).split("\0") if name)


def bytes_of(path: Path) -> bytes | None:
    """Return the content of a file; None if it does not exist or is too large for a plan."""
    try:
        if not path.is_file() or path.stat().st_size > MOST_BYTES:
            return None
        return path.read_bytes()
    except OSError:
        return None


def text_of(path: Path, encoding: str = "") -> str | None:
    """Return the text of a file; None if it does not exist or is not text."""
    data = bytes_of(path)
    if data is None:
        return None
    try:
        return decoded(data, encoding)
    except EncodingError:
        return None
