"""Messages: one when a problem begins, one when it has ended, none between.

`decide` is pure. `REFNET_HOME/notify.json` records each reported problem after a service accepted the message; the
next run retries messages that no service accepted. Sending fails no backup, and delays it by at most `DEADLINE`.
"""

import json
import logging
import platform
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

from refnet.catalog.manifest import utc
from refnet.catalog.monitoring import Check, Status
from refnet.catalog.monitoring_stores import OF_COPY, OF_STORE
from refnet.catalog.run import Ended, History, RunKind
from refnet.catalog.source_name import STANDARD
from refnet.core import checked
from refnet.core.extras import how_to_install
from refnet.core.files import explained, make_folder, read_regular, replace_file
from refnet.core.locks import locked
from refnet.core.records import Layout, Record

#: Timeout of sending, in seconds; after it the backup continues.
DEADLINE = 30.0
#: Maximum size of notify.json, in bytes.
_LARGEST = 4 << 20
#: Check → its topic; other checks are not reported.
_TOPICS = {
    **{
        what: what
        for what in ("size", "proof", "shrunk", "damage", "drill", "running", "free space", "gone", "sources")
    },
    "age": "backup",
    "last run": "backup",
    "the store": "store",
}
_WRONG = {Status.WARNING, Status.CRITICAL}


@dataclass(frozen=True)
class ReportedProblem(Record):
    """A reported problem: when it was reported first, and the text of the report."""

    LAYOUT = Layout(more=True)

    since: Annotated[str, checked.text(64, errors="strict")]
    says: Annotated[str, checked.text(100_000, errors="strict")]


#: `SOURCE topic` → the reported problem.
State = dict[str, ReportedProblem]


@dataclass(frozen=True)
class Message:
    title: str
    body: str


def findings(checks: Sequence[Check], history: History) -> dict[str, str | None]:
    """Return `SOURCE topic` → the text of its problems; None: checked without problems.

    The hint of the last failed backup is added to the text.
    """
    found: dict[str, str | None] = {}
    for check in checks:
        topic = check.what if check.what.startswith((OF_STORE, OF_COPY)) else _TOPICS.get(check.what)
        if topic is None or (check.status is Status.UNKNOWN and topic != "store"):
            continue
        key = f"{check.source or 'all'} {topic}"
        wrong = check.status in _WRONG or topic == "store"
        found[key] = "\n".join(filter(None, (found.get(key), check.says if wrong else None))) or None
    for source in dict.fromkeys((*STANDARD, *(run.source for run in history.runs))):
        _add_runs(found, source, history)
        found.setdefault(f"{source} running", None)  # that check is there only while a run hangs
    return found


def _add_runs(found: dict[str, str | None], source: str, history: History) -> None:
    backup, drill = history.last(RunKind.BACKUP, source), history.last(RunKind.DRILL, source)
    key = f"{source} backup"
    if backup and backup.hint and found.get(key):
        found[key] = f"{found[key]}\n{backup.hint}"
    if drill and drill.ended is not Ended.DONE:
        found[f"{source} drill"] = "\n".join(filter(None, (f"the last drill: {drill.message}", drill.hint)))


def decide(
    previous: Mapping[str, ReportedProblem], found: Mapping[str, str | None], now: datetime, host: str
) -> tuple[State, list[tuple[Message, State]]]:
    """Return the state before any message, and the messages to send, each with the state after it.

    There is at most one message about failures and one about recoveries.

    Args:
        previous: the problems that were reported before.
        found: see `findings`. While the store is unreadable, nothing counts as recovered.
        now: with a time zone.
        host: the name of this machine.
    """
    wrong = {key: says for key, says in found.items() if says}
    blind = "all store" in wrong
    begun = {key: ReportedProblem(utc(now), says) for key, says in wrong.items() if key not in previous}
    ended = {key: problem for key, problem in previous.items() if not blind and found.get(key, "") is None}
    forgotten = {key for key in previous if not blind and key not in found and key != "all store"}
    if "all store" in previous and not blind:
        ended["all store"] = previous["all store"]
    state = {key: problem for key, problem in previous.items() if key not in forgotten}
    before, steps = state, list[tuple[Message, State]]()
    if begun:
        text = "\n\n".join(f"{key}: {problem.says}" for key, problem in begun.items())
        state = state | begun
        steps.append((Message(_title(host, list(begun), "fails"), text), state))
    if ended:
        text = "\n".join(f"{key}: recovered (failing since {ended[key].since})" for key in ended)
        state = {key: problem for key, problem in state.items() if key not in ended}
        steps.append((Message(_title(host, list(ended), "recovered"), text), state))
    return before, steps


def _title(host: str, keys: list[str], what: str) -> str:
    more = f" (and {len(keys) - 1} more)" if len(keys) > 1 else ""
    return f"RefNet on {host}: {keys[0]} {what}{more}"


def report(
    folder: Path,
    look: Callable[[], dict[str, str | None]],
    send: Callable[[Message], Sequence[str]],
    *,
    now: Callable[[], datetime],
    host: str,
) -> list[str]:
    """Look, decide, send, and record the sent messages, one process at a time; return a sentence for each failure.

    A message counts as sent unless `send` raises ConnectionError.
    """
    make_folder(folder)
    path = folder / "notify.json"
    with locked(folder / "notify.lock"):
        state, steps = decide(_read(path), look(), now(), host)
        failures: list[str] = []
        try:
            for message, after in steps:
                failures += send(message)
                state = after
        except ConnectionError as error:
            failures.append(str(error))
        _write(path, state)
        return failures


def _read(path: Path) -> State:
    """Return the reported problems; none if the file is missing or malformed."""
    with suppress(OSError, ValueError):
        return dict(_STATE(checked.document(read_regular(path, _LARGEST))))
    return {}


_STATE = checked.mapping(checked.text(100, errors="strict"), ReportedProblem.from_values, most=1000)


def _write(path: Path, state: State) -> None:
    values = {key: problem.values() for key, problem in state.items()}
    with explained(path):
        replace_file(path, json.dumps(values, indent=2).encode())


def send_by_apprise(urls: Sequence[str], message: Message) -> list[str]:
    """Send `message` to every service of `urls`; return a sentence without URL for each that did not accept it.

    ConnectionError if no service accepted it.
    """
    try:
        import apprise
    except ModuleNotFoundError:
        raise ConnectionError(
            f"notify.urls is set, but Apprise is not installed. {how_to_install('notify')}"
        ) from None
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # its log lines contain URLs
    asset = apprise.AppriseAsset(app_id="RefNet", app_desc="RefNet", storage_mode="memory", async_mode=False)
    failures = []
    for number, url in enumerate(urls, 1):
        service = apprise.Apprise(asset=asset)
        if not service.add(url):
            failures.append(f"Apprise does not support the URL in entry {number} of notify.urls")
        elif not service.notify(title=message.title, body=message.body):
            failures.append(f"the service of entry {number} of notify.urls did not accept the message")
    if len(failures) == len(urls):
        raise ConnectionError("; ".join(failures))
    return failures


def deliver(urls: Sequence[str], message: Message) -> list[str]:
    """Send `message` to every service of `urls`; return a sentence for each that did not accept it within DEADLINE."""

    def send() -> list[str]:
        try:
            return send_by_apprise(urls, message)
        except ConnectionError as error:
            return [str(error)]

    return within(DEADLINE, "the notification", send)


def sender(urls: Sequence[str]) -> Callable[[str, str], list[str]]:
    """Return what sends a title and a text to every service of `urls`, as `deliver` does; without any it does nothing."""

    def send(title: str, text: str) -> list[str]:
        return deliver(urls, Message(f"RefNet on {platform.node()}: {title}", text)) if urls else []

    return send


def within(seconds: float, what: str, act: Callable[[], list[str]]) -> list[str]:
    """Return the result of `act`; after `seconds` return a sentence instead and let `act` run on."""
    result: list[list[str]] = []
    thread = threading.Thread(target=lambda: result.append(act()), daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        return [f"{what} did not answer within {seconds:g} s"]
    return result[0] if result else [f"{what} failed"]
