"""One artifact, told to a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from refnet.cli import formatting, render_proof
from refnet.recovery.model.artifact import Evidence, Manifest, SourceName, utc

#: How many of the largest tables are shown.
_LARGEST = 10


def print_artifact(
    manifest: Manifest, tables: Sequence[dict[str, Any]], evidence: tuple[Evidence, ...], state: str
) -> None:
    """Print what `manifest` says, the largest of `tables` (name, rows, bytes), and each line of evidence."""
    facts = [
        ("name", manifest.name),
        ("source", manifest.source.value + (" (only some tables)" if manifest.partial else "")),
        ("state", state),
        ("created", f"{formatting.local(manifest.created)} ({utc(manifest.created)})"),
        (
            "size",
            f"{formatting.size(manifest.size)} ({manifest.size:,} bytes), made in {formatting.seconds(manifest.seconds)}",
        ),
        ("SHA-256", manifest.sha256),
        *([("shrunk", formatting.shrunk(asdict(manifest)))] if manifest.shrunk else []),
        ("made by", manifest.made_by),
        *([("database", "not known: nobody recorded it")] if _of_nobody(manifest) else []),
        *(
            (name.replace("_", " "), _fact(name, value))
            for name, value in manifest.details.items()
            if _is_fact(value)
        ),
        *(("not checked", sentence) for sentence in manifest.unchecked),
    ]
    formatting.print_columns([*facts])
    _print_tables(tables)
    print("\nevidence" if evidence else "\nno check since it was written")
    for line in evidence:
        drill = " (drill)" if line.drill else ""
        server = f" with {line.server}" if line.server else ""
        print(
            f"  {formatting.local(line.at)}  {render_proof.evidence(line)} in {formatting.seconds(line.seconds)}{server}{drill}"
        )
        for reason in line.reasons:
            print(f"    {formatting.plain(reason)}")


def _of_nobody(manifest: Manifest) -> bool:
    return manifest.source is SourceName.DATABASE and manifest.identity is None


def _is_fact(value: Any) -> bool:
    return value is not None and not isinstance(value, (dict, list))


def _fact(name: str, value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and name.endswith("bytes"):
        return f"{formatting.size(value)} ({value:,} bytes)"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _print_tables(tables: Sequence[dict[str, Any]]) -> None:
    if not tables:
        return
    largest = sorted(tables, key=lambda table: table["bytes"], reverse=True)[:_LARGEST]
    rows = [(str(table["name"]), f"{table['rows']:,}", formatting.size(table["bytes"])) for table in largest]
    print()
    formatting.print_columns([("table", "rows", "as text"), *rows], right=(1, 2))
    if len(tables) > _LARGEST:
        print(f"and {formatting.plural(len(tables) - _LARGEST, 'smaller table')}")
