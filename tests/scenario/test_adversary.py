"""`[adversary]` in scenarios: who is meant, what cannot be meant, and what is measured."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2pfl.configuring import from_mapping
from p2pfl.errors import ConfigError
from p2pfl.scenario.learners import Learners
from p2pfl.scenario.load import load
from p2pfl.scenario.orders import refuse
from p2pfl.scenario.spec import Scenario
from p2pfl.scenario.tables import series, summary
from p2pfl.scenario.verdicts import figures, judged, passed
from p2pfl.scenario.virtual import simulate


def scenario(**adversary: Any) -> Scenario:
    values = {
        "name": "small",
        "nodes": 8,
        "task": {"name": "digits-numpy", "partition": "iid"},
        "duration": {"cycles": 6},
        "measure": {"samples": 6},
        "adversary": adversary,
    }
    return from_mapping(values, Scenario)


@pytest.mark.parametrize(
    ("who", "nodes", "places"),
    [
        (4, 20, (2, 7, 12, 17)),
        (0.25, 8, (2, 6)),
        (1, 3, (1,)),
        (0.01, 8, (4,)),
        (["n3", "n1"], 8, (0, 2)),
        (7, 8, (0, 1, 2, 4, 5, 6, 7)),
    ],
)
def test_hostile_nodes_are_spread_evenly_or_just_those_named(
    who: Any, nodes: int, places: tuple[int, ...]
) -> None:
    values = {"nodes": nodes, "duration": {"seconds": 1}, "adversary": {"attack": "alie"}}
    values["adversary"]["who"] = who  # type: ignore[index]
    assert Scenario.model_validate(values).hostile == places


def test_nobody_is_hostile_unless_an_attack_is_named() -> None:
    assert scenario().hostile == ()
    assert scenario(who=3).hostile == ()


@pytest.mark.parametrize(
    ("adversary", "says"),
    [
        ({"attack": "cheat"}, "'adversary.attack' is 'cheat'"),
        ({"attack": "alie", "who": ["all"]}, "nobody would be honest"),
        ({"attack": "alie", "who": 8}, "nobody would be honest"),
        ({"attack": "alie", "who": 9}, "9 nodes are meant, there are 8"),
        ({"attack": "alie", "who": "n9"}, "not within n1 .. n8"),
        ({"attack": "alie", "strength": -1}, "strength"),
        ({"strength": 2}, 'strength does nothing with attack = "none"'),
        ({"attack": "backdoor", "begins_s": 3}, "from beginning to end"),
        ({"attack": "alie", "begins_s": 3, "ends_s": 3}, "must be after begins_s = 3"),
        ({"attack": "alie", "adaptive": True}, "adaptive"),
        ({"attack": "alie", "share": 0.1}, "unknown key 'adversary.share'"),
    ],
)
def test_what_cannot_be_is_one_sentence(adversary: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as told:
        scenario(**adversary)
    assert says in str(told.value)


def test_real_processes_have_no_hostile_nodes() -> None:
    with pytest.raises(ConfigError, match=r"adversary\.attack is 'alie'.*--engine virtual"):
        refuse(scenario(attack="alie"))


def test_a_task_without_data_cannot_be_poisoned() -> None:
    asked = scenario(attack="label-flip").model_copy(
        update={
            "task": Scenario.model_fields["task"].default.model_copy(update={"name": "averaging"})
        }
    )
    with pytest.raises(ConfigError, match="needs a task with data"):
        Learners(asked)


def test_honest_nodes_learn_from_the_same_rows_whoever_is_poisoned() -> None:
    honest, poisoned = (
        Learners(scenario(attack=a), parallel=False) for a in ("none", "label-flip")
    )
    hostile = scenario(attack="label-flip").hostile
    for place in range(8):
        same = np.array_equal(honest._rows[place], poisoned._rows[place])
        assert same is (place not in hostile)
        start = honest.of(place, 0).initial()
        a, b = (learners.of(place, 0).step(start, 3, None).delta for learners in (honest, poisoned))
        assert np.array_equal(a, b) is same


def test_the_success_of_a_backdoor_is_measured_and_can_be_bounded() -> None:
    asked = scenario(attack="backdoor", who=2, strength=1)
    asked = from_mapping(
        {**asked.model_dump(exclude_defaults=True), "expect": {"backdoor_success": "<= 1"}},
        Scenario,
    )
    trace = simulate(asked)
    found = figures(trace)
    assert found["backdoor_success"] is not None
    assert 0 <= found["backdoor_success"] <= 1
    assert passed(judged(trace), trace)
    assert {"backdoor_success", "suspended"} <= set(series(trace))
    assert len(summary(trace, [], "")["hostile"]) == 2


def test_without_attackers_nothing_of_them_is_measured() -> None:
    trace = simulate(scenario())
    assert trace.hostile == ()
    assert figures(trace)["suspended"] is None
    assert "suspended" not in series(trace)
    assert summary(trace, [], "")["hostile"] == []


def test_an_attack_without_end_is_nothing_to_recover_from() -> None:
    assert figures(simulate(scenario(attack="sign-flip")))["recovery_s"] is None
    ended = simulate(scenario(attack="sign-flip", begins_s=0.2, ends_s=0.3))
    assert [(mark.at, mark.until) for mark in ended.marks] == [(0.2, 0.3)]
    assert figures(ended)["recovery_s"] is not None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adversary-sign-flip", "adversary-alie-churn"])
def test_robust_mode_holds_at_full_length(name: str) -> None:
    trace = simulate(load(name))
    verdicts = judged(trace)
    assert verdicts
    assert passed(verdicts, trace), [f"{v.name} {v.bound}: {v.value}" for v in verdicts]


@pytest.mark.slow
def test_members_that_trust_each_other_do_not_survive_what_robust_ones_do() -> None:
    trace = simulate(load("adversary-sign-flip", ["trust=cooperative"]))
    accuracy = figures(trace)["mean_accuracy"]
    assert accuracy is not None
    assert accuracy < 0.5


# --- the table ----------------------------------------------------------------------------------


def table_tool() -> Any:
    path = Path("scenarios/robust_table.py")
    spec = importlib.util.spec_from_file_location("robust_table", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_cell_of_the_table_is_a_scenario() -> None:
    tool = table_tool()
    for rule in tool.RULES.values():
        assert load(str(tool.BASE), [f"node.robust={rule}"]).node.trust == "byzantine"
    for attack in tool.ATTACKS.values():
        for churn in tool.CHURN.values():
            changes = [f"adversary={attack}", f"churn={churn}", "trust=cooperative"]
            assert load(str(tool.BASE), changes).node.trust == "cooperative"


def test_the_table_shows_what_a_sweep_found() -> None:
    tool = table_tool()
    told = {
        "mean_accuracy": {"mean": 0.9512},
        "worst_tenth_accuracy": {"mean": 0.9},
        "backdoor_success": {"mean": 0.25},
    }
    cell = {
        "rule": "clip",
        "values": {"adversary": {"attack": "backdoor", "who": 4}, "churn": {"mode": "none"}},
        "figures": told,
    }
    text = tool.tables([{**cell, "seeds": 1}], ["cooperative", "clip"])
    assert "0.951 (0.90), succeeds 0.25" in text
    assert text.count("| `cooperative` |") == 2
    assert "| `clip` | 1 | - |" in text
    page = f"before\n{tool.BEGIN}\nold\n{tool.END}\nafter\n"
    assert tool.filled(page, "new") == f"before\n{tool.BEGIN}\n\nnew\n{tool.END}\nafter\n"
    with pytest.raises(ValueError, match="has no"):
        tool.filled("nothing", "new")
