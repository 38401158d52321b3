"""What a dashboard wrote down of its children, and the lines of progress that it reads."""

from __future__ import annotations

import json
import tempfile
from contextlib import suppress
from functools import partial
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.harness import fuzzed, outcome
from tests.fuzz.strategies import documents
from tests.unit.web.test_children import GOOD, NAME

from refnet.core import checked
from refnet.settings import Settings
from refnet.web import child_process
from refnet.web.children import Child, Children
from refnet.web.pages import runs
from refnet.web.pages.runs import rows_of

STEP = json.dumps({"report": {"step": "load", "done": 1, "total": None}, "at": GOOD["started"]})
END = '{"code": 1, "seconds": 1.5}'
REPORTED = '{"step": "load", "done": 1, "total": 2}'


@fuzzed
@given(documents(json.dumps(GOOD)), documents(STEP), documents(END), documents(REPORTED))
def test_files_are_read_or_refused(started: bytes, step: bytes, end: bytes, reported: bytes) -> None:
    outcome(lambda: child_process.Started.from_json(started), ValueError)
    outcome(lambda: child_process.LastStep.from_json(step), ValueError)
    outcome(lambda: child_process.End.from_json(end), ValueError)
    outcome(lambda: child_process.Reported.from_json(reported), ValueError)


def _shown(child: Child) -> None:
    assert isinstance(child.error, tuple) or child.code == 0
    json.dumps(child.result, ensure_ascii=False).encode()
    assert all(line.isprintable() for line in (*child.log()[0], *child.log(7)[0]))


@fuzzed
@given(documents(STEP), documents(END), documents('{"results": [{"a": "b"}]}'), st.binary(max_size=300))
def test_whatever_the_other_files_are_a_child_is_shown(
    step: bytes, end: bytes, result: bytes, messages: bytes
) -> None:
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home, "web")
        folder.mkdir()
        files = {
            ".json": json.dumps(GOOD).encode(),
            ".step": step,
            ".end": end,
            ".out": result,
            ".err": messages,
        }
        for kind, data in files.items():
            (folder / (NAME + kind)).write_bytes(data)
        for child in Children(Settings(home=Path(home))).all():
            outcome(partial(_shown, child))


@fuzzed
@given(documents('{"run": "f58e5d885f78", "event": "began", "level": "info", "timestamp": "2026-11-28"}'))
def test_lines_of_a_log_are_shown_or_skipped(line: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "refnet-backup.log").write_bytes(line)
        for one in outcome(lambda: runs.lines_of(Path(folder), "f58e5d885f78")) or ():
            assert (one.time + one.level + one.text).isprintable()


@fuzzed
@given(
    documents(
        '{"results": [{"source": "a", "proof": {"level": "intact", "findings": [{"outcome": "failed"}]}}]}'
    )
)
def test_a_result_of_any_form_has_rows_of_text(result: bytes) -> None:
    with suppress(ValueError):
        found = checked.document(result)
        for row in outcome(lambda: rows_of(found)) or ():
            assert f"{row.source}{row.artifact}{row.outcome}{row.level}{row.reason}".isprintable()
