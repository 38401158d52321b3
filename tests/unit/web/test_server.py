"""The socket of `refnet serve`."""

from __future__ import annotations

import pytest

from refnet.errors import Exit, RefnetError
from refnet.web.server import listen, url_of


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "::ffff:127.0.0.1", "192.0.2.1"])  # noqa: S104
def test_an_address_that_others_may_reach_is_refused_where_only_this_machine_may_ask(host):
    with pytest.raises(RefnetError, match=r"web\.token is not set") as caught:
        listen(host, 0, local=True)
    assert caught.value.code is Exit.USAGE


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:"), ("localhost", "http://"), ("127.9.9.9", "http://127.9.9.9:")],
)
def test_this_machine_is_listened_on(host, url):
    with listen(host, 0, local=True) as listening:
        assert url_of(listening).startswith(url)


def test_a_port_that_is_taken_and_a_host_that_is_not_here_are_errors():
    with listen("127.0.0.1", 0, local=True) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(RefnetError, match=rf"cannot serve on 127.0.0.1:{port}: "):
            listen("127.0.0.1", port, local=True)
    for host in ("no.such.host.invalid", "", "x" * 300, "a\u3002."):
        with pytest.raises(RefnetError):
            listen(host, 0, local=True).close()
