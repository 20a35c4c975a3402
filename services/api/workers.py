"""Where the CPU work is done: a bounded set of threads with a bounded queue before them."""

import asyncio
import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Generic, TypeVar

from services.api.errors import Overloaded

T = TypeVar("T")
_WARM_UP_WITHIN_S: Final = 60.0
_CGROUP: Final = Path("/sys/fs/cgroup")


class Workers:
    """Runs functions on `threads` threads; no more than `queue_size` may wait.

    What was cancelled while it waited never runs.
    """

    def __init__(self, threads: int, queue_size: int) -> None:
        self.threads, self._limit = threads, threads + queue_size
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="mien-worker")
        self._lock = threading.Lock()
        self._admitted = 0

    @property
    def admitted(self) -> int:
        """Calls that run or wait."""
        return self._admitted

    @property
    def busy(self) -> int:
        """Calls that run."""
        return min(self._admitted, self.threads)

    @property
    def waiting(self) -> int:
        """Calls that wait for a thread."""
        return self._admitted - self.busy

    async def run(self, function: Callable[[], T]) -> T:
        """The result of `function`, run on a thread. Raises Overloaded at once when the queue is full."""
        with self._lock:
            if self._admitted >= self._limit:
                raise Overloaded(f"{self._admitted} images are being worked on or wait. Try again in a second.")
            self._admitted += 1
        job = _Job(function)
        future = self._executor.submit(job)
        future.add_done_callback(lambda _: self._leave(job))
        return await asyncio.wrap_future(future)

    def on_each_thread(self, function: Callable[[], object]) -> None:
        """Run `function` once on every thread, before anything else is asked of them. Raises what it raises."""
        together = threading.Barrier(self.threads)

        def once() -> None:
            together.wait(timeout=_WARM_UP_WITHIN_S)  # so that no thread takes two
            function()

        for future in [self._executor.submit(once) for _ in range(self.threads)]:
            future.result()

    def close(self) -> None:
        """Wait for what runs and waits; nothing is admitted afterwards."""
        self._executor.shutdown(wait=True)

    def _leave(self, job: "_Job[T]") -> None:
        job.forget()
        with self._lock:
            self._admitted -= 1


class _Job(Generic[T]):
    """A call that can be forgotten: what was cancelled stays in the executor's queue, its image must not."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._function: Callable[[], T] | None = function

    def __call__(self) -> T:
        assert self._function is not None, "a forgotten call was run"
        return self._function()

    def forget(self) -> None:
        self._function = None


def available_cpus() -> int:
    """CPUs that this process may use: its affinity, and the quota of its cgroup (v2, then v1), rounded up."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota()
    return max(1, min(allowed, math.ceil(quota))) if quota else allowed


def _cgroup_quota() -> float | None:
    try:
        limit, period = (_CGROUP / "cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError):
        pass
    try:
        limit = (_CGROUP / "cpu/cpu.cfs_quota_us").read_text()
        return int(limit) / int((_CGROUP / "cpu/cpu.cfs_period_us").read_text()) if int(limit) > 0 else None
    except (OSError, ValueError):
        return None
