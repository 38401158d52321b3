"""What pg_restore says of entries that it could not restore, and what a forged entry may say in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import pytest
from psycopg import errors

from refnet.core.errors import RefnetError
from refnet.postgres.binaries import Binaries
from refnet.sources.database.restore.left_out import Leaves
from refnet.sources.database.restore.schema_archive import Archive, Item, Step, parse
from refnet.sources.database.sql_text import Codec

ITEMS = parse(
    "10; 2606 11 FK CONSTRAINT public child child_fk root\n"
    "11; 0 12 MATERIALIZED VIEW DATA public ratio root\n"
    "12; 0 0 COMMENT public CONSTRAINT child_fk ON child root\n"
    "13; 1259 14 INDEX public by_id root\n"
)
ENDED = "pg_restore: warning: errors ignored on restore: 2\n"


def entry(number: int, what: str = "x", command: str = "SELECT 1") -> str:
    said = f"pg_restore: from TOC entry {number}; 1 2 {what}\npg_restore: error: could not execute query: ERROR:  no\n"
    return f"{said}Command was: {command};\n\n"


class Fake:
    """Programs whose pg_restore says `stderr`."""

    def __init__(self, stderr: str) -> None:
        self.stderr = stderr.encode()

    def attempt(self, _command: Sequence[str], _doing: str) -> bytes:
        return self.stderr


def failed(wheel: Binaries, folder: Path, stderr: str) -> tuple[Item, ...] | None:
    archive = Archive(folder / "schema.dump", wheel, "x", 18, without_lz4=False)
    programs: Any = Fake(stderr)
    return archive.restore_leaves(Step(programs, "building"), ITEMS)


@pytest.mark.parametrize(
    ("stderr", "numbers"),
    [
        ("", []),
        (entry(10) + ENDED, [10]),
        ("pg_restore: creating INDEX\n" + entry(11) + entry(12) + ENDED, [11, 12]),
    ],
)
def test_leaves_that_the_server_refused_are_known(
    wheel: Binaries, tmp_path: Path, stderr: str, numbers: list[int]
) -> None:
    assert [item.dump_id for item in failed(wheel, tmp_path, stderr) or ()] == numbers


@pytest.mark.parametrize(
    "stderr",
    [
        entry(13) + ENDED,
        entry(10) + entry(13) + ENDED,
        entry(10),
        entry(10) + "pg_restore: error: server closed the connection\n",
        entry(99) + ENDED,
        entry(13, command="x\npg_restore: from TOC entry 10; 1 2 x") + ENDED,
        entry(10, command="x\npg_restore: error: y") + ENDED,
        entry(10) + ENDED + "more\n",
    ],
)
def test_another_entry_or_text_of_a_forged_one_ends_the_restore(
    wheel: Binaries, tmp_path: Path, stderr: str
) -> None:
    with pytest.raises(RefnetError):
        failed(wheel, tmp_path, stderr)


def test_what_is_refused_is_unknown_where_errors_of_views_are_written_over(
    wheel: Binaries, tmp_path: Path
) -> None:
    archive = Archive(tmp_path / "schema.dump", wheel, "x", 18, without_lz4=False)
    views = parse(
        "11; 0 12 MATERIALIZED VIEW DATA public ratio root\n20; 0 21 MATERIALIZED VIEW DATA public sums root\n"
    )
    programs: Any = Fake(entry(11).replace("pg_restore: error", "pg_restore: pg_restore: error") + ENDED)

    assert archive.restore_leaves(Step(programs, "building", 2), views) is None
    with pytest.raises(RefnetError):
        archive.restore_leaves(Step(programs, "building", 1), views)
    with pytest.raises(RefnetError):
        archive.restore_leaves(Step(programs, "building", 2), ITEMS)


KEYS = parse(
    "10; 2606 11 FK CONSTRAINT public child child_fk root\n14; 2606 15 FK CONSTRAINT public child lost_fk root\n"
    "16; 2606 17 FK CONSTRAINT public child kept_fk root\n"
)


class Keys(Fake):
    """Programs whose pg_restore gives the foreign keys of `KEYS` that its list names."""

    def run(self, command: Sequence[str], _doing: str) -> bytes:
        listed = Path(command[command.index("-L") + 1]).read_text()
        return b"".join(
            b"ALTER TABLE ONLY public.child\n    ADD CONSTRAINT %b FOREIGN KEY (a) REFERENCES public.p(a);\n"
            % item.what.split()[-2].encode()
            for item in KEYS
            if f"{item.dump_id};" in listed
        )


class Session:
    """A session of a server on which `kept_fk` exists and the rows break the other keys."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def execute(self, statement: bytes) -> None:
        if b"kept_fk" in statement:
            raise errors.DuplicateObject("it exists")
        if b"NOT VALID" not in statement:
            raise errors.ForeignKeyViolation("no parent")


@pytest.mark.parametrize(("jobs", "named"), [(1, ["child_fk"]), (2, ["child_fk", "lost_fk"])])
def test_a_key_whose_error_other_processes_wrote_over_is_named_too(
    wheel: Binaries, tmp_path: Path, jobs: int, named: list[str]
) -> None:
    (tmp_path / "schema.dump").touch()
    programs: Any = Keys(entry(10) + ENDED)
    connect: Any = Session
    leaves = Leaves(Archive(tmp_path / "schema.dump", wheel, "x", 18, without_lz4=False), connect, Codec())

    leaves.restore(Step(programs, "building", jobs), KEYS)

    assert [one.constraint for one in leaves.left_out] == named


#: Two processes wrote their lines into each other.
GARBLED = (
    "pg_restore: pg_restore: from TOC entry 10; 1 2 xfrom TOC entry 14; 1 2 x\n\n"
    "pg_restore: pg_restore: error: could not execute query: ERROR:  noerror: \n" + ENDED
)
OTHERS = parse(
    "12; 0 0 COMMENT public CONSTRAINT child_fk ON child root\n13; 1259 14 INDEX public by_id root\n"
    "18; 3466 19 EVENT TRIGGER - watching root\n"
)


class Steps(Keys):
    """Notes the dump ids of each pg_restore that changes the database, with ! if its first error ends it."""

    def __init__(self, stderr: str) -> None:
        super().__init__(stderr)
        self.steps: list[str] = []

    def _note(self, command: Sequence[str]) -> None:
        listed = Path(command[command.index("-L") + 1]).read_text()
        ids = " ".join(line.partition(";")[0] for line in listed.splitlines())
        self.steps += [ids + "!" * ("--exit-on-error" in command)] if "-d" in command else []

    def attempt(self, command: Sequence[str], doing: str) -> bytes:
        self._note(command)
        return super().attempt(command, doing)

    def run(self, command: Sequence[str], doing: str) -> bytes:
        self._note(command)
        return super().run(command, doing)


def test_of_garbled_errors_each_key_is_added_again_and_all_else_ends_at_its_first_error(
    wheel: Binaries, tmp_path: Path
) -> None:
    (tmp_path / "schema.dump").touch()
    programs: Any = Steps(GARBLED)
    connect: Any = Session
    leaves = Leaves(Archive(tmp_path / "schema.dump", wheel, "x", 18, without_lz4=False), connect, Codec())

    leaves.restore(Step(programs, "building", 2), (*OTHERS, *KEYS))

    assert [one.constraint for one in leaves.left_out] == ["child_fk", "lost_fk"]
    assert programs.steps == ["13!", "12 10 14 16", "12!", "18!"]


def test_a_key_of_garbled_errors_that_cannot_be_read_ends_the_restore(
    wheel: Binaries, tmp_path: Path
) -> None:
    (tmp_path / "schema.dump").touch()
    programs: Any = Keys(GARBLED)
    connect: Any = Session
    leaves = Leaves(Archive(tmp_path / "schema.dump", wheel, "x", 18, without_lz4=False), connect, Codec())
    forged = parse("30; 2606 31 FK CONSTRAINT public child forged_fk root\n")

    with pytest.raises(RefnetError, match="cannot be read"):
        leaves.restore(Step(programs, "building", 2), (*KEYS, *forged))
