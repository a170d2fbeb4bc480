"""Changes to the schema of a database, and to code that decides who may do what and who pays. Pure."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

from executor.model.paths import CLIKE, is_documentation, is_test, name_of, suffix_of, words_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from executor.git.diff import FileChange, Finding, Line

__all__ = ["migrations", "sensitive_code"]

_FOLDERS = re.compile(
    r"(?i)(^|/)(migrations/(?!__init__\.py$)(.*/)?[^/]+\.(py|js|ts|cjs|mjs|rb|sql|php|cs|vb|java|kt|go|exs?|prisma|toml|xml|ya?ml|json)"
    r"|alembic/versions/[^/]+\.py|db/([a-z]+_)?migrate/.+|(db|database|sql)/migrations?/.+|database/schema/[^/]+\.(sql|dump)"
    r"|migration/(\d|[VUR]\d*__)[^/]*\.(sql|java|kt|js|ts|py)|priv/([a-z_]+/)?migrations/.+)$"
)
_NAMES = re.compile(
    r"(?i)(schema|structure)\.sql|[VU]\d+([._]\d+)*__.+\.(sql|java|kt)|R__.+\.sql|\d+_.+\.(up|down)\.sql|schema\.prisma"
    r"|.*ModelSnapshot\.cs|db[.-]changelog.*\.(xml|ya?ml|json|sql)|changelog-?master\.(xml|ya?ml|json)"
)
_RAILS_SCHEMA = re.compile(r"(^|/)db/([a-z]+_)?schema\.rb$")
_THING = (
    r"(UNIQUE\s+|OR\s+REPLACE\s+|GLOBAL\s+|LOCAL\s+|TEMP(ORARY)?\s+|UNLOGGED\s+|MATERIALIZED\s+|CLUSTERED\s+|EXTERNAL\s+)*"
    r"(TABLE|INDEX|VIEW|SCHEMA|DATABASE|SEQUENCE|TRIGGER|FUNCTION|PROCEDURE|TYPE|DOMAIN|EXTENSION|POLICY|COLUMN)\b"
)
_DDL = re.compile(
    rf"(?i)(^|;)\s*(((CREATE|ALTER|DROP)\s+{_THING})|TRUNCATE\s+(TABLE\s+)?\w|RENAME\s+TABLE\b)", re.MULTILINE
)
_QUOTED_DDL = re.compile(
    rf"(?i)(execute\w*|query|exec|raw|prepare|text|run_sql|RunSQL|sql)!?\(\s*[rfbu]{{0,2}}[\"'`]+\s*(CREATE|ALTER|DROP)\s+{_THING}"
)
_CALL = re.compile(
    r"\bop\.(create_|add_|drop_|alter_|rename_|batch_alter_|bulk_insert|execute\b)|\bmigrations\.(Create|Add|Alter|Delete|Remove|Rename|Run)\w+\("
    r"|\bmigrations\.Migration\b|\bknex\.schema\b|\.schema\.(create|alter|drop|rename|has)\w*Table\w*\(|\bSchema::(create|table|drop|rename)\w*\("
    r"|\bqueryInterface\.(create|add|drop|remove|change|rename)\w+\(|\bqueryRunner\.(create|add|drop|change|rename)\w+\("
    r"|\bmigrationBuilder\.\w+|\bActiveRecord::(Migration|Schema)\b|\buse Ecto\.Migration\b|\bdatabaseChangeLog\b"
    r"|^\s*(create_table|drop_table|add_column|remove_column|rename_column|change_column|add_index|remove_index|add_reference"
    r"|create_join_table|add_foreign_key)[\s(]+[:\"']"
)
_BLOCK = re.compile(r"/\*.*?\*/", re.DOTALL)
_SQL = frozenset({".sql", ".ddl", ".psql", ".pgsql", ".hql"})

_WORDS = frozenset(
    [
        "auth",
        "authn",
        "authz",
        "authenticate",
        "authenticates",
        "authenticated",
        "authenticating",
        "authenticator",
        "authentication",
        "authorize",
        "authorizes",
        "authorized",
        "authorizer",
        "authorization",
        "authorise",
        "authorised",
        "authorisation",
        "unauthorized",
        "oauth",
        "oidc",
        "saml",
        "sso",
        "login",
        "logins",
        "logout",
        "signin",
        "signout",
        "password",
        "passwords",
        "passwd",
        "passphrase",
        "credential",
        "credentials",
        "permission",
        "permissions",
        "perm",
        "perms",
        "acl",
        "acls",
        "rbac",
        "abac",
        "jwt",
        "csrf",
        "mfa",
        "totp",
        "ratelimit",
        "ratelimits",
        "ratelimiter",
        "ratelimiting",
        "billing",
        "payment",
        "payments",
        "invoice",
        "invoices",
        "invoicing",
        "refund",
        "refunds",
        "superuser",
        "stripe",
        "paypal",
        "braintree",
        "paywall",
    ]
)
_PATH_WORDS = (_WORDS | {"throttle", "throttles", "throttling", "accesscontrol"}) - {"perm", "perms"}
_PAIRS = frozenset(
    {
        *(
            (first, second)
            for first in ("rate",)
            for second in ("limit", "limits", "limiter", "limiters", "limiting", "limited")
        ),
        *(
            (first, second)
            for first in ("throttle", "throttling")
            for second in ("class", "classes", "rate", "rates", "scope")
        ),
        *((first, "throttle") for first in ("rate", "user", "anon", "scoped", "base")),
        *(
            (verb, role)
            for verb in ("has", "require", "requires", "check", "grant", "revoke", "assign")
            for role in ("role", "roles")
        ),
        *((role, "required") for role in ("role", "roles", "admin", "staff")),
        *(("is", who) for who in ("admin", "staff", "superuser")),
        ("access", "control"),
        ("access", "token"),
        ("refresh", "token"),
        ("credit", "card"),
        ("card", "number"),
        ("log", "in"),
        ("sign", "in"),
        ("api", "key"),
        ("session", "cookie"),
        ("two", "factor"),
        ("payment", "intent"),
        ("open", "id"),
    }
)
_HARMLESS = frozenset({"PermissionError", "permission_error", "PERMISSION_ERROR"})
_LOOKS = frozenset(
    [
        ".css",
        ".scss",
        ".sass",
        ".less",
        ".svg",
        ".png",
        ".jpg",
        ".jpeg",
        ".gif",
        ".ico",
        ".webp",
        ".woff",
        ".woff2",
        ".ttf",
        ".po",
        ".pot",
        ".mo",
        ".map",
        ".lock",
        ".csv",
        ".ipynb",
        ".log",
        ".j2",
    ]
)
_ELSEWHERE = re.compile(
    r"(?i)(^|/)(docs?|documentation|examples?|locales?|i18n|l10n|lang|translations|node_modules|vendor|third_party)/"
)
_LOCKS = re.compile(
    r"(?i)(package(-lock)?\.json|npm-shrinkwrap\.json|pnpm-lock\.yaml|composer\.json|.*requirements.*|pyproject\.toml|.*\.toml)"
)
_STRING = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`")
_COMMENT = {"#": re.compile(r"(^|\s)#.*"), "//": re.compile(r"(^|\s)//.*|^\s*\*.*|/\*.*?\*/")}
_CALLED = re.compile(r"(?<![\w$])([A-Za-z_$][\w$]*+)[!?]?(?=\()|@([A-Za-z_$][\w.$]*)")
_DEFINED = re.compile(
    r"^\s*(?:export\s+|default\s+|public\s+|private\s+|protected\s+|internal\s+|static\s+|abstract\s+|final\s+|override\s+|pub(?:\(\w+\))?\s+)*"
    r"(?:async\s+)?(?:def|class|function\*?|func|fn|interface|struct|enum|trait|module|type|const|let|var|val|object|record)"
    r"\s+(?:\([^)]*\)\s*)?(?:self\.)?([A-Za-z_$][\w$]*)"
)
_ASSIGNED = re.compile(
    r"^\s*(?:[A-Za-z_$][\w$]*(?:\.|::|->))*\$?([A-Za-z_$][\w$]*)\s*(?::\s*[\w\[\]., |\"'?<>]+?)?\s*(?:[-+|&?]"
    r"|\|\||\?\?)?=(?![=~])"
)
_ANNOTATED = re.compile(r"^\s+([A-Za-z_]\w*)\s*:\s*[\w\[\].\"']+(?:\s*\|\s*[\w\[\].\"']+)*[,;]?\s*$")
_IMPORTED = re.compile(r"^\s*(?:from|import|use|require|using)\b(.*)")
_KEY = re.compile(r"^\s*(?:-\s+)?[\"']?([A-Za-z_][\w-]*)[\"']?\s*[:=]")


def migrations(files: Sequence[FileChange]) -> list[Finding]:
    """Migrations, and lines that change a schema."""
    found: list[Finding] = []
    for file in files:
        if is_test(file.path):
            continue
        if _FOLDERS.search(file.path) or _NAMES.fullmatch(name_of(file.path)) or _RAILS_SCHEMA.search(file.path):
            found.append((file.path, 0, "a migration or schema"))
        elif not is_documentation(file.path):
            found += ((file.path, line.number, line.text) for line in _schema_lines(file))
    return found


def _schema_lines(file: FileChange) -> Iterator[Line]:
    if suffix_of(file.path) in _SQL:
        for sign in (True, False):
            lines = [line for line in file.lines if line.added is sign]
            text = "\n".join(line.text.removeprefix("\ufeff") for line in lines)
            plain = _BLOCK.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
            plain = re.sub(r"--[^\n]*", "", plain)
            for match in _DDL.finditer(plain):
                yield lines[plain.count("\n", 0, match.start(2))]
        return
    for line in file.lines:
        text = line.text
        if not re.match(r"\s*(#|//|\*|--)", text) and (_CALL.search(text) or (line.added and _QUOTED_DDL.search(text))):
            yield line


def sensitive_code(files: Sequence[FileChange]) -> list[Finding]:
    """Files and lines about logins, permissions, rates and money, outside tests and documentation."""
    found: list[Finding] = []
    for file in files:
        if _is_code(file.path):
            if _sensitive_path(file.path):
                found.append((file.path, 0, "its path says so"))
            else:
                found += (
                    (file.path, line.number, line.text) for line in file.lines if _sensitive_line(file.path, line.text)
                )
    return found


def _is_code(path: str) -> bool:
    return not (
        is_test(path)
        or is_documentation(path)
        or _ELSEWHERE.search(path)
        or suffix_of(path) in _LOOKS
        or _LOCKS.fullmatch(name_of(path))
    )


def _sensitive_path(path: str) -> bool:
    parts = path.split("/")
    stem = parts[-1].rpartition(".")[0] or parts[-1]
    return any(_sensitive_words(words_of(part), _PATH_WORDS) for part in [*parts[:-1], stem])


def _sensitive_words(words: Sequence[str], known: frozenset[str]) -> bool:
    return not known.isdisjoint(words) or any(pair in _PAIRS for pair in pairwise(words))


def _sensitive_line(path: str, text: str) -> bool:
    suffix = suffix_of(path)
    if suffix in {".json", ".yml", ".yaml", ".toml", ".ini", ".cfg", ".conf", ".env", ".properties", ""}:
        key = _KEY.match(text)
        return bool(key) and _sensitive_name(key[1])  # type: ignore[index]
    text = _STRING.sub('""', text)
    text = _COMMENT["//" if suffix in CLIKE else "#"].sub("", text)
    if not text.strip():
        return False
    return any(_sensitive_name(name) for name in _names(text, suffix))


def _names(text: str, suffix: str) -> Iterator[str]:
    """Names that a line defines, calls or imports."""
    for call in _CALLED.finditer(text):
        yield call[1] or call[2]
    for pattern in (_DEFINED, _ASSIGNED) if suffix in CLIKE else (_DEFINED, _ASSIGNED, _ANNOTATED):
        if match := pattern.match(text):
            yield match[1]
    if match := _IMPORTED.match(text):
        yield from re.findall(r"\w+", match[1])


def _sensitive_name(name: str) -> bool:
    return name not in _HARMLESS and _sensitive_words(words_of(name), _WORDS)
