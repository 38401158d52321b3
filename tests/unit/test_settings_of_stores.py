"""`[stores.NAME]`, `[encryption]`, and the URLs of stores."""

from dataclasses import replace
from pathlib import Path

import pytest

from refnet import settings
from refnet.core.errors import Exit, RefnetError
from refnet.settings import StoreKind, StoreSettings
from refnet.settings.converters import InvalidError
from refnet.settings.encryption import _BECH32, _checksum, wrong_recipient
from refnet.settings.known_keys import keys_of
from refnet.settings.stores import bandwidth, days, store_url
from refnet.settings.urls import parse_store_url
from refnet.wiring import with_clusters

CLOUD = '[stores.cloud]\nurl = "s3://bucket/a/b?region=eu-west-1&lock=4w"\n'
RECIPIENT = "age14tz0w803r0qyrsla7gxv3mz5uc8t5hu2vrn2jc5q7c70yw7v4uvqq3j25h"


def _examined(folder: Path, text: str, **environment: str) -> settings.Examined:
    (folder / settings.FILE_NAME).write_text(text)
    given = {"REFNET_HOME": str(folder / "home"), "REFNET_BACKUP_DIR": "/srv/backups", **environment}
    return settings.examine(given, folder, root=False, cores=2)


def _problems(folder: Path, text: str) -> str:
    return "\n".join(f"{one.message} {one.hint}" for one in _examined(folder, text).problems)


def test_a_store_has_the_values_of_its_table_of_its_url_and_of_variables(tmp_path):
    text = CLOUD + 'region = "us-east-1"\nbandwidth = "20 MiB/s"\nretention.database = "days=30 monthly=12"\n'
    given = _examined(tmp_path, text, REFNET_STORES_CLOUD_ENDPOINT="https://s3.example.org/").valid()
    store = given.store("cloud")
    assert (store.place.kind, store.place.place, store.place.path) == (StoreKind.S3, "bucket", "a/b")
    assert (store.region, store.lock, store.bandwidth) == ("us-east-1", 28, 20 * 2**20)
    assert store.endpoint == "https://s3.example.org"
    assert str(store.retention.of("database")) == "days=30 monthly=12"
    assert store.retention.of("obsidian") is None
    assert str(store.retention) == "database: days=30 monthly=12"
    assert (store.extend_locks, store.share_for) == (False, 90)
    given = _examined(tmp_path, CLOUD + "extend_locks = true\n", REFNET_STORES_CLOUD_SHARE_FOR="1y").valid()
    assert (given.store("cloud").extend_locks, given.store("cloud").share_for) == (True, 365)


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("s3://bucket", ("s3", "bucket", "", "", 0)),
        ("gs://bucket/x/", ("gs", "bucket", "x", "", 0)),
        ("az://container/x", ("az", "container", "x", "", 0)),
        ("sftp://u@nas:2222/srv/copies/", ("sftp", "nas", "/srv/copies", "u", 2222)),
        ("sftp://[fe80::1]/~/copies", ("sftp", "fe80::1", "~/copies", "", 0)),
        ("sftp://nas/My%20copies", ("sftp", "nas", "/My copies", "", 0)),
        ("rclone:box:copies/x", ("rclone", "box", "copies/x", "", 0)),
        ("rclone:box:", ("rclone", "box", "", "", 0)),
        ("file:///mnt/My%20NAS", ("file", "", "/mnt/My NAS", "", 0)),
    ],
)
def test_a_url_of_each_kind_is_read(url, parts):
    found = parse_store_url(url)
    assert (found.kind, found.place, found.path, found.user, found.port) == parts
    assert parse_store_url(str(found).replace(" ", "%20")) == found


@pytest.mark.parametrize(
    ("url", "rule", "near"),
    [
        ("", "must not be empty", ""),
        ("bucket", "must be the URL of a store", ""),
        ("s3:bucket/x", "must be the URL of a store", "s3://bucket/x"),
        ("S3://bucket", "must be the URL of a store", "s3://bucket"),
        ("gcs://bucket", "must be the URL of a store", "gs://bucket"),
        ("/mnt/nas", "must be the URL of a store", "file:///mnt/nas"),
        ("file://mnt/nas", "must be like file:///FOLDER", "file:///mnt/nas"),
        ("file://", "must", ""),
        ("ftp://host/x", "must be the URL of a store", ""),
        ("s3://b/x#y", "must be the URL of a store", ""),
        ("s3:///x", "must be like s3://BUCKET/PREFIX", ""),
        ("s3://bucket/a/../b", "must not have . or ..", ""),
        ("s3://bucket/a//b", "must have a prefix", ""),
        ("s3://bucket/a%0ab", "must have a prefix", ""),
        ("s3://key:hunter2@bucket", "must not contain a password", ""),
        ("sftp://u:hunter2@host/x", "must not contain a password", ""),
        ("sftp://u:hunter@2@host/x", "must not contain a password", ""),
        ("sftp://-oProxyCommand=x/y", "must be like sftp://USER@HOST/FOLDER", ""),
        ("sftp://-l@host/y", "must be like sftp://USER@HOST/FOLDER", ""),
        ("sftp://host:70000/y", "must have a port", ""),
        ("sftp://host", "must name a folder", ""),
        ("sftp://host/a%0aput%20x", "must not contain quotes", ""),
        ("sftp://host/a*", "must not contain quotes", ""),
        ("rclone:box", "must be the URL of a store", ""),
        ("rclone:box,pass=hunter2:x", "must be like rclone:REMOTE:PATH", ""),
        ("rclone::s3,secret=hunter2:x", "must be like rclone:REMOTE:PATH", ""),
        ("rclone:-x:y", "must be like rclone:REMOTE:PATH", ""),
        ("rclone:box:a/../../b", "must not have . or ..", ""),
        ("s3://bucket?hunter2", "must have options such as", ""),
        ("s3://bucket?secret_access_key=hunter2", "must not have other options than endpoint, region", ""),
        ("s3://bucket?region=a&region=b", "must name each option once", ""),
        ("s3://bucket?region=hunter2!", "has a wrong region, which must be", ""),
        ("s3://bucket?lock=0d", "has a wrong lock, which must be", ""),
        ("sftp://host/x?lock=30d", "must not have other options than bandwidth", ""),
        ("file:///x?endpoint=https://h", "must not have other options than bandwidth", ""),
    ],
)  # fmt: skip
def test_a_url_that_cannot_be_meant_is_refused_and_never_repeated(tmp_path, url, rule, near):
    with pytest.raises(InvalidError) as error:
        store_url(url)
    assert error.value.rule.startswith(rule)
    assert error.value.near == near
    with pytest.raises(RefnetError) as told:
        StoreSettings.from_url(url)
    assert told.value.code is Exit.USAGE
    said = _problems(tmp_path, f'[stores.x]\nurl = "{url}"\n')
    assert "line 2: stores.x.url" in said
    assert "hunter" not in said + told.value.message + told.value.hint


@pytest.mark.parametrize(
    ("convert", "text", "value", "near"),
    [
        (days, "30d", 30, ""), (days, "2W", 14, ""), (days, "1y", 365, ""), (days, 7, 7, ""), (days, "30", None, "30d"),
        (days, "3 months", None, "90d"), (days, "0d", None, "1d"), (days, "999y", None, "36500d"), (days, "long", None, ""),
        (days, 1.5, None, ""), (days, True, None, ""), (days, "", None, ""),
        (bandwidth, "20 MiB/s", 20 * 2**20, ""), (bandwidth, "1.5MB/s", 1_500_000, ""), (bandwidth, "500 kib/s", 512_000, ""),
        (bandwidth, "20M", None, "20480 KiB/s"), (bandwidth, "20 MiB", None, "20480 KiB/s"),
        (bandwidth, "8 Mbit/s", None, "1024 KiB/s"), (bandwidth, "1 B/s", None, ""), (bandwidth, "0 MiB/s", None, "1 KiB/s"),
        (bandwidth, 5, None, ""), (bandwidth, "fast", None, ""), (bandwidth, "9999 GiB/s", None, "976562500 KiB/s"),
    ],
)  # fmt: skip
def test_times_and_speeds_have_units(convert, text, value, near):
    if value is not None:
        assert convert(text) == value
        return
    with pytest.raises(InvalidError) as error:
        convert(text)
    assert error.value.near == near
    assert not near or convert(near)


@pytest.mark.parametrize("key", sorted(keys_of("stores")))
@pytest.mark.parametrize(
    "value", ["true", "1.5", '""', '" "', "[[]]", "[1]", "{}", '"\\u0000"', "02:00:00", '"\\u001b[2J"']
)
def test_a_value_of_a_wrong_kind_is_refused_with_its_line(tmp_path, key, value):
    text = '[stores.x]\nurl = "s3://bucket"\n' if key != "url" else "[stores.x]\n\n"
    problems = _examined(tmp_path, text + f"{key} = {value}\n").problems
    assert [one.message.split(" = ")[0].split(": ")[1] for one in problems] == [f"stores.x.{key}"]
    assert "line 3: " in problems[0].message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[stores.Cloud]", "line 1: [stores.Cloud]: not a name"),
        ("[stores.local]", "[stores.local]: local is the backup folder"),
        ("[stores.all]", "all is a reserved word"),
        ('[stores."../x"]', "not a name"),
        ("stores = 5", "stores.NAME must be a table"),
        ("[stores]\nx = 5", "stores.x must be a table"),
        ("[stores.x]", "line 1: stores.x.url is not set"),
        (CLOUD + 'region = "a"\nregion = "b"', "line 4: stores.cloud.region is set twice, first in line 3"),
        (CLOUD + 'credential_file = "/x"', "stores.cloud.credential_file is not a setting Did you mean stores.cloud.credentials_file?"),
        (CLOUD + 'password = "hunter2"', "line 3: stores.cloud.password is not a setting"),
        (CLOUD + 'bandwidth = "20 MB"', 'line 3: stores.cloud.bandwidth = "20 MB": must be a speed'),
        (CLOUD + 'retention = "day=7"', 'line 3: stores.cloud.retention = "day=7": must name days'),
        (CLOUD + 'retention.obsidian = "days=1"\nretention.database = "day=7"', 'line 4: stores.cloud.retention.database = "day=7": must name'),
        (CLOUD + 'retention.databse = "days=7"', "line 3: stores.cloud.retention: 'databse' is not a source Did you mean database?"),
        (CLOUD + 'sources = ["database-x"]', "'database-x' is not a source Did you mean database?"),
        (CLOUD + 'sources = ["shop"]', "line 3: stores.cloud.sources: 'shop' is not a source"),
        (CLOUD + 'credentials_file = "/x"\nprune_credentials_file = "/x"', "the same file as credentials_file"),
        (CLOUD + '[stores.b]\nurl = "s3://bucket/a/b"', "stores.b.url: the same place as stores.cloud.url"),
        (CLOUD + '[stores.my-x]\nurl = "s3://b1"\n[stores.my_x]\nurl = "s3://b2"', "or the same variables"),
        (CLOUD + 'extend_locks = "yes"', 'stores.cloud.extend_locks = "yes": must be true or false'),
        ('[stores.nas]\nurl = "s3://bucket"\nextend_locks = true', "line 3: stores.nas.extend_locks: it needs lock, the time that locks are extended to"),
        ('[stores.nas]\nurl = "rclone:b2:x"\nextend_locks = true', "stores.nas.extend_locks: RefNet cannot extend the locks of a store of the kind rclone"),
        (CLOUD + 'share_for = "0d"', 'stores.cloud.share_for = "0d": must be a time from 1d to 3650d Did you mean 1d?'),
        (CLOUD + 'share_for = "11y"', "Did you mean 3650d?"),
        ('[stores.nas]\nurl = "file:///mnt"\nlock = "30d"', "stores.nas.lock: a store of the kind file has no lock"),
        ('[stores.nas]\nurl = "sftp://h/x"\nendpoint = "https://h"', "stores.nas.endpoint: a store of the kind sftp has no endpoint"),
        ('[stores.nas]\nurl = "file:///srv/backups/x"', "it and the backup folder, /srv/backups, overlap"),
        ('[folders.notes]\npath = "/srv/notes"\n[stores.nas]\nurl = "file:///srv/notes/x"', "it and notes, /srv/notes, overlap"),
        ("[encryption]\nrecipient = []", "encryption.recipient is not a setting Did you mean encryption.recipients?"),
        ('[encryption]\nidentity = "AGE-SECRET-KEY-1HUNTER2"', "encryption.identity is not a setting"),
        (f'[encryption]\nrecipients = ["{RECIPIENT}", "{RECIPIENT[:-1]}4"]', "recipient 2 is mistyped"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_with_its_place(tmp_path, text, said):
    found = _problems(tmp_path, text)
    assert said in found
    assert "hunter2" not in found.lower()


def test_a_store_may_name_a_cluster_or_one_database_of_it(tmp_path):
    text = '[clusters.main]\nurl = "postgresql://u@db/postgres"\n' + CLOUD + 'sources = ["main"]\n'
    given = with_clusters(_examined(tmp_path, text + 'retention.main-shop = "days=3"\n').valid())
    assert str(given.stores["cloud"].retention.of("main-shop")) == "days=3"
    assert [one.name for one in given.stores_of("main-globals")] == ["cloud"]
    assert given.stores_of("database") == ()


def test_a_store_is_found_by_its_name_and_by_its_url(tmp_path):
    given = _examined(
        tmp_path, CLOUD + 'sources = ["obsidian"]\n[stores.all_of_it]\nurl = "file:///mnt/nas"\n'
    ).valid()
    assert given.store("s3://bucket/a/b") is given.stores["cloud"]
    assert given.store("s3://bucket/c") == given.store("s3://bucket/c")
    assert given.store("s3://bucket/c").name != given.store("s3://bucket/d").name
    assert [one.name for one in given.stores_of("database")] == ["all_of_it"]
    assert [one.name for one in given.stores_of("obsidian")] == ["cloud", "all_of_it"]
    with pytest.raises(RefnetError, match="the store 'clod' is not configured") as error:
        given.store("clod")
    assert error.value.hint.startswith("Did you mean cloud?")


def test_buckets_of_one_name_at_two_servers_are_two_places(tmp_path):
    text = CLOUD + '[stores.other]\nurl = "s3://bucket/a/b"\nendpoint = "https://s3.example.org"\n'
    given = _examined(tmp_path, text).valid()
    assert [one.name for one in given.stores_of("database")] == ["cloud", "other"]


def test_without_recipients_nothing_is_copied(tmp_path):
    given = _examined(tmp_path, CLOUD + "[encryption]\nrecipients = []\n").valid()
    with pytest.raises(RefnetError, match=r"encryption\.recipients is not set") as error:
        given.recipients()
    assert error.value.code is Exit.USAGE
    assert replace(given, encryption_recipients=(RECIPIENT,)).recipients() == (RECIPIENT,)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (RECIPIENT, ""),
        (RECIPIENT.upper(), "is not of the form age1"),
        (RECIPIENT[:-2], "is not of the form age1"),
        (RECIPIENT.replace("w", "s", 1), "is mistyped"),
        ("age1pq1" + "q" * 300, "is mistyped"),
        ("ssh-ed25519 AAAA", "has a type without a recovery key on paper"),
        ("", "is not of the form age1"),
    ],
)
def test_a_recipient_is_checked(text, why):
    assert wrong_recipient(text).startswith(why)
    assert bool(wrong_recipient(text)) == bool(why)


def test_a_recipient_of_a_later_kind_is_named():
    data = "q" * 300
    rest = _checksum("age1pq", data + "q" * 6) ^ 1
    later = f"age1pq1{data}" + "".join(_BECH32[rest >> 5 * (5 - n) & 31] for n in range(6))
    assert wrong_recipient(later) == "has the type age1pq1, which this version of RefNet does not support"


def test_recipients_that_age_makes_are_read():
    import pyrage

    for _ in range(50):
        assert not wrong_recipient(str(pyrage.x25519.Identity.generate().to_public()))
