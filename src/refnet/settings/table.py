"""All settings: their keys, defaults and values.

This is not a library's work: `refnet --help` and every script pay for this import, and `refnet settings` must name
each value's origin. The key `recover.services` is REFNET_RECOVER_SERVICES.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from refnet.catalog.schedule import Retention, Schedule, TaskName, When
from refnet.catalog.source_name import LOCAL
from refnet.compose import COMPOSE_FILES
from refnet.core.errors import Exit, RefnetError, did_you_mean
from refnet.settings import converters, sources, urls
from refnet.settings.converters import key
from refnet.settings.encryption import parse_recipients, parse_signers
from refnet.settings.sources import SHORT, SHORT_KEYS, SourceSettings
from refnet.settings.stores import ENCRYPTED, StoreSettings
from refnet.settings.times import parse_retention, parse_schedule, parse_when, parse_zone
from refnet.settings.urls import StoreKind, StoreUrl

#: The beginning of the origin of a config_dir that is not set.
BY_COMPOSE_FILE = "the Compose file "
DEFAULT_ENTRIES = ("|".join(COMPOSE_FILES), ".env", "refnet.toml?", "monitoring/?", "scripts/?", "docs/?")


@dataclass(frozen=True)
class Settings:
    """The settings of a process. Paths are absolute; None: not configured."""

    #: RefNet's own folder.
    home: Path = key(converters.absolute_folder, default=Path("/"))
    #: The server; None: the embedded one. "own" names that one as a source, "none" leaves it out.
    database_url: str | None = key(converters.or_none(urls.own_or_url), secret=True)
    #: The folder of the artifacts.
    backup_dir: Path = key(converters.absolute_folder, default=Path("/"))
    #: The Obsidian vault; "none" leaves it out.
    vault_dir: Path = key(converters.or_none(converters.absolute_folder), default=Path("/"))
    #: The folder of the configuration; None: the current one, if it contains a Compose file. "none" leaves it out.
    config_dir: Path | None = key(converters.or_none(converters.absolute_folder))
    #: Parallel workers.
    jobs: int = key(converters.jobs, default=1)
    #: The folder of PostgreSQL's programs, searched first.
    postgres_bin_dir: Path | None = key(converters.absolute_folder, name="postgres.bin_dir")
    #: The server and the database as a role that restores logs in there; None: as database_url.
    restore_url: str | None = key(urls.database_url, name="database.restore_url", secret=True)
    #: Tables without which an artifact is not intact.
    required_tables: tuple[str, ...] | None = key(converters.names, name="database.required_tables")
    #: The protected entries of config_dir: a|b either, / a folder, ? optional.
    config_entries: tuple[str, ...] = key(converters.entries, default=DEFAULT_ENTRIES, name="config.entries")
    #: What is left out of config and of obsidian: rules as in .gitignore.
    exclude_config: tuple[str, ...] = key(sources.exclude_rules, default=(), name="exclude.config")
    exclude_obsidian: tuple[str, ...] = key(sources.exclude_rules, default=(), name="exclude.obsidian")
    #: Entries of config_dir that are left out on purpose: rules as in .gitignore.
    left_out_files: tuple[str, ...] = key(sources.exclude_rules, default=(), name="left_out.files")
    #: Databases of the server that are left out on purpose: names with * and ?.
    left_out_databases: tuple[str, ...] = key(converters.names, default=(), name="left_out.databases")
    #: Percent of a folder's bytes; `refnet check` warns if exclude leaves out more. 100: no check.
    left_out_percent: int = key(converters.percent, default=50, name="left_out.percent")
    #: True: leave out what is mounted in the folders of config and obsidian.
    one_file_system: bool = key(converters.flag, default=False)
    #: Redis or Valkey, for Celery; None: the embedded one.
    broker_url: str | None = key(urls.broker_url, secret=True)
    #: The name of this installation beside others on the machine; None: the one without a name.
    instance: str | None = key(converters.instance_name)
    #: The order of a backup of several sources: their names, databases, folders.
    backup_order: tuple[str, ...] = key(
        converters.names, default=("databases", "folders"), name="backup.order"
    )
    #: The schedule of the backups of the database; None: off.
    schedule_database: When | None = key(
        parse_schedule, default=parse_when("daily 02:00"), name="schedule.database"
    )
    #: The schedule of the backups of the configuration.
    schedule_config: When | None = key(
        parse_schedule, default=parse_when("sunday 03:00"), name="schedule.config"
    )
    #: The schedule of the backups of the vault.
    schedule_obsidian: When | None = key(
        parse_schedule, default=parse_when("daily 01:00"), name="schedule.obsidian"
    )
    #: The schedule of deleting old artifacts.
    schedule_prune: When | None = key(
        parse_schedule, default=parse_when("daily 04:00"), name="schedule.prune"
    )
    #: The schedule of drills.
    schedule_drill: When | None = key(
        parse_schedule, default=parse_when("monthly 1 05:00"), name="schedule.drill"
    )
    #: The schedule of the monitor.
    schedule_monitor: When | None = key(
        parse_schedule, default=parse_when("hourly :45"), name="schedule.monitor"
    )
    #: The schedule of looking for new papers that cite the seeds of crawls; None: off.
    schedule_update: When | None = key(parse_schedule, name="schedule.update")
    #: The schedule's time zone, such as Asia/Tokyo; None: the machine's.
    schedule_timezone: ZoneInfo | None = key(parse_zone, name="schedule.timezone")
    #: The retention of each source's artifacts.
    retention_database: Retention = key(parse_retention, default=Retention(days=7), name="retention.database")
    retention_config: Retention = key(parse_retention, default=Retention(days=28), name="retention.config")
    retention_obsidian: Retention = key(
        parse_retention, default=Retention(days=30), name="retention.obsidian"
    )
    #: Days for which a previous version, which a restore replaced, is kept.
    retention_previous: int = key(converters.days, default=7, name="retention.previous")
    #: Percent of the last artifact's tables; with fewer an artifact is shrunk. 0: no check.
    shrunk_tables: int = key(converters.percent, default=90, name="shrunk.tables")
    #: Percent of the last artifact's rows in a database; 0: no check.
    shrunk_rows: int = key(converters.percent, default=50, name="shrunk.rows")
    #: Percent of the last artifact's bytes of rows or files; 0: no check.
    shrunk_bytes: int = key(converters.percent, default=50, name="shrunk.bytes")
    #: Percent of the last artifact's files of config and obsidian; 0: no check.
    shrunk_files: int = key(converters.percent, default=50, name="shrunk.files")
    #: A backup whose proof could not run ends with exit code 3.
    prove_required: bool = key(converters.flag, default=True, name="prove.required")
    #: The programs of the server that proofs restore into; None: as for everything else.
    prove_bin_dir: Path | None = key(converters.absolute_folder, name="prove.bin_dir")
    #: Bytes of memory for a proof's files and a scratch server's page buffers; None: a quarter of what is free.
    prove_memory: int | None = key(converters.memory, name="prove.memory")
    #: A smaller artifact is a warning; 0: no check.
    monitor_min_bytes: int = key(converters.size, default=0, name="monitor.min_bytes")
    #: How each backup is compared with its database or folder: count, digest, or auto: digest small ones and once a week.
    prove_source: str = key(converters.proved_source, default="auto", name="prove.source")
    #: Days between two proofs of a source; 0: each backup is proven.
    prove_every: int = key(converters.days_between, default=0, name="prove.every")
    #: Bytes of pieces of remote stores that commands read before; 0: none are kept.
    cache_size: int = key(converters.cached, default=512 << 20, name="cache.size")
    #: How services are started: local or compose; None: they are not.
    recover_services: str | None = key(converters.services, name="recover.services")
    #: Services with data, started first.
    recover_storage: tuple[str, ...] = key(converters.commands, default=("postgres",), name="recover.storage")
    #: Services started when the data is restored.
    recover_application: tuple[str, ...] = key(converters.commands, default=(), name="recover.application")
    #: Services started after the application.
    recover_background: tuple[str, ...] = key(converters.commands, default=(), name="recover.background")
    #: Services started last: proxies, monitoring.
    recover_edge: tuple[str, ...] = key(converters.commands, default=(), name="recover.edge")
    #: A URL that answers 200 at the end of a recovery.
    recover_health_url: str | None = key(urls.web_url, name="recover.health_url")
    #: How long a recovery waits for services, in seconds.
    recover_seconds: int = key(converters.seconds, default=120, name="recover.seconds")
    #: The Compose service that makes this machine's backups: commands that write them run there; None: they run here.
    compose_service: str | None = key(converters.compose_service, name="compose.service")
    #: Commands before a backup of each source; one that fails stops it.
    hooks_before_backup: tuple[tuple[str, ...], ...] = key(
        converters.hooks, default=(), name="hooks.before_backup"
    )
    #: Commands after an artifact is made.
    hooks_after_backup: tuple[tuple[str, ...], ...] = key(
        converters.hooks, default=(), name="hooks.after_backup"
    )
    #: Commands before a restore of each source; one that fails stops it.
    hooks_before_restore: tuple[tuple[str, ...], ...] = key(
        converters.hooks, default=(), name="hooks.before_restore"
    )
    #: Commands after a source is restored.
    hooks_after_restore: tuple[tuple[str, ...], ...] = key(
        converters.hooks, default=(), name="hooks.after_restore"
    )
    #: Commands after a backup or a restore that failed.
    hooks_on_error: tuple[tuple[str, ...], ...] = key(converters.hooks, default=(), name="hooks.on_error")
    #: How long each command may take, in seconds.
    hooks_timeout: int = key(converters.hook_seconds, default=300, name="hooks.timeout")
    #: Apprise's URLs, which get a message about failures.
    notify_urls: tuple[str, ...] = key(urls.apprise_urls, default=(), name="notify.urls", secret=True)
    #: Pinged by backups; {source} is replaced.
    notify_backup_ping: str | None = key(urls.ping_url, name="notify.backup_ping", secret=True)
    #: Pinged by drills; {source} is replaced.
    notify_drill_ping: str | None = key(urls.ping_url, name="notify.drill_ping", secret=True)
    #: The folder of refnet-backup.log and refnet-restore.log: for root /var/log, else logs in home; None: no files.
    log_folder: Path | None = key(converters.log_folder, name="log.folder")
    #: The lowest level that is logged to stderr; None: none.
    log_level: str | None = key(converters.level, name="log.level")
    #: The public keys of age that copies in stores are encrypted to.
    encryption_recipients: tuple[str, ...] = key(parse_recipients, default=(), name="encryption.recipients")
    #: The signers that are trusted besides this machine's: fingerprints, or public keys of ssh.
    encryption_signers: tuple[str, ...] = key(parse_signers, default=(), name="encryption.signers")
    #: Encrypt the artifacts in the backup folder too.
    encryption_local: bool = key(converters.flag, default=False, name="encryption.local")
    #: The provider that is asked first: semantic_scholar or openalex; the other is asked what it does not know.
    crawl_provider: str = key(converters.provider, default="semantic_scholar", name="crawl.provider")
    #: The server of Semantic Scholar's Graph API.
    crawl_semantic_scholar_url: str = key(
        urls.web_url,
        default="https://api.semanticscholar.org/graph/v1",
        name="crawl.semantic_scholar_url",
    )
    #: The server of OpenAlex.
    crawl_openalex_url: str = key(urls.web_url, default="https://api.openalex.org", name="crawl.openalex_url")
    #: Requests a second to each of them, by all workers together; 0: no limit.
    crawl_requests_per_second: float = key(
        converters.requests_per_second, default=1.0, name="crawl.requests_per_second"
    )
    #: The key of Semantic Scholar's API; None: the pool that all users without a key share.
    crawl_api_key: str | None = key(converters.header_value, name="crawl.api_key", secret=True)
    #: The key of OpenAlex; None: only single works are asked for.
    crawl_openalex_key: str | None = key(converters.header_value, name="crawl.openalex_key", secret=True)
    #: The largest PDF that `refnet notes --pdfs` fetches, in bytes.
    crawl_pdf_bytes: int = key(converters.pdf_bytes, default=50 << 20, name="crawl.pdf_bytes")
    #: HOST:PORT of servers in your own network that it may ask too, also by http.
    crawl_pdf_servers: tuple[str, ...] = key(converters.servers, default=(), name="crawl.pdf_servers")
    #: An API like OpenAI's that writes summaries, up to /v1; None: the provider's or an extract.
    summarize_url: str | None = key(urls.web_url, name="summarize.url")
    #: The model there.
    summarize_model: str | None = key(converters.model, name="summarize.model")
    #: The key of that API.
    summarize_api_key: str | None = key(converters.header_value, name="summarize.api_key", secret=True)
    #: What browsers and programs sign in to `refnet serve` with; None: only this machine reaches it.
    web_token: str | None = key(converters.token, name="web.token", secret=True)
    #: What Prometheus reads /metrics with, and nothing else; None: web.token.
    web_metrics_token: str | None = key(converters.token, name="web.metrics_token", secret=True)
    #: The proxies that name a client's address in X-Forwarded-For: addresses or networks.
    web_proxies: tuple[str, ...] = key(converters.networks, default=(), name="web.proxies")
    #: Every source that the settings name, without its defaults: those of the short form, which are made from their keys,
    #: then the tables, in the order of the settings file.
    sources: Mapping[str, SourceSettings] = field(default_factory=dict)
    #: The sources of the short form that a key leaves out: "none".
    left_out: frozenset[str] = frozenset()
    #: The clusters: each database of a server is a source.
    clusters: Mapping[str, SourceSettings] = field(default_factory=dict)
    #: The stores of encrypted copies, by name.
    stores: Mapping[str, StoreSettings] = field(default_factory=dict)
    #: The settings file that was read.
    file: Path | None = None
    #: REFNET_CONFIG, if that or --config names it: other processes of RefNet need it to read the same file.
    variables: Mapping[str, str] = field(default_factory=dict)
    #: Key → the source of a value that is not the default.
    origins: Mapping[str, str] = field(default_factory=dict)
    #: Problems of the files that were read, printed at every run.
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        tables = {name: one for name, one in self.sources.items() if name not in SHORT}
        short = {name: self._short(name) for name in SHORT if self._is_named(name)}
        object.__setattr__(self, "sources", short | tables)

    def _is_named(self, name: str) -> bool:
        """Whether a key of the short form names the source `name`; the folder of a Compose file does not count."""
        if name in self.left_out:
            return False
        value, origin = self._value(SHORT[name]), self.origins.get(SHORT[name], "")
        if name == "config":
            return value is not None and not origin.startswith(BY_COMPOSE_FILE)
        return bool(origin) or (name == "database" and value is not None)

    def _short(self, name: str) -> SourceSettings:
        """The source `name` of the short form, as if it had a table."""
        found: dict[str, Any] = {field: self._value(key) for field, key in SHORT_KEYS[name].items()}
        return SourceSettings(name, "databases" if name == "database" else "folders", **found)

    def _value(self, key: str) -> Any:
        return getattr(self, keys()[key].name)

    def defaults_to(self, source: str) -> bool:
        """Whether the default of `source` applies: no key names it, and no table names any source."""
        tables = self.clusters or not self.sources.keys() <= SHORT.keys()
        return source in SHORT and not tables and source not in {*self.sources, *self.left_out}

    def says(self, key: str) -> str:
        """The keyword at `key` instead of a URL or folder: `none`, `own`, or ""."""
        if any(SHORT[name] == key for name in self.left_out):
            return converters.NO_SOURCE
        own = key == SHORT["database"] and "database" in self.sources and not self.database_url
        return converters.OWN_SERVER if own else ""

    @property
    def schedule(self) -> Schedule:
        """Scheduled times of all tasks and sources."""
        found = {
            name.value: getattr(self, f"schedule_{name}")
            for name in TaskName
            if name not in SHORT or name in self.sources or self.defaults_to(name)
        }
        found |= {name: self.of(name).schedule for name in (*self.clusters, *self.sources)}
        on = {name: when for name, when in found.items() if when}
        clusters = {name: one.cluster for name, one in self.sources.items() if one.cluster}
        if TaskName.UPDATE.key not in self.origins:  # who keeps no network has no such task
            del found[TaskName.UPDATE.value]
        off = tuple(name for name in found if name not in on and name not in clusters)
        return Schedule(on, self.schedule_timezone, off, clusters)

    def of(self, source: str) -> SourceSettings:
        """Settings of `source` with defaults; RefnetError (USAGE) for an unknown source.

        A source of the short form always has settings: it can be restored even if no key names it.
        """
        if own := self.sources.get(source) or self.clusters.get(source):
            return self._with_defaults(own)
        if source in SHORT:
            return self._with_defaults(self._short(source))
        raise RefnetError(
            f"the source {source} is not configured",
            f"Add [databases.{source}] or [folders.{source}] to the settings file; `refnet settings` shows what is there.",
            Exit.USAGE,
        )

    @property
    def named(self) -> tuple[SourceSettings | StoreSettings, ...]:
        """Sources, clusters and stores with their own tables."""
        tables = (one for name, one in self.sources.items() if name not in SHORT)
        return (*tables, *self.clusters.values(), *self.stores.values())

    def store(self, name_or_url: str) -> StoreSettings:
        """Store by name or URL; RefnetError (USAGE) for neither."""
        stores = self.every_store
        if found := stores.get(name_or_url):
            return found
        if ":" in name_or_url:
            given = StoreSettings.from_url(name_or_url)
            return next((one for one in stores.values() if one.same_place(given)), given)
        raise RefnetError(
            f"the store {name_or_url[:80]!r} is not configured",
            f"{did_you_mean(name_or_url, stores)}Add [stores.NAME] to the settings file, or give a URL.",
            Exit.USAGE,
        )

    @property
    def every_store(self) -> Mapping[str, StoreSettings]:
        """All stores with encrypted artifacts: with encryption.local the one in the backup folder, then the remote ones."""
        if not self.encryption_local:
            return self.stores
        place = StoreUrl(StoreKind.FILE, "", str(self.backup_dir / ENCRYPTED))
        return {LOCAL: StoreSettings(LOCAL, place), **self.stores}

    def recipients(self) -> tuple[str, ...]:
        """Recipients of copies; RefnetError (USAGE) without any, so that nothing is sent as plaintext."""
        if self.encryption_recipients:
            return self.encryption_recipients
        local = "encryption.local is true, and " if self.encryption_local else ""
        raise RefnetError(
            f"{local}encryption.recipients is not set, and nothing leaves this machine unencrypted",
            "`refnet key new` makes a key; put its recipient there.",
            Exit.USAGE,
        )

    def stores_of(self, source: str) -> tuple[StoreSettings, ...]:
        """Stores that receive the copies of `source`."""
        cluster = self.sources[source].cluster if source in self.sources else ""
        return tuple(
            one
            for one in self.stores.values()
            if one.sources is None or not {source, cluster}.isdisjoint(one.sources)
        )

    def _with_defaults(self, own: SourceSettings) -> SourceSettings:
        """`own` with defaults for unset keys, from the standard database or the vault."""
        others = "obsidian" if own.table == "folders" else "database"
        standard = own.name if own.name in SHORT else others
        found: dict[str, Any] = {"one_file_system": self.one_file_system, "min_bytes": self.monitor_min_bytes}
        found |= {
            name: getattr(self, name)
            for name in (
                *("shrunk_tables", "shrunk_rows", "shrunk_bytes", "shrunk_files"),
                *("prove_source", "prove_every"),
            )
        }
        found |= {"retention": getattr(self, f"retention_{standard}")}
        missing = {name: value for name, value in found.items() if getattr(own, name) is None}
        if own.name in SHORT or own.key_of("schedule") not in self.origins:
            missing["schedule"] = getattr(self, f"schedule_{standard}")
        return replace(own, **missing)


@cache
def keys() -> dict[str, Field[Any]]:
    """All keys of refnet.toml, in order."""
    return {f.metadata["name"] or f.name: f for f in fields(Settings) if f.metadata}
