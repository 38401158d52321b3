"""The story of `refnet demo --many`: parts of several sources are restored or read, and the rest stays unchanged."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from refnet.core.clock import utc_now
from refnet.core.errors import RefnetError
from refnet.core.formatting import plural
from refnet.core.processes import until
from refnet.demo.files_and_rows import (
    CLUSTER,
    COUNT_ROWS,
    DATABASES,
    FOLDERS,
    SQL,
    Inventory,
    add_cluster,
    read_files,
    read_tables,
    write_many_settings,
    write_shop_and_notes,
)
from refnet.demo.stage import DemoStage, Told, TypedCommand, catalog, proven, same
from refnet.settings import load
from refnet.sources.cluster.stream_status import read_status

#: The longest wait for WAL, in seconds.
_SECONDS = 60.0
_QUESTION = "SELECT count(*), sum(total) FROM orders WHERE customer = 7"
#: Lists the constraints, triggers, indexes and comments of a database's tables, one per line.
_BELONGS = """\
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid > 16383
UNION ALL SELECT tgrelid::regclass::text, tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL SELECT objoid::regclass::text, 'comment', description FROM pg_description
  WHERE classoid = 'pg_class'::regclass AND objoid > 16383
ORDER BY 1, 2, 3;
"""


@dataclass(frozen=True)
class ComparedResult:
    """A result of a command, compared by other programs."""

    what: str
    #: The command, its duration (s), and the content that was found equal.
    typed: str
    seconds: float
    equal: str


@dataclass(frozen=True)
class Many(Told):
    """The finished story."""

    TEMPLATE = "many.html.j2"

    answers: tuple[ComparedResult, ...]
    #: The content before the losses and at the end, as read by psql and sha256sum.
    before: Inventory
    after: Inventory


def play(stage: DemoStage) -> Many:
    """Run the story on `stage`. RefnetError at the first unexpected result."""
    _sources(stage)
    cluster = stage.status().folder
    first = _recorded(stage, "first.txt", "psql and sha256sum record the content")
    asked = _psql(stage, "shop", "-c", _QUESTION)
    old = _backup(stage)
    before = _changed(stage, asked)
    answers = (
        _dropped(stage, before),
        _asked(stage, old["shop"], asked),
        _printed(stage, old["notes"], first),
        _beside(stage),
        _second(stage),
    )
    _kept(stage, old)
    after = _recorded(stage, "after.txt", "psql and sha256sum compare")
    stage.program(["diff", "before.txt", "after.txt"])
    same(before, after, "the content")
    stage.found(f"no difference: {_counted(after)}")
    return Many(stage.folder, tuple(stage.chapters), cluster, answers, before, after)


def _sources(stage: DemoStage) -> None:
    stage.chapter(
        "Two databases and two folders",
        "All of it is made up: a shop and a wiki on one PostgreSQL server, notes and photos. The settings name each.",
    )
    write_shop_and_notes(stage.folder)
    stage.refnet("postgres", "start", REFNET_HOME=str(stage.home))
    stage.program(
        ["psql", "-Xq", *(word for name in DATABASES for word in ("-c", f"CREATE DATABASE {name}"))]
    )
    for name in DATABASES:
        stage.program(["psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-d", name, "-f", f"{name}.sql"])
    write_many_settings(stage.folder, stage.socket())
    stage.program(["cat", "config/refnet.toml"])


def _backup(stage: DemoStage) -> Mapping[str, str]:
    stage.chapter(
        "One backup of all four",
        "Databases first, then folders. Each artifact is restored into a scratch server or folder and compared.",
    )
    stage.refnet("backup")
    stage.refnet("list")
    found = proven(stage, (*DATABASES, *FOLDERS))
    return {str(source): entry.name for source, entry in found.items()}


def _changed(stage: DemoStage, asked: str) -> Inventory:
    stage.chapter(
        "The work continues",
        "Orders are changed, a note is shortened, and both sources are backed up again: from now on they have two "
        "artifacts.",
    )
    stage.program(
        ["psql", "-X", "-d", "shop", "-c", "UPDATE orders SET total = total + 1 WHERE customer < 50"]
    )
    stage.program(["sh", "-c", "echo '- [x] call the printer' > notes/todo.md"])
    stage.refnet("backup", "shop", "notes")
    if _psql(stage, "shop", "-c", _QUESTION) == asked:
        raise RefnetError("the demo failed: no order has changed", "Report it with the output above.")
    return _look(stage, "before.txt")


def _dropped(stage: DemoStage, before: Inventory) -> ComparedResult:
    stage.chapter(
        "A table is dropped and comes back",
        "With its columns, constraints, indexes, trigger, sequence and comment, and the foreign key that another table "
        "had to it. The rest of the database stays in use.",
    )
    (stage.folder / "belongs.sql").write_text(_BELONGS, encoding="utf-8")
    had = _psql(stage, "shop", "-f", "belongs.sql")
    drop = ("-c", "SET client_min_messages = warning", "-c", "DROP TABLE orders CASCADE")
    stage.program(["psql", "-Xq", "-d", "shop", *drop])
    back = stage.refnet("restore", "shop", "--table", "orders")
    shop = {name: found for name, found in before.tables.items() if name.startswith("shop.")}
    same(shop, _tables(stage, "shop"), "the database shop")
    same(had, _psql(stage, "shop", "-f", "belongs.sql"), "what belongs to the tables of shop")
    belongs = f"{len(had.splitlines())} keys, indexes, triggers and comments of shop"
    return _answer(stage, "A dropped table", back, f"every row; {belongs}")


def _asked(stage: DemoStage, artifact: str, asked: str) -> ComparedResult:
    stage.chapter(
        "An older backup answers a question",
        "The table is loaded into a scratch server that exists for this question only. psql asked the same before the "
        "orders were changed.",
    )
    got = stage.refnet("query", artifact, _QUESTION, "--csv")
    same(asked, got.output.split("\n", 1)[1], "the answer")
    return _answer(stage, "A question to an older backup", got, "the answer that psql got at that time")


def _printed(stage: DemoStage, artifact: str, first: Inventory) -> ComparedResult:
    stage.chapter("One file is found and printed", "As it was before it was shortened; nothing is restored.")
    stage.refnet("find", "notes", "todo*")
    stage.refnet("log", "notes/todo.md")
    got = stage.refnet("cat", artifact, "todo.md")
    digest = sha256(got.output.encode()).hexdigest()
    same(first.files["notes/todo.md"], digest, "notes/todo.md")
    return _answer(stage, "A file as it was", got, "the bytes that sha256sum recorded")


def _beside(stage: DemoStage) -> ComparedResult:
    stage.chapter("A copy beside the live one", "The wiki is restored as a database of another name.")
    made = stage.refnet("restore", "wiki", "--as", "wiki_copy")
    copy = {name.removeprefix("wiki_copy."): found for name, found in _tables(stage, "wiki_copy").items()}
    live = {name.removeprefix("wiki."): found for name, found in _tables(stage, "wiki").items()}
    same(live, copy, "the copy of the wiki")
    return _answer(stage, "A copy of a database", made, f"every row of {plural(len(copy), 'table')}")


def _second(stage: DemoStage) -> ComparedResult:
    stage.chapter(
        "DELETE without WHERE, and the second before it",
        "With wal = true, base backups of the whole server and its stream of WAL bring back any second. The server of that "
        "second runs in a scratch server, from which the rows come.",
    )
    add_cluster(stage.folder, stage.socket())
    before = _tables(stage, "shop")
    with stage.running("wal", "run"):
        stage.refnet("backup", f"{CLUSTER}-cluster", "--no-prove")
        moment = _psql(stage, "shop", "-c", "SELECT now()").strip()
        stage.program(["psql", "-X", "-d", "shop", "-c", "DELETE FROM items"])
        _wait_until_received(stage, datetime.fromisoformat(moment))
        stage.refnet("wal", "status")
        options = ("--at", moment, "--table", "items", "--mode", "missing")
        back = stage.refnet("restore", f"{CLUSTER}-shop", *options)
    same(before, _tables(stage, "shop"), "the database shop")
    return _answer(
        stage, "A table as of the second before a DELETE", back, "every row, as psql saw it before"
    )


def _wait_until_received(stage: DemoStage, moment: datetime) -> None:
    """Wait until each commit before `moment`, and one after it, is in the archive of WAL."""
    settings = load({}, stage.config, root=False, cores=1)

    def is_received() -> bool:
        report = read_status(settings, CLUSTER, (), utc_now()).report
        return bool(report and report.received_until and report.received_until > moment)

    if not until(is_received, _SECONDS):
        raise RefnetError(
            f"the demo failed: no WAL was received in {_SECONDS:.0f} s",
            f"`refnet wal status` in {stage.config}.",
        )


def _kept(stage: DemoStage, old: Mapping[str, str]) -> None:
    stage.chapter("One artifact is kept, one is forgotten", "A pinned artifact stays whatever its age.")
    stage.refnet("pin", old["shop"])
    stage.refnet("forget", old["notes"], "--force")
    stage.refnet("list", *DATABASES, *FOLDERS)
    names = {entry.name for entry in catalog(stage).entries}
    same((True, False), (old["shop"] in names, old["notes"] in names), "the list of artifacts")
    stage.found(f"{plural(len(names), 'artifact')} are left")


def _recorded(stage: DemoStage, name: str, title: str) -> Inventory:
    stage.chapter(
        title, "psql computes a digest of every table of both databases, sha256sum reads every file."
    )
    seen = _look(stage, name)
    stage.found(f"{_counted(seen)}, in {name}")
    return seen


def _look(stage: DemoStage, name: str) -> Inventory:
    """Record the content in the file `name`."""
    tables = {key: value for database in DATABASES for key, value in _tables(stage, database).items()}
    command = ["find", *FOLDERS, "-type", "f", "-exec", "sha256sum", "{}", "+"]
    files = read_files(stage.program(command, quiet=True).output)
    lines = [f"{table}|{rows}|{digest}" for table, (rows, digest) in tables.items()]
    lines += [f"{digest}  {path}" for path, digest in sorted(files.items())]
    (stage.folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    if not tables or not all(Inventory(tables, files).below(folder) for folder in FOLDERS):
        raise RefnetError("the demo failed: there is no content to record", f"See {stage.folder / name}.")
    return Inventory(tables, files)


def _tables(stage: DemoStage, database: str) -> dict[str, tuple[int, str]]:
    (stage.folder / "check.sql").write_text(SQL, encoding="utf-8")
    output = stage.program([*COUNT_ROWS, "-d", database], quiet=True).output
    return {f"{database}.{name}": found for name, found in read_tables(output).items()}


def _psql(stage: DemoStage, database: str, *asked: str) -> str:
    return stage.program(["psql", "-Xt", "--csv", "-d", database, *asked]).output


def _answer(stage: DemoStage, what: str, step: TypedCommand, equal: str) -> ComparedResult:
    stage.found(f"equal: {equal}")
    return ComparedResult(what, step.typed, step.seconds, equal)


def _counted(seen: Inventory) -> str:
    return f"{plural(seen.rows, 'row')} in {plural(len(seen.tables), 'table')}, {plural(len(seen.files), 'file')}"
