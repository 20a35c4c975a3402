"""Where the CPU work is done: a bounded set of threads behind a bounded queue."""

import asyncio
import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Generic, TypeVar

from services.api.faults import NotReady, Overloaded

T = TypeVar("T")
_WARM_UP_WITHIN_S: Final = 60.0


class Workers:
    """Runs functions on `threads` threads; at most `queue_size` calls may wait.

    A call cancelled while it waits never runs.
    """

    def __init__(self, threads: int, queue_size: int) -> None:
        self.threads, self._limit = threads, threads + queue_size
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="mien-worker")
        self._lock = threading.Lock()
        self._admitted = 0
        self._closed = False

    @property
    def admitted(self) -> int:
        """Calls running or waiting."""
        return self._admitted

    @property
    def busy(self) -> int:
        """Calls running."""
        return min(self._admitted, self.threads)

    @property
    def waiting(self) -> int:
        """Calls waiting for a thread."""
        return self._admitted - self.busy

    async def run(self, function: Callable[[], T]) -> T:
        """The result of `function`, run on a thread. Raises Overloaded when the queue is full, NotReady once closed."""
        job = _Job(function)
        with self._lock:
            if self._closed:
                raise NotReady("The service is stopping.")
            if self._admitted >= self._limit:
                raise Overloaded(f"The queue is full: {self._admitted} images are in work or waiting.")
            future = self._executor.submit(job)
            self._admitted += 1
        future.add_done_callback(lambda _: self._leave(job))
        return await asyncio.wrap_future(future)

    def on_each_thread(self, function: Callable[[], object]) -> None:
        """Run `function` once on every thread, before any other call. Raises what it raises."""
        together = threading.Barrier(self.threads)

        def once() -> None:
            together.wait(timeout=_WARM_UP_WITHIN_S)  # so that no thread takes two
            function()

        for future in [self._executor.submit(once) for _ in range(self.threads)]:
            future.result()

    def close(self) -> None:
        """Wait for the calls running and waiting; none is admitted afterwards."""
        with self._lock:
            self._closed = True
        self._executor.shutdown(wait=True)

    def _leave(self, job: "_Job[T]") -> None:
        job.drop()
        with self._lock:
            self._admitted -= 1


class _Job(Generic[T]):
    """A call that can drop its function: a cancelled call stays in the executor's queue, but its image must not."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._function: Callable[[], T] | None = function

    def __call__(self) -> T:
        assert self._function is not None, "a cancelled call was run"
        return self._function()

    def drop(self) -> None:
        self._function = None


def available_cpus(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """CPUs this process may use: its affinity, and the quota of its cgroup (v2, then v1), rounded up."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota(cgroup)
    return max(1, min(allowed, math.ceil(quota))) if quota else allowed


def _cgroup_quota(cgroup: Path) -> float | None:
    try:
        limit, period = (cgroup / "cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError):
        pass
    try:
        limit = (cgroup / "cpu/cpu.cfs_quota_us").read_text()
        return int(limit) / int((cgroup / "cpu/cpu.cfs_period_us").read_text()) if int(limit) > 0 else None
    except (OSError, ValueError):
        return None
