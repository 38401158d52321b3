"""`refnet notify`: a test message to every configured service."""

from __future__ import annotations

import platform

from refnet.cli import options
from refnet.cli.context import current_settings, note, print_json, would
from refnet.cli.output import say
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import plural
from refnet.telemetry.notify import Message, deliver


def notify(*, plan: options.Plan = False, as_json: options.Json = False) -> None:
    """Send a test message to every service of notify.urls."""
    urls = current_settings().notify_urls
    if not urls:
        raise RefnetError("notify.urls is not set", "Set it to one or more Apprise URLs.", Exit.USAGE)
    if would(f"send a test message to {plural(len(urls), 'service')} of notify.urls", plan=plan):
        return
    message = Message(f"RefNet on {platform.node()}: test", "Messages arrive.")
    failures = deliver(urls, message)
    for sentence in failures:
        note(sentence)
    if failures:
        raise RefnetError("not every service accepted the test message", "Fix notify.urls and retry.")
    print_json({"services": len(urls)}) if as_json else say(f"sent to {len(urls)} of {len(urls)}")
