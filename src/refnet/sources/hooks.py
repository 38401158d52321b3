"""hooks: command lines of the settings, run before and after a backup or a restore. No shell is involved.

Exactly one of `after_…` and `on_error` follows `before_…`, unless `after_…` itself fails: then `on_error` runs too.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from refnet.catalog.source_name import SourceName
from refnet.context import Context
from refnet.core.errors import RefnetError
from refnet.core.formatting import plain
from refnet.settings import Settings
from refnet.sources.command_runs import run
from refnet.sources.restored_code import runs
from refnet.telemetry.logging import open_log
from refnet.telemetry.redact import redactor, secrets_of

#: Variables of RefNet that a hook inherits: they name no secret, and a `refnet` in a hook needs them.
_INHERITED = frozenset({"REFNET_HOME", "REFNET_CONFIG", "REFNET_BACKUP_DIR"})
#: The most characters of an error, or of a command line, that are passed on or shown.
_LONGEST = 2000


MOMENTS = ("before_backup", "after_backup", "before_restore", "after_restore", "on_error")


class Action(StrEnum):
    """The actions that have hooks."""

    BACKUP = "backup"
    RESTORE = "restore"


@dataclass
class Doing:
    """State between hooks, recorded by the caller for later hooks."""

    artifact: str = ""
    #: Why the artifact is damaged; "": it is not.
    damaged: str = ""


@contextmanager
def around(context: Context, source: SourceName, action: Action, artifact: str = "") -> Iterator[Doing]:
    """Run the hooks of `source` around the block. RefnetError, before the block, if one of `before_…` fails.

    A failed hook after the block raises too, but the block's result stays.
    """
    doing, hooks = Doing(artifact), _Hooks(context, source, action)
    try:
        hooks.run(f"before_{action}", doing)
        yield doing
        if action is Action.RESTORE:
            context.restored()
        if not doing.damaged:
            hooks.run(f"after_{action}", doing, "done")
    except BaseException as error:
        unknown = type(error).__name__ if isinstance(error, Exception) else "interrupted"
        message = error.message if isinstance(error, RefnetError) else unknown
        hooks.run_on_error(doing, "failed", message)
        raise
    if doing.damaged:
        hooks.run_on_error(doing, "damaged", doing.damaged)


def repeat(context: Context, source: SourceName, action: Action, artifact: str) -> None:
    """Run the hooks that follow `action` once more; RefnetError at the first that fails."""
    _Hooks(context, source, action).run(f"after_{action}", Doing(artifact), "done")


def listed(settings: Settings, source: SourceName, action: Action) -> list[str]:
    """Hooks that `around` runs, for a plan: `before_backup: COMMAND`."""
    moments = (f"before_{action}", f"after_{action}", "on_error")
    return [f"{moment}: {line}" for moment in moments for line in lines(settings, source, moment)]


def not_runnable(settings: Settings) -> set[str]:
    """Programs of hooks that this user cannot run."""
    found = {words[0] for words in _all(settings)}
    folder = current_folder(settings)
    return {one for one in found if not shutil.which(folder / one if "/" in one else one)}


def in_folders(settings: Settings, folders: Collection[Path]) -> tuple[str, ...]:
    """Command lines of hooks that run code from `folders`, which a restore replaces by code from a backup."""
    found = (words for words in _all(settings) if runs(words, current_folder(settings), folders))
    return tuple(dict.fromkeys(map(line, found)))


def _all(settings: Settings) -> Iterator[tuple[str, ...]]:
    owners = [(settings, "hooks_"), *((one, "") for one in settings.sources.values())]
    for owner, lead in owners:
        for moment in MOMENTS:
            yield from getattr(owner, lead + moment) or ()


def current_folder(settings: Settings) -> Path:
    """Working directory of commands in the settings."""
    return settings.file.parent if settings.file else Path("/")


def lines(settings: Settings, source: SourceName, moment: str) -> list[str]:
    """Return the command lines of `source` at `moment`, for a display."""
    return [line(words) for words in commands(settings, source, moment)]


def line(words: Sequence[str]) -> str:
    """Return a command as a line for a display."""
    return plain(shlex.join(words))


def commands(settings: Settings, source: SourceName, moment: str) -> tuple[tuple[str, ...], ...]:
    """Commands of the source, else the common ones."""
    own = settings.sources.get(source)
    found: tuple[tuple[str, ...], ...] | None = getattr(own, moment) if own else None
    every: tuple[tuple[str, ...], ...] = getattr(settings, f"hooks_{moment}")
    return every if found is None else found


@dataclass(frozen=True)
class _Hooks:
    context: Context
    source: SourceName
    action: Action

    def run(self, moment: str, doing: Doing, outcome: str = "", error: str = "") -> None:
        """Run the hooks of `moment` in their order; RefnetError at the first that fails."""
        settings = self.context.settings
        found = commands(settings, self.source, moment)
        if not found:
            return

        redact = redactor(secrets_of(settings))
        log = open_log(settings, self.action, service=self.context.service)
        log = log.bind(hook=moment, source=str(self.source))
        environment = {
            **_inherited({**settings.variables, **self.context.variables}),
            "REFNET_SOURCE": str(self.source),
            "REFNET_ACTION": self.action.value,
            "REFNET_HOOK": moment,
            "REFNET_OUTCOME": outcome,
            "REFNET_ARTIFACT": doing.artifact,
            "REFNET_ERROR": plain(redact(error))[:_LONGEST],
        }
        for words in found:
            line = redact(plain(shlex.join(words)))[:_LONGEST]
            if why := self._one(words, environment, log.bind(command=line), redact):
                raise RefnetError(
                    f"the hook {moment} of {self.source} failed: {line}: {why}",
                    f"{_HINTS[moment].format(artifact=doing.artifact or 'the restored data')} {self._output()}",
                )

    def _one(
        self, words: Sequence[str], environment: dict[str, str], log: Any, redact: Callable[[str], str]
    ) -> str:
        """Run one command; return why it failed, or ""."""
        settings, last = self.context.settings, list[str]()
        log.info("hook began")

        def tell(text: str) -> None:
            last[:] = [redact(text)[:_LONGEST]]
            log.info("hook output", output=last[0])

        why = run(
            words, seconds=settings.hooks_timeout, tell=tell, env=environment, cwd=current_folder(settings)
        )
        (log.error if why else log.info)("hook ended", **({"message": why} if why else {}))
        return f"{why}: {plain(last[0])}" if why and last else why

    def _output(self) -> str:
        folder = self.context.settings.log_folder
        kept = f"Its output is in {folder}/refnet-{self.action}.log."
        return kept if folder else "Set log.folder to see its output."

    def run_on_error(self, doing: Doing, outcome: str, error: str) -> None:
        """Run the hooks `on_error`; their failures become notes, as the first error matters more."""
        try:
            self.run("on_error", doing, outcome, error)
        except RefnetError as failed:
            self.context.note(failed.message)


_HINTS = {
    "before_backup": "Nothing was backed up.",
    "before_restore": "Nothing was restored.",
    "after_backup": "{artifact} is complete.",
    "after_restore": "{artifact} is live.",
    "on_error": "The first error is reported.",
}


def _inherited(variables: Mapping[str, str]) -> dict[str, str]:
    """Environment without RefNet's settings (possibly secrets) and PGPASSWORD."""
    return {
        name: value
        for name, value in {**os.environ, **variables}.items()
        if name in _INHERITED or not (name.startswith("REFNET_") or name == "PGPASSWORD")
    }
