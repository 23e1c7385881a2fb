"""Every value meets every other, and every run has a name and a command."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pfl.errors import ConfigError
from p2pfl.scenario.sweep import axis, planned
from tests.scenario.sweep.made import grid


def test_every_value_meets_every_other_with_the_same_seeds_and_runs_go_seed_by_seed(
    file: Path,
) -> None:
    sweep = grid(file, "nodes=4,8", "gossip.codec=float32,int8")
    assert [str(cell) for cell in sweep.cells] == [
        "nodes=4 gossip.codec=float32",
        "nodes=4 gossip.codec=int8",
        "nodes=8 gossip.codec=float32",
        "nodes=8 gossip.codec=int8",
    ]
    assert sweep.seeds == (3, 4)
    assert [run.seed for run in sweep.runs] == [3] * 4 + [4] * 4
    assert [run.cell for run in sweep.runs] == [*sweep.cells, *sweep.cells]
    last = sweep.runs[-1].scenario
    assert (last.nodes, last.node.gossip.codec, last.seed) == (8, "int8", 4)


def test_a_run_says_the_command_that_does_it_alone(file: Path) -> None:
    run = grid(file, "nodes=4,8", changes=["task.size=7"]).runs[-1]
    words = f"p2pfl run {file} --seed 4 --set task.size=7 --set nodes=8"
    assert run.command == words


def test_ids_are_folder_names_and_no_two_are_equal(file: Path) -> None:
    sweep = grid(file, "topology=ring,random-2", "task.partition=iid,IID,a/b,a:b", seeds=3)
    ids = [run.id.lower() for run in sweep.runs]
    assert len(set(ids)) == len(ids) == 24
    assert not any(set(one) & set("/\\: ") for one in ids)


def test_without_axes_there_is_one_cell(file: Path) -> None:
    sweep = grid(file, seeds=3)
    assert [str(cell) for cell in sweep.cells] == ["ring"]
    assert [run.id for run in sweep.runs] == ["ring-seed3", "ring-seed4", "ring-seed5"]


def test_a_comma_in_brackets_or_quotes_separates_nothing() -> None:
    found = axis("compute.factors=[1, 2],[3]")
    assert found.values == ([1, 2], [3])
    assert axis("k='a,b',c").values == ("a,b", "c")
    assert axis("churn.offline = 0, 0.5").values == (0, 0.5)


@pytest.mark.parametrize(
    ("over", "sentence"),
    [
        (["topologie=ring"], "--over topologie=ring: .*unknown key 'topologie', did you mean"),
        (["gossip.codek=int8"], r"unknown key 'node\.gossip\.codek', did you mean 'codec'"),
        (["nodes=4,many"], "--over nodes=many: .*'nodes' is 'many'"),
        (["nodes"], "--over nodes: expected KEY=VALUE,VALUE"),
        (["nodes=4,,8"], "expected KEY=VALUE,VALUE"),
        (["nodes=4,8,4"], "4 stands there twice"),
        (["nodes=4", "nodes=8"], "--over nodes is given twice"),
        (["task.size=4"], "'task.size' is in --over and in --set"),
        (["seed=1,2"], "give --seeds N"),
    ],
)
def test_a_mistaken_axis_is_named(file: Path, over: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        planned(str(file), over, ["task.size=5"])


def test_what_is_wrong_without_the_axes_is_no_fault_of_theirs(file: Path) -> None:
    with pytest.raises(ConfigError, match="unknown key 'tsk'") as raised:
        planned(str(file), ["nodes=4"], ["tsk=1"])
    assert "--over" not in str(raised.value)
