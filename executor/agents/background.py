"""Waits, inside a sandbox, for what an agent left behind when it ended: the sandbox ends with its first process. Pure.

Outside a sandbox the supervisor does the same (`linger` of `process.runner.Command`).
"""

from __future__ import annotations

__all__ = ["waiting_for_background"]

_LOOKS_A_SECOND = 5
_SCRIPT = """
"$@" || exit $?
quiet=0 last=
while [ $quiet -lt LOOKS ]; do
    seen=
    for stat in /proc/[0-9]*/stat; do
        pid=${stat#/proc/}
        pid=${pid%/stat}
        case $pid in 1 | $$) continue ;; esac
        { read -r line < "$stat"; } 2> /dev/null || continue
        set -- ${line##*) }
        [ "$1" = Z ] || seen="$seen $pid ${12} ${13}"
    done
    [ -n "$seen" ] || break
    if [ "$seen" = "$last" ]; then quiet=$((quiet + 1)); else quiet=0 last=$seen; fi
    sleep PAUSE
done
"""


def waiting_for_background(argv: tuple[str, ...], quiet_s: float) -> tuple[str, ...]:
    """A command that ends when `argv` and all other processes of its process namespace have ended.

    Processes that use no processor time for `quiet_s` seconds are not waited for, and none is when `argv` fails.
    Its exit code is that of `argv`.
    """
    if not quiet_s:
        return argv
    script = _SCRIPT.replace("LOOKS", str(max(1, round(quiet_s * _LOOKS_A_SECOND))))
    return ("sh", "-c", script.replace("PAUSE", str(1 / _LOOKS_A_SECOND)), "sh", *argv)
