"""What a command prints of its secrets never gets into its log: real processes under a real supervisor."""

from __future__ import annotations

import os
import random
import string
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from executor.process.redact import forms_of
from executor.process.runner import Command, Supervisor, read_result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATH = "/usr/bin:/bin"

FORMS = """
import base64, json, os, sys, urllib.parse
secret = os.environ["SECRET"]
raw = secret.encode()
shown = [raw, raw.hex().encode(), raw.hex().upper().encode()]
for before in (b"", b"u", b"u:", b"use:"):
    for after in (b"", b"\\n", b"xy"):
        shown += [base64.b64encode(before + raw + after), base64.urlsafe_b64encode(before + raw + after).rstrip(b"=")]
for safe in ("", "/", ":/", "!~*'()"):
    shown.append(urllib.parse.quote(secret, safe=safe).encode())
shown += [json.dumps(secret).encode(), json.dumps(json.dumps({"key": secret})).encode(), repr(secret).encode()]
shown += [repr(raw).encode(), secret.encode("unicode_escape"), urllib.parse.quote_plus(secret).encode()]
for text in shown:
    sys.stdout.buffer.write(b"<" + text + b">\\n")
sys.stdout.flush()
sys.stderr.write(secret)
sys.exit(7)
"""

PIECES = """
import os, sys, time
for byte in os.environ["SECRET"].encode():
    os.write(1, bytes((byte,)))
    time.sleep(0.003)
half = len(os.environ["SECRET"]) // 2
os.write(1, b" then " + os.environ["SECRET"][:half].encode())
time.sleep(0.2)
os.write(2, os.environ["SECRET"][half:].encode() + b" done")
"""


@pytest.fixture
def secret() -> str:
    """Made here, so that it is nowhere else; with something that each encoding changes."""
    letters = random.SystemRandom().choices(string.ascii_letters + string.digits, k=32)
    return "".join(letters[:16]) + "+/\"\\ü '" + "".join(letters[16:])


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    with Supervisor(tmp_path / "lock") as running:
        yield running


@pytest.fixture
def command(tmp_path: Path, secret: str) -> Callable[..., Command]:
    def build(*argv: str, **more: Any) -> Command:
        env = {"PATH": PATH, "SECRET": secret, "PYTHONUTF8": "1"}
        values = {"cwd": tmp_path, "env": env, "log": tmp_path / "log", "secrets": (secret,), **more}
        return Command(argv, **values)

    return build


def python(script: str) -> tuple[str, ...]:
    return sys.executable, "-I", "-S", "-X", "utf8", "-c", script


def has(data: bytes, secret: str) -> bool:
    """Whether the secret is there in any form, or a good part of it as it is."""
    raw = secret.encode()
    parts = [raw[at : at + 8] for at in range(len(raw) - 7)]
    return any(form in data for form in (*forms_of(secret), *parts))


def processes_with(text: str) -> dict[int, str]:
    """Where it can be read in /proc, by process."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            try:
                if text.encode() in (folder / name).read_bytes():
                    found[int(folder.name)] = name
            except OSError:
                continue
    return found


def test_a_secret_in_all_its_forms_is_not_in_the_log(
    supervisor: Supervisor, command: Any, secret: str, tmp_path: Path
) -> None:
    ended = supervisor.run(command(*python(FORMS), result_file=tmp_path / "result"))
    log = (tmp_path / "log").read_bytes()
    assert (ended.code, ended.reason, ended.problem) == (7, "exited", "")
    assert not has(log, secret)
    assert log.count(b"[redacted]") == log.count(b"<") + 1 == 3 + 24 + 4 + 6 + 1
    assert ended.output_bytes > len(log)
    assert read_result(tmp_path / "result") == ended
    assert not has((tmp_path / "result").read_bytes(), secret)


def test_without_knowing_the_secret_the_log_has_it(
    supervisor: Supervisor, command: Any, secret: str, tmp_path: Path
) -> None:
    supervisor.run(command(*python(FORMS), secrets=()))
    assert has((tmp_path / "log").read_bytes(), secret)


def test_a_secret_in_pieces_is_at_no_time_in_the_log(
    supervisor: Supervisor, command: Any, secret: str, tmp_path: Path
) -> None:
    seen: list[bytes] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.005):
            if (tmp_path / "log").exists():
                seen.append((tmp_path / "log").read_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    ended = supervisor.run(command(*python(PIECES)))
    over.set()
    watcher.join()
    assert ended.ok
    assert (tmp_path / "log").read_bytes() == b"[redacted] then [redacted] done"
    assert len(set(seen)) >= 2
    assert not any(secret[:2].encode() in log for log in seen)
    assert ended.output_bytes == 2 * len(secret.encode()) + len(" then  done")


def test_output_is_in_the_log_while_the_command_runs(supervisor: Supervisor, command: Any, tmp_path: Path) -> None:
    script = f"printf 'working...'; until grep -q working {tmp_path}/log; do sleep 0.01; done"
    assert supervisor.run(command("sh", "-c", script, timeout=5)).ok


@pytest.mark.parametrize("cap", [64, 200])
def test_a_secret_at_the_boundary_of_head_and_tail_is_not_in_the_log(
    supervisor: Supervisor, command: Any, secret: str, tmp_path: Path, cap: int
) -> None:
    size = len(secret.encode())
    for before in range(cap // 2 - size - 2, cap // 2 + 3):
        if before < 0:
            continue
        for after in (0, 20, 500):
            script = f"printf '%{before}s' ''; printf '%s' \"$SECRET\"; printf '%{after}s' ''"
            ended = supervisor.run(command("sh", "-c", script, output_cap=cap))
            log = (tmp_path / "log").read_bytes()
            assert ended.output_bytes == before + size + after
            assert not any(secret.encode()[at : at + 5] in log for at in range(size - 4)), (before, after)
            assert len(log) <= cap + len("\n... 999 bytes left out ...\n")


def test_beyond_the_cap_no_secret_is_in_head_or_tail(
    supervisor: Supervisor, command: Any, secret: str, tmp_path: Path
) -> None:
    script = """
import os, random
raw = os.environ["SECRET"].encode()
data = b"".join(b"x" * random.randrange(100) + raw for _ in range(20000)) + raw[:-1]
while data:
    size = random.randrange(1, 5000)
    os.write(1, data[:size])
    data = data[size:]
"""
    for cap in (1000, 10_001, 100_003):
        ended = supervisor.run(command(*python(script), output_cap=cap))
        log = (tmp_path / "log").read_bytes()
        assert ended.ok
        assert b"bytes left out" in log
        assert cap < len(log) < cap + 60
        assert not has(log, secret)
        assert ended.output_bytes > 20_000 * len(secret)


@pytest.mark.parametrize("limit", [{"timeout": 0.4}, {"output_limit": 40}])
def test_a_secret_that_a_limit_cuts_off_is_not_in_the_log(
    supervisor: Supervisor, command: Any, tmp_path: Path, limit: dict[str, Any]
) -> None:
    script = """
import os, time
raw = os.environ["SECRET"].encode()
os.write(1, b"token: " + raw[: len(raw) * 3 // 4])
time.sleep(60)
"""
    padded = script if "timeout" in limit else script.replace("token: ", "token: " + 40 * "-")
    ended = supervisor.run(command(*python(padded), **limit))
    assert not ended.ok
    assert (tmp_path / "log").read_bytes().strip(b"-") in {b"token: [redacted]", b"token: " + 40 * b"-" + b"[redacted]"}


def test_the_secrets_of_one_command_are_not_those_of_another(
    supervisor: Supervisor, command: Any, tmp_path: Path
) -> None:
    script = 'printf "%s" "first-secret second-secret"'
    for secret, left in (
        ("first-secret", b"[redacted] second-secret"),
        ("second-secret", b"first-secret [redacted]"),
        ("short", b"first-secret second-secret"),
    ):
        supervisor.run(command("sh", "-c", script, secrets=(secret,)))
        assert (tmp_path / "log").read_bytes() == left


def test_bytes_that_are_no_text_are_redacted_too(supervisor: Supervisor, command: Any, tmp_path: Path) -> None:
    secret = os.fsdecode(b"\xff\xfe\x80 binary \xfd")
    script = 'printf "<%s>" "$SECRET"'
    supervisor.run(command("sh", "-c", script, env={"PATH": PATH, "SECRET": secret}, secrets=(secret,)))
    assert (tmp_path / "log").read_bytes() == b"<[redacted]>"


# --- where else it must not be ---------------------------------------------------------------------------------------


def test_only_the_command_itself_has_the_secret(
    supervisor: Supervisor, command: Any, secret: str, tmp_path: Path
) -> None:
    found: list[dict[int, str]] = []

    def look() -> None:
        until = time.monotonic() + 5
        while not (tmp_path / "pid").exists() and time.monotonic() < until:
            time.sleep(0.01)
        found.append(processes_with(secret))
        (tmp_path / "seen").touch()

    looker = threading.Thread(target=look)
    looker.start()
    script = "echo $$ > pid.new; mv pid.new pid; until [ -e seen ]; do read -t 0.05 none; done <> fifo; exit 0"
    os.mkfifo(tmp_path / "fifo")
    ended = supervisor.run(command("bash", "-c", script, timeout=10))
    looker.join()
    assert ended.ok
    assert found == [{int((tmp_path / "pid").read_text()): "environ"}]


def test_messages_and_results_have_no_secret(supervisor: Supervisor, command: Any, secret: str, tmp_path: Path) -> None:
    name = secret.replace("/", "-")
    for case in (command(name), command(f"./{name}"), command("true", cwd=tmp_path / name)):
        values = {field: getattr(case, field) for field in ("cwd", "env", "log")}
        case_with_result = Command(case.argv, **values, secrets=(name,), result_file=tmp_path / "result")
        ended = supervisor.run(case_with_result)
        assert ended.reason == "not-started"
        assert "[redacted]: " in ended.describe()
        assert not has(ended.describe().encode(), name)
        assert not has((tmp_path / "result").read_bytes(), name)


def test_a_command_shown_has_no_secret(command: Any, secret: str) -> None:
    assert not has(repr(command("true")).encode(), secret)


# --- cost -----------------------------------------------------------------------------------------------------------


def test_throughput_is_reported(supervisor: Supervisor, command: Any) -> None:
    """Measured, and compared with a limit that only a mistake would miss."""
    line = "tests/test_some_module.py::test_case PASSED [ 42%] in 0.017 s"
    script = f"yes '{line}' | head -c 50000000"
    secrets = tuple("".join(random.SystemRandom().choices(string.ascii_letters, k=40)) for _ in range(5))
    for given in ((), secrets):
        ended = supervisor.run(command("sh", "-c", script, secrets=given, output_cap=2**20))
        speed = ended.output_bytes / ended.seconds / 1e6
        print(f"{len(given)} secrets: {speed:.0f} MB/s")  # noqa: T201 - to be seen with -rP
        assert ended.output_bytes == 50_000_000
        assert speed > 5


def test_a_flood_of_secrets_takes_no_memory(supervisor: Supervisor, command: Any, tmp_path: Path) -> None:
    script = """
import os
raw = os.environ["SECRET"].encode() + b"\\n"
for _ in range(200):
    os.write(1, raw * 400)
keeper = open(f"/proc/{os.getppid()}/status").read()
os.write(1, b"\\n" + keeper[keeper.index("VmHWM"):].splitlines()[0].encode())
"""
    ended = supervisor.run(command(*python(script), output_cap=10_000))
    words = (tmp_path / "log").read_text().split()
    assert ended.ok
    assert int(words[words.index("VmHWM:") + 1]) < 60_000  # kB
