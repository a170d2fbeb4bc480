"""The rules that stop a change: `[stop.ID]` of `rules/stops.toml`."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StrictBool, StrictInt

from executor.core.profile import Rule, regex

__all__ = ["StopRule", "stop_problems"]


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


def stop_problems(rule: StopRule) -> list[str]:
    """What is wrong with the rule as a whole."""
    if rule.conditional:
        return []
    return ["expected a condition: paths, content, max_files, max_lines, builtin or run"]
