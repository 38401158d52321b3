"""A bucket of the program `rclone` (`rclone:REMOTE:path`), for every place that rclone knows.

rclone's own settings hold the remote and its credential. An object is written under a hidden name, then moved to its name
unless that exists: not every place can do that in one step, so two machines must not write one name at once.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from typing import Any

from refnet.core import checked
from refnet.core.processes import EndedProgram, run_bounded
from refnet.settings.urls import StoreUrl
from refnet.store.buckets import bucket
from refnet.store.buckets.bucket import (
    BucketError,
    BucketFailure,
    Stored,
    Version,
    checked_name,
    hidden_name,
    is_leftover,
    is_name,
)

#: Seconds for one object or one list; rclone itself ends a connection after 60 without a byte, and retries.
_LONGEST = 3600.0
#: The most bytes of a list: that of some 500,000 objects.
_MOST = 128 << 20
_OPTIONS = ("--contimeout=30s", "--timeout=60s", "--retries-sleep=5s", "--ask-password=false", "--stats=0")
#: rclone's exit codes for a folder and a file that is not there.
_MISSING = {3, 4}
_REFUSED = re.compile(
    r"(?i)denied|forbidden|unauthori[sz]ed|\b40[13]\b|not permitted|read-only|section in config|couldn't decrypt|expired"
)
_FULL = re.compile(r"(?i)no space left|quota|insufficient storage|\b507\b")
#: What rclone writes before a message: its time, or its level.
_BEFORE = re.compile(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d (?:[A-Z]+ *: *)?")
_ENTRY = checked.record(
    {
        "Path": checked.text(4096),
        "Size": checked.integer(-1, 1 << 62),
        "ModTime": checked.moment,
        "IsDir": checked.flag,
    },
    more=True,
)


class RcloneBucket:
    """Objects at a remote of rclone, for any number of threads."""

    def __init__(self, url: StoreUrl) -> None:
        self.shown = str(url)
        self._base = f"{url.place}:{url.path}" + ("/" if url.path.strip("/") else "")
        self._cleaned = False

    def put(self, name: str, data: bytes) -> str:
        checked_name(name)
        if not self._cleaned:
            self._cleaned = True
            self._clean()
        hidden = hidden_name()
        try:
            self._done(name, "rcat", hidden, given=data)
            self._done(name, "moveto", hidden, name, options=("--ignore-existing",))
            if not self._entry(hidden):
                return ""
        except BaseException:
            self._run("deletefile", hidden)
            raise
        self._run("deletefile", hidden)
        if not self._same(name, data):
            raise bucket.exists(name, self.shown)
        return ""

    def get(self, name: str, most: int, *, version: str = "") -> bytes:  # noqa: ARG002  # it has none
        found = self._entry(checked_name(name))
        if not found:
            raise bucket.missing(name, self.shown)
        if found["Size"] > most:
            raise bucket.too_large(name, self.shown, most)
        ended = self._done(name, "cat", name, most=most)
        if ended.cut:
            raise bucket.too_large(name, self.shown, most)
        return ended.output

    def listed(self, prefix: str) -> Iterator[Stored]:
        above = f"{prefix.rpartition('/')[0]}/" if "/" in prefix else ""
        found = {}
        for one in self._entries(above, "--files-only", "--recursive"):
            name = f"{above}{one['Path']}"
            if is_name(name) and name.startswith(prefix):
                tag = f"{one['ModTime'].timestamp():.6f}-{one['Size']}"
                found[name] = Stored(name, max(0, one["Size"]), one["ModTime"], tag)
        return (found[name] for name in sorted(found))

    def versions(self, prefix: str) -> Iterator[Version]:
        return bucket.unversioned(self.listed(prefix))

    def folders(self, *, deleted: bool = False) -> list[str]:  # noqa: ARG002  # it has no versions
        found = self._entries("", "--dirs-only")
        return bucket.top_folders((one["Path"] for one in found if one["IsDir"]), self.shown)

    def delete(self, name: str, *, version: str = "") -> None:  # noqa: ARG002  # it has none
        if self._entry(checked_name(name)):
            self._done(name, "deletefile", name)

    def _clean(self) -> None:
        """Remove the hidden objects that killed runs left."""
        for one in self._entries("", "--files-only"):
            name = one["Path"]
            if is_leftover(name, one["ModTime"].timestamp(), time.time()) and is_name(name[1:]):
                self._run("deletefile", name)

    def _same(self, name: str, data: bytes) -> bool:
        try:
            return self.get(name, len(data)) == data
        except BucketError as error:
            if error.kind is not BucketFailure.DAMAGED:
                raise
            return False

    def _entry(self, name: str) -> dict[str, Any] | None:
        """The object `name` from rclone's list, or None."""
        ended = self._run("lsjson", name, options=("--stat", "--no-mimetype"))
        if ended.code in _MISSING:
            return None
        self._check(name, ended)
        found: dict[str, Any] | None = self._parsed(ended.output, checked.or_none(_ENTRY))
        return found if found and not found["IsDir"] else None

    def _entries(self, folder: str, *options: str) -> Iterator[dict[str, Any]]:
        """Yield the files or folders in `folder`; nothing if it does not exist."""
        ended = self._run("lsjson", folder, options=("--no-mimetype", *options), most=_MOST)
        if ended.code in _MISSING:
            return
        self._check(folder, ended)
        for line in ended.output.splitlines():  # one for each file, so that not all are parsed at once
            if line not in {b"[", b"]", b""}:
                yield self._parsed(line.removesuffix(b","), _ENTRY)

    def _parsed(self, text: bytes, check: checked.Check) -> Any:
        try:
            return check(checked.parsed(text, 64 * 1024))
        except ValueError as error:
            raise BucketError(
                BucketFailure.DAMAGED,
                f"{self.shown}: rclone's list of files: {error}",
                "Install rclone 1.60 or newer.",
            ) from None

    def _done(
        self, about: str, verb: str, *names: str, options: tuple[str, ...] = (), **more: Any
    ) -> EndedProgram:
        """Run rclone, and return how it ended; BucketError about the object `about` if it failed."""
        ended = self._run(verb, *names, options=options, **more)
        self._check(about, ended)
        return ended

    def _run(
        self, verb: str, *names: str, options: tuple[str, ...] = (), most: int = 64 * 1024, given: bytes = b""
    ) -> EndedProgram:
        program = shutil.which("rclone")
        if not program:
            raise BucketError(
                BucketFailure.REFUSED,
                f"{self.shown}: rclone is not installed",
                "Install it, for example by: apt install rclone",
            )
        paths = [self._base + name for name in names]
        return run_bounded([program, verb, *_OPTIONS, *options, "--", *paths], _LONGEST, most, given)

    def _check(self, name: str, ended: EndedProgram) -> None:
        if ended.code == 0 or ended.cut:
            return
        if ended.code in _MISSING:
            raise bucket.missing(name, self.shown)
        lines = ended.messages.strip().splitlines() or [f"rclone ended with {ended.code}"]
        said = "".join(each for each in _BEFORE.sub("", lines[-1]) if each.isprintable())[:200]
        kind, hint = BucketFailure.UNREACHABLE, "Try `rclone lsd` with this remote as this user."
        if _FULL.search(said):
            kind, hint = BucketFailure.FULL, "Free space there, or raise the quota."
        elif _REFUSED.search(said):
            kind, hint = (
                BucketFailure.REFUSED,
                "See rclone's settings (rclone config) and the rights of its user there.",
            )
        raise BucketError(kind, f"{f'{name} in ' if name else ''}{self.shown}: {said}", hint)
