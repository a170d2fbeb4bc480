"""How often stop rules stop ordinary work: `python -m benchmarks stops REPOSITORY RANGE`."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from executor.config.load_rules import load_policy
from executor.git.diff import parse_diff
from executor.model.paths import is_documentation, is_test, matches, words_of
from executor.stop_rules.content import find_secrets
from executor.stop_rules.evaluate import stops_of
from executor.stop_rules.view import View

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from executor.model.rules import StopRule
    from executor.stop_rules.evaluate import Hit

__all__ = ["Share", "is_about", "main", "share_of"]

_NO_RULES = Path("no-rules-here")
_WEIGHTY = frozenset({"dependency-change", "licence-change", "database-migration"})
"""A commit that one of these stops is no ordinary change: the stop is what the rule is for."""
_ORDERS = "agent-steering"
_ABOUT = "sensitive-code"
"""A rule whose `names` and `paths` say what its subject is."""
_CI = (
    ".github/**",
    ".gitlab-ci.yml",
    ".gitlab/**",
    ".circleci/**",
    "azure-pipelines*.yml",
    ".travis.yml",
    "appveyor.yml",
    ".pre-commit-config.yaml",
    ".husky/**",
    "CODEOWNERS",
    "renovate.json*",
)
_RECIPES = {"noxfile.py": b"nox", "tox.ini": b"tox"}
"""What CI runs, if a file of it names the tool."""
_EXAMPLES = 3
_LARGEST = 20_000_000


@dataclass
class Share:
    """What became of the commits of a history.

    Attributes:
        commits: all that were looked at.
        ordinary: those without a change of dependencies, schema, licence or CI.
        hard: ordinary ones that wait for a person.
        soft: ordinary ones that are skipped for their size alone.
        weighty: ordinary ones that say themselves that they are about what a person decides: see `is_about`.
        weighty_hard: those of them that wait for a person.
        rules: rule -> ordinary commits that it stops.
        examples: rule -> some of them, with the first line that it names.
    """

    commits: int = 0
    ordinary: int = 0
    hard: int = 0
    soft: int = 0
    weighty: int = 0
    weighty_hard: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    examples: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    @property
    def percent(self) -> float:
        """Share of the ordinary commits that wait for a person."""
        return 100 * self.hard / self.ordinary if self.ordinary else 0.0

    @property
    def percent_of_others(self) -> float:
        """Share of the ordinary commits without weighty ones that wait for a person."""
        others = self.ordinary - self.weighty
        return 100 * (self.hard - self.weighty_hard) / others if others else 0.0


def share_of(repository: Path, span: str, most: int = 0) -> Share:
    """All rules over the commits of a span, merges left out.

    Args:
        repository: a git directory or checkout.
        span: as `git rev-list` takes it: ``v1.0..v2.0``, ``HEAD``.
        most: newest commits that are looked at; 0 for all.
    """
    limit = [f"--max-count={most}"] if most else []
    commits = _git(repository, "rev-list", "--no-merges", *limit, span).decode().split()
    rules = [rule for rule in load_policy(_NO_RULES).stops if rule.enabled]
    share, seen = Share(), set[str]()
    for commit in commits:
        change = _patch_id(repository, commit)
        if change in seen:
            continue
        seen |= {change} - {""}
        hits = _hits(repository, commit, rules)
        if hits is not None:
            _count(share, repository, commit, hits, rules)
    return share


def main(arguments: Sequence[str]) -> None:
    """Print the share stopped, rule by rule, with examples."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks stops", description=__doc__)
    parser.add_argument("repository", type=Path)
    parser.add_argument("range", help="as git rev-list takes it, for example v1.0..v2.0")
    parser.add_argument("--most", type=int, default=0, help="look at so many of the newest commits only")
    parser.add_argument("--examples", type=int, default=_EXAMPLES)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    options = parser.parse_args(arguments)
    share = share_of(options.repository, options.range, options.most)
    print(
        f"{share.commits} commits, {share.ordinary} ordinary; of these {share.hard} wait for a person "
        f"({share.percent:.1f} %), {share.soft} more are skipped for their size\n"
        f"{share.weighty} of the ordinary ones say that they are about log-ins, permissions, money or agents: "
        f"{share.weighty_hard} of them wait, and {share.hard - share.weighty_hard} of the other "
        f"{share.ordinary - share.weighty} ({share.percent_of_others:.1f} %)"
    )
    for rule, count in share.rules.most_common():
        print(f"\n{rule}: {count} ({100 * count / max(share.ordinary, 1):.1f} %)")
        for example in share.examples[rule][: options.examples]:
            print(f"  {example}")
    if options.json:
        figures = {"commits": share.commits, "ordinary": share.ordinary, "hard": share.hard, "soft": share.soft}
        figures |= {"weighty": share.weighty, "weighty_hard": share.weighty_hard}
        options.json.write_text(json.dumps({**figures, "rules": dict(share.rules)}, indent=1))


def _patch_id(repository: Path, commit: str) -> str:
    """Return the identity of a change: one that is in a history twice, on two branches, counts once."""
    try:
        shown = _git(repository, "diff-tree", "-p", "--root", commit)
    except subprocess.CalledProcessError:  # the repository lacks one of its files
        return ""
    done = subprocess.run(["git", "patch-id", "--stable"], input=shown, capture_output=True, check=True)
    return done.stdout.decode().partition(" ")[0]


def is_about(ids: Collection[str], subject: str, paths: Sequence[str], rule: StopRule) -> bool:
    """Return whether a commit says itself that it is about log-ins, permissions or money, or gives orders to agents.

    It does if its subject has one of the words of `rules/stops/sensitive-code.toml`, if a file of the product that it
    changes has one in its path, or if it changes a file of `rules/stops/agent-steering.toml`. The lines of the change
    do not count, and neither does it matter whether a rule stops it.
    """
    if _ORDERS in ids:
        return True
    names, further = rule.lists.get("names", ()), rule.lists.get("paths", ())
    places = [path for path in paths if not is_test(path) and not is_documentation(path)]
    return _names(subject, names) or any(
        _names(part, (*names, *further)) for path in places for part in path.rpartition(".")[0].split("/")
    )


def _names(text: str, words: Sequence[str]) -> bool:
    spaced = f" {' '.join(words_of(text))} "
    return any(f" {word} " in spaced for word in words)


def _count(share: Share, repository: Path, commit: str, hits: Sequence[Hit], rules: Sequence[StopRule]) -> None:
    share.commits += 1
    ids = {hit.rule for hit in hits}
    paths = _git(repository, "diff-tree", "-r", "--no-commit-id", "--name-only", "-z", f"{commit}^", commit)
    names = paths.decode("utf-8", "replace").split("\0")
    if ids & _WEIGHTY or any(matches(path, _CI) for path in names) or _is_recipe_of_ci(repository, commit, names):
        return
    share.ordinary += 1
    levels = {hit.level for hit in hits}
    share.hard += "hard" in levels
    share.soft += levels == {"soft"}
    subject = _git(repository, "log", "-1", "--format=%h %s", commit).decode("utf-8", "replace").strip()
    if is_about(ids, subject.partition(" ")[2], names, next(rule for rule in rules if rule.id == _ABOUT)):
        share.weighty += 1
        share.weighty_hard += "hard" in levels
    for hit in hits:
        share.rules[hit.rule] += 1
        share.examples[hit.rule].append(f"{subject[:80]}: {hit.lines[0][:120] if hit.lines else ''}")


def _is_recipe_of_ci(repository: Path, commit: str, names: Sequence[str]) -> bool:
    tools = [tool for name, tool in _RECIPES.items() if name in names]
    if not tools:
        return False
    content = _contents(repository, commit)
    files = (
        _git(repository, "ls-tree", "-r", "-z", "--name-only", commit).decode("utf-8", "surrogateescape").split("\0")
    )
    texts = [content(path, True) or b"" for path in files if matches(path, _CI)]  # noqa: FBT003  (the shape of the rules)
    return any(re.search(rb"\b" + tool + rb"\b", text) for tool in tools for text in texts)


def _hits(repository: Path, commit: str, rules: Sequence[StopRule]) -> list[Hit] | None:
    """The rules that stop a commit; None for the first one of a history, and for one of unusual size."""
    try:
        diff = _git(
            repository, "diff-tree", "-r", "-p", "--full-index", "--no-renames", "--no-ext-diff", f"{commit}^", commit
        )
    except subprocess.CalledProcessError:
        return None
    if len(diff) > _LARGEST:
        return None
    base = frozenset(
        _git(repository, "ls-tree", "-r", "-z", "--name-only", f"{commit}^")
        .decode("utf-8", "surrogateescape")
        .split("\0")
    )
    view = View(
        files=(), content=_contents(repository, commit), base=base, secrets=find_secrets, commands=[_tests_of(base)]
    )
    return stops_of(parse_diff(diff), rules, (), view)


def _tests_of(base: frozenset[str]) -> tuple[str, ...]:
    """The command that a project of this kind is tested with."""
    for manifest, command in (
        *(("package.json", ("npm", "test")), ("go.mod", ("go", "test", "./...")), ("Cargo.toml", ("cargo", "test"))),
        *(("pom.xml", ("mvn", "test")), ("build.gradle", ("gradle", "test")), ("Gemfile", ("rake", "test"))),
    ):
        if manifest in base:
            return command
    return ("pytest", "-q")


def _contents(repository: Path, commit: str) -> Callable[[str, bool], bytes | None]:
    @cache
    def content(path: str, new: bool) -> bytes | None:  # noqa: FBT001  (the shape of the rules)
        name = f"{commit}{'' if new else '^'}:{path}"
        done = subprocess.run(
            ["git", "-C", str(repository), "cat-file", "blob", name], capture_output=True, check=False
        )
        return done.stdout if done.returncode == 0 else None

    return content


def _git(repository: Path, *arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(repository), *arguments], capture_output=True, check=True).stdout
