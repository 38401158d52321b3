"""drill: a proof with a clock, and a page that a person reads."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from tests.unit.actions.conftest import Lab

from refnet.actions.backup import Options
from refnet.actions.backup import make as backup
from refnet.actions.choose import Selected, choose
from refnet.actions.drill import NAMESPACE, Drill, page, prove, report, signed, write_report
from refnet.catalog.manifest import Level, Outcome
from refnet.catalog.source_name import SourceName
from refnet.catalog.store import Store
from refnet.context import Context
from refnet.core.clock import Clock
from refnet.core.errors import Exit, RefnetError
from refnet.settings import Settings
from refnet.store.keys import MachineKeys
from refnet.store.live_pieces import OpenedPieces


def run(store: Store, source: Any, now: Any, clock: Any, absent: tuple[SourceName, ...] = ()) -> Drill:
    backup(Lab(store, None, Clock(now, clock, zone=None)), source, store, Options(prove=False))
    return prove(Lab(store, source, Clock(now, clock)), Selected(choose(store, [source.name]), absent))


def test_a_drill_proves_measures_and_leaves_evidence_of_a_drill(
    store: Store, lines: Any, now: Any, clock: Any
) -> None:
    found = run(store, lines(), now, clock)

    assert (found.outcome, found.exit) == (Outcome.PASSED, Exit.DONE)
    assert store.entries()[0].evidence[-1].drill
    (one,) = report(found, {"host": "lab"})["sources"]
    assert one["seconds"] == {"read the file": 1.0, "load": 1.0, "compare": 0.5}
    assert one["recovery_seconds"] == 2.5
    assert one["age_seconds"] == 60


@pytest.mark.parametrize(
    ("change", "absent", "ends"),
    [
        ({"reaches": Level.INTACT}, (), Exit.UNVERIFIED),
        ({"refuses": RefnetError("broken", "mend", Exit.DAMAGED)}, (), Exit.DAMAGED),
        ({}, (SourceName.OBSIDIAN,), Exit.UNVERIFIED),
    ],
)
def test_a_drill_passes_only_where_everything_was_proven(
    store: Store, lines: Any, now: Any, clock: Any, change: Any, absent: Any, ends: Exit
) -> None:
    assert run(store, lines(**change), now, clock, absent).exit is ends


@pytest.mark.parametrize(
    ("damaged", "trouble", "ends", "said"),
    [
        (0, "", Exit.DONE, "not checked: one copy"),
        (1, "", Exit.DAMAGED, "x.age is gone"),
        (0, "the line is down", Exit.UNVERIFIED, "Not every piece was opened: the line is down"),
    ],
)
def test_pieces_that_were_opened_decide_too_and_are_in_the_report(
    store: Store, lines: Any, now: Any, clock: Any, damaged: int, trouble: str, ends: Exit, said: str
) -> None:
    faults = ("x.age is gone",) * damaged
    opened = OpenedPieces("nas", 2, 3, 4_000, faults, damaged, ("one copy",), trouble)
    found = replace(run(store, lines(), now, clock), opened=opened)
    values = report(found, {})
    assert (found.exit, values["pieces"]) == (ends, opened.to_json())
    assert said in Structure(page(values, UTC)).text


class Structure(HTMLParser):
    """What a page is made of: its tags, its text, and what it would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [value or "" for name, value in attrs if name in {"src", "href"}]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_says_what_was_checked_what_was_not_and_why(
    store: Store, lines: Any, now: Any, clock: Any
) -> None:
    found = run(store, lines(reaches=Level.RESTORED), now, clock, (SourceName.CONFIG,))
    read = Structure(page(report(found, {"host": "lab"}), UTC))

    for part in (
        "COULD NOT VERIFY",
        "no scratch place here",
        "there is no complete artifact of this source",
        "bytes of the file",
        "Measured recovery time (RTO)",
        "Age of the data (RPO)",
        store.entries()[0].name,
    ):
        assert part in read.text
    assert "PASS" not in read.text
    assert read.fetched == []
    assert "script" not in read.tags


def test_nothing_that_an_artifact_says_becomes_markup(store: Store, lines: Any, now: Any, clock: Any) -> None:
    evil = "<script>alert(1)</script>\"'&"
    found = run(store, lines(refuses=RefnetError(evil, evil)), now, clock)
    values = report(found, {"host": evil})
    values["sources"][0] |= {
        "rows": [{evil: evil}],
        "details": {evil: evil},
        "seconds": {evil: 1.0},
        "unchecked": [evil],
        "server": evil,
        "artifact": evil,
        "level": evil,
        "sha256": evil,
        "unrecorded": evil,
        "source": evil,
    }
    read = Structure(page(values, UTC))

    assert "script" not in read.tags
    assert read.text.count(evil) >= 10


def test_the_report_is_for_its_user_alone_and_none_is_overwritten(
    tmp_path: Path, store: Store, lines: Any, now: Any, clock: Any
) -> None:
    values = report(run(store, lines(), now, clock), {"host": "lab"})
    local = datetime(2026, 11, 26, 2, 0, tzinfo=UTC)
    first = write_report(values, tmp_path / "reports", local, UTC)
    second = write_report(values, tmp_path / "reports", local, UTC)
    paths = {first.json, first.page, second.json, second.page}

    assert [path.name for path in (first.json, first.page)] == [
        "drill_20261126_020000.json",
        "drill_20261126_020000.html",
    ]
    assert len(paths) == 4
    assert {path.stat().st_mode & 0o777 for path in paths} == {0o600}
    assert (tmp_path / "reports").stat().st_mode & 0o777 == 0o700
    assert json.loads(first.json.read_text())["outcome"] == "passed"


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")
def test_ssh_keygen_accepts_a_reports_signature_made_with_a_signing_key(
    tmp_path: Path,
) -> None:
    notes: list[str] = []
    context = Context(Settings(home=tmp_path), note=notes.append)
    now = datetime.now(UTC)
    written = write_report(report(Drill(now, 1.5, ()), {"host": "läb"}), tmp_path / "reports", now, UTC)
    assert signed(context, written) == written
    keys = MachineKeys.in_home(context.settings.home)
    keys.make_missing()

    done = signed(context, written)

    assert done == replace(written, signature=written.json.with_name(f"{written.json.name}.sig"))
    (tmp_path / "signers").write_text(f"refnet {keys.signer().line}\n")
    command = ["ssh-keygen", "-Y", "verify", "-f", str(tmp_path / "signers"), "-I", "refnet"]
    command += ["-n", NAMESPACE, "-s", str(done.signature)]
    content = written.json.read_bytes()
    assert subprocess.run(command, input=content, capture_output=True, check=False).returncode == 0
    assert subprocess.run(command, input=content + b" ", capture_output=True, check=False).returncode != 0
    keys.signing_file.chmod(0o644)
    assert signed(context, written).signature is None
    assert "the report is not signed: " in notes[0]
