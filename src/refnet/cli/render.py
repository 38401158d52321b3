"""Tables, artifacts and proofs as text for a terminal. `proven` appears only for a proof that passed."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len as cells_of
from rich.cells import chop_cells

from refnet.catalog.artifact import Finding, OpenArtifact, Proof
from refnet.catalog.identity import Whose, labels
from refnet.catalog.manifest import Entry, Evidence, Level, Manifest, Outcome, Unprotected, utc
from refnet.catalog.remote import CopyLevel
from refnet.cli.output import output, say
from refnet.core.formatting import left_out, local, phases, plain, plural, seconds, size, some

if TYPE_CHECKING:
    from refnet.actions.look import Shown

#: The number of largest tables that an artifact's page lists.
_LARGEST = 10
#: The columns that every table fits into; the least of a shortened column, and of a last column beside the others.
_WIDTH, _SHORT, _NARROW = 100, 8, 24
_MARKS = {Outcome.FAILED: "failed", Outcome.UNVERIFIED: "could not verify"}


def local_ns(nanoseconds: int) -> str:
    """Format a file's time from a list, which may be forged; "-" for an impossible time."""
    try:
        return datetime.fromtimestamp(nanoseconds // 10**9).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{'-':19}"


def print_columns(
    rows: Sequence[Sequence[str]],
    right: tuple[int, ...] = (),
    shorten: int | None = None,
) -> None:
    """Print `rows` in aligned columns that fit the terminal, which counts as at least 100 columns wide.

    Args:
        right: right-aligned columns.
        shorten: column shortened first, in the middle; then the last column is wrapped.
    """
    rows = [[plain(cell) for cell in row] for row in rows]
    widths = [max(cell_len(row[column]) for row in rows) for column in range(len(rows[0]))]
    most = width()
    beyond = sum(widths) + 2 * (len(widths) - 1) - most
    if shorten is not None and beyond > 0:
        kept = max(min(widths[shorten], _SHORT), widths[shorten] - beyond)
        beyond -= widths[shorten] - kept
        widths[shorten] = kept
    last = widths[-1] - max(beyond, 0)
    below = last < min(
        widths[-1], _NARROW
    )  # no space beside the others: the last column has lines of its own
    for row in rows:
        cells = []
        for column, text in enumerate(row[:-1]):
            shown = middle(text, widths[column]) if column == shorten else text
            gap = " " * (widths[column] - cell_len(shown))
            cells.append(gap + shown if column in right else shown + gap)
        lead = "  ".join(cells)
        lines = wrapped(row[-1], most - 4 if below else last)
        if len(row) - 1 in right:
            lines = [" " * (widths[-1] - cell_len(line)) + line for line in lines]
        if below:
            print(lead.rstrip())
        for number, line in enumerate(lines if not below or row[-1] else ()):
            start = "    " if below else (lead if number == 0 else " " * cell_len(lead)) + "  " * bool(cells)
            print((start + line).rstrip())


def width() -> int:
    """Width of the terminal, at least 100; unlimited for a file or pipe."""
    columns = get_terminal_size((0, 0)).columns
    return max(columns, _WIDTH) if columns else sys.maxsize


def cell_len(text: str) -> int:
    """Number of terminal cells that the printable `text` takes."""
    return len(text) if text.isascii() else cells_of(text)


def middle(text: str, width: int) -> str:
    """`text` in at most `width` terminal cells, with an ellipsis in the middle."""
    if cell_len(text) <= width:
        return text
    head = chop_cells(text, (width - 1) - (width - 1) // 2)[0]
    tail = chop_cells(text[::-1], (width - 1) // 2)[0][::-1]
    return f"{head}…{tail}"


def wrapped(text: str, width: int) -> list[str]:
    """`text` as lines of at most `width` cells, broken between words if possible."""
    lines, line = list[str](), ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if cell_len(longer) <= width:
            line = longer
            continue
        if line:
            lines.append(line)
        *full, line = chop_cells(word, max(width, 1)) or [""]
        lines += full
    return [*lines, line]


def databases(entries: Sequence[Entry]) -> dict[str, str]:
    """Database or source id by artifact name; empty if all are equal."""
    groups: dict[tuple[bool, str], dict[str, Whose | None]] = {}
    for entry in entries:
        group = (True, "") if entry.manifest.of_database else (False, str(entry.source))
        groups.setdefault(group, {})[entry.name] = entry.whose
    shown: dict[str, str] = {}
    for (by_name, _), of in groups.items():
        found = labels(of.values())
        if len(found) > 1 and (by_name or len(found.keys() - {None}) > 1):
            shown |= {name: found[whose] for name, whose in of.items()}
    return shown


def shrunk(manifest: Manifest) -> str:
    """Description of what shrank in an artifact."""
    return plain(f"SHRUNK against {manifest.shrunk_from}: {'; '.join(manifest.shrunk)}")


def headline(proof: Proof) -> str:
    """Outcome of a proof in one line."""
    beyond = f" beyond {proof.level.value}" if proof.level else ""
    if proof.outcome is Outcome.FAILED:
        return f"DAMAGED{beyond}"
    if proof.outcome is Outcome.UNVERIFIED:
        return f"could not verify{beyond or ' anything'}"
    rows = [row["rows"] for row in proof.rows if isinstance(row.get("rows"), int)]
    how = f"; {proof.compared}" if proof.compared else ""
    counts = f" ({plural(len(rows), 'table')}, {plural(sum(rows), 'row')}{how})" if rows else ""
    gaps = [
        one.what
        for one in proof.findings
        if one.outcome is Outcome.UNVERIFIED and one.what not in proof.faulty
    ]
    but = f", except {plain(some(proof.faulty))}" if proof.faulty else ""
    but += f", but {plain(some(gaps, 1))} could not be verified" if gaps else ""
    return (proof.level.value if proof.level else "nothing") + but + counts


def details(proof: Proof) -> list[str]:
    """Lines for findings that did not pass, failures first, and for missing isolation layers."""
    findings = [f for outcome in _MARKS for f in proof.findings if f.outcome is outcome]
    lines = [f"{_MARKS[f.outcome]}: {f.what}" + (f": {f.reason}" if f.reason else "") for f in findings]
    if output.verbose:
        lines += [f"passed: {f.what}" for f in proof.findings if f.outcome is Outcome.PASSED]
        lines += [f"server: {proof.server}"] if proof.server else []
        lines += [f"phases: {phases(proof.seconds)}"] if proof.seconds else []
    if proof.missing_walls:
        from refnet.postgres.walls import advice

        lines.append(f"without isolation layers: {', '.join(proof.missing_walls)}. {advice()}")
    return [plain(line) for line in lines]


def print_beside(lead: str, findings: Iterable[Finding]) -> None:
    """Print what came of the check of what a source keeps beside its artifacts."""
    for one in findings:
        if one.outcome is Outcome.PASSED:
            say(plain(f"{lead} {one.what}: {one.reason}"))
        else:
            print(plain(f"{lead} {_MARKS[one.outcome]}: {one.what}: {one.reason}"))


def print_artifact(shown: Shown) -> None:
    """Print the facts of the manifest, the largest tables, and each line of evidence."""
    manifest = shown.manifest
    facts = [
        ("name", manifest.name),
        *([("store", shown.chosen.store)] if shown.chosen.store else []),
        ("source", manifest.source + (" (only some tables)" if manifest.partial else "")),
        ("state", shown.state),
        ("created", f"{local(manifest.created)} ({utc(manifest.created)})"),
        ("size", f"{size(manifest.size)} ({manifest.size:,} bytes), made in {seconds(manifest.seconds)}"),
        ("SHA-256", manifest.sha256),
        *(("marks", mark) for mark in shown.marks),
        *([("compared", manifest.compared)] if manifest.compared else []),
        *([("shrunk", shrunk(manifest))] if manifest.shrunk else []),
        ("made by", manifest.made_by),
        *([("database", "unknown: not recorded")] if manifest.is_unknown else []),
        *(
            ("digest" if name == "state" else name.replace("_", " "), _fact(name, value))
            for name, value in manifest.details.items()
            if value is not None and not isinstance(value, (dict, list))
        ),
        *([("left out", found)] if (found := left_out(manifest.details)) else []),
        *([("not protected", str(lacks))] if (lacks := Unprotected.read(manifest.details)) else []),
        *(("not checked", sentence) for sentence in manifest.unchecked),
    ]
    print_columns(facts)
    _print_tables(shown.tables)
    print("\nevidence" if shown.evidence else "\nno check since it was written")
    for line in shown.evidence:
        server, drill = f" with {line.server}" if line.server else "", " (drill)" if line.drill else ""
        says = _evidence(line)
        if shown.chosen.store and says == Level.WRITTEN:  # all of its objects were read back from there
            says = CopyLevel.FETCHED
        print(plain(f"  {local(line.at)}  {says} in {seconds(line.seconds)}{server}{drill}"))
        for reason in line.reasons:
            print(f"    {plain(reason)}")


def _fact(name: str, value: Any) -> str:
    if not isinstance(value, int) or isinstance(value, bool):
        return str(value)
    return f"{size(value)} ({value:,} bytes)" if name.endswith("bytes") else f"{value:,}"


def _print_tables(tables: Sequence[dict[str, Any]]) -> None:
    if not tables:
        return
    largest = sorted(tables, key=lambda table: table["bytes"], reverse=True)[:_LARGEST]
    rows = [(str(table["name"]), f"{table['rows']:,}", size(table["bytes"])) for table in largest]
    print()
    print_columns([("table", "rows", "as text"), *rows], right=(1, 2), shorten=0)
    if len(tables) > _LARGEST:
        print(f"and {plural(len(tables) - _LARGEST, 'smaller table')}")


def _evidence(line: Evidence) -> str:
    if line.accepts:
        return "accepted"
    if line.revokes:
        return "earlier passes revoked"
    if line.outcome is Outcome.PASSED:
        return line.level.value
    before = list(Level)[line.level.rank - 1].value if line.level.rank else "nothing"
    return f"{line.outcome.value} beyond {before}"


def print_chosen(chosen: OpenArtifact) -> None:
    """Print the artifact's remote store, and whether it is damaged or shrank."""
    if chosen.store:
        say(f"from {chosen.label}")
    if chosen.damage:
        print(plain(f"DAMAGED: {chosen.name}: {chosen.damage}"))
    if chosen.entry and chosen.entry.shrunk:
        print(f"{shrunk(chosen.entry.manifest)}: `refnet list` shows the one before")


def print_proof(title: str, proof: Proof, took: str = "", unrecorded: str = "", indent: int = 10) -> None:
    """Print `title` with the outcome, then the reasons. `unrecorded`: why the evidence was not recorded."""
    quiet = output.quiet and proof.outcome is Outcome.PASSED
    if not quiet or unrecorded:
        print(f"{title} {headline(proof)}{took}")
    for line in () if quiet else details(proof):
        print(f"{'':{indent}}{line}")
    if unrecorded:
        print(f"{'':{indent}}the evidence could not be recorded: {unrecorded}")
