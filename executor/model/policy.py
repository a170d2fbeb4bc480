"""The policy: all rules as frozen values, read from merged TOML. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, Field, ValidationError

from executor.errors import Fault
from executor.model.agent_profile import Agent, Rule, agent_problems
from executor.model.hints import Known, dotted, found, quoted
from executor.model.milestone import Claim, model_faults
from executor.model.outward_rules import (
    Channel,
    Forge,
    Runner,
    StatusRules,
    VerdictRules,
    channel_problems,
    runner_problems,
    token_problems,
)
from executor.model.rules import (
    Check,
    EnvironmentRules,
    LandingRules,
    Limits,
    Route,
    SetupRules,
    StopRule,
    stop_problems,
)
from executor.model.workflow import DIRECT, Workflow, read_workflow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from executor.model.milestone import Issue

    _Rules = Mapping[str, Mapping[str, Any]]
    """File stem -> its parsed and merged document."""

__all__ = ["PROMPTS", "SCHEMAS", "WORKFLOWS", "Policy", "declared", "named", "read_policy"]

_M = TypeVar("_M", bound=BaseModel)

DEFAULT_ROUTE = "default"
DEFAULT_PROMPT = "code"
PROMPTS = "prompts"
"""Folder of the conventions for briefs, one Markdown file per issue type."""
WORKFLOWS = "workflows"
SCHEMAS = "schemas"
"""Folder of the workflows among the rules, and their place among the merged ones."""
_PROTECTED = "protected-files"


class Policy(Rule):
    """All rules; `protected` are the globs of files that are taken from the base for judging."""

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
    landing: LandingRules = LandingRules()
    environments: EnvironmentRules = EnvironmentRules()
    verdicts: VerdictRules = VerdictRules()
    runners: dict[str, Runner] = Field(default_factory=dict)

    @property
    def settles(self) -> bool:
        """Whether work remains after the last landing: statements or tracking files."""
        return bool(self.landing.attest_key) or self.status.push_to is not None

    def route_of(self, issue: Issue) -> Route:
        """Return the route of the issue's type; missing keys come from the default route."""
        default = self.routes[DEFAULT_ROUTE]
        own = self.routes.get(issue.type) or self.routes.get(issue.type.lower())
        if own is None:
            return default
        return default.model_copy(update={name: getattr(own, name) for name in own.model_fields_set})

    def runner_of(self, issue: Issue, agent: Agent | None) -> Runner | None:
        """Return the runner on whose hosts an agent works on an issue; None for this machine."""
        label = self.route_of(issue).runner
        if not label or agent is None or agent.builtin:
            return None
        return next(runner for runner in self.runners.values() if label in runner.names)

    def agent_names(self, issue: Issue) -> tuple[str, ...]:
        """Return the names of the issue's agents: declared, routed, or the only one that fits its options."""
        names = issue.agent or self.route_of(issue).agent
        if names:
            return names
        fitting = self.fitting(issue)
        return fitting if len(fitting) == 1 else ()

    def fitting(self, issue: Issue) -> tuple[str, ...]:
        """Return the names of the agents whose options exactly match the issue's."""
        return tuple(agent.name for agent in self.agents.values() if _fits(agent, issue))

    def agents_for(self, issue: Issue) -> list[Agent]:
        """Return the issue's agents in order; at least one, otherwise `policy_faults` reports it."""
        return [self.agents[name] for name in self.agent_names(issue)]

    def workflow_of(self, issue: Issue) -> Workflow:
        """Return the workflow of the issue: the declared one, or that of its route."""
        return self.workflows[issue.workflow or self.route_of(issue).workflow]

    def prompt_for(self, issue: Issue) -> str:
        """Return the conventions for the issue's type, or those for code."""
        return self.prompts.get(issue.type.lower()) or self.prompts.get(DEFAULT_PROMPT, "")

    def agent_for(self, issue: Issue) -> Agent:
        """Return the issue's agent, the first of them if there are several."""
        return self.agents_for(issue)[0]

    def checks_for(self, issue: Issue) -> list[Check]:
        """Return the named checks of the issue: its own list, or that of its route."""
        names = issue.checks if issue.checks is not None else self.route_of(issue).checks
        return [self.checks[name] for name in names]

    def proves(self, issue: Issue) -> bool:
        """Return whether anything can prove that the issue is done: a check, a command or file, a reviewer."""
        proofs = any(not isinstance(item, Claim) for item in issue.accept)
        return proofs or bool(self.checks_for(issue)) or self.route_of(issue).reviewer is not None


def read_policy(value: _Rules, place: str) -> tuple[Policy | None, list[Fault]]:
    """Read the policy from the merged rules.

    Args:
        value: file stem -> its parsed and merged document.
        place: folder of the rules, for messages.
    """
    faults: list[Fault] = []
    agents = named(value, "agents", "agent", Agent, place, faults)
    checks = named(value, "checks", "check", Check, place, faults)
    routes = named(value, "routes", "route", Route, place, faults)
    limits = single(value, "limits", Limits, place, faults)
    forge = single(value, "forge", Forge, place, faults)
    setup = single(value, "setup", SetupRules, place, faults)
    landing = single(value, "landing", LandingRules, place, faults)
    environments = single(value, "environments", EnvironmentRules, place, faults)
    status = single(value, "status", StatusRules, place, faults)
    verdicts = single(value, "verdicts", VerdictRules, place, faults)
    stops = named(value, "stops", "stop", StopRule, place, faults)
    notify = named(value, "notify", "notify", Channel, place, faults)
    runners = named(value, "runners", "runner", Runner, place, faults)
    faults += _table_faults(place, agents, checks, routes, stops, notify, runners, setup, environments)
    workflows = _workflows(value, f"{place}/{WORKFLOWS}", faults)
    faults += _route_faults(routes, value, f"{place}/routes.toml", faults)
    if faults or limits is None or forge is None or setup is None or status is None or landing is None:
        return None, faults
    assert environments is not None and verdicts is not None  # noqa: PT018, S101 - only missing where they have faults
    return Policy(
        agents=agents,
        checks=checks,
        routes=routes,
        limits=limits,
        forge=forge,
        workflows=workflows,
        prompts={name: str(text) for name, text in value.get(PROMPTS, {}).items()},
        status=status,
        stops=tuple(stops.values()),
        notify=notify,
        protected=stops[_PROTECTED].paths if _PROTECTED in stops else (),
        setup=setup,
        landing=landing,
        environments=environments,
        verdicts=verdicts,
        runners=runners,
    ), []


def _fits(agent: Agent, issue: Issue) -> bool:
    needed = agent.needed()
    return bool(needed) and needed == issue.options.keys()


def _documents(value: _Rules) -> dict[str, Mapping[str, Any]]:
    """Return the workflows by name, faulty or not."""
    return {DIRECT: {}, **value.get(WORKFLOWS, {})}


def _route_faults(routes: Mapping[str, Route], value: _Rules, file: str, before: Sequence[Fault]) -> list[Fault]:
    """Return the names in routes that nothing has; none while a route has other faults."""
    if any(fault.file == file for fault in before):
        return []
    faults: list[Fault] = []
    agents, checks = declared(value, "agents", "agent"), declared(value, "checks", "check")
    workflows = _documents(value)
    known_agents, known_checks, known_workflows = Known(agents), Known(checks), Known(workflows)
    for name, route in routes.items():
        asked = [("agent", agent) for agent in route.agent]
        asked += [("reviewer", route.reviewer)] if route.reviewer is not None else []
        for key, agent in asked:
            if agent not in agents:
                hint = known_agents.advice(agent, "agents")
                faults.append(Fault(file, f"route.{name}.{key}", f"unknown agent {quoted(agent)}{hint}"))
        if route.workflow not in workflows:
            hint = known_workflows.advice(route.workflow, "workflows")
            faults.append(Fault(file, f"route.{name}.workflow", f"unknown workflow {quoted(route.workflow)}{hint}"))
        for check in route.checks:
            if check not in checks:
                hint = known_checks.advice(check, "checks")
                faults.append(Fault(file, f"route.{name}.checks", f"unknown check {quoted(check)}{hint}"))
    return faults


def _runner_faults(
    runners: Mapping[str, Runner], checks: Mapping[str, Check], routes: Mapping[str, Route], place: str
) -> Iterator[Fault]:
    known = Known({*runners, *(label for runner in runners.values() for label in runner.labels)})
    asked = [("checks", "check", name, check.runner) for name, check in checks.items()]
    asked += [("routes", "route", name, route.runner) for name, route in routes.items()]
    for file, table, name, label in asked:
        if label and label not in known.names:
            advice = known.advice(label, "labels")
            text = f"no runner has the label {quoted(label)}{advice}"
            yield Fault(f"{place}/{file}.toml", f"{table}.{name}.runner", text)
    for name, runner in runners.items():
        for key, problem in runner_problems(runner):
            yield Fault(f"{place}/runners.toml", f"runner.{name}.{key}", problem)
        yield from (
            Fault(f"{place}/runners.toml", f"runner.{name}.env", line) for line in token_problems(name, runner.env)
        )


def _travel_faults(
    routes: Mapping[str, Route], setup: SetupRules | None, environments: EnvironmentRules | None, file: str
) -> Iterator[Fault]:
    """Yield routes whose agents work on other hosts although their files are not transferred."""
    kept = [
        *(["include in setup.toml"] if setup is not None and setup.include else []),
        *(["environments.toml"] if environments is not None and environments.environments else []),
    ]
    for name, route in routes.items():
        if route.runner and kept:
            yield Fault(
                file,
                f"route.{name}.runner",
                f"expected no runner together with {kept[0]}: its files are not transferred",
            )


def _table_faults(
    place: str,
    agents: Mapping[str, Agent],
    checks: Mapping[str, Check],
    routes: Mapping[str, Route],
    stops: Mapping[str, StopRule],
    channels: Mapping[str, Channel],
    runners: Mapping[str, Runner],
    setup: SetupRules | None,
    environments: EnvironmentRules | None,
) -> Iterator[Fault]:
    """Yield the faults that valid tables have: values that do not fit each other, and names that nothing has."""
    yield from _channel_faults(channels, f"{place}/notify.toml")
    yield from _stop_faults(stops, f"{place}/stops.toml")
    yield from _agent_faults(agents, f"{place}/agents.toml")
    yield from _check_faults(checks, f"{place}/checks.toml")
    yield from _runner_faults(runners, checks, routes, place)
    yield from _travel_faults(routes, setup, environments, f"{place}/routes.toml")


def _channel_faults(channels: Mapping[str, Channel], file: str) -> Iterator[Fault]:
    for name, channel in channels.items():
        for key, problem in channel_problems(channel):
            yield Fault(file, f"notify.{name}{f'.{key}' if key else ''}", problem)


def _stop_faults(stops: Mapping[str, StopRule], file: str) -> Iterator[Fault]:
    for name, stop in stops.items():
        for problem in stop_problems(stop):
            yield Fault(file, dotted(["stop", name]), problem)


def _check_faults(checks: Mapping[str, Check], file: str) -> Iterator[Fault]:
    for name, check in checks.items():
        yield from (Fault(file, f"check.{name}.env", problem) for problem in token_problems(name, check.env))


def _agent_faults(agents: Mapping[str, Agent], file: str) -> Iterator[Fault]:
    for name, agent in agents.items():
        yield from (Fault(file, f"agent.{name}", problem) for problem in agent_problems(agent))
        yield from (Fault(file, f"agent.{name}.env", problem) for problem in token_problems(name, agent.env))


def _workflows(value: _Rules, place: str, faults: list[Fault]) -> dict[str, Workflow]:
    """Read the workflows by name; agents that they name must exist."""
    agents, schemas = declared(value, "agents", "agent"), value.get(SCHEMAS, {})
    read: dict[str, Workflow] = {}
    known = Known(agents)
    for name, document in _documents(value).items():
        file = f"{place}/{name}.toml"
        workflow, wrong = read_workflow(name, document, file, schemas)
        faults += wrong
        if workflow is not None:
            read[name] = workflow
            for where, agent in workflow.agents():
                if agent not in agents:
                    faults.append(Fault(file, where, f"unknown agent {quoted(agent)}{known.advice(agent, 'agents')}"))
    return read


def declared(value: Mapping[str, Mapping[str, Any]], stem: str, word: str) -> Mapping[str, object]:
    """Return the tables ``[word.NAME]`` of one file, faulty or not, so a faulty one is not reported as unknown."""
    tables = value.get(stem, {}).get(word, {})
    return tables if isinstance(tables, Mapping) else {}


def named(
    value: Mapping[str, Mapping[str, Any]], stem: str, word: str, model: type[_M], place: str, faults: list[Fault]
) -> dict[str, _M]:
    """Read the tables ``[word.NAME]`` of one file."""
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
    read: dict[str, _M] = {}
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


def single(
    value: Mapping[str, Mapping[str, Any]], stem: str, model: type[_M], place: str, faults: list[Fault]
) -> _M | None:
    """Read a file that is a single table."""
    try:
        return model.model_validate(dict(value.get(stem, {})))
    except ValidationError as error:
        faults += model_faults(error, model, f"{place}/{stem}.toml", [])
        return None
