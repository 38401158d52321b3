"""Open-access PDFs in the vault: fetched from a server of the test, linked by notes, resumed, and never replaced."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests import forked
from tests.integration.network.crawling import network
from tests.integration.network.test_commands import environment

from refnet.core.errors import Exit, RefnetError
from refnet.network.pdfs import FetchedPdfs, PdfLimits, fetch_pdfs
from refnet.network.vault import write_vault
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target

PDF = b"%PDF-1.7\n" + b"x" * 3000 + b"\n%%EOF\n"
HTML = b"<html>Sign in</html>"


class _Handler(BaseHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        is_pdf = "html" not in self.path
        self.send_response(200)
        self.send_header("Content-Type", "application/pdf" if is_pdf else "text/html")
        self.send_header("Content-Disposition", 'attachment; filename="../../../.bashrc"')
        self.end_headers()
        self.wfile.write(PDF if is_pdf else HTML)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def library() -> Iterator[tuple[str, list[str]]]:
    """A server of PDFs: HOST:PORT, and what it was asked."""
    handler = type("Handler", (_Handler,), {"asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}", handler.asked
        server.shutdown()


def fill(target: Target, host: str) -> None:
    """Four papers: two with a PDF, one whose link is a page, one inside; the last has no link."""
    with target.connect() as session:
        for number, (title, url) in enumerate(
            [
                ("Notes on the engine", f"http://{host}/..%2F..%2Fevil.pdf"),
                ("A page", f"http://{host}/html"),
                ("Inside", "http://127.0.0.1:1/x.pdf"),
                ("../../etc/passwd", f"http://{host}/b.pdf"),
                ("No link", None),
            ],
            1,
        ):
            session.execute(
                "INSERT INTO papers (title, year, provenance, details_fetched_at, open_access_url) VALUES (%s, 1843, 'semantic_scholar', now(), %s)",
                (title, url),
            )
            session.execute(
                "INSERT INTO ranks (paper_id, position, pagerank, cited_by, cites) VALUES (%s, %s, 0.1, 0, 0)",
                (number, number),
            )
        session.execute("INSERT INTO external_ids SELECT 'doi', '10.1/' || id, id FROM papers")


@pytest.fixture
def filled(server: Cluster) -> Iterator[tuple[Target, str, list[str]]]:
    with network(server) as target, library() as (host, asked):
        fill(target, host)
        yield target, host, asked


def fetch(filled: tuple[Target, str, list[str]], vault: Path, papers: int = 10, **more: Any) -> FetchedPdfs:
    target, host, _ = filled
    return fetch_pdfs(target, vault, PdfLimits(papers, 1 << 20, frozenset([host]), gap=0.0), **more)


def pdfs(vault: Path) -> list[str]:
    return sorted(
        str(path.relative_to(vault))
        for path in vault.rglob("*")
        if "papers" not in path.parts and path.is_file()
    )


def test_pdfs_are_fetched_named_by_their_papers_and_linked(
    filled: tuple[Target, str, list[str]], tmp_path: Path
) -> None:
    vault = tmp_path / "vault"
    done = fetch(filled, vault)

    assert pdfs(vault) == sorted(done.fetched)
    first, second = done.fetched
    assert first.startswith("attachments/paper1843notes-")
    assert second.startswith("attachments/paper1843etc-")
    assert (vault / first).read_bytes() == PDF
    assert (vault / first).stat().st_mode & 0o111 == 0
    assert [(one.title, one.reason) for one in done.missing] == [
        ("A page", "127.0.0.1 sent text/html instead of a PDF"),
        ("Inside", "127.0.0.1 has a link that is not https, or with a password"),
    ]
    write_vault(filled[0], vault)
    notes = {path.name: path.read_text() for path in (vault / "papers").glob("*.md")}
    linked = {
        name for name, text in notes.items() if f"[[{first}|PDF]]" in text or f"[[{second}|PDF]]" in text
    }
    assert len(linked) == 2
    assert len(notes) == 5


def test_a_second_run_asks_only_for_what_is_missing_and_replaces_nothing(
    filled: tuple[Target, str, list[str]], tmp_path: Path
) -> None:
    vault, asked = tmp_path / "vault", filled[2]
    (first,) = fetch(filled, vault, papers=1).fetched
    renamed = vault / "attachments" / f"My reading {first[-17:]}"
    (vault / first).rename(renamed)
    renamed.write_bytes(b"mine")
    asked.clear()

    done = fetch(filled, vault)

    assert (len(done.fetched), done.there) == (1, 1)
    assert asked == ["/html", "/b.pdf"]
    assert renamed.read_bytes() == b"mine"
    write_vault(filled[0], vault)
    assert any(
        f"[[attachments/{renamed.name}|PDF]]" in path.read_text() for path in (vault / "papers").glob("*.md")
    )


def test_a_note_is_renewed_when_its_pdf_arrives_and_when_it_goes(
    filled: tuple[Target, str, list[str]], tmp_path: Path
) -> None:
    vault, cache = tmp_path / "vault", tmp_path / "cache"
    write_vault(filled[0], vault, cache=cache)
    (first,) = fetch(filled, vault, papers=1).fetched

    assert write_vault(filled[0], vault, cache=cache).changed == 1
    (vault / first).unlink()
    assert write_vault(filled[0], vault, cache=cache).changed == 1


def test_a_plan_asks_no_server_and_writes_nothing(
    filled: tuple[Target, str, list[str]], tmp_path: Path
) -> None:
    done = fetch(filled, tmp_path / "vault", plan=True)

    assert (len(done.fetched), done.missing, filled[2], (tmp_path / "vault").exists()) == (4, [], [], False)


def test_what_a_killed_run_left_is_removed_and_two_runs_exclude_each_other(
    filled: tuple[Target, str, list[str]], tmp_path: Path
) -> None:
    attachments = tmp_path / "vault" / "attachments"
    attachments.mkdir(parents=True)
    (attachments / ".refnet-0123.part").write_bytes(b"%PDF-")
    (attachments / "mine.pdf").write_bytes(b"mine")
    refused: list[RefnetError] = []

    def second(*_: object) -> None:
        with pytest.raises(RefnetError) as caught:
            fetch(filled, tmp_path / "vault")
        refused.append(caught.value)

    fetch(filled, tmp_path / "vault", papers=1, progress=second)

    assert [error.code for error in refused] == [Exit.LOCKED]
    assert [name for name in pdfs(tmp_path / "vault") if "part" in name] == []
    assert (attachments / "mine.pdf").read_bytes() == b"mine"


def test_a_link_in_the_place_of_the_attachments_is_not_followed(
    filled: tuple[Target, str, list[str]], tmp_path: Path
) -> None:
    (tmp_path / "vault").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "vault" / "attachments").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(RefnetError, match="attachments is a symbolic link"):
        fetch(filled, tmp_path / "vault")
    assert [*(tmp_path / "elsewhere").iterdir()] == []


def test_the_command_fetches_names_what_fails_and_writes_the_notes(
    filled: tuple[Target, str, list[str]], tmp_path: Path
) -> None:
    target, host, _ = filled
    told = {**environment(target, tmp_path), "REFNET_CRAWL_PDF_SERVERS": host}
    told |= {"REFNET_VAULT_DIR": str(tmp_path / "vault")}

    plan = forked.text("notes", "--pdfs", "3", "--plan", environment=told, folder=tmp_path)
    assert "3 PDFs would be fetched, 0 there already" in plan.stdout
    done = forked.text("notes", "--pdfs", "3", environment=told, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1:4] == [
        "1 PDF fetched, 0 there already",
        f"  not fetched: A page <http://{host}/html>: 127.0.0.1 sent text/html instead of a PDF",
        "  not fetched: Inside <http://127.0.0.1:1/x.pdf>: 127.0.0.1 has a link that is not https, or with a password",
    ]
    again = forked.text("notes", "--pdfs", "3", "--json", environment=told, folder=tmp_path)
    answer = json.loads(again.stdout)
    assert (answer["unchanged"], answer["pdfs"]["there"]) == (5, 1)
    assert [one["title"] for one in answer["pdfs"]["missing"]] == ["A page", "Inside"]
