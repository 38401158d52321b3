"""`refnet network migrate|sample`, `refnet import cora|semantic-scholar`.

Alembic and PyYAML come with the extra `network`; modules that need them are imported by the commands.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refnet import servers
from refnet.cli import options
from refnet.cli.command import Commands
from refnet.cli.context import current_settings, print_json, progress, would
from refnet.cli.notes import notes
from refnet.cli.output import output
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import explained
from refnet.core.formatting import plural, size
from refnet.demo.sample import Shape, make
from refnet.network.importing import import_cora, import_scholar, read_scholar
from refnet.postgres.session import Target
from refnet.servers import ActsOn

if TYPE_CHECKING:
    from refnet.network.migrate import Migrated

network = Commands("Create and fill the citation network's tables.")
imports = Commands("Import a citation graph from a file.")


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


network.command("vault", hidden=True)(notes)


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
