"""Every error p2pfl raises, in one tree; the branch says who is to blame.

    P2pflError
    ├── ConfigError            ours: an option or a file is wrong; the text names the fix
    │   ├── TaskError          the user's task file or data cannot be used
    │   └── StateError         the state directory cannot be used (damaged, or of another model)
    ├── LearnerError           ours: training went wrong (non-finite loss or weights)
    ├── NetworkError           ours: no usable interface, port in use, multicast refused
    └── PeerError              the peer's: recorded against the peer, never stops the node
        ├── PeerUnreachable    it could not be connected to: the request never left
        │   └── PeerGone       its device says that nobody listens there
        ├── PeerTimeout        it did not answer in time: the request may have taken effect
        └── WireError          it sent bytes that are not a message

Rule of the file: messages give the value and the bound, as in `vector has 7 values, expected 10`.
"""

from __future__ import annotations


class P2pflError(Exception):
    """Root of the tree; catching it catches everything p2pfl raises on purpose."""


class ConfigError(P2pflError):
    """An option, a configuration file or a scenario is wrong."""


class TaskError(ConfigError):
    """The user's task file, or the data it gives, cannot be used."""


class StateError(ConfigError):
    """The state directory cannot be used: unreadable, damaged, or of another model."""


class LearnerError(P2pflError):
    """Training produced something that is not a number; the weights were not changed."""


class NetworkError(P2pflError):
    """This device cannot do what was asked of its network."""


class PeerError(P2pflError):
    """A peer's fault; it is counted against the peer and costs nothing else."""


class PeerUnreachable(PeerError):  # noqa: N818 (reads as a statement about the peer)
    """The peer could not be connected to; the request never left this node."""


class PeerGone(PeerUnreachable):
    """The device at the peer's address refused the connection: no process listens there."""


class PeerTimeout(PeerError):  # noqa: N818
    """The peer did not answer in time; the request may or may not have taken effect."""


class WireError(PeerError):
    """The peer sent bytes that are not a message of this protocol."""
