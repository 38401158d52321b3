"""The check of a remote store: what was tried there with this machine's credential, and what the server answered.

A store protects from an attacker on this machine only if it refuses to delete. So a check tries it on a small object.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Self

from refnet.recovery.model import checked, formatting
from refnet.recovery.model.artifact import utc
from refnet.recovery.model.checks import Check, Status

_FORMAT = 1
#: The largest record of a check, in bytes.
RECORD_BYTES = 64 << 10
#: The name of the monitor's check of a store begins with it.
OF_STORE = "store "
#: A check is due again after this time; the monitor warns later, as the run may be late.
DUE, OVERDUE = timedelta(days=27), timedelta(days=35)
#: The clocks may differ by this; S3 refuses a request from 15 minutes on.
CLOCKS = timedelta(minutes=5)


class Answer(StrEnum):
    """The meaning of an answer of the server, from best to worst."""

    OK = "ok"
    #: It could not be tried, or this kind of store does not have it.
    NOTE = "note"
    #: The store does not protect, or cannot be used.
    ALARM = "alarm"


@dataclass(frozen=True)
class Tried:
    """One try and its answer."""

    #: What was tried: `delete`.
    what: str
    answer: Answer
    #: What the server said, and what that means.
    says: str

    def to_json(self) -> dict[str, Any]:
        return {"what": self.what, "answer": self.answer.value, "says": self.says}


@dataclass(frozen=True)
class StoreCheck:
    """The result of the check of a store."""

    store: str
    #: Its place, without a secret.
    shown: str
    at: datetime
    tried: tuple[Tried, ...]

    @property
    def alarms(self) -> tuple[Tried, ...]:
        return tuple(one for one in self.tried if one.answer is Answer.ALARM)

    def due(self, now: datetime) -> bool:
        """Return whether it failed, is a month old, or is dated in the future."""
        return bool(self.alarms) or not timedelta() <= now - self.at < DUE

    def to_json(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "store": self.store,
            "shown": self.shown,
            "at": utc(self.at),
            "alarm": bool(self.alarms),
            "tried": [one.to_json() for one in self.tried],
        }

    def to_text(self) -> str:
        """Return its record, JSON."""
        return json.dumps(self.to_json(), ensure_ascii=False) + "\n"

    @classmethod
    def from_text(cls, text: str | bytes) -> Self:
        """Read the record of a check; ValueError if it is malformed."""
        values = _CHECK(checked.document(text, RECORD_BYTES))
        return cls(values["store"], values["shown"], values["at"], tuple(values["tried"]))


def watch_checks(checks: Mapping[str, StoreCheck | None], now: datetime) -> Iterator[Check]:
    """Yield the monitor's check of each store: its last check by its name, None: there is none."""
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


_WORDS = checked.text(1000, like=r"[^\x00-\x1f\x7f-\x9f]*", errors="strict")
_TRIED = checked.record({"what": _WORDS, "answer": checked.member(Answer), "says": _WORDS}, more=True)
_CHECK = checked.record(
    {
        "format": checked.integer(1, _FORMAT),
        "store": _WORDS,
        "shown": _WORDS,
        "at": checked.moment,
        "tried": checked.each(lambda value: Tried(**_TRIED(value)), 100),
    },
    more=True,
)
