"""The record of the last check of each remote store: REFNET_HOME/remote/NAME/check.json."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from refnet.catalog.monitoring_stores import RECORD_BYTES, StoreCheck
from refnet.core.files import explained, make_folder, read_regular, replace_file
from refnet.settings.stores import StoreSettings

_RECORD = "check.json"


def record_check(remote: Path, found: StoreCheck) -> None:
    """Record a check durably. `remote`: REFNET_HOME/remote."""
    folder = remote / found.store
    make_folder(folder)
    with explained(folder / _RECORD):
        replace_file(folder / _RECORD, found.to_json().encode())


def last_checks(remote: Path, stores: Mapping[str, StoreSettings]) -> dict[str, StoreCheck | None]:
    """Last check of each store; None if its place was never checked, or the record is damaged."""
    found: dict[str, StoreCheck | None] = dict.fromkeys(stores)
    for name, store in stores.items():
        with suppress(OSError, ValueError):  # without a record, the monitor warns
            data = read_regular(remote / name / _RECORD, RECORD_BYTES, owner=os.geteuid())
            last = StoreCheck.from_json(data)
            if (last.store, last.shown) == (name, store.shown):  # its URL may have changed since
                found[name] = last
    return found
