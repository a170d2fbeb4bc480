"""The proofs of an issue: its named checks and its acceptance, as one list with one key."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from executor.model.fingerprint import check_key, combined_key, digest
from executor.model.milestone import FileCheck, RunCheck
from executor.model.paths import matches
from executor.stop_rules.program_text import words_of_shell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from executor.model.milestone import Acceptance, Issue, Milestone
    from executor.model.policy import Policy
    from executor.model.rules import Check, Regenerate

__all__ = [
    "COVERAGE",
    "CommandProof",
    "FileProof",
    "Proofs",
    "file_problem",
    "proofs_of",
    "regeneration",
    "release_proofs",
    "slug_of",
]

_REPORT = "{report}"
_FILES = "{files}"
_SHELL = ("sh", "-c")
COVERAGE = "coverage.sqlite"
"""File beside the report with the files that each test executes."""
_CONTEXTS = "--cov=. --cov-context=test --cov-report= --cov-fail-under=0"
_PLAIN_PYTEST = re.compile(
    r"(?:[A-Za-z_]\w*=[^\s;&|<>()$`]*\s+)*(?:(?:[\w./-]*/)?python[\d.]*(?:\s+-[A-Za-z]+)*\s+-m\s+pytest|(?:[\w./-]*/)?(?:pytest|py\.test))"
    r"(?:\s+[^;&|<>()$`\n]*)?"
)
_TEST_RUNNER = re.compile(
    r"\b(?:py\.?test|unittest|nose2?|tox|nox|jest|vitest|mocha|karma|rspec|phpunit|ctest|gotestsum|nextest|junit)\b"
    r"|\b(?:npm|pnpm|yarn|bun|cargo|go|make|mvn|gradle|gradlew|dotnet|mix|swift|rake|composer|doit|deno|just|task)\s+(?:run\s+)?(?:-\S+\s+)*"
    r"(?:test|check|unit|spec|verify|ci)"
    r"|\bnode\b[^;&|]*\s--test\b|\b(?:bats|prove|busted|deno test|stestr|trial)\b|\bmanage\.py\s+test\b"
)
_ELSEWHERE = re.compile(
    r"(?:^|[\s;&|(])(?:cd|pushd|env|sudo|ssh)\s|\s-C\s|--(?:rootdir|directory|prefix|cwd)\b|[\s=\"']/"
)
_LEAVES = re.compile(r"(?:^|[\s;&|(])(?:cd|pushd|ssh|docker|podman|kubectl|nsenter|chroot)\s")
_KNOWN_TOOL = re.compile(
    r"pytest|python[\d.]*|ruff|mypy|pyright|black|isort|flake8|pylint|eslint|prettier|biome|tsc|npx|node|gofmt|go|cargo|rustfmt"
    r"|clang-format|clang-tidy|shellcheck|shfmt|bash|sh|rubocop|php|perl|test|grep|uv|uvx|npm|pre-commit"
)
_LOOKS_ONLY = frozenset(
    """[ [[ ag awk cat cd cmp cut diff echo egrep exit false fgrep file find git grep head jq ls printf rg sed set sort
    stat tail test tr true uniq wc yq""".split()  # noqa: SIM905  (a list of words)
)
"""Programs that look at files and run none of them."""
_LINTS = frozenset(
    """actionlint bandit basedpyright biome black checkstyle clang-format clang-tidy codespell compileall detekt eslint
    flake8 gitleaks gofmt golangci-lint hadolint isort ktlint markdownlint mypy oxlint phpcs phpstan prettier psalm
    py_compile pycodestyle pydocstyle pylint pyrefly pyright rubocop ruff rustfmt semgrep shellcheck shfmt staticcheck
    stylelint swiftlint tsc ty typos vulture yamllint""".split()  # noqa: SIM905  (a list of words)
)
"""Programs that judge the style of code, on which restored tests have no effect."""
_LEADS = frozenset(["-m", "bundle", "exec", "npx", "pdm", "pnpm", "poetry", "python", "python3", "run", "uv", "yarn"])
_PROGRAM = re.compile(r"(\s*(?:\w+=\S*\s+)*)([\w./+-]+)")
_KNOWN_RUNNER = re.compile(
    r"pytest|py\.test|python[\d.]*|coverage|tox|nox|uv|poetry|pdm|hatch|node|npm|npx|pnpm|yarn|bun|deno|jest|vitest|mocha|go"
    r"|bats|prove|perl|php|ruby|lua|busted|java|gotestsum|cargo|make|ctest|cmake|ninja|meson|mvn|gradle|dotnet|mix|rake|bundle|rspec|phpunit|composer|swift|doit"
)


def slug_of(name: str) -> str:
    """Return the name of a check in a form for file names."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:40].strip("-.") or "check"


@dataclass(frozen=True, slots=True)
class CommandProof:
    """A command that must exit 0 in a clean checkout of the candidate tree.

    Attributes:
        name: name in messages: the check's name, or the acceptance command itself.
        argv: the command.
        env: variables in addition to the ordinary environment.
        timeout: seconds.
        when: globs; it applies only if a changed file matches one (empty: always).
        by_inputs: its verdict holds for every tree with the same files that `when` matches.
        key: fingerprint of the check.
        reusable: False for checks that are declared flaky.
        named: a check of checks.toml, as opposed to acceptance; it must also pass on the base.
        fix: command that repairs its findings; empty without one.
        changed_only: it receives the changed files that `when` matches.
        before: shell command that starts a service for it.
        after: shell command that runs after it, whatever the outcome.
        only_new_failures: ignore tests that also fail on the base.
        retries: number of retries after a failure.
        network: whether it has a network in a sandbox.
        readable: further paths that it may read in a sandbox.
        sandboxed: it runs in a sandbox where its milestone has one.
        version: version of its tool; empty if not asked.
        setup: prefix of the key of its tree's set-up commands; empty without any.
        vouched: a person vouches for it, so it need not fail on a broken tree.
        must_fail_before: acceptance that must fail on the base.
        prefix: number of words before `argv` that only select where it runs, such as ``docker run``.
        coverage: it runs to find out which files each test executes (`executor.checks.console.measured`).
    """

    name: str
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    timeout: float
    when: tuple[str, ...]
    key: str
    reusable: bool = True
    named: bool = False
    fix: tuple[str, ...] = ()
    changed_only: bool = False
    before: str = ""
    after: str = ""
    only_new_failures: bool = False
    retries: int = 0
    network: bool = False
    readable: tuple[str, ...] = ()
    sandboxed: bool = True
    version: str = ""
    setup: str = ""
    vouched: bool = False
    must_fail_before: bool = False
    prefix: int = 0
    runner: str = ""
    by_inputs: bool = False
    coverage: bool = False

    @property
    def slug(self) -> str:
        """Its name in a form for file names."""
        return slug_of(self.name)

    @property
    def wants_report(self) -> bool:
        """Return whether it writes a JUnit report, without which an exit code of 0 does not count."""
        return any(_REPORT in word for word in self.argv) or self.is_pytest

    @property
    def is_pytest(self) -> bool:
        """Return whether it is one plain call of pytest, which an environment variable can make write a report."""
        if any("--junit" in word or _REPORT in word for word in self.argv):
            return False
        text = self.argv[2] if self.argv[:2] == _SHELL else shlex.join(self.argv)
        return _PLAIN_PYTEST.fullmatch(text.strip()) is not None

    @property
    def calls_pytest(self) -> bool:
        """Return whether it runs pytest, which reads options from an environment variable, and writes a report."""
        return self.wants_report and re.search(r"\bpy\.?test\b", shlex.join(self.argv)) is not None

    @property
    def is_test_run(self) -> bool:
        """Whether it seems to run tests, whatever the language."""
        return self.wants_report or any(_TEST_RUNNER.search(word) for word in self.argv)

    @property
    def runs_code(self) -> bool:
        """Return whether it may run code of the tree; linters and commands that only look at files do not."""
        shell = self.argv[:2] == _SHELL and len(self.argv) > 2  # noqa: PLR2004  (sh -c TEXT)
        return any(map(_runs, words_of_shell(self.argv[2]) if shell else [list(self.argv)]))

    @property
    def proves_by_tests(self) -> bool:
        """Return whether it runs tests, also if its command is a list of words: ``go``, ``test``."""
        return self.is_test_run or _TEST_RUNNER.search(" ".join(self.argv)) is not None

    @property
    def may_run_elsewhere(self) -> bool:
        """Return whether a prefix, a wrapper or another folder of the user lies between it and the tree."""
        if self.prefix or (self.argv[:2] == _SHELL and _ELSEWHERE.search(self.argv[2])):
            return True
        program = _PROGRAM.match(self.argv[2]) if self.argv[:2] == _SHELL else re.match(r"()(.*)", self.argv[0])
        return program is None or _KNOWN_RUNNER.fullmatch(program[2].rpartition("/")[2]) is None

    @property
    def needs_proof_on_base(self) -> bool:
        """Return whether it must be proved to look at trees before an attempt is spent.

        A check of changed files has none to look at before the attempt. It is proved anyway if it may repair or read
        files of another folder; otherwise it is proved on the first candidate that changes more than product code.
        """
        if not self.changed_only or self.prefix or self.fix:
            return True
        if self.argv[:2] == _SHELL:
            return _LEAVES.search(self.argv[2]) is not None
        return _KNOWN_TOOL.fullmatch(self.argv[0].rpartition("/")[2]) is None

    def environment(self, report: str) -> dict[str, str]:
        """Return its variables, for a report written to that path."""
        given = dict(self.env)
        if self.is_pytest:
            options = f"{given.get('PYTEST_ADDOPTS', '')} --junitxml={shlex.quote(report)}"
            given["PYTEST_ADDOPTS"] = options.strip()
        if self.coverage:
            options = f"{given.get('PYTEST_ADDOPTS', '')} {_CONTEXTS}"
            given |= {"PYTEST_ADDOPTS": options.strip(), "COVERAGE_FILE": report.replace("report.xml", COVERAGE)}
            # sys.monitoring, which Python 3.14 uses, tells each line once only, to the first test that executes it.
            given["COVERAGE_CORE"] = "ctrace"
        return given

    def command(self, files: Sequence[str], report: str) -> tuple[str, ...]:
        """Return its argument list for these changed files, with the report written to that path."""
        words = _with_files(self.argv, files) if self.changed_only else self.argv
        return tuple(word.replace(_REPORT, report) for word in words)

    def repair(self, files: Sequence[str]) -> tuple[str, ...]:
        """Return the argument list of `fix` for these changed files."""
        return _with_files(self.fix, files) if self.changed_only else self.fix

    def concerned(self, changed: Sequence[str]) -> list[str]:
        """Select the changed files that it applies to."""
        if not self.when:
            return list(changed)
        return [path for path in changed if matches(path, self.when)]

    @property
    def shareable(self) -> bool:
        """Whether its verdict means the same on another host: it depends on nothing but tree, tools and command."""
        return self.reusable and not self.only_new_failures and (not self.prefix or bool(self.version))

    def verdict_key(self, files: Sequence[str]) -> str:
        """Return the key of its verdicts."""
        return combined_key([self.key, *sorted(files)]) if self.changed_only else self.key


@dataclass(frozen=True, slots=True)
class FileProof:
    """A file that must exist in the candidate tree and, if `contains` is set, match that pattern."""

    name: str
    file: str
    contains: str | None
    key: str


@dataclass(frozen=True, slots=True)
class Proofs:
    """All proofs of an issue, in the order of execution; `key` is the issue's check key."""

    items: tuple[CommandProof | FileProof, ...]
    key: str

    @property
    def repair(self) -> bool:
        """Return whether one of them repairs what it finds; that runs code of the change, so no rule may stop it."""
        return any(isinstance(item, CommandProof) and item.fix for item in self.items)

    @property
    def run_code(self) -> bool:
        """Return whether one of them may run code of the tree, which could deceive it."""
        return any(isinstance(item, CommandProof) and item.runs_code for item in self.items)


def proofs_of(issue: Issue, policy: Policy, version: Callable[[Check], str]) -> Proofs:
    """Return the checks of the issue or of its route, followed by its acceptance.

    Args:
        issue: the declared issue.
        policy: the rules.
        version: returns the version of a check's tool from the tool itself; empty if the check does not ask for it.
    """
    items: list[CommandProof | FileProof] = [
        _named(check, policy, version(check)) for check in policy.checks_for(issue)
    ]
    items += _accepted(issue.accept, policy)
    prepared = "".join(key for key in (policy.setup.key, policy.environments.key) if key)
    if prepared:
        items = [_prepared(item, prepared) for item in items]
    return Proofs(tuple(items), combined_key(_key_here(item) for item in items))


def release_proofs(
    milestone: Milestone, policy: Policy, version: Callable[[Check], str]
) -> list[CommandProof | FileProof]:
    """Return the checks of a release besides the proofs of its issues.

    These are the checks of its issues that cover a whole tree, the milestone's own checks and its acceptance.
    """
    routed = [check for issue in milestone.issues for check in policy.checks_for(issue) if not check.changed_only]
    checks = {check.name: check for check in [*routed, *(policy.checks[name] for name in milestone.checks)]}
    return [
        *(_named(check, policy, version(check)) for check in checks.values()),
        *_accepted(milestone.accept, policy),
    ]


def file_problem(proof: FileProof, content: bytes | None, *, exists: bool) -> str | None:
    """Return why a file acceptance fails; None if it holds."""
    if not exists:
        return f"{proof.file} does not exist in the result"
    if proof.contains is None:
        return None
    text = (content or b"").decode("utf-8", "replace")
    if re.search(proof.contains, text, re.MULTILINE) is None:
        return f"{proof.file} does not contain {proof.contains!r}"
    return None


def _runs(words: Sequence[str]) -> bool:
    plain = [word for word in words if not re.fullmatch(r"[A-Za-z_]\w*=.*", word)]
    while plain and plain[0] in _LEADS:
        plain = plain[1:]
    program = plain[0].rpartition("/")[2] if plain else ""
    return bool(program) and program not in _LOOKS_ONLY | _LINTS


def _key_here(item: CommandProof | FileProof) -> str:
    """Return a check's key and where it applies: a verdict does not depend on the latter, but the proof does."""
    if isinstance(item, FileProof) or not item.when:
        return item.key
    return combined_key([item.key, *item.when])


def _prepared(item: CommandProof | FileProof, setup: str) -> CommandProof | FileProof:
    """Return a check on a prepared tree: its set-up commands are part of its key."""
    return item if isinstance(item, FileProof) else replace(item, key=combined_key([item.key, setup]), setup=setup[:17])


def _with_files(argv: tuple[str, ...], files: Sequence[str]) -> tuple[str, ...]:
    """Return an argument list with file names in place of ``{files}``, or at its end."""
    names = [f"./{name}" if name.startswith("-") else name for name in files]
    if argv[:2] == _SHELL:
        words = " ".join(shlex.quote(name) for name in names)
        text = argv[2]
        return (*_SHELL, text.replace(_FILES, words) if _FILES in text else f"{text} {words}")
    if _FILES not in argv:
        return (*argv, *names)
    place = argv.index(_FILES)
    return (*argv[:place], *names, *argv[place + 1 :])


def _named(check: Check, policy: Policy, version: str) -> CommandProof:
    prefix = check.prefix if "prefix" in check.model_fields_set else policy.environments.prefix
    argv = (*prefix, *_argv(check.run))
    timeout = float(check.timeout or policy.limits.check_timeout_s)
    env = tuple(sorted(check.env.items()))
    around = {
        name: str(value)
        for name, value in (
            ("before", check.before),
            ("after", check.after),
            ("changed_only", check.changed_only),
            ("only_new_failures", check.only_new_failures),
            ("network", check.network),
            ("isolation", check.isolation if check.isolation != "auto" else ""),
            ("inputs", " ".join(check.when) if check.inputs == "when" else ""),
        )
        if value
    }
    key = check_key(argv, env=dict(env), timeout=float(check.timeout or 0), version=version, around=around)
    return CommandProof(
        check.name,
        argv,
        env,
        timeout,
        check.when,
        key,
        reusable=not check.flaky,
        named=True,
        fix=(*prefix, *_argv(check.fix)) if check.fix else (),
        changed_only=check.changed_only,
        before=check.before or "",
        after=check.after or "",
        only_new_failures=check.only_new_failures,
        retries=check.retries,
        network=check.network,
        readable=check.readable,
        sandboxed=check.isolation != "none",
        version=version,
        vouched=check.sabotage == "off",
        prefix=len(prefix),
        runner=check.runner,
        by_inputs=check.inputs == "when" and bool(check.when) and not check.changed_only,
    )


def _accepted(accept: Sequence[Acceptance], policy: Policy) -> Iterator[CommandProof | FileProof]:
    """Yield the acceptance criteria that a command or a file proves."""
    for item in accept:
        if isinstance(item, RunCheck):
            yield _acceptance(item, policy)
        elif isinstance(item, FileCheck):
            key = digest(f"file\0{item.file}\0{item.contains or ''}".encode())
            yield FileProof(f"file {item.file}", item.file, item.contains, key)


def _acceptance(item: RunCheck, policy: Policy) -> CommandProof:
    timeout = float(item.timeout or policy.limits.check_timeout_s)
    prefix = policy.environments.prefix
    argv = (*prefix, *_argv(item.run))
    around = {"network": "True"} if item.network else None
    key = check_key(argv, env={}, timeout=float(item.timeout or 0), around=around)
    return CommandProof(
        item.name or item.run,
        argv,
        (),
        timeout,
        (),
        key,
        network=item.network,
        must_fail_before=item.must_fail_before,
        prefix=len(prefix),
    )


def regeneration(rule: Regenerate, policy: Policy) -> CommandProof:
    """Return the command of a rule on regenerated files as a check, so that it runs where checks run."""
    prefix = policy.environments.prefix
    argv = (*prefix, *_argv(rule.run))
    timeout = float(rule.timeout or policy.limits.check_timeout_s)
    name = f"regenerate {rule.paths[0]}"
    key = check_key(argv, env={}, timeout=timeout)
    return CommandProof(name, argv, (), timeout, (), key, network=rule.network, prefix=len(prefix))


def _argv(command: str | tuple[str, ...]) -> tuple[str, ...]:
    return (*_SHELL, command) if isinstance(command, str) else tuple(command)
