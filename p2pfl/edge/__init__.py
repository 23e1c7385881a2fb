"""The real world: sockets, multicast, files."""
