"""Bad values of every setting: each is refused where it is read, in two lines that name it."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refnet.core.errors import Exit, RefnetError
from refnet.settings import Problem, examine, keys, load, variable
from refnet.settings.known_keys import tables

SECRETS = {key for key, field in keys().items() if field.metadata["secret"]}
FLAGS = ("one_file_system", "encryption.local", "prove.required")
#: Values of TOML that no setting can have; a flag can be true.
NEVER = (
    "true", "1.5", "nan", "inf", "-inf", "1e400", "-1", "9" * 30, "0x" + "f" * 5000, "1979-05-27", "02:00:00", '""',
    '" "', '","', '"\\n"', '"/a\\u0000b"', '"/a\\u001b[31m"', '"daily 02:00\\u0085"', "[[]]", "[1]", '[""]', '["a\\u0007"]',
    "{}", "{x = 1}", "{x = {y = 1}}", "['a', 1]", "{days = 0x" + "f" * 5000 + "}",
)  # fmt: skip

ABSOLUTE = [
    ("vault", ""),
    ("./vault", ""),
    ("~nobody-of-this-name/x", ""),
    ("/" + "a" * 256, ""),
    ("/a" * 2100, ""),
]
TIMES = [
    ("daily 25:00", "daily 23:00"), ("dialy 02:00", "daily 02:00"), ("daily 2:60", "daily 02:59"), ("02:00", "daily 02:00"),
    ("monthly 31 05:00", "monthly 28 05:00"), ("monthly 05:00", "monthly 1 05:00"), ("sundays 3:00", "sunday 03:00"),
    ("hourly 02:15", "hourly :15"), ("daily 3 02:00", "daily 02:00"), ("wendesday 03.00", "wednesday 03:00"),
    ("daily 2", "daily 02:00"), ("daily", ""), ("0 2 * * *", ""), ("whenever it suits", ""),
]  # fmt: skip
RETENTION = [
    ("days=0", "days=1"), ("days=-1", "days=1"), ("day=7", "days=7"), ("7", "days=7"), ("7d", "days=7"),
    ("days=7 weeky=4", "days=7 weekly=4"), ("days=99999", "days=36500"), ("days=seven", ""), ("days=7 days=8", ""),
    ("hourly=3", ""),
]  # fmt: skip
PERCENT = [("101", "100"), ("-5", "0"), ("50%", "50"), ("half", "")]
LISTS = [(",", "")]
RULES = [*LISTS, ("#x", ""), ("*a*b*c", ""), ("[", "")]
STAGE = [*LISTS, ("sh -c 'x", "")]
WEB = [("localhost/health", "http://localhost/health"), ("ftp://h", ""), ("http://", ""), ("http://h:0", "")]
HOOKS = ("before_backup", "after_backup", "before_restore", "after_restore", "on_error")
PINGS = [
    ("hc-ping.com/KEY", ""),
    ("ftp://h/KEY", ""),
    ("https://", ""),
    ("https://h:99999/", ""),
    ("https://h/{sorce}", ""),
]
URLS = [
    *(("mysql://u:hunter2@h/db", ""), ("u:hunter2@h/db", ""), ("postgresql://u:hunter2@h:port/db", "")),
    *(
        ("postgresql://u:hunter2@h:70000/db", ""),
        ("postgresql://u:hunter2%@h/db", ""),
        ("postgresql://u:hunter2@[::1/db", ""),
    ),
]
#: Key → bad texts, each with the value that the error suggests ("": none).
BAD = {
    **dict.fromkeys(("home", "backup_dir", "vault_dir", "config_dir", "postgres.bin_dir", "prove.bin_dir", "log.folder"), ABSOLUTE),
    **dict.fromkeys(("database_url", "database.restore_url"), URLS),
    "jobs": [("0", "1"), ("65", "64"), ("2.0", "2"), ("many", ""), ("٣", "")],
    "instance": [("Shop", "shop"), ("a b", "a-b"), ("../x", "x"), ("1", ""), ("店", ""), ("a" * 41, "a" * 40)],
    "database.required_tables": LISTS,
    **dict.fromkeys(("exclude.config", "exclude.obsidian", "left_out.files"), RULES),
    **dict.fromkeys(("left_out.databases", "backup.order"), LISTS),
    "left_out.percent": PERCENT,
    **{key: [("True", "true"), ("yes", ""), ("1", "")] for key in FLAGS},
    "encryption.local": [("yes", ""), ("1", "")],  # true needs a recipient
    "encryption.recipients": [*LISTS, ("age1", ""), ("x", ""), ("AGE-SECRET-KEY-1HUNTER2", "")],
    "encryption.signers": [*LISTS, ("SHA256:x", ""), ("ssh-rsa AAAA", "")],
    "config.entries": [("../x", ""), ("/etc", ""), ("a,b/c", ""), ("|a", "")],
    "broker_url": [("http://:hunter2@h", ""), ("redis://", ""), ("redis://:hunter2@h:x/0", ""), ("redis://:hunter2@[::1", "")],
    **{f"schedule.{task}": TIMES for task in ("database", "config", "obsidian", "prune", "drill", "monitor", "update")},
    "schedule.timezone": [
        ("Tokyo", "Asia/Tokyo"), ("asia/tokyo", "Asia/Tokyo"), ("Asia/Tokio", "Asia/Tokyo"), ("new york", "America/New_York"),
        ("Mars/Olympus", ""), ("../../etc/passwd", ""), ("Asia", ""), ("a/" * 300, ""),
    ],
    **{f"retention.{source}": RETENTION for source in ("database", "config", "obsidian")},
    **{f"shrunk.{what}": PERCENT for what in ("tables", "rows", "bytes", "files")},
    "monitor.min_bytes": [("1 MiB", "1048576"), ("-1", "0"), ("10KB", "10240"), ("small", ""), ("٣", "")],
    "prove.source": [("Digest", "digest"), ("none", ""), ("true", "")],
    "prove.memory": [("1 GiB", "1073741824"), ("-1", "0"), ("2GB", "2147483648"), ("auto", "")],
    "cache.size": [("1 GiB", "1073741824"), ("-1", "0"), ("none", "")],
    "prove.every": [("1w", "7"), ("7d", "7"), ("-1", "0"), ("400", "365"), ("weekly", "")],
    "retention.previous": [("0", "1"), ("2w", "14"), ("7d", "7"), ("99999", "36500"), ("long", "")],
    "recover.services": [("docker", ""), ("Compose", "compose"), ("locale", "local"), ("non", "none")],
    **dict.fromkeys(("recover.storage", "recover.application", "recover.background", "recover.edge"), STAGE),
    "recover.health_url": WEB,
    "recover.seconds": [("0", "1"), ("2m", "120"), ("999999", "86400"), ("soon", "")],
    **{f"hooks.{one}": [*STAGE, ("[]", "")] for one in HOOKS},
    "hooks.timeout": [("0", "1"), ("5m", "300"), ("9999", "3600"), ("long", "")],
    "compose.service": [("-x", ""), ("a b", ""), ("a" * 101, "")],
    "notify.urls": [("hunter2", ""), ("mailto:hunter2", "")],
    "notify.backup_ping": PINGS,
    "notify.drill_ping": PINGS,
    "crawl.semantic_scholar_url": WEB,
    "crawl.openalex_url": WEB,
    "crawl.requests_per_second": [("-1", ""), ("1001", ""), ("nan", ""), ("fast", ""), ("٣", "")],
    "crawl.pdf_bytes": [("0", "1"), ("50 MiB", "52428800"), ("much", "")],
    "crawl.pdf_servers": [*LISTS, ("example.org", ""), ("https://example.org:443", "")],
    **{key: [("hunter2 hunter2", ""), ("hunter2é", "")] for key in ("crawl.api_key", "crawl.openalex_key", "summarize.api_key")},
    "summarize.url": WEB,
    "summarize.model": [("a b", ""), ("a" * 201, "")],
    "web.token": [("hunter2", ""), ("hunter2 hunter2 hunter2", ""), ("hunter2-hunter2-hunter2", ""), ("0123456789abcdef", "")],
    "web.metrics_token": [("hunter2", ""), ("a" * 40, "")],
    "web.proxies": [("nginx", ""), ("10.0.0.0/8,10.0.0.1/8", ""), ("::1/129", "")],
    "log.level": [("warn", "warning"), ("INFO", "info"), ("verbose", ""), ("none", "")],
    "crawl.provider": [("openalexx", "openalex"), ("scholar", "semantic_scholar"), ("none", "")],
}  # fmt: skip


def refused(folder: Path, **environment: str) -> tuple[str, str]:
    """The two lines about the settings in `folder`."""
    with pytest.raises(RefnetError) as error:
        load({"REFNET_HOME": str(folder / "home"), **environment}, folder, root=False, cores=4)
    assert error.value.code is Exit.USAGE
    for line in (error.value.message, error.value.hint):
        assert 10 < len(line) < 700
        assert "\n" not in line
        assert "hunter2" not in line
    return error.value.message, error.value.hint


def written(folder: Path, key: str, value: str) -> int:
    """Write `key` into a settings file; its line."""
    table, _, name = key.rpartition(".")
    text = (
        f"# the settings\n\n[{table}]\n{name} = {value}\n"
        if table
        else f"# the settings\n\n{name} = {value}\n"
    )
    (folder / "refnet.toml").write_text(text)
    return 4 if table else 3


def test_no_key_is_forgotten() -> None:
    assert BAD.keys() == keys().keys()


@pytest.mark.parametrize("key", keys())
def test_a_value_of_a_wrong_kind_is_refused_with_its_file_and_line(tmp_path: Path, key: str) -> None:
    for value in NEVER[key in FLAGS :]:
        if (key, value) == ("crawl.requests_per_second", "1.5"):
            continue
        line = written(tmp_path, key, value)
        message, _ = refused(tmp_path)
        assert message.startswith(f"{tmp_path / 'refnet.toml'}, line {line}: {key}"), message
        shows_value = message.startswith(f"{tmp_path / 'refnet.toml'}, line {line}: {key} = ")
        assert shows_value == (key not in SECRETS), (value, message)


@pytest.mark.parametrize(
    ("key", "bad", "near"), [(key, *case) for key, cases in BAD.items() for case in cases]
)
def test_a_bad_value_is_refused_with_the_nearest_valid_one(
    tmp_path: Path, key: str, bad: str, near: str
) -> None:
    line = written(tmp_path, key, json.dumps(bad, ensure_ascii=False))
    in_file = refused(tmp_path)
    (tmp_path / "refnet.toml").unlink()
    in_variable = refused(tmp_path, **{variable(key): bad})
    assert in_file[0].startswith(f"{tmp_path / 'refnet.toml'}, line {line}: {key}")
    assert in_variable[0].startswith(variable(key))
    assert in_file[1] == in_variable[1]
    found = re.match(r"Did you mean (.*?)\? ", in_file[1])
    assert (found[1] if found else "") == near, in_file
    if near:
        (tmp_path / "refnet.toml").write_text("")
        environment = {"REFNET_HOME": str(tmp_path), variable(key): near}
        assert not examine(environment, tmp_path, root=False, cores=1).problems


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("jobs = 1\n\njobs = 2\n", "line 3: jobs is set twice, first in line 1", "Remove one"),
        ("[schedule]\nprune = 'daily 1:00'\n[log]\n[schedule]\n", "line 4: not TOML", "Fix that line"),
        ("jobs = 1\njobs =\n", "line 2: not TOML", "Fix that line"),
        ("jobs = [", ": not TOML", "Close the open quote or bracket"),
        ("[shedule]\nprune = 'daily 1:00'\n", "line 1: [shedule] is not a table of settings", "Did you mean [schedule]?"),
        ("[shedule]\n", "line 1: [shedule] is not a table of settings", "Did you mean [schedule]?"),
        ("[database.shop]\n", "line 1: [database.shop] is not a table of settings", "Did you mean [databases.shop]?"),
        ("[folder.x]\npath = '/x'\n", "[folder] is not a table of settings", "Did you mean [folders.x]?"),
        ("[cluster]\nurl = ''\n", "line 1: [cluster] is not a table of settings", "Did you mean [clusters.NAME]?"),
        ("\nschedule = 'daily 1:00'\n", "line 2: schedule must be a table", "Write [schedule]"),
        ("[[schedule]]\nprune = 'daily 1:00'\n", "line 1: schedule must be a table", "Write [schedule]"),
        ("'schedule.prune' = 'daily 1:00'\n", 'line 1: "schedule.prune" is not a setting', "Did you mean schedule.prune?"),
        ("[jobs]\nx = 1\n", "line 1: jobs = {…}: must be an integer from 1 to 64", "Write"),
        ("retention.database.dais = 7\n", "line 1: retention.database = {…}: must name days", "Did you mean days=7?"),
        ("folders.notes.path = '/x'\nretention.notes = 'days=3'\n", "line 2: retention.notes is not a setting", "Did you mean folders.notes.retention?"),
        ("log = {level = 'warn'}\n", 'line 1: log.level = "warn"', "Did you mean warning?"),
        ("x = '''\njobs = 0\n'''\njobs = 0 # jobs = 0\n", "line 1: x is not a setting (and 1 more: refnet settings)", "refnet"),
        ("vault_dir = 'postgresql://u:hunter2@h/db'\n", "line 1: vault_dir: must be an absolute path", "Write"),
        ("databse_url = 'postgresql://u:hunter2@h/db'\n", "line 1: databse_url is not a setting", "Did you mean database_url?"),
        ("a" * 60_000 + " = 1\n", "line 1: aaa", "refnet"),
        ("jobs = " + "9" * 60_000, ": not TOML: ", ""),
        ("jobs = " + "[" * 30_000, " is nested too deeply", ""),
        ("jobs = 0\nx = " + ('{x = """\n""", a' + ".a" * 98 + " = ") * 15 + "1" + "}" * 15, "line 1: jobs = 0", "Did you"),
        ("\n" + "a." * 200 + "b = 1\n", "line 2: more than 100 dots", "Fix that line"),
    ],
)  # fmt: skip
def test_a_file_with_a_fault_is_refused_with_its_line(
    tmp_path: Path, text: str, message: str, hint: str
) -> None:
    (tmp_path / "refnet.toml").write_text(text)
    found = refused(tmp_path)
    assert found[0].startswith(str(tmp_path / "refnet.toml"))
    assert message in found[0]
    assert found[1].startswith(hint)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"jobs = 1\n# caf\xe9\n", "line 2: not UTF-8"),
        (b"\xef\xbb\xbfjobs = 1\n", "line 1: a byte order mark"),
        ("jobs = 1\n".encode("utf-16"), "line 1: not UTF-8"),
        (b"jobs = 1\x00\n", "line 1: not TOML"),
        (b"#" * 70_000, "is larger than 65,536 bytes"),
    ],
)
def test_a_file_that_is_not_text_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "refnet.toml").write_bytes(content)
    assert message in refused(tmp_path)[0]


def test_a_setting_may_not_be_the_name_of_a_table() -> None:
    assert not tables().keys() & keys().keys()


@given(
    st.sampled_from(sorted(keys())),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1),
)
def test_a_text_is_a_value_or_one_problem_whose_suggestion_is_valid(key: str, text: str) -> None:
    def found(value: str) -> tuple[Problem, ...]:
        environment = {"REFNET_HOME": "/nowhere", variable(key): value}
        return examine(environment, Path("/nowhere"), root=False, cores=1).problems

    for problem in found(text):
        assert problem.key == key
        near = re.match(r"Did you mean (.*?)\? ", problem.hint)
        if near and "…" not in near[1]:
            assert not found(near[1])


def test_the_values_that_no_setting_can_have_are_toml() -> None:
    for value in NEVER:
        tomllib.loads(f"x = {value}")
