"""Which shared verdicts are believed: only what was asked for, signed by a trusted key for a scope that is read."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest

from executor.checks.signed_verdict import (
    NAMESPACE,
    RefusedVerdict,
    Statement,
    Wanted,
    believed,
    is_sampled,
    packed,
    payload_of,
    scopes_of,
)
from executor.checks.verdict_stores import _as_result, _output_of
from executor.git.command import ssh_signature
from executor.model.outward_rules import TrustedKey

needs_ssh = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen")
NOW = 1_800_000_000
WANTED = Wanted("t" * 40, "sha256:k", {"sandbox": "yes", "program sh": "sha256:1"})
STATEMENT = Statement(
    tree=WANTED.tree,
    key=WANTED.key,
    conditions=WANTED.conditions,
    scope="base",
    check="tests",
    seconds=1.5,
    report="",
    empty=False,
    covered=87.5,
    host="box",
    run="r1",
    at=NOW - 60,
)


@cache
def key(name: str) -> tuple[Path, str]:
    path = Path(mkdtemp(prefix="keys")) / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)], check=True)
    return path, " ".join(path.with_name(f"{name}.pub").read_text().split()[:2])


def signed(statement: Statement, who: str = "ci", namespace: str = NAMESPACE) -> bytes:
    payload = payload_of(statement)
    return packed(payload, ssh_signature(payload, key(who)[0], namespace))


def asked(data: bytes, wanted: Wanted = WANTED, scopes: tuple[str, ...] = ("base",)) -> tuple[str, Statement]:
    trusted = {"ci": TrustedKey(key=key("ci")[1]), "fork": TrustedKey(key=key("fork")[1], scope="pull")}
    return believed(data, wanted, scopes, trusted, now=NOW, days=30)


@needs_ssh
def test_a_verdict_of_a_trusted_key_is_believed_in_its_scope() -> None:
    assert asked(signed(STATEMENT)) == ("ci", STATEMENT)
    pull = replace(STATEMENT, scope="pull/7")
    assert asked(signed(pull, "fork"), scopes=("pull/7", "base")) == ("fork", pull)
    assert asked(signed(STATEMENT), scopes=("pull/7", "base")) == ("ci", STATEMENT)


@needs_ssh
@pytest.mark.parametrize(
    ("change", "who", "why"),
    [
        ({"tree": "u" * 40}, "ci", "another tree"),
        ({"key": "sha256:other"}, "ci", "another check"),
        ({"conditions": {**WANTED.conditions, "program sh": "sha256:2"}}, "ci", "another condition"),
        ({"conditions": {"sandbox": "yes"}}, "ci", "another condition"),
        ({"scope": "pull/7"}, "ci", "for pull/7"),
        ({}, "stranger", "not in rules/verdicts.toml"),
        ({}, "fork", "only sign for pull requests"),
        ({"at": NOW - 31 * 86_400}, "ci", "older than 30 days"),
        ({"at": NOW + 3_600}, "ci", "from the future"),
    ],
)
def test_a_replayed_or_foreign_verdict_is_refused(change: dict[str, object], who: str, why: str) -> None:
    with pytest.raises(RefusedVerdict, match=why):
        asked(signed(replace(STATEMENT, **change), who))  # type: ignore[arg-type]


@needs_ssh
def test_a_forged_verdict_is_refused() -> None:
    good = signed(STATEMENT)
    other = json.loads(signed(replace(STATEMENT, check="other")))
    forged = json.dumps({**json.loads(good), "signature": other["signature"]}, sort_keys=True, separators=(",", ":"))
    for data, why in (
        (forged.encode(), "did not sign it"),
        (signed(STATEMENT, namespace="git"), "did not sign it"),
        (good + b" ", "canonical"),
        (b"{}", "no signed verdict"),
        (b"", "no signed verdict"),
        (good.replace(b"U1NIU0lH", b"U1NIU0lI", 1), "none of ssh"),
    ):
        with pytest.raises(RefusedVerdict, match=why):
            asked(data)


@needs_ssh
@pytest.mark.parametrize("count", [60, pytest.param(10_000, marks=pytest.mark.long)])
def test_no_mutation_of_a_verdict_is_believed(count: int) -> None:
    good, chance = signed(STATEMENT), random.Random(count)  # noqa: S311
    letters = sorted(set(good))
    for _ in range(count):
        data = bytearray(good)
        for _ in range(chance.choice((1, 1, 1, 2, 8))):
            place = chance.randrange(len(data))
            match chance.randrange(4):
                case 0:
                    data[place] = chance.choice(letters)
                case 1:
                    data[place] ^= 1 << chance.randrange(8)
                case 2:
                    del data[place]
                case _:
                    data.insert(place, chance.choice(letters))
        if bytes(data) == good:
            continue
        with pytest.raises(RefusedVerdict):
            asked(bytes(data))


@pytest.mark.parametrize(
    ("environment", "written", "read"),
    [
        ({}, "base", ("base",)),
        ({"GITHUB_REF": "refs/heads/main", "GITHUB_EVENT_NAME": "push"}, "base", ("base",)),
        ({"GITHUB_REF": "refs/pull/12/merge"}, "pull/12", ("pull/12", "base")),
        ({"CI_MERGE_REQUEST_IID": "3"}, "pull/3", ("pull/3", "base")),
        ({"GITHUB_REF": "refs/heads/main", "GITHUB_EVENT_NAME": "pull_request_target"}, "pull/0", ("pull/0", "base")),
    ],
)
def test_a_pull_request_has_a_scope_of_its_own(
    environment: dict[str, str], written: str, read: tuple[str, ...]
) -> None:
    assert scopes_of(environment) == (written, read)


@pytest.mark.parametrize("share", [0.05, 0.2, 1.0])
def test_a_liar_is_found_within_the_expected_number_of_landings(share: float) -> None:
    clones = 400
    needed = []
    for clone in range(clones):
        salt = random.Random(clone).randbytes(32)  # noqa: S311
        needed.append(next(n for n in range(1, 100_000) if is_sampled(salt, f"ac/{n}", share)))
    mean = sum(needed) / clones
    assert abs(mean - 1 / share) < 4 * (1 / share) / clones**0.5 + 1e-9  # four standard errors
    assert not any(is_sampled(os.urandom(32), f"ac/{n}", 0.0) for n in range(1_000))


@pytest.mark.parametrize("size", [0, 1, 127, 128, 300, 70_000])
def test_a_statement_travels_as_the_output_of_a_remote_execution(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    assert _output_of(_as_result(data)) == data
    assert _output_of(b"\x20\x01\x4a\x02ab" + _as_result(data)) == data  # servers add fields
    assert _output_of(b"\x4a\xff") is None
