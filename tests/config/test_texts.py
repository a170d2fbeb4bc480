"""Which files are meant, and how their bytes are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from executor.process.files import EncodingError, decoded, files_in

if TYPE_CHECKING:
    from pathlib import Path

TEXT = "Größe\r\n日本\n"


@pytest.mark.parametrize(
    "data",
    [TEXT.encode(), b"\xef\xbb\xbf" + TEXT.encode(), TEXT.encode("utf-16"), b"\xfe\xff" + TEXT.encode("utf-16-be")],
    ids=["utf-8", "with a mark", "utf-16", "utf-16-be"],
)
def test_these_encodings_are_read(data: bytes) -> None:
    assert decoded(data) == TEXT


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ("a\nb\nGröße".encode("latin-1"), "is not UTF-8 in line 3: byte 0xf6"),
        ("title".encode("utf-16-le"), "looks like UTF-16 without a byte order mark"),
        (b"\xff\xfea", "begins like UTF-16 but is not valid"),
    ],
    ids=["latin-1", "utf-16 without a mark", "half of a letter"],
)
def test_other_encodings_are_refused_with_the_line(data: bytes, problem: str) -> None:
    with pytest.raises(EncodingError) as error:
        decoded(data)
    assert problem in str(error.value)
    assert str(error.value).isprintable()


def test_leftovers_are_no_declarations(tmp_path: Path) -> None:
    for name in (".m1.toml", "._m1.toml", "#m1.toml#", "~m1.toml", "m1.toml~", "m1.toml.swp", "m2.toml", "m1.toml"):
        (tmp_path / name).touch()
    (tmp_path / "gone.toml").symlink_to("nowhere")
    (tmp_path / ".#m1.toml").symlink_to("user@host.1")
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "linked.toml").symlink_to("m1.toml")
    assert [path.name for path in files_in(tmp_path, ".toml")] == ["linked.toml", "m1.toml", "m2.toml"]
