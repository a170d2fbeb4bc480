"""How the child of a keeper becomes the command: descriptors, folder, program; or why it cannot."""

from __future__ import annotations

import errno
import os
import signal
import stat

from executor.adapters.supervisor.wire import CHUNK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


def become_command(request: dict[str, Any], stdin: int, output: int, faults: int) -> NoReturn:
    """In the child: turn into the command, or tell the keeper in words why that is impossible."""
    try:
        os.setsid()
        for source, target in ((stdin, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.chdir(request["cwd"])
        execute(request["argv"], request["env"])
    except OSError as error:
        problem = f"{error.filename or request['argv'][0]}: {error.strerror}"
    except Exception as error:  # noqa: BLE001 - whatever it is, the keeper has to hear of it
        problem = f"{request['argv'][:1]}: {error}"
    finally:
        os.write(faults, problem.encode("utf-8", "surrogateescape")[:CHUNK])
        os._exit(127)


def execute(argv: list[str], env: dict[str, str]) -> None:
    """Like execvpe(3) with the PATH of `env`, but never from an empty or relative part of it."""
    name = argv[0]
    if "/" in name:
        os.execve(name, argv, env)  # noqa: S606 - no shell is meant
    refusal = OSError(errno.ENOENT, "command not found", name)
    for folder in env.get("PATH", os.defpath).split(":"):
        if folder.startswith("/"):
            path = f"{folder}/{name}"
            try:
                os.execve(path, argv, env)  # noqa: S606 - as above
            except (FileNotFoundError, NotADirectoryError):
                if os.path.isfile(path):
                    refusal = OSError(errno.ENOENT, "its interpreter is missing", path)
            except PermissionError as error:
                refusal = error
    raise refusal


def open_input(path: str) -> int:
    """Open a regular file or /dev/null; a FIFO would block for ever."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode) and path != os.devnull:
        raise OSError(errno.EINVAL, "not a regular file", path)
    os.set_blocking(fd, True)
    return fd
