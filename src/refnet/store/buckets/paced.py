"""A limit to the bytes per second to and from a bucket."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from refnet.store.buckets.bucket import Bucket, Stored, Version


class Paced:
    """A bucket limited to `speed` bytes per second on average: each object waits for its predecessors' time."""

    def __init__(
        self,
        inner: Bucket,
        speed: int,
        now: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._inner = inner
        self._speed = speed
        self._now = now
        self._wait = wait
        self._free = now()
        self._alone = threading.Lock()

    @property
    def shown(self) -> str:
        return self._inner.shown

    def put(self, name: str, data: bytes) -> str:
        self._pass(len(data))
        return self._inner.put(name, data)

    def get(self, name: str, most: int, *, version: str = "") -> bytes:
        self._pass(0)
        data = self._inner.get(name, most, version=version)
        self._take(len(data))
        return data

    def listed(self, prefix: str) -> Iterator[Stored]:
        return self._inner.listed(prefix)

    def versions(self, prefix: str) -> Iterator[Version]:
        return self._inner.versions(prefix)

    def delete(self, name: str, *, version: str = "") -> None:
        self._inner.delete(name, version=version)

    def _pass(self, size: int) -> None:
        """Wait until the line is free, and take it for `size` bytes."""
        if (pause := self._take(size)) > 0:
            self._wait(pause)

    def _take(self, size: int) -> float:
        """Take the line for `size` bytes; return the seconds until it is free for them."""
        with self._alone:
            now = self._now()
            start = max(now, self._free)
            self._free = start + size / self._speed
            return start - now
