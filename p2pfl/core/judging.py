"""What a model may do that a member sent who may lie: robust mode (PROTOCOL section 4).

With the rule `clip` a model passes the gate (`gate.py`), and its difference is shortened to the
clip that both ends agree on. With the other rules it waits until there are enough to be judged
together (`robust.py`).

Rule of the file: it decides about models by numbers measured here, never by a peer's word alone,
and changes no weights; the books of an exchange are `gossip.py`'s.
"""

from __future__ import annotations

from p2pfl.config import RobustConfig
from p2pfl.core.compression import Encoded
from p2pfl.core.gate import Gate, distance_and_norm
from p2pfl.core.ledger import Pending
from p2pfl.core.messages import Adopt, Adopted, Answer, Exchange, Flow, Reason, Swap
from p2pfl.core.mixing import FlowNorm, squared
from p2pfl.core.outcomes import REJECTED, Mixed
from p2pfl.core.robust import can_judge
from p2pfl.core.weights import Vector, pieces

ROUNDING = 1.05
"""A codec's rounding may lengthen what was shortened to the clip radius by a little."""


class Judging:
    """What one node decides in robust mode.

    Args:
        config: how models are mixed.
        gate: of the same node.

    Attributes:
        arrived: (d,) models by peer that wait to be judged together, each used once.
    """

    def __init__(self, config: RobustConfig, gate: Gate) -> None:
        self.config = config
        self.arrived: dict[str, Vector] = {}
        self._gate = gate

    @property
    def clips(self) -> bool:
        """Whether each model is mixed alone, clipped, instead of being judged with others."""
        return self.config.rule == "clip"

    def lie(self, pending: Pending, answer: Answer) -> Mixed | None:
        """What an answer is that no honest member gives in robust mode; None if it may be."""
        match answer:
            case Flow() if self.clips:
                moved = FlowNorm()
                for at in pieces(answer.payload.size):
                    moved.takes(squared(answer.payload.values(at)))
                distance, reach = moved.norm / pending.weight, ROUNDING * pending.clip
                if distance <= reach:
                    return None
                return Mixed(f"{REJECTED}{Reason.CLIP}", distance=distance, reach=reach)
            case Swap() if not self.clips:
                return None
            case Flow() | Swap() | Adopt() | Adopted():
                return Mixed("ignored")  # a member in another mode
        return None

    def shortened(self, peer: str, x: Vector, ask: Exchange) -> float | Mixed:
        """What the weight of a model is multiplied with, in (0, 1]; or why it is not mixed.

        Args:
            peer: whose model it is; if it passes, the gate knows it from now on.
            x: (d,) float32, our own weights.
            ask: with the peer's model and its clip.
        """
        distance, norm = distance_and_norm(x, ask.payload)
        self._gate.measured(norm)
        reach = self._gate.reach
        if distance > reach:
            return Mixed(f"{REJECTED}{Reason.DISTANCE}", distance=distance, reach=reach)
        clip = self._gate.clip()
        if ask.clip:
            clip = min(clip, ask.clip)
        self._gate.passed(peer, distance, ask.age)
        return min(1.0, clip / distance) if distance > 0 else 1.0

    def keep(self, peer: str, x: Vector, model: Encoded, age: int) -> Mixed:
        """Keep a fresh model until there are enough to be judged together; each is used once."""
        distance, norm = distance_and_norm(x, model)
        self._gate.measured(norm)
        farthest = self._gate.farthest()
        if distance > farthest:
            return Mixed(f"{REJECTED}{Reason.NORM}", distance=distance, reach=farthest)
        self._gate.passed(peer, distance, age)
        self.arrived.pop(peer, None)
        if len(self.arrived) >= self.config.models - 1:
            del self.arrived[next(iter(self.arrived))]
        self.arrived[peer] = model.values()
        return Mixed("swap")

    def take_arrived(self, neighbours: int) -> dict[str, Vector] | None:
        """The models that are to be judged now, (d,) each, if there are enough.

        Args:
            neighbours: that could have sent one: where they are few, no more are waited for than
                there are, as long as the rule holds with those.
        """
        if not self.arrived:
            return None
        wanted = min(self.config.models - 1, neighbours)
        if len(self.arrived) < wanted or not can_judge(self.config, len(self.arrived)):
            return None
        arrived, self.arrived = self.arrived, {}
        return arrived
