"""Where the CPU work is done: a pool of processes that can be killed, behind bounded queues."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

from services.api.budget import Budget
from services.api.faults import NotReady, Overloaded, TimedOut
from services.api.jobs import Assembly, Done, Job, Ready
from services.api.launch import COMMAND, Launched, launch
from services.api.process import Worker
from shared.errors import ModelError

T = TypeVar("T")
_Turn: TypeAlias = "tuple[asyncio.Future[Worker], float]"  # with the cost of its job
_CGROUP: Final = Path("/sys/fs/cgroup")
# Work of a client that has left runs on for this long: killing a worker costs about as much.
_ABANDONED_S: Final = 1.0
_MAX_BACKOFF_S: Final = 30.0
_logger = logging.getLogger(__name__)


class Lane(Enum):
    """Where work comes from. The lanes share the workers by the cost of their jobs, so that none starves another."""

    REQUESTS = "requests"
    LARGE = "large"  # requests too, of images that take long
    SESSIONS = "sessions"


class Workers:
    """Runs jobs in `count` processes. At most `queue_size` requests wait, and one frame per session.

    A job cancelled while it waits never runs. A job that takes longer than `timeout_s`, waiting and work together,
    ends with TimedOut, and the worker that was busy with it is killed and replaced.
    """

    def __init__(
        self,
        count: int,
        queue_size: int,
        timeout_s: float,
        budget: Budget,
        command: Sequence[str] = COMMAND,
        launched: Sequence[Launched] = (),
    ) -> None:
        """`command` starts a worker; those in `launched` have begun to start already."""
        self.count, self._queue_size, self._timeout_s = count, queue_size, timeout_s
        self._budget, self._command, self._launched = budget, command, list(launched)
        self._assembly: Assembly
        self._workers: set[Worker] = set()  # all that are to stay; one that is killed or superseded is not among them
        self._idle: deque[Worker] = deque()
        self._waiting: dict[Lane, deque[_Turn]] = {lane: deque() for lane in Lane}
        self._served = dict.fromkeys(Lane, 0.0)  # the cost of what each lane has had
        self._clock = 0.0  # what the lane that was served last had had: one that comes later gets nothing for the past
        self._tasks: set[asyncio.Task[Any]] = set()
        self.replaced = 0
        self._closed = False

    @property
    def alive(self) -> int:
        """Workers that are running."""
        return len(self._workers)

    @property
    def busy(self) -> int:
        """Workers that are working."""
        return len(self._workers) - len(self._idle)

    @property
    def memory_bytes(self) -> int:
        """Memory of the worker processes together (Linux); what they share counts once."""
        return sum(worker.memory_bytes for worker in self._workers)

    @property
    def waiting(self) -> int:
        """Requests and frames waiting for a worker."""
        return sum(map(len, self._waiting.values()))

    async def start(self, assembly: Assembly) -> Ready:
        """Start workers with `assembly`, then let them take over from the current ones.

        Raises ModelError if one of them cannot start; the current ones stay.
        """
        starting = [self._spawn(self._start_worker(assembly)) for _ in range(self.count)]
        try:
            await asyncio.wait(starting)
            started = [task.result() for task in starting]
        except BaseException:
            for task in starting:
                task.cancel()
                task.add_done_callback(_kill_started)
            raise
        for worker in self._idle:
            worker.kill()
        fresh = [worker for worker, _ in started]
        self._assembly, self._workers, self._idle = assembly, set(fresh), deque()
        for worker in fresh:
            self._give_back(worker)
        return started[0][1]

    def check_room(self, ahead: int = 0) -> None:
        """Raise Overloaded if a request arriving now, after `ahead` others, would find the queue full."""
        waiting = len(self._waiting[Lane.REQUESTS]) + len(self._waiting[Lane.LARGE])
        if ahead >= len(self._idle) + self._queue_size - waiting:
            raise Overloaded(f"{waiting} images are waiting for {self.count} workers. Try again in a second.")

    async def run(self, job: Callable[[], Job], lane: Lane = Lane.REQUESTS, cost: float = 1) -> Done:
        """Run a job; `job` is called for it when its turn comes. `cost` is about how long it takes, in small images.

        Raises Overloaded at once if the queue is full, TimedOut, WorkerDied, or what the job raises.
        """
        if self._closed:
            raise NotReady("The service is stopping.")
        if lane is not Lane.SESSIONS:
            self.check_room()
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        # While a worker is idle, nobody waits for one. The one that worked last has its code and its memory in the caches.
        worker = self._idle.pop() if self._idle else await self._turn(lane, cost, deadline)
        try:
            done = worker.begin(job(), deadline, self._late)
        except BaseException:
            self._give_back(worker)
            raise
        try:
            return await done
        except asyncio.CancelledError:
            worker.hurry(done, _ABANDONED_S)
            raise

    async def _turn(self, lane: Lane, cost: float, deadline: float) -> Worker:
        """The worker that becomes free when everyone who came before on this lane has one. Raises TimedOut."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[Worker] = loop.create_future()
        if not self._waiting[lane]:
            self._served[lane] = max(self._served[lane], self._clock)
        self._waiting[lane].append((turn, cost))
        too_late = loop.call_at(deadline, self._expire, turn)
        try:
            return await turn
        except (asyncio.CancelledError, TimedOut):
            if (turn, cost) in self._waiting[lane]:
                self._waiting[lane].remove((turn, cost))
            elif turn.done() and not turn.cancelled() and turn.exception() is None:
                self._give_back(turn.result())
            raise
        finally:
            too_late.cancel()

    def _expire(self, turn: "asyncio.Future[Worker]") -> None:
        if not turn.done():
            turn.set_exception(TimedOut(f"No worker was free within {self._timeout_s:g} s."))

    def _late(self) -> TimedOut:
        return TimedOut(f"The image was not analyzed within {self._timeout_s:g} s.")

    def _dispatch(self) -> None:
        """Give idle workers to those who wait: first to the lane that has had least, in each in the order of arrival."""
        while self._idle and (waiting := [lane for lane in Lane if self._someone_waits(lane)]):
            lane = min(waiting, key=self._served.__getitem__)
            turn, cost = self._waiting[lane].popleft()
            self._clock = self._served[lane]
            self._served[lane] += cost
            turn.set_result(self._idle.popleft())

    def _someone_waits(self, lane: Lane) -> bool:
        """Whether there is a turn that is still wanted; then it is the first of the lane."""
        queue = self._waiting[lane]
        while queue and queue[0][0].done():
            queue.popleft()
        return bool(queue)

    def _give_back(self, worker: Worker) -> None:
        """A worker has ended its job, or has ended itself, perhaps while it had nothing to do."""
        if worker in self._workers and worker.fit:
            self._idle.append(worker)
            self._dispatch()
            return
        worker.kill()
        if worker in self._workers:
            self._workers.discard(worker)
            with contextlib.suppress(ValueError):
                self._idle.remove(worker)
            self.replaced += 1
            _logger.warning("a worker was replaced")
            self._spawn(self._add_worker(self._assembly))

    async def _start_worker(self, assembly: Assembly) -> tuple[Worker, Ready]:
        launched = self._launched.pop() if self._launched else launch(self._command)
        return await Worker.start(launched, assembly, self._budget, self._give_back)

    async def _add_worker(self, assembly: Assembly) -> None:
        """Start one more worker, trying until it runs or another model is served."""
        delay_s = 0.0
        while assembly is self._assembly:
            try:
                worker, _ = await self._start_worker(assembly)
            except (ModelError, OSError) as error:
                delay_s = min(2 * delay_s + 1, _MAX_BACKOFF_S)
                _logger.error("a worker could not be started, next try in %.0f s: %s", delay_s, error)
                await asyncio.sleep(delay_s)
                continue
            if assembly is not self._assembly:
                worker.kill()
                return
            self._workers.add(worker)
            self._give_back(worker)
            return

    def _spawn(self, work: "Coroutine[Any, Any, T]") -> "asyncio.Task[T]":
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # a task without a reference may be collected
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """End every worker, even a busy one; nothing is accepted afterwards."""
        self._closed = True
        tasks, self._tasks = list(self._tasks), set()
        workers, self._workers = list(self._workers), set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for worker in workers:
            worker.kill()


def _kill_started(starting: "asyncio.Task[tuple[Worker, Ready]]") -> None:
    """Kill a worker that started although the others did not; the task has cleaned up after any other end."""
    if not starting.cancelled() and starting.exception() is None:
        starting.result()[0].kill()
