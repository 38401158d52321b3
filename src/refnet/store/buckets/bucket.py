"""The interface of a bucket, the place of a remote store's objects, and what the buckets share.

A bucket is an S3 bucket with a prefix, a folder, or anything else that keeps complete objects by name. It knows nothing of
artifacts and keys. Objects are created and read, never changed.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from threading import Thread
from typing import ParamSpec, Protocol, TypeVar

from refnet.core.errors import Exit, RefnetError
from refnet.core.memory import share_one_heap

_Arguments = ParamSpec("_Arguments")
_Value = TypeVar("_Value")


class BucketFailure(StrEnum):
    """The reason why a bucket refused a request."""

    MISSING = "missing"
    #: An object of that name is there, with other bytes.
    EXISTS = "exists"
    #: The credential does not allow it.
    REFUSED = "refused"
    #: The object is locked until a later time.
    LOCKED = "locked"
    #: No answer, or an error that may pass.
    UNREACHABLE = "unreachable"
    #: The answer is not what was stored, or is too large.
    DAMAGED = "damaged"
    FULL = "full"


_EXITS = {BucketFailure.DAMAGED: Exit.DAMAGED, BucketFailure.EXISTS: Exit.DAMAGED}


class BucketError(RefnetError):
    """A request to a bucket failed; see `kind`."""

    def __init__(self, kind: BucketFailure, message: str, hint: str) -> None:
        super().__init__(
            message,
            hint,
            _EXITS.get(kind, Exit.FAILED),
            kind in (BucketFailure.UNREACHABLE, BucketFailure.FULL),
        )
        self.kind = kind


#: No part is empty or begins with a dot: `..` leads out of a folder, and hidden files are the bucket's own.
_NAME = re.compile(r"(?!.{501})[A-Za-z0-9_-][A-Za-z0-9._-]*(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*){0,7}")
#: The hidden names of objects that are being written, in the buckets that write first and name later, end so.
_ENDING = ".part"
#: No object takes so long to write, in seconds: a hidden one of that age is of a killed run.
_LEFTOVER = 24 * 3600
#: The most folders at the top of a bucket.
_MOST_FOLDERS = 1_000_000
#: Objects on a page of a list, in most buckets.
_PAGE = 1000


def is_name(text: str) -> bool:
    """Whether `text` is a valid object name."""
    return _NAME.fullmatch(text) is not None


def checked_name(name: str) -> str:
    """`name`, checked; BucketError (REFUSED) if it is not a valid object name."""
    if is_name(name):
        return name
    raise BucketError(
        BucketFailure.REFUSED,
        f"{name[:80]!r} is not a name of an object",
        "Names have letters, digits, `.`, `_`, `-` and `/`.",
    )


def hidden_name() -> str:
    """Return a new hidden name."""
    return f".{secrets.token_hex(8)}{_ENDING}"


def is_leftover(name: str, modified: float, now: float) -> bool:
    """Whether `name` is a hidden name left by a killed run; times in seconds since 1970."""
    return name.startswith(".") and name.endswith(_ENDING) and modified < now - _LEFTOVER


def exists(name: str, shown: str) -> BucketError:
    """Error: the object exists with different content."""
    return BucketError(
        BucketFailure.EXISTS,
        f"{name} already exists in {shown}, with different content",
        "Nothing was overwritten. Find the program that writes there, or give RefNet its own prefix.",
    )


def missing(name: str, shown: str) -> BucketError:
    """Error: the object does not exist."""
    return BucketError(
        BucketFailure.MISSING, f"{name} is not in {shown}", "It was deleted, or never sent. Run: refnet copy"
    )


def too_large(name: str, shown: str, most: int) -> BucketError:
    """Error: the object is larger than `most` bytes."""
    return BucketError(
        BucketFailure.DAMAGED,
        f"{name} in {shown} is larger than {most:,} bytes",
        "It is not the object that was sent; do not use it.",
    )


@dataclass(frozen=True, slots=True)  # a store may have 100,000
class Stored:
    """An object as a bucket lists it."""

    #: Without the bucket's prefix.
    name: str
    #: In bytes.
    size: int
    #: By the clock of the bucket's server.
    modified: datetime
    #: Changes with the content, where the bucket has such a thing; else "".
    tag: str = ""


@dataclass(frozen=True, slots=True)  # a store may have 100,000
class Version:
    """A version of an object, or a delete marker."""

    name: str
    #: The id of the version; "" where the bucket has no versions.
    id: str
    #: In bytes.
    size: int
    #: By the clock of the bucket's server.
    modified: datetime
    #: It is what `get` returns without a version.
    latest: bool = True
    #: It says that the object is deleted.
    delete_marker: bool = False


#: Versions of objects, by name.
Versions = Mapping[str, Sequence[Version]]


def unversioned(found: Iterable[Stored]) -> Iterator[Version]:
    """For a bucket without versions: yield each object as its only version."""
    return (Version(one.name, "", one.size, one.modified) for one in found)


def top_folders(names: Iterable[str], shown: str) -> list[str]:
    """The valid ones of the `names` of folders, sorted; BucketError (DAMAGED) if there are too many."""
    found: set[str] = set()
    for name in names:
        if is_name(name) and "/" not in name:
            found.add(name)
        if len(found) > _MOST_FOLDERS:
            raise BucketError(
                BucketFailure.DAMAGED,
                f"{shown}: cannot list folders: more than {_MOST_FOLDERS:,} folders",
                "Delete those that are not RefNet's.",
            )
    return sorted(found)


class Bucket(Protocol):
    """A place of objects. Names are relative to its prefix: letters, digits, `.`, `_`, `-` and `/`."""

    @property
    def shown(self) -> str:
        """Its name for messages, without secrets: `s3://bucket/prefix at s3.example.org`."""

    def put(self, name: str, data: bytes) -> str:
        """Create the object `name` in one request; return the id of its version, or "".

        The object may exist with the same bytes, if the response to an earlier request was lost. BucketError (EXISTS)
        if its bytes differ.
        """

    def get(self, name: str, most: int, *, version: str = "") -> bytes:
        """Return an object of at most `most` bytes; BucketError (MISSING, or DAMAGED if it is larger)."""

    def listed(self, prefix: str) -> Iterator[Stored]:
        """Yield the objects whose names begin with `prefix`, in the order of their names."""

    def versions(self, prefix: str) -> Iterator[Version]:
        """Yield every version of the objects whose names begin with `prefix`, deleted objects included."""

    def folders(self, *, deleted: bool = False) -> list[str]:
        """Names of the folders at the top, sorted: what comes before the first `/` in names of objects.

        An empty folder may be among them, where a place has such. deleted: also of folders with only deleted objects,
        where the bucket keeps versions.
        """

    def delete(self, name: str, *, version: str = "") -> None:
        """Delete an object, or one version of it; BucketError (REFUSED, LOCKED)."""


class Locks(Protocol):
    """Object locks, for buckets that support them."""

    def locked_until(self, name: str, version: str = "") -> datetime | None:
        """Return the time until which a version cannot be deleted; None if it has no lock."""

    def lock(self, name: str, version: str, until: datetime) -> None:
        """Lock a version until a time; a server refuses an earlier one than before."""

    def delete_anyway(self, name: str, version: str) -> None:
        """Delete a version, bypassing its lock if this credential may."""


def versions_by_name(bucket: Bucket, prefixes: Iterable[str]) -> Versions:
    """The versions of all objects whose names begin with one of `prefixes`, by name."""
    found: dict[str, list[Version]] = {}
    for prefix in prefixes:
        for one in bucket.versions(prefix):
            found.setdefault(one.name, []).append(one)
    return found


def versions_once(bucket: Bucket, folder: str, wanted: int, there: int) -> Versions | None:
    """The versions of all objects in `folder`, by name; None if to ask for each of `wanted` ones takes fewer requests.

    there: how many objects it has, about.
    """
    return versions_by_name(bucket, [folder]) if wanted > 1 + there // _PAGE else None


def in_background(
    call: Callable[_Arguments, _Value], *args: _Arguments.args, **kwargs: _Arguments.kwargs
) -> Future[_Value]:
    """Start `call` in a new daemon thread: an interrupted process does not wait for a hanging request.

    The caller limits their number.
    """
    share_one_heap()
    future: Future[_Value] = Future()

    def run() -> None:
        try:
            future.set_result(call(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001  # the future raises it
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future
