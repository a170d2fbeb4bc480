"""Stop rules over real unified diffs: what has to stop, what must not."""

from __future__ import annotations

import difflib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executor.config.load_rules import load_policy
from executor.git.diff import Change, Finding, parse_diff
from executor.model.paths import matches
from executor.model.rules import StopRule
from executor.stop_rules.evaluate import Hit, spec_problems, stop_checks, stops_of
from executor.stop_rules.test_evidence.weakened_tests import inline_changes, weakened
from executor.stop_rules.view import View

Files = Mapping[str, str | bytes]
Case = tuple[Files, Files]
PACKAGED = {rule.id: rule for rule in load_policy(Path("no-rules-here")).stops}
ABOUT_THE_CHANGE = (
    "database-migration",
    "sensitive-code",
    "dependency-change",
    "licence-change",
    "protected-files",
    "secrets",
    "tests-weakened",
    "tool-silenced",
    "large-diff",
)
RULES = tuple(PACKAGED[name] for name in ABOUT_THE_CHANGE)


def data(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")


def diff(old: Files, new: Files) -> bytes:
    """The text that git prints for a change of ordinary files."""
    out: list[bytes] = []
    for path in sorted({*old, *new}):
        if old.get(path) == new.get(path):
            continue
        before, after = data(old.get(path, b"")), data(new.get(path, b""))
        name = path.encode("utf-8", "surrogateescape")
        out.append(b"diff --git a/%s b/%s\n" % (name, name))
        mode = b" 100644"
        if path not in old or path not in new:
            out.append((b"new" if path in new else b"deleted") + b" file mode 100644\n")
            mode = b""
        out.append(b"index %s..%s%s\n" % (b"1" * 40, b"2" * 40, mode))
        if b"\0" in before + after:
            out.append(b"Binary files a/%s and b/%s differ\n" % (name, name))
            continue
        lines = difflib.diff_bytes(
            difflib.unified_diff, before.splitlines(keepends=True), after.splitlines(keepends=True), b"a", b"b"
        )
        out += (line if line.endswith(b"\n") else line + b"\n\\ No newline at end of file\n" for line in lines)
    return b"".join(out)


def stars(lines: Sequence[Finding]) -> list[Finding]:
    """A detector for whom every secret is ``s3cr3t``."""
    return [(path, number, "a secret") for path, number, text in lines if "s3cr3t" in text]


def hits(
    old: Files, new: Files, rules: Sequence[StopRule] = RULES, allowed: Sequence[str] = (), change: Change | None = None
) -> list[Hit]:
    def content(path: str, after: bool) -> bytes | None:
        files = new if after else old
        return data(files[path]) if path in files else None

    view = View(
        files=(), content=content, base=frozenset(old), secrets=stars, values={"MY_KEY": "Zq8vKp3LmW2nTx7Rb4Yc"}
    )
    return stops_of(change or parse_diff(diff(old, new)), rules, allowed, view)


def ids(old: Files, new: Files, **more: Any) -> list[str]:
    return [hit.rule for hit in hits(old, new, **more)]


def made(path: str, text: str | bytes = "x = 1\n") -> Case:
    return {}, {path: text}


def edit(path: str, old: str, new: str) -> Case:
    return {path: old}, {path: new}


def gone(path: str, text: str = "x = 1\n") -> Case:
    return {path: text}, {}


PYPROJECT = """
[build-system]
requires = ["hatchling"]

[project]
name = "shop"
version = "1.0"
description = "A shop"
license = "MIT"
classifiers = ["License :: OSI Approved :: MIT License", "Topic :: Office"]
dependencies = ["click>=8", "rich"]

[project.optional-dependencies]
test = ["pytest"]

[dependency-groups]
dev = ["ruff"]

[tool.pytest.ini_options]
addopts = "-ra"

[tool.ruff]
line-length = 100

[tool.black]
line-length = 100
"""
SETUP_PY = """
from setuptools import setup
import re
VERSION = "1.0"
deps = ["click>=8", "rich"]
setup(
    name="shop",
    version=VERSION,
    license="MIT",
    description="A shop",
    install_requires=deps,
    extras_require={"test": ["pytest"]},
    classifiers=["License :: OSI Approved :: MIT License"],
)
"""
SETUP_CFG = """
[metadata]
name = shop
version = 1.0
license = MIT

[options]
install_requires =
    click>=8
    rich

[options.extras_require]
test = pytest

[tool:pytest]
addopts = -ra

[bdist_wheel]
universal = 1
"""
PACKAGE = """{
  "name": "shop",
  "version": "1.0.0",
  "license": "MIT",
  "scripts": {"test": "jest", "start": "node ."},
  "dependencies": {"express": "^4.0.0"},
  "devDependencies": {"jest": "^29.0.0"},
  "jest": {"testTimeout": 5000, "coverageThreshold": {"global": {"branches": 80, "lines": 90}}}
}
"""
CARGO = """
[package]
name = "shop"
version = "1.0.0"
license = "MIT"

[dependencies]
serde = { version = "1", features = ["derive"] }

[profile.release]
lto = true
"""
POM = """<project>
  <version>1.0</version>
  <licenses><license><name>MIT</name></license></licenses>
  <properties><junit.version>5.1</junit.version><encoding>UTF-8</encoding></properties>
  <dependencies>
    <dependency><groupId>junit</groupId><artifactId>junit</artifactId><version>${junit.version}</version></dependency>
  </dependencies>
</project>
"""
GRADLE = """
plugins { id 'java' }
version = '1.0'
def guavaVersion = '32.0'
dependencies {
    implementation "com.google.guava:guava:$guavaVersion"
}
test { useJUnitPlatform() }
"""
COMPOSER = '{"name": "a/b", "description": "B", "license": "MIT", "require": {"php": ">=8", "monolog/monolog": "^3"}}\n'
TESTS = """
import pytest

def test_one():
    assert 1 + 1 == 2
    assert 2 + 2 == 4

@pytest.mark.parametrize("n", [1, 2, 3])
def test_many(n):
    assert n

class TestThing:
    def test_three(self):
        with pytest.raises(ValueError):
            int("x")
"""
JEST = """describe('cart', () => {
  it('adds', () => {
    expect(add(1, 2)).toBe(3);
    expect(add(2, 2)).toBe(4);
  });
  it('removes', () => { expect(remove()).toBe(1); });
});
"""
GO = """package cart

func TestAdd(t *testing.T) {
\tif Add(1, 2) != 3 {
\t\tt.Errorf("no")
\t}
}
"""
JAVA = """class CartTest {
  @Test
  void adds() {
    assertEquals(3, add(1, 2));
  }
}
"""
RUST = "#[test]\nfn adds() {\n    assert_eq!(add(1, 2), 3);\n}\n"
RUBY = "describe Cart do\n  it 'adds' do\n    expect(add(1, 2)).to eq(3)\n  end\nend\n"


def swap(path: str, text: str, old: str, new: str) -> Case:
    assert old in text
    return edit(path, text, text.replace(old, new))


STOP: dict[str, dict[str, Case]] = {
    "database-migration": {
        "django": made("shop/orders/migrations/0007_total.py"),
        "django changed": edit("orders/migrations/0001_initial.py", "a = 1\n", "a = 2\n"),
        "django deleted": gone("orders/migrations/0002_more.py"),
        "alembic": made("alembic/versions/3f2a_add_users.py"),
        "alembic in flask": made("migrations/versions/3f2a.py"),
        "rails": made("db/migrate/20240101120000_create_users.rb", "class CreateUsers\nend\n"),
        "rails schema": edit("db/schema.rb", "version: 1\n", "version: 2\n"),
        "rails structure": made("db/structure.sql", "SELECT 1;\n"),
        "flyway": made("src/main/resources/db/migration/V2__add_total.sql", "SELECT 1;\n"),
        "flyway repeatable": made("sql/R__views.sql", "SELECT 1;\n"),
        "liquibase": made("src/main/resources/db/changelog/db.changelog-1.0.xml", "<x/>\n"),
        "liquibase by content": made("conf/main.yaml", "databaseChangeLog:\n  - changeSet:\n"),
        "prisma": edit("prisma/schema.prisma", "model A {}\n", "model B {}\n"),
        "prisma migration": made("prisma/migrations/20240101_init/migration.sql", "SELECT 1;\n"),
        "knex": made("server/migrations/20240101120000_users.js", "exports.up = 1\n"),
        "laravel": made("database/migrations/2024_01_01_000000_create_users.php", "<?php\n"),
        "golang-migrate": made("store/000002_users.up.sql", "SELECT 1;\n"),
        "ef core": made("Data/Migrations/20240101120000_Init.cs", "class A {}\n"),
        "ef core snapshot": edit("Data/ShopContextModelSnapshot.cs", "a\n", "b\n"),
        "schema.sql": edit("app/schema.sql", "-- a\n", "-- b\n"),
        "ddl": made("setup/tables.sql", "create  table users (id int);\n"),
        "ddl over lines": made("setup/tables.sql", "ALTER\n  TABLE users\n  ADD x int;\n"),
        "ddl behind a comment": made("setup/tables.sql", "/* fine */ DROP TABLE users;\n"),
        "ddl taken away": edit("a.sql", "DROP TABLE x;\nSELECT 1;\n", "SELECT 1;\n"),
        "ddl with CRLF": made("a.sql", "SELECT 1;\r\nCREATE UNIQUE INDEX i ON t (a);\r\n"),
        "call": edit("shop/db.py", "a = 1\n", "a = 1\nop.add_column('users', c)\n"),
        "ddl in code": edit("shop/db.py", "a = 1\n", 'a = 1\ncur.execute("ALTER TABLE users ADD x int")\n'),
        "non-ascii path": made("pakete/größe/migrations/0001_größe.py"),
    },
    "sensitive-code": {
        "auth folder": edit("app/auth/views.py", "a = 1\n", "a = 2\n"),
        "permissions file": edit("app/permissions.py", "a = 1\n", "a = 2\n"),
        "rate limit file": edit("src/rateLimiter.ts", "a\n", "b\n"),
        "billing folder": edit("services/billing/main.go", "a\n", "b\n"),
        "invoice class": edit("src/InvoiceService.java", "a\n", "b\n"),
        "decorator": edit("app/views.py", "def v(): ...\n", "@login_required\ndef v(): ...\n"),
        "decorator taken away": edit("app/views.py", "@login_required\ndef v(): ...\n", "def v(): ...\n"),
        "check taken away": edit("app/v.py", "if not u.has_perm('x'):\n    return\n", "a = 1\n"),
        "permission classes": edit(
            "api.py", "permission_classes = [IsAuthenticated]\n", "permission_classes = [AllowAny]\n"
        ),
        "superuser": edit("a.py", "a = 1\n", "user.is_superuser = True\n"),
        "javascript call": edit("app.js", "run();\n", "app.use(requireRole('admin'));\n"),
        "payment call": edit("shop.py", "a = 1\n", "create_payment(order)\n"),
        "yaml": edit("config/app.yaml", "rate_limit: 10\n", "rate_limit: 10000\n"),
        "password": edit("a.py", "a = 1\n", "def check_password(raw): return True\n"),
        "go": edit("server.go", "a\n", "func (s *Server) Authorize(r *http.Request) bool {\n"),
        "import from elsewhere": edit("a.py", "from app.auth import login\n", "from app.none import login\n"),
        "deleted": gone("src/oauth.py"),
        "php": edit("a.php", "a\n", "$this->authorize('update', $post);\n"),
        "CRLF": edit("a.py", "a = 1\r\n", "authenticate(user)\r\n"),
    },
    "dependency-change": {
        "added": swap("pyproject.toml", PYPROJECT, '"rich"]', '"rich", "evil"]'),
        "pinned otherwise": swap("pyproject.toml", PYPROJECT, "click>=8", "click>=7"),
        "extra": swap("pyproject.toml", PYPROJECT, '["pytest"]', '["pytest", "x"]'),
        "group": swap("pyproject.toml", PYPROJECT, '["ruff"]', '["ruff", "x"]'),
        "build system": swap("pyproject.toml", PYPROJECT, "hatchling", "evilling"),
        "poetry": edit(
            "pyproject.toml", "[tool.poetry.dependencies]\na = '1'\n", "[tool.poetry.dependencies]\na = '2'\n"
        ),
        "uv source": made("pyproject.toml", '[tool.uv.sources]\na = { git = "https://evil" }\n'),
        "unreadable": edit("pyproject.toml", PYPROJECT, PYPROJECT + "[[[\n"),
        "was unreadable": edit("pyproject.toml", "[[[\n", PYPROJECT),
        "setup.py": swap("setup.py", SETUP_PY, '"rich"]', '"rich", "evil"]'),
        "setup.py extra": swap("setup.py", SETUP_PY, '["pytest"]', '["pytest", "x"]'),
        "setup.py altered later": swap("setup.py", SETUP_PY, "setup(\n", "deps.append('evil')\nsetup(\n"),
        "setup.py computed": swap("setup.py", SETUP_PY, "install_requires=deps", "install_requires=read()"),
        "setup.py by another name": swap(
            "setup.py", SETUP_PY, "import re\n", "from setuptools import setup as s\ns(install_requires=['evil'])\n"
        ),
        "setup.py unreadable": swap("setup.py", SETUP_PY, "import re\n", "import re re\n"),
        "setup.py deleted": gone("setup.py", SETUP_PY),
        "setup.cfg": swap("setup.cfg", SETUP_CFG, "    rich\n", "    rich\n    evil\n"),
        "setup.cfg extra": swap("setup.cfg", SETUP_CFG, "test = pytest", "test = pytest; x"),
        "requirements": edit("requirements-dev.txt", "a==1\n", "a==2\n"),
        "requirements folder": made("requirements/base.txt", "a\n"),
        "constraints": made("constraints.txt", "a<2\n"),
        "package.json": swap("web/package.json", PACKAGE, "^4.0.0", "^5.0.0"),
        "package.json dev": swap("package.json", PACKAGE, "^29.0.0", "^30.0.0"),
        "package.json overrides": swap("package.json", PACKAGE, '"name"', '"overrides": {"a": "1"}, "name"'),
        "package.json unreadable": edit("package.json", PACKAGE, PACKAGE + "}\n"),
        **{
            f"lock {name}": edit(name, "a\n", "b\n")
            for name in [
                "package-lock.json",
                "yarn.lock",
                "pnpm-lock.yaml",
                "bun.lock",
                "Pipfile",
                "Pipfile.lock",
                "uv.lock",
                "poetry.lock",
                "pdm.lock",
                "Cargo.lock",
                "go.mod",
                "go.sum",
                "gradle.lockfile",
                "gradle/libs.versions.toml",
                "Gemfile",
                "Gemfile.lock",
                "shop.gemspec",
                "composer.lock",
                "Shop.csproj",
                "packages.config",
                "packages.lock.json",
                "Directory.Packages.props",
                ".gitmodules",
            ]
        },
        "binary lock": edit("bun.lockb", "\0a", "\0b"),
        "cargo": swap("Cargo.toml", CARGO, '"1", features', '"2", features'),
        "pom": swap("pom.xml", POM, "<artifactId>junit</artifactId>", "<artifactId>evil</artifactId>"),
        "pom property": swap("pom.xml", POM, "5.1", "5.2"),
        "gradle": swap("build.gradle", GRADLE, "guava:guava", "guava:evil"),
        "gradle version": swap("app/build.gradle.kts", GRADLE, "32.0", "33.0"),
        "composer": swap("composer.json", COMPOSER, "^3", "^4"),
        "conda": edit("environment.yml", "name: a\ndependencies:\n  - b\n", "name: a\ndependencies:\n  - c\n"),
        "moved": ({"requirements.txt": "a\n"}, {"deps/requirements.txt": "a\n"}),
        "CRLF": swap("setup.cfg", SETUP_CFG.replace("\n", "\r\n"), "rich\r\n", "rich\r\n    evil\r\n"),
    },
    "licence-change": {
        "text": edit("LICENSE", "MIT\n", "GPL\n"),
        "gone": gone("LICENSE.txt", "MIT\n"),
        "new": made("COPYING", "GPL\n"),
        "moved": ({"LICENSE": "MIT\n"}, {"doc/OLD": "MIT\n"}),
        "british": made("Licence.md", "MIT\n"),
        "notice": edit("NOTICE", "a\n", "b\n"),
        "two": made("LICENSE-APACHE", "A\n"),
        "before": made("MIT-LICENSE", "A\n"),
        "reuse": made("LICENSES/MIT.txt", "A\n"),
        "pyproject": swap("pyproject.toml", PYPROJECT, 'license = "MIT"', 'license = "GPL-3.0"'),
        "classifier": swap("pyproject.toml", PYPROJECT, "MIT License", "BSD License"),
        "setup.py": swap("setup.py", SETUP_PY, 'license="MIT"', 'license="BSD"'),
        "setup.cfg": swap("setup.cfg", SETUP_CFG, "license = MIT", "license = BSD"),
        "package.json": swap("package.json", PACKAGE, '"MIT"', '"ISC"'),
        "cargo": swap("Cargo.toml", CARGO, 'license = "MIT"', 'license = "BSD"'),
        "pom": swap("pom.xml", POM, "<name>MIT", "<name>BSD"),
        "composer": swap("composer.json", COMPOSER, '"MIT"', '"BSD"'),
        "gemspec": edit("a.gemspec", "s.license = 'MIT'\n", "s.license = 'BSD'\n"),
        "spdx altered": edit(
            "a.py", "# SPDX-License-Identifier: MIT\na = 1\n", "# SPDX-License-Identifier: ISC\na = 1\n"
        ),
        "spdx removed": edit("a.c", "/* SPDX-License-Identifier: MIT */\nint a;\n", "int a;\n"),
        "binary": edit("LICENSE.pdf", "\0a", "\0b"),
    },
    "protected-files": {
        "conftest": made("tests/unit/conftest.py"),
        "pytest.ini": edit("pytest.ini", "a\n", "b\n"),
        "tox": gone("tox.ini"),
        "tox commands": edit("tox.ini", "[testenv]\ncommands = pytest\n", "[testenv]\ncommands = true\n"),
        "composer": edit("composer.json", '{"scripts": {"test": "phpunit"}}', '{"scripts": {"test": "true"}}'),
        "deno": edit("deno.json", '{"tasks": {"test": "deno test"}}', '{"tasks": {"test": "true"}}'),
        "tox, pytest": made("tox.ini", "[pytest]\naddopts = --co\n"),
        "noxfile": made("noxfile.py"),
        "coveragerc": made(".coveragerc"),
        "workflow": edit(".github/workflows/ci.yml", "a\n", "b\n"),
        "gitlab": made(".gitlab-ci.yml"),
        "circle": made(".circleci/config.yml"),
        "jenkins": made("Jenkinsfile"),
        "hooks": made(".husky/pre-commit"),
        "pre-commit": made(".pre-commit-config.yaml"),
        "milestone": edit("milestones/m4.toml", "a\n", "b\n"),
        "milestone deep": made("milestones/m4/a/b.patch"),
        "rules": made("rules/stops.toml"),
        "dodo": made("dodo.py"),
        "site": made("src/sitecustomize.py"),
        "pth": made("lib/evil.pth"),
        "jest": made("web/jest.config.ts"),
        "phpunit": made("phpunit.xml.dist"),
        "make": edit("Makefile", "a\n", "b\n"),
        "codeowners": made("docs/CODEOWNERS"),
        "pytest table": swap("pyproject.toml", PYPROJECT, '"-ra"', '"-ra -k not_slow"'),
        "ruff table": swap(
            "pyproject.toml", PYPROJECT, "[tool.ruff]\nline-length = 100", "[tool.ruff]\nline-length = 200"
        ),
        "mypy table": edit("pyproject.toml", PYPROJECT, PYPROJECT + "[tool.mypy]\nignore_errors = true\n"),
        "coverage table": edit("pyproject.toml", PYPROJECT, PYPROJECT + "[tool.coverage.run]\nomit = ['*']\n"),
        "setup.cfg section": swap("setup.cfg", SETUP_CFG, "addopts = -ra", "addopts = -x"),
        "npm test": swap("package.json", PACKAGE, '"test": "jest"', '"test": "true"'),
        "jest table": swap("package.json", PACKAGE, "5000", "1"),
    },
    "tests-weakened": {
        "file deleted": gone("tests/test_a.py", TESTS),
        "test removed": swap("tests/test_a.py", TESTS, "def test_one", "def one"),
        "fewer assertions": swap("tests/test_a.py", TESTS, "    assert 2 + 2 == 4\n", ""),
        "emptied": swap(
            "tests/test_a.py",
            TESTS,
            '        with pytest.raises(ValueError):\n            int("x")\n',
            "        pass\n",
        ),
        "always true": swap("tests/test_a.py", TESTS, "assert 1 + 1 == 2", "assert True"),
        "or true": swap("tests/test_a.py", TESTS, "1 + 1 == 2", "1 + 1 == 2 or True"),
        "the same on both sides": swap("tests/test_a.py", TESTS, "1 + 1 == 2", "x == x"),
        "returns first": swap("tests/test_a.py", TESTS, "    assert 1 + 1", "    return\n    assert 1 + 1"),
        "if false": swap("tests/test_a.py", TESTS, "    assert 1 + 1", "    if 0:\n        assert 1 + 1"),
        "swallowed": swap(
            "tests/test_a.py",
            TESTS,
            "    assert 1 + 1 == 2\n",
            "    try:\n        assert 1 + 1 == 2\n    except Exception:\n        pass\n",
        ),
        "skip": swap("tests/test_a.py", TESTS, "def test_one", "@pytest.mark.skip\ndef test_one"),
        "xfail": swap("tests/test_a.py", TESTS, "def test_one", "@pytest.mark.xfail(reason='x')\ndef test_one"),
        "skip inside": swap("tests/test_a.py", TESTS, "    assert 1 + 1", "    pytest.skip()\n    assert 1 + 1"),
        "module mark": swap(
            "tests/test_a.py", TESTS, "import pytest\n", "import pytest\npytestmark = pytest.mark.skip\n"
        ),
        "class mark": swap(
            "tests/test_a.py", TESTS, "class TestThing", "@pytest.mark.skipif(True, reason='')\nclass TestThing"
        ),
        "__test__": swap("tests/test_a.py", TESTS, "class TestThing:\n", "class TestThing:\n    __test__ = False\n"),
        "fewer rows": swap("tests/test_a.py", TESTS, "[1, 2, 3]", "[1]"),
        "shadowed": edit("tests/test_a.py", TESTS, TESTS + "def test_one(): pass\n"),
        "moved where nothing is collected": ({"tests/test_a.py": TESTS}, {"tests/old_a.py": TESTS}),
        "under if false": swap(
            "tests/test_a.py", TESTS, "class TestThing:\n    def", "if False:\n  class TestThing:\n    def"
        ),
        "class renamed": swap("tests/test_a.py", TESTS, "class TestThing", "class Thing"),
        "rebound": edit("tests/test_a.py", TESTS, TESTS + "test_one = None\n"),
        "deleted by name": edit("tests/test_a.py", TESTS, TESTS + "del test_one\n"),
        "broken": edit("tests/test_a.py", TESTS, TESTS + "def def\n"),
        "moved without one": (
            {"tests/test_a.py": TESTS},
            {"tests/test_b.py": TESTS.replace("def test_many", "def many")},
        ),
        "replaced by less": swap("tests/test_a.py", TESTS, TESTS, "def test_new(): pass\n"),
        "jest only": swap("src/cart.test.js", JEST, "it('adds'", "it.only('adds'"),
        "jest skip": swap("src/cart.spec.ts", JEST, "it('adds'", "it.skip('adds'"),
        "jest x": swap("src/cart.test.js", JEST, "describe(", "xdescribe("),
        "jest fewer": swap("src/cart.test.js", JEST, "    expect(add(2, 2)).toBe(4);\n", ""),
        "jest commented": swap("src/cart.test.js", JEST, "    expect(add(2, 2))", "    // expect(add(2, 2))"),
        "jest removed": swap("src/cart.test.js", JEST, "  it('removes', () => { expect(remove()).toBe(1); });\n", ""),
        "jest deleted": gone("src/cart.test.js", JEST),
        "go skip": swap("cart_test.go", GO, "\tif Add", '\tt.Skip("later")\n\tif Add'),
        "go emptied": swap("cart_test.go", GO, '\t\tt.Errorf("no")\n', ""),
        "go deleted": gone("cart_test.go", GO),
        "java disabled": swap("src/test/java/CartTest.java", JAVA, "  @Test", "  @Disabled\n  @Test"),
        "java unmarked": swap("src/test/java/CartTest.java", JAVA, "  @Test\n", ""),
        "rust ignore": swap("tests/a.rs", RUST, "#[test]\n", "#[test]\n#[ignore]\n"),
        "ruby x": swap("spec/cart_spec.rb", RUBY, "  it '", "  xit '"),
        "fail_under": edit(".coveragerc", "[report]\nfail_under = 90\n", "[report]\nfail_under = 80\n"),
        "fail_under gone": edit("setup.cfg", "[coverage:report]\nfail_under = 90\n", "[coverage:report]\n"),
        "cov-fail-under": edit("tox.ini", "pytest --cov-fail-under=90\n", "pytest --cov-fail-under=9\n"),
        "jest threshold": swap("package.json", PACKAGE, '"branches": 80', '"branches": 8'),
        "simplecov": edit("spec/spec_helper.rb", "SimpleCov.minimum_coverage 90\n", "SimpleCov.minimum_coverage 50\n"),
        "CRLF": swap("tests/test_a.py", TESTS.replace("\n", "\r\n"), "    assert 2 + 2 == 4\r\n", ""),
        "non-ascii path": gone("tests/grüße/test_ä.py", TESTS),
    },
    "secrets": {
        "line": edit("a.py", "a = 1\n", "a = 's3cr3t'\n"),
        "new file": made("deep/down/file", "s3cr3t\n"),
        "in a test": made("tests/test_x.py", "KEY = 's3cr3t'\n"),
        "in a document": made("README.md", "use s3cr3t\n"),
        "without newline": made("a", "s3cr3t"),
        "CRLF": made("a.txt", "a\r\ns3cr3t\r\n"),
        "non-ascii path": made("schlüssel/größe.txt", "s3cr3t\n"),
        "one of many": edit("a", "a\n" * 50, "a\n" * 25 + "s3cr3t\n" + "a\n" * 25),
        "in a lock file": edit("yarn.lock", "a\n", "s3cr3t\n"),
        "not utf-8": made("a", b"\xff s3cr3t\n"),
        "name of a file": made("s3cr3t.py"),
        "after a NUL byte": made("conf.js", b"/* \0 */ s3cr3t\n"),
        "in bytes": made(".env", "TOKEN=s3cr3t\n"),
    },
    "tool-silenced": {
        name: made(path, f"{text}\nx = 1\n")
        for name, path, text in (
            ("ruff", "a.py", "# ruff: noqa"),
            ("flake8", "a/b.py", "# flake8: noqa"),
            ("mypy", "a.py", "# mypy: ignore-errors"),
            ("pylint", "a.py", "# pylint: skip-file"),
            ("eslint", "a.js", "/* eslint-disable */"),
            ("eslint with a reason", "a.tsx", "/* eslint-disable -- later */"),
            ("typescript", "a.ts", "// @ts-nocheck"),
            ("biome", "a.ts", "// biome-ignore-all lint: later"),
            ("deno", "a.ts", "// deno-lint-ignore-file"),
            ("rust", "src/lib.rs", "#![allow(warnings)]"),
            ("kotlin", "A.kt", '@file:Suppress("all")'),
            ("php", "a.php", "<?php // phpcs:ignoreFile"),
            ("rubocop", "a.rb", "# rubocop:disable all"),
        )
    },
}
PASS: dict[str, dict[str, Case]] = {
    "database-migration": {
        "package file": made("orders/migrations/__init__.py", ""),
        "document": made("docs/migrations/guide.md", "CREATE TABLE x;\n"),
        "the word": made("shop/migration.py"),
        "migration guide tool": made("tools/migration/helper.py"),
        "select": made("reports/top.sql", "SELECT * FROM users;\n"),
        "insert": edit("seed.sql", "a\n", "INSERT INTO users VALUES (1);\n"),
        "ddl commented out": made("a.sql", "-- CREATE TABLE users (id int);\n"),
        "ddl in a block comment": made("a.sql", "/*\nCREATE TABLE users;\n*/\nSELECT 1;\n"),
        "changelog of notes": made("changelog/123.feature.yml", "text: x\n"),
        "news": edit("CHANGELOG.md", "a\n", "DROP TABLE is supported\n"),
        "test": made("tests/test_db.py", 'cur.execute("CREATE TABLE x (a)")\n'),
        "test data": made("tests/data/schema.sql", "CREATE TABLE x (a int);\n"),
        "comment in code": edit("a.py", "a = 1\n", "a = 1\n# op.add_column('users', c)\n"),
        "created_at": made("q.sql", "SELECT created_at, altered FROM t;\n"),
        "table in html": edit("a.py", "a = 1\n", "text = 'create table of contents'\n"),
    },
    "sensitive-code": {
        "import alone": edit("a.py", "a = 1\n", "from django.contrib.auth import backends\na = 1\n"),
        "export alone": edit(
            "src/auth/index.ts", "export * from './a';\n", "export * from './a';\nexport * from './b';\n"
        ),
        "layout": edit("app/auth.py", "def login(a):\n  return a\n", "def login(\n    a,\n):\n    return a  # so\n"),
        "layout of JavaScript": edit("auth.js", "check(a, b);\n", "check(\n  a,\n  b,\n);\n"),
        "page of documents": edit("mkdocs.yml", "nav:\n", "nav:\n  - Authentication: 'auth.md'\n"),
        "author": edit("src/author.py", "author = 1\n", "def author(name): return name\n"),
        "authors": edit("a.py", "a = 1\n", "def get_authors(book): return list_authors(book)\n"),
        "authority": edit("url.py", "a = 1\n", "authority = parse_authority(url)\n"),
        "document": edit("docs/billing.md", "a\n", "login()\n"),
        "document folder": edit("docs/auth/x.py", "a = 1\n", "a = 2\n"),
        "test": edit("tests/test_auth.py", "a = 1\n", "login(user)\n"),
        "fixture": made("tests/fixtures/auth.json", "{}\n"),
        "comment": edit("a.py", "a = 1\n", "a = 1  # authenticate() is called elsewhere\n"),
        "js comment": edit("a.js", "a\n", "// checkPermission(user)\n"),
        "string": edit("a.py", "a = 1\n", 'print("please login(now) with a password")\n'),
        "PermissionError": edit("a.py", "a = 1\n", "raise PermissionError(path)\n"),
        "stylesheet": edit("css/login.css", "a\n", "b\n"),
        "translation": edit("locale/de/messages.po", "a\n", 'msgid "login"\n'),
        "tokens": edit("lexer.py", "a = 1\n", "def tokens(text): return tokenize(text)\n"),
        "generate": edit("rates.py", "a = 1\n", "def rate(limit_order): return generate(limit_order)\n"),
        "lodash": edit("ui.js", "a\n", "window.onscroll = debounce(update, 100)\n"),
        "prose": edit("a.py", "a = 1\n", "    The password is never kept, nor is the login.\n"),
        "changelog": edit("CHANGES", "a\n", "login(): fixed\n"),
        "lock file": edit("package-lock.json", "a\n", '"jwt": "1"\n'),
    },
    "dependency-change": {
        "version": swap("pyproject.toml", PYPROJECT, 'version = "1.0"', 'version = "1.1"'),
        "description": swap("pyproject.toml", PYPROJECT, '"A shop"', '"A better shop"'),
        "tool": swap("pyproject.toml", PYPROJECT, "[tool.black]\nline-length = 100", "[tool.black]\nline-length = 99"),
        "order": swap("pyproject.toml", PYPROJECT, '["click>=8", "rich"]', '[\n  "rich",\n  "click >= 8",\n]'),
        "setup.py version": swap("setup.py", SETUP_PY, 'VERSION = "1.0"', 'VERSION = "1.1"'),
        "setup.py inlined": swap(
            "setup.py", SETUP_PY, "install_requires=deps", "install_requires=['rich', 'click>=8']"
        ),
        "setup.cfg version": swap("setup.cfg", SETUP_CFG, "version = 1.0", "version = 1.1"),
        "setup.cfg without": made("setup.cfg", "[bdist_wheel]\nuniversal = 1\n"),
        "package.json version": swap("package.json", PACKAGE, '"1.0.0"', '"1.0.1"'),
        "package.json script": swap("package.json", PACKAGE, '"node ."', '"node index.js"'),
        "cargo version": swap("Cargo.toml", CARGO, 'version = "1.0.0"', 'version = "1.0.1"'),
        "cargo profile": swap("Cargo.toml", CARGO, "lto = true", "lto = false"),
        "pom version": swap("pom.xml", POM, "<version>1.0</version>", "<version>1.1</version>"),
        "pom property": swap("pom.xml", POM, "UTF-8", "UTF-16"),
        "gradle version": swap("build.gradle", GRADLE, "version = '1.0'", "version = '1.1'"),
        "gradle comment": swap("build.gradle", GRADLE, "dependencies {", "dependencies { // all of them"),
        "composer": swap("composer.json", COMPOSER, '"B"', '"C"'),
        "requirements comment": edit("requirements.txt", "a==1\n", "# why\na==1  # here\n"),
        "a word": made("docs/requirements.md", "a\n"),
        "code": made("src/requirements.py"),
        "environment": made("k8s/environment.yaml", "kind: x\n"),
        "CRLF": edit("setup.cfg", SETUP_CFG, SETUP_CFG.replace("\n", "\r\n")),
    },
    "licence-change": {
        "module": made("src/license.py"),
        "component": made("src/License.tsx"),
        "version": swap("pyproject.toml", PYPROJECT, 'version = "1.0"', 'version = "1.1"'),
        "other classifier": swap("pyproject.toml", PYPROJECT, "Topic :: Office", "Topic :: Games"),
        "dependency": swap("setup.py", SETUP_PY, '"rich"]', '"rich", "x"]'),
        "cfg": swap("setup.cfg", SETUP_CFG, "version = 1.0", "version = 1.1"),
        "package.json": swap("package.json", PACKAGE, '"1.0.0"', '"1.0.1"'),
        "new file with header": made("a.py", "# SPDX-License-Identifier: MIT\n"),
        "deleted with header": gone("a.py", "# SPDX-License-Identifier: MIT\n"),
        "header moved": edit(
            "a.py", "# SPDX-License-Identifier: MIT\na = 1\n", "#!/bin/sh\n# SPDX-License-Identifier: MIT\na = 1\n"
        ),
        "word in text": edit("README.md", "a\n", "License: see LICENSE\n"),
        "notification": made("app/notices_view.py"),
        "gemspec": edit("a.gemspec", "s.name = 'a'\ns.license = 'MIT'\n", "s.name = 'b'\ns.license = 'MIT'\n"),
        "copyright year": edit("a.py", "# Copyright 2020\n", "# Copyright 2021\n"),
    },
    "protected-files": {
        "tox, documents": edit(
            "tox.ini",
            "[testenv]\ncommands = a\n[testenv:docs]\ndeps = b\n",
            "[testenv]\ncommands = a\npackage = skip\n",
        ),
        "task of deno": edit("deno.json", '{"tasks": {"start": "a"}}', '{"tasks": {"start": "b"}}'),
        "script of composer": edit("composer.json", '{"scripts": {"serve": "a"}}', '{"scripts": {"serve": "b"}}'),
        "build of hatch": edit("pyproject.toml", "[tool.hatch.build]\na = 1\n", "[tool.hatch.build]\na = 2\n"),
        "code": edit("src/a.py", "a = 1\n", "a = 2\n"),
        "test": made("tests/test_a.py"),
        "version": swap("pyproject.toml", PYPROJECT, 'version = "1.0"', 'version = "1.1"'),
        "other tool": swap(
            "pyproject.toml", PYPROJECT, "[tool.black]\nline-length = 100", "[tool.black]\nline-length = 99"
        ),
        "setup.cfg": swap("setup.cfg", SETUP_CFG, "universal = 1", "universal = 0"),
        "package.json": swap("package.json", PACKAGE, '"1.0.0"', '"1.0.1"'),
        "start": swap("package.json", PACKAGE, '"node ."', '"node x"'),
        "alike": made("tests/my_conftest.py"),
        "github in a name": made("src/.githubish/a.py"),
        "rules elsewhere": made("src/rules/a.toml"),
        "milestones elsewhere": made("docs/milestones/m.md"),
        "blame": made(".git-blame-ignore-revs"),
        "makefile.am": made("Makefile.am"),
        "README": edit("README.md", "a\n", "b\n"),
    },
    "tests-weakened": {
        "added": edit("tests/test_a.py", TESTS, TESTS + "def test_new():\n    assert f() == 1\n"),
        "more assertions": swap(
            "tests/test_a.py", TESTS, "    assert 2 + 2 == 4\n", "    assert 2 + 2 == 4\n    assert f()\n"
        ),
        "another number": swap("tests/test_a.py", TESTS, "== 4", "== 5"),
        "moved": ({"tests/test_a.py": TESTS}, {"tests/unit/test_a.py": TESTS}),
        "renamed": swap("tests/test_a.py", TESTS, "def test_one", "def test_sum"),
        "more rows": swap("tests/test_a.py", TESTS, "[1, 2, 3]", "[1, 2, 3, 4]"),
        "new file with a skip": made(
            "tests/test_b.py", "import pytest\n@pytest.mark.skipif(W, reason='')\ndef test_x():\n    assert a\n"
        ),
        "a skip taken away": edit(
            "tests/test_a.py", "@pytest.mark.skip\ndef test_a():\n    assert a\n", "def test_a():\n    assert a\n"
        ),
        "helper": edit("tests/helpers.py", "def a(): return 1\ndef b(): return 2\n", "def a(): return 1\n"),
        "code": edit("src/a.py", "def f():\n    assert a\n", "def f():\n    pass\n"),
        "word skip in code": edit("src/a.py", "a = 1\n", "def skip(): pass\n"),
        "jest added": swap(
            "src/cart.test.js", JEST, "  it('removes'", "  it('more', () => { expect(1).toBe(1); });\n  it('removes'"
        ),
        "go added": edit("cart_test.go", GO, GO + '\nfunc TestB(t *testing.T) { t.Fatal("x") }\n'),
        "java message": swap("src/test/java/CartTest.java", JAVA, "add(1, 2)", "add(2, 1)"),
        "fail_under up": edit(".coveragerc", "[report]\nfail_under = 80\n", "[report]\nfail_under = 90\n"),
        "fail_under moved": (
            {".coveragerc": "[report]\nfail_under = 80\n", "pyproject.toml": "a = 1\n"},
            {"pyproject.toml": "a = 1\n[tool.coverage.report]\nfail_under = 80\n"},
        ),
        "document about it": edit("docs/testing.md", "fail_under = 90\n", "fail_under = 10\n"),
        "test data": edit("tests/data.json", '{"a": 1}\n', "{}\n"),
        "CRLF": edit("tests/test_a.py", TESTS, TESTS.replace("\n", "\r\n")),
        "split in two": (
            {"tests/test_a.py": TESTS},
            {
                "tests/test_a.py": TESTS.partition("class TestThing")[0],
                "tests/test_b.py": "import pytest\nclass TestThing" + TESTS.partition("class TestThing")[2],
            },
        ),
    },
    "secrets": {
        "removed": edit("a.py", "a = 's3cr3t'\n", "a = 1\n"),
        "file removed": gone("a.py", "s3cr3t\n"),
        "beside it": edit("a.py", "s3cr3t\na = 1\n", "s3cr3t\na = 2\n"),
        "other word": made("a.py", "secret = ask()\n"),
        "binary": made("a.bin", b"\0s3cr3t"),
        "picture": made("a.png", b"\x89PNG\0s3cr3t"),
        "empty": made("a.py", ""),
        "renamed file": ({"a.txt": "x\n"}, {"b.txt": "x\n"}),
        "case": made("a.txt", "S3CR3T\n"),
        "spread": made("a.txt", "s3\ncr3t\n"),
    },
    "tool-silenced": {
        name: made(path, f"{text}\nx = 1\n")
        for name, path, text in (
            ("ruff, one line", "a.py", "import a  # noqa: F401"),
            ("ruff, one rule", "a.py", "# ruff: noqa: E501"),
            ("mypy, one line", "a.py", "a()  # type: ignore[arg-type]"),
            ("pylint, one rule", "a.py", "# pylint: disable=invalid-name"),
            ("eslint, one rule", "a.js", "/* eslint-disable no-console */"),
            ("eslint, one line", "a.js", "// eslint-disable-next-line"),
            ("typescript, one line", "a.ts", "// @ts-expect-error it is so"),
            ("rust, one rule", "src/lib.rs", "#![allow(dead_code)]"),
            ("golangci, one line", "a.go", "f() //nolint:errcheck"),
            ("generated", "a/b_pb2.py", "# ruff: noqa"),
            ("declarations", "a.d.ts", "/* eslint-disable */"),
            ("documentation", "docs/lint.md", "# ruff: noqa"),
        )
    },
}


def cases(table: Mapping[str, Mapping[str, Case]]) -> list[Any]:
    return [
        pytest.param(rule, case, id=f"{rule}: {name}") for rule, named in table.items() for name, case in named.items()
    ]


@pytest.mark.parametrize(("rule", "case"), cases(STOP))
def test_a_change_is_stopped(rule: str, case: Case) -> None:
    [hit] = [hit for hit in hits(*case) if hit.rule == rule]
    assert hit.level == "hard"
    assert hit.reason
    assert hit.needs
    assert hit.lines
    assert any(path in line for line in hit.lines for path in {*case[0], *case[1]})


@pytest.mark.parametrize(("rule", "case"), cases(PASS))
def test_a_change_is_not_stopped(rule: str, case: Case) -> None:
    assert [hit for hit in hits(*case) if hit.rule == rule] == []


def test_every_packaged_rule_is_tried_both_ways() -> None:
    assert set(STOP) == set(PASS) == {rule.id for rule in RULES if rule.level == "hard"}
    assert [rule.id for rule in RULES if rule.level == "soft"] == ["large-diff"]
    assert min(len(named) for table in (STOP, PASS) for named in table.values()) >= 10


def small(files: int, lines: int) -> Case:
    """A change of so many files and so many lines."""
    return {}, {f"src/f{n}.py": "a\n" * (lines // files + (n < lines % files)) for n in range(files)}


@pytest.mark.parametrize(
    ("case", "stopped"),
    [
        pytest.param(small(8, 80), False, id="8 files"),
        pytest.param(small(9, 80), True, id="9 files"),
        pytest.param(small(4, 400), False, id="400 lines"),
        pytest.param(small(4, 401), True, id="401 lines"),
        pytest.param(({"a.py": "a\n" * 200}, {"a.py": "b\n" * 200}), False, id="200 lines replaced"),
        pytest.param(({"a.py": "a\n" * 200}, {"a.py": "b\n" * 201}), True, id="200 lines replaced by 201"),
        pytest.param(({}, {"a.bin": b"\0" + b"\n" * 900}), False, id="binary"),
        pytest.param(({}, {**small(8, 8)[1], "a.bin": b"\0"}), True, id="a binary file counts as a file"),
        pytest.param(({}, {"web/yarn.lock": "a\n" * 900}), False, id="lock file"),
        pytest.param(({}, {**small(8, 8)[1], "yarn.lock": "a\n"}), False, id="a lock file is no ninth file"),
        pytest.param(({}, {"x/y_pb2.py": "a\n" * 900}), False, id="generated"),
        pytest.param(({}, {"src/generated/a.py": "a\n" * 900}), True, id="a folder that says it is generated"),
        pytest.param(({}, {"dist/a.py": "a\n" * 900}), True, id="dist"),
        pytest.param(({}, {"calc.py": "a" * 6_000_000}), True, id="one long line"),
        pytest.param(({"a.py": "a\n" * 201}, {"b.py": "a\n" * 201}), True, id="renamed"),
    ],
)
def test_a_large_change_is_skipped(case: Case, stopped: bool) -> None:
    found = [hit for hit in hits(*case) if hit.rule == "large-diff"]
    assert bool(found) is stopped
    assert all(hit.level == "soft" for hit in found)


def test_what_is_over_a_limit_is_said_with_the_largest_files() -> None:
    [hit] = hits({}, {"a.py": "a\n" * 401, **small(9, 9)[1]})
    assert hit.lines[:3] == (
        "10 files changed, expected at most 8",
        "410 lines added and removed, expected at most 400",
        "a.py: 401 added, 0 removed",
    )
    assert len(hit.lines) == 10


def rule(**values: Any) -> StopRule:
    return StopRule.model_validate({"id": "own", **values})


@pytest.mark.parametrize(
    ("own", "stopped"),
    [
        (rule(paths=["src/**"]), True),
        (rule(paths=["a.py"]), True),
        (rule(paths=["lib/**"]), False),
        (rule(paths=["src/**"], except_paths=["*.py"]), False),
        (rule(paths=["src/**"], enabled=False), False),
        (rule(content=["ev[a]l\\("]), True),
        (rule(content=["^x$", "eval"], paths=["*.js"]), False),
        (rule(content=["gone"]), False),
        (rule(max_files=0), True),
        (rule(max_files=1), False),
        (rule(max_lines=1), True),
        (rule(max_lines=2), False),
        (rule(max_lines=0, paths=["*.js"]), False),
        (rule(max_lines=0, uncounted=["src/"]), False),
        (rule(run="false"), False),
        (rule(run="false", paths=["src/**"]), False),
        (rule(builtin="secrets", paths=["src/**"]), True),
    ],
)
def test_a_rule_of_ones_own(own: StopRule, stopped: bool) -> None:
    assert bool(hits({"src/a.py": "gone\n"}, {"src/a.py": "eval(x)\n"}, rules=[own])) is stopped


def test_all_rules_are_reported_hard_before_soft_and_in_their_order() -> None:
    rules = [rule(id=f"{level}{n}", level=level, paths=["*"]) for n in (1, 2) for level in ("soft", "hard")]
    assert ids(*made("a"), rules=rules) == ["hard1", "hard2", "soft1", "soft2"]
    assert ids(*made("a"), rules=rules, allowed=["hard1", "soft2", "other"]) == ["hard2", "soft1"]


def test_lines_are_few_short_and_printable() -> None:
    [hit] = hits(
        *made("a\x1b\u202e.txt", "".join(f"x{n}\x1b[31m\u202e{'y' * 900}\n" for n in range(30))),
        rules=[rule(content=["^x"])],
    )
    assert len(hit.lines) == 10
    assert all(len(line) <= 200 and line.isprintable() for line in hit.lines)
    assert hit.lines[1].startswith("a\\u001b\\u202e.txt:2: x1\\u001b[31m")


def test_lines_have_the_numbers_of_the_new_file() -> None:
    old = "".join(f"{n}\n" for n in range(1, 60))
    [hit] = hits(*edit("a", old, old.replace("50\n", "50\nhere\n")), rules=[rule(content=["here"])])
    assert hit.lines == ("a:51: here",)


def test_a_secret_is_not_repeated_by_any_rule() -> None:
    found = hits(*edit("app/a.py", "a = 1\n", "password = 's3cr3t'\n"), rules=[*RULES, rule(content=["="])])
    assert [hit.rule for hit in found] == ["sensitive-code", "secrets", "own"]
    assert not any("s3cr3t" in line for hit in found for line in hit.lines)


@pytest.mark.parametrize("text", ["CREATE TABLE x (a int);\n".encode("utf-16"), b"\xef\xbb\xbfDROP TABLE x;\n"])
def test_text_that_is_declared_binary_is_looked_into(text: bytes) -> None:
    old, new = {"a.sql": b"SELECT 1;\n"}, {"a.sql": text}
    change = parse_diff(
        b"diff --git a/a.sql b/a.sql\nindex "
        + b"1" * 40
        + b".."
        + b"2" * 40
        + b" 100644\nBinary files a/a.sql and b/a.sql differ\n"
    )
    assert change.files[0].lines == ()
    assert "database-migration" in ids(old, new, change=change)


def test_modes_submodules_and_links() -> None:
    mode = parse_diff(b"diff --git a/LICENSE b/LICENSE\nold mode 100644\nnew mode 100755\n")
    assert ids({"LICENSE": "a"}, {"LICENSE": "a"}, change=mode) == []
    ci = parse_diff(b"diff --git a/.github/x.sh b/.github/x.sh\nold mode 100644\nnew mode 100755\n")
    assert ids({".github/x.sh": "a"}, {".github/x.sh": "a"}, change=ci) == ["protected-files"]
    module = parse_diff(
        b"diff --git a/lib b/lib\nnew file mode 160000\nindex 0..1\n--- /dev/null\n+++ b/lib\n@@ -0,0 +1"
        b" @@\n+Subproject commit 1\n"
    )
    assert ids({}, {}, change=module) == ["dependency-change"]
    link = parse_diff(
        b"diff --git a/setup.py b/setup.py\nnew file mode 120000\nindex 0..1\n--- /dev/null\n+++ b/setup.py\n@@"
        b" -0,0 +1 @@\n+other.py\n"
    )
    assert "dependency-change" in ids({}, {"setup.py": "other.py"}, change=link)


def test_a_large_change_is_read_and_judged_quickly() -> None:
    old = {f"src/f{n}.py": "".join(f"value_{k} = compute({k})\n" for k in range(500)) for n in range(25)}
    new = {path: text.replace("compute", "derive") for path, text in old.items()}
    text = diff(old, new)
    began = time.process_time()
    change = parse_diff(text)
    assert sum(len(file.lines) for file in change.files) == 25_000
    assert ids(old, new, change=change) == ["large-diff"]
    assert time.process_time() - began < 15, "one that grew with the square of the lines would take hours"


def test_an_empty_change_stops_nothing() -> None:
    assert hits({}, {}, change=Change((), "")) == []


def test_the_lines_of_a_change_are_read() -> None:
    text = diff({"a": "1\n2\r\n3\n", "b": b"\xff\n"}, {"a": "1\n2\n3\n4", "b": b"\xff\n\xfe\n"})
    one, two = parse_diff(text).files
    assert [(line.number, line.text, line.added) for line in one.lines] == [
        (2, "2", False),
        (2, "2", True),
        (4, "4", True),
    ]
    assert [(line.number, line.text) for line in two.lines] == [(2, "\udcfe")]
    assert (one.old_mode, one.new_mode) == ("100644", "100644")
    [new] = parse_diff(diff(*made("a"))).files
    assert (new.old_mode, new.new_mode) == ("", "100644")
    [old] = parse_diff(diff(*gone("a"))).files
    assert (old.old_mode, old.new_mode) == ("100644", "")
    [long] = parse_diff(diff(*made("a", "x" * 30_000 + "\n"))).files
    assert [len(line.text) for line in long.lines] == [20_000]


@pytest.mark.parametrize(
    ("glob", "path", "same"),
    [
        ("*.py", "a.py", True),
        ("*.py", "x/y/a.py", True),
        ("a/*.py", "a/b.py", True),
        ("a/*.py", "a/b/c.py", False),
        ("a/**", "a/b/c.py", True),
        ("a/**", "a", False),
        ("a/**", "b/a/c", False),
        ("**/a", "a", True),
        ("**/a", "x/y/a", True),
        ("**/a/**", "x/a/b", True),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True),
        ("a/", "a/b/c", True),
        ("/a", "a", True),
        ("/a", "b/a", False),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("[ab].x", "b.x", True),
        ("[!ab].x", "b.x", False),
        ("[z-a]", "[z-a]", True),
        ("a.b", "axb", False),
        ("größe*", "x/größer", True),
        ("*", "new\nline", True),
    ],
)
def test_globs(glob: str, path: str, same: bool) -> None:
    assert matches(path, [glob]) is same
    assert matches(path, ["nothing/at/all", glob]) is same
    assert not matches(path, [])


GOOD_SPECS = [
    "Add a button that exports the table as CSV.",
    "Remove the stale TODO comments in parser.py and open issues for those that still hold.",
    "TODO comments are counted by the linter; count FIXME and XXX too.",
    "The linter should warn about TODO: and FIXME: comments without a name.",
    "Make the list generic:\n```rust\nfn first<T>(items: &[T]) -> Option<&T> { todo!() }\n```\nand test it.",
    "Always fill in generic type parameters, and let people fill in the form.\n",
    "Render the greeting with Jinja:\n\n```jinja\n{{ user.name }} {% if x %}TBD{% endif %}\n```\n",
    "Escape `{{ name }}` and `<describe this>` in headings.",
    'Use <b>bold</b> and <a href="https://example.org/?a=1">a link</a> in <title> and <summary> elements.',
    "Show a <details><summary>More</summary>text</details> block.",
    "Needs the parser from 4.1; depends on the tokenizer of 4.2.",
    "After the upload the file is removed. Requires Python 3.11.",
    "See [the description](https://example.org) and [title][1].\n\n[1]: https://example.org",
    "- [ ] parse the header\n- [x] write the header\n",
    "What happens on an empty file? It is left alone.",
    "Why?? Because users asked for it.",
    "Indented code:\n\n    TODO\n    {{ x }}\n\nworks as it is.",
    "Größe der Liste begrenzen auf hundert Einträge.",
    "<!-- describe the change here -->\nLimit the list to 100 entries.",
    "Replace the placeholder text in the search box by an example.",
    "Once another request arrives, the first is cancelled.",
    "Map[str, int] and list[your_type] are accepted as hints.",
]


@pytest.mark.parametrize("text", GOOD_SPECS)
def test_a_spec_that_can_be_worked_on_has_no_problem(text: str) -> None:
    assert spec_problems(text, "Export the table", 0) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        ("<!-- nothing -->", "empty"),
        ("...", "empty"),
        ("TODO\nmore text is here", "TODO"),
        ("Some words at first.\n- TBD", "TBD"),
        ("## Goal\n\nTODO: describe the goal", "describe"),
        ("Behaviour: FIXME\nOther words here", "FIXME"),
        ("The limit:\n- fill in\n", "fill in"),
        ("Details: fill this in.", "fill this in"),
        ("The limit is TBD and the rest is known.", "TBD"),
        ("The colour is to be determined later on.", "determined"),
        ("<describe what this does>", "<describe"),
        ("Title is good, <insert the steps here>", "<insert"),
        ("Hello {{ project_name }} and others", "{{"),
        ("Lorem ipsum dolor sit amet", "Lorem"),
        ("Change [placeholder] to something else", "[placeholder]"),
        ("Change [your text here] to something else", "[your"),
        ("Limit it to ??? entries each", "???"),
        ("Write the export.\nDepends on ??", "dependencies are unclear"),
        ("Write the export after the other task.", "dependencies are unclear"),
        ("Write the export. Needs TBD", "dependencies are unclear"),
        ("Write the export. Blocked by some other ticket.", "dependencies are unclear"),
        ("Write the export.\nDependencies: unclear", "dependencies are unclear"),
        ("Write the export.\r\nTODO\r\n", "TODO"),
    ],
)
def test_a_spec_that_cannot_be_worked_on_is_reported(text: str, problem: str) -> None:
    [told] = spec_problems(text, "Export the table", 0)
    assert problem in told
    assert told.isprintable()


def test_acceptance_criteria_and_a_title_can_stand_for_a_spec() -> None:
    assert spec_problems("", "Export the table as CSV", 2) == []
    assert spec_problems("", "Export", 2) != []
    assert spec_problems("Write the whole export.", "TODO", 2) != []


PIECES = st.lists(
    st.sampled_from(
        [
            "def test_a():\n",
            "    assert x\n",
            "    return\n",
            "[project]\n",
            "a = [",
            "]\n",
            '"',
            "'",
            "{",
            "}",
            "\\",
            "<a>",
            "</a>",
            "#",
            "//",
            "/*",
            "setup(",
            ")",
            "install_requires=",
            "x",
            "\n",
            "\r",
            "\0",
            "é",
            "\udcff",
            "fail_under = 3\n",
            "dependencies",
            "[[",
            "{{",
            "TODO",
        ]
    ),
    max_size=15,
).map("".join)
PATHS = st.sampled_from(
    [
        "setup.py",
        "setup.cfg",
        "pyproject.toml",
        "package.json",
        "pom.xml",
        "build.gradle",
        "Cargo.toml",
        "requirements.txt",
        "composer.json",
        "tests/test_a.py",
        "a.test.js",
        "a_test.go",
        "ATest.java",
        "a_spec.rb",
        "tests/a.rs",
        "ATest.php",
        "a.sql",
        "a.py",
        "LICENSE",
        "environment.yml",
    ]
)


@settings(max_examples=300, deadline=None)
@given(PATHS, PIECES, PIECES)
def test_any_content_can_be_judged_and_is_judged_the_same_again(path: str, old: str, new: str) -> None:
    found = hits({path: old}, {path: new})
    assert hits({path: old}, {path: new}) == found
    assert hits({path: old}, {path: old}) == []


@settings(max_examples=100, deadline=None)
@given(PIECES, PIECES)
def test_any_spec_can_be_judged(text: str, title: str) -> None:
    assert all(problem.isprintable() for problem in spec_problems(text, title, 0))


@given(
    st.dictionaries(
        st.sampled_from(["a", "a.py", "src/b.ts", "tests/test_a.py", "a.test.js", "setup.cfg", "lib.rs", "docs/a.md"]),
        st.sampled_from(
            [
                "def test_a():\n    assert f()\n",
                "it.only('a', () => { expect(1).toBe(1) })\n",
                "[coverage]\nfail_under = 10\n",
                "#[cfg(test)]\nmod tests { #[test]\nfn a() { assert_eq!(1, 1); } }\n",
                ">>> 1  # doctest: +SKIP\n1\n",
            ]
        ),
    ),
    st.sampled_from([(), (("pytest", "-q"),), (("python", "-m", "doctest", "a.py"),)]),
)
def test_additions_are_examined_for_weakened_tests_like_every_change(
    new: dict[str, str], commands: Sequence[Sequence[str]]
) -> None:
    change = parse_diff(diff({}, new))

    def content(path: str, after: bool) -> bytes | None:
        return data(new[path]) if after and path in new else None

    doctests = any("doctest" in word for argv in commands for word in argv)
    whole = [*weakened(change.files, content), *inline_changes(change.files, content, doctests=doctests)]
    assert list(stop_checks()["tests-weakened"](View(change.files, content, commands=commands))) == whole
