"""Two tables of snippets, written as projects write their tests: a finding is expected at the line marked with `#!`."""

from __future__ import annotations

import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.model.paths import is_test_file
from executor.stop_rules.new_tests.rules import Finding, examine

WRONG: dict[str, tuple[str, str]] = {}
RIGHT: dict[str, str] = {}


def wrong(name: str, what: str, source: str) -> None:
    WRONG[name] = (what, textwrap.dedent(source).lstrip())


def right(name: str, source: str) -> None:
    RIGHT[name] = textwrap.dedent(source).lstrip()


wrong(
    "docker client",
    "test_it uses a container (docker.from_env)",
    """
    import docker

    def test_it():
        client = docker.from_env()  #!
        assert client.containers.list() == []
    """,
)
wrong(
    "testcontainers in a fixture",
    "test_rows uses a container (testcontainers.postgres.PostgresContainer)",
    """
    import pytest
    from testcontainers.postgres import PostgresContainer

    @pytest.fixture(scope="module")
    def url():
        with PostgresContainer("postgres:16") as postgres:  #!
            yield postgres.get_connection_url()

    def test_rows(url):
        assert load(url) == []
    """,
)
wrong(
    "import inside",
    "test_it uses a container (testcontainers.redis)",
    """
    def test_it():
        from testcontainers.redis import RedisContainer  #!
        assert RedisContainer
    """,
)
wrong(
    "compose by subprocess",
    "TestStack.test_up runs containers (docker compose up -d)",
    """
    import subprocess

    class TestStack:
        def test_up(self):
            done = subprocess.run(["docker", "compose", "up", "-d"], check=True)  #!
            assert done.returncode == 0
    """,
)
wrong(
    "compose by shell",
    "test_up runs containers (cd stack && docker-compose up -d)",
    """
    import os

    def test_up():
        assert os.system("cd stack && docker-compose up -d") == 0  #!
    """,
)
wrong(
    "podman with sudo",
    "test_up runs containers (sudo podman run --rm alpine)",
    """
    from subprocess import check_output as out

    CMD = ["sudo", "podman", "run", "--rm", "alpine"]

    def test_up():
        assert out(CMD) == b""  #!
    """,
)
wrong(
    "by a helper that runs commands",
    "test_up runs containers (docker run -d redis:7)",
    """
    import subprocess

    def sh(command):
        return subprocess.run(command, shell=True).returncode

    def test_up():
        assert sh(f"docker run -d {IMAGE}".replace("", "")) is not None or sh("docker run -d redis:7") == 0  #!
    """,
)
wrong(
    "set-up of a class",
    "StackTests.test_up runs containers (docker start db)",
    """
    import subprocess
    import unittest

    class StackTests(unittest.TestCase):
        @classmethod
        def setUpClass(cls):
            subprocess.check_call("docker start db".split())  #!

        def test_up(self):
            self.assertEqual(ping(), "pong")
    """,
)
wrong(
    "importorskip",
    "test_it needs docker",
    """
    import pytest

    docker = pytest.importorskip("docker")  #!

    def test_it():
        assert build(docker)
    """,
)
wrong(
    "docker fixture",
    "test_it needs containers (fixture docker_services)",
    """
    def test_it(docker_ip, docker_services):  #!
        assert docker_services.port_for("db", 5432)
    """,
)
wrong(
    "docker fixture by marker",
    "test_it needs containers (fixture docker_compose)",
    """
    import pytest

    @pytest.mark.usefixtures("docker_compose")
    def test_it():  #!
        assert count() == 3
    """,
)
wrong(
    "skipif docker",
    "test_it is skipped unless containers can be run",
    """
    import shutil
    import pytest

    @pytest.mark.skipif(shutil.which("docker") is None, reason="needs docker")  #!
    def test_it():
        assert build() == 0
    """,
)
for library, call in {
    "psycopg": "psycopg.connect(DSN)",
    "psycopg2": "psycopg2.connect(dbname='test', user='postgres')",
    "asyncpg": "asyncpg.create_pool(dsn=DSN)",
    "pymysql": "pymysql.connect(host='db')",
    "mysql.connector": "mysql.connector.connect(user='root')",
    "MySQLdb": "MySQLdb.connect('db')",
    "pymongo": "pymongo.MongoClient()",
    "redis": "redis.Redis(db=15)",
    "cx_Oracle": "cx_Oracle.connect('scott/tiger')",
}.items():
    connect = call.partition("(")[0]
    wrong(
        f"{library} connection",
        f"test_rows connects to a real database ({connect})",
        f"""
        import {library}

        def test_rows():
            connection = {call}  #!
            assert rows(connection) == []
        """,
    )
wrong(
    "redis from url",
    "test_cache connects to a real database (redis.Redis.from_url)",
    """
    import pytest
    from redis import Redis

    @pytest.fixture
    def cache():
        client = Redis.from_url("redis://cache")  #!
        yield client
        client.flushdb()

    def test_cache(cache):
        assert put(cache, 1) == 1
    """,
)
wrong(
    "engine",
    "test_orm connects to a real database (postgresql+psycopg2)",
    """
    from sqlalchemy import create_engine
    from sqlalchemy.orm import sessionmaker

    engine = create_engine("postgresql+psycopg2://u:p@db/test")  #!
    Session = sessionmaker(engine)

    def test_orm():
        with Session() as session:
            assert session.query(User).count() == 0
    """,
)
wrong(
    "async engine by name",
    "test_orm connects to a real database (mysql+aiomysql)",
    """
    import sqlalchemy.ext.asyncio as sa

    URL = "mysql+aiomysql://" + "u@db/test"

    async def test_orm():
        engine = sa.create_async_engine(url=URL)  #!
        assert await tables(engine) == []
    """,
)
wrong(
    "sqlite at a fixed place",
    "test_save writes a database file at a fixed path",
    """
    import sqlite3

    def test_save():
        connection = sqlite3.connect("app.db")  #!
        assert save(connection) == 1
    """,
)
wrong(
    "postgresql fixture",
    "test_rows connects to a real database (fixture postgresql)",
    """
    def test_rows(postgresql):  #!
        assert rows(postgresql) == []
    """,
)
wrong(
    "requests",
    "test_api uses the network (requests.get)",
    """
    import requests

    def test_api():
        answer = requests.get("https://httpbin.org/get", timeout=5)  #!
        assert answer.status_code == 200
    """,
)
wrong(
    "session of set-up",
    "ApiTest.test_get uses the network (requests.Session.post)",
    """
    import unittest
    import requests

    class ApiTest(unittest.TestCase):
        def setUp(self):
            self.session = requests.Session()

        def test_get(self):
            self.assertEqual(self.session.post("https://api.example.com/v1", json={}).status_code, 201)  #!
    """,
)
wrong(
    "httpx client",
    "test_api uses the network (httpx.AsyncClient.get)",
    """
    import httpx
    import pytest

    @pytest.mark.asyncio
    async def test_api():
        async with httpx.AsyncClient() as client:
            answer = await client.get("https://example.com")  #!
        assert answer.is_success
    """,
)
wrong(
    "client of a fixture",
    "test_api uses the network (httpx.Client.get)",
    """
    import httpx
    import pytest

    @pytest.fixture
    def client():
        with httpx.Client(timeout=3) as client:
            yield client

    def test_api(client):
        assert client.get("https://example.com").text  #!
    """,
)
wrong(
    "urlopen",
    "test_page uses the network (urllib.request.urlopen)",
    """
    from urllib.request import urlopen

    def test_page():
        with urlopen("http://example.com") as page:  #!
            assert b"Example" in page.read()
    """,
)
wrong(
    "aiohttp",
    "test_page uses the network (aiohttp.ClientSession.get)",
    """
    import aiohttp

    async def test_page():
        async with aiohttp.ClientSession() as session:
            async with session.get("https://example.com") as answer:  #!
                assert answer.status == 200
    """,
)
wrong(
    "socket",
    "test_port uses the network (socket.socket.connect)",
    """
    import socket

    def test_port():
        s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        s.connect(("example.com", 80))  #!
        assert s.getpeername()
    """,
)
wrong(
    "mail",
    "test_mail uses the network (smtplib.SMTP)",
    """
    import smtplib

    def test_mail():
        with smtplib.SMTP("smtp.example.com", 25) as server:  #!
            assert server.noop()[0] == 250
    """,
)
wrong(
    "ftp",
    "test_ftp uses the network (ftplib.FTP)",
    """
    from ftplib import FTP

    def test_ftp():
        ftp = FTP("ftp.example.com")  #!
        assert ftp.login()
    """,
)
wrong(
    "ssh",
    "test_ssh uses the network (paramiko.SSHClient.connect)",
    """
    import paramiko

    def test_ssh():
        client = paramiko.SSHClient()
        client.connect("build.example.com")  #!
        assert client.get_transport()
    """,
)
wrong(
    "patched elsewhere",
    "test_two uses the network (requests.get)",
    """
    from unittest import mock
    import requests

    @mock.patch("requests.get")
    def test_one(get):
        assert requests.get("https://a.example") is get.return_value

    def test_two():
        assert requests.get("https://a.example").ok  #!
    """,
)
wrong(
    "sleep",
    "test_expiry sleeps for more than 1 s (time.sleep)",
    """
    import time

    def test_expiry(cache):
        cache.set("a", 1, ttl=1)
        time.sleep(1.1)  #!
        assert cache.get("a") is None
    """,
)
wrong(
    "sleep by name",
    "test_expiry sleeps for more than 1 s (time.sleep)",
    """
    from time import sleep

    TTL = 0.5

    def test_expiry(cache):
        sleep(TTL * 3)  #!
        assert cache.get("a") is None
    """,
)
wrong(
    "sleep in a helper",
    "test_job sleeps for more than 1 s (asyncio.sleep)",
    """
    import asyncio

    async def settle(seconds=2):
        await asyncio.sleep(seconds)  #!

    async def test_job(job):
        job.start()
        await settle()
        assert job.done
    """,
)
wrong(
    "trio sleep",
    "test_job sleeps for more than 1 s (trio.sleep)",
    """
    import trio

    async def test_job(job):
        await trio.sleep(60 * 60)  #!
        assert job.done
    """,
)
wrong(
    "anyio sleep of the class",
    "TestJob.test_job sleeps for more than 1 s (anyio.sleep)",
    """
    import anyio

    class TestJob:
        PAUSE = 5

        async def test_job(self, job):
            await anyio.sleep(self.PAUSE)  #!
            assert job.done
    """,
)
wrong(
    "environment address",
    "test_api needs a running service (environment variable DATABASE_URL)",
    """
    import os

    def test_api():
        url = os.environ["DATABASE_URL"]  #!
        assert connect_to(url).ok
    """,
)
wrong(
    "environment address with a default",
    "test_api needs a running service (environment variable API_URL)",
    """
    import os

    BASE = os.getenv("API_URL", "http://localhost:8000")  #!

    def test_api():
        assert fetch_all(BASE) == []
    """,
)
wrong(
    "skipif environment",
    "test_api is skipped unless an environment variable is set",
    """
    import os
    import pytest

    pytestmark = pytest.mark.skipif("API_KEY" not in os.environ, reason="no key")  #!

    def test_api():
        assert ask("x") == "y"
    """,
)
wrong(
    "skip inside",
    "test_api is skipped unless an environment variable is set",
    """
    import os
    import pytest

    HAVE = bool(os.environ.get("LIVE"))

    def test_api():
        if not HAVE:  #!
            pytest.skip("only live")
        assert ask("x") == "y"
    """,
)
wrong(
    "localhost",
    "test_health needs a running service at http://localhost:8000/health",
    """
    import requests

    def test_health():
        assert requests.get("http://localhost:8000/health").ok  #!
    """,
)
wrong(
    "local port",
    "test_port needs a running service at 127.0.0.1",
    """
    import socket

    def test_port():
        with socket.create_connection(("127.0.0.1", 5432), timeout=1) as s:  #!
            assert s.fileno() > 0
    """,
)
wrong(
    "own client at localhost",
    "test_list needs a running service at http://localhost:9000",
    """
    from acme import connect

    def test_list():
        assert connect("http://localhost:9000").list() == []  #!
    """,
)
for title, body in {
    "only a call": "run()",
    "pass": "pass",
    "docstring": '"""Later."""',
    "assert True": "run()\n    assert True",
    "assert 1": "assert 1, 'ran'",
    "itself": "result = run()\n    assert result == result",
    "itself by attribute": "x = run()\n    assert x.a[0] is x.a[0]",
    "or True": "x = run()\n    assert x == 3 or True",
    "True and not False": "run()\n    assert True and not False",
    "tuple": "assert (run() == 3, 'message')",
    "literal is not None": "assert 'abc' is not None",
    "named literal is not None": "expected = {'a': 1}\n    run()\n    assert expected is not None",
    "after return": "run()\n    return\n    assert run() == 3",
    "in if False": "if False:\n        assert run() == 3",
    "after skip": "pytest.skip('later')\n    assert run() == 3",
    "over nothing": "for case in []:\n        assert run(case)",
    "swallowed": "try:\n        assert run() == 3\n    except Exception:\n        pass",
    "suppressed": "with contextlib.suppress(AssertionError):\n        assert run() == 3",
    "in a function not called": "def check():\n        assert run() == 3",
    "print": "result = run()\n    print(result)",
    "length": "assert len(run()) >= 0",
    "constants": "run()\n    assert 2 == 2",
    "helper asserts nothing": "helper(run())",
    "assertTrue(True)": "self.assertTrue(True)",
}.items():
    wrong(
        f"no assertion: {title}",
        "test_run has no assertion that can fail",
        (f"def helper(x):\n    return x\n\ndef test_run():  #!\n    {body}\n"),
    )


right(
    "fixture called test_client",
    """
    import pytest

    @pytest.fixture
    def test_client():
        return object()

    def test_it(test_client):
        assert test_client
    """,
)
right(
    "docker patched",
    """
    from unittest.mock import patch
    import docker

    @patch("acme.images.docker.from_env")
    def test_it(from_env):
        docker.from_env()
        from_env.assert_called_once_with()
    """,
)
right(
    "docker errors",
    """
    import docker
    import pytest

    def test_it(images):
        with pytest.raises(docker.errors.NotFound):
            images.find("nope")
    """,
)
right(
    "docker as data",
    """
    def test_parse():
        assert parse("docker run -d redis:7") == ["docker", "run", "-d", "redis:7"]
    """,
)
right(
    "docker command expected of a mock",
    """
    import subprocess

    def test_up(mocker):
        run = mocker.patch("subprocess.run")
        up()
        run.assert_called_once_with(["docker", "compose", "up"], check=True)
    """,
)
right(
    "other subprocess",
    """
    import subprocess
    import sys

    def test_cli():
        done = subprocess.run([sys.executable, "-m", "acme", "--help"], capture_output=True, text=True)
        assert "docker" in done.stdout
    """,
)
right(
    "own docker fixture",
    """
    import pytest

    @pytest.fixture
    def docker_client():
        return FakeDocker()

    def test_it(docker_client, fake_docker):
        assert pull(docker_client) == fake_docker
    """,
)
right(
    "docker parametrised",
    """
    import pytest

    @pytest.mark.parametrize("docker_image, tag", [("redis", "7")])
    def test_it(docker_image, tag):
        assert name(docker_image, tag) == "redis:7"
    """,
)
right(
    "unused docker helper",
    """
    import docker

    def start():
        return docker.from_env()

    def test_it():
        assert add(1, 2) == 3
    """,
)
right(
    "sqlite in memory",
    """
    import sqlite3

    def test_rows():
        connection = sqlite3.connect(":memory:")
        assert rows(connection) == []
    """,
)
right(
    "sqlite under tmp_path",
    """
    import sqlite3

    def test_rows(tmp_path):
        with sqlite3.connect(tmp_path / "app.db") as connection:
            assert rows(connection) == []
        assert rows(sqlite3.connect(f"{tmp_path}/b.db")) == []
    """,
)
right(
    "sqlite after chdir",
    """
    import sqlite3

    def test_rows(tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert rows(sqlite3.connect("app.db")) == []
    """,
)
right(
    "sqlite engine",
    """
    import pytest
    from sqlalchemy import create_engine
    from sqlalchemy.pool import StaticPool

    URL = "sqlite+pysqlite:///:memory:"

    @pytest.fixture
    def engine():
        return create_engine(URL, poolclass=StaticPool)

    def test_rows(engine):
        assert rows(engine) == []
    """,
)
right(
    "fakeredis",
    """
    import fakeredis
    import pytest

    @pytest.fixture
    def redis():
        return fakeredis.FakeRedis()

    def test_cache(redis):
        assert put(redis, 1) == 1
    """,
)
right(
    "redis patched",
    """
    import fakeredis
    import redis

    def test_cache(monkeypatch):
        monkeypatch.setattr(redis, "Redis", fakeredis.FakeRedis)
        assert redis.Redis(host="x").ping()
    """,
)
right(
    "psycopg patched",
    """
    from unittest import mock
    import psycopg2

    class TestDb:
        @mock.patch.object(psycopg2, "connect")
        def test_connects(self, connect):
            psycopg2.connect("dbname=x")
            connect.assert_called_once()
    """,
)
right(
    "mongomock",
    """
    import mongomock

    def test_find():
        assert find(mongomock.MongoClient().db) is None
    """,
)
right(
    "database errors",
    """
    import psycopg2
    import pytest

    def test_error(store):
        with pytest.raises(psycopg2.OperationalError):
            store.open()
    """,
)
right(
    "responses",
    """
    import requests
    import responses

    @responses.activate
    def test_api():
        responses.add(responses.GET, "https://api.example.com/x", json={"a": 1})
        assert requests.get("https://api.example.com/x").json() == {"a": 1}
    """,
)
right(
    "respx",
    """
    import httpx
    import respx

    @respx.mock
    async def test_api():
        respx.get("https://example.org/").respond(204)
        async with httpx.AsyncClient() as client:
            assert (await client.get("https://example.org/")).status_code == 204
    """,
)
right(
    "mock transport",
    """
    import httpx

    def test_api():
        def handler(request):
            return httpx.Response(200, json={"path": request.url.path})

        client = httpx.Client(transport=httpx.MockTransport(handler), base_url="https://x.example")
        assert client.get("/a").json() == {"path": "/a"}
    """,
)
right(
    "asgi transport of a fixture",
    """
    import pytest
    from httpx import ASGITransport, AsyncClient

    @pytest.fixture
    async def client(app):
        async with AsyncClient(transport=ASGITransport(app=app), base_url="http://test") as client:
            yield client

    async def test_api(client):
        assert (await client.get("/health")).status_code == 200
    """,
)
right(
    "fastapi client",
    """
    from fastapi.testclient import TestClient
    from acme.main import app

    client = TestClient(app)

    def test_read_main():
        response = client.get("/")
        assert response.status_code == 200
    """,
)
right(
    "vcr",
    """
    import pytest
    import requests

    pytestmark = pytest.mark.vcr

    def test_api():
        assert requests.get("https://api.github.com/zen").ok
    """,
)
right(
    "requests_mock fixture",
    """
    import requests

    def test_api(requests_mock):
        requests_mock.get("https://a.example", text="x")
        assert requests.get("https://a.example").text == "x"
    """,
)
right(
    "monkeypatched requests",
    """
    import requests

    def test_api(monkeypatch):
        monkeypatch.setattr(requests, "get", lambda url, **_: Answer(200))
        assert requests.get("https://a.example").status_code == 200
    """,
)
right(
    "automatic fixture patches",
    """
    import pytest
    import requests

    @pytest.fixture(autouse=True)
    def no_network(monkeypatch):
        monkeypatch.setattr("requests.sessions.Session.request", fake)

    def test_api():
        assert requests.get("https://a.example").status_code == 200
    """,
)
right(
    "patch as context",
    """
    from unittest.mock import patch
    from urllib.request import urlopen

    def test_page():
        with patch("urllib.request.urlopen") as fake:
            fake.return_value.read.return_value = b"x"
            assert urlopen("http://example.com").read()
    """,
)
right(
    "smtp mocked",
    """
    import smtplib
    from unittest import mock

    def test_mail():
        with mock.patch("smtplib.SMTP", autospec=True) as smtp:
            send(smtplib.SMTP("smtp.example.com"))
        smtp.assert_called_once_with("smtp.example.com")
    """,
)
right(
    "own server",
    """
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer
    import pytest
    import requests

    @pytest.fixture
    def address():
        server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()

    def test_api(address):
        assert requests.get(address).status_code == 501
        assert requests.get(f"http://127.0.0.1:8000/").status_code == 501
    """,
)
right(
    "pytest-httpserver",
    """
    import requests

    def test_api(httpserver):
        httpserver.expect_request("/x").respond_with_json({"a": 1})
        assert requests.get(httpserver.url_for("/x")).json() == {"a": 1}
    """,
)
right(
    "own socket",
    """
    import asyncio

    async def test_echo():
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
        writer.write(b"x")
        assert await reader.read(1) == b"x"
    """,
)
right(
    "request objects",
    """
    import requests

    def test_sign():
        request = requests.Request("GET", "https://a.example").prepare()
        assert sign(request).headers["X-Sign"]
    """,
)
right(
    "file address",
    """
    from urllib.request import urlopen

    def test_read(tmp_path):
        (tmp_path / "a").write_bytes(b"x")
        assert urlopen((tmp_path / "a").as_uri()).read() == b"x"
    """,
)
right(
    "localhost as data",
    """
    import pytest

    @pytest.mark.parametrize("url", ["redis://localhost:6379/0", "http://127.0.0.1:80"])
    def test_parse(url):
        assert str(Address.parse(url)) == url
        assert Settings(url="http://localhost:8000").port == 8000
    """,
)
right(
    "dict called requests",
    """
    def test_queue():
        requests = {}
        requests.get("https://a.example")
        assert requests == {}
    """,
)
right(
    "short sleep",
    """
    import time

    DELAY = 0.01

    def test_expiry(cache):
        time.sleep(DELAY * 2)
        time.sleep(1)
        assert cache.get("a") is None
    """,
)
right(
    "sleep patched",
    """
    import time

    def test_retry(monkeypatch):
        naps = []
        monkeypatch.setattr(time, "sleep", naps.append)
        time.sleep(30)
        assert naps == [30]
    """,
)
right(
    "sleep that is cut short",
    """
    import asyncio
    import anyio
    import pytest

    async def test_timeout():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(10), 0.01)
        with anyio.move_on_after(0.01) as scope:
            await anyio.sleep(60)
        assert scope.cancelled_caught
        task = asyncio.create_task(asyncio.sleep(3600))
        task.cancel()
    """,
)
right(
    "virtual clock",
    """
    import trio

    async def test_job(autojump_clock):
        await trio.sleep(3600)
        assert trio.current_time() >= 3600
    """,
)
right(
    "other sleep",
    """
    def test_bear(bear):
        bear.sleep(100)
        assert bear.rested
    """,
)
right(
    "environment set by the test",
    """
    import os

    def test_settings(monkeypatch):
        monkeypatch.setenv("DATABASE_URL", "postgresql://db/x")
        load(os.environ["DATABASE_URL"])
        assert Settings().database == "postgresql://db/x"
    """,
)
right(
    "environment that is checked",
    """
    import os
    from unittest import mock

    @mock.patch.dict(os.environ, {}, clear=True)
    def test_dotenv(tmp_path):
        load_dotenv(tmp_path / ".env")
        assert os.environ["API_URL"] == "https://a.example"
    """,
)
right(
    "environment with a harmless default",
    """
    import os

    URL = os.environ.get("TEST_DATABASE_URL", "sqlite://")

    def test_rows():
        assert rows(URL) == []
        assert os.environ["HOME"]
    """,
)
right(
    "skipif platform",
    """
    import sys
    import pytest

    @pytest.mark.skipif(sys.platform == "win32", reason="posix")
    @pytest.mark.skipif(shutil.which("git") is None, reason="git")
    def test_mode():
        assert mode("x") == 0o644
    """,
)
for title, body in {
    "assert": "assert run() == 3",
    "raises": "with pytest.raises(ValueError, match='x'):\n        run()",
    "raises as call": "pytest.raises(ValueError, run)",
    "warns": "with pytest.warns(DeprecationWarning):\n        run()",
    "fail": "try:\n        run()\n    except KeyError:\n        pytest.fail('raised')",
    "approx": "assert run() == pytest.approx(0.3)",
    "in with": "with open('x') as file:\n        assert file.read() == run()",
    "in loop": "for case in CASES:\n        assert run(case)",
    "mock": "callback = Mock()\n    run(callback)\n    callback.assert_called_once_with(3)",
    "awaited mock": "run(hook)\n    hook.assert_awaited()",
    "numpy": "np.testing.assert_allclose(run(), [1.0])",
    "helper": "check(run())",
    "method of a helper class": "Checker().same(run())",
    "imported assertion": "from acme.testing import assert_same\n    assert_same(run(), 3)",
    "function that is called": "def each(x):\n        assert x == 3\n    run(each)",
    "determinism": "assert run() == run()",
    "or": "x = run()\n    assert x == 3 or x is None",
    "not None": "x = run()\n    assert x is not None",
    "before return": "assert run() == 3\n    return",
    "return in if": "if WINDOWS:\n        return\n    assert run() == 3",
    "handler that fails": "try:\n        assert run()\n    except Exception:\n        raise AssertionError",
    "other handler": "try:\n        assert run()\n    except KeyError:\n        pass",
    "finally": "try:\n        run()\n    finally:\n        assert closed()",
    "match": "match run():\n        case 3:\n            assert done()",
    "pytester": "result = pytester.runpytest()\n    result.stdout.fnmatch_lines(['*1 passed*'])",
    "snapshot": "snapshot.assert_match(run(), 'x.txt')",
    "unittest": "self.assertEqual(run(), 3)",
    "compared with a constant": "assert run() is True",
}.items():
    right(f"assertion: {title}", (
        "def check(x):\n    assert x == 3\n\nclass Checker:\n    def same(self, x):\n        check(x)\n\n"
        f"def test_run():\n    {body}\n"
    ))  # fmt: skip


def test_the_tables_are_large_enough() -> None:
    assert len(WRONG) >= 40
    assert len(RIGHT) >= 40


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_found_where_it_is(name: str) -> None:
    what, source = WRONG[name]
    lines = [number for number, line in enumerate(source.split("\n"), start=1) if line.endswith("#!")]
    found = examine("tests/test_x.py", source)
    assert [(item.description, item.line) for item in found if item.description == what] == [(what, lines[0])]
    assert {item.line for item in found} == set(lines)
    assert {item.file for item in found} == {"tests/test_x.py"}
    assert all(0 < item.score <= 100 for item in found)


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_has_no_finding(name: str) -> None:
    assert examine("tests/test_x.py", RIGHT[name]) == []


@pytest.mark.parametrize("name", WRONG)
def test_tests_that_did_not_change_are_not_examined(name: str) -> None:
    source = WRONG[name][1]
    assert examine("test_x.py", "import os\n\n\n" + source.replace("\n", "\r\n"), source) == []
    assert examine("test_x.py", source, "def test_other():\n    pass\n") == examine("test_x.py", source)
    assert examine("test_x.py", source, "not python (") == examine("test_x.py", source)


def test_only_the_changed_test_is_examined() -> None:
    old = "def test_a():\n    pass\n\ndef test_b():\n    pass\n"
    new = old.replace("test_b():\n    pass", "test_b():\n    run()")
    assert examine("test_x.py", new, old) == [Finding("test_b has no assertion that can fail", 80, "test_x.py", 4)]


@pytest.mark.parametrize(
    ("source", "description", "line"),
    [
        ("def test_a(:\n", "the file cannot be read: invalid syntax", 1),
        ("x = (1\n", "the file cannot be read: '(' was never closed", 1),
        ("x = '\x00'", "the file cannot be read: source code string cannot contain null bytes", 1),
    ],
)  # fmt: skip
def test_a_file_that_does_not_parse_has_one_finding(source: str, description: str, line: int) -> None:
    assert examine("test_x.py", source) == [Finding(description, 100, "test_x.py", line)]


@pytest.mark.parametrize("path", ["test_x.js", "tests/test_x.pyi", "README.md", "Makefile", "test_x.py.txt", ""])
def test_other_languages_have_no_finding(path: str) -> None:
    assert examine(path, "def test_a(:") == []


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("tests/test_x.py", True),
        ("test_x.py", True),
        ("pkg/x_test.py", True),
        ("app/tests.py", True),
        ("tests/conftest.py", False),
        ("tests/helpers.py", False),
        ("tests/test_x.pyc", False),
        ("tests/test_x.js", False),
        ("latest.py", False),
        ("tests/test_data/x.json", False),
    ],
)
def test_test_files_are_known_by_name(path: str, expected: bool) -> None:
    assert is_test_file(path) is expected


DEEP = {
    "parentheses": "def test_a():\n    assert " + "(" * 5000 + ")" * 5000,
    "brackets": "def test_a():\n    assert " + "[" * 150 + "]" * 150,
    "attributes": "def test_a():\n    assert x" + ".a" * 5000,
    "short attributes": "def test_a():\n    assert x" + ".a" * 900,
    "calls": "def test_a():\n    x" + "()" * 900,
    "sum": "import time\ndef test_a():\n    time.sleep(" + "1+" * 900 + "1)",
    "not": "def test_a():\n    assert " + "not " * 900 + "x",
    "or": "def test_a():\n    assert " + "(x or " * 90 + "x" + ")" * 90,
    "blocks": "def test_a():\n" + "".join(" " * n + "if x:\n" for n in range(1, 95)) + " " * 95 + "assert x",
    "classes": "".join(" " * n + f"class Test{n}:\n" for n in range(95)) + " " * 95 + "x = 1",
    "names": "import time\n"
    + "".join(f"a{n} = a{n + 1} + a{n + 1}\n" for n in range(200))
    + "def test_a():\n    time.sleep(a0)\n",
    "elif": "def test_a():\n    if x: pass\n" + "    elif x: pass\n" * 900,
    "huge": "import time\ndef test_a():\n    time.sleep(0x" + "f" * 9000 + " * 1.5)\n    assert x",
}  # fmt: skip


@pytest.mark.parametrize("name", DEEP)
def test_deep_nesting_is_answered(name: str) -> None:
    for found in examine("test_x.py", DEEP[name], DEEP[name] + "\n#"), examine("test_x.py", DEEP[name]):
        assert all(item.line > 0 and "\n" not in item.description for item in found)


LINES = sorted({line for _, source in WRONG.values() for line in source.split("\n")})


@given(st.text() | st.lists(st.sampled_from(LINES)).map("\n".join), st.none() | st.text())
def test_any_text_is_answered(source: str, old: str | None) -> None:
    for found in examine("test_x.py", source, old):
        assert found.line > 0
        assert "\n" not in found.description


@given(st.sampled_from(sorted(WRONG)), st.integers(0, 2000), st.text(max_size=3))
def test_any_damaged_test_is_answered(name: str, at: int, text: str) -> None:
    source = WRONG[name][1]
    found = examine("test_x.py", source[:at] + text + source[at + 1 :])
    assert all(item.line > 0 and "\n" not in item.description for item in found)
