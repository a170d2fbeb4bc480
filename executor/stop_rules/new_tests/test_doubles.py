"""Test doubles: things that a test replaces or starts itself, so that using them is no external access."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.stop_rules.new_tests.syntax import resolve, value_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from executor.stop_rules.new_tests.syntax import Facts

__all__ = ["PROCESS", "Surroundings", "surroundings"]

PROCESS = re.compile(
    r"(subprocess\.(run|call|check_call|check_output|Popen|getoutput|getstatusoutput)|os\.(system|popen|exec\w+|spawn\w+)"
    r"|asyncio\.(subprocess\.)?create_subprocess_(exec|shell)|pexpect\.(spawn|run)|anyio\.(run_process|open_process))"
)
_MOCKERS = {"responses", "respx", "requests_mock", "vcr", "aioresponses", "httpretty", "pook", "betamax", "mocket"}
_MOCKING_PARAMS = {
    *_MOCKERS,
    "httpx_mock",
    "respx_mock",
    "mocked_responses",
    "requests_mocker",
    "aiohttp_client",
    "betamax_session",
}
_SERVER_PARAM = re.compile(r"\w*server\w*")
_SERVES = re.compile(
    r"(?:.*\.)?([A-Z]\w*Server|make_server|run_simple|start_server|create_server|serve|serve_forever|listen|Thread|Process"
    r"|Popen|create_subprocess_exec)"
)
_GENERIC = {"get", "post", "put", "request", "send", "connect", "run", "call", "open", "head", "delete", "patch"}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Test doubles of a test and of everything that it uses.

    Attributes:
        patched: dotted names and keys that are replaced.
        mocked: a library that answers instead of the network is in use.
        serves: a server is started.
        runners: functions of the file that run the command they are given.
        local: names of functions of the file.
    """

    patched: tuple[str, ...]
    mocked: bool
    serves: bool
    runners: frozenset[str]
    local: frozenset[str]

    def replaces(self, name: str) -> bool:
        """Whether something of the package of a dotted name, or a name just like it, is replaced."""
        root, last = name.partition(".")[0], name.rpartition(".")[2]
        for target in self.patched:
            parts = target.removesuffix("()").split(".")
            if root in parts or (last not in _GENERIC and last == parts[-1]):
                return True
        return False


def surroundings(reach: list[Facts]) -> Surroundings:
    """Collect the test doubles of a test and of everything that it uses."""
    patched = tuple(target for facts in reach for target in _patched(facts))
    params = {name for facts in reach for name in facts.params}
    roots = {facts.scope[name].partition(".")[0] for facts in reach for name in facts.names if name in facts.scope}
    marks = {node.attr for facts in reach for node in facts.nodes if isinstance(node, ast.Attribute)}
    mocked = bool(params & _MOCKING_PARAMS or roots & _MOCKERS or marks & {"vcr", "default_cassette", "block_network"})
    calls = [name for facts in reach for _, name in facts.calls]
    serves = any(_SERVES.fullmatch(name) for name in calls) or any(_SERVER_PARAM.fullmatch(name) for name in params)
    runners = {facts.unit.name for facts in reach if facts.unit.kind == "function" and _runs_processes(facts)}
    local = frozenset(facts.unit.name for facts in reach if facts.unit.kind == "function")
    silent = any(target.startswith("socket.socket") for target in patched)
    return Surroundings(patched, mocked or silent, serves, frozenset(runners), local)


def _runs_processes(facts: Facts) -> bool:
    """Whether a function runs the command that it is given."""
    for call, name in facts.calls:
        if PROCESS.fullmatch(name):
            used = {node.id for part in call.args for node in ast.walk(part) if isinstance(node, ast.Name)}
            if used & facts.params:
                return True
    return False


def _patched(facts: Facts) -> Iterator[str]:
    for call, name in facts.calls:
        last, holder = name.rpartition(".")[2], name.rpartition(".")[0].rpartition(".")[2]
        if last == "chdir":
            yield name
        if last not in {"patch", "setattr", "delattr", "setitem", "setenv", "stub", "spy"} and holder != "patch":
            continue
        texts = [value_of(item, facts.constants) for item in call.args[:2]]
        first = texts[0] if texts and isinstance(texts[0], str) else ""
        if not first and call.args:
            first = resolve(call.args[0], facts.scope).removeprefix(".")
        second = texts[1] if len(texts) > 1 and isinstance(texts[1], str) else ""
        yield f"{first}.{second}" if second else first
        if last in {"setitem", "setenv"}:
            yield second if last == "setitem" else first
        if last == "dict":
            yield from (
                str(item.value) for part in call.args for item in ast.walk(part) if isinstance(item, ast.Constant)
            )
            yield from (keyword.arg for keyword in call.keywords if keyword.arg)
    for node in facts.nodes:
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
            key = value_of(node.slice, facts.constants)
            if resolve(node.value, facts.scope) in {"os.environ", "sys.modules"} and isinstance(key, str):
                yield key
