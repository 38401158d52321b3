"""`refnet serve`: the dashboard and the HTTP API."""

from __future__ import annotations

from typing import Annotated

import typer

from refnet.cli.context import current_settings
from refnet.cli.output import say
from refnet.core.extras import needed


def serve(
    *,
    host: Annotated[
        str, typer.Option(metavar="HOST", help="The address; without web.token only a loopback address.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="PORT", help="The port; 0: any free port.")
    ] = 8000,
) -> None:
    """Serve the dashboard and the HTTP API.

    Runs until stopped. /docs describes the paths of the API.
    """
    settings = current_settings()
    with needed("web"):
        from refnet.web import server
    listening = server.listen(host, port, local=settings.web_token is None)
    url = server.url_of(listening)
    server.serve(settings, listening, lambda: say(f"serving {url}/, with its API on {url}/docs", flush=True))
    say("stopped", flush=True)
