"""`/restore`: choose source and moment, check the plan, confirm, watch the restore; the same for an undo. The moments and artifacts that it lists: by day, of
remote copies, and the moments that the WAL of a cluster reaches.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import partial
from typing import Any, Self

from fastapi import APIRouter, Request, Response
from starlette.responses import RedirectResponse

from refnet import sources, wiring
from refnet.actions.list import Kept, previous
from refnet.catalog.calendar import by_day
from refnet.catalog.catalog import Catalog, parse_time
from refnet.catalog.manifest import Entry
from refnet.catalog.recovery_target import parse_moment
from refnet.catalog.retention import PreviousVersion
from refnet.catalog.source_name import Kind, SourceName
from refnet.catalog.wal_status import StreamStatus
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import plain
from refnet.settings import Settings
from refnet.sources.cluster.stream_status import streamed
from refnet.sources.restore_options import Mode
from refnet.store.keys import MachineKeys
from refnet.web.children import BusyError, Child, Children
from refnet.web.orders import (
    ByHand,
    Order,
    OrderPlan,
    Refusal,
    Verb,
    by_hand,
    failure,
    read_plan,
    read_result,
)
from refnet.web.pages import runs
from refnet.web.pages.base import (
    RUNS,
    RunId,
    begin,
    children_of,
    form,
    fragment,
    page,
    reading,
    settings_of,
    short,
    source_of,
)

router = APIRouter(prefix="/restore", include_in_schema=False)
#: Limits: last runs; seconds for a plan.
LAST, SECONDS = 5, 120.0
_STATUS = {Refusal.NAME: 400, Refusal.CHANGED: 409, Refusal.PROBLEMS: 409}


@router.get("")
async def choose(
    request: Request,
    source: str = "",
    day: date | None = None,
    before: date | None = None,
    at: str = "",
    offset: str = "",
    store: str = "",
) -> Response:
    """Show the sources and the last restores; or the moments and artifacts of `source` by day.

    Args:
        at, offset: the moment of the command that is shown for a whole server.
        store: show its copies in this remote store instead.
    """
    if not source:
        return page(
            request, "restore.html.j2", **await reading(request, "the settings", partial(_all, request))
        )
    chosen = await _source(request, source)
    window = await window_of(request, chosen)
    if not at or not window:
        return await moments(request, chosen, window, days=(day, before), store=store)
    try:
        return await moments(request, chosen, window, moment=window.moment(at, offset))
    except RefnetError as error:
        return await moments(request, chosen, window, problem=error, typed=at)


def _all(request: Request) -> dict[str, Any]:
    """Return the sources, each with its live database or folder, and the last runs."""
    settings = settings_of(request)
    shown = [(one, sources.source_of(settings, one).what()) for one in wiring.protected(settings)]
    return {"sources": shown, "runs": [runs.shown(one) for one in _runs(children_of(request))[:LAST]]}


@router.get("/plan")
async def plan(
    request: Request, source: str = "", artifact: str = "", at: str = "", beside: str = "", offset: str = ""
) -> Response:
    """Show the plan of a restore, as the command line prints it."""
    settings, chosen = settings_of(request), await _source(request, source)
    asked = part_of(request.query_params) | place_of(settings, request.query_params)
    order = Order(Verb.RESTORE, chosen, artifact, beside, **asked)
    if not at or artifact:
        return await _shown(request, order)
    window = await window_of(request, chosen)
    try:
        moment = window.moment(at, offset) if window else parse_time(at, settings.schedule_timezone)
        if not (window or order.store or settings.encryption_local):
            check_reached(await entries_of(request, chosen), chosen, moment, settings.schedule_timezone)
    except RefnetError as error:
        return await moments(request, chosen, window, problem=error, typed=at)
    order = replace(order, at=moment.isoformat())
    if by_hand(order, settings):
        return await _shown(request, order)
    found = await _planned(request, order)
    name = str(found.values["artifact"])
    if Catalog.of(await entries_of(request, chosen)).named(name) is None:
        return await _shown(request, order, found)  # WAL reaches that moment
    return await _shown(request, replace(order, name=name, at=""), instead=moment if window else None)


@router.post("")
async def start(request: Request) -> Response:
    """Start the restore that the form confirms."""
    return await _start(request, Verb.RESTORE)


@router.get("/undo")
async def plan_undo(request: Request, source: str = "", name: str = "") -> Response:
    """Show the plan of an undo."""
    return await _shown(request, Order(Verb.UNDO, await _source(request, source), name))


@router.post("/undo")
async def undo(request: Request) -> Response:
    """Start the undo that the form confirms."""
    return await _start(request, Verb.UNDO)


@router.get("/previous")
async def kept(request: Request) -> Response:
    """List the previous versions, each with a link to the plan of its undo."""
    settings = settings_of(request)
    found = await reading(
        request,
        "the servers of the databases",
        lambda: previous(Context(settings), wiring.protected(settings)),
    )
    return page(request, "restore_previous.html.j2", kept=found, orders=undo_orders(found))


@router.get("/runs/{id}")
async def run(request: Request, name: RunId) -> Response:
    """Show the progress or the result of a restore or an undo."""
    return page(request, "restore_run.html.j2", **await _run(request, name))


@router.get("/runs/{id}/part")
async def part(request: Request, name: RunId) -> Response:
    """Return the part of that page that changes."""
    return fragment(request, "restore_run_part.html.j2", **await _run(request, name))


def part_of(given: Mapping[str, str]) -> dict[str, Any]:
    """Return what of an artifact alone is restored, from the fields `only`, `table` and `mode` of a request."""
    mode = given.get("mode", "")
    if mode and mode not in set(Mode):
        raise RefnetError(f"'{plain(mode)[:100]}' is no mode", f"Give one of: {', '.join(Mode)}.", Exit.USAGE)
    found = {
        "only": given.get("only", ""),
        "table": given.get("table", ""),
        "mode": Mode(mode) if mode else None,
    }
    return {name: value for name, value in found.items() if value}


def place_of(settings: Settings, given: Mapping[str, str]) -> dict[str, Any]:
    """From where and to where a request restores, from its fields `merge`, `to` and `store`; RefnetError for no store."""
    store = given.get("store", "")
    if store and store not in settings.stores:
        raise RefnetError(f"'{plain(store)[:100]}' is not a store", "/stores lists them.", Exit.USAGE)
    return {"merge": given.get("merge") == "yes", "to": given.get("to", "").strip(), "store": store}


def undo_orders(kept: Kept) -> dict[PreviousVersion, Order]:
    """Return previous version → order that brings it back: databases by name, of a folder only the last version."""
    found: dict[PreviousVersion, Order] = {}
    last = {one.source: one for one in kept.versions if not one.half_made and one.what.startswith("folder ")}
    for one in kept.versions:
        name = one.what.removeprefix("database ")
        if name != one.what:
            with suppress(RefnetError):  # a name that only the command line accepts
                found[one] = Order(Verb.UNDO, one.source, name)
        elif last.get(one.source) is one and not one.blocked:
            found[one] = Order(Verb.UNDO, one.source)
    return found


async def _start(request: Request, verb: Verb) -> Response:
    given = await form(request)
    name = given.get("artifact" if verb is Verb.RESTORE else "name", "")
    source = await _source(request, given.get("source", ""))
    asked = part_of(given) | (place_of(settings_of(request), given) if verb is Verb.RESTORE else {})
    order = Order(verb, source, name, given.get("beside", ""), **asked)
    if given.get("at") and not name and verb is Verb.RESTORE:
        order = replace(order, at=parse_time(given["at"], settings_of(request).schedule_timezone).isoformat())
    if running := await _running(request, order):
        return _page(request, order, 409, running=running)
    if why := by_hand(order, settings_of(request)):
        return _page(request, order, 409, by_hand=why)
    planned = await _plan(request, order)
    if planned.replaces_elsewhere:
        return _page(request, order, 409, by_hand=ByHand.ELSEWHERE)
    if refusal := planned.refusal(given):
        text = await _text(request, order)
        shown = {"plan": planned, "text": text, "refusal": refusal}
        return _page(request, order, _STATUS[refusal], **shown, typed=given.get("typed", ""))
    about = {"kind": str(order.verb), "source": str(order.source), "exclusive": order.exclusive}
    title = shlex.join(["refnet", *planned.to_run])[:300]
    try:
        child = await begin(request, planned.to_run, title=title, **about)
    except BusyError as error:
        return _page(request, order, 409, running=error.child)
    return RedirectResponse(f"/restore/runs/{child.id}", 303)


async def _shown(
    request: Request, order: Order, planned: OrderPlan | None = None, instead: datetime | None = None
) -> Response:
    """Show the plan of `order`. instead: the moment that was asked for, and that WAL does not reach after all."""
    if running := await _running(request, order):
        return _page(request, order, running=running)
    if why := by_hand(order, settings_of(request)):
        return _page(request, order, by_hand=why, far=await _from_far(request, order))
    # not concurrently: each plan would list the other's session
    planned = planned or await _plan(request, order)
    if planned.replaces_elsewhere:
        return _page(request, order, by_hand=ByHand.ELSEWHERE)
    return _page(request, order, plan=planned, text=await _text(request, order), instead=instead)


def _page(request: Request, order: Order, status: int = 200, **values: Any) -> Response:
    nothing = {"plan": None, "text": "", "refusal": None, "typed": "", "running": None, "instead": None}
    nothing |= {"by_hand": None, "far": ""}
    return page(request, "restore_plan.html.j2", status, order=order, **(nothing | values))


async def _from_far(request: Request, order: Order) -> str:
    """The command of another machine for a remote copy, as when this one is lost; "": it is none."""
    if not order.store:
        return ""
    settings, signer = settings_of(request), ""
    with suppress(
        RefnetError, OSError
    ):  # no key was made here yet: who restores compares what the copies say
        found = await reading(request, "the keys", MachineKeys.in_home(settings.home).signer)
        signer = found.fingerprint
    return order.command_from(settings.stores[order.store].url_to_read, signer)


async def _plan(request: Request, order: Order) -> OrderPlan:
    """Return the plan; RefnetError if the catalog has no such artifact of the source."""
    sha256 = ""
    if order.verb is Verb.RESTORE and not order.at:
        entry = Catalog.of(await entries_of(request, order.source)).named(order.name)
        if entry is None:
            raise RefnetError(
                f"{order.source} has no artifact of that name in the catalog",
                f"/restore?source={order.source} lists them.",
                Exit.USAGE,
            )
        sha256 = entry.manifest.sha256
    return await _planned(request, order, sha256)


async def _planned(request: Request, order: Order, sha256: str = "") -> OrderPlan:
    said = await short(request, [*order.words, "--plan", "--json"], seconds=SECONDS)
    return read_plan(order, said.code, said.stdout, said.stderr, sha256)


async def _text(request: Request, order: Order) -> str:
    said = await short(request, [*order.words, "--plan"], seconds=SECONDS)
    if not said.stdout:
        raise failure(order, said.code, said.stderr)
    return "".join(f"{plain(line)}\n" for line in said.stdout.splitlines())


async def _run(request: Request, name: str) -> Mapping[str, Any]:
    def read() -> Mapping[str, Any]:
        values = runs.ChildReader(request, name)()
        child = values["run"].child
        if child.kind not in set(Verb):
            raise RefnetError(
                f"{child.title} is neither a restore nor an undo", "/runs shows it.", Exit.USAGE
            )
        return values | {"result": read_result(child.result)}

    return await reading(request, RUNS, read)


def _runs(children: Children) -> list[Child]:
    """Return the restores and undos of this dashboard, running ones first, then newest first."""
    return sorted((one for one in children.all() if one.kind in set(Verb)), key=lambda one: not one.running)


async def _running(request: Request, order: Order) -> Child | None:
    found = await reading(request, RUNS, partial(_runs, children_of(request)))
    return next((one for one in found if one.running and one.exclusive == order.exclusive), None)


async def _source(request: Request, name: str) -> SourceName:
    return await reading(request, "the settings", partial(source_of, settings_of(request), name))


#: The most days of a window at which its offset is looked at: clocks change far less often than every tenth of one.
_LOOKS = 400


@dataclass(frozen=True)
class Window:
    """The moments that can be restored exactly; their times are in UTC, as times of one zone compare without offsets."""

    begin: datetime
    end: datetime
    #: Of the pages; None: this machine's.
    zone: tzinfo | None

    @classmethod
    def of(cls, stream: StreamStatus | None, zone: tzinfo | None) -> Self | None:
        """The window of `stream`; None: no moment can be restored."""
        if stream is None or stream.window is None:
            return None
        begin, end = (one.astimezone(UTC) for one in stream.window)
        return cls(begin, end, zone) if begin <= end else None

    @property
    def first(self) -> datetime:
        """The first whole second."""
        whole = self.begin.replace(microsecond=0)
        return (whole if whole == self.begin else whole + timedelta(seconds=1)).astimezone(self.zone)

    @property
    def last(self) -> datetime:
        """The last whole second."""
        return self.end.replace(microsecond=0).astimezone(self.zone)

    @property
    def offsets(self) -> tuple[str, ...]:
        """The offsets from UTC that the zone has in the window, such as `+09:00`."""
        step = max(timedelta(days=1), (self.end - self.begin) / _LOOKS)
        looks = (self.begin + step * n for n in range(int((self.end - self.begin) / step) + 1))
        return tuple(sorted({_offset(one.astimezone(self.zone)) for one in (*looks, self.end)}))

    @property
    def bounds(self) -> tuple[str, str] | None:
        """The first and the last moment as a field without offset takes them; None: clocks were put back between."""
        first, last = (one.replace(tzinfo=None).isoformat() for one in (self.first, self.last))
        return (first, last) if first <= last else None

    def moment(self, at: str, offset: str) -> datetime:
        """The moment that a form asks for; RefnetError (USAGE) if it is none, is ambiguous, or is outside.

        Args:
            at: an ISO date-time; with an offset, `offset` does not count.
            offset: such as `+09:00`; "": the one of that moment.
        """
        try:
            has_zone = datetime.fromisoformat(at).tzinfo is not None
        except ValueError:
            has_zone = False
        found = parse_moment(at if has_zone else at + offset, self.zone).astimezone(UTC)
        local = found.astimezone(self.zone)
        if self.begin <= found <= self.end:
            return local
        when = "earlier than the first" if found < self.begin else "later than the last"
        raise RefnetError(
            f"{shown(local)} is {when} moment that can be restored",
            f"The first one is {shown(self.first)}, the last one {shown(self.last)}.",
            Exit.USAGE,
        )


def shown(moment: datetime) -> str:
    """A moment with seconds and its numeric offset, as the command line takes it."""
    return moment.isoformat(" ", "seconds")


def _offset(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")[19:25]


#: Limits: days on a page, artifacts of one day.
DAYS, OF_DAY = 31, 500


@dataclass(frozen=True)
class Moments:
    """The listed artifacts of one day."""

    day: date
    #: Newest first.
    entries: tuple[Entry, ...]
    #: The number of further artifacts of that day.
    more: int


def days_of(
    entries: Iterable[Entry], zone: tzinfo | None, *, day: date | None = None, before: date | None = None
) -> tuple[list[Moments], date | None]:
    """Return the newest usable artifact of each day, or all of `day`; and `before` for the next, older page.

    zone: the time zone of the days; None: this machine's.
    """
    found = {one: there[::-1] for one, there in reversed(by_day(entries, zone).items())}
    if day:
        return [Moments(day, found.get(day, ())[:OF_DAY], 0)], None
    shown = [one for one in found if before is None or one < before]
    listed = [
        Moments(
            one, (next((each for each in found[one] if each.complete), found[one][0]),), len(found[one]) - 1
        )
        for one in shown[:DAYS]
    ]
    return listed, shown[DAYS - 1] if len(shown) > DAYS else None


async def moments(
    request: Request,
    source: SourceName,
    window: Window | None,
    *,
    days: tuple[date | None, date | None] = (None, None),
    store: str = "",
    **asked: Any,
) -> Response:
    """Show what of `source` can be restored, of its copies in `store` ("": the backup folder).

    asked: `moment`, or `problem` with what was `typed`.
    """
    settings = settings_of(request)
    zone, (day, before) = settings.schedule_timezone, days
    copies = await copies_in(request, source)
    if store and store not in copies:
        raise RefnetError(f"{plain(store)[:100]} has no copy of {source}", "/stores lists them.", Exit.USAGE)
    try:
        entries: Iterable[Entry] = copies[store] if store else await entries_of(request, source)
    except RefnetError as error:
        if not copies:
            raise
        entries, asked = (), {"problem": error} | asked
    listed, older = days_of(entries, zone, day=day, before=before)
    values: dict[str, Any] = {"moment": window.last if window else None, "problem": None, "typed": ""} | asked
    values |= {
        "target": sources.source_of(settings, source).what(),
        "days": listed,
        "older": older,
        "day": day,
        "whole": source.kind is Kind.CLUSTER,
        "window": window,
        "store": store,
        "copies": {name: len(there) for name, there in copies.items()},
        "zone": datetime.now(UTC).astimezone(zone).tzname(),
    }
    status = 400 if values["problem"] else 200
    return page(request, "restore_moment.html.j2", status, source=source, **values)


async def copies_in(request: Request, source: SourceName) -> dict[str, tuple[Entry, ...]]:
    """Each remote store with copies of `source` → these, as it was listed last; empty if no overview can be made."""
    found = (await request.app.state.overviews.latest()).artifacts
    stores = found.stores if found else ()
    return {store: there for store in stores if found and (there := found.of(source, store))}


async def window_of(request: Request, source: SourceName) -> Window | None:
    """The moments that `source` can be restored as of, by WAL; None: none."""
    settings = settings_of(request)
    bases = source if source.kind is Kind.CLUSTER else streamed(settings, source)
    if bases is None:
        return None
    latest = await request.app.state.overviews.latest()
    return Window.of(latest.overview.streams.get(bases), settings.schedule_timezone)


def check_reached(
    entries: Iterable[Entry], source: SourceName, moment: datetime, zone: tzinfo | None
) -> None:
    """Raise RefnetError (USAGE) if no artifact of `source` is of `moment` or before; it names the first one."""
    first = Catalog.of(entries).oldest_complete([source])
    if first is None:
        raise RefnetError(
            f"there is no complete artifact of {source}", f"Make one: refnet backup {source}", Exit.USAGE
        )
    if moment < first.created:
        begin = first.created.astimezone(zone) + timedelta(microseconds=999_999)  # a form takes whole seconds
        raise RefnetError(
            f"{shown(moment.astimezone(zone))} is earlier than the first moment that can be restored",
            f"The first one is {shown(begin)}: {first.name}.",
            Exit.USAGE,
        )


async def entries_of(request: Request, source: SourceName) -> tuple[Entry, ...]:
    """The artifacts of `source` in the backup folder; RefnetError if it cannot be read."""
    catalog = Context(settings_of(request)).catalog
    found = await reading(request, "the backup folder", partial(catalog.entries, source))
    if not found and (trouble := await reading(request, "the backup folder", catalog.trouble)):
        raise trouble
    return tuple(one for one in found if one.source.kind is source.kind)
