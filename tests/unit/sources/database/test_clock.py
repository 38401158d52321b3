"""When the clocks of the server and of this machine count as disagreeing."""

from __future__ import annotations

import pytest

from refnet.sources.database.dump.snapshot import clock_disagreement


@pytest.mark.parametrize("server", [1000.0, 1003.0, 940.0, 1063.0])
def test_clocks_that_agree_to_a_minute_raise_no_warning(server: float) -> None:
    assert clock_disagreement(server, 1000.0, 1003.0) == ()


@pytest.mark.parametrize(
    ("server", "says"),
    [
        (939.0, "1 min behind"),
        (1064.0, "1 min ahead of"),
        (8203.0, "2 h ahead of"),
        (-190e6, "2199 d behind"),
    ],
)
def test_clocks_that_disagree_by_more_are_told_by_how_much(server: float, says: str) -> None:
    (told,) = clock_disagreement(server, 1000.0, 1003.0)
    assert told.startswith(f"the server's clock is {says} this machine's: ")
