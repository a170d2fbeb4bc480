"""Which files an issue is likely to change, and how likely two issues collide in them. Pure.

Three signs, from strong to weak: files that both declare (`executor.model.plan.globs_meet`), files that the issue's
text names, and files that commits with the same words have changed. On four real histories the last one finds 40 to
65 % of the files among its first five, and needs no index.

A prediction is right in a quarter of all cases, so it is only a reason to start something else first, never a lock.
"""

from __future__ import annotations

import math
import posixpath
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.model.paths import matches
from executor.model.plan import globs_meet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from executor.model.plan import Node
    from executor.model.rules import LandingRules

__all__ = ["Expected", "Overlaps", "Predictor", "cost", "tokens", "twins_of"]

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_PATH = re.compile(r"[\w.-]+(?:/[\w.-]+)*")
_SHORT = 2  # letters; shorter words are everywhere
_EVERYWHERE = frozenset(
    {
        *("add", "and", "are", "for", "from", "fix", "make", "merge", "new", "not", "now", "pull", "request", "that"),
        *("the", "this", "update", "use", "was", "when", "with"),
    }
)
_NAMED, _TWIN, _LEARNED = 0.9, 0.5, 0.6
_MOST = 10  # files a change is expected to touch; a choice


def tokens(text: str) -> set[str]:
    """Words of a text in lower case, parts of names among them, without the shortest and those that say nothing."""
    words = {word.lower() for word in _WORD.findall(text)}
    return {word for word in words if len(word) > _SHORT and word not in _EVERYWHERE}


class Predictor:
    """Predicts the files of issues from what commits with the same words have changed.

    Args:
        history: message and changed files of commits.
        paths: files of the tree that the issues start from.
        harmless: globs of files in which two changes do not conflict.
    """

    def __init__(
        self, history: Iterable[tuple[str, Sequence[str]]], paths: Iterable[str], harmless: Sequence[str] = ()
    ) -> None:
        self._files: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._seen: Counter[str] = Counter()
        self._touched: Counter[str] = Counter()
        self._commits = 0
        self._paths = frozenset(paths)
        self._harmless = harmless
        self._by_name: defaultdict[str, list[str]] = defaultdict(list)
        for path in self._paths:
            self._by_name[posixpath.basename(path)].append(path)
        for message, files in history:
            self.learn(message, files)

    def learn(self, message: str, files: Sequence[str]) -> None:
        """Take in one commit more."""
        self._commits += 1
        self._touched.update(files)
        for word in tokens(message):
            self._seen[word] += 1
            self._files[word].update(files)

    def files(self, text: str) -> dict[str, float]:
        """The likeliest files of an issue with this title and text, each with a weight from 0 to 1."""
        found: dict[str, float] = dict.fromkeys(self._named(text), _NAMED)
        for path, weight in self._learned(text).items():
            found[path] = max(found.get(path, 0.0), _LEARNED * weight)
        for path, weight in list(found.items()):
            for twin in twins_of(path, self._by_name):
                found[twin] = max(found.get(twin, 0.0), _TWIN * weight)
        kept = {path: weight for path, weight in found.items() if not matches(path, self._harmless)}
        return dict(sorted(kept.items(), key=lambda item: (-item[1], item[0]))[:_MOST])

    def _named(self, text: str) -> set[str]:
        """Files of the tree whose path, name or dotted module is in the text."""
        found: set[str] = set()
        for word in _PATH.findall(text):
            name = word.strip(".-")
            if name in self._paths:
                found.add(name)
            elif "." in name and len(self._by_name.get(name, ())) == 1:
                found.update(self._by_name[name])
            elif "." in name and "/" not in name:
                module = f"{name.replace('.', '/')}.py"
                found.update(path for path in (module, f"src/{module}") if path in self._paths)
        return found

    def _learned(self, text: str) -> dict[str, float]:
        """Files that commits with the same words have changed, the best one with the weight 1."""
        weights: defaultdict[str, float] = defaultdict(float)
        for word in sorted(tokens(text)):
            seen = self._seen[word]
            if seen:
                rare = math.log(1 + self._commits / seen)
                for path, count in self._files[word].items():
                    weights[path] += rare * count / seen * math.log(1 + self._commits / self._touched[path])
        best = sorted(weights.items(), key=lambda item: (-item[1], item[0]))[:_MOST]
        return {path: weight / best[0][1] for path, weight in best}


def twins_of(path: str, by_name: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the tests of a source file, or the source file of a test, by their names.

    Args:
        path: the file.
        by_name: name of a file -> its paths.
    """
    name = posixpath.basename(path)
    stem, dot, kind = name.rpartition(".")
    plain = stem.removeprefix("test_").removesuffix("_test").removesuffix(".test")
    tests = [f"test_{stem}.{kind}", f"{stem}_test.{kind}", f"{stem}.test.{kind}"]
    wanted = [f"{plain}.{kind}"] if plain != stem else tests
    return [other for item in wanted for other in by_name.get(item, ())] if dot else []


def cost(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """How likely two issues are to change the same files: the sum over the files of both weights."""
    return sum(weight * other[path] for path, weight in one.items() if path in other)


@dataclass(frozen=True, slots=True)
class Expected:
    """Two issues that are expected to change the same files.

    Attributes:
        other: qualified id of the other issue.
        files: the files or globs, the likeliest first.
        cost: how strong the signs are: one for each pair of declared globs that meet, less for what is learned.
        declared: whether both issues declare them.
    """

    other: str
    files: tuple[str, ...]
    cost: float
    declared: bool


class Overlaps:
    """Predicts which issues change the same files.

    Args:
        nodes: the issues of the plan.
        rules: the rules on landing.
        text: returns the spec text of an issue.
        predictor: returns what the history of a milestone's branch teaches; called only if the rules want it.
    """

    def __init__(
        self,
        nodes: Mapping[str, Node],
        rules: LandingRules,
        text: Callable[[str], str],
        predictor: Callable[[str], Predictor],
    ) -> None:
        self._nodes = nodes
        self._rules = rules
        self._text = text
        self._predictor = predictor
        self._predictors: dict[str, Predictor] = {}
        self._files: dict[str, dict[str, float]] = {}
        self._known: dict[tuple[str, str], Expected | None] = {}

    def cost(self, ref: str, others: Sequence[str]) -> float:
        """Return how likely an issue is to meet these issues; 0.0 if nothing speaks for it."""
        return sum(item.cost for item in self.between(ref, others))

    def between(self, ref: str, others: Sequence[str]) -> list[Expected]:
        """Return those of the other issues that an issue is expected to meet."""
        if ref not in self._nodes or self._rules.overlap == "off":
            return []
        pairs = (self._pair(ref, other) for other in others if other in self._nodes and other != ref)
        return [pair for pair in pairs if pair is not None]

    def _pair(self, ref: str, other: str) -> Expected | None:
        if (ref, other) not in self._known:
            self._known[ref, other] = self._expected(ref, other)
        return self._known[ref, other]

    def _expected(self, ref: str, other: str) -> Expected | None:
        harmless = self._rules.harmless
        globs = (self._nodes[name].issue.files for name in (ref, other))
        own, others = ([glob for glob in declared if not matches(glob, harmless)] for declared in globs)
        met = [(a, b) for a in own for b in others if globs_meet(a, b)]
        files, weight = dict.fromkeys(a for a, _ in met), float(len(met))
        if self._rules.overlap == "learned":
            one, two = self.files(ref), self.files(other)
            files |= dict.fromkeys(path for path in one if path in two)
            weight += cost(one, two)
        return Expected(other, tuple(files)[:_MOST], weight, bool(met)) if weight else None

    def files(self, ref: str) -> dict[str, float]:
        """Return the likeliest files of one issue, each with a weight from 0 to 1."""
        if ref not in self._files:
            milestone = self._nodes[ref].milestone
            if milestone not in self._predictors:
                self._predictors[milestone] = self._predictor(milestone)
            title = self._nodes[ref].issue.title
            self._files[ref] = self._predictors[milestone].files(f"{title}\n{self._text(ref)}")
        return self._files[ref]
