"""A forged list of files takes no more memory than its length, whatever its lines are."""

from __future__ import annotations

import pytest
from tests.hostile.bounded import bounded

_HEAD = r"""
from refnet.core.member_names import ArchiveError
from refnet.sources.folder.browsing import FileNames
from refnet.sources.folder.listing import FileList
head, end, long = b'{"format": 1,\n"members": [],\n"files": [\n', b"\n]}\n", 8 << 20
"""
_TRIED = r"""
for read in (lambda text: FileNames([text]), FileList.from_json):
    try:
        read(text)
    except ArchiveError:
        print("refused")
"""


@pytest.mark.parametrize(
    "forged",
    [
        r"""text = head + b'{"path":"' + b"\\a" * long + b'","kind":"file","size":1' + end""",
        r"""text = head.replace(b"[]", b"[[0,0]" + b",[1,1]" * long + b"]x") + b"x" + end""",
        r"""text = head + b'{"path":"a","kind":"link",}\n' * 2_000_000 + end""",
    ],
    ids=["a line of escapes", "a list of members", "short lines"],
)
def test_a_forged_list_of_files_is_refused_in_bounded_memory(forged: str) -> None:
    assert bounded(_HEAD + forged + _TRIED, seconds=10, mebibytes=700) == "refused\nrefused\n"
