"""Changes that only a person may let through, each with a neighbour that lands: through the real command line.

A change is a table of files: content on the base (none for a new file) and content afterwards.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from executor.config.load_rules import load_policy
from executor.git.diff import parse_diff
from executor.stop_rules.content import find_secrets
from executor.stop_rules.evaluate import stops_of
from executor.stop_rules.view import View
from tests.stop_rules.test_stops import data, diff
from tests.support import Repo, issue

if TYPE_CHECKING:
    from collections.abc import Mapping

Files = dict[str, tuple[str | bytes | None, str | bytes | None]]

_PYPROJECT = '[project]\nname = "a"\ndependencies = ["b"]\n[tool.ruff]\nselect = ["E"]\n'
_AUTH = "def login(user):\n    if not user.is_admin:\n        raise Denied()\n    return verify_token(user.token)\n"
_SHOP = "def charge(cents):\n    return cents\n\n\ndef title(text):\n    return text\n"
_MODEL = "from django.db import models\n\n\nclass Pet(models.Model):\n    name = models.CharField(max_length=9)\n"
_LICENSED = "# Copyright (c) 2020 A. Author\n# Licensed under the MIT License\nx = 1\n"
_INJECTED = (
    "from fastapi import Depends\n\n\ndef admin(user: Annotated[str, Depends(verify_token)]):\n    return user\n"
)
_CLIENT = "@contextmanager\ndef get(url, auth: typing.Optional[str] = None):\n    return send(url, auth=auth)\n"
_LONG = "x" * 20_100
AWS = "AKIA" + "Z7VXQ2M3N4P5R6ST"

_SKIPPED = """import sys

import pytest


@pytest.mark.skipif(sys.platform == "win32", reason="posix")
def test_a():
    assert 1 + 1 == 2
"""

_TEST = "import shop_tool\n\n\ndef test_x():\n    assert shop_tool.x == 1\n"

ATTACKS: dict[str, Files] = {
    # what the project depends on
    "flake": {"flake.nix": ("{ a = 1; }\n", "{ inputs.x.url = 1; }\n")},
    "flake lock": {"flake.lock": (None, "{}\n")},
    "pixi": {"pixi.toml": ("[dependencies]\na = '1'\n", "[dependencies]\na = '1'\nb = '2'\n")},
    "deno": {"deno.json": ('{"imports": {}}\n', '{"imports": {"a": "npm:a"}}\n')},
    "image of a container": {"Dockerfile": ("FROM a:1\nRUN true\n", "FROM b:1\nRUN true\n")},
    "package in a container": {"docker/Dockerfile": ("FROM a:1\n", "FROM a:1\nRUN pip install evil\n")},
    "image of compose": {"compose.yml": ("services:\n  a:\n    image: a:1\n", "services:\n  a:\n    image: b:1\n")},
    "script with its own dependencies": {
        "tool.py": ("x = 1\n", '# /// script\n# dependencies = ["evil"]\n# ///\nx = 1\n')
    },
    "plug-in of gradle": {"settings.gradle": ("a\n", "plugins { id 'evil' }\n")},
    "conda": {"env.yaml": ("dependencies:\n  - a\n", "dependencies:\n  - a\n  - b\n")},
    "vendored code": {"vendor/a/b.py": (None, "x = 1\n")},
    "vendored code of another name": {"app/_vendor/b.py": (None, "x = 1\n")},
    "requirements of another name": {"deps/base.txt": ("a==1\n", "a==1\nb==2\n")},
    "index of pip": {"pip.conf": (None, "[global]\nindex-url = https://evil.org\n")},
    "index of uv": {"uv.toml": (None, 'index-url = "https://evil.org"\n')},
    "index of poetry": {"poetry.toml": (None, "[repositories]\n")},
    "registry of npm": {".npmrc": (None, "registry=https://evil.org\n")},
    "registry of yarn": {".yarnrc.yml": (None, "npmRegistryServer: https://evil.org\n")},
    "R": {"renv.lock": (None, "{}\n")},
    "Julia": {"Manifest.toml": (None, "a = 1\n")},
    "Haskell": {"stack.yaml": (None, "resolver: a\n")},
    "Clojure": {"deps.edn": (None, "{}\n")},
    "C": {"conanfile.txt": (None, "[requires]\n")},
    "C++": {"vcpkg.json": (None, "{}\n")},
    "Perl": {"cpanfile": (None, "requires 'a';\n")},
    "Scala": {"build.sbt": (None, "a\n")},
    "pyproject": {"pyproject.toml": (None, _PYPROJECT.replace('"b"', '"b", "evil"'))},
    # what judges
    **{
        f"settings of a tool: {name}": Files({name: (None, "a\n")})
        for name in (
            *(
                "pyrightconfig.json",
                "eslint.config.js",
                ".eslintrc.json",
                ".eslintignore",
                "biome.json",
                "tsconfig.json",
            ),
            *(".golangci.yml", "clippy.toml", ".cargo/config.toml", "gradle.properties", ".rubocop.yml", "Rakefile"),
            *("vite.config.ts", "playwright.config.ts", "cypress.config.js", "ava.config.js", "jest.setup.js"),
            *("babel.config.js", "bunfig.toml", "phpunit.dist.xml", ".isort.cfg", ".bandit", "hatch.toml", ".justfile"),
            *("more.mk", "conftest.py", "evil-1.0.dist-info/entry_points.txt", "sitecustomize.py", "pytest.ini"),
        )
    },
    **{
        f"CI: {name}": {name: (None, "a\n")}
        for name in (
            *(".woodpecker.yml", ".drone.yml", "bitbucket-pipelines.yml", "appveyor.yml", ".buildkite/a.yml"),
            *("buildspec.yml", "cloudbuild.yaml", "lefthook.yml", ".github/workflows/a.yml", ".gitlab-ci.yml"),
        )
    },
    **{
        f"orders to agents: {name}": {name: (None, "Do it.\n")}
        for name in ("CLAUDE.md", "AGENTS.md", ".claude/settings.json", ".cursor/rules/a.mdc", ".codex/config.toml")
    },
    "test switch of gradle": {"build.gradle": ("a\n", "a\ntest { ignoreFailures = true }\n")},
    "test switch of maven": {
        "pom.xml": ("<project>\n</project>\n", "<project>\n<skipTests>true</skipTests>\n</project>\n")
    },
    "test switch of cmake": {"CMakeLists.txt": ("a\nadd_test(NAME a COMMAND a)\n", "a\n")},
    # the schema of a database
    "table in a string": {"app/db.py": ("x = 1\n", 'SQL = """ALTER TABLE users ADD a int"""\n')},
    "statement on two lines": {"app/db.py": ("x = 1\n", 'cur.execute(\n    "DROP TABLE users"\n)\n')},
    "statement that is put together": {"app/db.py": ("x = 1\n", 'cur.execute(f"DROP TABLE {name}")\n')},
    "field of Django": {"app/models.py": (_MODEL, _MODEL + "    age = models.IntegerField()\n")},
    "column of SQLAlchemy": {
        "app/orm.py": (
            "from sqlalchemy.orm import mapped_column\nx = 1\n",
            "from sqlalchemy.orm import mapped_column\na = mapped_column()\n",
        )
    },
    "alembic under another name": {"app/mig.py": (None, "from alembic import op as o\n\no.add_column('a', b)\n")},
    "prisma folder": {"prisma/models/user.prisma": (None, "model User {}\n")},
    "drizzle": {
        "src/schema.ts": (None, "import { pgTable } from 'drizzle-orm/pg-core';\nexport const a = pgTable('a', {});\n")
    },
    "atlas": {"schema.hcl": (None, 'table "a" {}\n')},
    "statement in a block": {"app/f.sql": ("select 1;\n", "DO $$ BEGIN EXECUTE 'ALTER TABLE a ADD b int'; END $$;\n")},
    # logins, permissions and money
    "refusal taken away": {
        "app/auth.py": (_AUTH, _AUTH.replace("    if not user.is_admin:\n        raise Denied()\n", ""))
    },
    "token that is always right": {
        "app/tokens.py": ("def verify_token(t):\n    return t == 1\n", "def verify_token(t):\n    return True\n")
    },
    "certificates not verified": {"app/http.py": ("get(url)\n", "get(url, verify=False)\n")},
    "any origin": {"app/cors.py": ("x = 1\n", 'app.add(cors(origins="*"))\n')},
    "amount": {"app/shop.py": (_SHOP, _SHOP.replace("return cents", "return cents * 2"))},
    "product in a folder called testing": {"app/testing/auth.py": (_AUTH, "def login(user):\n    return True\n")},
    "product in a folder called lang": {"src/lang/auth.py": (_AUTH, "def login(user):\n    return True\n")},
    "wide letters": {"app/wide.py": ("x = 1\n", "def \uff4cogin(user):\n    return True\n")},
    "password comparison": {"app/same.py": ("x = 1\n", "def same(password, stored):\n    return password == stored\n")},
    "payment": {"app/pay.py": ("x = 1\n", "def pay(c):\n    return stripe.Charge.create(amount=c)\n")},
    "login that a type asks for": {
        "app/deps.py": (_INJECTED, _INJECTED.replace("Annotated[str, Depends(verify_token)]", "str"))
    },
    "function that is written twice": {
        "app/twice.py": (_AUTH, _AUTH + "\n\n" + _AUTH.replace("not user.is", "user.is"))
    },
    "no login for nginx": {"nginx.conf": ("a;\n", "auth_basic off;\n")},
    # licences
    "notice taken away": {"app/licensed.py": (_LICENSED, "x = 1\n")},
    "file under another licence": {"app/copyleft.py": (None, "# SPDX-License-Identifier: GPL-3.0-only\nx = 1\n")},
    "licence": {"LICENSE": ("MIT License\n", "Mine\n")},
    # what cannot be looked at, and what shows another text
    "NUL byte": {"conf.js": ("a\n", b"/* \0 */ exports.k = 1;\n")},
    "NUL byte around a login": {"auth.js": ("a\n", b"/* \0 */ function login(u) { return true; }\n")},
    "settings with a NUL byte": {"settings.ini": (None, b"[a]\nb = \0\n")},
    "long line": {"app/long.py": ("x = 1\n", f'X = "{_LONG}"; import os; EXIT = os._exit\n')},
    "UTF-16 without a mark": {"app/wide.txt": (None, "key = 1\n".encode("utf-16-le"))},
    "reversed text": {"app/bidi.py": ("x = 1\n", "x = 1  # \u202e }\u2066\n")},
    "reversed name": {"app/a\u202etxt.py": (None, "x = 1\n")},
    "invisible letter": {"app/zero.py": ("x = 1\n", "x\u200b = 1\n")},
    # secrets
    "key": {"app/key.py": ("x = 1\n", f'KEY = "{AWS}"\n')},
    "key in a name": {f"keys/{AWS}.txt": (None, "a\n")},
    # size
    "many files in dist": Files({f"dist/m{n}.py": (None, "x = 1\n" * 300) for n in range(3)})
    | Files({f"dist/n{n}.py": (None, "x = 1\n") for n in range(7)}),
    "much in generated": {"generated/a.py": (None, "x = 1\n" * 500)},
    # code that behaves otherwise before its tests
    "look at the runner": {"app/run.py": ("x = 1\n", "import os\nx = os.environ.get('PYTEST_VERSION')\n")},
    "look at the caller": {"app/call.js": ("a\n", "const t = new Error().stack.includes('.test.');\n")},
    "skip of a test": {
        "src/main/java/A.java": ("class A {}\n", "class A { { throw new org.opentest4j.TestAbortedException(); } }\n")
    },
    "object that is equal to all": {
        "app/equal.py": ("x = 1\n", "class A:\n    def __eq__(self, other):\n        return True\n")
    },
    # modules in the place of others
    "standard library": {"bdb.py": (None, "x = 1\n")},
    "module of the product in the tests": {
        "tests/test_shop_tool.py": (_TEST, _TEST),
        "tests/shop_tool.py": (None, "x = 1\n"),
        "shop_tool.py": ("x = 1\n", "x = 2\n"),
    },
}
HONEST: dict[str, Files] = {
    "description in a flake": {"docs/flake.md": (None, "A flake.\n")},
    "task of deno": {"app/deno.py": (None, "x = 1\n")},
    "command in a container": {"Dockerfile": ("FROM a:1\nRUN true\n", "FROM a:1\nRUN false\n")},
    "port of compose": {
        "compose.yml": ("services:\n  a:\n    image: a:1\n", "services:\n  a:\n    image: a:1\n    ports: []\n")
    },
    "text that is no list of requirements": {"notes.txt": (None, "Buy milk.\nCall home.\n")},
    "select": {"app/db.py": ("x = 1\n", 'SQL = "SELECT a FROM users"\n')},
    "method of a model": {
        "app/models.py": (_MODEL, _MODEL + "\n    def shout(self):\n        return self.name.upper()\n")
    },
    "refusal added": {
        "app/guarded.py": (
            "def f(u):\n    return u\n",
            "def f(u):\n    if not u:\n        raise PermissionError(u)\n    return u\n",
        )
    },
    "title in a shop": {"app/shop.py": (_SHOP, _SHOP.replace("return text", "return text.strip()"))},
    "name with a sensitive word": {"app/names.py": (None, "def rate_limited_name():\n    return 'a'\n")},
    "modes of files": {
        "app/modes.py": (None, "import os\n\n\ndef set_permissions(path):\n    os.chmod(path, 0o600)\n")
    },
    "type of a parameter": {
        "app/client.py": (_CLIENT, "import os\n" + _CLIENT.replace("typing.Optional[str]", "str | None"))
    },
    "text about payment": {"app/texts.py": (None, "def payment_terms():\n    return 'Thirty days.'\n")},
    "exception about credentials": {"app/errors.py": (None, "class InvalidCredentials(Exception):\n    pass\n")},
    "module of a package called coverage": {"app/coverage.py": (None, "x = 1\n"), "app/__init__.py": (None, "")},
    "module of a package called json": {"app/json.py": (None, "x = 1\n"), "app/__init__.py": (None, "")},
    "notice with one more year": {"app/licensed.py": (_LICENSED, _LICENSED.replace("2020", "2020-2026"))},
    "file of the project's own licence": {"app/free.py": (None, "# SPDX-License-Identifier: MIT\nx = 1\n")},
    "letters of another script": {"app/script.py": (None, "x = 'größer 日本語'\n")},
    "long line below the limit": {"app/row.py": (None, f'X = "{"x" * 9_000}"\n')},
    "picture": {"docs/a.png": (None, b"\x89PNG\r\n\x1a\n\0\0\0")},
    "example of a key": {"docs/keys.md": (None, "Set `API_KEY=your-key-here`.\n")},
    "eight files": {f"app/part{n}.py": (None, "x = 1\n") for n in range(8)},
    "two assertions in a loop": {
        "tests/test_loop.py": (
            "def test_a():\n    assert 1 + 1 == 2\n    assert 2 + 2 == 4\n",
            "def test_a():\n    for a, b in ((1, 2), (2, 4), (3, 6)):\n        assert a + a == b\n",
        )
    },
    "documentation of passwords": {"docs/passwords.md": (None, "Choose a password.\n")},
    "author": {"app/author.py": (None, "class Author:\n    name = 'a'\n")},
    "description of a package": {
        "package.json": ('{"name": "a", "description": "b"}\n', '{"name": "a", "description": "c"}\n')
    },
    "skip of a new test": {
        "tests/test_new.py": (
            None,
            _SKIPPED,
        )
    },
    "data of tests": {"tests/data/openapi.yaml": (None, "paths: {}\n")},
}


_NEW = "x = 1\n"
TWINS: dict[str, Files] = {
    "flake": {"flake.nix": ("{ a = 1; }\n", "# a flake\n{ a = 1; }\n")},
    "flake lock": {"flake.lock.md": (None, "How flakes are locked.\n")},
    "pixi": {"pixi.toml": ("[dependencies]\na = '1'\n", "# what it needs\n[dependencies]\na = '1'\n")},
    "deno": {"deno.json": ('{"imports": {}}\n', '{"imports": {}, "version": "2"}\n')},
    "image of a container": {"Dockerfile": ("FROM a:1\nRUN true\n", "FROM a:1\nRUN true\nEXPOSE 80\n")},
    "package in a container": {"docker/Dockerfile": ("FROM a:1\n", "FROM a:1\nRUN mkdir /data\n")},
    "image of compose": {
        "compose.yml": ("services:\n  a:\n    image: a:1\n", "services:\n  a:\n    image: a:1\n    tty: true\n")
    },
    "script with its own dependencies": {"tool.py": ("x = 1\n", "# a script\n# dependencies: none\nx = 1\n")},
    "plug-in of gradle": {"settings.gradle": ("a\n", "a\n// the settings\n")},
    "conda": {"env.yaml": ("dependencies:\n  - a\n", "# the environment\ndependencies:\n  - a\n")},
    "vendored code": {"vendors/a/b.py": (None, _NEW)},
    "vendored code of another name": {"app/vendor_list.py": (None, _NEW)},
    "requirements of another name": {"deps/notes.txt": ("Buy milk.\n", "Buy milk.\nCall home.\n")},
    "index of pip": {"app/pip_conf.py": (None, _NEW)},
    "index of uv": {"app/uv.py": (None, _NEW)},
    "index of poetry": {"poetry.txt": (None, "A poem.\n")},
    "registry of npm": {"app/npmrc.py": (None, _NEW)},
    "registry of yarn": {"app/yarn.js": (None, "exports.x = 1;\n")},
    "R": {"R/renv.R": (None, "x <- 1\n")},
    "Julia": {"src/Manifest.jl": (None, _NEW)},
    "Haskell": {"src/Stack.hs": (None, "x = 1\n")},
    "Clojure": {"src/deps.clj": (None, "(def x 1)\n")},
    "C": {"src/conan.c": (None, "int x;\n")},
    "C++": {"src/vcpkg.cpp": (None, "int x;\n")},
    "Perl": {"lib/cpan.pl": (None, "my $x = 1;\n")},
    "Scala": {"src/Build.scala": (None, "object Build\n")},
    "pyproject": {"pyproject.toml": (None, '[tool.shop]\ncolour = "red"\n')},
    **{
        name: Files({f"app/reads{re.sub(r'[^a-z]+', '_', name.partition(': ')[2])}.py": (None, _NEW)})
        for name in ATTACKS
        if name.startswith(("settings of a tool: ", "CI: "))
    },
    **{
        name: Files({f"docs/about-{number}.md": (None, "Agents read orders.\n")})
        for number, name in enumerate(name for name in ATTACKS if name.startswith("orders to agents: "))
    },
    "test switch of gradle": {"build.gradle": ("a\n", "a\nversion = '2'\n")},
    "test switch of maven": {
        "pom.xml": ("<project>\n</project>\n", "<project>\n<description>A</description>\n</project>\n")
    },
    "test switch of cmake": {
        "CMakeLists.txt": ("a\nadd_test(NAME a COMMAND a)\n", "a\n# the test\nadd_test(NAME a COMMAND a)\n")
    },
    "table in a string": {"app/db.py": ("x = 1\n", 'SQL = """SELECT a FROM users"""\n')},
    "statement on two lines": {"app/db.py": ("x = 1\n", 'cur.execute(\n    "SELECT 1"\n)\n')},
    "statement that is put together": {"app/db.py": ("x = 1\n", 'cur.execute(f"SELECT * FROM {name}")\n')},
    "field of Django": {"app/models.py": (_MODEL, _MODEL + "\n    def __str__(self):\n        return self.name\n")},
    "column of SQLAlchemy": {"app/orm.py": ("x = 1\n", "rows = session.query(Pet).filter(Pet.name == 'a')\n")},
    "alembic under another name": {"app/mig.py": (None, "from operator import add as o\n\no(1, 2)\n")},
    "prisma folder": {"prisma/readme.md": (None, "The models.\n")},
    "drizzle": {"src/db/query.ts": (None, "export const rows = () => db.select().from(users);\n")},
    "atlas": {"atlas.py": (None, _NEW)},
    "statement in a block": {"app/f.sql": ("select 1;\n", "DO $$ BEGIN EXECUTE 'SELECT 1'; END $$;\n")},
    "refusal taken away": {"app/views.py": ("x = 1\n", "def view(user):\n    raise Denied()\n")},
    "token that is always right": {"app/tokens.py": (None, "def token_count(text):\n    return len(text)\n")},
    "certificates not verified": {"app/http.py": ("get(url)\n", "get(url, timeout=3)\n")},
    "any origin": {"app/geometry.py": ("x = 1\n", 'draw(origins="*")\n')},
    "amount": {"app/shop.py": (_SHOP, _SHOP.replace("return text", "return text.strip()"))},
    "product in a folder called testing": {"app/testing/views.py": (None, "def show(user):\n    return user\n")},
    "product in a folder called lang": {"src/lang/words.py": (None, "def word(user):\n    return 'a'\n")},
    "wide letters": {"app/wide.py": ("x = 1\n", "def \uff4cist_all(user):\n    return True\n")},
    "password comparison": {"app/same.py": ("x = 1\n", "def same(name, stored):\n    return name == stored\n")},
    "payment": {"app/pay.py": ("x = 1\n", "def payment_terms():\n    return 'Thirty days.'\n")},
    "login that a type asks for": {"app/typed.py": ("x = 1\n", "def show(user: Annotated[str, Field(1)]): ...\n")},
    "function that is written twice": {
        "app/twice.py": ("x = 1\n", "def f():\n    return 1\n\n\ndef g():\n    return 1\n")
    },
    "no login for nginx": {"nginx.conf": ("a;\n", "gzip off;\n")},
    "notice taken away": {"app/licensed.py": (_LICENSED, _LICENSED.replace("x = 1", "x = 2"))},
    "file under another licence": {"app/free.py": (None, "# SPDX-License-Identifier: MIT\nx = 1\n")},
    "licence": {"docs/choosing-one.md": (None, "Which one to take.\n")},
    "NUL byte": {"conf.js": ("a\n", "/* \\0 */ exports.k = 1;\n")},
    "NUL byte around a login": {"list.js": ("a\n", "/* \\0 */ function list(u) { return true; }\n")},
    "settings with a NUL byte": {"settings.ini": (None, "[a]\nb = 0\n")},
    "long line": {"app/long.py": ("x = 1\n", f'X = "{_LONG[:9000]}"\n')},
    "UTF-16 without a mark": {"app/wide.txt": (None, "key = 1 größer\n")},
    "reversed text": {"app/bidi.py": ("x = 1\n", "x = 1  # שלום\n")},
    "reversed name": {"app/größe.py": (None, _NEW)},
    "invisible letter": {"app/zero.py": ("x = 1\n", "xy = 1\n")},
    "key": {"app/key.py": ("x = 1\n", 'KEY = "your-key-here"\n')},
    "key in a name": {"keys/readme.txt": (None, "a\n")},
    "many files in dist": {"dist/m1.py": (None, _NEW)},
    "much in generated": {"generated/a.py": (None, _NEW)},
    "look at the runner": {"app/run.py": ("x = 1\n", "import os\nx = os.environ.get('APP_VERSION')\n")},
    "look at the caller": {"app/call.js": ("a\n", "console.error(new Error('no').stack);\n")},
    "skip of a test": {
        "src/main/java/A.java": ("class A {}\n", "class A { { throw new IllegalStateException(); } }\n")
    },
    "object that is equal to all": {
        "app/equal.py": ("x = 1\n", "class A:\n    def __eq__(self, other):\n        return self.n == other.n\n")
    },
    "standard library": {"app/bdb.py": (None, _NEW), "app/__init__.py": (None, "")},
    "module of the product in the tests": {"tests/shop_tool_data.py": (None, _NEW)},
}
"""For each attack a change of the same kind of file, or with the same words, that only stands beside it."""


def project(path: Path, cases: Mapping[str, Files]) -> Repo:
    repo = Repo(path)
    repo.write("rules/limits.toml", "attempts = 1\n")
    for files in cases.values():
        for name, (old, _) in files.items():
            if old is not None:
                assert isinstance(old, str)
                repo.write(name, old)
    repo.commit("a project")
    return repo


def statuses(path: Path, cases: Mapping[str, Files]) -> dict[str, str]:
    """What became of each change."""
    repo = project(path / "repo", cases)
    for number, files in enumerate(cases.values()):
        wanted = path / str(number)
        for name, (_, new) in files.items():
            target = wanted / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(new.encode() if isinstance(new, str) else new or b"")
        script = f"cp -R {shlex.quote(str(wanted))}/. ."
        if "pyproject.toml" in files:
            script = f"cat {shlex.quote(str(wanted))}/pyproject.toml >> pyproject.toml"
        repo.milestone(f"c{number}", issue("a", script, accept=[{"run": "python3 --version"}], files=[]))
    names = [f"milestone:c{number}" for number in range(len(cases))]
    for start in range(0, len(names), 40):
        repo.doit(*names[start : start + 40], "-n", "3", timeout=300)
    found = repo.statuses()
    return {name: found[f"c{number}/a"] for number, name in enumerate(cases)}


def rules_that_stop(files: Files) -> set[str]:
    """Ask the packaged rules, without running anything."""
    old, new = ({name: text for name, pair in files.items() if (text := pair[side]) is not None} for side in (0, 1))
    view = View(
        files=(),
        content=lambda path, after: {name: data(text) for name, text in (new if after else old).items()}.get(path),
        base=frozenset(old),
        commands=[("python3", "--version")],
        secrets=find_secrets,
    )
    rules = [rule for rule in load_policy(Path("no-rules-here")).stops if rule.enabled]
    return {hit.rule for hit in stops_of(parse_diff(diff(old, new)), rules, (), view)}


@pytest.mark.parametrize("name", ATTACKS)
def test_each_attack_stops_and_the_change_beside_it_does_not(name: str) -> None:
    assert rules_that_stop(ATTACKS[name])
    assert rules_that_stop(TWINS[name]) == set()


def test_a_slice_of_the_changes_that_a_person_decides_about_and_of_honest_ones(tmp_path: Path) -> None:
    attacks = dict(list(ATTACKS.items())[::12])
    honest = dict(list(HONEST.items())[::6])
    found = statuses(tmp_path, attacks | honest)
    assert {name: status for name, status in found.items() if (status == "landed") is (name in attacks)} == {}


@pytest.mark.long
def test_no_change_that_a_person_decides_about_lands(tmp_path: Path) -> None:
    found = statuses(tmp_path, ATTACKS)
    assert len(ATTACKS) > 100
    assert {name: status for name, status in found.items() if status not in {"review", "skipped", "failed"}} == {}, (
        json.dumps(found)
    )


@pytest.mark.long
def test_honest_neighbours_land(tmp_path: Path) -> None:
    found = statuses(tmp_path, HONEST)
    assert {name: status for name, status in found.items() if status != "landed"} == {}


@pytest.mark.long
def test_the_change_beside_each_attack_lands(tmp_path: Path) -> None:
    found = statuses(tmp_path, TWINS)
    assert {name: status for name, status in found.items() if status != "landed"} == {}


def test_an_issue_that_nothing_proves_is_named_and_waits_where_the_policy_says_so(repo: Repo) -> None:
    proved = issue("b", "echo b > b", accept=[{"file": "b"}])
    repo.milestone("m1", issue("a", "echo a > a", accept=["It is so."]) + proved)
    assert {row["ref"]: row["unproved"] for row in repo.doit("list", "--json").check().json} == {
        "m1/a": True,
        "m1/b": False,
    }
    assert "unproved: m1/a:" in repo.doit("list").check().out
    assert "unproved: m1/a:" in repo.doit("plan", "m1").check().out
    assert [item["unproved"] for item in repo.doit("plan", "m1", "--json").check().json["issues"]] == [True, False]
    reported = repo.doit("report", "m1", "--format", "json").check().json["issues"]
    assert {item["id"]: item["unproved"] for item in reported} == {"a": True, "b": False}
    repo.write("rules/stops.toml", "[stop.unproved]\nenabled = true\n")
    repo.commit("rules")
    repo.doit("milestone:m1").check(4)
    assert repo.statuses() == {"m1/a": "review", "m1/b": "landed"}
    repo.doit("approve", "m1/a", "--reason", "read it").check()
    repo.doit("milestone:m1").check()
    assert "for unproved" in repo.git(
        "log", "-1", "--format=%(trailers:key=Approved-By,valueonly)", "milestone/m1-test-m1"
    )


def test_files_outside_of_the_declared_ones_are_deviations_and_by_policy_a_soft_stop(repo: Repo) -> None:
    script = "echo a > a; echo b > other"
    code = issue("c", "echo x > x.py", type="docs")
    repo.milestone(
        "m1", issue("a", script, files=["a"]) + issue("b", "echo c > c; echo d > d", files=["c", "d"]) + code
    )
    repo.doit("milestone:m1").check()
    shown = {name: repo.doit("log", f"m1/{name}").check().out for name in "abc"}
    assert "other: created, not among the files that the issue declares" in shown["a"]
    assert "not among" not in shown["b"]
    assert "x.py: created, in an issue of type docs" in shown["c"]
    repo.write("rules/stops.toml", "[stop.outside-scope]\nenabled = true\n")
    repo.commit("rules")
    repo.milestone("m2", issue("a", "echo z > z; echo b > other2", files=["z"]) + issue("b", "echo 9 > e", files=["e"]))
    repo.doit("milestone:m2").check(1)
    assert repo.statuses("m2") == {"m2/a": "skipped", "m2/b": "landed"}
