"""The journal, log, pings and messages around runs."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

from refnet import wiring
from refnet.catalog.artifact import Proof
from refnet.catalog.manifest import Outcome
from refnet.catalog.run import Reason, RunKind
from refnet.catalog.source_name import SourceName
from refnet.context import Context
from refnet.core.errors import RefnetError
from refnet.settings import Settings
from refnet.sources import source_of
from refnet.telemetry.logging import open_log
from refnet.telemetry.redact import redactor, secrets_of
from refnet.telemetry.watch import AtWork, Watch


def open_watch(context: Context, log: str = "backup", *, places: bool = True) -> Watch:
    """The watch that surrounds each run.

    Args:
        log: the name of its log.
        places: log lines name the database or the folder, for which the code of its kind is imported.
    """
    settings = context.settings
    pings = {RunKind.BACKUP: settings.notify_backup_ping, RunKind.DRILL: settings.notify_drill_ping}
    return Watch(
        wiring.journal(settings),
        open_log(settings, log, service=context.service),
        {kind: url for kind, url in pings.items() if url},
        partial(_notify, context) if settings.notify_urls else None,
        redactor(secrets_of(settings)),
        context.note,
        context.clock,
        partial(named, settings) if places else _artifact,
        context.service,
        context.local.free_bytes,
    )


def _notify(context: Context) -> list[str]:
    from refnet.actions.monitor import notify

    return notify(context)


def _artifact(_source: SourceName | None, artifact: str) -> dict[str, str]:
    return {"artifact": artifact} if artifact else {}


def named(settings: Settings, source: SourceName | None, artifact: str = "") -> dict[str, str]:
    """Fields for the log: database or folder of `source`, and `artifact`, if known."""
    values = {"artifact": artifact}
    with suppress(RefnetError):  # an invalid setting, which the run itself reports
        if source:
            protected = source_of(settings, source)
            values[protected.noun] = protected.what()
    return {name: value for name, value in values.items() if value}


def report_proof(at_work: AtWork, artifact: str, proof: Proof | None) -> None:
    """Report the proof of a backup, a verification or a drill; None: the proof was skipped."""
    if proof is None or proof.outcome is Outcome.PASSED:
        at_work.done(artifact)
        return
    says = f"{artifact}: " + ("; ".join(proof.reasons) or "no reason was given")
    if proof.outcome is Outcome.FAILED:
        at_work.failed(Reason.DAMAGED, says, f"See `refnet show {artifact}`; check this machine's disk.")
    elif at_work.run.kind is not RunKind.BACKUP:
        at_work.unverified(f"could not verify {says}")
    else:  # the artifact was made, and its evidence says how far it is proven
        at_work.done(artifact)
