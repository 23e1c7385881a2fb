"""A network between real nodes: every node is reached only through a door here, which may be bad.

    asker ──► door of the answerer ──► answerer          a door is a port of ours; nodes announce it
                    │                                    instead of their own (`advertise`)
                    who asks is told by the first packet on a connection: its `address` is a door

    doors.py        when doors are open, and what becomes of a message
    fate.py         what a line is like, and what can become of a message
    connection.py   one connection through a door, and how its messages are carried
    messages.py     HTTP, as far as needed

Rules of the room: HTTP is parsed as far as it must be (where messages begin and end, who asks) and
no further; whoever is no node, such as our own watch, passes unharmed. What lies in wait here means
what `sim/network.py` means by it. One generator is all the chance there is.
"""

from p2pfl.scenario.proxy.connection import HOST
from p2pfl.scenario.proxy.doors import Doors, free_ports
from p2pfl.scenario.proxy.fate import Line

__all__ = ["HOST", "Doors", "Line", "free_ports"]
