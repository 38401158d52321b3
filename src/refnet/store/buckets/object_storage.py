"""An object storage: its place, from the settings, and what its server answers.

Errors become one plain line each. The XML of S3's lists is parsed strictly in one pass, without entities: the server may be
hostile.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import unquote, urlsplit
from xml.parsers import expat

from refnet.core import checked
from refnet.core.formatting import plain
from refnet.store.buckets import bucket
from refnet.store.buckets.bucket import BucketError, BucketFailure, Stored, Version

#: Of S3 where the settings name none.
REGION = "us-east-1"
#: Characters of an error.
_LONGEST_ERROR = 300
_CODE = re.compile(r"<Code>([A-Za-z0-9_.-]{1,80})</Code>|\(code: ([A-Za-z0-9_.-]{1,80})\)")
_TEXT = re.compile(r"<Message>([^<]{1,1000})</Message>")
_STATUS = re.compile(r"status code: ([0-9]{3})\b|\bHTTP ([0-9]{3})\b")
#: Where there is no answer: the reason is deep in a dump of the error.
_REASONS = re.compile(
    r'InvalidCertificate\(\s{0,200}\w{1,80}|message: "[^"\n]{1,200}"|dns error|[Oo]peration timed out|TimedOut|IncompleteMessage'
)
_LOCK = re.compile(r"object.?lock|retention|legal hold|\bWORM\b|immutab", re.IGNORECASE)
_AGAIN = {
    *("BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"),
    *("RequestTimeout", "SlowDown", "InternalError", "IncompleteBody", "OperationAborted"),
}
_FULL = {"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "StorageQuotaExceeded"}
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound", "AccountNotFound"}
#: Requests that need no object: if they find nothing, the bucket or the endpoint is wrong.
_OF_BUCKETS = {"create", "list"}
#: The server does not have the request at all, such as conditional writes or versions.
NOT_IMPLEMENTED = "NotImplemented"
_HINTS = {
    BucketFailure.REFUSED: "Check the credential and its permissions; `refnet store check` tests each.",
    BucketFailure.LOCKED: "It can be deleted after its lock ends.",
    BucketFailure.UNREACHABLE: "Check the endpoint and the network, and retry: sent pieces are kept.",
    BucketFailure.FULL: "Free space there, or raise the quota, and retry.",
    BucketFailure.DAMAGED: "The response was changed on its way: check the endpoint and proxies.",
}
_HINTS_OF_CODES = {
    **dict.fromkeys(_NO_BUCKET, "Create the bucket, or correct the URL of the store."),
    **dict.fromkeys(
        ("RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture"),
        "Set the clock of this machine: the server rejects requests with a wrong time.",
    ),
    **dict.fromkeys(
        ("AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"),
        "Set the region of the store to that of the bucket.",
    ),
    NOT_IMPLEMENTED: "The server's S3 lacks what RefNet needs: use rclone for it (rclone:REMOTE:path).",
}
#: A folder of a list with a delimiter.
FOLDER = "CommonPrefixes"
#: An object of a list, a version of one, a mark that one is deleted.
_ROWS = frozenset({"Contents", "Version", "DeleteMarker", FOLDER})
_MOST_ROWS = 1000
_DEEPEST = 6
_LONGEST_TEXT = 4096
_SIZE = checked.integer(0, 1 << 50)
_ID = checked.text(1024, like=r"[\x21-\x7e]*")
_TAG = checked.text(200, like=r"[\x20-\x7e]*")


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


@dataclass(frozen=True)
class StorageServer:
    """A bucket on a server, for messages."""

    shown: str
    #: Are replaced wherever an answer repeats them.
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def refused(self, verb: str, name: str, said: str) -> BucketError:
        """Error for a failed request.

        Args:
            verb: the failed operation: `create`, `read`, `list`, `delete`.
            name: the object, or the prefix of a list.
            said: status and body of the response, or a library's error.
        """
        status, code = _first(_STATUS, said), _first(_CODE, said)
        kind = _kind(int(status or 0), code, said)
        if kind is BucketFailure.MISSING:
            if verb not in _OF_BUCKETS:
                return bucket.missing(name, self.shown)
            kind, hint = BucketFailure.REFUSED, _HINTS_OF_CODES["NoSuchBucket"]
        else:
            if kind is BucketFailure.LOCKED and verb in _OF_BUCKETS:  # what is not there is not locked
                kind = BucketFailure.REFUSED
            hint = _HINTS_OF_CODES.get(code) or _HINTS[kind]
        return self.error(kind, f"cannot {verb} {name or 'objects'}: {_reason(status, code, said)}", hint)

    def error(self, kind: BucketFailure, why: str, hint: str = "") -> BucketError:
        """Return an error about the bucket without its secrets, in one line."""
        for secret in self.secrets:
            why = why.replace(secret, "…")
        return BucketError(kind, plain(f"{self.shown}: {why}")[:_LONGEST_ERROR], hint or _HINTS[kind])


def _kind(status: int, code: str, said: str) -> BucketFailure:
    if code in _FULL or status == 507:
        return BucketFailure.FULL
    if code == NOT_IMPLEMENTED or status == 501:
        return BucketFailure.REFUSED
    if code in _AGAIN or status in {0, 200, 206, 408, 429} or status >= 500:
        return BucketFailure.UNREACHABLE
    if status in {404, 405} and code not in _NO_BUCKET:  # 405: a delete marker was asked for by its version
        return BucketFailure.MISSING
    return BucketFailure.LOCKED if _LOCK.search(_first(_TEXT, said)) else BucketFailure.REFUSED


def _reason(status: str, code: str, said: str) -> str:
    if status or code:
        text = " ".join(_first(_TEXT, said).split())
        return f"{code or 'HTTP'} {status}".strip() + (f", {text}" if text else "")
    reasons = [one.removeprefix("message: ").strip('"') for one in _REASONS.findall(said)]
    return (
        re.sub(r"\(\s*", ": ", reasons[-1])
        if reasons
        else " ".join(said.partition("Debug source")[0].split())
    )


def _first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return next(filter(None, found.groups()), "") if found else ""


@dataclass
class Page:
    """One response: a page of a list, or another small document."""

    #: The name of the outermost element.
    root: str = ""
    #: The elements of the document itself, by name: `IsTruncated`, `NextKeyMarker`.
    top: dict[str, str] = field(default_factory=dict)
    #: The kind and the elements of each object or folder.
    rows: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def key(self, kind: str, row: dict[str, str]) -> str:
        """Return the key of an object, or that of a folder, with a final slash."""
        key = row["Prefix" if kind == FOLDER else "Key"]
        return unquote(key, errors="strict") if self.top.get("EncodingType") == "url" else key

    def marker(self, element: str) -> str:
        """Where the next page begins, as a request has it; "" if there is no such element. ValueError: wrongly encoded."""
        text = self.top.get(element, "")
        encoded = element == "NextKeyMarker" and self.top.get("EncodingType") == "url"
        return unquote(text, errors="strict") if encoded else text

    def stored(self, row: dict[str, str], name: str) -> Stored:
        """Parse an object of a list; ValueError, or KeyError for a missing element."""
        return Stored(
            name, _SIZE(int(row["Size"])), checked.moment(row["LastModified"]), _TAG(row.get("ETag", ""))
        )

    def version(self, kind: str, row: dict[str, str], name: str) -> Version:
        """Parse a version of a list; ValueError, or KeyError for a missing element."""
        size, modified = _SIZE(int(row.get("Size", "0"))), checked.moment(row["LastModified"])
        gone = kind == "DeleteMarker"
        return Version(name, _ID(row["VersionId"]), size, modified, row.get("IsLatest") == "true", gone)


def read_page(answer: bytes) -> Page:
    """Parse an XML document; ValueError if S3 would not write it."""
    reader = _PageReader()
    try:
        reader.parser.Parse(answer, True)
    except (expat.ExpatError, LookupError) as error:  # LookupError: an unknown encoding
        raise ValueError("not XML") from error
    return reader.page


class _PageReader:
    def __init__(self) -> None:
        self.page = Page()
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self._depth = 0
        self._row: dict[str, str] | None = None
        self._parts: list[str] = []
        self._length = 0

    def _refuse(self, *_: object) -> None:
        raise ValueError("it declares a document type")

    def _start(self, name: str, _attributes: dict[str, str]) -> None:
        self._depth += 1
        self._parts, self._length = [], 0
        if self._depth > _DEEPEST:
            raise ValueError("nested too deep")
        if self._depth == 1:
            self.page.root = name
        if self._depth == 2 and name in _ROWS:
            if len(self.page.rows) == _MOST_ROWS:
                raise ValueError(f"more than {_MOST_ROWS} objects on one page")
            self._row = {}
            self.page.rows.append((name, self._row))

    def _text(self, text: str) -> None:
        self._length += len(text)
        if self._length > _LONGEST_TEXT:
            raise ValueError("a text that is too long")
        self._parts.append(text)

    def _end(self, name: str) -> None:
        into = self.page.top if self._depth == 2 else self._row if self._depth == 3 else None
        if self._depth == 2 and name in _ROWS:
            self._row = None
        elif into is not None and len(into) < 40:
            if name in {"Key", "VersionId", "Prefix"} and name in into:
                raise ValueError(f"two elements {name}")
            into[name] = "".join(self._parts)
        self._parts, self._length = [], 0
        self._depth -= 1
