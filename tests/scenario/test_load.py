"""Scenarios from files: what is read, what is changed, and that a mistake is one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfl.configuring import from_mapping
from p2pfl.errors import ConfigError
from p2pfl.scenario.load import dump, load, put
from p2pfl.scenario.spec import FAULTS, Expect, Scenario, names

SMALL = """
nodes = 4
task = "averaging"
[duration]
seconds = 10
"""


def written(folder: Path, text: str = SMALL, name: str = "small.toml") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def mistake(path: str, *changes: str) -> str:
    with pytest.raises(ConfigError) as found:
        load(path, changes)
    text = str(found.value)
    assert "\n" not in text
    return text


# --- files --------------------------------------------------------------------------------------


def test_a_file_is_a_scenario_named_after_it(tmp_path: Path) -> None:
    found = load(written(tmp_path))
    assert (found.name, found.nodes, found.task.name, found.duration.seconds) == (
        "small",
        4,
        "averaging",
        10.0,
    )
    assert load(written(tmp_path, 'name = "other"' + SMALL)).name == "other"


def test_a_seed_of_the_command_line_replaces_the_files_own(tmp_path: Path) -> None:
    path = written(tmp_path, "seed = 5" + SMALL)
    assert load(path).seed == 5
    assert load(path, seed=7).seed == 7
    assert load(path, ["seed=6"]).seed == 6


def test_every_shipped_scenario_can_be_loaded_and_says_what_it_is() -> None:
    shipped = sorted(Path("scenarios").glob("*.toml"))
    assert len(shipped) >= 4
    for path in shipped:
        scenario = load(path.stem)
        assert scenario.name == path.stem
        assert scenario.description.endswith(".")
        assert scenario.expect.bounds(), path


def test_a_scenario_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    assert "there is no scenario 'nothing'; in scenarios/ are " in mistake("nothing")
    assert "hello-8" in mistake("nothing")
    assert "nothing.toml" in mistake(str(tmp_path / "nothing.toml"))
    assert mistake("hello-9") == "there is no scenario 'hello-9'; did you mean 'hello-8'?"


def test_a_file_that_is_no_scenario_is_told_how_one_is_called(tmp_path: Path) -> None:
    (tmp_path / "notes").touch()
    text = mistake(str(tmp_path / "notes"))
    assert text == f"'{tmp_path / 'notes'}' is no scenario: its name must end in .toml or .py"
    assert mistake("").startswith("there is no scenario ''; in scenarios/ are ")


@pytest.mark.parametrize("text", ["nodes = ", "nodes = 4\nnodes = 5", "[[", "\x00"])
def test_what_is_no_toml_is_named(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, text)
    assert mistake(path).startswith(f"{path}: not TOML: ")


def test_text_that_is_not_utf8_is_no_toml(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    path.write_bytes(b"nodes = '\xff'")
    assert "not TOML" in mistake(str(path))


# --- python -------------------------------------------------------------------------------------

SCRIPT = """
from p2pfl.scenario.spec import Scenario
def scenario():
    return Scenario.model_validate({"nodes": 3, "task": "averaging", "duration": {"cycles": 5}})
"""


def test_a_script_defines_a_scenario_or_a_function_of_one(tmp_path: Path) -> None:
    path = written(tmp_path, SCRIPT, "made.py")
    assert load(path).nodes == 3
    assert load(written(tmp_path, SCRIPT + "scenario = scenario()", "made2.py")).nodes == 3
    assert load(path, ["nodes=7"]).nodes == 7


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1", "'scenario' is nothing, expected a Scenario"),
        ("scenario = 5", "'scenario' is int, expected a Scenario"),
        ("scenario = lambda: {}", "'scenario' is dict"),
        ("1 / 0", "division by zero"),
        ("def", "invalid syntax"),
        ("def scenario():\n    raise KeyError('lost')", "lost"),
    ],
)
def test_a_script_that_cannot_be_used_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = written(tmp_path, text, "made.py")
    found = mistake(path)
    assert words in found
    assert "made.py" in found


# --- changes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("nodes=50", lambda s: s.nodes == 50),
        ("node.gossip.codec=int8", lambda s: s.node.gossip.codec == "int8"),
        ("gossip.codec=int8", lambda s: s.node.gossip.codec == "int8"),
        ('gossip.codec="int8"', lambda s: s.node.gossip.codec == "int8"),
        (" nodes = 5 ", lambda s: s.nodes == 5),
        ("task=quadratic", lambda s: s.task.name == "quadratic"),
        ("task.size=7", lambda s: (s.task.name, s.task.size) == ("averaging", 7)),
        ("churn.mode=on-off", lambda s: s.churn.mode == "on-off"),
        ('churn.absent=["n4"]', lambda s: s.churn.absent == ("n4",)),
        ("faults.events=[{at=1,until=2,pause=0.5}]", lambda s: s.faults.events[0].pause == 0.5),
        ('expect.deaths="<= 0"', lambda s: str(s.expect.deaths) == "<= 0"),
        ("expect.deaths=<= 0", lambda s: str(s.expect.deaths) == "<= 0"),
        ("train.steps_max=3", lambda s: s.node.train.steps_max == 3),
        ("checkpoint_every_s=2", lambda s: s.node.checkpoint_every_s == 2),
        ("topology=ring", lambda s: s.topology == "ring"),
        ("network.latency_s=1e-3", lambda s: s.network.latency_s == 0.001),
    ],
)
def test_keys_are_changed_by_dotted_names(tmp_path: Path, change: str, found: Any) -> None:
    assert found(load(written(tmp_path), [change]))


def test_the_last_of_several_changes_counts(tmp_path: Path) -> None:
    assert load(written(tmp_path), ["nodes=5", "nodes=6"]).nodes == 6


@pytest.mark.parametrize("change", ["nodes", "=5", " = 5", ""])
def test_a_change_without_key_or_value_says_what_one_is(tmp_path: Path, change: str) -> None:
    assert "expected KEY=VALUE" in mistake(written(tmp_path), change)


def test_a_key_cannot_go_through_what_is_no_table(tmp_path: Path) -> None:
    text = mistake(written(tmp_path), "nodes.count=5")
    assert "'nodes' must be a table" in text


def test_put_makes_the_tables_it_needs() -> None:
    values: dict[str, Any] = {"task": "digits"}
    put(values, "task.size", 5)
    put(values, "churn.mode", "on-off")
    put(values, "gossip.weight", 0.25)
    assert values == {
        "task": {"name": "digits", "size": 5},
        "churn": {"mode": "on-off"},
        "node": {"gossip": {"weight": 0.25}},
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("nodes=0", "'nodes' is 0: Input should be greater than or equal to 1"),
        ("nodes=many", "'nodes' is 'many'"),
        ("noodles=5", "unknown key 'noodles', did you mean 'nodes'?"),
        ("churn.offlin=0.5", "unknown key 'churn.offlin', did you mean 'offline'?"),
        ("gossip.codek=int8", "unknown key 'node.gossip.codek', did you mean 'codec'?"),
        ("churn.offline=1.0", "'churn.offline' is 1.0: Input should be less than 1"),
        ("churn.mode=sometimes", "'churn.mode' is 'sometimes': Input should be 'none', 'on-off'"),
        ("network.loss_probability=-0.1", "'network.loss_probability' is -0.1"),
        ("duration.cycles=5", "exactly one of 'cycles' and 'seconds' is needed"),
        ("expect.deaths=none", "is 'none', expected a bound such as"),
        ("churn.absent=0", "a number of nodes is >= 1, not 0"),
        ("churn.absent=1.5", "a share is > 0 and <= 1, not 1.5"),
        ('churn.absent=["x3"]', "'x3' names nobody"),
        ('churn.absent=["n9"]', "'n9' is not within n1 .. n4"),
        ("faults.events=[{at=1}]", "exactly one of partition, one_way, hold"),
        ("faults.events=[{at=1,pause=1}]", "a pause needs 'until'"),
        ("faults.events=[{at=2,until=1,pause=1}]", "until is 1, must be after at = 2"),
        ("faults.events=[{at=99,until=100,pause=1}]", "an event at 99 s comes after the end"),
        ("compute.distribution=factors", "need each other"),
        ("gossip.outstanding=16", "weight x outstanding is 8"),
    ],
)
def test_a_mistake_names_the_file_the_key_the_value_and_what_is_allowed(
    tmp_path: Path, change: str, words: str
) -> None:
    path = written(tmp_path)
    text = mistake(path, change)
    assert text.startswith(f"{path}: ")
    assert words in text


# --- files beside it ----------------------------------------------------------------------------


def test_files_are_sought_beside_the_scenario_first(tmp_path: Path) -> None:
    (tmp_path / "churn.csv").write_text("node,at,up\nn1,1,0\n")
    (tmp_path / "task.py").write_text("")
    text = (
        'nodes = 4\ntask = "task.py"\nduration.seconds = 5\n'
        'churn = { mode = "trace", trace = "churn.csv" }\ntopology = "absent.toml"'
    )
    found = load(written(tmp_path, text))
    assert found.churn.trace == str(tmp_path / "churn.csv")
    assert found.task.name == str(tmp_path / "task.py")
    assert found.topology == "absent.toml"


def test_a_rule_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "ring").write_text("")
    assert load(written(tmp_path), ["topology=ring"]).topology == "ring"


# --- back and forth -----------------------------------------------------------------------------

SHARES = st.floats(0.01, 1.0)
TIMES = st.floats(0.0, 50.0)


def whos(nodes: int) -> st.SearchStrategy[Any]:
    named = st.lists(st.sampled_from(names(nodes)), min_size=1, max_size=3)
    return st.one_of(SHARES, st.integers(1, nodes), named, st.just(["all"]))


@st.composite
def scenarios(draw: st.DrawFn) -> dict[str, Any]:
    nodes = draw(st.integers(2, 30))
    who = whos(nodes)
    faults = []
    for kind in draw(st.lists(st.sampled_from(FAULTS), max_size=4)):
        at = draw(TIMES)
        event: dict[str, Any] = {"at": at}
        if kind not in ("torn", "clock_jump"):
            event["until"] = at + draw(st.floats(0.1, 40.0))
        if kind == "partition":
            event[kind] = draw(st.lists(who, min_size=1, max_size=3))
        elif kind in ("one_way", "hold"):
            event[kind] = [draw(who), draw(who)]
        else:
            event[kind] = draw(who)
        faults.append(event)
    churn = [
        {"at": draw(TIMES), what: draw(who)}
        for what in draw(st.lists(st.sampled_from(["kill", "stop", "start"]), max_size=3))
    ]
    bounds = draw(
        st.dictionaries(
            st.sampled_from(list(Expect.model_fields)),
            st.tuples(st.sampled_from([">=", "<=", "<", ">"]), st.floats(-1e6, 1e6)),
            max_size=3,
        )
    )
    return {
        "name": "made",
        "nodes": nodes,
        "seed": draw(st.integers(0, 2**31)),
        "topology": draw(st.sampled_from(["ring", "full", "random-2"])),
        "task": draw(st.sampled_from(["digits", "averaging", {"name": "quadratic", "size": 3}])),
        "duration": draw(st.sampled_from([{"cycles": 5}, {"seconds": 100.0}])),
        "node": {"gossip": {"codec": draw(st.sampled_from(["float16", "int8", "float32"]))}},
        "network": {
            "latency_s": draw(st.floats(0, 1)),
            "loss_probability": draw(st.floats(0, 0.9)),
            "nodes": [{"who": draw(who), "latency_s": draw(st.floats(0, 1))}],
            "links": [{"from": draw(who), "to": draw(who), "blocked": draw(st.booleans())}],
        },
        "churn": {"mode": "on-off", "offline": draw(st.floats(0, 0.9)), "events": churn},
        "faults": {"events": faults},
        "expect": {name: f"{sign} {value!r}" for name, (sign, value) in bounds.items()},
    }


@settings(deadline=None, max_examples=60)
@given(scenarios())
def test_a_scenario_comes_back_as_it_was(values: dict[str, Any]) -> None:
    scenario = Scenario.model_validate(values)
    again = from_mapping(dump(scenario), Scenario)
    assert again == scenario
    assert dump(again) == dump(scenario)


def test_defaults_are_left_out() -> None:
    scenario = Scenario.model_validate({"nodes": 3, "duration": {"cycles": 5}})
    assert dump(scenario) == {"nodes": 3, "duration": {"cycles": 5}}
