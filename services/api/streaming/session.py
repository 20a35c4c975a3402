"""One video session: frames in, answers out, the newest frame first.

While a frame is worked on, one more may wait: the newest. So a fast client makes no lag grow and a slow one no memory, and
since a session never has more than one frame with the workers, they serve all sessions in turn.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, Final, Protocol

from pydantic import ValidationError

from services.api.errors import Overloaded, describe
from services.api.streaming import messages
from services.api.telemetry import Telemetry
from shared.analyzer import Analysis, Options
from shared.errors import MienError
from shared.tracking import Tracker

_MOST_ERRORS_IN_A_ROW: Final = 5
# A client that takes nothing for this long is not there.
_SEND_TIMEOUT_S: Final = 15.0
# When the queue is full of other requests, how long a frame waits before the newest one asks again.
_RETRY_S: Final = 0.02


class Close(IntEnum):
    """Why a session ends (RFC 6455)."""

    NORMAL = 1000
    GOING_AWAY = 1001
    UNSUPPORTED = 1003
    POLICY = 1008
    TOO_BIG = 1009
    INTERNAL = 1011
    TRY_LATER = 1013


class SessionEnded(Exception):
    """The session is to end with this code and reason; `None` when the client is already gone."""

    def __init__(self, code: Close | None, reason: str = "") -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class Connection(Protocol):
    """The part of a WebSocket that a session uses."""

    async def receive(self) -> bytes | str:
        """The next message. Raises SessionEnded when the client has gone."""
        ...

    async def send(self, message: dict[str, Any]) -> None:
        """Send one JSON message. Raises SessionEnded when the client has gone."""
        ...


@dataclass(frozen=True, slots=True)
class Frame:
    """One encoded image: its number in the session, from 1, and when it came (monotonic seconds)."""

    number: int
    data: bytes
    came_s: float


class Mailbox:
    """Holds the newest frame."""

    def __init__(self) -> None:
        self._frame: Frame | None = None
        self._filled = asyncio.Event()

    def put(self, frame: Frame) -> bool:
        """Keep `frame` in place of an older one; whether there was one."""
        replaced = self._frame is not None
        self._frame = frame
        self._filled.set()
        return replaced

    async def take(self) -> Frame:
        """Wait for a frame and take it out."""
        await self._filled.wait()
        self._filled.clear()
        frame, self._frame = self._frame, None
        assert frame is not None
        return frame

    def put_back(self, frame: Frame) -> bool:
        """Return a frame that nobody could work on; not when a newer one has come, which takes its place."""
        if self._frame is not None:
            return False
        self.put(frame)
        return True


class Session:
    """One connection's life: `run` returns or raises SessionEnded."""

    def __init__(
        self,
        connection: Connection,
        analyze: Callable[[bytes, Options], Awaitable[Analysis]],
        options: Options,
        half_life_ms: float,
        telemetry: Telemetry,
    ) -> None:
        self._connection, self._analyze, self._telemetry = connection, analyze, telemetry
        self._limits, self._options = options, options
        self._tracker = Tracker(half_life_ms / 1000)
        self._mailbox = Mailbox()
        self._errors_in_a_row = 0
        self._answered = 0  # the last frame that was

    async def run(self) -> None:
        """Read and answer until one side ends it. Raises SessionEnded with the reason."""
        tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._answer())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self) -> None:
        number = 0
        while True:
            message = await self._connection.receive()
            if isinstance(message, str):
                await self._command(message)
                continue
            number += 1
            self._telemetry.frames.labels("received").inc()
            if self._mailbox.put(Frame(number, message, time.monotonic())):
                self._telemetry.frames_dropped.labels("newer").inc()

    async def _answer(self) -> None:
        while True:
            frame = await self._mailbox.take()
            try:
                analysis = await self._analyze(frame.data, self._options)
            except Overloaded:
                if not self._mailbox.put_back(frame):
                    self._telemetry.frames_dropped.labels("overload").inc()
                await asyncio.sleep(_RETRY_S)
                continue
            except MienError as error:
                await self._failed(frame, error)
                continue
            faces = self._tracker.update(analysis.faces, frame.came_s)
            lag_s = time.monotonic() - frame.came_s
            await self._send(messages.result(frame.number, self._passed_over(frame), analysis, faces, lag_s))
            self._telemetry.frames.labels("answered").inc()
            self._telemetry.frame_lag_seconds.observe(time.monotonic() - frame.came_s)
            self._errors_in_a_row = 0

    async def _failed(self, frame: Frame, error: MienError) -> None:
        status, code = describe(error)
        if status >= 500:
            raise SessionEnded(Close.INTERNAL, "The service failed at a frame.") from error
        self._telemetry.frames.labels("failed").inc()
        await self._wrong(messages.frame_error(frame.number, self._passed_over(frame), code, str(error)))

    def _passed_over(self, frame: Frame) -> int:
        """Frames between the last answered one and this, which is answered now."""
        count, self._answered = frame.number - self._answered - 1, frame.number
        return count

    async def _command(self, text: str) -> None:
        try:
            command = messages.Command.validate_json(text)
        except ValidationError as error:
            fault = error.errors()[0]
            where = ".".join(str(part) for part in fault["loc"] if part not in ("configure", "authenticate"))
            detail = f"{where}: {fault['msg']}" if where else fault["msg"]
            await self._wrong(messages.message_error(f"{detail}. A text message is a JSON command, a frame is binary."))
            return
        if isinstance(command, messages.Configure):
            self._configure(command)
            await self._send(self._configured())

    def _configure(self, wanted: messages.Configure) -> None:
        if wanted.max_faces is not None:
            self._options = replace(self._options, max_faces=min(wanted.max_faces, self._limits.max_faces))
        if wanted.min_confidence is not None:
            self._options = replace(self._options, min_confidence=wanted.min_confidence)
        if wanted.smoothing is not None:
            self._tracker.half_life_s = wanted.smoothing / 1000

    def _configured(self) -> dict[str, Any]:
        return {
            "type": "configured",
            "max_faces": self._options.max_faces,
            "min_confidence": self._options.min_confidence,
            "smoothing": self._tracker.half_life_s * 1000,
        }

    async def _wrong(self, message: dict[str, Any]) -> None:
        self._errors_in_a_row += 1
        await self._send(message)
        if self._errors_in_a_row >= _MOST_ERRORS_IN_A_ROW:
            raise SessionEnded(Close.UNSUPPORTED, f"{_MOST_ERRORS_IN_A_ROW} messages in a row could not be read.")

    async def _send(self, message: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(_SEND_TIMEOUT_S):
                await self._connection.send(message)
        except TimeoutError:
            raise SessionEnded(Close.POLICY, "The client does not read its answers.") from None
