"""One worker process, as the service's event loop sees it."""

import asyncio
import logging
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from services.api.budget import Budget
from services.api.faults import TimedOut, WorkerDied, WorkerFault
from services.api.framing import Incoming, framed
from services.api.jobs import Assembly, Done, Failed, Fault, Job, Ready, Refused, Reserve
from services.api.launch import Launched
from shared.errors import ModelError

_DIED: Final = "The worker process ended while it worked on this image."
_logger = logging.getLogger(__name__)


class Worker(asyncio.Protocol):
    """One process, and our end of the socket to it."""

    def __init__(self, process: "subprocess.Popen[bytes]", budget: Budget) -> None:
        self._process, self._budget = process, budget
        self._loop, self._incoming = asyncio.get_running_loop(), Incoming()
        self._transport: asyncio.WriteTransport | None = None
        self._freed: Callable[[Worker], None] = lambda _: None
        self._expected: asyncio.Future[Any] | None = None  # the answer to what was sent last
        self._overdue: asyncio.TimerHandle | None = None
        self._reserved = 0  # bytes, for the job
        self._reserving: asyncio.Task[None] | None = None
        self._ended = False

    @classmethod
    async def start(
        cls, launched: Launched, assembly: Assembly, budget: Budget, freed: Callable[["Worker"], None]
    ) -> tuple["Worker", Ready]:
        """A worker that has verified its model. Raises ModelError with the reason if it cannot.

        `freed` is called with it whenever it has ended a job, and when it has ended itself.
        """
        worker = cls(launched.process, budget)
        answer: Any = None
        try:
            await worker._loop.create_connection(lambda: worker, sock=launched.socket)
            answer = await worker._ask(assembly)
        except WorkerDied as error:
            raise ModelError("A worker process ended while it loaded the model.") from error
        finally:
            if not isinstance(answer, Ready):
                worker.kill()
        if isinstance(answer, Ready):
            worker._freed = freed
            return worker, answer
        assert isinstance(answer, Refused)
        if answer.details:
            _logger.error("a worker could not load the model: %s", answer.details)
        raise ModelError(answer.reason)

    @property
    def fit(self) -> bool:
        """Running, and without a job."""
        return self._expected is None and not self._ended

    @property
    def memory_bytes(self) -> int:
        """Its own memory and its part of what it shares with other processes (Linux)."""
        try:
            status = Path(f"/proc/{self._process.pid}/smaps_rollup").read_text()
            return int(status.partition("\nPss:")[2].split()[0]) * 1024
        except (OSError, ValueError, IndexError):
            return 0

    def begin(self, job: Job, deadline: float, timed_out: Callable[[], TimedOut]) -> "asyncio.Future[Done]":
        """Begin `job`; the future has its result, or raises what the job raised, WorkerDied, or TimedOut.

        At `deadline`, in the event loop's time, the worker is killed. A future that is cancelled does not end the job.
        """
        self._overdue = self._loop.call_at(deadline, lambda: self._fail(timed_out()))
        return self._ask(job)

    def hurry(self, job: "asyncio.Future[Done]", seconds: float) -> None:
        """Kill the worker if it still works on this job after so long."""
        if job is self._expected and self._overdue is not None:
            when = min(self._overdue.when(), self._loop.time() + seconds)
            self._overdue.cancel()
            self._overdue = self._loop.call_at(when, lambda: self._fail(WorkerDied(_DIED)))

    def kill(self) -> None:
        """End the process now."""
        if not self._ended:
            self._ended = True
            self._process.kill()
            self._loop.run_in_executor(None, self._process.wait)
            if self._transport is not None:
                self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment] # uvloop's is one, without being derived from it

    def data_received(self, data: bytes) -> None:
        for message in self._incoming.feed(data):
            if isinstance(message, Reserve):
                self._reserving = self._loop.create_task(self._reserve(message.bytes))
            elif isinstance(message, Failed):
                self._finish(error=message.error)
            elif isinstance(message, Fault):
                self._finish(error=WorkerFault(message.details))
            else:
                self._finish(message)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(WorkerDied(_DIED))

    def _ask(self, message: object) -> "asyncio.Future[Any]":
        self._expected = answer = self._loop.create_future()
        if self._ended:  # just now
            self._fail(WorkerDied(_DIED))
        else:
            self._send(message)
        return answer

    def _send(self, message: object) -> None:
        assert self._transport is not None
        self._transport.writelines(framed(message))

    async def _reserve(self, size: int) -> None:
        await self._budget.wait_for(size)
        self._reserved += size
        self._send(True)

    def _fail(self, error: WorkerDied | TimedOut) -> None:
        self.kill()
        self._finish(error=error)

    def _finish(self, result: Any = None, error: Exception | None = None) -> None:
        """The job has ended, in whatever way, and the next one may begin."""
        expected, self._expected = self._expected, None
        if self._overdue is not None:
            self._overdue.cancel()
        if self._reserving is not None:
            self._reserving.cancel()
        self._budget.give_back(self._reserved)
        self._overdue, self._reserving, self._reserved = None, None, 0
        if expected is not None and not expected.done():
            if error is None:
                expected.set_result(result)
            else:
                expected.set_exception(error)
        self._freed(self)
