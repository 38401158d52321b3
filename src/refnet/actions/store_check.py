"""store check: test that a remote store refuses deletions; store list: the configured stores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from refnet.catalog.store_check import Answer, StoreCheck, Tried
from refnet.context import Context
from refnet.core.errors import RefnetError
from refnet.settings.store_url import StoreKind
from refnet.settings.stores import StoreSettings
from refnet.store.buckets.opening import bare_bucket
from refnet.store.buckets.trying import Trial
from refnet.store.check_record import last_checks, record_check

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
        bucket, context.clock.now, locks, lock=store.lock is not None, protects=store.place.kind in _PROTECT
    )
    tried = (*_connection(store), *trial.run())
    found = StoreCheck(store.name, bucket.shown, context.clock.now(), tried)
    record_check(context.settings.home / "remote", found)
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
        yield Tried("connection", Answer.OK, "TLS, with the certificate checked")
    else:
        says = f"{endpoint.scheme}://: others on the way see the names of objects, and can drop requests"
        yield Tried("connection", Answer.NOTE, says)
