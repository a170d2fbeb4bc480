"""The output of a command on disk, bounded and without secrets."""

from __future__ import annotations

import errno
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from executor.core.redact import Redactor


class Log:
    """The output of a command on disk: all of it, or the first and the last half of `cap` bytes; without secrets.

    Nothing is kept, on disk or in the tail, that has not passed the redactor. `total` counts what was written to us.
    """

    def __init__(self, path: str, cap: int, redactor: Redactor) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        self.fd = os.open(path, flags, 0o600)
        if not stat.S_ISREG(os.fstat(self.fd).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        os.ftruncate(self.fd, 0)
        self.head_room = cap // 2
        self.tail_room = cap - self.head_room
        self.tail = bytearray()
        self.redactor = redactor
        self.left_out = self.total = 0
        self.problem = ""

    def add(self, data: bytes) -> None:
        """Take the next output."""
        self.total += len(data)
        self.keep(self.redactor.feed(data))

    def keep(self, data: bytes) -> None:
        """Put redacted output where it belongs."""
        head, rest = data[: self.head_room], data[self.head_room :]
        self.head_room -= len(head)
        self.write(head)
        self.tail += rest
        if (surplus := len(self.tail) - self.tail_room) > 0:
            del self.tail[:surplus]  # cheap: a bytearray drops its front by moving an offset
            self.left_out += surplus

    def finish(self) -> None:
        """Append the last half, and how much is missing before it."""
        self.keep(self.redactor.end())
        if self.left_out:
            self.write(b"\n... %d bytes left out ...\n" % self.left_out)
        self.write(self.tail)
        os.close(self.fd)

    def write(self, data: bytes | bytearray) -> None:
        """Write all of it; a full disk must not stop the command, so the problem is kept for the result."""
        rest = memoryview(data)
        try:
            while rest and not self.problem:
                rest = rest[os.write(self.fd, rest) :]
        except OSError as error:
            self.problem = f"the log is incomplete: {error.strerror}"
