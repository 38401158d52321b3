"""`refnet monitor` and `refnet metrics`: whether everything is protected, for people, plugins and Prometheus.

Exit codes of `refnet monitor` are those of monitoring plugins: 0 ok, 1 warning, 2 critical, 3 unknown.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from refnet.actions.monitor import monitor as run
from refnet.actions.overview import facts_reader
from refnet.catalog.monitoring import worst
from refnet.catalog.source_name import SourceName
from refnet.cli import options, render
from refnet.cli.completion import source_name
from refnet.cli.context import context, current_settings, note, print_json
from refnet.cli.output import complain, say
from refnet.core.clock import utc_now
from refnet.core.errors import Exit, RefnetError
from refnet.core.extras import needed
from refnet.core.files import explained, replace_file
from refnet.settings import user_path
from refnet.sources import source_of
from refnet.telemetry.serve import Answer, MetricsServer, parse_address
from refnet.wiring import gone, known, not_configured

_UNKNOWN = 3


def monitor(
    source: Annotated[
        SourceName | None,
        typer.Argument(metavar="SOURCE", help="This source; default: all.", **source_name(Exit(_UNKNOWN))),
    ] = None,
    store: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only the copies in this remote store.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Report whether every source is protected.

    Ends with 0 ok, 1 warning, 2 critical, 3 unknown.
    """
    try:
        raise typer.Exit(_monitor(source, store, as_json=as_json))
    except RefnetError as error:
        complain(error)
        raise typer.Exit(_UNKNOWN) from error


def _monitor(source: SourceName | None, store: str | None, *, as_json: bool) -> int:
    here = context()
    if source and source not in (
        *known(here.settings),
        *gone(here.settings),
    ):  # its artifacts are still there
        raise not_configured(here.settings, source)
    found = run(here, source)
    checks, overview = found.checks, found.to_json() if source is store is None else {}
    if store:
        name = here.settings.store(store).name
        checks = tuple(one for one in checks if one.what in {f"copy {name}", f"store {name}"})
    status = worst(checks)
    if as_json:
        print_json({"status": status, "checks": [check.to_json() for check in checks], **overview})
    else:
        rows = [(c.status.upper(), c.source or "store", c.what, c.says) for c in checks]
        render.print_columns([("status", "source", "check", ""), *rows])
        print(f"overall: {status.upper()}")
    return status.exit


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
    answer = _exposition()
    if serve:
        _serve_metrics(serve, answer)
    elif textfile:
        _write_metrics(textfile, answer)
    else:
        sys.stdout.write(answer("")[0].decode())


def _exposition() -> Answer:
    """Function that computes the metrics; RefnetError if the extra is not installed."""
    with needed("metrics"):
        from refnet.telemetry.metrics import exposition

    settings = current_settings()
    read = facts_reader(settings, utc_now)
    return lambda accept: exposition(lambda: read(source_of(settings, SourceName.DATABASE).whose()), accept)


def _write_metrics(path: Path, answer: Answer) -> None:
    if path.suffix != ".prom":
        note(f"node_exporter ignores {path.name}: it reads only *.prom")
    path = user_path(path).absolute()
    with explained(path):  # readable for all, whatever the umask: node_exporter runs as another user
        replace_file(path, answer("")[0], 0o644)


def _serve_metrics(address: str, answer: Answer) -> None:
    def health(_accept: str) -> tuple[bytes, str]:
        answer("")
        return b'{"status": "ok"}\n', "application/json"

    with MetricsServer(parse_address(address), {"/metrics": answer, "/health": health}) as server:
        say(f"serving {server.url}/metrics and {server.url}/health", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            say("stopped", flush=True)
