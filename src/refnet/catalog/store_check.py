"""The check of a remote store: requests with this machine's credential, and the server's responses.

A store protects against an attacker on this machine only if it refuses deletions, so a check tries to delete a small
object.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

from refnet.catalog.checks import Check, Status
from refnet.core import checked, formatting
from refnet.core.records import Layout, Most, Record

#: The largest record of a check, in bytes.
RECORD_BYTES = 64 << 10
#: The name of the monitor's check of a store begins with it.
OF_STORE = "store "
#: A check is due again after this time; the monitor warns later, as the run may be late.
DUE, OVERDUE = timedelta(days=27), timedelta(days=35)
#: The clocks may differ by this; S3 refuses a request from 15 minutes on.
CLOCKS = timedelta(minutes=5)


class Answer(StrEnum):
    """Verdict on a response of the server, from best to worst."""

    OK = "ok"
    #: It could not be tried, or this kind of store does not have it.
    NOTE = "note"
    #: The store does not protect, or cannot be used.
    ALARM = "alarm"


_Words = Annotated[str, checked.text(1000, like=r"[^\x00-\x1f\x7f-\x9f]*", errors="strict")]


@dataclass(frozen=True)
class Tried(Record):
    """One request and its response."""

    LAYOUT = Layout(more=True)

    #: What was tried: `delete`.
    what: _Words
    answer: Answer
    #: What the server said, and what that means.
    says: _Words


@dataclass(frozen=True)
class StoreCheck(Record):
    """The result of the check of a store."""

    LAYOUT = Layout(longest=RECORD_BYTES, more=True, format=1, ascii=False)

    store: _Words
    #: Its place, without a secret.
    shown: _Words
    at: datetime
    tried: Annotated[tuple[Tried, ...], Most(100)]

    @property
    def alarms(self) -> tuple[Tried, ...]:
        return tuple(one for one in self.tried if one.answer is Answer.ALARM)

    def due(self, now: datetime) -> bool:
        """Whether to repeat it: it failed, is a month old, or is dated in the future."""
        return bool(self.alarms) or not timedelta() <= now - self.at < DUE

    def values(self) -> dict[str, Any]:
        *others, tried = super().values().items()
        return dict([*others, ("alarm", bool(self.alarms)), tried])


def watch_checks(checks: Mapping[str, StoreCheck | None], now: datetime) -> Iterator[Check]:
    """Yield the monitor's check of each store. checks: store → last check, or None."""
    for name, last in checks.items():
        what, again = f"{OF_STORE}{name}", f"run: refnet store check {name}"
        if last is None:
            yield Check(None, what, Status.WARNING, f"never checked whether it refuses to delete; {again}")
            continue
        age = formatting.age(now - last.at)
        if last.alarms:
            first = last.alarms[0]
            says = f"the check {age} ago failed: {first.what}: {first.says}; {again}"
            yield Check(None, what, Status.CRITICAL, says)
        elif last.at > now + CLOCKS or now - last.at > OVERDUE:
            yield Check(None, what, Status.WARNING, f"last checked {age} ago, due every month; {again}")
        else:
            notes = [f"{one.what}: {one.says}" for one in last.tried if one.answer is Answer.NOTE]
            yield Check(None, what, Status.OK, "; ".join([f"checked {age} ago", *notes[:1]]))
