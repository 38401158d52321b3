"""A local store, what is put into it, and what is seen there."""

from __future__ import annotations

from datetime import UTC, datetime

from refnet.catalog.artifact import Made
from refnet.catalog.source_name import SourceName
from refnet.store.local import LocalStore

NOW = datetime(2026, 11, 25, 17, 0, 1, tzinfo=UTC)


def publish(store: LocalStore, data: bytes, files: bytes | None = None) -> str:
    with store.draft(SourceName.OBSIDIAN) as draft:
        draft.out.write(data)
        return draft.publish(Made(NOW, {}, files=files), NOW, 1.0).name


def visible(store: LocalStore) -> list[str]:
    """Every file of the store but its locks."""
    return sorted(p.name for p in store.root.rglob("*") if p.is_file() and p.name != ".refnet-lock")
