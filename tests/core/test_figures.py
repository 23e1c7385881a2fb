"""Averages over the swarm: mass is conserved, whatever happens to messages; and what they mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfl.core.figures import HISTOGRAM, KNOWN, ONE, SIZE, SKETCH, SQUARED, SwarmFigures
from p2pfl.core.messages import Figures
from p2pfl.core.sketch import BUCKETS

ROUNDING = 1e-5


def node(place: int) -> str:
    return f"{place:08x}"


@dataclass
class World:
    """Nodes whose messages lie in `letters` until somebody delivers, repeats or drops them."""

    nodes: list[SwarmFigures]
    incarnations: list[int]
    now: float = 0.0
    letters: list[Callable[[], None]] = field(default_factory=list)

    @classmethod
    def of(cls, accuracy: list[float], partners: int = 64) -> World:
        world = cls([SwarmFigures(partners) for _ in accuracy], [1] * len(accuracy))
        for place, one in enumerate(accuracy):
            world.nodes[place].count_as_first(place == 0)
            world.nodes[place].measured(one, 2.0 * one)
        return world

    def ask(self, i: int, j: int) -> None:
        """Node i asks node j, which will answer."""
        self.now += 0.01
        told = self.nodes[i].tell(node(j), self.now, answers=False)
        self.letters.append(partial(self._asked, i, j, self.incarnations[i], told))

    def _asked(self, i: int, j: int, incarnation: int, told: Figures | None) -> None:
        self.nodes[j].hear(node(i), incarnation, told, self.now)
        answer = self.nodes[j].tell(node(i), self.now, answers=True)
        hear = partial(self.nodes[i].hear, node(j), self.incarnations[j], answer)
        self.letters.append(lambda: hear(self.now))

    def exchange(self, i: int, j: int) -> None:
        """A question and its answer, with nothing in between."""
        others, self.letters = self.letters, []
        self.ask(i, j)
        self.letters.pop()()
        self.letters.pop()()
        self.letters = others

    def mix(self, rounds: int, rng: np.random.Generator) -> None:
        """Everybody asks somebody, again and again."""
        for _ in range(rounds):
            for i in range(len(self.nodes)):
                self.exchange(i, int((i + rng.integers(1, len(self.nodes))) % len(self.nodes)))

    def all_pairs(self) -> None:
        """Every pair, once; what was under way before is lost."""
        self.now += 100.0
        self.letters.clear()
        for i in range(len(self.nodes)):
            for j in range(i):
                self.exchange(i, j)

    def agree(self, i: int, j: int) -> bool:
        """Whether both ends of a pair hold exactly the same: one gave what the other got."""
        nothing = np.zeros(SIZE, np.float32), np.zeros(SIZE, np.float32)
        given, got = self.nodes[i].exchanged_with(node(j)) or nothing
        given_back, got_there = self.nodes[j].exchanged_with(node(i)) or nothing
        return np.array_equal(given, got_there) and np.array_equal(given_back, got)

    def all_agree(self) -> bool:
        """Whether that is so for every pair."""
        return all(self.agree(i, j) for i in range(len(self.nodes)) for j in range(i))

    def mean(self) -> np.ndarray:
        """(SIZE,) of all estimates; without flows under way it is the truth."""
        return np.mean([each.averages() for each in self.nodes], axis=0)


def truth(accuracy: list[float]) -> np.ndarray:
    """(SIZE,) what the mean should be."""
    return np.mean(
        [World.of([-1.0, one]).nodes[1].averages() for one in accuracy], axis=0
    ) + np.eye(SIZE)[ONE] / len(accuracy)


ACCURACY = st.lists(st.floats(0, 1, width=32), min_size=2, max_size=6)

# --- conservation -------------------------------------------------------------------------------


@settings(deadline=None)
@given(ACCURACY, st.integers(0, 99))
def test_after_a_complete_exchange_flows_are_opposite_and_both_have_the_same_estimate(
    accuracy: list[float], seed: int
) -> None:
    world = World.of(accuracy)
    world.mix(3, np.random.default_rng(seed))
    world.exchange(0, 1)
    there, back = (world.nodes[i].exchanged_with(node(1 - i)) for i in (0, 1))
    assert there is not None
    assert back is not None
    assert np.array_equal(there[0] - there[1], -(back[0] - back[1]))
    assert np.allclose(world.nodes[0].averages(), world.nodes[1].averages(), atol=ROUNDING)
    assert world.all_agree()
    assert np.allclose(world.mean(), truth(accuracy), atol=ROUNDING)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["ask", "ask", "deliver", "deliver", "repeat", "drop", "forget", "restart"]
        ),
        st.integers(0, 2**16),
        st.integers(0, 2**16),
    ),
    max_size=80,
)


@settings(deadline=None, max_examples=200)
@given(ACCURACY, STEPS)
def test_no_loss_repetition_order_or_restart_leaves_a_bias_after_the_next_contact(
    accuracy: list[float], steps: list[tuple[str, int, int]]
) -> None:
    world, n = World.of(accuracy), len(accuracy)
    for kind, a, b in steps:
        i, j = a % n, (a + 1 + b % (n - 1)) % n
        letters = world.letters
        match kind:
            case "ask":
                world.ask(i, j)
            case "deliver" if letters:
                letters.pop(b % len(letters))()
            case "repeat" if letters:
                letters[b % len(letters)]()
            case "drop" if letters:
                del letters[b % len(letters)]
            case "forget":
                # believed dead, by one of the two only
                world.nodes[i].keep({node(k) for k in range(n) if k != j})
            case "restart":
                world.incarnations[i] += 1
                fresh = World.of(accuracy).nodes[i]
                world.nodes[i] = fresh
    world.all_pairs()
    assert world.all_agree()
    assert np.allclose(world.mean(), truth(accuracy), atol=ROUNDING)
    world.mix(60, np.random.default_rng(0))
    for each in world.nodes:
        assert np.allclose(each.averages(), truth(accuracy), atol=1e-3)


def test_an_old_message_does_not_overrule_a_newer_one_but_one_of_a_new_life_does() -> None:
    world = World.of([0.2, 0.8])
    world.exchange(0, 1)
    a, b = world.nodes
    first = b.tell(node(0), 1.0, answers=True)
    b.measured(0.1, None)
    b.hear(node(0), 1, a.tell(node(1), 1.0, answers=False), 1.0)
    second = b.tell(node(0), 1.0, answers=True)
    assert first is not None
    assert second is not None
    assert first.given != second.given
    a.hear(node(1), 1, second, 1.0)
    before = a.exchanged_with(node(1))
    for late in (first, second, replace(first, number=0)):
        a.hear(node(1), 1, late, 1.0)
        assert world.agree(0, 1)
    fresh = SwarmFigures(4).tell(node(0), 1.0, answers=False)
    a.hear(node(1), 2, fresh, 1.0)
    after = a.exchanged_with(node(1))
    assert before is not None
    assert after is not None
    assert np.array_equal(after[0], before[0])
    assert np.array_equal(after[1], np.zeros(SIZE))


def test_what_flowed_to_the_dead_comes_back() -> None:
    accuracy = [0.1, 0.4, 0.6, 0.95]
    world = World.of(accuracy)
    world.mix(20, np.random.default_rng(1))
    assert world.nodes[1].averages()[ONE] == pytest.approx(1 / 4, abs=1e-3)
    rest = world.nodes[1:]
    for each in rest:
        each.keep({node(1), node(2), node(3)})
    assert np.sum([each.averages() for each in rest], axis=0)[ONE] == pytest.approx(0, abs=ROUNDING)
    rest[0].count_as_first(True)
    total = np.mean([each.averages() for each in rest], axis=0)
    assert np.allclose(total, truth(accuracy[1:]), atol=ROUNDING)


# --- partners -----------------------------------------------------------------------------------


def test_who_has_no_room_for_a_partner_costs_nobody_anything() -> None:
    """The pairs that are kept are still a connected graph, and no flow is lost to the others."""
    rng = np.random.default_rng(2)
    accuracy = rng.uniform(size=30).tolist()
    world = World.of(accuracy, partners=4)
    world.mix(300, rng)
    assert all(len(each) <= 4 for each in world.nodes)
    assert world.all_agree()
    assert np.allclose(world.mean(), truth(accuracy), atol=ROUNDING)
    for each in world.nodes:
        assert np.allclose(each.averages(), truth(accuracy), atol=1e-3)


def test_a_partner_that_fell_silent_makes_room() -> None:
    world = World.of([0.1, 0.2, 0.3], partners=1)
    world.exchange(0, 1)
    world.exchange(0, 2)
    assert world.nodes[0].exchanged_with(node(2)) is None
    assert world.nodes[0].exchanged_with(node(1)) is not None
    world.exchange(2, 0)
    assert world.nodes[2].exchanged_with(node(0)) is None, "it was told that it is no partner"
    world.now += 301
    world.exchange(2, 0)
    assert world.nodes[0].exchanged_with(node(1)) is None
    assert world.nodes[0].exchanged_with(node(2)) is not None
    world.exchange(1, 0)
    assert world.nodes[1].exchanged_with(node(0)) is None
    assert world.all_agree()


def test_one_estimate_at_a_time_is_offered_until_it_is_answered_or_lost() -> None:
    """Else many would move towards one that is out of date, and the averages would swing."""
    world = World.of([0.5] * 5)
    asker = world.nodes[0]

    def offers(k: int, now: float) -> bool:
        told = asker.tell(node(k), now, answers=False)
        assert told is not None
        return bool(told.estimate)

    assert [offers(k, 1.0) for k in (1, 2, 3)] == [True, False, False]
    assert not offers(1, 2.9)
    assert offers(2, 3.1), "the answer never came"
    asker.hear(node(2), 1, Figures(9, 5, bytes(4 * SIZE)), 3.2)
    assert offers(3, 3.3)
    assert not offers(3, 3.6)
    assert offers(3, 3.8), "an answer usually takes 0.1 s"


@pytest.mark.parametrize("n", [2, 3, 6, 12])
@pytest.mark.parametrize("under_way", [2, 6, 16])
@pytest.mark.parametrize("loss", [0.0, 0.2])
def test_averages_settle_however_long_messages_take_and_however_they_cross(
    n: int, under_way: int, loss: float
) -> None:
    """So many messages of every node are under way all the time; they arrive in order."""
    rng = np.random.default_rng(4)
    accuracy = rng.uniform(size=n).tolist()
    world, exact = World.of(accuracy), truth(accuracy)
    for step in range(3000):
        world.ask(step % n, int((step + rng.integers(1, n)) % n))
        while len(world.letters) > under_way * n:
            letter = world.letters.pop(0)
            if rng.random() >= loss:
                letter()
    for each in world.nodes:
        assert np.allclose(each.averages(), exact, atol=0.05)


# --- liars --------------------------------------------------------------------------------------


def test_what_a_liar_says_is_clamped_to_what_can_be_and_forgotten_with_it() -> None:
    world = World.of([0.25, 0.75])
    liar, before = "f" * 8, world.nodes[0].averages()
    huge = np.full(SIZE, 3e38, "<f4").tobytes()
    world.nodes[0].hear(liar, 1, Figures(7, 0, huge, huge), 0.0)
    assert world.nodes[0].tell(liar, 0.0, answers=True) is not None
    assert np.isfinite(world.nodes[0].averages()).all()
    found = world.nodes[0].estimates()
    assert found.mean_accuracy is None or 0 <= found.mean_accuracy <= 1
    world.nodes[0].keep({node(1)})
    assert np.array_equal(world.nodes[0].averages(), before), "no rounding is left"


def test_a_tick_spreads_with_every_message_and_one_that_is_far_ahead_is_not_believed() -> None:
    a, b = SwarmFigures(4), SwarmFigures(4)
    a.tick = 7
    told = a.tell(node(1), 1.0, answers=False)
    assert told is not None
    b.hear(node(0), 1, told, 1.1)
    assert b.tick == 7
    b.hear(node(0), 1, replace(told, number=told.number + 1, tick=6), 1.2)
    assert b.tick == 7
    b.hear(node(0), 1, replace(told, number=told.number + 2, tick=2**40), 1.3)
    assert b.tick == 7


def test_a_node_without_a_tick_takes_any_so_that_a_lie_ends_with_the_liar() -> None:
    a, b = SwarmFigures(4), SwarmFigures(4)
    a.tick = 2**40
    told = a.tell(node(1), 1.0, answers=False)
    assert told is not None
    b.hear(node(0), 1, told, 1.1)
    assert b.tick == 2**40
    b.miss_ticks()
    b.hear(node(0), 1, replace(told, number=told.number + 1, tick=3), 40.0)
    assert b.tick == 3
    b.hear(node(0), 1, replace(told, number=told.number + 2, tick=2**63 - 1), 41.0)
    assert b.tick == 3


def test_while_partners_come_and_go_the_last_quiet_estimates_are_shown_for_a_while() -> None:
    world = World.of([0.2, 0.6, 0.7])
    world.mix(60, np.random.default_rng(1))
    a = world.nodes[0]
    a.shown(100.0)
    quiet = a.shown(110.0)
    assert quiet.mean_accuracy == pytest.approx(0.5, abs=1e-3)
    a.keep(())
    assert a.estimates().mean_accuracy == pytest.approx(0.2)
    assert a.shown(111.0) == quiet
    assert a.shown(117.0) == quiet
    assert a.shown(120.0).mean_accuracy == pytest.approx(0.2)


# --- what they mean -----------------------------------------------------------------------------


def test_a_node_alone_knows_itself() -> None:
    alone = SwarmFigures(4)
    assert alone.estimates().count is None
    assert alone.estimates().mean_accuracy is None
    alone.count_as_first(True)
    alone.measured(0.725, -3.5)
    alone.moved(np.arange(BUCKETS, dtype=float))
    alone.compare()
    assert alone.estimates().consensus_distance is None, "shown from the next tick on"
    alone.moved(np.arange(BUCKETS, dtype=float))
    found = alone.estimates()
    assert (found.count, found.reporting) == (1.0, 1.0)
    assert (found.mean_accuracy, found.worst_tenth_accuracy) == (0.725, 0.725)
    assert (found.mean_loss, found.consensus_distance) == (-3.5, 0.0)
    assert found.shares[14] == 1.0
    assert sum(found.shares) == 1.0


def test_what_is_not_there_or_no_number_counts_as_not_there() -> None:
    alone = SwarmFigures(4)
    alone.count_as_first(True)
    alone.measured(float("nan"), float("inf"))
    alone.moved(np.full(BUCKETS, np.nan))
    found = alone.estimates()
    assert (found.reporting, found.mean_accuracy, found.mean_loss) == (0.0, None, None)
    assert found.consensus_distance is None
    alone.measured(7.0, 1.0)
    assert alone.estimates().mean_accuracy == 1.0


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 99), min_size=2, max_size=40), st.integers(0, 99))
def test_the_figures_are_those_that_somebody_would_compute_who_sees_everything(
    hundredths: list[int], seed: int
) -> None:
    """One value per bin, so that the worst tenth is exact too."""
    accuracy = [(one // 5 * 5 + 2) / 100 for one in hundredths]
    world = World.of(accuracy)
    world.mix(40, np.random.default_rng(seed))
    ordered = np.sort(accuracy)
    for each in world.nodes:
        found = each.estimates()
        assert found.count == pytest.approx(len(accuracy), rel=1e-2)
        assert found.reporting == pytest.approx(1, abs=1e-3)
        assert found.mean_accuracy == pytest.approx(ordered.mean(), abs=1e-3)
        worst = ordered[: max(1, round(len(ordered) / 10))].mean()
        assert found.worst_tenth_accuracy == pytest.approx(worst, abs=2e-3)
        shares = np.histogram(ordered, HISTOGRAM, (0, 1))[0] / len(ordered)
        assert found.shares == pytest.approx(shares, abs=1e-3)
        assert found.mean_loss == pytest.approx(2 * ordered.mean(), abs=2e-3)


def test_nodes_without_an_accuracy_or_a_sketch_do_not_dilute_those_that_have_one() -> None:
    world = World.of([0.5, 0.5, 0.5, 0.5])
    rng = np.random.default_rng(5)
    sketches = rng.normal(size=(2, BUCKETS), scale=10)
    for place, each in enumerate(world.nodes):
        if place < 2:
            each.measured(0.3 + 0.4 * place, None)
            each.moved(sketches[place])
        else:
            each.measured(None, 4.0)
    world.mix(60, rng)
    for each in world.nodes:
        each.compare()
    world.mix(60, rng)
    nothing = np.full(BUCKETS, np.nan)
    for place, each in enumerate(world.nodes):
        each.moved(sketches[place] if place < 2 else nothing)
    exact = np.linalg.norm(sketches[0] - sketches[1]) / 2
    for each in world.nodes:
        found = each.estimates()
        assert found.reporting == pytest.approx(0.5, abs=1e-3)
        assert found.mean_accuracy == pytest.approx(0.5, abs=1e-3)
        assert found.mean_loss == pytest.approx(4.0, abs=1e-2)
        assert found.consensus_distance == pytest.approx(exact, rel=1e-3)
    averages = world.nodes[0].averages()
    assert averages[KNOWN] == pytest.approx(0.5, abs=1e-3)
    assert np.allclose(averages[SKETCH], sketches.sum(axis=0) / 4, atol=1e-2)
    assert averages[SQUARED] == pytest.approx(exact**2 / 2, rel=1e-2)


def test_figures_follow_when_what_is_measured_changes() -> None:
    world = World.of([0.2] * 6)
    rng = np.random.default_rng(6)
    for accuracy in (0.3, 0.9, 0.52):
        for each in world.nodes:
            each.measured(accuracy, None)
        world.mix(15, rng)
        for each in world.nodes:
            assert each.estimates().mean_accuracy == pytest.approx(accuracy, abs=1e-3)
            assert each.estimates().mean_loss is None
