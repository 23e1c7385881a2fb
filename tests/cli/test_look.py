from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest
from click.testing import CliRunner, Result

from p2pfl.cli import cli
from p2pfl.cli.look import readable
from p2pfl.errors import NetworkError

ANNA, BORIS, CHLOE, DORA = (letter * 32 for letter in "abcd")

FOUND: dict[str, Any] = {
    "node": ANNA,
    "name": "laptop",
    "run": "kitchen",
    "layout": "9a8b7c6d5e4f3a2b",
    "parameters": 1234567,
    "version": "0.1.0",
    "state": "training",
    "incarnation": 2,
    "uptime_s": 61.4,
    "age": 4321,
    "cycles": 99,
    "cycle_steps": 20,
    "cycle_s": 0.1234,
    "loss": 0.98765,
    "accuracy": 0.9512,
    "neighbours": [BORIS],
    "members": [
        {
            "node": BORIS,
            "name": "tablet",
            "addresses": ["192.168.1.6:4000", "[fd00::6]:4000"],
            "status": "alive",
            "own_steps": 5000,
            "heard_ago_s": 0.26,
        },
        {
            "node": CHLOE,
            "addresses": [],
            "status": "dead",
            "own_steps": 7,
            "heard_ago_s": 90.0,
        },
    ],
    "others": {"192.168.1.9:4000": "other run 'garden'"},
    "exchanges": {"asked": {"flow": 10, "busy": 1}, "answered": {}},
    "staleness_cycles": 0.255,
    "bytes_in": 12_345_678,
    "bytes_out": 999,
    "faults": {"checkpoint": 2},
    "trust": "byzantine",
    "is_keyed": True,
    "suspended": {CHLOE: {"equivocation": 1}},
    "denied": [DORA],
    "refusals": {BORIS: {"timeout": 3}},
}


def test_a_status_is_told_in_aligned_lines() -> None:
    assert readable(FOUND).splitlines() == [
        "node       laptop (aaaaaaaa), run 'kitchen', p2pfl 0.1.0, up 61 s, start 2",
        "id         aaaa aaaa aaaa aaaa aaaa aaaa aaaa aaaa",
        "trust      only members, over TLS; byzantine",
        "model      1,234,567 weights, layout 9a8b7c6d5e4f3a2b, age 4321",
        "training   training: accuracy 0.951, loss 0.9877, cycle 99 (20 steps, 0.12 s)",
        "exchanges  asked 10 flow, 1 busy; answered none; staleness 0.26 cycles",
        "traffic    12.3 MB in, 999 B out",
        "",
        "member             address           status  own steps  heard       neighbour",
        "tablet (bbbbbbbb)  192.168.1.6:4000  alive   5,000      0.3 s ago   yes",
        "? (cccccccc)       ?                 dead    7          90.0 s ago",
        "left out   192.168.1.9:4000: other run 'garden'",
        f"faults of  {BORIS}: 3 timeout",
        f"suspended  {CHLOE}: 1 equivocation",
        "denied     dddd dddd dddd dddd dddd dddd dddd dddd",
        "own faults 2 checkpoint",
    ]


def test_a_node_that_has_not_trained_yet_has_a_status_too() -> None:
    fresh = {"loss": None, "accuracy": None, "members": [], "others": {}, "refusals": {}}
    fresh |= {"state": "starting", "faults": {}, "suspended": {}, "denied": [], "is_keyed": False}
    text = readable(FOUND | fresh)
    assert "trust      open: anybody may join; byzantine" in text
    assert "training   starting: not trained yet, cycle 99" in text
    assert len(text.splitlines()) == 7


def test_no_text_of_others_reaches_the_terminal_raw() -> None:
    rude = {"name": "\x1b[2Jlap\ntop", "others": {"\x1b]0;1.2.3.4:1": "other run '\x07'"}}
    text = readable(FOUND | rude)
    assert "?[2Jlap?top" in text
    assert "?]0;1.2.3.4:1: other run '?'" in text
    assert text.replace("\n", "").isprintable()


@pytest.mark.parametrize("missing", ["exchanges", "members", "parameters"])
def test_a_status_of_another_version_is_said_to_be_one(missing: str) -> None:
    with pytest.raises(NetworkError, match=r"not as this version .* prints it as it is"):
        readable({key: value for key, value in FOUND.items() if key != missing})


# --- asking --------------------------------------------------------------------------------------


@contextmanager
def serving(body: bytes, kind: str = "application/json") -> Iterator[str]:
    """Something on loopback that answers every question with this."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def asked(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["status", *arguments])


@pytest.mark.parametrize("form", ["{}", "http://{}", "http://{}/v1/status"])
def test_a_node_is_asked_however_its_address_is_written(form: str) -> None:
    with serving(json.dumps(FOUND).encode()) as address:
        said = asked(form.format(address))
        assert said.exit_code == 0
        assert said.output == readable(FOUND) + "\n"
        assert json.loads(asked(form.format(address), "--json").output) == FOUND


def said_of(body: bytes, kind: str = "application/json") -> str:
    with serving(body, kind) as address:
        result = asked(address)
        assert isinstance(result.exception, NetworkError)
        return str(result.exception).removeprefix(address)


def test_what_is_no_node_is_told_from_a_node() -> None:
    assert said_of(b'{"hello": "world"}') == " answers, but is no p2pfl node"
    assert said_of(b"[]") == " answers, but is no p2pfl node"
    assert said_of(b"<html>", "text/html").startswith(" does not answer as a node: ")
    assert said_of(b"{").startswith(" does not answer as a node: ")
    assert "is not as this version" in said_of(json.dumps({"node": ANNA}).encode())


@pytest.mark.parametrize("url", ["localhost", "http://192.168.1.5"])
def test_an_address_without_a_port_is_an_error(url: str) -> None:
    error = asked(url).exception
    assert str(error) == (f"'{url}' has no port; expected http://HOST:PORT as `p2pfl node` prints")
