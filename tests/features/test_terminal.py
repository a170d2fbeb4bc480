"""Nothing declared, and nothing an agent prints, reaches a terminal with control or bidirectional characters."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from tests.support import issue

if TYPE_CHECKING:
    from tests.support import Repo

BAD = (
    "".join(chr(code) for code in [*range(1, 9), 11, 12, *range(14, 32), *range(0x7F, 0xA0)])
    + "\u202e\u2066\u200b\ufeff"
)


def clean(text: str) -> bool:
    return all(char == "\n" or unicodedata.category(char) not in {"Cc", "Cf", "Zl", "Zp"} for char in text)


def test_control_characters_of_titles_paths_and_output_are_made_harmless(repo: Repo) -> None:
    script = (
        "printf '\\033[2J\\033]0;owned\\007 \\342\\200\\256 loud\\n'; printf x > \"$(printf 'a\\033[31mb')\"; exit 3"
    )
    body = issue("bad", script, title=f"Title {BAD} end") + issue(
        "good", "printf x > \"$(printf 'n\\033ame')\"", title="T\u202e"
    )
    repo.milestone("m1", body)
    said = [repo.doit("list"), repo.doit("plan", "m1"), repo.doit("milestone:m1").check(1)]
    said += [repo.doit(*words) for words in (("status",), ("list", "--all"), ("log", "m1/bad"), ("explain", "m1/bad"))]
    said += [repo.doit("log", "m1/good"), repo.doit("doctor"), repo.doit("verify", "m1"), repo.doit("list", "--json")]
    for result in said:
        assert clean(result.out), repr(result.out)
        assert clean(result.err), repr(result.err)
    message = repo.git("log", "-1", "--format=%B", "milestone/m1-test-m1")
    assert clean(message), repr(message)
