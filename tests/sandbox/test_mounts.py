"""Which kind of file system something is on."""

from __future__ import annotations

from pathlib import Path

import pytest

from executor.sandbox.layout import file_system_in, file_system_of
from tests.support import small_disk

TABLE = r"""22 61 0:20 / /proc rw,relatime - proc proc rw
61 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
70 61 0:45 / /mnt/my\040share rw,nosuid shared:30 master:2 - nfs4 host:/a\040-\040b rw,vers=4.2
71 70 0:46 / /mnt/my\040share rw - tmpfs tmpfs rw
72 61 0:47 / /home/me/far rw - fuse.sshfs me@host: rw
no mount at all
73
"""


@pytest.mark.parametrize(
    ("mount", "kind"),
    [
        ("61", "ext4"),
        ("70", "nfs4"),
        ("71", "tmpfs"),
        ("72", "fuse.sshfs"),
        ("22", "proc"),
        ("7", ""),
        ("73", ""),
        ("no", ""),
    ],
)
def test_a_mount_has_its_type_whatever_else_is_at_that_place(mount: str, kind: str) -> None:
    assert file_system_in(TABLE, mount) == kind


def test_the_kernel_is_asked_where_a_folder_really_is(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/proc")
    assert file_system_of(Path("/proc")) == file_system_of(tmp_path / "link") == "proc"
    assert file_system_of(tmp_path / "gone") == ""


def test_a_file_system_with_a_space_in_its_place_is_found(tmp_path: Path) -> None:
    before = file_system_of(tmp_path)
    with small_disk(tmp_path / "my disk", 1) as disk:
        (disk / "inner").mkdir()
        assert file_system_of(disk / "inner") == file_system_of(disk) == "tmpfs"
    assert file_system_of(tmp_path / "my disk") == before != ""
