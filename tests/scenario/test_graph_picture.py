"""Pictures of graphs: the same every time, nobody covered by anybody, any rule and any size."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from p2pfl.core.graph import adjacency, hops, ids, read, shape
from p2pfl.core.neighbours import RULES, edges, rule
from p2pfl.scenario.graph_picture import draw_graph, draw_rule, layout

TOPOLOGIES = Path(__file__).parents[2] / "topologies"


def distances(places: np.ndarray) -> np.ndarray:
    apart = np.linalg.norm(places[:, None] - places, axis=2)
    np.fill_diagonal(apart, np.inf)
    return apart


# --- layouts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", RULES)
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 16, 47, 200])
def test_every_node_has_a_finite_place_of_its_own_and_always_the_same(text: str, n: int) -> None:
    places = layout(rule(text), ids(n))
    assert places.shape == (n, 2)
    assert np.isfinite(places).all()
    assert distances(places).min() > 0.05
    assert np.array_equal(places, layout(rule(text), ids(n)))


@pytest.mark.parametrize("text", ["ring", "exponential", "small-world-4", "full", "random-2"])
def test_rules_over_the_sorted_ids_stand_in_a_circle_from_the_top_clockwise(text: str) -> None:
    places = layout(rule(text), ids(12))
    radius = np.hypot(*places.T)
    assert radius == pytest.approx(radius[0])
    assert places[0] == pytest.approx((0, radius[0]))
    assert places[3] == pytest.approx((radius[0], 0))


def test_a_torus_stands_in_its_own_rows_and_columns() -> None:
    places = layout(rule("torus-5"), ids(18))
    assert places[[0, 4, 5, 17]].tolist() == [[0, 0], [4, 0], [0, -1], [2, -3]]
    assert layout(rule("torus"), ids(16))[5].tolist() == [1, -1]
    assert layout(rule("torus-9"), ids(4))[:, 0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("n", [9, 300])
def test_the_hub_of_a_star_stands_in_the_middle(n: int) -> None:
    places = layout(rule("star"), ids(n))
    assert places[0].tolist() == [0, 0]
    assert np.abs(places[1:].mean(axis=0)).max() < 0.2
    assert np.hypot(*places[1:].T).min() >= 1


def test_a_path_is_drawn_as_one_though_its_ids_are_not_in_order() -> None:
    path = ["c", "a", "e", "b", "d"]
    members = sorted(path)
    places = layout(edges(pairwise(path)), members)
    along = [places[members.index(member), 0] for member in path]
    assert along in (sorted(along), sorted(along, reverse=True))
    assert np.abs(np.diff(along)) == pytest.approx(1, abs=0.05)
    assert np.abs(places[:, 1]).max() < 0.1


def test_stress_sets_nodes_about_as_far_apart_as_they_are_hops_apart() -> None:
    grid = nx.convert_node_labels_to_integers(nx.grid_2d_graph(5, 5))
    topology = edges([(f"{a:02}", f"{b:02}") for a, b in grid.edges])
    members = sorted({vertex for link in topology.links for vertex in link})
    places, far = layout(topology, members), hops(adjacency(topology, members))
    pairs = np.triu_indices(25, 1)
    assert np.corrcoef(distances(places)[pairs], far[pairs])[0, 1] > 0.95


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 30), st.integers(0, 60), st.integers(0, 2**32 - 1))
def test_no_two_dots_of_any_edge_list_cover_each_other(n: int, more: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = {(int(rng.integers(b)), b) for b in range(1, n)}
    pairs |= {(a, b) for a, b in rng.integers(n, size=(more, 2)).tolist() if a < b}
    topology = edges([(f"{a:02}", f"{b:02}") for a, b in sorted(pairs)])
    places = layout(topology, [f"{i:02}" for i in range(n)])
    assert np.isfinite(places).all()
    assert distances(places).min() > 0.1


# --- pictures ------------------------------------------------------------------------------------


def picture(text: str, n: int, path: Path) -> bytes:
    draw_rule(rule(text), ids(n), path, shape(rule(text), ids(n)))
    return path.read_bytes()


@pytest.mark.parametrize("text", RULES)
@pytest.mark.parametrize("n", [1, 2, 4, 16, 60])
def test_a_picture_is_drawn_of_any_rule(text: str, n: int, tmp_path: Path) -> None:
    assert picture(text, n, tmp_path / "a.png").startswith(b"\x89PNG\r\n\x1a\n")


@pytest.mark.parametrize("text", ["full", "random-regular-4", "torus-10"])
def test_a_picture_is_drawn_of_a_thousand_nodes(text: str, tmp_path: Path) -> None:
    assert picture(text, 1000, tmp_path / "a.png").startswith(b"\x89PNG")


@pytest.mark.parametrize("path", sorted(TOPOLOGIES.iterdir()), ids=lambda path: path.name)
def test_a_picture_is_drawn_of_every_shipped_file(path: Path, tmp_path: Path) -> None:
    topology = read(path)
    listed = sorted({vertex for link in topology.links for vertex in link})
    members = listed or list(ids(16))
    draw_rule(topology, members, tmp_path / "a.png", shape(topology, members), path.stem)


def test_the_same_graph_has_the_same_picture_and_another_one_another(tmp_path: Path) -> None:
    once = picture("random-2", 16, tmp_path / "a.png")
    assert picture("random-2", 16, tmp_path / "b.png") == once
    assert picture("random-3", 16, tmp_path / "c.png") != once


def drawn_on_axes(links: np.ndarray, places: np.ndarray, **words: object) -> Figure:
    figure = Figure(figsize=(4, 4))
    FigureCanvasAgg(figure)
    draw_graph(links, figure.subplots(), places, **words)  # type: ignore[arg-type]
    figure.canvas.draw()
    return figure


def texts(figure: Figure) -> set[str]:
    return {text.get_text() for text in figure.axes[0].texts}


def test_axes_of_somebody_else_are_drawn_into() -> None:
    links = adjacency(rule("ring"), ids(6))
    figure = drawn_on_axes(links, layout(rule("ring"), ids(6)), title="T", names=list("abcdef"))
    assert {"T", *"abcdef"} <= texts(figure)
    assert len(figure.axes) == 1


def test_a_name_of_a_node_is_cut_and_never_read_as_mathematics() -> None:
    links = adjacency(edges([("a", "b")]), ["a", "b"])
    figure = drawn_on_axes(links, np.array([(0.0, 0), (1, 0)]), names=["$\\frac", "x" * 40])
    assert "$\\frac" in texts(figure)
    assert any(text.endswith("x…") for text in texts(figure))


def lines(figure: Figure) -> list[np.ndarray]:
    (found,) = [one for one in figure.axes[0].collections if isinstance(one, LineCollection)]
    return [np.asarray(segment) for segment in found.get_segments()]


def test_a_link_that_would_run_through_a_third_node_goes_around_it() -> None:
    """The wrap of a torus row would be hidden behind the row."""
    places = np.array([(0.0, 0), (1, 0), (2, 0)])
    straight, around = sorted(lines(drawn_on_axes(~np.eye(3, dtype=bool), places)), key=len)[1:]
    assert len(straight) == 2
    assert around[0].tolist() == [0, 0]
    assert around[-1].tolist() == [2, 0]
    assert min(math.dist(point, (1, 0)) for point in around) > 0.35


def test_of_very_many_links_some_are_drawn_and_the_picture_says_how_many() -> None:
    n = 200
    figure = drawn_on_axes(~np.eye(n, dtype=bool), layout(rule("full"), ids(n)), note="so")
    assert len(lines(figure)) == 12_000
    assert "so; 12,000 of 19,900 links are drawn" in texts(figure)
