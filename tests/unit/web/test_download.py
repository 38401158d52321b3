"""The download of an artifact: exactly its bytes, or an answer that visibly does not end."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refnet.core.errors import Exit, RefnetError
from refnet.core.processes import until
from refnet.web.pages import artifact, artifact_part
from refnet.web.pages.artifact import Download, disposition

NAME = "refnet_20261125_170001.sql.gz"


def answer(data: bytes, recorded: bytes | None = None, name: str = NAME) -> tuple[Download, io.BytesIO]:
    """The download of a file with `data`, of which the manifest recorded other bytes."""
    known = data if recorded is None else recorded
    file = io.BytesIO(data)
    return Download(file, name, len(known), hashlib.sha256(known).hexdigest()), file


def sent(
    made: Download, *, take: Callable[[int], Any] | None = None, gone: bool = False
) -> list[dict[str, Any]]:
    """What is sent; `take`: awaited for each message with its number."""
    found: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if not gone:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        await asyncio.sleep(0)
        found.append(message)
        if take:
            await take(len(found))

    asyncio.run(made({"type": "http"}, receive, send))
    return found


def test_a_download_that_ends_does_not_wait_for_what_its_command_left_behind():
    words = ("sh", "-c", "sleep 300 & echo $!; exec sleep 300")
    child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout
    left = int(child.stdout.readline())
    artifact_part._Output(child, b"").close()
    os.kill(left, signal.SIGKILL)  # ProcessLookupError: it was waited for
    assert until(lambda: child.returncode is not None, 10)


def body(messages: list[dict[str, Any]]) -> bytes:
    return b"".join(one["body"] for one in messages[1:])


@pytest.mark.parametrize("size", [0, 1, artifact.BLOCK, 2 * artifact.BLOCK + 7])
def test_all_bytes_are_sent_with_their_number(size: int):
    made, file = answer(b"x" * size)
    messages = sent(made)
    assert (body(messages), messages[-1]["more_body"]) == (b"x" * size, False)
    assert dict(messages[0]["headers"])[b"content-length"] == str(size).encode()
    assert file.closed


@pytest.mark.parametrize("other", [b"y" * (artifact.BLOCK + 7), b"x" * artifact.BLOCK, b""])
def test_the_last_bytes_of_a_damaged_artifact_are_not_sent(other: bytes, caplog: pytest.LogCaptureFixture):
    made, file = answer(other, recorded=b"x" * (artifact.BLOCK + 7))
    messages = sent(made)
    assert len(body(messages)) <= artifact.BLOCK
    assert all(one.get("more_body", True) for one in messages)
    assert file.closed
    assert f"{NAME} is damaged" in caplog.text


def test_a_client_that_takes_nothing_does_not_keep_the_file_open(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(artifact, "STALLED", 0.01)
    made, file = answer(b"x" * (3 * artifact.BLOCK))
    assert len(sent(made, take=lambda n: asyncio.sleep(60 if n == 2 else 0))) == 2
    assert file.closed


def test_nothing_more_is_read_for_a_client_that_has_gone():
    made, file = answer(b"x" * (50 * artifact.BLOCK))
    assert len(body(sent(made, gone=True))) < 50 * artifact.BLOCK
    assert file.closed


def test_more_downloads_than_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(artifact, "MOST", 0)
    made, file = answer(b"x")
    with pytest.raises(RefnetError) as caught:
        sent(made)
    assert (caught.value.code, file.closed) == (Exit.LOCKED, True)


@given(st.text(min_size=1))
def test_no_name_ends_the_header_or_its_quotes(name: str):
    header = disposition(name)
    assert header.isascii()
    assert header.isprintable()
    assert header.count('"') == 2
    assert header.startswith('attachment; filename="')


def test_the_name_of_an_artifact_is_sent_as_it_is():
    assert disposition(NAME) == f'attachment; filename="{NAME}"'
    assert disposition("論.gz") == "attachment; filename=\"_.gz\"; filename*=UTF-8''%E8%AB%96.gz"
