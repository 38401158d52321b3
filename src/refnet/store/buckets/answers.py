"""Errors of object storage servers, as one plain line each."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from refnet.core.formatting import plain
from refnet.store.buckets import bucket
from refnet.store.buckets.bucket import BucketError, BucketFailure

_LONGEST = 300
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


@dataclass(frozen=True)
class Server:
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
            hint = _HINTS_OF_CODES.get(code) or _HINTS[kind]
        return self.error(kind, f"cannot {verb} {name or 'objects'}: {_reason(status, code, said)}", hint)

    def error(self, kind: BucketFailure, why: str, hint: str = "") -> BucketError:
        """Return an error about the bucket without its secrets, in one line."""
        for secret in self.secrets:
            why = why.replace(secret, "…")
        return BucketError(kind, plain(f"{self.shown}: {why}")[:_LONGEST], hint or _HINTS[kind])


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
