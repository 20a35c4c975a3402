"""Work is bounded, overload is refused without waiting, work that overruns is killed, and abandoned work is dropped."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from PIL import Image

from services.api.budget import Budget
from services.api.faults import Overloaded, TimedOut, WorkerDied
from services.api.jobs import Job
from services.api.service import assembly_of
from services.api.settings import Settings
from services.api.workers import Lane, Workers
from shared.analysis import Options
from shared.errors import ModelError, OutOfMemory
from tests.conftest import faulty


@asynccontextmanager
async def pool(
    settings: Settings, fault: str, count: int = 1, queue_size: int = 4, timeout_s: float = 20, memory: int = 10**9
) -> AsyncIterator[Workers]:
    """Workers with a fault, which they have at pictures of 640 pixels."""
    workers = Workers(count, queue_size, timeout_s, Budget(memory), faulty(fault))
    await workers.start(assembly_of(settings))
    try:
        yield workers
    finally:
        await workers.close()


def job(data: bytes) -> Callable[[], Job]:
    return lambda: Job(data, Options())


async def until(condition: Callable[[], bool], within_s: float = 20) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.02)


def test_a_full_queue_is_told_at_once_and_recovers(settings: Settings, jpeg: bytes) -> None:
    async def scenario() -> None:
        async with pool(settings, "is slow", queue_size=1) as workers:
            running = asyncio.ensure_future(workers.run(job(jpeg)))
            waiting = asyncio.ensure_future(workers.run(job(jpeg)))
            await asyncio.sleep(0.05)
            assert (workers.busy, workers.waiting) == (1, 1)
            with pytest.raises(Overloaded, match="1 images are waiting"):
                await workers.run(job(jpeg))
            assert not running.done()
            assert (await running).analysis.faces
            assert (await waiting).analysis.faces
            assert (await workers.run(job(jpeg))).analysis.faces
            assert (workers.busy, workers.waiting) == (0, 0)

    asyncio.run(scenario())


def test_what_was_cancelled_while_it_waited_never_runs(settings: Settings, jpeg: bytes) -> None:
    async def scenario() -> None:
        async with pool(settings, "is slow") as workers:
            asked: list[str] = []

            def never() -> Job:
                asked.append("never")
                return Job(jpeg, Options())

            running = asyncio.ensure_future(workers.run(job(jpeg)))
            await asyncio.sleep(0.05)
            waiting = asyncio.ensure_future(workers.run(never))
            await asyncio.sleep(0.05)
            waiting.cancel()
            await running
            await workers.run(job(jpeg))
            assert asked == []

    asyncio.run(scenario())


def test_work_that_overruns_is_killed_and_its_worker_replaced(settings: Settings, jpeg: bytes, small: bytes) -> None:
    async def scenario() -> None:
        async with pool(settings, "hangs", timeout_s=1) as workers:
            started = time.monotonic()
            with pytest.raises(TimedOut, match="within 1 s"):
                await workers.run(job(jpeg))
            assert time.monotonic() - started < 2
            assert workers.alive == 0
            await until(lambda: workers.alive == 1)
            assert (await workers.run(job(small))).analysis.width == 320
            assert workers.replaced == 1

    asyncio.run(scenario())


def test_work_of_a_client_that_left_is_killed_long_before_the_deadline(settings: Settings, jpeg: bytes) -> None:
    async def scenario() -> None:
        async with pool(settings, "hangs", timeout_s=60) as workers:
            left = asyncio.ensure_future(workers.run(job(jpeg)))
            await asyncio.sleep(0.2)
            left.cancel()
            await until(lambda: workers.replaced == 1, within_s=5)
            await until(lambda: workers.alive == 1)

    asyncio.run(scenario())


def test_a_worker_that_ends_at_an_image_is_an_error_of_that_image_only(
    settings: Settings, jpeg: bytes, small: bytes
) -> None:
    async def scenario() -> None:
        async with pool(settings, "dies", count=2) as workers:
            with pytest.raises(WorkerDied):
                await workers.run(job(jpeg))
            assert (await workers.run(job(small))).analysis.width == 320
            await until(lambda: workers.alive == 2)

    asyncio.run(scenario())


def test_running_out_of_memory_is_not_the_picture_s_fault(settings: Settings, jpeg: bytes) -> None:
    async def scenario() -> None:
        async with pool(settings, "has no memory") as workers:
            with pytest.raises(OutOfMemory):
                await workers.run(job(jpeg))
            assert workers.replaced == 0

    asyncio.run(scenario())


class Order:
    """The order in which jobs begin on the only worker, which is busy with another one first."""

    def __init__(self, workers: Workers, jpeg: bytes) -> None:
        self.names: list[str] = []
        self._workers, self._jpeg = workers, jpeg
        self._work = [asyncio.ensure_future(workers.run(job(jpeg)))]

    def add(self, kind: str, count: int, lane: Lane, cost: float = 1) -> None:
        for number in range(count):
            self._work.append(asyncio.ensure_future(self._workers.run(self._named(f"{kind} {number}"), lane, cost)))

    def _named(self, name: str) -> Callable[[], Job]:
        return lambda: self.names.append(name) or Job(self._jpeg, Options())  # type: ignore[func-returns-value]

    async def end(self) -> list[str]:
        await asyncio.gather(*self._work)
        return self.names


def test_requests_and_sessions_are_served_in_turn(settings: Settings, jpeg: bytes) -> None:
    async def scenario() -> None:
        async with pool(settings, "is slow", queue_size=9) as workers:
            order = Order(workers, jpeg)
            await asyncio.sleep(0.05)
            order.add("session", 3, Lane.SESSIONS)
            order.add("request", 3, Lane.REQUESTS)
            names = await order.end()
            assert sorted(names[:2]) == ["request 0", "session 0"]
            assert sorted(names[2:4]) == ["request 1", "session 1"]

    asyncio.run(scenario())


def test_small_images_do_not_wait_behind_large_ones_in_one_queue(settings: Settings, jpeg: bytes) -> None:
    async def scenario() -> None:
        async with pool(settings, "is slow", queue_size=9) as workers:
            order = Order(workers, jpeg)
            await asyncio.sleep(0.05)
            order.add("large", 5, Lane.LARGE, cost=20)
            order.add("small", 4, Lane.REQUESTS)
            await asyncio.sleep(0.05)
            with pytest.raises(Overloaded):
                await workers.run(job(jpeg))
            names = await order.end()
            assert sorted(names[:5]) == ["large 0", "small 0", "small 1", "small 2", "small 3"]
            assert names[5:] == ["large 1", "large 2", "large 3", "large 4"]

    asyncio.run(scenario())


def test_a_model_that_is_refused_or_never_loads_leaves_the_workers_that_are_there(
    settings: Settings, small: bytes, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with pool(settings, "is slow") as workers:
            with pytest.raises(ModelError, match="There is no model"):
                await workers.start(assembly_of(settings.model_copy(update={"model": tmp_path})))
            assert (await workers.run(job(small))).analysis.width == 320
        stuck = Workers(1, 1, 1, Budget(1), faulty("never loads"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await stuck.start(assembly_of(settings))
        assert stuck.alive == 0

    asyncio.run(scenario())


@pytest.fixture(scope="module")
def small(scene: Image.Image, encode: Callable[..., bytes]) -> bytes:
    """A picture at which no worker has its fault."""
    return encode(scene.resize((320, 240)), "JPEG")
