"""store: list the remote stores, test that they refuse deletions, and accept missing copies as deleted on purpose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from refnet.catalog.monitoring_stores import StoreCheck, Tried, Verdict
from refnet.catalog.remote_state import Gap, Head, accepted, gaps
from refnet.catalog.store import Unlisted
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError
from refnet.settings.stores import StoreSettings
from refnet.settings.urls import StoreKind
from refnet.store import deletions, leases
from refnet.store.buckets.opening import bare_bucket
from refnet.store.encryption import Recipient
from refnet.store.keys import MachineKeys
from refnet.store.leases import Begun
from refnet.store.remote import RemoteStore
from refnet.store.store_check import Trial, last_checks, record

#: Kinds of stores that can refuse to delete; in the others, the machine that writes can also delete.
_PROTECT = frozenset({StoreKind.S3, StoreKind.GS, StoreKind.AZ})


@dataclass(frozen=True)
class ListedStore:
    """A store of the settings, and its last check."""

    store: StoreSettings
    #: None: there was none, or its record is damaged.
    last: StoreCheck | None

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.store.name,
            "url": str(self.store.place),
            "endpoint": self.store.endpoint,
            "lock_days": self.store.lock,
            "extend_locks": self.store.extend_locks,
            "can_prune": can_prune(self.store),
            "check": self.last.values() if self.last else None,
        }


def can_prune(store: StoreSettings) -> bool:
    """Whether this machine may delete in the store."""
    return store.prune_credentials_file is not None or store.place.kind not in _PROTECT


def listed_stores(context: Context) -> tuple[ListedStore, ...]:
    """The configured stores, without contacting them."""
    stores = context.settings.stores
    last = last_checks(context.settings.home / "remote", stores)
    return tuple(ListedStore(store, last[name]) for name, store in stores.items())


def check_store(context: Context, store: StoreSettings) -> StoreCheck:
    """Test on one object what an attacker with this machine's credential could do; record the results."""
    bucket, locks = bare_bucket(store), None
    if store.place.kind in _PROTECT:
        from refnet.store.buckets.cloud import CloudBucket, Patience

        if isinstance(bucket, CloudBucket):  # the objects are small, and somebody waits
            bucket = bucket.with_patience(Patience(longest=30.0, upload=30.0))
            locks = bucket.requests
    trial = Trial(
        bucket, context.clock.now, locks, lock=store.lock is not None, extends=store.extend_locks,
        protects=store.place.kind in _PROTECT,
    )  # fmt: skip
    tried = (*_connection(store), *trial.run())
    seconds = round(max(trial.locked_for.total_seconds(), 0))
    found = StoreCheck(store.name, bucket.shown, context.clock.now(), tried, seconds)
    record(context.settings.home / "remote", found)
    return found


def check_due(context: Context) -> Iterator[str]:
    """Check the stores of the settings whose last check is a month old, or failed; yield a sentence for each problem."""
    for one in listed_stores(context):
        if one.last is None or one.last.due(context.clock.now()):
            try:
                alarms: Iterable[Tried] = check_store(context, one.store).alarms
            except RefnetError as error:
                yield f"the store {one.store.name} could not be checked: {error.message}"
            else:
                yield from (f"the store {one.store.name}: {tried.what}: {tried.says}" for tried in alarms)


def _connection(store: StoreSettings) -> Iterator[Tried]:
    """Yield whether the connection is encrypted and verified; nothing for a folder."""
    if store.place.kind not in _PROTECT:
        return
    endpoint = urlsplit(store.endpoint or "https:")
    if endpoint.scheme == "https":
        yield Tried("connection", Verdict.OK, "TLS, with the certificate checked")
    else:
        says = f"{endpoint.scheme}:// without TLS: the network can see the names of objects and drop requests"
        yield Tried("connection", Verdict.NOTE, says)


def record_deletions(context: Context, store: RemoteStore) -> None:
    """Leave a signed record in `store` of the manifests that this machine deleted, for a recovery without its records.

    An error becomes a note: the deletion is done.
    """
    settings, keys = context.settings, MachineKeys.in_home(context.settings.home)
    if not store.records.head().deleted:
        return
    try:
        recipients, now = map(Recipient, settings.recipients()), context.clock.now()
        if made := deletions.written(store.name, store.records.head(), keys, recipients, now):
            store.create(*made)
    except RefnetError as error:
        why = "until the next copy, a recovery reports what was deleted there as missing"
        context.note(f"{store.name}: {why}: {error.message}")


@dataclass(frozen=True)
class StoreAcceptance:
    """The acceptance of a remote store as it is."""

    store: RemoteStore
    #: Those that are an alarm now.
    gaps: tuple[Gap, ...]
    #: Those of them that stay an alarm: no deletion explains them.
    staying: tuple[Gap, ...]
    #: The record of the newest manifest, that ends the others.
    head: Head
    #: Copies that are under way according to their leases; none of their runs is to continue.
    leases: tuple[Begun, ...]
    #: Prunes that are under way according to their intents; each was killed.
    intents: tuple[Begun, ...]
    #: Manifests below this machine's key that cannot be read: they keep every piece until they are accepted.
    unreadable: tuple[Unlisted, ...]
    #: False: only planned.
    accepted: bool = False

    @property
    def ending(self) -> tuple[Gap, ...]:
        """Gaps whose alarm ends."""
        return tuple(one for one in self.gaps if one not in self.staying)

    def to_json(self) -> dict[str, Any]:
        return {
            "store": self.store.name,
            "shown": self.store.bucket.shown,
            "gaps": [one.to_json() for one in self.ending],
            "staying": [one.to_json() for one in self.staying],
            "leases": [{"id": one.id, "since": one.since.isoformat()} for one in self.leases],
            "intents": [{"id": one.id, "since": one.since.isoformat()} for one in self.intents],
            "unreadable": [{"name": one.name, "why": one.why} for one in self.unreadable],
            "accepted": self.accepted,
        }


def plan_acceptance(store: RemoteStore) -> StoreAcceptance:
    """Return what would be accepted; RefnetError if nothing can be."""
    contents = store.contents()
    manifests = [one.signed for one in contents.copies]
    head = accepted(manifests, store.name, store.records.head())
    staying = gaps(manifests, store.name, head)
    planned = StoreAcceptance(store, contents.gaps, staying, head, *store.unfinished())
    others = planned.leases or planned.intents or planned.unreadable
    if not (planned.gaps or others):
        raise RefnetError(f"{store.shown} has no gap", "There is nothing to accept.", Exit.USAGE)
    if not (planned.ending or others):
        hint = "`refnet list` with --store shows it. Find out who can write there; keep another store."
        raise RefnetError(f"{store.shown}: no deletion explains this: {planned.gaps[0].why}", hint)
    return planned


def accept(planned: StoreAcceptance) -> StoreAcceptance:
    """Record the acceptance; RefnetError if the store has changed since the plan."""
    with planned.store.alone(seconds=0.0):
        if plan_acceptance(planned.store) != planned:
            raise RefnetError(f"{planned.store.name} has changed meanwhile", "Retry.", transient=True)
        planned.store.records.accept(one.name for one in planned.unreadable)
        planned.store.records.keep_head(planned.head)
        for lease in planned.leases:
            leases.end_lease(planned.store.bucket, lease.key, lease.id)
        for intent in planned.intents:
            leases.end_intent(planned.store.bucket, intent.key, intent.id)
    return replace(planned, accepted=True)
