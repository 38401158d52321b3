"""A place in object storage, from the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import urlsplit

#: Of S3 where the settings name none.
REGION = "us-east-1"


@dataclass(frozen=True)
class BucketPlace:
    """The place of the objects, and the credential for it."""

    #: `s3`, `gs` or `az`.
    kind: str
    #: Azure calls it a container.
    bucket: str
    #: Without a slash at its ends.
    prefix: str = ""
    #: The URL of the server; "": that of the vendor. http:// is not encrypted.
    endpoint: str = ""
    region: str = ""
    #: obstore's settings with a credential, such as `access_key_id`; none: those of the machine.
    credential: Mapping[str, str] = field(default_factory=dict, repr=False)
    #: Certificates (PEM) that are trusted besides the system's.
    trusted: str = ""
    #: How long nobody can delete a new object; None: the bucket decides.
    lock: timedelta | None = None

    @property
    def shown(self) -> str:
        host = urlsplit(self.endpoint).netloc
        below = f"/{self.prefix}" if self.prefix else ""
        return f"{self.kind}://{self.bucket}{below}" + (f" at {host}" if host else "")
