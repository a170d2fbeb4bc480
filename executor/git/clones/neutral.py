"""What a git directory of our own has to know to read and write objects as the user's repository does.

Nothing else of the user's configuration is taken over: the rest may run programs or change what lands.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from executor.git.command import Git

if TYPE_CHECKING:
    from pathlib import Path

    from executor.git.repository import Repository

__all__ = ["copy_into", "follow", "neutral_config", "replacements"]

_FOLLOWED = ("shallow", "info/grafts")
"""Files that say where history ends or continues; a git directory of ours follows the user's as they are now."""


@cache
def neutral_config(repository: Repository) -> str:
    """A git configuration that says how objects are named and whom their files are shared with; asked once."""
    git = Git(repository.common_dir, repository.common_dir)
    form = git.run("rev-parse", "--show-object-format").decode().strip()
    code, output, _ = git.call("config", "--get", "core.sharedRepository")
    shared = output.decode("utf-8", "replace").strip() if code == 0 else ""
    lines = ["[core]", f"\trepositoryformatversion = {0 if form == 'sha1' else 1}", "\tbare = false"]
    if shared.isalnum():
        lines.append(f"\tsharedRepository = {shared}")
    if form != "sha1":
        lines += ["[extensions]", f"\tobjectFormat = {form}"]
    return "\n".join(lines) + "\n"


def replacements(repository: Repository) -> bytes:
    """The user's replace refs as a file of packed refs; empty when there are none."""
    git = Git(repository.common_dir, repository.common_dir)
    listed = git.run("for-each-ref", "--format=%(objectname) %(refname)", "--", "refs/replace/")
    return b"# pack-refs with: peeled fully-peeled sorted \n" + listed if listed else b""


def follow(repository: Repository, git_dir: Path) -> None:
    """Make a git directory of ours follow the user's files of `_FOLLOWED`, those that are not there yet included."""
    for name in _FOLLOWED:
        link, target = git_dir / name, repository.common_dir / name
        if not (link.is_symlink() and link.readlink() == target):
            link.unlink(missing_ok=True)
            link.symlink_to(target)


def copy_into(repository: Repository, git_dir: Path) -> None:
    """The same as copies, for a git directory that the user's cannot be seen from."""
    for name in _FOLLOWED:
        source = repository.common_dir / name
        if source.is_file():
            (git_dir / name).parent.mkdir(exist_ok=True)
            (git_dir / name).write_bytes(source.read_bytes())
    packed = replacements(repository)
    if packed:
        (git_dir / "packed-refs").write_bytes(packed)
