"""What monitoring asks: `/health`, `/metrics`, and `/api/backups`. Read-only.

`/health` checks the database, the broker and the disk of the backup folder, each by name; `/metrics` and `/api/backups`
print what `refnet metrics` and `refnet list --json` print.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Annotated, Any

from anyio import CapacityLimiter
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import PlainTextResponse

from refnet import wiring
from refnet.actions.list import listing
from refnet.actions.overview import facts_reader
from refnet.catalog.catalog import Catalog
from refnet.catalog.monitoring import Status
from refnet.catalog.monitoring_stores import watch_store
from refnet.catalog.source_name import SourceName
from refnet.context import Context
from refnet.core.clock import utc_now
from refnet.core.errors import RefnetError
from refnet.core.extras import needed
from refnet.settings import Settings
from refnet.sources import source_of
from refnet.web.answers import SECONDS, json_of, json_text, threaded, within
from refnet.web.database import NetworkDatabase
from refnet.web.schemas import BackupsAnswer, HealthAnswer

router = APIRouter()
#: The most artifacts, and the most lines of evidence per artifact.
MOST, LINES = 1000, 20
#: The description of the answer that at least one part failed.
HEALTH_FAILED: dict[str, Any] = {"model": HealthAnswer, "description": "At least one part failed."}
#: The time limit of each check, and how long an answer is cached for all clients, in seconds.
CHECK_SECONDS, FRESH = 3.0, 1.0


@dataclass(frozen=True)
class HealthPart:
    """The result of one check; only `failed` makes the answer a 503."""

    state: str
    reason: str = ""


class Health:
    """The state of database, broker and disk, checked at most once a second."""

    def __init__(self, settings: Settings, database: NetworkDatabase) -> None:
        self._settings, self._database = settings, database
        self._store = wiring.store(settings)  # it rereads only changes
        self._catalog = wiring.catalog(settings) if settings.encryption_local else self._store
        self._asking = asyncio.Lock()
        self._threads = CapacityLimiter(4)
        self._found: dict[str, HealthPart] = {}
        self._at = float("-inf")

    async def parts(self) -> dict[str, HealthPart]:
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

    async def _database_part(self) -> HealthPart:
        await self._database.probe()
        return HealthPart("ok")

    def _free_space(self) -> HealthPart:
        if trouble := self._store.trouble():
            raise trouble
        space, *_ = watch_store(Catalog.of(self._catalog.entries()), (), (), self._store.free_bytes())
        return HealthPart("failed" if space.status in {Status.CRITICAL, Status.UNKNOWN} else "ok", space.says)


def _broker(settings: Settings) -> HealthPart:
    """Check the broker. RefNet's own broker starts on demand, so it may be stopped."""
    if settings.broker_url is None and not (settings.home / "broker").exists():
        return HealthPart("unused", "no broker is configured, and RefNet's own was never started")
    if not find_spec("redis"):
        return HealthPart("unused", "the extra `celery` is not installed")
    from refnet.broker import server

    if settings.broker_url is None and not server.status(settings.home).running:
        return HealthPart("unused", "RefNet's own broker is stopped; it starts when it is needed")
    server.check(settings.broker_url or server.url(settings.home))
    return HealthPart("ok")


async def _checked(name: str, check: Coroutine[Any, Any, HealthPart]) -> HealthPart:
    try:
        return await within(CHECK_SECONDS, f"the {name}", check)
    except RefnetError as error:
        return HealthPart("failed", f"{error.message}. {error.hint}")


class BackupReports:
    """Reports on the backup folder, made in threads, as they read files and query the database."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._threads = CapacityLimiter(4)
        self._one_at_a_time = threading.Lock()  # the metrics share cached facts
        self._exposition: Callable[[str], tuple[bytes, str]] | None = None

    async def backups(self, limit: int) -> str:
        """Return the newest `limit` artifacts with their evidence, as JSON."""
        return await within(
            SECONDS, "the backup folder", threaded(lambda: self._backups(limit), self._threads)
        )

    async def metrics(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics in a format of the header Accept, and their content type."""
        work = threaded(lambda: self._metrics(accept), self._threads)
        return await within(SECONDS, "the backup folder or the database", work)

    def _backups(self, limit: int) -> str:
        found = listing(Context(self._settings), None)
        said = found.to_json()
        evidence = [
            [json.loads(line.to_json()) for line in entry.evidence[-LINES:]] for entry in found.entries
        ]
        all_of_them = [
            {**one, "evidence": lines} for one, lines in zip(said["artifacts"], evidence, strict=True)
        ]
        newest = sorted(all_of_them, key=lambda one: one["created"])[-limit:]
        left_out = len(all_of_them) - len(newest)
        return json.dumps({**said, "artifacts": newest, "left_out": left_out}) + "\n"

    def _metrics(self, accept: str) -> tuple[bytes, str]:
        with needed("metrics"):
            from refnet.telemetry.metrics import exposition
        with self._one_at_a_time:
            if self._exposition is None:
                read = facts_reader(self._settings, utc_now)
                self._exposition = lambda accept: exposition(
                    lambda: read(source_of(self._settings, SourceName.DATABASE).whose()), accept
                )
            return self._exposition(accept)


@router.get("/api/backups", tags=["backups"], response_model=BackupsAnswer)
async def backups(request: Request, limit: Annotated[int, Query(ge=1, le=MOST)] = 200) -> Response:
    """List the newest artifacts, oldest first, as `refnet list --json`; each with its last lines of evidence."""
    return json_text(await request.app.state.reports.backups(limit))


@router.get("/metrics", tags=["health"], response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Return the metrics for Prometheus, as `refnet metrics` does."""
    text, kind = await request.app.state.reports.metrics(request.headers.get("accept", ""))
    return Response(text, media_type=kind)


@router.get("/health", tags=["health"], response_model=HealthAnswer, responses={503: HEALTH_FAILED})
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
