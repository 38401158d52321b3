"""What is copied to remote stores, what is not and why, and what is said of copies that are missing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.remote_store import Machine, artifact

from refnet import settings
from refnet.actions import copy
from refnet.actions.copy import Copied, Wanted, at_bandwidth, missing, unready, wanted
from refnet.catalog.artifact import Made
from refnet.catalog.manifest import Entry, Evidence, Level, Manifest, Outcome
from refnet.catalog.source_name import SourceName
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError
from refnet.store.buckets import opening
from refnet.store.buckets.bucket import Bucket
from refnet.store.buckets.opening import Paced
from refnet.wiring import remote_store, with_clusters

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
AWAY = RefnetError("no answer", "Check the network.", transient=True)
WRONG = RefnetError("not what was sent", "Retry.", Exit.DAMAGED)


@pytest.fixture
def context(tmp_path: Path) -> Context:
    (tmp_path / "refnet.toml").write_text(
        '[stores.near]\nurl = "file:///near"\n[stores.far]\nurl = "file:///far"\nsources = ["config"]\n'
    )
    (tmp_path / "refnet.toml").chmod(0o600)
    environment = {"REFNET_HOME": str(tmp_path / "home"), "REFNET_BACKUP_DIR": str(tmp_path / "backups")}
    return Context(settings.load(environment, tmp_path, root=True, cores=2))


def _artifact(context: Context, days: int, *, shrunk: bool = False, partial: bool = False) -> Manifest:
    created = NOW + timedelta(days=days)
    made = Made(created, {}, partial=partial, shrunk=("less",) if shrunk else ())
    with context.local.draft(SourceName.DATABASE) as draft:
        draft.out.write(str(days).encode())
        return draft.publish(made, created, 1.0)


def _found(ones: list[Wanted]) -> list[tuple[str, str | None, str]]:
    return [(one.store, one.entry.name if one.entry else None, one.skipped) for one in ones]


def test_the_newest_complete_artifact_goes_to_each_store_of_its_source(context: Context) -> None:
    _artifact(context, 1)
    newest = _artifact(context, 2)
    _artifact(context, 3, partial=True)
    assert _found(wanted(context, "database")) == [("near", newest.name, "")]
    assert _found(wanted(context, None, "far")) == [("far", newest.name, "")]
    assert _found(wanted(context, "config")) == [
        ("near", None, "no complete artifact"), ("far", None, "no complete artifact")
    ]  # fmt: skip


def test_what_is_not_copied_is_said_with_its_reason(context: Context) -> None:
    one, damaged, shrunk, partial = (
        _artifact(context, 1), _artifact(context, 2), _artifact(context, 3, shrunk=True), _artifact(context, 4, partial=True)
    )  # fmt: skip
    context.local.record(Entry(damaged), Evidence(NOW, Level.INTACT, Outcome.FAILED, 1.0))
    everything = dict(_found(wanted(context, "database", all_of_them=True))[n][1:] for n in range(4))
    assert everything[one.name] == ""
    assert "damaged" in everything[damaged.name]
    assert f"refnet accept {shrunk.name}" in everything[shrunk.name]
    assert "only some tables" in everything[partial.name]
    assert "shrank" in wanted(context, "database")[0].skipped


def test_locks_that_are_not_extended_are_said(context: Context, tmp_path: Path) -> None:
    machine, said = Machine(tmp_path / "machine"), list[str]()
    sent = replace(machine.sent(artifact(1, b"x")), not_extended="AccessDenied 403")
    copy._sample(replace(context, note=said.append), machine.store(), sent)
    assert said == [
        "cloud: locks are not extended, so pieces were sent again: AccessDenied 403; run: refnet store check cloud"
    ]


def test_a_cluster_stands_for_all_its_sources(context: Context) -> None:
    (context.settings.file or Path()).write_text(
        '[stores.near]\nurl = "file:///near"\n[clusters.main]\nurl = "postgresql://db/postgres"\n'
    )
    environment = {
        "REFNET_HOME": str(context.settings.home), "REFNET_BACKUP_DIR": str(context.settings.backup_dir)
    }  # fmt: skip
    folder = context.settings.home.parent
    found = with_clusters(settings.load(environment, folder, root=True, cores=2))
    [one] = wanted(Context(found), "main")
    assert (one.source, one.skipped) == ("main-globals", "no complete artifact")


def test_a_missing_recipient_or_key_is_reported_before_copying(context: Context) -> None:
    [error] = unready(context, [SourceName.CONFIG, SourceName.DATABASE])
    assert "nothing can be copied to near, far: encryption.recipients is not set" in error.message
    own = replace(context.settings, encryption_recipients=("age1x",))
    assert "signing key" in unready(replace(context, settings=own), [SourceName.DATABASE])[0].message
    assert unready(context, []) == []


@pytest.mark.parametrize(
    ("meant", "to"), [("nothing_20260101.sql.gz", None), (None, "nowhere"), (None, "s3://")]
)
def test_a_wrong_name_is_refused(context: Context, meant: str | None, to: str | None) -> None:
    _artifact(context, 1)
    with pytest.raises(RefnetError) as error:
        wanted(context, meant, to)
    assert error.value.code is Exit.USAGE


@pytest.mark.parametrize("to", ["near", "far", "file:///disk?bandwidth=1 GB/s"])
def test_the_bandwidth_of_a_run_reaches_the_bucket_of_each_store(
    context: Context, to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    speeds: list[int] = []

    class Seen(Paced):
        def __init__(self, inner: Bucket, speed: int) -> None:
            speeds.append(speed)
            super().__init__(inner, speed)

    monkeypatch.setattr(opening, "Paced", Seen)
    slow = at_bandwidth(context, 20_000_000, to)
    assert isinstance(remote_store(slow.settings, to).bucket, Paced)
    assert speeds == [20_000_000]
    assert remote_store(slow.settings, to).name == remote_store(context.settings, to).name


def test_a_bandwidth_without_a_named_store_is_that_of_all(context: Context) -> None:
    slow = at_bandwidth(context, 5000)
    assert [(one.name, one.bandwidth) for one in slow.settings.stores.values()] == [
        ("near", 5000),
        ("far", 5000),
    ]
    with pytest.raises(RefnetError, match="'fra' is not configured"):
        at_bandwidth(context, 5000, "fra")


def test_missing_copies_are_one_error_that_names_each_store() -> None:
    def copied(store: str, error: RefnetError | None = None) -> Copied:
        return Copied(SourceName.DATABASE, "a.sql.gz", store, error=error)

    assert missing([copied("near")]) is None
    one = missing([copied("near"), copied("far", AWAY)])
    assert one
    assert (one.message, one.hint) == ("a.sql.gz is not copied to far: no answer", AWAY.hint)
    assert (one.code, one.transient) == (Exit.FAILED, True)
    both = missing([copied("near", WRONG), copied("far", AWAY)])
    assert both
    assert both.message == "a.sql.gz is not copied to near: not what was sent; far: no answer"
    assert (both.code, both.transient) == (Exit.DAMAGED, False)
