from __future__ import annotations

from dataclasses import dataclass

import pytest

from p2pfl.edge.page.links import LINK_S, LINKS, SESSIONS, Links


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_link_opens_the_page_once() -> None:
    links = Links()
    token = links.new()
    session = links.enter(token)
    assert session is not None
    assert session != token
    assert links.knows(session)
    assert links.enter(token) is None
    assert links.knows(session), "a used link does not close what it opened"


def test_a_link_is_good_for_ten_minutes_and_a_session_for_ever() -> None:
    clock = Clock()
    links = Links(clock)
    late, early = links.new(), links.new()
    clock.now += LINK_S
    session = links.enter(early)
    assert session is not None
    clock.now += 0.1
    assert links.enter(late) is None
    clock.now += 1e6
    assert links.knows(session)


@pytest.mark.parametrize("guess", ["", "x", "ä" * 43, "\udcff", "a" * 10_000])
def test_what_was_never_given_opens_nothing(guess: str) -> None:
    links = Links()
    links.new()
    assert links.enter(guess) is None
    assert not links.knows(guess)


def test_a_link_is_no_session_and_a_session_no_link() -> None:
    links = Links()
    token = links.new()
    assert not links.knows(token)
    session = links.enter(token)
    assert session is not None
    assert links.enter(session) is None


def test_links_and_sessions_are_bounded_and_the_oldest_goes() -> None:
    links = Links()
    tokens = [links.new() for _ in range(LINKS + 1)]
    assert links.enter(tokens[0]) is None
    sessions = [links.enter(links.new()) for _ in range(SESSIONS + 1)]
    assert [links.knows(str(session)) for session in sessions] == [False] + SESSIONS * [True]


def test_no_two_links_are_equal_and_none_can_be_guessed() -> None:
    links = Links()
    tokens = {links.new() for _ in range(200)}
    assert len(tokens) == 200
    assert min(map(len, tokens)) >= 43
