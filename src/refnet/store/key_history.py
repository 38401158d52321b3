"""The history of recovery keys: `REFNET_HOME/keys/recipients.jsonl`, a line for each key that was made or checked.

It contains recipients, which are public, and no key. A line that cannot be read is skipped.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from refnet.core import checked, trust
from refnet.core.files import explained, make_folder, sync_folder
from refnet.core.formatting import some
from refnet.core.records import Layout, Most, Record
from refnet.settings import Settings
from refnet.store.disk import append_lines

#: The largest history that is read, in bytes: 5,000 lines.
_LARGEST = 1 << 20


class Event(StrEnum):
    """A line of the history."""

    #: The key was made, and its recovery page was written or printed.
    MADE = "made"
    #: Its page was made again.
    PAGE = "page"
    #: The key was typed in, and is one of the recipients.
    CHECKED = "checked"


_Url = Annotated[str, checked.text(4096, errors="strict")]


@dataclass(frozen=True)
class KeyEvent(Record):
    """One line."""

    LAYOUT = Layout(longest=64 << 10, more=True)

    at: datetime
    event: Event
    #: Of the key: `age1…`.
    recipient: Annotated[str, checked.text(100, like="age1[a-z0-9]+")]
    #: The recipient whose key a new one replaces; "": none.
    replaces: Annotated[str, checked.text(100, like="(age1[a-z0-9]+)?")] = ""
    #: The URLs of the stores on the page that was made; None: that is not known.
    stores: Annotated[tuple[_Url, ...], Most(1000)] | None = None


@dataclass(frozen=True)
class KeyHistory:
    """The lines, oldest first."""

    events: tuple[KeyEvent, ...]

    def made(self, recipient: str) -> KeyEvent | None:
        """When the key of `recipient` was made on this machine, or None."""
        return next(
            (one for one in self.events if one.event is Event.MADE and one.recipient == recipient), None
        )

    def on_page(self, recipient: str) -> tuple[str, ...] | None:
        """Store URLs on the newest recovery page of `recipient`; None: unknown."""
        pages = [one for one in self.events if one.event is not Event.CHECKED and one.recipient == recipient]
        return pages[-1].stores if pages else None

    def checked(self, recipient: str) -> KeyEvent | None:
        """When the key of `recipient` was last checked, or None."""
        found = (one for one in self.events if one.event is Event.CHECKED and one.recipient == recipient)
        return max(found, key=lambda one: one.at, default=None)

    def forgotten(self, named: Collection[str]) -> tuple[str, ...]:
        """Recipients made here that are neither `named` nor replaced."""
        made = dict.fromkeys(one.recipient for one in self.events if one.event is Event.MADE)
        return tuple(one for one in made if one not in named and not self.replacements(one))

    def replacements(self, recipient: str) -> tuple[KeyEvent, ...]:
        """Successive replacements of the key of `recipient`."""
        found: list[KeyEvent] = []
        while after := self._replacing(recipient, {one.recipient for one in found}):
            found.append(after)
            recipient = after.recipient
        return tuple(found)

    def _replacing(self, recipient: str, but: Collection[str]) -> KeyEvent | None:
        found = [one for one in self.events if one.replaces == recipient and one.recipient not in but]
        return found[-1] if found else None


@dataclass(frozen=True)
class HistoryFile:
    """The file, in REFNET_HOME/keys."""

    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / "recipients.jsonl"

    def read(self) -> KeyHistory:
        """Read the history; RefnetError if others can write the file, or it is too large."""
        events: list[KeyEvent] = []
        with explained(self.path):
            try:
                lines = trust.read(self.path, _LARGEST).content.splitlines()
            except FileNotFoundError:
                lines = []
        for line in lines:
            with suppress(ValueError):
                events.append(KeyEvent.from_json(line))
        return KeyHistory(tuple(events))

    def add(self, event: KeyEvent) -> None:
        """Append a line."""
        make_folder(self.folder)
        with explained(self.path):
            if append_lines(self.path, event.to_json()):
                sync_folder(self.folder)


def history_file(settings: Settings) -> HistoryFile:
    """The history of recovery keys."""
    return HistoryFile(settings.home / "keys")


def stale_pages(settings: Settings) -> Iterator[str]:
    """Yield wrong stores on the newest page of each key in use; older pages without a record are skipped."""
    history, wanted = (
        history_file(settings).read(),
        {one.url_to_read for one in settings.every_store.values()},
    )
    for one in settings.encryption_recipients:
        known = history.on_page(one)
        if known is None or wanted == {*known}:
            continue
        said = []
        if lacks := sorted(wanted - {*known}):
            said.append(f"lacks {some(lacks, 3)}")
        if old := sorted({*known} - wanted):
            said.append(f"names {some(old, 3)}, which is not used")
        yield f"the page of {one} {' and '.join(said)}"
