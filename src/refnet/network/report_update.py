"""Reports an update of the network: a message, and the vault with a note about what is new."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from refnet.catalog.artifact import Progress, silent
from refnet.network import SESSION
from refnet.network.crawl import CrawlReports, run, start_update
from refnet.network.crawls import CrawlResult
from refnet.network.migrate import migrate
from refnet.network.news import News, news
from refnet.network.vault import FOLDER, WrittenVault, write_vault
from refnet.postgres.session import Target
from refnet.settings import Settings

#: Sends a message, title and text; returns a sentence for each service that did not accept it.
Send = Callable[[str, str], list[str]]
#: The new papers whose details an update of the scheduler collects, at most.
_MOST = 1000


@dataclass(frozen=True)
class ReportedUpdate:
    """What is new, and how it was reported."""

    news: News
    #: None: the vault has no notes of papers yet.
    vault: WrittenVault | None
    #: A sentence for each service that did not accept the message.
    failures: list[str] = field(default_factory=list)


def run_update(
    target: Target, settings: Settings, send: Send, reports: CrawlReports
) -> tuple[CrawlResult, int]:
    """Look for new papers in the network of `target` and report them; return the crawl, and how many it found."""
    migrate(target)
    done = run(target, settings, start_update(target, _MOST), reports)
    reported = report_update(target, settings, done.crawl, send)
    for sentence in reported.failures if reported else ():
        reports.say(sentence)
    return done, len(reported.news.papers) if reported else 0


def report_update(
    target: Target, settings: Settings, crawl: int, send: Send, progress: Progress = silent
) -> ReportedUpdate | None:
    """Report what the crawl `crawl` found; None if it is no update, or has not ended.

    A message is sent if there is something new. RefnetError if the vault cannot be written; the message is sent before.
    """
    with target.connect(SESSION) as connection:
        found = news(connection, crawl)
    if found is None:
        return None
    failures: list[str] = []
    if found.papers:
        count, *lines = found.lines()
        failures = send(count, "\n".join(lines))
    written = None
    if (settings.vault_dir / FOLDER).is_dir():
        written = write_vault(target, settings.vault_dir, progress, cache=settings.home / "cache")
    return ReportedUpdate(found, written, failures)
