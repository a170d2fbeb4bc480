"""`python -m executor worker` does the order on its standard input and writes the result to its standard output.

It needs git and this package, no service and no port. Whatever the command prints goes to standard error at once. All
processes of the command end with the worker, and the worker ends them when nobody reads its result any more.
"""

from __future__ import annotations

import base64
import json
import os
import platform
import re
import subprocess
import sys
import threading
import uuid
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING, Any

from executor.agents.command import child_environment, secrets_of
from executor.cluster.exchange import files_in, result_commit
from executor.cluster.line import BEAT, CONNECTION, Line, LineLostError
from executor.cluster.orders import PROTOCOL, Order, ProtocolError, Result, decoded, encoded, ended_as
from executor.environments.environment import portable_conditions
from executor.errors import ExecutorError, UsageError
from executor.git.command import Git, Identity, Repository, git_program, safe_environment
from executor.git.refs import Refs
from executor.process.files import left_file
from executor.process.runner import Command, Ended, Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["OUT", "Performed", "conditions_here", "perform", "serve", "worker_header"]

OUT = "@EXECUTOR_OUT@"
"""Stands for the folder of files that come back, in arguments and variables of an order."""
_ECHO = re.compile(r'\{"protocol": \d+, "(?:beat_s|describe|order|agent)"')
_MOST_ANSWER = 256 * 2**20  # bytes of an answer, read as a whole; a choice that bounds the memory
_HEADER = 4 * 2**20  # bytes of the first line of an order, with the arguments of its command
_MOST_OUT = 32 * 2**20  # bytes of a report that comes back; a choice, far above any report
_TAIL = 16 * 1024  # bytes of the end of a log
_POLL_S = 0.2  # seconds between two looks at a log
_WHO = Identity("make-for-milestones", "worker@localhost")


@dataclass(frozen=True, slots=True)
class Performed:
    """An order that was done: its result, and the files that its command left for the coordinator."""

    result: Result
    files: Mapping[str, bytes]


def serve(given: IO[bytes], answer: IO[bytes]) -> int:
    """Do what the order on `given` asks for, and write the result to `answer`; returns the exit code."""
    if given.isatty():
        raise UsageError(
            "expected a work order on standard input, found a terminal, which changes bytes: "
            "use a prefix without one (no -t), or --remote for orders on a remote"
        )
    line = Line(given.fileno(), answer.fileno())
    try:
        first = line.readline(_HEADER)
        if not first:
            raise UsageError(
                "expected a work order on standard input, found nothing: the prefix does not pass it on "
                "(docker run and kubectl exec need -i, ssh must not have -n)"
            )
        header = json.loads(first)
        number = header["protocol"]
        if number not in {PROTOCOL, CONNECTION}:
            raise ProtocolError(f"protocol {number}, expected {CONNECTION}; use one version on all hosts")
        beat, patience = float(header.get("beat_s", 0)), float(header.get("patience_s", 0))
        with line.kept(beat, patience, int(header["size"]) if beat else None):
            answered = {"protocol": number, **_answered(header, line)}
            line.send(b"\n" + json.dumps(answered).encode())
    except LineLostError as error:
        with suppress(OSError):
            sys.stderr.write(f"{error}\n")
            sys.stderr.flush()
        return 1
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"expected a work order on standard input: {error}") from error
    return 0


def _answered(header: Mapping[str, Any], line: Line) -> dict[str, object]:
    if "describe" in header:
        return _described(tuple(map(str, header["describe"])), python=bool(header.get("python")))
    if "agent" in header:
        return _agent_done(line)
    return _done(decoded(Order, json.dumps(header["order"]).encode()), line)


def worker_header(data: bytes, said: str, name: str) -> dict[str, object]:
    """Return the answer of a worker: the last line in its format; a login shell may print other lines.

    Args:
        data: its standard output.
        said: its standard error.
        name: the runner or host, for the message.

    Raises:
        ProtocolError: there is none, or it is of another version, or the connection was lost.
    """
    lines = [text.strip() for text in data.splitlines()]
    for text in reversed([text for text in lines if text.startswith(b"{")]):
        with suppress(ValueError, KeyError, TypeError):
            value = json.loads(text)
            number = value["protocol"]
            if not value.keys() & {"host", "result", "problem"}:
                continue
            if "problem" in value:
                raise ProtocolError(f"{name} {value['problem']}")
            if number in {PROTOCOL, CONNECTION}:
                return dict(value)
            raise ProtocolError(f"{name}: protocol {number}, expected {CONNECTION}; use one version on all hosts")
    raise ProtocolError(f"{name} did not answer as a worker: {_instead(lines, said)}")


def answer_in(path: Path, said: str) -> dict[str, object]:
    """Return the answer of a worker from a file with its standard output.

    Raises:
        ProtocolError: as `worker_header`.
    """
    if path.stat().st_size > _MOST_ANSWER:
        raise ProtocolError("its answer is too long")
    return worker_header(path.read_bytes(), said, "the host")


def _instead(lines: Sequence[bytes], said: str) -> str:
    """Return what came instead of an answer."""
    wrong = "; ".join([text.strip() for text in said.splitlines() if text.strip()][-2:])
    others = [text.decode("utf-8", "replace") for text in lines if text not in {b"", BEAT}]
    if any(_ECHO.match(text) for text in others):
        return "it repeats the order, so there is a terminal: use a prefix without one (no -t)"
    first = f"its standard output begins with {others[0][:200]!r}" if others else ""
    return "; ".join(filter(None, (wrong, first))) or "it said nothing"


def conditions_here(argv: tuple[str, ...], *, python: bool) -> dict[str, str]:
    """Return the conditions of verdicts of a command on this host; with `python`, the packages of Python count."""
    with TemporaryDirectory(prefix="work-") as name:  # a new folder each time, by which tools are asked again
        folder = Path(name)
        (folder / "worktrees").mkdir()
        if python:
            (folder / "requirements.txt").touch()
        env = child_environment((), {}, folder)
        found = portable_conditions(Repository(folder, folder, folder), argv, env, {})
    return {"sandbox": "host", **found}


def _described(argv: tuple[str, ...], *, python: bool) -> dict[str, object]:
    """Return what this host is: its name, and the conditions of verdicts of a command."""
    conditions = conditions_here(argv, python=python) if argv else {}
    done = subprocess.run(
        [git_program(), "--version"], capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    version = sys.version.split()[0]
    return {"host": platform.node(), "conditions": conditions, "git": done.stdout.strip(), "python": version}


def _done(order: Order, line: Line) -> dict[str, object]:
    with TemporaryDirectory(prefix="work-") as name:
        folder = Path(name)
        _unpack(folder, line)
        with Supervisor(folder / "children.lock") as supervisor, line.ending(supervisor.kill):
            performed = perform(order, folder, supervisor)
    files = {path: base64.b64encode(data).decode() for path, data in performed.files.items()}
    return {"result": json.loads(encoded(performed.result)), "files": files}


def _agent_done(line: Line) -> dict[str, object]:
    """Do the order of an agent; returns its result as a commit, with the objects that are new."""
    from executor.cluster.bench import Bench
    from executor.cluster.exchange import LOG_FILE

    with TemporaryDirectory(prefix="work-") as name:
        folder = Path(name)
        commit = _received(folder, line)
        bench = Bench(folder)
        refs = Refs(bench.repository, _WHO)
        try:
            order = decoded(Order, refs.message(commit).partition("\n\n")[2].encode())
            files = files_in(bench.store, commit, "")
            order = replace(order, brief=files.pop("brief.md", b"").decode("utf-8", "surrogateescape"))
            inputs = {path.removeprefix("in/"): data for path, data in files.items()}
            with (
                Supervisor(folder / "children.lock") as supervisor,
                line.ending(supervisor.kill),
                _shown(folder / LOG_FILE),
            ):
                result, left = bench.do(order, inputs, supervisor)
            left.pop(LOG_FILE, None)  # it was shown
            made = result_commit(bench.store, result, commit, left, _WHO)
            wanted = f"{made}\n^{commit}\n".encode()
            pack = Git(folder / "git", folder / "git").run("pack-objects", "--revs", "--stdout", "-q", given=wanted)
        finally:
            bench.close()
    return {"result": made, "pack": base64.b64encode(pack).decode()}


def _unpack(folder: Path, line: Line) -> None:
    """Check out the tree of the order whose pack follows into the folder ``tree``."""
    git, tree = folder / "git", folder / "tree"
    tree.mkdir()
    commit = _received(folder, line)
    _git(git, f"--work-tree={tree}", "read-tree", "--reset", "-u", commit)


def _received(folder: Path, line: Line) -> str:
    """Take the objects that follow into the repository ``git`` of a folder; returns the commit that they are of."""
    git = folder / "git"
    commit = line.readline(200).decode("ascii", "replace").strip()
    form = "sha1" if len(commit) == 40 else "sha256"  # noqa: PLR2004  (length of an object id)
    _git(folder, "init", "-q", "--bare", f"--object-format={form}", str(git))
    (git / "info").mkdir(exist_ok=True)
    (git / "info" / "attributes").write_text("* -text -filter -ident -working-tree-encoding !eol\n", encoding="utf-8")
    _git(git, "index-pack", "--stdin", "--strict", given=line)
    return commit


def _git(folder: Path, *words: str, given: Line | None = None) -> None:
    env = {**safe_environment(), **({"GIT_DIR": str(folder)} if folder.name == "git" else {})}
    stdin = subprocess.PIPE if given is not None else subprocess.DEVNULL
    with subprocess.Popen(
        [git_program(), *words], cwd=folder, env=env, stdin=stdin, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        if given is not None and process.stdin is not None:
            with suppress(BrokenPipeError):  # git says why
                while data := given.read(2**16):
                    process.stdin.write(data)
                process.stdin.close()
        words_of_git = process.stderr.read() if process.stderr is not None else b""
    if process.returncode != 0:
        raise ExecutorError(f"git {words[0]}: {words_of_git.decode('utf-8', 'replace').strip()}")


@contextmanager
def _beside(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run `work` in a thread during the block; the event is set at the end of the block, which waits for the thread."""
    over = threading.Event()
    thread = threading.Thread(target=work, args=(over,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def perform(order: Order, folder: Path, supervisor: Supervisor, *, shown: bool = True) -> Performed:
    """Run the set-up commands and the command of an order in ``tree`` below a folder.

    Args:
        order: the order.
        folder: a folder of this order with its ``tree``; gets ``out`` and logs.
        supervisor: runs the commands, and ends their whole process trees.
        shown: copy their output to standard error.
    """
    out, tree = folder / "out", folder / "tree" / order.start
    out.mkdir(exist_ok=True)
    tree.mkdir(parents=True, exist_ok=True)
    result = Result(order.id, 1, uuid.uuid4().hex[:12], platform.node(), "not-started")
    missing = [name for name in order.secrets if name not in os.environ]
    if missing:
        return Performed(replace(result, problem=f"{result.host} does not set {', '.join(missing)}"), {})
    env = {name: value.replace(OUT, str(out)) for name, value in order.env.items()}
    log = folder / "log"
    for number, argv in enumerate((*order.prepare, order.argv)):
        with _shown(log) if shown else nullcontext():
            ended = _run(supervisor, order, [word.replace(OUT, str(out)) for word in argv], env, (tree, log))
        result = replace(ended_as(result, ended), log=_tail(log))
        if number < len(order.prepare) and not ended.ok:
            return Performed(replace(result, how="not-started", problem=f"set-up: {ended.describe()}"), {})
    secrets = secrets_of(order.secrets)
    found = {path.name: left_file(out, path.name, secrets, _MOST_OUT) for path in sorted(out.iterdir())[:20]}
    return Performed(result, {name: data for name, data in found.items() if isinstance(data, bytes)})


def _run(
    supervisor: Supervisor, order: Order, argv: list[str], env: dict[str, str], places: tuple[Path, Path]
) -> Ended:
    tree, log = places
    log.touch()
    command = Command(
        argv=tuple(argv),
        cwd=tree,
        env=child_environment(order.secrets, env, tree),
        log=log,
        timeout=order.limits.timeout,
        idle=order.limits.idle or None,
        output_cap=order.limits.output_cap,
        secrets=secrets_of(order.secrets),
    )
    return supervisor.run(command)


@contextmanager
def _shown(log: Path) -> Iterator[None]:
    """Copy a log to standard error while it grows."""

    def copy(over: threading.Event) -> None:
        place, last = 0, False
        while not last:
            last = over.wait(_POLL_S)
            try:
                with log.open("rb") as file:
                    file.seek(place)
                    while data := file.read(2**16):
                        sys.stderr.buffer.write(data)
                        place += len(data)
                sys.stderr.buffer.flush()
            except FileNotFoundError:
                continue
            except OSError:
                return

    with _beside(copy):
        yield


def _tail(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - _TAIL))
        return file.read().decode("utf-8", "replace")
