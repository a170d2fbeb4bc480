"""A signed verdict: the statement that a check passed on a tree, and whether it is believed. Pure but for ssh-keygen.

The place of a statement in a store is the digest of what it is about, so a statement that stands in another place, or
says something else, is refused. Whoever works for a pull request signs for its scope, and nobody outside reads that.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from executor.errors import ExecutorError
from executor.git.command import users_environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from executor.model.outward_rules import TrustedKey

__all__ = [
    "NAMESPACE",
    "RefusedVerdict",
    "Statement",
    "StoreError",
    "Wanted",
    "believed",
    "is_sampled",
    "packed",
    "payload_of",
    "public_key",
    "ref_name",
    "scopes_of",
]

NAMESPACE = "make-for-milestones-verdict"
"""Namespace of the signatures: a signature of a landing or a commit is none of a verdict."""
_TYPE = "urn:make-for-milestones:verdict:1"
_MOST_BYTES = 64 * 1024  # bytes; a statement has some hundred, the bound is for hostile stores
_AHEAD_S = 300
"""Seconds that the clock of a signer may be ahead."""
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_PULL = re.compile(r"refs/pull/(\d{1,12})/")


class StoreError(ExecutorError):
    """A store of shared verdicts cannot be used."""


class RefusedVerdict(ExecutorError):  # noqa: N818  (it is no error of ours)
    """A shared verdict is not believed; the message says why."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A check on a tree under conditions that mean the same on every host.

    Attributes:
        tree: the tree, or the digest of the files that the check depends on.
        key: key of the check.
        conditions: sandbox, platform, tools and packages by name.
    """

    tree: str
    key: str
    conditions: Mapping[str, str]

    def name_in(self, scope: str) -> str:
        """Return the name of the statement that a scope has about it."""
        values = {**asdict(self), "conditions": dict(self.conditions), "scope": scope}
        return f"ac/{hashlib.sha256(_canonical(values)).hexdigest()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """The statement that a check passed.

    Attributes:
        tree, key, conditions: as in `Wanted`.
        scope: ``base``, or ``pull/NUMBER``.
        check: name of the check.
        seconds: how long it took.
        report: digest of its JUnit report; empty without one.
        empty: its output reports that no test ran.
        covered: the lines that its tests executed, in per cent; negative if no report of it says so.
        host: the host that ran it.
        run: the run that ran it.
        at: epoch seconds.
    """

    tree: str
    key: str
    conditions: Mapping[str, str]
    scope: str
    check: str
    seconds: float
    report: str
    empty: bool
    covered: float
    host: str
    run: str
    at: int


_FIELDS: Mapping[str, type] = {
    "tree": str,
    "key": str,
    "conditions": dict,
    "scope": str,
    "check": str,
    "seconds": float,
    "report": str,
    "empty": bool,
    "covered": float,
    "host": str,
    "run": str,
    "at": int,
}


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def payload_of(statement: Statement) -> bytes:
    """Return the bytes of a statement that are signed."""
    return _canonical({"_type": _TYPE, **asdict(statement), "conditions": dict(statement.conditions)})


def packed(payload: bytes, signature: bytes) -> bytes:
    """Return a statement and its armoured signature as one file."""
    raw = "".join(signature.decode("ascii", "replace").strip().splitlines()[1:-1])
    return _canonical({"payload": payload.decode(), "signature": raw})


def is_sampled(salt: bytes, name: str, share: float) -> bool:
    """Return whether a verdict is proved again; its signer does not know the salt, so it cannot choose which.

    Args:
        salt: secret bytes of this clone.
        name: name of the statement.
        share: share of the verdicts that are proved again, 0 to 1.
    """
    found = hashlib.sha256(salt + name.encode()).digest()
    return int.from_bytes(found[:8], "big") < share * 2**64


def public_key(key: Path) -> str:
    """Return the public half of an SSH key: its kind and its base64.

    Raises:
        StoreError: it cannot be read.
    """
    beside = key if key.suffix == ".pub" else key.with_name(f"{key.name}.pub")
    try:
        text = beside.read_text(encoding="utf-8")
    except OSError:
        words = ["ssh-keygen", "-y", "-P", "", "-f", str(key)]
        try:
            done = subprocess.run(
                words, capture_output=True, encoding="utf-8", errors="replace", check=False, stdin=subprocess.DEVNULL
            )
        except OSError as error:
            raise StoreError(f"ssh-keygen does not start: {error.strerror}") from error
        text = done.stdout
    if len(text.split()) < 2:  # noqa: PLR2004  (kind and key)
        raise StoreError(f"rules/verdicts.toml: key: the public half of {key} cannot be read")
    return " ".join(text.split()[:2])


def ref_name(public: str) -> str:
    """Return the name of the ref of a public key."""
    return hashlib.sha256(public.split()[1].encode()).hexdigest()[:24]


def scopes_of(environment: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """Return the scope that is written, and those that are read: a pull request reads its own and that of its base.

    Args:
        environment: variables of GitHub Actions (Forgejo and Gitea set the same) or of GitLab CI.
    """
    merge_request = environment.get("CI_MERGE_REQUEST_IID", "")
    found = _PULL.match(environment.get("GITHUB_REF", ""))
    number = found[1] if found else merge_request
    if number.isdecimal():
        own = f"pull/{number}"
    elif environment.get("GITHUB_EVENT_NAME", "").startswith("pull_request"):
        own = "pull/0"  # pull_request_target has the base as its ref, and still works for a stranger
    else:
        return "base", ("base",)
    return own, (own, "base")


@dataclass(frozen=True, slots=True)
class _Envelope:
    payload: bytes
    blob: bytes
    public: str


def _opened(data: bytes) -> _Envelope:
    """Return the parts of a file from a store, with the public key of the signature as base64.

    Raises:
        RefusedVerdict: it has another form than `packed` writes.
    """
    if len(data) > _MOST_BYTES:
        raise RefusedVerdict(f"it has {len(data)} bytes, expected at most {_MOST_BYTES}")
    try:
        value = json.loads(data)
        payload, signature = value["payload"].encode(), value["signature"]
        blob = base64.b64decode(signature, validate=True)
        if _canonical(value) != data or set(value) != {"payload", "signature"}:
            raise RefusedVerdict("it is not in its canonical form")
        if base64.b64encode(blob).decode() != signature:
            raise RefusedVerdict("its signature is not in its canonical form")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error) as error:
        raise RefusedVerdict("it is no signed verdict") from error
    # PROTOCOL.sshsig of OpenSSH: magic, version, then the public key as a string with its length before it.
    if blob[:10] != b"SSHSIG\x00\x00\x00\x01":
        raise RefusedVerdict("its signature is none of ssh")
    length = int.from_bytes(blob[10:14], "big")
    if not length or len(blob) < 14 + length:
        raise RefusedVerdict("its signature is cut off")
    return _Envelope(payload, blob, base64.b64encode(blob[14 : 14 + length]).decode())


def _stated(payload: bytes) -> Statement:
    """Return the statement of a payload.

    Raises:
        RefusedVerdict: it is no statement of this version.
    """
    try:
        value = json.loads(payload)
        if (
            value.pop("_type") != _TYPE
            or set(value) != set(_FIELDS)
            or _canonical({"_type": _TYPE, **value}) != payload
        ):
            raise RefusedVerdict("it is of another kind or version")
        if any(type(value[name]) is not kind for name, kind in _FIELDS.items()):
            raise RefusedVerdict("it has fields of another type")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RefusedVerdict("it is no statement of a verdict") from error
    return Statement(**{name: value[name] for name in _FIELDS})


def believed(
    data: bytes,
    wanted: Wanted,
    scopes: Sequence[str],
    trusted: Mapping[str, TrustedKey],
    *,
    now: float,
    days: int,
) -> tuple[str, Statement]:
    """Return who signed a shared verdict, and the verdict.

    Args:
        data: the file from a store.
        wanted: the check on a tree that it must be about.
        scopes: the scopes that are read here.
        trusted: name -> key whose verdicts are believed.
        now: epoch seconds.
        days: age from which a verdict is not believed.

    Raises:
        RefusedVerdict: it is forged, about something else, from an unknown key, or too old.
    """
    envelope = _opened(data)
    statement = _stated(envelope.payload)
    for name in ("tree", "key", "conditions"):
        if getattr(statement, name) != getattr(wanted, name):
            raise RefusedVerdict(f"it is about another {'check' if name == 'key' else name.removesuffix('s')}")
    if statement.scope not in scopes:
        raise RefusedVerdict(f"it is for {statement.scope}, which is not read here")
    if not now - days * 86_400 <= statement.at <= now + _AHEAD_S:
        raise RefusedVerdict(f"it is older than {days} days, or from the future")
    who = next((name for name, key in trusted.items() if key.public == envelope.public), "")
    if not who:
        raise RefusedVerdict("the key that signed it is not in rules/verdicts.toml")
    if statement.scope == "base" and trusted[who].scope != "base":
        raise RefusedVerdict(f"{who} may only sign for pull requests, and it is for the base")
    if not _fits(envelope, who, trusted[who]):
        raise RefusedVerdict(f"its signature does not fit its text, {who} did not sign it")
    return who, statement


def _fits(envelope: _Envelope, who: str, key: TrustedKey) -> bool:
    """Return whether a key signed exactly this payload."""
    text = base64.b64encode(envelope.blob).decode()
    lines = [_BEGIN, *(text[place : place + 70] for place in range(0, len(text), 70)), _END, ""]
    with tempfile.TemporaryDirectory(prefix="verdict-") as folder:
        signature, signers = Path(folder, "sig"), Path(folder, "signers")
        signature.write_text("\n".join(lines), encoding="ascii")
        signers.write_text(f'signer namespaces="{NAMESPACE}" {key.key}\n', encoding="utf-8")
        words = ["ssh-keygen", "-Y", "verify", "-f", str(signers), "-I", "signer", "-n", NAMESPACE]
        try:
            done = subprocess.run(
                [*words, "-s", str(signature)],
                input=envelope.payload,
                capture_output=True,
                check=False,
                env=users_environment(),
                timeout=30,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise StoreError(f"ssh-keygen cannot verify the verdict of {who}: {error}") from error
    return done.returncode == 0
