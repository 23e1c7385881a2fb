from __future__ import annotations

import errno
import os
import ssl
import time

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from p2pfl.cli.lookup import address_of, fits, none_fits, unreachable
from p2pfl.edge.announcement import tagged
from p2pfl.edge.credentials import Credentials
from p2pfl.edge.runkey import RunKey
from p2pfl.errors import ConfigError
from p2pfl.ports import Sighting

KEY = RunKey.new()
KEYED = tagged(KEY.tag)


def seen(run: str | None) -> Sighting:
    return Sighting(("127.0.0.1:4000",), "a" * 32, run, None, "1", None)


@pytest.fixture
def credentials() -> Credentials:
    return Credentials.observer(KEY, time.time())


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.0.1:4000", "10.0.0.1:4000"),
        ("http://10.0.0.1:4000/v1/status", "10.0.0.1:4000"),
        ("[::1]:4000", "[::1]:4000"),
        ("laptop", None),
        ("http://10.0.0.1", None),
        ("./state/laptop", None),
        ("", None),
    ],
)
def test_an_address_is_one_however_it_is_written(text: str, address: str | None) -> None:
    assert address_of(text, None) == address


def test_https_is_for_whoever_has_the_key(credentials: Credentials) -> None:
    assert address_of("https://10.0.0.1:4000/", credentials) == "10.0.0.1:4000"
    with pytest.raises(ConfigError, match=r"in a run with a key; give its key: --key-file FILE"):
        address_of("https://10.0.0.1:4000/", None)


def test_a_key_alone_says_which_run_is_meant(credentials: Credentials) -> None:
    assert fits(seen(KEYED), "whatever", credentials)
    assert not fits(seen(tagged(RunKey.new().tag)), None, credentials)
    assert not fits(seen("kitchen"), "kitchen", credentials)


def test_without_a_key_only_open_runs_are_meant() -> None:
    assert fits(seen("kitchen"), None, None)
    assert fits(seen("kitchen"), "kitchen", None)
    assert not fits(seen("kitchen"), "garden", None)
    assert not fits(seen(KEYED), None, None)


def test_where_none_fits_it_is_said_what_was_seen_and_what_to_give(
    credentials: Credentials,
) -> None:
    assert "`p2pfl doctor`" in str(none_fits([], None, None))
    assert str(none_fits([seen(KEYED), seen(KEYED)], None, None)) == (
        f"only nodes of runs with a key were seen ({KEYED}); give its key: --key-file FILE, or in "
        "a strict run --cert FILE --state-dir DIR"
    )
    found = [seen("kitchen"), seen(KEYED)]
    others = ", ".join(sorted(("kitchen", KEYED))).replace("kitchen", "'kitchen'")
    expected = f"no node of this run was seen, but of {others}"
    assert str(none_fits(found, "garden", None)) == expected
    assert str(none_fits(found, None, credentials)).startswith(f"{expected}; `p2pfl run-key show`")


WHERE = ConnectionKey("127.0.0.1", 1, False, True, None, None, None)


def failed(error: OSError) -> aiohttp.ClientConnectorError:
    return aiohttp.ClientConnectorError(WHERE, error)


def test_why_nobody_was_reached_is_said_in_words() -> None:
    refused = OSError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 1)")
    assert unreachable(failed(refused)) == "nothing runs there"
    away = OSError(errno.EHOSTUNREACH, "Connect call failed ('127.0.0.1', 1)")
    assert unreachable(failed(away)) == os.strerror(errno.EHOSTUNREACH).lower()
    nowhere = OSError(-2, "Name or service not known")
    assert unreachable(failed(nowhere)) == "name or service not known"


def test_whoever_speaks_no_tls_is_said_not_to_be_in_a_run_with_a_key() -> None:
    plain = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)")
    plain.reason = "WRONG_VERSION_NUMBER"
    error = failed(OSError(0, ""))
    error.__cause__ = plain
    assert "not in a run with a key" in unreachable(error)
