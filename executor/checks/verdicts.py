"""Verdicts kept by tree, check key and conditions: under the same ones no check runs twice on a tree. Only a cache.

Conditions are what a verdict depends on beside the tree and the check: the sandbox, the tools, the environment. A check
that gave two verdicts on one tree under the same conditions is flaky; its verdicts are not used again. Where reports
say which tests did, only these are flaky: a failure of nothing else is tried once more and not used again.

Versions of the tools that checks use, asked from the tools and remembered by the stat data of their files.

Checks in words: kept under the key that they make together, so that a later change of them can be shown. Thin.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import threading
import zlib
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from executor.checks.junit import ReportError, read_junit
from executor.checks.spec import CommandProof
from executor.errors import ExecutorError, StateFullError
from executor.model.fingerprint import combined_key
from executor.process.files import ASKED, read_json, write_atomic, write_json
from executor.process.runner import sane_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from executor.checks.shared import SharedVerdicts
    from executor.checks.spec import FileProof, Proofs
    from executor.model.rules import Check

__all__ = [
    "ABSENT",
    "Asked",
    "ToolVersions",
    "Verdict",
    "Verdicts",
    "described",
    "differences",
    "keep_checks",
    "kept_checks",
]


_MOST_CONDITIONS = 8
"""Maximum number of stored verdicts of one check on one tree."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict of a check on a tree.

    Attributes:
        ok: whether it passed.
        reason: one sentence, empty when it passed.
        detail: the most useful part of its output, empty when it passed.
        seconds: how long it took.
        run: id of the run that produced it.
        report: name of its stored JUnit report; empty without one.
        ended: the check ended by itself, so another verdict on the same tree makes it flaky.
        conditions: its conditions, by name.
        empty: it passed, but its output reports that no test ran.
        unready: its tree could not be prepared, so it did not run.
        covered: the lines that its tests executed, in per cent; None if no report of it says so.
        by: name of the key that signed it, if another clone ran the check.
        host: the host of that clone.
        at: epoch seconds at which it signed.
    """

    ok: bool
    reason: str
    detail: str
    seconds: float
    run: str
    report: str = ""
    ended: bool = True
    conditions: dict[str, str] = field(default_factory=dict)
    empty: bool = False
    unready: bool = False
    covered: float | None = None
    by: str = ""
    host: str = ""
    at: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """What a verdict is asked about: the check on what it depends on (`seen`), here, for an issue."""

    seen: str
    key: str
    item: CommandProof
    conditions: dict[str, str]
    issue: str


@dataclass(eq=False)
class Verdicts:
    """The store of verdicts, shared by all milestones of a repository.

    Attributes:
        folder: its folder.
        shared: returns the verdicts of other clones; None if the rules share none.
    """

    folder: Path
    shared: Callable[[], SharedVerdicts | None] = lambda: None
    _guard: threading.Lock = field(default_factory=threading.Lock, init=False)
    _busy: dict[tuple[str, str], threading.Lock] = field(default_factory=dict, init=False)

    @contextmanager
    def alone(self, tree: str, key: str) -> Iterator[None]:
        """Block other threads from running the same check on the same tree."""
        with self._guard:
            lock = self._busy.setdefault((tree, key), threading.Lock())
        with lock:
            yield

    def find(self, tree: str, key: str, conditions: Mapping[str, str] | None = None) -> Verdict | None:
        """Return the verdict of a check on a tree, if it is known and may be reused.

        Args:
            tree: the tree.
            key: key of the check.
            conditions: conditions of the verdict; None for the latest one under any conditions.
        """
        if self.is_flaky(key):
            return None
        found = [item for item in self.all(tree, key) if not item.by or not self._is_refuted(item.by)]
        same = [item for item in found if conditions is None or item.conditions == conditions]
        return same[-1] if same and not self.only_flaky(key, same[-1]) else None

    def _is_refuted(self, signer: str) -> bool:
        """Whether a verdict of this signer did not hold here."""
        from executor.checks.shared import refuted

        return signer in refuted(self.folder)

    def all(self, tree: str, key: str) -> list[Verdict]:
        """Return the verdicts of a check on a tree, one per set of conditions, the latest last."""
        found = read_json(self._path(tree, key))
        if not isinstance(found, list):
            return []
        try:
            return [Verdict(**item) for item in found]
        except TypeError:
            return []

    def why_not_again(self, tree: str, key: str, conditions: Mapping[str, str]) -> list[str]:
        """Why what is known of a check on a tree is not used again; empty if it is, or if nothing is known.

        Args:
            tree: the tree.
            key: the check's.
            conditions: those under which it would be asked now.
        """
        known = self.all(tree, key)
        if not known or (not self.is_flaky(key) and any(item.conditions == conditions for item in known)):
            return []
        if self.is_flaky(key):
            return ["it gave two verdicts on one tree, so each is asked again"]
        nearest = min(known, key=lambda item: len(_differing(item.conditions, conditions)))
        names = _differing(nearest.conditions, conditions)
        return [f"{name}: {_shown(nearest.conditions, name)} -> {_shown(conditions, name)}" for name in names]

    def is_flaky(self, key: str) -> bool:
        """Whether a check has given two verdicts on one tree, and no report says which of its tests did."""
        return self._flaky(key).exists() and not self.flaky_tests(key)

    def flaky_tests(self, key: str) -> frozenset[str]:
        """Tests of a check that both failed and passed on one tree."""
        found = read_json(self._flaky(key))
        tests = found.get("tests") if isinstance(found, dict) else None
        return frozenset(map(str, tests)) if isinstance(tests, list) else frozenset()

    def only_flaky(self, key: str, verdict: Verdict) -> bool:
        """Whether nothing but tests that are known to be flaky failed: such a failure says nothing."""
        failed = self._failing(verdict)
        return bool(failed) and failed <= self.flaky_tests(key)

    def _failing(self, verdict: Verdict) -> frozenset[str]:
        """The tests that failed, as its report names them; none for a verdict without a report."""
        data = self.report(verdict.report) if verdict.report and not verdict.ok else None
        try:
            report = read_junit(data) if data is not None else None
        except ReportError:
            return frozenset()
        return frozenset((*report.failures, *report.errors)) if report is not None else frozenset()

    def keep(self, tree: str, key: str, verdict: Verdict) -> None:
        """Store a verdict; its loss costs time, not correctness."""
        known = self.all(tree, key)
        before = next((item for item in known if item.conditions == verdict.conditions), None)
        if before is not None and before.ended and verdict.ended and before.ok != verdict.ok:
            self.mark_flaky(key, tree, before, verdict)
        others = [item for item in known if item is not before][1 - _MOST_CONDITIONS :]
        self._write(self._path(tree, key), [asdict(item) for item in [*others, verdict]])

    def proof(self, key: str) -> Mapping[str, Any] | None:
        """Return what is known about whether a check looks at trees; `key` covers the check and its conditions."""
        found = read_json(self._proof(key))
        return found if isinstance(found, dict) else None

    def keep_proof(self, key: str, facts: Mapping[str, Any]) -> None:
        """Store whether a check looks at trees."""
        self._write(self._proof(key), dict(facts))

    def mark_flaky(self, key: str, tree: str, *both: Verdict) -> None:
        """Remember that a check gave two verdicts on that tree.

        Where both have a report, the tests that failed in one of them are flaky, and no other; else the whole check is.
        """
        path = self._flaky(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        tests = frozenset().union(*map(self._failing, both)) if all(item.report for item in both) else frozenset()
        whole = not tests or self.is_flaky(key)
        known = [] if whole else sorted(tests | self.flaky_tests(key))
        write_json(path, {"tree": tree, "tests": known}, durable=False)

    def keep_report(self, data: bytes) -> str:
        """Store a report; returns its name for `report`. Equal reports are stored once."""
        import hashlib

        name = hashlib.sha256(data).hexdigest()
        path = self.folder / "reports" / name[:2] / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, zlib.compress(data), durable=False)
        return name

    def report(self, name: str) -> bytes | None:
        """Return a stored report; None if it no longer exists."""
        try:
            return zlib.decompress((self.folder / "reports" / name[:2] / name).read_bytes())
        except (OSError, zlib.error):
            return None

    def _write(self, path: Path, value: object) -> None:
        with suppress(OSError, StateFullError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, value, durable=False)

    def _proof(self, key: str) -> Path:
        return self.folder / "proofs" / f"{key.removeprefix('sha256:')[:40]}.json"

    def _path(self, tree: str, key: str) -> Path:
        return self.folder / tree[:1] / f"{tree}-{key.removeprefix('sha256:')[:40]}.json"

    def _flaky(self, key: str) -> Path:
        return self.folder / "flaky" / f"{key.removeprefix('sha256:')[:40]}.json"


def _differing(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    return [name for name in dict.fromkeys([*one, *other]) if one.get(name) != other.get(name)]


def _shown(conditions: Mapping[str, str], name: str) -> str:
    """A condition for people: digests are cut, and what is not there is said so."""
    value = conditions.get(name, "")
    return value[:19] if value.startswith("sha256:") else value or "(none)"


ABSENT = "absent"
"""Version of a tool that is not installed."""
_TIMEOUT = 30  # seconds; a tool that does not print its version by then has none


_TOOLS = "_tools.json"
_LAUNCHERS = frozenset(
    "bash bun bundle cargo cat conda docker env go java kubectl make mise nix node npm npx php pipx pnpm podman poetry "  # noqa: SIM905
    "python rbenv ruby sh ssh uv uvx yarn".split()
)
"""Programs whose own file does not reflect the version of the tool that they print."""


@dataclass(eq=False)
class ToolVersions:
    """Returns the version of the tool that would run; one process per tool and change of its program file.

    A version that another program prints (``docker run image tool --version``) can change without any change of a file.
    It is cached too; `ask_again` queries it again at the start of a run.

    Attributes:
        cache: the folder of the caches of all milestones.
    """

    cache: Path
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _known: dict[str, str] | None = field(default=None, init=False)
    _asked: dict[str, str] | None = field(default=None, init=False)

    def ask_again(self) -> None:
        """Query versions again that may have changed without a change of the program's file."""
        with self._lock:
            asked = self._read_asked()
            fresh = {}
            for words in asked:
                program, *arguments = json.loads(words)
                fresh[words] = self._ask(program, tuple(arguments))
            if fresh != asked:
                self._asked = fresh
                self._keep(self.cache / ASKED, fresh)

    def _read_asked(self) -> dict[str, str]:
        if self._asked is None:
            self._asked = _texts(self.cache / ASKED)
        return self._asked

    def _indirect(self, program: str, arguments: tuple[str, ...]) -> str:
        words = json.dumps([program, *arguments])
        with self._lock:
            asked = self._read_asked()
            if words not in asked:
                asked[words] = self._ask(program, arguments)
                self._keep(self.cache / ASKED, asked)
            return asked[words]

    def version(self, check: Check) -> str:
        """Return the version of a check's tool; empty if the check does not ask for it, `ABSENT` without the tool."""
        if not check.version:
            return ""
        program = shutil.which(check.version[0], path=sane_path(os.environ.get("PATH", "")))
        if program is None:
            return ABSENT
        if not _is_of_the_tool(check):
            return self._indirect(program, check.version[1:])
        facts = os.stat(program)  # noqa: PTH116  (one call, on a hot path)
        key = " ".join([program, *check.version[1:], str(facts.st_mtime_ns), str(facts.st_size)])
        with self._lock:
            if self._known is None:
                self._known = _texts(self.cache / _TOOLS)
            if key not in self._known:
                self._known[key] = self._ask(program, check.version[1:])
                self._keep(self.cache / _TOOLS, self._known)
            return self._known[key]

    def _ask(self, program: str, arguments: tuple[str, ...]) -> str:
        try:
            words = [program, *arguments]
            done = subprocess.run(words, capture_output=True, timeout=_TIMEOUT, check=False, stdin=subprocess.DEVNULL)
        except (OSError, subprocess.TimeoutExpired):
            return ABSENT
        return (done.stdout or done.stderr).decode("utf-8", "replace").strip()[:200]

    def _keep(self, path: Path, value: Mapping[str, str]) -> None:
        if path.parent.is_dir():
            with suppress(ExecutorError):
                write_json(path, value, durable=False)


def _texts(path: Path) -> dict[str, str]:
    found = read_json(path)
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def _is_of_the_tool(check: Check) -> bool:
    """Return whether the tool itself prints the version, so that another version is another file."""
    program, *arguments = check.version
    runs = check.run.split() if isinstance(check.run, str) else check.run
    if check.prefix or "/" in program or not runs or runs[0] != program:
        return False
    name = re.sub(r"[\d.]+$", "", program)  # python3.11 is python
    return name not in _LAUNCHERS or (name == "python" and arguments in (["--version"], ["-V"]))


def described(proofs: Proofs) -> dict[str, dict[str, str]]:
    """Describe every check and acceptance by name: what decides its verdict, without unset values."""
    found: dict[str, dict[str, str]] = {}
    for item in proofs.items:
        kind = "check" if isinstance(item, CommandProof) and item.named else "acceptance"
        name = f"{kind} {item.name}"
        while name in found:
            name += "'"
        found[name] = {key: value for key, value in _words(item).items() if value}
    return found


def differences(old: Mapping[str, Mapping[str, str]], new: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Describe the differences, one line each, for example ``check tests: tool version 1.0 -> 2.0``."""
    lines = [f"{name}: no longer asked" for name in old if name not in new]
    lines += [f"{name}: new, {_command(words)}" for name, words in new.items() if name not in old]
    for name, words in new.items():
        before = old.get(name, words)
        for key in dict.fromkeys([*before, *words]):
            if before.get(key) != words.get(key):
                lines.append(f"{name}: {key} {before.get(key, '(none)')} -> {words.get(key, '(none)')}")
    order = [name for name in new if name in old]
    if not lines and order != [name for name in old if name in new]:
        lines.append("the same checks in another order")
    return lines


_NONE = combined_key(())
"""Key of no checks, whose description needs no file."""


def keep_checks(folder: Path, proofs: Proofs) -> None:
    """Store the description of an issue's checks in the folder of its milestone, under their key."""
    path = _path(folder, proofs.key)
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        write_json(path, described(proofs), durable=False)


def kept_checks(folder: Path, key: str) -> dict[str, dict[str, str]] | None:
    """Return a stored description of checks, or None."""
    found = read_json(_path(folder, key)) if key != _NONE else {}
    return found if isinstance(found, dict) else None


def _words(item: CommandProof | FileProof) -> dict[str, str]:
    if not isinstance(item, CommandProof):
        return {"file": item.file, "contains": item.contains or ""}
    return {
        "command": item.argv[2] if item.argv[:2] == ("sh", "-c") else shlex.join(item.argv),
        "tool version": " ".join(item.version.split()),
        "timeout": f"{item.timeout:g} s",
        "environment": " ".join(f"{name}={value}" for name, value in item.env),
        "for files": " ".join(item.when),
        "set-up": item.setup,
        "before": item.before,
        "after": item.after,
        "network": "yes" if item.network else "",
        "only new failures": "yes" if item.only_new_failures else "",
        "only changed files": "yes" if item.changed_only else "",
        "sandbox": "" if item.sandboxed else "none",
    }


def _command(words: Mapping[str, Any]) -> str:
    return str(words.get("command") or words.get("file", ""))


def _path(folder: Path, key: str) -> Path:
    return folder / "checks" / f"{key.removeprefix('sha256:')}.json"
