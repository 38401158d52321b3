"""RefNet's installer in remote stores: after a loss there may be no package registry.

The object lies unencrypted in `installers/`, once per version; RefNet never deletes one. What a page prints is this machine's own
record of what it sent, `REFNET_HOME/remote/NAME/installer.json`: whoever can write a store could name another file there.
"""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Annotated

from refnet import __version__
from refnet.core import checked
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import explained, make_folder, read_regular, replace_file
from refnet.core.records import Layout, Record
from refnet.settings import Settings
from refnet.settings.stores import StoreSettings
from refnet.store.buckets.bucket import Bucket
from refnet.store.buckets.opening import open_bucket

#: The largest installer, in bytes; it is in memory while it is sent. One of both machines and four Pythons has 99 MB.
_LARGEST = 512 << 20
_RECORD = "installer.json"
_VERSION = r"[0-9][0-9A-Za-z.]{0,39}"
_WHEEL = re.compile(rf"wheels/refnet-({_VERSION})-py3-none-any\.whl")


@dataclass(frozen=True)
class Installer(Record):
    """An installer that this machine sent to a store."""

    LAYOUT = Layout(longest=16 << 10, more=True, format=1)

    version: Annotated[str, checked.text(40, like=_VERSION)]
    sha256: Annotated[str, checked.text(64, like="[0-9a-f]{64}")]
    #: In bytes.
    size: Annotated[int, checked.integer(1, _LARGEST)]
    #: The store, as messages show it: its URL may change.
    place: Annotated[str, checked.text(5000)] = ""

    @property
    def object(self) -> str:
        """Its name in the store."""
        return f"installers/refnet-{self.version}-{self.sha256}.pyz"

    def is_in(self, bucket: Bucket) -> bool:
        """Whether the bucket lists it, with its size; its content is compared on the machine that fetches it."""
        return any((one.name, one.size) == (self.object, self.size) for one in bucket.listed(self.object))


def read(path: Path, sha256: str) -> tuple[Installer, bytes]:
    """Read the installer `path`; RefnetError if it is not a regular file, has another digest, or is no installer.

    The bytes that were hashed are returned, so a file that changes meanwhile is not sent.
    """
    with explained(path):
        data = read_regular(path, _LARGEST)
    found = hashlib.sha256(data).hexdigest()
    if found != sha256.lower():
        hint = "Do not run it. Fetch it again, and take the SHA-256 from whoever released it."
        raise RefnetError(
            f"{path} has the SHA-256 {found}, and not the one that was given", hint, Exit.DAMAGED
        )
    names: list[str] = []
    with suppress(zipfile.BadZipFile, NotImplementedError, ValueError, OSError, EOFError):
        names = zipfile.ZipFile(BytesIO(data)).namelist()
    versions = [named[1] for name in names if (named := _WHEEL.fullmatch(name))]
    if len(versions) != 1 or "__main__.py" not in names:
        hint = "`./dev package` builds it: dist/refnet-VERSION-….pyz."
        raise RefnetError(f"{path} is not an installer of RefNet", hint, Exit.USAGE)
    return Installer(versions[0], found, len(data)), data


def send(installer: Installer, data: bytes, store: StoreSettings, settings: Settings) -> bool:
    """Put it into `store`, and record that; False if it is there already. BucketError, also if another object has its name."""
    bucket, folder = open_bucket(store), settings.home / "remote" / store.name
    there = installer.is_in(bucket)
    bucket.put(installer.object, data)  # one that is there is compared
    make_folder(folder)
    named = Installer(installer.version, installer.sha256, installer.size, store.shown)
    with explained(folder / _RECORD):
        replace_file(folder / _RECORD, named.to_json().encode())
    return not there


def sent_to(store: StoreSettings, settings: Settings) -> Installer | None:
    """The installer of this version of RefNet that this machine sent to `store`; None: there is no record of one."""
    with suppress(OSError, ValueError):
        data = read_regular(settings.home / "remote" / store.name / _RECORD, 16 << 10, owner=os.geteuid())
        found = Installer.from_json(data)
        if (found.place, found.version) == (store.shown, __version__):
            return found
    return None
