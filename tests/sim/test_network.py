"""The network in memory: what arrives, when, how often, and what the asker is told."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from p2pfl.core import wire
from p2pfl.core.compression import CODECS, Bytes, encode
from p2pfl.core.messages import (
    Ack,
    Exchange,
    Flow,
    Packet,
    Probe,
    Reason,
    Refused,
    Rumour,
    Status,
)
from p2pfl.errors import PeerTimeout, PeerUnreachable, WireError
from p2pfl.ports import Answered, Forward, Reply, Sighting
from p2pfl.sim.faults import Conditions
from p2pfl.sim.loop import Host, VirtualLoop, run
from p2pfl.sim.network import FORWARD_S, LATE_LATENCIES, Network
from p2pfl.sim.transport import MemoryTransport

A, B, C = "10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"
SIZE = 100


def packet(body: Any, sender: str = "aaaaaaaa", **fields: Any) -> Packet:
    return Packet("run", "0123456789abcdef", sender, A, 1, body, **fields)


def question(size: int = SIZE, codec: str = "float32", seq: int = 0) -> Exchange:
    payload = encode(codec, np.arange(size, dtype=np.float32), np.random.default_rng(0))
    return Exchange(seq, 10, 10, 1, 0.0, 0.0, 0.5, payload)


@dataclass
class Service:
    """Answers everything, and notes what it heard and when."""

    node: str = "bbbbbbbb"
    refuses: Packet | None = None
    forwards_to: str | None = None
    heard: list[tuple[float, Packet]] = field(default_factory=list)
    faults: list[Exception] = field(default_factory=list)
    worked: int = 0

    def admit(self, packet: Packet) -> Packet | None:
        return self.refuses

    @contextmanager
    def room(self, nbytes: int) -> Iterator[Bytes]:
        yield np.empty(nbytes, np.uint8)

    def handle(self, asked: Packet) -> Reply:
        self.heard.append((now(), asked))
        if self.forwards_to is not None:
            return Forward(self.forwards_to, packet(Probe(), self.node))
        if isinstance(asked.body, Exchange):
            flow = Flow(asked.body.seq, 10, 0.5, 0.0, asked.body.payload)
            return Answered(packet(flow, self.node), self._work())
        return Answered(packet(Ack(1, 2), self.node))

    def _work(self) -> Iterator[None]:
        self.worked += 1
        yield

    needs_whole = False

    def faulty(self, address: str, error: Exception, sender: str = "") -> None:
        self.faults.append(error)

    def status(self) -> dict[str, Any]:
        return {}

    @property
    def times(self) -> list[float]:
        return [at for at, _ in self.heard]


def now() -> float:
    return asyncio.get_running_loop().time()


Script = Callable[["Net"], Coroutine[Any, Any, Any]]


class Net:
    """Hosts at A, B and C; B and C answer."""

    def __init__(self, **conditions: Any) -> None:
        self.network = Network(np.random.default_rng(1), Conditions(**conditions))
        self.hosts = {address: Host(address) for address in (A, B, C)}
        self.services = {B: Service(), C: Service("cccccccc")}
        self.transports = {a: self.network.host(a, host) for a, host in self.hosts.items()}

    def __getitem__(self, address: str) -> MemoryTransport:
        return self.transports[address]

    @property
    def b(self) -> Service:
        return self.services[B]

    def play(self, script: Script) -> Any:
        async def main() -> Any:
            async with self[B].serve(self.services[B]), self[C].serve(self.services[C]):
                return await script(self)

        return run(main())

    async def ask(self, body: Any = None, to: str = B, patience_s: float = 10.0) -> Packet:
        async with asyncio.timeout(patience_s):
            return await self[A].request(to, packet(Probe() if body is None else body))

    async def took(self, *args: Any, **options: Any) -> float:
        began = now()
        await self.ask(*args, **options)
        return now() - began

    async def lost(self, *args: Any) -> bool:
        try:
            await self.ask(*args)
        except TimeoutError:
            return True
        return False

    async def many(self, count: int, patience_s: float = 10.0) -> list[Any]:
        """So many at once; answers, or None."""

        async def one(number: int) -> Any:
            try:
                return await self.ask(question(4, seq=number), patience_s=patience_s)
            except TimeoutError:
                return None

        return list(await asyncio.gather(*(one(number) for number in range(count))))


# --- latency and loss ---------------------------------------------------------------------------


def test_a_question_takes_one_latency_and_its_answer_another() -> None:
    async def script(net: Net) -> None:
        assert await net.took() == pytest.approx(0.02)
        assert net.b.times == [pytest.approx(0.01)]

    Net(latency_s=0.01).play(script)


def test_a_hosts_own_latency_counts_and_of_two_the_larger() -> None:
    async def script(net: Net) -> None:
        net[B].latency_s = 0.1
        assert await net.took() == pytest.approx(0.2)
        net[A].latency_s = 0.3
        assert await net.took() == pytest.approx(0.6)
        net[A].latency_s = 0.001
        assert await net.took(to=C) == pytest.approx(0.002), "a fast host is faster than the rest"

    Net(latency_s=0.01).play(script)


def test_latency_is_lognormal_about_its_median() -> None:
    net = Net(latency_s=0.01, latency_sigma=0.5, fifo=False)

    async def script(net: Net) -> list[float]:
        await net.many(1000)
        return net.b.times

    logs = np.log(net.play(script))
    assert np.exp(np.median(logs)) == pytest.approx(0.01, rel=0.05)
    assert logs.std() == pytest.approx(0.5, rel=0.08)


def test_what_is_lost_is_lost_silently_there_and_back() -> None:
    net = Net(loss_probability=0.3)

    async def script(net: Net) -> None:
        answers = await net.many(1000)
        arrived = len(net.b.heard)
        assert arrived == pytest.approx(700, abs=45)
        assert sum(a is not None for a in answers) == pytest.approx(490, abs=50)

    net.play(script)


def test_a_lossy_host_loses_both_ways_and_the_others_nothing() -> None:
    async def script(net: Net) -> None:
        net[B].loss_probability = 0.999999
        assert await net.lost()
        assert net.b.heard == []
        assert not await net.lost(None, C)

    Net().play(script)


# --- order --------------------------------------------------------------------------------------


def seqs(net: Net) -> list[int]:
    return [asked.body.seq for _, asked in net.b.heard]


async def _many(net: Net) -> list[int]:
    await net.many(200)
    return seqs(net)


def test_messages_between_two_hosts_do_not_overtake_each_other() -> None:
    assert Net(latency_sigma=1.0).play(_many) == list(range(200))


def test_without_fifo_they_do() -> None:
    found = Net(latency_sigma=1.0, fifo=False).play(_many)
    assert sorted(found) == list(range(200))
    assert found != sorted(found)


def test_a_reordered_message_is_late_by_up_to_ten_latencies_and_overtaken() -> None:
    net = Net(latency_s=0.01, reorder_probability=0.2)

    async def script(net: Net) -> None:
        found = await _many(net)
        assert sorted(found) == list(range(200))
        late = [at for at in net.b.times if at > 0.01 + 1e-9]
        assert 15 < len(late) < 70
        assert max(late) <= 0.01 * (1 + LATE_LATENCIES)
        in_time = [seq for seq, at in zip(found, net.b.times, strict=True) if at <= 0.01 + 1e-9]
        assert in_time == sorted(in_time), "the others keep their order"

    net.play(script)


# --- twice, and otherwise -----------------------------------------------------------------------


def test_a_duplicated_request_is_answered_twice_and_the_asker_hears_one_answer() -> None:
    net = Net(duplicate_probability=0.5)

    async def script(net: Net) -> None:
        answers = await net.many(200)
        assert all(isinstance(answer.body, Flow) for answer in answers)
        times = Counter(seqs(net))
        assert set(times) == set(range(200))
        assert set(times.values()) == {1, 2}
        assert sum(times.values()) == pytest.approx(300, abs=35)
        assert net.b.worked == len(net.b.heard)

    net.play(script)


def test_a_flipped_byte_is_noticed_and_counted_or_changes_what_was_said() -> None:
    net = Net(corrupt_probability=0.5)

    async def script(net: Net) -> None:
        ends: Counter[str] = Counter()
        for number in range(600):
            try:
                answer = await net.ask(question(8, seq=number))
                ends[type(answer.body).__name__] += 1
            except (PeerTimeout, WireError) as error:
                ends[type(error).__name__] += 1
        assert net.b.faults
        assert all(isinstance(error, WireError) for error in net.b.faults)
        assert ends["PeerTimeout"] == len(net.b.faults), "a broken question breaks the connection"
        assert ends["WireError"] > 0, "a broken answer is the asker's to find out"
        asked = [asked.body.payload.values() for _, asked in net.b.heard if len(asked.rumours) == 0]
        told = np.arange(8, dtype=np.float32)
        assert any(not np.array_equal(values, told) for values in asked), "some bits lie unnoticed"

    net.play(script)


def test_the_answerer_may_write_over_the_question_and_the_asker_keeps_its_own() -> None:
    async def script(net: Net) -> None:
        mine = question()
        answer = await net.ask(mine)
        answer.body.payload.data[:] = 0  # type: ignore[union-attr]
        assert np.array_equal(mine.payload.values(), np.arange(SIZE, dtype=np.float32))

    Net().play(script)


def test_one_message_in_a_hundred_really_goes_through_the_wire() -> None:
    async def script(net: Net) -> None:
        net.b.node = "no hex digits"  # the wire would not take it
        for number in range(120):
            await net.ask()
            net.network.messages += number % 3

    with pytest.raises(WireError, match="sender is 'no hex digits'"):
        Net().play(script)


# --- sizes --------------------------------------------------------------------------------------


RUMOURS = (Rumour("cccccccc", (C,), Status.SUSPECT, 3, 1, 7),)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("size", [1, 256, 1000])
def test_traffic_is_the_wires_bytes_of_the_same_packets(codec: str, size: int) -> None:
    async def script(net: Net) -> None:
        asked = packet(question(size, codec), rumours=RUMOURS, floor=300)
        answer = await net[A].request(B, asked)
        sent, back = len(wire.encode(asked)), len(wire.encode(answer))
        assert (net[A].traffic.bytes_out, net[A].traffic.bytes_in) == (sent, back)
        assert (net[B].traffic.bytes_in, net[B].traffic.bytes_out) == (sent, back)
        assert (net[A].messages, net[B].messages, net.network.messages) == (1, 1, 2)

    Net().play(script)


def test_a_refusal_and_a_probe_weigh_their_headers() -> None:
    async def script(net: Net) -> None:
        net.b.refuses = packet(Refused(Reason.RUN, "other run"), "bbbbbbbb")
        answer = await net.ask(question())
        assert isinstance(answer.body, Refused)
        assert net.b.heard == [], "it was refused before it was read"
        assert net[B].traffic.bytes_out == len(wire.encode(answer))

    Net().play(script)


# --- bandwidth ----------------------------------------------------------------------------------


def test_bandwidth_adds_the_time_of_the_bytes_to_the_latency() -> None:
    async def script(net: Net) -> None:
        net[A].up_bytes_per_s = 1000.0
        nbytes = len(wire.encode(packet(question())))
        assert await net.took(question()) == pytest.approx(nbytes / 1000 + 0.02, abs=1e-8)

    Net(latency_s=0.01).play(script)


def test_two_questions_on_one_uplink_take_twice_as_long_and_two_uplinks_do_not() -> None:
    async def script(net: Net) -> None:
        net[A].up_bytes_per_s = net[C].up_bytes_per_s = 1000.0
        nbytes = len(wire.encode(packet(question())))

        async def from_c() -> float:
            began = now()
            await net[C].request(B, packet(question()))
            return now() - began

        both = await asyncio.gather(net.took(question()), net.took(question()))
        assert both == pytest.approx([2 * nbytes / 1000] * 2, abs=1e-8)
        apart = await asyncio.gather(net.took(question()), from_c())
        assert apart == pytest.approx([nbytes / 1000] * 2, abs=1e-8)

    Net(latency_s=0.0).play(script)


def test_a_slow_reader_is_a_bottleneck_for_everybody_who_writes_to_it() -> None:
    async def script(net: Net) -> None:
        net[B].down_bytes_per_s = 1000.0
        nbytes = len(wire.encode(packet(question())))
        began = now()
        await asyncio.gather(net.ask(question()), net[C].request(B, packet(question())))
        assert now() - began == pytest.approx(2 * nbytes / 1000, abs=1e-8)

    Net(latency_s=0.0).play(script)


# --- who is not there ---------------------------------------------------------------------------


def test_a_closed_port_refuses_after_a_round_trip() -> None:
    async def script(net: Net) -> None:
        began = now()
        with pytest.raises(PeerUnreachable, match="refuses connections"):
            await net[B].request(A, packet(Probe()))
        assert now() - began == pytest.approx(0.02)

    Net(latency_s=0.01).play(script)


def test_nobody_lives_at_an_address_that_was_never_used() -> None:
    async def script(net: Net) -> None:
        with pytest.raises(PeerUnreachable, match="no way"):
            await net.ask(to="10.9.9.9:1")

    Net().play(script)


def test_who_is_killed_while_a_question_is_on_its_way_breaks_the_connection() -> None:
    async def script(net: Net) -> None:
        def kill() -> None:
            net[B].is_unplugged = True

        asyncio.get_running_loop().call_later(0.005, kill)
        with pytest.raises(PeerTimeout, match="broke off"):
            await net.ask()
        assert net.b.heard == []
        with pytest.raises(PeerUnreachable, match="refuses"):
            await net.ask()
        with pytest.raises(PeerUnreachable, match="no way"):
            await net[B].request(C, packet(Probe()))

    Net(latency_s=0.01).play(script)


def test_a_question_to_an_earlier_life_breaks_off_and_the_new_one_is_not_asked() -> None:
    async def script(net: Net) -> None:
        later = Service()

        def restart() -> None:
            net[B].is_unplugged = True
            net.transports[B] = net.network.host(B, net.hosts[B])
            net[B].service = later

        asyncio.get_running_loop().call_later(0.005, restart)
        with pytest.raises(PeerTimeout, match="broke off"):
            await net.ask()
        assert later.heard == []
        await net.ask()
        assert len(later.heard) == 1

    Net(latency_s=0.01).play(script)


def test_what_is_sent_to_a_sleeper_is_lost_and_what_is_sent_to_a_frozen_one_waits() -> None:
    async def script(net: Net) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        net[B].is_asleep = True
        assert await net.lost()
        net[B].is_asleep = False
        loop.pause(net.hosts[B])
        began = now()
        loop.call_later(3.0, loop.resume, net.hosts[B])
        assert await net.took() == pytest.approx(3.01)
        assert net.b.times == [began + 3.0]

    Net(latency_s=0.01).play(script)


def test_a_frozen_asker_hears_the_answer_when_it_goes_on() -> None:
    async def script(net: Net) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)

        async def asks() -> float:
            await net[A].request(B, packet(Probe()))
            return now()

        task = loop.create_task(asks(), context=net.hosts[A].context)
        await asyncio.sleep(0.005)
        loop.pause(net.hosts[A])
        loop.call_later(2.0, loop.resume, net.hosts[A])
        assert await task == pytest.approx(2.005)

    Net(latency_s=0.01).play(script)


# --- ways ---------------------------------------------------------------------------------------


def test_a_partition_cuts_both_ways_until_it_is_repaired() -> None:
    async def script(net: Net) -> None:
        cuts = net.network.ways.part([A], [B])
        assert await net.lost()
        assert not await net.lost(None, C)
        net.network.ways.repair(*cuts)
        assert not await net.lost()

    Net().play(script)


def test_a_one_way_cut_lets_the_question_through_and_keeps_the_answer() -> None:
    async def script(net: Net) -> None:
        net.network.ways.cut([B], [A])
        assert await net.lost()
        assert len(net.b.heard) == 1

    Net().play(script)


def test_held_messages_wait_and_then_all_arrive_in_order() -> None:
    async def script(net: Net) -> None:
        held = net.network.ways.hold([A], [B])
        loop = asyncio.get_running_loop()
        loop.call_later(5.0, net.network.ways.repair, held)
        answers = await net.many(10)
        assert all(answer is not None for answer in answers)
        assert net.b.times == [pytest.approx(5.01)] * 10
        assert seqs(net) == list(range(10))

    Net(latency_s=0.01).play(script)


# --- on another's behalf, and finding each other ------------------------------------------------


def test_a_relay_asks_for_us_and_passes_the_answer_on() -> None:
    async def script(net: Net) -> None:
        net.b.forwards_to = C
        began = now()
        answer = await net.ask(Probe("cccccccc"))
        assert (answer.sender, answer.body) == ("cccccccc", Ack(1, 2))
        assert now() - began == pytest.approx(0.04)

    Net(latency_s=0.01).play(script)


def test_a_relay_whose_target_does_not_answer_in_time_says_so_in_its_place() -> None:
    async def script(net: Net) -> None:
        net.b.forwards_to = C
        net.network.ways.cut([B], [C])
        began = now()
        answer = await net.ask(Probe("cccccccc"))
        assert isinstance(answer.body, Refused)
        assert answer.body.reason is Reason.UNREACHABLE
        assert now() - began == pytest.approx(0.02 + FORWARD_S)

    Net(latency_s=0.01).play(script)


@pytest.mark.parametrize("to", ["10.9.9.9:1", A])
def test_a_relay_that_cannot_reach_its_target_says_so(to: str) -> None:
    async def script(net: Net) -> None:
        net.b.forwards_to = to
        answer = await net.ask(Probe("cccccccc"))
        assert isinstance(answer.body, Refused)
        assert answer.body.reason is Reason.UNREACHABLE

    Net().play(script)


def _seen(sees: int | None, count: int = 10) -> list[list[str]]:
    network = Network(np.random.default_rng(1), Conditions(sees=sees))
    found: list[list[str]] = [[] for _ in range(count)]

    async def watch(place: int) -> None:
        sighting = Sighting((f"10.0.0.{place}:1",), f"{place:08x}")
        async for seen in network.announce(sighting):
            found[place].append(seen.addresses[0])

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            watching = []
            for place in range(count):
                watching.append(tasks.create_task(watch(place)))
                await asyncio.sleep(0.1)
            for task in watching:
                task.cancel()

    run(main())
    return found


def test_everybody_hears_of_everybody_unless_discovery_sees_less() -> None:
    assert [len(seen) for seen in _seen(None)] == [9] * 10
    found = _seen(2)
    assert [len(seen) for seen in found] == [0, 1] + [2] * 8
    assert all(len(set(seen)) == len(seen) for seen in found)


def test_who_stopped_announcing_is_not_told_of_any_more() -> None:
    network = Network(np.random.default_rng(1))

    async def watch(address: str, found: list[str]) -> None:
        async with aclosing(network.announce(Sighting((address,), address[:2]))) as sightings:
            async for seen in sightings:
                found.append(seen.addresses[0])  # noqa: PERF401 (it never ends)

    async def main() -> list[str]:
        found: list[str] = []
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(watch(A, []))
            second = tasks.create_task(watch(B, []))
            await asyncio.sleep(1.0)
            first.cancel()
            await asyncio.sleep(1.0)
            third = tasks.create_task(watch(C, found))
            await asyncio.sleep(1.0)
            second.cancel()
            third.cancel()
        return found

    assert run(main()) == [B]
