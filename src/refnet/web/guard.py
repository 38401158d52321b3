"""Refusals before a route is reached: by token, by name of the server, by origin of the page; headers for browsers."""

from __future__ import annotations

import hmac
import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from refnet.web.answers import failed

#: What needs no token: whether this works, and what the API is.
OPEN = frozenset({"/health", "/docs", "/openapi.json"})
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


def is_loopback(address: str) -> bool:
    """Return whether only this machine reaches the IP `address`."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    # Since Python 3.13 ::ffff:127.0.0.1 is one too; it needs no exception to the rule of --host.
    return found.is_loopback and getattr(found, "ipv4_mapped", None) is None


class Guard:
    """Answers a request that `app` must not see."""

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app, self._token = app, token.encode() if token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refused = self._refused(scope, Headers(scope=scope))
        await (refused or self._app)(scope, receive, with_headers)

    def _refused(self, scope: Scope, headers: Headers) -> Response | None:
        host = _host(headers.get("host", ""))
        if self._token is None:
            # A page of another site can make a browser ask this server by a name of its own (DNS rebinding).
            client = (scope.get("client") or ("", 0))[0]
            if not is_loopback(client) or not (host in _LOCAL or is_loopback(host)):
                return failed(
                    403,
                    "without web.token only this machine is answered",
                    "Ask http://127.0.0.1, or set web.token.",
                )
        elif scope["path"] not in OPEN and not self.has_token(headers):
            answer = failed(
                401,
                "the token is missing or wrong",
                "Send the header `Authorization: Bearer TOKEN`, with web.token.",
            )
            answer.headers["WWW-Authenticate"] = "Bearer"
            return answer
        origin = headers.get("origin")
        if scope["method"] not in _READING and origin is not None and _origin(origin) != headers.get("host"):
            return failed(
                403, "a page of another site may change nothing here", "Send the request without a browser."
            )
        return None

    def has_token(self, headers: Headers) -> bool:
        """Return whether a request may see everything: it has the token, or none is needed."""
        if self._token is None:
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token)


def _host(header: str) -> str:
    """Return the name in a Host header, without the port; "" if there is none."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def _origin(header: str) -> str:
    try:
        return urlsplit(header).netloc
    except ValueError:
        return ""
