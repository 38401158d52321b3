"""The pages of the network in a browser's place: what they show, what they refuse, and what is never a link."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlencode

import pytest
from starlette.testclient import TestClient
from tests.dashboard import browser, csrf
from tests.integration.web.conftest import url_of

from refnet.core.errors import RefnetError
from refnet.postgres.session import Target
from refnet.settings import Settings
from refnet.web import work
from refnet.web.children import Children
from refnet.web.papers import COUNTED

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
_ROWS = """
UPDATE papers SET citation_count = 999, title = %(evil)s, venue = %(evil)s, abstract = %(evil)s, open_access_url = 'javascript:alert(3)'
    WHERE id = 7;
INSERT INTO authors (name, provenance) VALUES (%(evil)s, 'openalex');
INSERT INTO paper_authors SELECT 7, 3, id FROM authors WHERE name = %(evil)s;
INSERT INTO summaries (paper_id, kind, model, content) VALUES (7, 'abstract', %(evil)s, %(evil)s);
INSERT INTO external_ids VALUES ('doi', '10.1/"><script>', 7), ('arxiv', 'javascript:alert(4)', 7),
    ('url', 'javascript:alert(5)', 7), ('semantic_scholar', '//evil.example', 7), ('doi', 'http://evil.example/', 7);
INSERT INTO citations (citing_id, cited_id, provenance) VALUES (7, 8, 'openalex'), (8, 7, 'openalex');
INSERT INTO jobs (kind, state, error, finished_at) VALUES ('summarize', 'failed', %(evil)s, now());
INSERT INTO crawls (seeds, direction, depth, paper_limit) VALUES (ARRAY[%(evil)s], 'both', 2, 10);
INSERT INTO jobs (kind, crawl_id) VALUES ('crawl_seeds', 1);
INSERT INTO crawl_papers SELECT 1, id, CASE id WHEN 7 THEN 0 ELSE 1 END FROM papers;
UPDATE papers SET fields_of_study = ARRAY['Art', %(evil)s] WHERE id IN (7, 8);
UPDATE papers SET fields_of_study = ARRAY['Art', 'Music'] WHERE id < 7;
UPDATE authors SET semantic_scholar_id = '//evil.example', orcid = '0000-0003-1613-5981' WHERE name = %(evil)s;
UPDATE authors SET semantic_scholar_id = '77' WHERE id = 1;
UPDATE citations SET contexts = jsonb_build_array(jsonb_build_object('context', %(evil)s::text), 7, jsonb_build_object('context', 5)),
    is_influential = true WHERE citing_id = 8 AND cited_id = 7;
"""


@pytest.fixture(scope="module")
def network(network: Target) -> Target:
    """The network with values that somebody made to attack a browser."""
    with network.connect({"search_path": "public"}) as connection:
        for statement in _ROWS.split(";\n"):
            connection.execute(statement.encode(), {"evil": EVIL} if "evil" in statement else None)
    return network


@pytest.fixture(scope="module")
def client(network: Target, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with browser(Settings(home=tmp_path_factory.mktemp("home"), database_url=url_of(network))) as found:
        yield found


def test_the_network_is_shown_with_its_figures_and_by_pages(client: TestClient) -> None:
    first = client.get("/network?limit=200")
    assert first.status_code == 200
    assert "<dd>250</dd>" in first.text  # papers, counted
    assert "about" not in re.findall(r"<dd>(.*?)</dd>", first.text)[0]
    following = re.search(r'rel="next" href="([^"]+)"', first.text)
    assert following
    second = client.get(following[1].replace("&amp;", "&"))
    found = re.findall(r'href="/network/papers/(\d+)"', first.text + second.text)
    assert (len(found), len({*found})) == (250, 250)
    assert 'rel="next"' not in second.text
    assert "First page" in second.text


def test_a_filter_counts_and_an_empty_field_of_the_form_does_not(client: TestClient) -> None:
    said = client.get("/network?q=&author=&venue=graphs&year=2000&provenance=&has_summary=&limit=200").text
    assert 'value="graphs"' in said
    found = re.findall(r'href="/network/papers/(\d+)"', said)
    assert sorted(map(int, found)) == [*range(10, 251, 30)]
    assert client.get("/network?q=nothinglikethis").text.count("No paper matches.") == 1
    assert "✓ yes" in client.get("/network?has_summary=true").text


@pytest.mark.parametrize(
    "path",
    ["/network?year=x", "/network?cursor=%27", "/network?unknown=1", "/network/papers/0", "/network/papers/x",
     "/network/crawls?before=0", "/network/crawls?started=-1", "/network/map?crawl=x", "/network/map?crawl=0", "/network/map?q=%00",
     "/network/authors/0", "/network/authors/x", "/network?author_id=0", "/network?topic=%00"],
)  # fmt: skip
def test_a_wrong_value_is_a_page_of_two_lines(client: TestClient, path: str) -> None:
    said = client.get(path)
    assert said.status_code == 400
    assert 'role="alert"' in said.text


def test_a_paper_that_is_not_there_is_a_404(client: TestClient) -> None:
    assert client.get("/network/papers/99999").status_code == 404


def test_a_paper_has_its_links_summary_and_the_picture_of_its_neighbours(client: TestClient) -> None:
    said = client.get("/network/papers/1").text
    assert '<a href="https://doi.org/10.1/a" rel="noreferrer noopener">' in said
    assert '<a href="https://arxiv.org/abs/1706.03762" rel="noreferrer noopener">' in said
    assert "<dt>DOI</dt>" in said
    assert "<dt>arXiv</dt>" in said
    assert "It is short." in said
    assert "tldr · tldr@v2" in said
    assert "/network/crawls?seeds=DOI%3A10.1%2Fa#new" in said
    drawn = re.findall(r'<a href="/network/papers/(\d+)" aria-label="[^"]+"', said)
    assert "1" in drawn
    assert (len(drawn), len({*drawn})) == (41, 41)
    assert said.count("<circle") == 41
    assert 'style="' not in said


@pytest.mark.parametrize(
    "path",
    ["/network?limit=200", "/network/papers/7", "/network/papers/8", "/network/crawls", "/network/map", "/network/topics",
     f"/network/map?{urlencode({'q': EVIL})}", f"/network?{urlencode({'topic': EVIL})}", "/network/authors/3"],
)  # fmt: skip
def test_what_the_database_says_is_text_and_never_html_or_a_link(client: TestClient, path: str) -> None:
    said = client.get(path).text
    assert "&lt;script&gt;alert(1)" in said
    for bad in ("<script>alert", "<img src=x", "onerror=alert(2)>"):
        assert bad not in said.replace("onerror=alert(2)&gt;", "")
    links = re.findall(r'(?:href|src|action)="([^"]*)"', said)
    assert not [
        one
        for one in links
        if one and not one.startswith(("/", "#", "https://doi.org/10.", "https://orcid.org/0000-"))
    ]
    assert "//evil.example" not in str(links)


def test_a_map_shows_the_crawl_marks_what_matches_and_says_what_to_read_first(client: TestClient) -> None:
    said = client.get("/network/map?crawl=1").text
    assert (said.count("<circle"), said.count('seed" cx=')) == (250, 1)
    assert 'class="hit"' not in said
    assert "Read first" in said
    assert "cites 1 of yours; influential for 1" in said
    assert 'style="' not in said
    found = client.get("/network/map?crawl=1&q=PAPER+GRAPHS&topic=music").text
    assert found.count('class="hit"') == 6
    assert "Papers that match: 6" in found
    assert '<input name="topic" maxlength="500" value="music">' in found
    assert client.get("/network/map?crawl=99").text.count("This map has no paper") == 1


def test_a_topic_and_an_author_lead_to_their_papers(client: TestClient) -> None:
    topics = client.get("/network/topics").text
    assert re.findall(r'<a href="/network\?topic=(\w+)">\w+</a></th><td class="number">(\d+)', topics) == [
        ("Art", "8"),
        ("Music", "6"),
    ]
    assert len({*re.findall(r'href="/network/papers/(\d+)"', client.get("/network?topic=music").text)}) == 6
    author = client.get("/network/authors/1").text
    assert '<a href="https://www.semanticscholar.org/author/77" rel="noreferrer noopener">77</a>' in author
    assert "<dd>125</dd>" in author
    assert 'href="/network?topic=Art"' in author
    assert 'href="https://orcid.org/0000-0003-1613-5981"' in client.get("/network/authors/3").text
    assert len({*re.findall(r'href="/network/papers/(\d+)"', client.get("/network?author_id=3").text)}) == 1
    assert '<a href="/network/authors/3">' in client.get("/network/papers/7").text
    assert client.get("/network/authors/99999").status_code == 404


def test_a_paper_shows_how_others_cite_it(client: TestClient) -> None:
    said = client.get("/network/papers/7").text
    assert "How others cite it" in said
    assert said.count("<blockquote>") == 1
    assert "How others cite it" not in client.get("/network/papers/9").text
    contexts = client.get("/api/papers/7").json()["citations"]["papers"][0]["contexts"]
    assert contexts == [EVIL, 5]


def test_the_citations_of_a_paper_are_drawn_by_date(client: TestClient, network: Target) -> None:
    def drawn(language: str) -> list[tuple[str, str]]:
        said = client.get("/network/papers/2", headers={"accept-language": language})
        assert said.status_code == 200
        return re.findall(r'class="spark"[^>]* aria-label="([^"]*)"><polyline points="([^"]*)"', said.text)

    assert drawn("en") == []
    with network.connect({"search_path": "public"}) as session:
        session.execute("UPDATE papers SET details_fetched_at = '2026-11-21 08:00+00' WHERE id = 2")
        session.execute("INSERT INTO citation_counts VALUES (2, '2026-11-01', 5), (2, '2026-11-11', 10)")
    assert drawn("en") == [
        ("Citations by date: 5 on 2026-11-01, 10 on 2026-11-11", "0,32.0 300,32.0 300,2.0 600,2.0")
    ]
    assert drawn("ja")[0][0] == "被引用数の推移: 2026-11-01 に 5、2026-11-11 に 10"
    assert client.get("/api/papers/2").json()["citation_counts"][1] == {
        "day": "2026-11-11",
        "citation_count": 10,
    }
    with network.connect({"search_path": "public"}) as session:
        session.execute("UPDATE citation_counts SET day = 'infinity' WHERE citation_count = 10")
    assert drawn("en") == []


@pytest.mark.parametrize("moment", ["infinity", "0001-01-01", "294276-12-31", "4713-01-01 BC"])
def test_times_and_numbers_that_only_postgresql_has_are_shown(
    client: TestClient, network: Target, moment: str
) -> None:
    with network.connect({"search_path": "public"}) as session:
        session.execute("UPDATE summaries SET created_at = %s", [moment])
        session.execute("UPDATE ranks SET pagerank = 'NaN'")
    try:
        said = client.get("/network/papers/1")
        assert (said.status_code, "PageRank nan" in said.text, moment[:10] in said.text) == (200, True, True)
    finally:
        with network.connect({"search_path": "public"}) as session:
            session.execute("UPDATE summaries SET created_at = now()")
            session.execute("UPDATE ranks SET pagerank = 0.5")


def test_a_crawl_of_the_form_is_started_stopped_and_continued(
    client: TestClient, network: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []
    monkeypatch.setattr(work, "_begin", lambda *of: begun.append(of[2]) or work.Begun(of[2], "process"))
    wanted = {"seeds": "10.1/new\narXiv:1706.03762", "direction": "both", "depth": "0", "limit": "5"}
    said = client.post("/network/crawls", data={"csrf": csrf(client, "/network/crawls"), **wanted})
    number = said.headers["location"].rpartition("=")[2]
    assert (said.status_code, begun) == (303, [int(number)])
    page = client.get(said.headers["location"]).text
    assert f"Crawl {number} has started." in page
    assert "DOI:10.1/new" in page
    assert "nothing works on it now" in page
    for verb, state, count in (("stop", "cancelled", 1), ("resume", "running", 2)):
        said = client.post(f"/network/crawls/{number}/{verb}", data={"csrf": csrf(client, "/network/crawls")})
        assert (said.status_code, len(begun)) == (303, count)
        with network.connect({"search_path": "public"}) as session:
            assert session.execute("SELECT state FROM crawls WHERE id = %s", [number]).fetchone() == (state,)
    assert f"Resume crawl {number}" in client.get("/network/crawls").text


@pytest.mark.parametrize(
    "path", ["crawls/99/stop", "crawls/99/resume", "crawls/0/stop", "crawls/x/resume", "steps"]
)
def test_an_order_that_cannot_be_is_two_lines(client: TestClient, path: str) -> None:
    said = client.post(f"/network/{path}", data={"csrf": csrf(client, "/network/crawls"), "step": "prune"})
    assert (said.status_code, said.text.count('role="alert"')) == (400, 1)


@pytest.mark.parametrize(
    ("field", "value"),
    [("seeds", "not-an-id"), ("seeds", " "), ("depth", "11"), ("limit", "x"), ("direction", "up")],
)
def test_a_wrong_field_is_named_and_the_form_keeps_what_was_typed(
    client: TestClient, field: str, value: str
) -> None:
    wanted = {"seeds": "10.1/a 10.1/b", "depth": "3", "limit": "7", field: value}
    said = client.post("/network/crawls", data={"csrf": csrf(client, "/network/crawls"), **wanted})
    assert said.status_code == 400
    assert 'role="alert"' in said.text
    assert field in said.text
    if field != "seeds":
        assert "10.1/a 10.1/b</textarea>" in said.text


def test_a_crawl_that_nobody_takes_waits_and_the_page_says_so(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_number: int) -> None:
        raise RefnetError("the broker does not answer", "Start it.")

    monkeypatch.setattr(work, "_has_worker", lambda _settings: True)
    monkeypatch.setattr("refnet.tasks.send_crawl", refuse)
    wanted = {"csrf": csrf(client, "/network/crawls"), "seeds": "10.1/waits"}
    said = client.post("/network/crawls", data=wanted)
    assert said.status_code == 200
    assert "nothing is processing it: the broker does not answer" in said.text
    busy = [SimpleNamespace(exclusive=f"crawl:other {n}") for n in range(work.AT_ONCE)]
    monkeypatch.setattr(work, "_has_worker", lambda _settings: False)
    monkeypatch.setattr(work, "crawls_at_work", lambda _children: busy)
    assert (
        f"nothing is processing it: {work.AT_ONCE} crawls are running"
        in client.post("/network/crawls", data=wanted).text
    )


def test_failed_jobs_are_shown_with_their_reason_and_queued_again(
    client: TestClient, network: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "_begin", lambda *of: work.Begun(of[2], "process"))
    with network.connect({"search_path": "public"}) as connection:
        connection.execute(
            "INSERT INTO jobs (kind, state, error, finished_at)"
            " SELECT 'summarize', 'failed', 'no answer ' || g, now() FROM generate_series(1, 21) g"
        )
    said = client.get("/network/crawls").text
    number = re.search(r'name="job" value="(\d+)"', said)
    assert number
    assert "no answer 21" in said
    older = re.search(r'href="(/network/crawls\?failed_before=\d+)#failed"', said)
    assert older
    assert "no answer 1<" in client.get(older[1]).text
    for given, count in ((number[1], 1), (number[1], 0), ("", 21)):
        answer = client.post(
            "/network/crawls/retry", data={"csrf": csrf(client, "/network/crawls"), "job": given}
        )
        assert (answer.status_code, answer.headers["location"]) == (303, f"/network/crawls?retried={count}")
    assert "No job failed." in client.get("/network/crawls").text
    for bad in ("x", "-1", "9" * 30, "１", "0" * 5000, "0" * 20 + "9" * 20):
        assert (
            client.post(
                "/network/crawls/retry", data={"csrf": csrf(client, "/network/crawls"), "job": bad}
            ).status_code
            == 400
        )


def test_a_change_needs_the_token_of_a_page(client: TestClient) -> None:
    assert client.post("/network/crawls", data={"seeds": "10.1/never"}).status_code == 403
    assert client.post("/network/crawls/retry", data={"job": ""}).status_code == 403


def test_the_part_of_the_page_that_changes_is_not_a_whole_page(client: TestClient) -> None:
    said = client.get("/network/crawls/part").text
    assert said.lstrip().startswith("<section")
    assert "<html" not in said
    assert 'hx-trigger="every 3s"' in said  # a crawl runs


def test_the_pages_are_japanese_for_a_japanese_browser(client: TestClient) -> None:
    for path, text in (
        ("/network", "最初のページ"),
        ("/network/papers/1", "周辺の論文"),
        ("/network/crawls", "失敗したジョブ"),
        ("/network/map?crawl=1", "最初に読む論文"),
        ("/network/topics", "著者と分野"),
        ("/network/authors/1", "保存済みの論文"),
    ):
        said = client.get(
            f"{path}?cursor=150.200" if path == "/network" else path, headers={"Accept-Language": "ja"}
        )
        assert text in said.text


def test_a_large_table_is_estimated_and_the_page_says_so(client: TestClient, network: Target) -> None:
    with network.connect({"search_path": "public"}) as connection:
        connection.execute("UPDATE pg_class SET reltuples = %s WHERE oid = 'papers'::regclass", [COUNTED + 1])
        connection.execute(
            "UPDATE pg_class SET reltuples = 77 WHERE oid = 'papers_details_wanted_idx'::regclass"
        )
    client.app.state.database._recent.clear()  # type: ignore[attr-defined]
    said = client.get("/network").text
    assert f"<dd>about {COUNTED + 1:,}</dd>" in said
    assert "<dd>about 77</dd>" in said


def test_without_a_database_the_page_says_so_in_two_lines(tmp_path: Path, network: Target) -> None:
    with browser(Settings(home=tmp_path, database_url="postgresql://u@127.0.0.1:1/db")) as client:
        for path in ("/network", "/network/crawls", "/network/crawls/part"):
            said = client.get(path)
            assert (said.status_code, said.text.count('role="alert"')) == (503, 1)
        # so a part that fails once keeps its place, and is asked for again
        assert '"noSwap": [204, 304, "4xx", "5xx"]' in said.text


def test_a_database_without_tables_is_no_failure_of_the_server_and_offers_the_first_crawl(
    tmp_path: Path, network: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(Children, "start", lambda _self, words, **_: started.append(words))
    empty = url_of(network).replace(network.name, "postgres")
    with browser(Settings(home=tmp_path, database_url=empty)) as client:
        assert client.get("/network").headers["location"] == "/network/crawls"
        said = client.get("/network/crawls")
        assert said.status_code == 200
        assert "No paper is collected yet." in said.text
        assert 'name="seeds"' in said.text
        assert "No paper is collected yet." not in client.get("/network/crawls/part").text
        form = {"csrf": csrf(client, "/network/crawls"), "seeds": "10.1/a", "depth": "2", "limit": "9"}
        assert client.post("/network/crawls", data=form).headers["location"] == "/network/crawls?started=0"
        many = client.post(
            "/network/crawls", data=form | {"seeds": " ".join(f"10.1/{n}" for n in range(51)), "limit": "99"}
        )
        assert (many.status_code, "51 seeds are too many for a first crawl" in many.text) == (400, True)
    assert started == [["crawl", "DOI:10.1/a", "--direction=references", "--depth=2", "--limit=9"]]
