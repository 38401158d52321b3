"""Dead-man's-switch pings, as healthchecks.io takes them: URL/start, URL, URL/fail.

A service that hears nothing in time raises the alarm: so a machine that is off is noticed too.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from http.client import HTTPException
from urllib.parse import urlsplit, urlunsplit

from refnet.recovery.model.artifact import SourceName

#: How long a service may take, in seconds.
TIMEOUT = 5.0


def url_of(url: str, source: SourceName, event: str) -> str:
    """The URL to ask: `{source}` filled in, `event` (start, fail, or '' for success) at the end of its path."""
    parts = urlsplit(url.replace("{source}", source))
    path = f"{parts.path.rstrip('/')}/{event}" if event else parts.path
    return urlunsplit(parts._replace(path=path))


def ping(url: str, source: SourceName, event: str) -> list[str]:
    """Ask the service; a sentence where it does not answer, without its URL."""
    try:
        with urllib.request.urlopen(url_of(url, source, event), timeout=TIMEOUT):  # noqa: S310  # a setting
            return []
    except urllib.error.HTTPError as error:
        return [f"the ping service answered {error.code}"]
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            return [f"the ping service did not answer within {TIMEOUT:g} s"]
        return [
            f"the ping service is not reached: {getattr(reason, 'strerror', None) or type(error).__name__}"
        ]
