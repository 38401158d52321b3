"""Dead-man's-switch pings in the protocol of healthchecks.io: URL/start, URL, URL/fail.

The service raises an alarm if no ping arrives in time, so it notices a machine that is off too.
"""

import urllib.error
import urllib.request
from http.client import HTTPException
from urllib.parse import urlsplit, urlunsplit

#: Timeout of a ping, in seconds.
TIMEOUT = 5.0


def url_of(url: str, source: str, event: str) -> str:
    """Return `url` with `{source}` replaced and `event` (start, fail, or '' for success) appended to its path."""
    parts = urlsplit(url.replace("{source}", source))
    path = f"{parts.path.rstrip('/')}/{event}" if event else parts.path
    return urlunsplit(parts._replace(path=path))


def ping(url: str, source: str, event: str) -> list[str]:
    """Send a ping; return the failure as a sentence without the URL, or nothing."""
    try:
        with urllib.request.urlopen(url_of(url, source, event), timeout=TIMEOUT):  # noqa: S310  # a setting
            return []
    except urllib.error.HTTPError as error:
        return [f"the ping service answered {error.code}"]
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            return [f"the ping service did not answer within {TIMEOUT:g} s"]
        return [f"cannot reach the ping service: {getattr(reason, 'strerror', None) or type(error).__name__}"]
