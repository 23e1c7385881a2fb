"""Who is whose neighbour in a swarm of real nodes, as far as their ids are known.

Rule of the file: a pure function; what nodes draw by chance is drawn once here, as an example.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from p2pfl.core.neighbours import Rule


def known_links(
    rule: Rule, ids: Mapping[int, str], names: Sequence[str], seed: int
) -> tuple[tuple[int, int], ...]:
    """Pairs of places that are neighbours with all present, of those whose id is known.

    Args:
        rule: the neighbour rule.
        ids: the nodes' ids by place.
        names: of all nodes, by place.
        seed: of what a rule draws anew every cycle.
    """
    places = {node: place for place, node in ids.items()}
    called = {node: names[place] for place, node in ids.items()}
    members = sorted(places)
    found = set()
    for node in members:
        others = rule.neighbours(node, members, called)
        if rule.draws is not None:
            # some that might have been drawn
            rng = np.random.default_rng([seed, places[node]])
            drawn = rng.choice(len(others), min(rule.draws, len(others)), replace=False)
            others = tuple(others[at] for at in drawn)
        found |= {tuple(sorted((places[node], places[other]))) for other in others}
    return tuple((a, b) for a, b in sorted(found))
