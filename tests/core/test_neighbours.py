import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfl.core.neighbours import RULES, Rule, edges, known, rule
from p2pfl.errors import ConfigError

ISLANDS = "edges:a--b,a--c,a--d,b--c,b--d,c--d,d--e,e--f,e--g,e--h,f--g,f--h,g--h"
TEXTS = [
    *RULES,
    "random-1",
    "torus-5",
    "small-world-2",
    "small-world-8",
    "random-regular-2",
    "random-regular-3",
    "random-regular-7",
    ISLANDS,
]


def ids(count: int) -> tuple[str, ...]:
    """Ids as nodes draw them: hex digits without any order."""
    return tuple(sorted(hashlib.sha256(b"%d" % i).hexdigest()[:16] for i in range(count)))


def graph(topology: Rule, members: tuple[str, ...], names=None) -> dict[str, tuple[str, ...]]:
    return {m: topology.neighbours(m, members, names or {}) for m in members}


def is_connected(near: dict[str, tuple[str, ...]]) -> bool:
    start = next(iter(near))
    reached, frontier = {start}, [start]
    while frontier:
        for other in near[frontier.pop()]:
            if other not in reached:
                reached.add(other)
                frontier.append(other)
    return len(reached) == len(near)


def assert_sound(near: dict[str, tuple[str, ...]]) -> None:
    for me, others in near.items():
        assert me not in others
        assert list(others) == sorted(set(others))
        assert all(me in near[other] for other in others)
    assert is_connected(near)


def links(near: dict[str, tuple[str, ...]]) -> set[tuple[str, str]]:
    return {(a, b) for a, others in near.items() for b in others if a < b}


# --- what holds for every rule ------------------------------------------------------------------


@pytest.mark.parametrize("text", TEXTS)
def test_every_rule_is_symmetric_connected_and_never_names_the_asker_for_1_to_64_members(text):
    topology = rule(text)
    for n in range(1, 65):
        assert_sound(graph(topology, ids(n)))


@settings(max_examples=60, deadline=None)
@given(
    text=st.sampled_from(TEXTS),
    members=st.sets(st.text("0123456789abcdefgh", min_size=1, max_size=12), min_size=1),
)
def test_every_rule_is_sound_for_any_ids(text, members):
    assert_sound(graph(rule(text), tuple(sorted(members))))


@pytest.mark.parametrize("text", TEXTS)
def test_a_lone_member_has_no_neighbours_and_two_have_each_other(text):
    assert rule(text).neighbours("x", ["x"]) == ()
    assert rule(text).neighbours("x", ["x", "y"]) == ("y",)


@pytest.mark.parametrize("text", TEXTS)
def test_the_text_of_a_rule_gives_the_rule_again(text):
    assert rule(rule(text).text) == rule(text)


@pytest.mark.parametrize("text", TEXTS)
def test_asking_for_somebody_who_is_not_a_member_is_our_own_mistake(text):
    with pytest.raises(ValueError, match="'z' is not among the 2 members"):
        rule(text).neighbours("z", ("a", "b"))


def test_hashed_links_are_the_same_on_every_device_and_in_every_process():
    members = ids(12)
    assert [members.index(m) for m in rule("random-regular").neighbours(members[0], members)] == [
        1,
        7,
        9,
        11,
    ]
    assert [members.index(m) for m in rule("small-world").neighbours(members[0], members)] == [
        1,
        2,
        9,
        10,
        11,
    ]


# --- each rule ----------------------------------------------------------------------------------


def test_full_and_random_name_everybody_and_only_random_bounds_the_draws():
    members = ids(9)
    assert rule("full").neighbours(members[4], members) == members[:4] + members[5:]
    assert rule("random-5").neighbours(members[4], members) == members[:4] + members[5:]
    assert rule("full").draws is None
    assert rule("random-5").draws == 5
    assert rule("random").draws == 3


def test_ring_names_the_previous_and_the_next():
    members = ids(7)
    assert rule("ring").neighbours(members[0], members) == (members[1], members[6])


def test_star_has_the_smallest_id_as_hub_and_the_next_one_after_it_left():
    members = ids(6)
    assert all(rule("star").neighbours(m, members) == members[:1] for m in members[1:])
    assert all(rule("star").neighbours(m, members[1:]) == members[1:2] for m in members[2:])


def test_exponential_names_those_at_powers_of_two_in_both_directions():
    members = ids(16)
    near = rule("exponential").neighbours(members[0], members)
    assert [members.index(m) for m in near] == [1, 2, 4, 8, 12, 14, 15]


@pytest.mark.parametrize(("n", "columns"), [(9, 3), (12, 4), (16, 4), (20, 5), (25, 5), (42, 7)])
def test_torus_on_a_full_grid_gives_everybody_its_neighbours_left_right_up_and_down(n, columns):
    members, rows = ids(n), n // columns
    for place, me in enumerate(members):
        row, column = divmod(place, columns)
        expected = {
            ((row + down) % rows) * columns + (column + right) % columns
            for down, right in ((0, 1), (0, -1), (1, 0), (-1, 0))
        }
        assert {members.index(m) for m in rule("torus").neighbours(me, members)} == expected


def test_torus_with_a_short_last_row_gives_nobody_more_than_four():
    for n in range(2, 65):
        assert max(len(near) for near in graph(rule("torus"), ids(n)).values()) <= 4


def test_torus_takes_a_width():
    members = ids(12)
    near = rule("torus-6").neighbours(members[0], members)
    assert [members.index(m) for m in near] == [1, 5, 6]


@pytest.mark.parametrize("degree", [2, 3, 4, 5, 8])
def test_random_regular_gives_about_the_degree_asked_for_and_never_more(degree):
    sizes = [len(near) for near in graph(rule(f"random-regular-{degree}"), ids(200)).values()]
    assert max(sizes) <= degree + degree % 2
    assert degree - 0.3 <= sum(sizes) / len(sizes) <= degree + 0.3


def test_random_regular_changes_one_link_per_circle_when_somebody_leaves():
    members = ids(60)
    before = links(graph(rule("random-regular-6"), members))
    for gone in members[::7]:
        after = links(graph(rule("random-regular-6"), tuple(m for m in members if m != gone)))
        kept = {link for link in before if gone not in link}
        assert kept <= after
        assert len(after - kept) <= 3


def test_small_world_adds_about_one_long_link_each_to_the_lattice():
    members = ids(100)
    near = graph(rule("small-world-4"), members)
    for place, me in enumerate(members):
        assert {members[(place + hop) % 100] for hop in (-2, -1, 1, 2)} <= set(near[me])
    assert 0.6 <= sum(len(others) - 4 for others in near.values()) / 100 <= 1.4


# --- the explicit list --------------------------------------------------------------------------


def test_an_edge_list_links_exactly_what_it_says():
    near = graph(rule("edges:a--b,c--b,d--c"), ("a", "b", "c", "d"))
    assert near == {"a": ("b",), "b": ("a", "c"), "c": ("b", "d"), "d": ("c",)}


def test_an_edge_list_may_speak_of_names_and_the_smaller_id_wins_a_name_taken_twice():
    names = {"01": "lab", "02": "desk", "03": "couch", "04": "desk"}
    near = graph(rule("edges:lab--desk,desk--couch"), ("01", "02", "03", "04"), names)
    assert near["02"][:2] == ("01", "03")
    assert len(near["04"]) == 1
    assert_sound(near)


def test_an_id_goes_before_a_name():
    near = rule("edges:a--b").neighbours("a", ("a", "b", "c"), {"c": "a"})
    assert near[0] == "b"


def test_members_around_a_hole_in_an_edge_list_close_it_as_a_ring():
    hub = edges([("hub", leaf) for leaf in "abcde"])
    assert graph(hub, tuple("abcde")) == graph(rule("ring"), tuple("abcde"))
    without_bridge = graph(rule(ISLANDS), tuple("abcfgh"))
    assert without_bridge["c"] == ("a", "b", "f")
    assert without_bridge["a"] == ("b", "c", "h")


@settings(deadline=None)
@given(st.sets(st.sampled_from("abcdefgh"), min_size=1), st.sets(st.sampled_from("stuvw")))
def test_an_edge_list_stays_sound_whoever_is_absent_and_whoever_is_new(listed, strangers):
    assert_sound(graph(rule(ISLANDS), tuple(sorted(listed | strangers))))


# --- mistakes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("rnig", "'rnig': no such rule; did you mean 'ring'"),
        ("", "known: exponential"),
        ("random-x", "did you mean 'random'"),
        ("ring-3", "'ring' takes no parameter, 3 was given"),
        ("random-0", "draws is 0, must be from 1 to 1024"),
        ("random-regular-1", "degree is 1, must be from 2 to 64"),
        ("random-regular-999999999", "must be from 2 to 64"),
        ("small-world-3", "nearest is 3, must be even"),
        ("torus-1", "columns is 1, must be from 2"),
        ("random-regular-²", "no such rule"),
        ("edges:", "'' is not a link, expected A--B"),
        ("edges:a-b", "'a-b' is not a link"),
        ("edges:a--", "is not a link, expected two ids or names"),
        ("edges:a--b--c", "is not a link, expected two ids or names"),
        ("edges:a--a", "'a' is linked to itself"),
        ("edges:a--b,b--a", "the link b--a is listed twice"),
        ("edges:a--b,c--d", "'c' cannot be reached from 'a'"),
    ],
)
def test_a_mistaken_rule_is_refused_with_the_value_and_what_is_allowed(text, complaint):
    with pytest.raises(ConfigError) as caught:
        rule(text)
    assert complaint in str(caught.value)


def test_an_empty_edge_list_is_refused():
    with pytest.raises(ConfigError, match="at least one link is needed"):
        edges([])


def test_the_list_of_known_rules_names_all_of_them():
    assert len(known()) == len(RULES) + 1
    assert all(any(text.startswith(name) for text in known()) for name in RULES)
