"""The lines of `refnet check`, each from a check with a time limit."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from refnet.core.errors import RefnetError
from refnet.core.files import explain

#: Checks of databases whose results depend on the server's major version alone.
OF_MACHINE = ("programs", "proof")
#: The time limit of a check, in seconds.
SECONDS = 30.0


class CheckState(StrEnum):
    """The result of a check, from best to worst."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"

    @property
    def exit(self) -> int:
        """The exit code, as of `monitor`: 0 ok, 1 warning, 2 error."""
        return list(CheckState).index(self)


@dataclass(frozen=True)
class CheckLine:
    """One check and its result."""

    what: str
    state: CheckState
    says: str
    #: What to do; "" if it is ok.
    hint: str = ""


@dataclass(frozen=True)
class CheckReport:
    """The result of all checks."""

    lines: tuple[CheckLine, ...]

    @property
    def state(self) -> CheckState:
        return max((line.state for line in self.lines), key=lambda state: state.exit)

    def to_json(self) -> dict[str, Any]:
        return {"state": self.state, "checks": [asdict(line) for line in self.lines]}


def ok(what: str, says: str) -> CheckLine:
    return CheckLine(what, CheckState.OK, says)


def warning(what: str, says: str, hint: str) -> CheckLine:
    return CheckLine(what, CheckState.WARNING, says, hint)


def error(what: str, says: str, hint: str) -> CheckLine:
    return CheckLine(what, CheckState.ERROR, says, hint)


def error_line(what: str, error: RefnetError, state: CheckState = CheckState.ERROR) -> CheckLine:
    return CheckLine(what, state, error.message, error.hint)


def bounded(
    what: str, act: Callable[[], Iterable[CheckLine]], seconds: float = SECONDS
) -> tuple[CheckLine, ...]:
    """Return the lines of `act`; an error, or the time limit, is its last line.

    After `seconds` the call continues in its thread: a hanging server or disk cannot be interrupted.
    """
    found: list[CheckLine] = []
    ended: list[bool] = []

    def work() -> None:
        try:
            found.extend(line for line in act())
        except RefnetError as raised:
            found.append(error_line(what, raised))
        except OSError as raised:
            found.append(error_line(what, explain(raised, Path(raised.filename or what))))
        ended.append(True)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if ended:
        return tuple(found)
    if thread.is_alive():
        says, hint = f"did not end within {seconds:g} s", "Check whether its server or its disk hangs."
    else:
        says, hint = "failed", "Report this error with the traceback above."
    return (*found, error(what, says, hint))


def writable(folder: Path) -> bool:
    """Whether this user can write in `folder`, or create it."""
    nearest = next(one for one in (folder, *folder.parents) if os.path.lexists(one))
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
