"""The connections of a service: how many are allowed, and which are given up."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Final, Protocol

from services.api.budget import Budget
from services.api.connections.door import Door
from services.api.connections.shortcut import Shortcut

SWEEP_S: Final = 1.0
# A client that does not read its answer, or does not close, is given up after this long.
_STALLED_S: Final = 15.0
_CLOSING_S: Final = 5.0
# Less than this in _STALLED_S is no progress: reading a byte now and then is not enough to stay.
_PROGRESS_BYTES: Final = 16_384
# A read of this size probably leaves more to read; the other connections come first, because uvloop would go on with this one.
FULL_READ_BYTES: Final = 65_536
_logger = logging.getLogger(__name__)


class Connection(Protocol):
    """One of our protocols, as the guard sees it."""

    transport: asyncio.Transport

    def expired(self, now: float) -> bool:
        """Whether the client has missed a deadline; it was told so if possible."""
        ...


@dataclass(slots=True)
class _Watched:
    """What is known of a connection: the bytes that its client has not read, since when, and since when it is closing."""

    unsent: int = 0
    since: float = 0.0
    closing_since: float | None = None


class Guard:
    """Keeps at most `limit` connections, and aborts those whose clients stall."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.budget = Budget(0)  # the service's, once it is there, its door and the shortcut
        self.door: Door | None = None
        self.shortcut: Shortcut | None = None
        self._watched: dict[Connection, _Watched] = {}

    @property
    def full(self) -> bool:
        return len(self._watched) > self.limit

    def add(self, connection: Connection) -> None:
        """Watch a new connection."""
        self._watched[connection] = _Watched()

    def remove(self, connection: Connection) -> None:
        """Forget a connection that is lost, or that another protocol took over."""
        self._watched.pop(connection, None)

    async def run(self) -> None:
        """Look at all connections periodically."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await asyncio.sleep(SWEEP_S)
                self.look(loop.time())
                self._tell()
        finally:
            self._tell()

    def _tell(self) -> None:
        if self.door is not None:
            self.door.tell()

    def look(self, now: float) -> None:
        """Give up every connection whose client has missed a deadline; `now` is the event loop's time."""
        for connection, watched in list(self._watched.items()):
            try:
                self._look_at(connection, watched, now)
            except Exception as error:  # one connection's fault must not reach the others
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
        # It grows too when the client has taken what was there, and more of a long answer follows.
        if unsent == 0 or abs(unsent - watched.unsent) >= _PROGRESS_BYTES or watched.unsent == 0:
            watched.unsent, watched.since = unsent, now
        elif now - watched.since > _STALLED_S:
            transport.abort()
