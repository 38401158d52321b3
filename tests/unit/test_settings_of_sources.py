"""`[databases.NAME]` and `[folders.NAME]`: their defaults, their secrets, and what contradicts itself."""

from pathlib import Path

import pytest

from refnet import settings, wiring
from refnet.core.errors import Exit, RefnetError
from refnet.settings.known_keys import keys_of
from refnet.settings.problem import unknown
from refnet.settings.report import report
from refnet.settings.sources import server_of
from refnet.store.source_records import ClusterRecord, SeenDatabases
from refnet.wiring import with_clusters

SHOP = '[databases.shop]\nurl = "postgresql://u@db/shop"\n'
NOTES = '[folders.notes]\npath = "/srv/notes"\n'


def _examined(folder: Path, text: str, **environment: str) -> settings.Examined:
    (folder / settings.FILE_NAME).write_text(text)
    (folder / settings.FILE_NAME).chmod(0o600)
    given = {"REFNET_HOME": str(folder / "home"), "REFNET_BACKUP_DIR": "/srv/backups", **environment}
    return settings.examine(given, folder, root=False, cores=2)


def _problems(folder: Path, text: str) -> str:
    return "\n".join(one.message for one in _examined(folder, text).problems)


def test_a_source_has_its_own_settings_and_the_defaults_of_its_kind(tmp_path):
    text = 'retention.database = "days=5"\n' + SHOP + 'schedule = "off"\nmin_bytes = 7\n' + NOTES
    found = _examined(tmp_path, text + 'retention = "days=3"\nexclude = ["*.tmp"]\n').valid()
    shop, notes = found.of("shop"), found.of("notes")
    assert (shop.schedule, shop.retention, shop.min_bytes, shop.shrunk_rows) == (
        None,
        found.retention_database,
        7,
        50,
    )
    assert (notes.schedule, str(notes.retention)) == (found.schedule_obsidian, "days=3")
    assert (notes.path, notes.exclude) == (Path("/srv/notes"), ("*.tmp",))
    assert list(found.sources) == ["shop", "notes"]


def test_the_short_form_is_the_standard_sources(tmp_path):
    found = _examined(tmp_path, 'database_url = "postgresql://u@db/x"\nvault_dir = "/srv/v"\n').valid()
    assert (found.of("database").url, found.of("obsidian").path) == (found.database_url, found.vault_dir)
    assert found.of("config").schedule == found.schedule_config
    assert [*found.sources] == ["database", "obsidian"]
    with pytest.raises(RefnetError, match="the source shop is not configured") as error:
        found.of("shop")
    assert error.value.code is Exit.USAGE


def test_a_variable_and_a_file_set_the_secret_of_a_source(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("postgresql://u:hidden@db/wiki\n")
    secret.chmod(0o600)
    text = SHOP + f'[databases.wiki]\nurl_file = "{secret}"\n'
    found = _examined(tmp_path, text, REFNET_DATABASES_SHOP_URL="postgresql://u@other/shop").valid()
    assert (found.of("shop").url, found.of("wiki").url) == (
        "postgresql://u@other/shop",
        "postgresql://u:hidden@db/wiki",
    )
    given = _examined(tmp_path, SHOP, REFNET_DATABASES_SHOP_URL_FILE=str(secret)).valid()
    assert given.of("shop").url == "postgresql://u:hidden@db/wiki"
    assert "hidden" not in _problems(tmp_path, text + 'url = "postgresql://u:hidden@db/y"\n')
    assert "are both set" in _problems(tmp_path, text + 'url = "postgresql://u@db/y"\n')


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[databases.Shop]", "line 1: [databases.Shop]: not a name"),
        ('[folders."../x"]', "not a name"),
        ('[folders."a b"]', "not a name"),
        ("[databases.database]", "[databases.database]: database_url sets the source database"),
        ("[folders.vault]", "vault is a reserved word"),
        ("[folders.refnet]", "refnet is a reserved word"),
        ("folders = 5", "folders.NAME must be a table"),
        ("[databases]\nshop = 5", "databases.shop must be a table"),
        ("[databases.shop]", "line 1: databases.shop.url is not set"),
        (SHOP + 'retenton = "days=1"', "line 3: databases.shop.retenton is not a setting"),
        (SHOP + 'path = "/srv/x.db"', "databases.shop.path: a database has a url or a path"),
        ('[databases.a]\npath = "/x.db"\n[databases.b]\npath = "/x.db"', "databases.b.path: the same file as databases.a"),
        (SHOP + 'retention = "day=1"', 'line 3: databases.shop.retention = "day=1": must name'),
        (SHOP + '[folders.shop]\npath = "/srv/x"', "databases.shop has this name"),
        (NOTES + '[folders.my-x]\npath = "/a"\n[folders.my_x]\npath = "/b"', "or the same variables"),
        (SHOP + '[databases.b]\nurl = "postgres://v@DB:5432/shop"', "databases.b.url: the same database as databases.shop"),
        ('database_url = "postgresql://u@db/shop"\n' + SHOP, "databases.shop.url: the same database as database_url"),
        (NOTES + '[folders.b]\npath = "/srv/notes/"', "folders.b.path: the same folder as folders.notes.path"),
        (NOTES + '[folders.b]\npath = "/srv/notes/x"', "folders.b.path: one folder with, or inside of,"),
        ('vault_dir = "/srv/notes"\n' + NOTES, "folders.notes.path: the same folder as vault_dir"),
        ('[folders.b]\npath = "/srv"', "it and the backup folder /srv/backups overlap"),
        ('[folders.b]\npath = "/srv/backups/x"', "it and the backup folder /srv/backups overlap"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_with_its_place(tmp_path, text, said):
    assert said in _problems(tmp_path, text)


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("postgresql://u:p@Db/x", ("db:5432", "x")),
        ("postgresql://db:5433/x?sslmode=require", ("db:5433", "x")),
        ("postgresql://u@/x?host=/run/pg&port=5433", ("/run/pg:5433", "x")),
        ("postgresql:///x", ("localhost:5432", "x")),
        ("postgresql://u@db", ("db:5432", "u")),
    ],
)
def test_a_url_names_a_server_and_a_database(url, server):
    assert server_of(url) == server


CLUSTER = '[clusters.main]\nurl = "postgresql://u@db/postgres"\n'


def _defaults(folder: Path) -> None:
    """Make what the specification protects by default: RefNet's own server, the vault of `refnet notes`, a Compose file."""
    (folder / "home" / "vault").mkdir(parents=True)
    (folder / "home" / "postgres" / "data").mkdir(parents=True)
    (folder / "home" / "postgres" / "data" / "PG_VERSION").write_text("17\n")
    (folder / "compose.yaml").write_text("services: {}\n")


@pytest.mark.parametrize(
    ("text", "without", "protected"),
    [
        ("", set(), {"database", "config", "obsidian"}),
        ("[web]\nproxies = []\n[retention]\nobsidian = 'days=5'\n[schedule]\ndatabase = 'off'\n", set(), {"database", "config", "obsidian"}),
        (NOTES, {"notes"}, {"notes"}),
        (SHOP + NOTES, {"shop", "notes"}, {"shop", "notes"}),
        (CLUSTER, set(), set()),
        ('database_url = "postgresql://u@db/x"\n' + NOTES, {"database", "notes"}, {"database", "notes"}),
        ('database_url = "own"\n' + NOTES, {"database", "notes"}, {"database", "notes"}),
        ('vault_dir = "/srv/vault"\n', {"obsidian"}, {"database", "config", "obsidian"}),
        ('database_url = "none"\nvault_dir = "none"\nconfig_dir = "none"\n', set(), set()),
    ],
)  # fmt: skip
def test_a_source_comes_from_a_table_a_key_or_an_existing_default(short_home, text, without, protected):
    found = _examined(short_home, text, REFNET_BACKUP_DIR=str(short_home / "backups")).valid()
    assert wiring.configured(found) == without
    _defaults(short_home)
    found = _examined(short_home, text, REFNET_BACKUP_DIR=str(short_home / "backups")).valid()
    assert wiring.configured(found) == protected
    assert wiring.configured(found) <= {*wiring.known(found)}


def test_short_form_keys_are_read_as_tables_and_named_as_written(tmp_path):
    text = 'database_url = "postgresql://u@db/x"\nconfig_dir = "/srv/c"\nvault_dir = "/srv/v"\n' + NOTES
    text += "exclude = ['*.tmp']\n[database]\nrestore_url = 'postgresql://w@db/x'\n[exclude]\nobsidian = ['*.bak']\n"
    found = _examined(tmp_path, text).valid()
    assert list(found.sources) == ["database", "config", "obsidian", "notes"]
    database, config, vault, notes = found.sources.values()
    assert (database.url, database.restore_url) == ("postgresql://u@db/x", "postgresql://w@db/x")
    assert (config.path, config.entries) == (Path("/srv/c"), found.config_entries)
    assert (vault.path, vault.exclude) == (Path("/srv/v"), ("*.bak",))
    keys = [one.key_of("path") for one in (config, vault, notes)]
    assert keys == ["config_dir", "vault_dir", "folders.notes.path"]
    assert [database.key_of(one) for one in ("url", "restore_url", "schedule")] == [
        "database_url",
        "database.restore_url",
        "schedule.database",
    ]
    assert {one.name for one in found.named} == {"notes"}
    shown = {one.key for one in report(_examined(tmp_path, text))}
    assert "databases.database.url" not in shown
    assert "folders.notes.path" in shown


def test_a_word_in_place_of_a_url_or_folder_is_shown_and_overridable(tmp_path):
    text = 'database_url = "own"\nvault_dir = "none"\n'
    shown = {one.key: (one.value, one.valid) for one in report(_examined(tmp_path, text))}
    assert (shown["database_url"], shown["vault_dir"]) == (("own", True), ("none", True))
    found = _examined(tmp_path, text, REFNET_DATABASE_URL="none", REFNET_VAULT_DIR="/srv/v").valid()
    assert [*found.sources] == ["obsidian"]
    assert found.left_out == {"database"}


def test_a_cluster_names_its_databases_by_the_record_of_its_server(tmp_path):
    text = 'retention.database = "days=5"\n[clusters.main]\nurl = "postgresql://u@db/postgres"\nschedule = "off"\n'
    text += 'exclude = ["scratch_*"]\nroles_with_passwords = true\n'
    found = _examined(tmp_path, text).valid()
    assert (found.sources, list(found.clusters)) == ({}, ["main"])
    assert found.clusters["main"].exclude_databases == ("scratch_*",)
    assert list(with_clusters(found).sources) == ["main-globals"]
    ClusterRecord.at(found.home, "main").write(SeenDatabases(("shop", "Wiki")))
    known = with_clusters(found)
    roles, shop, wiki = known.sources
    assert (roles, shop, wiki.startswith("main-wiki-")) == ("main-globals", "main-shop", True)
    assert (known.of(shop).schedule, str(known.of(shop).retention)) == (None, "days=5")
    assert server_of(known.of(shop).url) == ("db:5432", "shop")
    assert with_clusters(known).sources == known.sources


@pytest.mark.parametrize(
    ("name", "near"),
    [("excludes", ""), ("hooks", ""), ("retenton", "Did you mean databases.shop.retention? ")],
)
def test_only_the_last_part_of_a_key_of_a_source_is_compared(name, near):
    known = [f"databases.shop.{key}" for key in keys_of("databases")]
    assert (
        unknown(f"databases.shop.{name}", "", known).hint == f"{near}refnet.toml.example lists every setting."
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[clusters.main]\n", "clusters.main.url is not set"),
        ('[clusters.a-name-that-is-far-too-long]\nurl = "postgresql://u@db/x"\n', "longer than 24"),
        ('[databases.x-globals]\nurl = "postgresql://u@db/x"\n', "-globals ends the names"),
        ('[clusters.main]\nurl = "postgresql://u@db/x"\npath = "/srv"\n', "clusters.main.path"),
        (
            '[clusters.a]\nurl = "postgresql://u@db/x"\n[clusters.b]\nurl = "postgresql://v@DB:5432/y"\n',
            "clusters.b.url: the same server as clusters.a.url",
        ),
        (SHOP + '[clusters.shop]\nurl = "postgresql://u@db/x"\n', "databases.shop has this name"),
    ],
)
def test_a_wrong_cluster_is_refused(tmp_path, text, why):
    assert why in _problems(tmp_path, text)
