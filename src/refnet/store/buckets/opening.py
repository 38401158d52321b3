"""Opens the bucket of a store by its settings."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

from refnet.core import extras, trust
from refnet.core.errors import Exit, RefnetError
from refnet.settings.stores import StoreSettings, read_credentials
from refnet.settings.urls import StoreKind
from refnet.store.buckets.announced import Announced
from refnet.store.buckets.bucket import Bucket
from refnet.store.buckets.folder import FolderBucket
from refnet.store.buckets.paced import Paced
from refnet.store.buckets.place import BucketPlace
from refnet.store.buckets.rclone import RcloneBucket
from refnet.store.buckets.sftp import SftpBucket

_LARGEST_CERTIFICATES = 1 << 20
#: obstore's names of the keys of a file with a credential.
_NAMES = {"account": "account_name", "key": "account_key"}
#: The variables with a credential for S3, as every client of S3 reads them.
_VARIABLES = {
    "AWS_ACCESS_KEY_ID": "access_key_id",
    "AWS_SECRET_ACCESS_KEY": "secret_access_key",
    "AWS_SESSION_TOKEN": "session_token",
}


def open_bucket(store: StoreSettings, *, deleting: bool = False) -> Bucket:
    """The bucket of `store`; sends no request. RefnetError (USAGE) if the credential cannot be read.

    deleting: use the credential that may delete, if one is set.
    """
    found = bare_bucket(store, deleting=deleting)
    if store.place.kind is not StoreKind.FILE:
        found = Announced(found)
    return Paced(found, store.bandwidth) if store.bandwidth else found


def bare_bucket(store: StoreSettings, *, deleting: bool = False) -> Bucket:
    """Return the bucket of `store` itself: of cloud storage, a CloudBucket."""
    url = store.place
    if url.kind is StoreKind.FILE:
        return FolderBucket(Path(url.path))
    if url.kind is StoreKind.SFTP:
        return SftpBucket(url)
    if url.kind is StoreKind.RCLONE:
        return RcloneBucket(url)
    place = BucketPlace(
        url.kind,
        url.place,
        url.path,
        store.endpoint or "",
        store.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "",
        _credential(store, deleting),
        _certificates(store),
        timedelta(days=store.lock) if store.lock else None,
    )
    with extras.needed("cloud"):
        from refnet.store.buckets.cloud import CloudBucket
    return CloudBucket(place)


def _credential(store: StoreSettings, deleting: bool) -> dict[str, str]:
    """obstore's settings for the credential of `store`; empty: environment or machine role."""
    path = (deleting and store.prune_credentials_file) or store.credentials_file
    if path:
        values = read_credentials(path, store.place.kind).values
        return {_NAMES.get(name, name): value for name, value in values.items()}
    if store.place.kind is not StoreKind.S3:
        return {}
    found = {name: os.environ[variable] for variable, name in _VARIABLES.items() if os.environ.get(variable)}
    return found if {"access_key_id", "secret_access_key"} <= found.keys() else {}


def _certificates(store: StoreSettings) -> str:
    """Return the certificates (PEM) of `ca_file`, or of the variable that OpenSSL reads; "" if there are none."""
    path = store.ca_file or Path(os.environ.get("SSL_CERT_FILE", ""))
    if path == Path():
        return ""
    try:
        return trust.read(path, _LARGEST_CERTIFICATES).content.decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not in PEM"
        raise RefnetError(
            f"the certificates {trust.shown(path)} cannot be read: {why}",
            f"Set stores.{store.name}.ca_file to a file with certificates in PEM.",
            Exit.USAGE,
        ) from None
