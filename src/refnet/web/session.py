"""Sign-in sessions of browsers, the CSRF tokens of their forms, and the limit of sign-in attempts."""

from __future__ import annotations

import hmac
import re
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from refnet.core.errors import Exit, RefnetError

COOKIE = "refnet_session"
#: The duration of a session, in seconds; the most sessions.
LASTS, MOST = 12 * 3600, 1000
#: The most wrong tokens per address, within how many seconds; the most remembered addresses.
ATTEMPTS, WITHIN, ADDRESSES = 10, 60, 10_000
_ID = re.compile(r"[A-Za-z0-9_-]{43}")


class TooManyAttemptsError(RefnetError):
    """Too many wrong tokens from one address. `seconds`: how long to wait."""

    def __init__(self, seconds: int) -> None:
        super().__init__(
            "too many attempts to sign in",
            f"Retry in {seconds} s, with web.token of the settings.",
            Exit.USAGE,
            transient=True,
        )
        self.seconds = seconds


class SignInSessions:
    """The sessions of one server, in memory: a restart signs everybody out.

    Args:
        token: web.token; None: no sign-in is needed.
        metrics: web.metrics_token; None: /metrics needs web.token.
        now: a monotonic clock, in seconds.
    """

    def __init__(
        self, token: str | None, metrics: str | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._token, self._now = token.encode() if token else None, now
        self._metrics = metrics.encode() if metrics else None
        self._key = secrets.token_bytes(32)
        self._ends: OrderedDict[str, float] = OrderedDict()
        self._attempts: OrderedDict[str, deque[float]] = OrderedDict()

    def sign_in(self, given: str, address: str) -> str:
        """Check the token `given`, and return the id of a new session.

        RefnetError (USAGE) for a wrong token, TooManyAttemptsError after many from `address`. The right token is always
        accepted: several clients may share an address, and web.token is too long to be guessed.
        """
        if not self.is_token(given):
            self._count(address)
            raise RefnetError(
                "the token is wrong", "It is web.token of the settings of this server.", Exit.USAGE
            )
        self._attempts.pop(address, None)
        found = new_id()
        self._ends[found] = self._now() + LASTS
        if len(self._ends) > MOST:
            self._ends.popitem(last=False)
        return found

    def sign_out(self, session: str) -> None:
        """End a session."""
        self._ends.pop(session, None)

    def is_token(self, given: str) -> bool:
        """Return whether `given` is web.token, compared in constant time."""
        return self._token is not None and hmac.compare_digest(given.encode(), self._token)

    def reads_metrics(self, given: str) -> bool:
        """Return whether `given` is web.metrics_token, compared in constant time."""
        return self._metrics is not None and hmac.compare_digest(given.encode(), self._metrics)

    def has_signed_in(self, session: str) -> bool:
        """Return whether the session is signed in and has not expired, or no sign-in is needed."""
        if self._token is None:
            return True
        return self._ends.get(session, 0.0) > self._now()

    def form_token(self, session: str) -> str:
        """Return the CSRF token that each form of the session must send."""
        return hmac.new(self._key, session.encode(), "sha256").hexdigest()

    def is_form_token(self, session: str, given: str) -> bool:
        """Return whether `given` is the CSRF token of the session."""
        return hmac.compare_digest(self.form_token(session).encode(), given.encode())

    def _count(self, address: str) -> None:
        now, recent = self._now(), self._attempts.setdefault(address, deque())
        while recent and recent[0] <= now - WITHIN:
            recent.popleft()
        self._attempts.move_to_end(address)
        if len(self._attempts) > ADDRESSES:
            self._attempts.popitem(last=False)
        if len(recent) >= ATTEMPTS:
            raise TooManyAttemptsError(int(recent[0] + WITHIN - now) + 1)
        recent.append(now)


def new_id() -> str:
    """Return a new id: 256 random bits."""
    return secrets.token_urlsafe(32)


def is_id(text: str) -> bool:
    """Return whether `text` has the form of an id."""
    return bool(_ID.fullmatch(text))


def cookie(session: str, *, secure: bool) -> str:
    """Return the value of Set-Cookie for `session`; "" deletes the cookie."""
    words = [
        f"{COOKIE}={session}",
        "Path=/",
        "HttpOnly",
        "SameSite=Strict",
        f"Max-Age={LASTS if session else 0}",
    ]
    return "; ".join([*words, *(["Secure"] if secure else [])])
