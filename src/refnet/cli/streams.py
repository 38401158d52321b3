"""Makes stdin, stdout and stderr safe: they may be closed, full, without a reader, or in an old encoding.

A run must not depend on its output: a backup succeeds even if nothing can be printed.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TextIO

#: Errors of an output: a full disk, a reader that has left.
NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE)
#: The commands that end when the reader of their output leaves: they do nothing else. All others continue.
_READERS = {
    "",
    *("list", "show", "cat", "query", "browse", "log", "find", "diff", "settings", "export", "completion"),
}


class Lasting(io.TextIOWrapper):
    """A text stream that continues to accept text after a write error, and remembers the error."""

    lost: OSError | None = None

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self._lose(error)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        if error.errno not in NOT_WRITTEN or self.lost:
            raise error
        self.lost = error
        to_nowhere(self.fileno())
        super().flush()


def to_nowhere(number: int) -> None:
    """Redirect the file descriptor `number` to nowhere; pending output is dropped."""
    handle = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(handle, number)
    os.close(handle)


def prepare(arguments: list[str]) -> None:
    """Open closed standard streams, so that later files do not take their numbers.

    Characters outside of their encoding are escaped. The reader of stderr may disappear, and that of stdout too if the
    command in `arguments` does more than print.
    """
    name = next((one for one in arguments if not one.startswith("-")), "")
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # It gets the lowest free number, this one; programs that are started need it too.
            os.set_inheritable(os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY), True)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    sys.stdout = _stream(sys.stdout, 1, lasting=name not in _READERS)
    sys.stderr = _stream(sys.stderr, 2, lasting=True)


def _stream(stream: TextIO | None, number: int, *, lasting: bool) -> TextIO:
    before = stream if isinstance(stream, io.TextIOWrapper) else open(number, "w", closefd=False)  # noqa: SIM115
    kind = Lasting if lasting else io.TextIOWrapper
    return kind(
        open(number, "wb", closefd=False),
        before.encoding,
        "backslashreplace",
        line_buffering=before.line_buffering or number == 2,
        write_through=before.write_through,
    )


def stdout_error() -> OSError | None:
    """The error of writing stdout, or None."""
    return sys.stdout.lost if isinstance(sys.stdout, Lasting) else None
