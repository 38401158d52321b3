"""monitor: is everything protected?"""

from __future__ import annotations

import platform

from refnet import servers, wiring
from refnet.actions.context import Context
from refnet.errors import RefnetError
from refnet.recovery.model.artifact import SourceName
from refnet.recovery.model.catalog import Catalog
from refnet.recovery.model.monitoring import Check, Status, another_store, watch, watch_others, watch_store


def monitor(context: Context, source: SourceName | None = None) -> tuple[Check, ...]:
    """Return the checks of every source, or of `source`, and of the store.

    After a check of everything, messages go out where the settings name services for them.
    """
    found = check_everything(context, source)
    if context.settings.notify_urls and source is None:
        for sentence in notify(context):
            context.note(sentence)
    return found


def check_everything(context: Context, source: SourceName | None = None) -> tuple[Check, ...]:
    """Check the sources that are configured or have artifacts (or `source` alone), then the store.

    A store or a journal that cannot be read is `unknown`, never ok; a folder that is not the store that was there is
    critical. Artifacts of databases other than the configured one are counted; their own monitors judge them.
    """
    settings, store = context.settings, context.store
    wanted = tuple(SourceName) if source is None else (source,)
    target = servers.identity(settings) if SourceName.DATABASE in wanted else None
    try:
        if wrong := store.trouble():
            return (another_store(wrong),)
        history = wiring.journal(settings).history()
        everything = Catalog.of(store.entries())
        catalog = everything.about(target)
        of_store = watch_store(catalog, store.leftovers(), store.unlisted(), store.free_bytes())
    except RefnetError as error:
        return (Check(None, "the store", Status.UNKNOWN, f"{error.message}. {error.hint}"),)
    configured = wiring.configured(settings) if source is None else wanted
    checked = [name for name in wanted if name in configured or catalog.of_source(name)]
    limits, now = wiring.limits(settings), context.clock.now()
    return (
        *(check for name in checked for check in watch(name, catalog, history, limits[name], now)),
        *(watch_others(everything, target) if SourceName.DATABASE in checked else ()),
        *of_store,
    )


def notify(context: Context) -> list[str]:
    """Send a message for what starts to fail and what recovered; return a sentence for each that was not sent.

    It takes DEADLINE at most, whatever a service does.
    """
    from refnet.telemetry.notify import DEADLINE, Message, findings, report, send_by_apprise, within
    from refnet.telemetry.redact import redactor, secrets_of

    settings = context.settings
    redact = redactor(secrets_of(settings))

    def look() -> dict[str, str | None]:
        return findings(check_everything(context), wiring.journal(settings).history())

    def send(message: Message) -> list[str]:
        safe = Message(redact(message.title), redact(message.body))
        return send_by_apprise(settings.notify_urls, safe)

    def act() -> list[str]:
        try:
            return report(settings.home, look, send, now=context.clock.now, host=platform.node())
        except RefnetError as error:
            return [f"no message was sent: {error.message}"]

    return within(DEADLINE, "the notification", act)
