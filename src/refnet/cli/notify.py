"""`refnet notify`: a test message, so that the first real one gets through."""

from __future__ import annotations

import platform

from refnet.cli.context import current_settings, note
from refnet.errors import Exit, RefnetError


def notify() -> None:
    """Send a test message to every service of notify.urls."""
    from refnet.telemetry.notify import DEADLINE, Message, send_by_apprise, within

    urls = current_settings().notify_urls
    if not urls:
        raise RefnetError(
            "notify.urls is not set", "Set it to Apprise's URLs; see refnet.toml.example.", Exit.USAGE
        )
    message = Message(f"RefNet on {platform.node()}: a test", "Messages get through.")

    def send() -> list[str]:
        try:
            return send_by_apprise(urls, message)
        except ConnectionError as error:
            return [str(error)]

    said = within(DEADLINE, "the notification", send)
    for sentence in said:
        note(sentence)
    if said:
        raise RefnetError("not every service took the test message", "Mend notify.urls, then try again.")
    print(f"sent to {len(urls)} of {len(urls)}")
