"""External access of a test: containers, databases, the network, running services, time.

Test doubles: things that a test replaces or starts itself, so their use is no external access.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.stop_rules.new_tests.syntax import resolve, value_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from executor.stop_rules.new_tests.syntax import Facts


__all__ = ["PROCESS", "Problem", "Surroundings", "problems", "surroundings"]


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
        patched: replaced dotted names and keys.
        mocked: it uses a library that answers instead of the network.
        serves: it starts a server.
        runners: functions of the file that run a command from their arguments.
        local: names of functions of the file.
    """

    patched: tuple[str, ...]
    mocked: bool
    serves: bool
    runners: frozenset[str]
    local: frozenset[str]

    def replaces(self, name: str) -> bool:
        """Return whether a dotted name, or anything of its package, is replaced."""
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
    """Return whether a function runs a command from its arguments."""
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


_CONTAINER_LIBRARY = re.compile(
    r"(docker|testcontainers|podman|python_on_whales|aiodocker|compose)\.(?!errors\b|types\b|utils\b)[^()]+"
)
_CONTAINER_FIXTURE = re.compile(r"docker|docker_\w+|\w+_docker|podman|podman_\w+")
_PRETENDED = re.compile(r"fake|mock|stub|dummy")
_TOOL = r"(?:docker|docker-compose|podman|podman-compose|nerdctl)"
_SHELL = re.compile(rf"(?:^|[\s;&|(`]){_TOOL}\s+[a-z-]")
_DATABASE = re.compile(
    r"(psycopg|psycopg2|psycopg_pool|asyncpg|pymysql|MySQLdb|cx_Oracle|oracledb|aiomysql|aiopg|mariadb|pyodbc|pymssql)\."
    r"([\w.]+\.)?(connect|create_pool|\w*ConnectionPool|Connection|SessionPool)"
    r"|mysql\.connector\.(connect|MySQLConnection|pooling\.\w+|aio\.connect)"
    r"|pymongo\.([\w.]+\.)?(Async)?MongoClient|motor\.motor_asyncio\.\w+Client|mongoengine\.connect"
    r"|(redis|aioredis)\.([\w.]+\.)?(Redis|StrictRedis|RedisCluster|from_url|create_redis\w*)"
)
_DATABASE_FIXTURE = re.compile(r"(postgresql|mysql|redis|mongo)_(no)?proc|postgresql|redisdb")
_ENGINE = re.compile(r"(sqlalchemy|sqlmodel)\.([\w.]+\.)?create_(async_)?engine|databases\.Database")
_VERB = r"(get|post|put|patch|delete|head|options|request|send|stream|ws_connect)"
_NETWORK = re.compile(
    rf"requests\.(api\.)?{_VERB}|requests\.(sessions\.)?[sS]ession\(\)\.{_VERB}"
    rf"|httpx\.{_VERB}|httpx\.(Async)?Client\(\)\.{_VERB}|aiohttp\.request|aiohttp\.ClientSession\(\)\.{_VERB}"
    r"|urllib\.request\.(urlopen|urlretrieve|build_opener\(\)\.open)|urllib3\.(request|PoolManager\(\)\.(request|urlopen))"
    r"|http\.client\.HTTPS?Connection\(\)\.(request|connect)|socket\.(create_connection|getaddrinfo|gethostbyname)"
    r"|socket\.socket\(\)\.connect(_ex)?|smtplib\.(SMTP|SMTP_SSL|LMTP)(\(\)\.connect)?|ftplib\.FTP(_TLS)?(\(\)\.connect)?"
    r"|paramiko\.(SSHClient\(\)\.connect|Transport)|telnetlib\.Telnet|asyncio\.open_connection|websockets\.([\w.]+\.)?connect"
)
_LOCAL = re.compile(r"(?:[a-z0-9+]+://(?:[^@/]*@)?)?(localhost|127\.\d+\.\d+\.\d+|0\.0\.0\.0|\[?::1\]?)(?=[:/]|$)")
_LOCAL_PORT = re.compile(r"[a-z0-9+]+://(?:[^@/]*@)?(localhost|127\.0\.0\.1|0\.0\.0\.0|\[::1\]):(\d+|\{\})")
_CONNECTS = re.compile(
    rf"(?:.*\.)?(connect|connect_\w+|from_url|open_connection|wait_for_\w+|\w+\(\)\.{_VERB}|fetch|ping)"
)
_SERVICE_VARIABLE = re.compile(r"\w*_(URL|URI|DSN|HOST)")
_SLEEP = re.compile(r"(time|asyncio|trio|anyio|gevent|eventlet|curio)\.sleep")
_LIMITS = {
    "timeout",
    "fail_after",
    "move_on_after",
    "wait_for",
    "create_task",
    "ensure_future",
    "start_soon",
    "Timeout",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """A forbidden action of a test, with its location."""

    line: int
    what: str
    score: int


def problems(facts: Facts, around: Surroundings) -> Iterator[Problem]:
    """Yield all problems of one unit, in no order."""
    yield from _fixtures(facts, around)
    excused = _bounded(facts)
    for call, name in facts.calls:
        found = _of_call(call, name, facts, around)
        if not found and _SLEEP.fullmatch(name) and call not in excused and not _slept_by_mock(around, facts):
            found = _sleep(call, name, facts)
        if found:
            yield Problem(call.lineno, *found)
    for node in facts.nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from _import(node, around)
        elif isinstance(node, ast.If) and _reads_environment(node.test, facts) and _skips(node):
            yield Problem(node.lineno, "is skipped unless an environment variable is set", 60)
    yield from _variables(facts, around)


def _of_call(call: ast.Call, name: str, facts: Facts, around: Surroundings) -> tuple[str, int] | None:  # noqa: PLR0911 - one per rule
    last = name.rpartition(".")[2]
    if last == "importorskip" and call.args and _CONTAINER_FIXTURE.fullmatch(str(value_of(call.args[0], {}))):
        return f"needs {value_of(call.args[0], {})}", 90
    if last in {"skipif", "skipIf", "skipUnless"}:
        return _skip(call, facts)
    if _CONTAINER_LIBRARY.fullmatch(name) and not around.replaces(name):
        return f"uses a container ({name})", 90
    if PROCESS.fullmatch(name) or name.removeprefix(".").removeprefix("self.") in around.runners:
        return _process(call, name, facts, around)
    if _DATABASE.fullmatch(name) and not around.replaces(name):
        return f"connects to a real database ({name})", 90
    if name == "sqlite3.connect" or _ENGINE.fullmatch(name):
        return _engine(call, name, facts, around)
    if _NETWORK.fullmatch(name):
        return _network(call, name, facts, around)
    if _CONNECTS.fullmatch(name) and not around.serves and not around.mocked and name.partition(".")[0] != "sqlite3":
        local = next((text for text in _texts(call, facts) if _LOCAL_PORT.match(text)), "")
        if local and not around.replaces(name):
            return f"needs a running service at {local}", 80
    return None


def _process(call: ast.Call, name: str, facts: Facts, around: Surroundings) -> tuple[str, int] | None:
    if around.replaces(name) or around.replaces("subprocess.run"):
        return None
    values = [value_of(argument, facts.constants) for argument in [*call.args, *(item.value for item in call.keywords)]]
    words = [word for value in values for word in (value if isinstance(value, list) else [value])]
    texts = [word for word in words if isinstance(word, str)]
    program = next((text for text in texts if text not in {"sudo", "env", "/usr/bin/env"}), "").rpartition("/")[2]
    if re.fullmatch(_TOOL, program) or any(_SHELL.search(text) for text in texts):
        return f"runs containers ({' '.join(texts)[:60]})", 90
    return None


def _engine(call: ast.Call, name: str, facts: Facts, around: Surroundings) -> tuple[str, int] | None:
    texts = _texts(call, facts)
    text = texts[0] if texts else ""
    if around.replaces(name):
        return None
    if name == "sqlite3.connect":
        fixed = bool(text) and ":memory:" not in text and "mode=memory" not in text and "{}" not in text
        moved = any(target.endswith("chdir") for target in around.patched)
        return ("writes a database file at a fixed path", 60) if fixed and not moved else None
    if re.match(r"(?!sqlite|duckdb|mock)[a-z0-9_+]+(://|$)", text):
        return f"connects to a real database ({text.partition(':')[0]})", 90
    return None


def _network(call: ast.Call, name: str, facts: Facts, around: Surroundings) -> tuple[str, int] | None:
    if around.mocked or around.replaces(name):
        return None
    texts = _texts(call, facts)
    address = next(
        (text for text in texts if text.upper() not in {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"}), ""
    )
    if not call.args and not call.keywords and name.startswith(("smtplib.", "ftplib.")):
        return None
    if address.startswith(("file:", "data:")) or any(_is_file(item, facts) for item in call.args):
        return None
    if _LOCAL.match(address) or not address or address.startswith(("{}", "/")):
        if around.serves:
            return None
        if _LOCAL.match(address):
            return f"needs a running service at {address}", 80
    return f"uses the network ({name.replace('()', '')})", 90


def _is_file(node: ast.expr, facts: Facts) -> bool:
    """Return whether an address refers to a file."""
    value = facts.constants.get(node.id, node) if isinstance(node, ast.Name) else node
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr == "as_uri"


def _sleep(call: ast.Call, name: str, facts: Facts) -> tuple[str, int] | None:
    argument = call.args[0] if call.args else next((item.value for item in call.keywords), None)
    seconds = value_of(argument, facts.constants)
    if not isinstance(seconds, int | float) or seconds <= 1:
        return None
    return f"sleeps for more than 1 s ({name})", 70


def _slept_by_mock(around: Surroundings, facts: Facts) -> bool:
    virtual = {"autojump_clock", "mock_clock"} & facts.params
    return bool(virtual) or any(target.rpartition(".")[2] == "sleep" for target in around.patched)


def _bounded(facts: Facts) -> set[ast.AST]:
    """Calls with a shorter time limit: ``wait_for(sleep(9), 0.1)``, ``with move_on_after(0.1): await sleep(9)``."""
    found: set[ast.AST] = set()
    for node in facts.nodes:
        if isinstance(node, ast.Call) and resolve(node.func, {}).rpartition(".")[2] in _LIMITS:
            found |= {item for argument in node.args for item in ast.walk(argument)}
        elif isinstance(node, ast.With | ast.AsyncWith):
            for item in node.items:
                context = item.context_expr
                limit = (
                    value_of(context.args[0], facts.constants)
                    if isinstance(context, ast.Call) and context.args
                    else None
                )
                named = resolve(context, {}).removesuffix("()").rpartition(".")[2] in _LIMITS
                if named and isinstance(limit, int | float) and limit <= 1:
                    found |= set(ast.walk(node))
    return found


def _fixtures(facts: Facts, around: Surroundings) -> Iterator[Problem]:
    given = {
        str(value_of(call.args[0], {})) for call, name in facts.calls if name.endswith("parametrize") and call.args
    }
    for name in sorted(facts.params - around.local):
        if _PRETENDED.search(name) or any(name in re.split(r"[\s,]+", names) for names in given):
            continue
        line = getattr(facts.unit.node, "lineno", 1)
        if _CONTAINER_FIXTURE.fullmatch(name) and not any("docker" in target for target in around.patched):
            yield Problem(line, f"needs containers (fixture {name})", 90)
        elif _DATABASE_FIXTURE.fullmatch(name):
            yield Problem(line, f"connects to a real database (fixture {name})", 90)


def _import(node: ast.Import | ast.ImportFrom, around: Surroundings) -> Iterator[Problem]:
    names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
    for name in names:
        if not getattr(node, "level", 0) and _CONTAINER_LIBRARY.match(f"{name}.x") and not around.replaces(name):
            yield Problem(node.lineno, f"uses a container ({name})", 90)


def _variables(facts: Facts, around: Surroundings) -> Iterator[Problem]:
    """Yield addresses of services that a test expects in the environment."""
    asserted = {item for node in facts.nodes if isinstance(node, ast.Assert) for item in ast.walk(node)}
    for node in facts.nodes:
        key: ast.expr | None = None
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
            key = node.slice if resolve(node.value, facts.scope) == "os.environ" else None
        elif isinstance(node, ast.Call) and resolve(node.func, facts.scope) in {"os.getenv", "os.environ.get"}:
            default = value_of(node.args[1], facts.constants) if len(node.args) > 1 else None
            harmless = isinstance(default, str) and (not default or default.startswith(("sqlite", "memory", "mock")))
            key = node.args[0] if node.args and not harmless else None
        name = value_of(key, facts.constants)
        if (
            isinstance(name, str)
            and _SERVICE_VARIABLE.fullmatch(name)
            and name not in around.patched
            and node not in asserted
        ):
            yield Problem(getattr(node, "lineno", 1), f"needs a running service (environment variable {name})", 80)


def _skip(call: ast.Call, facts: Facts) -> tuple[str, int] | None:
    if any(_reads_environment(argument, facts) for argument in call.args):
        return "is skipped unless an environment variable is set", 60
    if any("docker" in text for node in call.args for text in _constants(node, facts)):
        return "is skipped unless containers can be run", 80
    return None


def _skips(node: ast.If) -> bool:
    calls = (item for part in node.body for item in ast.walk(part) if isinstance(item, ast.Call))
    return any(resolve(call.func, {}).rpartition(".")[2] in {"skip", "skipTest"} for call in calls)


def _reads_environment(node: ast.expr, facts: Facts) -> bool:
    """Return whether a condition depends on the environment, directly or by the name of a constant."""
    waiting, seen = [node], set[str]()
    while waiting:
        for item in ast.walk(waiting.pop()):
            if isinstance(item, ast.Constant) and isinstance(item.value, str) and "os.environ" in item.value:
                return True
            name = resolve(item, facts.scope) if isinstance(item, ast.Attribute | ast.Name) else ""
            if name in {"os.environ", "os.getenv"}:
                return True
            if isinstance(item, ast.Name) and item.id in facts.constants and item.id not in seen:
                seen.add(item.id)
                waiting.append(facts.constants[item.id])
    return False


def _constants(node: ast.expr, facts: Facts) -> list[str]:
    nodes = [node, facts.constants[node.id]] if isinstance(node, ast.Name) and node.id in facts.constants else [node]
    values = (item.value for part in nodes for item in ast.walk(part) if isinstance(item, ast.Constant))
    return [value for value in values if isinstance(value, str)]


def _texts(call: ast.Call, facts: Facts) -> list[str]:
    """Strings among the arguments, in order; of a pair (host, port) the host, of a known constructor its first."""
    found: list[str] = []
    for node in [*call.args, *(item.value for item in call.keywords)]:
        value = value_of(node, facts.constants)
        if isinstance(value, list) and value:
            value = value[0]
        if value is None and isinstance(node, ast.Call) and node.args:
            value = value_of(node.args[0], facts.constants)
        if isinstance(value, str):
            found.append(value)
    if isinstance(call.func, ast.Attribute):
        base = call.func.value
        made = facts.constants.get(base.id) if isinstance(base, ast.Name) else base
        if isinstance(made, ast.Call) and not any(_LOCAL.match(text) or "://" in text for text in found):
            values = [value_of(item, facts.constants) for item in [*made.args, *(word.value for word in made.keywords)]]
            found = [value for value in values if isinstance(value, str)][:1] + found
    return found
