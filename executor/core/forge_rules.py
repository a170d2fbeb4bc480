"""The rules of the forge: where pull requests live, and how they are merged. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StrictInt

from executor.core.hints import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["TOKENS", "Forge", "remote_problem", "token_problems"]

TOKENS = ("GITHUB_TOKEN", "GH_TOKEN")
"""Environment variables that may hold the forge's token, most specific first; no child ever gets them."""
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_SCHEMES = frozenset({"https", "ssh", "file"})
_SCP = re.compile(r"[A-Za-z0-9_.-]+@[A-Za-z0-9_.-]+:[^:]")


def remote_problem(remote: str) -> str:
    """Why a remote is not used; empty if it is: a name of the user's git configuration, a path or an address."""
    wanted = "expected the name of a remote, an https or ssh address or an absolute path"
    if not remote or remote.startswith("-") or not remote.isprintable():
        return f"{wanted}, found {quoted(remote)}"
    if "://" in remote:
        scheme, host = urlsplit(remote).scheme, urlsplit(remote).hostname or ""
        if scheme not in _SCHEMES and not (scheme == "http" and host in _LOOPBACK):
            return f"{wanted}, found {quoted(remote)}"
    elif "::" in remote or (":" in remote and not _SCP.match(remote)):
        return f"{wanted}, found {quoted(remote)}"
    return ""


def _remote(value: str) -> str:
    problem = remote_problem(value)
    if problem:
        raise ValueError(problem)
    return value


def _address(value: str) -> str:
    parts = urlsplit(value)
    host = parts.hostname or ""
    safe = parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK)
    if not host or not safe or parts.username or parts.query or parts.fragment:
        raise ValueError(f"expected an https address such as https://api.github.com, found {quoted(value)}")
    return value.rstrip("/")


def _repository(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+", value) or value.endswith(("/.", "/..")):
        raise ValueError(f'expected "owner/name", found {quoted(value)}')
    return value


def _label(value: str) -> str:
    if not value.strip() or not value.isprintable() or len(value) > 50:  # noqa: PLR2004  (the forge's own limit)
        raise ValueError(f"expected a label of at most 50 characters, found {quoted(value)}")
    return value


class Forge(BaseModel):
    """Where pull requests live.

    Attributes:
        kind: ``local``: in this repository, no account, no network unless a remote is declared; ``github``.
        remote: where branches are pushed to: a remote of the git configuration, an address or a path. Without one
            the kind `local` pushes nothing; the kind `github` takes ``origin``.
        repository: ``owner/name`` on the forge; without it, what the remote's address says.
        base_url: the forge's interface; another one for a GitHub of one's own.
        auto_merge: a pull request whose checks are pending is given to the forge to be merged when they are green.
        merge: how a pull request becomes one commit of the milestone branch.
        wait: seconds that a run waits for a pull request's checks before the issue comes to rest as ``open``.
        labels: labels that every pull request gets.
        statuses: the checks' verdicts are told to the forge.
        writes_per_minute: most requests that create or change something.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["local", "github"]
    remote: Annotated[str, AfterValidator(_remote)] | None = None
    repository: Annotated[str, AfterValidator(_repository)] | None = None
    base_url: Annotated[str, AfterValidator(_address)] = "https://api.github.com"
    auto_merge: StrictBool = True
    merge: Literal["squash", "merge", "rebase"] = "squash"
    wait: Annotated[float, Field(ge=0, strict=True, allow_inf_nan=False)] = 1800.0
    labels: tuple[Annotated[str, AfterValidator(_label)], ...] = ()
    statuses: StrictBool = True
    writes_per_minute: Annotated[StrictInt, Field(ge=1, le=10_000)] = 60

    @property
    def pushes_to(self) -> str | None:
        """The remote that branches are pushed to, if there is one."""
        return self.remote or ("origin" if self.kind == "github" else None)


def token_problems(name: str, env: Iterable[str]) -> Iterator[str]:
    """What is wrong with the variables that an agent or a check is given: the forge's token is none of them."""
    for variable in env:
        if variable in TOKENS:
            yield f"{quoted(name)} may not be given {variable}: no child process sees the forge's token"
