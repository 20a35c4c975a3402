"""The connections of a service: how many there may be, and which are given up."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Final, Protocol

from services.api.budget import Budget

SWEEP_S: Final = 1.0
# A client that does not take its answer, or take the end of its connection, is given up after this long.
_STALLED_S: Final = 15.0
_CLOSING_S: Final = 5.0
# Less than this in _STALLED_S is no progress: a client may not read a byte now and then to stay.
_PROGRESS_BYTES: Final = 16_384
_logger = logging.getLogger(__name__)


class Connection(Protocol):
    """A protocol of ours, as the guard sees it."""

    transport: asyncio.Transport

    def expired(self, now: float) -> bool:
        """Whether the client has let a deadline pass; it was told so where that is possible."""
        ...


@dataclass(slots=True)
class _Watched:
    """What was seen of a connection: bytes that its client has not taken, since when, and since when it closes."""

    unsent: int = 0
    since: float = 0.0
    closing_since: float | None = None


class Guard:
    """Keeps at most `limit` connections, and aborts those whose clients stall."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.budget = Budget(0)  # the service's, once it is there
        self._watched: dict[Connection, _Watched] = {}

    @property
    def full(self) -> bool:
        return len(self._watched) > self.limit

    def add(self, connection: Connection) -> None:
        """Watch a connection that was made."""
        self._watched[connection] = _Watched()

    def remove(self, connection: Connection) -> None:
        """Forget a connection that was lost, or that another protocol has taken over."""
        self._watched.pop(connection, None)

    async def run(self) -> None:
        """Look at all connections, again and again."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_S)
            self.look(loop.time())

    def look(self, now: float) -> None:
        """Give up every connection whose client has let a deadline pass; `now` is the event loop's time."""
        for connection, watched in list(self._watched.items()):
            try:
                self._look_at(connection, watched, now)
            except Exception as error:  # one connection's fault is no other's
                _logger.error("a connection could not be checked", exc_info=error)
                connection.transport.abort()

    def _look_at(self, connection: Connection, watched: _Watched, now: float) -> None:
        transport = connection.transport
        if transport.is_closing():
            watched.closing_since = watched.closing_since or now
            if now - watched.closing_since > _CLOSING_S:
                transport.abort()
            return
        if connection.expired(now):
            transport.close()
            return
        unsent = transport.get_write_buffer_size()
        if unsent == 0 or unsent <= watched.unsent - _PROGRESS_BYTES or watched.unsent == 0:
            watched.unsent, watched.since = unsent, now
        elif now - watched.since > _STALLED_S:
            transport.abort()
