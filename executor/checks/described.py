"""Checks in words: kept under the key that they make together, so that a later change of them can be told. Thin."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from executor.checks.spec import CommandProof
from executor.process.files import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from executor.checks.spec import FileProof, Proofs

__all__ = ["described", "differences", "keep_checks", "kept_checks"]


def described(proofs: Proofs) -> dict[str, dict[str, str]]:
    """Every check and acceptance by its name: what decides about its verdict, in words; what is not set is left out."""
    found: dict[str, dict[str, str]] = {}
    for item in proofs.items:
        kind = "check" if isinstance(item, CommandProof) and item.named else "acceptance"
        name = f"{kind} {item.name}"
        while name in found:
            name += "'"
        found[name] = {key: value for key, value in _words(item).items() if value}
    return found


def differences(old: Mapping[str, Mapping[str, str]], new: Mapping[str, Mapping[str, str]]) -> list[str]:
    """What is another, one line each, for example ``check tests: tool version 1.0 -> 2.0``."""
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


def keep_checks(folder: Path, proofs: Proofs) -> None:
    """Keep the words of an issue's checks in the folder of its milestone, under their key."""
    path = _path(folder, proofs.key)
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        write_json(path, described(proofs), durable=False)


def kept_checks(folder: Path, key: str) -> dict[str, dict[str, str]] | None:
    """The words of checks as they were kept, or None."""
    found = read_json(_path(folder, key))
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
