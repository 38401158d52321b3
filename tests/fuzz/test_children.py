"""What a dashboard wrote down of its children, and the lines of progress that it reads."""

from __future__ import annotations

import json
import tempfile
from functools import partial
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.harness import fuzzed, outcome
from tests.fuzz.strategies import documents
from tests.unit.web.test_children import GOOD, NAME

from refnet.recovery.model import checked
from refnet.settings import Settings
from refnet.web import child_files
from refnet.web.children import Child, Children

STEP = json.dumps({"report": {"step": "load", "done": 1, "total": None}, "at": GOOD["started"]})
END = '{"code": 1, "seconds": 1.5}'
REPORTED = '{"step": "load", "done": 1, "total": 2}'


@fuzzed
@given(documents(json.dumps(GOOD)), documents(STEP), documents(END), documents(REPORTED))
def test_files_are_read_or_refused(started: bytes, step: bytes, end: bytes, reported: bytes) -> None:
    outcome(lambda: child_files.started(checked.document(started, child_files.SMALL)), ValueError)
    outcome(lambda: child_files.step(step), ValueError)
    outcome(lambda: child_files.end(end), ValueError)
    outcome(lambda: child_files.reported(reported), ValueError)


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
