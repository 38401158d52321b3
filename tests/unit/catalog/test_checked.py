"""The reading of untrusted JSON."""

import pytest

from refnet.core.checked import parsed


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32-le"])
@pytest.mark.parametrize("text", ["{}", "{\n}", '{"é": [1, null]}', "[]", " {} ", '"x"'])
def test_every_encoding_of_json_is_read(text, encoding):
    assert parsed(text.encode(encoding)) == parsed(text)


@pytest.mark.parametrize("space", [" ", "\t", "\r\n", " \n "])
def test_white_space_around_a_document_is_none_of_its_content(space):
    assert parsed(f"{space}{{}}{space}") == {}


@pytest.mark.parametrize(
    "text",
    ["", " ", "{", "{}{}", "{} x", "{}\0", "\xa0{}", "{}\u2028", "NaN", '{"a": Infinity}', "[" * 100_000],
)
def test_anything_else_is_not_json(text):
    for one in (text, text.encode()):
        with pytest.raises(ValueError, match=r"^not JSON$"):
            parsed(one)


@pytest.mark.parametrize(
    "data", [b"{", b"{\x00", b"{\x00}\x00}", b"\xff", b"\x00\x00\x00{", b'{"\xff": 1}', b"{\xc3"]
)
def test_bytes_that_are_no_text_are_not_json(data):
    with pytest.raises(ValueError, match=r"^not JSON$"):
        parsed(data)


def test_a_document_that_is_too_long_is_not_parsed():
    with pytest.raises(ValueError, match="longer than 2"):
        parsed(b"[1]", 2)
