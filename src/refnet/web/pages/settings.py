"""`/settings`: the output of `refnet settings`, with default and description of each setting."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request, Response

from refnet.context import examine_settings
from refnet.settings import Examined, Settings
from refnet.settings.report import ShownSetting, report, text_of
from refnet.web.pages.base import page, reading, said
from refnet.web.shared_facts import changed_keys

router = APIRouter(include_in_schema=False)


@router.get("/settings")
async def settings(request: Request, q: str = "", changed: str = "") -> Response:
    """Show the settings that contain the words of `q`; with `changed` only settings that differ from their default.

    The settings are read again, so that problems show up before the next start.
    """
    found, every = await reading(request, "the settings file", partial(_read, request.app.state.settings))
    words = q[:200].casefold().split()
    shown = [one for one in every if _matches(one, words) and (not changed or _is_set(one))]
    return page(
        request, "settings.html.j2", found=found, settings=shown, q=q[:200], changed=bool(changed),
        stale=changed_keys(request.app.state.settings, found), text_of=text_of,
    )  # fmt: skip


def _read(running: Settings) -> tuple[Examined, list[ShownSetting]]:
    found = examine_settings(running.variables)
    return found, report(found)


def _matches(one: ShownSetting, words: list[str]) -> bool:
    """Return whether the shown text of a setting contains all of `words`."""
    described = f"{one.description} {said(one.description, 'ja')}"
    text = f"{one.key} {one.variable} {text_of(one.value)} {one.origin} {described}".casefold()
    return all(word in text for word in words)


def _is_set(one: ShownSetting) -> bool:
    return one.origin != "the default" and one.default != f"as {one.origin}"
