"""Other processes and other users, for tests of what they may and may not do."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass


def run(code: str, *arguments: object, **options: object) -> subprocess.Popen[str]:
    """A Python process of its own that runs `code` with our package."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload,no-any-return]


@dataclass(frozen=True)
class Ordinary:
    """An ordinary user, and a way to act as one."""

    uid: int
    gid: int

    def does(self, act: Callable[[], str]) -> str:
        """What `act` returns, or the name and the lines of what it raises, done by a child that is this user."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            try:
                os.chdir("/")
                os.setgroups([])
                os.setgid(self.gid)
                os.setuid(self.uid)
                said = act()
            except BaseException:  # noqa: BLE001  # nothing of the child may go on with the parent's tests
                said = traceback.format_exc()
            os.write(writing, said.encode())
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            said = pipe.read()
        os.waitpid(child, 0)
        return said
