"""The units of systemd that another installation, or somebody by hand, wrote."""

from __future__ import annotations

from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st
from tests.fuzz.harness import fuzzed, outcome
from tests.fuzz.strategies import damaged, texts

from refnet.scheduling.systemd import Owner, installed, others, own
from refnet.scheduling.units import MARK

UNIT = f"""{MARK}0
[Service]
WorkingDirectory=/srv/a b
Environment=REFNET_HOME=/srv/100%%
Environment="REFNET_CONFIG=/srv/\\"x\\" y.toml"
ReadWritePaths=/srv/backups "/srv/a b" -/var/log
""".encode()


@fuzzed
@given(unit=st.one_of(damaged(UNIT), texts.map(lambda text: UNIT + text.encode(errors="replace"))))
@example(unit=UNIT + b'\nEnvironment="REFNET_HOME=' + b'"\\' * 20_000)
@example(unit=UNIT + b"\nEnvironment=REFNET_HOME=/" + b"x" * 5_000)
def test_the_owner_of_a_unit_is_read_or_unknown(unit: bytes, folder: Path) -> None:
    (folder / "refnet-backup@shop.service").write_bytes(unit)
    found = outcome(lambda: installed(folder))
    assert found is not None
    for one in found:
        assert one.label.isprintable()
        outcome(lambda: (own(found, Owner(folder, folder)), others(found, Owner(folder, folder))))
