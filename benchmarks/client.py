"""A client that is not the bottleneck: raw HTTP over kept connections, closed loop or at a set rate."""

import asyncio
import contextlib
import itertools
import random
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, cast
from urllib.parse import urlsplit

import numpy as np
import uvloop

T = TypeVar("T")
_MAX_CONNECTIONS: Final = 400
_TICK_S: Final = 0.001  # requests that are due within it are sent together
_LATE_S: Final = 10.0  # what is not answered so long after the end is lost


def request(path: str, body: bytes = b"", kind: str = "image/jpeg") -> bytes:
    """The bytes of one request; with a body it is a POST."""
    if not body:
        return f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@dataclass(slots=True)
class Outcome:
    """What became of the requests: ms from when each was due, by status; requests without an answer; times in s."""

    by_status: dict[int, list[float]] = field(default_factory=dict)
    lost: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0

    @property
    def answered(self) -> list[float]:
        """Latencies of the requests that were answered 200, in ms."""
        return self.by_status.get(200, [])

    @property
    def refused(self) -> list[float]:
        """Latencies of the requests that were refused (429 or 503), in ms."""
        return self.by_status.get(503, []) + self.by_status.get(429, [])

    @property
    def a_second(self) -> float:
        """Answers (200) a second."""
        return len(self.answered) / self.wall_s

    def answered_ms(self, *percent: float) -> list[float]:
        """Percentiles of the latency of answers, in ms."""
        return percentiles(self.answered, *percent)

    @property
    def client_share(self) -> float:
        """Of one core, what this client took."""
        return self.cpu_s / self.wall_s


def percentiles(values: Sequence[float], *percent: float) -> list[float]:
    """Percentiles; not a number where there are no values."""
    return [float(value) for value in np.percentile(values, percent)] if len(values) else [float("nan")] * len(percent)


class _Connection(asyncio.Protocol):
    """One kept connection with at most one request on its way; opened again when the server closes it."""

    def __init__(self, done: Callable[["_Connection", int], None]) -> None:
        self._done, self._buffer, self.due_s = done, bytearray(), 0.0
        self._transport: asyncio.Transport | None = None
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one, without being derived from it

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self.busy:
            self._end(0)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        lower = head.lower()
        at = lower.find(b"content-length:")
        length = int(lower[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(body) >= length:
            self._end(int(head[9:12]))

    def send(self, data: bytes, due_s: float) -> bool:
        """Whether the request is on its way; where it is not, `open_and_send` sends it."""
        self.busy, self.due_s = True, due_s
        if self._transport is None or self._transport.is_closing():
            return False
        self._transport.write(data)
        return True

    async def open_and_send(self, address: tuple[str, int], data: bytes) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: self, *address)
        except OSError:
            self._end(0)
            return
        assert self._transport is not None
        self._transport.write(data)

    def close(self) -> None:
        self.busy = False
        if self._transport is not None:
            self._transport.abort()

    def _end(self, status: int) -> None:
        self.busy = False
        self._buffer.clear()
        self._done(self, status)


class _Run:
    """Requests on their way over a set of connections."""

    def __init__(self, url: str, connections: int) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "localhost", parts.port or 80)
        self._idle = [_Connection(self._done) for _ in range(connections)]
        self._all, self._waiting = tuple(self._idle), deque[tuple[bytes, float]]()
        self._tasks: set[asyncio.Task[None]] = set()
        self.outcome = Outcome()
        self.after: Callable[[], None] = lambda: None

    @property
    def unanswered(self) -> int:
        return len(self._waiting) + sum(connection.busy for connection in self._all)

    def ask(self, data: bytes, due_s: float) -> None:
        if not self._idle:
            self._waiting.append((data, due_s))
            return
        connection = self._idle.pop()
        if not connection.send(data, due_s):
            task = asyncio.ensure_future(connection.open_and_send(self._address, data))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _done(self, connection: _Connection, status: int) -> None:
        if status:
            waited_ms = (time.perf_counter() - connection.due_s) * 1000
            self.outcome.by_status.setdefault(status, []).append(waited_ms)
        else:
            self.outcome.lost += 1
        self._idle.append(connection)
        if self._waiting:
            self.ask(*self._waiting.popleft())
        else:
            self.after()

    def close(self) -> None:
        self.outcome.lost += self.unanswered
        for connection in self._all:
            connection.close()


async def _closed(url: str, requests: Sequence[bytes], clients: int, seconds: float) -> Outcome:
    run, sequence = _Run(url, clients), itertools.cycle(requests)
    started, cpu = time.perf_counter(), time.process_time()

    def again() -> None:
        now = time.perf_counter()
        if now < started + seconds:
            run.ask(next(sequence), now)

    run.after = again
    for _ in range(clients):
        again()
    await asyncio.sleep(seconds)
    return await _finished(run, started, cpu)


async def _open(url: str, requests: Sequence[bytes], a_second: float, seconds: float) -> Outcome:
    run, sequence, gaps = _Run(url, _MAX_CONNECTIONS), itertools.cycle(requests), random.Random(0)  # noqa: S311 # arrivals
    started, cpu = time.perf_counter(), time.process_time()
    due = started
    while due < started + seconds:
        await asyncio.sleep(max(_TICK_S, due - time.perf_counter()))
        while due <= time.perf_counter():
            run.ask(next(sequence), due)
            due += gaps.expovariate(a_second)
    return await _finished(run, started, cpu)


async def _finished(run: _Run, started: float, cpu: float) -> Outcome:
    run.outcome.wall_s, run.outcome.cpu_s = time.perf_counter() - started, time.process_time() - cpu
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LATE_S):
            while run.unanswered:
                await asyncio.sleep(0.01)
    run.outcome.wall_s = time.perf_counter() - started
    run.close()
    return run.outcome


def closed_loop(url: str, requests: Sequence[bytes], clients: int, seconds: float) -> Outcome:
    """So many clients, each of which asks again when answered."""
    return run_loop(_closed(url, requests, clients, seconds))


def open_loop(url: str, requests: Sequence[bytes], a_second: float, seconds: float) -> Outcome:
    """Requests at random times, `a_second` on average, whatever is answered; each counts from when it was due."""
    return run_loop(_open(url, requests, a_second, seconds))


def run_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` on the fastest event loop that there is."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)
