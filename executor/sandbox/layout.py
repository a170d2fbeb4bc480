"""The paths that are visible inside the sandbox, as options of bwrap.

Nothing that an agent can write affects visibility: contents of the tree and of other writable folders are not read.

The type of the file system of a path, as the kernel reports it for this process.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from executor.errors import ExecutorError
from executor.process.runner import sane_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence


__all__ = [
    "KEYS",
    "absolute",
    "file_system_in",
    "file_system_of",
    "homes",
    "layout",
    "object_folders",
    "private_folders",
    "program_folders",
    "refuse_links_out",
    "system_folders",
    "top_links",
    "without_secrets",
]


KEYS = (Path("/etc/ssl/private"), Path("/etc/pki/tls/private"))  # root can read them without any capability
_HOME = Path("/home/sandbox")
_LINKS = 16  # links in a chain; the kernel itself stops at 40
_TOP = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_FOLDERS = ("/usr", "/opt", "/nix/store", "/gnu/store")
_OWN = ("/", "/proc", "/dev", "/etc", *_FOLDERS, *map("/".__add__, _TOP))  # nothing of a profile goes here
_KERNEL = ("acpi", "bus", "driver", "fs", "irq", "mtrr", "scsi", "sys", "sysrq-trigger")
_ETC = (
    *("alternatives", "bash.bashrc", "bash_completion.d", "ca-certificates", "ca-certificates.conf", "crypto-policies"),
    *("debian_version", "fonts", "gai.conf", "group", "host.conf", "hosts", "inputrc", "ld.so.cache", "ld.so.conf"),
    *("ld.so.conf.d", "locale.alias", "locale.conf", "localtime", "login.defs", "magic", "mime.types", "networks"),
    *("nsswitch.conf", "os-release", "passwd", "pki", "profile", "profile.d", "protocols", "python3", "python3.11"),
    *("resolv.conf", "services", "shells", "ssl", "terminfo", "timezone"),
)


def layout(
    binds: Mapping[Path, bool], private: Iterable[Path], hidden: Iterable[Path], tree: Path | None = None
) -> list[str]:
    """Return the options of bwrap that build the file system: outer folders first, so that inner ones cover them.

    Args:
        binds: absolute visible paths, and whether they are writable.
        private: empty folders in memory.
        hidden: paths to remove from the visible folders, matched by real path under any name.
        tree: the one of `binds` that is visible even if it is itself hidden.
    """
    secrets = {_real(path) for path in hidden}
    places: dict[Path, list[str]] = {path: ["--tmpfs", str(path)] for path in private}
    sealed: list[str] = []
    for path, write in binds.items():
        real = _real(path)
        if real in secrets and path != tree:
            continue
        places[path] = ["--bind" if write else "--ro-bind", str(path), str(path)]
        for secret in secrets:
            place = path / secret.relative_to(real) if real in secret.parents else None
            if place is None or place in binds or not _there(secret):
                continue
            if secret.is_dir():
                places[place] = ["--tmpfs", str(place)]
                sealed += ["--remount-ro", str(place)]
            else:
                places[place] = ["--ro-bind", "/dev/null", str(place)]
    fixed = ["--proc", "/proc", *_sealed_kernel(), "--dev", "/dev"]
    ordered = sorted(places, key=lambda path: (len(path.parts), str(path)))
    return [*fixed, *(option for path in ordered for option in places[path]), *sealed]


def object_folders(objects: Path) -> tuple[Path, ...]:
    """Return a trusted repository's objects folder and its alternates. Never call it for an agent's repository."""
    found: dict[Path, None] = {}
    waiting = [absolute(objects)]
    while waiting:
        folder = waiting.pop()
        if folder in found or not folder.is_dir():
            continue
        found[folder] = None
        alternates = folder / "info" / "alternates"
        lines = os.fsdecode(alternates.read_bytes()).splitlines() if alternates.is_file() else []
        waiting += [absolute(folder / line) for line in lines if line and not line.startswith("#")]
    return tuple(found)


def program_folders(command: Sequence[str], env: Mapping[str, str], distrusted: Sequence[Path] = ()) -> list[Path]:
    """Return the non-system folders that the program, PATH and the Python variables of `env` refer to.

    A Python installation or virtual environment is included as a whole. The content of `distrusted` is not read.
    """
    path = sane_path(env.get("PATH", ""))
    starts = [Path(part) for part in path.split(os.pathsep) if part]
    starts += [Path(env[key], "bin") for key in ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONHOME") if env.get(key)]
    programs = [folder / name for folder in starts for name in ("python", "python3")]
    program = shutil.which(command[0], path=path) if command and "/" not in command[0] else command[0]
    if program is not None and program.startswith("/"):
        programs.append(Path(program))
    found: dict[Path, None] = {}
    for folder in starts:
        found |= dict.fromkeys(_installation(absolute(folder)))
    for item in programs:
        found |= dict.fromkeys(_reached(absolute(item), distrusted))
    return [
        path
        for path in found
        if _there(path) and not inside(path, map(Path, _OWN[1:])) and not inside(path, distrusted)
    ]


def _installation(folder: Path) -> tuple[Path, ...]:
    """Return the paths that a program in this folder needs: the whole installation if it is of a known kind."""
    prefix = folder.parent
    modules = [parent for parent in (folder, *folder.parents) if parent.name == "node_modules"]
    if modules:
        return (modules[-1],)
    if folder.name == "bin":
        if _is_python(prefix):
            return (prefix,)
        if _there(prefix / "lib" / "node_modules"):
            return (folder, prefix / "lib" / "node_modules")
    return (folder,)


def _is_python(prefix: Path) -> bool:
    marks = (prefix / "pyvenv.cfg", prefix / "conda-meta", *prefix.glob("lib/python3*/os.py"))
    return any(map(_there, marks))


def _reached(program: Path, distrusted: Sequence[Path], *, script: bool = True) -> Iterator[Path]:
    """Yield the installations of a program, of its link target, and of its interpreter."""
    for _ in range(_LINKS):
        if inside(program, distrusted) or inside(_real(program.parent), distrusted):
            return
        if not os.path.lexists(program):
            return
        yield from _installation(program.parent)
        if not program.is_symlink():
            break
        program = absolute(_real(program.parent) / program.readlink())
    if script and os.access(program, os.R_OK) and program.is_file():
        with program.open("rb") as file:
            line = file.readline(256)
        words = os.fsdecode(line[2:]).split() if line.startswith(b"#!") else []
        if words and words[0].startswith("/"):
            yield from _reached(absolute(Path(words[0])), distrusted, script=False)


def without_secrets(
    found: Sequence[Path], homes: Sequence[Path], given: Sequence[Path], hidden: Sequence[Path]
) -> list[Path]:
    """Filter paths that may be visible by default: no home or its parent, and of hidden ones only environments."""
    secrets = [_real(path) for path in hidden]
    kept = []
    for path in found:
        real = _real(path)
        around = any(inside(other, [real]) for other in (*homes, *given))
        if not around and (not inside(real, secrets) or _there(path / "pyvenv.cfg")):
            kept.append(path)
    return kept


def private_folders(env: Mapping[str, str], given: Sequence[Path]) -> tuple[list[Path], dict[str, str]]:
    """Return the empty folders in memory, and the required changes of the environment."""
    private = [Path("/tmp"), Path("/var/tmp")]  # noqa: S108  (they are mount points, nothing is written here)
    changed = {}
    for key, default in (("HOME", _HOME), ("TMPDIR", None)):
        value = Path(env.get(key, ""))
        if value.is_absolute() and inside(value, given):
            continue
        usable = value.is_absolute() and not any(inside(value, [Path(own)]) for own in _OWN[1:]) and value != Path("/")
        if usable:
            private.append(absolute(value))
        elif default is not None:
            private.append(default)
            changed[key] = str(default)
    return private, changed


def refuse_links_out(paths: Iterable[Path], writable: Sequence[Path]) -> None:
    """Refuse a path inside a writable folder that is now a link to elsewhere: an agent would choose what is visible.

    Raises:
        ExecutorError: there is such a path.
    """
    for path in paths:
        for folder in writable:
            if path.is_relative_to(folder) and not inside(_real(path), [_real(folder)]):
                raise ExecutorError(f"{path} leads out of {folder}; it cannot be shown in the sandbox")


def homes(env: Mapping[str, str]) -> list[Path]:
    """Return the real paths of the home of `env` and of the user."""
    own = os.path.expanduser("~")  # noqa: PTH111  (not an exception where there is none)
    return [_real(path) for path in (env.get("HOME", ""), own) if path.startswith("/")]


def system_folders() -> Iterator[Path]:
    """Yield paths that are visible read-only in every sandbox."""
    for name in _TOP:
        if Path("/", name).is_dir() and not Path("/", name).is_symlink():
            yield Path("/", name)
    yield from (Path(folder) for folder in _FOLDERS if Path(folder).is_dir())
    yield from (Path("/etc", name) for name in _ETC if Path("/etc", name).exists())


def top_links() -> Iterator[str]:
    """Yield the options for /bin and others if they are links into /usr."""
    for name in _TOP:
        if Path("/", name).is_symlink():
            yield from ("--symlink", str(Path("/", name).readlink()), f"/{name}")


def _sealed_kernel() -> Iterator[str]:
    """Yield options that protect the parts of /proc that root can write; bwrap 0.8 keeps /proc/sys open."""
    for name in _KERNEL:
        if _there(Path("/proc", name)):
            yield from ("--ro-bind", f"/proc/{name}", f"/proc/{name}")


def absolute(path: Path) -> Path:
    """Return an absolute path without `..`; it never starts with a hyphen."""
    return Path(os.path.abspath(path))  # noqa: PTH100  (a link in it stays what it is called)


def inside(path: Path, folders: Iterable[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def _real(path: Path | str) -> Path:
    return Path(os.path.realpath(path))


def _there(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110  (False, and not an exception, where it cannot be seen)


_MOUNT = re.compile(r"(?m)^mnt_id:\s*([0-9]+)$")


def file_system_of(folder: Path) -> str:
    """Return the type of a folder's file system, for example ``nfs4``; empty if the system does not report it."""
    try:
        descriptor = os.open(folder, os.O_PATH | os.O_CLOEXEC)
        try:
            found = Path(f"/proc/self/fdinfo/{descriptor}").read_text(encoding="ascii")
        finally:
            os.close(descriptor)
        table = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    mount = _MOUNT.search(found)
    return file_system_in(table, mount[1]) if mount is not None else ""


def file_system_in(table: str, mount: str) -> str:
    """Return the type of a mount by its number in the text of /proc/self/mountinfo; see proc_pid_mountinfo(5)."""
    for line in table.splitlines():
        number, _, rest = line.partition(" ")
        if number == mount:
            return rest.partition(" - ")[2].partition(" ")[0]
    return ""
