"""Statements: what is signed, and what convicts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.core.messages import Denial, Statement
from p2pfl.core.statements import (
    Witness,
    contradict,
    denial_bytes,
    new_digest,
    statement_bytes,
)

SAID = Statement("ab" * 16, 3, 7, 100, b"d" * 32, b"p" * 96)


@pytest.mark.parametrize(
    "change",
    [
        {"node": "cd" * 16},
        {"incarnation": 4},
        {"seq": 8},
        {"age": 101},
        {"digest": b"e" * 32},
    ],
)
def test_every_field_is_signed(change):
    assert statement_bytes("run", SAID) != statement_bytes("run", replace(SAID, **change))


def test_a_statement_is_of_one_run_and_no_denial_can_pass_for_one():
    assert statement_bytes("run", SAID) != statement_bytes("other", SAID)
    assert b"snapshot" in statement_bytes("run", SAID)
    assert b"denial" in denial_bytes(Denial("ab" * 16, 1, b""))


def test_the_proof_is_not_part_of_what_is_signed():
    assert statement_bytes("run", SAID) == statement_bytes("run", replace(SAID, proof=b"q" * 96))


def test_a_digest_is_of_the_bytes_however_they_were_cut():
    whole, pieces = new_digest(), new_digest()
    data = np.arange(1000, dtype=np.uint8)
    whole.update(data.data)
    for at in range(0, 1000, 7):
        pieces.update(data[at : at + 7].data)
    assert whole.digest() == pieces.digest()


def test_two_statements_of_one_seq_that_differ_are_evidence():
    witness, other = Witness(10), replace(SAID, digest=b"e" * 32)
    assert witness.hear(SAID) is None
    evidence = witness.hear(other)
    assert evidence is not None
    assert {evidence.first, evidence.second} == {SAID, other}


def test_the_same_statement_again_is_no_evidence_whatever_its_signature():
    witness = Witness(10)
    for proof in (b"p" * 96, b"q" * 96):
        assert witness.hear(replace(SAID, proof=proof)) is None


@given(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3))
def test_only_one_seq_of_one_life_of_one_node_contradicts_itself(incarnation, seq, age, digest):
    other = Statement(SAID.node, incarnation, seq, age, bytes([digest]) * 32, b"")
    first = Statement(SAID.node, 1, 1, 1, bytes([1]) * 32, b"")
    same = incarnation == seq == 1
    assert contradict(first, other) == (same and (age, digest) != (1, 1))


def test_a_witness_forgets_the_oldest_and_passes_on_what_it_heard_but_not_to_its_author():
    witness = Witness(5, each=5)
    for seq in range(20):
        witness.hear(replace(SAID, seq=seq))
    assert len(witness) == 5
    some = witness.some(50, np.random.default_rng(0), not_of="ff" * 16)
    assert {statement.seq for statement in some} <= set(range(15, 20))
    assert some
    assert witness.some(50, np.random.default_rng(0), not_of=SAID.node) == ()
    assert Witness(5).some(2, np.random.default_rng(0), not_of="") == ()


@given(st.permutations(range(12)))
def test_a_witness_keeps_the_newest_by_number_in_whatever_order_they_come(order):
    witness = Witness(5, each=4)
    for seq in order:
        witness.hear(replace(SAID, seq=seq))
    assert [seq for seq in range(12) if witness.known(replace(SAID, seq=seq))] == [8, 9, 10, 11]
    assert all(witness.has_forgotten(SAID.node, SAID.incarnation, seq) for seq in range(8))
    assert not any(witness.has_forgotten(SAID.node, SAID.incarnation, seq) for seq in range(8, 15))


def test_whoever_goes_on_to_make_us_forget_cannot_say_it_again_in_any_earlier_life():
    witness = Witness(5, each=4)
    witness.hear(SAID)
    for seq in range(4):
        witness.hear(replace(SAID, incarnation=SAID.incarnation + 1, seq=seq))
    for incarnation in range(SAID.incarnation + 1):
        assert witness.has_forgotten(SAID.node, incarnation, SAID.seq)
    assert not witness.has_forgotten(SAID.node, SAID.incarnation + 1, 0)
    assert not witness.has_forgotten("ee" * 16, SAID.incarnation, SAID.seq)
    assert witness.hear(replace(SAID, digest=b"e" * 32)) is None
    assert not witness.known(replace(SAID, digest=b"e" * 32))


def test_earlier_numbers_do_not_flush_later_ones():
    witness = Witness(5, each=4)
    late = replace(SAID, seq=1000)
    witness.hear(late)
    for seq in range(900):
        witness.hear(replace(SAID, seq=seq))
    assert witness.hear(replace(late, digest=b"e" * 32)) is not None


def test_of_a_node_that_is_forgotten_as_a_whole_nothing_stays_behind():
    witness = Witness(2, each=1)
    for number in range(10):
        for seq in range(3):
            witness.hear(Statement(f"{number:032x}", 1, seq, 1, b"d" * 32, b""))
    assert len(witness) == len(witness._forgotten) == 2


def test_nobody_can_talk_others_out_of_a_witness_memory():
    witness = Witness(5, each=5)
    witness.hear(SAID)
    for seq in range(1000):
        witness.hear(Statement("ee" * 16, 1, seq, 1, b"d" * 32, b""))
    assert witness.known(SAID)
    for number in range(1000):
        witness.hear(Statement(f"{number:032x}", 1, 1, 1, b"d" * 32, b""))
    assert len(witness) <= 25
