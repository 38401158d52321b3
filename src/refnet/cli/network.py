"""`refnet network migrate|sample|vault`, `refnet import cora`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refnet.cli.context import current_settings, print_json, progress
from refnet.errors import Exit, RefnetError

if TYPE_CHECKING:
    from refnet.postgres.session import Target

network = typer.Typer(no_args_is_help=True, help="The citation network's tables: make them, fill them.")
imports = typer.Typer(no_args_is_help=True, help="Load a citation graph from a file.")

_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@network.command()
def migrate(as_json: _Json = False) -> None:
    """Bring the database to this RefNet's schema; nothing where it is there already."""
    from refnet.network.migrate import migrate as run

    target = _target()
    migrated = run(target)
    if migrated.before == migrated.after:
        said = f"{target.name}: schema {migrated.after}, nothing to do"
    else:
        said = f"{target.name}: schema {migrated.after} (before: {migrated.before or 'none'})"
    _report({"database": target.name, **asdict(migrated)}, said, as_json)


@network.command()
def sample(
    papers: Annotated[int, typer.Option(min=1, max=100_000_000, help="How many papers.")] = 10_000,
    seed: Annotated[int, typer.Option(help="The same seed and number make the same rows.")] = 1,
    as_json: _Json = False,
) -> None:
    """Fill an empty database with a made-up network, marked as made up."""
    from refnet.network.migrate import migrate as run
    from refnet.network.sample import Shape, make

    target = _target()
    run(target)
    with progress("sample") as shown:
        made = make(target, Shape(papers, seed), shown)
    rows = "\n".join(f"  {table:<14}{count:>12,} rows" for table, count in made.rows.items())
    size = sum(made.sizes.values()) / 1e6
    _report(
        {"database": target.name, "made_up": True, "seed": seed, **asdict(made)},
        f"{target.name}: a made-up network of seed {seed}, {size:,.1f} MB; its papers have the provenance `sample`\n{rows}",
        as_json,
    )


@network.command()
def vault(
    plan: Annotated[bool, typer.Option("--plan", help="Show what would be done, and write nothing.")] = False,
    as_json: _Json = False,
) -> None:
    """Write the network into the Obsidian vault: one note a paper; what its reader wrote stays."""
    from refnet.cli import acting
    from refnet.network.vault import write_vault

    settings = current_settings()
    target = acting.server(settings)
    with progress("vault") as shown:
        done = write_vault(target, settings.vault_dir, shown, plan=plan)
    would = "would be " if plan else ""
    counts = f"{done.new:,} notes {would}new, {done.changed:,} {would}changed, {done.unchanged:,} unchanged"
    said = [
        f"{settings.vault_dir}: {counts}",
        *(f"  left alone: {skipped}" for skipped in done.skipped),
        *(f"  its paper is not in the database: {gone}" for gone in done.gone),
    ]
    _report({"vault": str(settings.vault_dir), "plan": plan, **asdict(done)}, "\n".join(said), as_json)


@imports.command()
def cora(
    file: Annotated[Path, typer.Argument(help="Lines of: cited, tab, citing.")], as_json: _Json = False
) -> None:
    """Load citations in the format of cora.cites; what is there already is left as it is."""
    from refnet.network.cora import import_cora
    from refnet.network.migrate import migrate as run

    if not file.is_file():
        raise RefnetError(f"{file} is not a file", "Name a file in the format of cora.cites.", Exit.USAGE)
    target = _target()
    run(target)
    with progress("import") as shown:
        done = import_cora(target, file, shown)
    _report(
        {"database": target.name, **asdict(done)},
        f"{target.name}: {done.citations:,} lines read, {done.new_papers:,} papers and"
        f" {done.new_citations:,} citations were new",
        as_json,
    )


def _target() -> Target:
    from refnet import servers

    return servers.server(current_settings())


def _report(values: dict[str, Any], said: str, as_json: bool) -> None:
    from refnet.cli import acting

    settings = current_settings()
    if as_json:
        print_json(values | acting.values(settings))
        return
    print(acting.line(settings))
    print(said)
