"""Messages: one when something starts to fail, one when it is well again, silence between.

`decide` is pure. What was told is kept in `REFNET_HOME/notify.json`, and only after a service took the message:
one that did not get out is sent again the next time. Nothing here fails a backup, and nothing holds one up for
longer than `DEADLINE`.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from refnet.files import explained, make_folder, read_regular, replace_file
from refnet.locks import locked
from refnet.recovery.model import checked
from refnet.recovery.model.artifact import SourceName, utc
from refnet.recovery.model.monitoring import Check, Status
from refnet.recovery.model.run import Ended, History, Kind, Reason

#: How long sending may take in all, in seconds; then the backup goes on without it.
DEADLINE = 30.0
#: Bytes of the file that says what was told, at most.
_LARGEST = 4 << 20
#: What a person is told of a check, by one word for what belongs together; the others are no news.
_TOPICS = {
    "age": "backup",
    "last run": "backup",
    "size": "size",
    "proof": "proof",
    "shrunk": "shrunk",
    "damage": "damage",
    "drill": "drill",
    "free space": "free space",
    "the store": "store",
}
_WRONG = {Status.WARNING, Status.CRITICAL}


@dataclass(frozen=True)
class Problem:
    """Something that fails, since when a person knows of it, and what was said of it."""

    since: str
    says: str


#: `SOURCE topic` → the problem that was told.
State = dict[str, Problem]


@dataclass(frozen=True)
class Message:
    title: str
    body: str


def findings(checks: Sequence[Check], history: History) -> dict[str, str | None]:
    """What was looked at → what is wrong with it (None: nothing), by `SOURCE topic`.

    The journal's last failure says more than a check does: its hint comes with it.
    """
    found: dict[str, str | None] = {}
    for check in checks:
        topic = _TOPICS.get(check.what)
        if topic is None or (check.status is Status.UNKNOWN and topic != "store"):
            continue
        key = f"{check.source or 'all'} {topic}"
        wrong = check.status in _WRONG or topic == "store"
        found[key] = "\n".join(filter(None, (found.get(key), check.says if wrong else None))) or None
    for source in SourceName:
        _add_runs(found, source, history)
    return found


def _add_runs(found: dict[str, str | None], source: SourceName, history: History) -> None:
    backup, drill = history.last(Kind.BACKUP, source), history.last(Kind.DRILL, source)
    key = f"{source} backup"
    if backup and backup.hint and found.get(key):
        found[key] = f"{found[key]}\n{backup.hint}"
    if drill and drill.ended is not Ended.DONE and drill.reason is not Reason.INTERRUPTED:
        found[f"{source} drill"] = "\n".join(filter(None, (f"the last drill: {drill.message}", drill.hint)))


def decide(
    previous: Mapping[str, Problem], found: Mapping[str, str | None], now: datetime, host: str
) -> tuple[State, list[tuple[Message, State]]]:
    """What is told without a word; then the messages that a person is to get, at most one of each kind, each with
    what is told after it.

    Args:
        previous: what was told before.
        found: see `findings`. Where the store could not be read, nothing else is known to be well.
        now: aware; `host`: which machine speaks.
    """
    wrong = {key: says for key, says in found.items() if says}
    blind = "all store" in wrong
    begun = {key: Problem(utc(now), says) for key, says in wrong.items() if key not in previous}
    ended = {key: problem for key, problem in previous.items() if not blind and found.get(key, "") is None}
    forgotten = {key for key in previous if not blind and key not in found and key != "all store"}
    if "all store" in previous and not blind:
        ended["all store"] = previous["all store"]
    kept = {key: problem for key, problem in previous.items() if key not in forgotten}
    steps: list[tuple[Message, State]] = []
    if begun:
        says = "\n\n".join(f"{key}: {problem.says}" for key, problem in begun.items())
        steps.append((Message(_title(host, list(begun), "fails"), says), kept | begun))
    if ended:
        says = "\n".join(f"{k}: well again. It had failed since {p.since}." for k, p in ended.items())
        told = {key: problem for key, problem in (kept | begun).items() if key not in ended}
        steps.append((Message(_title(host, list(ended), "is well again"), says), told))
    return kept, steps


def _title(host: str, keys: list[str], what: str) -> str:
    more = f" (and {len(keys) - 1} more)" if len(keys) > 1 else ""
    return f"RefNet on {host}: {keys[0]} {what}{more}"


def tell(
    folder: Path,
    look: Callable[[], dict[str, str | None]],
    send: Callable[[Message], Sequence[str]],
    *,
    now: Callable[[], datetime],
    host: str,
) -> list[str]:
    """Look, decide, send, and keep what was told; one process at a time. What went wrong, a sentence each.

    `send` gives what went wrong; a message counts as sent unless it raises ConnectionError.
    """
    make_folder(folder)
    path = folder / "notify.json"
    with locked(folder / "notify.lock"):
        state, steps = decide(_read(path), look(), now(), host)
        said: list[str] = []
        try:
            for message, after in steps:
                said += send(message)
                state = after
        except ConnectionError as error:
            said.append(str(error))
        _write(path, state)
        return said


def _read(path: Path) -> State:
    """What was told; nothing where the file is missing or is none of ours."""
    with suppress(OSError, ValueError):
        return dict(_STATE(checked.document(read_regular(path, _LARGEST))))
    return {}


_WORDS = checked.text(100_000, errors="strict")
_PROBLEM = checked.record({"since": checked.text(64, errors="strict"), "says": _WORDS}, more=True)
_STATE = checked.mapping(
    checked.text(100, errors="strict"), lambda value: Problem(**_PROBLEM(value)), most=1000
)


def _write(path: Path, state: State) -> None:
    values = {key: asdict(problem) for key, problem in state.items()}
    with explained(path):
        replace_file(path, json.dumps(values, indent=2).encode())


def send_by_apprise(urls: Sequence[str], message: Message) -> list[str]:
    """Send `message` to every service of `urls`; a sentence for each that did not take it, without its URL.

    ConnectionError where none took it.
    """
    try:
        import apprise
    except ModuleNotFoundError:
        raise ConnectionError(
            "notify.urls is set, but Apprise is not installed: pip install 'refnet[notify]'"
        ) from None
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # it would tell URLs to whoever reads stderr
    asset = apprise.AppriseAsset(app_id="RefNet", app_desc="RefNet", storage_mode="memory", async_mode=False)
    said = []
    for number, url in enumerate(urls, 1):
        service = apprise.Apprise(asset=asset)
        if not service.add(url):
            said.append(f"entry {number} of notify.urls is no URL that Apprise knows")
        elif not service.notify(title=message.title, body=message.body):
            said.append(f"the service of entry {number} of notify.urls did not take the message")
    if len(said) == len(urls):
        raise ConnectionError("; ".join(said))
    return said


def within(seconds: float, what: str, act: Callable[[], list[str]]) -> list[str]:
    """What `act` gives; a sentence where it takes longer than `seconds`, and then it is left to itself."""
    result: list[list[str]] = []
    thread = threading.Thread(target=lambda: result.append(act()), daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        return [f"{what} did not answer within {seconds:g} s"]
    return result[0] if result else [f"{what} failed"]
