"""The rules on checks: `[check.NAME]` of `rules/checks.toml`.

The rules on routes: `[route.TYPE]` of `rules/routes.toml`.

The bounds of a run: `rules/limits.toml`.

Set-up of a tree before work starts in it: copied files and commands. Pure.

The environment of trees: `rules/environments.toml`.

How results land: `rules/landing.toml`.

The rules that stop a change: `[stop.ID]` of `rules/stops.toml`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, StrictBool, StrictInt

from executor.model.agent_profile import Rule, regex
from executor.model.clock import clock_time
from executor.model.fingerprint import digest
from executor.model.milestone import Inside, Line, Names, Seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "PACKAGED",
    "SCOPES",
    "Caps",
    "Check",
    "EnvironmentRule",
    "EnvironmentRules",
    "LandingRules",
    "Limits",
    "Regenerate",
    "Route",
    "Setup",
    "SetupRules",
    "StopRule",
    "stop_problems",
]


class Check(Rule):
    """A named check.

    Attributes:
        name: its name in routes and issues.
        run: argument list, or a shell command; ``{report}`` is the file for its JUnit report.
        fix: argument list or shell command that repairs the check's findings; the result is part of the candidate.
        when: globs; it applies only when a changed file matches one of them.
        inputs: ``tree``, or ``when``: its verdict depends on the files that `when` names and on no other ones, so that
            it holds for every tree that has the same.
        changed_only: it receives the changed files that match `when`, after its own arguments or for ``{files}``.
        before, after: shell commands around it, for a service that it needs; `after` always runs.
        only_new_failures: failures that the base also has do not count; needs ``{report}``.
        retries: number of retries after a failure; a check that then passes is marked flaky.
        timeout: seconds until it is stopped and has failed.
        env: its environment variables.
        prefix: words before an argument list, for example to run it inside a container.
        version: argument list that prints the version of its tool; part of its key.
        flaky: its verdicts are never reused.
        network: whether it has network access inside a sandbox.
        readable: further readable paths there, for example a toolchain in ``~``.
        isolation: ``auto`` runs it in a sandbox if an agent of the milestone requires one; ``none`` never does.
        runner: label of a runner in runners.toml on whose host it runs; empty: here.
        sabotage: ``off``: a person vouches for a check that does not look at source files; ``on``: it must be proved.
        sabotage_reason: the reason for ``off``.
    """

    name: str
    run: str | tuple[str, ...]
    fix: str | tuple[str, ...] | None = None
    when: tuple[str, ...] = ()
    inputs: Literal["tree", "when"] = "tree"
    changed_only: bool = False
    before: str | None = None
    after: str | None = None
    only_new_failures: bool = False
    retries: Annotated[StrictInt, Field(ge=0, le=10)] = 0
    timeout: Seconds | None = None
    env: dict[str, str] = Field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    version: tuple[str, ...] = ()
    flaky: bool = False
    network: StrictBool = False
    readable: tuple[str, ...] = ()
    isolation: Literal["none", "auto"] = "auto"
    runner: str = ""
    sabotage: Literal["on", "off"] = "on"
    sabotage_reason: str = ""


class Route(Rule):
    """Defaults for the issues of a type.

    Attributes:
        agent: a profile, or an ordered list: the next one works if one is at its limit or refuses.
        workflow: its workflow.
        checks: names of checks, in order of execution.
        reviewer: profile of the reviewer of each change before it lands.
        threshold: score from which a reviewer's finding stops the issue.
        examine_tests: whether new tests are examined for faults that make them worthless.
        focus: the focus of an agent in this role, quoted in its brief.
        tools: permitted tools, as named on the agent's command line; for agents whose profile has a flag for them.
        runner: label of a runner in runners.toml on whose hosts its agents work; empty: here.
    """

    agent: Names = ()
    workflow: str = "direct"
    checks: tuple[str, ...] = ()
    reviewer: str | None = None
    threshold: Annotated[StrictInt, Field(ge=0, le=100)] = 80
    examine_tests: bool = False
    focus: str = ""
    tools: tuple[Line, ...] = ()
    runner: str = ""


_Amount = Annotated[float, Field(ge=0, strict=True, allow_inf_nan=False)]
_Count = Annotated[StrictInt, Field(ge=0)]


def _clock(text: str) -> str:
    """Validate a time of day; may be empty."""
    if text:
        clock_time(text)
    return text


SCOPES = ("issue", "run", "day", "milestone")


@dataclass(frozen=True, slots=True)
class Caps:
    """Maximum spending by scope (`issue`, `run`, `day`, `milestone`); a missing entry means no cap.

    Attributes:
        usd: US dollars.
        tokens: tokens, read and written together.
    """

    usd: Mapping[str, float]
    tokens: Mapping[str, int]


class Regenerate(Rule):
    """Files that a command makes from others, such as a lock file: a conflict in them is settled by that command.

    Attributes:
        paths: globs of the files; a name without a slash holds in every folder.
        run: argument list or shell command that writes them; it runs in the merged tree, as a check does.
        timeout: seconds until it is stopped and the conflict stays.
        network: whether it has network access inside a sandbox.
    """

    paths: Annotated[tuple[str, ...], Field(min_length=1)]
    run: str | Annotated[tuple[str, ...], Field(min_length=1)]
    timeout: Seconds | None = None
    network: StrictBool = False


class LandingRules(Rule):
    """How proved results land.

    Attributes:
        mode: ``each`` proves every landed tree; ``batch`` proves the last tree of several that land in one push;
            ``auto`` proves each while the processors suffice, otherwise batches sized by the failure rate.
        batch_most: maximum number of results in one batch.
        order: order of issues with equal priority: ``declared``, or ``critical-path``.
        attest_key: path of the SSH key that signs a statement of each landing; empty: landings are not attested.
        union: globs of files in which two changes of one place both stay, such as changelogs.
        regenerate: files that a command writes again after a conflict, one table or a list of them.
        probe_s: seconds between two looks at whether the changes of running attempts conflict; 0: never.
        select_tests: ``on`` runs the tests that a result is likely to break before the queue proves it with all of
            them, and proves it alone if they fail; ``shadow`` only counts what the selection would have missed.
        overlap: what keeps issues from being started side by side where others are ready: the ``declared`` files; also
            the files that are ``learned`` from the history and from the issue's text; or nothing (``off``).
    """

    mode: Literal["auto", "each", "batch"] = "auto"
    batch_most: Annotated[StrictInt, Field(ge=1, le=1024)] = 64
    order: Literal["declared", "critical-path"] = "declared"
    attest_key: str = ""
    union: tuple[str, ...] = ()
    regenerate: Regenerate | tuple[Regenerate, ...] = ()
    probe_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 60.0
    select_tests: Literal["off", "shadow", "on"] = "off"
    overlap: Literal["declared", "learned", "off"] = "declared"

    @property
    def regenerated(self) -> tuple[Regenerate, ...]:
        """The rules on regenerated files as a list."""
        return (self.regenerate,) if isinstance(self.regenerate, Regenerate) else self.regenerate

    @property
    def harmless(self) -> tuple[str, ...]:
        """Globs of files in which a conflict stops no landing."""
        return (*self.union, *(glob for rule in self.regenerated for glob in rule.paths))


class Limits(Rule):
    """Limits of a run; times in seconds, sizes in bytes, money in US dollars. A missing cap means no cap.

    `unsandboxed_landing` decides about the work of an agent without its required sandbox: ``review`` waits for a
    person, ``allow`` lands it. If git's configuration requires signatures, landings are signed; with `unsigned_landing`
    ``allow`` they are not.

    Attributes:
        transient: number of immediate further calls of an agent, in its tree, after its service failed.
        backoff_s: after the n-th failed attempt, this times 2 to the power of n passes before the next one ...
        backoff_most_s: ... but at most this.
        wait_s: seconds that an otherwise idle run waits for an account to become usable again.
        outage_s: suspension of an account whose service fails; doubled with each further outage ...
        outage_most_s: ... but at most this.
        outage_wait_s: seconds that an otherwise idle run waits for failing services.
        background_s: seconds that processes left behind by an agent may be quiet before they are stopped.
        suspend_s: suspension of an account that does not report the end of its limit.
        silent_s: seconds without output, work or a changed file after which a run reports an agent.
    """

    attempts: Annotated[StrictInt, Field(ge=1, le=100)]
    timeout_s: Seconds
    idle_s: Seconds
    check_timeout_s: Seconds
    output_cap_bytes: Annotated[StrictInt, Field(ge=1024)]
    parallel: Annotated[StrictInt, Field(ge=1, le=1024)]
    retention_days: Annotated[StrictInt, Field(ge=0)]
    disk_floor_bytes: Annotated[StrictInt, Field(ge=0)]
    import_files: Annotated[StrictInt, Field(ge=1)]
    import_file_bytes: Annotated[StrictInt, Field(ge=1)]
    import_bytes: Annotated[StrictInt, Field(ge=1)]
    ignore: tuple[str, ...] = ()
    unsandboxed_landing: Literal["review", "allow"] = "review"
    unsigned_landing: Literal["refuse", "allow"] = "refuse"
    parallel_steps: Annotated[StrictInt, Field(ge=1, le=64)] = 5
    handoff_tokens: Annotated[StrictInt, Field(ge=0)] = 6000
    deadline: Annotated[str, AfterValidator(_clock)] = ""
    silent_s: Seconds = 300.0
    long_s: Seconds = 3600.0
    pause_on: tuple[Literal["silence", "long", "conflict", "red-base", "declaration"], ...] = ("long",)
    catch_up: Literal["next-night", "at-boot"] = "next-night"
    transient: Annotated[StrictInt, Field(ge=0, le=100)] = 3
    backoff_s: _Amount = 1.0
    backoff_most_s: _Amount = 300.0
    wait_s: _Amount = 0.0
    outage_s: Seconds = 30.0
    outage_most_s: Seconds = 900.0
    outage_wait_s: _Amount = 14400.0
    background_s: _Amount = 30.0
    suspend_s: Seconds = 1800.0
    attempt_usd: _Amount | None = None
    issue_usd: _Amount | None = None
    run_usd: _Amount | None = None
    day_usd: _Amount | None = None
    milestone_usd: _Amount | None = None
    issue_tokens: _Count | None = None
    run_tokens: _Count | None = None
    day_tokens: _Count | None = None
    milestone_tokens: _Count | None = None

    @property
    def caps(self) -> Caps:
        """Return the maximum spending, by scope."""
        usd = {scope: getattr(self, f"{scope}_usd") for scope in SCOPES}
        tokens = {scope: getattr(self, f"{scope}_tokens") for scope in SCOPES}
        return Caps(
            {scope: cap for scope, cap in usd.items() if cap is not None},
            {scope: cap for scope, cap in tokens.items() if cap is not None},
        )


class Setup(Rule):
    """A command that generates files in a tree.

    Attributes:
        run: argument list, or a shell command.
        inputs: globs of the files that its output depends on.
        keep: its output, which remains in the tree while the inputs are unchanged.
        timeout: seconds until it is stopped and has failed.
    """

    run: str | tuple[str, ...]
    inputs: tuple[Inside, ...] = ()
    keep: tuple[Inside, ...] = ()
    timeout: Seconds | None = None

    @property
    def argv(self) -> tuple[str, ...]:
        """Return the argument list."""
        return ("sh", "-c", self.run) if isinstance(self.run, str) else self.run

    def key(self, files: Mapping[str, bytes]) -> str:
        """Return the key of its output: the command and the contents of its input files, by path."""
        found = repr((self.argv, self.keep, sorted(files.items())))
        return digest(found.encode("utf-8", "surrogateescape"))


PACKAGED = ("python", "node", "go", "cargo", "maven")
"""The environments that need no rule."""


class EnvironmentRule(Rule):
    """An environment for trees, in addition to the packaged ones or in place of them.

    ``{environment}`` is replaced by the folder that `run` fills, ``{tree}`` and ``{slot}`` by the tree and its slot.

    Attributes:
        when: globs; it applies to a tree with a file of that name; empty: to every tree.
        replaces: the packaged environments that it replaces for such a tree.
        run: argument list, or a shell command, that fills the folder; runs once for each content of the inputs.
        inputs: globs of the files of the tree that its content depends on.
        variables: environment variables of every command in the tree.
        programs: folders to prepend to PATH, in order.
        readable: further readable paths in a sandbox.
        network: whether `run` has network access in a sandbox.
        timeout: seconds until `run` is stopped and has failed.
    """

    when: tuple[str, ...] = ()
    replaces: tuple[Literal["python", "node", "go", "cargo", "maven"], ...] = ()
    run: str | tuple[str, ...] = ()
    inputs: tuple[Inside, ...] = ()
    variables: dict[str, str] = Field(default_factory=dict)
    programs: tuple[str, ...] = ()
    readable: tuple[str, ...] = ()
    network: StrictBool = True
    timeout: Seconds | None = None


class EnvironmentRules(Rule):
    """The file environments.toml.

    Attributes:
        prefix: words before the command of every check, fix, acceptance and set-up, unless a check has its own.
        environments: the environments by name.
    """

    prefix: tuple[str, ...] = ()
    environments: Annotated[dict[str, EnvironmentRule], Field(alias="environment")] = Field(default_factory=dict)

    @property
    def key(self) -> str:
        """Return its part of a check's key: other environments may give other verdicts. Empty without a rule."""
        if not self.environments:
            return ""
        return digest(repr(sorted(self.environments.items())).encode("utf-8", "surrogateescape"))


class SetupRules(Rule):
    """The file setup.toml: `include` are globs of ignored files to copy, `steps` the commands in order."""

    include: tuple[Inside, ...] = ()
    steps: Annotated[dict[str, Setup], Field(alias="setup")] = Field(default_factory=dict)

    @property
    def kept(self) -> tuple[str, ...]:
        """Return everything that remains in a tree and never lands, in the format of .gitignore."""
        return tuple(f"/{pattern}" for step in self.steps.values() for pattern in step.keep)

    @property
    def key(self) -> str:
        """Return its part of a check's key: other preparations may give other verdicts. Empty without a command."""
        if not self.steps:
            return ""
        return digest(repr([(name, step.argv) for name, step in self.steps.items()]).encode("utf-8", "surrogateescape"))


def _some(text: str) -> str:
    if not text:
        raise ValueError("expected text, found an empty text")
    return text


_Glob = Annotated[str, AfterValidator(_some)]
_Regex = Annotated[str, AfterValidator(_some), AfterValidator(regex)]
_Most = Annotated[StrictInt, Field(ge=0)]


class StopRule(Rule):
    """A rule on a change; the change stops if any of the rule's conditions holds.

    Attributes:
        id: its name in messages and in an issue's `allow`.
        level: ``hard`` waits for a person, ``soft`` skips the issue and continues.
        reason: one sentence: the reason of the stop.
        needs: the action required of a person.
        paths: globs; the scope of `content` and the limits. Alone: no matching file may change. With a builtin: no
            matching file may change either.
        except_paths: globs of files that the rule ignores.
        content: regular expressions tried on every added line.
        max_files: maximum number of changed files.
        max_lines: maximum number of added and removed lines in total.
        uncounted: globs of files that do not count toward the limits, such as generated ones.
        max_bytes: maximum total bytes of the changed files after the change.
        builtin: name of a check implemented in code (entry points ``make_for_milestones.stop_rules``).
        lists: words, globs and patterns that the builtin uses, by name.
        run: command that must exit 0, an argument list or a shell command.
        where_tests_judge: it only applies to issues that a command proves which may run their code.
        enabled: false switches the rule off.
    """

    id: str
    level: Literal["hard", "soft"] = "hard"
    reason: str = ""
    needs: str = ""
    paths: tuple[_Glob, ...] = ()
    except_paths: tuple[_Glob, ...] = ()
    content: tuple[_Regex, ...] = ()
    max_files: _Most | None = None
    max_lines: _Most | None = None
    max_bytes: _Most | None = None
    uncounted: tuple[_Glob, ...] = ()
    builtin: str | None = None
    lists: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    run: str | tuple[str, ...] = ()
    where_tests_judge: StrictBool = False
    enabled: StrictBool = True

    @property
    def limited(self) -> bool:
        """Return whether it limits the size of a change."""
        return any(most is not None for most in (self.max_files, self.max_lines, self.max_bytes))

    @property
    def conditional(self) -> bool:
        """Return whether it has any condition."""
        return bool(self.paths or self.content or self.builtin or self.run) or self.limited


def stop_problems(rule: StopRule) -> list[str]:
    """Return faults of the rule as a whole."""
    if rule.conditional:
        return []
    return ["expected a condition: paths, content, max_files, max_lines, max_bytes, builtin or run"]
