"""What a neighbour rule is worth on n nodes, and rules that come from files.

Mixing is judged by the Metropolis-Hastings matrix of the graph (the Metropolis weights of Xiao,
Boyd & Lall, "A scheme for robust distributed sensor fusion", IPSN 2005):

    W_ij = 1 / (1 + max(d_i, d_j))  for neighbours,    W_ii = 1 - sum_j W_ij,    0 elsewhere

It is symmetric and doubly stochastic, so x(t+1) = W x(t) keeps the mean, and the squared consensus
distance shrinks by λ2² a step in the end, λ2 being the second largest eigenvalue by modulus. Where
a partner is drawn anew for each exchange, `exchange_contraction` says what one exchange is worth.

Rule of the file: analysis only. A running node needs `neighbours`, and nothing of this module but
the reading of its topology file; networkx is imported where it is used, so nobody else pays for it.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pfl.core.neighbours import RULES, Rule, edges, parametrised, rule
from p2pfl.errors import ConfigError
from p2pfl.toml import parsed


@dataclass(frozen=True, slots=True)
class Shape:
    """What a graph is like.

    Attributes:
        nodes, links: how many.
        degree_min, degree_mean, degree_max: neighbours of a node.
        diameter: hops between the two nodes furthest apart; inf if there is no way.
        lambda2: second largest modulus of an eigenvalue of the Metropolis-Hastings matrix.
        gap: 1 - lambda2, the spectral gap.
        mixing_steps: synchronous steps until the consensus distance is down to 1/e of itself, as
            `steps` counts them: -1 / ln(lambda2); 0 if one step is enough, inf if it never is.
    """

    nodes: int
    links: int
    degree_min: int
    degree_mean: float
    degree_max: int
    diameter: float
    lambda2: float
    gap: float
    mixing_steps: float


def ids(count: int) -> tuple[str, ...]:
    """Made-up member ids, sorted, as an analysis needs them."""
    return tuple(f"{number:08x}" for number in range(count))


def adjacency(topology: Rule, members: Sequence[str]) -> NDArray[np.bool_]:
    """Who is whose neighbour: (n, n) bool, symmetric, False on the diagonal.

    Args:
        topology: the rule.
        members: n ids, sorted.
    """
    place = {member: i for i, member in enumerate(members)}
    links = np.zeros((len(members), len(members)), np.bool_)
    for member, i in place.items():
        links[i, [place[other] for other in topology.neighbours(member, members)]] = True
    return links


def metropolis_hastings(links: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The mixing matrix W of a graph: (n, n) float64, symmetric, rows and columns sum to 1.

    Args:
        links: (n, n) bool, symmetric, False on the diagonal.
    """
    degree = links.sum(axis=1)
    weights = np.where(links, 1.0 / (1.0 + np.maximum.outer(degree, degree)), 0.0)
    np.fill_diagonal(weights, 1.0 - weights.sum(axis=1))
    return weights


def lambda2(mixing: NDArray[np.float64]) -> float:
    """Second largest modulus among the eigenvalues of a symmetric stochastic matrix, in [0, 1].

    Args:
        mixing: (n, n) float64; for n = 1 the answer is 0.
    """
    values = np.linalg.eigvalsh(mixing)
    return float(np.clip(np.abs(values[:-1]).max(initial=0.0), 0.0, 1.0))


def shape(topology: Rule, members: Sequence[str] | None = None) -> Shape:
    """Measure a rule on some members; an edge list's default is the members it lists.

    Args:
        topology: the rule.
        members: n >= 1 ids, sorted.

    Raises:
        ConfigError: no members were given for a rule that lists none.
    """
    if members is None:
        members = sorted({vertex for link in topology.links for vertex in link})
    if not members:
        raise ConfigError(f"'{topology.text}' has 0 members, at least 1 is needed")
    links = adjacency(topology, members)
    degree, slowest = links.sum(axis=1), lambda2(metropolis_hastings(links))
    # rounding leaves 1e-16 where the mathematics says 0 or 1
    slowest = 0.0 if slowest < 1e-12 else 1.0 if slowest > 1 - 1e-12 else slowest
    return Shape(
        nodes=len(members),
        links=int(degree.sum()) // 2,
        degree_min=int(degree.min()),
        degree_mean=float(degree.mean()),
        degree_max=int(degree.max()),
        diameter=float(hops(links).max()),
        lambda2=slowest,
        gap=1.0 - slowest,
        mixing_steps=steps(slowest),
    )


def hops(links: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How far apart nodes are: (n, n) float64, 0 on the diagonal, inf where there is no way.

    All nodes widen their horizon together, a hop at a time; a horizon is one long integer, so
    that a union is one machine word for 64 nodes.

    Args:
        links: (n, n) bool, symmetric.
    """
    n = len(links)
    inside = links | np.eye(n, dtype=np.bool_)
    found = (~np.eye(n, dtype=np.bool_)).astype(np.int32)
    if not inside.all():
        near = [np.flatnonzero(row).tolist() for row in links]
        width = -(-n // 8)
        packed = np.packbits(inside, axis=1, bitorder="little")
        horizons = [int.from_bytes(row.tobytes(), "little") for row in packed]
        while not inside.all():
            wider = []
            for horizon, others in zip(horizons, near, strict=True):
                for other in others:
                    horizon |= horizons[other]
                wider.append(horizon)
            if wider == horizons:
                break
            found += ~inside
            horizons = wider
            packed = np.frombuffer(b"".join(h.to_bytes(width, "little") for h in wider), np.uint8)
            bits = np.unpackbits(packed.reshape(n, width), axis=1, count=n, bitorder="little")
            inside = bits.astype(np.bool_)
    return np.where(inside, found, np.inf)


def steps(contraction: float, to: float = 1 / math.e) -> float:
    """How many steps shrink a distance to the part `to` of itself: ln(to) / ln(contraction).

    Args:
        contraction: what one step multiplies the distance by, in [0, 1].
        to: the part that is to be left, in (0, 1).

    Returns:
        A real number; 0 if one step leaves nothing, inf if steps do nothing.
    """
    if contraction in (0.0, 1.0):
        return math.inf if contraction else 0.0
    return math.log(to) / math.log(contraction)


def exchange_contraction(nodes: int, weight: float = 0.5) -> float:
    """What one exchange of two random nodes multiplies the *squared* consensus distance by.

    The expectation on the complete graph: 1 - 4c(1 - c) / (n - 1) for weight c. A cycle in which
    every node asks is worth a little more than as many random exchanges, as nobody is left out: its
    logarithm is 1.1 to 1.2 times theirs.

    Args:
        nodes: n >= 2.
        weight: c, what both ends take of the difference, in (0, 1).
    """
    return 1.0 - 4.0 * weight * (1.0 - weight) / (nodes - 1)


# --- files --------------------------------------------------------------------------------------


def topology(text: str) -> Rule:
    """The rule that `text` names, or that the file `text` holds (`.toml`, `.graphml`).

    Raises:
        ConfigError: as for `read` and `p2pfl.core.neighbours.rule`.
    """
    return read(Path(text)) if text.endswith((".toml", ".graphml")) else rule(text)


def read(path: Path) -> Rule:
    """Read a topology file.

    TOML: `rule = "torus"` with its parameter under its own name (`columns = 4`), or
    `edges = [["a", "b"], ...]` with ids or names; `description` is for people. GraphML: an
    undirected graph whose node ids are ids or names.

    Raises:
        ConfigError: naming the file, the key, its value and what is allowed.
    """
    try:
        return _from_table(_table(path))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def description(path: Path) -> str:
    """What a topology file says of itself, in one line; empty if it says nothing.

    TOML: the key `description`. GraphML: the attribute `description` of the graph.

    Raises:
        ConfigError: the file cannot be read, or is neither TOML nor GraphML.
    """
    try:
        said = _table(path).get("description")
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return " ".join(said.split()) if isinstance(said, str) else ""


def _table(path: Path) -> dict[str, Any]:
    try:
        if path.suffix == ".graphml":
            return _graphml(path)
        return parsed(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}") from None
    except ValueError as error:
        # a path that no file can have
        raise ConfigError(f"cannot be read: {error}") from None


def _from_table(table: Mapping[str, Any]) -> Rule:
    values = {key: value for key, value in table.items() if key != "description"}
    if ("rule" in values) == ("edges" in values):
        raise ConfigError("exactly one of the keys 'rule' and 'edges' is needed")
    if "edges" in values:
        _reject_unknown(values, ["edges"])
        if not isinstance(values["edges"], list):
            raise ConfigError(f"'edges' is {values['edges']!r}, expected a list of pairs")
        for pair in values["edges"]:
            if not isinstance(pair, list):
                raise ConfigError(f'\'edges\' holds {pair!r}, expected pairs such as ["a", "b"]')
        return edges(values["edges"])
    name = values["rule"]
    if not isinstance(name, str):
        raise ConfigError(f"'rule' is {name!r}, expected a name such as \"ring\"")
    if name not in RULES:
        return rule(name)
    parameter = RULES[name].parameter
    _reject_unknown(values, ["rule", *([parameter] if parameter else [])])
    number = values.get(parameter) if parameter else None
    if number is not None and type(number) is not int:
        raise ConfigError(f"'{parameter}' is {number!r}, expected an integer")
    return parametrised(name, number, f"rule '{name}'")


def _reject_unknown(values: Mapping[str, Any], allowed: list[str]) -> None:
    allowed = [*allowed, "description"]
    for key in values:
        if key not in allowed:
            near = difflib.get_close_matches(key, allowed, n=1)
            hint = f", did you mean '{near[0]}'?" if near else f"; known: {', '.join(allowed)}"
            raise ConfigError(f"unknown key '{key}' = {values[key]!r}{hint}")


def _graphml(path: Path) -> dict[str, Any]:
    """A GraphML file as if it had been written in TOML."""
    import networkx as nx

    try:
        graph = nx.read_graphml(path)
    except (nx.NetworkXError, SyntaxError, LookupError, ValueError) as error:
        # a damaged XML file is a SyntaxError to the parser, an unknown encoding a LookupError
        raise ConfigError(f"not GraphML: {error}") from None
    if graph.is_directed():
        raise ConfigError(
            "the graph is directed, neighbours must be mutual: edgedefault=undirected"
        )
    links = [[str(a), str(b)] for a, b in graph.edges()]
    return {"edges": links, "description": graph.graph.get("description")}
