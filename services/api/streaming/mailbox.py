"""Where a session's frames wait: one at a time, the newest."""

import asyncio
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Frame:
    """One encoded image: its number in the session, from 1, when it arrived (monotonic seconds), and its own time."""

    number: int
    data: bytes
    received_at_s: float
    time_ms: float | None = None  # in its film, where the client said so

    @property
    def taken_at_s(self) -> float:
        return self.received_at_s if self.time_ms is None else self.time_ms / 1000


class Mailbox:
    """Holds the newest frame."""

    def __init__(self) -> None:
        self._frame: Frame | None = None
        self._filled = asyncio.Event()

    def put(self, frame: Frame) -> bool:
        """Keep `frame`, replacing an older one; whether there was one."""
        replaced = self._frame is not None
        self._frame = frame
        self._filled.set()
        return replaced

    async def take(self) -> Frame:
        """Wait for a frame and remove it."""
        await self._filled.wait()
        self._filled.clear()
        frame, self._frame = self._frame, None
        assert frame is not None
        return frame

    def take_now(self) -> Frame | None:
        """Remove the frame, if there is one."""
        self._filled.clear()
        frame, self._frame = self._frame, None
        return frame

    def put_back(self, frame: Frame) -> bool:
        """Return a frame that could not be analyzed, unless a newer one has arrived; whether it was kept."""
        if self._frame is not None:
            return False
        self.put(frame)
        return True
