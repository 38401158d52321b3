"""Do the stores protect? The monitor's checks of the backup folder and of the remote stores.

A remote store protects against an attacker on this machine only if it refuses deletions. So `refnet store check` tries to
delete a small object with this machine's credential; here are its record and what the monitor says of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

from refnet.catalog.catalog import Catalog
from refnet.catalog.identity import Whose, labels
from refnet.catalog.manifest import Entry, Outcome
from refnet.catalog.monitoring import GRACE, Check, Limits, Status
from refnet.catalog.remote import Copy, CopyLevel
from refnet.catalog.remote_state import READ_BACK_WITHIN, StoreState, copy_of, is_missing
from refnet.catalog.source_name import LOCAL, SourceName
from refnet.catalog.store import Leftover, Unlisted
from refnet.core import checked, formatting
from refnet.core.errors import RefnetError
from refnet.core.records import Layout, Most, Rare, Record

#: The largest record of a check, in bytes.
RECORD_BYTES = 64 << 10
#: The name of the monitor's check of a store begins with it.
OF_STORE = "store "
#: A check is due again after this time; the monitor warns later, as the run may be late.
DUE, OVERDUE = timedelta(days=27), timedelta(days=35)
#: The clocks may differ by this; S3 refuses a request from 15 minutes on.
CLOCKS = timedelta(minutes=5)
#: The name of the monitor's check of the copies in a store begins with it.
OF_COPY = "copy "
#: A store without a schedule of its own that could not be listed for so long is critical.
_UNSEEN = timedelta(days=1)


def another_store(trouble: RefnetError) -> Check:
    """The only check of a backup folder that is not the store of earlier runs."""
    return Check(None, "the store", Status.CRITICAL, f"{trouble.message} {trouble.hint}")


def watch_store(
    catalog: Catalog, leftovers: Sequence[Leftover], unlisted: Sequence[Unlisted], free: int | None
) -> tuple[Check, ...]:
    """Check the store; `free` is its free space in bytes, None if unknown."""
    checks = [_free_space(catalog, free)]
    if leftovers:
        says = f"{formatting.some([one.name for one in leftovers], 3)}: `refnet prune` removes them"
        checks.append(Check(None, "leftovers", Status.WARNING, says))
    if unreadable := [one for one in unlisted if one.unreadable]:
        says = f"{formatting.some([f'{one.name} {one.why}' for one in unreadable], 3)}: `refnet list` says what to do"
        checks.append(Check(None, "unreadable", Status.WARNING, says))
    if others := [one.name for one in unlisted if not one.unreadable]:
        says = f"{formatting.some(others, 3)}: not counted; `refnet adopt` adds them"
        checks.append(Check(None, "not listed", Status.OK, says))
    return tuple(checks)


def _free_space(catalog: Catalog, free: int | None) -> Check:
    """Check that the next run of every source fits, at the size of the newest artifacts."""
    if free is None:
        return Check(None, "free space", Status.UNKNOWN, "cannot be determined")
    newest = [catalog.newest_complete(source) for source in catalog.sources]
    needed = sum(entry.manifest.size for entry in newest if entry)
    says = f"{formatting.size(free)} free, the next run takes about {formatting.size(needed)}"
    if free < needed:
        return Check(
            None, "free space", Status.CRITICAL, f"{says}: `refnet prune --plan` shows what can be deleted"
        )
    return Check(None, "free space", Status.WARNING if free < 3 * needed else Status.OK, says)


def watch_bare(names: Sequence[str]) -> tuple[Check, ...]:
    """Warn about unencrypted files, although encryption.local is set."""
    if not names:
        return ()
    says = f"{formatting.some(names, 3)}: `refnet copy --store local` encrypts and removes them"
    return (Check(None, "not encrypted", Status.WARNING, says),)


def watch_others(
    catalog: Catalog, target: Whose | None, name: SourceName = SourceName.DATABASE
) -> tuple[Check, ...]:
    """Report other identities with artifacts of `name` in the store; their own monitors check them."""
    found = Catalog(catalog.of_source(name)).by_identity()
    named = labels(found)
    says = [
        f"{named[one]}: {formatting.plural(len(found[one]), 'artifact')}"
        for one in catalog.others(target, name)
    ]
    if not says:
        return ()
    return (Check(name, "others", Status.OK, f"{'; '.join(says)}; not counted for {target}"),)


def watch_pages(stale: Iterable[str]) -> tuple[Check, ...]:
    """Warn about recovery pages without the current stores: after a loss, only the pages name them."""
    hint = "make it again: `refnet key page`"
    return tuple(Check(None, "recovery page", Status.WARNING, f"{one}: {hint}") for one in stale)


class Verdict(StrEnum):
    """The verdict on a response of the server, from best to worst."""

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
    answer: Verdict
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
    #: For how long a new object was locked; 0: not, or unknown.
    lock_seconds: Rare[Annotated[int, checked.integer(0, 1 << 40)]] = 0

    @property
    def alarms(self) -> tuple[Tried, ...]:
        return tuple(one for one in self.tried if one.answer is Verdict.ALARM)

    def due(self, now: datetime) -> bool:
        """Whether to repeat it: it failed, is a month old, or is dated in the future."""
        return bool(self.alarms) or not timedelta() <= now - self.at < DUE

    def values(self) -> dict[str, Any]:
        found = super().values()
        return found | {"alarm": bool(self.alarms), "tried": found.pop("tried")}


@dataclass(frozen=True)
class RecoveryDrilled(Record):
    """The last drill of a recovery from a store, with the recovery key."""

    LAYOUT = Layout(longest=RECORD_BYTES, more=True, format=1, ascii=False)

    store: _Words
    #: Its place, without a secret.
    shown: _Words
    at: datetime
    outcome: Outcome
    #: The first thing that a recovery would miss; "": nothing.
    says: _Words = ""


def watch_drills(drills: Mapping[str, RecoveryDrilled | None], now: datetime) -> Iterator[Check]:
    """Yield the monitor's check of each store. drills: store → last drill of a recovery, or None."""
    for name, last in drills.items():
        what, again = f"recovery from {name}", f"run: refnet drill --recovery --store {name}"
        if last is None:
            says = f"never drilled with the recovery key; {again}"
            yield Check(None, what, Status.WARNING, says)
        elif last.outcome is not Outcome.PASSED:
            says = f"the drill {formatting.age(now - last.at)} ago: {last.outcome}: {last.says}; {again}"
            yield Check(None, what, Status.WARNING, says)
        else:
            yield Check(None, what, Status.OK, f"drilled {formatting.age(now - last.at)} ago")


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
            notes = [f"{one.what}: {one.says}" for one in last.tried if one.answer is Verdict.NOTE]
            yield Check(None, what, Status.OK, "; ".join([f"checked {age} ago", *notes[:1]]))


def watch_copies(
    states: Sequence[StoreState],
    catalog: Catalog,
    limits: Mapping[SourceName, Limits],
    now: datetime,
    only: SourceName | None = None,
) -> Iterator[Check]:
    """Yield the checks of each store and source.

    Args:
        catalog: the artifacts in the backup folder.
        limits: by source.
        only: check only this source; None: all sources, and the order of the manifests.
    """
    for state in states:
        what = f"{OF_COPY}{state.name}"
        if state.trouble:
            yield _unseen(state, state.trouble, now)
            continue
        for source in sorted(state.sources):
            newest, copy = catalog.newest_complete(source), state.newest(source, now)
            if (newest or copy) and only in {None, source}:
                yield _of_source(state, newest, copy, limits[source], now)
            if only in {None, source}:
                yield from _damage(state, source)
        if only is None and state.gaps:
            says = f"{formatting.some([one.why for one in state.gaps], 3)}: find out who can delete there: `refnet list --store {state.name}`"
            yield Check(None, what, Status.CRITICAL, says)
        elif only is None and state.unlisted:
            says = f"{formatting.some([f'{one.name} {one.why}' for one in state.unlisted], 3)}; not counted"
            yield Check(None, what, Status.WARNING, says)


def _unseen(state: StoreState, trouble: RefnetError, now: datetime) -> Check:
    known = state.listed is not None and timedelta() <= now - state.listed <= _UNSEEN + GRACE
    ago = f"; last listed {formatting.age(now - state.listed)} ago" if state.listed else ""
    says = f"cannot be listed{ago}: {trouble.message}"
    return Check(None, f"{OF_COPY}{state.name}", Status.WARNING if known else Status.CRITICAL, says)


def _damage(state: StoreState, source: SourceName) -> Iterator[Check]:
    """Warn about damaged copies of `source` without another copy of the artifact."""
    damaged = [one for one in state.copies if one.source == source and one.damaged]
    names = [one.name for one in damaged if not copy_of(state.copies, one.manifest)]
    if names:
        says = f"damaged there: {formatting.some(names, 3)}: `refnet copy --all` sends the artifacts that are still here"
        if state.name == LOCAL:
            says = f"damaged: {formatting.some(names, 3)}: `refnet fetch NAME --store STORE` has another, if one was sent"
        yield Check(source, f"{OF_COPY}{state.name}", Status.WARNING, says)


def _of_source(
    state: StoreState, newest: Entry | None, copy: Copy | None, limits: Limits, now: datetime
) -> Check:
    source = (newest or copy).source  # type: ignore[union-attr]  # one of them is there

    def check(status: Status, says: str) -> Check:
        return Check(source, f"{OF_COPY}{state.name}", status, says)

    shown = f"{copy.name} is {copy.copy_level}, {formatting.old(now - copy.made)}" if copy else "none"
    if newest and is_missing(state, newest):
        age = now - (copy or newest).made
        says = f"{newest.name} has no copy there (the newest: {shown}): `refnet copy` sends it"
        if now - newest.published < GRACE:
            return check(Status.OK if copy else Status.NEW, says)
        late = limits.age is None or age > limits.age
        return check(Status.CRITICAL if late else Status.WARNING, says)
    if copy is None:
        return check(Status.WARNING, "no copy: the newest artifact shrank and is not accepted")
    if copy.copy_level is CopyLevel.SENT:
        does = "drill" if state.name == LOCAL else "copy"
        what, when = ("not", f" for {READ_BACK_WITHIN.days} days") if copy.was_fetched else ("never", "")
        says = f"{copy.name} was {what} read back from there{when}: `refnet {does}` does it"
        return check(Status.WARNING, says)
    return check(Status.OK, shown)
