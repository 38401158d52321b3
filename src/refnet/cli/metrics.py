"""`refnet metrics`: print them, write them for node_exporter, or serve them to Prometheus."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refnet.cli.context import current_settings, note, now
from refnet.errors import Exit, RefnetError
from refnet.settings import user_path

if TYPE_CHECKING:
    from refnet.telemetry.serve import Answer


def metrics(
    textfile: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write them to FILE (*.prom) for node_exporter.")
    ] = None,
    serve: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Answer /metrics and /health until stopped.")
    ] = None,
) -> None:
    """Print the metrics of all backups in Prometheus's text format."""
    if textfile and serve:
        raise RefnetError(
            "--textfile and --serve exclude each other", "Leave one of the two out.", Exit.USAGE
        )
    answer = _answer()
    if serve:
        _serve(serve, answer)
    elif textfile:
        _write(textfile, answer)
    else:
        sys.stdout.write(answer("")[0].decode())


def _answer() -> Answer:
    """The metrics as they are whenever it is called; RefnetError where the extra is not installed."""
    from refnet import wiring

    try:
        from refnet.telemetry.metrics import exposition
    except ModuleNotFoundError as error:
        if error.name != "prometheus_client":
            raise
        raise RefnetError(
            "metrics need prometheus-client, which is not installed",
            "pip install 'refnet[metrics]'",
        ) from None
    read = wiring.facts(current_settings(), now)
    return lambda accept: exposition(read, accept)


def _write(path: Path, answer: Answer) -> None:
    from refnet.telemetry import textfile

    if path.suffix != ".prom":
        note(f"node_exporter reads *.prom alone, and {path.name} is not one")
    textfile.write(user_path(path).absolute(), answer("")[0])


def _serve(address: str, answer: Answer) -> None:
    from refnet.telemetry.serve import Server, parse_address

    def health(_accept: str) -> tuple[bytes, str]:
        answer("")
        return b'{"status": "ok"}\n', "application/json"

    with Server(parse_address(address), {"/metrics": answer, "/health": health}) as server:
        print(f"serving {server.url}/metrics and {server.url}/health", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("stopped", flush=True)
