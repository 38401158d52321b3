"""Copies of the settings file in force, so that a recovery on an empty machine needs nothing else.

In a remote store the pins and tags of artifacts, and the lineage of databases, come with it: without them a prune by the
recovered machine would delete what was pinned.

- In the backup folder, beside the artifacts. Anyone who can write there can forge such a copy, so it is trusted no more than
  an artifact.
- In a remote store, with the copies: an object `KEY/settings/TIME_RANDOM.age` (before format 2 without `KEY/`) is a signed line of JSON, encrypted to the
  recipients like a piece. The file is sent again if it or the recipients changed. REFNET_HOME records what was sent, as
  nothing there can be read without the recovery key.

What a recovery reads is settings out of a backup: see `actions/recovery_settings.py`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

from refnet.catalog.evidence import ManyMarks
from refnet.catalog.manifest import HIDDEN_PREFIX
from refnet.catalog.object_names import ID
from refnet.core import checked
from refnet.core.errors import RefnetError
from refnet.core.files import (
    OPEN_FOLDER,
    explained,
    make_folder,
    names_in,
    opened,
    read_regular,
    replace_file,
)
from refnet.core.records import Layout, Most, Rare, Record
from refnet.settings.document import LARGEST
from refnet.store import encryption
from refnet.store.age import DecryptionError
from refnet.store.source_records import MOST_DATABASES, Continued

if TYPE_CHECKING:  # those of the backup folder do without
    from refnet.store.remote import RemoteStore
    from refnet.store.sending_pieces import Encrypter

#: Their folder in the store, and the most copies that are kept.
FOLDER, MOST = f"{HIDDEN_PREFIX}settings", 50
#: A copy is stored soon after its artifact.
SOON_AFTER = timedelta(minutes=1)
#: The name of a copy: its time (UTC).
_NAME = re.compile(r"refnet_\d{8}_\d{6}\.toml", re.ASCII)
#: The folder of the objects in a remote store, below that of the machine.
PREFIX = "settings/"
#: What their signatures are for.
_SETTINGS_NAMESPACE = "refnet-settings"
_OBJECT_NAME = re.compile(rf"(?:{ID}/)?settings/(?P<time>[0-9]{{8}}T[0-9]{{6}}Z)_[0-9a-f]{{16}}\.age")
_TIME = "%Y%m%dT%H%M%SZ"
#: The most bytes of a line that is sent, and of an object: its signature and what encryption adds are less than the rest.
LONGEST, _OBJECT_BYTES = 3 << 20, 4 << 20
#: Anyone who can write there can put objects there, so only so many are read.
_TRIED = 100
#: The record of what was sent, in the home of the store.
_RECORD = "settings.json"


def keep(root: Path, content: bytes, at: datetime) -> Path:
    """Store `content` in the backup folder `root`, unless the newest copy is the same; remove the oldest beyond MOST.

    Return the path of the copy.

    RefnetError if that fails.
    """
    with suppress(RefnetError):  # a copy that cannot be read is not the same
        last = newest(root, None)
        if last and last[1] == content:
            return last[0]
    folder, kept = root / FOLDER, path_of(root, at)
    make_folder(folder)
    with explained(folder):
        replace_file(kept, content)
        for name in _names(root)[:-MOST]:
            with suppress(FileNotFoundError):
                (folder / name).unlink()
    return kept


def path_of(root: Path, at: datetime) -> Path:
    """The path of a copy that is made at `at`."""
    return root / FOLDER / _name(at)


def remove(root: Path) -> None:
    """Remove all copies from the backup folder `root`."""
    folder = root / FOLDER
    with explained(folder):
        for name in _names(root):
            (folder / name).unlink(missing_ok=True)
        with suppress(OSError):  # another file is in it
            folder.rmdir()


def newest(root: Path, at: datetime | None) -> tuple[Path, bytes] | None:
    """The newest copy in the backup folder `root`, at or before `at`, else the oldest one, or None.

    RefnetError if it cannot be read.
    """
    names = _names(root)
    if not names:
        return None
    before = [name for name in names if at is None or name <= _name(at)]
    path = root / FOLDER / (before[-1] if before else names[0])
    try:
        return path, read_regular(path, LARGEST)
    except OSError as error:
        raise RefnetError(
            f"{path} is not a copy of the settings: {error.strerror}",
            "Remove it; the next backup stores another.",
        ) from error


def _name(at: datetime) -> str:
    return f"refnet_{at.astimezone(UTC):%Y%m%d_%H%M%S}.toml"


def _names(root: Path) -> list[str]:
    """Return the names of the copies, oldest first."""
    try:
        with opened(root / FOLDER, OPEN_FOLDER & ~os.O_NOFOLLOW) as folder:
            return [name for name in names_in(folder) if _NAME.fullmatch(name)]
    except OSError:
        return []


@dataclass(frozen=True)
class SettingsCopy(Record):
    """A settings file, as a machine sent it, with the marks and the lineage of that time."""

    LAYOUT = Layout(longest=_OBJECT_BYTES, more=True, format=1)

    #: The TOML; "": the machine had no settings file.
    text: Annotated[str, checked.text(LARGEST, errors="strict")]
    #: The path that it had there.
    path: Annotated[str, checked.text(4096, errors="strict")]
    #: To the second, UTC.
    sent: datetime
    #: Of the artifacts that have some.
    marks: Rare[ManyMarks] = ()
    #: Databases that continue those of other servers.
    lineage: Rare[Annotated[tuple[Continued, ...], Most(MOST_DATABASES)]] = ()

    def to_line(self) -> bytes:
        """The signed line, with a newline."""
        return json.dumps(self.values(), sort_keys=True).encode("ascii") + b"\n"

    @classmethod
    def read(cls, plaintext: bytes, signers: Collection[str] | None) -> Self:
        """Parse a signed line; ValueError if malformed or not signed by one of `signers` (None: any)."""
        line, signer = encryption.verified_line(plaintext, _SETTINGS_NAMESPACE)
        if signers is not None and signer.fingerprint not in signers:
            raise ValueError(f"signed by another key: {signer.fingerprint}")
        return cls.from_json(line)


def send(store: RemoteStore, encrypter: Encrypter, found: SettingsCopy, listed: Collection[str] = ()) -> bool:
    """Send a settings file, unless `store` has it already; return whether it was sent.

    listed: objects that the store has, by name, if it was just listed: it need not be asked for them.
    """
    digest = _digest(found, encrypter)
    with suppress(OSError, ValueError, KeyError, TypeError):
        last = json.loads(read_regular(store.home / _RECORD, 4096, owner=os.geteuid()))
        name = str(last["object"])
        if last["digest"] == digest and (name in listed or any(True for _ in store.bucket.listed(name))):
            return False
        found = replace(found, sent=_after(name, found.sent))
    line = found.to_line()
    data = encrypter.piece(line + encrypter.keys.sign(line, _SETTINGS_NAMESPACE).encode("ascii"))
    name = f"{encrypter.key}/{PREFIX}{_named(found.sent)}_{secrets.token_hex(8)}.age"
    store.bucket.put(name, data)
    make_folder(store.home)
    with explained(store.home):
        replace_file(store.home / _RECORD, json.dumps({"digest": digest, "object": name}).encode())
    return True


def _after(name: str, now: datetime) -> datetime:
    """Return the time for the name of a new object: `now`, or a second after the last object `name` if that is not earlier.

    A last name that is much later than `now` is of a wrong clock, and ignored.
    """
    match = _OBJECT_NAME.fullmatch(name)
    last = datetime.strptime(match["time"], _TIME).replace(tzinfo=UTC) if match else now - SOON_AFTER
    return last + timedelta(seconds=1) if now <= last < now + SOON_AFTER else now


def was_sent(home: Path) -> bool:
    """Return whether a settings file was sent to the store of this `home`."""
    return (home / _RECORD).exists()


def newest_sent(store: RemoteStore, at: datetime, signers: Collection[str] | None) -> SettingsCopy | None:
    """The newest settings file in `store` at or before `at`, else the oldest one; None if none is usable.

    signers: fingerprints of accepted signers; None: any.
    """
    from refnet.store.buckets.bucket import BucketError, BucketFailure

    names = [
        (match["time"], name, version)
        for name, version in _listed(store)
        if (match := _OBJECT_NAME.fullmatch(name))
    ]
    names.sort(reverse=True)
    moment = _named(at)
    before = [one for one in names if one[0] <= moment]
    after = [one for one in reversed(names) if one[0] > moment]
    for time, name, version in (*before, *after)[:_TRIED]:
        try:
            data = store.bucket.get(name, _OBJECT_BYTES, version=version)
            found = SettingsCopy.read(store.trust.opener.piece(data), signers)
            if _named(found.sent) == time:  # else somebody stored an older copy again, under a newer name
                return found
        except BucketError as error:
            if error.kind not in {BucketFailure.MISSING, BucketFailure.DAMAGED}:
                raise
        except (DecryptionError, ValueError):
            continue  # of another machine, to another key, or forged
    return None


def _named(moment: datetime) -> str:
    """Return `moment` as the name of an object has it."""
    return f"{moment.astimezone(UTC):{_TIME}}"


def _listed(store: RemoteStore) -> Iterator[tuple[str, str]]:
    """Yield name and version of each object, including deleted ones if `store` lists versions."""
    for folder in store.manifests.folders(PREFIX):
        if not store.manifests.versions:
            yield from ((one.name, "") for one in store.bucket.listed(folder))
            continue
        for one in store.bucket.versions(folder):
            if not one.delete_marker:
                yield one.name, one.id


def _digest(found: SettingsCopy, encrypter: Encrypter) -> str:
    """Of all that is sent again where it changes."""
    more = [one.values() for one in (*found.marks, *found.lineage)]
    known = (found.text, encrypter.digest, encrypter.keys.signer().fingerprint, *more)
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()
