"""The memory that uploads, frames, batches and decoding share, counted in bytes."""

import asyncio
from collections import deque
from typing import Self

from services.api.faults import Overloaded


class Budget:
    """`limit` bytes. Whatever is taken must be given back; waiters are served in order."""

    def __init__(self, limit: int) -> None:
        self.limit, self.used = limit, 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def take(self, size: int) -> None:
        """Take `size` bytes now. Raises Overloaded when there is no room."""
        self.check(size)
        self.used += size

    def check(self, size: int) -> None:
        """Raise Overloaded when there is no room for `size` bytes now."""
        if self.used + size > self.limit:
            raise Overloaded(
                f"Upload capacity is full: {self.used:,} bytes are in use, the limit is {self.limit:,}. "
                "Try again in a second."
            )

    def give_back(self, size: int) -> None:
        """Return `size` bytes, for those who wait."""
        self.used -= size
        while self._waiting and self.used + self._waiting[0][0] <= self.limit:
            wanted, turn = self._waiting.popleft()
            if not turn.done():
                self.used += wanted
                turn.set_result(None)

    async def wait_for(self, size: int) -> None:
        """Take `size` bytes as soon as there is room, after everyone who came before."""
        if not self._waiting and self.used + size <= self.limit:
            self.used += size
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back(size)
            raise

    def holding(self) -> "Held":
        """An amount that may grow, and is given back when the block ends."""
        return Held(self)


class Held:
    """What one request has taken of the budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget, self.bytes = budget, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._budget.give_back(self.bytes)

    def grow(self, size: int) -> None:
        """Take `size` more bytes. Raises Overloaded when there is no room."""
        self._budget.take(size)
        self.bytes += size
