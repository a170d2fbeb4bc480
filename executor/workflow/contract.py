"""The contract of a step: its required files, and everything that gates check in them. Pure.

The gate's criteria are the only source: the brief prints them, the agent's own check runs them, the gate scores them.

The command that an agent can run in a step to check whether its output folder satisfies the contract.

It runs inside the agent's sandbox and decides nothing: the gate reads the same files again with the same code.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from executor.config.schema import file_faults
from executor.git.trailers import one_line
from executor.model.workflow import TREE, Criterion, Gate
from executor.workflow.outputs import score

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from executor.state.steps import Flow, FlowStep

__all__ = [
    "Contract",
    "Expected",
    "contract_of",
    "contract_text",
    "main",
    "missing_from",
    "read_contract",
    "readable_paths",
    "write_self_check",
]


@dataclass(frozen=True, slots=True)
class Expected:
    """A file that a step hands in.

    Attributes:
        name: its name in the output folder, or ``tree:path``.
        criteria: gate id and criterion, for each criterion that reads the file.
        schema: the JSON Schema of the file; None without one.
        required: the step declares it as an output; otherwise only a gate reads it.
    """

    name: str
    criteria: tuple[tuple[str, Criterion], ...] = ()
    schema: Mapping[str, Any] | None = None
    required: bool = True


@dataclass(frozen=True, slots=True)
class Contract:
    """The contract of a step.

    Attributes:
        files: its files, in order.
        thresholds: gate id -> per cent at which it opens.
        weights: gate id -> total weight of its criteria.
        acceptance: the issue's acceptance criteria, for criteria that cover them.
        checks: what the gate of the phase asks of the checks, as one sentence; empty without that.
    """

    files: tuple[Expected, ...]
    thresholds: Mapping[str, int]
    weights: Mapping[str, int]
    acceptance: tuple[str, ...] = ()
    checks: str = ""

    def data(self) -> dict[str, object]:
        """Return the contract as JSON, for `read_contract`."""
        files = [
            {
                "name": item.name,
                "required": item.required,
                "schema": item.schema,
                "criteria": [[gate, rule.model_dump(mode="json")] for gate, rule in item.criteria],
            }
            for item in self.files
        ]
        return {
            "files": files,
            "thresholds": dict(self.thresholds),
            "weights": dict(self.weights),
            "acceptance": list(self.acceptance),
        }


def read_contract(data: Mapping[str, Any]) -> Contract:
    """Read a contract written by `Contract.data`."""
    files = tuple(
        Expected(
            item["name"],
            tuple((gate, Criterion.model_validate(rule)) for gate, rule in item["criteria"]),
            item["schema"],
            item["required"],
        )
        for item in data["files"]
    )
    return Contract(files, data["thresholds"], data["weights"], tuple(data["acceptance"]))


def contract_of(flow: Flow, step: FlowStep, acceptance: Sequence[str]) -> Contract:
    """Return the contract of a step; tree files that a gate reads belong to every step that keeps its tree."""
    outputs = step.step.outputs if step.step is not None else ()
    own = {name if name.startswith(TREE) else f"{step.id}/{name}": name for name in outputs}
    found: dict[str, list[tuple[str, Criterion]]] = {name: [] for name in outputs}
    gates: dict[str, Gate] = {}
    for item in flow.steps:
        for rule in item.gate.criteria.values() if item.gate is not None else ():
            shared = rule.file.startswith(TREE) and item.phase == step.phase and step.keeps_tree
            if rule.file in own or shared:
                found.setdefault(own.get(rule.file, rule.file), []).append((item.id, rule))
                gates[item.id] = item.gate  # type: ignore[assignment]  # it has criteria, so it is there
    schemas = flow.workflow.schemas_of(step.step) if step.step is not None else {}
    return Contract(
        tuple(Expected(name, tuple(rules), schemas.get(name), name in outputs) for name, rules in found.items()),
        {name: gate.threshold for name, gate in gates.items()},
        {name: sum(rule.weight for rule in gate.criteria.values()) for name, gate in gates.items()},
        tuple(acceptance),
        next((_checks_of(item.gate) for item in flow.steps if item.gate is not None and item.phase == step.phase), ""),
    )


def _checks_of(gate: Gate) -> str:
    if not gate.checks:
        return ""
    minimum = f", and they have to report a coverage of at least {gate.coverage} %" if gate.coverage else ""
    return f"The gate of this phase runs the checks and the acceptance commands of the issue{minimum}."


def missing_from(contract: Contract, read: Callable[[str], bytes | None]) -> list[str]:
    """Return everything that the files lack, as reported by the step's own check and its gate.

    Args:
        contract: the step's contract.
        read: returns the content of a file by name; None if it is missing.
    """
    texts: list[str] = []
    for item in contract.files:
        data = read(item.name)
        # A file that is missing or no JSON gets one sentence, not one for each of its criteria.
        faults = file_faults(item.name.removeprefix(TREE), data, item.schema) if item.required else []
        texts += faults
        if not faults:
            rules = {
                str(place): rule.model_copy(update={"file": item.name}) for place, (_, rule) in enumerate(item.criteria)
            }
            gate = Gate().model_copy(update={"criteria": rules})
            result = score(gate, {} if data is None else {item.name: data}, contract.acceptance)
            texts += [text for own in result.missing.values() for text in own]
    return list(dict.fromkeys(texts))


def contract_text(contract: Contract) -> str:
    """Format the contract as a part of a brief, in Markdown; empty if the step hands in no file."""
    parts = ["\n".join(_file_lines(contract, item)) for item in contract.files]
    return "\n\n".join([*parts, contract.checks] if contract.checks else parts)


def _file_lines(contract: Contract, item: Expected) -> Iterator[str]:
    place = item.name.removeprefix(TREE) if item.name.startswith(TREE) else f"$EXECUTOR_OUT/{item.name}"
    kind = "JSON" if item.name.endswith(".json") else "Markdown" if item.name.endswith(".md") else "a file"
    where = " in the tree" if item.name.startswith(TREE) else ""
    wanted = " It has to have:\n" if item.criteria else ""
    yield f"`{one_line(place)}`: {kind}{where}, not empty.{wanted}"
    for gate, rule in item.criteria:
        yield from _criterion_lines(rule, contract.acceptance)
        weight = contract.weights[gate]
        yield (
            f"- read by `{gate}`, which opens at {contract.thresholds[gate]} % of its criteria by weight; "
            f"this one has weight {rule.weight} of {weight}."
        )
    if item.schema is not None:
        text = json.dumps(item.schema, indent=1, ensure_ascii=False)
        yield f"\nIt has to match this JSON Schema:\n\n```json\n{text}\n```"


def _criterion_lines(rule: Criterion, acceptance: Sequence[str]) -> Iterator[str]:
    for key in rule.keys:
        yield f"- the key `{one_line(key)}`, not null and not an empty text; an empty list is a value"
    for section in rule.sections:
        yield f"- the heading `## {one_line(section)}` with text below it"
    if rule.contains:
        yield f"- text that matches the regular expression `{one_line(rule.contains)}`"
    if rule.covers and acceptance:
        yield "- every acceptance criterion, in these words:"
        for text in acceptance:
            yield f"  - {one_line(text)}"


# -I: a module in the working folder must not stand in for one of ours or of the standard library.
_SCRIPT = """#!/bin/sh
# Says what the files of this step still lack. Exit code 0: nothing.
exec {python} -I -c '
import sys
sys.path.insert(0, sys.argv[1])
from executor.workflow.contract import main
sys.exit(main(sys.argv[2]))
' {package} "${{EXECUTOR_IN}}/contract.json"
"""


def write_self_check(folder: Path, contract: Contract) -> None:
    """Write the command ``check`` and its contract into the folder of a step's inputs."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "contract.json").write_text(json.dumps(contract.data()), encoding="utf-8")
    script = _SCRIPT.format(python=shlex.quote(sys.executable), package=shlex.quote(str(_package().parent)))
    (folder / "check").write_text(script, encoding="utf-8")
    (folder / "check").chmod(0o755)


def readable_paths() -> tuple[Path, ...]:
    """Return folders that the command needs inside a sandbox: the interpreter, its packages, and this package."""
    paths = (Path(sys.prefix), Path(sys.base_prefix), _package())
    return tuple(path for path in dict.fromkeys(paths) if not path.is_relative_to("/usr"))


def main(contract_file: str) -> int:
    """Print each missing part on a line; returns 0 if there is none, else 1."""
    contract = read_contract(json.loads(Path(contract_file).read_bytes()))
    out = Path(os.environ["EXECUTOR_OUT"])

    def read(name: str) -> bytes | None:
        path = Path(name.removeprefix(TREE)) if name.startswith(TREE) else out / name
        return path.read_bytes() if path.is_file() else None

    missing = missing_from(contract, read)
    sys.stdout.write("".join(f"{text}\n" for text in missing) or "nothing is missing\n")
    return 1 if missing else 0


def _package() -> Path:
    return Path(__file__).resolve().parents[1]
