"""The artifacts and their copies as the pages show them: present, missing, locked, damaged, or not known."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tests.dashboard import browser
from tests.remote_copies import LOCAL, NOW, PROOF, document, shared, signed
from tests.unit.telemetry.conftest import World

from refnet import settings
from refnet.catalog.catalog import Catalog
from refnet.catalog.evidence import Marks
from refnet.catalog.manifest import Entry, Evidence, Level, Manifest, Outcome
from refnet.catalog.remote import Copy
from refnet.catalog.remote_state import StoreState
from refnet.catalog.run import Ended, History, Run, RunKind
from refnet.catalog.source_name import SourceName
from refnet.catalog.wal_status import StreamStatus
from refnet.catalog.wal_stream import StreamReport, StreamState
from refnet.core.errors import RefnetError
from refnet.telemetry.facts import overview
from refnet.web.contents import TEXT, view
from refnet.web.pages.stores import ROWS, stores
from refnet.web.shared_facts import Artifacts, LastOverview

SOURCE = SourceName.DATABASE
READ = Evidence(NOW, Level.WRITTEN, Outcome.PASSED, 1.0)
FAILED = replace(READ, outcome=Outcome.FAILED)
NEXT = replace(LOCAL, name="refnet_20261126_170001.sql.gz", created=NOW + timedelta(days=1), sha256="12" * 32)
_TABLE = """
[retention]
database = "days=7"
[stores.cloud]
url = "s3://bucket"
lock = 30
retention = { database = "days=90 monthly=12" }
"""


def copy(manifest: Manifest, *evidence: Evidence, number: int = 1) -> Copy:
    return Copy(manifest, evidence, signed=signed(document(number, local=manifest)))


def artifacts(
    folder: Path, here: tuple[Manifest, ...], *copies: Copy, trouble: RefnetError | None = None
) -> Artifacts:
    """`here` in the backup folder, `copies` in the store `cloud`, at a time three days after the first artifact."""
    (folder / "refnet.toml").write_text(_TABLE)
    (folder / "refnet.toml").chmod(0o600)
    given = settings.load({"REFNET_HOME": str(folder)}, folder, root=True, cores=2)
    cloud = StoreState("cloud", frozenset([SOURCE]), copies, trouble=trouble)
    catalog = Catalog.of(Entry(one, (PROOF,)) for one in here)
    facts = replace(World(folder).facts(), now=NOW + timedelta(days=3), catalog=catalog, stores=(cloud,))
    return Artifacts(given, facts)


def states(found: Artifacts) -> dict[str, str]:
    return {one.name: found.places(one)["cloud"].state for one in found.all}


def test_the_newest_artifact_must_be_in_the_store_and_older_ones_need_not(tmp_path: Path):
    assert states(artifacts(tmp_path, (LOCAL, NEXT))) == {NEXT.name: "missing", LOCAL.name: "none"}
    found = artifacts(tmp_path, (LOCAL, NEXT), copy(NEXT, READ))
    assert states(found) == {NEXT.name: "fetched", LOCAL.name: "none"}


def test_a_copy_is_shown_with_its_state_and_the_better_one_of_two(tmp_path: Path):
    assert states(artifacts(tmp_path, (LOCAL,), copy(LOCAL, FAILED))) == {LOCAL.name: "damaged"}
    found = artifacts(tmp_path, (LOCAL,), copy(LOCAL, READ), copy(LOCAL, FAILED, number=2))
    assert states(found) == {LOCAL.name: "fetched"}


def test_a_store_that_cannot_be_listed_is_unknown(tmp_path: Path):
    away = RefnetError("cloud did not answer", "Check the network.")
    found = artifacts(tmp_path, (LOCAL,), trouble=away)
    assert states(found) == {LOCAL.name: "unknown"}
    with pytest.raises(RefnetError) as caught:
        found.find("database", NEXT.name)
    assert caught.value.hint == "It may be in cloud, which cannot be listed."


def test_a_lock_is_shown_until_it_ends(tmp_path: Path):
    found = artifacts(tmp_path, (LOCAL,), copy(LOCAL, READ))
    sent = found.copies["cloud"][(SOURCE, LOCAL.name, LOCAL.sha256)].document.sent
    assert found.places(found.all[0])["cloud"].locked == sent + timedelta(days=30)
    later = Artifacts(found.settings, replace(found.facts, now=sent + timedelta(days=31)))
    assert later.places(later.all[0])["cloud"].locked is None


def test_the_lock_of_a_copy_ends_with_that_of_its_oldest_piece_unless_it_was_extended(tmp_path: Path):
    copies = [Copy(one, (READ,), signed=signed(shared(n, local=one))) for n, one in ((1, LOCAL), (40, NEXT))]
    found = artifacts(tmp_path, (LOCAL, NEXT), *copies)
    first, later = (one.document.sent + timedelta(days=30) for one in copies)
    assert [found.places(one)["cloud"].locked for one in copies] == [first, first]
    pieces = [one.name for one in copies[0].document.objects]
    [cloud] = found.facts.stores
    for extended, ends in ((pieces[:-1], [first, first]), (pieces, [first, later])):
        cloud = replace(cloud, extended=dict.fromkeys(extended, later + timedelta(days=1)))
        again = Artifacts(found.settings, replace(found.facts, stores=(cloud,)))
        assert [again.places(one)["cloud"].locked for one in copies] == ends


def test_the_backup_folder_takes_the_bytes_of_equal_artifacts_once(tmp_path: Path):
    assert "<dd>2 (64.0 MiB)</dd>" in page(artifacts(tmp_path, (LOCAL, NEXT)), "/stores")
    equal = replace(NEXT, sha256=LOCAL.sha256)
    assert "<dd>2 (32.0 MiB)</dd>" in page(artifacts(tmp_path, (LOCAL, equal)), "/stores")


def test_another_artifact_of_the_same_name_is_not_its_copy(tmp_path: Path):
    other = replace(LOCAL, sha256="cd" * 32)
    found = artifacts(tmp_path, (LOCAL,), copy(other, READ))
    assert {one.manifest.sha256: found.places(one)["cloud"].state for one in found.all} == {
        LOCAL.sha256: "missing", other.sha256: "fetched",
    }  # fmt: skip
    assert found.find("database", LOCAL.name)[1] == ""


def test_a_copy_without_its_artifact_is_found_in_its_store(tmp_path: Path):
    found = artifacts(tmp_path, (NEXT,), copy(LOCAL, READ))
    assert [one.name for one in found.all] == [NEXT.name, LOCAL.name]
    entry, store = found.find("database", LOCAL.name)
    assert (entry.manifest, store) == (LOCAL, "cloud")
    with pytest.raises(RefnetError, match="there is no artifact x"):
        found.find("database", "x")


def test_the_calendar_of_a_store_expects_what_the_store_keeps(tmp_path: Path):
    found = artifacts(tmp_path, (LOCAL,), copy(LOCAL, READ))
    assert str(found.expected(SOURCE, "").retention) == "days=7"
    assert str(found.expected(SOURCE, "cloud").retention) == "days=90 monthly=12"


def test_the_stores_list_one_page_of_the_artifacts(tmp_path: Path):
    many = tuple(
        replace(LOCAL, name=f"refnet_20261125_17{n // 60:02}{n % 60:02}.sql.gz") for n in range(ROWS + 3)
    )
    found = artifacts(tmp_path, many, copy(many[0], READ), copy(many[1], FAILED, number=2))
    first, second, third = (stores(found, "database", number) for number in (1, 2, 3))
    assert [len(page.rows) for page in (first, second, third)] == [ROWS, 3, 0]
    assert [row.places["cloud"].state for row in second.rows] == ["none", "damaged", "fetched"]
    [card] = first.cards
    assert (first.total, card.damaged, card.can_prune) == (ROWS + 3, 1, False)
    assert card.kept == {"database": "days=90 monthly=12"}
    assert stores(found, "obsidian", 1).total == 0


class Still:
    """The overview of artifacts that do not change."""

    def __init__(self, found: Artifacts) -> None:
        self._found = found

    async def latest(self) -> LastOverview:
        return LastOverview(overview(self._found.facts), self._found)


def page(found: Artifacts, path: str, **asked: str) -> str:
    with browser(found.settings) as client:
        client.app.state.overviews = Still(found)  # type: ignore[attr-defined]
        said = client.get(path, params={"source": "database"} | asked)
    assert said.status_code == 200, said.text
    return said.text


def test_a_day_without_a_copy_in_a_store_names_the_artifact_in_the_backup_folder(tmp_path: Path):
    found = artifacts(tmp_path, (LOCAL, NEXT), copy(LOCAL, READ))
    day = {"store": "cloud", "day": f"{found.here[(SOURCE, NEXT.name, NEXT.sha256)].created.date()}"}
    said = page(found, "/timeline", **day)
    assert f"refnet copy {NEXT.name} --store cloud" in said
    assert "No backup was started" not in said
    assert "does not reach back" not in said


def test_the_reasons_of_an_artifact_are_japanese_on_its_japanese_page(tmp_path: Path):
    found = artifacts(
        tmp_path, (replace(LOCAL, unchecked=("the rows of 3 foreign tables live on other servers",)),)
    )
    reasons = ("bytes of the file: their SHA-256 differs from the manifest's",)
    bad = replace(found.all[0], evidence=(replace(FAILED, reasons=reasons),))
    found = Artifacts(found.settings, replace(found.facts, catalog=Catalog.of((bad,))))
    with browser(found.settings, Accept_Language="ja") as client:
        client.app.state.overviews = Still(found)  # type: ignore[attr-defined]
        said = client.get(f"/artifacts/database/{LOCAL.name}").text
    assert (
        said.count("ファイルの内容: SHA-256 がマニフェストと異なります") == 2
    )  # as a note, and in the evidence
    assert "未確認: 外部テーブル 3 個の行はほかのサーバーにあります" in said
    assert "SHA-256 differs" not in said


def test_a_timeline_that_begins_last_month_leads_to_this_month(tmp_path: Path):
    found = artifacts(tmp_path, (LOCAL, NEXT))
    assert "month=2026-11" in page(found, "/timeline", month="2026-10")
    assert "Newer" not in page(found, "/timeline", month="2026-11")


def nowhere(_names: Collection[str]) -> dict[str, str]:
    return {}


def test_a_long_text_in_another_encoding_is_not_shown_without_its_letters():
    latin = "caf\u00e9\n".encode("latin-1") * TEXT
    assert view("a.txt", latin, str, nowhere).nothing == "binary"
    cut = view("a.txt", ("\ufeff" + "\u3042" * TEXT).encode(), str, nowhere)  # a letter of three bytes is cut
    assert (set(cut.text), cut.cut) == ({"\u3042"}, 2 * TEXT + 3)


@pytest.mark.parametrize(
    ("note", "html"),
    [
        (
            "see [[papers/A b (1)|A & b]], ok",
            '<p>see <a href="@papers/A b (1).md" rel="noreferrer">A &amp; b</a>, ok</p>',
        ),
        ("[[x/y.canvas#top]]", '<p><a href="@x/y.canvas" rel="noreferrer">x/y.canvas</a></p>'),
        ("[[anywhere|a]] [[../../etc/passwd]]", "<p>[[anywhere|a]] [[../../etc/passwd]]</p>"),
        (
            "[[One#Part|the one]] and [[pic.png]]",
            '<p><a href="@deep/One.md" rel="noreferrer">the one</a> and [[pic.png]]</p>',
        ),
        (
            "|a|\n|-|\n|[[One\\|the one]]|",
            (
                "<table>\n<thead>\n<tr>\n<th>a</th>\n</tr>\n</thead>\n<tbody>\n<tr>\n"
                '<td><a href="@deep/One.md" rel="noreferrer">the one</a></td>\n</tr>\n</tbody>\n</table>'
            ),
        ),
        (
            "`[[x/y]]` [a [[x/y]]](b.md)",
            '<p><code>[[x/y]]</code> <a href="@in/b.md" rel="noreferrer">a [[x/y]]</a></p>',
        ),
        ("%%refnet: hidden%%\n\nshown %%a%%", "<p></p>\n<p>shown %%a%%</p>"),
    ],
)
def test_links_of_obsidian_lead_to_files_of_the_artifact_and_its_comments_are_hidden(note: str, html: str):
    def find(names: Collection[str]) -> dict[str, str]:
        return {"One.md": "deep/One.md"} if "One.md" in names else {}

    assert view("in/a.md", note.encode(), lambda inner: f"@{inner}", find).rendered == html + "\n"


def test_a_loss_costs_the_age_of_an_artifact_that_is_newer_than_the_received_wal(tmp_path: Path):
    found = artifacts(tmp_path, (LOCAL, NEXT))
    now = found.facts.now
    report = StreamReport(StreamState.STOPPED, now, 7, 1, 2, 1, now - timedelta(days=9))
    stream = StreamStatus("main", now, "/archive", report=report, base=found.all[-1])
    facts = replace(found.facts, streams=(stream,), by_wal={SOURCE: stream.source})
    said = page(Artifacts(found.settings, facts), "/")
    assert re.findall(r"A loss now costs \(RPO\)</dt><dd>([^<]*)", said)[0] == "2 d"


def test_a_disk_without_free_space_is_not_one_that_does_not_fill(tmp_path: Path):
    found = artifacts(tmp_path, (LOCAL,))
    runs = tuple(
        Run(
            f"{ago}",
            RunKind.BACKUP,
            SOURCE,
            found.facts.now - timedelta(days=ago),
            Ended.DONE,
            free=ago << 30,
        )
        for ago in (9, 6, 3, 0)
    )
    said = page(Artifacts(found.settings, replace(found.facts, history=History(runs))), "/trends")
    assert "the disk is full in under 1 min" in said
    assert "does not fall" not in said


@pytest.mark.parametrize(
    ("after", "says"), [(4, "Pinned: no prune deletes it."), (1, "Not pinned: retention decides.")]
)
def test_a_pin_protects_until_it_ends(tmp_path: Path, after: int, says: str):
    found = artifacts(tmp_path, (LOCAL,))  # three days later
    pinned = Entry(LOCAL, (PROOF,), Marks(pinned=True, until=NOW + timedelta(days=after)))
    facts = replace(found.facts, catalog=Catalog.of([pinned]))
    said = page(Artifacts(found.settings, facts), f"/artifacts/database/{LOCAL.name}")
    assert says in said
    assert (">Unpin<" in said) == (after > 3)


def test_a_day_before_the_first_known_backup_is_not_one_without_a_backup(tmp_path: Path):
    found = artifacts(tmp_path, (LOCAL, replace(NEXT, created=NOW + timedelta(days=3))))
    day = {"day": f"{NOW + timedelta(days=1):%Y-%m-%d}"}
    drill = Run("a", RunKind.DRILL, SOURCE, NOW - timedelta(days=40), Ended.DONE)
    backup = Run("b", RunKind.BACKUP, SOURCE, NOW - timedelta(days=9), Ended.DONE)
    for runs, says in [((drill,), "does not reach back"), ((drill, backup), "No backup was started")]:
        facts = replace(found.facts, history=History(runs))
        assert says in page(Artifacts(found.settings, facts), "/timeline", **day)
