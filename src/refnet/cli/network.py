"""`refnet network`, `import`, `notes`, `export`: what fills the citation network, and what writes it out.

Alembic and PyYAML come with the extra `network`; modules that need them are imported by the commands.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refnet import servers
from refnet.actions.unprotected import unprotected_vault
from refnet.cli import options
from refnet.cli.command import Commands
from refnet.cli.context import current_settings, note, print_json, progress, would
from refnet.cli.output import output
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import explained
from refnet.core.formatting import plain, plural, size, utf8
from refnet.demo.sample import Shape, make
from refnet.network import export as writing
from refnet.network import known
from refnet.network.importing import import_cora, import_scholar, read_scholar
from refnet.postgres.session import Target
from refnet.servers import ActsOn

if TYPE_CHECKING:
    from refnet.network.migrate import Migrated
    from refnet.network.pdfs import FetchedPdfs
    from refnet.network.vault import WrittenVault
    from refnet.settings import Settings


network = Commands("Create and fill the citation network's tables.")
imports = Commands("Import a citation graph from a file.")
_CSV = "csv"
_FORMATS = ("graphml", _CSV, "bibtex", "ris", "csl-json", "json")


@network.command()
def migrate(*, plan: options.Plan = False, as_json: options.Json = False) -> None:
    """Migrate the database to this RefNet's schema.

    Do nothing if it is up to date.
    """
    if _planned("migrate the schema", plan=plan):
        return
    target, migrated = _migrated()
    if migrated.before == migrated.after:
        text = f"{target.name}: schema {migrated.after}, nothing to do"
    else:
        text = f"{target.name}: schema {migrated.after} (before: {migrated.before or 'none'})"
    _report({"database": target.name, **asdict(migrated)}, text, as_json)


@network.command()
def sample(
    *,
    papers: Annotated[
        int, typer.Option(min=1, max=100_000_000, metavar="N", help="The number of papers.")
    ] = 10_000,
    seed: Annotated[
        int,
        typer.Option(
            min=0, max=2**32 - 1, metavar="N", help="The same seed and number of papers make the same rows."
        ),
    ] = 1,
    plan: options.Plan = False,
    as_json: options.Json = False,
) -> None:
    """Fill an empty database with a made-up network.

    Its papers are marked as made up.
    """
    if _planned(f"migrate the schema and make up {papers:,} papers", plan=plan):
        return
    target, _ = _migrated()
    with progress("sample") as shown:
        made = make(target, Shape(papers, seed), shown)
    rows = "\n".join(
        f"  {table:<14}{count:>12,} {'row' if count == 1 else 'rows'}" for table, count in made.rows.items()
    )
    _report(
        {"database": target.name, "made_up": True, "seed": seed, **asdict(made)},
        f"{target.name}: a made-up network of seed {seed}, {size(sum(made.sizes.values()))};"
        f" its papers have the provenance `sample`\n{rows}",
        as_json,
    )


@imports.command()
def cora(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file; each line is cited, tab, citing.")],
    *,
    plan: options.Plan = False,
    as_json: options.Json = False,
) -> None:
    """Import citations in the format of cora.cites.

    Existing rows stay unchanged.
    """
    _refuse_other_than_file(file, "Name a file in the format of cora.cites.")
    if _planned(f"migrate the schema and import {file}", plan=plan):
        return
    target, _ = _migrated()
    with progress("import") as shown:
        done = import_cora(target, file, shown)
    _report(
        {"database": target.name, **asdict(done)},
        f"{target.name}: {done.citations:,} lines read, {done.new_papers:,} papers and"
        f" {done.new_citations:,} citations were new",
        as_json,
    )


@imports.command()
def semantic_scholar(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="JSON: a recorded paper with its references and citations, or a list of papers.",
        ),
    ],
    *,
    plan: options.Plan = False,
    as_json: options.Json = False,
) -> None:
    """Import recorded answers of Semantic Scholar.

    A second import of a file adds nothing.
    """
    _refuse_other_than_file(file, "Name a recorded paper of Semantic Scholar.")
    papers = read_scholar(file)
    if _planned(f"migrate the schema and import {plural(len(papers), 'paper')} of {file}", plan=plan):
        return
    target, _ = _migrated()
    with progress("import") as shown:
        done = import_scholar(target, papers, shown)
    dropped = f"\n{plural(done.dropped, 'value')} of a wrong type left out" if done.dropped else ""
    _report(
        {"database": target.name, **asdict(done)},
        f"{target.name}: {plural(done.papers, 'paper')} with {plural(done.citations, 'citation')} read,"
        f" {done.new_papers:,} papers and {done.new_citations:,} citations were new{dropped}",
        as_json,
    )


def _refuse_other_than_file(file: Path, hint: str) -> None:
    with explained(file):
        there = file.is_file()
    if not there:
        raise RefnetError(f"{file} is not a file", hint, Exit.USAGE)


def _planned(what: str, *, plan: bool) -> bool:
    """Connect to the server, which must be running, and print the plan; return whether the command ends there."""
    settings = current_settings()
    if plan and settings.database_url:
        servers.server(settings).connect().close()
    return would(f"{what} in {ActsOn.of(settings).shown}", plan=plan)


def _migrated() -> tuple[Target, Migrated]:
    """The database, migrated to the current schema, and the changes."""
    from refnet.network.migrate import migrate as run

    target = servers.server(current_settings())
    return target, run(target)


def _report(values: dict[str, Any], text: str, as_json: bool) -> None:
    acts_on = ActsOn.of(current_settings())
    if as_json:
        print_json(values | acts_on.to_json())
        return
    if values.get("plan") or not output.quiet:
        print(acts_on)
        print(text)


def notes(
    *,
    stubs: Annotated[
        bool, typer.Option("--stubs", help="Also write notes for papers known only by title.")
    ] = False,
    pdfs: Annotated[
        int | None,
        typer.Option(
            "--pdfs",
            min=1,
            max=100_000,
            metavar="N",
            help="First fetch the open-access PDFs of the N best ranked papers that have one.",
        ),
    ] = None,
    plan: options.Plan = False,
    as_json: options.Json = False,
) -> None:
    """Write the network into the Obsidian vault.

    Each paper, author and topic gets a note, each seed an index note and a canvas; text written by the reader stays.
    """
    from refnet.network.vault import write_vault

    settings = current_settings()
    target = known(servers.existing_server(settings))
    fetched = None if pdfs is None else _pdfs(settings, target, pdfs, plan=plan)
    with progress("vault") as shown:
        done = write_vault(
            target, settings.vault_dir, shown, plan=plan, stubs=stubs, cache=settings.home / "cache"
        )
    if why := unprotected_vault(settings):
        vault = settings.vault_dir
        note(f'{vault} is not backed up, as {why}: vault_dir = "{vault}" makes it a source')
    acts_on = ActsOn.of(settings)
    if as_json:
        more = {"pdfs": asdict(fetched)} if fetched else {}
        print_json(
            {"vault": str(settings.vault_dir), "plan": plan, **asdict(done), **more} | acts_on.to_json()
        )
        return
    if plan or not output.quiet:
        print(acts_on)
        _print_notes(settings, done, fetched, "would be " if plan else "")


def _print_notes(settings: Settings, done: WrittenVault, fetched: FetchedPdfs | None, to_be: str) -> None:
    if fetched:
        print(f"{plural(len(fetched.fetched), 'PDF')} {to_be}fetched, {fetched.there:,} there already")
        for one in fetched.missing:
            title = plain(one.title or "a paper without a title")
            print(f"  not fetched: {title} <{plain(one.url)}>: {plain(one.reason)}")
    print(
        f"{settings.vault_dir}: {plural(done.new, 'note')} {to_be}new, {done.changed:,} {to_be}changed,"
        f" {done.unchanged:,} unchanged"
    )
    if done.views:
        print(
            f"  index notes, canvases and other files: {plural(len(done.views), 'file')} {to_be}new or changed"
        )
    for skipped in done.skipped:
        print(f"  skipped: {plain(skipped)}")
    for gone in done.gone:
        print(f"  its paper, author or topic is not in the database: {plain(gone)}")


network.command("vault", hidden=True)(notes)


def _pdfs(settings: Settings, target: Target, papers: int, *, plan: bool) -> FetchedPdfs:
    from refnet.network.pdfs import PdfLimits, fetch_pdfs

    limits = PdfLimits(papers, settings.crawl_pdf_bytes, frozenset(settings.crawl_pdf_servers))
    with progress("pdfs") as shown:
        return fetch_pdfs(target, settings.vault_dir, limits, shown, plan=plan)


def _format(text: str) -> str:
    if text not in _FORMATS:
        raise ValueError(f"'{text}' is not one of {', '.join(_FORMATS)}")
    return text


def _writer(format: str, to: Path | None) -> Callable[[str, Iterator[str]], None]:  # noqa: A002
    """Return a function that writes a file of an export, given its name and its text in parts."""

    def write(name: str, texts: Iterator[str]) -> None:
        if to is None:
            for text in texts:
                sys.stdout.write(text)
            return
        path = to
        if format == _CSV:
            with explained(to):
                to.mkdir(parents=True, exist_ok=True)
            path = to / name
        writing.write_file(path, texts)
        if not output.quiet:
            print(path)

    return write


def export(
    format: Annotated[  # noqa: A002  # its name in errors
        str,
        typer.Argument(
            parser=_format,
            metavar="FORMAT",
            help="graphml, csv, bibtex, ris, csl-json or json.",
            autocompletion=lambda: [*_FORMATS],
        ),
    ],
    *,
    to: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="This file, replaced if it exists; csv: a folder for two files."),
    ] = None,
    search: Annotated[
        str, typer.Option(metavar="WORDS", help="Papers with these words, or an author's name.")
    ] = "",
    topic: Annotated[str, typer.Option(metavar="NAME", help="Papers of this field of study.")] = "",
    tag: Annotated[
        str | None, typer.Option(metavar="TAG", help="Papers whose notes in the vault have this tag.")
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(min=1, max=10_000_000, metavar="N", help="The N papers with the best rank."),
    ] = None,
    plan: options.Plan = False,
) -> None:
    """Export papers and citations for other programs.

    Without --to the export is printed; csv needs --to.
    """
    settings = current_settings()
    if format == _CSV and to is None:
        raise RefnetError("csv makes two files", "Name a folder for them with --to.", Exit.USAGE)
    given = {"tag": tag, "search": search and f"'{search}'", "topic": topic and f"'{topic}'", "top": top}
    chosen = "".join(f", {name} {value}" for name, value in given.items() if value)
    if would(f"export {ActsOn.of(settings).shown}{chosen} as {format} to {to or 'stdout'}", plan=plan):
        return
    among = _tagged(settings.vault_dir, tag) if tag else None
    selection = writing.Selection(utf8(search), top, among, utf8(topic))

    writing.export(known(servers.existing_server(settings)), format, _writer(format, to), selection)


def _tagged(vault: Path, tag: str) -> Callable[[Any], list[int]]:
    """Return what finds the papers whose notes have `tag`; RefnetError if no note has it."""
    from refnet.network.vault_files import tagged, vault_folder
    from refnet.network.vault_rows import matches

    with explained(vault), vault_folder(vault, make=False) as handle:
        marks = [] if handle is None else [*tagged(handle, tag)]
    if not marks:
        raise RefnetError(f"no paper's note in {vault} has the tag {tag}", "Check vault_dir and the tag.")

    def papers(connection: Any) -> list[int]:
        known = matches(connection, marks)
        return [one for one in map(known.paper, marks) if isinstance(one, int)]

    return papers
