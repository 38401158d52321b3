"""Journal, log, pings and messages around a run. Their failures never fail the run."""

import os
import pwd
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from signal import SIGINT
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from refnet.catalog.artifact import Progress
from refnet.catalog.manifest import Entry
from refnet.catalog.run import EXPECTED, Ended, Origin, Reason, Run, RunKind, reason_of
from refnet.catalog.source_name import SourceName
from refnet.core.clock import Clock
from refnet.core.errors import RefnetError
from refnet.core.formatting import plain
from refnet.core.signals import ended_by
from refnet.settings import STARTED_BY
from refnet.store.run_journal import RunJournal

#: How often a running step is logged, in seconds.
_LOG_EVERY = 60.0
#: Timeout of a ping, in seconds.
TIMEOUT = 5.0


@dataclass
class AtWork:
    """A run at work; the caller records the outcome here, unless it raises."""

    run: Run
    #: Logs an event with values.
    log: Callable[..., None]
    clock: Clock

    def logged(self, shown: Progress) -> Progress:
        """Wrap `shown`: also log each step when it begins, and then every minute."""
        last: dict[str, float] = {}

        def report(step: str, done: int, total: int | None) -> None:
            shown(step, done, total)
            now = self.clock.monotonic()
            if step not in last or now - last[step] >= _LOG_EVERY:
                last[step] = now
                values = {"bytes": done or None, "total": total}
                self.log(
                    "progress", step=step, **{key: one for key, one in values.items() if one is not None}
                )

        return report

    def done(self, artifact: str = "") -> None:
        self.run = replace(self.run, ended=Ended.DONE, artifact=artifact)

    def failed(self, reason: Reason, message: str, hint: str = "") -> None:
        self.run = replace(self.run, ended=Ended.FAILED, reason=reason, message=message, hint=hint)

    def sent(self, sizes: Mapping[str, int]) -> None:
        """Record the bytes that were sent to each remote store."""
        self.run = replace(self.run, sent=dict(sizes))

    def unverified(self, message: str) -> None:
        self.run = replace(self.run, ended=Ended.UNVERIFIED, message=message)

    def stopped(self, left: Entry | None) -> None:
        """Record that somebody ended the run. `left`: the artifact that it had published."""
        by, hint = f"stopped by {_stopper(self.run.by)}", "Nothing half-done is live; run it again."
        if left:
            said = f"{by}; {left.name} exists, {'proven' if left.proven else 'unproven'}"
            hint = f"`refnet {'copy' if left.proven else 'verify'} {left.name}` does the rest."
        else:
            said = f"{by}; no artifact was made" if self.run.kind is RunKind.BACKUP else by
        artifact = left.name if left else self.run.artifact
        self.run = replace(
            self.run,
            ended=Ended.STOPPED,
            reason=Reason.INTERRUPTED,
            message=said,
            hint=hint,
            artifact=artifact,
        )


def _stopper(by: Origin | None) -> str:
    number = ended_by()
    if number != SIGINT or by is Origin.SCHEDULER:
        return number.name
    return "the stop button" if by is Origin.BROWSER else "Ctrl-C"


def started_by(*, service: bool) -> tuple[Origin, str, str]:
    """Return what started this process, the user of its command line, and the child of the dashboard that it is.

    service: a Celery worker. A program of the user can say it too: REFNET_STARTED_BY=scheduler in a crontab.
    """
    name, _, child = os.environ.get(STARTED_BY, "").partition(" ")
    if name == Origin.BROWSER:
        return Origin.BROWSER, "", plain(child)[:64]
    if service or name == Origin.SCHEDULER or _writes_to_journal():
        return Origin.SCHEDULER, "", ""
    user = os.environ.get("SUDO_USER", "")
    with suppress(KeyError):  # a user id without a name
        user = user or pwd.getpwuid(os.getuid()).pw_name
    return Origin.COMMAND_LINE, plain(user)[:100], ""


def _writes_to_journal() -> bool:
    """Return whether stderr is the one that systemd gave a service; a shell inherits the variable, not the stream."""
    with suppress(OSError):
        found = os.fstat(2)
        return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
    return False


@dataclass(frozen=True)
class Watch:
    """The journal, log, pings and messages of runs."""

    journal: RunJournal
    log: Any
    #: Kind of run → dead-man's-switch URL, if set.
    pings: dict[RunKind, str]
    #: Sends messages about failures and recoveries; returns a sentence for each failure to send.
    notify: Callable[[], list[str]] | None
    #: Removes secrets from a text.
    redact: Callable[[str], str]
    #: Called with a sentence for each failed record or message.
    note: Callable[[str], None]
    clock: Clock
    #: (source, artifact) → values of a log line: database or folder, artifact.
    named: Callable[[SourceName | None, str], dict[str, str]]
    #: Whether a worker runs it.
    service: bool = False
    #: The free space in the backup folder, in bytes; None: unknown.
    free: Callable[[], int | None] = lambda: None

    @contextmanager
    def run(
        self,
        kind: RunKind,
        source: SourceName | None = None,
        *,
        artifact: str = "",
        again: bool = False,
        left: Callable[[datetime], Entry | None] = lambda _: None,
    ) -> Iterator[AtWork]:
        """Watch one run.

        Args:
            source: None: all of them, or none.
            artifact: the one that the run checks or restores.
            again: a retry follows a transient failure, so no message reports it yet.
            left: the artifact that was published since a moment, by a run that is then stopped.
        """
        by, user, child = started_by(service=self.service)
        id_, began_at = uuid.uuid4().hex[:12], self.clock.now()
        run = Run(id_, kind, source or "", began_at, artifact=artifact, by=by, user=user, child=child)
        log = self.log.bind(run=run.id, what=kind.value, source=run.source, **self.named(source, artifact))
        at_work = AtWork(run, log.info, self.clock)
        self._try(self.journal.begin, at_work.run, log)
        log.info("began")
        self._ping(at_work.run, "start", log)
        began, retried = self.clock.monotonic(), False
        try:
            yield at_work
        except KeyboardInterrupt:
            found = None
            with suppress(RefnetError):
                found = left(run.started)
            at_work.stopped(found)
            raise
        except BaseException as error:
            hint = error.hint if isinstance(error, RefnetError) else ""
            at_work.failed(reason_of(error), str(error) or type(error).__name__, hint)
            retried = again and isinstance(error, RefnetError) and error.transient
            raise
        finally:
            self._end(at_work.run, self.clock.monotonic() - began, log, retried=retried)

    def _end(self, run: Run, seconds: float, log: Any, *, retried: bool) -> None:
        run = replace(
            run,
            ended=run.ended or Ended.DONE,
            seconds=round(seconds, 3),
            free=self.free(),
            message=self.redact(run.message),
            hint=self.redact(run.hint),
        )
        self._try(self.journal.end, run, log)
        values = {name: getattr(run, name) for name in ("seconds", "artifact", "reason", "message")}
        level = log.error if run.ended is Ended.FAILED else log.info
        level(run.ended, **{name: value for name, value in values.items() if value})
        if run.kind not in EXPECTED or retried or run.reason in {Reason.LOCKED, Reason.INTERRUPTED}:
            return  # nobody expected it, another run does the work, somebody stopped this one, or it is retried
        self._ping(run, "" if run.ended is Ended.DONE else "fail", log)
        if self.notify:
            self._note(log, self.notify())

    def _ping(self, run: Run, event: str, log: Any) -> None:
        if url := self.pings.get(run.kind):
            from refnet.telemetry.notify import within

            self._note(
                log, within(TIMEOUT + 1, "the ping service", lambda: _send_ping(url, run.source, event))
            )

    def _try(self, write: Callable[[Run], None], run: Run, log: Any) -> None:
        try:
            write(run)
        except RefnetError as error:
            self._note(log, [f"cannot record the run: {error.message}"])

    def _note(self, log: Any, sentences: list[str]) -> None:
        for sentence in map(self.redact, sentences):
            log.warning(sentence)
            self.note(sentence)


def _url_of(url: str, source: str, event: str) -> str:
    """Return `url` with `{source}` replaced and `event` (start, fail, or '' for success) appended to its path."""
    parts = urlsplit(url.replace("{source}", source))
    path = f"{parts.path.rstrip('/')}/{event}" if event else parts.path
    return urlunsplit(parts._replace(path=path))


def _send_ping(url: str, source: str, event: str) -> list[str]:
    """Send a ping in the protocol of healthchecks.io (URL/start, URL, URL/fail); return the failure as a sentence without the URL, or nothing."""
    import urllib.error
    import urllib.request
    from http.client import HTTPException

    try:
        with urllib.request.urlopen(_url_of(url, source, event), timeout=TIMEOUT):  # noqa: S310  # a setting
            return []
    except urllib.error.HTTPError as error:
        return [f"the ping service answered {error.code}"]
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            return [f"the ping service did not answer within {TIMEOUT:g} s"]
        return [f"cannot reach the ping service: {getattr(reason, 'strerror', None) or type(error).__name__}"]
