"""Clones with caches of their own use each other's verdicts, if a trusted key signed them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import Repo, issue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen")
CHECKS = """
[check.counted]
run = "echo ran >> {count}; test ! -e {broken}"
sabotage = "off"
sabotage_reason = "it counts how often it runs"

[check.reported]
run = "echo ran >> {count}; printf '<testsuite><testcase name=\\"one\\"/></testsuite>' > {report}"
sabotage = "off"
sabotage_reason = "it counts how often it runs"
"""


class Cache(BaseHTTPRequestHandler):
    """A stand-in for bazel-remote: below /ac/ nothing but an ActionResult is taken, to which it adds a field."""

    files: dict[str, bytes]
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(f"GET {self.path}")
        data = self.files.get(self.path)
        self.send_response(200 if data is not None else 404)
        self.send_header("Content-Length", str(len(data or b"")))
        self.end_headers()
        self.wfile.write(data or b"")

    def do_PUT(self) -> None:
        self.asked.append(f"PUT {self.path}")
        data = self.rfile.read(int(self.headers["Content-Length"]))
        good = not self.path.startswith("/ac/") or data[:1] == b"\x2a"
        if good:
            self.files[self.path] = (b"\x4a\x03abc" if self.path.startswith("/ac/") else b"") + data
        self.send_response(200 if good else 400)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def cache_server() -> Iterator[tuple[str, type[Cache]]]:
    class Own(Cache):
        pass

    Own.files, Own.asked = {}, []
    with ThreadingHTTPServer(("127.0.0.1", 0), Own) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", Own
        finally:
            server.shutdown()


class Team:
    """Clones of one remote whose checks count how often they run; each has a key and trusts those named."""

    def __init__(self, folder: Path, store: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.store = folder, store
        self.count = folder / "count"
        self.first = Repo(folder / "first")
        self.key("ci")
        self.rules(self.first, "ci", 'ci = "base"')
        self.first.write(
            "rules/checks.toml", CHECKS.replace("{count}", str(self.count)).replace("{broken}", str(folder / "broken"))
        )
        self.first.write("rules/forge.toml", 'remote = "origin"\n')
        self.first.write("rules/routes.toml", '[route.default]\nagent = ["script"]\nchecks = ["counted", "reported"]\n')
        self.first.milestone("m1", issue("a", "echo a > a", accept=[{"run": f"echo ran >> {self.count}; test -e a"}]))
        self.first.commit("declared")
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(folder / "origin.git")], check=True)
        self.first.git("remote", "add", "origin", str(folder / "origin.git"))
        self.first.git("push", "-q", "origin", "main")

    def key(self, name: str) -> str:
        path = self.folder / f"key-{name}"
        if not path.exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)], check=True)
        return " ".join(path.with_name(f"{path.name}.pub").read_text().split()[:2])

    def rules(self, repo: Repo, signs: str, trusted: str, sample: float = 0.0) -> None:
        lines = [f'store = "{self.store}"', f"sample = {sample}"]
        if signs:
            self.key(signs)
        lines += [f'key = "{self.folder / f"key-{signs}"}"'] if signs else []
        for line in trusted.split(";"):
            name, _, scope = line.strip().partition(" = ")
            lines += [f"[trusted.{name}]", f'key = "{self.key(name)}"', f"scope = {scope}"]
        repo.write("rules/verdicts.toml", "\n".join(lines) + "\n")

    def clone(self, name: str) -> Repo:
        repo = Repo.__new__(Repo)
        repo.path = self.folder / name
        subprocess.run(["git", "clone", "-q", str(self.folder / "origin.git"), str(repo.path)], check=True)
        repo.git("config", "user.name", "Tester")
        repo.git("config", "user.email", "tester@example.org")
        return repo

    def ran(self) -> int:
        """How many checks ran since the last call."""
        lines = self.count.read_text().splitlines() if self.count.exists() else []
        self.count.unlink(missing_ok=True)
        return len(lines)


@contextmanager
def shared(folder: Path, kind: str) -> Iterator[Team]:
    if kind == "http":
        with cache_server() as (address, _):
            yield Team(folder, address)
    else:
        yield Team(folder, "remote" if kind == "refs" else str(folder / "store"))


@pytest.mark.parametrize("kind", ["http", *(pytest.param(kind, marks=pytest.mark.long) for kind in ("refs", "folder"))])
def test_a_second_clone_runs_no_check_that_a_trusted_one_has_passed(tmp_path: Path, kind: str) -> None:
    with shared(tmp_path, kind) as team:
        team.first.doit("milestone:m1").check()
        assert team.ran() > 0
        second = team.clone("second")
        said = second.doit("verify", "m1", "--json").check()
        assert (said.json[0]["ok"], team.ran(), said.err) == (True, 0, "")
        proofs = second.doit("explain", "m1/a", "--json").check().json["proofs"]
        assert [(row["ok"], row["by"]) for row in proofs] == [(True, "ci")] * 3
        if kind == "refs":
            refs = second.git("ls-remote", "origin", "refs/verdicts/*", "refs/heads/_verdicts/*").splitlines()
            assert len(refs) == 1, "each key has one ref"
    if kind == "http":
        third = team.clone("third")  # the server is gone: checks run here
        said = third.doit("verify", "m1").check()
        assert (said.err.count("note: shared verdicts: "), team.ran()) == (1, 3)
        team.rules(third, "stranger", 'ci = "base"')
        assert {"verdict-store", "verdict-key"} <= {item["kind"] for item in third.doit("doctor", "--json").json}


def test_a_signer_whose_verdict_does_not_hold_is_named_and_not_believed_any_more(tmp_path: Path) -> None:
    team = Team(tmp_path, str(tmp_path / "store"))
    team.first.doit("milestone:m1").check()
    team.ran()
    liar = tmp_path / "broken"
    liar.touch()  # the check depends on it, and no key says so
    second = team.clone("second")
    team.rules(second, "", 'ci = "base"', sample=1.0)
    assert not second.doit("verify", "m1", "--json").check(1).json[0]["ok"]
    assert team.ran() == 2, "a failure is tried once more, since a flaky check is no lie"
    found = {item["kind"]: item["text"] for item in second.doit("doctor", "--json").json}
    assert found["verdict-refuted"].startswith("ci signed on ")
    events = [json.loads(line) for line in second.doit("log", "--events", "m1/a", "--json").check().out.splitlines()]
    assert [(e["by"], e["outcome"]) for e in events if e["event"] == "verdict-shared"] == [("ci", "refuted")]
    liar.unlink()
    team.rules(second, "", 'ci = "base"', sample=0.0)
    assert second.doit("verify", "m1", "--json").check().json[0]["ok"]
    assert team.ran() == 3, "nothing of that signer is used"


@pytest.mark.long
def test_a_pull_request_reads_the_base_and_never_writes_what_the_base_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    team = Team(tmp_path, str(tmp_path / "store"))
    team.rules(team.first, "fork", 'ci = "base"; fork = "pull"')
    monkeypatch.setenv("GITHUB_REF", "refs/pull/7/merge")
    team.first.doit("milestone:m1").check()
    team.ran()
    again = team.clone("again")
    team.rules(again, "", 'ci = "base"; fork = "pull"')
    again.doit("verify", "m1").check()
    assert team.ran() == 0, "the pull request reads its own"
    monkeypatch.delenv("GITHUB_REF")
    base = team.clone("base")
    team.rules(base, "ci", 'ci = "base"; fork = "pull"')
    base.doit("verify", "m1").check()
    assert team.ran() == 3, "the base reads none of it"
    monkeypatch.setenv("GITHUB_REF", "refs/pull/8/merge")
    other = team.clone("other")
    team.rules(other, "", 'ci = "base"; fork = "pull"')
    other.doit("verify", "m1").check()
    assert team.ran() == 0, "another pull request reads that of the base"


def test_a_remote_that_takes_only_branches_gets_a_branch(tmp_path: Path) -> None:
    team = Team(tmp_path, "remote")
    hook = tmp_path / "origin.git/hooks/update"
    hook.write_text('#!/bin/sh\ncase "$1" in refs/heads/*) ;; *) exit 1;; esac\n')
    hook.chmod(0o755)
    team.first.doit("milestone:m1").check()
    team.ran()
    second = team.clone("second")
    second.doit("verify", "m1").check()
    assert team.ran() == 0


@pytest.mark.long
@pytest.mark.skipif(shutil.which("nginx") is None, reason="needs nginx")
def test_nginx_with_webdav_is_a_store(tmp_path: Path) -> None:
    port = _free_port()
    (tmp_path / "files").mkdir()
    conf = tmp_path / "nginx.conf"
    conf.write_text(
        f"daemon off; pid {tmp_path}/pid; error_log {tmp_path}/error.log; worker_processes 1;\n"
        f"{'user root;' if os.geteuid() == 0 else ''} events {{}}\n"
        f"http {{ access_log off; client_body_temp_path {tmp_path}/body; client_max_body_size 32m; server {{\n"
        f"listen 127.0.0.1:{port}; root {tmp_path}/files; dav_methods PUT; create_full_put_path on; }} }}\n"
    )
    server = subprocess.Popen(["nginx", "-c", str(conf), "-e", str(tmp_path / "error.log"), "-p", str(tmp_path)])
    try:
        for _ in range(200):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        team = Team(tmp_path / "team", f"http://127.0.0.1:{port}")
        team.first.doit("milestone:m1").check()
        assert team.ran() > 0
        second = team.clone("second")
        assert second.doit("verify", "m1").check().err == ""
        assert team.ran() == 0
    finally:
        server.terminate()
        server.wait(30)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
