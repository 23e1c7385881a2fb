"""What nodes tell of themselves and of the swarm: everybody knows it, nobody is a server."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from p2pfl.core.figures import HISTOGRAM, Estimates
from p2pfl.core.messages import Ack, Probe
from p2pfl.core.mixing import consensus_distance
from p2pfl.core.weights import Entry, Layout, Vector
from p2pfl.ports import Evaluation, Update
from p2pfl.sim.transport import MemoryTransport
from tests.node.swarm import Quadratic, Swarm

SPARING: dict[str, Any] = {"train": {"cycle_min_s": 0.5, "steps_max": 1}}


@dataclass
class Measured:
    """A model that never changes, and is as good as the test says."""

    accuracy: float | None
    loss: float = 1.0

    @property
    def layout(self) -> Layout:
        return Layout((Entry("w", (40,)),))

    def initial(self) -> Vector:
        return np.zeros(40, np.float32)

    def step(self, weights: Vector, steps: int, drift: Vector | None) -> Update:
        return Update(np.zeros_like(weights), steps, self.loss, 0.1)

    def evaluate(self, weights: Vector) -> Evaluation:
        return Evaluation(self.loss, self.accuracy, 1)


class Remembering(Quadratic):
    """Every node pulls towards a goal of its own; what it evaluated last is remembered."""

    evaluated: Vector

    def evaluate(self, weights: Vector) -> Evaluation:
        self.evaluated = weights.copy()
        return super().evaluate(weights)


def estimates(swarm: Swarm, name: str) -> Estimates:
    figures = swarm.nodes[name].vitals.figures
    assert figures is not None
    return figures.estimates()


def are_all_right(swarm: Swarm, learners: dict[str, Measured]) -> str:
    """What the estimates of whichever node are wrong in; empty if all of everybody's are right."""
    accuracy = np.sort([learner.accuracy for learner in learners.values()])
    shares = np.histogram(accuracy, HISTOGRAM, (0, 1))[0] / len(accuracy)
    losses = np.mean([learner.loss for learner in learners.values()])
    for name in learners:
        found, wrong = estimates(swarm, name), []
        worst = accuracy[: max(1, round(len(accuracy) / 10))].mean()
        for what, value, expected, off in (
            ("count", found.count, len(learners), 0.01 * len(learners)),
            ("reporting", found.reporting, 1.0, 1e-3),
            ("mean", found.mean_accuracy, accuracy.mean(), 1e-3),
            ("worst tenth", found.worst_tenth_accuracy, worst, 1e-3),
            ("loss", found.mean_loss, losses, 1e-3 * losses),
            *(("share", a, b, 1e-3) for a, b in zip(found.shares, shares, strict=True)),
        ):
            if value is None or abs(value - expected) > off:
                wrong.append(f"{what} {value} instead of {expected}")
        if wrong:
            return f"{name}: {', '.join(wrong)}"
    return ""


async def crash(swarm: Swarm, name: str) -> None:
    """It is gone at once: what its farewell says, nobody hears."""
    transport = swarm.nodes[name].vitals.transport
    assert isinstance(transport, MemoryTransport)
    transport.is_unplugged = True
    await swarm.stop(name)


async def until_right(swarm: Swarm, learners: dict[str, Measured], within_s: float) -> None:
    """Wait until everybody's estimates are right, and stay so."""
    began, looks = asyncio.get_running_loop().time(), 0
    while looks < 10:
        await asyncio.sleep(1)
        wrong = are_all_right(swarm, learners)
        looks = 0 if wrong else looks + 1
        assert asyncio.get_running_loop().time() - began < within_s, wrong


def test_every_node_comes_to_know_the_true_figures_through_loss_duplicates_deaths_and_births() -> (
    None
):
    swarm = Swarm(loss_probability=0.2, duplicate_probability=0.1)
    names = [f"{place:02x}" for place in range(1, 23)]
    rng = np.random.default_rng(3)
    accuracy = [0.11, 0.22, *rng.uniform(0.3, 0.99, 20)]
    learners = {
        name: Measured(float(one), float(rng.uniform(0.1, 3)))
        for name, one in zip(names, accuracy, strict=True)
    }

    async def script() -> None:
        for name in names:
            swarm.start(name, learners[name], **SPARING)
        await until_right(swarm, learners, 45)
        # they crash: nobody says goodbye; the smallest id and the worst are among them
        for name in names[:2] + names[10:13]:
            await crash(swarm, name)
            del learners[name]
        for place in range(3):
            learners[f"0{place}aa"] = Measured(0.06 + 0.15 * place, 5.0)
            swarm.start(f"0{place}aa", learners[f"0{place}aa"], **SPARING)
        await until_right(swarm, learners, 60)

    swarm.play(script)


def test_the_consensus_distance_is_known_without_anybody_seeing_two_models() -> None:
    rng = np.random.default_rng(8)
    learners = [
        Remembering(target) for target in rng.normal(size=(12, 400), scale=2).astype(np.float32)
    ]
    swarm = Swarm()

    async def script() -> None:
        for place, learner in enumerate(learners):
            swarm.start(f"{place:02x}", learner, train={"cycle_min_s": 0.5, "momentum": 0.0})
        await asyncio.sleep(30)
        exact: deque[float] = deque(maxlen=40)
        ratios = []
        for moment in range(180):
            await asyncio.sleep(0.25)
            exact.append(consensus_distance(np.stack(swarm.vectors())))
            if moment < 40 or moment % 9:
                continue
            found = [estimates(swarm, name).consensus_distance for name in ("00", "05", "0b")]
            assert all(found)
            # what is shown was so within the last ten seconds, but for the error of the sketches
            assert 0.9 * min(exact) < min(found) <= max(found) < 1.1 * max(exact)
            ratios.append(np.array(found) / exact[-1])
        assert 0.85 < np.mean(ratios) < 1.15, "sketches of one run share their error"
        # the distance itself varies by 0.11 of its mean, and what is shown is some seconds old
        assert np.std(ratios) < 0.16

    swarm.play(script)


# --- what nodes say of themselves ---------------------------------------------------------------


def test_everybody_hears_what_every_node_says_of_itself_and_how_long_ago_that_was() -> None:
    swarm = Swarm()
    learners = {f"{place:02x}": Measured(place / 20, 1.0 + place) for place in range(14)}

    async def script() -> None:
        for name, learner in learners.items():
            # a ring: most never exchange a model with most others
            swarm.start(name, learner, topology="ring", **SPARING)
        await asyncio.sleep(30)
        swarm.nodes["03"].vitals.holding.append("training rests until 07:00")
        await asyncio.sleep(12)
        for name, node in swarm.nodes.items():
            told = {report["name"]: report for report in node._answering.status()["reports"]}
            assert set(told) == set(learners) - {name}
            for other, report in told.items():
                theirs = swarm.nodes[other].vitals
                assert report["node"] == theirs.id
                assert report["accuracy"] == learners[other].accuracy
                assert report["loss"] == learners[other].loss
                assert report["state"] == ("holding" if other == "03" else "training")
                assert report["holding"] == "; ".join(theirs.holding)
                assert 0 <= report["told_ago_s"] < 8
                # it was true then, by nobody's clock but the teller's and ours
                own_steps_ago = theirs.state.own_steps - report["own_steps"]
                assert abs(own_steps_ago - report["told_ago_s"] / 0.5) <= 3
                assert theirs.cycles - report["cycles"] == own_steps_ago
                assert 1 <= len(report["recent"]) <= 3
                for recent in report["recent"]:
                    assert abs(int(recent["peer"], 16) - int(other, 16)) in (1, 13)
                    assert recent["ago_s"] >= report["told_ago_s"]

    swarm.play(script)


def test_a_restarted_node_is_believed_and_a_dead_one_is_remembered() -> None:
    swarm = Swarm()

    async def script() -> None:
        for name in ("0a", "0b", "0c"):
            swarm.start(name, Measured(0.5), **SPARING)
        await asyncio.sleep(20)
        await crash(swarm, "0c")
        await asyncio.sleep(1)
        swarm.start("0c", Measured(0.75), incarnation=2, **SPARING)
        await asyncio.sleep(8)
        for name in ("0a", "0b"):
            (report,) = [r for r in status(swarm, name)["reports"] if r["name"] == "0c"]
            assert (report["incarnation"], report["accuracy"]) == (2, 0.75)
            assert report["number"] < 12
        await crash(swarm, "0c")
        await asyncio.sleep(60)
        for name in ("0a", "0b"):
            (report,) = [r for r in status(swarm, name)["reports"] if r["name"] == "0c"]
            assert report["told_ago_s"] > 50, "a dead node's last words are not made young again"
            assert estimates(swarm, name).count == pytest.approx(2)

    swarm.play(script)


def status(swarm: Swarm, name: str) -> dict[str, Any]:
    found = swarm.nodes[name]._answering.status()
    json.dumps(found, allow_nan=False)
    return found


def test_status_tells_estimates_reports_and_the_spread_of_staleness_as_plain_json() -> None:
    swarm = Swarm()

    async def script() -> None:
        for place, name in enumerate(("0a", "0b", "0c")):
            swarm.start(name, Measured(0.32 + 0.3 * place), **SPARING)
        await asyncio.sleep(30)
        found = status(swarm, "0b")
        assert found["swarm"]["count"] == pytest.approx(3)
        assert found["swarm"]["reporting"] == pytest.approx(1)
        assert found["swarm"]["mean_accuracy"] == pytest.approx(0.62)
        assert found["swarm"]["worst_tenth_accuracy"] == pytest.approx(0.32)
        assert found["swarm"]["consensus_distance"] == pytest.approx(0, abs=1e-4)
        histogram = found["swarm"]["histogram"]
        assert histogram["edges"] == [place / 20 for place in range(21)]
        assert histogram["share"][6] == pytest.approx(1 / 3)
        assert len(histogram["share"]) == 20
        staleness = found["staleness_histogram"]
        assert staleness["edges"] == [0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, None]
        assert len(staleness["counts"]) == 9
        assert sum(staleness["counts"]) > 20
        assert found["holding"] == []

    swarm.play(script)


# --- switched off, and between others -----------------------------------------------------------


def test_where_it_is_off_nothing_rides_and_nothing_is_heard() -> None:
    swarm = Swarm()

    async def script() -> None:
        off = {**SPARING, "figures": {"enabled": False}}
        quiet = swarm.start("0b", Measured(0.5), **off)
        swarm.start("0a", Measured(0.3), **SPARING)
        swarm.start("0c", Measured(0.7), **SPARING)
        await asyncio.sleep(20)
        said = quiet.vitals.packet(Probe(), to="0000000a")
        assert (said.reports, said.figures) == ((), None)
        found = status(swarm, "0b")
        assert (found["reports"], found["swarm"]) == ([], None)
        # the others do without it
        for name in ("0a", "0c"):
            assert estimates(swarm, name).count == pytest.approx(2)
            assert estimates(swarm, name).mean_accuracy == pytest.approx(0.5)
            (report,) = status(swarm, name)["reports"]
            assert report["name"] != "0b"

    swarm.play(script)


def test_figures_that_are_meant_for_somebody_else_are_not_taken_in() -> None:
    """A relay passes on the answer that a member gave to it."""
    swarm = Swarm()

    async def script() -> None:
        nodes = [swarm.start(name, Measured(0.5), **SPARING) for name in ("0a", "0b", "0c")]
        await asyncio.sleep(10)
        a, b, c = (node.vitals for node in nodes)
        assert a.figures is not None
        before = a.figures.averages()
        meant_for_b = c.packet(Ack(1, 1), to=b.id)
        a.heard(replace(meant_for_b, recipient=b.id), ())
        a.heard(replace(meant_for_b, recipient=b.id, figures=None), ())
        assert np.array_equal(a.figures.averages(), before)
        assert a.figures.exchanged_with(c.id) is not None

    swarm.play(script)


def test_no_averages_are_kept_with_strangers_or_the_suspended() -> None:
    swarm = Swarm()

    async def script() -> None:
        a = swarm.start("0a", Measured(0.5), **SPARING).vitals
        swarm.start("0b", Measured(0.5), **SPARING)
        await asyncio.sleep(10)
        assert a.packet(Probe(), to="0000000b").figures is not None
        assert a.packet(Probe(), to="000000ff").figures is None
        assert a.packet(Probe(), to=None).figures is None
        assert a.packet(Probe(), to=None).reports == ()
        for _ in range(20):
            a.accuse("0000000b", "malformed")
        assert a.keeps_away_from("0000000b")
        assert a.packet(Probe(), to="0000000b").figures is None

    swarm.play(script)
