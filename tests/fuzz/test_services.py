"""What Docker and podman say of the containers that a recovery waits for."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.harness import assert_told, fuzzed, outcome
from tests.fuzz.strategies import TEXTS, documents

from refnet.recovery.compose import containers
from refnet.recovery.services import log_end

UP = {
    "Id": "0123456789ab" * 5,
    "State": {
        "Status": "running",
        "ExitCode": 0,
        "Health": {"Status": "unhealthy", "Log": [{"Start": "2026-11-28T01:00:43Z", "Output": "refused\n"}]},
    },
    "Config": {"Labels": {"com.docker.compose.service": "api"}, "Env": ["A=1"]},
    "HostConfig": {"RestartPolicy": {"Name": "unless-stopped", "MaximumRetryCount": 0}},
}
DOWN = {
    "Id": "0123456789ab",
    "State": {"Status": "exited", "ExitCode": 1, "Health": None},
    "Config": {"Labels": None},
}


@fuzzed
@given(documents([[UP, DOWN], [DOWN]]))
def test_what_an_engine_says_of_containers_is_read_or_refused(text: bytes) -> None:
    for one in outcome(lambda: containers(text.decode(errors="replace")), ValueError) or ():
        assert one.is_up in {True, False}
        assert one.state.startswith(("is ", "exited with "))
        assert log_end(one.check, str).isprintable()


@fuzzed
@given(st.lists(st.one_of(st.text(), st.sampled_from(TEXTS), st.just(json.dumps(UP))), max_size=20))
def test_the_end_of_any_log_is_one_short_line(lines: list[str]) -> None:
    told = log_end("\n".join(lines), str)
    assert len(told) < 1000
    if told:
        assert_told(told, 1000)
