"""The recovery page: everything that a recovery needs is on it, no secret but the key, and its commands work."""

from __future__ import annotations

import random
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from gzip import compress
from html.parser import HTMLParser

import pytest
import segno
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.documents import ROOT, blocks
from tests.remote_store import Machine, artifact
from tests.shared_pieces import fixed_cuts

from refnet.actions.recovery_page import RecoveryPage, grouped
from refnet.catalog.remote import PIECE_BYTES
from refnet.settings import StoreSettings
from refnet.store.buckets.folder import FolderBucket
from refnet.store.encryption import PrivateKey, Signer

KEY = PrivateKey.new()
SIGNING = Ed25519PrivateKey.generate()
CLOUD = "s3://bucket/some/prefix?endpoint=https://s3.example.org&region=eu-west-1&credentials_file=/etc/refnet/s3.toml"
URLS = (
    CLOUD, "gs://bucket/p", "az://container/p", "sftp://user@nas:2222/backups", "rclone:drive:folder", "file:///mnt/my nas",
)  # fmt: skip


def page(*urls, **values):
    stores = tuple(map(StoreSettings.from_url, urls))
    return RecoveryPage(
        KEY, Signer.of(SIGNING), datetime(2026, 11, 27, 12, tzinfo=UTC), "db1", stores, **values
    )


class Text(HTMLParser):
    """The text of a page, and what it opens and does not close."""

    def __init__(self, html):
        super().__init__()
        self.words, self.open, self.links = [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in {"src", "href"}]
        if tag not in {"meta", "path"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag != "path":
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_both_forms_have_the_key_recipient_signer_and_each_stores_place():
    made = page(*URLS, replaces="age1old")
    html = Text(made.html(UTC))
    for text in ("".join(html.words), made.text(UTC)):
        for needed in (
            grouped(KEY.revealed()), KEY.recipient.text, Signer.of(SIGNING).fingerprint, Signer.of(SIGNING).line, "db1",
            "2026-11-27 12:00", "some/prefix", "https://s3.example.org", "eu-west-1", "/etc/refnet/s3.toml", "container",
            "user@nas", "2222", "drive", "/mnt/my nas", "Holder", "age1old",
        ):  # fmt: skip
            assert needed in text, needed
        assert "'s3://bucket/some/prefix?endpoint=https://s3.example.org&region=eu-west-1'" in text
    assert html.open == html.links == []


def test_the_codes_of_the_page_are_those_of_the_key_and_of_the_signer():
    html = page().html(UTC)
    for text in (KEY.revealed(), Signer.of(SIGNING).line):
        drawn = segno.make_qr(text, error="q").svg_inline(omitsize=True, border=4)
        assert drawn[drawn.index("<path") :] in html


def test_the_grouped_key_is_read_as_the_key():
    assert PrivateKey.parsed(grouped(KEY.revealed())) == KEY


def test_what_a_name_contains_is_escaped():
    made = RecoveryPage(KEY, Signer.of(SIGNING), datetime.now(UTC), "<script>", (), "<b>")
    assert "<script>" not in made.html(UTC)
    assert "<b>" not in made.html(UTC)


@pytest.mark.skipif(
    not all(map(shutil.which, ("age", "ssh-keygen", "zcat"))), reason="age or ssh-keygen is not installed"
)
def test_its_commands_bring_a_copy_back_without_refnet(tmp_path):
    parts = [random.Random(number).randbytes(PIECE_BYTES // 2) for number in range(3)]
    first, second = ([compress(part, 0, mtime=1) for part in some] for some in (parts[:2], parts))
    (tmp_path / "my nas").mkdir(mode=0o700)
    bucket = FolderBucket(tmp_path / "my nas")
    machine = replace(fixed_cuts(tmp_path / "home"), bucket=bucket, recovery=KEY)
    before = machine.send(artifact(1, b"".join(first)))
    copy = machine.send(artifact(2, b"".join((second[2], *first))))
    assert {*before.document.pieces} & {*copy.document.pieces}
    assert any(one.start for one in copy.document.ranges)
    made = replace(page(f"file://{tmp_path}/my nas"), signer=machine.keys.signer())
    (section,) = (one for one in made.sections if one.title == "Recover without RefNet")
    lines = [one for one in section.commands if not one.startswith(("ls ", "rm ", "pieces | tar"))]
    changes = {
        "cat > /dev/shm/key": f"echo {KEY.revealed()} > /dev/shm/key",
        "/dev/shm/key": str(tmp_path / "key"),
        "copies/MACHINE/manifests/NAME": f"copies/{copy.object}",
        "psql -X -v ON_ERROR_STOP=1 -d DATABASE": "cat > database",
    }
    script = "\n".join(lines)
    for line, instead in changes.items():
        assert line in script
        script = script.replace(line, instead)
    done = subprocess.run(
        ["sh", "-eu"], input=script, cwd=tmp_path, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Good" in done.stdout
    assert done.stdout.count(": OK") == len(copy.document.pieces)
    assert (tmp_path / "database").read_bytes() == b"".join((parts[2], *parts[:2]))


@pytest.mark.skipif(not all(map(shutil.which, ("age", "zcat"))), reason="age is not installed")
def test_the_short_commands_of_the_documentation_bring_a_copy_back_too(tmp_path):
    (block,) = (one for one in blocks(ROOT / "docs" / "offsite.md", "sh") if "age -d" in one)
    rows = random.Random(2).randbytes(PIECE_BYTES + 1000)
    (tmp_path / "copies").mkdir(mode=0o700)
    copy = Machine(tmp_path / "home", FolderBucket(tmp_path / "copies"), KEY).send(
        artifact(1, compress(rows, 0))
    )
    (tmp_path / "key").write_text(KEY.revealed())
    changes = {
        "/dev/shm/key": str(tmp_path / "key"),
        "MACHINE/manifests/TIME_SOURCE_ID.age": copy.object,
        "psql -X -v ON_ERROR_STOP=1 -d DATABASE": f"cat > {tmp_path}/database",
    }
    for line, instead in changes.items():
        assert line in block
        block = block.replace(line, instead)
    done = subprocess.run(
        ["sh", "-eu"], input=block, cwd=tmp_path, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "database").read_bytes() == rows
