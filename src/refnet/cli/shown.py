"""One artifact, told to a person."""

from __future__ import annotations

from typing import Any

from refnet.cli import proofs, words
from refnet.recovery.model.artifact import Evidence, Manifest, utc

#: How many of the largest tables are shown.
_LARGEST = 10


def print_artifact(manifest: Manifest, evidence: tuple[Evidence, ...], state: str) -> None:
    """Print what `manifest` says, the largest tables, and each line of evidence."""
    facts = [
        ("name", manifest.name),
        ("source", manifest.source.value + (" (only some tables)" if manifest.partial else "")),
        ("state", state),
        ("created", f"{words.local(manifest.created)} ({utc(manifest.created)})"),
        (
            "size",
            f"{words.size(manifest.size)} ({manifest.size:,} bytes), made in {words.seconds(manifest.seconds)}",
        ),
        ("SHA-256", manifest.sha256),
        ("made by", manifest.made_by),
        *(
            (name.replace("_", " "), _fact(name, value))
            for name, value in manifest.details.items()
            if _is_fact(value)
        ),
        *(("not checked", sentence) for sentence in manifest.unchecked),
    ]
    words.print_columns([*facts])
    _print_tables(manifest.details.get("tables"))
    print("\nevidence" if evidence else "\nno check since it was written")
    for line in evidence:
        drill = " (drill)" if line.drill else ""
        server = f" with {line.server}" if line.server else ""
        print(
            f"  {words.local(line.at)}  {proofs.evidence(line)} in {words.seconds(line.seconds)}{server}{drill}"
        )
        for reason in line.reasons:
            print(f"    {reason}")


def _is_fact(value: Any) -> bool:
    return value is not None and not isinstance(value, (dict, list))


def _fact(name: str, value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and name.endswith("bytes"):
        return f"{words.size(value)} ({value:,} bytes)"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _print_tables(tables: Any) -> None:
    """The largest tables, where `tables` is what the database's source writes: dicts of name, rows, raw_bytes."""
    if not isinstance(tables, list):
        return
    known = [table for table in tables if isinstance(table, dict) and "name" in table]
    known.sort(key=lambda table: table.get("raw_bytes") or 0, reverse=True)
    if not known:
        return
    print()
    rows = [("table", "rows", "bytes of text")]
    rows += [
        (str(t["name"]), f"{t.get('rows', 0):,}", words.size(t.get("raw_bytes") or 0))
        for t in known[:_LARGEST]
    ]
    words.print_columns(rows, right=(1, 2))
    if len(known) > _LARGEST:
        print(f"and {words.plural(len(known) - _LARGEST, 'smaller table')}")
