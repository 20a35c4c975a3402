"""One video session: frames in, answers out, the newest frame first.

While one frame is analyzed, only the newest one waits. So lag does not grow with a fast client nor memory with a slow one,
and since a session never has more than one frame with the workers, all sessions are served in turn.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from enum import IntEnum
from typing import Any, Final, Protocol

from pydantic import ValidationError

from services.api.errors import answer_to
from services.api.faults import Overloaded, TimedOut
from services.api.schemas import prior_of
from services.api.streaming import messages
from services.api.streaming.mailbox import Frame, Mailbox
from services.api.telemetry import Telemetry
from shared.analysis import Analysis, Options
from shared.errors import AnswerError, ImageError, OutOfMemory
from shared.tracking import Tracker

_MAX_ERRORS_IN_A_ROW: Final = 5
_COMMANDS_PER_S, _MAX_COMMANDS_AT_ONCE = 20, 100
# A client that reads nothing for this long is gone.
_SEND_TIMEOUT_S: Final = 15.0
# How long to wait, when the queue is full of other requests, before trying the newest frame.
_RETRY_S: Final = 0.02


class Close(IntEnum):
    """Why a session ends (RFC 6455)."""

    GOING_AWAY = 1001
    UNSUPPORTED = 1003
    POLICY = 1008
    INTERNAL = 1011
    TRY_LATER = 1013


class SessionEnded(Exception):
    """The session ends with this code and reason; `None` when the client is already gone."""

    def __init__(self, code: Close | None, reason: str = "") -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class Reader(Protocol):
    """Reads the faces of a frame."""

    def check(self, options: Options) -> None:
        """Raise UnknownAnswer or UnusablePrior if it cannot give what `options` ask for."""
        ...

    async def analyze_frame(self, take: Callable[[], bytes], options: Options) -> Analysis:
        """The faces of the encoded image that `take` returns when its turn has come.

        Raises ImageError or AnswerError for a fault of the client, TimedOut, Overloaded or OutOfMemory.
        """
        ...


class Connection(Protocol):
    """The part of a WebSocket that a session uses."""

    async def receive(self) -> bytes | str:
        """The next message. Raises SessionEnded when the client has gone."""
        ...

    async def send(self, message: dict[str, Any]) -> None:
        """Send one JSON message. Raises SessionEnded when the client has gone."""
        ...


class Session:
    """One connection: `run` reads and answers frames until it raises SessionEnded."""

    def __init__(
        self,
        connection: Connection,
        reader: Reader,
        options: Options,
        half_life_ms: float,
        idle_timeout_s: float,
        telemetry: Telemetry,
    ) -> None:
        self._connection, self._reader, self._telemetry = connection, reader, telemetry
        self._limits, self._options = options, options
        self._idle_timeout_s = idle_timeout_s
        self._tracker = Tracker(half_life_ms / 1000)
        self._mailbox = Mailbox()
        self._errors_in_a_row = 0
        self._commands, self._commanded_at_s = 0.0, time.monotonic()
        self._answered = 0  # the last frame answered
        self._last: Frame | None = None  # the last frame tracked
        self._time_ms: float | None = None  # of the next frame

    async def run(self) -> None:
        """Read and answer until either side ends it. Raises SessionEnded, or MienError for a fault of the service."""
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
            message = await self._receive()
            if isinstance(message, str):
                await self._command(message)
                continue
            number += 1
            self._commands = max(0.0, self._commands - 1)  # each frame may have one, with its time
            self._telemetry.frames.labels("received").inc()
            time_ms, self._time_ms = self._time_ms, None
            if self._mailbox.put(Frame(number, message, time.monotonic(), time_ms)):
                self._telemetry.frames_dropped.labels("newer").inc()

    async def _receive(self) -> bytes | str:
        try:
            async with asyncio.timeout(self._idle_timeout_s):
                return await self._connection.receive()
        except TimeoutError:
            raise SessionEnded(Close.GOING_AWAY, f"No message for {self._idle_timeout_s:g} s.") from None

    async def _answer(self) -> None:
        while True:
            frame = await self._mailbox.take()
            if fault := self._time_fault(frame):
                await self._failed(frame, messages.BAD_TIME, fault)
                continue

            def newest() -> bytes:
                """The frame to analyze, chosen when a worker is free: a newer one may have arrived meanwhile."""
                nonlocal frame
                newer = self._mailbox.take_now()
                if newer is not None and self._time_fault(newer):
                    self._mailbox.put(newer)  # it will be refused in its turn
                elif newer is not None:
                    self._telemetry.frames_dropped.labels("newer").inc()
                    frame = newer
                return frame.data

            try:
                analysis = await self._reader.analyze_frame(newest, self._options)
            except (Overloaded, OutOfMemory):
                if not self._mailbox.put_back(frame):
                    self._telemetry.frames_dropped.labels("overload").inc()
                await asyncio.sleep(_RETRY_S)
                continue
            except (
                ImageError,
                AnswerError,
                TimedOut,
            ) as error:  # the model may have been swapped for one without the answer
                await self._failed(frame, answer_to(error).code, str(error))
                continue
            faces, self._last = self._tracker.update(analysis.faces, frame.taken_at_s), frame
            lag_s, dropped = time.monotonic() - frame.received_at_s, self._dropped_before(frame)
            await self._send(messages.result(frame.number, dropped, frame.time_ms, analysis, faces, lag_s))
            self._telemetry.frames.labels("answered").inc()
            self._telemetry.frame_lag_seconds.observe(time.monotonic() - frame.received_at_s)
            self._errors_in_a_row = 0

    def _time_fault(self, frame: Frame) -> str:
        """What is wrong with a frame's time, if anything: a session has one clock, and it never runs backward."""
        last = self._last
        if last is None:
            return ""
        if (frame.time_ms is None) != (last.time_ms is None):
            return "Either all frames of a session have a time or none has; open another session to change that."
        if frame.taken_at_s < last.taken_at_s:
            return f"The frame is of {frame.time_ms:g} ms, but the one before it was of {last.time_ms:g} ms."
        return ""

    async def _failed(self, frame: Frame, code: str, detail: str) -> None:
        self._telemetry.frames.labels("failed").inc()
        await self._reject(messages.frame_error(frame.number, self._dropped_before(frame), code, detail))

    def _dropped_before(self, frame: Frame) -> int:
        """How many frames between the last one answered and this one, which is answered now."""
        count, self._answered = frame.number - self._answered - 1, frame.number
        return count

    async def _command(self, text: str) -> None:
        now = time.monotonic()
        self._commands = max(0.0, self._commands - (now - self._commanded_at_s) * _COMMANDS_PER_S) + 1
        self._commanded_at_s = now
        if self._commands > _MAX_COMMANDS_AT_ONCE:  # the client waits: nothing more is read from it meanwhile
            await asyncio.sleep(1 / _COMMANDS_PER_S)
        try:
            command = messages.Command.validate_json(text)
        except ValidationError as error:
            fault = error.errors()[0]
            where = ".".join(str(part) for part in fault["loc"] if part not in ("configure", "authenticate", "frame"))
            detail = f"{where}: {fault['msg']}" if where else fault["msg"]
            await self._reject(messages.message_error(f"{detail}. Text messages are JSON commands; frames are binary."))
            return
        if isinstance(command, messages.Configure):
            try:
                self._configure(command)
            except AnswerError as error:
                await self._reject(messages.message_error(str(error), answer_to(error).code))
                return
            await self._send(self._configured())
        elif isinstance(command, messages.FrameTime):
            self._time_ms = command.time_ms

    def _configure(self, wanted: messages.Configure) -> None:
        asked = self._options.asking(wanted.answer, prior_of(wanted.prior) if wanted.prior is not None else None)
        self._reader.check(asked)
        self._options = asked
        if wanted.max_faces is not None:
            self._options = replace(self._options, max_faces=min(wanted.max_faces, self._limits.max_faces))
        if wanted.min_confidence is not None:
            self._options = replace(self._options, min_confidence=wanted.min_confidence)
        if wanted.min_face is not None:
            self._options = replace(self._options, min_face=wanted.min_face)
        if wanted.smoothing is not None:
            self._tracker.half_life_s = wanted.smoothing / 1000

    def _configured(self) -> dict[str, Any]:
        return {
            "type": "configured",
            "max_faces": self._options.max_faces,
            "min_confidence": self._options.min_confidence,
            "min_face": self._options.min_face,
            "smoothing": self._tracker.half_life_s * 1000,
            "answer": self._options.answer,
            "prior": self._options.prior,
        }

    async def _reject(self, message: dict[str, Any]) -> None:
        self._errors_in_a_row += 1
        self._telemetry.errors.labels(message["code"]).inc()
        await self._send(message)
        if self._errors_in_a_row >= _MAX_ERRORS_IN_A_ROW:
            raise SessionEnded(Close.UNSUPPORTED, f"{_MAX_ERRORS_IN_A_ROW} invalid messages in a row.")

    async def _send(self, message: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(_SEND_TIMEOUT_S):
                await self._connection.send(message)
        except TimeoutError:
            raise SessionEnded(Close.TRY_LATER, "The client does not read its answers.") from None
