"""`/health`: the database, the broker and the disk of the backup folder, each by name."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

from anyio import CapacityLimiter
from fastapi import APIRouter, Request, Response

from refnet import wiring
from refnet.catalog.catalog import Catalog
from refnet.catalog.monitoring import Status
from refnet.catalog.monitoring_stores import watch_store
from refnet.core.errors import RefnetError
from refnet.settings import Settings
from refnet.web.answers import json_of
from refnet.web.database import Database
from refnet.web.waiting import threaded, within

router = APIRouter(tags=["health"])
#: The time limit of each check, and how long an answer is cached for all clients, in seconds.
SECONDS, FRESH = 3.0, 1.0


@dataclass(frozen=True)
class Part:
    """The result of one check; only `failed` makes the answer a 503."""

    state: str
    reason: str = ""


class Health:
    """The state of database, broker and disk, checked at most once a second."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings, self._database = settings, database
        self._store = wiring.store(settings)  # it rereads only changes
        self._catalog = wiring.catalog(settings) if settings.encryption_local else self._store
        self._asking = asyncio.Lock()
        self._threads = CapacityLimiter(4)
        self._found: dict[str, Part] = {}
        self._at = float("-inf")

    async def parts(self) -> dict[str, Part]:
        """Return name → result of each check."""
        async with self._asking:
            if time.monotonic() - self._at >= FRESH:
                checks = {
                    "database": self._database_part(),
                    "broker": threaded(partial(_broker, self._settings), self._threads),
                    "disk": threaded(self._free_space, self._threads),
                }
                found = await asyncio.gather(*(_checked(name, check) for name, check in checks.items()))
                self._found, self._at = dict(zip(checks, found, strict=True)), time.monotonic()
            return self._found

    async def _database_part(self) -> Part:
        await self._database.probe()
        return Part("ok")

    def _free_space(self) -> Part:
        if trouble := self._store.trouble():
            raise trouble
        space, *_ = watch_store(Catalog.of(self._catalog.entries()), (), (), self._store.free_bytes())
        return Part("failed" if space.status in {Status.CRITICAL, Status.UNKNOWN} else "ok", space.says)


def _broker(settings: Settings) -> Part:
    """Check the broker. RefNet's own broker starts on demand, so it may be stopped."""
    if settings.broker_url is None and not (settings.home / "broker").exists():
        return Part("unused", "no broker is configured, and RefNet's own was never started")
    if not find_spec("redis"):
        return Part("unused", "the extra `celery` is not installed")
    from refnet.broker import server

    if settings.broker_url is None and not server.status(settings.home).running:
        return Part("unused", "RefNet's own broker is stopped; it starts when it is needed")
    server.check(settings.broker_url or server.url(settings.home))
    return Part("ok")


async def _checked(name: str, check: Coroutine[Any, Any, Part]) -> Part:
    try:
        return await within(SECONDS, f"the {name}", check)
    except RefnetError as error:
        return Part("failed", f"{error.message}. {error.hint}")


@router.get("/health", responses={503: {"description": "At least one part failed."}})
async def health(request: Request) -> Response:
    """Report whether the database, the broker and the disk of the backup folder work; 503 if one does not.

    The reasons are only for clients with the token, if there is one.
    """
    parts = await request.app.state.health.parts()
    everything = request.app.state.may_see(request)
    said: dict[str, Any] = {
        name: {"state": part.state, **({"reason": part.reason} if part.reason and everything else {})}
        for name, part in parts.items()
    }
    bad = any(part.state == "failed" for part in parts.values())
    return json_of({"status": "failed" if bad else "ok", "checks": said}, 503 if bad else 200)
