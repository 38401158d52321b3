"""A restore in the dashboard, from the plan to the undo: a real database, a real folder, and `refnet serve`."""

from __future__ import annotations

import html
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

import pytest
from tests.command import Command
from tests.integration.web.conftest import url_of
from tests.memory import in_memory
from tests.serving import Answer, Served, serving

from refnet.catalog.source_name import Kind, SourceName
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target
from refnet.store.local import LocalStore

#: A name that is HTML, of a table that is made between a plan and its confirmation.
HOSTILE = "<script>alert(1)</script>"
_FIELD = re.compile(r'<input type="hidden" name="([a-z]+)" value="([^"]*)">')
_SECONDS = 120.0


@dataclass
class Browser:
    """A browser without JavaScript: it keeps cookies, and sends the forms that it is shown."""

    served: Served
    cookies: dict[str, str] = field(default_factory=dict)

    def get(self, path: str, **asked: str) -> Answer:
        return self._seen(self.served.ask(f"{path}?{urlencode(asked)}" if asked else path, **self._headers))

    def send(self, shown: Answer, path: str, **fields: str) -> Answer:
        """Send the form of the page `shown` to `path`, with `fields` in the place of what it has."""
        own = {name: html.unescape(value) for name, value in _FIELD.findall(shown.body.decode())}
        return self.post(path, {key: own[key] for key in own if key != "next"} | fields)

    def post(self, path: str, fields: dict[str, str]) -> Answer:
        kind = {"Content_Type": "application/x-www-form-urlencoded"}
        return self._seen(self.served.ask(path, "POST", urlencode(fields).encode(), **self._headers, **kind))

    def end(self, answer: Answer) -> str:
        """Follow a form that started something; return the page of its result."""
        assert answer.status == 303, answer.body.decode()
        return self.result(answer.headers["location"])

    def result(self, path: str) -> str:
        until = time.monotonic() + _SECONDS
        while "hx-trigger" in (page := self.get(path + "/part").body.decode()):
            assert time.monotonic() < until, page
            time.sleep(0.3)  # each page takes the server a while
        return page

    @property
    def _headers(self) -> dict[str, str]:
        cookie = {"Cookie": "; ".join(f"{k}={v}" for k, v in self.cookies.items())} if self.cookies else {}
        return {"Accept": "text/html", **cookie}

    def _seen(self, answer: Answer) -> Answer:
        if "set-cookie" in answer.headers:
            name, _, value = answer.headers["set-cookie"].partition(";")[0].partition("=")
            self.cookies[name] = value
        return answer


@dataclass
class Place:
    """The sources `shop` and `notes`, each backed up once and changed since."""

    command: Command
    database: Target
    notes: Path
    #: A restore of `shop` waits as long as it exists.
    hold: Path

    def environment(self) -> dict[str, str]:
        return self.command._environment({})

    def artifact(self, source: str) -> str:
        return next(name for name in self.command.names() if name.startswith(f"{source}_"))

    def rows(self) -> int:
        with self.database.connect() as session:
            return int(session.execute("SELECT count(*) FROM orders").fetchone()[0])  # type: ignore[index]


@pytest.fixture(scope="module")
def place(server: Cluster) -> Iterator[Place]:
    home = Path(tempfile.mkdtemp(prefix="restore-", dir=in_memory()))
    target = server.target(f"shop_{uuid.uuid4().hex[:8]}")
    with server.target().connect() as admin:
        admin.execute(f"CREATE DATABASE {target.name} TEMPLATE template0")
    notes, hold = home / "all my notes", home / "hold"
    notes.mkdir()
    (notes / "a.md").write_text("before")
    with target.connect() as session:
        session.execute("CREATE TABLE orders AS SELECT g AS id FROM generate_series(1, 7) g")
    (home / "refnet.toml").write_text(
        f"""
[databases.shop]
url = "{url_of(target)}"
before_restore = [["/bin/sh", "-c", "while [ -e {hold} ]; do sleep 0.02; done"]]
[folders.notes]
path = "{notes}"
"""
    )
    (home / "refnet.toml").chmod(0o600)
    config = {"REFNET_CONFIG": str(home / "refnet.toml")}
    found = Place(Command(home / "home", home / "backups", "", config), target, notes, hold)
    found.command("backup", "shop", "notes", "--no-prove").succeeds()
    with target.connect() as session:
        session.execute("DELETE FROM orders WHERE id > 4")
    (notes / "a.md").write_text("after")
    yield found
    shutil.rmtree(home)
    with server.target().connect() as admin:
        for (name,) in admin.execute(
            "SELECT datname FROM pg_database WHERE datname LIKE %s", [f"{target.name}%"]
        ):
            admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(scope="module")
def started(place: Place, quick: dict[str, str]) -> Iterator[Callable[[], Served]]:
    """Starts a server, in the place of one that was killed."""
    servers = ExitStack()

    def start() -> Served:
        with suppress(AssertionError):  # it was killed
            servers.close()
        return servers.enter_context(serving(place.environment() | quick))

    yield start
    servers.close()


@pytest.fixture(scope="module")
def browser(started: Callable[[], Served]) -> Browser:
    return Browser(started())


@pytest.fixture(scope="module")
def planned(place: Place, browser: Browser) -> Answer:
    """The page with the plan of a restore of `shop`."""
    return browser.get("/restore/plan", source="shop", artifact=place.artifact("shop"))


def test_the_pages_lead_from_the_source_to_the_plan_the_command_prints(place, browser, planned):
    assert 'href="/restore?source=shop"' in browser.get("/restore").body.decode()
    moments = browser.get("/restore", source="shop").body.decode()
    assert f"/restore/plan?source=shop&amp;artifact={place.artifact('shop')}" in moments
    printed = place.command("restore", "shop", place.artifact("shop"), "--plan", COLUMNS="500").out
    lines = [one for one in printed.splitlines(keepends=True) if not one.startswith(("table ", "public."))]
    shown = re.search(r"<pre[^>]*>(.*?)</pre>", planned.body.decode(), re.DOTALL)[1]
    assert html.unescape(shown) == "".join(lines)
    assert ">public.orders</th>" in planned.body.decode()
    assert f"Type {place.database.name} to confirm" in planned.body.decode()


def test_a_wrong_name_or_a_form_of_another_page_starts_nothing(place, browser, planned):
    wrong = browser.send(planned, "/restore", typed="shop")
    assert wrong.status == 400
    assert f"not {place.database.name}. Nothing was started" in wrong.body.decode()
    assert browser.send(planned, "/restore", typed=place.database.name, csrf="forged").status == 403
    assert "/restore/runs/" not in browser.get("/restore").body.decode()


def test_a_plan_that_changed_is_shown_again_with_what_is_hostile_escaped(place, browser, planned):
    with place.database.connect() as session:
        session.execute(f'CREATE TABLE "{HOSTILE}" ()')
    again = browser.send(planned, "/restore", typed=place.database.name)
    with place.database.connect() as session:
        session.execute(f'DROP TABLE "{HOSTILE}"')
    assert again.status == 409
    assert "not the one that was shown before" in again.body.decode()
    assert html.escape(HOSTILE) in again.body.decode()
    assert HOSTILE not in again.body.decode()


@pytest.mark.parametrize(
    "asked",
    [
        {"source": "<i>x</i>", "artifact": "x"},
        {"source": "shop", "artifact": "../../etc/passwd"},
        {"source": "shop", "artifact": "--to=postgresql://elsewhere/x"},
        {"source": "shop", "artifact": "/etc/passwd"},
        {"source": "shop", "at": "--force"},
    ],
)
def test_what_the_settings_and_the_catalog_do_not_name_is_refused(browser, asked):
    answer = browser.get("/restore/plan", **asked)
    assert answer.status == 400
    assert b"<i>x" not in answer.body


def test_a_restore_outlives_the_server_and_the_browser_and_can_be_undone(place, browser, planned, started):
    place.hold.touch()
    begun = browser.send(planned, "/restore", typed=place.database.name)
    assert begun.status == 303, begun.body.decode()
    run = begun.headers["location"]
    second = browser.send(planned, "/restore", typed=place.database.name)
    assert (second.status, f'href="{run}"' in second.body.decode()) == (409, True)
    browser.served.process.kill()
    browser.served = started()
    browser.cookies.clear()
    assert f'href="{run}"' in browser.get("/restore").body.decode()
    assert "hx-trigger" in browser.get(run).body.decode()
    assert browser.get(run.removeprefix("/restore")).headers["location"] == run
    assert place.rows() == 4
    place.hold.unlink()
    done = browser.result(run)
    assert "1 of 1 are equal" in done, done
    assert place.rows() == 7
    undo = html.unescape(re.search(r'href="(/restore/undo[^"]*)"', done)[1])
    assert html.escape(undo) in browser.get("/restore/previous").body.decode()
    back = browser.end(browser.send(browser.get(undo), "/restore/undo", typed=place.database.name))
    assert "Previous version" in back
    assert place.rows() == 4


def test_a_folder_is_restored_at_a_moment_once_confirmed_and_undone(place, browser):
    shown = browser.get("/restore/plan", source="notes", at="2100-01-01T00:00")
    assert place.artifact("notes") in shown.body.decode()
    done = browser.end(browser.send(shown, "/restore", typed="notes"))
    assert (place.notes / "a.md").read_text() == "before", done
    assert "0 added, 1 changed, 0 removed" in done
    undo = html.unescape(re.search(r'href="(/restore/undo[^"]*)"', done)[1])
    browser.end(browser.send(browser.get(undo), "/restore/undo", typed="notes"))
    assert (place.notes / "a.md").read_text() == "after"


def test_a_restore_running_in_a_terminal_blocks_one_from_the_browser(place, browser):
    shown = browser.get("/restore/plan", source="notes", artifact=place.artifact("notes"))
    with LocalStore(place.command.backups).lock(SourceName("notes", Kind.FOLDER)):
        ended = browser.end(browser.send(shown, "/restore", typed="notes"))
    assert "is locked" in ended, ended
    assert (place.notes / "a.md").read_text() == "after"


def test_a_damaged_artifact_has_no_button_but_the_reason(place, browser):
    artifact = place.command.backups / "notes" / place.artifact("notes")
    whole = artifact.read_bytes()
    artifact.write_bytes(whole[:-50])
    shown = browser.get("/restore/plan", source="notes", artifact=artifact.name)
    artifact.write_bytes(whole)
    assert artifact.name in shown.body.decode()
    assert 'name="typed"' not in shown.body.decode()
