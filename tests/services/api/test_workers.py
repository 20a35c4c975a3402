"""Work is bounded, overload is told at once, and nobody waits for what nobody wants."""

import asyncio
import functools
import gc
import threading
import time
import weakref
from pathlib import Path

import pytest

from services.api.faults import NotReady, Overloaded
from services.api.workers import Workers, available_cpus


def test_a_full_queue_is_told_at_once_and_recovers() -> None:
    async def scenario() -> None:
        workers, gate = Workers(threads=1, queue_size=1), threading.Event()
        running = asyncio.ensure_future(workers.run(gate.wait))
        waiting = asyncio.ensure_future(workers.run(lambda: "second"))
        await asyncio.sleep(0.05)
        started = time.monotonic()
        with pytest.raises(Overloaded):
            await workers.run(lambda: "third")
        assert time.monotonic() - started < 1
        gate.set()
        assert await running
        assert await waiting == "second"
        assert await workers.run(lambda: "fourth") == "fourth"
        assert workers.admitted == 0
        workers.close()

    asyncio.run(scenario())


def test_what_was_cancelled_while_it_waited_never_runs() -> None:
    async def scenario() -> None:
        workers, gate, ran = Workers(threads=1, queue_size=4), threading.Event(), []
        running = asyncio.ensure_future(workers.run(gate.wait))
        waiting = asyncio.ensure_future(workers.run(lambda: ran.append("never")))
        await asyncio.sleep(0.05)
        waiting.cancel()
        await asyncio.sleep(0)
        gate.set()
        await running
        workers.close()
        assert ran == []
        assert workers.admitted == 0

    asyncio.run(scenario())


def test_a_call_after_closing_is_refused_and_takes_no_place() -> None:
    async def scenario() -> None:
        workers = Workers(threads=1, queue_size=0)
        workers.close()
        for _ in range(3):
            with pytest.raises(NotReady, match="stopping"):
                await workers.run(lambda: "late")
        assert workers.admitted == 0

    asyncio.run(scenario())


def test_an_error_reaches_its_caller_and_frees_the_place() -> None:
    async def scenario() -> None:
        workers = Workers(threads=1, queue_size=0)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await workers.run(lambda: 1 / 0)
        assert workers.admitted == 0
        workers.close()

    asyncio.run(scenario())


def test_closing_lets_what_waits_finish() -> None:
    async def scenario() -> None:
        workers, done = Workers(threads=1, queue_size=4), []

        def work(number: int) -> None:
            time.sleep(0.05)
            done.append(number)

        jobs = [asyncio.ensure_future(workers.run(functools.partial(work, number))) for number in range(3)]
        await asyncio.sleep(0.01)
        await asyncio.to_thread(workers.close)
        await asyncio.gather(*jobs)
        assert done == [0, 1, 2]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "max 100000"}, 64),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 64),
        ({}, 64),
    ],
)
def test_the_cgroup_s_quota_bounds_the_cpus(
    files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)))
    assert available_cpus(tmp_path) == expected


def test_what_was_cancelled_is_forgotten_with_its_image() -> None:
    async def scenario() -> None:
        workers, gate = Workers(threads=1, queue_size=4), threading.Event()
        running = asyncio.ensure_future(workers.run(gate.wait))
        image = Image()
        gone = weakref.ref(image)
        waiting = asyncio.ensure_future(workers.run(functools.partial(id, image)))
        await asyncio.sleep(0.05)
        waiting.cancel()
        del image, waiting
        await asyncio.sleep(0.05)
        gc.collect()
        assert gone() is None
        gate.set()
        await running
        workers.close()

    class Image: ...

    asyncio.run(scenario())


def test_warming_up_reaches_every_thread() -> None:
    workers, seen = Workers(threads=3, queue_size=0), set()
    workers.on_each_thread(lambda: seen.add(threading.get_ident()))
    assert len(seen) == 3
    workers.close()
