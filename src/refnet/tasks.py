"""The tasks of Celery: each calls an action and raises its errors.

A message carries the time at which it was asked for, and asks for an artifact no older than that. So a message that
arrives twice, or late after an outage, makes one backup.
"""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import datetime
from typing import Any

from celery import Celery, Task
from celery.signals import before_task_publish, worker_init
from kombu.exceptions import OperationalError

from refnet import servers, wiring
from refnet.actions.backup import Options, backup
from refnet.actions.backup_result import Backup
from refnet.actions.backup_together import Result, back_up_together
from refnet.actions.choose import select
from refnet.actions.cluster_databases import find_databases
from refnet.actions.drill import drill, drilled_since
from refnet.actions.monitor import monitor as run_monitor
from refnet.actions.prune import prune as run_prune
from refnet.actions.prune import prune_stores
from refnet.actions.recovery_drill import drill_recovery
from refnet.actions.watching import open_watch
from refnet.broker import server, transport
from refnet.catalog.manifest import Level, utc
from refnet.catalog.monitoring import Status
from refnet.catalog.run import Reason, RunKind
from refnet.catalog.schedule import TaskName
from refnet.catalog.source_name import STANDARD, SourceName
from refnet.context import Context, read_settings
from refnet.core.clock import utc_now
from refnet.core.errors import Exit, RefnetError
from refnet.core.extras import needed
from refnet.core.formatting import plain
from refnet.network import known
from refnet.network.crawls import CrawlResult
from refnet.scheduling import beat, celery_settings, places
from refnet.settings import Settings
from refnet.sources import kind_of
from refnet.telemetry.notify import sender
from refnet.telemetry.watch import AtWork

_log = logging.getLogger(__name__)
#: Seconds between two tries, and how often a failed one is retried.
RETRY_SECONDS, RETRIES = 300, 3
#: Seconds that one task works on a crawl, and the papers that one task summarizes.
CRAWL_SECONDS, SUMMARIES = 600, 200
#: Tries while another run works on the source (one day); they count separately.
WAITS = 24 * 3600 // RETRY_SECONDS
#: The variable of the settings file that the command names by whose process the tasks run; see `Settings.variables`.
_variables: dict[str, str] = {}


def use(settings: Settings) -> None:
    """Let the tasks read the settings file of `settings`."""
    _variables.update(settings.variables)


def current_settings() -> Settings:
    """Return the settings of this process."""
    return read_settings(_log.warning, _variables)


def configuration() -> dict[str, Any]:
    """Return Celery's configuration, from the settings."""
    settings = current_settings()
    return celery_settings.configuration(settings, _priorities(settings))


def _priorities(settings: Settings) -> dict[SourceName, int]:
    """The configured sources, and the priority of the backup of each."""
    return {one: kind_of(one).priority for one in wiring.configured(settings)}


transport.register()
app = Celery("refnet", set_as_current=False, events=transport.WorkerEvents)
app.add_defaults(configuration)


def __getattr__(name: str) -> Any:
    if name == "CELERY_BEAT_SCHEDULE":  # made when it is asked for: importing this module reads no settings
        settings = current_settings()
        return beat.beat_schedule(settings.schedule, _priorities(settings))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@worker_init.connect
def _start_broker(**_: Any) -> None:
    """Start the embedded broker where there is no other; reading the configuration alone starts nothing."""
    servers.broker(current_settings())


@before_task_publish.connect
def _add_time(headers: dict[str, Any], **_: Any) -> None:
    """Add the time at which the task was asked for; a retry keeps the first one."""
    headers.setdefault("asked", utc(utc_now()))


class Retried(Task):
    """A task that is retried after a transient failure; every other failure is raised."""

    throws = (RefnetError,)
    max_retries = RETRIES
    default_retry_delay = RETRY_SECONDS

    def __call__(self, *args: Any, **options: Any) -> Any:
        try:
            return self.run(*args, **options)
        except RefnetError as error:
            if not error.transient:
                raise
            waits = int(self.request.get("waits") or 0)
            if error.code is Exit.LOCKED and waits < WAITS:
                waits += 1
            headers = {**(self.request.headers or {}), "waits": waits}
            raise self.retry(exc=error, headers=headers, max_retries=RETRIES + waits) from error

    def apply_async(self, *args: Any, **options: Any) -> Any:
        """Send the task; start the embedded broker first if a user sends it. Workers and beat wait for theirs."""
        if self.request.called_directly and options.get("producer") is None:
            _start_broker()
        return super().apply_async(*args, **options)

    @property
    def asked(self) -> datetime:
        """Return when this run was first asked for."""
        asked = self.request.get("asked")
        return datetime.fromisoformat(asked) if asked else utc_now()

    @property
    def again(self) -> bool:
        """Return whether a failure of this try is retried."""
        return bool(self.request.retries - int(self.request.get("waits") or 0) < RETRIES)


def _task(name: TaskName) -> Callable[[Callable[..., Any]], Any]:
    _, task, _ = beat.ENTRIES[name]
    made: Callable[[Callable[..., Any]], Any] = app.task(base=Retried, bind=True, name=task, shared=False)
    return made


@_task(TaskName.DATABASE)
def backup_database(self: Retried, *others: str) -> dict[str, Any]:
    """Back up the database, and `others` that have its time."""
    return _together(self, (SourceName.DATABASE, *others)) if others else _backup(self, SourceName.DATABASE)


@_task(TaskName.CONFIG)
def backup_config(self: Retried) -> dict[str, Any]:
    return _backup(self, SourceName.CONFIG)


@_task(TaskName.OBSIDIAN)
def backup_obsidian(self: Retried) -> dict[str, Any]:
    return _backup(self, SourceName.OBSIDIAN)


@app.task(base=Retried, bind=True, name=beat.BACKUP, shared=False)
def backup_source(self: Retried, *names: str) -> dict[str, Any]:
    """Back up the sources `names` of the settings; the name of a cluster is all of its databases and its roles."""
    return _together(self, names)


@_task(TaskName.DRILL)
def recovery_drill(self: Retried) -> dict[str, Any]:
    context = _context()
    selected = select(context, None)
    if drilled_since(context, selected, self.asked):
        return {"outcome": "done before"}
    if context.settings.encryption_local:  # without the recovery key, which is not on this machine
        found, report = drill(context, selected, again=self.again)
    else:
        found, report = drill_recovery(context, again=self.again)
    if found.exit is Exit.DAMAGED:
        raise RefnetError(
            "the drill failed: an artifact is damaged", f"The report is {report.page}.", found.exit
        )
    return {"outcome": found.outcome.value, "report": str(report.page)}


@_task(TaskName.PRUNE)
def prune(_self: Retried) -> dict[str, Any]:
    """Prune every source; an error of one does not keep the others from it."""
    context = _context()
    names = wiring.known(context.settings)
    with open_watch(context).run(RunKind.PRUNE):
        plans, errors = run_prune(context, names)
        copies, failed = prune_stores(context, names) if context.settings.every_store else ([], [])
        if errors or failed:
            raise [*errors, *failed][0]
    deleted = [one.entry.name for plan in plans for one in plan.deleted]
    stores = {"stores": {one.store: len(one.deleted) for one in copies}} if copies else {}
    return {"outcome": "done", "deleted": deleted, **stores}


@_task(TaskName.MONITOR)
def monitor(_self: Retried) -> dict[str, Any]:
    found = run_monitor(_context())
    checks, status = found.checks, found.status
    if status in {Status.CRITICAL, Status.UNKNOWN}:
        bad = next(check for check in checks if check.status is status)
        raise RefnetError(
            f"{status.upper()}: {bad.source or 'the store'}: {bad.says}",
            "`refnet monitor` shows every check.",
        )
    says = [f"{c.source or 'store'}: {c.says}" for c in checks if c.status is Status.WARNING]
    return {"outcome": status.value, "warnings": says}


@_task(TaskName.UPDATE)
def update_network(self: Retried) -> dict[str, Any]:
    """Look for new papers and report them, as `refnet crawl --update` does; like `crawl`, in several tasks."""
    with needed("network"):
        from refnet.network.crawl import CrawlReports
        from refnet.network.report_update import run_update
    settings, reports = current_settings(), CrawlReports(_pause(), _log.warning)
    send = sender(settings.notify_urls)
    with open_watch(_context()).run(RunKind.CRAWL) as at_work:
        try:
            done, new = run_update(servers.existing_server(settings), settings, send, reports)
            _judge(at_work, [done])
        except _PauseError:
            self.apply_async()
            return {"outcome": "continued by another task"}
    return {"outcome": done.state, "crawl": done.crawl, "new": new}


def _judge(at_work: AtWork | None, crawls: Sequence[CrawlResult]) -> None:
    """Record in the run of `crawls` what the first incomplete one lacks."""
    if at_work and (problem := next(filter(None, (one.problem for one in crawls)), "")):
        at_work.failed(Reason.OTHER, plain(problem))


class _PauseError(Exception):
    """The time of one task is over, and the crawl is not."""


def _pause() -> Callable[[object], None]:
    """Return what raises _PauseError from now on, after `CRAWL_SECONDS`."""
    end = time.monotonic() + CRAWL_SECONDS

    def pause(_standing: object) -> None:
        if time.monotonic() > end:
            raise _PauseError

    return pause


@app.task(base=Retried, bind=True, name="refnet.tasks.crawl", shared=False)
def crawl(self: Retried, number: int | None = None) -> dict[str, Any]:
    """Work on the crawl `number`, or on all that have not ended.

    After `CRAWL_SECONDS` the rest is sent as another task: so a worker stops soon, and a backup that is due gets its turn.
    Every worker that takes such a task shares the work; what a killed one left is in the table `jobs`.
    """
    with needed("network"):
        from refnet.network import crawl as crawling
    settings, reports = current_settings(), crawling.CrawlReports(standing=_pause())
    target = known(servers.existing_server(settings))
    numbers = crawling.unfinished(target) if number is None else [number]
    with open_watch(_context()).run(RunKind.CRAWL) if numbers else nullcontext() as at_work:
        try:
            done = [crawling.run(target, settings, one, reports) for one in numbers]
            _judge(at_work, done)
        except _PauseError:
            self.apply_async(args=() if number is None else (number,))
            return {"outcome": "continued by another task"}
    return {"outcome": "done", "crawls": {one.crawl: one.state for one in done}}


@app.task(base=Retried, bind=True, name="refnet.tasks.summarize", shared=False)
def summarize(self: Retried) -> dict[str, Any]:
    """Summarize papers as `refnet summarize` does, `SUMMARIES` at most; more are sent as another task."""
    with needed("network"):
        from refnet.network import summarize as summarizing
    settings = current_settings()
    done = summarizing.summarize(known(servers.existing_server(settings)), settings, SUMMARIES)
    if done.stopped:
        raise done.stopped
    if done.made + done.failed >= SUMMARIES:
        self.apply_async()
    return {"outcome": "done", "model": done.model, "made": done.made, "failed": done.failed}


@app.task(base=Retried, bind=True, name="refnet.tasks.generate", shared=False)
def generate(_self: Retried) -> dict[str, Any]:
    """Write the network into the vault, as `refnet notes` does."""
    with needed("network"):
        from refnet.network.vault import write_vault
    settings = current_settings()
    done = write_vault(
        known(servers.existing_server(settings)), settings.vault_dir, cache=settings.home / "cache"
    )
    return {"outcome": "done", "new": done.new, "changed": done.changed, "skipped": done.skipped[:100]}


def send_crawl(number: int) -> None:
    """Send the task for the crawl `number`; RefnetError if the broker does not take it. RefNet's own is started."""
    settings = current_settings()
    url, queue = servers.broker(settings), places.queue_name("crawl", settings.instance)
    server.check(url)
    try:
        with _connected(url) as connection:
            # nobody asks for the result, and its backend is that of the settings that `app` read first
            options = {"queue": queue, "retry": False, "ignore_result": True}
            crawl.apply_async(args=(number,), connection=connection, **options)
    except OperationalError as error:
        raise RefnetError(
            f"the broker rejects the task: {error}", "Retry when it answers.", transient=True
        ) from None


def queues_of_workers(url: str) -> list[Any]:
    """Return the answers of the workers at the broker `url` within a second: {worker: its queues}.

    A broker that ends meanwhile is kombu's OperationalError, redis' RedisError or OSError.
    """
    with _connected(url) as connection:
        ask: Any = transport.Questions
        return list(ask("celery", type="fanout", connection=connection).multi_call("active_queues"))


def _connected(url: str) -> Any:
    """Return a connection to the broker `url` of its own: the pools of `app` keep the broker of its first settings."""
    options = {"socket_timeout": server.TIMEOUT_SECONDS, "max_retries": 0}
    return app.connection_for_write(url, transport_options=options)


def _context() -> Context:
    return Context(current_settings(), note=_log.warning, service=True)


def _together(task: Retried, names: Sequence[str]) -> dict[str, Any]:
    """Back up `names`, the snapshots close together; an error of one does not keep the others from it."""
    context, failed = _context(), dict[str, RefnetError]()
    clusters = [name for name in names if name in context.settings.clusters]
    if clusters:
        context, failed = find_databases(context, clusters)
    there = {str(one): one for one in (*STANDARD, *wiring.known(context.settings))}
    for name in names:
        context.settings.of(name)  # raises where no settings name it
    found = wiring.expanded(context.settings, [there.get(name, name) for name in names])
    if len(found) == 1 and not failed:
        return _backup(task, found[0])
    results: dict[SourceName, Result] = {}
    options = Options(again=task.again, since=task.asked)
    jobs = context.settings.jobs
    back_up_together(lambda _: nullcontext(context), found, options, jobs, results.__setitem__)
    errors = [*failed.values(), *(one for one in results.values() if isinstance(one, RefnetError))]
    said = {str(name): _said(one) for name, one in results.items() if not isinstance(one, RefnetError)}
    if errors:
        raise max(errors, key=lambda one: not one.transient)  # what a retry cannot change comes first
    return {"outcome": "done", "sources": said}


def _backup(task: Retried, name: SourceName) -> dict[str, Any]:
    """Back up `name`, unless the catalog has an artifact from after the task was asked for."""
    return _said(backup(_context(), name, Options(again=task.again, since=task.asked)))


def _said(result: Backup | None) -> dict[str, Any]:
    """Return the result of a task; RefnetError if what was made is damaged."""
    if result is None:
        return {"outcome": "not configured"}
    artifact = result.manifest.name
    if result.earlier and not result.uncopied:
        return {"outcome": "done before", "artifact": artifact}
    if result.uncopied and not result.damaged:
        raise result.uncopied
    if result.damaged:
        raise RefnetError(
            f"{artifact} is damaged: the restored data differ from the backup",
            f"See `refnet show {artifact}`; check this machine's disk and memory.",
            result.exit,
        )
    if result.unaccepted:
        raise RefnetError(
            f"{artifact} is complete, but must be accepted: {'; '.join(result.unaccepted)}",
            f"`refnet accept {artifact}` if that is intended.",
            result.exit,
        )
    if result.unproven and result.proof:
        raise RefnetError(
            f"{artifact} is complete, but not proven: {'; '.join(result.proof.reasons)}",
            f"See `refnet show {artifact}`; where no proof can run, set prove.required = false.",
            result.exit,
        )
    level = result.proof.level if result.proof and result.proof.level else Level.WRITTEN
    return {"outcome": "done", "artifact": artifact, "level": level.value}
