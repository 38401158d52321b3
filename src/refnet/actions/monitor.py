"""monitor: whether everything is protected, and messages about what changed."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import suppress

from refnet import wiring
from refnet.actions.overview import overview_reader
from refnet.catalog.monitoring import Check
from refnet.catalog.source_name import SourceName
from refnet.context import Context
from refnet.core.errors import RefnetError
from refnet.settings import Settings
from refnet.sources import source_of
from refnet.telemetry.facts import Overview
from refnet.telemetry.notify import DEADLINE, Message, findings, report, send_by_apprise, within
from refnet.telemetry.redact import redactor, secrets_of


def monitor(context: Context, source: SourceName | None = None) -> Overview:
    """Return the overview of every source, or of `source`, with the checks of the store.

    After a check of everything, messages go out where the settings name services for them.
    """
    found = overview_reader(context.settings, context.clock.now, source)()
    if context.settings.notify_urls and source is None:
        for sentence in notify(context):
            context.note(sentence)
    return found


def check_everything(context: Context) -> tuple[Check, ...]:
    """Check the sources that are configured or have artifacts, then the store."""
    return overview_reader(context.settings, context.clock.now)().checks


def notify(context: Context) -> list[str]:
    """Send messages about new failures and recoveries; return sentences about messages not sent.

    Takes at most DEADLINE, whatever a service does.
    """
    settings = context.settings
    redact = redactor(secrets_of(settings))

    def look() -> dict[str, str | None]:
        return findings(check_everything(context), wiring.journal(settings).history())

    def send(message: Message) -> list[str]:
        body = "\n\n".join((message.body, *_named(settings, message.body)))
        safe = Message(redact(message.title), redact(body))
        return send_by_apprise(settings.notify_urls, safe)

    def act() -> list[str]:
        try:
            return report(settings.home, look, send, now=context.clock.now, host=platform.node())
        except RefnetError as error:
            return [f"no message was sent: {error.message}"]

    return within(DEADLINE, "the notification", act)


def _named(settings: Settings, body: str) -> Iterator[str]:
    """Yield the database or the folder of each source that a message reports."""
    for source in wiring.known(settings):
        with suppress(RefnetError):  # an invalid setting is reported elsewhere
            if any(line.startswith(f"{source} ") for line in body.splitlines()):
                yield f"{source}: {source_of(settings, source).what() or 'not configured'}"
