"""Dependencies, licences and tools in manifests, for the comparison of two versions. Pure.

Nothing is executed: `setup.py` is read as a syntax tree, Maven's and Gradle's files by patterns.
"""

from __future__ import annotations

import ast
import configparser
import json
import re
import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from executor.model.paths import name_of
from executor.stop_rules.program_text import setup_arguments
from executor.stop_rules.view import compiled

__all__ = [
    "IN_REQUIREMENTS",
    "READERS",
    "REQUIREMENTS",
    "UNREADABLE",
    "Part",
    "ToolNames",
    "dependencies",
    "licences",
    "tools",
]

Part = Mapping[str, str]
"""Key -> canonical text of its value; equal parts are equivalent."""
UNREADABLE = (ValueError, SyntaxError, configparser.Error, RecursionError, MemoryError)
"""Exceptions for an unreadable manifest."""
REQUIREMENTS = re.compile(
    r"(?i)((.*[-_.])?(requirements|constraints)([-_.].*)?\.(txt|in|pip)|pip-requires|test-requires)"
)
IN_REQUIREMENTS = re.compile(r"(?i)(^|/)(requirements|constraints)/[^/]+\.(txt|in|pip)$")
_NPM = (
    "dependencies",
    "devDependencies",
    "peerDependencies",
    "optionalDependencies",
    "bundledDependencies",
    "bundleDependencies",
    "peerDependenciesMeta",
    "overrides",
    "resolutions",
    "packageManager",
    "pnpm",
    "workspaces",
    "catalog",
    "catalogs",
)
_COMPOSER = (
    "require",
    "require-dev",
    "conflict",
    "replace",
    "provide",
    "repositories",
    "minimum-stability",
    "prefer-stable",
)
_SETUP = ("install_requires", "setup_requires", "tests_require", "extras_require", "requires", "dependency_links")
_TABLES = re.compile(
    r"(.+-)?(dependencies|requires|requires-extra|requires-dist|dependency-groups|dependency-overrides)|patch|replace|build-system"
)


@dataclass(frozen=True, slots=True)
class ToolNames:
    """Patterns of the manifest tables and scripts that configure judging tools."""

    python: re.Pattern[str]
    cfg: re.Pattern[str]
    npm: tuple[str, ...]
    scripts: re.Pattern[str]
    tox_aside: re.Pattern[str]
    tox_plain: re.Pattern[str]

    @classmethod
    def of(cls, lists: Mapping[str, Sequence[str]], scripts: Collection[str] = ()) -> ToolNames:
        """Create the patterns from the lists of the rule and the scripts that checks reach."""
        named = [f"(pre|post)?{re.escape(name)}" for name in sorted(scripts)]
        return cls(
            _any(lists.get("python_tools", ())),
            _any(lists.get("cfg_tools", ())),
            tuple(lists.get("npm_tools", ())),
            _any([*lists.get("scripts", ()), *named]),
            _any(lists.get("tox_aside", ())),
            _any(lists.get("tox_plain", ())),
        )


def _any(patterns: Sequence[str]) -> re.Pattern[str]:
    return compiled("|".join(f"(?:{pattern})" for pattern in patterns) or r"(?!)")


def dependencies(path: str, content: bytes) -> Part:
    """Return the dependencies in a manifest.

    Raises:
        one of `UNREADABLE`: the manifest is unreadable.
    """
    reader = _reader(path)
    return _canonical(reader(_text(content))) if reader else {}


def licences(path: str, content: bytes) -> Part:
    """Return the licence in a manifest; raises as `dependencies`."""
    text = _text(content)
    match name_of(path).lower():
        case "pyproject.toml":
            document = tomllib.loads(text)
            project, poetry = _at(document, "project"), _at(document, "tool", "poetry")
            found = {
                key: _at(table, key)
                for table in (project, poetry)
                for key in ("license", "license-files")
                if key in table
            }
            found["classifiers"] = _licence_classifiers(project.get("classifiers") or poetry.get("classifiers"))
        case "setup.py":
            known = setup_arguments(
                text, ("license", "license_file", "license_files", "license_expression", "classifiers")
            )
            found = {**known, "classifiers": _licence_classifiers(known.get("classifiers"))}
        case "setup.cfg":
            metadata = _cfg(text).get("metadata", {})
            found = {key: value for key, value in metadata.items() if key.startswith("license")}
            found["classifiers"] = _licence_classifiers(
                metadata.get("classifiers", metadata.get("classifier", "")).splitlines()
            )
        case "package.json" | "composer.json":
            found = _picked(json.loads(text), ("license", "licenses"))
        case "cargo.toml":
            document = tomllib.loads(text)
            found = {
                ".".join(place): _picked(_at(document, *place), ("license", "license-file"))
                for place in (("package",), ("workspace", "package"))
            }
        case "pom.xml":
            found = {"licenses": re.findall(r"(?s)<licenses>.*?</licenses>", text)}
        case _:
            found = {
                "lines": [" ".join(line.split()) for line in text.splitlines() if re.search(r"(?i)licen[sc]e", line)]
            }
    return _canonical(found)


def tools(path: str, content: bytes, names: ToolNames) -> Part:
    """Return the settings of judging tools in a manifest; raises as `dependencies`."""
    text = _text(content)
    match name_of(path).lower():
        case "pyproject.toml":
            document = tomllib.loads(text)
            found: dict[str, object] = _tool_tables(_at(document, "tool"), names.python)
            found["pytest11"] = _at(document, "project", "entry-points", "pytest11")
            found["tool.poetry.plugins"] = _at(document, "tool", "poetry", "plugins", "pytest11")
        case "setup.cfg":
            sections = _cfg(text)
            found = {name: dict(table) for name, table in sections.items() if names.cfg.fullmatch(name)}
            found["pytest11"] = sections.get("options.entry_points", {}).get("pytest11")
        case "tox.ini":
            found = {
                name: {key: _uncommented(value) for key, value in table.items() if not names.tox_plain.fullmatch(key)}
                for name, table in _cfg(text).items()
                if not names.tox_aside.fullmatch(name)
            }
        case "setup.py":
            found = (
                {"entry_points": setup_arguments(text, ("entry_points",)).get("entry_points")}
                if "pytest11" in text
                else {}
            )
        case "package.json":
            document = json.loads(text)
            scripts = _at(document, "scripts")
            found = {
                **_picked(document, names.npm),
                **{f"scripts.{key}": value for key, value in scripts.items() if names.scripts.fullmatch(key)},
            }
        case "composer.json" | "deno.json" | "deno.jsonc" as name:
            key = "scripts" if name == "composer.json" else "tasks"
            document = json.loads(text)
            found = {
                f"{key}.{task}": value for task, value in _at(document, key).items() if names.scripts.fullmatch(task)
            }
            found |= _picked(document, ("test", "lint", "fmt", "bench", "exclude")) if key == "tasks" else {}
        case _:
            found = {}
    return {f"tool {key}": _flat(value, sort=False) for key, value in found.items() if value not in ({}, [], None)}


def build_parts(path: str, content: bytes) -> set[str]:
    """Return the modules of a build of Maven, or the members of a workspace of cargo; raises as `dependencies`."""
    text = _text(content)
    if name_of(path).lower() == "pom.xml":
        plain = re.sub(r"(?s)<!--.*?-->", "", text)
        return {part.strip() for part in re.findall(r"(?s)<module>(.*?)</module>", plain)}
    table = _at(tomllib.loads(text), "workspace")
    given = table.get("default-members", table.get("members"))
    aside = table.get("exclude")
    return set(given if isinstance(given, list) else ()) - set(aside if isinstance(aside, list) else ())


def _tool_tables(tables: Mapping[str, Any], wanted: re.Pattern[str]) -> dict[str, object]:
    """Return tables of tools by name, and parts of other tables by ``tool.part``."""
    found: dict[str, object] = {name: table for name, table in tables.items() if wanted.fullmatch(name)}
    for name, table in tables.items():
        if name not in found and isinstance(table, Mapping):
            found |= {f"{name}.{key}": part for key, part in table.items() if wanted.fullmatch(f"{name}.{key}")}
    return found


def _uncommented(value: str) -> str:
    return "\n".join(line for line in value.splitlines() if not line.lstrip().startswith(("#", ";")))


def _reader(path: str) -> Callable[[str], Mapping[str, Any]] | None:
    name = name_of(path).lower()
    if REQUIREMENTS.fullmatch(name) or IN_REQUIREMENTS.search(path):
        return _requirements
    return READERS.get(name)


def _requirements(text: str) -> dict[str, object]:
    joined = re.sub(r"\\\n", " ", text.replace("\r\n", "\n"))
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in joined.splitlines())
    return {"requirements": [line for line in lines if line]}


def _tables(text: str) -> dict[str, object]:
    """Return tables and lists of a TOML file with names of dependencies, at any depth."""
    document = tomllib.loads(text)
    found: dict[str, object] = {}

    def walk(table: Mapping[str, Any], place: str) -> None:
        for key, value in table.items():
            here = f"{place}.{key}" if place else key
            if _TABLES.fullmatch(key) or here in {
                "tool.uv",
                "tool.poetry.extras",
                "tool.poetry.source",
                "tool.pdm.source",
                "tool.pdm.resolution",
            }:
                found[here] = value
            elif isinstance(value, Mapping):
                walk(value, here)
        if place == "project" and "dependencies" in table.get("dynamic", ()):
            found["project.dynamic"] = "dependencies"

    walk(document, "")
    if dynamic := _at(document, "tool", "setuptools", "dynamic"):
        found["tool.setuptools.dynamic"] = _picked(dynamic, ("dependencies", "optional-dependencies"))
    return found


def _cfg(text: str) -> dict[str, dict[str, str]]:
    parser = configparser.RawConfigParser(strict=False)
    parser.read_string(text)
    return {name: {key.replace("-", "_"): value for key, value in parser.items(name)} for name in parser.sections()}


def _setup_cfg(text: str) -> dict[str, object]:
    sections = _cfg(text)
    found: dict[str, object] = {}
    for place, keys in (("options", _SETUP), ("metadata", ("requires", "requires_dist", "setup_requires_dist"))):
        for key in keys:
            if value := _listed(sections.get(place, {}).get(key, "")):
                found[key] = value
    if extras := sections.get("options.extras_require"):
        found["extras_require"] = {name: _listed(value) for name, value in extras.items()}
    return found


def _listed(value: str) -> list[str]:
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in value.splitlines())
    return [line for line in lines if line]


def _package_json(text: str) -> dict[str, object]:
    return _picked(json.loads(text), _NPM)


def _pixi(text: str) -> dict[str, object]:
    return {**_tables(text), **_picked(tomllib.loads(text), ("channels", "workspace", "project"))}


def _deno(text: str) -> dict[str, object]:
    plain = re.sub(r"(?m)^\s*//.*$|/\*.*?\*/", "", text, flags=re.DOTALL)
    return _picked(
        json.loads(re.sub(r",(\s*[}\]])", r"\1", plain)), ("imports", "scopes", "importMap", "workspace", "vendor")
    )


def _composer_json(text: str) -> dict[str, object]:
    return _picked(json.loads(text), _COMPOSER)


def _setup_py(text: str) -> dict[str, object]:
    return setup_arguments(text, _SETUP)


def _pom(text: str) -> dict[str, object]:
    if "<project" not in text:
        raise ValueError("no project")
    plain = re.sub(r"(?s)<!--.*?-->", "", text)
    places = "dependencies dependencyManagement parent plugins pluginManagement repositories pluginRepositories"
    parts = {
        place: [re.sub(r"\s+", "", part) for part in re.findall(rf"(?s)<{place}\b[^>]*>.*?</{place}\s*>", plain)]
        for place in [*places.split(), "extensions", "profiles"]
    }
    used = set(re.findall(r"\$\{([^}]+)\}", " ".join(part for found in parts.values() for part in found)))
    found: dict[str, object] = dict(parts)
    for block in re.findall(r"(?s)<properties>(.*?)</properties>", plain):
        for name, value in re.findall(r"(?s)<([\w.-]+)>(.*?)</\1>", block):
            if name in used:
                found[f"properties.{name}"] = value.strip()
    return found


def _gradle(text: str) -> dict[str, object]:
    plain = re.sub(r"(?s)/\*.*?\*/|(?<!:)//[^\n]*", "", text)
    opened = re.compile(r"\b(dependencies|plugins|buildscript|repositories|dependencyManagement|pluginManagement)\s*\{")
    blocks = [
        re.sub(r"\s+", " ", plain[at.start() : _closed(plain, at.end())]).strip() for at in opened.finditer(plain)
    ]
    used = set(re.findall(r"\$\{?(?:\w+\.)*(\w+)", " ".join(blocks))) | set(
        re.findall(r"\b([A-Za-z]\w*[Vv]ersions?)\b", " ".join(blocks))
    )
    lines = [
        " ".join(line.split())
        for line in plain.splitlines()
        if re.match(r"\s*apply\b", line) or ((at := re.search(r"\b(\w++)[\"'\]]*\s*(?:=|:)", line)) and at[1] in used)
    ]
    return {"blocks": blocks, "lines": lines}


def _closed(text: str, at: int) -> int:
    depth = 1
    for brace in re.finditer(r"[{}]", text[at:]):
        depth += 1 if brace[0] == "{" else -1
        if not depth:
            return at + brace.end()
    raise ValueError("a brace is never closed")


READERS: dict[str, Callable[[str], Mapping[str, Any]]] = {
    "pyproject.toml": _tables,
    "cargo.toml": _tables,
    "pixi.toml": _pixi,
    "deno.json": _deno,
    "deno.jsonc": _deno,
    "setup.cfg": _setup_cfg,
    "setup.py": _setup_py,
    "package.json": _package_json,
    "composer.json": _composer_json,
    "pom.xml": _pom,
    "build.gradle": _gradle,
    "build.gradle.kts": _gradle,
}


def _text(content: bytes) -> str:
    return content.decode("utf-8-sig")


def _at(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key, {}) if isinstance(value, Mapping) else {}
    return value


def _picked(value: Any, keys: tuple[str, ...]) -> dict[str, object]:
    if not isinstance(value, Mapping):
        raise ValueError("expected a table")  # noqa: TRY004  (one kind of exception for all that cannot be read)
    return {key: value[key] for key in keys if key in value}


def _licence_classifiers(value: Any) -> Any:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple):
        return []
    return [item.strip() for item in value if isinstance(item, str) and item.strip().startswith("License")]


def _canonical(found: Mapping[str, Any]) -> dict[str, str]:
    return {key: _flat(value) for key, value in found.items() if value not in ({}, [], (), None, "")}


def _flat(value: Any, *, sort: bool = True) -> str:
    """Return a value as text; ignores white space, the order of tables and, if requested, of lists."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(sorted(f"{_flat(key)}: {_flat(item, sort=sort)}" for key, item in value.items())) + "}"
    if isinstance(value, list | tuple | set):
        items = [_flat(item, sort=sort) for item in value]
        return "[" + ", ".join(sorted(items) if sort else items) + "]"
    if isinstance(value, ast.AST):
        return ast.dump(value)
    if isinstance(value, str) and sort:
        return re.sub(r"\s+", "", value.replace("'", '"'))
    return str(value)
