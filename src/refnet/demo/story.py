"""The story: network, vault and configuration are made, backed up, lost in four ways, and restored."""

import json
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from refnet.catalog.manifest import Entry
from refnet.catalog.source_name import STANDARD, SourceName
from refnet.core import formatting
from refnet.core.errors import RefnetError
from refnet.demo.fake_graph import FakeGraph
from refnet.demo.fake_scholar import running
from refnet.demo.files_and_rows import (
    COUNT_ROWS,
    SQL,
    SUM_FILES,
    Inventory,
    read_files,
    read_tables,
    write_configuration,
)
from refnet.demo.stage import DemoStage, Told, proven, same

#: A DELETE that matches too many rows.
_SLIP = "DELETE FROM citations WHERE cited_id <= 50"
_TABLE = "citations"
_DELETED = re.compile(r"^DELETE (\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Loss:
    """A loss, and the command that restored it."""

    what: str
    before: str
    after: str
    typed: str
    #: The duration of the command.
    seconds: float


@dataclass(frozen=True)
class Story(Told):
    """The finished story."""

    TEMPLATE = "story.html.j2"

    papers: int
    #: The content before the losses and after the recovery, by psql and sha256sum.
    before: Inventory
    after: Inventory
    losses: tuple[Loss, ...]
    #: The recovery set.
    entries: Mapping[SourceName, Entry]
    #: When everything was destroyed (UTC).
    lost_at: datetime
    #: The duration of `refnet recover` (s).
    recovery: float

    @property
    def age(self) -> float:
        """The age of the oldest artifact of the set at the loss (s): the measured RPO."""
        return max((self.lost_at - entry.created).total_seconds() for entry in self.entries.values())


def play(stage: DemoStage, papers: int, now: Callable[[], datetime]) -> Story:
    """Run the story on `stage`. RefnetError at the first unexpected result."""
    _network(stage, papers)
    before = _written_down(stage)
    entries = _backup(stage)
    losses = [_note(stage, before), _rows(stage, before)]
    lost_at = _everything(stage, now)
    recovered = _recovery(stage, before)
    _compared(stage, before)
    losses += [recovered, _from_paper(stage, before)]
    after = _no_difference(stage, before, "again.txt")
    return Story(
        stage.folder, tuple(stage.chapters), stage.status().folder, papers, before, after, tuple(losses), entries,
        lost_at, recovered.seconds,
    )  # fmt: skip


def _network(stage: DemoStage, papers: int) -> None:
    """Collect `papers` papers, and write the vault."""
    stage.chapter(
        "A citation network is collected",
        "refnet crawl asks RefNet's own fake of Semantic Scholar, on a loopback port: nothing leaves this machine. The "
        "papers are made up, and their venues say so. They go into a separate PostgreSQL; each gets a note in an "
        "Obsidian vault.",
    )
    write_configuration(stage.folder)
    graph = FakeGraph(papers * 3 + 60, papers * 30 + 600)
    seeds = graph.seed_ids[: min(3 + papers // 150, papers)]
    with running(graph) as server:
        stage.refnet(
            "crawl", *seeds, "--depth", str(_depth(papers)), "--limit", str(papers),
            inside=True,
            REFNET_CRAWL_SEMANTIC_SCHOLAR_URL=server.url,
            REFNET_CRAWL_OPENALEX_URL=server.openalex_url,
            REFNET_CRAWL_REQUESTS_PER_SECOND="0",
        )  # fmt: skip
        stage.found(
            f"{server.url} is RefNet's own fake; it answered {sum(server.counts.values()):,} requests"
        )
    stage.refnet("rank", "--top", "5")
    stage.refnet("summarize")
    stage.refnet("notes")
    stage.program(["find", "config", "-type", "f"])


def _depth(papers: int) -> int:
    """Return the depth of a crawl that reaches so many papers."""
    return 3 + sum(papers > bound for bound in (500, 1000, 3000, 10_000, 30_000))


def _written_down(stage: DemoStage) -> Inventory:
    stage.chapter(
        "psql and sha256sum record the content",
        "psql counts every row and computes a digest of every table, sha256sum reads every file. None of RefNet's own "
        "code takes part.",
    )
    (stage.folder / "check.sql").write_text(SQL, encoding="utf-8")
    seen = _look(stage, "before.txt")
    stage.found(f"{_counted(seen)}, in before.txt")
    return seen


def _backup(stage: DemoStage) -> Mapping[SourceName, Entry]:
    stage.chapter(
        "A backup that proves itself",
        "Database first, then configuration and vault. Each artifact is restored into a scratch server or folder and "
        "compared before it is called proven.",
    )
    stage.refnet("backup")
    stage.refnet("list")
    return proven(stage, STANDARD)


def _note(stage: DemoStage, before: Inventory) -> Loss:
    stage.chapter(
        "A note is lost and restored",
        "One file is restored from the vault's artifact; nothing else is touched.",
    )
    notes = sorted(path for path in before.below("vault") if path.startswith("vault/papers/"))
    lost = notes[len(notes) // 2]
    stage.program(["rm", "--", lost])
    back = stage.refnet("restore", "obsidian", "--only", lost.removeprefix("vault/"))
    output = stage.program(["sha256sum", "--", lost]).output
    same(before.files[lost], read_files(output).get(lost), lost)
    stage.found("the same bytes as before")
    return Loss("A note", "1 note", "no note", back.typed, back.seconds)


def _rows(stage: DemoStage, before: Inventory) -> Loss:
    stage.chapter(
        "Rows of a table are lost and restored",
        "A DELETE matches too many rows. Only the rows whose key is missing are added; the rest of the table stays "
        "unchanged.",
    )
    gone = _DELETED.search(stage.program(["psql", "-X", "-c", _SLIP]).output)
    if not gone or gone[1] == "0":
        raise RefnetError("the demo failed: no row was deleted", "Ask for more papers: --papers 1000.")
    back = stage.refnet("restore", "database", "--table", _TABLE, "--mode", "missing")
    same(before.tables, _tables(stage), "the database")
    stage.found("every table as before, row by row")
    rows, lost = before.tables[_TABLE][0], int(gone[1])
    had, left = formatting.plural(rows, "row"), formatting.plural(rows - lost, "row")
    return Loss(f"Rows of {_TABLE}", had, left, back.typed, back.seconds)


def _everything(stage: DemoStage, now: Callable[[], datetime]) -> datetime:
    stage.chapter(
        "Everything is destroyed",
        "The server's data, the vault, the configuration, RefNet's home. Only the backup folder is left "
        "(and what psql and sha256sum recorded).",
    )
    stage.refnet("postgres", "stop")
    lost_at = now()
    _destroy(stage, "config", "vault", "home")
    return lost_at


def _destroy(stage: DemoStage, *names: str) -> None:
    """Remove the folders `names` and the server's data folder."""
    place = stage.status().folder
    beside = [] if place.is_relative_to(stage.home) else [str(place)]
    stage.program(["rm", "-rf", "--", *names, *beside])
    stage.program(["ls"])
    left = [path for path in (*(stage.folder / name for name in names), place) if path.exists()]
    if left:
        raise RefnetError(
            f"the demo failed: {left[0]} is still there", "Find out why it could not be removed."
        )


def _recovery(stage: DemoStage, before: Inventory) -> Loss:
    stage.chapter(
        "Everything is restored from the backup folder alone",
        "refnet recover gets the backup folder and a new home; it finds everything else in the backups.",
    )
    home, backups = _places(stage)
    back = stage.refnet("recover", REFNET_HOME=home, REFNET_BACKUP_DIR=backups)
    return Loss(
        "Everything but the backups", _everything_in(before), "nothing", "refnet recover", back.seconds
    )


def _places(stage: DemoStage) -> tuple[str, str]:
    """Return RefNet's home and the backup folder."""
    return str(stage.home), str(stage.folder / "backups")


def _everything_in(seen: Inventory) -> str:
    return f"{formatting.plural(seen.rows, 'row')}, {formatting.plural(len(seen.files), 'file')}"


def _from_paper(stage: DemoStage, before: Inventory) -> Loss:
    stage.chapter(
        "Everything is destroyed, and the backup folder too",
        "Encrypted copies are in another place, nas. The key that opens them is not on this machine but on paper: here, "
        "the file paper/key. An empty machine gets these two.",
    )
    (home, backups), store = _places(stage), (stage.folder / "nas").as_uri()
    (stage.folder / "nas").mkdir(mode=0o700)
    made = json.loads(stage.refnet("key", "new", "--json", quiet=True).output)
    _write_paper(stage.folder / "paper", made)
    stage.refnet(
        "copy", "--to", store,
        REFNET_HOME=home, REFNET_BACKUP_DIR=backups, REFNET_ENCRYPTION_RECIPIENTS=made["recipient"],
    )  # fmt: skip
    stage.refnet("postgres", "stop")
    _destroy(stage, "config", "vault", "home", "backups")
    arguments = ("recover", "--store", store, "--identity-file", "paper/key")
    back = stage.refnet(*arguments, REFNET_HOME=home, REFNET_BACKUP_DIR=backups)
    typed = "refnet recover --store file://… --identity-file paper/key"
    return Loss("Everything, and the backups", _everything_in(before), "nothing", typed, back.seconds)


def _write_paper(folder: Path, made: Mapping[str, str]) -> None:
    """Write the recovery key and the signer into `folder`, as on the recovery page."""
    folder.mkdir(mode=0o700)
    path = folder / "key"
    path.touch(mode=0o600)
    path.write_text(f"# signer: {made['signer']}\n{made['recovery_key']}\n", encoding="utf-8")


def _compared(stage: DemoStage, before: Inventory) -> None:
    stage.chapter(
        "psql and sha256sum compare",
        "psql and sha256sum record the content again, and diff compares the two records.",
    )
    _no_difference(stage, before, "after.txt")


def _no_difference(stage: DemoStage, before: Inventory, name: str) -> Inventory:
    """Record the content in the file `name`; RefnetError if it differs from `before`."""
    after = _look(stage, name)
    stage.program(["diff", "before.txt", name])
    if different := before.differences(after):
        raise RefnetError(
            f"the demo failed: {different[0]} has changed",
            f"This is a bug of RefNet: report it with before.txt and {name}.",
        )
    stage.found(f"no difference: {_counted(after)}")
    return after


def _look(stage: DemoStage, name: str) -> Inventory:
    """Record the content in the file `name`."""
    rows = stage.program(COUNT_ROWS, f"{shlex.join(COUNT_ROWS)} > {name}", quiet=True).output
    sums = stage.program(SUM_FILES, f"{shlex.join(SUM_FILES)} | sort >> {name}", quiet=True).output
    text = rows + "".join(sorted(sums.splitlines(keepends=True)))
    (stage.folder / name).write_text(text, encoding="utf-8")
    seen = Inventory(read_tables(rows), read_files(sums))
    if not seen.rows or not seen.below("vault") or not seen.below("config"):
        raise RefnetError("the demo failed: there is no content to record", f"See {stage.folder / name}.")
    return seen


def _tables(stage: DemoStage) -> Mapping[str, tuple[int, str]]:
    return read_tables(stage.program(COUNT_ROWS, quiet=True).output)


def _counted(seen: Inventory) -> str:
    return (
        f"{formatting.plural(seen.rows, 'row')} in {formatting.plural(len(seen.tables), 'table')}, "
        f"{formatting.plural(len(seen.notes), 'note')}, "
        f"{formatting.plural(len(seen.below('config')), 'file')} of the configuration"
    )
