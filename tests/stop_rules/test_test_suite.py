"""Which files belong to the tests of a base, and what is put back of a change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from executor.git.diff import FileChange
from executor.stop_rules.commands import reached
from executor.stop_rules.test_evidence.test_suite import Base, PutBack, Suite, judges, put_back, suite_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence


def base_of(tree: Mapping[str, str]) -> Base:
    def mentions(texts: Collection[str]) -> dict[str, list[str]]:
        return {text: [path for path, content in tree.items() if text in content] for text in texts}

    return Base(frozenset(tree), lambda path: tree[path].encode() if path in tree else None, mentions)


def suite(tree: Mapping[str, str], command: str = "pytest -q") -> Suite:
    base = base_of(tree)
    return suite_of(base, reached([("sh", "-c", command)], base.paths, base.read))


def plan(
    tree: Mapping[str, str], kinds: Mapping[str, str], command: str = "pytest -q", declared: Sequence[str] = ()
) -> PutBack:
    base = base_of(tree)
    found = reached([("sh", "-c", command)], base.paths, base.read)
    changed = [FileChange(path, kind, 1, 1, binary=False) for path, kind in kinds.items()]
    return put_back(changed, base, suite_of(base, found), found, declared)


PYTHON = {
    "calc.py": "",
    "tests/helpers.py": "",
    "tests/test_a.py": "open('cases.csv')",
    "tests/expected.json": "",
    "django/test/client.py": "",
    "django/test/__init__.py": "",
    "numpy/testing/__init__.py": "",
    "numpy/testing/utils.py": "",
    "numpy/testing/tests/test_x.py": "",
    "cases.csv": "",
    "src/main/java/acme/test/B.java": "",
    "spec/openapi.yaml": "",
    "support.py": "import pytest\n",
    "config.json": "",
    "src/testFixtures/java/acme/Checks.java": "",
    "src/functionalTest/java/acme/Flow.java": "",
    "src/functionalTest/java/acme/FlowTest.java": "",
    "src/contest/app.ts": "",
}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("tests/helpers.py", True),
        ("tests/expected.json", True),
        ("tests/__init__.py", True),
        ("tests/calc.py", True),
        ("tests/unit/deep/x.bin", True),
        ("numpy/testing/tests/data.txt", True),
        ("src/calc.test.ts", True),
        ("test.js", True),
        ("pkg/x_test.go", True),
        ("main_test.go", True),
        ("spec/calc_spec.rb", True),
        ("features/login.feature", True),
        ("run_tests.sh", True),
        ("src/__tests__/x.ts", True),  # the folder is new
        ("__mocks__/lodash.js", True),
        ("src/test/client.py", False),
        ("src/testFixtures/java/acme/Checks.java", True),
        ("src/functionalTest/java/acme/Flow.java", True),
        ("src/contest/app.ts", False),
        ("calc.py", False),
        ("django/test/client.py", False),
        ("numpy/testing/utils.py", False),
        ("src/main/java/acme/test/B.java", False),
        ("spec/openapi.yaml", False),
        ("latest.py", False),
        ("contest.js", False),
    ],
)
def test_what_belongs_to_the_tests(path: str, expected: bool) -> None:
    assert suite(PYTHON).has(path) is expected


@pytest.mark.parametrize(
    ("tree", "command", "path"),
    [
        ({"pytest.ini": "[pytest]\npython_files = check_*.py\n"}, "pytest", "qa/check_a.py"),
        ({"pyproject.toml": '[tool.pytest.ini_options]\npython_files = ["*_checks.py"]\n'}, "pytest", "qa/a_checks.py"),
        ({"setup.cfg": "[tool:pytest]\npython_files = verify_*.py\n"}, "pytest", "verify_x.py"),
        (
            {"package.json": '{"jest": {"testMatch": ["<rootDir>/src/**/*.check.{js,ts}"]}}'},
            "npm test",
            "src/a.check.ts",
        ),
        (
            {"vitest.config.ts": "export default { test: { include: ['lib/**/*.prove.ts'] } }"},
            "npx vitest",
            "lib/a.prove.ts",
        ),
        ({".mocharc.json": '{"spec": "proofs/*.js"}'}, "npx mocha", "proofs/a.js"),
        ({"phpunit.xml": "<testsuite><directory>proofs</directory></testsuite>"}, "phpunit", "proofs/A.php"),
        ({"prove/a.mjs": ""}, "node --test prove/*.mjs", "prove/a.mjs"),
        (
            {"qa/check_a.py": "", "qa/check_b.py": ""},
            "python -m unittest discover -s qa -p 'check*.py'",
            "qa/data.json",
        ),
        ({"qa.py": ""}, "pytest qa.py", "qa.py"),
    ],
)
def test_what_the_project_and_its_commands_call_a_test(tree: dict[str, str], command: str, path: str) -> None:
    assert suite(tree, command).has(path)


def test_a_folder_of_the_product_is_not_put_back_because_a_runner_is_given_it() -> None:
    tree = {"app/a.py": "", "app/b.py": "", "app/tests/test_a.py": ""}
    assert not suite(tree, "pytest app").has("app/a.py")


def test_changed_tests_are_put_back_and_new_files_left_out() -> None:
    kinds = {
        "calc.py": "modified",
        "tests/test_a.py": "modified",
        "tests/helpers.py": "deleted",
        "tests/calc.py": "created",
        "tests/test_b.py": "created",
        "new.py": "created",
    }
    found = plan(PYTHON, kinds)
    assert found == PutBack(tests=("tests/test_a.py", "tests/helpers.py"), added=("tests/calc.py", "tests/test_b.py"))


def test_data_and_helpers_that_only_tests_mention_belong_to_them() -> None:
    tree = {**PYTHON, "tests/test_b.py": "import support; open('golden.out'); open('config.json')", "golden.out": "3"}
    tree["calc.py"] = "open('config.json')"
    kinds = dict.fromkeys(("cases.csv", "golden.out", "config.json", "support.py", "calc.py"), "modified")
    assert plan(tree, kinds).tests == ("cases.csv", "golden.out", "support.py")


def test_a_package_of_go_that_only_tests_import_belongs_to_them() -> None:
    tree = {
        "calc.go": "package calc\n",
        "calc_test.go": 'import "example.org/calc/internal/testutil"\n',
        "internal/testutil/same.go": 'package testutil\n\nimport "testing"\n\nfunc Same(t *testing.T) {}\n',
        "internal/table/table.go": 'package table\n\nimport "fmt"\n',
    }
    kinds = dict.fromkeys(("calc.go", "internal/testutil/same.go", "internal/table/table.go"), "modified")
    assert plan(tree, kinds).tests == ("internal/testutil/same.go",)


def test_what_the_issue_declares_is_named() -> None:
    found = plan(PYTHON, {"tests/test_a.py": "modified", "tests/helpers.py": "modified"}, declared=["tests/test_*.py"])
    assert found.declared == ("tests/test_a.py",)
    assert found.lenient(["tests/test_*.py"]) == ("tests/helpers.py",)


def test_scripts_of_checks_are_put_back_and_the_product_only_as_operand() -> None:
    tree = {"check.sh": "", "scripts/smoke.py": "", "app.py": "", "out.txt": ""}
    kinds = dict.fromkeys(tree, "modified")
    found = plan(tree, kinds, "sh check.sh; python scripts/smoke.py; python app.py | diff - out.txt")
    assert found.scripts == ("check.sh", "scripts/smoke.py")
    assert found.operands == ("app.py", "out.txt")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("check.sh", True),
        ("proofs/feature.py", True),
        ("proofs/a/main.go", True),
        ("tools/gen.py", True),
        ("verify_all.py", True),
        ("app.py", False),
        ("src/app/cli.py", False),
        ("shop/manage.py", False),
        ("cmd/shop/main.go", False),
        ("bin/shop", False),
    ],
)
def test_whether_a_script_judges(path: str, expected: bool) -> None:
    assert judges(path, {"shop/__init__.py", path}) is expected
