"""What an initdb that fails is told with."""

from __future__ import annotations

from pathlib import Path

import pytest

from refnet.core.errors import RefnetError
from refnet.postgres.account import account
from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster

_REMOVING = 'initdb: removing data directory "/x"'


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (f"child process was terminated by signal 9: Killed\n{_REMOVING}", "terminated by signal 9: Killed"),
        (
            f"FATAL:  could not map memory: no space left\nchild process exited with exit code 1\n{_REMOVING}",
            "no space",
        ),
        ("initdb: error while loading shared libraries: libicu.so: cannot open", "libicu.so"),
        ("", "exit code 3"),
    ],
)
def test_an_initdb_that_fails_is_told_with_its_cause(short_home: Path, said: str, cause: str) -> None:
    programs = short_home / "bin"
    programs.mkdir()
    (programs / "said").write_text(said)
    (programs / "initdb").write_text(f"#!/bin/sh\ncat {programs}/said >&2\nexit 3\n")
    (programs / "initdb").chmod(0o755)
    user = account()
    cluster = Cluster(
        short_home / "data", short_home / "socket", user, Binaries(programs, 17, "17.0", "system"), "me"
    )
    user.own(short_home)
    with pytest.raises(RefnetError, match=cause) as error:
        cluster.create()
    assert "removing" not in error.value.message
