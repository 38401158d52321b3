"""deploy/prepare: .env, refnet.toml, secrets/ and the folders that compose.yaml mounts. Any Python from 3.9 on runs it."""

from __future__ import annotations

import os
import re
import secrets
import sys
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import handles
from handles import Folder

#: The users in compose.yaml.
REFNET, DATABASE, NGINX, GRAFANA, PROMETHEUS = 10001, 999, 101, 472, 65534
HERE = Path(__file__).resolve().parent.parent
#: The owners of a secret.
_OURS = frozenset({0, REFNET})
_PLAIN = re.compile(r"[A-Za-z0-9/._+-]+")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://\S+( [a-z][a-z0-9+.-]*://\S+)*")
#: The marker of a backup folder of RefNet, and what each artifact has that was checked.
_MARKER, _EVIDENCE = ".refnet-store.json", ".evidence.jsonl"
_SETTINGS = """\
# Settings of `refnet` on this machine, for the stack of compose.yaml. Those inside the containers: deploy/refnet.toml.
database_url = "postgresql://refnet@/refnet?host={run}/postgresql"  # the socket; root needs no password there
backup_dir = "{backups}"
vault_dir = "{vault}/refnet"
config_dir = "{here}"

[config]
entries = ["compose.yaml", ".env", "refnet.toml", "deploy/", "monitoring/", "secrets/"]

[left_out]
files = ["*"]  # the rest of the folder is a clone

[compose]
service = "backup"  # `refnet backup`, `verify`, `drill`, `prune` and others run in its container

[recover]
services = "compose"
storage = ["postgres", "redis"]
application = ["api"]
background = ["crawler", "summarizer", "generator", "backup", "celery-beat"]
edge = ["nginx", "flower", "prometheus", "grafana"]
health_url = "http://localhost:{port}/health"
seconds = 300

[hooks]
after_restore = ["{here}/deploy/prepare"]  # what root has restored and written belongs to the containers' users again
"""


def say(text: str) -> None:
    sys.stdout.write(f"prepare: {text}\n")


def main() -> None:
    if os.geteuid():
        handles.fail(
            "it must give files to the users of the containers, and this is not root", "Run it with sudo."
        )
    if not _PLAIN.fullmatch(str(HERE)):
        handles.fail(
            f"the path {HERE} has other characters than letters, digits and / . _ + -", "Move the clone."
        )
    for above in HERE.parents:
        if not handles.only_root_changes(above.lstat()):
            handles.fail(
                f"{above} belongs to another user, who could put another folder in the place of {HERE}",
                "Move the clone to a folder of root, such as /srv/refnet.",
            )
    with handles.entered(HERE) as clone:
        publish_clone(clone)
        prepare(clone)


def publish_clone(clone: Folder) -> None:
    """Check that root owns what it runs, and let the containers read what compose.yaml mounts."""
    if not handles.only_root_changes(os.fstat(clone.handle)):
        handles.fail(
            f"{HERE} does not belong to root alone: who can write it could run programs as root",
            f"Clone as root, or give it to root: chown -R root: {HERE} && chmod go-w {HERE}",
        )
    os.fchmod(clone.handle, 0o755)  # the service backup mounts it
    with handles.opened("compose.yaml", handles.FILE, clone.handle) as file:
        handles.publish_one(file, HERE / "compose.yaml")
    for name in ("deploy", "monitoring"):
        with handles.entered(HERE / name) as folder:
            handles.publish_one(folder.handle, folder.path)
            handles.publish(folder)


def prepare(clone: Folder) -> None:
    text = clone.read(".env", {0})
    if not text:
        text = clone.read(".env.example", {0})
        clone.write(".env", f"{text}\n")
        say("made .env")
    clone.give(".env", {0}, (0, 0), 0o644)
    backups = path_in(text, "REFNET_BACKUP_DIR", "/var/backups/refnet")
    vault, run = path_in(text, "REFNET_VAULT_DIR", "./vault"), path_in(text, "REFNET_RUN_DIR", "./run")
    port = value(text, "REFNET_HTTP_PORT", "80")
    make_secrets()
    store(backups)
    with handles.entered(run, make=True):
        pass
    for user, path in ((REFNET, vault), (REFNET, vault / "refnet"), (DATABASE, run / "postgresql")):
        with handles.entered(path, make=True) as folder:
            take(folder, user)
    if not clone.read("refnet.toml", {0}):
        clone.write(
            "refnet.toml", _SETTINGS.format(run=run, backups=backups, vault=vault, here=HERE, port=port)
        )
        say("made refnet.toml")
    clone.give("refnet.toml", {0}, (0, 0), 0o644)


def value(text: str, name: str, default: str) -> str:
    """The last value of `name` in .env."""
    found = default
    for line in text.splitlines():
        if line.startswith(f"{name}="):
            found = line.partition("=")[2]
    if not _PLAIN.fullmatch(found):
        handles.fail(f".env: {name} is not plain: {found}", "Use letters, digits and / . _ + - only.")
    return found


def path_in(text: str, name: str, default: str) -> Path:
    return Path(os.path.normpath(HERE / value(text, name, default)))


def make_secrets() -> None:
    """Make missing secrets. RefNet's backup reads each, and so does the group of the one service that needs it."""
    with handles.entered(HERE / "secrets", make=True) as folder:
        os.fchown(folder.handle, 0, REFNET)  # root's: what a name in it means, root decides
        os.fchmod(folder.handle, 0o750)
        password = secret(folder, "postgres_password", DATABASE)
        secret(folder, "database_url", REFNET, f"postgresql://refnet:{password}@postgres:5432/refnet")
        password = secret(folder, "redis_password", REFNET)
        users = f"user default on >{password} ~* &* +@all\nuser health on nopass resetkeys resetchannels -@all +ping"
        secret(folder, "redis_users", DATABASE, users)
        secret(folder, "broker_url", REFNET, f"redis://:{password}@redis:6379/0")
        secret(folder, "web_token", REFNET)
        token = secret(folder, "metrics_token", REFNET)
        if folder.read("prometheus_token", _OURS) not in {"", token}:  # it was web_token once
            os.unlink("prometheus_token", dir_fd=folder.handle)
        secret(folder, "prometheus_token", PROMETHEUS, token)
        secret(folder, "flower_password", REFNET)
        secret(folder, "grafana_password", GRAFANA)
        addresses(folder)
    with handles.entered(HERE / "secrets" / "certs", make=True) as certs:
        os.fchown(certs.handle, 0, 0)
        os.fchmod(certs.handle, 0o755)  # two users read it; the names are no secret
        for name in handles.names(certs.handle):
            certs.give(name, _OURS, (REFNET, NGINX), 0o440)


def secret(folder: Folder, name: str, group: int, text: str = "") -> str:
    """The secret `name`; a missing one is `text`, or random."""
    found = folder.read(name, _OURS)
    if not found:
        found = text or secrets.token_hex(24)
        folder.write(name, f"{found}\n")
        say(f"made secrets/{name}")
    folder.give(name, _OURS, (REFNET, group), 0o400 if group == REFNET else 0o440)
    return found


def addresses(folder: Folder) -> None:
    """The addresses that get RefNet's messages: asked for on a terminal while there is none."""
    found = folder.read("notify_urls", _OURS)
    if found in {"", "none"}:
        if sys.stdin.isatty():
            sys.stdout.write(
                "Where do alerts go? A URL of Apprise, such as mailtos://USER:PASSWORD@example.org: "
            )
            sys.stdout.flush()
            found = sys.stdin.readline().strip()
            if found not in {"", "none"} and not _ADDRESS.fullmatch(found):
                handles.fail(
                    "that is not a URL of Apprise", "docs/compose.md shows examples; leave it empty for none."
                )
        folder.write("notify_urls", f"{found or 'none'}\n")
        if found in {"", "none"}:
            say("alerts reach nobody: write a URL of Apprise into secrets/notify_urls, see docs/compose.md")
    folder.give("notify_urls", _OURS, (REFNET, REFNET), 0o400)


def store(path: Path) -> None:
    """Make the backup folder, or take it over with all that root, or a copy, has written there."""
    with handles.entered(path, make=True) as folder:
        owner = os.fstat(folder.handle).st_uid
        if owner != REFNET and is_store(folder):
            say(
                f"{path} belonged to user {owner}: it is a backup folder of RefNet, and belongs to user {REFNET} now"
            )
            os.fchown(folder.handle, REFNET, REFNET)
        take(folder, REFNET)
        handles.give_all(folder, REFNET)


def is_store(folder: Folder) -> bool:
    """Whether a folder contains what only RefNet writes."""
    for name in handles.names(folder.handle):
        if name == _MARKER:
            return True
        with suppress(OSError), handles.opened(name, handles.FOLDER, folder.handle) as inner:
            if any(one.endswith(_EVIDENCE) for one in handles.names(inner)):
                return True
    return False


def take(folder: Folder, user: int) -> None:
    """Give an open folder to a user; another's folder with content stays as it is."""
    owner = os.fstat(folder.handle).st_uid
    if owner != user and handles.names(folder.handle):
        handles.fail(
            f"{folder.path} has content and belongs to user {owner}",
            f"Name another folder in .env; or, if it is RefNet's: chown -R {user}:{user} {folder.path}",
        )
    os.fchown(folder.handle, user, user)


if __name__ == "__main__":
    os.umask(0o077)
    try:
        main()
    except handles.FailedError as error:
        sys.exit("prepare: {}\n         {}".format(*error.args))
    except OSError as error:
        sys.exit(
            f"prepare: {error.filename or 'the operating system'}: {error.strerror}\n         See the system log."
        )
