"""The history of recovery keys: when each was made, checked, and replaced."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from refnet.core.errors import RefnetError
from refnet.store.keys import Event, HistoryFile, KeyEvent, KeyHistory

DAY = datetime(2026, 11, 27, tzinfo=UTC)


def event(day, kind, recipient, replaces=""):
    return KeyEvent(DAY + timedelta(days=day), kind, recipient, replaces)


def test_lines_are_read_as_they_were_written(tmp_path):
    file = HistoryFile(tmp_path / "keys")
    assert file.read() == KeyHistory(())
    lines = (
        event(0, Event.MADE, "age1a"),
        event(1, Event.MADE, "age1b", "age1a"),
        event(2, Event.CHECKED, "age1b"),
    )
    for one in lines:
        file.add(one)
    assert file.read().events == lines
    assert file.path.stat().st_mode & 0o777 == 0o600


def test_the_last_check_counts():
    history = KeyHistory((event(3, Event.CHECKED, "age1a"), event(1, Event.CHECKED, "age1a")))
    assert history.checked("age1a") == event(3, Event.CHECKED, "age1a")
    assert history.checked("age1b") is history.made("age1a") is None


def test_the_replacements_of_a_key_are_followed_and_a_circle_ends():
    first, second = event(1, Event.MADE, "age1b", "age1a"), event(2, Event.MADE, "age1c", "age1b")
    history = KeyHistory((event(0, Event.MADE, "age1a"), first, second))
    assert history.replacements("age1a") == (first, second)
    assert history.replacements("age1c") == ()
    assert history.forgotten([]) == ("age1c",)
    assert history.forgotten(["age1c"]) == ()
    circle = KeyHistory((*history.events, event(3, Event.MADE, "age1a", "age1c")))
    assert [one.recipient for one in circle.replacements("age1a")] == ["age1b", "age1c", "age1a"]


def test_a_line_that_was_cut_or_forged_is_skipped(tmp_path):
    file = HistoryFile(tmp_path)
    file.add(event(0, Event.MADE, "age1a"))
    forged = [
        '{"at": 1}',
        "[]",
        '{"at": "2026-11-27T00:00:00+00:00", "event": "made", "recipient": "\\u001b[2J"}',
        "{" * 9000,
    ]
    file.path.write_text(file.path.read_text() + "\n".join(forged) + '\n{"at": "20')
    file.add(event(1, Event.CHECKED, "age1a"))
    assert file.read().events == (event(0, Event.MADE, "age1a"), event(1, Event.CHECKED, "age1a"))


def test_a_file_that_grew_without_end_or_is_a_link_is_refused(tmp_path):
    file = HistoryFile(tmp_path)
    file.path.symlink_to("/dev/zero")
    with pytest.raises(RefnetError, match="/dev/zero"):
        file.read()
    file.path.unlink()
    with file.path.open("wb") as large:
        large.truncate(1 << 40)
    with pytest.raises(RefnetError, match="larger"):
        file.read()
