"""Ways around the tests that nobody has reported here: each stops by a rule, and its honest twin does not.

A change is a table of files on the base, a table of what it writes, and the command that proves it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from executor.config.load_rules import load_policy
from executor.git.diff import parse_diff
from executor.stop_rules.commands import reached
from executor.stop_rules.evaluate import stops_of
from executor.stop_rules.test_evidence.test_suite import Base, put_back, suite_of
from executor.stop_rules.view import View
from tests.stop_rules.test_stops import data, diff

Files = dict[str, str]
RULES = [rule for rule in load_policy(Path("no-rules-here")).stops if rule.enabled]
SCRIPTS = {"test": "node --test tests", "gulp": "gulp check", "unit": "jest", "vt": "vitest run"}
PACKAGE = json.dumps({"name": "calc", "scripts": SCRIPTS, "jest": {"setupFiles": ["./config/polyfill.js"]}}, indent=1)
LIB = """pub fn add(a: i32, b: i32) -> i32 {
    a + b
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds() {
        assert_eq!(add(1, 2), 3);
    }
}
"""
BROKEN = LIB.replace("    a + b\n", "    7\n")
HELPED = LIB.replace(
    "use super::*;\n", "use super::*;\n\n    fn check(got: i32) {\n        assert_eq!(got, 3);\n    }\n"
).replace("assert_eq!(add(1, 2), 3);", "check(add(1, 2));")
MADE = """macro_rules! made {
    ($name:ident, $a:expr) => {
        #[test]
        fn $name() {
            assert_eq!($a, 3);
        }
    };
}
"""
CARGO = '[package]\nname = "calc"\n'
POM = "<project>\n <version>1</version>\n</project>\n"
GRADLE = "plugins { id 'java' }\n"
MODULES = """<project>
 <modules>
  <module>core</module>
  <module>api</module>
 </modules>
 <build><plugins><plugin>
  <artifactId>maven-surefire-plugin</artifactId>
  <configuration><excludes><exclude>**/SlowTest.java</exclude></excludes></configuration>
 </plugin></plugins></build>
</project>
"""
JAVA = "src/main/java/calc/Calc.java"
DOCTEST = 'def add(a, b):\n    """Add.\n\n    >>> add(1, 2)\n    3\n    """\n    return a + b\n'
PROGRAM = (
    'def add(a, b):\n    return a + b\n\n\nif __name__ == "__main__":\n    assert add(1, 2) == 3\n    print("ok")\n'
)
JUNIT = """import org.junit.jupiter.api.Test;
import static org.junit.jupiter.api.Assertions.assertEquals;
class CalcTest {}
"""
BASE: Files = {
    "pyproject.toml": '[project]\nname = "calc"\n',
    "calc.py": "def add(a, b):\n    return a + b\n",
    "prog.py": PROGRAM,
    "doc.py": DOCTEST,
    "plug.py": "x = 1\n",
    "tests/conftest.py": "pytest_plugins = ['plug']\n",
    "tests/test_calc.py": "from calc import add\n\n\ndef test_add():\n    assert add(1, 2) == 3\n",
    "app/auth.py": "import typing\n\n\nclass Login(typing.NamedTuple):\n    password: typing.Optional[str]\n",
    "app/login.ts": "import { AuthManager, authTimeout } from './core';\nuse(AuthManager);\n",
    "app/session.ts": "import { AuthManager } from './core';\nconst authManager = AuthManager.getInstance();\n",
    "tests/expected.json": '{"sum": 3}\n',
    "testdata/want.txt": "3\n",
    "package.json": PACKAGE,
    "index.js": "exports.add = (a, b) => a + b;\n",
    "config/polyfill.js": "globalThis.x = 1;\n",
    "gulpfile.js": "exports.check = require('./build/check.js');\n",
    "build/check.js": "module.exports = async () => require('../test.js');\n",
    ".mocharc.json": '{"require": ["./lib/register.js"]}\n',
    "lib/register.js": "globalThis.y = 1;\n",
    "vitest.config.ts": "export default { test: { setupFiles: ['./src/boot.ts'], globalSetup: 'src/global.ts' } };\n",
    "src/boot.ts": "export {};\n",
    "src/global.ts": "export default () => {};\n",
    "src/other.ts": "export {};\n",
    "src/root.ts": "import { findRoot } from './core';\nfindRoot();\n",
    "tsconfig.json": '{"extends": "./ts/base.json"}\n',
    "ts/base.json": "{}\n",
    "eslint.config.js": "import base from './lint/base.js';\nexport default [...base];\n",
    "lint/base.js": "export default [];\n",
    "deno.json": '{"tasks": {"test": "deno test"}}\n',
    "calc.go": "package calc\n\nfunc Add(a, b int) int { return a + b }\n",
    "calc_test.go": "package calc\n",
    "src/lib.rs": LIB,
    "src/helped.rs": HELPED,
    "src/made.rs": MADE + MADE.replace("made", "more"),
    "tests/add.rs": "#[test]\nfn adds() {\n    assert_eq!(calc::add(1, 2), 3);\n}\n",
    "Cargo.toml": CARGO,
    "pom.xml": POM,
    "build.gradle": GRADLE,
    "app/build.gradle.kts": "plugins { java }\n",
    "gradle/checks.gradle": "test { useJUnit() }\n",
    "src/main/java/calc/Calc.java": "package calc;\n",
    "src/test/java/calc/CalcTest.java": JUNIT,
    "test/calc_test.rb": "require 'minitest/autorun'\nrequire 'calc'\n",
    "lib/calc.rb": "X = 1\n",
    "t/add.t": "use Test::More;\n",
    "tests/test_add.c": '#include <assert.h>\n#include "calc.h"\n',
    "include/calc.h": "int add(int, int);\n",
    "gradlew": "#!/bin/sh\nexec java -jar wrapper.jar test\n",
    "mvnw": "#!/bin/sh\nexec mvn test\n",
    "config/checkstyle/suppressions.xml": "<suppressions/>\n",
    "multi/pom.xml": MODULES,
    "multi/core/pom.xml": POM,
    "multi/api/pom.xml": POM,
    "ws/Cargo.toml": '[workspace]\nmembers = ["a", "b"]\n',
    "ws/a/Cargo.toml": CARGO,
    "ws/b/Cargo.toml": CARGO,
    "src/Calc.php": "<?php\n",
    "src/Calc.cs": "class Calc {}\n",
    "src/calc.cpp": "int x;\n",
    "lib/calc.pm": "1;\n",
}
PYTEST, NODE, GO, CARGO_TEST = "pytest -q", "node --test tests", "go test ./...", "cargo test -q --lib"
ATTACKS: dict[str, tuple[Files, str]] = {
    # Python
    "a set-up file in a new folder": ({"tests/unit/conftest.py": "x = 1\n"}, PYTEST),
    "a plug-in that the set-up names": ({"plug.py": "x = 2\n"}, PYTEST),
    "an exit through C": ({"calc.py": "import ctypes\nctypes.CDLL(None).exit(0)\n"}, PYTEST),
    "an exit through another name": ({"calc.py": "import os as o\no._exit(0)\n"}, PYTEST),
    "a test runner of Django": ({"site/settings.py": "TEST_RUNNER = 'runner.Nothing'\n"}, "python3 manage.py test"),
    "a look at the command line": ({"calc.py": "import sys\nX = 'pytest' in sys.argv[0]\n"}, PYTEST),
    "a look at the caller": ({"calc.py": "X = frame.f_code.co_name.startswith('test')\n"}, PYTEST),
    "a program that checks itself": (
        {"prog.py": PROGRAM.replace("    assert add(1, 2) == 3\n", "")},
        "python3 prog.py",
    ),
    "an example": ({"doc.py": DOCTEST.replace("    3\n", "    7\n")}, "python3 -m doctest doc.py"),
    "all examples": ({"doc.py": DOCTEST + "\n\nadd.__doc__ = ''\n"}, "python3 -m doctest doc.py"),
    "an example that is skipped": (
        {"doc.py": DOCTEST.replace("add(1, 2)\n", "add(1, 2)  # doctest: +SKIP\n")},
        "python3 -m doctest doc.py",
    ),
    "settings of other runners": ({"nose2.cfg": "[unittest]\n"}, PYTEST),
    "a task of rye": (
        {"pyproject.toml": BASE["pyproject.toml"] + '[tool.rye.scripts]\ntest = "true"\n'},
        "rye run test",
    ),
    "a task of pixi": (
        {"pyproject.toml": BASE["pyproject.toml"] + '[tool.pixi.tasks]\ntest = "true"\n'},
        "pixi run test",
    ),
    "snapshots that repair themselves": (
        {"pyproject.toml": BASE["pyproject.toml"] + '[tool.inline-snapshot]\ndefault-flags = ["fix"]\n'},
        PYTEST,
    ),
    "another type of a password": ({"app/auth.py": BASE["app/auth.py"].replace("[str]", "[bytes]")}, PYTEST),
    "a login from elsewhere": ({"app/login.ts": BASE["app/login.ts"].replace("./core", "./fake")}, NODE),
    "another object of the login": (
        {"app/session.ts": BASE["app/session.ts"].replace("= AuthManager", "= FakeManager")},
        NODE,
    ),
    "contracts of imports": ({".importlinter": "[importlinter]\n"}, "lint-imports"),
    # JavaScript
    "a file that jest sets up": ({"config/polyfill.js": "expect.extend({});\n"}, "npm run unit"),
    "a file that mocha requires": ({"lib/register.js": "1;\n"}, "npx mocha"),
    "a file that vitest sets up": ({"src/boot.ts": "export default 1;\n"}, "npm run vt"),
    "a global set-up": ({"src/global.ts": "export default () => 1;\n"}, "npm run vt"),
    "a set-up that react-scripts loads": ({"src/setupTests.ts": "x;\n"}, "npx react-scripts test"),
    "settings that others extend": ({"ts/base.json": '{"strict": false}\n'}, "npx tsc --noEmit"),
    "rules that others import": ({"lint/base.js": "export default [{ ignores: ['**'] }];\n"}, "npx eslint ."),
    "a gulpfile": ({"gulpfile.js": "exports.check = async () => {};\n"}, "npm run gulp"),
    "a file of a gulpfile": ({"build/check.js": "module.exports = async () => {};\n"}, "npm run gulp"),
    "settings of node": ({"node.config.json": "{}\n"}, NODE),
    "tests that deno leaves out": (
        {"deno.json": '{"tasks": {"test": "deno test"}, "test": {"exclude": ["tests"]}}\n'},
        "deno test",
    ),
    "files that a formatter leaves out": ({".prettierignore": "*\n"}, "npx prettier --check ."),
    "targets of nx": ({"project.json": '{\n"targets": {}\n}\n'}, "npx nx test"),
    "an assertion under another name": (
        {"index.js": "const a = require('node:assert');\na.equal = () => {};\n"},
        NODE,
    ),
    "assertions that are assigned": ({"index.js": "Object.assign(require('node:assert'), { equal() {} });\n"}, NODE),
    "a comparison of the language": ({"index.js": "Object.is = () => true;\n"}, "npx jest"),
    "yarn itself": ({".yarn/releases/yarn.cjs": "1;\n"}, "yarn test"),
    # Go
    "an exit on one line": ({"calc.go": 'package calc\n\nimport "os"\n\nfunc init() { os.Exit(0) }\n'}, GO),
    "os under another name": ({"calc.go": 'package calc\n\nimport x "os"\n\nfunc init() { x.Exit(1 - 1) }\n'}, GO),
    "names of tests that are printed": ({"calc.go": 'package calc\n\nvar X = "--- PASS: TestAdd (0.00s)"\n'}, GO),
    "flags of the tests": ({"calc.go": 'package calc\n\nvar X = append(Y, "-test.run=^$")\n'}, GO),
    "a look at the test": ({"calc.go": "package calc\n\nvar X = testing.Testing()\n"}, GO),
    "settings of linters of Go": ({"staticcheck.conf": "checks = []\n"}, "staticcheck ./..."),
    # Rust
    "no test targets": ({"Cargo.toml": CARGO + "autotests = false\n"}, CARGO_TEST),
    "no debug assertions": ({"Cargo.toml": CARGO + "[profile.test]\ndebug-assertions = false\n"}, CARGO_TEST),
    "lints that are allowed": ({"Cargo.toml": CARGO + '[lints.clippy]\nall = "allow"\n'}, "cargo clippy"),
    "a program before the build": ({"build.rs": "fn main() {}\n"}, CARGO_TEST),
    "a test that should panic": ({"src/lib.rs": BROKEN.replace("#[test]", "#[test]\n    #[should_panic]")}, CARGO_TEST),
    "a test that is ignored": ({"src/lib.rs": BROKEN.replace("#[test]", "#[ignore]\n    #[test]")}, CARGO_TEST),
    "a test that returns": ({"src/lib.rs": BROKEN.replace("adds() {", "adds() {\n        return;")}, CARGO_TEST),
    "a helper of a test": (
        {"src/helped.rs": HELPED.replace("        assert_eq!(got, 3);\n", "").replace("a + b", "7")},
        CARGO_TEST,
    ),
    "a test that should panic, in a folder of tests": (
        {"tests/add.rs": BASE["tests/add.rs"].replace("#[test]", "#[test]\n#[should_panic]")},
        CARGO_TEST,
    ),
    "a test of a macro that is ignored": (
        {"src/made.rs": MADE + MADE.replace("made", "more").replace("#[test]", "#[test]\n        #[ignore]")},
        CARGO_TEST,
    ),
    "a test of a name that is there twice": (
        {"src/made.rs": MADE.replace("#[test]", "#[test]\n        #[ignore]") + MADE.replace("made", "more")},
        CARGO_TEST,
    ),
    "a function in a test": (
        {"src/lib.rs": BROKEN.replace("adds() {", "adds() {\n        let add = |a: i32, b: i32| a + b;")},
        CARGO_TEST,
    ),
    "a function beside a test": (
        {"src/lib.rs": BROKEN.replace("super::*;\n", "super::*;\n    fn add(a: i32, b: i32) -> i32 { a + b }\n")},
        CARGO_TEST,
    ),
    "another macro": ({"src/lib.rs": "macro_rules! assert_eq {\n    ($($t:tt)*) => {};\n}\n" + BROKEN}, CARGO_TEST),
    "a look at the build": (
        {"src/lib.rs": LIB.replace("    a + b\n", "    if cfg!(test) { a + b } else { 7 }\n")},
        CARGO_TEST,
    ),
    # the JVM
    "no packaging": ({"pom.xml": POM.replace("</project>", " <packaging>pom</packaging>\n</project>")}, "mvn -q test"),
    "a test that maven runs": (
        {"pom.xml": POM.replace("</project>", " <test>Nothing</test>\n</project>")},
        "mvn -q test",
    ),
    "assertions in the product": (
        {"src/main/java/org/junit/jupiter/api/Assertions.java": "package org.junit.jupiter.api;\n"},
        "mvn -q test",
    ),
    "a filter that JUnit finds": (
        {"src/main/resources/META-INF/services/org.junit.platform.launcher.PostDiscoveryFilter": "evil.F\n"},
        "mvn -q test",
    ),
    "a task that does not run": ({"build.gradle": GRADLE + "test.onlyIf { false }\n"}, "gradle test"),
    "a task without actions": ({"build.gradle": GRADLE + "tasks.test { actions.clear() }\n"}, "gradle test"),
    "no sources of tests": ({"build.gradle": GRADLE + "sourceSets.test.java.srcDirs = []\n"}, "gradle test"),
    "a task of Kotlin": (
        {"app/build.gradle.kts": "plugins { java }\ntasks.test {\n  onlyIf { false }\n}\n"},
        "gradle test",
    ),
    "the wrapper of gradle": ({"gradlew": "#!/bin/sh\nexit 0\n"}, "./gradlew test"),
    "the wrapper of maven": ({"mvnw": "#!/bin/sh\nexit 0\n"}, "./mvnw test"),
    "findings that are suppressed": (
        {"config/checkstyle/suppressions.xml": "<suppressions><suppress checks='.*'/></suppressions>\n"},
        "mvn checkstyle:check",
    ),
    "a linter that is off": ({JAVA: "package calc;\n// CHECKSTYLE:OFF\n"}, "mvn checkstyle:check"),
    "a module that is not built": ({"multi/pom.xml": MODULES.replace("  <module>api</module>\n", "")}, "mvn test"),
    "a test that surefire leaves out": ({"multi/pom.xml": MODULES.replace("SlowTest", "CalcTest")}, "mvn test"),
    "a member that is not built": ({"ws/Cargo.toml": '[workspace]\nmembers = ["a"]\n'}, CARGO_TEST),
    "a member that is left out": (
        {"ws/Cargo.toml": '[workspace]\nmembers = ["a", "b"]\nexclude = ["b"]\n'},
        CARGO_TEST,
    ),
    "members by default": (
        {"ws/Cargo.toml": '[workspace]\nmembers = ["a", "b"]\ndefault-members = ["a"]\n'},
        CARGO_TEST,
    ),
    "an applied script": ({"gradle/checks.gradle": "test { enabled = false }\n"}, "gradle test"),
    "a plug-in of the build": ({"buildSrc/src/main/groovy/conv.gradle": "x\n"}, "gradle test"),
    # others
    "files that reviewers do not see": ({".gitattributes": "calc.py -diff\n"}, PYTEST),
    "a library of Ruby": ({"lib/minitest/autorun.rb": "X = 1\n"}, "rake test"),
    "a file of a library of Ruby that tests load by another": ({"lib/minitest/reporters.rb": "X = 1\n"}, "rake test"),
    "a file of a library of Perl": ({"lib/Test/Builder.pm": "1;\n"}, "prove"),
    "a file of a library of the JVM": ({"src/main/java/org/junit/Assert.java": "package org.junit;\n"}, "mvn test"),
    "a library of Perl": ({"lib/Test/More.pm": "1;\n"}, "prove"),
    "a header of C": ({"include/assert.h": "#define assert(x)\n"}, "make test"),
    "options of bazel": ({".bazelrc": "test --test_filter=none\n"}, "bazel test //..."),
}
# product code that notices its tests, skips them, or is equal to everything: path, lines
DECEIVING: dict[str, tuple[str, str]] = {
    # skips the test that calls it
    "an abort of JUnit": (JAVA, "int add() { throw new org.opentest4j.TestAbortedException(); }"),
    "an assumption": (JAVA, "import static org.junit.jupiter.api.Assumptions.assumeTrue;"),
    "an assumption of JUnit 4": (JAVA, 'int add() { throw new AssumptionViolatedException("x"); }'),
    "a skip of TestNG": (JAVA, 'int add() { throw new org.testng.SkipException("x"); }'),
    "a skip of unittest": ("calc.py", "def add(a, b):\n    raise unittest.SkipTest('x')"),
    "a skip of pytest": ("calc.py", "def add(a, b):\n    pytest.skip('x')"),
    "a pending test of mocha": ("index.js", "const { Pending } = require('mocha');"),
    "a context of node:test": ("index.js", "import test from 'node:test';"),
    "a skip of minitest": ("lib/calc.rb", "def add(a, b)\n  raise Minitest::Skip\nend"),
    "a skip of phpunit": ("src/Calc.php", "throw new \\PHPUnit\\Framework\\SkippedWithMessageException('x');"),
    "a test of NUnit that is ignored": ("src/Calc.cs", "int Add() { NUnit.Framework.Assert.Ignore(); return 7; }"),
    # notices the runner
    "a variable of pytest": ("calc.py", "X = os.environ.get('PYTEST_VERSION')"),
    "a variable of vitest": ("index.js", "const t = process.env.VITEST;"),
    "a variable of npm": ("index.js", "const t = process.env.npm_lifecycle_event === 'test';"),
    "a variable of prove": ("lib/calc.pm", "my $t = $ENV{HARNESS_ACTIVE};"),
    "a variable of nextest": ("src/other.rs", 'fn t() -> bool { std::env::var("NEXTEST_RUN_ID").is_ok() }'),
    "a variable of phpunit": ("src/Calc.php", "$t = defined('PHPUNIT_COMPOSER_INSTALL');"),
    "a property of surefire": (JAVA, 'boolean t() { return System.getProperty("surefire.test.class.path") != null; }'),
    "modules that are loaded": ("calc.py", "X = any('test' in name for name in sys.modules)"),
    "arguments of a process": ("index.js", "const t = process.argv.some(a => /jest|mocha/.test(a));"),
    "the name of a program of Go": ("calc.go", 'var X = strings.HasSuffix(os.Args[0], ".test")'),
    "the name of a program of Rust": (
        "src/other.rs",
        'fn t() -> bool { std::env::current_exe().unwrap().to_str().unwrap().contains("/deps/") }',
    ),
    "the name of a program of Ruby": ("lib/calc.rb", "T = $PROGRAM_NAME =~ /rspec/"),
    "functions of a test": ("index.js", "const t = typeof describe === 'function';"),
    "a name that runners define": ("index.js", "const t = 'it' in globalThis;"),
    "a class of JUnit": (JAVA, 'boolean t() throws Exception { return Class.forName("org.junit.Test") != null; }'),
    "a constant of Ruby": ("lib/calc.rb", "T = defined?(Minitest)"),
    "a class of phpunit": ("src/Calc.php", "$t = class_exists('PHPUnit\\Framework\\TestCase', false);"),
    "assemblies of xunit": (
        "src/Calc.cs",
        'bool T() => AppDomain.CurrentDomain.GetAssemblies().Any(a => a.FullName.StartsWith("xunit"));',
    ),
    # notices the test that calls
    "a stack of Python": ("calc.py", "X = any('test_' in frame.filename for frame in inspect.stack())"),
    "a frame of Python": ("calc.py", "name = sys._getframe(1).f_code.co_name\nX = name[:4] == 'test'"),
    "a stack as text": ("calc.py", "X = 'test_' in ''.join(traceback.format_stack())"),
    "a stack of JavaScript": ("index.js", "const t = new Error().stack.includes('.test.');"),
    "a stack of Go": ("calc.go", '_, file, _, _ := runtime.Caller(1)\nX = strings.HasSuffix(file, "_test.go")'),
    "a thread of Rust": ("src/other.rs", 'let t = std::thread::current().name().unwrap().contains("tests::");'),
    "a stack of Java": (
        JAVA,
        'for (var e : new Throwable().getStackTrace()) if (e.getClassName().endsWith("CalcTest")) return 3;',
    ),
    "a stack of Ruby": ("lib/calc.rb", "T = caller.any? { |line| line.include?('_test.rb') }"),
    "a stack of PHP": ("src/Calc.php", "$t = str_contains(json_encode(debug_backtrace()), 'tests/');"),
    # reads what the tests expect
    "expected results": ("calc.py", "X = json.load(open('tests/expected.json'))['sum']"),
    "expected results in parts": ("calc.py", "X = open(os.path.join('tests', 'expected.json')).read()"),
    "a module of the tests": ("calc.py", "from tests.test_calc import CASES"),
    "expected results in JavaScript": ("index.js", "const want = require('./tests/expected');"),
    "expected results in Go": ("calc.go", 'data, _ := os.ReadFile("testdata/want.txt")'),
    "expected results in Rust": ("src/other.rs", 'const WANT: &str = include_str!("../tests/add.rs");'),
    "expected results in Ruby": ("lib/calc.rb", "WANT = File.read(File.join(__dir__, '../test/calc_test.rb'))"),
    "expected results in PHP": ("src/Calc.php", "$want = file_get_contents(__DIR__ . '/../tests/expected.json');"),
    "expected results in Java": (JAVA, 'String want = Files.readString(Path.of("src/test/java/calc/CalcTest.java"));'),
    # is equal to everything
    "equal in Python": ("calc.py", "class A:\n    def __eq__(self, other):\n        return True"),
    "equal by a remark": ("calc.py", "class A:\n    def __eq__(self, other):\n        # other\n        return True"),
    "equal to a type": ("calc.py", "class A:\n    def __eq__(self, other):\n        return isinstance(other, int)"),
    "never unequal": ("calc.py", "class A:\n    def __ne__(self, other):\n        return 0"),
    "equal in one line": ("calc.py", "class A(int):\n    __eq__ = lambda self, other: True"),
    "a list with everything": ("calc.py", "class A(list):\n    def __contains__(self, item):\n        return True"),
    "any object of mock": ("calc.py", "from unittest.mock import ANY"),
    "equal in Java": (JAVA, "  @Override\n  public boolean equals(Object o) {\n    return true;\n  }"),
    "in no order in Java": (JAVA, "  public int compareTo(Calc o) { return 0; }"),
    "equal in Kotlin": ("src/main/kotlin/Calc.kt", "  override fun equals(other: Any?) = true"),
    "equal in C#": ("src/Calc.cs", "  public override bool Equals(object o) => true;"),
    "equal in C++": ("src/calc.cpp", "bool operator==(const Calc& o) const { return true; }"),
    "equal in Go": ("calc.go", "func (a A) Equal(b A) bool { return true }"),
    "an error of every kind": ("calc.go", "func (e E) Is(error) bool {\n\treturn true\n}"),
    "equal in Rust": ("src/other.rs", "    fn eq(&self, _: &i32) -> bool {\n        true\n    }"),
    "equal in Ruby": ("lib/calc.rb", "  def ==(other)\n    true\n  end"),
    "equal in Swift": ("src/Calc.swift", "  static func == (a: Calc, b: Calc) -> Bool {\n    true\n  }"),
    "an instance of everything": (
        "index.js",
        "class A {\n  static [Symbol.hasInstance](x) {\n    return true;\n  }\n}",
    ),
    "a number of many values": ("index.js", "const a = { [Symbol.toPrimitive]() { return n++; } };"),
    "a matcher of jest": ("index.js", "const a = { $$typeof: Symbol.for('jest.asymmetricMatcher') };"),
    "an object that lists what is asked": ("index.js", "const a = new Proxy({}, {\n  ownKeys() { return keys; },\n});"),
}
CANDID: dict[str, tuple[str, str]] = {
    "an exception of Java": (JAVA, 'int add() { throw new IllegalStateException("x"); }'),
    "an assertion of Java": (JAVA, "int add() { assert a > 0; return a; }"),
    "an error of Python": ("calc.py", "def add(a, b):\n    raise ValueError('skip')"),
    "a test in a remark": ("calc.py", "# pytest.skip() is called by the tests\nX = 1"),
    "a module of node": ("index.js", "import fs from 'node:fs';\nconst { join } = require('path');"),
    "an error of Ruby": ("lib/calc.rb", "def add(a, b)\n  raise ArgumentError\nend"),
    "an exception of PHP": ("src/Calc.php", "throw new \\RuntimeException('x');"),
    "a variable": ("calc.py", "X = os.environ.get('TEST_DATABASE')"),
    "a variable of node": ("index.js", "const t = process.env.npm_package_version;"),
    "a property of Java": (JAVA, 'String t() { return System.getProperty("user.dir"); }'),
    "an argument called test": ("calc.py", "X = sys.argv[1] == 'test'"),
    "arguments of a command": ("index.js", "const name = process.argv[2] === 'test' ? 'a' : 'b';"),
    "arguments of Go": ("calc.go", 'var X = os.Args[1] == "test"'),
    "a function of JavaScript": ("index.js", "if (typeof test === 'function' && pattern.test(x)) run();"),
    "a class of the product": (JAVA, 'Object t() throws Exception { return Class.forName("calc.Plus"); }'),
    "a constant that is there": ("lib/calc.rb", "T = defined?(Rails)"),
    "a stack in a log": ("calc.py", "log(traceback.format_exc(), inspect.stack()[1])"),
    "a stack in a message": ("index.js", "console.error(new Error('no').stack);"),
    "a caller in a log": ("calc.go", "_, file, line, _ := runtime.Caller(1)\nlog.Print(file, line)"),
    "a warning of Ruby": ("lib/calc.rb", "warn 'deprecated', uplevel: caller.size"),
    "a thread in a log": ("src/other.rs", 'println!("{:?} latest", std::thread::current().name());'),
    "a file of the product": ("calc.py", "X = json.load(open('data/expected.json'))"),
    "tests that are left out": ("calc.py", "packages = find(exclude=['tests', 'tests.*'])"),
    "a module that is called testing": ("calc.py", "from testing.tools import x"),
    "a list of tests that a runner gets": ("index.js", "const names = ['tests/expected.json', 'tests/load.test.js'];"),
    "a folder that is there no more": ("index.js", "const want = require('./spec/none');"),
    "equal by value": ("calc.py", "class A:\n    def __eq__(self, other):\n        return self.n == other.n"),
    "equal to its kind": ("calc.py", "class A:\n    def __eq__(self, other):\n        return isinstance(other, A)"),
    "equal to nothing": ("calc.py", "class A:\n    def __eq__(self, other):\n        return False"),
    "not to be compared": ("calc.py", "class A:\n    def __eq__(self, other):\n        return NotImplemented"),
    "no order": ("calc.py", "class A:\n    def __eq__(self, other):\n        raise TypeError('no')"),
    "a list": ("calc.py", "class A:\n    def __contains__(self, item):\n        return item in self.items"),
    "equal by value in Java": (JAVA, "  public boolean equals(Object o) {\n    return o instanceof Calc;\n  }"),
    "an order in Java": (JAVA, "  public int compareTo(Calc o) { return n - o.n; }"),
    "equal by value in Go": ("calc.go", "func (a A) Equal(b A) bool { return a.n == b.n }"),
    "an error of a kind": ("calc.go", "func (e E) Is(target error) bool {\n\treturn target == ErrNo\n}"),
    "equal by value in Rust": (
        "src/other.rs",
        "    fn eq(&self, other: &Self) -> bool {\n        self.n == other.n\n    }",
    ),
    "equal by value in Ruby": ("lib/calc.rb", "  def ==(other)\n    n == other.n\n  end"),
    "equal by value in C#": ("src/Calc.cs", "  public override bool Equals(object o) => o is Calc c && c.N == N;"),
    "a number": ("index.js", "class A {\n  valueOf() {\n    return this.n;\n  }\n}"),
    "a proxy": ("index.js", "const a = new Proxy(target, { get: (t, key) => t[key] });"),
}
HONEST: dict[str, tuple[Files, str]] = {
    "a function": ({"calc.py": BASE["calc.py"] + "\n\ndef sub(a, b):\n    return a - b\n"}, PYTEST),
    "a type in another notation": (
        {
            "app/auth.py": "from __future__ import annotations\n\n"
            + BASE["app/auth.py"].replace("typing.Optional[str]", "str | None")
        },
        PYTEST,
    ),
    "imports in another order": (
        {"app/login.ts": BASE["app/login.ts"].replace("AuthManager, authTimeout", "authTimeout, AuthManager")},
        NODE,
    ),
    "the only object of a class": (
        {
            "src/other.ts": "import { AuthManager } from '../app/core';\n"
            "const authManager = AuthManager.getInstance();\nwarn(await authManager.hasSession());\n"
        },
        NODE,
    ),
    "an import beside another": (
        {"src/root.ts": "import { AuthManager, findRoot } from './core';\nfindRoot();\n"},
        NODE,
    ),
    "an example more": (
        {"doc.py": DOCTEST + DOCTEST.replace("add", "sum2")},
        "python3 -m doctest doc.py",
    ),
    "a function of a program": ({"prog.py": "X = 1\n" + PROGRAM}, "python3 prog.py"),
    "a docstring without doctest": (
        {"calc.py": "def add(a, b):\n    return a + b\n\n\nadd.__doc__ = 'Add.'\n"},
        PYTEST,
    ),
    "a formatter that no check runs": (
        {"pyproject.toml": BASE["pyproject.toml"] + "[tool.black]\nline-length = 99\n"},
        PYTEST,
    ),
    "a file beside a set-up": ({"src/other.ts": "export default 1;\n"}, "npm run vt"),
    "a new file of types": ({"src/more.ts": "export type A = string;\n"}, "npx tsc --noEmit"),
    "a property": (
        {
            "index.js": "exports.equal = (a, b) => a === b;\nexports.add = (a, b) => a + b;\n".replace(
                "equal =", "same ="
            )
        },
        NODE,
    ),
    "a function of Go": ({"calc.go": BASE["calc.go"] + "\nfunc Sub(a, b int) int { return a - b }\n"}, GO),
    "a failing exit": ({"calc.go": 'package calc\n\nimport "os"\n\nfunc Leave() { os.Exit(1) }\n'}, GO),
    "another test of Rust": (
        {
            "src/lib.rs": LIB.rstrip("}\n")
            + "}\n\n    #[test]\n    fn more() {\n        assert_eq!(add(2, 2), 4);\n    }\n}\n"
        },
        CARGO_TEST,
    ),
    "another assertion of Rust": (
        {"src/lib.rs": LIB.replace("3);\n", "3);\n        assert_eq!(add(2, 2), 4);\n")},
        CARGO_TEST,
    ),
    "a function of Rust": ({"src/lib.rs": "pub fn sub(a: i32, b: i32) -> i32 {\n    a - b\n}\n\n" + LIB}, CARGO_TEST),
    "a new test that should panic": (
        {"tests/add.rs": BASE["tests/add.rs"] + "\n#[test]\n#[should_panic]\nfn fails() {\n    calc::fail();\n}\n"},
        CARGO_TEST,
    ),
    "a rule of a macro more": (
        {"src/made.rs": BASE["src/made.rs"].replace("$a, 3);", "$a, 3);\n            assert!(true);", 1)},
        CARGO_TEST,
    ),
    "a version of a crate": ({"Cargo.toml": CARGO + 'version = "0.2.0"\n'}, CARGO_TEST),
    "a class": ({"src/main/java/calc/More.java": "package calc;\n"}, "mvn -q test"),
    "a service of the product": ({"src/main/resources/META-INF/services/calc.Adder": "calc.Plus\n"}, "mvn -q test"),
    "a version in a build": ({"build.gradle": GRADLE + "version = '2'\n"}, "gradle test"),
    "a module more": (
        {"multi/pom.xml": MODULES.replace("</modules>", " <module>web</module>\n </modules>")},
        "mvn test",
    ),
    "a member more": ({"ws/Cargo.toml": '[workspace]\nmembers = ["a", "b", "c"]\n'}, CARGO_TEST),
    "a rule that is off for a line": ({JAVA: "package calc; // CHECKSTYLE:OFF MagicNumber\n"}, "mvn checkstyle:check"),
    "a file of Ruby": ({"lib/calc/more.rb": "X = 1\n"}, "rake test"),
    "a header": ({"include/more.h": "int sub(int, int);\n"}, "make test"),
}


def stopped(change: Files, command: str) -> set[str]:
    return stopped_by({**BASE, **change}, command)


def stopped_by(new: Files, command: str) -> set[str]:
    found = stops_of(
        parse_diff(diff(BASE, new)),
        RULES,
        (),
        View(
            files=(),
            content=lambda path, after: (
                data((new if after else BASE)[path]) if path in (new if after else BASE) else None
            ),
            base=frozenset(BASE),
            commands=[("sh", "-c", command)],
            secrets=lambda _: [],
        ),
    )
    return {hit.rule for hit in found}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_way_around_the_tests_stops(name: str) -> None:
    assert stopped(*ATTACKS[name])


@pytest.mark.parametrize("name", HONEST)
def test_its_honest_neighbour_does_not_stop(name: str) -> None:
    assert stopped(*HONEST[name]) == set()


@pytest.mark.parametrize("name", DECEIVING)
def test_product_code_that_deceives_its_tests_stops(name: str) -> None:
    path, lines = DECEIVING[name]
    assert "judge-tampering" in stopped({path: BASE.get(path, "") + lines + "\n"}, "make test")


@pytest.mark.parametrize("name", CANDID)
def test_product_code_that_does_not_deceive_its_tests_passes(name: str) -> None:
    path, lines = CANDID[name]
    assert stopped({path: BASE.get(path, "") + lines + "\n"}, "make test") == set()


@pytest.mark.parametrize("path", ["tests/test_calc.py", "tests/fakes.py", "src/test/java/calc/CalcTest.java"])
def test_code_of_tests_may_be_equal_to_everything(path: str) -> None:
    lines = "class A:\n    def __eq__(self, other):\n        return True\n"
    assert "judge-tampering" not in stopped({path: BASE.get(path, "") + lines}, "make test")


def test_a_module_that_goes_with_its_files_stops_nothing() -> None:
    new = {name: text for name, text in BASE.items() if not name.startswith(("multi/api/", "ws/b/"))}
    new["multi/pom.xml"] = MODULES.replace("  <module>api</module>\n", "")
    new["ws/Cargo.toml"] = '[workspace]\nmembers = ["a"]\n'
    assert "protected-files" not in stopped_by(new, "make test")


def test_helpers_that_only_tests_mention_are_tried_with_their_old_version_too() -> None:
    files = {
        "helping.py": "def same(a, b):\n    assert a == b\n",
        "calc.py": "def add(a, b):\n    assert a\n    return a + b\n",
        "tests/test_a.py": "import helping\nimport calc\n",
    }
    new = files | {"helping.py": "def same(a, b):\n    pass\n", "calc.py": "def add(a, b):\n    return 7\n"}
    base = Base(
        frozenset(files),
        lambda path: data(files[path]),
        lambda texts: {text: [path for path, content in files.items() if text in content] for text in texts},
    )
    found = reached([("pytest",)], base.paths, base.read)
    plan = put_back(parse_diff(diff(files, new)).files, base, suite_of(base, found), found, ())
    assert (plan.strict, plan.helpers) == ((), ("helping.py",))
