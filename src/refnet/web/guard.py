"""Refuses requests before a route is reached: by token, session, host name, origin and form; adds security headers. Holds the
sign-in sessions of browsers, the CSRF tokens of their forms, and the limit of sign-in attempts.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
import re
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from refnet.core.errors import Exit, RefnetError
from refnet.web.answers import failed

#: Paths without a token: the health check, the description of the API, the sign-in.
OPEN = frozenset({"/health", "/docs", "/openapi.json", "/sign-in", "/preferences"})
STATIC = "/static/"
#: The longest body of a request, in bytes, and the most fields of a form.
BODY, FIELDS = 64 << 10, 100
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
UserOf = Callable[[tuple[str, int], tuple[str, int]], int | None]
#: Scope, status, error, hint → the answer to a form of this server that is refused.
Refused = Callable[[Scope, int, str, str], Response]
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


def is_loopback(address: str) -> bool:
    """Return whether the IP `address` is reachable only from this machine."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    # Since Python 3.13 ::ffff:127.0.0.1 counts as loopback too; the rule of --host needs no exception for it.
    return found.is_loopback and getattr(found, "ipv4_mapped", None) is None


def is_page(path: str) -> bool:
    """Return whether `path` is a page for browsers, in contrast to the API and files."""
    return not path.startswith(("/api/", STATIC)) and path not in {
        "/health",
        "/metrics",
        "/docs",
        "/openapi.json",
    }


class Guard:
    """Middleware that answers requests which must not reach `app`.

    For pages, `request.state` gets `session`, the id in the browser's cookie, and `form`, the fields of a POST. local:
    answer only this machine, without a token. user_of: returns the user id of a local client; pages are then only for
    this process's user and root. refused: answers forms; None: with JSON.
    """

    def __init__(
        self,
        app: ASGIApp,
        sessions: SignInSessions,
        *,
        local: bool,
        user_of: UserOf | None = None,
        refused: Refused | None = None,
    ) -> None:
        self._app, self._sessions, self._local, self._user_of = app, sessions, local, user_of
        self._form_refused = refused or (lambda _, *said: failed(*said))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = _cookie(headers)
        session = given or new_id()
        scope.setdefault("state", {})["session"] = session

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    sent.setdefault(name, value)
                if (
                    not given
                    and "set-cookie" not in sent
                    and sent.get("content-type", "").startswith("text/html")
                ):
                    sent["Set-Cookie"] = cookie(session, secure=is_secure(headers, scope))
            await send(message)

        body = receive if scope["method"] in _READING else _limited(receive)
        refused = self._refused(scope, headers, session) or await self._unasked(scope, headers, body)
        await (refused or self._app)(scope, body, with_headers)

    def _refused(self, scope: Scope, headers: Headers, session: str) -> Response | None:
        if is_of_another_site(headers) and not _is_navigation(scope, headers):
            return failed(
                403,
                "cross-site request: another site may not read this page",
                "Open the address in a browser tab.",
            )
        host = _host(headers.get("host", ""))
        if self._local:
            # A page of another site can make a browser ask this server by a name of its own (DNS rebinding).
            client = (scope.get("client") or ("", 0))[0]
            if not is_loopback(client) or not (host in _LOCAL or is_loopback(host)):
                return failed(
                    403,
                    "web.token is not set, so only requests from this machine are allowed",
                    "Use http://127.0.0.1, or set web.token.",
                )
            if self._is_of_another_user(scope):
                return failed(
                    403,
                    "web.token is not set, so only the user who runs the dashboard may use it",
                    "Set web.token and sign in.",
                )
        elif not (
            is_open(scope["path"]) or self._reads_metrics(scope, headers) or self.may_see(headers, session)
        ):
            return _sign_in_first(scope, headers)
        origin = headers.get("origin")
        if scope["method"] not in _READING and origin is not None and _origin(origin) != headers.get("host"):
            return failed(
                403,
                "cross-site request: another site may not change anything here",
                "Open the dashboard itself, or send the request without a browser.",
            )
        return None

    async def _unasked(self, scope: Scope, headers: Headers, receive: Receive) -> Response | None:
        """Refuse a browser's change request that no page of this server sent (CSRF); read the form otherwise."""
        session, path = scope["state"]["session"], scope["path"]
        if scope["method"] in _READING:
            return None
        given = headers.get("x-csrf-token", "")
        if is_page(path):
            try:
                scope["state"]["form"] = fields = await _form(headers, receive)
            except ValueError as error:
                why = f"the form cannot be read: {error}"
                return self._form_refused(scope, 400, why, "Reload the page and submit its form.")
            except HTTPException as error:
                hint = "The form is too long for this page."
                return self._form_refused(scope, error.status_code, error.detail, hint)
            in_form = fields.pop("csrf", "")  # no route sees it
            given = given or in_form
        elif self._local:  # programs of this machine; a page of another site sends its origin
            return None
        if not (self._has_token(headers) or self._sessions.is_form_token(session, given)):
            why = "the form has expired or belongs to another page"
            return self._form_refused(scope, 403, why, "Reload the page and submit the form again.")
        return None

    def _has_token(self, headers: Headers) -> bool:
        return self._sessions.is_token(_bearer(headers))

    def _reads_metrics(self, scope: Scope, headers: Headers) -> bool:
        reads = scope["path"] == "/metrics" and scope["method"] in _READING
        return reads and self._sessions.reads_metrics(_bearer(headers))

    def _is_of_another_user(self, scope: Scope) -> bool:
        """Return whether another local user requests a page; pages download backups and start restores."""
        if self._user_of is None or not is_page(scope["path"]):
            return False
        return self._user_of(scope["client"], scope["server"]) not in {0, os.geteuid()}

    def may_see(self, headers: Headers, session: str) -> bool:
        """Return whether a request may see everything: it has the token or a session, or no token is set."""
        return self._sessions.has_signed_in(session) or self._has_token(headers)


def is_open(path: str) -> bool:
    """Return whether `path` needs no token."""
    return path in OPEN or path.startswith(STATIC)


def is_of_another_site(headers: Headers) -> bool:
    """Return whether, by the browser's header, a page of another site or port sent the request."""
    return headers.get("sec-fetch-site", "") in {"cross-site", "same-site"}


def _is_navigation(scope: Scope, headers: Headers) -> bool:
    """Return whether a browser opens the page in a tab, where pages of other sites cannot read it."""
    kind = headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")
    return scope["method"] == "GET" and is_page(scope["path"]) and kind == ("navigate", "document")


def address_of(scope: Scope, headers: Headers, proxies: Sequence[str]) -> str:
    """Return the client's address: as given by the last of the trusted `proxies`, else the peer's."""
    client: str = (scope.get("client") or ("", 0))[0]
    named = ",".join(headers.getlist("x-forwarded-for")).rpartition(",")[2].strip()
    try:
        trusted = any(ipaddress.ip_address(client) in ipaddress.ip_network(one) for one in proxies)
        return str(ipaddress.ip_address(named)) if trusted else client
    except ValueError:
        return client


def _bearer(headers: Headers) -> str:
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""


def is_secure(headers: Headers, scope: Scope) -> bool:
    """Return whether the browser uses HTTPS, if need be by a proxy's header; it only decides a flag of the cookie."""
    return scope.get("scheme") == "https" or headers.get("x-forwarded-proto", "") == "https"


def _sign_in_first(scope: Scope, headers: Headers) -> Response:
    target = "/sign-in"
    if scope["method"] == "GET" and is_page(scope["path"]):
        asked = scope["path"] + (
            f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else ""
        )
        target += f"?next={quote(asked)}" if asked != "/" else ""
    elif scope["method"] == "POST":
        target += f"?ended=yes&next={quote(_path(headers.get('referer', '')))}"
    if "hx-request" in headers:  # the page keeps its typed text, and shows that it is not current
        return Response(status_code=401)
    if is_page(scope["path"]) and "text/html" in headers.get("accept", ""):
        return RedirectResponse(target, 303)
    answer = failed(
        401, "the token is missing or wrong", "Send the header `Authorization: Bearer TOKEN`, with web.token."
    )
    answer.headers["WWW-Authenticate"] = "Bearer"
    return answer


def _limited(receive: Receive) -> Receive:
    """Limit the body to BODY bytes: the returned function raises HTTPException (413) for a longer one."""
    left = BODY

    async def limited() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise HTTPException(413, f"the body has more than {BODY:,} bytes")
        return message

    return limited


async def _form(headers: Headers, receive: Receive) -> dict[str, str]:
    """Return the fields of a form; ValueError if the body is no form."""
    if headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise ValueError("it is not application/x-www-form-urlencoded")
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ValueError("the connection ended")
        body, more = body + message.get("body", b""), message.get("more_body", False)
    pairs = parse_qsl(
        body.decode("ascii"),
        keep_blank_values=True,
        strict_parsing=bool(body),
        errors="strict",
        max_num_fields=FIELDS,
    )
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a field is there twice")
    return dict(pairs)


def _cookie(headers: Headers) -> str:
    """Return the id in the request's cookie; "" if there is none."""
    try:
        found = SimpleCookie(headers.get("cookie", "")[:8192]).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found and is_id(found.value) else ""


def _host(header: str) -> str:
    """Return the name in a Host header, without the port; "" if there is none."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def _path(referer: str) -> str:
    """Return path and query of a Referer header; "/" if there is none."""
    try:
        found = urlsplit(referer)
    except ValueError:
        return "/"
    return (found.path or "/") + (f"?{found.query}" if found.query else "")


def _origin(header: str) -> str:
    try:
        return urlsplit(header).netloc
    except ValueError:
        return ""


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
