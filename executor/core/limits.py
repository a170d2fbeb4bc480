"""The bounds of a run: `rules/limits.toml`."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StrictInt

from executor.core.deadline import clock_time
from executor.core.declaration import Seconds
from executor.core.money import SCOPES, Caps
from executor.core.profile import Rule

__all__ = ["Limits"]

_Amount = Annotated[float, Field(ge=0, strict=True, allow_inf_nan=False)]
_Count = Annotated[StrictInt, Field(ge=0)]


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
