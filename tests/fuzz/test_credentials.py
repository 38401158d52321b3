"""The file of a store's credential."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.harness import fuzzed, outcome
from tests.fuzz.strategies import damaged

from refnet.settings import StoreKind
from refnet.settings.stores import read_credentials

_SAMPLE = (
    b'access_key_id = "AK"\nsecret_access_key = "se/cret"\naccount = "a"\nkey = "k"\nservice_account = "/x"\n'
)


@fuzzed
@given(content=damaged(_SAMPLE), kind=st.sampled_from([StoreKind.S3, StoreKind.AZ, StoreKind.GS]))
def test_a_credential_is_read_or_refused(content: bytes, kind: StoreKind, folder: Path) -> None:
    path = folder / "credential.toml"
    path.write_bytes(content)
    path.chmod(0o600)
    found = outcome(lambda: read_credentials(path, kind))
    assert not found or all(value.isprintable() and value for value in found.values.values())
