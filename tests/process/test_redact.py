"""Secrets never come out of a stream, wherever it is cut; everything else comes out as it was."""

from __future__ import annotations

import base64
import json
import random
import re
import shlex
import subprocess
import time
import urllib.parse
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from executor.process.redact import MARK, Redactor, forms_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# None of these is a credential of anything. # pragma: allowlist secret
SECRETS = (
    "ghp_9aZ3kQ7xW2mN5bV8cR1tY6uI0oP4sDfG",  # pragma: allowlist secret
    "k1~Qm9Xz_7-Kd2/Lp+8wErTyUiOpAsDfGhJkLzXcVb",  # pragma: allowlist secret
    "pa ss\"w\\ord/ü&<1>'$",  # pragma: allowlist secret
    "postgres://" + "user:p%40ss@db.invalid:5432/prod?x=1",  # pragma: allowlist secret
    "-----BEGIN KEY-----\nMIIEv+9aZ3kQ7x/W2mN5bV8c\nR1tY6uI0oP4==\n-----END KEY-----",  # pragma: allowlist secret
)

ENCODERS: dict[str, Callable[[str], bytes]] = {
    "as it is": str.encode,
    "base64": lambda text: base64.b64encode(text.encode()),
    "base64 without padding": lambda text: base64.b64encode(text.encode()).rstrip(b"="),
    "base64 in lines": lambda text: base64.encodebytes(text.encode()).rstrip(b"\n"),
    "base64 for URLs": lambda text: base64.urlsafe_b64encode(text.encode()),
    "hex": lambda text: text.encode().hex().encode(),
    "HEX": lambda text: text.encode().hex().upper().encode(),
    "hex dump": lambda text: text.encode().hex(" ").encode(),
    "quote": lambda text: urllib.parse.quote(text).encode(),
    "quote all": lambda text: urllib.parse.quote(text, safe="").encode(),
    "quote little": lambda text: urllib.parse.quote(text, safe="!#$%&'()*+,/:;=?@[]~").encode(),
    "quote lower": lambda text: re.sub(
        "%[0-9A-F]{2}", lambda found: found[0].lower(), urllib.parse.quote(text, safe="")
    ).encode(),
    "quote_plus": lambda text: urllib.parse.quote_plus(text).encode(),
    "encodeURIComponent": lambda text: urllib.parse.quote(text, safe="!~*'()").encode(),
    "JSON": lambda text: json.dumps(text)[1:-1].encode(),
    "JSON in UTF-8": lambda text: json.dumps(text, ensure_ascii=False)[1:-1].encode(),
    "JSON with slashes": lambda text: json.dumps(text)[1:-1].replace("/", "\\/").encode(),
    "JSON of Go": lambda text: (
        json.dumps(text, ensure_ascii=False)[1:-1]
        .replace("<", "\\u003c")
        .replace(">", "\\u003e")
        .replace("&", "\\u0026")
        .encode()
    ),
    "JSON in JSON": lambda text: json.dumps(json.dumps(text))[3:-3].encode(),
    "JSON in JSON in UTF-8": lambda text: json.dumps(json.dumps(text, ensure_ascii=False), ensure_ascii=False)[
        3:-3
    ].encode(),
    "repr": lambda text: repr(text)[1:-1].encode(),
    "repr of bytes": lambda text: repr(text.encode())[2:-1].encode(),
    "unicode_escape": lambda text: text.encode("unicode_escape"),
    "re.escape": lambda text: re.escape(text.encode()),
    "shell quotes": lambda text: shlex.quote(text)[1:-1].encode() if "'" in text else text.encode(),
    "in double quotes": lambda text: re.sub(r'(["\\$`])', r"\\\1", text).encode(),
    "backslash x": lambda text: "".join(f"\\x{byte:02x}" for byte in text.encode()).encode(),
    "octal": lambda text: "".join(f"\\{byte:03o}" for byte in text.encode()).encode(),
    "a terminal's newlines": lambda text: text.replace("\n", "\r\n").encode(),
}


def stream(redactor: Redactor, data: bytes, cuts: Iterable[int]) -> bytes:
    places = [0, *sorted(cuts), len(data)]
    return b"".join(redactor.feed(data[a:b]) for a, b in pairwise(places)) + redactor.end()


def expected(data: bytes, forms: Iterable[bytes]) -> bytes:
    """What should come out, the slow way."""
    forms = list(forms)
    hidden = [False] * (len(data) + 1)  # whether this byte belongs to the same mark as the one before it
    covered = [False] * (len(data) + 1)

    def hide(start: int, end: int) -> None:
        covered[start:end] = [True] * (end - start)
        hidden[start + 1 : end] = [True] * (end - start - 1)

    for form in forms:
        for start in range(len(data) - len(form) + 1):
            if data.startswith(form, start):
                hide(start, start + len(form))
    for start in range(len(data) - 7):
        rest = data[start:]
        if any(form != rest and form.startswith(rest) and len(form) <= 2 * len(rest) for form in forms):
            hide(start, len(data))
            break
    out = bytearray()
    for place, byte in enumerate(data):
        if not covered[place]:
            out.append(byte)
        elif not hidden[place]:
            out += MARK
    return bytes(out)


# --- every form, every split ----------------------------------------------------------------------------------------


def test_every_form_of_every_secret_is_replaced_at_every_split() -> None:
    redactor = Redactor(SECRETS)
    cases = 0
    for secret in SECRETS:
        for form in forms_of(secret):
            data = b"x='" + form + b"' y\n"
            for cut in range(len(data) + 1):
                assert redactor.feed(data[:cut]) + redactor.feed(data[cut:]) + redactor.end() == b"x='[redacted]' y\n"
                cases += 1
    print(f"{cases} cases")  # noqa: T201 - to be seen with -rP
    assert cases >= 12_000


@pytest.mark.parametrize("secret", SECRETS)
def test_every_form_is_replaced_byte_by_byte(secret: str) -> None:
    redactor = Redactor(SECRETS)
    for form in forms_of(secret):
        data = b"{" + form + b"}" + form
        assert stream(redactor, data, range(1, len(data))) == b"{[redacted]}[redacted]"


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("secret", SECRETS)
def test_what_encoders_make_of_a_secret_is_replaced(secret: str, encoder: str) -> None:
    assert Redactor([secret]).redact(b"<" + ENCODERS[encoder](secret) + b">") == b"<[redacted]>"


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_inside_of_what_is_base64_encoded_is_replaced(secret: str, encode: Callable[[bytes], bytes]) -> None:
    redactor = Redactor([secret])
    for before in ("", "u", "us", "user:", "Basic user:", "\xff\xfe"):
        for after in ("", "\n", "ab", "\xff\xff\xff", " and more"):
            text = encode((before + secret + after).encode())
            for shown in (text, text.rstrip(b"=")):
                left = redactor.redact(shown)
                assert left.count(MARK) == 1
                extra = len(before.encode()) + len(after.encode())
                assert len(left) - len(MARK) <= extra * 4 / 3 + 4  # what depends on the secret alone is gone


def test_the_shell_and_other_programs_cannot_print_it_either() -> None:
    secret = SECRETS[2]
    script = """
        printf "%q\\n" "$S"; declare -p S; set -x; : "$S"; set +x
        printf "%s" "$S" | base64; printf "%s" "$S" | od -An -tx1 -v -w999
    """
    shown = subprocess.run(
        ["bash", "-c", script], env={"S": secret, "LC_ALL": "C.UTF-8"}, capture_output=True, check=True
    )
    left = Redactor([secret]).redact(shown.stdout + shown.stderr)
    assert left.count(MARK) == 5
    assert b"ord" not in left


# --- what is left alone ---------------------------------------------------------------------------------------------


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=6))
def test_without_a_secret_nothing_changes(data: bytes, cuts: list[int]) -> None:
    redactor = Redactor(SECRETS)
    assert stream(redactor, data, [min(cut, len(data)) for cut in cuts]) == data


def test_without_secrets_everything_passes_at_once() -> None:
    redactor = Redactor([])
    assert redactor.feed(b"abc") == b"abc"
    assert redactor.end() == b""


@pytest.mark.parametrize("secret", ["", "short", "1234567", b"\xc3\xbc" * 7, " " * 20, "redacted", "[redacted]"])
def test_what_cannot_be_looked_for_is_ignored(secret: str | bytes) -> None:
    data = b"short 1234567 [redacted] redacted \xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc" + b" " * 30
    assert Redactor([secret]).redact(data) == data


def test_ordinary_output_is_not_held_back() -> None:
    redactor = Redactor(["ghp_9aZ3kQ7xW2mN"])  # pragma: allowlist secret
    assert redactor.feed(b"still working...") == b"still working..."
    assert redactor.feed(b"token ghp_9aZ") == b"token "
    assert redactor.feed(b"?") == b"ghp_9aZ?"
    assert redactor.feed(b"token ghp_9aZ3kQ7xW2mN") == b"token [redacted]"  # pragma: allowlist secret


def test_a_secret_of_bytes_that_are_no_text_is_replaced() -> None:
    secret = bytes(range(0x78, 0x90)) + b"\xff\xfe"
    for data in (secret, secret.hex().encode(), base64.b64encode(secret), repr(secret)[2:-1].encode()):
        assert Redactor([secret]).redact(b"<" + data + b">") == b"<[redacted]>"
    text = secret.decode("utf-8", "surrogateescape")
    assert forms_of(text) == forms_of(secret)


# --- secrets that touch ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("secrets", "data", "left"),
    [
        (["abcdefgh", "efghijkl"], b"-abcdefghijkl-", b"-[redacted]-"),  # overlap
        (["abcdefgh", "abcdefghijkl"], b"-abcdefghijkl-abcdefgh-", b"-[redacted]-[redacted]-"),  # prefix
        (["abcdefgh", "abcdefghijkl"], b"-abcdefghijk-", b"-[redacted]ijk-"),
        (["cdefghij", "abcdefghijkl"], b"-abcdefghijkl-cdefghij-", b"-[redacted]-[redacted]-"),  # inside
        (["cdefghij", "abcdefghijkl"], b"-abcdefghijk-", b"-ab[redacted]k-"),
        (["abcdefgh"], b"abcdefghabcdefgh", b"[redacted][redacted]"),  # next to each other
        (["abcdefgh"], b"abcdabcdefgh", b"abcd[redacted]"),  # begun twice
        (["aaaaaaaa"], b"b" + b"a" * 50 + b"b", b"b[redacted]b"),  # overlaps itself
        (["abcabcabc"], b"abcabcabcabcabd", b"[redacted]abd"),
        (["abcdefgh\n"], b"abcdefgh and abcdefgh\n", b"[redacted] and [redacted]"),  # as read from a file
    ],
)
def test_secrets_that_touch_are_replaced_at_every_pair_of_splits(secrets: list[str], data: bytes, left: bytes) -> None:
    redactor = Redactor(secrets)
    for first in range(len(data) + 1):
        for second in range(first, len(data) + 1):
            assert stream(redactor, data, [first, second]) == left


@pytest.mark.parametrize("there", range(1, 24))
def test_a_secret_cut_off_at_the_end_is_replaced_if_half_of_it_is_there(there: int) -> None:
    secret = b"ghp9aZ3kQ7xW2mN5bV8cR1tY"  # pragma: allowlist secret
    data = b"token=" + secret[:there]
    redactor = Redactor([secret])
    for cut in range(len(data) + 1):
        assert stream(redactor, data, [cut]) == (data if there < 12 else b"token=[redacted]")


SMALL = st.text("ab/ü", min_size=8, max_size=12)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_mixture_cut_anyhow_comes_out_as_it_should(data: st.DataObject) -> None:
    secrets = data.draw(st.lists(SMALL, min_size=1, max_size=4))
    forms = sorted({form for secret in secrets for form in forms_of(secret)})
    form = st.sampled_from(forms)
    part = st.one_of(
        form,
        form.map(lambda one: one[: len(one) * 2 // 3]),
        form.map(lambda one: one[3:]),
        st.binary(max_size=4),
        SMALL.map(str.encode),
    )
    text = b"".join(data.draw(st.lists(part, max_size=8)))
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=8))
    left = stream(Redactor(secrets), text, cuts)
    assert left == expected(text, forms)
    assume(not any(set(b"[]") & set(one) for one in forms))
    assert not any(one in left for one in forms)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=12) | st.text(min_size=1, max_size=12), max_size=3), st.data())
def test_any_secret_is_replaced_and_the_rest_is_as_it_was(secrets: list[bytes | str], data: st.DataObject) -> None:
    forms = {form for secret in secrets for form in forms_of(secret) if form not in MARK}
    assert all(len(form) >= 8 for form in forms)
    parts = st.one_of(st.binary(max_size=5), *[st.sampled_from(sorted(forms))] if forms else [])
    text = b"".join(data.draw(st.lists(parts, max_size=6)))
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=6))
    assert stream(Redactor(secrets), text, cuts) == expected(text, forms)


# --- limits ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from([form for secret in SECRETS[:3] for form in forms_of(secret)]), max_size=6))
def test_less_than_the_longest_form_is_held_back(parts: list[bytes]) -> None:
    redactor = Redactor(SECRETS[:3])
    longest = max(len(form) for secret in SECRETS[:3] for form in forms_of(secret))
    for part in parts:
        for byte in part:
            redactor.feed(bytes((byte,)))
            assert len(redactor._held) < longest


def test_a_text_may_be_redacted_in_the_middle_of_a_stream() -> None:
    redactor = Redactor(["abcdefghijkl"])
    assert redactor.feed(b"-abcdefgh") == b"-"
    assert redactor.redact(b"/abcdefghijkl/") == b"/[redacted]/"
    assert redactor.feed(b"ijkl-") + redactor.end() == b"[redacted]-"


def test_throughput_is_reported() -> None:
    """Measured, and compared with a limit that only a mistake would miss."""
    lines = [
        b"tests/test_%d.py::test_case[%d] PASSED [%2d%%] in 0.%03d s\n" % (i, i % 9, i % 100, i % 1000)
        for i in range(50_000)
    ]
    log = b"".join(lines)
    noise = random.Random(1).randbytes(2**20)  # noqa: S311 - the same in every run
    kinds = {
        "log": log,
        "base64": base64.b64encode(noise),
        "hex": noise.hex().encode(),
    }
    redactor = Redactor(SECRETS)
    for kind, data in kinds.items():
        started = time.perf_counter()
        left = stream(redactor, data, range(65536, len(data), 65536))
        speed = len(data) / (time.perf_counter() - started) / 1e6
        assert left == data
        print(f"{kind}: {speed:.0f} MB/s")  # noqa: T201 - to be seen with -rP
        assert speed > 5
