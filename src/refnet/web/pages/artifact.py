"""`/artifacts/{source}/{name}`: one artifact with content, evidence, copies and download."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Request, Response

from refnet import wiring
from refnet.actions.catalog import notes
from refnet.catalog.manifest import Entry, Manifest, Unprotected
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import left_out, size
from refnet.sources import kind_of
from refnet.web.artifacts import Artifacts, artifacts
from refnet.web.child_files import last_error, result
from refnet.web.download import Download, open_checked
from refnet.web.pages.asked import short
from refnet.web.pages.layout import fragment, page, reading

router = APIRouter(include_in_schema=False)
#: Limits of a page: tables or files, lines of evidence, other lines.
CONTENTS, LINES, SENTENCES = 500, 100, 50
_PATH = "/artifacts/{source}/{name}"


@dataclass(frozen=True)
class Contents:
    """The tables or files of an artifact, or the reason why they cannot be shown."""

    #: `tables` or `files`.
    what: str
    #: As printed by `refnet show`, at most CONTENTS.
    first: list[dict[str, Any]] = field(default_factory=list)
    #: The number of all tables or files.
    total: int = 0
    trouble: RefnetError | None = None


@router.get(_PATH)
async def artifact_page(request: Request, source: str, name: str) -> Response:
    """Show one artifact; with `?contents=yes` also its tables or files, for browsers without JavaScript."""
    found = await artifacts(request)
    entry, store = found.find(source, name)
    wanted = request.query_params.get("contents") == "yes" and lists(found, entry, store)
    contents = await _contents(request, entry) if wanted else None
    return page(
        request, "artifact.html.j2", entry=entry, store=store, facts=[*_facts(entry.manifest)], found=found,
        notes=notes(entry, found.facts.now), places=found.places(entry), contents=contents,
        evidence=entry.evidence[: -LINES - 1 : -1], lists=lists(found, entry, store),
        can_download=not (store or found.settings.encryption_local), sentences=SENTENCES,
    )  # fmt: skip


@router.get(f"{_PATH}/contents")
async def artifact_contents(request: Request, source: str, name: str) -> Response:
    """Return the tables or files of an artifact, as a part of its page."""
    found = await artifacts(request)
    entry, store = found.find(source, name)
    if not lists(found, entry, store):
        raise RefnetError(
            f"{name[:100]} has no list of its content on this page", "Use `refnet show`.", Exit.USAGE
        )
    return fragment(request, "artifact_contents.html.j2", contents=await _contents(request, entry))


@router.get(f"{_PATH}/download")
async def artifact_download(request: Request, source: str, name: str) -> Response:
    """Send the file of an artifact in the backup folder."""
    found = await artifacts(request)
    entry, store = found.find(source, name)
    if store or found.settings.encryption_local:
        where = f" --store {store}" if store else ""
        hint = f"It needs the recovery key: refnet fetch {name}{where} --identity-file FILE"
        raise RefnetError(f"{name} is encrypted, and is not downloaded from here", hint, Exit.USAGE)
    opened = wiring.store(found.settings).artifact(entry)
    file = await reading(request, "the backup folder", lambda: open_checked(opened, entry.manifest))
    return Download(file, entry.manifest)


def lists(found: Artifacts, entry: Entry, store: str) -> str:
    """Return the kind of list (tables, files) of `entry` that is readable without the recovery key; "": none."""
    return "" if store or found.settings.encryption_local else kind_of(entry.source).contains


async def _contents(request: Request, entry: Entry) -> Contents:
    what = kind_of(entry.source).contains  # also the option of `refnet show` that lists it
    hint = f"Run it in a terminal: refnet show {entry.name} --{what}"
    unreadable = ("the list of its content cannot be read", hint)
    try:
        output = await short(request, ["show", entry.name, f"--{what}", "--json"])
        if output.code != Exit.DONE:
            return Contents(what, trouble=RefnetError(*(last_error(output.stderr) or unreadable)))
        said = result(output.stdout)
        return Contents(what, said[what][:CONTENTS], said["total"])
    except RefnetError as error:
        return Contents(what, trouble=error)
    except (ValueError, LookupError, TypeError):
        return Contents(what, trouble=RefnetError(*unreadable))


def _facts(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield label and text of the manifest's other facts; its details may contain anything."""
    yield "SHA-256", manifest.sha256
    if manifest.compared:
        yield "compared with the source", manifest.compared
    yield "made by", manifest.made_by[:200]
    if manifest.is_unknown:
        yield "database", "unknown: not recorded"
    plain = [(n, v) for n, v in manifest.details.items() if v is not None and not isinstance(v, (dict, list))]
    for name, value in plain[:SENTENCES]:
        yield ("digest" if name == "state" else name.replace("_", " ")[:100]), _value(name, value)
    if excluded := left_out(manifest.details):
        yield "left out", excluded
    if lacks := Unprotected.read(manifest.details):
        yield "not protected", str(lacks)


def _value(name: str, value: Any) -> str:
    if not isinstance(value, int) or isinstance(value, bool):
        return str(value)[:500]
    return f"{size(value)} ({value:,} bytes)" if name.endswith("bytes") else f"{value:,}"
