"""`refnet demo`: a story told with real commands on a separate server."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from refnet.cli import options
from refnet.cli.context import current_settings, would
from refnet.cli.output import output
from refnet.cli.render import print_columns
from refnet.core.clock import utc_now
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import explained
from refnet.core.formatting import seconds
from refnet.demo.many import Many
from refnet.demo.many import play as play_many
from refnet.demo.stage import stage
from refnet.demo.story import Story, play
from refnet.settings import user_path

_PAPERS = 500


def demo(
    *,
    folder: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The demo's folder; default: `demo` in REFNET_HOME."),
    ] = None,
    papers: Annotated[
        int | None,
        typer.Option(
            min=10,
            max=100_000,
            metavar="N",
            help=f"The number of papers to collect; default: {_PAPERS}.",
        ),
    ] = None,
    many: Annotated[
        bool,
        typer.Option(
            "--many",
            help="Another story: two databases and two folders, a dropped table, a query on an older backup, a table as of a second.",
        ),
    ] = False,
    plan: options.Plan = False,
) -> None:
    """Lose everything in a sandbox and restore it from backups.

    A network of made-up papers is collected; it, its vault and a configuration are backed up, lost and restored. A
    page shows each step.
    """
    from refnet.network import migrate, note  # noqa: F401  # an extra that is missing is reported first

    if many and papers:
        raise RefnetError("--papers does not fit --many", "Omit one of them.", Exit.USAGE)
    place = user_path(folder or current_settings().home / "demo").absolute()
    if would(f"play the demo in {place}, in place of an earlier one there", plan=plan):
        return
    with stage(place, os.environ, _say) as made, explained(place):
        story = play_many(made) if many else play(made, papers or _PAPERS, utc_now)
    with explained(place):
        page = story.write_page(utc_now())
    if not output.quiet:
        _end(story, page)


def _say(line: str, title: bool) -> None:
    if not output.quiet:
        typer.secho(line, bold=title)
        sys.stdout.flush()


def _end(story: Story | Many, page: Path) -> None:
    print("\nTimes")
    rows = [
        (f"   {number}. {chapter.title}", seconds(chapter.seconds))
        for number, chapter in enumerate(story.chapters, 1)
    ]
    print_columns([*rows, ("   in all", seconds(story.seconds))], right=(1,))
    took = (
        f"Recovery took {seconds(story.recovery)} (RTO); the backup was {seconds(story.age)} old at the loss (RPO)."
        if isinstance(story, Story)
        else f"{len(story.answers)} results, each equal to what psql and sha256sum saw; nothing else changed."
    )
    print(f"\n{took}")
    print(f"Everything is in {story.folder}; no process is left running.")
    print(f"The complete story as a page: {page}")
    if isinstance(story, Story):
        print(f"The vault, for Obsidian: {story.folder / 'vault'}; begin in its folder index.")
