"""A scenario: what runs, what hits it, and what must hold at the end; data for either engine.

    [task]      what is learned, and how its data are split
    [duration]  how long, in cycles or in seconds
    [node]      configuration of every node: train, gossip, membership, limits
    [compute]   how long a local step takes, and on whom longer
    [network]   latency, loss, bandwidth; [[network.nodes]] and [[network.links]] for exceptions
    [churn]     who comes and goes, by chance, by a trace, or as [[churn.events]] say
    [faults]    what else goes wrong, by chance or as [[faults.events]] say
    [adversary] which nodes are hostile, and what they do
    [measure]   how often the swarm is looked at
    [expect]    bounds; a run passes only if every one of them holds

    fields.py     what all tables have in common
    who.py        who is meant
    setting.py    [task], [duration], [compute], [network]
    trouble.py    [churn], [faults], [adversary]
    bounds.py     [measure], [expect]
    whole.py      the scenario

Rule of the room: frozen, unknown keys are errors, every value is bounded. Seconds are the nodes'
own: virtual ones in the simulator, real ones with processes. `who` is a share of the nodes that
are up (0.3), a number of them (3), or names and ranges ("n01", "n05-n08", "all").
"""

from p2pfl.scenario.spec.bounds import Bound, Expect, Measure
from p2pfl.scenario.spec.setting import (
    MODELLED,
    Compute,
    Duration,
    Link,
    NetworkSpec,
    NodeLink,
    OneWay,
    TaskSpec,
)
from p2pfl.scenario.spec.trouble import (
    FAULTS,
    TRAINED,
    Adversary,
    AttackName,
    Churn,
    ChurnEvent,
    FaultEvent,
    Faults,
    State,
)
from p2pfl.scenario.spec.who import Who, named, names
from p2pfl.scenario.spec.whole import Scenario

__all__ = [
    "FAULTS",
    "MODELLED",
    "TRAINED",
    "Adversary",
    "AttackName",
    "Bound",
    "Churn",
    "ChurnEvent",
    "Compute",
    "Duration",
    "Expect",
    "FaultEvent",
    "Faults",
    "Link",
    "Measure",
    "NetworkSpec",
    "NodeLink",
    "OneWay",
    "Scenario",
    "State",
    "TaskSpec",
    "Who",
    "named",
    "names",
]
