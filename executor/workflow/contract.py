"""The contract of a step: the files that it hands in, and everything that gates look for in them. Pure.

The gate's criteria are the one source: the brief prints them, the agent's own check runs them, the gate scores them.

The command that an agent in a step can run: does what lies in its output folder satisfy the step's contract?

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

from executor.git.trailers import one_line
from executor.model.schema import file_faults
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
    """One file that a step hands in.

    Attributes:
        name: its name in the output folder, or ``tree:path``.
        criteria: the gate's id and the criterion, for each one that reads the file.
        schema: the JSON Schema that the file has to match; None when none is named.
        required: whether the step declares it as an output; else only a gate reads it.
    """

    name: str
    criteria: tuple[tuple[str, Criterion], ...] = ()
    schema: Mapping[str, Any] | None = None
    required: bool = True


@dataclass(frozen=True, slots=True)
class Contract:
    """The contract of a step.

    Attributes:
        files: in their order.
        thresholds: gate's id -> per cent at which it opens.
        weights: gate's id -> the weight of all its criteria together.
        acceptance: the issue's acceptance criteria, for criteria that cover them.
    """

    files: tuple[Expected, ...]
    thresholds: Mapping[str, int]
    weights: Mapping[str, int]
    acceptance: tuple[str, ...] = ()

    def data(self) -> dict[str, object]:
        """As JSON, for `read_contract`."""
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
    """The contract that `Contract.data` wrote."""
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
    """What a step of an issue hands in; files of the tree that a gate reads concern every step that keeps its tree."""
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
    )


def missing_from(contract: Contract, read: Callable[[str], bytes | None]) -> list[str]:
    """Everything that the files lack, as the step's own check and its gate say it.

    Args:
        contract: the step's contract.
        read: content of a file by its name; None when it is missing.
    """
    texts: list[str] = []
    for item in contract.files:
        data = read(item.name)
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
    """The contract as a part of a brief, in Markdown; empty when the step hands in no file."""
    return "\n\n".join("\n".join(_file_lines(contract, item)) for item in contract.files)


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
    """Write the command ``check`` and what it checks into the folder of a step's inputs."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "contract.json").write_text(json.dumps(contract.data()), encoding="utf-8")
    script = _SCRIPT.format(python=shlex.quote(sys.executable), package=shlex.quote(str(_package().parent)))
    (folder / "check").write_text(script, encoding="utf-8")
    (folder / "check").chmod(0o755)


def readable_paths() -> tuple[Path, ...]:
    """Folders that the command needs inside a sandbox: the interpreter, its packages, and this package."""
    paths = (Path(sys.prefix), Path(sys.base_prefix), _package())
    return tuple(path for path in dict.fromkeys(paths) if not path.is_relative_to("/usr"))


def main(contract_file: str) -> int:
    """Print what is missing, one line each; 0 when nothing is, else 1."""
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
