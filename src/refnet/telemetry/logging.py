"""The log: structlog with a run id in every line, text on a terminal and JSON elsewhere, without secrets.

Each line opens the file, appends with one write, and closes it: several processes share the file, and logrotate may
move it at any time. RefNet rotates a large file itself.
"""

import errno
import json
import os
import sys
import uuid
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

from refnet.core.errors import RefnetError
from refnet.core.files import open_file
from refnet.core.locks import take
from refnet.postgres.account import make_enterable
from refnet.settings import LOGS, Settings
from refnet.telemetry.redact import redactor, secrets_of

LEVELS = ("debug", "info", "warning", "error")
#: The size above which a file is rotated to `.1`, in bytes.
_LARGEST = 10 * 1024 * 1024

_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND


class _Later(ModuleType):
    """Stands in for a module that another one imports and may never use."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


@cache
def _structlog() -> ModuleType:
    """Import structlog when a log is opened, without what it would load for logs that RefNet does not write.

    rich, for tracebacks on a terminal, greenlets, and asyncio, for coroutines: together a fifth of a command's start.
    """
    absent = dict.fromkeys(("rich.console", "rich.pretty", "greenlet"))
    stands_in: dict[str, Any] = {**absent, "asyncio": _Later("asyncio")}
    hidden = {name: one for name, one in stands_in.items() if name not in sys.modules}
    sys.modules.update(hidden)
    # From Python 3.12 on, a record asks asyncio for its task, and would load it. No log of RefNet has tasks.
    setattr(import_module("logging"), "logAsyncioTasks", False)  # noqa: B010  # Python 3.11 has none
    try:
        return import_module("structlog")
    finally:
        for name, one in hidden.items():
            if sys.modules[name] is one:
                del sys.modules[name]


#: Called with a line's level and values.
Sink = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True)
class LogFile:
    """Writes a JSON line per event to `path`; a full disk loses lines and fails no backup."""

    path: Path

    def __call__(self, _level: str, values: dict[str, Any]) -> None:
        line = json.dumps(values, ensure_ascii=False, default=str).encode() + b"\n"
        try:
            self._rotate()
            self._append(line)
        except OSError as error:
            sys.stderr.write(f"refnet: note: {self.path} cannot be written: {error.strerror}\n")

    def _append(self, line: bytes) -> None:
        with os.fdopen(open_file(self.path, _APPEND, mode=0o640), "ab", buffering=0) as file:
            if os.fstat(file.fileno()).st_nlink > 1:
                raise OSError(errno.EMLINK, "it is a hard link")
            file.write(line)

    def _rotate(self) -> None:
        """Rename a large file, under a lock and only if it is still at `path`: two processes must not rotate twice.

        In a folder of another user, such as /var/log, only logrotate can do that.
        """
        with suppress(FileNotFoundError, PermissionError):
            if self.path.lstat().st_size < _LARGEST:
                return
            with os.fdopen(open_file(self.path), "rb") as file:
                take(file.fileno(), seconds=None)
                if os.path.samestat(os.fstat(file.fileno()), self.path.lstat()):
                    self.path.replace(self.path.with_name(f"{self.path.name}.1"))


def to_stream(stream: TextIO, least: str) -> Sink:
    """Return a sink that writes lines of at least level `least`: coloured text on a terminal, JSON elsewhere."""
    structlog = _structlog()
    as_json = structlog.processors.JSONRenderer(ensure_ascii=False, default=str)
    render = structlog.dev.ConsoleRenderer(colors=True) if stream.isatty() else as_json

    def write(level: str, values: dict[str, Any]) -> None:
        if LEVELS.index(level) >= LEVELS.index(least):
            stream.write(f"{render(None, level, dict(values))!s}\n")
            stream.flush()

    return write


def logger(sinks: list[Sink], redact: Callable[[str], str]) -> Any:
    """Return a structlog logger that passes each redacted line to every sink; its context holds the run id."""

    structlog = _structlog()

    def deliver(_logger: Any, level: str, values: MutableMapping[str, Any]) -> dict[str, Any]:
        safe = _safe(dict(values), redact)
        for sink in sinks:
            sink(level, safe)
        raise structlog.DropEvent

    return structlog.wrap_logger(
        structlog.PrintLogger(),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            deliver,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(0),
    )


def add_to_log(**values: str) -> None:
    """Add `values` to each line that this command writes from now on."""
    _structlog().contextvars.bind_contextvars(**values)


def open_log(settings: Settings, name: str, *, service: bool = False) -> Any:
    """Return the log of this process: `refnet-NAME.log` in log.folder, and stderr from log.level on.

    service: the process prints no reports, so stderr gets `info` if log.level is not set.
    """
    sinks: list[Sink] = []
    if settings.log_folder:
        if settings.log_folder == settings.home / LOGS:
            with suppress(OSError):  # the first line that cannot be written reports it
                make_enterable(settings.log_folder)
        sinks.append(LogFile(settings.log_folder / f"refnet-{name}.log"))
    if level := settings.log_level or ("info" if service else None):
        sinks.append(to_stream(sys.stderr, level))
    return logger(sinks, redactor(secrets_of(settings)))


def _safe(value: Any, redact: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: _safe(each, redact) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_safe(each, redact) for each in value]
    return value if isinstance(value, (int, float, bool, type(None))) else redact(str(value))


@contextmanager
def logged(log: Any, command: str, arguments: list[str]) -> Iterator[None]:
    """Log the start and end of `command` under one run id."""
    with _structlog().contextvars.bound_contextvars(run=uuid.uuid4().hex[:12]):
        log.info("began", command=command, arguments=arguments)
        try:
            yield
        except RefnetError as error:
            log.error("failed", command=command, message=error.message, hint=error.hint)  # noqa: TRY400  # no traceback
            raise
        except SystemExit as ended:
            log.info("ended", command=command, code=ended.code)
            raise
        except BaseException:
            log.exception("failed", command=command)
            raise
