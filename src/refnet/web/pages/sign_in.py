"""Sign-in, sign-out, language and theme; and the files of static/."""

from __future__ import annotations

from mimetypes import guess_type
from urllib.parse import quote

from fastapi import APIRouter, HTTPException, Request, Response
from starlette.responses import RedirectResponse

from refnet.core.errors import RefnetError
from refnet.web.guard import TooManyAttemptsError, address_of, cookie, is_secure
from refnet.web.pages.base import LANGUAGES, THEMES, assets, form, inside, page

router = APIRouter(include_in_schema=False)
_YEAR = 365 * 24 * 3600


@router.get("/static/{name}")
async def static(name: str) -> Response:
    """Return a file of static/."""
    if name not in assets():
        raise HTTPException(404, "there is no such file")
    kind = guess_type(name)[0] or "application/octet-stream"
    return Response(assets()[name], media_type=kind, headers={"Cache-Control": "max-age=31536000, immutable"})


@router.get("/sign-in")
async def asked(request: Request) -> Response:
    """Ask for the token; redirect if no sign-in is needed any more."""
    following = inside(request.query_params.get("next", "/"))
    if request.app.state.sessions.has_signed_in(request.state.session):
        return RedirectResponse(following, 303)
    return page(
        request, "sign_in.html.j2", next=following, problem=None, ended="ended" in request.query_params
    )


@router.post("/sign-in")
async def sign_in(request: Request) -> Response:
    """Check the token, and begin a session with a new cookie."""
    given, sessions = await form(request), request.app.state.sessions
    following = inside(given.get("next", "/"))
    address = address_of(request.scope, request.headers, request.app.state.settings.web_proxies)
    try:
        session = sessions.sign_in(given.get("token", ""), address)
    except TooManyAttemptsError as error:
        answer = page(request, "sign_in.html.j2", 429, next=following, problem=error, ended=False)
        answer.headers["Retry-After"] = str(error.seconds)
        return answer
    except RefnetError as error:
        return page(request, "sign_in.html.j2", 401, next=following, problem=error, ended=False)
    answer = RedirectResponse(following, 303)
    answer.headers["Set-Cookie"] = cookie(session, secure=is_secure(request.headers, request.scope))
    return answer


@router.post("/sign-out")
async def sign_out(request: Request) -> Response:
    """End the session."""
    request.app.state.sessions.sign_out(request.state.session)
    answer = RedirectResponse("/sign-in", 303)
    answer.headers["Set-Cookie"] = cookie("", secure=is_secure(request.headers, request.scope))
    return answer


@router.post("/preferences")
async def preferences(request: Request) -> Response:
    """Store a language or a theme in a cookie of this browser."""
    given = await form(request)
    answer = RedirectResponse(inside(given.get("next", "/")), 303)
    for name, values in {"language": LANGUAGES, "theme": THEMES}.items():
        if given.get(name) in values:
            answer.set_cookie(
                f"refnet_{name}", quote(given[name]), max_age=_YEAR, httponly=True, samesite="strict"
            )
    return answer
