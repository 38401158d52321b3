"""Announces the store that a command waits for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from typing import TypeVar

from refnet.store.buckets.bucket import Bucket, Stored, Version

#: What a run waits for; the command prints it.
WAITING = "refnet.waiting"
_Item = TypeVar("_Item")
_log = logging.getLogger(WAITING)
#: Seconds of silence.
_SILENT = 3.0


class Announced:
    """A bucket that is announced after 3 s without a first response. Later responses carry data and may take long."""

    def __init__(self, inner: Bucket) -> None:
        self._inner = inner
        self._answered = False

    @property
    def shown(self) -> str:
        return self._inner.shown

    def put(self, name: str, data: bytes) -> str:
        with self._waiting():
            return self._inner.put(name, data)

    def get(self, name: str, most: int, *, version: str = "") -> bytes:
        with self._waiting():
            return self._inner.get(name, most, version=version)

    def listed(self, prefix: str) -> Iterator[Stored]:
        return self._begun(lambda: self._inner.listed(prefix))

    def versions(self, prefix: str) -> Iterator[Version]:
        return self._begun(lambda: self._inner.versions(prefix))

    def delete(self, name: str, *, version: str = "") -> None:
        with self._waiting():
            self._inner.delete(name, version=version)

    def _begun(self, ask: Callable[[], Iterator[_Item]]) -> Iterator[_Item]:
        """Return what `ask` returns, with its first item read."""
        with self._waiting():
            found = ask()
            first = [*islice(found, 1)]
        return chain(first, found)

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        if self._answered:
            yield
            return
        timer = threading.Timer(_SILENT, _log.info, ("waiting for %s", self.shown))
        timer.daemon = True
        timer.start()
        try:
            yield
            self._answered = True
        finally:
            timer.cancel()
