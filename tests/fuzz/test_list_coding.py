"""Lists of files as they are stored in a copy: encoded and decoded again, or refused."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.harness import fuzzed, outcome
from tests.fuzz.strategies import damaged

from refnet.store.list_coding import decode, encode

_FILES = ",\n".join(f'{{"path":"a/{number}","size":7,"at":{number * 1024}}}' for number in range(80))
LIST = f'{{"format": 2,\n"members": [[0,0],[9000,70000],[9100,70500]],\n"files": [\n{_FILES}\n]}}\n'.encode()
CODED = encode(LIST)
_LINES = st.lists(
    st.one_of(
        st.sampled_from(
            [b"#members\n", b"#\n", b"1,2\n", b'"members": [[1,2]],\n', b'{"a":"b","at":5}\n', b"\n", b"x"]
        ),
        st.integers(-(10**20), 10**20).map(lambda at: b'{"path":"p","at":%d}\n' % at),
        st.binary(max_size=30),
    ),
    max_size=20,
).map(b"".join)


@fuzzed
@given(damaged(CODED))
def test_a_damaged_list_is_decoded_or_refused(data: bytes) -> None:
    found = outcome(lambda: decode(data, len(LIST)), ValueError)
    assert found is None or len(found) <= len(LIST)


@fuzzed
@given(st.one_of(_LINES, damaged(LIST)))
def test_any_text_is_encoded_and_comes_back_or_is_not_encoded(text: bytes) -> None:
    coded = outcome(lambda: encode(text))
    assert coded is None or decode(coded, len(text)) == text
