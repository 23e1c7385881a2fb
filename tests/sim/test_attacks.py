"""Hostile hosts: what they say, that only that is different, and what becomes of it."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest

from p2pfl.core import wire
from p2pfl.core.compression import CODECS, Encoded, encode
from p2pfl.core.messages import AGE_MAX, Exchange, Packet
from p2pfl.errors import WireError
from p2pfl.scenario.learners import Learners
from p2pfl.scenario.spec import AttackName, Scenario
from p2pfl.scenario.trace import Trace
from p2pfl.scenario.verdicts import figures
from p2pfl.scenario.virtual import _Run, simulate
from p2pfl.sim.attacks import (
    ATTACKS,
    View,
    boosted,
    dissensus,
    gaussian,
    inner_product,
    little_is_enough,
    mimic,
    not_a_number,
    quantile,
    sign_flip,
    wrong_shape,
)
from p2pfl.sim.hostile import shortened
from p2pfl.sim.insight import Insight

RNG = np.random.default_rng(5)
POISONED = ("label-flip", "backdoor")


def vector(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


class Known(Insight):
    """Insight into models that are given."""

    def __init__(self, models: np.ndarray, before: np.ndarray | None = None) -> None:
        self.given, self.before = models, before

    def models(self) -> Any:
        return self.given

    def mean(self) -> Any:
        return self.given.mean(axis=0)

    def mean_before(self) -> np.ndarray | None:
        return self.before

    def odd_one(self) -> Any:
        return self.given[1]


def view(
    models: np.ndarray,
    own: np.ndarray,
    *,
    peers: np.ndarray | None = None,
    before: np.ndarray | None = None,
    members: tuple[int, int] = (20, 4),
) -> View:
    return View(Known(models, before), own, peers, own, own, members, np.random.default_rng(0))


def scenario(attack: str, **values: Any) -> Scenario:
    """Ten nodes, two of them hostile, that look for the mean of their optima; no chance of loss."""
    adversary = {"attack": attack, "who": ["n3", "n8"], **values.pop("adversary", {})}
    whole = {
        "name": "hostile",
        "nodes": 10,
        "seed": 3,
        "task": {"name": "quadratic", "size": 64},
        "duration": {"seconds": 8.0},
        "measure": {"samples": 16},
        "adversary": adversary,
    }
    return Scenario.model_validate(whole | values)


ROBUST = {"trust": "byzantine"}
SILENT = 4.5
"""How far the mean is from the optimum where hostile nodes say nothing: their part is missing."""


# --- what is said -------------------------------------------------------------------------------


def test_every_attack_that_a_scenario_can_name_is_there() -> None:
    assert {"none", *ATTACKS} == set(get_args(AttackName))


def test_a_sign_flip_is_the_opposite_of_the_own_model() -> None:
    own = vector(1, -2)
    assert sign_flip(view(np.stack([own]), own), 2.0) == pytest.approx([-2, 4])


def test_gaussian_noise_is_as_large_as_the_own_model() -> None:
    own = np.full(10_000, 2, np.float32)
    lie = gaussian(view(own[None], own), 0.5)
    assert lie is not None
    assert float(np.std(lie - own)) == pytest.approx(1.0, rel=0.05)


def test_an_inner_product_attack_goes_back_on_the_way_the_mean_has_come() -> None:
    """Xie, Koyejo, Gupta, UAI 2019: <movement, lie's movement> = -eps |movement|^2."""
    now, before = vector(1, 2), vector(0, 0)
    lie = inner_product(view(now[None], now, before=before), 0.5)
    assert lie is not None
    assert float(np.dot(now - before, lie - before)) == pytest.approx(-0.5 * 5)


def test_alie_is_z_deviations_off_in_every_coordinate() -> None:
    models = RNG.normal(size=(16, 30)).astype(np.float32)
    lie = little_is_enough(view(models, models[0]), 1.5)
    assert lie is not None
    assert (models.mean(0) - lie) / models.std(0) == pytest.approx(np.full(30, 1.5), rel=1e-4)


def test_the_quantile_of_a_little_is_enough_is_the_papers() -> None:
    """Baruch et al., section 3.3: of 50 workers 24 are hostile, s = 2, z = Phi^-1(24/26)."""
    assert quantile(50, 24) == pytest.approx(1.426, abs=1e-3)
    assert quantile(20, 4) == pytest.approx(0.157, abs=1e-3)
    assert quantile(10, 1) >= 0


def test_dissensus_pushes_away_from_the_mean() -> None:
    """He, Karimireddy, Jaggi 2022, section 6."""
    models, x = np.stack([vector(0, 0), vector(2, 2)]), vector(3, 1)
    lie = dissensus(view(models, x, peers=x), 2.0)
    assert lie == pytest.approx([3 + 2 * 2, 1])
    assert dissensus(view(models, x), 2.0) is None


def test_a_mimic_says_what_one_honest_node_would() -> None:
    models = RNG.normal(size=(5, 3)).astype(np.float32)
    assert mimic(view(models, models[0]), 1.0) == pytest.approx(models[1])


def test_a_boosted_model_is_so_many_times_as_far_from_the_mean() -> None:
    own, models = vector(2, 0), np.stack([vector(1, 0), vector(-1, 0)])
    assert boosted(view(models, own), 3.0) == pytest.approx([6, 0])
    assert boosted(view(models, own), 1.0) is None


@pytest.mark.parametrize("codec", CODECS)
def test_what_is_no_number_and_what_is_too_short_is_no_message(codec: str) -> None:
    true = encode(codec, RNG.normal(size=300).astype(np.float32), RNG)

    def sent(payload: Encoded) -> Packet:
        body = Exchange(1, 5, 5, 5, 0.0, 0.0, 0.5, payload)
        return Packet("run", "0" * 16, "a" * 8, "10.0.0.1:1", 1, body)

    def copy() -> Encoded:
        return Encoded(codec, true.size, true.data.copy())

    wire.decode(wire.encode(sent(true)))
    for _ in range(10):
        with pytest.raises(WireError, match="not finite"):
            wire.decode(wire.encode(sent(not_a_number(copy(), RNG))))
        short = wrong_shape(copy(), RNG)
        if short.size == true.size:
            with pytest.raises(WireError, match="payload has"):
                wire.decode(wire.encode(sent(short)))
        else:
            assert wire.decode(wire.encode(sent(short))).body.payload.size == 150  # type: ignore[union-attr]


def test_a_vector_is_shortened_to_a_length_and_never_lengthened() -> None:
    assert shortened(vector(3, 4), 1.0) == pytest.approx([0.6, 0.8])
    assert shortened(vector(3, 4), 10.0) == pytest.approx([3, 4])
    assert shortened(vector(3, 4), np.inf) == pytest.approx([3, 4])


# --- that only that is different ----------------------------------------------------------------


def run(asked: Scenario) -> tuple[Trace, _Run]:
    """A run, and what is left of its world."""
    from p2pfl.scenario.eventlog import EventLog

    learners = Learners(asked, parallel=False)
    log = EventLog(None, None)
    found = _Run(asked, learners, log, None)
    models: dict[int, np.ndarray] = {}

    async def script() -> None:
        await found.script()
        for machine in found.world.machines:
            if machine.node is not None:
                models[machine.place] = machine.node.vitals.state.x.copy()
                reports[machine.place] = machine.node.vitals

    reports: dict[int, Any] = {}
    found.world.play(script)
    found.models, found.reports = models, reports  # type: ignore[attr-defined]
    log.close()
    return found.trace(0.0), found


@pytest.mark.parametrize("attack", sorted(set(ATTACKS).difference(POISONED)))
def test_a_seed_decides_what_hostile_nodes_do(attack: str) -> None:
    asked = scenario(attack, duration={"seconds": 2.0})
    one, again = simulate(asked), simulate(asked)
    assert one.event_hash == again.event_hash
    assert not one.deaths


@pytest.mark.parametrize("attack", ["sign-flip", "non-finite", "flooding", "sybils", "slow-drip"])
def test_an_attack_that_has_not_begun_changes_nothing(attack: str) -> None:
    late = scenario(attack, adversary={"begins_s": 100.0}, duration={"seconds": 3.0})
    nobody = scenario("none", duration={"seconds": 3.0})
    assert simulate(late).event_hash == simulate(nobody).event_hash


def test_an_attack_that_is_over_is_recovered_from() -> None:
    during = figures(simulate(scenario("sign-flip")))["optimum_distance"]
    over = scenario("sign-flip", adversary={"ends_s": 2.0}, duration={"seconds": 14.0})
    after = figures(simulate(over))["optimum_distance"]
    assert during is not None
    assert after is not None
    assert after < during / 3


@pytest.mark.parametrize("codec", ["float32", "int8"])
def test_the_node_behind_a_liar_stays_sane(codec: str) -> None:
    """Its lies are taken out of what comes back: it is as near to the others as they themselves."""
    node = {"gossip": {"codec": codec}}
    _, found = run(scenario("gaussian", adversary={"strength": 3.0}, node=node))
    models = found.models  # type: ignore[attr-defined]
    honest = np.stack([x for place, x in models.items() if place not in (2, 7)])
    usual = np.linalg.norm(honest - honest.mean(0), axis=1)
    for place in (2, 7):
        assert np.isfinite(models[place]).all()
        assert np.linalg.norm(models[place] - honest.mean(0)) < 3 * usual.max()


def test_figures_are_about_honest_nodes_only() -> None:
    trace = simulate(scenario("sign-flip"))
    assert trace.hostile == (2, 7)
    for values in (trace.accuracy, trace.cycles, trace.age, trace.sent, trace.messages):
        assert np.isnan(values[:, [2, 7]]).all()
    assert np.isnan(trace.stalls[[2, 7]]).all()
    assert np.isfinite(trace.cycles[-1]).sum() == 8
    assert len(trace.suspended) == len(trace.times)
    assert [mark.kind for mark in trace.marks] == ["attack"]
    assert figures(trace)["backdoor_success"] is None


def test_hostile_nodes_stay_up_while_others_come_and_go() -> None:
    churn = {"mode": "on-off", "offline": 0.5, "session_s": 1.0, "events": [{"at": 4, "kill": 0.9}]}
    trace = simulate(scenario("sign-flip", churn=churn))
    assert (trace.presence[:, [2, 7]] == 1).all()
    assert (trace.presence != 1).any()


# --- what becomes of it -------------------------------------------------------------------------


def off(attack: str, **values: Any) -> float:
    """How far the honest mean ends from the optimum."""
    found = figures(simulate(scenario(attack, **values)))["optimum_distance"]
    assert found is not None
    return found


@pytest.mark.parametrize("attack", ["sign-flip", "gaussian", "replay", "old-age"])
def test_members_that_trust_each_other_are_led_astray(attack: str) -> None:
    adversary = {"strength": 20.0} if attack == "gaussian" else {}
    assert off(attack, adversary=adversary) > SILENT + 0.5


def test_a_model_that_claims_to_be_the_oldest_is_adopted_by_who_trusts() -> None:
    _, found = run(scenario("old-age"))
    honest = [v for place, v in found.reports.items() if place not in (2, 7)]  # type: ignore[attr-defined]
    assert all(vitals.state.age > AGE_MAX // 2 for vitals in honest)


def test_robust_members_believe_no_age_that_others_do_not_bear_out() -> None:
    _, found = run(scenario("old-age", node=ROBUST, adversary={"begins_s": 2.0}))
    honest = [v for place, v in found.reports.items() if place not in (2, 7)]  # type: ignore[attr-defined]
    assert all(vitals.state.age < 10_000 for vitals in honest)


def test_what_is_no_number_reaches_nobodys_model() -> None:
    trace, found = run(scenario("non-finite"))
    assert not trace.deaths
    assert all(np.isfinite(x).all() for x in found.models.values())  # type: ignore[attr-defined]
    assert off("non-finite") < SILENT


def test_wrong_shapes_suspend_who_sends_them() -> None:
    found = figures(simulate(scenario("wrong-shape")))
    assert found["suspended"] == 1.0


def test_who_signs_two_models_for_one_snapshot_is_convicted_by_all() -> None:
    found = figures(simulate(scenario("equivocation", node=ROBUST)))
    assert found["suspended"] == 1.0


def test_without_an_equivocation_nobody_who_signs_is_convicted() -> None:
    trace = simulate(scenario("equivocation", adversary={"begins_s": 100.0}))
    assert figures(trace)["suspended"] == 0.0
    assert trace.outcomes["flow"] > 100


def test_a_flood_is_refused_for_its_rate() -> None:
    asked = scenario("flooding", duration={"seconds": 12.0}, node=ROBUST)
    trace, found = run(asked)
    honest = [v for place, v in found.reports.items() if place not in (2, 7)]  # type: ignore[attr-defined]
    refused = sum(
        v.tally.by_peer.get(liar, {}).get("rate", 0) for v in honest for liar in ids(found)
    )
    assert refused > 100
    assert max(trace.stalls[np.isfinite(trace.stalls)]) < 1.0


def ids(found: _Run) -> list[str]:
    return [found.world.machines[place].disk.node or "" for place in (2, 7)]


def test_invented_names_are_heard_only_where_members_have_no_key() -> None:
    _, keyed = run(scenario("sybils"))
    _, without = run(scenario("sybils", adversary={"keyed": False}))
    for found, more in ((keyed, False), (without, True)):
        members = found.reports[0].members.met()  # type: ignore[attr-defined]
        assert (len(members) > 10) is more
    assert off("sybils") < 2 * off("none") + 0.5


def test_packets_of_others_word_for_word_are_refused_where_members_have_a_key() -> None:
    _, found = run(scenario("replay"))
    told = [v.tally.by_peer for place, v in found.reports.items() if place not in (2, 7)]  # type: ignore[attr-defined]
    assert any("certificate" in reason for one in told for seen in one.values() for reason in seen)


def test_a_slow_drip_is_late_and_still_in_time() -> None:
    trace, found = run(scenario("slow-drip"))
    meters = found.reports[0].state.meters  # type: ignore[attr-defined]
    slow = [meters.of(liar).whole.mean_s for liar in ids(found)]
    assert max(slow) > 0.1
    assert trace.outcomes["flow"] > 20


def test_a_liar_answers_also_whom_its_own_node_would_refuse() -> None:
    """Its node would refuse everybody for their distance; flows come all the same."""
    node = {**ROBUST, "robust": {"reach": 1e-6}}
    trace, found = run(scenario("sign-flip", node=node, adversary={"adaptive": "reach"}))
    tallies = [v.tally.asked for place, v in found.reports.items() if place not in (2, 7)]  # type: ignore[attr-defined]
    assert sum(tally["flow"] for tally in tallies) > 0
    assert trace.outcomes["flow"] > 0


@pytest.mark.parametrize("rule", ["median", "clipped-gossip"])
def test_members_that_judge_together_are_lied_to_by_swaps(rule: str) -> None:
    node = {**ROBUST, "robust": {"rule": rule}}
    trace = simulate(scenario("sign-flip", node=node))
    assert trace.outcomes["swap"] > 100
    assert np.isfinite(trace.optimum).all()
