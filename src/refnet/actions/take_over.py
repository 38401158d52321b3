"""The machine that sent the copies of a recovery is gone: this one takes them over, so that they are counted and pruned.

Each manifest is written again under this machine's keys, over the same pieces. The earlier ones stay until the copy is pruned.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from refnet import wiring
from refnet.actions import set_records
from refnet.actions.fetch import FoundCopies
from refnet.catalog.remote import Copy
from refnet.catalog.source_name import LOCAL
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import plural, some
from refnet.store import leases
from refnet.store.buckets.bucket import Bucket
from refnet.store.keys import GivenKeys
from refnet.store.remote import RemoteStore
from refnet.store.sending import sender_to


class OldMachine(StrEnum):
    """What became of the machine that sent the copies."""

    GONE = "gone"
    RUNNING = "running"


@dataclass(frozen=True)
class OldCopies:
    """The copies that a recovery found in a store, and every object of the machines that sent them."""

    found: FoundCopies
    #: Names, when the recovery was planned.
    objects: frozenset[str]

    @classmethod
    def of(cls, found: FoundCopies) -> OldCopies:
        """List the folders of the machines; BucketError if the store does not answer."""
        keys = {one.document.key for one in found.there} - {""}
        return cls(found, _objects(found.store.bucket, keys))


def _objects(bucket: Bucket, keys: Iterable[str]) -> frozenset[str]:
    return frozenset(one.name for key in keys for one in bucket.listed(f"{key}/"))


def take_over(context: Context, name_or_url: str, old: OldCopies) -> str:
    """Take over the copies of other machines in a store, as this machine's; return a sentence about it.

    RefnetError, before anything is written: why that cannot be done. An interrupted run is continued by the next.
    """
    settings, trust = context.settings, old.found.store.trust
    name = settings.store(name_or_url).name
    if name == LOCAL or name not in settings.every_store:
        raise RefnetError(
            f"the copies in {old.found.store.shown} are not taken over: no store of the settings is there",
            "They stay as they are, and are never pruned.",
            Exit.USAGE,
        )
    if trust.any_signer:
        raise RefnetError(
            f"the copies in {old.found.store.shown} are not taken over: --any-signer trusts whoever wrote them",
            "Name the signer of the recovery page: --signer SHA256:…",
            Exit.USAGE,
        )
    store = wiring.remote_store(settings, name, GivenKeys(trust.opener.recovery, tuple(trust.signers)))
    sender = sender_to(store, settings, context.clock.now)
    with store.alone(seconds=None):
        own = sender.encrypter.keys.signer().fingerprint
        copies = [one for one in store.contents().copies if one.signed.signer != own]
        copies = [one for one in copies if one.document.key and one.document.store == name]
        _require_still(store, copies, old)
        for key in sorted({one.document.key for one in copies}):
            for copy in leases.open_leases(store.bucket, key, store.ids(key)):
                leases.end_lease(store.bucket, key, copy.id)
            for prune in leases.open_intents(store.bucket, key):
                leases.end_intent(store.bucket, key, prune.id)
        sender.take_over(copies)
    set_records.send(context, sender)
    what = f"{store.shown}: {plural(len(copies), 'manifest')} of the old machine taken over"
    return f"{what}: this machine counts and prunes its copies now"


def _require_still(store: RemoteStore, copies: Iterable[Copy], old: OldCopies) -> None:
    """RefnetError if the machines of `copies` still send to `store`, or if not all of their manifests can be trusted."""
    contents = store.contents()
    folders = {one.document.key for one in copies}
    newer = sorted(_objects(store.bucket, folders) - old.objects)
    unread = [
        one.name
        for one in store.records.unaccepted(contents.unlisted)
        if one.name.startswith(tuple(f"{key}/" for key in folders))
    ]
    why, hint = "", ""
    if newer:
        why = f"the old machine still sends: {some(newer, 1)} came since the recovery was planned"
        hint = "Stop RefNet there. If it stays, recover with --old-machine running."
    elif contents.gaps:
        why = contents.gaps[0].why
        hint = f"Look into it; `refnet store accept {store.name}` accepts what is missing."
    elif unread:
        why = f"{some(unread, 1)} cannot be read or is not trusted"
        hint = "Name its signer (--signer), or give the recovery key that opens it (--identity-file)."
    if why:
        raise RefnetError(f"the copies in {store.shown} are not taken over: {why}", hint)
