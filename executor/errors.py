"""Every situation in which the executor cannot continue, each with its exit code.

They have one root, so a command can turn any of them into one clear message. The docstring of a class describes the
situation; the message of an instance has the expectation, the finding, the affected part and the next step.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "BusyError",
    "DeclarationError",
    "ExecutorError",
    "Fault",
    "ForgeRefusedError",
    "ForgeUnavailableError",
    "GitError",
    "GitKilledError",
    "InterruptedRunError",
    "PersonNeededError",
    "RepositoryError",
    "StateBrokenError",
    "StateFullError",
    "TakenOverError",
    "UsageError",
]


class ExecutorError(Exception):
    """The executor cannot continue."""

    exit_code = 2


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One fault of a declaration: its place and its problem.

    Attributes:
        file: path as the user would write it, for example ``milestones/m4.toml``.
        key: dotted position inside the file, for example ``issue[2].needs``; empty for the whole file.
        problem: expectation, finding, affected part and next step, in one line.
    """

    file: str
    key: str
    problem: str

    def __str__(self) -> str:
        place = f"{self.file}: {self.key}" if self.key else self.file
        return f"{place}: {self.problem}"


class DeclarationError(ExecutorError):
    """Declarations or rules are invalid; nothing has been changed. Carries every fault of every file."""

    exit_code = 3

    def __init__(self, faults: list[Fault] | tuple[Fault, ...]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class UsageError(ExecutorError):
    """The command line names something that does not exist, or contradicts itself."""

    exit_code = 3


class RepositoryError(ExecutorError):
    """The executor cannot work in this git repository (none, bare, empty, no base branch)."""

    exit_code = 3


class GitError(ExecutorError):
    """A required git command failed."""


class PersonNeededError(ExecutorError):
    """Nothing failed, but a person must act first."""

    exit_code = 4


class UnsignedError(PersonNeededError):
    """A required signature of a commit or tag cannot be made: nothing more of its milestone lands in this run."""


class GitKilledError(ExecutorError):
    """A git command was killed before it ended, so its result is unknown."""


class BusyError(ExecutorError):
    """Another run holds a needed lock; try again later."""

    exit_code = 75


class TakenOverError(BusyError):
    """Another machine has taken a milestone over: this run moves nothing more."""


class ForgeUnavailableError(ExecutorError):
    """The forge or the remote is unreachable now; nothing was lost, try again later."""

    exit_code = 75


class ForgeRefusedError(ExecutorError):
    """The forge or the remote refuses permanently: no token, no permission, no such repository or branch."""

    exit_code = 4


class StateFullError(ExecutorError):
    """The disk is full; nothing was lost, try again with more space."""

    exit_code = 75


class StateBrokenError(ExecutorError):
    """The journal or another part of the state store cannot be read or written."""

    exit_code = 74


class InterruptedRunError(ExecutorError):
    """A signal ended the run. Carries the conventional exit code of that signal (130, 143, 129)."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
