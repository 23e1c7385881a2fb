"""The node: a thin asynchronous shell around the pure core.

It never knows where it runs: transport, discovery, clock, worker and chance are arguments, the same
on a LAN and in the simulator.

    life.py       Node: its loops in one TaskGroup, and its farewell
    training.py   the training cycle, evaluation, and what happens when they go wrong
    asking.py     exchanges from the asker's end, and their RESOLVE
    meeting.py    probes, first meetings, a newcomer's first pull, goodbyes
    requests.py   one request to a peer, and what became of it
    answering.py  everything it answers: one synchronous handler
    vitals.py     what these share
    status.py     what it tells people and tools
"""

from p2pfl.node.life import Node

__all__ = ["Node"]
