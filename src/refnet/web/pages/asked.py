"""Functions that several pages use: settings, sources, and runs of the server."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated

from fastapi import Path, Request

from refnet import wiring
from refnet.catalog.source_name import SourceName
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import plain, some
from refnet.settings import Settings
from refnet.web.children import Child, Children, Output
from refnet.web.guard import is_of_another_site
from refnet.web.pages.layout import reading

#: For messages about a timeout of reading the files of the runs.
RUNS = "the folder of the runs"
#: The id of a run in a path, checked when the run is looked up.
RunId = Annotated[str, Path(alias="id")]


def settings_of(request: Request) -> Settings:
    """Return the settings of the server."""
    found: Settings = request.app.state.settings
    return found


def children_of(request: Request) -> Children:
    """Return the runs of the dashboard."""
    found: Children = request.app.state.children
    return found


def source_of(settings: Settings, name: str) -> SourceName:
    """Return the source named `name`, protected or gone from its place; RefnetError (USAGE) if there is none."""
    there = wiring.protected(settings)
    for one in (*there, *(one for one in wiring.gone(settings) if one in wiring.known(settings))):
        if one == name:
            return one
    message = f"'{plain(name[:100])}' is not a source"
    raise RefnetError(message, f"The sources are: {some(there) or 'none'}.", Exit.USAGE)


async def short(request: Request, words: Sequence[str], *, seconds: float = 60) -> Output:
    """Run the read-only command `refnet WORDS`; RefnetError (USAGE) for a request from another site."""
    if is_of_another_site(request.headers):
        raise RefnetError(
            "cross-site request: this page starts a process",
            "Open it from the dashboard.",
            Exit.USAGE,
        )
    return await children_of(request).output(words, seconds=seconds)


async def begin(request: Request, words: Sequence[str], **about: str) -> Child:
    """Start `refnet WORDS` as a child. about: the other arguments of `Children.start`, with its errors."""
    return await reading(request, RUNS, partial(children_of(request).start, words, **about))
