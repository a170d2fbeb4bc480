"""The policy: agents, routes, checks and limits as frozen values, read from already merged TOML. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, Field, StrictBool, StrictInt, ValidationError

from executor.core.deadline import clock_time
from executor.core.declaration import Issue, Line, Milestone, Names, Seconds, model_faults
from executor.core.forge_rules import Forge, token_problems
from executor.core.hints import Known, dotted, found, quoted
from executor.core.money import SCOPES, Caps
from executor.core.notice_rules import Channel, channel_problems
from executor.core.profile import Agent, Rule, agent_problems, regex
from executor.core.setup_rules import SetupRules
from executor.core.status_rules import StatusRules
from executor.core.workflow import DIRECT, Workflow, read_workflow
from executor.errors import Fault

__all__ = [
    "PROMPTS",
    "WORKFLOWS",
    "Agent",
    "Check",
    "Forge",
    "Limits",
    "Policy",
    "Route",
    "StopRule",
    "policy_faults",
    "read_policy",
]

DEFAULT_ROUTE = "default"
DEFAULT_PROMPT = "code"
PROMPTS = "prompts"
"""Folder of the conventions that briefs tell, one Markdown file for a type of issue."""
WORKFLOWS = "workflows"
"""Folder of the workflows among the rules, and their place among the merged ones."""
_PROTECTED = "protected-files"
_CONDITIONS = "expected a condition: paths, content, max_files, max_lines, builtin or run"
M = TypeVar("M", bound=BaseModel)
_Amount = Annotated[float, Field(ge=0, strict=True, allow_inf_nan=False)]
_Count = Annotated[StrictInt, Field(ge=0)]


class Check(Rule):
    """A named check.

    Attributes:
        name: what routes and issues call it.
        run: argument list, or a shell command; ``{report}`` is the file that it writes its JUnit report to.
        fix: argument list, or a shell command, that repairs what the check finds; its result is part of the candidate.
        when: globs; it applies only when a changed file matches one of them.
        changed_only: it is given the changed files that match `when`, after its own arguments or for ``{files}``.
        before, after: shell commands around it, for a service that it needs; `after` is always run.
        only_new_failures: failures that the base has too do not count; needs ``{report}``.
        retries: how often it is tried again when it fails; a check that then passes is marked flaky.
        timeout: seconds until it is ended and has failed.
        env: environment variables that it is given.
        prefix: words put before an argument list, for example to run it inside a container.
        version: argument list that prints the version of its tool; part of its fingerprint.
        flaky: its verdicts are never used again.
        network: whether it has a network where it runs in a sandbox.
        readable: further paths that it may read there, for example a toolchain in ``~``.
        isolation: ``auto`` runs it in a sandbox wherever an agent of the milestone wants one; ``none`` never does.
    """

    name: str
    run: str | tuple[str, ...]
    fix: str | tuple[str, ...] | None = None
    when: tuple[str, ...] = ()
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


class Route(Rule):
    """What an issue of a type gets when it does not say so itself.

    Attributes:
        agent: a profile, or an ordered list of them: the next one works where one is at its limit or refuses.
        workflow: how it is worked on.
        checks: names of checks, tried in this order.
        reviewer: profile of who reads the change before it lands.
        threshold: score from which a reviewer's finding stops the issue.
        examine_tests: whether new tests are read for what makes them worthless.
        focus: what an agent in this role looks to; stands in its brief.
        tools: tools that it may use, as its command line names them; for agents whose profile has a flag for them.
    """

    agent: Names = ()
    workflow: str = "direct"
    checks: tuple[str, ...] = ()
    reviewer: str | None = None
    threshold: Annotated[StrictInt, Field(ge=0, le=100)] = 80
    examine_tests: bool = False
    focus: str = ""
    tools: tuple[Line, ...] = ()


def _clock(text: str) -> str:
    """The text itself, if it is a time of day or empty."""
    if text:
        clock_time(text)
    return text


class Limits(Rule):
    """Bounds of a run; times in seconds, sizes in bytes, money in US dollars. A cap that is not there does not hold.

    `unsandboxed_landing` says what becomes of the work of an agent that wanted a sandbox and had none: ``review`` has
    it wait for a person, ``allow`` lands it.

    Attributes:
        transient: how often an agent is called again at once, in its tree, when its service failed.
        backoff_s: after the n-th failed attempt, this times 2 to the power of n passes before the next one ...
        backoff_most_s: ... but no more than this.
        wait_s: how long a run waits, when there is nothing else to do, for an account to be usable again.
        suspend_s: how long an account is not used when it does not say when its limit is lifted.
        silent_s: seconds without output, work or a changed file after which a run tells of an agent.
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
        """Most that may be spent, by scope."""
        usd = {scope: getattr(self, f"{scope}_usd") for scope in SCOPES}
        tokens = {scope: getattr(self, f"{scope}_tokens") for scope in SCOPES}
        return Caps(
            {scope: cap for scope, cap in usd.items() if cap is not None},
            {scope: cap for scope, cap in tokens.items() if cap is not None},
        )


def _some(text: str) -> str:
    if not text:
        raise ValueError("expected text, found nothing in the quotes")
    return text


_Glob = Annotated[str, AfterValidator(_some)]
_Regex = Annotated[str, AfterValidator(_some), AfterValidator(regex)]
_Most = Annotated[StrictInt, Field(ge=0)]


class StopRule(Rule):
    """A rule over a change; the change stops when any of the rule's conditions holds.

    Attributes:
        id: what it is called, in messages and in an issue's `allow`.
        level: ``hard`` waits for a person, ``soft`` skips the issue and goes on.
        reason: one sentence: why it stops.
        needs: what a person has to do.
        paths: globs; where `content` and the limits look. Alone: no file that matches may change. Beside a builtin:
            no such file may change either.
        except_paths: globs of files that the rule does not look at.
        content: regular expressions tried on every added line.
        max_files: most files that may change.
        max_lines: most lines that may be added and removed together.
        uncounted: globs of files that the limits do not count, such as generated ones.
        builtin: what is built in.
        run: command that has to exit 0, an argument list or a shell command.
        where_tests_judge: it only holds for issues that a test run is a proof of.
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
    uncounted: tuple[_Glob, ...] = ()
    builtin: (
        Literal[
            "database-migration",
            "sensitive-code",
            "dependency-change",
            "licence-change",
            "protected-files",
            "secrets",
            "tests-weakened",
            "spec-problem",
            "new-tests",
        ]
        | None
    ) = None
    run: str | tuple[str, ...] = ()
    where_tests_judge: StrictBool = False
    enabled: StrictBool = True

    @property
    def limited(self) -> bool:
        """Whether it limits the size of a change."""
        return self.max_files is not None or self.max_lines is not None

    @property
    def conditional(self) -> bool:
        """Whether there is anything at which it could stop."""
        return bool(self.paths or self.content or self.builtin or self.run) or self.limited


class Policy(Rule):
    """All rules together; `protected` are the globs of files that are taken from the base for judging."""

    agents: dict[str, Agent]
    checks: dict[str, Check]
    routes: dict[str, Route]
    limits: Limits
    forge: Forge
    status: StatusRules = StatusRules()
    workflows: dict[str, Workflow] = Field(default_factory=dict)
    prompts: dict[str, str] = Field(default_factory=dict)
    stops: tuple[StopRule, ...] = ()
    notify: dict[str, Channel] = Field(default_factory=dict)
    protected: tuple[str, ...] = ()
    setup: SetupRules = SetupRules()

    def route_of(self, issue: Issue) -> Route:
        """The route of the issue's type; what it leaves out is as in the default one."""
        default = self.routes[DEFAULT_ROUTE]
        own = self.routes.get(issue.type) or self.routes.get(issue.type.lower())
        if own is None:
            return default
        return default.model_copy(update={name: getattr(own, name) for name in own.model_fields_set})

    def agent_names(self, issue: Issue) -> tuple[str, ...]:
        """Names of the issue's agents: declared, routed, or the one that its options can only be meant for."""
        names = issue.agent or self.route_of(issue).agent
        if names:
            return names
        fitting = [agent.name for agent in self.agents.values() if _fits(agent, issue)]
        return tuple(fitting) if len(fitting) == 1 else ()

    def agents_for(self, issue: Issue) -> list[Agent]:
        """The issue's agents in the order in which they are asked; there is one, or `policy_faults` would say so."""
        return [self.agents[name] for name in self.agent_names(issue)]

    def workflow_of(self, issue: Issue) -> Workflow:
        """How the issue is worked on: as declared, or as its route says."""
        return self.workflows[issue.workflow or self.route_of(issue).workflow]

    def prompt_for(self, issue: Issue) -> str:
        """How work of the issue's type is done: the conventions of its type, or those for code."""
        return self.prompts.get(issue.type.lower()) or self.prompts.get(DEFAULT_PROMPT, "")

    def agent_for(self, issue: Issue) -> Agent:
        """The issue's agent, the first of them if there are several."""
        return self.agents_for(issue)[0]

    def checks_for(self, issue: Issue) -> list[Check]:
        """The named checks of the issue: its own list, or that of its route."""
        names = issue.checks if issue.checks is not None else self.route_of(issue).checks
        return [self.checks[name] for name in names]


def read_policy(value: Mapping[str, Mapping[str, Any]], place: str) -> tuple[Policy | None, list[Fault]]:
    """The policy from the merged rules.

    Args:
        value: file stem -> its parsed and merged document.
        place: folder of the rules, for messages.
    """
    faults: list[Fault] = []
    agents = _named(value, "agents", "agent", Agent, place, faults)
    checks = _named(value, "checks", "check", Check, place, faults)
    routes = _named(value, "routes", "route", Route, place, faults)
    limits = _single(value, "limits", Limits, place, faults)
    forge = _single(value, "forge", Forge, place, faults)
    setup = _single(value, "setup", SetupRules, place, faults)
    status = _single(value, "status", StatusRules, place, faults)
    stops = _named(value, "stops", "stop", StopRule, place, faults)
    notify = _named(value, "notify", "notify", Channel, place, faults)
    for name, channel in notify.items():
        wrong = [(f"notify.{name}{f'.{key}' if key else ''}", problem) for key, problem in channel_problems(channel)]
        faults += (Fault(f"{place}/notify.toml", key, problem) for key, problem in wrong)
    faults += (
        Fault(f"{place}/stops.toml", dotted(["stop", name]), _CONDITIONS)
        for name, stop in stops.items()
        if not stop.conditional
    )
    for name, agent in agents.items():
        faults += (Fault(f"{place}/agents.toml", f"agent.{name}", problem) for problem in agent_problems(agent))
        faults += (Fault(f"{place}/agents.toml", f"agent.{name}.env", told) for told in token_problems(name, agent.env))
    for name, check in checks.items():
        faults += (Fault(f"{place}/checks.toml", f"check.{name}.env", told) for told in token_problems(name, check.env))
    known_agents = _declared(value, "agents", "agent")
    documents = {DIRECT: {}, **value.get(WORKFLOWS, {})}
    workflows = _workflows(documents, known_agents, f"{place}/{WORKFLOWS}", faults)
    if not any(fault.file == f"{place}/routes.toml" for fault in faults):
        declared = known_agents, _declared(value, "checks", "check"), documents
        faults += _route_faults(routes, *declared, f"{place}/routes.toml")
    if faults or limits is None or forge is None or setup is None or status is None:
        return None, faults
    protected = stops[_PROTECTED].paths if _PROTECTED in stops else ()
    rules = tuple(stops.values())
    policy = Policy(
        agents=agents,
        checks=checks,
        routes=routes,
        limits=limits,
        forge=forge,
        workflows=workflows,
        prompts={name: str(text) for name, text in value.get(PROMPTS, {}).items()},
        status=status,
        stops=rules,
        notify=notify,
        protected=protected,
        setup=setup,
    )
    return policy, []


def policy_faults(
    milestones: Mapping[str, Milestone],
    files: Mapping[str, str],
    policy: Policy,
    partial: Mapping[str, Sequence[tuple[int, Issue]]] | None = None,
) -> list[Fault]:
    """Where declarations and rules do not fit together: unknown agents, options, checks and workflows.

    Of faulty issues (`partial`) only what they say is looked at: what they lack may be a consequence of their faults.
    """
    known = (Known(policy.agents), Known(policy.checks), Known(policy.workflows))
    partial = partial or {}
    return [
        Fault(files[name], "milestone.checks", f"unknown check {quoted(check)}{known[1].advice(check, 'checks')}")
        for name, milestone in milestones.items()
        for check in milestone.checks
        if check not in policy.checks
    ] + [
        Fault(files[name], f"issue[{place}].{key}", problem)
        for name, milestone in milestones.items()
        for issues, whole in ((milestone.placed(), True), (partial.get(name, ()), False))
        for place, issue in issues
        for key, problem in _issue_problems(issue, policy, known, whole=whole)
    ]


def _issue_problems(
    issue: Issue, policy: Policy, known: tuple[Known, Known, Known], *, whole: bool
) -> Iterator[tuple[str, str]]:
    agents, checks, workflows = known
    by = f", needed by {quoted(issue.id)}"
    names = policy.agent_names(issue)
    if not names and whole:
        yield (
            "agent",
            f"no agent is declared{by}, and the route of type {quoted(issue.type)} names none"
            + agents.advice("", "agents"),
        )
    unknown = [name for name in names if name not in policy.agents]
    for name in unknown:
        yield "agent", f"unknown agent {quoted(name)}{by}{agents.advice(name, 'agents')}"
    if names and not unknown and (whole or issue.agent):
        yield from _option_problems(issue, policy.agents_for(issue), whole=whole)
    for check in issue.checks or ():
        if check not in policy.checks:
            yield "checks", f"unknown check {quoted(check)}{by}{checks.advice(check, 'checks')}"
    if issue.workflow is not None and issue.workflow not in policy.workflows:
        yield (
            "workflow",
            f"unknown workflow {quoted(issue.workflow)}{by}{workflows.advice(issue.workflow, 'workflows')}",
        )


def _option_problems(issue: Issue, agents: list[Agent], *, whole: bool) -> Iterator[tuple[str, str]]:
    """Options that one of the agents needs and has not, and options that none of them knows."""
    by = f", needed by {quoted(issue.id)}"
    for agent in agents:
        for option in sorted(agent.needed() - issue.options.keys()) if whole else ():
            yield (
                "with",
                f'agent "{agent.name}" needs the option {quoted(option)}{by}; write with = {{ {option} = "..." }}',
            )
    allowed = Known(sorted(frozenset[str]().union(*(agent.allowed() for agent in agents))))
    names = " or ".join(f'"{agent.name}"' for agent in agents)
    for option, value in issue.options.items():
        if option not in allowed.names:
            yield "with", f"unknown option {quoted(option)} of agent {names}{allowed.advice(option, 'options')}"
        elif not isinstance(value, str | int | float):
            yield f"with.{option}", f"expected text, found {found(value)}"
    if any(agent.builtin == "patch" for agent in agents) and isinstance(issue.options.get("file"), str):
        parts = str(issue.options["file"]).split("/")
        if parts[0] == "" or ".." in parts:
            yield "with.file", f"expected a path inside milestones/, found {quoted(str(issue.options['file']))}"


def _fits(agent: Agent, issue: Issue) -> bool:
    needed = agent.needed()
    return bool(needed) and needed == issue.options.keys()


def _route_faults(
    routes: Mapping[str, Route],
    agents: Mapping[str, object],
    checks: Mapping[str, object],
    workflows: Mapping[str, object],
    file: str,
) -> Iterator[Fault]:
    known_agents, known_checks, known_workflows = Known(agents), Known(checks), Known(workflows)
    for name, route in routes.items():
        asked = [("agent", agent) for agent in route.agent]
        asked += [("reviewer", route.reviewer)] if route.reviewer is not None else []
        for key, agent in asked:
            if agent not in agents:
                hint = known_agents.advice(agent, "agents")
                yield Fault(file, f"route.{name}.{key}", f"unknown agent {quoted(agent)}{hint}")
        if route.workflow not in workflows:
            hint = known_workflows.advice(route.workflow, "workflows")
            yield Fault(file, f"route.{name}.workflow", f"unknown workflow {quoted(route.workflow)}{hint}")
        for check in route.checks:
            if check not in checks:
                hint = known_checks.advice(check, "checks")
                yield Fault(file, f"route.{name}.checks", f"unknown check {quoted(check)}{hint}")


def _workflows(
    documents: Mapping[str, Mapping[str, Any]], agents: Mapping[str, object], place: str, faults: list[Fault]
) -> dict[str, Workflow]:
    """The workflows by name; agents that they name have to be there."""
    read: dict[str, Workflow] = {}
    known = Known(agents)
    for name, document in documents.items():
        file = f"{place}/{name}.toml"
        workflow, wrong = read_workflow(name, document, file)
        faults += wrong
        if workflow is not None:
            read[name] = workflow
            for where, agent in workflow.agents():
                if agent not in agents:
                    faults.append(Fault(file, where, f"unknown agent {quoted(agent)}{known.advice(agent, 'agents')}"))
    return read


def _declared(value: Mapping[str, Mapping[str, Any]], stem: str, word: str) -> Mapping[str, object]:
    """The tables ``[word.NAME]`` of one file, faulty or not, so that nobody is told that a faulty one is unknown."""
    tables = value.get(stem, {}).get(word, {})
    return tables if isinstance(tables, Mapping) else {}


def _named(
    value: Mapping[str, Mapping[str, Any]], stem: str, word: str, model: type[M], place: str, faults: list[Fault]
) -> dict[str, M]:
    """The tables ``[word.NAME]`` of one file."""
    file = f"{place}/{stem}.toml"
    document = value.get(stem, {})
    hint = Known([word])
    faults += (
        Fault(file, "", f"unknown key {quoted(key)}{hint.advice(key, 'keys')}") for key in document if key != word
    )
    tables = document.get(word, {})
    if not isinstance(tables, Mapping):
        faults.append(Fault(file, word, f"expected tables [{word}.NAME], found {found(tables)}"))
        return {}
    read: dict[str, M] = {}
    for name, table in tables.items():
        if not isinstance(table, Mapping):
            faults.append(Fault(file, f"{word}.{name}", f"expected a table, found {found(table)}"))
            continue
        key = next((key for key in ("name", "id") if key in model.model_fields), None)
        given = {**table, key: name} if key else dict(table)
        try:
            read[name] = model.model_validate(given)
        except ValidationError as error:
            faults += model_faults(error, model, file, [word, name])
    return read


def _single(
    value: Mapping[str, Mapping[str, Any]], stem: str, model: type[M], place: str, faults: list[Fault]
) -> M | None:
    """A file that is one table."""
    try:
        return model.model_validate(dict(value.get(stem, {})))
    except ValidationError as error:
        faults += model_faults(error, model, f"{place}/{stem}.toml", [])
        return None
