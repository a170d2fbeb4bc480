"""The second judgement of a candidate: the new code with the tests of its base.

Decides which files are restored and which command each check runs; runs nothing itself.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from executor.checks.spec import CommandProof
from executor.model.fingerprint import combined_key
from executor.stop_rules.commands import reached
from executor.stop_rules.test_evidence.test_suite import Base, PutBack, put_back, suite_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from executor.checks.spec import FileProof
    from executor.git.diff import FileChange
    from executor.git.objects import Store

__all__ = ["Trees", "asked_again", "put_back_of"]

_SHELL = ("sh", "-c")
_WORD = re.compile(r"[^\s;&|()<>\"'`$]+")


@dataclass(frozen=True, slots=True)
class Trees:
    """The files of a candidate, and of its second tree, which has the tests of the base."""

    candidate: frozenset[str]
    again: frozenset[str]
    store: Store
    tree: str

    def has_name(self, path: str, name: str) -> bool:
        """Return whether a file of the second tree has a test of that name."""
        data = self.store.blob(self.tree, path) or b""
        return re.split(r"[\[:]", name)[-1 if "[" not in name else 0].encode() in data


def put_back_of(
    store: Store,
    base: str,
    changed: Sequence[FileChange],
    commands: Iterable[Sequence[str]],
    declared: Sequence[str],
) -> PutBack:
    """Return the changed files to restore for a judgement by the tests of the base.

    Args:
        store: object store with the trees.
        base: the tree that the candidate is compared with.
        changed: the files of the change.
        commands: argument lists of the checks and of the acceptance.
        declared: globs of files that the issue declares as changed.
    """
    tree = Base(store.paths(base), lambda path: store.blob(base, path), lambda texts: store.mentions(base, texts))
    found = reached(commands, tree.paths, tree.read)
    return put_back(changed, tree, suite_of(tree, found), found, declared)


def asked_again(item: CommandProof | FileProof, trees: Trees) -> CommandProof | None:
    """Return a check in the form for the second tree; None if it does not apply there.

    Linters and commands that only look at files do not judge tests. Arguments that exist only because of the change are
    removed; without any argument left, the check does not run.
    """
    if not isinstance(item, CommandProof) or not item.runs_code:
        return None
    absent, left = _absent(item.argv, trees)
    if not absent:
        return item
    if not left:
        return None
    argv = _without(item.argv, absent)
    return replace(item, argv=argv, key=combined_key([item.key, "without", *sorted(absent)]))


def _absent(argv: Sequence[str], trees: Trees) -> tuple[set[str], bool]:
    """Return the words that exist only in the candidate, and whether a word remains that both trees have."""
    absent: set[str] = set()
    left = False
    for text in argv[2:] if tuple(argv[:2]) == _SHELL else argv[1:]:
        for word in _WORD.findall(text):
            path, _, name = word.partition("::")
            path = path.removeprefix("./").rstrip("/")
            if not path or path.startswith(("/", "-")):
                continue
            there = _is_in(path, trees.again)
            if there and (not name or trees.has_name(path, name)):
                left = True
            elif there or _is_in(path, trees.candidate):
                absent.add(word)
    return absent, left


def _is_in(path: str, paths: Collection[str]) -> bool:
    return path in paths or any(other.startswith(f"{path}/") for other in paths)


def _without(argv: tuple[str, ...], absent: Collection[str]) -> tuple[str, ...]:
    if tuple(argv[:2]) != _SHELL:
        return tuple(word for word in argv if word not in absent)
    text = argv[2]
    for word in sorted(absent, key=len, reverse=True):
        text = re.sub(rf"(?<![^\s;&|()<>\"'`]){re.escape(word)}(?![^\s;&|()<>\"'`])", "", text)
        text = text.replace(shlex.quote(""), "") if text.count("''") else text
    return (*_SHELL, text, *argv[3:])
