"""Powers of roles: a value of --permit is read or refused, and names the power of one role only."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.harness import fuzzed, outcome
from tests.fuzz.strategies import texts

from refnet.core.errors import RefnetError
from refnet.sources.permitted import Permitted, Power, shown
from refnet.sources.roles.global_statements import quoted, read
from refnet.sources.roles.powers import all_powers

names = st.one_of(
    texts,
    st.sampled_from(
        ["backup", "backup: SUPERUSER", 'a"b', "a\nb", "member of x", " with ADMIN OPTION", "SHA256:"]
    ),
).filter(lambda name: 0 < len(name) < 60 and "\0" not in name)


@fuzzed
@given(st.one_of(texts, st.from_regex(r"(SHA256:)?[0-9a-fA-F]{60,66}\n?", fullmatch=True)))
def test_a_value_of_permit_is_read_or_refused(value: str) -> None:
    found = outcome(lambda: Permitted.of([value]), RefnetError)
    if found:
        assert found.names | found.digests == {value}
        assert not found.everything


@fuzzed
@given(names, names, names, names)
def test_what_names_one_power_of_a_role_permits_no_other(
    role: str, group: str, other: str, another: str
) -> None:
    one, two = (Power(who, f"member of {shown(of)}") for who, of in ((role, group), (other, another)))
    permitted = outcome(lambda: Permitted.of([str(one)]), RefnetError)
    if permitted:  # a very long name is refused
        assert permitted.by(one, "", "") == "by name"
        assert (permitted.by(two, "", "") == "by name") is (one == two)


@fuzzed
@given(names, names)
def test_a_list_has_the_powers_of_each_name(role: str, group: str) -> None:
    who, of = ('"' + one.replace('"', '""') + '"' for one in (role, group))
    text = f"ALTER ROLE {quoted(of)} WITH SUPERUSER; GRANT {quoted(of)} TO {quoted(who)};"
    assert {*all_powers(tuple(read(text)))} == {
        Power(group, "SUPERUSER"),
        Power(role, f"member of {shown(group)}"),
    }
