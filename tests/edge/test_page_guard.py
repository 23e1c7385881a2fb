from __future__ import annotations

import pytest

from p2pfl.edge.browsers import is_own
from p2pfl.edge.page.files import Asset, assets, load
from p2pfl.edge.page.serving import OFF, check, parse
from p2pfl.errors import ConfigError

OURS = ("nas.example.org",)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.0.0.1:4000", "192.168.1.7:4000", "[::1]:4000", "[fd00::7]", "::1"),
        *("[fe80::1%eth0]:4000", "localhost", "LOCALHOST:4000", "localhost.", "laptop.local:4000"),
        *("Laptop.Local.", "nas.example.org:4000", "NAS.example.org"),
    ],
)
def test_this_devices_addresses_and_names_are_its_own(host: str) -> None:
    assert is_own(host, OURS)


@pytest.mark.parametrize(
    "host",
    [
        *("", "evil.com", "evil.com:4000", "127.0.0.1.evil.com", "localhost.evil.com", "local"),
        *("evil.com:localhost", "192.168.1.7.nip.io:4000", "[evil.com]:4000", "xlocalhost"),
        *("example.org", "x.nas.example.org", "127.0.0.1@evil.com", "evil.com%127.0.0.1", "\udcff"),
        *("notlocal", "evil.com#.localhost.com", "0x7f000001", "2130706433", "[", "]", ":", "::::"),
    ],
)
def test_a_name_that_anybody_could_have_is_not(host: str) -> None:
    assert not is_own(host, OURS)


@pytest.mark.parametrize(
    ("where", "meant"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
        ("[::1]:8080", ("::1", 8080)),
        ("laptop.local:80", ("laptop.local", 80)),
    ],
)
def test_where_a_page_is_to_be_is_a_host_and_a_port(where: str, meant: tuple[str, int]) -> None:
    assert parse(where) == meant
    check(where, is_keyed=True)


@pytest.mark.parametrize(
    "where", ["8080", ":8080", "::1:8080", "localhost", "a:b", "a:65536", "[::1]", "a:-1", "[a:1"]
)
def test_what_is_neither_is_an_error_that_shows_how(where: str) -> None:
    with pytest.raises(ConfigError, match=r"expected HOST:PORT as in 127.0.0.1:8080"):
        check(where, is_keyed=True)


def test_an_open_runs_page_is_at_the_nodes_own_port() -> None:
    check("", is_keyed=False)
    check(OFF, is_keyed=False)
    with pytest.raises(ConfigError, match="is at the node's own --bind and --port"):
        check("127.0.0.1:8080", is_keyed=False)


def test_the_files_of_the_page_have_their_types_and_a_digest(tmp_path) -> None:  # type: ignore[no-untyped-def]
    for name in ("index.html", "a.js", "a.css", "a.svg", "a.py", "notes.txt", ".hidden.js", "x"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    (tmp_path / "folder.js").mkdir()
    found = load(tmp_path)
    assert {name: asset.content_type for name, asset in found.items()} == {
        "index.html": "text/html; charset=utf-8",
        "a.js": "text/javascript; charset=utf-8",
        "a.css": "text/css; charset=utf-8",
        "a.svg": "image/svg+xml",
    }
    assert len({asset.etag for asset in found.values()}) == 4
    assert found["a.js"].data == b"a.js"


def test_the_package_has_a_page() -> None:
    page = assets()["index.html"]
    assert isinstance(page, Asset)
    assert page.data.startswith(b"<!doctype html>")
