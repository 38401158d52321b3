"""The settings file sent with the copies to a remote store, so that a recovery needs nothing else.

An object is `settings/TIME_RANDOM.age`: a signed line of JSON, encrypted to the recipients like a piece. The file is sent
again if it or the recipients changed. REFNET_HOME records what was sent, as nothing there can be read without the
recovery key. What a recovery reads is settings out of a backup: see `actions/recovery_settings.py`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Self

from refnet.core import checked
from refnet.core.files import explained, make_folder, read_regular, replace_file
from refnet.core.records import Layout, Record
from refnet.settings import LARGEST
from refnet.store.buckets.bucket import BucketError, BucketFailure
from refnet.store.remote import RemoteStore
from refnet.store.sealing import sshsig
from refnet.store.sealing.age import SealedError
from refnet.store.sending import Sealer

PREFIX = "settings/"
#: What the signature is for.
_NAMESPACE = "refnet-settings"
_NAME = re.compile(r"settings/(?P<time>[0-9]{8}T[0-9]{6}Z)_[0-9a-f]{16}\.age")
_TIME = "%Y%m%dT%H%M%SZ"
#: Bytes of an object: every character of the text may be escaped.
_MOST = 6 * LARGEST + (16 << 10)
#: Anyone who can write there can put objects there, so only so many are read.
_TRIED = 100
_RECORD = "settings.json"


@dataclass(frozen=True)
class SettingsCopy(Record):
    """A settings file, as a machine sent it."""

    LAYOUT = Layout(longest=_MOST, more=True, format=1)

    #: The TOML.
    text: Annotated[str, checked.text(LARGEST, errors="strict")]
    #: The path that it had there.
    path: Annotated[str, checked.text(4096, errors="strict")]
    #: To the second, UTC.
    sent: datetime

    def to_line(self) -> bytes:
        """The signed line, with a newline."""
        return json.dumps(self.values(), sort_keys=True).encode("ascii") + b"\n"

    @classmethod
    def read(cls, plaintext: bytes, signers: Collection[str] | None) -> Self:
        """Parse a signed line; ValueError if malformed or not signed by one of `signers` (None: any)."""
        line, end, signature = plaintext.partition(b"\n")
        if not end or not signature.isascii():
            raise ValueError("not signed")
        signer = sshsig.verify(line + end, signature.decode("ascii"), _NAMESPACE)
        if signers is not None and signer.fingerprint not in signers:
            raise ValueError(f"signed by another key: {signer.fingerprint}")
        return cls.from_json(line + end)


def send(store: RemoteStore, sealer: Sealer, found: SettingsCopy) -> bool:
    """Send a settings file, unless `store` has it already; return whether it was sent."""
    digest = _digest(found.text, sealer)
    with suppress(OSError, ValueError, KeyError, TypeError):
        last = json.loads(read_regular(store.home / _RECORD, 4096, owner=os.geteuid()))
        if last["digest"] == digest and any(True for _ in store.bucket.listed(str(last["object"]))):
            return False
    line = found.to_line()
    data = sealer.piece(line + sealer.keys.sign(line, _NAMESPACE).encode("ascii"))
    name = f"{PREFIX}{_named(found.sent)}_{secrets.token_hex(8)}.age"
    store.bucket.put(name, data)
    make_folder(store.home)
    with explained(store.home):
        replace_file(store.home / _RECORD, json.dumps({"digest": digest, "object": name}).encode())
    return True


def was_sent(home: Path) -> bool:
    """Return whether a settings file was sent to the store of this `home`."""
    return (home / _RECORD).exists()


def newest(store: RemoteStore, at: datetime, signers: Collection[str] | None) -> SettingsCopy | None:
    """The newest settings file in `store` at or before `at`, else the oldest one; None if none is usable.

    signers: fingerprints of accepted signers; None: any.
    """
    names = [
        (match["time"], name, version) for name, version in _listed(store) if (match := _NAME.fullmatch(name))
    ]
    names.sort(reverse=True)
    moment = _named(at)
    before = [one for one in names if one[0] <= moment]
    after = [one for one in reversed(names) if one[0] > moment]
    for time, name, version in (*before, *after)[:_TRIED]:
        try:
            data = store.bucket.get(name, _MOST, version=version)
            found = SettingsCopy.read(store.trust.opener.piece(data), signers)
            if _named(found.sent) == time:  # else somebody stored an older copy again, under a newer name
                return found
        except BucketError as error:
            if error.kind not in {BucketFailure.MISSING, BucketFailure.DAMAGED}:
                raise
        except (SealedError, ValueError):
            continue  # of another machine, to another key, or forged
    return None


def _named(moment: datetime) -> str:
    """Return `moment` as the name of an object has it."""
    return f"{moment.astimezone(UTC):{_TIME}}"


def _listed(store: RemoteStore) -> Iterator[tuple[str, str]]:
    """Yield name and version of each object, including deleted ones if `store` lists versions."""
    if not store.manifests.versions:
        yield from ((one.name, "") for one in store.bucket.listed(PREFIX))
        return
    for one in store.bucket.versions(PREFIX):
        if not one.delete_marker:
            yield one.name, one.id


def _digest(text: str, sealer: Sealer) -> str:
    known = (text, sealer.digest, sealer.keys.signer().fingerprint)
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()
