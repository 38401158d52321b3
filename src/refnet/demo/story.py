"""The story: a network, its vault and its configuration, backed up, lost in three ways, and brought back."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from refnet import wiring
from refnet.demo import configuration, independent_check
from refnet.demo.independent_check import Witness
from refnet.demo.stage import Chapter, Stage
from refnet.errors import RefnetError
from refnet.recovery.model import formatting
from refnet.recovery.model.artifact import Entry, SourceName
from refnet.recovery.model.catalog import Catalog
from refnet.settings import load

#: The papers whose citations a slip of the hand deletes.
_SLIP = "DELETE FROM citations WHERE cited_id <= 50"
_TABLE = "citations"
_DELETED = re.compile(r"^DELETE (\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Loss:
    """Something that was lost, and brought back by the command `typed` within `seconds`."""

    what: str
    before: str
    after: str
    typed: str
    seconds: float


@dataclass(frozen=True)
class Told:
    """The whole story, when it is over.

    `before` and `after`: what psql and sha256sum saw. `entries`: the set. `lost_at`: when everything was
    destroyed (UTC). `recovery`: how long `refnet recover` took (s). `cluster`: where the server's data lies.
    """

    folder: Path
    chapters: tuple[Chapter, ...]
    papers: int
    before: Witness
    after: Witness
    losses: tuple[Loss, ...]
    entries: Mapping[SourceName, Entry]
    lost_at: datetime
    recovery: float
    cluster: Path

    @property
    def age(self) -> float:
        """How old the oldest part of the set was when everything was lost (s): the measured RPO."""
        return max((self.lost_at - entry.created).total_seconds() for entry in self.entries.values())

    @property
    def seconds(self) -> float:
        return sum(chapter.seconds for chapter in self.chapters)


def tell(stage: Stage, papers: int, now: Callable[[], datetime]) -> Told:
    """Tell the story on `stage`. RefnetError at the first thing that is not as it should be."""
    _network(stage, papers)
    before = _written_down(stage)
    entries = _backup(stage)
    losses = [_note(stage, before), _rows(stage, before)]
    lost_at = _everything(stage, now)
    recovered = _recovery(stage, before)
    after = _compared(stage, before)
    return Told(
        stage.folder, tuple(stage.chapters), papers, before, after, (*losses, recovered), entries, lost_at,
        recovered.seconds, stage.status().folder,
    )  # fmt: skip


def _network(stage: Stage, papers: int) -> None:
    stage.chapter(
        "A citation network, its vault and its configuration",
        "All of it is made up, and says so: papers and citations in a PostgreSQL of its own, a note a paper in an "
        "Obsidian vault, and a small configuration.",
    )
    configuration.write(stage.folder)
    stage.refnet("network", "sample", "--papers", str(papers))
    stage.refnet("network", "vault")
    stage.stock(["find", "config", "-type", "f"])


def _written_down(stage: Stage) -> Witness:
    stage.chapter(
        "What stands is written down, by other hands",
        "psql counts every row and sums up every table, sha256sum reads every file. None of RefNet's own code "
        "takes part.",
    )
    (stage.folder / "witness.sql").write_text(independent_check.SQL, encoding="utf-8")
    seen = _look(stage, "before.txt")
    stage.found(f"{_counted(seen)}, in before.txt")
    return seen


def _backup(stage: Stage) -> Mapping[SourceName, Entry]:
    stage.chapter(
        "A backup that proves itself",
        "Database first, then configuration and vault. Each artifact is restored into a scratch place and compared "
        "before it is called proven.",
    )
    stage.refnet("backup")
    stage.refnet("list")
    settings = load({}, stage.config, root=False, cores=1)
    entries = Catalog.of(wiring.store(settings).entries()).set_at()
    unproven = [source for source in SourceName if source not in entries or not entries[source].proven]
    if unproven:
        raise RefnetError(
            f"the demo failed: the backup of {', '.join(unproven)} is not proven",
            f"The reason stands above; `refnet list` in {stage.config} shows what there is.",
        )
    return entries


def _note(stage: Stage, before: Witness) -> Loss:
    stage.chapter(
        "A note is lost, and brought back",
        "One file out of the vault's artifact; nothing else is touched.",
    )
    notes = sorted(path for path in before.below("vault") if path.startswith("vault/papers/"))
    lost = notes[len(notes) // 2]
    stage.stock(["rm", "--", lost])
    back = stage.refnet("restore", "obsidian", "--only", lost.removeprefix("vault/"))
    said = stage.stock(["sha256sum", "--", lost]).said
    _same(before.files[lost], independent_check.read_files(said).get(lost), lost)
    stage.found("the same bytes as before")
    return Loss("A note", "1 note", "no note", back.typed, back.seconds)


def _rows(stage: Stage, before: Witness) -> Loss:
    stage.chapter(
        "Rows of a table are lost, and brought back",
        "A DELETE that says too much. Only the rows whose key is missing are added; the rest of the table stays "
        "as it is.",
    )
    gone = _DELETED.search(stage.stock(["psql", "-X", "-c", _SLIP]).said)
    if not gone or gone[1] == "0":
        raise RefnetError("the demo failed: no row was deleted", "Ask for more papers: --papers 1000.")
    back = stage.refnet("restore", "database", "--table", _TABLE, "--mode", "missing")
    _same(before.tables, _tables(stage), "the database")
    stage.found("every table as before, row by row")
    rows, lost = before.tables[_TABLE][0], int(gone[1])
    return Loss(
        f"Rows of {_TABLE}",
        formatting.plural(rows, "row"),
        formatting.plural(rows - lost, "row"),
        back.typed,
        back.seconds,
    )


def _everything(stage: Stage, now: Callable[[], datetime]) -> datetime:
    stage.chapter(
        "Everything is destroyed",
        "The server's data, the vault, the configuration, RefNet's home. What is left is the backup folder "
        "(and what psql and sha256sum wrote down).",
    )
    place = stage.status().folder
    stage.refnet("postgres", "stop")
    beside = [] if place.is_relative_to(stage.home) else [str(place)]
    lost_at = now()
    stage.stock(["rm", "-rf", "--", "config", "vault", "home", *beside])
    stage.stock(["ls"])
    left = [path for path in (stage.config, stage.folder / "vault", stage.home, place) if path.exists()]
    if left:
        raise RefnetError(f"the demo failed: {left[0]} is still there", "See why it could not be removed.")
    return lost_at


def _recovery(stage: Stage, before: Witness) -> Loss:
    stage.chapter(
        "Everything comes back, from the backup folder alone",
        "refnet recover is told where the backups are and where to live; all the rest it finds in them.",
    )
    home, backups = str(stage.home), str(stage.folder / "backups")
    back = stage.refnet("recover", REFNET_HOME=home, REFNET_BACKUP_DIR=backups)
    whole = f"{formatting.plural(before.rows, 'row')}, {formatting.plural(len(before.files), 'file')}"
    return Loss("Everything but the backups", whole, "nothing", "refnet recover", back.seconds)


def _compared(stage: Stage, before: Witness) -> Witness:
    stage.chapter(
        "Compared, by the same other hands",
        "psql and sha256sum look again, and diff compares what they wrote down.",
    )
    after = _look(stage, "after.txt")
    stage.stock(["diff", "before.txt", "after.txt"])
    if different := before.differences(after):
        raise RefnetError(
            f"the demo failed: {different[0]} is not what it was",
            "This is a fault of RefNet: report it, with before.txt and after.txt.",
        )
    stage.found(f"no difference: {_counted(after)}")
    return after


def _look(stage: Stage, name: str) -> Witness:
    """Write down what stands, into the file `name`."""
    rows = stage.stock(
        independent_check.COUNT_ROWS, f"{shlex.join(independent_check.COUNT_ROWS)} > {name}", quiet=True
    ).said
    sums = stage.stock(
        independent_check.SUM_FILES, f"{shlex.join(independent_check.SUM_FILES)} | sort >> {name}", quiet=True
    ).said
    text = rows + "".join(sorted(sums.splitlines(keepends=True)))
    (stage.folder / name).write_text(text, encoding="utf-8")
    seen = Witness(independent_check.read_tables(rows), independent_check.read_files(sums))
    if not seen.rows or not seen.below("vault") or not seen.below("config"):
        raise RefnetError("the demo failed: there is nothing to count", f"See {stage.folder / name}.")
    return seen


def _tables(stage: Stage) -> Mapping[str, tuple[int, str]]:
    return independent_check.read_tables(stage.stock(independent_check.COUNT_ROWS, quiet=True).said)


def _same(before: object, after: object, what: str) -> None:
    if before != after:
        raise RefnetError(
            f"the demo failed: {what} is not what it was",
            "This is a fault of RefNet: report it, with what stands above.",
        )


def _counted(seen: Witness) -> str:
    return (
        f"{formatting.plural(seen.rows, 'row')} in {formatting.plural(len(seen.tables), 'table')}, "
        f"{formatting.plural(len(seen.below('vault')), 'note')}, "
        f"{formatting.plural(len(seen.below('config')), 'file')} of the configuration"
    )
