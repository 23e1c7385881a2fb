from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from p2pfl.edge.worker import Worker
from p2pfl.errors import LearnerError

PATIENCE_S = 20.0


@pytest.fixture
def worker() -> Iterator[Worker]:
    with closing(Worker()) as worker:
        yield worker


async def test_a_function_runs_in_another_thread_and_gives_its_result(worker: Worker) -> None:
    assert await worker(pow, 2, 10) == 1024
    assert await worker(threading.get_ident) != threading.get_ident()


async def test_an_error_is_raised_where_the_result_is_awaited(worker: Worker) -> None:
    def fails() -> None:
        raise LearnerError("loss is nan")

    with pytest.raises(LearnerError, match="loss is nan"):
        await worker(fails)


async def test_the_event_loop_goes_on_meanwhile(worker: Worker) -> None:
    done = threading.Event()
    waiting = worker(done.wait, PATIENCE_S)
    await asyncio.sleep(0)
    done.set()
    assert await waiting is True


async def test_a_checkpoint_is_written_while_a_step_is_trained(worker: Worker) -> None:
    trained, written = threading.Event(), threading.Event()

    def write() -> bool:
        written.set()
        return trained.wait(PATIENCE_S)

    def train() -> bool:
        trained.set()
        return written.wait(PATIENCE_S)

    assert await asyncio.gather(worker(train), worker(write)) == [True, True]


async def test_closed_it_takes_nothing_new_and_drops_what_waits() -> None:
    worker, over = Worker(), threading.Event()
    running = [worker(over.wait, PATIENCE_S) for _ in range(2)]
    waiting = worker(over.wait, PATIENCE_S)
    worker.close()
    over.set()
    assert await asyncio.gather(*running) == [True, True]
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(RuntimeError):
        worker(pow, 2, 2)
