"""The rules for forges, notices, verdicts and other hosts. Pure.

`rules/forge.toml`: where pull requests are, and how they are merged; `notify.toml`: recipients and channels of notices;
`status.toml`: a command that is called for each phase, and a file that is kept up to date; `verdicts.toml`: where
verdicts of checks are shared, and whose are believed; `runners.toml`: other hosts on which checks and agents run.
"""

from __future__ import annotations

import re
import string
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StrictInt, ValidationInfo

from executor.model.hints import quoted
from executor.model.milestone import Branch, CommitType, Seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "FORGES",
    "TOKENS",
    "VARIABLE",
    "Channel",
    "Forge",
    "NoticeKind",
    "Runner",
    "StatusRules",
    "TrustedKey",
    "VerdictRules",
    "channel_problems",
    "remote_problem",
    "runner_problems",
    "token_problems",
    "token_variables",
]


FORGES = "make_for_milestones.forges"
"""The group of entry points with the kinds of forges."""
_TOKENS = {
    "github": ("GITHUB_TOKEN", "GH_TOKEN"),
    "gitlab": ("GITLAB_TOKEN", "GL_TOKEN"),
    "forgejo": ("FORGEJO_TOKEN", "GITEA_TOKEN"),
    "gitea": ("GITEA_TOKEN", "FORGEJO_TOKEN"),
}
TOKENS = tuple(dict.fromkeys(name for names in _TOKENS.values() for name in names))
"""Environment variables that may hold a forge's token; no child ever receives them."""
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_SCHEMES = frozenset({"https", "ssh", "file"})
_SCP = re.compile(r"[A-Za-z0-9_.-]+@[A-Za-z0-9_.-]+:[^:]")


def remote_problem(remote: str) -> str | None:
    """Return why a remote is invalid; None for a name of the user's git configuration, a path or an address."""
    wanted = "expected the name of a remote, an https or ssh address or an absolute path"
    if not remote or remote.startswith("-") or not remote.isprintable():
        return f"{wanted}, found {quoted(remote)}"
    if "://" in remote:
        scheme, host = urlsplit(remote).scheme, urlsplit(remote).hostname or ""
        if scheme not in _SCHEMES and not (scheme == "http" and host in _LOOPBACK):
            return f"{wanted}, found {quoted(remote)}"
    elif "::" in remote or (":" in remote and not _SCP.match(remote)):
        return f"{wanted}, found {quoted(remote)}"
    return None


def _kind(value: str) -> str:
    if value != "local" and value not in _TOKENS:
        installed = {entry.name for entry in entry_points(group=FORGES)}
        if value not in installed:
            names = ", ".join(f'"{name}"' for name in ["local", *sorted(installed | set(_TOKENS))])
            raise ValueError(f"expected one of {names}, found {quoted(value)}")
    return value


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
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*(?:/[A-Za-z0-9._-]+)+", value) or value.endswith(("/.", "/..")):
        raise ValueError(f'expected "owner/name", found {quoted(value)}')
    return value


def _stack(value: bool, info: ValidationInfo) -> bool:  # noqa: FBT001  (the shape that pydantic calls)
    if value and info.data.get("kind") == "local":
        raise ValueError('expected a kind of forge such as kind = "github", found "local"')
    return value


def _label(value: str) -> str:
    if not value.strip() or not value.isprintable() or len(value) > 50:  # noqa: PLR2004  (the forge's own limit)
        raise ValueError(f"expected a label of at most 50 characters, found {quoted(value)}")
    return value


class Forge(BaseModel):
    """The forge and the handling of pull requests.

    Attributes:
        kind: ``local``: in this repository, without an account, and without network unless a remote is declared; or the
            name of a plug-in: ``github``, ``gitlab``, ``forgejo``, ``gitea``, or one of another package.
        remote: the remote to push to: a remote of the git configuration, an address or a path. Without one, the kind
            `local` pushes nothing; every other kind uses ``origin``.
        repository: ``owner/name`` on the forge; by default that of the remote's address.
        base_url: address of the forge's API (GitHub) or of the instance (the others); empty: the public one.
        auto_merge: leave a pull request with pending checks to the forge, which merges it once they are green.
        merge: how a pull request becomes one commit of the milestone branch.
        wait: seconds that a run waits for a pull request's checks before it leaves the issue ``open``.
        labels: labels of every pull request.
        statuses: report the checks' verdicts to the forge.
        writes_per_minute: maximum number of requests with changes.
        dependencies: give the forge's issues the dependencies that are declared as `needs`; GitHub only.
        stack: pull requests that wait for the forge form a stack: each goes to the branch of the one below it, and to
            the milestone branch once that has merged.
        commit_types: conventional commit type of each issue type, by its name in lower case; ``feat`` for others.
        lower_case: descriptions start with a lower-case letter, as @commitlint/config-conventional requires.
        assisted_by: commits and pull requests name the agent and its model as ``Assisted-by``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Annotated[str, AfterValidator(_kind)]
    remote: Annotated[str, AfterValidator(_remote)] | None = None
    repository: Annotated[str, AfterValidator(_repository)] | None = None
    base_url: Annotated[str, AfterValidator(_address)] | None = None
    auto_merge: StrictBool = True
    merge: Literal["squash", "merge", "rebase"] = "squash"
    wait: Annotated[float, Field(ge=0, strict=True, allow_inf_nan=False)] = 1800.0
    labels: tuple[Annotated[str, AfterValidator(_label)], ...] = ()
    statuses: StrictBool = True
    writes_per_minute: Annotated[StrictInt, Field(ge=1, le=10_000)] = 60
    dependencies: StrictBool = False
    stack: Annotated[StrictBool, AfterValidator(_stack)] = False
    commit_types: dict[str, CommitType] = Field(default_factory=dict)
    lower_case: StrictBool = False
    assisted_by: StrictBool = True

    @property
    def pushes_to(self) -> str | None:
        """The remote to push to; None without one."""
        return self.remote or (None if self.kind == "local" else "origin")


def token_variables(kind: str) -> tuple[str, ...]:
    """Return environment variables that may hold the token of a kind of forge, most specific first."""
    return _TOKENS.get(kind) or (f"{kind.upper().replace('-', '_')}_TOKEN",)


def token_problems(name: str, env: Iterable[str]) -> Iterator[str]:
    """Yield faults of the variables passed to agents and checks: the forge's token must not be among them."""
    for variable in env:
        if variable in TOKENS:
            yield f"{quoted(name)} must not get {variable}: no child process sees the forge's token"


NoticeKind = Literal["review", "failed", "skipped", "question", "blocker", "complete", "released", "digest"]
_USUAL: tuple[NoticeKind, ...] = ("review", "failed", "question", "blocker", "complete", "released", "digest")
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
"""An environment variable in a url."""
_PASSWORD = re.compile(r"://[^/@:?]*:[^/@?]+@")
_PLACES = frozenset({"kind", "milestone", "issue", "title", "body", "event"})
_WORD = re.compile(r"\{([^{}]*)\}")


class Channel(BaseModel):
    """A channel for notices.

    Attributes:
        name: its name.
        url: its address in Apprise's format; ``${NAME}`` is replaced by an environment variable.
        command: argument list; it receives the text on standard input; ``{title}``, ``{body}``, ``{kind}``,
            ``{milestone}``, ``{issue}`` and ``{event}`` are filled in.
        plugin: name of a plug-in of another package that sends the text.
        events: kinds of notices that it receives.
        env: names of variables that the command receives besides the ordinary ones.
        timeout: maximum seconds for one message.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    url: str = ""
    command: tuple[str, ...] = ()
    plugin: str = ""
    events: tuple[NoticeKind, ...] = _USUAL
    env: tuple[str, ...] = ()
    timeout: Seconds = 20.0


def channel_problems(channel: Channel) -> list[tuple[str, str]]:
    """Return faults of a channel: (key, problem)."""
    found: list[tuple[str, str]] = []
    if sum(map(bool, (channel.url, channel.command, channel.plugin))) != 1:
        found.append(("", "expected either a url, a command or a plugin"))
    if _PASSWORD.search(VARIABLE.sub("", channel.url)):
        found.append(("url", "expected no password in the file; write ${NAME} and set the environment variable NAME"))
    for word in channel.command:
        unknown = [name for name in _WORD.findall(word) if name not in _PLACES]
        if unknown:
            known = ", ".join(f"{{{name}}}" for name in sorted(_PLACES))
            found.append(("command", f"unknown placeholder in {quoted(word)}; known are {known}"))
    return found


_PLACEHOLDERS = frozenset({"id", "milestone", "issue", "status", "phase"})


def _words(value: tuple[str, ...]) -> tuple[str, ...]:
    for word in value:
        try:
            parts = [part[1:] for part in string.Formatter().parse(word) if part[1] is not None]
        except ValueError as error:
            raise ValueError(f"expected braces in pairs: {error}") from error
        names = {f"{name}{f'!{how}' if how else ''}{f':{form}' if form else ''}" for name, form, how in parts}
        if names - _PLACEHOLDERS:
            known = ", ".join(f"{{{name}}}" for name in sorted(_PLACEHOLDERS))
            raise ValueError(f"unknown placeholder {{{min(names - _PLACEHOLDERS)}}}; known: {known}")
    return value


def _inside(value: str) -> str:
    if value.startswith("/") or ".." in value.split("/"):
        raise ValueError("expected a relative path without ..")
    return value


class StatusRules(BaseModel):
    """The status command and the tracking file.

    Attributes:
        command: argument list; ``{id}``, ``{milestone}``, ``{issue}``, ``{status}`` and ``{phase}`` are filled in;
            empty for no command.
        env: names of environment variables that it receives besides the ordinary ones.
        timeout_s: seconds until it is stopped.
        tracking: Markdown file in the repository whose sections are kept current while a run works; empty: none.
        push_to: branch of the remote that gets the tracking files as commits, at most one a minute and one at the end;
            a separate branch without files of the project.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: Annotated[tuple[str, ...], AfterValidator(_words)] = ()
    env: tuple[str, ...] = ()
    timeout_s: Annotated[float, Field(gt=0, strict=True, allow_inf_nan=False)] = 10.0
    tracking: Annotated[str, AfterValidator(_inside)] = ""
    push_to: Branch | None = None

    def argv(self, values: dict[str, str]) -> tuple[str, ...]:
        """Return the argument list with every placeholder filled in."""
        return tuple(word.format_map(values) for word in self.command)


_PUBLIC_KEY = re.compile(
    r"(ssh-(?:ed25519|rsa)|ecdsa-sha2-nistp\d+|sk-(?:ssh-ed25519|ecdsa-sha2-nistp256)@openssh\.com) "
    r"([A-Za-z0-9+/]+=*)(?: [^\n]*)?"
)
_SIGNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._+-]{0,99}")


def _public_key(value: str) -> str:
    if not _PUBLIC_KEY.fullmatch(value.strip()):
        raise ValueError(f'expected a public key such as "ssh-ed25519 AAAA...", found {quoted(value)}')
    return " ".join(value.split()[:2])


class TrustedKey(BaseModel):
    """A key whose verdicts are believed.

    Attributes:
        key: the public key.
        scope: ``base``: it may sign for the base and for pull requests; ``pull``: for pull requests only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: Annotated[str, AfterValidator(_public_key)]
    scope: Literal["base", "pull"] = "base"

    @property
    def public(self) -> str:
        """The key as base64, without its kind."""
        return self.key.split()[1]


def _signers(value: dict[str, TrustedKey]) -> dict[str, TrustedKey]:
    for name in value:
        if not _SIGNER.fullmatch(name):
            raise ValueError(f"expected a name of letters, digits and @._+-, found {quoted(name)}")
    return value


def _verdict_store(value: str) -> str:
    if value in {"", "remote"} or value.startswith(("/", "~/")):
        return value
    parts = urlsplit(value)
    if parts.scheme in {"http", "https"} and parts.hostname and not (parts.username or parts.query or parts.fragment):
        return value.rstrip("/")
    raise ValueError(
        f'expected "remote", an absolute path or an address such as https://cache.example.org, found {quoted(value)}'
    )


class VerdictRules(BaseModel):
    """Shared verdicts.

    Attributes:
        store: where they are: ``remote``: refs of the remote; an absolute path or one below ``~``: a folder; an http or
            https address: a cache server that bazel-remote's GET and PUT work with; empty: verdicts are not shared.
        key: path of the SSH key that signs those of this clone; without one it only reads.
        token: name of the environment variable with the server's bearer token, or with ``user:password``.
        sample: share of the verdicts of others that is proved again here.
        days: age in days from which a verdict is not used.
        timeout_s: seconds that the server may take for one answer.
        trusted: the keys whose verdicts are believed, by the name that is shown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: Annotated[str, AfterValidator(_verdict_store)] = ""
    key: str = ""
    token: Annotated[str, Field(pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?$")] = ""
    sample: Annotated[float, Field(ge=0, le=1, strict=True, allow_inf_nan=False)] = 0.05
    days: Annotated[StrictInt, Field(ge=1, le=3650)] = 30
    timeout_s: Annotated[float, Field(gt=0, le=600, strict=True, allow_inf_nan=False)] = 5.0
    trusted: Annotated[dict[str, TrustedKey], AfterValidator(_signers)] = Field(default_factory=dict)


def _like(pattern: str, wanted: str) -> AfterValidator:
    def fits(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"expected {wanted}, found {quoted(value)}")
        return value

    return AfterValidator(fits)


_File = Annotated[str, _like(r"~?/.+", "an absolute path or one below ~")]
_Scheduler = Annotated[str, _like(r"(tls|tcp)://(\[[\da-fA-F:]+\]|[^/:@\s]+):\d+", "an address like tls://host:8786")]
Amounts = dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]]


class Tls(BaseModel):
    """Files of the authority that a scheduler is signed by, and of the certificate and key of this machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ca: _File
    cert: _File
    key: _File


class Runner(BaseModel):
    """Other hosts: one behind a command, or any number of workers that claim orders from the refs of a remote.

    Attributes:
        name: its name.
        kind: ``prefix``: the order goes to the standard input of a command, the result comes from its standard output;
            ``git``: done by `python -m executor worker --remote URL` on any host; ``dask``: as ``git``, and a Dask
            scheduler starts a worker for each order.
        prefix: words before the worker's command, such as ``["ssh", "box"]`` or ``["docker", "run", "-i", "image"]``.
        worker: the worker's command there.
        remote: the remote with the orders: by default that of rules/forge.toml, else ``origin``.
        labels: what a check or a route can ask for by `runner`; its name is one, too.
        needs: labels that a worker must have to claim an order.
        slots: checks and agents that run there at the same time, for each milestone; ``git`` has those of its workers.
        env: names of variables that commands receive from the environment of the host; their values never travel.
        isolated: a person vouches that whatever runs there can do no harm, so no sandbox is needed there.
        connect_s: seconds for the first answer, and beside the time limit of a command.
        beat_s: seconds between two heartbeats of a worker.
        patience_s: seconds of silence after which another worker takes an order over; of ``prefix``, both ends give up.
        poll_s: seconds between two looks of the coordinator for results.
        claim_s: seconds after which an order that no worker claims is withdrawn.
        address, tls: address of the Dask scheduler, which runs whatever it is sent, so ``tcp://`` has to be here.
        resources, check_resources: resources of Dask that an agent takes, or a check; they are the slots of a host.
        start_s: seconds until an unclaimed order is submitted to Dask again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: Literal["prefix", "git", "dask"] = "prefix"
    prefix: tuple[str, ...] = ()
    worker: Annotated[tuple[str, ...], Field(min_length=1)] = ("python3", "-m", "executor", "worker")
    remote: Annotated[str, AfterValidator(_remote)] | None = None
    labels: tuple[str, ...] = ()
    needs: tuple[Annotated[str, Field(pattern=r"^[^,\s]+$")], ...] = ()
    slots: Annotated[StrictInt, Field(ge=1, le=1024)] = 1
    env: tuple[str, ...] = ()
    isolated: StrictBool = False
    connect_s: Seconds = 60.0
    beat_s: Seconds = 10.0
    patience_s: Seconds = 60.0
    poll_s: Seconds = 2.0
    claim_s: Seconds = 3600.0
    address: _Scheduler = ""
    tls: Tls | None = None
    resources: Amounts = Field(default_factory=lambda: {"agent": 1.0})
    check_resources: Amounts = Field(default_factory=lambda: {"check": 1.0})
    start_s: Seconds = 60.0

    @property
    def names(self) -> tuple[str, ...]:
        """Return the labels that checks and routes can name."""
        return (self.name, *self.labels)

    @property
    def claimed(self) -> bool:
        """Whether workers claim its orders; otherwise a command starts its worker."""
        return self.kind != "prefix"


def runner_problems(runner: Runner) -> Iterator[tuple[str, str]]:
    """Yield contradictions in a runner: (key, problem)."""
    if runner.claimed is bool(runner.prefix):
        yield "prefix", f'expected no prefix together with kind = "{runner.kind}"' if runner.claimed else _WORDS
    if runner.patience_s < 2 * runner.beat_s:
        yield "patience_s", f"expected at least two heartbeats ({2 * runner.beat_s:g}), found {runner.patience_s:g}"
    encrypted = runner.address.startswith("tls:")
    if runner.kind != "dask":
        yield from ((key, 'expected only with kind = "dask"') for key in _OF_DASK if key in runner.model_fields_set)
    elif not runner.address:
        yield "address", "expected an address like tls://host:8786"
    elif not encrypted and urlsplit(runner.address).hostname not in _LOOPBACK:
        yield "address", f"expected tls:// for another machine, found {quoted(runner.address)}"
    elif encrypted != (runner.tls is not None):
        yield "tls", "expected ca, cert and key with a tls:// address, and only with one"


_WORDS = 'expected words before the worker\'s command such as ["ssh", "box"]'
_OF_DASK = ("address", "tls", "resources", "check_resources", "start_s")
