"""The demo's story as one page that a person reads: what was lost, how it came back, and what to try next."""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Iterable
from datetime import datetime, tzinfo
from html import escape
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

from refnet.demo.independent_check import Witness
from refnet.demo.stage import Chapter, Step
from refnet.demo.story import Loss, Told
from refnet.recovery.model.artifact import SourceName
from refnet.recovery.model.formatting import plural
from refnet.recovery.page import bars, document, figures, moment, number, seconds, size, table

NAME = "story.html"
_FOOTER = """<p>The network is made up (its papers have the provenance <code>sample</code>), and so are the vault and
the configuration. psql and sha256sum, which are no part of RefNet, saw the same before the loss and after it.</p>
<p>Not shown here: passwords of roles, services that start on what came back, and the time that a new machine, and
data of your size, would take.</p>"""


def write(told: Told, now: datetime, zone: tzinfo | None = None) -> Path:
    """Write the page into the demo's folder; its path. Times are shown in `zone` (None: the machine's)."""
    path = told.folder / NAME
    path.write_text(page(told, now, zone), encoding="utf-8")
    return path


def page(told: Told, now: datetime, zone: tzinfo | None = None) -> str:
    """The page, told at `now`."""
    sections = (
        _losses(told.losses),
        _story(told.chapters),
        _compared(told),
        _set(told, zone),
        _places(told),
        _next(told),
    )
    return document(
        "RefNet: everything was lost, and everything came back",
        _header(told, now, zone),
        "\n".join(f"<section>\n{section}\n</section>" for section in sections),
        _FOOTER,
    )


def _header(told: Told, now: datetime, zone: tzinfo | None) -> str:
    shown = figures(
        [
            ("Recovery took (RTO)", seconds(told.recovery)),
            ("Age of the backup at the loss (RPO)", seconds(told.age)),
            ("Rows and files compared", f"{told.before.rows:,} + {len(told.before.files):,}"),
            ("Differences", str(len(told.before.differences(told.after)))),
        ]
    )
    where = (
        f"{moment(now, zone)}, {platform.node()}, RefNet {version('refnet')}, {seconds(told.seconds)} in all"
    )
    return f"""<p class="soft">RefNet’s demo</p>
<h1>Everything was lost, and everything came back</h1>
<p>A network of {plural(told.papers, "made-up paper")} in PostgreSQL, its Obsidian vault and its configuration were
backed up, every backup was proven by restoring it, and then they were lost in three ways.</p>
{shown}
<p class="soft">{escape(where)}</p>"""


def _losses(losses: Iterable[Loss]) -> str:
    cards = "\n".join(
        f"""<div><h3>{escape(loss.what)}</h3>
<dl class="facts"><dt>before</dt><dd>{escape(loss.before)}</dd><dt>after the loss</dt><dd>{escape(loss.after)}</dd>
<dt>brought back</dt><dd><span class="passed">all, in {seconds(loss.seconds)}</span></dd></dl>
<p><code>{escape(loss.typed)}</code></p></div>"""
        for loss in losses
    )
    return f'<h2>Lost, and brought back</h2>\n<div class="cards">\n{cards}\n</div>'


def _story(chapters: tuple[Chapter, ...]) -> str:
    named = {f"{count}. {chapter.title}": chapter.seconds for count, chapter in enumerate(chapters, 1)}
    told = "\n".join(_chapter(count, chapter) for count, chapter in enumerate(chapters, 1))
    return f"""<h2>The story</h2>
{bars(named, "Every command is a process of its own, started as you would type it; its start is in its time.")}
{told}"""


def _chapter(count: int, chapter: Chapter) -> str:
    steps = "\n".join(_step(step) for step in chapter.steps)
    found = f'\n<p class="found passed">→ {escape(chapter.found)}</p>' if chapter.found else ""
    return f"""<h3>{count}. {escape(chapter.title)} <span class="soft">{seconds(chapter.seconds)}</span></h3>
<p>{escape(chapter.says)}</p>
{steps}{found}"""


def _step(step: Step) -> str:
    typed = (
        f'<code class="typed">{escape(step.typed)}</code> <span class="soft">{seconds(step.seconds)}</span>'
    )
    if not step.said.strip():
        return f'<p class="step">{typed}</p>'
    return (
        f'<details class="step"><summary>{typed}</summary>\n<pre>{escape(step.said.rstrip())}</pre></details>'
    )


def _compared(told: Told) -> str:
    head = [("what", False), ("before", True), ("after", True), ("content", False)]
    rows = [
        _pair(
            name,
            f"{told.before.tables[name][0]:,}",
            f"{told.after.tables[name][0]:,}",
            told.before.tables[name] == told.after.tables[name],
        )
        for name in told.before.tables
    ]
    rows += [
        _folder(name, folder, told.before, told.after)
        for name, folder in (("notes of the vault", "vault"), ("files of the configuration", "config"))
    ]
    return f"""<h2>Before and after</h2>
<p>Rows as psql counted them and MD5 of their content as the server summed it up; files by sha256sum. All of it is in
{_link("before.txt")} and {_link("after.txt")}; {_link("witness.sql")} is what psql ran.</p>
{table(head, rows)}"""


def _folder(name: str, folder: str, before: Witness, after: Witness) -> str:
    mine, its = before.below(folder), after.below(folder)
    return _pair(name, f"{len(mine):,}", f"{len(its):,}", mine == its)


def _pair(name: str, before: str, after: str, equal: bool) -> str:
    kind, word = ("passed", "equal") if equal else ("failed", "differs")
    return (
        f'<th scope="row">{escape(name)}</th><td{number()}>{before}</td><td{number()}>{after}</td>'
        f'<td><span class="{kind}">{word}</span></td>'
    )


def _set(told: Told, zone: tzinfo | None) -> str:
    head = [
        ("source", False),
        ("artifact", False),
        ("size", True),
        ("holds the state of", False),
        ("state", False),
    ]
    rows = [
        f'<th scope="row">{source}</th><td>{_link(f"backups/{source}/{entry.name}", entry.name)}</td>'
        f"<td{number()}>{size(entry.manifest.size)}</td>"
        f'<td class="line">{escape(moment(entry.created, zone))}</td><td><span class="passed">{entry.state}</span></td>'
        for source, entry in told.entries.items()
    ]
    return f"""<h2>The set</h2>
<p>All that was left, and all that was needed. Each artifact is a plain file: <code>zcat … | psql</code> and
<code>tar -xzf</code> read it without RefNet.</p>
{table(head, rows)}"""


def _places(told: Told) -> str:
    places = [
        ("backups/", "the artifacts, with their manifests and their evidence"),
        ("vault/", "the notes: open this folder in Obsidian"),
        ("config/", "the configuration; its refnet.toml is read by commands that run there"),
        ("home/", "RefNet’s own" + ("" if _elsewhere(told) else ": the database, stopped")),
    ]
    items = "".join(f"<dt>{_link(name)}</dt><dd>{escape(what)}</dd>" for name, what in places)
    items += "".join(
        f"<dt><code>{escape(path)}</code></dt><dd>the database, stopped, where its server’s user can enter</dd>"
        for path in _elsewhere(told)
    )
    return f"""<h2>Where everything lies</h2>
<p><code>{escape(str(told.folder))}</code></p>
<dl class="facts">{items}</dl>"""


def _elsewhere(told: Told) -> list[str]:
    """The cluster's folder, where it could not be in RefNet's home."""
    return [] if told.cluster.is_relative_to(told.folder) else [str(told.cluster)]


def _next(told: Told) -> str:
    all_of_it = shlex.join(["rm", "-rf", str(told.folder), *_elsewhere(told)])
    bin_folder = Path(sys.executable).parent
    database, vault = (told.entries[source].name for source in (SourceName.DATABASE, SourceName.OBSIDIAN))
    lines = [
        f"export PATH={shlex.quote(str(bin_folder))}:$PATH",
        f"cd {shlex.quote(str(told.folder / 'config'))}",
        "refnet list                     # the artifacts, and how far each is proven",
        "refnet monitor                  # whether everything is protected",
        "refnet diff obsidian            # what differs from what is live",
        f"zcat ../backups/database/{database} | head -20",
        f"tar -tzf ../backups/obsidian/{vault} | head",
        "refnet postgres start           # and how psql reaches it",
        "refnet drill                    # prove it all again, with a report like this page",
        "refnet postgres stop",
    ]
    return f"""<h2>Try next</h2>
<pre id="next">{escape(chr(10).join(lines))}</pre>
<p>When you have seen enough: <code>{escape(all_of_it)}</code></p>"""


def _link(path: str, text: str = "") -> str:
    return f'<a href="{quote(path)}"><code>{escape(text or path)}</code></a>'
