"""Attested landings: what is signed is verified with git and ssh-keygen alone, and every change to it is noticed.

Ten thousand changes: EXECUTOR_LONG=1 python -m pytest -s -m long tests/forge/test_attestation.py
"""

from __future__ import annotations

import copy
import json
import os
import random
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from executor.forge import verify_landings
from executor.forge.attest import NAMESPACE, REFS, Approval, CheckResult, Facts, digest_of, statement

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen")
SCRIPT = Path(verify_landings.__file__)
LANDINGS = 3


class Attested:
    """A repository with attested landings on `main`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self.env = {**os.environ, "GIT_AUTHOR_NAME": "T", "GIT_AUTHOR_EMAIL": "t@example.org"}
        self.env |= {"GIT_COMMITTER_NAME": "T", "GIT_COMMITTER_EMAIL": "t@example.org"}
        self.git("init", "-q", "-b", "main", ".")
        self.signers = folder / "allowed_signers"
        allowed = []
        for name in ("key", "other"):
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(folder / name)]
            subprocess.run(words, check=True)
        public = (folder / "key.pub").read_text().split()
        allowed.append(f'bot@example.org namespaces="{NAMESPACE}" {public[0]} {public[1]}\n')
        self.signers.write_text("".join(allowed))
        self.facts: list[Facts] = []
        self.statements: list[bytes] = []
        for place in range(LANDINGS):
            self.land(place)
        self.landings = verify_landings.landings_on(str(folder), "main")

    def git(self, *arguments: str, given: bytes = b"") -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=self.path, input=given, capture_output=True, check=True, env=self.env
        )
        return done.stdout.decode().strip()

    def land(self, place: int) -> None:
        (self.path / f"file-{place}").write_text(f"{place}\n")
        self.git("add", f"file-{place}")
        trailers = f"Milestone: m1\nIssue: {place}\nRevision: 1\nSpec-Key: sha256:s{place}\nResult-Key: sha256:r{place}"
        self.git("commit", "-q", "-m", f"feat(m1): {place}\n\n{trailers}\nCheck-Key: sha256:c")
        commit, tree = self.git("rev-parse", "HEAD"), self.git("rev-parse", "HEAD^{tree}")
        checks = tuple(
            CheckResult(name, ("run", name), f"sha256:{name}", f"{name} 1.0", "green", tree)
            for name in ("lint", "tests")
        )
        previous = digest_of(self.statements[-1]) if self.statements else ""
        approvals = (Approval("dependency-change", "Ann <ann@example.org>", "wanted", f"sha256:r{place}"),)
        keys = (f"sha256:s{place}", f"sha256:r{place}", "sha256:c")
        facts = Facts(commit, tree, "m1", str(place), 1, place, *keys, checks, "claude", "model", approvals, previous)
        self.facts.append(facts)
        self.statements.append(statement(facts))
        self.keep(place, self.statements[-1], self.signed(self.statements[-1]))

    def signed(self, data: bytes, key: str = "key") -> bytes:
        words = ["ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", str(self.path / key)]
        return subprocess.run(words, input=data, capture_output=True, check=True).stdout

    def keep(self, place: int, data: bytes, signature: bytes) -> None:
        blobs = [self.git("hash-object", "-w", "--stdin", given=part) for part in (data, signature)]
        listing = f"100644 blob {blobs[0]}\tstatement.json\n100644 blob {blobs[1]}\tstatement.json.sig\n"
        tree = self.git("mktree", given=listing.encode())
        commit = self.git("commit-tree", tree, "-p", self.facts[place].commit, "-m", "attestation")
        self.git("update-ref", f"{REFS}/m1/{place}/1", commit)

    def problems(self) -> list[str]:
        return verify_landings.verified(str(self.path), self.landings, str(self.signers))


@pytest.fixture(scope="module")
def attested(tmp_path_factory: pytest.TempPathFactory) -> Attested:
    return Attested(tmp_path_factory.mktemp("attested"))


def test_what_was_signed_is_verified_by_the_script_alone(attested: Attested) -> None:
    words = [sys.executable, "-I", str(SCRIPT), "--branch", "main", "--signers", str(attested.signers)]
    done = subprocess.run(words, cwd=attested.path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{LANDINGS} landings, 0 problems\n")


def test_the_verifier_is_short_and_imports_nothing_of_ours() -> None:
    text = SCRIPT.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 200
    assert "executor" not in [
        line.split()[1].partition(".")[0] for line in text.splitlines() if line.startswith("from ")
    ]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"tree": "0" * 40}, "tree is"),
        ({"commit": "0" * 40}, "commit is"),
        ({"spec_key": "sha256:x"}, "Spec-Key is"),
        ({"check_key": "unproved"}, "the landed tree differs from the checked one"),
        ({"check_key": "sha256:x"}, "Check-Key is"),
        ({"position": 7}, "position 7"),
        ({"previous": "sha256:x"}, "the previous landing"),
        ({"issue": "2"}, "Issue is 2"),
    ],
)
def test_a_statement_that_an_allowed_key_signed_is_still_held_against_the_commit(
    attested: Attested, changed: dict[str, Any], told: str
) -> None:
    data = statement(replace(attested.facts[1], **changed))
    found = verify_landings.statement_problems(data, attested.landings[1], 1, digest_of(attested.statements[0]))
    assert told in " ".join(found)


def test_a_check_on_another_tree_or_one_that_was_not_green_is_a_problem(attested: Attested) -> None:
    checks = (
        replace(attested.facts[1].checks[0], tree="0" * 40),
        replace(attested.facts[1].checks[1], verdict="flaky"),
    )
    data = statement(replace(attested.facts[1], checks=checks))
    found = verify_landings.statement_problems(data, attested.landings[1], 1, digest_of(attested.statements[0]))
    assert found == [f"the check lint ran on another tree ({'0' * 40})", "the check tests was flaky"]


def test_a_missing_statement_another_key_and_a_replayed_statement_are_reported(attested: Attested) -> None:
    good = attested.statements[1]
    try:
        attested.keep(1, good, attested.signed(good, "other"))
        assert attested.problems() == ["m1/1/1: the key that signed it is not in the allowed signers"]
        attested.keep(1, attested.statements[0], attested.signed(attested.statements[0]))
        assert any("m1/1/1: Issue is 0" in line for line in attested.problems())
        attested.git("update-ref", "-d", f"{REFS}/m1/1/1")
        assert attested.problems()[0] == "m1/1/1: no statement under refs/attestations/m1/1/1"
        assert "m1/2/1" in attested.problems()[1]
    finally:
        attested.keep(1, good, attested.signed(good))
    assert attested.problems() == []


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from leaves(value[key], (*path, key))
    else:
        yield path


def mutated(data: bytes, chance: random.Random) -> bytes:
    """The statement with one thing changed: a value, a key, the order of a list, or its bytes."""
    value = json.loads(data)
    kind = chance.choice(["value", "value", "remove", "order", "byte", "add"])
    if kind == "byte":
        place = chance.randrange(len(data))
        return data[:place] + bytes([data[place] ^ chance.randrange(1, 256)]) + data[place + 1 :]
    path = chance.choice(sorted(leaves(value), key=repr))
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    if kind == "remove":
        del holder[path[-1]]
    elif kind == "order":
        checks = value["predicate"]["checks"]
        checks.reverse()
        value["subject"].reverse()
    elif kind == "add":
        value["predicate"][chance.choice(["note", "checks2", "Agent"])] = "x"
    else:
        old = holder[path[-1]]
        holder[path[-1]] = old + 1 if isinstance(old, int) else old[:-1] if chance.random() < 0.5 else f"{old}x"
        if holder[path[-1]] == old:
            holder[path[-1]] = "x"
    return json.dumps(copy.deepcopy(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"


@pytest.mark.parametrize("count", [100, pytest.param(10_000, marks=pytest.mark.long)])
def test_every_change_to_a_signed_statement_is_detected(attested: Attested, tmp_path: Path, count: int) -> None:
    chance = random.Random(18)  # noqa: S311  (no secret)
    paths, signers = [], str(attested.signers)
    for place, data in enumerate(attested.statements):
        paths.append(tmp_path / f"{place}.sig")
        paths[-1].write_bytes(attested.signed(data))
    who = {verify_landings.signer_of(path, signers) for path in paths}
    assert who == {"bot@example.org"}
    cases = []
    for number in range(count):
        place = number % LANDINGS
        data = mutated(attested.statements[place], chance)
        if data != attested.statements[place]:
            cases.append((data, paths[place]))

    def is_missed(case: tuple[bytes, Path]) -> bool:
        return verify_landings.fits(*case, "bot@example.org", signers)

    with ThreadPoolExecutor(4) as pool:
        missed = [data for (data, _), bad in zip(cases, pool.map(is_missed, cases), strict=True) if bad]
    print(f"\n{len(cases)} changed statements, {len(missed)} not detected")  # noqa: T201
    assert len(cases) > count * 0.9
    assert missed == []
