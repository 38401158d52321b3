"""key check: test a typed recovery key on the newest copy in each store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from refnet.actions.keys import KeyState, states
from refnet.catalog.manifest import Outcome
from refnet.catalog.remote import MANIFEST_OBJECT_BYTES
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError, worst
from refnet.store.key_history import Event, KeyEvent, history_file
from refnet.store.remote import RemoteStore
from refnet.store.remote_pieces import decrypt, fetch
from refnet.store.sealing.age import PrivateKey, SealedError, WrongKeyError
from refnet.store.sealing.keys import Opener


@dataclass(frozen=True)
class TriedKey:
    """Result of one key on the newest copy in one store."""

    recipient: str
    store: str
    outcome: Outcome
    #: The artifact and the piece that were opened, or why not.
    says: str

    def to_json(self) -> dict[str, str]:
        return {"recipient": self.recipient, "store": self.store, "outcome": self.outcome, "says": self.says}


@dataclass(frozen=True)
class KeyCheck:
    """The typed keys, and what they open."""

    keys: tuple[KeyState, ...]
    #: Each key on each store.
    tried: tuple[TriedKey, ...] = ()

    @property
    def exit(self) -> Exit:
        """DAMAGED if a key is not in use, or does not open a copy; UNVERIFIED if no copy could be tried."""
        outcomes = {
            Outcome.PASSED: Exit.DONE,
            Outcome.FAILED: Exit.DAMAGED,
            Outcome.UNVERIFIED: Exit.UNVERIFIED,
        }
        return worst([*(one.exit for one in self.keys), *(outcomes[one.outcome] for one in self.tried)])

    def to_json(self) -> dict[str, Any]:
        return {
            "keys": [one.to_json() for one in self.keys],
            "copies": [one.to_json() for one in self.tried],
        }


def check_key(context: Context, keys: Sequence[PrivateKey], stores: Iterable[RemoteStore]) -> KeyCheck:
    """Check whether each of `keys` is in use and what it opens in `stores`; record the check of keys in use."""
    settings, file = context.settings, history_file(context.settings)
    current = settings.recipients()
    tried = tuple(_tried(key, store) for store in stores for key in keys)
    failed = {one.recipient for one in tried if one.outcome is Outcome.FAILED}
    typed = [key.recipient.text for key in keys]
    for one in typed:
        if one in current and one not in failed:
            file.add(KeyEvent(context.clock.now(), Event.CHECKED, one))
    return KeyCheck(states(settings, typed), tried)


def _tried(key: PrivateKey, store: RemoteStore) -> TriedKey:
    try:
        outcome, says = _opened(Opener(recovery=(key,)), store)
    except RefnetError as error:
        damaged = error.code is Exit.DAMAGED
        outcome, says = Outcome.FAILED if damaged else Outcome.UNVERIFIED, error.message
    return TriedKey(key.recipient.text, store.shown, outcome, says)


def _opened(opener: Opener, store: RemoteStore) -> tuple[Outcome, str]:
    """Decrypt the manifest and the last piece of the newest copy in the store."""
    copies = store.contents().copies
    if not copies:
        return Outcome.UNVERIFIED, "there is no copy signed by a trusted signer"
    copy = max(copies, key=lambda one: one.document.sent)
    pieces, what = copy.document.pieces, f"{copy.name} in {store.name}"
    try:
        opener.manifest(store.bucket.get(copy.object, MANIFEST_OBJECT_BYTES))
    except WrongKeyError:
        return Outcome.FAILED, f"does not open {copy.name}, which is encrypted to other keys"
    except SealedError as error:
        return Outcome.FAILED, f"the manifest of {copy.name} is {error}"
    decrypt(opener, fetch(store.bucket, pieces[-1], what), what)
    return Outcome.PASSED, f"opens {copy.name}: its manifest and piece {len(pieces)} of {len(pieces)}"
