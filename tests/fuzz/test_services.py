"""What Docker Compose says of the services that a recovery waits for."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.harness import fuzzed, outcome
from tests.fuzz.strategies import documents, lines

from refnet.recovery.services import compose

UP = {
    "Service": "postgres",
    "State": "running",
    "Health": "healthy",
    "Publishers": [{"URL": "", "TargetPort": 5432}],
}
DOWN = {"Service": "api", "State": "exited", "ExitCode": 1}


@fuzzed
@given(st.one_of(documents([UP, DOWN]), lines([json.dumps(UP), json.dumps(DOWN)])))
def test_what_compose_says_is_read_or_refused(text: bytes) -> None:
    services = outcome(lambda: compose._services(text.decode(errors="replace")), ValueError)
    for one in services or ():
        assert compose._is_up(one.get("State", ""), one.get("Health")) in {True, False}
