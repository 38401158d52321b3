"""A browser of this machine on the dashboard, in this process: no server, and no JavaScript."""

from __future__ import annotations

import re

from starlette.testclient import TestClient

from refnet.settings import Settings
from refnet.web.app import create
from refnet.web.guard import UserOf

TOKEN = "a-token-of-the-tests"
HTML = {"Accept": "text/html"}


def browser(settings: Settings, user_of: UserOf | None = None, **headers: str) -> TestClient:
    """A browser that shows redirects and does not follow them. An underscore in the name of a header is a hyphen."""
    return TestClient(
        create(settings, user_of),
        base_url="http://127.0.0.1:8000",
        client=("127.0.0.1", 1),
        follow_redirects=False,
        headers=HTML | {name.replace("_", "-"): value for name, value in headers.items()},
    )


def csrf(client: TestClient, path: str = "/sign-in") -> str:
    """What the forms of a page send, so that no other site can."""
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', client.get(path).text)
    assert found
    return found[1]


def signed_in(client: TestClient) -> TestClient:
    said = client.post("/sign-in", data={"csrf": csrf(client), "token": TOKEN})
    assert said.status_code == 303
    return client
