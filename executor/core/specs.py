"""What is wrong with the text of an issue before anybody works on it. Pure."""

from __future__ import annotations

import re

__all__ = ["spec_problems"]

_FEWEST_WORDS = 3
_FENCE = re.compile(r"(?ms)^[ \t]*(```+|~~~+).*?(^[ \t]*\1[ \t]*$|\Z)|^(?: {4}|\t)[^\n]*$")
_CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)")
_COMMENT = re.compile(r"(?s)<!--.*?-->")
_ITEM = re.compile(r"^\s*(?:[-*+]|\d+[.)])?\s*(?:\[[ xX]\]\s*)?")
_OPEN = r"(?:TODO|TBD|TBC|FIXME|XXX|T\.B\.D\.)"
_LEFT = re.compile(
    rf"(?i)^(?:[*_#>\s]|\b[\w /-]{{1,40}}:)*\(?{_OPEN}\)?[*_\s]*(?:[.!?:…-]*\s*$|:\s*(?:describe|fill|write|add"
    rf"|explain|specify)\b.*)"
)
_VALUE = re.compile(
    r"(?:\b(?:is|are|be|=|:)\s+|\()(?:TBD|TBC|T\.B\.D\.)(?:\)|\b)|\bto be (?:determined|defined|decided"
    r"|specified)\b|\bfill (?:this |me )?in\b",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile(
    r"<(?:describe|insert|your|add|fill|enter|write|explain|todo|tbd|placeholder|title|description|summary|what"
    r"|why|how|issue|name of)\b[^<>\n/=\"]*>",
    re.IGNORECASE,
)
_TAG = re.compile(r"<(?:title|summary|description|issue|add|what)>", re.IGNORECASE)
_MUSTACHE = re.compile(r"\{\{[^{}\n]*\}\}")
_BRACKET = re.compile(
    r"\[(?:placeholder|insert|describe|your|fill|enter|tbd|todo|title|description|explain|add)\b[^\]\n]*\](?![(\[:])",
    re.IGNORECASE,
)
_LOREM = re.compile(r"\blorem ipsum\b", re.IGNORECASE)
_QUESTION = re.compile(r"\?{3,}|^\s*\?+\s*$")
_NEEDS = (
    re.compile(
        r"\b(?:depends? (?:up)?on|blocked by|requires?|needs?|after|waits? for)\s*:?\s*(?:\?{2,}|\bTBD\b|\bTBC\b"
        r"|\bTODO\b|\bunknown\b(?=[\s.,]*$))",
        re.IGNORECASE,
    ),
    re.compile(
        r"\b(?:after|depends? (?:up)?on|blocked by|once|needs|requires|waits? for|builds? on)\s+(?:the |an?|some "
        r"|that )?"
        r"(?:other|another|previous|some(?: other)?)\s+(?:task|issue|ticket|pr|pull request|story|work|change|one)s?\b",
        re.IGNORECASE,
    ),
    re.compile(r"\bdependenc(?:y|ies)\s*(?::|are|is)\s*(?:\?+|unclear|unknown|tbd|to be determined)", re.IGNORECASE),
)


def spec_problems(text: str, title: str, accept_count: int) -> list[str]:
    """What a person has to make clear first; nothing for a spec that can be worked on.

    Args:
        text: the body of the issue.
        title: its title.
        accept_count: how many acceptance criteria it has; with some, a title that says something is enough.
    """
    prose = _prose(text)
    words = re.findall(r"\w+", _COMMENT.sub(" ", text))
    if not words and not (accept_count and len(re.findall(r"\w+", title)) >= _FEWEST_WORDS):
        return ["the spec is empty: describe what has to be done"]
    problems: list[str] = []
    for line in [title, *prose.splitlines()]:
        if any(pattern.search(line) for pattern in _NEEDS):
            problems.append(f"unclear what it depends on: {_shown(line)}")
        elif _is_placeholder(line):
            problems.append(f"left over from a template: {_shown(line)}")
    return list(dict.fromkeys(problems))


def _is_placeholder(line: str) -> bool:
    content = _ITEM.sub("", line, count=1)
    if _LEFT.match(content) or _VALUE.search(content) or _LOREM.search(content) or _QUESTION.search(content):
        return True
    return any(not _TAG.fullmatch(match[0]) for match in _PLACEHOLDER.finditer(content)) or bool(
        _MUSTACHE.search(content) or _BRACKET.search(content)
    )


def _prose(text: str) -> str:
    """The text without code and comments."""
    plain = _COMMENT.sub(" ", _FENCE.sub("\n", text.replace("\r\n", "\n")))
    return _CODE.sub("code", plain)


def _shown(line: str) -> str:
    short = " ".join(line.split())[:120]
    return "".join(char if char.isprintable() else "?" for char in short)
