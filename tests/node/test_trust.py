"""Whole nodes among members that lie: what is refused, who is suspended, convicted, denied."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from p2pfl.core.compression import encode
from p2pfl.core.events import Exchanged, Fault
from p2pfl.core.membership import Ask
from p2pfl.core.messages import (
    Ack,
    Adopt,
    Adopted,
    Body,
    Busy,
    Cancelled,
    Denial,
    Exchange,
    Flow,
    Model,
    Packet,
    Probe,
    Pull,
    Reason,
    Refused,
    Resolve,
    Statement,
    Swap,
)
from p2pfl.core.statements import denial_bytes, new_digest, statement_bytes
from p2pfl.errors import ConfigError
from p2pfl.node import Node
from p2pfl.ports import Answered, Saved
from p2pfl.sim.notary import SimNotary
from tests.node.swarm import Quadratic, Swarm

SIZE = 100
ROBUST = {"trust": "byzantine"}
SECRET = b"the world's"
LIAR = "f" * 8


def target(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=SIZE).astype(np.float32)


def ask(
    node: Node,
    model: np.ndarray,
    seq: int,
    *,
    sender: str = LIAR,
    incarnation: int = 1,
    age: int | None = None,
    sign: bool = False,
    said: np.ndarray | None = None,
    **changes: Any,
) -> Packet:
    """An exchange of a stranger's making."""
    payload = encode("float32", model.astype(np.float32), np.random.default_rng(0))
    age = node.vitals.state.age if age is None else age
    body = Exchange(seq, age, 5, 5, 0.0, 0.0, 0.5, payload)
    if sign:
        digest = new_digest()
        digest.update((payload.data if said is None else said.astype(np.float32)).data.cast("B"))
        statement = Statement(sender, incarnation, seq, body.age, digest.digest(), b"")
        proof = SimNotary(sender, SECRET).sign(statement_bytes("default", statement))
        body = replace(body, digest=digest.digest(), proof=proof)
    body = replace(body, **changes)
    layout = node.vitals.layout.digest
    return Packet("default", layout, sender, "10.9.9.9:1", incarnation, body)


def replaced(packet: Packet, **changes: Any) -> Packet:
    """The same question, changed after it was signed."""
    assert isinstance(packet.body, Exchange)
    return replace(packet, body=replace(packet.body, **changes))


def told(node: Node, packet: Packet) -> Any:
    """What a node answers."""
    service = node._answering
    refused = service.admit(packet)
    if refused is not None:
        return refused.body
    reply = service.handle(packet)
    assert isinstance(reply, Answered)
    for _ in reply.work:
        pass
    return reply.packet.body


def nearby(node: Node, distance: float = 0.01, seed: int = 3) -> np.ndarray:
    way = np.random.default_rng(seed).normal(size=SIZE)
    return node.vitals.state.x + distance * way / np.linalg.norm(way)


@dataclass
class List:
    """A deny list in memory."""

    new: list[Denial] = field(default_factory=list)

    def fresh(self) -> tuple[Denial, ...]:
        new, self.new = self.new, []
        return tuple(new)

    def keep(self, denial: Denial) -> None:
        pass


def test_robust_members_with_the_same_goal_reach_it() -> None:
    swarm, goal = Swarm(), target()

    async def script() -> None:
        for name in ("a1", "b2", "c3", "d4", "e5"):
            swarm.start(name, Quadratic(goal, 0.02), **ROBUST)
        await asyncio.sleep(30)
        assert np.allclose(swarm.vectors(), goal, atol=0.01)
        for node in swarm.nodes.values():
            assert node.vitals.tally.asked["flow"] > 10
            assert not node.vitals.reputation.suspended(30.0)

    swarm.play(script)


def test_a_robust_newcomer_takes_the_median_of_several_models() -> None:
    swarm, goal = Swarm(), target()

    async def script() -> None:
        for name in ("a1", "b2", "c3", "d4", "e5"):
            swarm.start(name, Quadratic(goal, 0.02), **ROBUST)
        await asyncio.sleep(30)
        late = swarm.start("f6", Quadratic(goal * 0, 0.0), **ROBUST)
        await asyncio.sleep(4)
        assert np.allclose(late.vitals.state.x, goal, atol=0.02)
        rescued = [e for e in swarm.memories["f6"].of(Fault) if e.kind == "rescued"]
        assert [event.detail for event in rescued] == ["newcomer: 5 models"]

    swarm.play(script)


@pytest.mark.parametrize("rule", ["median", "clipped-gossip"])
def test_members_that_swap_models_judge_them_together(rule: str) -> None:
    swarm, goal = Swarm(), target()

    async def script() -> None:
        for name in ("a1", "b2", "c3", "d4", "e5", "f6"):
            swarm.start(
                name, Quadratic(goal, 0.02), trust="byzantine", robust={"rule": rule, "models": 4}
            )
        await asyncio.sleep(30)
        assert np.allclose(swarm.vectors(), goal, atol=0.01)
        asked = sum(node.vitals.tally.asked["swap"] for node in swarm.nodes.values())
        assert asked > 50
        assert all(node.vitals.state.mixes > 10 for node in swarm.nodes.values())

    swarm.play(script)


def test_flows_beyond_the_agreed_clip_suspend_who_answers_them() -> None:
    swarm, goal = Swarm(), target()

    async def script() -> None:
        node = swarm.start("a1", Quadratic(goal, 0.02), **ROBUST)
        other = swarm.start("b2", Quadratic(goal, 0.02), **ROBUST)
        await asyncio.sleep(2)
        handle = other._answering.handle

        def lying(packet: Packet) -> Any:
            reply = handle(packet)
            if isinstance(reply, Answered) and isinstance(reply.packet.body, Flow):
                for _ in reply.work:
                    pass
                reply.packet.body.payload.data.view("<f4")[:] = 9.0
                return Answered(reply.packet)
            return reply

        other._answering.handle = lying  # type: ignore[method-assign]
        await asyncio.sleep(30)  # who has faults is asked more rarely
        assert node.vitals.id not in other.vitals.reputation.suspended(0.0)
        suspended = node._answering.status()["suspended"]
        assert set(suspended) == {other.vitals.id}
        assert Reason.CLIP in suspended[other.vitals.id]
        events = [e for e in swarm.memories["a1"].of(Fault) if e.kind == "suspended"]
        assert [event.peer for event in events] == [other.vitals.id]
        before = dict(node.vitals.tally.asked)
        await asyncio.sleep(3)
        assert dict(node.vitals.tally.asked) == before
        refused = told(node, ask(node, goal, 9, sender=other.vitals.id))
        assert isinstance(refused, Refused)
        assert refused.reason is Reason.SUSPENDED
        probe = Packet(
            "default", node.vitals.layout.digest, other.vitals.id, "10.0.0.2:1", 1, Probe()
        )
        assert isinstance(told(node, probe), Ack)
        assert np.linalg.norm(node.vitals.state.x - goal) < 1

    swarm.play(script)


def test_an_exchange_must_be_signed_by_its_sender_where_members_sign() -> None:
    swarm, goal = Swarm(), target()

    async def script() -> None:
        node = swarm.start("a1", Quadratic(goal, 0.02), notary=True)
        await asyncio.sleep(2)
        model = nearby(node)
        assert isinstance(told(node, ask(node, model, 0, sign=True)), Flow)
        for number, wrong in enumerate(
            [
                ask(node, model, 1),
                ask(node, model, 2, sign=True, proof=b"x" * 96),
                replaced(ask(node, model, 3, sign=True), age=7),
                replace(ask(node, model, 4, sign=True), sender="e" * 8),
                replace(ask(node, model, 5, sign=True), incarnation=2),
            ]
        ):
            refused = told(node, wrong)
            assert isinstance(refused, Refused), number
            assert refused.reason in (Reason.PROOF, Reason.SUSPENDED), number

    swarm.play(script)


def test_a_digest_of_another_model_is_found_out() -> None:
    swarm, goal = Swarm(), target()

    async def script() -> None:
        node = swarm.start("a1", Quadratic(goal, 0.02), notary=True)
        await asyncio.sleep(2)
        for seq in range(2):
            told(node, ask(node, nearby(node), seq, sign=True, said=np.ones(SIZE)))
        assert node._answering.status()["suspended"] == {LIAR: {Reason.PROOF: 2}}

    swarm.play(script)


def test_a_member_that_signs_two_models_for_one_seq_is_convicted_by_whoever_hears_both() -> None:
    swarm, goal = Swarm(), target()

    async def script() -> None:
        nodes = [swarm.start(name, Quadratic(goal, 0.02), notary=True) for name in ("a1", "b2")]
        await asyncio.sleep(2)
        for number, node in enumerate(nodes):
            body = told(node, ask(node, nearby(node, seed=number), 77, sign=True))
            assert isinstance(body, Flow | Busy)
        await asyncio.sleep(5)
        assert len(swarm.evidence) >= 1
        proof = swarm.evidence[0]
        assert proof.first.node == proof.second.node == LIAR
        assert proof.first.seq == proof.second.seq == 77
        assert proof.first.digest != proof.second.digest
        convicted = [n for n in nodes if n.vitals.reputation.is_suspended(LIAR, 1e9)]
        assert convicted

    swarm.play(script)


def test_honest_members_that_sign_are_never_convicted() -> None:
    swarm, goal = Swarm(loss_probability=0.2, duplicate_probability=0.2), target()

    async def script() -> None:
        for name in ("a1", "b2", "c3", "d4"):
            swarm.start(name, Quadratic(goal, 0.02), notary=True)
        await asyncio.sleep(30)
        assert swarm.evidence == []
        for node in swarm.nodes.values():
            assert node._answering.status()["suspended"] == {}
            assert len(node.vitals.witness) > 20

    swarm.play(script)


def test_a_signed_denial_spreads_and_cuts_the_denied_off() -> None:
    swarm, goal, lists = Swarm(), target(), List()

    async def script() -> None:
        for name in ("a1", "b2", "c3", "d4"):
            swarm.start(
                name,
                Quadratic(goal, 0.02),
                notary=True,
                deny_list=lists if name == "a1" else None,
            )
        await asyncio.sleep(5)
        bad = swarm.nodes["d4"].vitals.id
        denial = Denial(bad, 1_700_000_000, b"")
        seal = SimNotary("x" * 8, SECRET)._seal("admission", denial_bytes(denial))
        lists.new.append(replace(denial, proof=seal))
        await asyncio.sleep(3)
        honest = [swarm.nodes[name] for name in ("a1", "b2", "c3")]
        for node in honest:
            assert bad not in node.vitals.members.live()
            assert node._answering.status()["denied"] == [bad]
            body = told(node, ask(node, goal, 9, sender=bad))
            assert isinstance(body, Refused)
            assert body.reason is Reason.DENIED
        mixed = [
            event
            for name in ("a1", "b2", "c3")
            for event in swarm.memories[name].of(Exchanged)
            if event.peer == bad and event.outcome == "flow"
        ]
        await asyncio.sleep(5)
        assert max(event.at for event in mixed) < 7

    swarm.play(script)


def test_a_denial_that_is_not_signed_binds_nobody_else() -> None:
    swarm, goal, lists = Swarm(), target(), List()

    async def script() -> None:
        for name in ("a1", "b2", "c3"):
            swarm.start(
                name,
                Quadratic(goal, 0.02),
                notary=True,
                deny_list=lists if name == "a1" else None,
            )
        await asyncio.sleep(3)
        denied = swarm.nodes["c3"].vitals.id
        lists.new.append(Denial(denied, 0, b""))
        await asyncio.sleep(5)
        assert denied not in swarm.nodes["a1"].vitals.members.live()
        b2 = swarm.nodes["b2"]
        assert denied in b2.vitals.members.live()
        forged = replace(
            ask(b2, nearby(b2), 1, sign=True), denials=(Denial("ab" * 4, 0, b"z" * 64),)
        )
        told(b2, forged)
        assert b2._answering.status()["denied"] == []

    swarm.play(script)


def test_one_peer_cannot_fill_the_room_for_arriving_models() -> None:
    swarm, goal = Swarm(), target()

    async def script() -> None:
        node = swarm.start("a1", Quadratic(goal, 0.02))
        await asyncio.sleep(1)
        service, inbox = node._answering, node.vitals.state.inbox
        half = inbox.limit // 2
        with service.room(half, LIAR):
            refused = told(node, ask(node, nearby(node), 0))
            assert isinstance(refused, Busy)
            body = told(node, ask(node, nearby(node), 0, sender="e" * 8))
            assert isinstance(body, Flow)
        assert isinstance(told(node, ask(node, nearby(node), 1)), Flow)
        assert not service._arriving

    swarm.play(script)


def test_the_suspended_get_no_model() -> None:
    swarm, goal = Swarm(), target()

    async def script() -> None:
        node = swarm.start("a1", Quadratic(goal, 0.02))
        await asyncio.sleep(2)
        for _ in range(3):
            node.vitals.accuse(LIAR, Reason.SHAPE)
        pull = replace(ask(node, goal, 0), body=Pull())
        body = told(node, pull)
        assert isinstance(body, Refused)
        assert body.reason is Reason.SUSPENDED

    swarm.play(script)


def test_a_rule_with_too_few_models_is_refused_before_anything_runs() -> None:
    async def script() -> None:
        with pytest.raises(ConfigError, match="krum with 1 of 3 others hostile needs at least 5"):
            Swarm().start(
                "a1", Quadratic(target()), trust="byzantine", robust={"rule": "krum", "models": 4}
            )

    Swarm().play(script)


# --- who is charged for what --------------------------------------------------------------------


def points(node: Node, peer: str, reason: str) -> int:
    """How often a fault was counted against a peer."""
    return node.vitals.tally.by_peer.get(peer, {}).get(reason, 0)


def says(node: Node, kind: type[Body], answer: Body) -> None:
    """From now on a node does what it should at such questions, and says something else."""
    handle = node._answering.handle

    def lying(packet: Packet) -> Any:
        reply = handle(packet)
        if isinstance(packet.body, kind) and isinstance(reply, Answered):
            for _ in reply.work:
                pass
            return Answered(replace(reply.packet, body=answer))
        return reply

    node._answering.handle = lying  # type: ignore[method-assign]


def payload(value: float = 1.0) -> Any:
    return encode("float32", np.full(SIZE, value, np.float32), np.random.default_rng(0))


@pytest.mark.parametrize("trust", ["cooperative", "byzantine"])
@pytest.mark.parametrize(
    "answer",
    [Ack(1, 1), Model(1, None), Model(1, payload()), Probe(), Pull(), Resolve(1)],
    ids=lambda body: type(body).__name__,
)
def test_what_is_no_answer_to_an_exchange_is_charged_and_left_to_resolve(
    trust: str, answer: Body
) -> None:
    swarm, goal = Swarm(), target()

    async def script() -> None:
        models = [goal, goal + np.float32(0.01)]
        for name, model in zip(("a1", "b2"), models, strict=True):
            saved = Saved(model.copy(), None, None, 1000, 1000, 10)
            swarm.start(
                name, Quadratic(model, 0.0), saved=saved, trust=trust, train={"momentum": 0.0}
            )
        asker, liar = swarm.nodes["a1"], swarm.nodes["b2"]
        truth = liar._answering.handle
        says(liar, Exchange, answer)
        await asyncio.sleep(1.5)
        assert points(asker, liar.vitals.id, Reason.MALFORMED) > 0
        assert asker.vitals.tally.asked["malformed"] > 0
        assert not asker.vitals.state.outbox.in_flight
        liar._answering.handle = truth  # type: ignore[method-assign]
        await asyncio.sleep(15)
        # it had mixed all the same; RESOLVE brings the other half
        assert asker.vitals.tally.asked["flow"] > 0
        for name in ("a1", "b2"):
            await swarm.stop(name)
        assert len(asker.vitals.state.outbox) == 0
        mean = np.mean(models, axis=0)
        assert np.allclose(swarm.vectors().mean(axis=0), mean, atol=1e-5)

    swarm.play(script)


@pytest.mark.parametrize("trust", ["cooperative", "byzantine"])
@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        (Resolve, Model(1, payload())),
        (Resolve, Swap(0, 1000, 5, payload())),
        (Resolve, Adopt(0, 1000, payload())),
        (Resolve, Ack(1, 1)),
        (Pull, Flow(0, 1000, 0.5, 0.0, payload())),
        (Pull, Adopt(0, 1000, payload())),
        (Pull, Busy(0.1)),
        (Probe, Model(1, payload())),
        (Probe, Cancelled(0)),
    ],
    ids=lambda word: word.__name__ if isinstance(word, type) else type(word).__name__,
)
def test_what_no_honest_peer_answers_is_charged_to_who_answers_it(
    kind: type[Body], answer: Body, trust: str
) -> None:
    swarm, goal = Swarm(), target()

    async def script() -> None:
        for name in ("a1", "b2"):
            swarm.start(name, Quadratic(goal, 0.0), trust=trust)
        await asyncio.sleep(2)
        asker, liar = swarm.nodes["a1"], swarm.nodes["b2"]
        before, bad, home = asker.vitals.state.x.copy(), liar.vitals.id, "10.0.0.2:1"
        says(liar, kind, answer)
        asked = kind() if kind is not Resolve else Resolve(0)
        packet = asker.vitals.packet(asked, to=bad)
        reached = await asker.asking._requests.send(home, packet, 1.0, expected=bad)
        assert reached.packet is None
        assert reached.outcome == "malformed"
        assert reached.detail == f"{kind.__name__} is answered with {type(answer).__name__}"
        assert points(asker, bad, Reason.MALFORMED) == 1
        assert asker.vitals.reputation.points(bad, asker.vitals.clock()) > 0
        assert np.array_equal(asker.vitals.state.x, before)

    swarm.play(script)


def test_whoever_brings_a_strange_answer_of_another_is_not_charged_and_neither_is_the_other() -> (
    None
):
    swarm, goal = Swarm(), target()

    async def script() -> None:
        for name in ("a1", "b2", "c3"):
            swarm.start(name, Quadratic(goal, 0.0), notary=True)
        await asyncio.sleep(2)
        asker, relay, strange = (swarm.nodes[name] for name in ("a1", "b2", "c3"))
        false = Statement(relay.vitals.id, 1, 10**6, 1, b"d" * 32, b"p" * 96)
        says(strange, Probe, Cancelled(0))
        handle = strange._answering.handle

        def lying(packet: Packet) -> Any:
            reply = handle(packet)
            if isinstance(packet.body, Probe) and isinstance(reply, Answered):
                return Answered(replace(reply.packet, statements=(false, false)))
            return reply

        strange._answering.handle = lying  # type: ignore[method-assign]
        way = Ask(strange.vitals.id, ("10.0.0.3:1",), 1.0)
        before = dict(asker.vitals.tally.by_peer)
        await asker._meeting._probe_through(relay.vitals.id, "10.0.0.2:1", way)
        assert asker.vitals.tally.by_peer == before
        assert not asker.vitals.reputation

    swarm.play(script)


@pytest.mark.parametrize("is_honest", [False, True], ids=["lie", "truth"])
@pytest.mark.parametrize(
    ("trust", "age", "far", "kind"),
    [
        ("cooperative", 1, False, Adopt),
        ("cooperative", 10**6, False, Adopted),
        ("byzantine", None, True, Refused),
        ("byzantine", 0, False, Busy),
        ("byzantine", None, False, Flow),
        ("cooperative", None, False, Flow),
    ],
)
def test_a_false_digest_is_charged_whatever_the_answer_is(
    trust: str, age: int | None, far: bool, kind: type[Body], is_honest: bool
) -> None:
    swarm, goal = Swarm(), target()

    async def script() -> None:
        node = swarm.start("a1", Quadratic(goal, 0.02), notary=True, trust=trust)
        await asyncio.sleep(2)
        model = nearby(node) if not far else 50 * goal
        said = model if is_honest else np.ones(SIZE)
        packet = ask(node, model, 4, sign=True, said=said, age=age)
        assert isinstance(told(node, packet), kind)
        assert points(node, LIAR, Reason.PROOF) == (not is_honest)
        if kind in (Adopt, Busy):
            again = ask(node, model, 4, sign=True, said=said, age=age)
            assert isinstance(told(node, again), Cancelled)
            assert points(node, LIAR, Reason.PROOF) == 2 * (not is_honest)

    swarm.play(script)


def test_an_offer_to_adopt_is_whole_though_the_question_is_read_first() -> None:
    swarm, goal = Swarm(), target()

    async def script() -> None:
        node = swarm.start("a1", Quadratic(goal, 0.02), notary=True)
        await asyncio.sleep(2)
        offer = told(node, ask(node, nearby(node), 4, sign=True, age=1))
        assert isinstance(offer, Adopt)
        assert np.array_equal(offer.payload.values(), node.vitals.state.x)

    swarm.play(script)


def test_a_statement_with_a_false_signature_is_charged_to_who_passed_it_on() -> None:
    swarm, goal = Swarm(), target()

    async def script() -> None:
        for name in ("a1", "b2"):
            swarm.start(name, Quadratic(goal, 0.0), notary=True)
        await asyncio.sleep(2)
        node, friend = swarm.nodes["a1"], swarm.nodes["b2"].vitals.id
        heard = next(iter(node.vitals.witness._heard[friend].values()))
        unmet = replace(heard, node="c" * 8)
        for number, (statement, faults) in enumerate(
            [(heard, 0), (unmet, 0), (replace(heard, proof=b"x" * 96), 1)]
        ):
            packet = ask(node, nearby(node), number, sign=True)
            told(node, replace(packet, statements=(statement,)))
            assert points(node, LIAR, Reason.PROOF) == faults
            assert points(node, friend, Reason.PROOF) == 0
        reputation, now = node.vitals.reputation, node.vitals.clock()
        assert reputation.points(LIAR, now) > 0
        assert reputation.points(friend, now) == 0

    swarm.play(script)


def test_a_denial_that_nobody_signed_is_charged_to_who_passed_it_on() -> None:
    swarm, goal = Swarm(), target()

    async def script() -> None:
        node = swarm.start("a1", Quadratic(goal, 0.0), notary=True)
        await asyncio.sleep(1)
        denial = Denial("ab" * 4, 0, b"")
        seal = SimNotary("x" * 8, SECRET)._seal("admission", denial_bytes(denial))
        for number, (proof, faults) in enumerate([(b"z" * 64, 1), (seal, 1), (b"z" * 64, 1)]):
            packet = ask(node, nearby(node), number, sign=True)
            told(node, replace(packet, denials=(replace(denial, proof=proof),)))
            assert points(node, LIAR, Reason.PROOF) == faults
        assert node._answering.status()["denied"] == ["ab" * 4]

    swarm.play(script)


def test_an_exchange_about_which_the_witness_has_forgotten_is_refused_and_not_charged() -> None:
    swarm, goal = Swarm(), target()

    async def script() -> None:
        node = swarm.start("a1", Quadratic(goal, 0.02), notary=True)
        await asyncio.sleep(2)
        for seq in range(7, 50):
            told(node, ask(node, nearby(node), seq, sign=True))
        refused = told(node, ask(node, nearby(node, seed=9), 7, sign=True))
        assert isinstance(refused, Refused)
        assert refused.reason is Reason.STALE_SEQ
        assert told(node, replace(ask(node, goal, 3), body=Resolve(3))) == Cancelled(3)
        assert not node.vitals.reputation
        assert not swarm.evidence
        assert told(node, ask(node, nearby(node, seed=9), 49, sign=True)) is not None
        await asyncio.sleep(1)
        assert [proof.first.seq for proof in swarm.evidence] == [49]

    swarm.play(script)


def test_a_key_that_only_convicts_itself_is_suspended_and_costs_no_disk() -> None:
    swarm, goal = Swarm(), target()

    async def script() -> None:
        node = swarm.start("a1", Quadratic(goal, 0.02), notary=True)
        await asyncio.sleep(2)
        for seed in range(2):
            # the connection breaks off before the payload is there
            node._answering.admit(ask(node, nearby(node, seed=seed), 7, sign=True))
        await asyncio.sleep(1)
        assert node.vitals.reputation.is_suspended(LIAR, 1e9)
        assert not swarm.evidence

    swarm.play(script)
