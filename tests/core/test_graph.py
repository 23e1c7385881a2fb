import math
import subprocess
import sys
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from p2pfl.core.graph import (
    adjacency,
    description,
    exchange_contraction,
    hops,
    ids,
    lambda2,
    metropolis_hastings,
    read,
    shape,
    steps,
    topology,
)
from p2pfl.core.neighbours import RULES, rule
from p2pfl.errors import ConfigError

TOPOLOGIES = Path(__file__).parents[2] / "topologies"


def mixing(text: str, n: int) -> np.ndarray:
    return metropolis_hastings(adjacency(rule(text), ids(n)))


# --- matrices -----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", RULES)
def test_mixing_matrices_are_symmetric_doubly_stochastic_and_follow_the_graph(text):
    for n in (1, 2, 5, 16, 23):
        links, weights = adjacency(rule(text), ids(n)), mixing(text, n)
        assert np.array_equal(links, links.T)
        assert not links.diagonal().any()
        assert np.array_equal(weights, weights.T)
        assert np.allclose(weights.sum(axis=0), 1, atol=1e-12)
        assert weights.min() >= -1e-12
        assert np.array_equal((weights > 1e-12) & ~np.eye(n, dtype=bool), links)


@pytest.mark.parametrize(
    ("text", "n", "expected"),
    [("ring", 16, 0.949253), ("ring", 32, 0.987190), ("torus", 16, 0.6)],
)
def test_lambda2_is_as_in_section_7_invariant_3(text, n, expected):
    assert lambda2(mixing(text, n)) == pytest.approx(expected, abs=5e-7)


@pytest.mark.parametrize(("text", "n"), [("ring", 16), ("ring", 32), ("torus", 16), ("star", 9)])
def test_synchronous_mixing_shrinks_the_squared_distance_by_lambda2_squared_a_step(text, n):
    """PROTOCOL section 7, invariant 3, as a simulation: 20 values on each of n nodes."""
    weights, x = mixing(text, n), np.random.default_rng(0).normal(size=(n, 20))
    mean = x.mean(axis=0)
    steps = math.ceil(shape(rule(text), ids(n)).mixing_steps * 12)
    distances = []
    for _ in range(steps):
        x = weights @ x
        distances.append(((x - mean) ** 2).sum(axis=1).mean())
    assert np.allclose(x.mean(axis=0), mean, atol=1e-12)
    assert distances[-1] / distances[-2] == pytest.approx(lambda2(weights) ** 2, rel=1e-4)


def test_lambda2_counts_negative_eigenvalues_by_their_modulus():
    swap = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert lambda2(swap) == pytest.approx(1.0)


# --- shapes -------------------------------------------------------------------------------------


def test_the_shape_of_a_ring_is_its_closed_form():
    ring = shape(rule("ring"), ids(16))
    assert (ring.nodes, ring.links, ring.diameter) == (16, 16, 8)
    assert (ring.degree_min, ring.degree_mean, ring.degree_max) == (2, 2.0, 2)
    closed = (1 + 2 * math.cos(2 * math.pi / 16)) / 3
    assert ring.lambda2 == pytest.approx(closed)
    assert ring.gap == pytest.approx(1 - closed)
    assert ring.mixing_steps == pytest.approx(-1 / math.log(closed))


def test_a_full_graph_mixes_in_one_step_and_a_lone_node_has_nothing_to_mix():
    full, lone = shape(rule("full"), ids(8)), shape(rule("full"), ids(1))
    assert (full.diameter, full.gap, full.mixing_steps) == (1, 1.0, 0.0)
    assert (lone.links, lone.diameter, lone.gap) == (0, 0, 1.0)


def test_better_connected_rules_have_larger_gaps_at_64_nodes():
    texts = ("ring", "small-world-4", "torus", "random-regular-4", "exponential", "full")
    gaps = {text: shape(rule(text), ids(64)).gap for text in texts}
    assert gaps["ring"] < gaps["small-world-4"] < gaps["exponential"] < gaps["full"]
    assert gaps["ring"] < gaps["torus"] < gaps["random-regular-4"] < gaps["exponential"]


def test_a_rule_that_lists_nobody_needs_members_for_its_shape():
    with pytest.raises(ConfigError, match="'ring' has 0 members"):
        shape(rule("ring"))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("density", [0.02, 0.06, 0.4, 1.0])
def test_hops_are_those_of_networkx_also_in_a_graph_of_parts(seed, density):
    graph = nx.gnp_random_graph(70, density, seed=seed)
    expected = np.full((70, 70), np.inf)
    for a, reached in nx.all_pairs_shortest_path_length(graph):
        for b, count in reached.items():
            expected[a, b] = count
    assert np.array_equal(hops(nx.to_numpy_array(graph) > 0), expected)


# --- steps --------------------------------------------------------------------------------------


def test_steps_shrink_a_distance_to_what_was_asked_for():
    assert 0.6 ** steps(0.6) == pytest.approx(1 / math.e)
    assert 0.6 ** steps(0.6, 0.01) == pytest.approx(0.01)
    assert (steps(0.0), steps(1.0), steps(1.0, 0.01)) == (0.0, math.inf, math.inf)


def test_one_random_exchange_contracts_as_in_section_7_invariant_2():
    """E[Ξ²⁺/Ξ²] = 1 - 4c(1 - c)/(n - 1), over all pairs of one state of 16 nodes."""
    assert exchange_contraction(16) == pytest.approx(0.93333, abs=5e-6)
    x, weight = np.random.default_rng(0).normal(size=(16, 5)), 0.3
    ratios = []
    for i, j in zip(*np.triu_indices(16, 1), strict=True):
        after = x.copy()
        after[[i, j]] += weight * (x[[j, i]] - x[[i, j]])
        ratios.append(((after - x.mean(axis=0)) ** 2).sum() / ((x - x.mean(axis=0)) ** 2).sum())
    assert np.mean(ratios) == pytest.approx(exchange_contraction(16, weight), rel=1e-12)
    assert exchange_contraction(2) == 0


def test_a_cycle_of_draws_contracts_a_little_more_than_that_many_random_exchanges():
    """Each of 16 nodes asks 2 others, drawn anew: 32 exchanges, and nobody is left out."""
    rng, n, draws = np.random.default_rng(1), 16, 2
    ratios = []
    for _ in range(400):
        x = rng.normal(size=(n, 50))
        before = x.var(axis=0).sum()
        asks = [(i, j) for i in range(n) for j in rng.choice(n - 1, draws, replace=False)]
        for i, j in rng.permutation(asks):
            pair = [i, j + (j >= i)]
            x[pair] = x[pair].mean(axis=0)
        ratios.append(x.var(axis=0).sum() / before)
    promised = n * draws * math.log(exchange_contraction(n))
    assert 1.0 < math.log(np.mean(ratios)) / promised < 1.25


# --- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(TOPOLOGIES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_topology_can_be_read_and_is_connected(path):
    loaded = read(path)
    assert math.isfinite(shape(loaded, None if loaded.links else ids(24)).diameter)


def test_the_shipped_topologies_are_complete():
    names = {path.stem for path in TOPOLOGIES.glob("*.toml")}
    assert names >= {"ring", "torus", "exponential", "small-world", "random-regular", "full"}
    assert names >= {"star", "two-islands"}


def test_two_islands_are_two_cliques_of_four_with_one_link_between_them():
    islands = shape(read(TOPOLOGIES / "two-islands.toml"))
    assert (islands.nodes, islands.links, islands.diameter) == (8, 13, 3)
    assert (islands.degree_min, islands.degree_max) == (3, 4)


def test_the_shipped_graphml_is_the_petersen_graph():
    petersen = read(TOPOLOGIES / "petersen.graphml")
    assert nx.is_isomorphic(nx.Graph(petersen.links), nx.petersen_graph())
    assert shape(petersen).gap == pytest.approx(0.5)


@pytest.mark.parametrize(
    "path",
    sorted([*TOPOLOGIES.glob("*.toml"), *TOPOLOGIES.glob("*.graphml")]),
    ids=lambda p: p.name,
)
def test_every_shipped_file_says_what_it_is_in_a_sentence(path):
    assert description(path).endswith(".")


def test_a_description_is_one_line_or_nothing(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('description = """Two\n  lines."""\nrule = "rnig"\n')
    assert description(file) == "Two lines."
    file.write_text("description = 7\n")
    assert description(file) == ""
    nx.write_graphml(nx.path_graph(2), tmp_path / "mute.graphml")
    assert description(tmp_path / "mute.graphml") == ""
    with pytest.raises(ConfigError, match=r"gone\.toml: cannot be read"):
        description(tmp_path / "gone.toml")


def test_a_topology_is_a_rule_or_a_file(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('rule = "random-regular"\ndegree = 6\n')
    assert topology(str(file)) == rule("random-regular-6")
    assert topology("ring") == rule("ring")


def test_graphml_written_by_networkx_is_read(tmp_path):
    file = tmp_path / "cycle.graphml"
    nx.write_graphml(nx.relabel_nodes(nx.cycle_graph(4), dict(enumerate("wxyz"))), file)
    assert topology(str(file)) == rule("edges:w--x,x--y,y--z,w--z")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "exactly one of the keys 'rule' and 'edges' is needed"),
        ('rule = "ring"\nedges = []', "exactly one of the keys"),
        ('rule = "rnig"', "did you mean 'ring'"),
        ("rule = 3", "'rule' is 3, expected a name"),
        ('rule = "torus"\ncolums = 4', "unknown key 'colums' = 4, did you mean 'columns'?"),
        ('rule = "ring"\ncolumns = 4', "unknown key 'columns' = 4; known: rule, description"),
        ('rule = "torus"\ncolumns = "4"', "'columns' is '4', expected an integer"),
        ('rule = "torus"\ncolumns = true', "'columns' is True, expected an integer"),
        ('rule = "random-regular"\ndegree = 1', "degree is 1, must be from 2 to 64"),
        ("edges = 7", "'edges' is 7, expected a list of pairs"),
        ('edges = ["ab"]', "'edges' holds 'ab', expected pairs"),
        ('edges = [["a"]]', "['a'] is not a link"),
        ('edges = [["a", 7]]', "['a', 7] is not a link"),
        ('edges = [["a", "b"], ["c", "d"]]', "'c' cannot be reached from 'a'"),
        ('edges = [["a", "b"]]\nnodes = 2', "unknown key 'nodes' = 2"),
        ("rule = ", "not TOML"),
    ],
)
def test_a_mistaken_file_is_refused_with_its_name_the_key_and_the_value(
    tmp_path, content, complaint
):
    file = tmp_path / "wrong.toml"
    file.write_text(content)
    with pytest.raises(ConfigError) as caught:
        read(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert complaint in str(caught.value)


def test_a_missing_file_is_named():
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read: No such file"):
        topology("nowhere.toml")


def test_text_that_is_not_utf8_is_not_toml(tmp_path):
    file = tmp_path / "latin.toml"
    file.write_bytes(b'rule = "ring\xe9"')
    with pytest.raises(ConfigError, match="not TOML"):
        read(file)


def test_damaged_and_directed_graphml_is_refused(tmp_path):
    file = tmp_path / "wrong.graphml"
    file.write_text("<graphml")
    with pytest.raises(ConfigError, match=r"wrong\.graphml: not GraphML"):
        read(file)
    nx.write_graphml(nx.DiGraph([("a", "b")]), file)
    with pytest.raises(ConfigError, match="the graph is directed"):
        read(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        read(tmp_path / "missing.graphml")


def test_a_running_node_does_not_pay_for_networkx():
    code = "import sys, p2pfl.core.graph; sys.exit('networkx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
