"""No row bounds the memory of a backup, of its proof or of a restore."""

from __future__ import annotations

from benchmarks.measure import sampled
from tests.command import Command
from tests.faults.conftest import Live

#: Seen are 108 to 164 MiB; a row more in memory is 32 MiB of text.
_LIMIT = 192 << 20
_ROWS = """
CREATE TABLE wide (id int, b bytea);
ALTER TABLE wide ALTER b SET STORAGE EXTERNAL;
INSERT INTO wide SELECT i, decode(repeat(md5(i::text), 1 << 20), 'hex') FROM generate_series(1, 3) i;
"""


def _peak(refnet: Command, *arguments: str) -> int:
    run = refnet.start_alone(*arguments)
    with sampled([run.process.pid]) as peak:
        ended = run.end()
    ended.succeeds()
    assert peak[0] > 20 << 20
    return peak[0]


def test_rows_of_16_megabytes_take_no_more_memory_than_there_is(refnet: Command, live: Live) -> None:
    live.run(_ROWS)
    assert _peak(refnet, "backup", "database") < _LIMIT
    assert _peak(refnet, "restore", "database", "--force") < _LIMIT
