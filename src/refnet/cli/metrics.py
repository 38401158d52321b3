"""`refnet metrics`: print the metrics, write them for node_exporter, or serve them to Prometheus."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from refnet.actions.monitor import facts_of
from refnet.catalog.source_name import SourceName
from refnet.cli.context import current_settings, note
from refnet.cli.output import say
from refnet.core.clock import utc_now
from refnet.core.errors import Exit, RefnetError
from refnet.core.extras import needed
from refnet.core.files import explained, replace_file
from refnet.settings import user_path
from refnet.sources import source_of
from refnet.telemetry.serve import Answer, MetricsServer, parse_address


def metrics(
    textfile: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write them to FILE (*.prom) for node_exporter.")
    ] = None,
    serve: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Serve /metrics and /health until stopped.")
    ] = None,
) -> None:
    """Print or serve metrics for Prometheus."""
    if textfile and serve:
        raise RefnetError("--textfile and --serve exclude each other", "Omit one of them.", Exit.USAGE)
    answer = _answer()
    if serve:
        _serve(serve, answer)
    elif textfile:
        _write(textfile, answer)
    else:
        sys.stdout.write(answer("")[0].decode())


def _answer() -> Answer:
    """Function that computes the metrics; RefnetError if the extra is not installed."""
    with needed("metrics"):
        from refnet.telemetry.metrics import exposition

    settings = current_settings()
    read = facts_of(settings, utc_now)
    return lambda accept: exposition(lambda: read(source_of(settings, SourceName.DATABASE).whose()), accept)


def _write(path: Path, answer: Answer) -> None:
    if path.suffix != ".prom":
        note(f"node_exporter ignores {path.name}: it reads only *.prom")
    path = user_path(path).absolute()
    with explained(path):  # readable for all, whatever the umask: node_exporter runs as another user
        replace_file(path, answer("")[0], 0o644)


def _serve(address: str, answer: Answer) -> None:
    def health(_accept: str) -> tuple[bytes, str]:
        answer("")
        return b'{"status": "ok"}\n', "application/json"

    with MetricsServer(parse_address(address), {"/metrics": answer, "/health": health}) as server:
        say(f"serving {server.url}/metrics and {server.url}/health", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            say("stopped", flush=True)
