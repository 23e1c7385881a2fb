"""What a neighbour rule is worth on n nodes, and rules that come from files.

Mixing is judged by the Metropolis-Hastings matrix of the graph (the Metropolis weights of Xiao,
Boyd & Lall, "A scheme for robust distributed sensor fusion", IPSN 2005):

    W_ij = 1 / (1 + max(d_i, d_j))  for neighbours,    W_ii = 1 - sum_j W_ij,    0 elsewhere

It is symmetric and doubly stochastic, so x(t+1) = W x(t) keeps the mean, and the squared consensus
distance shrinks by λ2² a step in the end, λ2 being the second largest eigenvalue by modulus.

Rule of the file: analysis only. A running node needs `neighbours`, and nothing of this module but
the reading of its topology file; networkx is imported where it is used, so nobody else pays for it.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pfl.core.neighbours import RULES, Rule, edges, parametrised, rule
from p2pfl.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Shape:
    """What a graph is like.

    Attributes:
        nodes, links: how many.
        degree_min, degree_mean, degree_max: neighbours of a node.
        diameter: hops between the two nodes furthest apart; inf if there is no way.
        lambda2: second largest modulus of an eigenvalue of the Metropolis-Hastings matrix.
        gap: 1 - lambda2, the spectral gap.
        mixing_steps: synchronous steps until the consensus distance is down to 1/e of itself,
            -1 / ln(lambda2); 0 if one step is enough, inf if it never is.
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
    if slowest in (0.0, 1.0):
        mixing_steps = math.inf if slowest else 0.0
    else:
        mixing_steps = -1.0 / math.log(slowest)
    return Shape(
        nodes=len(members),
        links=int(degree.sum()) // 2,
        degree_min=int(degree.min()),
        degree_mean=float(degree.mean()),
        degree_max=int(degree.max()),
        diameter=_diameter(links),
        lambda2=slowest,
        gap=1.0 - slowest,
        mixing_steps=mixing_steps,
    )


def _diameter(links: NDArray[np.bool_]) -> float:
    import networkx as nx

    graph = nx.from_numpy_array(links)
    return float(nx.diameter(graph)) if nx.is_connected(graph) else math.inf


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
        if path.suffix == ".graphml":
            return edges(_graphml(path))
        with path.open("rb") as file:
            return _from_table(tomllib.load(file))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


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


def _graphml(path: Path) -> list[tuple[str, str]]:
    import networkx as nx

    try:
        graph = nx.read_graphml(path)
    except (nx.NetworkXError, SyntaxError, KeyError, ValueError) as error:
        # a damaged XML file is a SyntaxError to the parser
        raise ConfigError(f"not GraphML: {error}") from None
    if graph.is_directed():
        raise ConfigError(
            "the graph is directed, neighbours must be mutual: edgedefault=undirected"
        )
    return [(str(a), str(b)) for a, b in graph.edges()]
