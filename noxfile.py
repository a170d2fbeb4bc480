"""Sessions of CI: `nox -l` lists them, `nox -s tests-3.13` runs one. Needs nox and uv; uv brings the interpreters."""

from __future__ import annotations

import nox

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "uv"
nox.options.sessions = ["lint", "tests"]

VERSIONS = ["3.11", "3.12", "3.13", "3.14"]
LOWEST = "3.11"


@nox.session(python=VERSIONS)
def tests(session: nox.Session) -> None:
    """The suite with the newest dependencies."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "pytest", "-q", "-n", "3", *session.posargs)


@nox.session(python=LOWEST)
def lowest(session: nox.Session) -> None:
    """The suite with the oldest dependencies that pyproject.toml allows."""
    session.install("--resolution", "lowest-direct", "-e", ".[test]")
    session.run("python", "-m", "pytest", "-q", "-n", "3", *session.posargs)


@nox.session(python="3.13")
def lint(session: nox.Session) -> None:
    """Style, types and structure."""
    session.install("-e", ".[test]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("python", "-m", "tests.house")


@nox.session(python="3.12")  # later versions warn of sqlite connections that coverage leaves open
def coverage(session: nox.Session) -> None:
    """Branch coverage of the engine, model, state and status packages; below 95 % it fails."""
    session.install("-e", ".[test]")
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", "-q", "-n", "3", *session.posargs)
    session.run("coverage", "combine", "-q")
    session.run("coverage", "report")


@nox.session(python="3.13")
def changelog(session: nox.Session) -> None:
    """A branch has a fragment in changelog.d/, and the fragments make a section."""
    session.install("towncrier>=24.8")
    session.run("towncrier", "check", "--compare-with", "origin/main")
    session.run("towncrier", "build", "--draft", "--version", "next")


@nox.session(python="3.13")
def docs(session: nox.Session) -> None:
    """The site, strictly: a dead link is an error."""
    session.install("-e", ".[docs]")
    session.run("python", "-m", "mkdocs", "build", "--strict")
