"""Histories of packages as milestones: one issue a release, whose agent turns the release before into it.

The agents are the shipped ones: `patch` applies the difference, `script` unpacks the release over the old one. What
must come out is known beforehand: git's tree id of the last release.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support import Repo

RELEASES = {
    "docutils": ("0.16", "0.17.1", "0.18.1", "0.19"),
    "jinja2": ("2.10.3", "2.11.3", "3.0.3", "3.1.2"),
    "six": ("1.13.0", "1.14.0", "1.15.0", "1.16.0"),
    "tabulate": ("0.8.7", "0.8.9", "0.8.10"),
}
"""Real packages from the package index; source distributions with and without tests, documentation and binary files."""

STOPS = [
    *("database-migration", "dependency-change", "judge-tampering", "large-diff", "licence-change", "protected-files"),
    *("secrets", "sensitive-code", "tests-weakened", "tool-shadowing", "tool-silenced", "unlookable"),
]
"""Rules that whole releases would hit; these are about trees, tests/features/test_history_judged.py is about rules."""

_PLAIN = {
    **os.environ,
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "R",
    "GIT_AUTHOR_EMAIL": "r@example.org",
    "GIT_COMMITTER_NAME": "R",
    "GIT_COMMITTER_EMAIL": "r@example.org",
}


@dataclass(frozen=True)
class Link:
    """A symbolic link in a made-up release."""

    target: str


@dataclass(frozen=True)
class Program:
    """An executable file in a made-up release."""

    content: bytes


File = bytes | Link | Program
Files = Mapping[str, File]


def fetch(release: tuple[str, str], folder: Path) -> Path:
    """The source distribution of a release, downloaded by pip unless it is there already; skips where it cannot be."""
    name, version = release
    home = folder / f"{name}-{version}"
    if not home.is_dir():
        partial = folder / f".{name}-{version}.{os.getpid()}"
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"),
                *("--no-build-isolation", "--dest", str(partial), f"{name}=={version}"),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )
        if done.returncode != 0:
            pytest.skip(f"pip cannot download {name} {version} here: {done.stderr.strip()[-200:]}")
        partial.rename(home)
    [found] = home.iterdir()
    return found


def unpack(archive: Path, folder: Path) -> None:
    """What the script agent does too: the release's files, without its outermost folder."""
    folder.mkdir(parents=True)
    subprocess.run(["tar", "-xf", str(archive), "--strip-components=1", "-C", str(folder)], check=True)


def pack(files: Files, archive: Path) -> Path:
    """A made-up release as an archive."""
    with tarfile.open(archive, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"release/{name}")
            data = b""
            if isinstance(content, Link):
                member.type, member.linkname = tarfile.SYMTYPE, content.target
            else:
                data = content.content if isinstance(content, Program) else content
                member.mode = 0o755 if isinstance(content, Program) else 0o644
                member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return archive


class Mirror:
    """A plain git repository with every release as a commit: what git itself makes of these files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._git("init", "-q", "-b", "main")
        (folder / ".git" / "info" / "attributes").write_text("* -text -filter -ident\n")

    def add(self, package: str, archive: Path) -> str:
        """Commit a release; returns the tree id of the package's folder."""
        target = self.folder / package
        if target.exists():
            shutil.rmtree(target)
        unpack(archive, target)
        (self.folder / ".git" / "index").unlink(missing_ok=True)  # it would take an equal size and time for no change
        self._git("add", "--all", "--force", "--", package)
        self._git("commit", "-q", "--allow-empty", "-m", f"{package} {archive.name}")
        return self._git("rev-parse", f"HEAD:{package}").decode().strip()

    def patch(self) -> bytes:
        """The difference that the last commit made."""
        return self._git("diff", "--binary", "--full-index", "--no-renames", "HEAD^", "HEAD")

    def has_parent(self) -> bool:
        """Whether there is a commit before the last."""
        return len(self._git("rev-list", "HEAD").split()) > 1

    def _git(self, *arguments: str) -> bytes:
        done = subprocess.run(["git", *arguments], cwd=self.folder, capture_output=True, env=_PLAIN, check=True)
        return done.stdout


def declare(
    repo: Repo, packages: Mapping[str, list[Path]], agents: Mapping[str, str], allow: Sequence[str] = STOPS
) -> dict[str, str]:
    """Write milestone `replay`; returns the expected tree id of each package.

    Args:
        repo: where to.
        packages: name -> archives of consecutive releases.
        agents: name -> ``patch`` or ``script``.
        allow: rules that do not hold.
    """
    expected: dict[str, str] = {}
    lines = ['[milestone]\nid = "replay"\ntitle = "Replay"\n']
    for name, archives in packages.items():
        mirror = Mirror(repo.path.parent / f"mirror-{name}")
        subprocess.run(["git", "commit", "-q", "--allow-empty", "-m", "-"], cwd=mirror.folder, env=_PLAIN, check=True)
        before: list[str] = []
        for number, archive in enumerate(archives, 1):
            expected[name] = mirror.add(name, archive)
            if agents[name] == "patch":
                path = repo.path / "milestones" / "replay" / f"{name}-{number}.patch"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(mirror.patch())
                agent = f'agent = "patch"\nwith = {{ file = "replay/{path.name}" }}'
            else:
                run = f"rm -rf {name} && mkdir {name} && tar -xf '{archive}' --strip-components=1 -C {name}"
                agent = f'agent = "script"\nwith = {{ run = {json.dumps(run)} }}'
            lines.append(
                f'[[issue]]\nid = "{name}-{number}"\ntitle = "{name} release {number}"\n'
                f'body = "Become {archive.name}."\nallow = {json.dumps(list(allow))}\n'
                f'needs = {json.dumps(before)}\nfiles = ["{name}/**"]\n{agent}\n'
            )
            before = [f"{name}-{number}"]
    repo.write("milestones/replay.toml", "\n".join(lines))
    return expected


def nasty_releases() -> list[Files]:
    """Four releases of a package that has everything a tree can have."""
    everything = bytes(range(256)) * 40
    one: Files = {
        "README": b"one\n",
        "all.bin": everything,
        "run.sh": Program(b"#!/bin/sh\necho one\n"),
        "plain.sh": b"#!/bin/sh\n",
        "latest": Link("README"),
        "dangling": Link("../nowhere/at/all"),
        "crlf.txt": b"one\r\ntwo\r\nmixed\nend\r\n",
        ".gitattributes": b"* text=auto eol=crlf\n*.bin diff=x merge=x\n*.txt ident export-subst\n",
        "ident.txt": b"$Id$ $Format:%H$\n",
        "na\u00efve-\u0444\u0430\u0439\u043b-\u6587.txt": "\u00e4\u00f6\n".encode(),
        'odd name\twith "quotes" and \\slash\\': b"odd\n",
        "folder/inner/deep.txt": b"deep\n",
        "becomes-folder": b"a file\n",
        "becomes-file/one": b"in a folder\n",
        "empty": b"",
        "no-newline": b"no newline at the end",
        "-dash": b"begins with a dash\n",
        "utf16.txt": "sixteen\n".encode("utf-16"),
    }
    two: Files = {
        **{
            name: content
            for name, content in one.items()
            if name not in {"README", "becomes-folder", "becomes-file/one"}
        },
        "READ\u00c9": b"one\n",
        "all.bin": everything[::-1] + b"\0",
        "run.sh": b"#!/bin/sh\necho one\n",
        "plain.sh": Program(b"#!/bin/sh\n"),
        "latest": Link("folder/inner"),
        "becomes-folder/inside": b"now a folder\n",
        "becomes-file": b"now a file\n",
        ".gitignore": b"*.log\n/build/\n!keep.log\n",
        "build/out.log": b"ignored by its own rules, released all the same\n",
        "keep.log": b"kept\n",
    }
    three: Files = {
        **{name: content for name, content in two.items() if not name.startswith(("folder/", "build/", "empty"))},
        "latest": b"a file where a link was\n",
        "crlf.txt": b"one\ntwo\nmixed\r\nend\n",
        "dangling": Link("\u0444"),
        "large.bin": bytes(i * 7 % 251 for i in range(400_000)),
        "no-newline": b"no newline at the end, still",
    }
    four: Files = {
        **one,
        "large.bin": b"\0" + bytes(three["large.bin"])[1:] if isinstance(three["large.bin"], bytes) else b"",
    }
    return [one, two, three, four]


def small_releases(name: str, count: int) -> list[Files]:
    """Releases of a package of a few small files, for tests that are about something else."""
    return [
        {
            "version": f"{number}\n".encode(),
            f"module_{number % 3}.py": f"NAME = {name!r}\nNUMBER = {number}\n".encode(),
            "log": "".join(f"release {past}\n" for past in range(number + 1)).encode(),
        }
        for number in range(count)
    ]
