"""How a real node is put together."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path

from p2pfl.cli.assemble import assembled, prepared
from p2pfl.config import DeviceConfig
from p2pfl.edge.http import HttpTransport


async def port_of(config: DeviceConfig) -> int:
    async with assembled(prepared(config)) as being:
        transport = being.node.vitals.transport
        assert isinstance(transport, HttpTransport)
        return transport.port


async def test_a_node_listens_where_it_listened_last_so_that_its_page_is_found_again(
    tmp_path: Path,
) -> None:
    config = DeviceConfig(
        task="digits-numpy", bind="127.0.0.1", mdns=False, state_dir=str(tmp_path / "state")
    )
    first = await port_of(config)
    assert await port_of(config) == first
    (tmp_path / "state" / "port").write_text("no number")
    other = await port_of(config)
    with closing(socket.create_server(("127.0.0.1", other))):
        assert await port_of(config) != other, "taken, so another one"
