from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
from click.testing import CliRunner, Result

from p2pfl.cli import topology as module
from p2pfl.cli.topology import ABOUT, found, topology
from p2pfl.core.neighbours import RULES, edges, rule
from p2pfl.errors import ConfigError

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(*arguments: object) -> Result:
    result = CliRunner().invoke(topology, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit | ConfigError):
        raise result.exception
    return result


def facts(*arguments: object) -> dict[str, Any]:
    result = said("show", *arguments, "--json", "--no-picture")
    assert result.exit_code == 0, result.output
    loaded: dict[str, Any] = json.loads(result.stdout)
    return loaded


def refusal(*arguments: object) -> str:
    error = said(*arguments).exception
    assert isinstance(error, ConfigError)
    return str(error)


# --- help ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [[], ["show"], ["list"]])
def test_help_teaches_with_examples(command: list[str]) -> None:
    result = said(*command, "--help")
    assert result.exit_code == 0
    _, _, examples = result.output.partition("Examples:")
    assert f"  p2pfl topology {' '.join(command)}" in examples


def test_help_costs_neither_numpy_nor_matplotlib() -> None:
    code = (
        "import sys, p2pfl.cli.topology;"
        "sys.exit(any(name in sys.modules for name in ('numpy', 'matplotlib', 'networkx')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_rule_is_explained() -> None:
    assert set(ABOUT) == set(RULES)
    for name, kind in RULES.items():
        assert (kind.parameter or "").upper() in ABOUT[name]


# --- show ----------------------------------------------------------------------------------------


def test_a_torus_is_told_in_aligned_lines() -> None:
    lines = said("show", "torus", "--no-picture").output.splitlines()
    assert lines[:7] == [
        "topology      torus",
        "nodes         16",
        "links         32",
        "degree        4, the same for all",
        "diameter      4 hops",
        "lambda2       0.600000",
        "spectral gap  0.400000",
    ]
    # how it is wrapped depends on the terminal
    assert " ".join(" ".join(lines[7:]).split()) == (
        "mixing 2.0 steps to 1/e of the consensus distance, 9.0 steps to 1% (synchronous, "
        "Metropolis-Hastings)"
    )


def test_json_is_one_object_and_nothing_else() -> None:
    result = said("show", "torus-4", "--json", "--no-picture")
    assert len(result.output.splitlines()) == 1
    assert json.loads(result.output) == {
        "rule": "torus-4",
        "name": "torus-4",
        "nodes": 16,
        "links": 32,
        "degree": {"min": 4, "mean": 4.0, "max": 4},
        "diameter": 4,
        "lambda2": pytest.approx(0.6),
        "spectral_gap": pytest.approx(0.4),
        "steps_to_1_e": pytest.approx(-1 / math.log(0.6)),
        "steps_to_1_percent": pytest.approx(math.log(0.01) / math.log(0.6)),
        "drawn": None,
        "picture": None,
    }


@pytest.mark.parametrize("n", [1, 2, 3, 16, 1000])
@pytest.mark.parametrize("name", RULES)
def test_every_rule_is_measured_at_any_size(name: str, n: int) -> None:
    found = facts(name, "--nodes", n)
    assert found["nodes"] == n
    assert 0 < found["spectral_gap"] <= 1
    assert said("show", name, "--nodes", n, "--no-picture").exit_code == 0


def test_random_is_said_to_be_drawn_anew_with_what_an_exchange_is_worth() -> None:
    """PROTOCOL section 7, invariant 2: n = 16 and c = 1/2 give 0.93333."""
    drawn = facts("random-2")["drawn"]
    assert drawn["draws"] == 2
    assert drawn["exchange_contraction"] == pytest.approx(14 / 15)
    # the distance itself, not its square
    assert (14 / 15) ** (drawn["exchanges_to_1_e"] / 2) == pytest.approx(1 / math.e)
    assert (14 / 15) ** (drawn["exchanges_to_1_percent"] / 2) == pytest.approx(0.01)
    assert drawn["cycles_to_1_e"] == pytest.approx(drawn["exchanges_to_1_e"] / 32)
    text = " ".join(said("show", "random-2", "--no-picture").output.split())
    assert "the graph is full, but only 2 of 15 are asked a cycle, drawn anew" in text
    assert "to 1/e 29.0 exchanges, at most 0.906 cycles of all nodes" in text


def test_random_never_asks_more_than_there_are() -> None:
    assert facts("random-9", "--nodes", 4)["drawn"]["draws"] == 3
    assert facts("random-9", "--nodes", 1)["drawn"] is None
    assert facts("full")["drawn"] is None


def test_edge_lists_have_their_own_nodes() -> None:
    path = facts("edges:a--b,b--c")
    assert (path["name"], path["nodes"], path["diameter"]) == ("edges", 3, 2)
    assert facts("edges:a--b,b--c", "--nodes", 3) == path
    expected = "'edges' lists its own 3 nodes; leave --nodes 4 away"
    assert refusal("show", "edges:a--b,b--c", "--nodes", 4) == expected


def test_a_name_is_a_rule_before_it_is_a_file_and_a_file_by_its_bare_name(folder: Path) -> None:
    (folder / "topologies").mkdir()
    (folder / "topologies" / "ring.toml").write_text('rule = "star"\n')
    (folder / "topologies" / "mine.toml").write_text('rule = "torus"\ncolumns = 3\n')
    nx.write_graphml(nx.Graph([("x", "y"), ("y", "z")]), folder / "topologies" / "line.graphml")
    assert found("ring") == (rule("ring"), "ring")
    assert found("topologies/ring.toml") == (rule("star"), "ring")
    assert found("mine") == (rule("torus-3"), "mine")
    assert found("line") == (edges([("x", "y"), ("y", "z")]), "line")


def test_what_is_neither_a_rule_nor_a_file_is_refused_as_everywhere() -> None:
    assert refusal("show", "rnig").startswith(
        "neighbour rule 'rnig': no such rule; did you mean 'ring'? known: "
    )
    assert "columns is 1, must be from 2 to 1024" in refusal("show", "torus-1")
    assert refusal("show", "no.toml") == "no.toml: cannot be read: No such file or directory"
    assert "is not a link" in refusal("show", "edges:" + "a-b," * 200)


@pytest.mark.parametrize("command", [["show", "ring"], ["list"]])
def test_more_nodes_than_a_dense_matrix_bears_are_refused(command: list[str]) -> None:
    assert refusal(*command, "--nodes", 3001) == (
        "3,001 nodes are too many to measure: their eigenvalues come from a dense matrix, "
        "which is bounded to 3,000 nodes"
    )


# --- pictures ------------------------------------------------------------------------------------


def test_the_picture_has_a_telling_name_and_is_said_to_be_there(folder: Path) -> None:
    result = said("show", "torus-4", "--nodes", 12)
    assert result.output.splitlines()[-1] == "picture       topology-torus-4-12.png"
    assert (folder / "topology-torus-4-12.png").read_bytes().startswith(PNG)
    assert json.loads(said("show", "edges:a--b", "--json").output)["picture"] == (
        "topology-edges-2.png"
    )


def test_out_names_the_picture(folder: Path) -> None:
    assert said("show", "ring", "--out", "mine.png").exit_code == 0
    assert (folder / "mine.png").read_bytes().startswith(PNG)
    assert [path.name for path in folder.iterdir()] == ["mine.png"]


def test_no_picture_is_drawn_if_none_is_wanted(folder: Path) -> None:
    facts("ring")
    assert list(folder.iterdir()) == []


def test_a_picture_that_cannot_be_drawn_is_refused_with_a_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "expected a name that ends in .png" in refusal("show", "ring", "--out", "a.jpg")
    assert "exclude each other" in refusal("show", "ring", "--out", "a.png", "--no-picture")
    assert refusal("show", "ring", "--out", "no/a.png") == (
        "no/a.png: cannot be written: No such file or directory; "
        "give another --out, or --no-picture"
    )
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    assert "needs matplotlib, which is not installed" in refusal("show", "ring")
    assert facts("ring")["links"] == 16


# --- list ----------------------------------------------------------------------------------------


def test_the_list_has_every_rule_with_its_parameter_and_its_worth() -> None:
    lines = said("list").output.splitlines()
    assert lines[2].split() == ["rule", "nodes", "degree", "diameter", "gap", "to", "1/e"]
    heads = [line.split()[0] for line in lines[3:] if line and line[0] != " "]
    assert heads[: len(RULES)] == sorted(heads[: len(RULES)])
    assert {"full", "random-DRAWS", "torus-COLUMNS", "edges:A--B,B--C"} <= set(heads)
    text = " ".join(" ".join(lines).split())
    assert "ring 16 2 8 0.0507 19.2 steps" in text
    assert "random-DRAWS 16 15 1 1.0000 0.604 cycles" in text
    assert "NEAREST: even, 2 to 64; 4 if left away." in text
    assert "COLUMNS: 2 to 1,024; the square root of the number of nodes if left away." in text
    assert "There are no files in ./topologies." in lines


def test_the_list_has_the_files_that_are_there_and_says_which_cannot_be_used(folder: Path) -> None:
    (folder / "topologies").mkdir()
    (folder / "topologies" / "pair.toml").write_text(
        'description = "Two of them."\nedges = [["a", "b"]]\n'
    )
    (folder / "topologies" / "bad.toml").write_text('rule = "rnig"\n')
    (folder / "topologies" / "notes.txt").write_text("not a topology")
    listed = json.loads(said("list", "--nodes", 32, "--json").output)
    assert listed["nodes"] == 32
    assert [row["nodes"] for row in listed["rules"]] == [32] * len(RULES)
    bad, pair = listed["files"]
    assert bad["file"] == "bad.toml"
    assert "no such rule; did you mean 'ring'?" in bad["error"]
    assert (pair["file"], pair["about"], pair["nodes"]) == ("pair.toml", "Two of them.", 2)
    lines = said("list").output.splitlines()
    assert "pair.toml  2      1       1         1.0000  1 step" in lines
    assert "    Two of them." in lines
    assert "bad.toml   -      -       -         -       -" in lines
