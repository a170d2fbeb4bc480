"""What a milestone file says, what it says by default, and every way in which it can be wrong."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from executor.config.load_milestones import Read, read_milestone
from executor.errors import Fault
from executor.model.milestone import Claim, FileCheck, Issue, Milestone, Phase, RunCheck
from tests.support import examples

FILE = "milestones/m4.toml"
HEAD = '[milestone]\nid = "m4"\ntitle = "T"\n'
ISSUE = '[[issue]]\nid = "a"\ntitle = "A"\nbody = "b"\n'
SECOND = '[[issue]]\nid = "b"\ntitle = "B"\nbody = "b"\n'

CONTRACT = '''
[milestone]
id = "m4"
title = "Worker settings"
goal = "One paragraph, shown to agents"
base = "main"
branch = "milestone/m4-worker-settings"
needs = ["m3"]
context = ["docs/architecture.md"]
epic = "m4/epic.md"
tag = "v0.4.0"
forge_milestone = "M4 - Worker settings"
accept = [{ run = "pytest -q" }]
[defaults]
agent = "claude"
[[phase]]
name = "Foundations"
goal = "..."

[[issue]]
id = "4.0"
title = "Prepare"
body = """
Two
lines"""

[[issue]]
id = "4.1"
title = "Create the settings class"
type = "core"
priority = "P0"
needs = ["4.0"]
spec = "m4/4.1-settings-class.md"
files = ["src/app/settings.py", "tests/test_settings*.py"]
accept = [
  "Settings can be overridden from the environment",
  { run = "pytest -q tests/test_settings.py" },
  { file = "src/app/settings.py" },
  { file = "src/app/settings.py", contains = "^class Settings" },
  { run = "make docs", timeout = 60, name = "docs" },
  { text = "Readable" },
]
agent = "patch"
with = { file = "m4/4.1.patch" }
workflow = "direct"
checks = ["lint", "tests"]
size = "S"
number = 123
resources = ["database"]
allow = ["dependency-change"]
phase = "Foundations"
'''


def read(text: str, stem: str = "m4") -> Read:
    return read_milestone(tomllib.loads(text), f"milestones/{stem}.toml", stem)


def milestone(text: str) -> Milestone:
    result = read(text)
    assert result.faults == []
    assert result.milestone is not None
    return result.milestone


def test_the_example_of_the_contract_is_read_with_every_field() -> None:
    assert milestone(CONTRACT) == Milestone(
        id="m4",
        title="Worker settings",
        goal="One paragraph, shown to agents",
        base="main",
        branch="milestone/m4-worker-settings",
        needs=("m3",),
        context=("docs/architecture.md",),
        epic="m4/epic.md",
        tag="v0.4.0",
        forge_milestone="M4 - Worker settings",
        accept=(RunCheck(run="pytest -q"),),
        phases=(Phase(name="Foundations", goal="..."),),
        issues=(
            Issue.model_validate({"id": "4.0", "title": "Prepare", "body": "Two\nlines", "agent": "claude"}),
            Issue.model_validate(
                {
                    "id": "4.1",
                    "title": "Create the settings class",
                    "type": "core",
                    "priority": "P0",
                    "needs": ("4.0",),
                    "spec": "m4/4.1-settings-class.md",
                    "files": ("src/app/settings.py", "tests/test_settings*.py"),
                    "accept": (
                        Claim(text="Settings can be overridden from the environment"),
                        RunCheck(run="pytest -q tests/test_settings.py"),
                        FileCheck(file="src/app/settings.py"),
                        FileCheck(file="src/app/settings.py", contains="^class Settings"),
                        RunCheck(run="make docs", timeout=60, name="docs"),
                        Claim(text="Readable"),
                    ),
                    "agent": "patch",
                    "with": {"file": "m4/4.1.patch"},
                    "workflow": "direct",
                    "checks": ("lint", "tests"),
                    "size": "S",
                    "number": 123,
                    "resources": ("database",),
                    "allow": ("dependency-change",),
                    "phase": "Foundations",
                }
            ),
        ),
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("type", "feature"),
        ("priority", "P1"),
        ("needs", ()),
        ("spec", None),
        ("files", ()),
        ("accept", ()),
        ("agent", ()),
        ("options", {}),
        ("workflow", None),
        ("checks", None),
        ("size", "M"),
        ("number", None),
        ("resources", ()),
        ("allow", ()),
        ("phase", None),
    ],
)
def test_an_issue_that_says_little_gets_the_default(name: str, value: object) -> None:
    assert getattr(milestone(HEAD + ISSUE).issues[0], name) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("goal", None),
        ("base", None),
        ("branch", "milestone/m4-t"),
        ("needs", ()),
        ("context", ()),
        ("epic", None),
        ("tag", None),
        ("forge_milestone", None),
        ("accept", ()),
        ("phases", ()),
        ("issues", ()),
    ],
)
def test_a_milestone_that_says_little_gets_the_default(name: str, value: object) -> None:
    assert getattr(milestone(HEAD), name) == value


def test_an_empty_list_of_checks_is_not_the_same_as_none_given() -> None:
    assert milestone(HEAD + ISSUE + "checks = []").issues[0].checks == ()


def test_issues_keep_the_order_of_the_file() -> None:
    assert [issue.id for issue in milestone(HEAD + SECOND + ISSUE).issues] == ["b", "a"]


def test_options_of_the_agent_are_written_as_with() -> None:
    assert milestone(HEAD + ISSUE + 'with = { run = "make", n = 3 }').issues[0].options == {"run": "make", "n": 3}


def test_a_milestone_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        milestone(HEAD).title = "other"


LONG = "a" * 65
SHORTENED = "a" * 57 + "..."
ID_WORDS = "expected letters, digits, dots, dashes and underscores, at most 64, found"
REF_WORDS = "cannot be part of a git ref or a file name here; choose another id"
LIST = 'expected a list, for example ["a", "b"], found'
BRANCH = "expected a name that git accepts for a branch, found"
INSIDE = "expected a relative path without .., found"
ACCEPT = 'expected text, { run = "..." } or { file = "..." }, found'
NUMBER = "expected a number"
MISSING = "is missing, but required"
MILESTONE_KEYS = "id, title, goal, base, branch, needs, context, epic, epic_number, tracking and 9 more"
ISSUE_KEYS = (
    f"id, title, type, priority, needs, spec, body, files, accept, agent and {len(Issue.model_fields) - 10} more"
)

WHOLE_FILES: list[tuple[str, list[tuple[str, str]]]] = [
    ("", [("milestone", "the table [milestone] is missing")]),
    ("milestone = 3", [("milestone", "expected a table, found the number 3")]),
    ("milestone = []", [("milestone", "expected a table, found an empty list")]),
    ('[[milestone]]\nid = "m4"\ntitle = "T"', [("milestone", "expected a table, found a list")]),
    ("[milestone]", [("milestone.id", MISSING), ("milestone.title", MISSING)]),
    ("isue = 1\n" + HEAD, [("", 'unknown key "isue"; did you mean "issue"?')]),
    ("default = 1\n" + HEAD, [("", 'unknown key "default"; did you mean "defaults"?')]),
    ("zzz = 1\n" + HEAD, [("", 'unknown key "zzz"; known keys: milestone, defaults, phase, issue')]),
    ('"miles\u200btone" = 1\n' + HEAD, [("", 'unknown key "miles\\u200btone"; did you mean "milestone"?')]),
    ("issue = 3\n" + HEAD, [("issue", "expected a list of tables, written as [[issue]], found the number 3")]),
    (HEAD + '[issue]\nid = "a"', [("issue", "expected a list of tables, written as [[issue]], found a table")]),
    (
        'issue = [3, "x"]\n' + HEAD,
        [("issue[0]", "expected a table, found the number 3"), ("issue[1]", 'expected a table, found "x"')],
    ),
    (HEAD + "[[issue]]", [("issue[0].id", MISSING), ("issue[0].title", MISSING)]),
    (
        HEAD + '[[issue]]\nid = "a"\ntitle = "A"',
        [("issue[0]", 'expected either spec or body, found neither, in "a"')],
    ),
    (HEAD + ISSUE + 'spec = "x.md"', [("issue[0]", 'expected either spec or body, found both, in "a"')]),
    (
        HEAD + ISSUE + ISSUE + SECOND + ISSUE,
        [
            ("issue[1].id", '"a" is already the id of issue[0]; ids are unique in a milestone'),
            ("issue[3].id", '"a" is already the id of issue[0]; ids are unique in a milestone'),
        ],
    ),
    ("phase = 3\n" + HEAD, [("phase", "expected a list of tables, written as [[phase]], found the number 3")]),
    ('phase = ["x"]\n' + HEAD, [("phase[0]", 'expected a table, found "x"')]),
    (
        HEAD + '[[phase]]\nname = ""\ngoal = 3',
        [
            ("phase[0].name", "expected text, found an empty text"),
            ("phase[0].goal", "expected text, found the number 3"),
        ],
    ),
    (
        HEAD + '[[phase]]\nname = "Foundations"\n' + ISSUE + 'phase = "Fuondations"',
        [("issue[0].phase", 'unknown phase "Fuondations", needed by "a"; did you mean "Foundations"?')],
    ),
    (
        HEAD + '[[phase]]\nname = "One"\n[[phase]]\nname = "Two"\n' + ISSUE + 'phase = "Last"',
        [("issue[0].phase", 'unknown phase "Last", needed by "a"; known phases: One, Two')],
    ),
    (
        HEAD + ISSUE + 'phase = "Last"',
        [("issue[0].phase", 'unknown phase "Last", needed by "a"; declare it first: [[phase]] with a name')],
    ),
    (
        HEAD + '[[phase]]\nnam = "One"\n' + ISSUE + 'phase = "One"',
        [("phase[0].name", MISSING), ("phase[0]", 'unknown key "nam"; did you mean "name"?')],
    ),
]

MILESTONES: list[tuple[str, list[tuple[str, str]]]] = [
    ('titel = "x"', [("milestone", 'unknown key "titel"; did you mean "title"?')]),
    ("labels = 1", [("milestone", f'unknown key "labels"; known keys: {MILESTONE_KEYS}')]),
    ("model_config = 1", [("milestone", f'unknown key "model_config"; known keys: {MILESTONE_KEYS}')]),
    ("phases = []", [("milestone", 'unknown key "phases"; write [[phase]]')]),
    ("issues = []", [("milestone", 'unknown key "issues"; write [[issue]]')]),
    ("goal = 3", [("milestone.goal", "expected text, found the number 3")]),
    ('goal = ["x"]', [("milestone.goal", "expected text, found a list")]),
    ('needs = "m3"', [("milestone.needs", f'{LIST} "m3"')]),
    ("needs = [3]", [("milestone.needs[0]", "expected text, found the number 3")]),
    ("context = 3", [("milestone.context", f"{LIST} the number 3")]),
    ('context = ["ok", "/abs"]', [("milestone.context[1]", f'{INSIDE} "/abs"')]),
    ('context = ["a/../b"]', [("milestone.context[0]", f'{INSIDE} "a/../b"')]),
    ('context = ["a\\u0000b"]', [("milestone.context[0]", f'{INSIDE} "a\\u0000b"')]),
    ('epic = "../x"', [("milestone.epic", f'{INSIDE} "../x"')]),
    ('base = "a..b"', [("milestone.base", f'{BRANCH} "a..b"')]),
    ('base = ""', [("milestone.base", f'{BRANCH} ""')]),
    ('branch = "-x"', [("milestone.branch", f'{BRANCH} "-x"')]),
    ('branch = "x.lock"', [("milestone.branch", f'{BRANCH} "x.lock"')]),
    ('branch = "HEAD"', [("milestone.branch", f'{BRANCH} "HEAD"')]),
    ('branch = ""', [("milestone.branch", f'{BRANCH} ""')]),
    ("branch = 3", [("milestone.branch", "expected text, found the number 3")]),
    ("branch = false", [("milestone.branch", "expected text, found false")]),
    ('tag = "a b"', [("milestone.tag", f'{BRANCH} "a b"')]),
    ('forge_milestone = " "', [("milestone.forge_milestone", "expected text, found an empty text")]),
    ("forge_milestone = 3", [("milestone.forge_milestone", "expected text, found the number 3")]),
    ('accept = "x"', [("milestone.accept", f'{LIST} "x"')]),
    ("accept = [3]", [("milestone.accept[0]", f"{ACCEPT} the number 3")]),
    ("accept = [true]", [("milestone.accept[0]", f"{ACCEPT} true")]),
    ("accept = [[]]", [("milestone.accept[0]", f"{ACCEPT} an empty list")]),
    ("accept = [1979-05-27]", [("milestone.accept[0]", f"{ACCEPT} 1979-05-27, a date or time")]),
    ("accept = [{}]", [("milestone.accept[0].run", MISSING)]),
    (
        'accept = [{ runn = "x" }]',
        [("milestone.accept[0].run", MISSING), ("milestone.accept[0]", 'unknown key "runn"; did you mean "run"?')],
    ),
]

ISSUES: list[tuple[str, list[tuple[str, str]]]] = [
    ('tilte = "x"', [("issue[0]", 'unknown key "tilte"; did you mean "title"?')]),
    ('"with " = 1', [("issue[0]", 'unknown key "with "; did you mean "with"?')]),
    ("labels = []", [("issue[0]", f'unknown key "labels"; known keys: {ISSUE_KEYS}')]),
    ("options = {}", [("issue[0]", f'unknown key "options"; known keys: {ISSUE_KEYS}')]),
    (
        'type = "co re"',
        [
            (
                "issue[0].type",
                'expected a word of letters, digits, dashes and underscores, found "co re"',
            )
        ],
    ),
    ("type = 3", [("issue[0].type", "expected text, found the number 3")]),
    ('priority = "P4"', [("issue[0].priority", 'expected "P0", "P1", "P2" or "P3", found "P4"')]),
    ("priority = 1", [("issue[0].priority", 'expected "P0", "P1", "P2" or "P3", found the number 1')]),
    ('size = "XL"', [("issue[0].size", 'expected "S", "M" or "L", found "XL"')]),
    ('size = ["S"]', [("issue[0].size", 'expected "S", "M" or "L", found a list')]),
    ('needs = "x"', [("issue[0].needs", f'{LIST} "x"')]),
    ("needs = [1]", [("issue[0].needs[0]", "expected text, found the number 1")]),
    ("needs = 1979-05-27", [("issue[0].needs", f"{LIST} 1979-05-27, a date or time")]),
    ('files = "x"', [("issue[0].files", f'{LIST} "x"')]),
    ('files = ["/x"]', [("issue[0].files[0]", f'{INSIDE} "/x"')]),
    ('files = ["a/../../b"]', [("issue[0].files[0]", f'{INSIDE} "a/../../b"')]),
    ('files = [""]', [("issue[0].files[0]", f'{INSIDE} ""')]),
    ("agent = 3", [("issue[0].agent", "expected text or a list of texts, found the number 3")]),
    ("agent = [[]]", [("issue[0].agent", "expected text or a list of texts, found an empty list")]),
    ('agent = ""', [("issue[0].agent", "expected text, found an empty text")]),
    ("with = 3", [("issue[0].with", "expected a table, found the number 3")]),
    ('with = ["x"]', [("issue[0].with", "expected a table, found a list")]),
    ("workflow = 3", [("issue[0].workflow", "expected text, found the number 3")]),
    ('checks = "x"', [("issue[0].checks", f'{LIST} "x"')]),
    ("checks = [1]", [("issue[0].checks[0]", "expected text, found the number 1")]),
    ('number = "1"', [("issue[0].number", 'expected a whole number, found "1"')]),
    ("number = true", [("issue[0].number", "expected a whole number, found true")]),
    ("number = 1.5", [("issue[0].number", "expected a whole number, found the number 1.5")]),
    ("number = 0", [("issue[0].number", f"{NUMBER} greater than 0, found the number 0")]),
    ("number = -1", [("issue[0].number", f"{NUMBER} greater than 0, found the number -1")]),
    ('resources = "x"', [("issue[0].resources", f'{LIST} "x"')]),
    ('resources = [""]', [("issue[0].resources[0]", "expected text, found an empty text")]),
    ('resources = ["a\\nb"]', [("issue[0].resources[0]", "expected one line, found several")]),
    ("allow = [1]", [("issue[0].allow[0]", "expected text, found the number 1")]),
    ("phase = 3", [("issue[0].phase", "expected text, found the number 3")]),
    ("accept = 3", [("issue[0].accept", f"{LIST} the number 3")]),
    ('accept = ["ok", ""]', [("issue[0].accept[1]", "expected text, found an empty text")]),
    ('accept = ["a\\nb"]', [("issue[0].accept[0]", "expected one line, found several")]),
    ('accept = [{ text = "" }]', [("issue[0].accept[0]", "expected text, found an empty text")]),
    ('accept = [{ text = "x", foo = 1 }]', [("issue[0].accept[0]", 'unknown key "foo"; known keys: text')]),
    (
        'accept = ["ok", { run = "x", timout = 1 }]',
        [("issue[0].accept[1]", 'unknown key "timout"; did you mean "timeout"?')],
    ),
    (
        'accept = [{ file = "x", contans = "y" }]',
        [("issue[0].accept[0]", 'unknown key "contans"; did you mean "contains"?')],
    ),
    (
        'accept = [{ file = "x", run = "y" }]',
        [("issue[0].accept[0]", 'unknown key "file"; known keys: run, timeout, name, network, must_fail_before')],
    ),
    ("accept = [{ run = 3 }]", [("issue[0].accept[0].run", "expected text, found the number 3")]),
    ('accept = [{ run = "a\\nb" }]', [("issue[0].accept[0].run", "expected one line, found several")]),
    (
        'accept = [{ run = "x", timeout = -1 }]',
        [("issue[0].accept[0].timeout", f"{NUMBER} greater than 0, found the number -1")],
    ),
    (
        'accept = [{ run = "x", timeout = 0 }]',
        [("issue[0].accept[0].timeout", f"{NUMBER} greater than 0, found the number 0")],
    ),
    ('accept = [{ run = "x", timeout = true }]', [("issue[0].accept[0].timeout", f"{NUMBER}, found true")]),
    ('accept = [{ run = "x", timeout = "5" }]', [("issue[0].accept[0].timeout", f'{NUMBER}, found "5"')]),
    (
        'accept = [{ run = "x", timeout = nan }]',
        [("issue[0].accept[0].timeout", "expected a finite number, found the number nan")],
    ),
    (
        'accept = [{ run = "x", timeout = inf }]',
        [("issue[0].accept[0].timeout", "expected a finite number, found the number inf")],
    ),
    ('accept = [{ file = "/x" }]', [("issue[0].accept[0].file", f'{INSIDE} "/x"')]),
    ('accept = [{ file = "" }]', [("issue[0].accept[0].file", f'{INSIDE} ""')]),
    (
        'accept = [{ file = "x", contains = "(" }]',
        [
            (
                "issue[0].accept[0].contains",
                'expected a regular expression, found "(": missing ), unterminated subpattern at position 0',
            )
        ],
    ),
]

BAD_IDS: list[tuple[str, str]] = [
    ("..", f'{ID_WORDS} ".."'),
    ("a..b", f'"a..b" {REF_WORDS}'),
    ("a.lock", f'"a.lock" {REF_WORDS}'),
    (".lock", f'{ID_WORDS} ".lock"'),
    ("a.", f'"a." {REF_WORDS}'),
    ("doit.json", f'"doit.json" {REF_WORDS}'),
    ("-a", f'{ID_WORDS} "-a"'),
    ("_a", f'{ID_WORDS} "_a"'),
    (LONG, f'{ID_WORDS} "{SHORTENED}"'),
    ("", f'{ID_WORDS} ""'),
    ("a/b", f'{ID_WORDS} "a/b"'),
    ("a b", f'{ID_WORDS} "a b"'),
    ("a\\n", f'{ID_WORDS} "a\\n"'),
    ("é", f'{ID_WORDS} "é"'),
    ("4٣", f'{ID_WORDS} "4٣"'),
]


def faults(expected: list[tuple[str, str]]) -> list[Fault]:
    return [Fault(FILE, key, problem) for key, problem in expected]


@pytest.mark.parametrize(("text", "expected"), WHOLE_FILES)
def test_a_faulty_file_is_reported_where_and_why(text: str, expected: list[tuple[str, str]]) -> None:
    assert read(text).faults == faults(expected)


@pytest.mark.parametrize(("line", "expected"), MILESTONES)
def test_a_faulty_milestone_is_reported_where_and_why(line: str, expected: list[tuple[str, str]]) -> None:
    assert read(HEAD + line).faults == faults(expected)


@pytest.mark.parametrize(("line", "expected"), ISSUES)
def test_a_faulty_issue_is_reported_where_and_why_and_left_out(line: str, expected: list[tuple[str, str]]) -> None:
    result = read(HEAD + ISSUE + line + "\n" + SECOND)
    assert result.faults == faults(expected)
    assert result.milestone is not None
    assert [issue.id for issue in result.milestone.issues] == ["b"]
    assert result.known == {"a", "b"}


@pytest.mark.parametrize(("line", "expected"), [row for row in ISSUES if row[1][0][0] != "issue[0].body"])
def test_a_faulty_default_is_reported_once_and_not_with_every_issue(line: str, expected: list[tuple[str, str]]) -> None:
    result = read(HEAD + "[defaults]\n" + line + "\n" + ISSUE + SECOND)
    assert result.faults == faults([(key.replace("issue[0]", "defaults"), problem) for key, problem in expected])
    assert result.milestone is not None
    assert [issue.id for issue in result.milestone.issues] == ["a", "b"]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ('spec = "/x"', ("issue[0].spec", f'{INSIDE} "/x"')),
        ('spec = "../x"', ("issue[0].spec", f'{INSIDE} "../x"')),
        ('spec = ""', ("issue[0].spec", f'{INSIDE} ""')),
        ("spec = 3", ("issue[0].spec", "expected text, found the number 3")),
        ("body = 3", ("issue[0].body", "expected text, found the number 3")),
    ],
)
def test_a_faulty_spec_or_body_is_reported_where_and_why(keys: str, expected: tuple[str, str]) -> None:
    assert read(f'{HEAD}[[issue]]\nid = "a"\ntitle = "A"\n{keys}').faults == faults([expected])


@pytest.mark.parametrize(
    ("title", "problem"),
    [
        ('""', "expected text, found an empty text"),
        ('" \\t"', "expected text, found an empty text"),
        ('"a\\nb"', "expected one line, found several"),
        ('"a\\rb"', "expected one line, found several"),
        ('"a\\u0000b"', 'expected text without NUL characters, found "a\\u0000b"'),
        ("3", "expected text, found the number 3"),
        ("false", "expected text, found false"),
    ],
)
def test_a_title_is_one_line_of_text(title: str, problem: str) -> None:
    assert read(f'[milestone]\nid = "m4"\ntitle = {title}').faults == faults([("milestone.title", problem)])
    issue = f'[[issue]]\nid = "a"\nbody = "b"\ntitle = {title}'
    assert read(HEAD + issue).faults == faults([("issue[0].title", problem)])


@pytest.mark.parametrize(("bad", "problem"), BAD_IDS)
def test_an_id_that_cannot_be_a_ref_or_a_file_name_is_refused_once(bad: str, problem: str) -> None:
    issue = f'[[issue]]\nid = "{bad}"\ntitle = "A"\nbody = "b"'
    assert read(HEAD + issue).faults == faults([("issue[0].id", problem)])
    assert read(f'[milestone]\nid = "{bad}"\ntitle = "T"').faults == faults([("milestone.id", problem)])


@pytest.mark.parametrize("good", ["4.1", "a", "0", "A-b_c.d", "a" * 64, "a.locked", "lock", "m10"])
def test_an_id_of_letters_digits_dots_dashes_and_underscores_is_taken(good: str) -> None:
    assert milestone(f'{HEAD}[[issue]]\nid = "{good}"\ntitle = "A"\nbody = "b"').issues[0].id == good


def test_an_id_that_is_not_text_is_refused() -> None:
    assert read(HEAD + '[[issue]]\nid = 4.1\ntitle = "A"\nbody = "b"').faults == faults(
        [("issue[0].id", "expected text, found the number 4.1")]
    )
    assert read('[milestone]\nid = 4\ntitle = "T"').faults == faults(
        [("milestone.id", "expected text, found the number 4")]
    )


def test_the_id_of_a_milestone_is_the_name_of_its_file() -> None:
    result = read(HEAD + ISSUE, "m5")
    assert result.faults == [
        Fault("milestones/m5.toml", "milestone.id", 'expected "m5", the name of the file, found "m4"')
    ]
    assert result.milestone is not None
    assert (result.milestone.id, result.milestone.branch) == ("m5", "milestone/m5-t")


@pytest.mark.parametrize(
    ("header", "milestone"),
    [
        ('[milestone]\nid = "m4"\ntitle = "T"\ngoal = 3\nneeds = ["m3"]\n', ("T", None, ("m3",), "milestone/m4-t")),
        ('[milestone]\nid = 4\ntitel = "T"\nbase = "x"\n', ("m4", "x", (), "milestone/m4-m4")),
        ('[milestone]\nid = "m4"\ntitle = "T"\nbranch = "a b"\n', ("T", None, (), "milestone/m4-t")),
    ],
)
def test_of_a_faulty_table_the_rest_is_looked_at_and_the_issues_too(
    header: str, milestone: tuple[str, str | None, tuple[str, ...], str]
) -> None:
    result = read(header + ISSUE)
    assert result.faults
    found = result.milestone
    assert found is not None
    assert (found.id, [item.id for item in found.issues]) == ("m4", ["a"])
    assert (found.title, found.base, found.needs, found.branch) == milestone


def test_without_its_table_a_milestone_is_not_there_but_its_issues_are_known() -> None:
    result = read(ISSUE)
    assert (result.milestone, result.known) == (None, {"a"})


def test_all_faults_of_a_file_come_at_once() -> None:
    text = (
        'extra = 1\n[milestone]\nid = "m5"\ntitel = "T"\n'
        '[defaults]\nsize = "XL"\n'
        '[[phase]]\nnme = "x"\n'
        '[[issue]]\nid = "a"\ntitle = ""\nspec = "/a"\nnumber = true\n'
        + SECOND
        + SECOND
        + ISSUE
        + 'accept = [{ run = "x", timeout = -1 }, 3]\n'
    )
    assert read(text).faults == faults(
        [
            ("", 'unknown key "extra"; known keys: milestone, defaults, phase, issue'),
            ("phase[0].name", MISSING),
            ("phase[0]", 'unknown key "nme"; did you mean "name"?'),
            ("defaults.size", 'expected "S", "M" or "L", found "XL"'),
            ("issue[0].title", "expected text, found an empty text"),
            ("issue[0].spec", f'{INSIDE} "/a"'),
            ("issue[0].number", "expected a whole number, found true"),
            ("issue[3].accept[0].timeout", f"{NUMBER} greater than 0, found the number -1"),
            ("issue[3].accept[1]", f"{ACCEPT} the number 3"),
            ("issue[2].id", '"b" is already the id of issue[1]; ids are unique in a milestone'),
            ("issue[3].id", '"a" is already the id of issue[0]; ids are unique in a milestone'),
            ("milestone.title", MISSING),
            ("milestone", 'unknown key "titel"; did you mean "title"?'),
            ("milestone.id", 'expected "m4", the name of the file, found "m5"'),
        ]
    )


def test_a_fault_reads_as_file_key_and_problem() -> None:
    assert str(read(HEAD + ISSUE + "number = 0").faults[0]) == (
        "milestones/m4.toml: issue[0].number: expected a number greater than 0, found the number 0"
    )
    assert str(read("zzz = 1\n" + HEAD).faults[0]) == (
        'milestones/m4.toml: unknown key "zzz"; known keys: milestone, defaults, phase, issue'
    )


def test_an_issue_overrides_the_defaults() -> None:
    defaults = '[defaults]\nagent = "claude"\npriority = "P2"\nchecks = ["lint"]\nwith = { model = "m" }\n'
    first, second = milestone(
        HEAD + defaults + ISSUE + 'agent = "patch"\nchecks = []\nwith = { file = "x" }\n' + SECOND
    ).issues
    assert (first.agent, first.priority, first.checks, first.options) == (("patch",), "P2", (), {"file": "x"})
    assert (second.agent, second.priority, second.checks, second.options) == (
        ("claude",),
        "P2",
        ("lint",),
        {"model": "m"},
    )


def test_a_faulty_default_does_not_hide_those_in_order() -> None:
    result = read(HEAD + '[defaults]\nagent = "claude"\nsize = "XL"\n' + ISSUE)
    assert result.milestone is not None
    assert (result.milestone.issues[0].agent, result.milestone.issues[0].size) == (("claude",), "M")


def test_defaults_that_are_no_table_are_reported_once() -> None:
    assert read("defaults = 3\n" + HEAD + ISSUE).faults == faults(
        [("defaults", "expected a table, found the number 3")]
    )


def test_an_id_is_no_default() -> None:
    assert read(HEAD + '[defaults]\nid = "x"\n' + ISSUE).faults == faults(
        [("defaults.id", "an id belongs to one issue only; remove it here")]
    )


def test_a_default_spec_gives_way_to_a_body_and_a_default_body_to_a_spec() -> None:
    spec = milestone(HEAD + '[defaults]\nspec = "x.md"\n' + ISSUE + '[[issue]]\nid = "b"\ntitle = "B"\n').issues
    assert [(issue.spec, issue.body) for issue in spec] == [(None, "b"), ("x.md", None)]
    own = '[[issue]]\nid = "b"\ntitle = "B"\nspec = "y.md"\n'
    body = milestone(HEAD + '[defaults]\nbody = "same"\n' + ISSUE + own).issues
    assert [(issue.spec, issue.body) for issue in body] == [(None, "b"), ("y.md", None)]


def test_both_spec_and_body_by_default_are_reported_with_the_issue_that_has_neither_of_its_own() -> None:
    result = read(HEAD + '[defaults]\nspec = "x.md"\nbody = "y"\n' + ISSUE + '[[issue]]\nid = "b"\ntitle = "B"\n')
    assert result.faults == faults([("issue[1]", 'expected either spec or body, found both, in "b"')])


SCALAR = st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates()
JSON_LIKE = SCALAR | st.lists(SCALAR, max_size=2) | st.dictionaries(st.text(max_size=4), SCALAR, max_size=2)
KEYS = sorted({*Issue.model_fields, *Milestone.model_fields, "with", "phase", "run", "file", "text"})
TABLE = st.dictionaries(
    st.sampled_from(KEYS) | st.text(max_size=5), JSON_LIKE | st.lists(JSON_LIKE, max_size=2), max_size=6
)


@pytest.mark.parser
@settings(max_examples=examples(100), deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "milestone": TABLE | JSON_LIKE,
            "defaults": TABLE | JSON_LIKE,
            "phase": st.lists(TABLE, max_size=2) | JSON_LIKE,
            "issue": st.lists(TABLE, max_size=3) | JSON_LIKE,
        },
    )
)
def test_whatever_stands_in_a_file_is_read_or_reported_in_one_line_each(document: dict[str, Any]) -> None:
    result = read_milestone(document, FILE, "m4")
    assert result.milestone is not None or result.faults
    assert all(fault.problem and "\n" not in str(fault) for fault in result.faults)
